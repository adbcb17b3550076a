//! What happens to the tasks of a release when things take their time, go wrong, or were begun by somebody else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Start, World};
use serde_json::{Value, json};
use tests::sweep::share;
use tests::{Call, Fate, Meddling, Script, Setting, is_in, of_task, play, with_parameter};

/// The shop whose migration does this.
fn migrating(script: impl Fn(&Start) -> Script + 'static) -> Setting {
    let script = move |start: &Start| if of_task(start, "migrate") { script(start) } else { Script::of_shop(start) };
    Setting { script: Box::new(script), ..Setting::default() }
}

/// The shop whose migration runs in `n` environments of a cluster each.
fn of_clusters(n: usize, setting: Setting) -> Setting {
    let first = "      shop:\n        services:";
    let clusters: String = (1..=n).map(|n| format!("      c{n:02}: {{}}\n")).collect();
    let account = setting.account.replacen(first, &format!("{clusters}{first}"), 1);
    let account = with_parameter(&account, "NamesBegin", "");
    assert_ne!(account, setting.account);
    let names: Vec<_> = (1..=n).map(|n| format!("c{n:02}")).collect();
    let environments: String = names
        .iter()
        .map(|name| format!("  {name}: {{region: us-east-1, cluster: {name}, subnets: [subnet-1]}}\n"))
        .collect();
    let manifest = setting.manifest.replace("environments:\n", &format!("environments:\n{environments}")).replace(
        "    command: [shop, migrate]\n",
        &format!("    command: [shop, migrate]\n    environments: [{}]\n", names.join(", ")),
    );
    // The services, and what comes after the migration, are where they were.
    let manifest = manifest
        .replace("    port: 8080\n", "    port: 8080\n    environments: [us, eu, ap]\n")
        .replace("    command: [shop, finish]\n", "    command: [shop, finish]\n    environments: [us, eu, ap]\n");
    Setting { account, manifest, ..setting }
}

#[test]
fn the_end_of_a_task_is_noticed_soon_and_with_many_clusters_in_proportion() {
    for (which, (clusters, within)) in [(1, 1.5), (2, 1.5), (10, 6.0), (50, 26.0)].into_iter().enumerate() {
        let mut delays = Vec::new();
        // At several moments between two looks.
        for tenths in share([0, 3, 5, 7, 9], 5, which) {
            let length = Duration::from_secs(40) + Duration::from_millis(100 * tenths);
            let script = move |_: &Start| Script { ends: Some((length, 0)), ..Script::task(0) };
            play(of_clusters(clusters, migrating(script)), async |stage| {
                let release = stage.start();
                let done = |world: &local::world::World| {
                    world
                        .actions(&release)
                        .iter()
                        .any(|one| one.action == "Migrate" && one.status != ActionStatus::InProgress)
                };
                stage.until("the migration is over", Duration::from_secs(600), done).await;
                let migrate = stage.action(&release, "Migrate");
                assert_eq!(migrate.status, ActionStatus::Succeeded, "{migrate:?}");
                let last = stage
                    .world()
                    .tasks()
                    .filter(|task| task.started_by.contains("/migrate/"))
                    .filter_map(|task| task.stopped)
                    .max();
                delays.push(migrate.updated.since(last.unwrap()).as_secs_f64());
            });
        }
        assert!(delays.iter().all(|delay| *delay <= within), "{clusters} clusters: {delays:?}");
    }
}

#[test]
fn what_cannot_be_looked_at_in_one_region_for_minutes_ends_the_action_and_begins_nothing() {
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    let meddle = move |call: &Call<'_>| {
        let lists = call.function == "run-tasks" && call.operation == "ListTasks" && call.region != "us-east-1";
        if lists && is_cut.load(Ordering::Relaxed) { Meddling::Unreachable } else { Meddling::Pass }
    };
    play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        let runs = |world: &local::world::World| world.tasks().any(|task| task.started_by.contains("/prepare/"));
        stage.until("the task before it runs", Duration::from_secs(60), runs).await;
        cut.store(true, Ordering::Relaxed);
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{:#?}", stage.actions(&release));
        let migrate = stage.action(&release, "Migrate");
        let verdict = migrate.error.clone().unwrap();
        assert!(verdict.contains("ecs:ListTasks"), "{verdict}");
        let took = migrate.updated.since(migrate.started);
        assert!(took < Duration::from_secs(10 * 60), "{took:?}");
        assert!(!stage.world().lives().iter().any(|life| life.started_by.contains("/migrate/")), "nothing was begun");
    });
}

#[test]
fn a_migration_of_another_release_that_still_runs_is_refused_by_name_and_nothing_is_started_beside_it() {
    play(migrating(|_| Script::task(10_000)), async |stage| {
        // Started by hand, or by a pipeline that was deleted.
        let other = "11111111-2222-4333-8444-555555555555";
        let request = local::world::Request {
            method: "POST".into(),
            path: "/".into(),
            headers: [
                ("x-amz-target".to_owned(), "AmazonEC2ContainerServiceV20141113.RunTask".to_owned()),
                ("authorization".to_owned(), "AWS4-HMAC-SHA256 Credential=local/20231114/eu-west-1/ecs/aws4_request".to_owned()),
            ]
            .into(),
            body: json!({"cluster": "shop", "taskDefinition": "shop-task", "startedBy": format!("cutover/{other}/migrate/eu"),
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
                "overrides": {"containerOverrides": [{"name": "shop", "command": ["shop", "migrate"]}]}})
            .to_string()
            .into_bytes(),
            ..Default::default()
        };
        let now = stage.now();
        assert_eq!(stage.world().handle(&request, now).status, 200);
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Migrate").error.unwrap();
        assert!(
            verdict
                .starts_with(&format!("migrate failed in eu: release {other} is still running `migrate` here (task ")),
            "{verdict}"
        );
        assert!(!stage.started(&release).contains(&"migrate/eu".to_owned()), "nothing was started beside it");
        let runs = stage.world().tasks().any(|task| task.started_by.contains(other) && !task.is_over());
        assert!(runs, "the other release's migration was left alone");
        let own = stage.world().tasks().any(|task| task.started_by.contains(&release) && !task.is_over());
        assert!(!own, "what was begun elsewhere was stopped");
    });
}

#[test]
fn a_task_that_outlives_its_timeout_is_stopped_with_all_the_others() {
    let mut setting = migrating(|start| Script::task(if is_in(start, "eu") { 2000 } else { 1000 }));
    setting.manifest = setting.manifest.replace("timeout: 30m", "timeout: 5m");
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let migrate = stage.action(&release, "Migrate");
        let verdict = migrate.error.unwrap();
        assert!(verdict.contains("it was still running after 5 min 00 s, its `timeout`"), "{verdict}");
        assert!(verdict.contains("us: stopped") || verdict.contains("eu: stopped"), "{verdict}");
        let took = migrate.updated.since(migrate.started);
        assert!((300..330).contains(&took.as_secs()), "{took:?}");
        assert!(stage.world().tasks().all(|task| task.is_over() || !task.started_by.contains(&release)));
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_task_whose_agent_is_gone_is_given_up_and_said_to_be_running_still() {
    let script = |start: &Start| match is_in(start, "eu") {
        true => Script { unreachable: true, ..Script::task(100_000) },
        false => Script::task(5).ending(1),
    };
    play(migrating(script), async |stage| {
        let release = stage.start();
        let failed = |world: &local::world::World| world.status(&release) == Some(ExecutionStatus::Failed);
        stage.until("the release has failed", Duration::from_secs(3600), failed).await;
        let migrate = stage.action(&release, "Migrate");
        let took = migrate.updated.since(migrate.started);
        assert!((900..960).contains(&took.as_secs()), "{took:?}");
        let verdict = migrate.error.unwrap();
        assert!(
            verdict.contains("Still running although it was asked to end; stop it by hand:\n  eu: task "),
            "{verdict}"
        );
        let tail = stage.action(&release, "MigrateLogs");
        assert!(tail.updated.since(migrate.updated) < Duration::from_secs(620), "{tail:?}");
    });
}

#[test]
fn a_stage_retried_after_more_than_an_hour_says_that_it_may_have_run_something_twice() {
    let tried = std::sync::atomic::AtomicU32::new(0);
    let script = move |start: &Start| match is_in(start, "ap") {
        true if tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
            Script { ends: Some((Duration::from_secs(10), 1)), ..Script::task(0) }
        }
        _ => Script::task(3),
    };
    play(migrating(script), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        tokio::time::sleep(Duration::from_secs(4000)).await;
        stage.ask("RetryStageExecution", &release, json!({"stageName": "Migrate", "retryMode": "FAILED_ACTIONS"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let summary = stage.action(&release, "Migrate").summary;
        assert!(summary.contains("Run although an earlier try may have done it in us, eu, ap: ECS shows"), "{summary}");
    });
}

#[test]
fn a_family_that_somebody_registers_meanwhile_does_not_start_a_second_task() {
    // The reply of the first RunTask is lost, and a new revision comes before the next try.
    let mut met = 0;
    let meddle = move |call: &Call<'_>| {
        if call.operation == "RunTask" && call.region == "eu-west-1" {
            met += 1;
            if met == 1 {
                return Meddling::LoseReply;
            }
        }
        Meddling::Pass
    };
    play(Setting { meddle: Box::new(meddle), ..migrating(|_| Script::task(20)) }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert_eq!(stage.started(&release).iter().filter(|task| *task == "migrate/eu").count(), 1);
    });
}

#[test]
fn what_the_task_definition_has_is_kept_and_logs_block_when_the_manifest_asks_for_it() {
    let good = Setting::default();
    let account = good.account.replace(", mode: blocking}", "}").replace(
        "            essential: true\n            environment: [*path, {name: DATABASE, value: \"{state}/eu",
        "            essential: true\n            fieldOfTomorrow: {kept: [1, 2]}\n            environment: [*path, {name: DATABASE, value: \"{state}/eu",
    );
    assert!(account.contains("fieldOfTomorrow"));
    let manifest = good.manifest.replace("    timeout: 30m\n", "    timeout: 30m\n    log_mode: blocking\n");
    play(Setting { account, manifest, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let world = stage.world();
        let migration = world.tasks().find(|task| task.started_by.contains("/migrate/eu")).unwrap();
        let definition = world.definition_of(migration).unwrap();
        let container = &definition["containerDefinitions"][0];
        assert_eq!(container["fieldOfTomorrow"], json!({"kept": [1, 2]}));
        assert_eq!(container["logConfiguration"]["options"]["mode"], "blocking");
        assert_eq!(container["image"], "registry.example/shop:2.0");
        drop(world);
        let summary = stage.action(&release, "Migrate").summary;
        assert!(!summary.contains("may lose log lines"), "{summary}");
        let summary = stage.action(&release, "Prepare").summary;
        assert!(summary.contains("may lose log lines"), "{summary}");
    });
}

/// Functions that have so long only.
fn short_lived(seconds: u64) -> Box<dyn Fn(&mut local::template::Stack)> {
    Box::new(move |stack| {
        for function in &mut stack.functions {
            function.timeout = function.timeout.min(seconds);
        }
    })
}

#[test]
fn a_task_that_ecs_has_forgotten_is_not_run_again_in_the_same_try() {
    // Its continuation is not picked up for more than an hour; meanwhile it ends.
    let asleep = |call: &Call<'_>| {
        let since = call.at.since(tests::BEGIN);
        let is_asleep = (Duration::from_secs(60)..Duration::from_secs(4600)).contains(&since);
        if call.operation == "PollForJobs" && is_asleep { Meddling::Throttle } else { Meddling::Pass }
    };
    let setting = migrating(|_| Script::task(150));
    let setting = Setting { change_stack: short_lived(120), meddle: Box::new(asleep), ..setting };
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{:#?}", stage.actions(&release));
        let why = stage.action(&release, "Migrate").error.unwrap();
        assert!(why.contains("ECS does not show any more how it ended. Its lines stand in the log"), "{why}");
        let migrations = stage.started(&release).into_iter().filter(|task| task.starts_with("migrate"));
        assert_eq!(migrations.count(), 3, "one in each environment");
    });
}

#[test]
fn no_room_is_waited_for_as_long_as_it_says_also_across_hand_overs() {
    let full = |call: &Call<'_>| match (call.function, call.operation) {
        ("run-tasks", "RunTask") => Meddling::NoRoom,
        _ => Meddling::Pass,
    };
    let shop = Setting::default();
    let prepare = "    command: [shop, prepare]\n";
    let manifest = shop.manifest.replace(prepare, &format!("{prepare}    retry_placement_for: 12m\n"));
    assert_ne!(manifest, shop.manifest);
    let setting = Setting { manifest, change_stack: short_lived(200), meddle: Box::new(full), ..shop };
    play(setting, async |stage| {
        let (begun, release) = (stage.now(), stage.start());
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{:#?}", stage.actions(&release));
        let why = stage.action(&release, "Prepare").error.unwrap();
        assert!(why.contains("ECS found no room for the task for 12 min"), "{why}");
        let took = stage.now().since(begun);
        assert!((Duration::from_secs(720)..Duration::from_secs(900)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_task_that_two_actions_of_a_release_run_is_refused_the_second_time_rather_than_taken_for_done() {
    let account = with_parameter(&Setting::default().account, "PostTask", "prepare");
    play(Setting { account, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Finish").error.unwrap();
        assert!(verdict.contains("Prepare/Prepare of this release runs `prepare`, too"), "{verdict}");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_is_said_of_an_invocation_that_died_is_not_said_of_the_one_that_does_its_job() {
    // Nobody claims the job for a while: it is polled again, and the second event does it while the first one dies at each of its tries.
    let mut first = None;
    let fate = move |function: &str, payload: &Value| {
        let task = payload.pointer("/CodePipeline.job/data/actionConfiguration/configuration/Task");
        let is_migration = task.is_some_and(|task| task == "migrate");
        if !function.ends_with("-run-tasks") || !is_migration {
            return None;
        }
        let first = first.get_or_insert_with(|| payload.clone());
        (first == payload).then_some(Fate::Killed(Duration::from_millis(1)))
    };
    let script = |_: &Start| Script { ends: Some((Duration::from_secs(900), 0)), ..Script::task(1) };
    play(Setting { fate: Box::new(fate), ..migrating(script) }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let migrations = stage.world().lives().into_iter().filter(|life| life.started_by.contains("/migrate/")).count();
        assert_eq!(migrations, 3, "one in each environment");
    });
}

#[test]
fn a_function_that_refuses_to_be_invoked_in_the_midst_of_its_action_is_waited_for_and_then_nothing_false_is_said() {
    for (minutes, status) in [(3, ExecutionStatus::Succeeded), (60, ExecutionStatus::Failed)] {
        let refuses = Arc::<AtomicBool>::default();
        let refused = Arc::clone(&refuses);
        let mut setting = Setting { change_stack: short_lived(60), ..migrating(|_| Script::task(120)) };
        setting.meddle = Box::new(move |call| {
            let is_it = call.function == "dispatch-jobs" && call.operation.contains("run-tasks/invocations");
            if is_it && refused.load(Ordering::Relaxed) { Meddling::Refuse } else { Meddling::Pass }
        });
        play(setting, async |stage| {
            let release = stage.start();
            stage.until_begun(&release, "Migrate").await;
            let runs = |world: &World| world.tasks().any(|task| task.started_by.contains(&release) && !task.is_over());
            stage.until("it migrates", Duration::from_secs(60), runs).await;
            refuses.store(true, Ordering::Relaxed);
            let again = tokio::time::sleep(Duration::from_secs(60 * minutes));
            let ended = stage.end(&release);
            tokio::pin!(again, ended);
            let ended = tokio::select! {
                ended = &mut ended => ended,
                () = &mut again => {
                    refuses.store(false, Ordering::Relaxed);
                    ended.await
                }
            };
            assert_eq!(ended, status, "{:#?}", stage.actions(&release));
            if status == ExecutionStatus::Failed {
                let verdict = stage.action(&release, "Migrate").error.unwrap();
                assert!(
                    verdict.contains("may still be running") && !verdict.contains("Nothing was started"),
                    "{verdict}"
                );
            }
        });
    }
}
