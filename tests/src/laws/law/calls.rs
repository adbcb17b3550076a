//! Laws 7 to 10, as far as they are about calls: tokens and messages fit, no secret is told, reads stay within their budget.

use std::collections::BTreeMap;

use super::{Ended, none};
use crate::laws::fault::Fault;
use crate::laws::meddle::operation;
use crate::{Fate, Meddling};

/// Refusals that mean that the request itself was wrong. `StopTask` of a task that is gone is answered so, too.
const WRONG: [&str; 6] = [
    "ValidationException",
    "SerializationException",
    "InvalidParameterException",
    "InvalidInputException",
    "UnknownOperationException",
    "ClientException",
];

/// Every request is one that AWS takes: of a known shape, within all limits (tokens, messages, summaries, names).
pub(super) fn no_request_is_refused_as_wrong(ended: &Ended<'_>) -> Result<(), String> {
    let wrong = ended.seen.iter().filter(|seen| {
        let code = seen.answer.as_ref().map(|(_, code)| code.as_str()).unwrap_or_default();
        WRONG.contains(&code) && !matches!(seen.operation.as_str(), "StopTask" | "ContinueServiceDeployment")
    });
    let wrong: Vec<_> = wrong
        .map(|seen| format!("{} of {}: {:?} {}", seen.operation, seen.function, seen.answer, seen.input))
        .collect();
    none("requests that are wrong", &wrong)?;
    let unknown: Vec<_> =
        ended.stage.notes().into_iter().filter(|note| note.contains("it is not known here")).collect();
    none("requests that are not known", &unknown)
}

/// The roles of the template allow what the functions do.
pub(super) fn no_role_lacks_a_permission(ended: &Ended<'_>) -> Result<(), String> {
    let denied: Vec<_> =
        ended.stage.notes().into_iter().filter(|note| note.contains("no identity-based policy allows")).collect();
    none("what no role allows", &denied)
}

/// No credential and no secret is in any log, summary, verdict, token or notification.
pub(super) fn no_secret_is_told(ended: &Ended<'_>) -> Result<(), String> {
    let told: Vec<_> =
        ended.seen.iter().filter(|seen| seen.tells_secret).map(|seen| (&seen.function, &seen.operation)).collect();
    none("calls that tell a secret", &told)?;
    let secret = crate::laws::shape::SECRET;
    let told = ended.stage.world().told(0).iter().filter(|told| told.body.to_string().contains(secret)).count();
    if told == 0 { Ok(()) } else { Err(format!("{told} notifications say a secret")) }
}

/// How long a stretch of calls is counted.
const STRETCH: u64 = 10_000;

/// What is counted together: reads that are repeated, reads of task definitions, reads of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reads {
    Control,
    Definitions,
    Logs,
}

impl Reads {
    fn of(operation: &str) -> Option<Self> {
        match operation {
            "ListTasks"
            | "DescribeTasks"
            | "DescribeServices"
            | "ListDeployments"
            | "BatchGetDeployments"
            | "BatchGetDeploymentTargets"
            | "BatchGetDeploymentGroups"
            | "ListServiceDeployments"
            | "DescribeServiceDeployments"
            | "DescribeServiceRevisions" => Some(Self::Control),
            "DescribeTaskDefinition" => Some(Self::Definitions),
            "GetLogEvents" => Some(Self::Logs),
            _ => None,
        }
    }

    fn burst(self) -> usize {
        match self {
            Self::Control => 8,
            Self::Definitions | Self::Logs => 4,
        }
    }

    fn per_second(self) -> u64 {
        match self {
            Self::Control => 2,
            Self::Definitions | Self::Logs => 5,
        }
    }
}

/// How long after a read that failed the SDK may repeat it, in milliseconds: a time-out, and its pause.
const ANSWERED: u64 = 13_000;

/// How many milliseconds the machine of this function may have stood still.
fn stands_still(ended: &Ended<'_>, sandbox: u32) -> u64 {
    let whose = ended.seen.iter().find(|seen| seen.sandbox == sandbox).map(|seen| seen.function.as_str());
    let lasts = ended.plan.faults.iter().filter_map(|fault| match fault {
        Fault::Lambda { function, fate: Fate::Frozen { lasts, .. }, .. } if whose == Some(function) => Some(lasts),
        _ => None,
    });
    lasts.max().and_then(|lasts| u64::try_from(lasts.as_millis()).ok()).unwrap_or_default()
}

/// An invocation asks an account's Region for at most 2 reads of ECS and CodeDeploy a second, 5 of task definitions and 5 of CloudWatch
/// Logs, each with a burst of 4 (8 of the first) at its begin and again after a pause; what the SDK repeats of a call that failed comes on top.
pub(super) fn reads_stay_within_their_budget(ended: &Ended<'_>) -> Result<(), String> {
    let mut times: BTreeMap<(u32, &str, &str, Reads), Vec<u64>> = BTreeMap::new();
    let mut failed = times.clone();
    for seen in &ended.seen {
        let answered = matches!(seen.meddling, Meddling::Pass | Meddling::SmallPage(_) | Meddling::EmptyPage);
        if let Some(reads) = Reads::of(operation(&seen.operation)) {
            let of = if answered { &mut times } else { &mut failed };
            of.entry((seen.sandbox, &seen.region, &seen.account, reads)).or_default().push(seen.at.millis());
        }
    }
    for (key, times) in times {
        let (sandbox, region, _, reads) = key;
        let failed = failed.get(&key).map(Vec::as_slice).unwrap_or_default();
        // A twentieth of jitter either way, and the burst. Whose turn came while the machine stood still, has it right after.
        let stretch = STRETCH + stands_still(ended, sandbox);
        let most = usize::try_from(stretch * reads.per_second() * 21 / 20_000).unwrap_or_default() + reads.burst() + 2;
        let mut first = 0;
        for (at, time) in times.iter().enumerate() {
            while *time - times[first] >= STRETCH {
                first += 1;
            }
            // Those that take the place of one that failed, perhaps by its time-out.
            let again = failed.iter().filter(|at| (times[first].saturating_sub(ANSWERED)..=*time).contains(at)).count();
            let count = at + 1 - first;
            if count > most + again {
                return Err(format!(
                    "invocation {sandbox} made {count} {reads:?} reads in {region} within {STRETCH} ms"
                ));
            }
        }
    }
    Ok(())
}
