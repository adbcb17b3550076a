//! CodeDeploy blue/green on ECS (facts 27 to 32).

mod asked;
mod shown;
mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use self::shown::target_id;
use self::steps::STEP;
use super::ecs::{Scope, short};
use super::services::service_arn;
use super::{Fault, Request, Timer, World};
use crate::account;

/// The groups and their deployments.
#[derive(Debug, Default)]
pub(super) struct Codedeploy {
    groups: BTreeMap<(Scope, String, String), Group>,
    pub(super) deployments: BTreeMap<String, Deployment>,
}

#[derive(Debug, Clone, PartialEq)]
struct Group {
    service: String,
    cluster: String,
    wait_at_ready: Option<Duration>,
    termination_wait: Duration,
    /// How long a tenth of the traffic is on the new version before all of it is.
    canary: Duration,
    /// Whether one of its alarms is on.
    alarm: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deployment {
    pub(super) id: String,
    scope: Scope,
    application: String,
    group_name: String,
    group: Group,
    description: String,
    creator: &'static str,
    revision: Value,
    definition: String,
    /// What the AppSpec says of capacity providers: nothing else gives the new task set any.
    providers: Vec<Value>,
    created: Time,
    completed: Option<Time>,
    status: &'static str,
    phase: Phase,
    /// Since when it is in this phase.
    since: Time,
    blue: Option<String>,
    green: Option<String>,
    target: &'static str,
    error: Option<(&'static str, String)>,
    /// When it got ready, and when its traffic moved.
    ready: Option<Time>,
    moved: Option<Time>,
    /// The phase in which it failed.
    failed_in: Option<Phase>,
    /// The functions of its AppSpec, by lifecycle event, and those that were called.
    hooks: BTreeMap<String, String>,
    called: Vec<HookCall>,
    /// Whether a tenth of the traffic was moved, and whether all of it was.
    canaried: bool,
    shifted: bool,
    rollback: Option<String>,
    /// For a rollback: what it rolls back.
    rolls_back: Option<String>,
}

/// A function that was called at a lifecycle event.
#[derive(Debug, Clone, PartialEq)]
struct HookCall {
    event: &'static str,
    id: String,
    answer: Option<Result<(), String>>,
}

/// Where a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Created,
    Install,
    Ready,
    Traffic,
    Termination,
    Rollback,
    Over,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateDeployment {
    application_name: String,
    deployment_group_name: Option<String>,
    revision: Option<Value>,
    description: Option<String>,
    override_alarm_configuration: Option<Alarms>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Alarms {
    enabled: bool,
    ignore_poll_alarm_failure: Option<bool>,
    alarms: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListDeployments {
    application_name: Option<String>,
    deployment_group_name: Option<String>,
    include_only_statuses: Option<Vec<String>>,
    create_time_range: Option<Range>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Groups {
    application_name: String,
    deployment_group_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    start: Option<f64>,
    end: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct One {
    deployment_id: String,
    deployment_wait_type: Option<String>,
    auto_rollback_enabled: Option<bool>,
    target_ids: Option<Vec<String>>,
    target_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Batch {
    deployment_ids: Vec<String>,
}

impl Deployment {
    fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.since = now;
    }

    fn end(&mut self, status: &'static str, now: Time) {
        self.status = status;
        self.completed = Some(now);
        self.enter(Phase::Over, now);
    }
}

impl World {
    pub(super) fn create_deployment_group(
        &mut self,
        scope: &Scope,
        application: &str,
        name: &str,
        given: &account::Group,
    ) {
        let group = Group {
            service: service_arn(scope, &given.cluster, &given.service),
            cluster: given.cluster.clone(),
            wait_at_ready: given.wait_at_ready.map(|wait| wait.0),
            termination_wait: given.termination_wait.0,
            canary: Duration::ZERO,
            alarm: false,
        };
        self.codedeploy.groups.insert((scope.clone(), application.to_owned(), name.to_owned()), group);
    }

    /// Has a group move a tenth of its traffic first, and the rest that much later.
    pub fn set_canary(&mut self, region: &str, application: &str, group: &str, wait: Duration) {
        self.groups_named(region, application, group).for_each(|group| group.canary = wait);
    }

    /// Switches an alarm of a group's on or off: CodeDeploy stops each deployment of a group whose alarm is on.
    pub fn set_alarm(&mut self, region: &str, application: &str, group: &str, on: bool) {
        self.groups_named(region, application, group).for_each(|group| group.alarm = on);
    }

    fn groups_named(&mut self, region: &str, application: &str, group: &str) -> impl Iterator<Item = &mut Group> {
        let all = self.codedeploy.groups.iter_mut();
        let is_it =
            move |((_, at), of, name): &(Scope, String, String)| at == region && of == application && name == group;
        all.filter(move |(key, _)| is_it(key)).map(|(_, group)| group)
    }

    pub(super) fn codedeploy_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        let scope = (self.account_of(request), request.region().to_owned());
        match name {
            "CreateDeployment" => self.create_deployment(&scope, request.input()?),
            "ListDeployments" => self.list_deployments(&scope, &request.input()?),
            "ListApplications" => {
                let own = self.codedeploy.groups.keys().filter(|(at, ..)| *at == scope).map(|(_, name, _)| name);
                Ok(json!({"applications": own.collect::<std::collections::BTreeSet<_>>()}))
            }
            "ListDeploymentGroups" => {
                let input: Value = request.input()?;
                let of = |(at, name, _): &&(Scope, String, String)| {
                    *at == scope && input["applicationName"] == name.as_str()
                };
                let groups: Vec<_> = self.codedeploy.groups.keys().filter(of).map(|(.., group)| group).collect();
                Ok(json!({"applicationName": input["applicationName"], "deploymentGroups": groups}))
            }
            "BatchGetDeploymentGroups" => self.batch_get_groups(&scope, &request.input()?),
            "GetDeployment" => {
                let input: One = request.input()?;
                Ok(json!({"deploymentInfo": self.shown_deployment(self.deployment(&input.deployment_id)?)}))
            }
            "BatchGetDeployments" => {
                let input: Batch = request.input()?;
                if input.deployment_ids.len() > 25 {
                    return Err(Fault::new("BatchLimitExceededException", "at most 25"));
                }
                let found = input.deployment_ids.iter().filter_map(|id| self.deployment(id).ok());
                Ok(json!({"deploymentsInfo": found.map(|one| self.shown_deployment(one)).collect::<Vec<_>>()}))
            }
            "BatchGetDeploymentTargets" | "GetDeploymentTarget" => {
                let input: One = request.input()?;
                let deployment = self.deployment(&input.deployment_id)?;
                let _ = (input.target_ids, input.target_id);
                let shown = self.shown_target(deployment);
                Ok(match name {
                    "GetDeploymentTarget" => json!({"deploymentTarget": shown}),
                    _ => json!({"deploymentTargets": [shown]}),
                })
            }
            "ListDeploymentTargets" => {
                let input: One = request.input()?;
                let deployment = self.deployment(&input.deployment_id)?;
                Ok(json!({"targetIds": [target_id(deployment)]}))
            }
            "ContinueDeployment" => self.continue_deployment(&request.input()?),
            "StopDeployment" => self.stop_deployment(&request.input()?),
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }

    /// Application and group of a deployment.
    pub(super) fn group_of(&self, id: &str) -> Option<String> {
        let deployment = self.codedeploy.deployments.get(id)?;
        Some(format!("{}/{}", deployment.application, deployment.group_name))
    }

    fn deployment(&self, id: &str) -> Result<&Deployment, Fault> {
        let missing =
            || Fault::new("DeploymentDoesNotExistException", format!("The deployment {id} could not be found"));
        self.codedeploy.deployments.get(id).ok_or_else(missing)
    }

    fn create_deployment(&mut self, scope: &Scope, input: CreateDeployment) -> Result<Value, Fault> {
        let group_name = input.deployment_group_name.unwrap_or_default();
        let key = (scope.clone(), input.application_name.clone(), group_name.clone());
        let Some(mut group) = self.codedeploy.groups.get(&key).cloned() else {
            let known = self
                .codedeploy
                .groups
                .keys()
                .any(|(at, application, _)| at == scope && *application == input.application_name);
            let code = if known { "DeploymentGroupDoesNotExistException" } else { "ApplicationDoesNotExistException" };
            return Err(Fault::new(code, format!("No {} / {group_name} found in {}", input.application_name, scope.1)));
        };
        let busy =
            self.codedeploy.deployments.values().find(|one| one.group.service == group.service && !one.is_over());
        if let Some(busy) = busy {
            let why = format!("The Deployment Group '{group_name}' already has an active Deployment '{}'", busy.id);
            return Err(Fault::new("DeploymentLimitExceededException", why));
        }
        group.alarm &= input.override_alarm_configuration.is_none_or(|given| {
            let _ = (given.ignore_poll_alarm_failure, given.alarms);
            given.enabled
        });
        let revision = input.revision.unwrap_or_default();
        let bad = |why: &str| Fault::new("InvalidRevisionException", why);
        if revision.get("revisionType").and_then(Value::as_str) != Some("AppSpecContent") {
            return Err(bad("an ECS deployment takes an AppSpecContent"));
        }
        let content = revision.pointer("/appSpecContent/content").and_then(Value::as_str).unwrap_or_default();
        let spec: Value = serde_json::from_str(content).map_err(|_| bad("the AppSpec is no JSON"))?;
        let definition = spec.pointer("/Resources/0/TargetService/Properties/TaskDefinition").and_then(Value::as_str);
        let definition = definition.ok_or_else(|| bad("the AppSpec names no TaskDefinition"))?.to_owned();
        let strategy = spec.pointer("/Resources/0/TargetService/Properties/CapacityProviderStrategy");
        let providers = strategy.and_then(Value::as_array).into_iter().flatten().map(
            |one| json!({"capacityProvider": one["CapacityProvider"], "base": one["Base"], "weight": one["Weight"]}),
        );
        let providers = providers.collect();
        let hooks = spec.get("Hooks").and_then(Value::as_array).into_iter().flatten();
        let hooks = hooks.flat_map(|hook| hook.as_object().into_iter().flatten());
        let hooks = hooks.filter_map(|(event, function)| Some((event.clone(), short(function.as_str()?).to_owned())));
        let hooks: BTreeMap<_, _> = hooks.collect();
        self.definition(scope, &definition).map_err(|fault| bad(&fault.message))?;
        let id = format!("d-{}", self.hex()[..9].to_uppercase());
        let now = self.now;
        let deployment = Deployment {
            id: id.clone(),
            scope: scope.clone(),
            application: input.application_name,
            group_name,
            group,
            description: input.description.unwrap_or_default(),
            creator: "user",
            revision,
            definition,
            providers,
            created: now,
            completed: None,
            status: "Created",
            phase: Phase::Created,
            since: now,
            blue: None,
            green: None,
            target: "Pending",
            error: None,
            ready: None,
            moved: None,
            failed_in: None,
            hooks,
            called: Vec::new(),
            canaried: false,
            shifted: false,
            rollback: None,
            rolls_back: None,
        };
        self.codedeploy.deployments.insert(id.clone(), deployment);
        self.after(STEP, Timer::Deployment(id.clone()));
        Ok(json!({"deploymentId": id}))
    }

    fn continue_deployment(&mut self, input: &One) -> Result<Value, Fault> {
        let now = self.now;
        let phase = self.deployment(&input.deployment_id)?.phase;
        let wait = input.deployment_wait_type.as_deref().unwrap_or("READY_WAIT");
        let Some(deployment) = self.codedeploy.deployments.get_mut(&input.deployment_id) else {
            return Ok(Value::Null);
        };
        match (wait, phase) {
            (_, Phase::Over) => {
                return Err(Fault::new("DeploymentAlreadyCompletedException", "The deployment is over."));
            }
            ("READY_WAIT", Phase::Ready) => {
                deployment.status = "InProgress";
                deployment.enter(Phase::Traffic, now);
                self.after(STEP, Timer::Deployment(input.deployment_id.clone()));
            }
            ("TERMINATION_WAIT", Phase::Termination) => {
                deployment.group.termination_wait = Duration::ZERO;
                self.after(Duration::ZERO, Timer::Deployment(input.deployment_id.clone()));
            }
            ("READY_WAIT" | "TERMINATION_WAIT", _) => {
                return Err(Fault::new("DeploymentIsNotInReadyStateException", "The deployment does not wait."));
            }
            (other, _) => return Err(Fault::new("InvalidDeploymentWaitTypeException", other)),
        }
        Ok(Value::Null)
    }

    fn stop_deployment(&mut self, input: &One) -> Result<Value, Fault> {
        let now = self.now;
        if self.deployment(&input.deployment_id)?.is_over() {
            return Err(Fault::new("DeploymentAlreadyCompletedException", "The deployment is over."));
        }
        if let Some(deployment) = self.codedeploy.deployments.get_mut(&input.deployment_id) {
            deployment.error = Some(("MANUAL_STOP", "The deployment was stopped.".into()));
            deployment.target = "Failed";
            deployment.end("Stopped", now);
        }
        // Whoever asks for no rollback leaves the traffic where it is.
        if input.auto_rollback_enabled != Some(true) {
            return Ok(json!({"status": "Succeeded", "statusMessage": "No more traffic is moved."}));
        }
        self.roll_back(&input.deployment_id);
        Ok(json!({"status": "Pending", "statusMessage": "The deployment is being stopped and rolled back."}))
    }
}
