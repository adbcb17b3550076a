//! The worker services of a release, and their old tasks.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use shared::aws::Place;
use shared::aws::codedeploy::{Codedeploy, Deployment, Listed, Wait};
use shared::aws::ecs::{self, Ecs, Of, Task};
use shared::manifest::{Environment, Manifest, Service as Described, ServiceKind, in_environment};
use shared::{Error, Tick, Time, Trouble, names};

use crate::decide::{self, Phase};

/// The worker services in all their environments.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) services: Vec<Service>,
}

/// One worker service in one environment.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) environment_name: String,
    pub(crate) name: String,
    pub(crate) environment: Environment,
    pub(crate) described: Described,
    ecs_service: String,
    ecs: Ecs,
    codedeploy: Codedeploy,
    pub(crate) deployed: Deployed,
    /// Whether its traffic has moved: only then there is a wait to end.
    moved: bool,
    /// What tells the new tasks from the old ones: the task set that started them, or the definition that they run.
    new: Option<New>,
    /// The old tasks, by ARN, as they were seen last.
    pub(crate) old: BTreeMap<String, Task>,
    pub(crate) protected: BTreeMap<String, Option<Time>>,
    /// When the end of its wait was asked for.
    released: Option<Time>,
    listed: bool,
    looking: Trouble,
    acting: Trouble,
    pub(crate) lost: Option<String>,
}

/// How the service came to its new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deployed {
    /// What is there is not known yet.
    NotYet,
    /// Not by this release.
    Not,
    /// By this release, which took it back.
    TakenBack,
    /// By this deployment of CodeDeploy's.
    ByCodedeploy(Deployment),
    /// By ECS itself, since then.
    ByEcs(Time),
}

/// What the new tasks have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
enum New {
    Set(String),
    Definition(String),
}

impl Plan {
    pub(crate) async fn new(tick: &Tick<'_>, manifest: Manifest) -> Self {
        let mut services = Vec::new();
        let workers = manifest.services.iter().filter(|(_, service)| service.kind == ServiceKind::Worker);
        for (name, described) in workers {
            for (environment_name, environment) in manifest.environments_of(described.environments.as_ref()) {
                let place = Place::from(environment);
                services.push(Service {
                    environment_name: environment_name.to_owned(),
                    name: name.clone(),
                    environment: environment.clone(),
                    described: described.clone(),
                    ecs_service: in_environment(&described.service, environment_name),
                    ecs: tick.aws.ecs(&place).await,
                    codedeploy: tick.aws.codedeploy(&place).await,
                    deployed: Deployed::NotYet,
                    moved: false,
                    new: None,
                    old: BTreeMap::new(),
                    protected: BTreeMap::new(),
                    released: None,
                    listed: false,
                    looking: Trouble::default(),
                    acting: Trouble::default(),
                    lost: None,
                });
            }
        }
        Self { services }
    }

    /// Looks at every place at once.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) {
        let mut places: BTreeMap<Place, Vec<&mut Service>> = BTreeMap::new();
        for service in &mut self.services {
            places.entry(Place::from(&service.environment)).or_default().push(service);
        }
        join_all(places.into_values().map(async |mut services| {
            for service in services.iter_mut().filter(|service| !service.listed) {
                let found = service.find(tick).await;
                service.note(tick, found);
            }
            look_at_deployments(tick, &mut services).await;
            look_at_old_tasks(tick, &mut services).await;
        }))
        .await;
    }

    /// Ends the termination wait of the services at these places (fact 30).
    ///
    /// Safe to repeat: see the call.
    pub(crate) async fn release(&mut self, tick: &Tick<'_>, at: &[usize]) {
        join_all(self.services.iter_mut().enumerate().filter(|(place, _)| at.contains(place)).map(
            async |(_, service)| {
                if let Deployed::ByCodedeploy(deployment) = &service.deployed {
                    let released = service.codedeploy.go_on(&deployment.id, Wait::Termination).await;
                    match service.acting.note(tick.now, released) {
                        Ok(Some(())) => service.released = Some(tick.now),
                        Ok(None) => {}
                        Err(verdict) => service.lost = Some(verdict.message),
                    }
                }
            },
        ))
        .await;
    }
}

/// What CodeDeploy says of those deployments that still hold their old tasks, 25 to a call.
async fn look_at_deployments(tick: &Tick<'_>, services: &mut [&mut Service]) {
    let held = services.iter().filter(|service| matches!(service.phase(), Phase::Holding | Phase::Ending));
    let ids: Vec<_> = held
        .filter_map(|service| service.deployment().filter(|one| !one.is_over()).map(|one| one.id.clone()))
        .collect();
    let Some(codedeploy) = services.first().filter(|_| !ids.is_empty()).map(|service| service.codedeploy.clone())
    else {
        return;
    };
    let found = codedeploy.batch(&ids).await;
    for service in services.iter_mut() {
        let Some(id) = service.deployment().map(|one| one.id.clone()).filter(|id| ids.contains(id)) else { continue };
        if let Some(found) = service.note(tick, found.clone())
            && let Some(seen) = found.into_iter().find(|one| one.id == id)
        {
            service.deployed = match seen.is_over() && seen.status != "Succeeded" {
                true => Deployed::TakenBack,
                false => Deployed::ByCodedeploy(seen),
            };
        }
    }
}

/// The old tasks that still run, and which of them protect themselves: a hundred to a call for each cluster.
async fn look_at_old_tasks(tick: &Tick<'_>, services: &mut [&mut Service]) {
    let mut clusters: BTreeMap<String, (Ecs, Vec<String>)> = BTreeMap::new();
    for service in services.iter().filter(|service| service.listed && service.lost.is_none()) {
        let run = service.old.values().filter(|task| !task.is_over()).map(|task| task.arn.clone());
        let empty = || (service.ecs.clone(), Vec::new());
        clusters.entry(service.environment.cluster.clone()).or_insert_with(empty).1.extend(run);
    }
    for (cluster, (ecs, arns)) in clusters.into_iter().filter(|(_, (_, arns))| !arns.is_empty()) {
        let tasks = ecs.describe_tasks(&cluster, &arns).await;
        let protected = ecs.protected(&cluster, &arns).await;
        for service in services.iter_mut().filter(|service| service.environment.cluster == cluster) {
            if let Some(tasks) = service.note(tick, tasks.clone()) {
                for task in tasks {
                    service.old.entry(task.arn.clone()).and_modify(|known| *known = task);
                }
            }
            if let Some(protected) = service.note(tick, protected.clone()) {
                service.protected = protected.into_iter().filter(|(arn, _)| service.old.contains_key(arn)).collect();
            }
        }
    }
}

impl Service {
    /// `us/worker`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.environment_name, self.name)
    }

    /// What `decide` is told of it.
    pub(crate) fn seen(&self, tick: &Tick<'_>) -> decide::Service {
        decide::Service { phase: self.phase(), out_of_time: tick.now.since(tick.begun) > self.described.drain_for.0 }
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.lost.is_some() {
            return Phase::Lost;
        }
        let all_gone = || if self.old.values().all(Task::is_over) { Phase::Gone } else { Phase::Ending };
        match &self.deployed {
            Deployed::NotYet => Phase::Unknown,
            Deployed::Not | Deployed::TakenBack => Phase::Gone,
            Deployed::ByCodedeploy(_) | Deployed::ByEcs(_) if !self.listed => Phase::Unknown,
            Deployed::ByCodedeploy(deployment) if !deployment.is_over() && self.moved && self.released.is_none() => {
                Phase::Holding
            }
            Deployed::ByCodedeploy(_) | Deployed::ByEcs(_) => all_gone(),
        }
    }

    fn deployment(&self) -> Option<&Deployment> {
        match &self.deployed {
            Deployed::ByCodedeploy(deployment) => Some(deployment),
            Deployed::NotYet | Deployed::Not | Deployed::TakenBack | Deployed::ByEcs(_) => None,
        }
    }

    fn note<T>(&mut self, tick: &Tick<'_>, outcome: Result<T, Error>) -> Option<T> {
        match self.looking.note(tick.now, outcome) {
            Ok(noted) => noted,
            Err(verdict) => {
                self.lost = Some(verdict.message);
                None
            }
        }
    }

    /// How it was deployed, and which of its tasks are old.
    async fn find(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        if self.lost.is_some() || matches!(self.deployed, Deployed::Not | Deployed::TakenBack) {
            return Ok(());
        }
        if self.deployed == Deployed::NotYet {
            self.deployed = match self.described.codedeploy() {
                Some(_) => self.find_deployment(tick).await?,
                None => self.find_update().await?,
            };
        }
        let since = match &self.deployed {
            Deployed::NotYet | Deployed::Not | Deployed::TakenBack => return Ok(()),
            Deployed::ByEcs(since) => *since,
            Deployed::ByCodedeploy(deployment) => {
                let target =
                    self.codedeploy.target(&deployment.id, &self.environment.cluster, &self.ecs_service).await?;
                self.moved = target.as_ref().is_some_and(|target| target.status == "Succeeded");
                let Some(set) = target.and_then(|target| target.new) else { return Ok(()) };
                self.new = Some(New::Set(set.id));
                deployment.created.unwrap_or_default()
            }
        };
        let is_old = |task: &Task| match &self.new {
            Some(New::Set(set)) => task.started_by != *set,
            Some(New::Definition(definition)) => task.definition != *definition,
            None => false,
        };
        // ECS lists what stopped within the hour: what had stopped before this deployment is none of its business.
        let concerned = |task: &Task| task.stopped.is_none_or(|stopped| stopped >= since);
        let tasks = self.ecs.tasks(&self.environment.cluster, Of::Service(&self.ecs_service)).await?;
        let old = tasks.into_iter().filter(|task| is_old(task) && concerned(task));
        self.old = old.map(|task| (task.arn.clone(), task)).collect();
        self.listed = true;
        Ok(())
    }

    async fn find_deployment(&self, tick: &Tick<'_>) -> Result<Deployed, Error> {
        let Some(names) = self.described.codedeploy() else { return Ok(Deployed::Not) };
        let application = in_environment(names.application, &self.environment_name);
        let group = in_environment(names.group, &self.environment_name);
        let own = format!("{} {}/{} ", names::description_prefix(tick.release), self.environment_name, self.name);
        // Those that are under way are few; one that is over is looked for among all.
        let mut found = Vec::new();
        for listed in [Listed::UnderWay, Listed::Since(Time::default())] {
            let ids = self.codedeploy.list(&application, &group, listed).await?;
            found = self.codedeploy.batch(&ids).await?;
            found.retain(|deployment| deployment.description.starts_with(&own));
            if !found.is_empty() {
                break;
            }
        }
        found.sort_by_key(|deployment| std::cmp::Reverse(deployment.created));
        Ok(match found.into_iter().next() {
            None => Deployed::Not,
            Some(newest) if names::is_back(&newest.description, &own) => Deployed::TakenBack,
            Some(newest) if matches!(newest.status.as_str(), "Failed" | "Stopped") => Deployed::TakenBack,
            Some(newest) => Deployed::ByCodedeploy(newest),
        })
    }

    /// A service that ECS itself updates: since when, and to which definition.
    async fn find_update(&mut self) -> Result<Deployed, Error> {
        let names = [self.ecs_service.clone()];
        let found = self.ecs.services(&self.environment.cluster, &names).await?;
        let Some(service) = found.get(&self.ecs_service) else { return Ok(Deployed::Not) };
        self.new = Some(New::Definition(service.definition.clone()));
        Ok(Deployed::ByEcs(service.deployed.unwrap_or_default()))
    }

    /// The link to a task in the ECS console.
    pub(crate) fn link(&self, task: &Task) -> String {
        names::task_link(&self.environment.region, &self.environment.cluster, ecs::id(&task.arn))
    }
}
