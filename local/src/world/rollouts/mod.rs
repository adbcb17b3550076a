//! ECS's own deployments of services: rolling, blue/green, linear, canary (facts 43 to 48).
//!
//! Invariants: a service has one deployment under way; the traffic is where its weights say; a deployment that is over has
//! left one version.

pub(super) mod api;
mod stages;

use std::collections::BTreeMap;
use std::time::Duration;

use shared::Time;

use super::ecs::short;
use super::{Timer, World};
use crate::account::{self, OnTimeout, Strategy};

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

/// What is said of a deployment that the circuit breaker has stopped, and left as it was.
const BROKE: &str = "The deployment circuit breaker was triggered: tasks failed to start.";

/// How long each step of ECS's own takes here.
const STEP: Duration = Duration::from_millis(300);

/// Statuses of a deployment that is over.
const OVER: [&str; 4] = ["SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"];

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
                one.status = "STOP_REQUESTED";
                let set = self.ecs.rollouts.revisions.get(&one.target).map(|revision| revision.set.clone());
                self.scale_to_zero(service, &set.unwrap_or_default());
            }
            self.after(STEP, Timer::Rollout(arn));
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

    /// How the rollout of a set of tasks stands: FAILED of one that the circuit breaker has stopped and left.
    pub(super) fn rollout_state(&self, set: &str) -> &'static str {
        let is_its = |one: &&Rollout| self.set_of(Some(&one.target)) == set;
        match self.ecs.rollouts.all.values().filter(is_its).max_by_key(|one| one.created) {
            Some(one) if one.reason.as_deref() == Some(BROKE) => "FAILED",
            Some(one) if !one.is_over() => "IN_PROGRESS",
            Some(_) | None => "COMPLETED",
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
            "STOP_REQUESTED" => self.change(arn, |one, now| one.end("STOPPED", now)),
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
        let set = self.create_task_set(&one.service, &definition, Vec::new());
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
        self.change(&one.arn, |one, _| {
            one.reason = Some(BROKE.into());
            one.status = "STOP_REQUESTED";
        });
        self.after(STEP, Timer::Rollout(one.arn.clone()));
    }

    fn failures(&self, one: &Rollout) -> u32 {
        let set = self.set_of(Some(&one.target));
        let sets = self.ecs.services.get(&one.service).map(|service| &service.sets);
        sets.and_then(|sets| sets.iter().find(|own| own.id == set)).map_or(0, |set| set.died)
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
