//! A life of its own length.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::stage::{As, LISTENER, Setting, Stage, ways};

fn job(stage: &Stage) -> UnixStream {
    let stream = UnixStream::connect(stage.socket.as_ref().unwrap()).unwrap();
    (&stream).write_all(b"job\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("unprotected: "), "{answer}");
    stream
}

#[test]
fn an_idle_worker_ends_at_its_age_with_status_0() {
    for way in ways() {
        // One that ends by itself, and one that leaves the signal to its default.
        for command in [&["bash", "-c", LISTENER, "bash", "", "QUIT"][..], &["sleep", "1000"]] {
            let begun = Instant::now();
            let (status, output) = Setting::new(*way, &["--live", "300ms", "--stop", "QUIT"], command).start().end();
            assert_eq!(status, 0, "{way:?} {command:?}: {output}");
            assert!(begun.elapsed() >= Duration::from_millis(300));
            assert!(output.contains(" old and no job is under way: sending QUIT to "), "{output}");
        }
    }
}

#[test]
fn a_command_that_fails_at_its_age_keeps_its_status() {
    let script = "trap 'exit 3' QUIT; exec 3<> /dev/udp/127.0.0.1/9; while :; do read -t 0.02 -u 3; done";
    let (status, output) = Setting::bash(As::Child, &["--live", "1s", "--stop", "QUIT"], script, &[]).start().end();
    assert_eq!(status, 3, "{output}");
}

#[test]
fn a_busy_worker_lives_until_its_job_is_done() {
    for way in ways() {
        let stage = Setting::bash(*way, &["--live", "1s", "--stop", "QUIT"], LISTENER, &["USR1", "QUIT"]).start();
        stage.until("ready");
        let job = job(&stage);
        // It is long past its age when a second one asks what it hears.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            stage.signal(Signal::SIGUSR1);
            stage.until("got USR1");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(stage.lines_with("got QUIT"), 0, "{way:?}: {}", stage.output());
        drop(job);
        let (status, output) = stage.end();
        assert_eq!(status, 0, "{output}");
        assert!(
            output.contains("got QUIT") && output.contains("no job is under way: sending QUIT to bash"),
            "{output}"
        );
    }
}

#[test]
fn a_library_that_lets_jobs_end_is_told_at_its_age_although_one_runs() {
    let script = "trap 'echo got QUIT; quit=1' QUIT; sleep 2 & until [ \"$quit\" ] && ! kill -0 $! 2>/dev/null; do wait; done; \
                  echo finished";
    let stage = Setting::bash(As::Child, &["--live", "1s", "--queue", "resque"], script, &[]).start();
    stage.until("got QUIT");
    assert_eq!(stage.lines_with("finished"), 0);
    let (status, output) = stage.end();
    assert_eq!(status, 0, "{output}");
    assert!(output.contains(" old: sending QUIT; it ends when its job is done"), "{output}");
    assert!(output.contains("finished") && output.matches("got QUIT").count() == 1, "{output}");
}

#[test]
fn a_stop_comes_before_the_age() {
    let stage = Setting::bash(As::Child, &["--live", "1h", "--stop", "QUIT"], LISTENER, &["", "QUIT"]).start();
    stage.until("ready");
    stage.signal(Signal::SIGTERM);
    let (status, output) = stage.end();
    assert_eq!(status, 0, "{output}");
    assert!(output.contains("SIGTERM came ") && !output.contains(" old "), "{output}");
}
