//! `template.yaml` as this machine needs it: the pipeline, the action types, the functions and the rules between them.
//!
//! Invariant: what is read here is what CloudFormation would make; a construct that is not understood is refused, never
//! skipped.

mod evaluate;
mod policies;

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode as _, Yaml};
use serde::Deserialize;
use serde_json::Value;

use crate::Mistake;

pub use evaluate::STACK;
pub(crate) use policies::is_like;
pub use policies::{Grant, Need, Permissions};

/// What the stack makes, as far as a release needs it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The pipeline that releases.
    pub pipeline: Pipeline,
    /// The others.
    pub other_pipelines: Vec<Pipeline>,
    /// The custom action types, by provider.
    pub action_types: Vec<ActionType>,
    /// The Lambda functions.
    pub functions: Vec<Function>,
    /// What invokes them.
    pub rules: Vec<Rule>,
    /// The queues.
    pub queues: Vec<Queue>,
    /// SSM parameters, by name.
    pub ssm: BTreeMap<String, String>,
    /// The log groups.
    pub log_groups: Vec<String>,
    /// Where it is.
    pub region: String,
    /// Whose it is.
    pub account: String,
}

/// `AWS::CodePipeline::Pipeline`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Pipeline {
    /// Its name; the stack makes one unless given.
    #[serde(default)]
    pub name: String,
    /// `V1` or `V2`.
    pub pipeline_type: Option<String>,
    /// How executions share the stages.
    #[serde(default)]
    pub execution_mode: ExecutionMode,
    /// The role.
    pub role_arn: String,
    /// Where artifacts are kept.
    pub artifact_store: ArtifactStore,
    /// What may be given at its start.
    pub variables: Option<Vec<Variable>>,
    /// What starts it.
    pub triggers: Option<Value>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Whether an update starts it.
    pub restart_execution_on_update: Option<bool>,
    /// Tags.
    pub tags: Option<Value>,
}

/// What may be given at a pipeline's start, as `#{variables.NAME}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is unless given.
    pub default_value: Option<String>,
    /// What it means.
    pub description: Option<String>,
}

/// How executions share the stages (fact 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExecutionMode {
    /// One that waits is replaced by a newer one.
    #[default]
    Superseded,
    /// Those that wait keep their order.
    Queued,
    /// None waits.
    Parallel,
}

/// Where artifacts are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ArtifactStore {
    /// `S3`.
    pub r#type: String,
    /// The bucket.
    pub location: String,
    /// The key that encrypts it.
    pub encryption_key: Option<Value>,
}

/// A stage.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its actions.
    pub actions: Vec<Action>,
    /// What happens when it fails.
    pub on_failure: Option<Value>,
}

/// An action.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// Its type.
    pub action_type_id: ActionTypeId,
    /// When it runs within the stage: those with the same number run at once.
    #[serde(default = "one")]
    pub run_order: u32,
    /// Its parameters.
    #[serde(default)]
    pub configuration: BTreeMap<String, Value>,
    /// What it reads.
    #[serde(default)]
    pub input_artifacts: Vec<Named>,
    /// What it writes.
    #[serde(default)]
    pub output_artifacts: Vec<Named>,
    /// What its output variables are called by.
    pub namespace: Option<String>,
    /// How long it may take.
    pub timeout_in_minutes: Option<u64>,
    /// Its role.
    pub role_arn: Option<String>,
    /// Its Region.
    pub region: Option<String>,
}

const fn one() -> u32 {
    1
}

/// A thing with a name.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// Which type an action has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ActionTypeId {
    /// `Source`, `Build`, `Test`, `Deploy`, `Invoke` or `Approval`.
    pub category: String,
    /// `AWS`, `Custom` or `ThirdParty`.
    pub owner: String,
    /// Its provider.
    pub provider: String,
    /// Its version.
    #[serde(deserialize_with = "text")]
    pub version: String,
}

fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

/// `AWS::CodePipeline::CustomActionType` (fact 7).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ActionType {
    /// Its category.
    pub category: String,
    /// Its provider.
    pub provider: String,
    /// Its version.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// Its parameters.
    #[serde(default)]
    pub configuration_properties: Vec<ConfigurationProperty>,
    /// How many artifacts it reads.
    pub input_artifact_details: ArtifactDetails,
    /// How many artifacts it writes.
    pub output_artifact_details: ArtifactDetails,
    /// Its links.
    pub settings: Option<ActionSettings>,
    /// Tags.
    pub tags: Option<Value>,
}

/// A parameter of an action type.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ConfigurationProperty {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it identifies the action.
    pub key: bool,
    /// Whether it is hidden.
    pub secret: bool,
    /// Whether workers can ask for it.
    #[serde(default)]
    pub queryable: bool,
    /// `String`, `Number` or `Boolean`.
    pub r#type: Option<String>,
}

/// How many artifacts.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ArtifactDetails {
    /// At least.
    pub minimum_count: usize,
    /// At most.
    pub maximum_count: usize,
}

/// The links of an action type.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ActionSettings {
    /// The link to what an execution does.
    pub execution_url_template: Option<String>,
    /// The link to the action.
    pub entity_url_template: Option<String>,
    /// The link to its configuration.
    pub revision_url_template: Option<String>,
    /// The link to where it is set up.
    pub third_party_configuration_url: Option<String>,
}

/// A Lambda function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Which of the workspace's binaries it is.
    pub binary: String,
    /// How long an invocation may take, in seconds.
    pub timeout: u64,
    /// Its memory in MB.
    pub memory: u64,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// How often an asynchronous invocation that failed is tried again (fact 3).
    pub retries: u32,
    /// What is invoked when all tries have failed.
    pub on_failure: Option<String>,
    /// What its role allows.
    pub permissions: Permissions,
}

/// A queue of SQS's.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How long a message that was received is hidden, in seconds.
    pub visibility: u64,
    /// Where a message goes that was received too often, and how often that is.
    pub redrive: Option<(String, u32)>,
}

/// What invokes a function.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The function's name.
    pub function: String,
    /// When.
    pub on: On,
}

/// When a rule fires.
#[derive(Debug, Clone, PartialEq)]
pub enum On {
    /// On events that match.
    Pattern(Value),
    /// Every so many seconds.
    Rate(u64),
    /// With the messages of a queue, so many at once at most, by so many invocations at once.
    Queue {
        /// The queue's name.
        queue: String,
        /// How many messages.
        batch: usize,
        /// How many invocations.
        at_once: usize,
    },
}

/// What a role allows that another template than Cutover's own makes.
///
/// # Errors
/// What is not understood, with its place in the template.
pub fn role(
    text: &str,
    name: &str,
    parameters: &BTreeMap<String, String>,
    account: &str,
) -> Result<Permissions, Mistake> {
    let document = document(text)?;
    evaluate::Evaluator::new(&document, parameters, account, "us-east-1")?.role(name)
}

/// The parameters that must be given.
///
/// # Errors
/// The template cannot be read.
pub fn needed(text: &str) -> Result<Vec<String>, Mistake> {
    let document = document(text)?;
    let parameters = document.get("Parameters").and_then(Value::as_object).into_iter().flatten();
    Ok(parameters.filter(|(_, one)| one.get("Default").is_none()).map(|(name, _)| name.clone()).collect())
}

fn document(text: &str) -> Result<Value, Mistake> {
    let documents = Yaml::load_from_str(text).map_err(|error| Mistake(format!("template.yaml: {error}")))?;
    evaluate::plain(documents.first().ok_or_else(|| Mistake("template.yaml is empty".into()))?)
}

/// Reads the template; `parameters` take the place of its defaults.
///
/// # Errors
/// What is not understood, with its place in the template.
pub fn read(text: &str, parameters: &BTreeMap<String, String>, account: &str, region: &str) -> Result<Stack, Mistake> {
    let document = document(text)?;
    evaluate::Evaluator::new(&document, parameters, account, region)?.stack()
}
