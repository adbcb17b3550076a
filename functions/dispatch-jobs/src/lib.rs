//! Hands the jobs of Cutover's custom actions to the functions that do them.
//!
//! Invariant: a job is claimed by the function that does it, never here: whatever dies on the way, the job waits to be
//! polled again, and whoever comes second to claim it goes away. An event only hurries the look: every invocation polls
//! for every type.

mod codepipeline;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use shared::aws::CONTINUED;
use shared::{Aws, Error, Event, Invocation, Verdict};
use tracing::{error, info, warn};

/// Which function does the jobs of which action type: provider and function name, from `CUTOVER_FUNCTIONS`.
pub type Functions = BTreeMap<String, String>;

/// What this function is told by the stack.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Which function does which provider's jobs.
    pub functions: Functions,
    /// The version of the action types.
    pub version: String,
}

impl Settings {
    /// From the function's environment: `CUTOVER_FUNCTIONS`, a JSON object of provider and function name, and
    /// `CUTOVER_ACTION_VERSION`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn from_env() -> Result<Self, Error> {
        let needed = |name: &str| {
            let missing = || Verdict::misconfigured(format!("{name} is not set: see template.yaml"));
            std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(missing)
        };
        let functions = serde_json::from_str(&needed("CUTOVER_FUNCTIONS")?).map_err(|error| {
            Verdict::misconfigured(format!("CUTOVER_FUNCTIONS is no JSON object of names: {error}"))
        })?;
        Ok(Self { functions, version: needed("CUTOVER_ACTION_VERSION")? })
    }
}

/// Handles one event: whatever it says, looks for jobs of every type until there are none.
///
/// # Errors
/// When CodePipeline could not be polled: Lambda tries again, and the schedule does.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    dispatch(&aws, &Settings::from_env()?, &event, invocation).await
}

/// Looks for jobs of every type until there are none; where one was continued, for that one until it is there, which takes moments that
/// are not documented (fact 5).
///
/// # Errors
/// When CodePipeline could not be polled; the other types are looked at all the same.
pub async fn dispatch(aws: &Aws, settings: &Settings, event: &Event, invocation: Invocation) -> Result<(), Error> {
    let jobs = codepipeline::Jobs::new(aws, &settings.version, invocation.clock);
    let (mut outcome, mut has_found) = (Ok(()), BTreeSet::new());
    for (provider, function) in &settings.functions {
        match hand_over(aws, &jobs, (provider, function), invocation).await {
            Ok(true) => drop(has_found.insert(provider.as_str())),
            Ok(false) => {}
            Err(error) => {
                error!(%error, provider, "its jobs were not looked at");
                outcome = Err(error);
            }
        }
    }
    let continued = event.value().get(CONTINUED).and_then(Value::as_str);
    let Some((provider, function)) = continued.and_then(|provider| settings.functions.get_key_value(provider)) else {
        return outcome;
    };
    for pause in PAUSES.map(Duration::from_millis) {
        if has_found.contains(provider.as_str()) || invocation.left() <= pause {
            break;
        }
        tokio::time::sleep(pause).await;
        match hand_over(aws, &jobs, (provider, function), invocation).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => warn!(%error, provider, "its jobs were not looked at"),
        }
    }
    outcome
}

/// How long after each other it is looked for a job that was continued, in milliseconds; after that, the schedule looks.
const PAUSES: [u64; 8] = [500, 500, 1000, 1000, 2000, 2000, 4000, 4000];

/// Whether there was one that was continued.
async fn hand_over(
    aws: &Aws,
    jobs: &codepipeline::Jobs<'_>,
    (provider, function): (&str, &str),
    invocation: Invocation,
) -> Result<bool, Error> {
    let (mut handed_over, mut is_there) = (BTreeSet::new(), false);
    loop {
        let mut found = jobs.poll(provider).await?;
        let is_last = found.len() < codepipeline::BATCH;
        // One that its function has not claimed yet is still there.
        found.retain(|job| handed_over.insert(job.id.clone()));
        if found.is_empty() {
            return Ok(is_there);
        }
        for job in found {
            info!(job = job.id, provider, function, "handing over");
            is_there |= job.is_continued();
            match aws.invoke(function, &job.event).await {
                Ok(()) => {}
                // It waits to be polled again.
                Err(error @ Error::Again(_)) => return Err(error),
                Err(Error::Stop(why)) if job.may_wait(invocation.clock.now()) => {
                    error!(why = why.message, job = job.id, function, "it goes on once its function can be invoked");
                }
                Err(Error::Stop(why)) => jobs.answer_for(&job, provider, function, &why).await?,
            }
        }
        if is_last {
            return Ok(is_there);
        }
    }
}
