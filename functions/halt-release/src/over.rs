//! Whether the release is over still.
//!
//! Invariant: nothing is taken back of a release whose stage a person has had tried again.

use std::cell::Cell;

use shared::aws::codepipeline::Codepipeline;
use shared::aws::{FRESH, GIVEN_UP};
use shared::job::Release;
use shared::{Error, Time, Verdict};
use tokio::time::Instant;

use crate::decide;

/// Whether the release is still over, asked for right before anything is taken back: a look at many takes its time, and a person may
/// have had the stage tried again meanwhile. That run waits before it takes up what it finds, for as long as this answer may be old.
pub(crate) struct Over<'a> {
    codepipeline: &'a Codepipeline<'a>,
    release: &'a Release,
    /// When the sweep began.
    begun: Time,
    /// When the release was seen to be over first.
    over: Time,
    /// When the release was seen to be over last.
    seen: Cell<Instant>,
}

impl<'a> Over<'a> {
    /// Of a release that has just been seen to be over.
    pub(crate) fn new(
        codepipeline: &'a Codepipeline<'a>,
        release: &'a Release,
        (begun, over): (Time, Time),
        asked: Instant,
    ) -> Self {
        Self { codepipeline, release, begun, over, seen: Cell::new(asked) }
    }

    /// Whether nothing can take effect any more that a function has begun which had not seen yet that the release is over.
    pub(crate) fn has_settled(&self, now: Time) -> bool {
        now.since(self.over) >= GIVEN_UP
    }

    /// Not knowing, it is not: the next look asks again.
    pub(crate) async fn still(&self, now: Time) -> Result<bool, Verdict> {
        if self.seen.get().elapsed() <= FRESH {
            return Ok(true);
        }
        let asked = Instant::now();
        let answered = async {
            let execution = self.codepipeline.execution(self.release).await?;
            let actions = self.codepipeline.siblings(self.release).await?;
            Ok(decide::verdict(&execution.status, &actions, now.since(self.begun)) == decide::Verdict::Over)
        };
        match answered.await {
            Ok(is_over) if is_over && asked.elapsed() <= FRESH => {
                self.seen.set(asked);
                Ok(true)
            }
            Ok(_) | Err(Error::Again(_)) => Ok(false),
            Err(Error::Stop(why)) => Err(why),
        }
    }
}
