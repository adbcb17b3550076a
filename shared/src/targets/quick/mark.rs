//! That a way back goes the quick way: written down before anything is stopped, since a deployment that goes back may have been stopped by
//! somebody else, too.
//!
//! Invariant: what is not written down was not begun.

use crate::aws::Aws;
use crate::error::Error;

/// Below the claims: a rule of the bucket forgets it after days, and the old tasks are gone by then.
fn key(execution: &str) -> String {
    format!("_claims/{execution}.quick")
}

/// Writes down that this execution goes the quick way.
///
/// Safe to repeat: it is written where it is not yet, and says nothing but that it is there.
///
/// # Errors
/// The call's: nothing is stopped then.
pub async fn write(aws: &Aws, execution: &str) -> Result<(), Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(()) };
    aws.bucket(bucket).create(&key(execution), Vec::new()).await.map(drop)
}

/// Whether this execution goes the quick way, or may have: without a bucket there is nothing that would tell.
///
/// # Errors
/// The call's.
pub async fn is_there(aws: &Aws, execution: &str) -> Result<bool, Error> {
    let Some(bucket) = aws.settings().bucket.as_deref() else { return Ok(true) };
    Ok(aws.bucket(bucket).get(&key(execution)).await?.is_some())
}
