//! Text for people: names that are nearly right, and lines cut to a limit.

/// The known name nearest to one that is not known, when it is near enough to be a slip of the keyboard.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = unknown.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// "no task `x`; did you mean `y`?", or what there is to choose from.
pub fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("there is no {what} `{name}`: did you mean `{near}`?"),
        None => {
            let all: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
            match all.as_slice() {
                [] => format!("there is no {what} `{name}`, nor any other {what}"),
                _ => format!("there is no {what} `{name}`: there is {}", all.join(", ")),
            }
        }
    }
}

/// `text` in at most `most` characters, cut in the middle: what began it and what ended it both stay.
#[must_use]
pub fn fit(text: &str, most: usize) -> String {
    const CUT: &str = " ... ";
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let keep = most.saturating_sub(CUT.len());
    let head = keep.div_ceil(2);
    let tail = keep - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    if keep == 0 { text.chars().take(most).collect() } else { format!("{start}{CUT}{end}") }
}

/// A line of somebody's program, fit to stand in a sentence of ours: no escape sequences, no control characters.
#[must_use]
pub fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            // Characters that turn the direction of a line show something else than what stands there; others break it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {}
            '\u{2028}' | '\u{2029}' => text.push(' '),
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => text.push_str("    "),
            _ if char.is_control() => {}
            _ => text.push(char),
        }
    }
    text
}

/// Skips the rest of an escape sequence: CSI (`ESC [ ... letter`), OSC (`ESC ] ... BEL` or `ESC \`), or two characters.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|char| !('@'..='~').contains(&char)) {},
        Some(']') => {
            while let Some(char) = chars.next() {
                if char == '\u{7}' || (char == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

/// The line among a program's last ones that tells a person most: the last that reads like an error, otherwise the last
/// that is finished.
///
/// Languages end differently: Python's `ValueError: ...` stands after the trace, on standard error, and what was still
/// buffered for standard output follows it; Java's root is the last `Caused by:`; Ruby's, Go's and Rust's stand first.
#[must_use]
pub fn telling(lines: &[String]) -> Option<&str> {
    let finished = |line: &&String| {
        let text = line.trim();
        text.chars().any(char::is_alphanumeric) && !text.ends_with("...") && !text.ends_with('\u{2026}')
    };
    let is_error = |line: &&String| reads_like_an_error(line);
    let found = lines.iter().rev().find(is_error).or_else(|| lines.iter().rev().find(finished));
    found.or_else(|| lines.iter().rev().find(|line| !line.trim().is_empty())).map(|line| line.trim())
}

/// Whether a line begins as errors do.
fn reads_like_an_error(line: &str) -> bool {
    const BEGINNINGS: [&str; 7] =
        ["error:", "error[", "fatal:", "panic:", "caused by:", "exception in thread", "npm err!"];
    // A trace's own lines are indented.
    if line.starts_with([' ', '\t']) {
        return false;
    }
    let lower = line.to_lowercase();
    if BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning)) || lower.contains(" panicked at ") {
        return true;
    }
    // `ValueError: ...`, `django.db.utils.OperationalError: ...`, `PG::UndefinedColumn: ...`, `psql:1: ERROR:  ...`
    let class = line.split(": ").next().unwrap_or_default();
    let is_class = !class.is_empty()
        && class.chars().all(|char| char.is_alphanumeric() || "_.:$".contains(char))
        && ["Error", "Exception", "Fault", "Failure"].iter().any(|end| class.ends_with(end));
    // Ruby ends the line with it: `app.rb:3:in 'x': no such table (SQLite3::SQLException)`.
    let in_parentheses = line.ends_with("Error)") || line.ends_with("Exception)");
    is_class || in_parentheses || line.contains("ERROR: ") || line.contains("FATAL: ")
}

/// `telling` as a sentence: "Its last line: ...", or "It said: ..." when that is not the last one.
#[must_use]
pub fn said(lines: &[String]) -> Option<String> {
    let line = telling(lines)?;
    let last = lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim());
    let begin = if last == Some(line) { "Its last line" } else { "It said" };
    Some(format!("{begin}: {}", fit(line, LONGEST_SAID)))
}

/// The longest line in a sentence.
const LONGEST_SAID: usize = 160;

/// "1 task", "3 tasks".
#[must_use]
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_finds_the_name_that_was_meant() {
        let known = ["region", "cluster", "subnets"];
        for (typed, meant) in
            [("regoin", Some("region")), ("Cluster", Some("cluster")), ("subnet", Some("subnets")), ("colour", None)]
        {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let cut = fit(&format!("start{}end", "-".repeat(100)), 30);
        assert_eq!(cut.chars().count(), 30);
        assert!(cut.starts_with("start") && cut.ends_with("end"), "{cut}");
        assert_eq!(fit("short", 30), "short");
        assert_eq!(fit("abcdef", 3), "abc");
    }

    #[test]
    fn of_a_programs_last_lines_the_one_that_tells_most_is_quoted() {
        for (lines, said) in [
            (
                &[
                    "Traceback (most recent call last):",
                    "  File \"m.py\", line 3",
                    "ValueError: order 17 has the negative quantity -3",
                    "Operations to perform:",
                    "  Applying shop.0003_close_old_orders...",
                ][..],
                "It said: ValueError: order 17 has the negative quantity -3",
            ),
            (&["applying 003", "error: 003: duplicate column"], "Its last line: error: 003: duplicate column"),
            (
                &["psql:2: ERROR:  relation does not exist", "", "done"],
                "It said: psql:2: ERROR:  relation does not exist",
            ),
            (
                &["app.rb:3:in 'x': no such table (SQLite3::SQLException)", "\tfrom app.rb:9"],
                "It said: app.rb:3:in 'x': no such table (SQLite3::SQLException)",
            ),
            (
                &["Exception in thread \"main\" x", "\tat A.b", "Caused by: java.io.IOException: gone", "\t... 3 more"],
                "It said: Caused by: java.io.IOException: gone",
            ),
            (
                &["thread 'main' panicked at src/main.rs:2:5:", "no database"],
                "It said: thread 'main' panicked at src/main.rs:2:5:",
            ),
            (&["migrated 3", "  Applying 0004..."], "It said: migrated 3"),
            (&["0 errors found", "bye"], "Its last line: bye"),
            (&["  Applying 0004...", "  "], "Its last line: Applying 0004..."),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(super::said(&lines).as_deref(), Some(said), "{lines:?}");
        }
        assert_eq!(super::said(&[String::new()]), None);
    }

    #[test]
    fn control_sequences_do_not_reach_a_sentence() {
        for (line, said) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("bell\u{7} and\ttab\r", "bell and    tab"),
            ("cut \u{1b}[3", "cut "),
            ("\u{9b}2Jc1 \u{202e}txt.exe\u{200f} a\u{2028}b", "2Jc1 txt.exe a b"),
        ] {
            assert_eq!(plain(line), said);
        }
    }
}
