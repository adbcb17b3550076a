//! The services in each environment, and their newest deployments: `DescribeServices`, `DescribeTaskDefinition`; of CodeDeploy
//! `ListDeployments`, `BatchGetDeployments`, `BatchGetDeploymentTargets`; of ECS `ListServiceDeployments`,
//! `DescribeServiceDeployments`.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Manifest;
use shared::manifest::{self, CodedeployNames};

use super::standing::{Mark, Standing, spoken};
use super::{image, short, version};
use crate::console::aws::{Aws, Refused, Service};
use crate::console::said::Said;

/// A service in an environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) environment: Said,
    pub(crate) region: Said,
    /// The service's name in the manifest.
    pub(crate) service: Said,
    /// Who deploys it, and how: "CodeDeploy", "ECS, canary".
    pub(crate) how: Said,
    /// What runs, what has the traffic first.
    pub(crate) versions: Vec<Version>,
    pub(crate) deployment: Option<Deployment>,
    /// Why it is not known how it stands.
    pub(crate) trouble: Said,
}

/// A version of a service that has tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Version {
    pub(crate) age: Age,
    /// The image's tag.
    pub(crate) tag: Said,
    pub(crate) image: Said,
    /// `family:revision`.
    pub(crate) definition: Said,
    pub(crate) running: u64,
    pub(crate) desired: u64,
    /// Its share of the traffic in percent, where there is any to share.
    pub(crate) traffic: Option<u64>,
}

/// Which of two versions it is, while there are two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Age {
    /// There is only one.
    #[default]
    Only,
    /// It was there before.
    Old,
    /// It comes.
    New,
}

/// A deployment of a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) id: Said,
    pub(crate) standing: Standing,
    /// What AWS says of it, where it says more.
    pub(crate) reason: Said,
    pub(crate) steps: Vec<Step>,
}

/// A step of a deployment: a lifecycle event of CodeDeploy's, or a stage of ECS's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) name: Said,
    pub(crate) standing: Standing,
}

impl Step {
    /// Its name as people write it.
    pub(crate) fn name_spoken(&self) -> Said {
        spoken(self.name.raw())
    }
}

/// The stages of a deployment of ECS's own, in their order (fact 45).
const STAGES: [&str; 11] = [
    "RECONCILE_SERVICE",
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
];

/// Looks at all services of the manifest. What cannot be asked of one is said in its row.
pub(crate) fn look(aws: &Aws, manifest: &Manifest) -> Vec<Row> {
    let mut rows = Vec::new();
    for (environment, place) in &manifest.environments {
        let there = aws.at(&place.region, place.role.as_deref());
        for (name, service) in &manifest.services {
            if !manifest.environments_of(service.environments.as_ref()).iter().any(|(one, _)| one == environment) {
                continue;
            }
            let asked = there.as_ref().map_err(Clone::clone).and_then(|there| {
                let own = manifest::in_environment(&service.service, environment);
                Target { aws: there, cluster: &place.cluster, own, service, environment }.look()
            });
            let row = asked.unwrap_or_else(|refused| Row { trouble: refused.message.into(), ..Row::default() });
            let (environment, region) = (environment.as_str().into(), place.region.as_str().into());
            rows.push(Row { environment, region, service: name.as_str().into(), ..row });
        }
    }
    rows
}

/// What is asked about one service.
struct Target<'a> {
    aws: &'a Aws,
    cluster: &'a str,
    own: String,
    service: &'a manifest::Service,
    environment: &'a str,
}

impl Target<'_> {
    fn look(&self) -> Result<Row, Refused> {
        let input = json!({"cluster": self.cluster, "services": [self.own]});
        let Services { services, .. } = self.aws.ask(Service::Ecs, "DescribeServices", &input)?;
        let Some(described) = services.into_iter().next() else {
            return Ok(Row {
                trouble: format!("there is no service {} in {}", self.own, self.cluster).into(),
                ..Row::default()
            });
        };
        let (how, seen) = match described.deployment_controller.kind.raw() {
            "ECS" => {
                let strategy = described.deployment_configuration.strategy.raw().to_lowercase().replace('_', "/");
                (if strategy.is_empty() { "ECS".into() } else { format!("ECS, {strategy}") }, self.by_ecs(&described)?)
            }
            "CODE_DEPLOY" => ("CodeDeploy".into(), self.by_codedeploy(&described)?),
            other => (other.to_owned(), (described.only(), None)),
        };
        let (sides, deployment) = seen;
        let versions = sides.into_iter().map(|side| self.version(side)).collect::<Result<_, _>>()?;
        Ok(Row { how: how.into(), versions, deployment, ..Row::default() })
    }

    /// A side with its version.
    fn version(&self, side: Side) -> Result<Version, Refused> {
        let input = json!({"taskDefinition": side.definition.raw()});
        let definition: Value = self.aws.ask(Service::Ecs, "DescribeTaskDefinition", &input)?;
        let image = image(&definition, &self.service.container).unwrap_or_default();
        Ok(Version {
            age: side.age,
            tag: version(image).into(),
            image: image.into(),
            definition: short(side.definition.raw()).into(),
            running: side.running,
            desired: side.desired,
            traffic: side.traffic,
        })
    }

    fn by_codedeploy(&self, described: &Described) -> Result<(Vec<Side>, Option<Deployment>), Refused> {
        let Some(deployment) = self.service.codedeploy().map(|names| self.newest_of_codedeploy(names)).transpose()?
        else {
            return Ok((sides_of_sets(&described.task_sets, None), None));
        };
        let Some((info, target)) = deployment else { return Ok((sides_of_sets(&described.task_sets, None), None)) };
        let is_living = matches!(info.status.mark, Mark::Runs | Mark::Asks);
        let sides = sides_of_sets(&described.task_sets, Some(&target).filter(|_| is_living));
        Ok((sides, Some(codedeploys(info, target))))
    }

    fn newest_of_codedeploy(&self, names: CodedeployNames<'_>) -> Result<Option<(Info, EcsTarget)>, Refused> {
        let named = |name: &str| manifest::in_environment(name, self.environment);
        let input = json!({"applicationName": named(names.application), "deploymentGroupName": named(names.group)});
        let Deployments { deployments } = self.aws.ask(Service::Codedeploy, "ListDeployments", &input)?;
        let Some(newest) = deployments.first() else { return Ok(None) };
        let input = json!({"deploymentIds": [newest]});
        let Infos { all } = self.aws.ask(Service::Codedeploy, "BatchGetDeployments", &input)?;
        let input = json!({"deploymentId": newest, "targetIds": [format!("{}:{}", self.cluster, self.own)]});
        let Targets { all: targets } = self.aws.ask(Service::Codedeploy, "BatchGetDeploymentTargets", &input)?;
        Ok(all.into_iter().next().zip(targets.into_iter().next().map(|one| one.ecs_target)))
    }

    fn by_ecs(&self, described: &Described) -> Result<(Vec<Side>, Option<Deployment>), Refused> {
        let input = json!({"cluster": self.cluster, "service": self.own, "maxResults": 1});
        let Briefs { all } = self.aws.ask(Service::Ecs, "ListServiceDeployments", &input)?;
        let Some(newest) = all.into_iter().next() else { return Ok((described.only(), None)) };
        let input = json!({"serviceDeploymentArns": [newest.service_deployment_arn.raw()]});
        let ServiceDeployments { all } = self.aws.ask(Service::Ecs, "DescribeServiceDeployments", &input)?;
        let Some(one) = all.into_iter().next() else { return Ok((described.only(), None)) };
        let is_living = one.status.mark == Mark::Runs && !one.source_service_revisions.is_empty();
        let sides = if is_living { self.sides_of_revisions(&one)? } else { described.only() };
        Ok((sides, Some(ecss(&one))))
    }

    /// The revisions of a deployment that is under way, with what each runs.
    fn sides_of_revisions(&self, one: &ServiceDeployment) -> Result<Vec<Side>, Refused> {
        let revisions = one.source_service_revisions.iter().map(|revision| (Age::Old, revision));
        let revisions: Vec<_> =
            revisions.chain(one.target_service_revision.iter().map(|revision| (Age::New, revision))).collect();
        let arns: Vec<_> = revisions.iter().map(|(_, revision)| revision.arn.raw()).collect();
        let input = json!({"serviceRevisionArns": arns});
        let Revisions { all } = self.aws.ask(Service::Ecs, "DescribeServiceRevisions", &input)?;
        let sides = revisions.into_iter().filter_map(|(age, revision)| {
            let known = all.iter().find(|known| known.service_revision_arn == revision.arn)?;
            Some(Side {
                age,
                definition: known.task_definition.clone(),
                running: revision.running_task_count,
                desired: revision.requested_task_count,
                traffic: revision.requested_production_traffic_weight.map(percent),
            })
        });
        Ok(sides.collect())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 100")]
fn percent(weight: f64) -> u64 {
    weight.clamp(0.0, 100.0).round() as u64
}

/// A version of a service, as AWS counts its tasks.
#[derive(Debug, Clone, Default, PartialEq)]
struct Side {
    age: Age,
    definition: Said,
    running: u64,
    desired: u64,
    traffic: Option<u64>,
}

/// The task sets of a service of CodeDeploy's; `target` is that of a deployment that is under way.
fn sides_of_sets(sets: &[TaskSet], target: Option<&EcsTarget>) -> Vec<Side> {
    let side = |set: &TaskSet| {
        let info = target.and_then(|target| target.sets.iter().find(|info| info.identifer == set.id));
        let age = match info.map(|info| info.task_set_label.raw()) {
            Some("Blue") => Age::Old,
            Some("Green") => Age::New,
            Some(_) | None => Age::Only,
        };
        let alone = if set.status.raw() == "PRIMARY" { 100 } else { 0 };
        Side {
            age,
            definition: set.task_definition.clone(),
            running: set.running_count,
            desired: set.computed_desired_count,
            traffic: Some(info.map_or(alone, |info| percent(info.traffic_weight))),
        }
    };
    let mut sides: Vec<_> = sets.iter().map(side).collect();
    sides.sort_by_key(|side| side.age == Age::New);
    sides
}

fn codedeploys(info: Info, target: EcsTarget) -> Deployment {
    let steps = target.lifecycle_events.into_iter().map(|event| Step { name: event.name, standing: event.status });
    Deployment {
        id: info.deployment_id,
        standing: info.status,
        reason: info.error_information.unwrap_or_default().message,
        steps: steps.collect(),
    }
}

fn ecss(one: &ServiceDeployment) -> Deployment {
    let at = STAGES.iter().position(|stage| *stage == one.lifecycle_stage.raw());
    let waits = one.lifecycle_hook_details.iter().any(|hook| hook.status.mark == Mark::Asks);
    let standing = |place: usize| match (one.status.mark, at) {
        (Mark::Good, _) => Standing::of("Succeeded"),
        (_, Some(at)) if place < at => Standing::of("Succeeded"),
        (Mark::Runs, Some(at)) if place == at && waits => Standing::of("AWAITING_ACTION"),
        (mark, Some(at)) if place == at => match mark {
            Mark::Runs => Standing::of("InProgress"),
            Mark::Bad | Mark::Stopped => Standing::of("Failed"),
            Mark::Open | Mark::Asks | Mark::Good => Standing::of("Pending"),
        },
        _ => Standing::of("Pending"),
    };
    let steps = STAGES.iter().enumerate().map(|(place, name)| Step { name: (*name).into(), standing: standing(place) });
    Deployment {
        id: short(one.service_deployment_arn.raw()).into(),
        standing: one.status.clone(),
        reason: one.status_reason.clone(),
        steps: steps.collect(),
    }
}

#[derive(Deserialize)]
struct Services {
    services: Vec<Described>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    #[serde(default)]
    deployment_controller: Controller,
    #[serde(default)]
    deployment_configuration: Configuration,
    #[serde(default)]
    desired_count: u64,
    #[serde(default)]
    running_count: u64,
    #[serde(default)]
    task_definition: Said,
    #[serde(default)]
    task_sets: Vec<TaskSet>,
    #[serde(default)]
    load_balancers: Vec<Value>,
}

impl Described {
    /// All of it as one version.
    fn only(&self) -> Vec<Side> {
        vec![Side {
            age: Age::Only,
            definition: self.task_definition.clone(),
            running: self.running_count,
            desired: self.desired_count,
            traffic: (!self.load_balancers.is_empty()).then_some(100),
        }]
    }
}

#[derive(Deserialize, Default)]
struct Controller {
    #[serde(rename = "type")]
    kind: Said,
}

#[derive(Deserialize, Default)]
struct Configuration {
    #[serde(default)]
    strategy: Said,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskSet {
    id: Said,
    status: Said,
    task_definition: Said,
    #[serde(default)]
    running_count: u64,
    #[serde(default)]
    computed_desired_count: u64,
}

#[derive(Deserialize)]
struct Deployments {
    deployments: Vec<String>,
}

#[derive(Deserialize)]
struct Infos {
    #[serde(rename = "deploymentsInfo")]
    all: Vec<Info>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    deployment_id: Said,
    #[serde(default)]
    status: Standing,
    error_information: Option<ErrorInformation>,
}

#[derive(Deserialize, Default)]
struct ErrorInformation {
    #[serde(default)]
    message: Said,
}

#[derive(Deserialize)]
struct Targets {
    #[serde(rename = "deploymentTargets")]
    all: Vec<OneTarget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneTarget {
    ecs_target: EcsTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EcsTarget {
    #[serde(default)]
    lifecycle_events: Vec<LifecycleEvent>,
    #[serde(rename = "taskSetsInfo", default)]
    sets: Vec<SetInfo>,
}

#[derive(Deserialize)]
struct LifecycleEvent {
    #[serde(rename = "lifecycleEventName")]
    name: Said,
    #[serde(default)]
    status: Standing,
}

/// `identifer` is CodeDeploy's own spelling.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetInfo {
    identifer: Said,
    #[serde(default)]
    task_set_label: Said,
    #[serde(default)]
    traffic_weight: f64,
}

#[derive(Deserialize)]
struct Briefs {
    #[serde(rename = "serviceDeployments")]
    all: Vec<Brief>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Brief {
    service_deployment_arn: Said,
}

#[derive(Deserialize)]
struct ServiceDeployments {
    #[serde(rename = "serviceDeployments")]
    all: Vec<ServiceDeployment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceDeployment {
    service_deployment_arn: Said,
    #[serde(default)]
    status: Standing,
    #[serde(default)]
    status_reason: Said,
    #[serde(default)]
    lifecycle_stage: Said,
    #[serde(default)]
    lifecycle_hook_details: Vec<HookDetail>,
    target_service_revision: Option<RevisionCounts>,
    #[serde(default)]
    source_service_revisions: Vec<RevisionCounts>,
}

#[derive(Deserialize)]
struct HookDetail {
    #[serde(default)]
    status: Standing,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevisionCounts {
    arn: Said,
    #[serde(default)]
    requested_task_count: u64,
    #[serde(default)]
    running_task_count: u64,
    requested_production_traffic_weight: Option<f64>,
}

#[derive(Deserialize)]
struct Revisions {
    #[serde(rename = "serviceRevisions")]
    all: Vec<Revision>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revision {
    service_revision_arn: Said,
    task_definition: Said,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_codedeploy_moves_is_told_by_its_target_and_otherwise_the_primary_set_has_it_all() {
        let set = |id: &str, status: &str| json!({"id": id, "status": status, "taskDefinition": id, "runningCount": 1, "computedDesiredCount": 2});
        let sets: Vec<TaskSet> = read(json!([set("green", "ACTIVE"), set("blue", "PRIMARY")]));
        let told = |sides: Vec<Side>| {
            sides.into_iter().map(|side| (side.age, side.definition.raw().to_owned(), side.traffic)).collect::<Vec<_>>()
        };
        let alone = told(sides_of_sets(&sets, None));
        assert_eq!(alone, [(Age::Only, "green".into(), Some(0)), (Age::Only, "blue".into(), Some(100))]);
        let info = |id: &str, label: &str, weight: f64| json!({"identifer": id, "taskSetLabel": label, "trafficWeight": weight});
        let target = read(json!({"taskSetsInfo": [info("blue", "Blue", 20.0), info("green", "Green", 80.0)]}));
        let shared = told(sides_of_sets(&sets, Some(&target)));
        assert_eq!(shared, [(Age::Old, "blue".into(), Some(20)), (Age::New, "green".into(), Some(80))]);
    }

    #[test]
    fn a_deployment_of_ecss_own_is_shown_as_the_stages_that_it_goes_through() {
        let steps = |status: &str, stage: &str, hook: &str| {
            let one = json!({"serviceDeploymentArn": "arn:x/y/id", "status": status, "lifecycleStage": stage,
                "lifecycleHookDetails": [{"status": hook}]});
            let deployment = ecss(&read(one));
            assert_eq!(deployment.id.raw(), "id");
            let words = deployment.steps.iter().map(|step| step.standing.word.raw().to_owned());
            let words: Vec<_> = words.collect();
            (words[1].clone(), words[2].clone(), words[3].clone())
        };
        let told = |before: &str, at: &str, after: &str| (before.to_owned(), at.to_owned(), after.to_owned());
        for (status, stage, hook, expected) in [
            ("IN_PROGRESS", "SCALE_UP", "", told("Succeeded", "InProgress", "Pending")),
            ("IN_PROGRESS", "SCALE_UP", "AWAITING_ACTION", told("Succeeded", "AWAITING_ACTION", "Pending")),
            ("ROLLBACK_SUCCESSFUL", "SCALE_UP", "", told("Succeeded", "Failed", "Pending")),
            ("SUCCESSFUL", "CLEAN_UP", "", told("Succeeded", "Succeeded", "Succeeded")),
            ("SUCCESSFUL", "", "", told("Succeeded", "Succeeded", "Succeeded")),
            ("IN_PROGRESS", "STAGE_OF_TOMORROW", "", told("Pending", "Pending", "Pending")),
        ] {
            assert_eq!(steps(status, stage, hook), expected, "{status} {stage} {hook}");
        }
    }
}
