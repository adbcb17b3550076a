//! Every sentence of `deploy-services` that a person reads.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use shared::targets::quick::Quick;
use shared::targets::{Frees, Moment, Phase, Target};
use shared::text::{fit, plain};
use shared::time::spoken;
use shared::{Next, Progress, Success, Tick, Verdict, names};

use crate::decide::{Cause, ITS_TIMEOUT, LONGEST_CAUSE, State, Way};
use crate::turn::Turn;
use crate::workers::Workers;

mod approved;
mod quick;
mod target;

pub(crate) use approved::{barred, begun_since, overtaken, unread};
pub(crate) use quick::{
    closed, deployed_since, goes_quickly, looks_anew, looks_for_the_quick_way, quickly, stuck_quickly, went_quickly,
};

use target::{Free, before, by, free, going, number, service, tried};

/// What a verdict's link to the log begins with.
const STEP_BY_STEP: &str = "Step by step: ";

/// The longest line of a container in a verdict.
const LONGEST_LINE: usize = 300;

/// What is spoken of: the targets as they were seen at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Report<'a> {
    pub(crate) tick: &'a Tick<'a>,
    pub(crate) targets: &'a [Target],
    pub(crate) moment: Moment,
    /// The workers that are started one by one.
    pub(crate) workers: &'a Workers,
    /// The quick way, where it goes back.
    pub(crate) quick: Option<&'a Quick>,
    /// Which way it goes back.
    pub(crate) way: &'a Way,
    /// After how many seconds the quick way had come to its end.
    pub(crate) back_after: Option<u32>,
    /// The targets whose services Cutover gives a PAUSE hook.
    pub(crate) given_a_hook: &'a [u16],
}

impl Report<'_> {
    fn phase(&self, target: &Target) -> Phase {
        target.phase(&self.moment)
    }

    fn has_moved(&self, target: &Target) -> bool {
        let seen = target.observed(&self.moment);
        seen.is_proven && matches!(seen.phase, Phase::Moved | Phase::Done | Phase::Same)
    }

    /// "Traffic moved in 2 of 6, 4 ready; us/web: Install, 1 of 2 new tasks run, 0 % of traffic; ...".
    pub(crate) fn progress(&self) -> Progress {
        let total = self.targets.len();
        let moved = self.targets.iter().filter(|target| self.has_moved(target)).count();
        let ready = self.targets.iter().filter(|target| self.phase(target) == Phase::Ready).count();
        let mut summary = format!("Traffic moved in {moved} of {total}");
        if ready > 0 {
            let _ = write!(summary, ", {ready} ready");
        }
        for target in self.targets.iter().filter(|target| !self.has_moved(target)) {
            let _ = write!(summary, "; {}: {}", target.name(), self.now(target));
        }
        summary.push_str(&self.remarks());
        let percent = u8::try_from((ready + 2 * moved) * 50 / total.max(1)).ok();
        Progress { summary, percent, link: Some(self.link()) }
    }

    /// What a person should know of the whole: what is not behind the barrier, and why; what was changed for good.
    fn remarks(&self) -> String {
        let mut remarks = String::new();
        for why in [Free::Group, Free::Rolling, Free::NoHook, Free::UnknownStrategy] {
            let of = self.targets.iter().filter(|target| free(target) == Some(why));
            let names: Vec<_> = of.map(Target::name).collect();
            if !names.is_empty() {
                let _ =
                    write!(remarks, ". Not behind the barrier, since {}: {}", why.said(names.len()), names.join(", "));
            }
        }
        let given = self.given_a_hook.iter().filter_map(|at| self.targets.get(usize::from(*at)));
        let given: Vec<_> = given.map(Target::name).collect();
        if !given.is_empty() {
            let _ = write!(
                remarks,
                ". Cutover gives a PAUSE hook, which stays in the service's configuration (`barrier: add`): {}",
                given.join(", ")
            );
        }
        remarks
    }

    /// What is new of each target since it was spoken of last, for the release's log.
    pub(crate) fn news(&self, said: &mut Vec<u16>) -> Vec<String> {
        said.resize(self.targets.len(), 0);
        let mut lines = Vec::new();
        for (target, said) in self.targets.iter().zip(said) {
            let text = self.now(target);
            let hash = hash(&text);
            if *said != hash && self.phase(target) != Phase::Unknown {
                if *said == 0
                    && let Some(by) = by(target)
                {
                    lines.push(self.line(target, &by));
                }
                *said = hash;
                lines.push(self.line(target, &text));
            }
        }
        lines
    }

    fn line(&self, target: &Target, text: &str) -> String {
        let width = |part: fn(&Target) -> usize| self.targets.iter().map(part).max().unwrap_or_default();
        format!(
            "{:environments$} {:services$} | {text}",
            target.site.environment_name,
            target.site.service_name,
            environments = width(|target| target.site.environment_name.len()),
            services = width(|target| target.site.service_name.len())
        )
    }

    /// "Traffic is on the new version everywhere after 2 min 05 s: us/web (41 to 42), ...".
    pub(crate) fn succeeded(&self) -> Success {
        let took = spoken(self.tick.now.since(self.tick.begun));
        let each = self.targets.iter().map(|target| match self.phase(target) {
            Phase::Same => format!("{} (ran {} already)", target.name(), tried(target)),
            _ => format!("{} ({} to {})", target.name(), before(target), tried(target)),
        });
        let each: Vec<_> = each.collect();
        let went = self.quick.filter(|_| *self.way == Way::Quick);
        let mut summary = match (went, each.is_empty()) {
            (Some(quick), _) => {
                let back =
                    self.back_after.map_or_else(|| took.clone(), |after| spoken(Duration::from_secs(after.into())));
                quick::succeeded(quick, (&back, &took), &each)
            }
            (None, true) => "There was nothing to deploy".to_owned(),
            (None, false) => {
                let which = if self.quick.is_some() { "back on the earlier" } else { "on the new" };
                format!("Traffic is {which} version everywhere after {took}: {}", each.join(", "))
            }
        };
        if let Way::Deployment(why) = self.way {
            let _ = write!(summary, ". {}", closed(why));
        }
        summary.push_str(&self.remarks());
        let workers = self.workers.count();
        if workers > 0 {
            let _ = write!(summary, ". Workers that are started from now on are of it, too ({workers})");
        }
        // What was begun in place of a stop that was not open any more is a fact like the others.
        let quick = went.into_iter().flat_map(|quick| &quick.targets).filter_map(Target::service_deployment_back);
        let ids: Vec<_> = self.targets.iter().filter_map(Target::deployment).chain(quick).collect();
        let services = self.targets.iter().map(|target| service(target, before(target), tried(target)));
        let services = services.chain(quick::services(went));
        let variables = vec![
            ("Services", json!(services.collect::<Vec<_>>()).to_string()),
            ("Summary", summary.clone()),
            ("Deployments", ids.join(",")),
            ("Seconds", self.tick.now.since(self.tick.begun).as_secs().to_string()),
        ];
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Success { summary, variables, link: Some(self.link()) }
    }

    /// The verdict: first cause first, unless something was left in the wrong place, which comes before everything.
    pub(crate) fn failed(&self, state: &State, lines: &[String]) -> Verdict {
        let lines: Vec<_> = lines.iter().map(|line| fit(plain(line).trim_end(), LONGEST_LINE)).collect();
        let mut message = String::new();
        let stuck: Vec<_> = self.targets.iter().filter_map(|target| self.stuck(target)).collect();
        if let Some(why) = &self.workers.stuck {
            let _ = writeln!(
                message,
                "Workers are STILL STARTED OF THIS RELEASE, since what was released before could not be written back: {why}"
            );
        }
        let has_begun = self.targets.iter().any(|target| target.deployment().is_some());
        if let Some(why) = self.workers.unread.as_ref().filter(|_| has_begun) {
            let _ = writeln!(message, "Whether WORKERS ARE STARTED OF THIS RELEASE is not known: {why}");
        }
        for line in &stuck {
            message.push_str(line);
            message.push('\n');
        }
        match &state.cause {
            None => message.push_str("The deployment was stopped with the release."),
            Some(cause) => {
                let name = self.targets.get(cause.target).map_or_else(|| "workers".into(), Target::name);
                let _ = write!(message, "{name} failed: {}.", cause.what);
                // Of a task that was ill, they are its answer to SIGTERM, and tell nothing.
                let was_ill = cause.what.contains("health checks");
                if let Some(said) = shared::text::said(&lines).filter(|_| !was_ill) {
                    let _ = write!(message, " {said}");
                }
            }
        }
        match self.quick.filter(|_| *self.way == Way::Quick) {
            Some(quick) => {
                let _ = write!(message, "\n{}", quick::stays(quick));
            }
            None if stuck.is_empty() => {
                let where_it_is = match self.quick {
                    Some(_) => "NOTHING HAS GONE BACK: traffic is still on the newer version everywhere",
                    None => "Traffic is on the old version everywhere",
                };
                let _ = write!(message, "\n{where_it_is}{}.", self.elsewhere());
            }
            None => {}
        }
        let title = "What became of each";
        let width = self.targets.iter().map(|target| target.name().len() + 2).max().unwrap_or_default();
        let width = width.max(title.len());
        let _ = write!(message, "\n\n{title:width$}  before  tried    now");
        for target in self.targets {
            let _ = write!(
                message,
                "\n{:width$}  {:>6}  {:>5}  {:>5}  {}",
                format!("  {}", target.name()),
                before(target),
                tried(target),
                self.current(target),
                self.now(target)
            );
        }
        if !lines.is_empty() {
            let _ = write!(message, "\n\nThe first new task that died");
            let cause = state.cause.as_ref().and_then(|cause| self.targets.get(cause.target));
            if let Some(task) = cause.and_then(|target| target.dead.own().next()) {
                let reason = task.stopped_reason.as_deref().unwrap_or("none");
                let code = task.stop_code.as_deref().unwrap_or("none");
                let _ = write!(message, ": {}\n  stop code: {code}; reason: {reason}\n  last lines:", task.id());
            }
            let _ = write!(message, "\n    {}", lines.join("\n    "));
        }
        if let Some(group) = &self.tick.aws.settings().log_group {
            let url = names::log_link(&self.tick.aws.region(), group, &names::log_stream(self.tick.release));
            let _ = write!(message, "\n\n{STEP_BY_STEP}{url}");
        }
        Verdict::failed(message)
    }

    /// ", but for us/web (41 runs there by now)": what has the traffic there is not what this action has taken back.
    fn elsewhere(&self) -> String {
        let runs = |target: &Target| match (&target.overtaken, self.phase(target)) {
            (Some(_), _) => Some(format!("{} ({} runs there by now)", target.name(), self.current(target))),
            (None, Phase::Same) => Some(format!("{} (it ran this version already)", target.name())),
            _ => None,
        };
        let all: Vec<_> = self.targets.iter().filter_map(runs).collect();
        if all.is_empty() { String::new() } else { format!(", but for {}", all.join(", ")) }
    }

    /// What is said in capitals of a target whose traffic is in the wrong place, or may be.
    fn stuck(&self, target: &Target) -> Option<String> {
        let what = match self.phase(target) {
            Phase::Stuck { what } | Phase::Stranded { what } => what,
            Phase::RollingBack { .. } | Phase::BackWaits => "its rollback did not come to an end within an hour".into(),
            Phase::Going | Phase::Held | Phase::Ready | Phase::Shifting | Phase::Between | Phase::Moved => {
                target.broken().unwrap_or_else(|| "it could not be taken back within an hour".into())
            }
            Phase::Done | Phase::Over { .. } | Phase::Unknown => {
                target.broken().unwrap_or_else(|| "it could not be taken back within an hour".into())
            }
            Phase::Failed { what } if target.is_unseen() => {
                return Some(format!(
                    "NOT SEEN: {} ({what}). `halt-release` takes back what the release has there, if it sees it. Look which revision has \
                     the traffic: before the release it was {}.",
                    target.name(),
                    before(target)
                ));
            }
            Phase::Empty | Phase::Same | Phase::Busy { .. } | Phase::Failed { .. } | Phase::RolledBack => return None,
        };
        // Where the service names it already, an update to it begins nothing.
        let how =
            if matches!(target.kind, shared::targets::Kind::Ecs(_)) { ", with --force-new-deployment" } else { "" };
        let (name, before) = (target.name(), before(target));
        Some(format!("NOT ROLLED BACK: {name} ({what}). Deploy its revision {before} by hand{how}."))
    }

    /// The revision that has the traffic: as it was seen, or as it follows from what became of the deployment.
    fn current(&self, target: &Target) -> String {
        if target.overtaken.is_some() {
            return number(target, target.overtaken.as_deref());
        }
        if !target.has_way_back()
            && let Some(current) = &target.current
        {
            return number(target, Some(current));
        }
        match self.phase(target) {
            Phase::Failed { .. } if target.is_unseen() => "?".into(),
            Phase::Empty | Phase::Busy { .. } | Phase::RolledBack | Phase::Failed { .. } => before(target),
            Phase::Done | Phase::Moved | Phase::Same | Phase::Stranded { .. } => tried(target),
            Phase::Unknown | Phase::Going | Phase::Held | Phase::Ready | Phase::Over { .. } => before(target),
            Phase::Shifting | Phase::Between | Phase::RollingBack { .. } | Phase::BackWaits | Phase::Stuck { .. } => {
                "?".into()
            }
        }
    }

    fn now(&self, target: &Target) -> String {
        let has_way_back = target.has_way_back();
        match self.phase(target) {
            Phase::Unknown => "not seen yet".into(),
            Phase::Empty if target.waits() == Some(false) => {
                "not begun: what is behind the barrier gets ready first".into()
            }
            Phase::Empty => "not begun".into(),
            Phase::Busy { with, frees: None } => format!("waiting for {with}, which keeps it busy"),
            Phase::Busy { with, frees: Some(Frees::EndOfWait(_)) } => {
                format!("ending the wait of {with} for its old tasks")
            }
            Phase::Busy { with, frees: Some(Frees::Stop(_)) } => {
                format!("stopping {with}: it is of a try that was given up")
            }
            Phase::Busy { with, frees: Some(Frees::WayBack { .. }) } => {
                format!("letting {with} go on: it brings back what ran before the try before this one")
            }
            Phase::Going | Phase::Shifting => going(target),
            Phase::Held => format!("{}, its pause before the barrier is ended", going(target)),
            Phase::Between => format!("{}, its pause between two steps is ended", going(target)),
            Phase::Ready => "ready, its traffic waits for the others".into(),
            Phase::Moved => format!("its traffic is on the {} version", self.tried_is()),
            Phase::Done => format!("its traffic is on the {} version, and its old tasks are gone", self.tried_is()),
            Phase::Same => "it ran this version already: nothing to deploy".into(),
            Phase::Failed { what } => format!("failed: {what}"),
            Phase::Over { what: Some(what) } => format!("failed: {what}; its traffic is looked for"),
            Phase::Over { what: None } => "stopped; its traffic is looked for".into(),
            Phase::RollingBack { .. } | Phase::BackWaits if has_way_back => {
                format!("being brought back by a deployment of revision {}: its old tasks are gone", before(target))
            }
            Phase::RollingBack { .. } | Phase::BackWaits => "being rolled back".into(),
            Phase::RolledBack if has_way_back => {
                format!("brought back by a deployment of revision {}: its old tasks were gone", before(target))
            }
            Phase::RolledBack if target.deployment().is_none() => "not begun".into(),
            Phase::RolledBack => match target.dead.own().count() {
                0 => "rolled back".into(),
                died => format!("rolled back; {died} of its new tasks had died"),
            },
            Phase::Stranded { what } => {
                format!("its traffic is on the {} version, and must be brought back: {what}", self.tried_is())
            }
            Phase::Stuck { what } => format!("NOT ROLLED BACK: {what}"),
        }
    }

    /// What it deploys, beside what ran before.
    fn tried_is(&self) -> &'static str {
        if self.quick.is_some() { "earlier" } else { "new" }
    }

    fn link(&self) -> String {
        names::console_encoded(&names::log_stream(self.tick.release))
    }
}

/// "Waiting for release R of the pipeline P, which deploys".
pub(crate) fn waits_for_turn(tick: &Tick<'_>, turn: &Turn) -> Progress {
    Progress {
        summary: format!(
            "Waiting for release {} of the pipeline {}, which deploys, or takes back what it has deployed",
            turn.execution, turn.pipeline
        ),
        percent: Some(0),
        link: Some(names::console_encoded(&names::log_stream(tick.release))),
    }
}

/// Of one whose time is up, also where it was then: "SCALE_UP, 0 of 2 new tasks run".
pub(crate) fn add_where_it_was(cause: &mut Cause, target: &Target) {
    if cause.what.ends_with(ITS_TIMEOUT) {
        cause.what = fit(&format!("{}: {}", cause.what, going(target)), LONGEST_CAUSE);
    }
}

/// It was stopped, and by whom is asked.
pub(crate) fn looks_whether_stopped(tick: &Tick<'_>) -> Progress {
    Progress {
        summary: "A deployment was stopped: looking whether the release was".into(),
        percent: None,
        link: Some(names::console_encoded(&names::log_stream(tick.release))),
    }
}

/// Nothing is looked at yet.
pub(crate) fn lets_it_settle(tick: &Tick<'_>) -> Progress {
    Progress {
        summary: "Waiting for what the run before this one, which has just ended, may still begin and take back".into(),
        percent: Some(0),
        link: Some(names::console_encoded(&names::log_stream(tick.release))),
    }
}

/// Nobody waits for this run any more.
pub(crate) fn taken_over() -> Verdict {
    Verdict::failed(
        "The release was stopped, and this stage is tried again: that try deploys, and nothing is brought back over it.",
    )
}

/// The verdict when it has not ended in time.
pub(crate) fn waited_in_vain(turn: &Turn, waited: Duration) -> Verdict {
    Verdict::failed(format!(
        "Release {} of the pipeline {} deploys, and has not ended within {}, the longest `wait_for_group`. This try has begun nothing. Let it end, or \
         stop it; then retry the stage.",
        turn.execution,
        turn.pipeline,
        spoken(waited)
    ))
}

/// Sixteen bits of FNV-1a: enough to tell one sentence from the one before.
fn hash(text: &str) -> u16 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let folded = (hash >> 16) ^ (hash & 0xffff);
    // 0 stands for nothing said.
    u16::try_from(folded).unwrap_or_default().max(1)
}

/// What stands in the release's log of how the deployment ended: where the release was stopped, all of the verdict, since an action that was
/// given up shows none.
pub(crate) fn ending(next: &Next, was_stopped: bool) -> Vec<String> {
    match next {
        Next::Wait(..) | Next::Show(..) => Vec::new(),
        Next::Succeed(success) | Next::Answer(success) => vec![format!("deploy complete: {}", success.summary)],
        Next::Fail(verdict) => {
            let (first, rest) = verdict.message.split_once('\n').unwrap_or((&verdict.message, ""));
            let rest =
                rest.lines().filter(|line| was_stopped && !line.trim().is_empty() && !line.starts_with(STEP_BY_STEP));
            let rest = rest.map(|line| format!("deploy failed | {}", line.trim_end()));
            [format!("deploy failed: {first}")].into_iter().chain(rest).collect()
        }
    }
}
