//! Text for people: names that are nearly right, and lines cut to a limit.

/// The longest name, and the most names, among which a slip of the keyboard is looked for: comparing costs the product of their lengths.
const COMPARED: (usize, usize) = (64, 200);

/// How many names are named, of those that there are to choose from.
const NAMED: usize = 20;

/// The known name nearest to one that is not known, when it is near enough to be a slip of the keyboard.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (longest, most) = COMPARED;
    if unknown.len() > longest {
        return None;
    }
    let folded = unknown.to_lowercase();
    known
        .into_iter()
        .take(most)
        .filter(|name| name.len() <= longest)
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
            let mut all = known.into_iter();
            let named: Vec<_> = all.by_ref().take(NAMED).map(|name| format!("`{}`", fit(name, COMPARED.0))).collect();
            let name = fit(name, COMPARED.0);
            match (named.as_slice(), all.count()) {
                ([], _) => format!("there is no {what} `{name}`, nor any other {what}"),
                (_, 0) => format!("there is no {what} `{name}`: there is {}", named.join(", ")),
                (_, more) => format!("there is no {what} `{name}`: there is {} and {more} more", named.join(", ")),
            }
        }
    }
}

/// A text as one part of a path, or one value of a query or a form: letters, digits and `-_.~` stand for themselves.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
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

/// Of a line that rewrote itself, as progress bars do, its last state.
#[must_use]
pub fn last_state(line: &str) -> &str {
    let shows = |state: &&str| state.chars().any(|char| !char.is_control() && !char.is_whitespace());
    line.rsplit('\r').find(shows).unwrap_or_default()
}

/// A line of somebody's program, fit to stand in a sentence of ours: its last state, without escape sequences and control
/// characters.
#[must_use]
pub fn plain(line: &str) -> String {
    styled(line).into_iter().map(|part| part.text).collect()
}

/// A part of a line, which looks alike from its beginning to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The SGR parameters, such as `1;31`, of the sequence right before it; nothing else of a sequence is kept.
    pub sgr: String,
    /// What it says, without escape sequences and control characters.
    pub text: String,
}

/// The same as [`plain`] in parts, each with what the program wanted it to look like.
#[must_use]
pub fn styled(line: &str) -> Vec<Part> {
    let line = last_state(line);
    let mut parts = vec![Part { sgr: String::new(), text: String::with_capacity(line.len()) }];
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            if let Some(sgr) = skip_escape(&mut chars) {
                parts.push(Part { sgr, text: String::new() });
            }
            continue;
        }
        let Some(Part { text, .. }) = parts.last_mut() else { break };
        match char {
            // Characters that turn the direction of a line show something else than what stands there; others break it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {}
            '\u{2028}' | '\u{2029}' => text.push(' '),
            '\t' => text.push_str("    "),
            _ if char.is_control() => {}
            _ => text.push(char),
        }
    }
    parts
}

/// Skips the rest of an escape sequence: CSI (`ESC [ ... letter`), OSC (`ESC ] ... BEL` or `ESC \`), or two characters. Of a
/// CSI that says what text looks like (`ESC [ 1 ; 31 m`), the parameters come back.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    match chars.next()? {
        '[' => {
            let mut parameters = String::new();
            loop {
                match chars.next()? {
                    'm' if parameters.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')) => {
                        return Some(parameters);
                    }
                    '@'..='~' => return None,
                    char => parameters.push(char),
                }
            }
        }
        ']' => {
            while let Some(char) = chars.next() {
                if char == '\u{7}' || (char == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
            None
        }
        _ => None,
    }
}

/// The line among a program's last ones that tells a person most: the last that reads like an error, otherwise the last
/// that is finished.
///
/// Languages end differently: Python's `ValueError: ...` stands after the trace, on standard error, and what was still
/// buffered for standard output follows it; Java's root is the last `Caused by:`; Ruby's, Go's and Rust's stand first. Where
/// what happened stands on the line after, both are one.
#[must_use]
pub fn telling(lines: &[String]) -> Option<String> {
    let finished = |line: &&String| {
        let text = line.trim();
        let is_finished = !text.ends_with("...") && !text.ends_with('\u{2026}');
        text.chars().any(char::is_alphanumeric) && is_finished && !is_noise(text)
    };
    let error = (0..lines.len()).rev().find_map(|at| error_at(lines, at));
    let last = || lines.iter().rev().find(finished);
    let any = || lines.iter().rev().find(|line| !line.trim().is_empty());
    error.or_else(|| last().or_else(any).map(|line| line.trim().to_owned()))
}

/// The error that is said on this line, if one is.
fn error_at(lines: &[String], at: usize) -> Option<String> {
    let line = lines[at].trim_end();
    let next = || lines[at + 1..].iter().map(|line| line.trim()).find(|line| !line.is_empty());
    // anyhow, with the causes below, numbered when they are several; Rails, with the exception below.
    if line.trim().eq_ignore_ascii_case("caused by:") {
        let causes = lines[at + 1..].iter().map(|line| line.trim()).skip_while(|line| line.is_empty());
        let mut causes = causes.map_while(|line| {
            let (number, cause) = line.split_once(": ")?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then_some(cause)
        });
        return Some(format!("Caused by: {}", causes.by_ref().last().or_else(next)?));
    }
    // Rust says where, then what; so does Symfony (`In Connection.php line 829:`).
    let says_where = line.contains(" panicked at ") || (line.starts_with("In ") && line.contains(" line "));
    if says_where && line.ends_with(':') {
        return Some(next().map_or_else(|| line.to_owned(), |what| format!("{line} {what}")));
    }
    let is_indented = |line: &str| line.starts_with([' ', '\t']);
    if is_indented(line) || line.is_empty() || is_noise(line) {
        return None;
    }
    // Whatever Python's exception is called.
    let mut above = lines[..at].iter().rev().skip_while(|line| is_indented(line));
    let after_a_trace = above.next().is_some_and(|line| line.starts_with("Traceback (most recent call last)"));
    (after_a_trace || reads_like_an_error(line)).then(|| line.to_owned())
}

/// What tools say after the program that they ran has said what is wrong.
fn is_noise(line: &str) -> bool {
    const BEGINNINGS: [&str; 10] = [
        "npm err!",
        "npm error",
        "exit status ",
        "error command failed with exit code",
        "info visit ",
        "tasks: top =>",
        "(see full trace",
        "node.js v",
        "note: run with `rust_backtrace",
        "make: ***",
    ];
    let lower = line.trim().to_lowercase();
    BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning))
}

/// Whether a line begins, or ends, as errors do.
fn reads_like_an_error(line: &str) -> bool {
    const BEGINNINGS: [&str; 14] = [
        "error:",
        "error[",
        "fatal:",
        "fatal error:",
        "panic:",
        "failed:",
        "caused by:",
        "exception in thread",
        "unhandled exception",
        "unexpected error",
        "uncaught ",
        "php fatal error:",
        "php parse error:",
        "** (",
    ];
    const WITHIN: [&str; 8] = [
        "ERROR: ",
        "FATAL: ",
        " ERROR ",
        " FATAL ",
        "[ERROR]",
        "level=error",
        "\"level\":\"error\"",
        "failed with error: ",
    ];
    let lower = line.to_lowercase();
    if BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning)) || line.contains(" panicked at ") {
        return true;
    }
    // `ValueError: ...`, `django.db.utils.OperationalError: ...`, `PG::UndefinedColumn: ...`, `psql:1: ERROR:  ...`
    let class = line.split(": ").next().unwrap_or_default();
    let is_class = !class.is_empty()
        && class.chars().all(|char| char.is_alphanumeric() || "_.:$".contains(char))
        && ["Error", "Exception", "Fault", "Failure"].iter().any(|end| class.ends_with(end));
    // Ruby ends the line with it: `app.rb:3:in 'x': no such table (SQLite3::SQLException)`.
    let in_parentheses = line.ends_with("Error)") || line.ends_with("Exception)");
    let not_found = line.ends_with(": command not found") || line.ends_with(": not found");
    is_class || in_parentheses || not_found || WITHIN.iter().any(|part| line.contains(part))
}

/// `telling` as a sentence: "Its last line: ...", or "It said: ..." when that is not the last one.
#[must_use]
pub fn said(lines: &[String]) -> Option<String> {
    let line = telling(lines)?;
    let last = lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim());
    let begin = if last == Some(line.as_str()) { "Its last line" } else { "It said" };
    Some(format!("{begin}: {}", fit(&line, LONGEST_SAID)))
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
    fn what_is_part_of_a_path_cannot_be_another_path() {
        assert_eq!(encoded("arn:aws:lambda:x:1:function:a-b_c"), "arn%3Aaws%3Alambda%3Ax%3A1%3Afunction%3Aa-b_c");
        assert_eq!(encoded("../ü?a=b&c~d.e"), "..%2F%C3%BC%3Fa%3Db%26c~d.e");
    }

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
    fn of_thousands_of_names_some_are_named_and_of_long_ones_a_part() {
        let many: Vec<_> = (0..5000).map(|at| format!("{}{at:04}", "e".repeat(500))).collect();
        let said = unknown("environment", &"z".repeat(1000), many.iter().map(String::as_str));
        assert!(said.ends_with(" and 4980 more") && said.len() < 2000, "{said}");
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
            (&["migrated 3", "  Applying 0004..."], "It said: migrated 3"),
            (&["0 errors found", "bye"], "Its last line: bye"),
            (&["  Applying 0004...", "  "], "Its last line: Applying 0004..."),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(super::said(&lines).as_deref(), Some(said), "{lines:?}");
        }
        assert_eq!(super::said(&[String::new()]), None);
    }

    /// Endings of real programs.
    #[test]
    fn what_a_program_says_at_its_end_is_found_in_many_languages() {
        for (language, ending, said) in [
            (
                "Rust",
                "applying 003\nthread 'main' (7) panicked at src/main.rs:2:5:\nno database\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
                "thread 'main' (7) panicked at src/main.rs:2:5: no database",
            ),
            (
                "Rust, anyhow",
                "Error: migration 003 failed\n\nCaused by:\n    0: connecting to the database\n    1: Connection refused (os error 111)",
                "Caused by: Connection refused (os error 111)",
            ),
            (
                "Rust, anyhow with one cause",
                "Error: migration 003 failed\n\nCaused by:\n    duplicate column name: email\n\nStack backtrace:\n   0: shop::main",
                "Caused by: duplicate column name: email",
            ),
            (
                "Python, psycopg2",
                "Traceback (most recent call last):\n  File \"m.py\", line 3, in <module>\n    cursor.execute(sql)\npsycopg2.errors.UndefinedColumn: column \"emial\" does not exist\nLINE 1: SELECT emial FROM customers\n               ^\nHINT:  Perhaps you meant to reference the column \"email\".",
                "psycopg2.errors.UndefinedColumn: column \"emial\" does not exist",
            ),
            (
                "Python, an exception of any name",
                "Traceback (most recent call last):\n  File \"m.py\", line 3\nshop.MigrationGaveUp: order 17\n  Applying shop.0003...",
                "shop.MigrationGaveUp: order 17",
            ),
            (
                "Alembic",
                "INFO  [alembic.runtime.migration] Context impl PostgresqlImpl.\nFAILED: Can't locate revision identified by 'a1'",
                "FAILED: Can't locate revision identified by 'a1'",
            ),
            (
                "Rails",
                "rake aborted!\nStandardError: An error has occurred, this and all later migrations canceled:\n\nPG::UndefinedColumn: ERROR:  column \"x\" does not exist\n/app/db/migrate/003.rb:3:in 'change'\n\nCaused by:\nPG::UndefinedColumn: ERROR:  column \"x\" does not exist\n/app/db/migrate/003.rb:3:in 'change'\nTasks: TOP => db:migrate\n(See full trace by running task with --trace)",
                "PG::UndefinedColumn: ERROR:  column \"x\" does not exist",
            ),
            (
                "Node.js under npm",
                "/app/migrate.js:3\nthrow new Error(\"no database\")\n^\n\nError: no database\n    at Object.<anonymous> (/app/migrate.js:3:7)\n\nNode.js v20.11.0\nnpm ERR! code ELIFECYCLE\nnpm ERR! errno 1",
                "Error: no database",
            ),
            (
                "Node.js, pg, under yarn",
                "error: relation \"orders\" does not exist\n    at Parser.parseErrorMessage (parser.js:283:98)\nerror Command failed with exit code 1.\ninfo Visit https://yarnpkg.com for documentation",
                "error: relation \"orders\" does not exist",
            ),
            (
                "Go, panic",
                "panic: no database\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:5 +0x39\nexit status 2",
                "panic: no database",
            ),
            (
                "Go, log.Fatal",
                "2026/11/24 07:00:00 applying 003\n2026/11/24 07:00:01 dial tcp 10.0.0.1:5432: connect: connection refused\nexit status 1",
                "2026/11/24 07:00:01 dial tcp 10.0.0.1:5432: connect: connection refused",
            ),
            (
                "Java",
                "Exception in thread \"main\" org.flywaydb.core.api.FlywayException: 003 failed\n\tat A.b(A.java:3)\nCaused by: java.sql.SQLException: gone\n\t... 3 more",
                "Caused by: java.sql.SQLException: gone",
            ),
            (
                ".NET",
                "Unhandled exception. System.InvalidOperationException: No database\n   at Shop.Program.Main() in /app/Program.cs:line 3",
                "Unhandled exception. System.InvalidOperationException: No database",
            ),
            (
                "PHP",
                "PHP Fatal error:  Uncaught PDOException: SQLSTATE[42S22]: Column not found in /app/m.php:3\nStack trace:\n#0 {main}\n  thrown in /app/m.php on line 3",
                "PHP Fatal error:  Uncaught PDOException: SQLSTATE[42S22]: Column not found in /app/m.php:3",
            ),
            (
                "Laravel",
                "\nIn Connection.php line 829:\n\n  SQLSTATE[42S22]: Column not found: 1054 Unknown column 'x'\n",
                "In Connection.php line 829: SQLSTATE[42S22]: Column not found: 1054 Unknown column 'x'",
            ),
            (
                "Elixir",
                "** (Postgrex.Error) ERROR 42703 (undefined_column) column \"x\" does not exist\n    (ecto_sql 3.11.1) lib/ecto/adapters/sql.ex:1054",
                "** (Postgrex.Error) ERROR 42703 (undefined_column) column \"x\" does not exist",
            ),
            (
                "Log lines",
                "time=07:00 level=info msg=applying\ntime=07:01 level=error msg=\"no database\"\ntime=07:01 level=info msg=bye",
                "time=07:01 level=error msg=\"no database\"",
            ),
            ("A shell", "sh: 1: shpo: not found\nbye", "sh: 1: shpo: not found"),
            ("Make", "applied 2 of 3\nmake: *** [Makefile:3: migrate] Error 1", "applied 2 of 3"),
            ("Nothing but a bar", "10 %\r50 %\r", "50 %"),
        ] {
            let lines: Vec<_> = ending.split('\n').map(plain).collect();
            assert_eq!(telling(&lines).as_deref(), Some(said), "{language}");
        }
    }

    #[test]
    fn of_a_line_that_rewrote_itself_its_last_state_is_left() {
        for (line, state) in [("10 %\r50 %\r100 %\r", "100 %"), ("plain", "plain"), ("\r\r", ""), ("a\r  \r\u{8}", "a")]
        {
            assert_eq!(last_state(line), state);
            assert_eq!(plain(line), state);
        }
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

    #[test]
    fn of_control_sequences_only_those_that_style_are_told() {
        for (line, parts) in [
            ("a\u{1b}[1;31mb\u{1b}[mc", &[("", "a"), ("1;31", "b"), ("", "c")][..]),
            ("\u{1b}[2J\u{1b}[5Aa\u{1b}[>4;1mb", &[("", "ab")]),
            ("\u{1b}]0;\u{1b}[31mtitle\u{7}a", &[("", "a")]),
            ("\u{1b}[38:5:9ma\u{1b}[3", &[("", ""), ("38:5:9", "a")]),
        ] {
            let found: Vec<_> = styled(line).into_iter().map(|part| (part.sgr, part.text)).collect();
            let expected = parts.iter().map(|(sgr, text)| ((*sgr).to_owned(), (*text).to_owned()));
            assert_eq!(found, expected.collect::<Vec<_>>(), "{line:?}");
        }
    }
}
