//! `worker health`, `busy`, `idle` and `job`: what is said through the socket.
//!
//! Invariant: nothing here keeps a job from running except a stop that is under way.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::control::PLACES;
use crate::run::{FAILED, NOT_EXECUTABLE, NOT_FOUND};

/// A stop is under way: take no job (EX_TEMPFAIL).
const STOPPING: u8 = 75;
/// How long an answer may take: the worker waits for its agent for a while.
const PATIENCE: Duration = Duration::from_secs(8);

/// What was said, for people, and the status to end with.
pub(crate) struct Said {
    pub(crate) status: u8,
    pub(crate) text: String,
    /// Whether it is what was asked for, or a complaint.
    pub(crate) is_answer: bool,
}

fn said(status: u8, text: impl Into<String>) -> Said {
    Said { status, text: text.into(), is_answer: false }
}

/// How the worker is.
pub(crate) fn health(socket: Option<PathBuf>) -> Said {
    match ask(socket, "health") {
        Ok((_, word)) => Said { status: u8::from(word != "up"), text: word, is_answer: true },
        Err(why) => said(1, why),
    }
}

/// A job runs.
pub(crate) fn busy(socket: Option<PathBuf>, lasting: Option<Duration>) -> Said {
    match ask(socket, &with_time("busy", lasting)) {
        Ok((_, answer)) if answer == "stopping" => said(STOPPING, "a stop is under way: take no job"),
        Ok((_, answer)) if answer == "protected" => said(0, ""),
        Ok((_, answer)) => said(0, answer),
        Err(why) => said(1, why),
    }
}

/// It is done.
pub(crate) fn idle(socket: Option<PathBuf>) -> Said {
    match ask(socket, "idle") {
        Ok((_, answer)) if answer == "stopping" => said(STOPPING, ""),
        Ok(_) => said(0, ""),
        Err(why) => said(1, why),
    }
}

/// Becomes the job: returns only when it does not run. The connection stays open in it, and in whatever it starts: the job is over
/// when that is.
pub(crate) fn job(
    socket: Option<PathBuf>,
    lasting: Option<Duration>,
    command: &[OsString],
    say: impl Fn(&str),
) -> Said {
    let asked = ask(socket, &with_time("job", lasting));
    let connection = match &asked {
        Ok((_, answer)) if answer == "stopping" => return said(STOPPING, "a stop is under way: the job is not run"),
        Ok((connection, answer)) => {
            if answer != "protected" {
                say(answer);
            }
            fcntl(connection.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).map(|_| ()).map_err(|errno| errno.to_string())
        }
        Err(why) => Err(why.clone()),
    };
    if let Err(why) = connection {
        say(&format!("warning: the job runs, and nobody knows: {why}"));
    }
    let Some((program, arguments)) = command.split_first() else { return said(FAILED, "no command") };
    let error = Command::new(program).args(arguments).exec();
    let status = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    said(status, format!("{} cannot be started: {error}", program.to_string_lossy()))
}

fn with_time(word: &str, lasting: Option<Duration>) -> String {
    lasting.map_or_else(|| word.to_owned(), |lasting| format!("{word} {}s", lasting.as_secs().max(1)))
}

/// Asks, and returns the connection with the answer.
fn ask(socket: Option<PathBuf>, request: &str) -> Result<(UnixStream, String), String> {
    let places = socket.map_or_else(|| PLACES.iter().map(PathBuf::from).collect(), |path| vec![path]);
    let mut why = String::new();
    for path in &places {
        let asked = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            (&stream).write_all(format!("{request}\n").as_bytes())?;
            let mut answer = String::new();
            BufReader::new(&stream).read_line(&mut answer)?;
            Ok((stream, answer.trim_end().to_owned()))
        });
        match asked {
            Ok((_, answer)) if answer.is_empty() => why = format!("{}: it gave no answer", path.display()),
            Ok(asked) => return Ok(asked),
            Err(error) => {
                why = format!(
                    "{}{}: {error}",
                    if why.is_empty() { String::new() } else { format!("{why}; ") },
                    path.display()
                )
            }
        }
    }
    Err(format!("no worker listens ({why}): see --socket"))
}
