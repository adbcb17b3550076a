//! What people do during a play, and what happens to tasks by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus};
use serde_json::{Value, json};
use shared::Time;
use shared::names::read_worker_started_by;

use super::START;
use super::fault::{ByHand, Fault};
use super::meddle::Origin;
use super::plan::Plan;
use super::shape::{By, Shape, WORKER};
use crate::Stage;

/// What people did that the laws must know of.
#[derive(Debug, Default)]
pub struct Deeds {
    /// The releases, in order.
    pub releases: Vec<String>,
    /// The one among them that goes back, and to which.
    pub back: Option<(String, String)>,
    /// When it began to be watched: its faults are counted from then.
    pub begun: Time,
    /// Each retry: of which release, and when.
    pub retries: Vec<(String, Time)>,
    /// The targets (`e01-s0`) where somebody else deployed, or did something by hand, and when last.
    pub touched: BTreeMap<String, Time>,
    /// Tasks that Spot took.
    pub interrupted: BTreeSet<String>,
    /// How many jobs were sent, by environment; their ids are counted from 1.
    pub jobs: BTreeMap<String, usize>,
    /// Old tasks that protected themselves, until then.
    pub protected: BTreeMap<String, Time>,
    /// When everything had come to rest; never, unless given.
    pub rest: Option<Time>,
}

/// When everything must be at rest: a way back is waited for for an hour, and halt-release then goes on for two.
pub const REST_WITHIN: Duration = Duration::from_secs(4 * 3600);

/// When every job has found a worker at the latest.
const JOBS_WITHIN: Duration = Duration::from_secs(40 * 60);

/// How often people look.
const LOOK: Duration = Duration::from_secs(1);

/// How often they look when nothing has happened for long.
const LOOK_SELDOM: Duration = Duration::from_secs(10);

/// How long a release takes at the most that nothing happens to.
const CALM_RELEASE: Duration = Duration::from_secs(1800);

/// How long after a release's end its record is there at the latest: two rounds of the schedule.
const RECORDED: Duration = Duration::from_secs(2 * 15 * 60 + 60);

/// Starts what the plan is about: a release, or, after two that nothing happens to, the way back to the first of them.
async fn begin(stage: &Stage, plan: &Plan, origin: &Origin, deeds: &mut Deeds) {
    let goes_back = plan.faults.iter().find_map(|fault| match fault {
        Fault::GoBack { after, early } => Some((*after, *early)),
        _ => None,
    });
    let Some((after, early)) = goes_back else {
        deeds.begun = START;
        origin.set(deeds.begun);
        deeds.releases.push(stage.start());
        return;
    };
    for nth in 0..2 {
        let release = stage.start();
        deeds.releases.push(release.clone());
        let patience = stage.now().plus(CALM_RELEASE);
        let is_early = early && nth == 1;
        let has_deployed = || {
            let actions = stage.actions(&release);
            actions.iter().any(|one| one.action == "Deploy" && one.status == ActionStatus::Succeeded)
        };
        while !stage.world().status(&release).is_some_and(ExecutionStatus::is_over) && stage.now() < patience {
            if is_early && has_deployed() {
                break;
            }
            if stage.world().waiting_approval(&release).is_some() {
                stage.answer_approval(&release, "Approved");
            }
            tokio::time::sleep(LOOK).await;
        }
        // Its artifact is kept.
        while !is_early && !stage.world().has_record(&release) && stage.now() < patience {
            tokio::time::sleep(LOOK).await;
        }
    }
    tokio::time::sleep(after).await;
    deeds.begun = stage.now();
    origin.set(deeds.begun);
    let back = stage.start_back(Some(&deeds.releases[0]), None);
    deeds.back = Some((back.clone(), deeds.releases[0].clone()));
    deeds.releases.push(back);
}

/// Waits for the records that no event hurried.
pub(super) async fn wait_for_records(stage: &Stage, deeds: &Deeds) {
    let patience = stage.now().plus(RECORDED);
    let is_recorded = |release: &String| {
        let is_over = stage.world().status(release).is_some_and(ExecutionStatus::is_over);
        !is_over || stage.world().has_record(release)
    };
    while !deeds.releases.iter().all(is_recorded) && stage.now() < patience {
        tokio::time::sleep(LOOK_SELDOM).await;
    }
}

/// Plays all that people do, until everything is at rest or should have been.
pub(super) async fn act(stage: &Stage, plan: &Plan, origin: &Origin) -> Deeds {
    let mut deeds = Deeds::default();
    begin(stage, plan, origin, &mut deeds).await;
    let begun = deeds.begun;
    protect(stage, plan, &mut deeds);
    let mut due: Vec<(Duration, &Fault)> = plan.faults.iter().filter_map(|fault| Some((at(fault)?, fault))).collect();
    due.sort_by_key(|(at, _)| *at);
    let mut due = due.into_iter().peekable();
    let mut retries: Vec<(Duration, bool)> = plan.faults.iter().filter_map(retry).collect();
    let (mut asked, mut ended): (BTreeMap<String, Time>, BTreeMap<String, Time>) = Default::default();
    let mut rejects = plan.faults.contains(&Fault::Reject);
    let late = plan.faults.iter().filter_map(|fault| match fault {
        Fault::ApproveLate(by) => Some(*by),
        _ => None,
    });
    let patience = late.max().unwrap_or(Duration::from_secs(2));
    let of_back = plan.faults.iter().find_map(|fault| match fault {
        Fault::ApproveBackLate(by) => Some(*by),
        _ => None,
    });
    let mut quiet = 0;
    loop {
        let now = stage.now();
        while let Some((_, fault)) = due.next_if(|(at, _)| begun.plus(*at) <= now) {
            happen(stage, plan, fault, &mut deeds);
        }
        for execution in deeds.releases.clone() {
            let waiting = stage.world().waiting_approval(&execution);
            if let Some(token) = waiting {
                let since = *asked.entry(token).or_insert(now);
                let is_back = deeds.back.as_ref().is_some_and(|(back, _)| *back == execution);
                if now.since(since) >= of_back.filter(|_| is_back).unwrap_or(patience) {
                    stage.answer_approval(&execution, if rejects { "Rejected" } else { "Approved" });
                    rejects = false;
                }
            }
            let status = stage.world().status(&execution);
            if !matches!(status, Some(ExecutionStatus::Failed | ExecutionStatus::Stopped)) {
                ended.remove(&execution);
                continue;
            }
            let since = *ended.entry(execution.clone()).or_insert(now);
            if retries.first().is_some_and(|(after, _)| now.since(since) >= *after) {
                let (_, all) = retries.remove(0);
                try_again(stage, &execution, all, &mut deeds);
            }
        }
        let over = |execution: &String| stage.world().status(execution).is_some_and(ExecutionStatus::is_over);
        let failed = |execution: &String| {
            matches!(stage.world().status(execution), Some(ExecutionStatus::Failed | ExecutionStatus::Stopped))
        };
        let may_retry = !retries.is_empty() && deeds.releases.iter().any(failed);
        let idle = due.peek().is_none() && !may_retry && deeds.releases.iter().all(over) && stage.is_idle();
        let done = || jobs_done(stage).values().sum::<usize>() >= deeds.jobs.values().sum();
        let idle = idle && (done() || now.since(begun) > JOBS_WITHIN);
        // Twice in a row, so that what one of them has just begun is seen.
        quiet = if idle { quiet + 1 } else { 0 };
        if quiet > 2 {
            deeds.rest = Some(now);
            return deeds;
        }
        let after = now.since(begun);
        if after > REST_WITHIN {
            return deeds;
        }
        let pause = if after > Duration::from_secs(400) { LOOK_SELDOM } else { LOOK };
        let next = due.peek().map_or(pause, |(at, _)| begun.plus(*at).since(now).min(pause));
        tokio::time::sleep(next.max(Duration::from_millis(1))).await;
    }
}

/// How many jobs have a worker, or had one, or are told to be impossible, by environment.
pub(super) fn jobs_done(stage: &Stage) -> BTreeMap<String, usize> {
    let world = stage.world();
    let mut done = BTreeMap::<String, usize>::new();
    for life in world.lives().iter().filter(|life| life.started.is_some()) {
        if let Some((environment, _)) = read_worker_started_by(&life.started_by).filter(|(_, name)| *name == WORKER) {
            *done.entry(environment.to_owned()).or_default() += 1;
        }
    }
    for dead in world.messages("cutover-dead-jobs") {
        let body: Value = serde_json::from_str(&dead.body).unwrap_or_default();
        if body["worker"] == WORKER {
            *done.entry(body["environment"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    done
}

fn at(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::Spot { at, .. }
        | Fault::Rival { at, .. }
        | Fault::Newcomer { at, .. }
        | Fault::Scale { at, .. }
        | Fault::Job { at, .. }
        | Fault::ByHand { at, .. }
        | Fault::Stop { at, .. }
        | Fault::Merge { at } => Some(*at),
        _ => None,
    }
}

fn retry(fault: &Fault) -> Option<(Duration, bool)> {
    match fault {
        Fault::Retry { after, all } => Some((*after, *all)),
        _ => None,
    }
}

fn protect(stage: &Stage, plan: &Plan, deeds: &mut Deeds) {
    for fault in &plan.faults {
        if let Fault::Protected(length) = fault {
            let until = stage.now().plus(*length);
            let old: Vec<_> = stage
                .world()
                .lives()
                .into_iter()
                .filter(|life| life.service.is_some() && life.stopping.is_none() && life.stopped.is_none())
                .collect();
            let workers = |life: &&local::world::Life| {
                plan.shape
                    .services
                    .iter()
                    .any(|one| one.worker && life.service.as_ref().is_some_and(|name| name.ends_with(&one.name)))
            };
            for life in old.iter().filter(workers) {
                stage.world().protect_until(&life.arn, until);
                deeds.protected.insert(life.arn.clone(), until);
            }
        }
    }
}

fn happen(stage: &Stage, plan: &Plan, fault: &Fault, deeds: &mut Deeds) {
    match fault {
        Fault::Merge { .. } => deeds.releases.push(stage.start()),
        Fault::Stop { abandon, .. } => {
            let Some(execution) = stage.world().first_under_way() else { return };
            let stopping = stage.world().status(&execution) == Some(ExecutionStatus::Stopping);
            if *abandon || !stopping {
                stage.ask("StopPipelineExecution", &execution, json!({"abandon": abandon, "reason": "a person"}));
            }
        }
        Fault::Spot { pick, .. } => {
            let living: Vec<_> = stage
                .world()
                .lives()
                .into_iter()
                .filter(|life| life.stopping.is_none() && life.started.is_some())
                .collect();
            if !living.is_empty() {
                let arn = &living[pick % living.len()].arn;
                let now = stage.now();
                stage.world().interrupt(arn, now);
                stage.hurry();
                deeds.interrupted.insert(arn.clone());
            }
        }
        Fault::Rival { pick, .. } => rival(stage, &plan.shape, *pick, deeds),
        Fault::Scale { pick, to, .. } => scale(stage, &plan.shape, *pick, *to),
        Fault::Newcomer { pick, .. } => newcomer(stage, &plan.shape, *pick, deeds),
        Fault::Job { environment, .. } => {
            let place = &plan.shape.environments[*environment];
            *deeds.jobs.entry(place.name.clone()).or_default() += 1;
            let id = deeds.jobs.values().sum::<usize>();
            let body = json!({"worker": WORKER, "environment": place.name, "id": id.to_string()});
            let url = "https://sqs.us-east-1.amazonaws.com/111122223333/cutover-jobs";
            stage.call("AmazonSQS.SendMessage", &json!({"QueueUrl": url, "MessageBody": body.to_string()}));
        }
        Fault::ByHand { pick, deed, .. } => by_hand(stage, *pick, *deed, deeds),
        _ => {}
    }
}

fn try_again(stage: &Stage, execution: &str, all: bool, deeds: &mut Deeds) {
    let actions = stage.actions(execution);
    let Some(failed) =
        actions.iter().rev().find(|one| matches!(one.status, ActionStatus::Failed | ActionStatus::Abandoned))
    else {
        return;
    };
    let name = stage.world().pipeline_of(execution).to_owned();
    let mode = if all { "ALL_ACTIONS" } else { "FAILED_ACTIONS" };
    let input =
        json!({"pipelineName": name, "pipelineExecutionId": execution, "stageName": failed.stage, "retryMode": mode});
    // A newer release may have entered the stage.
    if stage.try_call("us-east-1", "CodePipeline_20150709.RetryStageExecution", &input).is_ok() {
        deeds.retries.push((execution.to_owned(), stage.now()));
    }
}

/// Somebody deploys the old version's newest revision with an image of their own.
fn rival(stage: &Stage, shape: &Shape, pick: usize, deeds: &mut Deeds) {
    let targets =
        shape.environments.iter().flat_map(|place| shape.services.iter().map(move |service| (place, service)));
    let targets: Vec<_> = targets
        .filter(|(place, service)| matches!(service.by, By::CodeDeploy { .. }) && place.account.is_none())
        .collect();
    let Some((place, service)) = (!targets.is_empty()).then(|| targets[pick % targets.len()]) else { return };
    let name = Shape::ecs_service(service, place);
    let spec = json!({"version": 1, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {
        "TaskDefinition": format!("arn:aws:ecs:{}:111122223333:task-definition/shop-{}-{}:1", place.region, place.name, service.name),
        "LoadBalancerInfo": {"ContainerName": "shop", "ContainerPort": 8080}}}}]});
    let input = json!({"applicationName": "shop", "deploymentGroupName": name, "description": "by hand",
        "revision": {"revisionType": "AppSpecContent", "appSpecContent": {"content": spec.to_string()}}});
    // The group may be busy.
    if stage.try_call(place.region, "CodeDeploy_20141006.CreateDeployment", &input).is_ok() {
        deeds.touched.insert(name, stage.now());
    }
}

/// Somebody, or something that follows the load, scales a service.
fn scale(stage: &Stage, shape: &Shape, pick: usize, to: usize) {
    let all = shape.environments.iter().flat_map(|place| shape.services.iter().map(move |service| (place, service)));
    let targets: Vec<_> = all.filter(|(place, _)| place.account.is_none()).collect();
    let Some((place, service)) = (!targets.is_empty()).then(|| targets[pick % targets.len()]) else { return };
    let name = Shape::ecs_service(service, place);
    let input = json!({"cluster": shape.cluster(place), "service": name, "desiredCount": to});
    stage.call_in(place.region, "AmazonEC2ContainerServiceV20141113.UpdateService", &input);
}

/// How the image of such a version ends.
pub(super) const OF_SOMEBODY: &str = ":of-somebody";

/// Somebody deploys a version that no release has.
fn newcomer(stage: &Stage, shape: &Shape, pick: usize, deeds: &mut Deeds) {
    let all = shape.environments.iter().flat_map(|place| shape.services.iter().map(move |service| (place, service)));
    let targets: Vec<_> = all.filter(|(place, _)| place.account.is_none()).collect();
    let Some((place, service)) = (!targets.is_empty()).then(|| targets[pick % targets.len()]) else { return };
    let ecs = |operation: &str| format!("AmazonEC2ContainerServiceV20141113.{operation}");
    let image = format!("registry.example/shop{OF_SOMEBODY}");
    let own = Shape::definition(place, &service.name, &image, &service.name, true);
    let Ok(made) = stage.try_call(place.region, &ecs("RegisterTaskDefinition"), &own) else { return };
    let definition = &made["taskDefinition"]["taskDefinitionArn"];
    let name = Shape::ecs_service(service, place);
    let deployed = match service.by {
        By::Ecs { .. } => {
            let input = json!({"cluster": shape.cluster(place), "service": name, "taskDefinition": definition});
            stage.try_call(place.region, &ecs("UpdateService"), &input)
        }
        By::CodeDeploy { .. } => {
            let spec = json!({"version": 1, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {
                "TaskDefinition": definition, "LoadBalancerInfo": {"ContainerName": "shop", "ContainerPort": 8080}}}}]});
            let input = json!({"applicationName": "shop", "deploymentGroupName": name, "description": "by hand",
                "revision": {"revisionType": "AppSpecContent", "appSpecContent": {"content": spec.to_string()}}});
            stage.try_call(place.region, "CodeDeploy_20141006.CreateDeployment", &input)
        }
    };
    // The group may be busy.
    if deployed.is_ok() {
        deeds.touched.insert(name, stage.now());
    }
}

fn by_hand(stage: &Stage, pick: usize, deed: ByHand, deeds: &mut Deeds) {
    // Every other time, what ECS itself deploys, where there is any.
    let rollouts = stage.world().rollouts();
    let living: Vec<_> = rollouts.iter().filter(|one| matches!(one.status, "PENDING" | "IN_PROGRESS")).collect();
    if pick.is_multiple_of(2) && !living.is_empty() {
        let one = living[pick / 2 % living.len()];
        let input = json!({"serviceDeploymentArn": one.arn, "stopType": "ROLLBACK"});
        let target = "AmazonEC2ContainerServiceV20141113.StopServiceDeployment";
        if stage.try_call(&one.region, target, &input).is_ok() {
            deeds.touched.insert(one.service.clone(), stage.now());
        }
        return;
    }
    let living = stage.world().living_deployments();
    if living.is_empty() {
        return;
    }
    let (id, group) = &living[pick % living.len()];
    let (operation, input) = match deed {
        ByHand::StopsIt => ("StopDeployment", json!({"deploymentId": id, "autoRollbackEnabled": true})),
        ByHand::Reroutes => ("ContinueDeployment", json!({"deploymentId": id, "deploymentWaitType": "READY_WAIT"})),
        ByHand::EndsWait => {
            ("ContinueDeployment", json!({"deploymentId": id, "deploymentWaitType": "TERMINATION_WAIT"}))
        }
    };
    if stage.try_call("us-east-1", &format!("CodeDeploy_20141006.{operation}"), &input).is_ok() {
        deeds.touched.insert(group.clone(), stage.now());
    }
}
