//! Who sees the console: whoever opened the link that the command printed, in that browser, and no page of anybody else's.
//!
//! Invariants: without the cookie nothing is shown, and nothing is told of why; without the page's own word nothing is done.
//! A browser sends cookies to every port of this machine, so this one's path is a secret of its own: what else listens here
//! never gets it.

use std::net::SocketAddr;

use crate::Mistake;
use crate::real::gate::{secret, to_this_machine};
use crate::world::Request;

/// The cookie's name.
const COOKIE: &str = "cutover";

/// What opens the console: four secrets, each for one way in.
#[derive(Clone)]
pub(super) struct Door {
    /// The folder that everything is below.
    folder: String,
    /// What the printed link carries.
    key: String,
    /// What the browser gets for it.
    cookie: String,
    /// What the page's own forms send along.
    word: String,
    origin: String,
}

/// What may be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It brings the key: give the cookie.
    Welcome,
    /// It is from who has the cookie; this is the path below the folder.
    Come(String),
    /// Refused, with what a person should do.
    Refused(&'static str),
}

/// What is said to who has no cookie.
const NO_COOKIE: &str = "This page opens with the link that the command printed. Open that link in this browser.";
/// What is said to a form that is not the page's own.
const NOT_OURS: &str =
    "This did not come from the console's own page. Open the link that the command printed, and try again.";

impl Door {
    /// A door of this run's own.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new(address: SocketAddr) -> Result<Self, Mistake> {
        let origin = format!("http://{address}");
        Ok(Self { folder: secret()?, key: secret()?, cookie: secret()?, word: secret()?, origin })
    }

    /// The link that opens it.
    pub(super) fn link(&self) -> String {
        format!("{}/{}/?key={}", self.origin, self.folder, self.key)
    }

    /// What the page's own forms send along.
    pub(super) fn word(&self) -> &str {
        &self.word
    }

    /// The header that gives the cookie.
    pub(super) fn cookie(&self) -> String {
        format!("{COOKIE}={}; Path=/{}/; HttpOnly; SameSite=Strict", self.cookie, self.folder)
    }

    /// Looks at a request. `word` is what its form has sent along.
    pub(super) fn look(&self, request: &Request, word: Option<&str>) -> Verdict {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        if to_this_machine(request).is_err() {
            return Verdict::Refused("That is no name of this machine.");
        }
        let below = request.path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let Some((_, path)) = below.filter(|(folder, _)| same(folder, &self.folder)) else {
            return Verdict::Refused(NO_COOKIE);
        };
        let key = request.query.get("key").is_some_and(|key| same(key, &self.key));
        if request.method == "GET" && path.is_empty() && key {
            return Verdict::Welcome;
        }
        // Another page of this machine's, such as what is released here, is of the same site and not of ours.
        if header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Verdict::Refused(NO_COOKIE);
        }
        let pairs = header("cookie").unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('='));
        if !pairs.into_iter().any(|(name, value)| name == COOKIE && same(value, &self.cookie)) {
            return Verdict::Refused(NO_COOKIE);
        }
        match request.method.as_str() {
            "GET" => Verdict::Come(path.to_owned()),
            "POST" => {
                // The page's own origin is the one that it was opened under, whichever name of this machine that has.
                let own = header("host").map(|host| format!("http://{host}"));
                let is_own = own.is_some() && header("origin").map(str::to_owned) == own;
                match is_own && word.is_some_and(|word| same(word, &self.word)) {
                    true => Verdict::Come(path.to_owned()),
                    false => Verdict::Refused(NOT_OURS),
                }
            }
            _ => Verdict::Refused("The console is read with GET, and changed with POST."),
        }
    }
}

/// Whether two texts are the same, in a time that does not depend on where they differ.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |sum, (one, other)| sum | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request { method: method.into(), path: path.into(), headers: headers.collect(), ..Request::default() }
    }

    #[test]
    fn only_whoever_opened_the_link_is_shown_anything_and_only_the_page_itself_does_anything() {
        let door = Door::new(([127, 0, 0, 1], 4000).into()).unwrap();
        let host = ("host", "127.0.0.1:4000");
        let cookie = door.cookie();
        assert!(
            cookie.ends_with("; HttpOnly; SameSite=Strict") && cookie.contains(&format!("Path=/{}/;", door.folder))
        );
        let cookie = ("cookie", cookie.split(';').next().unwrap());
        let stranger = Door::new(([127, 0, 0, 1], 4000).into()).unwrap().cookie();
        let stranger = ("cookie", stranger.split(';').next().unwrap());
        let origin = ("origin", "http://127.0.0.1:4000");
        let root = format!("/{}/", door.folder);
        let below = format!("/{}/events", door.folder);
        let word = Some(door.word());
        let comes = |path: &str| Verdict::Come(path.to_owned());
        for (method, path, headers, said, expected) in [
            ("GET", &root, &[host, cookie][..], None, Some(comes(""))),
            (
                "GET",
                &below,
                &[("host", "localhost:4000"), cookie, ("sec-fetch-site", "same-origin")],
                None,
                Some(comes("events")),
            ),
            ("GET", &root, &[host, cookie, ("sec-fetch-site", "none")], None, Some(comes(""))),
            ("GET", &root, &[host, ("cookie", "a=b; cutover=; x"), cookie], None, Some(comes(""))),
            ("POST", &below, &[host, cookie, origin], word, Some(comes("events"))),
            (
                "POST",
                &below,
                &[("host", "localhost:4000"), cookie, ("origin", "http://localhost:4000")],
                word,
                Some(comes("events")),
            ),
            // No cookie, somebody else's, another name for this machine, another page.
            ("GET", &root, &[host], None, None),
            ("GET", &root, &[host, stranger], None, None),
            ("GET", &root, &[host, ("cookie", "cutover=")], None, None),
            ("GET", &root, &[("host", "evil.example"), cookie], None, None),
            ("GET", &root, &[cookie], None, None),
            ("GET", &root, &[host, cookie, ("sec-fetch-site", "same-site")], None, None),
            ("GET", &root, &[host, cookie, ("sec-fetch-site", "cross-site")], None, None),
            ("GET", &"/".to_owned(), &[host, cookie], None, None),
            ("GET", &format!("/{}", door.folder), &[host, cookie], None, None),
            ("GET", &format!("/{}/", door.key), &[host, cookie], None, None),
            // A form without the page's word, from elsewhere, or from nowhere.
            ("POST", &below, &[host, cookie, origin], None, None),
            ("POST", &below, &[host, cookie, origin], Some(""), None),
            ("POST", &below, &[host, cookie, origin], Some(&door.key), None),
            ("POST", &below, &[host, cookie], word, None),
            ("POST", &below, &[host, cookie, ("origin", "null")], word, None),
            ("POST", &below, &[host, cookie, ("origin", "http://127.0.0.1:8101")], word, None),
            ("POST", &below, &[host, cookie, ("origin", "http://localhost:4000")], word, None),
            ("POST", &below, &[host, origin], word, None),
            ("PUT", &below, &[host, cookie, origin], word, None),
        ] {
            let seen = door.look(&request(method, path, headers), said);
            match expected {
                Some(expected) => assert_eq!(seen, expected, "{method} {path} {headers:?}"),
                None => assert!(matches!(seen, Verdict::Refused(_)), "{method} {path} {headers:?}: {seen:?}"),
            }
        }
    }

    #[test]
    fn the_key_is_good_for_the_cookie_and_for_nothing_else() {
        let door = Door::new(([127, 0, 0, 1], 4000).into()).unwrap();
        let ask = |method: &str, path: &str, key: &str| {
            let mut request = request(method, path, &[("host", "127.0.0.1:4000")]);
            request.query.insert("key".into(), key.into());
            door.look(&request, None)
        };
        let root = format!("/{}/", door.folder);
        assert_eq!(ask("GET", &root, &door.key), Verdict::Welcome);
        assert!(door.link().ends_with(&format!("{root}?key={}", door.key)));
        for (method, path, key) in [
            ("POST", root.as_str(), door.key.as_str()),
            ("GET", &format!("{root}events"), &door.key),
            ("GET", &root, &door.cookie),
            ("GET", &root, ""),
            ("GET", "/", &door.key),
        ] {
            assert!(matches!(ask(method, path, key), Verdict::Refused(_)), "{method} {path}");
        }
    }
}
