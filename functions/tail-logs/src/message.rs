//! Every sentence of `tail-logs` that a person reads.

use shared::aws::ecs::ContainerDefinition;
use shared::text::count;
use shared::{Progress, Success, Tick, Verdict, names};

use crate::source::{Site, Tail};

/// What stands in front of each line: the environment, padded so that lines align, and the container where a task has
/// several.
pub(crate) fn prefix(environment: &str, width: usize, container: Option<&str>) -> String {
    match container {
        Some(container) => format!("{environment:width$} {container} | "),
        None => format!("{environment:width$} | "),
    }
}

/// The line that begins a container's part of the stream: where its own log is, or why its lines are not here.
pub(crate) fn header(task: &str, id: &str, container: &ContainerDefinition) -> String {
    let name = &container.name;
    match (&container.logs, &container.log_driver) {
        (Some(source), _) => {
            let link = names::log_link(&source.region, &source.group, &source.stream(name, id));
            format!("{task}: container `{name}` of task {id}: {link}")
        }
        (None, Some(driver)) => {
            format!("{task}: container `{name}` of task {id} logs with `{driver}`, so its lines are not shown here")
        }
        (None, None) => format!("{task}: container `{name}` of task {id} has no log, so its lines are not shown here"),
    }
}

/// The line that ends an environment's part of the stream.
pub(crate) fn closing(task: &str, site: &Site) -> String {
    let lines: u64 = site.sources.iter().map(|source| source.lines).sum();
    let lines = count(usize::try_from(lines).unwrap_or(usize::MAX), "line");
    match site.sources.last() {
        Some(source) => format!("{task} complete: {lines} (task {})", source.task),
        None => format!("{task} complete: no task was started here this time"),
    }
}

/// "migrate: 120 lines from us, eu and ap".
pub(crate) fn progress(tick: &Tick<'_>, tail: &Tail) -> Progress {
    Progress { summary: summary(tail), percent: None, link: Some(link(tick)) }
}

/// What was forwarded.
pub(crate) fn done(tick: &Tick<'_>, tail: &Tail) -> Success {
    Success { summary: summary(tail), variables: Vec::new(), link: Some(link(tick)) }
}

/// The task's action has failed, and the stage with it.
pub(crate) fn failed_with_it(tail: &Tail) -> Verdict {
    Verdict::failed(format!(
        "{} failed: see the action beside this one. Its log is complete: {}. This action ends with it so that a retry of \
         the stage shows the log again.",
        tail.task,
        summary(tail)
    ))
}

/// The tail was lost; the release goes on.
pub(crate) fn lost(tick: &Tick<'_>, tail: &Tail, why: &Verdict) -> Success {
    let summary = format!("Warning: the logs of {} could not be followed to their end. {}", tail.task, why.message);
    Success { summary, variables: Vec::new(), link: Some(link(tick)) }
}

fn link(tick: &Tick<'_>) -> String {
    names::console_encoded(&names::log_stream(tick.release))
}

fn summary(tail: &Tail) -> String {
    let of = |site: &Site| site.sources.iter().map(|source| source.lines).sum::<u64>();
    let each: Vec<_> = tail.sites.iter().map(|site| format!("{} {}", site.name, of(site))).collect();
    let total = usize::try_from(tail.sites.iter().map(of).sum::<u64>()).unwrap_or(usize::MAX);
    format!("{}: {} ({})", tail.task, count(total, "line"), each.join(", "))
}
