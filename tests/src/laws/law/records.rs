//! Every release that has ended has one record, and it tells how.

use shared::record::{Entry, read};

use super::{Ended, none};
use crate::Meddling;

/// Of every release that is over, however it ended, there is exactly one record, of its last end.
pub(super) fn every_ended_release_has_one_record(ended: &Ended<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    // Who may not read an artifact can tell nothing of it.
    let is_blind = ended.seen.iter().any(|seen| seen.function == "record-release" && seen.meddling == Meddling::Refuse);
    let kept = ended.stage.world().kept_objects("_releases/");
    for release in ended.releases.iter().filter(|release| release.status.is_over()) {
        let name = format!("/{}.json", release.execution);
        let own: Vec<_> = kept.iter().filter(|object| object.key.ends_with(&name)).collect();
        let told = own.first().map(|object| read(&release.execution, &object.content));
        let is_right = match &told {
            Some(Entry::Record(record)) => {
                record.status == release.status.name()
                    && record.back == release.is_back
                    && record.deployed_at().is_some() == release.deployed().is_some()
                    // Of a release that was stopped before its build there is none.
                    && (is_blind || record.image == release.image || release.action("Prepare").or(release.action("Check")).is_none())
                    && (is_blind || record.artifact.is_empty() == (release.is_back || !record.has_succeeded()))
            }
            _ => false,
        };
        if own.len() != 1 || !is_right {
            wrong.push(format!("{} {:?}: {} records: {told:?}", release.execution, release.status, own.len()));
        }
    }
    none("releases without a record that tells how they ended", &wrong)
}
