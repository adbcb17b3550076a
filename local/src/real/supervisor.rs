//! What ends the processes of a run whose own process was killed before it could: a process of its own, that knows their
//! groups and waits for the end of a pipe.
//!
//! Invariant: a process group that was watched and is not over ends with this process, however that one ends. The pipe
//! closes with it on every Unix, so nothing here depends on Linux.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The pipe to the supervisor, once there is one; tests that end in order have none.
static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Starts the supervisor of this process: `program`, with the argument that makes it one.
///
/// # Errors
/// It cannot be started.
pub fn start(program: &Path, argument: &str) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    // A group of its own: a signal to the terminal's group must not end it before the others.
    command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let pipe = command.spawn()?.stdin.take();
    if let Some(pipe) = pipe {
        // There is one at most for each process.
        drop(PIPE.set(Mutex::new(pipe)));
    }
    Ok(())
}

/// A process group that ends with this: dropped before it was told that the group's first process is over, it kills all of
/// the group. So whoever is no longer waited for - out of time, aborted, shut down - leaves no child behind.
#[derive(Debug)]
#[must_use]
pub(super) struct Group(Option<Pid>, Option<(&'static str, String)>);

/// Takes charge of the group that this process has just begun.
pub(super) fn take_charge(process: Option<u32>) -> Group {
    take_charge_of(process, None)
}

/// The same, of a client in whose place a container is: it ends with the group.
pub(super) fn take_charge_of(process: Option<u32>, container: Option<(&'static str, String)>) -> Group {
    let group = process.and_then(|id| i32::try_from(id).ok()).filter(|group| *group > 1);
    if let Some(group) = group {
        tell('+', group, container.as_ref());
    }
    Group(group.map(Pid::from_raw), container)
}

/// Containers that are being removed.
static REMOVALS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Removes a container, by its client, in the background.
fn remove(client: &'static str, name: String) {
    let removal = std::thread::spawn(move || remove_now(client, &name));
    let mut removals = REMOVALS.lock().unwrap_or_else(PoisonError::into_inner);
    removals.retain(|one| !one.is_finished());
    removals.push(removal);
}

/// Whether every container that was to be removed is.
pub(super) fn all_are_removed() -> bool {
    REMOVALS.lock().unwrap_or_else(PoisonError::into_inner).iter().all(JoinHandle::is_finished)
}

/// Killed first: `podman rm --force` alone waits ten seconds for SIGTERM's sake. A container that is gone is no mistake, and without
/// its client nothing can be done about it.
fn remove_now(client: &str, name: &str) {
    for words in [&["kill", name][..], &["rm", "--force", name]] {
        let mut command = Command::new(client);
        drop(command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

impl Group {
    /// Its id, for signals.
    pub(super) fn id(&self) -> Option<Pid> {
        self.0
    }

    /// Its first process has ended by itself, and has been waited for. What it has left in the background may run on, as it
    /// does where a shell runs it.
    pub(super) fn end_in_peace(mut self) {
        self.forget();
    }

    fn forget(&mut self) -> Option<Pid> {
        let group = self.0.take()?;
        tell('-', group.as_raw(), None);
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.forget() {
            // One that is gone needs no signal.
            let _ = killpg(group, Signal::SIGKILL);
            if let Some((client, name)) = self.1.take() {
                remove(client, name);
            }
        }
    }
}

fn tell(what: char, group: i32, container: Option<&(&'static str, String)>) {
    if let Some(pipe) = PIPE.get() {
        // Without a supervisor, the run goes on: it ends its processes itself unless it is killed.
        let container = container.map(|(client, name)| format!(" {client} {name}")).unwrap_or_default();
        drop(writeln!(pipe.lock().unwrap_or_else(PoisonError::into_inner), "{what}{group}{container}"));
    }
}

/// Is the supervisor: takes note of groups until the pipe closes, then ends those that are left.
pub fn be() -> ExitCode {
    let mut groups = BTreeMap::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let mut words = line.get(1..).unwrap_or_default().split(' ').map(str::to_owned);
        let group = words.next().and_then(|group| group.parse::<i32>().ok()).filter(|group| *group > 1);
        match (line.chars().next(), group) {
            (Some('+'), Some(group)) => drop(groups.insert(group, words.next().zip(words.next()))),
            (Some('-'), Some(group)) => drop(groups.remove(&group)),
            _ => {}
        }
    }
    for (group, container) in groups {
        // One that is gone needs no signal.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        if let Some((client, name)) = container {
            remove_now(&client, &name);
        }
    }
    ExitCode::SUCCESS
}
