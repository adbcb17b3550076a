//! What else an account has that nothing is deployed with, and that `verify` asks about: roles, networks, images, quotas.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What differs from an account in which everything that is named is there and good.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Beside {
    /// Roles, subnets, security groups, log groups, secrets, ECR repositories and images that are not there, by name.
    pub gone: Vec<String>,
    /// Whom roles trust, by the role's name: services and ARNs. ECS tasks and this account unless given.
    pub trust: BTreeMap<String, Vec<String>>,
    /// Subnets, by id.
    pub subnets: BTreeMap<String, Subnet>,
    /// What the VPCs have endpoints for, such as `ecr.api`.
    pub endpoints: Vec<String>,
    /// What images are built for, by their names: `amd64`, `arm64`. Both unless given.
    pub images: BTreeMap<String, Vec<String>>,
    /// How many vCPUs Fargate gives at once.
    pub fargate_vcpus: Option<u32>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Subnet {
    /// Where it leads: `nat-...`, `igw-...`, or nowhere, when empty.
    pub leads_to: String,
    /// How many addresses it has left (250).
    pub free: Option<u32>,
}
