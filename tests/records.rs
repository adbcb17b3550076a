//! The record of every release.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::ExecutionStatus;
use shared::Time;
use shared::record::{Entry, Record, Store};
use tests::sweep::share;
use tests::{Call, Fate, Meddling, SMALL, Script, Setting, Stage, is_in, of_task, play};

/// How long after a release's end its record is there at the latest when no event tells of it: two rounds of the schedule.
const OVERDUE: Duration = Duration::from_secs(2 * 15 * 60 + 60);

/// Releases that each have an image of their own, in ECR.
pub(crate) fn own_images() -> Setting {
    Setting { own_images: true, registry: "111122223333.dkr.ecr.us-east-1.amazonaws.com".into(), ..Setting::default() }
}

pub(crate) fn store(stage: &Stage) -> Store {
    Store::within(stage.aws_of_owner().bucket("cutover-artifacts"))
}

/// The record of an execution, which must be there.
pub(crate) async fn record(stage: &Stage, execution: &str) -> Record {
    let pipeline = stage.world().pipeline_of(execution).to_owned();
    match store(stage).get(&pipeline, execution).await.unwrap() {
        Some(Entry::Record(record)) => *record,
        other => panic!("{execution} has no record: {other:?}"),
    }
}

/// Releases, and waits for the record.
pub(crate) async fn release(stage: &Stage) -> String {
    let release = stage.start();
    assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
    tokio::time::sleep(Duration::from_secs(5)).await;
    release
}

/// Where the traffic is: the version of the image, the same everywhere.
pub(crate) fn version(stage: &Stage) -> String {
    let traffic = stage.world().traffic();
    let mut versions: Vec<_> = traffic.iter().map(|one| one.image.rsplit(':').next().unwrap().to_owned()).collect();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 1, "traffic is on different versions: {traffic:?}");
    versions.remove(0)
}

/// What the approval of a way back tells.
pub(crate) fn asked(stage: &Stage, back: &str) -> String {
    stage.action(back, "Approve").custom_data.unwrap()
}

#[test]
fn a_release_that_has_ended_is_recorded_with_what_it_did_where_and_who_approved_it() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        let record = record(&stage, &first).await;
        assert_eq!((record.status.as_str(), record.back, record.version), ("Succeeded", false, 1));
        assert_eq!((record.commit.id.as_str(), record.commit.message.as_str()), ("abcdef0123", "Sell teapots"));
        assert!(record.image.ends_with("/shop:2.0"), "{}", record.image);
        let actions: Vec<_> = record.actions.iter().map(|step| step.action.as_str()).collect();
        assert_eq!(actions.len(), stage.actions(&first).len(), "{actions:?}");
        assert!(record.actions.iter().all(|step| step.status == "Succeeded" && step.ended >= step.began));
        let migrated: Vec<_> = record.tasks.iter().filter(|ran| ran.task == "migrate").collect();
        assert_eq!(migrated.iter().map(|ran| ran.environment.as_str()).collect::<Vec<_>>(), ["ap", "eu", "us"]);
        assert!(migrated.iter().all(|ran| ran.seconds.is_some() && !ran.last.is_empty()), "{migrated:#?}");
        assert_eq!(record.services.len(), 6);
        assert!(record.services.iter().all(|one| one.before == "1" && one.after == "2"), "{:?}", record.services);
        let approval = record.approval.unwrap();
        assert_eq!((approval.given, approval.by.as_str(), approval.said.as_str()), (true, "local", "by the test"));
        assert!(record.log.contains(&first) && !record.workers.is_empty());
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn every_ended_release_has_exactly_one_record_whatever_happens_to_who_writes_it() {
    type Happens = (&'static str, u32, Meddling);
    let happens: Vec<Happens> =
        ["GetPipelineExecution", "ListActionExecutions", "GetObject", "CopyObject", "PutObject", "ListObjectsV2"]
            .into_iter()
            .flat_map(|operation| {
                [
                    Meddling::CrashBefore,
                    Meddling::CrashAfter,
                    Meddling::LoseReply,
                    Meddling::Throttle,
                    Meddling::Conflict,
                ]
                .into_iter()
                .map(move |what| (operation, u32::from(what == Meddling::CrashAfter), what))
            })
            .filter(|(operation, _, what)| *what != Meddling::Conflict || *operation == "PutObject")
            .collect();
    for (operation, nth, what) in share(happens, 3, 0) {
        let mut setting = Setting { manifest: SMALL.to_owned(), ..own_images() };
        let mut seen = 0;
        setting.meddle = Box::new(move |call: &Call<'_>| {
            if call.function != "record-release" || call.operation != operation {
                return Meddling::Pass;
            }
            seen += 1;
            if seen == nth + 1 { what } else { Meddling::Pass }
        });
        play(setting, async |stage| {
            let release = stage.start();
            stage.end(&release).await;
            tokio::time::sleep(OVERDUE).await;
            is_recorded_once(&stage, &release, &format!("{what:?} at {operation} {nth}")).await;
        });
    }
}

#[test]
fn a_release_whose_end_no_event_tells_of_is_recorded_by_the_schedule_and_one_told_twice_once() {
    for fate in [Fate::Lost, Fate::Twice(Duration::from_secs(1)), Fate::Late(Duration::from_secs(40))] {
        let mut setting = own_images();
        setting.fate = Box::new(move |function, event| {
            let is_it = function == "cutover-record-release" && event.pointer("/detail/execution-id").is_some();
            is_it.then_some(fate)
        });
        play(setting, async |stage| {
            let failed = stage.start();
            stage.until_begun(&failed, "Approve").await;
            stage.answer_approval(&failed, "Rejected");
            stage.end(&failed).await;
            let stopped = stage.start();
            stage.until_begun(&stopped, "Migrate").await;
            stage.stop(&stopped);
            stage.end(&stopped).await;
            tokio::time::sleep(OVERDUE).await;
            for (release, status) in [(&failed, "Failed"), (&stopped, "Stopped")] {
                is_recorded_once(&stage, release, &format!("{fate:?}")).await;
                assert_eq!(record(&stage, release).await.status, status);
            }
        });
    }
}

#[test]
fn a_release_that_is_stopped_while_it_waits_for_its_turn_and_has_no_action_is_recorded_too() {
    play(own_images(), async |stage| {
        let first = stage.start();
        stage.until_begun(&first, "Source").await;
        let waits = stage.start();
        stage.stop(&waits);
        assert_eq!(stage.end(&first).await, ExecutionStatus::Succeeded);
        tokio::time::sleep(OVERDUE).await;
        assert!(stage.actions(&waits).is_empty(), "{:?}", stage.actions(&waits));
        is_recorded_once(&stage, &waits, "without an action").await;
        let kept = record(&stage, &waits).await;
        assert_eq!((kept.status.as_str(), kept.actions.len()), ("Stopped", 0));
        assert!(kept.ended > Time::default() && kept.began == kept.ended, "{kept:?}");
    });
}

#[test]
fn a_migration_that_failed_is_recorded_with_its_duration_and_its_last_lines() {
    let mut setting = own_images();
    setting.script = Box::new(|start| match of_task(start, "migrate") && is_in(start, "us") {
        true => Script { ends: Some((Duration::from_secs(20), 1)), ..Script::task(2) },
        false => Script::of_shop(start),
    });
    play(setting, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        tokio::time::sleep(Duration::from_secs(30)).await;
        let kept = record(&stage, &release).await;
        let ran = kept.tasks.iter().find(|ran| ran.task == "migrate" && ran.environment == "us").unwrap();
        assert!(ran.seconds.is_none() && ran.failed_after.is_some_and(|after| after >= 20), "{ran:?}");
        assert_eq!(ran.last, ["line 1", "line 2"]);
        let said = local::releases::timeline(&kept);
        assert!(said.contains("migrate in us: did not end well, after "), "{said}");
    });
}

#[test]
fn a_release_that_is_tried_again_after_its_end_has_one_record_of_its_last_end() {
    play(own_images(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Rejected");
        stage.end(&release).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(record(&stage, &release).await.status, "Failed");
        stage.ask(
            "RetryStageExecution",
            &release,
            serde_json::json!({"stageName": "Approve", "retryMode": "FAILED_ACTIONS"}),
        );
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
        tokio::time::sleep(Duration::from_secs(30)).await;
        is_recorded_once(&stage, &release, "tried again").await;
        assert_eq!(record(&stage, &release).await.status, "Succeeded");
    });
}

async fn is_recorded_once(stage: &Stage, release: &str, what: &str) {
    let name = stage.world().pipeline_of(release).to_owned();
    let all = store(stage).executions(&name).await.unwrap();
    assert_eq!(all.iter().filter(|(one, _)| one == release).count(), 1, "{what}: {all:?}");
    record(stage, release).await;
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_migration_that_takes_three_times_as_long_as_ever_is_called_slow_and_the_rest_is_estimated() {
    let mut setting = own_images();
    setting.script = Box::new(|start| match (of_task(start, "migrate"), start.image.ends_with(":2.0")) {
        (true, true) => Script::task(20),
        (true, false) => Script::task(300),
        (false, _) => Script::of_shop(start),
    });
    play(setting, async |stage| {
        release(&stage).await;
        let name = stage.world().pipeline_name().to_owned();
        let usual = store(&stage).usual(&name).await.unwrap();
        let migrate = usual.step("Migrate", "Migrate").unwrap();
        assert!((20..40).contains(&migrate.median) && migrate.of == 1, "{migrate:?}");
        let slow = stage.start();
        stage.until_begun(&slow, "Migrate").await;
        let begun = stage.now();
        let is_shown = |world: &local::world::World| {
            let of_slow = world.actions(&slow);
            of_slow.iter().any(|one| one.action == "Migrate" && one.summary.contains("SLOW: more than 3 times"))
        };
        stage.until("the console shows it", Duration::from_secs(600), is_shown).await;
        let after = stage.now().since(begun).as_secs();
        assert!((3 * migrate.slowest..3 * migrate.slowest + 10).contains(&after), "{after} s, {migrate:?}");
        let said = |line: &String| line.contains("Migrate/Migrate is SLOW: more than 3 times as long as the slowest");
        assert_eq!(stage.lines(&slow).into_iter().filter(said).count(), 1);
        stage.until_begun(&slow, "Approve").await;
        let asks = asked(&stage, &slow);
        assert!(asks.contains(" (usually ") && asks.contains("Deploy: usually "), "{asks}");
        let told = |world: &local::world::World| {
            world.told(0).iter().any(|told| told.body.to_string().contains("Deploy: usually "))
        };
        stage.until("Slack is told, too", Duration::from_secs(60), told).await;
    });
}
