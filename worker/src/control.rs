//! The Unix socket through which the application, and `worker health`, `busy`, `idle` and `job`, speak with the worker.
//!
//! A line is a request, and is answered by a line. A job that is held (`job`) is over when its connection is: a process
//! that dies leaves nobody busy.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where PID 1 of a container has its socket unless told otherwise: the first that can be made. `/dev/shm` can be written to
/// in a container without a writable root.
pub(crate) const PLACES: [&str; 3] = ["/run/worker.sock", "/tmp/worker.sock", "/dev/shm/worker.sock"];

/// How many connections there can be that are jobs.
pub(crate) const MOST: usize = 512;
/// How many more there can be: whoever asks how it goes is answered however many jobs there are.
const SPARE: usize = 64;
/// The longest line.
const LONGEST: usize = 256;

/// The socket.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    connections: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    got: Vec<u8>,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// How it goes.
    Health,
    /// A job runs, for so long at most.
    Busy(Option<Duration>),
    /// It is done.
    Idle,
    /// A job runs as long as this connection is there, and for so long at most.
    Job(Option<Duration>),
    /// Something else.
    Unknown(String),
    /// The connection is gone.
    Gone,
}

impl Control {
    /// Opens the socket at the given place, or at the first of the usual ones.
    pub(crate) fn open(given: Option<&Path>, is_init: bool) -> Result<Self, String> {
        let usual: Vec<_> = match is_init {
            true => PLACES.iter().map(PathBuf::from).collect(),
            // Beside others on the same machine.
            false => vec![std::env::temp_dir().join(format!("worker-{}.sock", std::process::id()))],
        };
        let places = given.map_or(usual, |path| vec![path.to_owned()]);
        let mut why = String::new();
        for path in places {
            match bind(&path) {
                Ok(listener) => {
                    // In a container, the application may be another user than this process. Elsewhere, it is the same.
                    let mode = if is_init { 0o666 } else { 0o600 };
                    drop(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)));
                    drop(listener.set_nonblocking(true));
                    return Ok(Self { listener, path, connections: BTreeMap::new(), next: 0 });
                }
                Err(error) if why.is_empty() => why = format!("{}: {error}", path.display()),
                Err(error) => why.push_str(&format!("; {}: {error}", path.display())),
            }
        }
        Err(why)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whom to listen to: new connections, where there is room, and those that are there.
    pub(crate) fn waits_for(&self) -> impl Iterator<Item = (Option<u64>, BorrowedFd<'_>)> {
        let listener = Some(&self.listener).filter(|_| self.connections.len() < MOST + SPARE);
        let listener = listener.map(|listener| (None, listener.as_fd()));
        listener.into_iter().chain(self.connections.iter().map(|(id, one)| (Some(*id), one.stream.as_fd())))
    }

    /// Takes new connections.
    ///
    /// # Errors
    /// There is one that cannot be taken, for want of file descriptors: it would be there at once again.
    pub(crate) fn accept(&mut self) -> std::io::Result<()> {
        while self.connections.len() < MOST + SPARE {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if stream.set_nonblocking(true).is_ok() {
                self.connections.insert(self.next, Connection { stream, got: Vec::new() });
                self.next += 1;
            }
        }
        Ok(())
    }

    /// Reads what a connection wants.
    pub(crate) fn read(&mut self, id: u64) -> Vec<Request> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let (mut requests, is_gone) = connection.read();
        if is_gone {
            self.connections.remove(&id);
            requests.push(Request::Gone);
        }
        requests
    }

    /// Answers for the last time: the connection is needed for others.
    pub(crate) fn refuse(&mut self, id: u64, text: &str) {
        self.answer(id, text);
        self.connections.remove(&id);
    }

    /// Answers; whoever does not listen has asked for nothing.
    pub(crate) fn answer(&mut self, id: u64, text: &str) {
        if let Some(connection) = self.connections.get_mut(&id) {
            drop(connection.stream.write_all(format!("{text}\n").as_bytes()));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Binds, over what is left of a process that is not there any more.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => match UnixStream::connect(path) {
            // Connecting to what is no socket is refused, too.
            Err(refused) if refused.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            Ok(_) | Err(_) => Err(error),
        },
        bound => bound,
    }
}

impl Connection {
    /// The requests that have come in full, and whether the other end is gone.
    fn read(&mut self) -> (Vec<Request>, bool) {
        let mut piece = [0; 512];
        let is_gone = loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break true,
                Ok(read) => self.got.extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
            if self.got.len() > 16 * LONGEST {
                break true;
            }
        };
        let end = self.got.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.got.drain(..end).collect();
        let lines = String::from_utf8_lossy(&lines).into_owned();
        (lines.lines().map(read).collect(), is_gone || self.got.len() > LONGEST)
    }
}

fn read(line: &str) -> Request {
    let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let seconds = match rest.trim() {
        "" => Ok(None),
        rest => crate::signals::duration(rest).map(Some),
    };
    match (word, seconds) {
        ("health", Ok(None)) => Request::Health,
        ("idle", Ok(None)) => Request::Idle,
        ("busy", Ok(lasting)) => Request::Busy(lasting),
        ("job", Ok(lasting)) => Request::Job(lasting),
        (_, Ok(_) | Err(_)) => Request::Unknown(line.chars().take(40).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let path = std::env::temp_dir().join(format!("cutover-no-socket-{}", std::process::id()));
        std::fs::write(&path, "data").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_line_is_a_request() {
        let hours = Some(Duration::from_secs(7200));
        for (line, expected) in [
            ("health", Request::Health),
            ("busy", Request::Busy(None)),
            ("busy 2h", Request::Busy(hours)),
            (" job 7200s ", Request::Job(hours)),
            ("job", Request::Job(None)),
            ("idle", Request::Idle),
            ("idle 2h", Request::Unknown("idle 2h".into())),
            ("busy 2", Request::Unknown("busy 2".into())),
            ("GET / HTTP/1.1", Request::Unknown("GET / HTTP/1.1".into())),
            ("", Request::Unknown(String::new())),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}
