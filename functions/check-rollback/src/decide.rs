//! What lies between, from the records: pure.

use shared::artifact::Content;
use shared::record::{self, Record};

use crate::unrecorded::Unrecorded;

/// What was seen.
pub(crate) struct Seen<'a> {
    /// What is to run again.
    pub(crate) target: &'a Content,
    /// The records of all pipelines, the newest first.
    pub(crate) records: Vec<Record>,
    /// The releases that have begun tasks and have no record, or go on.
    pub(crate) unrecorded: Vec<Unrecorded>,
    /// The executions whose records cannot be read.
    pub(crate) unreadable: Vec<String>,
    /// Whether ECR has its image no more.
    pub(crate) image_is_gone: bool,
    /// The task that it is gone back behind all the same.
    pub(crate) behind: Option<String>,
}

/// What follows.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// It cannot be gone back to.
    Refused(Why),
    /// A person is asked.
    Between(Box<Between>),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its image is gone.
    ImageGone,
    /// These tasks, each with the release that began it, say that there is no way back behind them.
    NoWayBack(Vec<(String, String)>),
}

/// What lies between the release that runs and the one that is to run again.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Between {
    /// The record of the release that is to run again; none where there is none that can be read.
    pub(crate) target: Option<Record>,
    /// What runs.
    pub(crate) runs: Option<Record>,
    /// The releases since, the oldest first, whatever became of them.
    pub(crate) since: Vec<Record>,
    /// Those that have begun tasks and have no record yet.
    pub(crate) unrecorded: Vec<Unrecorded>,
    /// The executions whose records cannot be read.
    pub(crate) unreadable: Vec<String>,
    /// The task that it is gone back behind although there is no way.
    pub(crate) behind: Option<String>,
}

impl Between {
    /// Whether what is to run again runs.
    pub(crate) fn is_there(&self) -> bool {
        let both = self.target.as_ref().zip(self.runs.as_ref());
        both.is_some_and(|(target, runs)| target.content == runs.content)
    }

    /// The tasks that were begun since, each with its release, and that nobody undoes.
    pub(crate) fn tasks(&self) -> Vec<(&str, String)> {
        let recorded = self.since.iter().flat_map(|one| one.begun_tasks().into_iter().map(|task| (task, one.what())));
        let others = self.unrecorded.iter().flat_map(|one| one.tasks.iter().map(|task| (task.as_str(), one.what())));
        recorded.chain(others).collect()
    }
}

/// Decides.
pub(crate) fn decide(seen: &Seen<'_>) -> Decision {
    if seen.image_is_gone {
        return Decision::Refused(Why::ImageGone);
    }
    let is_it = |one: &&Record| !one.back && one.has_succeeded() && one.content == seen.target.hash;
    let target = seen.records.iter().find(is_it).cloned();
    // Of one without a record, all that were read may be later.
    let is_later = |one: &&Record| target.as_ref().is_none_or(|target| one.ended > target.ended);
    let since: Vec<_> = seen.records.iter().filter(|one| !one.back).filter(is_later).rev().cloned().collect();
    let barred = since.iter().flat_map(|one| one.no_way_back.iter().map(|task| (task.clone(), one.what())));
    let of_others =
        seen.unrecorded.iter().flat_map(|one| one.no_way_back.iter().map(|task| (task.clone(), one.what())));
    let barred: Vec<_> = barred.chain(of_others).filter(|(task, _)| seen.behind.as_ref() != Some(task)).collect();
    if !barred.is_empty() {
        return Decision::Refused(Why::NoWayBack(barred));
    }
    Decision::Between(Box::new(Between {
        target,
        runs: record::runs(&seen.records).cloned(),
        since,
        unrecorded: seen.unrecorded.clone(),
        unreadable: seen.unreadable.clone(),
        behind: seen.behind.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use shared::Time;
    use shared::manifest::Manifest;
    use shared::record::Step;

    use super::*;

    const MANIFEST: &str = include_str!("../../../examples/shop/deploy.yaml");

    fn content(hash: &str) -> Content {
        Content { manifest: Manifest::read("deploy.yaml", MANIFEST).unwrap(), image: None, hash: hash.into() }
    }

    /// A release that ended at this time, deployed this, and migrated.
    fn release(ended: u64, content: &str, status: &str, no_way_back: &[&str]) -> Record {
        let migrate = Step { task: Some("migrate".into()), ..Step::default() };
        Record {
            execution: format!("e-{ended}"),
            ended: Time::from_millis(ended),
            content: content.into(),
            status: status.into(),
            actions: vec![migrate],
            no_way_back: no_way_back.iter().map(|&task| task.to_owned()).collect(),
            ..Record::default()
        }
    }

    fn seen<'a>(target: &'a Content, records: Vec<Record>) -> Seen<'a> {
        Seen { target, records, unrecorded: Vec::new(), unreadable: Vec::new(), image_is_gone: false, behind: None }
    }

    #[test]
    fn what_lies_between_is_every_release_since_also_one_that_failed_after_its_migration() {
        let target = content("a");
        let back = Record { back: true, ..release(35, "a", "Succeeded", &[]) };
        let records = vec![
            release(40, "c", "Succeeded", &[]),
            back,
            release(30, "b", "Failed", &[]),
            release(20, "a", "Succeeded", &[]),
            release(10, "a", "Succeeded", &[]),
        ];
        let Decision::Between(between) = decide(&seen(&target, records)) else { panic!("refused") };
        assert_eq!(between.target.as_ref().unwrap().execution, "e-20", "the newest that deployed it");
        assert_eq!(between.runs.as_ref().unwrap().execution, "e-40");
        let tasks = [("migrate", "execution e-30".to_owned()), ("migrate", "execution e-40".to_owned())];
        assert_eq!(between.tasks(), tasks);
        assert!(!between.is_there());
    }

    #[test]
    fn there_is_no_way_back_behind_a_task_that_says_so_unless_it_is_named() {
        let target = content("a");
        let records = vec![release(30, "b", "Failed", &["migrate"]), release(20, "a", "Succeeded", &["migrate"])];
        let mut seen = seen(&target, records);
        let barred = vec![("migrate".to_owned(), "execution e-30".to_owned())];
        assert_eq!(decide(&seen), Decision::Refused(Why::NoWayBack(barred.clone())));
        seen.behind = Some("other".into());
        assert_eq!(decide(&seen), Decision::Refused(Why::NoWayBack(barred)));
        seen.behind = Some("migrate".into());
        assert!(matches!(decide(&seen), Decision::Between(_)));
        seen.image_is_gone = true;
        assert_eq!(decide(&seen), Decision::Refused(Why::ImageGone));
    }

    #[test]
    fn a_release_that_goes_on_bars_the_way_as_one_that_has_ended_and_is_named() {
        let target = content("a");
        let mut seen = seen(&target, vec![release(20, "a", "Succeeded", &[])]);
        let (execution, tasks) = ("e-30".to_owned(), vec!["migrate".to_owned()]);
        seen.unrecorded =
            vec![Unrecorded { execution, goes_on: true, no_way_back: tasks.clone(), tasks, is_read: true }];
        let what = "execution e-30, which goes on".to_owned();
        assert_eq!(decide(&seen), Decision::Refused(Why::NoWayBack(vec![("migrate".into(), what.clone())])));
        seen.behind = Some("migrate".into());
        let Decision::Between(between) = decide(&seen) else { panic!("refused") };
        assert_eq!(between.tasks(), [("migrate", what)]);
    }

    #[test]
    fn without_a_record_of_it_a_person_is_asked_all_the_same_and_nothing_is_made_up() {
        let target = content("a");
        let mut seen = seen(&target, vec![release(30, "b", "Succeeded", &[])]);
        seen.unreadable = vec!["e-20".into()];
        let Decision::Between(between) = decide(&seen) else { panic!("refused") };
        assert_eq!((between.target.is_none(), between.since.len()), (true, 1), "what is known may be later");
        assert_eq!(between.unreadable, ["e-20"]);
        seen.records.push(release(25, "c", "Succeeded", &["migrate"]));
        assert!(matches!(decide(&seen), Decision::Refused(Why::NoWayBack(_))), "and bars the way");
    }
}
