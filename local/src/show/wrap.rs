//! Lines that are longer than a terminal is wide, broken between words.

/// How far what follows of a line stands in.
const HANGING: usize = 4;

/// A line broken so; what follows its first part stands in that far.
pub(super) fn hanging(line: &str, width: usize, hang: usize) -> String {
    wrapped_line(line, width, |_| hang)
}

/// The same text with each line broken between words where it would pass `width`; what is one word, such as a link, stays whole.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    text.lines().map(|line| wrapped_line(line, width, |indent| indent + HANGING)).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, width: usize, hang: impl Fn(usize) -> usize) -> String {
    let long = |text: &str| console::measure_text_width(text);
    if long(line) <= width {
        return line.to_owned();
    }
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    let (mut done, mut own) = (String::new(), " ".repeat(indent));
    for word in text.split(' ') {
        let is_first = own.trim_start_matches(' ').is_empty();
        if !is_first && long(&own) + 1 + long(word) > width {
            done.push_str(own.trim_end());
            done.push('\n');
            own = format!("{}{word}", " ".repeat(hang(indent)));
        } else {
            if !is_first {
                own.push(' ');
            }
            own.push_str(word);
        }
    }
    done + own.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_broken_between_words_and_what_follows_stands_in() {
        for (line, width, expected) in [
            ("short enough", 20, "short enough"),
            ("us/web: its group waits at Ready", 20, "us/web: its group\n    waits at Ready"),
            ("  x  two  columns and more", 14, "  x  two\n      columns\n      and more"),
            ("https://example.com/a/very/long/link", 10, "https://example.com/a/very/long/link"),
            ("see https://example.com/a/link now", 12, "see\n    https://example.com/a/link\n    now"),
            ("äöü äöü äöü", 7, "äöü äöü\n    äöü"),
            ("one\ntwo", 3, "one\ntwo"),
            ("", 3, ""),
        ] {
            assert_eq!(wrapped(line, width), expected, "{line}");
        }
    }

    #[test]
    fn what_is_coloured_is_as_wide_as_it_looks() {
        let line = "\u{1b}[2m  0:09\u{1b}[0m \u{1b}[31mx\u{1b}[0m Migrate failed in ap";
        let broken = hanging(line, 20, 9);
        assert_eq!(console::strip_ansi_codes(&broken), "  0:09 x Migrate\n         failed in\n         ap");
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_but_what_is_one_word() {
        let line =
            "us/migrate: the task definition shop-task is for x86_64, and the image will be built for arm64: set it "
                .repeat(5);
        for width in [40, 60, 80] {
            let text = wrapped(&line, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert_eq!(text.split_whitespace().collect::<Vec<_>>(), line.split_whitespace().collect::<Vec<_>>());
        }
    }
}
