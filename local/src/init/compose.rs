//! An application as docker compose's file has it: what is built is the application's, what is not runs outside.

use std::path::Path;

use super::{Found, Service, Start, Task, below, migrates, production, without_migration};
use crate::Mistake;
use crate::local_yaml::{Compose, ComposeService, Said};

pub(super) fn found(folder: &Path, file: &Path, application: &str, region: &str) -> Result<Found, Mistake> {
    let name = below(folder, file)?;
    let read = Compose::read(folder, &name, |name| std::env::var(name).ok());
    let compose = read.map_err(|wrong| {
        let lines = wrong.into_iter().map(|(Said::Here(why) | Said::There(why))| why);
        Mistake(lines.collect::<Vec<_>>().join("\n"))
    })?;
    let mut found = Found {
        application: application.to_owned(),
        environments: vec![production(application, region)],
        ..Found::default()
    };
    let built: Vec<_> =
        compose.services.iter().filter(|(_, one)| one.builds).filter_map(|(_, one)| one.image.clone()).collect();
    let is_own =
        |service: &ComposeService| service.builds || service.image.as_ref().is_some_and(|image| built.contains(image));
    for (service, described) in &compose.services {
        if !is_own(described) {
            found.outside.push(service.clone());
            continue;
        }
        let family = format!("{application}-{service}");
        let is_migration = migrates(std::slice::from_ref(service)) || migrates(&described.command);
        if is_migration || described.ends {
            let command = [described.entrypoint.clone(), described.command.clone()].concat();
            let task = Task { name: service.clone(), family, command };
            // What migrates by its name goes before what only ends by itself.
            if is_migration {
                found.tasks.insert(0, task)
            } else {
                found.tasks.push(task)
            }
            continue;
        }
        let start = Start::Compose { service: service.clone(), command: told_its_port(described) };
        found.services.push(Service {
            name: service.clone(),
            is_web: described.port.is_some(),
            service: family.clone(),
            family,
            container: service.clone(),
            port: described.port,
            codedeploy: None,
            start,
        });
    }
    if found.services.is_empty() {
        return Err(Mistake(format!(
            "{name}: no service of it is built (`build`), so none is the application's: name the file that says how it is started"
        )));
    }
    for (_, service) in &compose.services {
        for (variable, value) in &service.environment {
            let Some(here) = found.outside.iter().find_map(|outside| here(value, outside)) else { continue };
            if !found.reached.iter().any(|(known, _)| known == variable) {
                found.reached.push((variable.clone(), here));
            }
        }
    }
    if let Some(first) = found.tasks.first_mut() {
        "migrate".clone_into(&mut first.name);
    }
    without_migration(&mut found);
    if found.tasks.iter().any(|task| task.command.is_empty()) {
        found.notes.push("A migration has no command of its own: give it one in deploy.yaml.".into());
    }
    found.notes.extend(compose.notes);
    found.compose = Some(name);
    Ok(found)
}

/// The command with `{port}` where it says the container's own port; nothing when it does not.
fn told_its_port(service: &ComposeService) -> Vec<String> {
    let Some(port) = service.port.map(|port| port.to_string()) else { return Vec::new() };
    let told = |word: &String| match word.strip_suffix(&port) {
        Some("") => "{port}".to_owned(),
        Some(before) if before.ends_with([':', '=']) => format!("{before}{{port}}"),
        _ => word.clone(),
    };
    let command: Vec<_> = service.command.iter().map(told).collect();
    if command == service.command { Vec::new() } else { command }
}

/// An address at a service of the compose file, as it is on this machine.
fn here(value: &str, outside: &str) -> Option<String> {
    let at = value.match_indices(outside).map(|(at, _)| at).find(|at| {
        let (before, after) = (&value[..*at], &value[*at + outside.len()..]);
        let is_edge = |char: Option<char>| {
            !char.is_some_and(|char| char.is_alphanumeric() || char == '-' || char == '_' || char == '.')
        };
        is_edge(before.chars().last())
            && is_edge(after.chars().next())
            && (before.ends_with(['@', '/']) || value == outside)
    })?;
    Some(format!("{}localhost{}", &value[..at], &value[at + outside.len()..]))
}
