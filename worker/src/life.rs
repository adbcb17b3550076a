//! A worker's life: when it is up, when it is told to end, and what it ends with. Pure, total, clock-free: what happens and
//! the time come in, what is to be done goes out. Times are counted from the start of the command.
//!
//! Invariants: a stop begins once, and each of its signals is sent once (a second TERM kills the jobs of Celery and RQ); a
//! worker that is up stays so until a stop begins or it ends; it is never ended for its age while a job runs.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::message;
use crate::options::Rules;
use crate::process::End;

/// The warning comes this long before ECS's SIGKILL, which takes this process, too; a tenth of a shorter time-out.
const WARNED_BEFORE: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this to the command.
    Send(Signal),
    /// Tell people.
    Say(String),
}

/// What a health check is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not stayed up for long enough; so much is missing.
    Starting(Duration),
    /// It has.
    Up,
    /// A stop is under way.
    Stopping,
}

/// A life.
#[derive(Debug)]
pub(crate) struct Life {
    rules: Rules,
    /// What people call the command.
    name: String,
    /// Whether the first signal was sent for its age, while a job ran.
    told: bool,
    stop: Option<Stop>,
}

#[derive(Debug)]
struct Stop {
    since: Duration,
    /// When ECS asked for it; not yet, when it is for its age.
    asked: Option<Duration>,
    /// How many of the steps were taken.
    taken: usize,
    warned: bool,
}

impl Life {
    pub(crate) fn new(rules: Rules, name: String) -> Self {
        Self { rules, name, told: false, stop: None }
    }

    /// Whether a stop is under way.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    pub(crate) fn health(&self, now: Duration) -> Health {
        match self.rules.stays_up.saturating_sub(now) {
            _ if self.is_stopping() => Health::Stopping,
            Duration::ZERO => Health::Up,
            missing => Health::Starting(missing),
        }
    }

    /// The signal came that stands for a stop.
    pub(crate) fn asked(&mut self, signal: Signal, jobs: usize, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match &mut self.stop {
            None => {
                actions.push(Action::Say(message::stop(&self.name, signal, &self.rules, self.told, jobs, now)));
                self.begin(now, Some(now));
            }
            Some(stop @ Stop { asked: None, .. }) => {
                stop.asked = Some(now);
                actions.push(Action::Say(message::ends_anyway(&self.name, signal, self.rules.stop_timeout)));
            }
            Some(stop) => {
                actions.push(Action::Say(message::again(&self.name, signal, now.saturating_sub(stop.since))));
            }
        }
        actions.extend(self.look(jobs, now));
        actions
    }

    /// What is due, with so many jobs under way.
    pub(crate) fn look(&mut self, jobs: usize, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stop.is_none() && self.rules.live.is_some_and(|live| now >= live) {
            if jobs == 0 {
                actions.push(Action::Say(message::old_and_idle(&self.name, &self.rules, self.told, now)));
                self.begin(now, None);
            } else if self.rules.gentle && !self.told {
                self.told = true;
                actions.push(Action::Say(message::old_and_busy(&self.name, &self.rules, jobs, now)));
                actions.extend(self.rules.stop.first().map(Action::Send));
            }
        }
        let steps = self.rules.stop.steps();
        if let Some(stop) = &mut self.stop {
            while let Some((_, signal)) = steps.get(stop.taken).filter(|(at, _)| stop.since + *at <= now) {
                actions.push(Action::Send(*signal));
                stop.taken += 1;
            }
            if !stop.warned && stop.asked.is_some_and(|asked| warning(asked, self.rules.stop_timeout) <= now) {
                stop.warned = true;
                actions.push(Action::Say(message::out_of_time(&self.name, self.rules.stop_timeout)));
            }
        }
        actions
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn next(&self, jobs: usize, now: Duration) -> Option<Duration> {
        match &self.stop {
            Some(stop) => {
                let step = self.rules.stop.steps().get(stop.taken).map(|(at, _)| stop.since + *at);
                let warning = stop.asked.filter(|_| !stop.warned).map(|at| warning(at, self.rules.stop_timeout));
                step.into_iter().chain(warning).min()
            }
            None => {
                let up = Some(self.rules.stays_up).filter(|at| *at > now);
                // At its age it waits for the end of its jobs, which is an event.
                let waits = jobs > 0 && (!self.rules.gentle || self.told);
                let old = self.rules.live.filter(|at| *at > now || !waits);
                up.into_iter().chain(old).min()
            }
        }
    }

    /// The command has ended: the status to end with, and what to tell people.
    pub(crate) fn ended(&self, end: End, now: Duration) -> (u8, Option<String>) {
        let status = match end {
            End::Status(code) => code,
            End::Signal(number) => 128 + number,
        };
        let said = match (&self.stop, end) {
            (None, End::Status(0)) => None,
            (None, _) => Some(message::ended(&self.name, end, now)),
            (Some(stop), _) => Some(message::ended_after_stop(&self.name, end, now.saturating_sub(stop.since))),
        };
        // A status is a byte wide.
        let status = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
        (if self.ended_by_age(status) { 0 } else { status }, said)
    }

    /// Whether this status is what a good end for its age looks like: that of a command that leaves the signal to its default,
    /// or to a runtime that ends with 128 and its number. SIGKILL is no good end.
    fn ended_by_age(&self, status: u8) -> bool {
        let taken = match &self.stop {
            Some(stop) if stop.asked.is_none() => stop.taken,
            // It was told at its age, and has ended before anybody counted that its job has.
            None if self.told => 1,
            Some(_) | None => return false,
        };
        let sent = self.rules.stop.steps().iter().take(taken).map(|(_, signal)| *signal);
        sent.filter(|signal| *signal != Signal::SIGKILL).any(|signal| i32::from(status) == 128 + signal as i32)
    }

    fn begin(&mut self, now: Duration, asked: Option<Duration>) {
        self.stop = Some(Stop { since: now, asked, taken: usize::from(self.told), warned: false });
    }
}

fn warning(asked: Duration, timeout: Duration) -> Duration {
    asked + timeout - WARNED_BEFORE.min(timeout / 10)
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
