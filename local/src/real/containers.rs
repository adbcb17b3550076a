//! Containers as processes in what their image has, the application's folder unless it says.
//!
//! Invariant: a container's lines are all told before its end is; nothing of its process group outlives it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::images::Images;
use super::{Machine, engine, health, supervisor};
use crate::account::Engine;
use crate::world::{Happening, Start};

/// How long a container's output may stay open after its end: a grandchild may hold it.
const OUTPUT: Duration = Duration::from_secs(1);
/// How long everything has for ending by itself when the machine is shut down.
const GRACE: Duration = Duration::from_secs(5);

/// The longest event that CloudWatch takes (256 KiB, of which 26 bytes are its own): the log driver cuts there.
const LONGEST_LINE: usize = 256 * 1024 - 26;

/// The containers that run.
pub(super) struct Containers {
    images: Images,
    engine: Engine,
    groups: Mutex<BTreeMap<(String, String), Pid>>,
    ports: Mutex<BTreeMap<(String, String), u16>>,
    /// Whether the machine is shut down: what ends now is not replaced.
    ending: AtomicBool,
}

impl Containers {
    pub(super) fn new(images: Images, engine: Engine) -> Self {
        Self { images, engine, groups: Mutex::default(), ports: Mutex::default(), ending: AtomicBool::new(false) }
    }

    /// The port of this machine that a container of a task was given; that of any of them where none is named.
    pub(super) fn port(&self, task: &str, container: Option<&str>) -> Option<u16> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(of, name): &(String, String)| of == task && container.is_none_or(|container| name == container);
        ports.iter().find(|(key, _)| is_it(key)).map(|(_, port)| *port)
    }

    /// Where it runs: in what its image has, or in a folder of that. A path within a container's own image leads nowhere here.
    fn folder(&self, start: &Start) -> PathBuf {
        let image = self.images.of(&start.image);
        let own = Path::new(&start.folder);
        let is_below = own.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if is_below && image.join(own).is_dir() { image.join(own) } else { image }
    }

    pub(super) fn signal(&self, task: &str, container: &str, kill: bool) {
        let key = (task.to_owned(), container.to_owned());
        if let Some(group) = self.groups.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            // ECS tells a container's first process alone; a kill ends them all. What is gone needs no signal. Where it is a client, the
            // container is removed once that is over.
            let _ =
                if kill { killpg(*group, Signal::SIGKILL) } else { nix::sys::signal::kill(*group, Signal::SIGTERM) };
        }
    }

    /// Whether the machine is shut down: nobody asks any more how those are that end.
    pub(super) fn are_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Starts a container, and tells the machine what becomes of it.
    pub(super) fn start(&self, machine: Machine, start: Start) {
        if self.are_ending() {
            return;
        }
        let (folder, engine) = (self.folder(&start), self.engine);
        tokio::spawn(async move {
            let port = start.port.and_then(|_| free_port());
            let (task, container) = (start.task.clone(), start.container.clone());
            match spawn(&folder, engine, &start, port) {
                Err(reason) => machine.happened(Happening::CannotStart { task, container, reason }),
                // Dropped, it is killed: its group is not known yet to whoever ends all of them.
                Ok(_) if machine.0.containers.are_ending() => {}
                Ok((child, group)) => run(machine, start, child, group, port).await,
            }
        });
    }

    /// Ends what is left: SIGTERM, then SIGKILL.
    pub(super) async fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        let groups =
            || self.groups.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect::<Vec<_>>();
        for group in groups() {
            let _ = nix::sys::signal::kill(group, Signal::SIGTERM);
        }
        let all_gone = async || {
            while !(groups().is_empty() && supervisor::all_are_removed()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(GRACE, all_gone()).await.is_ok() {
            return;
        }
        for group in groups() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        // Killed is not gone: the caller may count on it.
        let _ = tokio::time::timeout(GRACE, all_gone()).await;
    }
}

/// A port that nobody listens on, of those below the kernel's own: one of the kernel's could become the end of somebody's
/// connection before the container listens. Each process of this program begins elsewhere, and has a hundred before it meets
/// the next one.
fn free_port() -> Option<u16> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let next = |_| begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST;
    let mut ports = (0..COUNT).map(next).filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

fn spawn(
    folder: &Path,
    engine: Engine,
    start: &Start,
    port: Option<u16>,
) -> Result<(Child, supervisor::Group), String> {
    let mut variables = environment(start, engine::own_port(engine, start, port));
    if engine.client().is_some() {
        // What of this machine's a process is told is no container's.
        variables.retain(|name, _| !matches!(name.as_str(), "PATH" | "HOME") || start.environment.contains_key(name));
    }
    let words = engine::words(engine, start, port, &variables);
    let Some((program, arguments)) = words.split_first() else {
        return Err("the task definition names no command".into());
    };
    let mut command = Command::new(super::application::program(folder, program));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables)
        .envs(engine.client().map(|_| inherited()).into_iter().flatten())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C on the terminal is for the pipeline, not for its tasks.
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn().map_err(|error| format!("exec: `{program}`: {error}"))?;
    let container = engine.client().map(|client| (client, engine::name(start)));
    let group = supervisor::take_charge_of(child.id(), container);
    Ok((child, group))
}

/// What a container sees: the machine's own programs can be found, nothing else of its environment is seen. `{port}` in it
/// becomes the port that its task was given, for programs that are told it otherwise than by `PORT`.
fn environment(start: &Start, port: Option<u16>) -> BTreeMap<String, String> {
    let text = port.map(|port| port.to_string()).unwrap_or_default();
    let own = start.environment.iter().map(|(name, value)| (name.clone(), value.replace("{port}", &text)));
    let port = port.map(|port| ("PORT".to_owned(), port.to_string()));
    inherited().chain(own).chain(port).collect()
}

/// What a process of this machine needs to find programs.
fn inherited() -> impl Iterator<Item = (String, String)> {
    ["PATH", "HOME"].into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
}

async fn run(machine: Machine, start: Start, mut child: Child, group: supervisor::Group, port: Option<u16>) {
    let (task, container) = (start.task.clone(), start.container.clone());
    let containers = &machine.0.containers;
    let key = (task.clone(), container.clone());
    if let Some(group) = group.id() {
        containers.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), group);
    }
    if let Some(port) = port {
        containers.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), port);
    }
    machine.happened(Happening::Started { task: task.clone(), container: container.clone(), port });
    let output = [
        child.stdout.take().map(|out| tokio::spawn(lines(machine.clone(), key.clone(), out))),
        child.stderr.take().map(|err| tokio::spawn(lines(machine.clone(), key.clone(), err))),
    ];
    let target = start.target.clone().zip(port);
    let checks = [
        target.map(|(check, port)| tokio::spawn(health::ask_target(machine.clone(), task.clone(), port, check))),
        start.check.clone().map(|mut check| {
            check.command = engine::check(containers.engine, &start, port, &check.command);
            let (folder, environment) = (containers.folder(&start), environment(&start, port));
            tokio::spawn(health::ask_container(machine.clone(), key.clone(), check, folder, environment))
        }),
    ];
    let status = child.wait().await;
    for reader in output.into_iter().flatten() {
        drop(tokio::time::timeout(OUTPUT, reader).await);
    }
    for check in checks.into_iter().flatten() {
        check.abort();
    }
    // What it has left in the background ends with it.
    drop(group);
    containers.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    let code = status.map_or(1, |status| {
        use std::os::unix::process::ExitStatusExt as _;
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
    });
    machine.happened(Happening::Exited { task, container, code });
}

async fn lines(machine: Machine, (task, container): (String, String), from: impl AsyncRead + Unpin) {
    let line = |text| Happening::Line { task: task.clone(), container: container.clone(), text };
    read_lines(from, |text| machine.happened(line(text))).await;
}

/// Reads lines to the end. One that is longer than CloudWatch's events are cut into several, as the log driver does: a program
/// that never ends its line takes no more memory than that.
async fn read_lines(from: impl AsyncRead + Unpin, mut tell: impl FnMut(String)) {
    let mut reader = BufReader::new(from);
    let (mut line, mut goes_on) = (Vec::new(), false);
    loop {
        let room = (LONGEST_LINE - line.len()) as u64;
        let read = (&mut reader).take(room).read_until(b'\n', &mut line).await;
        let is_over = !read.is_ok_and(|read| read > 0);
        if line.last() == Some(&b'\n') || is_over {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            // Where one was cut that ended there, nothing is left of it.
            if !(text.is_empty() && (goes_on || is_over)) {
                tell(text.to_owned());
            }
            line.clear();
            goes_on = false;
            if is_over {
                return;
            }
        } else if line.len() == LONGEST_LINE {
            // Not in the middle of a character.
            let end = match std::str::from_utf8(&line) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Ok(_) | Err(_) => line.len(),
            };
            tell(String::from_utf8_lossy(&line[..end]).into_owned());
            line.drain(..end);
            goes_on = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        read_lines(bytes, |text| told.push(text)).await;
        told
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut_where_cloudwatch_cuts_it() {
        assert_eq!(read(b"one\r\n\ntwo\nthree").await, ["one", "", "two", "three"]);
        let long = "x".repeat(2 * LONGEST_LINE + 5);
        let lengths: Vec<_> = read(long.as_bytes()).await.iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, LONGEST_LINE, 5]);
        let exact = format!("{}\nnext\n", "x".repeat(LONGEST_LINE));
        let lengths: Vec<_> = read(exact.as_bytes()).await.iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, 4]);
        // No character is cut in two.
        let wide = format!("x{}", "\u{20ac}".repeat(LONGEST_LINE / 2));
        let told = read(wide.as_bytes()).await;
        assert_eq!(told.concat(), wide);
        assert!(told.iter().all(|one| one.len() <= LONGEST_LINE));
    }
}
