//! What a page looks like: pure functions from what was seen to HTML.
//!
//! Invariants: everything that others wrote is a [`Said`]; a part whose state has not changed is written in the same bytes, so
//! that what is sent again is what has changed.

pub(super) mod controls;
pub(super) mod log;
pub(super) mod page;
pub(super) mod pipeline;
pub(super) mod releases;
pub(super) mod services;
pub(super) mod workers;

use maud::{Markup, html};
use shared::Time;
use shared::time::spoken;

use super::aws::Refused;
use super::look::standing::{Mark, Standing};
use super::said::Said;

impl Mark {
    /// The stylesheet's class.
    fn class(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Runs => "runs",
            Self::Asks => "asks",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Stopped => "stopped",
        }
    }

    /// A sign beside the word: colour alone tells nobody who does not see it.
    fn sign(self) -> &'static str {
        match self {
            Self::Open => "○",
            Self::Runs => "●",
            Self::Asks => "?",
            Self::Good => "✓",
            Self::Bad => "✕",
            Self::Stopped => "■",
        }
    }
}

/// "✓ Succeeded".
fn pill(standing: &Standing, when_open: &str) -> Markup {
    let word = standing.spoken();
    html! {
        span class={ "pill " (standing.mark.class()) } {
            span aria-hidden="true" { (standing.mark.sign()) } " "
            @if word.is_empty() { (when_open) } @else { (word) }
        }
    }
}

/// "42 s" of what is over. Of what goes on when it began; the page's script counts from there.
fn took(began: Time, ended: Option<Time>) -> Markup {
    html! {
        @match ended {
            Some(ended) => span.took { (spoken(ended.since(began))) },
            None => time.took datetime=(began.to_string()) data-since=(began.millis()) { "since " (clock(began)) },
        }
    }
}

/// "09:32:12", in UTC.
fn clock(at: Time) -> String {
    let whole = at.to_string();
    whole.split_once('T').map_or_else(|| whole.clone(), |(_, time)| time.trim_end_matches('Z').to_owned())
}

/// What could not be asked, in AWS's words.
fn trouble(refused: &Refused) -> Markup {
    html! { p.trouble { "This could not be read: " (Said::from(refused.message.as_str())) } }
}
