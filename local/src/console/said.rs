//! The door for words: whatever others wrote (commit messages, log lines, names, verdicts) comes into a page through here. It
//! can neither format, nor address, nor move anything, nor turn a line round.
//!
//! Invariant: what a [`Said`] renders is text without control characters, and every character that means something in HTML is
//! escaped; of escape sequences nothing is left but which of the stylesheet's own classes a part of a line has.

use std::fmt;

use maud::{Escaper, Markup, Render, html};
use serde::{Deserialize, Deserializer};
use shared::text;

/// Words that somebody else wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Said(String);

impl Said {
    /// The words as they came: to compare with, to ask AWS with, and for nothing else.
    pub(crate) fn raw(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most so many characters, the rest cut out of the middle.
    pub(crate) fn cut(&self, most: usize) -> Self {
        Self(text::fit(&text::plain(&self.0), most))
    }

    pub(crate) fn first_line(&self) -> Self {
        Self(self.0.lines().next().unwrap_or_default().to_owned())
    }
}

impl From<&str> for Said {
    fn from(words: &str) -> Self {
        Self(words.to_owned())
    }
}

impl From<String> for Said {
    fn from(words: String) -> Self {
        Self(words)
    }
}

impl<'de> Deserialize<'de> for Said {
    /// AWS leaves out what it does not know, or says null.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// Plain, its lines as lines.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.0.lines().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&text::plain(line))?;
        }
        Ok(())
    }
}

impl Render for Said {
    fn render_to(&self, buffer: &mut String) {
        use fmt::Write as _;
        // Writing into a string does not fail.
        let _ = write!(Escaper::new(buffer), "{self}");
    }
}

/// The longest line that a page shows; the log as text has all of it.
const LONGEST_LINE: usize = 4000;

/// A line of a program, in the colours that it asked for.
pub(crate) fn coloured(line: &Said) -> Markup {
    let mut style = Style::default();
    let mut left = LONGEST_LINE;
    html! {
        @for part in text::styled(line.raw()) {
            @let classes = { style.take(&part.sgr); style.classes() };
            @let length = part.text.chars().count();
            // Plain already, blanks and all.
            @let shown = if length > left { part.text.chars().take(left).collect() } else { part.text };
            @let cut = { let cut = length > left && left > 0; left = left.saturating_sub(length); cut };
            @if shown.is_empty() {
            } @else if classes.is_empty() {
                (shown)
            } @else {
                span class=(classes.join(" ")) { (shown) }
            }
            @if cut { span.dim { " … (cut here)" } }
        }
    }
}

/// What a terminal would make of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    dim: bool,
    italic: bool,
    underlined: bool,
    front: Option<u8>,
    back: Option<u8>,
}

/// The stylesheet's classes for the sixteen colours of a terminal.
const FRONT: [&str; 16] =
    ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15"];
/// The same of what is behind the text.
const BACK: [&str; 16] =
    ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "b10", "b11", "b12", "b13", "b14", "b15"];

impl Style {
    /// Takes SGR parameters in. What is not known here changes nothing.
    fn take(&mut self, sgr: &str) {
        // A part at the beginning of the line has none, and `ESC [ m` has one that is empty: both begin anew.
        let mut codes =
            sgr.split([';', ':']).map(|code| if code.is_empty() { Some(0) } else { code.parse::<u16>().ok() });
        while let Some(code) = codes.next() {
            match code {
                Some(0) => *self = Self::default(),
                Some(1) => self.bold = true,
                Some(2) => self.dim = true,
                Some(3) => self.italic = true,
                Some(4) => self.underlined = true,
                Some(22) => (self.bold, self.dim) = (false, false),
                Some(23) => self.italic = false,
                Some(24) => self.underlined = false,
                Some(code @ 30..=37) => self.front = place(code, 30),
                Some(38) => self.front = one_of_many(&mut codes).or(self.front),
                Some(39) => self.front = None,
                Some(code @ 40..=47) => self.back = place(code, 40),
                Some(48) => self.back = one_of_many(&mut codes).or(self.back),
                Some(49) => self.back = None,
                Some(code @ 90..=97) => self.front = place(code, 82),
                Some(code @ 100..=107) => self.back = place(code, 92),
                Some(_) | None => {}
            }
        }
    }

    fn classes(self) -> Vec<&'static str> {
        let flags = [(self.bold, "bold"), (self.dim, "dim"), (self.italic, "italic"), (self.underlined, "underlined")];
        let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, class)| class);
        let front = self.front.and_then(|at| FRONT.get(usize::from(at))).copied();
        let back = self.back.and_then(|at| BACK.get(usize::from(at))).copied();
        flags.chain(front).chain(back).collect()
    }
}

fn place(code: u16, first: u16) -> Option<u8> {
    u8::try_from(code - first).ok()
}

/// The rest of `38;5;n` or `38;2;r;g;b`: the nearest of the sixteen colours that a page has, so that they can be read on light and
/// dark.
fn one_of_many(codes: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    let mut next = || codes.next().flatten();
    let (red, green, blue) = match next()? {
        5 => match next()? {
            base @ 0..16 => return u8::try_from(base).ok(),
            cube @ 16..232 => {
                let level = |step: u16| if step == 0 { 0 } else { 55 + 40 * step };
                let cube = cube - 16;
                (level(cube / 36), level(cube / 6 % 6), level(cube % 6))
            }
            grey @ 232..256 => (8 + 10 * (grey - 232), 8 + 10 * (grey - 232), 8 + 10 * (grey - 232)),
            _ => return None,
        },
        2 => (next()?.min(255), next()?.min(255), next()?.min(255)),
        _ => return None,
    };
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most < 48 {
        return Some(0);
    }
    if most - least < 32 {
        return Some(if most > 200 {
            15
        } else if most > 120 {
            7
        } else {
            8
        });
    }
    let middle = (most + least) / 2;
    let bit = |level: u16, bit: u8| if level > middle { bit } else { 0 };
    Some(bit(red, 1) + bit(green, 2) + bit(blue, 4) + if most > 200 { 8 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_nothing_else() {
        for (said, shown) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onmouseover=\"x", "&quot; onmouseover=&quot;x"),
            ("a & b", "a &amp; b"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}5A\u{202e}txt\0", "5Atxt"),
            ("one\r\ntwo\u{7}", "one\ntwo"),
            ("\u{1b}]8;;javascript:x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
        ] {
            assert_eq!(html! { (Said::from(said)) }.into_string(), shown, "{said:?}");
            let in_an_attribute = html! { i title=(Said::from(said)) {} }.into_string();
            assert_eq!(in_an_attribute, format!("<i title=\"{shown}\"></i>"));
        }
    }

    #[test]
    fn of_what_a_line_should_look_like_only_our_own_classes_are_taken() {
        for (line, shown) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m, then not", "<span class=\"f1\">red</span>, then not"),
            (
                "\u{1b}[1m\u{1b}[92mboth\u{1b}[22mone\u{1b}[m.",
                "<span class=\"bold f10\">both</span><span class=\"f10\">one</span>.",
            ),
            (
                "\u{1b}[38;5;196mcube\u{1b}[39m \u{1b}[48;2;0;0;200mback",
                "<span class=\"f9\">cube</span> <span class=\"b4\">back</span>",
            ),
            ("\u{1b}[38:5:9mcolons", "<span class=\"f9\">colons</span>"),
            ("\u{1b}[38;5;999;7;8;53mnothing known", "nothing known"),
            ("\u{1b}[31<b>\u{1b}[31;\"x\"mquoted", "&gt;&quot;mquoted"),
            ("\u{1b}[99999999999999mx\u{1b}[2J\u{1b}[10;10Hy", "xy"),
            ("\u{1b}[31m<b>\u{1b}[m", "<span class=\"f1\">&lt;b&gt;</span>"),
            ("10 %\r\u{1b}[32m100 %", "<span class=\"f2\">100 %</span>"),
        ] {
            assert_eq!(coloured(&Said::from(line)).into_string(), shown, "{line:?}");
        }
        let long = coloured(&Said::from("x".repeat(5000))).into_string();
        assert!(long.len() < 4100 && long.ends_with("… (cut here)</span>"), "{}", long.len());
    }
}
