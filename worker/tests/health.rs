//! The health check: as a port, and as a command.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::stage::{LISTENER, PATIENCE, Setting, Stage, said, wait_for, ways};

/// A port that nobody uses, and that no other test is given, of this process or of another run of these tests beside it; below those that
/// the system gives to whoever connects.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 1000).unwrap() * 12;
    let ports = std::iter::from_fn(|| Some(first + NEXT.fetch_add(1, Ordering::Relaxed)));
    // On all addresses, as it is claimed.
    let is_free = |at: &str, port: u16| TcpListener::bind((at, port)).is_ok();
    let has_v6 = is_free("::1", 0);
    ports.take(12).find(|port| is_free("0.0.0.0", *port) && (!has_v6 || is_free("::", *port))).unwrap()
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

const GET: &str = "GET /health HTTP/1.1\r\nhost: worker\r\n\r\n";

fn health(stage: &Stage) -> (Option<i32>, String) {
    let output = stage.verb(&["health"]);
    (output.status.code(), said(&output))
}

#[test]
fn the_port_opens_when_it_has_stayed_up_and_closes_when_the_stop_begins() {
    for way in ways() {
        let port = free_port();
        let options = ["--health-port", &format!("127.0.0.1:{port}"), "--stays-up", "1s", "--stop", "QUIT"];
        let stage = Setting::bash(*way, &options, LISTENER, &["QUIT", "INT"]).start();
        stage.until("ready");
        let (status, word) = health(&stage);
        if word.starts_with("starting: up in ") {
            assert_eq!(status, Some(1));
            // The answer to the first came before the second was due.
            assert!(ask(port, GET).is_err() || health(&stage).1 == "up");
        }
        wait_for("the port", || ask(port, GET).ok());
        for (request, begin, body) in [
            (GET, "HTTP/1.1 200 OK\r\n", "up\n"),
            ("HEAD / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", ""),
            ("POST / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 405 ", "GET or HEAD\n"),
            ("\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400 ", "no HTTP\n"),
        ] {
            let answer = ask(port, request).unwrap();
            assert!(
                answer.starts_with(begin) && answer.ends_with(&format!("\r\n\r\n{body}")),
                "{request:?}: {answer:?}"
            );
        }
        assert_eq!(health(&stage), (Some(0), "up".into()));

        // Somebody has begun to ask when the stop comes.
        let mut early = TcpStream::connect(("127.0.0.1", port)).unwrap();
        early.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        // Whoever comes after it is answered: so the worker has taken the first one, too.
        ask(port, GET).unwrap();
        stage.signal(Signal::SIGTERM);
        stage.until("got QUIT");
        wait_for("the end of the port", || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
        assert_eq!(health(&stage), (Some(1), "stopping".into()));
        early.write_all(b"\r\n").unwrap();
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("stopping\n"), "{answer:?}");

        stage.signal(Signal::SIGINT);
        let socket = stage.socket.clone().unwrap();
        assert_eq!(stage.end().0, 0);
        let gone = crate::stage::verb(socket.to_str().unwrap(), &["health"]);
        assert_eq!(gone.status.code(), Some(1));
        assert!(said(&gone).contains("no worker listens ("), "{}", said(&gone));
    }
}

#[test]
fn a_command_that_dies_young_never_opens_the_port() {
    let port = free_port();
    let options = ["--health-port", &port.to_string(), "--stays-up", "1h"];
    let stage = Setting::bash(crate::stage::As::Child, &options, "echo ready; sleep 0.2; exit 3", &[]).start();
    stage.until("ready");
    let mut seen = false;
    while stage.is_running() {
        // A port that nobody listens at, asked from itself, answers itself.
        let answers = |stream: &TcpStream| stream.local_addr().ok() != stream.peer_addr().ok();
        seen |= TcpStream::connect(("127.0.0.1", port)).is_ok_and(|stream| answers(&stream));
    }
    assert_eq!(stage.end().0, 3);
    assert!(!seen);
}

#[test]
fn a_caller_who_says_nothing_holds_up_nobody() {
    let port = free_port();
    let options = ["--health-port", &port.to_string(), "--stays-up", "1ms"];
    let stage = Setting::bash(crate::stage::As::Child, &options, LISTENER, &["", "TERM"]).start();
    // Before that, nobody handles its signals.
    stage.until("ready");
    wait_for("the port", || ask(port, GET).ok());
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    // More than a question may have, without an end.
    let mut endless = TcpStream::connect(("127.0.0.1", port)).unwrap();
    drop(endless.write_all(&[b'a'; 100_000]));
    assert!(ask(port, GET).unwrap().starts_with("HTTP/1.1 200"));
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.end().0, 0);
    drop(silent);
}

#[test]
fn a_port_in_use_is_said_before_anything_runs() {
    for way in ways() {
        let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        for text in [port.to_string(), format!("127.0.0.1:{port}")] {
            let (status, output) = Setting::new(*way, &["--health-port", &text], &["echo", "it runs"]).start().end();
            let expected = format!("worker: --health-port: {text} cannot be used (Address already in use)");
            assert_eq!((status, output), (125, expected), "{way:?}");
        }
    }
}

#[test]
fn a_port_that_is_taken_meanwhile_is_said_once_and_opened_when_it_is_free() {
    let port = free_port();
    let options = ["--health-port", &format!("127.0.0.1:{port}"), "--stays-up", "3s"];
    // Somebody takes it after it was claimed: claiming keeps nobody from listening.
    let stage = Setting::bash(crate::stage::As::Child, &options, LISTENER, &["", "TERM"]).start();
    stage.until("ready");
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    stage.until("cannot be opened (Address already in use): tried again every second");
    assert_eq!(health(&stage).1, "up", "the command has stayed up all the same");
    // It is tried again meanwhile.
    std::thread::sleep(Duration::from_millis(1500));
    drop(taken);
    wait_for("the port", || ask(port, GET).ok().filter(|answer| answer.starts_with("HTTP/1.1 200")));
    stage.until(&format!("--health-port 127.0.0.1:{port} is open now"));
    assert_eq!(stage.lines_with("cannot be opened"), 1, "once: {}", stage.output());
}
