//! ECS's own deployments of services: rolling, blue/green, linear, canary (facts 43 to 48).
//!
//! Invariants: a service has one deployment under way; the traffic is where its weights say; a deployment that is over has
//! left one version.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;
use shared::manifest::Span;

use super::ecs::{Scope, cluster_arn, short, stamp};
use super::services::service_arn;
use super::{Effect, Fault, Request, Timer, World};
use crate::account::{self, LifecycleHook, OnTimeout, Strategy};

/// The service deployments, and the revisions that they deploy.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    pub(super) all: BTreeMap<String, Rollout>,
    revisions: BTreeMap<String, Revision>,
}

#[derive(Debug, Clone)]
struct Revision {
    service: String,
    definition: String,
    /// The task set that runs it.
    set: String,
    created: Time,
}

/// A service deployment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rollout {
    pub(super) arn: String,
    pub(super) service: String,
    source: Option<String>,
    target: String,
    pub(super) created: Time,
    started: Option<Time>,
    finished: Option<Time>,
    pub(super) status: &'static str,
    reason: Option<String>,
    stage: Option<usize>,
    /// Since when it is in this stage, and since when the traffic has stood still.
    since: Time,
    /// The new revision's share of the traffic, in percent.
    traffic: u32,
    /// Whether the step of the traffic that this stage is for was made.
    stepped: bool,
    hooks: Vec<HookRun>,
    alarms: Vec<String>,
    rollback: Option<(Time, String)>,
    /// When it got ready to move its traffic, and when it had moved all of it.
    ready: Option<Time>,
    moved: Option<Time>,
}

#[derive(Debug, Clone, PartialEq)]
struct HookRun {
    id: String,
    function: Option<String>,
    status: &'static str,
    expires: Time,
    on_timeout: OnTimeout,
}

/// The stages in order (fact 45); RECONCILE_SERVICE only comes with several revisions, which this world does not have.
const STAGES: [&str; 10] = [
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
];
const SCALE_UP: usize = 1;
const PRE_PRODUCTION: usize = 5;
const PRODUCTION: usize = 6;
const BAKE_TIME: usize = 8;
const CLEAN_UP: usize = 9;

/// How long each step of ECS's own takes here.
const STEP: Duration = Duration::from_millis(300);

/// Statuses of a deployment that is over.
const OVER: [&str; 4] = ["SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"];

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

impl Rollout {
    pub(super) fn is_over(&self) -> bool {
        OVER.contains(&self.status)
    }

    fn end(&mut self, status: &'static str, now: Time) {
        self.status = status;
        self.finished = Some(now);
    }
}

/// A service deployment, for tests and for the end of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutView {
    /// The Region.
    pub region: String,
    /// The service's name.
    pub service: String,
    /// What it deploys, as `family:revision`.
    pub definition: String,
    /// The image of its first container.
    pub image: String,
    /// Its ARN.
    pub arn: String,
    /// How it stands.
    pub status: &'static str,
    /// Where it is.
    pub stage: Option<&'static str>,
    /// The new revision's share of the traffic, in percent.
    pub traffic: u32,
    /// When it was created, and when it was over.
    pub span: (Time, Option<Time>),
    /// When it got ready to move its traffic, and when it had moved all of it.
    pub changes: (Option<Time>, Option<Time>),
}

impl World {
    /// ECS's own deployments, but for those that came with the account, in the order in which they were created.
    #[must_use]
    pub fn rollouts(&self) -> Vec<RolloutView> {
        let begun = self.ecs.rollouts.all.values().filter(|one| one.source.is_some());
        let view = |one: &Rollout| {
            let service = self.ecs.services.get(&one.service)?;
            let definition = &self.ecs.rollouts.revisions.get(&one.target)?.definition;
            let defined = self.definition(&service.scope, definition).ok()?;
            Some(RolloutView {
                region: service.scope.1.clone(),
                service: service.name.clone(),
                image: defined.pointer("/containerDefinitions/0/image")?.as_str()?.to_owned(),
                definition: short(definition).to_owned(),
                arn: one.arn.clone(),
                status: one.status,
                stage: one.stage.map(|stage| STAGES[stage]),
                traffic: one.traffic,
                span: (one.created, one.finished),
                changes: (one.ready, one.moved),
            })
        };
        let mut views: Vec<_> = begun.filter_map(view).collect();
        views.sort_by_key(|view| view.span.0);
        views
    }

    /// Whether one of ECS's own deployments has not come to where its traffic stays.
    pub(super) fn is_rolling_out(&self) -> bool {
        let moves = |one: &Rollout| !one.is_over() && (one.moved.is_none() || one.rollback.is_some());
        self.ecs.rollouts.all.values().any(moves)
    }

    /// A CloudWatch alarm goes off: what it watches is taken back.
    pub fn raise_alarm(&mut self, name: &str, now: Time) {
        self.advance(now);
        let watched = self.ecs.rollouts.all.values().filter(|one| one.status == "IN_PROGRESS").filter(|one| {
            let rollout = self.ecs.services.get(&one.service).and_then(|service| service.rollout.as_ref());
            rollout.is_some_and(|rollout| rollout.alarms.iter().any(|alarm| alarm == name))
        });
        let arns: Vec<_> = watched.map(|one| one.arn.clone()).collect();
        for arn in arns {
            if let Some(one) = self.ecs.rollouts.all.get_mut(&arn) {
                one.alarms.push(name.to_owned());
            }
            self.roll_out_back(
                &arn,
                "Service deployment rolled back because of a CloudWatch alarm that is in the ALARM state.",
            );
        }
    }

    /// The deployment that a service came with.
    pub(super) fn first_rollout(&mut self, service: &str, definition: &str, set: &str) {
        let target = self.new_revision(service, definition, set);
        let arn = self.rollout_arn(service);
        let now = self.now;
        let rollout = new_rollout(&arn, service, None, &target, now);
        let rollout =
            Rollout { status: "SUCCESSFUL", finished: Some(now), started: Some(now), traffic: 100, ..rollout };
        self.ecs.rollouts.all.insert(arn, rollout);
    }

    fn rollout_arn(&mut self, service: &str) -> String {
        format!("{}/{}", service.replace(":service/", ":service-deployment/"), self.hex())
    }

    fn new_revision(&mut self, service: &str, definition: &str, set: &str) -> String {
        let arn = format!("{}/{}", service.replace(":service/", ":service-revision/"), self.id());
        let (service, definition, set) = (service.to_owned(), definition.to_owned(), set.to_owned());
        let revision = Revision { service, definition, set, created: self.now };
        self.ecs.rollouts.revisions.insert(arn.clone(), revision);
        arn
    }

    /// A service is on its way to another task definition; a deployment that is under way is given up for it.
    pub(super) fn begin_rollout(&mut self, service: &str, definition: &str) {
        let now = self.now;
        let own = self.ecs.rollouts.all.values().filter(|one| one.service == service);
        let under_way: Vec<_> = own.clone().filter(|one| !one.is_over()).map(|one| one.arn.clone()).collect();
        // What runs now: the newest that has come to its end well.
        let is_good = |one: &&Rollout| matches!(one.status, "SUCCESSFUL" | "ROLLBACK_SUCCESSFUL");
        let good = own.filter(is_good).max_by_key(|one| (one.finished, one.created)).map(|one| match one.status {
            "SUCCESSFUL" => one.target.clone(),
            _ => one.source.clone().unwrap_or_default(),
        });
        for arn in under_way {
            if let Some(one) = self.ecs.rollouts.all.get_mut(&arn) {
                one.reason = Some("Service deployment stopped because a new deployment was started.".into());
                one.end("STOPPED", now);
                let set = self.ecs.rollouts.revisions.get(&one.target).map(|revision| revision.set.clone());
                self.scale_to_zero(service, &set.unwrap_or_default());
            }
        }
        let target = self.new_revision(service, definition, "");
        let arn = self.rollout_arn(service);
        let rollout = new_rollout(&arn, service, good, &target, now);
        self.ecs.rollouts.all.insert(arn.clone(), rollout);
        if let Some(service) = self.ecs.services.get_mut(service) {
            service.definition = definition.to_owned();
        }
        self.after(STEP, Timer::Rollout(arn));
    }

    /// Something about a service's tasks has changed: look at its deployments.
    pub(super) fn rollouts_changed(&mut self, service: &str) {
        let concerned = self.ecs.rollouts.all.values().filter(|one| one.service == service && !one.is_over());
        let arns: Vec<_> = concerned.filter(|one| one.status != "PENDING").map(|one| one.arn.clone()).collect();
        for arn in arns {
            self.step_rollout(&arn);
        }
    }

    fn set_of(&self, revision: Option<&str>) -> String {
        let revision = revision.and_then(|arn| self.ecs.rollouts.revisions.get(arn));
        revision.map(|revision| revision.set.clone()).unwrap_or_default()
    }

    fn rollout_of(&self, service: &str) -> Option<(account::Rollout, usize)> {
        let service = self.ecs.services.get(service)?;
        Some((service.rollout.clone()?, service.desired))
    }

    /// Takes a deployment as far as it can go now.
    pub(super) fn step_rollout(&mut self, arn: &str) {
        let Some(one) = self.ecs.rollouts.all.get(arn).cloned() else { return };
        let Some((how, desired)) = self.rollout_of(&one.service) else { return };
        match one.status {
            "PENDING" => {
                self.change(arn, |one, now| {
                    one.status = "IN_PROGRESS";
                    one.started = Some(now);
                    one.since = now;
                });
                match how.strategy {
                    Strategy::Rolling => {
                        self.start_new_tasks(arn);
                        self.after(STEP, Timer::Rollout(arn.to_owned()));
                    }
                    Strategy::BlueGreen | Strategy::Linear | Strategy::Canary => self.enter_stage(arn, 0),
                }
            }
            "IN_PROGRESS" => match one.stage {
                None => self.step_rolling(&one, &how, desired),
                Some(stage) => self.step_stage(&one, stage, &how, desired),
            },
            "ROLLBACK_REQUESTED" => self.begin_rollback(&one),
            "ROLLBACK_IN_PROGRESS" => {
                let (old, new) = (self.set_of(one.source.as_deref()), self.set_of(Some(&one.target)));
                let is_back = self.set_tasks(&old).1 >= desired;
                if is_back && how.strategy == Strategy::Rolling {
                    self.make_primary(&one.service, &old);
                    self.scale_to_zero(&one.service, &new);
                }
                if is_back && self.set_tasks(&new).0 == 0 {
                    self.change(arn, |one, now| one.end("ROLLBACK_SUCCESSFUL", now));
                }
            }
            _ => {}
        }
    }

    fn change(&mut self, arn: &str, change: impl FnOnce(&mut Rollout, Time)) {
        let now = self.now;
        if let Some(one) = self.ecs.rollouts.all.get_mut(arn) {
            change(one, now);
        }
    }

    fn start_new_tasks(&mut self, arn: &str) {
        let Some(one) = self.ecs.rollouts.all.get(arn).cloned() else { return };
        let Some(definition) = self.ecs.rollouts.revisions.get(&one.target).map(|to| to.definition.clone()) else {
            return;
        };
        let set = self.create_task_set(&one.service, &definition);
        if let Some(revision) = self.ecs.rollouts.revisions.get_mut(&one.target) {
            revision.set = set;
        }
    }

    /// New tasks take the place of old ones, which get traffic until they go.
    fn step_rolling(&mut self, one: &Rollout, how: &account::Rollout, desired: usize) {
        let (old, new) = (self.set_of(one.source.as_deref()), self.set_of(Some(&one.target)));
        if one.moved.is_none() {
            if self.set_tasks(&new).1 < desired {
                return self.break_circuit(one, how);
            }
            self.make_primary(&one.service, &new);
            self.change(&one.arn, |one, now| {
                one.traffic = 100;
                one.moved = Some(now);
            });
            self.scale_to_zero(&one.service, &old);
        }
        if self.set_tasks(&old).0 == 0 {
            self.change(&one.arn, |one, now| one.end("SUCCESSFUL", now));
        }
    }

    /// The circuit breaker looks at the tasks that died before the new version was up.
    fn break_circuit(&mut self, one: &Rollout, how: &account::Rollout) {
        let Some(breaker) = how.circuit_breaker.filter(|breaker| self.failures(one) >= breaker.threshold) else {
            return;
        };
        let why = "Service deployment rolled back because the circuit breaker threshold was exceeded.";
        if breaker.rollback {
            return self.roll_out_back(&one.arn, why);
        }
        self.change(&one.arn, |one, now| {
            one.reason = Some("The deployment circuit breaker was triggered: tasks failed to start.".into());
            one.end("STOPPED", now);
        });
    }

    fn failures(&self, one: &Rollout) -> u32 {
        let set = self.set_of(Some(&one.target));
        let sets = self.ecs.services.get(&one.service).map(|service| &service.sets);
        sets.and_then(|sets| sets.iter().find(|own| own.id == set)).map_or(0, |set| set.died)
    }

    /// Enters a stage: its hooks are run, and its pauses begin.
    fn enter_stage(&mut self, arn: &str, stage: usize) {
        let Some(service) = self.ecs.rollouts.all.get(arn).map(|one| one.service.clone()) else { return };
        let Some((how, _)) = self.rollout_of(&service) else { return };
        let mut hooks = Vec::new();
        for hook in how.lifecycle_hooks.iter().filter(|hook| hook.stages.iter().any(|name| name == STAGES[stage])) {
            let id = format!("ecs-{}-{}", if hook.function.is_some() { "lambda" } else { "pause" }, self.hex());
            if let Some(function) = &hook.function {
                let (function, stage) = (function.clone(), STAGES[stage].to_owned());
                self.effects.push(Effect::CallHook { id: id.clone(), function, stage });
            }
            hooks.push(HookRun {
                id,
                function: hook.function.clone(),
                status: if hook.function.is_some() { "IN_PROGRESS" } else { "AWAITING_ACTION" },
                expires: self.now.plus(hook.timeout.0),
                on_timeout: hook.on_timeout,
            });
            self.after(hook.timeout.0, Timer::Rollout(arn.to_owned()));
        }
        let waits = hooks.iter().any(|hook| hook.function.is_none());
        self.change(arn, |one, now| {
            one.stage = Some(stage);
            one.since = now;
            one.stepped = false;
            one.hooks = hooks;
            if waits && stage <= PRE_PRODUCTION && one.traffic == 0 {
                one.ready.get_or_insert(now);
            }
        });
        if stage == SCALE_UP {
            self.start_new_tasks(arn);
        }
        self.after(STEP, Timer::Rollout(arn.to_owned()));
    }

    fn step_stage(&mut self, one: &Rollout, stage: usize, how: &account::Rollout, desired: usize) {
        let now = self.now;
        let late = |hook: &&HookRun| matches!(hook.status, "AWAITING_ACTION" | "IN_PROGRESS") && hook.expires <= now;
        if let Some(hook) = one.hooks.iter().find(late).cloned() {
            self.change(&one.arn, |one, _| {
                for own in one.hooks.iter_mut().filter(|own| own.id == hook.id) {
                    own.status = "TIMED_OUT";
                }
            });
            return match hook.on_timeout {
                OnTimeout::Continue => self.step_rollout(&one.arn),
                OnTimeout::Rollback => {
                    self.roll_out_back(&one.arn, "Service deployment rolled back because a lifecycle hook timed out.");
                }
            };
        }
        if one.hooks.iter().any(|hook| hook.status == "FAILED") {
            return self.roll_out_back(&one.arn, "Service deployment rolled back because a lifecycle hook failed.");
        }
        let holds = one.hooks.iter().any(|hook| matches!(hook.status, "AWAITING_ACTION" | "IN_PROGRESS"));
        let waited = now.since(one.since);
        if holds || waited < STEP {
            return;
        }
        let (old, new) = (self.set_of(one.source.as_deref()), self.set_of(Some(&one.target)));
        match stage {
            SCALE_UP if self.set_tasks(&new).1 < desired => self.break_circuit(one, how),
            // Something died meanwhile: ECS waits for its replacement before it moves the traffic.
            PRE_PRODUCTION if self.set_tasks(&new).1 < desired => {}
            PRODUCTION => self.shift(one, &new, how, waited),
            BAKE_TIME if waited < how.bake_time.0 => {
                self.after(how.bake_time.0.saturating_sub(waited), Timer::Rollout(one.arn.clone()));
            }
            BAKE_TIME => {
                self.enter_stage(&one.arn, CLEAN_UP);
                self.scale_to_zero(&one.service, &old);
            }
            CLEAN_UP if self.set_tasks(&old).0 > 0 => {}
            CLEAN_UP => self.change(&one.arn, |one, now| one.end("SUCCESSFUL", now)),
            _ => self.enter_stage(&one.arn, stage + 1),
        }
    }

    /// Moves the traffic by a step, waits, and comes back to the stage before for the next one (fact 45).
    fn shift(&mut self, one: &Rollout, new: &str, how: &account::Rollout, waited: Duration) {
        let step = u32::from(how.step_percent).clamp(1, 100);
        let next = match how.strategy {
            Strategy::BlueGreen | Strategy::Rolling => 100,
            Strategy::Canary if one.traffic == 0 => step,
            Strategy::Canary => 100,
            Strategy::Linear => (one.traffic + step).min(100),
        };
        // The first look at this stage moves; the next one, after the pause, leaves it.
        if !one.stepped {
            let is_all = next == 100;
            self.change(&one.arn, |one, now| {
                one.traffic = next;
                one.since = now;
                one.stepped = true;
                if is_all {
                    one.moved = Some(now);
                }
            });
            match is_all {
                true => self.make_primary(&one.service, new),
                false => self.share_traffic(&one.service, new, next),
            }
            let pause = if is_all { STEP } else { how.step_bake_time.0.max(STEP) };
            return self.after(pause, Timer::Rollout(one.arn.clone()));
        }
        let pause = if one.traffic == 100 { STEP } else { how.step_bake_time.0.max(STEP) };
        if waited >= pause {
            self.enter_stage(&one.arn, if one.traffic == 100 { PRODUCTION + 1 } else { PRE_PRODUCTION });
        }
    }

    /// Takes a deployment back, for this reason.
    fn roll_out_back(&mut self, arn: &str, why: &str) {
        self.change(arn, |one, now| {
            one.status = "ROLLBACK_REQUESTED";
            one.reason = Some(why.to_owned());
            one.rollback = Some((now, why.to_owned()));
            for hook in one.hooks.iter_mut().filter(|hook| matches!(hook.status, "AWAITING_ACTION" | "IN_PROGRESS")) {
                hook.status = "FAILED";
            }
        });
        self.after(STEP, Timer::Rollout(arn.to_owned()));
    }

    fn begin_rollback(&mut self, one: &Rollout) {
        let Some((how, desired)) = self.rollout_of(&one.service) else { return };
        let Some(source) = one.source.clone() else {
            return self.change(&one.arn, |one, now| one.end("ROLLBACK_FAILED", now));
        };
        let (mut old, new) = (self.set_of(Some(&source)), self.set_of(Some(&one.target)));
        let definition = self.ecs.rollouts.revisions.get(&source).map(|revision| revision.definition.clone());
        let definition = definition.unwrap_or_default();
        if let Some(service) = self.ecs.services.get_mut(&one.service) {
            service.definition.clone_from(&definition);
            if let Some(set) = service.sets.iter_mut().find(|set| set.id == old) {
                set.desired = desired;
            }
        }
        let lives =
            self.ecs.services.get(&one.service).is_some_and(|service| service.sets.iter().any(|set| set.id == old));
        if !lives {
            old = self.create_task_set(&one.service, &definition);
            if let Some(revision) = self.ecs.rollouts.revisions.get_mut(&source) {
                revision.set.clone_from(&old);
            }
        }
        self.change(&one.arn, |one, _| {
            one.status = "ROLLBACK_IN_PROGRESS";
            one.traffic = 0;
        });
        // Its old tasks are still there: the traffic goes back at once.
        if how.strategy != Strategy::Rolling && lives {
            self.make_primary(&one.service, &old);
            self.scale_to_zero(&one.service, &new);
        }
        self.reconcile(&one.service);
        self.after(STEP, Timer::Rollout(one.arn.clone()));
    }

    /// A function of the application's own has answered.
    pub(super) fn hooked(&mut self, id: &str, result: &Result<(), String>) {
        let of = |one: &&Rollout| one.hooks.iter().any(|hook| hook.id == id);
        if let Some(arn) = self.ecs.rollouts.all.values().find(of).map(|one| one.arn.clone()) {
            self.change(&arn, |one, _| {
                for hook in one.hooks.iter_mut().filter(|hook| hook.id == id && hook.status == "IN_PROGRESS") {
                    hook.status = if result.is_ok() { "SUCCEEDED" } else { "FAILED" };
                }
            });
            return self.step_rollout(&arn);
        }
        self.codedeploy_hooked(id, result);
    }

    /// Takes up a deployment configuration: what of it can change here are the hooks.
    pub(super) fn configure_rollout(&mut self, service: &str, given: &Value) -> Result<(), Fault> {
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

    pub(super) fn rollout_operation(&mut self, name: &str, scope: &Scope, request: &Request) -> Result<Value, Fault> {
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

    fn rollout(&self, arn: &str) -> Result<&Rollout, Fault> {
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

    fn shown_rollout(&self, one: &Rollout) -> Value {
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
            "launchType": "FARGATE", "createdAt": stamp(revision.created), "containerImages": images.collect::<Vec<_>>()})
    }
}

fn new_rollout(arn: &str, service: &str, source: Option<String>, target: &str, now: Time) -> Rollout {
    Rollout {
        arn: arn.to_owned(),
        service: service.to_owned(),
        source,
        target: target.to_owned(),
        created: now,
        started: None,
        finished: None,
        status: "PENDING",
        reason: None,
        stage: None,
        since: now,
        traffic: 0,
        stepped: false,
        hooks: Vec::new(),
        alarms: Vec::new(),
        rollback: None,
        ready: None,
        moved: None,
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
pub(super) fn shown_configuration(rollout: &account::Rollout) -> Value {
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
