//! What a container can ask its ECS agent, and the protection from scale-in that it can ask for (fact 23).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ecs::{Scope, Task, Tasks, stamp};
use super::{Fault, Request, Response, World};

impl World {
    pub(super) fn task_protection(&mut self, scope: &Scope, input: &Tasks) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        let (mut shown, mut failures) = (Vec::new(), Vec::new());
        for wanted in &input.tasks {
            let arn = self.task_arn(scope, &cluster, wanted);
            // It is for tasks of services only (fact 50).
            if self.ecs.tasks.get(&arn).is_some_and(|task| !task.group.starts_with("service:")) {
                failures.push(json!({"arn": arn, "reason": "TASK_NOT_VALID"}));
                continue;
            }
            if let Some(enabled) = input.protection_enabled {
                self.protect(&arn, enabled, input.expires_in_minutes);
            }
            if let Some(task) = self.ecs.tasks.get(&arn) {
                shown.push(self.protection(task));
            }
        }
        Ok(json!({"protectedTasks": shown, "failures": failures}))
    }

    fn protection(&self, task: &Task) -> Value {
        let until = task.protected.filter(|_| task.is_protected(self.now));
        json!({"taskArn": task.arn, "protectionEnabled": until.is_some(), "expirationDate": until.map(stamp)})
    }

    fn protect(&mut self, arn: &str, enabled: bool, minutes: Option<u64>) {
        let until = self.now.plus(Duration::from_secs(60 * minutes.unwrap_or(120)));
        let Some(task) = self.ecs.tasks.get_mut(arn).filter(|task| task.group.starts_with("service:")) else { return };
        task.protected = enabled.then_some(until);
        let task = task.clone();
        self.service_changed(&task);
    }

    /// What the agent says of a task's protection; it answers 200 when ECS refuses, too.
    fn told_protection(&self, arn: &str) -> Response {
        let task = self.ecs.tasks.get(arn).filter(|task| task.group.starts_with("service:"));
        let Some(task) = task else {
            return Response::json(json!({"failure": {"Arn": arn, "Reason": "TASK_NOT_VALID"}}));
        };
        let shown = self.protection(task);
        Response::json(json!({"protection": {"TaskArn": arn, "ProtectionEnabled": shown["protectionEnabled"],
            "ExpirationDate": shown["expirationDate"]}}))
    }

    /// What a container asks its agent: `/agent/<task>/...`.
    pub(super) fn agent_operation(&mut self, _: &str, request: &Request) -> Result<Response, Fault> {
        let parts: Vec<_> = request.path.trim_matches('/').split('/').collect();
        let missing = || Fault { status: 404, ..Fault::new("NotFound", "no such task") };
        let id = parts.get(1).copied().unwrap_or_default();
        let task = self.ecs.tasks.values().find(|task| task.id() == id).cloned().ok_or_else(missing)?;
        match (request.method.as_str(), parts.get(2..).unwrap_or_default()) {
            ("GET", ["v4", container, rest @ ..]) if rest.len() <= 1 => {
                if rest == ["task"] {
                    let revision = task.definition.rsplit(':').next().unwrap_or_default();
                    return Ok(Response::json(json!({"Cluster": task.cluster, "TaskARN": task.arn,
                        "Family": task.family, "Revision": revision, "LaunchType": task.launch_type})));
                }
                let found = task.containers.iter().find(|one| one.name == *container).ok_or_else(missing)?;
                Ok(Response::json(json!({"Name": found.name, "Image": found.image, "DockerName": found.name,
                    "Labels": {"com.amazonaws.ecs.task-arn": task.arn}, "KnownStatus": task.last_status})))
            }
            ("GET", ["task-protection", "v1", "state"]) => Ok(self.told_protection(&task.arn)),
            ("PUT", ["task-protection", "v1", "state"]) => {
                #[derive(Deserialize)]
                #[serde(rename_all = "PascalCase", deny_unknown_fields)]
                struct State {
                    protection_enabled: bool,
                    expires_in_minutes: Option<u64>,
                }
                let state: State = request.input()?;
                if state.expires_in_minutes.is_some_and(|minutes| !(1..=2880).contains(&minutes)) {
                    let why = "ExpiresInMinutes must be between 1 and 2880";
                    let error = json!({"Arn": task.arn, "Code": "InvalidParameterException", "Message": why});
                    return Ok(Response { status: 400, ..Response::json(json!({"error": error})) });
                }
                self.protect(&task.arn, state.protection_enabled, state.expires_in_minutes);
                Ok(self.told_protection(&task.arn))
            }
            _ => Err(Fault::unknown(format!("{} {}", request.method, request.path))),
        }
    }
}
