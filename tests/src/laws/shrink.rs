//! From a play that breaks a law to the fewest faults, and the smallest application, that still break it.

use super::plan::Plan;
use super::play;

/// How many plays a shrinking takes at the most.
const MOST: usize = 300;

/// The smallest plan found that still breaks this law.
#[must_use]
pub fn shrink(plan: &Plan, law: &str) -> Plan {
    let mut left = MOST;
    let mut breaks = |plan: &Plan| {
        left = left.saturating_sub(1);
        left > 0 && play(plan, false).broken.iter().any(|(name, _)| name == law)
    };
    let mut plan = plan.clone();
    loop {
        let smaller = candidates(&plan).into_iter().find(&mut breaks);
        match smaller {
            Some(smaller) => plan = smaller,
            None => return plan,
        }
    }
}

/// Plans that have less: half of the faults, one fault less, an environment or a service less.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let count = plan.faults.len();
    let mut without = |from: usize, to: usize| {
        let mut smaller = plan.clone();
        smaller.faults.drain(from..to);
        found.push(smaller);
    };
    if count > 3 {
        without(0, count / 2);
        without(count / 2, count);
    }
    for at in 0..count {
        without(at, at + 1);
    }
    let (environments, services) = (plan.shape.environments.len(), plan.shape.services.len());
    for fewer in [1, environments / 2, environments - 1] {
        if fewer > 0 && fewer < environments {
            let mut smaller = plan.clone();
            smaller.shape.environments.truncate(fewer);
            found.push(smaller);
        }
    }
    for fewer in [1, services - 1] {
        if fewer > 0 && fewer < services {
            let mut smaller = plan.clone();
            smaller.shape.services.truncate(fewer);
            found.push(smaller);
        }
    }
    found
}
