//! What is asked and answered of service deployments and their revisions.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;
use shared::manifest::Span;

use super::{HookRun, Revision, Rollout, STAGES, STEP};
use crate::account::{self, LifecycleHook, OnTimeout, Strategy};
use crate::world::ecs::{Scope, cluster_arn, short, stamp};
use crate::world::services::service_arn;
use crate::world::{Fault, Request, Timer, World};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    cluster: Option<String>,
    service: String,
    status: Option<Vec<String>>,
    created_at: Option<Range>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    after: Option<f64>,
    before: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arns {
    #[serde(default)]
    service_deployment_arns: Vec<String>,
    #[serde(default)]
    service_revision_arns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct One {
    service_deployment_arn: String,
    stop_type: Option<String>,
    hook_id: Option<String>,
    action: Option<String>,
}

impl World {
    /// Takes up a deployment configuration: what of it can change here are the hooks.
    pub(in crate::world) fn configure_rollout(&mut self, service: &str, given: &Value) -> Result<(), Fault> {
        let Some(rollout) = self.ecs.services.get_mut(service).and_then(|service| service.rollout.as_mut()) else {
            return Ok(());
        };
        let Some(hooks) = given.get("lifecycleHooks").and_then(Value::as_array) else { return Ok(()) };
        if rollout.strategy == Strategy::Rolling && !hooks.is_empty() {
            let why = "Lifecycle hooks are not supported with the ROLLING deployment strategy.";
            return Err(Fault::new("InvalidParameterException", why));
        }
        let known = rollout.lifecycle_hooks.clone();
        rollout.lifecycle_hooks = hooks.iter().map(|hook| read_hook(hook, &known)).collect::<Result<_, _>>()?;
        Ok(())
    }

    pub(in crate::world) fn rollout_operation(
        &mut self,
        name: &str,
        scope: &Scope,
        request: &Request,
    ) -> Result<Value, Fault> {
        match name {
            "ListServiceDeployments" => self.list_rollouts(scope, &request.input()?),
            "DescribeServiceDeployments" => {
                let input: Arns = request.input()?;
                at_most(20, &input.service_deployment_arns)?;
                let (found, missing): (Vec<_>, Vec<_>) =
                    input.service_deployment_arns.iter().partition(|arn| self.ecs.rollouts.all.contains_key(*arn));
                let shown =
                    found.iter().filter_map(|arn| self.ecs.rollouts.all.get(*arn)).map(|one| self.shown_rollout(one));
                Ok(json!({"serviceDeployments": shown.collect::<Vec<_>>(), "failures": failures(&missing)}))
            }
            "DescribeServiceRevisions" => {
                let input: Arns = request.input()?;
                at_most(20, &input.service_revision_arns)?;
                let known = &self.ecs.rollouts.revisions;
                let (found, missing): (Vec<_>, Vec<_>) =
                    input.service_revision_arns.iter().partition(|arn| known.contains_key(*arn));
                let shown = found.iter().filter_map(|arn| Some((arn, known.get(*arn)?)));
                let shown: Vec<_> = shown.map(|(arn, revision)| self.shown_revision(arn, revision)).collect();
                Ok(json!({"serviceRevisions": shown, "failures": failures(&missing)}))
            }
            "StopServiceDeployment" => {
                let input: One = request.input()?;
                let one = self.rollout(&input.service_deployment_arn)?;
                if input.stop_type.as_deref().is_some_and(|stop| stop != "ROLLBACK") {
                    return Err(Fault::new("InvalidParameterException", "The valid value of stopType is ROLLBACK."));
                }
                match one.status {
                    _ if one.is_over() => {
                        return Err(Fault::new("ConflictException", "The service deployment is not in progress."));
                    }
                    "PENDING" | "IN_PROGRESS" => {
                        self.roll_out_back(&input.service_deployment_arn, "Service deployment rolled back by a user.");
                    }
                    _ => {}
                }
                Ok(json!({"serviceDeploymentArn": input.service_deployment_arn}))
            }
            _ => {
                let input: One = request.input()?;
                self.continue_rollout(&input)?;
                Ok(json!({"serviceDeploymentArn": input.service_deployment_arn}))
            }
        }
    }

    pub(super) fn rollout(&self, arn: &str) -> Result<&Rollout, Fault> {
        let missing = || Fault::new("ServiceDeploymentNotFoundException", "The service deployment was not found.");
        self.ecs.rollouts.all.get(arn).ok_or_else(missing)
    }

    fn continue_rollout(&mut self, input: &One) -> Result<(), Fault> {
        let one = self.rollout(&input.service_deployment_arn)?;
        let waits = |hook: &&HookRun| Some(&hook.id) == input.hook_id.as_ref() && hook.status == "AWAITING_ACTION";
        if one.status != "IN_PROGRESS" || !one.hooks.iter().any(|hook| waits(&hook)) {
            return Err(Fault::new("InvalidParameterException", "The lifecycle hook does not await an action."));
        }
        let arn = one.arn.clone();
        if input.action.as_deref() == Some("ROLLBACK") {
            self.roll_out_back(&arn, "Service deployment rolled back by a user at a lifecycle hook.");
            return Ok(());
        }
        self.change(&arn, |one, _| {
            for hook in one.hooks.iter_mut().filter(|hook| Some(&hook.id) == input.hook_id.as_ref()) {
                hook.status = "SUCCEEDED";
            }
        });
        self.after(STEP, Timer::Rollout(arn));
        Ok(())
    }

    fn list_rollouts(&self, scope: &Scope, input: &List) -> Result<Value, Fault> {
        let cluster = self.cluster(scope, input.cluster.as_deref())?;
        let arn = service_arn(scope, &cluster, short(&input.service));
        if !self.ecs.services.contains_key(&arn) {
            return Err(Fault::new("ServiceNotFoundException", "Service not found."));
        }
        let within = |at: Time| {
            let range = input.created_at.as_ref();
            range.and_then(|range| range.after).is_none_or(|after| at.seconds() >= after)
                && range.and_then(|range| range.before).is_none_or(|before| at.seconds() <= before)
        };
        let own = self.ecs.rollouts.all.values().filter(|one| one.service == arn);
        let mut found: Vec<_> = own
            .filter(|one| one.source.is_none() || self.now.since(one.created) >= self.lateness().listed)
            .map(|one| self.rollout_as_shown(one))
            .filter(|one| within(one.created))
            .filter(|one| input.status.as_ref().is_none_or(|all| all.iter().any(|status| status == one.status)))
            .collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.created));
        let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
        let most = input.max_results.unwrap_or(20).clamp(1, 100);
        let brief = found.iter().skip(skip).take(most).map(|one| {
            let mut brief = json!({"serviceDeploymentArn": one.arn, "serviceArn": one.service, "createdAt": stamp(one.created),
                "clusterArn": cluster_arn(scope, &cluster), "targetServiceRevisionArn": one.target, "status": one.status});
            put(&mut brief, "startedAt", one.started.map(stamp));
            put(&mut brief, "finishedAt", one.finished.map(stamp));
            brief
        });
        let mut answer = json!({"serviceDeployments": brief.collect::<Vec<_>>()});
        if skip + most < found.len() {
            answer["nextToken"] = (skip + most).to_string().into();
        }
        Ok(answer)
    }

    pub(super) fn shown_rollout(&self, one: &Rollout) -> Value {
        let one = self.rollout_as_shown(one);
        let service = self.ecs.services.get(&one.service);
        let has_traffic = service.is_some_and(|service| service.check.is_some());
        let counts = |revision: &str, traffic: u32| {
            let set = self.set_of(Some(revision));
            let (live, healthy) = self.set_tasks(&set);
            let sets = service.map(|service| service.sets.as_slice()).unwrap_or_default();
            let desired = sets.iter().find(|own| own.id == set).map_or(0, |set| set.desired);
            let mut shown = json!({"arn": revision, "requestedTaskCount": desired, "runningTaskCount": healthy,
                "pendingTaskCount": live - healthy});
            put(&mut shown, "requestedProductionTrafficWeight", has_traffic.then(|| json!(f64::from(traffic))));
            shown
        };
        let hooks = one.hooks.iter().map(|hook| {
            let mut shown = json!({"hookId": hook.id, "status": hook.status, "expiresAt": stamp(hook.expires),
                "targetType": if hook.function.is_some() { "AWS_LAMBDA" } else { "PAUSE" },
                "timeoutAction": hook.on_timeout.word()});
            let scope = service.map(|service| service.scope.clone()).unwrap_or_default();
            let arn = hook
                .function
                .as_ref()
                .map(|name| json!(format!("arn:aws:lambda:{}:{}:function:{name}", scope.1, scope.0)));
            put(&mut shown, "targetArn", arn);
            shown
        });
        let mut shown = json!({"serviceDeploymentArn": one.arn, "serviceArn": one.service, "createdAt": stamp(one.created),
            "status": one.status, "targetServiceRevision": counts(&one.target, one.traffic),
            "sourceServiceRevisions": one.source.iter().map(|source| counts(source, 100 - one.traffic)).collect::<Vec<_>>(),
            "lifecycleHookDetails": hooks.collect::<Vec<_>>(),
            "alarms": {"status": if one.alarms.is_empty() { "DISABLED" } else { "TRIGGERED" }, "alarmNames": one.alarms,
                "triggeredAlarmNames": one.alarms}});
        put(&mut shown, "statusReason", one.reason.clone().map(Value::from));
        put(&mut shown, "lifecycleStage", one.stage.map(|stage| json!(STAGES[stage])));
        put(&mut shown, "startedAt", one.started.map(stamp));
        put(&mut shown, "finishedAt", one.finished.map(stamp));
        let rollback = one
            .rollback
            .as_ref()
            .map(|(at, why)| json!({"startedAt": stamp(*at), "reason": why, "serviceRevisionArn": one.source}));
        put(&mut shown, "rollback", rollback);
        if let Some(rollout) = service.and_then(|service| service.rollout.as_ref()) {
            shown["deploymentConfiguration"] = shown_configuration(rollout);
            let breaker = rollout.circuit_breaker.map(|breaker| {
                json!({"status": "MONITORING", "failureCount": self.failures(one), "threshold": breaker.threshold})
            });
            put(&mut shown, "deploymentCircuitBreaker", breaker);
        }
        shown
    }

    fn shown_revision(&self, arn: &str, revision: &Revision) -> Value {
        let scope = self.ecs.services.get(&revision.service).map(|service| service.scope.clone()).unwrap_or_default();
        let defined =
            self.definition(&scope, &revision.definition).ok().and_then(|one| one.get("containerDefinitions"));
        let containers = defined.and_then(Value::as_array).into_iter().flatten();
        let images = containers.map(|one| json!({"containerName": one["name"], "image": one["image"]}));
        json!({"serviceRevisionArn": arn, "serviceArn": revision.service, "taskDefinition": revision.definition,
            "launchType": "FARGATE", "createdAt": stamp(revision.created), "containerImages": if self.now.since(revision.created) < self.lateness().images { Vec::new() } else { images.collect::<Vec<_>>() }})
    }
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

fn at_most(most: usize, list: &[String]) -> Result<(), Fault> {
    match list.len() {
        0 => Err(Fault::new("InvalidParameterException", "No ARN was given.")),
        len if len > most => Err(Fault::new("InvalidParameterException", format!("{len} ARNs; {most} are allowed."))),
        _ => Ok(()),
    }
}

fn failures(missing: &[&String]) -> Vec<Value> {
    missing.iter().map(|arn| json!({"arn": arn, "reason": "MISSING"})).collect()
}

fn minutes(span: Span) -> u64 {
    span.0.as_secs().div_ceil(60)
}

/// A service's `deploymentConfiguration`.
pub(in crate::world) fn shown_configuration(rollout: &account::Rollout) -> Value {
    let hooks = rollout.lifecycle_hooks.iter().map(|hook| {
        let timeout = json!({"timeoutInMinutes": minutes(hook.timeout).max(1), "action": hook.on_timeout.word()});
        match &hook.function {
            None => json!({"targetType": "PAUSE", "lifecycleStages": hook.stages, "timeoutConfiguration": timeout}),
            Some(name) => json!({"targetType": "AWS_LAMBDA", "lifecycleStages": hook.stages,
                "hookTargetArn": format!("arn:aws:lambda:us-east-1:111122223333:function:{name}"),
                "roleArn": "arn:aws:iam::111122223333:role/hooks"}),
        }
    });
    let hooks: Vec<_> = hooks.collect();
    let mut shown = json!({"strategy": rollout.strategy.word(), "maximumPercent": 200, "minimumHealthyPercent": 100});
    if rollout.strategy != Strategy::Rolling {
        shown["bakeTimeInMinutes"] = minutes(rollout.bake_time).into();
        shown["lifecycleHooks"] = hooks.into();
    }
    let percent = f64::from(rollout.step_percent);
    let bake = minutes(rollout.step_bake_time);
    match rollout.strategy {
        Strategy::Linear => {
            shown["linearConfiguration"] = json!({"stepPercent": percent, "stepBakeTimeInMinutes": bake})
        }
        Strategy::Canary => {
            shown["canaryConfiguration"] = json!({"canaryPercent": percent, "canaryBakeTimeInMinutes": bake})
        }
        Strategy::BlueGreen | Strategy::Rolling => {}
    }
    if let Some(breaker) = rollout.circuit_breaker {
        shown["deploymentCircuitBreaker"] = json!({"enable": true, "rollback": breaker.rollback});
    }
    if !rollout.alarms.is_empty() {
        shown["alarms"] = json!({"alarmNames": rollout.alarms, "enable": true, "rollback": true});
    }
    shown
}

/// Where hooks may stand: PAUSE hooks not in the midst of traffic (fact 46).
fn read_hook(given: &Value, known: &[LifecycleHook]) -> Result<LifecycleHook, Fault> {
    let wrong = |why: String| Fault::new("InvalidParameterException", why);
    let stages: Vec<String> = given["lifecycleStages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|stage| stage.as_str().map(str::to_owned))
        .collect();
    let function = given["hookTargetArn"].as_str().map(|arn| arn.rsplit(':').next().unwrap_or(arn).to_owned());
    let pauses = given["targetType"] == "PAUSE";
    if stages.is_empty() || pauses == function.is_some() {
        return Err(wrong(format!("A lifecycle hook needs stages, and a target unless it is a PAUSE hook: {given}")));
    }
    let in_traffic = ["TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"];
    if pauses && stages.iter().any(|stage| in_traffic.contains(&stage.as_str())) {
        return Err(wrong("PAUSE hooks cannot be configured at this stage.".into()));
    }
    let minutes = given.pointer("/timeoutConfiguration/timeoutInMinutes").and_then(Value::as_u64).unwrap_or(1440);
    if !(1..=20_160).contains(&minutes) {
        return Err(wrong(format!("timeoutInMinutes is {minutes}; 1 to 20160 are allowed.")));
    }
    // What it had before keeps its own, shorter time.
    let had = known.iter().find(|hook| hook.stages == stages && hook.function == function);
    let on_timeout = match given.pointer("/timeoutConfiguration/action").and_then(Value::as_str) {
        Some("CONTINUE") => OnTimeout::Continue,
        _ => OnTimeout::Rollback,
    };
    let timeout = had.map_or(Span(Duration::from_secs(60 * minutes)), |hook| hook.timeout);
    Ok(LifecycleHook { stages, function, timeout, on_timeout })
}
