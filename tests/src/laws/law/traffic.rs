//! Laws 3 and 4, as far as they are about traffic: everywhere or nowhere, or exactly where it is said to be.

use local::world::ExecutionStatus;

use super::{Ended, none};
use crate::laws::shape::{By, Shape};

/// The traffic of every service that CodeDeploy deploys is, in every environment, on the version of the last release whose
/// deployment succeeded, or on the version before all of them. Only where somebody deployed by hand, and where it is said in
/// capitals, may it be elsewhere.
pub(super) fn traffic_is_where_the_last_good_release_put_it(ended: &Ended<'_>) -> Result<(), String> {
    let good = ended.releases.iter().filter_map(|release| Some((release.deployed()?, &release.image)));
    let expected = good.max_by_key(|(at, _)| *at).map_or("registry.example/shop:1.0", |(_, image)| image);
    let traffic = ended.stage.world().traffic();
    let said = ended.said();
    let mut wrong = Vec::new();
    for place in &ended.plan.shape.environments {
        for service in ended.plan.shape.services.iter().filter(|service| service.by != By::Ecs) {
            let name = Shape::ecs_service(service, place);
            let label = format!("NOT ROLLED BACK: {}/{} ", place.name, service.name);
            let Some(found) = traffic.iter().find(|view| view.service == name) else { continue };
            let excused = ended.deeds.touched.contains(&name) || said.iter().any(|text| text.contains(&label));
            if found.image != expected && !excused {
                wrong.push(format!("{name} has {}, expected is {expected}", found.image));
            }
        }
    }
    none("traffic in the wrong place", &wrong)
}

/// After success, the old tasks of workers that CodeDeploy deployed are gone, or the drain's action says that some are busy.
pub(super) fn old_workers_are_gone_or_reported(ended: &Ended<'_>) -> Result<(), String> {
    let Some(release) = ended.releases.last().filter(|release| release.status == ExecutionStatus::Succeeded) else {
        return Ok(());
    };
    let Some(drain) = release.action("Drain") else { return Ok(()) };
    let mut left = Vec::new();
    for place in &ended.plan.shape.environments {
        for service in ended.plan.shape.services.iter().filter(|service| service.worker && service.by != By::Ecs) {
            let name = Shape::ecs_service(service, place);
            let old = ended.lives.iter().filter(|life| {
                life.service.as_deref() == Some(&name) && life.image != release.image && life.stopping.is_none()
            });
            let said =
                drain.summary.contains(&format!("{}/{}: ", place.name, service.name)) && drain.summary.contains("busy");
            // A summary has an end (fact 6).
            let cut = drain.summary.chars().count() >= 2000;
            if old.count() > 0 && !said && !cut && !ended.deeds.touched.contains(&name) {
                left.push(format!("{name}: {}", drain.summary));
            }
        }
    }
    none("old workers that nobody speaks of", &left)
}
