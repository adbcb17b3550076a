//! What whoever plays this world asks it about its deployments, beside AWS's operations.

use shared::Time;

use super::{Deployment, Phase};
use crate::world::World;

impl World {
    /// Whether the account has this group, for a check before a release begins.
    #[must_use]
    pub fn has_deployment_group(&self, account: &str, region: &str, application: &str, group: &str) -> bool {
        let scope = (account.to_owned(), region.to_owned());
        self.codedeploy.groups.contains_key(&(scope, application.to_owned(), group.to_owned()))
    }

    /// Whether a deployment, or a rollback, has not come to where its traffic stays.
    #[must_use]
    pub fn is_deploying(&self) -> bool {
        let moves = |one: &Deployment| !matches!(one.phase, Phase::Termination | Phase::Over);
        self.codedeploy.deployments.values().any(moves) || self.is_rolling_out()
    }

    /// The newest deployment whose description contains this.
    #[must_use]
    pub fn deployment_with(&self, description: &str) -> Option<String> {
        let with = self.codedeploy.deployments.values().filter(|one| one.description.contains(description));
        with.max_by_key(|one| one.created).map(|one| one.id.clone())
    }

    /// When each deployment of a release got ready, and when its traffic moved: the target as its description names it,
    /// in the words of the release's log.
    #[must_use]
    pub fn changes_of_deployments(&self) -> Vec<(String, &'static str, Time)> {
        let changes = self.codedeploy.deployments.values().flat_map(|one| {
            let target = one.description.split(' ').nth(3).unwrap_or_default().to_owned();
            let ready = one.ready.map(|at| (target.clone(), "ready, its traffic waits", at));
            let moved = one.moved.map(|at| (target, "its traffic is on the new version", at));
            [ready, moved].into_iter().flatten()
        });
        changes.collect()
    }

    /// Of each deployment its description, when it got ready, and when its traffic moved.
    #[must_use]
    pub fn milestones_of_deployments(&self) -> Vec<(String, Option<Time>, Option<Time>)> {
        self.codedeploy.deployments.values().map(|one| (one.description.clone(), one.ready, one.moved)).collect()
    }

    /// The ids and groups of the deployments that are under way, also of those that wait for their old tasks.
    #[must_use]
    pub fn living_deployments(&self) -> Vec<(String, String)> {
        let living = self.codedeploy.deployments.values().filter(|one| !one.is_over() && one.rolls_back.is_none());
        living.map(|one| (one.id.clone(), one.group_name.clone())).collect()
    }

    /// When each deployment was created, and when it was over.
    #[must_use]
    pub fn spans_of_deployments(&self) -> Vec<(String, Time, Option<Time>)> {
        let all = self.codedeploy.deployments.values();
        let description = |one: &Deployment| {
            let rolled = one.rolls_back.as_ref().and_then(|id| self.codedeploy.deployments.get(id));
            rolled.map_or_else(|| one.description.clone(), |rolled| format!("rollback of {}", rolled.description))
        };
        all.map(|one| (description(one), one.created, one.completed)).collect()
    }

    /// Descriptions and statuses of all deployments, in the order in which they were created.
    #[must_use]
    pub fn deployments(&self) -> Vec<(String, &'static str)> {
        let mut all: Vec<_> = self.codedeploy.deployments.values().collect();
        all.sort_by_key(|deployment| deployment.created);
        all.iter().map(|deployment| (deployment.description.clone(), deployment.status)).collect()
    }
}
