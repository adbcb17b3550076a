//! Looking at the targets: batched as far as the API allows, and in each place no more than two reads a second.
//!
//! Statuses of deployments come 25 to a call. What only a target tells (fact 29: whether traffic has moved) costs a call
//! for each, so targets are read in turns, and in shorter ones when traffic may move at any moment.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use shared::aws::Place;
use shared::aws::codedeploy::{Deployment, Listed};
use shared::aws::ecs::{Half, Of};
use shared::manifest::in_environment;
use shared::{Error, Tick, Time, Verdict};

use crate::decide::State;
use crate::message;
use crate::target::{Plan, Target, revision};

/// Deployments of this action are looked for from this long before it began: clocks differ, and after the death of the
/// very first function the action counts as begun when Lambda delivered its event again.
const SKEW: Duration = Duration::from_secs(3600);

/// How long the rollback of a deployment that was stopped may take to appear: it is a deployment of its own (fact 31).
pub(crate) const ROLLBACK_APPEARS: Duration = Duration::from_secs(30);

/// How often statuses are read while traffic may move, which statuses do not tell.
const STATUSES_MEANWHILE: Duration = Duration::from_secs(5);

/// How often it is looked for dead tasks of one target, and which revision has the traffic after all is over.
const SELDOM: Duration = Duration::from_secs(5);

/// What is read of one target alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Target,
    Dead,
    Back,
    Busy,
}

impl Plan {
    /// Looks at every place at once; what fails for one target does not keep the others from being seen.
    pub(crate) async fn look(&mut self, tick: &Tick<'_>, state: &mut State) {
        let taking_back = state.giving_up.is_some() || tick.halted;
        let mut places: BTreeMap<Place, Vec<&mut Target>> = BTreeMap::new();
        for target in &mut self.targets {
            places.entry(target.place.clone()).or_default().push(target);
        }
        join_all(places.into_values().map(async |mut targets| {
            for target in &mut targets {
                target.taking_back = taking_back;
            }
            find(tick, &mut targets).await;
            let moving = targets.iter().any(|target| target.may_move());
            let last = targets.iter().map(|target| target.statuses_read).max().unwrap_or_default();
            let statuses = !moving || tick.now.since(last) >= STATUSES_MEANWHILE;
            if statuses {
                look_at_statuses(tick, &mut targets).await;
            }
            look_at_details(tick, &mut targets, if statuses { 1 } else { 2 }).await;
            if taking_back {
                look_at_traffic(tick, &mut targets).await;
            }
        }))
        .await;
        state.before = self.targets.iter().map(|target| target.before).collect();
    }
}

/// What several targets share, asked for once: an outcome for each of them.
fn note_all<T: Clone>(
    tick: &Tick<'_>,
    targets: &mut [&mut Target],
    of: impl Fn(&Target) -> bool,
    outcome: &Result<T, Error>,
    take: impl Fn(&mut Target, &T) -> Result<(), Error>,
) {
    for target in targets.iter_mut().filter(|target| of(target)) {
        let taken = outcome.as_ref().map_err(Clone::clone).and_then(|value| take(target, value));
        target.note(tick, taken);
    }
}

/// Finds what this action has at each target already, and what was there before.
async fn find(tick: &Tick<'_>, targets: &mut [&mut Target]) {
    let is_new = |target: &Target| target.failed.is_none() && (!target.listed || target.may_appear(tick.now));
    if !targets.iter().any(|target| is_new(target)) {
        return;
    }
    look_at_services(
        tick,
        targets,
        |target| is_new(target) && target.before == 0 && target.deployment.is_none(),
        |target, revision| {
            target.before = revision;
        },
    )
    .await;
    look_at_groups(tick, targets, is_new).await;
    let since = tick.begun.before(SKEW);
    let listed = join_all(targets.iter().map(async |target| match is_new(target) {
        true => target.codedeploy.list(&target.application, &target.group, Listed::Since(since)).await,
        false => Ok(Vec::new()),
    }))
    .await;
    let all: Vec<String> = listed.iter().flatten().flatten().cloned().collect();
    let Some(codedeploy) = targets.first().map(|target| target.codedeploy.clone()) else { return };
    let found = codedeploy.batch(&all).await;
    for (target, listed) in targets.iter_mut().zip(listed) {
        if !is_new(target) {
            continue;
        }
        let found = found.clone().and_then(|found| {
            let listed = listed?;
            Ok(found.into_iter().filter(|one| listed.contains(&one.id)).collect::<Vec<Deployment>>())
        });
        if let Some(found) = target.note(tick, found) {
            target.adopt(&found);
            // The function died and came back: what the service runs by now is not what it ran before.
            if target.tried() == Some(target.before) {
                target.before = 0;
            }
            if target.deployment.as_ref().is_some_and(Deployment::is_over) {
                target.over_since = Some(tick.now);
            }
            target.listed = true;
        }
    }
}

/// The revision that has each service's traffic, ten services a call.
async fn look_at_services(
    tick: &Tick<'_>,
    targets: &mut [&mut Target],
    of: impl Fn(&Target) -> bool,
    take: impl Fn(&mut Target, u32),
) {
    let mut clusters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for target in targets.iter().filter(|target| of(target)) {
        clusters.entry(target.environment.cluster.clone()).or_default().push(target.ecs_service.clone());
    }
    for (cluster, services) in clusters {
        let Some(ecs) = targets.first().map(|target| target.ecs.clone()) else { return };
        let found = ecs.services(&cluster, &services).await;
        note_all(
            tick,
            targets,
            |target| target.environment.cluster == cluster && of(target),
            &found,
            |target, found| {
                let Some(service) = found.get(&target.ecs_service) else {
                    return Err(message::no_service(&target.ecs_service, &cluster, &target.place.region).into());
                };
                let family = in_environment(&target.service.family, &target.environment_name);
                // A revision of another family cannot be told by its number.
                let is_own = shared::aws::ecs::id(&service.definition).split(':').next() == Some(&family);
                take(target, if is_own { revision(&service.definition) } else { 0 });
                Ok(())
            },
        );
    }
}

/// Whether each group waits at Ready, and that it deploys the service that the manifest means.
async fn look_at_groups(tick: &Tick<'_>, targets: &mut [&mut Target], of: impl Fn(&Target) -> bool) {
    let mut applications: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for target in targets.iter().filter(|target| of(target)) {
        let groups = applications.entry(target.application.clone()).or_default();
        if !groups.contains(&target.group) {
            groups.push(target.group.clone());
        }
    }
    for (application, groups) in applications {
        let Some(codedeploy) = targets.first().map(|target| target.codedeploy.clone()) else { return };
        let found = codedeploy.groups(&application, &groups).await;
        note_all(
            tick,
            targets,
            |target| target.application == application && of(target),
            &found,
            |target, found| {
                let own = (target.environment.cluster.clone(), target.ecs_service.clone());
                let verdict: Option<Verdict> = match found.get(&target.group) {
                    None => Some(message::no_group(&application, &target.group, &target.place.region)),
                    Some(group) if !group.services.contains(&own) => {
                        Some(message::other_service(target, &group.services))
                    }
                    Some(group) => {
                        target.waits = Some(group.waits);
                        None
                    }
                };
                verdict.map_or(Ok(()), |verdict| Err(verdict.into()))
            },
        );
    }
}

async fn look_at_statuses(tick: &Tick<'_>, targets: &mut [&mut Target]) {
    let under_way = |one: &Option<Deployment>| one.as_ref().filter(|one| !one.is_over()).map(|one| one.id.clone());
    let mut ids = Vec::new();
    for target in targets.iter() {
        ids.extend(under_way(&target.deployment));
        ids.extend(under_way(&target.back));
        let known = target.rollback.as_ref().is_some_and(Deployment::is_over);
        ids.extend(target.deployment.as_ref().and_then(|one| one.rollback.clone()).filter(|_| !known));
        // One that is over and has no rollback yet may get one.
        let fresh = target.over_since.is_some_and(|since| tick.now.since(since) < ROLLBACK_APPEARS);
        let rolls_back = target.deployment.as_ref().filter(|one| one.status != "Succeeded" && one.rollback.is_none());
        ids.extend(rolls_back.filter(|_| fresh).map(|one| one.id.clone()));
    }
    let Some(codedeploy) = targets.first().filter(|_| !ids.is_empty()).map(|target| target.codedeploy.clone()) else {
        return;
    };
    ids.sort();
    ids.dedup();
    let found = codedeploy.batch(&ids).await;
    for target in targets.iter_mut() {
        target.statuses_read = tick.now;
    }
    let concerned = |target: &Target| target.deployment.is_some();
    note_all(tick, targets, concerned, &found, |target, found| {
        let seen = |id: &str| found.iter().find(|one| one.id == id).cloned();
        for known in [&mut target.deployment, &mut target.back].into_iter().flatten() {
            // What is not visible yet stays as it was.
            if let Some(seen) = seen(&known.id) {
                let app_spec = seen.app_spec.clone().or_else(|| known.app_spec.clone());
                *known = Deployment { app_spec, ..seen };
            }
        }
        if let Some(deployment) = target.deployment.as_ref().filter(|one| one.is_over()) {
            target.over_since.get_or_insert(tick.now);
            if let Some(rollback) = deployment.rollback.as_ref().and_then(|id| seen(id)) {
                target.rollback = Some(rollback);
            }
        }
        Ok(())
    });
}

/// Reads the details of a few targets, those first whose turn is longest ago.
async fn look_at_details(tick: &Tick<'_>, targets: &mut [&mut Target], reads: usize) {
    let mut due: Vec<(bool, Time, usize, Detail)> = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        let Some(deployment) = &target.deployment else {
            if target.busy.is_some() && tick.now.since(target.details_read) >= SELDOM {
                due.push((true, target.details_read, at, Detail::Busy));
            }
            continue;
        };
        if let Some(back) = target.back.as_ref().filter(|back| !back.is_over()) {
            due.push((back.status != "InProgress", target.details_read, at, Detail::Back));
            continue;
        }
        // What failed says why, once.
        let final_read = target.over_since.is_none_or(|since| target.details_read < since);
        if !target.has_moved() && final_read {
            due.push((!target.may_move(), target.details_read, at, Detail::Target));
        }
        // Also of one that waits for the others, or that has its traffic already: it may fall ill meanwhile.
        let has_set = target.seen.as_ref().is_some_and(|seen| seen.new.is_some());
        if !deployment.is_over() && has_set && tick.now.since(target.dead_read) >= SELDOM {
            due.push((true, target.dead_read, at, Detail::Dead));
        }
    }
    due.sort_by_key(|(later, read, at, _)| (*later, *read, *at));
    for (_, _, at, detail) in due.into_iter().take(reads) {
        let read = read(tick, targets[at], detail).await;
        targets[at].note(tick, read);
    }
}

async fn read(tick: &Tick<'_>, target: &mut Target, detail: Detail) -> Result<(), Error> {
    let cluster = target.environment.cluster.clone();
    match detail {
        Detail::Target => {
            target.details_read = tick.now;
            let Some(deployment) = &target.deployment else { return Ok(()) };
            let seen = target.codedeploy.target(&deployment.id, &cluster, &target.ecs_service).await?;
            target.seen = seen.or(target.seen.take());
        }
        Detail::Back => {
            target.details_read = tick.now;
            let Some(back) = &target.back else { return Ok(()) };
            target.back_seen = target.codedeploy.target(&back.id, &cluster, &target.ecs_service).await?;
        }
        Detail::Busy => {
            target.details_read = tick.now;
            target.look_for_busy().await?;
        }
        Detail::Dead => {
            target.dead_read = tick.now;
            let Some(set) = target.seen.as_ref().and_then(|seen| seen.new.as_ref()) else { return Ok(()) };
            let dead = target.ecs.list_tasks(&cluster, Of::StartedBy(&set.id), Half::Stopped).await?;
            if !dead.is_empty() {
                let dead = target.ecs.describe_tasks(&cluster, &dead).await?;
                target.take_dead(dead).await?;
            }
        }
    }
    Ok(())
}

/// Which revision has the traffic where a deployment is over, and CodeDeploy's word is not enough.
async fn look_at_traffic(tick: &Tick<'_>, targets: &mut [&mut Target]) {
    let wanted = |target: &Target| {
        let is_over = target.deployment.as_ref().is_some_and(Deployment::is_over);
        let rolls_back = target.deployment.as_ref().is_some_and(|one| one.rollback.is_some())
            && target.rollback.as_ref().is_none_or(|rollback| !rollback.is_over());
        is_over && !rolls_back && tick.now.since(target.traffic_read) >= SELDOM
    };
    let now = tick.now;
    look_at_services(tick, targets, wanted, |target, revision| {
        target.current = Some(revision);
        target.traffic_read = now;
    })
    .await;
}
