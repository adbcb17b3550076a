//! The job that CodePipeline hands to a worker, in the one shape in which every function gets it (fact 1).
//!
//! Invariant: reading an event cannot fail and printing one cannot show a credential. What is missing is found when it
//! is needed, where it can still become a report.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Verdict;
use crate::text;
use crate::time::Time;

/// Whatever Lambda was invoked with. Any JSON will do: `lambda_runtime` never calls a handler whose event type refuses
/// the event, and then nobody would answer the job (fact 39).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Event(Value);

impl Event {
    /// An event of this value.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The value, which may hold live credentials (fact 16): never log it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event(not shown: it may hold credentials)")
    }
}

/// One job of an action.
#[derive(Debug)]
pub struct Job {
    /// What `PutJobSuccessResult` wants back.
    pub id: String,
    /// Which way it came in.
    pub origin: Origin,
    /// The input artifacts, in the pipeline's order.
    pub artifacts: Vec<ArtifactLocation>,
    /// What reads them.
    pub credentials: Option<Credentials>,
    /// What the action's job before this one left for it.
    pub continuation: Option<String>,
    /// What claims it, when it was polled for.
    pub claim: Option<Claim>,
    /// The id of the action's run, where the job names it (fact 8).
    pub run: Option<String>,
    configuration: Map<String, Value>,
}

/// What `dispatch-jobs` adds to a job that it has polled: it is the function that claims the job (fact 8), so that a job
/// is never claimed by somebody who dies before doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `AcknowledgeJob`'s nonce.
    pub nonce: String,
    /// When the job was polled.
    pub polled: Time,
    /// The provider of its action type, where it is told.
    pub provider: Option<String>,
}

/// Under this name stands the [`Claim`] in a job.
pub const CLAIM: &str = "claim";

/// The two ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A custom action's job, which `dispatch-jobs` polled and acknowledged; it knows its pipeline.
    Custom,
    /// A Lambda Invoke action's job, which knows only its `UserParameters` (fact 2).
    Invoke,
}

/// The release that a job belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline execution's id.
    pub execution: String,
    /// The stage, where it is known.
    pub stage: Option<String>,
    /// The action, where it is known.
    pub action: Option<String>,
    /// Which try of the release this is, from 1: each retry of a stage is another one, with a log stream of its own.
    pub attempt: u32,
}

/// Where an artifact is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactLocation {
    /// Its name in the pipeline.
    pub name: String,
    /// The S3 bucket.
    pub bucket: String,
    /// The S3 key.
    pub key: String,
}

/// The job's own credentials for its artifacts.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The session's token.
    pub session_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

impl Job {
    /// The job in an event, or `None` when the event names no job: then there is nobody to answer.
    #[must_use]
    pub fn read(event: &Event) -> Option<Self> {
        let job = event.value().get("CodePipeline.job")?;
        let id = string(job, "/id")?;
        let configuration = job
            .pointer("/data/actionConfiguration/configuration")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let credentials = job.pointer("/data/artifactCredentials").and_then(|found| {
            Some(Credentials {
                access_key_id: string(found, "/accessKeyId")?,
                secret_access_key: string(found, "/secretAccessKey")?,
                session_token: string(found, "/sessionToken").unwrap_or_default(),
            })
        });
        let artifacts = job.pointer("/data/inputArtifacts").and_then(Value::as_array).into_iter().flatten();
        let mut configuration = configuration;
        let origin = match job.pointer("/data/pipelineContext").and_then(context) {
            // What the context says stands beside the parameters, under the names that `UserParameters` has for it.
            Some(context) => {
                configuration.extend(context);
                Origin::Custom
            }
            None => {
                configuration = user_parameters(&configuration);
                Origin::Invoke
            }
        };
        Some(Self {
            id,
            origin,
            artifacts: artifacts.filter_map(location).collect(),
            credentials,
            continuation: string(job, "/data/continuationToken"),
            claim: job.get(CLAIM).and_then(|claim| {
                let polled = claim.get("polled").and_then(Value::as_u64)?;
                let provider = string(claim, "/provider");
                Some(Claim { nonce: string(claim, "/nonce")?, polled: Time::from_millis(polled), provider })
            }),
            run: string(job, "/data/pipelineContext/action/actionExecutionId"),
            configuration,
        })
    }

    /// The release that this job belongs to.
    ///
    /// # Errors
    /// An Invoke action whose `UserParameters` do not name it.
    pub fn release(&self) -> Result<Release, Verdict> {
        if let Some(why) = self.configuration.get(UNREADABLE).and_then(Value::as_str) {
            return Err(Verdict::misconfigured(format!(
                "This action's UserParameters are no JSON object ({why}). {EXAMPLE}"
            )));
        }
        let named = |name: &str| self.configuration.get(name).and_then(Value::as_str).map(str::to_owned);
        let needed = |name: &str| {
            named(name).filter(|value| !value.is_empty() && !value.starts_with("#{")).ok_or_else(|| {
                Verdict::misconfigured(format!(
                    "This action's UserParameters must name `{name}`: a Lambda action is not told its pipeline. {EXAMPLE}"
                ))
            })
        };
        Ok(Release {
            pipeline: needed(PIPELINE)?,
            execution: needed(EXECUTION)?,
            stage: named(STAGE),
            action: named(ACTION),
            attempt: 1,
        })
    }

    /// The action's parameters, of the type that the function wants.
    ///
    /// # Errors
    /// A parameter that is missing, unknown or malformed, by name.
    pub fn parameters<P: DeserializeOwned>(&self) -> Result<P, Verdict> {
        let own: Map<_, _> = self
            .configuration
            .iter()
            .filter(|(name, value)| !CONTEXT.contains(&name.as_str()) && value.as_str() != Some(""))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        P::deserialize(Value::Object(own)).map_err(|error| {
            let where_set = match self.origin {
                Origin::Custom => "configuration",
                Origin::Invoke => "UserParameters",
            };
            Verdict::misconfigured(format!("This action's {where_set}: {}.", field_error(&error.to_string())))
        })
    }
}

const PIPELINE: &str = "Pipeline";
const EXECUTION: &str = "PipelineExecutionId";
const STAGE: &str = "Stage";
const ACTION: &str = "Action";
const CONTEXT: [&str; 4] = [PIPELINE, EXECUTION, STAGE, ACTION];

/// Under this name stands why `UserParameters` could not be read; no parameter can have it.
const UNREADABLE: &str = "\0unreadable";

const EXAMPLE: &str = r##"For example: {"Pipeline":"shop","PipelineExecutionId":"#{codepipeline.PipelineExecutionId}","Stage":"Migrate","Action":"Migrate","Task":"migrate"}"##;

/// What `data.pipelineContext` says (fact 8).
fn context(context: &Value) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    found.insert(PIPELINE.into(), string(context, "/pipelineName")?.into());
    found.insert(EXECUTION.into(), string(context, "/pipelineExecutionId")?.into());
    found.extend(string(context, "/stage/name").map(|name| (STAGE.into(), name.into())));
    found.extend(string(context, "/action/name").map(|name| (ACTION.into(), name.into())));
    Some(found)
}

/// The parameters of an Invoke action: a JSON object in `UserParameters`.
fn user_parameters(configuration: &Map<String, Value>) -> Map<String, Value> {
    let unreadable = |why: String| Map::from_iter([(UNREADABLE.to_owned(), Value::String(why))]);
    match configuration.get("UserParameters").and_then(Value::as_str) {
        None => unreadable("there are none".into()),
        Some(text) => serde_json::from_str(text).unwrap_or_else(|error| unreadable(error.to_string())),
    }
}

fn location(artifact: &Value) -> Option<ArtifactLocation> {
    Some(ArtifactLocation {
        name: string(artifact, "/name").unwrap_or_default(),
        bucket: string(artifact, "/location/s3Location/bucketName")?,
        key: string(artifact, "/location/s3Location/objectKey")?,
    })
}

fn string(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// Serde's "unknown field `x`, expected one of `a`, `b`", with the nearest known name where one is near.
#[must_use]
pub fn field_error(said: &str) -> String {
    let Some((unknown, expected)) =
        said.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "))
    else {
        return said.to_owned();
    };
    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    match text::nearest(unknown, known.iter().copied()) {
        Some(near) => format!("`{unknown}` is not known: did you mean `{near}`?"),
        None => format!("`{unknown}` is not known; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    struct Parameters {
        task: String,
        manifest: Option<String>,
    }

    fn custom(configuration: Value) -> Job {
        Job::read(&Event::new(json!({"CodePipeline.job": {"id": "j", "data": {
            "actionConfiguration": {"configuration": configuration},
            "pipelineContext": {"pipelineName": "shop", "pipelineExecutionId": "e-1",
                "stage": {"name": "Migrate"}, "action": {"name": "Run"}},
            "artifactCredentials": {"accessKeyId": "AKIA-SECRET", "secretAccessKey": "hush", "sessionToken": "hush"},
        }}})))
        .unwrap()
    }

    fn invoke(parameters: &str) -> Job {
        Job::read(&Event::new(json!({"CodePipeline.job": {"id": "j", "data": {
            "actionConfiguration": {"configuration": {"FunctionName": "f", "UserParameters": parameters}}}}})))
        .unwrap()
    }

    #[test]
    fn both_ways_in_give_the_same_release_and_parameters() {
        let a = custom(json!({"Task": "migrate"}));
        let b = invoke(
            r#"{"Task":"migrate","Pipeline":"shop","PipelineExecutionId":"e-1","Stage":"Migrate","Action":"Run"}"#,
        );
        assert_eq!((a.origin, b.origin), (Origin::Custom, Origin::Invoke));
        assert_eq!(a.release(), b.release());
        assert_eq!(a.parameters::<Parameters>(), b.parameters::<Parameters>());
        assert_eq!(a.parameters::<Parameters>().unwrap().task, "migrate");
    }

    #[test]
    fn a_misspelt_parameter_is_named_with_the_one_that_was_meant() {
        let verdict = custom(json!({"Tsak": "migrate"})).parameters::<Parameters>().unwrap_err();
        assert_eq!(verdict.message, "This action's configuration: `Tsak` is not known: did you mean `Task`?.");
    }

    #[test]
    fn an_empty_optional_parameter_is_one_that_is_not_set() {
        let parameters: Parameters = custom(json!({"Task": "migrate", "Manifest": ""})).parameters().unwrap();
        assert_eq!(parameters.manifest, None);
    }

    #[test]
    fn an_invoke_action_that_does_not_name_its_execution_is_told_how() {
        for parameters in ["", "[]", "{}", r##"{"Pipeline":"shop","PipelineExecutionId":"#{codepipeline.Typo}"}"##] {
            let verdict = invoke(parameters).release().unwrap_err();
            assert!(verdict.message.contains("#{codepipeline.PipelineExecutionId}"), "{parameters}: {verdict:?}");
        }
    }

    #[test]
    fn no_credential_is_ever_printed() {
        let event = json!({"CodePipeline.job": {"data": {"artifactCredentials": {"secretAccessKey": "hush"}}}});
        let job = custom(json!({}));
        let printed = format!("{:?} {job:?}", Event::new(event));
        assert!(!printed.contains("hush") && !printed.contains("AKIA"), "{printed}");
    }

    #[test]
    fn an_event_that_is_no_job_is_read_as_none() {
        for event in [json!(null), json!([]), json!({"source": "aws.events"}), json!({"CodePipeline.job": {}})] {
            assert!(Job::read(&Event::new(event)).is_none());
        }
    }
}
