//! What "the account already has" when a release comes: clusters, task definitions, services, deployment groups, ports,
//! parameters. `local_yaml` makes it of an application's two files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use shared::manifest::{Environment, Span};

use crate::Mistake;
use crate::mistakes::{self, Described};
pub use beside::{Beside, Subnet};
pub use health::{HealthCheck, Matcher, Protocol};
pub use rollout::{CircuitBreaker, LifecycleHook, OnTimeout, Rollout, Strategy};

mod beside;
mod flaws;
mod health;
mod rollout;

/// The account on this machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its number.
    #[serde(default = "account_id")]
    pub account: String,
    /// Where Cutover's own stack is.
    #[serde(default = "home_region")]
    pub region: String,
    /// Parameters of `template.yaml`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What made the account what it is when the release comes: run before anything else.
    #[serde(default)]
    pub setup: Vec<Setup>,
    /// What CodeBuild does here.
    pub build: Build,
    /// The Regions, and what they have.
    pub regions: BTreeMap<String, Region>,
    /// Lambda functions of the application's own that deployments call, by name: a command, whose exit code 0 lets the
    /// deployment go on.
    #[serde(default)]
    pub hooks: BTreeMap<String, Setup>,
    /// SSM parameters, in the stack's Region.
    #[serde(default)]
    pub ssm: BTreeMap<String, String>,
    /// Whether notifications really go to Slack, Datadog, Sentry and others; shown here unless given.
    #[serde(default)]
    pub real_notifications: bool,
    /// What else it has, for whoever asks.
    #[serde(default)]
    pub beside: Beside,
    /// What stands for containers.
    #[serde(default)]
    pub run_with: Engine,
    /// What of the files has no effect here, a line each, for whoever wonders.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// What stands for containers on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Processes in the application's folder.
    #[default]
    Processes,
    /// Docker's containers.
    Docker,
    /// Podman's containers.
    Podman,
}

fn account_id() -> String {
    "111122223333".into()
}

fn home_region() -> String {
    "us-east-1".into()
}

/// A command that is run before the release, in the application's folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The command.
    pub command: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// What CodeBuild does here, in the application's folder.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The command.
    pub command: Vec<String>,
    /// The image's name; its tag is the commit.
    pub image: String,
    /// What the image has beside the source, so that containers run in a copy of it: files and folders that the build makes.
    pub files: Option<Vec<PathBuf>>,
}

/// What a Region has.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name, where it does not stand under it: two accounts may have something in the same Region.
    pub name: Option<String>,
    /// Whose it is, when that is not the account of Cutover's own stack: reached through a role.
    pub account: Option<String>,
    /// The ECS clusters.
    #[serde(default)]
    pub clusters: BTreeMap<String, Cluster>,
    /// Task definitions, in ECS's own shape (`RegisterTaskDefinition`'s request).
    #[serde(default)]
    pub task_definitions: Vec<Value>,
    /// Those of the files, where the account goes on with what another run has left.
    #[serde(skip)]
    pub given: Option<Vec<Value>>,
    /// CodeDeploy's deployment groups, by application.
    #[serde(default)]
    pub deployment_groups: BTreeMap<String, BTreeMap<String, Group>>,
}

/// A cluster.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How many tasks it has room for; any number unless given.
    pub room_for_tasks: Option<usize>,
    /// Its services.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
}

/// A service that runs when the release comes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The family (or `family:revision`) that it runs.
    pub task_definition: String,
    /// How many tasks.
    #[serde(default = "one")]
    pub desired: usize,
    /// Which container gets the traffic; none of a worker that nobody asks.
    pub container: Option<String>,
    /// That container's port in the task definition.
    pub container_port: Option<u16>,
    /// How its target group asks whether a task is healthy: `GET /` for 200 where it has a `port` of this machine, otherwise
    /// whether the container's port takes a connection.
    pub health_check: Option<HealthCheck>,
    /// The port of this machine that stands for its load balancer; none for a service that nobody asks.
    pub port: Option<u16>,
    /// What its tasks are placed by; they have a launch type otherwise.
    #[serde(default)]
    pub capacity_providers: Vec<shared::manifest::CapacityProvider>,
    /// Who brings a new version of it.
    #[serde(default)]
    pub controller: Controller,
    /// How ECS brings it, where it does.
    #[serde(default)]
    pub deployment: Rollout,
}

impl Service {
    /// How its target group asks, where it has one.
    #[must_use]
    pub fn check(&self) -> Option<HealthCheck> {
        self.container_port?;
        let otherwise = || HealthCheck {
            protocol: if self.port.is_some() { Protocol::Http } else { Protocol::Tcp },
            ..HealthCheck::default()
        };
        Some(self.health_check.clone().unwrap_or_else(otherwise))
    }
}

/// ECS's deployment controllers, as far as they are known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Controller {
    /// CodeDeploy, blue/green.
    #[default]
    CodeDeploy,
    /// ECS itself, when the service is updated.
    Ecs,
}

const fn one() -> usize {
    1
}

/// A deployment group.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The cluster of its service.
    pub cluster: String,
    /// Its service.
    pub service: String,
    /// How long it waits at Ready for somebody to continue it (`STOP_DEPLOYMENT`); not at all unless given.
    pub wait_at_ready: Option<Span>,
    /// How long the old tasks stay after the traffic has moved.
    #[serde(default = "no_wait")]
    pub termination_wait: Span,
}

const fn no_wait() -> Span {
    Span(std::time::Duration::ZERO)
}

impl Account {
    /// The Region that an environment is in: its own account's, where there are several.
    #[must_use]
    pub fn region_of(&self, environment: &Environment) -> Option<&Region> {
        let role = environment.role.as_deref().and_then(|role| role.split(':').nth(4));
        let owner = role.unwrap_or(&self.account);
        let named =
            self.regions.iter().filter(|(key, region)| region.name.as_ref().unwrap_or(key) == &environment.region);
        let owned = |region: &Region| region.account.as_ref().unwrap_or(&self.account) == owner;
        let (mut own, mut others): (Vec<_>, Vec<_>) = named.map(|(_, region)| region).partition(|region| owned(region));
        own.pop().or_else(|| others.pop())
    }

    /// Reads an account that is said in full.
    ///
    /// # Errors
    /// Every mistake in it, a line each.
    pub fn parse(name: &str, text: &str) -> Result<Self, Mistake> {
        mistakes::read(name, text, Self::flaws)
    }
}

impl Described for Account {
    fn shape() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}
