//! Takes back what a stopped, cancelled or failed release has left: CodePipeline tells no action to stop (fact 11), and no
//! function needs to be alive for this one to do it.
//!
//! Invariants: a release that goes on or has succeeded is never touched, nor a deployment whose action has succeeded, nor
//! anything of another release; it looks before it acts, so that events may come twice, late, and out of order.

mod decide;
mod event;
mod message;
mod over;
mod sweep;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use shared::aws::codepipeline::{Claimed, Codepipeline, Sibling, tries};
use shared::error::Kind;
use shared::job::Release;
use shared::{Answer, Aws, Error, Event, Invocation, Job, Journal, Success, Time, Trouble, artifact, claim};
use tokio::time::Instant;
use tracing::{info, warn};

use decide::{
    Deployed, LONGEST, LOOK, LOOK_SELDOM, SETTLED, STILL, Verdict, before_the_next, deployed, is_past, verdict,
};
use event::{Asked, CARRIED, Carried};
use over::Over;
use sweep::Sweep;

/// When less than this is left, the function hands over to itself.
const LAST_LOOK: Duration = Duration::from_secs(15);

/// What its last tries of saying something take, beside what it needs for its end.
const LAST_WORDS: Duration = Duration::from_secs(75);

/// How the name of the function ends that shows the log, as the stack names it.
const TAIL: &str = "-tail-logs";

/// The same of the one that waits for old workers.
const DRAIN: &str = "-drain-workers";

/// The same of the one that tells people.
const NOTIFY: &str = "-notify";

/// Handles one event.
///
/// # Errors
/// What could not be looked at or stopped: Lambda delivers the event again.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    match event::read(&event) {
        Asked::Nothing => Ok(()),
        Asked::Report { function, event, request, why } => loop {
            match report(&aws, &function, (&event, request.as_deref()), &why).await {
                // Nobody else answers for it.
                Err(Error::Again(why)) if invocation.left() > LAST_LOOK => info!(why, "it is not answered yet"),
                other => return other,
            }
            tokio::time::sleep(LOOK).await;
        },
        Asked::Sweep { release, carried } => sweep(&aws, release, &event, carried, invocation).await,
    }
}

/// Answers the job of a function that is dead: nobody else would. A function that dies before it has claimed its job, such
/// as one that cannot even start, leaves that to do first: only a job that is claimed can be answered. A job is polled again until it
/// is claimed, and when functions are held up for long, one that has died of it says nothing of the one that works.
///
/// Safe to repeat: see [`Codepipeline::claim`] and [`Codepipeline::answer`].
async fn report(aws: &Aws, function: &str, (event, request): (&Event, Option<&str>), why: &str) -> Result<(), Error> {
    let Some(job) = Job::read(event) else {
        info!(function, why, "a function failed that had no job");
        return Ok(());
    };
    let codepipeline = Codepipeline::new(aws);
    if let Some(claim) = &job.claim
        && codepipeline.claim(&job.id, claim).await? == Claimed::Before
        && let Some(request) = request
        && claim::is_anothers(aws, &job, request).await?
    {
        info!(function, why, job = job.id, "another invocation does this job");
        return Ok(());
    }
    warn!(function, why, job = job.id, "answering for a function that is dead");
    // Losing the log never fails a release, nor does what waits for old workers or tells people.
    let warning = |summary| Answer::Succeeded(Success { summary, ..Success::default() });
    let answer = if function.ends_with(TAIL) {
        warning(message::lost_tail(function, why))
    } else if function.ends_with(DRAIN) {
        warning(message::lost_drain(function, why))
    } else if function.ends_with(NOTIFY) {
        warning(message::lost_notify(function, why))
    } else {
        Answer::Failed(message::died(function, why))
    };
    codepipeline.answer(&job.id, &answer).await.map(drop)
}

/// One sweep, as one invocation knows it.
struct Sweeping<'a> {
    aws: &'a Aws,
    codepipeline: Codepipeline<'a>,
    release: Release,
    invocation: Invocation,
    /// Whether an invocation before this one has handed over to it.
    goes_on: bool,
    carried: Carried,
    /// What is known of the leftovers, once the manifest was read.
    known: Option<Sweep>,
    journal: Journal,
    /// Whether it is this one of several that says what is done, once that was found out.
    speaks: Option<bool>,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    LookAgain(Duration),
    Done,
}

async fn sweep(
    aws: &Aws,
    release: Release,
    event: &Event,
    carried: Option<Carried>,
    invocation: Invocation,
) -> Result<(), Error> {
    let (codepipeline, journal) = (Codepipeline::new(aws), Journal::default());
    let mut sweeping = Sweeping {
        aws,
        codepipeline,
        release,
        invocation,
        goes_on: carried.is_some(),
        carried: carried.unwrap_or_else(|| Carried { begun: invocation.clock.now(), ..Carried::default() }),
        known: None,
        journal,
        speaks: None,
    };
    // An error that passes must not end the invocation: the next one would not know that the words said are its own.
    let mut trouble = Trouble::default();
    loop {
        let looked = sweeping.look(invocation.clock.now()).await;
        let pause = match trouble.note(invocation.clock.now(), looked) {
            Ok(Some(Then::Done)) => return Ok(()),
            Ok(Some(Then::LookAgain(pause))) => pause,
            Ok(None) => LOOK,
            Err(verdict) if sweeping.tries_on(invocation.clock.now(), &verdict).await => {
                trouble = Trouble::default();
                LOOK_SELDOM
            }
            Err(verdict) => {
                sweeping.end(invocation.clock.now(), &message::lost(&verdict.message)).await;
                return Err(verdict.into());
            }
        };
        if invocation.left() <= LAST_LOOK {
            return sweeping.hand_over(invocation.clock.now(), event).await;
        }
        tokio::time::sleep(pause).await;
    }
}

impl Sweeping<'_> {
    async fn look(&mut self, now: Time) -> Result<Then, Error> {
        // Before every look: a retry may begin at any moment, and what it begins is not to be touched.
        let asked = Instant::now();
        let execution = self.codepipeline.execution(&self.release).await?;
        let actions = self.codepipeline.siblings(&self.release).await?;
        match verdict(&execution.status, &actions, now.since(self.carried.begun)) {
            Verdict::LeftAlone => {
                info!(execution = self.release.execution, status = execution.status, "left alone");
                return Ok(Then::Done);
            }
            Verdict::Unclear => return Ok(Then::LookAgain(LOOK)),
            Verdict::Over => {}
        }
        // A person who stops a release is told what became of it, also when nothing was to be done.
        let by_person = matches!(execution.status.as_str(), "Stopped" | "Cancelled");
        self.release.attempt = tries(&actions, &self.release).attempt;
        if self.carried.attempt.is_some_and(|stopped| stopped != self.release.attempt) {
            self.begin_anew(now);
        }
        self.carried.attempt = Some(self.release.attempt);
        let sweep = match &mut self.known {
            Some(sweep) => sweep,
            None => match manifest(self.aws, &actions).await? {
                Manifest::Read(contents, unread) => {
                    self.known.insert(Sweep::new(self.aws, contents, unread, &self.carried).await)
                }
                Manifest::NothingBegun => return Ok(self.nothing_begun(now, by_person).await),
                Manifest::Unreadable(why) => return Err(shared::Verdict::failed(message::no_manifest(&why)).into()),
            },
        };
        let mut said = Vec::new();
        let since = (self.carried.begun, *self.carried.over.get_or_insert(now));
        let over = Over::new(&self.codepipeline, &self.release, since, asked);
        let mut deployed = deployed(&actions);
        if deployed.since.is_some() && !deployed.has_succeeded {
            deployed = match self.codepipeline.newest_actions(&self.release).await {
                Ok(newest) if is_past(&deployed, &newest, &self.release.execution) => {
                    info!("a later release has deployed since: what runs is not this one's");
                    Deployed { since: None, ..deployed }
                }
                Ok(newest) => before_the_next(deployed, &newest, &self.release.execution),
                Err(again @ Error::Again(_)) => return Err(again),
                // Where that may not be asked, whose an image is tells.
                Err(Error::Stop(_)) => deployed,
            };
        }
        let stays = deployed.has_succeeded;
        let looked = sweep.look(self.aws, &over, &self.release, deployed, now, &mut said).await;
        if looked.under_way {
            self.carried.seen = Some(now);
            let waits = self.carried.waits.unwrap_or(self.carried.begun);
            if now.since(waits) >= STILL {
                self.carried.waits = Some(now);
                let left = sweep.not_back(now, now.since(self.carried.begun));
                said.extend(message::still(&left, now.since(self.carried.begun)));
            }
        }
        let settles = self.carried.seen.get_or_insert(now).plus(SETTLED);
        let settled = sweep.is_clear_since(settles);
        if !looked.under_way && settled {
            sweep.settle(now, &mut said);
        }
        let something = by_person || self.goes_on || !said.is_empty() || !sweep.stuck.is_empty();
        if something {
            self.say(now, said).await;
        }
        if looked.under_way {
            return Ok(Then::LookAgain(LOOK));
        }
        // What cannot be looked at in one place keeps nothing from being followed to its end elsewhere.
        if let Some(verdict) = looked.failed.filter(|_| now >= settles) {
            return Err(Error::Stop(verdict));
        }
        if !settled {
            return Ok(Then::LookAgain(LOOK_SELDOM));
        }
        if let Some(sweep) = self.known.as_ref().filter(|_| self.speaks == Some(true)) {
            // A look at many takes its time: what is promised holds unless somebody has tried the stage again meanwhile.
            let execution = self.codepipeline.execution(&self.release).await?;
            let actions = self.codepipeline.siblings(&self.release).await?;
            if verdict(&execution.status, &actions, now.since(self.carried.begun)) != Verdict::Over {
                return Ok(Then::LookAgain(LOOK));
            }
            let outcomes = sweep.outcomes(&self.release, &actions).await.unwrap_or_else(|error| {
                warn!(%error, "how far the tasks came is not said");
                Vec::new()
            });
            let done = message::done(&sweep.stopped, &sweep.stuck, &outcomes, stays);
            self.end(now, &done).await;
        }
        Ok(Then::Done)
    }

    /// AWS has not answered for minutes, somewhere: a Region may be out of reach for an hour, and what runs there is taken back then. All is
    /// looked at anew, as by another invocation, for as long as a sweep goes on; whether it is. People are told, from time to time.
    async fn tries_on(&mut self, now: Time, verdict: &shared::Verdict) -> bool {
        if verdict.kind != Kind::Unavailable || now.since(self.carried.begun) >= LONGEST {
            return false;
        }
        if let Some(sweep) = self.known.take() {
            sweep.carry(&mut self.carried);
        }
        let is_due = self.carried.tried_on.is_none_or(|said| now.since(said) >= STILL);
        if self.carried.attempt.is_some() && is_due {
            let is_first = self.carried.tried_on.replace(now).is_none();
            let said = message::tries_on(&verdict.message, LONGEST);
            self.say(now, vec![said.clone()]).await;
            if is_first {
                self.tell(&said).await;
            }
        }
        true
    }

    /// The stage was tried again and stopped again between two looks: what was left of the try before is that one's no more, and
    /// what it has deployed may be a fact.
    fn begin_anew(&mut self, now: Time) {
        self.carried = Carried { begun: now, ..Carried::default() };
        (self.goes_on, self.known, self.speaks, self.journal) = (false, None, None, Journal::default());
    }

    /// No action of Cutover's is to be seen; one that has just begun may be shown late.
    async fn nothing_begun(&mut self, now: Time, by_person: bool) -> Then {
        if now.since(*self.carried.seen.get_or_insert(now)) < SETTLED {
            return Then::LookAgain(LOOK_SELDOM);
        }
        if by_person && self.speaks().await {
            self.end(now, &message::done(&[], &BTreeMap::new(), &[], false)).await;
        }
        Then::Done
    }

    /// Whether it is this one that speaks: several events ask for the same. One that was handed over to does.
    async fn speaks(&mut self) -> bool {
        if self.speaks.is_none() {
            let name = format!("halted/{}/{}", self.release.execution, self.release.attempt);
            self.speaks = Some(match self.carried.speaks.filter(|_| self.goes_on) {
                Some(speaks) => speaks,
                None => self.aws.is_first(&name).await,
            });
        }
        self.speaks == Some(true)
    }

    async fn say(&mut self, now: Time, said: Vec<String>) {
        if !self.speaks().await {
            return;
        }
        for line in said {
            self.journal.say(now, line);
        }
        self.journal.flush(self.aws, &self.release).await;
    }

    /// Says the last line, and tells people, as far as `notify` does: that it cannot be asked is no reason to stop nothing.
    async fn end(&mut self, now: Time, said: &str) {
        self.say(now, vec![said.to_owned()]).await;
        self.tell(said).await;
        // Nobody waits for this function, and nobody else says it.
        while !self.journal.has_said_all() && self.invocation.left() > LAST_WORDS {
            self.journal.finish(self.aws, &self.release).await;
        }
        // Where less time is left: as often as it allows.
        let to_the_last = self.invocation.to_the_last();
        while !self.journal.has_said_all() {
            self.journal.finish_at_once(self.aws, &self.release).await;
            if self.journal.has_said_all() || to_the_last.left() <= LOOK {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has people told: whatever becomes of the log.
    async fn tell(&self, said: &str) {
        let Some(function) = self.aws.settings().notify.as_ref().filter(|_| self.speaks == Some(true)) else { return };
        let release = &self.release;
        let event = json!({"cutover": {"halted": said, "pipeline": release.pipeline, "execution-id": release.execution,
            "attempt": release.attempt}});
        loop {
            match self.aws.invoke(function, &event).await {
                Err(Error::Again(_)) if self.invocation.left() > LAST_LOOK => tokio::time::sleep(LOOK).await,
                Err(error) => return warn!(%error, "nobody is told"),
                Ok(()) => return,
            }
        }
    }

    /// Goes on in another invocation, with the same event: also one that says nothing, since the one that does may have died.
    ///
    /// Safe to repeat: two of them look and stop the same.
    async fn hand_over(mut self, now: Time, event: &Event) -> Result<(), Error> {
        // Where it was not seen yet that the release is over, there may be nothing to say, and another event may be the one that brings it.
        self.carried.speaks = match self.carried.attempt {
            Some(_) => Some(self.speaks().await),
            None => None,
        };
        if let Some(sweep) = &self.known {
            sweep.carry(&mut self.carried);
        }
        let after = now.since(self.carried.begun);
        let Some(function) = self.aws.settings().halt.as_ref().filter(|_| after < LONGEST) else {
            let left = self.known.as_ref().map(|sweep| sweep.not_back(now, after)).unwrap_or_default();
            self.end(now, &message::gave_up(&self.carried.stopped, &left, after)).await;
            return Ok(());
        };
        let mut next = event.value().clone();
        next[CARRIED] = json!(self.carried);
        loop {
            match self.aws.invoke(function, &next).await {
                Err(Error::Again(_)) if !self.invocation.left().is_zero() => tokio::time::sleep(LOOK).await,
                other => return other,
            }
        }
    }
}

/// The manifests of a release: its own artifacts are the truth.
enum Manifest {
    /// Each of them, that of the newest action first; and that there is another one, which cannot be read.
    Read(Vec<artifact::Content>, Option<shared::Verdict>),
    /// No action of Cutover's has begun.
    NothingBegun,
    Unreadable(String),
}

/// Reads them from the inputs of the actions: as a rule it is one, and an action can name another.
///
/// # Errors
/// It cannot be read now.
async fn manifest(aws: &Aws, actions: &[Sibling]) -> Result<Manifest, Error> {
    let with =
        actions.iter().filter(|one| !one.artifacts.is_empty() && matches!(one.category.as_str(), "Deploy" | "Invoke"));
    let (mut contents, mut known, mut why, mut unread) = (Vec::new(), BTreeSet::new(), None, None);
    for action in with {
        let keys: Vec<_> = action.artifacts.iter().map(|one| one.key.as_str()).collect();
        if !known.insert((keys, action.manifest.as_deref())) {
            continue;
        }
        let mut lacks = |said: String| {
            if decide::is_own(action) {
                unread.get_or_insert_with(|| message::no_manifest_of(action, &said));
            }
            why = Some(said);
        };
        match artifact::read_as_self(aws, &action.artifacts, action.manifest.as_deref(), shared::Manifest::read_shape)
            .await
        {
            Ok(Some(content)) => contents.push(content),
            Ok(None) if decide::was_read(action) => lacks("it is not of the shape of a manifest any more".to_owned()),
            Ok(None) => {}
            Err(again @ Error::Again(_)) => return Err(again),
            Err(Error::Stop(verdict)) => lacks(verdict.message),
        }
    }
    if !contents.is_empty() {
        return Ok(Manifest::Read(contents, unread.map(shared::Verdict::failed)));
    }
    Ok(why.map_or(Manifest::NothingBegun, Manifest::Unreadable))
}
