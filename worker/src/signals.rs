//! Signals by name, and the sequence of them that ends a worker well.
//!
//! Invariant: the steps of a sequence are in the order of their times, and there is at least one.

use std::time::Duration;

use nix::sys::signal::Signal;

/// What is sent to end a worker, and when, counted from the stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sequence(Vec<(Duration, Signal)>);

impl Sequence {
    /// Reads `QUIT`, `TSTP,150s:TERM` or `TSTP,-30s:TERM`; a time with a minus counts back from the end of `timeout`.
    pub(crate) fn read(text: &str, timeout: Duration) -> Result<Self, String> {
        let mut steps = Vec::<(Duration, Signal)>::new();
        for step in text.split(',') {
            let (at, name) = match step.split_once(':') {
                None => (Duration::ZERO, step),
                Some((at, name)) => match at.trim().strip_prefix('-') {
                    None => (duration(at)?, name),
                    Some(before) => (timeout.saturating_sub(duration(before)?), name),
                },
            };
            if steps.last().is_some_and(|(last, _)| *last > at) {
                return Err(format!("`{}` comes before what stands before it", step.trim()));
            }
            steps.push((at, signal(name)?));
        }
        Ok(Self(steps))
    }

    /// The steps in their order.
    pub(crate) fn steps(&self) -> &[(Duration, Signal)] {
        &self.0
    }

    /// The signal that it begins with.
    pub(crate) fn first(&self) -> Option<Signal> {
        self.0.first().map(|(_, signal)| *signal)
    }
}

/// Reads a signal's name, with or without `SIG`.
pub(crate) fn signal(name: &str) -> Result<Signal, String> {
    let upper = name.trim().to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    full.parse().map_err(|_| format!("`{}` is no signal that can be sent by name, such as QUIT", name.trim()))
}

/// The name without `SIG`.
pub(crate) fn short(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

/// Reads a duration as people write it: `90s`, `30m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|_| format!("`{}` is no duration, such as 90s, 30m or 1h 30m", text.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(120);

    #[test]
    fn a_sequence_is_read_as_people_write_it() {
        let at = Duration::from_secs;
        for (text, expected) in [
            ("QUIT", vec![(at(0), Signal::SIGQUIT)]),
            ("sigquit", vec![(at(0), Signal::SIGQUIT)]),
            ("TSTP, 1m 40s:TERM", vec![(at(0), Signal::SIGTSTP), (at(100), Signal::SIGTERM)]),
            (
                "TSTP,-30s:TERM,-5s:KILL",
                vec![(at(0), Signal::SIGTSTP), (at(90), Signal::SIGTERM), (at(115), Signal::SIGKILL)],
            ),
            // A time-out that is shorter than what is kept back: at once.
            ("TSTP,-3m:TERM", vec![(at(0), Signal::SIGTSTP), (at(0), Signal::SIGTERM)]),
            ("10s:TERM", vec![(at(10), Signal::SIGTERM)]),
        ] {
            assert_eq!(Sequence::read(text, TIMEOUT).unwrap().steps(), expected, "{text}");
        }
    }

    #[test]
    fn a_sequence_that_cannot_be_is_refused_with_the_part_that_is_wrong() {
        for (text, said) in [
            ("", "`` is no signal"),
            ("STOPP", "`STOPP` is no signal"),
            ("QUIT,", "`` is no signal"),
            ("QUIT,5:TERM", "`5` is no duration"),
            ("QUIT,10s:TERM,5s:KILL", "`5s:KILL` comes before"),
            ("10s:QUIT,TERM", "`TERM` comes before"),
        ] {
            let error = Sequence::read(text, TIMEOUT).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
