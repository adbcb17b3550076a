//! What this function is woken by.
//!
//! Invariant: whatever wakes it, it looks at what is there: an event that is lost costs a minute, and one that comes twice nothing.

use serde_json::Value;
use shared::Event;
use shared::names::read_worker_started_by;

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Take in these messages of the queue.
    Jobs(Vec<Message>),
    /// Look at a kind in an environment, whose worker has started or ended.
    Kind { environment: String, name: String },
    /// Look at everything.
    All,
}

/// A message of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What SQS calls it.
    pub(crate) id: String,
    /// What it says.
    pub(crate) body: String,
    /// How often it was received, this time included.
    pub(crate) received: u32,
}

/// Reads an event of Lambda's event source mapping, of ECS, or of a schedule.
pub(crate) fn read(event: &Event) -> Asked {
    let value = event.value();
    if let Some(records) = value.get("Records").and_then(Value::as_array) {
        let text = |record: &Value, name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let received = |record: &Value| {
            let count = record.pointer("/attributes/ApproximateReceiveCount").and_then(Value::as_str);
            count.and_then(|count| count.parse().ok()).unwrap_or(1)
        };
        let message =
            |record| Message { id: text(record, "messageId"), body: text(record, "body"), received: received(record) };
        return Asked::Jobs(records.iter().map(message).collect());
    }
    let by = value.pointer("/detail/startedBy").and_then(Value::as_str);
    match by.and_then(read_worker_started_by) {
        Some((environment, name)) => Asked::Kind { environment: environment.to_owned(), name: name.to_owned() },
        None => Asked::All,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use shared::Time;
    use shared::names::worker_started_by;
    use shared::workers::ledger::Ledger;

    use super::*;

    #[test]
    fn an_event_says_what_to_look_at_and_an_unknown_one_that_all_is_looked_at() {
        let message = |received| Message { id: "m-1".into(), body: "{}".into(), received };
        let by = worker_started_by("eu", "exports", Some("w-1-2-3"));
        for (event, expected) in [
            (
                json!({"Records": [{"messageId": "m-1", "body": "{}", "eventSource": "aws:sqs"}]}),
                Asked::Jobs(vec![message(1)]),
            ),
            (
                json!({"Records": [{"messageId": "m-1", "body": "{}", "attributes": {"ApproximateReceiveCount": "3"}}]}),
                Asked::Jobs(vec![message(3)]),
            ),
            (
                json!({"source": "aws.ecs", "detail": {"startedBy": by, "lastStatus": "STOPPED"}}),
                Asked::Kind { environment: "eu".into(), name: "exports".into() },
            ),
            // As an earlier version has started it.
            (
                json!({"source": "aws.ecs", "detail": {"startedBy": "cutover-worker/eu/exports"}}),
                Asked::Kind { environment: "eu".into(), name: "exports".into() },
            ),
            (json!({"source": "aws.events", "detail": {}}), Asked::All),
            (json!({"detail": {"startedBy": "cutover/e-1/migrate/eu"}}), Asked::All),
            (json!(null), Asked::All),
        ] {
            assert_eq!(read(&Event::new(event)), expected);
        }
    }

    #[test]
    fn what_a_worker_carries_fits() {
        let ledger = Ledger::begun(Time::from_millis(10_000_000_000_000), u64::MAX);
        let token = ledger.token(u64::from(u32::MAX));
        assert!(token.len() <= 64, "as long as a client token may be: {token}");
        assert!(worker_started_by(&"e".repeat(20), &"w".repeat(40), Some(&token)).len() <= 128);
    }
}
