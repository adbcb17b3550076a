//! The shop and the smallest application with services of every kind: the manifest stays as it is, since the kind is found
//! from the service.

/// Who deploys a service, and how, as `local.yaml` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A CodeDeploy group, blue/green.
    Codedeploy,
    /// ECS, all traffic at once, behind a PAUSE hook.
    BlueGreen,
    /// ECS, a tenth of the traffic first, behind a PAUSE hook that stands before each step.
    Canary,
    /// ECS, in steps of a quarter, behind a PAUSE hook that stands before each step.
    Linear,
    /// ECS, without a hook.
    Unheld,
    /// ECS, task by task.
    Rolling,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Codedeploy, Self::BlueGreen, Self::Canary, Self::Linear, Self::Unheld, Self::Rolling];

    /// What is added to a service in `local.yaml`.
    #[must_use]
    pub fn service(self) -> String {
        let hooks = "lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFFIC_SHIFT], timeout: 1h}]";
        let how = match self {
            Self::Codedeploy => return String::new(),
            Self::BlueGreen => format!("strategy: BLUE_GREEN, bake_time: 20s, {hooks}"),
            Self::Canary => format!("strategy: CANARY, step_percent: 10, step_bake_time: 10s, bake_time: 20s, {hooks}"),
            Self::Linear => format!("strategy: LINEAR, step_percent: 25, step_bake_time: 5s, bake_time: 20s, {hooks}"),
            Self::Unheld => "strategy: BLUE_GREEN, bake_time: 20s".into(),
            Self::Rolling => "strategy: ROLLING".into(),
        };
        format!(", controller: ECS, deployment: {{{how}}}")
    }

    /// Whether its traffic waits for the others.
    #[must_use]
    pub fn is_behind_barrier(self) -> bool {
        !matches!(self, Self::Unheld | Self::Rolling)
    }
}

/// A `local.yaml` of the shop's whose services are of these kinds: that of the web services and that of the workers, Region by
/// Region in the order of the file. Workers that ECS deploys have no load balancer.
#[must_use]
pub fn with_kinds(account: &str, web: &[Kind], worker: &[Kind]) -> String {
    let (mut webs, mut workers) = (web.iter().cycle(), worker.iter().cycle());
    let line = |line: &str| {
        let given = line.trim_start();
        let is_service = given.contains("task_definition: shop-");
        if is_service && given.starts_with("web: {") {
            let kind = webs.next().copied().unwrap_or(Kind::Codedeploy);
            return format!("{}{}}}\n", line.trim_end_matches('}'), kind.service());
        }
        if is_service && given.starts_with("worker: {") {
            let kind = workers.next().copied().unwrap_or(Kind::Codedeploy);
            let balanced = if kind == Kind::Codedeploy { ", container: shop, container_port: 8080" } else { "" };
            return format!("          worker: {{task_definition: shop-worker{balanced}{}}}\n", kind.service());
        }
        format!("{line}\n")
    };
    account.lines().map(line).collect()
}
