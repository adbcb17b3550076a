//! The stages of a deployment whose traffic is shifted, and the way back: what ECS does by itself, tick by tick.

use std::time::Duration;

use super::{BAKE_TIME, CLEAN_UP, HookRun, PRE_PRODUCTION, PRODUCTION, Rollout, SCALE_UP, STAGES, STEP};
use crate::account::{self, OnTimeout, Strategy};
use crate::world::{Effect, Timer, World};

impl World {
    /// Enters a stage: its hooks are run, and its pauses begin.
    pub(super) fn enter_stage(&mut self, arn: &str, stage: usize) {
        let Some(service) = self.ecs.rollouts.all.get(arn).map(|one| one.service.clone()) else { return };
        let Some((how, _)) = self.rollout_of(&service) else { return };
        let mut hooks = Vec::new();
        for hook in how.lifecycle_hooks.iter().filter(|hook| hook.stages.iter().any(|name| name == STAGES[stage])) {
            let id = format!("ecs-{}-{}", if hook.function.is_some() { "lambda" } else { "pause" }, self.hex());
            if let Some(function) = &hook.function {
                let (function, stage) = (function.clone(), STAGES[stage].to_owned());
                self.effects.push(Effect::CallHook { id: id.clone(), function, stage });
            }
            hooks.push(HookRun {
                id,
                function: hook.function.clone(),
                status: if hook.function.is_some() { "IN_PROGRESS" } else { "AWAITING_ACTION" },
                expires: self.now.plus(hook.timeout.0),
                on_timeout: hook.on_timeout,
            });
            self.after(hook.timeout.0, Timer::Rollout(arn.to_owned()));
        }
        let waits = hooks.iter().any(|hook| hook.function.is_none());
        self.change(arn, |one, now| {
            one.stage = Some(stage);
            one.since = now;
            one.stepped = false;
            one.hooks = hooks;
            if waits && stage <= PRE_PRODUCTION && one.traffic == 0 {
                one.ready.get_or_insert(now);
            }
        });
        if stage == SCALE_UP {
            self.start_new_tasks(arn);
        }
        self.after(STEP, Timer::Rollout(arn.to_owned()));
    }

    pub(super) fn step_stage(&mut self, one: &Rollout, stage: usize, how: &account::Rollout, desired: usize) {
        let now = self.now;
        let late = |hook: &&HookRun| matches!(hook.status, "AWAITING_ACTION" | "IN_PROGRESS") && hook.expires <= now;
        if let Some(hook) = one.hooks.iter().find(late).cloned() {
            self.change(&one.arn, |one, _| {
                for own in one.hooks.iter_mut().filter(|own| own.id == hook.id) {
                    own.status = "TIMED_OUT";
                }
            });
            return match hook.on_timeout {
                OnTimeout::Continue => self.step_rollout(&one.arn),
                OnTimeout::Rollback => {
                    self.roll_out_back(&one.arn, "Service deployment rolled back because a lifecycle hook timed out.");
                }
            };
        }
        if one.hooks.iter().any(|hook| hook.status == "FAILED") {
            return self.roll_out_back(&one.arn, "Service deployment rolled back because a lifecycle hook failed.");
        }
        let holds = one.hooks.iter().any(|hook| matches!(hook.status, "AWAITING_ACTION" | "IN_PROGRESS"));
        let waited = now.since(one.since);
        if holds || waited < STEP {
            return;
        }
        let (old, new) = (self.set_of(one.source.as_deref()), self.set_of(Some(&one.target)));
        match stage {
            SCALE_UP if self.set_tasks(&new).1 < desired => self.break_circuit(one, how),
            // Something died meanwhile: ECS waits for its replacement before it moves the traffic.
            PRE_PRODUCTION if self.set_tasks(&new).1 < desired => {}
            PRODUCTION => self.shift(one, &new, how, waited),
            BAKE_TIME if waited < how.bake_time.0 => {
                self.after(how.bake_time.0.saturating_sub(waited), Timer::Rollout(one.arn.clone()));
            }
            BAKE_TIME => {
                self.enter_stage(&one.arn, CLEAN_UP);
                self.scale_to_zero(&one.service, &old);
            }
            CLEAN_UP if self.set_tasks(&old).0 > 0 => {}
            CLEAN_UP => self.change(&one.arn, |one, now| one.end("SUCCESSFUL", now)),
            _ => self.enter_stage(&one.arn, stage + 1),
        }
    }

    /// Moves the traffic by a step, waits, and comes back to the stage before for the next one (fact 45).
    pub(super) fn shift(&mut self, one: &Rollout, new: &str, how: &account::Rollout, waited: Duration) {
        let step = u32::from(how.step_percent).clamp(1, 100);
        let next = match how.strategy {
            Strategy::BlueGreen | Strategy::Rolling => 100,
            Strategy::Canary if one.traffic == 0 => step,
            Strategy::Canary => 100,
            Strategy::Linear => (one.traffic + step).min(100),
        };
        // The first look at this stage moves; the next one, after the pause, leaves it.
        if !one.stepped {
            let is_all = next == 100;
            self.change(&one.arn, |one, now| {
                one.traffic = next;
                one.since = now;
                one.stepped = true;
                if is_all {
                    one.moved = Some(now);
                }
            });
            match is_all {
                true => self.make_primary(&one.service, new),
                false => self.share_traffic(&one.service, new, next),
            }
            let pause = if is_all { STEP } else { how.step_bake_time.0.max(STEP) };
            return self.after(pause, Timer::Rollout(one.arn.clone()));
        }
        let pause = if one.traffic == 100 { STEP } else { how.step_bake_time.0.max(STEP) };
        if waited >= pause {
            self.enter_stage(&one.arn, if one.traffic == 100 { PRODUCTION + 1 } else { PRE_PRODUCTION });
        }
    }

    /// Takes a deployment back, for this reason.
    pub(super) fn roll_out_back(&mut self, arn: &str, why: &str) {
        self.change(arn, |one, now| {
            one.status = "ROLLBACK_REQUESTED";
            one.reason = Some(why.to_owned());
            one.rollback = Some((now, why.to_owned()));
            for hook in one.hooks.iter_mut().filter(|hook| matches!(hook.status, "AWAITING_ACTION" | "IN_PROGRESS")) {
                hook.status = "FAILED";
            }
        });
        self.after(STEP, Timer::Rollout(arn.to_owned()));
    }

    pub(super) fn begin_rollback(&mut self, one: &Rollout) {
        let Some((how, desired)) = self.rollout_of(&one.service) else { return };
        let Some(source) = one.source.clone() else {
            return self.change(&one.arn, |one, now| one.end("ROLLBACK_FAILED", now));
        };
        let (mut old, new) = (self.set_of(Some(&source)), self.set_of(Some(&one.target)));
        let definition = self.ecs.rollouts.revisions.get(&source).map(|revision| revision.definition.clone());
        let definition = definition.unwrap_or_default();
        if let Some(service) = self.ecs.services.get_mut(&one.service) {
            service.definition.clone_from(&definition);
            if let Some(set) = service.sets.iter_mut().find(|set| set.id == old) {
                set.desired = desired;
            }
        }
        let lives =
            self.ecs.services.get(&one.service).is_some_and(|service| service.sets.iter().any(|set| set.id == old));
        if !lives {
            old = self.create_task_set(&one.service, &definition, Vec::new());
            if let Some(revision) = self.ecs.rollouts.revisions.get_mut(&source) {
                revision.set.clone_from(&old);
            }
        }
        self.change(&one.arn, |one, _| {
            one.status = "ROLLBACK_IN_PROGRESS";
            one.traffic = 0;
        });
        // Its old tasks are still there: the traffic goes back at once.
        if how.strategy != Strategy::Rolling && lives {
            self.make_primary(&one.service, &old);
            self.scale_to_zero(&one.service, &new);
        }
        self.reconcile(&one.service);
        self.after(STEP, Timer::Rollout(one.arn.clone()));
    }

    /// A function of the application's own has answered.
    pub(in crate::world) fn hooked(&mut self, id: &str, result: &Result<(), String>) {
        let of = |one: &&Rollout| one.hooks.iter().any(|hook| hook.id == id);
        if let Some(arn) = self.ecs.rollouts.all.values().find(of).map(|one| one.arn.clone()) {
            self.change(&arn, |one, _| {
                for hook in one.hooks.iter_mut().filter(|hook| hook.id == id && hook.status == "IN_PROGRESS") {
                    hook.status = if result.is_ok() { "SUCCEEDED" } else { "FAILED" };
                }
            });
            return self.step_rollout(&arn);
        }
        self.codedeploy_hooked(id, result);
    }
}
