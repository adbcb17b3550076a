//! The edges to AWS: one file per service, each the only one that names its SDK, or asks by hand ([`signed`]), each speaking plain
//! types.
//!
//! Invariant: every call has a time limit, every read is paced, and what comes back as an error went through
//! [`crate::error::failure`] or [`crate::error::answered`].

pub mod codedeploy;
pub mod codepipeline;
pub mod ecr;
pub mod ecs;
pub mod http;
pub mod iam;
pub mod logs;
mod pace;
pub mod s3;
pub mod scheduler;
pub mod signed;
pub mod sqs;
pub mod ssm;
mod states;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_smithy_runtime::client::retries::RetryPartition;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::{Value, json};
use tracing::warn;

use crate::error::Error;
use crate::job::Job;
use crate::manifest::Environment;
use crate::text;
pub use pace::Pacer;

/// How long one attempt of a call may take: AWS answers in milliseconds, and a lost packet must not cost a minute.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// How long something that a call has begun may take to be shown in lists: the one attempt that is still on its way, and as
/// long again. AWS promises no bound; what was seen is a few seconds ([`LISTED`]).
///
/// It holds since what begins something is tried once: the SDK would try it again without asking whether the release still
/// goes on, and what it begins could take effect half a minute later.
pub const SHOWN: Duration = Duration::from_secs(20);

/// How long what is there may take to be shown.
pub const LISTED: Duration = Duration::from_secs(5);

/// How old the word may be that a release goes on, or is over, when something is begun or taken back on it: whoever needs longer until
/// then asks again.
pub const FRESH: Duration = Duration::from_secs(3);

/// How long after the begin of a run it may not be known yet what the run before it, which a person has given up, still begins: that
/// one sees the stop when it is shown, may then have an answer that the release goes on, and its call takes its time, and is shown
/// late. So it is of what is stopped for a run that is over, while the next one has begun.
pub const GIVEN_UP: Duration =
    Duration::from_secs(LISTED.as_secs() + FRESH.as_secs() + ATTEMPT.as_secs() + LISTED.as_secs());

const _: () = assert!(SHOWN.as_secs() >= 2 * ATTEMPT.as_secs() && ATTEMPT.as_secs() >= LISTED.as_secs());

/// Under this name `dispatch-jobs` is told whose job was continued: the provider of its action type.
pub const CONTINUED: &str = "continued";

/// How often the SDK tries a call by itself, with backoff, before the loop hears of it.
const ATTEMPTS: u32 = 3;

/// Control-plane reads a second, per account and Region: what ECS and CodeDeploy give everybody in that account.
const CONTROL_READS: (f64, u32) = (2.0, 8);
/// Reads of task definitions a second, per account and Region: each is read once, and a release begins with reading all of them. ECS
/// counts them apart from the reads that are repeated (it refills 20 a second of those of clusters, and leaves out the rest).
const DEFINITION_READS: (f64, u32) = (5.0, 4);

/// `GetLogEvents` a second, per account and Region: half of the smallest quota (fact 34).
const LOG_READS: (f64, u32) = (5.0, 4);

/// A client's own allowance of tries beyond the first. The SDK's clients of one service share one, whatever their Region: while one
/// Region throttles everything, calls to the others would not be tried again either.
#[must_use]
pub fn allowance() -> RetryPartition {
    RetryPartition::custom("cutover").build()
}

/// What the stack tells its functions through their environment.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The log group of the releases (`CUTOVER_LOG_GROUP`).
    pub log_group: Option<String>,
    /// The function that polls for jobs (`CUTOVER_DISPATCH_FUNCTION`).
    pub dispatch: Option<String>,
    /// The function that stops what a stopped release left (`CUTOVER_HALT_FUNCTION`).
    pub halt: Option<String>,
    /// The function that tells people (`CUTOVER_NOTIFY_FUNCTION`).
    pub notify: Option<String>,
    /// The bucket of what is kept: artifacts, and what is known of workers (`CUTOVER_BUCKET`).
    pub bucket: Option<String>,
    /// How workers are asked for and written down, where the stack has any.
    pub workers: Option<WorkerSettings>,
    /// The pipelines of the stack, that which releases first (`CUTOVER_PIPELINES`, with commas between).
    pub pipelines: Vec<String>,
    /// The function's own log group (`AWS_LAMBDA_LOG_GROUP_NAME`).
    pub own_log_group: Option<String>,
    /// Where requests to others than AWS go instead, beside their own host and path (`CUTOVER_HTTP`): for a world of its own.
    pub http: Option<String>,
}

impl Settings {
    /// Whether a pipeline goes back to earlier releases: the stack's own other than its first.
    #[must_use]
    pub fn goes_back(&self, pipeline: &str) -> bool {
        self.pipelines.iter().skip(1).any(|one| one == pipeline)
    }

    /// From an environment.
    pub fn read(setting: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            log_group: setting("CUTOVER_LOG_GROUP"),
            dispatch: setting("CUTOVER_DISPATCH_FUNCTION"),
            halt: setting("CUTOVER_HALT_FUNCTION"),
            notify: setting("CUTOVER_NOTIFY_FUNCTION"),
            bucket: setting("CUTOVER_BUCKET"),
            workers: WorkerSettings::read(&setting),
            pipelines: setting("CUTOVER_PIPELINES").unwrap_or_default().split(',').map(str::to_owned).collect(),
            own_log_group: setting("AWS_LAMBDA_LOG_GROUP_NAME"),
            http: setting("CUTOVER_HTTP"),
        }
    }
}

/// How workers are asked for and written down.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// What the names of the SSM parameters begin with that say what was released (`CUTOVER_WORKERS`).
    pub pointers: String,
    /// What the names of the schedule groups begin with (`CUTOVER_SCHEDULES`).
    pub schedules: String,
    /// The ARN of the queue of jobs (`CUTOVER_JOBS`).
    pub jobs: String,
    /// The role with which Scheduler sends to it (`CUTOVER_SCHEDULER_ROLE`).
    pub scheduler_role: String,
    /// The queue of what cannot be done, by its URL (`CUTOVER_DEAD_LETTERS`).
    pub dead_letters: String,
}

impl WorkerSettings {
    fn read(setting: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let needed = |name: &str| setting(name).unwrap_or_default();
        Some(Self {
            pointers: setting("CUTOVER_WORKERS")?,
            schedules: needed("CUTOVER_SCHEDULES"),
            jobs: needed("CUTOVER_JOBS"),
            scheduler_role: needed("CUTOVER_SCHEDULER_ROLE"),
            dead_letters: needed("CUTOVER_DEAD_LETTERS"),
        })
    }
}

/// Where calls go: a Region, as a role of another account or as the function itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The Region.
    pub region: String,
    /// The role to assume.
    pub role: Option<String>,
}

impl From<&Environment> for Place {
    fn from(environment: &Environment) -> Self {
        Self { region: environment.region.clone(), role: environment.role.clone() }
    }
}

/// The function's way to AWS: cheap to clone, its clients made when they are needed, each with connections of its own.
#[derive(Clone, Debug)]
pub struct Aws(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: SdkConfig,
    settings: Settings,
    places: tokio::sync::Mutex<BTreeMap<Place, SdkConfig>>,
    paces: Mutex<BTreeMap<Place, Paces>>,
}

#[derive(Debug, Clone)]
struct Paces {
    control: Arc<Pacer>,
    definitions: Arc<Pacer>,
    logs: Arc<Pacer>,
}

impl Aws {
    /// From the function's environment, as Lambda sets it.
    pub async fn from_env() -> Self {
        let config = aws_config::from_env().load().await;
        let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::new(&config, Settings::read(setting))
    }

    /// With this configuration.
    #[must_use]
    pub fn new(config: &SdkConfig, settings: Settings) -> Self {
        let config = config
            .to_builder()
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(3))
                    .operation_attempt_timeout(ATTEMPT)
                    .build(),
            )
            .build();
        let (places, paces) = (tokio::sync::Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { config, settings, places, paces }))
    }

    /// What the stack told the function.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The Region that the function itself runs in.
    #[must_use]
    pub fn region(&self) -> String {
        self.0.config.region().map_or_else(|| "us-east-1".to_owned(), ToString::to_string)
    }

    /// The function's own account and Region.
    #[must_use]
    pub fn here(&self) -> Place {
        Place { region: self.region(), role: None }
    }

    /// The configuration of the function's own account and Region.
    #[must_use]
    pub fn config(&self) -> &SdkConfig {
        &self.0.config
    }

    /// The configuration of calls to `place`; a role is assumed at the first call and renewed by the SDK.
    pub async fn config_at(&self, place: &Place) -> SdkConfig {
        let mut places = self.0.places.lock().await;
        if let Some(config) = places.get(place) {
            return config.clone();
        }
        let region = Region::new(place.region.clone());
        let mut config = self.0.config.to_builder().region(region);
        if let Some(role) = &place.role {
            // STS's client cannot be given an allowance of its own: who asks looks again anyway.
            let unrepeated = self.0.config.to_builder().retry_config(RetryConfig::disabled()).build();
            let provider = aws_config::sts::AssumeRoleProvider::builder(role)
                .session_name("cutover")
                // Our own Region, and not the place's: a Region that must be enabled is asked for by accounts that have enabled it. What
                // it gives is good everywhere.
                .region(Region::new(self.region()))
                .configure(&unrepeated)
                .build()
                .await;
            config = config.credentials_provider(aws_sdk_ecs::config::SharedCredentialsProvider::new(provider));
        }
        places.entry(place.clone()).or_insert(config.build()).clone()
    }

    fn paces(&self, place: &Place) -> Paces {
        let mut paces = self.0.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let [control, definitions, logs] =
                [CONTROL_READS, DEFINITION_READS, LOG_READS].map(|(reads, burst)| Arc::new(Pacer::new(reads, burst)));
            Paces { control, definitions, logs }
        };
        paces.entry(place.clone()).or_insert_with(new).clone()
    }

    /// Asks `dispatch-jobs` to look for jobs now rather than within a minute: a continuation is a new job, and
    /// nobody is told of it (fact 8).
    ///
    /// Asking twice, or in vain, is harmless: it polls, and its schedule polls too.
    pub(crate) async fn hurry_dispatch(&self, job: &Job) {
        let Some(function) = &self.0.settings.dispatch else { return };
        let provider = job.claim.as_ref().and_then(|claim| claim.provider.as_ref());
        if let Err(error) = self.invoke(function, &json!({"reason": "a job was continued", CONTINUED: provider})).await
        {
            warn!(%error, function, "the next job waits for the schedule");
        }
    }

    /// Whether this function is the first to do something that events ask several times for: it is whoever creates a log
    /// stream of this name in the function's own group. Should it die right after that, nobody does it; so this is for
    /// saying things only.
    ///
    /// When it cannot be told, the answer is yes: better twice than never.
    pub async fn is_first(&self, what: &str) -> bool {
        let Some(group) = &self.0.settings.own_log_group else { return true };
        let claimed = self.logs(&self.here()).await.claim(group, what).await;
        claimed.unwrap_or_else(|error| {
            warn!(%error, what, "somebody may be told twice");
            true
        })
    }

    /// Invokes a function asynchronously.
    ///
    /// Repeating it is another event for it, as an event that Lambda brings twice is: each function counts on that.
    ///
    /// # Errors
    /// The call's.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<(), Error> {
        let region = self.region();
        let question = signed::Question {
            signed_as: "lambda",
            host: "lambda",
            region: &region,
            is_global: false,
            path: format!("/2015-03-31/functions/{}/invocations", text::encoded(function)),
            headers: vec![("content-type", "application/json".into()), ("x-amz-invocation-type", "Event".into())],
            body: event.to_string(),
            patience: ATTEMPT,
        };
        signed::answer(&self.0.config, "lambda:Invoke", question).await?;
        Ok(())
    }
}
