//! What is known of the workers of one kind in one environment: which tasks were started, and for which jobs.
//!
//! Invariant: it is written only over the version that was read (S3's `If-Match`), and a task is started only for a place that it
//! holds. The client token of a start follows from it, so that whoever repeats a start gets the same tasks (fact 18). Thus there
//! are never more tasks than places, and never two for one job, whoever dies where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::released::Kind;
use crate::error::{Error, Verdict};
use crate::time::Time;

/// The newest version.
const VERSION: u32 = 1;

/// What is known of a kind's workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    version: u32,
    /// When this ledger was begun, and by chance what: starts of another kind, or of one that was lost, have other tokens.
    pub begun: Time,
    nonce: u64,
    /// The role with which its tasks are looked at, as the last kind said.
    #[serde(default)]
    pub role: Option<String>,
    /// How often it was written, and by chance what by whom the last time: so that two writers never write the same, and each knows its own
    /// when the answer to a write was lost.
    #[serde(default)]
    pub writes: u64,
    #[serde(default)]
    writer: u64,
    /// The number of the next start.
    pub next: u64,
    /// The places that are held.
    #[serde(default)]
    pub places: Vec<Place>,
    /// Starts whose answer is not known yet.
    #[serde(default)]
    pub starts: Vec<Start>,
    /// Jobs whose worker could not start: how often, and why it was the last time.
    #[serde(default)]
    pub failed: BTreeMap<String, Failed>,
    /// Since when there has been no room.
    #[serde(default)]
    pub no_room: Option<NoRoom>,
    /// How many workers are still to come for jobs that went back to their broker, since AWS took their workers away: nobody asks for these.
    #[serde(default)]
    pub owed: usize,
    /// Since when there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_since: Option<Time>,
}

/// A worker, or one that is about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which start it is of.
    pub start: u64,
    /// When that was decided.
    pub asked: Time,
    /// The revision.
    pub definition: String,
    /// The container that works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Its task, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When it was seen to have started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// Since when ECS does not show its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Time>,
    /// The job that it was started for, or was given when it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Held>,
}

/// Stands for a job that AWS has taken from its worker: which one it is, the broker knows. No job has such an id.
pub const RETURNED: &str = "";

/// A job that a worker holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its id; [`RETURNED`] of one that went back to the broker.
    pub id: String,
    /// When the worker was given it.
    pub since: Time,
    /// The schedule that it is a run of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// A call of `RunTask`, from when it is decided until its answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its number.
    pub number: u64,
    /// When it was decided.
    pub asked: Time,
    /// How many tasks, at most ten (fact 17).
    pub count: usize,
    /// What is started: a repeated call must be the same call.
    pub kind: Kind,
    /// Whether its tasks carry its token in `startedBy`: those that an earlier version has asked for do not.
    #[serde(default)]
    pub is_named: bool,
    /// ECS has refused it after an attempt whose answer nobody knows: that one may have begun its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Since when it is not asked for any more, since it could not begin in time: its jobs wait again unless it has begun. An earlier version
    /// knows nothing of it, and asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Time>,
}

/// A start that was refused, and may have begun its tasks before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub at: Time,
    /// Why.
    pub why: String,
}

/// A job whose worker could not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// How often.
    pub times: u32,
    /// When last.
    pub last: Time,
    /// Why.
    pub why: String,
}

/// There is no room for more tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoRoom {
    /// Since when.
    pub since: Time,
    /// How often it was tried.
    pub times: u32,
    /// When it is tried again.
    pub until: Time,
    /// ECS's reasons.
    pub why: String,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn begun(now: Time, nonce: u64) -> Self {
        Self {
            version: VERSION,
            begun: now,
            nonce,
            role: None,
            writes: 0,
            writer: 0,
            next: 0,
            places: Vec::new(),
            starts: Vec::new(),
            failed: BTreeMap::new(),
            no_room: None,
            owed: 0,
            owed_since: None,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It was written by a newer version, or is none.
    pub fn read(key: &str, content: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let wrong = |why: String| Error::Stop(Verdict::misconfigured(format!("the object {key} {why}")));
        let version: Version =
            serde_json::from_slice(content).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if version.version > VERSION {
            return Err(wrong("was written by a newer version of Cutover: update this one".into()));
        }
        serde_json::from_slice(content).map_err(|error| wrong(format!("cannot be read: {error}")))
    }

    /// As it is written by `writer`, a number by chance: never the same twice, so that S3 tells two writers apart.
    #[must_use]
    pub fn written(&self, writer: u64) -> Vec<u8> {
        let next = Self { writes: self.writes + 1, writer, ..self.clone() };
        serde_json::to_vec(&next).unwrap_or_default()
    }

    /// `RunTask`'s client token of one of its starts (fact 18).
    #[must_use]
    pub fn token(&self, number: u64) -> String {
        format!("w-{:016x}-{:x}-{number}", self.nonce, self.begun.millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_never_the_same_twice() {
        let ledger = Ledger::begun(Time::from_millis(5), 9);
        let once = ledger.written(3);
        assert_ne!(ledger.written(4), once);
        let read = Ledger::read("k", &once).unwrap();
        assert_eq!(read, Ledger { writes: 1, writer: 3, ..ledger });
        assert_ne!(read.written(3), once);
        let newer = String::from_utf8(once).unwrap().replace("\"version\":1", "\"version\":2");
        assert!(Ledger::read("k", newer.as_bytes()).unwrap_err().message().contains("a newer version"));
        assert!(Ledger::read("k", b"soon").unwrap_err().message().contains("the object k cannot be read"));
    }

    #[test]
    fn a_token_fits_and_differs_with_each_of_its_parts() {
        let ledger = Ledger::begun(Time::from_millis(u64::MAX), u64::MAX);
        let token = ledger.token(u64::MAX);
        assert!(token.len() <= 64 && token.is_ascii(), "{token}");
        let others = [Ledger::begun(Time::from_millis(7), u64::MAX), Ledger::begun(Time::from_millis(u64::MAX), 7)];
        let tokens = [ledger.token(1), ledger.token(2), others[0].token(1), others[1].token(1)];
        let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn a_ledger_that_version_1_wrote_is_read() {
        let text = r#"{"version":1,"begun":5,"nonce":9,"writes":3,"next":2,"places":[{"start":1,"asked":7,"definition":"d","task":"t","started":9,"job":{"id":"7","since":7}}],"starts":[],"failed":{"8":{"times":1,"last":9,"why":"no image"}},"no_room":{"since":1,"times":2,"until":3,"why":"RESOURCE:CPU"}}"#;
        let ledger = Ledger::read("k", text.as_bytes()).unwrap();
        assert_eq!((ledger.places[0].job.as_ref().unwrap().id.as_str(), ledger.failed["8"].times), ("7", 1));
    }
}
