//! The calls of a play that change something, one after the other: what is tried at each of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Call, Meddling, Setting, play};
use local::world::ExecutionStatus;

/// What meddles with calls.
pub type Meddle = Box<dyn FnMut(&Call<'_>) -> Meddling + Send>;

/// Meddles with the `nth` call that changes something, of those that are meant.
pub fn at_write(nth: usize, with: Meddling, meant: fn(&Call<'_>) -> bool) -> Meddle {
    let seen = AtomicUsize::new(0);
    Box::new(move |call| {
        let counts = call.writes && meant(call) && seen.fetch_add(1, Ordering::Relaxed) == nth;
        if counts { with } else { Meddling::Pass }
    })
}

/// Of those calls, in a release that nothing disturbs: the first and the last that each function makes of each operation, by
/// their place among all. Those between are alike; the laws meddle with any (docs/laws.md).
#[must_use]
pub fn telling_writes(setting: Setting, meant: fn(&Call<'_>) -> bool) -> Vec<usize> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let meddle = move |call: &Call<'_>| {
        if call.writes && meant(call) {
            let mut seen = sink.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((call.function.to_owned(), call.operation.to_owned()));
        }
        Meddling::Pass
    };
    play(Setting { meddle: Box::new(meddle), ..setting }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
    });
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let is_end = |at: &usize| !seen[..*at].contains(&seen[*at]) || !seen[at + 1..].contains(&seen[*at]);
    (0..seen.len()).filter(is_end).collect()
}
