//! The files, with the comments that a person needs who sees them for the first time.

use super::{Found, Place, Service, Start};
use crate::local_yaml::Built;

/// Builds the application's image in CodeBuild.
const BUILDSPEC: &str = include_str!("buildspec.yml");

/// How the image is built where nothing else is said.
const BUILD: &str = "docker build --tag \"$image\" .";

/// `buildspec.yml`, of an application that may be below the top of its repository.
pub(super) fn buildspec(built: &Built, below: Option<&str>) -> String {
    let spec = builds(built);
    let Some(below) = below else { return spec };
    let folder = shlex::try_quote(below).map_or_else(|_| String::new(), |folder| folder.into_owned());
    // In quotes of YAML's own: a colon with a blank behind it would make a mapping of it.
    let command = serde_json::Value::from(format!("cd {folder}"));
    let begin = "  pre_build:\n    commands:\n";
    let spec = spec.replacen(begin, &format!("{begin}      - {command}\n"), 1);
    spec.replacen("artifacts:\n", &format!("artifacts:\n  base-directory: {}\n", text(below)), 1)
}

fn builds(built: &Built) -> String {
    let mut build = "docker build --tag \"$image\"".to_owned();
    let context = built.context.trim_start_matches("./").trim_end_matches('/');
    let context = if context.is_empty() { "." } else { context };
    let file = built.dockerfile.as_ref().map(|file| match context {
        "." => file.clone(),
        _ => format!("{context}/{file}"),
    });
    // One that stands here without a value has that of CodeBuild's environment.
    let arg = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => ("--build-arg", format!("{name}={value}")),
        None => ("--build-arg", name.clone()),
    };
    let args = built.args.iter().map(arg);
    let given = file.map(|file| ("--file", file)).into_iter();
    for (option, value) in given.chain(built.target.clone().map(|target| ("--target", target))).chain(args) {
        let quoted = shlex::try_quote(&value).map_or_else(|_| String::new(), |value| value.into_owned());
        build.push_str(&format!(" {option} {quoted}"));
    }
    build.push_str(&format!(" {}", shlex::try_quote(context).unwrap_or(".".into())));
    // A colon with a blank behind it would make a mapping of it.
    if build.contains(": ") || build.contains(" #") {
        return BUILDSPEC.replacen(&format!("- {BUILD}"), &format!("- >-\n        {build}"), 1);
    }
    BUILDSPEC.replacen(BUILD, &build, 1)
}

/// Text as YAML has it: in quotes where it could be read as something else.
fn text(value: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '/' | '.');
    let first = value.chars().next();
    let is_word = value.chars().all(is_plain)
        && first.is_some_and(|char| char.is_ascii_alphabetic() || char == '/' || char == '.');
    let is_other = matches!(
        value.to_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n" | "~"
    );
    if is_word && !is_other { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", "))
}

/// `deploy.yaml`.
pub(super) fn deploy_yaml(found: &Found) -> String {
    let mut out = format!(
        "# What a release of {0} is: where it runs, what migrates it, and its services. All that can be said here:\n\
         # docs/manifest.md of Cutover. `cargo run -- check DIR` says what a release would do.\n\
         application: {1}\n\nenvironments:\n",
        found.application,
        text(&found.application)
    );
    if found.environments.iter().any(|place| !place.is_known) {
        out.push_str(
            "  # Correct these before a release on AWS, and below `family`, `service` and `container`, which are guesses, too; here, any names\n\
             \x20 # will do. `cargo run -- verify DIR --aws` says which are not there. One block for each place in production.\n",
        );
    }
    for place in &found.environments {
        out.push_str(&environment(place));
    }
    out.push_str(
        "\ntasks:\n  # Runs before anybody approves, in every environment at once; one that fails stops the release.\n",
    );
    for task in &found.tasks {
        out.push_str(&format!("  {}:\n    family: {}\n", task.name, text(&task.family)));
        if let Some(container) = &task.container {
            out.push_str(&format!("    container: {}\n", text(container)));
        }
        if !task.command.is_empty() {
            out.push_str(&format!("    command: {}\n", list(&task.command)));
        }
    }
    out.push_str("\nservices:\n");
    for service in &found.services {
        out.push_str(&of_service(service));
    }
    out
}

fn environment(place: &Place) -> String {
    let mut out =
        format!("  {}:\n    region: {}\n    cluster: {}\n", place.name, text(&place.region), text(&place.cluster));
    if !place.subnets.is_empty() {
        out.push_str(&format!("    subnets: {}\n", list(&place.subnets)));
    }
    if !place.security_groups.is_empty() {
        out.push_str(&format!("    security_groups: {}\n", list(&place.security_groups)));
    }
    if place.public {
        out.push_str("    assign_public_ip: true\n");
    }
    if !place.capacity_providers.is_empty() {
        let each = place.capacity_providers.iter();
        let each = each.map(|(name, base, weight)| format!("{{name: {}, base: {base}, weight: {weight}}}", text(name)));
        out.push_str(&format!("    capacity_providers: [{}]\n", each.collect::<Vec<_>>().join(", ")));
    } else if let Some(kind) = &place.launch_type {
        out.push_str(&format!("    launch_type: {kind}\n"));
    }
    out
}

fn of_service(service: &Service) -> String {
    let kind = if service.is_web { "web" } else { "worker" };
    let mut out = format!("  {}:\n    kind: {kind}\n    service: {}\n", service.name, text(&service.service));
    if let Some((application, group)) = &service.codedeploy {
        out.push_str(&format!(
            "    codedeploy_application: {}\n    deployment_group: {}\n",
            text(application),
            text(group)
        ));
    }
    out.push_str(&format!("    family: {}\n    container: {}\n", text(&service.family), text(&service.container)));
    if let Some(port) = service.port {
        out.push_str(&format!("    port: {port}\n"));
    }
    out
}

/// `local.yaml`.
pub(super) fn local_yaml(found: &Found) -> String {
    let account = found.account.as_ref().map_or_else(String::new, |account| {
        format!("# The account whose roles the task definitions name.\naccount: \"{account}\"\n")
    });
    let mut out = format!(
        "# How this machine stands in for the account that a release of {} comes to: processes of this folder are its\n\
         # containers. All that can be said here: docs/local.md of Cutover.\n{account}\
         # What builds the application here; `true` where nothing is to be built. `files` is what it makes and git does not have: each release\n\
         # runs in a copy of its source and of that, so that `rollback` runs what ran then.\n",
        found.application
    );
    match &found.dependencies {
        None => out.push_str("build: {command: [\"true\"], files: []}\n"),
        Some(folder) => out.push_str(&format!(
            "# Without `files`, each release runs in this folder, which has {folder}; `files: [{folder}]` copies that, too.\n\
             build: {{command: [\"true\"]}}\n"
        )),
    }
    out.push_str(
        "# What sets the database of an environment up before the release, such as the schema that production has:\n\
         # databases: [{command: [...]}]\n",
    );
    if let Some(compose) = &found.compose {
        out.push_str(&format!("compose: {}\n", text(compose)));
    }
    if !found.outside.is_empty() {
        out.push_str("# Not started here: start them yourself. Addresses in the compose file that lead to them lead to these on this machine.\n");
        let each = found.outside.iter().map(|(name, at)| format!("{}: {}", text(name), text(at)));
        out.push_str(&format!("outside: {{{}}}\n", each.collect::<Vec<_>>().join(", ")));
    }
    out.push_str(
        "# Variables of all containers. {environment} is the environment's name, {state} the release's own folder, and {port}, in\n\
         # commands and variables, the port that a container was given, which it also has in PORT.\n",
    );
    if found.is_rails {
        out.push_str(
            "# Tasks of both versions run here at once, and a Rails server would take another one's file for its own.\n\
             environment: {PIDFILE: \"{state}/{port}.pid\"}\n",
        );
    } else {
        out.push_str("environment: {}\n");
    }
    out.push_str("containers:\n");
    for service in &found.services {
        out.push_str(&container(&service.family, &service.start));
    }
    // A service that is told what to do may stand for a task, too.
    let tasks = found.tasks.iter().filter(|task| task.start != Start::Unknown);
    for task in tasks.filter(|task| !found.services.iter().any(|service| service.family == task.family)) {
        out.push_str(&container(&task.family, &task.start));
    }
    let asked = found.services.iter().filter_map(|service| {
        let path = service.health_path.as_ref().map(|path| format!("health_check: {{path: {}}}", text(path)));
        let said: Vec<_> = service.tasks.map(|count| format!("tasks: {count}")).into_iter().chain(path).collect();
        (!said.is_empty()).then(|| format!("  {}: {{{}}}\n", text(&service.name), said.join(", ")))
    });
    let asked: Vec<_> = asked.collect();
    if !asked.is_empty() {
        out.push_str(&format!(
            "# A target group asks `GET /` for 200 unless told otherwise.\nservices:\n{}",
            asked.concat()
        ));
    }
    out.push_str(
        "# What `sam deploy --guided` asks for; answer the same there.\nparameters: {PreTask: none, PostTask: none}\n",
    );
    out
}

fn container(family: &str, start: &Start) -> String {
    let family = text(family);
    match start {
        Start::Compose { service, command } if command.is_empty() => {
            format!("  {family}: {{compose: {}}}\n", text(service))
        }
        Start::Compose { service, command } => {
            format!("  {family}: {{compose: {}, command: {}}}\n", text(service), list(command))
        }
        Start::Taskdef { file, has_command, of_image, secrets } => {
            let mut out = format!("  {family}:\n    taskdef: {}\n", text(file));
            let said = [("entrypoint", &of_image.entrypoint), ("command", &of_image.command)];
            let said: Vec<_> = said.into_iter().filter(|(_, words)| !words.is_empty()).collect();
            if !said.is_empty() {
                out.push_str("    # As the Dockerfile has it.\n");
                for (field, words) in said {
                    out.push_str(&format!("    {field}: {}\n", list(words)));
                }
            } else if !has_command {
                out.push_str("    # Only its image knows what it starts: say the command that does so here.\n    # command: [...]\n");
            }
            if !secrets.is_empty() {
                let each = secrets.iter().map(|name| format!("{}: local", text(name))).collect::<Vec<_>>().join(", ");
                out.push_str(&format!(
                    "    # Secrets on AWS, and nothing but names here.\n    environment: {{{each}}}\n"
                ));
            }
            out
        }
        Start::Command { entrypoint, command } => {
            let begin =
                if entrypoint.is_empty() { String::new() } else { format!("entrypoint: {}, ", list(entrypoint)) };
            format!("  {family}: {{{begin}command: {}}}\n", list(command))
        }
        Start::Unknown => format!(
            "  # Only its image knows what it starts: the command that does so here.\n  {family}: {{command: [\"false\"]}}\n"
        ),
    }
}
