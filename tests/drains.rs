//! What becomes of the old workers of a release.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use local::world::{ExecutionStatus, Start};
use serde_json::json;
use tests::{Script, Setting, is_in, of_task, play};

use crate::deployments::{crashing, deploying, is_new};

#[test]
fn old_workers_are_let_go_and_it_is_said_how_they_ended() {
    // In `us` the old worker ends when it is asked to, in `eu` it does not, in `ap` it protects itself.
    let script = |start: &Start| match of_task(start, "work") && !is_new(start) {
        true if is_in(start, "eu") => Script { on_term: None, ..Script::service() },
        _ => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        let old = stage
            .world()
            .tasks()
            .find(|task| task.arn.contains(":ap-southeast-2:") && task.definition.contains("shop-worker"))
            .unwrap()
            .arn
            .clone();
        stage.call_in(
            "ap-southeast-2",
            "AmazonEC2ContainerServiceV20141113.UpdateTaskProtection",
            &json!({"cluster": "shop", "tasks": [old], "protectionEnabled": true, "expiresInMinutes": 30}),
        );
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let drain = stage.action(&release, "Drain");
        let summary = &drain.summary;
        assert!(summary.starts_with("Warning. Old workers after "), "{summary}");
        assert!(summary.contains("us/worker: 1 of 1 finished"), "{summary}");
        assert!(
            summary.contains("eu/worker: 0 of 1 finished, 1 killed by SIGKILL after 1 min 00 s: raise its stopTimeout"),
            "{summary}"
        );
        assert!(
            summary.contains("ap/worker: 0 of 1 finished, 1 still busy, 1 of them protected: left to finish"),
            "{summary}"
        );
        let id = old.rsplit('/').next().unwrap();
        let link = format!(
            "https://ap-southeast-2.console.aws.amazon.com/ecs/v2/clusters/shop/tasks/{id}?region=ap-southeast-2 (protected for 2"
        );
        assert!(summary.contains(&link), "{summary}");
        let took = drain.updated.since(drain.started);
        assert!((300..310).contains(&took.as_secs()), "waiting is bounded: {took:?}");
        assert!(
            stage.world().tasks().any(|task| task.arn == old && !task.is_over()),
            "a protected task is never stopped by us"
        );
        let said = stage.say(&release);
        assert!(
            said.iter().any(|line| line.starts_with("eu worker | old task ")
                && line.ends_with("was killed by SIGKILL 1 min 00 s after it was asked to end")),
            "{said:#?}"
        );
    });
}

#[test]
fn a_release_that_was_taken_back_leaves_its_workers_alone() {
    // The manifest's pipeline never comes to the drain after a failed deployment: somebody retries or adds one elsewhere.
    let change_stack = |stack: &mut local::template::Stack| {
        let deploy = stack.pipeline.stages.iter_mut().find(|stage| stage.name == "Deploy").unwrap();
        let drain = deploy.actions.iter_mut().find(|action| action.name == "Drain").unwrap();
        drain.run_order = 1;
    };
    let script = |start: &Start| (is_in(start, "us") && of_task(start, "web")).then(crashing);
    play(Setting { change_stack: Box::new(change_stack), ..deploying(script) }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let drain = stage.action(&release, "Drain");
        assert!(
            drain.summary.contains("rolled back by this release: its tasks are left alone")
                || drain.summary.contains("not deployed by this release"),
            "{}",
            drain.summary
        );
        let workers =
            stage.world().tasks().filter(|task| task.definition.contains("shop-worker:1") && !task.is_over()).count();
        assert_eq!(workers, 3, "the old workers work on");
    });
}
