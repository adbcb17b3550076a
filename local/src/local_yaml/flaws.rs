//! What a `local.yaml` of the right shape can still get wrong: names that `deploy.yaml` does not have, commands that name no
//! program.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use shared::Manifest;
use shared::aws::ecs::hook_stages;
use shared::manifest::Flaw;

use super::shape::{Container, Local, Service};
use crate::account::{Rollout, Setup, Strategy};

/// Everything, each with its place in the file; without a manifest, as far as that is known.
pub(super) fn flaws(local: &Local, manifest: Option<&Manifest>) -> Vec<Flaw> {
    let mut flaws = Flaws { found: Vec::new(), manifest, hooks: local.hooks.keys().map(String::as_str).collect() };
    if local.build.as_ref().is_some_and(|build| build.command.is_empty()) {
        flaws.find(&["build", "command"], "name the program that builds the application");
    }
    let files = local.build.iter().flat_map(|build| build.files.iter().flatten()).enumerate();
    for (at, file) in files {
        let path = Path::new(file);
        if path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            let why =
                "a file or folder of the application's own is expected: what the image has is copied from its folder";
            flaws.find(&["build", "files", &at.to_string()], why);
        }
    }
    let is_number = |account: &String| account.len() == 12 && account.chars().all(|char| char.is_ascii_digit());
    if local.account.as_ref().is_some_and(|account| !is_number(account)) {
        flaws.find(&["account"], "an account's number has twelve digits: write it as \"111122223333\"");
    }
    flaws.commands(&["setup"], &local.setup);
    flaws.commands(&["databases"], &local.databases);
    for (name, hook) in &local.hooks {
        if hook.command.is_empty() {
            flaws.find(&["hooks", name, "command"], NO_PROGRAM);
        }
    }
    flaws.of(&[], &local.containers, &local.services);
    for (name, differing) in &local.environments {
        let of_environment = ["environments", name.as_str()];
        if let Some(manifest) = manifest.filter(|manifest| !manifest.environments.contains_key(name)) {
            let known = manifest.environments.keys().map(String::as_str);
            flaws.find(
                &of_environment,
                &format!("in deploy.yaml, {}", shared::text::unknown("environment", name, known)),
            );
        }
        flaws.commands(&[&of_environment[..], &["databases"]].concat(), &differing.databases);
        flaws.of(&of_environment, &differing.containers, &differing.services);
    }
    flaws.found
}

/// How many tasks of a service this machine plays.
const MOST_TASKS: usize = 50;

const NO_PROGRAM: &str = "name the program that is run";

struct Flaws<'a> {
    found: Vec<Flaw>,
    manifest: Option<&'a Manifest>,
    /// The functions that hooks can call.
    hooks: Vec<&'a str>,
}

impl Flaws<'_> {
    fn find(&mut self, path: &[&str], why: &str) {
        let message = format!("{}: {why}", path.join("."));
        self.found.push(Flaw { path: path.iter().map(|part| (*part).to_owned()).collect(), at: None, message });
    }

    /// What ECS would not take of how it deploys a service.
    fn deployment(&mut self, path: &[&str], deployment: &Rollout) {
        let moves = matches!(deployment.strategy, Strategy::Linear | Strategy::Canary);
        if moves && !(1..=100).contains(&deployment.step_percent) {
            self.find(&[path, &["step_percent"]].concat(), "a step moves 1 to 100 percent of the traffic");
        }
        for (at, hook) in deployment.lifecycle_hooks.iter().enumerate() {
            let (place, known) = (at.to_string(), hook_stages());
            let of_hook = [path, &["lifecycle_hooks", place.as_str()]].concat();
            for stage in hook.stages.iter().filter(|stage| !known.contains(&stage.as_str())) {
                let why = shared::text::unknown("stage", stage, known.iter().copied());
                self.find(&[&of_hook[..], &["stages"]].concat(), &why);
            }
            if let Some(function) = hook.function.as_deref().filter(|function| !self.hooks.contains(function)) {
                let why = match self.hooks.as_slice() {
                    [] => format!("there is no function `{function}`: say what it does below `hooks`"),
                    known => shared::text::unknown("function", function, known.to_vec()),
                };
                self.find(&[&of_hook[..], &["function"]].concat(), &why);
            }
        }
    }

    fn commands(&mut self, path: &[&str], setups: &[Setup]) {
        for (at, setup) in setups.iter().enumerate() {
            if setup.command.is_empty() {
                self.find(&[path, &[&at.to_string(), "command"]].concat(), NO_PROGRAM);
            }
        }
    }

    fn of(&mut self, path: &[&str], containers: &BTreeMap<String, Container>, services: &BTreeMap<String, Service>) {
        for (name, container) in containers {
            let of_container = [path, &["containers", name.as_str()]].concat();
            if container.compose.is_some() && container.taskdef.is_some() {
                self.find(&of_container, "`compose` and `taskdef` exclude each other: keep one of them");
            }
            let Some(manifest) = self.manifest else { continue };
            let families = manifest.tasks.values().map(|task| task.family.as_str());
            let families = families.chain(manifest.services.values().map(|service| service.family.as_str()));
            let families = families.chain(manifest.workers.values().map(|worker| worker.family.as_str()));
            if !families.clone().any(|family| family == name) {
                let why = shared::text::unknown("family", name, families);
                self.find(&of_container, &format!("in deploy.yaml, {why}"));
            }
        }
        for (name, service) in services {
            if service.tasks.is_some_and(|tasks| tasks > MOST_TASKS) {
                let path = [path, &["services", name.as_str(), "tasks"]].concat();
                self.find(&path, &format!("{MOST_TASKS} at most: each is a process of this machine"));
            }
            if service.health_check.as_ref().is_some_and(|check| !check.path.starts_with('/')) {
                let path = [path, &["services", name.as_str(), "health_check", "path"]].concat();
                self.find(&path, "a path begins with `/`, such as `/health`");
            }
            if let Some(deployment) = &service.deployment {
                self.deployment(&[path, &["services", name.as_str(), "deployment"]].concat(), deployment);
            }
            let Some(manifest) = self.manifest else { continue };
            if !manifest.services.contains_key(name) {
                let known = manifest.services.keys().map(String::as_str);
                let why = shared::text::unknown("service", name, known);
                self.find(&[path, &["services", name.as_str()]].concat(), &format!("in deploy.yaml, {why}"));
            }
        }
    }
}
