//! One container's stream.

use shared::aws::Place;
use shared::aws::logs::{From, Line, Logs};
use shared::{Error, Tick, Time, Trouble};

use crate::decide;
use crate::lines::{Key, Known, Position, late};
use crate::merged::Merged;

/// A page with fewer lines than this is most likely all there is: pages end at 10,000 lines or 1 MB (fact 33).
const SMALL_PAGE: usize = 1000;

/// The same in bytes.
const SMALL_PAGE_BYTES: usize = 500_000;

/// How many pages of one stream are read in one look, so that a flood in one does not silence the others.
const PAGES: usize = 10;

/// One container's stream, as one invocation knows it.
#[derive(Debug)]
pub(crate) struct Source {
    /// The task's id.
    pub(crate) task: String,
    pub(crate) arn: String,
    pub(crate) key: Key,
    pub(crate) place: Place,
    pub(crate) logs: Logs,
    pub(crate) group: String,
    pub(crate) stream: String,
    /// What stands in front of its lines.
    pub(crate) label: String,
    pub(crate) cursor: Option<String>,
    /// What the job before has read, and comes once more.
    pub(crate) known: Known,
    pub(crate) stopped: Option<Time>,
    /// Whether it has stopped since all of its containers had ended well.
    pub(crate) succeeded: bool,
    pub(crate) news: Time,
    pub(crate) last_read: Time,
    pub(crate) exists: bool,
    /// Whether it was read as far as it went, once in this invocation.
    pub(crate) caught_up: bool,
    /// Since when this invocation follows it.
    pub(crate) since: Time,
    /// What was read and is not known to be in the merged stream.
    pub(crate) pending: Vec<Line>,
    /// How many lines are in the merged stream.
    pub(crate) lines: u64,
    pub(crate) counting: Counting,
    /// Whether it was read and counted once more, long after it had fallen silent.
    pub(crate) is_read_again: bool,
    pub(crate) reading: Trouble,
    pub(crate) recounting: Trouble,
    /// Why it cannot be followed any more.
    pub(crate) lost: Option<String>,
}

/// How far its lines were counted again, from the first on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Counting {
    /// So many up to this cursor.
    Under(From, u64),
    /// To the end, and all of them were forwarded.
    Done,
}

impl Counting {
    pub(crate) const NOT_BEGUN: Self = Self::Under(From::Head, 0);
}

impl Source {
    /// What `decide` is told of it.
    pub(crate) fn seen(&self, environment: usize) -> decide::Source {
        decide::Source {
            environment,
            stopped: self.stopped,
            succeeded: self.succeeded,
            news: self.news,
            read: self.last_read,
            exists: self.exists,
            waits: !self.pending.is_empty(),
            counted: self.counting == Counting::Done,
            lost: self.lost.is_some(),
        }
    }

    /// Reads what is new, from `position` on when this invocation has no cursor yet. What cannot be read is tried again
    /// for a while, then the stream is lost, and the others go on.
    pub(crate) async fn read(&mut self, tick: &Tick<'_>, position: Position) {
        let read = self.pages(tick, position).await;
        if let Err(verdict) = self.reading.note(tick.now, read) {
            self.lost = Some(verdict.message);
        }
    }

    async fn pages(&mut self, tick: &Tick<'_>, position: Position) -> Result<(), Error> {
        for _ in 0..PAGES {
            let from = match &self.cursor {
                Some(cursor) => From::Cursor(cursor.clone()),
                None if position.lines == 0 => From::Head,
                None => {
                    self.known = position.known();
                    From::Moment(position.at)
                }
            };
            let page = self.logs.page(&self.group, &self.stream, &from).await?;
            self.last_read = tick.now;
            let Some(page) = page else {
                self.caught_up = true;
                break;
            };
            self.exists = true;
            // The same cursor again is the end; an empty page with another one is not, and counts as news (fact 33).
            if self.cursor.as_ref() == Some(&page.cursor) {
                self.caught_up = true;
                break;
            }
            self.news = tick.now;
            let is_new = page.lines.last().is_some_and(|line| line.at >= self.since);
            let bytes: usize = page.lines.iter().map(|line| line.text.len()).sum();
            let is_small = page.lines.len() < SMALL_PAGE && bytes < SMALL_PAGE_BYTES;
            let new = self.known.skip(page.lines);
            if !new.is_empty() {
                self.counting = Counting::NOT_BEGUN;
            }
            self.pending.extend(new);
            self.cursor = Some(page.cursor);
            // Whether there is more after a small page is for the next look: one call for each stream and look. It is no end, either
            // (fact 33), unless what it brought was written since it is followed.
            if is_small {
                self.caught_up |= is_new;
                break;
            }
        }
        Ok(())
    }

    /// Counts its lines again from the first on, since a cursor passes by what comes with an older timestamp; what was
    /// passed by waits then for being put. The merged stream has none of its lines from before `since`.
    pub(crate) async fn count(&mut self, tick: &Tick<'_>, merged: &mut Merged, since: Time) {
        let counted = self.count_pages(tick, merged, since).await;
        if let Err(verdict) = self.recounting.note(tick.now, counted) {
            self.lost = Some(format!("its lines could not be counted: {}", verdict.message));
        }
    }

    async fn count_pages(&mut self, tick: &Tick<'_>, merged: &mut Merged, since: Time) -> Result<(), Error> {
        for _ in 0..PAGES {
            let Counting::Under(from, counted) = &self.counting else { return Ok(()) };
            let Some(page) = self.logs.page(&self.group, &self.stream, from).await? else {
                self.counting = Counting::Done;
                return Ok(());
            };
            let counted = counted + page.lines.len() as u64;
            let next = From::Cursor(page.cursor);
            // The same cursor again is the end, and so is where the tail itself stands.
            let is_end = next == *from || self.cursor.clone().map(From::Cursor).as_ref() == Some(&next);
            self.counting = Counting::Under(next, counted);
            if is_end {
                return self.settle(tick, merged, since, counted).await;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, tick: &Tick<'_>, merged: &mut Merged, since: Time, counted: u64) -> Result<(), Error> {
        if counted <= self.lines {
            self.counting = Counting::Done;
            return Ok(());
        }
        // Not begun again unless this goes well: whatever is missing is looked for again.
        self.counting = Counting::NOT_BEGUN;
        // What came while it was counted comes by the cursor: taken up here, too, it would be shown twice.
        if self.cursor.is_some() {
            let waiting = self.pending.len();
            self.pages(tick, Position::default()).await?;
            if self.pending.len() > waiting {
                return Ok(());
            }
        }
        let all = self.logs.lines_since(&self.group, &self.stream, Time::default()).await?;
        let there = merged.lines_since(tick, since).await?;
        match late(all, &self.label, &there, self.lines) {
            None => Ok(()),
            Some(late) if late.is_empty() => {
                self.counting = Counting::Done;
                Ok(())
            }
            Some(late) => {
                // Only what a cursor has passed by; what is newer comes by the cursor.
                let passed = late.len().min(usize::try_from(counted - self.lines).unwrap_or(usize::MAX));
                self.pending.extend(late.into_iter().take(passed));
                Ok(())
            }
        }
    }
}
