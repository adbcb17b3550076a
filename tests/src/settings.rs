//! What scenarios are set up from.

use local::template::{self, Stack};
use serde_json::{Value, json};

/// Makes every custom action of the pipeline a plain Lambda Invoke action with the same parameters.
pub fn as_invoke_actions(stack: &mut Stack) {
    let functions: Value = stack
        .functions
        .iter()
        .find_map(|function| serde_json::from_str(function.environment.get("CUTOVER_FUNCTIONS")?).ok())
        .expect("CUTOVER_FUNCTIONS");
    let pipeline = stack.pipeline.name.clone();
    for stage in &mut stack.pipeline.stages {
        for action in stage.actions.iter_mut().filter(|action| action.action_type_id.owner == "Custom") {
            let function = functions[&action.action_type_id.provider].clone();
            let mut parameters = json!({"Pipeline": pipeline, "PipelineExecutionId": "#{codepipeline.PipelineExecutionId}",
                "Stage": stage.name, "Action": action.name});
            for (name, value) in &action.configuration {
                parameters[name] = value.clone();
            }
            let configuration = [("FunctionName", function), ("UserParameters", json!(parameters.to_string()))];
            action.configuration = configuration.map(|(name, value)| (name.to_owned(), value)).into();
            action.action_type_id = template::ActionTypeId {
                category: "Invoke".into(),
                owner: "AWS".into(),
                provider: "Lambda".into(),
                version: "1".into(),
            };
        }
    }
}

/// A `local.yaml` whose stack has this value for a parameter.
#[must_use]
pub fn with_parameter(account: &str, name: &str, value: &str) -> String {
    let is_it = |line: &&str| line.starts_with(&format!("  {name}:"));
    let others: String = account.lines().filter(|line| !is_it(line)).map(|line| format!("{line}\n")).collect();
    others.replacen("\nparameters:\n", &format!("\nparameters:\n  {name}: {value:?}\n"), 1)
}

/// Whether a container runs this command of the shop's.
#[must_use]
pub fn of_task(start: &local::world::Start, command: &str) -> bool {
    start.command.last().is_some_and(|last| last == command)
}

/// The shop, whose migration runs in `n` environments that share a cluster.
#[must_use]
pub fn wide(n: usize) -> String {
    let names: Vec<_> = (1..=n).map(|n| format!("e{n:02}")).collect();
    let environment = |name: &String| format!("  {name}: {{region: us-east-1, cluster: shop, subnets: [subnet-1]}}\n");
    let environments: String = names.iter().map(environment).collect();
    let service = |name: &str| {
        format!(
            "  {name}: {{kind: {name}, service: {name}, codedeploy_application: shop, deployment_group: {name}, \
             family: shop-{name}, container: shop, port: 8080, environments: [e01]}}\n"
        )
    };
    format!(
        "application: shop\nenvironments:\n{environments}tasks:\n\
         \x20 prepare: {{family: shop-task, command: [prepare], environments: [e01]}}\n\
         \x20 migrate: {{family: shop-task, command: [migrate]}}\n\
         \x20 finish: {{family: shop-task, command: [finish], environments: [e01]}}\n\
         services:\n{}{}",
        service("web"),
        service("worker")
    )
}

/// Whether a container has the database of this environment of the shop.
#[must_use]
pub fn is_in(start: &local::world::Start, environment: &str) -> bool {
    start.environment.get("DATABASE").is_some_and(|path| path.contains(&format!("/{environment}.")))
}

/// The smallest application that has everything: two environments, a web service and a worker.
pub const SMALL: &str = "
application: shop
environments:
  us: {region: us-east-1, cluster: shop, subnets: [subnet-1]}
  eu: {region: eu-west-1, cluster: shop, subnets: [subnet-2]}
tasks:
  prepare: {family: shop-task, command: [prepare], environments: [us]}
  migrate: {family: shop-task, command: [migrate]}
  finish: {family: shop-task, command: [finish], environments: [us]}
services:
  web: {kind: web, service: web, codedeploy_application: shop, deployment_group: web, family: shop-web, container: shop, port: 8080, environments: [us]}
  worker: {kind: worker, service: worker, codedeploy_application: shop, deployment_group: worker, family: shop-worker, container: shop, port: 8080, environments: [eu]}
";
