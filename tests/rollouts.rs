//! The services that ECS itself deploys, beside those of CodeDeploy and mixed with them: the same laws for each kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Start, World};
use serde_json::json;
use shared::Time;
use tests::sweep::share;
use tests::{Call, Kind, Meddling, Script, Setting, Stage, is_in, of_task, play, with_kinds};

/// The shop, whose web services and workers are of these kinds.
pub(crate) fn shop(web: &[Kind], worker: &[Kind]) -> Setting {
    let good = Setting::default();
    Setting { account: with_kinds(&good.account, web, worker), ..good }
}

pub(crate) fn is_on(stage: &Stage, version: &str) -> bool {
    stage.world().traffic().iter().all(|one| one.image.ends_with(version))
}

/// A new version that says why, and dies.
pub(crate) fn crashing() -> Script {
    Script {
        lines: vec![(Duration::from_millis(100), "error: MAIL_FROM is empty".to_owned())],
        healthy_after: None,
        ill_after: None,
        ends: Some((Duration::from_millis(100), 1)),
        ..Script::service()
    }
}

pub(crate) fn with_new(mut setting: Setting, script: impl Fn(&Start) -> Option<Script> + 'static) -> Setting {
    setting.script = Box::new(move |start: &Start| match start.port.is_some() && start.image.ends_with(":2.0") {
        true => script(start).unwrap_or_else(Script::service),
        false => Script::of_shop(start),
    });
    setting
}

#[test]
fn a_release_goes_through_with_services_of_each_kind() {
    for kind in Kind::ALL {
        play(shop(&[kind], &[kind]), async |stage| {
            let release = stage.start();
            let status = stage.end(&release).await;
            let said = stage.say(&release);
            assert_eq!(status, ExecutionStatus::Succeeded, "{kind:?}: {:#?}\n{said:#?}", stage.actions(&release));
            assert!(is_on(&stage, ":2.0"), "{kind:?}: {:?}", stage.world().traffic());
            let world = stage.world();
            let begun = world.rollouts().len() + world.deployments().len();
            assert_eq!(begun, 6, "{kind:?}: one deployment for each target: {:#?}", world.rollouts());
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn while_half_of_all_calls_are_throttled_services_of_each_kind_are_released() {
    for kind in share(Kind::ALL, 3, 0) {
        let mut lots = fastrand::Rng::with_seed(1);
        let meddle = move |_: &Call<'_>| if lots.bool() { Meddling::Throttle } else { Meddling::Pass };
        play(Setting { meddle: Box::new(meddle), ..shop(&[kind], &[kind]) }, async |stage| {
            let release = stage.start();
            let status = stage.end(&release).await;
            let said = stage.say(&release);
            assert_eq!(status, ExecutionStatus::Succeeded, "{kind:?}: {:#?}\n{said:#?}", stage.actions(&release));
            assert!(is_on(&stage, ":2.0"), "{kind:?}: {:?}", stage.world().traffic());
        });
    }
}

const ECS: &str = "AmazonEC2ContainerServiceV20141113";

/// A new revision of the shop's web service with this image, deployed to `us` as somebody else would.
pub(crate) fn deploy_by_hand(stage: &Stage, image: &str) {
    let described = stage.call(&format!("{ECS}.DescribeTaskDefinition"), &json!({"taskDefinition": "shop-web"}));
    let mut containers = described["taskDefinition"]["containerDefinitions"].clone();
    containers[0]["image"] = json!(format!("registry.example/shop:{image}"));
    let new = json!({"family": "shop-web", "containerDefinitions": containers});
    stage.call(&format!("{ECS}.RegisterTaskDefinition"), &new);
    let update = json!({"cluster": "shop", "service": "web", "taskDefinition": "shop-web"});
    stage.call(&format!("{ECS}.UpdateService"), &update);
}

/// Mixes of kinds, Region by Region: of the web services, and of the workers.
pub(crate) const MIXES: [(&[Kind], &[Kind]); 4] = [
    (&[Kind::BlueGreen], &[Kind::BlueGreen]),
    (&[Kind::Canary, Kind::Codedeploy, Kind::BlueGreen], &[Kind::Codedeploy, Kind::BlueGreen, Kind::Rolling]),
    (&[Kind::Rolling, Kind::Linear, Kind::Codedeploy], &[Kind::Unheld, Kind::Codedeploy, Kind::BlueGreen]),
    (&[Kind::Rolling], &[Kind::Rolling]),
];

/// Plays a release up to its Deploy action, and returns it.
pub(crate) async fn at_deploy(stage: &Stage) -> String {
    let release = stage.start();
    stage.until_begun(&release, "Approve").await;
    stage.answer_approval(&release, "Approved");
    stage.until_begun(&release, "Deploy").await;
    release
}

/// Whether nothing that the release began is under way: bake times and termination waits are.
pub(crate) fn is_at_rest(stage: &Stage) -> bool {
    let world = stage.world();
    let over =
        |status: &str| !matches!(status, "PENDING" | "IN_PROGRESS" | "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS");
    world.rollouts().iter().all(|one| over(one.status)) && !world.is_deploying()
}

/// When the first of a release's traffic moved, and when the last of those behind the barrier got ready.
fn first_move_and_last_ready(stage: &Stage, mix: (&[Kind], &[Kind])) -> (Option<Time>, Option<Time>) {
    let world = stage.world();
    let regions = ["us-east-1", "eu-west-1", "ap-southeast-2"];
    let kind = |region: &str, service: &str| {
        let kinds = if service == "web" { mix.0 } else { mix.1 };
        // The file's Regions are in this order.
        kinds[regions.iter().position(|one| *one == region).unwrap() % kinds.len()]
    };
    let rollouts = world.rollouts();
    let held = rollouts.iter().filter(|one| kind(&one.region, &one.service).is_behind_barrier());
    let held: Vec<_> = held.collect();
    let changes = world.changes_of_deployments();
    let with = |what: &str| {
        changes.iter().filter(|(_, said, _)| said.contains(what)).map(|(_, _, at)| *at).collect::<Vec<_>>()
    };
    let moved = held.iter().filter_map(|one| one.changes.1).chain(with("on the new version"));
    let ready = held.iter().filter_map(|one| one.changes.0).chain(with("ready"));
    (moved.min(), ready.max())
}

#[test]
fn no_traffic_behind_the_barrier_moves_before_all_is_ready_and_what_nothing_holds_is_done() {
    for mix in MIXES {
        play(shop(mix.0, mix.1), async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
            assert!(is_on(&stage, ":2.0"), "{:?}", stage.world().traffic());
            let (moved, ready) = first_move_and_last_ready(&stage, mix);
            if let (Some(moved), Some(ready)) = (moved, ready) {
                assert!(moved >= ready, "{mix:?}: traffic moved at {moved}, the last was ready at {ready}");
                let world = stage.world();
                let rolling = world.rollouts().into_iter().filter(|one| one.stage.is_none());
                for one in rolling {
                    assert!(one.span.0 >= ready, "{mix:?}: {one:?} began before all was ready at {ready}");
                    assert!(one.changes.1.unwrap() <= moved, "{mix:?}: {one:?} was not done when the barrier opened");
                }
            }
        });
    }
}

#[test]
fn one_that_fails_before_the_barrier_takes_all_back_whatever_their_kinds() {
    for (which, mix) in MIXES.into_iter().enumerate() {
        for (environment, command) in share([("us", "web"), ("eu", "work"), ("ap", "work")], 3, which) {
            let setting = with_new(shop(mix.0, mix.1), move |start| {
                (is_in(start, environment) && of_task(start, command)).then(crashing)
            });
            play(setting, async |stage| {
                let release = stage.start();
                let context = format!("{mix:?} {environment} {command}");
                assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{context}");
                let verdict = stage.action(&release, "Deploy").error.unwrap();
                let name = format!("{environment}/{}", if command == "web" { "web" } else { "worker" });
                assert!(verdict.starts_with(&format!("{name} failed: ")), "{context}: {verdict}");
                assert!(verdict.contains("its new tasks keep dying ("), "{context}: {verdict}");
                assert!(verdict.contains("Its last line: error: MAIL_FROM is empty"), "{context}: {verdict}");
                assert!(verdict.contains("Traffic is on the old version everywhere."), "{context}: {verdict}");
                assert!(is_on(&stage, ":1.0"), "{context}: {:?}", stage.world().traffic());
                assert!(is_at_rest(&stage), "{context}: {:#?}", stage.world().rollouts());
                let deploy = stage.action(&release, "Deploy");
                let took = deploy.updated.since(deploy.started);
                assert!(took < Duration::from_secs(150), "{context}: {took:?}");
            });
        }
    }
}

#[test]
fn a_worker_that_dies_seconds_after_its_start_is_no_success_however_long_that_start_takes() {
    for kind in [Kind::BlueGreen, Kind::Rolling] {
        let (starts_after, ends) = (Duration::from_secs(40), Some((Duration::from_secs(5), 1)));
        let setting = with_new(shop(&[Kind::Codedeploy], &[kind]), move |start| {
            of_task(start, "work").then(|| Script { starts_after, ends, ..crashing() })
        });
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{kind:?}");
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(verdict.contains("worker failed: its new tasks keep dying ("), "{kind:?}: {verdict}");
            assert!(is_on(&stage, ":1.0"), "{kind:?}: {:?}", stage.world().traffic());
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn one_that_is_stopped_by_hand_after_the_barrier_takes_back_those_whose_traffic_had_moved() {
    for mix in MIXES {
        play(shop(mix.0, mix.1), async |stage| {
            let release = at_deploy(&stage).await;
            // The last of all to move its traffic: all others have.
            let almost = |world: &World| {
                let new = world.traffic().iter().filter(|one| one.image.ends_with(":2.0")).count();
                new >= 4 && world.rollouts().iter().any(|one| one.status == "IN_PROGRESS")
            };
            stage.until("four have moved", Duration::from_secs(900), almost).await;
            let under_way = stage.world().rollouts().into_iter().find(|one| one.status == "IN_PROGRESS").unwrap();
            stage.call(
                &format!("{ECS}.StopServiceDeployment"),
                &json!({"serviceDeploymentArn": under_way.arn, "stopType": "ROLLBACK"}),
            );
            let status = stage.end(&release).await;
            let said = stage.say(&release);
            if status == ExecutionStatus::Succeeded {
                // It was in its bake time after the action had succeeded: a fact of somebody else's making.
                assert_eq!(stage.action(&release, "Deploy").status, ActionStatus::Succeeded);
                return;
            }
            assert!(is_on(&stage, ":1.0"), "{mix:?}: {:?}\n{said:#?}", stage.world().traffic());
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(
                verdict.contains("was stopped by somebody") || verdict.contains("rolled back by a user"),
                "{verdict}"
            );
            assert!(is_at_rest(&stage), "{mix:?}: {:#?}", stage.world().rollouts());
        });
    }
}

#[test]
fn a_barrier_is_added_where_the_manifest_asks_for_it_and_stays() {
    let mut setting = shop(&[Kind::Unheld], &[Kind::Rolling]);
    setting.manifest = setting.manifest.replace("    service: web\n", "    service: web\n    barrier: add\n");
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let summary = stage.action(&release, "Deploy").summary;
        let said = "Cutover gives a PAUSE hook, which stays in the service's configuration (`barrier: add`): us/web, eu/web, ap/web";
        assert!(summary.contains(said), "{summary}");
        let service = stage.call(&format!("{ECS}.DescribeServices"), &json!({"cluster": "shop", "services": ["web"]}));
        let hooks = &service["services"][0]["deploymentConfiguration"]["lifecycleHooks"];
        assert_eq!(hooks[0]["lifecycleStages"], json!(["PRE_PRODUCTION_TRAFFIC_SHIFT"]), "{hooks}");
        assert_eq!(hooks[0]["timeoutConfiguration"], json!({"timeoutInMinutes": 120, "action": "ROLLBACK"}));
        assert!(stage.world().rollouts().iter().filter(|one| one.service == "web").all(|one| one.changes.0.is_some()));
        // The next release finds it there.
        let next = stage.start();
        assert_eq!(stage.end(&next).await, ExecutionStatus::Succeeded);
        assert!(!stage.action(&next, "Deploy").summary.contains("barrier: add"));
    });
}

#[test]
fn a_service_that_runs_this_version_already_is_left_alone() {
    play(shop(&[Kind::BlueGreen], &[Kind::Rolling]), async |stage| {
        let first = stage.start();
        assert_eq!(stage.end(&first).await, ExecutionStatus::Succeeded);
        let begun = stage.world().rollouts().len();
        let again = stage.start();
        assert_eq!(stage.end(&again).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&again));
        assert_eq!(stage.world().rollouts().len(), begun, "nothing was begun");
        let summary = stage.action(&again, "Deploy").summary;
        assert!(summary.contains("us/web (ran 2 already)"), "{summary}");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_deployment_of_somebody_elses_is_waited_for_by_name_and_given_up_for_after_its_limit() {
    // What they deploy may be the release's very image: a run of it that was stopped, say.
    for (pause, ends, image, throttled) in [
        ("60s", true, "by-hand", false),
        ("24h", false, "by-hand", false),
        ("90s", true, "2.0", false),
        // What is under way cannot be asked at first: nothing is begun before it was.
        ("24h", false, "by-hand", true),
    ] {
        let mut setting = shop(&[Kind::BlueGreen], &[Kind::BlueGreen]);
        let lists = AtomicUsize::new(0);
        setting.meddle = Box::new(move |call: &Call<'_>| {
            let is_list = call.function == "deploy-services" && call.operation == "ListServiceDeployments";
            // Those of the release come first, one for each of six services.
            let is_late = is_list && (6..40).contains(&lists.fetch_add(1, Ordering::Relaxed));
            if is_late && throttled { Meddling::Throttle } else { Meddling::Pass }
        });
        setting.manifest = setting.manifest.replace("    service: web\n", "    service: web\n    wait_for_group: 4m\n");
        let hook = "lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFFIC_SHIFT], timeout: ";
        setting.account = setting.account.replacen(&format!("{hook}1h"), &format!("{hook}{pause}"), 1);
        play(setting, async |stage| {
            let release = stage.start();
            stage.until_begun(&release, "Approve").await;
            deploy_by_hand(&stage, image);
            // Clocks may differ by some seconds: what was begun that shortly before may be the action's own.
            tokio::time::sleep(Duration::from_secs(20)).await;
            stage.answer_approval(&release, "Approved");
            // Theirs may go on.
            let status = stage.end_alone(&release).await;
            let said = stage.say(&release);
            let waits = |line: &&String| {
                line.starts_with("us web    | waiting for service deployment ") && line.contains("to shop-web:2")
            };
            assert!(said.iter().any(|line| waits(&line)), "{said:#?}");
            if ends {
                // It timed out at its hook, and the release's own came after it.
                assert_eq!(status, ExecutionStatus::Succeeded, "{said:#?}");
                assert!(is_on(&stage, ":2.0"), "{image}: {:?}\n{said:#?}", stage.world().traffic());
            } else {
                assert_eq!(status, ExecutionStatus::Failed);
                let verdict = stage.action(&release, "Deploy").error.unwrap();
                assert!(verdict.starts_with("us/web failed: it was busy for 4 min"), "{verdict}");
                let theirs = stage.world().rollouts().into_iter().find(|one| one.definition == "shop-web:2").unwrap();
                assert_eq!(theirs.status, "IN_PROGRESS", "it is left alone");
            }
        });
    }
}

#[test]
fn old_workers_go_after_the_bake_time_and_one_that_protects_itself_is_left_to_finish() {
    for kind in [Kind::BlueGreen, Kind::Rolling] {
        let mut setting = shop(&[Kind::Codedeploy], &[kind]);
        setting.manifest =
            setting.manifest.replace("    service: worker\n", "    service: worker\n    drain_for: 2m\n");
        play(setting, async |stage| {
            let old = stage.world().tasks().find(|task| task.definition.contains("shop-worker:1")).unwrap().arn.clone();
            let id = old.rsplit('/').next().unwrap().to_owned();
            let protect = json!({"cluster": "shop", "tasks": [old], "protectionEnabled": true, "expiresInMinutes": 60});
            let region = old.split(':').nth(3).unwrap().to_owned();
            stage.call_in(&region, &format!("{ECS}.UpdateTaskProtection"), &protect);
            let release = stage.start();
            assert_eq!(
                stage.end(&release).await,
                ExecutionStatus::Succeeded,
                "{kind:?}: {:#?}",
                stage.actions(&release)
            );
            let task = stage.world().tasks().find(|task| task.arn == old).unwrap().clone();
            assert!(!task.is_over(), "{kind:?}: a protected task is never stopped");
            let summary = stage.action(&release, "Drain").summary;
            assert!(summary.contains("1 still busy, 1 of them protected: left to finish"), "{kind:?}: {summary}");
            assert!(summary.contains(&id) && summary.contains("1 of 1 finished"), "{kind:?}: {summary}");
        });
    }
}

#[test]
fn fifty_targets_of_ecs_cost_two_reads_a_second() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = calls.clone();
    let names: Vec<_> = (1..=50).map(|n| format!("e{n:02}")).collect();
    let good = shop(&[Kind::BlueGreen], &[Kind::BlueGreen]);
    let (before, rest) = good.account.split_once("  us-east-1:\n").unwrap();
    let (_, after) = rest.split_once("    task_definitions:\n").unwrap();
    let how = Kind::BlueGreen.service();
    let service = |name: &String| {
        format!("          web-{name}: {{task_definition: shop-web, container: shop, container_port: 8080{how}}}\n")
    };
    let services: String = names.iter().map(service).collect();
    let account = format!(
        "{before}  us-east-1:\n    clusters:\n      shop:\n        services:\n{services}    task_definitions:\n{after}"
    );
    let environment = |name: &String| format!("  {name}: {{region: us-east-1, cluster: shop, subnets: [subnet-1]}}\n");
    let manifest = format!(
        "application: shop\nenvironments:\n{}tasks:\n\
         \x20 prepare: {{family: shop-task, command: [prepare], environments: [e01]}}\n\
         \x20 migrate: {{family: shop-task, command: [migrate], environments: [e01]}}\n\
         \x20 finish: {{family: shop-task, command: [finish], environments: [e01]}}\n\
         services:\n  web: {{kind: web, service: 'web-{{environment}}', family: shop-web, container: shop}}\n",
        names.iter().map(environment).collect::<String>()
    );
    let meddle = move |call: &Call<'_>| {
        // Definitions are read once each, and counted apart.
        let elsewhere = ["/", "Pipeline", "Job", "Object", "Parameter", "DescribeTaskDefinition"];
        let is_ecs = !elsewhere.iter().any(|part| call.operation.contains(part));
        if call.function == "deploy-services" && !call.writes && is_ecs && !call.operation.contains("Log") {
            log.lock().unwrap().push(call.at);
        }
        Meddling::Pass
    };
    play(Setting { account, manifest, meddle: Box::new(meddle), ..good }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert_eq!(stage.world().rollouts().len(), 50);
        let times = calls.lock().unwrap().clone();
        assert!(times.len() > 100, "{}", times.len());
        for (from, begun) in times.iter().enumerate() {
            let within = times[from..].iter().take_while(|at| at.since(*begun) < Duration::from_secs(20)).count();
            assert!(within <= 2 * 20 + 10, "{within} reads in 20 s");
        }
    });
}
