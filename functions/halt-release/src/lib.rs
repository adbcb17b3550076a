//! Takes back what a stopped, cancelled or failed release has left: CodePipeline tells no action to stop (fact 11), and no
//! function needs to be alive for this one to do it.
//!
//! Invariants: a release that goes on or has succeeded is never touched, nor a deployment whose action has succeeded, nor
//! anything of another release; it looks before it acts, so that events may come twice, late, and out of order.

mod decide;
mod event;
mod message;
mod sweep;

use std::time::Duration;

use serde_json::json;
use shared::aws::codepipeline::{Answer, Codepipeline, Sibling, tries};
use shared::job::Release;
use shared::{Aws, Error, Event, Invocation, Job, Journal, artifact};
use tracing::{info, warn};

use decide::{LOOK, MOST_ROUNDS, Verdict, facts, verdict};
use event::{Asked, ROUND};
use sweep::Sweep;

/// When less than this is left, the function hands over to itself.
const LAST_LOOK: Duration = Duration::from_secs(15);

/// Handles one event.
///
/// # Errors
/// What could not be looked at or stopped: Lambda delivers the event again.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    match event::read(&event) {
        Asked::Nothing => Ok(()),
        Asked::Report { function, event, why } => report(&aws, &function, &event, &why).await,
        Asked::Sweep { release, round } => sweep(&aws, release, &event, round, invocation).await,
    }
}

/// Answers the job of a function that is dead: nobody else would.
///
/// Safe to repeat: see [`Codepipeline::answer`].
async fn report(aws: &Aws, function: &str, event: &Event, why: &str) -> Result<(), Error> {
    let Some(job) = Job::read(event) else {
        info!(function, why, "a function failed that had no job");
        return Ok(());
    };
    warn!(function, why, job = job.id, "answering for a function that is dead");
    Codepipeline::new(aws).answer(&job.id, &Answer::Failed(message::died(function, why))).await
}

async fn sweep(
    aws: &Aws,
    mut release: Release,
    event: &Event,
    round: u64,
    invocation: Invocation,
) -> Result<(), Error> {
    let codepipeline = Codepipeline::new(aws);
    let begun = invocation.clock.now();
    let mut journal = Journal::default();
    let mut speaks = None;
    let mut known: Option<Sweep> = None;
    loop {
        // Before every look: a retry may begin at any moment, and what it begins is not to be touched.
        let now = invocation.clock.now();
        let execution = codepipeline.execution(&release).await?;
        let actions = codepipeline.siblings(&release).await?;
        match verdict(&execution.status, &actions, now.since(begun)) {
            Verdict::LeftAlone => {
                info!(execution = release.execution, status = execution.status, "left alone");
                return Ok(());
            }
            Verdict::Unclear => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Verdict::Over => {}
        }
        release.attempt = tries(&actions, &release).attempt;
        let sweep = match &mut known {
            Some(sweep) => sweep,
            None => match manifest(aws, &actions).await? {
                Manifest::Read(manifest) => {
                    let since = actions.iter().filter_map(|one| one.started).min().unwrap_or_default();
                    known.insert(Sweep::new(aws, &release, &manifest, since).await)
                }
                Manifest::NothingBegun => return Ok(()),
                Manifest::Unreadable(why) => {
                    let said = message::no_manifest(&why);
                    journal.say(now, said.clone());
                    journal.flush(aws, &release).await;
                    tell(aws, &release, &said).await;
                    return Err(Error::Again(said));
                }
            },
        };
        let mut said = Vec::new();
        let looked = sweep.look(&release, &facts(&actions), now, &mut said).await;
        // A person who stops a release is told what became of it, also when nothing was to be done.
        let by_person = matches!(execution.status.as_str(), "Stopped" | "Cancelled");
        if speaks.is_none() && (!said.is_empty() || by_person) {
            // Several events ask for the same; one of those who do it says so.
            speaks = Some(aws.is_first(&format!("halted/{}/{}", release.execution, release.attempt)).await);
        }
        let speaks = speaks.unwrap_or(round > 0);
        if speaks {
            say(aws, &release, &mut journal, &invocation, said).await;
        }
        let goes_on = looked?;
        if !goes_on {
            let mut said = Vec::new();
            sweep.settle(&mut said).await?;
            let stuck = !sweep.stuck.is_empty();
            // Of a release that failed, an event that finds nothing says nothing.
            if speaks || stuck {
                let done = message::done(&sweep.stopped, &sweep.stuck);
                said.push(done.clone());
                say(aws, &release, &mut journal, &invocation, said).await;
                tell(aws, &release, &done).await;
            }
            return Ok(());
        }
        if invocation.left() <= LAST_LOOK {
            // One of those who wait goes on waiting.
            return match speaks {
                true => hand_over(aws, &release, event, round, sweep, &mut journal, &invocation).await,
                false => Ok(()),
            };
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn say(aws: &Aws, release: &Release, journal: &mut Journal, invocation: &Invocation, said: Vec<String>) {
    for line in said {
        journal.say(invocation.clock.now(), line);
    }
    journal.flush(aws, release).await;
}

/// Tells people, as far as `notify` does; that it cannot be asked is no reason to stop nothing.
async fn tell(aws: &Aws, release: &Release, said: &str) {
    let Some(function) = &aws.settings().notify else { return };
    let event = json!({"cutover": {"halted": said, "pipeline": release.pipeline, "execution-id": release.execution}});
    if let Err(error) = aws.invoke(function, &event).await {
        warn!(%error, "nobody is told");
    }
}

/// Goes on in another invocation, with the same event.
///
/// Safe to repeat: two of them look and stop the same.
async fn hand_over(
    aws: &Aws,
    release: &Release,
    event: &Event,
    round: u64,
    sweep: &Sweep,
    journal: &mut Journal,
    invocation: &Invocation,
) -> Result<(), Error> {
    let Some(function) = aws.settings().halt.as_ref().filter(|_| round < MOST_ROUNDS) else {
        let said = message::gave_up(sweep.stopped.len());
        say(aws, release, journal, invocation, vec![said.clone()]).await;
        tell(aws, release, &said).await;
        return Ok(());
    };
    let mut next = event.value().clone();
    next[ROUND] = (round + 1).into();
    aws.invoke(function, &next).await
}

/// The manifest of a release: its own artifact is the truth.
enum Manifest {
    Read(Box<shared::Manifest>),
    /// No action of Cutover's has begun.
    NothingBegun,
    Unreadable(String),
}

/// Reads it from the input of the newest action that had one.
///
/// # Errors
/// It cannot be read now.
async fn manifest(aws: &Aws, actions: &[Sibling]) -> Result<Manifest, Error> {
    let with =
        actions.iter().filter(|one| !one.artifacts.is_empty() && matches!(one.category.as_str(), "Deploy" | "Invoke"));
    let mut why = None;
    for action in with {
        match artifact::read_as_self(aws, &action.artifacts, action.manifest.as_deref()).await {
            Ok(Some(content)) => return Ok(Manifest::Read(Box::new(content.manifest))),
            Ok(None) => {}
            Err(again @ Error::Again(_)) => return Err(again),
            Err(Error::Stop(verdict)) => why = Some(verdict.message),
        }
    }
    Ok(why.map_or(Manifest::NothingBegun, Manifest::Unreadable))
}
