//! Deployments that others have a hand in: groups that are busy or do not wait, replies that are lost, rollbacks that are shown
//! late, calls that are refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::{ExecutionStatus, Lateness, Start, World};
use serde_json::{Value, json};
use tests::{Call, Meddling, Setting, Stage, is_in, of_task, play};

use crate::deployments::{crashing, deploying, is_new_everywhere, is_old_everywhere};

/// Creates a deployment of the shop's web service in `us` as somebody else would.
fn deploy_by_hand(stage: &Stage, description: &str) -> String {
    let spec = json!({"version": 0.0, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {
        "TaskDefinition": "arn:aws:ecs:us-east-1:111122223333:task-definition/shop-web:1",
        "LoadBalancerInfo": {"ContainerName": "shop", "ContainerPort": 8080}}}}]});
    let made = stage.call("CodeDeploy_20141006.CreateDeployment", &json!({"applicationName": "shop", "deploymentGroupName": "web",
        "description": description, "revision": {"revisionType": "AppSpecContent", "appSpecContent": {"content": spec.to_string()}}}));
    made["deploymentId"].as_str().unwrap().to_owned()
}

fn deployment_of(stage: &Stage, id: &str) -> Value {
    stage.call("CodeDeploy_20141006.GetDeployment", &json!({"deploymentId": id}))["deploymentInfo"].clone()
}

#[test]
fn a_group_that_somebody_else_keeps_busy_is_waited_for_by_name_and_their_deployment_is_left_alone() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        let other = deploy_by_hand(&stage, "a deployment by hand");
        stage.answer_approval(&release, "Approved");
        stage.until_begun(&release, "Deploy").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let said = stage.say(&release);
        let expected = format!("waiting for deployment {other} (Ready since ");
        assert!(
            said.iter().any(|line| line.contains(&expected) && line.contains("by user: a deployment by hand")),
            "{said:#?}"
        );
        assert_eq!(deployment_of(&stage, &other)["status"], "Ready", "it is left alone");
        // They go on, and their old tasks wait for five minutes: those are their way back, and not ours to end.
        stage.call(
            "CodeDeploy_20141006.ContinueDeployment",
            &json!({"deploymentId": other, "deploymentWaitType": "READY_WAIT"}),
        );
        let begun = stage.now();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert!(stage.now().since(begun) > Duration::from_secs(290), "it was waited for");
        assert!(is_new_everywhere(&stage));
    });
}

#[test]
fn a_group_that_stays_busy_is_given_up_after_its_limit_and_the_others_are_taken_back() {
    let manifest = Setting::default().manifest.replace("    port: 8080\n", "    port: 8080\n    wait_for_group: 2m\n");
    play(Setting { manifest, ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        let other = deploy_by_hand(&stage, "a deployment by hand");
        stage.answer_approval(&release, "Approved");
        let failed = |world: &World| world.status(&release) == Some(ExecutionStatus::Failed);
        stage.until("the release has failed", Duration::from_secs(300), failed).await;
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert!(verdict.starts_with("us/web failed: it was busy for 2 min 0"), "{verdict}");
        assert!(verdict.contains(&other), "{verdict}");
        assert!(is_old_everywhere(&stage));
        assert_eq!(deployment_of(&stage, &other)["status"], "Ready", "it is left alone");
    });
}

#[test]
fn the_next_release_ends_the_wait_for_the_old_tasks_of_the_one_before() {
    let account = Setting::default().account.replace("termination_wait: 5m", "termination_wait: 48h");
    play(Setting { account, ..Setting::default() }, async |stage| {
        let first = stage.start();
        assert_eq!(stage.end(&first).await, ExecutionStatus::Succeeded);
        let second = stage.start();
        let begun = stage.now();
        assert_eq!(stage.end(&second).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&second));
        assert!(stage.now().since(begun) < Duration::from_secs(300), "nobody waited for 48 hours");
    });
}

#[test]
fn groups_that_do_not_wait_are_named_as_not_behind_the_barrier() {
    let account = Setting::default().account.replacen(
        "web: {cluster: shop, service: web, wait_at_ready: 10m,",
        "web: {cluster: shop, service: web,",
        1,
    );
    play(Setting { account, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let summary = stage.action(&release, "Deploy").summary;
        let said =
            "Not behind the barrier, since its group does not wait for being continued (deploymentReadyOption): us/web";
        assert!(summary.contains(said), "{summary}");
    });
}

#[test]
fn a_rollback_that_is_shown_late_is_waited_for() {
    let script = |start: &Start| (is_in(start, "eu") && of_task(start, "web")).then(crashing);
    let lateness = Lateness { rollback: Duration::from_secs(8), ..Lateness::default() };
    play(Setting { lateness, ..deploying(script) }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert_eq!(verdict.matches("     1      2      1  rolled back").count(), 6, "{verdict}");
        assert!(is_old_everywhere(&stage));
    });
}

#[test]
fn a_deployment_whose_reply_was_lost_and_that_no_list_shows_yet_is_adopted_all_the_same() {
    let mut met = 0;
    let meddle = move |call: &Call<'_>| {
        if call.operation == "CreateDeployment" {
            met += 1;
        }
        if met == 1 && call.operation == "CreateDeployment" { Meddling::LoseReply } else { Meddling::Pass }
    };
    let lateness = Lateness { listed: Duration::from_secs(6), ..Lateness::default() };
    play(Setting { lateness, meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        assert_eq!(stage.world().deployments().len(), 6, "none was made twice");
    });
}

#[test]
fn one_that_may_not_be_continued_at_the_barrier_takes_all_the_others_back() {
    for region in ["us-east-1", "eu-west-1", "ap-southeast-2"] {
        let meddle = move |call: &Call<'_>| match call.operation == "ContinueDeployment" && call.region == region {
            true => Meddling::Refuse,
            false => Meddling::Pass,
        };
        play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
            assert!(is_old_everywhere(&stage), "{region}: {:?}", stage.world().traffic());
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(verdict.contains(&format!("codedeploy:ContinueDeployment in {region} was refused")), "{verdict}");
            assert!(verdict.contains("Traffic is on the old version everywhere."), "{verdict}");
        });
    }
}
