//! Pages of odd sizes: AWS promises neither how long a page is, nor that one that is not the last has anything in it.

use local::world::{Request, Response};
use serde_json::{Value, json};

/// What the lists are called in the answers of the operations that have pages, and what their tokens are called.
const LISTS: [(&str, &str, &str); 5] = [
    ("ListDeployments", "deployments", "nextToken"),
    ("ListServiceDeployments", "serviceDeployments", "nextToken"),
    ("ListTasks", "taskArns", "nextToken"),
    ("ListActionExecutions", "actionExecutionDetails", "nextToken"),
    ("ListServices", "serviceArns", "nextToken"),
];

/// The request, asking for so many at the most.
pub(crate) fn small(request: &Request, operation: &str, most: u8) -> Request {
    if operation == "ListObjectsV2" {
        let mut request = request.clone();
        request.query.insert("max-keys".into(), most.to_string());
        return request;
    }
    let limit = match operation {
        "GetLogEvents" => "limit",
        // It takes no number.
        "ListDeployments" => return request.clone(),
        _ if LISTS.iter().any(|(name, _, _)| *name == operation) => "maxResults",
        _ => return request.clone(),
    };
    let Ok(mut input) = serde_json::from_slice::<Value>(&request.body) else { return request.clone() };
    input[limit] = json!(most);
    Request { body: input.to_string().into_bytes(), ..request.clone() }
}

/// An empty page that goes on where the request begins, for an operation that has pages.
pub(crate) fn empty(request: &Request, operation: &str) -> Option<Response> {
    let (_, list, token) = LISTS.iter().find(|(name, _, _)| *name == operation)?;
    let input: Value = serde_json::from_slice(&request.body).ok()?;
    let next = input.get(token).cloned().unwrap_or(json!("0"));
    Some(Response::json(json!({*list: [], *token: next})))
}
