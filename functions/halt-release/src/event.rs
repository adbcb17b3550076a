//! What this function is woken by.
//!
//! Invariant: an event only says where to look (it comes twice, late, and out of order); what is done follows from what is
//! seen then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::job::Release;
use shared::{Event, Time};

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Look whether this release has come to its end, and left something.
    Sweep {
        /// Which.
        release: Release,
        /// What this function has left to itself, when it has handed over.
        carried: Option<Carried>,
    },
    /// A function has failed for good with this event: all of Lambda's retries are used up.
    Report {
        /// The function's name.
        function: String,
        /// The event that it was given.
        event: Event,
        /// The id of the request that failed, where it is told.
        request: Option<String>,
        /// What Lambda says of its last failure.
        why: String,
    },
    /// Nothing.
    Nothing,
}

/// The states of an execution, a stage or an action after which something may be left (fact 12).
const ENDS: [&str; 4] = ["ABANDONED", "STOPPED", "CANCELED", "FAILED"];

/// Under this name stands, in an event of our own, what one invocation leaves to the next.
pub(crate) const CARRIED: &str = "carried";

/// What cannot be seen again. A sweep may take many invocations: none of them begins to wait anew, or forgets what it has said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// When the first invocation began.
    pub(crate) begun: Time,
    /// Which try of the release's stage was stopped.
    #[serde(default)]
    pub(crate) attempt: Option<u32>,
    /// When the release was seen to be over first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) over: Option<Time>,
    /// When something of the release was seen under way last; when it was seen to be over, to begin with.
    pub(crate) seen: Option<Time>,
    /// Whether it is this one of several that says what is done, once that was found out.
    #[serde(default = "speaks")]
    pub(crate) speaks: Option<bool>,
    /// When it was said last what is not back yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits: Option<Time>,
    /// When it was said last that AWS does not answer somewhere, and is asked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tried_on: Option<Time>,
    /// The tasks that were asked to end, and when.
    pub(crate) asked: BTreeMap<String, Time>,
    /// What was asked to end, in the words of the last line.
    pub(crate) stopped: Vec<String>,
    /// The targets that are being taken back, of which it is not said yet what became of them.
    pub(crate) followed: Vec<String>,
}

/// What an older version has handed over was said by whoever did so.
fn speaks() -> Option<bool> {
    Some(true)
}

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
        let request = text("/requestContext/requestId").map(str::to_owned);
        return Asked::Report { function, event: Event::new(failed.clone()), request, why };
    }
    let detail = |name: &str| value.pointer(&format!("/detail/{name}")).and_then(Value::as_str).map(str::to_owned);
    let (Some(pipeline), Some(execution)) = (detail("pipeline"), detail("execution-id")) else { return Asked::Nothing };
    if !detail("state").is_some_and(|state| ENDS.contains(&state.as_str())) {
        return Asked::Nothing;
    }
    let release = Release { pipeline, execution, stage: None, action: None, attempt: 1 };
    let carried = value.get(CARRIED).and_then(|carried| Carried::deserialize(carried).ok());
    Asked::Sweep { release, carried }
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
            let asked = Asked::Sweep { release: release.clone(), carried: None };
            assert_eq!(read(&event(state, json!(3.0))), asked, "{state}");
            assert_eq!(read(&event(state, json!("3"))), asked, "{state}, its version a string (fact 12)");
        }
        for state in ["STARTED", "SUCCEEDED", "STOPPING", "RESUMED", "SUPERSEDED"] {
            assert_eq!(read(&event(state, json!(1))), Asked::Nothing, "{state}");
        }
        assert_eq!(read(&Event::new(json!({}))), Asked::Nothing);
        let carried =
            Carried { begun: Time::from_millis(5), stopped: vec!["migrate in us".into()], ..Carried::default() };
        let mut handed_over = event("STOPPED", json!(3.0)).value().clone();
        handed_over[CARRIED] = serde_json::to_value(&carried).unwrap();
        assert_eq!(read(&Event::new(handed_over)), Asked::Sweep { release, carried: Some(carried) });
    }

    #[test]
    fn lambdas_last_word_on_a_function_names_it_and_what_it_was_given() {
        let record = json!({"version": "1.0", "requestContext": {"requestId": "r-1", "condition": "RetriesExhausted", "approximateInvokeCount": 3,
            "functionArn": "arn:aws:lambda:us-east-1:111122223333:function:cutover-run-tasks:$LATEST"},
            "requestPayload": {"CodePipeline.job": {"id": "job-1"}},
            "responsePayload": {"errorMessage": "Task timed out after 900 seconds"}});
        let Asked::Report { function, event, request, why } = read(&Event::new(record)) else { panic!("not a report") };
        assert_eq!((function.as_str(), why.as_str()), ("cutover-run-tasks", "Task timed out after 900 seconds"));
        assert_eq!(request.as_deref(), Some("r-1"));
        assert_eq!(event.value().pointer("/CodePipeline.job/id"), Some(&json!("job-1")));
    }
}
