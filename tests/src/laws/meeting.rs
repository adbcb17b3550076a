//! What only goes wrong when two things meet within seconds: by chance alone, hardly a play in thousands would have it.
//!
//! Invariant: a meeting is made of faults like any other; nothing of it is known elsewhere.

use std::time::Duration;

use fastrand::Rng;

use super::fault::{Calls, Ending, Fault, Shown};
use super::plan::millis;
use super::shape::{By, How, Service, Shape, TIMEOUT};
use crate::Meddling;

/// How long old tasks stay, where a quick way back is to be open: longer than it takes to begin one, and not so long that the second of
/// the two releases before it gives up waiting for its group.
const STAYS: Duration = Duration::from_secs(5 * 60);

/// In some plays, what meets; most of these have no other trouble.
pub(super) fn arrange(random: &mut Rng, shape: &mut Shape, faults: &mut Vec<Fault>) {
    let goes_back = faults.iter().any(|fault| matches!(fault, Fault::GoBack { .. }));
    let met = match goes_back {
        true if random.u32(0..3) == 0 => of_a_way_back(random, shape),
        false if random.u32(0..12) == 0 => of_a_begin(random, shape),
        _ => return,
    };
    if random.u32(0..3) > 0 {
        faults.retain(|fault| matches!(fault, Fault::GoBack { .. }));
        shape.timeout = TIMEOUT;
    }
    // Of two that hit one call, the first is what happens.
    faults.splice(0..0, met);
}

/// What begins something, and what it is whose lists may be late then.
const BEGINS: [(&str, &str); 4] = [
    ("run-tasks", "RunTask"),
    ("run-tasks", "RunTask"),
    ("deploy-services", "CreateDeployment"),
    ("deploy-services", "UpdateService"),
];

/// Right beside the begin of something, a person stops; what has begun is shown late, as is the stop; the stage is retried at once, or
/// left; a job's worker cannot start.
fn of_a_begin(random: &mut Rng, shape: &mut Shape) -> Vec<Fault> {
    let (function, operation) = BEGINS[random.usize(0..BEGINS.len())];
    let of = Calls { function: Some(function), operation: Some(operation), writes: false };
    let late = |random: &mut Rng, what| Fault::Late { what, by: millis(random, 1500, 5500) };
    let stopped = |random: &mut Rng, what: &[Meddling]| {
        let most = if operation == "RunTask" { 6 } else { 3 };
        Fault::Once { what: what[random.usize(0..what.len())], of, nth: random.u32(0..most) }
    };
    match random.u32(0..3) {
        // Whoever has begun it is dead, and lists do not show it yet.
        0 => vec![
            stopped(random, &[Meddling::AbandonAndCrashAfter]),
            late(random, Shown::Tasks),
            late(random, Shown::ListedDeployments),
        ],
        // Whoever begins it does not know yet that it was stopped, and whoever tries again does not see yet what was begun.
        1 => vec![
            stopped(random, &[Meddling::AbandonBefore, Meddling::AbandonAfter]),
            late(random, Shown::Executions),
            late(random, Shown::Tasks),
            Fault::Retry { after: millis(random, 0, 3000), all: random.bool() },
        ],
        _ => {
            shape.launches = true;
            let environment = random.usize(0..shape.environments.len());
            let jobs = 1 + random.u32(0..3);
            let sent = (0..jobs).map(|_| Fault::Job { at: millis(random, 0, 120_000), environment });
            let sent: Vec<_> = sent.collect();
            let cannot = Fault::Task { environment, task: "export", how: Ending::CannotStart };
            [sent, vec![cannot]].concat()
        }
    }
}

/// On a way back: it is stopped when half of it is gone; or another release gets the traffic while it waits for a person.
fn of_a_way_back(random: &mut Rng, shape: &mut Shape) -> Vec<Fault> {
    if random.bool() {
        let merged = Fault::Merge { at: millis(random, 0, 20_000) };
        return vec![merged, Fault::ApproveBackLate(millis(random, 30_000, 150_000))];
    }
    shape.services[0].worker = false;
    if shape.services.len() == 1 {
        shape.services.push(Service { name: "s1".into(), ..shape.services[0].clone() });
    }
    for service in &mut shape.services {
        service.by = match service.by {
            By::CodeDeploy { barrier, .. } => By::CodeDeploy { barrier, termination: STAYS },
            By::Ecs { how: How::Rolling, .. } => By::Ecs { how: How::BlueGreen, barrier: true, bake: STAYS },
            By::Ecs { how, barrier, .. } => By::Ecs { how, barrier, bake: STAYS },
        };
    }
    let operation = match shape.services[random.usize(0..shape.services.len())].by {
        By::CodeDeploy { .. } => "StopDeployment",
        By::Ecs { .. } => "StopServiceDeployment",
    };
    let of = Calls { function: Some("deploy-services"), operation: Some(operation), writes: false };
    let nth = random.u32(0..2);
    match random.u32(0..3) {
        0 => vec![Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth }],
        1 => vec![Fault::Once { what: Meddling::AbandonAfter, of, nth }],
        // Some of it is refused for a while.
        _ => {
            let storm = Fault::Storm {
                what: Meddling::Throttle,
                of,
                from: Duration::ZERO,
                lasts: millis(random, 30_000, 120_000),
                one_in: 2,
                seed: random.u64(..),
            };
            vec![Fault::Once { what: Meddling::AbandonAfter, of, nth }, storm]
        }
    }
}

/// Faults that are harmless alone, at moments at which they meet in a release of which nothing else is disturbed.
pub(super) fn of_a_stop(random: &mut Rng, shape: &Shape) -> Vec<Fault> {
    match random.u32(0..2) {
        // The next release comes to its migration while one that was stopped does not end.
        0 => {
            let environment = random.usize(0..shape.environments.len());
            let at = millis(random, 9_500, 15_000);
            vec![
                Fault::Task { environment, task: "migrate", how: Ending::Deaf },
                Fault::Stop { at, abandon: true },
                Fault::Merge { at: at.saturating_sub(millis(random, 1, 9_000)) },
            ]
        }
        // A function dies right after the deployment's success was taken, and the release is stopped in a later stage.
        _ => {
            let of = Calls { function: Some("deploy-services"), operation: Some("PutJobSuccessResult"), writes: false };
            match random.bool() {
                true => vec![Fault::Once { what: Meddling::AbandonAndCrashAfter, of, nth: 0 }],
                false => vec![
                    Fault::Once { what: Meddling::CrashAfter, of, nth: 0 },
                    Fault::Stop { at: millis(random, 25_000, 90_000), abandon: true },
                ],
            }
        }
    }
}
