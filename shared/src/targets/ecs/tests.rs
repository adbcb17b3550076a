use super::*;
use crate::aws::ecs::{Counts, HookRun, HookStatus};

#[test]
fn what_deploys_again_what_a_try_had_replaced_is_its_way_back_also_with_the_same_image() {
    let deployment = |arn: &str, from: &str, to: &str, at| Deployment {
        arn: arn.into(),
        sources: vec![Counts { arn: from.into(), ..Counts::default() }],
        target: Counts { arn: to.into(), ..Counts::default() },
        created: Some(Time::from_millis(at)),
        ..Deployment::default()
    };
    let definition = |arn: &str| ["42", "43", "44"].into_iter().find(|known| *known == arn);
    let tried = deployment("a try", "42", "43", 1);
    let back = deployment("its way back", "43", "42", 2);
    let again = deployment("the next try", "42", "43", 3);
    let unread = deployment("unread", "?", "?", 4);
    for (ours, expected) in [
        (vec![&tried], vec!["a try"]),
        (vec![&tried, &back], vec!["a try"]),
        (vec![&tried, &back, &again], vec!["a try", "the next try"]),
        (vec![&again, &unread], vec!["the next try", "unread"]),
    ] {
        let found: Vec<_> = tries(ours, definition).iter().map(|one| one.arn.as_str()).collect();
        assert_eq!(found, expected);
    }
}

fn tried(status: Status, stage: Option<Stage>, pauses: bool, traffic: i64) -> Tried {
    let hook = HookRun { id: "h".into(), function: None, status: HookStatus::AwaitingAction, expires: None };
    let target = Counts { requested: 2, running: 2, traffic: Some(traffic), ..Counts::default() };
    let hooks = pauses.then_some(hook).into_iter().collect();
    let deployment = Deployment { status, stage, target, hooks, ..Deployment::default() };
    Tried {
        deployment,
        definition: "shop-web:2".into(),
        before: Some("shop-web:1".into()),
        back: None,
        back_over: None,
        runs_since: None,
        ended_pause: None,
    }
}

fn context<'a>() -> Context<'a> {
    Context {
        now: Time::from_millis(1_000_000),
        stopped_by_us: false,
        before: Some("shop-web:1"),
        current: None,
        replaced: None,
    }
}

#[test]
fn a_pause_before_production_traffic_is_the_barrier_and_each_before_it_or_between_two_steps_is_passed() {
    use Stage::{
        BakeTime, CleanUp, PostProductionTrafficShift, PostScaleUp, PreProductionTrafficShift, ProductionTrafficShift,
        ScaleUp,
    };
    let barrier = Some(&PreProductionTrafficShift);
    for (stage, pauses, traffic, expected) in [
        (None, false, 0, Phase::Going),
        (Some(ScaleUp), false, 0, Phase::Going),
        (Some(PostScaleUp), true, 0, Phase::Held),
        (Some(PreProductionTrafficShift), false, 0, Phase::Going),
        (Some(PreProductionTrafficShift), true, 0, Phase::Ready),
        (Some(PreProductionTrafficShift), true, 10, Phase::Between),
        (Some(PreProductionTrafficShift), false, 10, Phase::Shifting),
        (Some(ProductionTrafficShift), false, 0, Phase::Shifting),
        // Whoever put a hook there wants to end its pause.
        (Some(PostProductionTrafficShift), true, 100, Phase::Shifting),
        (Some(BakeTime), false, 100, Phase::Moved),
        (Some(CleanUp), false, 100, Phase::Moved),
        (Some(Stage::Unknown("OF_TOMORROW".into())), true, 0, Phase::Going),
    ] {
        let tried = tried(Status::InProgress, stage.clone(), pauses, traffic);
        let own = [PostScaleUp, PreProductionTrafficShift];
        assert_eq!(tried.phase(barrier, &own, &context()), expected, "{stage:?} {pauses} {traffic}");
    }
    let early = tried(Status::InProgress, Some(PostScaleUp), true, 0);
    let own = [PostScaleUp];
    assert_eq!(early.phase(Some(&PostScaleUp), &own, &context()), Phase::Ready, "the only pause is the barrier");
    let own = [PreProductionTrafficShift];
    assert_eq!(early.phase(barrier, &own, &context()), Phase::Ready, "the barrier's, with the stage before it shown");
}

#[test]
fn a_barrier_opens_only_when_each_function_at_its_stage_has_let_the_deployment_go_on() {
    let barrier = Some(&Stage::PreProductionTrafficShift);
    for (status, expected) in [
        (HookStatus::InProgress, Phase::Going),
        (HookStatus::Failed, Phase::Going),
        (HookStatus::Unknown("OF_TOMORROW".into()), Phase::Going),
        (HookStatus::Succeeded, Phase::Ready),
    ] {
        let mut tried = tried(Status::InProgress, Some(Stage::PreProductionTrafficShift), true, 0);
        let hook = HookRun { id: "f".into(), function: Some("check".into()), status: status.clone(), expires: None };
        tried.deployment.hooks.push(hook);
        assert_eq!(tried.phase(barrier, &[], &context()), expected, "{status:?}");
    }
}

#[test]
fn what_waits_before_its_new_tasks_are_there_is_behind_no_barrier_and_passed() {
    for stage in [Stage::ReconcileService, Stage::PreScaleUp] {
        let tried = tried(Status::InProgress, Some(stage.clone()), true, 0);
        assert_eq!(tried.phase(None, std::slice::from_ref(&stage), &context()), Phase::Held, "{stage:?}");
        assert!(!stage.can_be_barrier());
    }
    for stage in [Stage::PostScaleUp, Stage::PostTestTrafficShift, Stage::PreProductionTrafficShift] {
        assert!(stage.can_be_barrier(), "{stage:?}");
    }
    assert!(!Stage::PostProductionTrafficShift.can_be_barrier() && !Stage::Unknown("X".into()).can_be_barrier());
}

#[test]
fn each_pause_of_a_way_back_is_continued_and_old_tasks_that_end_slowly_hold_none_up() {
    let back = |stage: Option<Stage>, pauses, requested_of_old| {
        let mut back = tried(Status::InProgress, stage, pauses, 100).deployment;
        back.sources = vec![Counts { requested: requested_of_old, running: 1, ..Counts::default() }];
        let tried = Tried { back: Some(back), ..tried(Status::Successful, None, false, 100) };
        tried.phase(None, &[], &context())
    };
    let rolling = Phase::RollingBack { what: None };
    for (stage, pauses, requested_of_old, expected) in [
        (Some(Stage::PreProductionTrafficShift), true, 2, Phase::BackWaits),
        (Some(Stage::PostProductionTrafficShift), true, 2, Phase::BackWaits),
        (Some(Stage::PostProductionTrafficShift), false, 2, rolling.clone()),
        (Some(Stage::BakeTime), false, 2, Phase::RolledBack),
        (None, false, 2, rolling),
        (None, false, 0, Phase::RolledBack),
    ] {
        assert_eq!(back(stage.clone(), pauses, requested_of_old), expected, "{stage:?} {pauses} {requested_of_old}");
    }
}

#[test]
fn a_rolling_deployment_has_moved_its_traffic_when_all_new_tasks_run_and_the_old_ones_were_told_to_go() {
    for (running, requested_of_old, expected) in [(2, 0, Phase::Moved), (1, 0, Phase::Going), (2, 1, Phase::Going)] {
        let mut tried = tried(Status::InProgress, None, false, 0);
        tried.deployment.target.running = running;
        tried.deployment.sources = vec![Counts { requested: requested_of_old, running: 1, ..Counts::default() }];
        assert_eq!(tried.phase(None, &[], &context()), expected, "{running} {requested_of_old}");
    }
}

#[test]
fn a_barrier_with_dead_tasks_behind_it_is_not_ready_before_the_others_have_stayed_up() {
    let mut tried = tried(Status::InProgress, Some(Stage::PreProductionTrafficShift), true, 0);
    tried.deployment.target.running = 1;
    let barrier = Some(&Stage::PreProductionTrafficShift);
    let died = |ago: u64| Context { replaced: Some(context().now.before(Duration::from_secs(ago))), ..context() };
    assert_eq!(tried.phase(barrier, &[], &died(60)), Phase::Going, "one is missing");
    assert_eq!(tried.phase(barrier, &[], &context()), Phase::Ready, "counts that lag alone do not count");
    tried.deployment.target.running = 2;
    assert_eq!(tried.phase(barrier, &[], &died(3)), Phase::Going, "it has only just come up");
    assert_eq!(tried.phase(barrier, &[], &died(60)), Phase::Ready);
}

#[test]
fn how_a_deployment_ended_tells_where_its_traffic_is() {
    let back = |status| Some(Deployment { status, ..Deployment::default() });
    let ours = Context { stopped_by_us: true, ..context() };
    let old = Context { current: Some("shop-web:1"), ..context() };
    let new = Context { current: Some("shop-web:2"), ..context() };
    let failed = |phase: &Phase| matches!(phase, Phase::Failed { .. });
    let stranded = |phase: &Phase| matches!(phase, Phase::Stranded { .. });
    let over = |phase: &Phase| matches!(phase, Phase::Over { .. });
    for (status, context, is_it) in [
        (Status::RollbackSuccessful, context(), failed as fn(&Phase) -> bool),
        (Status::RollbackSuccessful, ours, |phase| *phase == Phase::RolledBack),
        (Status::Successful, context(), |phase| *phase == Phase::Done),
        (Status::RollbackRequested, context(), |phase| matches!(phase, Phase::RollingBack { what: Some(_) })),
        (Status::RollbackInProgress, ours, |phase| *phase == Phase::RollingBack { what: None }),
        (Status::Stopped, context(), over),
        (Status::StopRequested, context(), over),
        (Status::Stopped, old, failed),
        (Status::Stopped, new, stranded),
        (Status::RollbackFailed, context(), over),
        (Status::RollbackFailed, old, |phase| matches!(phase, Phase::Stuck { .. })),
        (Status::RollbackFailed, new, stranded),
    ] {
        let phase = tried(status.clone(), None, false, 0).phase(None, &[], &context);
        assert!(is_it(&phase), "{status:?}: {phase:?}");
    }
    for (status, expected) in
        [(Status::Successful, Phase::RolledBack), (Status::InProgress, Phase::RollingBack { what: None })]
    {
        let tried = Tried { back: back(status), ..tried(Status::Successful, None, false, 100) };
        assert_eq!(tried.phase(None, &[], &context()), expected);
    }
    let tried = Tried { back: back(Status::RollbackSuccessful), ..tried(Status::Successful, None, false, 100) };
    assert_eq!(
        tried.phase(None, &[], &context()),
        Phase::RollingBack { what: None },
        "what runs there is not known yet"
    );
    assert!(matches!(tried.phase(None, &[], &new), Phase::Stuck { .. }));
}
