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
pub(crate) fn refused(why: &Why, target: &Content, pipeline: &str) -> String {
    match why {
        Why::ImageGone => format!(
            "The image of that release is gone from ECR: {}. Its repository's lifecycle policy has removed it. Choose a later release, or \
             release its commit anew; nothing was changed.",
            target.image.as_deref().unwrap_or_default()
        ),
        Why::NeverSucceeded(release) => format!(
            "That is what release {release} has built, which has not succeeded: only a release that has can be gone back to. `cargo run -- \
             releases DIR --aws --stack {}` lists them; nothing was changed.",
            pipeline.strip_suffix("-rollback").unwrap_or(pipeline)
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
    let unread = between.unread();
    if !unread.is_empty() {
        let _ = write!(
            text,
            " WHETHER THERE IS A WAY BACK BEHIND WHAT THESE DID IS NOT KNOWN, since their deploy.yaml cannot be read: {}.",
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
    let stay = between.stay(&deployed(target));
    if !stay.is_empty() {
        let _ = write!(
            text,
            " THESE STAY ON THE NEWER VERSION, since the earlier release did not have them: {}.",
            stay.join(", ")
        );
    }
    let tasks = between.tasks();
    if !tasks.is_empty() {
        let ran = if between.target.is_some() { "RAN SINCE" } else { "MAY HAVE RUN SINCE" };
        let _ = write!(text, " MIGRATIONS AND OTHER TASKS {ran} AND ARE NOT UNDONE: {}.", tasks_of(&tasks));
    }
    let _ = write!(text, " Deploys {}.", deploys(target));
    if !between.since.is_empty() {
        let of_each = |one: &Record| match one.commits.as_slice() {
            [] => vec![one.what_now()],
            commits => commits.iter().map(Commit::what).collect(),
        };
        let mut each: Vec<_> = between.since.iter().rev().flat_map(of_each).collect();
        // A commit that was released again is the same.
        each.dedup();
        let _ = write!(text, " Since then: {}.", each.join("; "));
    }
    let link = names::console_encoded(&names::log_stream(tick.release));
    let group = tick.aws.settings().log_group.as_ref();
    let url = group.map(|group| names::log_link(&tick.aws.region(), group, &names::log_stream(tick.release)));
    // What is cut is the end of the list, never a warning before it.
    let mut variables = vec![("Summary", begin(&text, LONGEST_ASKED))];
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

/// The begin of a text of which there is no room for all.
fn begin(text: &str, most: usize) -> String {
    match text.char_indices().nth(most.saturating_sub(CUT.chars().count())) {
        Some((end, _)) if text.chars().count() > most => format!("{}{CUT}", &text[..end]),
        _ => text.to_owned(),
    }
}

/// What stands where an approval's text ends before its end.
const CUT: &str = " ... (all of it is in the log)";

/// How much is said of tasks before those that several releases began are said once.
const LONGEST_TASKS: usize = 300;

/// "migrate of 4f2a9c1 Sell teapots, ..."; where they are too many, "migrate of 3 releases".
fn tasks_of(tasks: &[(&str, String)]) -> String {
    let each: Vec<_> = tasks.iter().map(|(task, whose)| format!("{task} of {whose}")).collect();
    let each = each.join(", ");
    if each.len() <= LONGEST_TASKS {
        return each;
    }
    let mut of: Vec<(&str, Vec<&str>)> = Vec::new();
    for (task, whose) in tasks {
        match of.iter_mut().find(|(name, _)| name == task) {
            Some((_, all)) => all.push(whose),
            None => of.push((task, vec![whose])),
        }
    }
    let each = of.into_iter().map(|(task, whose)| match whose.as_slice() {
        [one] => format!("{task} of {one}"),
        several => format!("{task} of {}", count(several.len(), "release")),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The release that runs, as the action that deploys is told it.
fn runs(record: &Record) -> Option<Runs> {
    let began = record.deployments().map(|step| step.began).min()?;
    let (pipeline, execution) = (record.pipeline.clone(), record.execution.clone());
    Some(Runs { pipeline, execution, began, image: Some(record.image.clone()).filter(|image| !image.is_empty()) })
}

/// "registry/shop@sha256:... to us/web, us/worker".
fn deploys(target: &Content) -> String {
    format!(
        "{} to {}",
        target.image.as_deref().unwrap_or("the image of the task definitions"),
        deployed(target).join(", ")
    )
}

/// Each service in each environment.
fn deployed(target: &Content) -> Vec<String> {
    let manifest = &target.manifest;
    let each = manifest.services.iter().flat_map(|(name, service)| {
        let environments = manifest.environments_of(service.environments.as_ref());
        environments.into_iter().map(move |(environment, _)| format!("{environment}/{name}"))
    });
    each.collect()
}

/// What stands in the release's log.
pub(crate) fn lines(next: &Next) -> Vec<String> {
    let text = match next {
        Next::Wait(..) | Next::Show(..) => return Vec::new(),
        Next::Succeed(success) | Next::Answer(success) => &success.summary,
        Next::Fail(verdict) => &verdict.message,
    };
    text.split_inclusive(". ").map(|sentence| format!("way back | {}", sentence.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_that_is_too_long_loses_its_end_and_says_so() {
        assert_eq!(begin("short", 40), "short");
        let text = format!("WARNING first. {}", "x".repeat(100));
        let cut = begin(&text, 60);
        assert!(cut.starts_with("WARNING first. xxx") && cut.ends_with(CUT), "{cut}");
        assert_eq!(cut.chars().count(), 60);
    }

    #[test]
    fn a_task_of_several_releases_is_named_once_where_there_are_many() {
        let of = |task, whose: &str| (task, whose.to_owned());
        let tasks = [of("migrate", "a"), of("finish", "a"), of("migrate", "b")];
        assert_eq!(tasks_of(&tasks), "migrate of a, finish of a, migrate of b");
        let long = "x".repeat(150);
        let tasks = [of("migrate", &long), of("finish", "a"), of("migrate", &long)];
        assert_eq!(tasks_of(&tasks), "migrate of 2 releases, finish of a");
    }
}
