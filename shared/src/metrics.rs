//! CloudWatch's embedded metric format: a line of a function's log that CloudWatch reads as metrics. It costs no call, and is
//! lost with nothing but the log.

use serde_json::{Map, Value, json};

use crate::time::Time;

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
        }
    }
}

/// How the stack tells its functions the namespace of their metrics.
const NAMESPACE: &str = "CUTOVER_NAMESPACE";

/// Says metrics of this time, for the whole stack and with these dimensions. Where the process has no namespace, nobody reads them.
#[expect(clippy::print_stdout, reason = "the format is a line that begins with an object of its own")]
pub fn metrics(at: Time, dimensions: &[(&str, &str)], values: &[(&str, Unit, f64)]) {
    if let Some(namespace) = std::env::var(NAMESPACE).ok().filter(|namespace| !namespace.is_empty()) {
        println!("{}", line(&namespace, dimensions, values, at));
    }
}

fn line(namespace: &str, dimensions: &[(&str, &str)], values: &[(&str, Unit, f64)], now: Time) -> Value {
    let names: Vec<_> = dimensions.iter().map(|(name, _)| name).collect();
    let declared: Vec<_> = values.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit.name()})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".into(),
        json!({"Timestamp": now.millis(),
            "CloudWatchMetrics": [{"Namespace": namespace, "Dimensions": [[], names], "Metrics": declared}]}),
    );
    line.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    line.extend(values.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_reads_as_metrics() {
        let said =
            line("Cutover", &[("Worker", "exports")], &[("JobsWaiting", Unit::Count, 3.0)], Time::from_millis(7));
        let expected = json!({"_aws": {"Timestamp": 7, "CloudWatchMetrics": [{"Namespace": "Cutover",
            "Dimensions": [[], ["Worker"]], "Metrics": [{"Name": "JobsWaiting", "Unit": "Count"}]}]},
            "Worker": "exports", "JobsWaiting": 3.0});
        assert_eq!(said, expected);
    }
}
