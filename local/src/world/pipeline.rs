//! CodePipeline's engine: executions move through stages, stages through run orders, actions through jobs.
//!
//! Invariants: an action that has ended never changes again; a stage holds one execution at a time unless the pipeline
//! is PARALLEL; whatever changes state is told to EventBridge.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use shared::Time;

use super::jobs::{Job, JobStatus};
use super::{Effect, Made, Timer, World};
use crate::Mistake;
use crate::template::{self, Action, ActionType, ExecutionMode};

/// The pipelines of the stack and all that became of them; the first is the one that releases.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) declared: Vec<template::Pipeline>,
    pub(super) types: Vec<ActionType>,
    pub(super) executions: Vec<Execution>,
    pub(super) actions: Vec<ActionExecution>,
    pub(super) stages: Vec<Vec<StageState>>,
    pub(super) jobs: BTreeMap<String, Job>,
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

/// How long an approval waits unless the action says otherwise (fact 14).
const APPROVAL: Duration = Duration::from_secs(7 * 24 * 3600);

impl Pipeline {
    pub(super) fn new(declared: Vec<template::Pipeline>, types: Vec<ActionType>) -> Result<Self, Mistake> {
        let stages = declared.iter().map(|one| vec![StageState::default(); one.stages.len()]).collect();
        let pipeline =
            Self { declared, types, executions: Vec::new(), actions: Vec::new(), stages, jobs: BTreeMap::new() };
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

    fn tell_pipeline(&mut self, execution: &str, status: ExecutionStatus) {
        let pipeline = self.pipeline.of(execution);
        let detail = json!({"pipeline": self.pipeline.declared[pipeline].name, "execution-id": execution,
            "state": status.event(), "version": 1.0});
        self.emit(pipeline, "CodePipeline Pipeline Execution State Change", detail);
    }

    fn tell_stage(&mut self, execution: &str, stage: usize, state: &str) {
        let pipeline = self.pipeline.of(execution);
        let declared = &self.pipeline.declared[pipeline];
        let detail = json!({"pipeline": declared.name, "execution-id": execution, "stage": declared.stages[stage].name,
            "state": state, "version": 1.0});
        self.emit(pipeline, "CodePipeline Stage Execution State Change", detail);
    }

    fn tell_action(&mut self, id: &str) {
        let Some(one) = self.pipeline.action(id) else { return };
        let action = self.pipeline.action_of(one);
        let kind = &action.action_type_id;
        let pipeline = one.pipeline;
        let mut detail = json!({"pipeline": self.pipeline.declared_of(one).name, "execution-id": one.execution,
            "stage": self.pipeline.stage_of(one).name, "action": action.name,
            "action-execution-id": one.id, "state": one.status.event(), "region": self.region, "version": 1.0,
            "type": {"owner": kind.owner, "category": kind.category, "provider": kind.provider, "version": kind.version}});
        if let Some((code, message)) = &one.error {
            detail["execution-result"] = json!({"external-execution-summary": message, "external-execution-id": one.external_id, "error-code": code});
        }
        self.emit(pipeline, "CodePipeline Action Execution State Change", detail);
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

    fn begin_action(&mut self, execution: &str, stage: usize, at: usize) {
        let id = self.uuid();
        let pipeline = self.pipeline.of(execution);
        let action = self.pipeline.declared[pipeline].stages[stage].actions[at].clone();
        let resolved = self.resolve(execution, &action);
        self.pipeline.actions.push(ActionExecution {
            id: id.clone(),
            execution: execution.to_owned(),
            pipeline,
            stage,
            action: at,
            status: ActionStatus::InProgress,
            started: self.now,
            updated: self.now,
            configuration: resolved.clone().unwrap_or_default(),
            summary: None,
            percent: None,
            external_id: None,
            error: None,
            token: None,
            variables: BTreeMap::new(),
        });
        self.tell_action(&id);
        if let Err(why) = resolved {
            return self.fail_action(&id, "ConfigurationError", &why);
        }
        let kind = &action.action_type_id;
        match (kind.owner.as_str(), kind.category.as_str()) {
            ("AWS", "Source") if kind.provider == "S3" => self.fetch_object(&id),
            ("AWS", "Source") => self.effects.push(Effect::FetchSource { action: id }),
            ("AWS", "Build") => {
                let revision = self.pipeline.execution(execution).and_then(|one| one.revision.clone());
                let commit = revision.map(|made| made.revision).unwrap_or_default();
                self.effects.push(Effect::Build { action: id, commit });
            }
            ("AWS", "Approval") => {
                let token = self.uuid();
                if let Some(one) = self.pipeline.action_mut(&id) {
                    one.token = Some(token);
                }
                let wait = action.timeout_in_minutes.map_or(APPROVAL, |minutes| Duration::from_secs(60 * minutes));
                self.after(wait, Timer::Approval(id));
            }
            _ => self.create_job(&id, None, Duration::ZERO),
        }
    }

    /// The configuration with its `#{namespace.variable}` replaced.
    fn resolve(&self, execution: &str, action: &Action) -> Result<BTreeMap<String, String>, String> {
        let one = self.pipeline.execution(execution);
        let value = |name: &str| match name.split_once('.') {
            Some(("codepipeline", "PipelineExecutionId")) => Some(execution.to_owned()),
            Some((namespace, variable)) => one?.variables.get(namespace)?.get(variable).cloned(),
            None => None,
        };
        let mut resolved = BTreeMap::new();
        for (name, raw) in &action.configuration {
            let raw = raw.as_str().map_or_else(|| raw.to_string(), str::to_owned);
            let mut text = String::new();
            let mut rest = raw.as_str();
            while let Some(begin) = rest.find("#{") {
                let end = rest[begin..].find('}').map_or(rest.len(), |end| begin + end);
                let variable = &rest[begin + 2..end];
                let found = value(variable);
                text.push_str(&rest[..begin]);
                text.push_str(
                    &found.ok_or_else(|| format!("The variable #{{{variable}}} in {name} cannot be resolved."))?,
                );
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            text.push_str(rest);
            resolved.insert(name.clone(), text);
        }
        Ok(resolved)
    }

    /// Where an action's artifacts are, as `ListActionExecutions` shows them.
    pub(super) fn shown_artifacts(&self, one: &ActionExecution, named: &[template::Named]) -> Value {
        let artifacts = self.pipeline.execution(&one.execution).map(|execution| &execution.artifacts);
        let shown = named.iter().filter_map(|named| {
            let found = artifacts?.get(&named.name)?;
            let bucket = &self.pipeline.declared_of(one).artifact_store.location;
            Some(json!({"name": named.name, "s3location": {"bucket": bucket, "key": found.key}}))
        });
        shown.collect::<Vec<_>>().into()
    }

    pub(super) fn fail_action(&mut self, id: &str, code: &str, message: &str) {
        if let Some(one) = self.pipeline.action_mut(id) {
            one.error = Some((code.to_owned(), message.to_owned()));
        }
        self.end_action(id, ActionStatus::Failed);
    }

    /// An action has ended: when it was the last of its run order, the execution moves on.
    pub(super) fn end_action(&mut self, id: &str, status: ActionStatus) {
        let now = self.now;
        let Some(one) = self.pipeline.action_mut(id).filter(|one| one.status == ActionStatus::InProgress) else {
            return;
        };
        one.status = status;
        one.updated = now;
        let (execution, stage) = (one.execution.clone(), one.stage);
        let variables = one.variables.clone();
        for job in self.pipeline.jobs.values_mut().filter(|job| job.action == id) {
            job.status = JobStatus::Over;
        }
        self.tell_action(id);
        if status == ActionStatus::Succeeded {
            let namespace = self.pipeline.action(id).and_then(|one| self.pipeline.action_of(one).namespace.clone());
            if let (Some(namespace), Some(one)) = (namespace, self.pipeline.execution_mut(&execution)) {
                one.variables.insert(namespace, variables);
            }
        }
        if status != ActionStatus::Abandoned {
            self.after_action(&execution, stage);
        }
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

    pub(super) fn approval_timed_out(&mut self, id: &str) {
        self.fail_action(id, "TimeoutError", "The approval was not given in time.");
    }

    /// A source or build action has ended.
    pub(super) fn worked(&mut self, id: &str, result: Result<Made, String>) {
        let Some(one) = self.pipeline.action(id).filter(|one| one.status == ActionStatus::InProgress).cloned() else {
            return;
        };
        let made = match result {
            Ok(made) => made,
            Err(why) => return self.fail_action(id, "JobFailed", &why),
        };
        let action = self.pipeline.action_of(&one).clone();
        let bucket = self.pipeline.declared_of(&one).artifact_store.location.clone();
        for output in &action.output_artifacts {
            let unique = self.hex();
            let key = format!("{}/{}/{}", self.pipeline.declared_of(&one).name, output.name, &unique[..7]);
            self.s3.put(&bucket, &key, made.artifact.clone(), self.now);
            if let Some(execution) = self.pipeline.execution_mut(&one.execution) {
                let artifact = Artifact { key, revision: made.revision.clone() };
                execution.artifacts.insert(output.name.clone(), artifact);
            }
        }
        if action.action_type_id.category == "Source"
            && let Some(execution) = self.pipeline.execution_mut(&one.execution)
        {
            execution.revision = Some(Made { artifact: Vec::new(), ..made.clone() });
        }
        if let Some(one) = self.pipeline.action_mut(id) {
            one.summary = Some(made.summary);
            one.variables = made.variables;
        }
        self.end_action(id, ActionStatus::Succeeded);
    }

    /// A source action of S3's: what its key leads to, or the one that was given at the start (fact 55).
    fn fetch_object(&mut self, id: &str) {
        let Some(one) = self.pipeline.action(id).cloned() else { return };
        let name = self.pipeline.action_of(&one).name.clone();
        let setting = |name: &str| one.configuration.get(name).cloned().unwrap_or_default();
        let given =
            self.pipeline.execution(&one.execution).and_then(|execution| execution.overrides.get(&name).cloned());
        let (bucket, key) = (setting("S3Bucket"), given.unwrap_or_else(|| setting("S3ObjectKey")));
        let result = match self.s3.content(&bucket, &key) {
            Some((artifact, etag)) => Ok(Made {
                artifact,
                revision: etag.clone(),
                summary: format!("Amazon S3 version id: {etag}"),
                variables: [("BucketName", bucket), ("ObjectKey", key), ("ETag", etag)]
                    .map(|(name, value)| (name.to_owned(), value))
                    .into(),
            }),
            None => Err(format!(
                "The specified S3 object {key} in bucket {bucket} cannot be read: make sure that it exists and that the role may read it."
            )),
        };
        self.worked(id, result);
    }
}
