//! `check`: what a release would do, or every mistake of the manifest and of `local.yaml` at once, and where they do not fit.

pub(crate) mod fits;
mod plan;
mod regions;

use std::collections::BTreeMap;
use std::path::Path;

use shared::Manifest;
use shared::manifest::FILE;

use crate::Mistake;
use crate::account::Account;
use crate::local_yaml;
use crate::mistakes::read;
use crate::template::{self, Stack};
use crate::world::World;

pub(crate) use plan::missing_tasks;

/// Stands for the folder of a release's state, which a release alone makes: a path that does not lie in the application's folder.
const STATE: &str = "/state";

/// What came of a look at an application.
#[derive(Debug)]
pub enum Outcome {
    /// What a release does.
    Good(String),
    /// Every mistake, each with its place.
    Bad(Vec<String>),
}

/// Checks the application in a folder against a template with these parameters.
///
/// # Errors
/// What cannot be read at all.
pub fn check(
    folder: &Path,
    local: Option<&Path>,
    parameters: BTreeMap<String, String>,
    template: &str,
) -> Result<Outcome, Mistake> {
    let path = folder.join(FILE);
    let name = path.display().to_string();
    let text = local_yaml::manifest_text(&path)?;
    let beside = folder.join(local_yaml::FILE);
    let local = local.or_else(|| beside.exists().then_some(beside.as_path()));
    let manifest = read(&name, &text, Manifest::flaws);
    let account = match (local, &manifest) {
        (None, _) => Ok(None),
        (Some(local), Ok(manifest)) => {
            local_yaml::read(folder, local, manifest, Path::new(STATE)).map(|(account, _)| Some(account))
        }
        // Without the manifest, what it says of itself can be told.
        (Some(local), Err(_)) => local_yaml::check_alone(local).map(|()| None),
    };
    let stack = stack(account.as_ref().ok().and_then(Option::as_ref), parameters, template)?;
    let mut said: Vec<String> = Vec::new();
    for Mistake(why) in [manifest.as_ref().err(), account.as_ref().err()].into_iter().flatten() {
        said.extend(why.lines().map(str::to_owned));
    }
    if let Ok(manifest) = &manifest {
        // What the stack is asked to run is not known where local.yaml, which answers for it, is in error.
        let stack_is_known = account.is_ok();
        let hint = match &account {
            Ok(None) => format!(
                ". There is no {} in {}, whose `parameters` would say which tasks the stack runs",
                local_yaml::FILE,
                folder.display()
            ),
            Ok(Some(_)) | Err(_) => String::new(),
        };
        let missing = missing_tasks(manifest, &stack).into_iter().filter(|_| stack_is_known);
        said.extend(missing.map(|why| format!("{name}: {why}{hint}")));
        for (environment, one) in &manifest.environments {
            said.extend(regions::mistake(&one.region).map(|why| format!("{name}: environments.{environment}: {why}")));
        }
        for (schedule, one) in &manifest.schedules {
            if !crate::clock::is_a_zone(&one.time_zone) {
                said.push(format!(
                    "{name}: schedules.{schedule}: there is no time zone `{}`: name one as `Europe/Berlin` or `UTC`",
                    one.time_zone
                ));
            }
        }
        if let Ok(Some(account)) = &account {
            let unfit =
                fits::unfit(manifest, account, &World::new(stack.clone(), account, 0, shared::Time::default())?);
            said.extend(unfit.into_iter().map(|why| format!("{name}: {why}")));
        }
    }
    match manifest {
        Ok(manifest) if said.is_empty() => {
            let account = account.as_ref().ok().and_then(Option::as_ref);
            let notes = account.map(|account| account.notes.as_slice()).unwrap_or_default().iter();
            let notes: String = notes.map(|note| format!("Note: {note}\n")).collect();
            let apart = if notes.is_empty() { "" } else { "\n" };
            Ok(Outcome::Good(plan::plan(&manifest, &stack, account) + apart + &notes))
        }
        Ok(_) | Err(_) => Ok(Outcome::Bad(said)),
    }
}

/// The stack: with these parameters, those of `local.yaml`, where there is one, and any for those that only an account can
/// tell.
fn stack(account: Option<&Account>, given: BTreeMap<String, String>, template: &str) -> Result<Stack, Mistake> {
    let needed = template::needed(template)?.into_iter();
    let mut parameters: BTreeMap<_, _> = needed.map(|name| (name, "example".to_owned())).collect();
    let (id, region) = match account {
        Some(account) => {
            parameters.extend(account.parameters.clone());
            (account.account.clone(), account.region.clone())
        }
        None => ("111122223333".into(), "us-east-1".into()),
    };
    parameters.extend(given);
    template::read(template, &parameters, &id, &region)
}
