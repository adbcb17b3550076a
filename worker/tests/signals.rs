//! Signals, in every order, to commands of every kind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::stage::{As, LISTENER, PATIENCE, Setting, ways};

/// All that are passed on and that bash can wait for.
const PASSED: [&str; 13] =
    ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "CONT", "TSTP", "TTIN", "TTOU", "URG", "WINCH", "IO"];

fn named(name: &str) -> Signal {
    format!("SIG{name}").parse().unwrap()
}

#[test]
fn every_signal_is_passed_on_as_it_is_and_the_stop_as_the_sequence_has_it() {
    for way in ways() {
        let stage = Setting::bash(*way, &["--stop", "VTALRM"], LISTENER, &[&PASSED.join(" "), "VTALRM"]).start();
        stage.until("ready");
        for name in PASSED.iter().filter(|name| **name != "TERM") {
            stage.signal(named(name));
            stage.until(&format!("got {name}"));
        }
        stage.signal(Signal::SIGTERM);
        let (status, output) = stage.end();
        assert_eq!(status, 0, "{output}");
        assert_eq!(output.matches("got ").count(), PASSED.len(), "each once: {output}");
        assert!(output.contains("got VTALRM") && !output.contains("got TERM"), "{output}");
        assert!(
            output.contains(": sending VTALRM to bash; no job is known to be under way, and ECS waits for 30s"),
            "{output}"
        );
        assert!(output.contains("worker: bash ended with status 0, "), "{output}");
    }
}

/// All orders of these.
fn orders(of: &[&'static str]) -> Vec<Vec<&'static str>> {
    if of.is_empty() {
        return vec![vec![]];
    }
    let first = |at: usize| {
        let rest: Vec<_> = of.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, name)| *name).collect();
        orders(&rest).into_iter().map(move |order| [vec![of[at]], order].concat())
    };
    (0..of.len()).flat_map(first).collect()
}

#[test]
fn signals_come_through_in_every_order_without_a_pause() {
    // Whatever comes first, and whichever the kernel hands over together.
    let script = "seen=0; for s in QUIT HUP USR1 INT; do trap \"echo got $s; let seen+=1\" $s; done; exec 3<> /dev/udp/127.0.0.1/9; echo ready; \
                  while [ $seen -lt 4 ]; do read -t 0.02 -u 3; done; exit 0";
    for way in ways() {
        for order in orders(&["TERM", "HUP", "USR1", "INT"]) {
            let stage = Setting::bash(*way, &["--stop", "QUIT"], script, &[]).start();
            stage.until("ready");
            let pid = stage.pid();
            for name in &order {
                nix::sys::signal::kill(pid, named(name)).unwrap();
            }
            let (status, output) = stage.end();
            assert_eq!(status, 0, "{way:?} {order:?}: {output}");
            for name in ["QUIT", "HUP", "USR1", "INT"] {
                assert_eq!(output.matches(&format!("got {name}")).count(), 1, "{way:?} {order:?}: {output}");
            }
        }
    }
}

#[test]
fn a_command_that_ignores_everything_is_ended_by_the_last_step() {
    for way in ways() {
        let options = ["--stop", "QUIT,50ms:TERM,100ms:KILL", "--stop-timeout", "10s"];
        let script =
            "trap '' QUIT TERM INT; exec 3<> /dev/udp/127.0.0.1/9; echo ready; while :; do read -t 0.02 -u 3; done";
        let stage = Setting::bash(*way, &options, script, &[]).start();
        stage.until("ready");
        stage.signal(Signal::SIGTERM);
        let (status, output) = stage.end();
        assert_eq!(status, 137, "{output}");
        assert!(output.contains(": sending QUIT to bash, TERM after 50ms, KILL after 100ms; "), "{output}");
        assert!(output.contains("worker: bash was ended by SIGKILL, "), "{output}");
    }
}

#[test]
fn a_command_that_outlives_the_stop_timeout_is_warned_of_before_ecs_kills() {
    for way in ways() {
        let script = "trap '' QUIT; exec 3<> /dev/udp/127.0.0.1/9; echo ready; while :; do read -t 0.02 -u 3; done";
        let stage = Setting::bash(*way, &["--stop", "QUIT", "--stop-timeout", "300ms"], script, &[]).start();
        stage.until("ready");
        stage.signal(Signal::SIGTERM);
        let begun = Instant::now();
        stage.until("worker: warning: bash still runs and ECS kills it now, 300ms after the stop: raise stopTimeout");
        assert!(begun.elapsed() >= Duration::from_millis(200), "not before");
        // A second stop sends nothing: a second TERM kills what others are about to finish.
        stage.signal(Signal::SIGTERM);
        stage.until("worker: SIGTERM came again: bash has been told to end ");
        stage.signal(Signal::SIGKILL);
        let (status, output) = stage.end();
        // unshare has a status of its own for a first process that was killed.
        assert!(status == 137 || *way == As::Init, "{status}: {output}");
        assert_eq!(output.matches("warning: ").count(), 1, "{output}");
    }
}

#[test]
fn another_signal_can_stand_for_the_stop() {
    for way in ways() {
        let stage =
            Setting::bash(*way, &["--stop-signal", "QUIT", "--stop", "INT"], LISTENER, &["TERM QUIT", "INT"]).start();
        stage.until("ready");
        stage.signal(Signal::SIGTERM);
        stage.until("got TERM");
        stage.signal(Signal::SIGQUIT);
        let (status, output) = stage.end();
        assert_eq!(status, 0, "{output}");
        assert!(
            output.contains("SIGQUIT came ") && output.contains("got INT") && !output.contains("got QUIT"),
            "{output}"
        );
    }
}

#[test]
fn a_group_gets_signals_only_when_it_is_asked_for() {
    // A parent that passes nothing on, and a child that would hear it.
    let listener = LISTENER.replace('\'', "");
    let script = format!("trap 'echo parent; wait; exit' USR1; bash -c '{listener}' bash '' USR1 & wait");
    for way in ways() {
        for (forward, expected) in [("child", false), ("group", true)] {
            let stage = Setting::bash(*way, &["--forward", forward], &script, &[]).start();
            stage.until("ready");
            stage.signal(Signal::SIGUSR1);
            if expected {
                let (_, output) = stage.end();
                assert_eq!(output.matches("got USR1").count(), 1, "{way:?}: {output}");
            } else {
                stage.until("parent");
                assert_eq!(stage.lines_with("got USR1"), 0, "{way:?}: {}", stage.output());
                // Nor later: what is not sent by now is not sent.
                stage.signal(Signal::SIGKILL);
                assert!(!stage.end().1.contains("got USR1"), "{way:?}");
            }
        }
    }
}

#[test]
fn a_stop_that_comes_before_the_command_starts_starts_nothing() {
    for way in ways() {
        // It waits, blocked, before the worker's first instruction.
        let before = ["env", "--block-signal=TERM", "bash", "-c", "(kill -TERM $$); exec \"$0\" \"$@\""];
        let (status, output) =
            Setting::new(*way, &["--stop", "QUIT"], &["echo", "it runs"]).after(&before).start().end();
        assert_eq!((status, output.as_str()), (143, "worker: SIGTERM came before echo was started: it is not started"));
    }
}

#[test]
fn a_stop_within_the_first_milliseconds_ends_it_whenever_it_comes() {
    for way in ways() {
        for microseconds in (0..3000).step_by(60) {
            let stage = Setting::new(*way, &["--stop", "QUIT"], &["sleep", "1000"]).start();
            let pid = stage.pid();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(microseconds) {}
            let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
            // In a namespace, the kernel keeps from PID 1 what comes before it waits for signals at all: no init can see it. ECS
            // does not stop a container that it has not seen start; here, it is sent until it was seen.
            let status = loop {
                assert!(begun.elapsed() < PATIENCE, "{way:?} after {microseconds} us: {}", stage.output());
                if nix::sys::signal::kill(pid, None).is_err() || !stage.is_running() {
                    break stage.end().0;
                }
                if *way == As::Init && stage.lines_with("SIGTERM came") == 0 {
                    let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            // Before it was the worker, before the command was there, or the command's own end by QUIT.
            assert!([143, 131].contains(&status), "{way:?} after {microseconds} us: {status}");
        }
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_signal() {
    for way in ways() {
        // Standard error is full to the last byte before the stop comes.
        let script = "trap 'exit 0' QUIT; exec 3<> /dev/udp/127.0.0.1/9; dd if=/dev/zero bs=65536 count=4 oflag=nonblock >&2 2>/dev/null; \
                      dd if=/dev/zero bs=1 count=70000 oflag=nonblock >&2 2>/dev/null; echo ready; while :; do read -t 0.02 -u 3; done";
        let mut command = Setting::bash(*way, &["--stop", "QUIT"], script, &[]).to_command();
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let started = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
        let pid = if *way == As::Init { crate::stage::children(started)[0] } else { started };
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        let status = crate::stage::wait_for("its end", || process.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{way:?} after {:?}", begun.elapsed());
    }
}
