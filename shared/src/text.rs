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
    fn control_sequences_do_not_reach_a_sentence() {
        for (line, said) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("bell\u{7} and\ttab\r", "bell and    tab"),
            ("cut \u{1b}[3", "cut "),
        ] {
            assert_eq!(plain(line), said);
        }
    }
}
