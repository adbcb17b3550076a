//! The loop: open the token, then observe, decide and act until the step says that it is over, then report, once.
//!
//! Invariants: whatever happens in a step (an error, a panic, the end of the Lambda's time), CodePipeline gets exactly
//! one answer to the job; an action never hangs until a time-out. What cannot be taken back begins only when the release
//! was seen to go on right before, and an answer that nobody waits for any more is a halt, not the end of the work.

use std::any::Any;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::answer::{Answer, Progress, Success};
use crate::aws::codepipeline::{Answered, Codepipeline, Status};
use crate::aws::{ATTEMPT, Aws, GIVEN_UP};
use crate::claim::{self, Taken};
use crate::error::{Error, Kind, Verdict};
use crate::halt::{FATE_SHOWN, Halt, Run};
use crate::job::{Event, Job, Origin, Release};
use crate::journal::Journal;
use crate::lambda::Invocation;
use crate::record::{Store, Usual};
use crate::text::fit;
use crate::tick::{Next, Tick};
use crate::time::Time;
use crate::token::Envelope;

/// When less than this is left, no other look begins: one that is broken off in the middle is repeated by the next job,
/// which costs what it did.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// How long it is asked how long things usually take.
const USUAL: Duration = Duration::from_secs(2);

/// How much of the Lambda's time must be left for an action to be answered before its work has ended.
const ROOM: Duration = Duration::from_secs(120);

/// How long before it is broken off that work must have ended: its last words are said then.
const REST_BEFORE: Duration = Duration::from_secs(20);

/// How long it is asked what became of an action, when that is not answered.
const FATE_ASKED: Duration = Duration::from_secs(120);

/// How much is said in the console of what keeps an action from looking at all, in characters.
const LONGEST_WHY: usize = 500;

/// How long a job is worked at that was taken up from a function that died: CodePipeline fails an action that is not answered for 20
/// minutes (fact 4), and Lambda may have let that one live for 15, and comes again after one or two.
const TAKEN_UP: Duration = Duration::from_secs(150);

/// The shortest pause between two looks, so that a slow world is not asked without end.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The pause after a look that failed; the SDK has already tried three times by then.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);

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
    // Boxed: see `follow`.
    Box::pin(run_with(aws, event, invocation, (Undone::Fails, false), step)).await
}

/// The same for an action that stands beside the release's way. What keeps it from being done is answered otherwise than with
/// a failure: bad parameters, an artifact or a token that cannot be read, an error, a panic; what the step itself says is
/// answered as it says. And its work may go on when it has been answered ([`Next::Answer`]): should the function die then, the
/// event that comes again ends it.
///
/// # Errors
/// See [`run`].
pub async fn run_beside<S, M>(
    aws: &Aws,
    event: &Event,
    invocation: Invocation,
    undone: fn(Verdict) -> Answer,
    step: impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Result<(), Error>
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    Box::pin(run_with(aws, event, invocation, (Undone::Says(undone), true), step)).await
}

/// The same for an action that begins nothing, or never fails its release: what keeps it from being done is answered as `undone` says.
///
/// # Errors
/// See [`run`].
pub async fn run_leniently<S, M>(
    aws: &Aws,
    event: &Event,
    invocation: Invocation,
    undone: fn(Verdict) -> Answer,
    step: impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Result<(), Error>
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    Box::pin(run_with(aws, event, invocation, (Undone::Says(undone), false), step)).await
}

async fn run_with<S, M>(
    aws: &Aws,
    event: &Event,
    invocation: Invocation,
    (undone, goes_on): (Undone, bool),
    mut step: impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
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
    let (taken, by) = match &job.claim {
        Some(claim) => (claim::take(aws, &codepipeline, (&job, claim), invocation).await?, None),
        None => claim::take_unclaimed(aws, &job, invocation).await,
    };
    if taken == Taken::Not {
        return Ok(());
    }
    let mut work = match Work::begin(&job, invocation.clock.now()) {
        Ok(work) => work,
        Err(verdict) => {
            return deliver(&codepipeline, &job, &undone.answer(verdict, job.continuation.is_some()), invocation)
                .await
                .map(drop);
        }
    };
    // Without the id of its run, it is the newest of its name: by now its own is shown, or one that a retry has begun since.
    if taken == Taken::Again && is_past(&codepipeline, &job, &work.release, by, invocation).await? {
        info!(job = job.id, "the function died after its answer was taken, or its stage was tried again");
        // Of a run that a retry has taken over, nobody reads the rest; where that is not known, it is ended all the same.
        if goes_on
            && let Some(run) = &job.run
            && !matches!(codepipeline.is_tried_again(&work.release, run).await, Ok(true))
        {
            end_the_rest(aws, &job, invocation, &mut work, undone, &mut step).await;
        }
        return Ok(());
    }
    let answer = match taken {
        // Whether the job of the function that died was answered before it did, only an answer tells: should it have handed over, another
        // function goes on already. One that dies again and again is not kept alive like that: Lambda gives it up, and `halt-release`
        // answers for it.
        Taken::Again if !work.envelope.has_died => work.hand_over_again(invocation.clock.now())?,
        Taken::Again => {
            work.envelope.cut = Some(invocation.clock.now());
            follow(aws, &job, invocation.at_most(TAKEN_UP), &mut work, undone, &mut step).await
        }
        Taken::Ours | Taken::Not => follow(aws, &job, invocation, &mut work, undone, &mut step).await,
    };
    match deliver(&codepipeline, &job, &answer, invocation).await? {
        Answered::Taken if is_polled(&job, &answer) => aws.hurry_dispatch(&job).await,
        Answered::Taken if work.goes_on => {
            end_the_rest(aws, &job, invocation, &mut work, undone, &mut step).await;
        }
        // Whoever had seen the halt has done what it asks for; what failed has taken back what it had begun.
        Answered::Refused if !work.halt.seen.get() => {
            let halted = was_halted(&codepipeline, &job, &work.release, invocation).await;
            if halted && !matches!(answer, Answer::Failed(_)) {
                info!(job = job.id, "nobody waits for the answer: the release was halted");
                work.halt.seen.set(true);
                // Whether its stage is tried again meanwhile is known before anything is taken back.
                work.halt.ask_anew();
                let answer = follow(aws, &job, invocation.to_the_last(), &mut work, undone, &mut step).await;
                info!(job = job.id, answer = answer.name(), message = answer.message(), "nobody is answered");
            } else if !halted {
                // It was taken before, and only the word of that was lost; or the claim took effect after the answer, and the job
                // waits for it still.
                deliver(&codepipeline, &job, &answer, invocation).await?;
                if is_polled(&job, &answer) {
                    aws.hurry_dispatch(&job).await;
                }
                if work.goes_on {
                    end_the_rest(aws, &job, invocation, &mut work, undone, &mut step).await;
                }
            }
        }
        // It saw the halt, and its time ended before what it shows of it did: nobody goes on with it, so it says its last words.
        Answered::Refused if goes_on && matches!(answer, Answer::Continue { .. }) => {
            work.answered = Some(invocation.clock.now());
            let answer = follow(aws, &job, invocation.to_the_last(), &mut work, undone, &mut step).await;
            info!(job = job.id, answer = answer.name(), message = answer.message(), "nobody is answered");
        }
        Answered::Taken | Answered::Refused => {}
    }
    Ok(())
}

/// Whether the job that goes on from this answer is handed over by `dispatch-jobs`.
fn is_polled(job: &Job, answer: &Answer) -> bool {
    job.origin == Origin::Custom && matches!(answer, Answer::Continue { .. })
}

/// Goes on with an action that has been answered, until its work has ended.
async fn end_the_rest<S, M>(
    aws: &Aws,
    job: &Job,
    invocation: Invocation,
    work: &mut Work<S, M>,
    undone: Undone,
    step: &mut impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    let (now, invocation) = (invocation.clock.now(), invocation.to_the_last());
    work.answered = Some(now.plus(invocation.left()).before(REST_BEFORE).max(now));
    let answer = follow(aws, job, invocation, work, undone, step).await;
    info!(job = job.id, answer = answer.name(), message = answer.message(), "its work has ended, too");
}

/// What was done must be told: it is tried for as long as the Lambda lives.
async fn deliver(
    codepipeline: &Codepipeline<'_>,
    job: &Job,
    answer: &Answer,
    invocation: Invocation,
) -> Result<Answered, Error> {
    info!(job = job.id, answer = answer.name(), message = answer.message(), "answering");
    loop {
        match codepipeline.answer(&job.id, answer).await {
            Ok(past) => return Ok(past),
            Err(error) => {
                let again = matches!(error, Error::Again(_));
                if !again || invocation.clock.now().plus(TROUBLE_PAUSE + ATTEMPT) > invocation.deadline {
                    return Err(error);
                }
                tokio::time::sleep(TROUBLE_PAUSE).await;
            }
        }
    }
}

/// Whether an answer was refused because the release was stopped, and not because an earlier try of the same answer had
/// been taken: that one's reply was lost, and what it says stands. What nobody says is no halt: an action that has succeeded would be taken
/// back, and `halt-release` looks at what a stop has left.
async fn was_halted(codepipeline: &Codepipeline<'_>, job: &Job, release: &Release, invocation: Invocation) -> bool {
    let mut is_over = false;
    loop {
        let (asked, mut is_known) = (invocation.clock.now(), false);
        let since = || invocation.clock.now().since(asked);
        while since() < FATE_SHOWN || (!is_known && since() < FATE_ASKED) {
            match codepipeline.was_abandoned(release, job.run.as_deref()).await {
                Ok(Some(abandoned)) => return abandoned,
                Ok(None) => is_known = true,
                Err(error) => warn!(%error, "what became of the action is not known"),
            }
            if invocation.left() <= TROUBLE_PAUSE {
                break;
            }
            tokio::time::sleep(TROUBLE_PAUSE).await;
        }
        if !is_known {
            return false;
        }
        // Its run counted as being under way, or cannot be told from others.
        if is_over || !matches!(codepipeline.execution_status(release).await, Ok(Status::Halted)) {
            return is_over;
        }
        // It may have ended at this very moment, as it should: another function goes on with what this one's had handed over, and a
        // person had asked that the release stops behind it. How it has ended shows now.
        is_over = true;
    }
}

/// Whether a job whose function died has been answered before it did: then the action is over, and what has become of the release
/// since is none of its affair. A deployment whose action has succeeded is not taken back with a release that is stopped later. So it is
/// when its stage was tried again meanwhile: that run has taken up what was left.
async fn is_past(
    codepipeline: &Codepipeline<'_>,
    job: &Job,
    release: &Release,
    by: Option<Time>,
    invocation: Invocation,
) -> Result<bool, Error> {
    let asked = invocation.clock.now();
    loop {
        match codepipeline.is_past(release, job.run.as_deref(), by).await {
            Ok(past) => return Ok(past),
            Err(Error::Stop(why)) => {
                warn!(why = why.message, "whether the job was answered may not be asked");
                if invocation.clock.now().since(asked) >= FATE_SHOWN || invocation.left() <= TROUBLE_PAUSE {
                    return Ok(false);
                }
            }
            Err(again @ Error::Again(_)) if invocation.left() <= TROUBLE_PAUSE => return Err(again),
            Err(Error::Again(why)) => warn!(why, "looking again"),
        }
        tokio::time::sleep(TROUBLE_PAUSE).await;
    }
}

/// What one invocation knows of its action.
struct Work<S, M> {
    release: Release,
    envelope: Envelope<S>,
    memory: M,
    progress: Progress,
    halt: Halt,
    /// Whether its work goes on when its answer was taken.
    goes_on: bool,
    /// See [`Tick::answered`].
    answered: Option<Time>,
}

impl<S: Serialize + DeserializeOwned + Default, M: Default> Work<S, M> {
    fn begin(job: &Job, now: Time) -> Result<Self, Verdict> {
        let release = job.release()?;
        let envelope = match &job.continuation {
            None => Envelope::first(&job.id, now),
            Some(token) => Envelope::open(token)?,
        };
        Ok(Self {
            release,
            envelope,
            memory: M::default(),
            progress: Progress::default(),
            halt: Halt::default(),
            goes_on: false,
            answered: None,
        })
    }

    /// What a job is answered with that a function has died over: the next one goes on where this one began.
    fn hand_over_again(&mut self, now: Time) -> Result<Answer, Error> {
        self.envelope.has_died = true;
        self.envelope.cut = Some(now);
        self.envelope.date(now);
        let summary = "A function died over this action; another one takes it up.".to_owned();
        Ok(Answer::Continue { token: self.envelope.seal()?, progress: Progress { summary, ..Progress::default() } })
    }
}

async fn follow<S, M>(
    aws: &Aws,
    job: &Job,
    invocation: Invocation,
    work: &mut Work<S, M>,
    undone: Undone,
    step: &mut impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Answer
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    // Boxed: a function's whole life would otherwise be one type, too deep for the compiler.
    let followed = Box::pin(AssertUnwindSafe(look_and_act(aws, job, invocation, work, step)).catch_unwind()).await;
    let has_begun = job.continuation.is_some() || work.envelope.cut.is_some() || work.halt.goes_on.get().is_some();
    match followed {
        Ok(Ok(answer)) => answer,
        Ok(Err(verdict)) => undone.answer(verdict, has_begun),
        Err(panic) => {
            let message = format!("Cutover itself failed: {}. This is a bug in it", panic_message(panic.as_ref()));
            undone.answer(Verdict { kind: Kind::Unavailable, message }, has_begun)
        }
    }
}

/// What is answered when something keeps an action from being done.
#[derive(Debug, Clone, Copy)]
enum Undone {
    /// The failure of an action that begins something: who gave up, or broke off, has not taken it back.
    Fails,
    /// What the function says.
    Says(fn(Verdict) -> Answer),
}

impl Undone {
    /// The answer, where the action may have begun something, or has not.
    fn answer(self, verdict: Verdict, has_begun: bool) -> Answer {
        match self {
            Self::Says(said) => said(verdict),
            Self::Fails if !has_begun => Answer::Failed(verdict),
            Self::Fails => {
                let message = format!(
                    "{}. What the action had begun may still be running: it is taken back once its stage has ended. Retry the stage then.",
                    verdict.message.trim_end_matches('.')
                );
                Answer::Failed(Verdict { message, ..verdict })
            }
        }
    }
}

async fn look_and_act<S, M>(
    aws: &Aws,
    job: &Job,
    invocation: Invocation,
    work: &mut Work<S, M>,
    step: &mut impl AsyncFnMut(&Tick<'_>, &mut S, &mut M) -> Result<Next, Error>,
) -> Result<Answer, Verdict>
where
    S: Serialize + DeserializeOwned + Default,
    M: Default,
{
    let clock = invocation.clock;
    let Work { release, envelope, memory, progress, halt, goes_on, answered } = work;
    envelope.has_died = false;
    let codepipeline = Codepipeline::new(aws);
    let usual = usual(aws, release).await;
    let came = clock.now();
    loop {
        // Sealed before the step: if time runs out in the middle of it, the next job begins where this look began.
        envelope.date(clock.now());
        let token = envelope.seal()?;
        let hand_over = |progress: &Progress| Answer::Continue { token: token.clone(), progress: progress.clone() };
        let run = Run { id: job.run.as_deref(), begun: envelope.begun };
        halt.look(&codepipeline, release, &run, clock.now()).await;
        let now = clock.now();
        if envelope.tries.is_none() {
            let found = codepipeline.tries(release, job.run.as_deref(), now.since(envelope.begun)).await;
            if let Some(found) = envelope.trouble.note(now, found)? {
                envelope.tries = Some(found);
            } else if TROUBLE_PAUSE >= invocation.left() {
                return Ok(hand_over(progress));
            } else {
                tokio::time::sleep(TROUBLE_PAUSE).await;
            }
            continue;
        }
        release.attempt = envelope.tries.map_or(1, |tries| tries.attempt);
        let acts = Cell::new(false);
        let cut_short = envelope.seal_cut(clock.now().plus(invocation.left()))?;
        let tick = Tick {
            aws,
            job,
            release,
            key: &envelope.key,
            begun: envelope.begun,
            now,
            tried_before: envelope.tries.and_then(|tries| tries.before),
            started: envelope.tries.and_then(|tries| tries.started),
            cut: envelope.cut,
            halted: halt.seen.get(),
            taken_over: halt.taken_over.get(),
            unsettled: envelope
                .tries
                .is_some_and(|tries| tries.given_up && now.since(tries.started.unwrap_or(envelope.begun)) < GIVEN_UP),
            may_answer: answered.is_none() && invocation.left() >= ROOM,
            answered: *answered,
            halt,
            acts: &acts,
            clock,
        };
        let stepped = tokio::time::timeout(invocation.left(), Box::pin(step(&tick, &mut envelope.state, memory))).await;
        let Ok(stepped) = stepped else {
            let token = if acts.get() { cut_short } else { token };
            return Ok(Answer::Continue { token, progress: progress.clone() });
        };
        if let (Err(Error::Again(why)), true) = (&stepped, progress.summary.is_empty()) {
            progress.summary = fit(&format!("Looking again: {why}"), LONGEST_WHY);
        }
        let shows = matches!(stepped, Ok(Next::Show(..)));
        let pause = match envelope.trouble.note(clock.now(), stepped)? {
            Some(Next::Succeed(success)) => return Ok(Answer::Succeeded(with_usual(success, usual.as_ref(), release))),
            Some(Next::Answer(success)) => {
                *goes_on = true;
                return Ok(Answer::Succeeded(with_usual(success, usual.as_ref(), release)));
            }
            Some(Next::Fail(verdict)) => return Ok(Answer::Failed(verdict)),
            Some(Next::Wait(pause, told) | Next::Show(pause, told)) => {
                *progress = told;
                let (stage, action) = (release.stage.as_deref(), release.action.as_deref());
                if let Some((usual, (stage, action))) = usual.as_ref().zip(stage.zip(action)) {
                    if let Some(said) = usual.said(stage, action, envelope.begun, now) {
                        progress.summary = format!("{} ({said})", progress.summary);
                    }
                    let slow = usual.has_become_slow(stage, action, envelope.begun, (came, now));
                    if let Some(slow) = slow.filter(|_| answered.is_none() && !halt.seen.get()) {
                        let mut journal = Journal::default();
                        journal.say(now, slow);
                        journal.finish(aws, release).await;
                        // What an action says of itself is shown when it hands over.
                        return Ok(Answer::Continue { token: envelope.seal()?, progress: progress.clone() });
                    }
                }
                let is_first = job.continuation.is_none() && job.origin == Origin::Custom;
                if shows && is_first && answered.is_none() && !halt.seen.get() {
                    let summary = format!("{} (at {})", progress.summary, clock.now());
                    let progress = Progress { summary, ..progress.clone() };
                    return Ok(Answer::Continue { token: envelope.seal()?, progress });
                }
                // A look that took its time is followed by the next one the sooner, one that found a halt by one at once.
                let pause = if halt.seen.get() == tick.halted { pause } else { Duration::ZERO };
                pause.saturating_sub(clock.now().since(now)).max(SHORTEST_PAUSE)
            }
            None => TROUBLE_PAUSE,
        };
        if answered.is_none() && halt.answered.get() {
            // Nobody waits for this one's answer.
            return Ok(hand_over(progress));
        }
        if pause.max(LAST_LOOK) >= invocation.left() {
            return Ok(Answer::Continue { token: envelope.seal()?, progress: progress.clone() });
        }
        tokio::time::sleep(pause).await;
    }
}

/// What an action that has succeeded says of how long it usually takes, and, for the approval, of how long the deployment does.
fn with_usual(mut success: Success, usual: Option<&Usual>, release: &Release) -> Success {
    let step = |stage: &str, action: &str| usual.and_then(|usual| usual.step(stage, action));
    let own = release.stage.as_deref().zip(release.action.as_deref()).and_then(|(stage, action)| step(stage, action));
    if let Some(own) = own {
        let said = format!(" ({})", own.said());
        success.summary.push_str(&said);
        if let Some((_, summary)) = success.variables.iter_mut().find(|(name, _)| *name == "Summary") {
            summary.push_str(&said);
        }
    }
    let deploy =
        step("Deploy", "Deploy").map_or_else(|| "not known yet how long it takes".to_owned(), |one| one.said());
    success.variables.push(("Usually", deploy));
    success
}

/// How long the release's steps usually take, if that is known at once: nothing waits for it, and nothing fails without it.
async fn usual(aws: &Aws, release: &Release) -> Option<Usual> {
    let store = Store::new(aws)?;
    tokio::time::timeout(USUAL, store.usual(&release.pipeline)).await.ok().flatten()
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}
