//! Messages of the queue: each becomes a job that is written down, or one that cannot be done.
//!
//! Invariant: only what is written down, or told to people, is not received again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use shared::aws::s3::Bucket;
use shared::workers::Known;
use shared::workers::jobs::{Job, Keys};
use shared::{Aws, Error, Time, text};
use tracing::{error, warn};

use crate::event::Message;
use crate::message;

/// What became of messages.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The kinds of which there are jobs, each with its environment.
    pub(crate) kinds: BTreeSet<(String, String)>,
    /// The messages to receive again.
    pub(crate) failed: Vec<String>,
}

/// Takes messages in.
///
/// Safe to repeat: a job that is written down is not written again, and one that was taken is found so.
pub(crate) async fn take_in(aws: &Aws, bucket: &Bucket, known: &Known, messages: Vec<Message>, now: Time) -> Taken {
    let each = join_all(messages.into_iter().map(async |message| {
        let outcome = take(aws, bucket, known, &message, now).await;
        (message.id, outcome)
    }))
    .await;
    let mut taken = Taken::default();
    for (id, outcome) in each {
        match outcome {
            Ok(Some(kind)) => drop(taken.kinds.insert(kind)),
            Ok(None) => {}
            Err(why) => {
                error!(%why, message = id, "a message is received again");
                taken.failed.push(id);
            }
        }
    }
    taken
}

async fn take(
    aws: &Aws,
    bucket: &Bucket,
    known: &Known,
    message: &Message,
    now: Time,
) -> Result<Option<(String, String)>, Error> {
    let job = Job::read(&message.body).and_then(|job| is_due(job, now)).and_then(|job| match is_known(known, &job) {
        Ok(()) => Ok(Some(job)),
        Err(why) if message.received < RECEIVED => {
            warn!(message = message.id, why, "a job waits for the release that brings its worker");
            Ok(None)
        }
        Err(why) => Err(why),
    });
    let job = match job {
        Ok(Some(job)) => job,
        Ok(None) => return Err(Error::Again("its worker is not known yet".into())),
        Err(why) => {
            warn!(message = message.id, why, "a job cannot be done");
            tell_dead(aws, &message.body, &why).await?;
            return Ok(None);
        }
    };
    let content = serde_json::to_vec(&job).unwrap_or_default();
    bucket.create(&Keys::new(&job.environment, &job.worker).job(&job.id), content).await?;
    Ok(Some((job.environment, job.worker)))
}

/// How often a message is received whose worker no release has brought yet, or not again, before nobody will: the new web version, which may ask
/// for it, has traffic before the last target's has moved, which is when workers are released. The queue shows it again after six minutes.
const RECEIVED: u32 = 4;

/// How far clocks may differ.
const CLOCKS: Duration = Duration::from_secs(5 * 60);

/// A run by the clock, once it is due: Scheduler sends none before, and what somebody else sends in its name would take its place.
fn is_due(job: Job, now: Time) -> Result<Job, String> {
    match &job.by_clock {
        Some(run) if run.due > now.plus(CLOCKS) => {
            Err(format!("`due` is {}, and it is {now}: a run by the clock is asked for when it is due", run.due))
        }
        Some(_) | None => Ok(job),
    }
}

fn is_known(known: &Known, job: &Job) -> Result<(), String> {
    let Job { worker, environment, .. } = job;
    match known.kinds.get(&(environment.clone(), worker.clone())).map(|released| &released.what) {
        Some(Some(_)) => Ok(()),
        Some(None) => Err(message::gone(worker, environment)),
        None => {
            let environments: BTreeSet<_> = known.kinds.keys().map(|(environment, _)| environment.as_str()).collect();
            if environments.is_empty() {
                return Err(message::none_released());
            }
            if !environments.contains(environment.as_str()) {
                return Err(text::unknown("environment", environment, environments));
            }
            let here = known.kinds.keys().filter(|(at, _)| at == environment).map(|(_, name)| name.as_str());
            Err(text::unknown("worker", worker, here))
        }
    }
}

/// Puts a message where people look at it.
///
/// # Errors
/// The call's, or that the stack has no such queue.
pub(crate) async fn tell_dead(aws: &Aws, body: &str, why: &str) -> Result<(), Error> {
    let settings = aws.settings().workers.as_ref();
    let queue = settings.map(|settings| settings.dead_letters.as_str()).filter(|queue| !queue.is_empty());
    aws.send(queue.ok_or_else(|| crate::missing("CUTOVER_DEAD_LETTERS"))?, body, why).await
}
