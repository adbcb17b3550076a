//! The laws' harness: a seed decides what is released, what goes wrong and what people do; the play must keep every law.
//!
//! Invariant: a play follows from its plan, and a plan from its seed.

pub mod cover;
pub mod fault;
pub mod law;
pub mod meddle;
pub mod meeting;
pub mod people;
pub mod plan;
pub mod record;
pub mod samples;
pub mod shape;
pub mod shrink;

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use shared::Time;

use crate::{BEGIN, Setting, play_denied};
use cover::Cover;
use fault::Fault;
use law::{Ended, LAWS};
use plan::Plan;

/// When the release begins, in the play's time: the old version has come up by then.
pub const START: Time = Time::from_millis(BEGIN.millis() + 60_000);

/// How a play went.
#[derive(Debug, Default)]
pub struct Played {
    /// The laws that it broke, each with why.
    pub broken: Vec<(String, String)>,
    /// What stands for its story.
    pub hash: u64,
    /// Its story, where it was kept.
    pub story: Vec<String>,
    /// What was covered.
    pub cover: Cover,
    /// How many calls were made.
    pub calls: usize,
}

/// What is wanted of a play beside its outcome.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its story, to be read.
    pub story: bool,
    /// Its requests and answers.
    pub samples: Option<samples::Samples>,
}

/// Plays a plan, and holds it against the laws.
#[must_use]
pub fn play(plan: &Plan, keep_story: bool) -> Played {
    play_for(plan, &Wanted { story: keep_story, samples: None })
}

/// The same, with more of it.
#[must_use]
pub fn play_for(plan: &Plan, wanted: &Wanted) -> Played {
    let played = RefCell::new(Played::default());
    // A panic of the harness or of the world is a broken law, too: it has a seed that can be looked at.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let (record, meetings) = (record::Record::default(), meddle::Meetings::default());
        let (short, origin) = (meddle::short_lambdas(plan), meddle::Origin::default());
        let setting = Setting {
            manifest: plan.shape.manifest(),
            account: plan.shape.account(),
            script: Box::new(meddle::of_containers(plan, meetings.clone(), origin.clone())),
            quirks: meddle::quirks(plan),
            lateness: meddle::lateness(plan),
            keep_job_ids: plan.faults.contains(&Fault::SameJobs),
            renew_nonces: plan.faults.contains(&Fault::NewNonces),
            meddle: Box::new(meddle::of_calls(plan, meetings.clone(), origin.clone())),
            witness: Box::new(record.witness(wanted.samples.clone())),
            fate: Box::new(meddle::of_invocations(plan, meetings.clone(), origin.clone())),
            change_stack: Box::new(move |stack| {
                for function in stack.functions.iter_mut().filter(|_| short.is_some()) {
                    function.timeout = function.timeout.min(short.map_or(900, |short| short.as_secs()));
                }
            }),
            own_images: true,
            seed: plan.seed,
            keep_story: wanted.story,
            ..Setting::default()
        };
        play_denied(setting, async |stage| {
            tokio::time::sleep(START.since(stage.now())).await;
            let deeds = people::act(&stage, plan, &origin).await;
            // What comes late after all of it must not change anything.
            tokio::time::sleep(Duration::from_secs(30)).await;
            people::wait_for_records(&stage, &deeds).await;
            let ended = Ended::new(plan, &stage, deeds, record.taken());
            let mut played = played.borrow_mut();
            for (name, law) in LAWS {
                if let Err(why) = law(&ended) {
                    played.broken.push((name.to_owned(), why));
                }
            }
            played.cover = Cover::of(&ended, meetings.taken());
            played.calls = ended.seen.len();
            played.hash = stage.story().hash();
            played.story = stage.story().lines();
        });
    }));
    let mut played = played.into_inner();
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        played.broken.push(("no panic".into(), text.unwrap_or_default()));
    }
    played
}
