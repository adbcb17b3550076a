//! What runs by the clock in an environment, as a release plans it.

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, Overlap};

/// A schedule of EventBridge Scheduler's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name in the manifest.
    pub name: String,
    /// When, in Scheduler's words.
    pub expression: String,
    /// In which time zone.
    pub zone: String,
    /// The worker or task that is started.
    pub starts: String,
    /// What happens when its last run still goes on.
    pub overlap: Overlap,
    /// How late it may begin, in seconds.
    pub within: u64,
}

/// The schedules of each environment, in the manifest's order.
#[must_use]
pub fn plan(manifest: &Manifest) -> Vec<(String, Vec<Planned>)> {
    let planned = |environment: &String| {
        let mut planned = Vec::new();
        for (name, schedule) in &manifest.schedules {
            let (of_worker, of_task) = (&schedule.worker, &schedule.task);
            let started = match (of_worker, of_task) {
                (Some(worker), _) => manifest.workers.get(worker).map(|one| (worker, one.environments.as_ref())),
                (None, Some(task)) => manifest.tasks.get(task).map(|one| (task, one.environments.as_ref())),
                (None, None) => None,
            };
            let Some((starts, there)) = started else { continue };
            let is_in = |listed| manifest.environments_of(listed).iter().any(|(name, _)| name == environment);
            if !is_in(there) || !is_in(schedule.environments.as_ref()) {
                continue;
            }
            planned.push(Planned {
                name: name.clone(),
                expression: schedule.cron.expression(),
                zone: schedule.time_zone.clone(),
                starts: starts.clone(),
                overlap: schedule.overlap,
                within: schedule.within.0.as_secs(),
            });
        }
        planned
    };
    manifest.environments.keys().map(|environment| (environment.clone(), planned(environment))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_where_it_and_what_it_starts_are() {
        let manifest = Manifest::read(
            "deploy.yaml",
            "\
application: shop
environments:
  us: {region: us-east-1, cluster: shop}
  eu: {region: eu-west-1, cluster: shop}
  ap: {region: ap-southeast-2, cluster: shop}
tasks:
  report: {family: shop-task, environments: [eu]}
workers:
  exports: {family: shop-work}
schedules:
  nightly: {cron: 0 3 * * *, task: report, time_zone: Europe/Berlin, within: 1h}
  often: {cron: '*/5 * * * *', worker: exports, environments: [us, eu], overlap: allow}
",
        )
        .unwrap();
        let plan = plan(&manifest);
        let names = |at: usize| plan[at].1.iter().map(|one| one.name.as_str()).collect::<Vec<_>>();
        assert_eq!((names(0), names(1), names(2)), (vec!["often"], vec!["nightly", "often"], vec![]));
        let nightly = &plan[1].1[0];
        assert_eq!((nightly.expression.as_str(), nightly.within), ("cron(0 3 * * ? *)", 3600));
    }
}
