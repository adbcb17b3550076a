//! The options: by name on the command line, or as `WORKER_...` in the environment.
//!
//! Invariant: what was read is consistent; every mistake names the option, as it was given.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::presets;
use crate::process::Forward;
use crate::signals::{self, Sequence};

/// What a life goes by.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// What ends the command well.
    pub(crate) stop: Sequence,
    /// Whether the first signal lets the current job end, however long it takes.
    pub(crate) gentle: bool,
    /// How long ECS waits from its signal to SIGKILL.
    pub(crate) stop_timeout: Duration,
    /// How long it must have run to count as up.
    pub(crate) stays_up: Duration,
    /// The age at which it ends by itself.
    pub(crate) live: Option<Duration>,
}

/// Every option, by its name without the dashes.
pub(crate) const NAMES: [&str; 11] = [
    "busy",
    "for",
    "forward",
    "health-port",
    "live",
    "queue",
    "socket",
    "stays-up",
    "stop",
    "stop-signal",
    "stop-timeout",
];

/// `stopTimeout` unless the task definition says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command must run to count as up. Most that cannot start fail sooner.
const STAYS_UP: Duration = Duration::from_secs(10);

/// What is run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) command: Vec<OsString>,
    pub(crate) rules: Rules,
    /// The signal that stands for a stop.
    pub(crate) stop_signal: Signal,
    pub(crate) forward: Forward,
    pub(crate) health_port: Option<String>,
    /// Whether the command's children are its jobs.
    pub(crate) children: bool,
    pub(crate) socket: Option<PathBuf>,
}

/// Values as they were given, and where.
#[derive(Debug, Default)]
pub(crate) struct Given(BTreeMap<&'static str, (String, String)>);

impl Given {
    /// What the environment has; an empty variable is none.
    pub(crate) fn in_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let mut given = Self::default();
        for name in NAMES {
            let variable_name = format!("WORKER_{}", name.to_ascii_uppercase().replace('-', "_"));
            let Some(value) = variable(&variable_name).filter(|value| !value.is_empty()) else { continue };
            let value = value.into_string().map_err(|value| format!("{variable_name}: {value:?} is no text"))?;
            given.0.insert(name, (value, variable_name));
        }
        Ok(given)
    }

    /// What the command line has: it comes before the environment.
    pub(crate) fn set(&mut self, name: &str, value: OsString) -> Result<(), String> {
        let known = NAMES.iter().find(|known| **known == name).ok_or_else(|| format!("there is no option --{name}"))?;
        let value = value.into_string().map_err(|value| format!("--{name}: {value:?} is no text"))?;
        self.0.insert(known, (value, format!("--{name}")));
        Ok(())
    }

    /// Reads an option.
    pub(crate) fn read<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let Some((value, from)) = self.0.get(name) else { return Ok(None) };
        read(value).map(Some).map_err(|why| format!("{from}: {why}"))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        self.0.get("socket").map(|(value, _)| value.into())
    }
}

impl Options {
    /// Reads what running a command needs.
    pub(crate) fn read(given: &Given, command: Vec<OsString>) -> Result<Self, String> {
        let preset = given.read("queue", presets::named)?;
        let stop_timeout = given.read("stop-timeout", positive)?;
        let timeout = stop_timeout.unwrap_or(STOP_TIMEOUT);
        let sequence = |text: &str| within(Sequence::read(text, timeout)?, timeout, stop_timeout.is_some());
        let own = given.read("stop", sequence)?;
        let gentle = own.is_none() && preset.is_some_and(|preset| preset.gentle);
        let stop = match own {
            Some(own) => own,
            None => sequence(preset.map_or("TERM", |preset| preset.stop))?,
        };
        let children = given.read("busy", |text| match text {
            "children" => Ok(true),
            "none" => Ok(false),
            _ => Err(format!("`{text}` is neither children nor none")),
        })?;
        let rules = Rules {
            stop,
            gentle,
            stop_timeout: timeout,
            stays_up: given.read("stays-up", signals::duration)?.unwrap_or(STAYS_UP),
            live: given.read("live", positive)?,
        };
        Ok(Self {
            command,
            rules,
            stop_signal: given.read("stop-signal", stop_signal)?.unwrap_or(Signal::SIGTERM),
            forward: given.read("forward", forward)?.unwrap_or(Forward::Child),
            health_port: given.read("health-port", |text| Ok(text.to_owned()))?,
            children: children.unwrap_or(preset.is_some_and(|preset| preset.children)),
            socket: given.socket(),
        })
    }
}

/// A signal that would come after ECS's SIGKILL never comes: better to say so than to lose jobs.
fn within(sequence: Sequence, timeout: Duration, is_given: bool) -> Result<Sequence, String> {
    let Some((at, signal)) = sequence.steps().iter().find(|(at, _)| *at >= timeout) else { return Ok(sequence) };
    let timeout = humantime::format_duration(timeout);
    let (at, signal) = (humantime::format_duration(*at), signals::short(*signal));
    let unless = if is_given { "" } else { ", which is 30s unless given as the task definition has it" };
    Err(format!("{signal} after {at} would come too late: ECS kills after --stop-timeout ({timeout}{unless})"))
}

pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    match signals::duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".into()),
        duration => Ok(duration),
    }
}

fn stop_signal(text: &str) -> Result<Signal, String> {
    match signals::signal(text)? {
        Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCHLD => Err(format!("no process can wait for {text}")),
        signal => Ok(signal),
    }
}

fn forward(text: &str) -> Result<Forward, String> {
    match text {
        "child" => Ok(Forward::Child),
        "group" => Ok(Forward::Group),
        _ => Err(format!("`{text}` is neither child nor group")),
    }
}
