//! The table of what follows from what is seen.

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
        waits_for_health: false,
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
        // It waits although it was read as not waiting: its group was changed meanwhile.
        (vec![target(Phase::Ready), free(Phase::Ready)], vec![go_on(0), go_on(1)]),
        (vec![free(Phase::Done), free(Phase::Ready)], vec![go_on(1)]),
        (vec![free(Phase::Going), free(Phase::Ready)], vec![]),
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
        // What was refused may have been another call.
        seen.now = NOW;
        assert_eq!(decide(&seen, &mut state), Decision::Go(vec![]));
        seen.now = NOW.plus(Duration::from_secs(61));
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
fn a_target_that_becomes_busy_when_another_one_is_free_is_waited_for_as_long_again() {
    let busy = || Phase::Busy { with: "deployment d-9".into(), frees: None };
    let mut state = State::default();
    let mut at = |minutes: u64, phases: &[Phase]| {
        let now = NOW.plus(Duration::from_secs(60 * minutes));
        decide(&Observation { now, begun: NOW, ..seen(0, phases) }, &mut state);
        (state.busy_at, state.cause.as_ref().map(|cause| cause.target))
    };
    assert_eq!(at(0, &[Phase::Going, busy()]), (Some(1), None));
    // One that is not seen for a moment keeps its clock.
    assert_eq!(at(1, &[busy(), Phase::Unknown]), (Some(1), None));
    assert_eq!(at(2, &[busy(), busy()]), (Some(1), None));
    assert_eq!(at(4, &[busy(), Phase::Going]), (Some(0), None), "its clock begins now");
    for minutes in 5..=34 {
        assert_eq!(at(minutes, &[busy(), Phase::Going]), (Some(0), None), "{minutes}");
    }
    assert_eq!(at(35, &[busy(), Phase::Going]), (Some(0), Some(0)));
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
        busy_at: Some(199),
        quick_since: None,
        back_after: None,
        given_a_hook: Vec::new(),
        unlisted: Some(NOW),
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
        busy_at: Some(199),
        quick_since: Some(NOW),
        back_after: Some(9_999),
        given_a_hook: (0..200).collect(),
        unlisted: Some(NOW),
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
    assert!(cause.what.starts_with(&"x".repeat(60)), "{}", cause.what);
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

#[test]
fn what_ecs_does_not_find_healthy_in_time_fails_and_what_is_only_not_proven_yet_does_not() {
    for (minutes, is_proven, waits_for_health, fails) in
        [(61, false, true, true), (60, false, true, false), (61, false, false, false), (61, true, false, false)]
    {
        let mut seen = seen(minutes, &[Phase::Moved, Phase::Shifting]);
        seen.targets[0] = Observed { is_proven, waits_for_health, ..free(Phase::Moved) };
        seen.targets[1].timeout = Duration::from_secs(2 * 3600);
        let mut state = State::default();
        decide(&seen, &mut state);
        assert_eq!(state.cause.is_some(), fails, "{minutes} {is_proven} {waits_for_health}: {:?}", state.cause);
    }
}

#[test]
fn what_is_ready_is_not_blamed_for_what_another_one_has_not_done_in_time() {
    let mut state = State::default();
    decide(&seen(61, &[Phase::Ready, Phase::Going]), &mut state);
    assert_eq!(state.cause.map(|cause| cause.target), Some(1));
}
