//! The worker with real processes, as PID 1 of a namespace where this machine allows it and as a child everywhere.
//!
//! Nothing here sleeps to let something happen: what is expected is waited for, and its absence for too long is the failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod agent;
mod health;
mod lives;
mod protection;
mod reaping;
mod signals;
mod stage;
mod starts;
