//! Who is answered: the developer who started this world, its functions and its tasks, and nobody else on the machine.
//!
//! Invariants: a request is answered only when it is signed with a key that this run gave out, or comes over an address
//! that only this run's tasks know; whatever a web page sends is refused, whichever name it has for this machine.

use std::io::Read as _;
use std::net::SocketAddr;

use serde_json::json;

use crate::Mistake;
use crate::world::{Request, Response};

/// The names under which a loopback address is spoken to; anything else is a name that somebody else has given it.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The key that the developer's own tools sign with, as far as the world needs to know.
const DEVELOPER: &str = "local";

/// What opens this world.
#[derive(Clone)]
pub(super) struct Gate {
    secret: String,
}

impl Gate {
    /// A gate of this run's own.
    pub(super) fn new() -> Result<Self, Mistake> {
        let mut bytes = [0; 16];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
        read.map_err(|error| Mistake(format!("/dev/urandom: {error}: no key can be made")))?;
        Ok(Self { secret: bytes.iter().map(|byte| format!("{byte:02x}")).collect() })
    }

    /// What the ids of all keys end with that this run gives out.
    pub(super) fn suffix(&self) -> String {
        format!("-{}", self.secret)
    }

    /// The access key's id of a function, or of anybody whom the world knows by this name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }

    /// The access key's id and the secret for the developer's own tools.
    pub(super) fn developer(&self) -> (String, &str) {
        (self.key(DEVELOPER), &self.secret)
    }

    /// The address below which tasks reach their agent, and notifications what stands for the world outside: neither signs.
    pub(super) fn unsigned(&self, address: SocketAddr) -> String {
        format!("http://{address}/{}", self.secret)
    }

    /// The request as the world takes it, or why it is refused.
    pub(super) fn admit(&self, mut request: Request) -> Result<Request, Response> {
        not_from_a_page(&request)?;
        let below = request.path.strip_prefix('/').and_then(|path| path.strip_prefix(self.secret.as_str()));
        if let Some(rest) = below.filter(|rest| rest.starts_with("/agent/") || rest.starts_with("/sink/")) {
            request.path = rest.to_owned();
            return Ok(request);
        }
        if request.path.starts_with("/agent") || request.path.starts_with("/sink") {
            return Err(refused("only the tasks of this run reach their agent"));
        }
        let key = request.access_key().to_owned();
        let Some(name) = key.strip_suffix(&self.suffix()).map(str::to_owned) else {
            let why = "this world answers only to the keys of its own run: export what it printed when it began";
            return Err(refused(why));
        };
        if let Some(header) = request.headers.get_mut("authorization") {
            *header = header.replacen(&key, &name, 1);
        }
        Ok(request)
    }
}

/// Refuses what a browser may have sent: a page that has this machine's address under a name of its own, or one that sends
/// requests to where it did not come from.
pub(super) fn not_from_a_page(request: &Request) -> Result<(), Response> {
    let host = request.headers.get("host").map(String::as_str).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if !NAMES.contains(&name) {
        return Err(refused(&format!("`{}` is no name of this machine", shared::text::plain(host))));
    }
    let from_a_page =
        ["origin", "referer", "sec-fetch-site"].into_iter().find(|name| request.headers.contains_key(*name));
    match from_a_page {
        Some(header) => Err(refused(&format!("a request with `{header}` comes from a web page"))),
        None => Ok(()),
    }
}

/// In the words of AWS's JSON protocols, so that every tool shows it.
fn refused(why: &str) -> Response {
    let code = "UnrecognizedClientException";
    let mut response = Response::json(json!({"__type": code, "message": why}));
    response.status = 403;
    response.headers.push(("x-amzn-errortype".into(), code.into()));
    response
}

/// Whether the other end of a connection is a process of the same user, as far as the system tells: Linux does, and
/// elsewhere whoever may connect to loopback is taken for the user.
pub(super) fn is_own_user(peer: SocketAddr, own: SocketAddr) -> bool {
    let Ok(table) = std::fs::read_to_string("/proc/net/tcp") else { return true };
    let (SocketAddr::V4(peer), SocketAddr::V4(own)) = (peer, own) else { return true };
    let end = |address: std::net::SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let (local, remote) = (end(peer), end(own));
    // `sl local_address rem_address st tx:rx tr:tm retrnsmt uid ...`
    let uid = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        (*fields.get(1)? == local && *fields.get(2)? == remote).then(|| fields.get(7)?.parse::<u32>().ok())?
    });
    uid.is_none_or(|uid| uid == nix::unistd::Uid::current().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, String)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Request { method: "POST".into(), path: path.into(), headers, ..Request::default() }
    }

    fn signed(key: &str) -> (&'static str, String) {
        ("authorization", format!("AWS4-HMAC-SHA256 Credential={key}/20261123/eu-west-1/ecs/aws4_request, Signature=0"))
    }

    #[test]
    fn only_who_was_given_a_key_is_answered_and_no_web_page() {
        let gate = Gate::new().unwrap();
        let host = |name: &str| ("host", name.to_owned());
        let key = gate.key("cutover-notify");
        let good = gate.admit(request("/", &[host("127.0.0.1:4000"), signed(&key)])).unwrap();
        assert_eq!((good.access_key(), good.region()), ("cutover-notify", "eu-west-1"));
        assert!(gate.admit(request("/", &[host("localhost:1"), signed(&gate.developer().0)])).is_ok());
        let agent = format!("/{}/agent/1234/task-protection/v1/state", gate.secret);
        let asked = gate.admit(request(&agent, &[host("127.0.0.1:4000")])).unwrap();
        assert_eq!(asked.path, "/agent/1234/task-protection/v1/state");
        let other = Gate::new().unwrap();
        for (path, headers) in [
            ("/", vec![host("127.0.0.1:4000")]),
            ("/", vec![host("127.0.0.1:4000"), signed("local")]),
            ("/", vec![host("127.0.0.1:4000"), signed("cutover-notify")]),
            ("/", vec![host("127.0.0.1:4000"), signed(&other.key("cutover-notify"))]),
            ("/", vec![host("evil.example:4000"), signed(&key)]),
            ("/", vec![host("evil.example"), signed(&key)]),
            ("/", vec![signed(&key)]),
            ("/", vec![host("127.0.0.1:4000"), signed(&key), ("origin", "http://evil.example".into())]),
            ("/", vec![host("127.0.0.1:4000"), signed(&key), ("sec-fetch-site", "cross-site".into())]),
            ("/agent/1234/v4/shop", vec![host("127.0.0.1:4000"), signed(&key)]),
            ("/sink/hooks.slack.com/x", vec![host("127.0.0.1:4000")]),
            (&format!("/{}/artifacts/key", gate.secret), vec![host("127.0.0.1:4000")]),
        ] {
            let refused = gate.admit(request(path, &headers)).unwrap_err();
            assert_eq!(refused.status, 403, "{path} {headers:?}");
        }
    }
}
