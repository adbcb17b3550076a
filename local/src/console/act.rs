//! What a form asks for, as the operation of AWS's that everybody would call for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::aws::{Aws, Refused, Service};
use super::view::controls::Lasts;

/// What a form has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    operation: &'static str,
    input: Value,
    /// What to say when it was taken.
    pub(super) done: String,
}

/// The longest comment that CodePipeline takes with an approval.
const LONGEST_COMMENT: usize = 512;
/// The longest reason that CodePipeline takes with a stop.
const LONGEST_REASON: usize = 200;

impl Act {
    /// Reads a form.
    ///
    /// # Errors
    /// What is not asked for here, or not so.
    pub(super) fn read(
        what: &str,
        fields: &BTreeMap<String, String>,
        pipeline: &str,
        lasts: Lasts,
    ) -> Result<Self, &'static str> {
        let field = |name: &str| fields.get(name).map(String::as_str).filter(|text| !text.trim().is_empty());
        let needed = |name: &str| field(name).ok_or("The form is not complete: reload the page.");
        let or = |name: &str, most: usize, otherwise: &str| {
            field(name).unwrap_or(otherwise).trim().chars().take(most).collect::<String>()
        };
        match (what, lasts) {
            ("start" | "retry", Lasts::AsLongAsItsRelease) => {
                Err("This run ends with its release: nothing new can begin in it. Use `cargo run -- serve DIR`.")
            }
            ("start", Lasts::UntilEnded) => Ok(Self {
                operation: "StartPipelineExecution",
                input: json!({"name": pipeline}),
                done: "A release has been started.".into(),
            }),
            ("stop", _) => {
                let abandon = needed("abandon")? == "yes";
                let reason = or("reason", LONGEST_REASON, "Stopped in the console");
                Ok(Self {
                    operation: "StopPipelineExecution",
                    input: json!({"pipelineName": pipeline, "pipelineExecutionId": needed("release")?, "abandon": abandon,
                        "reason": reason}),
                    done: match abandon {
                        true => "The release is being stopped, and what it has begun is taken back.".into(),
                        false => "The release stops when what is under way has ended.".into(),
                    },
                })
            }
            ("approve", _) => {
                let (status, otherwise) = match needed("answer")? {
                    "Approved" => ("Approved", "Approved in the console"),
                    "Rejected" => ("Rejected", "Rejected in the console"),
                    _ => return Err("An approval is answered with Approved or Rejected."),
                };
                let action = needed("action")?;
                Ok(Self {
                    operation: "PutApprovalResult",
                    input: json!({"pipelineName": pipeline, "stageName": needed("stage")?, "actionName": action,
                        "token": needed("token")?,
                        "result": {"status": status, "summary": or("summary", LONGEST_COMMENT, otherwise)}}),
                    done: format!("{action}: {status}."),
                })
            }
            ("retry", Lasts::UntilEnded) => {
                let mode = if needed("all")? == "yes" { "ALL_ACTIONS" } else { "FAILED_ACTIONS" };
                let stage = needed("stage")?;
                Ok(Self {
                    operation: "RetryStageExecution",
                    input: json!({"pipelineName": pipeline, "stageName": stage, "retryMode": mode,
                        "pipelineExecutionId": needed("release")?}),
                    done: format!("{stage} is tried again."),
                })
            }
            _ => Err("There is no such form."),
        }
    }

    /// Asks for it.
    ///
    /// Safe to repeat as far as AWS's own operations are: an approval that was answered, and a release that is over, refuse a
    /// second answer; a start that is sent twice starts two releases, which is what two starts are.
    ///
    /// # Errors
    /// What AWS says.
    pub(super) fn ask(&self, aws: &Aws) -> Result<(), Refused> {
        aws.ask::<Value>(Service::Codepipeline, self.operation, &self.input).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_one_operation_with_what_was_filled_in() {
        let long = "x".repeat(600);
        for (what, fields, operation, input) in [
            ("start", &[][..], "StartPipelineExecution", json!({"name": "p"})),
            (
                "stop",
                &[("release", "r"), ("abandon", "yes"), ("reason", " wrong day ")],
                "StopPipelineExecution",
                json!({"pipelineName": "p", "pipelineExecutionId": "r", "abandon": true, "reason": "wrong day"}),
            ),
            (
                "stop",
                &[("release", "r"), ("abandon", "no"), ("reason", "  ")],
                "StopPipelineExecution",
                json!({"pipelineName": "p", "pipelineExecutionId": "r", "abandon": false, "reason": "Stopped in the console"}),
            ),
            (
                "approve",
                &[("stage", "s"), ("action", "a"), ("token", "t"), ("answer", "Approved"), ("summary", &long)],
                "PutApprovalResult",
                json!({"pipelineName": "p", "stageName": "s", "actionName": "a", "token": "t",
                    "result": {"status": "Approved", "summary": &long[..512]}}),
            ),
            (
                "approve",
                &[("stage", "s"), ("action", "a"), ("token", "t"), ("answer", "Rejected")],
                "PutApprovalResult",
                json!({"pipelineName": "p", "stageName": "s", "actionName": "a", "token": "t",
                    "result": {"status": "Rejected", "summary": "Rejected in the console"}}),
            ),
            (
                "retry",
                &[("release", "r"), ("stage", "s"), ("all", "no")],
                "RetryStageExecution",
                json!({"pipelineName": "p", "pipelineExecutionId": "r", "stageName": "s", "retryMode": "FAILED_ACTIONS"}),
            ),
        ] {
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let act = Act::read(what, &fields, "p", Lasts::UntilEnded).unwrap();
            assert_eq!((act.operation, &act.input), (operation, &input));
        }
    }

    #[test]
    fn a_form_that_says_too_little_or_something_else_does_nothing() {
        for (what, fields, lasts) in [
            ("stop", &[("abandon", "yes")][..], Lasts::UntilEnded),
            ("stop", &[("release", "r")], Lasts::UntilEnded),
            ("approve", &[("stage", "s"), ("action", "a"), ("token", "t"), ("answer", "Maybe")], Lasts::UntilEnded),
            ("approve", &[("stage", "s"), ("action", "a"), ("answer", "Approved")], Lasts::UntilEnded),
            ("DeleteStack", &[], Lasts::UntilEnded),
            ("start", &[], Lasts::AsLongAsItsRelease),
            ("retry", &[("release", "r"), ("stage", "s"), ("all", "no")], Lasts::AsLongAsItsRelease),
        ] {
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert!(Act::read(what, &fields, "p", lasts).is_err(), "{what} {fields:?}");
        }
    }
}
