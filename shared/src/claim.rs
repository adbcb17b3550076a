//! Claiming a job, so that one function does it.
//!
//! Invariant: of all that are invoked for a job, the one that has written its name into the bucket first goes on; also when
//! the answers to several claims are lost, and CodePipeline alone would not tell whose claim it took. Where the bucket does
//! not answer, what CodePipeline says counts: a function too many adopts what it finds, and none would be worse.
//!
//! A continuation is a job of its own, also if CodePipeline lets it keep the id of the job before it (unconfirmed).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::aws::codepipeline::{Claimed, Codepipeline};
use crate::aws::s3::{Bucket, Written};
use crate::aws::{ATTEMPT, Aws};
use crate::error::Error;
use crate::job::{Claim, Job};
use crate::lambda::{self, Invocation};
use crate::time::Time;
use crate::token;

/// When a job that was claimed before is taken up all the same. Lambda delivers an event again about a minute after its
/// function died (fact 3); whoever polled the same job at the same moment comes within seconds.
const REDELIVERY: Duration = Duration::from_secs(30);

/// How long a claim is tried that CodePipeline answers with "not now", or of which it is not known whether it arrived; with the
/// last call it must be over before [`REDELIVERY`]. Who comes late tries for as long as it lives: Lambda comes back twice, and nobody after it.
const CLAIMING: Duration = Duration::from_secs(18);

/// The pause between two such tries, and between two of writing down who does the job.
const PAUSE: Duration = Duration::from_secs(1);

/// The same when it has been tried for long.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// By how much Lambda's clock and CodePipeline's may differ.
const SKEW: Duration = Duration::from_secs(5);

/// How long it is tried to write down who does the job.
const WRITING: Duration = Duration::from_secs(20);

/// Who does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This invocation.
    Ours,
    /// The same, and one before it has died over it.
    Again,
    /// Somebody else; or nobody, now.
    Not,
}

/// An invocation for a job, as it is written down below `_claims/`. A rule of the bucket forgets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// See [`Invocation::request`].
    request: String,
    /// What tells it from another one with the same event.
    life: u64,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Time>,
    /// Whether it has not claimed the job itself, and nobody else was known to have.
    #[serde(default, skip_serializing_if = "is_false")]
    is_in_doubt: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Holder {
    fn new(invocation: &Invocation) -> Self {
        let (request, life) = (written(invocation.request), fastrand::u64(..));
        Self { request, life, begun: Some(invocation.clock.now()), is_in_doubt: false }
    }

    /// What becomes of a job that nobody claims, and that `holder` was written down for first. An event that came again within seconds
    /// has been brought twice, and the first one does it; one that came later has been brought since that one died. An event of its own is
    /// another job: a continuation may have the id of the job before it (unconfirmed).
    fn after(&self, holder: &Self) -> Taken {
        let passed = self.begun.zip(holder.begun).map(|(now, begun)| now.since(begun));
        match passed {
            _ if self == holder || self.request != holder.request => Taken::Ours,
            Some(passed) if passed >= REDELIVERY => Taken::Again,
            Some(_) => Taken::Not,
            None => Taken::Ours,
        }
    }

    /// Whether this invocation does the job that `holder` has: it is written there itself; or an earlier invocation with the same
    /// event is, and `late` as it is, that one has died.
    fn may_go_on(&self, holder: &Self, late: bool) -> bool {
        self == holder || (late && self.request == holder.request)
    }
}

/// Claims the job.
///
/// Safe to repeat: see [`Codepipeline::claim_once`]; the name is written only where there is none.
///
/// # Errors
/// When it is not known whether the job was claimed, or a function before this one may have died with it: Lambda then brings the event
/// again. Nothing is begun before somebody surely has the job: it could not be answered.
pub(crate) async fn take(
    aws: &Aws,
    codepipeline: &Codepipeline<'_>,
    (job, claim): (&Job, &Claim),
    invocation: Invocation,
) -> Result<Taken, Error> {
    let late = invocation.clock.now().since(claim.polled) >= REDELIVERY;
    let (claimed, is_sure) = claimed(codepipeline, (job, claim), late, invocation).await?;
    let taken = match claimed {
        Some(Claimed::Ours) => Taken::Ours,
        Some(Claimed::Before) if late => return Ok(taken_before(aws, job, &invocation).await),
        // It is over; whether it was this event's, and something is left to do, its name tells.
        Some(Claimed::Gone) if late && has_own_name(aws, job, &invocation).await => Taken::Again,
        Some(Claimed::Before) => {
            info!(job = job.id, "somebody else does this job");
            return Ok(Taken::Not);
        }
        Some(Claimed::Gone) => {
            info!(job = job.id, "the pipeline has moved on");
            return Ok(Taken::Not);
        }
        // Whoever was invoked before may have claimed it and died: then nobody polls it again, and only Lambda comes back.
        None if late => {
            let why = format!("codepipeline:AcknowledgeJob of {}: \"not now\" for too long", job.id);
            return Err(Error::Again(why));
        }
        None => {
            warn!(job = job.id, "the job could not be claimed; it waits to be polled again");
            return Ok(Taken::Not);
        }
    };
    if let Some(bucket) = aws.settings().bucket.as_deref() {
        let (bucket, own) = (aws.bucket(bucket), Holder::new(&invocation));
        // Who goes on in doubt has not claimed it: CodePipeline has let this one do so.
        let written = async {
            match holder(&bucket, job, &own).await {
                Some(found) if found.is_in_doubt && is_sure => write_over(&bucket, job, &own).await,
                found => found,
            }
        };
        let holder = tokio::time::timeout(WRITING, written).await.ok().flatten();
        let holder = holder.filter(|holder| !(holder.is_in_doubt && is_sure));
        if !holder.as_ref().is_none_or(|holder| own.may_go_on(holder, late)) {
            info!(job = job.id, "somebody else has claimed this job at the same moment, and does it");
            return Ok(Taken::Not);
        }
        // Whatever CodePipeline says of a second claim.
        if holder.is_some_and(|holder| holder != own) {
            info!(job = job.id, "taking up a job whose function died");
            return Ok(Taken::Again);
        }
    }
    Ok(taken)
}

/// What becomes of a job that was claimed before, when its event comes late. Whoever has just claimed it writes its name within moments. Where
/// nobody has, the function of this very event has died before it could; or the claim has failed since the job was polled again and has
/// another nonce (unconfirmed), and nobody has it yet. So this one's name is written as one in doubt: of several, one goes on, and whoever
/// surely claims it does it all the same.
async fn taken_before(aws: &Aws, job: &Job, invocation: &Invocation) -> Taken {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Taken::Again };
    let asked = invocation.clock.now();
    let mut found = name_of(aws, job).await;
    while found.is_none() && invocation.clock.now().since(asked) < WRITING {
        tokio::time::sleep(PAUSE).await;
        found = name_of(aws, job).await;
    }
    if found.is_none() {
        let own = Holder { is_in_doubt: true, ..Holder::new(invocation) };
        let holder = tokio::time::timeout(WRITING, holder(&aws.bucket(bucket), job, &own)).await;
        found = holder.ok().flatten();
    }
    match found {
        Some(holder) if holder.request != written(invocation.request) => {
            info!(job = job.id, "somebody else does this job");
            Taken::Not
        }
        Some(_) | None => {
            info!(job = job.id, "taking up a job whose function died");
            Taken::Again
        }
    }
}

async fn has_own_name(aws: &Aws, job: &Job, invocation: &Invocation) -> bool {
    name_of(aws, job).await.is_some_and(|holder| holder.request == written(invocation.request))
}

/// Who is written down for a job; `None` when nobody is, or that may not be known.
async fn name_of(aws: &Aws, job: &Job) -> Option<Holder> {
    let bucket = aws.bucket(aws.settings().bucket.as_deref()?);
    let read = async {
        loop {
            match bucket.get(&key(job)).await {
                Ok(found) => return serde_json::from_slice(&found?.body).ok(),
                Err(Error::Again(why)) => info!(why, "who does the job is not known yet"),
                // S3 says so of what is not there to whom may not list.
                Err(Error::Stop(_)) => return None,
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(WRITING, read).await.ok().flatten()
}

/// What becomes of a job that nobody claims, since CodePipeline itself has invoked the function for it (fact 2): it is this invocation's,
/// unless another one with the same event does it. Where the bucket does not tell, it is. With when the first one of its event had surely
/// begun.
///
/// Safe to repeat: the name is written only where there is none.
pub(crate) async fn take_unclaimed(aws: &Aws, job: &Job, invocation: Invocation) -> (Taken, Option<Time>) {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return (Taken::Ours, None) };
    let own = Holder::new(&invocation);
    let holder = tokio::time::timeout(WRITING, holder(&aws.bucket(bucket), job, &own)).await;
    let holder = holder.ok().flatten();
    let by = holder.as_ref().and_then(|holder| holder.begun).map(|begun| begun.plus(SKEW));
    let taken = holder.map_or(Taken::Ours, |holder| own.after(&holder));
    match taken {
        Taken::Ours => {}
        Taken::Again => info!(job = job.id, "taking up a job whose function died"),
        Taken::Not => info!(job = job.id, "somebody else does this job"),
    }
    (taken, by)
}

/// Whether a job is known to be another invocation's than those for this request (Lambda's id): that one does it, or is told of itself.
/// Where nothing says whose it is, it is nobody else's.
///
/// # Errors
/// The call's; not that it is refused.
pub async fn is_anothers(aws: &Aws, job: &Job, request: &str) -> Result<bool, Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(false) };
    let found = match aws.bucket(bucket).get(&key(job)).await {
        Ok(found) => found,
        Err(again @ Error::Again(_)) => return Err(again),
        // S3 says so of what is not there to whom may not list.
        Err(Error::Stop(_)) => None,
    };
    let holder = found.and_then(|found| serde_json::from_slice::<Holder>(&found.body).ok());
    let own = written(lambda::request(request));
    Ok(holder.is_some_and(|holder| holder.request != own))
}

/// A request as it is written down.
fn written(request: u128) -> String {
    format!("{request:032x}")
}

/// Claims the job, with whether that is sure; `None` when CodePipeline said "not now" for too long. Then nothing was claimed: an error here would
/// only have Lambda deliver the event again when somebody else has the job.
///
/// After a call of which it is not known whether it arrived, the job is claimed by that one or by another function at that very
/// moment: who is written down first does it. Who comes `late` finds the claim of one before it all the same, which may have answered.
async fn claimed(
    codepipeline: &Codepipeline<'_>,
    (job, claim): (&Job, &Claim),
    late: bool,
    invocation: Invocation,
) -> Result<(Option<Claimed>, bool), Error> {
    let (begun, mut in_doubt) = (invocation.clock.now(), false);
    loop {
        match codepipeline.claim_once(&job.id, claim).await {
            Ok(Some(Claimed::Before)) if in_doubt && !late => return Ok((Some(Claimed::Ours), false)),
            Ok(Some(known)) => return Ok((Some(known), !in_doubt)),
            Ok(None) => in_doubt = true,
            Err(Error::Again(_)) => {}
            Err(stop @ Error::Stop(_)) => return Err(stop),
        }
        let is_long = invocation.clock.now().since(begun) >= CLAIMING;
        if is_long && (!late || invocation.left() <= ATTEMPT) {
            break;
        }
        tokio::time::sleep(if is_long { LONG_PAUSE } else { PAUSE }).await;
    }
    if in_doubt {
        return Err(Error::Again(format!(
            "codepipeline:AcknowledgeJob of {}: whether it arrived is not known",
            job.id
        )));
    }
    Ok((None, false))
}

/// Where the one that does a job is written down. Not by its nonce, of which it may get another one each time that it is polled
/// (unconfirmed).
fn key(job: &Job) -> String {
    match job.continuation.as_deref().map_or(0, token::continuation) {
        0 => format!("_claims/{}", job.id),
        continuation => format!("_claims/{}.{continuation}", job.id),
    }
}

/// Who was written down first; `None` when that may not be known.
async fn holder(bucket: &Bucket, job: &Job, own: &Holder) -> Option<Holder> {
    let (key, body) = (key(job), serde_json::to_vec(own).ok()?);
    loop {
        let found = match bucket.create(&key, body.clone()).await {
            Ok(Written::Done(_)) => return Some(own.clone()),
            Ok(Written::Refused) => bucket.get(&key).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(object)) => return serde_json::from_slice(&object.body).ok(),
            Ok(None) => {}
            Err(Error::Again(why)) => info!(why, "who does the job is not known yet"),
            Err(Error::Stop(why)) => {
                warn!(why = why.message, "who does the job may not be asked");
                return None;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes over the name of one that goes on in doubt: should this one die, its event that comes again finds its own.
///
/// Safe to repeat: only what was read as one in doubt is replaced.
async fn write_over(bucket: &Bucket, job: &Job, own: &Holder) -> Option<Holder> {
    let (key, body) = (key(job), serde_json::to_vec(own).ok()?);
    loop {
        let written = match bucket.get(&key).await {
            Ok(Some(object)) => {
                let found: Holder = serde_json::from_slice(&object.body).ok()?;
                if !found.is_in_doubt {
                    return Some(found);
                }
                bucket.replace(&key, body.clone(), &object.etag).await
            }
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        match written {
            Ok(Written::Done(_)) => return Some(own.clone()),
            Ok(Written::Refused) => {}
            Err(Error::Again(why)) => info!(why, "who does the job is not written down yet"),
            Err(Error::Stop(why)) => {
                warn!(why = why.message, "who does the job may not be written down");
                return None;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_written_down_goes_on_and_who_comes_late_with_the_same_event() {
        let holder = |request: &str, life| Holder { request: request.into(), life, begun: None, is_in_doubt: false };
        for (own, found, late, expected) in [
            (holder("a", 1), holder("a", 1), false, true),
            (holder("a", 2), holder("a", 1), false, false),
            (holder("a", 2), holder("a", 1), true, true),
            (holder("b", 1), holder("a", 1), false, false),
            (holder("b", 1), holder("a", 1), true, false),
        ] {
            assert_eq!(own.may_go_on(&found, late), expected, "{own:?} {found:?} {late}");
        }
    }

    #[test]
    fn an_event_that_comes_again_goes_on_with_what_died_and_never_beside_what_lives() {
        let begun = Time::from_millis(1_000_000);
        let holder = |request: &str, life, after: u64| Holder {
            request: request.into(),
            life,
            begun: Some(begun.plus(Duration::from_secs(after))),
            is_in_doubt: false,
        };
        for (own, expected) in [
            (holder("a", 1, 0), Taken::Ours),
            (holder("a", 2, 5), Taken::Not),
            (holder("a", 2, 30), Taken::Again),
            (holder("b", 3, 5), Taken::Ours),
            (holder("b", 3, 90), Taken::Ours),
        ] {
            assert_eq!(own.after(&holder("a", 1, 0)), expected, "{own:?}");
        }
    }
}
