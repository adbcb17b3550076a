//! What is said of the quick way back.

use serde_json::Value;
use shared::targets::quick::{Quick, Stuck};
use shared::targets::{Phase, Target};
use shared::{Progress, Tick, Verdict, names};

use super::target::{before, number, service, tried};

fn progress(tick: &Tick<'_>, summary: String) -> Progress {
    Progress { summary, percent: None, link: Some(names::console_encoded(&names::log_stream(tick.release))) }
}

/// It is not decided yet.
pub(crate) fn looks_for_the_quick_way(tick: &Tick<'_>) -> Progress {
    progress(tick, "Looking whether the quick way back is open".into())
}

/// The release that was waited for is over.
pub(crate) fn looks_anew(tick: &Tick<'_>) -> Progress {
    progress(tick, "Its turn has come: looking what runs now".into())
}

/// Why it is not gone.
pub(crate) fn closed(why: &str) -> String {
    format!("By a deployment, since the quick way back is closed: {why}")
}

/// What is about to be done, for the release's log.
pub(crate) fn goes_quickly(quick: &Quick) -> Vec<String> {
    let each = quick.targets.iter().map(|target| {
        let deployment = target.deployment().unwrap_or_default();
        let deployment = deployment.rsplit('/').next().unwrap_or_default();
        format!(
            "{} | the quick way back: {deployment} is stopped, and its traffic goes back to {}",
            target.name(),
            before(target)
        )
    });
    each.collect()
}

/// How far it is.
pub(crate) fn quickly(tick: &Tick<'_>, quick: &Quick) -> Progress {
    let moment = quick.moment(tick.now);
    let is_back = |target: &&Target| target.phase(&moment) == Phase::RolledBack;
    let (back, total) = (quick.targets.iter().filter(is_back).count(), quick.targets.len());
    progress(tick, format!("The quick way back: {back} of {total} are back"))
}

/// It is done, for the release's log.
pub(crate) fn went_quickly(quick: &Quick) -> Vec<String> {
    quick
        .targets
        .iter()
        .map(|target| match since(target) {
            None => format!("{} | its traffic is back on {}", target.name(), before(target)),
            Some(runs) => format!(
                "{} | its traffic had gone back to {}, and {runs} runs there by now",
                target.name(),
                before(target)
            ),
        })
        .collect()
}

/// What runs where it went back, when that is another revision by now: a function that is brought again after the next release has deployed.
fn since(target: &Target) -> Option<String> {
    Quick::runs_another(target).map(|runs| number(target, Some(&runs)))
}

/// Why it is closed where it was gone before, and somebody has deployed since.
pub(crate) fn deployed_since(quick: &Quick) -> Option<String> {
    let target = quick.targets.iter().find(|target| Quick::runs_another(target).is_some())?;
    Some(format!("{} had gone back, and {} runs there by now", target.name(), since(target)?))
}

/// "us/web (2 to 1), eu/web (2 to 1)".
fn each(quick: &Quick) -> String {
    let each =
        quick.targets.iter().map(|target| format!("{} ({} to {})", target.name(), tried(target), before(target)));
    each.collect::<Vec<_>>().join(", ")
}

/// Everything is done: web services went this way, and the others were deployed.
pub(super) fn succeeded(quick: &Quick, (back, took): (&str, &str), deployed: &[String]) -> String {
    let others = match deployed.is_empty() {
        true => String::new(),
        false => format!(". Deployed, after {took}: {}", deployed.join(", ")),
    };
    format!(
        "Traffic is back after {back}, the quick way (the deployments of release {} were stopped): {}{others}",
        quick.runs.execution,
        each(quick)
    )
}

/// What ran where before and after.
pub(super) fn services(went: Option<&Quick>) -> impl Iterator<Item = Value> {
    went.into_iter().flat_map(|quick| &quick.targets).map(|target| service(target, tried(target), before(target)))
}

/// What a failure or a halt does not undo.
pub(super) fn stays(quick: &Quick) -> String {
    if !quick.targets.is_empty() && quick.targets.iter().all(|target| since(target).is_some()) {
        return format!(
            "What had gone back the quick way runs another version by now, which is left alone: {}.",
            each(quick)
        );
    }
    format!("WEB SERVICES HAVE GONE BACK the quick way, and that is not undone: {}.", each(quick))
}

/// Something could not be brought back.
pub(crate) fn stuck_quickly(quick: &Quick, stuck: &[Stuck]) -> Verdict {
    let each_stuck = stuck.iter().map(|one| {
        format!(
            "NOT ROLLED BACK: {} ({}). Deploy the revision before by hand.",
            one.name,
            one.what.trim_end_matches('.')
        )
    });
    let each_stuck: Vec<_> = each_stuck.collect();
    Verdict::failed(format!("{} The quick way back of all: {}.", each_stuck.join(" "), each(quick)))
}
