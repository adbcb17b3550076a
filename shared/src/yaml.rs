//! YAML that a person wrote, read into a type, with mistakes said as a person needs them: file, line, what was wrong,
//! what was expected.

use std::fmt;

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

/// Reads `text`, the content of `file`.
///
/// # Errors
/// The first mistake in it.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Mistake> {
    if !text.lines().any(|line| !matches!(line.trim_start().chars().next(), None | Some('#'))) {
        let message = "there is nothing in it: see the examples for what belongs there".to_owned();
        return Err(Mistake { file: file.to_owned(), at: None, message });
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        if let Error::DuplicateMappingKey { key: Some(key), location, .. } = error {
            let (line, column) = (location.line(), location.column());
            return Mistake {
                file: file.to_owned(),
                at: Some((line, column)),
                message: twice(text, key, line, column),
            };
        }
        let at = error.location().map(|at| (at.line(), at.column())).filter(|(line, _)| *line > 0);
        Mistake { file: file.to_owned(), at, message: explain(error) }
    })
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
/// It cannot be read, or where it is not UTF-8.
pub fn text_of(path: &std::path::Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
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
            match said.split_once(" at line ") {
                Some((what, _)) => what.to_owned(),
                None => said,
            }
        }
    }
}
