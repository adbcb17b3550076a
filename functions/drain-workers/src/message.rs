//! Every sentence of `drain-workers` that a person reads.

use std::time::Duration;

use shared::aws::ecs::Task;
use shared::text::count;
use shared::time::spoken;
use shared::{Answer, Progress, Success, Tick, Time, Verdict, names};

use crate::decide::Phase;
use crate::service::{Deployed, Plan, Service};
use crate::tally::{Tallies, Tally};

/// How many busy tasks are named with a link: a summary has 2,048 characters (fact 6).
const NAMED: usize = 4;

/// How an old task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It runs.
    Busy,
    /// By itself, or after SIGTERM.
    Clean,
    /// By SIGKILL, so long after it was asked to end.
    Killed(Duration),
    /// By SIGKILL, since it was out of memory.
    OutOfMemory,
    /// Its machine was taken from it.
    TakenAway,
    /// With an error of its own.
    Failed,
}

/// How an old task ended: 137 is SIGKILL; 143, 131 and 130 are what a program ends with that leaves SIGTERM, SIGQUIT or SIGINT, with
/// which its init may have asked it to end, to its runtime.
pub(crate) fn ending(task: &Task) -> Ending {
    let has = |wanted: fn(i32) -> bool| task.containers.iter().any(|one| one.exit_code.is_some_and(wanted));
    if !task.is_over() {
        return Ending::Busy;
    }
    let is_oom = |reason: &Option<String>| reason.as_ref().is_some_and(|reason| reason.contains("OutOfMemory"));
    if has(|code| code == 137) {
        let asked = task.stopping.zip(task.stopped).map(|(asked, ended)| ended.since(asked));
        match (task.stop_code.as_deref(), asked) {
            _ if task.was_taken_away() => return Ending::TakenAway,
            _ if task.containers.iter().any(|one| is_oom(&one.reason)) => return Ending::OutOfMemory,
            // It has ended by itself: then the containers beside the one that works are asked to end, and killed.
            (Some("EssentialContainerExited"), _) if has(|code| matches!(code, 0 | 130 | 131 | 143)) => {}
            (Some("EssentialContainerExited"), _) | (_, None) => return Ending::Failed,
            (_, Some(after)) => return Ending::Killed(after),
        }
    }
    if has(|code| !matches!(code, 0 | 130 | 131 | 137 | 143)) { Ending::Failed } else { Ending::Clean }
}

/// It could not even begin, or broke; the release goes on.
pub(crate) fn not_drained(why: Verdict) -> Answer {
    let why = why.message.trim_end_matches('.');
    let summary = format!(
        "Warning: the old workers were not watched to their end: {why}. That fails nothing; old workers end by themselves when their \
         deployment does."
    );
    Answer::Succeeded(Success { summary, ..Success::default() })
}

/// "2 old workers still busy: us/worker 1, eu/worker 1".
pub(crate) fn progress(tick: &Tick<'_>, plan: &Plan) -> Progress {
    let busy = |service: &Service| service.old.values().filter(|task| !task.is_over()).count();
    let total: usize = plan.services.iter().map(busy).sum();
    let each = plan.services.iter().filter(|service| busy(service) > 0);
    let each: Vec<_> = each.map(|service| format!("{} {}", service.label(), busy(service))).collect();
    let list = if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) };
    Progress {
        summary: format!("{} still busy{list}", count(total, "old worker")),
        percent: None,
        link: Some(link(tick)),
    }
}

/// What is said in the release's log of an old task that has ended.
pub(crate) fn ended(service: &Service, task: &Task) -> String {
    let id = task.id();
    let what = match ending(task) {
        Ending::Busy => "is busy".to_owned(),
        Ending::Clean => "finished".to_owned(),
        Ending::Killed(after) => format!("was killed by SIGKILL {} after it was asked to end", spoken(after)),
        Ending::OutOfMemory => "was killed by SIGKILL: out of memory".to_owned(),
        Ending::TakenAway => "lost its machine (Spot)".to_owned(),
        Ending::Failed => "ended with an error".to_owned(),
    };
    format!("{} {} | old task {id} {what}", service.site.environment_name, service.site.service_name)
}

/// What became of all of them.
pub(crate) fn done(tick: &Tick<'_>, plan: &Plan, ended: &Tallies) -> Success {
    let mut warning = false;
    let mut named = Vec::new();
    let each: Vec<_> = plan
        .services
        .iter()
        .enumerate()
        .map(|(place, service)| {
            let (said, bad) = became(tick, service, &ended.of(place, service.old.values()), &mut named);
            warning |= bad;
            format!("{}: {said}", service.label())
        })
        .collect();
    let took = spoken(tick.now.since(tick.begun));
    let mut summary = match each.as_slice() {
        [] => "This release has no worker services.".to_owned(),
        _ => format!("{}Old workers after {took}: {}", if warning { "Warning. " } else { "" }, each.join("; ")),
    };
    if !named.is_empty() {
        let more = named.len().saturating_sub(NAMED);
        named.truncate(NAMED);
        summary.push_str(&format!(". Busy: {}", named.join(", ")));
        if more > 0 {
            summary.push_str(&format!(", and {more} more"));
        }
    }
    let variables = vec![("Summary", summary.clone())];
    Success { summary, variables, link: Some(link(tick)) }
}

/// What became of a service's old tasks, and whether somebody should do something about it; busy ones are `named`.
fn became(tick: &Tick<'_>, service: &Service, ended: &Tally, named: &mut Vec<String>) -> (String, bool) {
    if let Some(why) = &service.lost {
        return (format!("could not be watched: {why}"), true);
    }
    match &service.deployed {
        Deployed::NotYet(_) => return ("not seen".into(), true),
        Deployed::Not => return ("not deployed by this release".into(), false),
        Deployed::TakenBack => return ("rolled back by this release: its tasks are left alone".into(), false),
        Deployed::By(_) => {}
    }
    if service.phase() == Phase::Unknown {
        return ("its old tasks could not be seen in time: they end when its deployment does".into(), true);
    }
    let mut bad = false;
    let (mut busy, mut protected) = (0, 0);
    for task in service.old.values().filter(|task| !task.is_over()) {
        busy += 1;
        let until = service.protected.get(&task.arn);
        protected += usize::from(until.is_some());
        named.push(format!("{}{}", service.link(task), may_run(tick.now, until.copied())));
    }
    let Tally { clean, failed, killed, longest, out_of_memory, taken_away } = *ended;
    let mut said = vec![format!("{clean} of {} finished", ended.all() + busy)];
    if killed > 0 {
        bad = true;
        said.push(format!(
            "{killed} killed by SIGKILL after {}: raise its stopTimeout (Fargate: 120 s at most), end on SIGTERM (queue libraries \
             often want SIGQUIT: `worker --queue`, or STOPSIGNAL in the image), or let it protect itself while it works \
             (`worker job`, `--busy children`)",
            spoken(Duration::from_secs(longest.into()))
        ));
    }
    if out_of_memory > 0 {
        bad = true;
        said.push(format!("{out_of_memory} killed by SIGKILL: out of memory"));
    }
    if taken_away > 0 {
        bad = true;
        said.push(format!("{taken_away} lost their machine in the middle (Spot)"));
    }
    if failed > 0 {
        bad = true;
        said.push(format!("{failed} ended with an error"));
    }
    if busy > 0 && service.phase() == Phase::Baking {
        let bake = service.bake().unwrap_or_default();
        said.push(format!(
            "{busy} still there, {protected} of them protected: ECS ends them after its bake time of {}",
            spoken(bake)
        ));
    } else if busy > 0 {
        said.push(format!("{busy} still busy, {protected} of them protected: left to finish"));
    }
    (said.join(", "), bad)
}

/// How long a protected task may still run: its protection ends by itself.
fn may_run(now: Time, until: Option<Option<Time>>) -> String {
    match until {
        Some(Some(until)) => format!(" (protected for {} at most)", spoken(until.since(now))),
        Some(None) => " (protected)".into(),
        None => String::new(),
    }
}

/// The release was halted meanwhile.
pub(crate) fn halted() -> Success {
    let summary = "The release was stopped: the old workers are left alone.".to_owned();
    Success { summary, ..Success::default() }
}

fn link(tick: &Tick<'_>) -> String {
    names::console_encoded(&names::log_stream(tick.release))
}
