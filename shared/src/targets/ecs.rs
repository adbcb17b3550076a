//! A target that ECS itself deploys: blue/green, linear, canary, rolling (facts 43 to 48).
//!
//! Invariants: a deployment is begun only where none of this action was found; it is found again by what it deploys (the
//! release's image, or its very task definition) and by when it was created, since `UpdateService` takes no key (fact 44).

use std::time::Duration;

use crate::aws::ecs::{Deployment, Listed, Service, Stage, Status, Strategy, WorkloadRevision, id};
use crate::error::Error;
use crate::targets::codedeploy::Context;
use crate::targets::phase::{Frees, Phase};
use crate::targets::site::{Busy, Site, Whose};
use crate::targets::words;
use crate::time::Time;

/// How long after the time limit of the release's own deployment a barrier that Cutover adds takes it back by itself: only
/// when no function is there any more to do it.
const BARRIER_BEYOND: Duration = Duration::from_secs(3600);

/// How long the end of a pause may take to be shown.
const PAUSE_SHOWN: Duration = Duration::from_secs(10);

/// A service that ECS deploys, and what of the release is there.
#[derive(Debug, Clone)]
pub struct Native {
    /// How ECS brings a new version.
    pub strategy: Strategy,
    /// The stage at which its deployments wait for being continued; none without one.
    pub barrier: Option<Stage>,
    /// Its configuration with a barrier, when the manifest wants one added and it has none.
    adds: Option<serde_json::Value>,
    /// How long its old tasks stay after the traffic has moved.
    pub bake: Duration,
    /// The stages at which a PAUSE hook of its own configuration stops a deployment.
    pauses: Vec<Stage>,
    /// Whether a load balancer asks its tasks whether they are healthy.
    pub is_balanced: bool,
    /// Whether old tasks may be stopped before new ones are healthy: then that those go tells nothing of these.
    pub stops_first: bool,
    /// When what the service has was begun, where ECS says so.
    began: Option<Time>,
    /// Whether ECS had given that up, and left it so.
    gave_up: bool,
    /// The task definition that the service had when it was looked at, or when what had kept it busy was over.
    pub had: String,
    /// What was found there.
    pub standing: Standing,
    /// Whether it was asked what keeps it busy, and nothing has begun there since, as far as was seen.
    pub(super) is_asked: bool,
}

/// What of the release is at a service.
#[derive(Debug, Clone)]
pub enum Standing {
    /// Deployments were not listed yet.
    NotListed,
    /// None is there; perhaps another one is.
    None(Option<Busy>),
    /// The service runs this very version.
    Same,
    /// This one is.
    Ours(Box<Tried>),
}

/// A service deployment of the release.
#[derive(Debug, Clone)]
pub struct Tried {
    /// It.
    pub deployment: Deployment,
    /// What it deploys.
    pub definition: String,
    /// What ran before; none when it was several, or is not known.
    pub before: Option<String>,
    /// The deployment of what ran before.
    pub back: Option<Deployment>,
    /// When that one was first seen to be over.
    pub(super) back_over: Option<Time>,
    /// Since when all of its tasks are seen to run, or it to be over; of one that an invocation before this one has begun, since this one looks.
    pub(super) runs_since: Option<Time>,
    /// The pause that was ended last, and when: until that shows, it is not asked for again.
    ended_pause: Option<(String, Time)>,
}

impl Native {
    /// A service that was looked at; its deployments were not listed yet.
    #[must_use]
    pub fn new(site: &Site, seen: &Service) -> Self {
        let wants = site.service.barrier == Some(crate::manifest::Barrier::Add);
        let adds = wants && seen.barrier().is_none() && seen.can_pause();
        let limit = site.service.timeout.0 + BARRIER_BEYOND;
        Self {
            strategy: seen.strategy.clone(),
            barrier: seen.barrier().cloned().or(adds.then_some(Stage::PreProductionTrafficShift)),
            adds: adds.then(|| seen.with_barrier(limit)),
            bake: seen.bake,
            pauses: seen.pauses.clone(),
            is_balanced: seen.is_balanced,
            stops_first: seen.stops_first(),
            began: seen.deployed,
            gave_up: seen.has_given_up,
            had: seen.definition.clone(),
            standing: Standing::NotListed,
            is_asked: false,
        }
    }

    /// Whether Cutover puts the barrier there with the deployment that it begins.
    #[must_use]
    pub fn adds_barrier(&self) -> bool {
        self.adds.is_some()
    }

    /// The release's deployment.
    #[must_use]
    pub fn tried(&self) -> Option<&Tried> {
        match &self.standing {
            Standing::Ours(tried) => Some(tried),
            Standing::NotListed | Standing::None(_) | Standing::Same => None,
        }
    }

    pub(super) fn tried_mut(&mut self) -> Option<&mut Tried> {
        match &mut self.standing {
            Standing::Ours(tried) => Some(tried),
            Standing::NotListed | Standing::None(_) | Standing::Same => None,
        }
    }

    /// Where the target is.
    #[must_use]
    pub fn phase(&self, context: &Context<'_>) -> Phase {
        match &self.standing {
            Standing::NotListed => Phase::Unknown,
            Standing::None(None) => Phase::Empty,
            Standing::None(Some(busy)) => Phase::Busy { with: busy.with.clone(), frees: busy.frees.clone() },
            Standing::Same => Phase::Same,
            Standing::Ours(tried) => tried.phase(self.barrier.as_ref(), &self.pauses, context),
        }
    }

    /// Takes up what the release has here among these deployments, and what brings the revision before back.
    pub(super) fn adopt(
        &mut self,
        site: &Site,
        whose: &Whose,
        deploys: Deploys<'_>,
        found: &[Deployment],
        revisions: &[WorkloadRevision],
    ) {
        let revision = |arn: &str| revisions.iter().find(|revision| revision.arn == arn);
        let is_ours = |one: &&Deployment| {
            let of_the_release = revision(&one.target.arn).is_some_and(|to| deploys.is(site, whose, to));
            of_the_release && one.created.is_none_or(|at| at >= whose.since) && whose.can_have_begun(one.created)
        };
        let mut ours: Vec<&Deployment> = found.iter().filter(is_ours).collect();
        ours.sort_by_key(|one| one.created);
        let newest = tries(ours, |arn| revision(arn).map(|to| to.definition.as_str())).pop();
        // Behind a fact there is nothing to take back, whatever became of the tries before it.
        let newest = newest.filter(|newest| !whose.is_fact(&newest.arn, newest.created)).filter(|newest| {
            self.tried().is_none_or(|tried| whose.supersedes(newest.created, tried.deployment.created))
        });
        if newest.is_none() && matches!(self.standing, Standing::NotListed) {
            self.standing = Standing::None(None);
        }
        if let Some(newest) = newest {
            let before = match newest.sources.as_slice() {
                [source] => revision(&source.arn).map(|revision| id(&revision.definition).to_owned()),
                _ => None,
            };
            let definition = revision(&newest.target.arn).map(|to| to.definition.clone()).unwrap_or_default();
            let tried = Tried {
                deployment: newest.clone(),
                definition,
                before,
                back: None,
                back_over: None,
                runs_since: None,
                ended_pause: None,
            };
            self.standing = Standing::Ours(Box::new(tried));
        }
        let Some(tried) = self.tried_mut() else { return };
        let before = tried.before.as_deref().or(deploys.before);
        let brings_back = |one: &&Deployment| {
            let to = revision(&one.target.arn).map(|to| id(&to.definition));
            one.created > tried.deployment.created && to.is_some() && to == before
        };
        if let Some(back) = found.iter().filter(brings_back).max_by_key(|one| one.created) {
            tried.back = Some(back.clone());
        }
    }

    /// Notes what the service has right before a deployment is begun: something may have begun there since it was asked what keeps it
    /// busy, and somebody may have configured it anew.
    pub(super) fn note_what_runs(&mut self, site: &Site, seen: &Service) {
        let new = Self::new(site, seen);
        let is_as_before = (&new.had, new.began, &new.barrier, &new.adds, &new.strategy)
            == (&self.had, self.began, &self.barrier, &self.adds, &self.strategy);
        let standing = std::mem::replace(&mut self.standing, Standing::NotListed);
        *self = Self { standing, is_asked: self.is_asked && is_as_before, ..new };
    }

    /// Tells ECS to deploy.
    ///
    /// Safe to repeat: see the call; and where a deployment of the release is seen, none is begun.
    pub(super) async fn begin(&mut self, site: &Site, definition: &str) -> Result<(), Error> {
        site.ecs.update(site.cluster(), &site.ecs_service, definition, self.adds.clone()).await?;
        // Which deployment it became, the next look finds.
        self.standing = Standing::NotListed;
        Ok(())
    }

    /// Lets what waits at a PAUSE hook go on: the deployment, or the one that brings the revision before back.
    pub(super) async fn go_on(&mut self, site: &Site, now: Time) -> Result<(), Error> {
        let Some(tried) = self.tried_mut() else { return Ok(()) };
        let waiting = tried.back.as_ref().unwrap_or(&tried.deployment);
        let Some(pause) = waiting.pause().map(|pause| pause.id.clone()) else { return Ok(()) };
        let is_new = |(ended, at): &(String, Time)| *ended != pause || now.since(*at) >= PAUSE_SHOWN;
        if tried.ended_pause.as_ref().is_none_or(is_new) {
            site.ecs.continue_deployment(&waiting.arn, &pause).await?;
            tried.ended_pause = Some((pause, now));
        }
        Ok(())
    }

    /// Safe to repeat: see the call.
    pub(super) async fn stop(&self, site: &Site) -> Result<(), Error> {
        let Some(tried) = self.tried() else { return Ok(()) };
        site.ecs.stop_deployment(&tried.deployment.arn).await
    }

    /// Stops what keeps it busy, which is of a run of this action that was given up; once, and again when it is seen to go on all the same.
    ///
    /// Safe to repeat: see the call.
    pub(super) async fn stop_other(&mut self, site: &Site, deployment: &str) -> Result<(), Error> {
        site.ecs.stop_deployment(deployment).await?;
        if let Standing::None(Some(busy)) = &mut self.standing {
            busy.frees = None;
        }
        Ok(())
    }

    /// Deploys what ran before: the old tasks are gone, so ECS cannot roll back any more (fact 47).
    ///
    /// Safe to repeat: see the call. Not where it is not asked for after all.
    ///
    /// # Errors
    /// The calls', or that somebody else's deployment is under way: it is not run over.
    pub(super) async fn bring_back(
        &mut self,
        site: &Site,
        before: &str,
        may: &impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let under_way = site.ecs.list_deployments(site.cluster(), &site.ecs_service, Listed::UnderWay).await?;
        if under_way.is_empty() {
            if !may().await? {
                return Ok(false);
            }
            site.ecs.update(site.cluster(), &site.ecs_service, before, None).await?;
        }
        Ok(true)
    }

    /// Whether what the service has was begun since this action did: a deployment of it may be the action's own, and not shown yet.
    pub(super) fn may_be_ours(&self, whose: &Whose) -> bool {
        matches!(self.standing, Standing::Same) && self.began.is_some_and(|began| began >= whose.since)
    }

    /// What keeps the service busy; the release's own deployment is adopted.
    pub(super) async fn look_for_busy(
        &mut self,
        site: &Site,
        whose: &Whose,
        deploys: Deploys<'_>,
    ) -> Result<(), Error> {
        let arns = site.ecs.list_deployments(site.cluster(), &site.ecs_service, Listed::UnderWay).await?;
        let found = if arns.is_empty() { Vec::new() } else { site.ecs.deployments(&arns).await? };
        let revisions = if found.is_empty() { Vec::new() } else { revisions_of(site, &found).await? };
        self.adopt(site, whose, deploys, &found, &revisions);
        if self.tried().is_some() {
            self.is_asked = true;
            return Ok(());
        }
        let other = found.iter().find(|one| !one.status.is_over());
        if other.is_none() && matches!(self.standing, Standing::None(Some(_)) | Standing::Same) {
            // What kept it busy has brought another version meanwhile, or has taken it back; or somebody has deployed in between.
            let services = site.ecs.services(site.cluster(), std::slice::from_ref(&site.ecs_service)).await?;
            if let Some(seen) = services.get(&site.ecs_service) {
                self.had.clone_from(&seen.definition);
                (self.began, self.gave_up) = (seen.deployed, seen.has_given_up);
            }
        }
        self.standing = match other {
            Some(other) => {
                let to = revisions.iter().find(|revision| revision.arn == other.target.arn);
                let with = words::busy_with_service_deployment(other, to.map(|to| to.definition.as_str()));
                let leads_away = other
                    .sources
                    .iter()
                    .all(|source| revisions.iter().any(|one| one.arn == source.arn && deploys.is(site, whose, one)));
                let is_a_way_back = whose.may_be_a_way_back(other.created)
                    && leads_away
                    && !other.sources.is_empty()
                    && to.is_some_and(|to| !deploys.is(site, whose, to));
                let is_before_traffic = other.stage.as_ref().is_some_and(Stage::is_before_traffic);
                let waits = other.pause().filter(|_| is_before_traffic);
                // One of a run of this action that was given up; behind a fact there is nothing to take back.
                let is_given_up = is_before_traffic
                    && whose.may_be_a_way_back(other.created)
                    && to.is_some_and(|to| deploys.is(site, whose, to))
                    && !whose.is_fact(&other.arn, other.created);
                let frees = match waits {
                    _ if is_given_up => Some(Frees::Stop(other.arn.clone())),
                    Some(pause) if is_a_way_back => {
                        Some(Frees::WayBack { deployment: other.arn.clone(), pause: Some(pause.id.clone()) })
                    }
                    _ => None,
                };
                Standing::None(Some(Busy { with, frees }))
            }
            // Without a deployment under way, what the service has is what runs.
            // It says so and runs something else, and an update to what it has would begin nothing.
            None if deploys.definition == Some(self.had.as_str()) && self.gave_up => {
                return Err(words::given_up_by_ecs(site, &self.had).into());
            }
            None if deploys.definition == Some(self.had.as_str()) => Standing::Same,
            None => Standing::None(None),
        };
        self.is_asked = true;
        Ok(())
    }
}

/// Of deployments that bring the release's version, oldest first, those that are tries of it. One that deploys what an earlier one of
/// them had replaced brings that back, also where what ran before has the release's own image.
fn tries<'a>(ours: Vec<&'a Deployment>, definition: impl Fn(&str) -> Option<&'a str>) -> Vec<&'a Deployment> {
    let mut tries: Vec<&Deployment> = Vec::new();
    for one in ours {
        let to = definition(&one.target.arn);
        let replaced = |before: &&Deployment| before.sources.iter().any(|source| definition(&source.arn) == to);
        if to.is_none() || !tries.iter().any(replaced) {
            tries.push(one);
        }
    }
    tries
}

/// The revisions of these deployments: what they deploy, and what was there before.
pub(super) async fn revisions_of(site: &Site, found: &[Deployment]) -> Result<Vec<WorkloadRevision>, Error> {
    let sources = found.iter().flat_map(|one| &one.sources);
    let mut arns: Vec<_> = found.iter().map(|one| &one.target).chain(sources).map(|one| one.arn.clone()).collect();
    arns.retain(|arn| !arn.is_empty());
    arns.sort();
    arns.dedup();
    let mut revisions = site.ecs.service_revisions(&arns).await?;
    // ECS names no image that it has not resolved yet, or that is not there: its task definition does.
    for revision in &mut revisions {
        let is_own_family =
            id(&revision.definition).rsplit_once(':').is_some_and(|(family, _)| family == site.family());
        if is_own_family && revision.images.is_empty() {
            let defined = site.ecs.definition(&revision.definition).await?;
            revision.images = defined.containers.into_iter().map(|one| (one.name, one.image)).collect();
        }
    }
    Ok(revisions)
}

/// What the release deploys, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deploys<'a> {
    /// The task definition's ARN.
    pub(super) definition: Option<&'a str>,
    /// What ran before, as `family:revision`.
    pub(super) before: Option<&'a str>,
}

impl Deploys<'_> {
    /// Whether a revision is what the release deploys: it has the release's image where the release has one, or is the very
    /// task definition.
    fn is(&self, site: &Site, whose: &Whose, revision: &WorkloadRevision) -> bool {
        if self.definition == Some(revision.definition.as_str()) {
            return true;
        }
        let is_own_family =
            id(&revision.definition).rsplit_once(':').is_some_and(|(family, _)| family == site.family());
        let has = |image: &str| revision.images.iter().any(|(name, of)| *name == site.service.container && of == image);
        is_own_family && whose.image.as_deref().is_some_and(has)
    }
}

impl Tried {
    /// Whether it is over, and nothing but another deployment brings the revision before back.
    pub(super) fn is_over_on_the_new_version(&self) -> bool {
        matches!(self.deployment.status, Status::Successful | Status::Stopped | Status::RollbackFailed)
    }

    /// Notes since when its tasks run, and when its way back was first seen to have ended otherwise than it should.
    pub(super) fn note_since_when(&mut self, now: Time) {
        let target = &self.deployment.target;
        let runs = target.running >= target.requested || self.deployment.status.is_over();
        self.runs_since = if runs { self.runs_since.or(Some(now)) } else { None };
        let ends = |back: &Deployment| back.status.is_over() && back.status != Status::Successful;
        self.back_over = if self.back.as_ref().is_some_and(ends) { self.back_over.or(Some(now)) } else { None };
    }

    fn phase(&self, barrier: Option<&Stage>, pauses: &[Stage], context: &Context<'_>) -> Phase {
        if let Some(back) = &self.back {
            return phase_back(back, context);
        }
        let deployment = &self.deployment;
        match deployment.status {
            Status::Pending | Status::InProgress | Status::Unknown(_) => self.phase_going(barrier, pauses, context),
            // Another one takes its place, or it had failed: it will be over, and nothing is taken back.
            Status::StopRequested => Phase::Over { what: Some(words::ecs_took_back(deployment)) },
            Status::RollbackRequested | Status::RollbackInProgress => {
                Phase::RollingBack { what: (!context.stopped_by_us).then(|| words::ecs_took_back(deployment)) }
            }
            Status::RollbackSuccessful if context.stopped_by_us => Phase::RolledBack,
            Status::RollbackSuccessful => Phase::Failed { what: words::ecs_took_back(deployment) },
            Status::Successful => Phase::Done,
            // Nothing was taken back, or not all of it: what the service has now tells.
            Status::Stopped | Status::RollbackFailed => match context.current {
                None => Phase::Over { what: Some(words::ecs_took_back(deployment)) },
                Some(current) if context.before == Some(current) => match deployment.status {
                    Status::Stopped => Phase::Failed { what: words::ecs_took_back(deployment) },
                    // It has the revision before in its configuration already: an update would begin nothing.
                    _ => Phase::Stuck { what: words::ecs_took_back(deployment) },
                },
                Some(_) => Phase::Stranded { what: words::ecs_took_back(deployment) },
            },
        }
    }

    fn phase_going(&self, barrier: Option<&Stage>, pauses: &[Stage], context: &Context<'_>) -> Phase {
        let target = &self.deployment.target;
        let Some(stage) = &self.deployment.stage else {
            return if only_goes(&self.deployment) { Phase::Moved } else { Phase::Going };
        };
        if stage.is_after_traffic() {
            return Phase::Moved;
        }
        let has_begun = target.traffic.unwrap_or_default() > 0 || stage.is_traffic();
        match (self.deployment.pause(), stage.is_before_traffic()) {
            // Before the second step and each that follows: the barrier was passed with the first.
            (Some(_), true) if has_begun => return Phase::Between,
            (Some(_), true) => {}
            (None, true) | (_, false) if has_begun => return Phase::Shifting,
            (None, true) | (_, false) => return Phase::Going,
        }
        match barrier {
            // Which word ECS has for the stage while the barrier's hook runs is not confirmed: only a stage that pauses by itself is
            // passed, and whatever else is shown waits for the others.
            Some(barrier) if stage.place() < barrier.place() && pauses.contains(stage) => Phase::Held,
            // One that waits only before its new tasks are there has no barrier.
            None if pauses.contains(stage) && !stage.can_be_barrier() => Phase::Held,
            _ if self.deployment.waits_for_function() => Phase::Going,
            // Some of its tasks have died since: ECS starts others, and the traffic waits for them.
            _ if context.is_shaken(target.running < target.requested) => Phase::Going,
            _ => Phase::Ready,
        }
    }
}

/// Whether all that is left of a rolling deployment is its old tasks' end: they were told to go when the new ones ran; one that protects
/// itself may take hours for it, and gets no traffic any more.
fn only_goes(deployment: &Deployment) -> bool {
    let (target, sources) = (&deployment.target, &deployment.sources);
    let runs = target.requested > 0 && target.running >= target.requested;
    runs && !sources.is_empty() && sources.iter().all(|source| source.requested == 0)
}

fn phase_back(back: &Deployment, context: &Context<'_>) -> Phase {
    match back.status {
        Status::Successful => Phase::RolledBack,
        Status::Pending | Status::InProgress | Status::Unknown(_) => match &back.stage {
            // Cutover has begun it, so each of its pauses is continued: one that expires takes the way back back.
            Some(_) if back.pause().is_some() => Phase::BackWaits,
            Some(stage) if stage.is_after_traffic() => Phase::RolledBack,
            None if only_goes(back) => Phase::RolledBack,
            Some(_) | None => Phase::RollingBack { what: None },
        },
        Status::StopRequested | Status::RollbackRequested | Status::RollbackInProgress => {
            Phase::RollingBack { what: None }
        }
        // Somebody may have deployed over it: what the service has now is looked at first.
        Status::Stopped | Status::RollbackSuccessful | Status::RollbackFailed if context.current.is_none() => {
            Phase::RollingBack { what: None }
        }
        Status::Stopped | Status::RollbackSuccessful | Status::RollbackFailed => {
            Phase::Stuck { what: words::ecs_took_back(back) }
        }
    }
}

#[cfg(test)]
mod tests;
