//! Lets the old workers of this release's services finish and go, and says how they ended.
//!
//! Invariants: a task that protects itself is never stopped by us; waiting is bounded, and what is still busy then is
//! reported and left; draining never fails a release.

mod decide;
mod message;
mod service;

use serde::{Deserialize, Serialize};
use shared::artifact;
use shared::{Aws, Error, Event, Invocation, Next, Tick};

use decide::{Decision, decide};
use service::Plan;

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
}

/// Nothing: deployments and tasks tell everything again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {}

/// Handles one job.
///
/// # Errors
/// When the answer could not be delivered.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    shared::run(&aws, &event, invocation, step).await
}

async fn step(tick: &Tick<'_>, _: &mut State, memory: &mut Option<Plan>) -> Result<Next, Error> {
    let plan = match memory {
        Some(plan) => plan,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            memory.insert(Plan::new(tick, content.manifest).await)
        }
    };
    if tick.halted {
        return Ok(Next::Succeed(message::halted()));
    }
    plan.look(tick).await;
    let seen: Vec<_> = plan.services.iter().map(|service| service.seen(tick)).collect();
    match decide(&seen) {
        Decision::Go(release) => {
            plan.release(tick, &release).await;
            Ok(Next::Wait(decide::LOOK, message::progress(plan)))
        }
        Decision::Done => Ok(Next::Succeed(message::done(tick, plan))),
    }
}
