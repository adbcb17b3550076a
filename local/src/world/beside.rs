//! IAM, EC2, ECR, Secrets Manager and Service Quotas, as far as `verify` asks them: nothing can be changed here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Fault, Request, Response, World, decoded};

/// The vCPUs that Fargate gives a new account at once.
const VCPUS: u32 = 6;

/// A parameter list of EC2's and IAM's protocol.
fn parameters(request: &Request) -> BTreeMap<String, String> {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn missing(code: &str, what: &str) -> Fault {
    Fault { status: 404, ..Fault::new(code, what) }
}

impl World {
    /// A repository's lifecycle policy removes an image, named as in a task definition.
    pub fn remove_image(&mut self, image: &str) {
        let name = image.split_once('/').map_or(image, |(_, name)| name);
        self.beside.gone.push(name.to_owned());
    }

    pub(super) fn is_gone(&self, name: &str) -> bool {
        self.beside.gone.iter().any(|gone| gone == name)
    }

    pub(super) fn iam_operation(&mut self, name: &str, request: &Request) -> Result<Response, Fault> {
        let given = parameters(request);
        if name != "GetRole" {
            return Err(Fault::unknown(format!("the operation {name}")));
        }
        let role = given.get("RoleName").cloned().unwrap_or_default();
        if self.is_gone(&role) {
            return Err(missing("NoSuchEntity", &format!("The role with name {role} cannot be found.")));
        }
        let everybody = || vec!["ecs-tasks.amazonaws.com".to_owned(), format!("arn:aws:iam::{}:root", self.account)];
        let trusted = self.beside.trust.get(&role).cloned().unwrap_or_else(everybody);
        let statement = |who: &String| {
            let kind = if who.contains(".amazonaws.com") { "Service" } else { "AWS" };
            json!({"Effect": "Allow", "Principal": {kind: who}, "Action": "sts:AssumeRole"})
        };
        let policy = json!({"Version": "2012-10-17", "Statement": trusted.iter().map(statement).collect::<Vec<_>>()});
        let policy = policy.to_string().replace('%', "%25").replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let account = self.account_of(request);
        Ok(Response::xml(format!(
            "<GetRoleResponse><GetRoleResult><Role><RoleName>{role}</RoleName><Arn>arn:aws:iam::{account}:role/{role}</Arn>\
             <AssumeRolePolicyDocument>{policy}</AssumeRolePolicyDocument></Role></GetRoleResult></GetRoleResponse>"
        )))
    }

    pub(super) fn ec2_operation(&mut self, name: &str, request: &Request) -> Result<Response, Fault> {
        let given = parameters(request);
        let ids = |of: &str| {
            given.iter().filter(|(name, _)| name.starts_with(of)).map(|(_, id)| id.clone()).collect::<Vec<_>>()
        };
        let all = |items: Vec<String>| items.iter().map(|item| format!("<item>{item}</item>")).collect::<String>();
        let body = match name {
            "DescribeSecurityGroups" => {
                let groups = ids("GroupId.");
                if let Some(gone) = groups.iter().find(|id| self.is_gone(id)) {
                    return Err(Fault::new(
                        "InvalidGroup.NotFound",
                        format!("The security group '{gone}' does not exist"),
                    ));
                }
                let shown = groups.iter().map(|id| format!("<groupId>{id}</groupId>")).collect();
                format!("<securityGroupInfo>{}</securityGroupInfo>", all(shown))
            }
            "DescribeSubnets" => {
                let subnets = ids("SubnetId.");
                if let Some(gone) = subnets.iter().find(|id| self.is_gone(id)) {
                    return Err(Fault::new(
                        "InvalidSubnetID.NotFound",
                        format!("The subnet ID '{gone}' does not exist"),
                    ));
                }
                let free = |id: &str| self.beside.subnets.get(id).and_then(|subnet| subnet.free).unwrap_or(250);
                let shown = subnets.iter().map(|id| {
                    let free = free(id);
                    // Each is in a VPC of its own.
                    format!("<subnetId>{id}</subnetId><vpcId>vpc-of-{id}</vpcId><availableIpAddressCount>{free}</availableIpAddressCount>")
                });
                format!("<subnetSet>{}</subnetSet>", all(shown.collect()))
            }
            "DescribeRouteTables" => {
                let vpc = given.get("Filter.1.Value.1").cloned().unwrap_or_default();
                let subnet = vpc.trim_start_matches("vpc-of-");
                let leads_to =
                    self.beside.subnets.get(subnet).map_or("nat-0123456789abcdef0", |subnet| &subnet.leads_to);
                let field = if leads_to.starts_with("nat-") { "natGatewayId" } else { "gatewayId" };
                let route = format!(
                    "<item><destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><{field}>{leads_to}</{field}></item>"
                );
                let routes = if leads_to.is_empty() { String::new() } else { route };
                format!(
                    "<routeTableSet><item><vpcId>{vpc}</vpcId><associationSet><item><main>true</main></item></associationSet>\
                     <routeSet><item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId></item>\
                     {routes}</routeSet></item></routeTableSet>"
                )
            }
            "DescribeVpcEndpoints" => {
                let region = request.region();
                let names = self.beside.endpoints.iter();
                let shown = names.map(|name| format!("<serviceName>com.amazonaws.{region}.{name}</serviceName>"));
                format!("<vpcEndpointSet>{}</vpcEndpointSet>", all(shown.collect()))
            }
            _ => return Err(Fault::unknown(format!("the operation {name}"))),
        };
        Ok(Response::xml(format!("<{name}Response>{body}</{name}Response>")))
    }

    pub(super) fn ecr_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        if name != "BatchGetImage" {
            return Err(Fault::unknown(format!("the operation {name}")));
        }
        let input: Value = request.input()?;
        let repository = input["repositoryName"].as_str().unwrap_or_default();
        if self.is_gone(repository) {
            let why = format!("The repository with name '{repository}' does not exist in the registry");
            return Err(Fault::new("RepositoryNotFoundException", why));
        }
        let id = &input["imageIds"][0];
        let image = match (id["imageDigest"].as_str(), id["imageTag"].as_str()) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, tag) => format!("{repository}:{}", tag.unwrap_or("latest")),
        };
        if self.is_gone(&image) {
            return Ok(json!({"images": [], "failures": [{"imageId": id, "failureCode": "ImageNotFound"}]}));
        }
        let both = || vec!["amd64".to_owned(), "arm64".to_owned()];
        let built = self.beside.images.get(&image).cloned().unwrap_or_else(both);
        let platforms = built.iter().map(|one| json!({"platform": {"architecture": one, "os": "linux"}}));
        let manifest = json!({"schemaVersion": 2, "manifests": platforms.collect::<Vec<_>>()});
        Ok(json!({"images": [{"imageId": id, "imageManifest": manifest.to_string()}], "failures": []}))
    }

    pub(super) fn secrets_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        if name != "DescribeSecret" {
            return Err(Fault::unknown(format!("the operation {name}")));
        }
        let input: Value = request.input()?;
        let id = input["SecretId"].as_str().unwrap_or_default();
        if self.is_gone(id) {
            return Err(Fault::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret."));
        }
        Ok(json!({"ARN": id}))
    }

    pub(super) fn quotas_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        if name != "GetServiceQuota" {
            return Err(Fault::unknown(format!("the operation {name}")));
        }
        let input: Value = request.input()?;
        Ok(
            json!({"Quota": {"QuotaCode": input["QuotaCode"], "Value": f64::from(self.beside.fargate_vcpus.unwrap_or(VCPUS))}}),
        )
    }

    /// The log groups that task definitions name: they are there unless the account says otherwise.
    pub(super) fn named_log_groups(&self, region: &str) -> Vec<String> {
        let of_region = self.ecs.definitions.iter().filter(|(((_, at), _), _)| at == region);
        let containers =
            of_region.flat_map(|(_, revisions)| revisions).filter_map(|one| one["containerDefinitions"].as_array());
        let groups =
            containers.flatten().filter_map(|one| one.pointer("/logConfiguration/options/awslogs-group")?.as_str());
        groups.filter(|group| !self.is_gone(group)).map(str::to_owned).collect()
    }
}
