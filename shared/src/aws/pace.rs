//! How often AWS is asked: evenly, per account and Region, and less often while it says "too often".

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Turns, handed out evenly, and a few at once after a pause: the first look of an invocation takes several calls, and
/// must not take as many turns' time. Being throttled doubles the distance between them, up to four times; each answer that
/// comes through takes a tenth of that back.
#[derive(Debug)]
pub struct Pacer {
    interval: Duration,
    burst: u32,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    next: Instant,
    stretch: f64,
}

/// How far throttling can stretch the distance between two turns: half a read a second goes on even then, since a target that
/// is not begun in ten minutes fails the release.
const MOST_STRETCH: f64 = 4.0;

impl Pacer {
    /// At most `per_second` turns a second in the long run, and `burst` more at once: as many are saved up while nobody asks.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let now = Instant::now();
        let next = now.checked_sub(interval * burst).unwrap_or(now);
        Self { interval, burst, turns: Mutex::new(Turns { next, stretch: 1.0 }) }
    }

    /// Waits for a turn, makes the call, and learns from its outcome.
    ///
    /// # Errors
    /// The call's own.
    pub async fn pace<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::sleep_until(self.reserve()).await;
        let outcome = call.await;
        self.learn(matches!(&outcome, Err(Error::Again(_))));
        outcome
    }

    fn reserve(&self) -> Instant {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // While throttled, nothing is saved up.
        let saved = if turns.stretch > 1.0 { Duration::ZERO } else { self.interval * self.burst };
        turns.next = turns.next.max(now.checked_sub(saved).unwrap_or(now));
        let turn = turns.next.max(now);
        // A twentieth of jitter either way: functions that started together must not ask together for ever.
        let distance = self.interval.mul_f64(turns.stretch * (0.95 + fastrand::f64() / 10.0));
        turns.next += distance;
        turn
    }

    fn learn(&self, throttled: bool) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let stretch = if throttled { turns.stretch * 2.0 } else { turns.stretch * 0.9 };
        turns.stretch = stretch.clamp(1.0, MOST_STRETCH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(pacer: &Pacer, calls: usize, outcome: Result<(), Error>) -> f64 {
        let begun = Instant::now();
        for _ in 0..calls {
            let _ = pacer.pace(async { outcome.clone() }).await;
        }
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_evenly_and_slow_down_only_while_throttled() {
        let pacer = Pacer::new(2.0, 4);
        let calm = seconds_for(&pacer, 21 + 4, Ok(())).await;
        assert!((9.5..=10.5).contains(&calm), "{calm}");
        let throttled = seconds_for(&pacer, 6, Err(Error::Again(String::new()))).await;
        // Three seconds while calm; at most twelve, since it slows down to a quarter.
        assert!((6.0..=12.6).contains(&throttled), "{throttled}");
        seconds_for(&pacer, 40, Ok(())).await;
        let again = seconds_for(&pacer, 20, Ok(())).await;
        assert!((7.0..10.6).contains(&again), "{again}");
    }
}
