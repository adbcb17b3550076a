//! Deployments that others have a hand in: groups that are busy or do not wait, replies that are lost, rollbacks that are shown
//! late, calls that are refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::{ExecutionStatus, Lateness, Start, World};
use serde_json::{Value, json};
use tests::{Call, Meddling, Script, Setting, Stage, is_in, of_task, play, play_denied};

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

#[test]
fn a_canary_that_a_person_stops_without_a_rollback_is_brought_back_all_the_same() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.world().set_canary("us-east-1", "shop", "web", Duration::from_secs(120));
        stage.answer_approval(&release, "Approved");
        let share = |stage: &Stage| {
            let id = stage.world().deployment_with(" us/web ")?;
            let target = stage.call(
                "CodeDeploy_20141006.BatchGetDeploymentTargets",
                &json!({"deploymentId": id, "targetIds": ["shop:web"]}),
            );
            let sets = target["deploymentTargets"][0]["ecsTarget"]["taskSetsInfo"].as_array()?.clone();
            let green = sets.into_iter().find(|set| set["taskSetLabel"] == "Green")?;
            Some((id, green["trafficWeight"].as_f64()?))
        };
        let (id, tenth) = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some((id, weight)) = share(&stage).filter(|(_, weight)| *weight > 0.0) {
                break (id, weight);
            }
        };
        assert!((tenth - 10.0).abs() < f64::EPSILON, "a tenth of the traffic is on the new version");
        stage.call("CodeDeploy_20141006.StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": false}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert!(verdict.contains("Traffic is on the old version everywhere."), "{verdict}");
        assert!(is_old_everywhere(&stage));
        let back = stage.world().deployment_with(" us/web ").unwrap();
        assert_ne!(back, id, "the revision before was deployed");
        assert_eq!(deployment_of(&stage, &back)["errorInformation"], Value::Null);
    });
}

#[test]
fn the_way_back_is_not_stopped_by_the_alarm_that_the_bad_version_has_set_off() {
    // In `us` web waits for nobody, and its old tasks are gone at once: only another deployment leads back.
    let account =
        Setting::default().account.replacen("wait_at_ready: 10m, termination_wait: 5m", "termination_wait: 0s", 1);
    assert_ne!(account, Setting::default().account);
    let meddle = |call: &Call<'_>| match call.operation == "ContinueDeployment" && call.region == "eu-west-1" {
        true => Meddling::Refuse,
        false => Meddling::Pass,
    };
    play(Setting { account, meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        let moved = |world: &World| world.traffic().iter().any(|one| one.image.ends_with(":2.0"));
        stage.until("us/web has its traffic", Duration::from_secs(120), moved).await;
        stage.world().set_alarm("us-east-1", "shop", "web", true);
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let back = stage.world().deployments().into_iter().filter(|(description, _)| description.contains("us/web"));
        let statuses: Vec<_> = back.map(|(_, status)| status).collect();
        assert!(
            statuses.len() == 2 && statuses[0] == "Succeeded",
            "it had succeeded, and was brought back: {statuses:?}"
        );
        assert!(is_old_everywhere(&stage), "{:?}", stage.world().traffic());
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert!(verdict.contains("Traffic is on the old version everywhere."), "{verdict}");
    });
}

#[test]
fn scaling_a_service_in_while_it_deploys_is_no_death_of_its_new_tasks() {
    let account = Setting::default().account.replacen(
        "web: {task_definition: shop-web, desired: 2,",
        "web: {task_definition: shop-web, desired: 8,",
        1,
    );
    assert_ne!(account, Setting::default().account);
    let slow = |start: &Start| {
        let script = Script { healthy_after: Some(Duration::from_secs(90)), ..Script::service() };
        (is_in(start, "eu") && of_task(start, "web")).then_some(script)
    };
    play(Setting { account, ..deploying(slow) }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Approved");
        let ready = |world: &World| {
            world.milestones_of_deployments().iter().any(|(of, ready, _)| of.contains("us/web") && ready.is_some())
        };
        stage.until("us/web is ready", Duration::from_secs(120), ready).await;
        stage.call(
            "AmazonEC2ContainerServiceV20141113.UpdateService",
            &json!({"cluster": "shop", "service": "web", "desiredCount": 2}),
        );
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        let gone =
            stage.world().tasks().filter(|task| task.definition.contains("shop-web:2") && task.is_over()).count();
        assert!(gone > 3, "more than may die have gone: {gone}");
        assert!(is_new_everywhere(&stage));
    });
}

#[test]
fn a_turn_whose_pipeline_may_not_be_asked_is_named_and_keeps_nobody_from_deploying_for_longer_than_an_action_lasts() {
    for (hours, succeeds) in [(1, false), (25, true)] {
        play_denied(Setting::default(), async |stage| {
            let since = tests::BEGIN.before(Duration::from_secs(hours * 3600));
            let turn = json!({"pipeline": "gone", "execution": "e-1", "since": since}).to_string();
            let bucket = stage.aws_of_owner().bucket("cutover-artifacts");
            bucket.create("_releases/deploying", turn.into_bytes()).await.unwrap();
            let release = stage.start();
            let ended = stage.end(&release).await;
            if succeeds {
                assert_eq!(ended, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
                assert!(is_new_everywhere(&stage));
                return;
            }
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(
                verdict.starts_with("Whether execution e-1 of the pipeline `gone` deploys cannot be asked"),
                "{verdict}"
            );
            assert!(verdict.contains("delete s3://cutover-artifacts/_releases/deploying"), "{verdict}");
            assert!(is_old_everywhere(&stage));
        });
    }
}

#[test]
fn more_deployments_than_the_account_may_have_are_named_and_not_asked_for_without_end() {
    for (minutes, succeeds) in [(2, true), (60, false)] {
        let until = tests::BEGIN.plus(Duration::from_secs(60 * minutes));
        let meddle = move |call: &Call<'_>| match call.operation {
            "CreateDeployment" if call.at < until => Meddling::TooMany,
            _ => Meddling::Pass,
        };
        play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
            let release = stage.start();
            let status = stage.end(&release).await;
            assert_eq!(status == ExecutionStatus::Succeeded, succeeds, "{:#?}", stage.actions(&release));
            if !succeeds {
                let why = stage.action(&release, "Deploy").error.unwrap();
                assert!(why.contains("DeploymentLimitExceededException"), "{why}");
                assert!(is_old_everywhere(&stage) && stage.world().deployments().is_empty());
            }
        });
    }
}
