//! Everywhere or nowhere: the services of a release, in whatever order CodeDeploy gets ready, fails, or is stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Start, World};
use serde_json::json;
use shared::Time;
use tests::sweep::share;
use tests::{Call, Meddling, Script, Setting, Stage, is_in, of_task, play};

use crate::rollouts::at_deploy;

pub(crate) fn is_old_everywhere(stage: &Stage) -> bool {
    stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0"))
}

pub(crate) fn is_new_everywhere(stage: &Stage) -> bool {
    stage.world().traffic().iter().all(|one| one.image.ends_with(":2.0"))
}

pub(crate) fn is_new(start: &Start) -> bool {
    start.image.ends_with(":2.0")
}

/// The shop whose new services do this; `None` leaves one as it is.
pub(crate) fn deploying(script: impl Fn(&Start) -> Option<Script> + 'static) -> Setting {
    let script = move |start: &Start| match start.port.is_some() && is_new(start) {
        true => script(start).unwrap_or_else(Script::service),
        false => Script::of_shop(start),
    };
    Setting { script: Box::new(script), ..Setting::default() }
}

/// A new version that says why, and dies.
pub(crate) fn crashing() -> Script {
    let line = |text: &str| (Duration::from_millis(100), text.to_owned());
    Script {
        lines: vec![line("starting"), line("error: MAIL_FROM is empty")],
        healthy_after: None,
        ill_after: None,
        ends: Some((Duration::from_millis(100), 1)),
        ..Script::service()
    }
}

/// A new version that never becomes healthy.
fn hanging() -> Script {
    Script { healthy_after: None, ..Script::service() }
}

/// A new version that is healthy at first, and answers with 500 some time later.
fn falling_ill(after: u64) -> Script {
    Script { ill_after: Some(Duration::from_secs(after)), ..Script::service() }
}

#[test]
fn a_new_version_that_falls_ill_while_the_others_are_awaited_moves_no_traffic_anywhere() {
    // In `us` it answers with 500 soon after it was healthy; in `eu` it takes its time.
    let script = |start: &Start| match start.port.is_some() && start.image.ends_with(":2.0") {
        true if is_in(start, "us") => falling_ill(5),
        true if is_in(start, "eu") => Script { healthy_after: Some(Duration::from_secs(200)), ..Script::service() },
        _ => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        let said = "ECS stopped it since it failed its target group's health checks (Health checks failed with these codes: [500]).";
        assert!(verdict.starts_with("us/") && verdict.contains(said), "{verdict}");
        assert!(stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0")), "{:?}", stage.world().traffic());
        assert!(!stage.say(&release).iter().any(|line| line.contains("its traffic is on the new version")));
    });
}

#[test]
fn a_new_version_that_answers_with_500_from_the_start_gets_no_traffic() {
    let script = |start: &Start| match start.port.is_some() && start.image.ends_with(":2.0") && is_in(start, "us") {
        true => Script { healthy_after: None, ..falling_ill(0) },
        false => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert!(verdict.contains("(Health checks failed with these codes: [500])"), "{verdict}");
        assert!(stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0")), "{:?}", stage.world().traffic());
        let answered = "GET / answered 500 (";
        assert!(
            stage.notes().iter().any(|note| note.contains(answered) && note.ends_with(": no such table")),
            "{:?}",
            stage.notes()
        );
    });
}

#[test]
fn the_verdict_on_a_version_that_stayed_ill_quotes_no_answer_to_sigterm() {
    let script = |start: &Start| match start.port.is_some() && start.image.ends_with(":2.0") && is_in(start, "us") {
        true => Script { healthy_after: None, ..falling_ill(0) },
        false => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        let first = verdict.lines().next().unwrap();
        assert!(
            first.contains("health checks") && !first.contains("last line") && !first.contains("It said"),
            "{first}"
        );
        assert!(verdict.contains("listening"), "its lines stay below: {verdict}");
        let named = "us-east-1 web: GET / answered 500 (";
        assert!(stage.notes().iter().any(|note| note.contains(named)), "{:?}", stage.notes());
    });
}

/// The shop whose `web` waits for nobody: in `us` it falls ill this long after it was healthy, elsewhere it takes its time.
fn moving_first(ill_after: u64, others: u64) -> Setting {
    let web = "web: {cluster: shop, service: web, wait_at_ready: 10m,";
    let account = Setting::default().account.replace(web, "web: {cluster: shop, service: web,");
    assert_ne!(account, Setting::default().account);
    let script = move |start: &Start| match of_task(start, "web") && start.image.ends_with(":2.0") {
        true if is_in(start, "us") => falling_ill(ill_after),
        true => Script { healthy_after: Some(Duration::from_secs(others)), ..Script::service() },
        false => Script::of_shop(start),
    };
    Setting { account, script: Box::new(script), ..Setting::default() }
}

#[test]
fn a_target_that_falls_ill_right_after_its_traffic_moved_takes_everything_back_while_another_is_awaited() {
    play(moving_first(30, 300), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        let moved = |world: &World| world.traffic().iter().any(|one| one.image.ends_with(":2.0"));
        stage.until("us/web has its traffic", Duration::from_secs(120), moved).await;
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert!(verdict.starts_with("us/web failed: ") && verdict.contains("health checks"), "{verdict}");
        assert!(is_old_everywhere(&stage), "{:?}", stage.world().traffic());
    });
}

#[test]
fn what_falls_ill_after_the_action_has_succeeded_is_left_to_ecs_and_its_alarms() {
    play(moving_first(600, 3), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        tokio::time::sleep(Duration::from_secs(1200)).await;
        assert!(stage.notes().iter().any(|note| note.contains("us-east-1 web: GET / answered 500")));
        assert!(is_new_everywhere(&stage), "a deployment whose action has succeeded is a fact");
        assert_eq!(stage.world().status(&release), Some(ExecutionStatus::Succeeded));
    });
}

fn statuses(stage: &Stage) -> Vec<&'static str> {
    stage.world().deployments().into_iter().map(|(_, status)| status).collect()
}

fn abandon(stage: &Stage, release: &str) {
    stage.ask("StopPipelineExecution", release, json!({"abandon": true, "reason": "a test"}));
}

/// `n` web services in `n` environments of one Region.
fn wide(n: usize) -> Setting {
    let good = Setting::default();
    let names: Vec<_> = (1..=n).map(|n| format!("e{n:02}")).collect();
    let (before, rest) = good.account.split_once("  us-east-1:\n").unwrap();
    let (us, after) = rest.split_once("    task_definitions:\n").unwrap();
    assert!(us.contains("deployment_groups"));
    let service = |name: &String| {
        format!("          web-{name}: {{task_definition: shop-web, container: shop, container_port: 8080}}\n")
    };
    let group = |name: &String| {
        format!(
            "        web-{name}: {{cluster: shop, service: web-{name}, wait_at_ready: 10m, termination_wait: 5m}}\n"
        )
    };
    let account = format!(
        "{before}  us-east-1:\n    clusters:\n      shop:\n        services:\n{}    deployment_groups:\n      shop:\n{}    task_definitions:\n{after}",
        names.iter().map(service).collect::<String>(),
        names.iter().map(group).collect::<String>(),
    );
    let environment = |name: &String| format!("  {name}: {{region: us-east-1, cluster: shop, subnets: [subnet-1]}}\n");
    let manifest = format!(
        "application: shop\nenvironments:\n{}tasks:\n\
         \x20 prepare: {{family: shop-task, command: [prepare], environments: [e01]}}\n\
         \x20 migrate: {{family: shop-task, command: [migrate], environments: [e01]}}\n\
         \x20 finish: {{family: shop-task, command: [finish], environments: [e01]}}\n\
         services:\n  web: {{kind: web, service: 'web-{{environment}}', codedeploy_application: shop, \
         deployment_group: 'web-{{environment}}', family: shop-web, container: shop, port: 8080}}\n",
        names.iter().map(environment).collect::<String>()
    );
    Setting { account, manifest, ..good }
}

#[test]
fn many_targets_cost_two_reads_a_second_and_their_changes_are_noticed_soon() {
    for n in [1, 10, 50] {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = calls.clone();
        let meddle = move |call: &Call<'_>| {
            if call.function == "deploy-services" && !call.writes {
                log.lock().unwrap().push((call.operation.to_owned(), call.at));
            }
            Meddling::Pass
        };
        // They get healthy one after the other, so that each change is one of its own.
        let started = std::cell::Cell::new(0);
        let script = move |start: &Start| match start.port.is_some() && is_new(start) {
            true => {
                started.set(started.get() + 1);
                Script { healthy_after: Some(Duration::from_millis(30_000 + 700 * started.get())), ..Script::service() }
            }
            false => Script::of_shop(start),
        };
        let setting = Setting { meddle: Box::new(meddle), script: Box::new(script), ..wide(n) };
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
            let old = |one: &local::world::TrafficView| one.region == "us-east-1" && one.image.ends_with(":1.0");
            assert!(!stage.world().traffic().iter().any(old));
            assert_eq!(stage.world().deployments().len(), n);
            let paced = [
                "ListDeployments",
                "BatchGetDeployments",
                "BatchGetDeploymentTargets",
                "BatchGetDeploymentGroups",
                "DescribeServices",
                "ListTasks",
                "DescribeTasks",
                "ListActionExecutions",
            ];
            let times: Vec<Time> = calls
                .lock()
                .unwrap()
                .iter()
                .filter(|(operation, _)| paced.contains(&operation.as_str()))
                .map(|(_, at)| *at)
                .collect();
            for (from, begun) in times.iter().enumerate() {
                let within = times[from..].iter().take_while(|at| at.since(*begun) < Duration::from_secs(20)).count();
                // Each invocation may read ten at once; the action hands over once it has begun.
                assert!(within <= 2 * 20 + 2 * 10, "{n} targets: {within} reads in 20 s");
            }
            // What is noticed is said: ready, and moved, of each.
            let mut delays = stage.noticed(&release);
            delays.sort();
            assert!(delays.len() >= 2 * n, "{n} targets: {delays:?}");
            let p95 = delays[(delays.len() - 1) * 95 / 100];
            let limit = if n <= 10 { 5 } else { 30 };
            assert!(p95 <= Duration::from_secs(limit), "{n} targets: {p95:?} of {delays:?}");
        });
    }
}

#[test]
fn the_first_the_middle_and_the_last_to_fail_before_the_barrier_take_all_the_others_back() {
    for (environment, command) in [("us", "web"), ("eu", "work"), ("ap", "work")] {
        let script = move |start: &Start| (is_in(start, environment) && of_task(start, command)).then(crashing);
        play(deploying(script), async |stage| {
            let release = stage.start();
            let old = async {
                loop {
                    assert!(is_old_everywhere(&stage), "traffic never leaves the old version");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let status = tokio::select! { biased; status = stage.end(&release) => status, () = old => unreachable!() };
            assert_eq!(status, ExecutionStatus::Failed);
            let name = format!("{environment}/{}", if command == "web" { "web" } else { "worker" });
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(verdict.starts_with(&format!("{name} failed: ")), "{verdict}");
            for said in [
                "its new tasks keep dying (",
                " so far, max_failed_tasks is 3): ",
                "container `shop` ended with exit code 1",
                "stop code: EssentialContainerExited; reason: Essential container in task exited",
                "Its last line: error: MAIL_FROM is empty",
                "Traffic is on the old version everywhere.",
                "What became of each  before  tried    now",
            ] {
                assert!(verdict.contains(said), "{said} is not in {verdict}");
            }
            assert_eq!(verdict.matches("     1      2      1  rolled back").count(), 6, "{verdict}");
            let statuses = statuses(&stage);
            assert_eq!(statuses.iter().filter(|status| **status == "Stopped").count(), 6, "{statuses:?}");
            assert_eq!(statuses.iter().filter(|status| **status == "Succeeded").count(), 6, "each has its rollback");
            assert!(!stage.world().calls.contains_key("codedeploy:ContinueDeployment"), "nobody was let through");
            let took = stage.action(&release, "Deploy").updated.since(stage.action(&release, "Deploy").started);
            assert!(took < Duration::from_secs(90), "it was given up early, not after CodeDeploy's hour: {took:?}");
        });
    }
}

#[test]
fn a_deployment_that_fails_after_the_barrier_takes_back_those_whose_traffic_had_moved() {
    // At the moment when all are continued, somebody stops one of them by hand.
    for victim in ["us/web", "eu/worker", "ap/worker"] {
        play(Setting::default(), async |stage| {
            let release = at_deploy(&stage).await;
            let continued =
                |world: &World| world.calls.get("codedeploy:ContinueDeployment").is_some_and(|calls| *calls >= 6);
            stage.until("all are continued", Duration::from_secs(600), continued).await;
            let id = stage.deployment(victim);
            stage.call("CodeDeploy_20141006.StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": true}));
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{victim}");
            assert!(is_old_everywhere(&stage), "{:?}", stage.world().traffic());
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(
                verdict.starts_with(&format!("{victim} failed: ")) && verdict.contains("stopped by somebody"),
                "{verdict}"
            );
        });
    }
}

#[test]
fn a_target_past_its_termination_wait_is_brought_back_by_a_deployment_of_the_revision_before() {
    // Without a termination wait the old tasks go at once; the worker of `ap` does not move its traffic before somebody stops it.
    let account =
        Setting::default().account.replace(", wait_at_ready: 10m, termination_wait: 5m", ", termination_wait: 0s");
    let spot =
        "desired: 2, capacity_providers: [{name: FARGATE, base: 1, weight: 1}, {name: FARGATE_SPOT, weight: 3}],";
    let account = account.replace("desired: 2,", spot);
    let script = |start: &Start| (is_in(start, "ap") && of_task(start, "work")).then(hanging);
    play(Setting { account, ..deploying(script) }, async |stage| {
        let release = at_deploy(&stage).await;
        let moved = |world: &World| world.traffic().iter().filter(|one| one.image.ends_with(":2.0")).count() == 5;
        stage.until("five have moved", Duration::from_secs(600), moved).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let summary = stage.say(&release);
        assert!(
            summary.iter().any(|line| line.contains("its traffic is on the new version, and its old tasks are gone")),
            "{summary:#?}"
        );
        let id = stage.deployment("ap/worker");
        stage.call("CodeDeploy_20141006.StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": true}));
        assert_eq!(
            stage.world().misplaced(),
            [""; 0],
            "each keeps its capacity providers: CodeDeploy drops what it is not told"
        );
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        assert!(is_old_everywhere(&stage), "{:?}", stage.world().traffic());
        assert_eq!(stage.world().misplaced(), [""; 0], "also on the way back");
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert_eq!(
            verdict.matches("brought back by a deployment of revision 1: its old tasks were gone").count(),
            5,
            "{verdict}"
        );
        assert!(verdict.contains("Traffic is on the old version everywhere."), "{verdict}");
        // What was brought back is not called stuck by whoever sweeps up after a failure.
        assert!(
            !stage.lines(&release).iter().any(|line| line.contains("NOT ROLLED BACK")),
            "{:#?}",
            stage.lines(&release)
        );
        let back = stage
            .world()
            .deployments()
            .into_iter()
            .filter(|(description, _)| description.contains(" back, key "))
            .count();
        assert_eq!(back, 5, "{:?}", stage.world().deployments());
    });
}

#[test]
fn a_halt_at_every_second_of_a_deployment_takes_everything_back() {
    for seconds in share([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12], 3, 0) {
        play(Setting::default(), async |stage| {
            let release = at_deploy(&stage).await;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let over = stage.action(&release, "Deploy").status != ActionStatus::InProgress;
            abandon(&stage, &release);
            assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped, "after {seconds} s");
            stage.until("nothing is under way", Duration::from_secs(120), |world| world.is_quiet(&release)).await;
            if over {
                assert!(is_new_everywhere(&stage), "what has succeeded is a fact");
            } else {
                assert!(is_old_everywhere(&stage), "after {seconds} s: {:?}", stage.world().traffic());
            }
        });
    }
}

#[test]
fn a_stop_that_comes_just_as_the_deployment_succeeds_is_followed_by_the_way_back() {
    // The old tasks go as soon as the traffic has moved, and the stop finds the deployment over.
    let account = Setting::default().account.replace("termination_wait: 5m", "termination_wait: 0s");
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        // The action learns late that the others have moved, and meanwhile one is stopped.
        ("deploy-services", "BatchGetDeploymentTargets") if call.region == "ap-southeast-2" => Meddling::Throttle,
        _ => Meddling::Pass,
    };
    play(Setting { account, meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = at_deploy(&stage).await;
        stage
            .until("all have moved", Duration::from_secs(300), |world| {
                world.traffic().iter().all(|one| one.image.ends_with(":2.0"))
            })
            .await;
        assert_eq!(stage.action(&release, "Deploy").status, ActionStatus::InProgress);
        abandon(&stage, &release);
        assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
        assert!(is_old_everywhere(&stage), "{:?}", stage.world().traffic());
    });
}

#[test]
fn the_log_tells_step_by_step_what_becomes_of_each_target() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
        let said = stage.say(&release);
        for (environment, service) in [("us", "web"), ("eu", "worker")] {
            let label = format!("{environment} {service:6} | ");
            let own: Vec<_> = said.iter().filter_map(|line| line.strip_prefix(&label)).collect();
            let at = |part: &str| {
                own.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {own:#?}"))
            };
            assert!(at("new tasks run") < at("ready, its traffic waits"), "{own:#?}");
            assert!(at("ready, its traffic waits") < at("its traffic is on the new version"), "{own:#?}");
            let mut once = own.clone();
            once.dedup();
            assert_eq!(once, own, "nothing is said twice");
        }
        assert!(
            said.iter()
                .any(|line| line.starts_with("deploy complete: Traffic is on the new version everywhere after ")),
            "{said:#?}"
        );
    });
}
