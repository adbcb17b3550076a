//! What a release does, per environment, in the order of the pipeline's stages.

use serde_json::Value;
use shared::Manifest;
use shared::manifest::{Barrier, DeploymentKind, Environment, Service, ServiceKind, Task, in_environment};

use crate::account::{Account, Controller};
use crate::template::{Action, Stack};

/// The tasks that the pipeline runs and the manifest does not have, or that it runs twice.
pub(crate) fn missing_tasks(manifest: &Manifest, stack: &Stack) -> Vec<String> {
    let mut missing = Vec::new();
    let mut run: Vec<(&str, &str, &str)> = Vec::new();
    for (stage, action) in actions(stack) {
        let Some(task) = task_of(action) else { continue };
        if provider(action) == "RunTasks" {
            if let Some((_, first, other)) = run.iter().find(|(known, ..)| *known == task) {
                missing.push(format!(
                    "the pipeline's actions {first}/{other} and {stage}/{} run the same task `{task}`, and what the first has run would be \
                     taken for the second's: give the task a second name in `tasks`, with the same command",
                    action.name
                ));
            }
            run.push((task, stage, &action.name));
        }
        if !manifest.tasks.contains_key(task) && provider(action) == "RunTasks" {
            let why = shared::text::unknown("task", task, manifest.tasks.keys().map(String::as_str));
            let stop = if why.ends_with(['?', '.']) { "" } else { "." };
            missing.push(format!(
                "the pipeline's action {stage}/{} runs the task `{task}`, but {why}{stop} Add it to `tasks`, or name another in \
                 the stack's parameters (`none` for no pre- or post-task)",
                action.name
            ));
        }
    }
    missing
}

/// The plan, for people.
pub(super) fn plan(manifest: &Manifest, stack: &Stack, account: Option<&Account>) -> String {
    let mut text = format!("A release of {} does this:\n", manifest.application);
    for (name, environment) in &manifest.environments {
        text.push_str(&format!("\n{name}: {}\n", place(environment)));
        for (stage, action) in actions(stack) {
            for line in steps(manifest, account, action, name) {
                text.push_str(&format!("  {stage:<8} {line}\n"));
            }
        }
    }
    let told = told(manifest);
    if !told.is_empty() {
        text.push_str(&format!("\nTold: {}\n", told.join(", ")));
    }
    let by_clock = manifest.schedules.values().filter_map(|schedule| schedule.task.as_deref());
    let run: Vec<_> = actions(stack).filter_map(|(_, action)| task_of(action)).chain(by_clock).collect();
    for name in manifest.tasks.keys().filter(|name| !run.contains(&name.as_str())) {
        text.push_str(&format!("\nNeither an action of the pipeline nor a schedule runs the task `{name}`.\n"));
    }
    text
}

fn actions(stack: &Stack) -> impl Iterator<Item = (&str, &Action)> {
    stack.pipeline.stages.iter().flat_map(|stage| stage.actions.iter().map(|action| (stage.name.as_str(), action)))
}

/// Which of Cutover's actions it is, without the stack's name.
fn provider(action: &Action) -> &str {
    let of = &action.action_type_id;
    if of.category == "Approval" { "Approval" } else { of.provider.rsplit('-').next().unwrap_or_default() }
}

fn task_of(action: &Action) -> Option<&str> {
    action.configuration.get("Task").and_then(Value::as_str)
}

fn place(environment: &Environment) -> String {
    let role = environment.role.as_ref().map_or_else(String::new, |role| format!(", as {role}"));
    format!("{}, cluster {}{role}", environment.region, environment.cluster)
}

fn steps(manifest: &Manifest, account: Option<&Account>, action: &Action, environment: &str) -> Vec<String> {
    match provider(action) {
        "RunTasks" => task_of(action)
            .and_then(|name| Some((name, manifest.tasks.get(name)?)))
            .filter(|(_, task)| runs_in(manifest, task.environments.as_ref(), environment))
            .map(|(name, task)| task_step(name, task, environment))
            .into_iter()
            .collect(),
        "Approval" => vec!["a person approves".into()],
        "DeployServices" => services(manifest, environment)
            .map(|(name, service)| {
                let own = |name: &str| in_environment(name, environment);
                let by = match deployer(manifest, account, service, environment) {
                    Deployer::Codedeploy(group) => format!("CodeDeploy ({group})"),
                    Deployer::Ecs(Some(how)) => format!("ECS ({how})"),
                    Deployer::Ecs(None) => "ECS, as the service's own configuration says,".into(),
                    Deployer::Either(group) => format!("CodeDeploy ({group}), or ECS where the service says so,"),
                };
                let barrier = match service.barrier {
                    Some(Barrier::Add) => ", at a PAUSE hook that Cutover adds where there is none",
                    None => "",
                };
                format!(
                    "{name}: {by} gives service {} the release's image (family {}, container {}), and moves its traffic within \
                     {}{barrier}",
                    own(&service.service),
                    own(&service.family),
                    service.container,
                    service.timeout
                )
            })
            .chain(workers(manifest, environment))
            .collect(),
        "DrainWorkers" => services(manifest, environment)
            .filter(|(_, service)| service.kind == ServiceKind::Worker)
            .map(|(name, service)| {
                format!("{name}: its old tasks finish what they do; waited for up to {}", service.drain_for)
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// What a release makes of what is started one by one, and by the clock.
fn workers(manifest: &Manifest, environment: &str) -> Vec<String> {
    let own = manifest.workers.iter();
    let own = own.filter(|(_, worker)| runs_in(manifest, worker.environments.as_ref(), environment));
    let mut lines: Vec<_> = own
        .map(|(name, worker)| {
            let family = in_environment(&worker.family, environment);
            let warm = if worker.warm > 0 { format!(", {} of them warm", worker.warm) } else { String::new() };
            format!(
                "{name}: workers that are started from then on are of this release (family {family}, at most {}{warm}); those \
                 that run go on",
                worker.most
            )
        })
        .collect();
    let planned = shared::workers::plan(manifest)
        .into_iter()
        .filter(|(name, _)| name == environment)
        .flat_map(|(_, planned)| planned);
    lines
        .extend(planned.map(|one| {
            format!("{}: starts {} by the clock, {} in {}", one.name, one.starts, one.expression, one.zone)
        }));
    lines
}

/// Who deploys a service, as far as files tell: an account says it of the service itself.
enum Deployer {
    Codedeploy(String),
    Ecs(Option<String>),
    Either(String),
}

fn deployer(manifest: &Manifest, account: Option<&Account>, service: &Service, environment: &str) -> Deployer {
    let own = |name: &str| in_environment(name, environment);
    let group = service.codedeploy().map(|names| format!("{}/{}", own(names.application), own(names.group)));
    let found = account.and_then(|account| {
        let environment = manifest.environments.get(environment)?;
        let region = account.region_of(environment)?;
        region.clusters.get(&environment.cluster)?.services.get(&own(&service.service))
    });
    match (found, service.deployment, group) {
        (Some(found), _, _) if found.controller == Controller::Ecs => {
            let waits = found.deployment.lifecycle_hooks.iter().any(|hook| hook.function.is_none());
            let waits = if waits { "" } else { ", not behind the barrier" };
            Deployer::Ecs(Some(format!("{}{waits}", found.deployment.strategy.word())))
        }
        (Some(_), _, Some(group)) | (None, Some(DeploymentKind::Codedeploy), Some(group)) => {
            Deployer::Codedeploy(group)
        }
        (None, Some(DeploymentKind::Ecs), _) | (_, _, None) => Deployer::Ecs(None),
        (None, None, Some(group)) => Deployer::Either(group),
    }
}

fn task_step(name: &str, task: &Task, environment: &str) -> String {
    let command = if task.command.is_empty() { "its command".into() } else { format!("`{}`", task.command.join(" ")) };
    let container = task.container.as_ref().map_or_else(String::new, |name| format!(" in container {name}"));
    let family = in_environment(&task.family, environment);
    format!("{name}: runs {command}{container} as a task of family {family}, for up to {}", task.timeout)
}

fn services<'a>(manifest: &'a Manifest, environment: &'a str) -> impl Iterator<Item = (&'a str, &'a Service)> {
    let services = manifest.services.iter().map(|(name, service)| (name.as_str(), service));
    services.filter(move |(_, service)| runs_in(manifest, service.environments.as_ref(), environment))
}

fn runs_in(manifest: &Manifest, listed: Option<&Vec<serde_saphyr::Spanned<String>>>, environment: &str) -> bool {
    manifest.environments_of(listed).iter().any(|(name, _)| *name == environment)
}

fn told(manifest: &Manifest) -> Vec<String> {
    let told = &manifest.notifications;
    let slack = told.slack.iter().map(|one| format!("Slack (with {})", one.webhook));
    let datadog = told.datadog.iter().map(|one| format!("Datadog (with {})", one.api_key));
    let sentry = told.sentry.iter().map(|one| format!("Sentry (with {})", one.token));
    let http = told.http.iter().map(|(name, one)| match &one.authorization {
        Some(parameter) => format!("{name} (with {parameter})"),
        None => name.clone(),
    });
    slack.chain(datadog).chain(sentry).chain(http).collect()
}
