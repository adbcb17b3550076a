//! The JSON Schema of `deploy.yaml`, from the types that read it: for editors, for `check`, for the reference.

use serde_json::{Value, json};

use super::mistakes::{LONGEST_ENVIRONMENT, LONGEST_NAME};
use super::{Hook, Manifest};

/// The format of a [`super::Span`].
pub const DURATION: &str = "duration-in-words";

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    plain(&mut schema);
    schema["title"] = json!(super::FILE);
    for (part, longest) in [
        ("environments", LONGEST_ENVIRONMENT),
        ("tasks", LONGEST_NAME),
        ("services", LONGEST_NAME),
        ("workers", LONGEST_NAME),
        ("schedules", LONGEST_NAME),
    ] {
        schema["properties"][part]["propertyNames"] = json!({"pattern": format!("^[a-z0-9_-]{{1,{longest}}}$")});
    }
    // A map's keys do not show in its type's schema.
    let hooks = schemars::schema_for!(Hook).to_value();
    let hooks: Vec<_> = hooks["oneOf"].as_array().into_iter().flatten().map(|hook| &hook["const"]).collect();
    schema["$defs"]["Service"]["properties"]["hooks"]["propertyNames"] = json!({"enum": hooks});
    schema
}

/// The types' own documentation without what is for their developers.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                while let Some(begin) = text.find(" (fact") {
                    let end = text[begin..].find(')').map_or(text.len(), |end| begin + end + 1);
                    text.replace_range(begin..end, "");
                }
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
