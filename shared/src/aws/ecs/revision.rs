//! A new revision of a task definition, made from what ECS says of the newest one.
//!
//! Invariant: a revision differs from the one before in what was asked for and in nothing else, also in fields that our
//! version of the SDK does not know: it is made from ECS's own JSON, and not from the SDK's types.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::{Value, json};

use crate::manifest::LogMode;

/// What `DescribeTaskDefinition` says that `RegisterTaskDefinition` does not take: it follows from the registration.
const NOT_TAKEN: [&str; 10] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
    "tags",
];

/// The request for a revision like `described`, with `image` in the container at this place, and its logs as asked for;
/// `None` when it is so already.
pub(super) fn revised(described: &Value, at: usize, image: Option<&str>, logs: LogMode) -> Option<Value> {
    let mut request = described.get("taskDefinition")?.clone();
    let before = request.clone();
    if let Some(image) = image {
        *request.pointer_mut(&format!("/containerDefinitions/{at}"))?.get_mut("image")? = image.into();
    }
    if logs == LogMode::Blocking {
        let containers = request.get_mut("containerDefinitions")?.as_array_mut()?;
        for options in containers.iter_mut().filter_map(options_of_log_driver) {
            options["mode"] = json!("blocking");
            // Docker refuses it beside that mode, and the container cannot be created.
            if let Some(options) = options.as_object_mut() {
                options.remove("max-buffer-size");
            }
        }
    }
    if request == before {
        return None;
    }
    let fields = request.as_object_mut()?;
    fields.retain(|name, _| !NOT_TAKEN.contains(&name.as_str()));
    // Tags stand beside the definition in the description; an empty list is refused, and so are AWS's own.
    let is_own = |tag: &&Value| !tag["key"].as_str().is_some_and(|key| key.to_lowercase().starts_with("aws:"));
    let tags: Vec<_> = described["tags"].as_array().into_iter().flatten().filter(is_own).cloned().collect();
    fields.extend((!tags.is_empty()).then(|| ("tags".to_owned(), tags.into())));
    Some(request)
}

/// The options of a container's log driver, where `mode` is one of them: `awsfirelens` hands its own to the router.
fn options_of_log_driver(container: &mut Value) -> Option<&mut Value> {
    let logs = container.get_mut("logConfiguration")?.as_object_mut()?;
    if logs.get("logDriver").and_then(Value::as_str) == Some("awsfirelens") {
        return None;
    }
    let options = logs.entry("options").or_insert(Value::Null);
    if options.is_null() {
        *options = json!({});
    }
    Some(options)
}

/// Keeps the body of an answer as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Option<Value>>>);

impl Kept {
    /// The body.
    pub(super) fn body(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for Kept {
    fn name(&self) -> &'static str {
        "Kept"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().and_then(|bytes| serde_json::from_slice(bytes).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body;
        Ok(())
    }
}

/// Replaces a request's body.
pub(super) fn replace_body(request: &mut HttpRequest, body: &Value) {
    let text = body.to_string();
    request.headers_mut().insert("content-length", text.len().to_string());
    *request.body_mut() = SdkBody::from(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Value {
        json!({
            "taskDefinition": {
                "family": "shop", "revision": 7, "status": "ACTIVE", "taskDefinitionArn": "arn", "registeredAt": 1.7e9,
                "volumes": [], "cpu": "256", "ofTomorrow": {"kept": true},
                "containerDefinitions": [
                    {"name": "app", "image": "app:1", "essential": true, "alsoOfTomorrow": [1, 2],
                     "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}}},
                    {"name": "router", "image": "router:1",
                     "logConfiguration": {"logDriver": "awsfirelens"}},
                    {"name": "side", "image": "side:1", "logConfiguration": {"logDriver": "fluentd"}},
                    {"name": "quiet", "image": "quiet:1"},
                ],
            },
            "tags": [{"key": "team", "value": "shop"}],
        })
    }

    #[test]
    fn a_revision_differs_in_the_image_and_in_nothing_else_not_even_in_what_nobody_here_knows() {
        let revised = revised(&described(), 0, Some("app:2"), LogMode::AsDefined).unwrap();
        let mut expected = described()["taskDefinition"].clone();
        expected["containerDefinitions"][0]["image"] = json!("app:2");
        for name in ["revision", "status", "taskDefinitionArn", "registeredAt"] {
            expected.as_object_mut().unwrap().remove(name);
        }
        expected["tags"] = json!([{"key": "team", "value": "shop"}]);
        assert_eq!(revised, expected);
    }

    #[test]
    fn a_definition_that_is_as_it_should_be_is_used_as_it_is() {
        assert_eq!(revised(&described(), 0, Some("app:1"), LogMode::AsDefined), None);
        assert_eq!(revised(&described(), 0, None, LogMode::AsDefined), None);
        let mut blocking = described();
        for at in [0, 2] {
            blocking["taskDefinition"]["containerDefinitions"][at]["logConfiguration"]["options"]["mode"] =
                json!("blocking");
        }
        assert_eq!(revised(&blocking, 0, Some("app:1"), LogMode::Blocking), None);
    }

    #[test]
    fn logs_that_must_not_be_lost_block_in_every_driver_that_has_the_option() {
        let revised = revised(&described(), 0, None, LogMode::Blocking).unwrap();
        let mode = |at: usize| revised["containerDefinitions"][at].pointer("/logConfiguration/options/mode").cloned();
        assert_eq!(
            [mode(0), mode(1), mode(2), mode(3)],
            [Some(json!("blocking")), None, Some(json!("blocking")), None]
        );
        assert_eq!(revised["containerDefinitions"][0]["logConfiguration"]["options"]["awslogs-group"], "g");
    }
}
