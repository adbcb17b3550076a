//! CodePipeline's operations, as people, workers and functions call them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ecs::stamp;
use super::jobs::{Job, JobStatus};
use super::pipeline::{ActionExecution, ActionStatus, ExecutionStatus};
use super::{Fault, Request, World};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Name {
    #[serde(alias = "pipelineName")]
    name: String,
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Start {
    name: String,
    client_request_token: Option<String>,
    #[serde(default)]
    source_revisions: Vec<SourceRevision>,
    #[serde(default)]
    variables: Vec<Variable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SourceRevision {
    action_name: String,
    revision_type: String,
    revision_value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfExecution {
    pipeline_name: String,
    pipeline_execution_id: Option<String>,
    abandon: Option<bool>,
    reason: Option<String>,
    stage_name: Option<String>,
    retry_mode: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
    filter: Option<Filter>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    pipeline_execution_id: Option<String>,
    latest_in_pipeline_execution: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutApprovalResult {
    pipeline_name: String,
    stage_name: String,
    action_name: String,
    result: ApprovalResult,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalResult {
    summary: String,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PollForJobs {
    action_type_id: TypeId,
    max_batch_size: Option<usize>,
    query_param: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeId {
    category: String,
    owner: String,
    provider: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfJob {
    job_id: String,
    nonce: Option<String>,
    continuation_token: Option<String>,
    execution_details: Option<ExecutionDetails>,
    output_variables: Option<BTreeMap<String, String>>,
    failure_details: Option<FailureDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExecutionDetails {
    summary: Option<String>,
    external_execution_id: Option<String>,
    percent_complete: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FailureDetails {
    r#type: String,
    message: String,
    external_execution_id: Option<String>,
}

/// The longest token (fact 5).
const LONGEST_TOKEN: usize = 2048;
/// The longest summary (fact 6).
const LONGEST_SUMMARY: usize = 2048;
/// The longest failure message (fact 6).
const LONGEST_MESSAGE: usize = 5000;

fn invalid(why: impl Into<String>) -> Fault {
    Fault::new("ValidationException", why)
}

/// An empty or too long value is invalid (fact 6).
fn within(what: &str, value: Option<&String>, most: usize) -> Result<(), Fault> {
    match value {
        Some(text) if text.is_empty() || text.chars().count() > most => {
            Err(invalid(format!("{what} must have length between 1 and {most}")))
        }
        _ => Ok(()),
    }
}

impl World {
    pub(super) fn codepipeline(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        match name {
            "StartPipelineExecution" => self.start(request.input()?),
            "GetPipeline" => {
                let input: Name = request.input()?;
                let _ = input.version;
                Ok(self.shown_pipeline(self.known_pipeline(&input.name)?))
            }
            "ListPipelines" => {
                let names = self.pipeline.declared.iter().map(|one| json!({"name": one.name, "version": 1}));
                Ok(json!({"pipelines": names.collect::<Vec<_>>()}))
            }
            "ListActionTypes" => {
                #[derive(Deserialize)]
                #[serde(rename_all = "camelCase", deny_unknown_fields)]
                struct Input {
                    action_owner_filter: Option<String>,
                    region_filter: Option<String>,
                    next_token: Option<String>,
                }
                let input: Input = request.input()?;
                let _ = (input.region_filter, input.next_token);
                // Those of AWS's own are many, and nobody here asks for them.
                let wanted = input.action_owner_filter.is_none_or(|owner| owner == "Custom");
                let types = self.pipeline.types.iter().filter(|_| wanted).map(|one| {
                    let artifacts = |details: &crate::template::ArtifactDetails| {
                        json!({"minimumCount": details.minimum_count, "maximumCount": details.maximum_count})
                    };
                    json!({"id": {"category": one.category, "owner": "Custom", "provider": one.provider, "version": one.version},
                        "inputArtifactDetails": artifacts(&one.input_artifact_details),
                        "outputArtifactDetails": {"minimumCount": 0, "maximumCount": 0}})
                });
                Ok(json!({"actionTypes": types.collect::<Vec<_>>()}))
            }
            "GetPipelineState" => {
                let input: Name = request.input()?;
                Ok(self.pipeline_state(self.known_pipeline(&input.name)?))
            }
            "GetPipelineExecution" => {
                let input: OfExecution = request.input()?;
                let id = self.known_execution(&input)?;
                Ok(json!({"pipelineExecution": self.shown_execution(&id, true)}))
            }
            "ListPipelineExecutions" => {
                let input: OfExecution = request.input()?;
                let pipeline = self.known_pipeline(&input.pipeline_name)?;
                let own = self.pipeline.executions.iter().rev().filter(|one| one.pipeline == pipeline);
                let ids: Vec<_> = own.map(|one| one.id.clone()).collect();
                let shown: Vec<_> = ids.iter().map(|id| self.shown_execution(id, false)).collect();
                Ok(json!({"pipelineExecutionSummaries": shown}))
            }
            "ListActionExecutions" => self.list_action_executions(&request.input()?),
            "StopPipelineExecution" => {
                let input: OfExecution = request.input()?;
                let id = self.known_execution(&input)?;
                if self.status(&id).is_some_and(ExecutionStatus::is_over) {
                    return Err(Fault::new(
                        "PipelineExecutionNotStoppableException",
                        "The execution is not under way.",
                    ));
                }
                let reason = input.reason.unwrap_or_default();
                self.stop_execution(&id, input.abandon.unwrap_or(false), &reason);
                Ok(json!({"pipelineExecutionId": id}))
            }
            "RetryStageExecution" => self.retry(&request.input()?),
            "PutApprovalResult" => self.put_approval_result(request.input()?),
            "PollForJobs" => self.poll_for_jobs(&request.input()?),
            "AcknowledgeJob" => self.acknowledge_job(&request.input()?),
            "GetJobDetails" => {
                let input: OfJob = request.input()?;
                let job = self.job(&input.job_id)?.clone();
                Ok(json!({"jobDetails": {"id": job.id, "accountId": self.account, "data": self.job_data(&job)}}))
            }
            "PutJobSuccessResult" => self.put_job_success_result(request.input()?),
            "PutJobFailureResult" => self.put_job_failure_result(request.input()?),
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }

    fn start(&mut self, input: Start) -> Result<Value, Fault> {
        let _ = input.client_request_token;
        let pipeline = self.known_pipeline(&input.name)?;
        let mut overrides = BTreeMap::new();
        for one in input.source_revisions {
            let actions = self.pipeline.declared[pipeline].stages.iter().flat_map(|stage| &stage.actions);
            let action = actions.into_iter().find(|action| action.name == one.action_name);
            let allows = action.is_some_and(|action| {
                let allowed = action.configuration.get("AllowOverrideForS3ObjectKey");
                allowed.is_some_and(|allowed| allowed == "true" || *allowed == Value::Bool(true))
            });
            if one.revision_type != "S3_OBJECT_KEY" || !allows {
                return Err(invalid(format!("{} of {} cannot be overridden", one.revision_type, one.action_name)));
            }
            overrides.insert(one.action_name, one.revision_value);
        }
        let mut variables = BTreeMap::new();
        for declared in self.pipeline.declared[pipeline].variables.iter().flatten() {
            let given = input.variables.iter().find(|one| one.name == declared.name).map(|one| one.value.clone());
            let value = given.or_else(|| declared.default_value.clone());
            variables.insert(
                declared.name.clone(),
                value.ok_or_else(|| invalid(format!("no value for {}", declared.name)))?,
            );
        }
        if let Some(unknown) = input.variables.iter().find(|one| !variables.contains_key(&one.name)) {
            return Err(invalid(format!("there is no variable {}", unknown.name)));
        }
        Ok(json!({"pipelineExecutionId": self.start_execution(pipeline, overrides, variables)}))
    }

    fn known_pipeline(&self, name: &str) -> Result<usize, Fault> {
        self.pipeline.named(name).ok_or_else(|| {
            let own = self.pipeline_names().join(", ");
            Fault::new("PipelineNotFoundException", format!("There is no pipeline {name}; there is {own}."))
        })
    }

    fn known_execution(&self, input: &OfExecution) -> Result<String, Fault> {
        let pipeline = self.known_pipeline(&input.pipeline_name)?;
        let id = input.pipeline_execution_id.clone().unwrap_or_default();
        match self.pipeline.execution(&id) {
            Some(one) if one.pipeline == pipeline => Ok(id),
            _ => Err(Fault::new("PipelineExecutionNotFoundException", format!("There is no execution {id}."))),
        }
    }

    fn job(&self, id: &str) -> Result<&Job, Fault> {
        self.pipeline.jobs.get(id).ok_or_else(|| Fault::new("JobNotFoundException", format!("There is no job {id}.")))
    }

    fn poll_for_jobs(&mut self, input: &PollForJobs) -> Result<Value, Fault> {
        let _ = &input.query_param;
        let wanted = &input.action_type_id;
        let matches = |job: &&Job| {
            let action = self.pipeline.action(&job.action).map(|one| &self.pipeline.action_of(one).action_type_id);
            job.status == JobStatus::Queued
                && action.is_some_and(|kind| {
                    kind.category == wanted.category
                        && kind.owner == wanted.owner
                        && kind.provider == wanted.provider
                        && kind.version == wanted.version
                })
        };
        let found = self.pipeline.jobs.values().filter(matches).take(input.max_batch_size.unwrap_or(1));
        let shown = found.map(
            |job| json!({"id": job.id, "nonce": job.nonce, "accountId": self.account, "data": self.job_data(job)}),
        );
        Ok(json!({"jobs": shown.collect::<Vec<_>>()}))
    }

    fn acknowledge_job(&mut self, input: &OfJob) -> Result<Value, Fault> {
        self.job(&input.job_id)?;
        let nonce = self.hex();
        let job = self.pipeline.jobs.get_mut(&input.job_id);
        match job {
            Some(job) if job.status == JobStatus::Queued && Some(&job.nonce) == input.nonce.as_ref() => {
                job.status = JobStatus::InProgress;
                job.nonce = nonce;
                Ok(json!({"status": "InProgress"}))
            }
            _ => Err(Fault::new("InvalidNonceException", "The nonce is not the job's.")),
        }
    }

    /// The action of a job that waits for its answer.
    fn answerable(&self, id: &str) -> Result<String, Fault> {
        let job = self.job(id)?;
        match job.status {
            JobStatus::InProgress => Ok(job.action.clone()),
            JobStatus::Created | JobStatus::Queued | JobStatus::Over => {
                Err(Fault::new("InvalidJobStateException", format!("The job {id} does not wait for a result.")))
            }
        }
    }

    fn put_job_success_result(&mut self, input: OfJob) -> Result<Value, Fault> {
        let action = self.answerable(&input.job_id)?;
        within("continuationToken", input.continuation_token.as_ref(), LONGEST_TOKEN)?;
        if let Some(details) = &input.execution_details {
            within("summary", details.summary.as_ref(), LONGEST_SUMMARY)?;
            within("externalExecutionId", details.external_execution_id.as_ref(), 1500)?;
            if details.percent_complete.is_some_and(|percent| percent > 100) {
                return Err(invalid("percentComplete must be at most 100"));
            }
        }
        let variables = input.output_variables.unwrap_or_default();
        if input.continuation_token.is_some() && !variables.is_empty() {
            return Err(Fault::new(
                "OutputVariablesSizeExceededException",
                "outputVariables exclude a continuationToken",
            ));
        }
        if variables.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
            return Err(invalid("an output variable is empty"));
        }
        if let (Some(one), Some(details)) = (self.pipeline.action_mut(&action), input.execution_details) {
            one.summary = details.summary.or(one.summary.take());
            one.external_id = details.external_execution_id.or(one.external_id.take());
            one.percent = details.percent_complete.or(one.percent);
        }
        let now = self.now;
        match input.continuation_token {
            Some(token) => {
                if let Some(job) = self.pipeline.jobs.get_mut(&input.job_id) {
                    job.status = JobStatus::Over;
                }
                if let Some(one) = self.pipeline.action_mut(&action) {
                    one.updated = now;
                }
                self.continue_action(&action, token);
            }
            None => {
                if let Some(one) = self.pipeline.action_mut(&action) {
                    one.variables = variables;
                }
                self.end_action(&action, ActionStatus::Succeeded);
            }
        }
        Ok(Value::Null)
    }

    fn put_job_failure_result(&mut self, input: OfJob) -> Result<Value, Fault> {
        let action = self.answerable(&input.job_id)?;
        let details = input.failure_details.ok_or_else(|| invalid("failureDetails is missing"))?;
        within("message", Some(&details.message), LONGEST_MESSAGE)?;
        if let (Some(one), Some(id)) = (self.pipeline.action_mut(&action), details.external_execution_id) {
            one.external_id = Some(id);
        }
        self.fail_action(&action, &details.r#type, &details.message);
        Ok(Value::Null)
    }

    fn put_approval_result(&mut self, input: PutApprovalResult) -> Result<Value, Fault> {
        let pipeline = self.known_pipeline(&input.pipeline_name)?;
        let found = self.pipeline.actions.iter().find(|one| {
            one.pipeline == pipeline
                && self.pipeline.stage_of(one).name == input.stage_name
                && self.pipeline.action_of(one).name == input.action_name
                && one.token.as_ref() == Some(&input.token)
        });
        let found =
            found.ok_or_else(|| Fault::new("InvalidApprovalTokenException", "The approval token is not valid."))?;
        if found.status != ActionStatus::InProgress {
            return Err(Fault::new(
                "ApprovalAlreadyCompletedException",
                "The approval action has already been completed.",
            ));
        }
        let id = found.id.clone();
        if let Some(one) = self.pipeline.action_mut(&id) {
            one.summary = Some(input.result.summary.clone()).filter(|summary| !summary.is_empty());
        }
        match input.result.status.as_str() {
            "Approved" => self.end_action(&id, ActionStatus::Succeeded),
            "Rejected" => {
                let why = match input.result.summary.as_str() {
                    "" => "Rejected".to_owned(),
                    summary => format!("Rejected: {summary}"),
                };
                self.fail_action(&id, "Rejected", &why);
            }
            other => return Err(invalid(format!("status {other} is neither Approved nor Rejected"))),
        }
        Ok(json!({"approvedAt": stamp(self.now)}))
    }

    fn retry(&mut self, input: &OfExecution) -> Result<Value, Fault> {
        let id = self.known_execution(input)?;
        let name = input.stage_name.clone().unwrap_or_default();
        let pipeline = self.pipeline.of(&id);
        let stage = self.pipeline.declared[pipeline].stages.iter().position(|stage| stage.name == name);
        let stage = stage.ok_or_else(|| Fault::new("StageNotFoundException", format!("There is no stage {name}.")))?;
        let retryable = matches!(self.status(&id), Some(ExecutionStatus::Failed | ExecutionStatus::Stopped));
        let state = &self.pipeline.stages[pipeline][stage];
        let latest = state.latest.as_ref() == Some(&id) && state.inside.is_none();
        if !retryable || !latest {
            let why = "The stage has not failed in this execution, or a newer execution has entered it.";
            return Err(Fault::new("StageNotRetryableException", why));
        }
        self.retry_stage(&id, stage, input.retry_mode.as_deref() == Some("ALL_ACTIONS"));
        Ok(json!({"pipelineExecutionId": id}))
    }

    fn shown_execution(&self, id: &str, whole: bool) -> Value {
        let Some(one) = self.pipeline.execution(id) else { return Value::Null };
        let revision = one.revision.as_ref();
        let declared = &self.pipeline.declared[one.pipeline];
        let source = declared.stages.first().and_then(|stage| stage.actions.first());
        let mut shown = json!({
            "pipelineExecutionId": one.id, "status": self.status_shown(id, one.status).name(), "statusSummary": one.summary,
            "trigger": {"triggerType": "StartPipelineExecution", "triggerDetail": "local"},
            "executionMode": mode_name(declared.execution_mode),
        });
        if whole {
            shown["pipelineName"] = json!(declared.name);
            shown["pipelineVersion"] = json!(1);
            shown["artifactRevisions"] = revision.map_or(json!([]), |made| {
                json!([{"name": source.and_then(|action| action.output_artifacts.first()).map(|named| named.name.clone()),
                    "revisionId": made.revision, "revisionSummary": made.summary}])
            });
        } else {
            shown["startTime"] = stamp(one.started);
            shown["lastUpdateTime"] = stamp(one.updated);
            if let Some(reason) = &one.stop_reason {
                shown["stopTrigger"] = json!({"reason": reason});
            }
            shown["sourceRevisions"] = revision.map_or(json!([]), |made| {
                json!([{"actionName": source.map(|action| action.name.clone()), "revisionId": made.revision,
                    "revisionSummary": made.summary}])
            });
        }
        shown
    }

    fn pipeline_state(&self, pipeline: usize) -> Value {
        let declared = &self.pipeline.declared[pipeline];
        let stages = declared.stages.iter().enumerate().map(|(at, stage)| {
            let state = &self.pipeline.stages[pipeline][at];
            let latest = state.latest.as_ref();
            let of_action = |(place, action): (usize, &crate::template::Action)| {
                let runs = self.pipeline.actions.iter().rev();
                let newest = runs.into_iter().find(|one| one.pipeline == pipeline && one.stage == at && one.action == place);
                let mut shown = json!({"actionName": action.name});
                if let Some(one) = newest {
                    shown["latestExecution"] = self.shown_run(one);
                }
                shown
            };
            let mut shown = json!({
                "stageName": stage.name,
                "inboundTransitionState": {"enabled": true},
                "inboundExecutions": state.waiting.iter().map(|id| json!({"pipelineExecutionId": id, "status": "InProgress"})).collect::<Vec<_>>(),
                "actionStates": stage.actions.iter().enumerate().map(of_action).collect::<Vec<_>>(),
            });
            if let Some(id) = latest {
                shown["latestExecution"] = json!({"pipelineExecutionId": id, "status": self.stage_status(id, at)});
            }
            shown
        });
        json!({"pipelineName": declared.name, "pipelineVersion": 1, "stageStates": stages.collect::<Vec<_>>()})
    }

    fn stage_status(&self, execution: &str, stage: usize) -> &'static str {
        let mut newest = BTreeMap::new();
        for one in self.pipeline.actions.iter().filter(|one| one.execution == execution && one.stage == stage) {
            newest.insert(one.action, one.status);
        }
        let any = |status| newest.values().any(|one| *one == status);
        let total = self.pipeline.declared[self.pipeline.of(execution)].stages[stage].actions.len();
        if any(ActionStatus::InProgress) {
            "InProgress"
        } else if any(ActionStatus::Failed) {
            "Failed"
        } else if any(ActionStatus::Abandoned) {
            "Stopped"
        } else if newest.len() == total {
            "Succeeded"
        } else {
            "InProgress"
        }
    }

    fn external_url(&self, one: &ActionExecution) -> Option<String> {
        let action = self.pipeline.action_of(one);
        let template = self.pipeline.type_of(action)?.settings.as_ref()?.execution_url_template.clone()?;
        let mut url = template.replace("{ExternalExecutionId}", one.external_id.as_deref()?);
        for (name, value) in &one.configuration {
            url = url.replace(&format!("{{Config:{name}}}"), value);
        }
        Some(url)
    }

    fn shown_run(&self, one: &ActionExecution) -> Value {
        let mut shown =
            json!({"actionExecutionId": one.id, "status": one.status.name(), "lastStatusChange": stamp(one.updated)});
        for (field, value) in [
            ("summary", one.summary.clone().map(Value::from)),
            ("percentComplete", one.percent.map(Value::from)),
            ("externalExecutionId", one.external_id.clone().map(Value::from)),
            ("externalExecutionUrl", self.external_url(one).map(Value::from)),
            ("token", one.token.clone().filter(|_| one.status == ActionStatus::InProgress).map(Value::from)),
            ("errorDetails", one.error.as_ref().map(|(code, message)| json!({"code": code, "message": message}))),
        ] {
            if let Some(value) = value {
                shown[field] = value;
            }
        }
        shown
    }

    fn list_action_executions(&self, input: &OfExecution) -> Result<Value, Fault> {
        let pipeline = self.known_pipeline(&input.pipeline_name)?;
        let filter = input.filter.as_ref();
        if filter.is_some_and(|filter| filter.latest_in_pipeline_execution.is_some()) {
            return Err(Fault::unknown("the filter latestInPipelineExecution"));
        }
        let wanted = filter.and_then(|filter| filter.pipeline_execution_id.as_ref());
        let own = self.pipeline.actions.iter().rev().filter(|one| one.pipeline == pipeline);
        let own = own.filter(|one| wanted.is_none_or(|id| one.execution == *id));
        let all: Vec<_> = own.filter_map(|one| self.run_shown(one)).collect();
        let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
        let most = input.max_results.unwrap_or(100);
        let shown = all.iter().skip(skip).take(most).map(|one| {
            let action = self.pipeline.action_of(one);
            let kind = &action.action_type_id;
            let mut result = json!({"externalExecutionId": one.external_id, "externalExecutionSummary": one.summary,
                "externalExecutionUrl": self.external_url(one)});
            if let Some((code, message)) = &one.error {
                result["errorDetails"] = json!({"code": code, "message": message});
            }
            json!({
                "pipelineExecutionId": one.execution, "actionExecutionId": one.id, "pipelineVersion": 1,
                "stageName": self.pipeline.stage_of(one).name, "actionName": action.name,
                "startTime": stamp(one.started), "lastUpdateTime": stamp(one.updated), "status": one.status.name(),
                "updatedBy": format!("arn:aws:iam::{}:user/local", self.account),
                "input": {"actionTypeId": {"category": kind.category, "owner": kind.owner, "provider": kind.provider, "version": kind.version},
                    "configuration": action.configuration.iter().map(|(name, value)| (name.clone(), json!(value.as_str().map_or_else(|| value.to_string(), str::to_owned)))).collect::<Map<_, _>>(),
                    "resolvedConfiguration": one.configuration, "region": self.region,
                    "inputArtifacts": self.shown_artifacts(one, &action.input_artifacts),
                    "namespace": action.namespace},
                "output": {"outputArtifacts": self.shown_artifacts(one, &action.output_artifacts), "executionResult": result, "outputVariables": one.variables},
            })
        });
        let mut answer = json!({"actionExecutionDetails": shown.collect::<Vec<_>>()});
        if skip + most < all.len() {
            answer["nextToken"] = (skip + most).to_string().into();
        }
        Ok(answer)
    }

    fn shown_pipeline(&self, pipeline: usize) -> Value {
        let declared = &self.pipeline.declared[pipeline];
        let stages = declared.stages.iter().map(|stage| {
            let actions = stage.actions.iter().map(|action| {
                let kind = &action.action_type_id;
                let names = |all: &[crate::template::Named]| all.iter().map(|one| json!({"name": one.name})).collect::<Vec<_>>();
                json!({"name": action.name, "runOrder": action.run_order, "configuration": action.configuration,
                    "actionTypeId": {"category": kind.category, "owner": kind.owner, "provider": kind.provider, "version": kind.version},
                    "inputArtifacts": names(&action.input_artifacts), "outputArtifacts": names(&action.output_artifacts),
                    "namespace": action.namespace})
            });
            json!({"name": stage.name, "actions": actions.collect::<Vec<_>>()})
        });
        json!({"pipeline": {"name": declared.name, "roleArn": declared.role_arn, "version": 1,
            "pipelineType": declared.pipeline_type, "executionMode": mode_name(declared.execution_mode),
            "artifactStore": {"type": declared.artifact_store.r#type, "location": declared.artifact_store.location},
            "stages": stages.collect::<Vec<_>>()}})
    }
}

fn mode_name(mode: crate::template::ExecutionMode) -> &'static str {
    match mode {
        crate::template::ExecutionMode::Superseded => "SUPERSEDED",
        crate::template::ExecutionMode::Queued => "QUEUED",
        crate::template::ExecutionMode::Parallel => "PARALLEL",
    }
}
