//! The laws: what holds for every seed, whatever happened.
//!
//! Each is a function of what was played, named in [`LAWS`]; its doc states it. A new kind of target, or a new function, adds
//! its laws here and its faults in [`super::plan`], and nothing else.

mod calls;
mod ends;
mod halts;
mod limits;
mod logs;
mod records;
mod reports;
mod tasks;
mod told;
mod traffic;

use local::world::{ActionStatus, ActionView, ExecutionStatus, Life, LogEvent};
use shared::names::{StartedBy, read_started_by};
use std::collections::BTreeMap;

use super::fault::Fault;
use super::people::Deeds;
use super::plan::Plan;
use super::record::Seen;
use crate::{Fate, Meddling, Stage};

/// A play that has come to its end.
pub struct Ended<'a> {
    /// What was played.
    pub plan: &'a Plan,
    /// The stage.
    pub stage: &'a Stage,
    /// What people did.
    pub deeds: Deeds,
    /// Every call.
    pub seen: Vec<Seen>,
    /// Every task.
    pub lives: Vec<Life>,
    /// The releases.
    pub releases: Vec<Release>,
}

/// A release, as it ended.
#[derive(Debug)]
pub struct Release {
    /// Its execution.
    pub execution: String,
    /// Its image; empty when it was not built.
    pub image: String,
    /// Whether it goes back to an earlier one, whose image it has.
    pub is_back: bool,
    /// How it ended.
    pub status: ExecutionStatus,
    /// Its actions' runs.
    pub actions: Vec<ActionView>,
    /// Its log, by stream.
    pub streams: BTreeMap<String, Vec<LogEvent>>,
}

/// What halt-release says of a quick way back that another function had begun.
const QUICK_HALT: &str = "the quick way back had begun";

/// When a function that has claimed its job is taken for dead by whoever gets the same event: see `run`.
const TAKEN_FOR_DEAD: std::time::Duration = std::time::Duration::from_secs(30);

/// A law.
pub type Law = fn(&Ended<'_>) -> Result<(), String>;

/// All of them, by name.
pub const LAWS: [(&str, Law); 31] = [
    ("rest", reports::everything_comes_to_rest),
    ("one report", reports::every_action_ends_in_one_report),
    ("known requests", calls::no_request_is_refused_as_wrong),
    ("allowed requests", calls::no_role_lacks_a_permission),
    ("once", tasks::a_task_runs_once_per_environment_and_try),
    ("alone", tasks::a_task_never_runs_twice_at_a_time),
    ("migrated", tasks::after_success_every_environment_is_migrated),
    ("first cause", tasks::the_first_cause_was_the_first),
    ("nothing left", tasks::after_an_end_nothing_of_a_release_is_under_way),
    ("jobs", tasks::every_job_gets_one_worker),
    ("protected", tasks::no_protected_task_is_stopped),
    ("what passes fails nothing", ends::what_passes_fails_no_release),
    ("as approved", ends::a_way_back_is_from_what_was_approved),
    ("verdicts at the end", ends::a_verdict_comes_when_all_is_over),
    ("a stop is told", halts::a_stop_is_told),
    ("promise", halts::halt_complete_is_a_promise),
    ("barrier", traffic::no_traffic_moves_before_all_can),
    ("one deployment", traffic::a_try_deploys_a_target_once),
    ("traffic", traffic::traffic_is_where_the_last_good_release_put_it),
    ("placed as before", traffic::every_service_is_placed_as_before),
    ("in vain", traffic::nobody_is_called_in_vain),
    ("new workers", traffic::workers_are_of_the_last_good_release),
    ("by the clock", traffic::what_runs_by_the_clock_is_of_the_last_good_release),
    ("old workers", traffic::old_workers_are_gone_or_reported),
    ("records", records::every_ended_release_has_one_record),
    ("logs", logs::every_line_is_there_once_and_in_order),
    ("closed", logs::every_log_that_was_followed_is_closed),
    ("told", told::who_is_told_in_slack_is_told_the_truth),
    ("secrets", calls::no_secret_is_told),
    ("budget", calls::reads_stay_within_their_budget),
    ("limits", limits::limits_are_met_where_they_are_named),
];

impl<'a> Ended<'a> {
    pub(super) fn new(plan: &'a Plan, stage: &'a Stage, deeds: Deeds, seen: Vec<Seen>) -> Self {
        let lives = stage.world().lives();
        let releases = deeds.releases.iter().map(|execution| {
            let status = stage.world().status(execution).unwrap_or(ExecutionStatus::InProgress);
            let streams = stage.world().release_streams(execution);
            let target = deeds.back.as_ref().filter(|(back, _)| back == execution).map(|(_, target)| target);
            let image = stage.image_of(target.unwrap_or(execution)).unwrap_or_default();
            let (execution, is_back) = (execution.clone(), target.is_some());
            Release { actions: stage.actions(&execution), execution, image, is_back, status, streams }
        });
        let releases = releases.collect();
        Self { plan, stage, deeds, seen, lives, releases }
    }

    /// The releases' own tasks, with whose they are.
    pub(super) fn own_lives(&self) -> impl Iterator<Item = (&Life, StartedBy<'_>)> {
        self.lives.iter().filter_map(|life| Some((life, read_started_by(&life.started_by)?)))
    }

    /// Whether several functions may have done the same job, each not knowing of the others: the answer to a claim was lost, or came late,
    /// and what is written down of it could not be read either (which docs/operating.md names as a limit); or Lambda brought one event twice, so
    /// far apart that the second takes the first for dead.
    pub(super) fn may_have_two(&self, of: &str) -> bool {
        let is_late = |fault: &Fault| match fault {
            Fault::Lambda { function, fate: Fate::Twice(by), .. } => *function == of && *by >= TAKEN_FOR_DEAD,
            _ => false,
        };
        let in_doubt = |what: Meddling| {
            matches!(
                what,
                Meddling::LoseReply
                    | Meddling::Unreachable
                    | Meddling::Hang
                    | Meddling::DoneLate(_)
                    | Meddling::HangThenDo
                    | Meddling::Internal
                    | Meddling::InternalDone
                    | Meddling::AbandonAndHang
            )
        };
        let own = || self.seen.iter().filter(|seen| seen.function == of);
        let claims = own().any(|seen| seen.operation == "AcknowledgeJob" && in_doubt(seen.meddling));
        let written = ["PutObject", "GetObject"];
        let unwritten = own().any(|seen| written.contains(&seen.operation.as_str()) && seen.meddling != Meddling::Pass);
        (claims && unwritten) || self.plan.faults.iter().any(is_late)
    }

    /// The functions that died, or may have, once for each death.
    pub(super) fn deaths(&self) -> impl Iterator<Item = &str> {
        let killed = self.plan.faults.iter().filter_map(|fault| match fault {
            Fault::Lambda { function, fate: Fate::Killed(_), .. } => Some(*function),
            _ => None,
        });
        let crashed = self.seen.iter().filter(|seen| seen.meddling.is_death());
        killed.chain(crashed.map(|seen| seen.function.as_str()))
    }

    /// The same, each with when it was said.
    pub(super) fn said_at(&self) -> Vec<(shared::Time, &str)> {
        let logs = self.releases.iter().flat_map(|release| release.streams.values().flatten());
        let logs = logs.map(|event| (event.at.max(event.ingested), event.message.as_str()));
        let actions = self.releases.iter().flat_map(|release| &release.actions);
        let actions = actions.flat_map(|one| {
            [Some(one.summary.as_str()), one.error.as_deref()].into_iter().flatten().map(|text| (one.updated, text))
        });
        logs.chain(actions).collect()
    }

    /// Everything that the releases' logs and actions say.
    pub(super) fn said(&self) -> Vec<&str> {
        let logs = self
            .releases
            .iter()
            .flat_map(|release| release.streams.values().flatten().map(|event| event.message.as_str()));
        let actions = self.releases.iter().flat_map(|release| &release.actions);
        logs.chain(actions.flat_map(|one| [Some(one.summary.as_str()), one.error.as_deref()]).flatten()).collect()
    }
}

impl Release {
    /// The newest run of an action.
    pub(super) fn action(&self, name: &str) -> Option<&ActionView> {
        self.actions.iter().rev().find(|one| one.action == name)
    }

    /// Whether web services went back the quick way, as far as it says: begun at one, it comes to its end at all.
    pub(super) fn went_quickly(&self) -> bool {
        self.went_quickly_at().is_some()
    }

    /// When it said so last.
    pub(super) fn went_quickly_at(&self) -> Option<shared::Time> {
        let words = ["the quick way back: ", "its traffic is back on", "GONE BACK the quick way", QUICK_HALT];
        let quickly = |event: &LogEvent| words.iter().any(|words| event.message.contains(words));
        let said = self.streams.values().flatten().filter(|event| self.is_back && quickly(event));
        said.map(|event| event.at).max()
    }

    /// When its deployment succeeded, if it did: a later run that fails brings back what was before it, which is the same version.
    pub(super) fn deployed(&self) -> Option<shared::Time> {
        let runs = self.actions.iter().filter(|one| one.action == "Deploy" && one.status == ActionStatus::Succeeded);
        runs.map(|run| run.updated).max()
    }

    /// Whether what was begun then is a fact: a run of its deployment has succeeded after it, and nothing takes that back.
    pub(super) fn is_fact(&self, begun: Option<shared::Time>) -> bool {
        self.deployed().is_some_and(|at| begun.is_some_and(|begun| begun <= at))
    }

    /// Whether the newest run of its deployment has succeeded: then what that one has begun may wait for its old tasks.
    pub(super) fn stays_deployed(&self) -> bool {
        self.action("Deploy").is_some_and(|one| one.status == ActionStatus::Succeeded)
    }
}

/// An error with what is wrong, or nothing.
fn none<T: std::fmt::Debug>(what: &str, found: &[T]) -> Result<(), String> {
    if found.is_empty() { Ok(()) } else { Err(format!("{what}: {found:#?}")) }
}
