//! The loop: open the token, then observe, decide and act until the step says that it is over, then report, once.
//!
//! Invariant: whatever happens in a step (an error, a panic, the end of the Lambda's time), CodePipeline gets exactly
//! one answer to the job. An action never hangs until a time-out.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::aws::ATTEMPT;
use crate::aws::Aws;
use crate::aws::codepipeline::{Answer, Claimed, Codepipeline, Status};
use crate::error::{Error, Kind, Verdict};
use crate::job::{Claim, Event, Job, Origin, Release};
use crate::lambda::Invocation;
use crate::time::{Time, spoken};
use crate::token::Envelope;

/// How often the loop asks whether somebody stopped the pipeline: soon enough for a person who waits for it, and a
/// third of a read a second.
const HALT_EVERY: Duration = Duration::from_secs(3);

/// When a job that was claimed before is taken up all the same. Lambda delivers an event again about a minute after its
/// function died (fact 3); whoever polled the same job at the same moment comes within seconds.
const REDELIVERY: Duration = Duration::from_secs(30);

/// How often a claim is tried that CodePipeline answers with "not now"; it must be over well before [`REDELIVERY`].
const CLAIMS: u32 = 10;

/// The pause between two such tries.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);

/// How long looks may fail without one that succeeds between them, before the action gives up: longer than any
/// throttling or failover that AWS recovers from by itself, and shorter than a person's patience.
const TROUBLE_LIMIT: Duration = Duration::from_secs(300);

/// When less than this is left, no other look begins: one that is broken off in the middle is repeated by the next job,
/// which costs what it did.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// The shortest pause between two looks, so that a slow world is not asked without end.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The pause after a look that failed; the SDK has already tried three times by then.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);

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
    /// The pipeline was stopped and abandoned (fact 11): take back what is under way, then end.
    pub halted: bool,
}

/// What a step wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again, this long after this look began.
    Wait(Duration, Progress),
    /// The action has succeeded.
    Succeed(Success),
    /// The action has failed.
    Fail(Verdict),
}

/// What the console shows of an action under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How far it is, in a sentence.
    pub summary: String,
    /// How far it is, in percent.
    pub percent: Option<u8>,
    /// What the action's link is made of (fact 7).
    pub link: Option<String>,
}

/// How an action ends well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Success {
    /// What was done, in a sentence.
    pub summary: String,
    /// The action's output variables.
    pub variables: Vec<(&'static str, String)>,
    /// What the action's link is made of (fact 7).
    pub link: Option<String>,
}

/// Runs one job: calls `step` until it ends or the Lambda's time does, then answers.
///
/// `S` is what the token carries from job to job; `M` is what a step keeps in memory between two looks of one
/// invocation, and can always make anew. A step may be dropped between any two of its calls, when time runs out: what
/// it does must be safe to repeat, which it must be anyway, since a function can die there.
///
/// # Errors
/// When the answer could not be delivered: Lambda then delivers the same event again, and the action goes on from it.
pub async fn run<S, M>(
    aws: &Aws,
    event: &Event,
    invocation: Invocation,
    step: impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Result<(), Error>
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    let Some(job) = Job::read(event) else {
        warn!("this event is not a CodePipeline job; there is nobody to answer");
        return Ok(());
    };
    let codepipeline = Codepipeline::new(aws);
    if let Some(claim) = &job.claim {
        match claimed(&codepipeline, &job, claim).await? {
            Some(Claimed::Ours) => {}
            Some(Claimed::Before) if invocation.clock.now().since(claim.polled) < REDELIVERY => {
                info!(job = job.id, "somebody else does this job");
                return Ok(());
            }
            Some(Claimed::Before) => info!(job = job.id, "taking up a job whose function died"),
            Some(Claimed::Gone) => {
                info!(job = job.id, "the pipeline has moved on");
                return Ok(());
            }
            None => {
                warn!(job = job.id, "the job could not be claimed; it waits to be polled again");
                return Ok(());
            }
        }
    }
    // Boxed: a function's whole life would otherwise be one type, too deep for the compiler.
    let answer =
        Box::pin(AssertUnwindSafe(follow(aws, &job, invocation, step)).catch_unwind()).await.unwrap_or_else(|panic| {
            Answer::Failed(Verdict::failed(format!(
                "Cutover itself failed: {}. This is a bug in it; what the action had begun may still be running. \
             Retry the stage: it takes up what it finds.",
                panic_message(panic.as_ref())
            )))
        });
    info!(job = job.id, answer = answer.name(), message = answer.message(), "answering");
    // What was done must be told: it is tried for as long as the Lambda lives.
    while let Err(error) = codepipeline.answer(&job.id, &answer).await {
        let again = matches!(error, Error::Again(_));
        if !again || invocation.clock.now().plus(TROUBLE_PAUSE + ATTEMPT) > invocation.deadline {
            return Err(error);
        }
        tokio::time::sleep(TROUBLE_PAUSE).await;
    }
    if job.origin == Origin::Custom && matches!(answer, Answer::Continue { .. }) {
        aws.hurry_dispatch().await;
    }
    Ok(())
}

/// Claims the job; `None` when CodePipeline said "not now" for too long. Then nothing was claimed: an error here would
/// only have Lambda deliver the event again when somebody else has the job.
async fn claimed(codepipeline: &Codepipeline<'_>, job: &Job, claim: &Claim) -> Result<Option<Claimed>, Error> {
    for _ in 0..CLAIMS {
        match codepipeline.claim(&job.id, claim).await {
            Err(Error::Again(_)) => tokio::time::sleep(CLAIM_PAUSE).await,
            other => return other.map(Some),
        }
    }
    Ok(None)
}

async fn follow<S, M>(
    aws: &Aws,
    job: &Job,
    invocation: Invocation,
    step: impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Answer
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    match look_and_act(aws, job, invocation, step).await {
        Ok(answer) => answer,
        Err(verdict) => Answer::Failed(verdict),
    }
}

async fn look_and_act<S, M>(
    aws: &Aws,
    job: &Job,
    invocation: Invocation,
    mut step: impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Result<Answer, Verdict>
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    let clock = invocation.clock;
    let mut release = job.release()?;
    let mut envelope = match &job.continuation {
        None => Envelope::<S>::first(&job.id, clock.now()),
        Some(token) => Envelope::open(token)?,
    };
    let codepipeline = Codepipeline::new(aws);
    let mut memory = M::default();
    let mut progress = Progress::default();
    let mut halt = Halt::default();
    let mut trouble = Trouble::default();
    loop {
        // Sealed before the step: if time runs out in the middle of it, the next job begins where this look began.
        let token = envelope.seal()?;
        let hand_over = |progress: Progress| Answer::Continue { token: token.clone(), progress };
        halt.look(&codepipeline, &release, clock.now()).await;
        let now = clock.now();
        if envelope.tries.is_none() {
            let found = codepipeline.tries(&release, now.since(envelope.begun)).await;
            if let Some(found) = trouble.note(now, found)? {
                envelope.tries = Some(found);
            } else if TROUBLE_PAUSE >= invocation.left() {
                return Ok(hand_over(progress));
            } else {
                tokio::time::sleep(TROUBLE_PAUSE).await;
            }
            continue;
        }
        release.attempt = envelope.tries.map_or(1, |tries| tries.attempt);
        let tick = Tick {
            aws,
            job,
            release: &release,
            key: &envelope.key,
            begun: envelope.begun,
            now,
            tried_before: envelope.tries.and_then(|tries| tries.before),
            halted: halt.seen,
        };
        let stepped =
            tokio::time::timeout(invocation.left(), Box::pin(step(&tick, &mut envelope.state, &mut memory))).await;
        let Ok(stepped) = stepped else { return Ok(hand_over(progress)) };
        let pause = match trouble.note(clock.now(), stepped)? {
            Some(Next::Succeed(success)) => return Ok(Answer::Succeeded(success)),
            Some(Next::Fail(verdict)) => return Err(verdict),
            Some(Next::Wait(pause, told)) => {
                progress = told;
                // A look that took its time is followed by the next one the sooner.
                pause.saturating_sub(clock.now().since(now)).max(SHORTEST_PAUSE)
            }
            None => TROUBLE_PAUSE,
        };
        if pause.max(LAST_LOOK) >= invocation.left() {
            return Ok(Answer::Continue { token: envelope.seal()?, progress });
        }
        tokio::time::sleep(pause).await;
    }
}

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

/// Whether the pipeline was stopped and abandoned; once seen, it stays so.
#[derive(Default)]
struct Halt {
    seen: bool,
    looked: Option<Time>,
}

impl Halt {
    async fn look(&mut self, codepipeline: &Codepipeline<'_>, release: &Release, now: Time) {
        if self.seen || self.looked.is_some_and(|looked| now.since(looked) < HALT_EVERY) {
            return;
        }
        self.looked = Some(now);
        match codepipeline.execution_status(release).await {
            Ok(Status::Halted) => {
                info!("the release was halted");
                self.seen = true;
            }
            Ok(Status::Going) => {}
            // Not knowing is no reason to stop: the next look will tell.
            Err(error) => warn!(%error, "whether the release was halted is not known"),
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

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}
