//! Every sentence that a person reads in the log of a worker.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::options::Rules;
use crate::process::End;
use crate::signals::short;

/// The stop has begun: what came, what is sent, what is waited for.
pub(crate) fn stop(name: &str, signal: Signal, rules: &Rules, told: bool, jobs: usize, now: Duration) -> String {
    let plan = plan(name, rules, told);
    let under_way = match jobs {
        0 => "no job is known to be under way".to_owned(),
        1 => "1 job is under way".to_owned(),
        many => format!("{many} jobs are under way"),
    };
    let timeout = spoken(rules.stop_timeout);
    format!("{signal} came {} after the start: {plan}; {under_way}, and ECS waits for {timeout}", spoken(now))
}

/// "sending TSTP to rake, TERM after 1m 30s".
fn plan(name: &str, rules: &Rules, told: bool) -> String {
    let mut steps = rules.stop.steps().iter().map(|(at, signal)| match *at {
        Duration::ZERO => short(*signal).to_owned(),
        at => format!("{} after {}", short(*signal), spoken(at)),
    });
    let Some(first) = steps.next() else { return String::new() };
    let begin = if told { format!("{first} was sent to {name} before") } else { format!("sending {first} to {name}") };
    std::iter::once(begin).chain(steps).collect::<Vec<_>>().join(", ")
}

/// The stop came again.
pub(crate) fn again(name: &str, signal: Signal, since: Duration) -> String {
    format!("{signal} came again: {name} has been told to end {} ago", spoken(since))
}

/// A stop came while the worker ended for its age.
pub(crate) fn ends_anyway(name: &str, signal: Signal, timeout: Duration) -> String {
    format!("{signal} came while {name} ends for its age: ECS waits for {}", spoken(timeout))
}

/// ECS is about to kill.
pub(crate) fn out_of_time(name: &str, timeout: Duration) -> String {
    format!(
        "warning: {name} still runs and ECS kills it now, {} after the stop: raise stopTimeout in the task definition (and \
         --stop-timeout with it), or protect the task while a job runs (--busy, worker busy, worker job)",
        spoken(timeout)
    )
}

/// It is old enough, and idle.
pub(crate) fn old_and_idle(name: &str, rules: &Rules, told: bool, now: Duration) -> String {
    format!("{name} is {} old and no job is under way: {}", spoken(now), plan(name, rules, told))
}

/// It is old enough, and busy; its first signal lets the job end.
pub(crate) fn old_and_busy(name: &str, rules: &Rules, jobs: usize, now: Duration) -> String {
    let jobs = if jobs == 1 { "its job is".to_owned() } else { format!("its {jobs} jobs are") };
    let signal = rules.stop.first().map_or("nothing", short);
    format!("{name} is {} old: sending {signal}; it ends when {jobs} done", spoken(now))
}

/// It ended by itself.
pub(crate) fn ended(name: &str, end: End, now: Duration) -> String {
    let after = format!("{} after the start", spoken(now));
    match end {
        End::Status(code) => format!("{name} ended with status {code} by itself, {after}"),
        End::Signal(number) => {
            let guess = match number == Signal::SIGKILL as i32 {
                true => "; nobody here sent it: perhaps there was too little memory",
                false => "",
            };
            format!("{name} was ended by {}, {after}{guess}", signal_named(number))
        }
    }
}

/// It ended after the stop.
pub(crate) fn ended_after_stop(name: &str, end: End, since: Duration) -> String {
    let how = match end {
        End::Status(code) => format!("ended with status {code}"),
        End::Signal(number) => format!("was ended by {}", signal_named(number)),
    };
    format!("{name} {how}, {} after the stop", spoken(since))
}

/// A stop came before the command was started.
pub(crate) fn never_started(name: &str, signal: Signal) -> String {
    format!("{signal} came before {name} was started: it is not started")
}

/// A real-time signal came, which cannot be sent on.
pub(crate) fn not_sent_on(number: u32) -> String {
    format!("signal {number} is not sent on: only signals with names are")
}

/// The port of the health check cannot be listened on after all.
pub(crate) fn port_taken(address: &str, why: &str) -> String {
    format!("warning: --health-port {address} cannot be opened ({why}): tried again every second")
}

/// The port of the health check is open after all.
pub(crate) fn port_open(address: &str) -> String {
    format!("--health-port {address} is open now")
}

/// The task cannot be protected.
pub(crate) fn unprotected(why: &str) -> String {
    format!("warning: the task is not protected while its job runs: {why}; tried again from time to time")
}

/// The task cannot be released.
pub(crate) fn unreleased(why: &str) -> String {
    format!("warning: the task stays protected although no job runs: {why}; tried again from time to time")
}

/// Protection works again.
pub(crate) fn works_again() -> String {
    "the agent answers again: the task's protection is as it should be".into()
}

/// A job outlived the time that it was announced for.
pub(crate) fn job_overdue() -> String {
    "warning: a job takes longer than it was announced for (--for): it is not protected any more".into()
}

/// No socket could be made.
pub(crate) fn no_socket(why: &str) -> String {
    format!(
        "warning: no socket for worker health, busy, idle and job ({why}): name a place that can be written to with --socket"
    )
}

/// A duration as people say it: whole seconds from ten on, tenths below.
pub(crate) fn spoken(duration: Duration) -> String {
    let millis = duration.as_millis();
    let rounded = match millis {
        0..100 => Duration::from_millis(u64::try_from(millis).unwrap_or_default()),
        100..10_000 => Duration::from_millis(u64::try_from((millis + 50) / 100 * 100).unwrap_or_default()),
        _ => Duration::from_secs((duration + Duration::from_millis(500)).as_secs()),
    };
    humantime::format_duration(rounded).to_string()
}

fn signal_named(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_people_want_them() {
        for (millis, expected) in [
            (0, "0s"),
            (7, "7ms"),
            (340, "300ms"),
            (1250, "1s 300ms"),
            (42_400, "42s"),
            (3_600_000 + 62_000, "1h 1m 2s"),
        ] {
            assert_eq!(spoken(Duration::from_millis(millis)), expected);
        }
    }
}
