//! What to do next, from what is seen: pure, total, clock-free.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::Time;
use shared::token::{excess, without};

/// How often the tasks are looked at: an end is noticed within about a second.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The pause before a placement that failed for room is tried again: room is made in tens of seconds, when it is.
pub(crate) const PLACEMENT_PAUSE: Duration = Duration::from_secs(10);

/// How long a stop may stay without effect before it is asked for again: the longest `stopTimeout` on Fargate (fact 22).
const STOP_AGAIN: Duration = Duration::from_secs(120);

/// How long ECS may look for a place in any case: each task is provisioned for some seconds, with a network interface for longer.
const PROVISIONING: Duration = Duration::from_secs(5 * 60);

/// How long stops may stay without effect altogether: the longest `stopTimeout` that anybody sets on EC2, several times
/// over. Then the agent is most likely gone, and a person must look.
const GIVE_UP: Duration = Duration::from_secs(15 * 60);

/// The longest first cause that the token carries, in characters: the rest of its 2,048 is for the environments.
const LONGEST_CAUSE: usize = 600;

/// What cannot be observed again, carried from job to job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// By environment, in the manifest's order.
    #[serde(rename = "e", skip_serializing_if = "Vec::is_empty")]
    environments: Vec<Remembered>,
    /// What failed first, and where: everything after it is a consequence.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<Cause>,
    /// Since when everything is being stopped.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    pub(crate) giving_up: Option<Time>,
    /// Whether all that the release needs was looked at, or need not be: see [`shared::survey`].
    #[serde(rename = "v", skip_serializing_if = "is_false")]
    pub(crate) surveyed: bool,
}

/// What is remembered of one environment. ECS forgets a stopped task after about an hour (fact 19).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// Which placement this is, from 0.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub(crate) attempt: u32,
    /// How many seconds the task took that succeeded.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(crate) succeeded_in: Option<u64>,
    /// Whether an earlier try may have run it, of which ECS shows nothing any more.
    #[serde(rename = "a", default, skip_serializing_if = "is_false")]
    pub(crate) perhaps_again: bool,
    /// Whether this try has begun it, until it has succeeded: it begins once, also where ECS does not show any more how it ended.
    #[serde(rename = "b", default, skip_serializing_if = "is_false")]
    pub(crate) begun: bool,
    /// Since when there was no room for it, in seconds after the action's begin.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_room_since: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The first cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// Which environment, by its place in the manifest's order.
    #[serde(rename = "e")]
    pub(crate) environment: usize,
    /// What happened there.
    #[serde(rename = "w")]
    pub(crate) what: String,
}

impl State {
    /// Makes it short enough for a token: the cause is cut in its middle. What was already told of each environment goes before that: since
    /// when there was no room is of no use once something has failed.
    pub(crate) fn fit(&mut self) {
        if self.cause.is_some() && excess(self) > 0 {
            self.environments.iter_mut().for_each(|one| one.no_room_since = None);
        }
        let excess = excess(self);
        if let Some(cause) = self.cause.as_mut().filter(|_| excess > 0) {
            cause.what = without(excess, &cause.what);
        }
    }

    /// What is remembered of the environment at this place.
    pub(crate) fn at(&self, at: usize) -> Remembered {
        self.environments.get(at).copied().unwrap_or_default()
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, at: usize) -> &mut Remembered {
        if self.environments.len() <= at {
            self.environments.resize(at + 1, Remembered::default());
        }
        &mut self.environments[at]
    }
}

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) now: Time,
    pub(crate) halted: bool,
    pub(crate) timeout: Duration,
    pub(crate) retry_placement_for: Duration,
    pub(crate) sites: Vec<Site>,
}

/// One environment, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// What is there is not known yet.
    Unknown,
    /// There is no task of this try, and none was refused.
    Empty,
    /// A task was asked for, and whether it came about is not known: asking again, with the same token, tells.
    Asked,
    /// The last placement failed for these reasons; the first one failed at `since`.
    NoRoom { reasons: String, since: Time, last: Time },
    /// A task is on its way, since `since`; `stopping` since its end was asked for.
    Live { since: Time, stopping: Option<Time>, so_far: SoFar },
    /// It did all that it should, in this many seconds.
    Succeeded { seconds: u64 },
    /// It did not, or could not even begin. It `may_run` when it cannot be looked at any more and nobody asked for its
    /// end yet.
    /// `at` says when, where it is known.
    Failed { what: String, at: Option<Time>, may_run: bool },
    /// It was stopped because another one failed.
    Stopped,
}

/// How far a task has come that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SoFar {
    /// ECS has taken it, and looks for a place: a capacity provider makes room for it, or does not.
    Provisioning,
    /// It has a place, and has not started.
    Starts,
    /// It runs.
    Runs,
}

/// Something to do in the environment at this place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Start a task.
    Start { at: usize },
    /// Ask for its end.
    Stop { at: usize, reason: String },
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Do this, then look again.
    Go(Vec<Act>),
    /// Every environment is done.
    Succeeded,
    /// The first cause is in the state, and nothing runs any more.
    Failed,
}

/// Decides; what must be remembered goes into `state`.
pub(crate) fn decide(seen: &Observation, state: &mut State) -> Decision {
    for (at, site) in seen.sites.iter().enumerate() {
        if let Site::Succeeded { seconds } = site {
            let remembered = state.at_mut(at);
            *remembered = Remembered { succeeded_in: Some(*seconds), begun: false, no_room_since: None, ..*remembered };
        }
    }
    if state.cause.is_none() {
        // Several may have failed since the last look: the first one is the cause.
        let failures =
            seen.sites.iter().enumerate().filter_map(|(at, site)| Some((at, failure(seen, site)?, when(site))));
        let first = failures.min_by_key(|(_, _, when)| when.unwrap_or(seen.now));
        state.cause = first.map(|(environment, what, _)| {
            let what = shared::text::fit(&what, LONGEST_CAUSE);
            Cause { environment, what }
        });
    }
    if let Some(reason) = stop_reason(seen, state) {
        let since = *state.giving_up.get_or_insert(seen.now);
        if seen.now.since(since) > GIVE_UP {
            return Decision::Failed;
        }
        return give_up(seen, &reason);
    }
    if seen.sites.iter().all(|site| matches!(site, Site::Succeeded { .. })) {
        return Decision::Succeeded;
    }
    let begins = |site: &Site| match site {
        Site::Empty | Site::Asked => true,
        Site::NoRoom { last, .. } => seen.now.since(*last) >= PLACEMENT_PAUSE,
        Site::Unknown | Site::Live { .. } | Site::Succeeded { .. } | Site::Failed { .. } | Site::Stopped => false,
    };
    // Nothing begins anywhere before it is known that it can everywhere: another release's task may run in one of them.
    let has_begun = |site: &Site| matches!(site, Site::Asked | Site::Live { .. } | Site::Failed { .. } | Site::Stopped);
    if seen.sites.contains(&Site::Unknown) && !seen.sites.iter().any(has_begun) {
        return Decision::Go(Vec::new());
    }
    let at = (0..seen.sites.len()).filter(|at| begins(&seen.sites[*at]));
    Decision::Go(at.map(|at| Act::Start { at }).collect())
}

/// When it failed, where that is known.
fn when(site: &Site) -> Option<Time> {
    match site {
        Site::Failed { at, .. } => *at,
        Site::Unknown | Site::Empty | Site::Asked | Site::NoRoom { .. } => None,
        Site::Live { .. } | Site::Succeeded { .. } | Site::Stopped => None,
    }
}

/// What is wrong in this environment, when something is.
fn failure(seen: &Observation, site: &Site) -> Option<String> {
    match site {
        Site::Failed { what, .. } => Some(what.clone()),
        Site::Live { since, stopping: None, so_far: SoFar::Provisioning }
            if seen.now.since(*since) > seen.retry_placement_for.max(PROVISIONING) =>
        {
            let limit = shared::time::spoken(seen.retry_placement_for.max(PROVISIONING));
            Some(format!("ECS found no room for the task for {limit} (it is still PROVISIONING)"))
        }
        Site::Live { since, stopping: None, so_far } if seen.now.since(*since) > seen.timeout => {
            let what = if *so_far == SoFar::Runs { "was still running" } else { "had not started" };
            Some(format!("it {what} after {}, its `timeout`", shared::time::spoken(seen.timeout)))
        }
        Site::NoRoom { reasons, since, .. } if seen.now.since(*since) >= seen.retry_placement_for => Some(format!(
            "ECS found no room for the task for {} ({reasons})",
            shared::time::spoken(seen.now.since(*since))
        )),
        Site::Stopped => Some("its task was stopped by somebody".into()),
        Site::Unknown | Site::Empty | Site::Asked => None,
        Site::NoRoom { .. } | Site::Live { .. } | Site::Succeeded { .. } => None,
    }
}

fn stop_reason(seen: &Observation, state: &State) -> Option<String> {
    if seen.halted {
        return Some("Cutover: the release was stopped".into());
    }
    state.cause.as_ref().map(|_| "Cutover: the task failed in another environment, or ran for too long".into())
}

/// Stops what runs; the action ends when nothing does.
fn give_up(seen: &Observation, reason: &str) -> Decision {
    let mut acts = Vec::new();
    let mut live = false;
    for (at, site) in seen.sites.iter().enumerate() {
        match site {
            Site::Live { stopping, .. } => {
                live = true;
                if stopping.is_none_or(|asked| seen.now.since(asked) > STOP_AGAIN) {
                    acts.push(Act::Stop { at, reason: reason.to_owned() });
                }
            }
            // It is asked to end, once; whether it does cannot be seen.
            Site::Failed { may_run: true, .. } => {
                live = true;
                acts.push(Act::Stop { at, reason: reason.to_owned() });
            }
            // Something may run there: it must be seen before the action can end.
            Site::Unknown | Site::Asked => live = true,
            Site::Empty | Site::NoRoom { .. } | Site::Succeeded { .. } | Site::Failed { .. } | Site::Stopped => {}
        }
    }
    if live { Decision::Go(acts) } else { Decision::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(10_000_000);

    fn seconds_ago(seconds: u64) -> Time {
        Time::from_millis(NOW.millis() - seconds * 1000)
    }

    fn live(seconds: u64) -> Site {
        Site::Live { since: seconds_ago(seconds), stopping: None, so_far: SoFar::Runs }
    }

    fn seen(sites: Vec<Site>) -> Observation {
        Observation {
            now: NOW,
            halted: false,
            timeout: Duration::from_secs(600),
            retry_placement_for: Duration::from_secs(300),
            sites,
        }
    }

    fn no_room(since: u64, last: u64) -> Site {
        Site::NoRoom { reasons: "RESOURCE:MEMORY".into(), since: seconds_ago(since), last: seconds_ago(last) }
    }

    fn stops(decision: &Decision) -> Vec<usize> {
        decision
            .acts()
            .iter()
            .filter_map(|act| match act {
                Act::Stop { at, .. } => Some(*at),
                Act::Start { .. } => None,
            })
            .collect()
    }

    #[test]
    fn nothing_begins_anywhere_before_every_environment_was_looked_at() {
        let mut state = State::default();
        for (sites, begins) in [
            (vec![Site::Empty, Site::Unknown], vec![]),
            (vec![no_room(60, 10), Site::Unknown], vec![]),
            (vec![Site::Empty, Site::Empty], vec![0, 1]),
            // Whoever died in the middle of it goes on.
            (vec![Site::Empty, Site::Unknown, live(5)], vec![0]),
        ] {
            let expected = begins.into_iter().map(|at| Act::Start { at }).collect();
            assert_eq!(decide(&seen(sites.clone()), &mut state), Decision::Go(expected), "{sites:?}");
        }
    }

    #[test]
    fn a_task_is_started_where_there_is_none_and_nowhere_else() {
        for (site, begins) in [
            (Site::Empty, true),
            (Site::Asked, true),
            (Site::Unknown, false),
            (live(5), false),
            (Site::Succeeded { seconds: 3 }, false),
            (no_room(60, 9), false),
            (no_room(60, 10), true),
        ] {
            let decision = decide(&seen(vec![site.clone(), live(1)]), &mut State::default());
            let expected = if begins { vec![Act::Start { at: 0 }] } else { vec![] };
            assert_eq!(decision, Decision::Go(expected), "{site:?}");
        }
    }

    #[test]
    fn one_failure_stops_all_the_others_and_the_action_ends_when_they_have_stopped() {
        let failed = || Site::Failed { what: "exit code 1".into(), at: None, may_run: false };
        let mut state = State::default();
        let first = decide(&seen(vec![live(9), failed(), live(9), Site::Empty]), &mut state);
        assert_eq!(stops(&first), [0, 2]);
        assert_eq!(first.acts().len(), 2, "nothing is started any more");
        assert_eq!(state.cause, Some(Cause { environment: 1, what: "exit code 1".into() }));
        let stopping = Site::Live { since: seconds_ago(9), stopping: Some(seconds_ago(1)), so_far: SoFar::Runs };
        let waiting = decide(&seen(vec![Site::Stopped, failed(), stopping, Site::Empty]), &mut state);
        assert_eq!(waiting, Decision::Go(vec![]), "a stop is not asked for twice within its time");
        let over = decide(&seen(vec![Site::Stopped, failed(), Site::Stopped, Site::Empty]), &mut state);
        assert_eq!(over, Decision::Failed);
        assert_eq!(state.cause.unwrap().environment, 1, "the first cause stays the first");
    }

    #[test]
    fn a_task_that_cannot_be_looked_at_any_more_is_asked_to_end_all_the_same() {
        let lost = |may_run| Site::Failed { what: "ecs:DescribeTasks was refused".into(), at: None, may_run };
        let mut state = State::default();
        assert_eq!(stops(&decide(&seen(vec![lost(true), Site::Succeeded { seconds: 1 }]), &mut state)), [0]);
        assert_eq!(decide(&seen(vec![lost(false), Site::Succeeded { seconds: 1 }]), &mut state), Decision::Failed);
    }

    #[test]
    fn a_stop_without_effect_is_asked_for_again() {
        let stopping = Site::Live { since: seconds_ago(300), stopping: Some(seconds_ago(121)), so_far: SoFar::Runs };
        let mut state = State { cause: Some(Cause { environment: 1, what: "x".into() }), ..State::default() };
        assert_eq!(stops(&decide(&seen(vec![stopping]), &mut state)), [0]);
    }

    #[test]
    fn a_task_that_ignores_its_stop_for_ever_does_not_keep_the_action_for_ever() {
        let stopping = || Site::Live { since: seconds_ago(3000), stopping: Some(seconds_ago(10)), so_far: SoFar::Runs };
        let mut state = State { giving_up: Some(seconds_ago(900)), ..State::default() };
        let halted = || Observation { halted: true, ..seen(vec![stopping()]) };
        assert_eq!(decide(&halted(), &mut state), Decision::Go(vec![]));
        let later = Observation { now: NOW.plus(Duration::from_secs(1)), ..halted() };
        assert_eq!(decide(&later, &mut state), Decision::Failed);
    }

    #[test]
    fn a_halted_release_ends_only_when_nothing_of_it_can_be_running() {
        let halted = |site| Observation { halted: true, ..seen(vec![site, Site::Succeeded { seconds: 1 }]) };
        assert_eq!(stops(&decide(&halted(live(1)), &mut State::default())), [0]);
        assert_eq!(decide(&halted(Site::Unknown), &mut State::default()), Decision::Go(vec![]));
        assert_eq!(decide(&halted(Site::Asked), &mut State::default()), Decision::Go(vec![]));
        assert_eq!(decide(&halted(Site::Empty), &mut State::default()), Decision::Failed);
    }

    #[test]
    fn of_several_that_failed_since_the_last_look_the_first_is_the_cause() {
        let failed = |ago| Site::Failed { what: format!("{ago} s ago"), at: Some(seconds_ago(ago)), may_run: false };
        let mut state = State::default();
        decide(&seen(vec![live(5), failed(1), failed(3), failed(2)]), &mut state);
        assert_eq!(state.cause, Some(Cause { environment: 2, what: "3 s ago".into() }));
    }

    #[test]
    fn a_task_that_outlives_its_timeout_is_the_cause() {
        let mut state = State::default();
        assert_eq!(stops(&decide(&seen(vec![live(601), live(1)]), &mut state)), [0, 1]);
        assert_eq!(state.cause.unwrap().what, "it was still running after 10 min 00 s, its `timeout`");
        assert_eq!(stops(&decide(&seen(vec![live(600)]), &mut State::default())), [0_usize; 0]);
    }

    #[test]
    fn a_placement_is_given_up_when_its_time_is_over() {
        let mut state = State::default();
        assert_eq!(decide(&seen(vec![no_room(300, 1)]), &mut state), Decision::Failed);
        assert!(state.cause.unwrap().what.contains("RESOURCE:MEMORY"));
    }

    #[test]
    fn success_is_every_environment_and_is_remembered() {
        let mut state = State::default();
        let one = Site::Succeeded { seconds: 3 };
        assert_eq!(decide(&seen(vec![one.clone(), live(1)]), &mut state), Decision::Go(vec![]));
        assert_eq!(state.at(0).succeeded_in, Some(3));
        assert_eq!(decide(&seen(vec![one.clone(), one]), &mut state), Decision::Succeeded);
    }

    #[test]
    fn fifty_environments_with_a_cause_fit_the_token() {
        let mut state =
            State { cause: Some(Cause { environment: 49, what: "x".repeat(LONGEST_CAUSE) }), ..State::default() };
        for at in 0..50 {
            *state.at_mut(at) = if at % 2 == 0 {
                Remembered { attempt: 99, succeeded_in: Some(86_400), perhaps_again: false, ..Remembered::default() }
            } else {
                Remembered { attempt: 99, begun: true, no_room_since: Some(3600), ..Remembered::default() }
            };
        }
        let text = serde_json::to_string(&state).unwrap();
        assert!(text.len() < 1_900, "{}", text.len());
    }

    #[test]
    fn fifty_environments_of_a_late_retry_fit_the_token_with_all_that_it_holds() {
        let what = format!("container `shop` ended with exit code 1: {}", "\"quoted\" ".repeat(60));
        let mut state = State {
            cause: Some(Cause { environment: 49, what }),
            giving_up: Some(NOW),
            surveyed: true,
            ..State::default()
        };
        for at in 0..50 {
            *state.at_mut(at) = Remembered {
                attempt: 1,
                perhaps_again: true,
                begun: true,
                no_room_since: Some(3600),
                ..Remembered::default()
            };
        }
        state.fit();
        let mut envelope = shared::token::Envelope::<State>::first("11111111-2222-3333-4444-555555555555", NOW);
        envelope.state = state;
        let token = envelope.seal().unwrap();
        let cause = shared::token::Envelope::<State>::open(&token).unwrap().state.cause.unwrap();
        assert!(cause.what.starts_with("container `shop` ended with exit code 1"), "{}", cause.what);
    }

    #[test]
    fn a_task_that_has_not_started_is_not_called_running() {
        let at = |seconds, so_far| Site::Live { since: seconds_ago(seconds), stopping: None, so_far };
        for (site, expected) in [
            (at(601, SoFar::Runs), Some("it was still running after 10 min 00 s, its `timeout`")),
            (at(601, SoFar::Starts), Some("it had not started after 10 min 00 s, its `timeout`")),
            (
                at(301, SoFar::Provisioning),
                Some("ECS found no room for the task for 5 min 00 s (it is still PROVISIONING)"),
            ),
            (at(301, SoFar::Starts), None),
            (at(300, SoFar::Provisioning), None),
        ] {
            let mut state = State::default();
            let seen = Observation { retry_placement_for: Duration::ZERO, ..seen(vec![site.clone()]) };
            decide(&seen, &mut state);
            assert_eq!(state.cause.map(|cause| cause.what).as_deref(), expected, "{site:?}");
        }
    }

    #[test]
    fn a_state_that_version_1_wrote_is_read() {
        let state: State =
            serde_json::from_str(r#"{"e":[{"n":2},{"s":41},{}],"c":{"e":1,"w":"exit code 1"}}"#).unwrap();
        assert_eq!((state.at(0).attempt, state.at(1).succeeded_in), (2, Some(41)));
        assert_eq!(state.cause.unwrap().environment, 1);
    }
}
