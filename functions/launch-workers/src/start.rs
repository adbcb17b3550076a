//! Asking ECS for the tasks of a start.
//!
//! Invariant: a start is given up only when it is known that it has begun nothing. A refusal says so of its own call alone: an attempt
//! before it, whose answer nobody knows, may have begun the tasks.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::aws::ecs::{Of, Ran, Run, is_for_room};
use shared::aws::{Place, SHOWN};
use shared::names::{StartedBy, read_started_by, worker_started_by};
use shared::workers::Kind;
use shared::workers::ledger::{Ledger, Refused, Start};
use shared::{Aws, Error, Time};
use tracing::{error, info, warn};

use crate::follow;

/// How long a start that another function has decided is that function's own: longer than its call takes, and it may try twice.
const ANOTHERS: Duration = Duration::from_secs(25);

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
    /// Those that wait for a release's own run of the same task.
    waiting: BTreeSet<u64>,
}

impl<'a> Starts<'a> {
    pub(crate) fn new(aws: &'a Aws, environment: &'a str, name: &'a str) -> Self {
        Self { aws, environment, name, own: BTreeSet::new(), asked: BTreeSet::new(), waiting: BTreeSet::new() }
    }

    /// Whether this function goes on with a start.
    pub(crate) fn is_due(&self, start: &Start, now: Time) -> bool {
        self.own.contains(&start.number) || now.since(start.asked) > ANOTHERS
    }

    /// Whether it has something to do for it at once. What a refused one may have begun is looked for by a later look, and that asks
    /// for what waits for a release.
    pub(crate) fn goes_on(&self, start: &Start) -> bool {
        self.own.contains(&start.number) && start.refused.is_none() && !self.waiting.contains(&start.number)
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
        let given_up = match &start.refused {
            None => self.ask(ledger, start, now).await?,
            Some(before) => self.look_for(ledger, start, before, now).await?,
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
        let run = Run {
            environment,
            definition,
            container,
            overrides,
            started_by: &self.started_by(start, &token),
            client_token: &token,
        };
        // Nobody else asks for what was decided here, for a while.
        let is_first = self.asked.insert(start.number) && self.own.contains(&start.number);
        let is_first = is_first && now.since(start.asked) <= ANOTHERS;
        // When it was decided, none ran.
        if !is_first && start.kind.live.is_none() && self.is_of_a_release(&start.kind).await? {
            self.waiting.insert(start.number);
            return Ok(None);
        }
        let ecs = self.aws.ecs(&Place::from(environment)).await;
        match ecs.run_tasks(&run, start.count).await {
            Ok(Ran { tasks, reasons }) => {
                let arns: Vec<_> = tasks.into_iter().map(|task| task.arn).collect();
                let said = reasons.join(", ");
                if arns.is_empty() && !is_for_room(&said) {
                    return Ok(Some(format!("ECS refused to place its task: {said}")));
                }
                info!(
                    environment = self.environment,
                    worker = self.name,
                    started = arns.len(),
                    wanted = start.count,
                    reasons = said,
                    "workers started"
                );
                follow::started(ledger, start.number, &arns, &reasons, now);
                Ok(None)
            }
            // What an earlier version has asked for cannot be told from what else it has started.
            Err(Error::Stop(verdict)) if is_first || !start.is_named => Ok(Some(verdict.message)),
            Err(Error::Stop(verdict)) => {
                let why = verdict.message;
                warn!(
                    environment = self.environment,
                    worker = self.name,
                    why,
                    "refused: an attempt before may have begun it"
                );
                follow::refused_late(ledger, start.number, Refused { at: now, why });
                Ok(None)
            }
            Err(again @ Error::Again(_)) => Err(again),
        }
    }

    /// Looks for what a start has begun, once ECS must show it; why it is given up, when it is.
    async fn look_for(
        &self,
        ledger: &mut Ledger,
        start: &Start,
        refused: &Refused,
        now: Time,
    ) -> Result<Option<String>, Error> {
        if now.since(refused.at) < SHOWN {
            return Ok(None);
        }
        let Kind { definition, environment, .. } = &start.kind;
        let by = self.started_by(start, &ledger.token(start.number));
        let ecs = self.aws.ecs(&Place::from(environment)).await;
        // Not by `startedBy`: those that have ended are listed by nothing else beside it.
        let tasks = ecs.tasks(&environment.cluster, Of::Family(family(definition))).await?;
        let arns: Vec<_> = tasks.into_iter().filter(|task| task.started_by == by).map(|task| task.arn).collect();
        if arns.is_empty() {
            return Ok(Some(refused.why.clone()));
        }
        info!(environment = self.environment, worker = self.name, started = arns.len(), "workers had started");
        follow::started(ledger, start.number, &arns, &[], now);
        Ok(None)
    }

    /// Whether a release runs the same task here right now.
    ///
    /// # Errors
    /// The calls'.
    pub(crate) async fn is_of_a_release(&self, kind: &Kind) -> Result<bool, Error> {
        let Kind { definition, environment, .. } = kind;
        let ecs = self.aws.ecs(&Place::from(environment)).await;
        let tasks = ecs.tasks(&environment.cluster, Of::Family(family(definition))).await?;
        let is_it = |whose: StartedBy<'_>| (whose.environment, whose.task) == (self.environment, self.name);
        Ok(tasks.iter().any(|task| !task.is_over() && read_started_by(&task.started_by).is_some_and(is_it)))
    }

    fn started_by(&self, start: &Start, token: &str) -> String {
        worker_started_by(self.environment, self.name, start.is_named.then_some(token))
    }
}

/// That of a revision.
fn family(definition: &str) -> &str {
    shared::aws::ecs::id(definition).split(':').next().unwrap_or_default()
}
