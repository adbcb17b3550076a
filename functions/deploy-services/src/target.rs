//! The targets of a deployment: what is there, and doing there what was decided.
//!
//! Invariant: a deployment is created only where none of this action was found.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use shared::artifact::Content;
use shared::aws::Place;
use shared::aws::codedeploy::{Codedeploy, Deployment, Target as Seen, Wait};
use shared::aws::ecs::{Ecs, id};
use shared::manifest::{Environment, LogMode, Service, in_environment};
use shared::{Error, Tick, Time, Trouble, Verdict, names, text};

use crate::decide::{self, Act, Phase, State};

/// Deployments of this action are looked for from this long before it began: clocks differ, and after the death of the
/// very first function the action counts as begun when Lambda delivered its event again.
const SKEW: Duration = Duration::from_secs(3600);

/// The services in all their environments, as one invocation knows them.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    image: Option<String>,
}

/// One service in one environment.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) environment_name: String,
    pub(crate) service_name: String,
    environment: Environment,
    pub(crate) service: Service,
    application: String,
    group: String,
    ecs_service: String,
    description: String,
    ecs: Ecs,
    codedeploy: Codedeploy,
    listed: bool,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) target: Option<Seen>,
    rollback: Option<Deployment>,
    busy: Option<(String, bool)>,
    stopping: Option<Time>,
    looking: Trouble,
    acting: Trouble,
    failed: Option<String>,
}

impl Plan {
    pub(crate) async fn new(tick: &Tick<'_>, content: Content, wanted: Option<&str>) -> Result<Self, Error> {
        let manifest = content.manifest;
        let known = || manifest.services.keys().map(String::as_str).collect::<Vec<_>>();
        let names: Vec<&str> = match wanted {
            None => known(),
            Some(listed) => listed.split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
        };
        let mut targets = Vec::new();
        for name in names {
            let Some(service) = manifest.services.get(name) else {
                let why = text::unknown("service", name, known());
                return Err(Verdict::misconfigured(format!(
                    "deploy.yaml: {why} Correct the action's `Services`, or add it to the manifest's `services`."
                ))
                .into());
            };
            for (environment_name, environment) in manifest.environments_of(service.environments.as_ref()) {
                let place = Place::from(environment);
                targets.push(Target {
                    environment_name: environment_name.to_owned(),
                    service_name: name.to_owned(),
                    environment: environment.clone(),
                    service: service.clone(),
                    application: in_environment(&service.codedeploy_application, environment_name),
                    group: in_environment(&service.deployment_group, environment_name),
                    ecs_service: in_environment(&service.service, environment_name),
                    description: names::description(tick.release, environment_name, name, tick.key),
                    ecs: tick.aws.ecs(&place).await,
                    codedeploy: tick.aws.codedeploy(&place).await,
                    listed: false,
                    deployment: None,
                    target: None,
                    rollback: None,
                    busy: None,
                    stopping: None,
                    looking: Trouble::default(),
                    acting: Trouble::default(),
                    failed: None,
                });
            }
        }
        Ok(Self { targets, image: content.image })
    }

    /// Looks at every target at once; what fails for one does not keep the others from being seen.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>, state: &mut State) {
        state.before.resize(self.targets.len(), 0);
        let before = join_all(self.targets.iter_mut().zip(&state.before).map(async |(target, known)| {
            let looked = target.look(tick, *known).await;
            target.note(tick, looked)
        }))
        .await;
        for (known, seen) in state.before.iter_mut().zip(before) {
            *known = seen.unwrap_or(*known);
        }
    }

    /// Does what was decided, at every target at once.
    pub(crate) async fn act(&mut self, tick: &Tick<'_>, acts: &[Act]) {
        let image = self.image.as_deref();
        join_all(self.targets.iter_mut().enumerate().map(async |(at, target)| {
            for act in acts {
                let acted = match act {
                    Act::Create { at: wanted } if *wanted == at => target.create(image).await,
                    Act::Release { at: wanted, deployment } if *wanted == at => {
                        target.codedeploy.go_on(deployment, Wait::Termination).await
                    }
                    Act::Continue { at: wanted } if *wanted == at => target.continue_ready().await,
                    Act::Stop { at: wanted } if *wanted == at => target.stop(tick).await,
                    Act::Create { .. } | Act::Release { .. } | Act::Continue { .. } | Act::Stop { .. } => continue,
                };
                target.note_act(tick, acted);
            }
        }))
        .await;
    }
}

impl Target {
    /// What `decide` is told of it.
    pub(crate) fn seen(&self) -> decide::Target {
        decide::Target {
            phase: self.phase(),
            timeout: self.service.timeout.0,
            wait_for_group: self.service.wait_for_group.0,
            stopping: self.stopping,
            broken: self.failed.clone(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        let Some(deployment) = &self.deployment else {
            return match (&self.failed, &self.busy) {
                (Some(what), _) => Phase::Failed { what: what.clone() },
                (None, Some((with, waits))) => Phase::Busy { with: with.clone(), waits_to_terminate: *waits },
                (None, None) if self.listed => Phase::Empty,
                (None, None) => Phase::Unknown,
            };
        };
        match deployment.status.as_str() {
            "Succeeded" => Phase::Done,
            "Failed" | "Stopped" => self.rolled_back(deployment),
            "Ready" => Phase::Ready,
            _ if self.target.as_ref().is_some_and(|target| target.status == "Succeeded") => Phase::Moved,
            _ => Phase::Going,
        }
    }

    /// A deployment that did not come about, with its rollback, which is a deployment of its own (fact 31).
    fn rolled_back(&self, deployment: &Deployment) -> Phase {
        if deployment.rollback.is_some() && self.rollback.as_ref().is_none_or(|rollback| !rollback.is_over()) {
            return Phase::RollingBack;
        }
        if deployment.status == "Stopped" && self.stopping.is_some() {
            return Phase::RolledBack;
        }
        let (code, message) = deployment.error.clone().unwrap_or_else(|| ("no code".into(), "no message".into()));
        let event = self.target.as_ref().and_then(|target| {
            let event = target.event.as_deref()?;
            let said = target.diagnostics.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
            Some(format!(" in {event}{said}"))
        });
        let what = format!(
            "deployment {} {}{}: {message} ({code})",
            deployment.id,
            deployment.status.to_lowercase(),
            event.unwrap_or_default()
        );
        Phase::Failed { what }
    }

    /// How the outcome of a look counts: an error is looked at again for a while, then it is what failed here.
    fn note<T>(&mut self, tick: &Tick<'_>, outcome: Result<T, Error>) -> Option<T> {
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

    /// Looks; returns the revision that the service had before the release, `known` when that is known already.
    async fn look(&mut self, tick: &Tick<'_>, known: u32) -> Result<u32, Error> {
        if self.failed.is_some() && self.deployment.is_none() {
            return Ok(known);
        }
        let mut before = known;
        if self.deployment.is_none() {
            if before == 0 {
                let service = self.ecs.service(&self.environment.cluster, &self.ecs_service).await?;
                before = revision(&service.definition);
            }
            self.find(tick).await?;
            self.listed = true;
        }
        if let Some(known) = self.deployment.as_ref().filter(|known| !known.is_over())
            && let Some(seen) = self.codedeploy.batch(std::slice::from_ref(&known.id)).await?.pop()
        {
            self.deployment = Some(seen);
        }
        if let Some(deployment) = &self.deployment {
            let moved = self.target.as_ref().is_some_and(|target| target.status == "Succeeded");
            if !moved {
                let cluster = &self.environment.cluster;
                let target = self.codedeploy.target(&deployment.id, cluster, &self.ecs_service).await?;
                self.target = target.or(self.target.take());
            }
            let rolling = self.rollback.as_ref().is_none_or(|rollback| !rollback.is_over());
            if let Some(rollback) = deployment.rollback.as_ref().filter(|_| rolling) {
                self.rollback = self.codedeploy.batch(std::slice::from_ref(rollback)).await?.pop();
            }
        }
        Ok(before)
    }

    /// Finds this action's deployment by its description, and what else keeps the group busy.
    async fn find(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        let since = Time::from_millis(tick.begun.millis().saturating_sub(SKEW.as_secs() * 1000));
        let found = self.codedeploy.deployments(&self.application, &self.group, since).await?;
        self.deployment = found.into_iter().find(|deployment| deployment.description == self.description);
        if self.deployment.is_none() && self.busy.is_some() {
            self.look_for_busy().await?;
        }
        Ok(())
    }

    /// What keeps the group busy, and whether it only waits for its old tasks to end.
    async fn look_for_busy(&mut self) -> Result<(), Error> {
        let all = self.codedeploy.deployments(&self.application, &self.group, Time::default()).await?;
        let Some(other) = all.into_iter().find(|deployment| !deployment.is_over()) else {
            self.busy = None;
            return Ok(());
        };
        let target = self.codedeploy.target(&other.id, &self.environment.cluster, &self.ecs_service).await?;
        let waits = target.is_some_and(|target| target.status == "Succeeded");
        self.busy = Some((other.id, waits));
        Ok(())
    }

    /// Registers the revision and creates the deployment.
    ///
    /// Safe to repeat: `find` adopts a deployment with this description before another one is created, and CodeDeploy
    /// takes one active deployment per group (fact 27).
    async fn create(&mut self, image: Option<&str>) -> Result<(), Error> {
        let family = in_environment(&self.service.family, &self.environment_name);
        let container = self.service.container.as_str();
        let (definition, _) =
            self.ecs.definition_with_image(&family, Some(container), image, LogMode::AsDefined).await?;
        let app_spec = app_spec(&self.service, &definition.arn);
        let created = self.codedeploy.create(&self.application, &self.group, &self.description, &app_spec).await?;
        match created {
            // Until it can be seen, it counts as created.
            Some(id) => {
                self.deployment = Some(Deployment { id, status: "Created".into(), ..Deployment::default() });
                self.busy = None;
            }
            None => self.look_for_busy().await?,
        }
        Ok(())
    }

    async fn continue_ready(&mut self) -> Result<(), Error> {
        let Some(deployment) = &self.deployment else { return Ok(()) };
        self.codedeploy.go_on(&deployment.id, Wait::Ready).await
    }

    async fn stop(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        let Some(deployment) = &self.deployment else { return Ok(()) };
        if self.failed.is_some() {
            // Whether this succeeds or not: it is asked for once, so that the action can end.
            self.stopping = Some(tick.now);
        }
        self.codedeploy.stop(&deployment.id).await?;
        self.stopping = Some(tick.now);
        Ok(())
    }
}

/// The revision's number at the end of a task definition's ARN, 0 when there is none.
fn revision(arn: &str) -> u32 {
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
