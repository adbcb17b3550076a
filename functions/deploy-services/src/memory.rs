//! What one invocation of the action knows, and its turn to deploy.

use shared::artifact::Content;
use shared::aws::GIVEN_UP;
use shared::targets::quick::{Quick, Runs, mark};
use shared::{Error, Journal, Next, Tick};

use crate::approved::{self, Approved};
use crate::decide::{LOOK, State};
use crate::message;
use crate::plan::{Before, Plan};
use crate::turn::{self, Turn, Whose};
use crate::workers::Workers;

/// What an invocation keeps between two looks.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) plan: Plan,
    pub(crate) workers: Workers,
    pub(crate) journal: Journal,
    /// By target: a hash of what was said of it last. The token may have no room for it.
    pub(crate) said: Vec<u16>,
    /// Whether this invocation has seen that it is this release's turn to deploy.
    pub(crate) has_turn: bool,
    /// The quick way, where it goes back.
    pub(crate) quick: Option<Quick>,
    /// Whether web services were seen to be back.
    pub(crate) is_back: bool,
    /// Whether this invocation has begun a deployment.
    pub(crate) has_begun: bool,
    /// The execution that it was said to wait for last.
    waits_for: Option<String>,
}

impl Memory {
    /// What there is to deploy; `runs` where it goes back from something.
    ///
    /// # Errors
    /// The manifest does not have what the action's parameters name.
    pub(crate) async fn new(
        tick: &Tick<'_>,
        content: Content,
        services: Option<&str>,
        runs: Option<Runs>,
        state: &mut State,
    ) -> Result<Self, Error> {
        let quick = match runs {
            Some(runs) => {
                let since = tick.tried_before.or(tick.started).unwrap_or(tick.begun).min(tick.begun);
                Some(Quick::new(tick.aws, runs, &content.manifest, content.image.clone(), since).await)
            }
            None => None,
        };
        let before = Before::look(tick).await?;
        Ok(Self {
            workers: Workers::new(&content.manifest, content.image.clone(), before.has_succeeded),
            plan: Plan::new(tick, content, services, before, state).await?,
            quick,
            is_back: false,
            journal: Journal::default(),
            said: state.said.clone(),
            has_turn: false,
            has_begun: false,
            waits_for: None,
        })
    }

    /// Takes the turn to deploy; what to answer where another release has it.
    ///
    /// # Errors
    /// Whose turn it is cannot be known now.
    pub(crate) async fn take_turn(&mut self, tick: &Tick<'_>) -> Result<Option<Next>, Error> {
        if self.has_turn {
            return Ok(None);
        }
        match turn::take(tick).await? {
            Whose::Ours => {
                if let Some(next) = self.refuse_unless_it_holds(tick).await? {
                    return Ok(Some(next));
                }
                self.has_turn = true;
                // What was seen before the turn came is what the release before has changed since.
                if self.waits_for.take().is_some() {
                    self.plan.look_anew();
                    self.workers.look_anew();
                    if let Some(quick) = &mut self.quick {
                        quick.look_anew();
                    }
                    return Ok(Some(Next::Wait(LOOK, message::looks_anew(tick))));
                }
                Ok(None)
            }
            Whose::Theirs(turn) => Ok(Some(self.wait_for(tick, &turn))),
        }
    }

    /// Going back, what was approved must still hold; what to answer where it does not. What was begun is brought to its end, unless an
    /// earlier try has begun it and another release has deployed since.
    async fn refuse_unless_it_holds(&mut self, tick: &Tick<'_>) -> Result<Option<Next>, Error> {
        let goes_back = tick.aws.settings().goes_back(&tick.release.pipeline);
        if !goes_back || !self.plan.has_nothing() {
            return Ok(None);
        }
        let is_begun = self.quick.is_some() && mark::was_there(tick.aws, &tick.release.execution).await?;
        match approved::look(tick, self.quick.as_ref().map(|quick| &quick.runs)).await? {
            Approved::Barred(_) | Approved::Unread(_) if is_begun => Ok(None),
            Approved::Holds(tasks) => {
                if let Some(line) = message::begun_since(&tasks) {
                    self.journal.say(tick.now, line);
                }
                Ok(None)
            }
            Approved::Overtaken(what) => Ok(Some(Next::Fail(message::overtaken(&what, is_begun)))),
            Approved::Barred(tasks) => Ok(Some(Next::Fail(message::barred(&tasks)))),
            Approved::Unread(tasks) => Ok(Some(Next::Fail(message::unread(&tasks)))),
        }
    }

    /// Another release deploys: it is waited for by name, for as long as any service here waits for its group.
    fn wait_for(&mut self, tick: &Tick<'_>, turn: &Turn) -> Next {
        let each = self.plan.targets.iter().map(|target| target.site.service.wait_for_group.0);
        let longest = each.max().unwrap_or_default();
        let waited = tick.now.since(tick.begun);
        // One that has failed keeps its turn for a moment.
        if waited > longest.max(GIVEN_UP) {
            return Next::Fail(message::waited_in_vain(turn, waited));
        }
        let progress = message::waits_for_turn(tick, turn);
        if self.waits_for.as_ref() != Some(&turn.execution) {
            self.waits_for = Some(turn.execution.clone());
            self.journal.say(tick.now, progress.summary.clone());
        }
        Next::Wait(LOOK, progress)
    }

    /// Says in the release's log what is new.
    pub(crate) async fn say(&mut self, tick: &Tick<'_>, next: Next) -> Result<Next, Error> {
        for line in message::ending(&next, tick.halted) {
            self.journal.say(tick.now, line);
        }
        match next {
            Next::Wait(..) | Next::Show(..) => self.journal.flush(tick.aws, tick.release).await,
            Next::Succeed(_) | Next::Answer(_) | Next::Fail(_) => self.journal.finish(tick.aws, tick.release).await,
        }
        Ok(next)
    }
}
