//! What all kinds of targets have in common: where one is, and whose deployments are looked for there.

use std::collections::BTreeSet;

use crate::aws::ecs::Ecs;
use crate::aws::{Aws, Place};
use crate::job::Release;
use crate::manifest::{Environment, Service, in_environment};
use crate::targets::phase::Frees;
use crate::time::{Clock, Time};

/// One service of the manifest in one of its environments.
#[derive(Debug, Clone)]
pub struct Site {
    /// The environment's name.
    pub environment_name: String,
    /// The service's name in the manifest.
    pub service_name: String,
    /// The environment.
    pub environment: Environment,
    /// What the manifest says of the service.
    pub service: Service,
    /// Where calls go.
    pub place: Place,
    /// The ECS service's name.
    pub ecs_service: String,
    /// ECS there.
    pub ecs: Ecs,
}

impl Site {
    /// The site of a service.
    pub async fn new(aws: &Aws, environment: (&str, &Environment), service: (&str, &Service)) -> Self {
        let ((environment_name, environment), (service_name, service)) = (environment, service);
        let place = Place::from(environment);
        Self {
            environment_name: environment_name.to_owned(),
            service_name: service_name.to_owned(),
            environment: environment.clone(),
            service: service.clone(),
            ecs_service: in_environment(&service.service, environment_name),
            ecs: aws.ecs(&place).await,
            place,
        }
    }

    /// `us/web`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.environment_name, self.service_name)
    }

    /// The task definition's family.
    #[must_use]
    pub fn family(&self) -> String {
        in_environment(&self.service.family, &self.environment_name)
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.environment.cluster
    }

    /// The number of a task definition's revision, when it is of the family that the manifest names: that of another family
    /// cannot be told by its number.
    #[must_use]
    pub fn revision(&self, definition: &str) -> u32 {
        match crate::aws::ecs::id(definition).rsplit_once(':') {
            Some((family, revision)) if family == self.family() => revision.parse().unwrap_or_default(),
            _ => 0,
        }
    }
}

/// Whose deployments are looked for.
#[derive(Debug, Clone)]
pub struct Whose {
    /// The release.
    pub release: Release,
    /// Which of its deployments.
    pub of: Of,
    /// None of them is older: when the action that deploys began, as CodePipeline says.
    pub since: Time,
    /// The release's image.
    pub image: Option<String>,
}

/// Which deployments of a release.
#[derive(Debug, Clone)]
pub enum Of {
    /// Those of the action whose first job has this id.
    Action {
        /// The key.
        key: String,
        /// The deployments that are facts: they are of a try before this one, which has succeeded.
        facts: BTreeSet<String>,
        /// When the first try of the action began, if this is another one.
        tried_before: Option<Time>,
    },
    /// All, but for those that are facts: their action has succeeded. Those that were created after `until` are of a retry.
    Release {
        /// Their ids.
        facts: BTreeSet<String>,
        /// Those that were created by then are facts, too: the release's one action that deploys has succeeded, and what a try before it
        /// had deployed was what it found to run already.
        facts_until: Option<Time>,
        /// When the release was seen to be over; none while it goes on.
        until: Option<Time>,
        /// When its actions that deploy had ended, with what they may have begun in their last moments; none while one goes on.
        ended: Option<Time>,
    },
}

impl Whose {
    /// Whether a deployment takes the place of one that was found before: an action has one, a release one for each try.
    #[must_use]
    pub fn supersedes(&self, created: Option<Time>, known: Option<Time>) -> bool {
        match self.of {
            Of::Action { .. } => false,
            Of::Release { .. } => created > known,
        }
    }

    /// Whether a deployment that was created then can be of this try or one before it.
    #[must_use]
    pub fn is_in_time(&self, created: Option<Time>) -> bool {
        match &self.of {
            Of::Action { .. } | Of::Release { until: None, .. } => true,
            Of::Release { until: Some(until), .. } => created.is_none_or(|created| created <= *until),
        }
    }

    /// Whether a deployment that was created then may bring back what ran before an earlier try of this action.
    #[must_use]
    pub fn may_be_a_way_back(&self, created: Option<Time>) -> bool {
        match &self.of {
            Of::Action { tried_before: Some(before), .. } => created.is_some_and(|created| created >= *before),
            Of::Action { tried_before: None, .. } | Of::Release { .. } => false,
        }
    }

    /// The same of one that has no key, and may be another release's or a person's: of this one is only what was begun while
    /// it deployed.
    #[must_use]
    pub fn can_have_begun(&self, created: Option<Time>) -> bool {
        let ended = match &self.of {
            Of::Action { .. } => None,
            Of::Release { ended, .. } => *ended,
        };
        self.is_in_time(created) && ended.is_none_or(|ended| created.is_none_or(|created| created <= ended))
    }

    /// Whether the deployment of this id is a fact: its action has succeeded.
    #[must_use]
    pub fn is_fact(&self, id: &str, created: Option<Time>) -> bool {
        match &self.of {
            Of::Action { facts, .. } => facts.contains(id),
            Of::Release { facts, facts_until, .. } => {
                facts.contains(id) || created.zip(*facts_until).is_some_and(|(created, until)| created <= until)
            }
        }
    }
}

/// When it is looked, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Now.
    pub now: Time,
    /// What for.
    pub purpose: Purpose,
    /// The time as it goes on from then: reads wait for their turn, and what is done after them is done later.
    clock: Clock,
}

/// What it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To bring the new version.
    Deploy,
    /// To take back what this action has begun.
    TakeBack,
    /// To take back what a release has left, whoever began it: what is not shown yet is looked for each time.
    Sweep,
    /// To see what became of the old tasks.
    Drain,
}

impl Moment {
    /// This moment: `now` is now.
    #[must_use]
    pub fn new(now: Time, purpose: Purpose) -> Self {
        Self { now, purpose, clock: Clock::set(now) }
    }

    /// The same moment, for another purpose.
    #[must_use]
    pub fn with(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// What time it is by now.
    #[must_use]
    pub fn by_now(&self) -> Time {
        self.clock.now()
    }

    /// Whether everything is being taken back: what is stopped then was stopped by us.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        matches!(self.purpose, Purpose::TakeBack | Purpose::Sweep)
    }
}

/// What keeps a service busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// The deployment, with when and by whom.
    pub with: String,
    /// What ends it, when it is Cutover's own.
    pub frees: Option<Frees>,
}
