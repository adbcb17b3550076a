//! Runs one task of the manifest as an ECS task in each of its environments at once: pre-steps, migrations, post-steps.
//!
//! Invariants: at most one task per environment and try is ever started; one failure stops all the others; the action
//! ends only when nothing of it runs any more. Before the first task of a release, all that the release needs was looked at.

mod decide;
mod message;
mod others;
mod plan;
mod site;

use std::time::Duration;

use serde::Deserialize;
use shared::artifact;
use shared::{Aws, Error, Event, Invocation, Next, Tick};
use tracing::info;

use decide::{Act, Decision, Observation, Site, State, decide};
use plan::{Plan, Surveyed};

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// Which of the manifest's tasks.
    task: String,
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
    let next = look_and_act(tick, state, memory).await;
    state.fit();
    next
}

async fn look_and_act(tick: &Tick<'_>, state: &mut State, memory: &mut Option<Plan>) -> Result<Next, Error> {
    if tick.taken_over {
        // What runs is adopted by the run that does this one's work now.
        return Ok(Next::Fail(message::taken_over()));
    }
    let plan = match memory {
        Some(plan) => plan,
        None => {
            let parameters: Parameters = tick.job.parameters()?;
            let content = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
            let plan = memory.insert(Plan::new(tick, content, &parameters.task).await?);
            plan.recall(state);
            plan
        }
    };
    if !state.surveyed && !tick.halted {
        match plan.survey(tick).await {
            Ok(Surveyed::Done) => state.surveyed = true,
            Ok(Surveyed::NotYet) => {}
            Ok(Surveyed::RunsTwice(wrong)) => return Ok(Next::Fail(wrong)),
            Err(again @ Error::Again(_)) => return Err(again),
            Err(Error::Stop(wrong)) => {
                // The function before this one may have died right after it had found all good, and begun.
                plan.look(tick).await;
                if !plan.has_begun() {
                    return Ok(Next::Fail(wrong));
                }
                state.surveyed = true;
            }
        }
        if !state.surveyed {
            return Ok(Next::Wait(Duration::ZERO, message::looking_beforehand(tick, plan)));
        }
    }
    plan.others.look(tick).await?;
    plan.look(tick).await;
    let seen = Observation {
        now: tick.now,
        halted: tick.halted,
        timeout: plan.task.timeout.0,
        retry_placement_for: plan.task.retry_placement_for.0,
        sites: plan.sites.iter().enumerate().map(|(at, site)| site.seen(state.at(at), tick)).collect(),
    };
    let was_good = state.cause.is_none();
    let decision = decide(&seen, state);
    // `halt-release` may have seen a stop before this function did.
    let is_stopped = |at: usize| matches!(seen.sites.get(at), Some(Site::Stopped));
    let was_stopped = was_good && state.cause.as_ref().is_some_and(|cause| is_stopped(cause.environment));
    if was_stopped && !tick.halted && matches!(tick.goes_on().await, Ok(false)) {
        state.cause = None;
        return Ok(Next::Wait(Duration::ZERO, message::progress(tick, plan, state)));
    }
    plan.note(state);
    for act in decision.acts() {
        info!(task = plan.name, ?act, "acting");
    }
    match decision {
        Decision::Go(acts) => {
            let begins = acts.iter().any(|act| matches!(act, Act::Start { .. }));
            // Before it is asked whether the release goes on, so that nothing takes its time between the answer and the begin.
            let definitions = plan.definitions(&acts).await;
            let stops = acts.iter().any(|act| matches!(act, Act::Stop { .. }));
            if (begins && !tick.goes_on().await?) || (stops && !may_stop(tick).await) {
                return Ok(Next::Wait(decide::LOOK, message::progress(tick, plan, state)));
            }
            plan.act(tick, state, &acts, definitions).await;
            plan.note(state);
            Ok(Next::Wait(decide::LOOK, message::progress(tick, plan, state)))
        }
        Decision::Succeeded => Ok(Next::Succeed(message::succeeded(tick, plan, state))),
        Decision::Failed => {
            let lines = plan.last_lines(tick, state).await;
            if plan.writes_yet(tick, state) {
                return Ok(Next::Wait(decide::LOOK, message::progress(tick, plan, state)));
            }
            Ok(Next::Fail(message::failed(tick, plan, state, &lines)))
        }
    }
}

/// Whether what runs is still this run's to stop: a person may have had the stage tried again meanwhile, and that run adopts what it finds;
/// or another function has answered for this action. Not knowing, it is: whoever stops a release waits for it.
async fn may_stop(tick: &Tick<'_>) -> bool {
    if tick.halted { tick.takes_back().await.unwrap_or(true) } else { !tick.has_its_answer().await }
}

impl Decision {
    fn acts(&self) -> &[Act] {
        match self {
            Self::Go(acts) => acts,
            Self::Succeeded | Self::Failed => &[],
        }
    }
}
