//! What a stop ends in, and what people are told of it: functions that are dead for good, what had ended by itself, what is taken back by
//! nobody, and each sentence of the halt.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use local::world::{ExecutionStatus, Start, World};
use serde_json::json;
use tests::{Call, Meddling, Script, Setting, Stage, of_task, play};

use crate::halts::{nothing_is_left, small};

#[test]
fn a_function_that_is_dead_for_good_is_answered_for_and_the_action_does_not_hang() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("run-tasks", "DescribeTasks") => Meddling::CrashAfter,
        _ => Meddling::Pass,
    };
    let script = |start: &Start| if of_task(start, "prepare") { Script::task(2000) } else { Script::of_shop(start) };
    play(Setting { meddle: Box::new(meddle), script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let action = stage.action(&release, "Prepare");
        let verdict = action.error.clone().unwrap();
        assert!(
            verdict.starts_with("Cutover's function cutover-run-tasks failed at every try: it crashed."),
            "{verdict}"
        );
        let took = action.updated.since(action.started);
        assert!(took < Duration::from_secs(300), "{took:?}");
        nothing_is_left(&stage, &release);
        // Its task goes on for half an hour, and is stopped once the stage has ended: the log does not wait for that end.
        let goes_on = stage.action(&release, "PrepareLogs").updated.since(action.updated);
        assert!(goes_on < Duration::from_secs(60), "{goes_on:?}");
        let said = stage.lines(&release);
        assert!(
            said.iter()
                .any(|line| line.starts_with("halt | us: task ") && line.ends_with(" of prepare is being stopped")),
            "{said:#?}"
        );
    });
}

#[test]
fn what_was_begun_with_another_manifest_of_the_release_is_taken_back_too() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("run-tasks", "DescribeTasks") => Meddling::CrashAfter,
        _ => Meddling::Pass,
    };
    let shop = Setting::default().manifest;
    // Of the same application, in a file of its own: only this one says of which family its task is.
    let other = shop.replacen(
        "  prepare:\n    family: shop-task\n    command: [shop, prepare]",
        "  seed:\n    family: shop-export\n    command: [shop, seed]",
        1,
    );
    assert_ne!(other, shop);
    let setting = Setting {
        meddle: Box::new(meddle),
        script: Box::new(|start| match of_task(start, "prepare") || of_task(start, "seed") {
            true => Script::task(2000),
            false => Script::of_shop(start),
        }),
        ballast: other.into_bytes(),
        change_stack: Box::new(|stack| {
            for stage in &mut stack.pipeline.stages {
                let Some(run) = stage.actions.iter().find(|action| action.name == "Prepare") else { continue };
                let mut seed = run.clone();
                seed.name = "Seed".into();
                seed.namespace = None;
                seed.configuration.insert("Manifest".into(), json!("ballast"));
                seed.configuration.insert("Task".into(), json!("seed"));
                stage.actions.push(seed);
            }
        }),
        ..Setting::default()
    };
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let ran = |family: &str| {
            stage.world().tasks().any(|task| task.started_by.contains(&release) && task.definition.contains(family))
        };
        assert!(ran("shop-export") && ran("shop-task"), "{:#?}", stage.actions(&release));
        nothing_is_left(&stage, &release);
        // They would go on for half an hour by themselves.
        let said = stage.lines(&release);
        for task in ["prepare", "seed"] {
            let is_it = |line: &String| {
                line.starts_with("halt | us: task ") && line.ends_with(&format!(" of {task} is being stopped"))
            };
            assert!(said.iter().any(is_it), "{task}: {said:#?}");
        }
    });
}

#[test]
fn a_log_whose_function_is_dead_for_good_is_a_warning_and_fails_no_release() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("tail-logs", "PutLogEvents") => Meddling::CrashBefore,
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let action = stage.action(&release, "MigrateLogs");
        assert!(
            action.summary.starts_with("Warning: the log is incomplete. Cutover's function cutover-tail-logs failed")
        );
    });
}

#[test]
fn a_drain_that_cannot_be_done_or_whose_function_is_dead_for_good_is_a_warning_and_fails_no_release() {
    for (operation, with, said) in [
        (
            "BatchGetDeploymentTargets",
            Meddling::CrashBefore,
            "Cutover's function cutover-drain-workers failed at every try",
        ),
        ("GetObject", Meddling::Refuse, "The artifact `Build` cannot be read"),
    ] {
        let meddle = move |call: &Call<'_>| {
            if call.function == "drain-workers" && call.operation == operation { with } else { Meddling::Pass }
        };
        play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
            let drain = stage.action(&release, "Drain").summary;
            let begin = "Warning: the old workers were not watched to their end";
            assert!(drain.starts_with(begin) && drain.contains(said), "{operation}: {drain}");
        });
    }
}

#[test]
fn a_rollback_that_is_stopped_while_nobody_watches_is_judged_by_where_the_traffic_is() {
    // A person stops the release in the middle, every function that acts on it dies, and the rollback comes to a bad end
    // before halt-release is invoked again.
    let mut first = None;
    let meddle = move |call: &Call<'_>| match (call.function, call.operation) {
        ("deploy-services", "ContinueDeployment") => Meddling::AbandonAndCrash,
        ("halt-release", "StopDeployment") => {
            let first = *first.get_or_insert(call.at);
            if call.at.since(first) < Duration::from_secs(30) { Meddling::CrashAfter } else { Meddling::Pass }
        }
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(meddle), ..small() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        let rolls_back = |world: &local::world::World| world.deployment_with("CodeDeploy rolled back").is_some();
        stage.until("a rollback", Duration::from_secs(300), rolls_back).await;
        let rollback = stage.world().deployment_with("CodeDeploy rolled back").unwrap();
        let stop = json!({"deploymentId": rollback, "autoRollbackEnabled": true});
        stage.call("CodeDeploy_20141006.StopDeployment", &stop);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let said = stage.lines(&release);
        assert!(stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0")), "{:?}", stage.world().traffic());
        assert!(said.iter().any(|line| line.starts_with("halt complete: ")), "{said:#?}");
        assert!(!said.iter().any(|line| line.contains("NOT ROLLED BACK")), "{said:#?}");
    });
}

/// Both services have moved their traffic, their old tasks are gone, and the function that deployed them is dead for good
/// when a person stops the release.
fn ended_by_themselves(with: impl AsyncFnOnce(&Stage, &str)) {
    let continued = Arc::new(AtomicUsize::new(0));
    let meddle = move |call: &Call<'_>| {
        let dies = call.function == "deploy-services" && continued.load(Ordering::Relaxed) >= 2;
        if call.operation == "ContinueDeployment" && call.function == "deploy-services" {
            continued.fetch_add(1, Ordering::Relaxed);
        }
        if dies { Meddling::CrashBefore } else { Meddling::Pass }
    };
    let account = Setting::default().account.replace("termination_wait: 5m", "termination_wait: 0s");
    play(Setting { account, meddle: Box::new(meddle), ..small() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        let over = |world: &local::world::World| {
            let all = world.deployments();
            all.len() == 2 && all.iter().all(|(_, status)| *status == "Succeeded")
        };
        stage.until("both have ended by themselves", Duration::from_secs(300), over).await;
        stage.stop(&release);
        with(&stage, &release).await;
    });
}

#[test]
fn what_had_ended_by_itself_is_brought_back_although_the_function_that_deployed_it_is_dead() {
    ended_by_themselves(async |stage, release| {
        tokio::time::sleep(Duration::from_secs(300)).await;
        let said = stage.lines(release);
        let traffic = stage.world().traffic();
        assert!(traffic.iter().all(|one| one.image.ends_with(":1.0")), "{traffic:?}\n{said:#?}");
        for name in ["us/web", "eu/worker"] {
            let brought = format!("halt | {name}: brought back by a deployment of the revision before");
            assert!(said.contains(&brought), "{brought} is not in {said:#?}");
        }
        assert!(!said.iter().any(|line| line.contains("NOT ROLLED BACK")), "{said:#?}");
        nothing_is_left(stage, release);
    });
}

#[test]
fn a_way_back_that_somebody_stops_is_said_loudly() {
    ended_by_themselves(async |stage, release| {
        let is_coming = |world: &local::world::World| world.deployment_with(" us/web back, key ").is_some();
        stage.until("the way back", Duration::from_secs(300), is_coming).await;
        let back = stage.world().deployment_with(" us/web back, key ").unwrap();
        let stop = json!({"deploymentId": back, "autoRollbackEnabled": true});
        stage.call("CodeDeploy_20141006.StopDeployment", &stop);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let said = stage.lines(release);
        assert!(said.iter().any(|line| line.contains("NOT ROLLED BACK: us/web (")), "{said:#?}");
        assert!(!said.iter().any(|line| line.contains("NOT ROLLED BACK: eu/worker")), "{said:#?}");
    });
}

#[test]
fn a_function_that_cannot_even_start_is_answered_for() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("run-tasks", "AcknowledgeJob") => Meddling::CrashBefore,
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let action = stage.action(&release, "Prepare");
        let verdict = action.error.clone().unwrap();
        assert!(verdict.starts_with("Cutover's function cutover-run-tasks failed at every try"), "{verdict}");
        assert!(action.updated.since(action.started) < Duration::from_secs(300));
        assert_eq!(stage.started(&release), Vec::<String>::new());
    });
}

#[test]
fn a_retry_that_begins_meanwhile_is_not_swept_away() {
    let script = |start: &Start| if of_task(start, "migrate") { Script::task(60) } else { Script::of_shop(start) };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Migrate").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
        // At once, while the events of the stop are still on their way.
        stage.ask("RetryStageExecution", &release, json!({"stageName": "Migrate", "retryMode": "ALL_ACTIONS"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
    });
}

#[test]
fn stopping_says_in_the_log_what_was_stopped_and_touches_nothing_that_has_succeeded() {
    // A post-step that lasts is stopped after the deployment: the traffic stays on the new version.
    let script = |start: &Start| if of_task(start, "finish") { Script::task(600) } else { Script::of_shop(start) };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        stage.until_begun(&release, "Finish").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
        nothing_is_left(&stage, &release);
        assert!(
            stage.world().traffic().iter().all(|one| one.image.ends_with(":2.0")),
            "a deployment whose action has succeeded is a fact"
        );
        assert!(
            stage.world().deployments().iter().all(|(_, status)| *status != "Stopped"),
            "{:?}",
            stage.world().deployments()
        );
    });
}

#[test]
fn how_far_each_task_came_is_said_also_when_ecs_has_forgotten_them() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        // ECS shows what has ended for an hour.
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        let list = json!({"cluster": "shop", "family": "shop-task", "desiredStatus": "STOPPED"});
        let shown = stage.call("AmazonEC2ContainerServiceV20141113.ListTasks", &list);
        assert_eq!(shown["taskArns"], json!([]));
        stage.stop(&release);
        let complete =
            |world: &World| world.release_lines(&release).iter().any(|line| line.message.starts_with("halt complete"));
        stage.until("the halt is said", Duration::from_secs(120), complete).await;
        let lines = stage.lines(&release);
        let said = lines.iter().find(|line| line.starts_with("halt complete")).unwrap();
        assert!(said.contains("migrate: done in us, eu, ap") && said.contains("prepare: done in us"), "{said}");
        assert!(!said.contains("finish"), "{said}");
    });
}

#[test]
fn a_manifest_that_cannot_be_read_is_said_loudly_with_what_to_do() {
    let reads = |call: &Call<'_>| matches!(call.operation, "GetObject" | "HeadObject");
    let meddle = move |call: &Call<'_>| match call.function == "halt-release" && reads(call) {
        true => Meddling::Refuse,
        false => Meddling::Pass,
    };
    let script = |start: &Start| if of_task(start, "migrate") { Script::task(600) } else { Script::of_shop(start) };
    play(Setting { meddle: Box::new(meddle), script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Migrate").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
        tokio::time::sleep(Duration::from_secs(300)).await;
        let said = stage.lines(&release);
        let told = "halt incomplete: what the release has started is not known, since its manifest cannot be read (";
        assert!(
            said.iter().any(|line| line.starts_with(told) && line.contains("startedBy begins with `cutover/`")),
            "{said:#?}"
        );
        // The functions that are alive take it back all the same.
        nothing_is_left(&stage, &release);
    });
}

#[test]
fn a_release_whose_manifest_has_a_mistake_has_begun_nothing_and_no_halt_is_told() {
    for (right, wrong) in [("environments:", "enviroments:"), ("timeout", "timeuot"), ("prepare", "pre pare")] {
        let setting = Setting::default();
        let manifest = setting.manifest.replacen(right, wrong, 1);
        assert_ne!(manifest, setting.manifest);
        play(Setting { manifest, ..setting }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
            tokio::time::sleep(Duration::from_secs(400)).await;
            let said = stage.lines(&release);
            assert!(!said.iter().any(|line| line.contains("halt ")), "{wrong}: {said:#?}");
        });
    }
}
