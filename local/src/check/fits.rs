//! Where a manifest and the account of `local.yaml` do not fit each other.

use shared::Manifest;
use shared::manifest::{DeploymentKind, in_environment};

use crate::account::{Account, Controller};
use crate::world::World;

/// All that does not, each with its place in the manifest.
#[must_use]
pub(crate) fn unfit(manifest: &Manifest, account: &Account, world: &World) -> Vec<String> {
    let mut unfit = Vec::new();
    let mut places = Vec::new();
    for (name, environment) in &manifest.environments {
        let Some(region) = account.region_of(environment) else {
            let known = account.regions.keys().map(String::as_str);
            let why = shared::text::unknown("Region", &environment.region, known);
            unfit.push(format!("environments.{name}: in local.yaml {why}"));
            continue;
        };
        let Some(cluster) = region.clusters.get(&environment.cluster) else {
            let known = region.clusters.keys().map(String::as_str);
            let why = shared::text::unknown("cluster", &environment.cluster, known);
            unfit.push(format!("environments.{name}: in local.yaml {why}"));
            continue;
        };
        let owner = region.account.clone().unwrap_or_else(|| account.account.clone());
        places.push((name.as_str(), environment.region.as_str(), cluster, owner));
    }
    // What is missing with a whole Region or cluster was said.
    let place = |name: &str| places.iter().find(|(known, ..)| *known == name);
    for (name, task) in &manifest.tasks {
        for (environment, _) in manifest.environments_of(task.environments.as_ref()) {
            let Some((_, region, _, owner)) = place(environment) else { continue };
            let family = in_environment(&task.family, environment);
            if !world.has_definition(owner, region, &family) {
                unfit.push(format!("tasks.{name}: local.yaml has no task definition `{family}` in {region}"));
            }
        }
    }
    for (name, worker) in &manifest.workers {
        for (environment, _) in manifest.environments_of(worker.environments.as_ref()) {
            let Some((_, region, _, owner)) = place(environment) else { continue };
            let family = in_environment(&worker.family, environment);
            if !world.has_definition(owner, region, &family) {
                unfit.push(format!("workers.{name}: local.yaml has no task definition `{family}` in {region}"));
            }
        }
    }
    for (name, service) in &manifest.services {
        for (environment, _) in manifest.environments_of(service.environments.as_ref()) {
            let Some((_, region, cluster, owner)) = place(environment) else { continue };
            let family = in_environment(&service.family, environment);
            if !world.has_definition(owner, region, &family) {
                unfit.push(format!("services.{name}: local.yaml has no task definition `{family}` in {region}"));
            }
            let own = in_environment(&service.service, environment);
            if !cluster.services.contains_key(&own) {
                let why = shared::text::unknown("service", &own, cluster.services.keys().map(String::as_str));
                unfit.push(format!("services.{name}: in local.yaml, {region}, {why}"));
            }
            let found = cluster.services.get(&own);
            let at = format!("services.{name}: in local.yaml, {region}, the service `{own}`");
            match (found.map(|found| found.controller), service.deployment) {
                (Some(Controller::Ecs), Some(DeploymentKind::Codedeploy)) => {
                    unfit.push(format!("{at} is deployed by ECS, and deploy.yaml says `deployment: codedeploy`"));
                }
                (Some(Controller::CodeDeploy), Some(DeploymentKind::Ecs)) => {
                    unfit.push(format!("{at} is deployed by CodeDeploy, and deploy.yaml says `deployment: ecs`"));
                }
                (Some(Controller::CodeDeploy), _) if service.codedeploy().is_none() => {
                    unfit.push(format!("{at} is deployed by CodeDeploy, and deploy.yaml names no `deployment_group`"));
                }
                _ => {}
            }
            // Whoever moved a service to ECS may still have its old group, or not.
            let moved = found.is_some_and(|found| found.controller == Controller::Ecs);
            let Some(names) = service.codedeploy().filter(|_| !moved) else { continue };
            let [application, group] = [names.application, names.group].map(|name| in_environment(name, environment));
            if !world.has_deployment_group(owner, region, &application, &group) {
                let why = format!("local.yaml has no deployment group `{application}/{group}` in {region}");
                unfit.push(format!("services.{name}: {why}"));
            }
        }
    }
    unfit
}
