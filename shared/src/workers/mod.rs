//! Workers that are started one by one: what was released of them, and what is known of those that run. `deploy-services`
//! writes the first, `launch-workers` the second; whoever shows workers to people reads both.
//!
//! Invariants: what is started is what was *released* in that environment, and never what was registered last (fact 52). What is
//! known of a kind is one object that is written only over the version that was read ([`ledger`]): however many functions are
//! at work, none starts what another one counts differently.

pub mod jobs;
pub mod ledger;
mod pointers;
mod released;
mod schedules;

pub use pointers::{Intended, Known, Pointers};
pub use released::{Kind, Released, Unregistered, kinds};
pub use schedules::{Planned, plan};
