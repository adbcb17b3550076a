//! Subnets and security groups of one-off tasks: that they are there, have addresses left, and lead to ECR.

use serde_json::{Value, json};

use super::{Look, texts};
use crate::cloud::Service as Of;

/// Fewer addresses than this are few: a deployment runs both versions at once.
const FEW: u64 = 8;

/// What a task reaches through endpoints where nothing leads out: image layers come from S3.
const ENDPOINTS: [&str; 4] = ["ecr.api", "ecr.dkr", "s3", "logs"];

impl Look<'_> {
    pub(super) async fn network(&mut self) {
        let groups = self.environment.security_groups.clone();
        if !groups.is_empty() {
            match self.ask(Of::Ec2, "DescribeSecurityGroups", json!({"GroupId": groups})).await {
                Ok(_) => {}
                Err(refused) if refused.code.contains("NotFound") || refused.code.contains("Malformed") => {
                    self.wrong("", format!("{}: correct `security_groups` in deploy.yaml", refused.message));
                }
                Err(refused) => self.unasked("its security groups", &refused),
            }
        }
        let subnets = self.environment.subnets.clone();
        if subnets.is_empty() {
            return;
        }
        let found = match self.ask(Of::Ec2, "DescribeSubnets", json!({"SubnetId": subnets})).await {
            Ok(found) => found,
            Err(refused) if refused.code.contains("NotFound") || refused.code.contains("Malformed") => {
                self.wrong("", format!("{}: correct `subnets` in deploy.yaml", refused.message));
                return;
            }
            Err(refused) => return self.unasked("its subnets", &refused),
        };
        for subnet in found["subnetSet"].as_array().into_iter().flatten() {
            let id = subnet["subnetId"].as_str().unwrap_or_default();
            let free = subnet["availableIpAddressCount"].as_str().and_then(|count| count.parse::<u64>().ok());
            if free.is_some_and(|free| free < FEW) {
                let free = free.unwrap_or_default();
                self.wrong("", format!("the subnet {id} has {free} addresses left, and a deployment runs both versions at once: use a larger one"));
            }
            if !self.runs_on_instances() {
                self.reaches_ecr(id, subnet["vpcId"].as_str().unwrap_or_default()).await;
            }
        }
    }

    /// Whether a task in the subnet can pull its image.
    async fn reaches_ecr(&mut self, subnet: &str, vpc: &str) {
        let filter = |name: &str, value: &str| json!([{"Name": name, "Value": [value]}]);
        let tables = match self.ask(Of::Ec2, "DescribeRouteTables", json!({"Filter": filter("vpc-id", vpc)})).await {
            Ok(found) => found["routeTableSet"].as_array().cloned().unwrap_or_default(),
            Err(refused) => return self.unasked(format!("where the subnet {subnet} leads"), &refused),
        };
        let associated = |table: &Value, field: &str, value: &str| {
            table["associationSet"].as_array().into_iter().flatten().any(|one| one[field] == value)
        };
        let own = tables.iter().find(|table| associated(table, "subnetId", subnet));
        let table = own.or_else(|| tables.iter().find(|table| associated(table, "main", "true")));
        let routes = table.and_then(|table| table["routeSet"].as_array()).cloned().unwrap_or_default();
        let out = routes.iter().find(|route| route["destinationCidrBlock"] == "0.0.0.0/0");
        if out.is_some_and(|route| route["state"] == "blackhole") {
            self.wrong("", format!(
                "the subnet {subnet} leads to a gateway that is gone (its default route is a blackhole), so no image is pulled: correct its \
                 route table"
            ));
            return;
        }
        let through = out.and_then(|route| {
            [
                "gatewayId",
                "natGatewayId",
                "transitGatewayId",
                "networkInterfaceId",
                "coreNetworkArn",
                "vpcPeeringConnectionId",
            ]
            .iter()
            .find_map(|field| route[*field].as_str())
        });
        match through {
            Some(gateway) if gateway.starts_with("igw-") && !self.environment.assign_public_ip => {
                self.wrong("", format!(
                    "the subnet {subnet} leads to the internet only from public addresses, and its tasks get none, so no image \
                     is pulled: say `assign_public_ip: true`, or use subnets behind a NAT gateway"
                ));
            }
            Some(_) => {}
            None => {
                let endpoints =
                    self.ask(Of::Ec2, "DescribeVpcEndpoints", json!({"Filter": filter("vpc-id", vpc)})).await;
                match endpoints {
                    Ok(found) => {
                        let names: Vec<_> = found["vpcEndpointSet"]
                            .as_array()
                            .into_iter()
                            .flatten()
                            .map(|one| one["serviceName"].clone())
                            .collect();
                        let names = texts(&names.into());
                        let own = self.environment.region.as_str();
                        let from = |one: &str| if one == "logs" { own.to_owned() } else { self.home.clone() };
                        let wanted = ENDPOINTS.into_iter().map(|one| format!("{}.{one}", from(one)));
                        let missing: Vec<_> =
                            wanted.filter(|one| !names.iter().any(|name| name.ends_with(&format!(".{one}")))).collect();
                        if !missing.is_empty() {
                            self.wrong("", format!(
                                "the subnet {subnet} leads nowhere, so no image is pulled: give its VPC {vpc} a NAT gateway, or \
                                 endpoints for {}",
                                missing.join(", ")
                            ));
                        }
                    }
                    Err(refused) => self.unasked(format!("how the subnet {subnet} reaches ECR"), &refused),
                }
            }
        }
    }
}
