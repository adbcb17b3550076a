//! What people are told elsewhere: it is what has happened, and somebody is told.

use local::world::{ActionStatus, ExecutionStatus};

use super::{Ended, none};
use crate::Meddling;
use crate::laws::fault::Fault;

/// How long a block of Slack's may be: <https://docs.slack.dev/reference/block-kit/blocks/section-block>.
const LONGEST_BLOCK: usize = 3000;

/// Slack is told that a release has succeeded exactly when it has, and of every other end that it failed, was stopped, or was not approved;
/// nothing is said of an end that it has not had, and everything fits.
///
/// That nobody is told is excused where an event was lost or came wrong, or a call of the function that tells had trouble.
pub(super) fn who_is_told_in_slack_is_told_the_truth(ended: &Ended<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    let world = ended.stage.world();
    let events = ended.plan.faults.iter().any(|fault| match fault {
        Fault::Event { .. } => true,
        Fault::Lambda { function, .. } => matches!(*function, "notify" | "halt-release"),
        _ => false,
    });
    let meddled = ended.seen.iter().any(|seen| {
        matches!(seen.function.as_str(), "notify" | "halt-release")
            && !matches!(seen.meddling, Meddling::Pass | Meddling::SmallPage(_) | Meddling::EmptyPage)
    });
    let may_be_silent = events || meddled;
    for release in &ended.releases {
        let told = world.told(0).iter().filter(|told| told.host == "hooks.slack.com");
        let own: Vec<_> =
            told.filter(|told| told.body.to_string().contains(&format!("executions/{}/", release.execution))).collect();
        for told in &own {
            let blocks = told.body["blocks"].as_array().into_iter().flatten();
            let long = blocks.filter_map(|block| block.pointer("/text/text")?.as_str());
            if long.into_iter().any(|text| text.chars().count() > LONGEST_BLOCK) {
                wrong.push(format!("{}: a block is too long: {}", release.execution, told.line()));
            }
        }
        let titles: Vec<_> = own.iter().filter_map(|told| told.body["text"].as_str()).collect();
        let says = |icon: &str| titles.iter().any(|title| title.starts_with(icon));
        let has_failed = release.actions.iter().any(|one| one.status == ActionStatus::Failed);
        let was_stopped = release.actions.iter().any(|one| one.status == ActionStatus::Abandoned)
            || matches!(release.status, ExecutionStatus::Stopped);
        let is_true = (!says(":white_check_mark:") || release.status == ExecutionStatus::Succeeded)
            && (!says(":x:") || has_failed)
            && (!says(":octagonal_sign:") || was_stopped || has_failed);
        let begun = release.actions.iter().any(|one| one.provider.starts_with("cutover"));
        let is_told = match release.status {
            ExecutionStatus::Succeeded => says(":white_check_mark:"),
            ExecutionStatus::Failed => says(":x:") || says(":no_entry:"),
            ExecutionStatus::Stopped => says(":octagonal_sign:"),
            _ => true,
        };
        if !is_true || (!is_told && begun && !may_be_silent) {
            wrong.push(format!("{} is {:?}, and Slack was told {titles:#?}", release.execution, release.status));
        }
    }
    none("what Slack was told wrongly, or not at all", &wrong)
}
