//! Which lines are new, and in which order they go on: pure, total, clock-free.
//!
//! Invariant: lines go on in time order, none before what the merged stream has, and none twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::Time;
use shared::aws::logs::Line;

use crate::written::Written;

/// `PutLogEvents` takes 1,048,576 bytes, counting 26 for each line (fact 36); a margin for what we cannot know.
const MOST_BYTES: usize = 1_000_000;
/// What each line costs beside its bytes (fact 36).
const LINE_COST: usize = 26;
/// `PutLogEvents` takes 10,000 lines (fact 36).
const MOST_LINES: usize = 10_000;
/// The longest line: 256 KB, with the same 26 bytes (fact 36).
const LONGEST_LINE: usize = 256 * 1024 - LINE_COST;

/// What cannot be observed again: how far each stream has been forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct State {
    /// By stream.
    pub(crate) positions: BTreeMap<Key, Position>,
    /// The newest timestamp in the merged stream: those behind it must not be older, or they would be sorted before.
    pub(crate) floor: Time,
    /// How many lines of that timestamp the merged stream has.
    pub(crate) at_floor: usize,
    /// From which moment on, and behind how many lines of it, the merged stream may have lines that the positions do not
    /// tell of; from the floor on when there is none.
    pub(crate) unsure_from: Option<(Time, usize)>,
}

impl State {
    /// Notes that these lines are in the merged stream.
    pub(crate) fn put(&mut self, lines: &[Line]) {
        let Some(last) = lines.last() else { return };
        let at_last = lines.iter().rev().take_while(|line| line.at == last.at).count();
        self.at_floor = if last.at == self.floor { self.at_floor + at_last } else { at_last };
        self.floor = last.at;
    }

    /// Notes that lines were found there that were put at these times, and that nobody remembered: positions tell of them now, and
    /// none is behind the floor.
    pub(crate) fn found(&mut self, mut times: Vec<Time>) {
        times.sort_unstable();
        for at in times {
            if at < self.floor {
                continue;
            }
            self.at_floor = if at == self.floor { self.at_floor + 1 } else { 1 };
            self.floor = at;
        }
    }

    /// From where on the merged stream may have more than is known.
    pub(crate) fn unsure_from(&self) -> (Time, usize) {
        self.unsure_from.unwrap_or((self.floor, self.at_floor))
    }
}

/// Lines that the merged stream was found to have although nobody remembers putting them: a call's reply was lost, or
/// the function died after it. CloudWatch would keep both copies, so what is read again and stands here is not put.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unremembered(BTreeMap<String, Vec<Time>>);

impl Unremembered {
    /// From what was found from the state's [`State::unsure_from`] on, without what this invocation remembers of it.
    pub(crate) fn new(state: &State, found: Vec<Line>, remembered: &[Line]) -> Self {
        let (since, behind) = state.unsure_from();
        let known = found.iter().take_while(|line| line.at == since).count().min(behind);
        let mut lines: BTreeMap<String, Vec<Time>> = BTreeMap::new();
        for line in found.into_iter().skip(known) {
            lines.entry(line.text).or_default().push(line.at);
        }
        let mut there = Self(lines);
        for line in remembered {
            there.take(&line.text, line.at);
        }
        there
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of a stream's lines is not in the merged stream yet; when those were put that are there goes into `found`.
    pub(crate) fn missing(&mut self, label: &str, lines: Vec<Line>, now: Time, found: &mut Vec<Time>) -> Vec<Line> {
        if self.is_empty() {
            return lines;
        }
        let is_missing = |line: &Line| {
            // What is from the future by its host's clock was put earlier than it says.
            let put = self.take(&fitting(format!("{label}{}", line.text)), line.at.min(now));
            found.extend(put);
            put.is_none()
        };
        lines.into_iter().filter(is_missing).collect()
    }

    /// Takes a line out that was written at `at`. It was put with that time or a later one: what was put with an earlier
    /// one is another line that says the same.
    fn take(&mut self, text: &str, at: Time) -> Option<Time> {
        let times = self.0.get_mut(text)?;
        let found = times.iter().position(|put| *put >= at)?;
        let put = times.remove(found);
        if times.is_empty() {
            self.0.remove(text);
        }
        Some(put)
    }
}

/// How far a stream has been read. CloudWatch's own cursor is too long for the token: a new job begins at the moment
/// of the last line, and skips as many lines of that millisecond as were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// When the last line was written.
    pub(crate) at: Time,
    /// How many lines of that millisecond were read.
    pub(crate) of_that_moment: u32,
    /// How many lines were read in all.
    pub(crate) lines: u64,
}

/// A stream in the token: the first six digits of its task's id, and its container's place in the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u32);

impl Key {
    /// Of a container of a task.
    pub(crate) fn new(task: &str, container: usize) -> Self {
        let digits = u32::from_str_radix(task.get(..6).unwrap_or_default(), 16).unwrap_or_default();
        Self(digits << 8 | u32::try_from(container).unwrap_or_default() & 0xff)
    }
}

impl Position {
    /// Notes that these lines were read.
    pub(crate) fn advance(&mut self, lines: &[Line]) {
        for line in lines {
            if line.at == self.at {
                self.of_that_moment += 1;
            } else if line.at > self.at {
                self.at = line.at;
                self.of_that_moment = 1;
            }
            self.lines += 1;
        }
    }

    /// What comes once more when it is read from this position's moment on.
    pub(crate) fn known(&self) -> Known {
        Known { at: self.at, left: self.of_that_moment }
    }
}

/// So many lines of a moment that were read before, and come once more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    at: Time,
    left: u32,
}

impl Known {
    /// What of a page is new. A page may be empty, or end within that moment: the rest comes with the next one.
    pub(crate) fn skip(&mut self, lines: Vec<Line>) -> Vec<Line> {
        let is_new = |line: &Line| {
            let known = line.at == self.at && self.left > 0;
            match known {
                true => self.left -= 1,
                false if line.at > self.at => self.left = 0,
                false => {}
            }
            !known && line.at >= self.at
        };
        lines.into_iter().filter(is_new).collect()
    }
}

/// Which of a stream's lines are not in the merged stream, where they stand behind `label`: lines that came with an older
/// timestamp than those read before them, which a cursor passes by.
///
/// `None` while the merged stream does not show all the `forwarded` lines that it was given: nothing can be told from it.
pub(crate) fn late(all: Vec<Line>, label: &str, merged: &[Line], forwarded: u64) -> Option<Vec<Line>> {
    let mut there: BTreeMap<&str, usize> = BTreeMap::new();
    // What says that a container is followed, or what another task wrote, stands behind the same label.
    let texts: BTreeSet<String> = all.iter().map(|line| fitting(format!("{label}{}", line.text))).collect();
    for line in merged.iter().filter(|line| texts.contains(&line.text)) {
        *there.entry(&line.text).or_default() += 1;
    }
    if (there.values().sum::<usize>() as u64) < forwarded {
        return None;
    }
    let is_late = |line: &Line| match there.get_mut(fitting(format!("{label}{}", line.text)).as_str()) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        Some(_) | None => true,
    };
    Some(all.into_iter().filter(is_late).collect())
}

/// How far ahead of ours the clock of a host may be whose lines keep their times. CloudWatch refuses what is two hours ahead (PutLogEvents'
/// reference), and what was put behind a line must not be put before it: one host would silence all.
const AHEAD: Duration = Duration::from_secs(300);

/// The lines of several streams as one, each with its prefix, in the order in which they were written, none older than
/// `floor`, and none far ahead of `now`.
pub(crate) fn merge(streams: Vec<(String, Vec<Line>)>, floor: Time, now: Time) -> Vec<Line> {
    let mut all: Vec<_> = streams
        .into_iter()
        .flat_map(|(prefix, lines)| lines.into_iter().map(move |line| (line.at, prefix.clone(), line.text)))
        .collect();
    // Stable: lines of one stream keep their order within a millisecond.
    all.sort_by_key(|(at, _, _)| *at);
    all.into_iter()
        .map(|(at, prefix, text)| Line {
            at: at.min(now.plus(AHEAD)).max(floor),
            text: fitting(format!("{prefix}{text}")),
        })
        .collect()
}

/// A line that CloudWatch takes: not empty, not too long.
fn fitting(mut text: String) -> String {
    if text.len() > LONGEST_LINE {
        const CUT: &str = " ... (cut)";
        let end = (0..=LONGEST_LINE - CUT.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

/// Lines in as many calls as they need (fact 36). A batch spans less than a day, since lines are forwarded as they come.
pub(crate) fn batches(lines: &[Line]) -> Vec<&[Line]> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, line) in lines.iter().enumerate() {
        let cost = line.text.len() + LINE_COST;
        if at > begin && (bytes + cost > MOST_BYTES || at - begin == MOST_LINES) {
            batches.push(&lines[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += cost;
    }
    if begin < lines.len() {
        batches.push(&lines[begin..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, text: &str) -> Line {
        Line { at: Time::from_millis(at), text: text.into() }
    }

    #[test]
    fn what_was_put_and_not_remembered_raises_the_floor_so_that_no_position_is_behind_it() {
        let at = Time::from_millis;
        let mut state = State { floor: at(10), at_floor: 2, ..State::default() };
        state.found(vec![at(30), at(5), at(30), at(20)]);
        assert_eq!((state.floor, state.at_floor), (at(30), 2));
        state.found(vec![at(30)]);
        assert_eq!((state.floor, state.at_floor), (at(30), 3));
        state.found(Vec::new());
        assert_eq!((state.floor, state.at_floor), (at(30), 3));
    }

    #[test]
    fn a_hand_over_in_the_middle_of_a_millisecond_loses_and_doubles_nothing() {
        let all = [line(1, "a"), line(5, "b"), line(5, "b"), line(5, "c"), line(6, "d")];
        for read in 0..=all.len() {
            let mut position = Position::default();
            position.advance(&all[..read]);
            let from_there: Vec<_> = all.iter().filter(|line| line.at >= position.at).cloned().collect();
            // Also where a page ends within it, or is empty and not the last.
            for page in 1..=all.len() {
                let mut known = position.known();
                let mut pages = vec![Vec::new()];
                pages.extend(from_there.chunks(page).map(<[Line]>::to_vec));
                let new: Vec<_> = pages.into_iter().flat_map(|page| known.skip(page)).collect();
                assert_eq!(new, all[read..], "handed over after {read} lines, {page} lines a page");
            }
            assert_eq!(position.lines, read as u64);
        }
    }

    #[test]
    fn lines_of_several_streams_stand_in_the_order_in_which_they_were_written() {
        let merged = merge(
            vec![
                ("us | ".into(), vec![line(1, "a"), line(4, "b"), line(4, "c")]),
                ("eu | ".into(), vec![line(2, "x"), line(4, "y")]),
            ],
            Time::from_millis(3),
            Time::from_millis(10),
        );
        let texts: Vec<_> = merged.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["us | a", "eu | x", "us | b", "us | c", "eu | y"]);
        assert!(merged.is_sorted_by_key(|line| line.at), "PutLogEvents takes lines in time order only");
        assert_eq!(merged[0].at.millis(), 3, "nothing goes before what the stream already has");
    }

    #[test]
    fn a_host_whose_clock_is_ahead_silences_nobody() {
        let (now, day) = (Time::from_millis(1_000_000), 86_400_000);
        let merged = merge(vec![("us | ".into(), vec![line(now.millis() + day, "a")])], Time::default(), now);
        let floor = merged[0].at;
        assert_eq!(floor, now.plus(AHEAD), "CloudWatch takes nothing that is two hours ahead");
        assert_eq!(merge(vec![("eu | ".into(), vec![line(now.millis(), "b")])], floor, now)[0].at, floor);
    }

    #[test]
    fn lines_that_arrived_although_the_reply_was_lost_are_not_put_again() {
        let mut state = State::default();
        state.put(&[line(1, "us | a"), line(5, "us | ."), line(5, "us | .")]);
        assert_eq!((state.floor.millis(), state.at_floor), (5, 2));
        let before = vec![line(5, "us | ."), line(5, "us | .")];
        // They were put with a later timestamp than they were written at.
        let put = [line(9, "us | ."), line(9, "us | b"), line(9, "us | b")];
        let batch = [line(5, "."), line(6, "b"), line(6, "b")];
        for arrived in 0..=batch.len() {
            let mut there = Unremembered::new(&state, [&before, &put[..arrived]].concat(), &[]);
            // Read again in two parts.
            let parts = [&batch[..1], &batch[1..]]
                .map(|part| there.missing("us | ", part.to_vec(), Time::from_millis(20), &mut Vec::new()));
            assert_eq!(parts.concat(), batch[arrived..], "{arrived} had arrived");
            assert!(there.is_empty());
        }
        let mut there = Unremembered::new(&state, [&before, &put[..]].concat(), &put[1..2]);
        let mut found = Vec::new();
        let missing = there.missing("us | ", vec![line(6, "b"), line(6, "b")], Time::from_millis(20), &mut found);
        assert_eq!((missing, found.len()), (vec![line(6, "b")], 1), "one is remembered");
        let missing = there.missing("us | ", vec![line(10, ".")], Time::from_millis(20), &mut found);
        assert_eq!(missing, [line(10, ".")], "it was written after that was put");
        // By its host's clock it was written an hour from now; it was put with a time that CloudWatch takes.
        let mut there = Unremembered::new(&State::default(), vec![line(30, "us | early")], &[]);
        let missing = there.missing("us | ", vec![line(3_600_000, "early")], Time::from_millis(25), &mut found);
        assert_eq!(missing, []);
        state.put(&[line(5, "us | .")]);
        assert_eq!(state.at_floor, 3);
    }

    #[test]
    fn a_call_holds_at_most_what_cloudwatch_takes() {
        let many: Vec<_> = (0..25_000).map(|at| line(at, "x")).collect();
        assert_eq!(batches(&many).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [10_000, 10_000, 5_000]);
        let long: Vec<_> = (0..9).map(|at| line(at, &"x".repeat(250_000))).collect();
        for batch in batches(&long) {
            assert!(batch.iter().map(|line| line.text.len() + LINE_COST).sum::<usize>() <= 1_048_576);
        }
        assert_eq!(batches(&long).concat(), long);
        assert!(batches(&[]).is_empty());
    }

    #[test]
    fn a_line_too_long_for_cloudwatch_is_cut_and_says_so() {
        let text = fitting("\u{e4}".repeat(200_000));
        assert!(text.len() <= LONGEST_LINE && text.ends_with("(cut)"));
    }

    #[test]
    fn a_line_that_came_behind_the_cursor_is_found_by_what_the_merged_stream_has() {
        let all = [line(1, "a"), line(2, "late"), line(3, "."), line(4, "."), line(5, ".")];
        let merged = [line(1, "us | a"), line(3, "us | ."), line(4, "eu | ."), line(5, "us | .")];
        assert_eq!(late(all.to_vec(), "us | ", &merged, 3).unwrap(), [line(2, "late"), line(5, ".")]);
        assert_eq!(late(all.to_vec(), "us | ", &merged, 4), None, "the merged stream does not show all that was put");
        assert_eq!(late(vec![line(1, "a")], "us | ", &merged, 1).unwrap(), []);
    }
}
