//! What the roles of `template.yaml`, and the one for other accounts, allow: whatever a function does, and no more.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use local::template::{self, Grant, Need, Stack};
use local::world::{ExecutionStatus, Granted, Request, Start};
use serde_json::json;
use tests::{
    Call, Fate, Kind, Meddling, Script, Setting, Stage, is_in, of_task, play, play_denied, with_kinds, with_parameter,
};

use crate::template::{EVERYTHING, stack};

/// What releases need.
#[derive(Default)]
struct Needed {
    /// Of the functions' own roles: what those allow of it.
    granted: Granted,
    /// Of the role in another account.
    elsewhere: BTreeSet<Need>,
}

impl Needed {
    /// What a release needs that is stopped there, or ends.
    async fn add(&mut self, stage: &Stage, release: &str) {
        stage.end(release).await;
        // What comes after the end: events, retries, and what is invoked when those have failed.
        tokio::time::sleep(Duration::from_secs(400)).await;
        let world = stage.world();
        for (function, granted) in world.granted() {
            self.granted.entry(function.clone()).or_default().extend(granted.iter().cloned());
        }
        self.elsewhere.extend(world.needed_elsewhere().iter().cloned());
    }

    /// What a release needs that is set up like this.
    fn release(&mut self, setting: Setting) {
        play(setting, async |stage| {
            let release = stage.start();
            self.add(&stage, &release).await;
        });
    }
}

/// The shop in two environments, one of them in another account.
fn in_another_account() -> Setting {
    let shop = Setting::default();
    let account = shop.account.replace("  eu-west-1:\n", "  eu-west-1:\n    account: \"444455556666\"\n");
    let role = "    region: eu-west-1\n    role: arn:aws:iam::444455556666:role/deployer\n";
    let manifest = shop.manifest.replace("    region: eu-west-1\n", role);
    let (before, third) = manifest.split_once("  ap:\n").unwrap();
    let (_, after) = third.split_once("\n\n").unwrap();
    let manifest = format!("{before}\n{after}");
    let account = with_parameter(&account, "EnvironmentRoles", "arn:aws:iam::444455556666:role/deployer");
    Setting { account, manifest, ..shop }
}

fn with_script(script: impl Fn(&Start) -> Option<Script> + 'static) -> Setting {
    let script = move |start: &Start| script(start).unwrap_or_else(|| Script::of_shop(start));
    Setting { script: Box::new(script), ..in_another_account() }
}

/// What takes its time to end.
fn tough(script: Script) -> Script {
    Script { on_term: Some((Duration::from_secs(28), 0)), ..script }
}

/// The functions that answer jobs, by what must go wrong for their destinations to be needed.
fn dying(function: &'static str, operation: &'static str) -> Setting {
    let meddle = move |call: &Call<'_>| match call.function == function && call.operation == operation {
        true => Meddling::CrashBefore,
        false => Meddling::Pass,
    };
    Setting { meddle: Box::new(meddle), ..in_another_account() }
}

/// A schedule that somebody makes or removes by hand.
fn by_hand(stage: &Stage, method: &str, schedule: &str) {
    let target = json!({"Arn": "arn:aws:sqs:us-east-1:111122223333:cutover-jobs", "RoleArn": "arn", "Input": "{}"});
    let body = json!({"GroupName": "cutover.us", "ScheduleExpression": "cron(0 4 * * ? *)", "Target": target,
        "FlexibleTimeWindow": {"Mode": "OFF"}});
    let response = stage.handle(&Request {
        method: method.into(),
        path: format!("/schedules/{schedule}"),
        query: [("groupName".to_owned(), "cutover.us".to_owned())].into(),
        body: body.to_string().into_bytes(),
        ..Request::default()
    });
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
}

/// Workers: released twice, the second time beside a schedule of nobody's, then written back, by deploy-services or when it is
/// dead by halt-release.
fn of_workers(needed: &mut Needed) {
    for dead in [false, true] {
        let mut setting = in_another_account();
        let own = setting.manifest.replace("    live: 1m\n", "    warm: 1\n    tags: {team: shop}\n");
        assert_ne!(own, setting.manifest);
        setting.manifest =
            format!("{own}schedules:\n  nightly: {{cron: 0 3 * * *, worker: exports, environments: [us]}}\n");
        let (mut writes, mut starts) = (0, 0);
        setting.meddle = Box::new(move |call| {
            // A start whose answer is lost, and that is refused then: its tasks are looked for.
            if call.function == "launch-workers" && call.operation == "RunTask" && call.region == "us-east-1" {
                starts += 1;
                return [Meddling::LoseReply, Meddling::Refuse].get(starts - 1).copied().unwrap_or(Meddling::Pass);
            }
            let is_write = call.function == "deploy-services" && call.operation == "PutParameter";
            writes += usize::from(is_write);
            // Each release writes three; this is the second one's pointer to the schedules.
            match is_write && writes == 6 {
                true if dead => Meddling::AbandonAndCrashAfter,
                true => Meddling::Refuse,
                false => Meddling::Pass,
            }
        });
        play(setting, async |stage| {
            let first = stage.start();
            needed.add(&stage, &first).await;
            let url = "https://sqs.us-east-1.amazonaws.com/111122223333/cutover-jobs";
            for body in ["soon", r#"{"worker": "exports", "environment": "us", "id": "1"}"#] {
                stage.call("AmazonSQS.SendMessage", &json!({"QueueUrl": url, "MessageBody": body}));
            }
            by_hand(&stage, "POST", "old");
            let second = stage.start();
            stage.until_begun(&second, "Approve").await;
            stage.answer_approval(&second, "Approved");
            let is_over = |world: &local::world::World| world.status(&second).is_some_and(ExecutionStatus::is_over);
            stage.until("the release is over", Duration::from_secs(3600), is_over).await;
            if dead {
                by_hand(&stage, "DELETE", "nightly");
                by_hand(&stage, "POST", "old");
            }
            needed.add(&stage, &second).await;
            let expected = [("cutover.us".to_owned(), "nightly".to_owned())];
            let schedules = stage.world().schedules();
            assert_eq!(schedules, expected, "{dead}: {:#?} {:#?}", stage.lines(&second), stage.notes());
        });
    }
}

/// Everything that can happen to a release, as far as it needs a permission that a good one does not.
fn all_needed() -> Needed {
    let mut needed = Needed::default();
    needed.release(in_another_account());
    of_workers(&mut needed);
    // A migration that fails: the others are stopped, its last lines are read.
    needed.release(with_script(|start| {
        let fails = of_task(start, "migrate") && is_in(start, "us");
        let script =
            if fails { Script { ends: Some((Duration::ZERO, 1)), ..Script::task(1) } } else { Script::task(60) };
        of_task(start, "migrate").then_some(script)
    }));
    // A new version that dies.
    needed.release(with_script(|start| {
        let is_new = start.port.is_some() && start.image.ends_with(":2.0") && is_in(start, "us");
        let line = vec![(Duration::from_millis(100), "error".to_owned())];
        is_new.then(|| Script {
            lines: line,
            healthy_after: None,
            ill_after: None,
            ends: Some((Duration::ZERO, 1)),
            ..Script::service()
        })
    }));
    // Jobs that take more than one invocation: each thing is slow, and notify's artifact cannot be read for a while.
    let mut slow = with_script(|start| {
        let service = || Script { healthy_after: Some(Duration::from_secs(25)), ..tough(Script::service()) };
        Some(if start.port.is_some() { service() } else { tough(Script::task(60)) })
    });
    slow.change_stack = Box::new(|stack| stack.functions.iter_mut().for_each(|one| one.timeout = 20));
    let mut refusals = 0;
    slow.meddle = Box::new(move |call| {
        let is_it = call.function == "notify" && matches!(call.operation, "GetObject" | "HeadObject");
        refusals += u32::from(is_it);
        if is_it && refusals < 60 { Meddling::Throttle } else { Meddling::Pass }
    });
    needed.release(slow);
    // A deployment whose old tasks are gone is brought back by its own function, whatever its group's alarms say.
    let mut back = in_another_account();
    back.account = back.account.replacen("wait_at_ready: 10m, termination_wait: 5m", "termination_wait: 0s", 1);
    back.meddle = Box::new(|call| match call.operation == "ContinueDeployment" && call.region == "eu-west-1" {
        true => Meddling::Refuse,
        false => Meddling::Pass,
    });
    needed.release(back);
    // Services that ECS itself deploys: continued at their hooks, stopped when one of them dies.
    for dies in [false, true] {
        let mut by_ecs = with_script(move |start| {
            let is_new = start.port.is_some() && start.image.ends_with(":2.0") && is_in(start, "us");
            let ends = Some((Duration::from_secs(30), 1));
            (dies && is_new).then(|| Script { healthy_after: None, ends, ..Script::service() })
        });
        by_ecs.account = with_kinds(&by_ecs.account, &[Kind::BlueGreen, Kind::Linear], &[Kind::BlueGreen]);
        // Where ECS has not resolved the images of a revision, its task definition tells them.
        if !dies {
            by_ecs.lateness.images = Duration::from_secs(7200);
        }
        needed.release(by_ecs);
    }
    // Whatever deploys them: all have moved their traffic, and their old tasks are gone, when the release is stopped and its
    // function dead. halt-release brings them back, and continues what waits on that way.
    for kind in [Kind::Codedeploy, Kind::BlueGreen] {
        let mut ended = in_another_account();
        ended.account = with_kinds(&ended.account, &[kind], &[kind]);
        ended.account = ended
            .account
            .replace("termination_wait: 5m", "termination_wait: 0s")
            .replace("bake_time: 20s", "bake_time: 0s");
        let mut continued = 0;
        ended.meddle = Box::new(move |call| {
            let is_it = call.function == "deploy-services";
            continued += usize::from(is_it && call.operation.starts_with("Continue"));
            if is_it && continued >= 4 && !call.operation.starts_with("Continue") {
                Meddling::CrashBefore
            } else {
                Meddling::Pass
            }
        });
        play(ended, async |stage| {
            let release = stage.start();
            stage.until_begun(&release, "Approve").await;
            stage.answer_approval(&release, "Approved");
            let over = |world: &local::world::World| {
                let all = world.traffic().iter().filter(|one| one.image.ends_with(":2.0")).count() == 4;
                all && !world.is_deploying() && world.rollouts().iter().all(|one| one.status == "SUCCESSFUL")
            };
            stage.until("all have ended by themselves", Duration::from_secs(600), over).await;
            stage.stop(&release);
            needed.add(&stage, &release).await;
            assert!(
                stage.world().traffic().iter().all(|one| one.image.ends_with(":1.0")),
                "{:#?}",
                stage.lines(&release)
            );
        });
    }
    // The same in the middle.
    let meddle = |call: &Call<'_>| match (call.function, call.operation) {
        ("deploy-services", "ContinueServiceDeployment") => Meddling::AbandonAndCrash,
        _ => Meddling::Pass,
    };
    let mut stopped = in_another_account();
    stopped.account = with_kinds(&stopped.account, &[Kind::BlueGreen], &[Kind::BlueGreen]);
    needed.release(Setting { meddle: Box::new(meddle), ..stopped });
    // Workers that have work to finish.
    let mut rolling = in_another_account();
    rolling.account = with_kinds(&rolling.account, &[Kind::Codedeploy], &[Kind::Rolling]);
    needed.release(rolling);
    // Functions that are dead for good.
    for function in ["run-tasks", "tail-logs", "deploy-services", "drain-workers"] {
        needed.release(dying(function, "AcknowledgeJob"));
    }
    needed.release(dying("notify", "AcknowledgeJob"));
    // Ways back: one that goes well, one that is stopped, one whose check is dead.
    for dead in [false, true] {
        let meddle = move |call: &Call<'_>| match dead && call.function == "check-rollback" {
            true if call.operation == "AcknowledgeJob" => Meddling::CrashBefore,
            _ => Meddling::Pass,
        };
        let registry = "111122223333.dkr.ecr.us-east-1.amazonaws.com".into();
        // What takes three times as long as ever is told in the log.
        let slow = with_script(|start| {
            let is_slow = of_task(start, "prepare") && start.image.ends_with(":3.0");
            is_slow.then(|| Script { ends: Some((Duration::from_secs(120), 0)), ..Script::task(0) })
        });
        play(Setting { own_images: true, registry, meddle: Box::new(meddle), ..slow }, async |stage| {
            for _ in 0..2 {
                let release = stage.start();
                needed.add(&stage, &release).await;
            }
            // What has begun something and has no record yet is told of, too.
            let waits = stage.start();
            stage.until_begun(&waits, "Approve").await;
            let back = stage.start_back(None, None);
            needed.add(&stage, &back).await;
            if !dead {
                let stopped = stage.start_back(None, None);
                stage.until_begun(&stopped, "Approve").await;
                stage.stop(&stopped);
                needed.add(&stage, &stopped).await;
            }
        });
    }
    // One whose image is gone, of which ECR tells only after the function's time.
    let mut asked = 0;
    let mut put = BTreeMap::<String, u32>::new();
    let meddle = move |call: &Call<'_>| {
        asked += u32::from(call.operation == "BatchGetImage");
        let times = put.entry(format!("{} of {}", call.operation, call.function)).or_default();
        *times += 1;
        match call.operation {
            "BatchGetImage" if asked < 60 => Meddling::Throttle,
            // Whether a function is written down as the one that does its job it must then read.
            "PutObject" if call.function != "record-release" && *times == 1 => Meddling::LoseReply,
            _ => Meddling::Pass,
        }
    };
    let hurry = |stack: &mut Stack| {
        let is_it = |one: &&mut template::Function| one.binary == "check-rollback";
        stack.functions.iter_mut().filter(is_it).for_each(|one| one.timeout = 30);
    };
    let registry = "111122223333.dkr.ecr.us-east-1.amazonaws.com".to_owned();
    let (change_stack, meddle) = (Box::new(hurry), Box::new(meddle));
    play(Setting { own_images: true, registry, change_stack, meddle, ..in_another_account() }, async |stage| {
        for _ in 0..2 {
            let release = stage.start();
            needed.add(&stage, &release).await;
        }
        stage.world().remove_image("111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:2.0");
        // What a release has begun that goes on has no record.
        let waits = stage.start();
        stage.until_begun(&waits, "Approve").await;
        let back = stage.start_back(None, None);
        needed.add(&stage, &back).await;
    });
    // An end that no event tells of.
    let mut untold = in_another_account();
    untold.fate = Box::new(|_, event| (event["source"] == "aws.codepipeline").then_some(Fate::Lost));
    play(untold, async |stage| {
        let release = stage.start();
        stage.until_begun(&release, "Migrate").await;
        stage.stop(&release);
        stage.end(&release).await;
        tokio::time::sleep(Duration::from_secs(1200)).await;
        needed.add(&stage, &release).await;
    });
    // A function that may not be invoked.
    let meddle = |call: &Call<'_>| match call.function == "dispatch-jobs" && call.operation.contains("invocations") {
        true => Meddling::Refuse,
        false => Meddling::Pass,
    };
    needed.release(Setting { meddle: Box::new(meddle), ..in_another_account() });
    // Bad parameters.
    for name in ["PrepareLogs", "Deploy", "Drain", "Announce"] {
        let mut bad = in_another_account();
        bad.change_stack = Box::new(move |stack| {
            for action in stack.pipeline.stages.iter_mut().flat_map(|stage| &mut stage.actions) {
                if action.name == name {
                    action.configuration.insert("Manifest".into(), json!("missing.yaml"));
                }
            }
        });
        needed.release(bad);
    }
    // A person who stops everything, while every function is dead.
    for action in ["Migrate", "Deploy"] {
        for dead in [false, true] {
            let meddle = move |call: &Call<'_>| {
                let dies = dead && call.function == if action == "Migrate" { "run-tasks" } else { "deploy-services" };
                // The task before the migration runs in one environment, and must go well.
                let is_later = call.region != "us-east-1";
                if dies && is_later && matches!(call.operation, "DescribeTasks" | "BatchGetDeploymentTargets") {
                    return Meddling::CrashAfter;
                }
                Meddling::Pass
            };
            let script = |start: &Start| of_task(start, "migrate").then(|| tough(Script::task(600)));
            let mut setting = if action == "Migrate" { with_script(script) } else { in_another_account() };
            if action == "Migrate" {
                let is_it = |one: &&mut template::Function| one.binary == "halt-release";
                let hurry = move |stack: &mut Stack| {
                    stack.functions.iter_mut().filter(is_it).for_each(|one| one.timeout = 60);
                };
                setting.change_stack = Box::new(hurry);
            }
            setting.meddle = Box::new(meddle);
            play(setting, async |stage| {
                let release = stage.start();
                if action == "Deploy" {
                    stage.until_begun(&release, "Approve").await;
                    stage.answer_approval(&release, "Approved");
                }
                stage.until_begun(&release, action).await;
                // In the middle of it.
                tokio::time::sleep(Duration::from_secs(if action == "Migrate" { 20 } else { 4 })).await;
                stage.ask("StopPipelineExecution", &release, json!({"abandon": true, "reason": "a test"}));
                needed.add(&stage, &release).await;
            });
        }
    }
    needed
}

/// What Lambda itself does with a function's role, so that no call of the function's shows it.
fn is_lambdas_own(function: &str, grant: &Grant) -> bool {
    let own_log = format!(":log-group:/aws/lambda/{function}:*");
    grant.action.starts_with("xray:") || (grant.action.starts_with("logs:") && grant.resource.ends_with(&own_log))
}

/// That every call is allowed, every scenario of these tests asserts: see `play`.
#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_a_role_allows_some_release_needs() {
    let needed = all_needed();
    let mut unused = BTreeMap::<String, BTreeSet<Grant>>::new();
    for function in &stack(&EVERYTHING[..1]).functions {
        let used = needed.granted.get(&function.name).cloned().unwrap_or_default();
        let superfluous = function.permissions.grants().filter(|grant| !is_lambdas_own(&function.name, grant));
        let superfluous: BTreeSet<_> = superfluous.filter(|grant| !used.contains(grant)).collect();
        if !superfluous.is_empty() {
            unused.insert(function.name.clone(), superfluous);
        }
    }
    assert!(unused.is_empty(), "no release needs this: {unused:#?}");

    // The same of the role that is offered for other accounts, and that it allows all that is needed.
    let parameters = [("TrustedRoles", "*"), ("NamesBegin", "shop"), ("TaskRoles", "arn:aws:iam::*:role/shop-*")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let text = include_str!("../examples/environment-role.yaml");
    let role = template::role(text, "EnvironmentRole", &parameters, "444455556666").unwrap();
    let denied: Vec<_> = needed.elsewhere.iter().filter(|need| role.grant(need).is_none()).collect();
    assert!(denied.is_empty(), "the role in another account must allow this: {denied:#?}");
    let used: BTreeSet<_> = needed.elsewhere.iter().filter_map(|need| role.grant(need)).collect();
    let superfluous: Vec<_> = role.grants().filter(|grant| !used.contains(grant)).collect();
    assert!(superfluous.is_empty(), "no release needs this in another account: {superfluous:#?}");
}

#[test]
fn what_a_role_does_not_allow_is_a_verdict_that_names_action_and_resource() {
    let account = with_parameter(&Setting::default().account, "TaskRoles", "arn:aws:iam::111122223333:role/other-*");
    let refused = "cutover-run-tasks is not authorized to perform: iam:PassRole on resource: \
                   arn:aws:iam::111122223333:role/shop-execution";
    // IAM does not tell of the role beforehand: ECS has the last word.
    let meddle = |call: &Call<'_>| if call.operation == "GetRole" { Meddling::Throttle } else { Meddling::Pass };
    play_denied(Setting { account, meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Failed);
        let verdict = stage.action(&release, "Prepare").error.unwrap();
        assert!(verdict.contains(refused), "{verdict}");
        assert!(stage.notes().iter().any(|note| note.contains(refused)));
    });
}
