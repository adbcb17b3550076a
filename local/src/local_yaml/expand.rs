//! `deploy.yaml` says what an application is, `local.yaml` how this machine stands in for it: the account that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use shared::Manifest;
use shared::manifest::{DeploymentKind, Environment, Service, ServiceKind, Span, in_environment};

use super::compose::Said;
use super::definitions::{Definitions, plain};
use super::shape::{self, Local, Over as _};
use crate::account::{Account, Build, Controller, Engine, Group, LifecycleHook, OnTimeout, Region, Rollout};
use crate::account::{Service as Running, Setup, Strategy};

/// The first port of this machine that stands for a load balancer.
const FIRST_PORT: u16 = 8101;

/// The tag of the image that runs when the release comes.
const BEFORE: &str = "1.0";

const fn minutes(minutes: u64) -> Span {
    Span(std::time::Duration::from_secs(60 * minutes))
}

/// How long a deployment group waits at Ready, and how long it keeps the old tasks.
const WAIT_AT_READY: Span = minutes(10);
const TERMINATION_WAIT: Span = minutes(5);

/// How a service that ECS itself deploys does so here unless it says otherwise: as Cutover wants it, with times as short as a
/// machine wants.
fn behind_the_barrier() -> Rollout {
    let barrier = LifecycleHook {
        stages: vec!["PRE_PRODUCTION_TRAFFIC_SHIFT".into()],
        function: None,
        timeout: minutes(10),
        on_timeout: OnTimeout::default(),
    };
    Rollout {
        strategy: Strategy::BlueGreen,
        bake_time: Span(std::time::Duration::from_secs(5)),
        lifecycle_hooks: vec![barrier],
        ..Rollout::default()
    }
}

/// The account.
pub(super) fn expand(local: Local, manifest: &Manifest, folder: &Path) -> Result<Account, Vec<Said>> {
    let home = local.account.clone().unwrap_or_else(|| "111122223333".into());
    let home_region = local.region.clone().unwrap_or_else(|| "us-east-1".into());
    let Some(build) = &local.build else {
        return Err(vec![Said::Here("`build` is missing: say how the application is built here".into())]);
    };
    let image = build.image.clone().unwrap_or_else(|| format!("registry.example/{}", plain(&manifest.application)));
    let mut definitions = Definitions::new(folder, manifest, &local, format!("{image}:{BEFORE}"))?;
    let mut wrong = Vec::new();
    let mut ports = Ports::new(&local, manifest);
    let mut asked: BTreeMap<u16, String> = BTreeMap::new();
    let mut regions: BTreeMap<String, Region> = BTreeMap::new();
    for (at, (name, environment)) in manifest.environments.iter().enumerate() {
        let owner = owner(environment).unwrap_or(&home);
        let is_home = owner == home;
        let key = if is_home { environment.region.clone() } else { format!("{owner}/{}", environment.region) };
        let region = regions.entry(key).or_insert_with(|| Region {
            name: (!is_home).then(|| environment.region.clone()),
            account: (!is_home).then(|| owner.to_owned()),
            ..Region::default()
        });
        definitions.add(name, environment, owner, region);
        let differing = local.environments.get(name);
        let cluster = region.clusters.entry(environment.cluster.clone()).or_default();
        cluster.room_for_tasks = differing.and_then(|one| one.room_for_tasks).or(cluster.room_for_tasks);
        for (service_name, service) in &manifest.services {
            let is_here = manifest.environments_of(service.environments.as_ref()).iter().any(|(own, _)| own == name);
            if !is_here {
                continue;
            }
            let own = |text: &str| in_environment(text, name);
            let given = local.services.get(service_name).cloned().unwrap_or_default();
            let here = differing.and_then(|one| one.services.get(service_name)).cloned();
            let port_here = here.as_ref().and_then(|here| here.port);
            let given = here.unwrap_or_default().over(given);
            let moved = given.deployment.is_some() || service.deployment == Some(DeploymentKind::Ecs);
            let by_ecs = moved || service.codedeploy().is_none();
            let headless = given.headless.unwrap_or(by_ecs && service.kind == ServiceKind::Worker);
            let container_port = service.port.or_else(|| definitions.port(&service.family));
            if !headless && container_port.is_none() {
                let why = Said::Here(format!(
                    "services.{service_name}: nobody says on which port it listens: give `port` in deploy.yaml, or \
                     containers.{}.port here",
                    service.family
                ));
                // Once, however many environments it is in.
                if !wrong.contains(&why) {
                    wrong.push(why);
                }
            }
            let is_asked = !headless && service.kind == ServiceKind::Web;
            let port = is_asked.then(|| ports.of(service_name, at, port_here));
            if let Some(port) = port {
                let whose = format!("{name}/{service_name}");
                if let Some(other) = asked.insert(port, whose.clone()) {
                    let why = format!("{port} would be that of {whose} and of {other}: give one of them another");
                    wrong.push(Said::Here(format!("services.{service_name}.port: {why}")));
                }
            }
            let running = Running {
                task_definition: own(&service.family),
                desired: given.tasks.unwrap_or(1),
                container: (!headless).then(|| service.container.clone()),
                container_port: container_port.filter(|_| !headless),
                health_check: given.health_check.clone(),
                port,
                capacity_providers: Vec::new(),
                controller: if by_ecs { Controller::Ecs } else { Controller::CodeDeploy },
                deployment: given
                    .deployment
                    .clone()
                    .unwrap_or_else(|| if by_ecs { behind_the_barrier() } else { Rollout::default() }),
            };
            if let Some(group) = group(service, &given, &environment.cluster, &own(&service.service)) {
                let names = service.codedeploy().map(|names| [own(names.application), own(names.group)]);
                let [application, name] = names.unwrap_or_default();
                region.deployment_groups.entry(application).or_default().insert(name, group);
            }
            cluster.services.insert(own(&service.service), running);
        }
    }
    let notes = definitions.notes(&mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let setup = setups(&local, manifest, &format!("{image}:{BEFORE}"));
    Ok(Account {
        parameters: parameters(&local, manifest, &home, &home_region),
        setup,
        build: Build {
            command: build.command.clone(),
            image,
            files: build.files.as_ref().map(|files| files.iter().map(Into::into).collect()),
        },
        regions,
        ssm: secrets(&local, manifest),
        hooks: local.hooks,
        real_notifications: local.real_notifications.unwrap_or(false),
        run_with: local.run_with.unwrap_or(Engine::Processes),
        notes,
        beside: crate::account::Beside::default(),
        account: home,
        region: home_region,
    })
}

/// Whose account an environment is in, when a role leads there.
fn owner(environment: &Environment) -> Option<&str> {
    environment.role.as_deref()?.split(':').nth(4).filter(|account| !account.is_empty())
}

fn group(service: &Service, given: &shape::Service, cluster: &str, name: &str) -> Option<Group> {
    service.codedeploy()?;
    Some(Group {
        cluster: cluster.to_owned(),
        service: name.to_owned(),
        wait_at_ready: Some(given.wait_at_ready.unwrap_or(WAIT_AT_READY)),
        termination_wait: given.termination_wait.unwrap_or(TERMINATION_WAIT),
    })
}

/// What is run before the release: what is said once, then what sets up the databases of each environment.
fn setups(local: &Local, manifest: &Manifest, image: &str) -> Vec<Setup> {
    let of_image = |setup: &Setup| Setup {
        command: setup.command.iter().map(|word| word.replace("{image}", image)).collect(),
        environment: setup.environment.clone(),
    };
    let mut setups: Vec<_> = local.setup.iter().map(of_image).collect();
    for name in manifest.environments.keys() {
        let differing = local.environments.get(name);
        let own = differing.map(|one| one.environment.clone()).unwrap_or_default();
        let own_setups = differing.map(|one| one.databases.as_slice()).unwrap_or_default();
        for setup in local.databases.iter().chain(own_setups) {
            let mut environment = local.environment.clone();
            environment.extend(own.clone());
            environment.extend(setup.environment.clone());
            let in_place = |text: &str| in_environment(text, name).replace("{image}", image);
            setups.push(Setup {
                command: setup.command.iter().map(|word| in_place(word)).collect(),
                environment: environment.into_iter().map(|(key, value)| (key, in_place(&value))).collect(),
            });
        }
    }
    setups
}

/// The ports of this machine: those that are said, and free ones for the others.
struct Ports<'a> {
    local: &'a Local,
    environments: u16,
    taken: BTreeSet<u16>,
    found: BTreeMap<String, u16>,
}

impl<'a> Ports<'a> {
    fn new(local: &'a Local, manifest: &Manifest) -> Self {
        let environments = u16::try_from(manifest.environments.len()).unwrap_or(u16::MAX);
        let first = local.services.values().filter_map(|service| service.port);
        let mut taken: BTreeSet<u16> = first.flat_map(|port| port..port.saturating_add(environments)).collect();
        let single = local.environments.values().flat_map(|one| one.services.values());
        taken.extend(single.filter_map(|service| service.port));
        Self { local, environments, taken, found: BTreeMap::new() }
    }

    /// The port of a service in the environment of this number.
    fn of(&mut self, service: &str, at: usize, here: Option<u16>) -> u16 {
        let at = u16::try_from(at).unwrap_or_default();
        if let Some(here) = here {
            return here;
        }
        if let Some(first) = self.local.services.get(service).and_then(|service| service.port) {
            return first.saturating_add(at);
        }
        if let Some(first) = self.found.get(service) {
            return first.saturating_add(at);
        }
        let is_free = |first: &u16| (0..self.environments).all(|n| !self.taken.contains(&first.saturating_add(n)));
        let first = (FIRST_PORT..u16::MAX - self.environments).find(is_free).unwrap_or(FIRST_PORT);
        self.taken.extend(first..first + self.environments);
        self.found.insert(service.to_owned(), first);
        first + at
    }
}

/// What `sam deploy --guided` would be answered.
fn parameters(local: &Local, manifest: &Manifest, home: &str, region: &str) -> BTreeMap<String, String> {
    let name = plain(&manifest.application);
    let connection = format!("arn:aws:codeconnections:{region}:{home}:connection/00000000-0000-0000-0000-000000000000");
    let mut answers = BTreeMap::from([
        ("ConnectionArn".to_owned(), connection),
        ("Repository".to_owned(), format!("example/{name}")),
        ("ImageRepository".to_owned(), name),
    ]);
    let roles: Vec<_> = manifest.environments.values().filter_map(|environment| environment.role.clone()).collect();
    if !roles.is_empty() {
        answers.insert("EnvironmentRoles".into(), roles.join(","));
    }
    // The folder that all secrets are in, where there is one.
    let secrets = manifest.notifications.parameters();
    let mut folders = secrets.iter().filter_map(|(_, name)| Some(&name[..=name[1..].find('/')? + 1]));
    if let Some(first) = folders.next()
        && folders.all(|other| other == first)
    {
        answers.insert("SecretsPath".into(), first.to_owned());
    }
    answers.extend(local.parameters.clone());
    answers
}

/// The secrets: what is shown here needs some value only.
fn secrets(local: &Local, manifest: &Manifest) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    if local.real_notifications != Some(true) {
        for (path, name) in manifest.notifications.parameters() {
            let slack = path.contains(&"slack");
            let value = if slack { "https://hooks.slack.com/services/T000/B000/local" } else { "local" };
            secrets.insert(name.to_owned(), value.to_owned());
        }
    }
    secrets.extend(local.ssm.clone());
    secrets
}
