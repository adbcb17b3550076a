//! What every function of Cutover has in common: the job protocol and its loop, the manifest, the edges to AWS, and
//! the verdicts that people read.
//!
//! A function supplies a step ([`run`] calls it until it ends) and decides in pure code; everything here is about
//! asking AWS, being asked by CodePipeline, and answering exactly once.

mod answer;
pub mod artifact;
pub mod aws;
pub mod claim;
pub mod end;
pub mod error;
mod halt;
pub mod job;
pub mod journal;
pub mod lambda;
pub mod manifest;
pub mod metrics;
pub mod names;
pub mod record;
pub mod run;
pub mod survey;
pub mod targets;
pub mod text;
mod tick;
pub mod time;
pub mod token;
mod trouble;
pub mod workers;
pub mod yaml;

pub use answer::{Answer, Progress, Success};
pub use aws::Aws;
pub use error::{Error, Kind, Verdict};
pub use job::{Event, Job};
pub use journal::Journal;
pub use lambda::Invocation;
pub use manifest::Manifest;
pub use run::{run, run_beside, run_leniently};
pub use tick::{Next, Tick};
pub use time::{Clock, Time};
pub use trouble::Trouble;
