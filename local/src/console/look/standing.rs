//! How something stands, in AWS's words and in one of a few marks.

use serde::{Deserialize, Deserializer};

use super::super::said::Said;

/// What a state means to who watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It has not begun, or it is not known what its state means.
    #[default]
    Open,
    /// It is under way.
    Runs,
    /// It waits for somebody.
    Asks,
    /// It is done.
    Good,
    /// It has failed.
    Bad,
    /// It was stopped, skipped or taken back.
    Stopped,
}

/// How something stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What that means.
    pub(crate) mark: Mark,
    /// AWS's word for it.
    pub(crate) word: Said,
}

impl Standing {
    /// What AWS's word means. One that is not known here is shown as it is.
    pub(crate) fn of(word: &str) -> Self {
        let mark = match word {
            "InProgress"
            | "Stopping"
            | "Created"
            | "Queued"
            | "Baking"
            | "IN_PROGRESS"
            | "STOP_REQUESTED"
            | "ROLLBACK_REQUESTED"
            | "ROLLBACK_IN_PROGRESS"
            | "RUNNING" => Mark::Runs,
            "Ready" | "AWAITING_ACTION" => Mark::Asks,
            "Succeeded" | "SUCCESSFUL" | "SUCCEEDED" => Mark::Good,
            "Failed" | "FAILED" | "ROLLBACK_FAILED" | "TIMED_OUT" => Mark::Bad,
            "Stopped" | "Abandoned" | "Superseded" | "Cancelled" | "Skipped" | "STOPPED" | "ROLLBACK_SUCCESSFUL" => {
                Mark::Stopped
            }
            _ => Mark::Open,
        };
        Self { mark, word: word.into() }
    }

    /// The word as people write it: `InProgress` and `IN_PROGRESS` are "In progress".
    pub(crate) fn spoken(&self) -> Said {
        spoken(self.word.raw())
    }
}

/// A name of AWS's as people write it.
pub(crate) fn spoken(word: &str) -> Said {
    let mut out = String::with_capacity(word.len() + 4);
    let is_loud = !word.bytes().any(|byte| byte.is_ascii_lowercase());
    for char in word.chars() {
        match char {
            '_' => out.push(' '),
            _ if out.is_empty() => out.extend(char.to_uppercase()),
            _ if is_loud => out.extend(char.to_lowercase()),
            _ if char.is_uppercase() && !out.ends_with(' ') => {
                out.push(' ');
                out.extend(char.to_lowercase());
            }
            _ => out.push(char),
        }
    }
    out.into()
}

impl<'de> Deserialize<'de> for Standing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(|word| Self::of(&word)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_in_words_and_one_that_is_not_known_as_it_is() {
        for (word, mark, said) in [
            ("InProgress", Mark::Runs, "In progress"),
            ("ROLLBACK_SUCCESSFUL", Mark::Stopped, "Rollback successful"),
            ("Failed", Mark::Bad, "Failed"),
            ("Ready", Mark::Asks, "Ready"),
            ("FROM_TOMORROW", Mark::Open, "From tomorrow"),
            ("", Mark::Open, ""),
        ] {
            let standing = Standing::of(word);
            assert_eq!((standing.mark, standing.spoken().raw()), (mark, said), "{word}");
        }
        assert_eq!(spoken("BeforeAllowTraffic").raw(), "Before allow traffic");
    }
}
