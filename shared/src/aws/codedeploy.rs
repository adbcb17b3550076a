//! CodeDeploy on ECS: deployments and their targets.

use std::sync::Arc;

use aws_sdk_codedeploy::Client;
use aws_sdk_codedeploy::types::{
    AppSpecContent, DeploymentInfo, DeploymentTarget, DeploymentWaitType, EcsTarget, RevisionLocation,
    RevisionLocationType, TargetLabel, TimeRange,
};

use crate::aws::{Aws, Pacer, Place};
use crate::error::{Error, code, failure};
use crate::time::Time;

/// How many deployments `BatchGetDeployments` takes.
const BATCH: usize = 25;

/// CodeDeploy in one place.
#[derive(Debug, Clone)]
pub struct Codedeploy {
    client: Client,
    region: String,
    pacer: Arc<Pacer>,
}

/// A deployment, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deployment {
    /// Its id, `d-...`.
    pub id: String,
    /// `Created`, `Queued`, `InProgress`, `Baking`, `Ready`, `Succeeded`, `Failed` or `Stopped` (fact 28).
    pub status: String,
    /// What whoever created it wrote.
    pub description: String,
    /// Who created it: `user`, `codeDeployRollback`, ...
    pub creator: String,
    /// When.
    pub created: Option<Time>,
    /// Why it failed: code and message.
    pub error: Option<(String, String)>,
    /// The deployment that rolls it back (fact 31).
    pub rollback: Option<String>,
}

impl Deployment {
    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "Succeeded" | "Failed" | "Stopped")
    }
}

/// The ECS target of a deployment: where the traffic is decided (fact 29).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// `Pending`, `InProgress`, `Succeeded`, `Failed`, `Skipped`, `Unknown` or `Ready`.
    pub status: String,
    /// The lifecycle event that is under way, or the one that failed.
    pub event: Option<String>,
    /// What CodeDeploy says about the event that failed.
    pub diagnostics: Option<String>,
    /// Running, desired and share of traffic in percent of the new task set.
    pub new: Option<TaskSet>,
    /// The same of the old one.
    pub old: Option<TaskSet>,
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

impl Aws {
    /// CodeDeploy in `place`.
    pub async fn codedeploy(&self, place: &Place) -> Codedeploy {
        let client = Client::new(&self.config_at(place).await);
        Codedeploy { client, region: place.region.clone(), pacer: self.paces(place).control }
    }
}

impl Codedeploy {
    fn call(&self, operation: &str) -> String {
        format!("codedeploy:{operation} in {}", self.region)
    }

    /// Creates a deployment, and returns its id; `None` when the group is busy with another one (fact 27).
    ///
    /// Not safe to repeat by itself: look for a deployment with this description first.
    ///
    /// # Errors
    /// The call's.
    pub async fn create(
        &self,
        application: &str,
        group: &str,
        description: &str,
        app_spec: &str,
    ) -> Result<Option<String>, Error> {
        let content = AppSpecContent::builder().content(app_spec).build();
        let revision = RevisionLocation::builder()
            .revision_type(RevisionLocationType::AppSpecContent)
            .app_spec_content(content)
            .build();
        let call = self.client.create_deployment().application_name(application).deployment_group_name(group);
        match call.description(description).revision(revision).send().await {
            Ok(output) => Ok(output.deployment_id),
            Err(error) if code(&error) == "DeploymentLimitExceededException" => Ok(None),
            Err(error) => Err(failure(&self.call("CreateDeployment"), &error)),
        }
    }

    /// The deployments of a group that were created at or after `since`, newest first.
    ///
    /// # Errors
    /// The calls'.
    pub async fn deployments(&self, application: &str, group: &str, since: Time) -> Result<Vec<Deployment>, Error> {
        let name = self.call("ListDeployments");
        let range = TimeRange::builder().start(since.into()).build();
        let mut ids = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_deployments().application_name(application).deployment_group_name(group);
            let call = call.create_time_range(range.clone()).set_next_token(next);
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            ids.extend(output.deployments().iter().cloned());
            next = output.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        let mut found = self.batch(&ids).await?;
        found.sort_by_key(|deployment| std::cmp::Reverse(deployment.created));
        Ok(found)
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
        match self.client.continue_deployment().deployment_id(deployment).deployment_wait_type(wait).send().await {
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
            Err(error) => Err(failure(&self.call("StopDeployment"), &error)),
        }
    }
}

fn deployment(seen: &DeploymentInfo) -> Deployment {
    let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
    Deployment {
        id: text(seen.deployment_id()),
        status: text(seen.status().map(|status| status.as_str())),
        description: text(seen.description()),
        creator: text(seen.creator().map(|creator| creator.as_str())),
        created: seen.create_time().copied().map(Time::from),
        error: seen
            .error_information()
            .map(|error| (text(error.code().map(|code| code.as_str())), text(error.message()))),
        rollback: seen.rollback_info().and_then(|info| info.rollback_deployment_id()).map(str::to_owned),
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
        status: seen.status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
        event: event.and_then(|event| event.lifecycle_event_name()).map(str::to_owned),
        diagnostics: with("Failed").and_then(|event| event.diagnostics()?.message()).map(str::to_owned),
        new: set(TargetLabel::Green),
        old: set(TargetLabel::Blue),
    }
}
