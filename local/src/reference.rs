//! What is generated from the types of `deploy.yaml` and `local.yaml`: the first one's JSON Schema, and their references in
//! `docs`.

use serde_json::Value;
use shared::manifest::schema::schema;

use crate::mistakes::{kind, words};

/// The schema's file, from the project's root.
pub const SCHEMA: &str = "shared/deploy.schema.json";

/// Where a reference begins and ends in its page.
pub const MARKS: (&str, &str) = ("<!-- from the types: begin -->\n", "<!-- from the types: end -->\n");

/// The schema's file.
#[must_use]
pub fn schema_file() -> String {
    format!("{:#}\n", schema())
}

/// The pages with a reference.
pub const PAGES: [&str; 2] = ["docs/manifest.md", "docs/local.md"];

/// A page whose reference is the newest; `None` when it has no place for it.
#[must_use]
pub fn page(name: &str, old: &str) -> Option<String> {
    let (before, rest) = old.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    let reference = match name {
        "docs/local.md" => reference(&crate::local_yaml::schema(), &LOCAL_PARTS),
        _ => reference(&schema(), &PARTS),
    };
    Some(format!("{before}{}{reference}{}{after}", MARKS.0, MARKS.1))
}

/// The parts of `local.yaml`, in the order of reading.
const LOCAL_PARTS: [(&str, &str); 10] = [
    ("", ""),
    ("build", "Build"),
    ("setup[], databases[], hooks.NAME", "Setup"),
    ("containers.FAMILY", "Container"),
    ("containers.FAMILY.health_check", "OwnCheck"),
    ("services.NAME", "Service"),
    ("services.NAME.health_check", "HealthCheck"),
    ("services.NAME.deployment", "Rollout"),
    ("services.NAME.deployment.lifecycle_hooks[]", "LifecycleHook"),
    ("environments.NAME", "Differing"),
];

/// The parts of a manifest, in the order of reading: where they stand, and their type in the schema.
const PARTS: [(&str, &str); 12] = [
    ("", ""),
    ("environments.NAME", "Environment"),
    ("environments.NAME.capacity_providers[]", "CapacityProvider"),
    ("tasks.NAME", "Task"),
    ("services.NAME", "Service"),
    ("workers.NAME", "Worker"),
    ("schedules.NAME", "Schedule"),
    ("notifications", "Notifications"),
    ("notifications.slack", "Slack"),
    ("notifications.datadog", "Datadog"),
    ("notifications.sentry", "Sentry"),
    ("notifications.http.NAME", "Http"),
];

fn reference(schema: &Value, parts: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (place, name) in parts {
        let part = if name.is_empty() { schema } else { &schema["$defs"][*name] };
        let title = if place.is_empty() { "at the top".to_owned() } else { format!("`{place}`") };
        text.push_str(&format!("\n| {title} | | |\n|---|---|---|\n"));
        let is_required =
            |field: &str| part["required"].as_array().is_some_and(|names| names.iter().any(|one| one == field));
        let mut fields: Vec<_> = part["properties"].as_object().into_iter().flatten().collect();
        // What must be given first.
        fields.sort_by_key(|(field, _)| !is_required(field));
        for (field, described) in fields {
            let shown = if is_required(field) { format!("**`{field}`**") } else { format!("`{field}`") };
            text.push_str(&format!("| {shown} | {} | {} |\n", type_of(schema, described), meaning(described)));
        }
    }
    text.push('\n');
    text
}

fn meaning(described: &Value) -> String {
    let said = described["description"].as_str().unwrap_or_default().replace('\n', " ");
    let default = match &described["default"] {
        Value::String(text) => format!(" (`{text}`)"),
        Value::Number(number) => format!(" ({number})"),
        _ => String::new(),
    };
    format!("{}{default}", said.trim_end_matches('.'))
}

fn type_of(schema: &Value, described: &Value) -> String {
    if let Some([one, _]) = described["anyOf"].as_array().map(Vec::as_slice) {
        return type_of(schema, one);
    }
    let resolved = match described["$ref"].as_str() {
        Some(name) => &schema["$defs"][name.trim_start_matches("#/$defs/")],
        None => described,
    };
    if let Some(words) = words(resolved) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    match kind(resolved) {
        "string" if resolved["format"] == shared::manifest::schema::DURATION => "duration".into(),
        "string" => "text".into(),
        "integer" => "number".into(),
        "boolean" => "`true` or `false`".into(),
        "array" => "list".into(),
        "object" => match words(&resolved["propertyNames"]) {
            Some(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            None => "names and values".into(),
        },
        _ => "anything".into(),
    }
}
