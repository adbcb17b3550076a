//! Every sentence of `launch-workers` that a person reads.

use shared::workers::jobs::Job;
use shared::workers::ledger::{Held, RETURNED};

use crate::decide::Left;
use crate::follow::News;

/// Why a job cannot be done: no release has brought any worker.
pub(crate) fn none_released() -> String {
    "no release of this stack has brought any worker yet: release a deploy.yaml with `workers`".into()
}

/// The same: there was such a worker.
pub(crate) fn gone(worker: &str, environment: &str) -> String {
    format!("the release that runs in {environment} has no worker `{worker}` any more")
}

/// What became of a job that nobody works on; none of one that has its worker already.
pub(crate) fn left(job: &Job, why: &Left) -> Option<String> {
    let Job { worker, environment, id, .. } = job;
    let schedule = job.by_clock.as_ref().map(|run| run.schedule.as_str()).unwrap_or_default();
    let due = job.by_clock.as_ref().map(|run| run.due.to_string()).unwrap_or_default();
    match why {
        Left::Taken => None,
        Left::Skipped => Some(format!(
            "{environment}/{worker}: the run of `{schedule}` that was due at {due} is left out: the last one has not ended"
        )),
        Left::Missed => Some(format!(
            "{environment}/{worker}: the run of `{schedule}` that was due at {due} was MISSED: it could not begin in time (no room, or a release ran the same task)"
        )),
        Left::Impossible(why) => Some(format!("{environment}/{worker}: job {id} cannot be done: {why}")),
    }
}

/// What happened to a worker.
pub(crate) fn news(environment: &str, worker: &str, news: &News) -> String {
    let of = |job: &Option<Held>| match job {
        Some(Held { id, schedule: None, .. }) if id == RETURNED => " (a job that AWS had taken from its worker)".into(),
        Some(Held { id, schedule: None, .. }) => format!(" (job {id})"),
        Some(Held { schedule: Some(schedule), .. }) => format!(" (by the clock: `{schedule}`)"),
        None => String::new(),
    };
    match news {
        News::Done { task, job } => format!("{environment}/{worker}: task {task} has ended{}", of(job)),
        News::Failed { task, job, why } => format!("{environment}/{worker}: task {task} FAILED{}: {why}", of(job)),
        News::NotStarted { task, why } => format!("{environment}/{worker}: task {task} could not start: {why}"),
    }
}
