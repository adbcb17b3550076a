//! How a deployment goes on by itself, step by step, with the functions of its lifecycle events, and back (facts 29 to 32).

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Deployment, HookCall, Phase};
use crate::world::{Effect, Timer, World};

/// Whether a deployment may go on from a lifecycle event.
enum Hold {
    Go,
    Wait,
    Fail,
}

/// How long each step of CodeDeploy's own takes here.
pub(super) const STEP: Duration = Duration::from_millis(300);

/// How long CodeDeploy waits for the new tasks.
const INSTALL: Duration = Duration::from_secs(3600);

impl World {
    /// Something about a service's tasks has changed: look at its deployments.
    pub(in crate::world) fn deployments_changed(&mut self, service: &str) {
        let concerned =
            self.codedeploy.deployments.values().filter(|one| one.group.service == service && !one.is_over());
        let ids: Vec<_> = concerned.map(|one| one.id.clone()).collect();
        for id in ids {
            self.step_deployment(&id);
        }
    }

    /// Takes a deployment as far as it can go now.
    pub(in crate::world) fn step_deployment(&mut self, id: &str) {
        let now = self.now;
        let Some(mut deployment) = self.codedeploy.deployments.get(id).cloned() else { return };
        let service = deployment.group.service.clone();
        let waited = now.since(deployment.since);
        match deployment.phase {
            Phase::Created if deployment.group.alarm => {
                let why = "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the \
                           affected deployments have been stopped.";
                deployment.error = Some(("ALARM_ACTIVE", why.into()));
                deployment.target = "Failed";
                deployment.end("Stopped", now);
            }
            Phase::Created => {
                match self.call_hook(&mut deployment, "BeforeInstall") {
                    Hold::Go => {}
                    Hold::Wait => return self.keep(deployment),
                    Hold::Fail => return self.fail_at_hook(deployment),
                }
                let sets = self.ecs.services.get(&service).map(|service| &service.sets);
                deployment.blue = sets.and_then(|sets| sets.first()).map(|set| set.id.clone());
                deployment.green =
                    Some(self.create_task_set(&service, &deployment.definition, deployment.providers.clone()));
                deployment.status = "InProgress";
                deployment.target = "InProgress";
                deployment.enter(Phase::Install, now);
                self.after(INSTALL, Timer::Deployment(id.to_owned()));
            }
            Phase::Install => {
                let green = deployment.green.clone().unwrap_or_default();
                let desired = self.ecs.services.get(&service).map_or(0, |service| service.desired);
                if self.set_tasks(&green).1 >= desired {
                    match self.call_hook(&mut deployment, "AfterInstall") {
                        Hold::Go => {}
                        Hold::Wait => return self.keep(deployment),
                        Hold::Fail => return self.fail_at_hook(deployment),
                    }
                    match deployment.group.wait_at_ready {
                        Some(wait) => {
                            deployment.status = "Ready";
                            deployment.ready = Some(now);
                            deployment.enter(Phase::Ready, now);
                            self.after(wait, Timer::Deployment(id.to_owned()));
                        }
                        None => {
                            deployment.enter(Phase::Traffic, now);
                            self.after(STEP, Timer::Deployment(id.to_owned()));
                        }
                    }
                } else if waited >= INSTALL {
                    let why = "The ECS service cannot be stabilized in time.".to_owned();
                    deployment.error = Some(("HEALTH_CONSTRAINTS", why));
                    deployment.failed_in = Some(Phase::Install);
                    deployment.target = "Failed";
                    deployment.end("Failed", now);
                    self.codedeploy.deployments.insert(id.to_owned(), deployment);
                    return self.roll_back(id);
                }
            }
            Phase::Ready if deployment.group.wait_at_ready.is_some_and(|wait| waited >= wait) => {
                deployment.error =
                    Some(("TIMEOUT", "The deployment was not continued before its wait time ended.".into()));
                deployment.target = "Failed";
                deployment.end("Stopped", now);
                self.codedeploy.deployments.insert(id.to_owned(), deployment);
                return self.roll_back(id);
            }
            Phase::Traffic if waited >= STEP => {
                if !deployment.shifted {
                    match self.call_hook(&mut deployment, "BeforeAllowTraffic") {
                        Hold::Go => {}
                        Hold::Wait => return self.keep(deployment),
                        Hold::Fail => return self.fail_at_hook(deployment),
                    }
                    if waited < deployment.group.canary {
                        deployment.canaried = true;
                        self.after(deployment.group.canary, Timer::Deployment(id.to_owned()));
                        return self.keep(deployment);
                    }
                    deployment.shifted = true;
                    self.make_primary(&service, deployment.green.as_deref().unwrap_or_default());
                }
                match self.call_hook(&mut deployment, "AfterAllowTraffic") {
                    Hold::Go => {}
                    Hold::Wait => return self.keep(deployment),
                    Hold::Fail => return self.fail_at_hook(deployment),
                }
                deployment.target = "Succeeded";
                deployment.moved = Some(now);
                deployment.enter(Phase::Termination, now);
                self.after(deployment.group.termination_wait, Timer::Deployment(id.to_owned()));
            }
            Phase::Termination if waited >= deployment.group.termination_wait => {
                deployment.end("Succeeded", now);
                let blue = deployment.blue.clone().unwrap_or_default();
                self.codedeploy.deployments.insert(id.to_owned(), deployment);
                return self.scale_to_zero(&service, &blue);
            }
            Phase::Rollback if self.set_tasks(deployment.green.as_deref().unwrap_or_default()).0 == 0 => {
                deployment.target = "Succeeded";
                deployment.end("Succeeded", now);
            }
            Phase::Ready | Phase::Traffic | Phase::Termination | Phase::Rollback | Phase::Over => return,
        }
        self.codedeploy.deployments.insert(id.to_owned(), deployment);
    }

    fn keep(&mut self, deployment: Deployment) {
        self.codedeploy.deployments.insert(deployment.id.clone(), deployment);
    }

    /// Calls the function of a lifecycle event, once.
    fn call_hook(&mut self, deployment: &mut Deployment, event: &'static str) -> Hold {
        let Some(function) = deployment.hooks.get(event).cloned() else { return Hold::Go };
        match deployment.called.iter().find(|call| call.event == event).map(|call| call.answer.as_ref()) {
            Some(None) => Hold::Wait,
            Some(Some(Ok(()))) => Hold::Go,
            Some(Some(Err(_))) => Hold::Fail,
            None => {
                let id = format!("hook-{}", self.hex());
                deployment.called.push(HookCall { event, id: id.clone(), answer: None });
                self.effects.push(Effect::CallHook { id, function, stage: event.to_owned() });
                Hold::Wait
            }
        }
    }

    fn fail_at_hook(&mut self, mut deployment: Deployment) {
        let why = "The deployment failed because a lifecycle event hook failed.".to_owned();
        deployment.error = Some(("HEALTH_CONSTRAINTS", why));
        deployment.failed_in = Some(deployment.phase);
        deployment.target = "Failed";
        deployment.end("Failed", self.now);
        let id = deployment.id.clone();
        self.keep(deployment);
        self.roll_back(&id);
    }

    /// A function of the application's own has answered.
    pub(in crate::world) fn codedeploy_hooked(&mut self, id: &str, result: &Result<(), String>) {
        let mut all = self.codedeploy.deployments.values_mut().filter(|one| one.phase != Phase::Over);
        let Some((deployment, at)) = all.find_map(|one| {
            let at = one.called.iter().position(|call| call.id == id)?;
            Some((one, at))
        }) else {
            return;
        };
        deployment.called[at].answer = Some(result.clone());
        let id = deployment.id.clone();
        self.step_deployment(&id);
    }

    /// Brings the traffic back and lets the new task set go: a deployment of its own (fact 31).
    pub(super) fn roll_back(&mut self, of: &str) {
        let Some(mut rolled) = self.codedeploy.deployments.get(of).cloned() else { return };
        let id = format!("d-{}", self.hex()[..9].to_uppercase());
        let now = self.now;
        let service = rolled.group.service.clone();
        let (blue, green) = (rolled.blue.clone().unwrap_or_default(), rolled.green.clone().unwrap_or_default());
        rolled.rollback = Some(id.clone());
        let rollback = Deployment {
            id: id.clone(),
            description: "CodeDeploy rolled back your deployment".into(),
            creator: "codeDeployRollback",
            created: now,
            completed: None,
            status: "InProgress",
            phase: Phase::Rollback,
            since: now,
            target: "InProgress",
            error: None,
            ready: None,
            moved: None,
            failed_in: None,
            hooks: BTreeMap::new(),
            called: Vec::new(),
            shifted: false,
            rollback: None,
            rolls_back: Some(of.to_owned()),
            canaried: false,
            ..rolled.clone()
        };
        self.codedeploy.deployments.insert(of.to_owned(), rolled);
        self.codedeploy.deployments.insert(id.clone(), rollback);
        self.make_primary(&service, &blue);
        self.scale_to_zero(&service, &green);
        self.after(STEP, Timer::Deployment(id));
    }
}
