//! One target, of whichever kind: what is known of it, and how it stands.

use crate::aws::ecs::{Controller, Service, id};
use crate::aws::{Aws, SHOWN};
use crate::error::{Error, Verdict};
use crate::manifest::{CodedeployNames, DeploymentKind, LogMode, in_environment};
use crate::targets::codedeploy::{self, Group};
use crate::targets::dead::Dead;
use crate::targets::ecs::{self, Deploys, Native};
use crate::targets::site::{Moment, Purpose, Site, Whose};
use crate::targets::words;
use crate::time::Time;
use crate::trouble::Trouble;

/// What is asked for when a target is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// That its deployment ends.
    Stop,
    /// That the revision before is deployed.
    Back,
}

/// A target, as one invocation knows it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub site: Site,
    /// Who deploys it.
    pub kind: Kind,
    /// What ran before the release, as `family:revision`, where it is known.
    pub before: Option<String>,
    /// Whether an invocation before this one has looked here, and remembers what ran.
    was_remembered: bool,
    /// What has the traffic, as `family:revision`, as it was seen after everything was over.
    pub current: Option<String>,
    /// What the release deploys: the task definition's ARN, once it was made.
    pub definition: Option<String>,
    /// The tasks of its new version that have died.
    pub dead: Dead,
    /// What failed here: a call that is refused, or never answered.
    pub failed: Option<Verdict>,
    /// What runs here by now although the release has not deployed it, as `family:revision`: it is not run over.
    pub overtaken: Option<String>,
    /// When a deployment was asked for, right before the call, until it is known whether it came about.
    pub(super) created: Option<Time>,
    /// Until when lists may not show what this action has begun here, in this invocation or in those that it goes on from.
    pub unlisted: Option<Time>,
    /// The same of those alone.
    handed_over: Option<Time>,
    pub(super) asked: Option<(Time, Asking)>,
    /// When it was looked last, with success, for what the release has here.
    pub listed: Option<Time>,
    /// When its details were read last, its status, and what has its traffic.
    pub(super) details_read: Time,
    /// When its details were seen last: a read may fail.
    pub(super) details_seen: Time,
    pub(super) statuses_read: Time,
    pub(super) traffic_read: Time,
    /// When the service was asked for what runs there.
    pub(super) service_read: Time,
    looking: Trouble,
    pub(super) acting: Trouble,
}

/// Who deploys a service.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The service was not looked at yet.
    Unknown,
    /// It is not there, or not as the manifest says: nothing of the release can be there.
    Absent,
    /// A CodeDeploy group.
    Codedeploy(Box<Group>),
    /// ECS itself.
    Ecs(Box<Native>),
}

impl Target {
    /// A target that was not looked at yet; `before` is the revision that is remembered, 0 when none is.
    #[must_use]
    pub fn new(site: Site, before: u32) -> Self {
        let was_remembered = before > 0;
        let before = was_remembered.then(|| format!("{}:{before}", site.family()));
        Self {
            site,
            kind: Kind::Unknown,
            before,
            was_remembered,
            current: None,
            definition: None,
            dead: Dead::default(),
            failed: None,
            overtaken: None,
            created: None,
            unlisted: None,
            handed_over: None,
            asked: None,
            listed: None,
            details_read: Time::default(),
            details_seen: Time::default(),
            statuses_read: Time::default(),
            traffic_read: Time::default(),
            service_read: Time::default(),
            looking: Trouble::default(),
            acting: Trouble::default(),
        }
    }

    /// `us/web`.
    #[must_use]
    pub fn name(&self) -> String {
        self.site.name()
    }

    /// The number of the revision before, 0 where it is not known.
    #[must_use]
    pub fn before_revision(&self) -> u32 {
        self.before.as_deref().map_or(0, |before| self.site.revision(before))
    }

    /// Whether a deployment was asked for of which it is not known whether it comes about.
    #[must_use]
    pub fn may_come_about(&self) -> bool {
        self.created.is_some()
    }

    /// Whether Cutover gives its service a PAUSE hook with the deployment that it begins.
    #[must_use]
    pub fn adds_barrier(&self) -> bool {
        match &self.kind {
            Kind::Ecs(native) => native.adds_barrier(),
            Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) => false,
        }
    }

    /// Whether its traffic waits until somebody continues it, as far as is known.
    #[must_use]
    pub fn waits(&self) -> Option<bool> {
        match &self.kind {
            Kind::Unknown | Kind::Absent => None,
            Kind::Codedeploy(group) => group.waits,
            Kind::Ecs(native) => Some(native.barrier.is_some()),
        }
    }

    /// The id of the release's deployment: CodeDeploy's, or the service deployment's ARN.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        match &self.kind {
            Kind::Unknown | Kind::Absent => None,
            Kind::Codedeploy(group) => group.tried().map(|tried| tried.deployment.id.as_str()),
            Kind::Ecs(native) => native.tried().map(|tried| tried.deployment.arn.as_str()),
        }
    }

    /// The service deployment that brings the revision before back, by its ARN: ECS's have no description that would tell whose they are.
    #[must_use]
    pub fn service_deployment_back(&self) -> Option<&str> {
        match &self.kind {
            Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) => None,
            Kind::Ecs(native) => native.tried()?.back.as_ref().map(|back| back.arn.as_str()),
        }
    }

    /// What the release's deployment deploys, as `family:revision`.
    #[must_use]
    pub fn tried(&self) -> Option<String> {
        match &self.kind {
            Kind::Unknown | Kind::Absent => None,
            Kind::Codedeploy(group) => group.tried()?.deployment.definition().map(|arn| id(&arn).to_owned()),
            Kind::Ecs(native) => match &native.standing {
                ecs::Standing::Ours(tried) => Some(id(&tried.definition).to_owned()),
                ecs::Standing::Same => Some(id(&native.had).to_owned()),
                ecs::Standing::NotListed | ecs::Standing::None(_) => None,
            },
        }
        .filter(|tried| !tried.is_empty())
    }

    /// Whether something of the release may be here that could not be seen: an invocation before this one has looked, and this one could not.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        let may_have_begun = self.was_remembered || self.created.is_some();
        may_have_begun && self.failed.is_some() && self.is_not_listed()
    }

    fn is_not_listed(&self) -> bool {
        match &self.kind {
            Kind::Unknown => true,
            // Something was here when it was seen last, and it cannot be looked for any more.
            Kind::Absent => self.was_remembered,
            Kind::Codedeploy(group) => matches!(group.standing, codedeploy::Standing::NotListed),
            Kind::Ecs(native) => matches!(native.standing, ecs::Standing::NotListed),
        }
    }

    /// Whether it is being brought back, or was, by a deployment of the revision before.
    #[must_use]
    pub fn has_way_back(&self) -> bool {
        match &self.kind {
            Kind::Unknown | Kind::Absent => false,
            Kind::Codedeploy(group) => group.tried().is_some_and(|tried| tried.back.is_some()),
            Kind::Ecs(native) => native.tried().is_some_and(|tried| tried.back.is_some()),
        }
    }

    /// When it began to go back, by whatever, as far as AWS says.
    #[must_use]
    pub fn went_back(&self) -> Option<Time> {
        match &self.kind {
            Kind::Unknown | Kind::Absent => None,
            Kind::Codedeploy(group) => {
                let tried = group.tried()?;
                tried.back.as_ref().map(|(back, _)| back).or(tried.rollback.as_ref())?.created
            }
            Kind::Ecs(native) => {
                let tried = native.tried()?;
                tried.back.as_ref().map_or(tried.deployment.taken_back, |back| back.created)
            }
        }
    }

    /// Whether CodeDeploy names a rollback of its deployment that was not read yet.
    #[must_use]
    pub fn lacks_its_rollback(&self) -> bool {
        let Kind::Codedeploy(group) = &self.kind else { return false };
        let lacks = |tried: &codedeploy::Tried| {
            tried.back.is_none() && tried.rollback.is_none() && tried.deployment.rollback.is_some()
        };
        group.tried().is_some_and(lacks)
    }

    /// Whether a deployment may be under way, or on its way, that no list shows yet. Asking for it again would not do: CodeDeploy
    /// takes a second one once the first is over, and ECS takes any.
    pub(super) fn may_appear(&self) -> bool {
        self.deployment().is_none() && self.is_before(self.unlisted)
    }

    /// Whether the invocations before this one may have asked for a way back that no list shows yet.
    pub(super) fn may_come_back(&self) -> bool {
        self.deployment().is_some() && !self.has_way_back() && self.is_before(self.handed_over)
    }

    fn is_before(&self, until: Option<Time>) -> bool {
        until.is_some_and(|until| self.listed.is_none_or(|listed| listed < until))
    }

    /// Lists may not show before this time what the invocations before this one have begun here, each known by its id to those alone.
    pub fn goes_on_from(&mut self, unlisted: Option<Time>) {
        (self.unlisted, self.handed_over) = (unlisted, unlisted);
    }

    /// Whether it must be looked for what the release has here.
    pub(super) fn is_new(&self, moment: &Moment) -> bool {
        let relists = moment.purpose == Purpose::Sweep;
        let can_be = self.failed.is_none() && !matches!(self.kind, Kind::Absent);
        can_be && (self.is_not_listed() || relists || self.may_appear())
    }

    /// Whether its end, or its way back, was asked for at this moment.
    #[must_use]
    pub fn has_asked(&self, moment: &Moment) -> bool {
        self.asked.is_some_and(|(at, _)| at == moment.now)
    }

    /// Takes up what ECS says of the service: who deploys it, and what runs there.
    ///
    /// # Errors
    /// The manifest and the service do not fit.
    pub(super) async fn take_service(&mut self, aws: &Aws, whose: &Whose, seen: &Service) -> Result<(), Error> {
        if self.before.is_none() && self.deployment().is_none() {
            self.before = Some(id(&seen.definition).to_owned()).filter(|before| !before.is_empty());
        }
        if !matches!(self.kind, Kind::Unknown) {
            return Ok(());
        }
        match kind(aws, &self.site, whose, seen).await {
            Ok(kind) => self.kind = kind,
            Err(verdict) => return Err(self.absent(verdict)),
        }
        Ok(())
    }

    /// Takes up what runs right before a deployment is begun, of which CodeDeploy says nothing later.
    pub(super) fn runs_before(&mut self, seen: &Service) {
        let runs = id(&seen.definition);
        if self.deployment().is_none() && !runs.is_empty() {
            self.before = Some(self.is_to_be_gone_back_to(runs.to_owned()));
        }
        match &mut self.kind {
            Kind::Unknown | Kind::Absent => {}
            Kind::Codedeploy(group) => group.note_placement(seen),
            Kind::Ecs(native) => native.note_what_runs(&self.site, seen),
        }
    }

    /// What is gone back to where this runs: what an earlier run of this action has brought, that was given up, is not.
    fn is_to_be_gone_back_to(&self, runs: String) -> String {
        match &self.kind {
            Kind::Codedeploy(group) => group.given_up.ran_before(&runs).unwrap_or(runs),
            // What its service runs already counts as deployed (`Standing::Same`), and its deployments say what they replaced.
            Kind::Unknown | Kind::Absent | Kind::Ecs(_) => runs,
        }
    }

    /// Forgets what was seen here: the next look sees all of it anew.
    pub(super) fn look_anew(&mut self) {
        (self.kind, self.definition) = (Kind::Unknown, None);
        if !self.was_remembered {
            self.before = None;
        }
    }

    /// Nothing of the release can be here.
    pub(super) fn absent(&mut self, why: Verdict) -> Error {
        self.kind = Kind::Absent;
        why.into()
    }

    /// What was found of the release tells what ran before it, better than what runs by now.
    pub(super) fn found(&mut self) {
        let said = match &self.kind {
            Kind::Unknown | Kind::Absent => None,
            Kind::Codedeploy(group) => group.said_before(&self.site.family()),
            Kind::Ecs(native) => native.tried().and_then(|tried| tried.before.clone()),
        };
        if self.deployment().is_some() {
            if self.created.take().is_some() {
                // Its reply was lost, or came late: it has been begun.
                self.acting = Trouble::default();
            }
            // The function died and came back: what the service runs by now is not what it ran before.
            let now = self.before.take().filter(|before| self.tried().as_deref() != Some(before));
            self.before = said.or(now);
        } else {
            self.before = self.before.take().map(|before| self.is_to_be_gone_back_to(before));
        }
    }

    /// Whether it was not asked yet what keeps it busy, or something has begun there since: ECS refuses nothing.
    pub(super) fn lacks_its_turn(&self) -> bool {
        matches!(&self.kind, Kind::Ecs(native) if !native.is_asked)
    }

    /// Makes what is to be deployed, and looks whether something else is under way: all that can be done before a
    /// deployment is begun, so that nothing stands between the decision and its begin.
    ///
    /// Safe to repeat: see the calls.
    pub(super) async fn prepare(&mut self, whose: &Whose, now: Time) -> Result<(), Error> {
        if self.definition.is_none() {
            let (family, container) = (self.site.family(), self.site.service.container.as_str());
            let ecs = &self.site.ecs;
            let made =
                ecs.definition_with_image(&family, Some(container), whose.image.as_deref(), LogMode::AsDefined).await?;
            self.definition = Some(made.0.arn);
        }
        match self.kind {
            Kind::Ecs(_) => self.look_for_busy(whose, now).await,
            // CodeDeploy itself refuses a second deployment (fact 27).
            Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) => Ok(()),
        }
    }

    /// What keeps it busy; the release's own deployment is adopted.
    pub(super) async fn look_for_busy(&mut self, whose: &Whose, now: Time) -> Result<(), Error> {
        let deploys = Deploys { definition: self.definition.as_deref(), before: self.before.as_deref() };
        match &mut self.kind {
            Kind::Unknown | Kind::Absent => {}
            Kind::Codedeploy(group) => {
                let was_busy = matches!(group.standing, codedeploy::Standing::None(Some(_)));
                group.look_for_busy(&self.site, whose).await?;
                let is_free = matches!(group.standing, codedeploy::Standing::None(None));
                if was_busy && is_free {
                    // What kept it busy has brought another version meanwhile, or has taken it back.
                    let name = std::slice::from_ref(&self.site.ecs_service);
                    let services = self.site.ecs.services(self.site.cluster(), name).await?;
                    let runs = services.get(&self.site.ecs_service).map(|seen| id(&seen.definition).to_owned());
                    self.before = runs.filter(|runs| !runs.is_empty());
                }
            }
            Kind::Ecs(native) => {
                native.look_for_busy(&self.site, whose, deploys).await?;
                if native.may_be_ours(whose) && self.created.is_none() {
                    // An invocation before this one may have begun it a moment ago: it counts as asked for now.
                    self.created = Some(now);
                    self.unlisted = self.unlisted.max(Some(now.plus(SHOWN)));
                }
                // What was remembered may be what a deployment that is over by now brought, and took back.
                if matches!(native.standing, ecs::Standing::None(None)) {
                    self.before = Some(id(&native.had).to_owned()).filter(|before| !before.is_empty());
                }
            }
        }
        self.found();
        Ok(())
    }

    /// How the outcome of a look counts: an error is looked at again for a while, then it is what failed here.
    pub(super) fn note<T>(&mut self, now: Time, outcome: Result<T, Error>) -> Option<T> {
        let noted = self.looking.note(now, outcome);
        self.failed_unless(noted)
    }

    pub(super) fn failed_unless<T>(&mut self, noted: Result<Option<T>, Verdict>) -> Option<T> {
        noted.unwrap_or_else(|verdict| {
            self.failed.get_or_insert(verdict);
            None
        })
    }
}

/// Who deploys a service, with the way to ask for it.
async fn kind(aws: &Aws, site: &Site, whose: &Whose, seen: &Service) -> Result<Kind, Verdict> {
    let Some(names) = deployed_by(site, seen)? else {
        return Ok(Kind::Ecs(Box::new(Native::new(site, seen))));
    };
    let application = in_environment(names.application, &site.environment_name);
    let group = in_environment(names.group, &site.environment_name);
    let client = aws.codedeploy(&site.place).await;
    Ok(Kind::Codedeploy(Box::new(Group::new((site, whose), (application, group), client, seen))))
}

/// Who deploys a service: what ECS says, unless the manifest says something else, which is a mistake in one of them. The
/// CodeDeploy group, or none where ECS itself does.
pub(crate) fn deployed_by<'a>(site: &'a Site, seen: &Service) -> Result<Option<CodedeployNames<'a>>, Verdict> {
    match (&seen.controller, site.service.deployment) {
        (Controller::Codedeploy, None | Some(DeploymentKind::Codedeploy)) => {
            let names = site.service.codedeploy().filter(|_| site.service.port.is_some());
            names.map(Some).ok_or_else(|| words::group_not_named(site))
        }
        (Controller::Ecs, None | Some(DeploymentKind::Ecs)) => Ok(None),
        (Controller::Codedeploy, Some(DeploymentKind::Ecs)) => {
            Err(words::other_controller(site, "ecs", seen.controller.word()))
        }
        (Controller::Ecs, Some(DeploymentKind::Codedeploy)) => {
            Err(words::other_controller(site, "codedeploy", seen.controller.word()))
        }
        (Controller::External | Controller::Unknown(_), _) => {
            Err(words::unknown_controller(site, seen.controller.word()))
        }
    }
}
