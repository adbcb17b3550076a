//! The streams of the tasks' containers, and the release's own stream that they flow into.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use shared::aws::codepipeline::Codepipeline;
use shared::aws::ecs::{Ecs, Half, Of, Task};
use shared::aws::logs::{From, Line, Logs};
use shared::aws::{Place, ecs};
use shared::manifest::{Manifest, in_environment};
use shared::{Error, Tick, Time, Trouble, Verdict, names};

use crate::decide::{self, Position, Runner, State, batches, merge, missing};
use crate::message;

/// How often tasks are searched for that are not known yet, and how often the action beside this one is looked at.
const SEARCH: Duration = Duration::from_millis(1500);

/// How far the clocks of ECS and CodePipeline may differ.
const SKEW: Duration = Duration::from_secs(5);

/// A page with fewer lines than this is most likely all there is: pages end at 10,000 lines or 1 MB (fact 33).
const SMALL_PAGE: usize = 1000;

/// How many pages of one stream are read in one look, so that a flood in one does not silence the others.
const PAGES: usize = 10;

/// What one invocation follows.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) task: String,
    pub(crate) sites: Vec<Site>,
    pub(crate) runner: Runner,
    /// Whether the action beside this one has failed.
    pub(crate) runner_failed: bool,
    /// When the action beside this one began: what had ended before is of an earlier try, and was followed then.
    since: Time,
    searched: Option<Time>,
    /// The tasks that need no second look: followed already, or somebody else's.
    known: HashSet<String>,
    /// Where the release's own stream is; none before it was created.
    merged: Option<Logs>,
    /// Whether the merged stream may have lines that the state does not know of: at the start of an invocation, and
    /// after a call that failed.
    unsure: bool,
    of_runner: Trouble,
    pub(crate) of_merged: Trouble,
}

/// One environment.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) cluster: String,
    role: Option<String>,
    place: Place,
    family: String,
    ecs: Ecs,
    started_by: String,
    pub(crate) sources: Vec<Source>,
    headers: Vec<Header>,
    /// When its cluster was seen for the last time.
    looked: Time,
    looking: Trouble,
    reading: Trouble,
}

/// The line that says that a container is followed, or why not.
#[derive(Debug)]
struct Header {
    /// The container's name in the token: a header whose key has a position has been put.
    key: String,
    line: Line,
}

/// One container's stream.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) container: String,
    pub(crate) task: String,
    arn: String,
    /// Its name in the token.
    key: String,
    logs: Logs,
    group: String,
    stream: String,
    cursor: Option<String>,
    stopped: Option<Time>,
    news: Time,
    read: Time,
    exists: bool,
    /// What was read and is not known to be in the merged stream.
    pending: Vec<Line>,
    pub(crate) lines: u64,
}

impl Tail {
    pub(crate) async fn new(tick: &Tick<'_>, manifest: Manifest, task: &str) -> Result<Self, Error> {
        let described = manifest.task(task)?;
        let mut sites = Vec::new();
        for (name, environment) in manifest.environments_of(described.environments.as_ref()) {
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
                looked: Time::default(),
                looking: Trouble::default(),
                reading: Trouble::default(),
            });
        }
        Ok(Self {
            task: task.to_owned(),
            sites,
            runner: Runner::Running,
            runner_failed: false,
            since: Time::default(),
            searched: None,
            known: HashSet::new(),
            merged: None,
            unsure: true,
            of_runner: Trouble::default(),
            of_merged: Trouble::default(),
        })
    }

    /// How many environments there are.
    pub(crate) fn environments(&self) -> usize {
        self.sites.len()
    }

    /// When every environment was seen for the last time.
    pub(crate) fn looked(&self) -> Time {
        self.sites.iter().map(|site| site.looked).min().unwrap_or_default()
    }

    /// The streams, as `decide` is told of them.
    pub(crate) fn sources(&self) -> Vec<decide::Source> {
        let sources = self.sites.iter().enumerate().flat_map(|(environment, site)| {
            site.sources.iter().map(move |source| decide::Source {
                environment,
                stopped: source.stopped,
                news: source.news,
                read: source.read,
                exists: source.exists,
                waits: !source.pending.is_empty(),
            })
        });
        sources.collect()
    }

    /// Looks for new tasks, for the end of known ones, and for the end of the action that runs them.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        if self.searched.is_some_and(|searched| tick.now.since(searched) < SEARCH) {
            return Ok(());
        }
        self.searched = Some(tick.now);
        // In this order: a task that the action started before it ended is found by the search after it.
        let looked = self.look_for_runner(tick).await;
        self.of_runner.note(tick.now, looked)?;
        let groups = self.groups();
        let seen = join_all(groups.iter().map(|group| self.look_at(group))).await;
        for (group, seen) in groups.iter().zip(seen) {
            let taken = match seen {
                Ok(tasks) => self.take_all(tick, group, tasks).await,
                Err(error) => Err(error),
            };
            // What fails for one cluster does not keep the others from being followed.
            if self.sites[group[0]].looking.note(tick.now, taken)?.is_some() {
                for at in group {
                    self.sites[*at].looked = tick.now;
                }
            }
        }
        Ok(())
    }

    async fn take_all(&mut self, tick: &Tick<'_>, group: &[usize], tasks: Vec<Task>) -> Result<(), Error> {
        for task in tasks {
            let site = group.iter().copied().find(|at| self.sites[*at].started_by == task.started_by);
            if let Some(at) = site {
                self.take(tick, at, &task).await?;
            }
            self.known.insert(task.arn);
        }
        Ok(())
    }

    /// The sites that can be looked at with the same calls: of one place, cluster and family.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let key = |site: &Site| (site.place.clone(), site.cluster.clone(), site.family.clone());
        for (at, site) in self.sites.iter().enumerate() {
            match groups.iter_mut().find(|group| key(&self.sites[group[0]]) == key(site)) {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        groups
    }

    /// The group's tasks that live, and those that are not known yet.
    async fn look_at(&self, group: &[usize]) -> Result<Vec<Task>, Error> {
        let members = || group.iter().map(|at| &self.sites[*at]);
        let Some(first) = members().next() else { return Ok(Vec::new()) };
        let living = |site: &Site| {
            site.sources.iter().filter(|one| one.stopped.is_none()).map(|one| one.arn.clone()).collect::<Vec<_>>()
        };
        let mut arns: Vec<_> = members().flat_map(living).collect();
        // While a site's task lives no other is started there; what stopped before it was seen is listed apart (fact 19).
        if members().any(|site| living(site).is_empty()) {
            let of = Of::Family(&first.family);
            let mut found = first.ecs.list_tasks(&first.cluster, of, Half::Running).await?;
            found.retain(|arn| !self.known.contains(arn));
            if found.is_empty() || self.runner != Runner::Running {
                found.extend(first.ecs.list_tasks(&first.cluster, of, Half::Stopped).await?);
                found.retain(|arn| !self.known.contains(arn));
            }
            arns.extend(found);
        }
        arns.sort();
        arns.dedup();
        first.ecs.describe_tasks(&first.cluster, &arns).await
    }

    /// Takes up a task of the site at this place.
    async fn take(&mut self, tick: &Tick<'_>, at: usize, task: &Task) -> Result<(), Error> {
        let earlier = task.is_over() && task.created.is_some_and(|created| created.plus(SKEW) < self.since);
        let site = &mut self.sites[at];
        if !self.known.contains(&task.arn) && !earlier {
            site.add(tick, task, &self.task).await?;
        }
        if task.is_over() {
            for source in site.sources.iter_mut().filter(|source| source.arn == task.arn) {
                source.stopped.get_or_insert(tick.now);
            }
        }
        Ok(())
    }

    async fn look_for_runner(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        if matches!(self.runner, Runner::Ended(_)) {
            return Ok(());
        }
        let siblings = Codepipeline::new(tick.aws).siblings(tick.release).await?;
        let beside = siblings.iter().find(|sibling| {
            sibling.task.as_deref() == Some(&self.task)
                && tick.release.stage.as_deref().is_none_or(|stage| sibling.stage == stage)
                && tick.release.action.as_deref() != Some(&sibling.action)
        });
        self.runner_failed = beside.is_some_and(|sibling| sibling.failed);
        self.since = beside.and_then(|sibling| sibling.started).unwrap_or_default();
        self.runner = match beside {
            Some(sibling) if sibling.running => Runner::Running,
            Some(_) => Runner::Ended(tick.now),
            None => Runner::None,
        };
        Ok(())
    }

    /// Reads what is new, and appends it to the release's stream. What was read and could not be appended waits for the
    /// next look; what could not be read does not keep the rest from being appended.
    pub(crate) async fn forward(&mut self, tick: &Tick<'_>, state: &mut State) -> Result<(), Error> {
        let width = self.sites.iter().map(|site| site.name.len()).max().unwrap_or_default();
        // All at once: a slow Region does not silence the others.
        let read = join_all(self.sites.iter_mut().map(|site| site.read(tick, &state.positions))).await;
        let mut streams = Vec::new();
        for site in &self.sites {
            let new = site.headers.iter().filter(|header| !state.positions.contains_key(&header.key));
            let headers: Vec<_> = new.map(|header| header.line.clone()).collect();
            streams.push((message::prefix(&site.name, width, None), headers));
            let several = site.sources.iter().any(|one| one.container != site.sources[0].container);
            for source in &site.sources {
                let container = several.then_some(source.container.as_str());
                streams.push((message::prefix(&site.name, width, container), source.pending.clone()));
            }
        }
        let put = self.put(tick, state, merge(streams, state.floor)).await;
        let is_put = self.of_merged.note(tick.now, put)?.is_some();
        for (site, read) in self.sites.iter_mut().zip(read) {
            site.reading.note(tick.now, read)?;
        }
        if !is_put {
            return Ok(());
        }
        for header in self.sites.iter().flat_map(|site| &site.headers) {
            state.positions.entry(header.key.clone()).or_default();
        }
        for source in self.sites.iter_mut().flat_map(|site| &mut site.sources) {
            let position = state.positions.entry(source.key.clone()).or_default();
            position.advance(&source.pending);
            source.pending.clear();
            source.lines = position.lines;
        }
        Ok(())
    }

    async fn put(&mut self, tick: &Tick<'_>, state: &mut State, mut lines: Vec<Line>) -> Result<(), Error> {
        let Some(group) = &tick.aws.settings().log_group else {
            return Err(Verdict::misconfigured("The function has no CUTOVER_LOG_GROUP").into());
        };
        let stream = names::log_stream(tick.release);
        let logs = match &self.merged {
            Some(logs) => logs,
            None => {
                let logs = tick.aws.logs(&tick.aws.here()).await;
                logs.create_stream(group, &stream).await?;
                self.merged.insert(logs)
            }
        };
        if lines.is_empty() {
            return Ok(());
        }
        if self.unsure {
            let found = logs.lines_since(group, &stream, state.floor).await?;
            let all = lines.clone();
            lines = missing(state, lines, found);
            if lines.is_empty() {
                state.put(&all);
            }
        }
        // Until all of them are known to be there.
        self.unsure = true;
        for batch in batches(&lines) {
            logs.put(group, &stream, batch).await?;
        }
        state.put(&lines);
        self.unsure = false;
        Ok(())
    }

    /// The last lines: what came from where, or what is missing.
    ///
    /// # Errors
    /// When they could not be put: then nothing was closed.
    pub(crate) async fn close(&mut self, tick: &Tick<'_>, state: &mut State) -> Result<(), Error> {
        let width = self.sites.iter().map(|site| site.name.len()).max().unwrap_or_default();
        let at = tick.now.max(state.floor);
        let lines = self.sites.iter().map(|site| Line {
            at,
            text: format!("{}{}", message::prefix(&site.name, width, None), message::closing(&self.task, site)),
        });
        let lines = lines.collect();
        self.put(tick, state, lines).await
    }
}

impl Site {
    /// Reads what is new in each of its streams.
    async fn read(&mut self, tick: &Tick<'_>, known: &BTreeMap<String, Position>) -> Result<(), Error> {
        let read = join_all(self.sources.iter_mut().map(async |source| {
            let position = known.get(&source.key).copied().unwrap_or_default();
            source.read(tick, position).await
        }));
        read.await.into_iter().collect()
    }

    async fn add(&mut self, tick: &Tick<'_>, task: &Task, task_name: &str) -> Result<(), Error> {
        let definition = self.ecs.definition(&task.definition).await?;
        let id = ecs::id(&task.arn);
        for (at, container) in definition.containers.iter().enumerate() {
            let key = format!("{}{at}", &id[..id.len().min(6)]);
            let header = message::header(task_name, id, container);
            self.headers
                .push(Header { key: key.clone(), line: Line { at: task.created.unwrap_or(tick.now), text: header } });
            let Some(source) = &container.logs else { continue };
            let place = Place { region: source.region.clone(), role: self.role.clone() };
            self.sources.push(Source {
                container: container.name.clone(),
                task: id.to_owned(),
                arn: task.arn.clone(),
                key,
                logs: tick.aws.logs(&place).await,
                group: source.group.clone(),
                stream: source.stream(&container.name, id),
                cursor: None,
                stopped: None,
                news: tick.now,
                read: Time::default(),
                exists: false,
                pending: Vec::new(),
                lines: 0,
            });
        }
        Ok(())
    }
}

impl Source {
    /// Reads what is new, from `position` on when this invocation has no cursor yet.
    async fn read(&mut self, tick: &Tick<'_>, position: Position) -> Result<(), Error> {
        for _ in 0..PAGES {
            let from = match &self.cursor {
                Some(cursor) => From::Cursor(cursor.clone()),
                None if position.lines == 0 => From::Head,
                None => From::Moment(position.at),
            };
            let page = self.logs.page(&self.group, &self.stream, &from).await?;
            self.read = tick.now;
            let Some(page) = page else { break };
            self.exists = true;
            // The same cursor again is the end; an empty page with another one is not, and counts as news (fact 33).
            if self.cursor.as_ref() == Some(&page.cursor) {
                break;
            }
            self.news = tick.now;
            let is_small = page.lines.len() < SMALL_PAGE;
            let new = if self.cursor.is_none() { position.skip(page.lines) } else { page.lines };
            self.pending.extend(new);
            self.cursor = Some(page.cursor);
            // Whether there is more after a small page is for the next look: one call for each stream and look.
            if is_small {
                break;
            }
        }
        Ok(())
    }
}
