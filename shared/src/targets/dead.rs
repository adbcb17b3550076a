//! The tasks of a target's new version that have died, and why.

use std::time::Duration;

use crate::aws::Aws;
use crate::aws::Place;
use crate::aws::ecs::{Definition, Task};
use crate::end::{End, judge};
use crate::error::Error;
use crate::targets::site::Site;
use crate::time::Time;

/// How long a task that ends well must have run for that to be no sign of a bad version.
const SERVED: Duration = Duration::from_secs(60);

/// A task that took longer than this to start has waited for room.
const LONGEST_START: Duration = Duration::from_secs(120);

/// How many of a dead container's last lines a verdict shows.
const LAST_LINES: i32 = 20;

/// What is known of them.
#[derive(Debug, Clone, Default)]
pub struct Dead {
    /// The tasks, those first that died first.
    pub tasks: Vec<Task>,
    /// What they ran.
    definition: Option<Definition>,
    /// Why their target group found them ill.
    pub ill: Option<String>,
    /// When they were looked for last.
    pub(super) read: Time,
    /// When they were seen last.
    pub(super) seen: Time,
}

impl Dead {
    /// Takes up those that have died, and the definition that they ran.
    ///
    /// # Errors
    /// The calls'.
    pub(super) async fn take(&mut self, site: &Site, mut tasks: Vec<Task>) -> Result<(), Error> {
        tasks.retain(Task::is_over);
        tasks.sort_by_key(|task| task.stopped);
        if self.definition.is_none()
            && let Some(task) = tasks.first()
        {
            self.definition = Some(site.ecs.definition(&task.definition).await?);
        }
        let is_ill = |task: &Task| task.stopped_reason.as_deref().is_some_and(|why| why.contains("ELB health checks"));
        if self.ill.is_none() && tasks.iter().any(is_ill) {
            let names = [site.ecs_service.clone()];
            let found = site.ecs.services(site.cluster(), &names).await?;
            self.ill = found.get(&site.ecs_service).and_then(|service| service.ill.clone());
        }
        self.tasks = tasks;
        Ok(())
    }

    /// Those that have died of the version: not those whose machine AWS has taken from them, nor those that have ended well.
    pub fn own(&self) -> impl Iterator<Item = &Task> {
        self.ended_badly().filter(|task| !task.was_taken_away())
    }

    /// When those may run that come in the place of the last of them, or of those whose machine was taken from them: they take as long to
    /// start.
    pub(super) fn replaced(&self) -> Option<Time> {
        let took = |task: &Task| task.created.zip(task.started).map(|(created, started)| started.since(created));
        let replaced = |task: &Task| Some(task.stopped?.plus(took(task).unwrap_or_default().min(LONGEST_START)));
        self.ended_badly().filter_map(replaced).max()
    }

    fn ended_badly(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !self.has_served(task))
    }

    /// Whether it ended well after it had run for a while, as workers do that live for so long or for so many jobs. One that ends at its start
    /// has not, whatever its exit code.
    fn has_served(&self, task: &Task) -> bool {
        let lived = task.started.zip(task.stopped).map(|(started, stopped)| stopped.since(started));
        let ends_well = self.definition.as_ref().is_some_and(|definition| judge(task, definition) == End::Succeeded);
        ends_well && lived.is_some_and(|lived| lived >= SERVED)
    }

    /// How the first of them ended.
    #[must_use]
    pub fn first_end(&self) -> Option<End> {
        Some(judge(self.own().next()?, self.definition.as_ref()?))
    }

    /// The last lines of the container that failed first; none when they cannot be read: a verdict without them is better
    /// than none.
    pub async fn last_lines(&self, aws: &Aws, site: &Site) -> Vec<String> {
        let (Some(task), Some(definition)) = (self.own().next(), &self.definition) else { return Vec::new() };
        let End::Failed { container: Some(container), .. } = judge(task, definition) else { return Vec::new() };
        let Some(source) = definition.logs(&container) else { return Vec::new() };
        let place = Place { region: source.region.clone(), role: site.environment.role.clone() };
        let logs = aws.logs(&place).await;
        logs.last_lines(&source.group, &source.stream(&container, task.id()), LAST_LINES).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::ecs::{Container, ContainerDefinition};

    #[test]
    fn a_task_that_ends_well_after_it_has_run_for_a_while_has_not_died_of_its_version() {
        let one = |seconds: u64, code, stop_code: &str| Task {
            last_status: "STOPPED".into(),
            stop_code: Some(stop_code.into()),
            started: Some(Time::from_millis(1000)),
            stopped: Some(Time::from_millis(1000 + seconds * 1000)),
            containers: vec![Container { name: "app".into(), exit_code: Some(code), reason: None }],
            ..Task::default()
        };
        let exited = "EssentialContainerExited";
        for (task, own, shakes) in [
            (one(60, 0, exited), false, false),
            (one(59, 0, exited), true, true),
            (one(3600, 1, exited), true, true),
            (one(3600, 143, "SpotInterruption"), false, true),
        ] {
            let container = ContainerDefinition { name: "app".into(), essential: true, ..Default::default() };
            let definition = Definition { arn: "arn".into(), containers: vec![container], roles: Vec::new() };
            let dead = Dead { tasks: vec![task.clone()], definition: Some(definition), ..Dead::default() };
            assert_eq!((dead.own().count() == 1, dead.replaced().is_some()), (own, shakes), "{task:?}");
        }
    }
}
