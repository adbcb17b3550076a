//! The ECS agent's endpoint for task protection: one request at a time, without ever waiting for it.
//!
//! Invariant: a request ends within [`PATIENCE`], whatever the agent does. What counts is the answer's `protection`: the agent
//! reports some failures with status 200.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket, sockopt};
use serde_json::{Value, json};

use crate::protection::{UNANSWERED, Wish};

/// How long an answer may take: the agent itself gives ECS 4 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);
/// The longest answer that is read.
const LONGEST: usize = 16 * 1024;

/// Where the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    address: SocketAddr,
    path: String,
}

impl Agent {
    /// Reads `$ECS_AGENT_URI`, such as `http://169.254.170.2/api/0123`. Names are not looked up: ECS gives an address, and a
    /// static program has no resolver.
    pub(crate) fn read(uri: &str) -> Result<Self, String> {
        let wrong = || format!("ECS_AGENT_URI is `{uri}`, which is not http:// and an address");
        let rest = uri.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = host.replace("localhost", "127.0.0.1");
        let address = host.parse().or_else(|_| format!("{host}:80").parse());
        Ok(Self { address: address.map_err(|_| wrong())?, path: path.trim_end_matches('/').to_owned() })
    }

    /// Begins a request.
    pub(crate) fn ask(&self, wish: Wish, now: Duration) -> Result<Exchange, String> {
        let body = match wish {
            Wish::Protect(minutes) => json!({"ProtectionEnabled": true, "ExpiresInMinutes": minutes}),
            Wish::Release => json!({"ProtectionEnabled": false}),
        };
        let (body, host, path) = (body.to_string(), self.address, &self.path);
        let head = format!(
            "PUT {path}/task-protection/v1/state HTTP/1.1\r\nhost: {host}\r\nuser-agent: cutover-worker\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let failed = |errno: Errno| format!("the agent at {host} cannot be reached ({})", errno.desc());
        let family = if host.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd: OwnedFd = socket(family, SockType::Stream, flags, None).map_err(failed)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(host)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let wanted = wish != Wish::Release;
        let out = format!("{head}{body}").into_bytes();
        Ok(Exchange { stream: fd.into(), host, wanted, out, sent: 0, got: Vec::new(), deadline: now + PATIENCE })
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    stream: TcpStream,
    host: SocketAddr,
    wanted: bool,
    out: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
    deadline: Duration,
}

impl Exchange {
    pub(crate) fn wants(&self) -> PollFlags {
        if self.sent < self.out.len() { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Goes on as far as it can: the answer, once there is one.
    pub(crate) fn go_on(&mut self, now: Duration) -> Option<Result<(), String>> {
        match self.step() {
            Ok(true) => Some(answer(&self.got, self.wanted)),
            Ok(false) if now >= self.deadline => {
                Some(Err(format!("the agent at {} {UNANSWERED} {}s", self.host, PATIENCE.as_secs())))
            }
            Ok(false) => None,
            Err(error) => Some(Err(format!("the agent at {} cannot be reached ({error})", self.host))),
        }
    }

    /// Whether the answer is complete.
    fn step(&mut self) -> std::io::Result<bool> {
        match getsockopt(&self.stream, sockopt::SocketError) {
            Ok(0) => {}
            Ok(number) => return Err(std::io::Error::from_raw_os_error(number)),
            Err(errno) => return Err(errno.into()),
        }
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(written) => self.sent += written,
                Err(error) if is_later(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let mut piece = [0; 2048];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(true),
                Ok(read) => self.got.extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) if is_later(&error) => return Ok(is_complete(&self.got)),
                Err(error) => return Err(error),
            }
            if self.got.len() > LONGEST || is_complete(&self.got) {
                return Ok(true);
            }
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Not connected yet is later, too.
fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

/// Status, length of the head, and length of the body where the head tells it.
fn head(got: &[u8]) -> Option<(u16, usize, Option<usize>)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(got).ok()? else { return None };
    let status = response.code?;
    let body = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = body.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    Some((status, length, body))
}

fn is_complete(got: &[u8]) -> bool {
    head(got).is_some_and(|(_, head, body)| body.is_some_and(|body| got.len() >= head + body))
}

/// What the agent says: `protection`, or why not.
fn answer(got: &[u8], wanted: bool) -> Result<(), String> {
    let Some((status, head, _)) = head(got) else { return Err("the agent's answer is not HTTP".into()) };
    // A body in chunks has their sizes around it, and those are no braces.
    let body = got.get(head..).unwrap_or_default();
    let from = body.iter().position(|byte| *byte == b'{').unwrap_or(0);
    let to = body.iter().rposition(|byte| *byte == b'}').map_or(0, |at| at + 1);
    let body: Value = serde_json::from_slice(body.get(from..to).unwrap_or_default()).unwrap_or_default();
    let is_enabled = body.pointer("/protection/ProtectionEnabled").and_then(Value::as_bool);
    if (200..300).contains(&status) && is_enabled == Some(wanted) {
        return Ok(());
    }
    let texts = ["/failure/Reason", "/failure/Detail", "/error/Code", "/error/Message", "/code", "/message"];
    let texts: Vec<_> = texts.iter().filter_map(|at| body.pointer(at)?.as_str()).collect();
    Err(match texts.is_empty() {
        true => format!("the agent answered {status} without a reason"),
        false => format!("the agent answered {status}: {}", texts.join(": ")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

    use super::*;

    #[test]
    fn the_agents_address_is_read_and_a_name_is_refused() {
        for (uri, address, path) in [
            ("http://169.254.170.2/api/0123", "169.254.170.2:80", "/api/0123"),
            ("http://127.0.0.1:4000/x/agent/7/", "127.0.0.1:4000", "/x/agent/7"),
            ("http://localhost:4000", "127.0.0.1:4000", ""),
            ("http://[fd00:ec2::23]/api", "[fd00:ec2::23]:80", "/api"),
        ] {
            let agent = Agent::read(uri);
            let expected = Agent { address: address.parse().unwrap(), path: path.into() };
            assert_eq!(agent, Ok(expected), "{uri}");
        }
        for uri in ["", "https://169.254.170.2/api", "http://agent.internal/api", "169.254.170.2"] {
            assert!(Agent::read(uri).unwrap_err().contains("is not http:// and an address"), "{uri}");
        }
    }

    #[test]
    fn only_an_answer_that_says_so_counts_as_protection() {
        let ok = "HTTP/1.1 200 OK\r\n\r\n";
        for (text, wanted, said) in [
            (format!("{ok}{}", r#"{"protection":{"ProtectionEnabled":true,"TaskArn":"a"}}"#), true, ""),
            (format!("{ok}{}", r#"{"protection":{"ProtectionEnabled":false,"TaskArn":"a"}}"#), false, ""),
            (format!("{ok}3a\r\n{}\r\n0\r\n\r\n", r#"{"protection":{"ProtectionEnabled":true}}"#), true, ""),
            (format!("{ok}{}", r#"{"protection":{"ProtectionEnabled":false}}"#), true, "answered 200 without"),
            (
                format!("{ok}{}", r#"{"failure":{"Arn":"a","Reason":"DEPLOYMENT_BLOCKED","Detail":null}}"#),
                true,
                "answered 200: DEPLOYMENT_BLOCKED",
            ),
            (
                format!(
                    "HTTP/1.1 400 Bad Request\r\n\r\n{}",
                    r#"{"error":{"Code":"AccessDeniedException","Message":"no"}}"#
                ),
                true,
                "answered 400: AccessDeniedException: no",
            ),
            ("HTTP/1.1 500 Internal Server Error\r\n\r\noh".into(), true, "answered 500 without a reason"),
            ("SSH-2.0-OpenSSH\r\n".into(), true, "is not HTTP"),
            (String::new(), true, "is not HTTP"),
        ] {
            let answer = answer(text.as_bytes(), wanted);
            let expected =
                if said.is_empty() { answer.is_ok() } else { answer.clone().is_err_and(|why| why.contains(said)) };
            assert!(expected, "{text}: {answer:?}");
        }
    }
}
