//! Law 5: every line that was readable is in the merged stream exactly once, in order per source, and the `complete` line tells
//! the truth.

use std::collections::{BTreeMap, BTreeSet};

use local::world::{ActionStatus, ActionView, LogEvent};

use super::{Ended, none};
use crate::Meddling;
use crate::laws::fault::Fault;

/// How often Lambda tries an event (fact 3).
const LAMBDAS_TRIES: usize = 3;

/// Whether a log's last line is about this task: "(task a)", or "(tasks a, b)" where one was run again.
fn names_task(line: &str, id: &str) -> bool {
    let within = line.split_once("(task").and_then(|(_, rest)| rest.split_once(')'));
    within.is_some_and(|(ids, _)| ids.contains(id))
}

/// What a task has written is in a stream of its release at most once and in its order; all of it where the stream says that
/// it is complete, with as many lines as it says.
///
/// A line may be there twice in the circumstances that docs/operating.md names: the answer to a claim of the tail's was lost, or a
/// `PutLogEvents` arrived after its caller had given it up.
pub(super) fn every_line_is_there_once_and_in_order(ended: &Ended<'_>) -> Result<(), String> {
    let late = |seen: &super::Seen| {
        let puts = seen.operation == "PutLogEvents" && seen.function == "tail-logs";
        puts && matches!(seen.meddling, Meddling::DoneLate(_) | Meddling::HangThenDo)
    };
    let in_doubt = ended.may_have_two("tail-logs") || ended.seen.iter().any(late);
    let mut wrong = Vec::new();
    for release in &ended.releases {
        for (stream, events) in &release.streams {
            let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (at, event) in events.iter().enumerate() {
                let text = event.message.split_once(" | ").map_or(event.message.as_str(), |(_, text)| text);
                places.entry(text).or_default().push(at);
            }
            for (life, whose) in ended.own_lives().filter(|(_, whose)| whose.execution == release.execution) {
                let id = life.arn.rsplit('/').next().unwrap_or_default();
                let written: Vec<_> =
                    ended.stage.world().lines_of_task(&life.arn).into_iter().map(|event| event.message).collect();
                let own: Vec<_> = written.iter().filter(|line| line.contains("task ")).collect();
                let found: Vec<_> =
                    own.iter().map(|line| places.get(line.as_str()).cloned().unwrap_or_default()).collect();
                let about = format!("{stream}: {} in {} ({id})", whose.task, whose.environment);
                if !in_doubt && found.iter().any(|places| places.len() > 1) {
                    wrong.push(format!("{about}: a line is there more than once"));
                }
                let firsts: Vec<_> = found.iter().filter_map(|places| places.first()).collect();
                // What CloudWatch shows in disorder is not sorted: it would have to be held back.
                let shuffled = ended.plan.faults.iter().any(|fault| matches!(fault, Fault::ShuffledLines(_)));
                if !shuffled && !firsts.is_sorted() {
                    wrong.push(format!("{about}: lines are out of order"));
                }
                let complete = events.iter().enumerate().find_map(|(at, event)| {
                    let rest = event.message.split_once(" complete: ")?.1;
                    names_task(rest, id).then(|| (at, rest, rest.split(' ').next().unwrap_or_default().to_owned()))
                });
                let Some((completed, says, complete)) = complete else { continue };
                let missing = found.iter().filter(|places| places.is_empty()).count();
                // An earlier try's task may have been followed to its end, too: then the line names both.
                let label = |event: &&LogEvent| {
                    event.message.split_once(" | ").is_some_and(|(label, _)| label.trim_end() == whose.environment)
                };
                let of_task = |event: &&LogEvent| {
                    let of_it = event.message.split_once(&format!(" of {}, task ", whose.task));
                    of_it.is_some_and(|(_, id)| names_task(says, id))
                };
                // What a retry shows later in the same stream is not counted here.
                let shown = events[..completed]
                    .iter()
                    .filter(label)
                    .filter(of_task)
                    .map(|event| &event.message)
                    .collect::<BTreeSet<_>>()
                    .len()
                    + written.len()
                    - own.len();
                if missing > 0 || complete != shown.to_string() {
                    wrong.push(format!("{about}: says {complete} lines; {shown} are there, {missing} are missing"));
                }
            }
        }
    }
    none("lines lost, doubled or in disorder", &wrong)
}

/// A log action that succeeded without a warning has said at the latest at rest, for every environment in which its task ran,
/// how many lines there are, or why not all of them are there: also where it was answered before it had counted them.
///
/// Not when its function has died so often that Lambda does not try its event again, or its stage was tried again meanwhile, which then
/// follows the task's log: the line is missing then, as docs/operating.md says.
pub(super) fn every_log_that_was_followed_is_closed(ended: &Ended<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    if ended.deaths().filter(|of| *of == "tail-logs").count() >= LAMBDAS_TRIES {
        return Ok(());
    }
    for release in &ended.releases {
        let followed = release.actions.iter().filter(|action| {
            action.status == ActionStatus::Succeeded
                && action.action.ends_with("Logs")
                && !action.summary.contains("arning")
        });
        let has_died = ended.deaths().any(|of| of == "tail-logs");
        let is_tried_again = |action: &ActionView| {
            release.actions.iter().any(|other| other.action == action.action && other.started > action.started)
        };
        for action in followed.filter(|action| !(has_died && is_tried_again(action))) {
            let Some((task, _)) = action.summary.split_once(": ") else { continue };
            for (life, whose) in ended.own_lives() {
                // One of an earlier try was that one's to follow, and its log has a stream of its own.
                let is_its = whose.execution == release.execution
                    && whose.task == task
                    && (action.started..=action.updated).contains(&life.created);
                let id = life.arn.rsplit('/').next().unwrap_or_default();
                let shown = |event: &LogEvent| event.message.contains(&format!(" of task {id}: "));
                let closed = |event: &LogEvent| {
                    [" complete: ", " incomplete after "]
                        .iter()
                        .any(|how| event.message.contains(&format!(" {task}{how}")))
                        && names_task(&event.message, id)
                };
                let streams = || release.streams.values().flatten();
                if is_its && streams().any(shown) && !streams().any(closed) {
                    wrong.push(format!(
                        "{} of {}: {task} in {} ({id}) is not closed",
                        action.action, release.execution, whose.environment
                    ));
                }
            }
        }
    }
    none("logs that are not closed", &wrong)
}
