//! When there will be no more lines, and whether anybody needs to wait for that: pure, total, clock-free.

use std::time::Duration;

use shared::Time;

/// How long a stopped task's stream must stay silent before it counts as complete: longer than CloudWatch takes, as a
/// rule, to show what an agent has flushed.
pub(crate) const QUIET: Duration = Duration::from_secs(5);

/// How long a stopped task's stream may be missing altogether: a container that wrote nothing has none.
const NO_STREAM: Duration = Duration::from_secs(15);

/// How long the tail of a halted release goes on: its tasks get SIGTERM and up to two minutes (fact 22).
const HALTED: Duration = Duration::from_secs(150);

/// How long the tail goes on after the action that runs the tasks has ended: that one waits until they have stopped, so
/// only their streams' silence is to be waited for.
const GIVEN_UP: Duration = Duration::from_secs(600);

/// How long the tail then goes on over tasks that still run: the action has given up on them, or is dead, and nobody but `halt-release` stops
/// them any more, which waits for the stage's end.
const LEFT: Duration = Duration::from_secs(30);

/// How long a tail may last beyond the longest that its task may: stops that are ignored, and the quiet periods.
const LIMIT_BEYOND: Duration = Duration::from_secs(30 * 60);

/// What reading and counting many streams once more takes.
const ONCE_MORE: Duration = Duration::from_secs(30);

/// How many streams are read in one look, of those that share a quota: as many as may be read in a second (fact 34).
pub(crate) const READS: usize = 5;

/// How many of them are read before what they brought is put: a line must not wait for the reading of all the others.
pub(crate) const AT_ONCE: usize = 2;

/// How many containers one action follows: as many positions as fit into the token.
pub(crate) const MOST_CONTAINERS: usize = 100;

/// What is known of the action that runs the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// It is under way: tasks may still come.
    Running,
    /// It has ended, at the latest then: no more tasks will come.
    Ended(Time),
    /// There is none beside this action: the tasks that are seen are all there will be.
    None,
}

/// How long a tail may last whose task may run, and wait for its place, for this long.
pub(crate) fn limit(timeout: Duration, placement: Duration) -> Duration {
    timeout + placement + LIMIT_BEYOND
}

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) now: Time,
    /// Since when the release is halted.
    pub(crate) halted: bool,
    /// Whether every task is known that there was when this invocation began.
    pub(crate) has_searched: bool,
    /// When the tail must be over.
    pub(crate) until: Time,
    /// Whether the action may be answered while its streams are listened to and counted still.
    pub(crate) may_answer: bool,
    pub(crate) runner: Runner,
    /// How many environments there are.
    pub(crate) environments: usize,
    /// Up to when all of them were seen: a look that failed shows nothing.
    pub(crate) looked: Time,
    pub(crate) sources: Vec<Source>,
}

impl Observation {
    /// Whether what is there ends it, and there is time for one more look at what fell silent long ago.
    pub(crate) fn has_time(&self) -> bool {
        !self.halted && self.now.plus(ONCE_MORE) < self.until && self.sources.iter().all(Source::is_over)
    }
}

/// One container's stream, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// Which environment, by its place in the manifest's order.
    pub(crate) environment: usize,
    /// When its task was seen to have stopped.
    pub(crate) stopped: Option<Time>,
    /// Whether it has stopped since all of its containers had ended well.
    pub(crate) succeeded: bool,
    /// When it last had something new, or was first looked at.
    pub(crate) news: Time,
    /// When it was read for the last time: silence counts only as far as it was listened to.
    pub(crate) read: Time,
    /// Whether there is such a stream.
    pub(crate) exists: bool,
    /// Whether lines of it wait for being put into the merged stream.
    pub(crate) waits: bool,
    /// Whether its lines were counted from the first to the last, and all of them had been forwarded.
    pub(crate) counted: bool,
    /// Whether it cannot be followed any more.
    pub(crate) lost: bool,
}

impl Source {
    /// Whether nothing more seems to come: then its lines are counted.
    pub(crate) fn is_quiet(&self) -> bool {
        let quiet = if self.exists { QUIET } else { NO_STREAM };
        !self.waits && self.stopped.is_some_and(|stopped| self.read.since(stopped.max(self.news)) >= quiet)
    }

    /// Whether all of it was forwarded, and nothing more will come.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_quiet() && (self.counted || !self.exists)
    }

    fn is_over(&self) -> bool {
        self.lost || self.is_complete()
    }

    /// Whether all of it that can be read is in the merged stream: since its task has stopped, a read has brought nothing.
    fn is_shown(&self) -> bool {
        let silent = |stopped: Time| self.read >= stopped && self.read > self.news;
        self.lost || !self.waits && self.stopped.is_some_and(silent)
    }
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// More may come.
    Follow,
    /// More may come, and nobody needs to wait for it.
    Answer,
    /// All is there, or nothing more is waited for.
    Done,
}

/// Whether more may come.
pub(crate) fn decide(seen: &Observation) -> Decision {
    let quiet = seen.sources.iter().all(Source::is_over);
    let halted_for_long = seen.halted
        && seen.has_searched
        && seen.sources.iter().all(|source| seen.now.since(source.news) >= HALTED || source.is_over());
    let complete = match seen.runner {
        // A task that has just been started may not be listed yet.
        // When it gave up on a task that ignores its stop, that one's end is not waited for either.
        Runner::Ended(at) => {
            let left = seen.sources.iter().all(|source| source.stopped.is_none() || source.is_over());
            (quiet && seen.looked.since(at) >= QUIET)
                || (left && !seen.sources.is_empty() && seen.looked.since(at) >= LEFT)
                || seen.now.since(at) >= GIVEN_UP
        }
        Runner::None => {
            let mut with_source: Vec<_> = seen.sources.iter().map(|source| source.environment).collect();
            with_source.sort_unstable();
            with_source.dedup();
            quiet && with_source.len() == seen.environments
        }
        Runner::Running => false,
    };
    if complete || halted_for_long || seen.now >= seen.until {
        return Decision::Done;
    }
    // Its tasks have all been seen: each environment has one, unless it has none with a log.
    let is_shown = !seen.sources.is_empty() && seen.sources.iter().all(Source::is_shown);
    // What runs the tasks need not have said so yet: once each has ended well, it starts no other.
    let has_ended = match seen.runner {
        Runner::Ended(at) => seen.looked >= at,
        Runner::Running => (0..seen.environments)
            .all(|at| seen.sources.iter().any(|source| source.environment == at && source.succeeded)),
        Runner::None => false,
    };
    if seen.may_answer && has_ended && is_shown && !seen.halted { Decision::Answer } else { Decision::Follow }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000_000);

    fn ago(seconds: u64) -> Time {
        Time::from_millis(NOW.millis() - seconds * 1000)
    }

    fn source(stopped: Option<u64>, news: u64) -> Source {
        Source {
            environment: 0,
            stopped: stopped.map(ago),
            succeeded: false,
            news: ago(news),
            read: NOW,
            exists: true,
            waits: false,
            counted: true,
            lost: false,
        }
    }

    #[test]
    fn it_ends_when_the_tasks_have_ended_and_their_streams_are_quiet() {
        for (name, runner, halted, sources, expected) in [
            ("nothing yet", Runner::Running, false, vec![], Decision::Follow),
            ("tasks may still come", Runner::Running, false, vec![source(Some(60), 60)], Decision::Follow),
            ("it runs", Runner::Running, false, vec![source(None, 60)], Decision::Follow),
            ("all quiet", Runner::Ended(ago(6)), false, vec![source(Some(6), 6)], Decision::Done),
            ("news just now", Runner::Ended(ago(60)), false, vec![source(Some(60), 4)], Decision::Follow),
            ("it was never started", Runner::Ended(ago(6)), false, vec![], Decision::Done),
            ("just ended", Runner::Ended(ago(1)), false, vec![], Decision::Follow),
            ("alone, not all started", Runner::None, false, vec![], Decision::Follow),
            ("alone, all over", Runner::None, false, vec![source(Some(9), 9)], Decision::Done),
            ("halted, still stopping", Runner::Running, true, vec![source(None, 100)], Decision::Follow),
            ("halted for long", Runner::Running, true, vec![source(None, 200)], Decision::Done),
            ("halted, nothing there", Runner::Running, true, vec![], Decision::Done),
            (
                "not counted yet",
                Runner::Ended(ago(9)),
                false,
                vec![Source { counted: false, ..source(Some(9), 9) }],
                Decision::Follow,
            ),
            ("it is left running", Runner::Ended(ago(29)), false, vec![source(None, 1)], Decision::Follow),
            (
                "it is left running, and only halt-release stops it",
                Runner::Ended(ago(30)),
                false,
                vec![source(None, 1), source(Some(9), 9)],
                Decision::Done,
            ),
            (
                "one is left running, and the end of another one is not read yet",
                Runner::Ended(ago(30)),
                false,
                vec![source(None, 1), source(Some(4), 4)],
                Decision::Follow,
            ),
            (
                "it cannot be read",
                Runner::Ended(ago(9)),
                false,
                vec![Source { lost: true, ..source(None, 9) }],
                Decision::Done,
            ),
        ] {
            let until = NOW.plus(Duration::from_secs(1));
            let seen = Observation {
                now: NOW,
                halted,
                has_searched: true,
                until,
                may_answer: false,
                runner,
                environments: 1,
                looked: NOW,
                sources,
            };
            assert_eq!(decide(&seen), expected, "{name}");
            let unsearched = Observation { has_searched: false, ..seen.clone() };
            assert!(
                !halted || decide(&unsearched) == Decision::Follow,
                "{name}, and it does not know yet what is there"
            );
            assert_eq!(
                decide(&Observation { until: NOW, ..seen.clone() }),
                Decision::Done,
                "{name}, and its time is over"
            );
            let unseen = decide(&Observation { looked: ago(60), ..seen }) == Decision::Done;
            assert!(!(unseen && name.contains("left running")), "{name}, and it was not seen since");
        }
    }

    #[test]
    fn nobody_waits_for_the_count_once_all_that_can_be_read_is_shown_and_the_tasks_have_succeeded() {
        // A second ago it stopped; since then a read has brought nothing.
        let shown = source(Some(1), 1);
        let ended = Runner::Ended(ago(1));
        let well = |environment| Source { environment, succeeded: true, ..shown };
        let bad = Source { environment: 1, ..shown };
        for (name, runner, looked, halted, may_answer, sources, expected) in [
            ("shown", ended, NOW, false, true, vec![shown, shown], Decision::Answer),
            ("answered already, or too late for it", ended, NOW, false, false, vec![shown], Decision::Follow),
            ("it is not known that it ended", Runner::Running, NOW, false, true, vec![shown], Decision::Follow),
            ("every task has ended well", Runner::Running, NOW, false, true, vec![well(0), well(1)], Decision::Answer),
            ("one of them did not", Runner::Running, NOW, false, true, vec![well(0), bad], Decision::Follow),
            ("one is not there yet", Runner::Running, NOW, false, true, vec![well(0)], Decision::Follow),
            ("alone", Runner::None, NOW, false, true, vec![shown], Decision::Follow),
            ("no look since it ended", ended, ago(2), false, true, vec![shown], Decision::Follow),
            ("halted", ended, NOW, true, true, vec![shown], Decision::Follow),
            ("nothing was seen", ended, NOW, false, true, vec![], Decision::Follow),
            ("one runs", ended, NOW, false, true, vec![shown, source(None, 9)], Decision::Follow),
            ("the last read brought something", ended, NOW, false, true, vec![source(Some(1), 0)], Decision::Follow),
            ("lines wait", ended, NOW, false, true, vec![Source { waits: true, ..shown }], Decision::Follow),
            (
                "not read since it stopped",
                ended,
                NOW,
                false,
                true,
                vec![Source { read: ago(2), news: ago(3), ..shown }],
                Decision::Follow,
            ),
            (
                "one is lost",
                ended,
                NOW,
                false,
                true,
                vec![Source { lost: true, ..source(None, 9) }, shown],
                Decision::Answer,
            ),
        ] {
            let until = NOW.plus(Duration::from_secs(1));
            let seen = Observation {
                now: NOW,
                halted,
                has_searched: true,
                until,
                may_answer,
                runner,
                environments: 2,
                looked,
                sources,
            };
            assert_eq!(decide(&seen), expected, "{name}");
        }
    }

    #[test]
    fn silence_counts_only_as_far_as_it_was_listened_to() {
        let unread = Source { read: ago(58), ..source(Some(60), 60) };
        assert!(!unread.is_complete(), "its reads have failed for a minute");
        assert!(
            !Source { waits: true, ..source(Some(60), 60) }.is_complete(),
            "its lines are not in the merged stream"
        );
        let runner = Runner::Ended(ago(60));
        let until = NOW.plus(Duration::from_secs(1));
        let seen = |looked, sources| Observation {
            now: NOW,
            halted: false,
            has_searched: true,
            until,
            may_answer: false,
            runner,
            environments: 1,
            looked,
            sources,
        };
        assert_eq!(decide(&seen(NOW, vec![unread])), Decision::Follow);
        assert_eq!(decide(&seen(ago(58), vec![])), Decision::Follow, "a task may be there that no look has shown");
        assert_eq!(decide(&seen(NOW, vec![])), Decision::Done);
    }

    #[test]
    fn a_stream_that_does_not_exist_is_waited_for_longer() {
        let missing = Source { exists: false, ..source(Some(10), 10) };
        assert!(!missing.is_complete());
        assert!(Source { exists: false, ..source(Some(15), 15) }.is_complete());
    }
}
