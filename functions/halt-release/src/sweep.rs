//! What a release has left in its environments, and taking it back.
//!
//! Invariant: only what carries this release's own name is touched.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use shared::aws::Place;
use shared::aws::codedeploy::{Codedeploy, Deployment, Listed};
use shared::aws::ecs::{Definition, Ecs, Half, Of, Task};
use shared::end::{End, judge};
use shared::job::Release;
use shared::manifest::{Manifest, in_environment};
use shared::{Aws, Error, Time, Trouble, Verdict, names};

use crate::decide::{self, is_of_this_try};
use crate::message;

/// What is known of a release's leftovers.
#[derive(Debug)]
pub(crate) struct Sweep {
    families: Vec<Family>,
    groups: Vec<Group>,
    /// The manifest's tasks, each with its environments.
    tasks: Vec<(String, Vec<String>)>,
    /// When the release began.
    since: Time,
    /// What was asked to end, and when.
    asked: BTreeMap<String, Time>,
    /// The rollbacks that are followed.
    rollbacks: BTreeMap<String, usize>,
    /// What cannot be taken back by stopping it.
    pub(crate) stuck: BTreeMap<String, String>,
    pub(crate) stopped: Vec<String>,
}

/// Where tasks of the release may run: one list for all of a cluster's tasks of a family.
#[derive(Debug)]
struct Family {
    ecs: Ecs,
    cluster: String,
    family: String,
    watch: Watch,
}

/// What is known of one list. Each fails alone: while half of all calls are throttled, a look at which none fails hardly comes.
#[derive(Debug, Default)]
struct Watch {
    /// When it was seen last that nothing of the release is under way there.
    clear: Option<Time>,
    trouble: Trouble,
}

impl Watch {
    /// Notes a look, with what was done; whether anything is under way there, as far as was seen.
    fn note(&mut self, now: Time, looked: Result<bool, Error>) -> Result<bool, Verdict> {
        let seen = self.trouble.note(now, looked)?;
        if seen == Some(false) {
            self.clear = Some(now);
        }
        Ok(seen == Some(true))
    }
}

/// Where a deployment of the release may be under way.
#[derive(Debug)]
struct Group {
    name: String,
    codedeploy: Codedeploy,
    cluster: String,
    service: String,
    application: String,
    group: String,
    own: String,
    watch: Watch,
}

impl Sweep {
    pub(crate) async fn new(aws: &Aws, release: &Release, manifest: &Manifest, since: Time) -> Self {
        let mut families: Vec<Family> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut tasks = Vec::new();
        for (task_name, task) in &manifest.tasks {
            let environments = manifest.environments_of(task.environments.as_ref());
            tasks.push((task_name.clone(), environments.iter().map(|(name, _)| (*name).to_owned()).collect()));
            for (name, environment) in manifest.environments_of(task.environments.as_ref()) {
                let place = Place::from(environment);
                let family = in_environment(&task.family, name);
                if seen.insert((place.clone(), environment.cluster.clone(), family.clone())) {
                    let (ecs, cluster) = (aws.ecs(&place).await, environment.cluster.clone());
                    families.push(Family { ecs, cluster, family, watch: Watch::default() });
                }
            }
        }
        let mut groups = Vec::new();
        for (service_name, service) in &manifest.services {
            let Some(codedeploy) = service.codedeploy() else { continue };
            for (name, environment) in manifest.environments_of(service.environments.as_ref()) {
                groups.push(Group {
                    name: format!("{name}/{service_name}"),
                    codedeploy: aws.codedeploy(&Place::from(environment)).await,
                    cluster: environment.cluster.clone(),
                    service: in_environment(&service.service, name),
                    application: in_environment(codedeploy.application, name),
                    group: in_environment(codedeploy.group, name),
                    own: format!("{} {name}/{service_name} ", names::description_prefix(release)),
                    watch: Watch::default(),
                });
            }
        }
        let (asked, rollbacks, stuck) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { families, groups, tasks, since, asked, rollbacks, stuck, stopped: Vec::new() }
    }

    /// Looks at everything once, stops what runs, and says what it did; whether anything was seen under way. What could not be
    /// looked at or stopped is the next time.
    ///
    /// `seen` is when the release was seen to be over; `facts` are deployments that are left alone.
    ///
    /// # Errors
    /// What could not be looked at or stopped for too long: the rest was, all the same.
    pub(crate) async fn look(
        &mut self,
        release: &Release,
        facts: &BTreeSet<String>,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Result<bool, Verdict> {
        let tasks = self.look_at_tasks(release, seen, said).await;
        let deployments = self.look_at_deployments(facts, seen, said).await;
        Ok(tasks? | deployments?)
    }

    /// Whether each list was seen, at this moment or later, to have nothing under way.
    pub(crate) fn is_clear_since(&self, moment: Time) -> bool {
        let families = self.families.iter().map(|family| &family.watch);
        let mut watched = families.chain(self.groups.iter().map(|group| &group.watch));
        watched.all(|watch| watch.clear.is_some_and(|clear| clear >= moment))
    }

    /// How far each task of the manifest came that the release has begun, in each of its environments: what a person who
    /// stopped it asks first. Each by name: those that did it, those that were stopped or failed, those that had not begun.
    ///
    /// # Errors
    /// The calls'.
    pub(crate) async fn outcomes(&self, release: &Release) -> Result<Vec<String>, Error> {
        let found = join_all(self.families.iter().map(async |family| {
            let arns = family.ecs.list_tasks(&family.cluster, Of::Family(&family.family), Half::Stopped).await?;
            family.ecs.describe_tasks(&family.cluster, &arns).await
        }))
        .await;
        let mut ends: BTreeMap<(String, String), bool> = BTreeMap::new();
        for task in found.into_iter().collect::<Result<Vec<_>, _>>()?.iter().flatten() {
            let Some(whose) = names::read_started_by(&task.started_by).filter(|_| is_of(task, release)) else {
                continue;
            };
            // A container that is not known to be another counts as essential: nothing is called done that may not be.
            let done = judge(task, &Definition::default()) == End::Succeeded;
            *ends.entry((whose.task.to_owned(), whose.environment.to_owned())).or_default() |= done;
        }
        Ok(self.tasks.iter().filter_map(|(task, environments)| message::outcome(task, environments, &ends)).collect())
    }

    fn is_due(&self, id: &str, now: Time) -> bool {
        self.asked.get(id).is_none_or(|asked| now.since(*asked) >= decide::AGAIN)
    }

    async fn look_at_tasks(&mut self, release: &Release, seen: Time, said: &mut Vec<String>) -> Result<bool, Verdict> {
        let found = join_all(self.families.iter().map(async |family| {
            let arns = family.ecs.list_tasks(&family.cluster, Of::Family(&family.family), Half::Running).await?;
            family.ecs.describe_tasks(&family.cluster, &arns).await
        }))
        .await;
        let mut outcome = Ok(());
        let mut under_way = false;
        for (at, found) in found.into_iter().enumerate() {
            let looked = match found {
                Err(error) => Err(error),
                Ok(tasks) => {
                    let own = |task: &Task| is_of(task, release) && is_of_this_try(task.created, seen);
                    let left = tasks.iter().filter(|task| !task.is_over() && own(task));
                    let mut looked = Ok(false);
                    for task in left {
                        under_way = true;
                        let stopped = self.stop_task(at, task, seen, said).await;
                        looked = looked.and(stopped.map(|()| true));
                    }
                    looked
                }
            };
            match self.families[at].watch.note(seen, looked) {
                Ok(seen) => under_way |= seen,
                Err(verdict) => outcome = Err(verdict),
            }
        }
        outcome.map(|()| under_way)
    }

    /// Safe to repeat: see the call.
    async fn stop_task(&mut self, at: usize, task: &Task, now: Time, said: &mut Vec<String>) -> Result<(), Error> {
        if !self.is_due(&task.arn, now) {
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

    async fn look_at_deployments(
        &mut self,
        facts: &BTreeSet<String>,
        seen: Time,
        said: &mut Vec<String>,
    ) -> Result<bool, Verdict> {
        let since = self.since;
        let found = join_all(self.groups.iter().map(async |group| {
            let ids = group.codedeploy.list(&group.application, &group.group, Listed::Since(since)).await?;
            group.codedeploy.batch(&ids).await
        }))
        .await;
        let mut outcome = Ok(());
        let mut under_way = false;
        for (at, found) in found.into_iter().enumerate() {
            let looked = match found {
                Err(error) => Err(error),
                Ok(found) => {
                    let looked = self.look_at_group(at, &found, (facts, seen), said).await;
                    // What could not be stopped, or asked for its end, is under way.
                    under_way |= looked != Ok(false);
                    looked
                }
            };
            match self.groups[at].watch.note(seen, looked) {
                Ok(seen) => under_way |= seen,
                Err(verdict) => outcome = Err(verdict),
            }
        }
        outcome.map(|()| under_way)
    }

    /// One group's deployments; whether any of the release is under way.
    async fn look_at_group(
        &mut self,
        at: usize,
        found: &[Deployment],
        (facts, seen): (&BTreeSet<String>, Time),
        said: &mut Vec<String>,
    ) -> Result<bool, Error> {
        let own = self.groups[at].own.clone();
        let backs = found.iter().filter(|one| names::is_back(&one.description, &own));
        let back = backs.max_by_key(|one| one.created).cloned();
        let mut looked = Ok(false);
        let mut under_way = false;
        for deployment in found.iter().filter(|one| one.description.starts_with(&own) && !facts.contains(&one.id)) {
            let is_back = names::is_back(&deployment.description, &own);
            if is_back || !is_of_this_try(deployment.created, seen) {
                continue;
            }
            if !deployment.is_over() {
                under_way = true;
                let stopped = self.stop_deployment(at, deployment, seen, said).await;
                looked = looked.and(stopped.map(|()| true));
                continue;
            }
            // Its rollback, when it has one, is followed to its end. Whoever had stopped it may be gone by now.
            let rollback = found.iter().find(|one| deployment.rollback.as_ref() == Some(&one.id));
            under_way |= rollback.is_some_and(|one| !one.is_over());
            let taken_back = back.as_ref().filter(|back| back.created >= deployment.created);
            let failed = rollback.filter(|one| one.is_over() && one.status != "Succeeded");
            if let Some(failed) = failed.filter(|_| taken_back.is_none()) {
                self.stuck.insert(self.groups[at].name.clone(), message::rollback_failed(failed));
            }
            if deployment.status == "Succeeded" {
                let goes_on = self.way_back(at, &deployment.id, taken_back).await;
                under_way |= goes_on == Ok(true);
                looked = looked.and(goes_on);
            }
        }
        looked.map(|_| under_way)
    }

    /// Whether the way back from a deployment that is over and whose traffic had moved is still under way; without one, or
    /// when it failed, the service is stuck.
    async fn way_back(&mut self, at: usize, id: &str, back: Option<&Deployment>) -> Result<bool, Error> {
        let group = &self.groups[at];
        let stuck = match back {
            None => message::too_late(id),
            Some(back) if back.status == "Succeeded" => return Ok(false),
            Some(back) if back.is_over() => message::way_back_failed(back),
            Some(back) => {
                let target = group.codedeploy.target(&back.id, &group.cluster, &group.service).await?;
                // The traffic counts, not the wait for the tasks that it left (fact 29).
                return Ok(target.is_none_or(|target| target.status != "Succeeded"));
            }
        };
        self.stuck.insert(group.name.clone(), stuck);
        Ok(false)
    }

    /// Safe to repeat: see the call.
    async fn stop_deployment(
        &mut self,
        at: usize,
        deployment: &Deployment,
        now: Time,
        said: &mut Vec<String>,
    ) -> Result<(), Error> {
        if !self.is_due(&deployment.id, now) {
            return Ok(());
        }
        let group = &self.groups[at];
        group.codedeploy.stop(&deployment.id).await?;
        if self.asked.insert(deployment.id.clone(), now).is_none() {
            self.stopped.push(message::deployment(&group.name));
            said.push(message::stopped_deployment(&group.name, &deployment.id));
            self.rollbacks.insert(deployment.id.clone(), at);
        }
        Ok(())
    }

    /// Once nothing is under way any more: what became of each deployment that was stopped, each said once.
    ///
    /// # Errors
    /// The calls'.
    pub(crate) async fn settle(&mut self, said: &mut Vec<String>) -> Result<(), Error> {
        let followed: Vec<_> = self.rollbacks.iter().map(|(id, at)| (id.clone(), *at)).collect();
        for (id, at) in followed {
            let group = &self.groups[at];
            let Some(stopped) = group.codedeploy.batch(std::slice::from_ref(&id)).await?.pop() else { continue };
            let rollback = match &stopped.rollback {
                Some(rollback) => group.codedeploy.batch(std::slice::from_ref(rollback)).await?.pop(),
                None => None,
            };
            let moved = group.codedeploy.target(&id, &group.cluster, &group.service).await?;
            let moved = moved.is_some_and(|target| target.status == "Succeeded");
            match rollback {
                Some(rollback) if rollback.status == "Succeeded" => said.push(message::rolled_back(&group.name)),
                Some(rollback) => {
                    self.stuck.insert(group.name.clone(), message::rollback_failed(&rollback));
                }
                // It ended by itself before it could be stopped: its traffic has moved, and its old tasks are gone.
                None if stopped.status == "Succeeded" || moved => {
                    self.stuck.insert(group.name.clone(), message::too_late(&id));
                }
                None => said.push(message::rolled_back(&group.name)),
            }
            self.rollbacks.remove(&id);
        }
        Ok(())
    }
}

fn is_of(task: &Task, release: &Release) -> bool {
    names::read_started_by(&task.started_by).is_some_and(|whose| whose.execution == release.execution)
}
