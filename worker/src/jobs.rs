//! What the worker is busy with, as far as anybody has said: pure, total, clock-free.
//!
//! Invariant: a claim whose time is over counts for nothing; nobody who dies leaves the worker busy for ever.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long somebody is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lasting {
    /// Until then at most.
    Until(Duration),
    /// For as long as what claims it is there.
    Unknown,
}

/// The claims.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// `worker busy`, until `worker idle` or its time.
    said: Option<Duration>,
    /// Connections that hold a job each.
    held: BTreeMap<u64, Lasting>,
    /// Children of the command, when those are its jobs.
    children: usize,
}

impl Jobs {
    /// The worker is busy until then, or not as far as `busy` says: what held before.
    pub(crate) fn busy(&mut self, until: Option<Duration>) -> Option<Duration> {
        std::mem::replace(&mut self.said, until)
    }

    /// A connection holds a job.
    pub(crate) fn hold(&mut self, connection: u64, lasting: Lasting) {
        self.held.insert(connection, lasting);
    }

    /// Whether this many connections hold a job each, and this one does not.
    pub(crate) fn are(&self, most: usize, connection: u64) -> bool {
        self.held.len() >= most && !self.held.contains_key(&connection)
    }

    /// A connection holds none any more.
    pub(crate) fn release(&mut self, connection: u64) {
        self.held.remove(&connection);
    }

    /// The command has so many children.
    pub(crate) fn children(&mut self, count: usize) {
        self.children = count;
    }

    /// Forgets the claims whose time is over: how many those were.
    pub(crate) fn expire(&mut self, now: Duration) -> usize {
        let before = self.held.len() + usize::from(self.said.is_some());
        self.said = self.said.filter(|until| *until > now);
        self.held.retain(|_, lasting| *lasting > Lasting::Until(now));
        before - self.held.len() - usize::from(self.said.is_some())
    }

    /// How many jobs run.
    pub(crate) fn count(&self, now: Duration) -> usize {
        let held = self.held.values().filter(|lasting| **lasting > Lasting::Until(now)).count();
        held + self.children + usize::from(self.said.is_some_and(|until| until > now))
    }

    /// How long the longest of them lasts; `None` when none runs.
    pub(crate) fn lasting(&self, now: Duration) -> Option<Lasting> {
        let said = self.said.map(Lasting::Until);
        let children = (self.children > 0).then_some(Lasting::Unknown);
        let all = self.held.values().copied().chain(said).chain(children);
        all.max().filter(|lasting| *lasting > Lasting::Until(now))
    }

    /// When the next claim runs out by itself.
    pub(crate) fn next(&self, now: Duration) -> Option<Duration> {
        let held = self.held.values().filter_map(|lasting| match lasting {
            Lasting::Until(until) => Some(*until),
            Lasting::Unknown => None,
        });
        held.chain(self.said).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_longest_claim_counts_and_one_that_has_run_out_does_not() {
        let mut jobs = Jobs::default();
        assert_eq!((jobs.count(at(0)), jobs.lasting(at(0)), jobs.next(at(0))), (0, None, None));
        jobs.busy(Some(at(10)));
        jobs.hold(1, Lasting::Until(at(20)));
        assert_eq!((jobs.count(at(5)), jobs.lasting(at(5))), (2, Some(Lasting::Until(at(20)))));
        assert_eq!((jobs.count(at(10)), jobs.next(at(10))), (1, Some(at(20))));
        jobs.hold(2, Lasting::Unknown);
        assert_eq!((jobs.count(at(30)), jobs.lasting(at(30)), jobs.next(at(30))), (1, Some(Lasting::Unknown), None));
        assert_eq!((jobs.expire(at(30)), jobs.expire(at(30))), (2, 0), "each is told once");
        jobs.release(2);
        assert_eq!((jobs.count(at(30)), jobs.lasting(at(30))), (0, None));
    }

    #[test]
    fn idle_ends_what_busy_said_and_nothing_else() {
        let mut jobs = Jobs::default();
        jobs.busy(Some(at(100)));
        jobs.children(1);
        assert_eq!(jobs.busy(None), Some(at(100)));
        assert_eq!((jobs.count(at(1)), jobs.lasting(at(1))), (1, Some(Lasting::Unknown)));
        jobs.children(0);
        assert_eq!(jobs.lasting(at(1)), None);
    }
}
