//! The quick way back: web services are back within seconds while the old tasks still wait, everywhere or nowhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::world::ExecutionStatus;
use serde_json::json;
use shared::Time;
use tests::sweep::share;
use tests::{Call, Kind, Meddling, Setting, Stage, play, with_kinds};

/// What was asked of a deployment, when, by which function, in which body.
type Asked = Arc<Mutex<Vec<(Time, String, String, String)>>>;

/// Releases that each have an image of their own; what their functions ask is noted.
fn setting() -> (Setting, Asked) {
    let asked = Asked::default();
    let noted = asked.clone();
    let mut setting = Setting { own_images: true, ..Setting::default() };
    setting.witness = Box::new(move |call, request, _, _| {
        if matches!(call.operation, "CreateDeployment" | "StopDeployment" | "StopServiceDeployment" | "UpdateService") {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            noted.lock().unwrap().push((call.at, call.function.to_owned(), call.operation.to_owned(), body));
        }
    });
    (setting, asked)
}

/// Two releases; `2.0`, then `3.0`.
async fn released_twice(stage: &Stage) -> [String; 2] {
    let mut all = [String::new(), String::new()];
    for one in &mut all {
        *one = stage.start();
        assert_eq!(stage.end(one).await, ExecutionStatus::Succeeded);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    all
}

/// The versions that have the traffic of web services, and of all.
fn versions(stage: &Stage) -> (BTreeSet<String>, BTreeSet<String>) {
    let traffic = stage.world().traffic();
    let version = |image: &str| image.rsplit(':').next().unwrap().to_owned();
    let web = traffic.iter().filter(|one| one.service.contains("web")).map(|one| version(&one.image)).collect();
    (web, traffic.iter().map(|one| version(&one.image)).collect())
}

fn only(version: &str) -> BTreeSet<String> {
    [version.to_owned()].into()
}

async fn approved(stage: &Stage, back: &str) {
    stage.until_begun(back, "Approve").await;
    stage.answer_approval(back, "Approved");
    stage.until_begun(back, "Deploy").await;
}

#[test]
fn while_the_old_tasks_wait_web_services_are_back_within_seconds_and_the_others_are_deployed() {
    let (setting, asked) = setting();
    play(setting, async |stage| {
        let [_, second] = released_twice(&stage).await;
        let back = stage.start_back(None, None);
        approved(&stage, &back).await;
        let begun = stage.now();
        stage
            .until("web services are back", Duration::from_secs(20), |world| {
                world.traffic().iter().filter(|one| one.service.contains("web")).all(|one| one.image.ends_with(":2.0"))
            })
            .await;
        let took = stage.now().since(begun);
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(versions(&stage), (only("2.0"), only("2.0")));
        let said = stage.action(&back, "Deploy").summary;
        let quick = format!("the quick way (the deployments of release {second} were stopped): ");
        assert!(said.starts_with("Traffic is back after ") && said.contains(&quick), "{said}");
        assert!(
            said.contains("us/web (3 to 2)")
                && said.contains(". Deployed, after ")
                && said.contains(": us/worker (3 to "),
            "{said}"
        );
        let asked = asked.lock().unwrap().clone();
        let after = || asked.iter().filter(|(at, function, ..)| *at > begun && function == "deploy-services");
        assert_eq!(after().filter(|(_, _, operation, _)| operation == "StopDeployment").count(), 3);
        assert!(
            after().all(|(_, _, operation, body)| operation != "CreateDeployment" || !body.contains("/web")),
            "{asked:#?}"
        );
    });
}

#[test]
fn when_the_old_tasks_are_gone_there_is_a_deployment_and_it_says_why() {
    let (setting, asked) = setting();
    play(setting, async |stage| {
        released_twice(&stage).await;
        tokio::time::sleep(Duration::from_secs(400)).await;
        let begun = stage.now();
        let back = stage.start_back(None, None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(versions(&stage), (only("2.0"), only("2.0")));
        let said = stage.action(&back, "Deploy").summary;
        let why = "By a deployment, since the quick way back is closed: the old tasks of us/web are gone";
        assert!(said.contains(why), "{said}");
        assert!(stage.lines(&back).iter().any(|line| line.contains(why)), "{:#?}", stage.lines(&back));
        let asked = asked.lock().unwrap();
        assert!(!asked.iter().any(|(at, _, operation, _)| *at > begun && operation == "StopDeployment"));
    });
}

#[test]
fn what_runs_before_the_release_that_runs_and_is_not_what_is_wanted_is_never_stopped_for() {
    let (setting, _) = setting();
    play(setting, async |stage| {
        let [first, _] = released_twice(&stage).await;
        let third = stage.start();
        assert_eq!(stage.end(&third).await, ExecutionStatus::Succeeded);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let back = stage.start_back(Some(&first), None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(versions(&stage), (only("2.0"), only("2.0")));
        let said = stage.action(&back, "Deploy").summary;
        assert!(said.contains("is closed: before what runs, us/web ran another version"), "{said}");
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn within_the_bake_time_of_ecs_own_deployments_the_same_way_is_open() {
    let (mut setting, asked) = setting();
    setting.account =
        with_kinds(&setting.account, &[Kind::BlueGreen], &[Kind::Rolling]).replace("bake_time: 20s", "bake_time: 10m");
    play(setting, async |stage| {
        released_twice(&stage).await;
        let back = stage.start_back(None, None);
        approved(&stage, &back).await;
        let begun = stage.now();
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(versions(&stage), (only("2.0"), only("2.0")));
        let said = stage.action(&back, "Deploy").summary;
        assert!(said.contains("the quick way"), "{said}");
        let asked = asked.lock().unwrap();
        let stops = asked.iter().filter(|(at, _, operation, _)| *at > begun && operation == "StopServiceDeployment");
        assert_eq!(stops.count(), 3);
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_quick_way_that_was_begun_comes_to_its_end_whoever_stops_the_release_or_dies() {
    // At which stop of a deployment, what happens there, and whether a person stops the release right then.
    let mut stories = Vec::new();
    for nth in [1, 2, 3] {
        for what in [
            Meddling::AbandonAndCrash,
            Meddling::AbandonAndCrashAfter,
            Meddling::CrashAfter,
            Meddling::CrashBefore,
            Meddling::LoseReply,
        ] {
            stories.push((nth, what));
        }
    }
    let mut finished_by_another = 0;
    // Each trouble at one of the three.
    for (nth, what) in share(stories, 3, 0) {
        let (mut setting, _) = setting();
        let mut seen = 0;
        setting.meddle = Box::new(move |call: &Call<'_>| {
            let is_it = call.function == "deploy-services" && call.operation == "StopDeployment";
            seen += u32::from(is_it);
            if is_it && seen == nth { what } else { Meddling::Pass }
        });
        play(setting, async |stage| {
            released_twice(&stage).await;
            let back = stage.start_back(None, None);
            let status = stage.end(&back).await;
            tokio::time::sleep(Duration::from_secs(180)).await;
            let (web, all) = versions(&stage);
            let story = format!("{what:?} at stop {nth}: {:#?}", stage.lines(&back));
            if matches!(what, Meddling::AbandonAndCrash | Meddling::AbandonAndCrashAfter) {
                assert_eq!(status, ExecutionStatus::Stopped, "{story}");
                assert!(web == only("2.0") || (web == only("3.0") && all == only("3.0")), "{web:?}, {story}");
                finished_by_another += u32::from(story.contains("half of it would be traffic on two versions"));
            } else {
                assert_eq!((status, web, all), (ExecutionStatus::Succeeded, only("2.0"), only("2.0")), "{story}");
            }
        });
    }
    assert!(finished_by_another > 0, "what a dead function had begun was never finished by halt-release");
}

#[test]
fn a_way_back_that_is_stopped_before_its_first_stop_moves_nothing() {
    let (mut setting, asked) = setting();
    let stopped = Arc::new(Mutex::new(false));
    let now = stopped.clone();
    setting.meddle = Box::new(move |call: &Call<'_>| {
        let is_it = call.function == "deploy-services" && call.operation == "DescribeServices";
        if is_it && *now.lock().unwrap() { Meddling::AbandonAndCrash } else { Meddling::Pass }
    });
    play(setting, async |stage| {
        released_twice(&stage).await;
        *stopped.lock().unwrap() = true;
        let begun = stage.now();
        let back = stage.start_back(None, None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Stopped);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(versions(&stage), (only("3.0"), only("3.0")));
        let asked = asked.lock().unwrap();
        assert!(!asked.iter().any(|(at, ..)| *at > begun), "{asked:#?}");
    });
}

#[test]
fn workers_and_schedules_go_back_with_their_release() {
    let (mut setting, _) = setting();
    let workers = "    live: 1m\n";
    assert!(setting.manifest.contains(workers));
    let with = |more: &str| setting.manifest.replace(workers, &format!("{workers}{more}"));
    let nightly = "nightly: {cron: 0 3 * * *, worker: exports, environments: [us]}";
    let weekly = "weekly: {cron: 0 4 * * 1, worker: exports, environments: [us]}";
    let first = with("") + &format!("schedules:\n  {nightly}\n  {weekly}\n");
    let thumbs = "  thumbs: {family: shop-export, command: [shop, thumbs], live: 1m}\n";
    let hourly = "hourly: {cron: 0 * * * *, worker: thumbs, environments: [us]}";
    let second = with(thumbs) + &format!("schedules:\n  {}\n  {hourly}\n", nightly.replace("0 3", "0 5"));
    (setting.manifest, setting.later_manifest) = (first, Some(second));
    play(setting, async |stage| {
        released_twice(&stage).await;
        let names = |names: [&str; 2]| names.map(|name| ("cutover.us".to_owned(), name.to_owned())).to_vec();
        let clock = |name: &str| stage.world().clock_of("cutover.us", name).map(str::to_owned);
        assert_eq!(stage.world().schedules(), names(["hourly", "nightly"]));
        assert_eq!(clock("nightly").as_deref(), Some("cron(0 5 * * ? *)"));
        assert!(stage.world().released().get("us/thumbs").is_some_and(Option::is_some));
        let back = stage.start_back(None, None);
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded);
        assert_eq!(stage.world().schedules(), names(["nightly", "weekly"]));
        assert_eq!(clock("nightly").as_deref(), Some("cron(0 3 * * ? *)"));
        let released = stage.world().released();
        assert!(released["us/exports"].as_ref().is_some_and(|image| image.ends_with(":2.0")), "{released:?}");
        assert!(released.get("us/thumbs").is_none_or(Option::is_none), "nobody starts what is no more: {released:?}");
    });
}

#[test]
fn what_somebody_has_taken_back_before_is_no_quick_way_that_was_begun() {
    let (setting, asked) = setting();
    play(setting, async |stage| {
        let [_, second] = released_twice(&stage).await;
        // An alarm, or a person in the console, while the old tasks still wait; the way back is asked for when those of the others have gone.
        let group = json!({"applicationName": "shop", "deploymentGroupName": "web"});
        let listed = stage.call("CodeDeploy_20141006.ListDeployments", &group);
        let stop = json!({"deploymentId": listed["deployments"][0], "autoRollbackEnabled": true});
        stage.call("CodeDeploy_20141006.StopDeployment", &stop);
        tokio::time::sleep(Duration::from_secs(15 * 60)).await;
        let back = stage.start_back(None, None);
        approved(&stage, &back).await;
        assert_eq!(stage.end(&back).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&back));
        assert_eq!(versions(&stage), (only("2.0"), only("2.0")));
        let said = stage.action(&back, "Deploy").summary;
        assert!(!said.contains(&format!("the quick way (the deployments of release {second} were stopped)")), "{said}");
        let by = |function: &str, operation: &str| {
            asked.lock().unwrap().iter().filter(|one| one.1 == function && one.2 == operation).count()
        };
        assert_eq!(by("deploy-services", "StopDeployment"), 0);
    });
}
