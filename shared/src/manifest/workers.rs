//! What `deploy.yaml` says of workers that are started one by one, and of what runs by the clock.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::{CapacityProvider, Cron, LaunchType, Span};

/// A kind of worker: one ECS task for each long job that is asked for. It goes on until its job is done or it is `live` old,
/// whichever is longer; no deployment waits for it, and none ends it.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The task definition's family; `{environment}` stands for the environment's name.
    pub family: String,
    /// The container that gets the release's image and the overrides; the definition's only one unless given.
    pub container: Option<String>,
    /// The command, instead of the definition's.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables, beside the definition's and `WORKER_LIVE`.
    #[serde(default)]
    pub environment: IndexMap<String, String>,
    /// The task's CPU units, instead of the definition's.
    pub cpu: Option<u32>,
    /// The task's memory in MiB, instead of the definition's.
    pub memory: Option<u32>,
    /// Where it runs, instead of the environment's own.
    pub launch_type: Option<LaunchType>,
    /// How its tasks are spread over capacity providers, instead of the environment's own; excludes `launch_type`.
    #[serde(default)]
    pub capacity_providers: Vec<CapacityProvider>,
    /// How many may run at once in an environment.
    #[serde(default = "ten")]
    pub most: u32,
    /// How many wait for a job in each environment, so that it begins at once.
    #[serde(default)]
    pub warm: u32,
    /// The age at which one that has nothing to do ends by itself: `WORKER_LIVE` of its container.
    #[serde(default = "Span::five_minutes")]
    pub live: Span,
    /// Where there are any: everywhere unless given.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub environments: Option<Vec<Spanned<String>>>,
    /// Tags of its tasks.
    #[serde(default)]
    pub tags: IndexMap<String, String>,
}

const fn ten() -> u32 {
    10
}

/// Something that runs by the clock: a worker, or one of the release's tasks.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When: five fields, as in a crontab (minute, hour, day of the month, month, day of the week).
    pub cron: Cron,
    /// In which time zone, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The worker that is started; this or `task`.
    pub worker: Option<String>,
    /// The task that is run; this or `worker`.
    pub task: Option<String>,
    /// What happens when its last run still goes on.
    #[serde(default)]
    pub overlap: Overlap,
    /// How late it may begin; after that, it is left out and said to be missed.
    #[serde(default = "Span::ten_minutes")]
    pub within: Span,
    /// Where: wherever its worker or task is unless given.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub environments: Option<Vec<Spanned<String>>>,
}

fn utc() -> String {
    "UTC".into()
}

/// What happens when a schedule's last run still goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// This one is left out.
    #[default]
    Skip,
    /// They run side by side.
    Allow,
}
