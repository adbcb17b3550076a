//! What happens to tasks without anybody's call, and what a play's laws look at.

use shared::Time;

use super::{Task, Timer, World};

/// A task's life, as the laws look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its ARN.
    pub arn: String,
    /// Who started it.
    pub started_by: String,
    /// The service that it is of, if any.
    pub service: Option<String>,
    /// Its containers' image.
    pub image: String,
    /// When it was asked for.
    pub created: Time,
    /// When it ran.
    pub started: Option<Time>,
    /// When its end was asked for.
    pub stopping: Option<Time>,
    /// When it was over.
    pub stopped: Option<Time>,
    /// Why.
    pub stop_code: Option<&'static str>,
    /// How its container ended.
    pub exit_code: Option<i32>,
    /// Until when it protects itself.
    pub protected: Option<Time>,
}

impl Life {
    /// Whether it did what it was for (fact 21).
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.stopped.is_some() && self.stop_code == Some("EssentialContainerExited") && self.exit_code == Some(0)
    }
}

fn life(task: &Task) -> Life {
    let container = task.containers.first();
    Life {
        arn: task.arn.clone(),
        started_by: task.started_by.clone(),
        service: task.group.strip_prefix("service:").map(str::to_owned),
        image: container.map(|one| one.image.clone()).unwrap_or_default(),
        created: task.created,
        started: task.started,
        stopping: task.stopping,
        stopped: task.stopped,
        stop_code: task.stop_code,
        exit_code: container.and_then(|one| one.exit_code),
        protected: task.protected,
    }
}

impl World {
    /// The lives of all tasks that were ever started.
    #[must_use]
    pub fn lives(&self) -> Vec<Life> {
        self.tasks().map(life).collect()
    }

    /// Spot takes a task's capacity back.
    pub fn interrupt(&mut self, arn: &str, now: Time) {
        self.advance(now);
        self.stop_task(arn, "SpotInterruption", "Your Spot Task was interrupted.");
        self.remember();
    }

    /// A task protects itself from scale-in (fact 23), as its container does through its agent.
    pub fn protect_until(&mut self, arn: &str, until: Time) {
        if let Some(task) = self.ecs.tasks.get_mut(arn) {
            task.protected = Some(until);
        }
    }

    /// What answers the approval of an execution that waits.
    #[must_use]
    pub fn waiting_approval(&self, execution: &str) -> Option<String> {
        let under_way = |one: &&super::pipeline::ActionExecution| one.status == super::ActionStatus::InProgress;
        let own = self.pipeline.actions.iter().filter(|one| one.execution == execution);
        own.filter(under_way).find_map(|one| one.token.clone())
    }

    /// The action's run that a job is of.
    #[must_use]
    pub fn run_of_job(&self, job: &str) -> Option<String> {
        self.pipeline.jobs.get(job).map(|job| job.action.clone())
    }

    /// Whether a call that this world has answered is told to nobody yet: an event, a job, an invocation.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waits_for_nobody() && !self.is_deploying()
    }

    /// The same, whatever is deployed: no function is at work, nor will be asked to.
    #[must_use]
    pub fn waits_for_nobody(&self) -> bool {
        let of_release =
            |task: &String| self.ecs.tasks.get(task).is_some_and(|task| task.group.is_empty() && !task.is_over());
        let waits = |timer: &Timer| match timer {
            Timer::Deliver(_) | Timer::Job(_) | Timer::Invoke(_) => true,
            Timer::Queue(queue) => self.has_messages(queue),
            // A service whose tasks die is never idle.
            Timer::Kill(task) | Timer::Place(task) => of_release(task),
            Timer::Service(_) | Timer::Deployment(_) | Timer::Rollout(_) => false,
            Timer::Schedule(_) | Timer::Approval(_) | Timer::Clock(..) => false,
        };
        self.invocations() == 0 && !self.timers.values().any(waits)
    }
}
