//! Task definitions: read, and revised with a release's image.

use aws_sdk_ecs::types::{LogDriver, TaskDefinition, TaskDefinitionField};
use serde_json::Value;

use super::{Ecs, revision};
use crate::error::{Error, Verdict, failure};
use crate::manifest::LogMode;
use crate::text;

/// What Cutover needs to know of a task definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// The revision's ARN.
    pub arn: String,
    /// Its containers.
    pub containers: Vec<ContainerDefinition>,
    /// Its task role and its execution role, as far as it has them.
    pub roles: Vec<String>,
}

/// What Cutover needs to know of a container's definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerDefinition {
    /// Its name.
    pub name: String,
    /// Whether the task ends with it.
    pub essential: bool,
    /// Its image.
    pub image: String,
    /// Where its output goes, when that is CloudWatch Logs.
    pub logs: Option<LogSource>,
    /// Its log driver, when it has one.
    pub log_driver: Option<String>,
    /// Whether that driver may lose lines: non-blocking is the default since June 2025 (fact 25).
    pub may_lose_lines: bool,
}

/// The `awslogs` driver's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    /// The log group.
    pub group: String,
    /// The Region of the group.
    pub region: String,
    /// What stands in front of a stream's name.
    pub prefix: String,
}

impl LogSource {
    /// The stream of one task's container (fact 25).
    #[must_use]
    pub fn stream(&self, container: &str, task: &str) -> String {
        format!("{}/{container}/{task}", self.prefix)
    }
}

/// What the names of containers begin with that AWS puts beside a task's own.
const INJECTED: &[&str] = &["aws-guardduty-agent", "ecs-service-connect"];

impl Definition {
    /// Whether a task ends with this container. One that is not defined was put beside the others by AWS (GuardDuty's agent on Fargate,
    /// Service Connect's proxy): how that ends, or that it cannot be pulled, is no affair of the task's. Where the definition is not known,
    /// those are known by their names, and all others are taken for essential.
    #[must_use]
    pub fn is_essential(&self, container: &str) -> bool {
        match self.containers.iter().find(|one| one.name == container) {
            Some(one) => one.essential,
            None => self.containers.is_empty() && !INJECTED.iter().any(|prefix| container.starts_with(prefix)),
        }
    }

    /// Where a container's output goes.
    #[must_use]
    pub fn logs(&self, container: &str) -> Option<&LogSource> {
        self.containers.iter().find(|one| one.name == container)?.logs.as_ref()
    }
}

impl Ecs {
    /// The newest revision of `family`, with `image` in `container` (its only one unless named) and its logs as asked
    /// for: the newest itself when it is so already, otherwise a new revision that differs in nothing else. With it, the
    /// container's name.
    ///
    /// Safe to repeat: the second time, the newest revision is as it should be. A revision that nobody uses costs nothing.
    ///
    /// # Errors
    /// The calls', or a definition that has no such container.
    pub async fn definition_with_image(
        &self,
        family: &str,
        container: Option<&str>,
        image: Option<&str>,
        logs: LogMode,
    ) -> Result<(Definition, String), Error> {
        let call = self.client.describe_task_definition().task_definition(family).include(TaskDefinitionField::Tags);
        let name = self.call("DescribeTaskDefinition");
        let kept = revision::Kept::default();
        let call = call.customize().interceptor(kept.clone());
        let found = self.definitions.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await;
        let found = found.map_err(|error| no_definition(error, family, &self.region))?;
        let (Some(newest), Some(described)) = (found.task_definition, kept.body()) else {
            return Err(Error::Again(format!("{name}: an empty answer")));
        };
        let at = chosen_container(&newest, family, container)?;
        let chosen = newest.container_definitions()[at].name().unwrap_or_default().to_owned();
        match revision::revised(&described, at, image, logs) {
            Some(request) => Ok((self.register(request).await?, chosen)),
            None => Ok((definition(&newest), chosen)),
        }
    }

    async fn register(&self, request: Value) -> Result<Definition, Error> {
        let name = self.call("RegisterTaskDefinition");
        let call = self.client.register_task_definition();
        let call = call.customize().mutate_request(move |sent| revision::replace_body(sent, &request));
        let output = call.send().await.map_err(|error| failure(&name, &error))?;
        let registered = output.task_definition.ok_or_else(|| Error::Again(format!("{name}: an empty answer")))?;
        Ok(definition(&registered))
    }

    /// A revision by its ARN.
    ///
    /// # Errors
    /// The call's.
    pub async fn definition(&self, arn: &str) -> Result<Definition, Error> {
        let name = self.call("DescribeTaskDefinition");
        let call = self.client.describe_task_definition().task_definition(arn);
        let output = self.definitions.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
        output.task_definition.as_ref().map(definition).ok_or_else(|| Error::Again(format!("{name}: an empty answer")))
    }

    /// The newest revision of a family.
    ///
    /// # Errors
    /// The call's, or that there is none.
    pub async fn newest(&self, family: &str) -> Result<Definition, Error> {
        self.definition(family).await.map_err(|error| no_definition(error, family, &self.region))
    }
}

fn no_definition(error: Error, family: &str, region: &str) -> Error {
    match error {
        Error::Stop(verdict) if verdict.message.contains("ClientException") => Verdict::misconfigured(format!(
            "There is no task definition `{family}` in {region}: register it, or correct `family` in deploy.yaml."
        ))
        .into(),
        other => other,
    }
}

fn chosen_container(like: &TaskDefinition, family: &str, wanted: Option<&str>) -> Result<usize, Verdict> {
    let names: Vec<_> = like.container_definitions().iter().map(|one| one.name().unwrap_or_default()).collect();
    chosen(&names, family, wanted)
}

/// Which of a definition's containers is meant: its only one unless it is named.
pub(crate) fn chosen(names: &[&str], family: &str, wanted: Option<&str>) -> Result<usize, Verdict> {
    match wanted {
        Some(wanted) => names.iter().position(|name| *name == wanted).ok_or_else(|| {
            let why = text::unknown("container", wanted, names.iter().copied());
            Verdict::misconfigured(format!("Task definition `{family}`: {why} Correct `container` in deploy.yaml."))
        }),
        None if names.len() == 1 => Ok(0),
        None => Err(Verdict::misconfigured(format!(
            "Task definition `{family}` has {} containers ({}): say in deploy.yaml which `container` gets the release's image.",
            names.len(),
            names.join(", ")
        ))),
    }
}

fn definition(seen: &TaskDefinition) -> Definition {
    let container = |one: &aws_sdk_ecs::types::ContainerDefinition| {
        let driver = one.log_configuration().map(|logs| logs.log_driver());
        let option = |name: &str| one.log_configuration()?.options()?.get(name).cloned();
        let own_region = || seen.task_definition_arn().and_then(|arn| arn.split(':').nth(3)).map(str::to_owned);
        let logs = driver.filter(|driver| **driver == LogDriver::Awslogs).and_then(|_| {
            Some(LogSource {
                group: option("awslogs-group")?,
                region: option("awslogs-region").or_else(own_region)?,
                prefix: option("awslogs-stream-prefix")?,
            })
        });
        ContainerDefinition {
            name: one.name().unwrap_or_default().to_owned(),
            essential: one.essential().unwrap_or(true),
            image: one.image().unwrap_or_default().to_owned(),
            logs,
            log_driver: driver.map(|driver| driver.as_str().to_owned()),
            // `awsfirelens` has no such mode: what becomes of its lines is the router's affair.
            may_lose_lines: driver.is_some_and(|driver| *driver != LogDriver::Awsfirelens)
                && option("mode").as_deref() != Some("blocking"),
        }
    };
    Definition {
        arn: seen.task_definition_arn().unwrap_or_default().to_owned(),
        containers: seen.container_definitions().iter().map(container).collect(),
        roles: [seen.task_role_arn(), seen.execution_role_arn()].into_iter().flatten().map(str::to_owned).collect(),
    }
}
