//! How a target stands: what a decision is told of it.

use crate::targets::codedeploy::{self, Context};
use crate::targets::ecs;
use crate::targets::phase::{Observed, Phase};
use crate::targets::site::{Moment, Purpose};
use crate::targets::target::{Asking, Kind, Target};
use crate::targets::words;
use crate::time::Time;

impl Target {
    fn context<'a>(&'a self, moment: &Moment) -> Context<'a> {
        Context {
            now: moment.now,
            stopped_by_us: self.asked.is_some() || moment.takes_back(),
            before: self.before.as_deref(),
            current: self.current_by_now(),
            replaced: self.dead.replaced(),
        }
    }

    /// What has its traffic, as far as that was seen late enough.
    fn current_by_now(&self) -> Option<&str> {
        match self.back_over() {
            // What cannot be seen is not waited for.
            Some(_) if self.failed.is_some() => Some(self.current.as_deref().unwrap_or_default()),
            Some(over) if self.traffic_read < over => None,
            Some(_) | None => self.current.as_deref(),
        }
    }

    /// What failed here, in words.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.failed.as_ref().map(|why| why.message.clone())
    }

    /// When ECS's way back was seen to have come to its end without success: what is known of its traffic from before tells nothing.
    pub(super) fn back_over(&self) -> Option<Time> {
        match &self.kind {
            Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) => None,
            Kind::Ecs(native) => native.tried()?.back_over,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self, moment: &Moment) -> Phase {
        if self.deployment().is_none()
            && let Some(why) = &self.failed
        {
            return Phase::Failed { what: why.message.clone() };
        }
        if let Some(by) = &self.overtaken {
            return Phase::Failed { what: words::overtaken(by) };
        }
        let phase = match &self.kind {
            Kind::Unknown => Phase::Unknown,
            Kind::Absent => Phase::Failed { what: self.broken().unwrap_or_default() },
            Kind::Codedeploy(group) => group.phase(&self.context(moment)),
            Kind::Ecs(native) => native.phase(&self.context(moment)),
        };
        let is_prepared = self.definition.is_some() && self.waits().is_some() && !self.lacks_its_turn();
        match phase {
            Phase::Empty | Phase::Busy { .. } | Phase::Same if self.may_appear() => Phase::Unknown,
            Phase::Empty if !is_prepared && moment.purpose == Purpose::Deploy => Phase::Unknown,
            other => other,
        }
    }

    /// What a decision is told of it.
    #[must_use]
    pub fn observed(&self, moment: &Moment) -> Observed {
        let phase = self.phase(moment);
        // A stop that came too late is over with what it came too late for: its way back is another thing.
        let is_too_late = |asking| asking == Asking::Stop && matches!(phase, Phase::Done | Phase::Stranded { .. });
        let asked = self.asked.filter(|(_, asking)| !is_too_late(*asking)).map(|(at, _)| at);
        Observed {
            phase,
            behind_barrier: self.waits() == Some(true),
            is_proven: self.is_proven(moment),
            waits_for_health: self.waits_for_health(),
            timeout: self.site.service.timeout.0,
            wait_for_group: self.site.service.wait_for_group.0,
            asked,
            broken: self.broken(),
            dying: self.dying(),
            was_stopped: self.was_stopped(),
            first_death: self.dead.own().next().and_then(|task| task.stopped),
        }
    }

    /// Whether its new tasks have shown that they stay up. Where nobody asks them, they must have run for a while, and none of them died
    /// meanwhile: a worker that dies at its start runs for a moment, too, and that is all that ECS looks at. How long a task takes to start is
    /// no matter of that: on Fargate it may be a minute.
    fn is_proven(&self, moment: &Moment) -> bool {
        let Kind::Ecs(native) = &self.kind else { return true };
        let Some(tried) = native.tried() else { return true };
        if native.is_balanced {
            return !self.waits_for_health();
        }
        let has_run = tried.runs_since.is_some_and(|since| self.dead.seen >= since.plus(codedeploy::STEADY));
        has_run && !self.context(moment).is_shaken(false)
    }

    /// Whether its old tasks may go first, and ECS has not called it successful yet, which it does when its target groups find it healthy:
    /// nothing else tells what they find.
    fn waits_for_health(&self) -> bool {
        let Kind::Ecs(native) = &self.kind else { return false };
        let is_known = |tried: &ecs::Tried| tried.deployment.stage.is_some() || tried.deployment.status.is_over();
        native.is_balanced && native.stops_first && native.tried().is_some_and(|tried| !is_known(tried))
    }

    fn was_stopped(&self) -> bool {
        self.dead.tasks.is_empty()
            && self.failed.is_none()
            && match &self.kind {
                Kind::Unknown | Kind::Absent => false,
                Kind::Codedeploy(group) => group.tried().is_some_and(|tried| tried.deployment.was_stopped()),
                Kind::Ecs(native) => native.tried().is_some_and(|tried| tried.deployment.was_stopped()),
            }
    }

    /// That too many of its new tasks have died; those whose machine was taken from them have not died of the version.
    fn dying(&self) -> Option<String> {
        let most = usize::try_from(self.site.service.max_failed_tasks).unwrap_or(usize::MAX);
        let dead = self.dead.own().count();
        let how = self.dead.first_end();
        (dead > most).then(|| words::dying(dead, most, how.as_ref(), self.dead.ill.as_deref()))
    }
}
