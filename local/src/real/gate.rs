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

/// What opens this world: three secrets, so that whoever has one of them has no other.
#[derive(Clone)]
pub struct Gate {
    /// What the ids of all keys end with: who signs shows it with every request.
    suffix: String,
    /// What the developer's tools and the functions sign with.
    secret: String,
    /// The folder of what is not signed: tasks know it, whose code may be anybody's.
    unsigned: String,
}

/// A secret of 128 bits, which nobody guesses.
pub(crate) fn secret() -> Result<String, Mistake> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|error| Mistake(format!("/dev/urandom: {error}: no key can be made")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Gate {
    /// A gate of this run's own.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, Mistake> {
        Ok(Self { suffix: format!("-{}", secret()?), secret: secret()?, unsigned: secret()? })
    }

    /// What the ids of all keys end with that this run gives out.
    pub(super) fn suffix(&self) -> String {
        self.suffix.clone()
    }

    /// The access key's id of a function, or of anybody whom the world knows by this name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    /// The access key's id and the secret for the developer's own tools.
    #[must_use]
    pub fn developer(&self) -> (String, &str) {
        (self.key(DEVELOPER), &self.secret)
    }

    /// The path of what is asked unsigned.
    #[must_use]
    pub fn below(&self, path: &str) -> String {
        format!("/{}{path}", self.unsigned)
    }

    /// The address below which tasks reach their agent, and notifications what stands for the world outside: neither signs.
    pub(super) fn unsigned(&self, address: SocketAddr) -> String {
        format!("http://{address}{}", self.below(""))
    }

    /// The request as the world takes it.
    ///
    /// # Errors
    /// The answer to who is refused.
    pub fn admit(&self, mut request: Request) -> Result<Request, Response> {
        not_from_a_page(&request)?;
        let below = request.path.strip_prefix('/').and_then(|path| path.strip_prefix(self.unsigned.as_str()));
        if let Some(rest) = below.filter(|rest| rest.starts_with("/agent/") || rest.starts_with("/sink/")) {
            if rest.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
                return Err(refused("a path goes down, never up"));
            }
            request.path = rest.to_owned();
            // What is asked here is no call of AWS's, and nobody's in particular.
            for name in ["x-amz-target", "authorization"] {
                request.headers.remove(name);
            }
            return Ok(request);
        }
        if below.is_some_and(|rest| matches!(rest, "/sqs" | "/sqs/")) {
            let target = request.headers.get("x-amz-target").map(String::as_str);
            if target != Some("AmazonSQS.SendMessage") {
                return Err(refused("a task of this run may ask for workers (sqs:SendMessage), and do nothing else"));
            }
            request.path = "/".into();
            // Whoever it says it is, it is a task.
            request.headers.remove("authorization");
            return Ok(request);
        }
        if request.path.starts_with("/agent") || request.path.starts_with("/sink") {
            return Err(refused("only the tasks of this run reach their agent"));
        }
        let key = request.access_key().to_owned();
        let Some(name) = key.strip_suffix(&self.suffix).filter(|name| !name.is_empty()).map(str::to_owned) else {
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
    to_this_machine(request).map_err(|why| refused(&why))?;
    let from_a_page =
        ["origin", "referer", "sec-fetch-site"].into_iter().find(|name| request.headers.contains_key(*name));
    match from_a_page {
        Some(header) => Err(refused(&format!("a request with `{header}` comes from a web page"))),
        None => Ok(()),
    }
}

/// Refuses what names this machine otherwise than a loopback address is named: a name that somebody else has given it.
///
/// # Errors
/// Which name it is.
pub(crate) fn to_this_machine(request: &Request) -> Result<(), String> {
    let host = request.headers.get("host").map(String::as_str).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match NAMES.contains(&name) {
        true => Ok(()),
        false => Err(format!("`{}` is no name of this machine", shared::text::plain(host))),
    }
}

/// In the words of AWS's JSON protocols, so that every tool shows it.
pub(super) fn refused(why: &str) -> Response {
    let code = "UnrecognizedClientException";
    let mut response = Response::json(json!({"__type": code, "message": why}));
    response.status = 403;
    response.headers.push(("x-amzn-errortype".into(), code.into()));
    response
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
        let agent = gate.below("/agent/1234/task-protection/v1/state");
        let target = ("x-amz-target", "AmazonEC2ContainerServiceV20141113.RunTask".to_owned());
        let asked = gate.admit(request(&agent, &[host("127.0.0.1:4000"), target.clone(), signed(&key)])).unwrap();
        assert_eq!(asked.path, "/agent/1234/task-protection/v1/state");
        assert_eq!((asked.headers.get("x-amz-target"), asked.access_key()), (None, ""));
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
            (&gate.below("/artifacts/key"), vec![host("127.0.0.1:4000")]),
            // What a task knows is not enough to be the developer.
            (&gate.below("/agent/../../"), vec![host("127.0.0.1:4000"), target]),
            (&gate.below("/agent/1234/.."), vec![host("127.0.0.1:4000")]),
            (&format!("/{}/agent/1234", gate.secret), vec![host("127.0.0.1:4000")]),
            ("/", vec![host("127.0.0.1:4000"), signed(&format!("local-{}", gate.unsigned))]),
            ("/", vec![host("127.0.0.1:4000"), signed(&gate.suffix)]),
        ] {
            let refused = gate.admit(request(path, &headers)).unwrap_err();
            assert_eq!(refused.status, 403, "{path} {headers:?}");
        }
    }
}
