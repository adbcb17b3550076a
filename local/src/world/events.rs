//! EventBridge: events go to the rules that match them, and schedules fire.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Timer, World};
use crate::template::On;

/// How long an event is on its way.
const DELIVERY: Duration = Duration::from_millis(50);

impl World {
    /// Sends an event of CodePipeline's, about one of the pipelines.
    pub(super) fn emit(&mut self, pipeline: usize, kind: &str, detail: Value) {
        let pipeline = self.pipeline.arn(pipeline, &self.region, &self.account);
        let event = self.event("aws.codepipeline", kind, &[&pipeline], detail);
        self.after(DELIVERY, Timer::Deliver(Box::new(event)));
    }

    /// The same of another service; what no rule waits for is not even sent.
    pub(super) fn emit_of(&mut self, source: &str, kind: &str, resources: &[&str], detail: Value) {
        let outline = json!({"source": source, "detail-type": kind, "detail": &detail});
        let is_awaited = |rule: &crate::template::Rule| match &rule.on {
            On::Pattern(pattern) => matches(pattern, &outline),
            On::Rate(_) | On::Queue { .. } => false,
        };
        if self.rules.iter().any(is_awaited) {
            let event = self.event(source, kind, resources, detail);
            self.after(DELIVERY, Timer::Deliver(Box::new(event)));
        }
    }

    fn event(&mut self, source: &str, kind: &str, resources: &[&str], detail: Value) -> Value {
        json!({
            "version": "0",
            "id": self.uuid(),
            "detail-type": kind,
            "source": source,
            "account": self.account,
            "time": self.now.to_string(),
            "region": self.region,
            "resources": resources,
            "detail": detail,
        })
    }

    pub(super) fn deliver(&mut self, event: &Value) {
        for rule in self.rules.clone() {
            if let On::Pattern(pattern) = &rule.on
                && matches(pattern, event)
            {
                self.invoke_async(&rule.function, event.clone());
            }
        }
    }

    pub(super) fn scheduled(&mut self, at: usize) {
        let Some(rule) = self.rules.get(at).cloned() else { return };
        let On::Rate(seconds) = rule.on else { return };
        let event = json!({"version": "0", "id": self.uuid(), "detail-type": "Scheduled Event", "source": "aws.events",
            "account": self.account, "time": self.now.to_string(), "region": self.region, "resources": [], "detail": {}});
        self.invoke_async(&rule.function, event);
        self.after(Duration::from_secs(seconds), Timer::Schedule(at));
    }
}

/// Whether an event matches a pattern: each field one of the listed values, or one with the listed prefix.
fn matches(pattern: &Value, event: &Value) -> bool {
    match pattern {
        Value::Object(fields) => {
            fields.iter().all(|(name, wanted)| event.get(name).is_some_and(|found| matches(wanted, found)))
        }
        Value::Array(wanted) => wanted.iter().any(|one| match one.get("prefix").and_then(Value::as_str) {
            Some(prefix) => event.as_str().is_some_and(|text| text.starts_with(prefix)),
            None => one == event,
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => pattern == event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_lists_and_nothing_else() {
        let event = json!({"source": "aws.codepipeline", "detail": {"state": "STARTED", "type": {"owner": "Custom"}}});
        for (pattern, expected) in [
            (json!({"source": ["aws.codepipeline"]}), true),
            (json!({"detail": {"state": ["FAILED", "STARTED"]}}), true),
            (json!({"detail": {"state": [{"prefix": "START"}]}}), true),
            (json!({"detail": {"type": {"owner": ["AWS"]}}}), false),
            (json!({"detail": {"missing": ["x"]}}), false),
        ] {
            assert_eq!(matches(&pattern, &event), expected, "{pattern}");
        }
    }
}
