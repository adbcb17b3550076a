//! An application as its task definitions have it: one with a port is a web service, one that migrates a task, the others
//! are workers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Found, Service, Start, Task, below, migrates, production, without_migration};
use crate::Mistake;
use crate::local_yaml::taskdef;

pub(super) fn found(folder: &Path, files: &[PathBuf], application: &str, region: &str) -> Result<Found, Mistake> {
    let mut found = Found {
        application: application.to_owned(),
        environments: vec![production(application, region)],
        ..Found::default()
    };
    let mut wrong = Vec::new();
    for file in files {
        let name = below(folder, file)?;
        match taskdef::read(folder, &name) {
            Ok(definition) => one(&mut found, &definition, &name),
            Err(why) => wrong.push(why),
        }
    }
    if !wrong.is_empty() {
        return Err(Mistake(wrong.join("\n")));
    }
    without_migration(&mut found);
    Ok(found)
}

/// The container that is the application's: the one with a port, or the first.
pub(super) fn own(definition: &Value) -> Option<&Value> {
    let containers = definition["containerDefinitions"].as_array()?;
    containers.iter().find(|one| port(one).is_some()).or_else(|| containers.first())
}

pub(super) fn port(container: &Value) -> Option<u16> {
    container.pointer("/portMappings/0/containerPort")?.as_u64()?.try_into().ok()
}

pub(super) fn words(container: &Value, field: &str) -> Vec<String> {
    container[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn one(found: &mut Found, definition: &Value, file: &str) {
    let Some(container) = own(definition) else { return };
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let family = definition["family"].as_str().map_or_else(|| format!("{}-{stem}", found.application), str::to_owned);
    let command = words(container, "command");
    let secrets = container["secrets"].as_array().into_iter().flatten();
    let start = Start::Taskdef {
        file: file.to_owned(),
        has_command: !command.is_empty() || !words(container, "entryPoint").is_empty(),
        secrets: secrets.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect(),
    };
    // What is asked for something goes on running, whatever it does before.
    let serves = port(container).is_some();
    if !serves && (migrates(&command) || migrates(std::slice::from_ref(&family))) {
        found.tasks.push(Task { name: "migrate".into(), family, command, start });
        return;
    }
    let begin = format!("{}-", found.application);
    let name = crate::local_yaml::plain(family.strip_prefix(&begin).unwrap_or(&family));
    found.services.push(Service {
        name,
        is_web: port(container).is_some(),
        service: family.clone(),
        family,
        container: container["name"].as_str().unwrap_or_default().to_owned(),
        port: port(container),
        health_path: None,
        codedeploy: None,
        start,
    });
}
