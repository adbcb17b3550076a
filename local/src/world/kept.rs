//! What one run on this machine leaves to the next: the records and artifacts, and what runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::Time;

use super::World;
use super::ecs::short;
use crate::account::Account;

/// What a Region has: the task definitions with all their revisions, and which of them each service runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptRegion {
    /// The task definitions, each family's revisions in order.
    pub definitions: Vec<Value>,
    /// What the application's files said of them.
    #[serde(default)]
    pub given: Vec<Value>,
    /// By cluster and service, as `family:revision`.
    pub services: BTreeMap<String, BTreeMap<String, String>>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// When it was written.
    pub modified: Time,
    /// What is in it.
    pub content: Vec<u8>,
}

/// What ECS adds to a definition that was registered.
const ADDED: [&str; 4] = ["revision", "status", "taskDefinitionArn", "registeredAt"];

impl World {
    /// What runs, by `account/Region`.
    #[must_use]
    pub fn kept_regions(&self) -> BTreeMap<String, KeptRegion> {
        let mut regions: BTreeMap<String, KeptRegion> = BTreeMap::new();
        for ((scope, _), revisions) in &self.ecs.definitions {
            let plain = revisions.iter().cloned().map(|mut definition| {
                if let Some(fields) = definition.as_object_mut() {
                    fields.retain(|name, _| !ADDED.contains(&name.as_str()));
                }
                definition
            });
            regions.entry(key(&scope.0, &scope.1)).or_default().definitions.extend(plain);
        }
        for (scope, given) in &self.ecs.given {
            regions.entry(key(&scope.0, &scope.1)).or_default().given.clone_from(given);
        }
        for service in self.ecs.services.values() {
            let Some(set) = service.sets.first() else { continue };
            let region = regions.entry(key(&service.scope.0, &service.scope.1)).or_default();
            let services = region.services.entry(service.cluster.clone());
            services.or_default().insert(service.name.clone(), short(&set.definition).to_owned());
        }
        regions
    }

    /// The objects whose keys begin with this.
    #[must_use]
    pub fn kept_objects(&self, prefix: &str) -> Vec<KeptObject> {
        self.s3.all(prefix)
    }

    /// Whether an execution has a record of its last end, and whoever writes it has ended.
    #[must_use]
    pub fn has_record(&self, execution: &str) -> bool {
        let key = shared::record::Store::key(self.pipeline_of(execution), execution);
        let status = self.status(execution).map(|status| status.name());
        let is_of_it = |object: &KeptObject| match shared::record::read(execution, &object.content) {
            shared::record::Entry::Record(record) => Some(record.status.as_str()) == status,
            shared::record::Entry::Newer { .. } | shared::record::Entry::Unreadable { .. } => false,
        };
        self.invocations_of("record-release") == 0 && self.s3.all(&key).iter().any(is_of_it)
    }

    /// How often something was written, or put back, that the next run needs.
    #[must_use]
    pub fn changes_of_what_is_kept(&self) -> u64 {
        self.s3.kept_changes
    }

    /// Puts objects where they were.
    pub fn put_back(&mut self, objects: Vec<KeptObject>) {
        for object in objects {
            self.s3.put(&object.bucket, &object.key, object.content, object.modified);
        }
    }
}

fn key(account: &str, region: &str) -> String {
    format!("{account}/{region}")
}

/// Lets an account be as the last run left it.
pub fn take_up(account: &mut Account, regions: &BTreeMap<String, KeptRegion>) {
    let home = account.account.clone();
    for (name, region) in &mut account.regions {
        let (owner, name) = (region.account.as_ref().unwrap_or(&home), region.name.as_ref().unwrap_or(name));
        let Some(kept) = regions.get(&key(owner, name)) else { continue };
        // A family that the last run did not have is new in the application's files; of one that they say otherwise by now there is another
        // revision, as there would be of Terraform's.
        let new: Vec<_> = region.task_definitions.iter().filter_map(|one| new_revision(one, kept)).collect();
        let given = std::mem::take(&mut region.task_definitions);
        region.task_definitions = kept.definitions.iter().cloned().chain(new).collect();
        region.given = Some(given);
        for (cluster_name, services) in &kept.services {
            let Some(cluster) = region.clusters.get_mut(cluster_name) else { continue };
            for (service_name, definition) in services {
                if let Some(service) = cluster.services.get_mut(service_name) {
                    service.task_definition.clone_from(definition);
                }
            }
        }
    }
}

/// The revision that a file's definition makes beside what is kept, if it makes one: with the images that the newest one has.
fn new_revision(given: &Value, kept: &KeptRegion) -> Option<Value> {
    let is_it = |known: &&Value| known["family"] == given["family"];
    let Some(newest) = kept.definitions.iter().rfind(is_it) else { return Some(given.clone()) };
    // What an older version of Cutover has left does not tell.
    kept.given.iter().find(is_it).filter(|before| *before != given)?;
    let images: BTreeMap<_, _> =
        containers(newest).map(|one| (one["name"].clone().to_string(), &one["image"])).collect();
    let mut new = given.clone();
    for container in new["containerDefinitions"].as_array_mut().into_iter().flatten() {
        if let Some(image) = images.get(&container["name"].to_string()) {
            container["image"] = (*image).clone();
        }
    }
    Some(new)
}

fn containers(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["containerDefinitions"].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_two_accounts_have_in_one_region_is_each_its_own() {
        let text = "account: \"111122223333\"\nbuild: {command: [make], image: x}\nregions:\n  eu-west-1: {}\n  \
                    other: {name: eu-west-1, account: \"444455556666\"}\n";
        let mut account: Account = shared::yaml::read("local.yaml", text).unwrap();
        for region in account.regions.values_mut() {
            region.task_definitions = ["home", "new"].map(|family| json!({"family": family, "of": "the file"})).into();
        }
        let kept = |family: &str| KeptRegion { definitions: vec![json!({"family": family})], ..KeptRegion::default() };
        let regions = BTreeMap::from([
            (key("111122223333", "eu-west-1"), kept("home")),
            (key("444455556666", "eu-west-1"), kept("away")),
        ]);
        take_up(&mut account, &regions);
        let families: Vec<_> = account.regions.values().map(|one| one.task_definitions[0]["family"].clone()).collect();
        assert_eq!(families, ["home", "away"]);
        let home = &account.regions["eu-west-1"].task_definitions;
        assert_eq!(
            (home.len(), &home[0]["of"], &home[1]["family"]),
            (2, &json!(null), &json!("new")),
            "new ones come on top"
        );
    }

    #[test]
    fn what_the_files_say_otherwise_by_now_is_another_revision_with_the_image_that_runs() {
        let definition = |command: &str, image: &str| json!({"family": "shop", "containerDefinitions": [{"name": "shop", "command": [command], "image": image}]});
        let text = "account: \"111122223333\"\nbuild: {command: [make], image: x}\nregions: {eu-west-1: {}}\n";
        for (now, given, expected) in [
            ("serve", vec![definition("serve", "shop:1.0")], vec![definition("serve", "shop:abc")]),
            ("serve", Vec::new(), vec![definition("serve", "shop:abc")]),
            (
                "work",
                vec![definition("serve", "shop:1.0")],
                vec![definition("serve", "shop:abc"), definition("work", "shop:abc")],
            ),
        ] {
            let mut account: Account = shared::yaml::read("local.yaml", text).unwrap();
            for region in account.regions.values_mut() {
                region.task_definitions = vec![definition(now, "shop:1.0")];
            }
            let definitions = vec![definition("serve", "shop:abc")];
            let kept = KeptRegion { definitions, given, ..KeptRegion::default() };
            take_up(&mut account, &BTreeMap::from([(key("111122223333", "eu-west-1"), kept)]));
            let region = &account.regions["eu-west-1"];
            assert_eq!(region.task_definitions, expected, "{now}");
            assert_eq!(region.given, Some(vec![definition(now, "shop:1.0")]), "what the files say is what is kept");
        }
    }
}
