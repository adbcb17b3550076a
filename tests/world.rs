//! What people's own tools ask of the world on this machine first, answered as AWS answers it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::{Setting, play};

const ECS: &str = "AmazonEC2ContainerServiceV20141113";

#[test]
fn tags_stand_beside_the_task_definition_and_never_in_it() {
    play(Setting::default(), async |stage| {
        let definition = json!({"family": "shop-tool", "tags": [{"key": "team", "value": "shop"}],
            "containerDefinitions": [{"name": "tool", "image": "tool:1"}]});
        let registered = stage.call(&format!("{ECS}.RegisterTaskDefinition"), &definition);
        assert_eq!(registered["tags"], json!([{"key": "team", "value": "shop"}]));
        assert_eq!(registered["taskDefinition"]["tags"], Value::Null);
        for (include, tags) in
            [(json!(["TAGS"]), json!([{"key": "team", "value": "shop"}])), (Value::Null, Value::Null)]
        {
            let mut input = json!({"taskDefinition": "shop-tool"});
            if !include.is_null() {
                input["include"] = include;
            }
            let described = stage.call(&format!("{ECS}.DescribeTaskDefinition"), &input);
            assert_eq!(described["tags"], tags, "{input}");
            assert_eq!(described["taskDefinition"]["tags"], Value::Null);
            assert_eq!(described["taskDefinition"]["family"], "shop-tool");
        }
    });
}

#[test]
fn services_are_listed_page_by_page_each_once() {
    play(Setting::default(), async |stage| {
        let mut seen = Vec::new();
        let mut input = json!({"cluster": "shop", "maxResults": 1});
        for page in 1.. {
            let listed = stage.call(&format!("{ECS}.ListServices"), &input);
            let arns = listed["serviceArns"].as_array().unwrap();
            assert!(arns.len() <= 1 && page <= 2, "{listed}");
            seen.extend(arns.iter().map(|arn| arn.as_str().unwrap().to_owned()));
            match listed.get("nextToken") {
                Some(token) => input["nextToken"] = token.clone(),
                None => break,
            }
        }
        let names: BTreeSet<_> = seen.iter().filter_map(|arn| arn.rsplit('/').next()).collect();
        assert_eq!((names, seen.len()), (["web", "worker"].into(), 2));
        let all = stage.call(&format!("{ECS}.ListServices"), &json!({"cluster": "shop"}));
        assert_eq!((all["serviceArns"].as_array().unwrap().len(), all.get("nextToken")), (2, None));
    });
}

#[test]
fn the_action_types_of_the_stack_are_listed_as_its_owners() {
    play(Setting::default(), async |stage| {
        let listed = stage.call("CodePipeline_20150709.ListActionTypes", &json!({"actionOwnerFilter": "Custom"}));
        let types = listed["actionTypes"].as_array().unwrap();
        let providers: BTreeSet<_> = types.iter().map(|one| one["id"]["provider"].as_str().unwrap()).collect();
        assert!(
            providers.contains("cutover-RunTasks") && providers.contains("cutover-DeployServices"),
            "{providers:?}"
        );
        assert!(
            types.iter().all(|one| one["id"]["owner"] == "Custom" && one["id"]["category"] == "Deploy"),
            "{listed}"
        );
        let of_aws = stage.call("CodePipeline_20150709.ListActionTypes", &json!({"actionOwnerFilter": "AWS"}));
        assert_eq!(of_aws["actionTypes"], json!([]));
    });
}
