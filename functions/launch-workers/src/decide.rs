//! Which workers to start, from what is seen: pure, total, clock-free.
//!
//! Invariants: there are never more places than `most`; a job has one place at most. No worker is ever ended from here: nobody
//! outside can know that one is idle (AWS refuses to protect a task that is of no service), and each ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::Time;
use shared::aws::ecs::Task;
use shared::manifest::Overlap;
use shared::workers::Kind;
use shared::workers::jobs::Job;
use shared::workers::ledger::{Held, Ledger, Place, Start};

use crate::follow::{Followed, News, Seen, TRIES, follow};

/// How many tasks one call starts (fact 17).
const A_CALL: usize = 10;

/// A worker that is about to end by itself is given no job: it may be gone before it takes it.
const LAST_MOMENTS: Duration = Duration::from_secs(30);

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) job: Job,
    /// Whether it was taken before: its message came again.
    pub(crate) taken: bool,
}

/// One look.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    pub(crate) now: Time,
    /// What was released; none when the release has no such worker any more.
    pub(crate) kind: Option<&'a Kind>,
    /// The tasks of the ledger that ECS shows.
    pub(crate) tasks: &'a BTreeMap<String, Task>,
    /// The ids of all jobs that wait, and the oldest of them whole.
    pub(crate) ids: &'a std::collections::BTreeSet<String>,
    pub(crate) oldest: &'a [Waiting],
    /// Whether a release runs this task right now: never two at a time, and what runs by the clock waits, within its bound.
    pub(crate) is_released_now: bool,
}

/// What follows, beside what is written into the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// This job has its worker: it waits no longer. Before the ledger is written, since its place may be given up in there.
    Settle { id: String },
    /// Nobody will work on this one: afterwards.
    Leave { job: Job, why: Left },
}

/// Why a job is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was taken before.
    Taken,
    /// Its schedule's last run still goes on.
    Skipped,
    /// It could not begin in time.
    Missed,
    /// It cannot be done.
    Impossible(String),
}

/// What was decided: the ledger is what it was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) acts: Vec<Act>,
    pub(crate) news: Vec<News>,
}

/// Decides; what must be remembered goes into the ledger.
pub(crate) fn decide(seen: &Observation<'_>, ledger: &mut Ledger) -> Decided {
    let mut decided = Decided::default();
    let Followed { settled, news } = follow(&Seen { now: seen.now, tasks: seen.tasks, ids: seen.ids }, ledger);
    decided.acts.extend(settled.into_iter().map(|id| Act::Settle { id }));
    decided.news = news;
    ledger.failed.retain(|id, _| seen.ids.contains(id));
    if ledger.no_room.as_ref().is_some_and(|none| none.until <= seen.now) && seen.ids.is_empty() {
        ledger.no_room = None;
    }
    let Some(kind) = seen.kind else {
        let why = "the release that runs in this environment has no such worker";
        let gone = |one: &Waiting| Act::Leave { job: one.job.clone(), why: Left::Impossible(why.into()) };
        decided.acts.extend(seen.oldest.iter().filter(|one| place_of(ledger, &one.job.id).is_none()).map(gone));
        return decided;
    };
    let mut wanted: Vec<Option<Held>> = give_jobs(seen, kind, ledger, &mut decided);
    let room = |wanted: &[Option<Held>], ledger: &Ledger| ledger.places.len() + wanted.len() < most(kind);
    let is_there = |place: &&Place| !is_shown_ending(place, seen) && !is_lost(place, seen);
    let there = || ledger.places.iter().filter(is_there);
    let idle = there().filter(|place| is_warm(place, kind, seen.now)).count();
    let warm = usize::try_from(kind.warm).unwrap_or_default();
    // And one for each whose job goes back to its broker: nobody else would come for it. One too many waits for a job, and ends at its age.
    let coming = there().filter(|place| place.job.is_none() && place.started.is_none()).count();
    let owed = if kind.live.is_some() { ledger.owed } else { 0 };
    let mut missing = warm.saturating_sub(idle).max(owed.saturating_sub(coming));
    while missing > 0 && !is_pausing(ledger, seen.now) && room(&wanted, ledger) {
        wanted.push(None);
        missing -= 1;
    }
    for some in wanted.chunks(A_CALL) {
        start(seen.now, kind, some, ledger);
    }
    decided
}

fn most(kind: &Kind) -> usize {
    usize::try_from(kind.most).unwrap_or(usize::MAX)
}

fn place_of<'a>(ledger: &'a Ledger, id: &str) -> Option<&'a Place> {
    ledger.places.iter().find(|place| place.job.as_ref().is_some_and(|job| job.id == id))
}

/// Since there was no room, or workers could not start: each try costs a call, and changes nothing by itself.
fn is_pausing(ledger: &Ledger, now: Time) -> bool {
    ledger.no_room.as_ref().is_some_and(|none| none.until > now)
}

/// Gives jobs to workers that have none, and says for which ones new ones are needed.
fn give_jobs(seen: &Observation<'_>, kind: &Kind, ledger: &mut Ledger, decided: &mut Decided) -> Vec<Option<Held>> {
    let mut wanted: Vec<Option<Held>> = Vec::new();
    for Waiting { job, taken } in seen.oldest {
        let is_settled = decided.acts.contains(&Act::Settle { id: job.id.clone() });
        if is_settled || place_of(ledger, &job.id).is_some() {
            continue;
        }
        let schedule = job.by_clock.as_ref().map(|run| run.schedule.clone());
        let goes_on = |held: &&Held| held.schedule.is_some() && held.schedule == schedule;
        let of_places = ledger.places.iter().filter_map(|place| place.job.as_ref());
        let overlaps = of_places.chain(wanted.iter().flatten()).any(|held| goes_on(&held));
        let gave_up = ledger.failed.get(&job.id).filter(|failed| failed.times >= TRIES);
        let why = match &job.by_clock {
            _ if *taken => Some(Left::Taken),
            Some(run) if run.overlap == Overlap::Skip && overlaps => Some(Left::Skipped),
            Some(run) if run.is_missed(seen.now) => Some(Left::Missed),
            _ => gave_up.map(|failed| {
                Left::Impossible(format!(
                    "its worker could not start, {} times; the last time: {}",
                    failed.times, failed.why
                ))
            }),
        };
        if let Some(why) = why {
            decided.acts.push(Act::Leave { job: job.clone(), why });
            continue;
        }
        let held = Held { id: job.id.clone(), since: seen.now, schedule };
        // What runs by the clock is a task of its own.
        let may_share = held.schedule.is_none();
        let warm = |ledger: &Ledger, fits: &dyn Fn(&Place) -> bool| {
            let takes = |place: &Place| place.started.is_some() && !is_ending(place, seen) && fits(place);
            may_share.then(|| ledger.places.iter().position(takes)).flatten()
        };
        let full = ledger.places.len() + wanted.len() >= most(kind);
        let current = warm(ledger, &|place| is_warm(place, kind, seen.now));
        // One of the release before has the application's queue, too: better than none.
        let older = || warm(ledger, &|place| full && is_idle(place, kind, seen.now));
        if let Some(at) = current.or_else(older) {
            // It waits until the ledger says so: another function may write it first, and then this worker is not this job's.
            ledger.places[at].job = Some(held);
        } else if !full && !seen.is_released_now && !is_pausing(ledger, seen.now) {
            wanted.push(Some(held));
        }
    }
    wanted
}

/// Whether its task has crashed, was stopped or was interrupted, and is not over yet, or is not shown any more: it takes no job.
fn is_ending(place: &Place, seen: &Observation<'_>) -> bool {
    place.unseen.is_some() || is_shown_ending(place, seen)
}

fn is_shown_ending(place: &Place, seen: &Observation<'_>) -> bool {
    let task = place.task.as_ref().and_then(|arn| seen.tasks.get(arn));
    task.is_some_and(|task| task.desired_status == "STOPPED" || task.stopping.is_some())
}

/// Whether its task has not been shown for longer than lists lag: one that has just begun is not shown yet (fact 20), and is no reason
/// to start another.
fn is_lost(place: &Place, seen: &Observation<'_>) -> bool {
    place.unseen.is_some_and(|since| seen.now.since(since) > shared::aws::SHOWN)
}

/// Whether it waits for a job, and will for a while.
fn is_idle(place: &Place, kind: &Kind, now: Time) -> bool {
    // One that has not started yet does not end soon, however long that takes.
    let age = place.started.map_or(Duration::ZERO, |started| now.since(started));
    let ends_soon = kind.live.is_some_and(|live| age + LAST_MOMENTS >= Duration::from_secs(live));
    place.job.is_none() && !ends_soon
}

/// The same, of the released version, or about to be.
fn is_warm(place: &Place, kind: &Kind, now: Time) -> bool {
    is_idle(place, kind, now) && place.definition == kind.definition
}

fn start(now: Time, kind: &Kind, jobs: &[Option<Held>], ledger: &mut Ledger) {
    let number = ledger.next;
    ledger.next += 1;
    ledger.starts.push(Start {
        number,
        asked: now,
        count: jobs.len(),
        kind: kind.clone(),
        is_named: true,
        refused: None,
        late: None,
    });
    let place = |job: &Option<Held>| Place {
        start: number,
        asked: now,
        unseen: None,
        definition: kind.definition.clone(),
        container: Some(kind.container.clone()),
        task: None,
        started: None,
        job: job.clone(),
    };
    ledger.places.extend(jobs.iter().map(place));
}

#[cfg(test)]
mod tests;
