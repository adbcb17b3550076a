//! Plays that broke a law once, shrunk to what they needed for it.

use std::time::Duration;

use tests::laws::fault::{ByHand, Calls, Ending, Fault, Shown};
use tests::laws::plan::Plan;
use tests::laws::play;
use tests::laws::shape::{By, How, Place, Service, Shape};
use tests::sweep::share;
use tests::{Fate, Meddling, laws};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One environment with so many web services behind the barrier.
fn shape(services: usize) -> Shape {
    let service = |at| Service {
        name: format!("s{at}"),
        worker: false,
        desired: 1,
        by: By::CodeDeploy { barrier: true, termination: Duration::from_secs(60) },
    };
    Shape {
        environments: vec![Place { name: "e01".into(), region: "us-east-1", account: None }],
        services: (0..services).map(service).collect(),
        lines: 3,
        pace: millis(500),
        steps_everywhere: true,
        shared_clusters: false,
        launches: false,
        timeout: tests::laws::shape::TIMEOUT,
    }
}

fn of(operation: &'static str) -> Calls {
    Calls { function: None, operation: Some(operation), writes: false }
}

fn keeps_the_laws(plan: &Plan) {
    let played = play(plan, true);
    assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
}

#[test]
fn a_run_that_was_given_up_begins_nothing_although_a_retry_makes_the_release_go_on() {
    // Two migrations ran at once: the run that was given up only asked whether the release goes on.
    for nth in share(0..8, 2, 0) {
        for after in share([137, 1500], 2, nth as usize / 2) {
            let faults = vec![
                Fault::Once { what: Meddling::AbandonAndCrash, of: of("ListActionExecutions"), nth },
                Fault::Retry { after: millis(after), all: false },
            ];
            keeps_the_laws(&Plan { seed: 40237, shape: shape(1), faults });
        }
    }
}

/// One web service that does not wait, as CodeDeploy deploys it.
fn without_barrier(termination: Duration) -> Shape {
    let mut shape = shape(1);
    shape.services[0].by = By::CodeDeploy { barrier: false, termination };
    shape
}

#[test]
fn a_halt_that_outlives_its_function_begins_neither_its_wait_nor_its_patience_anew() {
    // It waited for 20 s in each of nine invocations that had 7 s each, and spoke of two hours after two minutes.
    for seconds in [40, 45, 60] {
        let faults = vec![
            Fault::ShortLambdas(Duration::from_secs(seconds)),
            Fault::Task { environment: 0, task: "migrate", how: Ending::Slow(Duration::from_secs(30)) },
            Fault::Stop { at: millis(22_000), abandon: true },
        ];
        keeps_the_laws(&Plan { seed: 20208, shape: shape(1), faults });
    }
}

#[test]
fn a_halt_beside_which_the_stage_is_retried_leaves_it_alone_and_says_nothing() {
    // It took every invocation for its first, looked beside the retry for nine of them, and said that not all had ended.
    let faults = vec![
        Fault::Service { environment: 0, service: 0, how: Ending::NeverHealthy },
        Fault::ShortLambdas(millis(55_290)),
        Fault::Retry { after: millis(7587), all: true },
    ];
    let shape = without_barrier(Duration::from_secs(120));
    keeps_the_laws(&Plan { seed: 1_795_509_616_000_698, shape, faults });
}

#[test]
fn a_deployment_that_is_created_late_is_not_created_twice() {
    // It was asked for again after a few seconds, and over before the first one arrived.
    for after in [3, 8, 12, 19] {
        let late = Meddling::DoneLate(Duration::from_secs(after));
        let faults = vec![Fault::Once { what: late, of: of("CreateDeployment"), nth: 0 }];
        keeps_the_laws(&Plan { seed: 20855, shape: without_barrier(Duration::ZERO), faults });
    }
}

#[test]
fn a_run_that_was_given_up_brings_nothing_back_over_what_its_retry_has_deployed() {
    // It had asked for the revision before, did not see that halt-release had asked, too, and asked again after a minute.
    let how = [
        By::CodeDeploy { barrier: false, termination: Duration::ZERO },
        By::CodeDeploy { barrier: true, termination: Duration::from_secs(3600) },
    ];
    let mut two = shape(2);
    let first = two.services[0].clone();
    two.services =
        how.into_iter().enumerate().map(|(at, by)| Service { name: format!("s{at}"), by, ..first.clone() }).collect();
    for (stopped, retried) in [(39_808, 18_090), (40_500, 10_000), (41_500, 25_000), (42_500, 40_000)] {
        let faults = vec![
            Fault::Stop { at: millis(stopped), abandon: true },
            Fault::Late { what: Shown::Deployments, by: millis(2553) },
            Fault::Retry { after: millis(retried), all: true },
        ];
        keeps_the_laws(&Plan { seed: 710_692, shape: two.clone(), faults });
    }
}

#[test]
fn what_a_stopped_run_brings_and_takes_back_is_not_what_its_retry_takes_for_running_already() {
    // The retry looked before the rollback, saw its own version on a service of ECS's, and left it alone.
    let mut one = shape(1);
    let how = [How::BlueGreen, How::Rolling];
    let ecs = how.map(|how| By::Ecs { how, barrier: how == How::BlueGreen, bake: Duration::from_secs(120) });
    let first = one.services[0].clone();
    one.services.extend(ecs.into_iter().enumerate().map(|(at, by)| Service {
        name: format!("e{at}"),
        by,
        ..first.clone()
    }));
    for stopped in [38_000, 40_000, 42_000, 43_946, 46_000] {
        for retried in [266, 1200] {
            let faults = vec![
                Fault::Stop { at: millis(stopped), abandon: true },
                Fault::Retry { after: millis(retried), all: false },
            ];
            keeps_the_laws(&Plan { seed: 1_795_532_520_000_090, shape: one.clone(), faults });
        }
    }
}

#[test]
fn an_event_that_comes_again_after_its_stage_was_retried_takes_nothing_back() {
    // It found the retry's deployment, for ECS has no key that would tell whose it is, and took it for its own.
    let mut two = shape(1);
    let ecs = Service {
        name: "s1".into(),
        by: By::Ecs { how: How::BlueGreen, barrier: true, bake: Duration::from_secs(60) },
        ..two.services[0].clone()
    };
    two.services.push(ecs);
    for nth in 1..5 {
        for after in [5000, 15_361, 30_000] {
            let faults = vec![
                Fault::Once { what: Meddling::AbandonAndCrash, of: of("BatchGetDeployments"), nth },
                Fault::Retry { after: millis(after), all: false },
            ];
            keeps_the_laws(&Plan { seed: 720_010, shape: two.clone(), faults });
        }
    }
}

#[test]
fn what_an_action_has_deployed_stays_although_its_function_dies_right_after_and_the_release_is_stopped() {
    // Lambda brought the event again, and the function took back what was a fact by then.
    for nth in 4..8 {
        let faults = vec![Fault::Once { what: Meddling::AbandonAndCrashAfter, of: of("PutJobSuccessResult"), nth }];
        keeps_the_laws(&Plan { seed: 200_136, shape: shape(1), faults });
    }
    // Nor when its claim is in doubt then: that was taken for a new one's.
    let deploys = |operation| Calls { function: Some("deploy-services"), operation: Some(operation), writes: false };
    for nth in 1..5 {
        let faults = vec![
            Fault::Once { what: Meddling::AbandonAndCrashAfter, of: deploys("PutJobSuccessResult"), nth: 0 },
            Fault::Once { what: Meddling::Unreachable, of: deploys("AcknowledgeJob"), nth },
        ];
        keeps_the_laws(&Plan { seed: 200_136, shape: shape(1), faults });
    }
}

#[test]
fn a_retry_takes_up_what_the_run_begins_that_was_stopped_and_cannot_know_it_yet() {
    // Its stop was shown after five seconds: both runs began the task.
    for (stopped, retried) in [(3214, 1243), (11_800, 100), (12_200, 900), (12_600, 2000)] {
        for shown in [2000, 5393] {
            let faults = vec![
                Fault::Stop { at: millis(stopped), abandon: true },
                Fault::Late { what: Shown::Executions, by: millis(shown) },
                Fault::Retry { after: millis(retried), all: false },
            ];
            keeps_the_laws(&Plan { seed: 350, shape: shape(1), faults });
        }
    }
}

#[test]
fn a_halt_is_told_although_the_answer_to_whose_turn_it_is_was_lost() {
    for seed in share(0..10, 3, 0) {
        let lost = Fault::Storm {
            what: Meddling::LoseReply,
            of: of("CreateLogStream"),
            from: Duration::from_secs(10),
            lasts: Duration::from_secs(60),
            one_in: 2,
            seed,
        };
        let faults = vec![
            Fault::Service { environment: 0, service: 1, how: Ending::CannotStart },
            Fault::Stop { at: millis(41_582), abandon: true },
            lost,
            Fault::ApproveLate(millis(10_289)),
        ];
        keeps_the_laws(&Plan { seed: 20428 + seed, shape: shape(2), faults });
    }
}

#[test]
fn of_two_tasks_that_fail_within_a_look_the_verdict_names_the_first() {
    let mut two = shape(1);
    two.environments.push(Place { name: "e02".into(), region: "eu-west-1", account: None });
    let fails = |environment, after| {
        [Ending::Slow(millis(after)), Ending::Exit(1)].map(|how| Fault::Task { environment, task: "migrate", how })
    };
    for seed in share(0..6, 3, 0) {
        let faults = [fails(0, 1400), fails(1, 1100)].concat();
        keeps_the_laws(&Plan { seed, shape: two.clone(), faults });
    }
}

#[test]
fn old_workers_are_drained_although_their_deployment_is_listed_late() {
    let mut worker = shape(1);
    worker.services[0].worker = true;
    worker.services[0].by = By::CodeDeploy { barrier: false, termination: Duration::from_secs(180) };
    let late = Fault::Late { what: Shown::ListedDeployments, by: millis(5251) };
    keeps_the_laws(&Plan { seed: 1295, shape: worker, faults: vec![late] });
}

#[test]
fn a_quick_way_back_that_a_halt_brings_to_its_end_is_not_taken_back_by_the_same_halt() {
    // Where its wait has ended meanwhile, a service goes back by a deployment, which has the image of what was stopped.
    let plan = Plan::of(646);
    for earlier in [0, 700, 1_500] {
        let mut plan = plan.clone();
        for fault in &mut plan.faults {
            if let Fault::Stop { at, .. } = fault {
                *at = at.saturating_sub(millis(earlier));
            }
        }
        keeps_the_laws(&plan);
    }
}

#[test]
fn a_halt_is_complete_only_when_what_ignores_sigterm_has_been_killed() {
    // ECS lists a task that was asked to end as a stopped one, at once.
    for at in [6_000, 8_000, 12_303] {
        let slow = Ending::Slow(millis(52_667));
        let faults = vec![
            Fault::Task { environment: 0, task: "migrate", how: slow },
            Fault::Task { environment: 0, task: "migrate", how: Ending::Deaf },
            Fault::Stop { at: millis(at), abandon: true },
        ];
        keeps_the_laws(&Plan { seed: 3_003_724, shape: shape(1), faults });
    }
}

#[test]
fn a_log_ends_with_a_line_about_each_task_that_an_environment_had() {
    // A run that was stopped had begun one, its retry another; the tail died between them, and found both when it came back.
    keeps_the_laws(&Plan::of(1_795_547_506_000_170));
}

#[test]
fn the_same_seed_is_the_same_play_in_any_order() {
    let seeds: Vec<_> = share(100..106, 3, 0).collect();
    let first: Vec<_> = seeds.iter().copied().map(|seed| play(&Plan::of(seed), false).hash).collect();
    let again: Vec<_> = seeds.into_iter().rev().map(|seed| play(&Plan::of(seed), false).hash).collect();
    assert!(first.iter().eq(again.iter().rev()), "{first:?} {again:?}");
}

#[test]
fn a_few_seeds_keep_the_laws() {
    for seed in share(0..12, 6, 0) {
        let plan = Plan::of(seed);
        let played = laws::play(&plan, false);
        let faults: Vec<_> = plan.faults.iter().map(ToString::to_string).collect();
        assert!(played.broken.is_empty(), "seed {seed}: {faults:#?}\n{:#?}", played.broken);
    }
}

#[test]
fn of_two_functions_that_place_one_task_the_second_finds_what_the_first_one_got_room_for() {
    // Each try to place it has a token of its own, and they looked once, before the first.
    let claims = Calls { function: Some("run-tasks"), operation: Some("AcknowledgeJob"), writes: false };
    for lasts in share((1000..22_000).step_by(1500), 5, 0) {
        let no_room = Fault::Storm {
            what: Meddling::NoRoom,
            of: of("RunTask"),
            from: millis(0),
            lasts: millis(lasts),
            one_in: 1,
            seed: 1,
        };
        // Which of them does it would be written down.
        let of = Calls { function: Some("run-tasks"), operation: Some("PutObject"), writes: false };
        let unwritten =
            Fault::Storm { what: Meddling::Refuse, of, from: millis(0), lasts: millis(60_000), one_in: 1, seed: 1 };
        let faults = vec![
            no_room,
            unwritten,
            Fault::Lambda { function: "run-tasks", nth: 0, fate: Fate::Twice(millis(700)) },
            Fault::Once { what: Meddling::Unreachable, of: claims, nth: 1 },
        ];
        keeps_the_laws(&Plan { seed: 201_052, shape: shape(1), faults });
    }
}

#[test]
fn of_two_functions_whose_claims_are_in_doubt_one_does_the_job() {
    // Both tailed the same tasks, and lines were there twice.
    let claims = Calls { function: Some("tail-logs"), operation: Some("AcknowledgeJob"), writes: false };
    let once = |what, nth| Fault::Once { what, of: claims, nth };
    let twice = Fault::Lambda { function: "tail-logs", nth: 0, fate: Fate::Twice(millis(700)) };
    for faults in [
        vec![once(Meddling::Unreachable, 1)],
        vec![once(Meddling::LoseReply, 1)],
        vec![twice, once(Meddling::Unreachable, 1)],
        // Lambda brings both events again after a minute.
        vec![once(Meddling::CrashBefore, 0), once(Meddling::CrashAfter, 1)],
        vec![once(Meddling::CrashAfter, 0), once(Meddling::CrashBefore, 1)],
    ] {
        let plan = Plan { seed: 302_015, shape: shape(1), faults };
        keeps_the_laws(&plan);
        let mut answered = std::collections::BTreeMap::<_, std::collections::BTreeSet<_>>::new();
        for line in play(&plan, true).story.iter().filter(|line| line.contains(" PutJobSuccessResult ")) {
            let (Some(function), Some((_, job))) = (line.split_whitespace().nth(1), line.split_once("\"jobId\":\""))
            else {
                panic!("an answer without a job: {line}");
            };
            answered.entry(job[..36].to_owned()).or_default().insert(function.to_owned());
        }
        assert!(answered.len() > 5 && answered.values().all(|by| by.len() == 1), "{:?}: {answered:#?}", plan.faults);
    }
}

#[test]
fn a_halt_that_slept_while_its_stage_was_tried_and_stopped_again_takes_back_nothing_of_the_second_try() {
    // The first try's halt saw the release stopped, and the deployment that it had taken back on the new version.
    let drains = Calls { function: Some("drain-workers"), operation: None, writes: false };
    for at in share((10_000..15_000).step_by(250), 10, 0) {
        let faults = vec![
            Fault::Stop { at: millis(at), abandon: true },
            Fault::Retry { after: millis(12_703), all: false },
            Fault::Once { what: Meddling::AbandonBefore, of: drains, nth: 3 },
        ];
        keeps_the_laws(&Plan { seed: 305_105, shape: without_barrier(Duration::from_secs(120)), faults });
    }
}

#[test]
fn a_tail_that_lambda_brings_again_after_its_answer_counts_the_try_that_it_is_of() {
    // The stage was tried again meanwhile: it took that try's task for what it follows, and said that none had been started.
    let of = |function, operation| Calls { function: Some(function), operation: Some(operation), writes: false };
    let dies = |of| Fault::Once { what: Meddling::CrashAfter, of, nth: 0 };
    for (stopped, retried) in share([(20_000, 2000), (30_000, 9000), (42_383, 13_828)], 2, 0) {
        let faults = vec![
            dies(of("run-tasks", "RunTask")),
            dies(of("tail-logs", "PutJobSuccessResult")),
            Fault::Stop { at: millis(stopped), abandon: true },
            Fault::Retry { after: millis(retried), all: false },
        ];
        keeps_the_laws(&Plan { seed: 731_582, shape: shape(1), faults });
    }
}

#[test]
fn a_retry_does_not_take_for_its_own_the_stop_that_was_before_it_and_is_shown_late() {
    // Its first look found the release stopped: it said "on the old version", which was the new one that it left alone.
    let mut one = shape(1);
    one.services[0].by = By::Ecs { how: How::BlueGreen, barrier: false, bake: Duration::ZERO };
    for shown in [2000, 5483] {
        let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
        let faults = vec![
            Fault::Late { what: Shown::Executions, by: millis(shown) },
            Fault::Retry { after: millis(29_286), all: true },
            Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 },
        ];
        keeps_the_laws(&Plan { seed: 305_359, shape: one.clone(), faults });
    }
}

#[test]
fn a_release_that_has_deployed_keeps_its_traffic_although_all_of_its_stage_is_tried_again_and_fails() {
    // The law took the last run's failure for the version's: what that run took back brought the same version.
    let mut two = shape(2);
    two.services[1].worker = true;
    for other in [1, 3] {
        let faults = vec![
            // It drains for as long.
            Fault::Protected(Duration::from_secs(600)),
            Fault::Stop { at: millis(100_000), abandon: true },
            Fault::Retry { after: millis(8883), all: true },
            Fault::Rival { at: millis(48_234), pick: other },
        ];
        let played = play(&Plan { seed: 3959, shape: two.clone(), faults: faults.clone() }, true);
        assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
        // It is played: the stage deployed, was stopped while it drained, and failed when all of it was tried again.
        let answers = |operation: &str| {
            let of = format!(" {operation} ");
            played.story.iter().filter(|line| line.contains("deploy-services#") && line.contains(&of)).count()
        };
        assert!(
            answers("PutJobSuccessResult") > 0 && answers("PutJobFailureResult") > 0,
            "{faults:?}\n{}",
            played.story.join("\n")
        );
    }
}

#[test]
fn a_way_back_that_had_succeeded_before_it_was_stopped_keeps_what_it_began_where_a_stop_was_not_open_any_more() {
    // A person had stopped one deployment, the other one's old tasks were gone: what was begun for that one was taken back by the halt.
    let mut two = shape(1);
    two.environments.push(Place { name: "e02".into(), region: "eu-west-1", account: None });
    two.services[0].by = By::Ecs { how: How::Linear, barrier: true, bake: Duration::from_secs(120) };
    let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
    for pick in [0, 2] {
        let faults = vec![
            Fault::ApproveLate(millis(72_767)),
            Fault::ByHand { at: millis(36_152), pick, deed: ByHand::EndsWait },
            Fault::GoBack { after: millis(47_934), early: true },
            Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 },
        ];
        let played = play(&Plan { seed: 13744, shape: two.clone(), faults }, true);
        let has = |words: &str| played.story.iter().any(|line| line.contains(words));
        assert!(has("the quick way back: ") && has("halt complete: "), "it is played\n{}", played.story.join("\n"));
        assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
    }
}

#[test]
fn a_drain_that_died_at_every_try_says_that_nobody_watched() {
    // The law did not know that sentence for an old worker that outlived the release: its termination wait was longer.
    let mut one = shape(1);
    one.services[0] = Service {
        worker: true,
        by: By::CodeDeploy { barrier: true, termination: Duration::from_secs(3600) },
        ..one.services[0].clone()
    };
    let of = Calls { function: Some("drain-workers"), operation: None, writes: false };
    // The job is handed over once more while Lambda waits for its second try.
    let faults = (0..9).map(|nth| Fault::Once { what: Meddling::CrashBefore, of, nth }).collect();
    let played = play(&Plan { seed: 11855, shape: one, faults }, true);
    assert!(
        played.story.iter().any(|line| line.contains("were not watched to their end")),
        "it is played\n{}",
        played.story.join("\n")
    );
    assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
}

#[test]
fn a_retry_of_a_stage_that_had_deployed_takes_back_what_itself_has_begun_and_nothing_before_it() {
    // Stopped, it brought back what had run before the first try, which had succeeded: traffic on two versions.
    let mut two = shape(2);
    two.services[0].by = By::Ecs { how: How::Canary, barrier: false, bake: Duration::from_secs(120) };
    two.services[1].by = By::CodeDeploy { barrier: false, termination: Duration::from_secs(120) };
    let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
    for at in share([39_000, 41_023, 43_000], 2, 1) {
        let faults = vec![
            Fault::Stop { at: millis(at), abandon: true },
            Fault::Retry { after: millis(6920), all: true },
            Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 },
        ];
        keeps_the_laws(&Plan { seed: 14652, shape: two.clone(), faults });
    }
}

#[test]
fn what_a_halt_has_done_is_said_although_the_log_cannot_be_read() {
    // What was there already could not be compared with, so it was not said at all.
    let of = Calls { function: None, operation: Some("GetLogEvents"), writes: false };
    let unreadable =
        Fault::Storm { what: Meddling::Unreachable, of, from: millis(9364), lasts: millis(56_423), one_in: 1, seed: 0 };
    for at in share([9000, 9912, 11_000], 2, 1) {
        let faults = vec![
            Fault::Stop { at: millis(at), abandon: true },
            unreadable.clone(),
            Fault::ShortLambdas(millis(53_742)),
        ];
        keeps_the_laws(&Plan { seed: 18737, shape: without_barrier(Duration::from_secs(180)), faults });
    }
}

#[test]
fn what_was_decided_at_a_look_at_many_is_not_done_beside_a_retry_that_began_meanwhile() {
    // At two reads a second, a look at thirty targets took 25 s. A halt stopped then what the retry had found to run already, and the
    // retry believed a service that it had asked before that.
    let place = |at: usize| Place {
        name: format!("e{at:02}"),
        region: if at.is_multiple_of(2) { "us-east-1" } else { "eu-central-1" },
        account: (at % 2 == 1).then_some("777788889999"),
    };
    let mut many = shape(2);
    many.environments = (1..=15).map(place).collect();
    many.services[0].by = By::CodeDeploy { barrier: false, termination: Duration::from_secs(120) };
    let by = By::Ecs { how: How::Canary, barrier: false, bake: Duration::from_secs(120) };
    many.services[1] = Service { worker: true, by, ..many.services[1].clone() };
    let of = Calls { function: Some("deploy-services"), operation: Some("UpdateService"), writes: false };
    for after in share([500, 1358, 4000], 3, 1) {
        let faults = vec![
            Fault::Once { what: Meddling::AbandonAfter, of, nth: 0 },
            Fault::Late { what: Shown::Executions, by: millis(2712) },
            Fault::Late { what: Shown::Tasks, by: millis(3414) },
            Fault::Retry { after: millis(after), all: false },
        ];
        keeps_the_laws(&Plan { seed: 22080, shape: many.clone(), faults });
    }
}

#[test]
fn a_quick_way_back_whose_stage_is_tried_again_leaves_the_rest_to_that_try_and_calls_it_no_failure() {
    // "NOT ROLLED BACK" was said of what the retry had deployed. A person had ended the wait of what was to be stopped.
    let mut two = shape(2);
    two.environments[0].region = "us-west-2";
    (two.pace, two.steps_everywhere, two.shared_clusters) = (millis(745), false, true);
    two.services[0] = Service {
        worker: true,
        by: By::Ecs { how: How::Canary, barrier: true, bake: Duration::from_secs(60) },
        ..two.services[0].clone()
    };
    let by = By::CodeDeploy { barrier: false, termination: Duration::from_secs(120) };
    two.services[1] = Service { desired: 2, by, ..two.services[1].clone() };
    let faults = vec![
        Fault::GoBack { after: millis(33_308), early: false },
        Fault::Stop { at: millis(14_506), abandon: true },
        Fault::Merge { at: millis(10_754) },
    ];
    keeps_the_laws(&Plan { seed: 21715, shape: two, faults });
}

#[test]
fn a_deployment_of_a_try_that_was_given_up_is_stopped_by_the_next_one_and_not_waited_for_in_vain() {
    // Its function had died, a person had tried the stage again at once, and that try waited for half an hour for its own release.
    let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
    let mut two = shape(1);
    two.environments.push(Place { name: "e02".into(), region: "us-east-1", account: None });
    for length in share([90_000, 114_296], 2, 1) {
        let mut faults = vec![
            Fault::Service { environment: 1, service: 0, how: Ending::NeverHealthy },
            Fault::ShortLambdas(millis(length)),
            Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 },
            Fault::Retry { after: millis(1455), all: true },
        ];
        // The halt comes too late for what a retry may have taken up.
        faults.extend((0..3).map(|nth| Fault::Lambda { function: "halt-release", nth, fate: Fate::Lost }));
        let played = play(&Plan { seed: 38273, shape: two.clone(), faults }, true);
        let has = |words: &str| played.story.iter().any(|line| line.contains(words));
        assert!(has("it is of a try that was given up"), "it is played\n{}", played.story.join("\n"));
        assert!(!has("it was busy for"), "nobody waits for it\n{}", played.story.join("\n"));
        assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
    }
}

#[test]
fn what_a_try_that_was_given_up_had_deployed_is_taken_back_before_the_next_release_looks_what_runs() {
    // The next release took it for what had run before, and brought it back when it failed itself.
    let place = |(at, region): (usize, &'static str)| Place { name: format!("e{at:02}"), region, account: None };
    let mut four = shape(1);
    four.environments = [(1, "us-east-1"), (2, "eu-west-1"), (3, "us-west-2"), (4, "us-east-1")].map(place).to_vec();
    let by = By::Ecs { how: How::Rolling, barrier: false, bake: Duration::ZERO };
    four.services[0] = Service { worker: true, by, ..four.services[0].clone() };
    for stopped in share([38_500, 40_288, 42_000], 3, 1) {
        let faults = vec![
            Fault::Service { environment: 0, service: 0, how: Ending::Crashes(millis(1123)) },
            Fault::Late { what: Shown::Executions, by: millis(4451) },
            Fault::Stop { at: millis(stopped), abandon: true },
            Fault::Retry { after: millis(1631), all: false },
            Fault::Merge { at: millis(25_819) },
        ];
        keeps_the_laws(&Plan { seed: 28638, shape: four.clone(), faults });
    }
}

#[test]
fn what_a_retry_that_has_deployed_found_to_run_already_is_a_fact_when_the_release_is_stopped_after_it() {
    // What the try before it had brought was in no list of what it had deployed, and was taken back alone.
    let mut three = shape(2);
    let place = |(at, region): (usize, &'static str)| Place { name: format!("e{at:02}"), region, account: None };
    three.environments = [(1, "eu-central-1"), (2, "us-east-1"), (3, "eu-west-1")].map(place).to_vec();
    let by = By::Ecs { how: How::Rolling, barrier: false, bake: Duration::ZERO };
    three.services[0] = Service { worker: true, desired: 3, by, ..three.services[0].clone() };
    let by = By::CodeDeploy { barrier: true, termination: Duration::from_secs(60) };
    three.services[1] = Service { worker: true, desired: 2, by, ..three.services[1].clone() };
    let of = Calls { function: Some("deploy-services"), operation: Some("UpdateService"), writes: false };
    let faults = vec![
        Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 },
        Fault::Stop { at: millis(25_706), abandon: false },
        Fault::Retry { after: millis(2499), all: false },
    ];
    keeps_the_laws(&Plan { seed: 50365, shape: three, faults });
}

#[test]
fn a_task_of_a_release_that_was_given_up_is_waited_for_by_the_next_one_which_enters_the_stage_at_once() {
    // No list showed it yet, so that two of them ran at once.
    let mut one = shape(1);
    one.services[0].by = By::Ecs { how: How::Linear, barrier: true, bake: Duration::from_secs(120) };
    (one.lines, one.pace) = (10, millis(1292));
    for stopped in share([1000, 1273, 2000, 3000], 2, 1) {
        let faults = vec![
            Fault::Late { what: Shown::Tasks, by: millis(3981) },
            Fault::Stop { at: millis(stopped), abandon: true },
            Fault::Merge { at: Duration::ZERO },
        ];
        keeps_the_laws(&Plan { seed: 49227, shape: one.clone(), faults });
    }
}

#[test]
fn a_way_back_that_was_stopped_is_taken_back_past_the_pause_of_its_own_way_back_and_so_is_it_by_a_retry() {
    // What took it back was taken for the quick way back, and left at its pause: some services of the one version, some of the other.
    let mut two = shape(2);
    let place = |(at, region): (usize, &'static str)| Place { name: format!("e{at:02}"), region, account: None };
    two.environments = [(1, "eu-central-1"), (2, "us-east-1")].map(place).to_vec();
    two.services[0].by = By::Ecs { how: How::BlueGreen, barrier: true, bake: Duration::ZERO };
    two.services[1].by = By::CodeDeploy { barrier: false, termination: Duration::from_secs(60) };
    let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
    for (retried, stopped) in share([(28_860, 30_109), (9_000, 30_109), (28_860, 28_000)], 3, 0) {
        let faults = vec![
            Fault::Retry { after: millis(retried), all: false },
            Fault::GoBack { after: millis(7736), early: false },
            Fault::Once { what: Meddling::CrashAfter, of, nth: 0 },
            Fault::Stop { at: millis(stopped), abandon: true },
        ];
        keeps_the_laws(&Plan { seed: 52832, shape: two.clone(), faults });
    }
}
