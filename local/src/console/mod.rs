//! The console: what a person sees and does in AWS's console, of the world on this machine, as one page.
//!
//! ```text
//! door.rs      who is let in: the link that was printed, and a cookie for it
//! aws.rs       the road to the world: signed, and through the gate, as everybody's
//! look/        what AWS's operations answer, one file for each topic
//! view/        what was seen as HTML: pure functions, and the only place with markup
//! said.rs      the door for words that others wrote
//! live.rs      what has changed since a page was told last
//! act.rs       what a form asks for
//! ```
//!
//! Invariants: the console knows nothing that an operation of AWS's has not answered, and does nothing that everybody cannot do
//! by one; nothing in a page comes from anywhere but this program.

mod act;
mod address;
mod aws;
mod door;
mod live;
mod look;
mod said;
mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use maud::Markup;
use serde_json::json;
use shared::{Manifest, Time};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::act::Act;
use self::address::Wanted;
use self::aws::Aws;
use self::door::{Door, Verdict};
use self::look::log::Follow;
use self::look::records::Known;
use self::look::{Names, Seen};
use self::view::log::{MOST, Of};
use self::view::page::{self, Frame};
use crate::Mistake;
use crate::real::{Machine, http};
use crate::world::{Request, Response};

pub use self::view::controls::Lasts;

/// How often it is looked whether anything has changed, at the most.
const LOOK: Duration = Duration::from_millis(250);
/// How much longer than a look took until the next one: what is expensive is done less often.
const REST: u32 = 4;
/// The longest form, in bytes.
const LONGEST_FORM: usize = 64 * 1024;
/// How long a page that was told everything at the end of a run may take to take it in.
const FAREWELL: Duration = Duration::from_secs(1);

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Nothing in a page comes from elsewhere, runs that was not shipped, or leads a form away.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is served.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    door: Door,
    aws: Aws,
    pipeline: String,
    log_group: String,
    bucket: String,
    lasts: Lasts,
    manifest: Mutex<Manifest>,
    records: Mutex<Known>,
    file: PathBuf,
    /// Whether the run ends.
    ending: watch::Sender<bool>,
    /// Held by every page that is told what changes.
    told: Mutex<Option<mpsc::Sender<()>>>,
    all_told: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Console {
    /// Serves the console of a pipeline of this machine's world on a port of its own; any free one when 0. `file` is the application's manifest.
    ///
    /// # Errors
    /// The port cannot be had, or the manifest cannot be read.
    pub async fn start(
        machine: &Machine,
        file: PathBuf,
        pipeline: &str,
        port: u16,
        lasts: Lasts,
    ) -> Result<Self, Mistake> {
        let failed = |error: std::io::Error| {
            Mistake(format!(
                "port {port} of this machine, for the console: {error}: name another one with --console-port"
            ))
        };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let road = machine.clone();
        let (key, endpoint) = (machine.key_of(aws::PRINCIPAL), machine.address().to_string());
        let (told, all_told) = mpsc::channel(1);
        let (log_group, bucket, region) = {
            let world = machine.world();
            let (group, bucket) = (world.release_log_group(), world.bucket());
            (group.unwrap_or_default(), bucket, world.region().to_owned())
        };
        let inner = Inner {
            door: Door::new(address)?,
            aws: Aws::new(move |request| road.answer(request), endpoint, key, region),
            pipeline: pipeline.to_owned(),
            log_group,
            bucket,
            lasts,
            manifest: Mutex::new(read(&file)?),
            records: Mutex::default(),
            file,
            ending: watch::Sender::new(false),
            told: Mutex::new(Some(told)),
            all_told: tokio::sync::Mutex::new(all_told),
        };
        let console = Self(Arc::new(inner));
        tokio::spawn(console.clone().serve(listener));
        Ok(console)
    }

    /// The link that opens it.
    #[must_use]
    pub fn link(&self) -> String {
        self.0.door.link()
    }

    /// The run ends: pages are told how everything stands, and that nothing comes after it.
    pub async fn end(&self) {
        self.0.ending.send_replace(true);
        drop(self.0.told.lock().unwrap_or_else(PoisonError::into_inner).take());
        // None is sent: it ends when the last page lets go.
        drop(tokio::time::timeout(FAREWELL, self.0.all_told.lock().await.recv()).await);
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let console = self.clone();
            tokio::spawn(http::connection(stream, move |request| {
                let console = console.clone();
                async move { console.answer(&request) }
            }));
        }
    }

    fn answer(&self, request: &Request) -> http::Reply {
        // Of whoever sends more than a form has, nothing is read.
        let is_form = request.method == "POST" && request.body.len() <= LONGEST_FORM;
        let fields = if is_form { http::form(&request.body) } else { Default::default() };
        let word = fields.get("word").map(String::as_str);
        let path = match self.0.door.look(request, word) {
            Verdict::Come(path) => path,
            Verdict::Welcome => {
                let mut welcome = html(200, page::welcome());
                welcome.headers.push(("set-cookie".into(), self.0.door.cookie()));
                return welcome.into();
            }
            Verdict::Refused(why) => return html(403, page::notice("Not for this browser", why, None)).into(),
        };
        let filled = |name: &str| request.query.get(name).cloned().filter(|text| !text.is_empty());
        let wanted = Wanted { release: filled("release"), environment: filled("environment") };
        match (request.method.as_str(), path.as_str()) {
            ("GET", "") => self.page(&wanted).into(),
            ("GET", "events") => self.events(wanted),
            ("GET", "log.txt") => self.whole_log(&wanted).into(),
            ("GET", "style.css") => file("text/css", STYLE).into(),
            ("GET", "script.js") => file("text/javascript", SCRIPT).into(),
            ("GET", "icon.svg") => file("image/svg+xml", ICON).into(),
            ("POST", path) => match path.strip_prefix("do/") {
                Some(what) => self.act(what, request, &fields).into(),
                None => nothing_here().into(),
            },
            _ => nothing_here().into(),
        }
    }

    fn frame<'a>(&'a self, wanted: &'a Wanted) -> Frame<'a> {
        Frame { wanted, word: self.0.door.word(), lasts: self.0.lasts }
    }

    /// Looks at everything but the log. Somebody may have changed the manifest for the next release: one that cannot be read does
    /// not take away what is shown.
    fn look(&self, wanted: &Wanted) -> Seen {
        let mut manifest = self.0.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(new) = read(&self.0.file) {
            *manifest = new;
        }
        let manifest = manifest.clone();
        let names = Names { pipeline: &self.0.pipeline, bucket: &self.0.bucket };
        let mut known = self.0.records.lock().unwrap_or_else(PoisonError::into_inner);
        look::look(&self.0.aws, &manifest, names, wanted.release.as_deref(), &mut known)
    }

    fn page(&self, wanted: &Wanted) -> Response {
        let seen = self.look(wanted);
        if let (Ok(picture), Some(_)) = (&seen.pipeline, &wanted.release)
            && picture.shown.is_none()
        {
            return html(404, page::notice("No such release", "This run knows no such release.", Some("./")));
        }
        let lines = Told::default().lines(self, &seen, wanted);
        html(200, page::page(&seen, self.frame(wanted), &lines.unwrap_or_default().1))
    }

    /// Tells a page what changes, until it goes away or the run ends.
    fn events(&self, wanted: Wanted) -> http::Reply {
        let (sender, body) = Channel::new(16);
        let held = self.0.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let console = self.clone();
        tokio::spawn(async move {
            console.tell(&wanted, sender).await;
            drop(held);
        });
        http::Reply::Stream(with_headers(200, "text/event-stream", Vec::new()), body)
    }

    async fn tell(&self, wanted: &Wanted, mut sender: Sender<Bytes>) {
        let mut ending = self.0.ending.subscribe();
        let mut told = Told::default();
        loop {
            let is_last = *ending.borrow_and_update();
            let begun = tokio::time::Instant::now();
            let mut events = told.changes(self, wanted);
            let took = begun.elapsed();
            if is_last {
                events.push(live::event("end", &json!({})));
            }
            // A page that has gone away is noticed when something is sent to it.
            let text = if events.is_empty() { ":\n\n".to_owned() } else { events.concat() };
            if sender.send_data(Bytes::from(text)).await.is_err() || is_last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK.max(took * REST)) => {}
                changed = ending.changed() => if changed.is_err() { return },
            }
        }
    }

    fn whole_log(&self, wanted: &Wanted) -> Response {
        let seen = self.look(wanted);
        let shown = seen.pipeline.as_ref().ok().and_then(|picture| picture.shown.as_ref());
        let Some(release) = shown else { return nothing_here() };
        match look::log::whole(&self.0.aws, &self.0.log_group, &self.stream(release.id.raw())) {
            Ok(lines) => {
                let own = lines.iter().filter(|line| line.is_of(wanted.environment.as_deref(), &seen.environments));
                let text: String = own.map(|line| format!("{}\n", line.plain())).collect();
                with_headers(200, "text/plain; charset=utf-8", text.into_bytes())
            }
            Err(refused) => html(502, page::notice("The log cannot be read", &refused.message, Some("./"))),
        }
    }

    /// What the streams of a release begin with, as `shared::names` has it.
    fn stream(&self, release: &str) -> String {
        format!("{}/{release}", self.0.pipeline)
    }

    fn act(&self, what: &str, request: &Request, fields: &std::collections::BTreeMap<String, String>) -> Response {
        let view = Wanted { release: fields.get("view").cloned(), environment: None };
        let back = format!(".{}", view.link(""));
        let taken = match Act::read(what, fields, &self.0.pipeline, self.0.lasts) {
            Ok(act) => act.ask(&self.0.aws).map(|()| act.done).map_err(|refused| refused.message),
            Err(why) => Err(why.to_owned()),
        };
        // The script shows the sentence in the page that is there; without it, the browser goes back to a page.
        let by_script = request.headers.contains_key("x-console");
        match (taken, by_script) {
            (Ok(done), true) => with_headers(200, "text/plain; charset=utf-8", done.into_bytes()),
            (Err(why), true) => with_headers(409, "text/plain; charset=utf-8", shared::text::plain(&why).into_bytes()),
            (Ok(_), false) => {
                let mut response = with_headers(303, "text/plain; charset=utf-8", Vec::new());
                response.headers.push(("location".into(), back));
                response
            }
            (Err(why), false) => html(409, page::notice("That was not taken", &why, Some(&back))),
        }
    }
}

/// What a page has been told.
#[derive(Default)]
struct Told {
    sent: live::Sent,
    before: Option<Seen>,
    follow: Follow,
    release: Option<String>,
    title: String,
}

impl Told {
    /// The events that bring a page up to date.
    fn changes(&mut self, console: &Console, wanted: &Wanted) -> Vec<String> {
        let seen = console.look(wanted);
        let mut events = self.sent.changes(page::parts(&seen, console.frame(wanted)));
        if let Some((is_anew, lines)) = self.lines(console, &seen, wanted) {
            let html = lines.into_string();
            if is_anew || !html.is_empty() {
                events.push(live::event("lines", &json!({"anew": is_anew, "html": html, "most": MOST})));
            }
        }
        let title = page::title(&seen);
        if title != self.title {
            events.push(live::event("title", &json!({"title": title})));
            self.title = title;
        }
        let news = live::news(self.before.as_ref(), &seen);
        if !news.is_empty() {
            events.push(live::event("say", &json!({"says": news.join(". ")})));
        }
        self.before = Some(seen);
        events
    }

    /// The lines that are new, and whether they are all that a page should have. None when they cannot be read now.
    fn lines(&mut self, console: &Console, seen: &Seen, wanted: &Wanted) -> Option<(bool, Markup)> {
        let shown = seen.pipeline.as_ref().ok()?.shown.as_ref();
        let release = shown.map(|release| release.id.raw().to_owned());
        let is_anew = self.release != release || self.before.is_none();
        if self.release != release {
            self.follow = Follow::default();
            self.release.clone_from(&release);
        }
        let (Some(id), began) = (release, shown.map_or_else(Time::default, |release| release.began)) else {
            return Some((is_anew, Markup::default()));
        };
        let is_wanted = |line: &look::log::Line| line.is_of(wanted.environment.as_deref(), &seen.environments);
        let (first, inner) = (console.stream(&id), &console.0);
        let (lines, has_more) = self.follow.news(&inner.aws, &inner.log_group, &first, MOST, is_wanted).ok()?;
        let shown = view::log::lines(&lines, Of { began, environments: &seen.environments });
        let more = if has_more { view::log::more().into_string() } else { String::new() };
        Some((is_anew || has_more, maud::PreEscaped(more + &shown.into_string())))
    }
}

fn read(file: &std::path::Path) -> Result<Manifest, Mistake> {
    let name = file.display().to_string();
    let text = shared::yaml::text_of(file).map_err(|error| Mistake(format!("{name}: {error}")))?;
    Ok(Manifest::read(&name, &text)?)
}

fn nothing_here() -> Response {
    html(404, page::notice("Nothing here", "The console has no such page.", Some("./")))
}

fn html(status: u16, page: Markup) -> Response {
    with_headers(status, "text/html; charset=utf-8", page.into_string().into_bytes())
}

fn file(kind: &str, text: &str) -> Response {
    with_headers(200, kind, text.as_bytes().to_vec())
}

/// A response that is kept nowhere, framed nowhere, and tells nobody where it was.
fn with_headers(status: u16, kind: &str, body: Vec<u8>) -> Response {
    let headers = [
        ("content-type", kind),
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // A form must say where it comes from, which `no-referrer` would keep it from; nobody else is told.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Response { status, headers: headers.collect(), body }
}
