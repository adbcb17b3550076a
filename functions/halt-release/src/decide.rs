//! What to take back, from what is seen: pure, total, clock-free.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::Time;
use shared::aws::codepipeline::{Sibling, facts};
use shared::targets::quick::Runs;

/// How often what was stopped is looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// How often it is looked for what is not shown yet.
pub(crate) const LOOK_SELDOM: Duration = Duration::from_secs(4);

/// How long nothing of the release must have been seen under way before it is said that nothing is. A function may begin
/// something until it sees the stop, which may be shown late; its call may still be on its way; and what it begins may be
/// shown late, too.
pub(crate) const SETTLED: Duration = shared::aws::GIVEN_UP;

/// How long after the end of an action that did not succeed something may come about that its function has begun: it sees the stop
/// late, and its call may be done late.
const LAST_MOMENTS: Duration = Duration::from_secs(60);

/// How long the execution's status may lag behind an event that says that it has ended.
const LAG: Duration = Duration::from_secs(60);

/// How long a stop may stay without effect before it is asked for again.
pub(crate) const AGAIN: Duration = Duration::from_secs(120);

/// How often it is said what is not back yet.
pub(crate) const STILL: Duration = Duration::from_secs(15 * 60);

/// How long a sweep goes on, over all of its invocations: longer than any stop or rollback takes.
pub(crate) const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Whether anything of the execution may be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is over, and did not succeed: what it left is taken back.
    Over,
    /// It goes on (a retry, or "stop and wait"), or it has succeeded: nothing of it is touched.
    LeftAlone,
    /// Its status does not tell yet.
    Unclear,
}

/// What an execution's status means, as long after the event as that.
pub(crate) fn verdict(status: &str, actions: &[Sibling], after: Duration) -> Verdict {
    let runs = actions.iter().any(|one| one.is_running());
    match status {
        "Succeeded" => Verdict::LeftAlone,
        // A retry begins with its action; until its status is shown, that tells.
        _ if runs && after < LAG => Verdict::Unclear,
        // That retry, or what runs beside a failed action to its own end (fact 15), after which there is another event.
        "Failed" if runs => Verdict::LeftAlone,
        "Failed" | "Stopped" | "Cancelled" | "Superseded" => Verdict::Over,
        // "Stop and wait", a retry, or the end is not shown yet.
        _ if after < LAG => Verdict::Unclear,
        _ => Verdict::LeftAlone,
    }
}

/// Whether an action is one of Cutover's that may have begun something.
pub(crate) fn is_own(action: &Sibling) -> bool {
    action.deploys || action.runs_tasks
}

/// Whether an action has surely read its manifest, whatever that looks like now to a newer version: it has deployed, or run its task and told how
/// long that took. A log action succeeds also where the manifest is broken.
pub(crate) fn was_read(action: &Sibling) -> bool {
    action.has_succeeded() && (action.deploys || action.variables.contains_key("Durations"))
}

/// What of a release's deployments may be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deployed {
    /// When the first of its actions that deploy began; none has without it.
    pub(crate) since: Option<Time>,
    /// When the last of them had ended, with what it may have begun in its last moments; none while one goes on.
    pub(crate) ended: Option<Time>,
    /// The deployments that are facts: their action has succeeded.
    pub(crate) facts: BTreeSet<String>,
    /// When the one action that deploys has succeeded last, where there is one alone: what it had found to run already is a fact, too.
    pub(crate) facts_until: Option<Time>,
    /// Whether such an action has succeeded: then what was released of workers is a fact, too.
    pub(crate) has_succeeded: bool,
    /// Going back, the release that ran, whose deployments such an action may have stopped.
    pub(crate) runs: Option<Runs>,
}

/// What of a release's deployments may be taken back, from its actions. Those of an action that has succeeded are facts:
/// nothing that comes after it rolls them back.
pub(crate) fn deployed(actions: &[Sibling]) -> Deployed {
    let since = actions.iter().filter(|one| one.deploys).filter_map(|one| one.started).min();
    let ended = |one: &Sibling| {
        // An action that has succeeded begins nothing after it.
        let more = if one.has_succeeded() { Duration::ZERO } else { LAST_MOMENTS };
        one.updated.filter(|_| !one.is_running()).map(|at| at.plus(more))
    };
    let ends: Option<Vec<_>> = actions.iter().filter(|one| one.deploys).map(ended).collect();
    let ended = ends.and_then(|ends| ends.into_iter().max());
    let has_succeeded = actions.iter().any(|one| one.deploys && one.has_succeeded());
    let facts = facts(actions);
    let names: BTreeSet<_> = actions.iter().filter(|one| one.deploys).map(|one| (&one.stage, &one.action)).collect();
    let succeeded = actions.iter().filter(|one| one.deploys && one.has_succeeded() && names.len() == 1);
    let facts_until = succeeded.filter_map(|one| one.updated).max();
    let runs = actions.iter().filter(|one| one.deploys).find_map(|one| Runs::read(one.quick_from.as_deref()?));
    Deployed { since, ended, facts, facts_until, has_succeeded, runs }
}

/// Leaves out what the next release has begun, whose deployments ECS tells from this one's by their image alone: a stage belongs to one
/// release at a time, so nothing of this one is begun once that one deploys.
pub(crate) fn before_the_next(deployed: Deployed, newest: &[Sibling], execution: &str) -> Deployed {
    let others = newest.iter().filter(|one| one.deploys && one.execution != execution);
    let next = others.filter_map(|one| one.started).filter(|started| Some(*started) > deployed.since).min();
    let ended = deployed.ended.map(|ended| next.map_or(ended, |next| ended.min(next)));
    Deployed { ended, ..deployed }
}

/// Whether a later release has deployed with success since this one did: what runs is that one's, also where it is the very same revision,
/// and nothing is taken back over it.
pub(crate) fn is_past(deployed: &Deployed, newest: &[Sibling], execution: &str) -> bool {
    let others = newest.iter().filter(|one| one.deploys && one.execution != execution && one.has_succeeded());
    others.filter_map(|one| one.started).any(|started| deployed.ended.is_some_and(|ended| started > ended))
}

/// How far a task came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Came {
    /// It was stopped, or failed.
    #[default]
    Nowhere,
    /// It ended by itself with 0, after it was asked to end: whether it has done all of its work, its lines tell.
    ToAnEnd,
    /// It was done.
    ToItsEnd,
}

/// Where the release's tasks were done, by task and environment, as the actions say that ran them: they are remembered for
/// longer than ECS shows what has ended.
pub(crate) fn done(actions: &[Sibling]) -> BTreeMap<(String, String), Came> {
    let succeeded = actions.iter().filter(|one| one.has_succeeded());
    let said = succeeded.filter_map(|one| Some((one.variables.get("Task")?, one.variables.get("Durations")?)));
    let each = said.flat_map(|(task, durations)| {
        let environments = durations.split(", ").filter_map(|one| one.split_once('='));
        environments.map(move |(environment, _)| ((task.clone(), environment.to_owned()), Came::ToItsEnd))
    });
    each.collect()
}

/// Whether something that was begun at `created` is of the try that is over, as it was seen at `seen`: what is begun later
/// is of a retry.
pub(crate) fn is_of_this_try(created: Option<Time>, seen: Time) -> bool {
    created.is_none_or(|created| created <= seen)
}

#[cfg(test)]
mod tests {
    use shared::aws::codepipeline::ActionStatus;

    use super::*;

    #[test]
    fn only_what_has_deployed_or_run_its_task_has_surely_read_its_manifest() {
        let (succeeded, failed) = (ActionStatus::Succeeded, ActionStatus::Failed);
        let told = std::collections::BTreeMap::from([("Durations".to_owned(), "us=1".to_owned())]);
        for (what, action, expected) in [
            ("a deployment", Sibling { status: succeeded, deploys: true, ..Sibling::default() }, true),
            ("one that failed", Sibling { status: failed, deploys: true, ..Sibling::default() }, false),
            (
                "a task",
                Sibling { status: succeeded, task: Some("migrate".into()), variables: told, ..Sibling::default() },
                true,
            ),
            ("its log", Sibling { status: succeeded, task: Some("migrate".into()), ..Sibling::default() }, false),
        ] {
            assert_eq!(was_read(&action), expected, "{what}");
        }
    }

    #[test]
    fn only_what_is_over_and_has_not_succeeded_is_taken_back() {
        let soon = Duration::from_secs(1);
        let late = Duration::from_secs(61);
        let runs = |running| {
            vec![Sibling {
                status: if running { ActionStatus::InProgress } else { ActionStatus::Unknown },
                ..Sibling::default()
            }]
        };
        for (status, running, after, expected) in [
            ("Stopped", false, soon, Verdict::Over),
            ("Failed", false, soon, Verdict::Over),
            ("Cancelled", false, soon, Verdict::Over),
            ("Superseded", false, soon, Verdict::Over),
            ("Succeeded", false, soon, Verdict::LeftAlone),
            ("Failed", true, soon, Verdict::Unclear),
            ("Failed", true, late, Verdict::LeftAlone),
            ("Stopped", true, late, Verdict::Over),
            ("InProgress", true, soon, Verdict::Unclear),
            ("InProgress", true, late, Verdict::LeftAlone),
            ("Stopping", true, late, Verdict::LeftAlone),
        ] {
            assert_eq!(verdict(status, &runs(running), after), expected, "{status} {running} {after:?}");
        }
    }

    #[test]
    fn a_deployment_whose_action_has_succeeded_is_a_fact() {
        let action = |succeeded, ids: &str| Sibling {
            status: if succeeded { ActionStatus::Succeeded } else { ActionStatus::Abandoned },
            variables: [("Deployments".to_owned(), ids.to_owned())].into(),
            ..Sibling::default()
        };
        let found = deployed(&[action(true, "d-1,d-2"), action(false, "d-3"), Sibling::default()]);
        let facts = ["d-1", "d-2"].map(str::to_owned).into();
        assert_eq!(
            found,
            Deployed { since: None, ended: None, facts, facts_until: None, has_succeeded: false, runs: None }
        );
        assert!(deployed(&[Sibling { deploys: true, ..action(true, "") }]).has_succeeded);
        let deploys = |at| Sibling { deploys: true, started: Some(Time::from_millis(at)), ..action(false, "") };
        assert_eq!(deployed(&[deploys(7), deploys(5), action(false, "")]).since, Some(Time::from_millis(5)));
        // What another release begins later is not this one's, although it may have this one's image.
        let at = |millis| Some(Time::from_millis(millis));
        let ended = |succeeded, updated| Sibling { deploys: true, updated, ..action(succeeded, "") };
        assert_eq!(deployed(&[ended(false, at(1_000)), ended(true, at(62_000))]).ended, at(62_000));
        assert_eq!(deployed(&[ended(false, at(5_000)), ended(true, at(62_000))]).ended, at(65_000));
        assert_eq!(deployed(&[ended(true, at(5_000)), ended(false, None)]).ended, None, "one goes on");
        let goes_back = Sibling { quick_from: Some("cutover-pipeline 5f0e 7".into()), ..deploys(9) };
        assert_eq!(deployed(&[action(true, ""), goes_back]).runs.unwrap().execution, "5f0e");
    }

    #[test]
    fn what_the_next_release_deploys_is_not_this_ones() {
        let at = |seconds: u64| Some(Time::from_millis(seconds * 1000));
        let own = || Deployed { since: at(100), ended: at(260), ..deployed(&[]) };
        let deploys = |execution: &str, started| Sibling {
            execution: execution.into(),
            deploys: true,
            started,
            ..Sibling::default()
        };
        for (newest, ended) in [
            (vec![deploys("own", at(150))], at(260)),
            (vec![deploys("before", at(90)), deploys("own", at(100))], at(260)),
            (vec![deploys("next", at(205)), deploys("own", at(100))], at(205)),
            (vec![deploys("after it", at(240)), deploys("next", at(205))], at(205)),
            (vec![deploys("much later", at(900))], at(260)),
            (vec![Sibling { deploys: false, ..deploys("next", at(205)) }], at(260)),
        ] {
            assert_eq!(before_the_next(own(), &newest, "own").ended, ended, "{newest:?}");
        }
        let goes_on = Deployed { ended: None, ..own() };
        assert_eq!(before_the_next(goes_on.clone(), &[deploys("next", at(205))], "own").ended, None);
        // One that has succeeded since has all that runs.
        let good =
            |execution: &str, started| Sibling { status: ActionStatus::Succeeded, ..deploys(execution, started) };
        for (newest, of, expected) in [
            (good("much later", at(900)), own(), true),
            (deploys("much later", at(900)), own(), false),
            (good("before", at(90)), own(), false),
            (good("next", at(205)), own(), false),
            (good("own", at(900)), own(), false),
            (good("much later", at(900)), goes_on, false),
            (good("much later", at(900)), deployed(&[]), false),
        ] {
            assert_eq!(is_past(&of, std::slice::from_ref(&newest), "own"), expected, "{newest:?}");
        }
    }

    #[test]
    fn where_a_task_was_done_its_action_says_when_it_has_succeeded() {
        let action = |status, task: &str, durations: &str| Sibling {
            status,
            variables: [("Task", task), ("Durations", durations)]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            ..Sibling::default()
        };
        let actions = [
            action(ActionStatus::Succeeded, "migrate", "us=12, eu=9"),
            action(ActionStatus::Failed, "finish", "us=1"),
            Sibling { status: ActionStatus::Succeeded, task: Some("migrate".into()), ..Sibling::default() },
        ];
        let expected = ["eu", "us"].map(|environment| (("migrate".to_owned(), environment.to_owned()), Came::ToItsEnd));
        assert_eq!(done(&actions), expected.into());
    }

    #[test]
    fn what_is_begun_after_the_look_is_of_a_retry() {
        let at = Time::from_millis;
        assert!(is_of_this_try(Some(at(5)), at(5)) && is_of_this_try(None, at(5)));
        assert!(!is_of_this_try(Some(at(6)), at(5)));
    }
}
