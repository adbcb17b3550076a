//! Where a target is, and how everything is taken back: pure, total, clock-free.

use std::time::Duration;

use crate::time::Time;

/// How long a stop, or a way back that finds its service busy, may stay without effect before it is asked for again.
const AGAIN: Duration = Duration::from_secs(60);

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// What is there is not known yet.
    Unknown,
    /// There is no deployment of this action, and nothing else keeps it busy.
    Empty,
    /// It is busy with another deployment.
    Busy {
        /// The deployment, with when and by whom.
        with: String,
        /// What frees it, where something may.
        frees: Option<Frees>,
    },
    /// The new tasks are on their way.
    Going,
    /// It waits to be continued before the barrier.
    Held,
    /// The new tasks are there; the traffic waits (facts 28, 46).
    Ready,
    /// The traffic moves.
    Shifting,
    /// It waits to be continued between two steps of its traffic.
    Between,
    /// The traffic has moved; the old tasks wait (facts 29, 45).
    Moved,
    /// The deployment has succeeded and is over: its old tasks are gone.
    Done,
    /// It ran this version already, and nothing was deployed.
    Same,
    /// It did not come about, and the traffic is where it was.
    Failed {
        /// What happened.
        what: String,
    },
    /// It is over, for this reason unless we stopped it, and where its traffic is must be seen.
    Over {
        /// What happened.
        what: Option<String>,
    },
    /// It is being taken back, by AWS or by a deployment of the revision before.
    RollingBack {
        /// Why, where AWS says.
        what: Option<String>,
    },
    /// The deployment of the revision before waits for being continued.
    BackWaits,
    /// The traffic is back.
    RolledBack,
    /// Its traffic is on the new version, and AWS has no way back: the revision before must be deployed.
    Stranded {
        /// What happened.
        what: String,
    },
    /// Its traffic could not be brought back.
    Stuck {
        /// What happened.
        what: String,
    },
}

/// What frees a target that another deployment of Cutover's keeps busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frees {
    /// Ending the wait of this one for its old tasks: it is of a release before this one.
    EndOfWait(String),
    /// Stopping this one, whose traffic has not moved: it is of a run of this very action that was given up, and nobody follows it.
    Stop(String),
    /// Letting this one go on: it brings back what ran before an earlier try of this very action, and whoever asked for it leaves it to
    /// this try.
    WayBack {
        /// The deployment.
        deployment: String,
        /// The pause that holds it, where ECS deploys.
        pause: Option<String>,
    },
}

/// One target, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Where it is.
    pub phase: Phase,
    /// Whether its traffic waits until somebody continues it.
    pub behind_barrier: bool,
    /// Whether its new tasks have shown that they stay up; where a load balancer asks them, its answer is enough.
    pub is_proven: bool,
    /// Whether it is not, since ECS has let the old tasks go first and has not found the new ones healthy yet.
    pub waits_for_health: bool,
    /// How long its deployment may take until its traffic has moved.
    pub timeout: Duration,
    /// How long another deployment of its service is waited for.
    pub wait_for_group: Duration,
    /// Since when its end, or its way back, has been asked for.
    pub asked: Option<Time>,
    /// Why nothing can be done about it any more: a call that is refused.
    pub broken: Option<String>,
    /// That too many of its new tasks have died.
    pub dying: Option<String>,
    /// Whether its deployment was stopped rather than failed by itself, as far as AWS says.
    pub was_stopped: bool,
    /// When the first of its new tasks died, of which one may fail the deployment much later.
    pub first_death: Option<Time>,
}

/// Something to do at the target of this place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Begin the deployment.
    Begin {
        /// Which target.
        at: usize,
    },
    /// Free it of another deployment.
    Free {
        /// Which target.
        at: usize,
        /// How.
        how: Frees,
    },
    /// Let it go on.
    Continue {
        /// Which target.
        at: usize,
    },
    /// Stop with rollback.
    Stop {
        /// Which target.
        at: usize,
    },
    /// Deploy the revision before.
    Back {
        /// Which target.
        at: usize,
    },
}

impl Act {
    /// Whether it begins something, or something that cannot be undone: not when the release was stopped.
    #[must_use]
    pub fn begins(&self) -> bool {
        match self {
            Self::Begin { .. } | Self::Free { .. } | Self::Continue { .. } => true,
            Self::Stop { .. } | Self::Back { .. } => false,
        }
    }

    /// Which target.
    #[must_use]
    pub fn at(&self) -> usize {
        match self {
            Self::Begin { at }
            | Self::Free { at, .. }
            | Self::Continue { at }
            | Self::Stop { at }
            | Self::Back { at } => *at,
        }
    }
}

/// What takes back whatever is under way or has moved already; `None` when nothing is under way any more.
#[must_use]
pub fn take_back(targets: &[Observed], now: Time) -> Option<Vec<Act>> {
    let mut acts = Vec::new();
    let mut under_way = false;
    for (at, target) in targets.iter().enumerate() {
        let again = target.asked.is_none_or(|asked| now.since(asked) > AGAIN);
        match &target.phase {
            // It was asked for although calls are refused. Where that is a call of another kind, it comes about all the same; whether it
            // does cannot be told where nothing of it is seen.
            Phase::Going
            | Phase::Held
            | Phase::Ready
            | Phase::Shifting
            | Phase::Between
            | Phase::Moved
            | Phase::Done
            | Phase::Stranded { .. }
                if target.broken.is_some() && target.asked.is_some() =>
            {
                under_way |= !again;
            }
            Phase::Going | Phase::Held | Phase::Ready | Phase::Shifting | Phase::Between | Phase::Moved => {
                under_way = true;
                if again {
                    acts.push(Act::Stop { at });
                }
            }
            // The old tasks are gone: there is nothing to stop (facts 30, 47).
            Phase::Done | Phase::Stranded { .. } => {
                under_way = true;
                if again {
                    acts.push(Act::Back { at });
                }
            }
            Phase::BackWaits => {
                under_way = true;
                acts.push(Act::Continue { at });
            }
            Phase::Unknown | Phase::Over { .. } | Phase::RollingBack { .. } => under_way = true,
            Phase::Empty | Phase::Same | Phase::Busy { .. } => {}
            Phase::Failed { .. } | Phase::RolledBack | Phase::Stuck { .. } => {}
        }
    }
    under_way.then_some(acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(10_000_000);

    fn observed(phase: Phase) -> Observed {
        let hour = Duration::from_secs(3600);
        let (timeout, wait_for_group) = (hour, hour);
        Observed {
            phase,
            behind_barrier: true,
            is_proven: true,
            waits_for_health: false,
            timeout,
            wait_for_group,
            asked: None,
            broken: None,
            dying: None,
            was_stopped: false,
            first_death: None,
        }
    }

    #[test]
    fn what_is_under_way_is_stopped_what_has_ended_is_brought_back_and_what_was_left_alone_stays_so() {
        let what = || "a hook failed".to_owned();
        for (phase, acts) in [
            (Phase::Unknown, Some(vec![])),
            (Phase::Empty, None),
            (Phase::Same, None),
            (Phase::Busy { with: what(), frees: None }, None),
            (Phase::Going, Some(vec![Act::Stop { at: 0 }])),
            (Phase::Held, Some(vec![Act::Stop { at: 0 }])),
            (Phase::Ready, Some(vec![Act::Stop { at: 0 }])),
            (Phase::Shifting, Some(vec![Act::Stop { at: 0 }])),
            (Phase::Between, Some(vec![Act::Stop { at: 0 }])),
            (Phase::Moved, Some(vec![Act::Stop { at: 0 }])),
            (Phase::Done, Some(vec![Act::Back { at: 0 }])),
            (Phase::Stranded { what: what() }, Some(vec![Act::Back { at: 0 }])),
            (Phase::Over { what: None }, Some(vec![])),
            (Phase::RollingBack { what: None }, Some(vec![])),
            (Phase::BackWaits, Some(vec![Act::Continue { at: 0 }])),
            (Phase::RolledBack, None),
            (Phase::Failed { what: what() }, None),
            (Phase::Stuck { what: what() }, None),
        ] {
            assert_eq!(take_back(&[observed(phase.clone())], NOW), acts, "{phase:?}");
        }
    }

    #[test]
    fn a_stop_or_a_way_back_without_effect_is_asked_for_again_after_a_minute() {
        for (phase, act) in [(Phase::Ready, Act::Stop { at: 0 }), (Phase::Done, Act::Back { at: 0 })] {
            for (ago, expected) in [(1_000, vec![]), (60_000, vec![]), (60_001, vec![act.clone()])] {
                let asked = Some(Time::from_millis(NOW.millis() - ago));
                let seen = [Observed { asked, ..observed(phase.clone()) }];
                assert_eq!(take_back(&seen, NOW), Some(expected), "{phase:?}, asked {ago} ms ago");
            }
        }
    }

    #[test]
    fn what_refuses_calls_is_asked_for_its_end_once_and_waited_for_as_long_as_one_may_stay_without_effect() {
        let broken = Some("codedeploy:StopDeployment was refused".to_owned());
        let seen = Observed { broken, ..observed(Phase::Moved) };
        assert_eq!(take_back(std::slice::from_ref(&seen), NOW), Some(vec![Act::Stop { at: 0 }]));
        for (ago, expected) in [(0, Some(vec![])), (60_000, Some(vec![])), (60_001, None)] {
            let asked = Some(Time::from_millis(NOW.millis() - ago));
            assert_eq!(take_back(&[Observed { asked, ..seen.clone() }], NOW), expected, "asked {ago} ms ago");
        }
    }
}
