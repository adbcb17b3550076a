//! CodePipeline's jobs: what an action's worker polls for, or its Lambda function is invoked with (facts 1, 5 and 8).

use std::time::Duration;

use serde_json::{Value, json};

use super::{Timer, World};
use crate::template;

/// A job of an action.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) action: String,
    pub(super) nonce: String,
    pub(super) status: JobStatus,
    pub(super) continuation: Option<String>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobStatus {
    /// Made, and not yet to be polled.
    Created,
    /// To be polled.
    Queued,
    /// In somebody's hands.
    InProgress,
    /// Answered, or dead.
    Over,
}

/// What every secret that a job carries contains: nothing that people read may.
pub const SECRET: &str = "for-the-job-alone";

/// How soon the job of a continuation exists; not documented (fact 5).
const CONTINUATION: Duration = Duration::from_millis(500);

impl World {
    /// Makes the job of an action, to be done after a delay.
    pub(super) fn create_job(&mut self, action: &str, continuation: Option<String>, delay: Duration) {
        let (id, nonce) = (self.uuid(), self.hex());
        let job = Job { id: id.clone(), action: action.to_owned(), nonce, status: JobStatus::Created, continuation };
        self.pipeline.jobs.insert(id.clone(), job);
        match delay.is_zero() {
            true => self.job_is_due(&id),
            false => self.after(delay, Timer::Job(id)),
        }
    }

    /// A job can be polled, or is given to its Lambda function.
    pub(super) fn job_is_due(&mut self, id: &str) {
        let Some(job) = self.pipeline.jobs.get(id).filter(|job| job.status == JobStatus::Created).cloned() else {
            return;
        };
        let Some(one) = self.pipeline.action(&job.action) else { return };
        let custom = self.pipeline.action_of(one).action_type_id.owner == "Custom";
        let function = one.configuration.get("FunctionName").cloned().unwrap_or_default();
        let status = if custom { JobStatus::Queued } else { JobStatus::InProgress };
        if let Some(job) = self.pipeline.jobs.get_mut(id) {
            job.status = status;
        }
        if custom {
            return;
        }
        if !self.has_function(&function) {
            let why = format!("The AWS Lambda function {function} failed to return a result: it does not exist.");
            return self.fail_action(&job.action, "ConfigurationError", &why);
        }
        let event = json!({"CodePipeline.job": {"id": id, "accountId": self.account, "data": self.job_data(&job)}});
        self.invoke_async(&function, event);
    }

    /// What a job carries (facts 1 and 8).
    pub(super) fn job_data(&self, job: &Job) -> Value {
        let Some(one) = self.pipeline.action(&job.action) else { return Value::Null };
        let action = self.pipeline.action_of(one);
        let artifacts = self.pipeline.execution(&one.execution).map(|execution| &execution.artifacts);
        let located = |named: &template::Named| {
            let found = artifacts.and_then(|artifacts| artifacts.get(&named.name));
            json!({"name": named.name, "revision": found.map(|artifact| artifact.revision.clone()),
                "location": {"type": "S3", "s3Location": {
                    "bucketName": self.pipeline.declared_of(one).artifact_store.location,
                    "objectKey": found.map(|artifact| artifact.key.clone()).unwrap_or_default()}}})
        };
        let mut data = json!({
            "actionConfiguration": {"configuration": one.configuration},
            "inputArtifacts": action.input_artifacts.iter().map(located).collect::<Vec<_>>(),
            "outputArtifacts": action.output_artifacts.iter().map(located).collect::<Vec<_>>(),
            "artifactCredentials": {"accessKeyId": format!("{}{}", super::s3::ARTIFACT_KEY, self.key_suffix), "secretAccessKey": SECRET, "sessionToken": SECRET},
        });
        if let Some(token) = &job.continuation {
            data["continuationToken"] = json!(token);
        }
        if action.action_type_id.owner == "Custom" {
            let kind = &action.action_type_id;
            data["actionTypeId"] = json!({"category": kind.category, "owner": kind.owner, "provider": kind.provider, "version": kind.version});
            data["pipelineContext"] = json!({"pipelineName": self.pipeline.declared_of(one).name,
                "stage": {"name": self.pipeline.stage_of(one).name},
                "action": {"name": action.name, "actionExecutionId": one.id},
                "pipelineArn": format!("arn:aws:codepipeline:{}:{}:{}", self.region, self.account, self.pipeline.declared_of(one).name), "pipelineExecutionId": one.execution});
        }
        data
    }

    /// Lets a job have another nonce each time that it is polled, which is not documented.
    pub fn renew_nonces(&mut self, renew: bool) {
        self.pipeline.renews_nonces = renew;
    }

    /// Whether a job that goes on from a continuation keeps the id of the one before it, which is not documented (fact 5).
    pub fn keep_job_ids(&mut self, keep: bool) {
        self.pipeline.keeps_job_ids = keep;
    }

    /// The job that goes on from a continuation, which a job was answered with.
    pub(super) fn continue_action(&mut self, answered: &str, action: &str, token: String) {
        let delay = CONTINUATION + self.lateness().continuations;
        if !self.pipeline.keeps_job_ids {
            return self.create_job(action, Some(token), delay);
        }
        let nonce = self.hex();
        if let Some(job) = self.pipeline.jobs.get_mut(answered) {
            *job = Job { nonce, status: JobStatus::Created, continuation: Some(token), ..job.clone() };
            self.after(delay, Timer::Job(answered.to_owned()));
        }
    }
}
