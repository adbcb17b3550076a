//! What there is to tell of a release: from CodePipeline, which knows it all.

use std::time::Duration;

use shared::aws::codepipeline::{Execution, Sibling};
use shared::job::Release;
use shared::time::spoken;
use shared::{Time, names};

/// The output variable that only `check-rollback` has.
const RUNS: &str = "Runs";

/// A release, as people are told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) application: String,
    pub(crate) pipeline: String,
    pub(crate) execution: String,
    /// Whether it goes back to an earlier release.
    pub(crate) is_back: bool,
    pub(crate) commit: String,
    pub(crate) message: String,
    pub(crate) repository: String,
    /// Who started it: a person, or what they did.
    pub(crate) who: String,
    pub(crate) started: Time,
    /// Each stage that has ended, and how long it took.
    pub(crate) stages: Vec<(String, Duration)>,
    /// The link to the pipeline.
    pub(crate) pipeline_url: String,
    /// The link to the release's log.
    pub(crate) log_url: Option<String>,
}

impl Told {
    pub(crate) fn new(
        application: &str,
        release: &Release,
        execution: &Execution,
        actions: &[Sibling],
        (region, log_group): (&str, Option<&str>),
        is_back: bool,
    ) -> Self {
        // Going back, the source is an artifact, and the action that checks it says what it is of.
        let variable = |name: &str| {
            let says = actions.iter().filter(|one| one.category == "Source" || one.variables.contains_key(RUNS));
            says.filter_map(|one| one.variables.get(name)).next().cloned().unwrap_or_default()
        };
        let started = actions.iter().filter_map(|one| one.started).min().unwrap_or_default();
        Self {
            application: application.to_owned(),
            pipeline: release.pipeline.clone(),
            execution: release.execution.clone(),
            is_back,
            commit: variable("CommitId"),
            message: variable("CommitMessage").lines().next().unwrap_or_default().to_owned(),
            repository: variable("FullRepositoryName"),
            who: who(execution),
            started,
            stages: stages(actions),
            pipeline_url: format!(
                "https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{}/executions/{}/visualization?region={region}",
                release.pipeline, release.execution
            ),
            log_url: log_group.map(|group| names::log_link(region, group, &names::log_stream(release))),
        }
    }

    /// "release" or "way back".
    pub(crate) fn kind(&self) -> &'static str {
        if self.is_back { "way back" } else { "release" }
    }

    /// The commit as git shortens it.
    pub(crate) fn short_commit(&self) -> &str {
        self.commit.get(..7).unwrap_or(&self.commit)
    }

    /// "Prepare 12 s, Migrate 1 min 05 s, ...".
    pub(crate) fn stages_spoken(&self) -> String {
        let each = self.stages.iter().map(|(name, took)| format!("{name} {}", spoken(*took)));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// "a merge", or the name at the end of a user's ARN.
fn who(execution: &Execution) -> String {
    let (kind, detail) = &execution.trigger;
    let name = detail.rsplit('/').next().unwrap_or_default();
    match (kind.as_str(), name) {
        ("Webhook" | "WebhookV2" | "CloudWatchEvent" | "PollForSourceChanges", _) => "a merge".into(),
        (_, "") => "somebody".into(),
        (_, name) => name.to_owned(),
    }
}

/// How long each stage took, in the order in which they began: from its first action's begin to its last one's end.
fn stages(actions: &[Sibling]) -> Vec<(String, Duration)> {
    let mut stages: Vec<(String, Time, Time)> = Vec::new();
    for action in actions.iter().rev() {
        let (Some(started), Some(updated)) = (action.started, action.updated) else { continue };
        match stages.iter_mut().find(|(name, ..)| *name == action.stage) {
            Some((_, first, last)) => (*first, *last) = ((*first).min(started), (*last).max(updated)),
            None => stages.push((action.stage.clone(), started, updated)),
        }
    }
    stages.sort_by_key(|(_, first, _)| *first);
    stages.into_iter().map(|(name, first, last)| (name, last.since(first))).collect()
}
