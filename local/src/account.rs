//! `local.yaml`: what "the account already has" when a release comes: clusters, task definitions, services, deployment
//! groups, ports, parameters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::manifest::Span;
use shared::yaml;

use crate::Mistake;

/// The name of the file, beside the application's `deploy.yaml`.
pub const FILE: &str = "local.yaml";

/// The account on this machine.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The command.
    pub command: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// What stands for the state folder of a release in `local.yaml`.
const STATE: &str = "{state}";

/// What CodeBuild does here, in the application's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The command.
    pub command: Vec<String>,
    /// The image's name; its tag is the commit.
    pub image: String,
}

/// What a Region has.
#[derive(Debug, Clone, Default, Deserialize)]
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
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How many tasks it has room for; any number unless given.
    pub room_for_tasks: Option<usize>,
    /// Its services.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
}

/// A service that runs when the release comes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The family (or `family:revision`) that it runs.
    pub task_definition: String,
    /// How many tasks.
    #[serde(default = "one")]
    pub desired: usize,
    /// Which container gets the traffic.
    pub container: String,
    /// That container's port in the task definition.
    pub container_port: u16,
    /// The port of this machine that stands for its load balancer; none for a service that nobody asks.
    pub port: Option<u16>,
    /// Who brings a new version of it.
    #[serde(default)]
    pub controller: Controller,
}

/// A file that says what differs from another one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variant {
    /// The other file, beside this one.
    extends: String,
    /// What is run after the other's setup.
    #[serde(default)]
    setup: Vec<Setup>,
    /// Environment variables of all containers of a task definition, by Region and family.
    #[serde(default)]
    container_environment: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
}

impl Variant {
    fn apply(self, name: &str, account: &mut Account) -> Result<(), Mistake> {
        account.setup.extend(self.setup);
        for (region_name, families) in self.container_environment {
            let known: Vec<_> = account.regions.keys().cloned().collect();
            let region = account.regions.get_mut(&region_name).ok_or_else(|| {
                let why = shared::text::unknown("Region", &region_name, known.iter().map(String::as_str));
                Mistake(format!("{name}: container_environment: {why}"))
            })?;
            for (family, variables) in families {
                let found = region.task_definitions.iter_mut().find(|one| one["family"] == *family);
                let definition = found.ok_or_else(|| {
                    Mistake(format!(
                        "{name}: container_environment.{region_name}: there is no task definition `{family}`"
                    ))
                })?;
                let containers = definition.get_mut("containerDefinitions").and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    let mut environment = container["environment"].as_array().cloned().unwrap_or_default();
                    environment.retain(|one| !one["name"].as_str().is_some_and(|name| variables.contains_key(name)));
                    environment.extend(variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
                    container["environment"] = environment.into();
                }
            }
        }
        Ok(())
    }
}

/// ECS's deployment controllers, as far as they are known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Mistake(format!(
                "{name}: {error}. It says what the account has (clusters, task definitions, services): see examples/shop/local.yaml"
            ))
        })?;
        let text = text.replace(STATE, &state.display().to_string());
        if !text.lines().any(|line| line.starts_with("extends:")) {
            return Self::parse(&name, &text);
        }
        let variant: Variant = yaml::read(&name, &text)?;
        let mut account = Self::read(&path.with_file_name(&variant.extends), state)?;
        variant.apply(&name, &mut account)?;
        Ok(account)
    }

    /// Reads its content.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Mistake> {
        let account: Self = yaml::read(name, text)?;
        match account.mistake() {
            Some(why) => Err(Mistake(format!("{name}: {why}"))),
            None => Ok(account),
        }
    }

    fn mistake(&self) -> Option<String> {
        if self.build.command.is_empty() {
            return Some("build.command: name the program that builds the application".into());
        }
        let mut ports: BTreeMap<u16, String> = BTreeMap::new();
        for (region_name, region) in &self.regions {
            let families: Vec<_> =
                region.task_definitions.iter().filter_map(|one| one.get("family")?.as_str()).collect();
            if families.len() < region.task_definitions.len() {
                return Some(format!("regions.{region_name}.task_definitions: each needs a `family`"));
            }
            for (cluster_name, cluster) in &region.clusters {
                for (name, service) in &cluster.services {
                    let at = format!("regions.{region_name}.clusters.{cluster_name}.services.{name}");
                    let family = service.task_definition.split(':').next().unwrap_or_default();
                    if !families.contains(&family) {
                        let why = shared::text::unknown("task definition", family, families.iter().copied());
                        return Some(format!("{at}.task_definition: {why}"));
                    }
                    if let Some(before) = service.port.and_then(|port| ports.insert(port, at.clone())) {
                        return Some(format!("{at}.port: it is also that of {before}"));
                    }
                }
            }
            for (application, groups) in &region.deployment_groups {
                for (name, group) in groups {
                    let at = format!("regions.{region_name}.deployment_groups.{application}.{name}");
                    let Some(cluster) = region.clusters.get(&group.cluster) else {
                        let known = region.clusters.keys().map(String::as_str);
                        return Some(format!(
                            "{at}.cluster: {}",
                            shared::text::unknown("cluster", &group.cluster, known)
                        ));
                    };
                    if !cluster.services.contains_key(&group.service) {
                        let known = cluster.services.keys().map(String::as_str);
                        return Some(format!(
                            "{at}.service: {}",
                            shared::text::unknown("service", &group.service, known)
                        ));
                    }
                }
            }
        }
        None
    }
}

/// The manifest and the account of the application in a folder.
///
/// # Errors
/// What cannot be read, and the first mistake in either.
pub fn read_application(
    folder: &Path,
    local: Option<&Path>,
    state: &Path,
) -> Result<(shared::Manifest, Account), Mistake> {
    let manifest_path = folder.join(shared::manifest::FILE);
    let name = manifest_path.display().to_string();
    let text = std::fs::read_to_string(&manifest_path).map_err(|error| {
        Mistake(format!("{name}: {error}. It says what a release of the application is: see examples/shop/deploy.yaml"))
    })?;
    let manifest = shared::Manifest::read(&name, &text)?;
    let local: PathBuf = local.map_or_else(|| folder.join(FILE), Path::to_path_buf);
    Ok((manifest, Account::read(&local, state)?))
}
