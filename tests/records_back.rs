//! The way back to a release that has a record.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local::world::ExecutionStatus;
use shared::Manifest;
use shared::record::{Entry, Record, Store};
use tests::{Fate, Script, Setting, is_in, of_task, play};

use crate::records::{asked, own_images, record, release, store, version};

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
            store.keep(&failed(at, if at == 1 { &["reshape"] } else { &[] }), true).await.unwrap();
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
