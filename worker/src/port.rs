//! The port of the health check.
//!
//! Invariants: it is claimed from the start, so that one in use is found before the command runs; it takes connections only
//! while the worker is up; no caller, however slow or many, holds up anything else.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::life::Health;
use crate::message;

/// How many callers are served at once; the others wait in the kernel.
const MOST: usize = 64;
/// How long a caller may take for a question of this many bytes.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 4096;
/// When a port that somebody else took meanwhile is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The port.
#[derive(Debug)]
pub(crate) struct Port {
    /// As people have written it.
    text: String,
    address: SocketAddr,
    claimed: Option<OwnedFd>,
    listener: Option<TcpListener>,
    callers: BTreeMap<u64, Caller>,
    next_caller: u64,
    again: Option<Duration>,
}

#[derive(Debug)]
struct Caller {
    stream: TcpStream,
    got: Vec<u8>,
    deadline: Duration,
}

impl Port {
    /// Claims `8080` (on all addresses) or `127.0.0.1:8080`.
    pub(crate) fn claim(text: &str) -> Result<Self, String> {
        let port = |address: IpAddr| text.parse().map(|port| SocketAddr::new(address, port));
        let mut last = format!("`{text}` is neither a port nor an address and a port, such as 8080 or 127.0.0.1:8080");
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let addresses =
            any.into_iter().filter_map(|any| port(any).ok()).chain(text.parse()).filter(|one| one.port() > 0);
        for address in addresses {
            match claim(address) {
                Ok(fd) => return Ok(Self::of(text, address, fd)),
                // A kernel without IPv6.
                Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if address.ip() == any[0] => {}
                Err(errno) => last = format!("{text} cannot be used ({})", errno.desc()),
            }
            if address.ip() == any[0] && last.contains("cannot be used") {
                break;
            }
        }
        Err(last)
    }

    fn of(text: &str, address: SocketAddr, fd: OwnedFd) -> Self {
        Self {
            text: text.to_owned(),
            address,
            claimed: Some(fd),
            listener: None,
            callers: BTreeMap::new(),
            next_caller: 0,
            again: None,
        }
    }

    /// Opens or closes it as the worker's health has it: what to tell people.
    pub(crate) fn follow(&mut self, health: Health, now: Duration) -> Option<String> {
        if health != Health::Up {
            (self.listener, self.again) = (None, None);
            return None;
        }
        if self.listener.is_some() || self.again.is_some_and(|again| again > now) {
            return None;
        }
        let backlog = Backlog::new(128).unwrap_or(Backlog::MAXCONN);
        let claimed = self.claimed.take().map_or_else(|| claim(self.address), Ok);
        match claimed.and_then(|fd| listen(&fd, backlog).map(|()| fd)) {
            Ok(fd) => {
                self.listener = Some(TcpListener::from(fd));
                self.again.take().map(|_| message::port_open(&self.text))
            }
            Err(errno) => {
                let is_news = self.again.is_none();
                self.again = Some(now + AGAIN);
                is_news.then(|| message::port_taken(&self.text, errno.desc()))
            }
        }
    }

    /// Whom to listen to: new callers, where there is room, and those that are there.
    pub(crate) fn waits_for(&self) -> impl Iterator<Item = (Option<u64>, BorrowedFd<'_>)> {
        let listener = self.listener.as_ref().filter(|_| self.callers.len() < MOST);
        let listener = listener.map(|listener| (None, listener.as_fd()));
        listener.into_iter().chain(self.callers.iter().map(|(id, caller)| (Some(*id), caller.stream.as_fd())))
    }

    /// When to look again, if nobody calls.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.callers.values().map(|caller| caller.deadline).chain(self.again).min()
    }

    /// Takes new callers.
    ///
    /// # Errors
    /// There is one that cannot be taken, for want of file descriptors: it would be there at once again.
    pub(crate) fn accept(&mut self, now: Duration) -> std::io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        while self.callers.len() < MOST {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if stream.set_nonblocking(true).is_ok() {
                self.callers.insert(self.next_caller, Caller { stream, got: Vec::new(), deadline: now + PATIENCE });
                self.next_caller += 1;
            }
        }
        Ok(())
    }

    /// Reads what a caller asks, and answers.
    pub(crate) fn read(&mut self, id: u64, health: Health) {
        if self.callers.get_mut(&id).is_some_and(|caller| caller.is_done(health)) {
            self.callers.remove(&id);
        }
    }

    /// Lets those go that take too long.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.callers.retain(|_, caller| caller.deadline > now);
    }
}

fn claim(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    // Connections of a worker that ran here before do not keep it.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

impl Caller {
    /// Whether nothing more is to be said to it.
    fn is_done(&mut self, health: Health) -> bool {
        let mut piece = [0; 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(read) => self.got.extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return true,
            }
            if self.got.len() > LONGEST {
                return true;
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let answer = match request.parse(&self.got) {
            Ok(httparse::Status::Partial) => return false,
            Ok(httparse::Status::Complete(_)) => response(request.method.unwrap_or_default(), health),
            Err(_) => written("400 Bad Request", "no HTTP", true),
        };
        // It fits into an empty buffer; whoever does not take it has asked for nothing.
        drop(self.stream.write_all(answer.as_bytes()));
        true
    }
}

fn response(method: &str, health: Health) -> String {
    let (status, word) = match health {
        Health::Up => ("200 OK", "up".to_owned()),
        Health::Starting(_) | Health::Stopping => ("503 Service Unavailable", health.to_string()),
    };
    match method {
        "GET" => written(status, &word, true),
        "HEAD" => written(status, &word, false),
        _ => written("405 Method Not Allowed", "GET or HEAD", true),
    }
}

fn written(status: &str, word: &str, with_body: bool) -> String {
    let length = word.len() + 1;
    let body = if with_body { format!("{word}\n") } else { String::new() };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Starting(missing) => write!(f, "starting: up in {} if it stays so", message::spoken(*missing)),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_a_status_and_a_word() {
        for (method, health, status, body) in [
            ("GET", Health::Up, "200 OK", "up\n"),
            ("HEAD", Health::Up, "200 OK", ""),
            ("GET", Health::Stopping, "503 Service Unavailable", "stopping\n"),
            ("GET", Health::Starting(Duration::from_secs(3)), "503 ", "starting: up in 3s if it stays so\n"),
            ("POST", Health::Up, "405 ", "GET or HEAD\n"),
        ] {
            let text = response(method, health);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
            assert_eq!(text.split_once("\r\n\r\n").map(|(_, body)| body), Some(body));
        }
    }

    #[test]
    fn what_is_no_port_is_refused_in_words() {
        for text in ["", "http", "0", "70000", "localhost:80", "127.0.0.1"] {
            let error = Port::claim(text).map(|port| port.address);
            assert!(error.clone().is_err_and(|why| why.contains("is neither a port nor")), "{text}: {error:?}");
        }
    }
}
