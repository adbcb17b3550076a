//! How long a release's steps usually take: of those that succeeded in the last releases, the median and the 90th percentile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::time::{Time, spoken};

/// How many releases count.
const OF: usize = 10;

/// How many times as long as the slowest of the last ones is worth a word.
const SLOW: u32 = 3;

/// How many seconds that must be at least: what is over in a moment is never slow.
const LEAST_SLOW: u64 = 60;

/// By stage and action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usual(BTreeMap<String, Usually>);

/// How long a step usually takes, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usually {
    /// The median.
    pub median: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The longest.
    pub slowest: u64,
    /// Of how many.
    pub of: usize,
}

/// Seconds in words.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    if seconds == 0 { "under 1 s".into() } else { spoken(Duration::from_secs(seconds)) }
}

impl Usual {
    /// From records, the newest first.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let mut took: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for record in records {
            for step in record.actions.iter().filter(|step| step.status == "Succeeded") {
                let of_step = took.entry(format!("{}/{}", step.stage, step.action)).or_default();
                if of_step.len() < OF {
                    of_step.push(step.ended.since(step.began).as_secs());
                }
            }
        }
        Self(took.into_iter().map(|(name, took)| (name, Usually::of(took))).collect())
    }

    /// How long an action usually takes.
    #[must_use]
    pub fn step(&self, stage: &str, action: &str) -> Option<Usually> {
        self.0.get(&format!("{stage}/{action}")).copied()
    }

    /// What is said at once of an action that has become slow between two moments.
    #[must_use]
    pub fn has_become_slow(&self, stage: &str, action: &str, begun: Time, between: (Time, Time)) -> Option<String> {
        let usually = self.step(stage, action)?;
        let (before, now) = (between.0.since(begun).as_secs(), between.1.since(begun).as_secs());
        let slow = before <= usually.slow_after() && now > usually.slow_after();
        slow.then(|| format!("{stage}/{action} is {}", usually.slow()))
    }

    /// What a summary says of an action that is under way: "usually 4 min 00 s, p90 9 min 00 s; about 1 min 10 s left".
    #[must_use]
    pub fn said(&self, stage: &str, action: &str, begun: Time, now: Time) -> Option<String> {
        let usually = self.step(stage, action)?;
        let passed = now.since(begun).as_secs();
        let left = match usually {
            slow if passed > slow.slow_after() => slow.slow(),
            Usually { median, .. } if passed < median => format!("about {} left", seconds(median - passed)),
            Usually { p90, .. } if passed < p90 => format!("at most {} left in nine of ten", seconds(p90 - passed)),
            Usually { .. } => "longer than nine of ten".into(),
        };
        Some(format!("{}; {left}", usually.said()))
    }
}

impl Usually {
    /// After how many seconds it is worth a word.
    fn slow_after(&self) -> u64 {
        (u64::from(SLOW) * self.slowest).max(LEAST_SLOW)
    }

    fn slow(&self) -> String {
        let (of, slowest) = (self.of, seconds(self.slowest));
        format!("SLOW: more than {SLOW} times as long as the slowest of the last {of} ({slowest})")
    }

    /// The nearest rank: of ten, the fifth and the ninth.
    fn of(mut took: Vec<u64>) -> Self {
        took.sort_unstable();
        let rank = |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1));
        let value = |percent| rank(percent).copied().unwrap_or_default();
        Self { median: value(50), p90: value(90), slowest: value(100), of: took.len() }
    }

    /// "usually 4 min 00 s, p90 9 min 00 s".
    #[must_use]
    pub fn said(&self) -> String {
        format!("usually {}, p90 {}", seconds(self.median), seconds(self.p90))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn releases(took: &[u64]) -> Vec<Record> {
        let release = |took: &u64| {
            let step = |status: &str, took: u64| Step {
                stage: "Migrate".into(),
                action: "Migrate".into(),
                ended: Time::from_millis(took * 1000),
                status: status.into(),
                ..Step::default()
            };
            Record { actions: vec![step("Failed", 9_999), step("Succeeded", *took)], ..Record::default() }
        };
        took.iter().map(release).collect()
    }

    #[test]
    fn the_median_and_the_90th_percentile_are_of_the_last_ten_that_succeeded() {
        for (took, median, p90, slowest) in [
            (&[60][..], 60, 60, 60),
            (&[10, 20], 10, 20, 20),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 5, 9, 10),
            (&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1_000], 5, 9, 10),
        ] {
            let usually = Usual::of(&releases(took)).step("Migrate", "Migrate").unwrap();
            assert_eq!((usually.median, usually.p90, usually.slowest), (median, p90, slowest), "{took:?}");
        }
        assert_eq!(Usual::of(&[]).step("Migrate", "Migrate"), None);
    }

    #[test]
    fn what_has_become_slow_is_said_once_and_not_of_what_was_before() {
        let usual = Usual::of(&releases(&[60]));
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        for (before, now, expected) in [(0, 180, false), (0, 181, true), (180, 181, true), (181, 182, false)] {
            let said = usual.has_become_slow("Migrate", "Migrate", at(0), (at(before), at(now)));
            assert_eq!(said.is_some(), expected, "{before} to {now}");
        }
        let said = usual.has_become_slow("Migrate", "Migrate", at(0), (at(0), at(500))).unwrap();
        assert_eq!(
            said,
            "Migrate/Migrate is SLOW: more than 3 times as long as the slowest of the last 1 (1 min 00 s)"
        );
        assert_eq!(usual.has_become_slow("Migrate", "Other", at(0), (at(0), at(500))), None);
        let quick = Usual::of(&releases(&[1]));
        let is_slow = |now| quick.has_become_slow("Migrate", "Migrate", at(0), (at(0), at(now))).is_some();
        assert_eq!([60, 61].map(is_slow), [false, true]);
    }

    #[test]
    fn what_is_left_is_said_and_what_takes_three_times_as_long_as_ever_is_called_slow() {
        let usual = Usual::of(&releases(&[60, 60, 60, 60, 60, 60, 60, 60, 120, 150]));
        for (passed, left) in [
            (20, "usually 1 min 00 s, p90 2 min 00 s; about 40 s left"),
            (60, "usually 1 min 00 s, p90 2 min 00 s; at most 1 min 00 s left in nine of ten"),
            (450, "usually 1 min 00 s, p90 2 min 00 s; longer than nine of ten"),
            (
                451,
                "usually 1 min 00 s, p90 2 min 00 s; SLOW: more than 3 times as long as the slowest of the last 10 (2 min 30 s)",
            ),
        ] {
            let now = Time::from_millis(passed * 1000);
            assert_eq!(usual.said("Migrate", "Migrate", Time::default(), now).as_deref(), Some(left));
        }
        assert_eq!(usual.said("Deploy", "Deploy", Time::default(), Time::default()), None);
    }
}
