//! Follows the CloudWatch logs of a task in all of its environments, and merges them into the release's own stream: the
//! terminal that the deployer used to watch.
//!
//! Invariants: a line is forwarded when it is read and its place is remembered with it; a stream is done when its task
//! has stopped, nothing new came for a quiet period, and its lines, counted once more, are those that were forwarded;
//! losing the tail never fails the release, and the next stage does not wait for the quiet period and the count: the action is
//! answered when all that can be read was forwarded, and the function goes on.
//!
//! When the task's own action has failed, and the stage with it, this one ends as failed, too: a retry of the stage runs
//! only the actions that failed, and a migration that is run again must be watched again.

mod decide;
mod lines;
mod merged;
mod message;
mod search;
mod source;
mod tail;
mod written;

use std::time::Duration;

use serde::Deserialize;
use shared::artifact;
use shared::{Aws, Error, Event, Invocation, Next, Tick, Verdict};
use tracing::warn;

use decide::{Decision, Observation, decide};
use lines::State;
use tail::Tail;

/// How often the streams are looked at: a line shows within about two of these.
const LOOK: Duration = Duration::from_secs(1);

/// The same when all tasks have ended: whether there is more to read.
const LOOK_ENDING: Duration = Duration::from_millis(250);

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// Which of the manifest's tasks: the same as that of the `run-tasks` action beside this one.
    task: String,
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
}

/// Handles one job.
///
/// # Errors
/// When the answer could not be delivered.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    // Losing the log never fails the release, whatever it is that loses it.
    shared::run_beside(&aws, &event, invocation, message::not_followed, step).await
}

async fn step(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Tail>) -> Result<Next, Error> {
    let tail = match memory {
        Some(tail) => tail,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            memory.insert(Tail::new(tick, content.manifest, &parameters.task).await?)
        }
    };
    match follow(tick, state, tail).await {
        // What failed is the tail, not the release.
        Err(verdict) => {
            warn!(why = verdict.message, "the tail is lost");
            let lost = message::lost(tick, tail, &verdict);
            // A retry of what has failed shows the log, too.
            Ok(if tail.runner_failed { Next::Fail(Verdict::failed(lost.summary)) } else { Next::Succeed(lost) })
        }
        Ok(next) => Ok(next),
    }
}

async fn follow(tick: &Tick<'_>, state: &mut State, tail: &mut Tail) -> Result<Next, Verdict> {
    tail.look(tick).await?;
    tail.presume_ends();
    tail.forward(tick, state).await?;
    tail.count(tick).await;
    let seen = Observation {
        now: tick.now,
        // What becomes of a release after the action was answered is none of its affair.
        halted: tick.halted && tick.answered.is_none(),
        has_searched: tail.has_searched(),
        until: tick.answered.unwrap_or(tick.begun.plus(tail.limit)),
        may_answer: tick.may_answer && !tail.runner_failed,
        runner: tail.runner,
        environments: tail.sites.len(),
        looked: tail.looked(),
        sources: tail.sources(),
    };
    match decide(&seen) {
        Decision::Follow => {
            // What the next stage waits for is seconds; once answered, nobody waits.
            let ends = seen.may_answer && tail.is_ending();
            let pause = if ends { LOOK_ENDING } else { LOOK };
            let next = if tail.sites.iter().all(|site| site.lines() == 0) { Next::Show } else { Next::Wait };
            Ok(next(pause, message::progress(tick, tail)))
        }
        Decision::Answer => Ok(Next::Answer(message::shown(tick, tail))),
        // Not of one that is cut off: it may be that nothing more can be read.
        Decision::Done if seen.has_time() && tail.look_once_more(tick.now) => {
            Ok(Next::Wait(LOOK_ENDING, message::progress(tick, tail)))
        }
        Decision::Done => {
            let closed = tail.close(tick, state).await;
            if tail.merged.trouble.note(tick.now, closed)?.is_none() {
                return Ok(Next::Wait(LOOK, message::progress(tick, tail)));
            }
            if tail.runner_failed {
                return Ok(Next::Fail(message::failed_with_it(tail)));
            }
            Ok(Next::Succeed(message::done(tick, tail)))
        }
    }
}
