//! What can go wrong in a play, as data: chosen by a seed, said in a sentence, taken away one by one when a play is shrunk.

use std::fmt;
use std::time::Duration;

use crate::{Fate, Meddling};

/// One thing that goes wrong, or that a person does in the middle.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Some of the calls of a kind, for a while.
    Storm {
        /// What happens to them.
        what: Meddling,
        /// Which calls.
        of: Calls,
        /// From when on, after the release's begin.
        from: Duration,
        /// For how long.
        lasts: Duration,
        /// One in so many.
        one_in: u32,
        /// Which of them.
        seed: u64,
    },
    /// One call.
    Once {
        /// What happens to it.
        what: Meddling,
        /// Of which calls.
        of: Calls,
        /// Which of those, counted from 0.
        nth: u32,
    },
    /// AWS shows something late.
    Late {
        /// What.
        what: Shown,
        /// By how much.
        by: Duration,
    },
    /// CloudWatch answers every other page empty.
    EmptyPages,
    /// CloudWatch shows each line late, by up to this.
    LateLines(Duration),
    /// The same, and they overtake each other.
    ShuffledLines(Duration),
    /// A continuation's job exists that much later.
    LateJobs(Duration),
    /// A continuation's job keeps the id of the job before it.
    SameJobs,
    /// A job has another nonce each time that it is polled.
    NewNonces,
    /// Each container takes that long to start.
    SlowStarts(Duration),
    /// Functions have that long only, and hand over the more often.
    ShortLambdas(Duration),
    /// An invocation of a function.
    Lambda {
        /// Whose.
        function: &'static str,
        /// Which of its invocations, counted from 0.
        nth: u32,
        /// What happens to it.
        fate: Fate,
    },
    /// An event on its way from EventBridge to a function.
    Event {
        /// Which, counted from 0.
        nth: u32,
        /// What happens to it.
        fate: Fate,
    },
    /// A one-off task, in one environment (counted from 0).
    Task {
        /// Where.
        environment: usize,
        /// Which.
        task: &'static str,
        /// How it goes.
        how: Ending,
    },
    /// The new tasks of a service, in one environment.
    Service {
        /// Where.
        environment: usize,
        /// Which, counted from 0.
        service: usize,
        /// How they go.
        how: Ending,
    },
    /// A task that runs is interrupted, as Spot does it: the `pick`-th of those that live then.
    Spot {
        /// When.
        at: Duration,
        /// Which.
        pick: usize,
    },
    /// An old worker's task protects itself for this long.
    Protected(Duration),
    /// Somebody else deploys in a group.
    Rival {
        /// When.
        at: Duration,
        /// In which, of all.
        pick: usize,
    },
    /// Somebody else deploys a version of their own, however the service is deployed.
    Newcomer {
        /// When.
        at: Duration,
        /// Which service, of all.
        pick: usize,
    },
    /// Somebody scales a service.
    Scale {
        /// When.
        at: Duration,
        /// Which service, of all.
        pick: usize,
        /// To how many tasks.
        to: usize,
    },
    /// The application asks for a worker for a job.
    Job {
        /// When.
        at: Duration,
        /// Where.
        environment: usize,
    },
    /// A person does something to a deployment by hand, in the console.
    ByHand {
        /// When.
        at: Duration,
        /// To which of those that are under way then.
        pick: usize,
        /// What.
        deed: ByHand,
    },
    /// A person stops the pipeline.
    Stop {
        /// When.
        at: Duration,
        /// Whether it is abandoned, rather than waited for.
        abandon: bool,
    },
    /// A person retries the stage that has failed or was stopped.
    Retry {
        /// How long after its end.
        after: Duration,
        /// All of its actions, rather than those that have failed.
        all: bool,
    },
    /// A person rejects the first approval.
    Reject,
    /// A person approves that late.
    ApproveLate(Duration),
    /// The same of the way back alone.
    ApproveBackLate(Duration),
    /// Somebody merges again: another release.
    Merge {
        /// When.
        at: Duration,
    },
    /// A person goes back to the first of two releases to which nothing happened; all other faults happen from then on.
    GoBack {
        /// How long after the second one's end, or after its deployment.
        after: Duration,
        /// Whether the second one still goes on: it drains its workers, and finishes.
        early: bool,
    },
}

/// Which calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Of one function; of all unless given.
    pub function: Option<&'static str>,
    /// Of one operation; of all unless given.
    pub operation: Option<&'static str>,
    /// Only those that change something.
    pub writes: bool,
}

/// What AWS shows late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A new deployment, in lists.
    ListedDeployments,
    /// A rollback, in what it rolls back.
    Rollbacks,
    /// How a deployment and its target stand.
    Deployments,
    /// A new task.
    Tasks,
    /// A new task, in lists alone.
    ListedTasks,
    /// A new task, in descriptions alone.
    DescribedTasks,
    /// That a task is to stop, in lists.
    TaskLists,
    /// How a task stands, in descriptions.
    TaskStatuses,
    /// How an execution and its actions stand.
    Executions,
}

/// How a container goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ends with this code after its lines.
    Exit(i32),
    /// It cannot be started.
    CannotStart,
    /// It takes that much longer.
    Slow(Duration),
    /// It does not listen to SIGTERM.
    Deaf,
    /// It dies that long after its start, every time.
    Crashes(Duration),
    /// It never gets healthy.
    NeverHealthy,
    /// It falls ill that long after it was healthy.
    FallsIll(Duration),
}

/// What a console user does to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHand {
    /// Stops it and rolls it back.
    StopsIt,
    /// Reroutes its traffic now.
    Reroutes,
    /// Ends its wait for the old tasks.
    EndsWait,
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.operation, self.writes) {
            (Some(operation), _) => f.write_str(operation)?,
            (None, true) => f.write_str("calls that change something")?,
            (None, false) => f.write_str("calls")?,
        }
        match self.function {
            Some(function) => write!(f, " of {function}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storm { what, of, from, lasts, one_in, .. } => {
                write!(f, "{what:?}: one in {one_in} {of}, from {from:?} on for {lasts:?}")
            }
            Self::Once { what, of, nth } => write!(f, "{what:?}: number {nth} of the {of}"),
            Self::Late { what, by } => write!(f, "{what:?} are shown {by:?} late"),
            Self::EmptyPages => f.write_str("every other page of a log is empty"),
            Self::LateLines(by) => write!(f, "lines are shown up to {by:?} late"),
            Self::ShuffledLines(by) => write!(f, "lines are shown up to {by:?} late, in disorder"),
            Self::LateJobs(by) => write!(f, "the job of a continuation comes {by:?} late"),
            Self::SlowStarts(by) => write!(f, "containers take {by:?} to start"),
            Self::NewNonces => f.write_str("a job has another nonce each time that it is polled"),
            Self::SameJobs => f.write_str("the job of a continuation keeps the id of the one before it"),
            Self::ShortLambdas(length) => write!(f, "functions have {length:?}"),
            Self::Lambda { function, nth, fate } => write!(f, "invocation {nth} of {function}: {fate:?}"),
            Self::Event { nth, fate } => write!(f, "event {nth}: {fate:?}"),
            Self::Task { environment, task, how } => write!(f, "{task} in environment {environment}: {how:?}"),
            Self::Service { environment, service, how } => {
                write!(f, "new tasks of service {service} in environment {environment}: {how:?}")
            }
            Self::Spot { at, pick } => write!(f, "after {at:?}, living task {pick} is interrupted"),
            Self::Protected(length) => write!(f, "old workers protect themselves for {length:?}"),
            Self::Rival { at, pick } => write!(f, "after {at:?}, somebody else deploys in group {pick}"),
            Self::Newcomer { at, pick } => {
                write!(f, "after {at:?}, somebody else deploys a version of their own, of service {pick}")
            }
            Self::Scale { at, pick, to } => write!(f, "after {at:?}, somebody scales service {pick} to {to}"),
            Self::Job { at, environment } => write!(f, "after {at:?}, a job is sent in environment {environment}"),
            Self::ByHand { at, pick, deed } => write!(f, "after {at:?}, a console user {deed:?} (deployment {pick})"),
            Self::Stop { at, abandon: true } => write!(f, "after {at:?}, a person stops and abandons"),
            Self::Stop { at, abandon: false } => write!(f, "after {at:?}, a person stops and waits"),
            Self::Retry { after, all } => write!(f, "{after:?} after a failure, a person retries (all: {all})"),
            Self::Reject => f.write_str("a person rejects"),
            Self::ApproveLate(by) => write!(f, "a person approves {by:?} late"),
            Self::ApproveBackLate(by) => write!(f, "a person approves the way back {by:?} late"),
            Self::Merge { at } => write!(f, "after {at:?}, somebody merges again"),
            Self::GoBack { after, early } => {
                let of = if *early { "the second one's deployment" } else { "two releases" };
                write!(f, "{after:?} after {of}, a person goes back to the first; all else happens from then on")
            }
        }
    }
}

impl Fault {
    /// In a word, for what was covered.
    #[must_use]
    pub fn kind(&self) -> String {
        let word = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        match self {
            Self::Storm { what, .. } | Self::Once { what, .. } => word(format!("{what:?}")),
            Self::Late { what, .. } => format!("Late{what:?}"),
            Self::Lambda { fate, .. } => format!("Lambda{}", word(format!("{fate:?}"))),
            Self::Event { fate, .. } => format!("Event{}", word(format!("{fate:?}"))),
            Self::Task { how, .. } => format!("Task{}", word(format!("{how:?}"))),
            Self::Service { how, .. } => format!("Service{}", word(format!("{how:?}"))),
            Self::ByHand { deed, .. } => format!("ByHand{deed:?}"),
            Self::Stop { abandon: true, .. } => "StopAndAbandon".into(),
            Self::Stop { abandon: false, .. } => "StopAndWait".into(),
            other => word(format!("{other:?}")),
        }
    }
}
