//! Plays seeds and holds each play against the laws: `cargo run --profile laws -p tests --bin laws -- --seeds 1000`.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use tests::laws::cover::Cover;
use tests::laws::plan::Plan;
use tests::laws::samples::Samples;
use tests::laws::{Wanted, play, play_for, shrink};

/// Plays releases under faults that follow from seeds, and holds each against the laws.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed; a fresh one unless given.
    #[arg(long)]
    from: Option<u64>,
    /// How many at a time; as many as there are cores unless given.
    #[arg(long)]
    threads: Option<usize>,
    /// Prints the story of each.
    #[arg(long)]
    story: bool,
    /// Prints the hash of each one's story.
    #[arg(long)]
    hashes: bool,
    /// Writes requests and answers into this file, for `.ci/models`.
    #[arg(long)]
    record: Option<std::path::PathBuf>,
    /// Prints every sentence that was said, too.
    #[arg(long)]
    sentences: bool,
    /// Goes on after a law was broken, and does not shrink it.
    #[arg(long)]
    keep_going: bool,
    /// Ends with the first law that was broken, and does not shrink it.
    #[arg(long)]
    no_shrink: bool,
    /// Begins no other seed after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What a play makes of a panic is said with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let fresh = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() * 1_000_000)
    };
    let from = arguments.from.unwrap_or_else(fresh);
    let until = from.saturating_add(arguments.seeds);
    println!("seeds {from} to {}", until - 1);
    let threads = arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, calls) = (AtomicU64::new(from), AtomicU64::new(0));
    let (cover, broken) = (Mutex::new(Cover::default()), Mutex::new(Vec::new()));
    let samples = arguments.record.as_ref().map(|_| Samples::default());
    let wanted = Wanted { story: arguments.story, samples: samples.clone() };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = arguments.seconds.is_some_and(|most| begun.elapsed().as_secs() >= most);
                    if seed >= until || late {
                        return;
                    }
                    let plan = Plan::of(seed);
                    let played = play_for(&plan, &wanted);
                    calls.fetch_add(played.calls as u64, Ordering::Relaxed);
                    if arguments.hashes {
                        println!("{seed} {:016x}", played.hash);
                    }
                    if arguments.story {
                        tell(&plan, &played.story);
                    }
                    if let Ok(mut cover) = cover.lock() {
                        cover.add(played.cover);
                    }
                    for (law, why) in played.broken {
                        println!("\nseed {seed} breaks the law of `{law}`: {}", first_lines(&why, 12));
                        if let Ok(mut broken) = broken.lock() {
                            broken.push((seed, law));
                        }
                        if !arguments.keep_going {
                            next.store(until, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if let (Some(path), Some(samples)) = (&arguments.record, &samples) {
        match samples.write(path) {
            Ok(count) => println!("{count} calls are recorded in {}", path.display()),
            Err(error) => println!("{}: {error}", path.display()),
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let broken = broken.into_inner().unwrap_or_default();
    let cover = cover.into_inner().unwrap_or_default();
    let played: u32 = cover.endings.values().sum();
    println!("{cover}");
    if arguments.sentences {
        for (sentence, count) in &cover.sentences {
            println!("  {count:>7}  {sentence}");
        }
    }
    println!(
        "{played} releases, {} calls in {took:.1} s: {:.0} releases a minute on {threads} threads",
        calls.into_inner(),
        f64::from(played) * 60.0 / took
    );
    if !arguments.keep_going
        && !arguments.no_shrink
        && let Some((seed, law)) = broken.first()
    {
        let plan = shrink::shrink(&Plan::of(*seed), law);
        let played = play(&plan, true);
        println!("\nthe smallest play found that breaks `{law}`, of seed {seed}:");
        tell(&plan, &played.story);
        for (law, why) in played.broken {
            println!("breaks the law of `{law}`: {why}");
        }
    }
    match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => {
            println!("{} laws were broken: {broken:?}", broken.len());
            ExitCode::FAILURE
        }
    }
}

fn first_lines(text: &str, most: usize) -> String {
    text.lines().take(most).collect::<Vec<_>>().join("\n")
}

fn tell(plan: &Plan, story: &[String]) {
    let environments: Vec<_> =
        plan.shape.environments.iter().map(|place| format!("{} in {}", place.name, place.region)).collect();
    println!("environments: {}", environments.join(", "));
    println!("services: {:?}", plan.shape.services);
    for fault in &plan.faults {
        println!("fault: {fault}");
    }
    for line in story {
        println!("{line}");
    }
}
