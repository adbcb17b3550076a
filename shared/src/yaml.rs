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
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let at = error.location().map(|at| (at.line(), at.column())).filter(|(line, _)| *line > 0);
        Mistake { file: file.to_owned(), at, message: explain(error) }
    })
}

/// A mistake at a value that YAML took, but that cannot be meant.
pub fn mistake<T>(file: &str, at: &Spanned<T>, message: String) -> Mistake {
    let location = at.referenced;
    Mistake { file: file.to_owned(), at: Some((location.line(), location.column())), message }
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
