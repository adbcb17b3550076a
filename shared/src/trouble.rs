//! Patience with what fails: for a while, and then no more.
//!
//! Invariant: what is given up has failed for longer than [`TROUBLE_LIMIT`] without one success.

use std::time::Duration;

use tracing::warn;

use crate::error::{Error, Kind, Verdict};
use crate::time::{Time, spoken};

/// How long looks may fail without one that succeeds between them, before the action gives up: longer than any
/// throttling or failover that AWS recovers from by itself, and shorter than a person's patience.
const TROUBLE_LIMIT: Duration = Duration::from_secs(300);

/// How long something has been failing without a success between: bounded patience, one per thing that can fail alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble(Option<Time>);

impl Trouble {
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
                let since = now.since(*self.0.get_or_insert(now));
                if since > TROUBLE_LIMIT { Err(gave_up(&why, since)) } else { Ok(None) }
            }
        }
    }
}

fn gave_up(why: &str, after: Duration) -> Verdict {
    Verdict {
        kind: Kind::Unavailable,
        message: format!(
            "AWS did not answer for {}: {why}. What the action had begun may still be running. \
             Retry the stage: it takes up what it finds.",
            spoken(after)
        ),
    }
}
