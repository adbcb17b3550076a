//! IAM: which permissions a call needs, and whether the function that makes it has them.
//!
//! A function signs with its own name as the access key's id; whoever signs with anything else is the account's owner and
//! may do everything. What needs what is from AWS's Service Authorization Reference (see fact 41 for actions that know no
//! resources).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Fault, Request, World};
use crate::template::{Grant, Need};

/// What the functions were allowed and did, by function.
pub type Granted = BTreeMap<String, BTreeSet<Grant>>;

const ANY: &str = "*";

pub(super) fn need(action: impl Into<String>, resource: impl Into<String>) -> Need {
    Need { action: action.into(), resource: resource.into(), context: BTreeMap::new() }
}

impl Need {
    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.context.insert(key, value.into());
        self
    }
}

impl World {
    /// What the functions' roles have allowed so far that was needed.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// What was needed so far of roles in other accounts.
    #[must_use]
    pub fn needed_elsewhere(&self) -> &BTreeSet<Need> {
        &self.needed_elsewhere
    }

    /// Refuses a call that the function's role does not allow.
    pub(super) fn authorize(&mut self, operation: &str, request: &Request) -> Result<(), Fault> {
        if self.account_of(request) != self.account {
            let needs = self.needs(operation, request);
            self.needed_elsewhere.extend(needs);
            return Ok(());
        }
        let Some(function) = self.lambda.function(request.access_key()) else { return Ok(()) };
        let function = function.name.clone();
        for need in self.needs(operation, request) {
            self.allow(&function, &need)?;
        }
        Ok(())
    }

    /// Refuses what a function's role does not allow; what it allows is noted.
    pub(super) fn allow(&mut self, function: &str, need: &Need) -> Result<(), Fault> {
        let permissions = self.lambda.function(function).map(|function| &function.permissions);
        if let Some(grant) = permissions.and_then(|permissions| permissions.grant(need)) {
            self.granted.entry(function.to_owned()).or_default().insert(grant);
            return Ok(());
        }
        let why = format!(
            "{function} is not authorized to perform: {} on resource: {} because no identity-based policy allows the {0} action",
            need.action, need.resource
        );
        self.effects.push(super::Effect::Note(why.clone()));
        let code = if ["s3:", "iam:"].iter().any(|one| need.action.starts_with(one)) {
            "AccessDenied"
        } else {
            "AccessDeniedException"
        };
        Err(Fault { status: 403, ..Fault::new(code, why) })
    }

    /// What a call needs.
    fn needs(&self, operation: &str, request: &Request) -> Vec<Need> {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let list =
            |name: &str| body.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let (account, region) = (self.account_of(request), request.region());
        let arn = |service: &str, resource: String| format!("arn:aws:{service}:{region}:{account}:{resource}");
        let (service, name) = operation.split_once(':').unwrap_or((operation, ""));
        let short = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let cluster = short(text("cluster"));
        let in_cluster = |kind: &str, name: &str| arn("ecs", format!("{kind}/{cluster}/{}", short(name)));
        let cluster_arn = arn("ecs", format!("cluster/{cluster}"));
        match (service, name) {
            ("codepipeline", "PollForJobs") => {
                let part = |name: &str| body["actionTypeId"][name].as_str().unwrap_or_default();
                let [owner, category, provider, version] = ["owner", "category", "provider", "version"].map(part);
                vec![need(operation, arn(service, format!("actiontype:{owner}/{category}/{provider}/{version}")))]
            }
            ("codepipeline", "GetPipelineExecution" | "ListActionExecutions" | "ListPipelineExecutions") => {
                vec![need(operation, arn(service, text("pipelineName").to_owned()))]
            }
            ("ecs", "RunTask") => {
                let definition = short(text("taskDefinition"));
                let resource = arn(service, format!("task-definition/{definition}"));
                let mut needs = vec![need(operation, resource).with("ecs:cluster", cluster_arn)];
                if body["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
                    needs.push(need("ecs:TagResource", in_cluster("task", ANY)).with("ecs:CreateAction", name));
                }
                let found = self.definition(&(account.clone(), region.to_owned()), &definition).ok();
                needs.extend(found.into_iter().flat_map(passed_roles));
                needs
            }
            ("ecs", "RegisterTaskDefinition") => {
                let resource = arn(service, format!("task-definition/{}:*", text("family")));
                let mut needs = vec![need(operation, resource.clone())];
                if body["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
                    needs.push(need("ecs:TagResource", resource).with("ecs:CreateAction", name));
                }
                needs.extend(passed_roles(&body));
                needs
            }
            ("ecs", "StopTask") => vec![need(operation, in_cluster("task", text("task")))],
            ("ecs", "DescribeTasks" | "GetTaskProtection") => {
                list("tasks").map(|task| need(operation, in_cluster("task", task))).collect()
            }
            ("ecs", "DescribeServices") => {
                list("services").map(|service| need(operation, in_cluster("service", service))).collect()
            }
            ("ecs", "ListServiceDeployments") => vec![need(operation, in_cluster("service", text("service")))],
            ("ecs", "UpdateService") => {
                let mut needs = vec![need(operation, in_cluster("service", text("service")))];
                // Whoever names a task definition passes its roles.
                let found = self.definition(&(account.clone(), region.to_owned()), &short(text("taskDefinition")));
                needs.extend(found.ok().into_iter().flat_map(passed_roles));
                needs
            }
            ("ecs", "StopServiceDeployment" | "ContinueServiceDeployment") => {
                with_its_service(operation, text("serviceDeploymentArn")).into()
            }
            ("ecs", "DescribeServiceDeployments") => {
                list("serviceDeploymentArns").flat_map(|arn| with_its_service(operation, arn)).collect()
            }
            ("ecs", "DescribeServiceRevisions") => {
                list("serviceRevisionArns").flat_map(|arn| with_its_service(operation, arn)).collect()
            }
            ("ecs", "ListTasks") => {
                vec![need(operation, in_cluster("container-instance", ANY)).with("ecs:cluster", cluster_arn)]
            }
            ("codedeploy", "CreateDeployment" | "ListDeployments") => {
                let (application, group) = (text("applicationName"), text("deploymentGroupName"));
                let mut needs = vec![need(operation, arn(service, format!("deploymentgroup:{application}/{group}")))];
                if name == "CreateDeployment" {
                    // Not in the reference; seen in AWS's own examples of such policies.
                    if !body["overrideAlarmConfiguration"].is_null() {
                        let group = arn(service, format!("deploymentgroup:{application}/{group}"));
                        needs.push(need("codedeploy:UpdateDeploymentGroup", group));
                    }
                    let application = arn(service, format!("application:{application}"));
                    needs.push(need("codedeploy:GetApplicationRevision", application.clone()));
                    needs.push(need("codedeploy:RegisterApplicationRevision", application));
                    let config = arn(service, "deploymentconfig:CodeDeployDefault.ECSAllAtOnce".into());
                    needs.push(need("codedeploy:GetDeploymentConfig", config));
                }
                needs
            }
            ("codedeploy", "BatchGetDeploymentGroups") => {
                let application = text("applicationName");
                let group = |group| need(operation, arn(service, format!("deploymentgroup:{application}/{group}")));
                list("deploymentGroupNames").map(group).collect()
            }
            ("codedeploy", "BatchGetDeployments") => {
                let groups = list("deploymentIds").filter_map(|id| self.group_of(id));
                groups.map(|group| need(operation, arn(service, format!("deploymentgroup:{group}")))).collect()
            }
            ("logs", _) => {
                let (group, stream) = (text("logGroupName"), text("logStreamName"));
                vec![need(operation, arn(service, format!("log-group:{group}:log-stream:{stream}")))]
            }
            ("lambda", "Invoke") => {
                let function = request.path.split('/').nth(3).unwrap_or_default();
                let function = function.rsplit(':').next().unwrap_or_default();
                vec![need("lambda:InvokeFunction", arn(service, format!("function:{function}")))]
            }
            ("ecr", _) => vec![need(operation, arn(service, format!("repository/{}", text("repositoryName"))))],
            ("ssm", "GetParametersByPath") => {
                vec![need(operation, arn(service, format!("parameter{}", text("Path"))))]
            }
            ("ssm", _) => vec![need(operation, arn(service, format!("parameter{}", text("Name"))))],
            ("sqs", _) => {
                let queue = text("QueueUrl").rsplit('/').next().unwrap_or_default();
                vec![need(operation, arn(service, queue.to_owned()))]
            }
            ("scheduler", "CreateScheduleGroup") => {
                vec![need(operation, arn(service, format!("schedule-group/{}", short(&request.path))))]
            }
            ("scheduler", "ListSchedules") => vec![need(operation, arn(service, "schedule/*/*".into()))],
            ("scheduler", _) => {
                let asked = request.query.get("groupName").map(String::as_str);
                let group = asked.unwrap_or_else(|| text("GroupName"));
                let resource = arn(service, format!("schedule/{group}/{}", short(&request.path)));
                let mut needs = vec![need(operation, resource)];
                if let Some(role) = body.pointer("/Target/RoleArn").and_then(Value::as_str) {
                    needs.push(need("iam:PassRole", role).with("iam:PassedToService", "scheduler.amazonaws.com"));
                }
                needs
            }
            ("s3", _) => {
                let path = request.path.trim_matches('/');
                let on_object = |action| need(action, format!("arn:aws:s3:::{path}"));
                match name {
                    "ListObjectsV2" => {
                        let prefix = request.query.get("prefix").cloned().unwrap_or_default();
                        vec![on_object("s3:ListBucket").with("s3:prefix", prefix)]
                    }
                    // The condition is of what is there.
                    "PutObject" if request.headers.contains_key("if-match") => {
                        vec![on_object("s3:PutObject"), on_object("s3:GetObject")]
                    }
                    "PutObject" => vec![on_object("s3:PutObject")],
                    "CopyObject" => {
                        let source = request.headers.get("x-amz-copy-source").map(String::as_str).unwrap_or_default();
                        let source = super::decoded(source.trim_start_matches('/'));
                        vec![need("s3:GetObject", format!("arn:aws:s3:::{source}")), on_object("s3:PutObject")]
                    }
                    "DeleteObject" => vec![on_object("s3:DeleteObject")],
                    _ => vec![on_object("s3:GetObject")],
                }
            }
            ("iam", "GetRole") => {
                let body = String::from_utf8_lossy(&request.body);
                let role = body.split('&').find_map(|pair| pair.strip_prefix("RoleName=")).unwrap_or_default();
                vec![need(operation, format!("arn:aws:iam::{account}:role/{}", super::decoded(role)))]
            }
            ("sts", _) => {
                let body = String::from_utf8_lossy(&request.body);
                let role = body.split('&').find_map(|pair| pair.strip_prefix("RoleArn=")).unwrap_or_default();
                vec![need(operation, role.replace("%3A", ":").replace("%2F", "/"))]
            }
            // No AWS: Slack and its like, and what a task asks its agent.
            ("sink" | "agent", _) => Vec::new(),
            // There are no permissions for single resources.
            _ => vec![need(operation, ANY)],
        }
    }
}

/// What is needed for a deployment or a revision of a service, by its ARN, such as `...:service-deployment/cluster/service/id`: the
/// reference names the service, too.
fn with_its_service(operation: &str, arn: &str) -> [Need; 2] {
    let (before, path) = arn.rsplit_once(":service-").unwrap_or((arn, ""));
    let names: Vec<_> = path.split('/').skip(1).take(2).collect();
    [need(operation, arn), need(operation, format!("{before}:service/{}", names.join("/")))]
}

/// The roles that tasks of this definition get.
fn passed_roles(definition: &Value) -> impl Iterator<Item = Need> {
    let roles = ["taskRoleArn", "executionRoleArn"].into_iter().filter_map(|name| definition.get(name)?.as_str());
    roles.map(|role| need("iam:PassRole", role).with("iam:PassedToService", "ecs-tasks.amazonaws.com"))
}
