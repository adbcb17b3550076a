//! Services: that they are there, who deploys them, and that they wait at the barrier for as long as it takes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shared::aws::ecs::Stage;
use shared::manifest::{Barrier, DeploymentKind, Service, in_environment};

use super::Look;
use crate::cloud::Service as Of;

/// How many services `DescribeServices` takes.
const AT_ONCE: usize = 10;

/// How long the way back should stay short, in minutes: below that, a service's old tasks are gone before anybody has seen
/// what is wrong.
const WAY_BACK: u64 = 60;

impl Look<'_> {
    /// Looks at them; the families that they need, with how many tasks each has.
    pub(super) async fn services(&mut self) -> BTreeMap<String, i64> {
        let (name, manifest) = (self.name, self.manifest);
        let is_here = |service: &Service| {
            manifest.environments_of(service.environments.as_ref()).iter().any(|(own, _)| *own == name)
        };
        let own: Vec<_> = manifest.services.iter().filter(|(_, service)| is_here(service)).collect();
        let names: Vec<_> = own.iter().map(|(_, service)| in_environment(&service.service, name)).collect();
        let (mut found, mut not_asked) = (BTreeMap::new(), BTreeSet::new());
        for some in names.chunks(AT_ONCE) {
            let input = json!({"cluster": self.environment.cluster, "services": some});
            match self.ask(Of::Ecs, "DescribeServices", input).await {
                Ok(answer) => {
                    for service in answer["services"].as_array().into_iter().flatten() {
                        found.insert(service["serviceName"].as_str().unwrap_or_default().to_owned(), service.clone());
                    }
                }
                Err(refused) => {
                    not_asked.extend(some.iter().cloned());
                    self.unasked(format!("the services {}", some.join(", ")), &refused);
                }
            }
        }
        let mut families = BTreeMap::new();
        for ((service_name, service), own) in own.into_iter().zip(&names) {
            let family = in_environment(&service.family, name);
            match found.get(own) {
                Some(seen) if seen["status"] == "ACTIVE" => {
                    *families.entry(family).or_default() += seen["desiredCount"].as_i64().unwrap_or_default();
                    self.service(service_name, service, seen).await;
                }
                None if not_asked.contains(own) => drop(families.entry(family).or_default()),
                _ => {
                    families.entry(family).or_default();
                    self.wrong(
                        service_name,
                        format!(
                            "the cluster {} has no service `{own}`: correct `service` in deploy.yaml, or create it",
                            self.environment.cluster
                        ),
                    );
                }
            }
        }
        families
    }

    async fn service(&mut self, name: &str, service: &Service, seen: &Value) {
        let controller = seen.pointer("/deploymentController/type").and_then(Value::as_str).unwrap_or("ECS");
        // CodeDeploy is told where the traffic goes; where ECS deploys, a proxy may stand before the container that gets the image.
        let balanced = seen["loadBalancers"].as_array().cloned().unwrap_or_default();
        let fits = |one: &Value| {
            let port = one["containerPort"].as_u64();
            one["containerName"] == service.container.as_str()
                && service.port.is_none_or(|own| Some(u64::from(own)) == port)
        };
        if let Some(first) = balanced.first().filter(|_| controller == "CODE_DEPLOY" && !balanced.iter().any(fits)) {
            let (container, port) = (first["containerName"].as_str().unwrap_or_default(), &first["containerPort"]);
            self.wrong(name, format!(
                "its load balancer asks container `{container}` at port {port}, and deploy.yaml says otherwise: correct \
                 `container` and `port` there"
            ));
        }
        let runs = seen["taskDefinition"].as_str().map(shared::aws::ecs::id).and_then(|id| id.rsplit_once(':'));
        let wanted = shared::manifest::in_environment(&service.family, self.name);
        if let Some((runs, _)) = runs.filter(|(runs, _)| *runs != wanted) {
            self.note(
                name,
                format!("it runs the family `{runs}` now, and deploy.yaml says `{wanted}`: a release moves it there"),
            );
        }
        match (controller, service.deployment) {
            ("CODE_DEPLOY", Some(DeploymentKind::Ecs)) => {
                self.wrong(
                    name,
                    "it is deployed by CodeDeploy, and deploy.yaml says `deployment: ecs`: correct it, or leave it out",
                );
            }
            ("ECS", Some(DeploymentKind::Codedeploy)) => {
                self.wrong(
                    name,
                    "it is deployed by ECS, and deploy.yaml says `deployment: codedeploy`: correct it, or leave it out",
                );
            }
            ("CODE_DEPLOY", _) => self.group(name, service).await,
            ("ECS", _) => self.rollout(name, service, seen),
            (other, _) => {
                self.wrong(name, format!("its controller is {other}, which Cutover does not deploy: move it to ECS"))
            }
        }
    }

    /// A service that ECS itself deploys.
    fn rollout(&mut self, name: &str, service: &Service, seen: &Value) {
        let how = &seen["deploymentConfiguration"];
        let strategy = how["strategy"].as_str().unwrap_or("ROLLING");
        if strategy == "ROLLING" {
            self.note(name, "it is rolling: nothing holds its traffic, so it is rolled out before the barrier opens");
            return;
        }
        let hooks = how["lifecycleHooks"].as_array().cloned().unwrap_or_default();
        let stages = |hook: &Value| hook["lifecycleStages"].as_array().cloned().unwrap_or_default();
        let is_before = |stage: &Value| stage.as_str().is_some_and(|stage| Stage::from(stage).can_be_barrier());
        let pause =
            hooks.iter().filter(|hook| hook["targetType"] == "PAUSE").find(|hook| stages(hook).iter().any(is_before));
        match pause {
            None if service.barrier == Some(Barrier::Add) => {}
            Some(pause) if pause.pointer("/timeoutConfiguration/action").and_then(Value::as_str) == Some("CONTINUE") => {
                self.wrong(
                    name,
                    "its PAUSE hook continues when nobody has in time, so its traffic would move before the others': let its \
                     timeoutConfiguration.action be ROLLBACK",
                );
            }
            None => self.wrong(name, format!(
                "{strategy} without a PAUSE hook before its traffic: it moves as soon as it is ready, before the others'. Add one at \
                 PRE_PRODUCTION_TRAFFIC_SHIFT, or say `barrier: add` in deploy.yaml"
            )),
            Some(pause) => {
                let minutes = pause.pointer("/timeoutConfiguration/timeoutInMinutes").and_then(Value::as_u64).unwrap_or(1440);
                self.waits(name, service, minutes, "its PAUSE hook waits");
            }
        }
        self.stays(name, how["bakeTimeInMinutes"].as_u64().unwrap_or_default(), "its bake time is", service);
    }

    /// A service that CodeDeploy deploys.
    async fn group(&mut self, name: &str, service: &Service) {
        let Some(names) = service.codedeploy() else {
            self.wrong(
                name,
                "it is deployed by CodeDeploy: give `codedeploy_application` and `deployment_group` in deploy.yaml",
            );
            return;
        };
        let [application, group] = [names.application, names.group].map(|one| in_environment(one, self.name));
        let input = json!({"applicationName": application, "deploymentGroupNames": [group]});
        let answer = match self.ask(Of::Codedeploy, "BatchGetDeploymentGroups", input).await {
            Ok(answer) => answer,
            Err(refused) if refused.code == "ApplicationDoesNotExistException" => {
                self.wrong(
                    name,
                    format!("there is no CodeDeploy application `{application}`: correct `codedeploy_application`"),
                );
                return;
            }
            Err(refused) => return self.unasked(format!("the deployment group {application}/{group}"), &refused),
        };
        let Some(seen) = answer.pointer("/deploymentGroupsInfo/0") else {
            self.wrong(
                name,
                format!("there is no deployment group `{group}` in `{application}`: correct `deployment_group`"),
            );
            return;
        };
        let own = in_environment(&service.service, self.name);
        let deploys =
            |one: &Value| one["serviceName"] == own.as_str() && one["clusterName"] == self.environment.cluster.as_str();
        if !seen["ecsServices"].as_array().into_iter().flatten().any(deploys) {
            self.wrong(
                name,
                format!(
                    "the group `{group}` deploys another service than {}/{own}: correct `deployment_group`",
                    self.environment.cluster
                ),
            );
        }
        let blue_green = &seen["blueGreenDeploymentConfiguration"];
        let ready = &blue_green["deploymentReadyOption"];
        if ready["actionOnTimeout"] == "STOP_DEPLOYMENT" {
            self.waits(
                name,
                service,
                ready["waitTimeInMinutes"].as_u64().unwrap_or_default(),
                "its group waits at Ready",
            );
        } else {
            self.wrong(name, format!(
                "the group `{group}` moves traffic as soon as it is ready, before the others: in its deployment settings, choose \
                 *Specify when to reroute traffic*, with a wait longer than {}",
                service.timeout
            ));
        }
        let old = &blue_green["terminateBlueInstancesOnDeploymentSuccess"];
        self.stays(
            name,
            old["terminationWaitTimeInMinutes"].as_u64().unwrap_or_default(),
            "its group's termination wait is",
            service,
        );
    }

    /// That the barrier is waited at for longer than the slowest deployment may take.
    fn waits(&mut self, name: &str, service: &Service, minutes: u64, what: &str) {
        if minutes * 60 < service.timeout.0.as_secs() {
            self.wrong(name, format!(
                "{what} {minutes} min, and others may take {}: it would give up before they are ready. Let it wait longer, or \
                 lower `timeout` in deploy.yaml",
                service.timeout
            ));
        }
    }

    /// That there is a way back; a worker's old tasks are drained, and need none.
    fn stays(&mut self, name: &str, minutes: u64, what: &str, service: &Service) {
        if service.kind == shared::manifest::ServiceKind::Web && minutes < WAY_BACK {
            self.note(
                name,
                format!(
                    "{what} {minutes} min: after that, the way back is a new deployment. An hour or more keeps it short"
                ),
            );
        }
    }
}
