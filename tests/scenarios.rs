//! Whole releases in virtual time: the pipeline of `template.yaml`, the real functions, scripted tasks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::template::ExecutionMode;
use local::world::{ActionStatus, ExecutionStatus, Start};
use serde_json::json;
use tests::sweep::share;
use tests::{Call, Meddling, Script, Setting, as_invoke_actions, is_in, of_task, play, wide, with_parameter};

const ENVIRONMENTS: [&str; 3] = ["ap", "eu", "us"];

/// The shop, whose migration in `ap` ends with an error after two lines, while the others take a minute.
fn drifted() -> Setting {
    let script = |start: &Start| match (of_task(start, "migrate"), is_in(start, "ap")) {
        (true, true) => {
            let mut script = Script::task(2).ending(1);
            script.lines.push((Duration::from_millis(10), "\u{1b}[31mduplicate column name: email\u{1b}[0m".into()));
            script
        }
        (true, false) => Script::task(60),
        (false, _) => Script::of_shop(start),
    };
    Setting { script: Box::new(script), ..Setting::default() }
}

#[test]
fn a_release_goes_through_the_whole_pipeline() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert!(stage.actions(&release).iter().all(|action| action.status == ActionStatus::Succeeded));
        let mut expected = vec!["prepare/us".to_owned()];
        for task in ["migrate", "finish"] {
            expected.extend(ENVIRONMENTS.map(|environment| format!("{task}/{environment}")));
        }
        expected.sort();
        assert_eq!(stage.started(&release), expected, "each task once, in each of its environments");
        let traffic = stage.world().traffic();
        assert_eq!(traffic.len(), 6);
        assert!(traffic.iter().all(|one| one.image.ends_with(":2.0")), "{traffic:?}");
        assert_eq!(stage.world().deployments().len(), 6);
        assert!(stage.notes().is_empty(), "{:?}", stage.notes());
    });
}

#[test]
fn the_merged_log_has_every_line_once_and_in_order_with_its_environment() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.end(&release).await;
        let lines = stage.lines(&release);
        for environment in ENVIRONMENTS {
            let own: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&format!("{environment} | "))).collect();
            let migrate: Vec<_> = own.iter().filter(|line| line.starts_with("line")).collect();
            let tasks = if environment == "us" { 3 } else { 2 };
            assert_eq!(migrate.len(), 3 * tasks, "{lines:#?}");
            for run in migrate.chunks(3) {
                assert_eq!(run, [&"line 1", &"line 2", &"line 3"]);
            }
            assert!(own.iter().any(|line| line.starts_with("migrate complete: 3 lines")), "{own:?}");
        }
    });
}

#[test]
fn more_environments_make_a_look_slower_never_dearer() {
    for n in [1, 10, 50] {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = calls.clone();
        let meddle = move |call: &Call<'_>| {
            log.lock().unwrap().push((call.function.to_owned(), call.operation.to_owned(), call.at));
            Meddling::Pass
        };
        let script = |start: &Start| if of_task(start, "migrate") { Script::task(30) } else { Script::of_shop(start) };
        let setting =
            Setting { manifest: wide(n), meddle: Box::new(meddle), script: Box::new(script), ..Setting::default() };
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
            let migrate = stage.action(&release, "Migrate");
            // The tasks take 30.6 s each from placement to their end; all of them at once.
            let took = migrate.updated.since(migrate.started);
            assert!(took < Duration::from_secs(36), "{n} environments: {took:?}");
            let lines = stage.lines(&release).iter().filter(|line| line.contains(" | line ")).count();
            assert_eq!(lines, 30 * n + 6, "{n} environments");
            let paced =
                ["ListTasks", "DescribeTasks", "DescribeTaskDefinition", "ListActionExecutions", "GetLogEvents"];
            let calls = calls.lock().unwrap();
            for function in ["run-tasks", "tail-logs"] {
                for (logs, most, saved) in [(false, 2, 18), (true, 5, 10)] {
                    let own = calls.iter().filter(|(by, operation, _)| {
                        by == function && paced.contains(&operation.as_str()) && (operation == "GetLogEvents") == logs
                    });
                    let times: Vec<_> = own.map(|(_, _, at)| *at).collect();
                    for (from, begun) in times.iter().enumerate() {
                        let within =
                            times[from..].iter().take_while(|at| at.since(*begun) < Duration::from_secs(20)).count();
                        // Twenty seconds' worth, and what was saved up, for each of two invocations at the most.
                        assert!(within <= most * 20 + saved, "{n} environments, {function}: {within} reads in 20 s");
                    }
                }
            }
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_flood_of_lines_arrives_complete_and_in_order() {
    const LINES: usize = 50_000;
    let script = |start: &Start| {
        let mut script = if start.port.is_some() { Script::service() } else { Script::task(1) };
        if of_task(start, "migrate") && is_in(start, "us") {
            // All in the same moment, of every length, some as long as CloudWatch takes them.
            let text = |n: usize| {
                if n.is_multiple_of(5000) { format!("line {n} {}", "x".repeat(262_000)) } else { format!("line {n} ") }
            };
            script.lines = (0..LINES).map(|n| (Duration::ZERO, text(n))).collect();
        }
        script
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let lines = stage.lines(&release);
        let own =
            lines.iter().filter_map(|line| line.strip_prefix("us | line ")?.split_once(' ')?.0.parse::<usize>().ok());
        assert_eq!(own.collect::<Vec<_>>(), (0..LINES).collect::<Vec<_>>());
        assert!(lines.iter().any(|line| line.starts_with(&format!("us | migrate complete: {LINES} lines"))));
    });
}

#[test]
fn a_container_without_a_log_that_can_be_read_is_named_and_one_that_may_lose_lines_is_warned_of() {
    let account = Setting::default().account.replace(", mode: blocking}", "}").replacen(
        "logDriver: awslogs",
        "logDriver: splunk",
        1,
    );
    play(Setting { account, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
        let lines = stage.lines(&release);
        let of = |environment: &str| {
            lines.iter().filter(|line| line.starts_with(environment) && line.contains("`splunk`")).count()
        };
        // The first one in the file is that of `us`, which runs three tasks.
        assert_eq!((of("us"), of("eu"), of("ap")), (3, 0, 0), "{lines:#?}");
        let summary = stage.action(&release, "Migrate").summary;
        assert!(summary.contains("Warning: under load, `shop` may lose log lines"), "{summary}");
    });
}

#[test]
fn the_console_shows_what_logs_and_deploy_do_and_the_link_to_the_log_while_they_run() {
    let script = |start: &Start| if start.port.is_some() { Script::service() } else { Script::task(60) };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        for (name, says, after) in [("MigrateLogs", "migrate: ", 4), ("Deploy", "Traffic moved in 0 of 6", 4)] {
            if name == "Deploy" {
                stage.until_begun(&release, "Approve").await;
                stage.answer_approval(&release, "Approved");
            }
            stage.until_begun(&release, name).await;
            tokio::time::sleep(Duration::from_secs(after)).await;
            let action = stage.action(&release, name);
            assert_eq!(action.status, ActionStatus::InProgress, "{name}");
            assert!(action.summary.contains(says), "{action:#?}");
            let state = stage.call("CodePipeline_20150709.GetPipelineState", &json!({"name": "cutover-pipeline"}));
            let stages = state["stageStates"].as_array().unwrap().iter();
            let mut actions = stages.flat_map(|stage| stage["actionStates"].as_array().unwrap());
            let shown = actions.find(|one| one["actionName"] == name).unwrap();
            let url = shown["latestExecution"]["externalExecutionUrl"].as_str().unwrap_or_default();
            assert!(url.contains("log-events"), "{shown:#}");
        }
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
    });
}

#[test]
fn a_line_is_shown_within_two_and_a_half_seconds() {
    // Found late, a short task's first lines cannot be early: these run for a minute.
    let script = |start: &Start| if start.port.is_some() { Script::service() } else { Script::task(60) };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.end(&release).await;
        let mut delays: Vec<_> = stage
            .events(&release)
            .into_iter()
            .filter(|event| event.message.contains(" | line "))
            .map(|event| event.ingested.since(event.at))
            .collect();
        assert_eq!(delays.len(), 7 * 60);
        delays.sort();
        let p95 = delays[delays.len() * 95 / 100];
        assert!(p95 < Duration::from_millis(2500), "{p95:?}");
        assert!(delays[delays.len() - 1] < Duration::from_secs(8), "{delays:?}");
    });
}

#[test]
fn while_half_of_all_calls_are_throttled_a_release_takes_longer_and_nothing_else() {
    for seed in share(0..8, 8, 0) {
        // By lot: with a regular pattern, a look of as many calls as its period would meet the same ones each time.
        let mut lots = fastrand::Rng::with_seed(seed);
        let meddle = move |_: &Call<'_>| if lots.bool() { Meddling::Throttle } else { Meddling::Pass };
        play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
            let release = stage.start();
            let status = stage.end(&release).await;
            assert_eq!(status, ExecutionStatus::Succeeded, "seed {seed}: {:#?}", stage.actions(&release));
            assert_eq!(stage.started(&release).len(), 7, "seed {seed}");
            let lines = stage.lines(&release);
            let written = lines.iter().filter(|line| line.contains(" | line ")).count();
            assert_eq!(written, 7 * 3, "seed {seed}: {lines:#?} {:#?}", stage.actions(&release));
        });
    }
}

#[test]
fn plain_lambda_invoke_actions_carry_a_release_through_as_custom_actions_do() {
    let setting = Setting { change_stack: Box::new(as_invoke_actions), ..Setting::default() };
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert_eq!(stage.started(&release).len(), 7);
        assert!(stage.world().traffic().iter().all(|one| one.image.ends_with(":2.0")));
        assert!(!stage.world().calls.contains_key("codepipeline:AcknowledgeJob"), "no job was polled for");
    });
}

#[test]
fn an_invoke_actions_event_that_comes_again_after_its_answer_takes_nothing_back() {
    // The function dies right after its success was taken, and its release is stopped while its workers are drained: Lambda brings the
    // event again, and what has succeeded is a fact.
    let died = Arc::new(AtomicBool::new(false));
    let has_died = died.clone();
    let meddle = move |call: &Call<'_>| {
        let is_it = call.function == "deploy-services" && call.operation == "PutJobSuccessResult";
        if is_it && !died.swap(true, Relaxed) { Meddling::CrashAfter } else { Meddling::Pass }
    };
    let setting = Setting { change_stack: Box::new(as_invoke_actions), meddle: Box::new(meddle), ..Setting::default() };
    play(setting, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        stage.until_begun(&release, "Drain").await;
        stage.ask("StopPipelineExecution", &release, serde_json::json!({"abandon": true, "reason": "a person"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(has_died.load(Relaxed), "it died after its answer");
        assert!(stage.world().traffic().iter().all(|one| one.image.ends_with(":2.0")), "{:?}", stage.world().traffic());
    });
}

#[test]
fn a_claim_that_codepipeline_takes_and_answers_with_an_error_of_its_own_is_done_by_somebody() {
    for function in ["run-tasks", "tail-logs", "deploy-services"] {
        let met = Arc::new(AtomicBool::new(false));
        let was_met = met.clone();
        let meddle = move |call: &Call<'_>| {
            let is_it = call.function == function && call.operation == "AcknowledgeJob";
            if is_it && !met.swap(true, Relaxed) { Meddling::InternalDone } else { Meddling::Pass }
        };
        play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(
                stage.end(&release).await,
                ExecutionStatus::Succeeded,
                "{function}: {:#?}",
                stage.actions(&release)
            );
            assert!(was_met.load(Relaxed), "{function} claims");
        });
    }
}

#[test]
fn a_migration_that_fails_stops_the_others_and_nothing_is_deployed() {
    play(drifted(), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Migrate").error.unwrap();
        let first: String = verdict.chars().take(250).collect();
        assert!(
            first.starts_with(
                "migrate failed in ap: container `shop` ended with exit code 1. Its last line: duplicate column name: email"
            ),
            "{verdict}"
        );
        for said in ["us: stopped", "eu: stopped", "EssentialContainerExited", "line 2", "All lines: https://"] {
            assert!(verdict.contains(said), "{said} is not in {verdict}");
        }
        assert!(!verdict.contains('\u{1b}'), "control sequences do not reach a verdict");
        assert!(stage.now().since(tests::BEGIN) < Duration::from_secs(60), "nobody waited for the others' minute");
        let world = stage.world();
        assert!(world.deployments().is_empty(), "nothing was deployed");
        assert!(world.traffic().iter().all(|one| one.image.ends_with(":1.0")));
        assert!(world.actions(&release).iter().all(|action| action.stage != "Approve"), "nobody was asked to approve");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_migration_longer_than_an_invocation_is_handed_over_from_job_to_job() {
    let script = |start: &Start| if of_task(start, "migrate") { Script::task(700) } else { Script::of_shop(start) };
    let change_stack = |stack: &mut local::template::Stack| {
        for function in &mut stack.functions {
            function.timeout = function.timeout.min(120);
        }
    };
    let setting = Setting { script: Box::new(script), change_stack: Box::new(change_stack), ..Setting::default() };
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let migrations = stage.started(&release).into_iter().filter(|task| task.starts_with("migrate"));
        assert_eq!(migrations.count(), 3, "no hand-over starts a task again");
        let acknowledged = stage.world().calls["codepipeline:AcknowledgeJob"];
        assert!(acknowledged > 15, "{acknowledged} jobs");
        let lines = stage.lines(&release);
        for environment in ENVIRONMENTS {
            let own: Vec<_> =
                lines.iter().filter_map(|line| line.strip_prefix(&format!("{environment} | line "))).collect();
            let own: Vec<usize> = own.iter().filter_map(|number| number.parse().ok()).collect();
            let migration = &own[own.len() - 703..own.len() - 3];
            assert_eq!(migration, (1..=700).collect::<Vec<_>>(), "{environment}: every line once, in order");
        }
    });
}

#[test]
fn releases_wait_for_each_other_in_their_order() {
    play(Setting::default(), async |stage| {
        let (first, second, third) = (stage.start(), stage.start(), stage.start());
        for release in [&first, &second, &third] {
            assert_eq!(stage.end(release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(release));
        }
        let began = |release: &str| stage.action(release, "Migrate").started;
        assert!(began(&first) < began(&second) && began(&second) < began(&third));
    });
}

#[test]
fn in_a_superseding_pipeline_the_newest_of_those_that_wait_goes_on() {
    let change_stack = |stack: &mut local::template::Stack| stack.pipeline.execution_mode = ExecutionMode::Superseded;
    play(Setting { change_stack: Box::new(change_stack), ..Setting::default() }, async |stage| {
        let first = stage.start();
        stage.until_begun(&first, "Approve").await;
        let (second, third) = (stage.start(), stage.start());
        let waits = |world: &local::world::World| world.status(&second) == Some(ExecutionStatus::Superseded);
        stage.until("the second is superseded", Duration::from_secs(600), waits).await;
        stage.answer_approval(&first, "Approved");
        assert_eq!(stage.end(&third).await, ExecutionStatus::Succeeded);
        assert_eq!(stage.world().status(&first), Some(ExecutionStatus::Succeeded));
    });
}

#[test]
fn bad_input_is_a_verdict_on_the_action_that_met_it() {
    let good = Setting::default().manifest;
    for (change, said) in [
        (("migrate:\n", "migrations:\n"), "deploy.yaml: there is no task `migrate`"),
        (("cluster: shop", "clutser: shop"), "`clutser` is not known: did you mean `cluster`?"),
        (("family: shop-task", "family: shop-taks"), "There is no task definition `shop-taks` in us-east-1"),
        (("application: shop", "application: [shop"), "deploy.yaml:"),
    ] {
        let manifest = good.replacen(change.0, change.1, 1);
        assert_ne!(manifest, good);
        // The pre-step meets everything but its own absence first.
        play(Setting { manifest, ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
            let failed: Vec<_> = stage.actions(&release).into_iter().filter_map(|action| action.error).collect();
            assert!(failed.iter().any(|error| error.contains(said)), "{said}: {failed:?}");
            assert!(stage.started(&release).iter().all(|task| !task.starts_with("migrate")));
        });
    }
}

#[test]
fn an_environment_in_another_account_is_reached_through_its_role() {
    let account = Setting::default().account.replace("  eu-west-1:\n", "  eu-west-1:\n    account: \"444455556666\"\n");
    let role = "    region: eu-west-1\n    role: arn:aws:iam::444455556666:role/deployer\n";
    let manifest = Setting::default().manifest.replace("    region: eu-west-1\n", role);
    let trusting = with_parameter(&account, "EnvironmentRoles", "arn:aws:iam::444455556666:role/deployer");
    play(Setting { account: trusting, manifest: manifest.clone(), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert!(
            stage.world().tasks().any(|task| task.arn.starts_with("arn:aws:ecs:eu-west-1:444455556666:task/shop/"))
        );
    });
    // A role that may not be assumed is a verdict, and at once: not something to wait for.
    let refuse = |call: &Call<'_>| if call.operation == "/" { Meddling::RefuseRole } else { Meddling::Pass };
    let trusting = with_parameter(&account, "EnvironmentRoles", "arn:aws:iam::444455556666:role/deployer");
    let setting = Setting { account: trusting, manifest, meddle: Box::new(refuse), ..Setting::default() };
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let failed = stage.action(&release, "Prepare");
        let verdict = failed.error.unwrap();
        assert!(
            verdict.starts_with(
                "Nothing was started: eu: ecs:DescribeServices in eu-west-1: the environment's `role` cannot be assumed: AccessDenied: \
                 User: deployer is not authorized to perform: sts:AssumeRole"
            ),
            "{verdict}"
        );
        assert!(failed.updated.since(failed.started) < Duration::from_secs(10));
    });
    // Without the role, that account cannot be seen.
    play(Setting { account, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Prepare").error.unwrap();
        assert!(verdict.starts_with("Nothing was started: eu: there is no cluster `shop` in eu-west-1"), "{verdict}");
    });
}

#[test]
fn a_large_artifact_is_read_in_part() {
    let ballast = (0..40_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    play(Setting { ballast, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
    });
}

#[test]
fn a_command_that_cannot_be_started_is_a_verdict() {
    let script = |start: &Start| {
        let mut script = Script::of_shop(start);
        if of_task(start, "migrate") && is_in(start, "eu") {
            script.cannot_start = Some("exec: `migrate`: No such file or directory".into());
        }
        script
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Migrate").error.unwrap();
        assert!(
            verdict.starts_with(
                "migrate failed in eu: container `shop` has no exit code: CannotStartContainerError: exec: `migrate`"
            ),
            "{verdict}"
        );
    });
}

#[test]
fn a_placement_without_room_is_tried_again_until_there_is_some() {
    // Four services' tasks are there; the room for one more is taken by the release's own migration of another action.
    let account = Setting::default()
        .account
        .replace("      shop:\n        services:", "      shop:\n        room_for_tasks: 3\n        services:");
    play(Setting { account, ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Prepare").await;
        let status = stage.end(&release).await;
        assert_eq!(status, ExecutionStatus::Failed, "there never is room");
        let verdict = stage.action(&release, "Prepare").error.unwrap();
        assert!(verdict.starts_with("prepare failed in us: ECS found no room for the task for 10 min"), "{verdict}");
        assert!(stage.started(&release).is_empty());
    });
}
