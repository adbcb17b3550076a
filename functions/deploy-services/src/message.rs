//! Every sentence of `deploy-services` that a person reads.

use shared::time::spoken;
use shared::{Progress, Success, Tick, Verdict, names};

use crate::decide::{Phase, State};
use crate::target::{Plan, Target};

/// "4 of 6 ready; us/web: Install, 1 of 2 tasks run; ...".
pub(crate) fn progress(plan: &Plan) -> Progress {
    let total = plan.targets.len();
    let moved = plan.targets.iter().filter(|target| matches!(target.phase(), Phase::Moved | Phase::Done)).count();
    let ready = plan.targets.iter().filter(|target| target.phase() == Phase::Ready).count();
    let mut summary = format!("Traffic moved in {moved} of {total}");
    if ready > 0 {
        summary.push_str(&format!(", {ready} ready"));
    }
    for target in plan.targets.iter().filter(|target| !matches!(target.phase(), Phase::Moved | Phase::Done)) {
        summary.push_str(&format!("; {}: {}", name(target), now(target)));
    }
    let percent = u8::try_from((ready + 2 * moved) * 50 / total.max(1)).ok();
    Progress { summary, percent, link: None }
}

/// "Traffic is on the new version everywhere after 2 min 05 s: us/web (was revision 41), ...".
pub(crate) fn succeeded(tick: &Tick<'_>, plan: &Plan, state: &State) -> Success {
    let took = spoken(tick.now.since(tick.begun));
    let each = plan.targets.iter().zip(&state.before);
    let each: Vec<_> = each.map(|(target, before)| format!("{} (was revision {before})", name(target))).collect();
    let summary = format!("Traffic is on the new version everywhere after {took}: {}", each.join(", "));
    let deployments = plan.targets.iter().filter_map(|target| target.deployment.as_ref());
    let ids: Vec<_> = deployments.map(|deployment| deployment.id.as_str()).collect();
    let variables = vec![
        ("Summary", summary.clone()),
        ("Deployments", ids.join(",")),
        ("Seconds", tick.now.since(tick.begun).as_secs().to_string()),
    ];
    let variables = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Success { summary, variables, link: Some(names::console_encoded(&names::log_stream(tick.release))) }
}

/// The verdict: first cause first, then the matrix of what became of each.
pub(crate) fn failed(plan: &Plan, state: &State) -> Verdict {
    let mut message = match &state.cause {
        None => "The deployment was stopped with the release.".to_owned(),
        Some(cause) => {
            let name = plan.targets.get(cause.target).map_or_else(|| "?".into(), name);
            format!("{name} failed: {}.", cause.what)
        }
    };
    let unmoved = plan.targets.iter().all(|target| !matches!(target.phase(), Phase::Done));
    if unmoved {
        message.push_str(" Traffic is on the old version everywhere.");
    }
    message.push_str("\n\nWhat became of each");
    for (target, before) in plan.targets.iter().zip(&state.before) {
        message.push_str(&format!("\n  {}: before revision {before}; now {}", name(target), now(target)));
    }
    Verdict::failed(message)
}

fn name(target: &Target) -> String {
    format!("{}/{}", target.environment_name, target.service_name)
}

fn now(target: &Target) -> String {
    match target.phase() {
        Phase::Unknown => "not seen yet".into(),
        Phase::Empty => "not begun".into(),
        Phase::Busy { with, .. } => format!("waiting for deployment {with} in its group"),
        Phase::Going => {
            let seen = target.target.as_ref();
            let event = seen.and_then(|seen| seen.event.as_deref()).unwrap_or("starting");
            match seen.and_then(|seen| seen.new.as_ref()) {
                Some(new) => format!("{event}, {} of {} new tasks run", new.running, new.desired),
                None => event.to_owned(),
            }
        }
        Phase::Ready => "ready, its traffic waits for the others".into(),
        Phase::Moved => "on the new version".into(),
        Phase::Done => "on the new version, and its old tasks are gone: deploy the revision before to go back".into(),
        Phase::Failed { what } => format!("failed: {what}"),
        Phase::RollingBack => "being rolled back".into(),
        Phase::RolledBack => "rolled back".into(),
    }
}
