//! What runs by the clock: when it is due, beside its own last run and beside a release that runs the same task.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use local::world::{ExecutionStatus, Life, Start};
use shared::Time;
use tests::{Call, Meddling, SMALL, Script, Setting, Stage, play};

use crate::launches::{MINUTE, dead_letters, most_at_once, refused, release, with_workers, work, workers};

/// The lives of the migration in us, by the clock and by releases.
fn of_migrate(stage: &Stage) -> Vec<Life> {
    let mut lives = stage.world().lives();
    lives.retain(|life| ["us/migrate", "migrate/us"].iter().any(|name| life.started_by.contains(name)));
    lives
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_runs_by_the_clock_runs_is_left_out_while_the_last_one_goes_on_and_follows_the_manifest() {
    // 2023-11-14T22:13:20Z is when the play begins.
    let clock = "\
workers:
  exports: {family: shop-task, command: [shop, export], most: 3, environments: [us]}
schedules:
  often: {cron: '*/10 * * * *', task: report, time_zone: Europe/Berlin, environments: [us]}
  nightly: {cron: 0 3 * * *, worker: exports, time_zone: Europe/Berlin}
";
    let small = SMALL.replace(
        "services:\n",
        "  report: {family: shop-task, command: [shop, report], environments: [us]}\nservices:\n",
    );
    let script = |start: &Start| match start.command.iter().any(|word| word == "report") {
        true => Script { ends: Some((15 * MINUTE, 0)), ..Script::task(1) },
        false => work(start, 20 * MINUTE),
    };
    let setting = with_workers("");
    let manifest = format!("{small}{clock}");
    play(Setting { manifest, script: Box::new(script), ..setting }, async |stage| {
        release(&stage).await;
        let groups = stage.world().schedules();
        assert_eq!(groups, [("cutover.us".to_owned(), "nightly".to_owned()), ("cutover.us".into(), "often".into())]);
        let begun = stage.now();
        tokio::time::sleep(5 * 60 * MINUTE).await;
        let lives = workers(&stage);
        let reports: Vec<_> = lives.iter().filter(|one| one.started_by.contains("/report/")).collect();
        // Every ten minutes one is due, and each takes fifteen: every second one is left out.
        assert!((13..=16).contains(&reports.len()), "{}", reports.len());
        assert_eq!(most_at_once(&reports.iter().map(|one| (*one).clone()).collect::<Vec<_>>()), 1);
        for one in &reports {
            let minute = one.created.millis() / 1000 % 600;
            assert!(minute < 3, "{} s after the minute", minute);
        }
        let nightly: Vec<_> = lives.iter().filter(|one| one.started_by.contains("/exports/")).collect();
        // Three in the morning of Berlin is two of UTC.
        let due = Time::from_millis(1_700_013_600_000);
        assert_eq!(nightly.len(), usize::from(begun < due), "{begun}");
        assert!(nightly.iter().all(|one| one.created.since(due) < Duration::from_secs(3)));
        assert_eq!(dead_letters(&stage), []);
    });
}

#[test]
fn a_schedule_that_somebody_has_switched_off_stays_off_whatever_is_released() {
    let nightly = "  nightly: {cron: 0 3 * * *, task: migrate, environments: [us]}\n";
    play(Setting { manifest: format!("{SMALL}schedules:\n{nightly}"), ..with_workers("") }, async |stage| {
        release(&stage).await;
        stage.world().switch_schedule("cutover.us", "nightly", false);
        release(&stage).await;
        assert!(!stage.world().is_switched_on("cutover.us", "nightly"), "an incident is no affair of a release");
        stage.world().switch_schedule("cutover.us", "nightly", true);
        release(&stage).await;
        assert!(stage.world().is_switched_on("cutover.us", "nightly"));
    });
}

#[test]
fn a_schedule_that_is_set_late_for_a_release_that_was_stopped_does_not_stay() {
    let nightly = "  nightly: {cron: 0 3 * * *, task: migrate, environments: [us]}\n";
    for late in [Meddling::AbandonAndHang, Meddling::AbandonAfter] {
        // It is changed, where there is none; and made.
        let calls = Cell::new(0);
        let meddle = move |call: &Call<'_>| {
            calls.set(calls.get() + usize::from(call.operation.ends_with("/schedules/nightly")));
            if calls.get() == 2 && call.operation.ends_with("/schedules/nightly") { late } else { Meddling::Pass }
        };
        let manifest = format!("{SMALL}schedules:\n{nightly}");
        play(Setting { manifest, meddle: Box::new(meddle), ..with_workers("") }, async |stage| {
            let execution = stage.start();
            assert_eq!(stage.end_alone(&execution).await, ExecutionStatus::Stopped, "{:#?}", stage.actions(&execution));
            tokio::time::sleep(3 * MINUTE).await;
            let left = stage.world().schedules();
            assert_eq!(left, [], "{late:?}: {:#?}", stage.lines(&execution));
            assert!(stage.world().released().values().all(Option::is_none), "{:?}", stage.world().released());
            assert!(stage.lines(&execution).iter().any(|line| line.contains("halt complete")));
            release(&stage).await;
            assert_eq!(stage.world().schedules(), [("cutover.us".to_owned(), "nightly".to_owned())]);
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_release_waits_for_a_run_of_its_task_by_the_clock_and_names_one_that_does_not_end() {
    let clock = "schedules:\n  reindex: {cron: '*/30 * * * *', task: migrate, environments: [us]}\n";
    for (minutes, succeeds) in [(4, true), (25, false)] {
        let script = move |start: &Start| Script { ends: Some((minutes * MINUTE, 0)), ..Script::of_shop(start) };
        let own = move |start: &Start| match start.command.iter().any(|word| word == "migrate") {
            true => script(start),
            false => Script::of_shop(start),
        };
        let setting = Setting { manifest: format!("{SMALL}{clock}"), script: Box::new(own), ..with_workers("") };
        play(setting, async |stage| {
            release(&stage).await;
            let runs = |stage: &Stage| workers(stage).into_iter().filter(|life| life.stopped.is_none()).count();
            while runs(&stage) == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let execution = stage.start();
            let ended = stage.end(&execution).await;
            let all = of_migrate(&stage);
            let told: Vec<_> = all.iter().map(|one| (&one.started_by, one.created, one.stopped)).collect();
            assert_eq!(most_at_once(&all), 1, "never two at a time: {told:#?}");
            if succeeds {
                assert_eq!(ended, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&execution));
                return;
            }
            let verdict = stage.action(&execution, "Migrate").error.unwrap();
            assert!(
                verdict.starts_with("migrate failed in us: `migrate` still runs here by the clock (task "),
                "{verdict}"
            );
        });
    }
}

#[test]
fn a_run_by_the_clock_waits_for_the_releases_own_run_of_its_task() {
    // Each takes four minutes, and one is due every five.
    let clock = "schedules:\n  reindex: {cron: '*/5 * * * *', task: migrate, within: 20m, environments: [us]}\n";
    let script = |start: &Start| match start.command.iter().any(|word| word == "migrate") {
        true => Script { ends: Some((4 * MINUTE, 0)), ..Script::of_shop(start) },
        false => Script::of_shop(start),
    };
    let setting = Setting { manifest: format!("{SMALL}{clock}"), script: Box::new(script), ..with_workers("") };
    play(setting, async |stage| {
        release(&stage).await;
        for _ in 0..3 {
            release(&stage).await;
        }
        let all = of_migrate(&stage);
        let told: Vec<_> = all.iter().map(|one| (&one.started_by, one.created, one.stopped)).collect();
        assert_eq!(most_at_once(&all), 1, "never two at a time: {told:#?}");
        let late = |one: &&Life| one.created.millis() / 1000 % 300 > 30;
        let waited = workers(&stage).iter().filter(late).count();
        assert!(waited >= 1, "one was due while a release ran it: {told:#?}");
    });
}

#[test]
fn a_run_whose_release_cannot_be_seen_waits_as_long_as_it_may_and_is_left_out() {
    let clock = "schedules:\n  reindex: {cron: '*/10 * * * *', task: migrate, within: 3m, environments: [us]}\n";
    let setting = Setting { manifest: format!("{SMALL}{clock}"), meddle: refused("ListTasks"), ..with_workers("") };
    play(setting, async |stage| {
        release(&stage).await;
        tokio::time::sleep(15 * MINUTE).await;
        assert_eq!(workers(&stage).len(), 0);
        assert_eq!(stage.world().keys("cutover-artifacts", "workers/us/migrate/waiting/"), Vec::<String>::new());
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_release_names_runs_by_the_clock_that_follow_each_other_without_end() {
    let clock =
        "schedules:\n  reindex: {cron: '* * * * *', task: migrate, overlap: allow, within: 20m, environments: [us]}\n";
    let script = |start: &Start| match start.command.iter().any(|word| word == "migrate") {
        true => Script { ends: Some((Duration::from_secs(100), 0)), ..Script::of_shop(start) },
        false => Script::of_shop(start),
    };
    let setting = Setting { manifest: format!("{SMALL}{clock}"), script: Box::new(script), ..with_workers("") };
    play(setting, async |stage| {
        release(&stage).await;
        tokio::time::sleep(3 * MINUTE).await;
        let execution = stage.start();
        assert_eq!(stage.end(&execution).await, ExecutionStatus::Failed, "{:#?}", stage.actions(&execution));
        let verdict = stage.action(&execution, "Migrate").error.unwrap();
        assert!(
            verdict.starts_with("migrate failed in us: `migrate` still runs here by the clock (task "),
            "{verdict}"
        );
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_run_that_was_decided_and_could_not_begin_is_missed_when_its_time_is_over() {
    // It is due at 22:30; ECS answers no start for a minute, and then a release runs the task for a quarter of an hour.
    let clock = "schedules:\n  reindex: {cron: '*/30 * * * *', task: migrate, within: 5m, environments: [us]}\n";
    let due = Time::from_millis(1_700_001_000_000);
    let meddle = move |call: &Call<'_>| match (call.function, call.operation) {
        ("launch-workers", "RunTask") if call.at < due.plus(2 * MINUTE) => Meddling::Throttle,
        _ => Meddling::Pass,
    };
    let length = move |at: Time| if at < due { MINUTE } else { 15 * MINUTE };
    let now = Rc::new(Cell::new(tests::BEGIN));
    let by_now = now.clone();
    let script = move |start: &Start| match start.command.iter().any(|word| word == "migrate") {
        true => Script { ends: Some((length(by_now.get()), 0)), ..Script::of_shop(start) },
        false => Script::of_shop(start),
    };
    let setting = Setting {
        manifest: format!("{SMALL}{clock}"),
        script: Box::new(script),
        meddle: Box::new(meddle),
        ..with_workers("")
    };
    play(setting, async |stage| {
        release(&stage).await;
        assert!(stage.now() < due);
        tokio::time::sleep(due.since(stage.now()) + Duration::from_secs(10)).await;
        now.set(stage.now());
        let execution = stage.start();
        assert_eq!(stage.end(&execution).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&execution));
        tokio::time::sleep(5 * MINUTE).await;
        assert!(stage.now() < due.plus(30 * MINUTE), "the next one is not due yet");
        assert_eq!(workers(&stage).len(), 0, "it began after its time");
        assert_eq!(stage.world().keys("cutover-artifacts", "workers/us/migrate/waiting/"), Vec::<String>::new());
        tokio::time::sleep(20 * MINUTE).await;
        assert_eq!(workers(&stage).len(), 1, "the next one runs");
    });
}
