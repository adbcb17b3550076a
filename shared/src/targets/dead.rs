//! The tasks of a target's new version that have died, and why.

use crate::aws::Aws;
use crate::aws::Place;
use crate::aws::ecs::{Definition, Task};
use crate::end::{End, judge};
use crate::error::Error;
use crate::targets::site::Site;
use crate::time::Time;

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

    /// Those that have died of the version: not those whose machine AWS has taken from them.
    pub fn own(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.was_taken_away())
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
