//! What to do next, from what is seen: pure, total, clock-free.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::Time;
use shared::targets::{Act, Observed, Phase, take_back};

use crate::workers::Standing;

/// How often the deployments are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The longest first cause that the token carries, in characters.
const LONGEST_CAUSE: usize = 600;

/// What is left of the cause where the token has no room for more.
const SHORTEST_CAUSE: usize = 120;

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
    /// After how many seconds the quick way had come to its end.
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    pub(crate) back_after: Option<u32>,
}

/// The longest state that a token carries, in characters: the rest of its 2,048 is for what every token holds.
const LONGEST_STATE: usize = 1_700;

impl State {
    /// Makes it short enough for a token. What was said last of each target is worth least: without it, the function that goes on says it
    /// once more; then the end of the cause.
    pub(crate) fn fit(&mut self) {
        let length = |state: &Self| serde_json::to_string(state).map_or(0, |text| text.chars().count());
        if length(self) > LONGEST_STATE {
            self.said.clear();
        }
        let over = length(self).saturating_sub(LONGEST_STATE);
        if let Some(cause) = self.cause.as_mut().filter(|_| over > 0) {
            // JSON writes some characters as two, or as six.
            let most = cause.what.chars().count().saturating_sub(over).max(SHORTEST_CAUSE);
            cause.what = shared::text::fit(&cause.what, most);
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

/// Decides; what must be remembered goes into `state`.
pub(crate) fn decide(seen: &Observation, state: &mut State) -> Decision {
    if seen.targets.iter().any(|target| matches!(target.phase, Phase::Busy { .. })) {
        let known = state.busy.filter(|(_, last)| seen.now.since(*last) < UNBROKEN);
        state.busy = Some((known.map_or(seen.now, |(since, _)| since), seen.now));
    }
    if state.cause.is_none() && state.giving_up.is_none() && !seen.halted {
        let failures = seen.targets.iter().enumerate().filter_map(|(target, one)| {
            // While another release deploys, no service here is waited for.
            let since = state.turn.unwrap_or(seen.begun);
            let busy = seen.now.since(state.busy.map_or(since, |(busy, _)| busy.max(since)));
            let what = shared::text::fit(&failure(seen.now.since(since), busy, one)?, LONGEST_CAUSE);
            Some((one.was_stopped, one.first_death.unwrap_or(seen.now), Cause { target, what }))
        });
        // Several may have failed between two looks: the first is whose tasks died first. What was only stopped comes last: this action
        // may have done so before its function died, since another one had failed.
        state.cause = failures.min_by_key(|(was_stopped, at, _)| (*was_stopped, *at)).map(|(_, _, cause)| cause);
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
    let open = all_ready && targets.iter().filter(|target| !target.behind_barrier).all(moved);
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
            Some(format!("its traffic had not moved after {}, its `timeout`", shared::time::spoken(target.timeout)))
        }
        Phase::Unknown | Phase::Empty | Phase::Busy { .. } | Phase::Going | Phase::Held | Phase::Ready => None,
        Phase::Shifting | Phase::Between | Phase::Moved | Phase::Done | Phase::Same => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::targets::Frees;

    use super::*;

    const NOW: Time = Time::from_millis(10_000_000);

    fn target(phase: Phase) -> Observed {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let (timeout, wait_for_group) = (minutes(60), minutes(30));
        Observed {
            phase,
            behind_barrier: true,
            is_proven: true,
            timeout,
            wait_for_group,
            asked: None,
            broken: None,
            dying: None,
            was_stopped: false,
            first_death: None,
        }
    }

    fn free(phase: Phase) -> Observed {
        Observed { behind_barrier: false, ..target(phase) }
    }

    fn seen(minutes: u64, phases: &[Phase]) -> Observation {
        let begun = Time::from_millis(NOW.millis() - minutes * 60_000);
        let targets = phases.iter().cloned().map(target).collect();
        Observation {
            now: NOW,
            begun,
            halted: false,
            targets,
            workers: Standing::Released,
            workers_are_back: true,
            taken_over: false,
        }
    }

    fn failed() -> Phase {
        Phase::Failed { what: "the new tasks died".into() }
    }

    fn stranded() -> Phase {
        Phase::Stranded { what: "a hook failed".into() }
    }

    #[test]
    fn no_traffic_moves_before_every_target_is_ready() {
        for (phases, expected) in [
            (vec![Phase::Ready, Phase::Going], vec![]),
            (vec![Phase::Ready, Phase::Unknown], vec![]),
            (vec![Phase::Ready, Phase::Over { what: None }], vec![]),
            (vec![Phase::Ready, Phase::Empty], vec![Act::Begin { at: 1 }]),
            (vec![Phase::Ready, Phase::Ready], vec![Act::Continue { at: 0 }, Act::Continue { at: 1 }]),
            // It was continued before this look.
            (vec![Phase::Ready, Phase::Moved], vec![Act::Continue { at: 0 }]),
            (vec![Phase::Ready, Phase::Shifting], vec![Act::Continue { at: 0 }]),
            (vec![Phase::Ready, Phase::Between], vec![Act::Continue { at: 0 }, Act::Continue { at: 1 }]),
            (vec![Phase::Going, Phase::Moved], vec![]),
            (vec![Phase::Held, Phase::Ready], vec![Act::Continue { at: 0 }]),
            (vec![Phase::Same, Phase::Ready], vec![Act::Continue { at: 1 }]),
        ] {
            assert_eq!(decide(&seen(1, &phases), &mut State::default()), Decision::Go(expected), "{phases:?}");
        }
    }

    #[test]
    fn what_nothing_holds_begins_when_all_behind_the_barrier_are_ready_and_the_barrier_opens_when_it_is_done() {
        let (begin, go_on) = (|at| Act::Begin { at }, |at| Act::Continue { at });
        for (targets, expected) in [
            (vec![free(Phase::Empty)], vec![begin(0)]),
            (vec![free(Phase::Empty), free(Phase::Unknown)], vec![]),
            (vec![target(Phase::Empty), free(Phase::Empty)], vec![begin(0)]),
            (vec![target(Phase::Going), free(Phase::Empty)], vec![]),
            (vec![target(Phase::Ready), free(Phase::Empty)], vec![begin(1)]),
            (vec![target(Phase::Ready), free(Phase::Going)], vec![]),
            (vec![target(Phase::Ready), free(Phase::Shifting)], vec![]),
            (vec![target(Phase::Ready), free(Phase::Done)], vec![go_on(0)]),
            (vec![target(Phase::Ready), free(Phase::Same)], vec![go_on(0)]),
            (vec![target(Phase::Shifting), free(Phase::Empty)], vec![begin(1)]),
        ] {
            let seen = Observation { targets, ..seen(1, &[]) };
            assert_eq!(decide(&seen, &mut State::default()), Decision::Go(expected), "{seen:?}");
        }
    }

    #[test]
    fn what_has_not_shown_that_it_stays_up_is_neither_ready_nor_done() {
        let unproven = |target: Observed| Observed { is_proven: false, ..target };
        for targets in [
            vec![unproven(target(Phase::Ready)), target(Phase::Ready)],
            vec![unproven(target(Phase::Ready)), free(Phase::Empty)],
            vec![target(Phase::Moved), unproven(free(Phase::Done))],
            vec![target(Phase::Ready), unproven(free(Phase::Moved))],
        ] {
            let seen = Observation { targets, ..seen(1, &[]) };
            assert_eq!(decide(&seen, &mut State::default()), Decision::Go(vec![]), "{seen:?}");
        }
        let mut state = State::default();
        let dying = Observed { dying: Some("its new tasks keep dying".into()), ..free(Phase::Done) };
        let seen = Observation { targets: vec![dying], ..seen(1, &[]) };
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![Act::Back { at: 0 }]), "also after ECS was content");
    }

    #[test]
    fn it_succeeds_when_all_traffic_has_moved_although_old_tasks_still_wait() {
        let decision = decide(&seen(1, &[Phase::Moved, Phase::Done]), &mut State::default());
        assert_eq!(decision, Decision::Succeeded);
    }

    #[test]
    fn one_failure_takes_every_sibling_back_also_those_whose_traffic_had_moved() {
        let mut state = State::default();
        let phases = [Phase::Going, failed(), Phase::Ready, Phase::Moved, Phase::Empty, Phase::Done];
        let decision = decide(&seen(1, &phases), &mut state);
        let stop = |at| Act::Stop { at };
        assert_eq!(decision, Decision::Go(vec![stop(0), stop(2), stop(3), Act::Back { at: 5 }]));
        assert_eq!(state.cause.as_ref().unwrap().target, 1);
        let back =
            || vec![Phase::RolledBack, failed(), Phase::RolledBack, Phase::RolledBack, Phase::Empty, Phase::RolledBack];
        for (at, under_way) in [
            (0, Phase::RollingBack { what: None }),
            (2, Phase::Over { what: None }),
            (5, Phase::RollingBack { what: None }),
            (3, Phase::Unknown),
        ] {
            let mut phases = back();
            phases[at] = under_way;
            assert_eq!(decide(&seen(2, &phases), &mut state), Decision::Go(vec![]), "it is followed to its end");
        }
        assert_eq!(decide(&seen(3, &back()), &mut state), Decision::Failed);
        assert_eq!(state.cause.unwrap().what, "the new tasks died");
    }

    #[test]
    fn a_stop_that_came_too_late_is_followed_by_a_deployment_of_the_revision_before() {
        let mut state = State::default();
        let mut seen = seen(1, &[failed(), Phase::Moved]);
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![Act::Stop { at: 1 }]));
        seen.targets[1] = Observed { asked: None, ..target(Phase::Done) };
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![Act::Back { at: 1 }]));
        seen.targets[1] = Observed { asked: Some(NOW), ..target(stranded()) };
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![]), "it is asked for once, and again after a while");
        seen.targets[1].phase = Phase::BackWaits;
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![Act::Continue { at: 1 }]));
        seen.targets[1].phase = Phase::Stuck { what: "the rollback failed".into() };
        assert_eq!(decide(&seen, &mut state), Decision::Failed);
    }

    #[test]
    fn nothing_is_brought_back_over_what_a_retry_deploys_and_only_what_is_under_way_is_stopped() {
        let phases = [Phase::Done, stranded(), Phase::Over { what: None }, Phase::Going, Phase::RolledBack];
        let seen = Observation { halted: true, taken_over: true, workers_are_back: false, ..seen(1, &phases) };
        assert_eq!(decide(&seen, &mut State::default()), Decision::Go(vec![Act::Stop { at: 3 }]));
        let mut over = seen.clone();
        over.targets[3].phase = Phase::RolledBack;
        assert_eq!(decide(&over, &mut State::default()), Decision::Failed);
        let alone = Observation { taken_over: false, ..over };
        let Decision::Go(acts) = decide(&alone, &mut State::default()) else { panic!("it is not over") };
        assert_eq!(acts, [Act::Back { at: 0 }, Act::Back { at: 1 }]);
    }

    #[test]
    fn what_was_only_stopped_is_no_first_cause_beside_what_failed_by_itself() {
        let mut state = State::default();
        let stopped = "deployment d-1 was stopped by somebody";
        let mut seen = seen(1, &[Phase::Failed { what: stopped.into() }, failed(), Phase::RollingBack { what: None }]);
        (seen.targets[0].was_stopped, seen.targets[2].was_stopped) = (true, true);
        decide(&seen, &mut state);
        assert_eq!(state.cause.unwrap().target, 1);
        let mut alone = State::default();
        seen.targets[1] = target(Phase::Ready);
        decide(&seen, &mut alone);
        assert_eq!(alone.cause.unwrap().what, stopped);
    }

    #[test]
    fn new_tasks_that_keep_dying_are_given_up_before_codedeploy_does() {
        let mut state = State::default();
        let mut seen = seen(1, &[Phase::Going, Phase::Ready]);
        seen.targets[0].dying = Some("4 of its new tasks died".into());
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![Act::Stop { at: 0 }, Act::Stop { at: 1 }]));
        assert_eq!(state.cause.unwrap().what, "4 of its new tasks died");
    }

    #[test]
    fn a_target_whose_calls_are_refused_is_the_cause_and_does_not_hold_the_action_for_ever() {
        let mut state = State::default();
        let mut seen = seen(1, &[Phase::Ready, Phase::Ready]);
        seen.targets[0].broken = Some("ContinueDeployment was refused".into());
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![Act::Stop { at: 0 }, Act::Stop { at: 1 }]));
        seen.targets[0].asked = Some(NOW);
        seen.targets[1].phase = Phase::RolledBack;
        for phase in [Phase::Ready, Phase::Moved, Phase::Done, stranded()] {
            seen.targets[0].phase = phase;
            assert_eq!(decide(&seen, &mut state), Decision::Failed);
        }
        assert_eq!(state.cause.unwrap().what, "ContinueDeployment was refused");
    }

    #[test]
    fn what_cannot_be_taken_back_within_an_hour_is_reported() {
        let mut state = State::default();
        let mut seen = seen(1, &[failed(), Phase::RollingBack { what: None }]);
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![]));
        seen.now = NOW.plus(TAKING_BACK + Duration::from_secs(1));
        assert_eq!(decide(&seen, &mut state), Decision::Failed);
    }

    #[test]
    fn a_halt_takes_back_what_is_under_way_and_is_nobodys_fault() {
        let mut state = State::default();
        let halted = Observation { halted: true, ..seen(1, &[Phase::Ready, Phase::Empty, Phase::Done]) };
        assert_eq!(decide(&halted, &mut state), Decision::Go(vec![Act::Stop { at: 0 }, Act::Back { at: 2 }]));
        assert_eq!(state.cause, None);
        let unknown = Observation { halted: true, ..seen(1, &[Phase::Unknown]) };
        assert_eq!(decide(&unknown, &mut state), Decision::Go(vec![]), "what may be under way must be seen first");
        let after = seen(2, &[Phase::RolledBack, Phase::Empty, Phase::RolledBack]);
        assert_eq!(decide(&after, &mut state), Decision::Failed);
        assert_eq!(state.cause, None, "what was asked for is no failure");
    }

    #[test]
    fn a_busy_group_is_waited_for_within_its_limit_and_freed_where_only_old_tasks_of_ours_wait() {
        let frees = |id: &str| Frees::EndOfWait(id.to_owned());
        let busy = |released: Option<&str>| Phase::Busy { with: "d-1".into(), frees: released.map(frees) };
        let since = |minutes: u64| {
            let at = NOW.before(Duration::from_secs(60 * minutes));
            State { turn: Some(at), busy: Some((at, NOW.before(Duration::from_secs(1)))), ..State::default() }
        };
        assert_eq!(decide(&seen(60, &[busy(None)]), &mut since(29)), Decision::Go(vec![]));
        let release = || vec![Act::Free { at: 0, how: frees("d-1") }];
        let given_up = Phase::Busy { with: "d-1".into(), frees: Some(Frees::Stop("d-1".into())) };
        let stops = vec![Act::Free { at: 0, how: Frees::Stop("d-1".into()) }];
        assert_eq!(decide(&seen(1, &[given_up]), &mut State::default()), Decision::Go(stops));
        assert_eq!(decide(&seen(1, &[busy(Some("d-1"))]), &mut State::default()), Decision::Go(release()));
        let mut state = since(31);
        assert_eq!(decide(&seen(60, &[busy(None)]), &mut state), Decision::Failed);
        assert_eq!(state.cause.unwrap().what, "it was busy for 31 min 00 s with d-1");
        // The function that goes on from this one asks first.
        let mut state = since(31);
        assert_eq!(decide(&seen(60, &[Phase::Empty]), &mut state), Decision::Go(vec![Act::Begin { at: 0 }]));
        assert_eq!(decide(&seen(60, &[busy(None)]), &mut state), Decision::Failed);
        // It had waited for the others, and nothing kept it busy meanwhile, or not for long.
        let before = |seconds| NOW.before(Duration::from_secs(seconds));
        for kept in [None, Some((before(1800), before(181)))] {
            let mut late = State { busy: kept, ..since(31) };
            assert_eq!(decide(&seen(60, &[busy(None)]), &mut late), Decision::Go(vec![]));
            assert_eq!(late.busy, Some((NOW, NOW)));
            assert_eq!(decide(&seen(60, &[busy(Some("d-1"))]), &mut late), Decision::Go(release()));
        }
    }

    #[test]
    fn a_deployment_that_takes_too_long_is_the_cause() {
        let mut state = State::default();
        assert_eq!(decide(&seen(61, &[Phase::Going]), &mut state), Decision::Go(vec![Act::Stop { at: 0 }]));
        assert!(state.cause.unwrap().what.contains("1 h 00 min"));
    }

    #[test]
    fn workers_are_prepared_before_traffic_moves_and_released_when_all_of_it_has_moved() {
        let broken = || Standing::Broken { what: "us/exports: there is no such family".into() };
        let go_on = Decision::Go(vec![Act::Continue { at: 0 }]);
        let nothing = Decision::Go(vec![]);
        for (workers, ready, moved) in [
            (Standing::Preparing, nothing.clone(), nothing),
            (Standing::Ready, go_on.clone(), Decision::Release),
            (Standing::Released, go_on, Decision::Succeeded),
            (broken(), Decision::Go(vec![Act::Stop { at: 0 }]), Decision::Go(vec![Act::Stop { at: 0 }])),
        ] {
            for (phase, expected) in [(Phase::Ready, ready), (Phase::Moved, moved)] {
                let seen = Observation { workers: workers.clone(), ..seen(1, &[phase]) };
                assert_eq!(decide(&seen, &mut State::default()), expected, "{seen:?}");
            }
        }
        let mut state = State::default();
        decide(&Observation { workers: broken(), ..seen(1, &[Phase::Moved]) }, &mut state);
        assert_eq!(state.cause, Some(Cause { target: WORKERS, what: "us/exports: there is no such family".into() }));
    }

    #[test]
    fn a_way_back_is_over_only_when_the_workers_are_back_too() {
        let mut state = State::default();
        let halted = Observation { halted: true, workers_are_back: false, ..seen(1, &[Phase::RolledBack]) };
        assert_eq!(decide(&halted, &mut state), Decision::Go(vec![]));
        assert_eq!(decide(&Observation { workers_are_back: true, ..halted.clone() }, &mut state), Decision::Failed);
        let late = Observation { now: NOW.plus(TAKING_BACK + Duration::from_secs(1)), ..halted };
        assert_eq!(decide(&late, &mut state), Decision::Failed, "a person is needed");
    }

    #[test]
    fn fifty_targets_with_a_cause_fit_the_token() {
        let cause = Cause { target: 49, what: "x".repeat(LONGEST_CAUSE) };
        let state = State {
            before: vec![12_345; 50],
            said: vec![u16::MAX; 50],
            cause: Some(cause),
            turn: Some(NOW),
            giving_up: Some(NOW),
            busy: Some((NOW, NOW)),
            quick_since: None,
            back_after: None,
            way: Way::Deployment("x".repeat(200)),
        };
        let text = serde_json::to_string(&state).unwrap();
        assert!(text.len() < 1_900, "{}", text.len());
    }

    #[test]
    fn as_many_targets_as_an_action_may_have_fit_the_token_whatever_happens() {
        let whole = State {
            before: vec![12_345; MOST_TARGETS],
            said: vec![u16::MAX; MOST_TARGETS],
            cause: Some(Cause { target: WORKERS, what: "x".repeat(LONGEST_CAUSE) }),
            turn: Some(NOW),
            giving_up: Some(NOW),
            busy: Some((NOW, NOW)),
            quick_since: Some(NOW),
            back_after: Some(9_999),
            way: Way::Deployment("x".repeat(200)),
        };
        let mut state = whole.clone();
        state.fit();
        assert_eq!(
            (&state.before, &state.said),
            (&whole.before, &Vec::new()),
            "what ran before is worth more than what was said"
        );
        let cause = state.cause.clone().unwrap();
        assert!(cause.what.starts_with(&"x".repeat(SHORTEST_CAUSE / 2)), "{}", cause.what);
        // The key, times, tries and trouble of every token take less than 250.
        let length = serde_json::to_string(&state).unwrap().chars().count();
        assert!(length <= 2048 - 250, "{length}");
        let small = State { before: vec![7; 3], said: vec![9; 3], ..State::default() };
        let mut same = small.clone();
        same.fit();
        assert_eq!(same, small);
    }

    #[test]
    fn a_state_that_version_1_wrote_is_read() {
        let state: State = serde_json::from_str(r#"{"b":[41,7],"c":{"t":1,"w":"the new tasks died"}}"#).unwrap();
        assert_eq!((state.before, state.cause.unwrap().target), (vec![41, 7], 1));
    }
}
