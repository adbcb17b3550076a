//! Releases before this one that were given up in this very action: the next release enters the stage at once.
//!
//! Invariant: nothing is begun while a task of theirs may run that no list shows yet.

use shared::aws::GIVEN_UP;
use shared::aws::codepipeline::{Codepipeline, Others, others};
use shared::{Error, Tick, Time};
use tracing::warn;

/// What one invocation knows of them.
#[derive(Debug, Default)]
pub(crate) struct OtherReleases {
    /// When the last one was given up, as soon as that is known.
    given_up: Option<Time>,
    /// Whether one may still begin its task, or has begun one that no list shows yet.
    pub(crate) settle: bool,
}

impl OtherReleases {
    /// Looks, until it is known. Whoever is halted begins nothing, and need not know.
    ///
    /// # Errors
    /// CodePipeline does not answer: not knowing, nothing begins. Where it may not be asked, the lists of tasks alone count.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        self.settle = false;
        if tick.halted || tick.now.since(tick.started.unwrap_or(tick.begun)) >= GIVEN_UP {
            return Ok(());
        }
        if self.given_up.is_none() {
            self.given_up = match Codepipeline::new(tick.aws).newest_actions(tick.release).await {
                Ok(newest) => match others(&newest, tick.release) {
                    Others::GivenUp(at) => Some(at),
                    Others::Ending => None,
                },
                Err(again @ Error::Again(_)) => return Err(again),
                Err(Error::Stop(why)) => {
                    warn!(why = why.message, "whether a release before this one was given up may not be asked");
                    Some(Time::default())
                }
            };
        }
        self.settle = self.given_up.is_none_or(|at| tick.now.since(at) < GIVEN_UP);
        Ok(())
    }
}
