//! What ECS itself deploys while something meddles: with each call, at each moment, by a stop, by a refusal, and by a retry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use local::template::Stack;
use local::world::{ActionStatus, ExecutionStatus, Lateness};
use serde_json::json;
use tests::halt::{all_late, dead_after};
use tests::sweep::share;
use tests::writes::{at_write, telling_writes};
use tests::{Call, Kind, Meddling, Setting, Stage, of_task, play};

use crate::rollouts::{MIXES, crashing, deploy_by_hand, is_at_rest, is_on, shop, with_new};

/// The smallest application, with a web service of the first kind and a worker of the second.
fn small((web, worker): (Kind, Kind)) -> Setting {
    Setting { manifest: tests::SMALL.into(), ..shop(&[web], &[worker]) }
}

/// Through a pipeline that does nothing but deploy: what comes before has its own tests.
fn deployed_alone(setting: Setting) -> Setting {
    let only = |stack: &mut Stack| {
        stack.pipeline.stages.retain(|one| ["Source", "Build", "Deploy"].contains(&one.name.as_str()));
    };
    Setting { change_stack: Box::new(only), ..setting }
}

const PAIRS: [(Kind, Kind); 3] =
    [(Kind::BlueGreen, Kind::BlueGreen), (Kind::Canary, Kind::Rolling), (Kind::Rolling, Kind::Codedeploy)];

fn deploys(call: &Call<'_>) -> bool {
    call.function == "deploy-services"
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn whatever_happens_to_one_call_each_target_is_deployed_once() {
    for (at, pair) in PAIRS.into_iter().enumerate() {
        let calls = telling_writes(deployed_alone(small(pair)), deploys);
        assert!(calls.len() >= 6, "{calls:?}");
        let faults = [
            Meddling::Throttle,
            Meddling::Unreachable,
            Meddling::LoseReply,
            Meddling::CrashBefore,
            Meddling::CrashAfter,
        ];
        for (which, with) in faults.into_iter().enumerate() {
            for &nth in share(&calls, PAIRS.len() * faults.len(), PAIRS.len() * which + at) {
                let meddle = at_write(nth, with, deploys);
                play(Setting { meddle, ..deployed_alone(small(pair)) }, async |stage| {
                    let release = stage.start();
                    let status = stage.end(&release).await;
                    let context = format!("{pair:?}, {with:?} at {nth}: {:#?}", stage.say(&release));
                    assert_eq!(status, ExecutionStatus::Succeeded, "{context}");
                    let world = stage.world();
                    assert_eq!(world.rollouts().len() + world.deployments().len(), 2, "{context}");
                    // Only the two of the smallest application.
                    let new = world.traffic().iter().filter(|one| one.image.ends_with(":2.0")).count();
                    assert_eq!(new, 2, "{context}");
                });
            }
        }
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_stop_before_or_after_any_call_takes_everything_back_with_the_function_alive_or_dead() {
    for (at, pair) in PAIRS.into_iter().enumerate() {
        let calls = telling_writes(deployed_alone(small(pair)), deploys);
        assert!(calls.len() >= 6, "{calls:?}");
        let stops = [
            Meddling::AbandonBefore,
            Meddling::AbandonAfter,
            Meddling::AbandonAndCrash,
            Meddling::AbandonAndCrashAfter,
        ];
        for (which, with) in stops.into_iter().enumerate() {
            for &nth in share(&calls, PAIRS.len() * stops.len(), PAIRS.len() * which + at) {
                let meddle = at_write(nth, with, deploys);
                play(Setting { meddle, ..deployed_alone(small(pair)) }, async |stage| {
                    let release = stage.start();
                    let status = stage.end_alone(&release).await;
                    tokio::time::sleep(Duration::from_secs(300)).await;
                    is_taken_back(&stage, &release, status, &format!("{pair:?}, {with:?} at {nth}"));
                });
            }
        }
    }
}

/// A release that was stopped in its deployment has left nothing under way, its traffic is on the old version, and it is said.
fn is_taken_back(stage: &Stage, release: &str, status: ExecutionStatus, context: &str) {
    let deploy = stage.actions(release).into_iter().rev().find(|one| one.action == "Deploy").map(|one| one.status);
    if status == ExecutionStatus::Succeeded || deploy == Some(ActionStatus::Succeeded) {
        return;
    }
    let context = format!("{context}: {:#?}\n{:#?}", stage.say(release), stage.world().rollouts());
    assert!(is_on(stage, ":1.0"), "{:?}\n{context}", stage.world().traffic());
    assert!(is_at_rest(stage), "{context}");
    let said = stage.lines(release);
    assert!(said.iter().any(|line| line.starts_with("halt complete")), "{context}");
    assert!(!said.iter().any(|line| line.contains("NOT ROLLED BACK")), "{context}");
    let promised =
        stage.events(release).iter().find(|event| event.message.starts_with("halt complete")).map(|one| one.at);
    for one in stage.world().rollouts() {
        // One that brings the old version back is over for the release when its traffic is there: its bake time goes on.
        let is_over = one.image.ends_with(":1.0") || one.span.1 <= promised;
        assert!(Some(one.span.0) <= promised && is_over, "after the promise: {one:?}\n{context}");
    }
}

#[test]
fn a_stop_at_any_moment_takes_everything_back_although_everything_is_shown_late() {
    for seed in share(0..20, 6, 0) {
        let mut random = fastrand::Rng::with_seed(seed);
        let lateness = all_late(&mut random, shared::aws::LISTED);
        let pair = PAIRS[random.usize(0..PAIRS.len())];
        // What comes before Deploy is stopped in tests/halts.rs.
        let moment = Duration::from_millis(random.u64(20_000..60_000));
        let dies = random.bool();
        let mut die = dead_after(moment);
        let meddle = move |call: &Call<'_>| if dies { die(call) } else { Meddling::Pass };
        play(Setting { lateness, meddle: Box::new(meddle), ..small(pair) }, async |stage| {
            let (release, status) = stage.stopped_after(moment).await;
            is_taken_back(&stage, &release, status, &format!("seed {seed}, {pair:?}, {moment:?}, {lateness:?}"));
        });
    }
}

#[test]
fn a_deployment_whose_images_ecs_does_not_name_yet_is_taken_back_with_its_release_although_its_function_is_dead() {
    for (pair, moment) in [((Kind::BlueGreen, Kind::Rolling), 6), ((Kind::Canary, Kind::BlueGreen), 8)] {
        let moment = Duration::from_secs(moment);
        let lateness = Lateness { images: Duration::from_secs(1800), ..Lateness::default() };
        let mut die = dead_after(moment);
        let setting = deployed_alone(small(pair));
        play(Setting { lateness, meddle: Box::new(move |call: &Call<'_>| die(call)), ..setting }, async |stage| {
            let (release, status) = stage.stopped_after(moment).await;
            assert!(!stage.world().rollouts().is_empty(), "{pair:?}: something was begun");
            is_taken_back(&stage, &release, status, &format!("{pair:?}"));
        });
    }
}

#[test]
fn a_retry_of_the_stage_deploys_again_what_had_failed() {
    for pair in PAIRS {
        let crashes = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let still = crashes.clone();
        let setting = with_new(small(pair), move |start| {
            (still.load(Ordering::Relaxed) && of_task(start, "work")).then(crashing)
        });
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{pair:?}");
            assert!(is_on(&stage, ":1.0"), "{pair:?}: {:?}", stage.world().traffic());
            tokio::time::sleep(Duration::from_secs(120)).await;
            crashes.store(false, Ordering::Relaxed);
            stage.ask("RetryStageExecution", &release, json!({"stageName": "Deploy", "retryMode": "FAILED_ACTIONS"}));
            assert_eq!(
                stage.end(&release).await,
                ExecutionStatus::Succeeded,
                "{pair:?}: {:#?}",
                stage.actions(&release)
            );
            let world = stage.world();
            let new = world.traffic().iter().filter(|one| one.image.ends_with(":2.0")).count();
            assert_eq!(new, 2, "{pair:?}: {:?}", world.traffic());
        });
    }
}

#[test]
fn where_a_first_look_is_refused_nothing_was_begun_and_nothing_is_said_to_be_left() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("deploy-services", "ListServiceDeployments") => Meddling::Refuse,
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(meddle), ..deployed_alone(small(PAIRS[0])) }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end_alone(&release).await, ExecutionStatus::Failed);
        let why = stage.action(&release, "Deploy").error.unwrap();
        assert!(why.contains("ListServiceDeployments"), "{why}");
        assert!(why.contains("Traffic is on the old version everywhere") && !why.contains("NOT ROLLED BACK"), "{why}");
        assert!(stage.world().rollouts().is_empty() && is_on(&stage, ":1.0"));
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_halt_at_any_moment_of_a_deployment_takes_everything_back() {
    for mix in MIXES {
        for second in share((1..60).step_by(7), 3, 1) {
            play(deployed_alone(shop(mix.0, mix.1)), async |stage| {
                let release = stage.start();
                stage.until_begun(&release, "Deploy").await;
                tokio::time::sleep(Duration::from_secs(second)).await;
                stage.stop(&release);
                let status = stage.end_alone(&release).await;
                tokio::time::sleep(Duration::from_secs(400)).await;
                is_taken_back(&stage, &release, status, &format!("{mix:?}, {second} s"));
            });
        }
    }
}

#[test]
fn a_version_that_ecs_has_given_up_and_left_is_not_taken_for_one_that_runs_already() {
    let mut setting = deployed_alone(small((Kind::Rolling, Kind::Rolling)));
    let breaker = "strategy: ROLLING, circuit_breaker: {threshold: 3, rollback: false}";
    setting.account = setting.account.replace("strategy: ROLLING", breaker);
    let crashes = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let still = crashes.clone();
    let setting = with_new(setting, move |_| still.load(Ordering::Relaxed).then(crashing));
    play(setting, async |stage| {
        deploy_by_hand(&stage, "2.0");
        tokio::time::sleep(Duration::from_secs(300)).await;
        let theirs = stage.world().rollouts();
        assert_eq!(theirs.iter().map(|one| one.status).collect::<Vec<_>>(), ["STOPPED"], "{theirs:#?}");
        crashes.store(false, Ordering::Relaxed);
        let release = stage.start();
        assert_eq!(stage.end_alone(&release).await, ExecutionStatus::Failed);
        let why = stage.action(&release, "Deploy").error.unwrap();
        assert!(why.starts_with("us/web failed: ECS has given up bringing shop-web:2 up"), "{why}");
        assert!(is_on(&stage, ":1.0"), "{:?}", stage.world().traffic());
    });
}

#[test]
fn what_somebody_deploys_over_a_way_back_is_left_alone_and_nobody_is_called_to_undo_it() {
    // The web service has its version when the worker fails; while its old one is brought back, somebody deploys another.
    let setting = deployed_alone(small((Kind::Rolling, Kind::Rolling)));
    let setting = with_new(setting, |start| of_task(start, "work").then(crashing));
    play(setting, async |stage| {
        let release = stage.start();
        let comes_back = |world: &local::world::World| {
            let mut all = world.rollouts().into_iter().filter(|one| one.definition.starts_with("shop-web:"));
            all.any(|one| one.image.ends_with(":1.0") && one.status == "IN_PROGRESS")
        };
        stage.until("the web service is brought back", Duration::from_secs(900), comes_back).await;
        deploy_by_hand(&stage, "by-hand");
        assert_eq!(stage.end_alone(&release).await, ExecutionStatus::Failed);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let why = stage.action(&release, "Deploy").error.unwrap();
        let said = stage.lines(&release);
        assert!(!why.contains("NOT ROLLED BACK") && !why.contains("by hand"), "{why}");
        assert!(!said.iter().any(|line| line.contains("NOT ROLLED BACK")), "{said:#?}");
        let traffic = stage.world().traffic();
        let web = traffic.iter().find(|one| one.service == "web" && one.image.ends_with("by-hand"));
        assert!(web.is_some(), "it is left alone: {traffic:?}");
    });
}
