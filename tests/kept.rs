//! Plays that broke a law once, shrunk to what they needed for it.

mod retries;
mod ways_back;

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
        runs_by_clock: false,
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

/// One web service that does not wait, as CodeDeploy deploys it.
fn without_barrier(termination: Duration) -> Shape {
    let mut shape = shape(1);
    shape.services[0].by = By::CodeDeploy { barrier: false, termination };
    shape
}

#[test]
fn a_continuation_that_keeps_the_id_of_its_job_is_done_like_any_other() {
    // Whoever was handed it took it for the one that another had, and the action hung.
    let lost = Fault::Once { what: Meddling::LoseReply, of: of("AcknowledgeJob"), nth: 6 };
    let faults = vec![Fault::SameJobs, Fault::ShortLambdas(Duration::from_secs(40)), lost];
    keeps_the_laws(&Plan { seed: 1, shape: shape(2), faults });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
fn a_deployment_that_is_created_late_is_not_created_twice() {
    // It was asked for again after a few seconds, and over before the first one arrived.
    for after in [3, 8, 12, 19] {
        let late = Meddling::DoneLate(Duration::from_secs(after));
        let faults = vec![Fault::Once { what: late, of: of("CreateDeployment"), nth: 0 }];
        keeps_the_laws(&Plan { seed: 20855, shape: without_barrier(Duration::ZERO), faults });
    }
}

#[test]
fn a_deployment_that_no_list_shows_yet_when_its_job_is_continued_is_not_created_twice() {
    // The function that went on found none, and created another one when the first was over.
    for by in [3771, 5900] {
        let faults = vec![Fault::Late { what: Shown::ListedDeployments, by: millis(by) }];
        keeps_the_laws(&Plan { faults, ..Plan::of(75714) });
    }
}

#[test]
fn what_a_function_was_cut_short_over_is_not_asked_for_again_before_it_must_be_shown() {
    // Its time was over while the call was on its way.
    let by_ecs = By::Ecs { how: How::Rolling, barrier: false, bake: Duration::ZERO };
    let by_codedeploy = By::CodeDeploy { barrier: false, termination: Duration::ZERO };
    for (by, operation) in [(by_ecs, "UpdateService"), (by_codedeploy, "CreateDeployment")] {
        let mut shape = shape(1);
        shape.services[0].by = by;
        let hangs = Fault::Once { what: Meddling::HangThenDo, of: of(operation), nth: 0 };
        let faults = vec![Fault::ShortLambdas(Duration::from_secs(18)), hangs];
        let played = play(&Plan { seed: 5, shape, faults }, true);
        assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
        let asked = played.story.iter().filter(|line| line.contains(&format!(" {operation} us-east-1 "))).count();
        assert_eq!(asked, 1, "{}", played.story.join("\n"));
    }
}

#[test]
fn a_halt_that_leaves_alone_what_runs_there_by_now_is_complete_also_when_its_functions_have_little_time() {
    // Each of them had found the next release's version anew, and waited for what it leaves alone.
    keeps_the_laws(&Plan::of(80803));
}

#[test]
fn nobody_is_called_to_deploy_by_hand_what_one_function_could_not_see_and_the_halt_takes_back() {
    keeps_the_laws(&Plan::of(78424));
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
fn a_log_ends_with_a_line_about_each_task_that_an_environment_had() {
    // A run that was stopped had begun one, its retry another; the tail died between them, and found both when it came back.
    keeps_the_laws(&Plan::of(1_795_547_506_000_170));
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
fn a_function_whose_job_went_on_without_it_takes_nothing_back_when_the_release_stops_behind_the_action() {
    // It had handed over and died; Lambda brought its event again, and the action succeeded at the very moment at which it gave up asking.
    keeps_the_laws(&Plan::of(94476));
}

#[test]
fn what_one_refused_look_failed_before_anything_was_begun_there_is_not_begun_and_calls_for_nobody() {
    keeps_the_laws(&Plan::of(121_124));
}

#[test]
fn a_deployment_that_was_stopped_since_one_look_at_it_was_refused_is_waited_for() {
    // While traffic may move, statuses are read every five seconds: the action was over before it had seen its stop come about.
    for operation in ["BatchGetDeployments", "BatchGetDeploymentTargets"] {
        for nth in share(0..2, 2, 0) {
            let of = Calls { function: Some("deploy-services"), operation: Some(operation), writes: false };
            let faults = vec![Fault::Once { what: Meddling::Refuse, of, nth }];
            let plan = Plan { seed: 121_124, shape: without_barrier(Duration::from_secs(60)), faults };
            keeps_the_laws(&plan);
            assert!(play(&plan, true).story.iter().any(|line| line.ends_with("<-- Refuse")), "{operation} {nth}");
        }
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_halt_whose_last_line_the_log_takes_late_promises_nothing_of_a_retry_that_begins_meanwhile() {
    keeps_the_laws(&Plan::of(107_315));
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_region_with_a_hundred_and_eighty_targets_is_ready_within_the_time_that_one_target_has() {
    // Beside the seven calls that their statuses take, one target was asked for what only it tells: each once in many minutes.
    let plan = Plan::of(401_941);
    assert_eq!(plan.shape.environments.len() * plan.shape.services.len(), 180);
    keeps_the_laws(&plan);
}

#[test]
fn a_function_with_little_time_that_only_reads_until_it_is_over_keeps_the_next_one_from_nothing() {
    // Each waited for twenty seconds for what the one before might have begun, and had no time left to begin it.
    keeps_the_laws(&Plan::of(501_476));
}

#[test]
fn a_release_that_is_stopped_while_its_retry_is_not_shown_yet_is_recorded_as_stopped() {
    // Its record told of the failure before, and counted as that of the last end, since it was written after it.
    keeps_the_laws(&Plan::of(504_088));
}

#[test]
fn a_function_with_little_time_says_its_last_line_as_often_as_that_allows() {
    // CloudWatch throttled the one call that it had left for it, half a minute before its end.
    keeps_the_laws(&Plan::of(516_556));
    keeps_the_laws(&Plan::of(517_547));
}

#[test]
fn what_the_release_before_the_last_has_left_at_work_is_old_too() {
    // Only the task set that was replaced counted, and three that protected themselves were spoken of by nobody.
    keeps_the_laws(&Plan::of(541_935));
}

#[test]
fn a_halt_that_was_asked_for_too_early_takes_no_word_from_the_one_that_is_asked_for_when_the_release_is_stopped() {
    // It handed over before the release was over, as the one that speaks, and then left it alone.
    keeps_the_laws(&Plan::of(556_427));
}

#[test]
fn a_token_of_a_placement_that_was_refused_and_whose_definition_has_changed_since_is_followed_by_the_next_one() {
    // The function that knew of the refusals had died, and the one after it asked with the first token for hours.
    keeps_the_laws(&Plan::of(551_878));
}

#[test]
fn a_way_back_that_is_tried_again_after_the_next_release_has_deployed_is_refused() {
    // It found that its traffic had gone back once, and said so, although the next release had it by then.
    let by_ecs = By::Ecs { how: How::BlueGreen, barrier: false, bake: Duration::from_secs(120) };
    let by_codedeploy = By::CodeDeploy { barrier: true, termination: Duration::from_secs(300) };
    for by in [by_ecs, by_codedeploy] {
        let mut shape = shape(1);
        shape.services[0].by = by;
        let faults = vec![
            Fault::GoBack { after: millis(61_875), early: false },
            Fault::Merge { at: Duration::ZERO },
            Fault::Stop { at: millis(5136), abandon: true },
            Fault::Retry { after: millis(37_995), all: true },
        ];
        let played = play(&Plan { seed: 556_491, shape, faults }, true);
        let story = played.story.join("\n");
        assert!(played.broken.is_empty(), "{story}\n{:#?}", played.broken);
        assert!(story.contains("the quick way back: "), "{story}");
        let refused = "Another release has the traffic since this was approved: ";
        assert!(story.contains(refused) && story.contains("Nothing more was begun."), "{story}");
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_a_person_takes_back_by_hand_is_no_quick_way_that_a_stopped_way_back_had_begun() {
    // One old deployment was stopped in the console within a minute of that, and the halt brought all the others back.
    keeps_the_laws(&Plan::of(541_344));
}
