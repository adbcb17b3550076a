//! Deploys the release's services, in all their environments, as one: with CodeDeploy or with ECS's own deployments, as
//! each service says.
//!
//! Invariants: traffic of what is behind the barrier moves everywhere or nowhere; the action ends only when every
//! deployment has moved its traffic, or none is under way any more.

mod decide;
mod message;
mod plan;
mod turn;
mod workers;

use serde::Deserialize;
use shared::artifact;
use shared::targets::{Act, Purpose};
use shared::{Aws, Error, Event, Invocation, Journal, Next, Tick};

use decide::{Decision, Observation, State, decide};
use message::Report;
use plan::Plan;
use turn::{Turn, Whose};
use workers::Workers;

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

/// What an invocation keeps between two looks.
#[derive(Debug)]
struct Memory {
    plan: Plan,
    workers: Workers,
    journal: Journal,
    /// Whether this invocation has seen that it is this release's turn to deploy.
    has_turn: bool,
    /// The execution that it was said to wait for last.
    waits_for: Option<String>,
}

async fn step(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Memory>) -> Result<Next, Error> {
    let memory = match memory {
        Some(memory) => memory,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            memory.insert(Memory {
                workers: Workers::new(&content.manifest, content.image.clone()),
                plan: Plan::new(tick, content, parameters.services.as_deref(), state).await?,
                journal: Journal::default(),
                has_turn: false,
                waits_for: None,
            })
        }
    };
    let (plan, workers) = (&mut memory.plan, &mut memory.workers);
    let takes_back = state.giving_up.is_some() || tick.halted;
    let (moment, ()) = futures_util::future::join(plan.look(tick, state), workers.look(tick, takes_back)).await;
    let seen = Observation {
        now: tick.now,
        begun: tick.begun,
        halted: tick.halted,
        targets: plan.targets.iter().map(|target| target.observed(&moment)).collect(),
        workers: workers.standing(tick),
        workers_are_back: workers.is_back(tick),
    };
    let decision = decide(&seen, state);
    let purpose = if state.giving_up.is_some() { Purpose::TakeBack } else { moment.purpose };
    let moment = moment.with(purpose);
    let report = Report { tick, targets: &plan.targets, moment, workers };
    for line in report.news(state) {
        memory.journal.say(tick.now, line);
    }
    let next = match decision {
        Decision::Go(acts) => {
            let goes_forward = state.giving_up.is_none() && acts.iter().any(Act::begins);
            if goes_forward && !memory.has_turn {
                match turn::take(tick).await? {
                    Whose::Ours => memory.has_turn = true,
                    Whose::Theirs(turn) => return wait_for_turn(tick, memory, &turn).await,
                }
            }
            if !goes_forward || tick.goes_on().await? {
                memory.plan.act(&acts, &moment).await;
            }
            if state.giving_up.is_some() {
                memory.workers.bring_back(tick).await;
            }
            let report = Report { tick, targets: &memory.plan.targets, moment, workers: &memory.workers };
            Next::Wait(decide::LOOK, report.progress())
        }
        Decision::Release => {
            let progress = report.progress();
            if tick.goes_on().await? {
                workers.release(tick).await;
            }
            Next::Wait(decide::LOOK, progress)
        }
        Decision::Succeeded => Next::Succeed(report.succeeded()),
        Decision::Failed => {
            let lines = plan.last_lines(tick, state).await;
            Next::Fail(report.failed(state, &lines))
        }
    };
    for line in message::ending(&next) {
        memory.journal.say(tick.now, line);
    }
    match next {
        Next::Wait(..) => memory.journal.flush(tick.aws, tick.release).await,
        Next::Succeed(_) | Next::Fail(_) => memory.journal.finish(tick.aws, tick.release).await,
    }
    Ok(next)
}

/// Another release deploys: it is waited for by name, for as long as any service here waits for its group.
async fn wait_for_turn(tick: &Tick<'_>, memory: &mut Memory, turn: &Turn) -> Result<Next, Error> {
    let longest =
        memory.plan.targets.iter().map(|target| target.site.service.wait_for_group.0).max().unwrap_or_default();
    let waited = tick.now.since(tick.begun);
    let next = if waited > longest {
        Next::Fail(message::waited_in_vain(turn, waited))
    } else {
        Next::Wait(decide::LOOK, message::waits_for_turn(tick, turn))
    };
    if let Next::Wait(_, progress) = &next
        && memory.waits_for.as_ref() != Some(&turn.execution)
    {
        memory.waits_for = Some(turn.execution.clone());
        memory.journal.say(tick.now, progress.summary.clone());
    }
    for line in message::ending(&next) {
        memory.journal.say(tick.now, line);
    }
    memory.journal.flush(tick.aws, tick.release).await;
    Ok(next)
}
