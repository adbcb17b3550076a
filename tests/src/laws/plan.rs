//! A seed's play: what is released, and what goes wrong.

use std::time::Duration;

use fastrand::Rng;

use super::fault::{ByHand, Calls, Ending, Fault, Shown};
use super::meeting;
use super::shape::Shape;
use crate::{Fate, Meddling};

/// When faults are over, after the release's begin: from then on, everything must come to rest.
pub const CALM: Duration = Duration::from_secs(240);

/// A play, as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it follows from.
    pub seed: u64,
    /// What is released.
    pub shape: Shape,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

const FUNCTIONS: [&str; 7] =
    ["run-tasks", "tail-logs", "deploy-services", "drain-workers", "halt-release", "notify", "dispatch-jobs"];

/// Operations that are worth a fault of their own.
const OPERATIONS: [&str; 22] = [
    "RunTask",
    "StopTask",
    "ListTasks",
    "DescribeTasks",
    "DescribeTaskDefinition",
    "RegisterTaskDefinition",
    "DescribeServices",
    "CreateDeployment",
    "ContinueDeployment",
    "StopDeployment",
    "ListDeployments",
    "BatchGetDeployments",
    "BatchGetDeploymentTargets",
    "BatchGetDeploymentGroups",
    "GetLogEvents",
    "PutLogEvents",
    "CreateLogStream",
    "AcknowledgeJob",
    "PutJobSuccessResult",
    "PutJobFailureResult",
    "GetPipelineExecution",
    "ListActionExecutions",
];

/// Those of them that begin, end or tell something.
const WRITES: [&str; 9] = [
    "RunTask",
    "RunTask",
    "StopTask",
    "CreateDeployment",
    "ContinueDeployment",
    "StopDeployment",
    "PutLogEvents",
    "AcknowledgeJob",
    "PutJobSuccessResult",
];

impl Plan {
    /// The play of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let shape = Shape::of(&mut random);
        let count = match random.u32(0..10) {
            0 => 0,
            1..4 => 1,
            4..8 => random.usize(2..5),
            _ => random.usize(5..11),
        };
        let mut faults: Vec<Fault> = (0..count).map(|_| fault(&mut random, &shape)).collect();
        // A failure or a stop is worth more when somebody goes on after it.
        let ends = |fault: &Fault| {
            matches!(fault, Fault::Stop { .. } | Fault::Task { .. } | Fault::Service { .. } | Fault::Reject)
        };
        if faults.iter().any(ends) && random.u32(0..3) == 0 {
            faults.push(Fault::Retry { after: millis(&mut random, 0, 40_000), all: random.bool() });
        }
        // So is a stop when the next release waits behind it, and when what is stopped takes its time.
        let stop = faults.iter().find_map(|fault| match fault {
            Fault::Stop { at, abandon: true } => Some(*at),
            _ => None,
        });
        if let Some(at) = stop {
            if random.u32(0..3) == 0 {
                // It has come as far as the stage that is stopped, some of the time.
                faults.push(Fault::Merge { at: at.saturating_sub(millis(&mut random, 1, 30_000)) });
            }
            if random.u32(0..3) == 0 {
                let environment = random.usize(0..shape.environments.len());
                faults.push(Fault::Task { environment, task: "migrate", how: Ending::Deaf });
            }
        }
        // By a chance of its own, so that all else is as it was without it.
        let mut goes_back = Rng::with_seed(seed ^ 0x6261_636b);
        if goes_back.u32(0..6) == 0 {
            let early = Rng::with_seed(seed ^ 0x6561_726c).u32(0..3) == 0;
            faults.push(Fault::GoBack { after: millis(&mut goes_back, 0, 90_000), early });
            faults.extend((0..goes_back.u32(0..3)).map(|_| fault_of_a_way_back(&mut goes_back)));
        }
        // And what only happens when two things meet within seconds.
        let mut meets = Rng::with_seed(seed ^ 0x6d65_6574);
        if meets.u32(0..25) == 0 {
            faults.extend(meeting::of_a_stop(&mut meets, &shape));
        }
        // What came later has a chance of its own, too.
        let (mut more, mut shape) = (Rng::with_seed(seed ^ 0x6d6f_7265), shape);
        if more.u32(0..3) == 0 {
            let count = more.usize(1..4);
            faults.extend((0..count).flat_map(|_| another(&mut more, &mut shape)));
        }
        let mut last = Rng::with_seed(seed ^ 0x7363_616c);
        if last.u32(0..5) == 0 {
            faults.extend((0..last.usize(1..4)).map(|_| fault_of_a_busy_day(&mut last)));
        }
        // An answer that arrives twice would be one for the job that goes on by the same name: nobody could tell.
        if Rng::with_seed(seed ^ 0x7361_6d65).u32(0..8) == 0 && !faults.iter().any(may_arrive_twice) {
            faults.push(Fault::SameJobs);
        }
        if Rng::with_seed(seed ^ 0x6e6f_6e63).u32(0..8) == 0 {
            faults.push(Fault::NewNonces);
        }
        let mut starts = Rng::with_seed(seed ^ 0x7374_6172);
        if starts.u32(0..8) == 0 {
            faults.push(Fault::SlowStarts(millis(&mut starts, 5_000, 60_000)));
        }
        let mut slow = Rng::with_seed(seed ^ 0x736c_6f77);
        if slow.u32(0..5) == 0 {
            faults.extend((0..slow.usize(1..3)).map(|_| fault_of_a_slow_day(&mut slow)));
        }
        let mut many = Rng::with_seed(seed ^ 0x6d61_6e79);
        if many.u32(0..15) == 0 {
            let of = Calls { function: None, operation: Some("CreateDeployment"), writes: false };
            let (from, lasts) = (moment(&mut many), millis(&mut many, 500, 120_000));
            let (one_in, seed) = (1 + many.u32(0..3), many.u64(..));
            faults.push(Fault::Storm { what: Meddling::TooMany, of, from, lasts, one_in, seed });
        }
        meeting::arrange(&mut Rng::with_seed(seed ^ 0x636c_6f73), &mut shape, &mut faults);
        shape.runs_by_clock = shape.launches && Rng::with_seed(seed ^ 0x7469_636b).bool();
        Self { seed, shape, faults }
    }
}

/// Whether a call's caller does not know that it has arrived, or when.
fn may_arrive_twice(fault: &Fault) -> bool {
    match fault {
        Fault::Storm { what, .. } | Fault::Once { what, .. } => matches!(
            what,
            Meddling::LoseReply
                | Meddling::HangThenDo
                | Meddling::AbandonAndHang
                | Meddling::InternalDone
                | Meddling::DoneLate(_)
        ),
        _ => false,
    }
}

/// Functions that are invoked seldom.
const SELDOM: [&str; 5] = ["launch-workers", "record-release", "check-rollback", "halt-release", "dispatch-jobs"];

/// What begins something, and may be refused by whoever changes a policy.
const REFUSED: [&str; 6] = [
    "RunTask",
    "CreateDeployment",
    "UpdateService",
    "RegisterTaskDefinition",
    "DescribeServices",
    "ContinueDeployment",
];

fn another(random: &mut Rng, shape: &mut Shape) -> Vec<Fault> {
    let operation = |name| Calls { function: None, operation: Some(name), writes: false };
    let storm = |random: &mut Rng, what, of, most| Fault::Storm {
        what,
        of,
        from: moment(random),
        lasts: millis(random, 500, most),
        one_in: 1 + random.u32(0..3),
        seed: random.u64(..),
    };
    match random.u32(0..10) {
        0 => vec![Fault::Lambda {
            function: SELDOM[random.usize(0..5)],
            nth: random.u32(0..4),
            fate: fate(random, true),
        }],
        // Those that a calm release has.
        1 => vec![Fault::Event { nth: random.u32(0..14), fate: fate(random, false) }],
        // The caller hears nothing, and it is done all the same.
        2 => {
            let of = operation(WRITES[random.usize(0..WRITES.len())]);
            vec![storm(random, Meddling::HangThenDo, of, 60_000)]
        }
        3 => vec![storm(random, Meddling::NoRoom, operation("RunTask"), 200_000)],
        4 => {
            let of = operation(REFUSED[random.usize(0..REFUSED.len())]);
            vec![Fault::Once { what: Meddling::Refuse, of, nth: random.u32(0..4) }]
        }
        // It runs out of time while calls still fail, and not minutes after.
        5 => {
            shape.timeout = Duration::from_secs(random.u64(60..150));
            let (environment, service) =
                (random.usize(0..shape.environments.len()), random.usize(0..shape.services.len()));
            vec![Fault::Service { environment, service, how: Ending::NeverHealthy }]
        }
        // Functions hand over again and again, and what they hand over comes late.
        6 => vec![Fault::ShortLambdas(millis(random, 200_000, 400_000)), Fault::LateJobs(millis(random, 100, 60_000))],
        7 => vec![Fault::Newcomer { at: moment(random), pick: random.usize(0..20) }],
        _ => {
            shape.launches = true;
            let jobs = 1 + random.u32(0..6);
            (0..jobs)
                .map(|_| Fault::Job {
                    at: millis(random, 0, 240_000),
                    environment: random.usize(0..shape.environments.len()),
                })
                .collect()
        }
    }
}

/// Services of AWS's with trouble of their own, which may have done what they say they could not; and load that comes and goes.
fn fault_of_a_busy_day(random: &mut Rng) -> Fault {
    let what = if random.u32(0..3) == 0 { Meddling::Internal } else { Meddling::InternalDone };
    let operation = |random: &mut Rng| match random.u32(0..4) {
        0 => "AcknowledgeJob",
        1 => OPERATIONS[random.usize(0..OPERATIONS.len())],
        _ => WRITES[random.usize(0..WRITES.len())],
    };
    match random.u32(0..4) {
        0 => Fault::Scale { at: moment(random), pick: random.usize(0..20), to: random.usize(1..6) },
        1 => Fault::Storm {
            what,
            of: Calls { function: None, operation: Some(operation(random)), writes: false },
            from: moment(random),
            lasts: millis(random, 500, 60_000),
            one_in: 1 + random.u32(0..3),
            seed: random.u64(..),
        },
        _ => {
            let of = Calls { function: None, operation: Some(operation(random)), writes: false };
            Fault::Once { what, of, nth: random.u32(0..6) }
        }
    }
}

/// A machine that stands still with a function on it, no longer than a call may take ([`shared::aws::ATTEMPT`]): longer, nothing here
/// can know whether what it was about to do comes yet. And what ECS shows of tasks, each on its own.
fn fault_of_a_slow_day(random: &mut Rng) -> Fault {
    let shown = [Shown::ListedTasks, Shown::DescribedTasks, Shown::TaskLists, Shown::TaskStatuses];
    match random.u32(0..3) {
        0 => Fault::Late { what: shown[random.usize(0..shown.len())], by: millis(random, 100, 6000) },
        _ => {
            let seldom = random.u32(0..4) == 0;
            let function = match seldom {
                true => SELDOM[random.usize(0..SELDOM.len())],
                false => FUNCTIONS[random.usize(0..FUNCTIONS.len())],
            };
            let fate = Fate::Frozen { after: millis(random, 0, 40_000), lasts: millis(random, 500, 10_000) };
            Fault::Lambda { function, nth: random.u32(0..4), fate }
        }
    }
}

pub(super) fn millis(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..to))
}

/// A moment of a release, most of which are over after two minutes.
fn moment(random: &mut Rng) -> Duration {
    if random.u32(0..4) == 0 { millis(random, 0, 180_000) } else { millis(random, 0, 60_000) }
}

fn fault(random: &mut Rng, shape: &Shape) -> Fault {
    let environment = random.usize(0..shape.environments.len());
    match random.u32(0..100) {
        0..14 => Fault::Storm {
            what: trouble(random),
            of: calls(random),
            from: moment(random),
            lasts: millis(random, 500, 60_000),
            one_in: [1, 2, 2, 3, 5, 10][random.usize(0..6)],
            seed: random.u64(..),
        },
        // A function that dies at every try, for a while.
        14 => Fault::Storm {
            what: Meddling::CrashBefore,
            of: Calls { function: Some(FUNCTIONS[random.usize(0..5)]), operation: None, writes: random.bool() },
            from: moment(random),
            lasts: millis(random, 10_000, 240_000),
            one_in: 1 + random.u32(0..8) / 3,
            seed: random.u64(..),
        },
        15..34 => {
            let (what, of) = (single(random), calls(random));
            Fault::Once { what, of, nth: random.u32(0..if of.operation.is_some() { 6 } else { 60 }) }
        }
        34..44 => Fault::Late {
            what: [Shown::ListedDeployments, Shown::Rollbacks, Shown::Deployments, Shown::Tasks, Shown::Executions]
                [random.usize(0..5)],
            by: millis(random, 100, 6000),
        },
        44..46 => Fault::EmptyPages,
        46..48 => Fault::LateLines(millis(random, 100, 5000)),
        48 => Fault::ShuffledLines(millis(random, 100, 3000)),
        // A look at very many targets takes longer than that.
        49 if shape.environments.len() * shape.services.len() <= 6 => {
            Fault::ShortLambdas(millis(random, 40_000, 120_000))
        }
        49 => Fault::LateJobs(millis(random, 100, 5000)),
        50 => Fault::LateJobs(millis(random, 100, 60_000)),
        51..58 => Fault::Lambda {
            function: FUNCTIONS[random.usize(0..FUNCTIONS.len())],
            nth: random.u32(0..4),
            fate: fate(random, true),
        },
        58..62 => Fault::Event { nth: random.u32(0..40), fate: fate(random, false) },
        62..68 => Fault::Task {
            environment,
            task: ["prepare", "migrate", "migrate", "migrate", "finish"][random.usize(0..5)],
            how: match random.u32(0..6) {
                0 => Ending::CannotStart,
                1 => Ending::Exit(137),
                2 => Ending::Slow(millis(random, 1000, 120_000)),
                3 => Ending::Deaf,
                _ => Ending::Exit(1),
            },
        },
        68..74 => Fault::Service {
            environment,
            service: random.usize(0..shape.services.len()),
            how: match random.u32(0..6) {
                0 => Ending::CannotStart,
                1 => Ending::NeverHealthy,
                2 => Ending::Slow(millis(random, 1000, 120_000)),
                3 => Ending::FallsIll(millis(random, 100, 20_000)),
                4 => Ending::Deaf,
                _ => Ending::Crashes(millis(random, 100, 5000)),
            },
        },
        74..77 => Fault::Spot { at: moment(random), pick: random.usize(0..20) },
        77..78 => Fault::Protected(millis(random, 60_000, 600_000)),
        78..81 => Fault::Rival { at: moment(random), pick: random.usize(0..20) },
        81..85 => Fault::ByHand {
            at: moment(random),
            pick: random.usize(0..10),
            deed: [ByHand::StopsIt, ByHand::Reroutes, ByHand::EndsWait][random.usize(0..3)],
        },
        85..93 => Fault::Stop { at: moment(random), abandon: random.u32(0..4) > 0 },
        93..95 => Fault::Reject,
        95..97 => Fault::ApproveLate(millis(random, 1000, 120_000)),
        _ => Fault::Merge { at: moment(random) },
    }
}

/// One call, or many, of those that only a way back and the records make.
fn fault_of_a_way_back(random: &mut Rng) -> Fault {
    const OF: [(&str, &str); 10] = [
        ("deploy-services", "StopDeployment"),
        ("deploy-services", "StopServiceDeployment"),
        ("deploy-services", "PutObject"),
        ("deploy-services", "GetObject"),
        ("check-rollback", "BatchGetImage"),
        ("check-rollback", "GetObject"),
        ("check-rollback", "ListObjectsV2"),
        ("record-release", "PutObject"),
        ("record-release", "GetObject"),
        ("record-release", "ListActionExecutions"),
    ];
    let (function, operation) = OF[random.usize(0..OF.len())];
    let of = Calls { function: Some(function), operation: Some(operation), writes: false };
    if random.bool() {
        return Fault::Once { what: single(random), of, nth: random.u32(0..4) };
    }
    Fault::Storm {
        what: trouble(random),
        of,
        from: Duration::ZERO,
        lasts: millis(random, 500, 120_000),
        one_in: 1 + random.u32(0..3),
        seed: random.u64(..),
    }
}

fn calls(random: &mut Rng) -> Calls {
    let function = (random.u32(0..3) > 0).then(|| FUNCTIONS[random.usize(0..FUNCTIONS.len())]);
    let operation = match random.u32(0..4) {
        0 => Some(OPERATIONS[random.usize(0..OPERATIONS.len())]),
        1 => Some(WRITES[random.usize(0..WRITES.len())]),
        _ => None,
    };
    // An operation that a function never calls meets nothing.
    let function = if operation.is_some() && random.u32(0..3) > 0 { None } else { function };
    Calls { function, operation, writes: operation.is_none() && random.bool() }
}

/// What can happen to many calls.
fn trouble(random: &mut Rng) -> Meddling {
    match random.u32(0..12) {
        0..4 => Meddling::Throttle,
        4..6 => Meddling::Unreachable,
        6..8 => Meddling::LoseReply,
        8 => Meddling::Hang,
        9 => Meddling::DoneLate(millis(random, 100, 15_000)),
        10 => Meddling::SmallPage(random.u8(1..4)),
        _ => Meddling::EmptyPage,
    }
}

/// What can happen to one.
fn single(random: &mut Rng) -> Meddling {
    match random.u32(0..16) {
        0..2 => Meddling::CrashBefore,
        2..5 => Meddling::CrashAfter,
        5 => Meddling::AbandonBefore,
        6 => Meddling::AbandonAfter,
        7 => Meddling::AbandonAndCrash,
        8 => Meddling::AbandonAndCrashAfter,
        9 => Meddling::NoRoom,
        10 => Meddling::DoneLate(millis(random, 100, 30_000)),
        _ => trouble(random),
    }
}

fn fate(random: &mut Rng, killed: bool) -> Fate {
    match random.u32(0..if killed { 6 } else { 3 }) {
        0 => Fate::Twice(millis(random, 0, 20_000)),
        1 => Fate::Late(millis(random, 100, 60_000)),
        2 if !killed => Fate::Lost,
        _ => Fate::Killed(millis(random, 1, 30_000)),
    }
}
