//! YAML that a person wrote, read into a type, with mistakes said as a person needs them: file, line, what was wrong,
//! what was expected.

use std::fmt;
use std::io::Read as _;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Spanned};

use crate::job::field_error;

/// What is wrong in a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file's name, as the person knows it.
    pub file: String,
    /// Line and column, from 1, where they are known.
    pub at: Option<(u64, u64)>,
    /// What was wrong, what was expected, and what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Mistake {}

/// The largest file that is read, in bytes: some thirty times the largest that anybody has written, and read in a second.
pub const LARGEST: usize = 1024 * 1024;

/// How many keys, values, lists and mappings a file may have.
const MOST_NODES: usize = 50_000;

/// How deep they may be nested: every level is one of the stack's.
const DEEPEST: usize = 64;

/// How many values may come of aliases (`*name`): a few hundred bytes can ask for billions.
const MOST_REPEATED: usize = 50_000;

fn bounds() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4 * MOST_NODES,
            max_nodes: MOST_NODES,
            max_depth: DEEPEST,
            max_aliases: MOST_NODES,
            max_anchors: MOST_NODES,
            max_merge_keys: MOST_NODES,
            max_recorded_anchor_events: 4 * MOST_NODES,
            max_recorded_anchor_bytes: 4 * LARGEST,
            max_total_scalar_bytes: LARGEST,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_REPEATED,
            max_replay_stack_depth: DEEPEST,
        },
    }
}

/// Whether `text` can be read at all: its size, its depth, and what its aliases make of it.
///
/// # Errors
/// What is out of bounds; other mistakes are not looked for.
pub fn within_bounds(file: &str, text: &str) -> Result<(), Mistake> {
    if text.len() > LARGEST {
        return Err(Mistake { file: file.to_owned(), at: None, message: too_large() });
    }
    match serde_saphyr::from_str_with_options::<serde::de::IgnoredAny>(text, bounds()) {
        Err(error) => match out_of_bounds(error.without_snippet()) {
            Some(message) => Err(Mistake { file: file.to_owned(), at: place(error.without_snippet()), message }),
            None => Ok(()),
        },
        Ok(_) => Ok(()),
    }
}

fn too_large() -> String {
    format!("it is larger than {} MB, as no file of this kind is: is it the right one?", LARGEST / (1024 * 1024))
}

fn out_of_bounds(error: &Error) -> Option<String> {
    use serde_saphyr::budget::BudgetBreach;
    if let Error::AliasError { error, .. } = error {
        return out_of_bounds(error);
    }
    Some(match error {
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("its aliases (`*name`) make more than {MOST_REPEATED} values of it: write out what is meant")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "it has several documents (`---`): keep one".to_owned()
        }
        Error::Budget { .. } => format!("it has more than {MOST_NODES} keys and values, as no file of this kind has"),
        // The parser's own limit, which it keeps to itself.
        _ if error.to_string().contains("recursion limit exceeded") => too_deep(),
        _ => return None,
    })
}

fn too_deep() -> String {
    format!("it is nested more than {DEEPEST} deep, as no file of this kind is")
}

fn place(error: &Error) -> Option<(u64, u64)> {
    error.location().map(|at| (at.line(), at.column())).filter(|(line, _)| *line > 0)
}

/// Reads `text`, the content of `file`.
///
/// # Errors
/// The first mistake in it.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Mistake> {
    if text.len() > LARGEST {
        return Err(Mistake { file: file.to_owned(), at: None, message: too_large() });
    }
    if !text.lines().any(|line| !matches!(line.trim_start().chars().next(), None | Some('#'))) {
        let message = "there is nothing in it: see the examples for what belongs there".to_owned();
        return Err(Mistake { file: file.to_owned(), at: None, message });
    }
    serde_saphyr::from_str_with_options(text, bounds()).map_err(|error| {
        let error = error.without_snippet();
        if let Error::DuplicateMappingKey { key: Some(key), location, .. } = error {
            let (line, column) = (location.line(), location.column());
            return Mistake {
                file: file.to_owned(),
                at: Some((line, column)),
                message: twice(text, key, line, column),
            };
        }
        let message = out_of_bounds(error).unwrap_or_else(|| explain(error));
        Mistake { file: file.to_owned(), at: place(error), message }
    })
}

/// What the parser says of text that is no YAML, with what to do where that is known: it speaks of YAML's own parts.
fn with_remedy(said: String) -> String {
    let remedies = [
        ("anchor or alias", "text that begins with `*` or `&` must be in quotes, as in `\"*/5 * * * *\"`"),
        (
            "mapping values are not allowed",
            "is it indented as the lines around it are? Text with `: ` in it must be in quotes",
        ),
        ("tabs", "indent with blanks, not with tabs"),
        ("flow sequence", "is a `]` or a comma missing?"),
        ("flow mapping", "is a `}` or a comma missing?"),
        ("block end", "is it indented as the lines around it are?"),
    ];
    let remedy = remedies.iter().find(|(words, _)| said.to_lowercase().contains(words));
    remedy.map_or(said.clone(), |(_, remedy)| format!("{said} ({remedy})"))
}

/// A mistake at a value that YAML took, but that cannot be meant.
pub fn mistake<T>(file: &str, at: &Spanned<T>, message: String) -> Mistake {
    let location = at.referenced;
    Mistake { file: file.to_owned(), at: Some((location.line(), location.column())), message }
}

/// Where a key stands that stands at this place again: on the nearest line above with the same indentation.
fn twice(text: &str, key: &str, line: u64, column: u64) -> String {
    let indent = usize::try_from(column.saturating_sub(1)).unwrap_or_default();
    let above = usize::try_from(line.saturating_sub(1)).unwrap_or_default();
    let is_it = |text: &str| {
        let (before, rest) = text.split_at_checked(indent)?;
        let rest = rest.trim_start_matches(['"', '\'']).strip_prefix(key)?;
        let ends = rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':');
        (before.trim().is_empty() && ends).then_some(())
    };
    let first = text.lines().take(above).enumerate().filter(|(_, text)| is_it(text).is_some()).last();
    match first {
        Some((at, _)) => {
            format!("`{key}` stands here for the second time; it stands on line {}, too: keep one of them", at + 1)
        }
        None => format!("`{key}` stands here for the second time: keep one of them"),
    }
}

/// Reads a file as text; what a person wrote must be UTF-8.
///
/// # Errors
/// It cannot be read, is larger than [`LARGEST`], or where it is not UTF-8.
pub fn text_of(path: &std::path::Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    // Not what the system says of its size: that of a device or a pipe is 0.
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > LARGEST {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("it is not UTF-8: the first byte that cannot be read is on line {line}. Save it as UTF-8")
    })
}

fn explain(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let expected: Vec<_> = expected.iter().map(|name| format!("`{name}`")).collect();
            field_error(&format!("unknown field `{field}`, expected one of {}", expected.join(", ")))
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::InvalidScalar { ty, .. } => match *ty {
            "u16" => "a whole number from 0 to 65535 is expected".into(),
            "u32" | "u64" | "usize" => "a whole number is expected".into(),
            _ => format!("{ty} is expected"),
        },
        // The location stands in front already.
        _ => {
            let said = error.to_string();
            with_remedy(match said.split_once(" at line ") {
                Some((what, _)) => what.to_owned(),
                None => said,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What `levels` of nine aliases each make: nine to the power of `levels`.
    fn multiplying(levels: usize) -> String {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..levels {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(", ")));
        }
        text
    }

    #[test]
    fn what_would_take_all_memory_or_the_stack_is_refused_in_words() {
        let many: String = (0..60_000).map(|n| format!("k{n}: v\n")).collect();
        for (text, said) in [
            (multiplying(9), "its aliases (`*name`) make more than 50000 values of it: write out what is meant"),
            ("[".repeat(2000), "it is nested more than 64 deep, as no file of this kind is"),
            ("- ".repeat(2000), "it is nested more than 64 deep, as no file of this kind is"),
            (many, "it has more than 50000 keys and values, as no file of this kind has"),
            ("a".repeat(LARGEST + 1), "it is larger than 1 MB, as no file of this kind is: is it the right one?"),
        ] {
            let mistake = read::<Value>("f", &text).unwrap_err();
            assert_eq!(mistake.message, said, "{}", &text[..40]);
            assert_eq!(within_bounds("f", &text).unwrap_err().message, said);
        }
        for (text, remedy) in [
            ("cron: * * * * *", "must be in quotes"),
            ("a:\n\tb: 1", "indent with blanks"),
            ("a: b: c", "must be in quotes"),
        ] {
            let said = read::<Value>("f", text).unwrap_err().message;
            assert!(said.contains(remedy), "{text}: {said}");
        }
        assert_eq!(within_bounds("f", "a: &b [1]\nc: *b\nd: ["), Ok(()), "other mistakes are others' affair");
        assert!(read::<Value>("f", &multiplying(4)).is_ok());
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_its_end() {
        let said = text_of(std::path::Path::new("/dev/zero")).unwrap_err();
        assert!(said.starts_with("it is larger than 1 MB"), "{said}");
    }
}
