//! What plays have covered: which faults met what, how releases and actions ended, what was said.

use std::collections::BTreeMap;
use std::fmt;

use local::world::ActionStatus;

use super::law::Ended;
use super::meddle::Met;

/// Counts of what was covered, of one play or of many.
#[derive(Debug, Default, Clone)]
pub struct Cover {
    /// Which fault met which call of which function.
    pub met: Met,
    /// How releases ended.
    pub endings: BTreeMap<String, u32>,
    /// What functions said, in the release's log and as verdicts and summaries, without names and numbers: each
    /// sentence is a branch of a decision.
    pub sentences: BTreeMap<String, u32>,
}

impl Cover {
    pub(super) fn of(ended: &Ended<'_>, met: Met) -> Self {
        let mut cover = Self { met, ..Self::default() };
        for release in &ended.releases {
            let failed = release
                .actions
                .iter()
                .rev()
                .find(|one| matches!(one.status, ActionStatus::Failed | ActionStatus::Abandoned));
            let at = failed.filter(|_| !matches!(release.status, local::world::ExecutionStatus::Succeeded));
            let at = at.map(|one| format!(" in {}", one.stage)).unwrap_or_default();
            let way = match (release.is_back, release.went_quickly()) {
                (false, _) => "",
                (true, true) => "the quick way back: ",
                (true, false) => "a way back: ",
            };
            *cover.endings.entry(format!("{way}{:?}{at}", release.status)).or_default() += 1;
        }
        for text in ended.said() {
            let first = text.lines().next().unwrap_or_default();
            *cover.sentences.entry(sentence(first)).or_default() += 1;
        }
        cover
    }

    /// Takes another play's counts in.
    pub fn add(&mut self, other: Self) {
        for (key, count) in other.met {
            *self.met.entry(key).or_default() += count;
        }
        for (key, count) in other.endings {
            *self.endings.entry(key).or_default() += count;
        }
        for (key, count) in other.sentences {
            *self.sentences.entry(key).or_default() += count;
        }
    }
}

/// A sentence without what differs from release to release: names of environments and services, numbers, ids.
fn sentence(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(|char: char| !char.is_alphanumeric());
        let varies = bare.chars().any(|char| char.is_ascii_digit());
        if varies { word.replace(bare, "_") } else { word.to_owned() }
    };
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).take(14).map(word).collect();
    let mut text = words.join(" ");
    for list in ["_, _", "_; _", "_ _"] {
        while text.contains(list) {
            text = text.replace(list, "_");
        }
    }
    text
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Endings")?;
        for (ending, count) in &self.endings {
            writeln!(f, "  {count:>7}  {ending}")?;
        }
        writeln!(f, "Faults, and what they met")?;
        let mut by_fault: BTreeMap<&str, Vec<(&str, u32)>> = BTreeMap::new();
        for ((fault, what), count) in &self.met {
            by_fault.entry(fault).or_default().push((what, *count));
        }
        for (fault, mut met) in by_fault {
            met.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let total: u32 = met.iter().map(|(_, count)| count).sum();
            let named: Vec<_> = met.iter().take(6).map(|(what, count)| format!("{what} {count}")).collect();
            writeln!(f, "  {total:>7}  {fault}: {} kinds of calls ({})", met.len(), named.join(", "))?;
        }
        Ok(())
    }
}
