//! Sweeps: the same play with something at each of many calls, at each of many moments, or with each of many seeds.
//!
//! Invariant: what a run of the tests plays of a sweep is the same each time. It is a share of it, since all take some
//! minutes more and the laws meddle with any call at any moment (docs/laws.md); all are played with `CUTOVER_EVERY_PLAY=yes`, as CI does.

/// Of all plays of a sweep, one in so many, from the `first` on; where sweeps try different troubles at the same calls, each begins
/// elsewhere, so that they do not all try the same.
pub fn share<T>(all: impl IntoIterator<Item = T>, one_in: usize, first: usize) -> impl Iterator<Item = T> {
    let every = std::env::var_os("CUTOVER_EVERY_PLAY").is_some();
    let (one_in, first) = if every { (1, 0) } else { (one_in, first % one_in) };
    all.into_iter().skip(first).step_by(one_in)
}
