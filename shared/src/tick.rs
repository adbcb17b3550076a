//! What a step is told at each look, and what it answers.
//!
//! Invariant: what cannot be taken back begins only when the release was seen to go on right before ([`Tick::goes_on`]).

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::answer::{Progress, Success};
use crate::aws::codepipeline::Codepipeline;
use crate::aws::{ATTEMPT, Aws, FRESH, LISTED, SHOWN};
use crate::error::{Error, Verdict};
use crate::halt::{Halt, Run};
use crate::job::{Job, Release};
use crate::time::{Clock, Time};

// A stop that is seen now is not known to whoever was told just before that the release goes on; what he then begins takes an
// attempt to take effect, and some time to be shown. Until then nobody may say that nothing is under way.
const _: () = assert!(FRESH.as_secs() + ATTEMPT.as_secs() + LISTED.as_secs() <= SHOWN.as_secs());

/// One look at the world, as a step gets it.
#[derive(Debug)]
pub struct Tick<'a> {
    /// The edges to AWS.
    pub aws: &'a Aws,
    /// The job, for its parameters and artifacts.
    pub job: &'a Job,
    /// Whose work this is.
    pub release: &'a Release,
    /// The id of the action's first job.
    pub key: &'a str,
    /// When the action began.
    pub begun: Time,
    /// The time of this look.
    pub now: Time,
    /// When an earlier try of this action in this execution began, if there was one.
    pub tried_before: Option<Time>,
    /// When this run of the action began, as CodePipeline says; before anything that it has begun.
    pub started: Option<Time>,
    /// When an invocation before this one was cut short while it [acted](Self::acts), if one was: what it began last may be shown late, and its
    /// id is lost.
    pub cut: Option<Time>,
    /// The pipeline was stopped and abandoned (fact 11): take back what is under way, then end.
    pub halted: bool,
    /// The same, and a person has had the stage tried again meanwhile: another run of the action does its work now.
    pub taken_over: bool,
    /// The run of the action before this one was given up, and may still begin something that is not shown yet: nothing is
    /// begun before it is.
    pub unsettled: bool,
    /// Whether the action may be answered now and its work go on ([`Next::Answer`]): enough of the Lambda's time is left for it.
    pub may_answer: bool,
    /// Until when the work must have ended, once the action has been answered before its end.
    pub answered: Option<Time>,
    pub(crate) halt: &'a Halt,
    /// Whether something may have been begun at this look.
    pub(crate) acts: &'a Cell<bool>,
    pub(crate) clock: Clock,
}

impl Tick<'_> {
    /// What time it is by now: a look takes its time.
    #[must_use]
    pub fn by_now(&self) -> Time {
        self.clock.now()
    }

    /// From here on this look begins something. One that only reads until its time is over is followed by one that has nothing to look for:
    /// where looks are long and functions are short, it would never come to anything.
    pub fn acts(&self) {
        self.acts.set(true);
    }

    /// Whether something may be begun, asked for right now: before anything that begins something or cannot be taken back. Not
    /// when the release does not go on; then the next look is a halted one, and comes at once. Nor while it is
    /// [`unsettled`](Self::unsettled). After a retry the release goes on, and this run of
    /// the action does not: so its own run is looked at, too, where it is known.
    ///
    /// # Errors
    /// CodePipeline does not say: not knowing, nothing begins. Where it may not be asked, a stop can never be seen, and
    /// `halt-release` alone does what it asks for.
    pub async fn goes_on(&self) -> Result<bool, Error> {
        if self.unsettled || self.is_answered() {
            return Ok(false);
        }
        let begun = Instant::now();
        let codepipeline = Codepipeline::new(self.aws);
        let asked = async {
            let run = Run { id: self.job.run.as_deref(), begun: self.begun };
            self.halt.ask(&codepipeline, self.release, &run, self.now).await?;
            self.halt.ask_of_run(&codepipeline, self.release, self.job.run.as_deref()).await
        };
        match in_time(asked).await {
            Ok(()) if self.halt.seen.get() || self.is_answered() => return Ok(false),
            Ok(()) => {}
            Err(again @ Error::Again(_)) => return Err(again),
            Err(Error::Stop(why)) => warn!(why = why.message, "whether the release was halted may not be asked"),
        }
        self.halt.goes_on.set(Some(begun));
        Ok(true)
    }

    /// The same where many things begin one after the other: what was answered holds for [`FRESH`], then it is asked again.
    ///
    /// # Errors
    /// See [`goes_on`](Self::goes_on).
    pub async fn still_goes_on(&self) -> Result<bool, Error> {
        let _one = self.halt.asking.lock().await;
        if is_fresh(self.halt.goes_on.get()) && !self.halt.seen.get() && !self.is_answered() {
            return Ok(true);
        }
        self.goes_on().await
    }

    /// Whether this run of the action has had its answer from another function with the same job, as far as was asked. Not where its work
    /// goes on after its own answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.is_none() && self.halt.answered.get()
    }

    /// Whether what a failure asks for is not this function's to do any more, asked for right now: the action has had its answer, and
    /// what there is of it is a fact, or somebody else's to take back. Not knowing, it is.
    pub async fn has_its_answer(&self) -> bool {
        if self.halted || self.answered.is_some() {
            return false;
        }
        let codepipeline = Codepipeline::new(self.aws);
        let asked = self.halt.ask_of_run(&codepipeline, self.release, self.job.run.as_deref());
        if let Err(error) = in_time(asked).await {
            warn!(%error, "whether the action has had its answer is not known");
        }
        self.is_answered()
    }
}

/// An answer that takes longer than it holds is of no use, and others wait for it. It may have come in time to a function that slept.
async fn in_time(asked: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let begun = Instant::now();
    match tokio::time::timeout(FRESH, asked).await {
        Ok(answered) if is_fresh(Some(begun)) => answered,
        Ok(_) | Err(_) => Err(Error::Again("the answer whether the release goes on was too long on its way".into())),
    }
}

fn is_fresh(asked: Option<Instant>) -> bool {
    asked.is_some_and(|asked| asked.elapsed() <= FRESH)
}

impl Tick<'_> {
    /// Whether what was decided to be taken back still is, asked for right now: before anything is. A look at many takes its time, and a
    /// person may have had the stage tried again meanwhile; that run takes up what it finds. Then the next look is one of a run whose
    /// work has been taken over.
    ///
    /// # Errors
    /// The release was stopped, and CodePipeline does not say more: `halt-release` takes it back, too. Where nobody was seen to stop
    /// it, what has failed is taken back without an answer; and where it may not be asked, a retry can never be seen.
    pub async fn takes_back(&self) -> Result<bool, Error> {
        let Some(id) = self.job.run.as_deref().filter(|_| !self.taken_over) else { return Ok(true) };
        let begun = Instant::now();
        let codepipeline = Codepipeline::new(self.aws);
        let run = Run { id: Some(id), begun: self.begun };
        match in_time(self.halt.ask_whose(&codepipeline, self.release, &run, self.now)).await {
            Ok(()) if self.halt.taken_over.get() || self.is_answered() => return Ok(false),
            Ok(()) => {}
            // What failed goes back without an answer, all of it at once.
            Err(Error::Again(_)) if !self.halt.seen.get() => {
                self.halt.takes_back.set(Some(Instant::now()));
                return Ok(true);
            }
            Err(again @ Error::Again(_)) => return Err(again),
            Err(Error::Stop(why)) => warn!(why = why.message, "whether the stage was tried again may not be asked"),
        }
        self.halt.takes_back.set(Some(begun));
        Ok(true)
    }

    /// The same where much is taken back, one after the other: what was answered holds for [`FRESH`], then it is asked again.
    ///
    /// # Errors
    /// See [`takes_back`](Self::takes_back).
    pub async fn still_takes_back(&self) -> Result<bool, Error> {
        let _one = self.halt.asking.lock().await;
        let is_known = is_fresh(self.halt.takes_back.get()) && !self.is_answered();
        if is_known && (self.taken_over || !self.halt.taken_over.get()) {
            return Ok(true);
        }
        self.takes_back().await
    }
}

/// What a step wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again, this long after this look began.
    Wait(Duration, Progress),
    /// The same, when nothing is to be noticed in the next seconds: an action's first job is answered now, so that the console shows what
    /// the action says of itself, and its link to the log (fact 5), and the next one goes on.
    Show(Duration, Progress),
    /// The action has succeeded.
    Succeed(Success),
    /// The action has succeeded, and nothing that follows it needs the rest of its work: it is answered now, and looked at on
    /// until the step says that it is over. Only where [`Tick::may_answer`] says so.
    Answer(Success),
    /// The action has failed.
    Fail(Verdict),
}
