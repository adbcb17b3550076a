//! For real: releases of the shop that fail, or that a person rejects.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::machine::{Release, account, ask_all_the_time, ports, programs, shop};

#[test]
fn a_drifted_database_fails_the_release_with_sqlites_own_words() {
    let (local, state) = account("drifted", "local.drifted.yaml", ports());
    let (status, output) = Release::start(&local, &state, true).end();
    assert_eq!(status, Some(1), "{output}");
    let (_, verdict) = output.split_once("Migrate/Migrate failed:").unwrap();
    for said in [
        "migrate failed in ap: container `shop` ended with exit code 1.",
        "error: 003_customer_email: duplicate column name: email",
        "us: stopped",
        "eu: stopped",
    ] {
        assert!(verdict.contains(said), "{said}\n{output}");
    }
    assert!(!output.contains("> Deploy/Deploy") && !output.contains("> Approve/Approve"), "{output}");
    assert!(verdict.contains("shop:1.0"), "the old version has the traffic: {output}");
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_new_version_that_crashes_at_start_in_one_environment_gets_no_traffic_anywhere() {
    let ports = ports();
    let (local, state) = account("crashing", "local.crashing.yaml", ports);
    let mut release = Release::start(&local, &state, true);
    release.until("Source/Source");
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(ports + n, stop.clone())).collect();
    release.until("x Deploy/Deploy");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (versions, errors) = client.join().unwrap();
        assert_eq!(versions, ["1.0"], "traffic never leaves the old version");
        assert!(errors.is_empty(), "{errors:?}");
    }
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    let (_, verdict) = output.split_once("Deploy/Deploy failed:").unwrap();
    for said in [
        "eu/web failed: ",
        "container `shop` ended with exit code 1",
        "Its last line: error: MAIL_FROM is empty: this version sends mails, say from whom",
        "Traffic is on the old version everywhere.",
        "us/web                  1      2      1  rolled back",
        "ap/worker               1      2      1  rolled back",
    ] {
        assert!(verdict.contains(said), "{said}\n{output}");
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_new_version_that_does_not_work_behind_its_open_port_gets_no_traffic_anywhere() {
    let (local, state) = account("broken", "local.broken.yaml", ports());
    let (status, output) = Release::start(&local, &state, true).end();
    assert_eq!(status, Some(1), "{output}");
    for note in [
        "us-east-1 web: GET / answered 500 (",
        "times): {\"error\":\"no such table: prices\"}",
        "eu-west-1 web: GET / did not answer within 2s (",
    ] {
        assert!(output.contains(note), "{note}\n{output}");
    }
    let (_, verdict) = output.split_once("Deploy/Deploy failed:").unwrap();
    assert!(
        verdict
            .contains("/web failed: its new tasks keep dying (4 so far, max_failed_tasks is 3): ECS stopped it since")
    );
    assert!(verdict.contains("it failed its target group's health checks ("), "{output}");
    assert!(verdict.contains("Traffic is on the old version everywhere."), "{output}");
    let (_, traffic) = output.split_once("\nTraffic\n").unwrap();
    assert_eq!(traffic.matches("shop:1.0").count(), 6, "{output}");
}

#[test]
fn a_service_that_ecs_has_stopped_for_its_health_check_is_said_to_be_that() {
    let (local, state) = account("ill", "local.yaml", ports());
    let text = std::fs::read_to_string(&local).unwrap();
    let asks = "  us: {services: {web: {health_check: {matcher: \"404\", interval: 100ms, grace: 1s}}}, containers";
    let ill = text.replacen("  us: {containers", asks, 1);
    assert_ne!(ill, text);
    std::fs::write(&local, ill).unwrap();
    let mut command = Command::new(programs().join("local"));
    command.arg("release").arg(shop()).arg("--local").arg(&local).arg("--state").arg(&state);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    let said = "the service web in us-east-1 does not come up: container `shop` of shop-web:1 was stopped by ECS: Task \
                failed ELB health checks";
    assert!(error.contains(said) && !error.contains("exit code"), "{error}");
}

#[test]
fn a_rejected_approval_leaves_the_old_version_where_it_is() {
    let (local, state) = account("rejected", "local.ecs.yaml", ports());
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    release.process.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("Rejected: Rejected here"), "{output}");
    assert!(!output.contains("> Deploy/Deploy"), "{output}");
}
