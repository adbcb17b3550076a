//! What whoever plays this world asks it about its executions, beside AWS's operations.

use std::collections::BTreeMap;

use shared::Time;

use super::{ActionExecution, ActionStatus, ExecutionStatus};
use crate::world::{Timer, World};

/// What a person sees of an action.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionView {
    /// The stage's name.
    pub stage: String,
    /// The action's name.
    pub action: String,
    /// The action's provider.
    pub provider: String,
    /// The id of this run of it.
    pub id: String,
    /// How it stands.
    pub status: ActionStatus,
    /// When it began.
    pub started: Time,
    /// When it changed last.
    pub updated: Time,
    /// What it says of itself.
    pub summary: String,
    /// Why it failed.
    pub error: Option<String>,
    /// What answers it, when it is an approval that waits.
    pub approval: Option<String>,
    /// What an approval tells the person who is asked.
    pub custom_data: Option<String>,
}

impl World {
    /// How an execution stands.
    #[must_use]
    pub fn status(&self, execution: &str) -> Option<ExecutionStatus> {
        self.pipeline.execution(execution).map(|one| one.status)
    }

    /// The actions of an execution so far, in the order in which they began.
    #[must_use]
    pub fn actions(&self, execution: &str) -> Vec<ActionView> {
        let own = self.pipeline.actions.iter().filter(|one| one.execution == execution);
        let view = |one: &ActionExecution| {
            let action = self.pipeline.action_of(one);
            ActionView {
                stage: self.pipeline.stage_of(one).name.clone(),
                action: action.name.clone(),
                provider: action.action_type_id.provider.clone(),
                id: one.id.clone(),
                status: one.status,
                started: one.started,
                updated: one.updated,
                summary: one.summary.clone().unwrap_or_default(),
                error: one.error.as_ref().map(|(_, message)| message.clone()),
                approval: one.token.clone().filter(|_| one.status == ActionStatus::InProgress),
                custom_data: one.configuration.get("CustomData").cloned(),
            }
        };
        own.map(view).collect()
    }

    /// The output variables of an execution's actions, by namespace.
    #[must_use]
    pub fn variables(&self, execution: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        self.pipeline.execution(execution).map(|one| one.variables.clone()).unwrap_or_default()
    }

    /// Whether nothing that an execution started is under way: no task of it, no deployment that has not moved its
    /// traffic, no function that has not answered yet.
    #[must_use]
    pub fn is_quiet(&self, execution: &str) -> bool {
        let tasks = self.tasks().all(|task| task.is_over() || !task.started_by.contains(execution));
        let events = self.timers.values().any(|timer| matches!(timer, Timer::Deliver(_)));
        tasks && !events && self.invocations() == 0 && !self.is_deploying()
    }

    /// The same, but for `halt-release`, which looks for a while longer whether something appears: this world knows that
    /// nothing will.
    #[must_use]
    pub fn is_still(&self, execution: &str) -> bool {
        let tasks = self.tasks().all(|task| task.is_over() || !task.started_by.contains(execution));
        tasks && self.invocations_but("halt-release") == 0 && !self.is_deploying()
    }

    /// Whether anything was released.
    #[must_use]
    pub fn has_executions(&self) -> bool {
        !self.pipeline.executions.is_empty()
    }

    /// The oldest execution that is under way.
    #[must_use]
    pub fn first_under_way(&self) -> Option<String> {
        self.pipeline.executions.iter().find(|one| !one.status.is_over()).map(|one| one.id.clone())
    }

    /// The pipeline's name.
    #[must_use]
    pub fn pipeline_name(&self) -> &str {
        &self.pipeline.declared[0].name
    }

    /// The name of the pipeline that an execution is of.
    #[must_use]
    pub fn pipeline_of(&self, execution: &str) -> &str {
        &self.pipeline.declared[self.pipeline.of(execution)].name
    }

    /// The names of all pipelines, that which releases first.
    #[must_use]
    pub fn pipeline_names(&self) -> Vec<String> {
        self.pipeline.declared.iter().map(|one| one.name.clone()).collect()
    }
}
