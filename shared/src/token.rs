//! The continuation token: what an action cannot observe again, carried from job to job.
//!
//! Invariant: a sealed token is at most 2,048 characters (fact 5) and can be opened by every later version of Cutover.
//! A token holds only what cannot be looked up in AWS again.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Verdict;
use crate::time::Time;
use crate::trouble::Trouble;

/// The version that this code writes. Tokens of older versions are read; see the tests' fixtures.
const VERSION: u32 = 1;

/// CodePipeline's limit for a continuation token, in characters (fact 5).
const MOST: usize = 2048;

/// The longest state of an action's that a token carries, in characters: the rest is for what every token holds.
const LONGEST_STATE: usize = 1_700;

/// What a cause is never cut below, in characters.
const SHORTEST_CAUSE: usize = 120;

/// By how many characters an action's state is too long for a token.
pub fn excess(state: &impl Serialize) -> usize {
    serde_json::to_string(state).map_or(0, |text| text.chars().count().saturating_sub(LONGEST_STATE))
}

/// Cuts so much out of the middle of a first cause, as far as something of it must be left. JSON writes some characters as two, or as six, so
/// that it is enough.
#[must_use]
pub fn without(excess: usize, cause: &str) -> String {
    let most = cause.chars().count().saturating_sub(excess).max(SHORTEST_CAUSE);
    crate::text::fit(cause, most)
}

/// What every token holds, and the action's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<S> {
    version: u32,
    /// The id of the action's first job: the seed of every idempotency token.
    pub key: String,
    /// When the first job began.
    pub begun: Time,
    /// Which try of the release this is; not known when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<Tries>,
    /// How many continuations there were before this one.
    #[serde(rename = "c", default, skip_serializing_if = "is_zero")]
    continuations: u32,
    /// Whether the function of the job before this one has died over it, and handed nothing over itself.
    #[serde(rename = "d", default, skip_serializing_if = "is_false")]
    pub(crate) has_died: bool,
    /// When the invocation before was cut short, if it was: what it began last may be shown late, and its id is lost.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(crate) cut: Option<Time>,
    /// When it was written, in seconds: for how long nobody has gone on with it.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    sealed: Option<u64>,
    /// How long its looks have failed: a function with little time must give up, too.
    #[serde(default, skip_serializing_if = "Trouble::is_none")]
    pub trouble: Trouble,
    /// What the action cannot observe again.
    pub state: S,
}

/// How often the release and the action were tried before: looked up once, since a retry does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Which try of the release this is, from 1.
    #[serde(rename = "n")]
    pub attempt: u32,
    /// When the action's first try in this execution began, if this is not it.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Time>,
    /// When this run of the action began, as CodePipeline says.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// Whether a run of it before this one was given up: what that one begins, not knowing it yet, may still appear.
    #[serde(rename = "g", default, skip_serializing_if = "is_false")]
    pub given_up: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The how manyth continuation of its action a job with this token is, from 1; 0 of a token that does not tell.
#[must_use]
pub fn continuation(token: &str) -> u32 {
    #[derive(Deserialize)]
    struct Counted {
        #[serde(rename = "c", default)]
        before: u32,
    }
    serde_json::from_str(token).map_or(0, |Counted { before }| before.saturating_add(1))
}

/// When a token was written; `None` of one that does not tell.
#[must_use]
pub fn sealed(token: &str) -> Option<Time> {
    #[derive(Deserialize)]
    struct Dated {
        #[serde(rename = "z")]
        sealed: u64,
    }
    serde_json::from_str(token).ok().map(|Dated { sealed }| Time::from_millis(sealed.saturating_mul(1000)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl<S: Serialize + DeserializeOwned + Default> Envelope<S> {
    /// The token of a first job, which has none: its own id becomes the key.
    #[must_use]
    pub fn first(job: &str, now: Time) -> Self {
        Self {
            version: VERSION,
            key: job.to_owned(),
            begun: now,
            tries: None,
            continuations: 0,
            has_died: false,
            cut: None,
            sealed: None,
            trouble: Trouble::default(),
            state: S::default(),
        }
    }

    /// Reads what [`seal`](Self::seal) wrote, in this version or an older one, for the job that goes on from there.
    ///
    /// # Errors
    /// A token of a newer version, or no token of ours at all: nothing can be guessed from it.
    pub fn open(token: &str) -> Result<Self, Verdict> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let unreadable = |why: String| {
            Verdict::misconfigured(format!(
                "The continuation token of this job cannot be read: {why}. Retry the stage to begin the action anew."
            ))
        };
        let Version { version } = serde_json::from_str(token).map_err(|error| unreadable(error.to_string()))?;
        if version > VERSION {
            return Err(unreadable(format!(
                "it was written by a newer version of Cutover (format {version}; this one reads up to {VERSION})"
            )));
        }
        let written: Self = serde_json::from_str(token).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { continuations: continuation(token), ..written })
    }

    /// Notes when it is written.
    pub fn date(&mut self, now: Time) {
        self.sealed = Some(now.millis() / 1000);
    }

    /// The token's text, for when this invocation is cut short, at the latest at this time.
    ///
    /// # Errors
    /// See [`seal`](Self::seal).
    pub(crate) fn seal_cut(&mut self, at: Time) -> Result<String, Verdict> {
        let before = self.cut.replace(at);
        let token = self.seal();
        self.cut = before;
        token
    }

    /// The token's text.
    ///
    /// # Errors
    /// When it is longer than CodePipeline takes.
    pub fn seal(&self) -> Result<String, Verdict> {
        let text = serde_json::to_string(self)
            .map_err(|error| Verdict::failed(format!("The action's state cannot be written: {error}.")))?;
        if text.chars().count() > MOST {
            return Err(Verdict::failed(format!(
                "The action's state takes {} characters; CodePipeline carries {MOST}. Use fewer environments per action.",
                text.len()
            )));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plain = Envelope<Vec<u32>>;

    #[test]
    fn a_token_that_version_1_wrote_is_read() {
        let token = r#"{"version":1,"key":"job-1","begun":1700000000000,"state":[1,2]}"#;
        let envelope = Plain::open(token).unwrap();
        assert_eq!((envelope.key.as_str(), envelope.begun.millis()), ("job-1", 1_700_000_000_000));
        assert_eq!(envelope.state, [1, 2]);
        assert_eq!(envelope.seal().unwrap(), token.replace(r#""state""#, r#""c":1,"state""#));
    }

    #[test]
    fn each_token_of_an_action_tells_which_continuation_it_is() {
        let first = Plain::first("job", Time::default()).seal().unwrap();
        let second = Plain::open(&first).unwrap().seal().unwrap();
        let third = Plain::open(&second).unwrap().seal().unwrap();
        assert_eq!([&first, &second, &third].map(|token| continuation(token)), [1, 2, 3]);
        assert_eq!(continuation("no token of ours"), 0);
    }

    #[test]
    fn a_token_tells_when_it_was_written_and_an_older_one_does_not() {
        let mut envelope = Plain::first("job", Time::from_millis(1));
        assert_eq!(sealed(&envelope.seal().unwrap()), None);
        envelope.date(Time::from_millis(7_900));
        assert_eq!(sealed(&envelope.seal().unwrap()), Some(Time::from_millis(7_000)));
        assert_eq!(sealed("no token of ours"), None);
    }

    #[test]
    fn a_token_of_an_invocation_that_is_cut_short_says_when_and_the_others_do_not() {
        let mut first = Plain::first("job", Time::from_millis(1));
        let cut = Plain::open(&first.seal_cut(Time::from_millis(7)).unwrap()).unwrap();
        let whole = Plain::open(&first.seal().unwrap()).unwrap();
        assert_eq!((cut.cut, whole.cut), (Some(Time::from_millis(7)), None));
        assert_eq!(cut.state, whole.state);
    }

    #[test]
    fn a_token_of_a_newer_version_is_refused_by_name() {
        let verdict = Plain::open(r#"{"version":9,"key":"k","begun":1,"state":"of another shape"}"#).unwrap_err();
        assert!(verdict.message.contains("newer version of Cutover (format 9"), "{}", verdict.message);
    }

    #[test]
    fn somebody_elses_token_is_a_verdict_and_not_a_panic() {
        for token in ["", "not json", "{}", r#"{"version":1}"#] {
            assert!(Plain::open(token).is_err(), "{token}");
        }
    }

    #[test]
    fn a_token_longer_than_codepipeline_takes_is_a_verdict() {
        let mut envelope = Plain::first("job", Time::default());
        envelope.state = vec![1_000_000; 400];
        assert!(envelope.seal().unwrap_err().message.contains("2048"));
    }
}
