//! The operations of jobs: who polls for one and acknowledges it, and how it is answered (facts 1 to 10).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::invalid;
use crate::world::jobs::{Job, JobStatus};
use crate::world::pipeline::ActionStatus;
use crate::world::{Fault, World};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PollForJobs {
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
pub(super) struct OfJob {
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
    fn job(&self, id: &str) -> Result<&Job, Fault> {
        self.pipeline.jobs.get(id).ok_or_else(|| Fault::new("JobNotFoundException", format!("There is no job {id}.")))
    }

    pub(super) fn job_details(&self, input: &OfJob) -> Result<Value, Fault> {
        let job = self.job(&input.job_id)?.clone();
        Ok(json!({"jobDetails": {"id": job.id, "accountId": self.account, "data": self.job_data(&job)}}))
    }

    pub(super) fn poll_for_jobs(&mut self, input: &PollForJobs) -> Result<Value, Fault> {
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
        let ids: Vec<_> = found.map(|job| job.id.clone()).collect();
        let renews = self.pipeline.renews_nonces;
        for id in ids.iter().filter(|_| renews) {
            let nonce = self.hex();
            if let Some(job) = self.pipeline.jobs.get_mut(id) {
                job.nonce = nonce;
            }
        }
        let found = ids.iter().filter_map(|id| self.pipeline.jobs.get(id));
        let shown = found.map(
            |job| json!({"id": job.id, "nonce": job.nonce, "accountId": self.account, "data": self.job_data(job)}),
        );
        Ok(json!({"jobs": shown.collect::<Vec<_>>()}))
    }

    pub(super) fn acknowledge_job(&mut self, input: &OfJob) -> Result<Value, Fault> {
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

    pub(super) fn put_job_success_result(&mut self, input: OfJob) -> Result<Value, Fault> {
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
                self.continue_action(&input.job_id, &action, token);
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

    pub(super) fn put_job_failure_result(&mut self, input: OfJob) -> Result<Value, Fault> {
        let action = self.answerable(&input.job_id)?;
        let details = input.failure_details.ok_or_else(|| invalid("failureDetails is missing"))?;
        within("message", Some(&details.message), LONGEST_MESSAGE)?;
        if let (Some(one), Some(id)) = (self.pipeline.action_mut(&action), details.external_execution_id) {
            one.external_id = Some(id);
        }
        self.fail_action(&action, &details.r#type, &details.message);
        Ok(Value::Null)
    }
}
