//! CodePipeline: polling for jobs (fact 8).

use std::time::Duration;

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::{ActionCategory, ActionOwner, ActionTypeId, Artifact, Job as Polled};
use serde_json::{Map, Value, json};
use shared::aws::allowance;
use shared::aws::codepipeline::{Claimed, Codepipeline};
use shared::error::failure;
use shared::job::{CLAIM, Claim};
use shared::{Answer, Aws, Clock, Error, Success, Time, Verdict, token};

/// The category of all of Cutover's action types.
const CATEGORY: ActionCategory = ActionCategory::Deploy;

/// The actions that never fail a release, by how their providers end; what is lost without one, and what there is all the same.
const BESIDE: [(&str, &str, &str); 3] = [
    ("-TailLogs", "there is no log", "each task's lines are in its own log stream"),
    ("-DrainWorkers", "the old workers were not watched", "they end by themselves when their deployment does"),
    ("-Notify", "Datadog, Sentry and the like were not told", "Slack is told by events"),
];

/// How many jobs one poll brings.
pub(crate) const BATCH: usize = 10;

/// The jobs of Cutover's action types.
#[derive(Debug)]
pub(crate) struct Jobs<'a> {
    aws: &'a Aws,
    client: Client,
    version: &'a str,
    clock: Clock,
}

/// A job that was polled and not yet claimed.
pub(crate) struct Job {
    pub(crate) id: String,
    claim: Claim,
    /// What its function is invoked with.
    pub(crate) event: Value,
}

/// How long the function of a job that was continued may refuse to be invoked before the job is answered: its action is under way, and its
/// function may be in the midst of being replaced.
const PATIENCE: Duration = Duration::from_secs(300);

impl Job {
    /// Whether it goes on from another one.
    pub(crate) fn is_continued(&self) -> bool {
        self.token().is_some()
    }

    fn token(&self) -> Option<&str> {
        self.event.pointer("/CodePipeline.job/data/continuationToken")?.as_str()
    }

    /// Whether it waits to be polled again although its function cannot be invoked.
    pub(crate) fn may_wait(&self, now: Time) -> bool {
        self.token().and_then(token::sealed).is_some_and(|sealed| now.since(sealed) < PATIENCE)
    }
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(aws: &'a Aws, version: &'a str, clock: Clock) -> Self {
        let config = aws_sdk_codepipeline::config::Builder::from(aws.config()).retry_partition(allowance()).build();
        Self { aws, client: Client::from_conf(config), version, clock }
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
        let sent = self.client.poll_for_jobs().action_type_id(id).max_batch_size(10).send().await;
        let output = sent.map_err(|error| failure("codepipeline:PollForJobs", &error))?;
        let now = self.clock.now();
        Ok(output.jobs().iter().filter_map(|polled| job(polled, provider, now)).collect())
    }

    /// Answers a job whose function cannot be invoked: nobody else ever would. It fails, but for those that never fail
    /// a release.
    ///
    /// Safe to repeat: a job that somebody has claimed meanwhile is left to them.
    pub(crate) async fn answer_for(
        &self,
        job: &Job,
        provider: &str,
        function: &str,
        why: &Verdict,
    ) -> Result<(), Error> {
        let codepipeline = Codepipeline::new(self.aws);
        if codepipeline.claim(&job.id, &job.claim).await? != Claimed::Ours {
            return Ok(());
        }
        let why = why.message.trim_end_matches('.');
        let beside = BESIDE.iter().find(|(ending, _, _)| provider.ends_with(ending));
        let answer = if let Some((_, lost, rest)) = beside {
            let summary = format!(
                "Warning: {lost}. The function `{function}` could not be invoked: {why}. That fails nothing; {rest}."
            );
            Answer::Succeeded(Success { summary, ..Success::default() })
        } else {
            let begun = if job.is_continued() {
                "What the action had begun may still be running: it is taken back once its stage has ended"
            } else {
                "Nothing was started"
            };
            Answer::Failed(Verdict::misconfigured(format!(
                "The function `{function}` could not be invoked for this action: {why}. {begun}. \
                 Look at the function and at dispatch-jobs' role, then retry the stage."
            )))
        };
        // Nobody polls for it any more: it is claimed.
        let mut tries = 1;
        loop {
            match codepipeline.answer(&job.id, &answer).await {
                Err(Error::Again(_)) if tries < ANSWERS => tries += 1,
                answered => return answered.map(drop),
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

/// How often a job is answered that nobody else would answer, each with the client's own tries.
const ANSWERS: u32 = 5;

/// The pause between two of them.
const BETWEEN: Duration = Duration::from_secs(2);

fn job(polled: &Polled, provider: &str, now: Time) -> Option<Job> {
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
    let claim = Claim { nonce: polled.nonce()?.to_owned(), polled: now, provider: Some(provider.to_owned()) };
    let event = json!({"CodePipeline.job": {"id": id, "accountId": polled.account_id(), "data": event,
        CLAIM: {"nonce": claim.nonce, "polled": claim.polled.millis(), "provider": provider}}});
    Some(Job { id, claim, event })
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
