//! Whether a release goes on, as a running action knows it.
//!
//! Invariant: a stop that was seen stays seen; not knowing is no stop.

use std::cell::Cell;
use std::time::Duration;

use tracing::{info, warn};

use crate::aws::codepipeline::{Codepipeline, Status};
use crate::error::Error;
use crate::job::Release;
use crate::time::Time;

/// How often the loop asks whether somebody stopped the pipeline: soon enough for a person who waits for it, and a
/// third of a read a second.
const HALT_EVERY: Duration = Duration::from_secs(3);

/// Whether the pipeline was stopped and abandoned; once seen, it stays so.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    pub(crate) seen: Cell<bool>,
    pub(crate) taken_over: Cell<bool>,
    looked: Cell<Option<Time>>,
}

impl Halt {
    pub(crate) async fn look(&self, codepipeline: &Codepipeline<'_>, release: &Release, run: Option<&str>, now: Time) {
        if self.looked.get().is_some_and(|looked| now.since(looked) < HALT_EVERY) {
            return;
        }
        // Not knowing is no reason to stop: the next look will tell.
        let looked = match run.filter(|_| self.seen.get() && !self.taken_over.get()) {
            Some(run) => self.ask_for_a_retry(codepipeline, release, run, now).await,
            None => self.ask(codepipeline, release, now).await,
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

    pub(crate) async fn ask(&self, codepipeline: &Codepipeline<'_>, release: &Release, now: Time) -> Result<(), Error> {
        if self.seen.get() {
            return Ok(());
        }
        self.looked.set(Some(now));
        if codepipeline.execution_status(release).await? == Status::Halted {
            info!("the release was halted");
            self.seen.set(true);
        }
        Ok(())
    }

    /// Whether this run of the action was given up although the release goes on.
    pub(crate) async fn ask_of_run(
        &self,
        codepipeline: &Codepipeline<'_>,
        release: &Release,
        run: Option<&str>,
    ) -> Result<(), Error> {
        if self.seen.get() || run.is_none() {
            return Ok(());
        }
        if codepipeline.was_abandoned(release, run).await? == Some(true) {
            info!("the release was halted, and its stage is tried again");
            self.seen.set(true);
            self.taken_over.set(true);
        }
        Ok(())
    }
}
