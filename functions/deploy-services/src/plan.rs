//! The targets of a release, as one invocation knows them: made from the manifest, looked at, acted on.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use shared::artifact::Content;
use shared::aws::SHOWN;
use shared::aws::codepipeline::{Codepipeline, facts};
use shared::manifest::ServiceKind;
use shared::targets::{self, Act, Moment, Of, Purpose, Site, Target, Whose};
use shared::{Aws, Error, Tick, Time, Verdict, text};
use tracing::info;

use crate::decide::{MOST_TARGETS, State, Way};

/// How long before the action's first look a deployment of its may have been begun, where CodePipeline does not say when
/// the action began: the first function died, and Lambda delivered its event again (fact 3).
const DIED: std::time::Duration = std::time::Duration::from_secs(240);

/// What a try before this one has succeeded with: all of its stage may be tried again, and what that one has deployed and written down
/// of workers is a fact.
#[derive(Debug, Default)]
pub(crate) struct Before {
    pub(crate) has_succeeded: bool,
    facts: BTreeSet<String>,
}

impl Before {
    pub(crate) async fn look(tick: &Tick<'_>) -> Result<Self, Error> {
        if tick.tried_before.is_none() {
            return Ok(Self::default());
        }
        match Codepipeline::new(tick.aws).siblings(tick.release).await {
            Ok(siblings) => Ok(Self {
                has_succeeded: siblings.iter().any(|one| one.deploys && one.has_succeeded()),
                facts: facts(&siblings),
            }),
            // Where that may not be asked, a try that was given up is what there is as a rule.
            Err(Error::Stop(_)) => Ok(Self::default()),
            Err(again @ Error::Again(_)) => Err(again),
        }
    }
}

/// The services in all their environments.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    aws: Aws,
    whose: Whose,
}

impl Plan {
    pub(crate) async fn new(
        tick: &Tick<'_>,
        content: Content,
        wanted: Option<&str>,
        before: Before,
        state: &mut State,
    ) -> Result<Self, Error> {
        // Whether what the one before was cut short over was asked for, nobody knows.
        state.unlisted = state.unlisted.max(tick.cut.map(|at| at.plus(SHOWN)));
        let manifest = content.manifest;
        let known = || manifest.services.keys().map(String::as_str).collect::<Vec<_>>();
        let names: Vec<&str> = match wanted {
            None => known(),
            Some(listed) => listed.split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
        };
        let mut targets = Vec::new();
        for name in names {
            let Some(service) = manifest.services.get(name) else {
                let why = text::unknown("service", name, known());
                return Err(Verdict::misconfigured(format!(
                    "deploy.yaml: {why} Correct the action's `Services`, or add it to the manifest's `services`."
                ))
                .into());
            };
            // Those have gone another way, and what is remembered is of the others.
            if state.way == Way::Quick && service.kind == ServiceKind::Web {
                continue;
            }
            for environment in manifest.environments_of(service.environments.as_ref()) {
                let site = Site::new(tick.aws, environment, (name, service)).await;
                let mut target = Target::new(site, state.before.get(targets.len()).copied().unwrap_or_default());
                target.goes_on_from(state.unlisted);
                targets.push(target);
            }
        }
        if targets.len() > MOST_TARGETS {
            return Err(Verdict::misconfigured(format!(
                "deploy.yaml: its services in their environments are {} to deploy, and one action deploys {MOST_TARGETS} at most. Have several \
                 actions deploy some each, by their `Services`.",
                targets.len()
            ))
            .into());
        }
        let whose = Whose {
            release: tick.release.clone(),
            of: Of::Action { key: tick.key.to_owned(), facts: before.facts, tried_before: tick.tried_before },
            since: begun(tick),
            image: content.image,
        };
        Ok(Self { targets, aws: tick.aws.clone(), whose })
    }

    /// Web services go back another way: only the others are deployed.
    pub(crate) fn leave_to_the_quick_way(&mut self) {
        self.targets.retain(|target| target.site.service.kind != ServiceKind::Web);
    }

    /// Whether nothing of this action is anywhere.
    pub(crate) fn has_nothing(&self) -> bool {
        self.targets.iter().all(|target| target.deployment().is_none())
    }

    /// Whether something has failed at a target for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.targets.iter().any(|target| target.failed.is_some())
    }

    /// Forgets what was seen where nothing of this action is: what runs there may be another version by now.
    pub(crate) fn look_anew(&mut self) {
        for target in self.targets.iter_mut().filter(|target| target.deployment().is_none()) {
            *target = Target::new(target.site.clone(), 0);
        }
    }

    /// Looks at every target; what was seen is of this moment.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>, state: &mut State) -> Moment {
        let takes_back = state.giving_up.is_some() || tick.halted;
        let moment = Moment::new(tick.now, if takes_back { Purpose::TakeBack } else { Purpose::Deploy });
        targets::look(&mut self.targets, &self.aws, &moment, &self.whose).await;
        state.before = self.targets.iter().map(Target::before_revision).collect();
        moment
    }

    /// What is looked at once more before deployments are begun. It takes its time, and it is asked only then whether the release goes on.
    pub(crate) async fn look_before_begin(&mut self, acts: &[Act], moment: &Moment) {
        targets::look_before_begin(&mut self.targets, acts, moment).await;
    }

    /// Does what was decided, at every target at once; what goes forward, while the release goes on.
    pub(crate) async fn act(&mut self, tick: &Tick<'_>, acts: &[Act], moment: &Moment, goes_forward: bool) {
        if acts.is_empty() {
            return;
        }
        tick.acts();
        let (whose, may) = (&self.whose, async |act: &Act| may(tick, act, goes_forward).await);
        join_all(self.targets.iter_mut().enumerate().map(async |(at, target)| {
            for act in acts.iter().filter(|act| act.at() == at) {
                info!(target = target.name(), ?act, "acting");
                target.act(act, moment, whose, &may).await;
            }
        }))
        .await;
    }

    /// Until when lists may not show what was begun.
    pub(crate) fn unlisted(&self) -> Option<Time> {
        self.targets.iter().filter_map(|target| target.unlisted).max()
    }

    /// The last lines of the first new task that died, at the target that failed first.
    pub(crate) async fn last_lines(&self, tick: &Tick<'_>, state: &State) -> Vec<String> {
        match state.cause.as_ref().and_then(|cause| self.targets.get(cause.target)) {
            Some(target) => target.dead.last_lines(tick.aws, &target.site).await,
            None => Vec::new(),
        }
    }
}

/// Whether this may be done still: what goes forward while the release goes on, what is deployed to go back while nobody has the stage
/// tried again.
///
/// # Errors
/// See [`Tick::goes_on`] and [`Tick::takes_back`].
pub(crate) async fn may(tick: &Tick<'_>, act: &Act, goes_forward: bool) -> Result<bool, Error> {
    if goes_forward && !tick.still_goes_on().await? {
        return Ok(false);
    }
    match act {
        Act::Back { .. } => tick.still_takes_back().await,
        _ => Ok(true),
    }
}

/// Nothing of this action is older.
fn begun(tick: &Tick<'_>) -> Time {
    tick.started.unwrap_or_else(|| tick.begun.before(DIED))
}
