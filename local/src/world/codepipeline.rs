//! CodePipeline's operations, as people, workers and functions call them.

mod jobs;
mod shown;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ecs::stamp;
use super::pipeline::{ActionStatus, ExecutionStatus};
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
fn invalid(why: impl Into<String>) -> Fault {
    Fault::new("ValidationException", why)
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
            "GetJobDetails" => self.job_details(&request.input()?),
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
}
