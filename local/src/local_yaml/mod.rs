//! `local.yaml`: how this machine stands in for the account that an application is released to.
//!
//! Invariant: it says nothing that `deploy.yaml` says; the two together make the account. One that differs from what
//! `deploy.yaml` says, such as a test's, can be said in full (`regions`).

mod compose;
mod definitions;
mod dockerfile;
mod expand;
mod flaws;
mod kept;
pub(crate) mod migrating;
mod outside;
mod shape;
pub(crate) mod taskdef;
mod variables;

use std::path::{Path, PathBuf};

use shared::{Manifest, yaml};

use crate::Mistake;
use crate::account::Account;
use crate::mistakes;
use shape::{Local, Over as _};

pub(crate) use compose::{Compose, Said, Service as ComposeService, on_this_machine, told_in, told_its_port};
pub(crate) use definitions::{is_here, plain};
pub(crate) use dockerfile::{Built, Starts};
pub(crate) use kept::Database;

/// The name of the file, beside the application's `deploy.yaml`.
pub const FILE: &str = "local.yaml";

/// How many files may extend each other in a row.
const LONGEST_CHAIN: usize = 8;

/// What stands for the state folder of a release.
const STATE: &str = "{state}";

/// An application, and the account that it is released to.
#[derive(Debug)]
pub struct Application {
    /// The manifest.
    pub manifest: Manifest,
    /// The account.
    pub account: Account,
    /// The file that says what the account is, whichever variant was read.
    pub root: PathBuf,
}

/// A manifest's text.
///
/// # Errors
/// That it cannot be read, and what it is.
pub(crate) fn manifest_text(path: &Path) -> Result<String, Mistake> {
    yaml::text_of(path).map_err(|error| {
        Mistake(format!(
            "{}: {error}. It says what a release of the application is: `cargo run -- init DIR` writes one, and docs/manifest.md says what \
             it can say",
            path.display()
        ))
    })
}

/// Reads the application in a folder: its manifest, and `local`, or `local.yaml` beside it.
///
/// # Errors
/// What cannot be read, and the first mistake of the manifest or every mistake of the other.
pub fn read_application(folder: &Path, local: Option<&Path>, state: &Path) -> Result<Application, Mistake> {
    let manifest_path = folder.join(shared::manifest::FILE);
    let name = manifest_path.display().to_string();
    let text = manifest_text(&manifest_path)?;
    let manifest = Manifest::read(&name, &text)?;
    let local: PathBuf = local.map_or_else(|| folder.join(FILE), Path::to_path_buf);
    let (account, root) = read(folder, &local, &manifest, state)?;
    Ok(Application { manifest, account, root })
}

/// The account that a file and the manifest describe, and the last of the files that extend each other.
///
/// # Errors
/// Every mistake in the files, a line each.
pub fn read(folder: &Path, path: &Path, manifest: &Manifest, state: &Path) -> Result<(Account, PathBuf), Mistake> {
    let mut files = Vec::new();
    match read_after(path, state, Some(manifest), &mut files)? {
        Read::Full(account) => Ok((*account, path.to_owned())),
        Read::Local(local) => {
            let root = files.pop().unwrap_or_else(|| path.to_owned());
            let account = expand::expand(*local, manifest, folder).map_err(|wrong| said(path, &wrong))?;
            Ok((account, root))
        }
    }
}

/// The same of a text that extends no other file.
///
/// # Errors
/// Every mistake in it, a line each.
pub fn parse(name: &str, text: &str, folder: &Path, manifest: &Manifest) -> Result<Account, Mistake> {
    let local: Local = mistakes::read(name, text, |local| flaws::flaws(local, Some(manifest)))?;
    expand::expand(local, manifest, folder).map_err(|wrong| said(Path::new(name), &wrong))
}

/// Every mistake in a file and those that it extends, as far as that can be told without the manifest.
///
/// # Errors
/// Every mistake, a line each.
pub(crate) fn check_alone(path: &Path) -> Result<(), Mistake> {
    read_after(path, Path::new("."), None, &mut Vec::new()).map(drop)
}

/// The JSON Schema of `local.yaml`.
pub(crate) fn schema() -> serde_json::Value {
    <Local as mistakes::Described>::shape()
}

enum Read {
    Full(Box<Account>),
    Local(Box<Local>),
}

/// Reads a file that others extend, each of which was read before.
fn read_after(
    path: &Path,
    state: &Path,
    manifest: Option<&Manifest>,
    before: &mut Vec<PathBuf>,
) -> Result<Read, Mistake> {
    let name = path.display().to_string();
    let own = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if before.contains(&own) {
        return Err(Mistake(format!("{name}: extends: it extends itself: name the file that says all")));
    }
    before.push(own);
    if before.len() > LONGEST_CHAIN {
        let why = format!("more than {LONGEST_CHAIN} files extend each other in a row: use fewer");
        return Err(Mistake(format!("{name}: extends: {why}")));
    }
    let text = yaml::text_of(path).map_err(|error| {
        Mistake(format!(
            "{name}: {error}. It says how this machine stands in for the account: `cargo run -- init DIR` writes one"
        ))
    })?;
    let misspelt = misspelt_placeholders(&text);
    if !misspelt.is_empty() {
        let lines = misspelt.into_iter().map(|(line, column, why)| format!("{name}:{line}:{column}: {why}"));
        return Err(Mistake(lines.collect::<Vec<_>>().join("\n")));
    }
    let text = text.replace(STATE, &state.display().to_string());
    if text.lines().any(|line| line.starts_with("regions:")) {
        return Account::parse(&name, &text).map(|account| Read::Full(Box::new(account)));
    }
    let local: Local = mistakes::read(&name, &text, |local| flaws::flaws(local, manifest))?;
    let Some(extended) = &local.extends else { return Ok(Read::Local(Box::new(local))) };
    match read_after(&path.with_file_name(extended), state, manifest, before)? {
        Read::Local(base) => Ok(Read::Local(Box::new(local.over(*base)))),
        Read::Full(_) => Err(Mistake(format!(
            "{name}: extends: {extended} says an account in full (`regions`), which nothing extends: say what differs in a copy"
        ))),
    }
}

/// Words in braces that are almost `{environment}`, with their places: nothing would be put in their place. What is like the shorter ones may be
/// a program's own, as in `awk '{print}'`.
fn misspelt_placeholders(text: &str) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        for (begin, _) in line.match_indices('{') {
            let Some(word) = line[begin + 1..].split_once('}').map(|(word, _)| word) else { continue };
            let is_word = word.len() >= 8 && word.chars().all(|char| char.is_ascii_lowercase());
            if is_word && word != "environment" && shared::text::nearest(word, ["environment"]).is_some() {
                let why = format!("nothing is put in the place of `{{{word}}}`: did you mean `{{environment}}`?");
                found.push((at + 1, line[..begin].chars().count() + 1, why));
            }
        }
    }
    found
}

/// All that is wrong in a file, a line each; what is another file's begins with that file's name.
fn said(path: &Path, wrong: &[Said]) -> Mistake {
    let lines = wrong.iter().map(|one| match one {
        Said::Here(why) => format!("{}: {why}", path.display()),
        Said::There(why) => why.clone(),
    });
    Mistake(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
