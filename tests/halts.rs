//! Stopping really stops: whenever a person stops and abandons a release, nothing of it runs any more afterwards, and the
//! traffic is where it was, unless it had been moved on purpose.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Lateness, Start, World};
use serde_json::json;
use tests::halt::{all_late, dead_after};
use tests::sweep::share;
use tests::writes::{at_write, telling_writes};
use tests::{Call, Meddling, SMALL, Script, Setting, Stage, of_task, play};

/// The smallest application, whose functions hand over every few seconds, so that some halts come between two jobs.
fn small() -> Setting {
    let change_stack = |stack: &mut local::template::Stack| {
        for function in stack.functions.iter_mut().filter(|function| function.binary != "halt-release") {
            function.timeout = function.timeout.min(40);
        }
    };
    let script = |start: &Start| if of_task(start, "migrate") { Script::task(12) } else { Script::of_shop(start) };
    Setting {
        manifest: SMALL.into(),
        change_stack: Box::new(change_stack),
        script: Box::new(script),
        ..Setting::default()
    }
}

/// Whether nothing that a release began is under way, but for deployments whose action has succeeded.
fn nothing_is_left(stage: &Stage, release: &str) {
    let world = stage.world();
    let tasks: Vec<_> = world.tasks().filter(|task| task.started_by.contains(release) && !task.is_over()).collect();
    assert!(tasks.is_empty(), "tasks are left: {tasks:?}");
    let deployed =
        world.actions(release).iter().any(|one| one.action == "Deploy" && one.status == ActionStatus::Succeeded);
    let under_way = world.deployments().into_iter().filter(|(description, status)| {
        description.contains(release) && !matches!(*status, "Succeeded" | "Failed" | "Stopped")
    });
    assert!(deployed || under_way.count() == 0, "deployments are left: {:?}", world.deployments());
}

/// Who else is there while a release is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    None,
    /// Another release waits behind it, at every third step.
    One,
}

/// What a stop can come with.
const STOPS: [Meddling; 5] = [
    Meddling::AbandonBefore,
    Meddling::AbandonAfter,
    Meddling::AbandonAndCrash,
    Meddling::AbandonAndCrashAfter,
    Meddling::AbandonAndHang,
];

fn halted_at_each_write(with: Meddling, others: Others) {
    let of_the_release = |call: &Call<'_>| !matches!(call.function, "halt-release" | "notify");
    let calls = telling_writes(small(), of_the_release);
    assert!(calls.len() > 25, "{} calls that change something", calls.len());
    let which = STOPS.iter().position(|stop| *stop == with).unwrap();
    for nth in share(calls, 4 * STOPS.len(), 4 * which) {
        let meddle = at_write(nth, with, of_the_release);
        // What was begun is shown late, as on AWS.
        let mut random = fastrand::Rng::with_seed(nth as u64);
        let late = all_late(&mut random, shared::aws::LISTED);
        let lateness = Lateness { executions: Duration::ZERO, ..late };
        play(Setting { meddle, lateness, ..small() }, async |stage| {
            let release = stage.start();
            let other = (others == Others::One && nth.is_multiple_of(3)).then(|| stage.start());
            let status = stage.end_alone(&release).await;
            // Time for events that are late, and for functions that Lambda invokes again.
            tokio::time::sleep(Duration::from_secs(200)).await;
            let context = format!("{with:?} at {nth}: {status:?} {:#?}", stage.actions(&release));
            nothing_is_left(&stage, &release);
            let deploy = stage.actions(&release).into_iter().find(|one| one.action == "Deploy").map(|one| one.status);
            if status == ExecutionStatus::Stopped && deploy != Some(ActionStatus::Succeeded) {
                // The other release may have moved it since.
                let deploys = |other: &String| stage.actions(other).iter().any(|one| one.action == "Deploy");
                let other_deploys = other.as_ref().is_some_and(deploys);
                let old = stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0"));
                assert!(old || other_deploys, "{context}\n{:?}", stage.world().traffic());
            } else {
                assert!(matches!(status, ExecutionStatus::Stopped | ExecutionStatus::Succeeded), "{context}");
            }
            if let Some(other) = other {
                let status = stage.end(&other).await;
                assert_eq!(status, ExecutionStatus::Succeeded, "the other release is untouched: {context}");
                assert_eq!(stage.started(&other).len(), 4, "{context}");
            }
        });
    }
}

#[test]
fn before_each_call_with_the_function_alive() {
    halted_at_each_write(Meddling::AbandonBefore, Others::None);
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn after_each_call_with_the_function_alive() {
    halted_at_each_write(Meddling::AbandonAfter, Others::None);
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn before_each_call_with_the_function_dead() {
    halted_at_each_write(Meddling::AbandonAndCrash, Others::None);
}

#[test]
fn after_each_call_with_the_function_dead() {
    halted_at_each_write(Meddling::AbandonAndCrashAfter, Others::One);
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn while_a_call_hangs_that_is_done_all_the_same() {
    halted_at_each_write(Meddling::AbandonAndHang, Others::None);
}

#[test]
fn what_begins_something_is_tried_once_and_asked_for_again_only_when_the_release_goes_on() {
    for operation in ["RunTask", "CreateDeployment", "ContinueDeployment"] {
        let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = calls.clone();
        let meddle = move |call: &Call<'_>| {
            let mut seen = seen.lock().unwrap();
            if call.operation == operation && call.function != "halt-release" {
                seen.push((call.operation.to_owned(), call.at));
                // The first one in each invocation's life hangs; a person stops the release meanwhile.
                return if seen.len() == 1 { Meddling::AbandonAndHang } else { Meddling::Pass };
            }
            Meddling::Pass
        };
        play(Setting { manifest: SMALL.into(), meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end_alone(&release).await, ExecutionStatus::Stopped);
            tokio::time::sleep(Duration::from_secs(400)).await;
            let calls = calls.lock().unwrap();
            let first = calls[0].1;
            let later: Vec<_> = calls.iter().filter(|(_, at)| at.since(first) > Duration::from_secs(1)).collect();
            assert!(later.is_empty(), "{operation} was tried again after the stop: {later:?}");
            nothing_is_left(&stage, &release);
            the_promise_holds(&stage, &release, operation);
        });
    }
}

/// "halt complete" is a promise: from then on nothing of the release runs, begins or moves.
fn the_promise_holds(stage: &Stage, release: &str, context: &str) {
    let events = stage.events(release);
    let Some(promised) = events.iter().find(|event| event.message.starts_with("halt complete")).map(|event| event.at)
    else {
        panic!("no halt was said to be complete: {context}\n{events:#?}");
    };
    let world = stage.world();
    for task in world.tasks().filter(|task| task.started_by.contains(release)) {
        assert!(task.stopped.is_some_and(|at| at <= promised), "{context}: {task:#?}");
    }
    for (description, created, completed) in world.spans_of_deployments() {
        assert!(created <= promised, "{context}: {description} was created after the promise");
        assert!(completed.is_some_and(|at| at <= promised), "{context}: {description} went on after the promise");
    }
}

/// A person stops the release at any moment of its, while AWS shows late what it does.
fn halted_at_a_random_moment(seeds: std::ops::Range<u64>, functions_die: bool) {
    for seed in share(seeds, 6, 0) {
        let mut random = fastrand::Rng::with_seed(seed);
        let lateness = all_late(&mut random, shared::aws::LISTED);
        let moment = Duration::from_millis(random.u64(0..60_000));
        let mut die = dead_after(moment);
        let meddle = move |call: &Call<'_>| if functions_die { die(call) } else { Meddling::Pass };
        play(Setting { lateness, meddle: Box::new(meddle), ..small() }, async |stage| {
            let (release, status) = stage.stopped_after(moment).await;
            let context = format!("seed {seed}, {moment:?}, {lateness:?}: {status:?}");
            nothing_is_left(&stage, &release);
            if status == ExecutionStatus::Succeeded {
                return;
            }
            assert_eq!(status, ExecutionStatus::Stopped, "{context}");
            if is_not_deployed(&stage, &release, &context) {
                the_promise_holds(&stage, &release, &context);
            }
        });
    }
}

/// Whether the traffic is where it was, as it must be unless its action has succeeded.
fn is_not_deployed(stage: &Stage, release: &str, context: &str) -> bool {
    let deploy = stage.actions(release).into_iter().find(|one| one.action == "Deploy").map(|one| one.status);
    if deploy == Some(ActionStatus::Succeeded) {
        return false;
    }
    let old = stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0"));
    assert!(old, "{context}\n{:?}\n{:#?}", stage.world().traffic(), stage.lines(release));
    true
}

#[test]
fn at_any_moment_with_the_functions_alive() {
    halted_at_a_random_moment(0..30, false);
}

#[test]
fn at_any_moment_with_the_functions_dead() {
    halted_at_a_random_moment(1000..1020, true);
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn without_halt_release_the_functions_begin_nothing_after_a_stop_and_take_back_what_they_had_begun() {
    for seed in share(2000..2020, 4, 0) {
        let mut random = fastrand::Rng::with_seed(seed);
        // Who stops the release is seen at once: what is begun after it was not looked at before.
        let lateness = Lateness { executions: Duration::ZERO, ..all_late(&mut random, shared::aws::LISTED) };
        // In the middle of Deploy, most of the time.
        let moment = Duration::from_millis(random.u64(20_000..45_000));
        let begun_late = Arc::new(std::sync::Mutex::new(Vec::new()));
        let late_calls = begun_late.clone();
        let meddle = move |call: &Call<'_>| {
            let begins = matches!(call.operation, "RunTask" | "CreateDeployment" | "ContinueDeployment");
            if begins && call.at > tests::halt::at(moment).plus(Duration::from_millis(50)) {
                late_calls.lock().unwrap().push(format!("{} at {}", call.operation, call.at));
            }
            if call.function == "halt-release" { Meddling::CrashBefore } else { Meddling::Pass }
        };
        let setting = Setting { manifest: SMALL.into(), lateness, meddle: Box::new(meddle), ..Setting::default() };
        play(setting, async |stage| {
            let (release, status) = stage.stopped_after(moment).await;
            if status == ExecutionStatus::Succeeded {
                return;
            }
            let context = format!("seed {seed}, {moment:?}, {lateness:?}");
            let begun_late = begun_late.lock().unwrap();
            assert!(begun_late.is_empty(), "{context}: {begun_late:?}");
            nothing_is_left(&stage, &release);
            is_not_deployed(&stage, &release, &context);
        });
    }
}

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
        let said = stage.lines(&release);
        assert!(
            said.iter()
                .any(|line| line.starts_with("halt | us: task ") && line.ends_with(" of prepare is being stopped")),
            "{said:#?}"
        );
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

#[test]
fn while_half_of_its_calls_are_throttled_a_halt_is_said_to_its_end() {
    for seed in share(0..24, 6, 0) {
        let mut random = fastrand::Rng::with_seed(seed);
        let meddle = move |call: &Call<'_>| {
            let hit = call.function == "halt-release" && random.bool();
            if hit { Meddling::Throttle } else { Meddling::Pass }
        };
        let script = |start: &Start| if of_task(start, "migrate") { Script::task(600) } else { Script::of_shop(start) };
        let setting = Setting { meddle: Box::new(meddle), script: Box::new(script), seed, ..Setting::default() };
        play(setting, async |stage| {
            let release = stage.start();
            stage.until_begun(&release, "Migrate").await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
            tokio::time::sleep(Duration::from_secs(300)).await;
            nothing_is_left(&stage, &release);
            let said = stage.events(&release);
            // Twice when whose turn it is cannot be told; never is worse.
            let complete = said.iter().any(|event| event.message.starts_with("halt complete: "));
            assert!(complete, "seed {seed}: {said:#?}");
        });
    }
}
