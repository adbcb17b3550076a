//! Whether a service's tasks are healthy: what their target group and their container's own `healthCheck` find, and what ECS
//! does about one that is not.
//!
//! Invariant: a task counts only while everybody who asks finds it healthy; one that stays ill after its grace period is
//! stopped and replaced, as ECS does.

use std::time::Duration;

use serde_json::Value;

use super::ecs::Task;
use super::{Effect, World};
use crate::account::HealthCheck;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prober {
    /// The load balancer's target group.
    TargetGroup,
    /// The own `healthCheck` of the container of this name.
    Container(String),
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ill {
    /// What was done and what came back, such as `GET /up answered 500`.
    pub what: String,
    /// The HTTP status, when there was one.
    pub code: Option<u16>,
    /// The first line of the answer's body, or of the command's output.
    pub said: String,
}

/// A container's `healthCheck`, as task definitions have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCheck {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// How often.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// How many failures in a row make the container unhealthy.
    pub retries: u32,
    /// For how long after its start failures do not count.
    pub start_period: Duration,
}

/// What one who asks has found so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Not asked yet, or failing since the start: so many times.
    Initial(u32),
    /// Healthy, but for the last so many times.
    Healthy(u32),
    /// Was healthy, is not any more, but for the last so many times.
    Unhealthy(u32),
}

impl ContainerCheck {
    /// From a container's definition; with ECS's own defaults.
    pub(super) fn of(defined: &Value) -> Option<Self> {
        let check = defined.get("healthCheck")?;
        let words: Vec<_> = check.get("command")?.as_array()?.iter().filter_map(Value::as_str).collect();
        let command: Vec<&str> = match words.as_slice() {
            ["NONE", ..] => return None,
            ["CMD", command @ ..] => command.to_vec(),
            ["CMD-SHELL", line] | [line] => vec!["/bin/sh", "-c", line],
            _ => return None,
        };
        let number = |name: &str, otherwise: u64| check.get(name).and_then(Value::as_u64).unwrap_or(otherwise);
        Some(Self {
            command: command.into_iter().map(str::to_owned).collect(),
            interval: Duration::from_secs(number("interval", 30)),
            timeout: Duration::from_secs(number("timeout", 5)),
            retries: u32::try_from(number("retries", 3)).unwrap_or(3),
            start_period: Duration::from_secs(number("startPeriod", 0)),
        })
    }
}

impl Health {
    /// After one more answer. A target that was never healthy needs a single good one.
    fn after(self, good: bool, healthy: u32, unhealthy: u32) -> Self {
        match (self, good) {
            (Self::Initial(_) | Self::Healthy(_), true) => Self::Healthy(0),
            (Self::Initial(failures), false) => Self::Initial(failures + 1),
            (Self::Healthy(failures), false) if failures + 1 >= unhealthy => Self::Unhealthy(0),
            (Self::Healthy(failures), false) => Self::Healthy(failures + 1),
            (Self::Unhealthy(successes), true) if successes + 1 >= healthy => Self::Healthy(0),
            (Self::Unhealthy(successes), true) => Self::Unhealthy(successes + 1),
            (Self::Unhealthy(_), false) => Self::Unhealthy(0),
        }
    }

    fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy(_))
    }
}

impl Task {
    /// Whether everybody who asks finds it healthy; nobody asks a worker that has neither port nor check.
    pub(super) fn is_healthy(&self) -> bool {
        let runs = self.last_status == "RUNNING" && self.desired_status == "RUNNING";
        let own = self.containers.iter().filter(|one| one.essential).filter_map(|one| one.health);
        runs && self.target.into_iter().chain(own).all(Health::is_healthy)
    }
}

impl Task {
    /// Whether a task is as ill as whoever has asked finds it: what a container is that it can do without says nothing of it.
    fn is_concerned(&self, by: &Prober) -> bool {
        match by {
            Prober::TargetGroup => true,
            Prober::Container(name) => self.containers.iter().any(|one| one.name == *name && one.essential),
        }
    }
}

impl World {
    /// Somebody has asked a task.
    pub(super) fn checked(&mut self, arn: &str, by: Prober, answer: Result<(), Ill>) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get(arn).filter(|task| task.desired_status == "RUNNING").cloned() else {
            return;
        };
        let Some(limits) = self.limits(&task, &by) else { return };
        let before = match &by {
            Prober::TargetGroup => task.target,
            Prober::Container(name) => task.containers.iter().find(|one| one.name == *name).and_then(|one| one.health),
        };
        let Some(before) = before else { return };
        let after = before.after(answer.is_ok(), limits.healthy, limits.unhealthy);
        let is_in_grace = task.started.is_none_or(|started| now.since(started) < limits.grace);
        let is_ill = match after {
            Health::Initial(failures) => failures >= limits.unhealthy && !is_in_grace,
            Health::Unhealthy(_) => true,
            Health::Healthy(_) => false,
        };
        if let Some(task) = self.ecs.tasks.get_mut(arn) {
            match &by {
                Prober::TargetGroup => task.target = Some(after),
                Prober::Container(name) => {
                    for one in task.containers.iter_mut().filter(|one| one.name == *name) {
                        one.health = Some(after);
                    }
                }
            }
            task.failed_checks = if answer.is_ok() { 0 } else { task.failed_checks + 1 };
        }
        if let Err(ill) = &answer {
            self.note_ill(&task, ill);
        }
        match answer {
            Err(ill) if is_ill && task.is_concerned(&by) => self.give_up(&task, &by, &ill),
            _ if before.is_healthy() != after.is_healthy() => self.service_changed(&task),
            _ => {}
        }
    }

    fn note_ill(&mut self, task: &Task, ill: &Ill) {
        if let Some(service) = self.service_of(task).and_then(|arn| self.ecs.services.get_mut(&arn)) {
            service.unhealthy = Some(describe(ill));
        }
    }

    /// ECS stops a task that stays ill, and starts another one in its place.
    fn give_up(&mut self, task: &Task, by: &Prober, ill: &Ill) {
        let Some(arn) = self.service_of(task) else { return };
        let Some(name) = self.ecs.services.get(&arn).map(|service| service.name.clone()) else { return };
        let times = self.ecs.tasks.get(&task.arn).map_or(0, |task| task.failed_checks);
        self.effects.push(Effect::Note(format!(
            "{} {name}: {} ({times} times){}",
            task.scope.1,
            ill.what,
            if ill.said.is_empty() { String::new() } else { format!(": {}", ill.said) }
        )));
        let reason = match by {
            Prober::TargetGroup => {
                let group =
                    format!("arn:aws:elasticloadbalancing:{}:{}:targetgroup/{name}/1", task.scope.1, task.scope.0);
                let because = match ill.code {
                    Some(code) => format!("Health checks failed with these codes: [{code}]"),
                    None => "Request timed out".to_owned(),
                };
                let event = format!(
                    "(service {name}) (port {}) is unhealthy in (target-group {group}) due to (reason {because})",
                    task.containers.iter().find_map(|one| one.port).unwrap_or_default()
                );
                self.tell_service(&arn, event);
                format!("Task failed ELB health checks in (target-group {group})")
            }
            Prober::Container(_) => "Task failed container health checks".to_owned(),
        };
        self.stop_task(&task.arn, "ServiceSchedulerInitiated", &reason);
        self.service_changed(task);
    }

    /// Writes an event of a service's, of which ECS keeps the last hundred.
    pub(super) fn tell_service(&mut self, arn: &str, message: String) {
        let now = self.now;
        if let Some(service) = self.ecs.services.get_mut(arn) {
            service.events.insert(0, (now, message));
            service.events.truncate(100);
        }
    }

    fn limits(&self, task: &Task, by: &Prober) -> Option<Limits> {
        match by {
            Prober::TargetGroup => {
                let service = self.ecs.services.get(&self.service_of(task)?)?;
                let check = service.check.as_ref()?;
                let (healthy, unhealthy) = (check.healthy, check.unhealthy);
                Some(Limits { healthy, unhealthy, grace: check.grace.0 })
            }
            Prober::Container(name) => {
                let check = task.containers.iter().find(|one| one.name == *name)?.check.as_ref()?;
                Some(Limits { healthy: 1, unhealthy: check.retries, grace: check.start_period })
            }
        }
    }

    /// What asks a service's task whether it is healthy: its target group, where it has one.
    pub(super) fn target_check(&self, task: &Task, container: &str) -> Option<HealthCheck> {
        let service = self.ecs.services.get(&self.service_of(task)?)?;
        service.check.clone().filter(|_| service.container.as_deref() == Some(container))
    }
}

struct Limits {
    healthy: u32,
    unhealthy: u32,
    grace: Duration,
}

fn describe(ill: &Ill) -> String {
    if ill.said.is_empty() { ill.what.clone() } else { format!("{}: {}", ill.what, ill.said) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_becomes_healthy_with_its_first_good_answer_and_ill_after_several_bad_ones() {
        use Health::{Healthy, Initial, Unhealthy};
        for (before, good, after) in [
            (Initial(0), true, Healthy(0)),
            (Initial(4), false, Initial(5)),
            (Initial(4), true, Healthy(0)),
            (Healthy(0), false, Healthy(1)),
            (Healthy(1), true, Healthy(0)),
            (Healthy(2), false, Unhealthy(0)),
            (Unhealthy(0), true, Unhealthy(1)),
            (Unhealthy(1), true, Healthy(0)),
            (Unhealthy(1), false, Unhealthy(0)),
        ] {
            assert_eq!(before.after(good, 2, 3), after, "{before:?} {good}");
        }
    }

    #[test]
    fn a_containers_own_check_is_read_as_ecs_reads_it() {
        let of = |check: serde_json::Value| ContainerCheck::of(&serde_json::json!({"healthCheck": check}));
        let shell = of(serde_json::json!({"command": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"]})).unwrap();
        assert_eq!(shell.command, ["/bin/sh", "-c", "curl -f http://localhost/ || exit 1"]);
        let seconds = |duration: Duration| duration.as_secs();
        assert_eq!(
            (seconds(shell.interval), seconds(shell.timeout), shell.retries, seconds(shell.start_period)),
            (30, 5, 3, 0)
        );
        let own =
            of(serde_json::json!({"command": ["CMD", "check", "--fast"], "interval": 5, "timeout": 2, "retries": 1,
            "startPeriod": 60}))
            .unwrap();
        assert_eq!(own.command, ["check", "--fast"]);
        assert_eq!(
            (seconds(own.interval), seconds(own.timeout), own.retries, seconds(own.start_period)),
            (5, 2, 1, 60)
        );
        assert_eq!(of(serde_json::json!({"command": ["NONE", "x"]})), None);
        assert_eq!(ContainerCheck::of(&serde_json::json!({"name": "app"})), None);
    }
}
