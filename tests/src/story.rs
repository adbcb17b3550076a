//! What happened in a play: every call with what was done to it, every task's line and end, every note, with virtual times.
//!
//! Invariant: the story follows from the setting and its seed alone, byte for byte, on every machine and in any order of
//! plays; its hash stands for all of it.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use local::world::{Effect, Happening, Request};
use serde_json::Value;
use shared::Time;

use crate::client::{Call, Meddling};

/// A story that is being told; clones tell the same one.
#[derive(Clone, Debug)]
pub struct Story(Arc<Mutex<Told>>);

#[derive(Debug)]
struct Told {
    hash: Fnv,
    begun: Time,
    /// Its lines, where somebody wants to read them.
    lines: Option<Vec<String>>,
}

/// FNV-1a: the same everywhere and for ever, unlike the standard library's hasher.
#[derive(Debug, Clone, Copy)]
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Story {
    pub(crate) fn new(begun: Time, kept: bool) -> Self {
        let lines = kept.then(Vec::new);
        Self(Arc::new(Mutex::new(Told { hash: Fnv(0xcbf2_9ce4_8422_2325), begun, lines })))
    }

    /// What stands for all that has happened so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.told(|told| told.hash.0)
    }

    /// What has happened so far, a line each, where the setting wants it kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.told(|told| told.lines.clone().unwrap_or_default())
    }

    fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tell(&self, at: Time, what: fmt::Arguments<'_>) {
        self.told(|told| {
            let millis = at.since(told.begun).as_millis();
            // Writing to a hash and to a string cannot fail.
            let _ = writeln!(told.hash, "{millis} {what}");
            if let Some(lines) = &mut told.lines {
                lines.push(format!("{:>4}.{:03} {what}", millis / 1000, millis % 1000));
            }
        });
    }

    /// A call that arrives, and what happens to it.
    pub(crate) fn call(&self, call: &Call<'_>, request: &Request, meddling: Meddling) {
        let Call { function, sandbox, operation, region, at, .. } = call;
        let done = Done(meddling);
        match serde_json::from_slice::<Value>(&request.body) {
            // What the SDK writes from maps of its own has no order: read again, it has.
            Ok(input) => self.tell(*at, format_args!("{function}#{sandbox} {operation} {region} {input}{done}")),
            Err(_) => self.tell(*at, format_args!("{function}#{sandbox} {operation} {region}{done}")),
        }
    }

    pub(crate) fn effect(&self, at: Time, effect: &Effect) {
        match effect {
            Effect::StartContainer(start) => {
                self.tell(at, format_args!("{} starts in {}", start.container, start.task))
            }
            Effect::Signal { task, container, kill } => {
                self.tell(at, format_args!("{container} of {task} gets {}", if *kill { "SIGKILL" } else { "SIGTERM" }));
            }
            Effect::Route { port, tasks, .. } => {
                let to: Vec<_> = tasks.iter().map(|(task, weight)| format!("{task} ({weight})")).collect();
                self.tell(at, format_args!("port {port} leads to {}", to.join(" ")));
            }
            Effect::CallHook { id, function, stage } => {
                self.tell(at, format_args!("{function} is called in {stage} ({id})"));
            }
            Effect::Invoke { id, function, .. } => self.tell(at, format_args!("{function} is invoked ({id})")),
            Effect::FetchSource { action } => self.tell(at, format_args!("the source is fetched for {action}")),
            Effect::Build { action, commit } => self.tell(at, format_args!("{commit} is built for {action}")),
            Effect::Note(note) => self.tell(at, format_args!("note: {note}")),
        }
    }

    pub(crate) fn happening(&self, at: Time, happening: &Happening) {
        match happening {
            Happening::Started { task, container, .. } => self.tell(at, format_args!("{container} of {task} runs")),
            Happening::CannotStart { task, container, reason } => {
                self.tell(at, format_args!("{container} of {task} cannot start: {reason}"));
            }
            Happening::Line { task, container, text } => {
                self.tell(at, format_args!("{container} of {task} writes: {text}"));
            }
            Happening::Checked { task, answer, .. } => {
                self.tell(at, format_args!("{task} is {}", if answer.is_ok() { "healthy" } else { "ill" }));
            }
            Happening::Exited { task, container, code } => {
                self.tell(at, format_args!("{container} of {task} ends with {code}"));
            }
            Happening::Invoked { id, result } => match result {
                Ok(_) => self.tell(at, format_args!("invocation {id} is over")),
                Err(why) => self.tell(at, format_args!("invocation {id} failed: {why}")),
            },
            Happening::Hooked { id, result } => self.tell(at, format_args!("hook {id} answers {result:?}")),
            Happening::Worked { action, .. } => self.tell(at, format_args!("{action} has worked")),
        }
    }
}

struct Done(Meddling);

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Meddling::Pass => Ok(()),
            other => write!(f, "  <-- {other:?}"),
        }
    }
}
