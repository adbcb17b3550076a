//! An application as docker compose's file has it: what is built is the application's, what is not runs outside.

use std::path::Path;

use serde_json::Value;

use super::{Found, Service, Start, Task, below, name_in, name_the_migration, production};
use crate::Mistake;
use crate::local_yaml::migrating::{goes_on, migrates, undoes};
use crate::local_yaml::{Compose, ComposeService, Database, Said, on_this_machine, told_in, told_its_port};

pub(super) fn found(folder: &Path, file: &Path, application: &str, region: &str) -> Result<Found, Mistake> {
    let name = below(folder, file)?;
    let read = Compose::read(folder, &name, |name| std::env::var(name).ok());
    let compose = read.map_err(|wrong| {
        let lines = wrong.into_iter().map(|(Said::Here(why) | Said::There(why))| why);
        Mistake(lines.collect::<Vec<_>>().join("\n"))
    })?;
    let application = compose.name.as_deref().unwrap_or(application);
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
    let beside = file.with_file_name(match file.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) => format!("{stem}.override.yaml"),
        None => String::new(),
    });
    if [beside.clone(), beside.with_extension("yml")].iter().any(|path| path.is_file()) {
        found.notes.push(format!(
            "{} is not read: `docker compose config --no-interpolate` writes both as one.",
            beside.with_extension("*").display()
        ));
    }
    let (mut own_ports, mut told_secrets, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut says_nothing = false;
    for (service, described) in &compose.services {
        let command = match described.command.as_slice() {
            // With an entrypoint of its own, the image's command is gone.
            [] if described.entrypoint.is_none() => described.image_starts.command.clone(),
            own => own.to_vec(),
        };
        let whole = [described.entrypoint.as_deref().unwrap_or_default(), &command].concat();
        let is_named_so = migrates(std::slice::from_ref(service));
        if !is_own(described) {
            if described.ends || is_named_so {
                found.notes.push(format!(
                    "{service}: it does its work with an image of its own ({}), and a release has one: put it into the application's image, or \
                     make a task definition of it.",
                    described.image.as_deref().unwrap_or_default()
                ));
                continue;
            }
            let at = described.published.map_or_else(|| "localhost".to_owned(), |port| format!("localhost:{port}"));
            found.outside.push((service.clone(), at));
            continue;
        }
        if let Some(built) = described.built.as_ref().filter(|built| built.below().is_none()) {
            return Err(Mistake(format!(
                "{name}: {service} is built from `{}`, which is not below {}: run init in that folder, with this file as --from-compose",
                built.context,
                folder.display()
            )));
        }
        for (variable, value) in &described.environment {
            if let Some(database) = Database::of(value) {
                let note = format!(
                    "`{variable}` is a file of the application's own ({value}): each release begins with another one. Where it is to stay, say in \
                     local.yaml: `environment: {{{variable}: \"{}\"}}`.",
                    database.kept()
                );
                if !found.notes.contains(&note) {
                    found.notes.push(note);
                }
            }
        }
        // A migration is asked for as a rule.
        if described.has_profiles && !is_named_so && !migrates(&whole) {
            found.notes.push(format!(
                "{service}: it is left out, since it has `profiles`: it is started only when it is asked for."
            ));
            left_out.push(service.as_str());
            continue;
        }
        let name = name_in(&found, service);
        let family = format!("{application}-{name}");
        let told = described.port.filter(|_| !described.is_told_secrets).map(|port| told_its_port(port, &command));
        let told = told.filter(|told| *told != command).unwrap_or_default();
        let told: Vec<_> = told.iter().map(|word| on_this_machine(word)).collect();
        let is_told = |port| described.environment.iter().any(|(name, value)| told_in(port, name, value) != *value);
        let has_port_variable = described.port.is_some_and(is_told);
        if let (Some(port), true, false) = (described.port, told.is_empty(), has_port_variable) {
            own_ports.push(format!(
                "{service}: its port {port} stands in no command and in no variable called PORT. Here it is given another one, in PORT: where it \
                 does not read that, let its command say `{{port}}` in local.yaml."
            ));
        }
        let start = Start::Compose { service: service.clone(), command: told };
        // What is asked for something goes on running, whatever it does before.
        let serves = described.port.is_some() || described.health_check.is_some();
        let is_migrating = migrates(&whole);
        // A script before a command migrates, and goes on with that.
        let is_before = is_migrating && !command.is_empty() && !migrates(&command);
        let goes_on = is_before || (is_migrating && goes_on(&whole));
        let is_task = !serves && (described.ends || is_named_so || (is_migrating && !goes_on));
        if is_task && (undoes(&whole) || undoes(std::slice::from_ref(service))) {
            found.notes.push(super::left_out_for_it_undoes(service));
            left_out.push(service.as_str());
            continue;
        }
        if !is_task && (is_migrating || is_named_so) {
            let what = if serves { "serves: let it only serve" } else { "goes on: let it only do the rest" };
            found.notes.push(format!(
                "{service}: its command migrates, and {what}, and say in deploy.yaml what migrates (`tasks.migrate`), so \
                 that it is done once, and before anything is deployed."
            ));
        }
        if is_task {
            if !described.ends && !is_named_so {
                found.notes.push(format!(
                    "{service}: it was taken for a task that ends, since its command migrates: if it goes on running, make it a service in \
                     deploy.yaml."
                ));
            }
            if described.is_told_secrets {
                told_secrets.push(service.clone());
            }
            let has_entrypoint = described.entrypoint.as_ref().is_some_and(|words| !words.is_empty());
            says_nothing |= command.is_empty() && !has_entrypoint;
            if has_entrypoint {
                found.notes.push(format!(
                    "{service}: it has an entrypoint of its own, which deploy.yaml cannot say: its task definition on AWS must have it, too."
                ));
            }
            let command = if described.is_told_secrets { Vec::new() } else { command };
            found.tasks.push(Task { name, family, container: None, command, start });
            continue;
        }
        if described.port.is_none() && described.is_routed {
            found.notes.push(format!(
                "{service}: it was taken for a worker, since it has no `ports`: if a proxy leads to it by its labels, say its port as `expose`."
            ));
        }
        found.services.push(Service {
            name,
            is_web: described.port.is_some(),
            service: family.clone(),
            family,
            container: crate::local_yaml::plain(service),
            has_others: false,
            port: described.port,
            health_path: described.health_check.as_ref().and_then(asked_path),
            codedeploy: None,
            tasks: described.replicas.filter(|count| *count > 1),
            start,
        });
    }
    if found.services.is_empty() {
        let why = match found.tasks.as_slice() {
            [] => "no service of it is built (`build`), so none is the application's: give its services `build`, or use --from-taskdef".to_owned(),
            [first, ..] => format!(
                "every service of it that is built ends by itself or migrates, such as `{}`, and so is a task: what serves has `ports` or a \
                 `healthcheck`",
                first.name
            ),
        };
        return Err(Mistake(format!("{name}: {why}")));
    }
    if !found.services.iter().any(|service| service.is_web) {
        web_by_its_image(&mut found, &compose);
    }
    let builds = compose.services.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
    let builds: Vec<_> = builds.filter_map(|(name, one)| Some((name, one.built.as_ref()?))).collect();
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
    let from_outside: Vec<_> =
        found.built.args.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !from_outside.is_empty() {
        let note = format!(
            "buildspec.yml: the build's arguments {} have values of variables, which may be secrets: give them to the CodeBuild project's environment.",
            from_outside.join(", ")
        );
        found.notes.push(note);
    }
    name_the_migration(&mut found);
    if !told_secrets.is_empty() {
        found.notes.push(format!(
            "{}: its command has values of variables, which may be secrets: deploy.yaml has no command for it, and on AWS its task definition's own \
             is run.",
            told_secrets.join(", ")
        ));
    } else if says_nothing {
        found.notes.push("A migration has no command of its own: give it one in deploy.yaml.".into());
    }
    found.notes.append(&mut own_ports);
    let is_outside = |name: &str| left_out.contains(&name) || found.outside.iter().any(|(outside, _)| outside == name);
    let notes: Vec<_> = compose.notes.iter().filter_map(|note| note.said(is_outside)).collect();
    found.notes.extend(notes);
    found.compose = Some(name);
    Ok(found)
}

/// Where no service has a port, one that starts what its image does may have the one that its image says.
fn web_by_its_image(found: &mut Found, compose: &Compose) {
    for service in &mut found.services {
        let Start::Compose { service: own, .. } = &service.start else { continue };
        let described = compose.service(own).filter(|one| one.command.is_empty() && one.entrypoint.is_none());
        if let Some(port) = described.and_then(|one| one.image_starts.port) {
            service.is_web = true;
            service.port = Some(port);
        }
    }
    if !found.services.iter().any(|service| service.is_web) {
        found.notes.push("No service has a port, so none is a web service: `ports` says which one is.".into());
    }
}

/// The path of the address that a health check asks: what answers there is what a target group should ask for, too.
pub(super) fn asked_path(check: &Value) -> Option<String> {
    let words = check["command"].as_array()?.iter().filter_map(Value::as_str).flat_map(str::split_whitespace);
    let address = |word: &'_ str| {
        let here = ["localhost", "127.0.0.1"].iter().filter_map(|host| word.find(host)).min();
        let at = word.find("://").map(|at| at + 3).or(here)?;
        Some(word[at..].to_owned())
    };
    let after = words.filter_map(address).next()?;
    let path = &after[after.find('/')?..];
    let end = path.find(['"', '\'', ')', ';', '|']).unwrap_or(path.len());
    (end > 1).then(|| path[..end].to_owned())
}
