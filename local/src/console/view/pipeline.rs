//! The stages and actions of a release.

use maud::{Markup, html};

use super::{pill, took};
use crate::console::address::Wanted;
use crate::console::look::pipeline::{Action, Link, Release, Stage};
use crate::console::look::standing::Mark;
use crate::console::said::Said;

/// The part of a page that shows a stage.
pub(crate) fn id(stage: &Stage) -> String {
    format!("stage-{}", crate::console::address::encoded(stage.name.raw()))
}

/// A stage with its actions. `retry` is what stands below it when it can be retried.
pub(crate) fn stage(stage: &Stage, wanted: &Wanted, retry: &Markup) -> Markup {
    let when_open = if stage.waits_to_enter { "Waits for another release" } else { "Not begun" };
    html! {
        li.stage.(class(stage)) id=(id(stage)) {
            div.head { h3 { (stage.name) } (pill(&stage.standing, when_open)) }
            ul.actions {
                @for one in &stage.actions { li { (action(one, wanted)) } }
            }
            @if stage.can_retry { (retry) }
        }
    }
}

fn class(stage: &Stage) -> &'static str {
    match stage.standing.mark {
        Mark::Runs => "now",
        Mark::Asks => "now asked",
        Mark::Bad => "broken",
        Mark::Open => "later",
        Mark::Good | Mark::Stopped => "over",
    }
}

fn action(action: &Action, wanted: &Wanted) -> Markup {
    let has_begun = action.standing.mark != Mark::Open;
    let ended = (!matches!(action.standing.mark, Mark::Runs | Mark::Asks)).then_some(action.changed);
    html! {
        div.head {
            h4 title=(action.provider) { (action.name) }
            @if has_begun { (pill(&action.standing, "")) (took(action.began, ended)) }
            @if action.runs > 1 { span.tries { "try " (action.runs) } }
        }
        @if !action.verdict.is_empty() {
            details.verdict open {
                summary { (action.verdict.first_line().cut(300)) }
                pre { (action.verdict) }
            }
        } @else if !action.summary.is_empty() {
            p.summary { (action.summary) }
        }
        @match &action.link {
            Some(Link::Log) => p { a href={ (wanted.link("")) "#log" } { "Log" span.hidden { " of " (action.name) } } },
            Some(Link::Outside(url)) => p { a href=(url) rel="noreferrer noopener" target="_blank" {
                "Details" span.hidden { " of " (action.name) ", in a new tab" } } },
            None => {},
        }
    }
}

/// What is shown of the release as a whole.
pub(crate) fn release(release: Option<&Release>, newer: usize) -> Markup {
    html! {
        div #release {
            @match release {
                Some(release) => {
                    div.head {
                        h2 { "Release " code title=(release.id) { (short(&release.id)) } }
                        (pill(&release.standing, ""))
                        (took(release.began, release.is_over().then_some(release.changed)))
                    }
                    @if !release.message.is_empty() || !release.commit.is_empty() {
                        p.commit { code title=(release.commit) { (short(&release.commit)) } " " (release.message.cut(300)) }
                    }
                    // Of one that goes on again, why it was stopped is no news.
                    @if !release.reason.is_empty() && release.standing.word.raw() != "InProgress" { p.reason { (release.reason) } }
                    @if newer > 0 {
                        p.reason { a href="#releases" { (shared::text::count(newer, "newer release")) } " " (if newer == 1 { "is" } else { "are" }) " there." }
                    }
                },
                None => h2 { "No release yet" },
            }
        }
    }
}

/// The beginning of an id: as much of it as people compare.
pub(crate) fn short(id: &Said) -> Said {
    id.raw().chars().take(8).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::look::standing::Standing;

    fn with(change: impl FnOnce(&mut Action)) -> String {
        let mut action = Action {
            name: "Migrate".into(),
            standing: Standing::of("InProgress"),
            began: shared::Time::from_millis(1_700_000_000_000),
            changed: shared::Time::from_millis(1_700_000_042_000),
            runs: 1,
            ..Action::default()
        };
        change(&mut action);
        let one = Stage { name: "Migrate".into(), actions: vec![action], ..Stage::default() };
        stage(&one, &Wanted::default(), &html! { "RETRY" }).into_string()
    }

    #[test]
    fn an_action_says_how_it_stands_how_long_it_took_and_why_it_failed() {
        let stand = |word: &str| Standing::of(word);
        for (change, shown, hidden) in [
            (
                Box::new(|_: &mut Action| {}) as Box<dyn FnOnce(&mut Action)>,
                "data-since=\"1700000000000\">since 22:13:20</time>",
                "42 s",
            ),
            (Box::new(move |one| one.standing = stand("Succeeded")), "<span class=\"took\">42 s</span>", "data-since"),
            (Box::new(|one| one.runs = 2), "try 2", "Log"),
            (
                Box::new(|one| one.link = Some(Link::Log)),
                "<a href=\"./#log\">Log<span class=\"hidden\"> of Migrate</span></a>",
                "try",
            ),
            (
                Box::new(|one| one.link = Some(Link::Outside("https://ci.example/1?a&b".into()))),
                "href=\"https://ci.example/1?a&amp;b\" rel=\"noreferrer noopener\"",
                "#log",
            ),
            (
                Box::new(move |one| {
                    one.standing = stand("Failed");
                    one.summary = "half way".into();
                    one.verdict = "failed in <ap>\n  last line\u{1b}[2J".into();
                }),
                "<pre>failed in &lt;ap&gt;\n  last line</pre>",
                "half way",
            ),
            (
                Box::new(|one| *one = Action { name: "Later".into(), ..Action::default() }),
                "<h4 title=\"\">Later</h4></div></li>",
                "pill runs",
            ),
        ] {
            let html = with(change);
            assert!(html.contains(shown), "{shown}\n{html}");
            assert!(!html.contains(hidden), "not {hidden}\n{html}");
        }
    }

    #[test]
    fn a_stage_can_be_retried_where_aws_lets_it_and_says_what_it_waits_for() {
        let retry = html! { "RETRY" };
        let shown = |one: &Stage| stage(one, &Wanted::default(), &retry).into_string();
        let failed = Stage { standing: Standing::of("Failed"), ..Stage::default() };
        assert!(!shown(&failed).contains("RETRY"));
        assert!(shown(&Stage { can_retry: true, ..failed }).contains("RETRY"));
        assert!(shown(&Stage::default()).contains("Not begun"));
        assert!(shown(&Stage { waits_to_enter: true, ..Stage::default() }).contains("Waits for another release"));
    }
}
