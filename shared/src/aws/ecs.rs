//! ECS: task definitions, tasks, services and what it deploys itself, each in a file of its own.

mod definitions;
mod deployments;
mod revision;
mod services;
mod tasks;

use std::sync::Arc;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::retry::RetryConfig;

use crate::aws::{Aws, Pacer, Place, allowance};

pub(crate) use definitions::chosen;
pub use definitions::{ContainerDefinition, Definition, LogSource};
pub(crate) use deployments::DESCRIBE;
pub use deployments::{Counts, Deployment, HookRun, HookStatus, Listed, Stage, Status, WorkloadRevision};
pub use services::{Controller, Service, Strategy, hook_stages};
pub use tasks::{Container, Half, Of, Overrides, Placed, Ran, Run, Task, is_for_room};

/// ECS in one place.
#[derive(Debug, Clone)]
pub struct Ecs {
    client: Client,
    region: String,
    pacer: Arc<Pacer>,
    definitions: Arc<Pacer>,
}

/// The last part of an ARN.
#[must_use]
pub fn id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

impl Aws {
    /// ECS in `place`.
    pub async fn ecs(&self, place: &Place) -> Ecs {
        let config =
            aws_sdk_ecs::config::Builder::from(&self.config_at(place).await).retry_partition(allowance()).build();
        let client = Client::from_conf(config);
        let paces = self.paces(place);
        Ecs { client, region: place.region.clone(), pacer: paces.control, definitions: paces.definitions }
    }
}

impl Ecs {
    fn call(&self, operation: &str) -> String {
        format!("ecs:{operation} in {}", self.region)
    }
}

/// For what begins something: one attempt (see [`crate::aws::SHOWN`]). Who asks looks whether the release goes on, and again.
fn once() -> aws_sdk_ecs::config::Builder {
    aws_sdk_ecs::config::Config::builder().retry_config(RetryConfig::disabled())
}
