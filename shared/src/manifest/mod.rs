//! `deploy.yaml`: what a release of the application is, written by the people who own the application.
//!
//! Invariant: a [`Manifest`] names only what exists in it and only names that AWS takes; every mistake is found when it
//! is read, with its line, and not in the middle of a release.

use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_saphyr::Spanned;

use crate::error::Verdict;
use crate::text;
use crate::yaml::{self, Mistake};

pub use cron::Cron;
pub use mistakes::{Flaw, LONGEST_DRAIN};
pub use workers::{Overlap, Schedule, Worker};

mod cron;
mod mistakes;
#[cfg(feature = "schema")]
pub mod schema;
mod workers;

/// The manifest's name, in the application's folder and in the input artifact.
pub const FILE: &str = "deploy.yaml";

/// A whole manifest. Everything stands in the order in which it was written.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What is deployed, for people.
    pub application: String,
    /// The places where it runs in production.
    pub environments: IndexMap<String, Environment>,
    /// The one-off tasks of a release: pre-steps, migrations, post-steps.
    #[serde(default)]
    pub tasks: IndexMap<String, Task>,
    /// Its long-running services.
    #[serde(default)]
    pub services: IndexMap<String, Service>,
    /// Its workers that are started one by one, each for a long job.
    #[serde(default)]
    pub workers: IndexMap<String, Worker>,
    /// What runs by the clock.
    #[serde(default)]
    pub schedules: IndexMap<String, Schedule>,
    /// Who is told, beside the console.
    #[serde(default)]
    pub notifications: Notifications,
}

/// Who is told of a release. Secrets are SSM SecureStrings in the stack's account and Region; here stand their names only.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Notifications {
    /// A Slack channel, while the release goes on.
    pub slack: Option<Slack>,
    /// Datadog gets an event when the release has been deployed.
    pub datadog: Option<Datadog>,
    /// Sentry gets a release and a deploy.
    pub sentry: Option<Sentry>,
    /// Others get a JSON body of your own.
    #[serde(default)]
    pub http: IndexMap<String, Http>,
}

/// A Slack channel.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// The parameter that holds the address of an incoming webhook.
    pub webhook: String,
}

/// Datadog.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Datadog {
    /// The parameter that holds the API key.
    pub api_key: String,
    /// The site, such as `datadoghq.eu`.
    #[serde(default = "datadog_site")]
    pub site: String,
    /// Tags of the event.
    #[serde(default)]
    pub tags: Vec<String>,
}

fn datadog_site() -> String {
    "datadoghq.com".into()
}

/// Sentry.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sentry {
    /// The parameter that holds an auth token with the scope `project:releases`.
    pub token: String,
    /// The organization's slug.
    pub organization: String,
    /// The projects' slugs.
    pub projects: Vec<String>,
    /// The environment of the deploy.
    #[serde(default = "production")]
    pub environment: String,
    /// Where Sentry is.
    #[serde(default = "sentry_url")]
    pub url: String,
}

fn production() -> String {
    "production".into()
}

fn sentry_url() -> String {
    "https://sentry.io".into()
}

/// Somebody who takes JSON.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The address.
    pub url: String,
    /// The parameter that holds the `Authorization` header.
    pub authorization: Option<String>,
    /// The body; in its texts, `{application}`, `{pipeline}`, `{execution}`, `{commit}`, `{message}` and `{seconds}` stand
    /// for the release's own.
    pub body: serde_json::Value,
}

impl Notifications {
    /// The parameters that are needed, each with its place in the manifest.
    #[must_use]
    pub fn parameters(&self) -> Vec<(Vec<&str>, &str)> {
        let own = |path: [&'static str; 2]| ["notifications"].into_iter().chain(path).collect::<Vec<_>>();
        let slack = self.slack.iter().map(|one| (own(["slack", "webhook"]), one.webhook.as_str()));
        let datadog = self.datadog.iter().map(|one| (own(["datadog", "api_key"]), one.api_key.as_str()));
        let sentry = self.sentry.iter().map(|one| (own(["sentry", "token"]), one.token.as_str()));
        let http = self.http.iter().filter_map(|(name, one)| {
            Some((vec!["notifications", "http", name, "authorization"], one.authorization.as_deref()?))
        });
        slack.chain(datadog).chain(sentry).chain(http).collect()
    }
}

/// One place where the application runs in production.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The Region, such as `eu-west-1`.
    pub region: String,
    /// The ECS cluster.
    pub cluster: String,
    /// A role in another account, assumed for every call in this environment.
    pub role: Option<String>,
    /// The subnets of its tasks (network mode `awsvpc`).
    #[serde(default)]
    pub subnets: Vec<String>,
    /// The security groups of its tasks.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Whether its tasks get public addresses.
    #[serde(default)]
    pub assign_public_ip: bool,
    /// Where its one-off tasks run; what the cluster does by default unless given.
    pub launch_type: Option<LaunchType>,
    /// How its one-off tasks are spread over capacity providers; excludes `launch_type`.
    #[serde(default)]
    pub capacity_providers: Vec<CapacityProvider>,
    /// The Fargate platform version.
    pub platform_version: Option<String>,
}

/// ECS's launch types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum LaunchType {
    /// Instances of the account's own.
    Ec2,
    /// AWS's own capacity.
    Fargate,
    /// Machines outside AWS.
    External,
}

/// One item of a capacity provider strategy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CapacityProvider {
    /// Its name, such as `FARGATE_SPOT`.
    pub name: String,
    /// Its share of the tasks beyond the base.
    #[serde(default)]
    pub weight: u16,
    /// How many tasks run on it before the others get any.
    #[serde(default)]
    pub base: u32,
}

/// A one-off task of the release.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The task definition's family; `{environment}` stands for the environment's name.
    pub family: String,
    /// The container that gets the release's image and the overrides; the definition's only one unless given.
    pub container: Option<String>,
    /// The command, instead of the definition's.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables, beside the definition's.
    #[serde(default)]
    pub environment: IndexMap<String, String>,
    /// The task's CPU units, instead of the definition's.
    pub cpu: Option<u32>,
    /// The task's memory in MiB, instead of the definition's.
    pub memory: Option<u32>,
    /// How long it may take, its start included, before it is stopped.
    #[serde(default = "Span::an_hour")]
    pub timeout: Span,
    /// How long a placement that failed for room is tried again.
    #[serde(default = "Span::ten_minutes")]
    pub retry_placement_for: Span,
    /// Whether its containers may go on while their lines wait for being sent.
    #[serde(default)]
    pub log_mode: LogMode,
    /// Whether what it does forbids going back to a release from before it, unless that is asked for by the task's name.
    #[serde(default)]
    pub no_way_back: bool,
    /// Where it runs: everywhere unless given.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub environments: Option<Vec<Spanned<String>>>,
    /// Tags of its tasks.
    #[serde(default)]
    pub tags: IndexMap<String, String>,
}

/// What a container's log driver does when it cannot send as fast as the container writes (fact 25).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    /// What the task definition says; without a word in it, lines beyond a buffer are lost.
    #[default]
    AsDefined,
    /// The container waits: no line is lost.
    Blocking,
}

/// A long-running ECS service.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Whether it answers requests or works on a queue.
    pub kind: ServiceKind,
    /// The ECS service's name; `{environment}` stands for the environment's name, here and in `codedeploy_application`,
    /// `deployment_group` and `family`.
    pub service: String,
    /// Who deploys it; what ECS says of the service (its deployment controller) unless given.
    pub deployment: Option<DeploymentKind>,
    /// Whether Cutover gives a service that ECS itself deploys, other than rolling, a PAUSE hook before its production traffic
    /// moves, when it has none. That changes the service's configuration for good.
    pub barrier: Option<Barrier>,
    /// The CodeDeploy application; none for a service that ECS itself deploys.
    pub codedeploy_application: Option<String>,
    /// The CodeDeploy deployment group.
    pub deployment_group: Option<String>,
    /// The task definition's family.
    pub family: String,
    /// The container that gets the release's image and, where there is a load balancer, its traffic.
    pub container: String,
    /// That container's port; only needed where CodeDeploy deploys.
    pub port: Option<u16>,
    /// Lambda functions that CodeDeploy calls at its lifecycle events.
    #[serde(default)]
    pub hooks: IndexMap<Hook, String>,
    /// How many of the new tasks may die before the deployment is given up.
    #[serde(default = "three")]
    pub max_failed_tasks: u32,
    /// How long its deployment may take, from the release's turn to deploy until its traffic has moved.
    #[serde(default = "Span::an_hour")]
    pub timeout: Span,
    /// How long another deployment of the same group or service is waited for: a day at most.
    #[serde(default = "Span::half_an_hour")]
    pub wait_for_group: Span,
    /// How long the old tasks of a worker are waited for: 23h at most.
    #[serde(default = "Span::five_minutes")]
    pub drain_for: Span,
    /// Where it runs: everywhere unless given.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub environments: Option<Vec<Spanned<String>>>,
}

/// Who deploys a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeploymentKind {
    /// A CodeDeploy group, blue/green.
    Codedeploy,
    /// ECS itself: blue/green, linear, canary or rolling, as the service's own configuration says.
    Ecs,
}

/// What Cutover does for a service that nothing holds before its traffic moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Barrier {
    /// It gives the service a PAUSE hook (fact 46).
    Add,
}

/// Where CodeDeploy deploys a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodedeployNames<'a> {
    /// The application.
    pub application: &'a str,
    /// The deployment group.
    pub group: &'a str,
}

impl Service {
    /// Where CodeDeploy deploys it, if it does.
    #[must_use]
    pub fn codedeploy(&self) -> Option<CodedeployNames<'_>> {
        let (application, group) = (self.codedeploy_application.as_deref()?, self.deployment_group.as_deref()?);
        Some(CodedeployNames { application, group })
    }
}

/// What a service does for a living.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// It answers requests: its old tasks stay as the backup that their group's wait time gives.
    Web,
    /// It works on a queue: its old tasks finish what they do and go.
    Worker,
}

/// CodeDeploy's lifecycle events that can call a function (fact 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Hook {
    /// Before the new task set is made.
    BeforeInstall,
    /// After it was made.
    AfterInstall,
    /// After test traffic was moved to it.
    AfterAllowTestTraffic,
    /// Before production traffic is moved to it.
    BeforeAllowTraffic,
    /// After production traffic was moved to it.
    AfterAllowTraffic,
}

const fn three() -> u32 {
    3
}

/// A duration as people write it: `90s`, `30m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    const fn minutes(minutes: u64) -> Self {
        Self(Duration::from_secs(60 * minutes))
    }
    const fn five_minutes() -> Self {
        Self::minutes(5)
    }
    const fn ten_minutes() -> Self {
        Self::minutes(10)
    }
    const fn half_an_hour() -> Self {
        Self::minutes(30)
    }
    const fn an_hour() -> Self {
        Self::minutes(60)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // humantime's `M` is a month, and nobody means one here.
        let is_long = |unit: &str| unit.starts_with('M') || unit.starts_with("mon") || unit.starts_with('y');
        let units = text.split(|letter: char| !letter.is_ascii_alphabetic());
        match humantime::parse_duration(&text) {
            Ok(duration) if !units.clone().any(is_long) => Ok(Self(duration)),
            Ok(_) => Err(D::Error::custom(format!(
                "`{text}` is months or years: write minutes with a small m, such as `30m`, and days as `30d`"
            ))),
            Err(_) => Err(D::Error::custom(format!("`{text}` is no duration: write it as `90s`, `30m` or `1h 30m`"))),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": schema::DURATION, "examples": ["90s", "30m", "1h 30m"]})
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Manifest {
    /// Reads a manifest; `file` is what messages call it.
    ///
    /// # Errors
    /// The first mistake in it, with its line where it has one.
    pub fn read(file: &str, content: &str) -> Result<Self, Mistake> {
        let manifest = Self::read_shape(file, content)?;
        match manifest.flaws().into_iter().next() {
            Some(flaw) => Err(flaw.mistake(file)),
            None => Ok(manifest),
        }
    }

    /// The same without a look at what a manifest of the right shape can get wrong, for one with which something was begun already: a newer
    /// version may be stricter, and what an older one has begun with it is followed, stopped, and gone back to all the same.
    ///
    /// # Errors
    /// It has not the shape of a manifest.
    pub fn read_shape(file: &str, content: &str) -> Result<Self, Mistake> {
        yaml::read(file, content)
    }

    /// The task of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn task(&self, name: &str) -> Result<&Task, Verdict> {
        self.tasks.get(name).ok_or_else(|| {
            let why = text::unknown("task", name, self.tasks.keys().map(String::as_str));
            Verdict::misconfigured(format!(
                "{FILE}: {why} Name it in the action's `Task`, or add it to the manifest's `tasks`."
            ))
        })
    }

    /// The environments of a task or service, in the manifest's order.
    #[must_use]
    pub fn environments_of(&self, listed: Option<&Vec<Spanned<String>>>) -> Vec<(&str, &Environment)> {
        self.environments
            .iter()
            .filter(|(name, _)| listed.is_none_or(|listed| listed.iter().any(|one| one.value == **name)))
            .map(|(name, environment)| (name.as_str(), environment))
            .collect()
    }
}

/// A name of the manifest's as it is in an environment: `{environment}` replaced.
#[must_use]
pub fn in_environment(name: &str, environment: &str) -> String {
    name.replace("{environment}", environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
application: shop
environments:
  us: {region: us-east-1, cluster: shop-us}
  eu: {region: eu-west-1, cluster: shop-eu}
tasks:
  migrate:
    family: shop-tasks
    command: [migrate]
    timeout: 1h 30m
    environments: [eu]
services:
  web:
    kind: web
    service: shop-web
    codedeploy_application: shop-{environment}
    deployment_group: web
    family: shop-web
    container: web
    port: 8080
";

    #[test]
    fn a_good_manifest_is_read_in_its_own_order() {
        let manifest = Manifest::read(FILE, GOOD).unwrap();
        let task = manifest.task("migrate").unwrap();
        assert_eq!(task.timeout.0, Duration::from_secs(5400));
        let names = |listed| manifest.environments_of(listed).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(task.environments.as_ref()), ["eu"]);
        assert_eq!(names(None), ["us", "eu"]);
        assert_eq!(in_environment(manifest.services["web"].codedeploy().unwrap().application, "us"), "shop-us");
    }

    #[test]
    fn every_mistake_is_said_with_its_place_and_what_was_expected() {
        for (written, instead, said) in [
            (
                "cluster: shop-us",
                "clutser: shop-us",
                "deploy.yaml:3:27: `clutser` is not known: did you mean `cluster`?",
            ),
            (", cluster: shop-us", "", "deploy.yaml:3:8: `cluster` is missing"),
            ("[eu]", "[ue]", "deploy.yaml:10:20: tasks.migrate: there is no environment `ue`: did you mean `us`?"),
            ("1h 30m", "soon", "deploy.yaml:9:14: `soon` is no duration: write it as `90s`, `30m` or `1h 30m`"),
            ("kind: web", "kind: wbe", "deploy.yaml:13:11: unknown variant `wbe`, expected one of web, worker"),
            (
                "  us:",
                "  United States:",
                "deploy.yaml: environments.United States: a name has 1 to 20 of a-z, 0-9, - and _",
            ),
            ("port: 8080", "port: 80800", "deploy.yaml:19:11: a whole number from 0 to 65535 is expected"),
            (
                "    port: 8080\n",
                "",
                "deploy.yaml: services.web: `port` is missing: CodeDeploy moves the traffic of a container's port",
            ),
            (
                "    port: 8080\n",
                "    port: 8080\n    kind: worker\n",
                "deploy.yaml:20:5: `kind` stands here for the second time; it stands on line 13, too: keep one of them",
            ),
        ] {
            let text = GOOD.replace(written, instead);
            assert_ne!(text, GOOD);
            assert_eq!(Manifest::read(FILE, &text).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn a_service_that_ecs_itself_deploys_needs_neither_group_nor_port() {
        let text = GOOD.replace("    codedeploy_application: shop-{environment}\n    deployment_group: web\n", "");
        let text = text.replace("    port: 8080\n", "").replace("kind: web", "kind: worker");
        assert_eq!(Manifest::read(FILE, &text).unwrap().services["web"].port, None);
    }

    #[test]
    fn a_file_without_a_word_is_said_to_be_empty() {
        for text in ["", "\n\n", "# later\n  # or never\n"] {
            let said = Manifest::read(FILE, text).unwrap_err().to_string();
            assert_eq!(said, "deploy.yaml: there is nothing in it: see the examples for what belongs there");
        }
    }

    #[test]
    fn a_file_that_is_not_utf_8_says_on_which_line() {
        let path = std::env::temp_dir().join(format!("cutover-not-utf-8-{}", std::process::id()));
        std::fs::write(&path, b"application: shop\n# caf\xe9\n").unwrap();
        let said = yaml::text_of(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(said.starts_with("it is not UTF-8: the first byte that cannot be read is on line 2."), "{said}");
    }

    #[test]
    fn a_file_that_is_no_yaml_is_a_mistake_with_a_line() {
        let mistake = Manifest::read(FILE, "application: shop\nenvironments: [").unwrap_err();
        assert!(mistake.at.is_some(), "{mistake}");
    }

    #[test]
    fn an_unknown_task_is_answered_with_the_one_that_was_meant() {
        let manifest = Manifest::read(FILE, GOOD).unwrap();
        let said = manifest.task("migrat").unwrap_err().message;
        assert!(said.contains("did you mean `migrate`?"), "{said}");
    }
}
