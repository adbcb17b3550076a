//! Law 3, as far as it is about halts: a person who stops a release is told what became of it, and what is said is a promise.

use local::world::ExecutionStatus;
use shared::Time;

use super::{Ended, Release, none};
use crate::Fate;
use crate::laws::fault::Fault;

/// Of a release that a person has stopped, its log says in the end that its halt is complete, or what of it is not.
///
/// Not when nothing of Cutover's had begun, or when the events of the stop were lost.
pub(super) fn a_stop_is_told(ended: &Ended<'_>) -> Result<(), String> {
    let lost = ended.plan.faults.iter().any(|fault| matches!(fault, Fault::Event { fate: Fate::Lost, .. }));
    let mut silent = Vec::new();
    for release in ended.releases.iter().filter(|release| release.status == ExecutionStatus::Stopped && !lost) {
        let begun = release.actions.iter().any(|one| one.provider.starts_with("cutover"));
        let told = last_said(release, &["halt complete", "halt incomplete"]).is_some();
        // Whoever speaks is found out by who creates a stream first; should that one die, nobody speaks (see docs/operating.md).
        let lambda = |fault: &Fault| match fault {
            Fault::Lambda { function: "halt-release", fate, .. } => !matches!(fate, Fate::Frozen { .. }),
            _ => false,
        };
        let died = ended.deaths().any(|of| of == "halt-release") || ended.plan.faults.iter().any(lambda);
        if begun && !told && !died {
            silent.push(&release.execution);
        }
    }
    none("releases whose halt nobody speaks of", &silent)
}

/// From a halt's last line on, unless a retry begins after it, no task of the release begins or runs, and no deployment of it
/// is created or goes on.
pub(super) fn halt_complete_is_a_promise(ended: &Ended<'_>) -> Result<(), String> {
    let mut broken = Vec::new();
    for release in &ended.releases {
        let Some((said, promised)) = promised(release) else { continue };
        // A retry that begins meanwhile is not the halt's affair, also where the log takes the line later than it was said; nor what a retry
        // begins later.
        let retries = ended.deeds.retries.iter().filter(|(execution, _)| *execution == release.execution);
        let retries = retries.map(|(_, at)| *at).filter(|at| at.plus(shared::aws::SHOWN) > said);
        let until = retries.min().unwrap_or(Time::from_millis(u64::MAX));
        if until <= promised {
            continue;
        }
        let late = ended.own_lives().filter(|(life, whose)| {
            whose.execution == release.execution
                && life.created < until
                && (life.created > promised || life.stopped.is_none_or(|at| at > promised))
        });
        broken.extend(late.map(|(life, _)| format!("{life:?}")));
        if release.stays_deployed() {
            continue;
        }
        let milestones = ended.stage.world().milestones_of_deployments();
        let moved =
            |description: &str| milestones.iter().find(|(one, ..)| one == description).and_then(|(.., moved)| *moved);
        for (description, created, completed) in ended.stage.world().spans_of_deployments() {
            // What brings back may wait for old tasks.
            let is_back = description.contains(" back, key ");
            let moved = moved(&description).filter(|_| is_back);
            let completed = completed.into_iter().chain(moved).min();
            if description.contains(&release.execution)
                && created < until
                && !release.is_fact(Some(created))
                && (created > promised || completed.is_none_or(|at| at > promised))
            {
                broken.push(format!("{description}: {created:?} to {completed:?}"));
            }
        }
        for one in
            ended.stage.world().rollouts().into_iter().filter(|one| one.image == release.image && !release.is_back)
        {
            let is_late = one.span.0 > promised || one.span.1.is_none_or(|at| at > promised);
            if is_late && one.span.0 < until && !release.is_fact(Some(one.span.0)) {
                broken.push(format!("{one:?}"));
            }
        }
    }
    none("what began or went on after `halt complete`", &broken)
}

/// When a halt has said its last line, and when the log had it.
fn promised(release: &Release) -> Option<(Time, Time)> {
    last_said(release, &["halt complete"])
}

fn last_said(release: &Release, beginnings: &[&str]) -> Option<(Time, Time)> {
    let said = release.streams.values().flatten();
    let said = said.filter(|event| beginnings.iter().any(|beginning| event.message.starts_with(beginning)));
    said.map(|event| (event.at, event.ingested)).max_by_key(|(_, ingested)| *ingested)
}
