//! The worker services of a release, and their old tasks.

use std::collections::HashMap;

use futures_util::future::join_all;
use shared::aws::Place;
use shared::aws::codedeploy::{Codedeploy, Deployment, Wait};
use shared::aws::ecs::{Ecs, Of, Task};
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
    environment: Environment,
    described: Described,
    ecs_service: String,
    ecs: Ecs,
    codedeploy: Codedeploy,
    deployment: Found,
    /// The id of the new task set: tasks that it did not start are old.
    new_set: Option<String>,
    /// The old tasks, by ARN, as they were seen last.
    pub(crate) old: HashMap<String, Task>,
    pub(crate) protected: HashMap<String, Option<Time>>,
    listed: bool,
    looking: Trouble,
    acting: Trouble,
    pub(crate) lost: Option<String>,
}

/// This release's deployment of the service.
#[derive(Debug)]
enum Found {
    NotYet,
    None,
    One(Deployment),
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
                    deployment: Found::NotYet,
                    new_set: None,
                    old: HashMap::new(),
                    protected: HashMap::new(),
                    listed: false,
                    looking: Trouble::default(),
                    acting: Trouble::default(),
                    lost: None,
                });
            }
        }
        Self { services }
    }

    /// Looks at every service at once.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) {
        join_all(self.services.iter_mut().map(async |service| {
            let looked = service.look(tick).await;
            service.note(tick, looked);
        }))
        .await;
    }

    /// Ends the termination wait of the services at these places (fact 30).
    ///
    /// Safe to repeat: see the call.
    pub(crate) async fn release(&mut self, tick: &Tick<'_>, at: &[usize]) {
        join_all(self.services.iter_mut().enumerate().filter(|(place, _)| at.contains(place)).map(
            async |(_, service)| {
                if let Found::One(deployment) = &service.deployment {
                    let released = service.codedeploy.go_on(&deployment.id, Wait::Termination).await;
                    if let Err(verdict) = service.acting.note(tick.now, released) {
                        service.lost = Some(verdict.message);
                    }
                }
            },
        ))
        .await;
    }
}

impl Service {
    /// What `decide` is told of it.
    pub(crate) fn seen(&self, tick: &Tick<'_>) -> decide::Service {
        decide::Service { phase: self.phase(), out_of_time: tick.now.since(tick.begun) > self.described.drain_for.0 }
    }

    fn phase(&self) -> Phase {
        if self.lost.is_some() {
            return Phase::Lost;
        }
        match &self.deployment {
            Found::NotYet => Phase::Unknown,
            Found::None => Phase::Gone,
            Found::One(_) if !self.listed => Phase::Unknown,
            Found::One(deployment) if !deployment.is_over() => Phase::Holding,
            Found::One(_) if self.old.values().all(Task::is_over) => Phase::Gone,
            Found::One(_) => Phase::Ending,
        }
    }

    /// Whether this release has deployed it.
    pub(crate) fn is_of_this_release(&self) -> bool {
        matches!(self.deployment, Found::One(_))
    }

    fn note(&mut self, tick: &Tick<'_>, outcome: Result<(), Error>) {
        if let Err(verdict) = self.looking.note(tick.now, outcome) {
            self.lost = Some(verdict.message);
        }
    }

    async fn look(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        if matches!(self.phase(), Phase::Gone | Phase::Lost) {
            return Ok(());
        }
        self.look_for_deployment(tick).await?;
        let Found::One(deployment) = &self.deployment else { return Ok(()) };
        let created = deployment.created.unwrap_or_default();
        if self.new_set.is_none() {
            let cluster = &self.environment.cluster;
            let target = self.codedeploy.target(&deployment.id, cluster, &self.ecs_service).await?;
            self.new_set = target.and_then(|target| target.new).map(|new| new.id);
        }
        if !self.listed {
            let tasks = self.ecs.tasks(&self.environment.cluster, Of::Service(&self.ecs_service)).await?;
            let new_set = self.new_set.clone();
            let is_old = |task: &Task| Some(&task.started_by) != new_set.as_ref();
            // ECS lists what stopped within the hour: what had stopped before this deployment is none of its business.
            let concerned = |task: &Task| task.stopped.is_none_or(|stopped| stopped >= created);
            self.old = tasks
                .into_iter()
                .filter(|task| is_old(task) && concerned(task))
                .map(|task| (task.arn.clone(), task))
                .collect();
            self.listed = true;
        } else {
            self.look_at_old_tasks().await?;
        }
        Ok(())
    }

    async fn look_for_deployment(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        self.deployment = match &self.deployment {
            Found::One(known) if !known.is_over() => {
                let seen = self.codedeploy.batch(std::slice::from_ref(&known.id)).await?.pop();
                Found::One(seen.unwrap_or_else(|| known.clone()))
            }
            Found::One(_) | Found::None => return Ok(()),
            Found::NotYet => {
                let application = in_environment(&self.described.codedeploy_application, &self.environment_name);
                let group = in_environment(&self.described.deployment_group, &self.environment_name);
                let own =
                    format!("{} {}/{} ", names::description_prefix(tick.release), self.environment_name, self.name);
                let found = self.codedeploy.deployments(&application, &group, Time::default()).await?;
                let found = found.into_iter().find(|deployment| deployment.description.starts_with(&own));
                found.map_or(Found::None, Found::One)
            }
        };
        Ok(())
    }

    async fn look_at_old_tasks(&mut self) -> Result<(), Error> {
        let cluster = &self.environment.cluster;
        let running = self.old.values().filter(|task| !task.is_over());
        let arns: Vec<_> = running.map(|task| task.arn.clone()).collect();
        if arns.is_empty() {
            return Ok(());
        }
        for task in self.ecs.describe_tasks(cluster, &arns).await? {
            self.old.insert(task.arn.clone(), task);
        }
        self.protected = self.ecs.protected(cluster, &arns).await?;
        Ok(())
    }
}
