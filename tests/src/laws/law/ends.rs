//! How releases end: what fails none, and that a verdict comes when all is over.

use std::collections::BTreeMap;

use local::world::{ActionStatus, ExecutionStatus};

use super::{Ended, Release, none};
use crate::Meddling;
use crate::laws::fault::{Ending, Fault};

/// Faults of calls, lists and invocations that AWS recovers from by itself, and delays, fail no release.
pub(super) fn what_passes_fails_no_release(ended: &Ended<'_>) -> Result<(), String> {
    let passes = |what: &Meddling| {
        matches!(
            what,
            Meddling::Throttle
                | Meddling::Unreachable
                | Meddling::LoseReply
                | Meddling::Internal
                | Meddling::InternalDone
                | Meddling::Hang
                | Meddling::HangThenDo
                | Meddling::DoneLate(_)
                | Meddling::SmallPage(_)
                | Meddling::EmptyPage
                | Meddling::Conflict
                | Meddling::NoRoom
                | Meddling::TooMany
                | Meddling::CrashBefore
                | Meddling::CrashAfter
        )
    };
    let innocent = ended.plan.faults.iter().all(|fault| match fault {
        Fault::Once { what, .. } => passes(what),
        Fault::Late { .. }
        | Fault::EmptyPages
        | Fault::LateLines(_)
        | Fault::ShuffledLines(_)
        | Fault::LateJobs(_)
        | Fault::SameJobs
        | Fault::SlowStarts(_)
        | Fault::NewNonces => true,
        Fault::ShortLambdas(_)
        | Fault::ApproveLate(_)
        | Fault::ApproveBackLate(_)
        | Fault::Protected(_)
        | Fault::Scale { .. }
        | Fault::Merge { .. }
        | Fault::GoBack { .. } => true,
        Fault::Lambda { .. } => true,
        // Whatever is told by an event is looked for by the clock, too.
        Fault::Event { .. } | Fault::Job { .. } => true,
        // No task is as slow as its limit is.
        Fault::Task { how, .. } => matches!(how, Ending::Deaf | Ending::Slow(_)),
        Fault::Service { how, .. } => matches!(how, Ending::Deaf),
        // All of them are over before trouble has lasted for so long that it is given up; only room is waited for less.
        Fault::Storm { what, .. } => passes(what) && !what.is_death() && *what != Meddling::NoRoom,
        Fault::Spot { .. } | Fault::Rival { .. } | Fault::Newcomer { .. } | Fault::ByHand { .. } => false,
        Fault::Stop { .. } | Fault::Retry { .. } | Fault::Reject => false,
    });
    // Lambda tries an event three times: more deaths of one function are another's affair.
    let mut deaths: BTreeMap<&str, usize> = BTreeMap::new();
    for of in ended.deaths() {
        *deaths.entry(of).or_default() += 1;
    }
    // Two functions that do the same job take each other's service deployments for somebody's: ECS has no key (see `rollouts`).
    let in_doubt = ended.may_have_two("deploy-services");
    if !innocent || in_doubt || deaths.values().any(|count| *count > 2) {
        return Ok(());
    }
    let failed = ended.releases.iter().filter(|release| release.status != ExecutionStatus::Succeeded);
    // What it goes back from is not what was approved.
    let failed = failed.filter(|release| !(release.is_back && is_overtaken(ended, release)));
    let failed = failed.map(|release| {
        let action = release.actions.iter().find(|one| one.status == ActionStatus::Failed);
        format!("{:?}: {:?}", release.status, action.map(|one| (&one.action, &one.error)))
    });
    none("releases that did not succeed", &failed.collect::<Vec<_>>())
}

/// Whether another release got the traffic, or began a task, after a person was asked whether to go back, and it says so.
fn is_overtaken(ended: &Ended<'_>, release: &Release) -> bool {
    let Some(asked) = release.action("Approve").map(|approve| approve.started) else { return false };
    let why = release.action("Deploy").and_then(|deploy| deploy.error.as_deref()).unwrap_or_default();
    let others = || ended.releases.iter().filter(|one| one.execution != release.execution);
    why.starts_with("Another release has the traffic since this was approved: ")
        && others().filter_map(Release::deployed).any(|at| at.plus(SHOWN) > asked)
}

/// What was approved is what is done: no way back deploys over a release that got the traffic after a person was asked, and so
/// long before its own deployment that everything shows it.
pub(super) fn a_way_back_is_from_what_was_approved(ended: &Ended<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for back in ended.releases.iter().filter(|release| release.is_back && release.stays_deployed()) {
        let (Some(approve), Some(deploy)) = (back.action("Approve"), back.action("Deploy")) else { continue };
        let others = ended.releases.iter().filter(|one| one.execution != back.execution);
        let between = others.filter(|one| {
            one.deployed().is_some_and(|at| at > approve.started.plus(SHOWN) && at.plus(SHOWN) < deploy.started)
        });
        wrong.extend(
            between.map(|one| format!("{} has deployed, and {} goes back from it", one.execution, back.execution)),
        );
    }
    none("ways back from what nobody has approved", &wrong)
}

/// How late something may be shown at most.
const SHOWN: std::time::Duration = std::time::Duration::from_secs(30);

/// How long tasks that were asked to end are waited for: see `run-tasks`.
const STOPS: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// A verdict comes when all is over: when a function says that its action has failed, what it had begun is not under way any
/// more, unless it says so.
pub(super) fn a_verdict_comes_when_all_is_over(ended: &Ended<'_>) -> Result<(), String> {
    let mut early = Vec::new();
    for release in &ended.releases {
        for action in release.actions.iter().filter(|one| one.status == ActionStatus::Failed) {
            let verdict = action.error.as_deref().unwrap_or_default();
            // It may say so of what does not end, once that was waited for.
            let waited = action.updated.since(action.started) > STOPS;
            let about_task = verdict.contains(" failed in ") && !(waited && verdict.contains("Still running although"));
            if action.provider.ends_with("RunTasks") && about_task {
                let alive = ended.own_lives().filter(|(life, whose)| {
                    let own = whose.execution == release.execution && life.created <= action.updated;
                    own && verdict.starts_with(whose.task) && life.stopped.is_none_or(|at| at > action.updated)
                });
                early.extend(alive.map(|(life, _)| format!("{} failed while {life:?}", action.action)));
            }
            if action.provider.ends_with("DeployServices")
                && verdict.contains(" failed: ")
                && !["NOT ROLLED BACK", "NOT SEEN"].iter().any(|words| verdict.contains(words))
            {
                for (description, created, completed) in ended.stage.world().spans_of_deployments() {
                    let own = description.contains(&release.execution) && !description.contains(" back, key ");
                    if own && created <= action.updated && completed.is_none_or(|at| at > action.updated) {
                        early.push(format!("{} failed while {description} was under way", action.action));
                    }
                }
                let begun = action.started;
                let rollouts = ended.stage.world().rollouts();
                // Where web services went back the quick way, what has this image is what brings them back: past their traffic, it is over.
                let of_its_image = |one: &&local::world::RolloutView| one.image == release.image && one.span.0 >= begun;
                // Going back to what runs already (another release had failed), what brings the revision before back has its image, too.
                let is_first = |one: &local::world::RolloutView| {
                    let same = rollouts.iter().filter(of_its_image).filter(|other| other.service == one.service);
                    same.min_by_key(|other| other.span.0).is_some_and(|first| first.definition == one.definition)
                };
                let own = |one: &&local::world::RolloutView| {
                    !release.went_quickly()
                        && !ended.may_have_two("deploy-services")
                        && of_its_image(one)
                        && is_first(one)
                };
                for one in rollouts.iter().filter(own) {
                    if one.span.0 <= action.updated && one.span.1.is_none_or(|at| at > action.updated) {
                        early.push(format!("{} failed while {one:?} was under way", action.action));
                    }
                }
            }
        }
    }
    none("verdicts that came too early", &early)
}
