//! Tasks that are not a service's own: begun, stopped, listed, described.

use std::collections::BTreeMap;

use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, DesiredStatus, KeyValuePair,
    LaunchType as SdkLaunchType, NetworkConfiguration, Tag, TaskOverride,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Ecs, id, once};
use crate::error::{Error, Verdict, code, failure};
use crate::manifest::{Environment, LaunchType};
use crate::text;
use crate::time::Time;

/// How many tasks `DescribeTasks` takes (fact 20).
const DESCRIBE_TASKS: usize = 100;

/// A task, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// Its task definition's ARN.
    pub definition: String,
    /// Who started it.
    pub started_by: String,
    /// Where it is in its life: `PENDING`, `RUNNING`, `STOPPED`, ...
    pub last_status: String,
    /// Where it is meant to be.
    pub desired_status: String,
    /// Why it stopped, as a code of an open set (fact 21).
    pub stop_code: Option<String>,
    /// Why it stopped, in ECS's words.
    pub stopped_reason: Option<String>,
    /// When it was asked for.
    pub created: Option<Time>,
    /// When it ran.
    pub started: Option<Time>,
    /// When its end was asked for.
    pub stopping: Option<Time>,
    /// When it was over.
    pub stopped: Option<Time>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Its name in the task definition.
    pub name: String,
    /// How it ended; absent when it never ran (fact 21).
    pub exit_code: Option<i32>,
    /// What ECS says about its end.
    pub reason: Option<String>,
}

impl Task {
    /// Whether nothing of it runs any more (fact 20).
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.last_status.as_str(), "STOPPED" | "DELETED")
    }

    /// Whether AWS itself has taken its machine from it: then it has not ended by what it did.
    #[must_use]
    pub fn was_taken_away(&self) -> bool {
        matches!(self.stop_code.as_deref(), Some("SpotInterruption" | "TerminationNotice" | "InfrastructureHealth"))
    }

    /// The last part of its ARN, which is also the last part of its log streams' names.
    #[must_use]
    pub fn id(&self) -> &str {
        id(&self.arn)
    }
}

/// A one-off task to run.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Where.
    pub environment: &'a Environment,
    /// Which revision.
    pub definition: &'a str,
    /// Which container gets the overrides.
    pub container: &'a str,
    /// What differs from the definition.
    pub overrides: &'a Overrides,
    /// Whose it is (fact 19).
    pub started_by: &'a str,
    /// What makes the call safe to repeat (fact 18).
    pub client_token: &'a str,
}

/// What of a task differs from its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// The command, unless it is empty.
    pub command: Vec<String>,
    /// Environment variables, beside the definition's.
    pub environment: IndexMap<String, String>,
    /// The task's CPU units.
    pub cpu: Option<u32>,
    /// The task's memory in MiB.
    pub memory: Option<u32>,
    /// Its tags.
    pub tags: IndexMap<String, String>,
}

impl From<&crate::manifest::Task> for Overrides {
    fn from(task: &crate::manifest::Task) -> Self {
        Self {
            command: task.command.clone(),
            environment: task.environment.clone(),
            cpu: task.cpu,
            memory: task.memory,
            tags: task.tags.clone(),
        }
    }
}

/// What became of a call of `RunTask`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// What the token stands for, also when it is asked for again (fact 18).
    Answered {
        /// The tasks that were placed.
        tasks: Vec<Task>,
        /// Why others were not (fact 17).
        reasons: Vec<String>,
    },
    /// There is no room, ECS says of this very call: one before it with the same token may have begun tasks.
    NoRoom(String),
    /// The token was used with other parameters (`ConflictException`), because a newer revision came between two tries: its tasks exist,
    /// and may not be listed yet.
    Exists,
}

/// What `RunTask` did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, never stored")]
pub enum Placed {
    /// There is a task: a new one, or the one that the same call made before.
    Task(Task),
    /// There is none; these are the reasons (fact 17).
    Not(Vec<String>),
    /// The token was used with other parameters: what it has placed, if anything, is listed, or will be.
    Before,
}

/// Which tasks to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// Those of this family.
    Family(&'a str),
    /// Those of this service.
    Service(&'a str),
}

/// Which half of the tasks to list: ECS keeps those that stopped apart, for about an hour (fact 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Meant to run.
    Running,
    /// Meant to be stopped, or stopped.
    Stopped,
}

impl Ecs {
    /// Starts a task.
    ///
    /// Safe to repeat: the client token makes the same call answer with the same task (fact 18).
    ///
    /// # Errors
    /// See [`Ecs::run_tasks`].
    pub async fn run_task(&self, run: &Run<'_>) -> Result<Placed, Error> {
        match self.run_tasks(run, 1).await? {
            Ran::Answered { tasks, reasons } => Ok(tasks.into_iter().next().map_or(Placed::Not(reasons), Placed::Task)),
            Ran::NoRoom(why) => Ok(Placed::Not(vec![why])),
            Ran::Exists => Ok(Placed::Before),
        }
    }

    /// Starts as many tasks that are all the same, at most ten (fact 17).
    ///
    /// Safe to repeat: the client token makes the same call answer with the same tasks (fact 18), and the same reasons.
    ///
    /// # Errors
    /// The call's.
    pub async fn run_tasks(&self, run: &Run<'_>, count: usize) -> Result<Ran, Error> {
        let (environment, overrides) = (run.environment, run.overrides);
        let variables = overrides.environment.iter();
        let variables = variables.map(|(name, value)| KeyValuePair::builder().name(name).value(value).build());
        let mut overridden = ContainerOverride::builder().name(run.container);
        for variable in variables {
            overridden = overridden.environment(variable);
        }
        if !overrides.command.is_empty() {
            overridden = overridden.set_command(Some(overrides.command.clone()));
        }
        let tags = overrides.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let tags: Vec<_> = tags.collect();
        let overrides = TaskOverride::builder()
            .container_overrides(overridden.build())
            .set_cpu(overrides.cpu.map(|cpu| cpu.to_string()))
            .set_memory(overrides.memory.map(|memory| memory.to_string()))
            .build();
        let call = self
            .client
            .run_task()
            .cluster(&environment.cluster)
            .task_definition(run.definition)
            .count(count.try_into().unwrap_or(1))
            .started_by(run.started_by)
            .client_token(run.client_token)
            .overrides(overrides)
            .set_launch_type(environment.launch_type.map(launch_type))
            .set_capacity_provider_strategy(strategy(environment)?)
            .set_platform_version(environment.platform_version.clone())
            .set_network_configuration(network(environment)?)
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()));
        let name = self.call("RunTask");
        let output = match call.customize().config_override(once()).send().await {
            Ok(output) => output,
            Err(error) if code(&error) == "ConflictException" => return Ok(Ran::Exists),
            // Whoever wants instances has some, as a rule: they are being replaced. All others have forgotten to say what runs their tasks.
            Err(error)
                if wants_instances(environment) && error.message().is_some_and(|said| said.contains(NO_INSTANCES)) =>
            {
                return Ok(Ran::NoRoom(NO_INSTANCES.to_owned()));
            }
            Err(error) if error.message().is_some_and(|said| said.contains(PROVISIONING)) => {
                return Ok(Ran::NoRoom(error.message().unwrap_or(PROVISIONING).to_owned()));
            }
            Err(error) => return Err(failure(&name, &error)),
        };
        let reasons = output.failures().iter().map(|failure| {
            let reason = failure.reason().unwrap_or("no reason");
            failure.detail().map_or_else(|| reason.to_owned(), |detail| format!("{reason} ({detail})"))
        });
        Ok(Ran::Answered { tasks: output.tasks().iter().map(task).collect(), reasons: reasons.collect() })
    }

    /// Asks for a task's end: SIGTERM, then SIGKILL (fact 22).
    ///
    /// Safe to repeat: a task that stops is stopped again without effect. Once, since what is asked for half a minute later may be adopted
    /// by then: the next look repeats it.
    ///
    /// # Errors
    /// The call's; a task that is gone is none.
    pub async fn stop_task(&self, cluster: &str, arn: &str, reason: &str) -> Result<(), Error> {
        let call = self.client.stop_task().cluster(cluster).task(arn).reason(text::fit(reason, 1024));
        match call.customize().config_override(once()).send().await {
            Ok(_) => Ok(()),
            // "The referenced task was not found."
            Err(error) if code(&error) == "InvalidParameterException" => Ok(()),
            Err(error) => Err(failure(&self.call("StopTask"), &error)),
        }
    }

    /// The ARNs of tasks.
    ///
    /// # Errors
    /// The calls'.
    pub async fn list_tasks(&self, cluster: &str, of: Of<'_>, half: Half) -> Result<Vec<String>, Error> {
        self.list_some_tasks(cluster, of, half, usize::MAX).await
    }

    /// The same, and no more pages once there are so many.
    ///
    /// # Errors
    /// The calls'.
    pub async fn list_some_tasks(
        &self,
        cluster: &str,
        of: Of<'_>,
        half: Half,
        enough: usize,
    ) -> Result<Vec<String>, Error> {
        let name = self.call("ListTasks");
        let mut arns = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_tasks().cluster(cluster).set_next_token(next);
            let call = match of {
                Of::Family(name) => call.family(name),
                Of::Service(name) => call.service_name(name),
            };
            let call = call.desired_status(match half {
                Half::Running => DesiredStatus::Running,
                Half::Stopped => DesiredStatus::Stopped,
            });
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            arns.extend(output.task_arns().iter().cloned());
            next = output.next_token().map(str::to_owned);
            if next.is_none() || arns.len() >= enough {
                return Ok(arns);
            }
        }
    }

    /// What is to be seen of these tasks. One that is not visible, yet or any more, is left out (fact 20).
    ///
    /// # Errors
    /// The calls'.
    pub async fn describe_tasks(&self, cluster: &str, arns: &[String]) -> Result<Vec<Task>, Error> {
        let name = self.call("DescribeTasks");
        let mut tasks = Vec::new();
        for some in arns.chunks(DESCRIBE_TASKS) {
            let call = self.client.describe_tasks().cluster(cluster).set_tasks(Some(some.to_vec()));
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            tasks.extend(output.tasks().iter().map(task));
        }
        Ok(tasks)
    }

    /// All tasks of one kind, running and stopped.
    ///
    /// # Errors
    /// The calls'.
    pub async fn tasks(&self, cluster: &str, of: Of<'_>) -> Result<Vec<Task>, Error> {
        let mut arns = self.list_tasks(cluster, of, Half::Running).await?;
        arns.extend(self.list_tasks(cluster, of, Half::Stopped).await?);
        arns.sort();
        arns.dedup();
        self.describe_tasks(cluster, &arns).await
    }

    /// Which of these tasks protect themselves from being stopped (fact 23), with when that ends.
    ///
    /// # Errors
    /// The call's.
    pub async fn protected(&self, cluster: &str, arns: &[String]) -> Result<BTreeMap<String, Option<Time>>, Error> {
        let name = self.call("GetTaskProtection");
        let mut protected = BTreeMap::new();
        for some in arns.chunks(DESCRIBE_TASKS) {
            let call = self.client.get_task_protection().cluster(cluster).set_tasks(Some(some.to_vec()));
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            for one in output.protected_tasks().iter().filter(|one| one.protection_enabled()) {
                let until = one.expiration_date().copied().map(Time::from);
                protected.insert(one.task_arn().unwrap_or_default().to_owned(), until);
            }
        }
        Ok(protected)
    }
}

/// Whether a placement failed for want of something that may come back (fact 17): what others run counts against an account's quota
/// of vCPUs ("You've reached the limit on the number of vCPUs you can run concurrently"; seen, and documented nowhere).
#[must_use]
pub fn is_for_room(reasons: &str) -> bool {
    let words = [
        "RESOURCE",
        "AGENT",
        "Capacity is unavailable",
        "EMPTY CAPACITY PROVIDER",
        "reached the limit on the number of",
        NO_INSTANCES,
        PROVISIONING,
    ];
    words.iter().any(|word| reasons.contains(word))
}

/// What ECS says of a cluster in which too many tasks wait for instances that are on their way (RunTask's reference, of ClientException:
/// "the quota of tasks in the `PROVISIONING` per cluster has been reached"; its words were seen in public reports).
const PROVISIONING: &str = "PROVISIONING";

/// What ECS says of a cluster that has no instance right now.
const NO_INSTANCES: &str = "No Container Instances were found";

fn wants_instances(environment: &Environment) -> bool {
    environment.launch_type == Some(LaunchType::Ec2)
}

fn task(seen: &aws_sdk_ecs::types::Task) -> Task {
    let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
    Task {
        arn: text(seen.task_arn()),
        definition: text(seen.task_definition_arn()),
        started_by: text(seen.started_by()),
        last_status: text(seen.last_status()),
        desired_status: text(seen.desired_status()),
        stop_code: seen.stop_code().map(|code| code.as_str().to_owned()),
        stopped_reason: seen.stopped_reason().map(str::to_owned),
        created: seen.created_at().copied().map(Time::from),
        started: seen.started_at().copied().map(Time::from),
        stopping: seen.stopping_at().copied().map(Time::from),
        stopped: seen.stopped_at().copied().map(Time::from),
        containers: seen
            .containers()
            .iter()
            .map(|container| Container {
                name: text(container.name()),
                exit_code: container.exit_code(),
                reason: container.reason().map(str::to_owned),
            })
            .collect(),
    }
}

fn launch_type(launch_type: LaunchType) -> SdkLaunchType {
    match launch_type {
        LaunchType::Ec2 => SdkLaunchType::Ec2,
        LaunchType::Fargate => SdkLaunchType::Fargate,
        LaunchType::External => SdkLaunchType::External,
    }
}

fn built<T>(item: Result<T, aws_smithy_types::error::operation::BuildError>) -> Result<T, Verdict> {
    item.map_err(|error| Verdict::misconfigured(format!("deploy.yaml: {error}")))
}

fn strategy(environment: &Environment) -> Result<Option<Vec<CapacityProviderStrategyItem>>, Verdict> {
    // ECS wants a weight above 0 somewhere, and of one alone it says nothing.
    let is_alone = environment.capacity_providers.len() == 1;
    let item = |provider: &crate::manifest::CapacityProvider| {
        let item = CapacityProviderStrategyItem::builder().capacity_provider(&provider.name);
        let weight = if is_alone { provider.weight.max(1) } else { provider.weight };
        built(item.weight(weight.into()).base(provider.base.try_into().unwrap_or(i32::MAX)).build())
    };
    let items = environment.capacity_providers.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(items).filter(|items| !items.is_empty()))
}

fn network(environment: &Environment) -> Result<Option<NetworkConfiguration>, Verdict> {
    if environment.subnets.is_empty() {
        return Ok(None);
    }
    let public = if environment.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(environment.subnets.clone()))
        .set_security_groups(Some(environment.security_groups.clone()).filter(|some| !some.is_empty()))
        .assign_public_ip(public);
    Ok(Some(NetworkConfiguration::builder().awsvpc_configuration(built(vpc.build())?).build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_placement_lacks_that_may_come_back_is_told_from_what_never_will() {
        for (reasons, expected) in [
            ("RESOURCE:MEMORY", true),
            ("AGENT", true),
            ("Capacity is unavailable at this time. Please try again later or in a different availability zone", true),
            ("You\u{2019}ve reached the limit on the number of vCPUs you can run concurrently", true),
            ("MISSING", false),
            ("ATTRIBUTE", false),
        ] {
            assert_eq!(is_for_room(reasons), expected, "{reasons}");
        }
    }
}
