//! Plays compute all the time: as many go on at once as there are processors, so that tests that wait for real processes find theirs
//! in time, and can be begun early.
//!
//! Invariant: who holds a turn waits for nobody else's.

use std::sync::{Condvar, Mutex, PoisonError};

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

/// A turn; dropped, it is the next one's.
pub(crate) struct Turn;

/// Waits for a turn.
pub(crate) fn take() -> Turn {
    let all = std::thread::available_parallelism().map_or(1, Into::into);
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = GIVEN_BACK.wait_while(taken, |taken| *taken >= all);
    *taken.unwrap_or_else(PoisonError::into_inner) += 1;
    Turn
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        GIVEN_BACK.notify_one();
    }
}
