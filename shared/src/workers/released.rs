//! What was released of a worker in an environment: the pointer that a release writes when its traffic has moved.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::aws::ecs::Overrides;
use crate::error::{Error, Verdict};
use crate::job::Release;
use crate::manifest::{
    self, CapacityProvider, Environment, LaunchType, Manifest, Schedule, Task, Worker, in_environment,
};

/// The newest version of what a pointer says.
const VERSION: u32 = 1;

/// The most that a parameter of SSM's standard tier holds, in characters.
pub(super) const LONGEST: usize = 4096;

/// How a worker is told the age at which it ends by itself.
const LIVE: &str = "WORKER_LIVE";

/// What was released of something, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released<T> {
    version: u32,
    /// The pipeline.
    pub pipeline: String,
    /// Its execution: the release.
    pub execution: String,
    /// The id of the action's first job: which try of it.
    pub key: String,
    /// What it is; none where the release has it no more.
    pub what: Option<T>,
}

impl<T: Serialize + for<'a> Deserialize<'a>> Released<T> {
    /// What this try of a release makes of it.
    #[must_use]
    pub fn by(release: &Release, key: &str, what: Option<T>) -> Self {
        let (pipeline, execution) = (release.pipeline.clone(), release.execution.clone());
        Self { version: VERSION, pipeline, execution, key: key.to_owned(), what }
    }

    /// As a pointer holds it.
    ///
    /// # Errors
    /// It does not fit a parameter.
    pub fn text(&self, place: &impl fmt::Display) -> Result<String, Verdict> {
        let text = serde_json::to_string(self).map_err(|error| Verdict::failed(format!("{place}: {error}")))?;
        // SSM takes no value with `{{`: it would name another parameter. JSON has two of them only within a text.
        let text = text.replace("{{", "\\u007b\\u007b");
        match text.chars().count() {
            0..=LONGEST => Ok(text),
            long => Err(Verdict::misconfigured(format!(
                "{}: {place}: what is written down of it has {long} characters, and an SSM parameter takes {LONGEST}: shorten its \
                 `command` and `environment`, or have fewer schedules",
                manifest::FILE
            ))),
        }
    }

    /// Reads a pointer.
    ///
    /// # Errors
    /// It was written by a newer version, or is none.
    pub fn read(name: &str, text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let foreign = |why: String| Error::Stop(Verdict::misconfigured(format!("the SSM parameter {name} {why}")));
        let version = serde_json::from_str::<Version>(text)
            .map_err(|_| foreign("is none of Cutover's pointers: delete it, and release again".into()))?;
        if version.version > VERSION {
            return Err(foreign("was written by a newer version of Cutover: update this one".into()));
        }
        serde_json::from_str(text).map_err(|error| foreign(format!("cannot be read ({error}): release again")))
    }
}

/// Something of which tasks are started, in one environment: a worker, or a task that runs by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// The released revision's ARN.
    pub definition: String,
    /// The container that gets the overrides.
    pub container: String,
    /// Where.
    pub environment: Environment,
    /// What the manifest says instead of the definition.
    pub overrides: Overrides,
    /// How many may run at once.
    pub most: u32,
    /// How many wait for a job.
    pub warm: u32,
    /// The age at which an idle one ends by itself, in seconds; none of a task.
    pub live: Option<u64>,
}

/// A kind of the manifest's, before its revision is known.
#[derive(Debug, Clone)]
pub struct Unregistered {
    /// The environment's name.
    pub environment_name: String,
    /// Its own.
    pub name: String,
    /// The family.
    pub family: String,
    /// The container, if it is named.
    pub container: Option<String>,
    kind: Kind,
}

impl Unregistered {
    /// `us/exports`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.environment_name, self.name)
    }

    /// Where.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.kind.environment
    }

    /// With its revision, and the container that got the image.
    #[must_use]
    pub fn registered(&self, definition: String, container: String) -> Kind {
        Kind { definition, container, ..self.kind.clone() }
    }
}

/// How many runs of a task that runs by the clock may go on at once, where they may at all.
const SIDE_BY_SIDE: u32 = 10;

/// Everything of the manifest of which tasks are started, in each of its environments.
#[must_use]
pub fn kinds(manifest: &Manifest) -> Vec<Unregistered> {
    let mut kinds = Vec::new();
    for (name, worker) in &manifest.workers {
        for (environment_name, environment) in manifest.environments_of(worker.environments.as_ref()) {
            kinds.push(of_worker(name, worker, environment_name, environment));
        }
    }
    for (name, task) in &manifest.tasks {
        let by_clock: Vec<&Schedule> =
            manifest.schedules.values().filter(|one| one.task.as_ref() == Some(name)).collect();
        if by_clock.is_empty() {
            continue;
        }
        for (environment_name, environment) in manifest.environments_of(task.environments.as_ref()) {
            kinds.push(of_task(name, task, &by_clock, environment_name, environment));
        }
    }
    kinds
}

fn of_worker(name: &str, worker: &Worker, environment_name: &str, environment: &Environment) -> Unregistered {
    let mut environment = environment.clone();
    if worker.launch_type.is_some() || !worker.capacity_providers.is_empty() {
        environment.launch_type = worker.launch_type;
        environment.capacity_providers.clone_from(&worker.capacity_providers);
        // Of Fargate alone: ECS refuses them with anything else.
        if !runs_on_fargate(worker) {
            (environment.platform_version, environment.assign_public_ip) = (None, false);
        }
    }
    let mut variables = worker.environment.clone();
    // What the manifest says itself holds: the worker goes by it.
    let own = variables.get(LIVE).and_then(|said| humantime::parse_duration(said).ok());
    variables.entry(LIVE.to_owned()).or_insert_with(|| worker.live.to_string());
    let overrides = Overrides {
        command: worker.command.clone(),
        environment: variables,
        cpu: worker.cpu,
        memory: worker.memory,
        tags: worker.tags.clone(),
    };
    let (most, warm, live) = (worker.most, worker.warm, Some(own.unwrap_or(worker.live.0).as_secs()));
    let (family, container) = (in_environment(&worker.family, environment_name), worker.container.clone());
    unregistered(environment_name, name, family, container, Kind { most, warm, live, ..kind(environment, overrides) })
}

/// Whether a worker with a place of its own runs there.
fn runs_on_fargate(worker: &Worker) -> bool {
    let is_fargate = |provider: &CapacityProvider| provider.name.starts_with("FARGATE");
    worker.launch_type == Some(LaunchType::Fargate) || worker.capacity_providers.iter().any(is_fargate)
}

fn of_task(
    name: &str,
    task: &Task,
    by_clock: &[&Schedule],
    environment_name: &str,
    environment: &Environment,
) -> Unregistered {
    let side_by_side = by_clock.len() > 1 || by_clock.iter().any(|one| one.overlap == manifest::Overlap::Allow);
    let most = if side_by_side { SIDE_BY_SIDE } else { 1 };
    let (family, container) = (in_environment(&task.family, environment_name), task.container.clone());
    let kind = Kind { most, ..kind(environment.clone(), Overrides::from(task)) };
    unregistered(environment_name, name, family, container, kind)
}

fn kind(environment: Environment, overrides: Overrides) -> Kind {
    let (definition, container) = (String::new(), String::new());
    Kind { definition, container, environment, overrides, most: 1, warm: 0, live: None }
}

fn unregistered(
    environment_name: &str,
    name: &str,
    family: String,
    container: Option<String>,
    kind: Kind,
) -> Unregistered {
    let (environment_name, name) = (environment_name.to_owned(), name.to_owned());
    Unregistered { environment_name, name, family, container, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
application: shop
environments:
  us: {region: us-east-1, cluster: shop, subnets: [s-1], launch_type: FARGATE, platform_version: 1.4.0, assign_public_ip: true}
  eu: {region: eu-west-1, cluster: shop, subnets: [s-2], launch_type: FARGATE}
tasks:
  migrate: {family: shop-task, command: [migrate]}
  report: {family: shop-task, command: [report], environments: [eu]}
workers:
  exports: {family: 'shop-{environment}', command: [export], live: 2m, most: 3, warm: 1}
  jumbo: {family: shop-work, launch_type: EC2, memory: 16384, environments: [us], environment: {WORKER_LIVE: 1m}}
schedules:
  nightly: {cron: 0 3 * * *, task: report}
";

    fn release() -> Release {
        Release { pipeline: "p".into(), execution: "e-1".into(), stage: None, action: None, attempt: 1 }
    }

    #[test]
    fn every_worker_is_in_each_of_its_environments_and_of_tasks_those_that_run_by_the_clock() {
        let manifest = Manifest::read("deploy.yaml", MANIFEST).unwrap();
        let kinds = kinds(&manifest);
        let places: Vec<_> = kinds.iter().map(Unregistered::place).collect();
        assert_eq!(places, ["us/exports", "eu/exports", "us/jumbo", "eu/report"]);
        assert_eq!(kinds[1].family, "shop-eu");
        let made = kinds[0].registered("arn:7".into(), "shop".into());
        assert_eq!((made.most, made.warm, made.live), (3, 1, Some(120)));
        assert_eq!(made.overrides.environment["WORKER_LIVE"], "2m");
        let jumbo = kinds[2].registered("arn:7".into(), "shop".into());
        assert_eq!(jumbo.environment.launch_type, Some(manifest::LaunchType::Ec2));
        assert_eq!((jumbo.environment.platform_version, jumbo.environment.assign_public_ip), (None, false));
        assert_eq!(made.environment.platform_version.as_deref(), Some("1.4.0"));
        assert_eq!(jumbo.live, Some(60));
        assert_eq!(jumbo.overrides.environment["WORKER_LIVE"], "1m", "what the manifest says itself, holds");
        let report = kinds[3].registered("arn:7".into(), "shop".into());
        assert_eq!((report.most, report.live, report.overrides.environment.len()), (1, None, 0));
    }

    #[test]
    fn a_pointer_is_read_as_it_was_written_and_a_newer_one_is_refused_by_name() {
        let manifest = Manifest::read("deploy.yaml", MANIFEST).unwrap();
        let kind = kinds(&manifest)[0].registered("arn:7".into(), "shop".into());
        let mut released = Released::by(&release(), "job-1", Some(kind));
        let text = released.text(&"us/exports").unwrap();
        assert_eq!(Released::read("/x", &text).unwrap(), released);
        released.what.as_mut().unwrap().overrides.command = vec!["--format".into(), r"\{{{.ID}} {{".into()];
        let braces = released.text(&"us/exports").unwrap();
        assert!(!braces.contains("{{"), "SSM takes none: {braces}");
        assert_eq!(Released::read("/x", &braces).unwrap(), released);
        for (text, said) in [
            (text.replace("\"version\":1", "\"version\":2"), "/x was written by a newer version of Cutover"),
            ("soon".into(), "/x is none of Cutover's pointers"),
            ("{\"version\":1}".into(), "/x cannot be read"),
        ] {
            let error = Released::<Kind>::read("/x", &text).unwrap_err();
            assert!(error.message().contains(said), "{}", error.message());
        }
    }

    #[test]
    fn a_pointer_that_does_not_fit_says_what_to_shorten() {
        let manifest = Manifest::read("deploy.yaml", MANIFEST).unwrap();
        let mut kind = kinds(&manifest)[0].registered("arn:7".into(), "shop".into());
        kind.overrides.command = vec!["x".repeat(LONGEST)];
        let wrong = Released::by(&release(), "job-1", Some(kind)).text(&"us/exports").unwrap_err();
        assert!(wrong.message.contains("us/exports") && wrong.message.contains("shorten"), "{}", wrong.message);
    }

    #[test]
    fn a_pointer_that_version_1_wrote_is_read() {
        let text = r#"{"version":1,"pipeline":"p","execution":"e-1","key":"k","what":{"definition":"arn:aws:ecs:us-east-1:1:task-definition/shop:7","container":"shop","environment":{"region":"us-east-1","cluster":"shop","role":null,"subnets":[],"security_groups":[],"assign_public_ip":false,"launch_type":"FARGATE","capacity_providers":[],"platform_version":null},"overrides":{"command":["export"],"environment":{"WORKER_LIVE":"2m"},"cpu":null,"memory":null,"tags":{}},"most":3,"warm":1,"live":120}}"#;
        let read = Released::<Kind>::read("/x", text).unwrap();
        assert_eq!(read.what.unwrap().definition, "arn:aws:ecs:us-east-1:1:task-definition/shop:7");
    }
}
