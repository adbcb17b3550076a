//! What to do next, from what is seen: pure, total, clock-free.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::Time;
use shared::targets::{Act, Observed, Phase, take_back};
use shared::token::{excess, without};

use crate::workers::Standing;

/// How often the deployments are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The longest first cause that the token carries, in characters.
pub(crate) const LONGEST_CAUSE: usize = 600;

/// How many targets one action deploys: what runs before it at each is carried from job to job.
pub(crate) const MOST_TARGETS: usize = 200;

/// How long all that is taken back may take: a rollback starts what CodeDeploy has scaled down, at the worst. What has
/// not come to its end by then needs a person.
const TAKING_BACK: Duration = Duration::from_secs(60 * 60);

/// How long a target may not be seen to be busy until it counts as another time: a job that goes on from another one has to ask first.
const UNBROKEN: Duration = Duration::from_secs(180);

/// What cannot be observed again, carried from job to job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// By target: the task definition's revision before the release, 0 where it is not known.
    #[serde(rename = "b", skip_serializing_if = "Vec::is_empty")]
    pub(crate) before: Vec<u32>,
    /// By target: a hash of what was said of it last in the release's log.
    #[serde(rename = "l", skip_serializing_if = "Vec::is_empty")]
    pub(crate) said: Vec<u16>,
    /// What failed first, and where.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<Cause>,
    /// Since when everything is being taken back.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    pub(crate) giving_up: Option<Time>,
    /// Since when it is this release's turn to deploy.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<Time>,
    /// Which way it goes back, if it does.
    #[serde(rename = "q", skip_serializing_if = "Way::is_open")]
    pub(crate) way: Way,
    /// Since when it goes the quick way.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    pub(crate) quick_since: Option<Time>,
    /// Since when another deployment keeps a target busy, and when that was seen last.
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    pub(crate) busy: Option<(Time, Time)>,
    /// Which target that is; an earlier version has not said.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none")]
    pub(crate) busy_at: Option<u16>,
    /// After how many seconds the quick way had come to its end.
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    pub(crate) back_after: Option<u32>,
    /// Until when lists may not show what was begun.
    #[serde(rename = "y", skip_serializing_if = "Option::is_none")]
    pub(crate) unlisted: Option<Time>,
    /// The targets whose services Cutover gives a PAUSE hook.
    #[serde(rename = "h", skip_serializing_if = "Vec::is_empty")]
    pub(crate) given_a_hook: Vec<u16>,
}

impl State {
    /// Makes it short enough for a token. What was said last of each target is worth least: without it, the function that goes on says it
    /// once more; then the middle of the cause.
    pub(crate) fn fit(&mut self) {
        if excess(self) > 0 {
            self.said.clear();
        }
        if excess(self) > 0 {
            // It is said in the log, too.
            self.given_a_hook.clear();
        }
        let excess = excess(self);
        if let Some(cause) = self.cause.as_mut().filter(|_| excess > 0) {
            cause.what = without(excess, &cause.what);
        }
    }
}

/// Which way it goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// It is not decided, or it does not go back.
    #[default]
    #[serde(rename = "o")]
    Open,
    /// The quick way, for web services; there is a deployment for the others.
    #[serde(rename = "q")]
    Quick,
    /// By a deployment, for this reason.
    #[serde(rename = "d")]
    Deployment(String),
}

impl Way {
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// The place of a cause that is of no target but of the release's workers.
pub(crate) const WORKERS: usize = u32::MAX as usize;

/// The first cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// Which target, by its place in the plan.
    #[serde(rename = "t")]
    pub(crate) target: usize,
    /// What happened there.
    #[serde(rename = "w")]
    pub(crate) what: String,
}

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) now: Time,
    pub(crate) begun: Time,
    pub(crate) halted: bool,
    pub(crate) targets: Vec<Observed>,
    /// The workers that are started one by one.
    pub(crate) workers: Standing,
    /// Whether nothing is written down of them that this release has written.
    pub(crate) workers_are_back: bool,
    /// Whether the release was stopped and the stage is tried again: that run deploys meanwhile.
    pub(crate) taken_over: bool,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Do this, then look again.
    Go(Vec<Act>),
    /// Traffic is on the new version everywhere: write down what is released of the workers, then look again.
    Release,
    /// Traffic is on the new version everywhere, and new workers are of it, too.
    Succeeded,
    /// The first cause is in the state, and nothing is under way any more.
    Failed,
}

/// How a cause ends that is a limit of the manifest's.
pub(crate) const ITS_TIMEOUT: &str = ", its `timeout`";

/// Decides; what must be remembered goes into `state`.
pub(crate) fn decide(seen: &Observation, state: &mut State) -> Decision {
    note_busy(seen, state);
    if state.cause.is_none() && state.giving_up.is_none() && !seen.halted {
        let failures = seen.targets.iter().enumerate().filter_map(|(target, one)| {
            // While another release deploys, no service here is waited for.
            let since = state.turn.unwrap_or(seen.begun);
            let is_timed = state.busy_at.is_none_or(|at| usize::from(at) == target);
            let busy = state.busy.filter(|_| is_timed).map_or(seen.now, |(busy, _)| busy.max(since));
            let busy = seen.now.since(busy);
            let what = shared::text::fit(&failure(seen.now.since(since), busy, one)?, LONGEST_CAUSE);
            let waits_for_another = one.phase == Phase::Ready && one.broken.is_none() && one.dying.is_none();
            let rank = (one.was_stopped, waits_for_another, one.first_death.unwrap_or(seen.now));
            Some((rank, Cause { target, what }))
        });
        // Several may have failed between two looks: the first is whose tasks died first. What was only stopped comes last: this action
        // may have done so before its function died, since another one had failed. What is ready, and was in time but for another one, comes
        // behind that one.
        state.cause = failures.min_by_key(|(rank, _)| *rank).map(|(_, cause)| cause);
        if state.cause.is_none()
            && let Standing::Broken { what } = &seen.workers
        {
            state.cause = Some(Cause { target: WORKERS, what: shared::text::fit(what, LONGEST_CAUSE) });
        }
    }
    if seen.halted || state.cause.is_some() || state.giving_up.is_some() {
        let since = *state.giving_up.get_or_insert(seen.now);
        let left: Vec<_> = seen.targets.iter().map(|target| left_by(seen, target)).collect();
        let acts = match take_back(&left, seen.now) {
            _ if seen.now.since(since) > TAKING_BACK => None,
            None if !seen.workers_are_back && !seen.taken_over => Some(Vec::new()),
            acts => acts,
        };
        return acts.map_or(Decision::Failed, Decision::Go);
    }
    go_forward(&seen.targets, &seen.workers)
}

/// Notes since when a target is busy: one clock, of the one that is waited for least. The others' begin when it is free.
fn note_busy(seen: &Observation, state: &mut State) {
    let is_busy = |at: usize| seen.targets.get(at).is_some_and(|one| matches!(one.phase, Phase::Busy { .. }));
    let limit = |at: usize| seen.targets.get(at).map(|one| one.wait_for_group);
    let Some(first) = (0..seen.targets.len()).filter(|at| is_busy(*at)).min_by_key(|at| limit(*at)) else { return };
    let known = state.busy.filter(|(_, last)| seen.now.since(*last) < UNBROKEN);
    let is_seen = |at: u16| seen.targets.get(usize::from(at)).is_some_and(|one| one.phase != Phase::Unknown);
    // One that is not seen at this look may be busy yet.
    let known = known.filter(|_| state.busy_at.is_none_or(|at| is_busy(usize::from(at)) || !is_seen(at)));
    let known = known.filter(|_| state.busy_at.is_none_or(|at| limit(usize::from(at)) <= limit(first)));
    let at = state.busy_at.filter(|_| known.is_some()).or_else(|| u16::try_from(first).ok());
    (state.busy, state.busy_at) = (Some((known.map_or(seen.now, |(since, _)| since), seen.now)), at);
}

/// What is to be taken back at a target: when another run of the action deploys there, the revision before is not brought back over
/// its deployment. What is still under way is stopped all the same: it would keep that one waiting.
fn left_by(seen: &Observation, target: &Observed) -> Observed {
    let is_over = matches!(target.phase, Phase::Done | Phase::Over { .. } | Phase::Stranded { .. });
    let phase = if seen.taken_over && is_over { Phase::Same } else { target.phase.clone() };
    Observed { phase, ..target.clone() }
}

/// Three steps, each when the one before is done everywhere. What is behind the barrier gets ready: new tasks that cannot
/// work show it there, and nothing has moved yet. Then what nothing holds (rolling services, for one) is brought to its
/// new version: it takes longest to bring back, and so it begins when little can fail any more; should it fail, it alone
/// is brought back. Then the barrier opens, which takes seconds, and seconds to undo.
fn go_forward(targets: &[Observed], workers: &Standing) -> Decision {
    let moved =
        |target: &Observed| matches!(target.phase, Phase::Moved | Phase::Done | Phase::Same) && target.is_proven;
    let workers_are_prepared = matches!(workers, Standing::Ready | Standing::Released);
    if targets.iter().all(moved) {
        return match workers {
            Standing::Released => Decision::Succeeded,
            Standing::Ready => Decision::Release,
            Standing::Preparing | Standing::Broken { .. } => Decision::Go(Vec::new()),
        };
    }
    let is_known = |target: &Observed| target.phase != Phase::Unknown;
    let passes = |target: &Observed| matches!(target.phase, Phase::Shifting | Phase::Between);
    let waits = |target: &Observed| target.phase == Phase::Ready && target.is_proven;
    let is_ready = |target: &Observed| moved(target) || passes(target) || waits(target);
    let all_ready = targets.iter().filter(|target| target.behind_barrier).all(is_ready) && workers_are_prepared;
    let first_step_done = all_ready && targets.iter().all(is_known);
    // What waits although its group or service was read as not waiting goes on with the others: somebody has changed that meanwhile.
    let goes_first = |target: &&Observed| !target.behind_barrier && target.phase != Phase::Ready;
    let open = all_ready && targets.iter().filter(goes_first).all(moved);
    let acts = targets.iter().enumerate().filter_map(|(at, target)| match &target.phase {
        Phase::Empty if target.behind_barrier || first_step_done => Some(Act::Begin { at }),
        Phase::Busy { frees: Some(how), .. } => Some(Act::Free { at, how: how.clone() }),
        // The barrier comes after it, or was passed.
        Phase::Held | Phase::Between => Some(Act::Continue { at }),
        Phase::Ready if open => Some(Act::Continue { at }),
        Phase::Empty | Phase::Busy { frees: None, .. } | Phase::Ready | Phase::Unknown | Phase::Going => None,
        Phase::Shifting | Phase::Moved | Phase::Same | Phase::Done => None,
        Phase::Failed { .. } | Phase::Over { .. } => None,
        Phase::RollingBack { .. } | Phase::RolledBack | Phase::BackWaits => None,
        Phase::Stranded { .. } | Phase::Stuck { .. } => None,
    });
    Decision::Go(acts.collect())
}

fn failure(passed: Duration, busy: Duration, target: &Observed) -> Option<String> {
    if target.broken.is_some() {
        return target.broken.clone();
    }
    match &target.phase {
        Phase::Failed { what } | Phase::Stranded { what } | Phase::Stuck { what } => Some(what.clone()),
        Phase::Over { what } => what.clone(),
        Phase::RollingBack { what: Some(what) } => Some(what.clone()),
        Phase::RollingBack { what: None } | Phase::BackWaits | Phase::RolledBack => {
            Some("its deployment was stopped by somebody".into())
        }
        Phase::Going | Phase::Held | Phase::Ready | Phase::Shifting | Phase::Between | Phase::Moved | Phase::Done
            if target.dying.is_some() =>
        {
            target.dying.clone()
        }
        Phase::Busy { with, .. } if busy > target.wait_for_group => {
            Some(format!("it was busy for {} with {with}", shared::time::spoken(busy)))
        }
        Phase::Going | Phase::Held | Phase::Ready | Phase::Shifting | Phase::Between if passed > target.timeout => {
            Some(format!("its traffic had not moved after {}{ITS_TIMEOUT}", shared::time::spoken(target.timeout)))
        }
        Phase::Moved | Phase::Done if passed > target.timeout && target.waits_for_health => {
            let limit = shared::time::spoken(target.timeout);
            Some(format!("ECS had not found its new tasks healthy after {limit}{ITS_TIMEOUT}"))
        }
        Phase::Unknown | Phase::Empty | Phase::Busy { .. } | Phase::Going | Phase::Held | Phase::Ready => None,
        Phase::Shifting | Phase::Between | Phase::Moved | Phase::Done | Phase::Same => None,
    }
}

#[cfg(test)]
mod tests;
