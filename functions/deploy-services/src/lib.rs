//! Deploys the release's services, in all their environments, as one: with CodeDeploy or with ECS's own deployments, as
//! each service says.
//!
//! Invariants: traffic of what is behind the barrier moves everywhere or nowhere; the action ends only when every
//! deployment has moved its traffic, or none is under way any more.

mod approved;
mod decide;
mod memory;
mod message;
mod plan;
mod quick;
mod turn;
mod workers;

use std::time::Duration;

use serde::Deserialize;
use shared::artifact;
use shared::targets::quick::Runs;
use shared::targets::{Act, Purpose, Target};
use shared::{Aws, Error, Event, Invocation, Next, Tick};

use decide::{Decision, Observation, State, decide};
use memory::Memory;
use message::Report;

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// Which of the manifest's services, separated by commas; all unless given.
    services: Option<String>,
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
    /// Going back, the release that runs ([`Runs`]).
    quick_from: Option<String>,
}

/// Handles one job.
///
/// # Errors
/// When the answer could not be delivered.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    shared::run(&aws, &event, invocation, step).await
}

async fn step(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Memory>) -> Result<Next, Error> {
    let next = look_and_act(tick, state, memory).await;
    state.fit();
    next
}

async fn look_and_act(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Memory>) -> Result<Next, Error> {
    if tick.unsettled && !tick.halted {
        // What services run now may be what the run before this one brings, and takes back in a moment: it is no revision before.
        return Ok(Next::Wait(decide::LOOK, message::lets_it_settle(tick)));
    }
    let memory = match memory {
        Some(memory) => memory,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            let runs = parameters.quick_from.as_deref().and_then(Runs::read);
            memory.insert(Memory::new(tick, content, parameters.services.as_deref(), runs, state).await?)
        }
    };
    if let Some(next) = quick::go(tick, state, memory).await? {
        return memory.say(tick, next).await;
    }
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
        taken_over: tick.taken_over,
    };
    for (at, target) in (0..).zip(&plan.targets) {
        if target.adds_barrier() && !state.given_a_hook.contains(&at) {
            state.given_a_hook.push(at);
        }
    }
    let was_good = state.cause.is_none() && state.giving_up.is_none();
    let decision = decide(&seen, state);
    if let Some(cause) = state.cause.as_mut().filter(|_| was_good) {
        // `halt-release` may have seen a stop before this function did.
        let was_stopped = seen.targets.get(cause.target).is_some_and(|one| one.was_stopped);
        if was_stopped && matches!(tick.goes_on().await, Ok(false)) {
            (state.cause, state.giving_up) = (None, None);
            return Ok(Next::Wait(Duration::ZERO, message::looks_whether_stopped(tick)));
        }
        if let Some(target) = plan.targets.get(cause.target) {
            message::add_where_it_was(cause, target);
        }
    }
    let purpose = if state.giving_up.is_some() { Purpose::TakeBack } else { moment.purpose };
    let (moment, way, given_a_hook) = (moment.with(purpose), state.way.clone(), state.given_a_hook.clone());
    let report = Report {
        tick,
        targets: &plan.targets,
        moment,
        workers,
        quick: memory.quick.as_ref(),
        way: &way,
        back_after: state.back_after,
        given_a_hook: &given_a_hook,
    };
    for line in report.news(&mut memory.said) {
        memory.journal.say(tick.now, line);
    }
    state.said.clone_from(&memory.said);
    let next = match decision {
        Decision::Go(acts) => {
            let goes_forward = state.giving_up.is_none() && acts.iter().any(Act::begins);
            if goes_forward && let Some(next) = memory.take_turn(tick).await? {
                if memory.plan.has_nothing() {
                    // Nor is it remembered by an invocation after this one.
                    state.before.clear();
                }
                return memory.say(tick, next).await;
            }
            if goes_forward {
                state.turn.get_or_insert(tick.now);
            }
            let brings_workers_back = state.giving_up.is_some() && !tick.taken_over && !seen.workers_are_back;
            // What is stopped is this action's own; what is deployed and written anew would run over a retry.
            let (back, others): (Vec<_>, Vec<_>) = acts.into_iter().partition(|act| matches!(act, Act::Back { .. }));
            memory.plan.look_before_begin(&others, &moment).await;
            let may = if goes_forward {
                // Where that look was refused, all that is begun now would be taken back.
                !memory.plan.has_failed() && tick.goes_on().await?
            } else {
                others.is_empty() || !tick.has_its_answer().await
            };
            if may {
                memory.plan.act(tick, &others, &moment, goes_forward).await;
            }
            if (brings_workers_back || !back.is_empty()) && tick.takes_back().await? {
                memory.plan.act(tick, &back, &moment, false).await;
                if brings_workers_back {
                    memory.workers.bring_back(tick).await;
                }
            }
            state.unlisted = memory.plan.unlisted();
            let report = Report {
                tick,
                targets: &memory.plan.targets,
                moment,
                workers: &memory.workers,
                quick: memory.quick.as_ref(),
                way: &state.way,
                back_after: state.back_after,
                given_a_hook: &given_a_hook,
            };
            // New tasks take their time to come up. Whether one that may come about late has done so is known here alone.
            memory.has_begun |= may && others.iter().any(|act| matches!(act, Act::Begin { .. }));
            let shows = memory.has_begun && !memory.plan.targets.iter().any(Target::may_come_about);
            (if shows { Next::Show } else { Next::Wait })(decide::LOOK, report.progress())
        }
        Decision::Release => {
            let progress = report.progress();
            // Where nothing had to be deployed, nobody has asked yet whose turn it is, nor whether what was approved still holds.
            if let Some(next) = memory.take_turn(tick).await? {
                return memory.say(tick, next).await;
            }
            if tick.goes_on().await? {
                memory.workers.release(tick).await;
            }
            Next::Wait(decide::LOOK, progress)
        }
        Decision::Succeeded => Next::Succeed(report.succeeded()),
        Decision::Failed if tick.taken_over => Next::Fail(message::taken_over()),
        Decision::Failed => {
            let lines = plan.last_lines(tick, state).await;
            Next::Fail(report.failed(state, &lines))
        }
    };
    memory.say(tick, next).await
}
