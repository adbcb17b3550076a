//! People are told: what, once, and never at the price of a release.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Lateness, Start};
use serde_json::json;
use tests::{Call, Meddling, Script, Setting, Stage, is_in, of_task, play};

/// What Slack was told, the first line of each message.
pub(crate) fn slack(stage: &Stage) -> Vec<String> {
    let world = stage.world();
    let own = world.told(0).iter().filter(|told| told.host == "hooks.slack.com");
    own.map(|told| told.body["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_good_release_is_told_from_its_begin_to_its_end() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let said = slack(&stage);
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(said[..2], [":rocket: shop: release started", ":raised_hand: shop: approval wanted"]);
        assert!(said[2].starts_with(":white_check_mark: shop: released after "), "{said:?}");
        let announce = stage.action(&release, "Announce").summary;
        for who in [
            "Datadog was told of the release",
            "Sentry was told of the release and its deploy",
            "wiki was told of the release",
        ] {
            assert!(announce.contains(who), "{announce}");
        }
        {
            let world = stage.world();
            let others = world.told(0).iter().filter(|told| told.host != "hooks.slack.com");
            let others: Vec<_> = others.map(|told| format!("{}{}", told.host, told.path)).collect();
            assert_eq!(
                others,
                [
                    "api.datadoghq.eu/api/v1/events",
                    "sentry.io/api/0/organizations/example/releases/",
                    "sentry.io/api/0/organizations/example/releases/abcdef0123/deploys/",
                    "wiki.example/api/releases",
                ]
            );
            let wiki = world.told(0).iter().find(|told| told.host == "wiki.example").unwrap();
            assert!(wiki.headers.contains(&("authorization".into(), "Bearer local".into())), "{:?}", wiki.headers);
            assert_eq!(wiki.body["title"], "shop abcdef0123");
        }
    });
}

#[test]
fn a_failure_is_told_with_its_verdict() {
    let script = |start: &Start| match of_task(start, "migrate") && is_in(start, "ap") {
        true => Script::task(2).ending(1),
        false => Script::of_shop(start),
    };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let said = slack(&stage);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].starts_with(":x: shop: release failed after "), "{said:?}");
        let text = stage.world().told(0)[1].body["blocks"][0]["text"]["text"].as_str().unwrap().to_owned();
        assert!(text.contains("migrate failed in ap: container `shop` ended with exit code 1"), "{text}");
        assert!(text.contains("Sell teapots (`abcdef0`)"), "{text}");
    });
}

#[test]
fn a_rejection_is_told_with_who_said_no() {
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        stage.answer_approval(&release, "Rejected");
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let expected = [
            ":rocket: shop: release started",
            ":raised_hand: shop: approval wanted",
            ":no_entry: shop: rejected by local",
        ];
        assert_eq!(slack(&stage), expected);
    });
}

#[test]
fn what_codepipeline_shows_late_is_waited_for_before_people_are_told_of_it() {
    let late = || Lateness { executions: Duration::from_secs(5), ..Lateness::default() };
    play(Setting { lateness: late(), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Approve").await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(slack(&stage).last().unwrap(), ":raised_hand: shop: approval wanted");
    });
    let fails = |start: &Start| {
        if of_task(start, "migrate") { Script::task(1).ending(1) } else { Script::of_shop(start) }
    };
    play(Setting { lateness: late(), script: Box::new(fails), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let text = stage.world().told(0).last().unwrap().body["blocks"][0]["text"]["text"].as_str().unwrap().to_owned();
        assert!(text.contains("migrate failed in "), "{text}");
    });
}

#[test]
fn whatever_happens_to_the_function_that_tells_people_the_release_has_succeeded() {
    let when = |meddling, wanted: fn(&Call<'_>) -> bool| {
        let meddle = move |call: &Call<'_>| if wanted(call) { meddling } else { Meddling::Pass };
        Setting { meddle: Box::new(meddle), ..Setting::default() }
    };
    for (setting, said) in [
        (
            when(Meddling::Refuse, |call| {
                call.function == "dispatch-jobs" && call.operation.contains("notify/invocations")
            }),
            "Warning: Datadog, Sentry and the like were not told. The function `cutover-notify` could not be invoked: ",
        ),
        (
            when(Meddling::Refuse, |call| call.function == "notify" && call.operation.ends_with("Object")),
            "Warning: perhaps not everybody was told: The artifact `Build` cannot be read: ",
        ),
        (
            when(Meddling::CrashBefore, |call| call.function == "notify" && call.operation == "AcknowledgeJob"),
            "Warning: perhaps not everybody was told. Cutover's function cutover-notify failed at every try: ",
        ),
    ] {
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{said}: {:#?}", stage.actions(&release));
            let summary = stage.action(&release, "Announce").summary;
            assert!(summary.starts_with(said), "{said}: {summary}");
        });
    }
}

#[test]
fn a_stop_is_told_once_however_many_events_there_are() {
    let script = |start: &Start| if of_task(start, "migrate") { Script::task(600) } else { Script::of_shop(start) };
    play(Setting { script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Migrate").await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
        assert_eq!(stage.end(&release).await, ExecutionStatus::Stopped);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(slack(&stage), [":rocket: shop: release started", ":octagonal_sign: shop: release stopped"]);
        let said = stage.lines(&release);
        let once = |part: &str| said.iter().filter(|line| line.contains(part)).count();
        assert_eq!(once(" of migrate is being stopped"), 3, "{said:#?}");
        assert_eq!(once("halt complete: "), 1, "{said:#?}");
    });
}

#[test]
fn what_cannot_be_told_is_a_warning_found_early_and_never_fails_a_release() {
    let account = Setting::default().account.replace("  /shop/datadog-api-key: local\n", "");
    let meddle = |call: &Call<'_>| match call.operation.contains("/sink/sentry.io") {
        true => Meddling::Unreachable,
        false => Meddling::Pass,
    };
    play(Setting { account, meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        for n in 0..2 {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
            let announce = stage.action(&release, "Announce");
            assert_eq!(announce.status, ActionStatus::Succeeded);
            for said in [
                "warning: Datadog could not be told of the release: there is no SSM parameter `/shop/datadog-api-key`",
                "warning: Sentry could not be told of the release and its deploy: Sentry could not be reached",
                "wiki was told of the release",
            ] {
                assert!(announce.summary.contains(said), "{said}: {}", announce.summary);
            }
            let lines = stage.lines(&release);
            let warned = lines.iter().position(|line| line.starts_with("notify | warning: there is no SSM parameter"));
            let migrated = lines.iter().position(|line| line.contains("migrate: container"));
            assert!(warned.is_some() && warned < migrated, "{n}: {lines:#?}");
            assert!(!lines.iter().any(|line| line.contains("Bearer") || line.contains("T000")), "no secret is printed");
        }
    });
}
