//! ECS services: who deploys them, how, and telling ECS to do it.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ecs::types::{DeploymentLifecycleHookStage, DeploymentLifecycleHookTargetType, DeploymentRolloutState};
use serde_json::{Value, json};

use super::Ecs;
use super::deployments::Stage;
use super::revision::{self, Kept};
use crate::aws::states::states;
use crate::error::{Error, failure};
use crate::manifest::CapacityProvider;
use crate::time::Time;

/// How many services `DescribeServices` takes.
const DESCRIBE_SERVICES: usize = 10;

states! {
    /// Who deploys a service.
    #[derive(Default)]
    Controller {
        /// ECS itself (facts 43 to 48); what a service has that says nothing.
        #[default]
        Ecs = "ECS",
        /// CodeDeploy (facts 27 to 32).
        Codedeploy = "CODE_DEPLOY",
        /// Somebody who makes task sets by himself.
        External = "EXTERNAL",
    }
}

states! {
    /// How ECS itself brings a new version of a service (fact 43).
    #[derive(Default)]
    Strategy {
        /// New tasks take the place of old ones; what a service has that says nothing.
        #[default]
        Rolling = "ROLLING",
        /// All traffic at once.
        BlueGreen = "BLUE_GREEN",
        /// In equal steps.
        Linear = "LINEAR",
        /// A small share first, then the rest.
        Canary = "CANARY",
    }
}

/// A service, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Who deploys it.
    pub controller: Controller,
    /// How, where ECS itself does.
    pub strategy: Strategy,
    /// The stages at which a PAUSE hook of its configuration stops a deployment (fact 46).
    pub pauses: Vec<Stage>,
    /// How long its old tasks stay after the traffic has moved, where ECS itself deploys it.
    pub bake: Duration,
    /// Whether a load balancer asks its tasks whether they are healthy.
    pub is_balanced: bool,
    /// Its deployment configuration, as ECS has it: also what this version of the SDK does not know.
    pub configuration: Value,
    /// The task definition of its primary task set or deployment.
    pub definition: String,
    /// How many tasks it should have.
    pub desired: i32,
    /// When its primary deployment was begun, where ECS itself updates it.
    pub deployed: Option<Time>,
    /// Whether ECS has given up its primary deployment and left it: it starts no tasks of this definition any more.
    pub has_given_up: bool,
    /// Why its target group found a task ill last, in the words of the service's events.
    pub ill: Option<String>,
    /// What the tasks of its primary task set are placed by, or its own; empty where it has a launch type.
    pub capacity_providers: Vec<CapacityProvider>,
}

impl Service {
    /// The last stage at which its deployments have their new tasks and wait to be continued before production traffic moves; none with a
    /// rolling deployment: whether ECS pauses those is not documented (fact 46).
    #[must_use]
    pub fn barrier(&self) -> Option<&Stage> {
        let before = self.pauses.iter().filter(|stage| stage.can_be_barrier());
        before.max_by_key(|stage| stage.place()).filter(|_| self.can_pause())
    }

    /// Whether a deployment of its can wait before its traffic moves.
    #[must_use]
    pub fn can_pause(&self) -> bool {
        matches!(self.strategy, Strategy::BlueGreen | Strategy::Linear | Strategy::Canary)
    }

    /// Whether ECS may stop old tasks before new ones are healthy.
    #[must_use]
    pub fn stops_first(&self) -> bool {
        self.configuration["minimumHealthyPercent"].as_i64().is_some_and(|percent| percent < 100)
    }

    /// Its deployment configuration with a PAUSE hook before the production traffic, which takes everything back when it
    /// was not continued within `limit`.
    #[must_use]
    pub fn with_barrier(&self, limit: Duration) -> Value {
        // ECS takes 1 to 20,160 minutes (fact 46).
        let minutes = (limit.as_secs().div_ceil(60)).clamp(1, 20_160);
        let mut configuration = if self.configuration.is_object() { self.configuration.clone() } else { json!({}) };
        let mut hooks = configuration["lifecycleHooks"].as_array().cloned().unwrap_or_default();
        hooks.push(json!({"targetType": "PAUSE", "lifecycleStages": [Stage::PreProductionTrafficShift.word()],
            "timeoutConfiguration": {"timeoutInMinutes": minutes, "action": "ROLLBACK"}}));
        configuration["lifecycleHooks"] = hooks.into();
        configuration
    }
}

/// The stages at which ECS calls a hook, or pauses.
#[must_use]
pub fn hook_stages() -> &'static [&'static str] {
    DeploymentLifecycleHookStage::values()
}

impl Ecs {
    /// Services of a cluster, by name; one that does not exist, or is deleted, is left out.
    ///
    /// # Errors
    /// The calls'.
    pub async fn services(&self, cluster: &str, names: &[String]) -> Result<BTreeMap<String, Service>, Error> {
        let name = self.call("DescribeServices");
        let mut services = BTreeMap::new();
        for some in names.chunks(DESCRIBE_SERVICES) {
            let kept = Kept::default();
            let call = self.client.describe_services().cluster(cluster).set_services(Some(some.to_vec()));
            let call = call.customize().interceptor(kept.clone());
            let output = self.pacer.pace(async { call.send().await.map_err(|error| failure(&name, &error)) }).await?;
            let body = kept.body().unwrap_or_default();
            // ECS goes on showing one that was deleted, and deploys to none such.
            let lives = |one: &&aws_sdk_ecs::types::Service| !matches!(one.status(), Some("INACTIVE" | "DRAINING"));
            for found in output.services().iter().filter(lives) {
                let service = service(found, &body);
                services.insert(service.name.clone(), service);
            }
        }
        Ok(services)
    }

    /// Gives a service another task definition, and with it another deployment configuration where one is given: ECS begins
    /// a service deployment (fact 44).
    ///
    /// Safe to repeat: a service that has this task definition already, or is on its way to it, begins no other deployment,
    /// since none is forced.
    ///
    /// # Errors
    /// The call's.
    pub async fn update(
        &self,
        cluster: &str,
        service: &str,
        definition: &str,
        configuration: Option<Value>,
    ) -> Result<(), Error> {
        let name = self.call("UpdateService");
        let call = self.client.update_service().cluster(cluster).service(service).task_definition(definition);
        let sent = match configuration {
            None => call.customize().config_override(super::once()).send().await,
            Some(configuration) => {
                let body = json!({"cluster": cluster, "service": service, "taskDefinition": definition,
                    "deploymentConfiguration": configuration});
                let call = call.customize().config_override(super::once());
                call.mutate_request(move |sent| revision::replace_body(sent, &body)).send().await
            }
        };
        sent.map(drop).map_err(|error| failure(&name, &error))
    }
}

fn service(found: &aws_sdk_ecs::types::Service, body: &Value) -> Service {
    let name = found.service_name().unwrap_or_default().to_owned();
    let primary = found.task_sets().iter().find(|set| set.status() == Some("PRIMARY"));
    let definition = primary.and_then(|set| set.task_definition()).or(found.task_definition());
    let configured = found.deployment_configuration();
    let hooks = configured.map(|one| one.lifecycle_hooks()).unwrap_or_default().iter();
    let pauses = hooks.filter(|hook| hook.target_type() == Some(&DeploymentLifecycleHookTargetType::Pause));
    let controller = found.deployment_controller().map(|one| Controller::from(one.r#type().as_str()));
    let minutes = configured.and_then(|one| one.bake_time_in_minutes()).unwrap_or_default();
    let deployments = found.deployments().iter();
    let raw = body["services"].as_array().into_iter().flatten().find(|one| one["serviceName"] == *name);
    Service {
        controller: controller.unwrap_or_default(),
        strategy: configured
            .and_then(|one| one.strategy())
            .map(|strategy| Strategy::from(strategy.as_str()))
            .unwrap_or_default(),
        pauses: pauses.flat_map(|hook| hook.lifecycle_stages()).map(|stage| Stage::from(stage.as_str())).collect(),
        bake: Duration::from_secs(60 * u64::try_from(minutes).unwrap_or_default()),
        is_balanced: !found.load_balancers().is_empty(),
        configuration: raw.map(|one| one["deploymentConfiguration"].clone()).unwrap_or_default(),
        definition: definition.unwrap_or_default().to_owned(),
        desired: found.desired_count(),
        has_given_up: deployments
            .clone()
            .filter(|one| one.status() == Some("PRIMARY"))
            .any(|one| one.rollout_state() == Some(&DeploymentRolloutState::Failed)),
        deployed: deployments
            .filter(|one| one.status() == Some("PRIMARY"))
            .find_map(|one| one.created_at().copied().map(Time::from)),
        ill: found.events().iter().find_map(|event| ill(event.message()?)),
        capacity_providers: primary
            .map_or(found.capacity_provider_strategy(), |set| set.capacity_provider_strategy())
            .iter()
            .map(|one| CapacityProvider {
                name: one.capacity_provider().to_owned(),
                weight: one.weight().try_into().unwrap_or_default(),
                base: one.base().try_into().unwrap_or_default(),
            })
            .collect(),
        name,
    }
}

/// What an event of a service's says of a task that is ill: `(service web) (port 8080) is unhealthy in (target-group arn)
/// due to (reason Health checks failed with these codes: [500])`.
fn ill(event: &str) -> Option<String> {
    let (_, reason) = event.split_once(" is unhealthy in ")?.1.split_once("due to (reason ")?;
    Some(reason.trim_end_matches(['.', ' ']).trim_end_matches(')').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_barrier_is_the_last_pause_before_production_traffic_and_a_rolling_service_has_none() {
        use Stage::{
            PostProductionTrafficShift, PostScaleUp, PostTestTrafficShift, PreProductionTrafficShift, PreScaleUp,
        };
        for (strategy, pauses, barrier) in [
            (Strategy::BlueGreen, vec![PreProductionTrafficShift], Some(PreProductionTrafficShift)),
            (Strategy::Canary, vec![PreScaleUp, PostTestTrafficShift], Some(PostTestTrafficShift)),
            (Strategy::Linear, vec![PostScaleUp, PostProductionTrafficShift], Some(PostScaleUp)),
            (Strategy::BlueGreen, vec![PostProductionTrafficShift], None),
            (Strategy::BlueGreen, vec![], None),
            (Strategy::Rolling, vec![PostScaleUp], None),
            (Strategy::Unknown("OF_TOMORROW".into()), vec![PostScaleUp], None),
        ] {
            let service = Service { strategy, pauses, ..Service::default() };
            assert_eq!(service.barrier(), barrier.as_ref(), "{service:?}");
        }
    }

    #[test]
    fn a_barrier_that_is_added_leaves_everything_else_as_it_is() {
        let configuration = json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5, "ofTomorrow": [1],
            "lifecycleHooks": [{"hookTargetArn": "arn", "roleArn": "role", "lifecycleStages": ["POST_SCALE_UP"]}]});
        let service = Service { configuration: configuration.clone(), ..Service::default() };
        let mut with = service.with_barrier(Duration::from_secs(61));
        let added = with["lifecycleHooks"].as_array_mut().unwrap().pop().unwrap();
        assert_eq!(with, configuration);
        assert_eq!(added["timeoutConfiguration"], json!({"timeoutInMinutes": 2, "action": "ROLLBACK"}));
    }
}
