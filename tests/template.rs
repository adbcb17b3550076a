//! `template.yaml` and what it promises: every property is one that CodePipeline takes and the function understands. What its roles
//! allow is in `allowed.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;

use local::account::Account;
use local::template::{self, Stack};
use local::world::ExecutionStatus;
use serde_json::{Value, json};
use tests::{Setting, play, with_parameter};

/// The stack with these values for its parameters, beside the shop's.
pub(crate) fn stack(parameters: &[(&str, &str)]) -> Stack {
    let account = Account::parse("local.yaml", &Setting::default().account).unwrap();
    let mut given = account.parameters.clone();
    given.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    template::read(include_str!("../template.yaml"), &given, &account.account, &account.region).unwrap()
}

/// Every optional part of the stack.
pub(crate) const EVERYTHING: [(&str, &str); 8] = [
    ("EnvironmentRoles", "arn:aws:iam::444455556666:role/deployer"),
    ("Email", "operator@example.com"),
    ("KmsKeyArn", "arn:aws:kms:us-east-1:111122223333:key/0"),
    ("OtherPipelines", "shop-*"),
    ("OtherArtifactBucket", "shop-artifacts"),
    ("OtherArtifactKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1"),
    ("Architecture", "x86_64"),
    ("History", "yes"),
];

#[test]
fn every_reference_resolves_with_and_without_each_option() {
    stack(&[]);
    stack(&EVERYTHING);
    for option in EVERYTHING {
        stack(&[option]);
    }
}

#[test]
fn a_policy_of_a_topic_or_a_queue_is_for_that_one_and_names_no_other() {
    // SNS and SQS refuse any other, and the stack cannot be created; cfn-lint does not say so.
    let text = include_str!("../template.yaml");
    let mut found = 0;
    for resource in text.split("\n\n").filter(|block| block.contains("Type: AWS::S") && block.contains("Policy\n")) {
        let of = ["Topics: [!Ref ", "Queues: [!Ref "].iter().find_map(|begin| resource.split_once(begin));
        let Some((_, rest)) = of else { continue };
        let name = rest.split_once("]\n").unwrap().0;
        for line in resource.lines().filter_map(|line| line.trim().strip_prefix("Resource: ")) {
            assert!(line == format!("!Ref {name}") || line == format!("!GetAtt {name}.Arn"), "{name}: {line}");
            found += 1;
        }
    }
    assert_eq!(found, 6, "statements");
}

#[test]
fn every_property_of_an_action_type_is_one_that_its_function_understands() {
    let change_stack = |stack: &mut Stack| {
        let types = stack.action_types.clone();
        for action in stack.pipeline.stages.iter_mut().flat_map(|stage| &mut stage.actions) {
            for property in types
                .iter()
                .filter(|one| one.provider == action.action_type_id.provider)
                .flat_map(|one| &one.configuration_properties)
            {
                let value = match property.name.as_str() {
                    "Task" => continue,
                    "Manifest" => "deploy.yaml",
                    "Services" => "web, worker",
                    "QuickFrom" => "unknown",
                    new => panic!("give a value for the new property {new}"),
                };
                action.configuration.insert(property.name.clone(), json!(value));
            }
        }
    };
    play(Setting { change_stack: Box::new(change_stack), ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
    });
}

#[test]
fn without_pre_and_post_task_a_release_has_two_stages_less_or_only_announces() {
    let account = with_parameter(&Setting::default().account, "PreTask", "none");
    let account = with_parameter(&account, "PostTask", "none");
    play(Setting { account, ..Setting::default() }, async |stage| {
        let release = stage.start();
        assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded);
        assert_eq!(stage.started(&release), ["migrate/ap", "migrate/eu", "migrate/us"]);
        let actions: Vec<_> = stage.actions(&release).into_iter().map(|one| one.action).collect();
        assert_eq!(actions, ["Source", "Build", "Migrate", "MigrateLogs", "Approve", "Deploy", "Drain", "Announce"]);
    });
}

/// CodePipeline's limits, from its API reference (fact 7 for those of action types).
#[test]
fn everything_fits_codepipelines_limits() {
    for stack in [stack(&[]), stack(&EVERYTHING)] {
        let fits = |what: &str, text: &str, most: usize| {
            assert!((1..=most).contains(&text.len()), "{what} has {} characters of {most}: {text}", text.len());
        };
        for one in &stack.action_types {
            fits("provider", &one.provider, 35);
            fits("version", &one.version, 9);
            assert!(one.configuration_properties.len() <= 10);
            assert!(one.configuration_properties.iter().filter(|property| property.queryable).count() <= 1);
            for property in &one.configuration_properties {
                fits("property", &property.name, 50);
                fits("description", property.description.as_deref().unwrap(), 160);
                assert_eq!(property.r#type.as_deref(), Some("String"));
            }
            let settings = one.settings.as_ref().unwrap();
            fits("link", settings.entity_url_template.as_deref().unwrap(), 2048);
            let link = settings.execution_url_template.as_deref().unwrap();
            fits("link", link, 2048);
            assert!(link.ends_with("/log-events/{ExternalExecutionId}"), "{link}");
        }
        for pipeline in std::iter::once(&stack.pipeline).chain(&stack.other_pipelines) {
            fits("pipeline", &pipeline.name, 100);
            assert!((2..=50).contains(&pipeline.stages.len()));
        }
        let mut names = BTreeSet::new();
        let pipelines = std::iter::once(&stack.pipeline).chain(&stack.other_pipelines);
        for (pipeline, pipeline_stage) in
            pipelines.flat_map(|one| one.stages.iter().map(move |stage| (&one.name, stage)))
        {
            fits("stage", &pipeline_stage.name, 100);
            assert!((1..=50).contains(&pipeline_stage.actions.len()));
            assert!(names.insert(format!("{pipeline}: {}", pipeline_stage.name)));
            assert!(pipeline_stage.on_failure.is_none(), "a stage with migrations never rolls back");
            for action in &pipeline_stage.actions {
                fits("action", &action.name, 100);
                assert!(names.insert(format!("{pipeline}: {}/{}", pipeline_stage.name, action.name)));
                if let Some(namespace) = &action.namespace {
                    fits("namespace", namespace, 100);
                    assert!(names.insert(format!("{pipeline}: #{namespace}")));
                }
                for (name, value) in &action.configuration {
                    fits("property", name, 50);
                    fits("value", value.as_str().unwrap(), 1000);
                }
                assert!((1..=999).contains(&action.run_order));
            }
        }
        // Functions must be known by name before they exist, and Lambda takes 64 characters.
        for function in &stack.functions {
            fits("function", &function.name, 64);
            assert!(function.timeout <= 900);
        }
    }
}

/// The dashboard as CloudWatch gets it, whatever the stack is called.
fn dashboard() -> Value {
    let (_, body) = include_str!("../template.yaml").split_once("      DashboardBody: !Sub |\n").unwrap();
    let body: String = body.lines().take_while(|line| line.is_empty() || line.starts_with("        ")).collect();
    let mut text = String::new();
    let mut rest = body.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        text.push('x');
        rest = after.split_once('}').unwrap().1;
    }
    text.push_str(rest);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_dashboard_shows_days_as_days_and_only_metrics_that_a_function_writes() {
    let dashboard = dashboard();
    // Half a day of the log is searched, which is paid by what is searched, and a month of figures.
    assert_eq!((&dashboard["start"], &dashboard["periodOverride"]), (&json!("-PT12H"), &json!("inherit")));
    let of_days = |widget: &&serde_json::Value| widget["properties"]["start"] == "-P30D";
    assert_eq!(dashboard["widgets"].as_array().unwrap().iter().filter(of_days).count(), 6);
    let written = [
        include_str!("../functions/record-release/src/metrics.rs"),
        include_str!("../functions/launch-workers/src/metrics.rs"),
    ];
    let mut shown = BTreeSet::new();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().into_iter().flatten() {
            shown.extend(metric[1].as_str().map(str::to_owned));
            let search = metric[0]["expression"].as_str().and_then(|text| text.split_once("MetricName=\""));
            shown.extend(search.map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned()));
        }
    }
    assert!(shown.len() >= 12, "{shown:?}");
    for name in shown {
        assert!(written.iter().any(|code| code.contains(&format!("\"{name}\""))), "nobody writes {name}");
    }
}
