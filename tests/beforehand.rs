//! What a release needs is looked at before its first task begins: what does not fit is said at once, and nothing has begun.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::sync::{Arc, Mutex};

use local::world::ExecutionStatus;
use tests::{Call, Meddling, Setting, play, play_denied, with_parameter};

use crate::deployments::is_old_everywhere;

#[test]
fn what_does_not_fit_the_account_is_found_before_anything_is_started() {
    let good = Setting::default().manifest;
    let says_ecs = "    kind: web\n    deployment: ecs\n";
    let without_group = "";
    let refused = |manifest: String, said: &str| {
        assert_ne!(manifest, good);
        // The functions may ask for whatever there is.
        let account = with_parameter(&Setting::default().account, "NamesBegin", "");
        play(Setting { account, manifest, ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
            let verdict = stage.action(&release, "Prepare").error.unwrap();
            assert!(verdict.starts_with("Nothing was started: ") && verdict.contains(said), "{verdict}");
            assert_eq!(stage.started(&release), [""; 0], "{verdict}");
            assert!(is_old_everywhere(&stage));
        });
    };
    for (change, said) in [
        (
            ("deployment_group: web", "deployment_group: wbe"),
            "us/web: there is no deployment group `wbe` of the application `shop` in us-east-1",
        ),
        (("service: web\n", "service: wbe\n"), "us/web: there is no service `wbe` in cluster `shop` in us-east-1"),
        (("codedeploy_application: shop", "codedeploy_application: shpo"), "us/web: codedeploy:"),
        (("cluster: shop\n", "cluster: shpo\n"), "us: there is no cluster `shpo` in us-east-1: create it, or correct"),
        (("family: shop-web", "family: shop-wbe"), "us/web: There is no task definition `shop-wbe` in us-east-1"),
        (
            ("container: shop", "container: shpo"),
            "there is no container `shpo`: did you mean `shop`? Correct `container` in deploy.yaml.",
        ),
        (("    kind: web\n", says_ecs), "deploy.yaml says `deployment: ecs`, and the deployment controller"),
        (
            ("    codedeploy_application: shop\n    deployment_group: web\n", without_group),
            "CodeDeploy deploys the service `web` (its deployment controller is CODE_DEPLOY), and deploy.yaml does not say",
        ),
    ] {
        refused(good.replacen(change.0, change.1, 1), said);
    }
    // Each has the other's group.
    let (web, worker) = ("deployment_group: web", "deployment_group: worker");
    let swapped = good.replace(web, "deployment_group: -").replace(worker, web).replace("deployment_group: -", worker);
    refused(swapped, "us/web, eu/web, ap/web: the deployment group `worker` deploys `shop/worker`, not `shop/web`");
}

#[test]
fn a_service_that_was_deleted_is_found_before_anything_is_started() {
    play(Setting::default(), async |stage| {
        stage.world().delete_service("eu-west-1", "shop", "web");
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Prepare").error.unwrap();
        assert!(
            verdict.starts_with("Nothing was started: eu/web: there is no service `web` in cluster `shop`"),
            "{verdict}"
        );
        assert_eq!(stage.started(&release), [""; 0], "{verdict}");
    });
}

/// The shop, whose web has a role of its own.
fn with_role() -> String {
    let role = "        taskRoleArn: arn:aws:iam::111122223333:role/shop-pages\n";
    let good = Setting::default().account;
    let with = good.replace("      - family: shop-web\n", &format!("      - family: shop-web\n{role}"));
    assert_eq!(with.matches("shop-pages").count(), 3);
    with
}

#[test]
fn a_role_that_no_task_can_have_is_found_before_anything_is_started() {
    for (from, to, said) in [
        (
            "\nsetup:",
            "\nbeside: {gone: [shop-pages]}\nsetup:",
            "there is no role `arn:aws:iam::111122223333:role/shop-pages`",
        ),
        (
            "\nsetup:",
            "\nbeside: {trust: {shop-pages: [ec2.amazonaws.com]}}\nsetup:",
            "no task may have the role `arn:aws:iam::111122223333:role/shop-pages`: let it trust ecs-tasks.amazonaws.com",
        ),
        (
            "role/shop-pages\n",
            "role/other-pages\n",
            "the functions may not give the role `arn:aws:iam::111122223333:role/other-pages` to a task: list it in the \
             stack's parameter TaskRoles",
        ),
    ] {
        let account = with_role().replace(from, to);
        assert_ne!(account, with_role());
        play_denied(Setting { account, ..Setting::default() }, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
            let verdict = stage.action(&release, "Prepare").error.unwrap();
            let said = format!("Nothing was started: us/web, eu/web, ap/web: {said}");
            assert!(verdict.starts_with(&said), "{said}\n{verdict}");
            assert_eq!(stage.started(&release), [""; 0], "{verdict}");
            assert!(is_old_everywhere(&stage));
        });
    }
}

#[test]
fn a_role_that_iam_does_not_tell_of_stops_no_release() {
    let account = with_role().replace("\nsetup:", "\nbeside: {gone: [shop-pages]}\nsetup:");
    for how in [Meddling::Refuse, Meddling::Throttle, Meddling::Unreachable, Meddling::Hang] {
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let meddle = move |call: &Call<'_>| {
            if call.operation != "GetRole" {
                return Meddling::Pass;
            }
            *count.lock().unwrap() += 1;
            how
        };
        let setting = Setting { account: account.clone(), meddle: Box::new(meddle), ..Setting::default() };
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(
                stage.end(&release).await,
                ExecutionStatus::Succeeded,
                "{how:?}: {:#?}",
                stage.actions(&release)
            );
        });
        // Two roles, which three Regions and five families name.
        assert_eq!(*asked.lock().unwrap(), 2, "{how:?}");
    }
}

#[test]
fn everything_that_does_not_fit_is_said_at_once_and_what_fits_is_not() {
    let manifest = Setting::default().manifest;
    let manifest = manifest.replacen("service: worker\n", "service: wroker\n", 1);
    let manifest = manifest.replacen("deployment_group: web", "deployment_group: wbe", 1);
    let manifest = manifest.replacen("    family: shop-task\n", "    family: shop-tsak\n", 1);
    let account = with_parameter(&Setting::default().account, "NamesBegin", "");
    play(Setting { account, manifest, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Prepare").error.unwrap();
        for said in ["no service `wroker`", "no deployment group `wbe`", "no task definition `shop-tsak`"] {
            let places = verdict.matches(said).count();
            assert!(places >= 1, "{said}: {verdict}");
        }
        for fits in ["no cluster", "shop-web", "no container"] {
            assert!(!verdict.contains(fits), "{verdict}");
        }
        assert_eq!(stage.started(&release), [""; 0]);
    });
}

#[test]
fn once_a_task_of_the_release_has_run_what_changes_meanwhile_stops_no_other_task() {
    // Each DescribeServices that is not deploy-services' is counted: run-tasks looks before its first task only.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let meddle = move |call: &Call<'_>| {
        if call.function == "run-tasks" && call.operation == "DescribeServices" {
            seen.lock().unwrap().push(call.region.to_owned());
        }
        Meddling::Pass
    };
    play(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
    });
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ["ap-southeast-2", "eu-west-1", "us-east-1"]);
}
