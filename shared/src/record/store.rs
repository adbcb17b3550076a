//! Where records are kept, and under which keys.

use serde::Deserialize;
use tracing::{info, warn};

use super::{Record, SCHEMA, Usual, VERSION};
use crate::Time;
use crate::aws::Aws;
use crate::aws::s3::{Bucket, Listed, Written};
use crate::error::Error;

/// What all keys here begin with: no stack is called so, and the artifacts' keys begin with the stack's name.
pub const FOLDER: &str = "_releases/";

/// Under this key stands which release deploys.
pub const DEPLOYING: &str = "_releases/deploying";

/// How often a write is tried that another one came before.
const WRITES: u32 = 5;

/// The records of a stack.
#[derive(Debug, Clone)]
pub struct Store {
    bucket: Bucket,
}

/// An object where a record should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A record.
    Record(Box<Record>),
    /// One that a newer Cutover wrote, in this version.
    Newer {
        /// The execution.
        execution: String,
        /// Its version.
        version: u32,
    },
    /// Something that is no record.
    Unreadable {
        /// The execution.
        execution: String,
        /// Why.
        why: String,
    },
}

impl Entry {
    /// The execution that it is of.
    #[must_use]
    pub fn execution(&self) -> &str {
        match self {
            Self::Record(record) => &record.execution,
            Self::Newer { execution, .. } | Self::Unreadable { execution, .. } => execution,
        }
    }
}

/// What became of keeping a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// It was not there.
    First,
    /// The release had ended before, as this record said, and was tried again: its record tells of the later end now.
    Again(Box<Record>),
    /// It was there already, or a newer one is.
    Already,
}

impl Store {
    /// The store that the stack names; none where it names no bucket.
    #[must_use]
    pub fn new(aws: &Aws) -> Option<Self> {
        aws.settings().bucket.as_deref().map(|name| Self { bucket: aws.bucket(name) })
    }

    /// The store in this bucket.
    #[must_use]
    pub fn within(bucket: Bucket) -> Self {
        Self { bucket }
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The key of an execution's record.
    #[must_use]
    pub fn key(pipeline: &str, execution: &str) -> String {
        format!("{FOLDER}{pipeline}/{execution}.json")
    }

    /// The key of the artifact that a way back to a release begins with.
    #[must_use]
    pub fn artifact(pipeline: &str, execution: &str) -> String {
        format!("{FOLDER}{pipeline}/{execution}.zip")
    }

    /// The key of the artifact of the release before the one that runs.
    #[must_use]
    pub fn before(pipeline: &str) -> String {
        format!("{FOLDER}{pipeline}/before.zip")
    }

    /// The executions of a pipeline that have a record, each with when that was written, the one written last first.
    ///
    /// # Errors
    /// The calls'.
    pub async fn executions(&self, pipeline: &str) -> Result<Vec<(String, Time)>, Error> {
        let folder = format!("{FOLDER}{pipeline}/");
        let mut listed = self.bucket.list(&folder).await?;
        listed.sort_by_key(|one| std::cmp::Reverse(one.modified));
        let named = |one: &Listed| {
            let name = one.key.strip_prefix(&folder)?.strip_suffix(".json")?;
            Some((name.to_owned(), one.modified))
        };
        Ok(listed.iter().filter_map(named).collect())
    }

    /// An execution's record, if it has one.
    ///
    /// # Errors
    /// The call's.
    pub async fn get(&self, pipeline: &str, execution: &str) -> Result<Option<Entry>, Error> {
        Ok(self.bucket.get(&Self::key(pipeline, execution)).await?.map(|object| read(execution, &object.body)))
    }

    /// The newest records of pipelines, at most so many of each, the one that ended last first; those that cannot be read come
    /// first of all.
    ///
    /// # Errors
    /// The calls'.
    pub async fn newest(&self, pipelines: &[&str], most: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for pipeline in pipelines {
            entries.extend(self.read(pipeline, self.executions(pipeline).await?.iter().take(most)).await?);
        }
        newest_first(&mut entries);
        Ok(entries)
    }

    /// The records of these executions of a pipeline.
    ///
    /// # Errors
    /// The calls'.
    pub async fn read(
        &self,
        pipeline: &str,
        executions: impl Iterator<Item = &(String, Time)>,
    ) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (execution, _) in executions {
            match self.get(pipeline, execution).await {
                Ok(entry) => entries.extend(entry),
                // One that is too large, say, is no reason to know nothing of the others.
                Err(Error::Stop(why)) => {
                    entries.push(Entry::Unreadable { execution: execution.clone(), why: why.message });
                }
                Err(again) => return Err(again),
            }
        }
        Ok(entries)
    }

    /// Keeps a record: writes it where there is none, and over that of an earlier end of the same release, which was tried again; where it
    /// `is_settled` how the release has ended, also over one of the same end that says otherwise.
    ///
    /// Safe to repeat, and by several at once: the first write counts, and a later end is never written over.
    ///
    /// # Errors
    /// The calls'.
    pub async fn keep(&self, record: &Record, is_settled: bool) -> Result<Kept, Error> {
        let key = Self::key(&record.pipeline, &record.execution);
        let body = || serde_json::to_vec(record).unwrap_or_default();
        for _ in 0..WRITES {
            let Some(object) = self.bucket.get(&key).await? else {
                match self.bucket.create(&key, body()).await? {
                    Written::Done(_) => return Ok(Kept::First),
                    Written::Refused => continue,
                }
            };
            match read(&record.execution, &object.body) {
                Entry::Record(there)
                    if there.ended < record.ended
                        || (is_settled && there.ended == record.ended && there.status != record.status) =>
                {
                    if let Written::Done(_) = self.bucket.replace(&key, body(), &object.etag).await? {
                        return Ok(Kept::Again(there));
                    }
                }
                Entry::Record(_) | Entry::Newer { .. } => return Ok(Kept::Already),
                Entry::Unreadable { why, .. } => {
                    warn!(key, why, "a record that cannot be read is left as it is");
                    return Ok(Kept::Already);
                }
            }
        }
        Err(Error::Again(format!("{key}: others write it all the time")))
    }

    /// How long things usually take, as the last release left word; none is no trouble.
    pub async fn usual(&self, pipeline: &str) -> Option<Usual> {
        let object = match self.bucket.get(&usual_key(pipeline)).await {
            Ok(object) => object?,
            Err(error) => {
                info!(%error, "how long it usually takes is not known");
                return None;
            }
        };
        serde_json::from_slice(&object.body).ok()
    }

    /// Leaves word how long things usually take.
    ///
    /// Safe to repeat: it follows from the records, and whoever writes later has seen no fewer.
    ///
    /// # Errors
    /// The calls'.
    pub async fn leave_usual(&self, pipeline: &str, usual: &Usual) -> Result<(), Error> {
        let (key, body) = (usual_key(pipeline), serde_json::to_vec(usual).unwrap_or_default());
        for _ in 0..WRITES {
            let written = match self.bucket.get(&key).await? {
                Some(object) if object.body == body => return Ok(()),
                Some(object) => self.bucket.replace(&key, body.clone(), &object.etag).await?,
                None => self.bucket.create(&key, body.clone()).await?,
            };
            if written != Written::Refused {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn usual_key(pipeline: &str) -> String {
    format!("{FOLDER}usual/{pipeline}")
}

/// Sorts entries: those that cannot be read first of all, then the one that ended last.
pub fn newest_first(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| {
        std::cmp::Reverse(match entry {
            Entry::Record(record) => record.ended,
            Entry::Newer { .. } | Entry::Unreadable { .. } => Time::from_millis(u64::MAX),
        })
    });
}

/// Reads what is at a record's key.
#[must_use]
pub fn read(execution: &str, body: &[u8]) -> Entry {
    #[derive(Deserialize)]
    struct Head {
        schema: String,
        version: u32,
    }
    let execution = execution.to_owned();
    match serde_json::from_slice::<Head>(body) {
        Ok(head) if head.schema != SCHEMA => {
            Entry::Unreadable { execution, why: format!("its schema is {}", head.schema) }
        }
        Ok(head) if head.version > VERSION => Entry::Newer { execution, version: head.version },
        Ok(_) => match serde_json::from_slice(body) {
            Ok(record) => Entry::Record(Box::new(record)),
            Err(error) => Entry::Unreadable { execution, why: error.to_string() },
        },
        Err(error) => Entry::Unreadable { execution, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_one_of_a_newer_version_says_so() {
        let record = Record { schema: SCHEMA.into(), version: VERSION, execution: "e".into(), ..Record::default() };
        assert_eq!(read("e", &serde_json::to_vec(&record).unwrap()), Entry::Record(Box::new(record)));
        let newer = json!({"schema": SCHEMA, "version": 2, "actions": "of another kind"}).to_string();
        assert_eq!(read("e", newer.as_bytes()), Entry::Newer { execution: "e".into(), version: 2 });
        for (body, said) in [
            ("", "EOF"),
            ("[]", "invalid"),
            (r#"{"schema": "other", "version": 1}"#, "its schema is other"),
            (r#"{"schema": "cutover/release", "version": 1, "actions": 1}"#, "invalid type"),
        ] {
            let Entry::Unreadable { why, .. } = read("e", body.as_bytes()) else { panic!("{body} was read") };
            assert!(why.contains(said), "{body}: {why}");
        }
    }
}
