//! Every sentence about a target that a person reads, whichever function says it.

use crate::aws::codedeploy::{Deployment, Target as Seen};
use crate::aws::ecs::{self, HookRun, HookStatus, Stage, id};
use crate::aws::iam::Role;
use crate::end::End;
use crate::error::Verdict;
use crate::names;
use crate::targets::site::Site;

/// "deployment d-1 failed in AfterInstall: the hook said so: ... (HEALTH_CONSTRAINTS)".
#[must_use]
pub fn did_not_come_about(deployment: &Deployment, seen: Option<&Seen>) -> String {
    let (code, message) = deployment.error.clone().unwrap_or_else(|| ("no code".into(), "no message".into()));
    let event = seen.and_then(|seen| {
        let event = seen.failed.as_deref()?;
        let said = seen.diagnostics.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
        Some(format!(" in {event}{said}"))
    });
    let status = deployment.status.word().to_lowercase();
    let message = message.trim_end_matches('.');
    if deployment.was_stopped() {
        return format!("deployment {} was stopped by somebody", deployment.id);
    }
    format!("deployment {} {status}{}: {message} ({code})", deployment.id, event.unwrap_or_default())
}

/// A rollback of CodeDeploy's own that failed itself.
#[must_use]
pub fn rollback_failed(rollback: &Deployment) -> String {
    let (code, message) = rollback.error.clone().unwrap_or_else(|| ("no code".into(), "no message".into()));
    format!("its rollback {} {}: {message} ({code})", rollback.id, rollback.status.word().to_lowercase())
}

/// A deployment that ended while a part of the traffic was on its version, and that nothing has taken back.
#[must_use]
pub(super) fn left_in_the_middle(what: &str, share: i64) -> String {
    format!("{what}; it was not rolled back, and {share} % of the traffic stayed on its version")
}

/// "service deployment 1a2b was taken back by ECS in POST_SCALE_UP: tasks failed to start (the circuit breaker saw 3 of 3)".
#[must_use]
pub fn ecs_took_back(deployment: &ecs::Deployment) -> String {
    let what = match deployment.status {
        ecs::Status::Stopped => "was stopped by ECS",
        ecs::Status::RollbackFailed => "could not be taken back by ECS",
        ecs::Status::RollbackSuccessful => "was taken back by ECS",
        ecs::Status::StopRequested => "is being stopped by ECS",
        _ => "is being taken back by ECS",
    };
    let mut said = format!("service deployment {} {what}", deployment.id());
    if let Some(hook) = deployment.hooks.iter().find(|hook| failed(hook)) {
        said.push_str(&format!(" since {}", hook_says(hook)));
    }
    if let Some(stage) = &deployment.stage {
        said.push_str(&format!(" in {stage}"));
    }
    if let Some(reason) = &deployment.reason {
        said.push_str(&format!(": {}", reason.trim_end_matches('.')));
    }
    if let Some((failures, most)) = deployment.breaker.filter(|(failures, _)| *failures > 0) {
        said.push_str(&format!(" (the circuit breaker saw {failures} tasks fail and breaks at {most})"));
    }
    if !deployment.alarms.is_empty() {
        said.push_str(&format!(" (alarms: {})", deployment.alarms.join(", ")));
    }
    said
}

fn failed(hook: &HookRun) -> bool {
    match hook.status {
        HookStatus::TimedOut => true,
        HookStatus::Failed => hook.function.is_some(),
        HookStatus::AwaitingAction | HookStatus::InProgress | HookStatus::Succeeded | HookStatus::Unknown(_) => false,
    }
}

/// "its hook check-shop failed", "nobody continued it at its PAUSE hook in time".
fn hook_says(hook: &HookRun) -> String {
    let Some(function) = &hook.function else { return "nobody continued it at its PAUSE hook in time".into() };
    let name = function.rsplit(':').next().unwrap_or(function);
    let how = if hook.status == HookStatus::TimedOut { "took too long" } else { "failed" };
    format!("its hook {name} {how}")
}

/// "hook check-shop runs", of those that run, and the pauses that somebody else must end.
#[must_use]
pub fn hooks_under_way(hooks: &[HookRun], stage: Option<&Stage>, is_ours: bool) -> Option<String> {
    let said = hooks.iter().filter_map(|hook| match (&hook.function, &hook.status) {
        (Some(function), HookStatus::InProgress) => {
            Some(format!("hook {} runs", function.rsplit(':').next().unwrap_or(function)))
        }
        (None, HookStatus::AwaitingAction) if !is_ours => {
            let until = hook.expires.map(|until| format!(", until {until}")).unwrap_or_default();
            let stage = stage.map_or("?", Stage::word);
            Some(format!("it waits at a PAUSE hook in {stage} for somebody to continue it{until}"))
        }
        _ => None,
    });
    let said: Vec<_> = said.collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// "deployment d-1 (InProgress since 2026-11-23T10:00:00Z, by user: a description)", or "..., of release 5f0e of shop)".
#[must_use]
pub fn busy_with(other: &Deployment) -> String {
    let since = other.created.map(|at| format!(" since {at}")).unwrap_or_default();
    if let Some((pipeline, execution)) = names::release_of(&other.description) {
        return format!("deployment {} ({}{since}, of release {execution} of {pipeline})", other.id, other.status);
    }
    let by = if other.creator.is_empty() { "unknown" } else { &other.creator };
    let what = if other.description.is_empty() { "without a description" } else { &other.description };
    format!("deployment {} ({}{since}, by {by}: {what})", other.id, other.status)
}

/// "service deployment 1a2b (IN_PROGRESS in SCALE_UP since 2026-11-23T10:00:00Z, to shop-web:41)".
#[must_use]
pub fn busy_with_service_deployment(other: &ecs::Deployment, definition: Option<&str>) -> String {
    let stage = other.stage.as_ref().map(|stage| format!(" in {stage}")).unwrap_or_default();
    let since = other.created.map(|at| format!(" since {at}")).unwrap_or_default();
    let to = definition.map(|one| format!(", to {}", ecs::id(one))).unwrap_or_default();
    format!("service deployment {} ({}{stage}{since}{to})", other.id(), other.status)
}

/// "its new tasks keep dying (4 so far, max_failed_tasks is 3): container `shop` ended with exit code 1".
#[must_use]
pub fn dying(dead: usize, most: usize, how: Option<&End>, ill: Option<&str>) -> String {
    let how = match how {
        Some(End::Failed { what, .. }) => what.clone(),
        Some(End::Succeeded) => "it ended by itself with exit code 0".into(),
        Some(End::Stopped) | None => "it was stopped".into(),
    };
    let ill = ill.map(|ill| format!(" ({ill})")).unwrap_or_default();
    format!("its new tasks keep dying ({dead} so far, max_failed_tasks is {most}): {how}{ill}")
}

/// There is no such service.
#[must_use]
pub fn no_service(site: &Site) -> Verdict {
    let (service, cluster, region) = (&site.ecs_service, site.cluster(), &site.place.region);
    Verdict::misconfigured(format!(
        "there is no service `{service}` in cluster `{cluster}` in {region}: create it, or correct `service` in deploy.yaml"
    ))
}

/// There is no such group.
#[must_use]
pub fn no_group(application: &str, group: &str, region: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "there is no deployment group `{group}` of the application `{application}` in {region}: create it, or correct \
         `deployment_group` in deploy.yaml"
    ))
}

/// Whether the group deploys what the manifest means.
///
/// # Errors
/// It deploys something else.
pub fn group_deploys_it(site: &Site, group: &str, services: &[(String, String)]) -> Result<(), Verdict> {
    if services.iter().any(|(cluster, service)| cluster == site.cluster() && *service == site.ecs_service) {
        return Ok(());
    }
    Err(other_service(site, group, services))
}

/// There is no such cluster; another reason why it cannot be looked at stays as it is.
#[must_use]
pub fn no_cluster(why: Verdict, cluster: &str, region: &str) -> Verdict {
    if !why.message.contains("ClusterNotFoundException") {
        return why;
    }
    Verdict::misconfigured(format!(
        "there is no cluster `{cluster}` in {region}: create it, or correct `cluster` in deploy.yaml"
    ))
}

/// What keeps tasks from having a role that their definition names; nothing, if they can have it.
#[must_use]
pub fn no_role(role: &str, seen: &Role) -> Option<Verdict> {
    let why = match seen {
        Role::Good => return None,
        Role::TrustsOthers => format!("no task may have the role `{role}`: let it trust ecs-tasks.amazonaws.com"),
        Role::Missing => format!("there is no role `{role}`: create it, or correct the task definition"),
        Role::Unlisted => format!(
            "the functions may not give the role `{role}` to a task: list it in the stack's parameter TaskRoles, or correct \
             the task definition"
        ),
    };
    Some(Verdict::misconfigured(why))
}

/// "Nothing was started: us/web: there is no service ...", the first of all mistakes in front.
#[must_use]
pub fn do_not_fit(wrong: &[(String, String)]) -> Verdict {
    // What is wrong with one thing is said once, with all that need it.
    let mut said: Vec<(Vec<&str>, &str)> = Vec::new();
    for (whose, what) in wrong {
        match said.iter_mut().find(|(_, known)| known == what) {
            Some((all, _)) => all.push(whose),
            None => said.push((vec![whose], what)),
        }
    }
    let said: Vec<_> = said.iter().map(|(whose, what)| format!("{}: {what}", whose.join(", "))).collect();
    let (first, others) = said.split_first().map_or(("", &[][..]), |(first, others)| (first.as_str(), others));
    let mut message = format!("Nothing was started: {first}");
    if !others.is_empty() {
        let things = if others.len() == 1 { "thing does" } else { "things do" };
        let list = others.join("\n  ");
        message.push_str(&format!("\n\n{} more {things} not fit deploy.yaml\n  {list}", others.len()));
    }
    Verdict::misconfigured(message)
}

/// The group deploys something else than the manifest means.
#[must_use]
pub fn other_service(site: &Site, group: &str, services: &[(String, String)]) -> Verdict {
    let deployed: Vec<_> = services.iter().map(|(cluster, service)| format!("`{cluster}/{service}`")).collect();
    Verdict::misconfigured(format!(
        "the deployment group `{group}` deploys {}, not `{}/{}`: correct `service`, `cluster` or `deployment_group` in deploy.yaml",
        if deployed.is_empty() { "no ECS service".into() } else { deployed.join(", ") },
        site.cluster(),
        site.ecs_service
    ))
}

/// CodeDeploy deploys the service, and the manifest does not say by which group.
#[must_use]
pub fn group_not_named(site: &Site) -> Verdict {
    Verdict::misconfigured(format!(
        "CodeDeploy deploys the service `{}` (its deployment controller is CODE_DEPLOY), and deploy.yaml does not say by which \
         group: give `codedeploy_application`, `deployment_group` and `port`",
        site.ecs_service
    ))
}

/// The manifest says one thing, the service another.
#[must_use]
pub fn other_controller(site: &Site, says: &str, has: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "deploy.yaml says `deployment: {says}`, and the deployment controller of the service `{}` is {has}: correct \
         `deployment`, or leave it out",
        site.ecs_service
    ))
}

/// Nobody that Cutover knows deploys it.
#[must_use]
pub fn unknown_controller(site: &Site, has: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "the deployment controller of the service `{}` is {has}, which Cutover cannot deploy with: it knows ECS and CODE_DEPLOY",
        site.ecs_service
    ))
}

/// ECS has given up the very version that is to be deployed, and has left it as the service's.
#[must_use]
pub fn given_up_by_ecs(site: &Site, definition: &str) -> Verdict {
    let service = &site.ecs_service;
    Verdict::failed(format!(
        "ECS has given up bringing {} up, and starts no tasks of it any more, although the service `{service}` has it as its version. Where it \
         would come up now, force a new deployment of the service (aws ecs update-service --force-new-deployment); otherwise release \
         another one",
        id(definition)
    ))
}

/// Something else was deployed meanwhile.
#[must_use]
pub fn overtaken(by: &str) -> String {
    format!("{by} runs here by now, which the release has not deployed: it is left alone")
}
