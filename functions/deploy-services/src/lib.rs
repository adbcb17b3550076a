//! Deploys the release's services with CodeDeploy blue/green, in all their environments, as one.
//!
//! Invariants: traffic moves everywhere or nowhere; the action ends only when every deployment has moved its traffic, or
//! none is under way any more.

mod decide;
mod message;
mod target;

use serde::Deserialize;
use shared::artifact;
use shared::{Aws, Error, Event, Invocation, Next, Tick};
use tracing::info;

use decide::{Decision, Observation, State, decide};
use target::Plan;

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// Which of the manifest's services, separated by commas; all unless given.
    services: Option<String>,
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
}

/// Handles one job.
///
/// # Errors
/// When the answer could not be delivered.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    shared::run(&aws, &event, invocation, step).await
}

async fn step(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Plan>) -> Result<Next, Error> {
    let plan = match memory {
        Some(plan) => plan,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            memory.insert(Plan::new(tick, content, parameters.services.as_deref()).await?)
        }
    };
    plan.look(tick, state).await;
    let seen = Observation {
        now: tick.now,
        begun: tick.begun,
        halted: tick.halted,
        targets: plan.targets.iter().map(target::Target::seen).collect(),
    };
    let decision = decide(&seen, state);
    match decision {
        Decision::Go(acts) => {
            for act in &acts {
                info!(?act, "acting");
            }
            plan.act(tick, &acts).await;
            Ok(Next::Wait(decide::LOOK, message::progress(plan)))
        }
        Decision::Succeeded => Ok(Next::Succeed(message::succeeded(tick, plan, state))),
        Decision::Failed => Ok(Next::Fail(message::failed(plan, state))),
    }
}
