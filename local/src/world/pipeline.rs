//! CodePipeline's engine: executions move through stages, stages through run orders, actions through jobs.
//!
//! Invariants: an action that has ended never changes again; a stage holds one execution at a time unless the pipeline
//! is PARALLEL; whatever changes state is told to EventBridge.

mod actions;
mod asked;
mod told;

use std::collections::{BTreeMap, VecDeque};

use shared::Time;

pub use self::asked::ActionView;
use super::jobs::Job;
use super::{Made, World};
use crate::Mistake;
use crate::template::{self, Action, ActionType, ExecutionMode};

/// The pipelines of the stack and all that became of them; the first is the one that releases.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    pub(super) declared: Vec<template::Pipeline>,
    pub(super) types: Vec<ActionType>,
    pub(super) executions: Vec<Execution>,
    pub(super) actions: Vec<ActionExecution>,
    pub(super) stages: Vec<Vec<StageState>>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) keeps_job_ids: bool,
    pub(super) renews_nonces: bool,
}

/// Who is in a stage.
#[derive(Debug, Default, Clone)]
pub(super) struct StageState {
    pub(super) inside: Option<String>,
    pub(super) waiting: VecDeque<String>,
    /// Who was in it last: only that one can be retried.
    pub(super) latest: Option<String>,
    /// Runs before this one do not count any more: the whole stage was retried.
    counts_from: usize,
}

/// How an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// Under way.
    InProgress,
    /// Waiting for its actions to end, then stopped.
    Stopping,
    /// Stopped by a person.
    Stopped,
    /// All stages have succeeded.
    Succeeded,
    /// An action has failed.
    Failed,
    /// Replaced by a newer one while it waited.
    Superseded,
}

impl ExecutionStatus {
    /// As CodePipeline writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Superseded => "Superseded",
        }
    }

    /// Whether nothing of it is under way.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::InProgress | Self::Stopping)
    }

    fn event(self) -> &'static str {
        match self {
            Self::InProgress => "STARTED",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Superseded => "SUPERSEDED",
        }
    }
}

/// A pipeline execution.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) id: String,
    /// Of which pipeline it is.
    pub(super) pipeline: usize,
    /// What was given at its start instead of what a source action's configuration says, by action.
    pub(super) overrides: BTreeMap<String, String>,
    pub(super) status: ExecutionStatus,
    pub(super) summary: String,
    /// What the person said who stopped it.
    pub(super) stop_reason: Option<String>,
    pub(super) started: Time,
    pub(super) updated: Time,
    stage: usize,
    pub(super) artifacts: BTreeMap<String, Artifact>,
    variables: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) revision: Option<Made>,
}

/// Where an artifact is.
#[derive(Debug, Clone)]
pub(super) struct Artifact {
    pub(super) key: String,
    pub(super) revision: String,
}

/// How an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionStatus {
    /// Under way.
    InProgress,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// Given up by a person who stopped the pipeline (fact 11).
    Abandoned,
}

impl ActionStatus {
    /// As CodePipeline writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Abandoned => "Abandoned",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::InProgress => "STARTED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Abandoned => "ABANDONED",
        }
    }
}

/// One run of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ActionExecution {
    pub(super) id: String,
    pub(super) execution: String,
    pub(super) pipeline: usize,
    pub(super) stage: usize,
    pub(super) action: usize,
    pub(super) status: ActionStatus,
    pub(super) started: Time,
    pub(super) updated: Time,
    pub(super) configuration: BTreeMap<String, String>,
    pub(super) summary: Option<String>,
    pub(super) percent: Option<u64>,
    pub(super) external_id: Option<String>,
    pub(super) error: Option<(String, String)>,
    /// What answers an approval.
    pub(super) token: Option<String>,
    pub(super) variables: BTreeMap<String, String>,
}

impl Pipeline {
    pub(super) fn new(declared: Vec<template::Pipeline>, types: Vec<ActionType>) -> Result<Self, Mistake> {
        let stages = declared.iter().map(|one| vec![StageState::default(); one.stages.len()]).collect();
        let pipeline = Self { declared, types, stages, ..Self::default() };
        for stage in pipeline.declared.iter().flat_map(|one| &one.stages) {
            for action in &stage.actions {
                pipeline.check(action).map_err(|why| {
                    Mistake(format!("template.yaml: pipeline stage {}, action {}: {why}", stage.name, action.name))
                })?;
            }
        }
        Ok(pipeline)
    }

    /// What CodePipeline would refuse when the pipeline is created.
    fn check(&self, action: &Action) -> Result<(), String> {
        let id = &action.action_type_id;
        match (id.owner.as_str(), id.category.as_str(), id.provider.as_str()) {
            ("AWS", "Source", "CodeStarSourceConnection" | "S3")
            | ("AWS", "Build", "CodeBuild")
            | ("AWS", "Approval", "Manual")
            | ("AWS", "Invoke", "Lambda") => return Ok(()),
            ("Custom", _, _) => {}
            _ => return Err(format!("{} {} {} is not known here", id.owner, id.category, id.provider)),
        }
        let known = self
            .types
            .iter()
            .find(|one| one.category == id.category && one.provider == id.provider && one.version == id.version);
        let known = known.ok_or_else(|| format!("there is no custom action type {} {}", id.provider, id.version))?;
        let names: Vec<_> = known.configuration_properties.iter().map(|property| property.name.as_str()).collect();
        if let Some(unknown) = action.configuration.keys().find(|name| !names.contains(&name.as_str())) {
            return Err(shared::text::unknown("configuration property", unknown, names.iter().copied()));
        }
        let required = known.configuration_properties.iter().filter(|property| property.required);
        for property in required {
            if !action.configuration.contains_key(&property.name) {
                return Err(format!("the configuration property `{}` is required", property.name));
            }
        }
        let inputs = known.input_artifact_details;
        if !(inputs.minimum_count..=inputs.maximum_count).contains(&action.input_artifacts.len()) {
            return Err(format!("it takes {} to {} input artifacts", inputs.minimum_count, inputs.maximum_count));
        }
        Ok(())
    }

    /// Which of the pipelines an execution is of.
    pub(super) fn of(&self, execution: &str) -> usize {
        self.execution(execution).map_or(0, |one| one.pipeline)
    }

    /// The pipeline of this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.declared.iter().position(|one| one.name == name)
    }

    pub(super) fn arn(&self, pipeline: usize, region: &str, account: &str) -> String {
        format!("arn:aws:codepipeline:{region}:{account}:{}", self.declared[pipeline].name)
    }

    pub(super) fn declared_of(&self, one: &ActionExecution) -> &template::Pipeline {
        &self.declared[one.pipeline]
    }

    pub(super) fn stage_of(&self, one: &ActionExecution) -> &template::Stage {
        &self.declared_of(one).stages[one.stage]
    }

    pub(super) fn action_of(&self, one: &ActionExecution) -> &Action {
        &self.stage_of(one).actions[one.action]
    }

    pub(super) fn type_of(&self, action: &Action) -> Option<&ActionType> {
        let id = &action.action_type_id;
        self.types.iter().find(|one| one.provider == id.provider && one.version == id.version)
    }

    pub(super) fn execution(&self, id: &str) -> Option<&Execution> {
        self.executions.iter().find(|one| one.id == id)
    }

    fn execution_mut(&mut self, id: &str) -> Option<&mut Execution> {
        self.executions.iter_mut().find(|one| one.id == id)
    }

    pub(super) fn action(&self, id: &str) -> Option<&ActionExecution> {
        self.actions.iter().find(|one| one.id == id)
    }

    pub(super) fn action_mut(&mut self, id: &str) -> Option<&mut ActionExecution> {
        self.actions.iter_mut().find(|one| one.id == id)
    }

    /// The newest runs of the actions of a stage, by the action's place.
    fn latest_in(&self, execution: &str, stage: usize) -> BTreeMap<usize, &ActionExecution> {
        let counted = self.actions.iter().skip(self.stages[self.of(execution)][stage].counts_from);
        let own = counted.filter(|one| one.execution == execution && one.stage == stage);
        own.map(|one| (one.action, one)).collect()
    }
}

impl World {
    /// Starts an execution of a pipeline, and returns its id.
    pub(super) fn start_execution(
        &mut self,
        pipeline: usize,
        overrides: BTreeMap<String, String>,
        variables: BTreeMap<String, String>,
    ) -> String {
        let id = self.uuid();
        self.pipeline.executions.push(Execution {
            id: id.clone(),
            pipeline,
            overrides,
            status: ExecutionStatus::InProgress,
            summary: String::new(),
            stop_reason: None,
            started: self.now,
            updated: self.now,
            stage: 0,
            artifacts: BTreeMap::new(),
            variables: [("variables".to_owned(), variables)].into(),
            revision: None,
        });
        self.tell_pipeline(&id, ExecutionStatus::InProgress);
        self.enter(&id, 0);
        id
    }

    /// An execution comes to a stage: it enters, or waits as the execution mode has it (fact 15).
    fn enter(&mut self, execution: &str, stage: usize) {
        let pipeline = self.pipeline.of(execution);
        let mode = self.pipeline.declared[pipeline].execution_mode;
        let state = &mut self.pipeline.stages[pipeline][stage];
        let taken = state.inside.is_some() && mode != ExecutionMode::Parallel;
        if taken {
            if mode == ExecutionMode::Superseded {
                let replaced: Vec<_> = state.waiting.drain(..).collect();
                state.waiting.push_back(execution.to_owned());
                for older in replaced {
                    self.set_status(&older, ExecutionStatus::Superseded, "Replaced by a newer execution");
                }
            } else {
                state.waiting.push_back(execution.to_owned());
            }
            return;
        }
        state.inside = Some(execution.to_owned());
        state.latest = Some(execution.to_owned());
        state.counts_from = 0;
        if let Some(one) = self.pipeline.execution_mut(execution) {
            one.stage = stage;
        }
        self.tell_stage(execution, stage, "STARTED");
        self.begin_run_order(execution, stage);
    }

    /// A stage is free: whoever waits longest enters.
    fn leave(&mut self, execution: &str, stage: usize) {
        let pipeline = self.pipeline.of(execution);
        let state = &mut self.pipeline.stages[pipeline][stage];
        if state.inside.as_deref() != Some(execution) {
            return;
        }
        state.inside = None;
        if let Some(next) = state.waiting.pop_front() {
            self.enter(&next, stage);
        }
    }

    fn set_status(&mut self, execution: &str, status: ExecutionStatus, summary: &str) {
        let now = self.now;
        if let Some(one) = self.pipeline.execution_mut(execution) {
            one.status = status;
            one.updated = now;
            summary.clone_into(&mut one.summary);
        }
        self.tell_pipeline(execution, status);
    }

    /// Begins the actions of the next run order that has not succeeded yet, or ends the stage.
    fn begin_run_order(&mut self, execution: &str, stage: usize) {
        let latest = self.pipeline.latest_in(execution, stage);
        let done = |at: usize| latest.get(&at).is_some_and(|one| one.status == ActionStatus::Succeeded);
        let actions = &self.pipeline.declared[self.pipeline.of(execution)].stages[stage].actions;
        let left: Vec<_> = (0..actions.len()).filter(|at| !done(*at)).collect();
        let Some(order) = left.iter().map(|at| actions[*at].run_order).min() else {
            return self.stage_succeeded(execution, stage);
        };
        let now: Vec<_> = left.into_iter().filter(|at| actions[*at].run_order == order).collect();
        for at in now {
            self.begin_action(execution, stage, at);
        }
    }

    fn stage_succeeded(&mut self, execution: &str, stage: usize) {
        self.tell_stage(execution, stage, "SUCCEEDED");
        if stage + 1 < self.pipeline.declared[self.pipeline.of(execution)].stages.len() {
            self.enter(execution, stage + 1);
        } else {
            self.set_status(execution, ExecutionStatus::Succeeded, "");
        }
        self.leave(execution, stage);
    }

    fn after_action(&mut self, execution: &str, stage: usize) {
        let latest = self.pipeline.latest_in(execution, stage);
        let any = |status| latest.values().any(|one| one.status == status);
        // If one of several parallel actions fails, the others still run to their end (fact 15).
        if any(ActionStatus::InProgress) {
            return;
        }
        let failed = any(ActionStatus::Failed);
        let stopping = self.status(execution) == Some(ExecutionStatus::Stopping);
        match (failed, stopping) {
            (true, _) => {
                self.tell_stage(execution, stage, "FAILED");
                self.set_status(execution, ExecutionStatus::Failed, "");
                self.leave(execution, stage);
            }
            (false, true) => {
                self.tell_stage(execution, stage, "STOPPED");
                self.set_status(execution, ExecutionStatus::Stopped, "");
                self.leave(execution, stage);
            }
            (false, false) => self.begin_run_order(execution, stage),
        }
    }

    /// Stops an execution: at the end of its actions, or at once (fact 11).
    pub(super) fn stop_execution(&mut self, execution: &str, abandon: bool, reason: &str) {
        if let Some(one) = self.pipeline.execution_mut(execution) {
            one.stop_reason = Some(reason.to_owned());
        }
        if !abandon {
            self.set_status(execution, ExecutionStatus::Stopping, reason);
            return;
        }
        let running = self
            .pipeline
            .actions
            .iter()
            .filter(|one| one.execution == execution && one.status == ActionStatus::InProgress);
        let running: Vec<_> = running.map(|one| one.id.clone()).collect();
        for id in running {
            self.end_action(&id, ActionStatus::Abandoned);
        }
        for state in self.pipeline.stages.iter_mut().flatten() {
            state.waiting.retain(|waiting| waiting != execution);
        }
        let stage = self.pipeline.execution(execution).map_or(0, |one| one.stage);
        self.tell_stage(execution, stage, "STOPPED");
        self.set_status(execution, ExecutionStatus::Stopped, reason);
        self.leave(execution, stage);
    }

    /// Retries a stage that has failed or was stopped: the execution's id stays, the actions run anew (fact 13).
    pub(super) fn retry_stage(&mut self, execution: &str, stage: usize, all: bool) {
        self.set_status(execution, ExecutionStatus::InProgress, "");
        let runs = self.pipeline.actions.len();
        let pipeline = self.pipeline.of(execution);
        let state = &mut self.pipeline.stages[pipeline][stage];
        state.inside = Some(execution.to_owned());
        if all {
            state.counts_from = runs;
        }
        self.tell_stage(execution, stage, "RESUMED");
        self.begin_run_order(execution, stage);
    }
}
