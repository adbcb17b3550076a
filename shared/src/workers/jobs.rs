//! Jobs that somebody asks a worker for, and where they are kept until one works on them.
//!
//! Invariant: a job that was taken in is an object of its own until its worker runs; then another object says so for as long
//! as its message may come again. An id stands for one job: whoever asks twice gets one worker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::manifest::Overlap;
use crate::time::Time;

/// The longest id, in bytes.
const LONGEST_ID: usize = 128;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which kind of worker it needs.
    pub worker: String,
    /// Where.
    pub environment: String,
    /// What it is called by whoever asks.
    pub id: String,
    /// What it runs by the clock for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_clock: Option<ByClock>,
}

/// One run of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByClock {
    /// The schedule's name.
    pub schedule: String,
    /// When it is due.
    pub due: Time,
    /// What happens when the last run still goes on.
    pub overlap: Overlap,
    /// How late it may begin, in seconds.
    pub within: u64,
}

impl ByClock {
    /// Whether it is too late to begin.
    #[must_use]
    pub fn is_missed(&self, now: Time) -> bool {
        now.since(self.due) > Duration::from_secs(self.within)
    }
}

/// What EventBridge Scheduler puts into a message for the moment that a run is due.
pub const DUE: &str = "<aws.scheduler.scheduled-time>";

/// What people and schedules send.
#[derive(Deserialize)]
struct Message {
    worker: Option<String>,
    environment: Option<String>,
    id: Option<String>,
    schedule: Option<String>,
    due: Option<String>,
    #[serde(default)]
    overlap: Overlap,
    within: Option<u64>,
}

impl Job {
    /// Reads a message of the queue.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub fn read(body: &str) -> Result<Self, String> {
        const EXPECTED: &str = r#"{"worker": "exports", "environment": "eu", "id": "..."}"#;
        let message: Message = serde_json::from_str(body)
            .map_err(|error| format!("the message is not what is expected, {EXPECTED}: {error}"))?;
        let needed = |name: &str, value: Option<String>| {
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("`{name}` is missing in the message; expected is {EXPECTED}"))
        };
        let worker = needed("worker", message.worker)?;
        let environment = needed("environment", message.environment)?;
        let id = needed("id", message.id)?;
        if id.len() > LONGEST_ID {
            return Err(format!("`id` has {} bytes; at most {LONGEST_ID} are taken", id.len()));
        }
        let by_clock = match message.schedule {
            // It would take the place of that run.
            None if is_of_a_run(&id) => {
                return Err(format!("`id` is `{id}`, as what runs by the clock is called: call it otherwise"));
            }
            None => None,
            Some(schedule) if schedule.len() > LONGEST_ID => {
                return Err(format!("`schedule` has {} bytes; at most {LONGEST_ID} are taken", schedule.len()));
            }
            Some(schedule) => {
                let due = message.due.unwrap_or_default();
                let at = aws_smithy_types::DateTime::from_str(&due, aws_smithy_types::date_time::Format::DateTime);
                let at =
                    at.map_err(|_| format!("`due` is `{due}`, which is no moment such as 2026-11-24T03:00:00Z"))?;
                if id != format!("{schedule} {due}") {
                    return Err(format!("`id` is `{id}`, and that of a run by the clock is `{schedule} {due}`"));
                }
                let within = message.within.unwrap_or(10 * 60);
                Some(ByClock { schedule, due: Time::from(at), overlap: message.overlap, within })
            }
        };
        Ok(Self { worker, environment, id, by_clock })
    }
}

impl Job {
    /// The message by which a job that could not be done is asked for again. A run by the clock is a job like any other then: its moment is
    /// past, and its id is that of the run that did not come about.
    #[must_use]
    pub fn to_send_again(&self) -> String {
        let id = if self.by_clock.is_some() { format!("{} again", self.id) } else { self.id.clone() };
        serde_json::json!({"worker": self.worker, "environment": self.environment, "id": id}).to_string()
    }
}

/// Whether an id is one that Scheduler gives the runs of a schedule: its name and the moment.
fn is_of_a_run(id: &str) -> bool {
    let moment =
        |text: &str| aws_smithy_types::DateTime::from_str(text, aws_smithy_types::date_time::Format::DateTime).is_ok();
    id.rsplit_once(' ').is_some_and(|(_, last)| moment(last))
}

/// The objects of one kind in one environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keys {
    environment: String,
    kind: String,
}

/// Below this stands all that is known of workers.
pub const BELOW: &str = "workers/";

/// Below this stands which jobs are over, apart from all else: a bucket's lifecycle rule knows them by how their keys begin.
pub const TAKEN: &str = "workers-taken/";

impl Keys {
    /// Those of a kind.
    #[must_use]
    pub fn new(environment: &str, kind: &str) -> Self {
        Self { environment: encoded(environment), kind: encoded(kind) }
    }

    /// What is known of those that run.
    #[must_use]
    pub fn ledger(&self) -> String {
        format!("{BELOW}{}/{}/ledger.json", self.environment, self.kind)
    }

    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> String {
        format!("{BELOW}{}/{}/waiting/", self.environment, self.kind)
    }

    /// A job that waits.
    #[must_use]
    pub fn job(&self, id: &str) -> String {
        format!("{}{}", self.waiting(), encoded(id))
    }

    /// A job that is over for whoever starts workers.
    #[must_use]
    pub fn taken(&self, id: &str) -> String {
        format!("{TAKEN}{}/{}/{}", self.environment, self.kind, encoded(id))
    }
}

/// The id of a job that waits, from its key's last part.
#[must_use]
pub fn id_of(key: &str) -> Option<String> {
    let mut bytes = key.rsplit('/').next()?.bytes();
    let mut id = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'=' {
            id.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        id.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(id).ok()
}

/// A text as part of a key: what could be a folder of its own, or is written in several ways, becomes `=` and two digits.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("={byte:02x}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_or_says_what_is_wrong_with_it() {
        let job = Job::read(r#"{"worker": "exports", "environment": "eu", "id": "7", "more": 1}"#).unwrap();
        assert_eq!((job.worker.as_str(), job.id.as_str(), job.by_clock), ("exports", "7", None));
        for (body, said) in [
            ("", "the message is not what is expected"),
            ("[]", "the message is not what is expected"),
            (r#"{"worker": "exports", "id": "7"}"#, "`environment` is missing in the message"),
            (r#"{"worker": "", "environment": "eu", "id": "7"}"#, "`worker` is missing in the message"),
            (r#"{"worker": "a", "environment": "eu", "id": "7", "schedule": "s"}"#, "`due` is ``, which is no moment"),
            // Whoever may ask for a worker takes no run of a schedule's place.
            (
                r#"{"worker": "a", "environment": "eu", "id": "nightly 2026-11-25T03:00:00Z"}"#,
                "as what runs by the clock is called",
            ),
            (
                r#"{"worker": "a", "environment": "eu", "id": "nightly 2026-11-25T03:00:00Z", "schedule": "nightly", "due": "2020-01-01T00:00:00Z"}"#,
                "that of a run by the clock is `nightly 2020-01-01T00:00:00Z`",
            ),
        ] {
            let wrong = Job::read(body).unwrap_err();
            assert!(wrong.contains(said), "{body}: {wrong}");
        }
        let long = format!(r#"{{"worker": "a", "environment": "eu", "id": "{}"}}"#, "x".repeat(129));
        assert!(Job::read(&long).unwrap_err().contains("129 bytes"));
        let due = r#""due": "2026-11-24T03:00:00Z""#;
        let long = format!(
            r#"{{"worker": "a", "environment": "eu", "id": "1", {due}, "schedule": "{}"}}"#,
            "x".repeat(250_000)
        );
        assert!(Job::read(&long).unwrap_err().contains("250000 bytes"), "it would be kept in the ledger");
    }

    #[test]
    fn what_could_not_be_done_can_be_asked_for_again_as_it_is_also_a_run_by_the_clock() {
        for body in [
            r#"{"worker": "exports", "environment": "eu", "id": "7"}"#,
            r#"{"worker": "exports", "environment": "eu", "id": "nightly 2026-11-25T03:00:00Z", "schedule": "nightly", "due": "2026-11-25T03:00:00Z"}"#,
        ] {
            let job = Job::read(body).unwrap();
            let again = Job::read(&job.to_send_again()).unwrap();
            assert!(again.id.starts_with(&job.id) && again.by_clock.is_none(), "{again:?}");
            assert_eq!(Job::read(&again.to_send_again()).unwrap(), again);
        }
    }

    #[test]
    fn a_run_by_the_clock_knows_when_it_is_too_late() {
        let body = r#"{"worker": "exports", "environment": "eu", "id": "nightly 2026-11-24T03:00:00Z", "schedule": "nightly",
            "due": "2026-11-24T03:00:00Z", "overlap": "allow", "within": 60}"#;
        let run = Job::read(body).unwrap().by_clock.unwrap();
        assert_eq!((run.overlap, run.due.to_string().as_str()), (Overlap::Allow, "2026-11-24T03:00:00Z"));
        let after = |seconds| run.due.plus(Duration::from_secs(seconds));
        assert!(!run.is_missed(after(60)) && run.is_missed(after(61)));
    }

    #[test]
    fn an_id_becomes_a_key_of_its_own_and_back() {
        let keys = Keys::new("eu", "exports");
        for id in ["7", "a/b", "..", "nightly 2026-11-24T03:00:00Z", "é", "=2f", "%2F"] {
            let key = keys.job(id);
            assert!(key.starts_with("workers/eu/exports/waiting/"), "{key}");
            assert_eq!(key.matches('/').count(), 4, "{key}");
            assert_eq!(id_of(&key).as_deref(), Some(id));
        }
        assert_ne!(keys.job("a/b"), keys.job("a=2fb"));
    }
}
