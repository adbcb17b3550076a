//! Lets the old workers of this release's services finish and go, and says how they ended.
//!
//! Invariants: a task that protects itself is never stopped by us; waiting is bounded, and what is still busy then is
//! reported and left; draining never fails a release.

mod decide;
mod message;
mod service;
mod tally;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::artifact;
use shared::{Aws, Error, Event, Invocation, Journal, Next, Tick, Time};

use decide::{Decision, decide};
use service::Plan;
use tally::Tallies;

/// How late it may be shown that a task has ended.
const SHOWN: Duration = Duration::from_secs(15);

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
}

/// What deployments and tasks do not tell again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// When it was looked at the old tasks last: whose end was seen then was told.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    looked: Option<Time>,
    /// How those have ended whom ECS may show no more.
    #[serde(rename = "e", skip_serializing_if = "Tallies::is_empty")]
    ended: Tallies,
}

/// Handles one job.
///
/// # Errors
/// When the answer could not be delivered.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    // Draining never fails a release, whatever it is that keeps it from being done.
    shared::run_leniently(&aws, &event, invocation, message::not_drained, step).await
}

/// What an invocation keeps between two looks.
#[derive(Debug)]
struct Memory {
    plan: Plan,
    journal: Journal,
    /// The old tasks whose end was told.
    told: BTreeSet<String>,
    /// When the invocation before this one looked last.
    looked: Option<Time>,
}

async fn step(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Memory>) -> Result<Next, Error> {
    let memory = match memory {
        Some(memory) => memory,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            let plan = Plan::new(tick, content).await?;
            memory.insert(Memory { plan, journal: Journal::default(), told: BTreeSet::new(), looked: state.looked })
        }
    };
    if tick.halted {
        return Ok(Next::Succeed(message::halted()));
    }
    let plan = &mut memory.plan;
    plan.look(tick).await;
    for service in &plan.services {
        for task in service.old.values().filter(|task| task.is_over()) {
            // What had ended before this invocation was told by the one before it.
            let is_news = memory.looked.is_none_or(|looked| task.stopped.is_none_or(|at| at >= looked.before(SHOWN)));
            if memory.told.insert(task.arn.clone()) && is_news {
                memory.journal.say(tick.now, message::ended(service, task));
            }
        }
    }
    state.looked = Some(tick.now);
    if plan.services.iter().all(|service| service.phase() != decide::Phase::Unknown) {
        state.ended.keep(plan.services.iter().map(|service| service.old.values()), tick.begun, tick.now);
    }
    memory.journal.flush(tick.aws, tick.release).await;
    let seen: Vec<_> = plan.services.iter().map(|service| service.seen(tick)).collect();
    match decide(&seen) {
        Decision::Go(release) => {
            if release.is_empty() || tick.goes_on().await? {
                plan.release(tick, &release).await;
            }
            Ok(Next::Wait(decide::LOOK, message::progress(tick, plan)))
        }
        Decision::Done => {
            memory.journal.finish(tick.aws, tick.release).await;
            Ok(Next::Succeed(message::done(tick, plan, &state.ended)))
        }
    }
}
