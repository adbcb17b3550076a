//! AWS on one machine, and the command that runs a release on it.
//!
//! [`world`] is one pure state machine: requests and happenings go in with the time, responses and effects come out.
//! [`real`] carries the effects out with processes, ports and HTTP on loopback; the tests do it with scripts in virtual
//! time. Neither the world nor the functions can tell the difference.

pub mod account;
pub mod check;
pub mod cli;
pub mod clock;
mod cloud;
pub mod console;
mod init;
pub mod local_yaml;
mod mistakes;
pub mod real;
pub mod reference;
pub mod releases;
pub mod show;
pub mod template;
pub mod verify;
mod workers;
pub mod world;

/// What is wrong with what a person gave: one clear message, with its place and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake(pub String);

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

impl From<shared::yaml::Mistake> for Mistake {
    fn from(mistake: shared::yaml::Mistake) -> Self {
        Self(mistake.to_string())
    }
}
