//! An application as docker compose's file has it: what is built is the application's, what is not runs outside.

use std::path::Path;

use serde_json::Value;

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
    let images =
        compose.services.iter().filter(|(_, one)| one.built.is_some()).filter_map(|(_, one)| one.image.clone());
    let images: Vec<_> = images.collect();
    let is_own = |service: &ComposeService| {
        service.built.is_some() || service.image.as_ref().is_some_and(|image| images.contains(image))
    };
    for (service, described) in &compose.services {
        if !is_own(described) {
            let at = described.published.map_or_else(|| "localhost".to_owned(), |port| format!("localhost:{port}"));
            found.outside.push((service.clone(), at));
            continue;
        }
        let family = format!("{application}-{service}");
        let command = match described.command.as_slice() {
            [] => described.image_starts.command.clone(),
            own => own.to_vec(),
        };
        let start = Start::Compose { service: service.clone(), command: told_its_port(described.port, &command) };
        // What is asked for something goes on running, whatever it does before.
        let serves = described.port.is_some() || described.health_check.is_some();
        let is_migration = migrates(std::slice::from_ref(service)) || migrates(&command);
        if is_migration && serves {
            found.notes.push(format!(
                "{service}: its command migrates, and serves: let it only serve, and say in deploy.yaml what migrates (`tasks.migrate`), so \
                 that it is done once, and before anything is deployed."
            ));
        }
        if !serves && (is_migration || described.ends) {
            let task = Task { name: service.clone(), family, command, start };
            // What migrates by its name goes before what only ends by itself.
            if is_migration {
                found.tasks.insert(0, task)
            } else {
                found.tasks.push(task)
            }
            continue;
        }
        found.services.push(Service {
            name: service.clone(),
            is_web: described.port.is_some(),
            service: family.clone(),
            family,
            container: service.clone(),
            port: described.port,
            health_path: described.health_check.as_ref().and_then(asked_path),
            codedeploy: None,
            start,
        });
    }
    if found.services.is_empty() {
        let why = match found.tasks.as_slice() {
            [] => "no service of it is built (`build`), so none is the application's".to_owned(),
            [first, ..] => format!(
                "every service of it that is built ends by itself or migrates, such as `{}`, and so is a task: what serves has `ports` or a \
                 `healthcheck`",
                first.name
            ),
        };
        return Err(Mistake(format!("{name}: {why}")));
    }
    let builds: Vec<_> = compose.services.iter().filter_map(|(name, one)| Some((name, one.built.as_ref()?))).collect();
    if let Some((first, built)) = builds.first() {
        found.built = (*built).clone();
        let others = builds.iter().filter(|(_, other)| other != built).map(|(name, _)| name.as_str());
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            found.notes.push(format!(
                "{} built otherwise than {first}, and a release has one image, which all its services and tasks have: build one image for \
                 all of them, or make an application of each.",
                match others.as_slice() {
                    [one] => format!("{one} is"),
                    several => format!("{} are", several.join(", ")),
                }
            ));
        }
    }
    if let Some(first) = found.tasks.first_mut() {
        "migrate".clone_into(&mut first.name);
    }
    without_migration(&mut found);
    if found.tasks.iter().any(|task| task.command.is_empty()) {
        found.notes.push("A migration has no command of its own: give it one in deploy.yaml.".into());
    }
    found.notes.extend(
        compose
            .notes
            .into_iter()
            .filter(|note| !found.outside.iter().any(|(name, _)| note.contains(&format!(" of {name} ")))),
    );
    found.compose = Some(name);
    Ok(found)
}

/// The path of the address that a health check asks: what answers there is what a target group should ask for, too.
fn asked_path(check: &Value) -> Option<String> {
    let words = check["command"].as_array()?.iter().filter_map(Value::as_str).flat_map(str::split_whitespace);
    let (_, after) = words.filter_map(|word| word.split_once("://")).next()?;
    let path = &after[after.find('/')?..];
    let end = path.find(['"', '\'', ')', ';', '|']).unwrap_or(path.len());
    (end > 1).then(|| path[..end].to_owned())
}

/// The command with `{port}` where it says the container's own port; nothing when it does not.
fn told_its_port(port: Option<u16>, command: &[String]) -> Vec<String> {
    let Some(port) = port.map(|port| port.to_string()) else { return Vec::new() };
    let told = |word: &String| match word.strip_suffix(&port) {
        Some("") => "{port}".to_owned(),
        Some(before) if before.ends_with([':', '=']) => format!("{before}{{port}}"),
        _ => word.clone(),
    };
    let told: Vec<_> = command.iter().map(told).collect();
    if told == command { Vec::new() } else { told }
}
