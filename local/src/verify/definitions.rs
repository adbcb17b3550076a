//! Task definitions: containers, log drivers and groups, roles, secrets, images and what they are built for.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::manifest::{LaunchType, LogMode, in_environment};

use super::{Look, trust};
use crate::cloud::Service as Of;

/// What uses a family: its name in deploy.yaml, the container that it names, and how.
type Use = (String, Option<String>, How);

/// How a family is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By a service, which has a network and a launch type of its own.
    Service,
    /// By tasks that are started; their lines must not be lost, where it is said so.
    Tasks {
        /// Where, as deploy.yaml says.
        launch_type: Option<LaunchType>,
        /// Whether the log driver must not lose any.
        needs_lines: bool,
    },
}

impl Look<'_> {
    pub(super) async fn definitions(&mut self, of_services: &BTreeMap<String, i64>) {
        let (name, manifest) = (self.name, self.manifest);
        let is_here = |listed| manifest.environments_of(listed).iter().any(|(own, _)| *own == name);
        let mut families: BTreeMap<String, Vec<Use>> =
            of_services.keys().map(|family| (family.clone(), Vec::new())).collect();
        for (own, service) in manifest.services.iter().filter(|(_, one)| is_here(one.environments.as_ref())) {
            let uses = families.entry(in_environment(&service.family, name)).or_default();
            uses.push((own.clone(), Some(service.container.clone()), How::Service));
        }
        for (own, task) in manifest.tasks.iter().filter(|(_, one)| is_here(one.environments.as_ref())) {
            let uses = families.entry(in_environment(&task.family, name)).or_default();
            let launch_type = self.environment.launch_type;
            let how = How::Tasks { launch_type, needs_lines: task.log_mode == LogMode::AsDefined };
            uses.push((own.clone(), task.container.clone(), how));
        }
        for (own, worker) in manifest.workers.iter().filter(|(_, one)| is_here(one.environments.as_ref())) {
            let uses = families.entry(in_environment(&worker.family, name)).or_default();
            let has_own = worker.launch_type.is_some() || !worker.capacity_providers.is_empty();
            let launch_type = if has_own { worker.launch_type } else { self.environment.launch_type };
            uses.push((own.clone(), worker.container.clone(), How::Tasks { launch_type, needs_lines: false }));
        }
        for (family, uses) in families {
            let who = uses.first().map(|(own, ..)| own.clone()).unwrap_or_default();
            match self.ask(Of::Ecs, "DescribeTaskDefinition", json!({"taskDefinition": family})).await {
                Ok(answer) => self.definition(&family, &uses, &answer["taskDefinition"]).await,
                Err(refused) if refused.code == "ClientException" => {
                    self.wrong(
                        &who,
                        format!(
                            "there is no task definition `{family}`: register one, or correct `family` in deploy.yaml"
                        ),
                    );
                }
                Err(refused) => self.unasked(format!("the task definition {family}"), &refused),
            }
        }
    }

    async fn definition(&mut self, family: &str, uses: &[Use], definition: &Value) {
        let who = uses.first().map(|(own, ..)| own.clone()).unwrap_or_default();
        let containers = definition["containerDefinitions"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = containers.iter().filter_map(|one| one["name"].as_str()).collect();
        for (own, container, how) in uses {
            match container {
                Some(container) if !names.contains(&container.as_str()) => {
                    let why = shared::text::unknown("container", container, names.iter().copied());
                    self.wrong(own, format!("in the task definition {family}, {why}"));
                }
                None if names.len() > 1 => {
                    self.wrong(own, format!("the task definition {family} has several containers: say in deploy.yaml which one gets the image (`container`)"));
                }
                _ => {}
            }
            if let How::Tasks { launch_type, .. } = how {
                self.placed(own, family, definition, *launch_type);
            }
            for one in containers.iter().filter(|_| matches!(how, How::Tasks { needs_lines: true, .. })) {
                let mode = one.pointer("/logConfiguration/options/mode").and_then(Value::as_str);
                if one["logConfiguration"].is_object() && mode != Some("blocking") {
                    self.note(
                        own,
                        "its log driver may lose lines when many come at once: say `log_mode: blocking` in deploy.yaml",
                    );
                }
            }
        }
        for container in &containers {
            self.logs(&who, family, container).await;
            self.secrets(&who, container).await;
        }
        for field in ["executionRoleArn", "taskRoleArn"] {
            self.task_role(&who, field, definition[field].as_str()).await;
        }
        let needs_role =
            definition["requiresCompatibilities"].as_array().is_some_and(|all| all.contains(&json!("FARGATE")));
        if needs_role && definition["executionRoleArn"].is_null() {
            self.wrong(&who, format!("the task definition {family} has no execution role, and Fargate pulls images and writes logs with one: give it `executionRoleArn`"));
        }
        self.architecture(&who, family, definition, &containers).await;
    }

    /// Whether ECS takes the family where deploy.yaml says that its tasks run.
    fn placed(&mut self, who: &str, family: &str, definition: &Value, launch_type: Option<LaunchType>) {
        let has_network = definition["networkMode"] == "awsvpc";
        match (has_network, self.environment.subnets.is_empty()) {
            (true, true) => self.wrong(who, format!("the task definition {family} is of the network mode awsvpc, and ECS starts no such task without `subnets`: give them in deploy.yaml")),
            (false, false) => {
                let mode = definition["networkMode"].as_str().unwrap_or("bridge");
                self.wrong(who, format!("the task definition {family} is of the network mode {mode}, and ECS takes `subnets` for awsvpc alone: leave them out of deploy.yaml, or make it awsvpc"));
            }
            _ => {}
        }
        let word = match launch_type {
            Some(LaunchType::Fargate) => "FARGATE",
            Some(LaunchType::Ec2) => "EC2",
            Some(LaunchType::External) => "EXTERNAL",
            None => return,
        };
        let takes = super::texts(&definition["requiresCompatibilities"]);
        if !takes.is_empty() && !takes.contains(word) {
            let takes: Vec<_> = takes.into_iter().collect();
            self.wrong(who, format!("the task definition {family} is for {}, and deploy.yaml runs it on {word}: correct `launch_type`, or its `requiresCompatibilities`", takes.join(", ")));
        }
    }

    async fn logs(&mut self, who: &str, family: &str, container: &Value) {
        let logs = &container["logConfiguration"];
        let name = container["name"].as_str().unwrap_or_default();
        if logs["logDriver"] != "awslogs" {
            let driver = logs["logDriver"].as_str().unwrap_or("none");
            self.note(who, format!("container {name} of {family} has the log driver {driver}: its lines are not shown with the release. `awslogs` is what Cutover reads"));
            return;
        }
        let Some(group) = logs.pointer("/options/awslogs-group").and_then(Value::as_str) else { return };
        if logs.pointer("/options/awslogs-create-group") == Some(&json!("true")) {
            return;
        }
        let region = logs.pointer("/options/awslogs-region").and_then(Value::as_str);
        let region = region.unwrap_or(&self.environment.region).to_owned();
        match self.ask_in(&region, Of::Logs, "DescribeLogGroups", json!({"logGroupNamePrefix": group})).await {
            Ok(found) => {
                let found =
                    found["logGroups"].as_array().into_iter().flatten().find(|one| one["logGroupName"] == group);
                match found.map(|one| one["logGroupClass"].as_str().unwrap_or("STANDARD")) {
                    None => self.wrong(who, format!("there is no log group `{group}`, so {name} would not start: aws logs create-log-group --log-group-name {group}")),
                    Some("STANDARD") => {}
                    // A group's class stays as it was made.
                    Some(class) => self.note(who, format!("the log group `{group}` is of the class {class}, of which GetLogEvents gives nothing: no line of {name} would be shown; log to one of the class STANDARD")),
                }
            }
            Err(refused) => self.unasked(format!("whether the log group {group} is there"), &refused),
        }
    }

    async fn secrets(&mut self, who: &str, container: &Value) {
        let of_driver = container.pointer("/logConfiguration/secretOptions");
        let all = [Some(&container["secrets"]), of_driver].into_iter().flatten().filter_map(Value::as_array).flatten();
        for secret in all.cloned().collect::<Vec<_>>() {
            let (name, from) =
                (secret["name"].as_str().unwrap_or_default(), secret["valueFrom"].as_str().unwrap_or_default());
            let is_secret = from.contains(":secretsmanager:");
            // `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME:key:stage:version`
            let id: String =
                if is_secret { from.split(':').take(7).collect::<Vec<_>>().join(":") } else { from.to_owned() };
            // An ARN may be of another Region; SSM takes a parameter's as its name.
            let region = from.split(':').nth(3).filter(|region| !region.is_empty());
            let region = region.unwrap_or(&self.environment.region).to_owned();
            let asked = if is_secret {
                self.ask_in(&region, Of::Secrets, "DescribeSecret", json!({"SecretId": id})).await
            } else {
                self.ask_in(&region, Of::Ssm, "GetParameter", json!({"Name": id})).await
            };
            match asked {
                Ok(found) if !found["DeletedDate"].is_null() => {
                    self.wrong(who, format!("its secret {name} comes from {from}, which is about to be deleted: restore it, or correct `valueFrom`"));
                }
                Ok(_) => {}
                Err(refused) if refused.code.contains("NotFound") => {
                    self.wrong(
                        who,
                        format!(
                            "its secret {name} comes from {from}, which is not there: create it, or correct `valueFrom`"
                        ),
                    );
                }
                Err(refused) => self.unasked(format!("whether {from} is there"), &refused),
            }
        }
    }

    /// That a role is there, and that tasks may have it.
    async fn task_role(&mut self, who: &str, field: &str, arn: Option<&str>) {
        let Some(arn) = arn else { return };
        let name = arn.rsplit('/').next().unwrap_or(arn);
        // In another account, the environment's own role says what it may pass.
        if self.environment.role.is_none() && !self.answers.may_pass(arn) {
            let listed = self.answers.task_roles.join(",");
            let why = format!(
                "the functions may not give the role `{name}` ({field}) to a task: TaskRoles={listed} does not list {arn}"
            );
            self.wrong(who, why);
        }
        match self.ask(Of::Iam, "GetRole", json!({"RoleName": name})).await {
            Ok(found) if !trust(&found).contains("ecs-tasks.amazonaws.com") => {
                self.wrong(
                    who,
                    format!("no task may have the role `{name}` ({field}): let it trust ecs-tasks.amazonaws.com"),
                );
            }
            Ok(_) => {}
            Err(refused) if refused.code == "NoSuchEntity" => {
                self.wrong(
                    who,
                    format!("there is no role `{name}` ({field}): create it, or correct the task definition"),
                );
            }
            Err(refused) => self.unasked(format!("the role {name}"), &refused),
        }
    }

    /// That what is built runs where it is placed.
    async fn architecture(&mut self, who: &str, family: &str, definition: &Value, containers: &[Value]) {
        let wanted = self.answers.architecture.clone();
        let said = definition.pointer("/runtimePlatform/cpuArchitecture").and_then(Value::as_str);
        // On instances, what is not said is what the instances are.
        let Some(placed) = said.or(super::is_for_fargate(definition).then_some("X86_64")).map(str::to_lowercase) else {
            return;
        };
        if placed != wanted {
            self.wrong(who, format!(
                "the task definition {family} is for {placed}, and the image will be built for {wanted}: set \
                 runtimePlatform.cpuArchitecture, or answer Architecture={placed} (here: --parameter Architecture={placed})"
            ));
        }
        for container in containers {
            let image = container["image"].as_str().unwrap_or_default();
            // Others' registries are not asked.
            let Some((host, rest)) = image.split_once('/').filter(|(host, _)| host.contains(".dkr.ecr.")) else {
                continue;
            };
            let (repository, id) =
                match rest.split_once('@').map(|(name, digest)| (name, json!({"imageDigest": digest}))) {
                    Some(found) => found,
                    None => {
                        let (name, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
                        (name, json!({"imageTag": tag}))
                    }
                };
            let repository = repository.split(':').next().unwrap_or(repository);
            // ACCOUNT.dkr.ecr.REGION.amazonaws.com: after a release, it is the stack's, wherever it runs.
            let region = host.split('.').nth(3).unwrap_or_default().to_owned();
            let input = json!({"registryId": host.split('.').next(), "repositoryName": repository, "imageIds": [id],
                "acceptedMediaTypes": ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
                    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"]});
            match self.ask_in(&region, Of::Ecr, "BatchGetImage", input).await {
                Ok(found) => {
                    let Some(manifest) = found.pointer("/images/0/imageManifest").and_then(Value::as_str) else {
                        self.wrong(who, format!("the image {image} of {family} is not there: what runs with it now would not start again. Keep the images of releases"));
                        continue;
                    };
                    let manifest: Value = serde_json::from_str(manifest).unwrap_or_default();
                    let built: Vec<_> = manifest["manifests"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|one| one.pointer("/platform/architecture")?.as_str())
                        .map(|name| if name == "amd64" { "x86_64" } else { name })
                        // What tells how it was built.
                        .filter(|name| *name != "unknown")
                        .collect();
                    if built.is_empty() {
                        self.note(who, format!(
                            "the image {image} is for one architecture, and ECR does not say which: its task is placed on {placed}"
                        ));
                    } else if !built.contains(&placed.as_str()) {
                        self.wrong(
                            who,
                            format!(
                                "the image {image} is built for {}, and its task is placed on {placed}",
                                built.join(", ")
                            ),
                        );
                    }
                }
                Err(refused) if refused.code == "RepositoryNotFoundException" => {
                    self.wrong(
                        who,
                        format!("there is no ECR repository `{repository}`: correct the task definition's image"),
                    );
                }
                Err(refused) => self.unasked(format!("the image {image}"), &refused),
            }
        }
    }
}
