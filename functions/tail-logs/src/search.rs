//! Looking for tasks and for the end of the action that runs them, beside the reading of what is known: a look that has
//! to wait for its turn must not hold up a line.

use std::collections::{BTreeMap, BTreeSet};

use shared::aws::codepipeline::{Codepipeline, Sibling, of_the_try};
use shared::aws::ecs::{Definition, Ecs, Half, Of, Task};
use shared::job::Release;
use shared::{Aws, Error, Time};

/// What one search looks for.
pub(crate) struct Search {
    pub(crate) aws: Aws,
    pub(crate) release: Release,
    /// The id of the action's own run.
    pub(crate) run: Option<String>,
    pub(crate) task: String,
    /// Whether the action beside this one may start more tasks.
    pub(crate) runner_may_run: bool,
    pub(crate) groups: Vec<Group>,
    /// The tasks that need no second look: followed already, or somebody else's.
    pub(crate) known: BTreeSet<String>,
    pub(crate) now: Time,
}

/// Environments that can be searched with the same calls: of one place, cluster and family.
pub(crate) struct Group {
    pub(crate) ecs: Ecs,
    pub(crate) cluster: String,
    pub(crate) family: String,
    /// By their place among the sites.
    pub(crate) sites: Vec<usize>,
    /// What their tasks of this release carry.
    pub(crate) started_by: Vec<String>,
    /// The known tasks that live.
    pub(crate) living: Vec<String>,
    /// Whether each environment has one that lives: then no other is started there.
    pub(crate) all_live: bool,
}

/// Tasks, new ones with their definitions.
pub(crate) type Tasks = Vec<(Task, Option<Definition>)>;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// When the search began: everything that was so then is in it.
    pub(crate) begun: Time,
    /// The action that runs the tasks; `None` when it was not looked for.
    pub(crate) runner: Option<Result<Option<Sibling>, Error>>,
    /// For each group: its sites and its tasks.
    pub(crate) groups: Vec<(Vec<usize>, Result<Tasks, Error>)>,
}

impl Search {
    pub(crate) async fn run(self) -> Found {
        let mut found = Found { begun: self.now, runner: None, groups: Vec::new() };
        // In this order: a task that the action started before it ended is found by the search after it.
        let mut may_run = self.runner_may_run;
        if may_run {
            let runner = self.runner().await;
            may_run = runner.as_ref().is_ok_and(|beside| beside.as_ref().is_some_and(|beside| beside.is_running()));
            found.runner = Some(runner);
        }
        let groups = futures_util::future::join_all(self.groups.iter().map(|group| self.tasks(group, may_run))).await;
        found.groups = self.groups.iter().map(|group| group.sites.clone()).zip(groups).collect();
        found
    }

    /// The action of the same stage that runs the task.
    async fn runner(&self) -> Result<Option<Sibling>, Error> {
        let siblings = Codepipeline::new(&self.aws).siblings(&self.release).await?;
        let siblings = of_the_try(siblings, self.run.as_deref());
        Ok(runner(siblings, &self.task, &self.release, self.run.as_deref()))
    }

    /// The group's tasks that live, and those that are not known yet.
    async fn tasks(&self, group: &Group, may_run: bool) -> Result<Tasks, Error> {
        let mut arns = group.living.clone();
        // While a site's task lives no other is started there; what stopped before it was seen is listed apart (fact 19).
        if !group.all_live {
            let of = Of::Family(&group.family);
            let is_new = |arn: &String| !self.known.contains(arn);
            let mut found = group.ecs.list_tasks(&group.cluster, of, Half::Running).await?;
            found.retain(is_new);
            if found.is_empty() || !may_run {
                found.extend(group.ecs.list_tasks(&group.cluster, of, Half::Stopped).await?);
                found.retain(is_new);
            }
            arns.extend(found);
        }
        arns.sort();
        arns.dedup();
        let mut definitions: BTreeMap<String, Definition> = BTreeMap::new();
        let mut tasks = Vec::new();
        for task in group.ecs.describe_tasks(&group.cluster, &arns).await? {
            let is_new = !self.known.contains(&task.arn) && group.started_by.contains(&task.started_by);
            if is_new && !definitions.contains_key(&task.definition) {
                definitions.insert(task.definition.clone(), group.ecs.definition(&task.definition).await?);
            }
            let definition = definitions.get(&task.definition).filter(|_| is_new).cloned();
            tasks.push((task, definition));
        }
        Ok(tasks)
    }
}

/// The action of the same stage that runs the task: of several, that with this one's manifest. Another tail of it is none, nor is this one,
/// whatever an Invoke action's configuration calls it.
fn runner(siblings: Vec<Sibling>, task: &str, release: &Release, run: Option<&str>) -> Option<Sibling> {
    let is_own = |one: &Sibling| match run {
        Some(run) => one.id == run,
        None => release.action.as_deref() == Some(&one.action),
    };
    let manifest = siblings.iter().find(|one| is_own(one)).map(|own| own.manifest.clone());
    let of_task = |one: &Sibling| {
        one.task.as_deref() == Some(task) && release.stage.as_deref().is_none_or(|stage| one.stage == stage)
    };
    let others: Vec<_> = siblings.into_iter().filter(of_task).collect();
    let runs = |one: &&Sibling| one.runs_tasks;
    let of_own = others.iter().filter(runs).find(|one| manifest.as_ref().is_some_and(|own| *own == one.manifest));
    let found = of_own.or_else(|| others.iter().find(runs));
    // One whose function is called otherwise than the stack calls it.
    found.or_else(|| others.iter().find(|one| !is_own(one) && release.action.as_ref() != Some(&one.action))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_the_task_is_no_tail_of_it_nor_that_of_another_manifest() {
        let one = |action: &str, runs_tasks: bool, manifest: Option<&str>| Sibling {
            id: action.into(),
            stage: "Migrate".into(),
            action: action.into(),
            task: Some("migrate".into()),
            runs_tasks,
            manifest: manifest.map(str::to_owned),
            ..Sibling::default()
        };
        let all = || {
            vec![
                one("LogsEu", false, Some("eu.yaml")),
                one("Logs", false, None),
                one("Eu", true, Some("eu.yaml")),
                one("Run", true, None),
            ]
        };
        let release = |action: Option<&str>| Release {
            pipeline: "p".into(),
            execution: "e".into(),
            stage: Some("Migrate".into()),
            action: action.map(str::to_owned),
            attempt: 1,
        };
        for (action, run, expected) in [
            (Some("Logs"), Some("Logs"), "Run"),
            (Some("LogsEu"), Some("LogsEu"), "Eu"),
            // An Invoke action's configuration was copied from that of the action beside it, or says nothing.
            (Some("Run"), None, "Run"),
            (None, None, "Eu"),
        ] {
            let found = runner(all(), "migrate", &release(action), run).map(|one| one.action);
            assert_eq!(found.as_deref(), Some(expected), "{action:?} {run:?}");
        }
        let renamed = vec![one("Logs", false, None), one("Mine", false, None)];
        let found = runner(renamed, "migrate", &release(Some("Logs")), Some("Logs"));
        assert_eq!(found.map(|one| one.action).as_deref(), Some("Mine"));
        assert_eq!(runner(all(), "seed", &release(Some("Logs")), Some("Logs")), None);
    }
}
