//! Law 1: every action ends in exactly one accepted report, within its limits.

use local::world::ActionStatus;

use super::{Ended, none};
use crate::Meddling;

/// Once faults and people have stopped, every release ends, and nothing is on its way any more. ECS alone may go on trying to
/// deploy what people were told of in capitals: a version that could not be brought back, since its tasks do not start; or what somebody
/// has deployed by hand, which waits at the service's PAUSE hook for him.
pub(super) fn everything_comes_to_rest(ended: &Ended<'_>) -> Result<(), String> {
    if ended.deeds.rest.is_some() {
        return Ok(());
    }
    let all_over = ended.releases.iter().all(|release| release.status.is_over());
    let is_told = all_over && ended.said().iter().any(|text| text.contains("NOT ROLLED BACK"));
    let is_somebodys = all_over && !ended.deeds.touched.is_empty();
    if (is_told || is_somebodys) && ended.stage.world().waits_for_nobody() && ended.stage.late_calls() == 0 {
        return Ok(());
    }
    let status = ended.releases.iter().map(|release| {
        let under_way: Vec<_> = release.actions.iter().filter(|one| one.status == ActionStatus::InProgress).collect();
        format!("{} is {:?}, under way: {under_way:#?}", release.execution, release.status)
    });
    let invocations = ended.stage.world().invocations();
    Err(format!(
        "not everything came to rest: {:#?}, {invocations} invocations, deploying: {}, late: {}",
        status.collect::<Vec<_>>(),
        ended.stage.world().is_deploying(),
        ended.stage.late_calls()
    ))
}

/// Every run of an action that Cutover does ends in one accepted report, or in none when a person gave it up.
pub(super) fn every_action_ends_in_one_report(ended: &Ended<'_>) -> Result<(), String> {
    let reports: Vec<_> = ended
        .seen
        .iter()
        .filter(|seen| seen.operation.starts_with("PutJob") && seen.input.get("continuationToken").is_none())
        .collect();
    let mut wrong = Vec::new();
    for action in
        ended.releases.iter().flat_map(|release| &release.actions).filter(|one| one.provider.starts_with("cutover"))
    {
        let own = |seen: &&&super::Seen| {
            let job = seen.input["jobId"].as_str().unwrap_or_default();
            ended.stage.world().run_of_job(job).as_deref() == Some(&action.id)
        };
        let accepted =
            reports.iter().filter(own).filter(|seen| seen.answer.as_ref().is_some_and(|(status, _)| *status == 200));
        let accepted = accepted.count();
        // It may have been taken after its caller had given it up.
        let late = reports
            .iter()
            .filter(own)
            .any(|seen| matches!(seen.meddling, Meddling::DoneLate(_) | Meddling::HangThenDo));
        let good = match action.status {
            ActionStatus::Succeeded | ActionStatus::Failed => accepted == 1 || (late && accepted == 0),
            ActionStatus::Abandoned => accepted == 0,
            // That is the affair of the law of rest.
            ActionStatus::InProgress => true,
        };
        if !good {
            wrong.push(format!("{} {:?}: {accepted} accepted reports", action.action, action.status));
        }
    }
    none("actions without exactly one report", &wrong)
}
