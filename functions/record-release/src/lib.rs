//! Writes down each release that has ended, keeps its artifact for a way back, and leaves word which release that leads to.
//!
//! Invariants: an execution has one record, whoever comes, however often and late; an event only hurries the look, and what no event
//! told of is found by the next one, or by the schedule, and `halt-release` hears of it; the artifact is there before the record that names it.

mod metrics;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use shared::aws::codepipeline::{Codepipeline, ListedExecution, Sibling, tries};
use shared::job::Release;
use shared::record::collect::{self, Seen};
use shared::record::{CAUGHT_UP, Entry, History, Kept, Record, Store, Usual};
use shared::{Aws, Error, Event, Invocation, Time, Trouble, Verdict, names, record};
use tracing::{info, warn};

/// How often it is looked whether an execution shows its end, and how long: what CodePipeline shows lags by seconds.
const LOOK: Duration = Duration::from_secs(2);
const SHOWN: Duration = Duration::from_secs(60);

/// How many records tell how long things usually take.
const USUAL: usize = 15;

/// How often it is looked which release was before the one that runs, until two looks agree.
const LOOKS: usize = 4;

/// How many of a task's last lines are looked at: those of all environments, mixed.
const LINES: i32 = 300;

/// How long before another an action may begin that CodePipeline starts with it.
const BESIDE: Duration = Duration::from_secs(10);

/// How long ago an execution must have ended for the schedule to take it up: its event is on its way until then.
const OVERDUE: Duration = Duration::from_secs(120);

/// How long ago a release may have come further for word to be left by the schedule: several of its runs.
const RECENT: Duration = Duration::from_secs(3600);

/// How much later than its last action an execution may be shown to have been updated by the same end.
const ONE_END: Duration = Duration::from_secs(5);

/// How much of its time an invocation keeps for what comes after what no event told of; a third where it has little.
const ROOM: Duration = Duration::from_secs(60);

/// How long a record may be missing before that is an error, which the stack's alarm tells of.
const MISSED: Duration = Duration::from_secs(1800);

/// Handles the event of an execution's end, of a deployment's, or the schedule's.
///
/// # Errors
/// What could not be read or written of the release that the event is of: Lambda delivers it again.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    let Some(store) = Store::new(&aws) else {
        return Err(Verdict::misconfigured("CUTOVER_BUCKET is not set: see template.yaml").into());
    };
    let mut recorder =
        Recorder { aws: &aws, codepipeline: Codepipeline::new(&aws), store, wrote: false, is_recent: false };
    let text = |name: &str| event.value().pointer(name).and_then(|value| value.as_str()).map(str::to_owned);
    let named = text("/detail/pipeline").zip(text("/detail/execution-id"));
    if let Some((_, execution)) = named.as_ref().filter(|_| text("/detail/action").is_some()) {
        // It has the traffic, and may go on for hours.
        return recorder.leave_word_when_shown(execution, &invocation).await;
    }
    if let Some((pipeline, execution)) = &named {
        let state = text("/detail/state");
        recorder.record_when_shown((pipeline, execution), state.as_deref(), &invocation).await?;
    }
    let missed = match recorder.catch_up(&invocation).await {
        Ok(missed) => missed,
        Err(error) => {
            warn!(%error, "what no event told of is looked for later");
            None
        }
    };
    if recorder.wrote || recorder.is_recent || named.is_some() {
        recorder.leave_word(invocation.clock.now()).await?;
    }
    missed.map_or(Ok(()), Err)
}

/// What is known of an execution's end before it is looked at.
#[derive(Debug, Clone, Copy)]
enum Known<'a> {
    /// An event tells of it, as a rule with how it ended.
    Event { state: Option<&'a str> },
    /// It is listed as having ended then, long ago.
    Ended(Time),
}

struct Recorder<'a> {
    aws: &'a Aws,
    codepipeline: Codepipeline<'a>,
    store: Store,
    /// Whether a record was written.
    wrote: bool,
    /// Whether a release has come further lately: one that has the traffic, and drains, has no record yet, and its event may be lost.
    is_recent: bool,
}

impl Recorder<'_> {
    /// The stack's pipelines, that which releases first.
    fn pipelines(&self) -> Vec<&str> {
        self.aws.settings().pipelines.iter().map(String::as_str).filter(|name| !name.is_empty()).collect()
    }

    /// Tells `halt-release` how an execution has ended of which no event told here: EventBridge brings CodePipeline's by best effort, and none
    /// may have come there either.
    ///
    /// Safe to repeat: it looks before it acts.
    async fn tell_of_the_end(&self, pipeline: &str, one: &ListedExecution) -> Result<(), Error> {
        let state = match one.status.as_str() {
            "Failed" => "FAILED",
            "Stopped" => "STOPPED",
            "Cancelled" => "CANCELED",
            _ => return Ok(()),
        };
        let Some(function) = &self.aws.settings().halt else { return Ok(()) };
        info!(execution = one.id, "no event told of its end");
        let detail = json!({"pipeline": pipeline, "execution-id": one.id, "state": state});
        self.aws.invoke(function, &json!({"source": "cutover", "detail": detail})).await
    }

    /// Waits until an execution shows the end that an event tells of, and records it; one that goes on is left alone, and so is one that
    /// has ended otherwise, of which there is another event.
    async fn record_when_shown(
        &mut self,
        (pipeline, execution): (&str, &str),
        state: Option<&str>,
        invocation: &Invocation,
    ) -> Result<(), Error> {
        let begun = invocation.clock.now();
        let mut trouble = Trouble::default();
        loop {
            let now = invocation.clock.now();
            let looked = self.record(pipeline, execution, Known::Event { state }, now).await;
            if trouble.note(now, looked).map_err(Error::Stop)? == Some(true) {
                return Ok(());
            }
            if now.since(begun) > SHOWN.min(invocation.left()) {
                info!(execution, "it has not come to its end, or does not show it: the schedule looks again");
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Records what has ended without a record, and what has ended once more since its record was written. Why one that ended long ago
    /// still has none.
    async fn catch_up(&mut self, invocation: &Invocation) -> Result<Option<Error>, Error> {
        let (now, mut missed) = (invocation.clock.now(), None);
        let room = ROOM.min(invocation.left() / 3);
        for pipeline in self.pipelines().into_iter().map(str::to_owned).collect::<Vec<_>>() {
            let known: BTreeMap<_, _> = self.store.executions(&pipeline).await?.into_iter().collect();
            for one in self.codepipeline.newest_executions(&pipeline).await? {
                self.is_recent |= now.since(one.updated) < RECENT;
                if !is_due(&one, now) || self.is_recorded(&pipeline, &one, known.get(&one.id).copied(), now).await {
                    continue;
                }
                // After days without records there are more than one invocation can write, and word must be left all the same.
                if invocation.left() < room {
                    info!("the rest is recorded later");
                    return Ok(missed);
                }
                // Before its record, without which it is told again; but no longer than that may be missed.
                let is_new = !known.contains_key(&one.id);
                if is_new && let Err(error) = self.tell_of_the_end(&pipeline, &one).await {
                    warn!(%error, execution = one.id, "halt-release is not told of its end yet");
                    if now.since(one.updated) < MISSED {
                        continue;
                    }
                    missed.get_or_insert(error);
                }
                match self.record(&pipeline, &one.id, Known::Ended(one.updated), now).await {
                    Ok(true) => {}
                    Ok(false) => info!(execution = one.id, "it does not show its end yet"),
                    // One that cannot be recorded is no reason to record no other.
                    Err(error) => {
                        warn!(%error, execution = one.id, "it is not recorded yet");
                        if now.since(one.updated) >= MISSED {
                            missed.get_or_insert(error);
                        }
                    }
                }
            }
        }
        Ok(missed)
    }

    /// Whether an execution's record, which was written then, is of its last end. Whoever wrote it within moments of that end may have seen
    /// the one before a retry still.
    async fn is_recorded(&self, pipeline: &str, one: &ListedExecution, written: Option<Time>, now: Time) -> bool {
        let Some(written) = written.filter(|written| *written >= one.updated) else { return false };
        if written.since(one.updated) >= SHOWN || now.since(one.updated) >= RECENT {
            return true;
        }
        match self.store.get(pipeline, &one.id).await {
            Ok(Some(Entry::Record(record))) => record.status == one.status && one.updated.since(record.ended) < ONE_END,
            Ok(None) => false,
            // One that cannot be read is no reason to record no other.
            Ok(Some(Entry::Newer { .. } | Entry::Unreadable { .. })) | Err(_) => true,
        }
    }

    /// Records an execution that has ended; false when it does not show its end, or not that end.
    async fn record(&mut self, pipeline: &str, execution: &str, known: Known<'_>, now: Time) -> Result<bool, Error> {
        let mut release = Release {
            pipeline: pipeline.to_owned(),
            execution: execution.to_owned(),
            stage: None,
            action: None,
            attempt: 1,
        };
        let shown = self.codepipeline.execution(&release).await?;
        let actions = self.codepipeline.siblings(&release).await?;
        let is_shown = match known {
            Known::Event { state } => !actions.is_empty() && state.is_none_or(|state| is_state(&shown.status, state)),
            // That is so long ago that all its actions are shown, also if there are none.
            Known::Ended(_) => true,
        };
        let is_over = shown.is_over() && is_shown && !actions.iter().any(Sibling::is_running);
        if !is_over {
            return Ok(false);
        }
        release.attempt = tries(&actions, &release).attempt;
        let back = shown.is_rollback || self.aws.settings().goes_back(pipeline);
        let content = record::content_of(self.aws, &actions).await?;
        let commits = record::commits_of(self.aws, &actions).await?;
        let mut artifact = String::new();
        if let Some(from) = record::carrier(&actions).and_then(|action| action.artifacts.first())
            && !back
            && shown.status == "Succeeded"
        {
            let to = Store::artifact(pipeline, execution);
            match self.store.bucket().copy(&from.key, &to).await {
                Ok(true) => artifact = to,
                Ok(false) => {}
                // A release that cannot be gone back to is recorded all the same.
                Err(Error::Stop(why)) => warn!(why = why.message, execution, "its artifact is not kept"),
                Err(again) => return Err(again),
            }
        }
        // Also those that go on: they may have the traffic.
        let mut records = self.history(now).await?.records;
        records.retain(|one| one.execution != execution);
        let lines = self.last_lines(&release, &actions).await;
        let log = self.aws.settings().log_group.as_ref();
        let log = log.map(|group| names::log_link(&self.aws.region(), group, &names::log_stream(&release)));
        let updated = match known {
            Known::Event { .. } => Time::default(),
            Known::Ended(updated) => updated,
        };
        let seen = Seen { release, execution: shown, actions, updated, back, content, artifact, commits, lines, log };
        let record = collect::record(&seen, &records);
        let kept = self.store.keep(&record, matches!(known, Known::Ended(_))).await?;
        info!(execution, status = record.status, is_new = matches!(kept, Kept::First), "recorded");
        let earlier = match &kept {
            Kept::Already => return Ok(true),
            Kept::First => None,
            Kept::Again(earlier) => Some(&**earlier),
        };
        self.wrote = true;
        metrics::tell(&record, &records, earlier);
        Ok(true)
    }

    /// What each task wrote last, by task; not knowing is no reason to record nothing.
    async fn last_lines(&self, release: &Release, actions: &[Sibling]) -> BTreeMap<String, Vec<String>> {
        let mut lines = BTreeMap::new();
        let Some(group) = &self.aws.settings().log_group else { return lines };
        let logs = self.aws.logs(&self.aws.here()).await;
        for task in actions.iter().filter_map(|one| one.task.as_ref()) {
            if lines.contains_key(task) {
                continue;
            }
            // Those of other tasks, and of its own earlier runs, are before and after it.
            let newest =
                actions.iter().filter(|one| one.task.as_ref() == Some(task)).filter_map(|one| one.started).max();
            let begun = newest.map(|newest| newest.before(BESIDE));
            let own = || actions.iter().filter(|one| one.task.as_ref() == Some(task) && one.started >= begun);
            let (since, until) = (own().filter_map(|one| one.started).min(), own().filter_map(|one| one.updated).max());
            let between = (since.unwrap_or_default(), until.unwrap_or_default());
            // Each try of the release has a stream of its own, and this run may be of an earlier one.
            for attempt in (1..=release.attempt).rev() {
                let stream = names::log_stream(&Release { attempt, ..release.clone() });
                match logs.last_lines_between(group, &stream, between, LINES).await {
                    Ok(read) if read.is_empty() => {}
                    Ok(read) => {
                        lines.insert(task.clone(), read);
                        break;
                    }
                    Err(error) => warn!(%error, task, "its last lines are not recorded"),
                }
            }
        }
        lines
    }

    /// Leaves word for the releases to come: how long things take, and which release ran before this one.
    ///
    /// Safe to repeat: all of it follows from the records.
    async fn leave_word(&self, now: Time) -> Result<(), Error> {
        for pipeline in &self.pipelines() {
            let records = readable(self.store.newest(&[pipeline], USUAL).await?);
            self.store.leave_usual(pipeline, &Usual::of(&records)).await?;
        }
        self.leave_before(self.history(now).await?, now).await
    }

    /// Waits until a release shows that it has the traffic, and leaves word which one ran before it.
    async fn leave_word_when_shown(&self, execution: &str, invocation: &Invocation) -> Result<(), Error> {
        let begun = invocation.clock.now();
        loop {
            let now = invocation.clock.now();
            let history = self.history(now).await?;
            let is_shown = |one: &Record| one.execution == execution && one.deployed_at().is_some();
            if history.records.iter().any(is_shown) || now.since(begun) > SHOWN.min(invocation.left()) {
                return self.leave_before(history, now).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps the artifact of the release before the one that runs where a way back looks for it.
    ///
    /// Safe to repeat: it follows from the history, which is looked at once more, since whoever has seen a later one may have come
    /// first.
    async fn leave_before(&self, mut history: History, now: Time) -> Result<(), Error> {
        for _ in 0..LOOKS {
            let Some(before) = record::before(&history.records) else { return Ok(()) };
            self.store.bucket().copy(&before.artifact, &Store::before(&before.pipeline)).await?;
            let again = self.history(now).await?;
            if record::before(&again.records).is_some_and(|after| after.artifact == before.artifact) {
                return Ok(());
            }
            history = again;
        }
        Ok(())
    }

    async fn history(&self, now: Time) -> Result<History, Error> {
        let is_enough = |records: &[Record], _| record::is_before_known(records);
        History::look(self.aws, &self.store, &self.pipelines(), now, is_enough).await
    }
}

/// Whether a status is what an event calls so: EventBridge has it in capitals, and one of them with one letter less.
fn is_state(status: &str, state: &str) -> bool {
    match state {
        "CANCELED" => status == "Cancelled",
        other => status.eq_ignore_ascii_case(other),
    }
}

/// Whether an execution should have its record by now, and can have none but for want of a look.
fn is_due(one: &ListedExecution, now: Time) -> bool {
    one.is_over() && (OVERDUE..CAUGHT_UP).contains(&now.since(one.updated))
}

fn readable(entries: Vec<Entry>) -> Vec<Record> {
    let record = |entry| match entry {
        Entry::Record(record) => Some(*record),
        Entry::Newer { .. } | Entry::Unreadable { .. } => None,
    };
    entries.into_iter().filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_shown_when_its_status_is_that_of_the_event() {
        for (status, state, expected) in [
            ("Stopped", "STOPPED", true),
            ("Failed", "STOPPED", false),
            ("Cancelled", "CANCELED", true),
            ("Succeeded", "SUCCEEDED", true),
            ("Superseded", "SUPERSEDED", true),
            ("Succeeded", "FAILED", false),
        ] {
            assert_eq!(is_state(status, state), expected, "{status} {state}");
        }
    }

    #[test]
    fn the_schedule_takes_up_what_ended_without_a_record_and_not_what_has_outlived_it() {
        let now = Time::from_millis(1_800_000_000_000);
        let day = 86_400;
        for (status, seconds_ago, expected) in [
            ("Succeeded", 0, false),
            ("Succeeded", 119, false),
            ("Succeeded", 120, true),
            ("Failed", day, true),
            ("Stopped", 7 * day - 1, true),
            ("Succeeded", 7 * day, false),
            ("Succeeded", 364 * day, false),
            ("InProgress", day, false),
        ] {
            let updated = now.before(Duration::from_secs(seconds_ago));
            let one = ListedExecution { id: "e".into(), status: status.into(), updated, is_rollback: false };
            assert_eq!(is_due(&one, now), expected, "{status} {seconds_ago} s ago");
        }
    }
}
