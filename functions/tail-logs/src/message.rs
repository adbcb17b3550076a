//! Every sentence of `tail-logs` that a person reads.

use shared::aws::ecs::ContainerDefinition;
use shared::text::count;
use shared::{Answer, Progress, Success, Tick, Verdict, names};

use crate::decide::MOST_CONTAINERS;
use crate::tail::{Site, Tail};

/// What stands in front of each line: the environment, and the container where a task has several, both padded so that
/// lines align.
pub(crate) fn label(environment: &str, width: usize, container: &str, container_width: usize) -> String {
    match container_width {
        0 => format!("{environment:width$} | "),
        _ => format!("{environment:width$} {container:container_width$} | "),
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

/// The line that ends an environment's part of the stream: what is complete is the log. How the task ended, its own action says.
pub(crate) fn closing(task: &str, site: &Site) -> String {
    let lines = count(usize::try_from(site.lines()).unwrap_or(usize::MAX), "line");
    let ids = site.tasks();
    let tasks = match ids.as_slice() {
        [] => {
            return match site.incomplete() {
                Some(why) => format!("{task} incomplete: {why}"),
                None => {
                    format!("{task} complete: no task was started here this time, or none with a log that can be read")
                }
            };
        }
        [one] => format!("task {one}"),
        // One that AWS interrupted was run again.
        _ => format!("tasks {}", ids.join(", ")),
    };
    match site.incomplete() {
        Some(why) => format!("{task} incomplete after {lines} ({tasks}): {why}"),
        None => format!("{task} complete: {lines} of its log ({tasks})"),
    }
}

/// Why nothing is known of an environment any more.
pub(crate) fn forgotten() -> String {
    "ECS shows its task no more, which ended long before the others: its lines are above, and were not counted again"
        .into()
}

/// Why some containers' lines are not there.
pub(crate) fn unfollowed(containers: usize) -> String {
    format!(
        "{} not followed: one action follows {MOST_CONTAINERS}; divide the task's environments among several",
        match containers {
            1 => "1 container was".to_owned(),
            _ => format!("{containers} containers were"),
        }
    )
}

/// "migrate: 120 lines from us, eu and ap".
pub(crate) fn progress(tick: &Tick<'_>, tail: &Tail) -> Progress {
    Progress { summary: counts(tail), percent: None, link: Some(link(tick)) }
}

/// What was forwarded.
pub(crate) fn done(tick: &Tick<'_>, tail: &Tail) -> Success {
    Success { summary: summary(tail), variables: Vec::new(), link: Some(link(tick)) }
}

/// What was forwarded, when it is counted still.
pub(crate) fn shown(tick: &Tick<'_>, tail: &Tail) -> Success {
    let summary = format!("{}{}", counts(tail), warning(tail, Site::missing));
    Success { summary, variables: Vec::new(), link: Some(link(tick)) }
}

/// The task's action has failed, and the stage with it.
pub(crate) fn failed_with_it(tail: &Tail) -> Verdict {
    Verdict::failed(format!(
        "{} failed: see the action beside this one. Its log: {}. This action ends with it so that a retry of \
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

/// The tail could not even begin, or broke; the release goes on.
pub(crate) fn not_followed(why: Verdict) -> Answer {
    let why = why.message.trim_end_matches('.');
    let summary = format!(
        "Warning: the log could not be followed: {why}. That fails nothing; each task's lines are in its own log stream."
    );
    Answer::Succeeded(Success { summary, ..Success::default() })
}

fn link(tick: &Tick<'_>) -> String {
    names::console_encoded(&names::log_stream(tick.release))
}

fn summary(tail: &Tail) -> String {
    format!("{}{}", counts(tail), warning(tail, Site::incomplete))
}

/// What is missing, of each environment where something is.
fn warning(tail: &Tail, why: impl Fn(&Site) -> Option<String>) -> String {
    let missing = tail.sites.iter().filter_map(|site| Some(format!("{}: {}", site.name, why(site)?)));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() { String::new() } else { format!(". Not complete: {}", missing.join("; ")) }
}

fn counts(tail: &Tail) -> String {
    let each: Vec<_> = tail.sites.iter().map(|site| format!("{} {}", site.name, site.lines())).collect();
    let total = usize::try_from(tail.sites.iter().map(Site::lines).sum::<u64>()).unwrap_or(usize::MAX);
    format!("{}: {} ({})", tail.task, count(total, "line"), each.join(", "))
}
