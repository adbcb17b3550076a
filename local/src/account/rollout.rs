//! How ECS itself deploys a service of `local.yaml`'s (facts 43 to 48).

use schemars::JsonSchema;
use serde::Deserialize;
use shared::manifest::Span;

/// How ECS itself brings a new version of a service: its `deploymentConfiguration`, with times as short as a machine wants.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// All at once, in steps, or task by task.
    pub strategy: Strategy,
    /// How long the old tasks stay after the traffic has moved.
    pub bake_time: Span,
    /// The share of the traffic that a step moves: of each with LINEAR, of the first with CANARY.
    pub step_percent: u8,
    /// The pause after each step but the last.
    pub step_bake_time: Span,
    /// What is run, or waited for, at stages of a deployment.
    pub lifecycle_hooks: Vec<LifecycleHook>,
    /// What gives up by itself.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The CloudWatch alarms that give up a deployment.
    pub alarms: Vec<String>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            bake_time: Span(std::time::Duration::ZERO),
            step_percent: 10,
            step_bake_time: Span(std::time::Duration::ZERO),
            lifecycle_hooks: Vec::new(),
            circuit_breaker: None,
            alarms: Vec::new(),
        }
    }
}

/// ECS's deployment strategies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// New tasks take the place of old ones.
    #[default]
    Rolling,
    /// All traffic at once.
    BlueGreen,
    /// In equal steps.
    Linear,
    /// A small share first, then the rest.
    Canary,
}

impl Strategy {
    /// ECS's own word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rolling => "ROLLING",
            Self::BlueGreen => "BLUE_GREEN",
            Self::Linear => "LINEAR",
            Self::Canary => "CANARY",
        }
    }
}

/// What happens at stages of a deployment: a function is called, or the deployment waits to be continued.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleHook {
    /// The stages, such as `PRE_PRODUCTION_TRAFFIC_SHIFT`.
    pub stages: Vec<String>,
    /// The function, of `hooks`; it pauses the deployment (`targetType: PAUSE`) unless given.
    pub function: Option<String>,
    /// How long is waited.
    #[serde(default = "a_day")]
    pub timeout: Span,
    /// What happens then.
    #[serde(default)]
    pub on_timeout: OnTimeout,
}

const fn a_day() -> Span {
    Span(std::time::Duration::from_secs(24 * 3600))
}

/// What ECS does when a hook took too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum OnTimeout {
    /// It takes the deployment back.
    #[default]
    Rollback,
    /// It goes on.
    Continue,
}

impl OnTimeout {
    /// ECS's own word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rollback => "ROLLBACK",
            Self::Continue => "CONTINUE",
        }
    }
}

/// ECS's deployment circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreaker {
    /// At how many tasks that failed it breaks.
    #[serde(default = "three")]
    pub threshold: u32,
    /// Whether it takes the deployment back then.
    #[serde(default)]
    pub rollback: bool,
}

const fn three() -> u32 {
    3
}
