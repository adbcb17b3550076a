//! Every sentence of `check-rollback` that a person reads.

use std::fmt::Write as _;

use shared::artifact::Content;
use shared::record::{Commit, Record};
use shared::targets::quick::{Runs, UNKNOWN};
use shared::text::{count, fit};
use shared::time::spoken;
use shared::{Next, Success, Tick, names};

use crate::decide::{Between, Why};

/// How much of it an approval can show: a configuration value has at most 1,000 characters (fact 2).
const LONGEST_ASKED: usize = 900;

/// How much of an error it shows.
const LONGEST_WHY: usize = 200;

/// Why it cannot be gone back to.
pub(crate) fn refused(why: &Why, target: &Content) -> String {
    match why {
        Why::ImageGone => format!(
            "The image of that release is gone from ECR: {}. Its repository's lifecycle policy has removed it. Choose a later release, or \
             release its commit anew; nothing was changed.",
            target.image.as_deref().unwrap_or_default()
        ),
        Why::NoWayBack(tasks) => {
            let each: Vec<_> = tasks.iter().map(|(task, release)| format!("`{task}` ({release})")).collect();
            let mut names: Vec<_> = tasks.iter().map(|(task, _)| task.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let (name, names) = (if names.len() == 1 { "its name" } else { "their names" }, names.join(","));
            format!(
                "There is no way back behind {}: deploy.yaml says `no_way_back`, and it was begun since. If the older version can live with \
                 what was done, say so by {name}: start the pipeline with the variable Behind={names}. Nothing was changed.",
                each.join(", ")
            )
        }
    }
}

/// What the approval tells the person who is asked.
pub(crate) fn asks(tick: &Tick<'_>, between: &Between, target: &Content) -> Success {
    let mut text = match &between.target {
        Some(record) => {
            let age = tick.now.since(record.ended);
            let far = match between.deployed_since() {
                0 | 1 => String::new(),
                far => format!(", {far} RELEASES BACK"),
            };
            format!("Back to {} ({} old){far}", record.what(), spoken(age))
        }
        None => "Back to a release that HAS NO RECORD: what lies between is NOT KNOWN".to_owned(),
    };
    if between.is_there() {
        text.push_str(", which runs already");
    } else if let Some(runs) = &between.runs {
        let _ = write!(text, ", from {}", runs.what_now());
    }
    text.push('.');
    if !between.behind.is_empty() {
        let each: Vec<_> = between.behind.iter().map(|task| format!("`{task}`")).collect();
        let _ = write!(text, " BEHIND {}, ALTHOUGH deploy.yaml SAYS THAT THERE IS NO WAY BACK.", each.join(", "));
    }
    let tasks = between.tasks();
    if !tasks.is_empty() {
        let each: Vec<_> = tasks.iter().map(|(task, whose)| format!("{task} of {whose}")).collect();
        let ran = if between.target.is_some() { "RAN SINCE" } else { "MAY HAVE RUN SINCE" };
        let _ = write!(text, " MIGRATIONS AND OTHER TASKS {ran} AND ARE NOT UNDONE: {}.", each.join(", "));
    }
    let unread = between.unread();
    if !unread.is_empty() {
        let _ = write!(
            text,
            " WHETHER THERE IS A WAY BACK BEHIND THOSE IS NOT KNOWN, since its deploy.yaml cannot be read: {}.",
            unread.join(", ")
        );
    }
    if !between.unreadable.is_empty() {
        let _ = write!(
            text,
            " {} CANNOT BE READ by this version of Cutover: {}.",
            count(between.unreadable.len(), "RECORD"),
            between.unreadable.join(", ")
        );
    }
    if let Some(why) = &between.image_not_known {
        let _ = write!(
            text,
            " WHETHER ITS IMAGE IS STILL THERE IS NOT KNOWN: {}.",
            fit(why.trim_end_matches('.'), LONGEST_WHY)
        );
    }
    let _ = write!(text, " Deploys {}.", deploys(target));
    if !between.since.is_empty() {
        let of_each = |one: &Record| match one.commits.as_slice() {
            [] => vec![one.what_now()],
            commits => commits.iter().map(Commit::what).collect(),
        };
        let each: Vec<_> = between.since.iter().rev().flat_map(of_each).collect();
        let _ = write!(text, " Since then: {}.", each.join("; "));
    }
    let link = names::console_encoded(&names::log_stream(tick.release));
    let group = tick.aws.settings().log_group.as_ref();
    let url = group.map(|group| names::log_link(&tick.aws.region(), group, &names::log_stream(tick.release)));
    let mut variables = vec![("Summary", fit(&text, LONGEST_ASKED))];
    let runs = between.runs.as_ref().and_then(runs).map_or_else(|| UNKNOWN.to_owned(), |runs| runs.written());
    variables.push(("Runs", runs));
    // As a source says it: whoever tells people of a release finds it there.
    let commit = between.target.as_ref().map(|target| &target.commit);
    let commit = commit.map(|commit| {
        [("CommitId", &commit.id), ("CommitMessage", &commit.message), ("FullRepositoryName", &commit.repository)]
    });
    let commit = commit.into_iter().flatten().filter(|(_, value)| !value.is_empty());
    variables.extend(commit.map(|(name, value)| (name, value.clone())));
    variables.extend(url.map(|url| ("LogsUrl", url)));
    Success { summary: text, variables, link: Some(link) }
}

/// The release that runs, as the action that deploys is told it.
fn runs(record: &Record) -> Option<Runs> {
    let began = record.deployments().map(|step| step.began).min()?;
    Some(Runs { pipeline: record.pipeline.clone(), execution: record.execution.clone(), began })
}

/// "registry/shop@sha256:... to us/web, us/worker".
fn deploys(target: &Content) -> String {
    let manifest = &target.manifest;
    let each = manifest.services.iter().flat_map(|(name, service)| {
        let environments = manifest.environments_of(service.environments.as_ref());
        environments.into_iter().map(move |(environment, _)| format!("{environment}/{name}"))
    });
    let each: Vec<_> = each.collect();
    format!("{} to {}", target.image.as_deref().unwrap_or("the image of the task definitions"), each.join(", "))
}

/// What stands in the release's log.
pub(crate) fn lines(next: &Next) -> Vec<String> {
    let text = match next {
        Next::Wait(..) => return Vec::new(),
        Next::Succeed(success) | Next::Answer(success) => &success.summary,
        Next::Fail(verdict) => &verdict.message,
    };
    text.split_inclusive(". ").map(|sentence| format!("way back | {}", sentence.trim())).collect()
}
