//! The release's own stream.

use shared::aws::logs::{Line, Logs};
use shared::{Error, Tick, Time, Trouble, Verdict, names};

use crate::decide::{State, batches, missing};

/// The release's own stream, as one invocation knows it.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Where it is; none before it was created.
    logs: Option<Logs>,
    /// Whether it may have lines that the state does not know of: at the start of an invocation, and after a call that
    /// failed.
    unsure: bool,
    pub(crate) trouble: Trouble,
}

impl Merged {
    pub(crate) fn new() -> Self {
        Self { logs: None, unsure: true, trouble: Trouble::default() }
    }

    async fn stream<'a>(&mut self, tick: &'a Tick<'_>) -> Result<(Logs, &'a str, String), Error> {
        let Some(group) = &tick.aws.settings().log_group else {
            let why = "The function has no CUTOVER_LOG_GROUP: set it to the log group of the releases.";
            return Err(Verdict::misconfigured(why).into());
        };
        let stream = names::log_stream(tick.release);
        let logs = match &self.logs {
            Some(logs) => logs.clone(),
            None => {
                let logs = tick.aws.logs(&tick.aws.here()).await;
                logs.create_stream(group, &stream).await?;
                self.logs.insert(logs).clone()
            }
        };
        Ok((logs, group, stream))
    }

    /// Appends lines.
    ///
    /// Safe to repeat with the same lines, or with these and newer ones: after a call whose outcome is not known, what
    /// arrived is looked at first.
    ///
    /// # Errors
    /// The calls'. Some of the lines may be there all the same.
    pub(crate) async fn put(&mut self, tick: &Tick<'_>, state: &mut State, mut lines: Vec<Line>) -> Result<(), Error> {
        let (logs, group, stream) = self.stream(tick).await?;
        if lines.is_empty() {
            return Ok(());
        }
        if self.unsure {
            let found = logs.lines_since(group, &stream, state.floor).await?;
            let all = lines.clone();
            lines = missing(state, lines, found);
            if lines.is_empty() {
                state.put(&all);
            }
        }
        // Until all of them are known to be there.
        self.unsure = true;
        for batch in batches(&lines) {
            logs.put(group, &stream, batch).await?;
        }
        state.put(&lines);
        self.unsure = false;
        Ok(())
    }

    /// All its lines from this moment on.
    ///
    /// # Errors
    /// The calls'.
    pub(crate) async fn lines_since(&mut self, tick: &Tick<'_>, since: Time) -> Result<Vec<Line>, Error> {
        let (logs, group, stream) = self.stream(tick).await?;
        logs.lines_since(group, &stream, since).await
    }
}
