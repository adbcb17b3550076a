//! Requests and answers to be held against AWS's own service models: of each operation some of every shape.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use local::world::{Request, Response};
use serde_json::{Value, json};

/// How many of each shape are kept: values differ, too.
const OF_EACH: u32 = 100;

/// What was gathered; clones gather together.
#[derive(Debug, Clone, Default)]
pub struct Samples(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    shapes: BTreeMap<String, u32>,
    lines: BTreeSet<String>,
}

impl Samples {
    pub(super) fn note(&self, request: &Request, response: Option<&Response>) {
        let (Some(target), Some(response)) = (request.headers.get("x-amz-target"), response) else { return };
        let input: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let output: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let mut shape = format!("{target} {}", response.status);
        outline(&input, &mut shape);
        outline(&output, &mut shape);
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = gathered.shapes.entry(shape).or_default();
        *seen += 1;
        if *seen <= OF_EACH {
            let line = json!({"target": target, "status": response.status, "input": input, "output": output});
            gathered.lines.insert(line.to_string());
        }
    }

    /// Writes them, a line of JSON each, and says how many.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &std::path::Path) -> std::io::Result<usize> {
        let gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for line in &gathered.lines {
            writeln!(file, "{line}")?;
        }
        file.flush()?;
        Ok(gathered.lines.len())
    }
}

/// The names of a value's members, without what they hold.
fn outline(value: &Value, shape: &mut String) {
    match value {
        Value::Object(members) => {
            shape.push('{');
            for (name, member) in members {
                shape.push_str(name);
                outline(member, shape);
            }
            shape.push('}');
        }
        Value::Array(items) => {
            shape.push('[');
            if let Some(first) = items.first() {
                outline(first, shape);
            }
        }
        Value::Null => shape.push('0'),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => shape.push(','),
    }
}
