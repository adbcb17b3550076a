//! Ways back: the quick one, and by a deployment.

use super::*;

#[test]
fn what_the_action_has_brought_back_already_is_not_brought_back_again_by_the_halt() {
    // Its deployment was over within seconds, after the halt had looked: CodeDeploy took a second one, and a third.
    keeps_the_laws(&Plan::of(78585));
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
fn where_a_person_had_taken_one_back_before_the_others_go_by_deployments_and_a_halt_takes_these_back() {
    // It counted as a quick way that had begun, and a halt took back what that had deployed where the old tasks were gone.
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
        let closed = has("since the quick way back is closed: the old tasks of ");
        assert!(closed && has("halt complete: "), "it is played\n{}", played.story.join("\n"));
        assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
    }
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
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
#[ignore = "takes long: .ci/run plays it"]
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

#[test]
fn a_stop_that_came_too_late_is_followed_by_the_way_back_at_once() {
    // It was waited for a minute, and the next release took the new version for what ran before it.
    keeps_the_laws(&Plan::of(200_346));
}

#[test]
fn a_quick_way_back_is_known_by_its_image_also_when_the_next_release_has_registered_a_revision() {
    // The function that went on knew its deployment no more: NOT ROLLED BACK, of what was back.
    keeps_the_laws(&Plan::of(301_809));
}

#[test]
fn a_function_that_is_brought_again_after_the_next_release_does_not_say_that_traffic_is_where_it_was() {
    keeps_the_laws(&Plan::of(400_153));
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_quick_way_back_that_never_gets_healthy_is_named_in_capitals_when_its_halt_gives_up() {
    // Its old tasks had gone at the very moment at which it was stopped. The halt watched for two hours, and named nothing.
    let mut one = shape(1);
    one.services[0].by = By::Ecs { how: How::BlueGreen, barrier: true, bake: Duration::from_secs(60) };
    let faults = vec![
        Fault::GoBack { after: millis(51_600), early: false },
        Fault::Service { environment: 0, service: 0, how: Ending::NeverHealthy },
        Fault::Stop { at: millis(23_000), abandon: true },
    ];
    let played = play(&Plan { seed: 401_730, shape: one, faults }, true);
    let said = "halt incomplete: NOT ROLLED BACK: e01/s0 (it is not back after 2 h ";
    let meanwhile = "halt | after 15 min 00 s not back yet: e01/s0";
    let has = |words: &str| played.story.iter().any(|line| line.contains(words));
    assert!(has(said) && has(meanwhile), "it is played\n{}", played.story.join("\n"));
    assert!(played.broken.is_empty(), "{}\n{:#?}", played.story.join("\n"), played.broken);
}
