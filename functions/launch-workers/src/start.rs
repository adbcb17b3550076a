//! Asking ECS for the tasks of a start.
//!
//! Invariant: a start is given up only when it is known that it has begun nothing. A refusal says so of its own call alone: an attempt
//! before it, whose answer nobody knows, may have begun the tasks.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::aws::ecs::{Of, Ran, Run, Task, is_for_room};
use shared::aws::{FRESH, Place, SHOWN};
use shared::names::{StartedBy, read_started_by, worker_started_by};
use shared::workers::Kind;
use shared::workers::ledger::{Ledger, Refused, Start};
use shared::{Aws, Error, Time};
use tracing::{error, info, warn};

use crate::follow;

/// How long a start that another function has decided is that function's own: longer than its call takes, and it may try twice.
const ANOTHERS: Duration = Duration::from_secs(25);

/// How long a run by the clock is asked for before its job waits again, for as long as its schedule lets it: an invocation's length.
const LATE: Duration = Duration::from_secs(60);

/// For how long ECS shows what has stopped, about (fact 19): after that, looking for it tells nothing.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The starts of one kind in one environment, as one function asks for them.
#[derive(Debug)]
pub(crate) struct Starts<'a> {
    aws: &'a Aws,
    environment: &'a str,
    name: &'a str,
    /// Those that were decided here.
    pub(crate) own: BTreeSet<u64>,
    /// Those that were asked for here.
    asked: BTreeSet<u64>,
    /// When it was seen last whether a release runs the task, and whether one did.
    release: Option<(Time, bool)>,
}

impl<'a> Starts<'a> {
    pub(crate) fn new(aws: &'a Aws, environment: &'a str, name: &'a str) -> Self {
        let (own, asked) = Default::default();
        Self { aws, environment, name, own, asked, release: None }
    }

    /// Whether this function goes on with a start.
    pub(crate) fn is_due(&self, start: &Start, now: Time) -> bool {
        self.own.contains(&start.number) || now.since(start.asked) > ANOTHERS
    }

    /// Whether it has something to do for it at once. What a refused one may have begun is looked for by a later look.
    pub(crate) fn goes_on(&self, start: &Start) -> bool {
        self.own.contains(&start.number) && start.refused.is_none() && start.late.is_none()
    }

    /// Asks ECS for the tasks of a start, or looks for them when it was refused; `refused` gets the jobs on which nobody can work.
    ///
    /// Safe to repeat: the ledger's token makes the same call answer with the same tasks (fact 18).
    ///
    /// # Errors
    /// What keeps it from being known what the start has begun: ask again.
    pub(crate) async fn go_on(
        &mut self,
        ledger: &mut Ledger,
        start: &Start,
        now: Time,
        refused: &mut Vec<(String, String)>,
    ) -> Result<(), Error> {
        let given_up = match (&start.refused, start.late) {
            (None, None) => self.ask(ledger, start, now).await?,
            (Some(before), _) => self.look_for(ledger, start, before, now).await?,
            (None, Some(since)) => {
                self.look_for_late(ledger, start, since, now).await?;
                None
            }
        };
        if let Some(why) = given_up {
            error!(environment = self.environment, worker = self.name, why, "workers cannot be started");
            let ids = follow::refused(ledger, start.number, now, &why);
            refused.extend(ids.into_iter().map(|id| (id, why.clone())));
        }
        Ok(())
    }

    /// Asks; why it is given up, when it is.
    async fn ask(&mut self, ledger: &mut Ledger, start: &Start, now: Time) -> Result<Option<String>, Error> {
        let Kind { definition, container, environment, overrides, .. } = &start.kind;
        let token = ledger.token(start.number);
        // Nobody else asks for what was decided here, for a while.
        let is_first = self.asked.insert(start.number) && self.own.contains(&start.number);
        let is_first = is_first && now.since(start.asked) <= ANOTHERS;
        // When it was decided, no release ran it.
        if !is_first && start.kind.live.is_none() && self.has_begun_or_is_late(ledger, start, now).await? {
            return Ok(None);
        }
        let run = Run {
            environment,
            definition,
            container,
            overrides,
            started_by: &worker_started_by(self.environment, self.name, start.is_named.then_some(token.as_str())),
            client_token: &token,
        };
        let ecs = self.aws.ecs(&Place::from(environment)).await;
        // What an earlier version has asked for cannot be told from what else it has started.
        let is_certain = is_first || !start.is_named;
        match ecs.run_tasks(&run, start.count).await {
            Ok(Ran::Answered { tasks, reasons }) => {
                let arns: Vec<_> = tasks.into_iter().map(|task| task.arn).collect();
                let said = reasons.join(", ");
                if arns.is_empty() && !is_for_room(&said) {
                    return Ok(Some(format!("ECS refused to place its task: {said}")));
                }
                self.tell_started(arns.len(), start, &said);
                follow::started(ledger, start.number, &arns, &reasons, now);
                Ok(None)
            }
            Ok(Ran::NoRoom(why)) if is_certain => {
                follow::started(ledger, start.number, &[], &[why], now);
                Ok(None)
            }
            Err(Error::Stop(verdict)) if is_certain => Ok(Some(verdict.message)),
            Ok(Ran::NoRoom(why)) => Ok(self.keep(ledger, start, now, why)),
            // It was begun with another name, or of another revision.
            Ok(Ran::Exists) => Ok(self.keep(ledger, start, now, "its token was used for another task".into())),
            Err(Error::Stop(verdict)) => Ok(self.keep(ledger, start, now, verdict.message)),
            Err(again @ Error::Again(_)) => Err(again),
        }
    }

    /// It is refused, and may have begun its tasks before: they are looked for once ECS must show them.
    fn keep(&self, ledger: &mut Ledger, start: &Start, now: Time, why: String) -> Option<String> {
        warn!(environment = self.environment, worker = self.name, why, "refused: an attempt before may have begun it");
        follow::refused_late(ledger, start.number, Refused { at: now, why });
        None
    }

    /// Looks for what a start has begun, once ECS must show it; why it is given up, when it is.
    async fn look_for(
        &self,
        ledger: &mut Ledger,
        start: &Start,
        refused: &Refused,
        now: Time,
    ) -> Result<Option<String>, Error> {
        let age = now.since(refused.at);
        if age < SHOWN {
            return Ok(None);
        }
        let tasks = match self.tasks(&start.kind).await {
            // Nobody would ever know.
            Err(Error::Stop(why)) if age > FORGOTTEN => {
                return Ok(Some(format!("{}; whether it had begun could not be seen: {}", refused.why, why.message)));
            }
            tasks => tasks.map_err(again)?,
        };
        let arns = self.begun(ledger, start, &tasks);
        if !arns.is_empty() {
            self.tell_started(arns.len(), start, &refused.why);
            follow::started(ledger, start.number, &arns, &[], now);
        } else if is_for_room(&refused.why) {
            follow::started(ledger, start.number, &[], std::slice::from_ref(&refused.why), now);
        } else {
            return Ok(Some(refused.why.clone()));
        }
        Ok(None)
    }

    /// The same of one that was late: whoever has read the ledger before may have asked for it since, for as long as it lives. Its jobs wait
    /// again where it has not begun.
    async fn look_for_late(&self, ledger: &mut Ledger, start: &Start, since: Time, now: Time) -> Result<(), Error> {
        if now.since(since) < LATE + SHOWN {
            return Ok(());
        }
        let tasks = match self.tasks(&start.kind).await {
            // Nobody would ever know.
            Err(Error::Stop(_)) if now.since(since) > FORGOTTEN => Vec::new(),
            tasks => tasks.map_err(again)?,
        };
        let arns = self.begun(ledger, start, &tasks);
        if !arns.is_empty() {
            self.tell_started(arns.len(), start, "late");
        }
        follow::started(ledger, start.number, &arns, &[], now);
        Ok(())
    }

    /// Whether a release runs the same task here right now, so that what runs by the clock waits.
    ///
    /// # Errors
    /// It is not known.
    pub(crate) async fn is_of_a_release(&mut self, kind: &Kind, now: Time) -> Result<bool, Error> {
        if let Some((_, is_it)) = self.release.filter(|(seen, _)| now.since(*seen) < FRESH) {
            return Ok(is_it);
        }
        let tasks = self.tasks(kind).await.map_err(again)?;
        Ok(self.note_release(&tasks, now))
    }

    fn note_release(&mut self, tasks: &[Task], now: Time) -> bool {
        let is_it = |whose: StartedBy<'_>| (whose.environment, whose.task) == (self.environment, self.name);
        let mut under_way = tasks.iter().filter(|task| !task.is_over());
        let runs = under_way.any(|task| read_started_by(&task.started_by).is_some_and(is_it));
        if runs {
            info!(environment = self.environment, task = self.name, "waits: a release runs it");
        }
        self.release = Some((now, runs));
        runs
    }

    /// Whether a start is not asked for again: it is seen to have begun, or a release runs the same task, or it is late. What is late waits
    /// again as its job does, which may be missed: a start does not know for how long it may wait.
    async fn has_begun_or_is_late(&mut self, ledger: &mut Ledger, start: &Start, now: Time) -> Result<bool, Error> {
        let tasks = match self.tasks(&start.kind).await {
            // What keeps it from being seen refuses the start itself, with a reason.
            Err(Error::Stop(_)) => return Ok(false),
            tasks => tasks?,
        };
        let arns = self.begun(ledger, start, &tasks);
        if !arns.is_empty() {
            self.tell_started(arns.len(), start, "its answer was lost");
            follow::started(ledger, start.number, &arns, &[], now);
            return Ok(true);
        }
        let waits = self.note_release(&tasks, now);
        // What an earlier version has asked for cannot be told from what else it has started.
        if !start.is_named {
            return Ok(waits);
        }
        let is_late = waits || now.since(start.asked) > LATE;
        if is_late {
            follow::late(ledger, start.number, now);
        }
        Ok(is_late)
    }

    /// The tasks of a kind's family, also those that have stopped: by `startedBy` alone, ECS lists none of these.
    async fn tasks(&self, kind: &Kind) -> Result<Vec<Task>, Error> {
        let Kind { definition, environment, .. } = kind;
        let family = shared::aws::ecs::id(definition).split(':').next().unwrap_or_default();
        let ecs = self.aws.ecs(&Place::from(environment)).await;
        match ecs.tasks(&environment.cluster, Of::Family(family)).await {
            // One that is gone has none.
            Err(Error::Stop(why)) if why.message.contains("ClusterNotFoundException") => Ok(Vec::new()),
            tasks => tasks,
        }
    }

    /// Those of them that a start has begun.
    fn begun(&self, ledger: &Ledger, start: &Start, tasks: &[Task]) -> Vec<String> {
        // Also where `is_named` was lost to a version that does not know it.
        let by = worker_started_by(self.environment, self.name, Some(&ledger.token(start.number)));
        tasks.iter().filter(|task| task.started_by == by).map(|task| task.arn.clone()).collect()
    }

    fn tell_started(&self, started: usize, start: &Start, reasons: &str) {
        info!(
            environment = self.environment,
            worker = self.name,
            started,
            wanted = start.count,
            reasons,
            "workers started"
        );
    }
}

/// What cannot be seen is looked at again: it keeps nothing else from going on.
fn again(error: Error) -> Error {
    match error {
        Error::Stop(why) => Error::Again(why.message),
        again @ Error::Again(_) => again,
    }
}
