//! Patience with what fails: for a while, and then no more.
//!
//! Invariant: what is given up has failed for longer than [`TROUBLE_LIMIT`] without one success.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::{Error, Kind, Verdict};
use crate::time::{Time, spoken};

/// How long looks may fail without one that succeeds between them, before the action gives up: longer than any
/// throttling or failover that AWS recovers from by itself, and shorter than a person's patience.
const TROUBLE_LIMIT: Duration = Duration::from_secs(300);

/// After how long a pause a failure is the first of another trouble: what is done seldom fails seldom, and has not been failing meanwhile.
const ANOTHER: Duration = Duration::from_secs(150);

/// How long something has been failing without a success between: bounded patience, one per thing that can fail alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble(Option<Failing>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Failing {
    #[serde(rename = "s")]
    since: Time,
    #[serde(rename = "l")]
    last: Time,
}

impl Trouble {
    /// Whether nothing fails.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Notes an outcome. `None` means: look again later.
    ///
    /// # Errors
    /// An error that looking again does not mend, or one that has lasted for [`TROUBLE_LIMIT`].
    pub fn note<T>(&mut self, now: Time, outcome: Result<T, Error>) -> Result<Option<T>, Verdict> {
        match outcome {
            Ok(value) => {
                self.0 = None;
                Ok(Some(value))
            }
            Err(Error::Stop(verdict)) => Err(verdict),
            Err(Error::Again(why)) => {
                warn!(why, "looking again");
                let known = self.0.filter(|known| now.since(known.last) <= ANOTHER);
                let failing = Failing { last: now, ..known.unwrap_or(Failing { since: now, last: now }) };
                self.0 = Some(failing);
                let since = now.since(failing.since);
                if since > TROUBLE_LIMIT { Err(gave_up(&why, since)) } else { Ok(None) }
            }
        }
    }
}

fn gave_up(why: &str, after: Duration) -> Verdict {
    Verdict { kind: Kind::Unavailable, message: format!("AWS did not answer for {}: {why}", spoken(after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_long_is_given_up_and_two_failures_far_apart_are_not_one() {
        let at = |seconds: u64| Time::from_millis(1_000_000 + seconds * 1000);
        let fails = || Err::<(), _>(Error::Again("throttled".into()));
        let mut trouble = Trouble::default();
        for seconds in (0..=300).step_by(60) {
            assert_eq!(trouble.note(at(seconds), fails()), Ok(None), "{seconds}");
        }
        let why = trouble.note(at(301), fails()).unwrap_err().message;
        assert!(why.starts_with("AWS did not answer for 5 min 01 s: throttled"), "{why}");
        let mut trouble = Trouble::default();
        for seconds in [0, 480, 900] {
            assert_eq!(trouble.note(at(seconds), fails()), Ok(None), "{seconds}");
        }
        assert_eq!(trouble.note(at(901), Ok(())), Ok(Some(())));
        assert!(trouble.is_none());
    }
}
