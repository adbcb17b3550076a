//! The workers: the tasks of worker services, by `ListTasks`, `DescribeTasks` and `GetTaskProtection`; and those that are started one by
//! one, by what `launch-workers` has written down of them in S3.
//!
//! What a service's task works on is its own affair: ECS knows only that it protects itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::manifest::{self, ServiceKind};
use shared::workers::jobs::Keys;
use shared::workers::ledger::Ledger;
use shared::{Manifest, Time};

use super::standing::Standing;
use super::{Stamp, image, short, version};
use crate::console::aws::{Aws, Refused, Service};
use crate::console::said::Said;

/// A worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Worker {
    pub(crate) environment: Said,
    /// The service's, or its kind's, name in the manifest.
    pub(crate) name: Said,
    pub(crate) task: Said,
    pub(crate) tag: Said,
    pub(crate) standing: Standing,
    pub(crate) began: Option<Time>,
    pub(crate) work: Work,
}

/// Whether a worker works.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Work {
    /// Not as far as anybody knows.
    #[default]
    None,
    /// It protects itself until then, which a worker does while a job runs.
    Protected(Time),
    /// It was started for this job, or was given it.
    Job {
        /// The job.
        id: Said,
        /// Since when.
        since: Time,
    },
}

/// How many tasks one call describes (fact 20).
const AT_ONCE: usize = 100;

/// Looks at all workers of the manifest. `bucket` has what is known of those that are started one by one.
///
/// # Errors
/// What AWS does not answer.
pub(crate) fn look(aws: &Aws, manifest: &Manifest, bucket: &str) -> Result<Vec<Worker>, Refused> {
    let mut workers = Vec::new();
    for (name, service) in manifest.services.iter().filter(|(_, service)| service.kind == ServiceKind::Worker) {
        for (environment, place) in manifest.environments_of(service.environments.as_ref()) {
            let there = aws.at(&place.region, place.role.as_deref())?;
            let own = manifest::in_environment(&service.service, environment);
            for (task, until) in tasks(&there, &place.cluster, &own)? {
                workers.push(Worker {
                    environment: environment.into(),
                    name: name.as_str().into(),
                    task: short(task.task_arn.raw()).into(),
                    tag: tag(&there, task.task_definition_arn.raw(), &service.container)?,
                    standing: standing(&task),
                    began: task.started_at.map(Time::from),
                    work: until.map_or(Work::None, Work::Protected),
                });
            }
        }
    }
    for (name, kind) in &manifest.workers {
        for (environment, place) in manifest.environments_of(kind.environments.as_ref()) {
            let key = Keys::new(environment, name).ledger();
            let Some(content) = aws.object(bucket, &key)? else { continue };
            let ledger = Ledger::read(&key, &content)
                .map_err(|error| Refused { code: "Unreadable".into(), message: error.message().to_owned() })?;
            let there = aws.at(&place.region, place.role.as_deref())?;
            let container = kind.container.as_deref().unwrap_or_default();
            let launched = launched(ledger);
            let arns: Vec<_> = launched.iter().map(|held| held.arn.as_str()).filter(|arn| !arn.is_empty()).collect();
            let mut shown = Vec::new();
            for some in arns.chunks(AT_ONCE) {
                let Tasks { tasks } =
                    there.ask(Service::Ecs, "DescribeTasks", &json!({"cluster": place.cluster, "tasks": some}))?;
                shown.extend(tasks);
            }
            for mut held in launched {
                // How it stands ECS tells; launch-workers looks once a minute.
                if let Some(task) = shown.iter().find(|task| task.task_arn.raw() == held.arn) {
                    if task.last_status.word.raw() == "STOPPED" {
                        continue;
                    }
                    held.worker.standing = standing(task);
                    held.worker.began = task.started_at.map(Time::from);
                }
                let tag = tag(&there, held.definition.raw(), container)?;
                workers.push(Worker {
                    environment: environment.into(),
                    name: name.as_str().into(),
                    tag,
                    ..held.worker
                });
            }
        }
    }
    Ok(workers)
}

/// The version that a task definition has.
fn tag(aws: &Aws, definition: &str, container: &str) -> Result<Said, Refused> {
    let found: Value = aws.ask(Service::Ecs, "DescribeTaskDefinition", &json!({"taskDefinition": definition}))?;
    Ok(version(image(&found, container).unwrap_or_default()).into())
}

/// How a task stands that is not over.
fn standing(task: &Task) -> Standing {
    if task.desired_status.raw() == "STOPPED" { Standing::of("STOP_REQUESTED") } else { task.last_status.clone() }
}

/// A worker of a ledger, with its task's ARN, if it has one, and the revision that it runs.
struct Held {
    arn: String,
    definition: Said,
    worker: Worker,
}

/// The workers that a ledger has places for.
fn launched(ledger: Ledger) -> Vec<Held> {
    let worker = |place: shared::workers::ledger::Place| Held {
        arn: place.task.clone().unwrap_or_default(),
        definition: place.definition.into(),
        worker: Worker {
            task: short(place.task.as_deref().unwrap_or_default()).into(),
            standing: Standing::of(if place.started.is_some() { "RUNNING" } else { "PENDING" }),
            began: place.started,
            work: place.job.map_or(Work::None, |job| Work::Job { id: job.id.into(), since: job.since }),
            ..Worker::default()
        },
    };
    ledger.places.into_iter().map(worker).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_workers_that_are_started_one_by_one_it_is_told_what_each_works_on() {
        let text = br#"{"version":1,"begun":5,"nonce":9,"next":2,"places":[
            {"start":1,"asked":7,"definition":"exports:3","task":"arn:x:task/c/t1","started":9,"job":{"id":"7","since":8}},
            {"start":1,"asked":7,"definition":"exports:4","task":"arn:x:task/c/t2","started":9},
            {"start":2,"asked":7,"definition":"exports:4"}]}"#;
        let held = launched(Ledger::read("k", text).unwrap());
        let told = held.iter().map(|one| (one.definition.raw(), one.worker.task.raw(), one.worker.standing.word.raw()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [("exports:3", "t1", "RUNNING"), ("exports:4", "t2", "RUNNING"), ("exports:4", "", "PENDING")]
        );
        assert_eq!(held[0].worker.work, Work::Job { id: "7".into(), since: Time::from_millis(8) });
        assert_eq!(held[1].worker.work, Work::None);
    }
}
