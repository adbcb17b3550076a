//! Protection of the task while a job runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::agent::{Agent, Mood};
use crate::stage::{As, LISTENER, Setting, Stage, WORKER, said, wait_for, ways};

/// A worker that waits for TERM, with this agent.
fn worker(way: As, agent: &Agent, options: &[&str]) -> Stage {
    let setting = Setting::bash(way, options, LISTENER, &["QUIT", "TERM"]).with("ECS_AGENT_URI", &agent.uri());
    let stage = setting.start();
    stage.until("ready");
    stage
}

fn end(stage: Stage) -> String {
    stage.signal(Signal::SIGTERM);
    let (status, output) = stage.end();
    assert_eq!(status, 0, "{output}");
    output
}

fn until_asked(agent: &Agent, expected: &[u64]) {
    wait_for(&format!("{expected:?}, after {:?},", agent.asked()), || (agent.asked() == expected).then_some(()));
}

/// The application's own connection.
fn hold(stage: &Stage, line: &str) -> (UnixStream, String) {
    let stream = UnixStream::connect(stage.socket.as_ref().unwrap()).unwrap();
    (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    (stream, answer.trim_end().to_owned())
}

#[test]
fn busy_protects_before_it_returns_and_idle_lets_go() {
    for way in ways() {
        let agent = Agent::new(Mood::Good);
        let stage = worker(*way, &agent, &[]);
        let busy = stage.verb(&["busy"]);
        assert_eq!((busy.status.code(), said(&busy)), (Some(0), String::new()));
        assert_eq!(agent.asked(), [120], "before it returns");
        let longer = stage.verb(&["busy", "--for", "3h"]);
        assert!(longer.status.success());
        // Protected already, it need not wait for the longer one.
        until_asked(&agent, &[120, 180]);
        assert!(stage.verb(&["idle"]).status.success());
        until_asked(&agent, &[120, 180, 0]);
        let output = end(stage);
        assert!(!output.contains("warning"), "{output}");
    }
}

#[test]
fn a_job_is_protected_as_long_as_it_runs_and_keeps_its_status() {
    let agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &[]);
    let run = |words: &[&str]| stage.verb(&[&["job", "--for", "90s", "--"], words].concat());
    let done = run(&["sh", "-c", "echo $0; exit 7", "a job"]);
    assert_eq!((done.status.code(), said(&done)), (Some(7), "a job".into()));
    until_asked(&agent, &[2, 0]);
    let missing = run(&["no-such-job"]);
    assert_eq!(missing.status.code(), Some(127), "{}", said(&missing));

    // One that is killed leaves nobody busy.
    until_asked(&agent, &[2, 0, 2, 0]);
    let mut job = Command::new(WORKER);
    job.args(["job", "--", "sleep", "1000"]).env("WORKER_SOCKET", stage.socket.as_ref().unwrap());
    let mut job = job.stdin(Stdio::null()).spawn().unwrap();
    until_asked(&agent, &[2, 0, 2, 0, 120]);
    job.kill().unwrap();
    job.wait().unwrap();
    until_asked(&agent, &[2, 0, 2, 0, 120, 0]);
    end(stage);
}

#[test]
fn an_application_speaks_for_itself_with_a_connection_for_each_job() {
    let agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &[]);
    let (first, answer) = hold(&stage, "job");
    assert_eq!(answer, "protected");
    let (second, answer) = hold(&stage, "job 10m");
    assert_eq!(answer, "protected");
    let (third, answer) = hold(&stage, "jbo 10m");
    assert_eq!(answer, "error: `jbo 10m` is not health, busy [TIME], idle or job [TIME]");
    drop((first, third));
    // The second one runs: it is as protected as before.
    assert_eq!(hold(&stage, "health").1, "starting: up in 10s if it stays so".replace("10s", &starting(&stage)));
    assert_eq!(agent.asked(), [120]);
    drop(second);
    until_asked(&agent, &[120, 0]);
    end(stage);
}

/// How long it says that it is still starting for.
fn starting(stage: &Stage) -> String {
    let word = hold(stage, "health").1;
    word.trim_start_matches("starting: up in ").trim_end_matches(" if it stays so").to_owned()
}

#[test]
fn a_child_of_the_command_is_a_job_where_that_is_so() {
    for way in ways() {
        let agent = Agent::new(Mood::Good);
        // As Resque does: a child for a job, and none without.
        let script = "trap 'exit 0' TERM; trap 'sleep 1.5 & wait' USR1; exec 3<> /dev/udp/127.0.0.1/9; echo ready; while :; do read -t 0.02 -u 3; done";
        let setting = Setting::bash(*way, &["--busy", "children"], script, &[]).with("ECS_AGENT_URI", &agent.uri());
        let stage = setting.start();
        stage.until("ready");
        assert!(agent.asked().is_empty());
        stage.signal(Signal::SIGUSR1);
        until_asked(&agent, &[120]);
        until_asked(&agent, &[120, 0]);
        end(stage);
    }
}

#[test]
fn a_stop_lets_an_idle_task_go_and_a_busy_one_only_when_its_job_is_done() {
    let agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &["--stop", "QUIT"]);
    let (job, _) = hold(&stage, "job");
    stage.signal(Signal::SIGTERM);
    stage.until("got QUIT");
    stage.until("; 1 job is under way, and ECS waits for 30s");
    // Nobody begins another one.
    let busy = stage.verb(&["busy"]);
    assert_eq!((busy.status.code(), said(&busy)), (Some(75), "worker: a stop is under way: take no job".into()));
    let other = stage.verb(&["job", "--", "echo", "it runs"]);
    assert_eq!(
        (other.status.code(), said(&other)),
        (Some(75), "worker: a stop is under way: the job is not run".into())
    );
    assert_eq!(agent.asked(), [120], "the job still runs");
    drop(job);
    until_asked(&agent, &[120, 0]);
}

#[test]
fn an_agent_that_fails_or_refuses_is_said_once_and_asked_again_until_it_does_not() {
    for (mood, said_of_it) in [
        (Mood::Failing, "the agent answered 500: ServerException: no ECS"),
        (Mood::Refusing, "the agent answered 200: TASK_NOT_VALID"),
        (Mood::Breaking, "the agent's answer is not HTTP"),
        (Mood::Gone, "cannot be reached (Connection refused"),
    ] {
        let mut agent = Agent::new(mood);
        let stage = worker(As::Child, &agent, &[]);
        let busy = stage.verb(&["busy", "--for", "10m"]);
        assert_eq!(busy.status.code(), Some(0), "never fatal: {}", said(&busy));
        assert!(said(&busy).contains("unprotected: ") && said(&busy).contains(said_of_it), "{mood:?}: {}", said(&busy));
        if mood != Mood::Gone {
            // Without being told anything new.
            wait_for("a second try", || (agent.asked().len() >= 2).then_some(()));
        }
        agent.become_(Mood::Good);
        stage.until("worker: the agent answers again");
        let output = end(stage);
        assert_eq!(
            output.matches("warning: the task is not protected while its job runs: ").count(),
            1,
            "{mood:?}: {output}"
        );
        assert!(output.contains(said_of_it), "{mood:?}: {output}");
    }
}

#[test]
fn an_agent_that_hangs_holds_up_neither_a_job_nor_a_stop() {
    let agent = Agent::new(Mood::Hanging);
    let stage = worker(As::Child, &agent, &["--stop", "QUIT"]);
    let begun = Instant::now();
    let busy = stage.verb(&["busy"]);
    assert_eq!(said(&busy), "worker: unprotected: the agent has not answered yet");
    assert!(busy.status.success() && begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // It hangs for a second longer than it is waited for: then that is said.
    stage.until("has not answered within 6s");
    let (_job, answer) = hold(&stage, "job");
    assert!(answer.starts_with("unprotected: "), "{answer}");
    let begun = Instant::now();
    stage.signal(Signal::SIGTERM);
    stage.until("got QUIT");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_stop_that_comes_while_a_job_waits_for_its_protection_keeps_it_from_beginning() {
    let agent = Agent::new(Mood::Hanging);
    let stage = worker(As::Child, &agent, &["--stop", "QUIT"]);
    let stream = UnixStream::connect(stage.socket.as_ref().unwrap()).unwrap();
    (&stream).write_all(b"job\n").unwrap();
    until_asked(&agent, &[120]);
    stage.signal(Signal::SIGTERM);
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert_eq!(answer, "stopping\n");
}

#[test]
fn a_job_that_comes_while_the_task_is_being_let_go_does_not_count_on_its_protection() {
    let mut agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &[]);
    assert!(stage.verb(&["busy"]).status.success());
    agent.become_(Mood::Hanging);
    assert!(stage.verb(&["idle"]).status.success());
    until_asked(&agent, &[120, 0]);
    // The agent may let go at any moment.
    let (_job, answer) = hold(&stage, "job");
    assert!(answer.starts_with("unprotected: "), "{answer}");
    agent.become_(Mood::Good);
    wait_for("protection", || (agent.asked().last() == Some(&120) && agent.asked().len() > 2).then_some(()));
}

#[test]
fn an_agent_that_vanishes_while_a_job_runs_is_asked_again_for_its_release() {
    let mut agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &[]);
    assert!(stage.verb(&["busy"]).status.success());
    agent.become_(Mood::Gone);
    assert!(stage.verb(&["idle"]).status.success());
    stage.until("warning: the task stays protected although no job runs: the agent at 127.0.0.1:");
    agent.become_(Mood::Good);
    until_asked(&agent, &[120, 0]);
    let output = end(stage);
    assert_eq!(output.matches("warning: ").count(), 1, "{output}");
}

#[test]
fn without_an_agent_jobs_run_and_that_is_said_once() {
    let stage = Setting::bash(As::Child, &[], LISTENER, &["", "TERM"]).start();
    stage.until("ready");
    for _ in 0..3 {
        let job = stage.verb(&["job", "--", "echo", "it runs"]);
        assert_eq!(said(&job), "it runs\nworker: unprotected: ECS_AGENT_URI is not set: this is no task of ECS's");
    }
    let output = end(stage);
    assert_eq!(output.matches("ECS_AGENT_URI").count(), 1, "{output}");
    // And without a worker, too.
    let job = crate::stage::verb("/no/such/socket", &["job", "--", "echo", "it runs"]);
    assert!(
        job.status.success() && said(&job).starts_with("it runs\nworker: warning: the job runs, and nobody knows: ")
    );
    assert_eq!(crate::stage::verb("/no/such/socket", &["busy"]).status.code(), Some(1));
}

#[test]
fn a_job_that_outlives_what_was_announced_is_said_and_let_go() {
    let agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &[]);
    let (_job, answer) = hold(&stage, "job 1s");
    assert_eq!(answer, "protected");
    stage.until("worker: warning: a job takes longer than it was announced for (--for)");
    until_asked(&agent, &[1, 0]);
    end(stage);
}

#[test]
fn five_hundred_jobs_at_once_are_one_protection() {
    let agent = Agent::new(Mood::Good);
    let stage = worker(As::Child, &agent, &[]);
    let jobs: Vec<_> = (0..500).map(|_| hold(&stage, "job")).collect();
    assert!(jobs.iter().all(|(_, answer)| answer == "protected"));
    // Whoever asks how it goes is answered however many there are, and a job beyond them is told that it is not protected.
    let last: Vec<_> = (500..512).map(|_| hold(&stage, "job")).collect();
    assert!(last.iter().all(|(_, answer)| answer == "protected"));
    assert_eq!(hold(&stage, "job").1, "unprotected: 512 connections are jobs already");
    let health = said(&stage.verb(&["health"]));
    assert!(health == "up" || health.starts_with("starting: "), "{health}");
    drop(last);
    // More than there is room for wait, and hold up nothing.
    let more: Vec<_> = (0..100).map(|_| UnixStream::connect(stage.socket.as_ref().unwrap()).unwrap()).collect();
    drop(jobs);
    until_asked(&agent, &[120, 0]);
    drop(more);
    end(stage);
}

#[test]
fn more_connections_than_file_descriptors_hold_up_no_signal_and_cost_no_time() {
    let setting = Setting::bash(As::Child, &[], LISTENER, &["USR1", "TERM"]).after(&[
        "sh",
        "-c",
        "ulimit -n 40; exec \"$0\" \"$@\"",
    ]);
    let stage = setting.start();
    stage.until("ready");
    let held: Vec<_> = (0..100).map(|_| UnixStream::connect(stage.socket.as_ref().unwrap()).unwrap()).collect();
    // It knows that it can take no more when it still answers a signal.
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", stage.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // utime and stime, in hundredths of a second: fields 14 and 15, of which the state before is no number.
        fields[10] + fields[11]
    };
    let (begun, before) = (Instant::now(), used());
    while begun.elapsed() < Duration::from_secs(2) {
        stage.signal(Signal::SIGUSR1);
        stage.until("got USR1");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(used() - before < 50, "{} hundredths of a second in two", used() - before);
    drop(held);
    assert!(stage.verb(&["idle"]).status.success(), "there is room again");
    end(stage);
}
