//! What a release has left in its environments, and taking it back.
//!
//! Invariant: only what carries this release's own name is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use shared::artifact::Content;
use shared::aws::Place;
use shared::aws::codepipeline::Sibling;
use shared::aws::ecs::{Ecs, Half, Of, Task};
use shared::end::{End, judge_main};
use shared::job::Release;
use shared::manifest::{ServiceKind, in_environment};
use shared::targets::quick::{self, Quick};
use shared::targets::{self, Act, Kind, Moment, Phase, Purpose, Site, Target, Whose};
use shared::workers::Pointers;
use shared::{Aws, Error, Time, Verdict, names};

use crate::decide::{self, Came, Deployed, is_of_this_try};
use crate::event::Carried;
use crate::message;
use crate::over::Over;
use crate::watch::{Looked, Watch};

/// What is known of a release's leftovers.
#[derive(Debug)]
pub(crate) struct Sweep {
    families: Vec<Family>,
    targets: Vec<Target>,
    /// When nothing was seen under way at each target last.
    clear: Vec<Option<Time>>,
    /// What was released of workers.
    workers: Watch,
    /// Whether it was written back once by this invocation, and is written back once more when nothing is on its way.
    workers_wait: bool,
    /// The quick way back, where the release may have begun one, and since when it is looked at.
    quick: Option<(Quick, Watch, Time)>,
    web: Web,
    /// What was released, that of the newest action first; each with how many of the targets are of it.
    contents: Vec<(Content, usize)>,
    /// That a manifest cannot be read: what was begun with it cannot be seen.
    unread: Option<Verdict>,
    /// The manifests' tasks, each with its environments.
    tasks: Vec<(String, Vec<String>)>,
    /// What was asked to end, and when.
    asked: BTreeMap<String, Time>,
    /// The targets whose end was asked for, by their places, with whether what became of them was said.
    followed: BTreeMap<usize, bool>,
    /// What cannot be taken back.
    pub(crate) stuck: BTreeMap<String, String>,
    pub(crate) stopped: Vec<String>,
}

/// What is done with the web services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Web {
    /// What the release has begun there is taken back, as everywhere.
    Swept,
    /// Whether they are on the quick way back was not seen at this look: nothing is done there.
    Unknown,
    /// They are, and are brought to its end.
    LeftToTheQuickWay,
}

/// Where tasks of the release may run: one list for all of a cluster's tasks of a family.
#[derive(Debug)]
struct Family {
    ecs: Ecs,
    cluster: String,
    family: String,
    watch: Watch,
    /// Its tasks that need no other look: over, or somebody else's.
    settled: BTreeSet<String>,
}

impl Sweep {
    pub(crate) async fn new(aws: &Aws, contents: Vec<Content>, unread: Option<Verdict>, carried: &Carried) -> Self {
        let mut families: Vec<Family> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut tasks: Vec<(String, Vec<String>)> = Vec::new();
        let all = contents.iter().map(|content| &content.manifest);
        for (manifest, (task_name, task)) in all.flat_map(|one| one.tasks.iter().map(move |task| (one, task))) {
            let environments = manifest.environments_of(task.environments.as_ref());
            let names = environments.iter().map(|(name, _)| (*name).to_owned());
            match tasks.iter_mut().find(|(known, _)| known == task_name) {
                Some((_, known)) => known.extend(names.filter(|name| !known.contains(name)).collect::<Vec<_>>()),
                None => tasks.push((task_name.clone(), names.collect())),
            }
            for (name, environment) in environments {
                let place = Place::from(environment);
                let family = in_environment(&task.family, name);
                if seen.insert((place.clone(), environment.cluster.clone(), family.clone())) {
                    let (ecs, cluster) = (aws.ecs(&place).await, environment.cluster.clone());
                    let (watch, settled) = (Watch::default(), BTreeSet::new());
                    families.push(Family { ecs, cluster, family, watch, settled });
                }
            }
        }
        let (mut targets, mut each) = (Vec::<Target>::new(), Vec::new());
        for content in contents {
            let (manifest, before) = (&content.manifest, targets.len());
            for (name, service) in &manifest.services {
                for environment in manifest.environments_of(service.environments.as_ref()) {
                    let site = Site::new(aws, environment, (name, service)).await;
                    let place = |site: &Site| {
                        (site.name(), site.place.clone(), site.cluster().to_owned(), site.ecs_service.clone())
                    };
                    // One that two manifests name alike is one; what CodeDeploy was asked for is found by its name.
                    if !targets.iter().any(|known| place(&known.site) == place(&site)) {
                        targets.push(Target::new(site, 0));
                    }
                }
            }
            let own = targets.len() - before;
            each.push((content, own));
        }
        Self {
            families,
            clear: vec![None; targets.len()],
            followed: (0..targets.len())
                .filter(|at| carried.followed.contains(&targets[*at].name()))
                .map(|at| (at, false))
                .collect(),
            targets,
            workers: Watch::default(),
            workers_wait: false,
            quick: None,
            web: Web::Swept,
            contents: each,
            unread,
            tasks,
            asked: carried.asked.clone(),
            stuck: BTreeMap::new(),
            stopped: carried.stopped.clone(),
        }
    }

    /// What the next invocation cannot see again.
    pub(crate) fn carry(&self, carried: &mut Carried) {
        carried.asked.clone_from(&self.asked);
        carried.stopped.clone_from(&self.stopped);
        let unsaid = self.followed.iter().filter(|(_, is_said)| !**is_said);
        carried.followed = unsaid.map(|(at, _)| self.targets[*at].name()).collect();
    }

    /// Looks at everything once, stops what runs, and says what it did; whether anything was seen under way. What could not be
    /// looked at or stopped is the next time.
    ///
    /// `seen` is when the release was seen to be over.
    pub(crate) async fn look(
        &mut self,
        aws: &Aws,
        over: &Over<'_>,
        release: &Release,
        deployed: Deployed,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Looked {
        let mut looked = self.look_at_tasks(over, release, seen, said).await;
        looked.note(self.look_at_workers(aws, over, release, &deployed, seen, said).await);
        looked.note(self.look_at_the_quick_way(aws, over, release, &deployed, seen, said).await);
        let mut looked = looked.and(self.look_at_targets(aws, over, release, deployed, seen, said).await);
        looked.note(self.unread.clone().map_or(Ok(false), Err));
        looked
    }

    /// Writes back what the release has written down of workers, unless it is a fact; whether any of it is of a try that may go on.
    ///
    /// Safe to repeat: see [`Pointers::restore`].
    async fn look_at_workers(
        &mut self,
        aws: &Aws,
        over: &Over<'_>,
        release: &Release,
        deployed: &Deployed,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Result<bool, Verdict> {
        let pointers = Pointers::new(aws).filter(|_| deployed.since.is_some() && !deployed.has_succeeded);
        let looked = match &pointers {
            Some(pointers) => bring_back(pointers, over, release, (seen, self.workers_wait)).await,
            None => Ok(Pointed::Clear),
        };
        match looked {
            // Nothing runs; and it is not clear before it was seen that nothing of the release is written there.
            Ok(Pointed::Waits) => self.workers_wait = true,
            Ok(Pointed::Back) => said.push(message::workers_are_back()),
            Ok(Pointed::Clear) => return self.workers.note(seen, Ok(false)),
            Ok(Pointed::Stands) => return self.workers.note(seen, Ok(true)),
            Err(error) => return self.workers.note(seen, Err(error)),
        }
        Ok(false)
    }

    /// Brings a quick way back that was begun to its end: half of it would be traffic on two versions. One that was not begun is not.
    ///
    /// Safe to repeat: see [`Quick::act`].
    async fn look_at_the_quick_way(
        &mut self,
        aws: &Aws,
        over: &Over<'_>,
        release: &Release,
        deployed: &Deployed,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Result<bool, Verdict> {
        self.web = Web::Swept;
        let runs = deployed.runs.clone().filter(|_| !deployed.has_succeeded);
        let Some((runs, begun)) = runs.zip(deployed.since) else {
            self.quick = None;
            return Ok(false);
        };
        self.web = Web::Unknown;
        if self.quick.is_none() {
            // The pipeline that goes back has one.
            let Some((content, _)) = self.contents.first() else { return Ok(false) };
            let quick = Quick::new(aws, runs, &content.manifest, content.image.clone(), begun).await;
            self.quick = Some((quick, Watch::default(), seen));
        }
        let Some((quick, watch, since)) = &mut self.quick else { return Ok(false) };
        let looked = look_at(quick, aws, release, (*since, seen)).await;
        self.web = match &looked {
            Ok(Some(quick::Decision::Look)) | Err(_) => Web::Unknown,
            Ok(Some(_)) => Web::LeftToTheQuickWay,
            Ok(None) => Web::Swept,
        };
        let looked = match looked {
            // What was not seen at this look is not known to be left alone.
            Ok(Some(quick::Decision::Look)) => Ok(true),
            Ok(Some(quick::Decision::Go(acts))) => {
                if !acts.is_empty() && over.still(seen).await? {
                    said.push(message::goes_on_quickly());
                    quick.act(&acts, seen, &async |_| Ok(over.still(seen).await?)).await;
                }
                Ok(true)
            }
            Ok(Some(quick::Decision::Stuck(stuck))) => {
                self.stuck.extend(stuck.into_iter().map(|one| (one.name, one.what)));
                Ok(false)
            }
            Ok(None | Some(quick::Decision::Back | quick::Decision::Closed(_))) => Ok(false),
            Err(error) => Err(error),
        };
        watch.note(seen, looked)
    }

    /// Whether each list was seen, at this moment or later, to have nothing under way.
    pub(crate) fn is_clear_since(&self, moment: Time) -> bool {
        let families = self.families.iter().map(|family| family.watch.clear);
        let watched = families.chain(self.clear.iter().copied()).chain([self.workers.clear]);
        let mut watched = watched.chain(self.quick.iter().map(|(_, watch, _)| watch.clear));
        watched.all(|clear| clear.is_some_and(|clear| clear >= moment))
    }

    /// What has not come back, as was seen last, with why: what cannot be brought back, and what is on its way still, after so long.
    pub(crate) fn not_back(&self, now: Time, after: Duration) -> BTreeMap<String, String> {
        let moment = Moment::new(now, Purpose::Sweep);
        let is_left = self.web == Web::LeftToTheQuickWay;
        let swept = self.targets.iter().filter(|target| !(is_left && target.site.service.kind == ServiceKind::Web));
        let quick = self.quick.iter().filter(|_| is_left).flat_map(|(quick, ..)| &quick.targets);
        let on_their_way = swept.chain(quick).filter(|target| {
            let is_back = matches!(
                target.phase(&moment),
                Phase::RolledBack | Phase::Failed { .. } | Phase::Same | Phase::Empty | Phase::Busy { .. }
            );
            target.deployment().is_some() && !is_back
        });
        let mut left = self.stuck.clone();
        for target in on_their_way {
            let why = target.broken().unwrap_or_else(|| message::not_back(after));
            left.entry(target.name()).or_insert(why);
        }
        left
    }

    /// How far each task of the manifest came that the release has begun, in each of its environments: what a person who
    /// stopped it asks first. Each by name: those that did it, those that were stopped or failed, those that had not begun.
    ///
    /// # Errors
    /// The calls'.
    pub(crate) async fn outcomes(&self, release: &Release, actions: &[Sibling]) -> Result<Vec<String>, Error> {
        let found = join_all(self.families.iter().map(async |family| {
            let arns = family.ecs.list_tasks(&family.cluster, Of::Family(&family.family), Half::Stopped).await?;
            let mut tasks = family.ecs.describe_tasks(&family.cluster, &arns).await?;
            tasks.retain(|task| is_of(task, release));
            let mut definitions = BTreeMap::new();
            for arn in tasks.iter().map(|task| task.definition.clone()).collect::<BTreeSet<_>>() {
                // Of one that cannot be read, each container counts as essential: nothing is called done that may not be.
                definitions.insert(arn.clone(), family.ecs.definition(&arn).await.unwrap_or_default());
            }
            Ok::<_, Error>((tasks, definitions))
        }))
        .await;
        let mut ends = decide::done(actions);
        let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        let each = found.iter().flat_map(|(tasks, definitions)| tasks.iter().map(move |task| (task, definitions)));
        for (task, definitions) in each {
            let Some(whose) = names::read_started_by(&task.started_by) else { continue };
            let definition = definitions.get(&task.definition).cloned().unwrap_or_default();
            let described = self.contents.iter().find_map(|(content, _)| content.manifest.tasks.get(whose.task));
            let main = described.and_then(|task| task.container.as_deref());
            let came = match judge_main(task, &definition, main) {
                End::Succeeded => Came::ToItsEnd,
                End::Stopped if has_ended_well(task) => Came::ToAnEnd,
                End::Stopped | End::Failed { .. } => Came::Nowhere,
            };
            let known = ends.entry((whose.task.to_owned(), whose.environment.to_owned())).or_default();
            *known = came.max(*known);
        }
        Ok(self.tasks.iter().filter_map(|(task, environments)| message::outcome(task, environments, &ends)).collect())
    }

    fn is_due(&self, id: &str, now: Time) -> bool {
        self.asked.get(id).is_none_or(|asked| now.since(*asked) >= decide::AGAIN)
    }

    async fn look_at_tasks(
        &mut self,
        over: &Over<'_>,
        release: &Release,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Looked {
        let found = join_all(self.families.iter().map(async |family| {
            let of = Of::Family(&family.family);
            let mut arns = family.ecs.list_tasks(&family.cluster, of, Half::Running).await?;
            // One that was asked to end, by whomever, is listed there at once, and runs until SIGKILL (facts 19, 22).
            arns.extend(family.ecs.list_tasks(&family.cluster, of, Half::Stopped).await?);
            arns.retain(|arn| !family.settled.contains(arn));
            family.ecs.describe_tasks(&family.cluster, &arns).await
        }))
        .await;
        let mut all = Looked::default();
        for (at, found) in found.into_iter().enumerate() {
            let looked = match found {
                Err(error) => Err(error),
                Ok(tasks) => {
                    let settled = tasks.iter().filter(|task| task.is_over() || !is_of(task, release));
                    self.families[at].settled.extend(settled.map(|task| task.arn.clone()));
                    let own = |task: &Task| is_of(task, release) && is_of_this_try(task.created, seen);
                    let left = tasks.iter().filter(|task| !task.is_over() && own(task));
                    let mut looked = Ok(false);
                    for task in left {
                        all.under_way = true;
                        let stopped = self.stop_task(over, at, task, seen, said).await;
                        looked = looked.and(stopped.map(|()| true));
                    }
                    looked
                }
            };
            all.note(self.families[at].watch.note(seen, looked));
        }
        all
    }

    /// Safe to repeat: see the call.
    async fn stop_task(
        &mut self,
        over: &Over<'_>,
        at: usize,
        task: &Task,
        now: Time,
        said: &mut Vec<String>,
    ) -> Result<(), Error> {
        // One that ends already is waited for.
        if task.desired_status == "STOPPED" || !self.is_due(&task.arn, now) || !over.still(now).await? {
            return Ok(());
        }
        let family = &self.families[at];
        family.ecs.stop_task(&family.cluster, &task.arn, "Cutover: the release was stopped").await?;
        if self.asked.insert(task.arn.clone(), now).is_none() {
            self.stopped.push(message::task(task));
            said.push(message::stopped_task(task));
        }
        Ok(())
    }

    /// Looks at every target, and takes back what is there, whichever function began it, also what has ended by itself.
    async fn look_at_targets(
        &mut self,
        aws: &Aws,
        over: &Over<'_>,
        release: &Release,
        deployed: Deployed,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Looked {
        let Some(since) = deployed.since else {
            self.clear.fill(Some(seen));
            return Looked::default();
        };
        let (facts, facts_until) = (deployed.facts, deployed.facts_until);
        let of = targets::Of::Release { facts, facts_until, until: Some(seen), ended: deployed.ended };
        let moment = Moment::new(seen, Purpose::Sweep);
        let mut whose = Vec::new();
        for (content, own) in &self.contents {
            let its = Whose { release: release.clone(), of: of.clone(), since, image: content.image.clone() };
            targets::look(&mut self.targets[whose.len()..][..*own], aws, &moment, &its).await;
            whose.extend(std::iter::repeat_n(its, *own));
        }
        let mut all = Looked::default();
        for (at, whose) in whose.iter().enumerate() {
            let is_web = self.targets[at].site.service.kind == ServiceKind::Web;
            match self.web {
                // What brings it back deploys the release's image, too: it is not taken back, and watched there.
                Web::LeftToTheQuickWay if is_web => {
                    self.clear[at] = Some(seen);
                    continue;
                }
                Web::Unknown if is_web => continue,
                Web::LeftToTheQuickWay | Web::Unknown | Web::Swept => {}
            }
            let looked = self.take_back(over, at, &moment, whose, said).await;
            match &looked {
                Ok(false) if self.targets[at].listed == Some(seen) => self.clear[at] = Some(seen),
                // Nothing of the release can be there.
                Ok(false) if matches!(self.targets[at].kind, Kind::Absent) => self.clear[at] = Some(seen),
                // What was not seen at this look is not known to be clear.
                Ok(_) | Err(_) => {}
            }
            all.note(looked);
        }
        all
    }

    /// Does what takes a target back, and says it once; whether anything is under way there.
    ///
    /// Safe to repeat: see the acts.
    async fn take_back(
        &mut self,
        over: &Over<'_>,
        at: usize,
        moment: &Moment,
        whose: &Whose,
        said: &mut Vec<String>,
    ) -> Result<bool, Verdict> {
        let target = &mut self.targets[at];
        let name = target.name();
        let is_stranded = matches!(target.phase(moment), Phase::Done | Phase::Stranded { .. });
        if is_stranded && target.before.is_none() {
            let id = target.deployment().unwrap_or_default();
            self.stuck.insert(name, message::too_late(id));
            return Ok(false);
        }
        let Some(acts) = targets::take_back(&[target.observed(moment)], moment.now) else {
            if let Phase::Stuck { what } = target.phase(moment) {
                self.stuck.insert(name, what);
            }
            return failed(target).map_or(Ok(false), Err);
        };
        for act in &acts {
            if !over.still(moment.now).await? {
                return Ok(true);
            }
            let may = async |_: &Act| Ok(over.still(moment.now).await?);
            let (id, before) = (target.deployment().unwrap_or_default().to_owned(), target.before.clone());
            target.act(act, moment, whose, &may).await;
            if let Some(by) = &target.overtaken {
                said.push(message::overtaken(&name, by));
                self.followed.insert(at, true);
                // Nothing of the release is there: a function with little time would begin to wait anew, and so would the next one.
                return failed(target).map_or(Ok(false), Err);
            }
            let first = matches!(act, Act::Stop { .. } | Act::Back { .. }) && target.has_asked(moment);
            if first && self.followed.insert(at, false).is_none() {
                let (what, line) = match act {
                    Act::Back { .. } => {
                        (message::ended_deployment(&name), message::brings_back(&name, &id, before.as_deref()))
                    }
                    _ => (message::deployment(&name), message::stopped_deployment(&name, &id)),
                };
                self.stopped.push(what);
                said.push(line);
            }
        }
        failed(target).map_or(Ok(true), Err)
    }

    /// Once nothing is under way any more: what became of each deployment that was taken back, each said once.
    pub(crate) fn settle(&mut self, now: Time, said: &mut Vec<String>) {
        let moment = Moment::new(now, Purpose::Sweep);
        for (at, is_said) in &mut self.followed {
            let target = &self.targets[*at];
            if !*is_said && !self.stuck.contains_key(&target.name()) {
                said.push(match (&target.overtaken, target.phase(&moment)) {
                    (Some(by), _) => message::overtaken(&target.name(), by),
                    (None, Phase::RolledBack) if target.has_way_back() => message::brought_back(&target.name()),
                    (None, _) => message::rolled_back(&target.name()),
                });
            }
            *is_said = true;
        }
    }
}

/// How the quick way stands that the release goes, looked at since then; `None` where it has not begun it, and somebody else has stopped what
/// goes back.
async fn look_at(
    quick: &mut Quick,
    aws: &Aws,
    release: &Release,
    (since, seen): (Time, Time),
) -> Result<Option<quick::Decision>, Error> {
    if !quick::mark::is_there(aws, &release.execution).await? {
        return Ok(None);
    }
    // What stands where, and for which image, is looked at each time: it may have died before its first stop.
    let decision = quick.look(aws, seen, None, seen.since(since)).await?;
    if quick.is_begun(seen) {
        return Ok(Some(quick.go_on(seen, since)));
    }
    Ok(Some(decision).filter(|decision| *decision == quick::Decision::Look))
}

/// What was written down of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pointed {
    /// Nothing that the release has written.
    Clear,
    /// What it had written was written back.
    Back,
    /// The same but for what tells that something was: something may still be on its way.
    Waits,
    /// What it has written stands: it may be of a try that goes on.
    Stands,
}

/// Writes back what the release has written down, if there is any; once at first, and once more when nothing is on its way any more.
async fn bring_back(
    pointers: &Pointers<'_>,
    over: &Over<'_>,
    release: &Release,
    (now, waits): (Time, bool),
) -> Result<Pointed, Error> {
    let known = pointers.read().await?;
    if !known.has_any_of(release) {
        return Ok(Pointed::Clear);
    }
    let settled = over.has_settled(now);
    if waits && !settled {
        return Ok(Pointed::Waits);
    }
    if !over.still(now).await? {
        return Ok(Pointed::Stands);
    }
    let is_back = pointers.restore(&known, release, settled, &async || Ok(over.still(now).await?)).await?;
    Ok(match is_back {
        true if settled => Pointed::Back,
        true => Pointed::Waits,
        false => Pointed::Stands,
    })
}

/// Why a target cannot be looked at, or taken back.
fn failed(target: &Target) -> Option<Verdict> {
    let why = target.failed.as_ref().filter(|_| !matches!(target.kind, Kind::Absent))?;
    Some(Verdict { kind: why.kind, message: format!("{}: {}", target.name(), why.message) })
}

fn has_ended_well(task: &Task) -> bool {
    !task.containers.is_empty() && task.containers.iter().all(|container| container.exit_code == Some(0))
}

fn is_of(task: &Task, release: &Release) -> bool {
    names::read_started_by(&task.started_by).is_some_and(|whose| whose.execution == release.execution)
}
