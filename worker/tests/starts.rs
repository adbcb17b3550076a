//! How it starts: the command line, what the command finds, what it ends with.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::stage::{As, Setting, WORKER, said, ways};

#[test]
fn the_status_is_the_commands_own() {
    for way in ways() {
        for status in [0, 1, 3, 127, 255] {
            let (ended, output) = Setting::bash(*way, &[], "exit $1", &[&status.to_string()]).start().end();
            assert_eq!(ended, status, "{way:?}: {output}");
            assert_eq!(output.contains("by itself"), status != 0, "{output}");
        }
        for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("USR1", 10)] {
            let (ended, output) = Setting::bash(*way, &[], "kill -$1 $$", &[signal]).start().end();
            assert_eq!(ended, 128 + number, "{way:?}: {output}");
            assert!(output.contains(&format!("worker: bash was ended by SIG{signal}, ")), "{output}");
        }
    }
}

#[test]
fn a_command_that_is_not_there_or_is_no_program_is_said_with_a_status_of_its_own() {
    for way in ways() {
        let (ended, output) = Setting::new(*way, &[], &["no-such-program"]).start().end();
        assert_eq!(
            (ended, output.as_str()),
            (127, "worker: no-such-program cannot be started: No such file or directory")
        );
        let (ended, output) = Setting::new(*way, &[], &["/etc/passwd"]).start().end();
        assert_eq!((ended, output.as_str()), (126, "worker: /etc/passwd cannot be started: Permission denied"));
    }
}

#[test]
fn a_wrong_option_is_named_and_nothing_is_run() {
    for (options, environment, expected) in [
        (["--stop", "STOPP"].as_slice(), ("A", "b"), "error: --stop: `STOPP` is no signal"),
        (&[], ("WORKER_LIVE", "long"), "error: WORKER_LIVE: `long` is no duration"),
        (&["--socket", "/no/such/folder/socket"], ("A", "b"), "--socket: /no/such/folder/socket: No such file"),
    ] {
        let setting = Setting::new(As::Child, options, &["echo", "it runs"]).with(environment.0, environment.1);
        let (ended, output) = setting.start().end();
        assert_eq!(ended, 125, "{output}");
        assert!(output.starts_with("worker: ") && output.contains(expected) && !output.contains("it runs"), "{output}");
    }
}

#[test]
fn help_and_version_are_for_people() {
    let help = Command::new(WORKER).arg("--help").output().unwrap();
    assert!(help.status.success() && said(&help).contains("\n  worker [OPTIONS] -- COMMAND..."));
    let version = Command::new(WORKER).arg("--version").output().unwrap();
    assert_eq!(said(&version), concat!("worker ", env!("CARGO_PKG_VERSION")));
    // Closed by its reader, it is no panic.
    let mut closed = Command::new(WORKER).arg("--help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(closed.stdout.take());
    let ended = closed.wait_with_output().unwrap();
    assert!(!said(&ended).contains("panicked"), "{}", said(&ended));
}

#[test]
fn standard_streams_pass_through_byte_by_byte() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for way in ways() {
        let mut command = Setting::new(*way, &[], &["sh", "-c", "cat; echo complaint >&2"]).to_command();
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
        let output = process.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.stdout == bytes, "{way:?}: {} bytes", output.stdout.len());
        assert_eq!(output.stderr, b"complaint\n", "{way:?}");
    }
}

#[test]
fn the_command_finds_its_signals_as_they_were_before() {
    const SHOW: &str = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    for way in ways() {
        // Without, and with a signal that whoever started it had blocked.
        for before in [&["env"][..], &["env", "--block-signal=USR1"]] {
            let direct = Command::new(before[0]).args(&before[1..]).args(["bash", "-c", SHOW]).output().unwrap();
            let (_, under) = Setting::bash(*way, &[], SHOW, &[]).after(before).start().end();
            assert_eq!(under, said(&direct), "{way:?} {before:?}");
        }
    }
}

#[test]
fn a_status_is_seen_although_whoever_started_it_ignores_the_ends_of_children() {
    for way in ways() {
        let setting = Setting::bash(*way, &[], "exit 5", &[]).after(&["env", "--ignore-signal=CHLD"]);
        let (ended, output) = setting.start().end();
        assert_eq!(ended, 5, "{way:?}: {output}");
    }
}

#[test]
fn the_command_can_speak_with_it_wherever_the_socket_is() {
    // Without a place that is named: where PID 1 has it, or one of its own.
    const ASK: &str = "echo $WORKER_SOCKET; until [ \"$(\"$1\" health)\" = up ]; do :; done; \"$1\" idle; echo idle $?";
    for way in ways() {
        let setting = Setting::bash(*way, &["--stays-up", "1ms"], ASK, &[WORKER]).usual_socket();
        // A container's /run is its own.
        let own_run = ["sh", "-c", "mount -t tmpfs none /run && exec \"$0\" \"$@\""];
        let setting = if *way == As::Init { setting.after(&own_run) } else { setting };
        let (ended, output) = setting.start().end();
        assert_eq!(ended, 0, "{way:?}: {output}");
        let place = if *way == As::Init { "/run/worker.sock" } else { "/worker-" };
        assert!(output.contains(place) && output.ends_with("idle 0"), "{way:?}: {output}");
    }
}
