//! `local.yaml`: what "the account already has" when a release comes: clusters, task definitions, services, deployment
//! groups, ports, parameters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::manifest::{Flaw, Span};
use shared::yaml;

use crate::Mistake;
use crate::mistakes::{self, Described};
pub use rollout::{CircuitBreaker, LifecycleHook, OnTimeout, Rollout, Strategy};

mod rollout;

/// The name of the file, beside the application's `deploy.yaml`.
pub const FILE: &str = "local.yaml";

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

/// How many files may extend each other in a row.
const LONGEST_CHAIN: usize = 8;

/// What stands for the state folder of a release in `local.yaml`.
const STATE: &str = "{state}";

/// What CodeBuild does here, in the application's folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The command.
    pub command: Vec<String>,
    /// The image's name; its tag is the commit.
    pub image: String,
}

/// What a Region has.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Whose it is, when that is not the account of Cutover's own stack: reached through a role.
    pub account: Option<String>,
    /// The ECS clusters.
    #[serde(default)]
    pub clusters: BTreeMap<String, Cluster>,
    /// Task definitions, in ECS's own shape (`RegisterTaskDefinition`'s request).
    #[serde(default)]
    pub task_definitions: Vec<Value>,
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

/// How a target group asks whether a task is healthy; times are shorter than a load balancer's, so that a release here takes
/// seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// Over what.
    pub protocol: Protocol,
    /// The path that is asked for.
    pub path: String,
    /// The status codes that are good.
    #[schemars(with = "String")]
    pub matcher: Matcher,
    /// How often.
    pub interval: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// How many good answers in a row make an ill task healthy again.
    pub healthy: u32,
    /// How many bad ones make it ill.
    pub unhealthy: u32,
    /// For how long after its start a task may be ill (ECS's `healthCheckGracePeriodSeconds`).
    pub grace: Span,
}

impl Default for HealthCheck {
    fn default() -> Self {
        let millis = |millis| Span(std::time::Duration::from_millis(millis));
        Self {
            protocol: Protocol::default(),
            path: "/".into(),
            matcher: Matcher::default(),
            interval: millis(500),
            timeout: millis(2000),
            healthy: 2,
            unhealthy: 3,
            grace: millis(10_000),
        }
    }
}

impl HealthCheck {
    /// `GET /up`, or `its port`.
    #[must_use]
    pub fn what(&self) -> String {
        match self.protocol {
            Protocol::Http => format!("GET {}", self.path),
            Protocol::Tcp => "its port".into(),
        }
    }
}

/// What a target group speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// An application load balancer's.
    #[default]
    Http,
    /// A network load balancer's.
    Tcp,
}

/// Status codes as target groups have them: `200`, `200,202`, `200-299`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher(Vec<std::ops::RangeInclusive<u16>>);

impl Default for Matcher {
    fn default() -> Self {
        Self(vec![200..=200])
    }
}

impl Matcher {
    /// Whether this code is good.
    #[must_use]
    pub fn takes(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (200..=599).contains(code));
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some(code(first)?..=code(last)?),
            None => code(part).map(|code| code..=code),
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        let wrong = || {
            serde::de::Error::custom(format!(
                "`{text}` is no list of status codes: write it as \"200\", \"200,202\" or \"200-299\""
            ))
        };
        ranges.map(Self).ok_or_else(wrong)
    }
}

/// A file that says what differs from another one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// The other file, beside this one.
    extends: String,
    /// What is run after the other's setup.
    #[serde(default)]
    setup: Vec<Setup>,
    /// Environment variables of all containers of a task definition, by Region and family.
    #[serde(default)]
    container_environment: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    /// Who deploys services, and how, by Region and name: those of CodeDeploy that have moved to ECS.
    #[serde(default)]
    services: BTreeMap<String, BTreeMap<String, Moved>>,
    /// Lambda functions of the application's own that deployments call.
    #[serde(default)]
    hooks: BTreeMap<String, Setup>,
}

/// A service that ECS deploys instead.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Moved {
    /// How.
    deployment: Rollout,
    /// Whether it has no load balancer any more.
    #[serde(default)]
    headless: bool,
}

impl Variant {
    /// What does not fit the other file.
    fn apply(self, account: &mut Account) -> Vec<String> {
        let mut wrong = Vec::new();
        account.setup.extend(self.setup);
        account.hooks.extend(self.hooks);
        for (region_name, services) in self.services {
            let known: Vec<_> = account.regions.keys().cloned().collect();
            let Some(region) = account.regions.get_mut(&region_name) else {
                let why = shared::text::unknown("Region", &region_name, known.iter().map(String::as_str));
                wrong.push(format!("services: {why}"));
                continue;
            };
            for (service_name, moved) in services {
                let mut all = region.clusters.values_mut().flat_map(|cluster| &mut cluster.services);
                let Some((_, service)) = all.find(|(own, _)| **own == service_name) else {
                    wrong.push(format!("services.{region_name}: there is no service `{service_name}`"));
                    continue;
                };
                service.controller = Controller::Ecs;
                service.deployment = moved.deployment;
                if moved.headless {
                    (service.container, service.container_port, service.port) = (None, None, None);
                }
            }
        }
        for (region_name, families) in self.container_environment {
            let known: Vec<_> = account.regions.keys().cloned().collect();
            let Some(region) = account.regions.get_mut(&region_name) else {
                let why = shared::text::unknown("Region", &region_name, known.iter().map(String::as_str));
                wrong.push(format!("container_environment: {why}"));
                continue;
            };
            for (family, variables) in families {
                let Some(definition) = region.task_definitions.iter_mut().find(|one| one["family"] == *family) else {
                    wrong.push(format!("container_environment.{region_name}: there is no task definition `{family}`"));
                    continue;
                };
                let containers = definition.get_mut("containerDefinitions").and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    let mut environment = container["environment"].as_array().cloned().unwrap_or_default();
                    environment.retain(|one| !one["name"].as_str().is_some_and(|name| variables.contains_key(name)));
                    environment.extend(variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
                    container["environment"] = environment.into();
                }
            }
        }
        wrong
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
    /// Reads the file, and the one that it extends; `{state}` in them becomes the state folder.
    ///
    /// # Errors
    /// When it cannot be read, or the first mistake in it.
    pub fn read(path: &Path, state: &Path) -> Result<Self, Mistake> {
        Self::read_chain(path, state).map(|(account, _)| account)
    }

    /// The same, with the last file of those that extend each other: the account itself, whichever variant of it is asked for.
    pub(crate) fn read_chain(path: &Path, state: &Path) -> Result<(Self, PathBuf), Mistake> {
        let mut files = Vec::new();
        let account = Self::read_after(path, state, &mut files)?;
        Ok((account, files.pop().unwrap_or_else(|| path.to_owned())))
    }

    /// The same of a file that others extend, each of which was read before.
    fn read_after(path: &Path, state: &Path, before: &mut Vec<PathBuf>) -> Result<Self, Mistake> {
        let name = path.display().to_string();
        let own = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if before.contains(&own) {
            return Err(Mistake(format!("{name}: extends: it extends itself: name the file that says all")));
        }
        before.push(own);
        if before.len() > LONGEST_CHAIN {
            return Err(Mistake(format!(
                "{name}: extends: more than {LONGEST_CHAIN} files extend each other in a row: use fewer"
            )));
        }
        let text = yaml::text_of(path).map_err(|error| {
            Mistake(format!(
                "{name}: {error}. It says what the account has (clusters, task definitions, services): see examples/shop/local.yaml"
            ))
        })?;
        let text = text.replace(STATE, &state.display().to_string());
        if !text.lines().any(|line| line.starts_with("extends:")) {
            return Self::parse(&name, &text);
        }
        let variant: Variant = mistakes::read(&name, &text, |_| Vec::new())?;
        let mut account = Self::read_after(&path.with_file_name(&variant.extends), state, before)?;
        let wrong = variant.apply(&mut account);
        if wrong.is_empty() { Ok(account) } else { Err(said(&name, &wrong)) }
    }

    /// Reads its content.
    ///
    /// # Errors
    /// Every mistake in it, a line each.
    pub fn parse(name: &str, text: &str) -> Result<Self, Mistake> {
        mistakes::read(name, text, Self::flaws)
    }

    /// What an account of the right shape can still get wrong.
    fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut find = |path: &[&str], why: &str| {
            let message = format!("{}: {why}", path.join("."));
            flaws.push(Flaw { path: path.iter().map(|part| (*part).to_owned()).collect(), at: None, message });
        };
        if self.build.command.is_empty() {
            find(&["build", "command"], "name the program that builds the application");
        }
        let mut ports: BTreeMap<u16, String> = BTreeMap::new();
        for (region_name, region) in &self.regions {
            let of_region = ["regions", region_name.as_str()];
            let families: Vec<_> =
                region.task_definitions.iter().filter_map(|one| one.get("family")?.as_str()).collect();
            if families.len() < region.task_definitions.len() {
                find(&[&of_region[..], &["task_definitions"]].concat(), "each needs a `family`");
            }
            for (cluster_name, cluster) in &region.clusters {
                for (name, service) in &cluster.services {
                    let of_service = [&of_region[..], &["clusters", cluster_name, "services", name]].concat();
                    let family = service.task_definition.split(':').next().unwrap_or_default();
                    if !families.contains(&family) {
                        let why = shared::text::unknown("task definition", family, families.iter().copied());
                        find(&[&of_service[..], &["task_definition"]].concat(), &why);
                    }
                    let before = service.port.and_then(|port| ports.insert(port, of_service.join(".")));
                    if let Some(before) = before {
                        find(&[&of_service[..], &["port"]].concat(), &format!("it is also that of {before}"));
                    }
                }
            }
            for (application, groups) in &region.deployment_groups {
                for (name, group) in groups {
                    let of_group = [&of_region[..], &["deployment_groups", application, name]].concat();
                    let Some(cluster) = region.clusters.get(&group.cluster) else {
                        let known = region.clusters.keys().map(String::as_str);
                        let why = shared::text::unknown("cluster", &group.cluster, known);
                        find(&[&of_group[..], &["cluster"]].concat(), &why);
                        continue;
                    };
                    if !cluster.services.contains_key(&group.service) {
                        let known = cluster.services.keys().map(String::as_str);
                        let why = shared::text::unknown("service", &group.service, known);
                        find(&[&of_group[..], &["service"]].concat(), &why);
                    }
                }
            }
        }
        flaws
    }
}

/// All that is wrong in a file, a line each.
fn said(name: &str, wrong: &[String]) -> Mistake {
    let lines: Vec<_> = wrong.iter().map(|why| format!("{name}: {why}")).collect();
    Mistake(lines.join("\n"))
}

/// The manifest and the account of the application in a folder.
///
/// # Errors
/// What cannot be read, and the first mistake in either.
pub fn read_application(folder: &Path, local: Option<&Path>, state: &Path) -> Result<Application, Mistake> {
    let manifest_path = folder.join(shared::manifest::FILE);
    let name = manifest_path.display().to_string();
    let text = yaml::text_of(&manifest_path).map_err(|error| {
        Mistake(format!("{name}: {error}. It says what a release of the application is: see examples/shop/deploy.yaml"))
    })?;
    let manifest = shared::Manifest::read(&name, &text)?;
    let local: PathBuf = local.map_or_else(|| folder.join(FILE), Path::to_path_buf);
    let (account, root) = Account::read_chain(&local, state)?;
    Ok(Application { manifest, account, root })
}

/// An application, and what the account has of it.
#[derive(Debug)]
pub struct Application {
    /// The manifest.
    pub manifest: shared::Manifest,
    /// The account.
    pub account: Account,
    /// The file that says what the account is, whichever variant was read.
    pub root: PathBuf,
}

impl Described for Account {
    fn shape() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

impl Described for Variant {
    fn shape() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<HealthCheck, String> {
        yaml::read::<HealthCheck>("f", text).map_err(|mistake| mistake.message)
    }

    #[test]
    fn a_target_group_takes_what_its_matcher_lists_and_nothing_else() {
        for (matcher, good, bad) in [
            ("\"200\"", vec![200], vec![201, 199, 404]),
            ("200,202", vec![200, 202], vec![201]),
            ("200-299, 301", vec![200, 250, 299, 301], vec![300, 302, 500]),
        ] {
            let read = check(&format!(
                "{{matcher: {}}}",
                if matcher.contains('"') { matcher.into() } else { format!("\"{matcher}\"") }
            ));
            let read = read.unwrap().matcher;
            assert!(
                good.iter().all(|code| read.takes(*code)) && !bad.iter().any(|code| read.takes(*code)),
                "{matcher}"
            );
        }
        for matcher in ["\"\"", "ok", "\"200-\"", "\"99\"", "\"200;202\""] {
            let said = check(&format!("{{matcher: {matcher}}}")).unwrap_err();
            assert!(said.contains("is no list of status codes: write it as"), "{matcher}: {said}");
        }
    }

    #[test]
    fn a_service_is_asked_over_http_where_people_reach_it_and_over_tcp_otherwise() {
        let service = |text: &str| yaml::read::<Service>("f", &format!("{{task_definition: shop, {text}}}")).unwrap();
        let asked = service("container_port: 8080, port: 8101").check().unwrap();
        assert_eq!((asked.protocol, asked.what().as_str(), asked.matcher.takes(200)), (Protocol::Http, "GET /", true));
        assert_eq!(service("container_port: 8080").check().unwrap().protocol, Protocol::Tcp);
        assert_eq!(service("port: 8101").check(), None);
        let own = service("container_port: 8080, port: 8101, health_check: {path: /up, grace: 3s}").check().unwrap();
        assert_eq!((own.what().as_str(), own.grace.0.as_secs(), own.unhealthy), ("GET /up", 3, 3));
        assert_eq!(service("container_port: 1, health_check: {protocol: TCP}").check().unwrap().what(), "its port");
    }

    #[test]
    fn every_mistake_of_an_account_is_said_at_once_with_its_place() {
        let text = "\
build: {command: []}
regions:
  us-east-1:
    clusters:
      shop:
        services:
          web: {desired: two, port: 8101}
          worker: {task_definition: shop-wroker, port: 8101, helath_check: {}}
    task_definitions: [{family: shop-worker}]
    deployment_groups:
      shop:
        web: {cluster: shpo, service: web}
        worker: {cluster: shop, service: wroker, termination_wait: soon}
";
        let Mistake(why) = Account::parse("local.yaml", text).unwrap_err();
        let said: Vec<_> = why.lines().collect();
        assert_eq!(
            said,
            [
                "local.yaml:1:8: `image` is missing",
                "local.yaml:1:9: build.command: name the program that builds the application",
                "local.yaml:7:16: `task_definition` is missing",
                "local.yaml:7:26: a whole number is expected",
                "local.yaml:8:20: regions.us-east-1.clusters.shop.services.worker.task_definition: there is no task \
                 definition `shop-wroker`: did you mean `shop-worker`?",
                "local.yaml:8:50: regions.us-east-1.clusters.shop.services.worker.port: it is also that of \
                 regions.us-east-1.clusters.shop.services.web",
                "local.yaml:8:62: `helath_check` is not known: did you mean `health_check`?",
                "local.yaml:12:15: regions.us-east-1.deployment_groups.shop.web.cluster: there is no cluster `shpo`: did you \
                 mean `shop`?",
                "local.yaml:13:33: regions.us-east-1.deployment_groups.shop.worker.service: there is no service `wroker`: did \
                 you mean `worker`?",
                "local.yaml:13:68: `soon` is no duration: write it as `90s`, `30m` or `1h 30m`",
            ]
        );
    }

    #[test]
    fn files_that_extend_each_other_without_end_are_refused() {
        let folder = std::env::temp_dir().join(format!("cutover-extends-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
        write("own.yaml", "extends: own.yaml\n".into());
        write("a.yaml", "extends: b.yaml\n".into());
        write("b.yaml", "extends: ./a.yaml\n".into());
        for n in 0..LONGEST_CHAIN {
            write(&format!("{n}.yaml"), format!("extends: {}.yaml\n", n + 1));
        }
        for (name, said) in [
            ("own.yaml", "own.yaml: extends: it extends itself"),
            ("a.yaml", "a.yaml: extends: it extends itself"),
            ("0.yaml", "8.yaml: extends: more than 8 files extend each other in a row: use fewer"),
        ] {
            let Mistake(why) = Account::read(&folder.join(name), Path::new("state")).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
