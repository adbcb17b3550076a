//! Whether what a person approved still holds when the turn to go back comes: a release may have been merged meanwhile.
//!
//! Invariant: asked before anything is begun, never after; what cannot be known now is asked again.

use shared::aws::codepipeline::Codepipeline;
use shared::record::{History, Record, Store, runs};
use shared::targets::quick::Runs;
use shared::{Error, Tick, Time};

/// How many records of each pipeline are looked at: those of the time since a person was asked.
const MOST: usize = 15;

/// What has happened since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approved {
    /// It holds; these tasks were begun meanwhile, each with its release, and can be lived with.
    Holds(Vec<(String, String)>),
    /// Another release has the traffic.
    Overtaken(String),
    /// These tasks were begun meanwhile, and say that there is no way back behind them.
    Barred(Vec<(String, String)>),
}

/// Looks what has happened since a person was asked.
///
/// # Errors
/// The calls': not knowing, nothing begins.
pub(crate) async fn look(tick: &Tick<'_>, from: Option<&Runs>) -> Result<Approved, Error> {
    let Some(store) = Store::new(tick.aws) else { return Ok(Approved::Holds(Vec::new())) };
    let pipelines: Vec<_> = tick.aws.settings().pipelines.iter().map(String::as_str).collect();
    let siblings = Codepipeline::new(tick.aws).siblings(tick.release).await?;
    let asked = siblings.iter().filter(|one| one.category == "Approval").filter_map(|one| one.started).max();
    let history = History::look(tick.aws, &store, &pipelines, tick.now, MOST).await?;
    Ok(decide(&history.records, from, asked.unwrap_or(tick.begun)))
}

/// Decides.
fn decide(records: &[Record], from: Option<&Runs>, asked: Time) -> Approved {
    if let (Some(from), Some(runs)) = (from, runs(records))
        && runs.execution != from.execution
    {
        return Approved::Overtaken(runs.what_now());
    }
    let begun = |record: &Record| {
        let since = record.actions.iter().filter(|step| step.began >= asked).filter_map(|step| step.task.clone());
        let what = record.what_now();
        let mut each: Vec<_> = since.map(|task| (task, what.clone())).collect();
        each.dedup();
        each
    };
    let since = |is_barred: bool| {
        let each = records.iter().filter(|one| !one.back).flat_map(|one| {
            begun(one).into_iter().filter(move |(task, _)| one.no_way_back.contains(task) == is_barred)
        });
        each.collect::<Vec<_>>()
    };
    match since(true) {
        barred if barred.is_empty() => Approved::Holds(since(false)),
        barred => Approved::Barred(barred),
    }
}

#[cfg(test)]
mod tests {
    use shared::record::Step;

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
        let (execution, status) = ("new".into(), "InProgress".into());
        Record { execution, status, actions: vec![step.clone(), step], no_way_back, ..Record::default() }
    }

    #[test]
    fn what_was_approved_holds_unless_another_release_deployed_or_began_what_cannot_be_gone_back_behind() {
        let from = Runs { pipeline: "p".into(), execution: "runs".into(), began: ASKED };
        let what = "execution new, which goes on".to_owned();
        let migrate = vec![("migrate".to_owned(), what)];
        let ran = deployed("runs", 50_000);
        for (others, expected) in [
            (vec![], Approved::Holds(vec![])),
            (vec![deployed("before", 40_000)], Approved::Holds(vec![])),
            (vec![deployed("since", 110_000)], Approved::Overtaken("execution since".into())),
            (vec![migrated(99_999, &["migrate"])], Approved::Holds(vec![])),
            (vec![migrated(100_000, &["other"])], Approved::Holds(migrate.clone())),
            (vec![migrated(100_000, &["migrate"])], Approved::Barred(migrate.clone())),
        ] {
            let records: Vec<_> = others.into_iter().chain([ran.clone()]).collect();
            assert_eq!(decide(&records, Some(&from), ASKED), expected);
        }
        let unknown = decide(&[deployed("since", 110_000)], None, ASKED);
        assert_eq!(unknown, Approved::Holds(vec![]), "what ran was not known when it was approved");
        assert_eq!(decide(&[], Some(&from), ASKED), Approved::Holds(vec![]));
    }
}
