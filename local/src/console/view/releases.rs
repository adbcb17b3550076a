//! The releases, the newest first, each with a page of its own. What a release leaves written down when it has ended has its place
//! here, too.

use maud::{Markup, html};

use super::pipeline::short;
use super::{clock, pill, took};
use crate::console::address::Wanted;
use crate::console::look::pipeline::Pipeline;

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
}
