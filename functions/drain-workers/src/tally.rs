//! How many old tasks have ended, and how.
//!
//! Invariant: each is counted once. ECS shows what has stopped for about an hour (fact 19), and a drain may take many: what ended long ago is
//! remembered as a count, and what ended since is counted from what is seen.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::Time;
use shared::aws::ecs::Task;

use crate::message::{Ending, ending};

/// How often what has ended is counted for good: well before ECS shows it no more.
const EVERY: Duration = Duration::from_secs(30 * 60);

/// How long ago it must have ended for that: what ends may be shown late.
const SHOWN: Duration = Duration::from_secs(10 * 60);

/// For how many services it is remembered: a token has its limit.
const MOST: usize = 100;

/// The old tasks of one service that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    #[serde(rename = "c", skip_serializing_if = "is_none")]
    pub(crate) clean: u32,
    #[serde(rename = "f", skip_serializing_if = "is_none")]
    pub(crate) failed: u32,
    #[serde(rename = "k", skip_serializing_if = "is_none")]
    pub(crate) killed: u32,
    /// After how many seconds the last of those was that had been asked to end first.
    #[serde(rename = "s", skip_serializing_if = "is_none")]
    pub(crate) longest: u32,
    #[serde(rename = "o", skip_serializing_if = "is_none")]
    pub(crate) out_of_memory: u32,
    #[serde(rename = "t", skip_serializing_if = "is_none")]
    pub(crate) taken_away: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Tally {
    /// Counts a task that has ended; one that has not is none.
    pub(crate) fn add(&mut self, how: Ending) {
        match how {
            Ending::Busy => {}
            Ending::Clean => self.clean += 1,
            Ending::Failed => self.failed += 1,
            Ending::OutOfMemory => self.out_of_memory += 1,
            Ending::TakenAway => self.taken_away += 1,
            Ending::Killed(after) => {
                self.killed += 1;
                self.longest = self.longest.max(u32::try_from(after.as_secs()).unwrap_or(u32::MAX));
            }
        }
    }

    /// How many there are.
    pub(crate) fn all(&self) -> u32 {
        self.clean + self.failed + self.killed + self.out_of_memory + self.taken_away
    }
}

/// What is remembered of all services, by their places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tallies {
    /// Of those that had ended by then.
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
    #[serde(rename = "t", skip_serializing_if = "Vec::is_empty")]
    each: Vec<Tally>,
}

impl Tallies {
    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.until.is_none()
    }

    /// Counts for good what ended long ago, now and then; `begun` is when the drain began.
    pub(crate) fn keep<'a, I: Iterator<Item = &'a Task>>(
        &mut self,
        services: impl ExactSizeIterator<Item = I>,
        begun: Time,
        now: Time,
    ) {
        if services.len() > MOST || now.since(self.until.unwrap_or(begun)) < EVERY {
            return;
        }
        let until = now.before(SHOWN);
        self.each.resize(services.len(), Tally::default());
        for (tally, tasks) in self.each.iter_mut().zip(services) {
            for task in tasks.filter(|task| ended_in(task, self.until, Some(until))) {
                tally.add(ending(task));
            }
        }
        self.until = Some(until);
    }

    /// Those of the service at this place that have ended by now, of which these tasks are seen.
    pub(crate) fn of<'a>(&self, place: usize, seen: impl Iterator<Item = &'a Task>) -> Tally {
        let mut tally = self.each.get(place).copied().unwrap_or_default();
        for task in seen.filter(|task| ended_in(task, self.until, None)) {
            tally.add(ending(task));
        }
        tally
    }
}

/// Whether a task has ended after the one time, and not after the other.
fn ended_in(task: &Task, after: Option<Time>, until: Option<Time>) -> bool {
    let is_after = after.is_none_or(|after| task.stopped.is_some_and(|at| at > after));
    task.is_over() && is_after && until.is_none_or(|until| task.stopped.is_some_and(|at| at <= until))
}

#[cfg(test)]
mod tests {
    use shared::aws::ecs::Container;

    use super::*;

    fn ended(at: u64, code: i32) -> Task {
        Task {
            last_status: "STOPPED".into(),
            stopping: Some(Time::from_millis(at.saturating_sub(30_000))),
            stopped: Some(Time::from_millis(at)),
            stop_code: Some("ServiceSchedulerInitiated".into()),
            containers: vec![Container { name: "worker".into(), exit_code: Some(code), reason: None }],
            ..Task::default()
        }
    }

    #[test]
    fn what_ecs_shows_no_more_is_counted_once_and_what_ended_since_with_it() {
        let minute = |minutes: u64| minutes * 60_000;
        let at = |minutes| Time::from_millis(minute(minutes));
        let (begun, mut tallies) = (at(0), Tallies::default());
        let all = [ended(minute(2), 137), ended(minute(5), 0), ended(minute(25), 0), ended(minute(170), 1)];
        for now in 1..=180 {
            // It lists what stopped within the hour.
            let is_listed = |task: &&Task| {
                task.stopped.is_some_and(|ended| ended <= at(now) && at(now).since(ended) < Duration::from_secs(3600))
            };
            let seen: Vec<_> = all.iter().filter(is_listed).collect();
            tallies.keep([seen.iter().copied()].into_iter(), begun, at(now));
            let found = tallies.of(0, seen.into_iter());
            let ended = all.iter().filter(|task| task.stopped <= Some(at(now))).count();
            assert_eq!(found.all() as usize, ended, "after {now} min: {found:?}");
        }
        let found = tallies.of(0, std::iter::empty());
        assert_eq!((found.killed, found.longest, found.clean), (1, 30, 2));
    }

    #[test]
    fn a_drain_of_minutes_remembers_nothing() {
        let mut tallies = Tallies::default();
        let task = ended(60_000, 0);
        tallies.keep([std::iter::once(&task)].into_iter(), Time::from_millis(0), Time::from_millis(29 * 60_000));
        assert!(tallies.is_empty());
        assert_eq!(tallies.of(0, std::iter::once(&task)).clean, 1);
    }
}
