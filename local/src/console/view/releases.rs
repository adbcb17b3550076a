//! The releases of this run, the newest first, each with a page of its own; and what is written down of all that have ended.

use maud::{Markup, html};
use shared::Time;

use super::pipeline::short;
use super::{clock, pill, took, trouble};
use crate::console::address::Wanted;
use crate::console::aws::Refused;
use crate::console::look::pipeline::Pipeline;
use crate::console::look::records::Recorded;

/// The list of releases.
pub(crate) fn releases(pipeline: &Pipeline) -> Markup {
    let shown = pipeline.shown.as_ref().map(|release| &release.id);
    html! {
        ol #releases-list.cards reversed {
            @for release in &pipeline.releases {
                @let wanted = Wanted { release: Some(release.id.raw().to_owned()), environment: None };
                li {
                    div.head {
                        h3 { a href=(wanted.link("")) aria-current=[(shown == Some(&release.id)).then_some("page")] {
                            span.hidden { "Release " } code { (short(&release.id)) } } }
                        (pill(&release.standing, ""))
                        (took(release.began, release.is_over().then_some(release.changed)))
                    }
                    p { "Began " (clock(release.began)) @if !release.message.is_empty() { ": " (release.message.first_line().cut(100)) } }
                    @if !release.reason.is_empty() { p.reason { (release.reason) } }
                }
            }
            @if pipeline.releases.is_empty() { li.none { "None yet." } }
        }
    }
}

/// The records, each with its timeline.
pub(crate) fn records(records: &Result<Vec<Recorded>, Refused>) -> Markup {
    html! {
        div #records-list {
            @match records {
                Err(refused) => (trouble(refused)),
                Ok(records) => {
                    ol.cards reversed {
                        @for one in records {
                            li {
                                div.head { h3 { code { (short(&one.execution)) } } (pill(&one.standing, "")) }
                                p { @if one.ended != Time::default() { "Ended " (clock(one.ended)) ": " } (one.what.first_line().cut(100)) }
                                details id={ "record-" (short(&one.execution)) } {
                                    summary { "Timeline" span.hidden { " of release " (short(&one.execution)) } }
                                    pre.row { (one.timeline) }
                                }
                            }
                        }
                        @if records.is_empty() { li.none { "None yet." } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::look::pipeline::Release;
    use crate::console::look::standing::Standing;

    #[test]
    fn each_release_leads_to_its_own_page_and_the_shown_one_says_so() {
        let one = |id: &str, word: &str| Release { id: id.into(), standing: Standing::of(word), ..Release::default() };
        let releases_ = vec![one("bbbbbbbbbbbb", "InProgress"), one("a&b", "Superseded")];
        let pipeline = Pipeline { shown: Some(releases_[0].clone()), releases: releases_, ..Pipeline::default() };
        let html = releases(&pipeline).into_string();
        for said in [
            "href=\"./?release=bbbbbbbbbbbb\" aria-current=\"page\"",
            "<code>bbbbbbbb</code>",
            "href=\"./?release=a%26b\">",
            "Superseded",
        ] {
            assert!(html.contains(said), "{said}\n{html}");
        }
    }

    #[test]
    fn a_record_is_shown_with_its_timeline_and_formats_nothing() {
        let one = Recorded {
            execution: "bbbbbbbbbbbb".into(),
            what: "4f2a9c1 <b>Sell</b> teapots".into(),
            standing: Standing::of("Succeeded"),
            ended: Time::from_millis(1_700_000_000_000),
            timeline: "p e: Succeeded\n  <script>".into(),
        };
        let html = records(&Ok(vec![one])).into_string();
        for said in ["<code>bbbbbbbb</code>", "&lt;b&gt;Sell", "details id=\"record-bbbbbbbb\"", "&lt;script&gt;"] {
            assert!(html.contains(said), "{said}\n{html}");
        }
        assert!(records(&Ok(Vec::new())).into_string().contains("None yet."));
    }
}
