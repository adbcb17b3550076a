//! Workers that are started one by one: what is asked for over the queue, kept warm, and run by the clock; and what a release
//! makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::cell::RefCell;
use std::time::Duration;

use local::world::{ExecutionStatus, Lateness, Life, Start};
use serde_json::{Value, json};
use shared::Time;
use tests::sweep::share;
use tests::{Call, Fate, Meddling, SMALL, Script, Setting, Stage, play};

const MINUTE: Duration = Duration::from_secs(60);

const EXPORTS: &str = "\
workers:
  exports: {family: shop-task, command: [shop, export], most: 3, environments: [us]}
";

/// The small application with workers; each release has an image of its own.
fn with_workers(more: &str) -> Setting {
    let manifest = format!("{SMALL}{more}");
    Setting { manifest, script: Box::new(|start| work(start, 20 * MINUTE)), own_images: true, ..Setting::default() }
}

/// What a worker does: its job takes this long, and SIGTERM does not end it.
fn work(start: &Start, length: Duration) -> Script {
    let is_worker = start.command.iter().any(|word| word == "export");
    if is_worker {
        Script { ends: Some((length, 0)), on_term: None, ..Script::task(1) }
    } else {
        Script::of_shop(start)
    }
}

fn ask(stage: &Stage, worker: &str, environment: &str, id: &str) {
    send(stage, &json!({"worker": worker, "environment": environment, "id": id}).to_string());
}

fn send(stage: &Stage, body: &str) {
    let url = "https://sqs.us-east-1.amazonaws.com/111122223333/cutover-jobs";
    stage.call("AmazonSQS.SendMessage", &json!({"QueueUrl": url, "MessageBody": body}));
}

/// The lives of workers, in the order of their begin.
fn workers(stage: &Stage) -> Vec<Life> {
    let mut lives = stage.world().lives();
    lives.retain(|life| life.started_by.starts_with("cutover-worker/"));
    lives.sort_by_key(|life| life.created);
    lives
}

fn at_work(stage: &Stage) -> usize {
    workers(stage).iter().filter(|life| life.stopped.is_none()).count()
}

/// Why jobs cannot be done, each with its message.
fn dead_letters(stage: &Stage) -> Vec<(String, String)> {
    let messages = stage.world().messages("cutover-dead-jobs");
    let reason = |attributes: &Value| attributes["reason"]["StringValue"].as_str().unwrap_or_default().to_owned();
    messages.iter().map(|one| (one.body.clone(), reason(&one.attributes))).collect()
}

fn images(lives: &[Life]) -> Vec<&str> {
    lives.iter().map(|life| life.image.rsplit(':').next().unwrap_or_default()).collect()
}

async fn release(stage: &Stage) {
    let execution = stage.start();
    assert_eq!(stage.end_alone(&execution).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&execution));
}

/// The most that were there at one moment.
fn most_at_once(lives: &[Life]) -> usize {
    let at = |moment: Time| {
        lives.iter().filter(|one| one.created <= moment && one.stopped.is_none_or(|stopped| stopped > moment)).count()
    };
    lives.iter().map(|life| at(life.created)).max().unwrap_or_default()
}

#[test]
fn each_job_gets_a_worker_within_seconds_and_the_one_too_many_gets_its_own_when_another_ends() {
    play(with_workers(EXPORTS), async |stage| {
        release(&stage).await;
        let asked = stage.now();
        for id in ["1", "2", "3", "4"] {
            ask(&stage, "exports", "us", id);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begun = workers(&stage);
        assert_eq!(begun.len(), 3, "`most`; {:?}", stage.notes());
        let latency = begun.iter().map(|life| life.created.since(asked)).max().unwrap();
        assert!(latency < Duration::from_secs(1), "from the message to the task: {latency:?}");
        tokio::time::sleep(15 * MINUTE).await;
        assert_eq!(workers(&stage).len(), 3, "the fourth waits, and nobody else is started");
        tokio::time::sleep(10 * MINUTE).await;
        let lives = workers(&stage);
        assert_eq!((lives.len(), most_at_once(&lives)), (4, 3));
        let (end, next) = (lives[0].stopped.unwrap(), lives[3].created);
        assert!(next.since(end) < Duration::from_secs(2), "ECS's event tells: {:?}", next.since(end));
        tokio::time::sleep(30 * MINUTE).await;
        assert_eq!((workers(&stage).len(), dead_letters(&stage).len()), (4, 0));
    });
}

#[test]
fn the_same_job_asked_for_again_gets_no_second_worker_not_even_when_the_first_is_long_over() {
    play(with_workers(EXPORTS), async |stage| {
        release(&stage).await;
        for pause in [0, 0, 1, 60, 30 * 60, 3 * 3600] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            ask(&stage, "exports", "us", "1");
        }
        tokio::time::sleep(30 * MINUTE).await;
        assert_eq!((workers(&stage).len(), dead_letters(&stage).len()), (1, 0));
    });
}

#[test]
fn what_cannot_be_done_is_in_the_dead_letter_queue_with_the_reason_in_words() {
    play(with_workers(EXPORTS), async |stage| {
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(30 * MINUTE).await;
        release(&stage).await;
        for body in ["soon", r#"{"worker": "exports", "id": "2"}"#] {
            send(&stage, body);
        }
        ask(&stage, "exprots", "us", "3");
        ask(&stage, "exports", "mars", "4");
        ask(&stage, "exports", "eu", "5");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(dead_letters(&stage).len(), 3, "what no release may bring is told at once");
        // For who knows nothing of the worker, a release may be under way that brings it.
        tokio::time::sleep(20 * MINUTE).await;
        let said: Vec<_> = dead_letters(&stage).into_iter().map(|(_, reason)| reason).collect();
        for words in [
            "no release of this stack has brought any worker yet",
            "the message is not what is expected",
            "`environment` is missing in the message",
            "there is no worker `exprots`: did you mean `exports`?",
            "there is no environment `mars`",
            "there is no environment `eu`",
        ] {
            assert!(said.iter().any(|reason| reason.contains(words)), "{words}: {said:#?}");
        }
        assert_eq!((said.len(), workers(&stage).len()), (6, 0));
    });
}

#[test]
fn a_job_that_comes_before_the_release_that_brings_its_worker_has_been_released_waits_for_it() {
    play(with_workers(EXPORTS), async |stage| {
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(Duration::from_secs(5)).await;
        release(&stage).await;
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!((dead_letters(&stage), workers(&stage).len()), (vec![], 1));
    });
}

#[test]
fn a_worker_that_may_not_be_started_or_cannot_start_ends_in_the_dead_letter_queue() {
    let refused = |call: &Call<'_>| match (call.function, call.operation) {
        ("launch-workers", "RunTask") => Meddling::Refuse,
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(refused), ..with_workers(EXPORTS) }, async |stage| {
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

#[test]
fn warm_workers_are_there_after_the_release_and_a_job_that_comes_has_one_at_once() {
    let warm = EXPORTS.replace("most: 3", "most: 3, warm: 1, live: 5m");
    let idle = |start: &Start| work(start, 5 * MINUTE);
    play(Setting { script: Box::new(idle), ..with_workers(&warm) }, async |stage| {
        release(&stage).await;
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(at_work(&stage), 1);
        let first = workers(&stage)[0].arn.clone();
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(Duration::from_secs(5)).await;
        // The job is the warm one's; another one is warm.
        let lives = workers(&stage);
        assert_eq!((lives.len(), lives[0].arn.as_str(), at_work(&stage)), (2, first.as_str(), 2));
        // Each ends by itself at its age, and there is always one.
        for minute in 0..20 {
            tokio::time::sleep(MINUTE).await;
            assert!((1..=3).contains(&at_work(&stage)), "{minute}: {}", at_work(&stage));
        }
        assert!(workers(&stage).iter().all(|life| life.stop_code != Some("UserInitiated")), "none is ended by us");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_release_in_the_middle_of_long_jobs_ends_none_and_new_ones_are_of_it_only_once_its_traffic_has_moved() {
    let many = EXPORTS.replace("most: 3", "most: 200");
    let long = |start: &Start| work(start, 240 * MINUTE);
    play(Setting { script: Box::new(long), ..with_workers(&many) }, async |stage| {
        release(&stage).await;
        for id in 0..40 {
            ask(&stage, "exports", "us", &id.to_string());
        }
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!((at_work(&stage), dead_letters(&stage).len()), (40, 0));
        assert!(stage.world().calls["ecs:RunTask"] < 24, "several a call: {}", stage.world().calls["ecs:RunTask"]);
        let execution = stage.start();
        stage.until_begun(&execution, "Approve").await;
        stage.answer_approval(&execution, "Approved");
        stage.until_begun(&execution, "Deploy").await;
        ask(&stage, "exports", "us", "before");
        assert_eq!(stage.end_alone(&execution).await, ExecutionStatus::Succeeded);
        ask(&stage, "exports", "us", "after");
        tokio::time::sleep(2 * MINUTE).await;
        let lives = workers(&stage);
        let images = images(&lives);
        assert!(images[..41].iter().all(|image| *image == "2.0"), "{images:?}");
        assert_eq!(images[41..], ["3.0"]);
        assert!(lives.iter().all(|life| life.stopping.is_none()), "no release ends a worker");
        let said = stage.action(&execution, "Deploy").summary;
        assert!(said.contains("Workers that are started from now on are of it, too (1)"), "{said}");
    });
}

#[test]
fn a_release_that_fails_or_is_stopped_leaves_new_workers_of_the_version_before() {
    // The second release's pointer is written, and the function is dead before it can say so; then the release is stopped.
    let writes = std::sync::atomic::AtomicUsize::new(0);
    let meddle = move |call: &Call<'_>| match (call.function, call.operation) {
        ("deploy-services", "PutParameter") => match writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            1 => Meddling::AbandonAndCrashAfter,
            _ => Meddling::Pass,
        },
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(meddle), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        let execution = stage.start();
        assert_eq!(stage.end(&execution).await, ExecutionStatus::Stopped);
        let said = stage.lines(&execution).join("\n");
        assert!(said.contains("workers that are started from now on are of the release before again"), "{said}");
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(MINUTE).await;
        assert_eq!(images(&workers(&stage)), ["2.0"]);
    });
    // One that fails in Deploy has not written anything.
    let ill = |start: &Start| match start.image.ends_with("3.0") && start.port.is_some() {
        true => Script { healthy_after: None, ends: Some((Duration::from_secs(1), 1)), ..Script::service() },
        false => work(start, 20 * MINUTE),
    };
    play(Setting { script: Box::new(ill), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        let execution = stage.start();
        assert_eq!(stage.end(&execution).await, ExecutionStatus::Failed);
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(MINUTE).await;
        assert_eq!(images(&workers(&stage)), ["2.0"]);
    });
}

#[test]
fn a_family_that_is_not_there_is_found_before_the_first_task_starts() {
    let wrong = EXPORTS.replace("shop-task", "shop-exports");
    play(with_workers(&wrong), async |stage| {
        let execution = stage.start();
        assert_eq!(stage.end(&execution).await, ExecutionStatus::Failed);
        let said = stage.action(&execution, "Prepare").error.unwrap_or_default();
        assert!(said.contains("us/exports") && said.contains("shop-exports"), "{said}");
        assert_eq!(stage.started(&execution), Vec::<String>::new());
    });
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
        match of_calls.u32(0..9) {
            // Not `NoRoom`, which knows no client token: AWS repeats the answer that a token had, which may have been tasks.
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
    let refused = |call: &Call<'_>| match (call.function, call.operation) {
        ("launch-workers", "DescribeTasks") => Meddling::Refuse,
        _ => Meddling::Pass,
    };
    play(Setting { meddle: Box::new(refused), ..with_workers(EXPORTS) }, async |stage| {
        release(&stage).await;
        ask(&stage, "exports", "us", "1");
        tokio::time::sleep(26 * 60 * MINUTE).await;
        assert_eq!(workers(&stage).len(), 1, "one for the job, and never another one");
    });
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
            let mut all = stage.world().lives();
            all.retain(|life| ["us/migrate", "migrate/us"].iter().any(|name| life.started_by.contains(name)));
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
