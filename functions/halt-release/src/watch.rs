//! What was seen at a look, of one list and of all.
//!
//! Invariant: what could not be looked at is not clear.

use shared::error::Kind;
use shared::{Error, Time, Trouble, Verdict};

/// What was seen at a look.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Whether anything is under way.
    pub(crate) under_way: bool,
    /// What could not be looked at or stopped, for too long: the rest was, all the same.
    pub(crate) failed: Option<Verdict>,
}

impl Looked {
    pub(crate) fn note(&mut self, looked: Result<bool, Verdict>) {
        match looked {
            Ok(under_way) => self.under_way |= under_way,
            Err(verdict) => self.failed = first(self.failed.take(), Some(verdict)),
        }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.under_way |= other.under_way;
        self.failed = first(self.failed, other.failed);
        self
    }
}

/// Which of two is spoken of: that AWS does not answer passes, and is waited for; the other is as it is then, too.
fn first(one: Option<Verdict>, other: Option<Verdict>) -> Option<Verdict> {
    let passes = |verdict: &Verdict| verdict.kind == Kind::Unavailable;
    match one {
        Some(one) if passes(&one) || !other.as_ref().is_some_and(passes) => Some(one),
        _ => other,
    }
}

/// What is known of one list. Each fails alone: while half of all calls are throttled, a look at which none fails hardly comes.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// When it was seen last that nothing of the release is under way there.
    pub(crate) clear: Option<Time>,
    trouble: Trouble,
}

impl Watch {
    /// Notes a look, with what was done; whether anything is under way there, as far as was seen.
    pub(crate) fn note(&mut self, now: Time, looked: Result<bool, Error>) -> Result<bool, Verdict> {
        let seen = self.trouble.note(now, looked)?;
        if seen == Some(false) {
            self.clear = Some(now);
        }
        Ok(seen == Some(true))
    }
}
