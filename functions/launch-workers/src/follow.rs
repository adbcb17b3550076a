//! What becomes of starts, of their tasks and of the jobs that these have: pure, total, clock-free.
//!
//! Invariants: a place is given up only when its task is seen to be over, or was never placed; a job that may have been worked on is
//! given to nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::Time;
use shared::aws::SHOWN;
use shared::aws::ecs::{Definition, Task, is_for_room};
use shared::end::{End, judge};
use shared::workers::ledger::{Failed, Held, Ledger, NoRoom, Place, RETURNED, Refused};

/// How long a task that ECS does not show is taken to be there all the same: longer than anything is shown late.
const GONE: Duration = Duration::from_secs(300);

/// How long workers are tried for what went back to the broker: by then, a person has looked.
const OWED: Duration = Duration::from_secs(6 * 3600);

/// How soon an idle worker takes what it is given, by the clocks of ECS and ours.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How often a worker that cannot start is tried for one job.
pub(crate) const TRIES: u32 = 3;

/// The first pause after a worker that could not start or found no room, doubled each time.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest such pause: the schedule looks once a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(50);

/// What is seen of the ledger's tasks and jobs.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) now: Time,
    /// The tasks of the ledger that ECS shows.
    pub(crate) tasks: &'a BTreeMap<String, Task>,
    /// The ids of all jobs that wait.
    pub(crate) ids: &'a BTreeSet<String>,
}

/// Something that people should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A worker has ended as it should.
    Done { task: String, job: Option<Held> },
    /// A worker has ended otherwise.
    Failed { task: String, job: Option<Held>, why: String },
    /// A worker could not start.
    NotStarted { task: String, why: String },
}

/// What has become of them, beside what is written into the ledger.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// The jobs that have their workers: they wait no longer.
    pub(crate) settled: Vec<String>,
    pub(crate) news: Vec<News>,
}

/// What became of each place's task.
pub(crate) fn follow(seen: &Seen<'_>, ledger: &mut Ledger) -> Followed {
    let (mut kept, mut followed) = (Vec::new(), Followed::default());
    for mut place in std::mem::take(&mut ledger.places) {
        let Some(arn) = place.task.clone() else {
            kept.push(place);
            continue;
        };
        let task = seen.tasks.get(&arn);
        let started = task.and_then(|task| task.started);
        let had_worked = place.started.is_some();
        place.started = place.started.or(started);
        place.unseen = if task.is_none() { place.unseen.or(Some(seen.now)) } else { None };
        let is_gone = place.unseen.is_some_and(|since| seen.now.since(since) > GONE);
        // ECS does not call a task started whose worker has ended before its other containers ran. One that nobody has seen start, and
        // that ECS has forgotten, may have worked: never two for one job.
        let has_worked = place.started.is_some() || is_gone || task.is_some_and(|task| has_run(task, &place));
        let is_over = task.is_some_and(Task::is_over);
        // No broker has the run of a schedule.
        let mut may_work = place.job.as_ref().is_none_or(|job| job.schedule.is_none());
        match takes(&place, task, seen) {
            Takes::Job(job) if has_worked && seen.ids.contains(&job.id) => {
                followed.settled.push(job.id.clone());
            }
            // It waits for another one.
            Takes::Nothing => (place.job, may_work) = (None, false),
            Takes::Job(_) | Takes::Perhaps => {}
        }
        // It has come for a job that went back to the broker, and is nobody else's.
        if place.job.is_none() && has_worked && !had_worked && ledger.owed > 0 {
            ledger.owed -= 1;
            place.job = Some(Held { id: RETURNED.into(), since: place.asked, schedule: None });
        }
        if !is_over && !is_gone {
            kept.push(place);
            continue;
        }
        let why = task.and_then(how_it_failed);
        // A capacity provider gives up by itself on a task for which it finds no room: that is no fault of the job.
        let lacked_room = task.is_some_and(|task| task.stopped_reason.as_deref().is_some_and(is_for_room));
        // Its library gives the job back to the broker, and asks for nobody. One without a job may have taken one there.
        if has_worked && may_work && task.is_some_and(Task::was_taken_away) {
            ledger.owed += 1;
            ledger.owed_since = Some(seen.now);
        }
        let task = shared::aws::ecs::id(&arn).to_owned();
        match (has_worked, why) {
            (true, None) if is_gone => {
                let why = "ECS does not know it any more, and nobody has seen how it ended".into();
                followed.news.push(News::Failed { task, job: place.job, why });
            }
            (true, None) => followed.news.push(News::Done { task, job: place.job }),
            (true, Some(why)) => followed.news.push(News::Failed { task, job: place.job, why }),
            (false, why) => {
                let why = why.unwrap_or_else(|| "it ended before it had started".into());
                followed.news.push(News::NotStarted { task, why: why.clone() });
                let times = match place.job.as_ref().filter(|_| !lacked_room) {
                    Some(job) => {
                        let times = ledger.failed.get(&job.id).map_or(1, |before| before.times + 1);
                        let failed = Failed { times, last: seen.now, why: why.clone() };
                        ledger.failed.insert(job.id.clone(), failed);
                        times
                    }
                    None => ledger.no_room.as_ref().map_or(1, |before| before.times + 1),
                };
                // The next one would end in the same way.
                pause(ledger, seen.now, times, why);
            }
        }
    }
    ledger.places = kept;
    if ledger.owed == 0 || ledger.owed_since.is_none_or(|since| seen.now.since(since) > OWED) {
        (ledger.owed, ledger.owed_since) = (0, None);
    }
    followed
}

/// Whether the container that works has run.
fn has_run(task: &Task, place: &Place) -> bool {
    let is_it = |name: &String| place.container.as_ref() == Some(name);
    // A container that could not be created may have an exit code, too.
    let could_start = |reason: &Option<String>| reason.as_ref().is_none_or(|reason| !reason.starts_with("Cannot"));
    let mut all = task.containers.iter();
    all.any(|one| is_it(&one.name) && one.exit_code.is_some() && could_start(&one.reason))
}

/// What becomes of the job that a worker has.
enum Takes<'a> {
    /// It works on it, or will.
    Job(&'a Held),
    /// It has none, or was given one right now: ECS may not show yet that it has just died.
    Perhaps,
    /// It was over when it was given its job.
    Nothing,
}

fn takes<'a>(place: &'a Place, task: Option<&Task>, seen: &Seen<'_>) -> Takes<'a> {
    let Some(job) = &place.job else { return Takes::Perhaps };
    if job.since <= place.asked {
        // It was started for it.
        return Takes::Job(job);
    }
    let ended = task.and_then(|task| task.stopping.or(task.stopped));
    match ended {
        Some(ended) if ended <= job.since.plus(AT_ONCE) => Takes::Nothing,
        Some(_) => Takes::Job(job),
        None if seen.now.since(job.since) < SHOWN => Takes::Perhaps,
        None => Takes::Job(job),
    }
}

/// How a task that is over ended, when not well. Its definition is not asked for: a container that ends badly is worth a word,
/// essential or not.
fn how_it_failed(task: &Task) -> Option<String> {
    match judge(task, &Definition::default()) {
        End::Succeeded => None,
        End::Stopped => Some(format!("somebody stopped it: {}", task.stopped_reason.as_deref().unwrap_or("no reason"))),
        End::Failed { what, .. } => Some(what),
    }
}

/// No start for a while.
fn pause(ledger: &mut Ledger, now: Time, times: u32, why: String) {
    let length = PAUSE.saturating_mul(1 << (times.clamp(1, 5) - 1)).min(LONGEST_PAUSE);
    let since = ledger.no_room.as_ref().map_or(now, |before| before.since);
    ledger.no_room = Some(NoRoom { since, times, until: now.plus(length), why });
}

/// What a start has come to: its tasks have their places, and those without one are given up; the jobs of these wait on.
pub(crate) fn started(ledger: &mut Ledger, number: u64, tasks: &[String], reasons: &[String], now: Time) {
    let mut tasks = tasks.iter();
    ledger.starts.retain(|start| start.number != number);
    ledger.places.retain_mut(|place| {
        if place.start != number || place.task.is_some() {
            return true;
        }
        place.task = tasks.next().cloned();
        place.task.is_some()
    });
    if reasons.is_empty() {
        ledger.no_room = None;
    } else {
        let times = ledger.no_room.as_ref().map_or(1, |before| before.times + 1);
        pause(ledger, now, times, reasons.join(", "));
    }
}

/// A start that was refused, and may have begun its tasks before: its places are kept until that is known.
pub(crate) fn refused_late(ledger: &mut Ledger, number: u64, refused: Refused) {
    for start in ledger.starts.iter_mut().filter(|start| start.number == number) {
        start.refused.get_or_insert(refused.clone());
    }
}

/// A start that is not asked for any more, since it took too long: its places are kept until it is known whether it has begun.
pub(crate) fn late(ledger: &mut Ledger, number: u64, now: Time) {
    for start in ledger.starts.iter_mut().filter(|start| start.number == number) {
        start.late.get_or_insert(now);
    }
}

/// A start that was refused: its places are given up, and nobody can work on their jobs. Their ids.
pub(crate) fn refused(ledger: &mut Ledger, number: u64, now: Time, why: &str) -> Vec<String> {
    let is_of = |place: &Place| place.start == number && place.task.is_none();
    let ids = ledger.places.iter().filter(|place| is_of(place)).filter_map(|place| place.job.as_ref());
    let ids: Vec<String> = ids.map(|job| job.id.clone()).collect();
    for id in &ids {
        // Whoever looks before they are in the queue of those that cannot be done starts nothing for them.
        ledger.failed.insert(id.clone(), Failed { times: TRIES, last: now, why: why.to_owned() });
    }
    ledger.starts.retain(|start| start.number != number);
    ledger.places.retain(|place| !is_of(place));
    let times = ledger.no_room.as_ref().map_or(1, |before| before.times + 1);
    pause(ledger, now, times, why.to_owned());
    ids
}
