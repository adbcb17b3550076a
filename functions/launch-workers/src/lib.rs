//! Starts an ECS task for each long job that is asked for, keeps some that wait for one, and starts what runs by the clock.
//!
//! Invariants: a message is done with when its job is written down, or when it is in the queue of those that cannot be done, with
//! the reason; what is written down is looked at until its worker runs. Everything can be repeated by anybody at any time: see
//! [`shared::workers::ledger`].

mod decide;
mod event;
mod follow;
mod look;
mod message;
mod metrics;
mod start;
mod take_in;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::workers::{Known, Pointers};
use shared::{Aws, Error, Event, Invocation, Verdict};
use tracing::error;

use event::Asked;
use look::Look;

/// Handles one event; the answer names the messages that could not be taken in, for Lambda's event source mapping (fact 53).
///
/// # Errors
/// What kept it from looking at all: the event is delivered again, or the schedule's next one does it.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<Value, Error> {
    let pointers = Pointers::new(&aws).ok_or_else(|| missing("CUTOVER_WORKERS"))?;
    let bucket = aws.settings().bucket.as_deref().ok_or_else(|| missing("CUTOVER_BUCKET"))?;
    let bucket = aws.bucket(bucket);
    // There is nobody to answer.
    let invocation = invocation.to_the_last();
    let mut answer = json!({});
    let asked = event::read(&event);
    let known = match &asked {
        // Each worker that starts or ends is one, also those of other stacks.
        Asked::Kind { environment, .. } => pointers.read_of(environment).await?,
        Asked::Jobs(_) | Asked::All => pointers.read().await?,
    };
    // Messages are taken in, and what an event tells is only sooner than the schedule.
    let by_clock = asked == Asked::All;
    let wanted = match asked {
        Asked::Jobs(messages) => {
            let taken = take_in::take_in(&aws, &bucket, &known, messages, invocation.clock.now()).await;
            let failed = taken.failed.iter().map(|id| json!({"itemIdentifier": id}));
            answer = json!({"batchItemFailures": failed.collect::<Vec<_>>()});
            taken.kinds
        }
        Asked::Kind { environment, name } => BTreeSet::from([(environment, name)]),
        Asked::All => known.kinds.keys().cloned().collect(),
    };
    let looks = wanted.iter().filter_map(|place| look(&aws, &bucket, &known, place));
    let outcomes = join_all(looks.map(async |look| look.follow(invocation).await)).await;
    let mut first = None;
    for why in outcomes.into_iter().filter_map(Result::err) {
        // The schedule looks again.
        error!(%why, "workers are not looked after");
        first.get_or_insert(why);
    }
    // The alarm on this function's failures is how people hear of it.
    first.filter(|_| by_clock).map_or(Ok(answer), Err)
}

fn look<'a>(
    aws: &'a Aws,
    bucket: &'a shared::aws::s3::Bucket,
    known: &'a Known,
    place: &'a (String, String),
) -> Option<Look<'a>> {
    let released = known.kinds.get(place)?;
    Some(Look::new(aws, bucket, &place.0, &place.1, released.what.as_ref()))
}

fn missing(name: &str) -> Error {
    Verdict::misconfigured(format!("{name} is not set: see template.yaml")).into()
}
