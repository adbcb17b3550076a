//! CodeDeploy blue/green on ECS (facts 27 to 32).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use super::ecs::{Scope, short, stamp};
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
    /// Whether the traffic was moved.
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

/// Whether a deployment may go on from a lifecycle event.
enum Hold {
    Go,
    Wait,
    Fail,
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

/// How long each step of CodeDeploy's own takes here.
const STEP: Duration = Duration::from_millis(300);
/// How long CodeDeploy waits for the new tasks.
const INSTALL: Duration = Duration::from_secs(3600);

/// The lifecycle events of an ECS deployment, in order (fact 32), with the phase in which each happens.
const EVENTS: [(&str, Phase); 6] = [
    ("BeforeInstall", Phase::Created),
    ("Install", Phase::Install),
    ("AfterInstall", Phase::Install),
    ("BeforeAllowTraffic", Phase::Traffic),
    ("AllowTraffic", Phase::Traffic),
    ("AfterAllowTraffic", Phase::Traffic),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateDeployment {
    application_name: String,
    deployment_group_name: Option<String>,
    revision: Option<Value>,
    description: Option<String>,
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

/// How many deployments a page of their list has; AWS says nowhere how many, and nobody can ask for another number.
const DEPLOYMENTS_A_PAGE: usize = 50;

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
        };
        self.codedeploy.groups.insert((scope.clone(), application.to_owned(), name.to_owned()), group);
    }

    /// Whether the account has this group, for a check before a release begins.
    #[must_use]
    pub fn has_deployment_group(&self, account: &str, region: &str, application: &str, group: &str) -> bool {
        let scope = (account.to_owned(), region.to_owned());
        self.codedeploy.groups.contains_key(&(scope, application.to_owned(), group.to_owned()))
    }

    /// Whether a deployment, or a rollback, has not come to where its traffic stays.
    #[must_use]
    pub fn is_deploying(&self) -> bool {
        let moves = |one: &Deployment| !matches!(one.phase, Phase::Termination | Phase::Over);
        self.codedeploy.deployments.values().any(moves) || self.is_rolling_out()
    }

    /// The newest deployment whose description contains this.
    #[must_use]
    pub fn deployment_with(&self, description: &str) -> Option<String> {
        let with = self.codedeploy.deployments.values().filter(|one| one.description.contains(description));
        with.max_by_key(|one| one.created).map(|one| one.id.clone())
    }

    /// When each deployment of a release got ready, and when its traffic moved: the target as its description names it,
    /// in the words of the release's log.
    #[must_use]
    pub fn changes_of_deployments(&self) -> Vec<(String, &'static str, Time)> {
        let changes = self.codedeploy.deployments.values().flat_map(|one| {
            let target = one.description.split(' ').nth(3).unwrap_or_default().to_owned();
            let ready = one.ready.map(|at| (target.clone(), "ready, its traffic waits", at));
            let moved = one.moved.map(|at| (target, "its traffic is on the new version", at));
            [ready, moved].into_iter().flatten()
        });
        changes.collect()
    }

    /// Of each deployment its description, when it got ready, and when its traffic moved.
    #[must_use]
    pub fn milestones_of_deployments(&self) -> Vec<(String, Option<Time>, Option<Time>)> {
        self.codedeploy.deployments.values().map(|one| (one.description.clone(), one.ready, one.moved)).collect()
    }

    /// The ids and groups of the deployments that are under way, also of those that wait for their old tasks.
    #[must_use]
    pub fn living_deployments(&self) -> Vec<(String, String)> {
        let living = self.codedeploy.deployments.values().filter(|one| !one.is_over() && one.rolls_back.is_none());
        living.map(|one| (one.id.clone(), one.group_name.clone())).collect()
    }

    /// When each deployment was created, and when it was over.
    #[must_use]
    pub fn spans_of_deployments(&self) -> Vec<(String, Time, Option<Time>)> {
        let all = self.codedeploy.deployments.values();
        let description = |one: &Deployment| {
            let rolled = one.rolls_back.as_ref().and_then(|id| self.codedeploy.deployments.get(id));
            rolled.map_or_else(|| one.description.clone(), |rolled| format!("rollback of {}", rolled.description))
        };
        all.map(|one| (description(one), one.created, one.completed)).collect()
    }

    /// Descriptions and statuses of all deployments, in the order in which they were created.
    #[must_use]
    pub fn deployments(&self) -> Vec<(String, &'static str)> {
        let mut all: Vec<_> = self.codedeploy.deployments.values().collect();
        all.sort_by_key(|deployment| deployment.created);
        all.iter().map(|deployment| (deployment.description.clone(), deployment.status)).collect()
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
        let Some(group) = self.codedeploy.groups.get(&key).cloned() else {
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
        let revision = input.revision.unwrap_or_default();
        let bad = |why: &str| Fault::new("InvalidRevisionException", why);
        if revision.get("revisionType").and_then(Value::as_str) != Some("AppSpecContent") {
            return Err(bad("an ECS deployment takes an AppSpecContent"));
        }
        let content = revision.pointer("/appSpecContent/content").and_then(Value::as_str).unwrap_or_default();
        let spec: Value = serde_json::from_str(content).map_err(|_| bad("the AppSpec is no JSON"))?;
        let definition = spec.pointer("/Resources/0/TargetService/Properties/TaskDefinition").and_then(Value::as_str);
        let definition = definition.ok_or_else(|| bad("the AppSpec names no TaskDefinition"))?.to_owned();
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
            shifted: false,
            rollback: None,
            rolls_back: None,
        };
        self.codedeploy.deployments.insert(id.clone(), deployment);
        self.after(STEP, Timer::Deployment(id.clone()));
        Ok(json!({"deploymentId": id}))
    }

    /// Something about a service's tasks has changed: look at its deployments.
    pub(super) fn deployments_changed(&mut self, service: &str) {
        let concerned =
            self.codedeploy.deployments.values().filter(|one| one.group.service == service && !one.is_over());
        let ids: Vec<_> = concerned.map(|one| one.id.clone()).collect();
        for id in ids {
            self.step_deployment(&id);
        }
    }

    /// Takes a deployment as far as it can go now.
    pub(super) fn step_deployment(&mut self, id: &str) {
        let now = self.now;
        let Some(mut deployment) = self.codedeploy.deployments.get(id).cloned() else { return };
        let service = deployment.group.service.clone();
        let waited = now.since(deployment.since);
        match deployment.phase {
            Phase::Created => {
                match self.call_hook(&mut deployment, "BeforeInstall") {
                    Hold::Go => {}
                    Hold::Wait => return self.keep(deployment),
                    Hold::Fail => return self.fail_at_hook(deployment),
                }
                let sets = self.ecs.services.get(&service).map(|service| &service.sets);
                deployment.blue = sets.and_then(|sets| sets.first()).map(|set| set.id.clone());
                deployment.green = Some(self.create_task_set(&service, &deployment.definition));
                deployment.status = "InProgress";
                deployment.target = "InProgress";
                deployment.enter(Phase::Install, now);
                self.after(INSTALL, Timer::Deployment(id.to_owned()));
            }
            Phase::Install => {
                let green = deployment.green.clone().unwrap_or_default();
                let desired = self.ecs.services.get(&service).map_or(0, |service| service.desired);
                if self.set_tasks(&green).1 >= desired {
                    match self.call_hook(&mut deployment, "AfterInstall") {
                        Hold::Go => {}
                        Hold::Wait => return self.keep(deployment),
                        Hold::Fail => return self.fail_at_hook(deployment),
                    }
                    match deployment.group.wait_at_ready {
                        Some(wait) => {
                            deployment.status = "Ready";
                            deployment.ready = Some(now);
                            deployment.enter(Phase::Ready, now);
                            self.after(wait, Timer::Deployment(id.to_owned()));
                        }
                        None => {
                            deployment.enter(Phase::Traffic, now);
                            self.after(STEP, Timer::Deployment(id.to_owned()));
                        }
                    }
                } else if waited >= INSTALL {
                    let why = "The ECS service cannot be stabilized in time.".to_owned();
                    deployment.error = Some(("HEALTH_CONSTRAINTS", why));
                    deployment.failed_in = Some(Phase::Install);
                    deployment.target = "Failed";
                    deployment.end("Failed", now);
                    self.codedeploy.deployments.insert(id.to_owned(), deployment);
                    return self.roll_back(id);
                }
            }
            Phase::Ready if deployment.group.wait_at_ready.is_some_and(|wait| waited >= wait) => {
                deployment.error =
                    Some(("TIMEOUT", "The deployment was not continued before its wait time ended.".into()));
                deployment.target = "Failed";
                deployment.end("Stopped", now);
                self.codedeploy.deployments.insert(id.to_owned(), deployment);
                return self.roll_back(id);
            }
            Phase::Traffic if waited >= STEP => {
                if !deployment.shifted {
                    match self.call_hook(&mut deployment, "BeforeAllowTraffic") {
                        Hold::Go => {}
                        Hold::Wait => return self.keep(deployment),
                        Hold::Fail => return self.fail_at_hook(deployment),
                    }
                    deployment.shifted = true;
                    self.make_primary(&service, deployment.green.as_deref().unwrap_or_default());
                }
                match self.call_hook(&mut deployment, "AfterAllowTraffic") {
                    Hold::Go => {}
                    Hold::Wait => return self.keep(deployment),
                    Hold::Fail => return self.fail_at_hook(deployment),
                }
                deployment.target = "Succeeded";
                deployment.moved = Some(now);
                deployment.enter(Phase::Termination, now);
                self.after(deployment.group.termination_wait, Timer::Deployment(id.to_owned()));
            }
            Phase::Termination if waited >= deployment.group.termination_wait => {
                deployment.end("Succeeded", now);
                let blue = deployment.blue.clone().unwrap_or_default();
                self.codedeploy.deployments.insert(id.to_owned(), deployment);
                return self.scale_to_zero(&service, &blue);
            }
            Phase::Rollback if self.set_tasks(deployment.green.as_deref().unwrap_or_default()).0 == 0 => {
                deployment.target = "Succeeded";
                deployment.end("Succeeded", now);
            }
            Phase::Ready | Phase::Traffic | Phase::Termination | Phase::Rollback | Phase::Over => return,
        }
        self.codedeploy.deployments.insert(id.to_owned(), deployment);
    }

    fn keep(&mut self, deployment: Deployment) {
        self.codedeploy.deployments.insert(deployment.id.clone(), deployment);
    }

    /// Calls the function of a lifecycle event, once.
    fn call_hook(&mut self, deployment: &mut Deployment, event: &'static str) -> Hold {
        let Some(function) = deployment.hooks.get(event).cloned() else { return Hold::Go };
        match deployment.called.iter().find(|call| call.event == event).map(|call| call.answer.as_ref()) {
            Some(None) => Hold::Wait,
            Some(Some(Ok(()))) => Hold::Go,
            Some(Some(Err(_))) => Hold::Fail,
            None => {
                let id = format!("hook-{}", self.hex());
                deployment.called.push(HookCall { event, id: id.clone(), answer: None });
                self.effects.push(super::Effect::CallHook { id, function, stage: event.to_owned() });
                Hold::Wait
            }
        }
    }

    fn fail_at_hook(&mut self, mut deployment: Deployment) {
        let why = "The deployment failed because a lifecycle event hook failed.".to_owned();
        deployment.error = Some(("HEALTH_CONSTRAINTS", why));
        deployment.failed_in = Some(deployment.phase);
        deployment.target = "Failed";
        deployment.end("Failed", self.now);
        let id = deployment.id.clone();
        self.keep(deployment);
        self.roll_back(&id);
    }

    /// A function of the application's own has answered.
    pub(super) fn codedeploy_hooked(&mut self, id: &str, result: &Result<(), String>) {
        let mut all = self.codedeploy.deployments.values_mut().filter(|one| one.phase != Phase::Over);
        let Some((deployment, at)) = all.find_map(|one| {
            let at = one.called.iter().position(|call| call.id == id)?;
            Some((one, at))
        }) else {
            return;
        };
        deployment.called[at].answer = Some(result.clone());
        let id = deployment.id.clone();
        self.step_deployment(&id);
    }

    /// Brings the traffic back and lets the new task set go: a deployment of its own (fact 31).
    fn roll_back(&mut self, of: &str) {
        let Some(mut rolled) = self.codedeploy.deployments.get(of).cloned() else { return };
        let id = format!("d-{}", self.hex()[..9].to_uppercase());
        let now = self.now;
        let service = rolled.group.service.clone();
        let (blue, green) = (rolled.blue.clone().unwrap_or_default(), rolled.green.clone().unwrap_or_default());
        rolled.rollback = Some(id.clone());
        let rollback = Deployment {
            id: id.clone(),
            description: "CodeDeploy rolled back your deployment".into(),
            creator: "codeDeployRollback",
            created: now,
            completed: None,
            status: "InProgress",
            phase: Phase::Rollback,
            since: now,
            target: "InProgress",
            error: None,
            ready: None,
            moved: None,
            failed_in: None,
            hooks: BTreeMap::new(),
            called: Vec::new(),
            shifted: false,
            rollback: None,
            rolls_back: Some(of.to_owned()),
            ..rolled.clone()
        };
        self.codedeploy.deployments.insert(of.to_owned(), rolled);
        self.codedeploy.deployments.insert(id.clone(), rollback);
        self.make_primary(&service, &blue);
        self.scale_to_zero(&service, &green);
        self.after(STEP, Timer::Deployment(id));
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
        if input.auto_rollback_enabled != Some(true) {
            return Err(Fault::unknown("StopDeployment without autoRollbackEnabled"));
        }
        if let Some(deployment) = self.codedeploy.deployments.get_mut(&input.deployment_id) {
            deployment.error = Some(("MANUAL_STOP", "The deployment was stopped.".into()));
            deployment.target = "Failed";
            deployment.end("Stopped", now);
        }
        self.roll_back(&input.deployment_id);
        Ok(json!({"status": "Pending", "statusMessage": "The deployment is being stopped and rolled back."}))
    }

    fn batch_get_groups(&self, scope: &Scope, input: &Groups) -> Result<Value, Fault> {
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

    fn list_deployments(&self, scope: &Scope, input: &ListDeployments) -> Result<Value, Fault> {
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

    fn shown_deployment(&self, one: &Deployment) -> Value {
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

    fn shown_target(&self, one: &Deployment) -> Value {
        let one = self.as_shown(one);
        let set = |label: &str, id: Option<&String>, traffic: bool| {
            let (id, desired) = (id?, self.ecs.services.get(&one.group.service)?.desired);
            let (live, healthy) = self.set_tasks(id);
            Some(
                json!({"identifer": id, "taskSetLabel": label, "desiredCount": desired, "pendingCount": live - healthy,
                "runningCount": healthy, "trafficWeight": if traffic { 100.0 } else { 0.0 },
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

fn target_id(one: &Deployment) -> String {
    format!("{}:{}", one.group.cluster, short(&one.group.service))
}
