//! The record of every release, and the way back to one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local::world::ExecutionStatus;
use shared::record::{Entry, Record, Store};
use shared::{Manifest, Time};
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
fn one_release_back_is_a_minute_and_says_what_is_not_undone() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        let second = release(&stage).await;
        assert_eq!(version(&stage), "3.0");
        let begun = stage.now();
        let back = stage.start_back(None, None);
        stage.until_begun(&back, "Approve").await;
        let asks = asked(&stage, &back);
        assert!(asks.contains("MIGRATIONS AND OTHER TASKS RAN SINCE AND ARE NOT UNDONE: finish of"), "{asks}");
        assert!(asks.contains("migrate of abcdef0 Sell teapots") && asks.contains("shop:2.0 to us/web"), "{asks}");
        assert_eq!(version(&stage), "3.0", "nothing moves before the approval");
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "2.0");
        let took = stage.now().since(begun);
        assert!(took < Duration::from_secs(120), "{took:?}");
        assert!(stage.started(&back).is_empty(), "no task of its own is run");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let kept = record(&stage, &back).await;
        assert!(kept.back && kept.has_succeeded() && kept.content == record(&stage, &first).await.content);
        // From there, the one before is what ran before all of it: of that there is no release.
        assert_ne!(record(&stage, &second).await.content, kept.content);
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn three_releases_back_everything_since_is_told() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        for _ in 0..3 {
            release(&stage).await;
        }
        assert_eq!(version(&stage), "5.0");
        let back = stage.start_back(Some(&first), None);
        stage.until_begun(&back, "Approve").await;
        let asks = asked(&stage, &back);
        assert_eq!(asks.matches("migrate of ").count(), 3, "{asks}");
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "2.0");
    });
}

#[test]
fn an_image_that_is_gone_is_found_before_anybody_is_asked() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        let image = record(&stage, &first).await.image;
        stage.world().remove_image(&image);
        let back = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Failed);
        let check = stage.action(&back, "Check");
        assert!(check.error.unwrap().starts_with("The image of that release is gone from ECR: 111122223333.dkr"));
        assert!(!stage.actions(&back).iter().any(|one| matches!(one.action.as_str(), "Approve" | "Deploy")));
        assert_eq!(version(&stage), "3.0");
    });
}

#[test]
fn what_says_that_there_is_no_way_back_is_gone_behind_only_by_its_name() {
    let mut setting = own_images();
    setting.manifest = setting.manifest.replace("    timeout: 30m\n", "    timeout: 30m\n    no_way_back: true\n");
    play(setting, async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        let refused = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&refused).await, ExecutionStatus::Failed);
        let why = stage.action(&refused, "Check").error.unwrap();
        assert!(why.starts_with("There is no way back behind `migrate` (abcdef0 Sell teapots)"), "{why}");
        let back = stage.start_back(Some(&first), Some("migrate"));
        stage.until_begun(&back, "Approve").await;
        assert!(asked(&stage, &back).contains("BEHIND `migrate`, ALTHOUGH"), "{}", asked(&stage, &back));
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "2.0");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn without_a_record_or_with_one_of_a_newer_cutover_it_goes_back_and_says_what_is_not_known() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Kept {
        /// What CodePipeline shows of it tells the same.
        LostJustNow,
        LostAnHourAgo,
        Newer,
    }
    for kept in [Kept::LostJustNow, Kept::LostAnHourAgo, Kept::Newer] {
        let mut setting = own_images();
        let is_dead = Arc::<AtomicBool>::default();
        let dies = is_dead.clone();
        setting.fate = Box::new(move |function, _| {
            (function == "cutover-record-release" && dies.load(Ordering::Relaxed)).then_some(Fate::Lost)
        });
        play(setting, async |stage| {
            let first = release(&stage).await;
            release(&stage).await;
            is_dead.store(true, Ordering::Relaxed);
            let (store, name) = (store(&stage), stage.world().pipeline_name().to_owned());
            let key = Store::key(&name, &first);
            store.bucket().delete(&key).await.unwrap();
            match kept {
                Kept::LostJustNow => {}
                Kept::LostAnHourAgo => tokio::time::sleep(Duration::from_secs(3700)).await,
                Kept::Newer => {
                    let body = br#"{"schema": "cutover/release", "version": 9, "actions": 1}"#;
                    store.bucket().create(&key, body.to_vec()).await.unwrap();
                }
            }
            let back = stage.start_back(Some(&first), None);
            stage.until_begun(&back, "Approve").await;
            let asks = asked(&stage, &back);
            let not_known = asks.contains("HAS NO RECORD: what lies between is NOT KNOWN");
            assert_eq!(not_known, kept == Kept::Newer, "{asks}");
            assert_eq!(asks.contains("CANNOT BE READ"), kept == Kept::Newer, "{asks}");
            assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
            assert_eq!(version(&stage), "2.0");
            let entry = store.get(&name, &first).await.unwrap();
            let is_left = matches!(entry, Some(Entry::Newer { version: 9, .. }));
            assert_eq!(is_left, kept == Kept::Newer, "a newer record is never written over: {entry:?}");
        });
    }
}

#[test]
fn a_release_that_a_less_strict_version_took_can_be_gone_back_to() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        // As if it had been released when nobody looked at how long a time-out is.
        let manifest = Setting::default().manifest.replacen("timeout: 30m", "timeout: 48h", 1);
        assert!(
            Manifest::read("deploy.yaml", &manifest).is_err() && Manifest::read_shape("deploy.yaml", &manifest).is_ok()
        );
        let image = format!(r#"{{"ImageURI":"{}"}}"#, stage.image_of(&first).unwrap());
        let artifact = tests::zip(&[("deploy.yaml", manifest.as_bytes()), ("imageDetail.json", image.as_bytes())]);
        let (store, pipeline) = (store(&stage), stage.world().pipeline_name().to_owned());
        let key = Store::artifact(&pipeline, &first);
        let kept = store.bucket().get(&key).await.unwrap().unwrap();
        store.bucket().replace(&key, artifact, &kept.etag).await.unwrap();
        let back = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&back));
        assert_eq!(version(&stage), "2.0");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn however_many_releases_failed_since_what_ran_before_is_found_and_what_bars_the_way_still_bars_it() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        let second = release(&stage).await;
        let (store, pipeline) = (store(&stage), stage.world().pipeline_name().to_owned());
        // Merges that came to nothing, as their records tell: more than are read at once.
        let like = record(&stage, &second).await;
        let failed = |at: u64, no_way_back: &[&str]| Record {
            execution: format!("{at:08}-0000-4000-8000-000000000000"),
            status: "Failed".into(),
            content: format!("{at}"),
            artifact: String::new(),
            actions: Vec::new(),
            services: Vec::new(),
            no_way_back: no_way_back.iter().map(|&task| task.to_owned()).collect(),
            ended: like.ended.plus(Duration::from_secs(at)),
            ..like.clone()
        };
        for at in 1..=130 {
            store.keep(&failed(at, if at == 1 { &["reshape"] } else { &[] })).await.unwrap();
        }
        let barred = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&barred).await, ExecutionStatus::Failed);
        let why = stage.action(&barred, "Check").error.unwrap();
        assert!(why.contains("reshape"), "{why}");
        store.bucket().delete(&Store::key(&pipeline, &failed(1, &[]).execution)).await.unwrap();
        let third = release(&stage).await;
        let back = stage.start_back(None, None);
        stage.until_begun(&back, "Approve").await;
        let asks = asked(&stage, &back);
        assert!(!asks.contains("NOT KNOWN"), "{third}: {asks}");
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "3.0", "what ran before the third");
    });
}

#[test]
fn a_way_back_that_is_halted_in_the_middle_leaves_what_ran() {
    play(own_images(), async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        // The quick way is another story: see `ways_back.rs`.
        tokio::time::sleep(Duration::from_secs(400)).await;
        let back = stage.start_back(Some(&first), None);
        stage.until_begun(&back, "Approve").await;
        stage.answer_approval(&back, "Approved");
        stage.until_begun(&back, "Deploy").await;
        stage.until("it deploys", Duration::from_secs(60), |world| world.is_deploying()).await;
        stage.stop(&back);
        stage.end(&back).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(version(&stage), "3.0");
        assert_eq!(record(&stage, &back).await.status, "Stopped");
    });
}

#[test]
fn a_worker_that_is_busy_finishes_its_job_before_it_goes_back() {
    let mut setting = own_images();
    let is_busy = |image: &str| image.ends_with(":3.0");
    setting.script =
        Box::new(move |start| match of_task(start, "work") && is_busy(&start.image) && is_in(start, "us") {
            true => Script { on_term: Some((Duration::from_secs(50), 0)), ..Script::service() },
            false => Script::of_shop(start),
        });
    play(setting, async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        let back = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "2.0");
        let lives = stage.world().lives();
        let of_worker =
            |image: &str, service: Option<&str>| is_busy(image) && service.is_some_and(|one| one.contains("worker"));
        let old: Vec<_> = lives.iter().filter(|life| of_worker(&life.image, life.service.as_deref())).collect();
        assert!(old.iter().all(|life| life.exit_code == Some(0)), "none was killed: {old:#?}");
        let took = old.iter().filter_map(|life| Some(life.stopped?.since(life.stopping?))).max().unwrap();
        assert!(took >= Duration::from_secs(50), "{took:?}");
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
fn a_way_back_deploys_the_very_digest_of_its_release() {
    let digest = |of: &str| format!("111122223333.dkr.ecr.us-east-1.amazonaws.com/shop@sha256:{of:0>64}");
    let mut setting = own_images();
    setting.digests = true;
    play(setting, async |stage| {
        let first = release(&stage).await;
        let second = release(&stage).await;
        let images = [record(&stage, &first).await.image, record(&stage, &second).await.image];
        assert_eq!(images, [digest("2"), digest("3")]);
        let back = stage.start_back(None, None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        let traffic = stage.world().traffic();
        assert!(traffic.iter().all(|one| one.image == images[0]), "{traffic:?}");
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
