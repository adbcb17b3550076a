//! Going back while something else goes on: a release that still drains, waits, deploys or comes meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::world::ExecutionStatus;
use shared::Time;
use tests::{Fate, Script, Setting, Stage, is_in, of_task, play};

use crate::records::{asked, own_images, record, release, version};

/// When each deployment was begun, and what its description says.
type Begun = Arc<Mutex<Vec<(Time, String)>>>;

/// The same, and the deployments that are begun are noted.
fn noting(mut setting: Setting) -> (Setting, Begun) {
    let begun = Begun::default();
    let seen = begun.clone();
    setting.witness = Box::new(move |call, request, _, _| {
        if call.operation == "CreateDeployment" {
            seen.lock().unwrap().push((call.at, String::from_utf8_lossy(&request.body).into_owned()));
        }
    });
    (setting, begun)
}

/// How many deployments a release has begun.
fn deployments_of(begun: &Begun, execution: &str) -> usize {
    begun.lock().unwrap().iter().filter(|(_, description)| description.contains(execution)).count()
}

/// A manifest whose migration must not be gone back behind.
fn barred() -> Setting {
    let mut setting = own_images();
    setting.manifest = setting.manifest.replace("    timeout: 30m\n", "    timeout: 30m\n    no_way_back: true\n");
    setting
}

/// The second version's worker in one environment is busy for so long once it is told to end.
fn busy(seconds: u64) -> Setting {
    let mut setting = own_images();
    setting.script =
        Box::new(move |start| match of_task(start, "work") && start.image.ends_with(":3.0") && is_in(start, "us") {
            true => Script { on_term: Some((Duration::from_secs(seconds), 0)), ..Script::service() },
            false => Script::of_shop(start),
        });
    setting
}

/// The third version comes up, and never gets well.
fn third_is_ill(mut setting: Setting) -> Setting {
    setting.script = Box::new(|start| match start.port.is_some() && start.image.ends_with(":4.0") {
        true => Script { healthy_after: None, ..Script::service() },
        false => Script::of_shop(start),
    });
    setting
}

/// Two releases, a third one that deploys, and a way back to the first that is approved meanwhile.
async fn back_while_it_deploys(stage: &Stage) -> [String; 3] {
    let first = release(stage).await;
    release(stage).await;
    let failing = stage.start();
    approve(stage, &failing).await;
    stage.until_begun(&failing, "Deploy").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let back = stage.start_back(Some(&first), None);
    approve(stage, &back).await;
    [first, failing, back]
}

async fn approve(stage: &Stage, execution: &str) {
    stage.until_begun(execution, "Approve").await;
    stage.answer_approval(execution, "Approved");
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_function_that_slept_while_another_answered_for_it_deploys_nothing_over_the_next_release() {
    // Lambda brought the event again, and another function did the work; this one had not begun anything yet.
    for after in [150, 500, 1200] {
        let (mut setting, begun) = noting(own_images());
        let (mut deploys, lasts) = (0, Duration::from_secs(500));
        setting.fate = Box::new(move |function, _| {
            deploys += u32::from(function.ends_with("deploy-services"));
            let is_first = function.ends_with("deploy-services") && deploys == 1;
            is_first.then_some(Fate::Frozen { after: Duration::from_millis(after), lasts })
        });
        play(setting, async |stage| {
            let first = release(&stage).await;
            release(&stage).await;
            tokio::time::sleep(lasts).await;
            assert_eq!(deployments_of(&begun, &first), 6, "frozen after {after} ms");
            assert!(stage.world().traffic().iter().all(|one| one.image.ends_with(":3.0")), "frozen after {after} ms");
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn while_the_release_that_runs_still_drains_its_workers_the_way_back_leads_one_back_and_is_quick() {
    play(busy(900), async |stage| {
        release(&stage).await;
        release(&stage).await;
        let third = stage.start();
        approve(&stage, &third).await;
        stage.until_begun(&third, "Drain").await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!stage.world().status(&third).unwrap().is_over(), "its old worker is busy");
        let back = stage.start_back(None, None);
        stage.until_begun(&back, "Approve").await;
        let asks = asked(&stage, &back);
        assert!(asks.contains(" from abcdef0 Sell teapots, which goes on."), "{asks}");
        assert_eq!(asks.matches("migrate of ").count(), 1, "one back: {asks}");
        stage.answer_approval(&back, "Approved");
        assert_eq!(stage.end_alone(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "3.0");
        let said = stage.action(&back, "Deploy").summary;
        assert!(said.contains(&format!("the quick way (the deployments of release {third} were stopped)")), "{said}");
        stage.end_alone(&third).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(version(&stage), "3.0", "the one that drained moves nothing any more");
        let kept = record(&stage, &back).await;
        assert!(kept.back && kept.has_succeeded(), "{kept:?}");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_way_back_at_the_very_end_of_a_release_leads_one_back_also_when_the_event_of_that_end_is_late() {
    for fate in [None, Some(Fate::Late(Duration::from_secs(120)))] {
        let mut setting = own_images();
        setting.fate = Box::new(move |function, event| {
            let is_end = event.pointer("/detail/execution-id").is_some() && event.pointer("/detail/action").is_none();
            fate.filter(|_| function == "cutover-record-release" && is_end)
        });
        play(setting, async |stage| {
            release(&stage).await;
            tokio::time::sleep(Duration::from_secs(200)).await;
            release(&stage).await;
            tokio::time::sleep(Duration::from_secs(200)).await;
            let third = stage.start();
            assert_eq!(stage.end(&third).await, ExecutionStatus::Succeeded);
            let back = stage.start_back(None, None);
            assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
            assert_eq!(version(&stage), "3.0", "{fate:?}");
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn where_no_event_told_of_the_release_that_runs_the_approval_says_how_far_back_it_is() {
    let mut setting = own_images();
    let mut deployed = 0;
    setting.fate = Box::new(move |function, event| {
        let is_told = function == "cutover-record-release" && event.pointer("/detail/execution-id").is_some();
        deployed += u32::from(is_told);
        // Of the first two releases, the deployment and the end were told.
        (is_told && deployed > 4).then_some(Fate::Lost)
    });
    play(setting, async |stage| {
        release(&stage).await;
        release(&stage).await;
        let third = stage.start();
        assert_eq!(stage.end(&third).await, ExecutionStatus::Succeeded);
        let back = stage.start_back(None, None);
        stage.until_begun(&back, "Approve").await;
        let asks = asked(&stage, &back);
        assert!(asks.contains(", 2 RELEASES BACK, from "), "{asks}");
        assert_eq!(asks.matches("migrate of ").count(), 2, "{asks}");
    });
}

#[test]
fn what_was_approved_is_not_done_when_another_release_has_the_traffic_since() {
    let (setting, begun) = noting(own_images());
    play(setting, async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        let back = stage.start_back(Some(&first), None);
        stage.until_begun(&back, "Approve").await;
        let third = stage.start();
        approve(&stage, &third).await;
        assert_eq!(stage.end_alone(&third).await, ExecutionStatus::Succeeded);
        stage.answer_approval(&back, "Approved");
        assert_eq!(stage.end_alone(&back).await, ExecutionStatus::Failed);
        let why = stage.action(&back, "Deploy").error.unwrap();
        let said = "Another release has the traffic since this was approved: abcdef0 Sell teapots";
        assert!(why.starts_with(said), "{why}");
        assert_eq!(deployments_of(&begun, &back), 0);
        assert_eq!(version(&stage), "4.0");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_way_back_that_was_stopped_while_it_drained_and_is_tried_again_has_not_overtaken_itself() {
    play(busy(100), async |stage| {
        let first = release(&stage).await;
        release(&stage).await;
        let back = stage.start_back(Some(&first), None);
        approve(&stage, &back).await;
        stage.until_begun(&back, "Drain").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        stage.stop(&back);
        stage.end(&back).await;
        assert_eq!(version(&stage), "2.0", "what it had answered for stays");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let again = serde_json::json!({"stageName": "Deploy", "retryMode": "ALL_ACTIONS"});
        stage.ask("RetryStageExecution", &back, again);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded, "{:#?}", stage.action(&back, "Deploy"));
        assert_eq!(version(&stage), "2.0");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_was_approved_is_not_done_when_a_task_was_begun_since_that_says_that_there_is_no_way_back() {
    for (setting, bars) in [(barred(), true), (own_images(), false)] {
        let (setting, begun) = noting(setting);
        play(setting, async |stage| {
            let first = release(&stage).await;
            let behind = bars.then_some("migrate");
            release(&stage).await;
            let back = stage.start_back(Some(&first), behind);
            stage.until_begun(&back, "Approve").await;
            let third = stage.start();
            stage.until_begun(&third, "Approve").await;
            stage.answer_approval(&back, "Approved");
            let ended = stage.end_alone(&back).await;
            let migrated = "`migrate` (abcdef0 Sell teapots, which goes on)";
            if bars {
                assert_eq!(ended, ExecutionStatus::Failed);
                let why = stage.action(&back, "Deploy").error.unwrap();
                assert!(why.starts_with(&format!("There is no way back behind {migrated}, which was begun")), "{why}");
                assert_eq!((deployments_of(&begun, &back), version(&stage).as_str()), (0, "3.0"));
            } else {
                assert_eq!((ended, version(&stage).as_str()), (ExecutionStatus::Succeeded, "2.0"));
                let lines = stage.lines(&back);
                let said = lines.iter().find(|line| line.starts_with("BEGUN SINCE THE APPROVAL, AND NOT UNDONE: "));
                assert!(said.is_some_and(|said| said.contains(migrated)), "{lines:#?}");
            }
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn where_another_release_deploys_for_too_long_the_way_back_is_refused_by_name_and_comes_when_it_has_failed() {
    let (mut setting, begun) = noting(third_is_ill(own_images()));
    setting.manifest = setting
        .manifest
        .replace("    deployment_group: web\n", "    deployment_group: web\n    wait_for_group: 1m\n    timeout: 3m\n");
    setting.manifest = setting.manifest.replace(
        "    deployment_group: worker\n",
        "    deployment_group: worker\n    wait_for_group: 1m\n    timeout: 3m\n",
    );
    play(setting, async |stage| {
        let [first, failing, back] = back_while_it_deploys(&stage).await;
        assert_eq!(stage.end_alone(&back).await, ExecutionStatus::Failed);
        let why = stage.action(&back, "Deploy").error.unwrap();
        let said =
            format!("Release {failing} of the pipeline cutover-pipeline deploys, and has not ended within 1 min");
        assert!(why.starts_with(&said), "{why}");
        assert_eq!(deployments_of(&begun, &back), 0);
        assert_eq!(stage.end_alone(&failing).await, ExecutionStatus::Failed);
        assert_eq!(version(&stage), "3.0", "it has taken back what it had deployed");
        let again = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&again).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "2.0");
        assert_eq!(record(&stage, &failing).await.status, "Failed");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn in_the_middle_of_a_release_that_is_stopped_then_the_way_back_waits_by_name_and_brings_the_old_version() {
    play(third_is_ill(own_images()), async |stage| {
        let [_, failing, back] = back_while_it_deploys(&stage).await;
        stage.until_begun(&back, "Deploy").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!stage.world().traffic().iter().any(|one| one.image.ends_with(":2.0")), "it must not have begun");
        let waits = format!("Waiting for release {failing} of the pipeline cutover-pipeline, which deploys");
        assert!(stage.lines(&back).iter().any(|line| line.starts_with(&waits)), "{:#?}", stage.lines(&back));
        stage.stop(&failing);
        assert_eq!(stage.end_alone(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(version(&stage), "2.0");
    });
}

#[test]
fn what_a_release_has_migrated_that_still_waits_for_its_approval_is_told_too_and_bars_the_way() {
    for barred in [true, false] {
        let mut setting = own_images();
        if barred {
            let flagged = "    timeout: 30m\n    no_way_back: true\n";
            setting.manifest = setting.manifest.replace("    timeout: 30m\n", flagged);
        }
        play(setting, async |stage| {
            let first = release(&stage).await;
            record(&stage, &first).await;
            let waits = stage.start();
            stage.until_begun(&waits, "Approve").await;
            let back = stage.start_back(Some(&first), None);
            let named = "abcdef0 Sell teapots, which goes on";
            if barred {
                assert_eq!(stage.end(&back).await, ExecutionStatus::Failed);
                let why = stage.action(&back, "Check").error.unwrap();
                assert!(why.starts_with(&format!("There is no way back behind `migrate` ({named})")), "{why}");
            } else {
                stage.until_begun(&back, "Approve").await;
                assert!(asked(&stage, &back).contains(&format!("migrate of {named}")), "{}", asked(&stage, &back));
            }
        });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn two_ways_back_and_a_release_at_once_deploy_one_after_the_other() {
    let (setting, begun) = noting(own_images());
    play(setting, async |stage| {
        let first = release(&stage).await;
        let second = release(&stage).await;
        release(&stage).await;
        let all = [stage.start_back(Some(&first), None), stage.start_back(Some(&second), None), stage.start()];
        let is_over = |one: &String| stage.world().status(one).is_some_and(ExecutionStatus::is_over);
        let patience = stage.now().plus(Duration::from_secs(3600));
        while !all.iter().all(is_over) {
            assert!(stage.now() < patience, "they do not end");
            for one in &all {
                if stage.actions(one).iter().any(|action| action.approval.is_some()) {
                    stage.answer_approval(one, "Approved");
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        version(&stage);
        let spans = all.each_ref().map(|one| {
            let deploy = stage.action(one, "Deploy");
            let own =
                begun.lock().unwrap().clone().into_iter().filter(|(_, description)| description.contains(one.as_str()));
            let first = own.map(|(at, _)| at).min();
            match stage.world().status(one) {
                Some(ExecutionStatus::Succeeded) => (first.expect("it has begun a deployment"), deploy.updated),
                // What was approved is not what it would be.
                _ => {
                    let why = deploy.error.as_deref().unwrap_or_default();
                    assert!(
                        why.starts_with("Another release has the traffic since this was approved: "),
                        "{deploy:#?}"
                    );
                    assert_eq!(first, None, "{why}");
                    (deploy.updated, deploy.updated)
                }
            }
        });
        assert_eq!(stage.world().status(&all[2]), Some(ExecutionStatus::Succeeded), "the release only waits");
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (a, b) = (spans[a], spans[b]);
            assert!(a.1 <= b.0 || b.1 <= a.0, "two deploy at once: {spans:?}");
        }
    });
}
