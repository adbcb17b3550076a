//! ECS services with task sets, as CodeDeploy drives them.
//!
//! Invariant: traffic goes to the healthy tasks of the primary task set, and to nothing else.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use super::ecs::{Scope, Task, cluster_arn, short, stamp};
use super::{Effect, Fault, Timer, World};
use crate::Mistake;
use crate::account;

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) arn: String,
    pub(super) scope: Scope,
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) desired: usize,
    /// The container that gets the traffic, and its port, where somebody asks it.
    pub(super) container: Option<String>,
    container_port: Option<u16>,
    /// How its target group asks, where it has one.
    pub(super) check: Option<account::HealthCheck>,
    /// Why its tasks are not healthy, as far as that was seen last.
    pub(super) unhealthy: Option<String>,
    /// What ECS has said of it, newest first.
    pub(super) events: Vec<(Time, String)>,
    port: Option<u16>,
    /// What its tasks are to be placed by, as ECS shows it; empty where they have a launch type.
    providers: Vec<Value>,
    /// How ECS itself brings a new version, where it does.
    pub(super) rollout: Option<account::Rollout>,
    /// The task definition that it has, or is on its way to, where ECS itself brings it.
    pub(super) definition: String,
    created: Time,
    /// The primary one first.
    pub(super) sets: Vec<TaskSet>,
    /// Where the traffic goes now.
    routed: Vec<(String, u32)>,
}

/// Where the traffic of a service goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficView {
    /// The Region.
    pub region: String,
    /// The service's name.
    pub service: String,
    /// The task definition, as `family:revision`.
    pub definition: String,
    /// The image of the container that gets the traffic.
    pub image: String,
    /// The port of this machine that stands for its load balancer.
    pub port: Option<u16>,
}

/// A task set.
#[derive(Debug, Clone)]
pub(super) struct TaskSet {
    /// What its tasks are started by.
    pub(super) id: String,
    pub(super) definition: String,
    pub(super) desired: usize,
    /// How many of its tasks have died.
    pub(super) died: u32,
    /// Its share of the traffic in percent, while the traffic of the service is shared; the primary one's otherwise.
    pub(super) weight: Option<u32>,
    /// What its tasks are placed by, as ECS shows it; empty where they have a launch type.
    providers: Vec<Value>,
    pub(super) created: Time,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DescribeServices {
    cluster: Option<String>,
    services: Vec<String>,
    include: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UpdateService {
    cluster: Option<String>,
    service: String,
    task_definition: Option<String>,
    deployment_configuration: Option<Value>,
    force_new_deployment: Option<bool>,
    desired_count: Option<usize>,
}

/// How many of a container's last lines say why it ended.
const LAST_LINES: usize = 12;

/// How long ECS takes to notice that a service has too few tasks, or too many.
const RECONCILE: Duration = Duration::from_millis(200);

impl World {
    pub(super) fn create_service(
        &mut self,
        scope: &Scope,
        cluster: &str,
        name: &str,
        given: &account::Service,
    ) -> Result<(), Mistake> {
        let definition = self.definition(scope, &given.task_definition);
        let definition =
            definition.map_err(|fault| Mistake(format!("local.yaml: service {name}: {}", fault.message)))?;
        let definition = definition.get("taskDefinitionArn").and_then(Value::as_str).unwrap_or_default().to_owned();
        let arn = service_arn(scope, cluster, name);
        let service = Service {
            arn: arn.clone(),
            scope: scope.clone(),
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            desired: given.desired,
            container: given.container.clone(),
            container_port: given.container_port,
            check: given.check(),
            unhealthy: None,
            events: Vec::new(),
            port: given.port,
            providers: given
                .capacity_providers
                .iter()
                .map(|one| json!({"capacityProvider": one.name, "base": one.base, "weight": one.weight}))
                .collect(),
            rollout: (given.controller == account::Controller::Ecs).then(|| given.deployment.clone()),
            definition: definition.clone(),
            created: self.now,
            sets: Vec::new(),
            routed: Vec::new(),
        };
        let providers = service.providers.clone();
        self.ecs.services.insert(arn.clone(), service);
        let set = self.create_task_set(&arn, &definition, providers);
        if given.controller == account::Controller::Ecs {
            self.first_rollout(&arn, &definition, &set);
        }
        Ok(())
    }

    /// Creates a task set for the whole service, and returns its id.
    pub(super) fn create_task_set(&mut self, service: &str, definition: &str, providers: Vec<Value>) -> String {
        let id = format!("ecs-svc/{}", u64::from_str_radix(&self.hex()[..15], 16).unwrap_or_default());
        let now = self.now;
        if let Some(service) = self.ecs.services.get_mut(service) {
            let (definition, desired) = (definition.to_owned(), service.desired);
            let id = id.clone();
            service.sets.push(TaskSet { id, definition, desired, died: 0, weight: None, providers, created: now });
        }
        self.after(RECONCILE, Timer::Service(service.to_owned()));
        id
    }

    /// Makes a task set the primary one: the traffic goes to it from now on.
    pub(super) fn make_primary(&mut self, service: &str, set: &str) {
        if let Some(service) = self.ecs.services.get_mut(service) {
            service.sets.sort_by_key(|one| one.id != set);
            for one in &mut service.sets {
                one.weight = None;
            }
        }
        self.route(service);
    }

    /// Lets a task set go: its tasks are stopped, those that protect themselves when they let go.
    pub(super) fn scale_to_zero(&mut self, service: &str, set: &str) {
        let sets = self.ecs.services.get_mut(service).map(|service| &mut service.sets);
        if let Some(set) = sets.and_then(|sets| sets.iter_mut().find(|one| one.id == set)) {
            set.desired = 0;
        }
        self.reconcile(service);
    }

    /// Live tasks of a set, and how many of them are healthy.
    pub(super) fn set_tasks(&self, set: &str) -> (usize, usize) {
        let live: Vec<_> = self.ecs.tasks.values().filter(|task| task.started_by == set && !task.is_over()).collect();
        (live.len(), live.iter().filter(|task| task.is_healthy()).count())
    }

    /// Starts what a service lacks, stops what it has too much.
    pub(super) fn reconcile(&mut self, arn: &str) {
        let Some(service) = self.ecs.services.get(arn).cloned() else { return };
        for set in &service.sets {
            let (live, _) = self.set_tasks(&set.id);
            for _ in live..set.desired {
                self.start_service_task(&service.scope, &service.cluster, &set.definition, &set.id, &service.name);
            }
            if live > set.desired {
                let now = self.now;
                let own = self.ecs.tasks.values().filter(|task| task.started_by == set.id && !task.is_over());
                let (protected, mut free): (Vec<_>, Vec<_>) = own.cloned().partition(|task| task.is_protected(now));
                free.retain(|task| task.stopping.is_none() || set.desired == 0);
                let going = live - protected.len() - free.len();
                for task in free.into_iter().take(live.saturating_sub(going + set.desired)) {
                    self.stop_task(&task.arn, "ServiceSchedulerInitiated", "Scaling activity initiated by deployment");
                }
                // Protection that expires by itself is noticed, too.
                if let Some(until) = protected.iter().filter_map(|task| task.protected).min() {
                    self.after(until.since(now), Timer::Service(arn.to_owned()));
                }
            }
        }
        let gone: Vec<_> = service
            .sets
            .iter()
            .filter(|set| set.desired == 0 && self.set_tasks(&set.id).0 == 0)
            .map(|set| &set.id)
            .collect();
        if let Some(service) = self.ecs.services.get_mut(arn) {
            service.sets.retain(|set| !gone.contains(&&set.id));
        }
        self.route(arn);
    }

    /// Shares the traffic of a service between two of its task sets: so many percent go to `new`, the rest to the primary one.
    pub(super) fn share_traffic(&mut self, arn: &str, new: &str, percent: u32) {
        if let Some(service) = self.ecs.services.get_mut(arn) {
            for (at, set) in service.sets.iter_mut().enumerate() {
                set.weight = match at {
                    _ if set.id == new => Some(percent),
                    0 => Some(100 - percent),
                    _ => Some(0),
                };
            }
        }
        self.route(arn);
    }

    /// Sends the traffic to the healthy tasks of the primary set, or of all where it is shared.
    fn route(&mut self, arn: &str) {
        let Some(service) = self.ecs.services.get(arn) else { return };
        let mut tasks = Vec::new();
        for (at, set) in service.sets.iter().enumerate() {
            let share = set.weight.unwrap_or(if at == 0 { 100 } else { 0 });
            let own = self.ecs.tasks.values().filter(|task| task.started_by == set.id && task.is_healthy());
            let own: Vec<_> = own.map(|task| task.arn.clone()).collect();
            let each = u32::try_from(own.len()).unwrap_or_default();
            tasks.extend(
                own.into_iter().map(|task| (task, share * 1000 / each.max(1))).filter(|(_, weight)| *weight > 0),
            );
        }
        let Some(service) = self.ecs.services.get_mut(arn) else { return };
        if service.routed == tasks {
            return;
        }
        service.routed.clone_from(&tasks);
        if let Some(port) = service.port {
            self.effects.push(Effect::Route { port, container: service.container.clone(), tasks });
        }
    }

    /// Where the traffic of each service goes, for tests and for the end of a release.
    #[must_use]
    pub fn traffic(&self) -> Vec<TrafficView> {
        let services = self.ecs.services.values();
        let view = |service: &Service| {
            let definition = &service.sets.first()?.definition;
            let containers =
                self.definition(&service.scope, definition).ok()?.get("containerDefinitions")?.as_array()?;
            let is_it = |one: &&Value| {
                service.container.as_deref().is_none_or(|name| one.get("name").and_then(Value::as_str) == Some(name))
            };
            let chosen = containers.iter().find(is_it)?;
            Some(TrafficView {
                region: service.scope.1.clone(),
                service: service.name.clone(),
                definition: short(definition).to_owned(),
                image: chosen.get("image")?.as_str()?.to_owned(),
                port: service.port,
            })
        };
        services.filter_map(view).collect()
    }

    /// The services whose tasks are not placed by what they were created with any more.
    #[must_use]
    pub fn misplaced(&self) -> Vec<String> {
        let services = self.ecs.services.values().filter(|service| service.rollout.is_none());
        let is_other = |service: &&Service| service.sets.first().is_some_and(|set| set.providers != service.providers);
        services.filter(is_other).map(|service| service.name.clone()).collect()
    }

    /// Whether every service has all of its tasks, healthy.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ecs
            .services
            .values()
            .all(|service| service.sets.iter().all(|set| self.set_tasks(&set.id).1 == set.desired))
    }

    /// Why a service does not come up, once a task of one has ended: which, how, and its last lines.
    #[must_use]
    pub fn ended_service_task(&self) -> Option<String> {
        let task = self.ecs.tasks.values().find(|task| task.is_over() && task.group.starts_with("service:"))?;
        let service = task.group.trim_start_matches("service:");
        let container = task.containers.iter().find(|one| one.exit_code != Some(0)).or(task.containers.first())?;
        let how = match (container.exit_code, &task.stopped_reason) {
            // Whatever it ended with was its answer to the signal.
            (_, Some(reason)) if task.stop_code == Some("ServiceSchedulerInitiated") => {
                format!("was stopped by ECS: {}", reason.trim_end_matches('.'))
            }
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, reason) => format!("did not start: {}", reason.as_deref().unwrap_or("no reason is known")),
        };
        let mut said = format!(
            "the service {service} in {} does not come up: container `{}` of {} {how}",
            task.scope.1,
            container.name,
            short(&task.definition)
        );
        let seen = self.service_of(task).and_then(|arn| self.ecs.services.get(&arn));
        let ill = seen.and_then(|service| service.unhealthy.as_ref()).filter(|_| how.contains("health checks"));
        if let Some(ill) = ill {
            // A target group asks where there is a port, and the container's own command elsewhere.
            let advice = match seen.and_then(|service| service.container_port) {
                Some(_) => "If it only needs longer, or answers elsewhere, say so in `services` of local.yaml: `health_check: {path: /up, \
                            matcher: \"200-399\", grace: 60s}`"
                    .to_owned(),
                None => {
                    let family = short(&task.definition).split(':').next().unwrap_or_default();
                    format!("If it only needs longer, say so in `containers.{family}.health_check` of local.yaml")
                }
            };
            said.push_str(&format!(" ({}). {advice}", shared::text::plain(ill)));
        }
        let lines = self.lines_of_task(&task.arn);
        match lines.as_slice() {
            [] if container.logs.is_none() => {
                said.push_str("; what it writes is read here only with the log driver `awslogs`, which its definition does not have");
            }
            [] => said.push_str("; it has written nothing"),
            _ => said.push_str(". Its last lines:"),
        }
        for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
            said.push_str(&format!("\n  {}", shared::text::plain(&line.message)));
        }
        Some(said)
    }

    /// What is still awaited of services that do not come up, after this long.
    #[must_use]
    pub fn unhealthy_services(&self, after: Duration) -> String {
        let services = self.ecs.services.values();
        let missing = services.filter(|service| service.sets.iter().any(|set| self.set_tasks(&set.id).1 < set.desired));
        let named = missing.map(|service| match &service.unhealthy {
            Some(why) => format!("{} in {} ({why})", service.name, service.scope.1),
            None => format!("{} in {}", service.name, service.scope.1),
        });
        format!("these services are not healthy after {after:?}: {}", named.collect::<Vec<_>>().join(", "))
    }

    pub(super) fn service_of(&self, task: &Task) -> Option<String> {
        let name = task.group.strip_prefix("service:")?;
        Some(service_arn(&task.scope, &task.cluster, name))
    }

    /// Something about a task of a service has changed.
    pub(super) fn service_changed(&mut self, task: &Task) {
        let Some(arn) = self.service_of(task) else { return };
        self.reconcile(&arn);
        self.deployments_changed(&arn);
        self.rollouts_changed(&arn);
    }

    /// Somebody has deleted a service: ECS goes on showing it, as INACTIVE.
    pub fn delete_service(&mut self, region: &str, cluster: &str, name: &str) {
        let gone: Vec<_> = self
            .ecs
            .services
            .values()
            .filter(|one| one.scope.1 == region && one.cluster == cluster && one.name == name)
            .map(|one| one.arn.clone())
            .collect();
        for arn in gone {
            self.ecs.services.remove(&arn);
            self.ecs.deleted_services.insert(arn);
        }
    }

    /// Updates a service that ECS itself deploys.
    pub(super) fn update_service(&mut self, scope: &Scope, input: &UpdateService) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        let arn = service_arn(scope, &cluster, short(&input.service));
        let missing = || Fault::new("ServiceNotFoundException", "Service not found.");
        let service = self.ecs.services.get(&arn).ok_or_else(missing)?;
        if service.rollout.is_none() && input.task_definition.is_some() {
            let why = "Unable to update task definition on services with a CODE_DEPLOY deployment controller.";
            return Err(Fault::new("InvalidParameterException", why));
        }
        let had = service.definition.clone();
        let definition = match &input.task_definition {
            Some(wanted) => {
                let found = self.definition(scope, wanted)?;
                found.get("taskDefinitionArn").and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            None => had.clone(),
        };
        if let Some(configuration) = &input.deployment_configuration {
            self.configure_rollout(&arn, configuration)?;
        }
        if let (Some(desired), Some(service)) = (input.desired_count, self.ecs.services.get_mut(&arn)) {
            service.desired = desired;
            for set in service.sets.iter_mut().filter(|set| set.desired > 0) {
                set.desired = desired;
            }
            self.reconcile(&arn);
        }
        // What has this definition already, or is on its way to it, begins no other deployment.
        if definition != had || input.force_new_deployment == Some(true) {
            self.begin_rollout(&arn, &definition);
        }
        let service = self.ecs.services.get(&arn).ok_or_else(missing)?;
        Ok(json!({"service": self.shown_service(service)}))
    }

    /// A task of a service has ended: it is replaced, the later the more have died.
    pub(super) fn service_task_ended(&mut self, task: &Task) {
        let Some(arn) = self.service_of(task) else { return };
        let mut died = 0;
        if let Some(service) = self.ecs.services.get_mut(&arn)
            && let Some(set) = service.sets.iter_mut().find(|set| set.id == task.started_by && set.desired > 0)
        {
            set.died += 1;
            died = set.died;
        }
        self.route(&arn);
        self.after(RECONCILE.max(Duration::from_secs(u64::from(died.min(10)))), Timer::Service(arn.clone()));
        self.deployments_changed(&arn);
        self.rollouts_changed(&arn);
    }

    pub(super) fn describe_services(&self, scope: &Scope, input: &DescribeServices) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        let _ = &input.include;
        let (mut services, mut failures) = (Vec::new(), Vec::new());
        for wanted in &input.services {
            let arn = service_arn(scope, &cluster, short(wanted));
            match self.ecs.services.get(&arn) {
                Some(service) => services.push(self.shown_service(service)),
                None if self.ecs.deleted_services.contains(&arn) => {
                    services.push(json!({"serviceArn": arn, "serviceName": short(wanted), "status": "INACTIVE",
                        "clusterArn": cluster_arn(scope, &cluster), "desiredCount": 0, "runningCount": 0, "pendingCount": 0,
                        "deploymentController": {"type": "ECS"}, "taskSets": [], "deployments": [], "events": [],
                        "loadBalancers": []}));
                }
                None => failures.push(json!({"arn": arn, "reason": "MISSING"})),
            }
        }
        Ok(json!({"services": services, "failures": failures}))
    }

    fn shown_service(&self, service: &Service) -> Value {
        let sets = service.sets.iter().enumerate().map(|(at, set)| {
            let (live, healthy) = self.set_tasks(&set.id);
            let status = if at == 0 {
                "PRIMARY"
            } else if set.desired == 0 {
                "DRAINING"
            } else {
                "ACTIVE"
            };
            json!({"id": set.id, "taskSetArn": format!("{}/{}", service.arn.replace(":service/", ":task-set/"), set.id),
                "serviceArn": service.arn, "clusterArn": cluster_arn(&service.scope, &service.cluster),
                "startedBy": "CODE_DEPLOY", "status": status, "taskDefinition": set.definition,
                "computedDesiredCount": set.desired, "pendingCount": live - healthy, "runningCount": healthy,
                "createdAt": stamp(set.created), "updatedAt": stamp(set.created),
                "launchType": set.providers.is_empty().then_some("FARGATE"), "capacityProviderStrategy": set.providers,
                "scale": {"value": 100.0, "unit": "PERCENT"},
                "stabilityStatus": if healthy == set.desired { "STEADY_STATE" } else { "STABILIZING" }})
        });
        let is_native = service.rollout.is_some();
        // What the service is on its way to is its primary deployment from the start.
        let deployments = service.sets.iter().filter(|_| is_native).map(|set| {
            let (live, healthy) = self.set_tasks(&set.id);
            json!({"id": set.id, "status": if set.definition == service.definition { "PRIMARY" } else { "ACTIVE" },
                "taskDefinition": set.definition, "desiredCount": set.desired, "runningCount": healthy,
                "rolloutState": self.rollout_state(&set.id),
                "pendingCount": live - healthy, "failedTasks": set.died, "createdAt": stamp(set.created),
                "updatedAt": stamp(set.created)})
        });
        let deployments: Vec<_> = deployments.collect();
        let counts = service
            .sets
            .iter()
            .map(|set| self.set_tasks(&set.id))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let balancers = match (&service.container, service.container_port) {
            (Some(container), Some(port)) => json!([{"containerName": container, "containerPort": port}]),
            _ => json!([]),
        };
        let events = service.events.iter().enumerate().map(|(at, (when, message))| {
            json!({"id": format!("{:08}", service.events.len() - at), "createdAt": stamp(*when), "message": message})
        });
        let events: Vec<_> = events.collect();
        let definition =
            if is_native { Some(&service.definition) } else { service.sets.first().map(|set| &set.definition) };
        let mut shown = json!({"serviceArn": service.arn, "serviceName": service.name,
            "clusterArn": cluster_arn(&service.scope, &service.cluster), "status": "ACTIVE",
            "desiredCount": service.desired, "runningCount": counts.1, "pendingCount": counts.0 - counts.1,
            "taskDefinition": definition,
            "deploymentController": {"type": if is_native { "ECS" } else { "CODE_DEPLOY" }}, "launchType": "FARGATE",
            "loadBalancers": balancers,
            "taskSets": if is_native { Vec::new() } else { sets.collect() }, "deployments": deployments, "events": events,
            "createdAt": stamp(service.created), "schedulingStrategy": "REPLICA"});
        if let Some(shape) = definition.and_then(|definition| self.definition(&service.scope, definition).ok())
            && shape.get("networkMode").and_then(Value::as_str) == Some("awsvpc")
        {
            // Which ones they are is nobody's affair here.
            let network = json!({"subnets": ["subnet-00000000000000001"], "securityGroups": ["sg-00000000000000001"],
                "assignPublicIp": "DISABLED"});
            shown["networkConfiguration"] = json!({"awsvpcConfiguration": network});
        }
        if let Some(rollout) = &service.rollout {
            shown["deploymentConfiguration"] = super::rollouts::api::shown_configuration(rollout);
        }
        shown
    }
}

pub(super) fn service_arn((account, region): &Scope, cluster: &str, name: &str) -> String {
    format!("arn:aws:ecs:{region}:{account}:service/{cluster}/{name}")
}
