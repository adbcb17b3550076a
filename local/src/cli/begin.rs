//! What a release here begins with: the application, its account, and the machine that plays it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::Manifest;

use super::{FUNCTION, Files, SUPERVISOR, template_of, workspace};
use crate::Mistake;
use crate::account::Account;
use crate::check::{self, fits};
use crate::console::{Console, Lasts};
use crate::local_yaml;
use crate::real::{self, Binaries, Machine, Ports, Setting, set_up};
use crate::show::Show;
use crate::template::{self, Stack};
use crate::world::{KeptObject, World, take_up};

/// The application, the account and the stack, checked against each other.
pub(super) struct Prepared {
    pub(super) folder: PathBuf,
    pub(super) state: PathBuf,
    pub(super) account: Account,
    pub(super) manifest: Manifest,
    stack: Stack,
    /// Where the next run finds what this one leaves.
    pub(super) kept: PathBuf,
    /// Where the images of its releases are.
    images: PathBuf,
    /// What the runs before have left.
    objects: Vec<KeptObject>,
    /// Whether the account is new, and has to be set up.
    is_new: bool,
    /// Whether what was released here before is no way back any more, since the account is new.
    forgets: bool,
    /// Held for as long as the release lasts.
    _claim: std::fs::File,
}

/// What a run begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// The account that local.yaml describes.
    ANewAccount,
    /// The account as the last run left it.
    WhatWasLeft,
}

/// The folder where nobody names one: this one, if it is an application's.
pub(super) fn own_folder() -> PathBuf {
    let here = PathBuf::from(".");
    if here.join(shared::manifest::FILE).is_file() { here } else { workspace().join("examples/shop") }
}

/// The application's folder, and that of all runs' states.
pub(super) fn folders(folder: Option<PathBuf>, files: &Files) -> Result<(PathBuf, PathBuf), Mistake> {
    let folder = folder.unwrap_or_else(own_folder);
    let shown = folder.display().to_string();
    let folder =
        folder.canonicalize().map_err(|error| Mistake(format!("{shown}: {error}. Name the application's folder.")))?;
    let parent = std::env::current_dir().map(|here| here.join(&files.state)).unwrap_or_else(|_| files.state.clone());
    Ok((folder, parent))
}

pub(super) async fn prepare(folder: Option<PathBuf>, files: &Files, with: With) -> Result<Prepared, Mistake> {
    let (folder, parent) = folders(folder, files)?;
    // Read once before anything is made: a mistake leaves nothing behind.
    let application = local_yaml::read_application(&folder, files.local.as_deref(), &parent)?;
    // All variants of an account are one: their setups go over the same databases.
    let kept = real::kept::folder(&parent, &folder);
    let claim = claim(&application.root)?;
    let left = real::kept::read(&kept)?;
    if let Some(left) = left.as_ref().filter(|left| with == With::WhatWasLeft && !left.state.is_dir()) {
        let gone = left.state.display();
        return Err(Mistake(format!(
            "{gone}: it is gone, and had the databases of what was released here: `release` it anew"
        )));
    }
    let had = left.is_some();
    let (state, regions, objects) = match (with, left) {
        // What was released in the account that is thrown away runs nowhere, and is no way back.
        (With::ANewAccount, _) => (real::state_folder(&parent)?, None, Vec::new()),
        (With::WhatWasLeft, Some(left)) => (left.state, Some(left.regions), left.objects),
        (With::WhatWasLeft, None) => {
            return Err(Mistake(format!("{}: nothing was released here yet: `release` it first", folder.display())));
        }
    };
    let is_new = regions.is_none();
    let forgets = is_new && had;
    let prepared = prepare_in(&folder, &state, files);
    if prepared.is_err() && is_new {
        drop(std::fs::remove_dir_all(&state));
    }
    let (manifest, mut account, stack) = prepared?;
    if let Some(regions) = &regions {
        take_up(&mut account, regions);
    }
    Ok(Prepared {
        folder,
        state,
        account,
        manifest,
        stack,
        images: real::kept::images(&kept),
        kept,
        objects,
        is_new,
        forgets,
        _claim: claim,
    })
}

/// Claims the account of this `local.yaml` for this run: another one's setup would go over this one's databases. By its folder, since an editor
/// may put another file in the place of that one meanwhile.
fn claim(local: &Path) -> Result<std::fs::File, Mistake> {
    let failed = |why: String| Mistake(format!("{}: {why}", local.display()));
    let folder = local.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let file = std::fs::File::open(folder).map_err(|error| failed(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(failed(
            "another release or `serve` of it is under way on this machine: let it end, or stop it with Ctrl-C".into(),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error.to_string())),
    }
}

fn prepare_in(folder: &Path, state: &Path, files: &Files) -> Result<(Manifest, Account, Stack), Mistake> {
    let local_yaml::Application { manifest, account, .. } =
        local_yaml::read_application(folder, files.local.as_deref(), state)?;
    let stack =
        template::read(&template_of(files.template.as_ref())?, &account.parameters, &account.account, &account.region)?;
    let world = World::new(stack.clone(), &account, 0, shared::Time::default())?;
    let mut wrong = fits::unfit(&manifest, &account, &world);
    wrong.extend(check::missing_tasks(&manifest, &stack));
    let wrong: Vec<_> = wrong.iter().map(|why| format!("{}: {why}", shared::manifest::FILE)).collect();
    if wrong.is_empty() { Ok((manifest, account, stack)) } else { Err(Mistake(wrong.join("\n"))) }
}

pub(super) async fn machine(prepared: &Prepared, port: u16, show: &Show) -> Result<Machine, Mistake> {
    real::engine_is_there(&prepared.account)?;
    for note in &prepared.account.notes {
        show.line(&format!("Note: {note}"));
    }
    let program = std::env::current_exe().map_err(|error| Mistake(error.to_string()))?;
    real::supervisor::start(&program, SUPERVISOR).map_err(|error| Mistake(format!("{SUPERVISOR}: {error}")))?;
    // Before the setup: whoever comes second must not go over the first one's databases.
    let ports = Ports::claim(port, &prepared.account).await?;
    if prepared.forgets {
        show.line("The account is a new one: what was released here before is no way back any more. `release --again` goes on with the last one.");
    }
    if prepared.is_new {
        show.line(&format!("Setting up the account that the release comes to ({})", prepared.state.display()));
        set_up(&prepared.folder, &prepared.account).await?;
    } else {
        show.line(&format!("The account is as the last run left it ({})", prepared.state.display()));
    }
    let setting = Setting {
        folder: &prepared.folder,
        state: &prepared.state,
        images: &prepared.images,
        stack: prepared.stack.clone(),
        account: &prepared.account,
        binaries: Binaries::Within { program, argument: FUNCTION.into() },
        ports,
        objects: prepared.objects.clone(),
    };
    let machine = Machine::start(setting)?;
    machine.world().was_released(&prepared.manifest);
    wait_until_settled(&machine).await?;
    Ok(machine)
}

/// Serves the page that shows this machine's world; a machine that nobody can look at is shut down again.
pub(super) async fn console(
    prepared: &Prepared,
    machine: &Machine,
    pipeline: &str,
    port: u16,
    lasts: Lasts,
) -> Result<Console, Mistake> {
    let manifest = prepared.folder.join(shared::manifest::FILE);
    let console = Console::start(machine, manifest, pipeline, port, lasts).await;
    if console.is_err() {
        machine.shut_down().await;
    }
    console
}

/// The old version must run before a new one comes.
async fn wait_until_settled(machine: &Machine) -> Result<(), Mistake> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let begun = tokio::time::Instant::now();
    let why = loop {
        {
            let world = machine.world();
            if world.is_settled() {
                return Ok(());
            }
            // One that has ended will not come up; only what still runs is waited for.
            if let Some(ended) = world.ended_service_task() {
                break ended;
            }
            if begun.elapsed() > PATIENCE {
                break world.unhealthy_services(PATIENCE);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    machine.shut_down().await;
    Err(Mistake(why))
}
