//! CodeDeploy on ECS: deployments and their targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_codedeploy::Client;
use aws_sdk_codedeploy::config::retry::RetryConfig;
use aws_sdk_codedeploy::types::{
    AlarmConfiguration, AppSpecContent, DeploymentGroupInfo, DeploymentInfo, DeploymentReadyAction, DeploymentStatus,
    DeploymentTarget, DeploymentWaitType, EcsTarget, RevisionLocation, RevisionLocationType, TargetLabel, TimeRange,
};
use serde_json::Value;
use tracing::warn;

use crate::aws::states::states;
use crate::aws::{Aws, Pacer, Place, allowance};
use crate::error::{Error, Kind, code, failure, is_not_now};
use crate::time::Time;

/// How many deployments `BatchGetDeployments` takes.
pub(crate) const BATCH: usize = 25;

/// How many groups `BatchGetDeploymentGroups` takes.
const GROUPS: usize = 100;

/// The statuses of a deployment that keeps its group busy (facts 27, 28).
const UNDER_WAY: [DeploymentStatus; 5] = [
    DeploymentStatus::Created,
    DeploymentStatus::Queued,
    DeploymentStatus::InProgress,
    DeploymentStatus::Baking,
    DeploymentStatus::Ready,
];

/// What CodeDeploy says of a group that does not exist.
const MISSING: [&str; 2] = ["ApplicationDoesNotExistException", "DeploymentGroupDoesNotExistException"];

/// Which deployments to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Those that were created at or after this moment.
    Since(Time),
    /// Those that keep their group busy.
    UnderWay,
}

/// CodeDeploy in one place.
#[derive(Debug, Clone)]
pub struct Codedeploy {
    client: Client,
    region: String,
    pacer: Arc<Pacer>,
}

states! {
    /// How a deployment stands (fact 28).
    #[derive(Default)]
    Status {
        /// It exists.
        #[default]
        Created = "Created",
        /// It waits for its turn.
        Queued = "Queued",
        /// Its new tasks are on their way, its traffic moves, or its old tasks wait (fact 29).
        InProgress = "InProgress",
        /// Its traffic has moved, and it is watched.
        Baking = "Baking",
        /// Its new tasks are there, and its traffic waits for being continued.
        Ready = "Ready",
        /// It is over, and its old tasks are gone.
        Succeeded = "Succeeded",
        /// It is over: it failed.
        Failed = "Failed",
        /// It is over: it was stopped.
        Stopped = "Stopped",
    }
}

states! {
    /// How the target of a deployment stands.
    #[derive(Default)]
    TargetStatus {
        /// Nothing has happened to it.
        #[default]
        Pending = "Pending",
        /// It is being deployed.
        InProgress = "InProgress",
        /// Its traffic has moved (fact 29).
        Succeeded = "Succeeded",
        /// It was not deployed.
        Failed = "Failed",
        /// It was left out.
        Skipped = "Skipped",
        /// Its traffic waits.
        Ready = "Ready",
    }
}

/// A deployment, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deployment {
    /// Its id, `d-...`.
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// What whoever created it wrote.
    pub description: String,
    /// Who created it: `user`, `codeDeployRollback`, ...
    pub creator: String,
    /// When.
    pub created: Option<Time>,
    /// When it had come to its end, its wait for the old tasks included.
    pub completed: Option<Time>,
    /// Why it failed: code and message.
    pub error: Option<(String, String)>,
    /// The deployment that rolls it back (fact 31).
    pub rollback: Option<String>,
    /// Its AppSpec, where CodeDeploy shows it.
    pub app_spec: Option<String>,
}

/// A deployment group, as far as Cutover needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Whether its deployments wait at Ready (fact 28).
    pub waits: bool,
    /// The ECS services that it deploys, as cluster and name.
    pub services: Vec<(String, String)>,
}

/// The error's code of a deployment that was stopped.
const STOPPED: &str = "MANUAL_STOP";

impl Deployment {
    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status, Status::Succeeded | Status::Failed | Status::Stopped)
    }

    /// Whether somebody stopped it, as CodeDeploy says.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        self.error.as_ref().is_some_and(|(code, _)| code == STOPPED)
    }

    /// Whether it has brought its version, and its old tasks are gone.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.status == Status::Succeeded
    }

    /// The revision that it deploys, where CodeDeploy shows its AppSpec.
    #[must_use]
    pub fn definition(&self) -> Option<String> {
        let spec: Value = serde_json::from_str(self.app_spec.as_deref()?).ok()?;
        let arn = spec.pointer("/Resources/0/TargetService/Properties/TaskDefinition")?.as_str()?;
        Some(arn.to_owned())
    }
}

/// The ECS target of a deployment: where the traffic is decided (fact 29).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// How it stands.
    pub status: TargetStatus,
    /// The lifecycle event that is under way, or the one that failed.
    pub event: Option<String>,
    /// The lifecycle event that failed.
    pub failed: Option<String>,
    /// What CodeDeploy says about the event that failed.
    pub diagnostics: Option<String>,
    /// Running, desired and share of traffic in percent of the new task set.
    pub new: Option<TaskSet>,
    /// The same of the old one.
    pub old: Option<TaskSet>,
}

impl Target {
    /// Whether its traffic is on the new version (fact 29).
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.status == TargetStatus::Succeeded
    }
}

/// A task set of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskSet {
    /// Its id: the `startedBy` of its tasks.
    pub id: String,
    /// How many of its tasks run.
    pub running: i64,
    /// How many should.
    pub desired: i64,
    /// Its share of the traffic, in percent.
    pub traffic: i64,
}

/// What waits in a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The barrier before the traffic moves (fact 28).
    Ready,
    /// The old tasks, after it has moved (fact 30).
    Termination,
}

/// Whether the alarms of its group stop a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarms {
    /// They do, as the group has it.
    Count,
    /// They do not: one of them may have been set off by the very version that is taken back, and CodeDeploy stops every deployment of a
    /// group whose alarm is on. AWS wants `codedeploy:UpdateDeploymentGroup` for it, too.
    Ignored,
}

/// What became of asking for a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It was created, with this id.
    Created(String),
    /// The group is busy with another one (fact 27).
    Busy(String),
    /// CodeDeploy said "not now", for this reason: it has created none.
    NotNow(Error),
}

impl Aws {
    /// CodeDeploy in `place`.
    pub async fn codedeploy(&self, place: &Place) -> Codedeploy {
        let config = aws_sdk_codedeploy::config::Builder::from(&self.config_at(place).await)
            .retry_partition(allowance())
            .build();
        let client = Client::from_conf(config);
        Codedeploy { client, region: place.region.clone(), pacer: self.paces(place).control }
    }
}

impl Codedeploy {
    fn call(&self, operation: &str) -> String {
        format!("codedeploy:{operation} in {}", self.region)
    }

    /// Creates a deployment. Where its group's alarms may be ignored, and the role may not say so, they count.
    ///
    /// Not safe to repeat by itself: look for a deployment with this description first.
    ///
    /// # Errors
    /// The call's: whether a deployment comes about is not known.
    pub async fn create(
        &self,
        (application, group): (&str, &str),
        description: &str,
        app_spec: &str,
        alarms: Alarms,
    ) -> Result<Asked, Error> {
        let mut alarms = alarms;
        loop {
            let content = AppSpecContent::builder().content(app_spec).build();
            let revision = RevisionLocation::builder()
                .revision_type(RevisionLocationType::AppSpecContent)
                .app_spec_content(content)
                .build();
            let ignored = (alarms == Alarms::Ignored).then(|| AlarmConfiguration::builder().enabled(false).build());
            let call = self.client.create_deployment().application_name(application).deployment_group_name(group);
            let call = call.description(description).revision(revision).set_override_alarm_configuration(ignored);
            let error = match call.customize().config_override(once()).send().await {
                // Without an id, it is found by its description.
                Ok(output) => {
                    let unnamed = || Asked::Busy(format!("{} names no deployment", self.call("CreateDeployment")));
                    return Ok(output.deployment_id.map_or_else(unnamed, Asked::Created));
                }
                Err(error) if code(&error) == "DeploymentLimitExceededException" => {
                    return Ok(Asked::Busy(failure(&self.call("CreateDeployment"), &error).message().to_owned()));
                }
                Err(error) if is_not_now(&error) => {
                    return Ok(Asked::NotNow(failure(&self.call("CreateDeployment"), &error)));
                }
                Err(error) => failure(&self.call("CreateDeployment"), &error),
            };
            match error {
                Error::Stop(why) if why.kind == Kind::Permission && alarms == Alarms::Ignored => {
                    warn!(why = why.message, "an alarm of the group's may stop the way back");
                    alarms = Alarms::Count;
                }
                other => return Err(other),
            }
        }
    }

    /// An application's deployment groups of these names; one that does not exist is left out.
    ///
    /// # Errors
    /// The calls', or an application that does not exist.
    pub async fn groups(&self, application: &str, names: &[String]) -> Result<BTreeMap<String, Group>, Error> {
        let name = self.call("BatchGetDeploymentGroups");
        let mut found = BTreeMap::new();
        for some in names.chunks(GROUPS) {
            let call = self.client.batch_get_deployment_groups().application_name(application);
            let call = call.set_deployment_group_names(Some(some.to_vec()));
            let read = async {
                match call.send().await {
                    Ok(output) => Ok(output.deployment_groups_info.unwrap_or_default()),
                    Err(error) if code(&error) == "DeploymentGroupDoesNotExistException" => Ok(Vec::new()),
                    Err(error) => Err(failure(&name, &error)),
                }
            };
            for info in self.pacer.pace(read).await? {
                found.insert(info.deployment_group_name().unwrap_or_default().to_owned(), group(&info));
            }
        }
        Ok(found)
    }

    /// The deployments of a group that were created at or after `since`, newest first.
    ///
    /// # Errors
    /// The calls'.
    pub async fn deployments(&self, application: &str, group: &str, since: Time) -> Result<Vec<Deployment>, Error> {
        let ids = self.list(application, group, Listed::Since(since)).await?;
        let mut found = self.batch(&ids).await?;
        found.sort_by_key(|deployment| std::cmp::Reverse(deployment.created));
        Ok(found)
    }

    /// The ids of a group's deployments; a group that does not exist has none.
    ///
    /// # Errors
    /// The calls'.
    pub async fn list(&self, application: &str, group: &str, listed: Listed) -> Result<Vec<String>, Error> {
        let name = self.call("ListDeployments");
        let mut ids = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_deployments().application_name(application).deployment_group_name(group);
            let call = call.set_next_token(next);
            let call = match listed {
                Listed::Since(since) => call.create_time_range(TimeRange::builder().start(since.into()).build()),
                Listed::UnderWay => call.set_include_only_statuses(Some(UNDER_WAY.to_vec())),
            };
            let read = async {
                match call.send().await {
                    Ok(output) => Ok(Some(output)),
                    Err(error) if MISSING.contains(&code(&error)) => Ok(None),
                    Err(error) => Err(failure(&name, &error)),
                }
            };
            let Some(output) = self.pacer.pace(read).await? else { return Ok(ids) };
            ids.extend(output.deployments().iter().cloned());
            next = output.next_token().map(str::to_owned);
            if next.is_none() {
                return Ok(ids);
            }
        }
    }

    /// What is to be seen of these deployments.
    ///
    /// # Errors
    /// The calls'.
    pub async fn batch(&self, ids: &[String]) -> Result<Vec<Deployment>, Error> {
        let name = self.call("BatchGetDeployments");
        let mut found = Vec::new();
        for some in ids.chunks(BATCH) {
            let call = self.client.batch_get_deployments().set_deployment_ids(Some(some.to_vec()));
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            found.extend(output.deployments_info().iter().map(deployment));
        }
        Ok(found)
    }

    /// The ECS target of a deployment (fact 29); none while CodeDeploy has not made it yet.
    ///
    /// # Errors
    /// The call's.
    pub async fn target(&self, deployment: &str, cluster: &str, service: &str) -> Result<Option<Target>, Error> {
        let name = self.call("BatchGetDeploymentTargets");
        let call = self.client.batch_get_deployment_targets().deployment_id(deployment);
        let call = call.target_ids(format!("{cluster}:{service}"));
        let read = async {
            match call.send().await {
                Ok(output) => Ok(output.deployment_targets.unwrap_or_default()),
                Err(error) if code(&error) == "DeploymentTargetDoesNotExistException" => Ok(Vec::new()),
                Err(error) if code(&error) == "DeploymentNotStartedException" => Ok(Vec::new()),
                // One that has just been created.
                Err(error) if code(&error) == "DeploymentDoesNotExistException" => Ok(Vec::new()),
                Err(error) => Err(failure(&name, &error)),
            }
        };
        let targets = self.pacer.pace(read).await?;
        Ok(targets.first().and_then(DeploymentTarget::ecs_target).map(target))
    }

    /// Ends a wait now.
    ///
    /// Safe to repeat: a deployment that does not wait any more is a success.
    ///
    /// # Errors
    /// The call's.
    pub async fn go_on(&self, deployment: &str, wait: Wait) -> Result<(), Error> {
        let wait = match wait {
            Wait::Ready => DeploymentWaitType::ReadyWait,
            Wait::Termination => DeploymentWaitType::TerminationWait,
        };
        let call = self.client.continue_deployment().deployment_id(deployment).deployment_wait_type(wait);
        match call.customize().config_override(once()).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    code(&error),
                    "DeploymentAlreadyCompletedException"
                        | "DeploymentIsNotInReadyStateException"
                        | "InvalidDeploymentStatusException"
                ) =>
            {
                Ok(())
            }
            Err(error) if code(&error) == "DeploymentDoesNotExistException" => {
                Err(self.is_not_visible("ContinueDeployment"))
            }
            Err(error) => Err(failure(&self.call("ContinueDeployment"), &error)),
        }
    }

    /// Stops a deployment and rolls it back (fact 31).
    ///
    /// Safe to repeat: one that is over is a success; what became of it is for the next look to see.
    ///
    /// # Errors
    /// The call's.
    pub async fn stop(&self, deployment: &str) -> Result<(), Error> {
        match self.client.stop_deployment().deployment_id(deployment).auto_rollback_enabled(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == "DeploymentAlreadyCompletedException" => Ok(()),
            Err(error) if code(&error) == "DeploymentDoesNotExistException" => {
                Err(self.is_not_visible("StopDeployment"))
            }
            Err(error) => Err(failure(&self.call("StopDeployment"), &error)),
        }
    }

    fn is_not_visible(&self, operation: &str) -> Error {
        Error::Again(format!("{}: the deployment is not visible yet", self.call(operation)))
    }
}

/// For what begins something: one attempt (see [`crate::aws::SHOWN`]). Who asks looks whether the release goes on, and again.
fn once() -> aws_sdk_codedeploy::config::Builder {
    aws_sdk_codedeploy::config::Config::builder().retry_config(RetryConfig::disabled())
}

fn deployment(seen: &DeploymentInfo) -> Deployment {
    let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
    Deployment {
        id: text(seen.deployment_id()),
        status: seen.status().map(|status| Status::from(status.as_str())).unwrap_or_default(),
        description: text(seen.description()),
        creator: text(seen.creator().map(|creator| creator.as_str())),
        created: seen.create_time().copied().map(Time::from),
        completed: seen.complete_time().copied().map(Time::from),
        error: seen
            .error_information()
            .map(|error| (text(error.code().map(|code| code.as_str())), text(error.message()))),
        rollback: seen.rollback_info().and_then(|info| info.rollback_deployment_id()).map(str::to_owned),
        app_spec: seen
            .revision()
            .and_then(|revision| revision.app_spec_content())
            .and_then(|spec| spec.content())
            .map(str::to_owned),
    }
}

fn group(info: &DeploymentGroupInfo) -> Group {
    let ready = info.blue_green_deployment_configuration().and_then(|one| one.deployment_ready_option());
    let service = |one: &aws_sdk_codedeploy::types::EcsService| {
        Some((one.cluster_name()?.to_owned(), one.service_name()?.to_owned()))
    };
    Group {
        waits: ready.and_then(|ready| ready.action_on_timeout()) == Some(&DeploymentReadyAction::StopDeployment),
        services: info.ecs_services().iter().filter_map(service).collect(),
    }
}

fn target(seen: &EcsTarget) -> Target {
    let events = seen.lifecycle_events();
    let with =
        |wanted: &str| events.iter().find(|event| event.status().is_some_and(|status| status.as_str() == wanted));
    let event = with("Failed").or_else(|| with("InProgress")).or_else(|| with("Pending"));
    let set = |label: TargetLabel| {
        seen.task_sets_info().iter().find(|set| set.task_set_label() == Some(&label)).map(|set| TaskSet {
            id: set.identifer().unwrap_or_default().to_owned(),
            running: set.running_count(),
            desired: set.desired_count(),
            #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
            traffic: set.traffic_weight() as i64,
        })
    };
    Target {
        status: seen.status().map(|status| TargetStatus::from(status.as_str())).unwrap_or_default(),
        event: event.and_then(|event| event.lifecycle_event_name()).map(str::to_owned),
        failed: with("Failed").and_then(|event| event.lifecycle_event_name()).map(str::to_owned),
        diagnostics: with("Failed").and_then(|event| event.diagnostics()?.message()).map(str::to_owned),
        new: set(TargetLabel::Green),
        old: set(TargetLabel::Blue),
    }
}
