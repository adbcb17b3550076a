//! A task's life: it is placed, its containers start, write and end, it is told to end and killed.
//!
//! Invariant: a task is STOPPED only when none of its containers runs any more.

use std::time::Duration;

use serde_json::json;

use super::{STOP_TIMEOUT, Task};
use crate::world::{Effect, Start, Timer, World};

impl World {
    pub(in crate::world) fn place(&mut self, arn: &str) {
        let Some(task) = self.ecs.tasks.get_mut(arn).filter(|task| task.last_status == "PROVISIONING") else { return };
        task.last_status = "PENDING";
        for container in &mut task.containers {
            container.running = true;
        }
        let task = task.clone();
        for container in &task.containers {
            let target = self.target_check(&task, &container.name);
            self.effects.push(Effect::StartContainer(Box::new(Start {
                target,
                check: container.check.clone(),
                task: arn.to_owned(),
                container: container.name.clone(),
                image: container.image.clone(),
                entry_point: container.entry_point,
                folder: container.folder.clone(),
                command: container.command.clone(),
                environment: container.environment.clone(),
                port: container.port,
            })));
        }
    }

    pub(in crate::world) fn stop_task(&mut self, arn: &str, code: &'static str, reason: &str) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get_mut(arn).filter(|task| task.desired_status == "RUNNING") else { return };
        task.desired_status = "STOPPED";
        task.stop_code.get_or_insert(code);
        task.stopped_reason.get_or_insert(reason.to_owned());
        task.stopping = Some(now);
        // StopTask deletes the task's tags (fact 19).
        task.tags = json!([]);
        if task.last_status == "PROVISIONING" {
            return self.finish(arn);
        }
        let timeout = task.containers.iter().map(|container| container.stop_timeout).max().unwrap_or(STOP_TIMEOUT);
        self.signal(arn, false);
        self.after(Duration::from_secs(timeout), Timer::Kill(arn.to_owned()));
    }

    fn signal(&mut self, arn: &str, kill: bool) {
        let Some(task) = self.ecs.tasks.get(arn) else { return };
        for container in task.containers.iter().filter(|container| container.running) {
            let (task, container) = (arn.to_owned(), container.name.clone());
            self.effects.push(Effect::Signal { task, container, kill });
        }
    }

    pub(in crate::world) fn kill(&mut self, arn: &str) {
        self.signal(arn, true);
    }

    pub(in crate::world) fn container_started(&mut self, arn: &str, name: &str, port: Option<u16>) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get_mut(arn) else { return };
        if let Some(container) = task.containers.iter_mut().find(|container| container.name == name) {
            container.host_port = port;
        }
        let is_first = task.last_status == "PENDING";
        if is_first {
            task.last_status = "RUNNING";
            task.started = Some(now);
        }
        // Its end was asked for while it was being started.
        let task = task.clone();
        if is_first {
            self.tell_of_task(&task);
        }
        if task.desired_status == "STOPPED" {
            self.signal(arn, false);
        } else if task.is_healthy() {
            self.service_changed(&task);
        }
    }

    pub(in crate::world) fn container_failed(&mut self, arn: &str, name: &str, reason: &str) {
        let Some(task) = self.ecs.tasks.get_mut(arn) else { return };
        task.stop_code.get_or_insert("TaskFailedToStart");
        task.stopped_reason.get_or_insert(format!("CannotStartContainerError: {reason}"));
        if let Some(container) = task.containers.iter_mut().find(|container| container.name == name) {
            container.running = false;
            container.reason = Some(format!("CannotStartContainerError: {reason}"));
        }
        self.after_container(arn);
    }

    pub(in crate::world) fn container_wrote(&mut self, arn: &str, name: &str, line: String) {
        let Some(task) = self.ecs.tasks.get(arn) else { return };
        let container = task.containers.iter().find(|container| container.name == name);
        if let Some((region, group, stream)) = container.and_then(|container| container.logs.clone()) {
            // The awslogs driver does not send empty lines.
            if !line.is_empty() {
                self.logs.write(&region, &group, &stream, self.now, line);
            }
        }
    }

    pub(in crate::world) fn container_exited(&mut self, arn: &str, name: &str, code: i32) {
        let Some(task) = self.ecs.tasks.get_mut(arn) else { return };
        if let Some(container) = task.containers.iter_mut().find(|container| container.name == name) {
            container.running = false;
            container.exit_code = Some(code);
        }
        self.after_container(arn);
    }

    /// A container is over: when it was essential the others are stopped, and when none is left the task is.
    fn after_container(&mut self, arn: &str) {
        let Some(task) = self.ecs.tasks.get_mut(arn) else { return };
        if task.containers.iter().all(|container| !container.running) {
            return self.finish(arn);
        }
        let essential_over = task.containers.iter().any(|container| container.essential && !container.running);
        if essential_over && task.desired_status == "RUNNING" {
            self.stop_task(arn, "EssentialContainerExited", "Essential container in task exited");
        }
    }

    fn finish(&mut self, arn: &str) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get_mut(arn).filter(|task| !task.is_over()) else { return };
        task.last_status = "STOPPED";
        task.desired_status = "STOPPED";
        task.stopping.get_or_insert(now);
        task.stopped = Some(now);
        task.stop_code.get_or_insert("EssentialContainerExited");
        task.stopped_reason.get_or_insert("Essential container in task exited".into());
        let task = task.clone();
        self.tell_of_task(&task);
        self.service_task_ended(&task);
    }

    /// ECS's event, in the account and Region of the stack: those of others reach its rules only when somebody sends them on.
    fn tell_of_task(&mut self, task: &Task) {
        if task.scope == (self.account.clone(), self.region.clone()) {
            let detail = self.shown(task);
            self.emit_of("aws.ecs", "ECS Task State Change", &[&task.arn], detail);
        }
    }
}
