//! ECS's own deployments of services (facts 44 to 47): listed, described, continued, stopped.

use aws_sdk_ecs::types::{
    CreatedAt, DeploymentLifecycleHookAction, DeploymentLifecycleHookDetail, DeploymentLifecycleHookTargetType,
    ServiceDeployment, ServiceDeploymentStatus, ServiceRevisionSummary, StopServiceDeploymentStopType,
};
use tracing::warn;

use super::Ecs;
use crate::aws::states::states;
use crate::error::{Error, code, failure};
use crate::time::Time;

/// How many ARNs `DescribeServiceDeployments` and `DescribeServiceRevisions` take.
pub(crate) const DESCRIBE: usize = 20;

states! {
    /// How a service deployment stands (fact 44).
    #[derive(Default)]
    Status {
        /// It has not started.
        #[default]
        Pending = "PENDING",
        /// It goes on; where it is, its stage tells.
        InProgress = "IN_PROGRESS",
        /// Somebody stops it.
        StopRequested = "STOP_REQUESTED",
        /// It is over: it was stopped, and nothing was taken back.
        Stopped = "STOPPED",
        /// It is over, and its old tasks are gone.
        Successful = "SUCCESSFUL",
        /// It is about to be taken back.
        RollbackRequested = "ROLLBACK_REQUESTED",
        /// It is being taken back.
        RollbackInProgress = "ROLLBACK_IN_PROGRESS",
        /// It is over: it was taken back.
        RollbackSuccessful = "ROLLBACK_SUCCESSFUL",
        /// It is over: taking it back failed.
        RollbackFailed = "ROLLBACK_FAILED",
    }
}

impl Status {
    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Stopped | Self::Successful | Self::RollbackSuccessful | Self::RollbackFailed => true,
            Self::Pending | Self::InProgress | Self::StopRequested => false,
            // What is not known keeps its service busy: better waited for than run over.
            Self::RollbackRequested | Self::RollbackInProgress | Self::Unknown(_) => false,
        }
    }
}

/// The statuses of a deployment that keeps its service busy.
const UNDER_WAY: [ServiceDeploymentStatus; 5] = [
    ServiceDeploymentStatus::Pending,
    ServiceDeploymentStatus::InProgress,
    ServiceDeploymentStatus::StopRequested,
    ServiceDeploymentStatus::RollbackRequested,
    ServiceDeploymentStatus::RollbackInProgress,
];

states! {
    /// Where a service deployment is (fact 45), and where its hooks stand.
    Stage {
        /// Several revisions are brought into order.
        ReconcileService = "RECONCILE_SERVICE",
        /// The new tasks have not started.
        PreScaleUp = "PRE_SCALE_UP",
        /// They start.
        ScaleUp = "SCALE_UP",
        /// They are there.
        PostScaleUp = "POST_SCALE_UP",
        /// Test traffic moves.
        TestTrafficShift = "TEST_TRAFFIC_SHIFT",
        /// It has moved.
        PostTestTrafficShift = "POST_TEST_TRAFFIC_SHIFT",
        /// Production traffic is about to move; before each step where it moves in steps.
        PreProductionTrafficShift = "PRE_PRODUCTION_TRAFFIC_SHIFT",
        /// It moves.
        ProductionTrafficShift = "PRODUCTION_TRAFFIC_SHIFT",
        /// It has moved.
        PostProductionTrafficShift = "POST_PRODUCTION_TRAFFIC_SHIFT",
        /// Old and new tasks live side by side.
        BakeTime = "BAKE_TIME",
        /// The old ones go.
        CleanUp = "CLEAN_UP",
    }
}

impl Stage {
    /// Its place in the order of a deployment, from 1; 0 of one that is not known.
    #[must_use]
    pub fn place(&self) -> u8 {
        match self {
            Self::Unknown(_) => 0,
            Self::ReconcileService => 1,
            Self::PreScaleUp => 2,
            Self::ScaleUp => 3,
            Self::PostScaleUp => 4,
            Self::TestTrafficShift => 5,
            Self::PostTestTrafficShift => 6,
            Self::PreProductionTrafficShift => 7,
            Self::ProductionTrafficShift => 8,
            Self::PostProductionTrafficShift => 9,
            Self::BakeTime => 10,
            Self::CleanUp => 11,
        }
    }

    /// Whether no production traffic has moved at it for the first time.
    #[must_use]
    pub fn is_before_traffic(&self) -> bool {
        (1..=Self::PreProductionTrafficShift.place()).contains(&self.place())
    }

    /// Whether a deployment that waits at it has its new tasks, and no production traffic yet: what waits earlier shows nothing of them, and
    /// what comes after it is held by nothing.
    #[must_use]
    pub fn can_be_barrier(&self) -> bool {
        self.is_before_traffic() && self.place() >= Self::PostScaleUp.place()
    }

    /// Whether production traffic moves at it.
    #[must_use]
    pub fn is_traffic(&self) -> bool {
        matches!(self, Self::ProductionTrafficShift | Self::PostProductionTrafficShift)
    }

    /// Whether all traffic has moved, and nothing but the old tasks' end is left.
    #[must_use]
    pub fn is_after_traffic(&self) -> bool {
        matches!(self, Self::BakeTime | Self::CleanUp)
    }
}

states! {
    /// How a lifecycle hook stands.
    HookStatus {
        /// A PAUSE hook waits to be continued (fact 46).
        AwaitingAction = "AWAITING_ACTION",
        /// A function runs.
        InProgress = "IN_PROGRESS",
        /// It let the deployment go on.
        Succeeded = "SUCCEEDED",
        /// It did not.
        Failed = "FAILED",
        /// It took too long.
        TimedOut = "TIMED_OUT",
    }
}

/// A lifecycle hook of a deployment that was run, at the deployment's stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRun {
    /// Its id: what continues it.
    pub id: String,
    /// The function that is called; none of a PAUSE hook.
    pub function: Option<String>,
    /// How it stands.
    pub status: HookStatus,
    /// When ECS acts without us.
    pub expires: Option<Time>,
}

/// One of a deployment's revisions: how many of its tasks run, and its share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// The revision's ARN.
    pub arn: String,
    /// How many of its tasks should run.
    pub requested: i64,
    /// How many do.
    pub running: i64,
    /// Its share of the production traffic, in percent; none of a service that has no traffic.
    pub traffic: Option<i64>,
}

/// A service deployment, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deployment {
    /// Its ARN.
    pub arn: String,
    /// How it stands.
    pub status: Status,
    /// Why, in ECS's words.
    pub reason: Option<String>,
    /// Where it is.
    pub stage: Option<Stage>,
    /// When it was created.
    pub created: Option<Time>,
    /// When it was over.
    pub finished: Option<Time>,
    /// When ECS began to take it back.
    pub taken_back: Option<Time>,
    /// What ran before.
    pub sources: Vec<Counts>,
    /// What it deploys.
    pub target: Counts,
    /// Its hooks.
    pub hooks: Vec<HookRun>,
    /// How many tasks the circuit breaker has seen fail, and at how many it breaks; none where it is off.
    pub breaker: Option<(i32, i32)>,
    /// The CloudWatch alarms that went off.
    pub alarms: Vec<String>,
}

impl Deployment {
    /// The last part of its ARN.
    #[must_use]
    pub fn id(&self) -> &str {
        super::id(&self.arn)
    }

    /// Whether it was stopped, as far as ECS says: nothing else explains its end.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        let has_ended = !matches!(self.status, Status::Pending | Status::InProgress | Status::Successful);
        let broke = self.breaker.is_some_and(|(failures, most)| most > 0 && failures >= most);
        let has_failed = |hook: &HookRun| matches!(hook.status, HookStatus::Failed | HookStatus::TimedOut);
        has_ended && !broke && self.alarms.is_empty() && !self.hooks.iter().any(has_failed)
    }

    /// Whether a function that its stage calls has not let it go on yet: a stage is over when each of its hooks is (fact 46).
    #[must_use]
    pub fn waits_for_function(&self) -> bool {
        self.hooks.iter().any(|hook| hook.function.is_some() && hook.status != HookStatus::Succeeded)
    }

    /// The PAUSE hook that waits to be continued.
    #[must_use]
    pub fn pause(&self) -> Option<&HookRun> {
        self.hooks.iter().find(|hook| hook.function.is_none() && hook.status == HookStatus::AwaitingAction)
    }
}

/// A service revision, as far as Cutover needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadRevision {
    /// Its ARN.
    pub arn: String,
    /// Its task definition.
    pub definition: String,
    /// The images of its containers, by container.
    pub images: Vec<(String, String)>,
}

/// Which deployments of a service to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Those that were created at or after this moment.
    Since(Time),
    /// Those that keep the service busy.
    UnderWay,
}

impl Ecs {
    /// The ARNs of a service's deployments, newest first.
    ///
    /// # Errors
    /// The calls'.
    pub async fn list_deployments(&self, cluster: &str, service: &str, listed: Listed) -> Result<Vec<String>, Error> {
        let name = self.call("ListServiceDeployments");
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_service_deployments().cluster(cluster).service(service).set_next_token(next);
            let call = match listed {
                Listed::Since(since) => call.created_at(CreatedAt::builder().after(since.into()).build()),
                Listed::UnderWay => call.set_status(Some(UNDER_WAY.to_vec())),
            };
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            let arns = output.service_deployments().iter().filter_map(|brief| brief.service_deployment_arn());
            found.extend(arns.map(str::to_owned));
            next = output.next_token().map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// What is to be seen of these deployments; one that is not visible yet is left out.
    ///
    /// # Errors
    /// The calls'.
    pub async fn deployments(&self, arns: &[String]) -> Result<Vec<Deployment>, Error> {
        let name = self.call("DescribeServiceDeployments");
        let mut found = Vec::new();
        for some in arns.chunks(DESCRIBE) {
            let call = self.client.describe_service_deployments().set_service_deployment_arns(Some(some.to_vec()));
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            found.extend(output.service_deployments().iter().map(deployment));
        }
        Ok(found)
    }

    /// What these revisions run; one that is not visible yet is left out.
    ///
    /// # Errors
    /// The calls'.
    pub async fn service_revisions(&self, arns: &[String]) -> Result<Vec<WorkloadRevision>, Error> {
        let name = self.call("DescribeServiceRevisions");
        let mut found = Vec::new();
        for some in arns.chunks(DESCRIBE) {
            let call = self.client.describe_service_revisions().set_service_revision_arns(Some(some.to_vec()));
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            found.extend(output.service_revisions().iter().map(workload));
        }
        Ok(found)
    }

    /// Lets a deployment go on that a PAUSE hook holds (fact 46).
    ///
    /// Safe to repeat: a hook that does not wait any more is a success, and the next look tells what became of it.
    ///
    /// # Errors
    /// The call's.
    pub async fn continue_deployment(&self, arn: &str, hook: &str) -> Result<(), Error> {
        let name = self.call("ContinueServiceDeployment");
        let call = self.client.continue_service_deployment().service_deployment_arn(arn).hook_id(hook);
        let call = call.action(DeploymentLifecycleHookAction::Continue);
        match call.customize().config_override(super::once()).send().await {
            Ok(_) => Ok(()),
            // What ECS says of a hook that was continued is not documented: one of these (unconfirmed).
            Err(error) if matches!(code(&error), "InvalidParameterException" | "ClientException") => Ok(()),
            Err(error) if code(&error) == "ConflictException" => Ok(()),
            Err(error) => Err(failure(&name, &error)),
        }
    }

    /// Stops a deployment and takes it back (fact 47).
    ///
    /// Safe to repeat: one that is over, or is being taken back, is a success; what became of it the next look tells.
    ///
    /// # Errors
    /// The call's.
    pub async fn stop_deployment(&self, arn: &str) -> Result<(), Error> {
        let name = self.call("StopServiceDeployment");
        let call = self.client.stop_service_deployment().service_deployment_arn(arn);
        match call.stop_type(StopServiceDeploymentStopType::Rollback).send().await {
            Ok(_) => Ok(()),
            // What ECS says of one that is over is not documented: one of these (unconfirmed).
            Err(error) if matches!(code(&error), "InvalidParameterException" | "ClientException") => {
                warn!(error = %failure(&name, &error), "taken for one that has ended: the next look tells");
                Ok(())
            }
            Err(error) if code(&error) == "ConflictException" => Ok(()),
            Err(error) if code(&error) == "ServiceDeploymentNotFoundException" => {
                Err(Error::Again(format!("{name}: the deployment is not visible yet")))
            }
            Err(error) => Err(failure(&name, &error)),
        }
    }
}

fn deployment(seen: &ServiceDeployment) -> Deployment {
    let breaker = seen.deployment_circuit_breaker().filter(|one| one.threshold() > 0);
    let alarms = seen.alarms().map(|alarms| alarms.triggered_alarm_names()).unwrap_or_default();
    Deployment {
        arn: seen.service_deployment_arn().unwrap_or_default().to_owned(),
        status: seen.status().map(|status| Status::from(status.as_str())).unwrap_or_default(),
        reason: seen.status_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
        stage: seen.lifecycle_stage().map(|stage| Stage::from(stage.as_str())),
        created: seen.created_at().copied().map(Time::from),
        finished: seen.finished_at().copied().map(Time::from),
        taken_back: seen.rollback().and_then(|rollback| rollback.started_at()).copied().map(Time::from),
        sources: seen.source_service_revisions().iter().map(counts).collect(),
        target: seen.target_service_revision().map(counts).unwrap_or_default(),
        hooks: seen.lifecycle_hook_details().iter().map(hook).collect(),
        breaker: breaker.map(|one| (one.failure_count(), one.threshold())),
        alarms: alarms.to_vec(),
    }
}

fn counts(seen: &ServiceRevisionSummary) -> Counts {
    Counts {
        arn: seen.arn().unwrap_or_default().to_owned(),
        requested: seen.requested_task_count().into(),
        running: seen.running_task_count().into(),
        #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
        traffic: seen.requested_production_traffic_weight().map(|weight| weight.round() as i64),
    }
}

fn hook(seen: &DeploymentLifecycleHookDetail) -> HookRun {
    let pauses = seen.target_type() == Some(&DeploymentLifecycleHookTargetType::Pause);
    HookRun {
        id: seen.hook_id().unwrap_or_default().to_owned(),
        function: (!pauses).then(|| seen.target_arn().unwrap_or("a function").to_owned()),
        status: HookStatus::from(seen.status().map(|status| status.as_str()).unwrap_or_default()),
        expires: seen.expires_at().copied().map(Time::from),
    }
}

fn workload(seen: &aws_sdk_ecs::types::ServiceRevision) -> WorkloadRevision {
    let image = |one: &aws_sdk_ecs::types::ContainerImage| {
        Some((one.container_name()?.to_owned(), one.image().unwrap_or_default().to_owned()))
    };
    WorkloadRevision {
        arn: seen.service_revision_arn().unwrap_or_default().to_owned(),
        definition: seen.task_definition().unwrap_or_default().to_owned(),
        images: seen.container_images().iter().filter_map(image).collect(),
    }
}
