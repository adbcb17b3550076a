//! Prints how soon things are noticed, what that costs in calls, and what a release adds to its tasks' own durations:
//! `cargo run -p tests --bin figures`. All of it is in virtual time: it depends on decisions, and not on this machine.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::world::{ActionStatus, Start};
use shared::names::read_started_by;
use tests::laws::shape::{By, Place, Service, Shape};
use tests::{Call, Meddling, Script, Setting, Stage, play};

/// How many releases each figure comes from.
const RELEASES: u64 = 10;

/// How many lines a migration writes, and how long each takes.
const LINES: usize = 60;
const PACE: Duration = Duration::from_millis(1000);

fn main() {
    println!("environments  end noticed      line shown       calls a minute while migrations run, by function");
    for environments in [1, 10, 50] {
        let measured = measure(environments);
        println!(
            "{environments:>12}  {}  {}  {}",
            Spread(&measured.noticed),
            Spread(&measured.shown),
            measured
                .calls
                .iter()
                .map(|(function, calls)| format!("{function} {calls:.0}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    println!("\nThe end of a task of 1 to 20 minutes, noticed by who asks at intervals (mean, worst):");
    for (name, interval) in [("1 s", 1.0), ("6 s", 6.0), ("10 s", 10.0), ("15 s", 15.0)] {
        println!("  every {name:<28} {}", Spread(&watched(|_| interval)));
    }
    println!(
        "  the SDK's waiter (6 s, doubled up to 120 s) {}",
        Spread(&watched(|look| (6.0 * 2_f64.powi(look)).min(120.0)))
    );
    let (release, tasks, actions) = added();
    println!("\nThe actions of a release of the shop, in seconds: {}", actions.join(", "));
    println!(
        "A release of the shop takes {release:.1} s; its tasks, deployments and old workers alone take {tasks:.1} s: it adds {:.1} s",
        release - tasks
    );
}

/// Mean and worst, in seconds.
struct Spread<'a>(&'a [f64]);

impl std::fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let mean = self.0.iter().sum::<f64>() / self.0.len().max(1) as f64;
        let worst = self.0.iter().copied().fold(0.0, f64::max);
        write!(f, "{mean:5.1} s, {worst:5.1} s")
    }
}

#[derive(Default)]
struct Measured {
    /// How long after the last task's end its action had ended.
    noticed: Vec<f64>,
    /// How long after it was written each line was in the release's stream.
    shown: Vec<f64>,
    /// Calls a minute while migrations run, by function.
    calls: BTreeMap<String, f64>,
}

fn measure(environments: usize) -> Measured {
    let measured = RefCell::new(Measured::default());
    for seed in 0..RELEASES {
        let counted: Arc<Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();
        let counting = counted.clone();
        let meddle = move |call: &Call<'_>| {
            if let Ok(mut counts) = counting.lock() {
                counts.entry(call.function.to_owned()).or_default().push(call.at.millis());
            }
            Meddling::Pass
        };
        let shape = shape(environments);
        let setting = Setting {
            manifest: shape.manifest(),
            account: shape.account(),
            script: Box::new(script),
            meddle: Box::new(meddle),
            seed,
            ..Setting::default()
        };
        play(setting, async |stage| {
            let release = stage.start();
            stage.end(&release).await;
            let mut measured = measured.borrow_mut();
            let action = stage.action(&release, "Migrate");
            let lives = migrations(&stage);
            let ended = lives.iter().filter_map(|life| life.stopped).max().unwrap_or_default();
            measured.noticed.push(action.updated.since(ended).as_secs_f64());
            let written: BTreeMap<_, _> = lives
                .iter()
                .flat_map(|life| stage.world().lines_of_task(&life.arn))
                .map(|event| (event.message, event.at))
                .collect();
            for event in stage.events(&release) {
                let text = event.message.split_once(" | ").map_or("", |(_, text)| text);
                if let Some(at) = written.get(text) {
                    measured.shown.push(event.ingested.since(*at).as_secs_f64());
                }
            }
            let (from, to) = (action.started.millis(), ended.millis());
            #[expect(clippy::cast_precision_loss, reason = "counts and milliseconds")]
            for (function, times) in counted.lock().map(|counts| counts.clone()).unwrap_or_default() {
                let within = times.iter().filter(|at| (from..to).contains(at)).count() as f64;
                let minutes = (to - from) as f64 / 60_000.0;
                if within > 0.0 {
                    *measured.calls.entry(function).or_default() += within / minutes / RELEASES as f64;
                }
            }
        });
    }
    measured.into_inner()
}

fn migrations(stage: &Stage) -> Vec<local::world::Life> {
    let lives = stage.world().lives();
    lives
        .into_iter()
        .filter(|life| read_started_by(&life.started_by).is_some_and(|whose| whose.task == "migrate"))
        .collect()
}

fn shape(environments: usize) -> Shape {
    let regions = ["us-east-1", "eu-west-1", "us-west-2"];
    let place = |at: usize| Place { name: format!("e{at:02}"), region: regions[at % regions.len()], account: None };
    let by = By::CodeDeploy { barrier: true, termination: Duration::from_secs(60) };
    Shape {
        environments: (0..environments).map(place).collect(),
        services: vec![Service { name: "web".into(), worker: false, desired: 1, by }],
        lines: LINES,
        pace: PACE,
        steps_everywhere: false,
        shared_clusters: true,
        launches: false,
        runs_by_clock: false,
        timeout: tests::laws::shape::TIMEOUT,
    }
}

fn script(start: &Start) -> Script {
    if start.port.is_some() {
        return Script::service();
    }
    let id = start.task.rsplit('/').next().unwrap_or_default();
    let lines = if start.command.last().is_some_and(|last| last == "migrate") { LINES } else { 1 };
    // Tasks do not begin with the looks at them.
    let offset = Duration::from_millis(u64::from_str_radix(id.get(..4).unwrap_or("0"), 16).unwrap_or_default() % 1000);
    let line = |n| (if n == 0 { offset } else { PACE }, format!("line {n}, task {id}"));
    Script { lines: (0..lines).map(line).collect(), ..Script::task(0) }
}

/// How long after a task's end it is seen, by who waits so long before each look.
fn watched(pause: impl Fn(i32) -> f64) -> Vec<f64> {
    let ends = (0..2000).map(|at| 60.0 + f64::from(at) * 0.57);
    ends.map(|end| {
        let (mut now, mut look) = (0.0, 0);
        while now < end {
            now += pause(look);
            look += 1;
        }
        now - end
    })
    .collect()
}

/// How long a release of the shop takes, and how long its own tasks and deployments do, one after the other.
fn added() -> (f64, f64, Vec<String>) {
    let found = RefCell::new((0.0, 0.0, Vec::new()));
    play(Setting::default(), async |stage| {
        let release = stage.start();
        stage.end(&release).await;
        let actions = stage.actions(&release);
        let begun = actions.iter().map(|one| one.started).min().unwrap_or_default();
        let ended = actions.iter().filter(|one| one.status == ActionStatus::Succeeded).map(|one| one.updated).max();
        let mut tasks: BTreeMap<String, f64> = BTreeMap::new();
        for life in stage.world().lives() {
            let Some(whose) = read_started_by(&life.started_by) else { continue };
            let took = life.stopped.map_or(0.0, |at| at.since(life.created).as_secs_f64());
            let longest = tasks.entry(whose.task.to_owned()).or_default();
            *longest = longest.max(took);
        }
        // From the first old worker's being asked to end until the last one's end.
        let drain = actions.iter().find(|one| one.action == "Drain");
        let old = |life: &local::world::Life| {
            let (stopping, stopped) = life.stopping.zip(life.stopped)?;
            let is_drained = drain.is_some_and(|drain| stopped >= drain.started && stopped <= drain.updated);
            (life.service.is_some() && is_drained).then_some((stopping, stopped))
        };
        let ends: Vec<_> = stage.world().lives().iter().filter_map(old).collect();
        let asked = ends.iter().map(|(asked, _)| *asked).min();
        let last = ends.iter().map(|(_, stopped)| *stopped).max();
        let drained = asked.zip(last).map_or(0.0, |(asked, last)| last.since(asked).as_secs_f64());
        // From the first deployment's creation until the last traffic has moved.
        let spans = stage.world().spans_of_deployments();
        let first = spans.iter().map(|(_, created, _)| *created).min().unwrap_or_default();
        let moved = stage.world().milestones_of_deployments().into_iter().filter_map(|(_, _, moved)| moved).max();
        let deployed = moved.map_or(0.0, |moved| moved.since(first).as_secs_f64());
        let took = ended.unwrap_or_default().since(begun).as_secs_f64();
        let each = actions.iter().map(|one| (&one.action, one.updated.since(one.started).as_secs_f64()));
        let each = each.filter(|(_, took)| *took > 0.0).map(|(name, took)| format!("{name} {took:.1}")).collect();
        *found.borrow_mut() = (took, tasks.values().sum::<f64>() + deployed + drained, each);
    });
    found.into_inner()
}
