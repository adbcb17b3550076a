//! Laws 2, 3, 4, 6 and 10, as far as they are about tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Life};
use shared::Time;
use shared::aws::SHOWN;
use shared::names::read_worker_started_by;

use super::{Ended, none};
use crate::Meddling;
use crate::laws::fault::{Fault, Shown};
use crate::laws::shape::WORKER;

/// When a task began and was over.
type Span<'a> = (Time, Time, &'a Life);

/// A task's container runs at most once per environment and try, and never again after it has succeeded.
pub(super) fn a_task_runs_once_per_environment_and_try(ended: &Ended<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (whose, lives) in by_whose(ended) {
        let retries: Vec<_> =
            ended.deeds.retries.iter().filter(|(execution, _)| *execution == whose.0).map(|(_, at)| *at).collect();
        let try_of = |life: &Life| retries.iter().filter(|at| **at <= life.created).count();
        let ran: Vec<_> = lives.iter().filter(|life| life.started.is_some()).collect();
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for life in &ran {
            *counts.entry(try_of(life)).or_default() += 1;
        }
        if counts.values().any(|count| *count > 1) {
            wrong.push(format!("{whose:?} ran more than once in a try: {ran:#?}"));
        }
        let done = ran.iter().filter(|life| life.has_succeeded()).filter_map(|life| life.stopped).min();
        if ran.iter().any(|life| done.is_some_and(|done| life.created > done)) {
            wrong.push(format!("{whose:?} ran again after it had succeeded: {ran:#?}"));
        }
    }
    none("tasks that ran too often", &wrong)
}

/// A task never runs twice at a time in one environment, not even for two releases, nor by the clock beside a release. That both begin
/// before either is listed is said in docs/workers.md.
pub(super) fn a_task_never_runs_twice_at_a_time(ended: &Ended<'_>) -> Result<(), String> {
    let mut spans: BTreeMap<(&str, &str), Vec<Span<'_>>> = BTreeMap::new();
    let by_releases = ended.own_lives().map(|(life, whose)| (life, (whose.task, whose.environment)));
    let tasks = ended.lives.iter().filter_map(|life| Some((life, by_clock(life)?)));
    for (life, whose) in by_releases.chain(tasks) {
        let Some(started) = life.started else { continue };
        let span = (started, life.stopped.unwrap_or(Time::from_millis(u64::MAX)), life);
        spans.entry(whose).or_default().push(span);
    }
    // Nobody sees another's task within the time of two calls, nor one that is shown late, or came about late.
    let shown_late = |fault: &Fault| {
        matches!(fault, Fault::Late { what: Shown::Tasks | Shown::ListedTasks | Shown::DescribedTasks, .. })
    };
    let came_late = |seen: &super::Seen| {
        matches!(
            seen.meddling,
            Meddling::HangThenDo | Meddling::DoneLate(_) | Meddling::InternalDone | Meddling::LoseReply
        )
    };
    let is_late = ended.plan.faults.iter().any(shown_late) || ended.seen.iter().any(came_late);
    let unseen = if is_late { SHOWN } else { Duration::from_secs(2) };
    let met = |one: &Life, other: &Life| {
        let apart = one.created.since(other.created).max(other.created.since(one.created));
        by_clock(one).is_some() != by_clock(other).is_some() && apart < unseen
    };
    let mut wrong = Vec::new();
    for (whose, mut spans) in spans {
        spans.sort_by_key(|(started, _, _)| *started);
        wrong.extend(
            spans
                .windows(2)
                .filter(|pair| pair[1].0 < pair[0].1 && !met(pair[0].2, pair[1].2))
                .map(|pair| format!("{whose:?}: {:#?} and {:#?}", pair[0].2, pair[1].2)),
        );
    }
    none("tasks that ran twice at a time", &wrong)
}

/// The task that runs by the clock, and where; workers are many at once.
fn by_clock(life: &Life) -> Option<(&str, &str)> {
    let (environment, name) = read_worker_started_by(&life.started_by)?;
    (name != WORKER).then_some((name, environment))
}

/// After success, every environment is migrated, and the steps before and after it are done; a way back runs no task.
pub(super) fn after_success_every_environment_is_migrated(ended: &Ended<'_>) -> Result<(), String> {
    let mut missing = Vec::new();
    let of_backs = ended.own_lives().filter(|(_, whose)| {
        ended.releases.iter().any(|release| release.is_back && release.execution == whose.execution)
    });
    none("tasks of a way back", &of_backs.map(|(life, _)| life).collect::<Vec<_>>())?;
    let released = ended.releases.iter().filter(|release| !release.is_back);
    for release in released.filter(|release| release.status == ExecutionStatus::Succeeded) {
        let shape = &ended.plan.shape;
        let wanted = shape.environments.iter().map(|place| ("migrate", place));
        let steps = shape.stepped().iter().flat_map(|place| [("prepare", place), ("finish", place)]);
        for (task, place) in wanted.chain(steps) {
            let done = ended.own_lives().any(|(life, whose)| {
                whose.execution == release.execution
                    && whose.task == task
                    && whose.environment == place.name
                    && life.has_succeeded()
            });
            if !done {
                missing.push(format!("{task} in {}", place.name));
            }
        }
    }
    none("releases succeeded without these tasks", &missing)
}

/// The environment that a failed task's verdict names first is one whose task failed first.
pub(super) fn the_first_cause_was_the_first(ended: &Ended<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for release in &ended.releases {
        for action in release.actions.iter().filter(|one| one.status == ActionStatus::Failed) {
            let verdict = action.error.as_deref().unwrap_or_default();
            let Some((task, rest)) = verdict.split_once(" failed in ") else { continue };
            let Some((environment, what)) = rest.split_once(": ") else { continue };
            if !what.starts_with("container ") {
                continue;
            }
            let failed = ended.own_lives().filter(|(life, whose)| {
                let own = whose.execution == release.execution && whose.task == task && life.created >= action.started;
                own && life.stopped.is_some_and(|at| at <= action.updated)
                    && life.stop_code != Some("UserInitiated")
                    && !life.has_succeeded()
            });
            let failed: Vec<_> =
                failed.filter_map(|(life, whose)| Some((life.stopped?, whose.environment.to_owned()))).collect();
            let first = failed.iter().map(|(at, _)| *at).min();
            if !failed.iter().any(|(at, name)| Some(*at) == first && name == environment) {
                wrong.push(format!("{} says {environment}; failed: {failed:?}", action.action));
            }
        }
    }
    none("verdicts that name another cause than the first", &wrong)
}

/// After a release has ended, none of its tasks runs, and none of its deployments is under way, unless their action has
/// succeeded: then they may wait for their old tasks.
pub(super) fn after_an_end_nothing_of_a_release_is_under_way(ended: &Ended<'_>) -> Result<(), String> {
    let (mut left, said) = (Vec::new(), ended.said());
    for release in ended.releases.iter().filter(|release| release.status.is_over()) {
        let own =
            ended.own_lives().filter(|(life, whose)| whose.execution == release.execution && life.stopped.is_none());
        left.extend(own.map(|(life, _)| format!("{} {:?}: {life:?}", release.execution, release.status)));
        if !release.stays_deployed() {
            let deployments = ended.stage.world().deployments();
            let spans = ended.stage.world().spans_of_deployments();
            let begun = |description: &String| spans.iter().find(|(one, ..)| one == description).map(|one| one.1);
            let living = deployments.into_iter().filter(|(description, status)| {
                description.contains(&release.execution)
                    && !matches!(*status, "Succeeded" | "Failed" | "Stopped")
                    && !release.is_fact(begun(description))
            });
            left.extend(
                living
                    .filter(|(description, _)| !description.contains(" back, key "))
                    .map(|found| format!("{found:?}")),
            );
            let rollouts = ended.stage.world().rollouts();
            let own = rollouts.iter().filter(|one| one.image == release.image && !release.is_back);
            // People were told of it in capitals, and ECS goes on trying.
            let told = |service: &str| {
                service.split_once('-').is_some_and(|(environment, name)| {
                    said.iter().any(|line| line.contains(&format!("NOT ROLLED BACK: {environment}/{name} ")))
                })
            };
            let own = own.filter(|one| !told(&one.service) && !release.is_fact(Some(one.span.0)));
            left.extend(own.filter(|one| one.span.1.is_none()).map(|one| format!("{one:?}")));
        }
    }
    none("what is left of releases that are over", &left)
}

/// Every job that was sent gets one worker in its environment, and no second one; or it is told why it can have none.
pub(super) fn every_job_gets_one_worker(ended: &Ended<'_>) -> Result<(), String> {
    let (sent, done) = (&ended.deeds.jobs, crate::laws::people::jobs_done(ended.stage));
    if *sent == done {
        Ok(())
    } else {
        Err(format!("of the jobs {sent:?}, these have a worker or are told to be impossible: {done:?}"))
    }
}

/// No task of a service is ever stopped by hand, and none that protects itself is stopped at all.
pub(super) fn no_protected_task_is_stopped(ended: &Ended<'_>) -> Result<(), String> {
    let stopped = ended.lives.iter().filter(|life| {
        let by_hand = life.service.is_some() && life.stop_code == Some("UserInitiated");
        let protected = life.protected.zip(life.stopping).is_some_and(|(until, stopping)| stopping < until);
        let by_scaling = life.stop_code == Some("ServiceSchedulerInitiated");
        by_hand || (protected && by_scaling)
    });
    none("tasks of services that were stopped", &stopped.collect::<Vec<_>>())
}

fn by_whose<'a>(ended: &'a Ended<'_>) -> BTreeMap<(String, String, String), Vec<&'a Life>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (life, whose) in ended.own_lives() {
        let key = (whose.execution.to_owned(), whose.task.to_owned(), whose.environment.to_owned());
        found.entry(key).or_default().push(life);
    }
    found
}
