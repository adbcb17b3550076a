//! Every sentence of `drain-workers` that a person reads.

use shared::aws::ecs::Task;
use shared::text::count;
use shared::time::spoken;
use shared::{Progress, Success, Tick, names};

use crate::service::{Plan, Service};

/// How the old tasks of a service ended, so far.
struct Ends {
    clean: usize,
    killed: usize,
    failed: usize,
    busy: usize,
    protected: usize,
}

fn ends(service: &Service) -> Ends {
    let mut ends = Ends { clean: 0, killed: 0, failed: 0, busy: 0, protected: 0 };
    for task in service.old.values() {
        if !task.is_over() {
            ends.busy += 1;
            ends.protected += usize::from(service.protected.contains_key(&task.arn));
        } else if has(task, |code| code == 137) {
            ends.killed += 1;
        // 143 is what a program ends with that leaves SIGTERM to its runtime.
        } else if has(task, |code| code != 0 && code != 143) {
            ends.failed += 1;
        } else {
            ends.clean += 1;
        }
    }
    ends
}

fn has(task: &Task, wanted: fn(i32) -> bool) -> bool {
    task.containers.iter().any(|container| container.exit_code.is_some_and(wanted))
}

/// "2 old workers still busy: us/worker 1, eu/worker 1".
pub(crate) fn progress(plan: &Plan) -> Progress {
    let busy: Vec<_> = plan.services.iter().map(|service| (service, ends(service).busy)).collect();
    let total: usize = busy.iter().map(|(_, busy)| busy).sum();
    let each = busy.iter().filter(|(_, busy)| *busy > 0).map(|(service, busy)| format!("{} {busy}", name(service)));
    let each: Vec<_> = each.collect();
    Progress {
        summary: format!("{} still busy: {}", count(total, "old worker"), each.join(", ")),
        percent: None,
        link: None,
    }
}

/// What became of all of them.
pub(crate) fn done(tick: &Tick<'_>, plan: &Plan) -> Success {
    let mut warning = false;
    let each = plan.services.iter().map(|service| {
        if let Some(why) = &service.lost {
            warning = true;
            return format!("{}: could not be watched: {why}", name(service));
        }
        if !service.is_of_this_release() {
            return format!("{}: not deployed by this release", name(service));
        }
        let ends = ends(service);
        let mut said = vec![format!("{} finished", ends.clean)];
        if ends.killed > 0 {
            warning = true;
            said.push(format!("{} killed by SIGKILL: raise its stopTimeout, or let it protect itself", ends.killed));
        }
        if ends.failed > 0 {
            warning = true;
            said.push(format!("{} ended with an error", ends.failed));
        }
        if ends.busy > 0 {
            said.push(format!("{} still busy, {} of them protected: left to finish", ends.busy, ends.protected));
        }
        format!("{}: {}", name(service), said.join(", "))
    });
    let each: Vec<_> = each.collect();
    let took = spoken(tick.now.since(tick.begun));
    let summary = match each.as_slice() {
        [] => "This release has no worker services.".to_owned(),
        _ => format!("{}Old workers after {took}: {}", if warning { "Warning. " } else { "" }, each.join("; ")),
    };
    let variables = vec![("Summary", summary.clone())];
    Success { summary, variables, link: Some(names::console_encoded(&names::log_stream(tick.release))) }
}

/// The release was halted meanwhile.
pub(crate) fn halted() -> Success {
    let summary = "The release was stopped: the old workers are left alone.".to_owned();
    Success { summary, ..Success::default() }
}

fn name(service: &Service) -> String {
    format!("{}/{}", service.environment_name, service.name)
}
