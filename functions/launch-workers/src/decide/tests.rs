//! What is started and given, and what becomes of it, look after look.

use std::collections::BTreeSet;

use shared::aws::SHOWN;
use shared::aws::ecs::{Container, Overrides};
use shared::manifest::Manifest;
use shared::workers::jobs::ByClock;

use super::*;
use shared::workers::ledger::RETURNED;

use crate::follow::{refused, started};

const NOW: Time = Time::from_millis(10_000_000);

fn kind() -> Kind {
    let text = "application: shop\nenvironments: {us: {region: us-east-1, cluster: shop}}\n";
    let environment = Manifest::read("deploy.yaml", text).unwrap().environments["us"].clone();
    let (definition, container) = ("new".into(), "shop".into());
    let overrides = Overrides::default();
    Kind { definition, container, environment, overrides, most: 3, warm: 0, live: Some(300) }
}

fn job(id: &str) -> Waiting {
    let job = Job { worker: "exports".into(), environment: "us".into(), id: id.into(), by_clock: None };
    Waiting { job, taken: false }
}

fn by_clock(id: &str, overlap: Overlap, due: Time) -> Waiting {
    let run = ByClock { schedule: "nightly".into(), due, overlap, within: 600 };
    let Waiting { job, taken } = job(id);
    Waiting { job: Job { by_clock: Some(run), ..job }, taken }
}

/// A place whose task runs since this many seconds.
fn place(task: &str, seconds: u64, job: Option<&str>) -> Place {
    let since = NOW.before(Duration::from_secs(seconds));
    let job = job.map(|id| Held { id: id.into(), since, schedule: None });
    let (definition, task) = ("new".into(), Some(task.into()));
    Place {
        start: 0,
        asked: since,
        unseen: None,
        definition,
        container: Some("shop".into()),
        task,
        started: Some(since),
        job,
    }
}

fn task(arn: &str, last_status: &str, started: bool, exit_code: Option<i32>) -> (String, Task) {
    let container = Container { name: "shop".into(), exit_code, reason: None };
    let task = Task {
        arn: arn.into(),
        last_status: last_status.into(),
        started: started.then_some(NOW),
        stop_code: exit_code.map(|_| "EssentialContainerExited".into()),
        stopped_reason: Some("CannotPullContainerError: no such image".into()),
        containers: vec![container],
        ..Task::default()
    };
    (arn.to_owned(), task)
}

fn runs(arn: &str) -> (String, Task) {
    task(arn, "RUNNING", true, None)
}

struct Scene {
    kind: Option<Kind>,
    tasks: BTreeMap<String, Task>,
    waiting: Vec<Waiting>,
    ledger: Ledger,
    is_released_now: bool,
}

fn scene(places: Vec<Place>, tasks: &[(String, Task)], waiting: Vec<Waiting>) -> Scene {
    let mut ledger = Ledger::begun(NOW, 7);
    ledger.places = places;
    Scene { kind: Some(kind()), tasks: tasks.iter().cloned().collect(), waiting, ledger, is_released_now: false }
}

impl Scene {
    fn decide(&mut self) -> Decided {
        self.decide_at(NOW)
    }

    fn decide_at(&mut self, now: Time) -> Decided {
        let ids: BTreeSet<String> = self.waiting.iter().map(|one| one.job.id.clone()).collect();
        let (kind, is_released_now) = (self.kind.as_ref(), self.is_released_now);
        let seen = Observation { now, kind, tasks: &self.tasks, ids: &ids, oldest: &self.waiting, is_released_now };
        decide(&seen, &mut self.ledger)
    }

    fn held(&self) -> Vec<Option<&str>> {
        self.ledger.places.iter().map(|place| place.job.as_ref().map(|job| job.id.as_str())).collect()
    }
}

fn settle(id: &str) -> Act {
    Act::Settle { id: id.into() }
}

#[test]
fn each_job_gets_a_worker_of_its_own_and_never_more_than_there_may_be() {
    let mut scene = scene(vec![place("t-1", 60, Some("0"))], &[runs("t-1")], ["1", "2", "3"].map(job).into());
    assert_eq!(scene.decide(), Decided::default());
    assert_eq!(scene.held(), [Some("0"), Some("1"), Some("2")], "`most` is 3: the third waits");
    let starts: Vec<_> = scene.ledger.starts.iter().map(|start| (start.number, start.count)).collect();
    assert_eq!(starts, [(0, 2)], "one call for both");
    let before = scene.ledger.clone();
    assert_eq!(scene.decide(), Decided::default());
    assert_eq!(scene.ledger, before, "looking again changes nothing");
}

#[test]
fn a_call_starts_at_most_ten() {
    let jobs = (0..25).map(|id| job(&format!("{id:02}"))).collect();
    let mut scene = scene(Vec::new(), &[], jobs);
    scene.kind = Some(Kind { most: 500, ..kind() });
    scene.decide();
    let counts: Vec<_> = scene.ledger.starts.iter().map(|start| start.count).collect();
    assert_eq!(counts, [10, 10, 5]);
}

#[test]
fn an_idle_worker_takes_a_job_at_once_unless_it_is_about_to_end() {
    for (age, older, expected, acts) in [
        (60, false, vec![Some("1")], vec![settle("1")]),
        (271, false, vec![None, Some("1")], vec![]),
        // One of the release before is given a job only when there is no room for one of this release.
        (60, true, vec![None, Some("1")], vec![]),
    ] {
        let mut scene = scene(vec![place("t-1", age, None)], &[runs("t-1")], vec![job("1")]);
        if older {
            scene.ledger.places[0].definition = "old".into();
        }
        let decided = scene.decide();
        assert_eq!((scene.held(), decided.acts), (expected, vec![]), "{age} {older}: it waits until that is written");
        assert_eq!(scene.decide().acts, [], "{age} {older}: it may be dead, and ECS not show it yet");
        assert_eq!(scene.decide_at(NOW.plus(SHOWN)).acts, acts, "{age} {older}");
    }
    let (arn, crashed) = runs("t-1");
    let ending = Task { desired_status: "STOPPED".into(), last_status: "DEPROVISIONING".into(), ..crashed };
    let mut ends = scene(vec![place("t-1", 60, None)], &[(arn, ending)], vec![job("1")]);
    assert_eq!((ends.decide().acts, ends.held()), (vec![], vec![None, Some("1")]), "one that ends takes none");
    let mut full = scene(vec![place("t-1", 60, None)], &[runs("t-1")], vec![job("1")]);
    full.ledger.places[0].definition = "old".into();
    full.kind = Some(Kind { most: 1, ..kind() });
    assert_eq!((full.decide().acts, full.held()), (vec![], vec![Some("1")]));
    assert_eq!(full.decide_at(NOW.plus(SHOWN)).acts, [settle("1")]);
}

#[test]
fn a_job_that_was_given_to_a_worker_that_had_just_died_gets_another_one() {
    let (arn, lives) = runs("t-1");
    for (died, is_taken) in [(-5, false), (1, false), (10, true)] {
        let mut scene = scene(vec![place("t-1", 60, None)], &[(arn.clone(), lives.clone())], vec![job("1")]);
        scene.decide();
        assert_eq!(scene.held(), [Some("1")]);
        let stopped = Some(Time::from_millis(NOW.millis().saturating_add_signed(died * 1000)));
        let (_, over) = task("t-1", "STOPPED", true, Some(137));
        scene.tasks.insert(arn.clone(), Task { stopped, ..over });
        let acts = scene.decide_at(NOW.plus(SHOWN)).acts;
        match is_taken {
            true => assert_eq!((acts, scene.held()), (vec![settle("1")], vec![]), "{died}"),
            // Its place is free, and a new worker is started for it.
            false => assert_eq!((acts, scene.held()), (vec![], vec![Some("1")]), "{died}"),
        }
        assert_eq!(scene.ledger.starts.len(), usize::from(!is_taken), "{died}");
    }
}

#[test]
fn a_worker_that_has_ended_before_its_other_containers_ran_has_worked() {
    let ended = |reason: Option<&str>, of: &str| {
        let (arn, task) = task("t-1", "STOPPED", false, Some(0));
        let worker = Container { name: of.into(), exit_code: Some(0), reason: reason.map(str::to_owned) };
        let sidecar = Container { name: "sidecar".into(), exit_code: None, reason: None };
        (arn, Task { containers: vec![worker, sidecar], ..task })
    };
    for (task, has_worked) in [
        (ended(None, "shop"), true),
        (ended(None, "router"), false),
        (ended(Some("CannotStartContainerError: no such file"), "shop"), false),
    ] {
        let begun = Place { started: None, ..place("t-1", 60, Some("1")) };
        let mut scene = scene(vec![begun], &[task], vec![job("1")]);
        assert_eq!(scene.decide().acts.contains(&settle("1")), has_worked);
    }
}

#[test]
fn as_many_are_kept_warm_as_there_shall_be_within_most_and_of_the_released_version() {
    let old = |place: Place| Place { definition: "old".into(), ..place };
    for (places, expected) in [
        (vec![], 2),
        (vec![place("t-1", 60, None)], 1),
        (vec![place("t-1", 60, None), place("t-2", 60, None)], 0),
        (vec![place("t-1", 290, None)], 2),
        (vec![old(place("t-1", 60, None))], 2),
        (vec![place("t-1", 60, Some("0"))], 2),
        (vec![place("t-1", 60, Some("0")), place("t-2", 60, Some("1"))], 1),
    ] {
        let tasks: Vec<_> = places.iter().filter_map(|place| place.task.as_deref()).map(runs).collect();
        let mut scene = scene(places, &tasks, Vec::new());
        scene.kind = Some(Kind { warm: 2, ..kind() });
        scene.decide();
        let started: usize = scene.ledger.starts.iter().map(|start| start.count).sum();
        assert_eq!(started, expected, "{:?}", scene.ledger.places);
    }
}

#[test]
fn a_job_waits_until_its_worker_runs_and_then_no_longer() {
    let starting = Place { started: None, ..place("t-1", 5, Some("1")) };
    let mut scene = scene(vec![starting], &[task("t-1", "PENDING", false, None)], vec![job("1")]);
    assert_eq!(scene.decide(), Decided::default());
    scene.tasks = [runs("t-1")].into();
    assert_eq!(scene.decide().acts, [settle("1")]);
    // Whoever has said so may have died before the place was given up.
    scene.tasks = [task("t-1", "STOPPED", true, Some(0))].into();
    let decided = scene.decide();
    assert_eq!((decided.acts, scene.held()), (vec![settle("1")], vec![]));
    assert!(matches!(decided.news.as_slice(), [News::Done { .. }]));
}

#[test]
fn a_worker_that_cannot_start_is_tried_again_after_a_pause_and_then_its_job_is_given_up() {
    let starting = || Place { started: None, ..place("t-1", 5, Some("1")) };
    let dead = task("t-1", "STOPPED", false, None);
    let mut scene = scene(vec![starting()], &[dead], vec![job("1")]);
    for times in 1..=3 {
        let decided = scene.decide();
        assert!(matches!(decided.news.as_slice(), [News::NotStarted { why, .. }] if why.contains("no such image")));
        assert_eq!(scene.ledger.failed["1"].times, times);
        assert_eq!(scene.held(), Vec::<Option<&str>>::new(), "not before the pause is over");
        if times < 3 {
            assert_eq!(decided.acts, []);
            scene.ledger.no_room = None;
            scene.ledger.places = vec![starting()];
        } else {
            assert!(
                matches!(decided.acts.as_slice(), [Act::Leave { why: Left::Impossible(why), .. }] if why.contains("3 times"))
            );
        }
    }
}

#[test]
fn a_job_whose_worker_finds_no_room_waits_for_it_also_where_a_capacity_provider_says_so_late() {
    let starting = || Place { started: None, ..place("t-1", 5, Some("1")) };
    let (arn, task) = task("t-1", "STOPPED", false, None);
    let dead = (arn, Task { stopped_reason: Some("RESOURCE:MEMORY".into()), ..task });
    let mut scene = scene(vec![starting()], &[dead], vec![job("1")]);
    for _ in 1..=5 {
        let decided = scene.decide();
        assert!(matches!(decided.news.as_slice(), [News::NotStarted { .. }]));
        assert_eq!((decided.acts, scene.ledger.failed.len()), (vec![], 0));
        assert!(scene.ledger.no_room.take().is_some(), "nothing is started for a while");
        scene.ledger.places = vec![starting()];
    }
}

#[test]
fn a_task_that_ecs_does_not_show_is_there_for_five_minutes_and_its_job_is_never_given_twice() {
    let since = |seconds| Some(NOW.before(Duration::from_secs(seconds)));
    let unseen = |seconds| Place { started: None, unseen: since(seconds), ..place("t-1", 3600, Some("1")) };
    let mut young = scene(vec![unseen(299)], &[], vec![job("1")]);
    assert_eq!((young.decide(), young.held()), (Decided::default(), vec![Some("1")]));
    let mut old = scene(vec![unseen(301)], &[], vec![job("1")]);
    assert_eq!((old.decide().acts, old.held()), (vec![settle("1")], vec![]));
    // One answer without it says nothing of a worker that has run for long.
    let mut once = scene(vec![place("t-1", 3600, Some("1"))], &[], vec![]);
    assert_eq!((once.decide(), once.held()), (Decided::default(), vec![Some("1")]));
    once.tasks = [runs("t-1")].into();
    once.decide();
    assert_eq!(once.ledger.places[0].unseen, None);
}

#[test]
fn a_run_by_the_clock_is_skipped_missed_or_started_and_never_given_to_an_idle_worker() {
    let due = NOW.before(Duration::from_secs(60));
    let late = NOW.before(Duration::from_secs(601));
    let last = Place {
        job: Some(Held { id: "0".into(), since: NOW, schedule: Some("nightly".into()) }),
        ..place("t-1", 60, None)
    };
    let idle = place("t-1", 60, None);
    for (places, run, expected) in [
        (vec![last.clone()], by_clock("1", Overlap::Skip, due), Some(Left::Skipped)),
        (vec![last], by_clock("1", Overlap::Allow, due), None),
        (vec![], by_clock("1", Overlap::Skip, late), Some(Left::Missed)),
        (vec![idle], by_clock("1", Overlap::Skip, due), None),
    ] {
        let mut scene = scene(places, &[runs("t-1")], vec![run.clone()]);
        let acts = scene.decide().acts;
        let starts: usize = scene.ledger.starts.iter().map(|start| start.count).sum();
        match expected {
            Some(why) => assert_eq!((acts, starts), (vec![Act::Leave { job: run.job, why }], 0)),
            None => assert_eq!((acts, starts), (vec![], 1), "{run:?}"),
        }
    }
    for (due, expected) in [(due, vec![]), (late, vec![Left::Missed])] {
        let run = by_clock("1", Overlap::Allow, due);
        let mut beside = Scene { is_released_now: true, ..scene(vec![], &[], vec![run.clone()]) };
        let left: Vec<_> = expected.into_iter().map(|why| Act::Leave { job: run.job.clone(), why }).collect();
        assert_eq!((beside.decide().acts, beside.ledger.starts), (left, vec![]), "a release runs it right now");
    }
    let both = vec![by_clock("1", Overlap::Skip, due), by_clock("2", Overlap::Skip, due)];
    let mut twice = scene(vec![], &[], both);
    assert!(matches!(twice.decide().acts.as_slice(), [Act::Leave { why: Left::Skipped, .. }]));
    assert_eq!(twice.held(), [Some("1")]);
}

#[test]
fn a_job_that_was_taken_before_is_taken_no_second_time() {
    let again = Waiting { taken: true, ..job("1") };
    let mut scene = scene(vec![], &[], vec![again.clone()]);
    assert_eq!(scene.decide().acts, [Act::Leave { job: again.job, why: Left::Taken }]);
    assert_eq!(scene.held(), Vec::<Option<&str>>::new());
}

#[test]
fn of_a_kind_that_is_no_more_those_that_run_go_on_and_nobody_else_starts() {
    let mut scene = scene(vec![place("t-1", 60, Some("0"))], &[runs("t-1")], vec![job("1")]);
    scene.kind = None;
    let decided = scene.decide();
    assert!(matches!(decided.acts.as_slice(), [Act::Leave { why: Left::Impossible(_), .. }]));
    assert_eq!((scene.held(), scene.ledger.starts.len()), (vec![Some("0")], 0));
}

#[test]
fn without_room_places_are_given_up_and_it_is_tried_again_later_each_time() {
    let mut scene = scene(vec![], &[], vec![job("1"), job("2")]);
    scene.decide();
    started(&mut scene.ledger, 0, &["t-1".into()], &["RESOURCE:MEMORY".into()], NOW);
    assert_eq!((scene.held(), scene.ledger.starts.len()), (vec![Some("1")], 0));
    let pause = |ledger: &Ledger| ledger.no_room.as_ref().unwrap().until.since(NOW).as_secs();
    assert_eq!(pause(&scene.ledger), 5);
    scene.tasks = [runs("t-1")].into();
    scene.decide();
    assert_eq!(scene.ledger.starts.len(), 0, "not before the pause is over");
    for expected in [10, 20, 40, 50, 50] {
        started(&mut scene.ledger, 9, &[], &["RESOURCE:MEMORY".into()], NOW);
        assert_eq!(pause(&scene.ledger), expected);
    }
    started(&mut scene.ledger, 9, &["t-2".into()], &[], NOW);
    assert_eq!(scene.ledger.no_room, None);
}

/// A worker that AWS has taken away while it ran, as `has` says.
fn taken(arn: &str, has: bool) -> (String, Task) {
    let (arn, task) = task(arn, "STOPPED", has, has.then_some(143));
    (arn, Task { stop_code: Some("SpotInterruption".into()), ..task })
}

#[test]
fn one_comes_for_a_job_whose_worker_was_taken_away_whatever_becomes_of_the_first_that_is_started_for_it() {
    // Its job waits here no longer, or was seen to be taken in the same look; one without a job may have taken one from the broker.
    for (job_of_it, waiting) in [(Some("1"), vec![]), (Some("1"), vec![job("1")]), (None, vec![])] {
        let mut scene = scene(vec![place("t-1", 60, job_of_it)], &[taken("t-1", true)], waiting);
        scene.decide();
        scene.waiting.clear();
        assert_eq!((scene.held(), scene.ledger.owed), (vec![None], 1), "{job_of_it:?}");
        scene.decide();
        assert_eq!(scene.held(), [None], "one is on its way");
        // It found no room.
        started(&mut scene.ledger, 0, &[], &["Capacity is unavailable at this time".into()], NOW);
        scene.decide();
        assert_eq!(scene.held(), Vec::<Option<&str>>::new(), "not before the pause is over");
        let later = NOW.plus(Duration::from_secs(60));
        scene.decide_at(later);
        assert_eq!(scene.held(), [None]);
        // It was taken away before it ran.
        started(&mut scene.ledger, 1, &["t-2".into()], &[], later);
        scene.tasks = [taken("t-2", false)].into();
        scene.decide_at(later);
        let again = later.plus(Duration::from_secs(60));
        scene.decide_at(again);
        assert_eq!(scene.held(), [None]);
        started(&mut scene.ledger, 2, &["t-3".into()], &[], again);
        scene.tasks = [runs("t-3")].into();
        scene.decide_at(again);
        assert_eq!((scene.held(), scene.ledger.owed), (vec![Some(RETURNED)], 0), "it has come");
        scene.decide_at(again.plus(Duration::from_secs(600)));
        assert_eq!(scene.ledger.starts.len(), 0, "and no other one");
        // It works on what it has come for: who asks for something else gets a worker of its own.
        scene.waiting = vec![job("2")];
        scene.decide_at(again);
        assert_eq!(scene.held(), [Some(RETURNED), Some("2")]);
        scene.waiting.clear();
        scene.tasks = [taken("t-3", true)].into();
        scene.decide_at(again);
        assert_eq!((scene.held(), scene.ledger.owed), (vec![Some("2"), None], 1), "it was taken away, too");
        scene.ledger.places.clear();
        scene.decide_at(again.plus(Duration::from_secs(7 * 3600)));
        assert_eq!((scene.held(), scene.ledger.owed), (vec![], 0), "not for ever");
    }
    let clock = Held { id: "1".into(), since: NOW, schedule: Some("nightly".into()) };
    let run = Place { job: Some(clock), ..place("t-1", 60, None) };
    let mut scene = scene(vec![run], &[taken("t-1", true)], vec![]);
    scene.kind = Some(Kind { live: None, ..kind() });
    scene.decide();
    assert_eq!((scene.ledger.owed, scene.ledger.starts.len()), (0, 0), "no broker has the run of a schedule");
}

#[test]
fn a_start_that_is_refused_gives_up_its_places_and_names_its_jobs() {
    let mut scene = scene(vec![], &[], vec![job("1"), job("2")]);
    scene.kind = Some(Kind { warm: 1, ..kind() });
    scene.decide();
    assert_eq!(scene.held(), [Some("1"), Some("2"), None]);
    assert_eq!(refused(&mut scene.ledger, 0, NOW, "AccessDenied"), ["1", "2"]);
    assert_eq!((scene.held(), scene.ledger.starts.len()), (vec![], 0));
    scene.waiting.clear();
    scene.decide();
    assert_eq!(scene.ledger.starts.len(), 0, "also those that would wait are not tried without end");
}
