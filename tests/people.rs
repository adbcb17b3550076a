//! What people do in the middle of a release, in virtual time: they approve, reject, stop and retry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::Arc;
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Start};
use serde_json::json;
use tests::{Script, Setting, is_in, of_task, play};

fn is_old_everywhere(stage: &tests::Stage) -> bool {
    stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0"))
}

#[test]
fn a_retried_stage_runs_again_what_failed_and_not_what_had_succeeded() {
    let tried = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let script = move |start: &Start| match (of_task(start, "migrate"), is_in(start, "ap")) {
        // `ap` fails the first time, after the others have succeeded.
        (true, true) if tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => Script::task(20).ending(1),
        _ => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        stage.ask("RetryStageExecution", &release, json!({"stageName": "Migrate", "retryMode": "FAILED_ACTIONS"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let migrations: Vec<_> =
            stage.started(&release).into_iter().filter(|task| task.starts_with("migrate")).collect();
        assert_eq!(migrations, ["migrate/ap", "migrate/ap", "migrate/eu", "migrate/us"]);
        // prepare, finish, the migrations of us and eu, and both of ap, whose first one wrote 20 lines.
        let written = stage.lines(&release).iter().filter(|line| line.contains(" | line ")).count();
        assert_eq!(written, 3 + 9 + 6 + 20 + 3, "{:#?}", stage.lines(&release));
        // The retry has a stream of its own, and everything after it goes there.
        let streams = stage.streams(&release);
        let lines = |stream: &str, part: &str| streams[stream].iter().filter(|line| line.contains(part)).count();
        let first = format!("cutover-pipeline/{release}");
        let second = format!("{first}/2");
        assert_eq!(streams.keys().collect::<Vec<_>>(), [&first, &second]);
        assert_eq!((lines(&first, "line 20"), lines(&second, "line 20")), (1, 0));
        assert_eq!((lines(&first, "finish complete"), lines(&second, "finish complete")), (0, 3));
        let shown =
            stage.call("CodePipeline_20150709.ListActionExecutions", &json!({"pipelineName": "cutover-pipeline"}));
        let migrate = shown["actionExecutionDetails"].as_array().unwrap();
        let link = migrate.iter().find(|one| one["actionName"] == "Migrate").unwrap();
        let link = link["output"]["executionResult"]["externalExecutionUrl"].as_str().unwrap();
        assert!(link.ends_with("$252F2"), "{link}");
    });
}

#[test]
fn a_rejected_approval_ends_the_release_before_anything_is_deployed() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Rejected");
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        assert_eq!(stage.action(&release, "Approve").error.as_deref(), Some("Rejected: by the test"));
        assert!(stage.world().deployments().is_empty());
        assert!(is_old_everywhere(&stage));
    });
}

#[test]
fn what_the_approver_reads_says_what_was_migrated_and_where_the_logs_are() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        let state =
            stage.call("CodePipeline_20150709.ListActionExecutions", &json!({"pipelineName": "cutover-pipeline"}));
        let shown = state["actionExecutionDetails"].as_array().unwrap();
        let approval = shown.iter().find(|one| one["actionName"] == "Approve").unwrap();
        let configuration = &approval["input"]["resolvedConfiguration"];
        let data = configuration["CustomData"].as_str().unwrap();
        assert!(data.starts_with("Commit abcdef0123: migrate succeeded in us ("), "{data}");
        let link = configuration["ExternalEntityLink"].as_str().unwrap();
        assert!(link.contains("log-group/cutover-releases/log-events/cutover-pipeline$252F"), "{link}");
        let migrate = shown.iter().find(|one| one["actionName"] == "Migrate").unwrap();
        assert_eq!(
            migrate["output"]["executionResult"]["externalExecutionUrl"].as_str(),
            Some(link),
            "the action links there, too"
        );
    });
}

#[test]
fn abandoning_a_release_in_the_middle_of_a_migration_leaves_no_task() {
    let script = |start: &Start| if start.port.is_some() { Script::service() } else { Script::task(600) };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        // `prepare` alone takes ten minutes here: the halt meets it first, and later the migration.
        for action in ["Prepare", "Migrate"] {
            let release = stage.start();
            stage.until_begun(&release, action).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
            let asked = stage.now();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
            // That nothing appears late is waited for; what was there ends at once.
            assert!(stage.now().since(asked) < Duration::from_secs(35), "{:?}", stage.now().since(asked));
            let soon = asked.plus(Duration::from_secs(10));
            let is_own = |task: &&local::world::Task| task.started_by.contains(&release);
            assert!(stage.world().tasks().filter(is_own).all(|task| task.stopped.is_some_and(|at| at <= soon)));
            assert!(stage.world().deployments().is_empty());
        }
    });
}

#[test]
fn abandoning_a_release_in_the_middle_of_a_deployment_rolls_everything_back() {
    // The worker of `eu` never becomes healthy: the others wait for it at the barrier.
    let script = |start: &Start| {
        let mut script = Script::of_shop(start);
        let new = start.image.ends_with(":2.0");
        if new && of_task(start, "work") && is_in(start, "eu") {
            script.healthy_after = None;
        }
        script
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        stage.until_begun(&release, "Deploy").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let statuses: Vec<_> = stage.world().deployments().into_iter().map(|(_, status)| status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == "Ready").count(), 5, "{statuses:?}");
        assert!(is_old_everywhere(&stage), "traffic moves everywhere or nowhere");
        stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
        assert!(is_old_everywhere(&stage));
        let deployments = stage.world().deployments();
        assert_eq!(deployments.iter().filter(|(_, status)| *status == "Stopped").count(), 6, "{deployments:?}");
        assert_eq!(deployments.iter().filter(|(_, status)| *status == "Succeeded").count(), 6, "each has its rollback");
    });
}

#[test]
fn stop_and_wait_lets_the_running_action_end_and_begins_nothing_after_it() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Migrate").await;
        stage.ask("StopPipelineExecution", &release, json!({"reason": "a test"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
        assert_eq!(stage.action(&release, "Migrate").status, ActionStatus::Succeeded);
        assert_eq!(stage.started(&release).iter().filter(|task| task.starts_with("migrate")).count(), 3);
        assert!(stage.actions(&release).iter().all(|action| action.stage != "Approve"));
    });
}
