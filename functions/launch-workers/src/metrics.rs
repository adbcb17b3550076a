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
        // One whose start fails again and again has a place, and nobody who works on it; nor does a task that never comes up.
        let has_worker = |id: &String| {
            let of_it = |place: &&Place| place.job.as_ref().is_some_and(|job| job.id == *id);
            ledger.places.iter().filter(of_it).any(|place| place.started.is_some())
        };
        self.running = ledger.places.len();
        self.idle = ledger.places.iter().filter(|place| place.job.is_none()).count();
        self.waiting = ids.iter().filter(|id| !has_worker(id)).count();
        self.oldest = oldest.filter(|_| self.waiting > 0).unwrap_or_default();
    }
}

/// Says it.
pub(crate) fn emit(environment: &str, worker: &str, counts: &Counts) {
    metrics(Time::of_system(), &[("Environment", environment), ("Worker", worker)], &values(counts));
}

/// What is told: how it stands at every look, and what has happened when it has. Each costs what a custom metric does, for the hours in which
/// it is told.
fn values(counts: &Counts) -> Vec<(&'static str, Unit, f64)> {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let mut values = vec![
        ("WorkersRunning", Unit::Count, number(counts.running)),
        ("WorkersIdle", Unit::Count, number(counts.idle)),
        ("JobsWaiting", Unit::Count, number(counts.waiting)),
        ("OldestJobSeconds", Unit::Seconds, counts.oldest.as_secs_f64()),
    ];
    let happened = [
        ("WorkersStarted", counts.started),
        ("WorkersFailed", counts.failed),
        ("WorkersNotStarted", counts.not_started),
        ("JobsImpossible", counts.impossible),
        ("RunsSkipped", counts.skipped),
        ("RunsMissed", counts.missed),
    ];
    values.extend(
        happened.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, Unit::Count, number(count))),
    );
    values
}

#[cfg(test)]
mod tests {
    use shared::workers::ledger::{Held, Place};

    use super::*;

    #[test]
    fn a_job_waits_until_its_worker_runs() {
        let held = |id: &str| Held { id: id.into(), since: Time::from_millis(1), schedule: None };
        let place = |id: &str, started| Place {
            start: 0,
            asked: Time::from_millis(1),
            unseen: None,
            definition: "d".into(),
            container: None,
            task: Some(format!("t-{id}")),
            started,
            job: Some(held(id)),
        };
        let mut ledger = Ledger::begun(Time::from_millis(1), 7);
        ledger.places = vec![place("1", Some(Time::from_millis(2))), place("2", None)];
        let mut counts = Counts::default();
        let ids = ["1", "2", "3"].map(str::to_owned).into();
        counts.note(&ledger, &ids, Some(Duration::from_secs(9)));
        assert_eq!(
            (counts.waiting, counts.oldest.as_secs()),
            (2, 9),
            "one that stays PENDING for ever works on nothing"
        );
    }

    #[test]
    fn what_has_not_happened_costs_no_metric() {
        assert_eq!(values(&Counts::default()).len(), 4);
        let counts = Counts { started: 2, missed: 1, ..Counts::default() };
        let told: Vec<_> = values(&counts).into_iter().map(|(name, _, value)| (name, value)).collect();
        assert_eq!(told[4..], [("WorkersStarted", 2.0), ("RunsMissed", 1.0)]);
    }
}
