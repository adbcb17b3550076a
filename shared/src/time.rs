//! Time as data: milliseconds since the epoch, and a clock that follows tokio's, so that a test's hours pass in
//! milliseconds.
//!
//! Invariant: nothing but [`Invocation`](crate::Invocation) and a process's `main` asks the system for the time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00Z, which is also how AWS stamps log events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// The moment `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Reads what [`Display`](fmt::Display) writes, and EventBridge: RFC 3339, in UTC.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let read = aws_smithy_types::DateTime::from_str(text, aws_smithy_types::date_time::Format::DateTime);
        read.ok().map(Self::from)
    }

    /// What the system's clock says now.
    #[must_use]
    pub fn of_system() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Seconds since the epoch, with milliseconds, as AWS's JSON protocols write a timestamp.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ms, which is the year 287396")]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// How long it is since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl From<aws_smithy_types::DateTime> for Time {
    fn from(at: aws_smithy_types::DateTime) -> Self {
        Self(at.to_millis().ok().and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default())
    }
}

impl From<Time> for aws_smithy_types::DateTime {
    fn from(at: Time) -> Self {
        Self::from_millis(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}

/// RFC 3339 with seconds, in UTC.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = aws_smithy_types::DateTime::from_secs(i64::try_from(self.0 / 1000).unwrap_or(i64::MAX));
        match seconds.fmt(aws_smithy_types::date_time::Format::DateTime) {
            Ok(text) => f.write_str(&text),
            Err(_) => write!(f, "{} ms after the epoch", self.0),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A clock that was set once and follows tokio's from then on.
///
/// It is set at the start of each invocation: a sandbox is frozen between two, and a monotonic clock may stand still
/// meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Time,
    at: tokio::time::Instant,
}

impl Clock {
    /// A clock that says `now`, now.
    #[must_use]
    pub fn set(now: Time) -> Self {
        Self { base: now, at: tokio::time::Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.base.plus(self.at.elapsed())
    }
}

/// A duration as people say it: `850 ms`, `42 s`, `3 min 05 s`, `1 h 02 min`.
#[must_use]
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_as_people_say_it() {
        for (millis, said) in
            [(0, "0 ms"), (850, "850 ms"), (42_900, "42 s"), (185_000, "3 min 05 s"), (3_720_000, "1 h 02 min")]
        {
            assert_eq!(spoken(Duration::from_millis(millis)), said);
        }
    }

    #[test]
    fn a_moment_before_another_is_no_time_after_it() {
        assert_eq!(Time::from_millis(5).since(Time::from_millis(9)), Duration::ZERO);
    }
}
