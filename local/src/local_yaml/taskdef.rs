//! Task definitions as people have them: JSON files with what `RegisterTaskDefinition` takes or `DescribeTaskDefinition` gives.

use std::path::Path;

use serde_json::Value;

/// What a description has beside what is registered.
const ONLY_DESCRIBED: &[&str] = &[
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
];

/// Reads one.
///
/// # Errors
/// What is wrong, with file, and line and column where they are known.
pub(crate) fn read(folder: &Path, file: &str) -> Result<Value, String> {
    let text = shared::yaml::text_of(&folder.join(file)).map_err(|why| format!("{file}: {why}"))?;
    let mut read: Value = serde_json::from_str(&text).map_err(|error| {
        let said = error.to_string();
        let what = said.split_once(" at line ").map_or(said.as_str(), |(what, _)| what);
        format!("{file}:{}:{}: it is no JSON: {what}", error.line(), error.column())
    })?;
    let tags = read.get("tags").cloned();
    if let Some(described) = read.get_mut("taskDefinition") {
        read = described.take();
        if let (Some(tags), Some(fields)) = (tags, read.as_object_mut()) {
            fields.entry("tags").or_insert(tags);
        }
    }
    let Some(fields) = read.as_object_mut() else {
        return Err(format!(
            "{file}: a task definition is an object: {{\"family\": ..., \"containerDefinitions\": [...]}}"
        ));
    };
    fields.retain(|name, _| !ONLY_DESCRIBED.contains(&name.as_str()));
    if fields.get("containerDefinitions").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(format!("{file}: `containerDefinitions` is missing: list its containers"));
    }
    Ok(read)
}
