//! A release's record, from what AWS shows of it: pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Approval, Commit, Deployed, Ran, Record, SCHEMA, Step, VERSION};
use crate::artifact::Content;
use crate::aws::codepipeline::{ActionStatus, Execution, Sibling};
use crate::job::Release;
use crate::text::{fit, plain};
use crate::time::Time;

/// How many of a task's last lines are kept for each environment, and how much of each.
const LAST: usize = 3;
const LONGEST_LINE: usize = 300;

/// How much is kept of what an action said.
const LONGEST_SAID: usize = 2048;

/// How much is kept of a commit's first line.
const LONGEST_MESSAGE: usize = 200;

/// Everything that is shown of a release.
#[derive(Debug)]
pub struct Seen {
    /// Which it is.
    pub release: Release,
    /// How it stands as a whole.
    pub execution: Execution,
    /// Its actions' runs.
    pub actions: Vec<Sibling>,
    /// When it changed last: when it ended, of one that has ended before any action.
    pub updated: Time,
    /// Whether it goes back.
    pub back: bool,
    /// Its manifest and image.
    pub content: Option<Content>,
    /// The key under which its artifact was kept.
    pub artifact: String,
    /// Its repository's log, as its build has left it.
    pub commits: Vec<Commit>,
    /// What each task wrote last.
    pub lines: BTreeMap<String, Vec<String>>,
    /// The link to its log.
    pub log: Option<String>,
}

/// The record; `others` are those of the releases before.
#[must_use]
pub fn record(seen: &Seen, others: &[Record]) -> Record {
    let mut actions: Vec<_> = seen.actions.iter().map(step).collect();
    actions.sort_by_key(|step| step.began);
    let began = actions.iter().map(|step| step.began).min().unwrap_or(seen.updated);
    let ended = actions.iter().map(|step| step.ended).max().unwrap_or(seen.updated);
    let moved = actions.iter().filter(|step| step.has_deployed()).map(|step| step.ended).max();
    let before = ran_before(others, &seen.release.execution, moved.unwrap_or(ended));
    let source = seen.actions.iter().find(|one| one.category == "Source").map(|one| &one.variables);
    let variable = |name: &str| source.and_then(|all| all.get(name)).cloned().unwrap_or_default();
    let content = seen.content.as_ref();
    // What is gone back to was released once, and its record says what it is.
    let target = content.filter(|_| seen.back);
    let target = target.and_then(|content| others.iter().find(|one| !one.back && one.content == content.hash));
    let commit = target.map(|target| target.commit.clone()).unwrap_or_else(|| Commit {
        id: variable("CommitId"),
        message: fit(&plain(variable("CommitMessage").lines().next().unwrap_or_default()), LONGEST_MESSAGE),
        author: seen
            .commits
            .iter()
            .find(|one| one.id == variable("CommitId"))
            .map(|one| one.author.clone())
            .unwrap_or_default(),
        date: variable("AuthorDate"),
        repository: variable("FullRepositoryName"),
        branch: variable("BranchName"),
    });
    let begun = |task: &String| actions.iter().any(|step| step.task.as_ref() == Some(task));
    let flagged = content.into_iter().flat_map(|content| &content.manifest.tasks).filter(|(_, task)| task.no_way_back);
    Record {
        schema: SCHEMA.into(),
        version: VERSION,
        pipeline: seen.release.pipeline.clone(),
        execution: seen.release.execution.clone(),
        back: seen.back,
        status: seen.execution.status.clone(),
        reason: seen.execution.summary.clone(),
        began,
        ended,
        trigger: seen.execution.trigger.clone(),
        commit,
        commits: Commit::since(&seen.commits, before.map(|one| one.commit.id.as_str()).unwrap_or_default()),
        since: before.map(|one| one.commit.id.clone()).unwrap_or_default(),
        image: content.and_then(|content| content.image.clone()).unwrap_or_default(),
        content: content.map(|content| content.hash.clone()).unwrap_or_default(),
        artifact: seen.artifact.clone(),
        no_way_back: flagged.map(|(name, _)| name.clone()).filter(begun).collect(),
        tasks: seen.actions.iter().rev().filter(|one| runs_task(one)).flat_map(|one| ran(one, seen)).collect(),
        services: seen.actions.iter().find(|one| one.deploys).map(deployed).unwrap_or_default(),
        workers: seen
            .actions
            .iter()
            .find(|one| one.action == "Drain")
            .and_then(|one| one.summary.clone())
            .unwrap_or_default(),
        approval: seen.actions.iter().find(|one| one.category == "Approval").and_then(approval),
        log: seen.log.clone().unwrap_or_default(),
        actions,
    }
}

/// What ran until this release deployed, or ended without: the one that had deployed last by then.
fn ran_before<'a>(others: &'a [Record], execution: &str, until: Time) -> Option<&'a Record> {
    let earlier = |one: &Record| one.deployed_at().filter(|at| *at < until && one.execution != execution);
    others.iter().filter_map(|one| Some((earlier(one)?, one))).max_by_key(|(at, _)| *at).map(|(_, one)| one)
}

fn step(one: &Sibling) -> Step {
    let said = one.error.as_ref().or(one.summary.as_ref()).map(String::as_str).unwrap_or_default();
    Step {
        stage: one.stage.clone(),
        action: one.action.clone(),
        began: one.started.unwrap_or_default(),
        ended: one.updated.or(one.started).unwrap_or_default(),
        status: match one.status {
            ActionStatus::InProgress => "InProgress",
            ActionStatus::Succeeded => "Succeeded",
            ActionStatus::Failed => "Failed",
            ActionStatus::Abandoned => "Abandoned",
            ActionStatus::Unknown => "Unknown",
        }
        .into(),
        said: fit(said, LONGEST_SAID),
        task: one.task.clone(),
    }
}

/// Whether it runs its task, rather than showing its log.
fn runs_task(one: &Sibling) -> bool {
    one.task.is_some() && !one.action.ends_with("Logs")
}

/// A task's runs, by environment: those whose durations it tells, and those that have written something.
fn ran(one: &Sibling, seen: &Seen) -> Vec<Ran> {
    let task = one.task.clone().unwrap_or_default();
    let mut found: BTreeMap<String, Ran> = BTreeMap::new();
    let durations = one.variables.get("Durations").map(String::as_str).unwrap_or_default();
    for (environment, seconds) in durations.split(", ").filter_map(|pair| pair.split_once('=')) {
        let ran = found.entry(environment.to_owned()).or_default();
        ran.seconds = seconds.parse().ok();
    }
    // What `tail-logs` says of a task before it, too, comes a few seconds later.
    let closes = |said: &str| {
        let mut tasks = seen.actions.iter().filter_map(|one| one.task.as_deref());
        let ends =
            |rest: &str| [" complete: ", " incomplete after ", " incomplete: "].iter().any(|how| rest.starts_with(how));
        tasks.any(|task| said.strip_prefix(task).is_some_and(ends))
    };
    // The lines are of the newest run.
    let newest = seen.actions.iter().find(|other| runs_task(other) && other.task == one.task);
    let lines = seen.lines.get(&task).filter(|_| newest.is_some_and(|newest| newest.started == one.started));
    for line in lines.into_iter().flatten() {
        let Some((label, said)) = line.split_once(" | ") else { continue };
        // `us`, or `us web` of a task of several containers.
        let environment = label.split_whitespace().next().unwrap_or_default();
        // What `tail-logs` says itself is no line of the task's.
        if closes(said) || said.starts_with(&format!("{task}: container `")) {
            continue;
        }
        let known = seen.content.as_ref().is_none_or(|content| content.manifest.environments.contains_key(environment));
        if known {
            let ran = found.entry(environment.to_owned()).or_default();
            ran.last.push(fit(plain(said).trim_end(), LONGEST_LINE));
        }
    }
    let took = one.started.zip(one.updated).map(|(started, updated)| updated.since(started).as_secs());
    let named = |(environment, mut ran): (String, Ran)| {
        ran.last.drain(..ran.last.len().saturating_sub(LAST));
        let failed_after = took.filter(|_| ran.seconds.is_none());
        Ran { task: task.clone(), environment, failed_after, ..ran }
    };
    found.into_iter().map(named).collect()
}

/// What ran before and after, as the action's output variable tells.
fn deployed(one: &Sibling) -> Vec<Deployed> {
    let told: Value =
        one.variables.get("Services").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    serde_json::from_value(told).unwrap_or_default()
}

fn approval(one: &Sibling) -> Option<Approval> {
    let by = one.updated_by.as_deref().unwrap_or_default();
    let given = match one.status {
        ActionStatus::Succeeded => true,
        // Nobody has answered it in time, or it could not be asked for.
        ActionStatus::Failed if by.is_empty() => return None,
        ActionStatus::Failed => false,
        ActionStatus::InProgress | ActionStatus::Abandoned | ActionStatus::Unknown => return None,
    };
    let said = one.error.clone().or_else(|| one.summary.clone()).unwrap_or_default();
    Some(Approval { given, by: by.rsplit('/').next().unwrap_or(by).to_owned(), said })
}
