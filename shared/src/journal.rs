//! What a function itself says in the release's log stream, beside the lines of containers.
//!
//! Invariant: saying something never fails an action, and never holds it up for longer than a call, or a minute at its end where CloudWatch
//! hangs.

use std::time::Duration;

use tracing::warn;

use crate::aws::Aws;
use crate::aws::logs::{Line, Logs};
use crate::error::Error;
use crate::job::Release;
use crate::names;
use crate::time::Time;

/// How far back the first lines of an invocation are compared with what is there: the function may have died right after
/// it had said them, and Lambda delivers the event again within about two minutes (fact 3).
const LOOK_BACK: Duration = Duration::from_secs(180);

/// How often the last words are tried, and how long after each other: the SDK has tried each call several times itself.
const LAST_WORDS: (u32, Duration) = (8, Duration::from_secs(1));

/// How long all of them may take, and once more what is said without looking.
const LAST_WORDS_TAKE: Duration = Duration::from_secs(30);

/// What a release's log has from this moment on, of the lines that begin like this.
///
/// # Errors
/// It cannot be read.
pub async fn lines_since(aws: &Aws, release: &Release, since: Time, begin: &str) -> Result<Vec<String>, Error> {
    let Some(group) = &aws.settings().log_group else { return Ok(Vec::new()) };
    let logs = aws.logs(&aws.here()).await;
    let is_wanted = |line: &Line| line.text.starts_with(begin);
    let lines = logs.those_since(group, &names::log_stream(release), since, is_wanted).await?;
    Ok(lines.into_iter().map(|line| line.text).collect())
}

/// What is to be said.
#[derive(Debug, Default)]
pub struct Journal {
    logs: Option<Logs>,
    unsaid: Vec<Line>,
    /// Whether nothing of this invocation can be there twice.
    sure: bool,
}

impl Journal {
    /// Notes a line to say.
    pub fn say(&mut self, now: Time, text: String) {
        self.unsaid.push(Line { at: now, text });
    }

    /// Whether nothing waits for being said.
    #[must_use]
    pub fn has_said_all(&self) -> bool {
        self.unsaid.is_empty()
    }

    /// Says what was noted; what could not be said is said the next time.
    ///
    /// Safe to repeat: after a call whose outcome is not known, what is there already is not said again.
    pub async fn flush(&mut self, aws: &Aws, release: &Release) {
        if self.unsaid.is_empty() {
            return;
        }
        match self.put(aws, release, false).await {
            Ok(()) => self.unsaid.clear(),
            Err(error) => {
                self.sure = false;
                warn!(%error, "it is said later in the release's log");
            }
        }
    }

    /// The same for the last words of an action, which nobody says later: tried for a few seconds. Where it cannot be read for as long what
    /// is there already, they are said all the same: better twice than not at all.
    ///
    /// Safe to repeat, as [`Self::flush`] is but for that.
    pub async fn finish(&mut self, aws: &Aws, release: &Release) {
        let (most, pause) = LAST_WORDS;
        let tries = async {
            for _ in 0..most {
                self.flush(aws, release).await;
                if self.unsaid.is_empty() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        };
        // Where CloudWatch hangs, each call would take its time.
        drop(tokio::time::timeout(LAST_WORDS_TAKE, tries).await);
        if !self.unsaid.is_empty() {
            self.finish_at_once(aws, release).await;
        }
    }

    /// The same, tried once: where there is no time for more.
    pub async fn finish_at_once(&mut self, aws: &Aws, release: &Release) {
        match tokio::time::timeout(LAST_WORDS_TAKE, self.put(aws, release, true)).await {
            Ok(Ok(())) => self.unsaid.clear(),
            Ok(Err(error)) => warn!(%error, "it is not said in the release's log"),
            Err(_) => warn!("it is not said in the release's log, which does not answer"),
        }
    }

    async fn put(&mut self, aws: &Aws, release: &Release, blindly: bool) -> Result<(), Error> {
        let (Some(group), Some(first)) = (&aws.settings().log_group, self.unsaid.first()) else { return Ok(()) };
        let stream = names::log_stream(release);
        let logs = match &self.logs {
            Some(logs) => logs,
            None => {
                let logs = aws.logs(&aws.here()).await;
                logs.create_stream(group, &stream).await?;
                self.logs.insert(logs)
            }
        };
        // Cut short, it may have been said.
        let sure = std::mem::replace(&mut self.sure, false);
        if !sure && !blindly {
            // A release's log may have more of three minutes than there is memory for.
            let is_own = |line: &Line| self.unsaid.iter().any(|own| own.text == line.text);
            let there = logs.those_since(group, &stream, first.at.before(LOOK_BACK), is_own).await?;
            self.unsaid.retain(|line| !there.iter().any(|said| said.text == line.text));
        }
        if !self.unsaid.is_empty() {
            logs.put(group, &stream, &self.unsaid).await?;
        }
        self.sure = true;
        Ok(())
    }
}
