//! What CodePipeline is told of a job, once.

use crate::error::Verdict;

/// The one answer to a job.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// In progress: the next job goes on with this token.
    Continue {
        /// The sealed envelope.
        token: String,
        /// How far it is.
        progress: Progress,
    },
    /// Done.
    Succeeded(Success),
    /// Failed.
    Failed(Verdict),
}

impl Answer {
    /// For logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Continue { .. } => "continue",
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
        }
    }

    /// What a person will read.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Continue { progress, .. } => &progress.summary,
            Self::Succeeded(success) => &success.summary,
            Self::Failed(verdict) => &verdict.message,
        }
    }
}

/// What the console shows of an action under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How far it is, in a sentence.
    pub summary: String,
    /// How far it is, in percent.
    pub percent: Option<u8>,
    /// What the action's link is made of (fact 7).
    pub link: Option<String>,
}

/// How an action ends well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Success {
    /// What was done, in a sentence.
    pub summary: String,
    /// The action's output variables.
    pub variables: Vec<(&'static str, String)>,
    /// What the action's link is made of (fact 7).
    pub link: Option<String>,
}
