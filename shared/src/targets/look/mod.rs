//! Looking at the targets: batched as far as the API allows, and in each place no more than two reads a second.
//!
//! What a status tells comes 20 or 25 to a call. What only a target tells costs a call for each, so targets are read in
//! turns, and in shorter ones when traffic may move at any moment.

mod codedeploy;
mod ecs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use crate::aws::ecs::{Half, Of, Service, Task, id};
use crate::aws::{Aws, FRESH};
use crate::error::Error;
use crate::targets::ecs::Standing;
use crate::targets::phase::Act;
use crate::targets::site::{Moment, Purpose, Whose};
use crate::targets::target::{Kind, Target};
use crate::targets::words;
use crate::time::Time;

/// How often statuses are read while traffic may move, which statuses do not tell.
const STATUSES_MEANWHILE: Duration = Duration::from_secs(5);

/// How often it is looked for dead tasks of one target, for what keeps it busy, and for which revision has the traffic after
/// all is over.
const SELDOM: Duration = Duration::from_secs(5);

/// What was not looked for so long comes before what is looked at all the time while traffic moves: a shift may take half an hour.
const OVERDUE: Duration = Duration::from_secs(60);

/// What is read of one target alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    Target,
    Dead,
    Back,
    Busy,
}

/// Looks at every place at once; what fails for one target does not keep the others from being seen.
pub async fn look(targets: &mut [Target], aws: &Aws, moment: &Moment, whose: &Whose) {
    let mut places: BTreeMap<(String, Option<String>), Vec<&mut Target>> = BTreeMap::new();
    for target in targets {
        let place = &target.site.place;
        places.entry((place.region.clone(), place.role.clone())).or_default().push(target);
    }
    join_all(places.into_values().map(async |mut targets| {
        find(aws, moment, whose, &mut targets).await;
        let moving = targets.iter().any(|target| codedeploy::may_move(target));
        let last = targets.iter().map(|target| target.statuses_read).max().unwrap_or_default();
        let statuses = !moving || moment.now.since(last) >= STATUSES_MEANWHILE;
        let mut calls = 0;
        if statuses {
            calls += codedeploy::look_at_statuses(moment, &mut targets).await;
        }
        calls += ecs::look_at_deployments(moment, &mut targets).await;
        // Where the statuses of many take several calls, one detail beside them would come to each target once in many minutes.
        let details = (calls.saturating_sub(1)).max(if statuses { 1 } else { 2 });
        look_at_details(moment, whose, &mut targets, (details, statuses)).await;
        if moment.takes_back() {
            look_at_traffic(moment, &mut targets).await;
        }
    }))
    .await;
}

/// What several targets share, asked for once: an outcome for each of them.
fn note_all<T: Clone>(
    now: Time,
    targets: &mut [&mut Target],
    of: impl Fn(&Target) -> bool,
    outcome: &Result<T, Error>,
    take: impl Fn(&mut Target, &T) -> Result<(), Error>,
) {
    for target in targets.iter_mut().filter(|target| of(target)) {
        let taken = outcome.as_ref().map_err(Clone::clone).and_then(|value| take(target, value));
        target.note(now, taken);
    }
}

/// Finds what the release has at each target already, and what was there before; then all that a begin needs.
async fn find(aws: &Aws, moment: &Moment, whose: &Whose, targets: &mut [&mut Target]) {
    // What was found, and could not be prepared then, is prepared in a later look.
    let is_unprepared = |target: &Target| {
        let lacks = target.definition.is_none() || target.lacks_its_turn();
        let is_free = target.deployment().is_none() && lacks && target.failed.is_none();
        let is_known = !matches!(target.kind, Kind::Unknown | Kind::Absent) && !target.is_new(moment);
        moment.purpose == Purpose::Deploy && is_free && is_known
    };
    let lacks = |target: &Target| {
        let lacks_more = codedeploy::lacks_its_group(moment, target)
            || codedeploy::lacks_its_way_back(target)
            || ecs::lacks_its_way_back(target);
        target.is_new(moment) || is_unprepared(target) || lacks_more
    };
    if !targets.iter().any(|target| lacks(target)) {
        return;
    }
    let unknown = |target: &Target| {
        let needs = matches!(target.kind, Kind::Unknown) || (target.before.is_none() && target.deployment().is_none());
        target.is_new(moment) && needs
    };
    let read = moment.by_now();
    for (target, service) in services(targets, unknown).await {
        targets[target].service_read = read;
        let taken = match service {
            Ok(Some(service)) => targets[target].take_service(aws, whose, &service).await,
            Ok(None) => {
                let why = words::no_service(&targets[target].site);
                Err(targets[target].absent(why))
            }
            Err(error) => Err(error),
        };
        targets[target].note(moment.now, taken);
    }
    codedeploy::look_at_groups(moment, targets).await;
    codedeploy::find(moment, whose, targets).await;
    ecs::find(moment, whose, targets).await;
    for target in targets.iter_mut().filter(|target| is_unprepared(target)) {
        let prepared = target.prepare(whose, moment.now).await;
        target.note(moment.now, prepared);
        target.details_read = moment.now;
    }
    look_again_at_what_runs(moment, targets).await;
}

fn is_old(moment: &Moment, target: &Target) -> bool {
    moment.by_now().since(target.service_read) > FRESH
}

/// Whether a service that ran this version already does so still, where a look at many has taken its time: what kept it busy when it was
/// read may have been over when it was asked what does, and have been taken back.
async fn look_again_at_what_runs(moment: &Moment, targets: &mut [&mut Target]) {
    let had = |target: &Target| match &target.kind {
        Kind::Ecs(native) if matches!(native.standing, Standing::Same) => Some(native.had.clone()),
        Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) | Kind::Ecs(_) => None,
    };
    let is_due = |target: &Target| target.details_read == moment.now && had(target).is_some() && is_old(moment, target);
    for (at, service) in services(targets, is_due).await {
        let seen = targets[at].note(moment.now, service).flatten();
        if seen.map(|seen| seen.definition) != had(targets[at]) {
            targets[at].look_anew();
        }
    }
}

/// What runs where a deployment is about to be begun, once more, where that was seen some time ago: the description of CodeDeploy's says
/// what ran before it, and ECS would replace what somebody else has begun meanwhile.
pub async fn look_before_begin(targets: &mut [Target], acts: &[Act], moment: &Moment) {
    let begun = acts.iter().filter(|act| matches!(act, Act::Begin { .. })).map(Act::at);
    let begun: BTreeSet<usize> = begun.collect();
    let mut places: BTreeMap<(String, Option<String>), Vec<&mut Target>> = BTreeMap::new();
    for (_, target) in targets.iter_mut().enumerate().filter(|(at, _)| begun.contains(at)) {
        let place = &target.site.place;
        places.entry((place.region.clone(), place.role.clone())).or_default().push(target);
    }
    join_all(places.into_values().map(async |mut targets| {
        let is_due = |target: &Target| !matches!(target.kind, Kind::Unknown | Kind::Absent) && is_old(moment, target);
        for (at, service) in services(&mut targets, is_due).await {
            // Not knowing, what was seen before holds for CodeDeploy, which refuses a second one.
            // One that somebody has deleted meanwhile has nothing to wait for.
            if matches!(service, Ok(None)) {
                let why = crate::targets::words::no_service(&targets[at].site);
                let gone = targets[at].absent(why);
                targets[at].note::<()>(moment.now, Err(gone));
                continue;
            }
            let seen = targets[at].note(moment.now, service).flatten();
            match (seen, &mut targets[at].kind) {
                (Some(seen), _) => targets[at].runs_before(&seen),
                (None, Kind::Ecs(native)) => native.is_asked = false,
                (None, Kind::Unknown | Kind::Absent | Kind::Codedeploy(_)) => {}
            }
        }
    }))
    .await;
}

/// What ECS says of the services of these targets, ten services a call; by the targets' places in the list. None of one that
/// does not exist.
async fn services(
    targets: &mut [&mut Target],
    of: impl Fn(&Target) -> bool,
) -> Vec<(usize, Result<Option<Service>, Error>)> {
    let mut clusters: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, target) in targets.iter().enumerate().filter(|(_, target)| of(target)) {
        clusters.entry(target.site.cluster().to_owned()).or_default().push(at);
    }
    let mut all = Vec::new();
    for (cluster, wanted) in clusters {
        let mut names: Vec<_> = wanted.iter().map(|at| targets[*at].site.ecs_service.clone()).collect();
        names.sort();
        names.dedup();
        let found = targets[wanted[0]].site.ecs.services(&cluster, &names).await;
        for at in wanted {
            let own = found.as_ref().map_err(Clone::clone);
            all.push((at, own.map(|found| found.get(&targets[at].site.ecs_service).cloned())));
        }
    }
    all
}

/// Reads the details of a few targets, those first whose turn is longest ago.
async fn look_at_details(
    moment: &Moment,
    whose: &Whose,
    targets: &mut [&mut Target],
    (reads, beside_statuses): (usize, bool),
) {
    let mut due: Vec<(bool, Time, usize, Detail)> = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        if target.deployment().is_none() {
            let may_be_busy = match &target.kind {
                Kind::Unknown | Kind::Absent => false,
                Kind::Codedeploy(group) => codedeploy::is_busy(group),
                // One that waits for its turn may be kept busy meanwhile, and ECS refuses nothing.
                Kind::Ecs(_) => target.definition.is_some(),
            };
            let waits = may_be_busy && target.failed.is_none() && moment.purpose == Purpose::Deploy;
            if waits && moment.now.since(target.details_read) >= SELDOM {
                due.push((true, target.details_read, at, Detail::Busy));
            }
            continue;
        }
        let begun = match &target.kind {
            Kind::Unknown | Kind::Absent => continue,
            Kind::Codedeploy(group) => codedeploy::details(target, group, at, &mut due),
            // One that is over is asked why, once: an invocation before this one may have known.
            Kind::Ecs(native) => ecs::is_under_way(native) || target.dead.seen == Time::default(),
        };
        // Also of one that waits for the others, or that has its traffic already: it may fall ill meanwhile.
        let asks_why = moment.purpose != Purpose::Drain && moment.purpose != Purpose::Sweep;
        // What is being taken back goes on dying: who was first is enough.
        let is_told = moment.purpose == Purpose::TakeBack && target.dead.seen != Time::default();
        if begun && asks_why && !is_told && moment.now.since(target.dead.read) >= SELDOM {
            due.push((true, target.dead.read, at, Detail::Dead));
        }
    }
    due.sort_by_key(|(later, read, at, _)| (*later, *read, *at));
    // While traffic moves at several, what is read there at each look must not keep it from being seen that tasks die: every second
    // time, the first read beside the statuses is for what is overdue.
    let overdue = due.iter().position(|(later, read, ..)| *later && moment.now.since(*read) >= OVERDUE);
    let turn = moment.now.millis() / u64::try_from(STATUSES_MEANWHILE.as_millis()).unwrap_or(u64::MAX);
    if let (Some(overdue), true) = (overdue, beside_statuses && turn.is_multiple_of(2)) {
        due.swap(0, overdue);
    }
    for (_, _, at, detail) in due.into_iter().take(reads) {
        let read = read(moment, whose, targets[at], detail).await;
        targets[at].note(moment.now, read);
    }
}

async fn read(moment: &Moment, whose: &Whose, target: &mut Target, detail: Detail) -> Result<(), Error> {
    if detail == Detail::Dead {
        target.dead.read = moment.now;
        read_dead(target).await?;
        target.dead.seen = moment.now;
        return Ok(());
    }
    target.details_read = moment.now;
    match detail {
        Detail::Dead => {}
        Detail::Busy => target.look_for_busy(whose, moment.now).await?,
        Detail::Target => codedeploy::read_target(target).await?,
        Detail::Back => codedeploy::read_back(target).await?,
    }
    target.details_seen = moment.now;
    Ok(())
}

/// How many stopped tasks of a service are looked through: where they die by the thousand, one look would take longer than its function has.
const ENOUGH_STOPPED: usize = 500;

/// The tasks of the new version that have died: CodeDeploy starts them as a task set, ECS itself by their definition. The
/// service's stopped tasks are listed, since `startedBy` must be the only filter of `ListTasks`.
async fn read_dead(target: &mut Target) -> Result<(), Error> {
    let is_new: Box<dyn Fn(&Task) -> bool + Send> = match &target.kind {
        Kind::Unknown | Kind::Absent => return Ok(()),
        Kind::Codedeploy(group) => {
            let seen = group.tried().and_then(|tried| tried.seen.as_ref());
            let Some(set) = seen.and_then(|seen| seen.new.as_ref()).map(|new| new.id.clone()) else { return Ok(()) };
            Box::new(move |task| task.started_by == set && has_died(task))
        }
        Kind::Ecs(native) => {
            let Some(tried) = native.tried() else { return Ok(()) };
            let (definition, begun) = (tried.definition.clone(), tried.deployment.created);
            Box::new(move |task| task.definition == definition && task.created >= begun && has_died(task))
        }
    };
    let (cluster, ecs) = (target.site.cluster().to_owned(), target.site.ecs.clone());
    let service = Of::Service(&target.site.ecs_service);
    let arns = ecs.list_some_tasks(&cluster, service, Half::Stopped, ENOUGH_STOPPED).await?;
    let mut dead = if arns.is_empty() { Vec::new() } else { ecs.describe_tasks(&cluster, &arns).await? };
    dead.retain(|task| is_new(task));
    if dead.is_empty() {
        return Ok(());
    }
    target.dead.take(&target.site, dead).await
}

/// What ECS stops since somebody scales the service in has not died.
fn has_died(task: &Task) -> bool {
    let is_ill = task.stopped_reason.as_deref().is_some_and(|why| why.contains("health checks"));
    task.stop_code.as_deref() != Some("ServiceSchedulerInitiated") || is_ill
}

/// Which revision has the traffic where a deployment is over, and its own word is not enough.
async fn look_at_traffic(moment: &Moment, targets: &mut [&mut Target]) {
    let wanted = |target: &Target| {
        let is_over = match &target.kind {
            Kind::Unknown | Kind::Absent => false,
            Kind::Codedeploy(group) => codedeploy::is_over_for_good(group),
            Kind::Ecs(native) => ecs::is_over_without_a_way_back(native),
        };
        let is_old = target.back_over().is_some_and(|over| target.traffic_read < over);
        is_over && (is_old || moment.now.since(target.traffic_read) >= SELDOM)
    };
    for (at, service) in services(targets, wanted).await {
        let target = &mut targets[at];
        let is_gone = matches!(service, Ok(None));
        if let Some(Some(service)) = target.note(moment.now, service) {
            let runs = id(&service.definition).to_owned();
            // Somebody has deployed over its way back.
            if target.back_over().is_some()
                && target.before.as_ref() != Some(&runs)
                && target.tried().as_ref() != Some(&runs)
            {
                target.overtaken = Some(runs.clone());
            }
            target.current = Some(runs);
            target.traffic_read = moment.now;
        } else if target.back_over().is_some() && is_gone {
            (target.current, target.traffic_read) = (Some(String::new()), moment.now);
        }
    }
}
