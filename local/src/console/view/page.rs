//! The whole page, and the parts of it that are sent again when they have changed.

use maud::{DOCTYPE, Markup, html};

use super::controls::{Form, Lasts, approvals, controls, retry};
use super::{log, pipeline, releases, services, trouble, workers};
use crate::console::address::Wanted;
use crate::console::look::Seen;
use crate::console::look::pipeline::Pipeline;
use crate::console::said::Said;

/// What a page is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) wanted: &'a Wanted,
    /// The page's own word: see the door.
    pub(crate) word: &'a str,
    pub(crate) lasts: Lasts,
}

impl<'a> Frame<'a> {
    fn form(&self) -> Form<'a> {
        Form { word: self.word, wanted: self.wanted }
    }
}

/// The parts that change, each with the id of its element.
pub(crate) fn parts(seen: &Seen, frame: Frame<'_>) -> Vec<(String, Markup)> {
    let mut parts = vec![
        ("services-rows".to_owned(), services::rows(&seen.services)),
        ("workers-list".to_owned(), workers::workers(&seen.workers)),
        ("records-list".to_owned(), releases::records(&seen.records)),
    ];
    let picture = match &seen.pipeline {
        Ok(picture) => picture,
        Err(refused) => {
            parts.push(("release".to_owned(), html! { div #release { (trouble(refused)) } }));
            return parts;
        }
    };
    parts.push(("release".to_owned(), pipeline::release(picture.shown.as_ref(), newer(picture))));
    parts.push(("controls".to_owned(), controls(picture, frame.form(), frame.lasts)));
    parts.push(("approvals".to_owned(), approvals(picture, frame.form())));
    for stage in &picture.stages {
        let again = match (&picture.shown, frame.lasts) {
            (Some(release), Lasts::UntilEnded) => retry(stage, &release.id, frame.form()),
            (_, Lasts::AsLongAsItsRelease) | (None, _) => html! {},
        };
        parts.push((pipeline::id(stage), pipeline::stage(stage, frame.wanted, &again)));
    }
    parts.push(("releases-list".to_owned(), releases::releases(picture)));
    parts
}

/// How many releases are newer than the one that is shown.
fn newer(pipeline: &Pipeline) -> usize {
    let shown = pipeline.shown.as_ref().map(|release| &release.id);
    pipeline.releases.iter().position(|release| Some(&release.id) == shown).unwrap_or_default()
}

/// The page's title: what a person sees of it among other tabs.
pub(crate) fn title(seen: &Seen) -> String {
    let standing = match &seen.pipeline {
        Err(_) => "not readable".to_owned(),
        Ok(picture) if picture.stages.iter().any(|stage| stage.actions.iter().any(|one| one.approval.is_some())) => {
            "waits for your answer".to_owned()
        }
        Ok(picture) => picture
            .shown
            .as_ref()
            .map_or_else(|| "no release".into(), |one| one.standing.spoken().to_string().to_lowercase()),
    };
    format!("{}: {standing}", seen.application)
}

/// The whole page, with these lines in its log.
pub(crate) fn page(seen: &Seen, frame: Frame<'_>, lines: &Markup) -> Markup {
    let wanted = frame.wanted;
    let mut parts = parts(seen, frame);
    let mut take = |id: &str| match parts.iter().position(|(name, _)| name == id) {
        Some(at) => parts.remove(at).1,
        None => html! { div id=(id) {} },
    };
    let stages = match &seen.pipeline {
        Ok(picture) => picture.stages.iter().map(|stage| take(&pipeline::id(stage))).collect(),
        Err(_) => Vec::new(),
    };
    let name = seen.pipeline.as_ref().map(|picture| picture.name.clone()).unwrap_or_default();
    let body = html! {
        a.skip href="#main" { "To the release" }
        header.top {
            h1 { (seen.application) " " span.name { (name) } }
            nav aria-label="Page" {
                @for (to, said) in [("pipeline", "Pipeline"), ("services", "Services"), ("log", "Log"), ("workers", "Workers"), ("releases", "Releases"), ("records", "Records")] {
                    a href={ "#" (to) } { (said) }
                }
                @if wanted.release.is_some() { a href="./" { "Current release" } }
            }
            p #live.live { "Not live: reload to see what is new" }
        }
        // What has changed is said here; the log, which floods, says nothing by itself.
        p #status.status role="status" {}
        main #main {
            div.overview { (take("release")) (take("controls")) }
            (take("approvals"))
            section aria-labelledby="pipeline" { h2 #pipeline { "Pipeline" } ol.stages { @for stage in &stages { (stage) } } }
            section aria-labelledby="services" {
                h2 #services { "Services" }
                table role="table" {
                    thead role="rowgroup" { tr role="row" {
                        @for said in ["Service", "Version", "Traffic", "Tasks up", "Deployed by", "Deployment"] { th scope="col" role="columnheader" { (said) } }
                    } }
                    (take("services-rows"))
                }
            }
            section aria-labelledby="log" {
                div.head {
                    h2 #log { "Log" }
                    (log::filters(wanted, &seen.environments))
                    label.follow hidden { input #follow type="checkbox" checked; " Follow" }
                    a href=(wanted.link("log.txt")) { "Whole log" span.hidden { " as text" } }
                }
                div #lines role="log" aria-live="off" aria-label="Merged log of the release" tabindex="0" { (lines) }
            }
            section aria-labelledby="workers" { h2 #workers { "Workers" } (take("workers-list")) }
            section aria-labelledby="releases" { h2 #releases { "Releases" } (take("releases-list")) }
            section aria-labelledby="records" { h2 #records { "Records of releases that have ended" } (take("records-list")) }
        }
        footer { p { "Times are UTC. This page shows what AWS's own operations answer on this machine." } }
    };
    document(&Said::from(title(seen)), Some(&wanted.link("events")), &body)
}

/// A page that says one thing, and where to go on.
pub(crate) fn notice(title: &str, says: &str, back: Option<&str>) -> Markup {
    let body = html! {
        main.notice { h1 { (title) } p { (Said::from(says)) } @if let Some(back) = back { p { a href=(back) { "Back to the release" } } } }
    };
    document(&Said::from(title), None, &body)
}

/// What opens the console for who has brought the key: the browser goes on to the page by itself, from here, so that it
/// sends the cookie whichever page or program the link was opened from.
pub(crate) fn welcome() -> Markup {
    html! { (DOCTYPE) html lang="en" { head { meta charset="utf-8"; meta http-equiv="refresh" content="0; url=./"; title { "Cutover" } }
    body { p { a href="./" { "To the console" } } } } }
}

fn document(title: &Said, events: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="./icon.svg";
                link rel="stylesheet" href="./style.css";
                @if events.is_some() { script src="./script.js" defer {} }
            }
            body data-events=[events] { (body) }
        }
    }
}
