//! The tasks of the worker services: `ListTasks`, `DescribeTasks`, `GetTaskProtection`.
//!
//! What one of them works on is not AWS's affair as long as a job is the worker's own: ECS knows only that a task protects
//! itself. Workers that are started for one job each have their place here, too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::manifest::{self, ServiceKind};
use shared::{Manifest, Time};

use super::standing::Standing;
use super::{Stamp, image, short, version};
use crate::console::aws::{Aws, Refused, Service};
use crate::console::said::Said;

/// A task of a worker service.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Worker {
    pub(crate) environment: Said,
    /// The service's name in the manifest.
    pub(crate) service: Said,
    pub(crate) task: Said,
    pub(crate) tag: Said,
    pub(crate) standing: Standing,
    pub(crate) began: Option<Time>,
    /// Until when it protects itself, which a worker does while a job runs.
    pub(crate) protected: Option<Time>,
}

/// How many tasks one call describes (fact 20).
const AT_ONCE: usize = 100;

/// Looks at all workers of the manifest.
///
/// # Errors
/// What AWS does not answer.
pub(crate) fn look(aws: &Aws, manifest: &Manifest) -> Result<Vec<Worker>, Refused> {
    let mut workers = Vec::new();
    for (name, service) in manifest.services.iter().filter(|(_, service)| service.kind == ServiceKind::Worker) {
        for (environment, place) in manifest.environments_of(service.environments.as_ref()) {
            let there = aws.at(&place.region, place.role.as_deref())?;
            let own = manifest::in_environment(&service.service, environment);
            for (task, until) in tasks(&there, &place.cluster, &own)? {
                let input = json!({"taskDefinition": task.task_definition_arn.raw()});
                let definition: Value = there.ask(Service::Ecs, "DescribeTaskDefinition", &input)?;
                workers.push(Worker {
                    environment: environment.into(),
                    service: name.as_str().into(),
                    task: short(task.task_arn.raw()).into(),
                    tag: version(image(&definition, &service.container).unwrap_or_default()).into(),
                    standing: if task.desired_status.raw() == "STOPPED" {
                        Standing::of("STOP_REQUESTED")
                    } else {
                        task.last_status.clone()
                    },
                    began: task.started_at.map(Time::from),
                    protected: until,
                });
            }
        }
    }
    Ok(workers)
}

/// The tasks of a service that run, also those that shall end, with until when each is protected.
fn tasks(aws: &Aws, cluster: &str, service: &str) -> Result<Vec<(Task, Option<Time>)>, Refused> {
    let mut found = Vec::new();
    for desired in ["RUNNING", "STOPPED"] {
        let input =
            json!({"cluster": cluster, "serviceName": service, "desiredStatus": desired, "maxResults": AT_ONCE});
        let Arns { arns } = aws.ask(Service::Ecs, "ListTasks", &input)?;
        if arns.is_empty() {
            continue;
        }
        let Tasks { tasks } = aws.ask(Service::Ecs, "DescribeTasks", &json!({"cluster": cluster, "tasks": arns}))?;
        found.extend(tasks.into_iter().filter(|task| task.last_status.word.raw() != "STOPPED"));
    }
    let arns: Vec<_> = found.iter().map(|task| task.task_arn.raw()).take(AT_ONCE).collect();
    if arns.is_empty() {
        return Ok(Vec::new());
    }
    let Protections { all } =
        aws.ask(Service::Ecs, "GetTaskProtection", &json!({"cluster": cluster, "tasks": arns}))?;
    let until: BTreeMap<_, _> = all.into_iter().filter_map(Protection::until).collect();
    Ok(found
        .into_iter()
        .map(|task| {
            let until = until.get(&task.task_arn).copied();
            (task, until)
        })
        .collect())
}

#[derive(Deserialize)]
struct Arns {
    #[serde(rename = "taskArns")]
    arns: Vec<String>,
}

#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_arn: Said,
    task_definition_arn: Said,
    #[serde(default)]
    last_status: Standing,
    #[serde(default)]
    desired_status: Said,
    started_at: Option<Stamp>,
}

#[derive(Deserialize)]
struct Protections {
    #[serde(rename = "protectedTasks")]
    all: Vec<Protection>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protection {
    task_arn: Said,
    #[serde(default)]
    protection_enabled: bool,
    expiration_date: Option<Stamp>,
}

impl Protection {
    fn until(self) -> Option<(Said, Time)> {
        Some((self.task_arn, self.expiration_date.filter(|_| self.protection_enabled)?.into()))
    }
}
