//! Workers that are started one by one, while something meddles: starts that are refused, find no room, or lose their answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local::world::{Lateness, Start};
use serde_json::Value;
use tests::sweep::share;
use tests::{Call, Fate, Meddling, Script, Setting, play};

use crate::launches::{
    EXPORTS, MINUTE, ask, at_work, dead_letters, most_at_once, refused, release, send, with_workers, work, workers,
};

#[test]
fn a_worker_that_may_not_be_started_or_cannot_start_ends_in_the_dead_letter_queue() {
    play(Setting { meddle: refused("RunTask"), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(2 * MINUTE).await;
        let dead = dead_letters(&stage);
        assert!(dead.len() == 1 && dead[0].1.contains("ecs:RunTask in us-east-1 was refused"), "{dead:#?}");
    });
    let gone = std::rc::Rc::new(std::cell::Cell::new(true));
    let is_gone = gone.clone();
    let no_image = move |start: &Start| match start.command.iter().any(|word| word == "export") {
        true if is_gone.get() => Script { cannot_start: Some("pull access denied".into()), ..Script::task(1) },
        true => work(start, 20 * MINUTE),
        false => Script::of_shop(start),
    };
    play(Setting { script: Box::new(no_image), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(5 * MINUTE).await;
        let dead = dead_letters(&stage);
        assert!(dead.len() == 1 && dead[0].1.contains("could not start, 3 times"), "{dead:#?}");
        assert!(dead[0].1.contains("pull access denied"), "{dead:#?}");
        assert_eq!(workers(&stage).len(), 3);
        // Sent back as it is when the image is there again.
        gone.set(false);
        send(&stage, &dead[0].0);
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!((at_work(&stage), workers(&stage).len(), dead_letters(&stage).len()), (1, 4, 1));
    });
}

#[test]
fn a_start_that_is_refused_after_an_attempt_without_an_answer_is_given_up_only_when_it_has_begun_nothing() {
    for (first, has_begun) in
        [(Meddling::HangThenDo, true), (Meddling::LoseReply, true), (Meddling::Unreachable, false)]
    {
        let mut asked = 0;
        let meddle = move |call: &Call<'_>| match (call.function, call.operation) {
            ("launch-workers", "RunTask") => {
                asked += 1;
                if asked == 1 { first } else { Meddling::Refuse }
            }
            _ => Meddling::Pass,
        };
        play(Setting { meddle: Box::new(meddle), ..with_workers(EXPORTS) }, async |stage| {
            release(&stage).await;
            ask(&stage, "exports", "us", "1");
            // Lists may not show its task yet.
            tokio::time::sleep(Duration::from_secs(25)).await;
            assert_eq!(dead_letters(&stage), vec![], "{first:?}");
            tokio::time::sleep(2 * MINUTE).await;
            let (dead, begun) = (dead_letters(&stage), workers(&stage).len());
            assert_eq!((dead.len(), begun), if has_begun { (0, 1) } else { (1, 0) }, "{first:?}: {dead:#?}");
            assert!(dead.iter().all(|(_, why)| why.contains("ecs:RunTask in us-east-1 was refused")), "{dead:#?}");
        });
    }
}

#[test]
fn without_room_a_job_waits_and_gets_its_worker_when_there_is_room_again() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("launch-workers", "RunTask") if call.at.since(tests::BEGIN) < 20 * MINUTE => Meddling::NoRoom,
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(meddle), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!((workers(&stage).len(), dead_letters(&stage).len()), (0, 0));
        tokio::time::sleep(15 * MINUTE).await;
        assert_eq!((workers(&stage).len(), dead_letters(&stage).len()), (1, 0));
    });
}

/// A play under faults: jobs come, functions die, calls are throttled or lost or done late, messages come twice, ECS shows
/// tasks late, Spot takes some. Then the faults stop, and everything must have come to rest.
fn play_under_faults(seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let (most, warm, jobs) = (chance.usize(1..6), chance.usize(0..3), chance.usize(1..25));
    let warm = warm.min(most);
    let (rate, late) = (chance.u32(2..25), chance.u64(0..6));
    let until = tests::BEGIN.plus(25 * MINUTE);
    let mut of_calls = chance.fork();
    let meddle = move |call: &Call<'_>| {
        if call.function != "launch-workers" || call.at > until || of_calls.u32(0..100) >= rate {
            return Meddling::Pass;
        }
        match of_calls.u32(0..10) {
            9 if call.operation == "RunTask" => Meddling::NoRoom,
            0 => Meddling::Throttle,
            1 => Meddling::Unreachable,
            2 => Meddling::LoseReply,
            3 => Meddling::CrashBefore,
            4 => Meddling::CrashAfter,
            5 => Meddling::DoneLate(Duration::from_millis(of_calls.u64(100..15_000))),
            6 => Meddling::Hang,
            _ => Meddling::Throttle,
        }
    };
    let mut of_fates = chance.fork();
    let fate = move |function: &str, _: &Value| {
        if !function.ends_with("launch-workers") || of_fates.u32(0..100) >= 10 {
            return None;
        }
        let after = Duration::from_millis(of_fates.u64(0..5_000));
        Some(match of_fates.u32(0..3) {
            0 => Fate::Killed(after),
            1 => Fate::Twice(after),
            _ => Fate::Late(after),
        })
    };
    let length = RefCell::new(chance.fork());
    let script = move |start: &Start| {
        let seconds = length.borrow_mut().u64(1..400);
        work(start, Duration::from_secs(seconds))
    };
    let manifest = EXPORTS.replace("most: 3", &format!("most: {most}, warm: {warm}"));
    let lateness = Lateness { tasks: Duration::from_secs(late), ..Lateness::default() };
    let setting = Setting {
        meddle: Box::new(meddle),
        fate: Box::new(fate),
        script: Box::new(script),
        lateness,
        seed,
        ..with_workers(&manifest)
    };
    play(setting, async |stage| {
        release(&stage).await;
        let mut interrupted = 0;
        for id in 0..jobs {
            for _ in 0..chance.usize(1..3) {
                ask(&stage, "exports", "us", &id.to_string());
            }
            tokio::time::sleep(Duration::from_millis(chance.u64(0..60_000))).await;
            let running: Vec<_> = workers(&stage).into_iter().filter(|life| life.stopped.is_none()).collect();
            if chance.u32(0..10) == 0
                && let Some(one) = running.first()
            {
                let now = stage.now();
                stage.world().interrupt(&one.arn, now);
                interrupted += 1;
            }
        }
        tokio::time::sleep(150 * MINUTE).await;
        let lives = workers(&stage);
        assert!(most_at_once(&lives) <= most, "seed {seed}: never more than `most`, {most}: {}", most_at_once(&lives));
        let kept = |folder: &str| stage.world().keys("cutover-artifacts", &format!("{folder}/")).len();
        assert_eq!(dead_letters(&stage), [], "seed {seed}: each can be done");
        assert_eq!(
            (kept("workers/us/exports/waiting"), kept("workers-taken/us/exports")),
            (0, jobs),
            "seed {seed}: each job that was asked for has its worker"
        );
        assert!(lives.iter().all(|life| life.stop_code != Some("UserInitiated")), "seed {seed}: none is ended by us");
        let started = lives.iter().filter(|life| life.started.is_some()).count();
        if warm == 0 {
            // What AWS has interrupted gives its job back to its broker: another one comes for that.
            assert!(
                (jobs..=jobs + interrupted).contains(&started),
                "seed {seed}: {started} for {jobs} jobs, {interrupted} interrupted"
            );
        }
        // They end by themselves, some of them early; within two minutes there are others.
        let are_warm = |world: &local::world::World| {
            let mut lives = world.lives();
            lives.retain(|life| life.started_by.starts_with("cutover-worker/") && life.stopped.is_none());
            lives.len() >= warm
        };
        stage.until("as many are warm as shall be", 2 * MINUTE, are_warm).await;
        let left = stage.world().messages("cutover-jobs");
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    });
}

#[test]
fn under_faults_every_job_gets_its_worker_once_and_there_are_never_too_many() {
    for seed in share(0..6, 6, 0) {
        play_under_faults(seed);
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_was_started_is_written_down_although_nothing_of_it_may_be_seen() {
    // Each minute's look asks ECS for the tasks of its ledger, and is refused; ECS forgets a client token some time after its task has ended.
    play(Setting { meddle: refused("DescribeTasks"), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(26 * 60 * MINUTE).await;
        assert_eq!(workers(&stage).len(), 1, "one for the job, and never another one");
    });
}

#[test]
fn for_a_job_whose_worker_was_taken_away_one_comes_although_there_is_no_room_at_first() {
    let is_full = Arc::new(AtomicBool::new(false));
    let full = is_full.clone();
    let meddle = move |call: &Call<'_>| match (call.function, call.operation) {
        ("launch-workers", "RunTask") if full.load(Ordering::Relaxed) => Meddling::NoRoom,
        _ => Meddling::Pass,
    };
    let script = |start: &Start| work(start, 20 * MINUTE);
    play(Setting { meddle: Box::new(meddle), script: Box::new(script), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(2 * MINUTE).await;
        // Spot takes tasks back when it is short of them.
        is_full.store(true, Ordering::Relaxed);
        let (arn, now) = (workers(&stage)[0].arn.clone(), stage.now());
        stage.world().interrupt(&arn, now);
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(workers(&stage).len(), 1);
        is_full.store(false, Ordering::Relaxed);
        tokio::time::sleep(3 * MINUTE).await;
        assert_eq!((at_work(&stage), workers(&stage).len(), dead_letters(&stage).len()), (1, 2, 0));
    });
}
