//! How a task begins: `RunTask`, with its client token, and the tasks of services.
//!
//! Invariant: a client token starts its tasks once (fact 18), whatever room there is by then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use super::{Container, STOP_TIMEOUT, Scope, Task, cluster_arn, text};
use crate::world::health::{ContainerCheck, Health};
use crate::world::services::service_arn;
use crate::world::{Fault, Request, Response, Timer, World};

/// How long ECS takes to find a place for a task.
const PLACEMENT: Duration = Duration::from_millis(100);

/// What `RunTask` answered for a client token (fact 18).
#[derive(Debug, Clone)]
pub(super) struct Answered {
    parameters: String,
    tasks: Vec<String>,
    failures: Vec<Value>,
    at: Time,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RunTask {
    cluster: Option<String>,
    task_definition: String,
    count: Option<usize>,
    started_by: Option<String>,
    client_token: Option<String>,
    overrides: Option<Overrides>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Value>,
    platform_version: Option<String>,
    network_configuration: Option<Value>,
    tags: Option<Value>,
    group: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Overrides {
    #[serde(default)]
    container_overrides: Vec<ContainerOverride>,
    cpu: Option<String>,
    memory: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ContainerOverride {
    name: String,
    command: Option<Vec<String>>,
    #[serde(default)]
    environment: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    value: String,
}

impl World {
    /// Answers a request while no cluster has room for another task: what a `RunTask` is told then, its token stands for.
    pub fn handle_without_room(&mut self, request: &Request, now: Time) -> Response {
        self.ecs.is_full = true;
        let response = self.handle(request, now);
        self.ecs.is_full = false;
        response
    }

    pub(super) fn run_task(&mut self, scope: &Scope, input: RunTask, body: &[u8]) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        let count = input.count.unwrap_or(1);
        if !(1..=10).contains(&count) {
            return Err(Fault::new("InvalidParameterException", "count should be between 1 and 10."));
        }
        let definition = self.definition(scope, &input.task_definition)?.clone();
        let needs_network = definition.get("networkMode").and_then(Value::as_str) == Some("awsvpc");
        if needs_network && input.network_configuration.is_none() {
            let why = "Network Configuration must be provided when networkMode 'awsvpc' is specified.";
            return Err(Fault::new("InvalidParameterException", why));
        }
        let key = input.client_token.clone().map(|token| (cluster_arn(scope, &cluster), token));
        let parameters = String::from_utf8_lossy(body).into_owned();
        if let Some(answered) = key.as_ref().and_then(|key| self.ecs.tokens.get(key))
            && self.now.since(answered.at) < Duration::from_secs(24 * 3600)
        {
            if answered.parameters != parameters {
                return Err(Fault::new("ConflictException", "The client token was used with other parameters."));
            }
            return Ok(self.ran(&answered.tasks, &answered.failures));
        }
        let room = self.ecs.clusters.get(&(scope.clone(), cluster.clone())).and_then(|cluster| cluster.room_for_tasks);
        let started_by = input.started_by.unwrap_or_default();
        let overrides = input.overrides.unwrap_or_default();
        let _ = (input.capacity_provider_strategy, input.platform_version);
        let _ = (overrides.cpu, overrides.memory);
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let here = |task: &&Task| task.scope == *scope && task.cluster == cluster && !task.is_over();
            if self.ecs.is_full || room.is_some_and(|room| self.ecs.tasks.values().filter(here).count() >= room) {
                failures.push(json!({"reason": "RESOURCE:MEMORY", "arn": cluster_arn(scope, &cluster)}));
                continue;
            }
            let made = &overrides.container_overrides;
            let new = self.new_task(scope, &cluster, &definition, made, started_by.clone())?;
            if let Some(made) = self.ecs.tasks.get_mut(&new) {
                made.tags = input.tags.clone().unwrap_or(json!([]));
                made.launch_type = input.launch_type.clone().unwrap_or_else(|| "FARGATE".into());
                made.group = input.group.clone().unwrap_or_else(|| format!("family:{}", made.family));
            }
            tasks.push(new);
        }
        let answer = self.ran(&tasks, &failures);
        if let Some(key) = key {
            self.ecs.tokens.insert(key, Answered { parameters, tasks, failures, at: self.now });
        }
        Ok(answer)
    }

    fn ran(&self, tasks: &[String], failures: &[Value]) -> Value {
        let shown = tasks.iter().filter_map(|arn| self.ecs.tasks.get(arn)).map(|task| self.shown(task));
        json!({"tasks": shown.collect::<Vec<_>>(), "failures": failures})
    }

    fn new_task(
        &mut self,
        scope: &Scope,
        cluster: &str,
        definition: &Value,
        overrides: &[ContainerOverride],
        started_by: String,
    ) -> Result<String, Fault> {
        let id = format!("{}{}", self.hex(), self.hex());
        let arn = self.task_arn(scope, cluster, &id);
        let defined = definition.get("containerDefinitions").and_then(Value::as_array).cloned().unwrap_or_default();
        for one in overrides {
            if !defined.iter().any(|container| container.get("name").and_then(Value::as_str) == Some(&one.name)) {
                let why =
                    format!("Override for container named {} is not a container in the TaskDefinition.", one.name);
                return Err(Fault::new("InvalidParameterException", why));
            }
        }
        let containers = defined.iter().map(|one| {
            let name = text(one, "name");
            let given = overrides.iter().find(|given| given.name == name);
            self.container(one, given, &scope.1, &id)
        });
        let containers: Vec<Container> = containers.collect();
        let task = Task {
            arn: arn.clone(),
            scope: scope.clone(),
            cluster: cluster.to_owned(),
            definition: text(definition, "taskDefinitionArn"),
            family: text(definition, "family"),
            started_by,
            group: String::new(),
            last_status: "PROVISIONING",
            desired_status: "RUNNING",
            stop_code: None,
            stopped_reason: None,
            created: self.now,
            started: None,
            stopping: None,
            stopped: None,
            containers,
            overrides: json!({}),
            tags: json!([]),
            launch_type: "FARGATE".into(),
            protected: None,
            target: None,
            failed_checks: 0,
            listed: self.now.plus(self.lateness().tasks),
            described: self.now.plus(self.lateness().described),
        };
        self.ecs.tasks.insert(arn.clone(), task);
        self.after(PLACEMENT, Timer::Place(arn.clone()));
        Ok(arn)
    }

    fn container(&self, defined: &Value, given: Option<&ContainerOverride>, region: &str, task: &str) -> Container {
        let name = text(defined, "name");
        let list = |field: &str| {
            let items = defined.get(field).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut command = list("entryPoint");
        let entry_point = command.len();
        command.extend(given.and_then(|given| given.command.clone()).unwrap_or_else(|| list("command")));
        let mut environment: BTreeMap<_, _> = defined
            .get("environment")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|pair| (text(pair, "name"), text(pair, "value")))
            .collect();
        environment.extend(
            given.into_iter().flat_map(|given| &given.environment).map(|pair| (pair.name.clone(), pair.value.clone())),
        );
        environment.insert("AWS_REGION".into(), region.to_owned());
        // Some SDKs read that one instead; and none asks without credentials, which a task role gives there.
        for (name, value) in
            [("AWS_DEFAULT_REGION", region), ("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")]
        {
            environment.entry(name.into()).or_insert_with(|| value.to_owned());
        }
        // Where an application asks for workers; AWS's own tools take the address from here.
        environment.insert("AWS_ENDPOINT_URL_SQS".into(), format!("{}/sqs", self.endpoint));
        environment.insert("ECS_AGENT_URI".into(), format!("{}/agent/{task}", self.endpoint));
        environment.insert("ECS_CONTAINER_METADATA_URI_V4".into(), format!("{}/agent/{task}/v4/{name}", self.endpoint));
        let options = defined.pointer("/logConfiguration/options");
        let logs = options.filter(|options| options.get("awslogs-group").is_some()).map(|options| {
            let region = options.get("awslogs-region").and_then(Value::as_str).unwrap_or(region).to_owned();
            let prefix = text(options, "awslogs-stream-prefix");
            (region, text(options, "awslogs-group"), format!("{prefix}/{name}/{task}"))
        });
        let port = defined.pointer("/portMappings/0/containerPort").and_then(Value::as_u64);
        Container {
            image: text(defined, "image"),
            essential: defined.get("essential").and_then(Value::as_bool).unwrap_or(true),
            running: false,
            exit_code: None,
            reason: None,
            entry_point,
            folder: text(defined, "workingDirectory"),
            command,
            environment,
            port: port.and_then(|port| u16::try_from(port).ok()),
            check: ContainerCheck::of(defined),
            health: ContainerCheck::of(defined).map(|_| Health::Initial(0)),
            host_port: None,
            logs,
            stop_timeout: defined.get("stopTimeout").and_then(Value::as_u64).unwrap_or(STOP_TIMEOUT),
            name,
        }
    }

    /// Starts a task of a service's task set.
    pub(in crate::world) fn start_service_task(
        &mut self,
        scope: &Scope,
        cluster: &str,
        definition: &str,
        set: &str,
        service: &str,
    ) {
        let Ok(definition) = self.definition(scope, definition).cloned() else { return };
        let own = self.ecs.services.get(&service_arn(scope, cluster, service));
        let has_target = own.is_some_and(|service| service.check.is_some());
        if let Ok(arn) = self.new_task(scope, cluster, &definition, &[], set.to_owned())
            && let Some(task) = self.ecs.tasks.get_mut(&arn)
        {
            task.group = format!("service:{service}");
            task.target = has_target.then_some(Health::Initial(0));
        }
    }
}
