//! The pointers to what was released, and the schedules that follow from them: written by a release when its traffic has moved
//! everywhere, written back when it is taken back.
//!
//! Invariants: what a pointer says is the truth, and the schedules of its environment are made what it says; a release writes
//! back only what it has written itself. Everything is looked at before it is written, and safe to repeat.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::jobs::DUE;
use super::released::{Kind, Released};
use super::schedules::Planned;
use crate::aws::scheduler::Wanted;
use crate::aws::{Aws, WorkerSettings};
use crate::error::Error;
use crate::job::Release;

/// The last part of the name of the pointer to an environment's schedules; no worker is called so.
const SCHEDULES: &str = ".schedules";

/// The pointers of a stack.
#[derive(Debug, Clone)]
pub struct Pointers<'a> {
    aws: &'a Aws,
    settings: &'a WorkerSettings,
}

/// What a release makes of an environment.
#[derive(Debug, Clone, Default)]
pub struct Intended {
    /// Its workers and tasks by the clock, by name.
    pub kinds: BTreeMap<String, Kind>,
    /// What runs by the clock.
    pub schedules: Vec<Planned>,
}

/// What all pointers of a stack say, as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// By environment and name.
    pub kinds: BTreeMap<(String, String), Released<Kind>>,
    /// By environment.
    pub schedules: BTreeMap<String, Released<Vec<Planned>>>,
}

impl Known {
    /// Parts what a release may write over from what another application has written that the stack serves, too: kinds and schedules that
    /// are not the release's, of a pipeline that is not either. The stack's own pipelines are of one application; another pipeline that
    /// has written something of the same name is taken for an earlier one of it.
    #[must_use]
    pub fn split(self, intended: &BTreeMap<String, Intended>, release: &Release, stack: &[String]) -> (Self, Self) {
        let is_stacks = |pipeline: &String| stack.contains(pipeline);
        let is_own =
            |writer: &String| *writer == release.pipeline || (is_stacks(writer) && is_stacks(&release.pipeline));
        let (own, others) = self.kinds.into_iter().partition(|((environment, name), one)| {
            let is_intended = || intended.get(environment).is_some_and(|intended| intended.kinds.contains_key(name));
            one.what.is_none() || is_own(&one.pipeline) || is_intended()
        });
        let (own_schedules, other_schedules) = self.schedules.into_iter().partition(|(environment, one)| {
            let intended = intended.get(environment).map(|intended| intended.schedules.as_slice()).unwrap_or_default();
            let is_intended = |planned: &Planned| intended.iter().any(|one| one.name == planned.name);
            is_own(&one.pipeline) || one.what.iter().flatten().all(is_intended)
        });
        (Self { kinds: own, schedules: own_schedules }, Self { kinds: others, schedules: other_schedules })
    }

    /// An environment of whose schedules these are another application's, where a release has some of its own, and the pipeline that has written
    /// them: an environment has one list.
    #[must_use]
    pub fn clash(&self, intended: &BTreeMap<String, Intended>) -> Option<(&str, &str)> {
        let has_own = |environment: &String| intended.get(environment).is_some_and(|one| !one.schedules.is_empty());
        let (environment, one) = self.schedules.iter().find(|(environment, _)| has_own(environment))?;
        Some((environment, &one.pipeline))
    }

    /// Whether any of them was written by this release.
    #[must_use]
    pub fn has_any_of(&self, release: &Release) -> bool {
        let own = |pipeline: &str, execution: &str| pipeline == release.pipeline && execution == release.execution;
        self.kinds.values().any(|one| own(&one.pipeline, &one.execution))
            || self.schedules.values().any(|one| own(&one.pipeline, &one.execution))
    }

    /// Whether they say all that a release makes of these environments, and nothing more: this try of it, or any.
    #[must_use]
    pub fn is(&self, intended: &BTreeMap<String, Intended>, release: &Release, key: Option<&str>) -> bool {
        intended.iter().all(|(environment, intended)| {
            let says = |(name, kind): (&String, &Kind)| {
                let said = self.kinds.get(&(environment.clone(), name.clone()));
                said.is_some_and(|said| *said == Released::by(release, key.unwrap_or(&said.key), Some(kind.clone())))
            };
            let mut own = self.kinds.iter().filter(|((at, _), _)| at == environment);
            let none_left = own.all(|((_, name), one)| one.what.is_none() || intended.kinds.contains_key(name));
            let schedules = match self.schedules.get(environment) {
                None => intended.schedules.is_empty(),
                Some(said) => {
                    *said == Released::by(release, key.unwrap_or(&said.key), Some(intended.schedules.clone()))
                }
            };
            intended.kinds.iter().all(says) && none_left && schedules
        })
    }
}

impl<'a> Pointers<'a> {
    /// Those of the stack, if it has any workers.
    #[must_use]
    pub fn new(aws: &'a Aws) -> Option<Self> {
        Some(Self { aws, settings: aws.settings().workers.as_ref()? })
    }

    /// The SSM parameter that tells an environment's schedules.
    #[must_use]
    pub fn schedules_of(&self, environment: &str) -> String {
        self.name(environment, SCHEDULES)
    }

    fn name(&self, environment: &str, name: &str) -> String {
        format!("{}/{environment}/{name}", self.settings.pointers)
    }

    fn group(&self, environment: &str) -> String {
        format!("{}{environment}", self.settings.schedules)
    }

    /// Reads them all.
    ///
    /// # Errors
    /// The call's, or that one cannot be read.
    pub async fn read(&self) -> Result<Known, Error> {
        // Without a slash at its end: so the role may read it, and SSM compares what is asked with what is allowed as they are written.
        self.read_below(&self.settings.pointers).await
    }

    /// Reads those of an environment: SSM answers ten at a time, and 40 calls a second of an account.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub async fn read_of(&self, environment: &str) -> Result<Known, Error> {
        self.read_below(&format!("{}/{environment}", self.settings.pointers)).await
    }

    async fn read_below(&self, asked: &str) -> Result<Known, Error> {
        let mut known = Known::default();
        let path = &self.settings.pointers;
        for (name, text) in self.aws.parameters(asked).await? {
            let below = name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
            let parts = below.and_then(|rest| rest.split_once('/'));
            match parts {
                Some((environment, SCHEDULES)) => {
                    known.schedules.insert(environment.to_owned(), Released::read(&name, &text)?);
                }
                Some((environment, kind)) => {
                    let key = (environment.to_owned(), kind.to_owned());
                    known.kinds.insert(key, Released::read(&name, &text)?);
                }
                None => {}
            }
        }
        Ok(known)
    }

    /// Writes what a release makes of these environments, and of no other; what is so already is left. Kinds that it has no more
    /// are written down as gone: their history stays.
    ///
    /// Safe to repeat: see above. As far as it `may` be written still, which is asked before each write.
    ///
    /// # Errors
    /// The calls', or that something does not fit.
    pub async fn publish(
        &self,
        known: &Known,
        intended: &BTreeMap<String, Intended>,
        (release, key): (&Release, &str),
        may: &impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        for (environment, intended) in intended {
            for (name, kind) in &intended.kinds {
                let new = Released::by(release, key, Some(kind.clone()));
                let place = (environment.clone(), name.clone());
                if known.kinds.get(&place) != Some(&new) {
                    let text = new.text(&format!("{environment}/{name}"))?;
                    if !may().await? {
                        return Ok(());
                    }
                    self.aws.put_parameter(&self.name(environment, name), &text).await?;
                }
            }
            let own = known.kinds.iter().filter(|((at, _), _)| at == environment);
            for ((_, name), released) in own.filter(|((_, name), _)| !intended.kinds.contains_key(name)) {
                if released.what.is_some() {
                    let text = Released::<Kind>::by(release, key, None).text(&format!("{environment}/{name}"))?;
                    if !may().await? {
                        return Ok(());
                    }
                    self.aws.put_parameter(&self.name(environment, name), &text).await?;
                }
            }
            let before = known.schedules.get(environment);
            if before.is_none() && intended.schedules.is_empty() {
                continue;
            }
            let new = Released::by(release, key, Some(intended.schedules.clone()));
            // The schedules first: as long as the pointer does not say so, they are set again.
            if before != Some(&new) {
                let text = new.text(&format!("{environment}, schedules"))?;
                if !self.schedule(environment, &intended.schedules, may).await? || !may().await? {
                    return Ok(());
                }
                self.aws.put_parameter(&self.name(environment, SCHEDULES), &text).await?;
            }
        }
        Ok(())
    }

    /// Writes back what the release has written, as far as its history goes: what it was before, or that there was none.
    ///
    /// A schedule says nothing of who has set it, so that one that is set late would stay. Until it has `settled` that nothing is on its way
    /// any more, a pointer of the release's is left in each environment, by which whoever comes here again knows it; and everything
    /// is set once more then.
    ///
    /// Safe to repeat: what is written back is no more the release's own. Whether it was to its end: as far as it `may` be written still,
    /// which is asked before each write.
    ///
    /// # Errors
    /// The calls'.
    pub async fn restore(
        &self,
        known: &Known,
        release: &Release,
        settled: bool,
        may: &impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let own = |execution: &str, pipeline: &str| execution == release.execution && pipeline == release.pipeline;
        let is_known = |environment: &str| {
            let schedules = known.schedules.get(environment);
            schedules.is_some_and(|one| own(&one.execution, &one.pipeline))
        };
        // The schedules first, also where their pointer does not say yet that they were set: once no pointer is the release's own, nobody
        // comes here again.
        let of_kinds = known.kinds.iter().filter(|(_, one)| own(&one.execution, &one.pipeline));
        let environments: BTreeSet<_> = of_kinds.map(|((environment, _), _)| environment).collect();
        for environment in environments.into_iter().filter(|environment| !is_known(environment)) {
            let now = known.schedules.get(environment);
            let planned = now.and_then(|now| now.what.as_deref()).unwrap_or_default();
            if !self.schedule(environment, planned, may).await? {
                return Ok(false);
            }
        }
        for ((environment, name), _) in known.kinds.iter().filter(|(_, one)| own(&one.execution, &one.pipeline)) {
            if !settled && !is_known(environment) {
                continue;
            }
            let parameter = self.name(environment, name);
            let before: Option<Released<Kind>> = self.before(&parameter, release).await?;
            let back = before.unwrap_or_else(|| none_before(release));
            if !may().await? {
                return Ok(false);
            }
            self.aws.put_parameter(&parameter, &back.text(&format!("{environment}/{name}"))?).await?;
        }
        for (environment, _) in known.schedules.iter().filter(|(_, one)| own(&one.execution, &one.pipeline)) {
            let parameter = self.name(environment, SCHEDULES);
            let before: Option<Released<Vec<Planned>>> = self.before(&parameter, release).await?;
            let back = before.unwrap_or_else(|| none_before(release));
            let planned = back.what.as_deref().unwrap_or_default();
            if !self.schedule(environment, planned, may).await? {
                return Ok(false);
            }
            if settled {
                if !may().await? {
                    return Ok(false);
                }
                self.aws.put_parameter(&parameter, &back.text(&format!("{environment}, schedules"))?).await?;
            }
        }
        Ok(true)
    }

    /// What a pointer said before this release wrote it.
    async fn before<T: serde::Serialize + for<'d> serde::Deserialize<'d>>(
        &self,
        parameter: &str,
        release: &Release,
    ) -> Result<Option<Released<T>>, Error> {
        for text in self.aws.parameter_history(parameter).await? {
            let one = Released::<T>::read(parameter, &text)?;
            if one.execution != release.execution || one.pipeline != release.pipeline {
                return Ok(Some(one));
            }
        }
        Ok(None)
    }

    /// Makes an environment's schedules these, and no others; not to its end when it may not go on.
    async fn schedule(
        &self,
        environment: &str,
        planned: &[Planned],
        may: &impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let (scheduler, group) = (self.aws.scheduler(), self.group(environment));
        let there = scheduler.names(&group).await?;
        for one in planned {
            // Each run has an id of its own: a message that comes twice starts one.
            let message = json!({"worker": one.starts, "environment": environment, "id": format!("{} {DUE}", one.name),
                "schedule": one.name, "due": DUE, "overlap": one.overlap, "within": one.within});
            let wanted = Wanted {
                group: &group,
                name: &one.name,
                expression: &one.expression,
                zone: &one.zone,
                queue: &self.settings.jobs,
                role: &self.settings.scheduler_role,
                message: &message.to_string(),
                within: one.within,
                is_off: there.get(&one.name).copied().unwrap_or_default(),
            };
            if !scheduler.set(&wanted, may).await? {
                return Ok(false);
            }
        }
        for name in there.keys().filter(|name| planned.iter().all(|one| one.name != **name)) {
            if !may().await? {
                return Ok(false);
            }
            scheduler.remove(&group, name).await?;
        }
        Ok(true)
    }
}

/// There was none: whoever wrote that is none of ours.
fn none_before<T: serde::Serialize + for<'d> serde::Deserialize<'d>>(release: &Release) -> Released<T> {
    let before = Release { execution: String::new(), ..release.clone() };
    Released::by(&before, "", None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::ecs::Overrides;

    #[test]
    fn what_another_application_of_the_stack_has_released_is_left_alone_and_its_schedules_clash() {
        let release = |pipeline: &str| Release {
            pipeline: pipeline.into(),
            execution: "e".into(),
            stage: None,
            action: None,
            attempt: 1,
        };
        let kind = Kind {
            definition: "arn".into(),
            container: "shop".into(),
            environment: serde_json::from_value(json!({"region": "us-east-1", "cluster": "shop"})).unwrap(),
            overrides: Overrides::default(),
            most: 1,
            warm: 0,
            live: None,
        };
        let planned = |name: &str| Planned {
            name: name.into(),
            expression: "cron(0 3 * * ? *)".into(),
            zone: "UTC".into(),
            starts: "exports".into(),
            overlap: crate::manifest::Overlap::Skip,
            within: 600,
        };
        let intends = |kinds: &[&str], schedules: &[&str]| {
            let kinds = kinds.iter().map(|name| ((*name).to_owned(), kind.clone())).collect();
            let schedules = schedules.iter().map(|name| planned(name)).collect();
            BTreeMap::from([("us".to_owned(), Intended { kinds, schedules })])
        };
        let known = |writer: &str| {
            let writer = release(writer);
            let exports = (("us".to_owned(), "exports".to_owned()), Released::by(&writer, "key", Some(kind.clone())));
            let nightly = ("us".to_owned(), Released::by(&writer, "key", Some(vec![planned("nightly")])));
            Known { kinds: BTreeMap::from([exports]), schedules: BTreeMap::from([nightly]) }
        };
        let stack = ["shop-pipeline".to_owned(), "shop-rollback".to_owned()];
        for (writer, own, is_own) in [
            ("shop-pipeline", "shop-pipeline", true),
            ("shop-pipeline", "shop-rollback", true),
            ("billing", "billing", true),
            ("billing", "shop-pipeline", false),
            ("shop-pipeline", "billing", false),
        ] {
            let none = intends(&[], &[]);
            let (mine, others) = known(writer).split(&none, &release(own), &stack);
            let counts = |known: &Known| (known.kinds.len(), known.schedules.len());
            let (expected, left) = if is_own { ((1, 1), (0, 0)) } else { ((0, 0), (1, 1)) };
            assert_eq!((counts(&mine), counts(&others)), (expected, left), "{writer}, {own}");
            assert_eq!(
                mine.is(&none, &release(own), Some("key")),
                !is_own,
                "only its own is to be gone: {writer}, {own}"
            );
            assert_eq!(others.clash(&none), None);
            // Another list of schedules would take the place of theirs.
            let hourly = intends(&[], &["hourly"]);
            let (_, others) = known(writer).split(&hourly, &release(own), &stack);
            assert_eq!(others.clash(&hourly), (!is_own).then_some(("us", writer)));
            // What is called the same is the same application's, by another pipeline: it is written over.
            let same = intends(&["exports"], &["nightly", "hourly"]);
            let (mine, others) = known(writer).split(&same, &release(own), &stack);
            assert_eq!((counts(&mine), counts(&others), others.clash(&same)), ((1, 1), (0, 0), None));
        }
    }
}
