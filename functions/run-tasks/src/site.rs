//! The environments of a task: what is there, and doing there what was decided.
//!
//! Invariant: nothing is started in an environment before it is known what is there already.

use futures_util::future::join_all;
use shared::artifact::Content;
use shared::aws::Place;
use shared::aws::ecs::{Definition, Ecs, Half, Of, Placed, Run, Task};
use shared::manifest::{self, Environment};
use shared::{Error, Tick, Time, Trouble, Verdict, names};

use crate::decide::{self, Act, End, Remembered, State, judge};

/// How many of the failing container's last lines the verdict shows.
const LAST_LINES: i32 = 12;

/// The task in all its environments, as one invocation knows it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) task: manifest::Task,
    pub(crate) sites: Vec<Site>,
    image: Option<String>,
}

/// The task in one environment.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    environment: Environment,
    ecs: Ecs,
    started_by: String,
    listed: bool,
    pub(crate) task: Option<Task>,
    definition: Option<Definition>,
    no_room: Option<NoRoom>,
    stopping: Option<Time>,
    trouble: Trouble,
    failed: Option<String>,
}

#[derive(Debug, Clone)]
struct NoRoom {
    reasons: String,
    since: Time,
    last: Time,
}

impl Plan {
    pub(crate) async fn new(tick: &Tick<'_>, content: Content, name: &str) -> Result<Self, Error> {
        let task = content.manifest.task(name)?.clone();
        let mut sites = Vec::new();
        for (environment_name, environment) in content.manifest.environments_of(task.environments.as_ref()) {
            sites.push(Site {
                name: environment_name.to_owned(),
                environment: environment.clone(),
                ecs: tick.aws.ecs(&Place::from(environment)).await,
                started_by: names::started_by(tick.release, name, environment_name),
                listed: false,
                task: None,
                definition: None,
                no_room: None,
                stopping: None,
                trouble: Trouble::default(),
                failed: None,
            });
        }
        if sites.is_empty() {
            let why = format!("deploy.yaml: the task `{name}` runs in no environment; correct its `environments`.");
            return Err(Verdict::misconfigured(why).into());
        }
        Ok(Self { name: name.to_owned(), task, sites, image: content.image })
    }

    /// Looks at every environment at once; what fails for one does not keep the others from being seen.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) {
        let (task, name) = (&self.task, self.name.as_str());
        join_all(self.sites.iter_mut().map(async |site| {
            let looked = site.look(tick, task, name).await;
            site.note(tick, looked);
        }))
        .await;
    }

    /// Does what was decided, in every environment at once.
    pub(crate) async fn act(&mut self, tick: &Tick<'_>, state: &mut State, acts: &[Act]) {
        let (task, image) = (&self.task, self.image.as_deref());
        let attempts: Vec<_> = (0..self.sites.len()).map(|at| state.at(at).attempt).collect();
        let refused = join_all(self.sites.iter_mut().enumerate().map(async |(at, site)| {
            let mut refused = false;
            for act in acts {
                match act {
                    Act::Start { at: wanted } if *wanted == at => {
                        let started = site.start(tick, task, image, attempts[at]).await;
                        refused = site.note(tick, started) == Some(false);
                    }
                    Act::Stop { at: wanted, reason } if *wanted == at => {
                        let stopped = site.stop(tick, reason).await;
                        site.note(tick, stopped);
                    }
                    Act::Start { .. } | Act::Stop { .. } => {}
                }
            }
            refused
        }))
        .await;
        for (at, _) in refused.into_iter().enumerate().filter(|(_, refused)| *refused) {
            // A refused placement is replayed for the same client token (fact 18): the next try needs another one.
            state.at_mut(at).attempt += 1;
        }
    }

    /// The last lines of the container that explains the failure; none when they cannot be read: a verdict without
    /// them is better than none.
    pub(crate) async fn last_lines(&self, tick: &Tick<'_>, state: &State) -> Vec<String> {
        let Some(site) = state.cause.as_ref().and_then(|cause| self.sites.get(cause.environment)) else {
            return Vec::new();
        };
        let (Some(task), Some(definition)) = (&site.task, &site.definition) else { return Vec::new() };
        let container = match judge(task, definition) {
            End::Failed { container: Some(container), .. } => container,
            End::Failed { .. } | End::Stopped | End::Succeeded => match definition.containers.first() {
                Some(container) => container.name.clone(),
                None => return Vec::new(),
            },
        };
        let Some(source) = definition.logs(&container) else { return Vec::new() };
        let place = Place { region: source.region.clone(), role: site.environment.role.clone() };
        let logs = tick.aws.logs(&place).await;
        let stream = source.stream(&container, task.id());
        logs.last_lines(&source.group, &stream, LAST_LINES).await.unwrap_or_default()
    }
}

impl Site {
    /// What `decide` is told of it.
    pub(crate) fn seen(&self, remembered: Remembered, begun: Time) -> decide::Site {
        if let Some(seconds) = remembered.succeeded_in {
            return decide::Site::Succeeded { seconds };
        }
        if let Some(what) = &self.failed {
            return decide::Site::Failed { what: what.clone() };
        }
        if !self.listed {
            return decide::Site::Unknown;
        }
        match (&self.task, &self.no_room) {
            (None, None) => decide::Site::Empty,
            (None, Some(NoRoom { reasons, since, last })) => {
                decide::Site::NoRoom { reasons: reasons.clone(), since: *since, last: *last }
            }
            (Some(task), _) if !task.is_over() => {
                decide::Site::Live { since: task.created.unwrap_or(begun), stopping: self.stopping }
            }
            (Some(task), _) => match (&self.definition, self.stopping) {
                (None, _) => decide::Site::Unknown,
                (Some(definition), stopping) => match judge(task, definition) {
                    End::Succeeded => decide::Site::Succeeded { seconds: seconds(task) },
                    End::Stopped => decide::Site::Stopped,
                    // Whatever its containers say, its end was asked for.
                    End::Failed { .. } if stopping.is_some() => decide::Site::Stopped,
                    End::Failed { what, .. } => decide::Site::Failed { what },
                },
            },
        }
    }

    /// How an error of this environment counts: looked at again for a while, then it is what failed here.
    fn note<T>(&mut self, tick: &Tick<'_>, outcome: Result<T, Error>) -> Option<T> {
        match self.trouble.note(tick.now, outcome) {
            Ok(value) => value,
            Err(verdict) => {
                self.failed.get_or_insert(verdict.message);
                None
            }
        }
    }

    async fn look(&mut self, tick: &Tick<'_>, task: &manifest::Task, name: &str) -> Result<(), Error> {
        if self.failed.is_some() && self.task.is_none() {
            return Ok(());
        }
        if !self.listed {
            self.find(tick, task, name).await?;
            self.listed = true;
        }
        if let Some(known) = self.task.as_ref().filter(|known| !known.is_over()) {
            let arns = [known.arn.clone()];
            // One that is not visible yet stays as it was (fact 20).
            if let Some(seen) = self.ecs.describe_tasks(&self.environment.cluster, &arns).await?.pop() {
                self.task = Some(seen);
            }
        }
        match &self.task {
            Some(task) if self.definition.is_none() => {
                self.definition = Some(self.ecs.definition(&task.definition).await?);
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Finds what this release has here already, and what another one has.
    async fn find(&mut self, tick: &Tick<'_>, task: &manifest::Task, name: &str) -> Result<(), Error> {
        let cluster = &self.environment.cluster.clone();
        let own = self.ecs.tasks(cluster, Of::StartedBy(&self.started_by)).await?;
        self.task = self.choose(own, tick.begun).await?;
        if self.task.is_some() {
            return Ok(());
        }
        let family = manifest::in_environment(&task.family, &self.name);
        let running = self.ecs.list_tasks(cluster, Of::Family(&family), Half::Running).await?;
        for other in self.ecs.describe_tasks(cluster, &running).await? {
            let Some(whose) = names::read_started_by(&other.started_by) else { continue };
            if whose.task == name && whose.environment == self.name && !other.is_over() {
                return Err(Verdict::failed(format!(
                    "release {} is still running `{name}` here (task {}): let it end or stop it, then retry the stage",
                    whose.execution,
                    other.id()
                ))
                .into());
            }
        }
        Ok(())
    }

    /// Which of this release's own tasks counts: one that runs is adopted, one that succeeded is done; one that failed
    /// counts if this try of the action started it, and is run again if an earlier one did.
    async fn choose(&mut self, own: Vec<Task>, begun: Time) -> Result<Option<Task>, Error> {
        let mut failed = None;
        let mut succeeded = None;
        for task in own {
            if !task.is_over() {
                self.definition = Some(self.ecs.definition(&task.definition).await?);
                return Ok(Some(task));
            }
            let definition = self.ecs.definition(&task.definition).await?;
            match judge(&task, &definition) {
                End::Succeeded => succeeded = Some((task, definition)),
                End::Stopped | End::Failed { .. } if task.created.is_some_and(|created| created >= begun) => {
                    failed = Some((task, definition));
                }
                End::Stopped | End::Failed { .. } => {}
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
    /// Safe to repeat: see the calls.
    async fn start(
        &mut self,
        tick: &Tick<'_>,
        task: &manifest::Task,
        image: Option<&str>,
        attempt: u32,
    ) -> Result<bool, Error> {
        let family = manifest::in_environment(&task.family, &self.name);
        let (definition, container) = self.ecs.definition_with_image(&family, task.container.as_deref(), image).await?;
        let placed = self
            .ecs
            .run_task(&Run {
                environment: &self.environment,
                definition: &definition.arn,
                container: &container,
                task,
                started_by: &self.started_by,
                client_token: &names::client_token(tick.key, &self.name, attempt),
            })
            .await?;
        match placed {
            Placed::Task(task) => {
                self.task = Some(task);
                self.definition = Some(definition);
                Ok(true)
            }
            Placed::Not(reasons) => {
                let reasons = reasons.join(", ");
                if !is_for_room(&reasons) {
                    return Err(Verdict::failed(format!("ECS refused to place the task: {reasons}")).into());
                }
                let since = self.no_room.as_ref().map_or(tick.now, |before| before.since);
                self.no_room = Some(NoRoom { reasons, since, last: tick.now });
                Ok(false)
            }
        }
    }

    /// Asks for the task's end.
    ///
    /// Safe to repeat: see the call.
    async fn stop(&mut self, tick: &Tick<'_>, reason: &str) -> Result<(), Error> {
        let Some(task) = &self.task else { return Ok(()) };
        self.ecs.stop_task(&self.environment.cluster, &task.arn, reason).await?;
        self.stopping = Some(tick.now);
        Ok(())
    }
}

/// Whether a placement failed for want of something that may come back (fact 17).
fn is_for_room(reasons: &str) -> bool {
    ["RESOURCE", "AGENT", "Capacity is unavailable", "EMPTY CAPACITY PROVIDER"]
        .iter()
        .any(|word| reasons.contains(word))
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
