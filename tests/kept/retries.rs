//! A stage that is tried again, and the run before it, which a person gave up.

use super::*;

#[test]
#[ignore = "takes long: .ci/run plays it"]
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

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_a_run_that_was_given_up_had_brought_is_not_gone_back_to_by_its_retry() {
    // The retry ended the wait of what the run before it had deployed, and then took that for what ran before: so it failed back to it.
    let mut shape = shape(0);
    let place = |name: &str, region, account| Place { name: name.into(), region, account };
    shape.environments = vec![
        place("e01", "us-west-2", None),
        place("e02", "eu-central-1", Some("777788889999")),
        place("e03", "us-east-1", None),
    ];
    shape.services = vec![
        Service {
            name: "s0".into(),
            worker: false,
            desired: 2,
            by: By::CodeDeploy { barrier: true, termination: Duration::from_secs(60) },
        },
        Service {
            name: "s1".into(),
            worker: true,
            desired: 2,
            by: By::CodeDeploy { barrier: false, termination: Duration::from_secs(180) },
        },
    ];
    let faults = vec![
        Fault::Stop { at: millis(27_398), abandon: true },
        Fault::Service { environment: 1, service: 1, how: Ending::NeverHealthy },
        Fault::EmptyPages,
        Fault::Retry { after: millis(971), all: true },
        Fault::GoBack { after: millis(36_043), early: false },
    ];
    keeps_the_laws(&Plan { seed: 64_785, shape, faults });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn what_a_run_that_was_given_up_had_brought_to_its_end_is_not_gone_back_to_either() {
    // Nothing of it waited for anything any more: what the services ran was taken for what had run before.
    keeps_the_laws(&Plan::of(102_073));
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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

/// A try that was given up has left a deployment: the next one stops it, and does not wait for it.
fn what_was_given_up_is_stopped(plan: &Plan) {
    let played = play(plan, true);
    let has = |words: &str| played.story.iter().any(|line| line.contains(words));
    assert!(has("it is of a try that was given up"), "it is played\n{}", played.story.join("\n"));
    assert!(!has("it was busy for"), "nobody waits for it\n{}", played.story.join("\n"));
    assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
        what_was_given_up_is_stopped(&Plan { seed: 38273, shape: two.clone(), faults });
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_deployment_of_ecs_of_a_try_that_was_given_up_is_stopped_by_the_next_one_too() {
    // It waited at its pause for whoever had begun it, and the retry waited for it.
    let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
    let mut one = shape(1);
    one.services[0].by = By::Ecs { how: How::BlueGreen, barrier: true, bake: Duration::ZERO };
    let mut faults = vec![
        Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 },
        Fault::Retry { after: millis(1455), all: true },
    ];
    // The halt comes too late for what a retry may have taken up.
    faults.extend((0..3).map(|nth| Fault::Lambda { function: "halt-release", nth, fate: Fate::Lost }));
    what_was_given_up_is_stopped(&Plan { seed: 1, shape: one, faults });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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
