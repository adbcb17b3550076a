//! The task in one environment: what is there, and doing there what was decided.
//!
//! Invariant: nothing is started in an environment before it is known what is there already.

use std::time::Duration;

use shared::aws::ecs::{Definition, Ecs, Placed, Run, Task, is_for_room};
use shared::end::{End, judge_main};
use shared::manifest::{self, Environment};
use shared::{Error, Tick, Time, Trouble, Verdict, names};

use crate::decide::{self, Remembered, SoFar};

/// How long ECS shows a stopped task, as a rule (fact 19), with a margin.
const SHOWN: Duration = Duration::from_secs(50 * 60);

/// How long a task of another release, or of an earlier try, that was asked to end is waited for: the longest `stopTimeout` on Fargate (fact 22),
/// and as much again.
const ENDING: Duration = Duration::from_secs(240);

/// How long another release's task may run without having been asked to end: `halt-release` asks within seconds.
const HALTING: Duration = Duration::from_secs(30);

/// How long a run of the same task by the clock is waited for.
const BY_CLOCK: Duration = Duration::from_secs(10 * 60);

/// The task in one environment.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) environment: Environment,
    pub(crate) ecs: Ecs,
    started_by: String,
    /// Which container does the work, where the manifest says.
    container: Option<String>,
    pub(crate) listed: bool,
    pub(crate) task: Option<Task>,
    pub(crate) definition: Option<Definition>,
    no_room: Option<NoRoom>,
    /// Since when its token is known to have been used before, by an invocation that has told nothing of it.
    used: Option<Time>,
    /// When the task was asked for, until it is known whether it came about.
    asked: Option<Time>,
    /// When a call was made of which it is not known whether it arrived, although a later one was answered.
    doubted: Option<Time>,
    stopping: Option<Time>,
    /// Whether an earlier try may have run the task, of which ECS shows nothing any more.
    pub(crate) forgotten: bool,
    /// Whether an invocation before this one has begun it.
    pub(crate) begun: bool,
    /// Since when nothing of what was begun is found.
    missing_since: Option<Time>,
    /// Since when another release's task is seen here, or one of an earlier try that ends.
    others_since: Option<(String, Time)>,
    /// Since when a run of the same task by the clock is seen here; several may follow each other.
    by_clock_since: Option<Time>,
    looking: Trouble,
    /// A trouble of its own: a look that goes well says nothing of it, nor it of a look.
    pub(crate) defining: Trouble,
    acting: Trouble,
    pub(crate) failed: Option<String>,
}

#[derive(Debug, Clone)]
struct NoRoom {
    reasons: String,
    since: Time,
    last: Time,
}

impl Site {
    /// One that was not looked at yet.
    pub(crate) fn new(
        tick: &Tick<'_>,
        (name, environment): (&str, &Environment),
        (task, what): (&str, &manifest::Task),
        ecs: Ecs,
    ) -> Self {
        Self {
            name: name.to_owned(),
            environment: environment.clone(),
            ecs,
            started_by: names::started_by(tick.release, task, name),
            container: what.container.clone(),
            listed: false,
            task: None,
            definition: None,
            no_room: None,
            used: None,
            asked: None,
            doubted: None,
            stopping: None,
            forgotten: false,
            begun: false,
            missing_since: None,
            others_since: None,
            by_clock_since: None,
            looking: Trouble::default(),
            defining: Trouble::default(),
            acting: Trouble::default(),
            failed: None,
        }
    }

    /// What `decide` is told of it.
    pub(crate) fn seen(&self, remembered: Remembered, tick: &Tick<'_>) -> decide::Site {
        if let Some(seconds) = remembered.succeeded_in {
            return decide::Site::Succeeded { seconds };
        }
        if let Some(what) = &self.failed {
            let runs = self.task.as_ref().is_some_and(|task| !task.is_over());
            // One that was asked for without an answer is waited for, to be asked to end when it is seen.
            let may_run = runs && self.stopping.is_none() || self.may_appear(tick.now);
            return decide::Site::Failed { what: what.clone(), at: None, may_run };
        }
        if !self.listed {
            return decide::Site::Unknown;
        }
        match (&self.task, &self.no_room) {
            // Looked for, and not asked for again: another call would have another token.
            (None, Some(_)) if self.asked.is_none() && self.may_appear(tick.now) => decide::Site::Unknown,
            (None, _) if self.may_appear(tick.now) => decide::Site::Asked,
            (None, None) => decide::Site::Empty,
            (None, Some(NoRoom { reasons, since, last })) => {
                decide::Site::NoRoom { reasons: reasons.clone(), since: *since, last: *last }
            }
            (Some(task), _) if !task.is_over() => {
                let (since, stopping) = (task.created.unwrap_or(tick.begun), self.stopping);
                decide::Site::Live { since, stopping, so_far: so_far(task) }
            }
            (Some(task), _) => match (&self.definition, self.stopping) {
                (None, _) => decide::Site::Unknown,
                (Some(definition), stopping) => match self.ended(task, definition) {
                    End::Succeeded => decide::Site::Succeeded { seconds: seconds(task) },
                    End::Stopped => decide::Site::Stopped,
                    // Whatever its containers say, its end was asked for.
                    End::Failed { .. } if stopping.is_some() => decide::Site::Stopped,
                    End::Failed { what, .. } => decide::Site::Failed { what, at: task.stopped, may_run: false },
                },
            },
        }
    }

    /// How its task has ended.
    pub(crate) fn ended(&self, task: &Task, definition: &Definition) -> End {
        let main = match (self.container.as_deref(), definition.containers.as_slice()) {
            (None, [only]) => Some(only.name.as_str()),
            (named, _) => named,
        };
        judge_main(task, definition, main)
    }

    /// The container whose lines explain how its task ended.
    pub(crate) fn explains(&self, task: &Task, definition: &Definition) -> Option<String> {
        match self.ended(task, definition) {
            End::Failed { container: Some(container), .. } => Some(container),
            End::Failed { .. } | End::Stopped | End::Succeeded => {
                let first = || definition.containers.first().map(|container| container.name.clone());
                self.container.clone().or_else(first)
            }
        }
    }

    /// Whether a task may run that no list shows yet: it was asked for, and no answer came.
    pub(crate) fn may_appear(&self, now: Time) -> bool {
        let lately = |at: Option<Time>| at.is_some_and(|at| now.since(at) < shared::aws::SHOWN);
        self.task.is_none() && (lately(self.asked) || lately(self.doubted))
    }

    /// Whether the next try to place its task is due. That has a token of its own: a second function that does the same job, since
    /// the answers to both claims were lost, may have found room meanwhile.
    pub(crate) fn is_asked_again(&self, now: Time) -> bool {
        self.task.is_none()
            && self.no_room.as_ref().is_some_and(|no_room| now.since(no_room.last) >= decide::PLACEMENT_PAUSE)
    }

    /// The containers of its task whose log driver may lose lines.
    pub(crate) fn may_lose_lines(&self) -> impl Iterator<Item = &str> {
        let containers = self.definition.iter().flat_map(|definition| &definition.containers);
        containers.filter(|container| container.may_lose_lines).map(|container| container.name.as_str())
    }

    /// How the outcome of a look counts: an error is looked at again for a while, then it is what failed here.
    pub(crate) fn note<T>(&mut self, tick: &Tick<'_>, outcome: Result<T, Error>) -> Option<T> {
        let noted = self.looking.note(tick.now, outcome);
        self.failed_unless(noted)
    }

    /// The same for what was done: a look that goes well does not make up for an act that never does.
    pub(crate) fn note_act<T>(&mut self, tick: &Tick<'_>, outcome: Result<T, Error>) -> Option<T> {
        let noted = self.acting.note(tick.now, outcome);
        self.failed_unless(noted)
    }

    pub(crate) fn failed_unless<T>(&mut self, noted: Result<Option<T>, Verdict>) -> Option<T> {
        noted.unwrap_or_else(|verdict| {
            self.failed.get_or_insert(verdict.message);
            None
        })
    }

    /// What is known of its task is judged by the definition that it runs.
    pub(crate) async fn look_at_definition(&mut self) -> Result<(), Error> {
        match &self.task {
            Some(task) if self.definition.is_none() => {
                self.definition = Some(self.ecs.definition(&task.definition).await?);
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Takes up what this release has here already, and refuses what another one has; `false` while a task of the run before
    /// may still appear, or another release's may, or is about to end: a release that was stopped makes room for the next one at once,
    /// and its task takes a while.
    pub(crate) async fn adopt(
        &mut self,
        tick: &Tick<'_>,
        tasks: Vec<Task>,
        name: &str,
        others_settle: bool,
    ) -> Result<bool, Error> {
        let (own, others): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.started_by == self.started_by);
        // One of an earlier try that ends, since the release was stopped, is not this try's to fail with: it is run again.
        let ends = |task: &Task| !task.is_over() && task.desired_status == "STOPPED";
        let of_before = |task: &&Task| ends(task) && task.created.is_some_and(|created| created < tick.begun);
        if let Some(task) = own.iter().find(of_before)
            && self.waited_for(&task.arn, tick.now) < ENDING
        {
            return Ok(false);
        }
        // One that the run before has begun may be what the halt of that one stops in a moment.
        let is_the_halts = |task: &Task| !task.is_over() && task.created.is_some_and(|created| created < tick.begun);
        if tick.unsettled && own.iter().any(is_the_halts) {
            return Ok(false);
        }
        self.forgotten = own.is_empty() && tick.tried_before.is_some_and(|before| tick.now.since(before) > SHOWN);
        // Of the first try, all are its own, also where its function has died, and begins with the job again.
        let is_first = tick.tried_before.is_none() && tick.started.is_some();
        let since = if is_first { Time::default() } else { tick.begun };
        self.task = self.choose(own, since, tick.begun).await?;
        if self.task.is_some() {
            return Ok(true);
        }
        if self.begun {
            let since = *self.missing_since.get_or_insert(tick.now);
            return match tick.now.since(since) < shared::aws::SHOWN {
                true => Ok(false),
                false => Err(Verdict::failed(
                    "it was begun, and ECS does not show any more how it ended. Its lines stand in the log: look whether it has done its \
                     work before you retry the stage, which runs it again",
                )
                .into()),
            };
        }
        if tick.unsettled || others_settle {
            return Ok(false);
        }
        // A run by the clock of the same task ends by itself, and nobody stops it.
        let by_clock = Some((self.name.as_str(), name));
        let is_by_clock = |other: &&Task| names::read_worker_started_by(&other.started_by) == by_clock;
        if let Some(other) = others.iter().filter(|other| !other.is_over()).find(is_by_clock) {
            let since = *self.by_clock_since.get_or_insert(tick.now);
            if tick.now.since(since) < BY_CLOCK {
                return Ok(false);
            }
            return Err(Verdict::failed(format!(
                "`{name}` still runs here by the clock (task {}): let it end or stop it, then retry the stage",
                other.id()
            ))
            .into());
        }
        self.by_clock_since = None;
        for other in others.iter().filter(|other| !other.is_over()) {
            let Some(whose) = names::read_started_by(&other.started_by) else { continue };
            if whose.task == name && whose.environment == self.name {
                let ending = other.desired_status == "STOPPED";
                if self.waited_for(&other.arn, tick.now) < if ending { ENDING } else { HALTING } {
                    return Ok(false);
                }
                return Err(Verdict::failed(format!(
                    "release {} is still running `{name}` here (task {}): let it end or stop it, then retry the stage",
                    whose.execution,
                    other.id()
                ))
                .into());
            }
        }
        Ok(true)
    }

    /// How long this task has been waited for, which is of another release or an earlier try.
    fn waited_for(&mut self, task: &str, now: Time) -> Duration {
        let (of, since) = self.others_since.get_or_insert_with(|| (task.to_owned(), now));
        if of != task {
            (*of, *since) = (task.to_owned(), now);
        }
        now.since(*since)
    }

    /// Which of this release's own tasks counts: one that runs is adopted, one that succeeded is done; one that failed
    /// counts if this try of the action started it, or had taken it up while it ran, and is run again if an earlier one did.
    async fn choose(&mut self, own: Vec<Task>, since: Time, begun: Time) -> Result<Option<Task>, Error> {
        let mut failed: Option<(Task, Definition)> = None;
        let mut succeeded = None;
        for task in own {
            if !task.is_over() {
                self.definition = Some(self.ecs.definition(&task.definition).await?);
                return Ok(Some(task));
            }
            let definition = self.ecs.definition(&task.definition).await?;
            match self.ended(&task, &definition) {
                End::Succeeded => succeeded = Some((task, definition)),
                end @ (End::Stopped | End::Failed { .. }) => {
                    let is_own = task.created.is_some_and(|created| created >= since);
                    // It ran when this try began, which has noted then that there is one.
                    let was_taken_up =
                        self.begun && end != End::Stopped && task.stopped.is_some_and(|stopped| stopped >= begun);
                    let is_newer = failed.as_ref().is_none_or(|(known, _)| task.created > known.created);
                    if (is_own || was_taken_up) && is_newer {
                        failed = Some((task, definition));
                    }
                }
            }
        }
        let chosen = succeeded.or(failed);
        Ok(chosen.map(|(task, definition)| {
            self.definition = Some(definition);
            task
        }))
    }

    /// Starts the task: `true` when there is one now, `false` when there was no room.
    ///
    /// Safe to repeat: see the call.
    pub(crate) async fn start(
        &mut self,
        tick: &Tick<'_>,
        task: &manifest::Task,
        (definition, container): (Definition, String),
        (attempt, no_room_since): (u32, Option<Time>),
    ) -> Result<bool, Error> {
        // Right before the call: what is asked before it takes its time.
        let before = self.asked.replace(tick.by_now());
        let placed = self
            .ecs
            .run_task(&Run {
                environment: &self.environment,
                definition: &definition.arn,
                container: &container,
                overrides: &task.into(),
                started_by: &self.started_by,
                client_token: &names::client_token(tick.key, &self.name, attempt),
            })
            .await?;
        self.asked = None;
        match placed {
            Placed::Task(task) => {
                self.task = Some(task);
                self.definition = Some(definition);
                Ok(true)
            }
            Placed::Before => {
                let used = *self.used.get_or_insert(tick.by_now());
                // Whatever it has placed may be shown at any look from now on, and is looked for before each other try.
                (self.listed, self.doubted) = (false, before.or(Some(used)));
                // Listed by now, whatever it has placed, and shown until an hour after its end: it has placed nothing, for want of room.
                if tick.by_now().since(used) > shared::aws::SHOWN && tick.now.since(tick.begun) < SHOWN {
                    self.used = None;
                    return Ok(false);
                }
                Err(Error::Again("ecs:RunTask: the task exists and is not listed yet".into()))
            }
            Placed::Not(reasons) => {
                let reasons = reasons.join(", ");
                if !is_for_room(&reasons) {
                    return Err(Verdict::failed(format!("ECS refused to place the task: {reasons}")).into());
                }
                // Of a call before this one it is not known whether it arrived: it may be done yet, and another try would not know of it.
                self.doubted = before.or(self.doubted);
                let since = self.no_room.as_ref().map(|before| before.since).or(no_room_since).unwrap_or(tick.now);
                self.no_room = Some(NoRoom { reasons, since, last: tick.now });
                Ok(false)
            }
        }
    }

    /// Asks for the task's end.
    ///
    /// Safe to repeat: see the call.
    pub(crate) async fn stop(&mut self, tick: &Tick<'_>, reason: &str) -> Result<(), Error> {
        let Some(task) = &self.task else { return Ok(()) };
        let stopped = self.ecs.stop_task(&self.environment.cluster, &task.arn, reason).await;
        if self.failed.is_some() && !matches!(stopped, Err(Error::Again(_))) {
            // Where it is refused, too: it is asked for once, so that the action can end.
            self.stopping = Some(tick.now);
        }
        stopped?;
        self.stopping = Some(tick.now);
        Ok(())
    }
}

/// How far a task has come that is not over.
fn so_far(task: &Task) -> SoFar {
    match task.last_status.as_str() {
        _ if task.started.is_some() => SoFar::Runs,
        "PROVISIONING" => SoFar::Provisioning,
        _ => SoFar::Starts,
    }
}

/// How long a task took, from the moment it was asked for, in whole seconds begun.
fn seconds(task: &Task) -> u64 {
    match (task.created, task.stopped) {
        (Some(created), Some(stopped)) => {
            u64::try_from(stopped.since(created).as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
        }
        (None, _) | (_, None) => 0,
    }
}
