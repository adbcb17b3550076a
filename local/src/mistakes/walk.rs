//! A manifest held against its schema: every mistake at once, and what is left when each is repaired, so that what comes
//! after can be looked at, too.
//!
//! Its own, since a validator's words ("is not valid under any of the given schemas") help nobody at night.

use saphyr::{MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value, json};
use shared::manifest::Span;
use shared::manifest::schema::DURATION;

/// A mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Line and column, from 1.
    pub(super) at: (u64, u64),
    /// Keys and indexes, from the top.
    pub(super) path: Vec<String>,
    pub(super) message: String,
}

/// Where a node begins: line and column, from 1.
pub(crate) fn place(node: &MarkedYaml<'_>) -> (u64, u64) {
    (node.span.start.line() as u64, node.span.start.col() as u64 + 1)
}

/// Holds a document against a schema; what comes back fits it.
pub(super) fn walk(schema: &Value, document: &MarkedYaml<'_>) -> (Value, Vec<Found>) {
    let mut walk =
        Walk { definitions: schema.get("$defs").unwrap_or(&Value::Null), path: Vec::new(), found: Vec::new() };
    let repaired = walk.value(schema, document);
    (repaired, walk.found)
}

struct Walk<'a> {
    definitions: &'a Value,
    path: Vec<String>,
    found: Vec<Found>,
}

impl<'a> Walk<'a> {
    fn find(&mut self, at: &MarkedYaml<'_>, message: String) {
        self.found.push(Found { at: place(at), path: self.path.clone(), message });
    }

    /// The schema itself, through references and options; and whether nothing is allowed, too.
    fn resolve(&self, mut schema: &'a Value) -> (&'a Value, bool) {
        let mut optional = false;
        loop {
            let one_of_two = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice);
            if let Some([some, none]) = one_of_two
                && none["type"] == "null"
            {
                (schema, optional) = (some, true);
            } else if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
                schema = &self.definitions[name.trim_start_matches("#/$defs/")];
            } else {
                let nullable = schema["type"].as_array().is_some_and(|types| types.contains(&json!("null")));
                return (schema, optional || nullable);
            }
        }
    }

    fn value(&mut self, schema: &'a Value, node: &MarkedYaml<'_>) -> Value {
        let (schema, optional) = self.resolve(schema);
        if optional && matches!(node.data, YamlData::Value(Scalar::Null)) {
            return Value::Null;
        }
        if let Some(words) = words(schema) {
            return self.word(&words, schema, node);
        }
        match kind(schema) {
            "string" => self.text(schema, node),
            "integer" => self.number(schema, node),
            // As YAML 1.1 has it, and so the reader.
            "boolean" => match text(node).map(|text| text.to_lowercase()).as_deref() {
                Some("true" | "yes" | "y" | "on") => json!(true),
                Some("false" | "no" | "n" | "off") => json!(false),
                _ => self.refuse(schema, node, "true or false is expected"),
            },
            "array" => match &node.data {
                YamlData::Sequence(items) => {
                    let item = |(at, node): (usize, &MarkedYaml<'_>)| {
                        self.within(&at.to_string(), |walk| walk.value(&schema["items"], node))
                    };
                    items.iter().enumerate().map(item).collect()
                }
                _ => self.refuse(schema, node, "a list is expected, such as [a, b]"),
            },
            "object" => match &node.data {
                YamlData::Mapping(_) => self.object(schema, node),
                _ => self.refuse(schema, node, "a mapping is expected: names, each with a colon and a value"),
            },
            _ => plain(node),
        }
    }

    fn within<T>(&mut self, part: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(part.to_owned());
        let seen = look(self);
        self.path.pop();
        seen
    }

    fn refuse(&mut self, schema: &'a Value, node: &MarkedYaml<'_>, message: &str) -> Value {
        self.find(node, message.to_owned());
        self.placeholder(schema)
    }

    fn word(&mut self, words: &[&str], schema: &'a Value, node: &MarkedYaml<'_>) -> Value {
        let written = text(node).unwrap_or_default();
        if words.contains(&written.as_str()) {
            return json!(written);
        }
        self.refuse(schema, node, &not_known(&written, words))
    }

    fn text(&mut self, schema: &'a Value, node: &MarkedYaml<'_>) -> Value {
        let Some(written) = text(node) else { return self.refuse(schema, node, "text is expected") };
        if schema["format"] == DURATION
            && let Err(error) = serde_json::from_value::<Span>(json!(written))
        {
            return self.refuse(schema, node, &error.to_string());
        }
        json!(written)
    }

    fn number(&mut self, schema: &'a Value, node: &MarkedYaml<'_>) -> Value {
        let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let most = schema["maximum"].as_i64();
        // In quotes, it is a number all the same.
        let written = text(node).and_then(|text| text.parse::<i64>().ok());
        let of_its_kind = match schema["format"].as_str() {
            Some("uint32") => Some(i64::from(u32::MAX)),
            Some("uint16") => Some(i64::from(u16::MAX)),
            _ => None,
        };
        let most = most.or(of_its_kind);
        match written.filter(|value| *value >= least && most.is_none_or(|most| *value <= most)) {
            Some(value) => json!(value),
            None => match most.filter(|_| written.is_some() || schema["maximum"].is_number()) {
                Some(most) => self.refuse(schema, node, &format!("a whole number from {least} to {most} is expected")),
                None => self.refuse(schema, node, "a whole number is expected"),
            },
        }
    }

    fn object(&mut self, schema: &'a Value, node: &MarkedYaml<'_>) -> Value {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| **others != json!(false));
        let mut object = Map::new();
        for (key, value) in entries(node) {
            let Some(name) = text(key) else {
                self.find(key, "a name is expected".into());
                continue;
            };
            if let Some(names) = schema.get("propertyNames").and_then(|names| words(self.resolve(names).0))
                && !names.contains(&name.as_str())
            {
                self.find(key, not_known(&name, &names));
                continue;
            }
            match known.and_then(|known| known.get(&name)).or(others) {
                Some(schema) => {
                    let value = self.within(&name, |walk| walk.value(schema, value));
                    object.insert(name, value);
                }
                None => {
                    let known = known.into_iter().flat_map(Map::keys).map(|name| format!("`{name}`"));
                    let known = known.collect::<Vec<_>>().join(", ");
                    let said = format!("unknown field `{name}`, expected one of {known}");
                    self.within(&name, |walk| walk.find(key, shared::job::field_error(&said)));
                }
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                self.within(name, |walk| walk.find(node, format!("`{name}` is missing")));
                object.insert(name.to_owned(), self.placeholder(&schema["properties"][name]));
            }
        }
        object.into()
    }

    /// Something that fits.
    fn placeholder(&self, schema: &'a Value) -> Value {
        let (schema, _) = self.resolve(schema);
        if let Some(words) = words(schema) {
            return json!(words.first());
        }
        match kind(schema) {
            "string" if schema["format"] == DURATION => json!("1h"),
            "string" => json!("x"),
            "integer" => json!(1),
            "boolean" => json!(false),
            "array" => json!([]),
            "object" => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let fields = required.map(|name| (name.to_owned(), self.placeholder(&schema["properties"][name])));
                Value::Object(fields.collect())
            }
            _ => Value::Null,
        }
    }
}

/// The entries of a mapping, and those that it merges from others (`<<`), which its own take precedence over.
pub(crate) fn entries<'n, 'i>(node: &'n MarkedYaml<'i>) -> Vec<(&'n MarkedYaml<'i>, &'n MarkedYaml<'i>)> {
    let YamlData::Mapping(mapping) = &node.data else { return Vec::new() };
    let (merges, mut all): (Vec<_>, Vec<_>) = mapping.iter().partition(|(key, _)| key.data.as_str() == Some("<<"));
    for (_, merged) in merges {
        let sources = match &merged.data {
            YamlData::Sequence(several) => several.iter().collect(),
            _ => vec![merged],
        };
        for (key, value) in sources.into_iter().flat_map(entries) {
            if !all.iter().any(|(own, _)| *own == key) {
                all.push((key, value));
            }
        }
    }
    all
}

/// The words that a schema takes, if it takes no others.
pub(crate) fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let each = schema.get("oneOf").and_then(Value::as_array)?;
    Some(each.iter().filter_map(|one| one.get("const")?.as_str()).collect())
}

/// The schema's type.
pub(crate) fn kind(schema: &Value) -> &str {
    let first = schema["type"].as_array().and_then(|types| types.first());
    first.unwrap_or(&schema["type"]).as_str().unwrap_or_default()
}

/// What is written, as text: numbers and truth values can be meant as it.
pub(crate) fn text(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) | YamlData::Representation(text, ..) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::FloatingPoint(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        _ => None,
    }
}

fn plain(node: &MarkedYaml<'_>) -> Value {
    match &node.data {
        YamlData::Value(Scalar::Integer(value)) => json!(value),
        YamlData::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        YamlData::Value(Scalar::Boolean(value)) => json!(value),
        YamlData::Sequence(items) => items.iter().map(plain).collect(),
        YamlData::Mapping(entries) => {
            let entry = |(key, value)| Some((text(key)?, plain(value)));
            Value::Object(entries.iter().filter_map(entry).collect())
        }
        _ => text(node).map_or(Value::Null, Value::String),
    }
}

/// A word that is none of those that may stand there.
fn not_known(word: &str, known: &[&str]) -> String {
    match shared::text::nearest(word, known.iter().copied()) {
        Some(near) => format!("`{word}` is not known: did you mean `{near}`?"),
        None => format!("`{word}` is not known; known are {}", known.join(", ")),
    }
}
