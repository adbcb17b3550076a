//! Releases that have begun tasks and have no record yet: one that goes on, or waits for its approval, or has just ended.
//!
//! Invariant: what has no record is known no worse for it: a task that nobody undoes is found by when it runs, not by when its release ends.

use std::time::Duration;

use shared::aws::codepipeline::{Codepipeline, ListedExecution};
use shared::job::Release;
use shared::record::Record;
use shared::{Error, Tick, artifact};

/// How long after its end a release's record is there at the latest: two rounds of the schedule, and more.
const RECORDED: Duration = Duration::from_secs(3600);

/// A release without a record, or one that goes on in spite of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unrecorded {
    /// Its execution.
    pub(crate) execution: String,
    /// Whether it goes on.
    pub(crate) goes_on: bool,
    /// The tasks that it has begun.
    pub(crate) tasks: Vec<String>,
    /// Those of them behind which there is no way back.
    pub(crate) no_way_back: Vec<String>,
    /// Whether its manifest could be read, which says that.
    pub(crate) is_read: bool,
}

impl Unrecorded {
    /// "execution e-1, which goes on".
    pub(crate) fn what(&self) -> String {
        format!("execution {}, which {}", self.execution, if self.goes_on { "goes on" } else { "has just ended" })
    }
}

/// Looks for them in the pipelines that release.
///
/// # Errors
/// The calls'.
pub(crate) async fn look(tick: &Tick<'_>, pipelines: &[&str], records: &[Record]) -> Result<Vec<Unrecorded>, Error> {
    let codepipeline = Codepipeline::new(tick.aws);
    let mut found = Vec::new();
    for pipeline in pipelines.iter().filter(|pipeline| !tick.aws.settings().goes_back(pipeline)) {
        for one in codepipeline.newest_executions(pipeline).await? {
            if concerns(&one, records, tick) {
                found.extend(begun(tick, &codepipeline, pipeline, &one).await?);
            }
        }
    }
    Ok(found)
}

fn concerns(one: &ListedExecution, records: &[Record], tick: &Tick<'_>) -> bool {
    let is_recorded = records.iter().any(|record| record.execution == one.id);
    !one.is_over() || (!is_recorded && tick.now.since(one.updated) < RECORDED)
}

async fn begun(
    tick: &Tick<'_>,
    codepipeline: &Codepipeline<'_>,
    pipeline: &str,
    one: &ListedExecution,
) -> Result<Option<Unrecorded>, Error> {
    let release =
        Release { pipeline: pipeline.to_owned(), execution: one.id.clone(), stage: None, action: None, attempt: 1 };
    let actions = codepipeline.siblings(&release).await?;
    let mut tasks: Vec<String> = actions.iter().filter_map(|action| action.task.clone()).collect();
    tasks.sort();
    tasks.dedup();
    if tasks.is_empty() {
        return Ok(None);
    }
    let with = actions.iter().find(|action| action.task.is_some() && !action.artifacts.is_empty());
    let content = match with {
        Some(action) => match artifact::read_as_self(tick.aws, &action.artifacts, action.manifest.as_deref()).await {
            Ok(content) => content,
            Err(again @ Error::Again(_)) => return Err(again),
            // It is told that it goes on, all the same.
            Err(Error::Stop(_)) => None,
        },
        None => None,
    };
    let bars = |task: &&String| {
        content.as_ref().and_then(|content| content.manifest.tasks.get(*task)).is_some_and(|task| task.no_way_back)
    };
    let no_way_back = tasks.iter().filter(bars).cloned().collect();
    let is_read = content.is_some();
    Ok(Some(Unrecorded { execution: one.id.clone(), goes_on: !one.is_over(), tasks, no_way_back, is_read }))
}
