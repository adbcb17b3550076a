//! Every sentence of `deploy-services` that a person reads.

use std::fmt::Write as _;

use shared::aws::codedeploy::{Deployment, Target as Seen};
use shared::end::End;
use shared::text::{fit, plain};
use shared::time::spoken;
use shared::{Next, Progress, Success, Tick, Verdict, names};

use crate::decide::{Phase, State};
use crate::target::{Plan, Target};

/// The longest line of a container in a verdict.
const LONGEST_LINE: usize = 300;

/// "Traffic moved in 2 of 6, 4 ready; us/web: Install, 1 of 2 new tasks run, 0 % of traffic; ...".
pub(crate) fn progress(tick: &Tick<'_>, plan: &Plan) -> Progress {
    let phase = |target: &Target| target.phase(tick.now);
    let total = plan.targets.len();
    let moved = |target: &&Target| matches!(phase(target), Phase::Moved | Phase::Done);
    let count_of_moved = plan.targets.iter().filter(moved).count();
    let ready = plan.targets.iter().filter(|target| phase(target) == Phase::Ready).count();
    let mut summary = format!("Traffic moved in {count_of_moved} of {total}");
    if ready > 0 {
        let _ = write!(summary, ", {ready} ready");
    }
    for target in plan.targets.iter().filter(|target| !moved(target)) {
        let _ = write!(summary, "; {}: {}", target.name(), now(tick, target));
    }
    summary.push_str(&remarks(plan));
    let percent = u8::try_from((ready + 2 * count_of_moved) * 50 / total.max(1)).ok();
    Progress { summary, percent, link: Some(link(tick)) }
}

/// What a person should know of the whole: what is not behind the barrier, and what CodeDeploy does not deploy.
fn remarks(plan: &Plan) -> String {
    let free: Vec<_> = plan.targets.iter().filter(|target| target.waits == Some(false)).map(Target::name).collect();
    let mut remarks = String::new();
    if !free.is_empty() {
        let _ = write!(
            remarks,
            ". Not behind the barrier, since {} not wait for being continued (deploymentReadyOption): {}",
            if free.len() == 1 { "its group does" } else { "their groups do" },
            free.join(", ")
        );
    }
    if !plan.left_out.is_empty() {
        let _ = write!(remarks, ". Not deployed by CodeDeploy: {}", plan.left_out.join(", "));
    }
    remarks
}

/// What is new of each target since it was spoken of last, for the release's log.
pub(crate) fn news(tick: &Tick<'_>, plan: &Plan, state: &mut State) -> Vec<String> {
    let mut said = std::mem::take(&mut state.said);
    said.resize(plan.targets.len(), 0);
    let mut lines = Vec::new();
    for (target, said) in plan.targets.iter().zip(&mut said) {
        let text = now(tick, target);
        let hash = hash(&text);
        if *said != hash && target.phase(tick.now) != Phase::Unknown {
            *said = hash;
            lines.push(line(plan, target, &text));
        }
    }
    state.said = said;
    lines
}

fn line(plan: &Plan, target: &Target, text: &str) -> String {
    let width = |part: fn(&Target) -> usize| plan.targets.iter().map(part).max().unwrap_or_default();
    format!(
        "{:environments$} {:services$} | {text}",
        target.environment_name,
        target.service_name,
        environments = width(|target| target.environment_name.len()),
        services = width(|target| target.service_name.len())
    )
}

/// Sixteen bits of FNV-1a: enough to tell one sentence from the one before.
fn hash(text: &str) -> u16 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let folded = (hash >> 16) ^ (hash & 0xffff);
    // 0 stands for nothing said.
    u16::try_from(folded).unwrap_or_default().max(1)
}

/// The last line of the deployment in the release's log.
pub(crate) fn ending(next: &Next) -> Vec<String> {
    match next {
        Next::Wait(..) => Vec::new(),
        Next::Succeed(success) => vec![format!("deploy complete: {}", success.summary)],
        Next::Fail(verdict) => {
            let first = verdict.message.lines().next().unwrap_or_default();
            vec![format!("deploy failed: {first}")]
        }
    }
}

/// "Traffic is on the new version everywhere after 2 min 05 s: us/web (41 to 42), ...".
pub(crate) fn succeeded(tick: &Tick<'_>, plan: &Plan, state: &State) -> Success {
    let took = spoken(tick.now.since(tick.begun));
    let each = plan.targets.iter().zip(&state.before);
    let each = each.map(|(target, before)| format!("{} ({} to {})", target.name(), number(*before), tried(target)));
    let each: Vec<_> = each.collect();
    let mut summary = match each.is_empty() {
        true => "There was nothing to deploy".to_owned(),
        false => format!("Traffic is on the new version everywhere after {took}: {}", each.join(", ")),
    };
    summary.push_str(&remarks(plan));
    let deployments = plan.targets.iter().filter_map(|target| target.deployment.as_ref());
    let ids: Vec<_> = deployments.map(|deployment| deployment.id.as_str()).collect();
    let variables = vec![
        ("Summary", summary.clone()),
        ("Deployments", ids.join(",")),
        ("Seconds", tick.now.since(tick.begun).as_secs().to_string()),
    ];
    let variables = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Success { summary, variables, link: Some(link(tick)) }
}

/// The verdict: first cause first, unless something was left in the wrong place, which comes before everything.
pub(crate) fn failed(tick: &Tick<'_>, plan: &Plan, state: &State, lines: &[String]) -> Verdict {
    let lines: Vec<_> = lines.iter().map(|line| fit(plain(line).trim_end(), LONGEST_LINE)).collect();
    let mut message = String::new();
    let stuck = plan.targets.iter().zip(&state.before).filter_map(|(target, before)| {
        let what = match target.phase(tick.now) {
            Phase::Stuck { what } | Phase::Stranded { what } => what,
            Phase::RollingBack | Phase::BackWaits => "its rollback did not come to an end within an hour".into(),
            Phase::Going | Phase::Ready | Phase::Moved | Phase::Done | Phase::Over { .. } | Phase::Unknown => {
                target.failed.clone().unwrap_or_else(|| "it could not be taken back within an hour".into())
            }
            Phase::Empty | Phase::Busy { .. } | Phase::Failed { .. } | Phase::RolledBack => return None,
        };
        Some(format!("NOT ROLLED BACK: {} ({what}). Deploy its revision {} by hand.", target.name(), number(*before)))
    });
    let stuck: Vec<_> = stuck.collect();
    for line in &stuck {
        message.push_str(line);
        message.push('\n');
    }
    match &state.cause {
        None => message.push_str("The deployment was stopped with the release."),
        Some(cause) => {
            let name = plan.targets.get(cause.target).map_or_else(|| "?".into(), Target::name);
            let _ = write!(message, "{name} failed: {}.", cause.what);
            if let Some(said) = shared::text::said(&lines) {
                let _ = write!(message, " {said}");
            }
        }
    }
    if stuck.is_empty() {
        message.push_str("\nTraffic is on the old version everywhere.");
    }
    let title = "What became of each";
    let width = plan.targets.iter().map(|target| target.name().len() + 2).max().unwrap_or_default().max(title.len());
    let _ = write!(message, "\n\n{title:width$}  before  tried    now");
    for (target, before) in plan.targets.iter().zip(&state.before) {
        let _ = write!(
            message,
            "\n{:width$}  {:>6}  {:>5}  {:>5}  {}",
            format!("  {}", target.name()),
            number(*before),
            tried(target),
            current(target, *before, tick),
            now(tick, target)
        );
    }
    if !lines.is_empty() {
        let _ = write!(message, "\n\nThe first new task that died");
        if let Some(task) = state.cause.as_ref().and_then(|cause| plan.targets.get(cause.target)?.dead.first()) {
            let reason = task.stopped_reason.as_deref().unwrap_or("none");
            let code = task.stop_code.as_deref().unwrap_or("none");
            let _ = write!(message, ": {}\n  stop code: {code}; reason: {reason}\n  last lines:", task.id());
        }
        let _ = write!(message, "\n    {}", lines.join("\n    "));
    }
    if let Some(group) = &tick.aws.settings().log_group {
        let url = names::log_link(&tick.aws.region(), group, &names::log_stream(tick.release));
        let _ = write!(message, "\n\nStep by step: {url}");
    }
    Verdict::failed(message)
}

fn number(revision: u32) -> String {
    if revision == 0 { "?".into() } else { revision.to_string() }
}

fn tried(target: &Target) -> String {
    match &target.deployment {
        Some(_) => target.tried().map_or_else(|| "?".into(), |revision| revision.to_string()),
        None => "none".into(),
    }
}

/// The revision that has the traffic: as it was seen, or as it follows from what became of the deployment.
fn current(target: &Target, before: u32, tick: &Tick<'_>) -> String {
    if target.back.is_none()
        && let Some(current) = target.current
    {
        return number(current);
    }
    match target.phase(tick.now) {
        Phase::Empty | Phase::Busy { .. } | Phase::RolledBack | Phase::Failed { .. } => number(before),
        Phase::Done | Phase::Moved | Phase::Stranded { .. } => tried(target),
        Phase::Unknown | Phase::Going | Phase::Ready | Phase::Over { .. } => number(before),
        Phase::RollingBack | Phase::BackWaits | Phase::Stuck { .. } => "?".into(),
    }
}

fn now(tick: &Tick<'_>, target: &Target) -> String {
    match target.phase(tick.now) {
        Phase::Unknown => "not seen yet".into(),
        Phase::Empty => "not begun".into(),
        Phase::Busy { with, released: None } => format!("waiting for {with}, which keeps its group busy"),
        Phase::Busy { with, released: Some(_) } => format!("ending the wait of {with} for its old tasks"),
        Phase::Going => going(target),
        Phase::Ready => "ready, its traffic waits for the others".into(),
        Phase::Moved => "its traffic is on the new version".into(),
        Phase::Done => "its traffic is on the new version, and its old tasks are gone".into(),
        Phase::Failed { what } => format!("failed: {what}"),
        Phase::Over { what: Some(what) } => format!("failed: {what}; its traffic is looked for"),
        Phase::Over { what: None } => "stopped; its traffic is looked for".into(),
        Phase::RollingBack | Phase::BackWaits if target.back.is_some() => {
            format!("being brought back by a deployment of revision {}: its old tasks are gone", number(target.before))
        }
        Phase::RollingBack | Phase::BackWaits => "being rolled back".into(),
        Phase::RolledBack if target.back.is_some() => {
            format!("brought back by a deployment of revision {}: its old tasks were gone", number(target.before))
        }
        Phase::RolledBack if target.deployment.is_none() => "not begun".into(),
        Phase::RolledBack => "rolled back".into(),
        Phase::Stranded { what } => format!("its traffic is on the new version, and must be brought back: {what}"),
        Phase::Stuck { what } => format!("NOT ROLLED BACK: {what}"),
    }
}

/// "Install, 1 of 2 new tasks run, 0 % of traffic, 1 died".
fn going(target: &Target) -> String {
    let seen = target.seen.as_ref();
    let mut said = seen.and_then(|seen| seen.event.clone()).unwrap_or_else(|| "starting".into());
    if let Some(new) = seen.and_then(|seen| seen.new.as_ref()) {
        let _ = write!(said, ", {} of {} new tasks run, {} % of traffic", new.running, new.desired, new.traffic);
    }
    if !target.dead.is_empty() {
        let _ = write!(said, ", {} died", target.dead.len());
    }
    said
}

fn link(tick: &Tick<'_>) -> String {
    names::console_encoded(&names::log_stream(tick.release))
}

/// "deployment d-1 failed in AfterInstall: the hook said so: ... (HEALTH_CONSTRAINTS)".
pub(crate) fn did_not_come_about(deployment: &Deployment, seen: Option<&Seen>) -> String {
    let (code, message) = deployment.error.clone().unwrap_or_else(|| ("no code".into(), "no message".into()));
    let event = seen.and_then(|seen| {
        let event = seen.failed.as_deref()?;
        let said = seen.diagnostics.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
        Some(format!(" in {event}{said}"))
    });
    let status = deployment.status.to_lowercase();
    let message = message.trim_end_matches('.');
    match code.as_str() {
        "MANUAL_STOP" => format!("deployment {} was stopped by somebody", deployment.id),
        _ => format!("deployment {} {status}{}: {message} ({code})", deployment.id, event.unwrap_or_default()),
    }
}

/// A rollback of CodeDeploy's own that failed itself.
pub(crate) fn rollback_failed(rollback: &Deployment) -> String {
    let (code, message) = rollback.error.clone().unwrap_or_else(|| ("no code".into(), "no message".into()));
    format!("its rollback {} {}: {message} ({code})", rollback.id, rollback.status.to_lowercase())
}

/// "its new tasks keep dying (4 so far, max_failed_tasks is 3): container `shop` ended with exit code 1".
pub(crate) fn dying(dead: usize, most: usize, how: Option<&End>, ill: Option<&str>) -> String {
    let how = match how {
        Some(End::Failed { what, .. }) => what.clone(),
        Some(End::Succeeded) => "it ended by itself with exit code 0".into(),
        Some(End::Stopped) | None => "it was stopped".into(),
    };
    let ill = ill.map(|ill| format!(" ({ill})")).unwrap_or_default();
    format!("its new tasks keep dying ({dead} so far, max_failed_tasks is {most}): {how}{ill}")
}

/// "deployment d-1 (InProgress since 2026-11-23T10:00:00Z, by user: Cutover shop ...)".
pub(crate) fn busy_with(other: &Deployment) -> String {
    let since = other.created.map(|at| format!(" since {at}")).unwrap_or_default();
    let by = if other.creator.is_empty() { "unknown" } else { &other.creator };
    let what = if other.description.is_empty() { "without a description" } else { &other.description };
    format!("deployment {} ({}{since}, by {by}: {what})", other.id, other.status)
}

/// There is no such service.
pub(crate) fn no_service(service: &str, cluster: &str, region: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "there is no service `{service}` in cluster `{cluster}` in {region}: create it, or correct `service` in deploy.yaml"
    ))
}

/// There is no such group.
pub(crate) fn no_group(application: &str, group: &str, region: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "there is no deployment group `{group}` of the application `{application}` in {region}: create it, or correct \
         `deployment_group` in deploy.yaml"
    ))
}

/// The group deploys something else than the manifest means.
pub(crate) fn other_service(target: &Target, services: &[(String, String)]) -> Verdict {
    let deployed: Vec<_> = services.iter().map(|(cluster, service)| format!("`{cluster}/{service}`")).collect();
    Verdict::misconfigured(format!(
        "the deployment group `{}` deploys {}, not `{}/{}`: correct `service`, `cluster` or `deployment_group` in deploy.yaml",
        target.group,
        if deployed.is_empty() { "no ECS service".into() } else { deployed.join(", ") },
        target.environment.cluster,
        target.ecs_service
    ))
}
