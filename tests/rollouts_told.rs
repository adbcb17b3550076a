//! What is said of services that ECS itself deploys: of which kind each is, and what took one of them back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::{ExecutionStatus, World};
use tests::{Kind, Setting, is_in, of_task, play};

use crate::rollouts::{at_deploy, crashing, is_on, shop, with_new};

#[test]
fn the_kind_of_each_service_is_said_and_who_does_not_wait_and_why() {
    let mix: (&[Kind], &[Kind]) =
        (&[Kind::Canary, Kind::Unheld, Kind::Codedeploy], &[Kind::BlueGreen, Kind::Rolling, Kind::Codedeploy]);
    play(shop(mix.0, mix.1), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
        let said = stage.say(&release);
        for line in [
            "us web    | deployed by ECS (canary); its traffic waits for the others in PRE_PRODUCTION_TRAFFIC_SHIFT",
            "us worker | deployed by ECS (blue/green); its traffic waits for the others in PRE_PRODUCTION_TRAFFIC_SHIFT",
            "eu web    | deployed by ECS (blue/green); its traffic does not wait",
            "eu worker | deployed by ECS (rolling); its traffic does not wait",
            "ap web    | deployed by CodeDeploy (group web of shop); its traffic waits for the others",
            "eu worker | not begun: what is behind the barrier gets ready first",
            "us web    | PRE_PRODUCTION_TRAFFIC_SHIFT, 2 of 2 new tasks run, 10 % of traffic, its pause between two steps is ended",
        ] {
            assert!(said.iter().any(|one| one == line), "{line} is not in {said:#?}");
        }
        let summary = stage.action(&release, "Deploy").summary;
        for remark in [
            "Not behind the barrier, since a rolling deployment cannot wait: eu/worker",
            "Not behind the barrier, since it has no PAUSE hook before production traffic (give it one, or say `barrier: add`): eu/web",
        ] {
            assert!(summary.contains(remark), "{remark} is not in {summary}");
        }
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_gives_up_by_itself_is_named_with_its_reason() {
    let breaker = "strategy: ROLLING, circuit_breaker: {threshold: 3, rollback: ";
    let function = "lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFFIC_SHIFT], timeout: 1h}, {stages: [POST_SCALE_UP], function: check-shop}";
    for (from, to, crashes, said) in [
        ("strategy: ROLLING", format!("{breaker}true}}"), true, "us/web failed: service deployment "),
        (
            "strategy: ROLLING",
            format!("{breaker}false}}"),
            true,
            "stopped by ECS: The deployment circuit breaker was triggered",
        ),
        (
            "strategy: BLUE_GREEN, bake_time: 20s, lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFFIC_SHIFT], timeout: 1h}",
            format!("strategy: BLUE_GREEN, bake_time: 20s, {function}"),
            false,
            "since its hook check-shop failed in POST_SCALE_UP",
        ),
    ] {
        let kind = if from.contains("ROLLING") { Kind::Rolling } else { Kind::BlueGreen };
        let mut setting = shop(&[kind], &[Kind::Codedeploy]);
        setting.account = setting.account.replacen(from, &to, 1);
        // The breaker acts before Cutover does.
        setting.manifest =
            setting.manifest.replace("    service: web\n", "    service: web\n    max_failed_tasks: 50\n");
        setting.hook = Box::new(|function, stage| {
            assert_eq!((function, stage), ("check-shop", "POST_SCALE_UP"));
            (Duration::from_secs(2), Err("503".into()))
        });
        let setting =
            with_new(setting, move |start| (crashes && is_in(start, "us") && of_task(start, "web")).then(crashing));
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Failed, "{to}");
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            assert!(verdict.contains(said), "{said} is not in {verdict}");
            assert!(verdict.contains("Traffic is on the old version everywhere."), "{verdict}");
            assert!(is_on(&stage, ":1.0"), "{to}: {:?}", stage.world().traffic());
            let lines = stage.say(&release);
            if !crashes {
                assert!(lines.iter().any(|line| line.contains("hook check-shop runs")), "{lines:#?}");
            }
        });
    }
}

#[test]
fn an_alarm_takes_everything_back_and_is_named() {
    let mut setting = shop(&[Kind::Canary], &[Kind::Codedeploy]);
    setting.account = setting.account.replacen("strategy: CANARY", "alarms: [shop-errors], strategy: CANARY", 1);
    play(setting, async |stage| {
        let release = at_deploy(&stage).await;
        let shifts = |world: &World| world.rollouts().iter().any(|one| one.region == "us-east-1" && one.traffic == 10);
        stage.until("the canary has its tenth", Duration::from_secs(300), shifts).await;
        let now = stage.now();
        stage.world().raise_alarm("shop-errors", now);
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Deploy").error.unwrap();
        assert!(verdict.starts_with("us/web failed: "), "{verdict}");
        assert!(verdict.contains("(alarms: shop-errors)") || verdict.contains("CloudWatch alarm"), "{verdict}");
        assert!(is_on(&stage, ":1.0"), "{:?}", stage.world().traffic());
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn the_hooks_of_an_app_spec_are_called_shown_and_named_when_they_fail() {
    for (event, fails) in
        [("AfterInstall", true), ("BeforeAllowTraffic", true), ("AfterAllowTraffic", true), ("AfterInstall", false)]
    {
        let mut setting = Setting::default();
        setting.manifest = setting.manifest.replacen(
            "    service: web\n",
            &format!("    service: web\n    hooks: {{{event}: check-shop}}\n"),
            1,
        );
        setting.hook = Box::new(move |_, _| (Duration::from_secs(3), if fails { Err("503".into()) } else { Ok(()) }));
        play(setting, async |stage| {
            let release = stage.start();
            let status = stage.end(&release).await;
            if !fails {
                assert_eq!(status, ExecutionStatus::Succeeded);
                return;
            }
            assert_eq!(status, ExecutionStatus::Failed, "{event}");
            let verdict = stage.action(&release, "Deploy").error.unwrap();
            let said = format!(" failed in {event}: the hook check-shop answered Failed: 503");
            let first = verdict.lines().next().unwrap_or_default();
            assert!(first.contains(&said), "{said} is not the first cause in {verdict}");
            assert!(!verdict.contains("stopped by somebody"), "{verdict}");
            assert!(is_on(&stage, ":1.0"), "{event}: {:?}", stage.world().traffic());
        });
    }
}
