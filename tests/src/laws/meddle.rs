//! A plan's faults, put where they belong: on the way of calls, on invocations, in containers' lives.
//!
//! Invariant: a fault has its own chance, so that taking one away changes no other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use local::world::{Lateness, Quirks, Start};
use serde_json::Value;
use shared::Time;

use super::fault::{Calls, Ending, Fault, Shown};
use super::plan::{CALM, Plan};
use super::shape::Shape;
use crate::{Call, Fate, Meddling, Script};

/// Which fault met which call of which function, and how often.
pub type Met = BTreeMap<(String, String), u32>;

/// When the plan's faults begin: none happens before.
#[derive(Debug, Clone, Default)]
pub struct Origin(Arc<Mutex<Option<Time>>>);

impl Origin {
    pub(super) fn set(&self, at: Time) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    pub(super) fn get(&self) -> Option<Time> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which faults met something.
#[derive(Debug, Clone, Default)]
pub struct Meetings(Arc<Mutex<Met>>);

impl Meetings {
    fn note(&self, fault: &Fault, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((fault.kind(), what)).or_default() += 1;
    }

    pub(super) fn taken(&self) -> Met {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An operation's name without what differs from release to release.
#[must_use]
pub fn operation(call: &str) -> &str {
    match call.strip_prefix('/') {
        None => call,
        Some("") => "AssumeRole",
        Some(path) if path.starts_with("2015-03-31/functions") => "Invoke",
        Some(path) if path.starts_with("sink") => "Post",
        Some(other) => other,
    }
}

/// Whether this can happen to the call at all.
fn can_happen(what: Meddling, call: &Call<'_>) -> bool {
    match what {
        Meddling::NoRoom => call.operation == "RunTask",
        Meddling::TooMany => call.operation == "CreateDeployment",
        Meddling::EmptyPage => matches!(
            call.operation,
            "ListTasks" | "ListActionExecutions" | "ListDeployments" | "ListServiceDeployments"
        ),
        Meddling::SmallPage(_) => matches!(
            call.operation,
            "ListTasks" | "ListActionExecutions" | "ListServiceDeployments" | "GetLogEvents" | "ListObjectsV2"
        ),
        Meddling::Conflict => call.operation == "PutObject",
        _ => true,
    }
}

fn concerns(what: Meddling, of: &Calls, call: &Call<'_>) -> bool {
    can_happen(what, call) && concerned(of, call)
}

fn concerned(of: &Calls, call: &Call<'_>) -> bool {
    of.function.is_none_or(|function| function == call.function)
        && of.operation.is_none_or(|wanted| wanted == call.operation)
        && (!of.writes || call.writes)
}

/// What happens to each call.
pub(super) fn of_calls(
    plan: &Plan,
    meetings: Meetings,
    origin: Origin,
) -> impl FnMut(&Call<'_>) -> Meddling + Send + use<> {
    let mut faults: Vec<_> = plan
        .faults
        .iter()
        .filter_map(|fault| match fault {
            Fault::Storm { seed, .. } => Some((fault.clone(), Rng::with_seed(*seed), 0)),
            Fault::Once { .. } => Some((fault.clone(), Rng::with_seed(0), 0)),
            _ => None,
        })
        .collect();
    move |call| {
        let Some(begun) = origin.get().filter(|begun| call.at >= *begun) else { return Meddling::Pass };
        let since = call.at.since(begun);
        if since >= CALM {
            return Meddling::Pass;
        }
        let mut done = Meddling::Pass;
        for (fault, random, seen) in &mut faults {
            let hit = match fault {
                Fault::Storm { what, of, from, lasts, one_in, .. } => {
                    let within = since >= *from && since < *from + *lasts;
                    (within && concerns(*what, of, call) && random.u32(0..*one_in) == 0).then_some(*what)
                }
                Fault::Once { what, of, nth } => {
                    let counts = concerns(*what, of, call);
                    *seen += u32::from(counts);
                    (counts && *seen == *nth + 1).then_some(*what)
                }
                _ => None,
            };
            // The first that hits is what happens; each counts for itself all the same.
            if let Some(what) = hit.filter(|_| done == Meddling::Pass) {
                done = what;
                meetings.note(fault, format!("{} of {}", operation(call.operation), call.function));
            }
        }
        done
    }
}

/// What happens to each invocation.
pub(super) fn of_invocations(
    plan: &Plan,
    meetings: Meetings,
    origin: Origin,
) -> impl FnMut(&str, &Value) -> Option<Fate> + use<> {
    let faults: Vec<_> = plan
        .faults
        .iter()
        .filter(|fault| matches!(fault, Fault::Lambda { .. } | Fault::Event { .. }))
        .cloned()
        .collect();
    let mut of_function: BTreeMap<String, u32> = BTreeMap::new();
    let mut events = 0;
    move |function, payload| {
        origin.get()?;
        let name = function.trim_start_matches("cutover-").to_owned();
        let nth = of_function.entry(name.clone()).or_default();
        let event = payload.get("source").and_then(Value::as_str) == Some("aws.codepipeline");
        let found = faults.iter().find_map(|fault| match fault {
            Fault::Lambda { function, nth: wanted, fate } if *function == name && wanted == nth => Some((fault, *fate)),
            Fault::Event { nth: wanted, fate } if event && *wanted == events => Some((fault, *fate)),
            _ => None,
        });
        *nth += 1;
        events += u32::from(event);
        let (fault, fate) = found?;
        meetings.note(fault, name);
        Some(fate)
    }
}

/// How each container goes.
pub(super) fn of_containers(plan: &Plan, meetings: Meetings, origin: Origin) -> impl Fn(&Start) -> Script + use<> {
    let (shape, faults) = (plan.shape.clone(), plan.faults.clone());
    let begun: Rc<RefCell<BTreeMap<(String, String), u32>>> = Rc::default();
    move |start| {
        let environment = start.environment.get("ENVIRONMENT").map(String::as_str).unwrap_or_default();
        let command = start.command.last().map(String::as_str).unwrap_or_default();
        let is_new = !start.image.ends_with(":1.0") && !start.image.ends_with(super::people::OF_SOMEBODY);
        if origin.get().is_none() {
            return script(&shape, start, command);
        }
        let nth = {
            let mut begun = begun.borrow_mut();
            let nth = begun.entry((environment.to_owned(), command.to_owned())).or_default();
            *nth += 1;
            *nth
        };
        let here = |at: usize| shape.environments.get(at).is_some_and(|place| place.name == environment);
        let is_named = |at: usize| shape.services.get(at).is_some_and(|service| service.name == command);
        let mut script = script(&shape, start, command);
        for fault in &faults {
            match fault {
                Fault::SlowStarts(by) => script.starts_after = *by,
                // A one-off task goes wrong the first time: a retry goes well.
                Fault::Task { environment, task, how } if here(*environment) && *task == command && nth == 1 => {
                    meetings.note(fault, command.to_owned());
                    script = bent(script, *how);
                }
                Fault::Service { environment, service, how } if is_new && here(*environment) && is_named(*service) => {
                    meetings.note(fault, "a new task".into());
                    script = bent(script, *how);
                }
                _ => {}
            }
        }
        script
    }
}

fn script(shape: &Shape, start: &Start, command: &str) -> Script {
    if start.port.is_some() {
        return Script {
            healthy_after: Some(Duration::from_secs(1)),
            on_term: Some((Duration::from_secs(1), 0)),
            ..Script::service()
        };
    }
    let id = start.task.rsplit('/').next().unwrap_or_default();
    let lines = if command == "migrate" { shape.lines } else { 1 };
    let line = |n| (shape.pace, format!("line {n} of {command}, task {id}"));
    Script { lines: (1..=lines).map(line).collect(), ..Script::task(0) }
}

fn bent(script: Script, how: Ending) -> Script {
    match how {
        Ending::Exit(code) => script.ending(code),
        Ending::CannotStart => Script { cannot_start: Some("the image is not there".into()), ..script },
        Ending::Slow(by) => {
            let mut lines = script.lines;
            // As the others, it says which task wrote it: a retry's log shows those of the try before, too.
            let text = lines.first().map_or("slow".into(), |(_, first)| first.replacen("line ", "line 0", 1));
            lines.insert(0, (by, text));
            Script { lines, ..script }
        }
        Ending::Deaf => Script { on_term: None, ..script },
        Ending::Crashes(after) => Script { healthy_after: None, ends: Some((after, 1)), ..script },
        Ending::NeverHealthy => Script { healthy_after: None, ..script },
        Ending::FallsIll(after) => Script { ill_after: Some(after), ..script },
    }
}

/// How long functions have, where that is less than the template says.
pub(super) fn short_lambdas(plan: &Plan) -> Option<Duration> {
    let lengths = plan.faults.iter().filter_map(|fault| match fault {
        Fault::ShortLambdas(length) => Some(*length),
        _ => None,
    });
    lengths.min()
}

/// How late AWS shows what it has done.
pub(super) fn lateness(plan: &Plan) -> Lateness {
    let mut lateness = Lateness::default();
    for fault in &plan.faults {
        match fault {
            // A new task, in lists as in descriptions.
            Fault::Late { what: Shown::Tasks, by } => {
                lateness.tasks = lateness.tasks.max(*by);
                lateness.described = lateness.described.max(*by);
            }
            Fault::Late { what, by } => {
                let late = match what {
                    Shown::ListedDeployments => &mut lateness.listed,
                    Shown::Rollbacks => &mut lateness.rollback,
                    Shown::Deployments => &mut lateness.statuses,
                    Shown::Tasks | Shown::ListedTasks => &mut lateness.tasks,
                    Shown::DescribedTasks => &mut lateness.described,
                    Shown::TaskLists => &mut lateness.task_lists,
                    Shown::TaskStatuses => &mut lateness.task_statuses,
                    Shown::Executions => &mut lateness.executions,
                };
                *late = (*late).max(*by);
            }
            Fault::LateJobs(by) => lateness.continuations = lateness.continuations.max(*by),
            _ => {}
        }
    }
    lateness
}

/// How CloudWatch behaves.
pub(super) fn quirks(plan: &Plan) -> Quirks {
    let mut quirks = Quirks::default();
    for fault in &plan.faults {
        match fault {
            Fault::EmptyPages => quirks.empty_pages = true,
            Fault::ShuffledLines(by) => {
                quirks.late_lines = quirks.late_lines.max(*by);
                quirks.shuffled = true;
            }
            Fault::LateLines(by) => quirks.late_lines = quirks.late_lines.max(*by),
            _ => {}
        }
    }
    quirks
}
