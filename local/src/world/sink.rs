//! Where notifications go here: Slack, Datadog, Sentry and whoever else takes JSON.

use serde_json::{Value, json};

use super::{Request, Response, World};

/// What somebody was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
}

impl Told {
    /// In a line: what a person would read first.
    #[must_use]
    pub fn line(&self) -> String {
        let text = |pointer: &str| self.body.pointer(pointer).and_then(Value::as_str);
        let first = text("/title").or_else(|| text("/text")).or_else(|| text("/version")).or_else(|| text("/name"));
        let first = first.map_or_else(|| self.body.to_string(), str::to_owned);
        format!("{} is told: {}", self.host, shared::text::fit(first.lines().next().unwrap_or_default(), 160))
    }
}

impl World {
    /// What people elsewhere were told, from the `skip`-th on.
    #[must_use]
    pub fn told(&self, skip: usize) -> &[Told] {
        self.told.get(skip..).unwrap_or_default()
    }

    pub(super) fn sink(&mut self, request: &Request) -> Response {
        let rest = request.path.trim_start_matches("/sink/");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        self.told.push(Told {
            host: host.to_owned(),
            path: format!("/{path}"),
            headers: request.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
        });
        Response::json(json!({"ok": true}))
    }
}
