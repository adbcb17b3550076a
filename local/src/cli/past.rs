//! `releases` and `rollback`: what was released, here or on AWS, and the way back to it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use shared::record::{Entry, History, Record, Store};

use super::{Files, begin, follow};
use crate::world::KeptObject;
use crate::{Mistake, real, releases, show, template};

#[derive(Debug, Args)]
pub(super) struct Releases {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Which release, by the begin of its id or of its commit's.
    release: Option<String>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Which release, by the begin of its id or of its commit's; the one before the one that runs unless given.
    release: Option<String>,
    /// Go back behind this task, although deploy.yaml says that there is no way back behind it; as often as there are such.
    #[arg(long, value_name = "TASK")]
    behind: Vec<String>,
    #[command(flatten)]
    how: follow::How,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    files: Files,
}

/// Whose releases: this machine's, or an account's.
#[derive(Debug, Args)]
pub(super) struct Whose {
    /// Those of the AWS account that the usual credentials are of, and not those of this machine.
    #[arg(long)]
    aws: bool,
    /// Cutover's stack there.
    #[arg(long, value_name = "NAME", default_value = template::STACK, requires = "aws")]
    stack: String,
}

impl Whose {
    /// Which release is asked for. Of an account's, no folder is needed: one alone that is no folder names the release.
    fn release(&self, folder: Option<&PathBuf>, release: Option<String>) -> Option<String> {
        let named = folder.filter(|folder| self.aws && !folder.is_dir());
        release.or_else(|| named.map(|named| named.display().to_string()))
    }
}

/// Lists the releases, or shows one.
pub(super) async fn list(asked: Releases) -> Result<ExitCode, Mistake> {
    let release = asked.whose.release(asked.folder.as_ref(), asked.release);
    let entries = match asked.whose.aws {
        true => {
            let is_enough =
                |records: &[Record]| release.as_deref().is_none_or(|name| releases::is_among(records, name));
            on_aws(&asked.whose.stack, is_enough).await?.1
        }
        false => here(asked.folder.clone(), &asked.files).await?,
    };
    let said = match &release {
        None if entries.is_empty() && !asked.whose.aws => {
            format!(
                "No release has ended in {}: ask where `release` ran, or give its `--state`.",
                asked.files.state.display()
            )
        }
        None => releases::table(&entries, shared::Time::of_system()),
        Some(name) => {
            let text = releases::timeline(&releases::find(&entries, name)?);
            // Here, AWS's console has nothing of it.
            let is_shown = |line: &&str| asked.whose.aws || !line.contains(".console.aws.amazon.com/");
            text.lines().filter(is_shown).collect::<Vec<_>>().join("\n")
        }
    };
    show::say(&said);
    Ok(ExitCode::SUCCESS)
}

/// Starts the pipeline that goes back, and here follows it.
pub(super) async fn go_back(asked: Rollback) -> Result<ExitCode, Mistake> {
    let behind = if asked.behind.is_empty() { "none".to_owned() } else { asked.behind.join(",") };
    let release = asked.whose.release(asked.folder.as_ref(), asked.release);
    if asked.whose.aws {
        let is_enough = |records: &[Record]| match release.as_deref() {
            Some(name) => releases::is_among(records, name),
            None => shared::record::is_before_known(records),
        };
        let (aws, entries) = on_aws(&asked.whose.stack, is_enough).await?;
        let target = releases::target(&entries, release.as_deref())?;
        let pipeline = format!("{}-rollback", asked.whose.stack);
        let codepipeline = shared::aws::codepipeline::Codepipeline::new(&aws);
        let source = (SOURCE, target.artifact.as_str());
        let started = codepipeline.start_from(&pipeline, source, &[(BEHIND, &behind)]).await;
        let started = started.map_err(|error| Mistake(error.to_string()))?;
        let region = aws.region();
        show::say(&format!(
            "Going back to {}: execution {started} of {pipeline} will ask for its approval\n\
             https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}/executions/{started}/visualization?region={region}",
            target.what()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let entries = here(asked.folder.clone(), &asked.files).await?;
    let target = releases::target(&entries, release.as_deref()).map_err(|Mistake(why)| match release {
        None if entries.len() == 1 => Mistake(format!(
            "{why}. `release` begins with a new account and forgets what was released before; `release --again` goes on with the last one, and \
             leaves a way back"
        )),
        _ => Mistake(why),
    })?;
    let key = target.artifact;
    let mut prepared = begin::prepare(asked.folder, &asked.files, begin::With::WhatWasLeft).await?;
    // Whoever released it has read them.
    prepared.account.notes.clear();
    let known = &prepared.manifest.tasks;
    for task in asked.behind.iter().filter(|task| !known.contains_key(*task)) {
        // A release since may have had it.
        let why = shared::text::unknown("task", task, known.keys().map(String::as_str));
        show::say(&format!("Note: --behind {task}: in deploy.yaml, {why}"));
    }
    follow::play(&prepared, asked.how, |names| {
        json!({"name": names[1], "variables": [{"name": BEHIND, "value": behind}],
            "sourceRevisions": [{"actionName": SOURCE, "revisionType": "S3_OBJECT_KEY", "revisionValue": key}]})
    })
    .await
}

/// The source action of the pipeline that goes back, and its variable, as the template calls them.
const SOURCE: &str = "Source";
const BEHIND: &str = "Behind";

/// The releases of a stack in the account that the usual credentials are of, also those that go on.
///
/// So many are read as `is_enough` says: a stack may have hundreds.
async fn on_aws(stack: &str, is_enough: impl Fn(&[Record]) -> bool) -> Result<(shared::Aws, Vec<Entry>), Mistake> {
    let said = |error: shared::Error| Mistake(error.to_string());
    let aws = crate::cloud::configured().await?;
    crate::verify::somebody_asks(&aws).await?;
    let pipelines = [format!("{stack}-pipeline"), format!("{stack}-rollback")];
    let bucket = shared::aws::codepipeline::Codepipeline::new(&aws).bucket_of(&pipelines[0]).await.map_err(said)?;
    let names: Vec<_> = pipelines.iter().map(String::as_str).collect();
    let store = Store::within(aws.bucket(&bucket));
    let is_enough = |records: &[Record], _| is_enough(records);
    let history = History::look(&aws, &store, &names, shared::Time::of_system(), is_enough).await.map_err(said)?;
    Ok((aws, history.entries()))
}

/// The releases of this machine.
async fn here(folder: Option<PathBuf>, files: &Files) -> Result<Vec<Entry>, Mistake> {
    let (folder, parent) = begin::folders(folder, files)?;
    let left = real::kept::read(&real::kept::folder(&parent, &folder))?.unwrap_or_default();
    let record = |object: &KeptObject| {
        let name = object.key.rsplit('/').next()?.strip_suffix(".json")?;
        Some(shared::record::read(name, &object.content))
    };
    let mut entries: Vec<_> = left.objects.iter().filter_map(record).collect();
    shared::record::newest_first(&mut entries);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_accounts_releases_one_is_named_without_a_folder_before_it() {
        let here = || Some(PathBuf::from("."));
        let name = |name: &str| Some(name.to_owned());
        for (aws, folder, release, asked) in [
            (true, Some(PathBuf::from("5f0e12")), None, name("5f0e12")),
            (true, here(), None, None),
            (true, here(), name("5f0e12"), name("5f0e12")),
            (true, None, None, None),
            (false, Some(PathBuf::from("5f0e12")), None, None),
        ] {
            let whose = Whose { aws, stack: "cutover".into() };
            assert_eq!(whose.release(folder.as_ref(), release.clone()), asked, "{aws} {folder:?} {release:?}");
        }
    }
}
