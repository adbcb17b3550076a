//! The command line.
//!
//! Options stand before `--`, what is run stands behind it: a word that is neither is a mistake, not a program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::options::{Given, Options, positive};
use crate::presets;

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    Version,
    /// Be the init of a worker.
    Run(Box<Options>),
    Health(Option<PathBuf>),
    Busy(Option<PathBuf>, Option<Duration>),
    Idle(Option<PathBuf>),
    Job(Option<PathBuf>, Option<Duration>, Vec<OsString>),
}

/// The text of `--help`.
pub(crate) fn help() -> String {
    let mut text = include_str!("help.txt").to_owned();
    for preset in presets::PRESETS {
        text.push_str(&format!("  {:<12} {:<16} {}\n", preset.name, preset.stop, preset.source));
    }
    text
}

/// Reads arguments and environment.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Asked, String> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let dashes = arguments.iter().position(|argument| argument == "--");
    let (own, command) = match dashes {
        Some(at) => (arguments.get(..at), arguments.get(at + 1..)),
        None => (Some(arguments.as_slice()), None),
    };
    let mut given = Given::in_environment(variable)?;
    let mut verb = None::<String>;
    let mut parser = lexopt::Parser::from_args(own.unwrap_or_default().iter().cloned());
    while let Some(argument) = parser.next().map_err(mistake)? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(mistake);
                given.set(&name, value.or_else(|why| known(&name).and(Err(why)))?)?;
            }
            Value(word) if verb.is_none() => verb = Some(word.to_string_lossy().into_owned()),
            Value(word) => return Err(unexpected(&word.to_string_lossy())),
            Short(_) => return Err(mistake(argument.unexpected())),
        }
    }
    let lasting = || given.read("for", positive);
    let command = command.map(<[OsString]>::to_vec);
    match (verb.as_deref(), command) {
        (None, Some(command)) if !command.is_empty() => Ok(Asked::Run(Box::new(Options::read(&given, command)?))),
        (None, _) => {
            Err("nothing to run: put `--` and the command at the end, as in `worker -- bundle exec sidekiq`".into())
        }
        (Some("job"), Some(command)) if !command.is_empty() => Ok(Asked::Job(given.socket(), lasting()?, command)),
        (Some("job"), _) => {
            Err("job: put `--` and the job's command at the end, as in `worker job -- bin/import`".into())
        }
        (Some("health"), None) => Ok(Asked::Health(given.socket())),
        (Some("busy"), None) => Ok(Asked::Busy(given.socket(), lasting()?)),
        (Some("idle"), None) => Ok(Asked::Idle(given.socket())),
        (Some(verb @ ("health" | "busy" | "idle")), Some(_)) => Err(format!("{verb} runs no command")),
        (Some(word), _) => Err(unexpected(word)),
    }
}

fn known(name: &str) -> Result<(), String> {
    Given::default().set(name, OsString::new())
}

fn mistake(error: lexopt::Error) -> String {
    error.to_string()
}

fn unexpected(word: &str) -> String {
    format!("`{word}` is not health, busy, idle or job: if it is the command to run, put `--` before it")
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
