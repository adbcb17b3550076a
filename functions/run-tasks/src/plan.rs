//! The task in all its environments: looked at together, with as few calls as may be, and acted on at once.
//!
//! Invariant: what fails in one environment does not keep the others from being seen.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use shared::artifact::Content;
use shared::aws::Place;
use shared::aws::codepipeline::{Codepipeline, Sibling};
use shared::aws::ecs::{Definition, Ecs, Of};
use shared::job::Release;
use shared::manifest::{self, Manifest};
use shared::survey::Survey;
use shared::{Error, Tick, Verdict};

use crate::decide::{Act, State};
use crate::message;
use crate::others::OtherReleases;
use crate::site::Site;

/// By site: the revision to begin, and the container that got the release's image.
pub(crate) type Definitions = BTreeMap<usize, Result<(Definition, String), Error>>;

/// How many of the failing container's last lines the verdict shows.
const LAST_LINES: i32 = 20;

/// How long CloudWatch may take to show what a container wrote last.
const INGESTED: Duration = Duration::from_secs(5);

/// The task in all its environments, as one invocation knows it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) task: manifest::Task,
    pub(crate) sites: Vec<Site>,
    image: Option<String>,
    manifest: Manifest,
    /// What is looked at beforehand, while it is.
    survey: Option<Survey>,
    pub(crate) others: OtherReleases,
}

/// Sites that can be looked at with one call.
#[derive(Debug)]
struct Group {
    place: Place,
    cluster: String,
    family: String,
    ecs: Ecs,
    sites: Vec<usize>,
}

/// How far the look at all that a release needs has come.
pub(crate) enum Surveyed {
    /// All fits, or was looked at for another task.
    Done,
    NotYet,
    /// Another action of the release runs the same task.
    RunsTwice(Verdict),
}

impl Plan {
    pub(crate) async fn new(tick: &Tick<'_>, content: Content, name: &str) -> Result<Self, Error> {
        let task = content.manifest.task(name)?.clone();
        let mut sites = Vec::new();
        for (environment_name, environment) in content.manifest.environments_of(task.environments.as_ref()) {
            let ecs = tick.aws.ecs(&Place::from(environment)).await;
            sites.push(Site::new(tick, (environment_name, environment), (name, &task), ecs));
        }
        if sites.is_empty() {
            let why = format!("deploy.yaml: the task `{name}` runs in no environment; correct its `environments`.");
            return Err(Verdict::misconfigured(why).into());
        }
        let Content { manifest, image, .. } = content;
        Ok(Self { name: name.to_owned(), task, sites, image, manifest, survey: None, others: OtherReleases::default() })
    }

    /// Looks at all that the release needs, before the first of its tasks starts; whether that is done. Later, what has
    /// changed since is found by whoever needs it: what has begun is worth more than what could be looked at again.
    ///
    /// # Errors
    /// What is wrong; or what AWS does not answer.
    pub(crate) async fn survey(&mut self, tick: &Tick<'_>) -> Result<Surveyed, Error> {
        let survey = match &mut self.survey {
            Some(survey) => survey,
            None => match before(tick, &self.name).await? {
                Before::Same(wrong) => return Ok(Surveyed::RunsTwice(wrong)),
                Before::Another => return Ok(Surveyed::Done),
                Before::Nothing => self.survey.insert(Survey::new(tick.aws, &self.manifest).await),
            },
        };
        Ok(if survey.look().await? { Surveyed::Done } else { Surveyed::NotYet })
    }

    /// Takes up what the invocation before this one knew.
    pub(crate) fn recall(&mut self, state: &State) {
        for (at, site) in self.sites.iter_mut().enumerate() {
            site.begun = state.at(at).begun;
        }
    }

    /// Notes what the next invocation must know.
    pub(crate) fn note(&self, state: &mut State) {
        for (at, _) in self.sites.iter().enumerate().filter(|(_, site)| site.task.is_some()) {
            let remembered = state.at_mut(at);
            remembered.begun = remembered.succeeded_in.is_none();
            remembered.no_room_since = None;
        }
    }

    /// Whether there is a task of this release in any environment.
    pub(crate) fn has_begun(&self) -> bool {
        self.sites.iter().any(|site| site.task.is_some())
    }

    /// Looks at every environment at once, with one call for all tasks of a cluster; what fails for one cluster does not
    /// keep the others from being seen.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>) {
        self.find(tick).await;
        let lives = |site: &Site| site.task.as_ref().filter(|task| !task.is_over()).map(|task| task.arn.clone());
        let groups = self.groups(|site| lives(site).map(|_| String::new()));
        let seen = join_all(groups.iter().map(async |group| {
            let arns: Vec<_> = group.sites.iter().filter_map(|at| lives(&self.sites[*at])).collect();
            group.ecs.describe_tasks(&group.cluster, &arns).await
        }))
        .await;
        for (group, seen) in groups.iter().zip(seen) {
            for at in &group.sites {
                let site = &mut self.sites[*at];
                let Some(tasks) = site.note(tick, seen.clone()) else { continue };
                // One that is not visible yet stays as it was (fact 20).
                if let Some(task) = tasks.into_iter().find(|task| lives(site).as_ref() == Some(&task.arn)) {
                    site.task = Some(task);
                }
            }
        }
        join_all(self.sites.iter_mut().map(async |site| {
            let looked = site.look_at_definition().await;
            let noted = site.defining.note(tick.now, looked);
            site.failed_unless(noted);
        }))
        .await;
    }

    /// Finds what this release has in each environment already, and what another one has, with three calls for each
    /// cluster and family.
    async fn find(&mut self, tick: &Tick<'_>) {
        let family = |site: &Site| manifest::in_environment(&self.task.family, &site.name);
        let groups = self.groups(|site| {
            let wanted = !site.listed || site.may_appear(tick.now) || site.is_asked_again(tick.now);
            ((site.failed.is_none() || site.may_appear(tick.now)) && wanted).then(|| family(site))
        });
        let found =
            join_all(groups.iter().map(|group| group.ecs.tasks(&group.cluster, Of::Family(&group.family)))).await;
        for (group, found) in groups.iter().zip(found) {
            for at in &group.sites {
                let site = &mut self.sites[*at];
                let adopted = match found.clone() {
                    Ok(tasks) => site.adopt(tick, tasks, &self.name, self.others.settle).await,
                    Err(error) => Err(error),
                };
                if let Some(listed) = site.note(tick, adopted) {
                    site.listed = listed;
                }
            }
        }
    }

    /// The sites for which `family` is some, by place, cluster and family.
    fn groups(&self, family: impl Fn(&Site) -> Option<String>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (at, site) in self.sites.iter().enumerate() {
            let Some(family) = family(site) else { continue };
            let (place, cluster) = (Place::from(&site.environment), &site.environment.cluster);
            match groups.iter_mut().find(|one| one.place == place && one.cluster == *cluster && one.family == family) {
                Some(group) => group.sites.push(at),
                None => groups.push(Group {
                    place,
                    cluster: cluster.clone(),
                    family,
                    ecs: site.ecs.clone(),
                    sites: vec![at],
                }),
            }
        }
        groups
    }

    /// Does what was decided, in every environment at once.
    pub(crate) async fn act(&mut self, tick: &Tick<'_>, state: &mut State, acts: &[Act], definitions: Definitions) {
        let task = &self.task;
        let attempts: Vec<_> = (0..self.sites.len()).map(|at| state.at(at).attempt).collect();
        let no_room_since: Vec<_> = (0..self.sites.len())
            .map(|at| state.at(at).no_room_since.map(|seconds| tick.begun.plus(Duration::from_secs(seconds))))
            .collect();
        let refused = join_all(self.sites.iter_mut().enumerate().map(async |(at, site)| {
            let mut refused = false;
            for act in acts {
                match act {
                    Act::Start { at: wanted } if *wanted == at => {
                        let started = match definitions.get(&at) {
                            Some(Ok(definition)) => {
                                let so_far = (attempts[at], no_room_since[at]);
                                site.start(tick, task, definition.clone(), so_far).await
                            }
                            Some(Err(error)) => Err(error.clone()),
                            None => Ok(true),
                        };
                        refused = site.note_act(tick, started) == Some(false);
                    }
                    Act::Stop { at: wanted, reason } if *wanted == at => {
                        let stopped = site.stop(tick, reason).await;
                        site.note_act(tick, stopped);
                    }
                    Act::Start { .. } | Act::Stop { .. } => {}
                }
            }
            refused
        }))
        .await;
        for (at, site) in self.sites.iter().enumerate().filter(|(_, site)| site.forgotten && site.task.is_some()) {
            state.at_mut(at).perhaps_again = site.forgotten;
        }
        for (at, _) in refused.into_iter().enumerate().filter(|(_, refused)| *refused) {
            // A refused placement is replayed for the same client token (fact 18): the next try needs another one.
            let remembered = state.at_mut(at);
            remembered.attempt += 1;
            remembered.no_room_since.get_or_insert(tick.now.since(tick.begun).as_secs());
        }
    }

    /// The revision with the release's image, and the container that got it, for each site that begins: asked for once
    /// for each place and family.
    pub(crate) async fn definitions(&self, acts: &[Act]) -> Definitions {
        let begins = |at: usize| acts.iter().any(|act| matches!(act, Act::Start { at: wanted } if *wanted == at));
        let family = |site: &Site| manifest::in_environment(&self.task.family, &site.name);
        let mut groups: Vec<Group> = Vec::new();
        for at in (0..self.sites.len()).filter(|at| begins(*at)) {
            let site = &self.sites[at];
            let (place, family) = (Place::from(&site.environment), family(site));
            match groups.iter_mut().find(|one| one.place == place && one.family == family) {
                Some(group) => group.sites.push(at),
                None => {
                    groups.push(Group { place, cluster: String::new(), family, ecs: site.ecs.clone(), sites: vec![at] })
                }
            }
        }
        let (container, image) = (self.task.container.as_deref(), self.image.as_deref());
        let found = join_all(
            groups
                .iter()
                .map(|group| group.ecs.definition_with_image(&group.family, container, image, self.task.log_mode)),
        );
        let found = found.await;
        let each =
            groups.iter().zip(found).flat_map(|(group, found)| group.sites.iter().map(move |at| (*at, found.clone())));
        each.collect()
    }

    /// Whether what failed has ended so lately that its last lines may be on their way to CloudWatch.
    pub(crate) fn writes_yet(&self, tick: &Tick<'_>, state: &State) -> bool {
        let site = state.cause.as_ref().and_then(|cause| self.sites.get(cause.environment));
        let task = site.and_then(|site| site.task.as_ref()).filter(|task| task.started.is_some());
        task.and_then(|task| task.stopped).is_some_and(|stopped| tick.now.since(stopped) < INGESTED)
    }

    /// The last lines of the container that explains the failure; none when they cannot be read: a verdict without
    /// them is better than none.
    pub(crate) async fn last_lines(&self, tick: &Tick<'_>, state: &State) -> Vec<String> {
        let Some(site) = state.cause.as_ref().and_then(|cause| self.sites.get(cause.environment)) else {
            return Vec::new();
        };
        let (Some(task), Some(definition)) = (&site.task, &site.definition) else { return Vec::new() };
        let Some(container) = site.explains(task, definition) else { return Vec::new() };
        let Some(source) = definition.logs(&container) else { return Vec::new() };
        let place = Place { region: source.region.clone(), role: site.environment.role.clone() };
        let logs = tick.aws.logs(&place).await;
        let stream = source.stream(&container, task.id());
        logs.last_lines(&source.group, &stream, LAST_LINES).await.unwrap_or_default()
    }
}

/// What a release has run before this task.
enum Before {
    /// Nothing.
    Nothing,
    /// Another task.
    Another,
    /// The same task, as another action, whose tasks would be taken for this one's.
    Same(Verdict),
}

/// Looks at what the release has run before.
///
/// # Errors
/// The call's.
async fn before(tick: &Tick<'_>, name: &str) -> Result<Before, Error> {
    let siblings = match Codepipeline::new(tick.aws).siblings(tick.release).await {
        Ok(siblings) => siblings,
        Err(again @ Error::Again(_)) => return Err(again),
        // Where that may not be asked, looking again does no harm.
        Err(Error::Stop(_)) => return Ok(Before::Nothing),
    };
    let Release { stage, action, .. } = tick.release;
    let own = match tick.job.run.as_deref() {
        Some(run) => {
            let listed = siblings.iter().find(|one| one.id == run);
            Some(listed.ok_or_else(|| Error::Again("CodePipeline does not show this run of the action yet".into()))?)
        }
        // An Invoke action's job says what its configuration does, and that may be wrong.
        None => siblings.iter().find(|one| (Some(&one.stage), Some(&one.action)) == (stage.as_ref(), action.as_ref())),
    };
    let is_other = |one: &&Sibling| own.is_some_and(|own| (&own.stage, &own.action) != (&one.stage, &one.action));
    // Of another manifest, it is another task.
    let is_same = |one: &&Sibling| own.is_some_and(|own| own.manifest == one.manifest);
    let runs_it = |one: &&Sibling| one.runs_tasks && one.task.as_deref() == Some(name) && is_same(one);
    if let Some(other) = siblings.iter().filter(is_other).find(runs_it) {
        return Ok(Before::Same(message::twice_in_a_release(name, &other.stage, &other.action)));
    }
    let is_another = |one: &Sibling| one.has_succeeded() && one.task.as_ref().is_some_and(|task| task != name);
    Ok(if siblings.iter().any(is_another) { Before::Another } else { Before::Nothing })
}
