//! Everything that is tested beside the units: laws and scenarios in virtual time, and the shipped binaries for real.

mod binaries;
mod buildspecs;
mod console;
mod deployments;
mod docs;
mod generated;
mod halts;
mod kept;
mod launches;
mod laws;
mod logs;
mod notifications;
mod objects;
mod releases;
mod repeats;
mod rollouts;
mod scenarios;
mod tasks;
mod template;
mod verify;
mod ways_back;
mod workers;
mod world;
