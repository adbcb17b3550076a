//! The quick way back: while a release's old tasks still wait, stopping its deployments brings the traffic back to them within
//! seconds (facts 30, 31, 45). Nothing is registered, placed or waited for.
//!
//! Invariants: nothing is stopped unless what the traffic goes back to is the very image that is to run; it is of web services alone,
//! and of all of them: whoever sees that it was begun at one brings it to its end at all.

pub mod mark;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use crate::aws::Aws;
use crate::aws::ecs::id;
use crate::error::Error;
use crate::job::Release;
use crate::manifest::{Manifest, ServiceKind};
use crate::targets::look::look;
use crate::targets::phase::{Act, Observed, Phase, take_back};
use crate::targets::site::{Moment, Of, Purpose, Site, Whose};
use crate::targets::target::{Kind, Target};
use crate::text::fit;
use crate::time::{Time, spoken};

/// What is written when it is not known: a value must not be empty (fact 2).
pub const UNKNOWN: &str = "unknown";

/// The release that runs, whose deployments are stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// Its pipeline.
    pub pipeline: String,
    /// Its execution.
    pub execution: String,
    /// When its action that deploys began: none of its deployments is older.
    pub began: Time,
    /// Its image, where it is known: ECS's own deployments are told by it, also when the next release has registered a revision since.
    pub image: Option<String>,
}

impl Runs {
    /// As one action tells another, and a configuration value can hold it.
    #[must_use]
    pub fn written(&self) -> String {
        let image = self.image.as_ref().map_or_else(String::new, |image| format!(" {image}"));
        format!("{} {} {}{image}", self.pipeline, self.execution, self.began.millis())
    }

    /// Reads what was written; `None` of anything else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (pipeline, execution) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let began = Time::from_millis(parts.next()?.parse().ok()?);
        // Of an earlier version there is none.
        let image = parts.next().map(str::to_owned);
        let is_image = image.as_ref().is_none_or(|image| image.contains(['/', ':', '@']));
        let is_whole = is_image && parts.next().is_none() && !pipeline.is_empty() && !execution.is_empty();
        is_whole.then_some(Self { pipeline, execution, began, image })
    }

    /// Whose deployments are looked for.
    #[must_use]
    pub fn whose(&self) -> Whose {
        let (pipeline, execution) = (self.pipeline.clone(), self.execution.clone());
        Whose {
            release: Release { pipeline, execution, stage: None, action: None, attempt: 1 },
            of: Of::Release { facts: BTreeSet::new(), facts_until: None, until: None, ended: None },
            since: self.began,
            image: self.image.clone(),
        }
    }
}

/// How long it may take to see how the targets stand; after that, a deployment is begun.
const SEEN: Duration = Duration::from_secs(30);

/// How long all of it may take from its begin on: what AWS scaled down is started again, at the worst. What is not back by then needs
/// a person.
const BACK_WITHIN: Duration = Duration::from_secs(60 * 60);

/// By how much the clocks of CodePipeline, CodeDeploy and ECS may differ.
const SKEW: Duration = Duration::from_secs(5);

/// How much of a reason is said, in characters.
const LONGEST_WHY: usize = 200;

/// A target, and what it would go back to.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub observed: Observed,
    /// The image that ran before, once it is known.
    pub before: Option<String>,
    /// Why it never will be.
    pub unreadable: Option<String>,
    /// Whether it had begun to go back before this way back began: by an alarm, or by hand.
    pub by_another: bool,
    /// Whether it goes back, and it was not read yet since when.
    pub is_unread: bool,
    /// The revision that runs where it had gone back, when somebody has deployed another one since.
    pub runs: Option<String>,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Look again.
    Look,
    /// It is not open, for this reason.
    Closed(String),
    /// Do this, then look again.
    Go(Vec<Act>),
    /// Everything is back.
    Back,
    /// These could not be brought back.
    Stuck(Vec<Stuck>),
}

/// A target whose traffic is not back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Its name.
    pub name: String,
    /// Why.
    pub what: String,
}

/// Decides; `image` is what is to run, and `begun` says since when it goes this way, if that was decided before.
#[must_use]
pub fn decide(seen: &[Seen], image: Option<&str>, begun: Option<Time>, waited: Duration, now: Time) -> Decision {
    let observed: Vec<_> = seen.iter().map(|one| one.observed.clone()).collect();
    if begun.is_none() {
        match is_open(seen, image) {
            Open::Yes => {}
            // What was begun is not given up because it cannot be seen.
            Open::Unknown if is_begun(seen, image) || waited <= SEEN => return Decision::Look,
            Open::Unknown => return Decision::Closed("how the deployments stand cannot be seen".into()),
            Open::No(why) => return Decision::Closed(fit(&why, LONGEST_WHY)),
        }
    }
    let took = begun.map_or(Duration::ZERO, |begun| now.since(begun));
    if took <= BACK_WITHIN
        && let Some(acts) = take_back(&observed, now)
    {
        return Decision::Go(acts);
    }
    // One look that was refused tells nothing; what cannot be seen for long is broken.
    if observed.iter().any(|one| matches!(one.phase, Phase::Unknown) && one.broken.is_none()) {
        return Decision::Go(Vec::new());
    }
    let stuck = seen.iter().filter_map(|one| {
        let what = match &one.observed.phase {
            Phase::RolledBack => return None,
            Phase::Stuck { what } | Phase::Failed { what } => what.clone(),
            _ => one.observed.broken.clone().unwrap_or_else(|| format!("it is not back after {}", spoken(took))),
        };
        Some(Stuck { name: one.name.clone(), what })
    });
    let stuck: Vec<_> = stuck.collect();
    if stuck.is_empty() { Decision::Back } else { Decision::Stuck(stuck) }
}

/// Whether something that had succeeded goes back, or has.
fn goes_back(phase: &Phase) -> bool {
    matches!(phase, Phase::RollingBack { .. } | Phase::BackWaits | Phase::RolledBack)
}

/// Whether something goes back already. What brings another image back is no part of it: a deployment's own way back, say; nor what an
/// alarm or a person had taken back before.
fn is_begun(seen: &[Seen], image: Option<&str>) -> bool {
    let seen = || seen.iter().filter(|one| !one.by_another);
    let leads_there = |one: &Seen| match one.before.as_deref() {
        Some(before) => Some(before) == image,
        None => one.unreadable.is_none(),
    };
    seen().any(|one| goes_back(&one.observed.phase) && leads_there(one))
}

enum Open {
    Yes,
    Unknown,
    No(String),
}

/// Whether stopping what runs reaches the image everywhere. One that was stopped already, by a function before this one or by hand,
/// does not close it.
fn is_open(seen: &[Seen], image: Option<&str>) -> Open {
    let Some(image) = image else { return Open::No("the release names no image of its own".into()) };
    if seen.is_empty() {
        return Open::No("it has no web service".into());
    }
    let mut open = Open::Yes;
    let is_begun = is_begun(seen, Some(image));
    for one in seen {
        match &one.observed.phase {
            Phase::Unknown => open = Open::Unknown,
            _ if one.is_unread => open = Open::Unknown,
            Phase::RolledBack if one.runs.is_some() => {
                let runs = one.runs.as_deref().unwrap_or_default();
                return Open::No(format!("{} had gone back, and {runs} runs there by now", one.name));
            }
            Phase::Done if !is_begun => return Open::No(format!("the old tasks of {} are gone", one.name)),
            Phase::Done | Phase::Moved | Phase::RollingBack { .. } | Phase::RolledBack | Phase::BackWaits => {
                match &one.before {
                    None if one.unreadable.is_some() => {
                        let why = one.unreadable.as_deref().unwrap_or_default();
                        return Open::No(format!("what ran before at {} cannot be read: {why}", one.name));
                    }
                    None => open = Open::Unknown,
                    Some(before) if before != image => {
                        return Open::No(format!("before what runs, {} ran another version", one.name));
                    }
                    Some(_) => {}
                }
            }
            Phase::Same
            | Phase::Empty
            | Phase::Busy { .. }
            | Phase::Going
            | Phase::Held
            | Phase::Ready
            | Phase::Shifting => {
                return Open::No(format!(
                    "{} has no deployment of the release that runs, which could be stopped",
                    one.name
                ));
            }
            // What cannot be brought back by itself does not keep the others from it, once they are on their way.
            Phase::Over { .. } | Phase::Stranded { .. } | Phase::Stuck { .. } if is_begun => {}
            Phase::Between
            | Phase::Failed { .. }
            | Phase::Over { .. }
            | Phase::Stranded { .. }
            | Phase::Stuck { .. } => {
                return Open::No(format!(
                    "{} has no deployment of the release that runs, which could be stopped",
                    one.name
                ));
            }
        }
    }
    open
}

/// The quick way, as one invocation knows it.
#[derive(Debug)]
pub struct Quick {
    /// The release that runs.
    pub runs: Runs,
    /// Its targets.
    pub targets: Vec<Target>,
    /// By target: the image that its revision before has, or why that cannot be read.
    before: Vec<Option<Result<String, String>>>,
    image: Option<String>,
    /// When the first action began that may have gone it.
    since: Time,
}

impl Quick {
    /// The web services of what is to run, in all their environments; `since` is when the first action began that may have gone this way.
    pub async fn new(aws: &Aws, runs: Runs, manifest: &Manifest, image: Option<String>, since: Time) -> Self {
        let mut targets = Vec::new();
        for (name, service) in manifest.services.iter().filter(|(_, service)| service.kind == ServiceKind::Web) {
            for environment in manifest.environments_of(service.environments.as_ref()) {
                targets.push(Target::new(Site::new(aws, environment, (name, service)).await, 0));
            }
        }
        Self { runs, before: vec![None; targets.len()], targets, image, since }
    }

    /// Looks at every target, and decides: `begun` is as for [`decide`], which has waited for so long.
    ///
    /// # Errors
    /// What ran before cannot be read.
    pub async fn look(
        &mut self,
        aws: &Aws,
        now: Time,
        begun: Option<Time>,
        waited: Duration,
    ) -> Result<Decision, Error> {
        let moment = self.moment(now);
        look(&mut self.targets, aws, &moment, &self.runs.whose()).await;
        if begun.is_none() {
            self.look_at_images().await?;
        }
        Ok(decide(&self.seen(&moment), self.image.as_deref(), begun, waited, now))
    }

    /// Decides from what was seen last, of what was begun at that time: what cannot be seen any more does not close it.
    #[must_use]
    pub fn go_on(&self, now: Time, begun: Time) -> Decision {
        decide(&self.seen(&self.moment(now)), self.image.as_deref(), Some(begun), Duration::ZERO, now)
    }

    /// Forgets what was seen: another release has had the turn to deploy meanwhile.
    pub fn look_anew(&mut self) {
        for (target, before) in self.targets.iter_mut().zip(&mut self.before) {
            (*target, *before) = (Target::new(target.site.clone(), 0), None);
        }
    }

    /// When it is looked, and what for: what is stopped then, was stopped by us.
    #[must_use]
    pub fn moment(&self, now: Time) -> Moment {
        Moment::new(now, Purpose::Sweep)
    }

    fn seen(&self, moment: &Moment) -> Vec<Seen> {
        let one = |(target, before): (&Target, &Option<Result<String, String>>)| Seen {
            name: target.name(),
            observed: target.observed(moment),
            before: before.clone().and_then(Result::ok),
            unreadable: before.clone().and_then(Result::err),
            by_another: target.went_back().is_some_and(|at| at < self.since.before(SKEW)),
            is_unread: target.lacks_its_rollback(),
            runs: Self::runs_another(target),
        };
        self.targets.iter().zip(&self.before).map(one).collect()
    }

    /// Whether it was begun, as was seen last: something that had succeeded goes back, or has.
    #[must_use]
    pub fn is_begun(&self, now: Time) -> bool {
        is_begun(&self.seen(&self.moment(now)), self.image.as_deref())
    }

    /// Where another revision runs by now than the one that it went back to, and which: somebody has deployed since.
    #[must_use]
    pub fn runs_another(target: &Target) -> Option<String> {
        let runs = match &target.kind {
            Kind::Unknown | Kind::Absent => return None,
            Kind::Codedeploy(_) => target.current.as_deref()?,
            Kind::Ecs(native) => id(&native.had),
        };
        let is_known = target.before.as_deref() == Some(runs) || target.tried().as_deref() == Some(runs);
        (!is_known && !runs.is_empty()).then(|| runs.to_owned())
    }

    /// Which image each target's revision before has. One that is deleted by now, or that may not be read, closes the quick way, and what is
    /// deployed needs it no more.
    async fn look_at_images(&mut self) -> Result<(), Error> {
        let unread = self.targets.iter().zip(&mut self.before).filter(|(_, before)| before.is_none());
        let read = join_all(unread.map(async |(target, image)| {
            let Some(before) = target.before.as_ref().filter(|_| target.deployment().is_some()) else { return Ok(()) };
            let container = &target.site.service.container;
            *image = match target.site.ecs.definition(before).await {
                Ok(definition) => {
                    let own = definition.containers.into_iter().find(|one| one.name == *container);
                    Some(own.map(|one| one.image).ok_or_else(|| format!("{before} has no container `{container}`")))
                }
                Err(Error::Stop(why)) => Some(Err(why.message)),
                Err(again @ Error::Again(_)) => return Err(again),
            };
            Ok::<_, Error>(())
        }))
        .await;
        read.into_iter().collect()
    }

    /// Does what was decided, at every target at once.
    ///
    /// Safe to repeat: see the acts.
    pub async fn act(&mut self, acts: &[Act], now: Time, may: &impl AsyncFn(&Act) -> Result<bool, Error>) {
        let (whose, moment) = (self.runs.whose(), self.moment(now));
        join_all(self.targets.iter_mut().enumerate().map(async |(at, target)| {
            for act in acts.iter().filter(|act| act.at() == at) {
                target.act(act, &moment, &whose, may).await;
            }
        }))
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_read_as_it_was_written_and_nothing_else_is() {
        let runs = Runs {
            pipeline: "cutover-pipeline".into(),
            execution: "5f0e".into(),
            began: Time::from_millis(1_700_000_000_123),
            image: None,
        };
        let with_image = Runs { image: Some("registry.example/shop:2.0".into()), ..runs.clone() };
        for runs in [runs, with_image] {
            assert_eq!(Runs::read(&runs.written()), Some(runs));
        }
        for text in ["", UNKNOWN, "a b", "a b c", " b 1", "a  1", "a b 1 2", "a b 1 r/i:1 3", "#{Check.Runs}"] {
            assert_eq!(Runs::read(text), None, "{text:?}");
        }
    }

    const IMAGE: &str = "registry.example/shop:1";

    fn one(phase: Phase) -> Seen {
        let hour = Duration::from_secs(3600);
        let observed = Observed {
            phase,
            behind_barrier: true,
            is_proven: true,
            waits_for_health: false,
            timeout: hour,
            wait_for_group: hour,
            asked: None,
            broken: None,
            dying: None,
            was_stopped: false,
            first_death: None,
        };
        let (name, before) = ("us/web".into(), Some(IMAGE.into()));
        Seen { name, observed, before, unreadable: None, by_another: false, is_unread: false, runs: None }
    }

    const NOW: Time = Time::from_millis(10_000_000);

    fn decided(seen: &[Seen], begun: bool) -> Decision {
        decide(seen, Some(IMAGE), begun.then_some(NOW), Duration::from_secs(1), NOW)
    }

    #[test]
    fn everything_is_stopped_at_once_or_nothing() {
        let stop = |at| Act::Stop { at };
        let both = [one(Phase::Moved), one(Phase::Moved)];
        assert_eq!(decided(&both, false), Decision::Go(vec![stop(0), stop(1)]));
        let why = |phase| match decided(&[one(Phase::Moved), one(phase)], false) {
            Decision::Closed(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(Phase::Done), "the old tasks of us/web are gone");
        for phase in [Phase::Empty, Phase::Busy { with: "d-1".into(), frees: None }, Phase::Shifting, Phase::Ready] {
            assert_eq!(why(phase), "us/web has no deployment of the release that runs, which could be stopped");
        }
        let other = Seen { before: Some("registry.example/shop:0".into()), ..one(Phase::Moved) };
        let closed = Decision::Closed("before what runs, us/web ran another version".into());
        assert_eq!(decided(&[one(Phase::Moved), other], false), closed);
        assert_eq!(decided(&[], false), Decision::Closed("it has no web service".into()));
    }

    #[test]
    fn where_somebody_has_deployed_over_what_went_back_nothing_else_goes_back_quickly() {
        let over = Seen { runs: Some("shop-web:7".into()), ..one(Phase::RolledBack) };
        let closed = Decision::Closed("us/web had gone back, and shop-web:7 runs there by now".into());
        for (seen, begun, expected) in [
            (vec![over.clone(), one(Phase::Moved)], false, closed.clone()),
            (vec![Seen { by_another: true, ..over.clone() }, one(Phase::Moved)], false, closed.clone()),
            (vec![over.clone(), one(Phase::RolledBack)], false, closed),
            (vec![over, one(Phase::RolledBack)], true, Decision::Back),
        ] {
            assert_eq!(decided(&seen, begun), expected);
        }
    }

    #[test]
    fn a_revision_before_that_is_deleted_by_now_closes_the_quick_way_and_fails_nothing() {
        for phase in [Phase::Moved, Phase::RollingBack { what: None }] {
            let gone = Seen { before: None, unreadable: Some("it is gone".into()), ..one(phase) };
            let closed = Decision::Closed("what ran before at us/web cannot be read: it is gone".into());
            assert_eq!(decided(&[gone], false), closed);
        }
    }

    #[test]
    fn what_brings_another_image_back_is_no_quick_way_that_was_begun() {
        for phase in [Phase::BackWaits, Phase::RollingBack { what: None }, Phase::RolledBack] {
            let own = Seen { before: Some("registry.example/shop:2".into()), ..one(phase.clone()) };
            assert!(!is_begun(&[own, one(Phase::Done)], Some(IMAGE)), "{phase:?}");
            assert!(is_begun(&[one(phase.clone())], Some(IMAGE)), "{phase:?}");
            assert!(
                is_begun(&[Seen { before: None, ..one(phase.clone()) }], Some(IMAGE)),
                "it is not known to be another"
            );
            // An alarm has taken one back, weeks ago; the others run what was released.
            let by_alarm = Seen { by_another: true, ..one(phase.clone()) };
            assert!(!is_begun(std::slice::from_ref(&by_alarm), Some(IMAGE)), "{phase:?}");
            let closed = Decision::Closed("the old tasks of us/web are gone".into());
            assert_eq!(decided(&[by_alarm.clone(), one(Phase::Done)], false), closed);
            let stop = Decision::Go(vec![Act::Stop { at: 1 }]);
            let go = decided(&[by_alarm, one(Phase::Moved)], false);
            assert!(phase == Phase::BackWaits || go == stop, "{phase:?} {go:?}");
        }
    }

    #[test]
    fn what_is_not_seen_yet_is_waited_for_and_not_for_ever() {
        let unread = Seen { before: None, ..one(Phase::Moved) };
        for seen in [vec![one(Phase::Unknown), one(Phase::Moved)], vec![unread]] {
            assert_eq!(decided(&seen, false), Decision::Look);
            let late = decide(&seen, Some(IMAGE), None, Duration::from_secs(31), NOW);
            assert_eq!(late, Decision::Closed("how the deployments stand cannot be seen".into()));
        }
    }

    #[test]
    fn what_was_begun_is_brought_to_its_end_also_where_the_old_tasks_have_gone_meanwhile() {
        let begun = [one(Phase::RollingBack { what: None }), one(Phase::Done), one(Phase::Moved)];
        for knows in [true, false] {
            let rest = vec![Act::Back { at: 1 }, Act::Stop { at: 2 }];
            assert_eq!(decided(&begun, knows), Decision::Go(rest), "also when who has begun it died");
        }
        assert_eq!(decided(&[one(Phase::RolledBack), one(Phase::RolledBack)], true), Decision::Back);
        let stuck = [one(Phase::RolledBack), one(Phase::Stuck { what: "its rollback failed".into() })];
        let what = |what: &str| vec![Stuck { name: "us/web".into(), what: what.into() }];
        assert_eq!(decided(&stuck, true), Decision::Stuck(what("its rollback failed")));
        let half =
            [one(Phase::RolledBack), one(Phase::Moved), one(Phase::Stuck { what: "its rollback failed".into() })];
        assert_eq!(decided(&half, false), Decision::Go(vec![Act::Stop { at: 1 }]), "the function that began it died");
        let unseen = [one(Phase::RolledBack), one(Phase::Unknown)];
        let long = Duration::from_secs(600);
        assert_eq!(decide(&unseen, Some(IMAGE), None, long, NOW), Decision::Look, "half of it is no end");
        let hours = decide(&unseen, Some(IMAGE), Some(NOW), long, NOW.plus(BACK_WITHIN * 2));
        assert_eq!(hours, Decision::Go(vec![]), "one look that was refused calls for nobody");
        // A deployment whose tasks never start.
        let waits = [one(Phase::RolledBack), one(Phase::RollingBack { what: None })];
        let after = |seconds| {
            let now = NOW.plus(BACK_WITHIN + Duration::from_secs(seconds));
            decide(&waits, Some(IMAGE), Some(NOW), Duration::from_secs(9_000), now)
        };
        assert_eq!(after(0), Decision::Go(vec![]), "however long it had waited for its turn before");
        assert_eq!(after(1), Decision::Stuck(what("it is not back after 1 h 00 min")));
    }
}
