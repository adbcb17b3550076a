//! CodePipeline: the answer to a job, and what became of an execution.

mod siblings;

use std::time::Duration;

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::config::retry::RetryConfig;
use aws_sdk_codepipeline::types::{
    ActionExecutionFilter, ExecutionDetails, ExecutionType, FailureDetails, FailureType, JobStatus,
    PipelineExecutionStatus,
};
pub use siblings::{ActionStatus, Others, Sibling, facts, of_the_try, others, tries};
use siblings::{is_listed, own_run, sibling, was_begun_again};
use tracing::{info, warn};

use crate::answer::Answer;
use crate::aws::{Aws, allowance};
use crate::error::{Error, Kind, Verdict, code, failure, is_not_now};
use crate::job::{Claim, Release};
use crate::text::fit;
use crate::time::Time;
use crate::token::Tries;

/// The longest summary (fact 6), in characters.
const LONGEST_SUMMARY: usize = 2048;
/// The longest failure message (fact 6).
const LONGEST_MESSAGE: usize = 5000;
/// How long a new run of an action may take until `ListActionExecutions` shows it; then what it shows counts.
const SHOWN: Duration = Duration::from_secs(10);
/// The same before an action ends since its own run is not among them: less than looks may fail for.
const LONG_SHOWN: Duration = Duration::from_secs(240);

fn not_listed() -> Error {
    Error::Again("codepipeline:ListActionExecutions: this run is not listed yet".into())
}

/// How many of a pipeline's newest actions and executions are asked for: a page, as long as CodePipeline makes them.
const NEWEST: usize = 100;

/// The longest external execution id (fact 6).
const LONGEST_LINK: usize = 1500;

/// CodePipeline in the function's own Region.
#[derive(Debug)]
pub struct Codepipeline<'a> {
    aws: &'a Aws,
    client: Client,
}

/// Whose a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Ours, or perhaps ours.
    Ours,
    /// It was claimed before.
    Before,
    /// The pipeline has moved on.
    Gone,
}

/// Whether the release goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does, or it has been asked to stop and waits for its actions: they run to their end (fact 11).
    Going,
    /// It was stopped and abandoned, or replaced: nobody waits for the action any more.
    Halted,
}

/// An execution, as `GetPipelineExecution` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Execution {
    /// `InProgress`, `Stopping`, `Stopped`, `Succeeded`, `Failed`, `Cancelled` or `Superseded` (fact 11).
    pub status: String,
    /// What a person said when stopping it.
    pub summary: String,
    /// What started it: the kind, and the person or webhook.
    pub trigger: (String, String),
    /// Whether it is CodePipeline's own way back: a stage that is rolled back to an execution before.
    pub is_rollback: bool,
}

impl Execution {
    /// Whether nothing of it goes on any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        is_over(&self.status)
    }
}

/// Whether nothing goes on any more of an execution that CodePipeline shows so (fact 11).
#[must_use]
pub fn is_over(status: &str) -> bool {
    matches!(status, "Succeeded" | "Failed" | "Stopped" | "Superseded" | "Cancelled")
}

/// An execution in a pipeline's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedExecution {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub status: String,
    /// When it changed last.
    pub updated: Time,
    /// See [`Execution::is_rollback`].
    pub is_rollback: bool,
}

impl ListedExecution {
    /// Whether nothing of it goes on any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        is_over(&self.status)
    }
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// CodePipeline took it.
    Taken,
    /// The job waits for no answer: an earlier one was taken, or the action was given up.
    Refused,
}

impl<'a> Codepipeline<'a> {
    /// In the function's own Region.
    #[must_use]
    pub fn new(aws: &'a Aws) -> Self {
        let config = aws_sdk_codepipeline::config::Builder::from(aws.config()).retry_partition(allowance()).build();
        Self { aws, client: Client::from_conf(config) }
    }

    /// Claims a polled job.
    ///
    /// When it is not known whether a claim arrived, it is made once more: it may be on its way still, and a job is not
    /// answered before it is claimed. An InvalidNonceException then means that the first one arrived, or that another
    /// function claimed the job at that very moment: which of the two, nothing here tells.
    ///
    /// # Errors
    /// CodePipeline said "not now", so nothing was claimed.
    pub async fn claim(&self, job: &str, claim: &Claim) -> Result<Claimed, Error> {
        if let Some(known) = self.claim_once(job, claim).await? {
            return Ok(known);
        }
        info!(job, "whether the job was claimed is not known");
        match self.claim_once(job, claim).await {
            Ok(Some(Claimed::Gone)) => Ok(Claimed::Gone),
            _ => Ok(Claimed::Ours),
        }
    }

    /// One attempt, not repeated by the SDK: it would take the InvalidNonceException that follows a lost reply for
    /// somebody else's claim, and nobody would do the job. None when it is not known whether it arrived.
    ///
    /// # Errors
    /// CodePipeline said "not now", or never.
    pub(crate) async fn claim_once(&self, job: &str, claim: &Claim) -> Result<Option<Claimed>, Error> {
        let once = aws_sdk_codepipeline::config::Config::builder().retry_config(RetryConfig::disabled());
        let call = self.client.acknowledge_job().job_id(job).nonce(&claim.nonce);
        match call.customize().config_override(once).send().await {
            // Of one that is not the caller's it may say so without an error, too (unconfirmed).
            Ok(output) => match output.status() {
                None | Some(JobStatus::InProgress) => Ok(Some(Claimed::Ours)),
                Some(JobStatus::Succeeded | JobStatus::Failed | JobStatus::TimedOut) => Ok(Some(Claimed::Gone)),
                // Whether that was a claim, the next try tells.
                Some(_) => Ok(None),
            },
            Err(error) if matches!(code(&error), "InvalidNonceException" | "InvalidJobStateException") => {
                Ok(Some(Claimed::Before))
            }
            Err(error) if code(&error) == "JobNotFoundException" => Ok(Some(Claimed::Gone)),
            Err(error) if is_not_now(&error) => Err(failure("codepipeline:AcknowledgeJob", &error)),
            Err(error) => match failure("codepipeline:AcknowledgeJob", &error) {
                Error::Again(_) => Ok(None),
                stop @ Error::Stop(_) => Err(stop),
            },
        }
    }

    /// Answers a job.
    ///
    /// Safe to repeat: a second answer to a finished job changes nothing, and CodePipeline says so with
    /// InvalidJobStateException or JobNotFoundException (fact 6): the answer, or somebody's decision to stop, arrived
    /// before. Which of the two, [`was_abandoned`](Self::was_abandoned) tells.
    ///
    /// # Errors
    /// When CodePipeline could not be reached.
    pub async fn answer(&self, job: &str, answer: &Answer) -> Result<Answered, Error> {
        let answered = match answer {
            Answer::Continue { token, progress } => {
                let details = details(&progress.summary, progress.percent, progress.link.as_deref());
                let call = self.client.put_job_success_result().job_id(job).continuation_token(token);
                let sent = call.execution_details(details).send().await;
                sent.map(drop)
                    .map_err(|error| (moved_on(code(&error)), failure("codepipeline:PutJobSuccessResult", &error)))
            }
            Answer::Succeeded(success) => {
                let details = details(&success.summary, Some(100), success.link.as_deref());
                let mut call = self.client.put_job_success_result().job_id(job).execution_details(details);
                for (name, value) in &success.variables {
                    call = call.output_variables(*name, value);
                }
                let sent = call.send().await;
                sent.map(drop)
                    .map_err(|error| (moved_on(code(&error)), failure("codepipeline:PutJobSuccessResult", &error)))
            }
            Answer::Failed(verdict) => {
                let sent =
                    self.client.put_job_failure_result().job_id(job).failure_details(reason(verdict)).send().await;
                sent.map(drop)
                    .map_err(|error| (moved_on(code(&error)), failure("codepipeline:PutJobFailureResult", &error)))
            }
        };
        match answered {
            Err((true, error)) => {
                info!(job, %error, "the job waits for no answer");
                Ok(Answered::Refused)
            }
            Err((false, error)) => Err(error),
            Ok(()) => Ok(Answered::Taken),
        }
    }

    /// Whether the release was stopped with this run of the action under way, or it has had its answer; `None` while that cannot be told:
    /// what became of the run is not shown yet.
    ///
    /// # Errors
    /// The calls'.
    pub async fn was_abandoned(&self, release: &Release, run: Option<&str>) -> Result<Option<bool>, Error> {
        let siblings = self.siblings(release).await?;
        let own = own_run(&siblings, release, run);
        match own.map(|own| own.status) {
            Some(ActionStatus::Abandoned) => Ok(Some(true)),
            Some(ActionStatus::Succeeded | ActionStatus::Failed) => Ok(Some(false)),
            Some(ActionStatus::InProgress | ActionStatus::Unknown) | None => Ok(None),
        }
    }

    /// Whether the action was begun again since this run of it, as far as is shown: its stage is tried again.
    ///
    /// # Errors
    /// The calls'.
    pub async fn is_tried_again(&self, release: &Release, run: &str) -> Result<bool, Error> {
        let siblings = self.siblings(release).await?;
        Ok(own_run(&siblings, release, Some(run)).is_some_and(|own| was_begun_again(&siblings, own)))
    }

    /// Whether this run of the action has had its answer, or its stage is tried again, as far as is shown. Without the run's id, one of its
    /// name that began after `by`, when this one had begun, is of a retry.
    ///
    /// # Errors
    /// The calls'.
    pub async fn is_past(&self, release: &Release, run: Option<&str>, by: Option<Time>) -> Result<bool, Error> {
        let siblings = self.siblings(release).await?;
        let own = own_run(&siblings, release, run);
        let is_later = |own: &Sibling| run.is_none() && by.is_some_and(|by| own.started > Some(by));
        let is_past =
            |own: &Sibling| own.has_succeeded() || own.has_failed() || is_later(own) || was_begun_again(&siblings, own);
        Ok(own.is_some_and(is_past))
    }

    /// How an execution stands.
    ///
    /// # Errors
    /// The call's.
    pub async fn execution(&self, release: &Release) -> Result<Execution, Error> {
        let call = self.client.get_pipeline_execution();
        let call = call.pipeline_name(&release.pipeline).pipeline_execution_id(&release.execution);
        let sent = call.send().await;
        let output = sent.map_err(|error| failure("codepipeline:GetPipelineExecution", &error))?;
        let Some(seen) = output.pipeline_execution() else {
            return Err(Error::Again("codepipeline:GetPipelineExecution: an empty answer".into()));
        };
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Ok(Execution {
            status: text(seen.status().map(|status| status.as_str())),
            summary: text(seen.status_summary()),
            trigger: (
                text(seen.trigger().and_then(|trigger| trigger.trigger_type()).map(|kind| kind.as_str())),
                text(seen.trigger().and_then(|trigger| trigger.trigger_detail())),
            ),
            is_rollback: seen.execution_type() == Some(&ExecutionType::Rollback),
        })
    }

    /// The newest executions of a pipeline: a hundred of them, as a rule one page.
    ///
    /// # Errors
    /// The calls'.
    pub async fn newest_executions(&self, pipeline: &str) -> Result<Vec<ListedExecution>, Error> {
        let (mut executions, mut next) = (Vec::new(), None);
        loop {
            let call = self.client.list_pipeline_executions().pipeline_name(pipeline).max_results(100);
            let sent = call.set_next_token(next).send().await;
            let output = sent.map_err(|error| failure("codepipeline:ListPipelineExecutions", &error))?;
            executions.extend(output.pipeline_execution_summaries().iter().map(|one| ListedExecution {
                id: one.pipeline_execution_id().unwrap_or_default().to_owned(),
                status: one.status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
                updated: one.last_update_time().copied().map(Time::from).unwrap_or_default(),
                is_rollback: one.execution_type() == Some(&ExecutionType::Rollback),
            }));
            next = output.next_token().map(str::to_owned);
            if next.is_none() || executions.len() >= NEWEST {
                return Ok(executions);
            }
        }
    }

    /// The bucket of a pipeline's artifacts.
    ///
    /// # Errors
    /// The call's, or a pipeline without one.
    pub async fn bucket_of(&self, pipeline: &str) -> Result<String, Error> {
        let got = self.client.get_pipeline().name(pipeline).send().await;
        let got = got.map_err(|error| failure("codepipeline:GetPipeline", &error))?;
        let store = got.pipeline().and_then(|pipeline| pipeline.artifact_store());
        let bucket = store.map(|store| store.location().to_owned());
        bucket.ok_or_else(|| Verdict::misconfigured(format!("the pipeline {pipeline} has no artifact store")).into())
    }

    /// Starts a pipeline, its source action with another object of S3's (fact 55), and with these variables.
    ///
    /// Not to be repeated blindly: each call starts an execution.
    ///
    /// # Errors
    /// The call's.
    pub async fn start_from(
        &self,
        pipeline: &str,
        (action, key): (&str, &str),
        variables: &[(&str, &str)],
    ) -> Result<String, Error> {
        use aws_sdk_codepipeline::types::{PipelineVariable, SourceRevisionOverride, SourceRevisionType};
        let revision = SourceRevisionOverride::builder().action_name(action).revision_value(key);
        let revision = revision.revision_type(SourceRevisionType::S3ObjectKey).build();
        let malformed =
            |error| Error::from(Verdict::misconfigured(format!("codepipeline:StartPipelineExecution: {error}")));
        let mut call = self.client.start_pipeline_execution().name(pipeline);
        call = call.source_revisions(revision.map_err(malformed)?);
        for (name, value) in variables {
            let variable = PipelineVariable::builder().name(*name).value(*value).build();
            call = call.variables(variable.map_err(malformed)?);
        }
        let started = call.send().await.map_err(|error| failure("codepipeline:StartPipelineExecution", &error))?;
        Ok(started.pipeline_execution_id().unwrap_or_default().to_owned())
    }

    /// Whether the release was halted.
    ///
    /// Only what a person or a newer release decided counts: `Failed` may be what was true before a retry began.
    ///
    /// # Errors
    /// The call's.
    pub async fn execution_status(&self, release: &Release) -> Result<Status, Error> {
        let call = self.client.get_pipeline_execution();
        let call = call.pipeline_name(&release.pipeline).pipeline_execution_id(&release.execution);
        let sent = call.send().await;
        let output = sent.map_err(|error| failure("codepipeline:GetPipelineExecution", &error))?;
        Ok(match output.pipeline_execution().and_then(|execution| execution.status()) {
            Some(
                PipelineExecutionStatus::Stopped
                | PipelineExecutionStatus::Cancelled
                | PipelineExecutionStatus::Superseded,
            ) => Status::Halted,
            _ => Status::Going,
        })
    }

    /// How often the release was tried in this execution, as of `age` after the action began.
    ///
    /// When it may not be read, this counts as the first try; and as one after a run that was given up, for which it is waited.
    ///
    /// # Errors
    /// The call's, or that the action's own run is not listed yet: look again. That nobody waits for it any more: CodePipeline has failed it
    /// before its event came.
    pub async fn tries(&self, release: &Release, run: Option<&str>, age: Duration) -> Result<Tries, Error> {
        match self.siblings(release).await {
            // Of a run whose id is known, nothing is guessed: a retry would count as the first try.
            Ok(siblings) if !is_listed(&siblings, release, run) => {
                let has_failed = || own_run(&siblings, release, run).is_some_and(Sibling::has_failed);
                match run {
                    _ if age < SHOWN => Err(not_listed()),
                    // The run before it may have failed, and its own be listed late.
                    _ if (run.is_some() || has_failed()) && age < LONG_SHOWN => Err(not_listed()),
                    Some(_) => Err(Verdict::failed(
                        "CodePipeline does not list this run of the action, so that what the run before it left would not be known. Nothing \
                         was begun. Retry the stage.",
                    )
                    .into()),
                    None if has_failed() => Err(Verdict::failed(
                        "CodePipeline had failed this action before its function was invoked. Nothing was begun.",
                    )
                    .into()),
                    None => Ok(tries(&of_the_try(siblings, run), release)),
                }
            }
            Ok(siblings) => Ok(tries(&of_the_try(siblings, run), release)),
            Err(again @ Error::Again(_)) => Err(again),
            Err(Error::Stop(why)) => {
                warn!(why = why.message, "whether this is a retry is not known");
                Ok(Tries { attempt: 1, before: None, started: None, given_up: true })
            }
        }
    }

    /// The newest actions of the pipeline, of whichever release: a hundred of them, as a rule one page.
    ///
    /// # Errors
    /// The call's.
    pub async fn newest_actions(&self, release: &Release) -> Result<Vec<Sibling>, Error> {
        self.actions(&release.pipeline, None, NEWEST).await
    }

    /// The actions of the release so far, newest first.
    ///
    /// # Errors
    /// The call's.
    pub async fn siblings(&self, release: &Release) -> Result<Vec<Sibling>, Error> {
        self.actions(&release.pipeline, Some(&release.execution), usize::MAX).await
    }

    /// The actions of an execution, or of all, newest first, until there are so many.
    async fn actions(&self, pipeline: &str, execution: Option<&str>, enough: usize) -> Result<Vec<Sibling>, Error> {
        let filter = execution.map(|id| ActionExecutionFilter::builder().pipeline_execution_id(id).build());
        let mut siblings = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_action_executions().pipeline_name(pipeline);
            let call = call.set_filter(filter.clone()).set_next_token(next);
            let paced = self.aws.paces(&self.aws.here()).control;
            let output = paced
                .pace(async { call.send().await.map_err(|error| failure("codepipeline:ListActionExecutions", &error)) })
                .await?;
            siblings.extend(output.action_execution_details().iter().map(sibling));
            next = output.next_token().map(str::to_owned);
            if next.is_none() || siblings.len() >= enough {
                return Ok(siblings);
            }
        }
    }
}

/// Codes that mean that nobody waits for this answer any more.
fn moved_on(code: &str) -> bool {
    matches!(code, "InvalidJobStateException" | "JobNotFoundException")
}

fn details(summary: &str, percent: Option<u8>, link: Option<&str>) -> ExecutionDetails {
    // Empty strings are invalid (fact 6).
    let summary = if summary.is_empty() { "In progress" } else { summary };
    ExecutionDetails::builder()
        .summary(fit(summary, LONGEST_SUMMARY))
        .set_percent_complete(percent.map(|percent| i32::from(percent.min(100))))
        .set_external_execution_id(link.filter(|link| !link.is_empty()).map(|link| fit(link, LONGEST_LINK)))
        .build()
}

/// A verdict as CodePipeline takes it.
#[must_use]
pub fn reason(verdict: &Verdict) -> FailureDetails {
    let kind = match verdict.kind {
        Kind::JobFailed => FailureType::JobFailed,
        Kind::Configuration => FailureType::ConfigurationError,
        Kind::Permission => FailureType::PermissionError,
        Kind::Unavailable => FailureType::SystemUnavailable,
    };
    let message = if verdict.message.is_empty() { "Failed without a message" } else { &verdict.message };
    let mut builder = FailureDetails::builder().message(fit(message, LONGEST_MESSAGE));
    builder = builder.r#type(kind);
    // Both required members are set above.
    builder.build().unwrap_or_else(|_| unreachable!("type and message are set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_always_fits_codepipelines_limits() {
        let reason = reason(&Verdict::failed("x".repeat(9000)));
        assert_eq!(reason.message().chars().count(), LONGEST_MESSAGE);
        assert!(!details("", None, Some("")).summary().unwrap_or_default().is_empty());
        assert_eq!(details("s", Some(200), Some("")).external_execution_id(), None);
    }
}
