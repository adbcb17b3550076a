//! Workers that are started one by one: what is asked for over the queue, kept warm, and run by the clock; and what a release
//! makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::{ExecutionStatus, Life, Start};
use serde_json::{Value, json};
use shared::Time;
use tests::{Call, Meddling, SMALL, Script, Setting, Stage, play};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) const EXPORTS: &str = "\
workers:
  exports: {family: shop-task, command: [shop, export], most: 3, environments: [us]}
";

/// The small application with workers; each release has an image of its own.
pub(crate) fn with_workers(more: &str) -> Setting {
    let manifest = format!("{SMALL}{more}");
    Setting { manifest, script: Box::new(|start| work(start, 20 * MINUTE)), own_images: true, ..Setting::default() }
}

/// What a worker does: its job takes this long, and SIGTERM does not end it.
pub(crate) fn work(start: &Start, length: Duration) -> Script {
    let is_worker = start.command.iter().any(|word| word == "export");
    if is_worker {
        Script { ends: Some((length, 0)), on_term: None, ..Script::task(1) }
    } else {
        Script::of_shop(start)
    }
}

/// An operation of `launch-workers` is refused, each time.
pub(crate) fn refused(operation: &'static str) -> Box<dyn FnMut(&Call<'_>) -> Meddling + Send> {
    Box::new(move |call| match call.function == "launch-workers" && call.operation == operation {
        true => Meddling::Refuse,
        false => Meddling::Pass,
    })
}

pub(crate) fn ask(stage: &Stage, worker: &str, environment: &str, id: &str) {
    send(stage, &json!({"worker": worker, "environment": environment, "id": id}).to_string());
}

pub(crate) fn send(stage: &Stage, body: &str) {
    let url = "https://sqs.us-east-1.amazonaws.com/111122223333/cutover-jobs";
    stage.call("AmazonSQS.SendMessage", &json!({"QueueUrl": url, "MessageBody": body}));
}

/// The lives of workers, in the order of their begin.
pub(crate) fn workers(stage: &Stage) -> Vec<Life> {
    let mut lives = stage.world().lives();
    lives.retain(|life| life.started_by.starts_with("cutover-worker/"));
    lives.sort_by_key(|life| life.created);
    lives
}

pub(crate) fn at_work(stage: &Stage) -> usize {
    workers(stage).iter().filter(|life| life.stopped.is_none()).count()
}

/// Why jobs cannot be done, each with its message.
pub(crate) fn dead_letters(stage: &Stage) -> Vec<(String, String)> {
    let messages = stage.world().messages("cutover-dead-jobs");
    let reason = |attributes: &Value| attributes["reason"]["StringValue"].as_str().unwrap_or_default().to_owned();
    messages.iter().map(|one| (one.body.clone(), reason(&one.attributes))).collect()
}

fn images(lives: &[Life]) -> Vec<&str> {
    lives.iter().map(|life| life.image.rsplit(':').next().unwrap_or_default()).collect()
}

pub(crate) async fn release(stage: &Stage) {
    let execution = stage.start();
    assert_eq!(stage.end_alone(&execution).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&execution));
}

/// The most that were there at one moment.
pub(crate) fn most_at_once(lives: &[Life]) -> usize {
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
