//! The targets of a deployment: what is known of them, and doing there what was decided.
//!
//! Invariant: a deployment is created only where none of this action was found.

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::artifact::Content;
use shared::aws::Place;
use shared::aws::codedeploy::{Codedeploy, Deployment, Target as Seen, Wait};
use shared::aws::ecs::{Definition, Ecs, Task, id};
use shared::end::{End, judge};
use shared::manifest::{Environment, LogMode, Service, in_environment};
use shared::{Error, Tick, Time, Trouble, Verdict, names, text};

use crate::decide::{self, Act, Phase, State};
use crate::message;

/// How many of a dead container's last lines the verdict shows.
const LAST_LINES: i32 = 20;

/// The services in all their environments, as one invocation knows them.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    /// Services that CodeDeploy does not deploy.
    pub(crate) left_out: Vec<String>,
    image: Option<String>,
}

/// One service in one environment.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) environment_name: String,
    pub(crate) service_name: String,
    pub(crate) environment: Environment,
    pub(crate) service: Service,
    pub(crate) place: Place,
    pub(crate) application: String,
    pub(crate) group: String,
    pub(crate) ecs_service: String,
    description: String,
    back_description: String,
    pub(crate) ecs: Ecs,
    pub(crate) codedeploy: Codedeploy,
    /// Whether deployments of this action were searched for.
    pub(crate) listed: bool,
    /// Whether its group waits at Ready, as far as is known.
    pub(crate) waits: Option<bool>,
    /// The revision before the release, 0 where it is not known.
    pub(crate) before: u32,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) seen: Option<Seen>,
    pub(crate) rollback: Option<Deployment>,
    /// The deployment of the revision before.
    pub(crate) back: Option<Deployment>,
    pub(crate) back_seen: Option<Seen>,
    /// When the deployment was first seen to be over.
    pub(crate) over_since: Option<Time>,
    /// The revision that has the traffic, as it was seen after everything was over.
    pub(crate) current: Option<u32>,
    pub(crate) busy: Option<Busy>,
    /// The tasks of the new task set that have died.
    pub(crate) dead: Vec<Task>,
    dead_definition: Option<Definition>,
    /// Why its target group found new tasks ill.
    ill: Option<String>,
    pub(crate) continued: bool,
    /// When a deployment was asked for, until it is known whether it came about.
    created: Option<Time>,
    asked: Option<Time>,
    /// When its details were read last, and its dead looked for.
    pub(crate) details_read: Time,
    pub(crate) dead_read: Time,
    pub(crate) statuses_read: Time,
    pub(crate) traffic_read: Time,
    /// Whether everything is being taken back: what is stopped then was stopped by us.
    pub(crate) taking_back: bool,
    looking: Trouble,
    acting: Trouble,
    pub(crate) failed: Option<String>,
}

/// What keeps a group busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Busy {
    /// The deployment, with when and by whom.
    pub(crate) with: String,
    /// Its id, when it is Cutover's own and only waits for its old tasks.
    pub(crate) released: Option<String>,
}

impl Plan {
    pub(crate) async fn new(
        tick: &Tick<'_>,
        content: Content,
        wanted: Option<&str>,
        state: &State,
    ) -> Result<Self, Error> {
        let manifest = content.manifest;
        let known = || manifest.services.keys().map(String::as_str).collect::<Vec<_>>();
        let names: Vec<&str> = match wanted {
            None => known(),
            Some(listed) => listed.split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
        };
        let mut plan = Self { targets: Vec::new(), left_out: Vec::new(), image: content.image };
        for name in names {
            let Some(service) = manifest.services.get(name) else {
                let why = text::unknown("service", name, known());
                return Err(Verdict::misconfigured(format!(
                    "deploy.yaml: {why} Correct the action's `Services`, or add it to the manifest's `services`."
                ))
                .into());
            };
            let Some(codedeploy) = service.codedeploy() else {
                plan.left_out.push(name.to_owned());
                continue;
            };
            for (environment_name, environment) in manifest.environments_of(service.environments.as_ref()) {
                let place = Place::from(environment);
                plan.targets.push(Target {
                    environment_name: environment_name.to_owned(),
                    service_name: name.to_owned(),
                    environment: environment.clone(),
                    service: service.clone(),
                    application: in_environment(codedeploy.application, environment_name),
                    group: in_environment(codedeploy.group, environment_name),
                    ecs_service: in_environment(&service.service, environment_name),
                    description: names::description(tick.release, environment_name, name, tick.key),
                    back_description: names::back_description(tick.release, environment_name, name, tick.key),
                    ecs: tick.aws.ecs(&place).await,
                    codedeploy: tick.aws.codedeploy(&place).await,
                    place,
                    listed: false,
                    waits: None,
                    before: state.before.get(plan.targets.len()).copied().unwrap_or_default(),
                    deployment: None,
                    seen: None,
                    rollback: None,
                    back: None,
                    back_seen: None,
                    over_since: None,
                    current: None,
                    busy: None,
                    dead: Vec::new(),
                    dead_definition: None,
                    ill: None,
                    continued: false,
                    created: None,
                    asked: None,
                    details_read: Time::default(),
                    dead_read: Time::default(),
                    statuses_read: Time::default(),
                    traffic_read: Time::default(),
                    taking_back: false,
                    looking: Trouble::default(),
                    acting: Trouble::default(),
                    failed: None,
                });
            }
        }
        Ok(plan)
    }

    /// Does what was decided, at every target at once.
    pub(crate) async fn act(&mut self, tick: &Tick<'_>, acts: &[Act]) {
        let image = self.image.as_deref();
        join_all(self.targets.iter_mut().enumerate().map(async |(at, target)| {
            for act in acts.iter().filter(|act| act.at() == at) {
                let acted = match act {
                    Act::Create { .. } => {
                        target.created = Some(tick.now);
                        target.create(image).await
                    }
                    Act::Release { deployment, .. } => target.codedeploy.go_on(deployment, Wait::Termination).await,
                    Act::Continue { .. } => target.go_on().await,
                    Act::Stop { .. } => target.stop(tick).await,
                    Act::Back { .. } => target.bring_back(tick).await,
                };
                target.note_act(tick, acted);
            }
        }))
        .await;
    }

    /// The last lines of a dead container of the target that failed first; none when they cannot be read: a verdict
    /// without them is better than none.
    pub(crate) async fn last_lines(&self, tick: &Tick<'_>, state: &State) -> Vec<String> {
        let target = state.cause.as_ref().and_then(|cause| self.targets.get(cause.target));
        let Some((target, task, definition)) =
            target.and_then(|target| Some((target, target.dead.first()?, target.dead_definition.as_ref()?)))
        else {
            return Vec::new();
        };
        let End::Failed { container: Some(container), .. } = judge(task, definition) else { return Vec::new() };
        let Some(source) = definition.logs(&container) else { return Vec::new() };
        let place = Place { region: source.region.clone(), role: target.environment.role.clone() };
        let logs = tick.aws.logs(&place).await;
        logs.last_lines(&source.group, &source.stream(&container, task.id()), LAST_LINES).await.unwrap_or_default()
    }
}

impl Target {
    /// `us/web`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.environment_name, self.service_name)
    }

    /// What `decide` is told of it.
    pub(crate) fn observed(&self, now: Time) -> decide::Target {
        decide::Target {
            phase: self.phase(now),
            timeout: self.service.timeout.0,
            wait_for_group: self.service.wait_for_group.0,
            asked: self.asked,
            broken: self.failed.clone(),
            dying: self.dying(),
        }
    }

    /// Whether its traffic is on the new version, as CodeDeploy says (fact 29).
    pub(crate) fn has_moved(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.status == "Succeeded")
    }

    /// Whether a deployment may be under way that no list shows yet. Going forward, it is asked for again, and CodeDeploy
    /// says that there is one; taking back, it must be waited for.
    pub(crate) fn may_appear(&self, now: Time) -> bool {
        let asked = self.created.filter(|_| self.taking_back && self.deployment.is_none());
        asked.is_some_and(|asked| now.since(asked) < shared::aws::SHOWN)
    }

    /// Whether fewer of its new tasks run than should, as far as that was seen.
    fn is_short(&self) -> bool {
        self.seen.as_ref().and_then(|seen| seen.new.as_ref()).is_some_and(|new| new.running < new.desired)
            && !self.dead.is_empty()
    }

    /// Whether its traffic may move at any moment.
    pub(crate) fn may_move(&self) -> bool {
        let complete =
            self.seen.as_ref().and_then(|seen| seen.new.as_ref()).is_some_and(|new| new.running >= new.desired);
        let goes = self.deployment.as_ref().is_some_and(|deployment| deployment.status == "InProgress");
        goes && !self.has_moved() && (self.continued || complete || self.waits == Some(false))
    }

    pub(crate) fn phase(&self, now: Time) -> Phase {
        if let Some(back) = &self.back {
            return self.phase_back(back);
        }
        let Some(deployment) = &self.deployment else {
            return match (&self.failed, &self.busy) {
                (Some(what), _) => Phase::Failed { what: what.clone() },
                (None, Some(Busy { with, released })) => Phase::Busy { with: with.clone(), released: released.clone() },
                (None, None) if self.may_appear(now) => Phase::Unknown,
                (None, None) if self.listed => Phase::Empty,
                (None, None) => Phase::Unknown,
            };
        };
        match deployment.status.as_str() {
            "Succeeded" => Phase::Done,
            "Failed" | "Stopped" => self.phase_over(deployment, now),
            // Some of its tasks have died since: ECS starts others, and the traffic waits for them.
            "Ready" if self.is_short() => Phase::Going,
            "Ready" => Phase::Ready,
            _ if self.has_moved() => Phase::Moved,
            _ => Phase::Going,
        }
    }

    /// A deployment that did not come about, with its rollback, which is a deployment of its own (fact 31).
    fn phase_over(&self, deployment: &Deployment, now: Time) -> Phase {
        let rollback = match (&deployment.rollback, &self.rollback) {
            (Some(_), None) => return Phase::RollingBack,
            (Some(_), Some(rollback)) if !rollback.is_over() => return Phase::RollingBack,
            (Some(_), Some(rollback)) => Some(rollback),
            (None, _) => None,
        };
        let what = message::did_not_come_about(deployment, self.seen.as_ref());
        let stopped_by_us = deployment.status == "Stopped" && (self.asked.is_some() || self.taking_back);
        let settled = || if stopped_by_us { Phase::RolledBack } else { Phase::Failed { what: what.clone() } };
        if rollback.is_some_and(|rollback| rollback.status == "Succeeded") {
            return settled();
        }
        // There is no rollback, or none yet, or it failed: where the traffic is, ECS tells.
        let appears = self.over_since.is_none_or(|since| now.since(since) < crate::look::ROLLBACK_APPEARS);
        let Some(current) = self.current.filter(|_| rollback.is_some() || !appears) else {
            return Phase::Over { what: (!stopped_by_us).then_some(what) };
        };
        if current == self.before || (self.before == 0 && self.tried() != Some(current)) {
            return settled();
        }
        let what = rollback.map_or(what, message::rollback_failed);
        Phase::Stranded { what }
    }

    fn phase_back(&self, back: &Deployment) -> Phase {
        if self.back_seen.as_ref().is_some_and(|seen| seen.status == "Succeeded") {
            return Phase::RolledBack;
        }
        match back.status.as_str() {
            "Succeeded" => Phase::RolledBack,
            "Failed" | "Stopped" => Phase::Stuck { what: message::did_not_come_about(back, self.back_seen.as_ref()) },
            "Ready" => Phase::BackWaits,
            _ => Phase::RollingBack,
        }
    }

    /// That too many of its new tasks have died.
    fn dying(&self) -> Option<String> {
        let most = usize::try_from(self.service.max_failed_tasks).unwrap_or(usize::MAX);
        if self.dead.len() <= most {
            return None;
        }
        let how =
            self.dead.first().zip(self.dead_definition.as_ref()).map(|(task, definition)| judge(task, definition));
        Some(message::dying(self.dead.len(), most, how.as_ref(), self.ill.as_deref()))
    }

    /// Takes up the tasks of the new task set that have died, and the definition that they ran.
    pub(crate) async fn take_dead(&mut self, mut dead: Vec<Task>) -> Result<(), Error> {
        dead.retain(Task::is_over);
        dead.sort_by_key(|task| task.stopped);
        if self.dead_definition.is_none()
            && let Some(task) = dead.first()
        {
            self.dead_definition = Some(self.ecs.definition(&task.definition).await?);
        }
        let is_ill = |task: &Task| task.stopped_reason.as_deref().is_some_and(|why| why.contains("ELB health checks"));
        if self.ill.is_none() && dead.iter().any(is_ill) {
            let names = [self.ecs_service.clone()];
            let found = self.ecs.services(&self.environment.cluster, &names).await?;
            self.ill = found.get(&self.ecs_service).and_then(|service| service.ill.clone());
        }
        self.dead = dead;
        Ok(())
    }

    /// The revision that is tried: of the AppSpec, where CodeDeploy shows it.
    pub(crate) fn tried(&self) -> Option<u32> {
        let spec: Value = serde_json::from_str(self.deployment.as_ref()?.app_spec.as_deref()?).ok()?;
        let arn = spec.pointer("/Resources/0/TargetService/Properties/TaskDefinition")?.as_str()?;
        Some(revision(arn)).filter(|revision| *revision > 0)
    }

    /// How the outcome of a look counts: an error is looked at again for a while, then it is what failed here.
    pub(crate) fn note<T>(&mut self, tick: &Tick<'_>, outcome: Result<T, Error>) -> Option<T> {
        let noted = self.looking.note(tick.now, outcome);
        self.failed_unless(noted)
    }

    /// The same for what was done: a look that goes well does not make up for an act that never does.
    fn note_act(&mut self, tick: &Tick<'_>, outcome: Result<(), Error>) {
        let noted = self.acting.note(tick.now, outcome);
        self.failed_unless(noted);
    }

    fn failed_unless<T>(&mut self, noted: Result<Option<T>, Verdict>) -> Option<T> {
        noted.unwrap_or_else(|verdict| {
            self.failed.get_or_insert(verdict.message);
            None
        })
    }

    /// Takes up what this action has here among these deployments.
    pub(crate) fn adopt(&mut self, found: &[Deployment]) {
        let with = |description: &str| found.iter().find(|one| one.description == description).cloned();
        self.deployment = self.deployment.take().or_else(|| with(&self.description));
        self.back = self.back.take().or_else(|| with(&self.back_description));
    }

    /// Registers the revision and creates the deployment.
    ///
    /// Safe to repeat: a deployment with this description is adopted before another one is created, and CodeDeploy takes
    /// one active deployment per group (fact 27); when that one is ours, it is adopted, too.
    async fn create(&mut self, image: Option<&str>) -> Result<(), Error> {
        let family = in_environment(&self.service.family, &self.environment_name);
        let container = self.service.container.as_str();
        let (definition, _) =
            self.ecs.definition_with_image(&family, Some(container), image, LogMode::AsDefined).await?;
        let app_spec = app_spec(&self.service, &definition.arn);
        match self.codedeploy.create(&self.application, &self.group, &self.description, &app_spec).await? {
            // Until it can be seen, it counts as created.
            Some(id) => {
                self.deployment = Some(created(id, app_spec));
                self.busy = None;
            }
            None => self.look_for_busy().await?,
        }
        self.created = None;
        Ok(())
    }

    /// Continues what waits: the deployment, or the one that brings the revision before back.
    async fn go_on(&mut self) -> Result<(), Error> {
        let Some(waiting) = self.back.as_ref().or(self.deployment.as_ref()) else { return Ok(()) };
        self.codedeploy.go_on(&waiting.id, Wait::Ready).await?;
        self.continued = true;
        Ok(())
    }

    async fn stop(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        let Some(deployment) = &self.deployment else { return Ok(()) };
        if self.failed.is_some() {
            // Whether this succeeds or not: it is asked for once, so that the action can end.
            self.asked = Some(tick.now);
        }
        self.codedeploy.stop(&deployment.id).await?;
        self.asked = Some(tick.now);
        Ok(())
    }

    /// Deploys the revision before the release: the old tasks are gone, so CodeDeploy cannot roll back any more.
    ///
    /// Safe to repeat as [`create`](Self::create) is, by a description of its own.
    async fn bring_back(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        self.asked = Some(tick.now);
        if self.before == 0 {
            return Err(
                Verdict::failed("its traffic is on the new version, and the revision before is not known").into()
            );
        }
        let family = in_environment(&self.service.family, &self.environment_name);
        let definition = self.ecs.definition(&format!("{family}:{}", self.before)).await?;
        let app_spec = app_spec(&self.service, &definition.arn);
        if let Some(id) =
            self.codedeploy.create(&self.application, &self.group, &self.back_description, &app_spec).await?
        {
            self.back = Some(created(id, app_spec));
        } else {
            // The reply to an earlier try was lost, or something else is under way: the next try will tell.
            self.look_for_busy().await?;
        }
        Ok(())
    }

    /// What keeps the group busy. When it is this action's own deployment, it is adopted: `CreateDeployment`'s reply was
    /// lost, and the list does not show it yet.
    pub(crate) async fn look_for_busy(&mut self) -> Result<(), Error> {
        let under_way = shared::aws::codedeploy::Listed::UnderWay;
        let ids = self.codedeploy.list(&self.application, &self.group, under_way).await?;
        let found = self.codedeploy.batch(&ids).await?;
        self.adopt(&found);
        let ours = [&self.description, &self.back_description];
        let other = found.into_iter().find(|other| !other.is_over() && !ours.contains(&&other.description));
        let Some(other) = other.filter(|_| self.deployment.is_none() || self.back.is_none()) else {
            self.busy = None;
            return Ok(());
        };
        let cluster = &self.environment.cluster;
        let target = self.codedeploy.target(&other.id, cluster, &self.ecs_service).await?;
        // Somebody else's old tasks are somebody else's way back.
        let waits = target.is_some_and(|target| target.status == "Succeeded") && names::is_ours(&other.description);
        self.busy = Some(Busy { with: message::busy_with(&other), released: waits.then(|| other.id.clone()) });
        Ok(())
    }
}

fn created(id: String, app_spec: String) -> Deployment {
    Deployment { id, status: "Created".into(), app_spec: Some(app_spec), ..Deployment::default() }
}

/// The revision's number at the end of a task definition's ARN, 0 when there is none.
pub(crate) fn revision(arn: &str) -> u32 {
    id(arn).rsplit(':').next().and_then(|revision| revision.parse().ok()).unwrap_or_default()
}

/// The AppSpec of an ECS deployment.
fn app_spec(service: &Service, definition: &str) -> String {
    let hooks: Vec<_> = service.hooks.iter().map(|(hook, function)| json!({ format!("{hook:?}"): function })).collect();
    let mut spec = json!({
        "version": 0.0,
        "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {
            "TaskDefinition": definition,
            "LoadBalancerInfo": {"ContainerName": service.container, "ContainerPort": service.port},
        }}}],
    });
    if !hooks.is_empty() {
        spec["Hooks"] = hooks.into();
    }
    spec.to_string()
}
