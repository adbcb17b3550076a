//! What this function is woken by.
//!
//! Invariant: an event only says where to look (it comes twice, late, and out of order); what is done follows from what is
//! seen then.

use serde_json::Value;
use shared::Event;
use shared::job::Release;

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Look whether this release has come to its end, and left something.
    Sweep {
        /// Which.
        release: Release,
        /// How often this function has handed over to itself.
        round: u64,
    },
    /// A function has failed for good with this event: all of Lambda's retries are used up.
    Report {
        /// The function's name.
        function: String,
        /// The event that it was given.
        event: Event,
        /// What Lambda says of its last failure.
        why: String,
    },
    /// Nothing.
    Nothing,
}

/// The states of an execution, a stage or an action after which something may be left (fact 12).
const ENDS: [&str; 4] = ["ABANDONED", "STOPPED", "CANCELED", "FAILED"];

/// What stands in an event of our own, when this function hands over to itself.
pub(crate) const ROUND: &str = "round";

/// Reads an event of EventBridge's, of Lambda's failure destination, or of our own.
pub(crate) fn read(event: &Event) -> Asked {
    let value = event.value();
    if let Some(failed) = value.get("requestPayload") {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let arn = text("/requestContext/functionArn").unwrap_or_default();
        // `arn:aws:lambda:region:account:function:name:$LATEST`
        let function = arn.split(':').nth(6).unwrap_or("a function").to_owned();
        let why = text("/responsePayload/errorMessage").or_else(|| text("/requestContext/condition"));
        let why = why.unwrap_or("Lambda gives no reason").to_owned();
        return Asked::Report { function, event: Event::new(failed.clone()), why };
    }
    let detail = |name: &str| value.pointer(&format!("/detail/{name}")).and_then(Value::as_str).map(str::to_owned);
    let (Some(pipeline), Some(execution)) = (detail("pipeline"), detail("execution-id")) else { return Asked::Nothing };
    if !detail("state").is_some_and(|state| ENDS.contains(&state.as_str())) {
        return Asked::Nothing;
    }
    let release = Release { pipeline, execution, stage: None, action: None, attempt: 1 };
    Asked::Sweep { release, round: value.get(ROUND).and_then(Value::as_u64).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_says_where_to_look_and_nothing_else() {
        let event = |state: &str, version: Value| {
            Event::new(
                json!({"source": "aws.codepipeline", "detail-type": "CodePipeline Action Execution State Change",
                "detail": {"pipeline": "shop", "execution-id": "e-1", "state": state, "version": version, "stage": "Deploy"}}),
            )
        };
        let release =
            Release { pipeline: "shop".into(), execution: "e-1".into(), stage: None, action: None, attempt: 1 };
        for state in ENDS {
            let asked = Asked::Sweep { release: release.clone(), round: 0 };
            assert_eq!(read(&event(state, json!(3.0))), asked, "{state}");
            assert_eq!(read(&event(state, json!("3"))), asked, "{state}, its version a string (fact 12)");
        }
        for state in ["STARTED", "SUCCEEDED", "STOPPING", "RESUMED", "SUPERSEDED"] {
            assert_eq!(read(&event(state, json!(1))), Asked::Nothing, "{state}");
        }
        assert_eq!(read(&Event::new(json!({}))), Asked::Nothing);
    }

    #[test]
    fn lambdas_last_word_on_a_function_names_it_and_what_it_was_given() {
        let record = json!({"version": "1.0", "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3,
            "functionArn": "arn:aws:lambda:us-east-1:111122223333:function:cutover-run-tasks:$LATEST"},
            "requestPayload": {"CodePipeline.job": {"id": "job-1"}},
            "responsePayload": {"errorMessage": "Task timed out after 900 seconds"}});
        let Asked::Report { function, event, why } = read(&Event::new(record)) else { panic!("not a report") };
        assert_eq!((function.as_str(), why.as_str()), ("cutover-run-tasks", "Task timed out after 900 seconds"));
        assert_eq!(event.value().pointer("/CodePipeline.job/id"), Some(&json!("job-1")));
    }
}
