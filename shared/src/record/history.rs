//! What is known of releases: the records of those that have ended, and of those that have none yet what CodePipeline shows of them.
//!
//! Invariant: what has no record is known no worse for it. One that goes on, waits for its approval or has just ended may have the
//! traffic, and may have begun a task that nobody undoes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::collect::{self, Seen};
use super::{COMMITS, Commit, Entry, Record, Store, newest_first};
use crate::artifact::{self, Content};
use crate::aws::Aws;
use crate::aws::codepipeline::{Codepipeline, Execution, ListedExecution, Sibling};
use crate::error::Error;
use crate::job::Release;
use crate::manifest::Manifest;
use crate::time::Time;

/// How long after its end a release may have no record: as long as it is looked for, since one that cannot be written now is known no
/// worse for it.
pub const CAUGHT_UP: Duration = Duration::from_secs(7 * 86_400);

/// How many records of each pipeline are read at once, and the most that are.
const AT_ONCE: usize = 60;
const MOST: usize = 600;

const SECOND: Duration = Duration::from_secs(1);

/// How long after its last action an execution may show its end.
const CHANGED: Duration = Duration::from_secs(5);

/// The releases of a stack.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Each as its record tells it, or as it stands now, the one that ended last first; what goes on comes before all that ended.
    pub records: Vec<Record>,
    /// The executions whose records cannot be read, with why.
    pub unreadable: Vec<Entry>,
}

impl History {
    /// Looks at the newest of these pipelines, of which the first releases and the others go back: at some of each, and further back as long
    /// as that is not enough. Between two that deploy, hundreds may fail or be rejected. That is asked with the records read, and since when
    /// all that were written are among them: one that was written last may have ended long after what lies between.
    ///
    /// # Errors
    /// The calls'.
    pub async fn look(
        aws: &Aws,
        store: &Store,
        pipelines: &[&str],
        now: Time,
        is_enough: impl Fn(&[Record], Time) -> bool,
    ) -> Result<Self, Error> {
        let mut history = Self::default();
        let mut listed = Vec::new();
        for pipeline in pipelines {
            listed.push(store.executions(pipeline).await?);
        }
        let mut from = 0;
        let unread = |from: usize| listed.iter().filter_map(|all| all.get(from)).map(|(_, written)| *written).max();
        while from == 0 || (from < MOST && unread(from).is_some_and(|newest| !is_enough(&history.records, newest))) {
            for (pipeline, all) in pipelines.iter().zip(&listed) {
                for entry in store.read(pipeline, all.iter().skip(from).take(AT_ONCE)).await? {
                    match entry {
                        Entry::Record(record) => history.records.push(*record),
                        Entry::Newer { .. } | Entry::Unreadable { .. } => history.unreadable.push(entry),
                    }
                }
            }
            from += AT_ONCE;
            history.records.sort_by_key(|record| std::cmp::Reverse(record.ended));
        }
        let codepipeline = Codepipeline::new(aws);
        let mut now_shown = Vec::new();
        for (at, pipeline) in pipelines.iter().enumerate() {
            // Of those that were not read, too, it is known that they have one.
            let written: BTreeMap<_, _> = listed[at].iter().skip(from).cloned().collect();
            // S3 tells whole seconds.
            let is_written =
                |one: &ListedExecution| written.get(&one.id).is_some_and(|at| at.plus(SECOND) > one.updated);
            for one in codepipeline.newest_executions(pipeline).await? {
                if history.lacks(&one, now) && !is_written(&one) {
                    let shown = as_it_stands(aws, &codepipeline, (pipeline, at > 0), &one).await?;
                    now_shown.extend(shown.map(|seen| collect(seen, &history.records, one.is_over(), now)));
                }
            }
        }
        let is_new = |record: &Record| !now_shown.iter().any(|one| one.execution == record.execution);
        history.records.retain(is_new);
        history.records.extend(now_shown);
        history.records.sort_by_key(|record| std::cmp::Reverse(record.ended));
        Ok(history)
    }

    /// As `releases` lists them: what cannot be read first of all.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let records = self.records.iter().map(|record| Entry::Record(Box::new(record.clone())));
        let mut entries: Vec<_> = self.unreadable.iter().cloned().chain(records).collect();
        newest_first(&mut entries);
        entries
    }

    /// Whether no record tells of an execution as it stands.
    fn lacks(&self, one: &ListedExecution, now: Time) -> bool {
        let unreadable = self.unreadable.iter().any(|entry| entry.execution() == one.id);
        // One that has changed since was tried again: also where it has failed as it had before.
        let tells = |record: &Record| {
            let is_last = record.has_succeeded() || record.ended.plus(CHANGED) >= one.updated;
            record.execution == one.id && record.status == one.status && is_last
        };
        let is_recorded = unreadable || self.records.iter().any(tells);
        !one.is_over() || (!is_recorded && now.since(one.updated) < CAUGHT_UP)
    }
}

/// What a release has released, read with the function's own role; what is gone or broken is not known.
///
/// # Errors
/// What may work when it is tried again.
pub async fn content_of(aws: &Aws, actions: &[Sibling]) -> Result<Option<Content>, Error> {
    let Some(action) = carrier(actions) else { return Ok(None) };
    match artifact::read_as_self(aws, &action.artifacts, action.manifest.as_deref(), Manifest::read_shape).await {
        Err(Error::Stop(why)) => {
            tracing::warn!(why = why.message, "what was released is not known");
            Ok(None)
        }
        read => read,
    }
}

/// The log that a release's build has left of its repository; nothing of one that has left none, or whose artifact is gone.
///
/// # Errors
/// What may work when it is tried again.
pub async fn commits_of(aws: &Aws, actions: &[Sibling]) -> Result<Vec<Commit>, Error> {
    let Some(action) = carrier(actions) else { return Ok(Vec::new()) };
    match artifact::text_as_self(aws, &action.artifacts, COMMITS).await {
        Ok(text) => Ok(Commit::read_log(&text.unwrap_or_default())),
        Err(Error::Stop(why)) => {
            tracing::warn!(why = why.message, "its commits are not known");
            Ok(Vec::new())
        }
        Err(again) => Err(again),
    }
}

/// The action that was given what is released.
#[must_use]
pub fn carrier(actions: &[Sibling]) -> Option<&Sibling> {
    actions.iter().find(|one| one.category == "Deploy" && !one.artifacts.is_empty())
}

/// What is shown of a release that has done something that stays; `None` of one that has not.
async fn as_it_stands(
    aws: &Aws,
    codepipeline: &Codepipeline<'_>,
    (pipeline, back): (&str, bool),
    one: &ListedExecution,
) -> Result<Option<Seen>, Error> {
    let release =
        Release { pipeline: pipeline.to_owned(), execution: one.id.clone(), stage: None, action: None, attempt: 1 };
    let actions = codepipeline.siblings(&release).await?;
    if !actions.iter().any(|action| action.task.is_some() || (action.deploys && action.has_succeeded())) {
        return Ok(None);
    }
    let content = content_of(aws, &actions).await?;
    let execution = Execution { status: one.status.clone(), ..Execution::default() };
    Ok(Some(Seen {
        release,
        execution,
        actions,
        updated: one.updated,
        back: back || one.is_rollback,
        content,
        artifact: String::new(),
        commits: Vec::new(),
        lines: BTreeMap::new(),
        log: None,
    }))
}

fn collect(seen: Seen, others: &[Record], is_over: bool, now: Time) -> Record {
    let record = collect::record(&seen, others);
    // What goes on may do more at any time.
    let ended = if is_over { record.ended } else { now };
    Record { ended, ..record }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_end_does_not_tell_of_what_was_tried_again_since() {
        let at = |seconds: u64| Time::from_millis(1_000_000 + seconds * 1000);
        let recorded =
            |status: &str| Record { execution: "e".into(), status: status.into(), ended: at(100), ..Record::default() };
        let day = 86_400;
        for (days, lacks) in [(0, true), (1, true), (6, true), (7, false)] {
            let one =
                ListedExecution { id: "e".into(), status: "Succeeded".into(), updated: at(0), is_rollback: false };
            assert_eq!(History::default().lacks(&one, at(days * day)), lacks, "{days} days without a record");
        }
        for (recorded_as, status, updated, lacks) in [
            ("Failed", "Failed", 101, false),
            // It has failed once more, and may have deployed, or begun what nobody undoes.
            ("Failed", "Failed", 300, true),
            ("Failed", "InProgress", 300, true),
            ("Failed", "Succeeded", 300, true),
            // Nothing is tried again of one that has succeeded.
            ("Succeeded", "Succeeded", 300, false),
        ] {
            let history = History { records: vec![recorded(recorded_as)], unreadable: Vec::new() };
            let one =
                ListedExecution { id: "e".into(), status: status.into(), updated: at(updated), is_rollback: false };
            assert_eq!(history.lacks(&one, at(400)), lacks, "{recorded_as}, then {status} at {updated}");
        }
    }
}
