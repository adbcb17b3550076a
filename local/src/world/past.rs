//! What was so a while ago: AWS's reads lag behind its writes.
//!
//! Invariant: without a lag, nothing is remembered and everything is shown as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::Time;

use super::World;
use super::codedeploy::Deployment;
use super::ecs::Task;
use super::pipeline::{ActionExecution, ExecutionStatus};
use super::rollouts::Rollout;

/// How late AWS shows what it has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lateness {
    /// A new deployment, in a list.
    pub listed: Duration,
    /// The rollback, in the deployment that it rolls back.
    pub rollback: Duration,
    /// How a deployment and its target stand.
    pub statuses: Duration,
    /// A new task, in lists.
    pub tasks: Duration,
    /// A new task, in descriptions.
    pub described: Duration,
    /// What a task is to be, by which lists are filtered.
    pub task_lists: Duration,
    /// How a task stands, in descriptions.
    pub task_statuses: Duration,
    /// How an execution and its actions stand.
    pub executions: Duration,
    /// The job of a continuation.
    pub continuations: Duration,
    /// The images of a new service revision: ECS names none before it has resolved them.
    pub images: Duration,
}

/// What things were like, each with since when.
#[derive(Debug)]
pub(super) struct Past<T>(BTreeMap<String, Vec<(Time, T)>>);

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone + PartialEq> Past<T> {
    fn remember(&mut self, id: &str, is: &T, now: Time) {
        let known = self.0.entry(id.to_owned()).or_default();
        if known.last().is_none_or(|(_, was)| was != is) {
            known.push((now, is.clone()));
        }
    }

    /// What it was at this time, if it was there.
    fn at(&self, id: &str, time: Time) -> Option<&T> {
        self.0.get(id)?.iter().rev().find(|(since, _)| *since <= time).map(|(_, was)| was)
    }

    /// What it was first.
    fn first(&self, id: &str) -> Option<&T> {
        self.0.get(id)?.first().map(|(_, was)| was)
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Pasts {
    lateness: Lateness,
    deployments: Past<Deployment>,
    rollouts: Past<Rollout>,
    tasks: Past<Task>,
    executions: Past<ExecutionStatus>,
    actions: Past<ActionExecution>,
}

impl World {
    /// Shows what AWS does later than it does it.
    pub fn set_lateness(&mut self, lateness: Lateness) {
        self.past.lateness = lateness;
    }

    pub(super) fn lateness(&self) -> Lateness {
        self.past.lateness
    }

    /// Takes note of how everything is now.
    pub(super) fn remember(&mut self) {
        let (now, past) = (self.now, &mut self.past);
        if !past.lateness.statuses.is_zero() {
            for (id, one) in &self.codedeploy.deployments {
                past.deployments.remember(id, one, now);
            }
            for (arn, one) in &self.ecs.rollouts.all {
                past.rollouts.remember(arn, one, now);
            }
        }
        if !past.lateness.task_lists.is_zero() || !past.lateness.task_statuses.is_zero() {
            for (arn, one) in &self.ecs.tasks {
                past.tasks.remember(arn, one, now);
            }
        }
        if !past.lateness.executions.is_zero() {
            for one in &self.pipeline.executions {
                past.executions.remember(&one.id, &one.status, now);
            }
            for one in &self.pipeline.actions {
                past.actions.remember(&one.id, one, now);
            }
        }
    }

    /// A deployment as it is shown: one that is asked for by its id is found at once.
    pub(super) fn as_shown<'a>(&'a self, one: &'a Deployment) -> &'a Deployment {
        let lag = self.past.lateness.statuses;
        if lag.is_zero() {
            return one;
        }
        let past = &self.past.deployments;
        past.at(&one.id, self.now.before(lag)).or_else(|| past.first(&one.id)).unwrap_or(one)
    }

    /// The same of a service deployment.
    pub(super) fn rollout_as_shown<'a>(&'a self, one: &'a Rollout) -> &'a Rollout {
        let lag = self.past.lateness.statuses;
        if lag.is_zero() {
            return one;
        }
        let past = &self.past.rollouts;
        past.at(&one.arn, self.now.before(lag)).or_else(|| past.first(&one.arn)).unwrap_or(one)
    }

    /// A task as lists have it.
    pub(super) fn task_as_listed<'a>(&'a self, one: &'a Task) -> &'a Task {
        self.task_before(one, self.past.lateness.task_lists)
    }

    /// A task as it is described.
    pub(super) fn task_as_described<'a>(&'a self, one: &'a Task) -> &'a Task {
        self.task_before(one, self.past.lateness.task_statuses)
    }

    fn task_before<'a>(&'a self, one: &'a Task, lag: Duration) -> &'a Task {
        if lag.is_zero() {
            return one;
        }
        let past = &self.past.tasks;
        past.at(&one.arn, self.now.before(lag)).or_else(|| past.first(&one.arn)).unwrap_or(one)
    }

    /// An execution's status as it is shown.
    pub(super) fn status_shown(&self, execution: &str, status: ExecutionStatus) -> ExecutionStatus {
        let lag = self.past.lateness.executions;
        if lag.is_zero() {
            return status;
        }
        self.past.executions.at(execution, self.now.before(lag)).copied().unwrap_or(ExecutionStatus::InProgress)
    }

    /// A run of an action as it is shown, once it is.
    pub(super) fn run_shown<'a>(&'a self, one: &'a ActionExecution) -> Option<&'a ActionExecution> {
        let lag = self.past.lateness.executions;
        if lag.is_zero() { Some(one) } else { self.past.actions.at(&one.id, self.now.before(lag)) }
    }
}
