//! ECS: task definitions and tasks, as whoever asks for them sees them.
//!
//! Invariant: what it answers, and refuses, is what AWS does. How a task begins stands in `start`, what becomes of it in `life`.

mod life;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::Time;

use start::Answered;

use super::health::{ContainerCheck, Health};
use super::services::Service;
use super::{Fault, Request, World};
use crate::Mistake;
use crate::account::Account;

/// Account and Region.
pub(super) type Scope = (String, String);

/// How long ECS shows a task that has stopped (fact 19).
const SHOWN: Duration = Duration::from_secs(3600);
/// `stopTimeout` unless the definition says otherwise (fact 22).
const STOP_TIMEOUT: u64 = 30;

/// ECS in all Regions.
#[derive(Debug, Default)]
pub(super) struct Ecs {
    pub(super) clusters: BTreeMap<(Scope, String), Cluster>,
    pub(super) definitions: BTreeMap<(Scope, String), Vec<Value>>,
    /// The definitions of the application's files.
    pub(super) given: BTreeMap<Scope, Vec<Value>>,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) deleted_services: BTreeSet<String>,
    pub(super) rollouts: super::rollouts::Rollouts,
    tokens: BTreeMap<(String, String), Answered>,
    /// No cluster has room for another task.
    is_full: bool,
}

#[derive(Debug, Default)]
pub(super) struct Cluster {
    room_for_tasks: Option<usize>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    pub(super) scope: Scope,
    pub(super) cluster: String,
    /// Its task definition's ARN.
    pub definition: String,
    pub(super) family: String,
    /// Who started it.
    pub started_by: String,
    pub(super) group: String,
    /// `PROVISIONING`, `PENDING`, `RUNNING`, `DEPROVISIONING`, `STOPPED`.
    pub last_status: &'static str,
    pub(super) desired_status: &'static str,
    pub(super) stop_code: Option<&'static str>,
    pub(super) stopped_reason: Option<String>,
    pub(super) created: Time,
    pub(super) started: Option<Time>,
    pub(super) stopping: Option<Time>,
    /// When it was over.
    pub stopped: Option<Time>,
    /// Its containers.
    pub containers: Vec<Container>,
    overrides: Value,
    tags: Value,
    pub(super) launch_type: String,
    /// Until when it protects itself from scale-in (fact 23).
    pub(super) protected: Option<Time>,
    /// What its target group has found, where it asks.
    pub(super) target: Option<Health>,
    /// How many checks in a row have failed.
    pub(super) failed_checks: u32,
    /// Before this no list has it.
    listed: Time,
    /// Before this it is not described.
    described: Time,
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    pub(super) essential: bool,
    running: bool,
    /// How it ended.
    pub exit_code: Option<i32>,
    reason: Option<String>,
    /// How many words of the command are the image's ENTRYPOINT.
    entry_point: usize,
    /// Where in its image it starts, where its definition says so.
    folder: String,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    pub(super) port: Option<u16>,
    pub(super) check: Option<ContainerCheck>,
    /// What that has found.
    pub(super) health: Option<Health>,
    host_port: Option<u16>,
    pub(super) logs: Option<(String, String, String)>,
    stop_timeout: u64,
}

impl Task {
    /// Whether nothing of it runs.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.last_status == "STOPPED"
    }

    pub(super) fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it protects itself at this moment.
    pub(super) fn is_protected(&self, now: Time) -> bool {
        self.protected.is_some_and(|until| until > now)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListTasks {
    cluster: Option<String>,
    started_by: Option<String>,
    family: Option<String>,
    service_name: Option<String>,
    desired_status: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tasks {
    pub(super) cluster: Option<String>,
    #[serde(default)]
    pub(super) tasks: Vec<String>,
    include: Option<Vec<String>>,
    pub(super) protection_enabled: Option<bool>,
    pub(super) expires_in_minutes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListServices {
    cluster: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clusters {
    #[serde(default)]
    clusters: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StopTask {
    cluster: Option<String>,
    task: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescribeTaskDefinition {
    task_definition: String,
    include: Option<Vec<String>>,
}

/// The name at the end of an ARN or a name.
pub(super) fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A timestamp as AWS's JSON protocols write it.
pub(super) fn stamp(at: Time) -> Value {
    json!(at.seconds())
}

impl World {
    /// Puts in what the account has when the release comes.
    pub(super) fn furnish(&mut self, account: &Account) -> Result<(), Mistake> {
        for (name, region) in &account.regions {
            let owner = region.account.clone().unwrap_or_else(|| self.account.clone());
            let scope: Scope = (owner, region.name.clone().unwrap_or_else(|| name.clone()));
            let given = region.given.as_ref().unwrap_or(&region.task_definitions);
            self.ecs.given.insert(scope.clone(), given.clone());
            for definition in &region.task_definitions {
                self.register(&scope, definition.clone()).map_err(|fault| {
                    Mistake(format!("local.yaml: regions.{name}.task_definitions: {}", fault.message))
                })?;
            }
            for (cluster_name, cluster) in &region.clusters {
                let key = (scope.clone(), cluster_name.clone());
                self.ecs.clusters.insert(key, Cluster { room_for_tasks: cluster.room_for_tasks });
                for (service_name, service) in &cluster.services {
                    self.create_service(&scope, cluster_name, service_name, service)?;
                }
            }
            for (application, groups) in &region.deployment_groups {
                for (group_name, group) in groups {
                    self.create_deployment_group(&scope, application, group_name, group);
                }
            }
        }
        Ok(())
    }

    /// All tasks that were ever started, for tests and for the end of a release.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.ecs.tasks.values()
    }

    pub(super) fn ecs_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        let scope = (self.account_of(request), request.region().to_owned());
        match name {
            "RegisterTaskDefinition" => {
                let mut registered = self.register(&scope, request.input()?)?;
                let tags = registered.as_object_mut().and_then(|fields| fields.remove("tags"));
                Ok(json!({"taskDefinition": registered, "tags": tags.unwrap_or(json!([]))}))
            }
            "DescribeTaskDefinition" => {
                let input: DescribeTaskDefinition = request.input()?;
                let found = self.definition(&scope, &input.task_definition)?.clone();
                let tags = input.include.is_some().then(|| found.get("tags").cloned().unwrap_or(json!([])));
                let mut answer = json!({"taskDefinition": without(found, "tags")});
                if let Some(tags) = tags {
                    answer["tags"] = tags;
                }
                Ok(answer)
            }
            "RunTask" => self.run_task(&scope, request.input()?, &request.body),
            "ListTasks" => self.list_tasks(&scope, &request.input()?),
            "DescribeTasks" => self.describe_tasks(&scope, &request.input()?),
            "StopTask" => {
                let input: StopTask = request.input()?;
                let cluster = self.cluster(&scope, input.cluster.as_deref())?;
                let arn = self.task_arn(&scope, &cluster, &input.task);
                let missing = || Fault::new("InvalidParameterException", "The referenced task was not found.");
                let shown = self.ecs.tasks.contains_key(&arn);
                if !shown {
                    return Err(missing());
                }
                let reason = input.reason.unwrap_or_else(|| "Task stopped by user".into());
                self.stop_task(&arn, "UserInitiated", &reason);
                Ok(json!({"task": self.ecs.tasks.get(&arn).map(|task| self.shown(task)).ok_or_else(missing)?}))
            }
            "GetTaskProtection" | "UpdateTaskProtection" => self.task_protection(&scope, &request.input()?),
            "UpdateService" => self.update_service(&scope, &request.input()?),
            "ListServiceDeployments"
            | "DescribeServiceDeployments"
            | "DescribeServiceRevisions"
            | "StopServiceDeployment"
            | "ContinueServiceDeployment" => self.rollout_operation(name, &scope, request),
            "DescribeServices" => self.describe_services(&scope, &request.input()?),
            "ListServices" => {
                let input: ListServices = request.input()?;
                let cluster = self.cluster(&scope, input.cluster.as_deref())?;
                let own = self.ecs.services.values().filter(|one| one.scope == scope && one.cluster == cluster);
                let all: Vec<_> = own.map(|one| one.arn.clone()).collect();
                let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
                let most = input.max_results.unwrap_or(10).clamp(1, 100);
                let mut answer = json!({"serviceArns": all.iter().skip(skip).take(most).collect::<Vec<_>>()});
                if skip + most < all.len() {
                    answer["nextToken"] = (skip + most).to_string().into();
                }
                Ok(answer)
            }
            "ListClusters" => {
                let own = self.ecs.clusters.keys().filter(|(at, _)| *at == scope);
                Ok(json!({"clusterArns": own.map(|(_, name)| cluster_arn(&scope, name)).collect::<Vec<_>>()}))
            }
            "DescribeClusters" => {
                let input: Clusters = request.input()?;
                let named: Vec<_> = if input.clusters.is_empty() { vec!["default".into()] } else { input.clusters };
                let is_here = |name: &String| self.ecs.clusters.contains_key(&(scope.clone(), short(name).to_owned()));
                let (found, missing): (Vec<_>, Vec<_>) = named.iter().partition(|name| is_here(name));
                let shown = |name: &&String| {
                    let name = short(name);
                    json!({"clusterName": name, "clusterArn": cluster_arn(&scope, name), "status": "ACTIVE"})
                };
                let gone = |name: &&String| json!({"arn": cluster_arn(&scope, short(name)), "reason": "MISSING"});
                Ok(json!({"clusters": found.iter().map(shown).collect::<Vec<_>>(),
                    "failures": missing.iter().map(gone).collect::<Vec<_>>()}))
            }
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }

    pub(super) fn cluster(&self, scope: &Scope, name: Option<&str>) -> Result<String, Fault> {
        let name = short(name.unwrap_or("default")).to_owned();
        match self.ecs.clusters.contains_key(&(scope.clone(), name.clone())) {
            true => Ok(name),
            false => Err(Fault::new("ClusterNotFoundException", format!("Cluster not found: {name} in {}", scope.1))),
        }
    }

    pub(super) fn task_arn(&self, scope: &Scope, cluster: &str, task: &str) -> String {
        format!("arn:aws:ecs:{}:{}:task/{cluster}/{}", scope.1, scope.0, short(task))
    }

    fn list_tasks(&self, scope: &Scope, input: &ListTasks) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        let wanted = input.desired_status.as_deref().unwrap_or("RUNNING");
        let group = input.service_name.as_ref().map(|service| format!("service:{}", short(service)));
        let found = self.ecs.tasks.values().filter(|task| {
            task.scope == *scope
                && task.cluster == cluster
                && self.task_as_listed(task).desired_status == wanted
                && task.listed <= self.now
                && self.is_kept(task)
                && input.started_by.as_ref().is_none_or(|by| task.started_by == *by)
                && input.family.as_ref().is_none_or(|family| task.family == *family)
                && group.as_ref().is_none_or(|group| task.group == *group)
        });
        let all: Vec<_> = found.map(|task| task.arn.clone()).collect();
        let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
        let most = input.max_results.unwrap_or(100);
        let mut answer = json!({"taskArns": all.iter().skip(skip).take(most).collect::<Vec<_>>()});
        if skip + most < all.len() {
            answer["nextToken"] = (skip + most).to_string().into();
        }
        Ok(answer)
    }

    /// Whether ECS has not forgotten it yet.
    fn is_kept(&self, task: &Task) -> bool {
        task.stopped.is_none_or(|stopped| self.now.since(stopped) < SHOWN)
    }

    fn describe_tasks(&self, scope: &Scope, input: &Tasks) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        if input.tasks.len() > 100 || input.tasks.is_empty() {
            return Err(Fault::new("InvalidParameterException", "Tasks cannot be empty or more than 100."));
        }
        let _ = &input.include;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for wanted in &input.tasks {
            let arn = self.task_arn(scope, &cluster, wanted);
            match self.ecs.tasks.get(&arn).filter(|task| task.described <= self.now && self.is_kept(task)) {
                Some(task) => tasks.push(self.shown(self.task_as_described(task))),
                None => failures.push(json!({"arn": arn, "reason": "MISSING"})),
            }
        }
        Ok(json!({"tasks": tasks, "failures": failures}))
    }

    /// A task as `DescribeTasks` shows it.
    fn shown(&self, task: &Task) -> Value {
        let containers = task.containers.iter().map(|container| {
            let status = match (task.last_status, container.running) {
                (status @ ("PROVISIONING" | "PENDING"), _) => status,
                (_, true) => "RUNNING",
                (_, false) => "STOPPED",
            };
            let mut shown = json!({"name": container.name, "image": container.image, "lastStatus": status,
                "taskArn": task.arn, "networkInterfaces": []});
            for (field, value) in [
                ("exitCode", container.exit_code.map(Value::from)),
                ("reason", container.reason.clone().map(Value::from)),
                (
                    "networkBindings",
                    container.host_port.map(|port| {
                        json!([{"bindIP": "127.0.0.1",
                    "containerPort": container.port, "hostPort": port, "protocol": "tcp"}])
                    }),
                ),
            ] {
                if let Some(value) = value {
                    shown[field] = value;
                }
            }
            shown
        });
        let mut shown = json!({
            "taskArn": task.arn, "clusterArn": cluster_arn(&task.scope, &task.cluster),
            "taskDefinitionArn": task.definition, "lastStatus": task.last_status,
            "desiredStatus": task.desired_status, "startedBy": task.started_by, "group": task.group,
            "launchType": task.launch_type, "createdAt": stamp(task.created), "tags": task.tags,
            "overrides": task.overrides, "containers": containers.collect::<Vec<_>>(), "version": 1,
            "attachments": [], "attributes": [], "availabilityZone": format!("{}a", task.scope.1),
        });
        for (field, value) in [
            ("startedAt", task.started.map(stamp)),
            ("stoppingAt", task.stopping.map(stamp)),
            ("stoppedAt", task.stopped.map(stamp)),
            ("stopCode", task.stop_code.map(Value::from)),
            ("stoppedReason", task.stopped_reason.clone().map(Value::from)),
        ] {
            if let Some(value) = value {
                shown[field] = value;
            }
        }
        shown
    }
}

pub(super) fn cluster_arn((account, region): &Scope, name: &str) -> String {
    format!("arn:aws:ecs:{region}:{account}:cluster/{name}")
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn without(value: Value, field: &str) -> Value {
    let mut fields: Map<String, Value> = value.as_object().cloned().unwrap_or_default();
    fields.remove(field);
    fields.into()
}
