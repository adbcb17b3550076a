//! The releases that have ended, as a table and one of them as a timeline: pure, and the same here and on AWS.

use std::fmt::Write as _;
use std::time::Duration;

use shared::Time;
use shared::record::{Entry, Record};
use shared::text::{fit, plain};
use shared::time::spoken;

use crate::Mistake;

/// How much of an execution's id stands for it.
const SHORT: usize = 8;

/// How wide what was released may be: a line fits 80 columns.
const WIDE: usize = 38;

/// The table, the newest first.
#[must_use]
pub fn table(entries: &[Entry], now: Time) -> String {
    if entries.is_empty() {
        return "No release has ended here yet.".into();
    }
    let runs = shared::record::runs(&records(entries)).map(|record| record.execution.clone());
    let mut text = format!("   {:8}  {:>6}  {:10} {:>6}  what", "release", "ago", "how", "took");
    for entry in entries {
        let line = match entry {
            Entry::Record(record) => {
                let what = if record.back { format!("back to {}", record.what()) } else { record.what() };
                let mark = if runs.as_ref() == Some(&record.execution) { "->" } else { "" };
                format!(
                    "{mark:2} {:8}  {:>6}  {:10} {:>6}  {}",
                    short(&record.execution),
                    about(now.since(record.ended)),
                    record.status,
                    about(record.ended.since(record.began)),
                    fit(&plain(&what), WIDE),
                )
            }
            Entry::Newer { execution, .. } | Entry::Unreadable { execution, .. } => {
                format!("   {:8}  its record {}", short(execution), unreadable(entry))
            }
        };
        let _ = write!(text, "\n{}", line.trim_end());
    }
    if runs.is_some() {
        text.push_str("\n-> runs");
    }
    text
}

/// Why a record cannot be read; nothing of one that can.
#[must_use]
pub fn unreadable(entry: &Entry) -> String {
    match entry {
        Entry::Record(_) => String::new(),
        Entry::Newer { version, .. } => format!("is of version {version}: a newer Cutover wrote it"),
        Entry::Unreadable { why, .. } => format!("cannot be read: {}", plain(why)),
    }
}

/// About how long, in one unit.
fn about(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// One release: each action when it began and how long it took, then tasks, services, and who approved.
#[must_use]
pub fn timeline(record: &Record) -> String {
    /// How much of what an action said is on its own line.
    const BESIDE: usize = 120;
    let mut text = format!("{} {}: {}", record.pipeline, record.execution, record.status);
    if !record.reason.is_empty() {
        let _ = write!(text, " ({})", plain(&record.reason));
    }
    let _ = write!(text, "\n{}, begun {}", plain(&record.what()), record.began);
    for (name, value) in [("image", &record.image), ("commit before", &record.since), ("log", &record.log)] {
        if !value.is_empty() {
            let _ = write!(text, "\n  {name:13}  {}", plain(value));
        }
    }
    for commit in &record.commits {
        let _ = write!(text, "\n  {:13}  {}", "commit", plain(&commit.what()));
    }
    text.push('\n');
    for step in &record.actions {
        let name = format!("{}/{}", step.stage, step.action);
        let line = format!(
            "{:>12}  {name:22} {:10} {:>12}  {}",
            spoken(step.began.since(record.began)),
            step.status,
            spoken(step.ended.since(step.began)),
            fit(plain(step.said.lines().next().unwrap_or_default()).trim(), BESIDE)
        );
        let _ = write!(text, "\n{}", line.trim_end());
    }
    // Why something failed, to the end.
    let is_longer = |said: &str| said.trim().lines().nth(1).is_some() || said.chars().count() > BESIDE;
    for step in record.actions.iter().filter(|step| step.status == "Failed" && is_longer(&step.said)) {
        let _ = write!(text, "\n\n{}/{}", step.stage, step.action);
        for line in step.said.trim().lines() {
            let _ = write!(text, "\n    {}", plain(line).trim_end());
        }
    }
    for ran in &record.tasks {
        let took = match (ran.seconds, ran.failed_after) {
            (Some(seconds), _) => shared::record::seconds(seconds),
            (None, Some(seconds)) => format!("did not end well, after {}", shared::record::seconds(seconds)),
            (None, None) => "did not end well".to_owned(),
        };
        let _ = write!(text, "\n\n{} in {}: {took}", ran.task, ran.environment);
        for line in &ran.last {
            let _ = write!(text, "\n    {}", plain(line));
        }
    }
    if !record.services.is_empty() {
        text.push_str("\n\nWhat ran before, and runs since");
    }
    for one in &record.services {
        let _ = write!(text, "\n  {}/{}: {} to {}", one.environment, one.service, one.before, one.after);
    }
    if let Some(approval) = &record.approval {
        let did = if approval.given { "Approved" } else { "Rejected" };
        let _ = write!(text, "\n\n{did} by {}: {}", plain(&approval.by), plain(&approval.said));
    }
    text
}

/// The records that can be read.
#[must_use]
pub fn records(entries: &[Entry]) -> Vec<Record> {
    let record = |entry: &Entry| match entry {
        Entry::Record(record) => Some((**record).clone()),
        Entry::Newer { .. } | Entry::Unreadable { .. } => None,
    };
    entries.iter().filter_map(record).collect()
}

/// The newest release whose execution or commit begins with this.
///
/// # Errors
/// There is none, it is several, or what is there cannot be read.
pub fn find(entries: &[Entry], name: &str) -> Result<Record, Mistake> {
    let newest = newest(entries, name)?;
    let all: Vec<_> = records(entries).into_iter().filter(|one| is_called(one, name)).collect();
    // Of one commit, the newest is meant; an execution's whole id is that one's alone.
    match all.iter().any(|one| one.commit.id != newest.commit.id) {
        false => Ok(newest),
        true => Err(several(name, &all)),
    }
}

/// Whether a release is called so: by the begin of its id, or of its commit's, which a way back has of the one that it went back to.
fn is_called(one: &Record, name: &str) -> bool {
    one.execution.starts_with(name) || (!one.back && one.commit.id.starts_with(name))
}

/// Whether one of these is called so: then no older one need be read.
pub(crate) fn is_among(records: &[Record], name: &str) -> bool {
    records.iter().any(|one| is_called(one, name))
}

fn several(name: &str, all: &[Record]) -> Mistake {
    let each: Vec<_> = all.iter().map(|one| format!("{} ({})", short(&one.execution), one.what())).collect();
    Mistake(format!("`{name}` is several releases: {}. Name one by more of its id", each.join(", ")))
}

fn newest(entries: &[Entry], name: &str) -> Result<Record, Mistake> {
    let is_it = |entry: &&Entry| match entry {
        Entry::Record(one) => is_called(one, name),
        Entry::Newer { execution, .. } | Entry::Unreadable { execution, .. } => execution.starts_with(name),
    };
    match entries.iter().filter(|_| !name.is_empty()).find(is_it) {
        Some(Entry::Record(record)) => Ok((**record).clone()),
        Some(entry) => {
            Err(Mistake(format!("the record of release {} {}", short(entry.execution()), unreadable(entry))))
        }
        None => Err(Mistake(format!(
            "there is no release `{name}`: `releases` lists them; name one by the begin of its id or its commit's"
        ))),
    }
}

/// The release that is gone back to: the one that is named, or the one before what runs.
///
/// # Errors
/// There is none, or nothing of it was kept.
pub fn target(entries: &[Entry], name: Option<&str>) -> Result<Record, Mistake> {
    let found = match name {
        Some(name) => named(entries, name)?,
        None => shared::record::before(&records(entries))
            .ok_or_else(|| match entries.is_empty() {
                true => Mistake("there is no release to go back to: none has ended here yet".into()),
                false => Mistake("there is no release before the one that runs".into()),
            })?
            .clone(),
    };
    match found.artifact.is_empty() {
        false => Ok(found),
        true => Err(Mistake(format!(
            "release {} ({}) cannot be gone back to: only of releases that have succeeded the artifact is kept",
            short(&found.execution),
            found.status
        ))),
    }
}

/// The newest of the releases of this name that can be gone back to; without one, the newest.
fn named(entries: &[Entry], name: &str) -> Result<Record, Mistake> {
    let newest = newest(entries, name)?;
    let is_it = |one: &Record| one.execution.starts_with(name) || one.commit.id.starts_with(name);
    let all = records(entries).into_iter().filter(|one| is_it(one) && !one.back && !one.artifact.is_empty());
    let all: Vec<_> = all.collect();
    let Some(first) = all.first().cloned() else {
        return match newest.back {
            true => Err(Mistake(format!(
                "{} is a way back itself: name the release that it went back to, {}",
                short(&newest.execution),
                newest.what()
            ))),
            false => Ok(newest),
        };
    };
    match all.iter().any(|one| one.commit.id != first.commit.id) {
        false => Ok(first),
        true => Err(several(name, &all)),
    }
}

fn short(execution: &str) -> &str {
    execution.get(..SHORT).unwrap_or(execution)
}

#[cfg(test)]
mod tests {
    use shared::record::Step;

    use super::*;

    fn release(execution: &str, content: &str, status: &str, ended: u64) -> Entry {
        Entry::Record(Box::new(Record {
            execution: execution.into(),
            content: content.into(),
            artifact: if status == "Succeeded" { format!("{execution}.zip") } else { String::new() },
            status: status.into(),
            ended: Time::from_millis(ended * 60_000),
            ..Record::default()
        }))
    }

    #[test]
    fn the_table_says_what_runs_and_what_cannot_be_read() {
        let newer = Entry::Newer { execution: "eeeeeeeeeeee".into(), version: 9 };
        let entries = [newer, release("cccccccccccc", "c", "Failed", 3), release("bbbbbbbbbbbb", "b", "Succeeded", 2)];
        let table = table(&entries, Time::from_millis(240_000));
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "   eeeeeeee  its record is of version 9: a newer Cutover wrote it");
        assert!(lines[2].starts_with("   cccccccc    60 s  Failed "), "{table}");
        assert!(lines[3].starts_with("-> bbbbbbbb   2 min  Succeeded "), "{table}");
        assert_eq!(lines[4], "-> runs");
        let long = Record {
            commit: shared::record::Commit { id: "4".repeat(40), message: "x".repeat(99), ..Default::default() },
            ..Record::default()
        };
        let table = super::table(&[Entry::Record(Box::new(long))], Time::from_millis(5_000_000_000));
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn a_timeline_has_the_whole_verdict_of_what_failed_and_a_line_of_what_did_not() {
        let step = |action: &str, status: &str, said: &str| Step {
            stage: "Migrate".into(),
            action: action.into(),
            status: status.into(),
            said: said.into(),
            ..Step::default()
        };
        let long = format!("migrate: 3 lines{}", " and more".repeat(30));
        let actions = vec![
            step("Migrate", "Failed", "migrate failed in ap: exit code 1\n  The others\n    us: \u{1b}[31mstopped"),
            step("MigrateLogs", "Succeeded", &long),
            step("Short", "Failed", "no room"),
        ];
        let text = timeline(&Record { actions, ..Record::default() });
        assert!(
            text.contains("\n\nMigrate/Migrate\n    migrate failed in ap: exit code 1\n      The others\n"),
            "{text}"
        );
        assert!(text.contains("us: ") && !text.contains('\u{1b}') && !text.contains(&long), "{text}");
        assert_eq!(text.matches("Migrate/").count(), 4, "what is said on its own line is said once: {text}");
    }

    #[test]
    fn without_a_name_it_goes_to_the_release_before_and_never_to_one_of_which_nothing_was_kept() {
        let entries = [
            Entry::Newer { execution: "eeeeeeeeeeee".into(), version: 9 },
            release("c", "c", "Succeeded", 3),
            release("b", "b", "Failed", 2),
            release("a", "a", "Succeeded", 1),
        ];
        assert_eq!(target(&entries, None).unwrap().execution, "a");
        assert_eq!(target(&entries, Some("c")).unwrap().execution, "c");
        for (name, said) in [
            ("b", "cannot be gone back to"),
            ("x", "there is no release `x`"),
            ("", "there is no release"),
            ("eee", "the record of release eeeeeeee is of version 9"),
        ] {
            let Mistake(why) = target(&entries, Some(name)).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
