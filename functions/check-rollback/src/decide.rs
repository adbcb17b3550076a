//! What lies between, from the records: pure.

use std::collections::BTreeSet;

use shared::Time;
use shared::artifact::Content;
use shared::record::{self, Entry, History, Record};

/// What was seen.
pub(crate) struct Seen<'a> {
    /// What is to run again.
    pub(crate) target: &'a Content,
    /// The releases of all pipelines, also those that go on.
    pub(crate) history: History,
    /// Whether ECR has its image.
    pub(crate) image: ImageIs,
    /// The tasks that it is gone back behind all the same.
    pub(crate) behind: Vec<String>,
}

/// Where the image is of what is to run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageIs {
    /// ECR has it, or it is none of ECR's.
    There,
    /// ECR has it no more.
    Gone,
    /// It may not be asked for; why.
    NotKnown(String),
}

/// The tasks that the variable names, `none` of them for none.
pub(crate) fn named(behind: &str) -> Vec<String> {
    let each = behind.split(',').map(str::trim).filter(|task| !task.is_empty() && *task != "none");
    each.map(str::to_owned).collect()
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
    /// The release that built it never succeeded.
    NeverSucceeded(String),
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
    /// The executions whose records cannot be read.
    pub(crate) unreadable: Vec<String>,
    /// The tasks that it is gone back behind although there is no way.
    pub(crate) behind: Vec<String>,
    /// Why it is not known whether the image is still there.
    pub(crate) image_not_known: Option<String>,
}

impl Between {
    /// Whether what is to run again runs.
    pub(crate) fn is_there(&self) -> bool {
        let both = self.target.as_ref().zip(self.runs.as_ref());
        both.is_some_and(|(target, runs)| target.content == runs.content)
    }

    /// The tasks that were begun since, each with its release, and that nobody undoes.
    pub(crate) fn tasks(&self) -> Vec<(&str, String)> {
        self.since.iter().flat_map(|one| one.begun_tasks().into_iter().map(|task| (task, one.what_now()))).collect()
    }

    /// What the releases since have deployed that is not among these: nothing brings that back.
    pub(crate) fn stay(&self, deploys: &[String]) -> Vec<String> {
        let had_traffic = self.since.iter().chain(&self.runs).filter(|one| one.deployed_at().is_some());
        let services =
            had_traffic.flat_map(|one| &one.services).map(|one| format!("{}/{}", one.environment, one.service));
        let stay: BTreeSet<_> = services.filter(|name| !deploys.contains(name)).collect();
        stay.into_iter().collect()
    }

    /// How many of the releases since had the traffic.
    pub(crate) fn deployed_since(&self) -> usize {
        self.since.iter().filter(|one| one.deployed_at().is_some()).count()
    }

    /// The releases since that have begun tasks, and of which nobody can say whether there is a way back behind them.
    pub(crate) fn unread(&self) -> Vec<String> {
        let is_unread = |one: &&Record| one.content.is_empty() && !one.begun_tasks().is_empty();
        self.since.iter().filter(is_unread).map(Record::what_now).collect()
    }
}

/// Whether these records, the newest, tell all that lies between: what is to run again is among them, and what runs; and those that are not
/// were written, the newest of them then, before that one began.
pub(crate) fn is_enough(records: &[Record], target: &str, unread: Time) -> bool {
    let found = records.iter().find(|one| !one.back && one.has_succeeded() && one.content == target);
    found.is_some_and(|found| unread < found.began) && record::runs(records).is_some()
}

/// Decides.
pub(crate) fn decide(seen: &Seen<'_>) -> Decision {
    let image_not_known = match &seen.image {
        ImageIs::There => None,
        ImageIs::Gone => return Decision::Refused(Why::ImageGone),
        ImageIs::NotKnown(why) => Some(why.clone()),
    };
    let records = &seen.history.records;
    let is_it = |one: &&Record| !one.back && one.has_succeeded() && one.content == seen.target.hash;
    let target = records.iter().find(is_it).cloned();
    // Its artifact was not kept: somebody named the one of its build.
    if target.is_none()
        && let Some(failed) = records.iter().find(|one| !one.back && one.content == seen.target.hash)
    {
        return Decision::Refused(Why::NeverSucceeded(failed.what_now()));
    }
    // Of one without a record, all that were read may be later.
    // What came and went while it drained its workers is later, too.
    let got_traffic = target.as_ref().map(|target| target.deployed_at().unwrap_or(target.ended));
    let own = target.as_ref().map(|target| target.execution.clone());
    let is_later = |one: &&Record| got_traffic.is_none_or(|at| one.ended > at) && own.as_ref() != Some(&one.execution);
    let since: Vec<_> = records.iter().filter(|one| !one.back).filter(is_later).rev().cloned().collect();
    let of_each = |one: &Record| {
        let what = one.what_now();
        one.no_way_back.iter().map(move |task| (task.clone(), what.clone())).collect::<Vec<_>>()
    };
    let barred: Vec<_> = since.iter().flat_map(of_each).filter(|(task, _)| !seen.behind.contains(task)).collect();
    if !barred.is_empty() {
        return Decision::Refused(Why::NoWayBack(barred));
    }
    Decision::Between(Box::new(Between {
        target,
        runs: record::runs(records).cloned(),
        since,
        unreadable: seen.history.unreadable.iter().map(Entry::execution).map(str::to_owned).collect(),
        behind: seen.behind.clone(),
        image_not_known,
    }))
}

#[cfg(test)]
mod tests {
    use shared::manifest::Manifest;
    use shared::record::{Deployed, Step};

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
        let history = History { records, unreadable: Vec::new() };
        Seen { target, history, image: ImageIs::There, behind: Vec::new() }
    }

    #[test]
    fn what_was_written_since_a_release_began_is_read_before_it_is_gone_back_to() {
        let at = Time::from_millis;
        let target = Record { began: at(1000), ..release(9000, "a", "Succeeded", &[]) };
        let runs = release(9500, "b", "Succeeded", &[]);
        for (records, unread, expected) in [
            (vec![runs.clone(), target.clone()], 900, true),
            // It was tried again, or drained for hours: what ended before it was written before it, and lies between all the same.
            (vec![runs.clone(), target.clone()], 5000, false),
            (vec![runs], 900, false),
        ] {
            assert_eq!(is_enough(&records, "a", at(unread)), expected, "{unread}");
        }
    }

    #[test]
    fn what_only_a_later_release_has_deployed_stays_on_it() {
        let service = |environment: &str, service: &str| Deployed {
            environment: environment.into(),
            service: service.into(),
            ..Deployed::default()
        };
        let word = |word: &str| word.to_owned();
        let deploys =
            Step { stage: word("Deploy"), action: word("Deploy"), status: word("Succeeded"), ..Step::default() };
        let later = Record {
            services: vec![service("us", "web"), service("ap", "web")],
            actions: vec![deploys],
            ..release(3, "b", "Succeeded", &[])
        };
        let between = Between { runs: Some(later.clone()), since: vec![later], ..Between::default() };
        assert_eq!(between.stay(&["us/web".into(), "eu/web".into()]), ["ap/web"]);
        assert_eq!(between.stay(&["us/web".into(), "ap/web".into()]), [""; 0]);
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
        seen.behind = named("other");
        assert_eq!(decide(&seen), Decision::Refused(Why::NoWayBack(barred)));
        seen.behind = named(" other, migrate");
        assert!(matches!(decide(&seen), Decision::Between(_)));
        seen.image = ImageIs::Gone;
        assert_eq!(decide(&seen), Decision::Refused(Why::ImageGone));
        seen.image = ImageIs::NotKnown("refused".into());
        let Decision::Between(between) = decide(&seen) else { panic!("refused") };
        assert_eq!(between.image_not_known.as_deref(), Some("refused"), "a person decides");
    }

    #[test]
    fn behind_several_tasks_it_is_gone_back_when_all_of_them_are_named() {
        let target = content("a");
        let both = release(30, "b", "Succeeded", &["migrate", "finish"]);
        let mut seen = seen(&target, vec![both, release(20, "a", "Succeeded", &[])]);
        let left = |seen: &Seen<'_>| match decide(seen) {
            Decision::Refused(Why::NoWayBack(tasks)) => tasks.into_iter().map(|(task, _)| task).collect(),
            Decision::Refused(Why::ImageGone | Why::NeverSucceeded(_)) | Decision::Between(_) => Vec::new(),
        };
        for (behind, expected) in
            [("none", vec!["migrate", "finish"]), ("finish", vec!["migrate"]), ("finish,migrate", vec![])]
        {
            seen.behind = named(behind);
            assert_eq!(left(&seen), expected, "{behind}");
        }
    }

    #[test]
    fn a_release_that_goes_on_bars_the_way_as_one_that_has_ended_and_is_named() {
        let target = content("a");
        let goes_on = release(30, "b", "InProgress", &["migrate"]);
        let mut seen = seen(&target, vec![goes_on, release(20, "a", "Succeeded", &[])]);
        let what = "execution e-30, which goes on".to_owned();
        assert_eq!(decide(&seen), Decision::Refused(Why::NoWayBack(vec![("migrate".into(), what.clone())])));
        seen.behind = named("migrate");
        let Decision::Between(between) = decide(&seen) else { panic!("refused") };
        assert_eq!(between.tasks(), [("migrate", what.clone())]);
        assert!(between.unread().is_empty());
        seen.history.records[0].content.clear();
        let Decision::Between(between) = decide(&seen) else { panic!("refused") };
        assert_eq!(between.unread(), [what], "its manifest cannot be read");
    }

    #[test]
    fn what_runs_is_what_has_deployed_last_also_while_it_goes_on() {
        let target = content("a");
        let deployed = |record: Record, at: u64| {
            let (stage, action, status) = ("Deploy".into(), "Deploy".into(), "Succeeded".into());
            let ended = Time::from_millis(at);
            Record { actions: vec![Step { stage, action, status, ended, ..Step::default() }], ..record }
        };
        let goes_on = deployed(release(50, "c", "InProgress", &[]), 35);
        let back = Record { back: true, ..deployed(release(45, "b", "Succeeded", &[]), 40) };
        let earlier = deployed(release(30, "b", "Succeeded", &[]), 25);
        let first = deployed(release(20, "a", "Succeeded", &[]), 15);
        let runs = |records: Vec<Record>| match decide(&seen(&target, records)) {
            Decision::Between(between) => between.runs.unwrap().execution,
            Decision::Refused(why) => panic!("{why:?}"),
        };
        assert_eq!(runs(vec![goes_on.clone(), earlier.clone(), first.clone()]), "e-50");
        assert_eq!(runs(vec![goes_on, back, earlier, first]), "e-45", "it ended before, and deployed after");
    }

    #[test]
    fn what_was_built_and_never_succeeded_is_not_gone_back_to() {
        let target = content("b");
        let records = vec![release(30, "b", "Failed", &[]), release(20, "a", "Succeeded", &[])];
        assert_eq!(
            decide(&seen(&target, records.clone())),
            Decision::Refused(Why::NeverSucceeded("execution e-30".into()))
        );
        let again = [release(40, "b", "Succeeded", &[])].into_iter().chain(records).collect();
        assert!(matches!(decide(&seen(&target, again)), Decision::Between(_)), "a later release of it did");
    }

    #[test]
    fn without_a_record_of_it_a_person_is_asked_all_the_same_and_nothing_is_made_up() {
        let target = content("a");
        let mut seen = seen(&target, vec![release(30, "b", "Succeeded", &[])]);
        seen.history.unreadable = vec![Entry::Newer { execution: "e-20".into(), version: 9 }];
        let Decision::Between(between) = decide(&seen) else { panic!("refused") };
        assert_eq!((between.target.is_none(), between.since.len()), (true, 1), "what is known may be later");
        assert_eq!(between.unreadable, ["e-20"]);
        seen.history.records.push(release(25, "c", "Succeeded", &["migrate"]));
        assert!(matches!(decide(&seen), Decision::Refused(Why::NoWayBack(_))), "and bars the way");
    }
}
