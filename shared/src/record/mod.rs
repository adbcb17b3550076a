//! What is kept of a release that has ended: one JSON object per execution, in the artifact bucket.
//!
//! Invariants: an execution has one record, whoever writes it and however often; a record that a newer Cutover wrote is never
//! written over, and says so when it is read; nothing here can fail a release.

pub mod collect;
mod history;
mod store;
mod usual;

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::aws::codepipeline::is_over;
use crate::text::{fit, plain};

pub use history::{CAUGHT_UP, History, carrier, commits_of, content_of};
pub use store::{DEPLOYING, Entry, FOLDER, Kept, Store, newest_first, read};
pub use usual::{Usual, Usually, seconds};

/// What every record says that it is.
pub const SCHEMA: &str = "cutover/release";

/// The version of the records that are written here.
pub const VERSION: u32 = 1;

/// The file at the top of the artifact in which a build leaves its repository's log: `git log --format='%H%x09%an%x09%aI%x09%s'`.
pub const COMMITS: &str = "commits.tsv";

/// How many commits of one release are kept, and how much of each message.
const MOST_COMMITS: usize = 50;
const LONGEST_MESSAGE: usize = 200;
const LONGEST_NAME: usize = 100;

/// A release that has ended. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// The pipeline.
    pub pipeline: String,
    /// The execution.
    pub execution: String,
    /// Whether it goes back to an earlier release: it has no build and no migrations.
    pub back: bool,
    /// How it ended, as CodePipeline says it: `Succeeded`, `Failed`, `Stopped`, `Superseded`, `Cancelled`.
    pub status: String,
    /// What a person said who stopped it.
    pub reason: String,
    /// When its first action began.
    pub began: Time,
    /// When its last action ended.
    pub ended: Time,
    /// What started it, as CodePipeline says it: the kind, and the person or webhook.
    pub trigger: (String, String),
    /// What was released, as far as the source tells.
    pub commit: Commit,
    /// The commit of the release that ran before this one.
    pub since: String,
    /// The commits since then, the newest first, where the build has left its repository's log ([`COMMITS`]).
    pub commits: Vec<Commit>,
    /// The image.
    pub image: String,
    /// What its manifest and image are recognized by: two releases with the same deploy the same.
    pub content: String,
    /// The key of its artifact, which a way back begins with; empty where none was kept.
    pub artifact: String,
    /// Each run of each action, in the order in which they began.
    pub actions: Vec<Step>,
    /// Each one-off task, in each environment, with what it wrote last.
    pub tasks: Vec<Ran>,
    /// What ran where before and after, where the deployment says so.
    pub services: Vec<Deployed>,
    /// What became of the old workers.
    pub workers: String,
    /// Who answered the approval.
    pub approval: Option<Approval>,
    /// Tasks of the manifest that must not be gone back behind, and that were begun.
    pub no_way_back: Vec<String>,
    /// The link to its log.
    pub log: String,
}

/// A commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Its id.
    pub id: String,
    /// The first line of its message.
    pub message: String,
    /// Who wrote it, where the build has left its repository's log: no source tells.
    pub author: String,
    /// When it was written, as the source says it.
    pub date: String,
    /// The repository.
    pub repository: String,
    /// The branch.
    pub branch: String,
}

impl Commit {
    /// Reads a log that a build has left, the newest commit first; what is no commit is left out.
    #[must_use]
    pub fn read_log(text: &str) -> Vec<Self> {
        let read = |line: &str| {
            let mut fields = line.splitn(4, '\t').map(|field| plain(field).trim().to_owned());
            let (id, author, date) = (fields.next()?, fields.next()?, fields.next()?);
            let is_id = (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let message = fit(&fields.next()?, LONGEST_MESSAGE);
            let (author, date) = (fit(&author, LONGEST_NAME), fit(&date, LONGEST_NAME));
            is_id.then(|| Self { id, author, date, message, ..Self::default() })
        };
        text.lines().filter_map(read).collect()
    }

    /// Of a log, the commits since another one; of a log that does not have that one, the newest: how many there are is not known.
    #[must_use]
    pub fn since(log: &[Self], since: &str) -> Vec<Self> {
        let of_release = log.iter().position(|one| one.id == since).unwrap_or(1).min(log.len()).min(MOST_COMMITS);
        log[..of_release].to_vec()
    }

    /// "4f2a9c1 Sell teapots (Ann)".
    #[must_use]
    pub fn what(&self) -> String {
        let what = format!("{} {}", self.id.get(..7).unwrap_or(&self.id), self.message);
        if self.author.is_empty() { what } else { format!("{what} ({})", self.author) }
    }
}

/// A run of an action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Its stage.
    pub stage: String,
    /// Its name.
    pub action: String,
    /// When it began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// `Succeeded`, `Failed` or `Abandoned`.
    pub status: String,
    /// What it said of itself, or its verdict.
    pub said: String,
    /// The task of the manifest that it ran.
    pub task: Option<String>,
}

impl Step {
    /// Whether it is the action that deploys, and has succeeded: since its end, the release has the traffic.
    #[must_use]
    pub fn has_deployed(&self) -> bool {
        self.deploys() && self.status == "Succeeded"
    }

    /// Whether it is the action that deploys.
    #[must_use]
    pub fn deploys(&self) -> bool {
        self.stage == "Deploy" && self.action == "Deploy"
    }
}

/// A one-off task in an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ran {
    /// Which task of the manifest.
    pub task: String,
    /// Where.
    pub environment: String,
    /// How long it took, in seconds, where it has succeeded.
    pub seconds: Option<u64>,
    /// How long its action took, in seconds, where it has not.
    pub failed_after: Option<u64>,
    /// What it wrote last.
    pub last: Vec<String>,
}

/// A service in an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployed {
    /// Where.
    pub environment: String,
    /// Which service of the manifest.
    pub service: String,
    /// The revision that ran before.
    pub before: String,
    /// The revision that runs since.
    pub after: String,
}

/// An approval that was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Approval {
    /// Whether it was given.
    pub given: bool,
    /// By whom.
    pub by: String,
    /// What they said.
    pub said: String,
}

impl Record {
    /// Whether it has come to its end as it should.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.status == "Succeeded"
    }

    /// Whether nothing of it goes on any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        is_over(&self.status)
    }

    /// When its version got the traffic, if it did: what follows the deployment may fail, or be stopped, and takes nothing back.
    #[must_use]
    pub fn deployed_at(&self) -> Option<Time> {
        let deployed = self.deployments().map(|step| step.ended).max();
        deployed.or_else(|| self.has_succeeded().then_some(self.ended))
    }

    /// The runs of its action that deploys that have succeeded.
    pub fn deployments(&self) -> impl Iterator<Item = &Step> {
        self.actions.iter().filter(|step| step.has_deployed())
    }

    /// "4f2a9c1 Sell teapots", or the execution where the source tells nothing.
    #[must_use]
    pub fn what(&self) -> String {
        match self.commit.id.as_str() {
            "" => format!("execution {}", self.execution),
            id => format!("{} {}", id.get(..7).unwrap_or(id), self.commit.message).trim_end().to_owned(),
        }
    }

    /// The same, and whether it goes on.
    #[must_use]
    pub fn what_now(&self) -> String {
        if self.is_over() { self.what() } else { format!("{}, which goes on", self.what()) }
    }

    /// The tasks that it began, whatever became of them: a migration that failed may have done a part of its work.
    #[must_use]
    pub fn begun_tasks(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.actions.iter().filter_map(|step| step.task.as_deref()).collect();
        names.dedup();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// What runs now: of releases and ways back, which never deploy at once, the one whose deployment has succeeded last.
#[must_use]
pub fn runs(records: &[Record]) -> Option<&Record> {
    // Of two at the same moment, the first: the records are the newest first.
    records.iter().rev().filter(|one| one.deployed_at().is_some()).max_by_key(|one| one.deployed_at())
}

/// The release before the one that runs: what a way back goes to unless told otherwise. Which was before which is told by when they
/// deployed, since one may drain its workers while the next ones come and go. What was gone back from is not gone back to: after a way
/// back, it is the release before what that one has brought.
#[must_use]
pub fn before(records: &[Record]) -> Option<&Record> {
    let (surely, perhaps) = before_both(records);
    surely.or(perhaps)
}

/// Whether no older record can tell otherwise: the release that built what ran before is among these.
#[must_use]
pub fn is_before_known(records: &[Record]) -> bool {
    before_both(records).0.is_some()
}

/// The release that built what ran before what runs; and, for where that is not among these, the good one that deployed last before it.
fn before_both(records: &[Record]) -> (Option<&Record>, Option<&Record>) {
    let Some((runs, own)) = runs_since(records) else { return (None, None) };
    let others = || records.iter().filter(|one| one.content != runs.content && one.deployed_at() < Some(own));
    // A way back from it was begun, and came half of its way: whoever began it wanted it gone.
    let was_left = |one: &Record| {
        let next =
            others().filter(|other| other.deployed_at() > one.deployed_at()).filter_map(Record::deployed_at).min();
        // One that was asked for before this ran is refused.
        let backs = records.iter().filter(|back| back.back && back.content != one.content);
        let backs = backs.filter(|back| Some(back.began) > one.deployed_at());
        let mut begun = backs.flat_map(|back| &back.actions).filter(|step| step.deploys()).map(|step| step.began);
        begun.any(|began| Some(began) > one.deployed_at() && began < next.unwrap_or(own))
    };
    let is_good = |one: &&Record| !one.back && one.has_succeeded() && !one.artifact.is_empty();
    let ran = others().filter(|one| one.deployed_at().is_some() && !was_left(one)).max_by_key(|one| one.deployed_at());
    let same = ran.and_then(|ran| {
        let same = others().filter(is_good).filter(|one| !one.content.is_empty() && one.content == ran.content);
        same.max_by_key(|one| one.deployed_at())
    });
    (same, others().filter(is_good).max_by_key(|one| one.deployed_at()))
}

/// What runs, and when a release has deployed that last.
fn runs_since(records: &[Record]) -> Option<(&Record, Time)> {
    let runs = runs(records).filter(|runs| !runs.content.is_empty())?;
    let own =
        records.iter().filter(|one| !one.back && one.content == runs.content).filter_map(Record::deployed_at).max()?;
    Some((runs, own))
}

/// What a manifest and an image are recognized by: 64 bits of FNV-1a, for telling a few hundred releases apart.
#[must_use]
pub fn content(manifest: &str, image: Option<&str>) -> String {
    let bytes = manifest.bytes().chain([0]).chain(image.unwrap_or_default().bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_before_the_one_that_runs_is_what_ran_also_when_a_way_back_had_brought_it() {
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        let one = |execution: &str, content: &str, seconds: u64, back: bool| Record {
            execution: execution.into(),
            content: content.into(),
            back,
            status: "Succeeded".into(),
            ended: at(seconds),
            artifact: if back { String::new() } else { format!("{execution}.zip") },
            ..Record::default()
        };
        let found = |records: &[Record]| before(records).map(|one| one.execution.clone());
        let (good, bad) = (one("good", "a", 10, false), one("bad", "b", 20, false));
        let (back, fix) = (one("back", "a", 30, true), one("fix", "c", 50, false));
        for (records, expected) in [
            (vec![bad.clone(), good.clone()], Some("good")),
            // It runs again, and what ran before its own release is not here.
            (vec![back.clone(), bad.clone(), good.clone()], None),
            (vec![fix.clone(), back.clone(), bad.clone(), good.clone()], Some("good")),
            (vec![fix.clone(), bad.clone(), good.clone()], Some("bad")),
            // What it went back to has no artifact any more: the one before is better than none.
            (vec![fix, back, bad, Record { artifact: String::new(), ..good.clone() }], Some("bad")),
            (vec![good.clone()], None),
        ] {
            assert_eq!(found(&records).as_deref(), expected, "{records:?}");
        }
        // A way back that came half of its way: nothing says that it has the traffic.
        let step =
            |began| Step { stage: "Deploy".into(), action: "Deploy".into(), began: at(began), ..Step::default() };
        let half = |began| Record {
            began: at(began),
            status: "Failed".into(),
            actions: vec![step(began)],
            ..one("half", "a", began + 5, true)
        };
        let (bad, fix) = (one("bad", "b", 20, false), one("fix", "c", 50, false));
        assert_eq!(found(&[fix.clone(), half(30), bad.clone(), good.clone()]).as_deref(), Some("good"));
        assert_eq!(
            found(&[fix.clone(), bad.clone(), half(15), good.clone()]).as_deref(),
            Some("bad"),
            "another one was left"
        );
        // Asked for before the fix deployed, approved after that, and refused: it has left nothing.
        let next = one("next", "d", 80, false);
        let refused = Record { began: at(45), ..half(60) };
        assert_eq!(found(&[next, refused, fix.clone(), bad.clone(), good.clone()]).as_deref(), Some("fix"));
        let stopped = Record { actions: Vec::new(), ..half(30) };
        assert_eq!(found(&[fix, stopped, bad, good]).as_deref(), Some("bad"), "it had begun nothing");
    }

    #[test]
    fn the_commits_of_a_release_are_those_since_the_one_that_ran_before() {
        let log = "cccccccc\tAnn\t2026-11-28T10:00:00+01:00\tSell\ttea\u{1b}[31m\nno commit\nbbbbbbbb\tBob\t2026\tSell cups\naaaaaaaa\tAnn\t2026\tBegin\n";
        let log = Commit::read_log(log);
        let whats: Vec<_> = log.iter().map(Commit::what).collect();
        assert!(whats[0].starts_with("ccccccc Sell") && whats[0].ends_with("(Ann)"), "{whats:?}");
        assert!(!whats[0].contains('\u{1b}') && whats[1..] == ["bbbbbbb Sell cups (Bob)", "aaaaaaa Begin (Ann)"]);
        for (since, expected) in [("aaaaaaaa", 2), ("cccccccc", 0), ("dddddddd", 1), ("", 1)] {
            assert_eq!(Commit::since(&log, since).len(), expected, "{since}");
        }
        assert!(Commit::since(&[], "aaaaaaaa").is_empty());
    }
}
