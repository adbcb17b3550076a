//! What has changed since a page was told last, as server-sent events.
//!
//! Invariant: an event says what is, not what happened: a page that comes back after a while is told everything again, and is
//! right again.

use std::collections::BTreeMap;

use maud::Markup;
use serde_json::json;

use super::look::Seen;
use super::look::pipeline::{Pipeline, Release};
use super::look::standing::Mark;

/// One event, in the words of the protocol.
pub(super) fn event(name: &str, data: &serde_json::Value) -> String {
    // JSON has no line breaks of its own, which would end the event.
    format!("event: {name}\ndata: {data}\n\n")
}

/// The parts that a page has.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeMap<String, String>);

impl Sent {
    /// The events that bring a page up to date.
    pub(super) fn changes(&mut self, parts: Vec<(String, Markup)>) -> Vec<String> {
        let mut events = Vec::new();
        for (id, html) in parts {
            let html = html.into_string();
            if self.0.get(&id) != Some(&html) {
                events.push(event("part", &json!({"id": id, "html": html})));
                self.0.insert(id, html);
            }
        }
        events
    }
}

/// What somebody who does not see the page should hear of: how states have changed, and who is waited for.
pub(super) fn news(before: Option<&Seen>, now: &Seen) -> Vec<String> {
    let (Some(Ok(before)), Ok(now)) = (before.map(|seen| &seen.pipeline), &now.pipeline) else { return Vec::new() };
    let id = |pipeline: &Pipeline| pipeline.shown.as_ref().map(|release: &Release| release.id.clone());
    let mut news = Vec::new();
    let is_same = id(before) == id(now);
    if !is_same && now.shown.is_some() {
        news.push("Another release is shown".to_owned());
    }
    for (at, stage) in now.stages.iter().enumerate() {
        for (place, action) in stage.actions.iter().enumerate() {
            let known = before.stages.get(at).and_then(|stage| stage.actions.get(place)).filter(|_| is_same);
            let mark = action.standing.mark;
            if mark == Mark::Open
                || known.is_some_and(|known| known.standing == action.standing && known.runs == action.runs)
            {
                continue;
            }
            let name = format!("{}/{}", stage.name, action.name);
            news.push(match mark {
                Mark::Asks => format!("{name} waits for your answer"),
                Mark::Runs => format!("{name} has begun"),
                Mark::Good | Mark::Bad | Mark::Stopped | Mark::Open => {
                    format!("{name}: {}", action.standing.spoken().to_string().to_lowercase())
                }
            });
        }
    }
    if let Some(release) = now.shown.as_ref().filter(|_| is_same)
        && before.shown.as_ref().is_some_and(|known| known.standing != release.standing)
    {
        news.push(format!("The release: {}", release.standing.spoken().to_string().to_lowercase()));
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::look::pipeline::{Action, Stage};
    use crate::console::look::standing::Standing;
    use maud::html;

    fn seen(release: &str, stands: &str, action: &str, mark: Option<Mark>) -> Seen {
        let mut standing = Standing::of(action);
        standing.mark = mark.unwrap_or(standing.mark);
        let action = Action { name: "A".into(), standing, runs: 1, ..Action::default() };
        let stage = Stage { name: "S".into(), actions: vec![action], ..Stage::default() };
        let shown = Some(Release { id: release.into(), standing: Standing::of(stands), ..Release::default() });
        let pipeline = Pipeline { shown, stages: vec![stage], ..Pipeline::default() };
        Seen {
            application: "shop".into(),
            environments: Vec::new(),
            pipeline: Ok(pipeline),
            services: Vec::new(),
            workers: Ok(Vec::new()),
            records: Ok(Vec::new()),
        }
    }

    #[test]
    fn only_what_has_changed_is_sent() {
        let mut sent = Sent::default();
        let parts = |one: &str, two: &str| vec![("a".to_owned(), html! { (one) }), ("b".to_owned(), html! { (two) })];
        assert_eq!(sent.changes(parts("1", "2")).len(), 2, "at first everything");
        assert!(sent.changes(parts("1", "2")).is_empty());
        assert_eq!(sent.changes(parts("1", "3\n")), ["event: part\ndata: {\"html\":\"3\\n\",\"id\":\"b\"}\n\n"]);
    }

    #[test]
    fn who_does_not_see_the_page_hears_of_changes_and_of_nothing_else() {
        let runs = seen("r", "InProgress", "InProgress", None);
        for (before, now, said) in [
            (None, runs.clone(), &[][..]),
            (Some(runs.clone()), runs.clone(), &[]),
            (Some(seen("r", "InProgress", "", None)), runs.clone(), &["S/A has begun"]),
            (
                Some(runs.clone()),
                seen("r", "InProgress", "InProgress", Some(Mark::Asks)),
                &["S/A waits for your answer"],
            ),
            (Some(runs.clone()), seen("r", "Failed", "Failed", None), &["S/A: failed", "The release: failed"]),
            (
                Some(runs.clone()),
                seen("other", "InProgress", "InProgress", None),
                &["Another release is shown", "S/A has begun"],
            ),
        ] {
            assert_eq!(news(before.as_ref(), &now), said);
        }
    }
}
