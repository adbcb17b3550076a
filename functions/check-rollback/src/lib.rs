//! Says what lies between the release that runs and the one that is to run again, before a person approves it; refuses what cannot
//! be gone back to.
//!
//! Invariant: it changes nothing. What it cannot know it says, in capitals, and leaves to the person who is asked.

mod decide;
mod message;

use serde::{Deserialize, Serialize};
use shared::aws::ecr::Image;
use shared::record::{History, Record, Store};
use shared::{Aws, Error, Event, Invocation, Journal, Next, Tick, Verdict, artifact};

use decide::{Decision, ImageIs, Seen, decide};

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// The tasks that it is gone back behind although the manifest says `no_way_back`, with commas between, or `none`.
    behind: Option<String>,
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
}

/// Nothing: a look is all there is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {}

/// Handles one job.
///
/// # Errors
/// When the answer could not be delivered.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    // It changes nothing.
    shared::run_leniently(&aws, &event, invocation, shared::Answer::Failed, step).await
}

async fn step(tick: &Tick<'_>, _: &mut State, _: &mut Option<()>) -> Result<Next, Error> {
    let parameters: Parameters = tick.job.parameters()?;
    let target = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?;
    let Some(store) = Store::new(tick.aws) else {
        return Err(Verdict::misconfigured("CUTOVER_BUCKET is not set: see template.yaml").into());
    };
    let pipelines: Vec<_> = tick.aws.settings().pipelines.iter().map(String::as_str).collect();
    let is_enough = |records: &[Record], unread| decide::is_enough(records, &target.hash, unread);
    let history = History::look(tick.aws, &store, &pipelines, tick.now, is_enough).await?;
    let image = match target.image.as_deref().and_then(Image::read) {
        Some(image) => match tick.aws.has_image(&image).await {
            Ok(true) => ImageIs::There,
            Ok(false) => ImageIs::Gone,
            // One of a repository that it may not ask, such as another account's.
            Err(Error::Stop(verdict)) => ImageIs::NotKnown(verdict.message),
            Err(again @ Error::Again(_)) => return Err(again),
        },
        // No registry of ECR's: its tasks' definitions say where it is.
        None => ImageIs::There,
    };
    let behind = decide::named(parameters.behind.as_deref().unwrap_or_default());
    let seen = Seen { target: &target, history, image, behind };
    let next = match decide(&seen) {
        Decision::Refused(why) => {
            Next::Fail(Verdict::misconfigured(message::refused(&why, &target, &tick.release.pipeline)))
        }
        Decision::Between(between) => Next::Succeed(message::asks(tick, &between, &target)),
    };
    let mut journal = Journal::default();
    for line in message::lines(&next) {
        journal.say(tick.now, line);
    }
    journal.finish(tick.aws, tick.release).await;
    Ok(next)
}
