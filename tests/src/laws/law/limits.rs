//! Law 11: what docs/operating.md calls a limit, or says of Cutover's own failure, comes in the circumstances that it names, and in no
//! other.

use super::{Ended, none};
use crate::Meddling;
use crate::laws::fault::Fault;

/// In which circumstances something may be said.
#[derive(Clone, Copy)]
enum When {
    /// Not in a play: here everything can be looked at and ended within minutes.
    Never,
    /// A call was refused.
    Refused,
    /// A function has died.
    AfterADeath,
    /// Something could not be brought back, as is said in capitals; or a call was refused.
    NotRolledBack,
    /// Somebody else has deployed, what is deployed does not work, or calls are refused.
    SomethingStands,
    /// Nor does the version before it: after a way back, the fault is of any task that starts.
    NothingStands,
    /// ECS has forgotten what ended: the release has lasted for so long.
    AfterAnHour,
}

/// Words that people are told of a limit, or of a failure of Cutover's own.
const SAID: [(&str, When); 11] = [
    ("halt incomplete", When::NotRolledBack),
    ("Cutover itself failed", When::Never),
    ("AWS did not answer for", When::Never),
    ("within an hour", When::NothingStands),
    ("could not be watched", When::Refused),
    ("could not be followed", When::Refused),
    ("STILL STARTED OF THIS RELEASE", When::Never),
    ("NOT ROLLED BACK", When::SomethingStands),
    ("NOT SEEN", When::Refused),
    ("failed at every try", When::AfterADeath),
    ("ECS shows what ended for about an hour only", When::AfterAnHour),
];

/// Nothing of it is said in other circumstances.
pub(super) fn limits_are_met_where_they_are_named(ended: &Ended<'_>) -> Result<(), String> {
    let forgets = std::time::Duration::from_secs(50 * 60);
    let long = || ended.stage.now().since(crate::laws::START) > forgets;
    let said = ended.said();
    let stuck = || said.iter().any(|line| line.contains("NOT ROLLED BACK"));
    let refused = ended.seen.iter().any(|seen| seen.meddling == Meddling::Refuse);
    let fails = |fault: &Fault| matches!(fault, Fault::Service { .. } | Fault::Spot { .. });
    let breaks = |fault: &Fault| matches!(fault, Fault::Service { .. });
    let goes_back = ended.plan.faults.iter().any(|fault| matches!(fault, Fault::GoBack { .. }));
    let stands = refused || !ended.deeds.touched.is_empty() || ended.plan.faults.iter().any(fails);
    let wrong = SAID.iter().filter(|(_, when)| match when {
        When::Never => true,
        When::Refused => !refused,
        When::AfterADeath => ended.deaths().next().is_none(),
        When::NotRolledBack => !stuck() && !refused,
        When::SomethingStands => !stands,
        When::NothingStands => !(goes_back && ended.plan.faults.iter().any(breaks)),
        When::AfterAnHour => !long(),
    });
    let wrong: Vec<_> = wrong.flat_map(|(words, _)| said.iter().filter(move |line| line.contains(words))).collect();
    none("what should not have been said", &wrong)
}
