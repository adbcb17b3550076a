//! The application's folder: its source as an artifact, and its build.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use shared::record::COMMITS;

use super::images::Images;
use super::source::source;
use crate::account::{Account, Build, Setup};
use crate::world::Made;

/// The application.
pub(super) struct Application {
    folder: PathBuf,
    build: Build,
    hooks: BTreeMap<String, Setup>,
    images: Images,
}

/// How many characters of a commit stand for it, as in git.
const SHORT: usize = 7;

/// How many of a command's last lines say why it failed.
const LAST_LINES: usize = 20;

impl Application {
    pub(super) fn new(folder: &Path, account: &Account, images: Images) -> Self {
        Self { folder: folder.to_owned(), build: account.build.clone(), hooks: account.hooks.clone(), images }
    }

    /// Calls a function of the application's own at a stage of a deployment: a command, told the stage by $STAGE.
    ///
    /// # Errors
    /// Why the deployment may not go on.
    pub(super) async fn call_hook(&self, function: &str, stage: &str) -> Result<(), String> {
        let Some(hook) = self.hooks.get(function) else {
            let why = shared::text::unknown("hook", function, self.hooks.keys().map(String::as_str));
            return Err(format!("{why} Add its command to `hooks` in local.yaml."));
        };
        let mut environment = hook.environment.clone();
        environment.insert("STAGE".into(), stage.to_owned());
        run(&self.folder, &hook.command, &environment).await
    }

    /// The source artifact: what git would have in the folder.
    pub(super) fn fetch(&self) -> Result<Made, String> {
        let mut files = Vec::new();
        for path in source(&self.folder) {
            let path = path.map_err(|error| error.to_string())?;
            let name = path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string();
            // CodePipeline's own source artifacts have no links, either; nothing here reads what they lead to.
            if path.symlink_metadata().map_err(|error| format!("{name}: {error}"))?.is_symlink() {
                continue;
            }
            let content = std::fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
            files.push((name, content));
        }
        let artifact = zip(&files)?;
        let commit = match self.commit() {
            Some(commit) if !self.is_changed() => commit,
            // What is released is not what the commit has: its name would be that of another image.
            Some(commit) => Commit {
                message: format!("{}, with changes that are in no commit", commit.message),
                ..Commit::of_content(&artifact)
            },
            None => Commit::of_content(&artifact),
        };
        let variables = [
            ("CommitId", commit.id.clone()),
            ("CommitMessage", commit.message.clone()),
            ("AuthorDate", commit.date),
            ("BranchName", "main".into()),
            (
                "FullRepositoryName",
                self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            ),
        ];
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty());
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Made { artifact, revision: commit.id, summary: commit.message, variables })
    }

    /// The commit that changed the folder last, when it is in a git repository.
    fn commit(&self) -> Option<Commit> {
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(&self.folder).args(["log", "-1", "--no-show-signature", "--format=%H%n%aI%n%s", "--", "."]);
        let output = git.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines().map(str::to_owned);
        Some(Commit { id: lines.next()?, date: lines.next()?, message: lines.next()? })
    }

    /// The log of the folder, as a build leaves it; empty when it is in no repository.
    fn log(&self) -> Vec<u8> {
        let mut git = std::process::Command::new("git");
        let format = "--format=%H%x09%an%x09%aI%x09%s";
        git.arg("-C").arg(&self.folder).args(["log", "-n", "100", "--no-show-signature", format, "--", "."]);
        let output = git.stderr(Stdio::null()).output().ok().filter(|output| output.status.success());
        output.map(|output| output.stdout).unwrap_or_default()
    }

    /// Whether the folder has changes that are in no commit.
    fn is_changed(&self) -> bool {
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(&self.folder).args(["status", "--porcelain", "--", ".", ":(exclude).cutover"]);
        let output = git.stderr(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
    }

    /// Builds; the artifact has the manifest and the image's name.
    pub(super) async fn build(&self, commit: &str) -> Result<Made, String> {
        let tag = commit.get(..SHORT).unwrap_or(commit);
        let image = format!("{}:{tag}", self.build.image);
        let command: Vec<_> = self.build.command.iter().map(|word| word.replace("{image}", &image)).collect();
        run(&self.folder, &command, &BTreeMap::new()).await?;
        // A copy of much takes its time, and whoever stops the release meanwhile does not wait for it.
        let (images, name) = (self.images.clone(), image.clone());
        let image =
            tokio::task::spawn_blocking(move || images.make(&name)).await.map_err(|error| error.to_string())??;
        let manifest = std::fs::read(self.folder.join(shared::manifest::FILE)).map_err(|error| error.to_string())?;
        let detail = json!({"ImageURI": image}).to_string().into_bytes();
        let files = [
            (shared::manifest::FILE.to_owned(), manifest),
            ("imageDetail.json".to_owned(), detail),
            (COMMITS.to_owned(), self.log()),
        ];
        Ok(Made {
            artifact: zip(&files)?,
            revision: commit.to_owned(),
            summary: format!("Built {image}"),
            variables: BTreeMap::from([("Image".to_owned(), image)]),
        })
    }
}

struct Commit {
    id: String,
    date: String,
    message: String,
}

impl Commit {
    /// A name for sources that are in no repository: it follows from them alone.
    fn of_content(content: &[u8]) -> Self {
        // FNV-1a.
        let hash = content
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self { id: format!("{hash:016x}"), date: String::new(), message: "Not in a repository".into() }
    }
}

fn zip(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let written = writer.start_file(name, SimpleFileOptions::default()).map_err(|error| error.to_string());
        written.and_then(|()| writer.write_all(content).map_err(|error| error.to_string()))?;
    }
    writer.finish().map(Cursor::into_inner).map_err(|error| error.to_string())
}

/// Where a program is: a path with a `/` is below the folder, a name is looked for where programs are.
pub(super) fn program(folder: &Path, program: &str) -> PathBuf {
    if program.contains('/') { folder.join(program) } else { program.into() }
}

/// Runs a command in a folder to its end; dropped before that, it ends with its children.
///
/// # Errors
/// When it cannot be started, or fails: with its last lines.
pub(super) async fn run(
    folder: &Path,
    command: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<(), String> {
    let Some((name, arguments)) = command.split_first() else { return Err("no command is named".into()) };
    let mut command = Command::new(program(folder, name));
    command
        .args(arguments)
        .current_dir(folder)
        .envs(environment)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    let group = super::supervisor::take_charge(child.id());
    let (status, text) = ended(child).await.map_err(|error| format!("`{name}`: {error}"))?;
    group.end_in_peace();
    if status.success() {
        return Ok(());
    }
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
    Err(format!("`{name}` ended with {status}\n  {last}"))
}

/// How long a command's output is read after its end: what it has left in the background may hold it open for ever.
const OUTPUT: Duration = Duration::from_secs(1);

/// How a command ended, and what it had said by then.
async fn ended(mut child: Child) -> std::io::Result<(ExitStatus, String)> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        child.stdout.take().map(|out| tokio::spawn(keep(out, Arc::clone(&said)))),
        child.stderr.take().map(|err| tokio::spawn(keep(err, Arc::clone(&said)))),
    ];
    let status = child.wait().await?;
    for mut reader in readers.into_iter().flatten() {
        if tokio::time::timeout(OUTPUT, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// How much of a command's output is kept, in bytes: its last lines say why it failed.
const KEPT: usize = 1024 * 1024;

async fn keep(mut from: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<u8>>>) {
    let mut some = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut some).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&some[..read]);
        if said.len() > 2 * KEPT {
            let old = said.len() - KEPT;
            drop(said.drain(..old));
        }
    }
}
