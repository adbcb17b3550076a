//! What `local.yaml` can say, and how a file that extends another one changes it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use shared::manifest::Span;

use crate::account::{Engine, HealthCheck, Rollout, Setup};
use crate::mistakes::Described;

/// How this machine stands in for the account. What `deploy.yaml` says is not said again. `{environment}` stands for the
/// environment's name wherever something is said for all of them, `{state}` for the release's own folder, and `{port}`, in
/// commands and variables of containers, for the port of this machine that a task was given.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Local {
    /// Another file, beside this one, of which this one says only what differs.
    pub(crate) extends: Option<String>,
    /// What CodeBuild does here.
    pub(crate) build: Option<Build>,
    /// What is run once before anything else, such as building the version that is there when the release comes.
    #[serde(default)]
    pub(crate) setup: Vec<Setup>,
    /// What sets the databases up: run in each environment after `setup`, with the variables of its containers.
    #[serde(default)]
    pub(crate) databases: Vec<Setup>,
    /// Variables of all of the application's containers.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// docker compose's file, in the application's folder, whose services `containers` name.
    pub(crate) compose: Option<String>,
    /// Services of that file that run beside the application and are not started here, such as its database, each with where it is
    /// reached on this machine: `localhost`, or `localhost:5433`. Addresses in that file lead there.
    #[serde(default)]
    pub(crate) outside: BTreeMap<String, String>,
    /// How containers are started, by the families of `deploy.yaml`.
    #[serde(default)]
    pub(crate) containers: BTreeMap<String, Container>,
    /// How services run, by their names in `deploy.yaml`.
    #[serde(default)]
    pub(crate) services: BTreeMap<String, Service>,
    /// What differs in an environment.
    #[serde(default)]
    pub(crate) environments: BTreeMap<String, Differing>,
    /// What starts real containers; processes of this machine stand for them unless given.
    pub(crate) run_with: Option<Engine>,
    /// Lambda functions of the application's own that deployments call, by name: a command, whose exit code 0 lets the
    /// deployment go on.
    #[serde(default)]
    pub(crate) hooks: BTreeMap<String, Setup>,
    /// SSM parameters, in the stack's Region; those that `deploy.yaml` names have some value unless given.
    #[serde(default)]
    pub(crate) ssm: BTreeMap<String, String>,
    /// Whether notifications really go to Slack, Datadog, Sentry and others; shown here unless given.
    pub(crate) real_notifications: Option<bool>,
    /// What `sam deploy --guided` asks for.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, String>,
    /// The account's number (111122223333).
    pub(crate) account: Option<String>,
    /// Where Cutover's own stack is (us-east-1).
    pub(crate) region: Option<String>,
}

/// What CodeBuild does here, in the application's folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    /// The command; `{image}` in it is the image with its tag.
    pub(crate) command: Vec<String>,
    /// The image's name, `registry.example/APPLICATION` unless given; its tag is the commit.
    pub(crate) image: Option<String>,
    /// What the image has beside what git has of the folder: files and folders that the command makes. With it (`[]` where it makes none),
    /// containers run in a copy of both, so that `rollback` runs what ran then; without it, in the folder itself.
    pub(crate) files: Option<Vec<String>>,
}

/// How the container of a family is started. What is said here goes before what `compose` or `taskdef` say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Container {
    /// The service of the compose file that it is.
    pub(crate) compose: Option<String>,
    /// The task definition, as JSON, in the application's folder: what RegisterTaskDefinition takes, or what
    /// DescribeTaskDefinition gives.
    pub(crate) taskdef: Option<String>,
    /// The image's ENTRYPOINT.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Its command.
    pub(crate) command: Option<Vec<String>>,
    /// Its variables, beside those of all.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// The port that it listens on; that of the service in `deploy.yaml` unless given.
    pub(crate) port: Option<u16>,
    /// Its own health check.
    pub(crate) health_check: Option<OwnCheck>,
    /// How long it has for ending after SIGTERM (30s).
    pub(crate) stop_timeout: Option<Span>,
}

/// A container's own health check, as task definitions have it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnCheck {
    /// The command, run in the container.
    pub(crate) command: Vec<String>,
    /// How often (30s).
    pub(crate) interval: Option<Span>,
    /// How long it may take (5s).
    pub(crate) timeout: Option<Span>,
    /// How many may fail in a row (3).
    pub(crate) retries: Option<u32>,
    /// For how long after the start failures do not count.
    pub(crate) start_period: Option<Span>,
}

/// How a service runs here.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// How many tasks (1).
    pub(crate) tasks: Option<usize>,
    /// The port of this machine that stands for a web service's load balancer in the first environment; the next ones have
    /// the next ones. From 8101 on unless given.
    pub(crate) port: Option<u16>,
    /// How its target group asks whether a task is healthy.
    pub(crate) health_check: Option<HealthCheck>,
    /// How ECS deploys it, where CodeDeploy does not: blue/green behind a PAUSE hook unless given.
    pub(crate) deployment: Option<Rollout>,
    /// Whether it has no load balancer.
    pub(crate) headless: Option<bool>,
    /// How long its deployment group waits at Ready (10m).
    pub(crate) wait_at_ready: Option<Span>,
    /// How long its old tasks stay after the traffic has moved (5m).
    pub(crate) termination_wait: Option<Span>,
}

/// What differs in an environment.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Differing {
    /// Variables of all its containers.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// How its containers are started.
    #[serde(default)]
    pub(crate) containers: BTreeMap<String, Container>,
    /// How its services run.
    #[serde(default)]
    pub(crate) services: BTreeMap<String, Service>,
    /// What sets its databases up, after what does so everywhere.
    #[serde(default)]
    pub(crate) databases: Vec<Setup>,
    /// How many tasks its cluster has room for; any number unless given.
    pub(crate) room_for_tasks: Option<usize>,
}

impl Described for Local {
    fn shape() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// What says more about something: its own words go first.
pub(crate) trait Over {
    /// This, and what it says nothing about from `base`.
    fn over(self, base: Self) -> Self;
}

fn merged<T: Over>(over: BTreeMap<String, T>, mut base: BTreeMap<String, T>) -> BTreeMap<String, T> {
    for (name, one) in over {
        let one = match base.remove(&name) {
            Some(before) => one.over(before),
            None => one,
        };
        base.insert(name, one);
    }
    base
}

fn with<T>(over: BTreeMap<String, T>, mut base: BTreeMap<String, T>) -> BTreeMap<String, T> {
    base.extend(over);
    base
}

fn after<T>(over: Vec<T>, mut base: Vec<T>) -> Vec<T> {
    base.extend(over);
    base
}

impl Over for Local {
    fn over(self, base: Self) -> Self {
        Self {
            extends: None,
            build: self.build.or(base.build),
            setup: after(self.setup, base.setup),
            databases: after(self.databases, base.databases),
            environment: with(self.environment, base.environment),
            compose: self.compose.or(base.compose),
            outside: with(self.outside, base.outside),
            containers: merged(self.containers, base.containers),
            services: merged(self.services, base.services),
            environments: merged(self.environments, base.environments),
            run_with: self.run_with.or(base.run_with),
            hooks: with(self.hooks, base.hooks),
            ssm: with(self.ssm, base.ssm),
            real_notifications: self.real_notifications.or(base.real_notifications),
            parameters: with(self.parameters, base.parameters),
            account: self.account.or(base.account),
            region: self.region.or(base.region),
        }
    }
}

impl Over for Container {
    fn over(self, base: Self) -> Self {
        Self {
            compose: self.compose.or(base.compose),
            taskdef: self.taskdef.or(base.taskdef),
            entrypoint: self.entrypoint.or(base.entrypoint),
            command: self.command.or(base.command),
            environment: with(self.environment, base.environment),
            port: self.port.or(base.port),
            health_check: self.health_check.or(base.health_check),
            stop_timeout: self.stop_timeout.or(base.stop_timeout),
        }
    }
}

impl Over for Service {
    fn over(self, base: Self) -> Self {
        Self {
            tasks: self.tasks.or(base.tasks),
            port: self.port.or(base.port),
            health_check: self.health_check.or(base.health_check),
            deployment: self.deployment.or(base.deployment),
            headless: self.headless.or(base.headless),
            wait_at_ready: self.wait_at_ready.or(base.wait_at_ready),
            termination_wait: self.termination_wait.or(base.termination_wait),
        }
    }
}

impl Over for Differing {
    fn over(self, base: Self) -> Self {
        Self {
            environment: with(self.environment, base.environment),
            containers: merged(self.containers, base.containers),
            services: merged(self.services, base.services),
            databases: after(self.databases, base.databases),
            room_for_tasks: self.room_for_tasks.or(base.room_for_tasks),
        }
    }
}
