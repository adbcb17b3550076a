//! For real: releases that are stopped, killed, or no longer listened to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{PATIENCE, Release, account, ports, processes_of, programs, shop};

#[test]
fn ctrl_c_in_the_middle_of_a_migration_stops_it_everywhere() {
    let (local, state) = account("interrupted", "local.slow.yaml", ports());
    let mut release = Release::start(&local, &state, true);
    release.until("us | applying 003_customer_email");
    release.interrupt();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("Stopping the release") && output.contains("\nStopped after"), "{output}");
    assert!(!output.contains("applied 003_customer_email"), "nothing was half done: {output}");
    let (_, summary) = output.split_once("\nStopped after").unwrap();
    assert!(
        summary.contains("prepare: done in us\n") && summary.contains("migrate: not done in us, eu, ap\n"),
        "{output}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn on_a_terminal_ctrl_c_stops_the_release_alone_and_what_containers_write_moves_nothing() {
    let (slow, state) = account("terminal", "local.slow.yaml", ports());
    let bin = state.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    // What the container writes first would clear the screen, set the title and ring; and it says when the terminal reaches it.
    let evil = "#!/bin/sh\nprintf '\\033[2J\\033]0;owned\\007 a line of the migration\\n'\n\
        trap 'echo reached by the terminal' INT\ntrap 'kill $!' TERM\n\
        target/debug/shop \"$@\" &\nwait $!\nwait $!\n";
    std::fs::write(bin.join("shop"), evil).unwrap();
    std::fs::set_permissions(bin.join("shop"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let local = slow.with_file_name("local.evil.yaml");
    let path = format!("{}:target/debug:/usr/bin:/bin", bin.display());
    let text = std::fs::read_to_string(&slow).unwrap();
    std::fs::write(&local, text.replace("{PAUSE_MS: ", &format!("{{PATH: \"{path}\", PAUSE_MS: "))).unwrap();
    let mut release = Release::start_on_a_terminal(&local, &state);
    release.until("applying 003_customer_email");
    assert!(release.output().contains("\u{1b}["), "on a terminal there are colours: {}", release.output());
    // The terminal makes it a signal, and sends it to everything in the foreground.
    release.process.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("Stopping the release") && output.contains("Stopped\u{1b}[0m after"), "{output}");
    assert!(output.contains("migrate: not done in us, eu, ap"), "{output}");
    // The signal was for the release, and not for its tasks.
    assert!(!output.contains("reached by the terminal"), "{output}");
    assert!(output.contains("a line of the migration"), "{output}");
    assert!(!output.contains("\u{1b}[2J") && !output.contains("\u{1b}]0;") && !output.contains('\u{7}'), "{output:?}");
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn ctrl_c_while_an_approval_waits_ends_the_release() {
    let (local, state) = account("interrupted-approval", "local.yaml", ports());
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    release.interrupt();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("\nStopped after") && !output.contains("> Deploy/Deploy"), "{output}");
    assert!(output.contains("halt complete: nothing of the release was running any more"), "{output}");
}

#[test]
fn ctrl_c_in_the_middle_of_a_blue_green_deployment_rolls_it_back_everywhere() {
    // In `eu` it never gets ready, so the others wait for it.
    let (local, state) = account("interrupted-deployment", "local.yaml", ports());
    let slow = local.with_file_name("local.warming.yaml");
    let text =
        "extends: local.yaml\nenvironments: {eu: {containers: {shop-web: {environment: {WARMING_MS: \"60000\"}}}}}\n";
    std::fs::write(&slow, text).unwrap();
    let local = slow;
    let mut release = Release::start(&local, &state, true);
    release.until("ready, its traffic waits for the others");
    release.interrupt();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(
        // Who takes it back first is the function that deployed it, or halt-release.
        output.contains("\nStopped after")
            && output.contains("halt complete: ")
            && output.contains("us web    | rolled back"),
        "{output}"
    );
    let (_, traffic) = output.split_once("\nTraffic\n").unwrap();
    assert_eq!(traffic.matches("shop:1.0").count(), 6, "{output}");
    assert!(output.contains("hooks.slack.com is told: :octagonal_sign: shop: release stopped"), "{output}");
}

#[test]
fn a_run_that_is_killed_leaves_no_process_and_one_that_is_terminated_stops_the_release() {
    let (local, state) = account("killed", "local.slow.yaml", ports());
    let mut release = Release::start(&local, &state, true);
    release.until("us | applying 003_customer_email");
    // A second one of the same account is refused before its setup runs.
    // Another variant of it is the same account.
    for variant in [local.clone(), local.with_file_name("local.yaml")] {
        let second = Release::start(&variant, &state.join("second"), true).end();
        assert_eq!(second.0, Some(2), "{}", second.1);
        assert!(!second.1.contains("Setting up"), "{}", second.1);
    }
    assert!(processes_of(&state).len() > 5, "{:?}", processes_of(&state));
    release.process.kill().unwrap();
    let begun = Instant::now();
    while !processes_of(&state).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", processes_of(&state));
        std::thread::sleep(Duration::from_millis(50));
    }
    let (local, state) = account("terminated", "local.slow.yaml", ports());
    let mut release = Release::start(&local, &state, true);
    release.until("us | applying 003_customer_email");
    let pid = release.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("\nStopped after") && output.contains("migrate: not done in us, eu, ap"), "{output}");
}

/// A release of the shop whose build, or setup, begins something, notes that it did, and waits.
fn busy_for_long(name: &str, with: &str) -> (Child, PathBuf) {
    let (local, state) = account(name, "local.yaml", ports());
    let text = std::fs::read_to_string(&local).unwrap();
    let script = "sleep 1000 & echo begun > $BEGUN/begun; wait";
    let built = match with {
        "build" => "build:\n  command: [cargo, build, --locked, --target-dir, target]",
        _ => "setup:\n  - command: [cargo, build, --locked, --target-dir, target]",
    };
    let long = text.replace(
        built,
        &built.replace("cargo, build, --locked, --target-dir, target", &format!("sh, -c, \"{script}\"")),
    );
    assert_ne!(long, text);
    std::fs::write(&local, long).unwrap();
    let mut command = Command::new(programs().join("local"));
    command.arg("release").arg(shop()).arg("--local").arg(&local).arg("--state").arg(&state);
    // What the build begins has this in its environment: that is how it is found.
    command.env("BEGUN", format!("{}/", state.display()));
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    // A shell's child is the shell itself until it has become its command.
    let runs = || processes_of(&state).iter().any(|one| one.starts_with("sleep"));
    while !(state.join("begun").exists() && runs()) {
        assert!(process.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "no {with}");
        std::thread::sleep(Duration::from_millis(20));
    }
    (process, state)
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_run_that_is_ended_while_it_builds_or_sets_up_leaves_no_process_of_that() {
    for (with, signal, code) in [
        ("build", "-TERM", Some(1)),
        ("build", "-HUP", Some(1)),
        // Nothing was released yet: it ends as any program does.
        ("setup", "-INT", None),
        ("setup", "-TERM", None),
    ] {
        let (mut process, state) = busy_for_long(&format!("{with}{signal}"), with);
        assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
        // Nobody reads what it says any more: that does not keep it from ending in order.
        drop(process.stdout.take());
        assert_eq!(ended(&mut process, signal), code, "{with} {signal}");
        let ended = Instant::now();
        while !processes_of(&state).is_empty() {
            assert!(ended.elapsed() < Duration::from_secs(5), "{with} {signal}: {:?}", processes_of(&state));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The exit code of a process that was sent a signal. One that its parents ignore (a shell's `&` in a script, `nohup`) it ignores, too.
fn ended(process: &mut Child, signal: &str) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > PATIENCE {
            process.kill().unwrap();
            panic!("it did not end of {signal}: does whoever started these tests ignore that signal?");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whoever_stops_reading_what_a_release_says_does_not_end_it() {
    let folder = programs().join("releases/unread");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let local = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    // It fails after it has said that it sets up the account.
    std::fs::write(
        folder.join("local.yaml"),
        local.replacen("- command: [cargo, build", "- command: [no-such-program", 1),
    )
    .unwrap();
    std::fs::copy(shop().join("deploy.yaml"), folder.join("deploy.yaml")).unwrap();
    for (arguments, code) in [(vec!["check"], 0), (vec!["release", "--state", "state"], 2)] {
        let mut command = Command::new(programs().join("local"));
        command.arg(arguments[0]).arg(&folder).args(&arguments[1..]).current_dir(&folder);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}
