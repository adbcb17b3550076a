//! ECS task definitions and their revisions.

use serde_json::{Value, json};

use super::ecs::{Scope, short, stamp};
use super::{Fault, World};

/// What `RegisterTaskDefinition` takes.
const DEFINITION_FIELDS: &[&str] = &[
    "family",
    "taskRoleArn",
    "executionRoleArn",
    "networkMode",
    "containerDefinitions",
    "volumes",
    "placementConstraints",
    "requiresCompatibilities",
    "cpu",
    "memory",
    "tags",
    "pidMode",
    "ipcMode",
    "proxyConfiguration",
    "inferenceAccelerators",
    "ephemeralStorage",
    "runtimePlatform",
    "enableFaultInjection",
];

impl World {
    pub(super) fn register(&mut self, scope: &Scope, mut definition: Value) -> Result<Value, Fault> {
        let bad = |why: String| Fault::new("ClientException", why);
        let Some(fields) = definition.as_object_mut() else { return Err(bad("not an object".into())) };
        if let Some(unknown) = fields.keys().find(|name| !DEFINITION_FIELDS.contains(&name.as_str())) {
            return Err(Fault::unknown(format!("unknown field `{unknown}`")));
        }
        let family = fields.get("family").and_then(Value::as_str).unwrap_or_default().to_owned();
        let containers = fields.get("containerDefinitions").and_then(Value::as_array);
        if family.is_empty() || containers.is_none_or(Vec::is_empty) {
            return Err(bad(format!("the task definition `{family}` needs a family and containerDefinitions")));
        }
        for list in ["volumes", "placementConstraints"] {
            fields.entry(list).or_insert(json!([]));
        }
        let revisions = self.ecs.definitions.entry((scope.clone(), family.clone())).or_default();
        let revision = revisions.len() + 1;
        let (account, region) = scope;
        fields.insert("revision".into(), json!(revision));
        fields.insert("status".into(), json!("ACTIVE"));
        let arn = format!("arn:aws:ecs:{region}:{account}:task-definition/{family}:{revision}");
        fields.insert("taskDefinitionArn".into(), json!(arn));
        fields.insert("registeredAt".into(), stamp(self.now));
        revisions.push(definition.clone());
        Ok(definition)
    }

    /// A definition by ARN, `family:revision` or family, which means the newest.
    pub(super) fn definition(&self, scope: &Scope, name: &str) -> Result<&Value, Fault> {
        let missing = || Fault::new("ClientException", "Unable to describe task definition.");
        let (family, revision) = match short(name).split_once(':') {
            Some((family, revision)) => (family, revision.parse::<usize>().ok()),
            None => (short(name), None),
        };
        let revisions = self.ecs.definitions.get(&(scope.clone(), family.to_owned())).ok_or_else(missing)?;
        let found = match revision {
            Some(revision) => revisions.get(revision.wrapping_sub(1)),
            None => revisions.last(),
        };
        found.ok_or_else(missing)
    }

    /// The definition that a task runs.
    #[must_use]
    pub fn definition_of(&self, task: &super::Task) -> Option<Value> {
        self.definition(&task.scope, &task.definition).ok().cloned()
    }

    /// Whether the account has this family, for a check before a release begins.
    #[must_use]
    pub fn has_definition(&self, account: &str, region: &str, family: &str) -> bool {
        self.ecs.definitions.contains_key(&((account.to_owned(), region.to_owned()), family.to_owned()))
    }
}
