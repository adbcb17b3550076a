//! The merged log.

use maud::{Markup, html};
use shared::Time;

use crate::console::address::Wanted;
use crate::console::look::log::Line;
use crate::console::said::{Said, coloured};

/// How many lines a page has at the most; the script keeps to it, too.
pub(crate) const MOST: usize = 2000;

/// Whose log it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of<'a> {
    /// When the release began: lines are told from there, as on the terminal.
    pub(crate) began: Time,
    /// The environments, in the manifest's order.
    pub(crate) environments: &'a [String],
}

/// Lines, each with its time and its environment in front.
pub(crate) fn lines(lines: &[Line], of: Of<'_>) -> Markup {
    html! { @for line in lines { (one(line, of)) } }
}

fn one(line: &Line, of: Of<'_>) -> Markup {
    let (environment, rest) = line.parts(of.environments);
    let seconds = line.at.since(of.began).as_secs();
    html! {
        div.row {
            span.at title=(line.at.to_string()) { (format!("{:>3}:{:02}", seconds / 60, seconds % 60)) } " "
            @if let Some(environment) = environment {
                span class={ "env e" (place(environment, of.environments)) } { (Said::from(environment)) } " "
            }
            span.text { (coloured(&Said::from(rest))) }
        }
    }
}

/// Which of the stylesheet's colours an environment has.
fn place(environment: &str, environments: &[String]) -> usize {
    environments.iter().position(|name| name == environment).unwrap_or_default() % 6
}

/// What says that there is more than is shown.
pub(crate) fn more() -> Markup {
    html! { div.row.more { "Earlier lines are in the whole log." } }
}

/// Which lines are shown, and where all of them are.
pub(crate) fn filters(wanted: &Wanted, environments: &[String]) -> Markup {
    let to = |environment: Option<&str>| format!("{}#log", wanted.in_environment(environment).link(""));
    let is = |environment: Option<&str>| (wanted.environment.as_deref() == environment).then_some("true");
    html! {
        nav.filters aria-label="Lines of" {
            a href=(to(None)) aria-current=[is(None)] { "All" }
            @for name in environments {
                a class={ "env e" (place(name, environments)) } href=(to(Some(name))) aria-current=[is(Some(name))] { (Said::from(name.as_str())) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_its_environment_and_its_own_colours() {
        let environments = ["us".to_owned(), "eu".to_owned()];
        let of = Of { began: Time::from_millis(1000), environments: &environments };
        for (message, shown) in [
            (
                "eu | \u{1b}[31mfailed\u{1b}[0m <b>",
                "<span class=\"env e1\">eu</span> <span class=\"text\"><span class=\"f1\">failed</span> &lt;b&gt;</span>",
            ),
            ("us web    | ready", "<span class=\"env e0\">us</span> <span class=\"text\">web    | ready</span>"),
            ("notify | told", "</span> <span class=\"text\">notify | told</span>"),
        ] {
            let html = lines(&[Line::new(63_000, message)], of).into_string();
            assert!(html.contains(shown) && html.contains(">  1:02</span>"), "{shown}\n{html}");
        }
    }

    #[test]
    fn the_filter_says_which_lines_are_shown() {
        let wanted = Wanted { release: Some("r".into()), environment: Some("eu".into()) };
        let html = filters(&wanted, &["us".into(), "eu".into()]).into_string();
        for said in [
            "href=\"./?release=r#log\">All",
            "href=\"./?release=r&amp;environment=eu#log\" aria-current=\"true\">eu",
            "environment=us#log\">us",
        ] {
            assert!(html.contains(said), "{said}\n{html}");
        }
    }
}
