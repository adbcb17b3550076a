//! Whether what a person approved still holds when the turn to go back comes: a release may have been merged meanwhile.
//!
//! Invariant: asked before anything is begun, never after; what cannot be known now is asked again.

use shared::aws::LISTED;
use shared::aws::codepipeline::Codepipeline;
use shared::record::{History, Record, Step, Store, runs};
use shared::targets::quick::Runs;
use shared::{Error, Tick, Time};

/// What has happened since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approved {
    /// It holds; these tasks were begun meanwhile, each with its release, and can be lived with.
    Holds(Vec<(String, String)>),
    /// Another release has the traffic.
    Overtaken(String),
    /// These tasks were begun meanwhile, and say that there is no way back behind them.
    Barred(Vec<(String, String)>),
    /// These tasks were begun meanwhile, and whether there is a way back behind them is not known.
    Unread(Vec<(String, String)>),
}

/// Looks what has happened since a person was asked.
///
/// # Errors
/// The calls': not knowing, nothing begins.
pub(crate) async fn look(tick: &Tick<'_>, from: Option<&Runs>) -> Result<Approved, Error> {
    let Some(store) = Store::new(tick.aws) else { return Ok(Approved::Holds(Vec::new())) };
    let pipelines: Vec<_> = tick.aws.settings().pipelines.iter().map(String::as_str).collect();
    let siblings = Codepipeline::new(tick.aws).siblings(tick.release).await?;
    // What a person was told is what the action before the approval has seen, after its begin.
    let approval = siblings.iter().filter(|one| one.category == "Approval").max_by_key(|one| one.started);
    let told = siblings.iter().filter(|one| approval.is_some_and(|approval| approval.stage == one.stage));
    let told = told.filter(|one| one.category != "Approval").filter_map(|one| one.started).max();
    let asked = told.or(approval.and_then(|approval| approval.started));
    let asked = asked.unwrap_or(tick.begun);
    let is_enough =
        |records: &[Record], _| runs(records).is_some() && records.iter().any(|one| !one.back && one.ended < asked);
    let history = History::look(tick.aws, &store, &pipelines, tick.now, is_enough).await?;
    Ok(decide(&history.records, from, &tick.release.execution, asked))
}

/// Decides; `own` is the way back itself, which may have deployed before and be tried again.
fn decide(records: &[Record], from: Option<&Runs>, own: &str, asked: Time) -> Approved {
    let is_expected = |one: &Record| one.execution == own || from.is_some_and(|from| from.execution == one.execution);
    // One that deployed right before was not shown yet to who asked: where it is known what ran, it is known that this one did not.
    let is_known = from.is_some_and(|from| records.iter().any(|one| one.execution == from.execution));
    let is_new = |runs: &Record| is_known || runs.deployed_at() >= Some(asked);
    if let Some(runs) = runs(records).filter(|runs| !is_expected(runs) && is_new(runs)) {
        return Approved::Overtaken(runs.what_now());
    }
    let since = |is_it: &dyn Fn(&Record, &String) -> bool| {
        let mut each = Vec::new();
        for one in records.iter().filter(|one| !one.back) {
            // One that began right before was not shown yet to who asked, either.
            let is_since = |step: &&Step| step.began >= asked.before(LISTED);
            let begun = one.actions.iter().filter(is_since).filter_map(|step| step.task.clone());
            each.extend(begun.filter(|task| is_it(one, task)).map(|task| (task, one.what_now())));
        }
        each.dedup();
        each
    };
    let barred = since(&|one, task| one.no_way_back.contains(task));
    let unread = since(&|one, _| one.content.is_empty());
    match (barred.is_empty(), unread.is_empty()) {
        (false, _) => Approved::Barred(barred),
        (true, false) => Approved::Unread(unread),
        (true, true) => Approved::Holds(since(&|_, _| true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Time = Time::from_millis(100_000);

    fn deployed(execution: &str, at: u64) -> Record {
        let (stage, action, status) = ("Deploy".into(), "Deploy".into(), "Succeeded".into());
        let step = Step { stage, action, status, ended: Time::from_millis(at), ..Step::default() };
        Record { execution: execution.into(), status: "Succeeded".into(), actions: vec![step], ..Record::default() }
    }

    fn migrated(began: u64, no_way_back: &[&str]) -> Record {
        let step = Step { task: Some("migrate".into()), began: Time::from_millis(began), ..Step::default() };
        let no_way_back = no_way_back.iter().map(|&task| task.to_owned()).collect();
        let (execution, status, content) = ("new".into(), "InProgress".into(), "c".into());
        Record { execution, status, content, actions: vec![step.clone(), step], no_way_back, ..Record::default() }
    }

    #[test]
    fn what_was_approved_holds_unless_another_release_deployed_or_began_what_cannot_be_gone_back_behind() {
        let from = Runs { pipeline: "p".into(), execution: "runs".into(), began: ASKED, image: None };
        let what = "execution new, which goes on".to_owned();
        let migrate = vec![("migrate".to_owned(), what)];
        let ran = deployed("runs", 50_000);
        for (others, expected) in [
            (vec![], Approved::Holds(vec![])),
            (vec![deployed("before", 40_000)], Approved::Holds(vec![])),
            (vec![deployed("back", 110_000)], Approved::Holds(vec![])),
            (vec![deployed("since", 110_000)], Approved::Overtaken("execution since".into())),
            (vec![deployed("shown late", 99_500)], Approved::Overtaken("execution shown late".into())),
            (vec![migrated(94_999, &["migrate"])], Approved::Holds(vec![])),
            (vec![migrated(95_000, &["migrate"])], Approved::Barred(migrate.clone())),
            (vec![migrated(100_000, &["other"])], Approved::Holds(migrate.clone())),
            (vec![migrated(100_000, &["migrate"])], Approved::Barred(migrate.clone())),
            (vec![Record { content: String::new(), ..migrated(100_000, &[]) }], Approved::Unread(migrate.clone())),
        ] {
            let records: Vec<_> = others.into_iter().chain([ran.clone()]).collect();
            assert_eq!(decide(&records, Some(&from), "back", ASKED), expected);
        }
        let from_unknown = |at| decide(&[deployed("other", at)], None, "back", ASKED);
        assert_eq!(from_unknown(99_999), Approved::Holds(vec![]), "it ran before anybody was asked");
        assert_eq!(from_unknown(100_000), Approved::Overtaken("execution other".into()));
        // What runs has no record that can be read any more.
        assert_eq!(decide(&[deployed("older", 10_000)], Some(&from), "back", ASKED), Approved::Holds(vec![]));
        assert_eq!(decide(&[], Some(&from), "back", ASKED), Approved::Holds(vec![]));
    }
}
