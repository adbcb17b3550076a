//! Stopping really stops: whenever a person stops and abandons a release, nothing of it runs any more afterwards, and the
//! traffic is where it was, unless it had been moved on purpose.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Lateness, Start, World};
use serde_json::json;
use tests::halt::{all_late, dead_after};
use tests::sweep::share;
use tests::writes::{at_write, telling_writes};
use tests::{Call, Fate, Meddling, SMALL, Script, Setting, Stage, of_task, play};

/// The smallest application, whose functions hand over every few seconds, so that some halts come between two jobs.
pub(crate) fn small() -> Setting {
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
pub(crate) fn nothing_is_left(stage: &Stage, release: &str) {
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

#[test]
fn a_stop_that_no_event_tells_of_and_no_function_follows_is_carried_out_by_the_schedule() {
    let mut setting = small();
    setting.script = Box::new(|start| match of_task(start, "migrate") {
        true => Script::task(7200),
        false => Script::of_shop(start),
    });
    setting.fate = Box::new(|function, event| {
        let is_event = event["source"] == "aws.codepipeline" && function != "cutover-dispatch-jobs";
        let is_continued = event.pointer("/CodePipeline.job/data/continuationToken").is_some();
        (is_event || (is_continued && function == "cutover-run-tasks")).then_some(Fate::Lost)
    });
    play(setting, async |stage| {
        let release = stage.start();
        let runs = |world: &World| world.tasks().any(|task| task.started_by.contains(&release) && !task.is_over());
        stage.until("it migrates", Duration::from_secs(600), runs).await;
        // Its function has handed over, to nobody.
        tokio::time::sleep(Duration::from_secs(60)).await;
        stage.stop(&release);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(runs(&stage.world()), "nobody has stopped it");
        stage.until("it is stopped", Duration::from_secs(1200), |world| !runs(world)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let lines = stage.lines(&release);
        assert!(lines.iter().any(|line| line.contains("halt complete")), "{lines:#?}");
    });
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
