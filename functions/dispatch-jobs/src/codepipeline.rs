//! CodePipeline: polling for jobs, and claiming them (fact 8).

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::{ActionCategory, ActionOwner, ActionTypeId, Artifact, Job as Polled, JobStatus};
use serde_json::{Map, Value, json};
use shared::aws::codepipeline::{Answer, Codepipeline};
use shared::error::{code, failure};
use shared::{Aws, Error, Verdict};
use tracing::info;

/// The category of all of Cutover's action types.
const CATEGORY: ActionCategory = ActionCategory::Deploy;

/// How many jobs one poll brings.
const BATCH: i32 = 10;

/// The jobs of Cutover's action types.
#[derive(Debug)]
pub(crate) struct Jobs<'a> {
    aws: &'a Aws,
    client: Client,
    version: &'a str,
}

/// A job that was polled and not yet claimed.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    nonce: String,
    /// What its function is invoked with.
    pub(crate) event: Value,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(aws: &'a Aws, version: &'a str) -> Self {
        Self { aws, client: Client::new(aws.config()), version }
    }

    /// The jobs that wait for an action type's worker. Looking changes nothing: a job is claimed by its nonce.
    pub(crate) async fn poll(&self, provider: &str) -> Result<Vec<Job>, Error> {
        let id = ActionTypeId::builder()
            .category(CATEGORY)
            .owner(ActionOwner::Custom)
            .provider(provider)
            .version(self.version)
            .build()
            .map_err(|error| Verdict::misconfigured(error.to_string()))?;
        let sent = self.client.poll_for_jobs().action_type_id(id).max_batch_size(BATCH).send().await;
        let output = sent.map_err(|error| failure("codepipeline:PollForJobs", &error))?;
        Ok(output.jobs().iter().filter_map(job).collect())
    }

    /// Claims a job; `false` when somebody else has.
    ///
    /// Safe to repeat: whoever comes second gets InvalidNonceException, or sees that it is in progress already. A reply
    /// that was lost therefore leaves the job to the function's on-failure path, never to two functions.
    pub(crate) async fn acknowledge(&self, job: &Job) -> Result<bool, Error> {
        match self.client.acknowledge_job().job_id(&job.id).nonce(&job.nonce).send().await {
            Ok(output) => Ok(output.status().is_none_or(|status| *status == JobStatus::InProgress)),
            Err(error) if matches!(code(&error), "InvalidNonceException" | "JobNotFoundException") => {
                info!(job = job.id, "somebody else has claimed it");
                Ok(false)
            }
            Err(error) => Err(failure("codepipeline:AcknowledgeJob", &error)),
        }
    }

    /// Fails a job whose function could not be invoked: nobody else would ever answer it.
    pub(crate) async fn fail(&self, job: &Job, function: &str, error: &Error) -> Result<(), Error> {
        let verdict = Verdict::misconfigured(format!(
            "The function `{function}` could not be invoked for this action: {error}. Nothing was started. \
             Look at the function and at dispatch-jobs' role, then retry the stage."
        ));
        Codepipeline::new(self.aws).answer(&job.id, &Answer::Failed(verdict)).await
    }
}

fn job(polled: &Polled) -> Option<Job> {
    let id = polled.id()?.to_owned();
    let data = polled.data()?;
    let configuration = data.action_configuration().and_then(|one| one.configuration()).cloned().unwrap_or_default();
    let mut event = json!({
        "actionConfiguration": {"configuration": configuration},
        "inputArtifacts": data.input_artifacts().iter().map(artifact).collect::<Vec<_>>(),
        "outputArtifacts": data.output_artifacts().iter().map(artifact).collect::<Vec<_>>(),
    });
    if let Some(context) = data.pipeline_context() {
        event["pipelineContext"] = json!({
            "pipelineName": context.pipeline_name(),
            "stage": {"name": context.stage().and_then(|stage| stage.name())},
            "action": {
                "name": context.action().and_then(|action| action.name()),
                "actionExecutionId": context.action().and_then(|action| action.action_execution_id()),
            },
            "pipelineArn": context.pipeline_arn(),
            "pipelineExecutionId": context.pipeline_execution_id(),
        });
    }
    if let Some(credentials) = data.artifact_credentials() {
        event["artifactCredentials"] = json!({
            "accessKeyId": credentials.access_key_id(),
            "secretAccessKey": credentials.secret_access_key(),
            "sessionToken": credentials.session_token(),
        });
    }
    if let Some(token) = data.continuation_token() {
        event["continuationToken"] = token.into();
    }
    if let Some(key) = data.encryption_key() {
        event["encryptionKey"] = json!({"id": key.id(), "type": key.r#type().as_str()});
    }
    let event = json!({"CodePipeline.job": {"id": id, "accountId": polled.account_id(), "data": event}});
    Some(Job { id, nonce: polled.nonce()?.to_owned(), event })
}

fn artifact(artifact: &Artifact) -> Value {
    let mut shape = Map::from_iter([("name".to_owned(), json!(artifact.name()))]);
    shape.extend(artifact.revision().map(|revision| ("revision".to_owned(), json!(revision))));
    if let Some(location) = artifact.location().and_then(|location| location.s3_location()) {
        let s3 = json!({"bucketName": location.bucket_name(), "objectKey": location.object_key()});
        shape.insert("location".into(), json!({"type": "S3", "s3Location": s3}));
    }
    shape.into()
}
