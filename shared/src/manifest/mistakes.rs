//! What a manifest of the right shape can still get wrong: names that do not exist, things that exclude each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CapacityProvider, DeploymentKind, LaunchType, Manifest, Service, Span, in_environment};
use crate::text;
use crate::yaml::Mistake;

/// The longest name of an environment: it stands in front of every line, and in client tokens.
pub(super) const LONGEST_ENVIRONMENT: usize = 20;

/// The longest name of a task or service: with the execution's id it must fit into `startedBy` (fact 19).
pub(super) const LONGEST_NAME: usize = 40;

/// The most workers of a kind in an environment: what is known of them is one object that is read at every look.
const MOST_WORKERS: u32 = 500;

/// The shortest life of a worker: less, and the ones that are kept warm would end, and be started again, all the time.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// How many unknown environments of one list are told of.
const MOST_UNKNOWN: usize = 10;

/// Something that a manifest gets wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where: keys and indexes, from the top.
    pub path: Vec<String>,
    /// Line and column, from 1, where they are known.
    pub at: Option<(u64, u64)>,
    /// What was wrong, what was expected, and what to do; it says where, too.
    pub message: String,
}

impl Flaw {
    fn new(path: &[&str], message: impl Into<String>) -> Self {
        let message = format!("{}: {}", path.join("."), message.into());
        Self { path: path.iter().map(|part| (*part).to_owned()).collect(), at: None, message }
    }

    pub(super) fn mistake(self, file: &str) -> Mistake {
        Mistake { file: file.to_owned(), at: self.at, message: self.message }
    }
}

/// Whether it has the form of a role's ARN.
fn is_a_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let has_account = account.len() == 12 && account.bytes().all(|digit| digit.is_ascii_digit());
    partition.starts_with("aws") && has_account && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
}

impl Manifest {
    /// Everything that is wrong in it, in its own order.
    #[must_use]
    pub fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if self.environments.is_empty() {
            flaws.push(Flaw::new(&["environments"], "name at least one environment"));
        }
        for (name, environment) in &self.environments {
            let path = ["environments", name];
            flaws.extend(name_error(name, LONGEST_ENVIRONMENT).map(|why| Flaw::new(&path, why)));
            flaws.extend(flaws_of_place(&path, environment.launch_type, &environment.capacity_providers));
            if let Some(role) = environment.role.as_deref().filter(|role| !is_a_role(role)) {
                let path = ["environments", name, "role"];
                let why = format!(
                    "`{}` is no role's ARN, such as `arn:aws:iam::123456789012:role/cutover`",
                    text::fit(role, 100)
                );
                flaws.push(Flaw::new(&path, why));
            }
            let starts_tasks = !self.tasks.is_empty() || !self.workers.is_empty();
            let on_fargate = environment.capacity_providers.iter().any(|one| one.name.starts_with("FARGATE"))
                || environment.launch_type == Some(LaunchType::Fargate);
            if on_fargate && environment.subnets.is_empty() && starts_tasks {
                let why = "`subnets` is missing: each task on Fargate has a network interface of its own";
                flaws.push(Flaw::new(&path, why));
            }
            let is_other = matches!(environment.launch_type, Some(LaunchType::Ec2 | LaunchType::External));
            if is_other && (environment.platform_version.is_some() || environment.assign_public_ip) {
                let why = "`platform_version` and `assign_public_ip` are Fargate's: ECS refuses them with another \
                           `launch_type`";
                flaws.push(Flaw::new(&path, why));
            }
        }
        for (name, task) in &self.tasks {
            flaws.extend(name_error(name, LONGEST_NAME).map(|why| Flaw::new(&["tasks", name], why)));
            flaws.extend(timeout_error(task.timeout).map(|why| Flaw::new(&["tasks", name], why)));
            flaws.extend(self.unknown_environments("tasks", name, task.environments.as_ref()));
        }
        for (name, service) in &self.services {
            let path = ["services", name];
            flaws.extend(name_error(name, LONGEST_NAME).map(|why| Flaw::new(&path, why)));
            flaws.extend(timeout_error(service.timeout).map(|why| Flaw::new(&path, why)));
            flaws.extend(wait_errors(service).map(|(field, why)| Flaw::new(&["services", name, field], why)));
            if service.codedeploy_application.is_some() != service.deployment_group.is_some() {
                let why = "`codedeploy_application` and `deployment_group` belong together: give both, or none";
                flaws.push(Flaw::new(&path, why));
            }
            if service.port.is_none() && service.deployment_group.is_some() {
                let why = "`port` is missing: CodeDeploy moves the traffic of a container's port";
                flaws.push(Flaw::new(&path, why));
            }
            if service.deployment == Some(DeploymentKind::Codedeploy) && service.codedeploy().is_none() {
                let why = "`deployment: codedeploy` needs `codedeploy_application` and `deployment_group`";
                flaws.push(Flaw::new(&path, why));
            }
            if service.deployment == Some(DeploymentKind::Codedeploy) && service.barrier.is_some() {
                let why = "`barrier` is for services that ECS itself deploys: a CodeDeploy group waits by its own \
                           deploymentReadyOption";
                flaws.push(Flaw::new(&path, why));
            }
            flaws.extend(self.unknown_environments("services", name, service.environments.as_ref()));
        }
        flaws.extend(self.targets_that_are_one());
        flaws.extend(self.flaws_of_workers());
        flaws.extend(self.flaws_of_schedules());
        flaws.extend(self.flaws_of_notifications());
        flaws
    }

    /// Two targets that are the same service of ECS, or the same group of CodeDeploy: each would wait for the other.
    fn targets_that_are_one(&self) -> Vec<Flaw> {
        let mut known: BTreeMap<(String, Option<String>, String), String> = BTreeMap::new();
        let mut flaws = Vec::new();
        for (name, service) in &self.services {
            for (environment_name, environment) in self.environments_of(service.environments.as_ref()) {
                let named = |text: &str| in_environment(text, environment_name);
                let group = service.codedeploy().map(|names| {
                    let (application, group) = (named(names.application), named(names.group));
                    format!("the group {group} of {application}")
                });
                let service = format!("the service {} in {}", named(&service.service), environment.cluster);
                for what in [Some(service), group].into_iter().flatten() {
                    let place = (environment.region.clone(), environment.role.clone(), what.clone());
                    let own = format!("{environment_name}/{name}");
                    if let Some(other) = known.insert(place, own.clone()) {
                        let why = format!(
                            "{own} is {what}, and so is {other}: name each its own, such as with {{environment}} in its name"
                        );
                        flaws.push(Flaw::new(&["services", name], why));
                    }
                }
            }
        }
        // Of two that have their service in common, the group says nothing new.
        flaws.dedup_by(|second, first| second.path == first.path);
        flaws
    }

    fn flaws_of_workers(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        for (name, worker) in &self.workers {
            let path = ["workers", name];
            flaws.extend(name_error(name, LONGEST_NAME).map(|why| Flaw::new(&path, why)));
            flaws.extend(flaws_of_place(&path, worker.launch_type, &worker.capacity_providers));
            if !(1..=MOST_WORKERS).contains(&worker.most) {
                flaws.push(Flaw::new(&path, format!("`most` is 1 to {MOST_WORKERS}")));
            }
            if worker.live.0 < SHORTEST_LIFE {
                let least = crate::time::spoken(SHORTEST_LIFE);
                flaws.push(Flaw::new(
                    &path,
                    format!("`live` is {least} at least: a worker that ends sooner would be started again and again"),
                ));
            }
            if worker.warm > worker.most {
                flaws.push(Flaw::new(&path, "`warm` is more than `most`: nothing would be left for jobs"));
            }
            flaws.extend(self.unknown_environments("workers", name, worker.environments.as_ref()));
        }
        flaws
    }

    fn flaws_of_schedules(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        for (name, schedule) in &self.schedules {
            let path = ["schedules", name];
            flaws.extend(name_error(name, LONGEST_NAME).map(|why| Flaw::new(&path, why)));
            let unknown = |kind, name: &str, known: Vec<&str>| Flaw::new(&path, text::unknown(kind, name, known));
            match (&schedule.worker, &schedule.task) {
                (Some(worker), None) if !self.workers.contains_key(worker) => {
                    flaws.push(unknown("worker", worker, self.workers.keys().map(String::as_str).collect()));
                }
                (None, Some(task)) if !self.tasks.contains_key(task) => {
                    flaws.push(unknown("task", task, self.tasks.keys().map(String::as_str).collect()));
                }
                (None, Some(task)) if self.workers.contains_key(task) => {
                    let why =
                        format!("there is a worker `{task}`, too: what runs by the clock needs a name of its own");
                    flaws.push(Flaw::new(&path, why));
                }
                (Some(_), None) | (None, Some(_)) => {}
                (None, None) | (Some(_), Some(_)) => {
                    flaws.push(Flaw::new(&path, "name what it starts: either a `worker` or a `task`"));
                }
            }
            let zone = &schedule.time_zone;
            let fits = zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
            if zone.is_empty() || !fits {
                flaws.push(Flaw::new(&path, format!("`{zone}` is no time zone: name one as `Europe/Berlin` or `UTC`")));
            }
            flaws.extend(self.unknown_environments("schedules", name, schedule.environments.as_ref()));
        }
        flaws
    }

    fn unknown_environments(
        &self,
        part: &str,
        name: &str,
        listed: Option<&Vec<serde_saphyr::Spanned<String>>>,
    ) -> Vec<Flaw> {
        if listed.is_some_and(Vec::is_empty) {
            let why = "`environments` names none: leave it out where it is for all, or name some";
            return vec![Flaw::new(&[part, name], why)];
        }
        let listed = listed.into_iter().flatten().enumerate();
        let unknown = listed.filter(|(_, listed)| !self.environments.contains_key(&listed.value)).take(MOST_UNKNOWN);
        let flaw = |(at, listed): (usize, &serde_saphyr::Spanned<String>)| {
            let known = self.environments.keys().map(String::as_str);
            let message = format!("{part}.{name}: {}", text::unknown("environment", &listed.value, known));
            let path = [part, name, "environments", &at.to_string()].map(str::to_owned).to_vec();
            Flaw { path, at: Some((listed.referenced.line(), listed.referenced.column())), message }
        };
        unknown.map(flaw).collect()
    }

    fn flaws_of_notifications(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let told = &self.notifications;
        let mut address = |path: &[&str], url: &str| {
            let is_here = url.strip_prefix("http://127.0.0.1").is_some_and(|rest| {
                let rest = rest
                    .strip_prefix(':')
                    .map_or(rest, |port| port.trim_start_matches(|one: char| one.is_ascii_digit()));
                rest.is_empty() || rest.starts_with('/')
            });
            if !url.starts_with("https://") && !is_here {
                flaws.push(Flaw::new(path, "an address begins with https://"));
            }
        };
        for (name, one) in &told.http {
            address(&["notifications", "http", name, "url"], &one.url);
        }
        if let Some(one) = &told.sentry {
            address(&["notifications", "sentry", "url"], &one.url);
        }
        for name in told.http.keys() {
            flaws.extend(name_error(name, LONGEST_NAME).map(|why| Flaw::new(&["notifications", "http", name], why)));
        }
        if let Some(one) = &told.datadog
            && (one.site.contains(['/', ':']) || one.site.starts_with("app.") || one.site.is_empty())
        {
            let why =
                "`site` is a host as Datadog lists its sites, without `https://` and `app.`, such as `datadoghq.eu`";
            flaws.push(Flaw::new(&["notifications", "datadog"], why));
        }
        if let Some(one) = &told.sentry {
            let is_slug = |text: &String| {
                let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
                !text.is_empty() && text.bytes().all(fits)
            };
            if !is_slug(&one.organization) || one.projects.is_empty() || !one.projects.iter().all(is_slug) {
                let why =
                    "`organization` and `projects` are slugs (a-z, 0-9, - and _), and there is at least one project";
                flaws.push(Flaw::new(&["notifications", "sentry"], why));
            }
        }
        for (path, parameter) in told.parameters() {
            let fits = parameter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte));
            if !parameter.starts_with('/') || !fits || parameter.contains("//") {
                // It is not shown: somebody may have written the secret itself.
                let why = "name an SSM parameter, such as /shop/slack-webhook, and never the secret itself";
                flaws.push(Flaw::new(&path, why));
            }
        }
        flaws
    }
}

fn flaws_of_place(path: &[&str], launch_type: Option<LaunchType>, providers: &[CapacityProvider]) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if launch_type.is_some() && !providers.is_empty() {
        flaws.push(Flaw::new(path, "`launch_type` and `capacity_providers` exclude each other: keep one"));
    }
    if providers.len() > 1 && providers.iter().all(|provider| provider.weight == 0) {
        flaws.push(Flaw::new(path, "`capacity_providers`: give at least one of them a `weight` above 0"));
    }
    flaws
}

/// When CodePipeline ends an action (fact 6).
const DAY: Duration = Duration::from_secs(24 * 3600);

fn timeout_error(timeout: Span) -> Option<String> {
    let fits = !timeout.0.is_zero() && timeout.0 <= DAY;
    (!fits).then(|| format!("`timeout: {timeout}`: more than 0 and 24h at most, when CodePipeline ends the action"))
}

/// The longest that old tasks are waited for: CodePipeline would fail an action that waits for them longer than a day.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(23 * 3600);

fn wait_errors(service: &Service) -> impl Iterator<Item = (&'static str, &'static str)> {
    let group = (service.wait_for_group.0 > DAY).then_some("24h at most, when CodePipeline ends the action");
    let drain = (service.drain_for.0 > LONGEST_DRAIN).then_some(
        "23h at most, since CodePipeline ends the action after a day; what protects itself longer is left to finish all the same",
    );
    group.map(|why| ("wait_for_group", why)).into_iter().chain(drain.map(|why| ("drain_for", why)))
}

fn name_error(name: &str, longest: usize) -> Option<String> {
    let fits = (1..=longest).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_');
    (!fits).then(|| format!("a name has 1 to {longest} of a-z, 0-9, - and _"))
}
