//! The environments whose tasks are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use shared::aws::ecs::{self, Definition, Ecs, Task};
use shared::aws::logs::Line;
use shared::aws::{Place, codepipeline::Sibling};
use shared::manifest::{Manifest, in_environment};
use shared::{Error, Tick, Time, Trouble, Verdict, names};
use tokio::task::{JoinError, JoinSet};

use crate::decide::{self, AT_ONCE, MOST_CONTAINERS, READS, Runner};
use crate::lines::{Key, Known, State};
use crate::merged::Merged;
use crate::message;
use crate::search::{Found, Group, Search, Tasks};
use crate::source::{Counting, Source};

/// How often tasks are searched for that are not known yet, and how often the action beside this one is looked at.
const SEARCH: Duration = Duration::from_millis(1500);

/// The same while a task is known in every environment: all that is asked for is whether they live, and the end costs the next stage
/// what it is noticed late.
const SEARCH_LIVING: Duration = Duration::from_millis(900);

/// How long a search is waited for right where it was begun: most take a few calls' time, and its outcome would be looked at a pause later.
const AT_HAND: Duration = Duration::from_millis(400);

/// After how many searches every task is known that the invocation before knew: those that run come with the first, those
/// that have stopped with the second.
const SEARCHES: u32 = 3;

/// How far the clocks of ECS and CodePipeline may differ.
const SKEW: Duration = Duration::from_secs(5);

/// How long the run beside this one is waited for in a list that shows an earlier run of it only.
const LISTED: Duration = Duration::from_secs(10);

/// What one invocation follows.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) task: String,
    pub(crate) sites: Vec<Site>,
    pub(crate) runner: Runner,
    /// Whether the action beside this one has failed.
    pub(crate) runner_failed: bool,
    /// How long it may last.
    pub(crate) limit: Duration,
    /// When the action beside this one began: what had ended before is of an earlier try, and was followed then.
    since: Time,
    /// The search under way, at most one; it ends with the tail.
    search: JoinSet<Found>,
    searched: Option<Time>,
    /// How many searches this invocation has made.
    searches: u32,
    /// The tasks that need no second look: followed already, or somebody else's.
    known: BTreeSet<String>,
    pub(crate) merged: Merged,
    of_runner: Trouble,
}

/// One environment.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    cluster: String,
    role: Option<String>,
    place: Place,
    family: String,
    ecs: Ecs,
    started_by: String,
    pub(crate) sources: Vec<Source>,
    headers: Vec<Header>,
    /// What stands in front of what is said of the environment as a whole.
    label: String,
    /// The longest name of an environment.
    width: usize,
    /// How many containers there was no room for.
    unfollowed: usize,
    /// Up to when its cluster was seen.
    looked: Time,
    looking: Trouble,
    /// Why it cannot be followed any more.
    pub(crate) lost: Option<String>,
    /// Whether it was followed before this invocation, and ECS shows its task no more.
    is_forgotten: bool,
}

/// The line that says that a container is followed, or why not.
#[derive(Debug)]
struct Header {
    /// A header whose key has a position has been put.
    key: Key,
    label: String,
    line: Line,
}

impl Tail {
    pub(crate) async fn new(tick: &Tick<'_>, manifest: Manifest, task: &str) -> Result<Self, Error> {
        let described = manifest.task(task)?;
        let mut sites = Vec::new();
        let environments = manifest.environments_of(described.environments.as_ref());
        let width = environments.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, environment) in environments {
            let place = Place::from(environment);
            sites.push(Site {
                name: name.to_owned(),
                cluster: environment.cluster.clone(),
                role: environment.role.clone(),
                family: in_environment(&described.family, name),
                ecs: tick.aws.ecs(&place).await,
                place,
                started_by: names::started_by(tick.release, task, name),
                sources: Vec::new(),
                headers: Vec::new(),
                label: message::label(name, width, "", 0),
                width,
                unfollowed: 0,
                looked: Time::default(),
                looking: Trouble::default(),
                lost: None,
                is_forgotten: false,
            });
        }
        Ok(Self {
            task: task.to_owned(),
            sites,
            runner: Runner::Running,
            runner_failed: false,
            limit: decide::limit(described.timeout.0, described.retry_placement_for.0),
            since: Time::default(),
            search: JoinSet::new(),
            searched: None,
            searches: 0,
            known: BTreeSet::new(),
            merged: Merged::new(),
            of_runner: Trouble::default(),
        })
    }

    /// Up to when every environment was seen that can be.
    pub(crate) fn looked(&self) -> Time {
        let seen = self.sites.iter().filter(|site| site.lost.is_none());
        // When none can be seen, there is nothing to wait for.
        seen.map(|site| site.looked).min().unwrap_or(Time::from_millis(u64::MAX))
    }

    /// Whether every task is known that there was when this invocation began.
    pub(crate) fn has_searched(&self) -> bool {
        self.searches >= SEARCHES
    }

    /// Takes for stopped what cannot be seen any more, once the action beside this one has ended: that one waits for it, and what was written
    /// can be read all the same.
    pub(crate) fn presume_ends(&mut self) {
        let Runner::Ended(at) = self.runner else { return };
        for source in self.sites.iter_mut().filter(|site| site.lost.is_some()).flat_map(|site| &mut site.sources) {
            source.stopped.get_or_insert(at);
        }
    }

    /// Has streams that fell silent long ago read and counted once more: others have gone on since, and what an agent flushed late may be there
    /// by now. Whether there are such.
    pub(crate) fn look_once_more(&mut self, now: Time) -> bool {
        let is_old = |source: &&mut Source| {
            source.counting == Counting::Done && !source.is_read_again && now.since(source.last_read) > decide::QUIET
        };
        let sources = self.sites.iter_mut().flat_map(|site| &mut site.sources).filter(is_old);
        let mut any = false;
        for source in sources.filter(|source| source.lost.is_none() && source.exists) {
            (source.counting, source.is_read_again, any) = (Counting::NOT_BEGUN, true, true);
        }
        any
    }

    /// The streams, as `decide` is told of them.
    pub(crate) fn sources(&self) -> Vec<decide::Source> {
        let each = self.sites.iter().enumerate();
        each.flat_map(|(at, site)| site.sources.iter().map(move |source| source.seen(at))).collect()
    }

    /// Takes up what the search has found, and begins the next one.
    ///
    /// # Errors
    /// The action beside this one cannot be seen: when to end is not known.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) -> Result<(), Verdict> {
        let found = self.search.try_join_next();
        self.take_joined(tick, found).await?;
        let all_live = self.sites.iter().all(|site| site.sources.iter().any(|source| source.stopped.is_none()));
        let pause = if all_live { SEARCH_LIVING } else { SEARCH };
        let is_due = self.searched.is_none_or(|searched| tick.now.since(searched) >= pause);
        if is_due && self.search.is_empty() {
            self.searched = Some(tick.now);
            self.search.spawn(
                Search {
                    aws: tick.aws.clone(),
                    release: tick.release.clone(),
                    run: tick.job.run.clone(),
                    task: self.task.clone(),
                    runner_may_run: !matches!(self.runner, Runner::Ended(_)),
                    groups: self.groups(),
                    known: self.known.clone(),
                    now: tick.now,
                }
                .run(),
            );
            let found = tokio::time::timeout(AT_HAND, self.search.join_next()).await;
            self.take_joined(tick, found.ok().flatten()).await?;
        }
        Ok(())
    }

    async fn take_joined(&mut self, tick: &Tick<'_>, joined: Option<Result<Found, JoinError>>) -> Result<(), Verdict> {
        match joined {
            Some(Ok(found)) => self.take_found(tick, found).await,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// Whether the end is near: each environment's task has ended, and what it wrote last is read.
    pub(crate) fn is_ending(&self) -> bool {
        let has_ended = |site: &Site| !site.sources.is_empty() && site.sources.iter().all(|one| one.stopped.is_some());
        self.sites.iter().all(has_ended)
    }

    async fn take_found(&mut self, tick: &Tick<'_>, found: Found) -> Result<(), Verdict> {
        if let Some(outcome) = found.runner {
            match self.of_runner.note(tick.now, outcome)? {
                Some(beside) if is_earlier(tick, beside.as_ref()) => return Ok(()),
                Some(beside) => self.take_runner(beside.as_ref(), found.begun),
                // Which of the tasks are of an earlier try is not known yet.
                None if self.searches == 0 => return Ok(()),
                None => {}
            }
        }
        self.searches += 1;
        for (sites, outcome) in found.groups {
            let Some(first) = sites.first() else { continue };
            match self.sites[*first].looking.note(tick.now, outcome) {
                Ok(None) => {}
                Ok(Some(tasks)) => {
                    for at in &sites {
                        self.sites[*at].looked = found.begun;
                    }
                    self.take_tasks(tick, &sites, tasks).await;
                }
                // What fails for one cluster does not keep the others from being followed.
                Err(verdict) => {
                    for at in &sites {
                        self.sites[*at].lost = Some(verdict.message.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn take_runner(&mut self, beside: Option<&Sibling>, at: Time) {
        self.runner_failed = beside.is_some_and(|sibling| sibling.has_failed());
        self.since = beside.and_then(|sibling| sibling.started).unwrap_or_default();
        self.runner = match beside {
            Some(sibling) if sibling.is_running() => Runner::Running,
            Some(_) => Runner::Ended(at),
            None => Runner::None,
        };
    }

    async fn take_tasks(&mut self, tick: &Tick<'_>, sites: &[usize], tasks: Tasks) {
        for (task, definition) in tasks {
            let earlier = task.is_over() && task.created.is_some_and(|created| created.plus(SKEW) < self.since);
            let followed = self.sites.iter().map(|site| site.headers.len()).sum::<usize>();
            let site = sites.iter().copied().find(|at| self.sites[*at].started_by == task.started_by);
            if let Some(site) = site.map(|at| &mut self.sites[at]) {
                if let Some(definition) = definition.filter(|_| !earlier) {
                    site.add(tick, &task, &definition, &self.task, MOST_CONTAINERS.saturating_sub(followed)).await;
                }
                if task.is_over() {
                    for source in site.sources.iter_mut().filter(|source| source.arn == task.arn) {
                        source.stopped.get_or_insert(tick.now);
                        source.succeeded = has_succeeded(&task);
                    }
                }
            }
            self.known.insert(task.arn);
        }
    }

    /// The sites that can be looked at with the same calls.
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let key = |site: &Site| (site.place.clone(), site.cluster.clone(), site.family.clone());
        for (at, site) in self.sites.iter().enumerate().filter(|(_, site)| site.lost.is_none()) {
            let living = site.sources.iter().filter(|one| one.stopped.is_none()).map(|one| one.arn.clone());
            let living: Vec<_> = living.collect();
            match groups.iter_mut().find(|group| key(&self.sites[group.sites[0]]) == key(site)) {
                Some(group) => {
                    group.sites.push(at);
                    group.started_by.push(site.started_by.clone());
                    group.all_live &= !living.is_empty();
                    group.living.extend(living);
                }
                None => groups.push(Group {
                    ecs: site.ecs.clone(),
                    cluster: site.cluster.clone(),
                    family: site.family.clone(),
                    sites: vec![at],
                    started_by: vec![site.started_by.clone()],
                    all_live: !living.is_empty(),
                    living,
                }),
            }
        }
        groups
    }

    /// Reads what is new, and appends it to the release's stream. What was read and could not be appended waits for the
    /// next look; what could not be read does not keep the rest from being appended.
    ///
    /// # Errors
    /// The release's stream cannot be written.
    pub(crate) async fn forward(&mut self, tick: &Tick<'_>, state: &mut State) -> Result<(), Verdict> {
        let rounds = self.rounds();
        if rounds.is_empty() {
            return self.put(tick, state).await;
        }
        for round in rounds {
            self.read(tick, state, &round).await;
            self.put(tick, state).await?;
        }
        Ok(())
    }

    /// The streams to read in this look: of each place as many as may be read in a second, those first that have waited
    /// longest, a few at a time.
    fn rounds(&self) -> Vec<BTreeSet<Key>> {
        let mut waiting: BTreeMap<&Place, Vec<(Time, Key)>> = BTreeMap::new();
        for source in self.sites.iter().flat_map(|site| &site.sources) {
            if source.lost.is_none() && source.counting != Counting::Done {
                waiting.entry(&source.place).or_default().push((source.last_read, source.key));
            }
        }
        let mut rounds: Vec<BTreeSet<Key>> = Vec::new();
        for mut all in waiting.into_values() {
            all.sort();
            for (at, some) in all[..all.len().min(READS)].chunks(AT_ONCE).enumerate() {
                if rounds.len() <= at {
                    rounds.push(BTreeSet::new());
                }
                rounds[at].extend(some.iter().map(|(_, key)| *key));
            }
        }
        rounds
    }

    async fn read(&mut self, tick: &Tick<'_>, state: &State, round: &BTreeSet<Key>) {
        let sources = self.sites.iter_mut().flat_map(|site| &mut site.sources);
        join_all(sources.filter(|source| round.contains(&source.key)).map(async |source| {
            let position = state.positions.get(&source.key).copied().unwrap_or_default();
            source.read(tick, position).await;
        }))
        .await;
    }

    async fn put(&mut self, tick: &Tick<'_>, state: &mut State) -> Result<(), Verdict> {
        let mut streams = Vec::new();
        for site in &self.sites {
            let new = site.headers.iter().filter(|header| !state.positions.contains_key(&header.key));
            streams.extend(new.map(|header| (header.label.clone(), vec![header.line.clone()])));
            let waiting = site.sources.iter().filter(|source| !source.pending.is_empty());
            streams.extend(waiting.map(|source| (source.label.clone(), source.pending.clone())));
        }
        let put = self.merged.put(tick, state, streams).await;
        if self.merged.trouble.note(tick.now, put)?.is_none() {
            return Ok(());
        }
        for header in self.sites.iter().flat_map(|site| &site.headers) {
            state.positions.entry(header.key).or_default();
        }
        for source in self.sites.iter_mut().flat_map(|site| &mut site.sources) {
            let position = state.positions.entry(source.key).or_default();
            position.advance(&source.pending);
            source.pending.clear();
            source.lines = position.lines;
        }
        let mut sources = self.sites.iter().flat_map(|site| &site.sources);
        if self.has_searched() && sources.all(|source| source.caught_up || source.lost.is_some()) {
            self.merged.settle(state);
        }
        Ok(())
    }

    /// Counts the lines of streams that have fallen silent, so that none is missing that came late.
    pub(crate) async fn count(&mut self, tick: &Tick<'_>) {
        // Lines may have been written before this action began: its function is dispatched apart from the runner's.
        let since = self.since.before(SKEW);
        let sources = self.sites.iter_mut().flat_map(|site| &mut site.sources);
        let waiting = sources.filter(|source| {
            let seen = source.seen(0);
            seen.is_quiet() && !seen.is_complete() && !seen.lost
        });
        for source in waiting.take(READS) {
            source.count(tick, &mut self.merged, since).await;
        }
    }

    /// The last lines: what came from where, or what is missing.
    ///
    /// Safe to repeat: those that are there are not put again, also by whoever takes this up after a death.
    ///
    /// # Errors
    /// When they could not be put: then nothing was closed.
    pub(crate) async fn close(&mut self, tick: &Tick<'_>, state: &mut State) -> Result<(), Error> {
        let followed: BTreeSet<_> = self.sites.iter().flat_map(|site| &site.headers).map(|header| header.key).collect();
        let was_followed = state.positions.keys().any(|key| !followed.contains(key));
        for site in self.sites.iter_mut().filter(|site| site.headers.is_empty()) {
            site.is_forgotten = was_followed;
        }
        let at = tick.now.max(state.floor);
        let there = match self.merged.lines_since(tick, state.floor).await {
            Err(why) if tick.answered.is_some() => return Err(why),
            // Better twice than not at all.
            there => there.unwrap_or_default(),
        };
        let closing = |site: &Site| (site.label.clone(), vec![Line { at, text: message::closing(&self.task, site) }]);
        let is_missing = |(label, lines): &(String, Vec<Line>)| {
            !lines.iter().any(|line| there.iter().any(|put| put.text == format!("{label}{}", line.text)))
        };
        let lines = self.sites.iter().map(closing).filter(is_missing).collect();
        self.merged.put(tick, state, lines).await
    }
}

/// Whether the action beside this one is a run of before: when a stage is tried again, its actions' new runs are begun together, and may
/// be listed one after the other. What that one's tasks are is not this one's affair.
fn is_earlier(tick: &Tick<'_>, beside: Option<&Sibling>) -> bool {
    let began_before = |run: &Sibling| run.started.zip(tick.started).is_some_and(|(run, own)| run.plus(SKEW) < own);
    let is_it = beside.is_some_and(|run| !run.is_running() && began_before(run));
    is_it && tick.now.since(tick.begun) < LISTED
}

/// Whether each of its containers has ended well, essential or not: whoever runs it starts no other one.
fn has_succeeded(task: &Task) -> bool {
    let by_itself = task.stop_code.as_deref() == Some("EssentialContainerExited");
    by_itself && task.containers.iter().all(|container| container.exit_code == Some(0))
}

impl Site {
    /// Why its lines are not all there, when they are not.
    pub(crate) fn incomplete(&self) -> Option<String> {
        if self.is_forgotten {
            return Some(message::forgotten());
        }
        let unfinished = || self.sources.iter().any(|source| !source.seen(0).is_complete());
        self.missing().or_else(|| {
            unfinished().then(|| "its task had not ended, had not fallen silent, or was not counted".to_owned())
        })
    }

    /// Why lines are missing that will not come any more.
    pub(crate) fn missing(&self) -> Option<String> {
        let lost = self.lost.clone().or_else(|| self.sources.iter().find_map(|source| source.lost.clone()));
        lost.or_else(|| (self.unfollowed > 0).then(|| message::unfollowed(self.unfollowed)))
    }

    /// The ids of the tasks that are followed, in alphabetical order: whoever takes this up after a death says the same.
    pub(crate) fn tasks(&self) -> Vec<&str> {
        let ids: BTreeSet<_> = self.sources.iter().map(|source| source.task.as_str()).collect();
        ids.into_iter().collect()
    }

    /// How many lines of it are in the merged stream.
    pub(crate) fn lines(&self) -> u64 {
        self.sources.iter().map(|source| source.lines).sum()
    }

    /// Follows a task's containers, as many of them as there is room for.
    async fn add(&mut self, tick: &Tick<'_>, task: &Task, definition: &Definition, task_name: &str, room: usize) {
        let id = ecs::id(&task.arn);
        let several = definition.containers.len() > 1;
        let width = definition.containers.iter().map(|one| one.name.len()).max().filter(|_| several);
        let width = width.unwrap_or_default();
        self.label = message::label(&self.name, self.width, "", width);
        self.unfollowed += definition.containers.len().saturating_sub(room);
        for (at, container) in definition.containers.iter().enumerate().take(room) {
            let key = Key::new(id, at);
            let shown = if several { container.name.as_str() } else { "" };
            let label = message::label(&self.name, self.width, shown, width);
            let line = Line { at: task.created.unwrap_or(tick.now), text: message::header(task_name, id, container) };
            self.headers.push(Header { key, label: label.clone(), line });
            let Some(logs) = &container.logs else { continue };
            let place = Place { region: logs.region.clone(), role: self.role.clone() };
            self.sources.push(Source {
                task: id.to_owned(),
                arn: task.arn.clone(),
                key,
                logs: tick.aws.logs(&place).await,
                place,
                group: logs.group.clone(),
                stream: logs.stream(&container.name, id),
                label,
                cursor: None,
                known: Known::default(),
                stopped: None,
                succeeded: false,
                news: tick.now,
                last_read: Time::default(),
                exists: false,
                caught_up: false,
                since: tick.now,
                pending: Vec::new(),
                lines: 0,
                counting: Counting::NOT_BEGUN,
                is_read_again: false,
                reading: Trouble::default(),
                recounting: Trouble::default(),
                lost: None,
            });
        }
    }
}
