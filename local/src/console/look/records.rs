//! What was written down of releases that have ended, of this run and of those before it: `ListObjectsV2` and `GetObject`.

use std::collections::BTreeMap;

use shared::Time;
use shared::record::{Entry, read};

use super::standing::Standing;
use crate::console::aws::{Aws, Refused};
use crate::console::said::Said;
use crate::releases;

/// How many are shown.
const MOST: usize = 20;

/// A release that has ended, as its record tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) execution: Said,
    /// What was released, or what it went back to.
    pub(crate) what: Said,
    pub(crate) standing: Standing,
    pub(crate) ended: Time,
    /// Each of its steps, or why that cannot be told.
    pub(crate) timeline: Said,
}

/// What was read already, by key and by when that was written: a record that is there is not read again.
pub(crate) type Known = BTreeMap<(String, String), Recorded>;

/// Looks at the newest records of all pipelines in the bucket, the one that ended last first.
///
/// # Errors
/// What S3 does not answer.
pub(super) fn look(aws: &Aws, bucket: &str, known: &mut Known) -> Result<Vec<Recorded>, Refused> {
    let mut keys = aws.keys(bucket, shared::record::FOLDER)?;
    keys.retain(|(key, _)| key.ends_with(".json"));
    keys.sort_by(|(_, a), (_, b)| b.cmp(a));
    keys.truncate(MOST);
    known.retain(|key, _| keys.contains(key));
    for key in keys {
        if !known.contains_key(&key)
            && let Some(body) = aws.object(bucket, &key.0)?
        {
            let execution = key.0.rsplit('/').next().unwrap_or_default().trim_end_matches(".json").to_owned();
            known.insert(key, recorded(&execution, &body));
        }
    }
    let mut all: Vec<_> = known.values().cloned().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.ended));
    Ok(all)
}

fn recorded(execution: &str, body: &[u8]) -> Recorded {
    match read(execution, body) {
        Entry::Record(record) => {
            let what = if record.back { format!("back to {}", record.what()) } else { record.what() };
            Recorded {
                execution: execution.into(),
                what: what.into(),
                standing: Standing::of(&record.status),
                ended: record.ended,
                timeline: releases::timeline(&record).into(),
            }
        }
        entry @ (Entry::Newer { .. } | Entry::Unreadable { .. }) => Recorded {
            execution: execution.into(),
            standing: Standing::of("Unreadable"),
            timeline: releases::unreadable(&entry).into(),
            ..Recorded::default()
        },
    }
}
