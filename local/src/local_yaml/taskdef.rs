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
    // Some editors begin a file with a mark of its encoding.
    let mut read: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
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
    let wrong = [misspelt(fields), of_another_type(fields), of_each_other(fields)].concat();
    if wrong.is_empty() {
        return Ok(read);
    }
    Err(wrong.into_iter().map(|why| format!("{file}: {why}")).collect::<Vec<_>>().join("\n"))
}

/// What else `RegisterTaskDefinition` takes of a task, a container and its health check, beside what is looked at below.
const OTHERS_OF_TASK: &[&str] = &[
    "containerDefinitions",
    "enableFaultInjection",
    "ephemeralStorage",
    "inferenceAccelerators",
    "ipcMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "runtimePlatform",
    "tags",
    "volumes",
];
const OTHERS_OF_CONTAINER: &[&str] = &[
    "credentialSpecs",
    "dependsOn",
    "disableNetworking",
    "dnsSearchDomains",
    "dnsServers",
    "dockerLabels",
    "dockerSecurityOptions",
    "environmentFiles",
    "extraHosts",
    "firelensConfiguration",
    "healthCheck",
    "hostname",
    "interactive",
    "links",
    "linuxParameters",
    "logConfiguration",
    "mountPoints",
    "portMappings",
    "privileged",
    "pseudoTerminal",
    "readonlyRootFilesystem",
    "repositoryCredentials",
    "resourceRequirements",
    "restartPolicy",
    "systemControls",
    "ulimits",
    "versionConsistency",
    "volumesFrom",
];
const OF_HEALTH_CHECK: &[(&str, Holds)] = &[
    ("command", Holds::Texts),
    ("interval", Holds::Number),
    ("timeout", Holds::Number),
    ("retries", Holds::Number),
    ("startPeriod", Holds::Number),
];

/// What ECS takes of them (its reference of `HealthCheck`).
const RANGES_OF_HEALTH_CHECK: [(&str, i64, i64); 4] =
    [("interval", 5, 300), ("timeout", 2, 60), ("retries", 1, 10), ("startPeriod", 0, 300)];

/// What a container may wait for of another one.
const CONDITIONS: [&str; 4] = ["START", "COMPLETE", "SUCCESS", "HEALTHY"];

/// Names that are almost one that ECS takes: it takes no other. What is like none of them may be newer than this list.
fn misspelt(fields: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut look = |holder: &serde_json::Map<String, Value>, at: &str, known: &[(&str, Holds)], others: &[&str]| {
        let known: Vec<&str> = known.iter().map(|(name, _)| *name).chain(others.iter().copied()).collect();
        for name in holder.keys().filter(|name| !known.contains(&name.as_str())) {
            if shared::text::nearest(name, known.iter().copied()).is_some() {
                wrong.push(format!("{at}{}", shared::text::unknown("field", name, known.iter().copied())));
            }
        }
    };
    look(fields, "", OF_TASK, OTHERS_OF_TASK);
    for (at, container) in containers(fields) {
        look(container, &at, OF_CONTAINER, OTHERS_OF_CONTAINER);
        if let Some(check) = container.get("healthCheck").and_then(Value::as_object) {
            look(check, &format!("{at}healthCheck: "), OF_HEALTH_CHECK, &[]);
        }
    }
    wrong
}

/// What its containers say of each other, and of how they are asked.
fn of_each_other(fields: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    let names: Vec<_> = containers(fields).iter().filter_map(|(_, one)| one.get("name")?.as_str()).collect();
    for (at, container) in containers(fields) {
        for one in container.get("dependsOn").and_then(Value::as_array).into_iter().flatten() {
            let said = |field: &str| one[field].as_str().unwrap_or_default();
            if !names.contains(&said("containerName")) {
                let why = shared::text::unknown("container", said("containerName"), names.iter().copied());
                wrong.push(format!("{at}dependsOn: {why}"));
            }
            if !CONDITIONS.contains(&said("condition")) {
                let why = shared::text::unknown("condition", said("condition"), CONDITIONS);
                wrong.push(format!("{at}dependsOn: {why}"));
            }
        }
        for (field, least, most) in RANGES_OF_HEALTH_CHECK {
            let value = container.get("healthCheck").and_then(|check| check.get(field)?.as_i64());
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                wrong.push(format!("{at}healthCheck: `{field}` is {least} to {most}, and not {value}"));
            }
        }
        let asked = container.get("healthCheck").and_then(|check| check["command"].as_array());
        let first = asked.map(|words| words.first().and_then(Value::as_str).unwrap_or_default());
        if let Some(first) = first.filter(|first| !["CMD", "CMD-SHELL", "NONE"].contains(first)) {
            wrong
                .push(format!("{at}healthCheck: `command` begins with CMD, CMD-SHELL or NONE, and not with `{first}`"));
        }
    }
    wrong
}

/// The containers, each with what begins a line about it.
fn containers(fields: &serde_json::Map<String, Value>) -> Vec<(String, &serde_json::Map<String, Value>)> {
    let all = fields.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
    let named = |one: &serde_json::Map<String, Value>| {
        format!("container `{}`: ", one.get("name").and_then(Value::as_str).unwrap_or("?"))
    };
    all.filter_map(Value::as_object).map(|one| (named(one), one)).collect()
}

/// What a field holds, as ECS has it.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Number,
    Flag,
    Texts,
    /// Objects with texts in these fields.
    Pairs(&'static [&'static str]),
}

const OF_TASK: &[(&str, Holds)] = &[
    ("family", Holds::Text),
    ("cpu", Holds::Text),
    ("memory", Holds::Text),
    ("networkMode", Holds::Text),
    ("executionRoleArn", Holds::Text),
    ("taskRoleArn", Holds::Text),
    ("requiresCompatibilities", Holds::Texts),
];

const OF_CONTAINER: &[(&str, Holds)] = &[
    ("name", Holds::Text),
    ("image", Holds::Text),
    ("cpu", Holds::Number),
    ("memory", Holds::Number),
    ("memoryReservation", Holds::Number),
    ("startTimeout", Holds::Number),
    ("stopTimeout", Holds::Number),
    ("essential", Holds::Flag),
    ("command", Holds::Texts),
    ("entryPoint", Holds::Texts),
    ("user", Holds::Text),
    ("workingDirectory", Holds::Text),
    ("environment", Holds::Pairs(&["name", "value"])),
    ("secrets", Holds::Pairs(&["name", "valueFrom"])),
];

/// What is of another type than ECS takes: nobody could read it back, and the release would look again and again.
fn of_another_type(fields: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut look = |holder: &serde_json::Map<String, Value>, at: &str, known: &[(&str, Holds)]| {
        for (name, holds) in known {
            // What is null was left out.
            let Some(value) = holder.get(*name).filter(|value| !value.is_null()) else { continue };
            if let Some(expected) = misfit(value, *holds) {
                wrong.push(format!("{at}`{name}` is {expected}"));
            }
        }
    };
    look(fields, "", OF_TASK);
    for (at, container) in containers(fields) {
        if let Some(check) = container.get("healthCheck").and_then(Value::as_object) {
            look(check, &format!("{at}healthCheck: "), OF_HEALTH_CHECK);
        }
        look(container, &at, OF_CONTAINER);
        for mapping in container.get("portMappings").and_then(Value::as_array).into_iter().flatten() {
            if let Some(mapping) = mapping.as_object() {
                let ports = [("containerPort", Holds::Number), ("hostPort", Holds::Number), ("protocol", Holds::Text)];
                look(mapping, &format!("{at}portMappings: "), &ports);
            }
        }
    }
    wrong
}

/// What is expected, where it is something else; what may hold a secret is told by its type alone.
fn misfit(value: &Value, holds: Holds) -> Option<String> {
    let shown = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    };
    let expected = match holds {
        Holds::Text if value.is_string() => return None,
        Holds::Text => "text in quotes",
        Holds::Number if value.is_i64() || value.is_u64() => return None,
        Holds::Number => "a number without quotes",
        Holds::Flag if value.is_boolean() => return None,
        Holds::Flag => "true or false, without quotes",
        Holds::Texts => {
            let Some(items) = value.as_array() else { return Some(format!("a list of texts, not {}", kind(value))) };
            let at = items.iter().position(|item| !item.is_string())?;
            return Some(format!("a list of texts, and its item {} is {}", at + 1, kind(&items[at])));
        }
        Holds::Pairs(names) => {
            let what = "a list of objects whose fields are texts in quotes";
            let Some(items) = value.as_array() else { return Some(format!("{what}, not {}", kind(value))) };
            let wrong = |(at, item): (usize, &Value)| {
                let field = names.iter().find(|name| !item[**name].is_string())?;
                let which =
                    item["name"].as_str().map_or_else(|| format!("item {}", at + 1), |name| format!("`{name}`"));
                Some(format!("{what}, and `{field}` of {which} is {}", kind(&item[*field])))
            };
            return items.iter().enumerate().find_map(wrong);
        }
    };
    Some(format!("{expected}, not {shown}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_that_is_almost_one_of_ecs_and_what_containers_say_of_each_other_are_looked_at() {
        let wrong = json!({"family": "web", "memmory": "512", "ofTomorrow": 1, "containerDefinitions": [
            {"name": "app", "entrypoint": ["x"], "dependsOn": [{"containerName": "int", "condition": "SUCESS"}],
                "healthCheck": {"command": ["CMDSHELL", "true"], "startPeriods": 10, "interval": "10s"}},
            {"name": "init", "dependsOn": [{"containerName": "app", "condition": "HEALTHY"}]},
        ]});
        let fields = wrong.as_object().unwrap();
        assert_eq!(
            [misspelt(fields), of_another_type(fields), of_each_other(fields)].concat(),
            [
                "there is no field `memmory`: did you mean `memory`?",
                "container `app`: there is no field `entrypoint`: did you mean `entryPoint`?",
                "container `app`: healthCheck: there is no field `startPeriods`: did you mean `startPeriod`?",
                "container `app`: healthCheck: `interval` is a number without quotes, not \"10s\"",
                "container `app`: dependsOn: there is no container `int`: did you mean `init`?",
                "container `app`: dependsOn: there is no condition `SUCESS`: did you mean `SUCCESS`?",
                "container `app`: healthCheck: `command` begins with CMD, CMD-SHELL or NONE, and not with `CMDSHELL`",
            ]
        );
    }

    #[test]
    fn what_ecs_does_not_take_is_said_by_its_name_with_what_it_takes() {
        let wrong = |value: Value| of_another_type(value.as_object().unwrap());
        let good = json!({"family": "web", "cpu": "256", "containerDefinitions": [{"name": "web", "cpu": 10, "essential": true,
            "command": ["serve"], "environment": [{"name": "A", "value": "1"}], "user": null,
            "portMappings": [{"containerPort": 8000}]}]});
        assert_eq!(wrong(good), [""; 0]);
        let bad = json!({"family": "web", "cpu": 256, "containerDefinitions": [{"name": "web", "cpu": "10", "essential": "true",
            "command": "serve", "environment": [{"name": "A", "value": 1}], "portMappings": [{"containerPort": "8000"}]}]});
        assert_eq!(
            wrong(bad),
            [
                "`cpu` is text in quotes, not 256",
                "container `web`: `cpu` is a number without quotes, not \"10\"",
                "container `web`: `essential` is true or false, without quotes, not \"true\"",
                "container `web`: `command` is a list of texts, not text",
                "container `web`: `environment` is a list of objects whose fields are texts in quotes, and `value` of `A` is a number",
                "container `web`: portMappings: `containerPort` is a number without quotes, not \"8000\"",
            ]
        );
    }
}
