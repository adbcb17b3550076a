//! Looking at ECS's own deployments.

use futures_util::future::join_all;

use super::note_all;
use crate::aws::ecs::{DESCRIBE, Deployment, Listed, Status};
use crate::error::Error;
use crate::targets::ecs::{Deploys, Native, Standing, revisions_of};
use crate::targets::site::{Moment, Whose};
use crate::targets::target::{Kind, Target};

fn native(target: &Target) -> Option<&Native> {
    match &target.kind {
        Kind::Ecs(native) => Some(native),
        Kind::Unknown | Kind::Absent | Kind::Codedeploy(_) => None,
    }
}

/// Finds what the release has at each service already: lists are one call for each, what is listed is described together.
pub(super) async fn find(moment: &Moment, whose: &Whose, targets: &mut [&mut Target]) {
    let is_due = |target: &Target| native(target).is_some() && (target.is_new(moment) || lacks_its_way_back(target));
    for target in targets.iter_mut().filter(|target| is_due(target)) {
        // Without an image, a deployment is recognized by its very task definition.
        if whose.image.is_none() && target.definition.is_none() {
            let (family, container) = (target.site.family(), target.site.service.container.clone());
            let log_mode = crate::manifest::LogMode::AsDefined;
            let made = target.site.ecs.definition_with_image(&family, Some(&container), None, log_mode).await;
            if let Some((definition, _)) = target.note(moment.now, made) {
                target.definition = Some(definition.arn);
            }
        }
    }
    let listed = join_all(targets.iter().map(async |target| match is_due(target) {
        true => {
            let (cluster, service) = (target.site.cluster(), &target.site.ecs_service);
            Some(target.site.ecs.list_deployments(cluster, service, Listed::Since(whose.since)).await)
        }
        false => None,
    }))
    .await;
    let mut all: Vec<String> = listed.iter().flatten().flatten().flatten().cloned().collect();
    all.sort();
    let Some(site) = targets.iter().find(|target| native(target).is_some()).map(|target| target.site.clone()) else {
        return;
    };
    let found: Result<Vec<Deployment>, Error> =
        if all.is_empty() { Ok(Vec::new()) } else { site.ecs.deployments(&all).await };
    let revisions = match &found {
        Ok(found) if !found.is_empty() => revisions_of(&site, found).await,
        Ok(_) => Ok(Vec::new()),
        Err(error) => Err(error.clone()),
    };
    for (target, listed) in targets.iter_mut().zip(listed) {
        let Some(listed) = listed else { continue };
        let seen = listed.and_then(|listed| {
            let own = found.clone()?.into_iter().filter(|one| listed.contains(&one.arn));
            Ok((own.collect::<Vec<_>>(), revisions.clone()?))
        });
        if let Some((found, revisions)) = target.note(moment.now, seen) {
            let deploys = Deploys { definition: target.definition.as_deref(), before: target.before.as_deref() };
            if let Kind::Ecs(native) = &mut target.kind {
                native.adopt(&target.site, whose, deploys, &found, &revisions);
                if let Some(tried) = native.tried_mut() {
                    tried.note_since_when(moment.now);
                }
            }
            target.listed = Some(moment.now);
            target.found();
        }
    }
}

/// Whether the revision before was asked for, and its deployment was not found yet.
pub(super) fn lacks_its_way_back(target: &Target) -> bool {
    let tried = native(target).and_then(Native::tried);
    target.asked.is_some() && tried.is_some_and(|tried| tried.is_over_on_the_new_version() && tried.back.is_none())
}

/// What ECS says of the deployments that may still change, 20 to a call; how many calls that took.
pub(super) async fn look_at_deployments(moment: &Moment, targets: &mut [&mut Target]) -> usize {
    let mut arns: Vec<String> = Vec::new();
    for tried in targets.iter().filter_map(|target| native(target)?.tried()) {
        let both = std::iter::once(&tried.deployment).chain(&tried.back);
        arns.extend(both.filter(|one| !one.status.is_over()).map(|one| one.arn.clone()));
    }
    let ecs = targets.iter().find(|target| native(target).is_some()).map(|target| target.site.ecs.clone());
    let Some(ecs) = ecs.filter(|_| !arns.is_empty()) else { return 0 };
    arns.sort();
    arns.dedup();
    let found = ecs.deployments(&arns).await;
    let concerned = |target: &Target| native(target).is_some_and(|native| native.tried().is_some());
    note_all(moment.now, targets, concerned, &found, |target, found| {
        let Kind::Ecs(native) = &mut target.kind else { return Ok(()) };
        let Some(tried) = native.tried_mut() else { return Ok(()) };
        for known in std::iter::once(&mut tried.deployment).chain(&mut tried.back) {
            // What is not visible yet stays as it was.
            if let Some(seen) = found.iter().find(|one| one.arn == known.arn) {
                *known = seen.clone();
            }
        }
        tried.note_since_when(moment.now);
        Ok(())
    });
    arns.len().div_ceil(DESCRIBE)
}

/// Whether the release's deployment has tasks that can die.
pub(super) fn is_under_way(native: &Native) -> bool {
    let can_die = |status: &Status| !status.is_over() || *status == Status::Successful;
    native.tried().is_some_and(|tried| tried.back.is_none() && can_die(&tried.deployment.status))
}

/// Whether a deployment is over without having been taken back: what the service has now must be seen.
pub(super) fn is_over_without_a_way_back(native: &Native) -> bool {
    match &native.standing {
        Standing::Ours(tried) => {
            matches!(tried.deployment.status, Status::Stopped | Status::RollbackFailed) || tried.back_over.is_some()
        }
        Standing::NotListed | Standing::None(_) | Standing::Same => false,
    }
}
