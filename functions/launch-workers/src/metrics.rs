//! What CloudWatch is told of workers, in its embedded metric format: a line of the function's own log.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::Time;
use shared::metrics::{Unit, metrics};
use shared::workers::ledger::{Ledger, Place};

/// What was seen of a kind in an environment, and done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Whether it was seen at all how it stands.
    pub(crate) are_noted: bool,
    running: usize,
    idle: usize,
    waiting: usize,
    oldest: Duration,
    pub(crate) started: usize,
    pub(crate) failed: usize,
    pub(crate) not_started: usize,
    pub(crate) skipped: usize,
    pub(crate) missed: usize,
    pub(crate) impossible: usize,
}

impl Counts {
    /// How it stands.
    pub(crate) fn note(&mut self, ledger: &Ledger, ids: &BTreeSet<String>, oldest: Option<Duration>) {
        self.are_noted = true;
        // One whose start fails again and again has a place, and nobody who works on it.
        let has_task = |id: &String| {
            let of_it = |place: &&Place| place.job.as_ref().is_some_and(|job| job.id == *id);
            ledger.places.iter().filter(of_it).any(|place| place.task.is_some())
        };
        self.running = ledger.places.len();
        self.idle = ledger.places.iter().filter(|place| place.job.is_none()).count();
        self.waiting = ids.iter().filter(|id| !has_task(id)).count();
        self.oldest = oldest.filter(|_| self.waiting > 0).unwrap_or_default();
    }
}

/// Says it.
pub(crate) fn emit(environment: &str, worker: &str, counts: &Counts) {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    metrics(
        Time::of_system(),
        &[("Environment", environment), ("Worker", worker)],
        &[
            ("WorkersRunning", Unit::Count, number(counts.running)),
            ("WorkersIdle", Unit::Count, number(counts.idle)),
            ("WorkersStarted", Unit::Count, number(counts.started)),
            ("WorkersFailed", Unit::Count, number(counts.failed)),
            ("WorkersNotStarted", Unit::Count, number(counts.not_started)),
            ("JobsWaiting", Unit::Count, number(counts.waiting)),
            ("JobsImpossible", Unit::Count, number(counts.impossible)),
            ("OldestJobSeconds", Unit::Seconds, counts.oldest.as_secs_f64()),
            ("RunsSkipped", Unit::Count, number(counts.skipped)),
            ("RunsMissed", Unit::Count, number(counts.missed)),
        ],
    );
}
