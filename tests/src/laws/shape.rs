//! What is released, and where to: an application of one to twenty services in one to fifty environments, as a seed has it.
//!
//! Invariant: a shape says everything of the account and the manifest; nothing of them is written anywhere else.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

/// What every secret of a play contains: the job's credentials, and what SSM has.
pub const SECRET: &str = local::world::SECRET;

/// The worker of plays that have one.
pub const WORKER: &str = "exports";

/// The Regions, and the account that an environment there is in, when that is another one.
const REGIONS: [(&str, Option<&str>); 5] = [
    ("us-east-1", None),
    ("eu-west-1", None),
    ("ap-southeast-2", Some("444455556666")),
    ("us-west-2", None),
    ("eu-central-1", Some("777788889999")),
];

/// An application and its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its environments.
    pub environments: Vec<Place>,
    /// Its services.
    pub services: Vec<Service>,
    /// How many lines a migration writes.
    pub lines: usize,
    /// How long a line takes.
    pub pace: Duration,
    /// Where the pre- and the post-task run; everywhere unless it is one environment alone.
    pub steps_everywhere: bool,
    /// Whether the environments share one cluster per Region.
    pub shared_clusters: bool,
    /// Whether it has workers that are started one by one, and something that runs by the clock.
    pub launches: bool,
    /// Whether the step after its releases runs by the clock, too, in the first of its environments.
    pub runs_by_clock: bool,
    /// How long a deployment may take.
    pub timeout: Duration,
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its Region.
    pub region: &'static str,
    /// Its account, when that is not the stack's.
    pub account: Option<&'static str>,
}

/// A service, in every environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Whether it works on a queue rather than answers requests.
    pub worker: bool,
    /// How many tasks it has.
    pub desired: usize,
    /// How it is deployed.
    pub by: By,
}

/// Who brings a service's new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// CodeDeploy; its group waits at Ready unless it has no barrier, and its old tasks stay for a while.
    CodeDeploy {
        /// Whether its traffic waits for being continued.
        barrier: bool,
        /// How long the old tasks stay.
        termination: Duration,
    },
    /// ECS itself; its workers have no load balancer.
    Ecs {
        /// How.
        how: How,
        /// Whether a PAUSE hook holds its traffic; never that of a rolling service.
        barrier: bool,
        /// How long the old tasks stay.
        bake: Duration,
    },
}

/// ECS's deployment strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Task by task.
    Rolling,
    /// All traffic at once.
    BlueGreen,
    /// In equal steps.
    Linear,
    /// A small share first.
    Canary,
}

/// What runs before the first release.
const OLD: &str = "registry.example/shop:1.0";

/// How long a deployment may take, most of the time.
pub const TIMEOUT: Duration = Duration::from_secs(15 * 60);

impl By {
    /// Whether its traffic waits for being continued.
    #[must_use]
    pub fn is_held(self) -> bool {
        match self {
            Self::CodeDeploy { barrier, .. } | Self::Ecs { barrier, .. } => barrier,
        }
    }
}

impl Shape {
    /// The shape that a seed has: small most of the time, since small ones are played quickly, and now and then large.
    pub fn of(random: &mut Rng) -> Self {
        let count = match random.u32(0..100) {
            0..25 => 1,
            25..60 => 2,
            60..80 => 3,
            80..93 => random.usize(4..7),
            93..99 => random.usize(7..16),
            _ => random.usize(16..51),
        };
        let services = match random.u32(0..100) {
            0..30 => 1,
            30..70 => 2,
            70..92 => random.usize(3..5),
            // Few environments, then: a release of a thousand targets says nothing that one of sixty does not.
            _ if count <= 3 => random.usize(5..21),
            _ => 2,
        };
        let regions = random.usize(1..=REGIONS.len());
        let first = random.usize(0..REGIONS.len());
        let environments = (0..count).map(|at| {
            let (region, account) = REGIONS[(first + at % regions) % REGIONS.len()];
            Place { name: format!("e{:02}", at + 1), region, account }
        });
        let environments = environments.collect();
        let services = (0..services).map(|at| Service {
            name: format!("s{at}"),
            worker: if at == 0 { random.u32(0..4) == 0 } else { random.bool() },
            desired: [1, 1, 1, 2, 3][random.usize(0..5)],
            by: match random.u32(0..12) {
                0..2 => By::CodeDeploy { barrier: false, termination: minutes(random.u64(0..4)) },
                2..7 => By::CodeDeploy { barrier: true, termination: minutes([0, 1, 5, 60][random.usize(0..4)]) },
                7 => By::Ecs { how: How::Rolling, barrier: false, bake: Duration::ZERO },
                _ => {
                    let how = [How::BlueGreen, How::BlueGreen, How::Linear, How::Canary][random.usize(0..4)];
                    By::Ecs { how, barrier: random.u32(0..4) > 0, bake: minutes(random.u64(0..3)) }
                }
            },
        });
        let services = services.collect();
        Self {
            environments,
            services,
            lines: random.usize(0..12),
            pace: Duration::from_millis(random.u64(20..1500)),
            steps_everywhere: random.bool(),
            shared_clusters: random.u32(0..4) == 0,
            // By a chance of its own: what was played before there were any is played as it was.
            launches: random.clone().u32(0..4) == 0,
            runs_by_clock: false,
            timeout: TIMEOUT,
        }
    }

    /// The cluster of an environment.
    #[must_use]
    pub fn cluster(&self, place: &Place) -> String {
        if self.shared_clusters { "shop".into() } else { format!("shop-{}", place.name) }
    }

    /// The ECS service of a service in an environment.
    #[must_use]
    pub fn ecs_service(service: &Service, place: &Place) -> String {
        format!("{}-{}", place.name, service.name)
    }

    /// The environments of the pre- and the post-task.
    #[must_use]
    pub fn stepped(&self) -> &[Place] {
        if self.steps_everywhere { &self.environments } else { &self.environments[..1] }
    }

    /// What runs by the clock, by environment and name.
    #[must_use]
    pub fn schedules(&self) -> BTreeSet<(String, String)> {
        let at = |place: &Place, name: &str| (place.name.clone(), name.to_owned());
        let nightly = self.environments.first().filter(|_| self.launches).map(|place| at(place, "nightly"));
        let often = self.stepped().first().filter(|_| self.runs_by_clock).map(|place| at(place, "often"));
        nightly.into_iter().chain(often).collect()
    }

    /// `deploy.yaml`.
    #[must_use]
    pub fn manifest(&self) -> String {
        let role = |account: &str| format!("arn:aws:iam::{account}:role/deployer");
        let environments = self.environments.iter().map(|place| {
            let mut value = json!({"region": place.region, "cluster": self.cluster(place), "subnets": ["subnet-1"]});
            if let Some(account) = place.account {
                value["role"] = json!(role(account));
            }
            (place.name.clone(), value)
        });
        let names: Vec<_> = self.stepped().iter().map(|place| &place.name).collect();
        let step = |name: &str| json!({"family": "shop-{environment}-task", "command": [name], "environments": names});
        let services = self.services.iter().map(|service| {
            let name = format!("{{environment}}-{}", service.name);
            let mut value = json!({"kind": if service.worker { "worker" } else { "web" }, "service": name,
                "family": format!("shop-{{environment}}-{}", service.name), "container": "shop", "port": 8080,
                "timeout": spoken(self.timeout), "wait_for_group": "10m", "drain_for": "2m"});
            if let By::CodeDeploy { .. } = service.by {
                value["codedeploy_application"] = json!("shop");
                value["deployment_group"] = json!(name);
            }
            (service.name.clone(), value)
        });
        let manifest = json!({
            "application": "shop",
            "environments": Value::Object(environments.collect()),
            "tasks": {"prepare": step("prepare"), "finish": step("finish"),
                "migrate": {"family": "shop-{environment}-task", "command": ["migrate"], "timeout": "10m", "retry_placement_for": "2m"}},
            "services": Value::Object(services.collect()),
            "notifications": {"slack": {"webhook": "/shop/slack"}, "datadog": {"api_key": "/shop/datadog"}},
        });
        let mut manifest = manifest;
        if self.launches {
            manifest["workers"] = json!({WORKER: {"family": "shop-{environment}-task", "command": ["export"]}});
            let first = &self.environments[0].name;
            let nightly = json!({"cron": "0 3 * * *", "worker": WORKER, "environments": [first]});
            manifest["schedules"] = json!({"nightly": nightly});
        }
        if self.runs_by_clock {
            let first = self.stepped().first().map(|place| &place.name);
            let often = json!({"cron": "* * * * *", "task": "finish", "within": "20m", "environments": [first]});
            manifest["schedules"]["often"] = often;
        }
        manifest.to_string()
    }

    /// `local.yaml`.
    #[must_use]
    pub fn account(&self) -> String {
        let mut regions = serde_json::Map::new();
        for place in &self.environments {
            let region = regions.entry(place.region).or_insert_with(|| {
                let mut region = json!({"clusters": {}, "task_definitions": [], "deployment_groups": {"shop": {}}});
                if let Some(account) = place.account {
                    region["account"] = json!(account);
                }
                region
            });
            self.furnish(place, region);
        }
        let roles: Vec<_> = self.environments.iter().filter_map(|place| place.account).collect();
        let roles: BTreeSet<_> = roles.iter().map(|one| format!("arn:aws:iam::{one}:role/deployer")).collect();
        let mut parameters = json!({
            "ConnectionArn": "arn:aws:codeconnections:us-east-1:111122223333:connection/00000000-0000-0000-0000-000000000000",
            "Repository": "example/shop", "ImageRepository": "shop", "NamesBegin": "shop",
            "TaskRoles": "arn:aws:iam::111122223333:role/shop-*", "SecretsPath": "/shop/",
        });
        if !roles.is_empty() {
            parameters["EnvironmentRoles"] = json!(roles.into_iter().collect::<Vec<_>>().join(","));
        }
        let account = json!({
            "build": {"command": ["true"], "image": "registry.example/shop"},
            "ssm": {"/shop/slack": format!("https://hooks.slack.com/{SECRET}"), "/shop/datadog": SECRET},
            "parameters": parameters,
            "regions": regions,
        });
        account.to_string()
    }

    /// A task definition of a place, as it is registered: with this image, which runs this command.
    pub(super) fn definition(place: &Place, name: &str, image: &str, command: &str, port: bool) -> Value {
        let mut container = json!({"name": "shop", "image": image, "essential": true,
            "command": [command], "environment": [{"name": "ENVIRONMENT", "value": place.name}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": format!("/shop/{}", place.name),
                "awslogs-region": place.region, "awslogs-stream-prefix": "shop", "mode": "blocking"}}});
        if port {
            container["portMappings"] = json!([{"containerPort": 8080, "protocol": "tcp"}]);
        }
        json!({"family": format!("shop-{}-{name}", place.name), "networkMode": "awsvpc", "cpu": "256", "memory": "512",
            "requiresCompatibilities": ["FARGATE"], "executionRoleArn": "arn:aws:iam::111122223333:role/shop-execution",
            "containerDefinitions": [container]})
    }

    fn furnish(&self, place: &Place, region: &mut Value) {
        let mut definitions = vec![Self::definition(place, "task", OLD, "none", false)];
        let cluster = self.cluster(place);
        for service in &self.services {
            definitions.push(Self::definition(place, &service.name, OLD, &service.name, true));
            let name = Self::ecs_service(service, place);
            let mut value = json!({"task_definition": format!("shop-{}-{}", place.name, service.name), "desired": service.desired,
                "container": "shop", "container_port": 8080});
            if !service.worker {
                value["capacity_providers"] =
                    json!([{"name": "FARGATE", "base": 1, "weight": 1}, {"name": "FARGATE_SPOT", "weight": 2}]);
            }
            match service.by {
                By::Ecs { how, barrier, bake } => {
                    value["controller"] = json!("ECS");
                    value["deployment"] = rollout(how, barrier, bake);
                    if service.worker {
                        value["container"] = Value::Null;
                        value["container_port"] = Value::Null;
                    }
                }
                By::CodeDeploy { barrier, termination } => {
                    let mut group =
                        json!({"cluster": cluster, "service": name, "termination_wait": spoken(termination)});
                    if barrier {
                        group["wait_at_ready"] = json!("30m");
                    }
                    region["deployment_groups"]["shop"][&name] = group;
                }
            }
            region["clusters"][&cluster]["services"][&name] = value;
        }
        if let Some(all) = region["task_definitions"].as_array_mut() {
            all.extend(definitions);
        }
    }
}

/// How ECS brings a service's new version, as `local.yaml` says it.
fn rollout(how: How, barrier: bool, bake: Duration) -> Value {
    let hooks = json!([{"stages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"], "timeout": "30m"}]);
    let hooks = if barrier { hooks } else { json!([]) };
    let strategy = match how {
        How::Rolling => return json!({"strategy": "ROLLING"}),
        How::BlueGreen => "BLUE_GREEN",
        How::Linear => "LINEAR",
        How::Canary => "CANARY",
    };
    json!({"strategy": strategy, "step_percent": 40, "step_bake_time": "7s", "bake_time": spoken(bake), "lifecycle_hooks": hooks})
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn spoken(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
