//! Looking at CodeDeploy's groups and their deployments.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Detail, note_all};
use crate::aws::codedeploy::{BATCH, Deployment, Listed};
use crate::error::{Error, Verdict};
use crate::targets::codedeploy::{Group, ROLLBACK_APPEARS, Standing};
use crate::targets::site::{Moment, Of, Purpose, Whose};
use crate::targets::target::{Kind, Target};
use crate::targets::words;
use crate::time::Time;

/// Deployments of the release are looked for from this long before its action began: clocks differ, and their descriptions
/// tell whose they are.
const SKEW: Duration = Duration::from_secs(3600);

fn group(target: &Target) -> Option<&Group> {
    match &target.kind {
        Kind::Codedeploy(group) => Some(group),
        Kind::Unknown | Kind::Absent | Kind::Ecs(_) => None,
    }
}

fn group_mut(target: &mut Target) -> Option<&mut Group> {
    match &mut target.kind {
        Kind::Codedeploy(group) => Some(group),
        Kind::Unknown | Kind::Absent | Kind::Ecs(_) => None,
    }
}

/// Whether a target's traffic may move at any moment.
pub(super) fn may_move(target: &Target) -> bool {
    group(target).is_some_and(|group| group.tried().is_some_and(|tried| tried.may_move(group.waits)))
}

/// Whether it is not known yet how its group deploys: not begun before it is.
pub(super) fn lacks_its_group(moment: &Moment, target: &Target) -> bool {
    let reads_groups = matches!(moment.purpose, Purpose::Deploy | Purpose::TakeBack);
    reads_groups && target.failed.is_none() && group(target).is_some_and(|group| group.waits.is_none())
}

/// Whether each group waits at Ready, and that it deploys the service that the manifest means.
pub(super) async fn look_at_groups(moment: &Moment, targets: &mut [&mut Target]) {
    let is_new = |target: &Target| lacks_its_group(moment, target);
    let mut applications: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for group in targets.iter().filter(|target| is_new(target)).filter_map(|target| group(target)) {
        let groups = applications.entry(group.application.clone()).or_default();
        if !groups.contains(&group.group) {
            groups.push(group.group.clone());
        }
    }
    for (application, groups) in applications {
        let Some(client) = targets.iter().find_map(|target| group(target)).map(|group| group.client.clone()) else {
            return;
        };
        let found = client.groups(&application, &groups).await;
        let of = |target: &Target| is_new(target) && group(target).is_some_and(|one| one.application == application);
        note_all(moment.now, targets, of, &found, |target, found| {
            let own = (target.site.cluster().to_owned(), target.site.ecs_service.clone());
            let Some(name) = group(target).map(|group| group.group.clone()) else { return Ok(()) };
            let verdict: Verdict = match found.get(&name) {
                None => words::no_group(&application, &name, &target.site.place.region),
                Some(seen) if !seen.services.contains(&own) => {
                    words::other_service(&target.site, &name, &seen.services)
                }
                Some(seen) => {
                    if let Some(group) = group_mut(target) {
                        group.waits = Some(seen.waits);
                    }
                    return Ok(());
                }
            };
            Err(target.absent(verdict))
        });
    }
}

/// Whether the revision before was asked for, perhaps by the invocation before this one, and its deployment was not found yet.
pub(super) fn lacks_its_way_back(target: &Target) -> bool {
    let tried = group(target).and_then(Group::tried);
    let Some(tried) = tried.filter(|tried| tried.back.is_none()) else { return false };
    // Whatever has become of it, the invocation before may have asked for a way back that is not listed yet.
    (tried.deployment.has_succeeded() && target.asked.is_some())
        || (tried.deployment.is_over() && target.may_come_back())
}

/// Finds what the release has at each group already.
pub(super) async fn find(moment: &Moment, whose: &Whose, targets: &mut [&mut Target]) {
    let since = match &whose.of {
        // What a run before this one had brought, which was given up, is no revision before.
        Of::Action { tried_before: Some(before), .. } => whose.since.min(*before),
        Of::Action { tried_before: None, .. } | Of::Release { .. } => whose.since,
    };
    let since = since.before(SKEW);
    let is_due = |target: &Target| target.is_new(moment) || lacks_its_way_back(target);
    let listed = join_all(targets.iter().map(async |target| match group(target).filter(|_| is_due(target)) {
        Some(group) => Some(group.client.list(&group.application, &group.group, Listed::Since(since)).await),
        None => None,
    }))
    .await;
    let all: Vec<String> = listed.iter().flatten().flatten().flatten().cloned().collect();
    let Some(client) = targets.iter().find_map(|target| group(target)).map(|group| group.client.clone()) else {
        return;
    };
    let found = client.batch(&all).await;
    for (target, listed) in targets.iter_mut().zip(listed) {
        let Some(listed) = listed else { continue };
        let found: Result<Vec<Deployment>, Error> = found.clone().and_then(|found| {
            let listed = listed?;
            Ok(found.into_iter().filter(|one| listed.contains(&one.id)).collect())
        });
        if let Some(found) = target.note(moment.now, found) {
            if let Some(group) = group_mut(target) {
                group.adopt(&found, whose);
                if let Some(tried) = group.tried_mut()
                    && tried.deployment.is_over()
                {
                    tried.over_since.get_or_insert(moment.now);
                }
            }
            target.listed = Some(moment.now);
            target.found();
        }
    }
}

/// What CodeDeploy says of the deployments that may still change, 25 to a call; how many calls that took.
pub(super) async fn look_at_statuses(moment: &Moment, targets: &mut [&mut Target]) -> usize {
    let under_way = |one: &Deployment| (!one.is_over()).then(|| one.id.clone());
    let mut ids = Vec::new();
    for tried in targets.iter().filter_map(|target| group(target)?.tried()) {
        ids.extend(under_way(&tried.deployment));
        ids.extend(tried.back.as_ref().and_then(|(back, _)| under_way(back)));
        let known = tried.rollback.as_ref().is_some_and(Deployment::is_over);
        ids.extend(tried.deployment.rollback.clone().filter(|_| !known));
        // One that is over and has no rollback yet may get one.
        let fresh = tried.over_since.is_some_and(|since| moment.now.since(since) < ROLLBACK_APPEARS);
        let may_get_one = !tried.deployment.has_succeeded() && tried.deployment.rollback.is_none();
        ids.extend((fresh && may_get_one).then(|| tried.deployment.id.clone()));
    }
    let client = targets.iter().find_map(|target| group(target)).map(|group| group.client.clone());
    let Some(client) = client.filter(|_| !ids.is_empty()) else { return 0 };
    ids.sort();
    ids.dedup();
    let found = client.batch(&ids).await;
    for target in targets.iter_mut() {
        target.statuses_read = moment.now;
    }
    let concerned = |target: &Target| group(target).is_some_and(|group| group.tried().is_some());
    note_all(moment.now, targets, concerned, &found, |target, found| {
        let Some(tried) = group_mut(target).and_then(Group::tried_mut) else { return Ok(()) };
        let seen = |id: &str| found.iter().find(|one| one.id == id).cloned();
        let backs = tried.back.as_mut().map(|(back, _)| back);
        for known in std::iter::once(&mut tried.deployment).chain(backs) {
            // What is not visible yet stays as it was.
            if let Some(seen) = seen(&known.id) {
                let app_spec = seen.app_spec.clone().or_else(|| known.app_spec.clone());
                *known = Deployment { app_spec, ..seen };
            }
        }
        if tried.deployment.is_over() {
            tried.over_since.get_or_insert(moment.now);
            if let Some(rollback) = tried.deployment.rollback.as_ref().and_then(|id| seen(id)) {
                tried.rollback = Some(rollback);
            }
        }
        Ok(())
    });
    ids.len().div_ceil(BATCH)
}

/// Which details of a target are due; whether it has new tasks that can die.
pub(super) fn details(target: &Target, group: &Group, at: usize, due: &mut Vec<(bool, Time, usize, Detail)>) -> bool {
    let Some(tried) = group.tried() else { return false };
    if let Some((back, _)) = tried.back.as_ref().filter(|(back, _)| !back.is_over()) {
        let may_move = back.status == crate::aws::codedeploy::Status::InProgress;
        due.push((!may_move, target.details_read, at, Detail::Back));
        return false;
    }
    // What failed says why, once.
    let final_read = tried.over_since.is_none_or(|since| target.details_seen < since);
    if !tried.has_moved() && final_read {
        due.push((!tried.may_move(group.waits), target.details_read, at, Detail::Target));
    }
    !tried.deployment.is_over() && tried.seen.as_ref().is_some_and(|seen| seen.new.is_some())
}

/// Reads the target of the release's deployment (fact 29).
pub(super) async fn read_target(target: &mut Target) -> Result<(), Error> {
    let (cluster, service) = (target.site.cluster().to_owned(), target.site.ecs_service.clone());
    let Some(group) = group_mut(target) else { return Ok(()) };
    let client = group.client.clone();
    let Some(tried) = group.tried_mut() else { return Ok(()) };
    let seen = client.target(&tried.deployment.id, &cluster, &service).await?;
    tried.seen = seen.or(tried.seen.take());
    Ok(())
}

/// Reads the target of the deployment that brings the revision before back.
pub(super) async fn read_back(target: &mut Target) -> Result<(), Error> {
    let (cluster, service) = (target.site.cluster().to_owned(), target.site.ecs_service.clone());
    let Some(group) = group_mut(target) else { return Ok(()) };
    let client = group.client.clone();
    let Some((back, seen)) = group.tried_mut().and_then(|tried| tried.back.as_mut()) else { return Ok(()) };
    *seen = client.target(&back.id, &cluster, &service).await?;
    Ok(())
}

/// Whether a deployment is over, and no rollback of CodeDeploy's own is under way.
pub(super) fn is_over_for_good(group: &Group) -> bool {
    let Standing::Ours(tried) = &group.standing else { return false };
    let rolls_back =
        tried.deployment.rollback.is_some() && tried.rollback.as_ref().is_none_or(|rollback| !rollback.is_over());
    tried.deployment.is_over() && !rolls_back
}

/// Whether another deployment keeps the group busy.
pub(super) fn is_busy(group: &Group) -> bool {
    matches!(group.standing, Standing::None(Some(_)))
}
