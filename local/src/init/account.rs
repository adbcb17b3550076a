//! An application as an account has it: clusters, their services, who deploys them, and with which task definitions.

use serde_json::{Value, json};
use shared::aws::{Aws, Place as Where};

use super::taskdef::{own, port};
use super::{Found, Place, Service, Start, without_migration};
use crate::Mistake;
use crate::cloud::{Cloud, Refused, Service as Of};

/// What an account says of a cluster.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) region: String,
    pub(super) cluster: String,
    /// DescribeServices', with the task definition of each.
    pub(super) services: Vec<(Value, Value)>,
    /// CodeDeploy's groups: application, group, ECS service.
    pub(super) groups: Vec<(String, String, String)>,
}

impl Asked {
    /// Asks for a cluster, and all that is deployed in it.
    ///
    /// # Errors
    /// What AWS refuses, or that there is no such cluster.
    pub(crate) async fn of(aws: &Aws, place: Where, cluster: &str) -> Result<Self, Mistake> {
        let region = place.region.clone();
        let cloud = Cloud::new(aws, place);
        let failed = |what: &str, why: &Refused| Mistake(format!("{what}: {why}"));
        let ask = async |of: Of, operation: &str, input: Value| {
            cloud.ask(of, operation, &input).await.map_err(|why| failed(&format!("{operation} in {region}"), &why))
        };
        let there = ask(Of::Ecs, "DescribeClusters", json!({"clusters": [cluster]})).await?;
        if there.pointer("/clusters/0/status").and_then(Value::as_str) != Some("ACTIVE") {
            let known = ask(Of::Ecs, "ListClusters", json!({})).await?;
            let known = names(&known["clusterArns"]);
            let why = shared::text::unknown("cluster", cluster, known.iter().map(String::as_str));
            return Err(Mistake(format!("--cluster: in {region}, {why}")));
        }
        // All pages of a list.
        let list = async |of: Of, operation: &str, mut input: Value, what: &str| {
            let mut all = Vec::new();
            loop {
                let page = ask(of, operation, input.clone()).await?;
                all.extend(texts(&page[what]));
                match page.get("nextToken").filter(|next| !next.is_null()) {
                    Some(next) => input["nextToken"] = next.clone(),
                    None => return Ok::<_, Mistake>(all),
                }
            }
        };
        let mut services = Vec::new();
        let input = json!({"cluster": cluster, "maxResults": 10});
        for arns in list(Of::Ecs, "ListServices", input, "serviceArns").await?.chunks(10) {
            let arns: Vec<_> = arns.iter().map(|arn| arn.rsplit('/').next().unwrap_or(arn)).collect();
            let described = ask(Of::Ecs, "DescribeServices", json!({"cluster": cluster, "services": arns})).await?;
            for service in described["services"].as_array().into_iter().flatten() {
                if service.pointer("/deploymentController/type") == Some(&json!("EXTERNAL")) {
                    services.push((service.clone(), Value::Null));
                    continue;
                }
                // In the middle of a blue/green deployment there are several.
                let sets = || service["taskSets"].as_array().into_iter().flatten();
                let primary = sets().find(|set| set["status"] == "PRIMARY").or_else(|| sets().next());
                let runs = service["taskDefinition"].as_str().or_else(|| primary?["taskDefinition"].as_str());
                let input = json!({"taskDefinition": runs.unwrap_or_default()});
                let definition = ask(Of::Ecs, "DescribeTaskDefinition", input).await?;
                services.push((service.clone(), definition["taskDefinition"].clone()));
            }
        }
        let mut groups = Vec::new();
        let is_codedeploy = |(service, _): &(Value, Value)| {
            service.pointer("/deploymentController/type") == Some(&json!("CODE_DEPLOY"))
        };
        if services.iter().any(is_codedeploy) {
            for application in list(Of::Codedeploy, "ListApplications", json!({}), "applications").await? {
                let input = json!({"applicationName": application});
                let names = list(Of::Codedeploy, "ListDeploymentGroups", input, "deploymentGroups").await?;
                for names in names.chunks(DESCRIBED_AT_ONCE) {
                    let input = json!({"applicationName": application, "deploymentGroupNames": names});
                    let described = ask(Of::Codedeploy, "BatchGetDeploymentGroups", input).await?;
                    for group in described["deploymentGroupsInfo"].as_array().into_iter().flatten() {
                        groups.extend(groups_of(group, &application, cluster));
                    }
                }
            }
        }
        Ok(Self { region: region.clone(), cluster: cluster.to_owned(), services, groups })
    }
}

/// How many groups CodeDeploy describes at once.
const DESCRIBED_AT_ONCE: usize = 100;

/// What a group deploys in a cluster: its application, itself, and the service.
fn groups_of(group: &Value, application: &str, cluster: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let services = group["ecsServices"].as_array().into_iter().flatten().filter(|one| one["clusterName"] == cluster);
    services
        .map(|one| (application.to_owned(), text(&group["deploymentGroupName"]), text(&one["serviceName"])))
        .collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The names at the ends of ARNs.
fn names(arns: &Value) -> Vec<String> {
    texts(arns).iter().map(|arn| arn.rsplit('/').next().unwrap_or(arn).to_owned()).collect()
}

/// The application that several clusters have: its environments, and the services of the first one.
pub(super) fn found(asked: Vec<Asked>, application: &str) -> Result<Found, Mistake> {
    let mut found = Found { application: application.to_owned(), ..Found::default() };
    let single = asked.len() == 1;
    for one in &asked {
        let network =
            one.services.iter().find_map(|(service, _)| service.pointer("/networkConfiguration/awsvpcConfiguration"));
        let at = |field: &str| network.map(|network| texts(&network[field])).unwrap_or_default();
        let launch = one.services.iter().find_map(|(service, _)| service["launchType"].as_str());
        let mut name = if single { "production".to_owned() } else { environment(&one.cluster, &one.region, &asked) };
        // Two that begin alike are told apart by a number.
        let taken = |name: &str| found.environments.iter().any(|place| place.name == name);
        if taken(&name) {
            let begin: String = name.chars().take(17).collect();
            name = (2..100).map(|number| format!("{begin}-{number}")).find(|name| !taken(name)).unwrap_or(name);
        }
        let providers = one.services.iter().find_map(|(service, _)| {
            let strategy = service["capacityProviderStrategy"].as_array().filter(|all| !all.is_empty())?;
            let count = |one: &Value, field: &str| one[field].as_u64().unwrap_or_default();
            let provider = |one: &Value| {
                Some((one["capacityProvider"].as_str()?.to_owned(), count(one, "base"), count(one, "weight")))
            };
            Some(strategy.iter().filter_map(provider).collect::<Vec<_>>())
        });
        let providers = providers.filter(|_| launch.is_none()).unwrap_or_default();
        let on_fargate = launch == Some("FARGATE") || providers.iter().any(|(name, ..)| name.starts_with("FARGATE"));
        found.environments.push(Place {
            name,
            region: one.region.clone(),
            cluster: one.cluster.clone(),
            subnets: at("subnets"),
            security_groups: at("securityGroups"),
            public: network.is_some_and(|network| network["assignPublicIp"] == "ENABLED"),
            launch_type: launch.map(str::to_owned),
            capacity_providers: providers,
            is_known: true,
        });
        if network.is_none() && on_fargate {
            found.notes.push(format!(
                "{}: no service says its subnets: give `subnets` and `security_groups` in deploy.yaml.",
                one.cluster
            ));
        }
    }
    let Some(first) = asked.first() else { return Err(Mistake("name a cluster: --cluster NAME".into())) };
    let mut images: Vec<(String, String)> = Vec::new();
    for (described, definition) in &first.services {
        let name = described["serviceName"].as_str().unwrap_or_default();
        if described.pointer("/deploymentController/type") == Some(&json!("EXTERNAL")) {
            found
                .notes
                .push(format!("{name}: its controller is EXTERNAL: Cutover does not deploy it, so it was left out."));
            continue;
        }
        if described["schedulingStrategy"] == "DAEMON" {
            found.notes.push(format!("{name}: it runs once on each instance, as an agent does, so it was left out."));
            continue;
        }
        let Some((container, _)) = own(definition) else { continue };
        let family = definition["family"].as_str().unwrap_or_default();
        if found.services.iter().any(|other| other.family == family) {
            found.notes.push(format!(
                "{name}: its task definition is that of another service, {family}: here each has its own, so it was left out."
            ));
            continue;
        }
        let image = container["image"].as_str().unwrap_or_default();
        let repository = image.split('@').next().unwrap_or_default();
        let slash = repository.rfind('/').unwrap_or_default();
        let end = repository[slash..].find(':').map_or(repository.len(), |at| slash + at);
        images.push((name.to_owned(), repository[..end].to_owned()));
        let balanced = described.pointer("/loadBalancers/0");
        let is_codedeploy = described.pointer("/deploymentController/type") == Some(&json!("CODE_DEPLOY"));
        let asked = balanced.and_then(|one| one["containerName"].as_str());
        // CodeDeploy is told where the traffic goes; elsewhere a proxy may stand before the application.
        let own_name = asked.filter(|_| is_codedeploy).or_else(|| container["name"].as_str());
        let own_port =
            balanced.and_then(|one| one["containerPort"].as_u64()?.try_into().ok()).or_else(|| port(container));
        let group = first.groups.iter().find(|(.., service)| service == name);
        // CodeDeploy wants a load balancer for a queue worker, too.
        let sounds_so = ["worker", "queue", "sidekiq", "celery"].iter().any(|word| name.to_lowercase().contains(word));
        let is_worker = balanced.is_none() || (is_codedeploy && sounds_so);
        let is_asked =
            own_port.is_some() || described["serviceRegistries"].as_array().is_some_and(|all| !all.is_empty());
        if is_worker && is_asked && !sounds_so {
            found.notes.push(format!(
                "{name}: it was taken for a worker, since no load balancer leads to it: if it answers others, say `kind: web` in deploy.yaml."
            ));
        }
        found.services.push(Service {
            name: super::name_in(&found, name),
            is_web: !is_worker,
            service: name.to_owned(),
            family: family.to_owned(),
            container: own_name.unwrap_or_default().to_owned(),
            has_others: definition["containerDefinitions"].as_array().is_some_and(|all| all.len() > 1),
            port: own_port,
            health_path: None,
            codedeploy: group.map(|(application, group, _)| (application.clone(), group.clone())),
            tasks: None,
            start: start_of(container),
        });
    }
    let of_first = images.first().map(|(_, image)| image.clone()).unwrap_or_default();
    let others: Vec<_> = images.iter().filter(|(_, image)| *image != of_first).map(|(name, _)| name.as_str()).collect();
    if !others.is_empty() {
        found.notes.push(format!(
            "{}: not of the image that {} has, and a release gives one image to all: take out of deploy.yaml what is another application's.",
            others.join(", "),
            images[0].0
        ));
    }
    for other in &asked[1..] {
        let named = |one: &Asked| {
            one.services
                .iter()
                .filter_map(|(service, _)| service["serviceName"].as_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let (here, there) = (named(first), named(other));
        let missing: Vec<_> = here.iter().filter(|name| !there.contains(name)).cloned().collect();
        if !missing.is_empty() {
            found.notes.push(format!(
                "{}: it has no service {}: put {{environment}} into `service`, or say `environments` in deploy.yaml.",
                other.cluster,
                missing.join(", ")
            ));
        }
    }
    if found.services.is_empty() {
        return Err(Mistake(format!("the cluster {} has no service that Cutover could deploy", first.cluster)));
    }
    without_migration(&mut found);
    Ok(found)
}

/// How its container is started, where its definition says so and not its image alone.
fn start_of(container: &Value) -> Start {
    let told = |field: &str| {
        let words = texts(&container[field]);
        let words =
            port(container).map_or_else(|| words.clone(), |port| crate::local_yaml::told_its_port(port, &words));
        words.iter().map(|word| crate::local_yaml::on_this_machine(word)).collect::<Vec<_>>()
    };
    match (told("entryPoint"), told("command")) {
        (entrypoint, command) if entrypoint.is_empty() && command.is_empty() => Start::Unknown,
        (entrypoint, command) => Start::Command { entrypoint, command },
    }
}

/// A name for an environment: its Region's, or its cluster's where two are in one.
fn environment(cluster: &str, region: &str, asked: &[Asked]) -> String {
    let alone = asked.iter().filter(|one| one.region == region).count() == 1;
    let name = crate::local_yaml::plain(if alone { region } else { cluster });
    name.chars().take(20).collect()
}
