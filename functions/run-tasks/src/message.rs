//! Every sentence of `run-tasks` that a person reads.

use std::fmt::Write as _;
use std::time::Duration;

use shared::aws::ecs::Task;
use shared::text::{fit, plain};
use shared::time::spoken;
use shared::{Progress, Success, Tick, Verdict, names};

use crate::decide::{Site, SoFar, State};
use crate::plan::Plan;

/// The longest line of a container in a verdict.
const LONGEST_LINE: usize = 300;

/// "migrate: 2 of 3 done, running in ap".
pub(crate) fn progress(tick: &Tick<'_>, plan: &Plan, state: &State) -> Progress {
    let total = plan.sites.len();
    let with = |wanted: fn(&Site) -> bool| {
        let seen = plan.sites.iter().enumerate().filter(|(at, site)| wanted(&site.seen(state.at(*at), tick)));
        seen.map(|(_, site)| site.name.as_str()).collect::<Vec<_>>()
    };
    let done = with(|site| matches!(site, Site::Succeeded { .. })).len();
    let mut summary = format!("{}: {done} of {total} done", plan.name);
    for (what, names) in [
        ("running in", with(|site| matches!(site, Site::Live { so_far: SoFar::Runs, .. }))),
        ("starting in", with(|site| matches!(site, Site::Live { so_far: SoFar::Starts, .. }))),
        ("waiting for a place in", with(|site| matches!(site, Site::Live { so_far: SoFar::Provisioning, .. }))),
        ("waiting for room in", with(|site| matches!(site, Site::NoRoom { .. }))),
        ("failed in", with(|site| matches!(site, Site::Failed { .. }))),
    ] {
        if !names.is_empty() {
            let _ = write!(summary, ", {what} {}", names.join(", "));
        }
    }
    if tick.unsettled {
        summary.push_str(", waiting for what the run before this one, which has just ended, may still begin");
    }
    if plan.others.settle {
        summary.push_str(", waiting for what the release before this one, which was stopped, may still begin");
    }
    let percent = u8::try_from(done * 100 / total.max(1)).ok();
    Progress { summary, percent, link: Some(link(tick)) }
}

/// "prepare: looking at what the release needs".
pub(crate) fn looking_beforehand(tick: &Tick<'_>, plan: &Plan) -> Progress {
    let summary = format!("{}: looking whether all that the release needs is there", plan.name);
    Progress { summary, percent: Some(0), link: Some(link(tick)) }
}

/// What the action's link in the console is made of (fact 7): the release's log stream.
fn link(tick: &Tick<'_>) -> String {
    names::console_encoded(&names::log_stream(tick.release))
}

fn logs_url(tick: &Tick<'_>) -> Option<String> {
    let group = tick.aws.settings().log_group.as_ref()?;
    Some(names::log_link(&tick.aws.region(), group, &names::log_stream(tick.release)))
}

/// The longest of a summary that other actions show, in characters.
const LONGEST_SHOWN: usize = 700;

/// "migrate succeeded in us (12 s), eu (9 s) and ap (15 s)".
pub(crate) fn succeeded(tick: &Tick<'_>, plan: &Plan, state: &State) -> Success {
    let seconds = |at: usize| state.at(at).succeeded_in.unwrap_or_default();
    let said = plan
        .sites
        .iter()
        .enumerate()
        .map(|(at, site)| format!("{} ({})", site.name, spoken(Duration::from_secs(seconds(at)))));
    let mut summary = format!("{} succeeded in {}", plan.name, said.collect::<Vec<_>>().join(", "));
    let durations = plan.sites.iter().enumerate().map(|(at, site)| format!("{}={}", site.name, seconds(at)));
    let durations: Vec<_> = durations.collect();
    if let Some((site, container)) = plan.sites.iter().find_map(|site| Some((site, site.may_lose_lines().next()?))) {
        let _ = write!(
            summary,
            ". Warning: under load, `{container}` may lose log lines ({}): set `log_mode: blocking` for the task in deploy.yaml, or `mode: blocking` in its logConfiguration's options",
            site.name
        );
    }
    let again = plan.sites.iter().enumerate().filter(|(at, _)| state.at(*at).perhaps_again);
    let again: Vec<_> = again.map(|(_, site)| site.name.as_str()).collect();
    if !again.is_empty() {
        let _ = write!(
            summary,
            ". Run although an earlier try may have done it in {}: ECS shows what ended for about an hour only",
            again.join(", ")
        );
    }
    let arns = plan.sites.iter().filter_map(|site| site.task.as_ref()).map(|task| task.arn.as_str());
    let mut variables = vec![
        ("Task", plan.name.clone()),
        ("Environments", plan.sites.len().to_string()),
        // An approval shows it, and takes 1,000 characters with everything around it.
        ("Summary", fit(&summary, LONGEST_SHOWN)),
        ("Seconds", tick.now.since(tick.begun).as_secs().to_string()),
        ("Durations", durations.join(", ")),
        ("TaskArns", arns.collect::<Vec<_>>().join(",")),
    ];
    variables.extend(logs_url(tick).map(|url| ("LogsUrl", url)));
    variables.retain(|(_, value)| !value.is_empty());
    Success { summary, variables, link: Some(link(tick)) }
}

/// Another action of the release runs the same task.
pub(crate) fn twice_in_a_release(name: &str, stage: &str, action: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "{stage}/{action} of this release runs `{name}`, too, and what that has run would be taken for this action's: give the task a second \
         name in deploy.yaml, with the same command, and name that one here"
    ))
}

/// Nobody waits for this run any more.
pub(crate) fn taken_over() -> Verdict {
    Verdict::failed("The release was stopped, and this stage is tried again: that try takes up what it finds.")
}

/// The verdict: first cause first, so that its first 250 characters suffice alone.
pub(crate) fn failed(tick: &Tick<'_>, plan: &Plan, state: &State, lines: &[String]) -> Verdict {
    let lines: Vec<_> = lines.iter().map(|line| fit(plain(line).trim_end(), LONGEST_LINE)).collect();
    let mut message = match &state.cause {
        None => format!("{} was stopped with the release.", plan.name),
        Some(cause) => {
            let name = plan.sites.get(cause.environment).map_or("?", |site| site.name.as_str());
            let mut first = format!("{} failed in {name}: {}.", plan.name, cause.what);
            if let Some(said) = shared::text::said(&lines) {
                let _ = write!(first, " {said}");
            }
            first
        }
    };
    let becoming = plan.sites.iter().enumerate().filter_map(|(at, site)| {
        if state.cause.as_ref().is_some_and(|cause| cause.environment == at) {
            return None;
        }
        let became = match site.seen(state.at(at), tick) {
            Site::Succeeded { seconds } => format!("succeeded in {}", spoken(Duration::from_secs(seconds))),
            Site::Stopped => "stopped".into(),
            Site::Failed { what, .. } => format!("failed too: {what}"),
            Site::Empty | Site::NoRoom { .. } => "not started".into(),
            Site::Live { .. } | Site::Unknown | Site::Asked => "still running".into(),
        };
        Some(format!("{}: {became}", site.name))
    });
    let becoming: Vec<_> = becoming.collect();
    if !becoming.is_empty() {
        let _ = write!(message, "\n\nThe others\n  {}", becoming.join("\n  "));
    }
    if let Some(site) = state.cause.as_ref().and_then(|cause| plan.sites.get(cause.environment)) {
        if let Some(task) = &site.task {
            let reason = task.stopped_reason.as_deref().unwrap_or("none");
            let code = task.stop_code.as_deref().unwrap_or("none");
            let _ = write!(message, "\n\n{}: task {}\n  stop code: {code}; reason: {reason}", site.name, task.id());
        }
        if !lines.is_empty() {
            let _ = write!(message, "\n  last lines:\n    {}", lines.join("\n    "));
        }
    }
    let runs = plan.sites.iter().enumerate().filter_map(|(at, site)| {
        let seen = site.seen(state.at(at), tick);
        let lives = |task: &&Task| !task.is_over() && matches!(seen, Site::Live { .. } | Site::Failed { .. });
        let task = site.task.as_ref().filter(lives)?;
        Some(format!("{}: task {}", site.name, task.id()))
    });
    let runs: Vec<_> = runs.collect();
    if !runs.is_empty() {
        let _ = write!(
            message,
            "\n\nStill running although it was asked to end; stop it by hand:\n  {}",
            runs.join("\n  ")
        );
    }
    if let Some(url) = logs_url(tick) {
        let _ = write!(message, "\n\nAll lines: {url}");
    }
    Verdict::failed(message)
}
