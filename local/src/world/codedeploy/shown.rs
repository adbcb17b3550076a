//! What CodeDeploy shows of its groups, deployments and their targets (fact 32).

use serde_json::{Value, json};
use shared::Time;

use super::{Deployment, Group, Groups, ListDeployments, Phase};
use crate::world::ecs::{Scope, short, stamp};
use crate::world::{Fault, World};

/// The lifecycle events of an ECS deployment, in order (fact 32), with the phase in which each happens.
const EVENTS: [(&str, Phase); 6] = [
    ("BeforeInstall", Phase::Created),
    ("Install", Phase::Install),
    ("AfterInstall", Phase::Install),
    ("BeforeAllowTraffic", Phase::Traffic),
    ("AllowTraffic", Phase::Traffic),
    ("AfterAllowTraffic", Phase::Traffic),
];

/// How many deployments a page of their list has; AWS says nowhere how many, and nobody can ask for another number.
const DEPLOYMENTS_A_PAGE: usize = 50;

impl World {
    pub(super) fn batch_get_groups(&self, scope: &Scope, input: &Groups) -> Result<Value, Fault> {
        let own = |name: &String| {
            let key = (scope.clone(), input.application_name.clone(), name.clone());
            self.codedeploy.groups.get(&key).map(|group| shown_group(&input.application_name, name, group))
        };
        let application = |(at, name, _): &(Scope, String, String)| at == scope && *name == input.application_name;
        if !self.codedeploy.groups.keys().any(application) {
            let why = format!("No application found for name: {}", input.application_name);
            return Err(Fault::new("ApplicationDoesNotExistException", why));
        }
        Ok(json!({"deploymentGroupsInfo": input.deployment_group_names.iter().filter_map(own).collect::<Vec<_>>()}))
    }

    pub(super) fn list_deployments(&self, scope: &Scope, input: &ListDeployments) -> Result<Value, Fault> {
        let within = |at: Time| {
            let range = input.create_time_range.as_ref();
            range.and_then(|range| range.start).is_none_or(|start| at.seconds() >= start)
                && range.and_then(|range| range.end).is_none_or(|end| at.seconds() <= end)
        };
        let mut found: Vec<_> = self
            .codedeploy
            .deployments
            .values()
            .filter(|one| {
                one.scope == *scope
                    && input.application_name.as_ref().is_none_or(|name| one.application == *name)
                    && input.deployment_group_name.as_ref().is_none_or(|name| one.group_name == *name)
                    && input
                        .include_only_statuses
                        .as_ref()
                        .is_none_or(|all| all.iter().any(|status| status == one.status))
                    && within(one.created)
                    && self.now.since(one.created) >= self.lateness().listed
            })
            .collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.created));
        let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
        let page: Vec<_> = found.iter().skip(skip).take(DEPLOYMENTS_A_PAGE).map(|one| one.id.clone()).collect();
        let mut answer = json!({"deployments": page});
        if skip + DEPLOYMENTS_A_PAGE < found.len() {
            answer["nextToken"] = (skip + DEPLOYMENTS_A_PAGE).to_string().into();
        }
        Ok(answer)
    }

    pub(super) fn shown_deployment(&self, one: &Deployment) -> Value {
        let one = self.as_shown(one);
        let mut shown = json!({
            "applicationName": one.application, "deploymentGroupName": one.group_name, "deploymentId": one.id,
            "status": one.status, "description": one.description, "creator": one.creator, "revision": one.revision,
            "createTime": stamp(one.created), "computePlatform": "ECS", "ignoreApplicationStopFailures": false,
            "deploymentConfigName": "CodeDeployDefault.ECSAllAtOnce",
            "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        });
        let late = one.completed.is_some_and(|at| self.now.since(at) < self.lateness().rollback);
        let rollback = match (&one.rollback, &one.rolls_back) {
            (Some(_), _) if late => None,
            (Some(id), _) => Some(json!({"rollbackDeploymentId": id})),
            (None, Some(id)) => Some(json!({"rollbackTriggeringDeploymentId": id})),
            (None, None) => None,
        };
        for (field, value) in [
            ("completeTime", one.completed.map(stamp)),
            ("rollbackInfo", rollback),
            ("errorInformation", one.error.as_ref().map(|(code, message)| json!({"code": code, "message": message}))),
        ] {
            if let Some(value) = value {
                shown[field] = value;
            }
        }
        shown
    }

    pub(super) fn shown_target(&self, one: &Deployment) -> Value {
        let one = self.as_shown(one);
        let share =
            |is_green: bool, is_all: bool| match (one.canaried && !one.shifted && one.rollback.is_none(), is_green) {
                (true, true) => 10.0,
                (true, false) => 90.0,
                (false, _) if is_all => 100.0,
                (false, _) => 0.0,
            };
        let set = |label: &str, id: Option<&String>, traffic: bool| {
            let (id, desired) = (id?, self.ecs.services.get(&one.group.service)?.desired);
            let (live, healthy) = self.set_tasks(id);
            Some(
                json!({"identifer": id, "taskSetLabel": label, "desiredCount": desired, "pendingCount": live - healthy,
                "runningCount": healthy, "trafficWeight": share(label == "Green", traffic),
                "status": if traffic { "PRIMARY" } else { "ACTIVE" }}),
            )
        };
        let moved = one.target == "Succeeded" && one.rolls_back.is_none();
        let sets: Vec<_> = [set("Blue", one.blue.as_ref(), !moved), set("Green", one.green.as_ref(), moved)]
            .into_iter()
            .flatten()
            .collect();
        let events = EVENTS.iter().map(|(name, phase)| {
            let call = one.called.iter().find(|call| call.event == *name);
            let has_failed = call.is_some_and(|call| matches!(call.answer, Some(Err(_))));
            let hook_failed = one.called.iter().any(|call| matches!(call.answer, Some(Err(_))));
            let waits = one.called.iter().any(|call| call.answer.is_none());
            let status = match one.phase {
                _ if has_failed => "Failed",
                Phase::Over if hook_failed && one.failed_in == Some(*phase) && call.is_some() => "Succeeded",
                Phase::Over if hook_failed && one.failed_in == Some(*phase) => "Skipped",
                now if now == *phase && waits && call.is_none_or(|call| call.answer.is_some()) => "Pending",
                Phase::Over if one.failed_in == Some(*phase) && *name != "AfterInstall" => "Failed",
                Phase::Over if moved => "Succeeded",
                Phase::Over if one.failed_in.is_some_and(|failed| failed > *phase) => "Succeeded",
                Phase::Over => "Skipped",
                now if now > *phase => "Succeeded",
                now if now == *phase => "InProgress",
                _ => "Pending",
            };
            let mut event = json!({"lifecycleEventName": name, "status": status});
            if let Some(Err(said)) = call.and_then(|call| call.answer.as_ref()) {
                let function = one.hooks.get(*name).map(String::as_str).unwrap_or_default();
                event["diagnostics"] = json!({"errorCode": "UnknownError", "scriptName": function,
                    "message": format!("the hook {function} answered Failed: {said}")});
            }
            event
        });
        json!({"deploymentTargetType": "ECSTarget", "ecsTarget": {
            "deploymentId": one.id, "targetId": target_id(one), "targetArn": one.group.service,
            "status": one.target, "lifecycleEvents": events.collect::<Vec<_>>(), "taskSetsInfo": sets,
            "lastUpdatedAt": stamp(one.since)}})
    }
}

fn shown_group(application: &str, name: &str, group: &Group) -> Value {
    let ready = match group.wait_at_ready {
        Some(wait) => json!({"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": wait.as_secs() / 60}),
        None => json!({"actionOnTimeout": "CONTINUE_DEPLOYMENT", "waitTimeInMinutes": 0}),
    };
    json!({"applicationName": application, "deploymentGroupName": name, "computePlatform": "ECS",
        "ecsServices": [{"clusterName": group.cluster, "serviceName": short(&group.service)}],
        "blueGreenDeploymentConfiguration": {"deploymentReadyOption": ready, "terminateBlueInstancesOnDeploymentSuccess":
            {"action": "TERMINATE", "terminationWaitTimeInMinutes": group.termination_wait.as_secs() / 60}}})
}

pub(super) fn target_id(one: &Deployment) -> String {
    format!("{}:{}", one.group.cluster, short(&one.group.service))
}
