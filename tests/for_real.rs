//! For real: releases of the shop that succeed, and those who use it meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::machine::{Release, account, ask_all_the_time, ports};

#[test]
fn the_shop_is_released_and_its_customers_notice_nothing() {
    let ports = ports();
    let (local, state) = account("good", "local.yaml", ports);
    let mut release = Release::start(&local, &state, true);
    release.until("Source/Source");
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(ports + n, stop.clone())).collect();
    release.until("+ Deploy/Drain");
    // The new version answers; what it is asked from now on ends with the release itself.
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (versions, errors) = client.join().unwrap();
        assert_eq!(versions.len(), 2, "old, then new: {versions:?}");
        assert_eq!(versions[0], "1.0");
        assert!(errors.is_empty(), "{errors:?}");
    }
    let (status, output) = release.end();
    assert_eq!(status, Some(0), "{output}");
    for environment in ["us", "eu", "ap"] {
        for said in [
            "database at version 2, going to version 4",
            "applied 003_customer_email",
            "database at version 4, 40 orders with an address",
        ] {
            assert!(output.contains(&format!("{environment} | {said}")), "{environment}: {said}\n{output}");
        }
        let own: Vec<_> = output.lines().filter(|line| line.contains(&format!("{environment} | "))).collect();
        assert!(own.iter().any(|line| line.contains(" orders packed by 1.0")), "the old worker worked: {own:#?}");
        assert!(!own.iter().any(|line| line.contains("being packed by 1.0")), "and left nothing half done: {own:#?}");
        let drained = format!("{environment}/worker: 1 of 1 finished");
        assert!(output.contains(&drained), "{drained}\n{output}");
    }
    assert!(output.contains("Succeeded after"), "{output}");
    // A long job that was asked for before the release goes on after it, in the version that it began with.
    let (_, after) = output.split_once("Workers, which no release ends").unwrap_or_default();
    for environment in ["us", "eu", "ap"] {
        let line = after.lines().find(|line| line.contains(&format!("{environment}/exports"))).unwrap_or_default();
        assert!(line.contains("registry.example/shop:1.0, at work for"), "{environment}: {line}\n{output}");
    }
}

#[test]
fn the_shop_on_ecs_own_blue_green_is_released_when_somebody_has_typed_yes() {
    let ports = ports();
    let (local, state) = account("typed", "local.ecs.yaml", ports);
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    let stop = Arc::<AtomicBool>::default();
    let client = ask_all_the_time(ports + 1, stop.clone());
    release.process.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    release.until("+ Deploy/Drain");
    stop.store(true, Ordering::Relaxed);
    let (versions, errors) = client.join().unwrap();
    assert!(versions.len() == 2 && versions[0] == "1.0" && errors.is_empty(), "{versions:?} {errors:?}");
    let (status, output) = release.end();
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains("us web    | deployed by ECS (blue/green); its traffic waits for the others"), "{output}");
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn services_of_each_of_ecss_kinds_are_released_and_their_customers_notice_nothing() {
    // A canary, a linear service, one of CodeDeploy's, and a hook that is a real program.
    let ports = ports();
    let (local, state) = account("mixed", "local.mixed.yaml", ports);
    // The hook lets the deployment go on when it was seen to run, however slow the machine is.
    let seen = state.join("seen");
    let text = std::fs::read_to_string(&local).unwrap();
    let waits = format!("until test -e '{}'; do sleep 0.1; done", seen.display());
    assert!(text.contains("sleep 3"), "local.mixed.yaml has no sleep 3");
    std::fs::write(&local, text.replace("sleep 3", &waits)).unwrap();
    let mut release = Release::start(&local, &state, true);
    release.until("Source/Source");
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(ports + n, stop.clone())).collect();
    release.until("us web    | POST_SCALE_UP, 2 of 2 new tasks run, 0 % of traffic, hook look-at-shop runs");
    std::fs::write(&seen, "").unwrap();
    release.until("+ Deploy/Drain");
    stop.store(true, Ordering::Relaxed);
    for (client, steps) in clients.into_iter().zip([true, true, false]) {
        let (versions, errors) = client.join().unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(versions.first().map(String::as_str), Some("1.0"));
        assert_ne!(versions.last().map(String::as_str), Some("1.0"), "{versions:?}");
        // While the traffic is shared, answers change from one version to the other and back. How much of it the log says when somebody
        // looks just then; tests/rollouts.rs sees it.
        assert_eq!(versions.len() > 2, steps, "{versions:?}");
    }
    let (status, output) = release.end();
    assert_eq!(status, Some(0), "{output}");
    for said in [
        "us web    | deployed by ECS (canary); its traffic waits for the others in PRE_PRODUCTION_TRAFFIC_SHIFT",
        "us worker | deployed by ECS (rolling); its traffic does not wait",
        "eu worker | deployed by CodeDeploy (group worker of shop); its traffic waits for the others",
        "us/worker: 1 of 1 finished",
    ] {
        assert!(output.contains(said), "{said}\n{output}");
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn an_old_workers_job_that_takes_longer_than_its_stop_timeout_outlives_the_release() {
    // An order takes 25 s, and ECS kills 3 s after SIGTERM, which the shop's worker does not survive either.
    let (local, state) = account("long-jobs", "local.yaml", ports());
    let text = std::fs::read_to_string(&local).unwrap();
    let slow = [
        ("stop_timeout: 60s", "stop_timeout: 3s"),
        ("STOP_TIMEOUT: 60s", "STOP_TIMEOUT: 3s"),
        ("\"4000\"", "\"25000\""),
    ];
    let text = slow.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "local.yaml has no {from}");
        text.replace(from, to)
    });
    std::fs::write(&local, text).unwrap();
    let (status, output) = Release::start(&local, &state, true).end();
    assert_eq!(status, Some(0), "{output}");
    for environment in ["us", "eu", "ap"] {
        assert!(output.contains(&format!("{environment}/worker: 1 of 1 finished")), "{environment}: {output}");
        let own: Vec<_> = output.lines().filter(|line| line.contains(&format!("{environment} | "))).collect();
        assert!(own.iter().any(|line| line.contains(" orders packed by 1.0")), "its job ended well: {own:#?}");
        assert!(!own.iter().any(|line| line.contains("being packed by 1.0")), "and was the last one: {own:#?}");
    }
    assert!(!output.contains("Warning. Old workers"), "{output}");
}

#[test]
fn a_migration_that_talks_a_lot_is_shown_to_the_last_line() {
    // More than 100,000 in all three.
    const ROWS: u64 = 34_000;
    let (local, state) = account("chatty", "local.chatty.yaml", ports());
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    release.process.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let (_, output) = release.end();
    let sum = |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let expected = (1..=ROWS).fold(0_u64, |all, row| all.wrapping_mul(31).wrapping_add(sum(row)));
    for environment in ["us", "eu", "ap"] {
        let label = format!("{environment} | row ");
        let (mut count, mut all) = (0, 0_u64);
        for line in output.lines().filter_map(|line| line.split_once(&label).map(|(_, row)| row)) {
            let mut words = line.split(' ');
            count += 1;
            assert_eq!(words.next().unwrap().parse::<u64>().unwrap(), count, "in order, none missing");
            let text = words.next().unwrap();
            all = all.wrapping_mul(31).wrapping_add(u64::from_str_radix(text, 16).unwrap());
            assert!(count % 10_000 != 2 || line.ends_with("caf\u{fffd} in Latin-1"), "{line}");
        }
        assert_eq!((count, all), (ROWS, expected), "{environment}");
        assert!(output.contains(&format!("{environment} | migrate complete: {} lines", ROWS + 6)), "{environment}");
    }
}
