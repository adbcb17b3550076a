//! Sending, once: what was told stands in the release's log.

use std::time::Duration;

use shared::aws::http::Post;
use shared::job::Release;
use shared::manifest::{Datadog, Http, Notifications, Sentry, Slack};
use shared::{Aws, Error, Invocation, Journal, Time, Verdict};
use tracing::warn;

use crate::message::{self, News};
use crate::release::Told;

/// How long the release's log is read for what was told before: one of millions of lines would take longer than the function has.
const READS: Duration = Duration::from_secs(20);

/// How long Slack is tried to be told, with pauses that double from the first to the longest.
const PATIENCE: Duration = Duration::from_secs(200);
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(40);

/// What is kept of the function's time for one more try and for what is said in the release's log.
const LAST: Duration = Duration::from_secs(90);

/// Sends, and notes in the release's log what was told and what could not be.
pub(crate) struct Notifier<'a> {
    aws: &'a Aws,
    release: &'a Release,
    journal: Journal,
    /// What stands in the release's log already.
    known: Vec<String>,
    said: Vec<String>,
    /// Whether somebody was told before, or may have been: by a function that died meanwhile.
    before: bool,
}

impl<'a> Notifier<'a> {
    pub(crate) async fn new(aws: &'a Aws, release: &'a Release, since: Time) -> Self {
        // When that cannot be read, somebody may be told twice: better than never.
        let read = shared::journal::lines_since(aws, release, since, message::OWN);
        let known = match tokio::time::timeout(READS, read).await {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => {
                warn!(%error, "what was told before is not known");
                Vec::new()
            }
            Err(_) => {
                warn!("the release's log is long: what was told before is not known");
                Vec::new()
            }
        };
        Self { aws, release, journal: Journal::default(), known, said: Vec::new(), before: false }
    }

    /// Looks whether all secrets are there: found when the release starts, not at its end.
    pub(crate) async fn check(&mut self, to: &Notifications) -> Vec<String> {
        let mut warnings = Vec::new();
        for (_, parameter) in to.parameters() {
            if let Err(error) = self.aws.secret(parameter).await {
                warnings.push(error.to_string());
                self.said.push(message::misconfigured(error.message()));
            }
        }
        warnings
    }

    /// Nothing waits for this one, so it is tried for as long as the function may: what is lost here, nobody hears of.
    pub(crate) async fn slack(
        &mut self,
        told: &Told,
        to: &Slack,
        news: &News,
        warnings: &[String],
        invocation: &Invocation,
    ) {
        let begun = invocation.clock.now();
        let body = message::slack(told, news, warnings, begun);
        let mut pause = PAUSE;
        let (aws, name) = (self.aws, news.name());
        let post = async || {
            let url = aws.secret(&to.webhook).await?.reveal().to_owned();
            aws.post(&Post { to: "Slack", url, headers: Vec::new(), body: body.clone() }).await
        };
        if !self.is_first("Slack", name).await {
            return;
        }
        let sent = loop {
            let sent = post().await;
            let is_in_time = invocation.clock.now().since(begun) < PATIENCE && invocation.left() > LAST;
            if !matches!(sent, Err(Error::Again(_))) || !is_in_time {
                break sent;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        self.note("Slack", name, sent);
    }

    pub(crate) async fn datadog(&mut self, told: &Told, to: &Datadog, now: Time) {
        let body = message::datadog(told, to, now);
        let post = async {
            let key = self.aws.secret(&to.api_key).await?.reveal().to_owned();
            let url = format!("https://api.{}/api/v1/events", to.site);
            Ok(vec![Post { to: "Datadog", url, headers: vec![("dd-api-key", key)], body }])
        };
        self.send("Datadog", "of the release", post.await).await;
    }

    /// A release that exists is answered with success; a deploy is another one each time, so it is told once.
    pub(crate) async fn sentry(&mut self, told: &Told, to: &Sentry, now: Time) {
        let (release, deploy) = (message::sentry_release(told, to), message::sentry_deploy(told, to, now));
        let posts = async {
            if told.commit.is_empty() {
                return Err(
                    Verdict::failed("which commit it is of is not known, and Sentry's releases are commits").into()
                );
            }
            let token = format!("Bearer {}", self.aws.secret(&to.token).await?.reveal());
            let releases =
                format!("{}/api/0/organizations/{}/releases/", to.url.trim_end_matches('/'), to.organization);
            let post = |url, body| Post { to: "Sentry", url, headers: vec![("authorization", token.clone())], body };
            Ok(vec![post(releases.clone(), release), post(format!("{releases}{}/deploys/", told.commit), deploy)])
        };
        self.send("Sentry", "of the release and its deploy", posts.await).await;
    }

    pub(crate) async fn http(&mut self, told: &Told, name: &str, to: &Http, now: Time) {
        let body = message::http(told, to, now);
        let post = async {
            let headers = match &to.authorization {
                Some(parameter) => vec![("authorization", self.aws.secret(parameter).await?.reveal().to_owned())],
                None => Vec::new(),
            };
            Ok(vec![Post { to: "it", url: to.url.clone(), headers, body }])
        };
        self.send(name, "of the release", post.await).await;
    }

    async fn send(&mut self, who: &str, what: &str, posts: Result<Vec<Post>, Error>) {
        if !self.is_first(who, what).await {
            return;
        }
        let sent = async {
            for post in posts? {
                self.aws.post(&post).await?;
            }
            Ok::<_, Error>(())
        };
        let sent = sent.await;
        self.note(who, what, sent);
    }

    /// Whether nobody was told this yet.
    async fn is_first(&mut self, who: &str, what: &str) -> bool {
        let name = format!("told/{}/{}/{who} {what}", self.release.execution, self.release.attempt);
        let is_first =
            !self.known.contains(&message::told(who, what)) && self.aws.is_first(&name.replace(':', " ")).await;
        self.before |= !is_first;
        is_first
    }

    fn note(&mut self, who: &str, what: &str, sent: Result<(), Error>) {
        self.said.push(match sent {
            Ok(()) => message::told(who, what),
            Err(error) => message::not_told(who, what, error.message()),
        });
    }

    /// Says in the release's log what was told; the same in a sentence.
    pub(crate) async fn end(mut self, now: Time) -> String {
        for line in &self.said {
            self.journal.say(now, line.clone());
        }
        self.journal.finish(self.aws, self.release).await;
        match self.said.as_slice() {
            [] if self.before => "Everybody was told before, or may have been: see the release's log.".into(),
            [] => "There was nobody to tell.".into(),
            said => said.iter().map(|line| line.trim_start_matches(message::OWN)).collect::<Vec<_>>().join("; "),
        }
    }
}
