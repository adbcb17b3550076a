//! That a way back goes the quick way: written down before anything is stopped, since a deployment that goes back may have been stopped by
//! somebody else, too.
//!
//! Invariant: what is not written down was not begun.

use crate::aws::Aws;
use crate::aws::s3::Written;
use crate::error::Error;

/// What is written when a release goes the quick way.
const GOES: &[u8] = b"goes";

/// What is written when a later try goes by a deployment after all.
const LEFT: &[u8] = b"left";

/// Below the claims: a rule of the bucket forgets it after days, and the old tasks are gone by then.
fn key(execution: &str) -> String {
    format!("_claims/{execution}.quick")
}

/// Writes down that this execution goes the quick way.
///
/// Safe to repeat: it is written where it is not yet, or over what an earlier try has left.
///
/// # Errors
/// The call's: nothing is stopped then.
pub async fn write(aws: &Aws, execution: &str) -> Result<(), Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(()) };
    match aws.bucket(bucket).create(&key(execution), GOES.to_vec()).await? {
        Written::Done(_) => Ok(()),
        Written::Refused => over(aws, bucket, execution, GOES).await,
    }
}

/// Writes down that this execution, which had begun the quick way, goes by a deployment now: what it deploys is taken back like anything else.
///
/// Safe to repeat: it is written over what was read, and only where there is something.
///
/// # Errors
/// The call's: nothing is deployed then.
pub async fn leave(aws: &Aws, execution: &str) -> Result<(), Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(()) };
    over(aws, bucket, execution, LEFT).await
}

/// Writes over what is there, where that is another word.
async fn over(aws: &Aws, bucket: &str, execution: &str, word: &[u8]) -> Result<(), Error> {
    let (bucket, key) = (aws.bucket(bucket), key(execution));
    match bucket.get(&key).await? {
        Some(object) if object.body != word => match bucket.replace(&key, word.to_vec(), &object.etag).await? {
            Written::Done(_) => Ok(()),
            Written::Refused => Err(Error::Again("another function has written down how the release goes back".into())),
        },
        Some(_) | None => Ok(()),
    }
}

/// Whether this execution has ever begun the quick way, whichever way it goes now.
///
/// # Errors
/// The call's.
pub async fn was_there(aws: &Aws, execution: &str) -> Result<bool, Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(false) };
    Ok(aws.bucket(bucket).get(&key(execution)).await?.is_some())
}

/// Whether this execution goes the quick way, or has gone it. Without a bucket there are no records either, and so no way back.
///
/// # Errors
/// The call's.
pub async fn is_there(aws: &Aws, execution: &str) -> Result<bool, Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(false) };
    Ok(aws.bucket(bucket).get(&key(execution)).await?.is_some_and(|object| object.body != LEFT))
}
