//! What AWS does not answer for long: a Region that is out of reach while a release is taken back, CodePipeline itself, and lists that
//! nobody answers when an action's fate hangs on them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Start, World};
use serde_json::json;
use tests::{Call, Meddling, SMALL, Script, Setting, Stage, of_task, play};

use crate::halts::nothing_is_left;
use crate::notifications::slack;

const MINUTE: Duration = Duration::from_secs(60);

/// The smallest application, whose migration takes so long, with calls that nobody answers while the switch is on.
fn cut_off(migrates: Duration, calls: impl Fn(&Call<'_>) -> bool + Send + 'static) -> (Setting, Arc<AtomicBool>) {
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    let meddle = move |call: &Call<'_>| match is_cut.load(Ordering::Relaxed) && calls(call) {
        true => Meddling::Unreachable,
        false => Meddling::Pass,
    };
    let script = move |start: &Start| match of_task(start, "migrate") {
        true => Script { ends: Some((migrates, 0)), ..Script::task(1) },
        false => Script::of_shop(start),
    };
    let (meddle, script) = (Box::new(meddle), Box::new(script));
    (Setting { manifest: SMALL.into(), meddle, script, ..Setting::default() }, cut)
}

async fn until_it_migrates(stage: &Stage, release: &str) {
    let migrates = |world: &World| {
        let own = format!("{release}/migrate/");
        world.tasks().filter(|task| task.started_by.contains(&own) && !task.is_over()).count() == 2
    };
    stage.until("it migrates everywhere", 10 * MINUTE, migrates).await;
}

#[test]
fn what_a_stopped_release_runs_in_a_region_that_is_out_of_reach_for_half_an_hour_is_taken_back_when_it_is_back() {
    let (mut setting, cut) = cut_off(120 * MINUTE, |call| call.region == "eu-west-1");
    setting.manifest.push_str("notifications: {slack: {webhook: /shop/slack-webhook}}\n");
    play(setting, async |stage| {
        let release = stage.start();
        until_it_migrates(&stage, &release).await;
        cut.store(true, Ordering::Relaxed);
        stage.stop(&release);
        tokio::time::sleep(30 * MINUTE).await;
        let runs: Vec<_> = stage.started(&release);
        let world = |stage: &Stage| {
            let world = stage.world();
            let own = world.tasks().filter(|task| task.started_by.contains(&release) && !task.is_over());
            own.map(|task| task.started_by.rsplit('/').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(world(&stage), ["eu"], "what can be reached was stopped: {runs:?}");
        let said = |part: &str| stage.lines(&release).iter().filter(|line| line.contains(part)).count();
        assert_eq!((said("halt complete"), said("halt incomplete")), (0, 0), "{:#?}", stage.lines(&release));
        assert!(
            (1..=2).contains(&said("halt not complete yet: AWS did not answer for 5 min")),
            "{:#?}",
            stage.lines(&release)
        );
        cut.store(false, Ordering::Relaxed);
        tokio::time::sleep(8 * MINUTE).await;
        nothing_is_left(&stage, &release);
        assert_eq!(
            (said("halt complete: stopped migrate in"), said("halt incomplete")),
            (1, 0),
            "{:#?}",
            stage.lines(&release)
        );
        let told = slack(&stage);
        assert_eq!(told.iter().filter(|text| text.contains("release stopped")).count(), 1, "{told:#?}");
    });
}

#[test]
fn a_halt_that_codepipeline_does_not_answer_for_twenty_minutes_is_carried_out_all_the_same() {
    let (setting, cut) =
        cut_off(120 * MINUTE, |call| call.function == "halt-release" && call.operation.contains("Execution"));
    play(setting, async |stage| {
        let release = stage.start();
        until_it_migrates(&stage, &release).await;
        cut.store(true, Ordering::Relaxed);
        stage.stop(&release);
        tokio::time::sleep(20 * MINUTE).await;
        cut.store(false, Ordering::Relaxed);
        tokio::time::sleep(3 * MINUTE).await;
        nothing_is_left(&stage, &release);
        let lines = stage.lines(&release);
        let said = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!((said("halt complete"), said("halt incomplete")), (1, 0), "{lines:#?}");
    });
}

#[test]
fn an_action_that_could_not_hand_over_for_a_quarter_of_an_hour_goes_on_when_codepipeline_answers_again() {
    let (setting, cut) = cut_off(45 * MINUTE, |call| call.operation.contains("Job"));
    play(setting, async |stage| {
        let release = stage.start();
        until_it_migrates(&stage, &release).await;
        tokio::time::sleep(9 * MINUTE).await;
        cut.store(true, Ordering::Relaxed);
        // Its function has 15 minutes.
        tokio::time::sleep(16 * MINUTE).await;
        cut.store(false, Ordering::Relaxed);
        assert_eq!(stage.end_alone(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let migrated = stage.started(&release).iter().filter(|one| one.starts_with("migrate/")).count();
        assert_eq!(migrated, 2, "each environment was migrated once");
    });
}

#[test]
fn a_deployment_whose_success_was_taken_stays_although_nobody_says_so_when_its_release_is_stopped_behind_it() {
    let deploys = |call: &Call<'_>| call.function == "deploy-services";
    let (is_cut, is_lost) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let cut = is_cut.clone();
    let meddle = move |call: &Call<'_>| match call.operation {
        // Its answer is taken, and its word lost; from then on nobody tells it what became of its action.
        "PutJobSuccessResult"
            if deploys(call) && cut.load(Ordering::Relaxed) && !is_lost.swap(true, Ordering::Relaxed) =>
        {
            Meddling::LoseReply
        }
        "ListActionExecutions" if deploys(call) && cut.load(Ordering::Relaxed) => Meddling::Refuse,
        _ => Meddling::Pass,
    };
    let setting = Setting { manifest: SMALL.into(), meddle: Box::new(meddle), ..Setting::default() };
    play(setting, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        let is_new = |world: &World| world.traffic().iter().filter(|one| !one.image.ends_with(":1.0")).count() == 2;
        stage.until("the traffic has moved", 30 * MINUTE, is_new).await;
        is_cut.store(true, Ordering::Relaxed);
        stage.ask("StopPipelineExecution", &release, json!({"abandon": false, "reason": "a test"}));
        stage
            .until("it is stopped", 30 * MINUTE, |world| world.status(&release) == Some(ExecutionStatus::Stopped))
            .await;
        assert_eq!(stage.action(&release, "Deploy").status, ActionStatus::Succeeded, "{:#?}", stage.actions(&release));
        tokio::time::sleep(10 * MINUTE).await;
        assert!(is_new(&stage.world()), "a fact is not taken back: {:#?}", stage.world().traffic());
        assert!(!stage.lines(&release).iter().any(|line| line.contains("rolled back")), "{:#?}", stage.lines(&release));
    });
}
