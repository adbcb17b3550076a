//! A play repeats: the same seed tells the same story, byte for byte, whatever was played before it and beside it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::cell::RefCell;
use std::time::Duration;

use tests::halt::all_late;
use tests::{Call, Meddling, SMALL, Setting, play};

/// A release whose calls have every kind of trouble, which a person stops in the middle; its story.
fn story(seed: u64) -> (u64, Vec<String>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let lateness = all_late(&mut random, Duration::from_secs(3));
    let stopped = Duration::from_secs(random.u64(20..200));
    let meddle = move |_: &Call<'_>| match random.u32(0..40) {
        0..4 => Meddling::Throttle,
        4..6 => Meddling::LoseReply,
        6 => Meddling::Unreachable,
        7 if random.u32(0..4) == 0 => Meddling::CrashAfter,
        _ => Meddling::Pass,
    };
    let (manifest, account) = match seed % 2 {
        0 => (SMALL.to_owned(), Setting::default().account),
        _ => (Setting::default().manifest, Setting::default().account),
    };
    let told = RefCell::new((0, Vec::new()));
    let setting =
        Setting { manifest, account, lateness, meddle: Box::new(meddle), seed, keep_story: true, ..Setting::default() };
    play(setting, async |stage| {
        let release = stage.start();
        let stopper = async {
            tokio::time::sleep(stopped).await;
            stage.stop(&release);
        };
        let (_, ()) = tokio::join!(stage.end_alone(&release), stopper);
        tokio::time::sleep(Duration::from_secs(120)).await;
        *told.borrow_mut() = (stage.story().hash(), stage.story().lines());
    });
    told.into_inner()
}

#[test]
fn the_same_seed_tells_the_same_story_in_any_order_and_on_any_thread() {
    let seeds = 0..if std::env::var_os("CUTOVER_EVERY_PLAY").is_some() { 6 } else { 2 };
    let first: Vec<_> = seeds.clone().map(story).collect();
    let beside = std::thread::spawn({
        let seeds = seeds.clone();
        move || seeds.rev().map(story).collect::<Vec<_>>()
    });
    let again: Vec<_> = seeds.clone().rev().map(story).collect();
    for other in [again, beside.join().unwrap()] {
        for (seed, (one, two)) in seeds.clone().zip(first.iter().zip(other.iter().rev())) {
            let differ = one.1.iter().zip(&two.1).find(|(one, two)| one != two);
            assert!(one.1.len() > 300, "seed {seed}: a story of {} lines", one.1.len());
            assert!(differ.is_none() && one.1.len() == two.1.len(), "seed {seed}: {differ:#?}");
            assert_eq!(one.0, two.0, "seed {seed}");
        }
    }
    let hashes: std::collections::BTreeSet<_> = first.iter().map(|(hash, _)| hash).collect();
    assert_eq!(hashes.len(), first.len(), "each seed has a story of its own");
}
