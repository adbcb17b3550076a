//! The task definitions of an account: from task definitions as people have them, from docker compose's services, or from
//! nothing but what `local.yaml` says.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use shared::Manifest;
use shared::manifest::{Environment, LaunchType, in_environment};

use super::compose::{Compose, Said, Service, on_this_machine, told_in, told_its_port};
use super::dockerfile::{Built, Starts};
use super::kept::Database;
use super::migrating::migrates;
use super::outside::{all_reached, reached};
use super::shape::{Container, Local, Over as _, OwnCheck};
use super::taskdef;
use crate::account::{Engine, Region};

/// Where definitions come from, and what is wrong with them.
pub(super) struct Definitions<'a> {
    folder: &'a Path,
    manifest: &'a Manifest,
    local: &'a Local,
    image: String,
    compose: Option<Compose>,
    wrong: Vec<Said>,
    notes: Vec<String>,
}

/// What uses a family.
#[derive(Default)]
struct Uses<'a> {
    container: Option<&'a str>,
    port: Option<u16>,
    /// Whether every task that runs it says its command itself.
    is_told: bool,
    /// What runs it without a word of which container it is.
    unnamed: Vec<String>,
}

impl<'a> Definitions<'a> {
    pub(super) fn new(
        folder: &'a Path,
        manifest: &'a Manifest,
        local: &'a Local,
        image: String,
    ) -> Result<Self, Vec<Said>> {
        let compose = local.compose.as_ref().map(|file| Compose::read(folder, file, |name| std::env::var(name).ok()));
        let compose = compose.transpose()?;
        // What is not started here has no effect as a whole.
        let notes = compose.iter().flat_map(|compose| &compose.notes);
        let notes = notes.filter_map(|note| note.said(|name| local.outside.contains_key(name))).collect();
        Ok(Self { folder, manifest, local, image, compose, wrong: Vec::new(), notes })
    }

    /// What has no effect here; what is wrong is added to the rest.
    pub(super) fn notes(self, wrong: &mut Vec<Said>) -> Vec<String> {
        // The same in each environment is said once.
        for one in self.wrong {
            if !wrong.contains(&one) {
                wrong.push(one);
            }
        }
        let mut notes = self.notes;
        let mut said = std::collections::BTreeSet::new();
        notes.retain(|note| said.insert(note.clone()));
        notes
    }

    fn find(&mut self, why: String) {
        self.wrong.push(Said::Here(why));
    }

    /// The port that a family's container listens on, as far as this machine's files say it.
    pub(super) fn port(&self, family: &str) -> Option<u16> {
        let container = self.local.containers.get(family)?;
        let composed = || self.compose.as_ref()?.service(container.compose.as_deref()?)?.port;
        container.port.or_else(composed)
    }

    /// Adds those that an environment needs to its Region.
    pub(super) fn add(&mut self, name: &str, environment: &Environment, owner: &str, region: &mut Region) {
        let mut families: Vec<(&str, Uses<'_>)> = Vec::new();
        let is_here = |listed| self.manifest.environments_of(listed).iter().any(|(own, _)| *own == name);
        for service in self.manifest.services.values().filter(|service| is_here(service.environments.as_ref())) {
            let port = service.port.or_else(|| self.port(&service.family));
            families.push((&service.family, Uses { container: Some(&service.container), port, ..Uses::default() }));
        }
        let tasks = self.manifest.tasks.iter().filter(|(_, task)| is_here(task.environments.as_ref()));
        let tasks = tasks.map(|(name, task)| {
            (format!("tasks.{name}"), &task.family, task.container.as_deref(), !task.command.is_empty())
        });
        let workers = self.manifest.workers.iter().filter(|(_, worker)| is_here(worker.environments.as_ref()));
        let workers = workers.map(|(name, worker)| {
            (format!("workers.{name}"), &worker.family, worker.container.as_deref(), !worker.command.is_empty())
        });
        for (whose, family, container, is_told) in tasks.chain(workers) {
            let unnamed = container.is_none().then_some(whose);
            match families.iter_mut().find(|(known, _)| *known == family) {
                Some((_, uses)) => {
                    uses.is_told &= is_told;
                    uses.container = uses.container.or(container);
                    uses.unnamed.extend(unnamed);
                }
                None => {
                    let unnamed = unnamed.into_iter().collect();
                    families.push((family, Uses { container, port: None, is_told, unnamed }));
                }
            }
        }
        for (family, uses) in families {
            let Some(definition) = self.definition(family, &uses, name, environment, owner) else { continue };
            let own = in_environment(family, name);
            match region.task_definitions.iter().find(|one| one["family"] == own.as_str()) {
                None => region.task_definitions.push(definition),
                Some(same) if *same == definition => {}
                Some(_) => self.find(format!(
                    "containers.{family}: it would be another one in {name}, but two environments in one Region share the \
                     family `{own}`: put {{environment}} into `family` in deploy.yaml, or let them be the same"
                )),
            }
        }
    }

    fn definition(
        &mut self,
        family: &str,
        uses: &Uses<'_>,
        name: &str,
        environment: &Environment,
        owner: &str,
    ) -> Option<Value> {
        let everywhere = self.local.containers.get(family).cloned().unwrap_or_default();
        let differing = self.local.environments.get(name);
        let here = differing.and_then(|one| one.containers.get(family)).cloned().unwrap_or_default();
        let given = here.over(everywhere);
        let mut definition = match &given.taskdef {
            Some(file) => self.file_of(family, file, name)?,
            None => self.generated(family, uses, name, environment, owner),
        };
        let containers = definition.get_mut("containerDefinitions").and_then(Value::as_array_mut)?;
        if let [_, _, ..] = containers.as_slice() {
            let names: Vec<_> = containers.iter().filter_map(|one| one["name"].as_str()).collect();
            for whose in &uses.unnamed {
                self.wrong.push(Said::There(format!(
                    "{}: {whose}: its task definition `{family}` has {} containers ({}): say which `container` gets the release's image",
                    shared::manifest::FILE,
                    names.len(),
                    names.join(", ")
                )));
            }
        }
        let wanted = uses.container.map(str::to_owned);
        let position = match &wanted {
            Some(wanted) => containers.iter().position(|one| one["name"] == wanted.as_str()),
            None => (containers.len() == 1).then_some(0),
        };
        let Some(position) = position else {
            let names: Vec<_> = containers.iter().filter_map(|one| one["name"].as_str()).collect();
            let why = match &wanted {
                Some(wanted) => shared::text::unknown("container", wanted, names),
                None => format!("it has several containers ({}): say in deploy.yaml which one it is", names.join(", ")),
            };
            self.find(format!("containers.{family}: {why}"));
            return None;
        };
        let container = &mut containers[position];
        let mut variables = BTreeMap::new();
        if let Some(service) = &given.compose {
            let found = self.compose.as_ref().map(|compose| compose.service(service).ok_or(compose));
            match found {
                Some(Ok(found)) => {
                    let (starts, missing) = started(found, self.folder, self.local.run_with.unwrap_or_default());
                    let entrypoint = Some(starts.entrypoint.as_slice()).filter(|words| !words.is_empty());
                    self.wrong.extend(found.flaws.iter().cloned().map(Said::There));
                    overlay(container, entrypoint, Some(&starts.command), found.port.or(uses.port));
                    // What is built from a folder below is there in the image's own.
                    let below = found.built.as_ref().and_then(Built::below).filter(|below| *below != Path::new(""));
                    if let (Some(below), Engine::Processes) = (below, self.local.run_with.unwrap_or_default()) {
                        container["workingDirectory"] = json!(below.display().to_string());
                    }
                    if let Some(program) = missing {
                        self.notes.push(format!(
                            "containers.{family}: started without its image's entrypoint, since there is no `{program}` here: say \
                             `entrypoint`, or `[]` where it needs none"
                        ));
                    }
                    let port = found.port.or(uses.port);
                    set(
                        container,
                        "healthCheck",
                        found.health_check.clone().map(|check| self.at_its_port(check, port)),
                    );
                    set(container, "stopTimeout", found.stop_timeout.map(Value::from));
                    let as_process = port.filter(|_| self.local.run_with.unwrap_or_default() == Engine::Processes);
                    let here = |(name, value): (String, String)| match as_process {
                        Some(port) => (name.clone(), told_in(port, &name, &value)),
                        None => (name, value),
                    };
                    let released = self.local.containers.values().filter_map(|one| one.compose.as_ref());
                    let released: Vec<_> = released.filter(|other| *other != service).cloned().collect();
                    // Not its value, which may have a secret.
                    for (key, value) in &found.environment {
                        let leads_to = |other: &&String| {
                            reached(key, value, &[((*other).clone(), String::new())].into()) != *value
                        };
                        let Some(other) = released.iter().find(leads_to) else { continue };
                        self.notes.push(format!(
                            "containers.{family}: `{key}` leads to {other}, which is released, too, and not reached by its name here: say in \
                             local.yaml's `environment` at which port of this machine (docs/local.md)"
                        ));
                    }
                    variables = all_reached(&found.environment, &self.local.outside).into_iter().map(here).collect();
                    let needs = found.needs.clone();
                    self.needs(service, &needs);
                }
                Some(Err(compose)) => {
                    let why = shared::text::unknown(
                        "service",
                        service,
                        compose.services.iter().map(|(name, _)| name.as_str()),
                    );
                    self.wrong.push(Said::Here(format!("containers.{family}.compose: in the compose file, {why}")));
                }
                None => self.wrong.push(Said::Here(format!(
                    "containers.{family}.compose: say which file it is: `compose: compose.yaml`, at the top"
                ))),
            }
        }
        if let (Some(_), Some(port), Engine::Processes) =
            (&given.taskdef, uses.port.or(given.port), self.local.run_with.unwrap_or_default())
        {
            // As in compose's file, what says its own port is told the one that it gets.
            for field in ["command", "entryPoint"] {
                if let Some(words) = container.get(field).and_then(Value::as_array) {
                    let words: Vec<_> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                    container[field] = json!(told_its_port(port, &words));
                }
            }
            if let Some(check) = container.get("healthCheck").cloned() {
                container["healthCheck"] = self.at_its_port(check, Some(port));
            }
        }
        if self.local.run_with.unwrap_or_default() == Engine::Processes {
            containers.iter_mut().for_each(listen_here);
            for value in variables.values_mut() {
                *value = on_this_machine(value);
            }
        }
        let container = &mut containers[position];
        overlay(container, given.entrypoint.as_deref(), given.command.as_deref(), given.port);
        set(container, "healthCheck", given.health_check.as_ref().map(own_check));
        set(container, "stopTimeout", given.stop_timeout.map(|span| json!(span.0.as_secs())));
        variables.extend(self.local.environment.clone());
        variables.extend(differing.map(|one| one.environment.clone()).unwrap_or_default());
        variables.extend(given.environment.clone());
        let variables = variables.into_iter().map(|(key, value)| (key, in_environment(&value, name)));
        let variables: BTreeMap<_, _> = variables.collect();
        let is_copied = self.local.build.as_ref().is_some_and(|build| build.files.is_some())
            && self.local.run_with.unwrap_or_default() == Engine::Processes;
        for (key, value) in variables.iter().filter(|_| is_copied) {
            if let Some(database) = Database::of(value).filter(Database::is_of_the_image) {
                self.notes.push(format!(
                    "`{key}` is a file of the image ({value}), so each release begins with one of its own. Where it is to \
                     stay, say in local.yaml: `environment: {{{key}: \"{}\"}}`",
                    database.kept()
                ));
            }
        }
        add_variables(container, variables);
        let container = container.clone();
        self.is_complete(family, &given, uses, &container);
        if self.local.run_with.unwrap_or_default() == Engine::Processes {
            // What stands beside it needs its image; what is told a program that is here can be started. Without an entrypoint of its own, a
            // command may be arguments of the image's.
            let starts = |one: &Value| {
                let words = ["entryPoint", "command"].iter().filter_map(|field| one[*field].as_array()).flatten();
                words.filter_map(Value::as_str).next().is_some_and(|program| is_here(program, self.folder))
            };
            let kept = |one: &Value| one["name"] == container["name"] || starts(one);
            let left: Vec<_> =
                containers.iter().filter(|one| !kept(one)).filter_map(|one| one["name"].as_str()).collect();
            if !left.is_empty() {
                let are = if left.len() == 1 { "is" } else { "are" };
                self.notes.push(format!(
                    "containers.{family}: {} {are} not started here: only an image has what is started",
                    left.join(", ")
                ));
            }
            containers.retain(kept);
        }
        Some(definition)
    }

    fn file_of(&mut self, family: &str, file: &str, name: &str) -> Option<Value> {
        let mut definition = match taskdef::read(self.folder, &in_environment(file, name)) {
            Ok(definition) => definition,
            Err(why) => {
                self.wrong.push(Said::There(why));
                return None;
            }
        };
        let own = in_environment(family, name);
        let found = definition.get("family").and_then(Value::as_str).map(|found| in_environment(found, name));
        if let Some(found) = found.filter(|found| *found != own) {
            self.wrong.push(Said::There(format!(
                "{file}: it is of the family `{found}`, and deploy.yaml says `{own}`: correct one of them, or leave `family` out here"
            )));
        }
        definition["family"] = own.into();
        for container in definition["containerDefinitions"].as_array().into_iter().flatten() {
            if container["environmentFiles"].as_array().is_some_and(|files| !files.is_empty()) {
                self.notes.push(format!(
                    "containers.{family}: the `environmentFiles` of `{}` are in S3 and not read here: say below `environment` what they say",
                    container["name"].as_str().unwrap_or_default()
                ));
            }
        }
        Some(definition)
    }

    fn generated(&self, family: &str, uses: &Uses<'_>, name: &str, environment: &Environment, owner: &str) -> Value {
        let application = plain(&self.manifest.application);
        let instances = environment.launch_type == Some(LaunchType::Ec2);
        let external = environment.launch_type == Some(LaunchType::External);
        let compatible = if external {
            "EXTERNAL"
        } else if instances || environment.subnets.is_empty() {
            "EC2"
        } else {
            "FARGATE"
        };
        // ECS starts no task of awsvpc without them, and takes them for no other.
        let mode = if environment.subnets.is_empty() { "bridge" } else { "awsvpc" };
        let mut container = json!({
            "name": uses.container.unwrap_or(&application), "image": self.image, "essential": true, "environment": [],
            "logConfiguration": {"logDriver": "awslogs", "options": {
                "awslogs-group": format!("/{application}/{name}"), "awslogs-region": environment.region,
                "awslogs-stream-prefix": application, "mode": "blocking",
            }},
        });
        set_port(&mut container, uses.port);
        json!({
            "family": in_environment(family, name), "networkMode": mode, "requiresCompatibilities": [compatible],
            "executionRoleArn": format!("arn:aws:iam::{owner}:role/{application}-execution"),
            "cpu": "256", "memory": "512", "containerDefinitions": [container],
        })
    }

    /// A health check that asks at the container's own port asks a process at the port that it was given.
    fn at_its_port(&self, mut check: Value, port: Option<u16>) -> Value {
        if let (Some(port), Engine::Processes) = (port, self.local.run_with.unwrap_or_default()) {
            let own = format!(":{port}");
            for word in check["command"].as_array_mut().into_iter().flatten() {
                *word = json!(word.as_str().unwrap_or_default().replace(&own, ":{port}"));
            }
        }
        check
    }

    /// What a service of the compose file needs beside itself: what the release deploys, or what runs outside.
    fn needs(&mut self, service: &str, needs: &[(String, String)]) {
        let released: Vec<_> = self.local.containers.values().filter_map(|one| one.compose.clone()).collect();
        for (needed, at) in needs {
            // What is built from the same folder is the application's own: the release runs it, each thing in its turn. What ends is not waited for.
            let is_own = self.compose.as_ref().and_then(|compose| compose.service(needed)).is_some_and(|one| {
                let words = [one.entrypoint.as_deref().unwrap_or_default(), &one.command].concat();
                // A migration ends, whatever it says of that.
                let migrates = migrates(&words) || migrates(std::slice::from_ref(needed));
                one.built.is_some() || one.ends || migrates
            });
            if !is_own && !released.contains(needed) && !self.local.outside.contains_key(needed) {
                self.wrong.push(Said::There(format!(
                    "{at}: `{service}` depends on `{needed}`, which deploy.yaml does not release: start it yourself, and say in \
                     local.yaml where it is: `outside: {{{needed}: localhost}}`"
                )));
            }
        }
    }

    /// That a process can be started: it is known what to start, and every secret has a value.
    fn is_complete(&mut self, family: &str, given: &Container, uses: &Uses<'_>, container: &Value) {
        if self.local.run_with.unwrap_or_default() != Engine::Processes {
            return;
        }
        let is_empty = |field: &str| container.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty);
        if is_empty("command") && is_empty("entryPoint") && !uses.is_told {
            let who = match (&given.compose, &given.taskdef) {
                (Some(service), _) => {
                    let starts =
                        self.compose.as_ref().and_then(|compose| compose.service(service)).map(|one| &one.image_starts);
                    match starts.and_then(|starts| starts.entrypoint.first()) {
                        Some(program) => format!("its image starts `{program}`, which is not here, and "),
                        None => format!("the compose file's `{service}` has none, and "),
                    }
                }
                (None, Some(file)) => format!("{file} has none, and "),
                (None, None) => String::new(),
            };
            self.find(format!(
                "containers.{family}.command: {who}only its image knows what it starts: give the command that does so here"
            ));
        }
        let name = |one: &Value| one["name"].as_str().map(str::to_owned);
        let list = |field: &str| container.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let known: Vec<_> = list("environment").iter().filter_map(name).collect();
        let secrets: Vec<_> =
            list("secrets").iter().filter_map(name).filter(|secret| !known.contains(secret)).collect();
        if !secrets.is_empty() {
            let secrets = secrets.join("`, `");
            self.find(format!("containers.{family}.environment: its secrets have no value here: give `{secrets}` one"));
        }
    }
}

/// What a service of the compose file starts: what it says, and where it says nothing what its image does. A real container's image knows
/// that itself. A process can only start what is here: the program of an image's entrypoint that is not comes second.
fn started(service: &Service, folder: &Path, engine: Engine) -> (Starts, Option<String>) {
    let entrypoint = service.entrypoint.clone().unwrap_or_default();
    let own = Starts { entrypoint, command: service.command.clone(), port: None };
    if engine != Engine::Processes || service.entrypoint.is_some() {
        return (own, None);
    }
    let folder = &service.built.as_ref().map_or_else(|| folder.to_owned(), |built| built.folder(folder));
    let image = &service.image_starts;
    let command = if own.command.is_empty() { image.command.clone() } else { own.command };
    let missing = image.entrypoint.first().filter(|program| !is_here(program, folder)).cloned();
    let entrypoint = if missing.is_some() { Vec::new() } else { image.entrypoint.clone() };
    (Starts { entrypoint, command, port: image.port }, missing)
}

/// Whether this machine has a program, as a process in the application's folder would be started.
pub(crate) fn is_here(program: &str, folder: &Path) -> bool {
    if program.contains('/') {
        return folder.join(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|one| one.join(program).exists())
}

/// What a container of a task definition is told to listen on, as a process has it.
fn listen_here(container: &mut Value) {
    for field in ["command", "entryPoint"] {
        for word in container.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            *word = json!(on_this_machine(word.as_str().unwrap_or_default()));
        }
    }
    for pair in container.get_mut("environment").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(value) = pair.get("value").and_then(Value::as_str).map(on_this_machine) {
            pair["value"] = json!(value);
        }
    }
}

fn set(container: &mut Value, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        container[field] = value;
    }
}

fn set_port(container: &mut Value, port: Option<u16>) {
    set(container, "portMappings", port.map(|port| json!([{"containerPort": port, "protocol": "tcp"}])));
}

fn overlay(container: &mut Value, entrypoint: Option<&[String]>, command: Option<&[String]>, port: Option<u16>) {
    // What is not said stays.
    if let Some(entrypoint) = entrypoint {
        container["entryPoint"] = json!(entrypoint);
    }
    if let Some(command) = command.filter(|words| !words.is_empty()) {
        container["command"] = json!(command);
    }
    set_port(container, port);
}

fn own_check(check: &OwnCheck) -> Value {
    let mut words = check.command.clone();
    if !words.first().is_some_and(|first| first == "CMD" || first == "CMD-SHELL") {
        words.insert(0, "CMD".into());
    }
    let mut written = json!({"command": words});
    let seconds = |span: Option<shared::manifest::Span>| span.map(|span| json!(span.0.as_secs()));
    set(&mut written, "interval", seconds(check.interval));
    set(&mut written, "timeout", seconds(check.timeout));
    set(&mut written, "startPeriod", seconds(check.start_period));
    set(&mut written, "retries", check.retries.map(Value::from));
    written
}

fn add_variables(container: &mut Value, variables: BTreeMap<String, String>) {
    let mut environment = container["environment"].as_array().cloned().unwrap_or_default();
    environment.retain(|one| !one["name"].as_str().is_some_and(|name| variables.contains_key(name)));
    environment.extend(variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
    container["environment"] = environment.into();
}

/// A name that images and roles can have.
pub(crate) fn plain(name: &str) -> String {
    let plain = name.to_lowercase().replace(|char: char| !char.is_ascii_lowercase() && !char.is_ascii_digit(), "-");
    let plain = plain.trim_matches('-').to_owned();
    if plain.is_empty() { "application".into() } else { plain }
}
