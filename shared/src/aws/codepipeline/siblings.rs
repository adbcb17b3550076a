//! The actions of a release, as `ListActionExecutions` shows them: run after run.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_codepipeline::types::{ActionExecutionDetail, ActionExecutionStatus, ArtifactDetail};
use serde_json::Value;

use crate::aws::GIVEN_UP;
use crate::job::{ArtifactLocation, Release};
use crate::time::Time;
use crate::token::Tries;

/// How the provider of `deploy-services`' action type ends, and what its function's name contains: as the stack names them.
const DEPLOYS: (&str, &str) = ("-DeployServices", "-deploy-services");

/// The same of `run-tasks`.
const RUNS_TASKS: (&str, &str) = ("-RunTasks", "-run-tasks");

/// An action of the same release, as `ListActionExecutions` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sibling {
    /// The execution that it is of.
    pub execution: String,
    /// Its stage.
    pub stage: String,
    /// Its name.
    pub action: String,
    /// The manifest's task that it runs or tails, where its configuration names one.
    pub task: Option<String>,
    /// Whether it is an action of `deploy-services`.
    pub deploys: bool,
    /// Whether it is one of `run-tasks`.
    pub runs_tasks: bool,
    /// Its category, such as `Approval`.
    pub category: String,
    /// Where its input artifacts are.
    pub artifacts: Vec<ArtifactLocation>,
    /// Its output variables.
    pub variables: BTreeMap<String, String>,
    /// The manifest's name that its configuration gives, if it gives one.
    pub manifest: Option<String>,
    /// The release whose deployments it stops instead of beginning its own, where its configuration says which runs.
    pub quick_from: Option<String>,
    /// What an approval tells the person who is asked: the text, and the link.
    pub asks: (Option<String>, Option<String>),
    /// What it said last.
    pub summary: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Who changed it last, such as the person who answered an approval.
    pub updated_by: Option<String>,
    /// When it changed last.
    pub updated: Option<Time>,
    /// The id of this run of it.
    pub id: String,
    /// How this run of it stands.
    pub status: ActionStatus,
    /// When this run of it began.
    pub started: Option<Time>,
}

/// How a run of an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActionStatus {
    /// It is under way.
    InProgress,
    /// It has succeeded.
    Succeeded,
    /// It has failed.
    Failed,
    /// A person stopped the release, and nobody waits for it any more (fact 11).
    Abandoned,
    /// CodePipeline says something that this version of Cutover does not know.
    #[default]
    Unknown,
}

impl From<Option<&ActionExecutionStatus>> for ActionStatus {
    fn from(seen: Option<&ActionExecutionStatus>) -> Self {
        match seen {
            Some(ActionExecutionStatus::InProgress) => Self::InProgress,
            Some(ActionExecutionStatus::Succeeded) => Self::Succeeded,
            Some(ActionExecutionStatus::Failed) => Self::Failed,
            Some(ActionExecutionStatus::Abandoned) => Self::Abandoned,
            Some(_) | None => Self::Unknown,
        }
    }
}

impl Sibling {
    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == ActionStatus::InProgress
    }

    /// Whether it has succeeded.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.status == ActionStatus::Succeeded
    }

    /// When it ended, if it has.
    fn ended(&self) -> Option<Time> {
        match self.status {
            ActionStatus::Succeeded | ActionStatus::Failed | ActionStatus::Abandoned => self.updated,
            ActionStatus::InProgress | ActionStatus::Unknown => None,
        }
    }

    /// Whether it has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.status == ActionStatus::Failed
    }
}

pub(super) fn sibling(detail: &ActionExecutionDetail) -> Sibling {
    let input = detail.input();
    let configuration = input.and_then(|input| input.configuration());
    let parameter = |name: &str| configuration.and_then(|all| parameter_of(|name| all.get(name), name));
    let resolved = |name: &str| input.and_then(|input| input.resolved_configuration())?.get(name).cloned();
    let is_of = |(provider, function): (&str, &str)| {
        input.and_then(|input| input.action_type_id()).is_some_and(|kind| kind.provider().ends_with(provider))
            || configuration.and_then(|all| all.get("FunctionName")).is_some_and(|name| name.contains(function))
    };
    let artifact = |one: &ArtifactDetail| {
        let location = one.s3_location()?;
        Some(ArtifactLocation {
            name: one.name().unwrap_or_default().to_owned(),
            bucket: location.bucket()?.to_owned(),
            key: location.key()?.to_owned(),
        })
    };
    let result = detail.output().and_then(|output| output.execution_result());
    let variables = detail.output().and_then(|output| output.output_variables()).into_iter().flatten();
    Sibling {
        execution: detail.pipeline_execution_id().unwrap_or_default().to_owned(),
        stage: detail.stage_name().unwrap_or_default().to_owned(),
        action: detail.action_name().unwrap_or_default().to_owned(),
        task: parameter("Task"),
        deploys: is_of(DEPLOYS),
        runs_tasks: is_of(RUNS_TASKS),
        category: input
            .and_then(|input| input.action_type_id())
            .map(|kind| kind.category().as_str().to_owned())
            .unwrap_or_default(),
        artifacts: input.map(|input| input.input_artifacts().iter().filter_map(artifact).collect()).unwrap_or_default(),
        variables: variables.map(|(name, value)| (name.clone(), value.clone())).collect(),
        manifest: parameter("Manifest"),
        quick_from: resolved("QuickFrom"),
        asks: (resolved("CustomData"), resolved("ExternalEntityLink")),
        summary: result.and_then(|result| result.external_execution_summary()).map(str::to_owned),
        error: result.and_then(|result| result.error_details()?.message()).map(str::to_owned),
        updated_by: detail.updated_by().map(str::to_owned),
        updated: detail.last_update_time().copied().map(Time::from),
        id: detail.action_execution_id().unwrap_or_default().to_owned(),
        status: ActionStatus::from(detail.status()),
        started: detail.start_time().copied().map(Time::from),
    }
}

/// The run of the action itself: the newest of its name, where its id is not known (fact 2).
pub(super) fn own_run<'a>(siblings: &'a [Sibling], release: &Release, run: Option<&str>) -> Option<&'a Sibling> {
    let is_own = |one: &&Sibling| match run {
        Some(id) => one.id == id,
        None => release.stage.as_ref() == Some(&one.stage) && release.action.as_ref() == Some(&one.action),
    };
    siblings.iter().filter(is_own).max_by_key(|one| one.started)
}

/// Whether the action was begun again after this run of it.
pub(super) fn was_begun_again(siblings: &[Sibling], own: &Sibling) -> bool {
    siblings.iter().any(|one| one.stage == own.stage && one.action == own.action && one.started > own.started)
}

/// Whether the run of the action itself is among these: by its id, or, where that is not known, one that runs (fact 2).
pub(super) fn is_listed(siblings: &[Sibling], release: &Release, run: Option<&str>) -> bool {
    if let Some(run) = run {
        return siblings.iter().any(|one| one.id == run);
    }
    let (Some(stage), Some(action)) = (&release.stage, &release.action) else { return true };
    siblings.iter().any(|one| one.is_running() && one.stage == *stage && one.action == *action)
}

/// The actions of an action's own try: without what began after its own run had ended, which is of a later one.
///
/// A function that Lambda brings again after its answer (a tail that still counts) asks when the stage may have been tried again
/// already. Without the run's id, what runs now is taken for it.
#[must_use]
pub fn of_the_try(mut siblings: Vec<Sibling>, run: Option<&str>) -> Vec<Sibling> {
    let own = run.and_then(|run| siblings.iter().find(|one| one.id == run));
    if let Some(ended) = own.and_then(Sibling::ended) {
        siblings.retain(|one| one.started <= Some(ended));
    }
    siblings
}

/// The deployments that are facts: the action that began them has succeeded, so nothing that comes after it takes them back.
#[must_use]
pub fn facts(siblings: &[Sibling]) -> BTreeSet<String> {
    let succeeded = siblings.iter().filter(|one| one.has_succeeded());
    let ids = succeeded.filter_map(|one| one.variables.get("Deployments"));
    ids.flat_map(|ids| ids.split(',').map(str::to_owned)).collect()
}

/// How often the release was tried, from its actions: each retry of a stage runs some of them once more.
#[must_use]
pub fn tries(siblings: &[Sibling], release: &Release) -> Tries {
    let mut runs: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for one in siblings {
        *runs.entry(&one.stage).or_default().entry(&one.action).or_default() += 1;
    }
    let retries = |actions: &BTreeMap<&str, u32>| actions.values().max().map_or(0, |most| most - 1);
    let own = siblings
        .iter()
        .filter(|one| release.stage.as_ref() == Some(&one.stage) && release.action.as_ref() == Some(&one.action));
    let own: Vec<_> = own.collect();
    let before = if own.len() > 1 { own.iter().filter_map(|one| one.started).min() } else { None };
    let started = own.iter().filter_map(|one| one.started).max();
    // That it was given up may be shown late. What has failed begins nothing any more; what it may have left running is being stopped, which
    // begins with the end of its stage: its log action may have gone on.
    let last = own.iter().filter(|one| one.started < started).filter_map(|one| one.updated).max();
    let beside = siblings.iter().filter(|one| release.stage.as_ref() == Some(&one.stage) && one.started <= last);
    let stage_ended = beside.filter_map(|one| one.updated.filter(|at| Some(*at) <= started)).max();
    let has_settled = |one: &Sibling| {
        let since = started.zip(one.updated.max(stage_ended)).map(|(started, ended)| started.since(ended));
        one.has_succeeded() || (one.has_failed() && since.is_some_and(|since| since >= GIVEN_UP))
    };
    let given_up = own.iter().any(|one| one.started < started && !has_settled(one));
    Tries { attempt: 1 + runs.values().map(retries).sum::<u32>(), before, started, given_up }
}

/// What is known of the runs of this action in other releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// One is still shown to run. A stage belongs to one release at a time (fact 11), so how it has ended is not shown yet.
    Ending,
    /// The last one that was given up was so then; the time's begin where none was.
    GivenUp(Time),
}

/// What is known of this action's runs in other releases, from the pipeline's newest actions.
#[must_use]
pub fn others(newest: &[Sibling], release: &Release) -> Others {
    let is_same =
        |one: &&Sibling| release.stage.as_ref() == Some(&one.stage) && release.action.as_ref() == Some(&one.action);
    let others = newest.iter().filter(is_same).filter(|one| one.execution != release.execution);
    if others.clone().any(Sibling::is_running) {
        return Others::Ending;
    }
    let given_up = others.filter(|one| one.status == ActionStatus::Abandoned).filter_map(|one| one.updated);
    Others::GivenUp(given_up.max().unwrap_or_default())
}

/// A parameter of an action's configuration: its own property, or one inside `UserParameters`.
pub(super) fn parameter_of<'a>(property: impl Fn(&str) -> Option<&'a String>, name: &str) -> Option<String> {
    property(name).cloned().or_else(|| {
        let parameters: Value = serde_json::from_str(property("UserParameters")?).ok()?;
        Some(parameters.get(name)?.as_str()?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_retry_of_a_stage_is_another_try_of_the_release() {
        let release = Release {
            pipeline: "shop".into(),
            execution: "e-1".into(),
            stage: Some("Migrate".into()),
            action: Some("Migrate".into()),
            attempt: 1,
        };
        let run = |stage: &str, action: &str, at: u64, running: bool| Sibling {
            stage: stage.into(),
            action: action.into(),
            status: if running { ActionStatus::InProgress } else { ActionStatus::Failed },
            started: Some(Time::from_millis(at)),
            updated: Some(Time::from_millis(at)),
            ..Sibling::default()
        };
        let first =
            vec![run("Migrate", "Migrate", 5, true), run("Migrate", "Logs", 5, true), run("Build", "Build", 1, false)];
        assert_eq!(
            tries(&first, &release),
            Tries { attempt: 1, before: None, started: Some(Time::from_millis(5)), given_up: false }
        );
        assert!(is_listed(&first, &release, None));
        assert!(!is_listed(&first, &release, Some("the next run")), "what runs is the run before");
        let again = [
            vec![run("Migrate", "Migrate", 9, true), run("Build", "Build", 3, false)],
            first[1..].to_vec(),
            vec![run("Migrate", "Migrate", 5, false)],
        ]
        .concat();
        assert_eq!(
            tries(&again, &release),
            Tries {
                attempt: 3,
                before: Some(Time::from_millis(5)),
                started: Some(Time::from_millis(9)),
                given_up: true
            },
            "the run before has only just failed"
        );
        assert!(!is_listed(&again[1..], &release, None), "its own run does not show yet");
        let (soon, late) = (9_000, 5 + u64::try_from(GIVEN_UP.as_millis()).unwrap());
        for (status, again, given_up) in [
            (ActionStatus::Abandoned, late, true),
            (ActionStatus::InProgress, late, true),
            (ActionStatus::Unknown, late, true),
            (ActionStatus::Failed, soon, true),
            (ActionStatus::Failed, late, false),
            (ActionStatus::Succeeded, soon, false),
        ] {
            let before = Sibling { status, ..run("Migrate", "Migrate", 5, false) };
            let both = [run("Migrate", "Migrate", again, true), before];
            assert_eq!(tries(&both, &release).given_up, given_up, "{status:?} {again}");
            // What its retry runs beside it says nothing of the end of the stage before, and what ran beside the run before does.
            let logs =
                |at, ended| Sibling { updated: Some(Time::from_millis(ended)), ..run("Migrate", "Logs", at, false) };
            let beside = [both.to_vec(), vec![logs(again - 1, again - 1)]].concat();
            assert_eq!(tries(&beside, &release).given_up, given_up, "{status:?} {again}");
            let longer = [both.to_vec(), vec![logs(5, again - 1)]].concat();
            let has_failed = status == ActionStatus::Failed;
            assert_eq!(tries(&longer, &release).given_up, given_up || has_failed, "{status:?} {again}");
        }
    }

    #[test]
    fn of_other_releases_runs_of_the_action_it_is_known_when_the_last_one_was_given_up() {
        let release = Release {
            pipeline: "shop".into(),
            execution: "e-2".into(),
            stage: Some("Migrate".into()),
            action: Some("Migrate".into()),
            attempt: 1,
        };
        let run = |execution: &str, action: &str, status, updated| Sibling {
            execution: execution.into(),
            stage: "Migrate".into(),
            action: action.into(),
            status,
            updated: Some(Time::from_millis(updated)),
            ..Sibling::default()
        };
        let own = run("e-2", "Migrate", ActionStatus::InProgress, 90);
        let given_up_at = |at| Others::GivenUp(Time::from_millis(at));
        for (other, expected) in [
            (run("e-1", "Migrate", ActionStatus::Abandoned, 80), given_up_at(80)),
            (run("e-1", "Migrate", ActionStatus::InProgress, 70), Others::Ending),
            (run("e-1", "Migrate", ActionStatus::Failed, 80), given_up_at(0)),
            (run("e-1", "Migrate", ActionStatus::Succeeded, 80), given_up_at(0)),
            (run("e-1", "Logs", ActionStatus::Abandoned, 80), given_up_at(0)),
            (run("e-2", "Migrate", ActionStatus::Abandoned, 80), given_up_at(0)),
        ] {
            let older = run("e-0", "Migrate", ActionStatus::Succeeded, 5);
            assert_eq!(others(&[own.clone(), other.clone(), older], &release), expected, "{other:?}");
        }
    }

    #[test]
    fn a_run_that_has_ended_counts_nothing_that_began_afterwards() {
        let release = Release {
            pipeline: "shop".into(),
            execution: "e-1".into(),
            stage: Some("Migrate".into()),
            action: Some("Logs".into()),
            attempt: 1,
        };
        let run = |id: &str, action: &str, at: u64, status: ActionStatus| Sibling {
            stage: "Migrate".into(),
            action: action.into(),
            id: id.into(),
            status,
            started: Some(Time::from_millis(at)),
            updated: Some(Time::from_millis(at + 10)),
            ..Sibling::default()
        };
        // The task fails, its log has been answered for, and somebody retries both.
        let all = |first: ActionStatus| {
            [
                run("l-1", "Logs", 5, first),
                run("t-1", "Migrate", 5, ActionStatus::Failed),
                run("t-2", "Migrate", 100, ActionStatus::InProgress),
                run("l-2", "Logs", 101, ActionStatus::InProgress),
            ]
        };
        let of = |first, run| tries(&of_the_try(all(first).into(), Some(run)), &release);
        let time = |at| Some(Time::from_millis(at));
        for ended in [ActionStatus::Succeeded, ActionStatus::Failed, ActionStatus::Abandoned] {
            let first = of(ended, "l-1");
            assert_eq!((first.attempt, first.started, first.before), (1, time(5), None), "{ended:?}");
            let second = of(ended, "l-2");
            assert_eq!((second.attempt, second.started, second.before), (2, time(101), time(5)), "{ended:?}");
        }
        // What is still shown as running has no end to go by.
        assert_eq!(of(ActionStatus::InProgress, "l-1").attempt, 2);
    }
}
