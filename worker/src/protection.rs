//! When the agent is asked to protect the task, and when to let it go. Pure, total, clock-free.
//!
//! Invariants: there is one request at a time; protection is renewed long before it ends; what may have arrived counts as
//! protected until the agent has confirmed that it is not; trouble is said once, and so is its end.

use std::time::Duration;

use crate::jobs::Lasting;
use crate::message;

/// What is asked for when nobody knows how long a job takes: ECS's own two hours.
const LEASE: Duration = Duration::from_secs(2 * 60 * 60);
/// The most that ECS takes: 2,880 minutes.
const LONGEST: Duration = Duration::from_secs(2_880 * 60);
/// Protection that is this young outlives a pause between two jobs by [`LINGER`]: jobs of milliseconds must not become two
/// calls of the agent each, which ECS throttles; a hundred workers are 20 calls a second at most. An older one ends with the
/// first pause, so that a worker with one job after the other can be stopped in between.
const YOUNG: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_secs(1);
/// The pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What ECS says of a task that no service started: it is never protected, whoever asks, and needs it not. And perhaps of one that is about to
/// start (unconfirmed), so that it is asked for so long.
const NEVER: &str = "TASK_NOT_VALID";
const UNTIL_NEVER: Duration = Duration::from_secs(600);

/// What is said of a request that was given up: the agent may still carry it out.
pub(crate) const UNANSWERED: &str = "has not answered within";

/// How long after a request was given up the agent may still carry it out: twice as long as it was waited for.
const SETTLED: Duration = Duration::from_secs(12);

/// What the agent is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Protection for so many minutes.
    Protect(u64),
    /// None.
    Release,
}

/// What is known of the task's protection.
#[derive(Debug, Default)]
pub(crate) struct Protection {
    /// From when to when it is known to hold.
    held: Option<(Duration, Duration)>,
    /// Whether a request for it may have arrived that was not taken back.
    maybe: bool,
    /// The request under way, and since when.
    asked: Option<(Wish, Duration)>,
    /// When the next try may be made, and the pause after that.
    pause: Option<(Duration, Duration)>,
    /// Whether a request was given up that the agent may still carry out, after one that came later.
    doubt: bool,
    /// When to ask once more, since that may have happened.
    again: Option<Duration>,
    /// Why it does not work, once that was said.
    trouble: Option<String>,
    /// Since when ECS says that it never will.
    vain: Option<Duration>,
    idle_since: Option<Duration>,
}

impl Protection {
    /// What to ask the agent now, for jobs that last so long, if anything; it counts as asked.
    pub(crate) fn look(&mut self, jobs: Option<Lasting>, stopping: bool, now: Duration) -> Option<Wish> {
        self.idle_since = if jobs.is_some() { None } else { self.idle_since.or(Some(now)) };
        if self.is_vain(now) || self.asked.is_some() || self.pause.is_some_and(|(until, _)| until > now) {
            return None;
        }
        let wish = match jobs {
            Some(lasting) => self.renewal(lasting, now).filter(|at| *at <= now).map(|_| protect(lasting, now))?,
            None => self.release(stopping).filter(|at| *at <= now).map(|_| Wish::Release)?,
        };
        match wish {
            Wish::Protect(_) => self.maybe = true,
            // From now on it may be gone at any moment: a job that comes now has to ask again.
            Wish::Release => self.held = None,
        }
        self.again = None;
        self.asked = Some((wish, now));
        Some(wish)
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn next(&self, jobs: Option<Lasting>, stopping: bool, now: Duration) -> Option<Duration> {
        if self.is_vain(now) || self.asked.is_some() {
            return None;
        }
        let due = match jobs {
            Some(lasting) => self.renewal(lasting, now)?,
            None => self.release(stopping)?,
        };
        Some(self.pause.map_or(due, |(until, _)| due.max(until)))
    }

    /// What the agent answered: what to tell people.
    pub(crate) fn answered(&mut self, answer: Result<(), String>, now: Duration) -> Option<String> {
        let (wish, since) = self.asked.take()?;
        match answer {
            Ok(()) => {
                (self.pause, self.vain) = (None, None);
                let doubt = std::mem::take(&mut self.doubt);
                self.again = doubt.then_some(now + SETTLED);
                match wish {
                    // Counted from when it was asked for: the agent's clock began later.
                    Wish::Protect(minutes) => self.held = Some((since, since + Duration::from_secs(60 * minutes))),
                    Wish::Release => self.maybe = doubt,
                }
                self.trouble.take().map(|_| message::works_again())
            }
            Err(why) => {
                let pause = self.pause.map_or(FIRST_PAUSE, |(_, next)| next);
                self.pause = Some((now + pause, (2 * pause).min(LONGEST_PAUSE)));
                self.doubt |= why.contains(UNANSWERED);
                self.vain = if why.contains(NEVER) { self.vain.or(Some(now)) } else { None };
                let is_news = self.trouble.is_none();
                self.trouble = Some(why.clone());
                let said = if wish == Wish::Release { message::unreleased(&why) } else { message::unprotected(&why) };
                is_news.then_some(said)
            }
        }
    }

    /// Whether ECS has said for so long that it never will that it is believed.
    fn is_vain(&self, now: Duration) -> bool {
        self.vain.is_some_and(|since| now.saturating_sub(since) >= UNTIL_NEVER)
    }

    /// Whether the task is known to be protected at this moment.
    pub(crate) fn holds(&self, now: Duration) -> bool {
        self.held.is_some_and(|(_, until)| until > now)
    }

    /// Why it does not work, when that is known.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// When protection should be asked for, for jobs that last so long; `None` when what holds is enough.
    fn renewal(&self, lasting: Lasting, now: Duration) -> Option<Duration> {
        let due = self.due(lasting, now);
        self.again.map_or(due, |again| Some(due.map_or(again, |due| due.min(again))))
    }

    fn due(&self, lasting: Lasting, now: Duration) -> Option<Duration> {
        let Some((since, until)) = self.held.filter(|(_, until)| *until > now) else { return Some(now) };
        let half = since + (until - since) / 2;
        match lasting {
            Lasting::Until(end) if until >= end => None,
            // A job was announced that takes longer; what cannot be had at once is renewed at half time.
            Lasting::Until(_) if until - since < LONGEST => Some(now),
            Lasting::Until(_) => Some(half),
            Lasting::Unknown => Some(half),
        }
    }

    /// When it should be let go, with no job.
    fn release(&self, stopping: bool) -> Option<Duration> {
        let idle = self.idle_since.filter(|_| self.maybe)?;
        let old = self.held.is_none_or(|(since, _)| idle.saturating_sub(since) >= YOUNG);
        let due = if stopping || old { idle } else { idle + LINGER };
        Some(self.again.map_or(due, |again| due.max(again)))
    }
}

fn protect(lasting: Lasting, now: Duration) -> Wish {
    let wanted = match lasting {
        Lasting::Until(end) => end.saturating_sub(now),
        Lasting::Unknown => LEASE,
    };
    // Rounded up, and one minute at least.
    Wish::Protect((wanted.min(LONGEST).as_millis().div_ceil(60_000).max(1)).try_into().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const UNKNOWN: Option<Lasting> = Some(Lasting::Unknown);

    fn until(seconds: u64) -> Option<Lasting> {
        Some(Lasting::Until(at(seconds)))
    }

    /// Protected at second 0, for jobs that last so long.
    fn protected(jobs: Option<Lasting>) -> Protection {
        let mut protection = Protection::default();
        assert!(matches!(protection.look(jobs, false, at(0)), Some(Wish::Protect(_))));
        assert_eq!(protection.look(jobs, false, at(0)), None, "one request at a time");
        assert_eq!(protection.answered(Ok(()), at(1)), None);
        protection
    }

    #[test]
    fn as_many_minutes_are_asked_for_as_the_job_takes_and_ecs_allows() {
        for (jobs, minutes) in [
            (until(1), 1),
            (until(60), 1),
            (until(61), 2),
            (until(2 * 3600), 120),
            (UNKNOWN, 120),
            (until(72 * 3600), 2880),
        ] {
            assert_eq!(Protection::default().look(jobs, false, at(0)), Some(Wish::Protect(minutes)), "{jobs:?}");
        }
        assert_eq!(Protection::default().look(None, true, at(9)), None, "idle from the start: nothing to release");
    }

    #[test]
    fn it_is_renewed_at_half_time_and_when_a_longer_job_is_announced() {
        let mut unknown = protected(UNKNOWN);
        assert_eq!(unknown.next(UNKNOWN, false, at(10)), Some(at(3600)));
        assert_eq!(unknown.look(UNKNOWN, false, at(3599)), None);
        assert_eq!(unknown.look(UNKNOWN, false, at(3600)), Some(Wish::Protect(120)));
        unknown.answered(Ok(()), at(3601));
        assert!(unknown.holds(at(3600 + 7199)) && !unknown.holds(at(3600 + 7200)));

        let mut short = protected(until(600));
        assert_eq!(short.next(until(600), false, at(10)), None, "it lasts to the end of the job");
        assert_eq!(short.look(until(3600), false, at(10)), Some(Wish::Protect(60)));

        let days = until(72 * 3600);
        let mut long = protected(days);
        assert_eq!(long.next(days, false, at(10)), Some(at(24 * 3600)));
        assert_eq!(long.look(days, false, at(24 * 3600)), Some(Wish::Protect(2880)));
    }

    #[test]
    fn what_ecs_never_protects_is_said_once_and_not_asked_for_again() {
        let mut standalone = Protection::default();
        assert_eq!(standalone.look(UNKNOWN, false, at(0)), Some(Wish::Protect(120)));
        let why = || "the agent refused it: TASK_NOT_VALID".to_owned();
        assert!(standalone.answered(Err(why()), at(1)).is_some());
        assert_eq!(standalone.look(UNKNOWN, false, at(600)), Some(Wish::Protect(120)), "it may be about to start");
        assert_eq!(standalone.answered(Err(why()), at(601)), None);
        for jobs in [UNKNOWN, None, until(9)] {
            assert_eq!(standalone.look(jobs, true, at(4000)), None, "{jobs:?}");
            assert_eq!(standalone.next(jobs, true, at(4000)), None, "{jobs:?}");
        }
        assert!(!standalone.holds(at(4000)));
    }

    #[test]
    fn short_jobs_one_after_the_other_are_one_protection_until_it_is_old() {
        let mut protection = protected(UNKNOWN);
        assert_eq!(protection.look(None, false, at(3)), None);
        assert_eq!(protection.next(None, false, at(3)), Some(at(4)));
        assert_eq!(protection.look(UNKNOWN, false, at(3)), None, "the next job");
        assert_eq!(protection.look(None, false, at(9)), None);
        assert_eq!(protection.look(None, false, at(10)), Some(Wish::Release));
        assert!(!protection.holds(at(10)), "nobody may count on what is being let go");
        assert_eq!(protection.look(UNKNOWN, false, at(10)), None, "one request at a time");
        protection.answered(Ok(()), at(11));
        assert_eq!(protection.look(UNKNOWN, false, at(11)), Some(Wish::Protect(120)));

        let mut old = protected(UNKNOWN);
        assert_eq!(old.look(None, false, at(10)), Some(Wish::Release), "the first pause");
    }

    #[test]
    fn a_stop_lets_an_idle_task_go_at_once_and_a_busy_one_when_it_is_idle() {
        let mut idle = protected(UNKNOWN);
        assert_eq!(idle.look(None, true, at(5)), Some(Wish::Release));
        let mut busy = protected(UNKNOWN);
        assert_eq!(busy.look(UNKNOWN, true, at(5)), None);
        assert_eq!(busy.look(None, true, at(9)), Some(Wish::Release));
    }

    #[test]
    fn trouble_is_said_once_and_tried_again_with_longer_and_longer_pauses() {
        let mut protection = Protection::default();
        let (mut now, mut said, mut pauses) = (at(0), Vec::new(), Vec::new());
        for _ in 0..9 {
            assert_eq!(protection.look(UNKNOWN, false, now), Some(Wish::Protect(120)));
            said.extend(protection.answered(Err("it answered 500".into()), now));
            let next = protection.next(UNKNOWN, false, now).unwrap_or_default();
            assert_eq!(protection.look(UNKNOWN, false, next - Duration::from_millis(1)), None);
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(said, [message::unprotected("it answered 500")]);
        assert_eq!(protection.trouble(), Some("it answered 500"));
        assert_eq!(protection.look(UNKNOWN, false, now), Some(Wish::Protect(120)));
        assert_eq!(protection.answered(Ok(()), now), Some(message::works_again()));
        assert!(protection.holds(now) && protection.trouble().is_none());
    }

    #[test]
    fn what_was_given_up_and_is_carried_out_late_is_made_up_for() {
        let given_up = || Err(format!("the agent {UNANSWERED} 6s"));
        // A release that hung, and a job that came meanwhile: protection is asked for once more.
        let mut protection = protected(UNKNOWN);
        assert_eq!(protection.look(None, true, at(20)), Some(Wish::Release));
        protection.answered(given_up(), at(26));
        assert_eq!(protection.look(UNKNOWN, false, at(28)), Some(Wish::Protect(120)));
        protection.answered(Ok(()), at(29));
        assert!(protection.holds(at(30)));
        assert_eq!(
            (protection.next(UNKNOWN, false, at(30)), protection.look(UNKNOWN, false, at(30))),
            (Some(at(41)), None)
        );
        assert_eq!(protection.look(UNKNOWN, false, at(41)), Some(Wish::Protect(120)));
        protection.answered(Ok(()), at(42));
        assert_eq!(protection.next(UNKNOWN, false, at(43)), Some(at(41 + 3600)), "and then as ever");
        // The other way round: it is let go once more.
        let mut protection = Protection::default();
        protection.look(UNKNOWN, false, at(0));
        protection.answered(given_up(), at(6));
        assert_eq!(protection.look(None, true, at(8)), Some(Wish::Release));
        protection.answered(Ok(()), at(9));
        assert_eq!(
            (protection.look(None, true, at(10)), protection.look(None, true, at(21))),
            (None, Some(Wish::Release))
        );
        protection.answered(Ok(()), at(22));
        assert_eq!(protection.next(None, true, at(23)), None);
    }

    #[test]
    fn a_request_whose_answer_was_lost_is_taken_back_when_the_job_is_done() {
        let mut protection = Protection::default();
        protection.look(UNKNOWN, false, at(0));
        protection.answered(Err("no answer within 6s".into()), at(6));
        assert!(!protection.holds(at(6)), "nobody confirmed it");
        assert_eq!(protection.look(None, false, at(7)), Some(Wish::Release), "and it may have arrived");
        protection.answered(Ok(()), at(8));
        assert_eq!(protection.look(None, false, at(100)), None);
    }
}
