//! The release's workers, as one invocation knows them: their revisions are registered before any traffic moves, and what was
//! released is written down when all of it has moved; a way back writes back what was before.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use shared::aws::codepipeline::Codepipeline;
use shared::aws::{GIVEN_UP, Place};
use shared::manifest::{LogMode, Manifest};
use shared::workers::{Intended, Kind, Known, Pointers, Released, Unregistered, kinds, plan};
use shared::{Aws, Error, Tick, Time, Trouble, Verdict};

/// How the workers stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Their revisions are not registered yet.
    Preparing,
    /// What was released of them can be written down.
    Ready,
    /// What was written down is what this release has. So it is when neither it nor the one before has any.
    Released,
    /// They cannot be released.
    Broken {
        /// Why.
        what: String,
    },
}

/// The workers of a release, in all their environments.
#[derive(Debug)]
pub(crate) struct Workers {
    kinds: Vec<(Unregistered, Option<Kind>)>,
    intended: BTreeMap<String, Intended>,
    image: Option<String>,
    known: Option<Known>,
    /// Whether a try before this one has succeeded: what is written down is a fact, and is not written back.
    are_a_fact: bool,
    /// Whether this invocation has written them down.
    has_published: bool,
    /// What keeps them from being released.
    broken: Option<String>,
    /// Why it is not known, while all is taken back, what was written down.
    pub(crate) unread: Option<String>,
    /// When this invocation wrote them back first. What was begun before may take effect after that; so it is done once more.
    back: Option<Time>,
    /// What keeps them from being written back.
    pub(crate) stuck: Option<String>,
    looking: Trouble,
    /// Of writing: a look that goes well does not make up for a write that never does.
    writing: Trouble,
}

impl Workers {
    pub(crate) fn new(manifest: &Manifest, image: Option<String>, are_a_fact: bool) -> Self {
        let planned = plan(manifest).into_iter();
        let intended = planned.map(|(name, schedules)| (name, Intended { schedules, ..Intended::default() })).collect();
        let kinds = kinds(manifest).into_iter().map(|kind| (kind, None)).collect();
        Self {
            kinds,
            intended,
            image,
            known: None,
            are_a_fact,
            has_published: false,
            broken: None,
            unread: None,
            back: None,
            stuck: None,
            looking: Trouble::default(),
            writing: Trouble::default(),
        }
    }

    fn has_any(&self) -> bool {
        !self.kinds.is_empty() || self.intended.values().any(|one| !one.schedules.is_empty())
    }

    /// How many there are, of how many kinds each environment has; none of a release that has none.
    pub(crate) fn count(&self) -> usize {
        self.kinds.len()
    }

    /// Forgets what was written down: the release before has written since.
    pub(crate) fn look_anew(&mut self) {
        self.known = None;
    }

    /// Registers what is not registered yet, and reads what was written down.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>, takes_back: bool) {
        let looked = self.try_look(tick, takes_back).await;
        if let Err(verdict) = self.looking.note(tick.now, looked) {
            if takes_back && self.known.is_none() {
                self.unread.get_or_insert_with(|| verdict.message.clone());
            }
            self.broken.get_or_insert(verdict.message);
        }
    }

    async fn try_look(&mut self, tick: &Tick<'_>, takes_back: bool) -> Result<(), Error> {
        let Some(pointers) = Pointers::new(tick.aws) else {
            return if self.has_any() { Err(no_function().into()) } else { Ok(()) };
        };
        // Another invocation of the action may have written meanwhile, and died.
        if takes_back || self.known.is_none() {
            self.known = Some(pointers.read().await?);
        }
        if !takes_back {
            self.register(tick).await?;
            // Before anything moves: theirs would be gone.
            let (_, others) = self.known.as_ref().map(|known| self.split(known, tick)).unwrap_or_default();
            if let Some((environment, pipeline)) = others.clash(&self.intended) {
                return Err(of_another(environment, pipeline, &pointers.schedules_of(environment)).into());
            }
        }
        Ok(())
    }

    /// Safe to repeat: the newest revision is used when it is as it should be.
    async fn register(&mut self, tick: &Tick<'_>) -> Result<(), Error> {
        let image = self.image.as_deref();
        let missing = self.kinds.iter_mut().filter(|(_, kind)| kind.is_none());
        let registered = join_all(missing.map(async |(unregistered, kind)| {
            let ecs = tick.aws.ecs(&Place::from(unregistered.environment())).await;
            let (family, container) = (&unregistered.family, unregistered.container.as_deref());
            let found = ecs.definition_with_image(family, container, image, LogMode::AsDefined).await;
            let place = unregistered.place();
            let (definition, container) = found.map_err(|error| at(&place, error))?;
            let new = unregistered.registered(definition.arn, container);
            // What does not fit is found before anything moves.
            Released::by(tick.release, tick.key, Some(new.clone())).text(&place)?;
            *kind = Some(new);
            Ok::<_, Error>(())
        }))
        .await;
        registered.into_iter().collect::<Result<(), _>>()?;
        for (unregistered, kind) in &self.kinds {
            if let (Some(intended), Some(kind)) = (self.intended.get_mut(&unregistered.environment_name), kind) {
                intended.kinds.insert(unregistered.name.clone(), kind.clone());
            }
        }
        for (environment, intended) in self.intended.iter().filter(|(_, one)| !one.schedules.is_empty()) {
            let planned = Some(intended.schedules.clone());
            Released::by(tick.release, tick.key, planned).text(&format!("{environment}, schedules"))?;
        }
        Ok(())
    }

    pub(crate) fn standing(&self, tick: &Tick<'_>) -> Standing {
        if let Some(what) = &self.broken {
            return Standing::Broken { what: what.clone() };
        }
        let Some(known) = &self.known else {
            return if self.has_any() || is_possible(tick.aws) { Standing::Preparing } else { Standing::Released };
        };
        if self.kinds.iter().any(|(_, kind)| kind.is_none()) {
            return Standing::Preparing;
        }
        let (own, _) = self.split(known, tick);
        // Several actions of a release may write the same, each over the other's.
        let key = Some(tick.key).filter(|_| !self.has_published);
        let is_released = own.is(&self.intended, tick.release, key);
        if is_released { Standing::Released } else { Standing::Ready }
    }

    /// What is the release's own to write over, and what another application's that the stack serves, too.
    fn split(&self, known: &Known, tick: &Tick<'_>) -> (Known, Known) {
        known.clone().split(&self.intended, tick.release, &tick.aws.settings().pipelines)
    }

    /// Whether nothing is written down any more that this release has written; not while that cannot be known.
    pub(crate) fn is_back(&self, tick: &Tick<'_>) -> bool {
        match &self.known {
            _ if self.are_a_fact || self.stuck.is_some() => true,
            Some(known) => !known.has_any_of(tick.release),
            None => self.unread.is_some() || !is_possible(tick.aws),
        }
    }

    /// Writes down what is released.
    ///
    /// Safe to repeat: see [`Pointers::publish`].
    pub(crate) async fn release(&mut self, tick: &Tick<'_>) {
        let (Some(pointers), Some(known)) = (Pointers::new(tick.aws), self.known.take()) else { return };
        let (own, _) = self.split(&known, tick);
        let may = async || tick.still_goes_on().await;
        let published = pointers.publish(&own, &self.intended, (tick.release, tick.key), &may).await;
        self.has_published |= published.is_ok();
        if let Err(verdict) = self.writing.note(tick.now, published) {
            self.broken.get_or_insert(verdict.message);
        }
    }

    /// Writes back what this release has written.
    ///
    /// Safe to repeat: see [`Pointers::restore`].
    pub(crate) async fn bring_back(&mut self, tick: &Tick<'_>) {
        let (Some(pointers), Some(known)) = (Pointers::new(tick.aws), self.known.take()) else { return };
        if known.has_any_of(tick.release) && !self.are_a_fact {
            // Another action that deploys may have succeeded with them.
            let is_fact = Codepipeline::new(tick.aws).siblings(tick.release).await;
            let is_fact = is_fact.map(|siblings| siblings.iter().any(|one| one.deploys && one.has_succeeded()));
            match is_fact {
                Ok(true) => return self.are_a_fact = true,
                Err(again @ Error::Again(_)) => {
                    if let Err(verdict) = self.writing.note(tick.now, Err::<(), _>(again)) {
                        self.stuck = Some(verdict.message);
                    }
                    return;
                }
                // Where that may not be asked, there is one as a rule.
                Ok(false) | Err(Error::Stop(_)) => {}
            }
            let settled = self.back.map(|back| tick.now.since(back) >= GIVEN_UP);
            if settled == Some(false) {
                return;
            }
            let may = async || tick.still_takes_back().await;
            let restored = pointers.restore(&known, tick.release, settled == Some(true), &may).await;
            match self.writing.note(tick.now, restored) {
                Ok(restored) if restored == Some(true) && settled.is_none() => self.back = Some(tick.now),
                Ok(_) => {}
                Err(verdict) => self.stuck = Some(verdict.message),
            }
        }
    }
}

fn is_possible(aws: &Aws) -> bool {
    Pointers::new(aws).is_some()
}

fn of_another(environment: &str, pipeline: &str, parameter: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "{environment}: the pipeline {pipeline} has released other schedules there, and yours would take their place. Where that is another \
         application, give its environments names of their own; where it is an earlier pipeline of this one, write the name of this one into \
         `pipeline` of the SSM parameter {parameter}"
    ))
}

fn no_function() -> Verdict {
    Verdict::misconfigured(
        "deploy.yaml has `workers` or `schedules`, and this stack does not have what starts them: update it from Cutover's \
         template.yaml",
    )
}

fn at(place: &str, error: Error) -> Error {
    match error {
        Error::Stop(verdict) => Verdict { message: format!("{place}: {}", verdict.message), ..verdict }.into(),
        Error::Again(why) => Error::Again(format!("{place}: {why}")),
    }
}
