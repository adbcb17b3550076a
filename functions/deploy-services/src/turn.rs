//! Whose turn it is to deploy: a release and a way back are of two pipelines, and never deploy at once.
//!
//! Invariant: nothing is begun by whoever has not got the turn. It is an object in S3 that names the execution; it is taken over
//! when no action that deploys is under way in that execution or was given up lately, so that nobody has to be alive to give it back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::aws::codepipeline::{ActionStatus, Codepipeline, Sibling};
use shared::aws::s3::{Bucket, Written};
use shared::aws::{GIVEN_UP, SHOWN};
use shared::job::Release;
use shared::{Aws, Error, Tick, Time, Verdict};
use tracing::warn;

/// The object's key.
const KEY: &str = shared::record::DEPLOYING;

/// The longest that an action runs (fact 4): a turn that is older is nobody's.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Who deploys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) pipeline: String,
    pub(crate) execution: String,
    /// When it was taken.
    pub(crate) since: Time,
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This release's.
    Ours,
    /// Another one's, which deploys.
    Theirs(Turn),
}

/// Takes the turn, unless another release deploys.
///
/// Safe to repeat: the object is written only where there is none, or over what was read (S3's conditions), and one that names this
/// execution already is its own.
///
/// # Errors
/// The calls': not knowing, nothing begins.
pub(crate) async fn take(tick: &Tick<'_>) -> Result<Whose, Error> {
    // Another pipeline than the stack's own may have no part in it.
    let Some(bucket) = tick.aws.settings().bucket.as_deref() else { return Ok(Whose::Ours) };
    let bucket = tick.aws.bucket(bucket);
    let own =
        Turn { pipeline: tick.release.pipeline.clone(), execution: tick.release.execution.clone(), since: tick.now };
    let body = serde_json::to_vec(&own).unwrap_or_default();
    let written = match bucket.get(KEY).await? {
        None => bucket.create(KEY, body).await?,
        Some(object) => {
            match serde_json::from_slice::<Turn>(&object.body) {
                // One that is tried again may not be shown to deploy yet, so an old turn is taken anew: whoever has read it before writes
                // nothing then.
                Ok(turn) if turn.execution == own.execution && tick.now.since(turn.since) < SHOWN / 2 => {
                    return Ok(Whose::Ours);
                }
                Ok(turn) if turn.execution == own.execution => {}
                Ok(turn) if deploys(tick.aws, &turn, &own, &bucket).await? => return Ok(Whose::Theirs(turn)),
                Ok(_) => {}
                Err(error) => warn!(%error, "whose turn it was cannot be read"),
            }
            bucket.replace(KEY, body, &object.etag).await?
        }
    };
    match written {
        Written::Done(_) => Ok(Whose::Ours),
        Written::Refused => {
            Err(Error::Again("another release has taken the turn to deploy at this very moment".into()))
        }
    }
}

/// Whether the release that has the turn deploys. One that has just taken it may not be shown to do so yet.
///
/// # Errors
/// The calls'; and that another pipeline may not be asked, for as long as it may deploy.
async fn deploys(aws: &Aws, turn: &Turn, own: &Turn, bucket: &Bucket) -> Result<bool, Error> {
    let now = own.since;
    if now.since(turn.since) < SHOWN {
        return Ok(true);
    }
    let release = Release {
        pipeline: turn.pipeline.clone(),
        execution: turn.execution.clone(),
        stage: None,
        action: None,
        attempt: 1,
    };
    let actions = match Codepipeline::new(aws).siblings(&release).await {
        Ok(actions) => actions,
        Err(again @ Error::Again(_)) => return Err(again),
        // Whoever cannot be asked cannot keep everybody else from deploying for ever.
        Err(Error::Stop(why)) => {
            let is_gone = ["PipelineNotFoundException", "PipelineExecutionNotFoundException"];
            if is_gone.iter().any(|code| why.message.contains(code)) || now.since(turn.since) > LONGEST {
                warn!(why = why.message, pipeline = turn.pipeline, "who had the turn to deploy is gone");
                return Ok(false);
            }
            return Err(Error::Stop(Verdict {
                message: format!(
                    "Whether execution {} of the pipeline `{}` deploys cannot be asked, and it has had the turn to deploy since {}: {}. Let the \
                     stack's parameter OtherPipelines name that pipeline, or, where it is gone, delete {}.",
                    turn.execution,
                    turn.pipeline,
                    turn.since,
                    why.message.trim_end_matches('.'),
                    bucket.at(KEY),
                ),
                ..why
            }));
        }
    };
    Ok(actions.iter().filter(|one| one.deploys).any(|one| one.is_running() || has_ended_lately(one, now)))
}

/// Whether it was given up so lately that what it had deployed may not be seen to be taken back. Whoever looked now would
/// take that for what runs here, and go back to it later. So it is where it has failed: what it could not take back itself, or has deployed
/// before it died, `halt-release` takes back, which begins now.
fn has_ended_lately(one: &Sibling, now: Time) -> bool {
    let leaves_something = match one.status {
        ActionStatus::Abandoned | ActionStatus::Failed => true,
        ActionStatus::InProgress | ActionStatus::Succeeded | ActionStatus::Unknown => false,
    };
    leaves_something && one.updated.is_some_and(|at| now.since(at) < GIVEN_UP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_given_up_keeps_its_turn_until_it_is_seen_to_take_back_what_it_has_deployed() {
        let now = Time::from_millis(1_000_000);
        for (status, before, expected) in [
            (ActionStatus::Abandoned, 1, true),
            (ActionStatus::Abandoned, GIVEN_UP.as_secs(), false),
            (ActionStatus::Failed, 1, true),
            (ActionStatus::Failed, GIVEN_UP.as_secs(), false),
            (ActionStatus::Succeeded, 1, false),
        ] {
            let one = Sibling { status, updated: Some(now.before(Duration::from_secs(before))), ..Sibling::default() };
            assert_eq!(has_ended_lately(&one, now), expected, "{status:?} {before} s ago");
        }
    }
}
