//! Doing at a target what was decided.
//!
//! Invariant: whether it may be done still is asked right before each write.

use std::cell::Cell;

use crate::aws::SHOWN;
use crate::aws::codedeploy::Wait;
use crate::aws::ecs::id;
use crate::error::{Error, Verdict};
use crate::targets::codedeploy::{Begun, Standing};
use crate::targets::phase::{Act, Frees};
use crate::targets::site::{Moment, Whose};
use crate::targets::target::{Asking, Kind, Target};

impl Target {
    /// Does what was decided, if it `may` be done still: that is asked right before each write, since many wait for each other, and what
    /// is read before a way back takes its time.
    pub async fn act(
        &mut self,
        act: &Act,
        moment: &Moment,
        whose: &Whose,
        may: &impl AsyncFn(&Act) -> Result<bool, Error>,
    ) {
        let acted = match act {
            Act::Back { .. } => self.bring_back(moment, whose, &async || may(act).await).await,
            _ => match may(act).await {
                Ok(true) => self.act_now(act, moment, whose).await,
                Ok(false) => return,
                Err(error) => Err(error),
            },
        };
        // A look that goes well does not make up for an act that never does.
        let noted = self.acting.note(moment.now, acted);
        self.failed_unless(noted);
    }

    async fn act_now(&mut self, act: &Act, moment: &Moment, whose: &Whose) -> Result<(), Error> {
        match act {
            Act::Begin { .. } => self.begin(moment, whose).await,
            Act::Free { how, .. } => self.free(how).await,
            Act::Continue { .. } => self.go_on(moment).await,
            Act::Stop { .. } => self.stop(moment).await,
            // See `act`.
            Act::Back { .. } => Ok(()),
        }
    }

    async fn begin(&mut self, moment: &Moment, whose: &Whose) -> Result<(), Error> {
        let Some(definition) = self.definition.clone().filter(|_| !self.lacks_its_turn()) else { return Ok(()) };
        let before = self.before_revision();
        let asked = moment.by_now();
        (self.created, self.unlisted) = (Some(asked), Some(asked.plus(SHOWN)));
        match &mut self.kind {
            Kind::Unknown | Kind::Absent => {}
            Kind::Codedeploy(group) => {
                let begun = group.begin(&self.site, whose, &definition, before).await?;
                self.created = None;
                match begun {
                    // What keeps it busy is another one, or is this one and not listed yet.
                    Begun::Known if matches!(group.standing, Standing::None(Some(_))) => self.unlisted = None,
                    Begun::Known => {}
                    // It is not asked for again before lists must show it.
                    Begun::Unlisted(why) => return Err(why),
                    Begun::NotNow(why) => {
                        self.unlisted = None;
                        return Err(why);
                    }
                }
            }
            Kind::Ecs(native) => native.begin(&self.site, &definition).await?,
        }
        Ok(())
    }

    /// Safe to repeat: see the calls.
    async fn free(&mut self, how: &Frees) -> Result<(), Error> {
        match (how, &mut self.kind) {
            (Frees::EndOfWait(deployment), _) => self.release(deployment).await,
            (Frees::Stop(deployment), Kind::Codedeploy(group)) => group.stop_other(deployment).await,
            (Frees::Stop(deployment), Kind::Ecs(native)) => native.stop_other(&self.site, deployment).await,
            (Frees::WayBack { deployment, .. }, Kind::Codedeploy(group)) => {
                group.client.go_on(deployment, Wait::Ready).await
            }
            (Frees::WayBack { deployment, pause: Some(pause) }, Kind::Ecs(_)) => {
                self.site.ecs.continue_deployment(deployment, pause).await
            }
            (Frees::Stop(_) | Frees::WayBack { .. }, Kind::Unknown | Kind::Absent) => Ok(()),
            (Frees::WayBack { pause: None, .. }, Kind::Ecs(_)) => Ok(()),
        }
    }

    /// Safe to repeat: see the call.
    async fn release(&self, deployment: &str) -> Result<(), Error> {
        match &self.kind {
            Kind::Codedeploy(group) => group.client.go_on(deployment, Wait::Termination).await,
            // Nothing ends a bake time early.
            Kind::Unknown | Kind::Absent | Kind::Ecs(_) => Ok(()),
        }
    }

    /// Ends the wait of the release's deployment for its old tasks (fact 30); ECS's own bake time nothing ends early.
    ///
    /// Safe to repeat: see the call.
    ///
    /// # Errors
    /// The call's.
    pub async fn end_wait(&self) -> Result<(), Error> {
        match (&self.kind, self.deployment()) {
            (Kind::Codedeploy(_), Some(deployment)) => self.release(deployment).await,
            _ => Ok(()),
        }
    }

    async fn go_on(&mut self, moment: &Moment) -> Result<(), Error> {
        match &mut self.kind {
            Kind::Unknown | Kind::Absent => Ok(()),
            Kind::Codedeploy(group) => group.go_on().await,
            Kind::Ecs(native) => native.go_on(&self.site, moment.now).await,
        }
    }

    async fn stop(&mut self, moment: &Moment) -> Result<(), Error> {
        if self.failed.is_some() {
            // Whether this succeeds or not: it is asked for once, so that the action can end.
            self.asked = Some((moment.now, Asking::Stop));
        }
        match &self.kind {
            Kind::Unknown | Kind::Absent => {}
            Kind::Codedeploy(group) => group.stop().await?,
            Kind::Ecs(native) => native.stop(&self.site).await?,
        }
        self.asked = Some((moment.now, Asking::Stop));
        Ok(())
    }

    async fn bring_back(
        &mut self,
        moment: &Moment,
        whose: &Whose,
        may: &impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let Some(before) = self.before.clone() else {
            self.asked = self.failed.as_ref().map(|_| (moment.now, Asking::Back)).or(self.asked);
            let why = "its traffic is on the new version, and the revision before is not known";
            return Err(Verdict::failed(why).into());
        };
        // CodeDeploy takes a second one once the first is over.
        if matches!(self.kind, Kind::Codedeploy(_)) && self.may_come_back() {
            return Ok(());
        }
        if self.failed.is_some() {
            // As for a stop: it is asked for once, also where it cannot be, so that the action can end.
            self.asked = Some((moment.now, Asking::Back));
        }
        // Another release, or a person, may have deployed since: whoever waited for this one to be over did so first.
        let name = &self.site.ecs_service;
        let services = self.site.ecs.services(self.site.cluster(), std::slice::from_ref(name)).await?;
        let runs = services.get(name).map(|seen| id(&seen.definition).to_owned()).unwrap_or_default();
        let is_its = |tried: String| tried == runs || before == runs;
        if !runs.is_empty() && !self.tried().is_none_or(is_its) {
            self.overtaken = Some(runs);
            return Ok(());
        }
        let is_asked = Cell::new(false);
        let may = async || {
            let may = may().await?;
            is_asked.set(may);
            Ok(may)
        };
        let brought = match &mut self.kind {
            Kind::Unknown | Kind::Absent => Ok(true),
            Kind::Codedeploy(group) => {
                if let Some(seen) = services.get(name) {
                    group.note_placement(seen);
                }
                group.bring_back(&self.site, whose, &before, &may).await
            }
            Kind::Ecs(native) => native.bring_back(&self.site, &before, &may).await,
        };
        // As for a stop: where something failed, it is asked for once, whether that succeeds or not.
        if matches!(brought, Ok(true)) || (self.failed.is_some() && is_asked.get()) {
            self.asked = Some((moment.now, Asking::Back));
            self.unlisted = Some(moment.by_now().plus(SHOWN));
        }
        brought.map(drop)
    }
}
