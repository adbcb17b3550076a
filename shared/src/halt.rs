//! Whether a release goes on, as a running action knows it.
//!
//! Invariant: a stop that was seen stays seen; not knowing is no stop. Of an action that has had its answer, nothing is begun and nothing
//! taken back any more: whoever still follows it has slept, or another function has done its work meanwhile.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::aws::FRESH;
use crate::aws::codepipeline::{Codepipeline, Status};
use crate::error::Error;
use crate::job::Release;
use crate::time::Time;

/// How often the loop asks whether somebody stopped the pipeline: soon enough for a person who waits for it, and a
/// third of a read a second.
const HALT_EVERY: Duration = Duration::from_secs(3);

/// How long what became of an action's run may take to be shown: lists lag by seconds.
pub(crate) const FATE_SHOWN: Duration = Duration::from_secs(10);

/// The run of the action that asks.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Its id, where it is known (fact 2).
    pub(crate) id: Option<&'a str>,
    /// When it began.
    pub(crate) begun: Time,
}

/// Whether the pipeline was stopped and abandoned; once seen, it stays so.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    pub(crate) seen: Cell<bool>,
    pub(crate) taken_over: Cell<bool>,
    /// Whether this run of the action has had its answer, from another function with the same job.
    pub(crate) answered: Cell<bool>,
    /// When it was asked last whether the release goes on, of what was answered so.
    pub(crate) goes_on: Cell<Option<Instant>>,
    /// The same of whether what was decided to be taken back still is.
    pub(crate) takes_back: Cell<Option<Instant>>,
    /// One asks for all that begin at once.
    pub(crate) asking: Mutex<()>,
    looked: Cell<Option<Time>>,
}

impl Halt {
    /// What is asked next is asked right now.
    pub(crate) fn ask_anew(&self) {
        self.looked.set(None);
    }

    pub(crate) async fn look(&self, codepipeline: &Codepipeline<'_>, release: &Release, run: &Run<'_>, now: Time) {
        if self.looked.get().is_some_and(|looked| now.since(looked) < HALT_EVERY) {
            return;
        }
        // Not knowing is no reason to stop: the next look will tell.
        let looked = match run.id.filter(|_| self.seen.get() && !self.taken_over.get()) {
            Some(id) => self.ask_for_a_retry(codepipeline, release, id, now).await,
            None => self.ask(codepipeline, release, run, now).await,
        };
        if let Err(error) = looked {
            warn!(%error, "whether the release was halted is not known");
        }
    }

    /// Whether the stage of a release that was halted is tried again meanwhile: that run takes up what this one leaves.
    async fn ask_for_a_retry(
        &self,
        codepipeline: &Codepipeline<'_>,
        release: &Release,
        run: &str,
        now: Time,
    ) -> Result<(), Error> {
        self.looked.set(Some(now));
        if codepipeline.is_tried_again(release, run).await? {
            info!("the release was halted, and its stage is tried again");
            self.taken_over.set(true);
        }
        Ok(())
    }

    /// Whether the release was stopped. Right after the begin of a run, what is shown may be the stop before the retry that began it:
    /// then the stop counts when the run is shown to be over, too.
    pub(crate) async fn ask(
        &self,
        codepipeline: &Codepipeline<'_>,
        release: &Release,
        run: &Run<'_>,
        now: Time,
    ) -> Result<(), Error> {
        if self.seen.get() {
            return Ok(());
        }
        self.looked.set(Some(now));
        if codepipeline.execution_status(release).await? != Status::Halted {
            return Ok(());
        }
        if now.since(run.begun) < FATE_SHOWN {
            match codepipeline.was_abandoned(release, run.id).await {
                Ok(None) => {
                    return Err(Error::Again(
                        "a stop is shown, and not yet whether it is of this run of the action".into(),
                    ));
                }
                Err(again @ Error::Again(_)) => return Err(again),
                Ok(Some(false)) => {
                    self.was_answered();
                    return Ok(());
                }
                // Where it may not be asked, the stop is believed.
                Ok(Some(true)) | Err(Error::Stop(_)) => {}
            }
        } else if run.id.is_some() {
            // What an action has done that had its answer before the stop is none of the stop's. Whoever stops a release does not wait for
            // that to be known.
            let asked = tokio::time::timeout(FRESH, codepipeline.was_abandoned(release, run.id));
            if matches!(asked.await, Ok(Ok(Some(false)))) {
                self.was_answered();
                return Ok(());
            }
        }
        info!("the release was halted");
        self.seen.set(true);
        Ok(())
    }

    fn was_answered(&self) {
        info!("the action has had its answer from another function");
        self.answered.set(true);
    }

    /// All that [`Self::look`] asks from time to time, right now: whether the release was stopped, and whether the stage is tried again
    /// meanwhile.
    pub(crate) async fn ask_whose(
        &self,
        codepipeline: &Codepipeline<'_>,
        release: &Release,
        run: &Run<'_>,
        now: Time,
    ) -> Result<(), Error> {
        if let Some(id) = run.id.filter(|_| self.seen.get()) {
            return self.ask_for_a_retry(codepipeline, release, id, now).await;
        }
        self.ask(codepipeline, release, run, now).await?;
        self.ask_of_run(codepipeline, release, run.id).await
    }

    /// Whether this run of the action was given up although the release goes on, and whether its stage is tried again.
    pub(crate) async fn ask_of_run(
        &self,
        codepipeline: &Codepipeline<'_>,
        release: &Release,
        run: Option<&str>,
    ) -> Result<(), Error> {
        if self.seen.get() {
            return Ok(());
        }
        let Some(id) = run else { return Ok(()) };
        match codepipeline.was_abandoned(release, run).await? {
            Some(true) => self.seen.set(true),
            Some(false) => {
                self.was_answered();
                return Ok(());
            }
            None => return Ok(()),
        }
        // The release may have been stopped between the two questions, or be shown late to be: a retry is what is shown to have begun.
        if codepipeline.is_tried_again(release, id).await? {
            info!("the release was halted, and its stage is tried again");
            self.taken_over.set(true);
        }
        Ok(())
    }
}
