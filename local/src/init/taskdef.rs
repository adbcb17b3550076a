//! An application as its task definitions have it: one with a port is a web service, one that migrates a task, the others
//! are workers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Found, Service, Start, Task, below, name_in, name_the_migration, production};
use crate::Mistake;
use crate::local_yaml::migrating::{migrates, undoes};
use crate::local_yaml::{Built, Starts, is_here, taskdef};

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
            Ok(definition) => one(&mut found, &definition, (folder, &name)),
            Err(why) => wrong.push(why),
        }
    }
    if !wrong.is_empty() {
        return Err(Mistake(wrong.join("\n")));
    }
    if found.services.is_empty() {
        return Err(Mistake(
            "each of these task definitions migrates, and so is a task: give the one of what serves, too, or one that works".into(),
        ));
    }
    name_the_migration(&mut found);
    Ok(found)
}

/// Images of what stands beside an application's own container.
const SIDECARS: [&str; 8] = [
    "agent",
    "xray-daemon",
    "aws-xray-daemon",
    "aws-for-fluent-bit",
    "fluent-bit",
    "aws-appmesh-envoy",
    "envoy",
    "aws-otel-collector",
];

/// The container that is the application's: no sidecar; one of an image in ECR, with a port, or the first. With the names of others
/// that it may be.
pub(super) fn own(definition: &Value) -> Option<(&Value, Vec<&str>)> {
    let containers = definition["containerDefinitions"].as_array()?;
    let is_sidecar = |one: &&Value| {
        let image = one["image"].as_str().unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        let last = last.split([':', '@']).next().unwrap_or_default();
        let proxy = definition.pointer("/proxyConfiguration/containerName");
        let is_proxy = proxy.is_some_and(|proxy| *proxy == one["name"]);
        one.get("firelensConfiguration").is_some() || one["essential"] == false || is_proxy || SIDECARS.contains(&last)
    };
    let mut rest: Vec<_> = containers.iter().filter(|one| !is_sidecar(one)).collect();
    if rest.is_empty() {
        rest.extend(containers);
    }
    let in_ecr = |one: &&&Value| one["image"].as_str().is_some_and(|image| image.contains(".dkr.ecr."));
    let with_port = |one: &&&Value| port(one).is_some();
    let all_in_ecr: Vec<_> = rest.iter().filter(in_ecr).copied().collect();
    let best = if all_in_ecr.is_empty() { rest.clone() } else { all_in_ecr };
    let own = *best.iter().find(with_port).or(best.first())?;
    let others = rest.iter().filter(|one| one["name"] != own["name"]).filter_map(|one| one["name"].as_str());
    Some((own, others.collect()))
}

/// Its port, where others come to it by TCP.
pub(super) fn port(container: &Value) -> Option<u16> {
    let mappings = container["portMappings"].as_array()?;
    let mapping = mappings.iter().find(|one| one["protocol"] != "udp")?;
    mapping["containerPort"].as_u64()?.try_into().ok()
}

pub(super) fn words(container: &Value, field: &str) -> Vec<String> {
    container[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn one(found: &mut Found, definition: &Value, (folder, file): (&Path, &str)) {
    let Some((container, others)) = own(definition) else { return };
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let family = definition["family"].as_str().map_or_else(|| format!("{}-{stem}", found.application), str::to_owned);
    // The template that CodeDeploy's action fills in, beside what runs, as a rule.
    let of_services = found.services.iter().map(|one| &one.family);
    if of_services.chain(found.tasks.iter().map(|one| &one.family)).any(|known| *known == family) {
        found.notes.push(format!(
            "{file}: it is another definition of {family}, and was left out: one of a family is enough."
        ));
        return;
    }
    if !others.is_empty() {
        found.notes.push(format!(
            "{file}: of its containers, `{}` was taken for the application's, and not {}: correct `container` in deploy.yaml if it is another.",
            container["name"].as_str().unwrap_or_default(),
            others.join(", ")
        ));
    }
    place(found, definition, container);
    let has_others = definition["containerDefinitions"].as_array().is_some_and(|all| all.len() > 1);
    let command = words(container, "command");
    let secrets = container["secrets"].as_array().into_iter().flatten();
    let entrypoint = words(container, "entryPoint");
    let has_command = !command.is_empty() || !entrypoint.is_empty();
    let mut of_image = if has_command { Starts::default() } else { Built::default().starts(folder) };
    // What only the image has is not started here.
    if of_image.entrypoint.first().is_some_and(|program| !is_here(program, folder)) {
        of_image.entrypoint.clear();
    }
    if !has_command && of_image.command.is_empty() && of_image.entrypoint.is_empty() {
        found.notes.push(format!(
            "{file}: it has no command, and only its image knows what it starts: say `command` for {family} in local.yaml, so that it can be \
             started here."
        ));
    }
    let start = Start::Taskdef {
        file: file.to_owned(),
        has_command,
        of_image,
        secrets: secrets.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect(),
    };
    // What is asked for something goes on running, whatever it does before.
    let serves = port(container).is_some();
    let whole = [entrypoint.as_slice(), &command].concat();
    if !serves && (undoes(&whole) || undoes(std::slice::from_ref(&family))) {
        found.notes.push(super::left_out_for_it_undoes(file));
        return;
    }
    // A script before a command migrates, and goes on with that.
    let is_before = !command.is_empty() && !migrates(&command) && migrates(&whole);
    if !serves && ((migrates(&whole) && !is_before) || migrates(std::slice::from_ref(&family))) {
        let name = short(found, &family);
        let container = container["name"].as_str().filter(|_| has_others).map(str::to_owned);
        found.tasks.push(Task { name, family, container, command, start });
        return;
    }
    let health_path = container.get("healthCheck").and_then(super::compose::asked_path);
    let name = short(found, &family);
    found.services.push(Service {
        name,
        is_web: port(container).is_some(),
        service: family.clone(),
        family,
        container: container["name"].as_str().unwrap_or_default().to_owned(),
        has_others,
        port: port(container),
        health_path,
        codedeploy: None,
        tasks: None,
        start,
    });
}

/// A family's name without what it has of the application's.
fn short(found: &Found, family: &str) -> String {
    let begin = format!("{}-", found.application);
    name_in(found, family.strip_prefix(&begin).unwrap_or(family))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.chars().all(|char| char.is_ascii_digit())
}

/// What it says of where it runs is better than a guess.
fn place(found: &mut Found, definition: &Value, container: &Value) {
    let roles = ["executionRoleArn", "taskRoleArn"].into_iter().filter_map(|role| definition[role].as_str());
    let account = roles.filter_map(|arn| arn.split(':').nth(4)).find(|account| is_account(account));
    found.account = found.account.take().or_else(|| account.map(str::to_owned));
    let Some(place) = found.environments.first_mut() else { return };
    let logs = container.pointer("/logConfiguration/options/awslogs-region").and_then(Value::as_str);
    let secrets = container["secrets"].as_array().into_iter().flatten().filter_map(|one| one["valueFrom"].as_str());
    // `arn:aws:ssm:REGION:...`, and `ACCOUNT.dkr.ecr.REGION.amazonaws.com/...`.
    let of_arn = secrets.filter(|from| from.starts_with("arn:")).find_map(|arn| arn.split(':').nth(3));
    let of_image = || container["image"].as_str()?.split_once(".dkr.ecr.")?.1.split('.').next();
    if let Some(region) = logs.or(of_arn).or_else(of_image).filter(|region| !region.is_empty()) {
        region.clone_into(&mut place.region);
    }
    let compatible = words(definition, "requiresCompatibilities");
    if compatible == ["EC2"] {
        place.launch_type = Some("EC2".into());
        if definition["networkMode"] != "awsvpc" {
            place.subnets.clear();
            place.security_groups.clear();
        }
    }
}
