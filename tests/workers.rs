//! Workers whose jobs outlive a deployment.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Request, Start};
use serde_json::{Value, json};
use tests::{Kind, Script, Setting, Stage, is_in, of_task, play, with_kinds};

/// The ECS of the environment `us`.
fn ecs(stage: &Stage, operation: &str, input: &Value) -> Value {
    stage.call_in("us-east-1", &format!("AmazonEC2ContainerServiceV20141113.{operation}"), input)
}

/// What the agent of a task answers, as its container asks.
fn agent(stage: &Stage, task: &str, method: &str, body: &Value) -> Value {
    let path = format!("/agent/{}/task-protection/v1/state", task.rsplit('/').next().unwrap());
    let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request { method: method.into(), path, body, ..Request::default() };
    let now = stage.now();
    let response = stage.world().handle(&request, now);
    serde_json::from_slice(&response.body).unwrap()
}

/// How long the job takes that the old worker in `us` has when the release comes: longer than its `stopTimeout` by far.
const JOB: Duration = Duration::from_secs(5 * 60);

#[test]
fn a_job_of_several_minutes_outlives_a_release_and_ends_well_whoever_deploys() {
    for kind in [Kind::Codedeploy, Kind::BlueGreen, Kind::Rolling] {
        outlives_a_release(kind);
    }
}

fn outlives_a_release(kind: Kind) {
    let good = Setting::default();
    let account = with_kinds(&good.account, &[Kind::Codedeploy], &[kind]);
    play(Setting { account, ..good }, async |stage| {
        let find = |stage: &Stage| {
            let world = stage.world();
            let old =
                world.tasks().find(|task| task.arn.contains(":us-east-1:") && task.definition.contains("shop-worker"));
            old.unwrap().arn.clone()
        };
        let old = find(&stage);
        // What a worker asks for when its job begins; everybody sees the same.
        let wish = json!({"ProtectionEnabled": true, "ExpiresInMinutes": 120});
        let told = agent(&stage, &old, "PUT", &wish)["protection"].clone();
        assert_eq!((&told["ProtectionEnabled"], &told["TaskArn"]), (&json!(true), &json!(old)));
        assert_eq!(agent(&stage, &old, "GET", &json!({}))["protection"], told);
        let seen = ecs(&stage, "GetTaskProtection", &json!({"cluster": "shop", "tasks": [old]}));
        assert_eq!(seen["protectedTasks"][0]["expirationDate"], told["ExpirationDate"]);
        assert_eq!(seen["protectedTasks"][0]["protectionEnabled"], json!(true));
        let refused = agent(&stage, &old, "PUT", &json!({"ProtectionEnabled": true, "ExpiresInMinutes": 2881}));
        assert_eq!(refused["error"]["Code"], json!("InvalidParameterException"));
        let done = stage.now().plus(JOB);
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        stage.until_begun(&release, "Drain").await;
        let left = done.since(stage.now());
        assert!(left > Duration::from_secs(60), "the release is faster than the job");
        tokio::time::sleep(left).await;
        let seen = ecs(&stage, "DescribeTasks", &json!({"cluster": "shop", "tasks": [old]}));
        assert_eq!(seen["tasks"][0]["desiredStatus"], json!("RUNNING"), "nobody has asked it to end: {seen:#}");
        assert_eq!(stage.action(&release, "Drain").status, ActionStatus::InProgress, "it is waited for");
        // Its job is done: it lets go, and ends when it is asked to.
        let told = agent(&stage, &old, "PUT", &json!({"ProtectionEnabled": false}));
        assert_eq!(told["protection"]["ProtectionEnabled"], json!(false));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let summary = stage.action(&release, "Drain").summary;
        assert!(summary.starts_with("Old workers after "), "no warning: {summary}");
        assert!(summary.contains("us/worker: 1 of 1 finished"), "{summary}");
        let seen = ecs(&stage, "DescribeTasks", &json!({"cluster": "shop", "tasks": [old]}));
        assert_eq!(seen["tasks"][0]["containers"][0]["exitCode"], json!(0), "{seen:#}");
    });
}

#[test]
fn a_job_that_is_not_protected_is_lost_when_its_time_is_over_and_that_is_said() {
    // Without `worker`: SIGTERM is nothing to it.
    let script = |start: &Start| match of_task(start, "work") && !start.image.ends_with(":2.0") && is_in(start, "us") {
        true => Script { on_term: None, ..Script::service() },
        false => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let summary = stage.action(&release, "Drain").summary;
        assert!(summary.contains("us/worker: 0 of 1 finished, 1 killed by SIGKILL after 1 min 00 s"), "{summary}");
        assert!(summary.contains("`worker job`"), "{summary}");
    });
}

#[test]
fn the_agent_refuses_to_protect_a_task_of_no_service() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Prepare").await;
        let is_one_off = |world: &local::world::World| world.tasks().any(|task| task.definition.contains("shop-task"));
        stage.until("a task", Duration::from_secs(60), is_one_off).await;
        let task = stage.world().tasks().find(|task| task.definition.contains("shop-task")).unwrap().arn.clone();
        let told = agent(&stage, &task, "PUT", &json!({"ProtectionEnabled": true}));
        assert_eq!(told["failure"]["Reason"], json!("TASK_NOT_VALID"), "{told}");
    });
}
