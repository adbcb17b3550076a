//! The worker services of a release, and their old tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use shared::artifact::Content;
use shared::aws::SHOWN;
use shared::aws::codepipeline::Codepipeline;
use shared::aws::ecs::{self, Ecs, Of, Task};
use shared::manifest::{LONGEST_DRAIN, ServiceKind};
use shared::targets::{self, Kind, Moment, Phase as Deployment, Purpose, Site, Target, Whose};
use shared::{Aws, Error, Tick, Time, Trouble, names};

use crate::decide::{self, Phase};

/// How long before this action the release may have deployed, where no action of its that deploys is known.
const LONG_AGO: Duration = Duration::from_secs(24 * 3600);

/// How many services' tasks are listed in one look in one place, at three reads each: a look that is longer than an invocation
/// would never come to its end.
const LISTED_AT_ONCE: usize = 4;

/// The longest bake time that is waited for: whoever lets old tasks live longer does not want a pipeline to wait for it.
const LONGEST_BAKE: Duration = Duration::from_secs(3600);

/// The worker services in all their environments.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) services: Vec<Service>,
    aws: Aws,
    whose: Whose,
}

/// One worker service in one environment.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) site: Site,
    pub(crate) deployed: Deployed,
    /// The old tasks, by ARN, as they were seen last.
    pub(crate) old: BTreeMap<String, Task>,
    pub(crate) protected: BTreeMap<String, Option<Time>>,
    /// When the end of its wait was asked for.
    released: Option<Time>,
    was_released: bool,
    listed: bool,
    /// Whether ECS was seen to let the old tasks live: until then, it starts another one for each that dies.
    baked: bool,
    looking: Trouble,
    acting: Trouble,
    pub(crate) lost: Option<String>,
}

/// How the service came to its new version.
#[derive(Debug, Clone)]
pub(crate) enum Deployed {
    /// What is there is not known yet.
    NotYet(Box<Target>),
    /// Not by this release.
    Not,
    /// By this release, which took it back, or somebody did.
    TakenBack,
    /// By this release.
    By(Box<Target>),
}

/// What tells the new tasks from the old ones: the task set that started them, or the definition that they run.
enum New {
    Set(String),
    Definition(String),
}

impl Plan {
    /// # Errors
    /// The call's.
    pub(crate) async fn new(tick: &Tick<'_>, content: Content) -> Result<Self, Error> {
        let manifest = content.manifest;
        let mut services = Vec::new();
        let workers = manifest.services.iter().filter(|(_, service)| service.kind == ServiceKind::Worker);
        for (name, service) in workers {
            for environment in manifest.environments_of(service.environments.as_ref()) {
                let site = Site::new(tick.aws, environment, (name, service)).await;
                services.push(Service {
                    deployed: Deployed::NotYet(Box::new(Target::new(site.clone(), 0))),
                    site,
                    old: BTreeMap::new(),
                    protected: BTreeMap::new(),
                    released: None,
                    was_released: false,
                    listed: false,
                    baked: false,
                    looking: Trouble::default(),
                    acting: Trouble::default(),
                    lost: None,
                });
            }
        }
        let actions =
            if services.is_empty() { Vec::new() } else { Codepipeline::new(tick.aws).siblings(tick.release).await? };
        let began = actions.iter().filter(|one| one.deploys).filter_map(|one| one.started).min();
        let whose = Whose {
            release: tick.release.clone(),
            of: targets::Of::Release { facts: Default::default(), facts_until: None, until: None, ended: None },
            since: began.unwrap_or_else(|| tick.begun.before(LONG_AGO)),
            image: content.image,
        };
        Ok(Self { services, aws: tick.aws.clone(), whose })
    }

    /// Looks at every place at once.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) {
        let moment = Moment::new(tick.now, Purpose::Drain);
        self.look_at_deployments(&moment, tick.begun).await;
        let mut places: BTreeMap<(String, Option<String>), Vec<&mut Service>> = BTreeMap::new();
        for service in &mut self.services {
            let place = &service.site.place;
            places.entry((place.region.clone(), place.role.clone())).or_default().push(service);
        }
        join_all(places.into_values().map(async |mut services| {
            let unlisted = services.iter_mut().filter(|service| !service.listed && service.is_deployed());
            for service in unlisted.take(LISTED_AT_ONCE) {
                let found = service.list().await;
                service.note(tick.now, found);
            }
            look_at_old_tasks(tick.now, &mut services).await;
        }))
        .await;
    }

    /// How each service was deployed, and how its deployment stands, as far as that may still change.
    async fn look_at_deployments(&mut self, moment: &Moment, begun: Time) {
        let (mut at, mut looked) = (Vec::new(), Vec::new());
        for (place, service) in self.services.iter().enumerate() {
            if let Some(target) = service.target().filter(|_| service.phase() != Phase::Gone) {
                at.push(place);
                looked.push(target.clone());
            }
        }
        targets::look(&mut looked, &self.aws, moment, &self.whose).await;
        for (place, target) in at.into_iter().zip(looked) {
            let service = &mut self.services[place];
            // What is not there was not deployed.
            let is_absent = matches!(target.kind, Kind::Absent);
            service.lost = service.lost.take().or_else(|| target.broken().filter(|_| !is_absent));
            service.deployed = deployed(target, moment);
            // Told not to wait before its wait had begun: CodeDeploy answers both alike.
            if service.released.is_some_and(|at| moment.now.since(at) > SHOWN) && service.holds() {
                service.released = None;
            }
            let bakes = service.phase() == Phase::Baking;
            service.listed &= bakes || !service.baked;
            service.baked = bakes;
            // One that was created a moment ago may not be listed yet: Deploy can be over within seconds.
            if matches!(service.deployed, Deployed::Not) && moment.now.since(begun) < SHOWN {
                service.deployed = Deployed::NotYet(Box::new(Target::new(service.site.clone(), 0)));
            }
        }
    }

    /// Ends the termination wait of the services at these places (fact 30).
    ///
    /// Safe to repeat: see the call.
    pub(crate) async fn release(&mut self, tick: &Tick<'_>, at: &[usize]) {
        join_all(self.services.iter_mut().enumerate().filter(|(place, _)| at.contains(place)).map(
            async |(_, service)| {
                let Deployed::By(target) = &service.deployed else { return };
                let released = target.end_wait().await;
                match service.acting.note(tick.now, released) {
                    Ok(Some(())) => {
                        service.released = Some(tick.now);
                        // Of those that had died before, others have come in their place.
                        service.listed &= service.was_released;
                        service.was_released = true;
                    }
                    Ok(None) => {}
                    Err(verdict) => service.lost = Some(verdict.message),
                }
            },
        ))
        .await;
    }
}

/// What a target that was looked at says of how its service was deployed.
fn deployed(target: Target, moment: &Moment) -> Deployed {
    match target.phase(moment) {
        Deployment::Unknown => Deployed::NotYet(Box::new(target)),
        Deployment::Empty | Deployment::Same | Deployment::Busy { .. } => Deployed::Not,
        Deployment::Failed { .. } if target.deployment().is_none() => Deployed::Not,
        Deployment::Going | Deployment::Held | Deployment::Ready | Deployment::Shifting | Deployment::Between => {
            Deployed::By(Box::new(target))
        }
        Deployment::Moved | Deployment::Done => Deployed::By(Box::new(target)),
        Deployment::Failed { .. }
        | Deployment::Over { .. }
        | Deployment::RollingBack { .. }
        | Deployment::BackWaits => Deployed::TakenBack,
        Deployment::RolledBack | Deployment::Stranded { .. } | Deployment::Stuck { .. } => Deployed::TakenBack,
    }
}

/// The old tasks that still run, and which of them protect themselves: a hundred to a call for each cluster.
async fn look_at_old_tasks(now: Time, services: &mut [&mut Service]) {
    let mut clusters: BTreeMap<String, (Ecs, Vec<String>)> = BTreeMap::new();
    for service in services.iter().filter(|service| service.listed && service.lost.is_none()) {
        let run = service.old.values().filter(|task| !task.is_over()).map(|task| task.arn.clone());
        let empty = || (service.site.ecs.clone(), Vec::new());
        clusters.entry(service.site.cluster().to_owned()).or_insert_with(empty).1.extend(run);
    }
    for (cluster, (ecs, arns)) in clusters.into_iter().filter(|(_, (_, arns))| !arns.is_empty()) {
        let tasks = ecs.describe_tasks(&cluster, &arns).await;
        let protected = ecs.protected(&cluster, &arns).await;
        for service in services.iter_mut().filter(|service| service.site.cluster() == cluster) {
            if let Some(tasks) = service.note(now, tasks.clone()) {
                for task in tasks {
                    service.old.entry(task.arn.clone()).and_modify(|known| *known = task);
                }
            }
            if let Some(protected) = service.note(now, protected.clone()) {
                service.protected = protected.into_iter().filter(|(arn, _)| service.old.contains_key(arn)).collect();
            }
        }
    }
}

impl Service {
    /// `us/worker`.
    pub(crate) fn label(&self) -> String {
        self.site.name()
    }

    /// What `decide` is told of it.
    pub(crate) fn seen(&self, tick: &Tick<'_>) -> decide::Service {
        let waits =
            self.bake().filter(|bake| *bake <= LONGEST_BAKE).unwrap_or_default() + self.site.service.drain_for.0;
        // Also of a manifest that an older version took.
        let waits = waits.min(LONGEST_DRAIN);
        decide::Service { phase: self.phase(), out_of_time: tick.now.since(tick.begun) > waits }
    }

    /// How long its old tasks stay before ECS itself ends them.
    pub(crate) fn bake(&self) -> Option<Duration> {
        match &self.target()?.kind {
            Kind::Ecs(native) => Some(native.bake),
            Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) => None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.lost.is_some() {
            return Phase::Lost;
        }
        let all_gone = || if self.old.values().all(Task::is_over) { Phase::Gone } else { Phase::Ending };
        match &self.deployed {
            Deployed::NotYet(_) => Phase::Unknown,
            Deployed::Not | Deployed::TakenBack => Phase::Gone,
            Deployed::By(_) if !self.listed => Phase::Unknown,
            Deployed::By(target) => match &target.kind {
                Kind::Codedeploy(_) if self.holds() && self.released.is_none() => Phase::Holding,
                Kind::Codedeploy(_) => all_gone(),
                Kind::Ecs(native) => {
                    let bakes =
                        native.tried().is_some_and(|tried| tried.deployment.stage == Some(ecs::Stage::BakeTime));
                    let over = native.tried().is_some_and(|tried| tried.deployment.status.is_over());
                    if bakes && !over { Phase::Baking } else { all_gone() }
                }
                Kind::Unknown | Kind::Absent => Phase::Unknown,
            },
        }
    }

    /// Whether CodeDeploy keeps its old tasks, as it was seen last.
    fn holds(&self) -> bool {
        let Deployed::By(target) = &self.deployed else { return false };
        let Kind::Codedeploy(group) = &target.kind else { return false };
        group.tried().is_some_and(|tried| !tried.deployment.is_over() && tried.has_moved())
    }

    /// Whether its old tasks can be told from the new ones.
    fn is_deployed(&self) -> bool {
        matches!(&self.deployed, Deployed::By(target) if new(target).is_some())
    }

    fn target(&self) -> Option<&Target> {
        match &self.deployed {
            Deployed::NotYet(target) | Deployed::By(target) => Some(target),
            Deployed::Not | Deployed::TakenBack => None,
        }
    }

    fn note<T>(&mut self, now: Time, outcome: Result<T, Error>) -> Option<T> {
        match self.looking.note(now, outcome) {
            Ok(noted) => noted,
            Err(verdict) => {
                self.lost = Some(verdict.message);
                None
            }
        }
    }

    /// Lists its old tasks, once what tells them from the new ones is known.
    async fn list(&mut self) -> Result<(), Error> {
        let Deployed::By(target) = &self.deployed else { return Ok(()) };
        let Some((new, since, ended)) = new(target).filter(|_| self.lost.is_none()) else { return Ok(()) };
        let is_new = |task: &Task| match &new {
            New::Set(set) => task.started_by == *set,
            New::Definition(definition) => task.definition == *definition,
        };
        // What was created after its end is of the next release.
        let is_later = |task: &Task| task.created.zip(ended).is_some_and(|(created, ended)| created > ended);
        // ECS lists what stopped within the hour: what had stopped before this deployment is none of its business.
        let concerned = |task: &Task| task.stopped.is_none_or(|stopped| stopped >= since);
        let tasks = self.site.ecs.tasks(self.site.cluster(), Of::Service(&self.site.ecs_service)).await?;
        let old = tasks.into_iter().filter(|task| !is_new(task) && !is_later(task) && concerned(task));
        self.old = old.map(|task| (task.arn.clone(), task)).collect();
        self.listed = true;
        Ok(())
    }

    /// The link to a task in the ECS console.
    pub(crate) fn link(&self, task: &Task) -> String {
        names::task_link(&self.site.place.region, self.site.cluster(), ecs::id(&task.arn))
    }
}

/// What tells the new tasks of a deployment from the old ones, since when there are any, and when it had come to its end.
fn new(target: &Target) -> Option<(New, Time, Option<Time>)> {
    match &target.kind {
        Kind::Unknown | Kind::Absent => None,
        Kind::Codedeploy(group) => {
            let tried = group.tried()?;
            let set = tried.seen.as_ref()?.new.as_ref()?.id.clone();
            Some((New::Set(set), tried.deployment.created.unwrap_or_default(), tried.deployment.completed))
        }
        Kind::Ecs(native) => {
            let tried = native.tried()?;
            let new = New::Definition(tried.definition.clone());
            Some((new, tried.deployment.created.unwrap_or_default(), tried.deployment.finished))
        }
    }
}
