//! A target that a CodeDeploy group deploys, blue/green (facts 27 to 32).
//!
//! Invariant: a deployment is created only where none of this action was found.

use std::time::Duration;

use serde_json::json;

use crate::aws::codedeploy::{Alarms, Asked, Codedeploy, Deployment, Listed, Status, Target as Seen, Wait};
use crate::aws::ecs::Service;
use crate::error::{Error, Verdict};
use crate::manifest::{self, CapacityProvider};
use crate::names;
use crate::targets::given_up::GivenUp;
use crate::targets::phase::{Frees, Phase};
use crate::targets::site::{Busy, Of, Site, Whose};
use crate::targets::words;
use crate::time::Time;

/// How long the rollback of a deployment that was stopped may take to appear: it is a deployment of its own (fact 31).
pub(super) const ROLLBACK_APPEARS: Duration = Duration::from_secs(30);

/// The lifecycle events in which the traffic moves (fact 32).
const TRAFFIC: [&str; 3] = ["BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"];

/// A deployment group, and what of the release is there.
#[derive(Debug, Clone)]
pub struct Group {
    /// The application's name.
    pub application: String,
    /// The group's name.
    pub group: String,
    /// CodeDeploy there.
    pub client: Codedeploy,
    /// What the descriptions of the release's deployments begin with.
    own: String,
    /// Whether it waits at Ready, once that was read.
    pub waits: Option<bool>,
    /// What was found there.
    pub standing: Standing,
    /// What its service's tasks are placed by.
    capacity_providers: Vec<CapacityProvider>,
    /// What runs of this action that were given up have brought here.
    pub(super) given_up: GivenUp,
}

/// What of the release is at a group.
#[derive(Debug, Clone)]
pub enum Standing {
    /// Deployments were not listed yet.
    NotListed,
    /// None is there; perhaps another one is.
    None(Option<Busy>),
    /// This one is.
    Ours(Box<Tried>),
}

/// What is known after a deployment was asked for.
#[derive(Debug)]
pub(super) enum Begun {
    /// Whether there is one.
    Known,
    /// That there is one, or that there are too many elsewhere: none is listed here yet.
    Unlisted(Error),
    /// That there is none, and why.
    NotNow(Error),
}

/// A deployment of the release.
#[derive(Debug, Clone)]
pub struct Tried {
    /// It.
    pub deployment: Deployment,
    /// Its target, as it was seen last.
    pub seen: Option<Seen>,
    /// CodeDeploy's own way back.
    pub rollback: Option<Deployment>,
    /// When it was first seen to be over.
    pub over_since: Option<Time>,
    /// Whether it was let through the barrier.
    pub continued: bool,
    /// The deployment of the revision before, with its target.
    pub back: Option<(Deployment, Option<Seen>)>,
}

/// What a reading of a target rests on beside the deployment itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Now.
    pub now: Time,
    /// Whether it was stopped by us.
    pub stopped_by_us: bool,
    /// What ran before the release, as `family:revision`.
    pub before: Option<&'a str>,
    /// What has the traffic, as it was seen after everything was over.
    pub current: Option<&'a str>,
    /// When what came in the place of the last of its new tasks that have died may run.
    pub replaced: Option<Time>,
}

/// How long new tasks must have lived since the last of them died, before the traffic may come: one that dies at its start
/// runs for a moment, too.
pub(super) const STEADY: Duration = Duration::from_secs(10);

impl Context<'_> {
    /// Whether new tasks die, so that those that run, or do not, are not to be relied on.
    pub(super) fn is_shaken(&self, is_short: bool) -> bool {
        self.replaced.is_some_and(|replaced| is_short || self.now.since(replaced) < STEADY)
    }
}

impl Group {
    /// A group that was not looked at yet.
    #[must_use]
    pub fn new(
        (site, whose): (&Site, &Whose),
        (application, group): (String, String),
        client: Codedeploy,
        seen: &Service,
    ) -> Self {
        let own = names::own_description(&whose.release, &site.environment_name, &site.service_name);
        Self {
            application,
            group,
            client,
            own,
            waits: None,
            standing: Standing::NotListed,
            capacity_providers: seen.capacity_providers.clone(),
            given_up: GivenUp::default(),
        }
    }

    /// Takes up what the service's tasks are placed by now.
    pub(super) fn note_placement(&mut self, seen: &Service) {
        self.capacity_providers.clone_from(&seen.capacity_providers);
    }

    /// The release's deployment.
    #[must_use]
    pub fn tried(&self) -> Option<&Tried> {
        match &self.standing {
            Standing::Ours(tried) => Some(tried),
            Standing::NotListed | Standing::None(_) => None,
        }
    }

    pub(super) fn tried_mut(&mut self) -> Option<&mut Tried> {
        match &mut self.standing {
            Standing::Ours(tried) => Some(tried),
            Standing::NotListed | Standing::None(_) => None,
        }
    }

    /// Where the target is.
    #[must_use]
    pub fn phase(&self, context: &Context<'_>) -> Phase {
        match &self.standing {
            Standing::NotListed => Phase::Unknown,
            Standing::None(None) => Phase::Empty,
            Standing::None(Some(busy)) => Phase::Busy { with: busy.with.clone(), frees: busy.frees.clone() },
            Standing::Ours(tried) => tried.phase(context),
        }
    }

    /// Takes up what the release has here among these deployments.
    pub(super) fn adopt(&mut self, found: &[Deployment], whose: &Whose) {
        self.given_up.note(found, &self.own, whose);
        let ours = found.iter().filter_map(|one| Some((one, names::read_description(&one.description, &self.own)?)));
        let ours = ours.filter(|(one, described)| match &whose.of {
            Of::Action { key, .. } => described.key == key,
            Of::Release { .. } => whose.is_in_time(one.created),
        });
        let ours: Vec<_> = ours.collect();
        let newest = ours.iter().filter(|(_, described)| !described.is_back).max_by_key(|(one, _)| one.created);
        // Behind a fact there is nothing to take back, whatever became of the tries before it.
        let newest = newest.filter(|(one, _)| !whose.is_fact(&one.id, one.created));
        match newest {
            Some((newest, _))
                if self.tried().is_none_or(|tried| whose.supersedes(newest.created, tried.deployment.created)) =>
            {
                self.standing = Standing::Ours(Box::new(Tried::new((*newest).clone())));
            }
            None if matches!(self.standing, Standing::NotListed) => self.standing = Standing::None(None),
            Some(_) | None => {}
        }
        let Standing::Ours(tried) = &mut self.standing else { return };
        let created = tried.deployment.created;
        let backs = ours.iter().filter(|(one, described)| described.is_back && one.created >= created);
        let back = backs.max_by_key(|(one, _)| one.created);
        if let Some((back, _)) = back
            && tried.back.is_none()
        {
            tried.back = Some(((*back).clone(), None));
        }
    }

    /// Creates the deployment.
    ///
    /// Safe to repeat: a deployment with this action's key is adopted before another one is created, and CodeDeploy takes
    /// one active deployment per group (fact 27); when that one is ours, it is adopted, too.
    pub(super) async fn begin(
        &mut self,
        site: &Site,
        whose: &Whose,
        definition: &str,
        before: u32,
    ) -> Result<Begun, Error> {
        let Of::Action { key, .. } = &whose.of else {
            return Err(Verdict::failed("only the action that deploys begins a deployment").into());
        };
        let (environment, service) = (&site.environment_name, &site.service_name);
        let description = names::description(&whose.release, environment, service, key, before);
        let app_spec = app_spec(&site.service, definition, &self.capacity_providers);
        match self.client.create((&self.application, &self.group), &description, &app_spec, Alarms::Count).await? {
            // Until it can be seen, it counts as created.
            Asked::Created(id) => {
                let deployment = Deployment { id, description, app_spec: Some(app_spec), ..Deployment::default() };
                self.standing = Standing::Ours(Box::new(Tried::new(deployment)));
                Ok(Begun::Known)
            }
            Asked::Busy(why) => {
                self.look_for_busy(site, whose).await?;
                match self.standing {
                    Standing::None(None) => Ok(Begun::Unlisted(Error::Again(why))),
                    Standing::NotListed | Standing::None(Some(_)) | Standing::Ours(_) => Ok(Begun::Known),
                }
            }
            Asked::NotNow(why) => Ok(Begun::NotNow(why)),
        }
    }

    /// Continues what waits: the deployment, or the one that brings the revision before back.
    pub(super) async fn go_on(&mut self) -> Result<(), Error> {
        let client = self.client.clone();
        let Some(tried) = self.tried_mut() else { return Ok(()) };
        let waiting = tried.back.as_ref().map_or(&tried.deployment, |(back, _)| back);
        client.go_on(&waiting.id, Wait::Ready).await?;
        tried.continued = true;
        Ok(())
    }

    /// Stops what keeps it busy, which is of a run of this action that was given up; once, and again when it is seen to go on all the same.
    ///
    /// Safe to repeat: see the call.
    pub(super) async fn stop_other(&mut self, deployment: &str) -> Result<(), Error> {
        self.client.stop(deployment).await?;
        if let Standing::None(Some(busy)) = &mut self.standing {
            busy.frees = None;
        }
        Ok(())
    }

    /// Safe to repeat: see the call.
    pub(super) async fn stop(&self) -> Result<(), Error> {
        let Some(tried) = self.tried() else { return Ok(()) };
        self.client.stop(&tried.deployment.id).await
    }

    /// Deploys the revision before the release: the old tasks are gone, so CodeDeploy cannot roll back any more.
    ///
    /// Safe to repeat as [`begin`](Self::begin) is, by a description of its own; what somebody has asked for already is found. Not where it is not asked for after all.
    pub(super) async fn bring_back(
        &mut self,
        site: &Site,
        whose: &Whose,
        before: &str,
        may: &impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let definition = site.ecs.definition(before).await?;
        let app_spec = app_spec(&site.service, &definition.arn, &self.capacity_providers);
        let (own, client) = (self.own.clone(), self.client.clone());
        let Some(tried) = self.tried_mut() else { return Ok(true) };
        let Some(key) = names::read_description(&tried.deployment.description, &own).map(|one| one.key) else {
            return Ok(true);
        };
        let (environment, service) = (&site.environment_name, &site.service_name);
        let description = names::back_description(&whose.release, environment, service, key);
        let since = tried.deployment.created.unwrap_or(whose.since);
        // Another function may have asked for it since the last look, and it may be over: CodeDeploy would take it again.
        let ids = client.list(&self.application, &self.group, Listed::Since(since)).await?;
        let found = client.batch(&ids).await?.into_iter().filter(|one| one.description == description);
        let found = found.max_by_key(|one| one.created);
        if let Some((back, tried)) = found.zip(self.tried_mut()) {
            tried.back = Some((back, None));
            return Ok(true);
        }
        if !may().await? {
            return Ok(false);
        }
        match client.create((&self.application, &self.group), &description, &app_spec, Alarms::Ignored).await? {
            Asked::Created(id) => {
                let back = Deployment { id, description, app_spec: Some(app_spec), ..Deployment::default() };
                if let Some(tried) = self.tried_mut() {
                    tried.back = Some((back, None));
                }
                Ok(true)
            }
            // The reply to an earlier try was lost, or something else is under way: the next try will tell.
            Asked::Busy(_) => self.look_for_busy(site, whose).await.map(|()| true),
            Asked::NotNow(why) => Err(why),
        }
    }

    /// What keeps the group busy. When it is this action's own deployment, it is adopted: `CreateDeployment`'s reply was
    /// lost, and the list does not show it yet.
    pub(super) async fn look_for_busy(&mut self, site: &Site, whose: &Whose) -> Result<(), Error> {
        let ids = self.client.list(&self.application, &self.group, Listed::UnderWay).await?;
        let found = self.client.batch(&ids).await?;
        self.adopt(&found, whose);
        if let Standing::Ours(_) = self.standing {
            return Ok(());
        }
        let Some(other) = found.into_iter().find(|other| !other.is_over()) else {
            self.standing = Standing::None(None);
            return Ok(());
        };
        let target = self.client.target(&other.id, site.cluster(), &site.ecs_service).await?;
        // Somebody else's old tasks are somebody else's way back.
        let waits = target.is_some_and(|target| target.has_moved()) && names::is_ours(&other.description);
        let described = names::read_description(&other.description, &self.own);
        let holds_a_way_back = other.status == Status::Ready && described.as_ref().is_some_and(|one| one.is_back);
        let own = described.filter(|described| !described.is_back);
        let frees = match (waits, own) {
            (true, _) => Some(Frees::EndOfWait(other.id.clone())),
            (false, _) if holds_a_way_back => Some(Frees::WayBack { deployment: other.id.clone(), pause: None }),
            // One of a try that was given up; behind a fact there is nothing to take back.
            (false, Some(_)) if !whose.is_fact(&other.id, other.created) => Some(Frees::Stop(other.id.clone())),
            (false, _) => None,
        };
        let busy = Busy { with: words::busy_with(&other), frees };
        self.standing = Standing::None(Some(busy));
        Ok(())
    }

    /// What ran before, as `family:revision`, as the deployment itself says; `family` is the manifest's, where it does not say what it
    /// deploys.
    #[must_use]
    pub fn said_before(&self, family: &str) -> Option<String> {
        let tried = self.tried()?;
        let described = names::read_description(&tried.deployment.description, &self.own)?;
        let brought = tried.deployment.definition();
        let own = brought.as_deref().and_then(|brought| crate::aws::ecs::id(brought).rsplit_once(':'));
        described.ran_before(own.map_or(family, |(family, _)| family))
    }
}

impl Tried {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, seen: None, rollback: None, over_since: None, continued: false, back: None }
    }

    /// Whether its traffic is on the new version, as CodeDeploy says (fact 29).
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.seen.as_ref().is_some_and(Seen::has_moved)
    }

    /// Whether its traffic may move at any moment.
    pub(super) fn may_move(&self, waits: Option<bool>) -> bool {
        let new = self.seen.as_ref().and_then(|seen| seen.new.as_ref());
        let complete = new.is_some_and(|new| new.running >= new.desired);
        let goes = self.deployment.status == Status::InProgress;
        goes && !self.has_moved() && (self.continued || complete || waits == Some(false))
    }

    fn phase(&self, context: &Context<'_>) -> Phase {
        if let Some((back, seen)) = &self.back {
            return phase_back(back, seen.as_ref());
        }
        let new = self.seen.as_ref().and_then(|seen| seen.new.as_ref());
        let is_shaken = context.is_shaken(new.is_some_and(|new| new.running < new.desired));
        match self.deployment.status {
            Status::Succeeded => Phase::Done,
            Status::Failed | Status::Stopped => self.phase_over(context),
            // Some of its tasks have died since: ECS starts others, and the traffic waits for them.
            Status::Ready if is_shaken => Phase::Going,
            Status::Ready => Phase::Ready,
            Status::Created | Status::Queued | Status::InProgress | Status::Baking | Status::Unknown(_) => {
                if self.has_moved() {
                    Phase::Moved
                } else if self.continued || self.is_shifting() {
                    Phase::Shifting
                } else {
                    Phase::Going
                }
            }
        }
    }

    /// Whether its lifecycle has come to the traffic.
    fn is_shifting(&self) -> bool {
        let event = self.seen.as_ref().and_then(|seen| seen.event.as_deref());
        event.is_some_and(|event| TRAFFIC.contains(&event))
    }

    /// A deployment that did not come about, with its rollback, which is a deployment of its own (fact 31).
    fn phase_over(&self, context: &Context<'_>) -> Phase {
        let what = words::did_not_come_about(&self.deployment, self.seen.as_ref());
        let stopped_by_us = self.deployment.status == Status::Stopped && context.stopped_by_us;
        let rollback = match (&self.deployment.rollback, &self.rollback) {
            (Some(_), Some(rollback)) if rollback.is_over() => Some(rollback),
            // Why is told at once: it is the first cause, wherever the traffic is by then.
            (Some(_), _) => return Phase::RollingBack { what: (!stopped_by_us).then_some(what) },
            (None, _) => None,
        };
        let settled = || if stopped_by_us { Phase::RolledBack } else { Phase::Failed { what: what.clone() } };
        let tried = self.deployment.definition();
        let is_before = tried.as_deref().map(crate::aws::ecs::id) == context.before;
        // An earlier run of the action had brought the same version: CodeDeploy goes back to that.
        let to_itself = !is_before && tried.is_some() && rollback.and_then(Deployment::definition) == tried;
        if rollback.is_some_and(Deployment::has_succeeded) && !to_itself {
            return settled();
        }
        // There is no rollback, or none yet, or it failed: where the traffic is, ECS tells.
        let appears = self.over_since.is_none_or(|since| context.now.since(since) < ROLLBACK_APPEARS);
        let Some(current) = context.current.filter(|_| rollback.is_some() || !appears) else {
            return Phase::Over { what: (!stopped_by_us).then_some(what) };
        };
        let is_tried = tried.as_deref().is_some_and(|tried| crate::aws::ecs::id(tried) == current);
        // In the middle of a canary, what was there before is still the service's primary task set, and only a part of the traffic is on the
        // new one: nothing takes that back but another deployment.
        let share = self.seen.as_ref().and_then(|seen| seen.new.as_ref()).map_or(0, |new| new.traffic);
        let is_split = share > 0 && !self.has_moved() && rollback.is_none_or(|rollback| !rollback.has_succeeded());
        if is_split && context.before == Some(current) && !is_before {
            return Phase::Stranded { what: words::left_in_the_middle(&what, share) };
        }
        if context.before == Some(current) || (context.before.is_none() && !is_tried) {
            return settled();
        }
        let failed = rollback.filter(|rollback| !rollback.has_succeeded());
        Phase::Stranded { what: failed.map_or(what, words::rollback_failed) }
    }
}

fn phase_back(back: &Deployment, seen: Option<&Seen>) -> Phase {
    if seen.is_some_and(Seen::has_moved) {
        return Phase::RolledBack;
    }
    match back.status {
        Status::Succeeded => Phase::RolledBack,
        Status::Failed | Status::Stopped => Phase::Stuck { what: words::did_not_come_about(back, seen) },
        Status::Ready => Phase::BackWaits,
        Status::Created | Status::Queued | Status::InProgress | Status::Baking | Status::Unknown(_) => {
            Phase::RollingBack { what: None }
        }
    }
}

/// The AppSpec of an ECS deployment. Where it does not say what the new tasks are placed by, CodeDeploy gives them a launch type
/// (aws/containers-roadmap 1752): the service's capacity providers would be gone.
fn app_spec(service: &manifest::Service, definition: &str, capacity_providers: &[CapacityProvider]) -> String {
    let hooks: Vec<_> = service.hooks.iter().map(|(hook, function)| json!({ format!("{hook:?}"): function })).collect();
    let mut spec = json!({
        "version": 0.0,
        "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {
            "TaskDefinition": definition,
            "LoadBalancerInfo": {"ContainerName": service.container, "ContainerPort": service.port},
        }}}],
    });
    if !hooks.is_empty() {
        spec["Hooks"] = hooks.into();
    }
    if !capacity_providers.is_empty() {
        let item =
            |one: &CapacityProvider| json!({"CapacityProvider": one.name, "Base": one.base, "Weight": one.weight});
        let strategy: Vec<_> = capacity_providers.iter().map(item).collect();
        spec["Resources"][0]["TargetService"]["Properties"]["CapacityProviderStrategy"] = strategy.into();
    }
    spec.to_string()
}
