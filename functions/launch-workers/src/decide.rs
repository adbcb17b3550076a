//! Which workers to start, from what is seen: pure, total, clock-free.
//!
//! Invariants: there are never more places than `most`; a job has one place at most; a place is given up only when its task is
//! seen to be over and its job is no longer waited for. No worker is ever ended from here: nobody outside can know that one is
//! idle (AWS refuses to protect a task that is of no service), and each ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::Time;
use shared::aws::SHOWN;
use shared::aws::ecs::{Definition, Task};
use shared::end::{End, judge};
use shared::manifest::Overlap;
use shared::workers::Kind;
use shared::workers::jobs::Job;
use shared::workers::ledger::{Failed, Held, Ledger, NoRoom, Place, Start};

/// How many tasks one call starts (fact 17).
const A_CALL: usize = 10;

/// A worker that is about to end by itself is given no job: it may be gone before it takes it.
const LAST_MOMENTS: Duration = Duration::from_secs(30);

/// How long a task that ECS does not show is taken to be there all the same: longer than anything is shown late.
const GONE: Duration = Duration::from_secs(300);

/// How soon an idle worker takes what it is given, by the clocks of ECS and ours.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How often a worker that cannot start is tried for one job.
const TRIES: u32 = 3;

/// The first pause after a worker that could not start or found no room, doubled each time.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest such pause: the schedule looks once a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(50);

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) job: Job,
    /// Whether it was taken before: its message came again.
    pub(crate) taken: bool,
}

/// One look.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    pub(crate) now: Time,
    /// What was released; none when the release has no such worker any more.
    pub(crate) kind: Option<&'a Kind>,
    /// The tasks of the ledger that ECS shows.
    pub(crate) tasks: &'a BTreeMap<String, Task>,
    /// The ids of all jobs that wait, and the oldest of them whole.
    pub(crate) ids: &'a std::collections::BTreeSet<String>,
    pub(crate) oldest: &'a [Waiting],
}

/// What follows, beside what is written into the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// This job has its worker: it waits no longer. Before the ledger is written, since its place may be given up in there.
    Settle { id: String },
    /// Nobody will work on this one: afterwards.
    Leave { job: Job, why: Left },
}

/// Why a job is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was taken before.
    Taken,
    /// Its schedule's last run still goes on.
    Skipped,
    /// It could not begin in time.
    Missed,
    /// It cannot be done.
    Impossible(String),
}

/// Something that people should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A worker has ended as it should.
    Done { task: String, job: Option<Held> },
    /// A worker has ended otherwise.
    Failed { task: String, job: Option<Held>, why: String },
    /// A worker could not start.
    NotStarted { task: String, why: String },
}

/// What was decided: the ledger is what it was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) acts: Vec<Act>,
    pub(crate) news: Vec<News>,
}

/// Decides; what must be remembered goes into the ledger.
pub(crate) fn decide(seen: &Observation<'_>, ledger: &mut Ledger) -> Decided {
    let mut decided = Decided::default();
    follow(seen, ledger, &mut decided);
    ledger.failed.retain(|id, _| seen.ids.contains(id));
    if ledger.no_room.as_ref().is_some_and(|none| none.until <= seen.now) && seen.ids.is_empty() {
        ledger.no_room = None;
    }
    let Some(kind) = seen.kind else {
        let why = "the release that runs in this environment has no such worker";
        let gone = |one: &Waiting| Act::Leave { job: one.job.clone(), why: Left::Impossible(why.into()) };
        decided.acts.extend(seen.oldest.iter().filter(|one| place_of(ledger, &one.job.id).is_none()).map(gone));
        return decided;
    };
    let mut wanted: Vec<Option<Held>> = give_jobs(seen, kind, ledger, &mut decided);
    let room = |wanted: &[Option<Held>], ledger: &Ledger| ledger.places.len() + wanted.len() < most(kind);
    let idle = ledger.places.iter().filter(|place| is_warm(place, kind, seen.now) && !is_ending(place, seen)).count();
    let starting = idle + wanted.iter().filter(|job| job.is_none()).count();
    let mut missing = usize::try_from(kind.warm).unwrap_or_default().saturating_sub(starting);
    while missing > 0 && !is_pausing(ledger, seen.now) && room(&wanted, ledger) {
        wanted.push(None);
        missing -= 1;
    }
    for some in wanted.chunks(A_CALL) {
        start(seen.now, kind, some, ledger);
    }
    decided
}

fn most(kind: &Kind) -> usize {
    usize::try_from(kind.most).unwrap_or(usize::MAX)
}

fn place_of<'a>(ledger: &'a Ledger, id: &str) -> Option<&'a Place> {
    ledger.places.iter().find(|place| place.job.as_ref().is_some_and(|job| job.id == id))
}

/// Since there was no room, or workers could not start: each try costs a call, and changes nothing by itself.
fn is_pausing(ledger: &Ledger, now: Time) -> bool {
    ledger.no_room.as_ref().is_some_and(|none| none.until > now)
}

/// What became of each place's task.
fn follow(seen: &Observation<'_>, ledger: &mut Ledger, decided: &mut Decided) {
    let mut kept = Vec::new();
    for mut place in std::mem::take(&mut ledger.places) {
        let Some(arn) = place.task.clone() else {
            kept.push(place);
            continue;
        };
        let task = seen.tasks.get(&arn);
        let started = task.and_then(|task| task.started);
        place.started = place.started.or(started);
        place.unseen = if task.is_none() { place.unseen.or(Some(seen.now)) } else { None };
        let is_gone = place.unseen.is_some_and(|since| seen.now.since(since) > GONE);
        // ECS does not call a task started whose worker has ended before its other containers ran. One that nobody has seen start, and
        // that ECS has forgotten, may have worked: never two for one job.
        let has_worked = place.started.is_some() || is_gone || task.is_some_and(|task| has_run(task, &place));
        let is_over = task.is_some_and(Task::is_over);
        match takes(&place, task, seen) {
            Takes::Job(job) if has_worked && seen.ids.contains(&job.id) => {
                decided.acts.push(Act::Settle { id: job.id.clone() });
            }
            // It waits for another one.
            Takes::Nothing => place.job = None,
            Takes::Job(_) | Takes::Perhaps => {}
        }
        if !is_over && !is_gone {
            kept.push(place);
            continue;
        }
        let why = task.and_then(how_it_failed);
        let task = shared::aws::ecs::id(&arn).to_owned();
        match (has_worked, why) {
            (true, None) if place.started.is_none() => {
                let why = "ECS does not know it any more, and nobody has seen whether it worked".into();
                decided.news.push(News::Failed { task, job: place.job, why });
            }
            (true, None) => decided.news.push(News::Done { task, job: place.job }),
            (true, Some(why)) => decided.news.push(News::Failed { task, job: place.job, why }),
            (false, why) => {
                let why = why.unwrap_or_else(|| "it ended before it had started".into());
                decided.news.push(News::NotStarted { task, why: why.clone() });
                let times = match &place.job {
                    Some(job) => {
                        let times = ledger.failed.get(&job.id).map_or(1, |before| before.times + 1);
                        let failed = Failed { times, last: seen.now, why: why.clone() };
                        ledger.failed.insert(job.id.clone(), failed);
                        times
                    }
                    None => ledger.no_room.as_ref().map_or(1, |before| before.times + 1),
                };
                // The next one would end in the same way.
                pause(ledger, seen.now, times, why);
            }
        }
    }
    ledger.places = kept;
}

/// Whether the container that works has run.
fn has_run(task: &Task, place: &Place) -> bool {
    let is_it = |name: &String| place.container.as_ref() == Some(name);
    // A container that could not be created may have an exit code, too.
    let could_start = |reason: &Option<String>| reason.as_ref().is_none_or(|reason| !reason.starts_with("Cannot"));
    let mut all = task.containers.iter();
    all.any(|one| is_it(&one.name) && one.exit_code.is_some() && could_start(&one.reason))
}

/// What becomes of the job that a worker has.
enum Takes<'a> {
    /// It works on it, or will.
    Job(&'a Held),
    /// It has none, or was given one right now: ECS may not show yet that it has just died.
    Perhaps,
    /// It was over when it was given its job.
    Nothing,
}

fn takes<'a>(place: &'a Place, task: Option<&Task>, seen: &Observation<'_>) -> Takes<'a> {
    let Some(job) = &place.job else { return Takes::Perhaps };
    if job.since <= place.asked {
        // It was started for it.
        return Takes::Job(job);
    }
    let ended = task.and_then(|task| task.stopping.or(task.stopped));
    match ended {
        Some(ended) if ended <= job.since.plus(AT_ONCE) => Takes::Nothing,
        Some(_) => Takes::Job(job),
        None if seen.now.since(job.since) < SHOWN => Takes::Perhaps,
        None => Takes::Job(job),
    }
}

/// How a task that is over ended, when not well. Its definition is not asked for: a container that ends badly is worth a word,
/// essential or not.
fn how_it_failed(task: &Task) -> Option<String> {
    match judge(task, &Definition::default()) {
        End::Succeeded => None,
        End::Stopped => Some(format!("somebody stopped it: {}", task.stopped_reason.as_deref().unwrap_or("no reason"))),
        End::Failed { what, .. } => Some(what),
    }
}

/// No start for a while.
pub(crate) fn pause(ledger: &mut Ledger, now: Time, times: u32, why: String) {
    let length = PAUSE.saturating_mul(1 << (times.clamp(1, 5) - 1)).min(LONGEST_PAUSE);
    let since = ledger.no_room.as_ref().map_or(now, |before| before.since);
    ledger.no_room = Some(NoRoom { since, times, until: now.plus(length), why });
}

/// Gives jobs to workers that have none, and says for which ones new ones are needed.
fn give_jobs(seen: &Observation<'_>, kind: &Kind, ledger: &mut Ledger, decided: &mut Decided) -> Vec<Option<Held>> {
    let mut wanted: Vec<Option<Held>> = Vec::new();
    for Waiting { job, taken } in seen.oldest {
        let is_settled = decided.acts.contains(&Act::Settle { id: job.id.clone() });
        if is_settled || place_of(ledger, &job.id).is_some() {
            continue;
        }
        let schedule = job.by_clock.as_ref().map(|run| run.schedule.clone());
        let goes_on = |held: &&Held| held.schedule.is_some() && held.schedule == schedule;
        let of_places = ledger.places.iter().filter_map(|place| place.job.as_ref());
        let overlaps = of_places.chain(wanted.iter().flatten()).any(|held| goes_on(&held));
        let gave_up = ledger.failed.get(&job.id).filter(|failed| failed.times >= TRIES);
        let why = match &job.by_clock {
            _ if *taken => Some(Left::Taken),
            Some(run) if run.overlap == Overlap::Skip && overlaps => Some(Left::Skipped),
            Some(run) if run.is_missed(seen.now) => Some(Left::Missed),
            _ => gave_up.map(|failed| {
                Left::Impossible(format!(
                    "its worker could not start, {} times; the last time: {}",
                    failed.times, failed.why
                ))
            }),
        };
        if let Some(why) = why {
            decided.acts.push(Act::Leave { job: job.clone(), why });
            continue;
        }
        let held = Held { id: job.id.clone(), since: seen.now, schedule };
        // What runs by the clock is a task of its own.
        let may_share = held.schedule.is_none();
        let warm = |ledger: &Ledger, fits: &dyn Fn(&Place) -> bool| {
            let takes = |place: &Place| place.started.is_some() && !is_ending(place, seen) && fits(place);
            may_share.then(|| ledger.places.iter().position(takes)).flatten()
        };
        let full = ledger.places.len() + wanted.len() >= most(kind);
        let current = warm(ledger, &|place| is_warm(place, kind, seen.now));
        // One of the release before has the application's queue, too: better than none.
        let older = || warm(ledger, &|place| full && is_idle(place, kind, seen.now));
        if let Some(at) = current.or_else(older) {
            // It waits until the ledger says so: another function may write it first, and then this worker is not this job's.
            ledger.places[at].job = Some(held);
        } else if !full && !is_pausing(ledger, seen.now) {
            wanted.push(Some(held));
        }
    }
    wanted
}

/// Whether its task has crashed, was stopped or was interrupted, and is not over yet, or is not shown any more: it takes no job.
fn is_ending(place: &Place, seen: &Observation<'_>) -> bool {
    let task = place.task.as_ref().and_then(|arn| seen.tasks.get(arn));
    place.unseen.is_some() || task.is_some_and(|task| task.desired_status == "STOPPED" || task.stopping.is_some())
}

/// Whether it waits for a job, and will for a while.
fn is_idle(place: &Place, kind: &Kind, now: Time) -> bool {
    let age = now.since(place.started.unwrap_or(place.asked));
    let ends_soon = kind.live.is_some_and(|live| age + LAST_MOMENTS >= Duration::from_secs(live));
    place.job.is_none() && !ends_soon
}

/// The same, of the released version, or about to be.
fn is_warm(place: &Place, kind: &Kind, now: Time) -> bool {
    is_idle(place, kind, now) && place.definition == kind.definition
}

fn start(now: Time, kind: &Kind, jobs: &[Option<Held>], ledger: &mut Ledger) {
    let number = ledger.next;
    ledger.next += 1;
    ledger.starts.push(Start { number, asked: now, count: jobs.len(), kind: kind.clone() });
    let place = |job: &Option<Held>| Place {
        start: number,
        asked: now,
        unseen: None,
        definition: kind.definition.clone(),
        container: Some(kind.container.clone()),
        task: None,
        started: None,
        job: job.clone(),
    };
    ledger.places.extend(jobs.iter().map(place));
}

/// What a start has come to: its tasks have their places, and those without one are given up; the jobs of these wait on.
pub(crate) fn started(ledger: &mut Ledger, number: u64, tasks: &[String], reasons: &[String], now: Time) {
    let mut tasks = tasks.iter();
    ledger.starts.retain(|start| start.number != number);
    ledger.places.retain_mut(|place| {
        if place.start != number || place.task.is_some() {
            return true;
        }
        place.task = tasks.next().cloned();
        place.task.is_some()
    });
    if reasons.is_empty() {
        ledger.no_room = None;
    } else {
        let times = ledger.no_room.as_ref().map_or(1, |before| before.times + 1);
        pause(ledger, now, times, reasons.join(", "));
    }
}

/// A start that was refused: its places are given up, and nobody can work on their jobs. Their ids.
pub(crate) fn refused(ledger: &mut Ledger, number: u64, now: Time, why: &str) -> Vec<String> {
    let is_of = |place: &Place| place.start == number && place.task.is_none();
    let ids = ledger.places.iter().filter(|place| is_of(place)).filter_map(|place| place.job.as_ref());
    let ids: Vec<String> = ids.map(|job| job.id.clone()).collect();
    for id in &ids {
        // Whoever looks before they are in the queue of those that cannot be done starts nothing for them.
        ledger.failed.insert(id.clone(), Failed { times: TRIES, last: now, why: why.to_owned() });
    }
    ledger.starts.retain(|start| start.number != number);
    ledger.places.retain(|place| !is_of(place));
    let times = ledger.no_room.as_ref().map_or(1, |before| before.times + 1);
    pause(ledger, now, times, why.to_owned());
    ids
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::aws::ecs::{Container, Overrides};
    use shared::manifest::Manifest;
    use shared::workers::jobs::ByClock;

    use super::*;

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
    }

    fn scene(places: Vec<Place>, tasks: &[(String, Task)], waiting: Vec<Waiting>) -> Scene {
        let mut ledger = Ledger::begun(NOW, 7);
        ledger.places = places;
        Scene { kind: Some(kind()), tasks: tasks.iter().cloned().collect(), waiting, ledger }
    }

    impl Scene {
        fn decide(&mut self) -> Decided {
            self.decide_at(NOW)
        }

        fn decide_at(&mut self, now: Time) -> Decided {
            let ids: BTreeSet<String> = self.waiting.iter().map(|one| one.job.id.clone()).collect();
            let seen =
                Observation { now, kind: self.kind.as_ref(), tasks: &self.tasks, ids: &ids, oldest: &self.waiting };
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
            assert_eq!(
                (scene.held(), decided.acts),
                (expected, vec![]),
                "{age} {older}: it waits until that is written"
            );
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
}
