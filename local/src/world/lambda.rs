//! Lambda: asynchronous invocations and their retries (fact 3).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Effect, Fault, FunctionError, Request, Response, Timer, World};
use crate::template::{Function, Need};

/// The functions and what they are invoked with.
#[derive(Debug)]
pub(super) struct Lambda {
    functions: BTreeMap<String, Function>,
    invocations: BTreeMap<String, Invocation>,
}

#[derive(Debug, Clone)]
struct Invocation {
    function: String,
    payload: Value,
    /// How often it was tried.
    tried: u32,
    /// The queue whose messages it was given, if it was not invoked asynchronously.
    queue: Option<String>,
}

impl Lambda {
    pub(super) fn new(functions: &[Function]) -> Self {
        let functions = functions.iter().map(|function| (function.name.clone(), function.clone())).collect();
        Self { functions, invocations: BTreeMap::new() }
    }

    /// The function of this name.
    pub(super) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// An environment variable that the stack gives its functions.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        self.functions.values().find_map(|function| function.environment.get(name).cloned())
    }
}

/// The name in an ARN or a name.
fn name(function: &str) -> &str {
    function.rsplit(':').next().unwrap_or(function)
}

impl World {
    /// How many invocations are under way or will be tried again.
    #[must_use]
    pub fn invocations(&self) -> usize {
        self.lambda.invocations.len()
    }

    /// The same, but for those of one function.
    pub(super) fn invocations_but(&self, binary: &str) -> usize {
        let is_it = |one: &&Invocation| {
            self.lambda.functions.get(&one.function).is_some_and(|function| function.binary == binary)
        };
        self.lambda.invocations.values().filter(|one| !is_it(one)).count()
    }

    /// The same, of one function.
    pub(super) fn invocations_of(&self, binary: &str) -> usize {
        self.invocations() - self.invocations_but(binary)
    }

    pub(super) fn lambda_operation(&mut self, _: &str, request: &Request) -> Result<Response, Fault> {
        let function = request.path.split('/').nth(3).unwrap_or_default().to_owned();
        if request.headers.get("x-amz-invocation-type").map(String::as_str) != Some("Event") {
            return Err(Fault::unknown("an invocation that is not asynchronous"));
        }
        if !self.lambda.functions.contains_key(name(&function)) {
            let missing = format!("Function not found: {function}");
            return Err(Fault { status: 404, ..Fault::new("ResourceNotFoundException", missing) });
        }
        let payload = serde_json::from_slice(&request.body)
            .map_err(|error| Fault::new("InvalidRequestContentException", error.to_string()))?;
        self.invoke_async(&function, payload);
        Ok(Response { status: 202, headers: Vec::new(), body: Vec::new() })
    }

    pub(super) fn has_function(&self, function: &str) -> bool {
        self.lambda.functions.contains_key(name(function))
    }

    pub(super) fn invoke_async(&mut self, function: &str, payload: Value) {
        let id = self.uuid();
        let invocation = Invocation { function: name(function).to_owned(), payload, tried: 0, queue: None };
        self.lambda.invocations.insert(id.clone(), invocation);
        self.invoke_now(&id);
    }

    /// Invokes a function with messages of a queue: there is one try, and the queue does the rest.
    pub(super) fn invoke_with_messages(&mut self, function: &str, queue: &str, payload: Value) {
        let id = self.uuid();
        let queue = Some(queue.to_owned());
        let invocation = Invocation { function: name(function).to_owned(), payload, tried: 0, queue };
        self.lambda.invocations.insert(id.clone(), invocation);
        self.invoke_now(&id);
    }

    pub(super) fn invoke_now(&mut self, id: &str) {
        let Some(invocation) = self.lambda.invocations.get_mut(id) else { return };
        let Some(function) = self.lambda.functions.get(&invocation.function) else { return };
        invocation.tried += 1;
        self.effects.push(Effect::Invoke {
            id: id.to_owned(),
            function: invocation.function.clone(),
            payload: invocation.payload.clone(),
            timeout: Duration::from_secs(function.timeout),
        });
    }

    pub(super) fn invoked(&mut self, id: &str, result: Result<Value, FunctionError>) {
        let Some(invocation) = self.lambda.invocations.get(id) else { return };
        if let Some(queue) = invocation.queue.clone() {
            if let Some(invocation) = self.lambda.invocations.remove(id) {
                if let Err(why) = &result {
                    self.effects.push(Effect::Note(format!("{} failed: {why}", invocation.function)));
                }
                self.messages_handled(&queue, &invocation.payload, result.ok());
            }
            return;
        }
        let retries = self.lambda.functions.get(&invocation.function).map_or(0, |function| function.retries);
        match result {
            Err(why) if invocation.tried <= retries => {
                self.effects.push(Effect::Note(format!("{} failed and is tried again: {why}", invocation.function)));
                // After one minute, then after two.
                let delay = Duration::from_secs(60 * u64::from(invocation.tried));
                self.after(delay, Timer::Invoke(id.to_owned()));
            }
            Err(why) => {
                let Some(invocation) = self.lambda.invocations.remove(id) else { return };
                self.effects.push(Effect::Note(format!("{} failed for good: {why}", invocation.function)));
                let function = self.lambda.functions.get(&invocation.function);
                if let Some(destination) = function.and_then(|function| function.on_failure.clone()) {
                    let record = json!({
                        "version": "1.0", "timestamp": self.now.to_string(),
                        "requestContext": {"requestId": id, "condition": "RetriesExhausted", "approximateInvokeCount": invocation.tried,
                            "functionArn": format!("arn:aws:lambda:{}:{}:function:{}:$LATEST", self.region, self.account, invocation.function)},
                        "requestPayload": invocation.payload,
                        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
                        "responsePayload": {"errorMessage": why.message, "errorType": why.kind},
                    });
                    let arn = format!("arn:aws:lambda:{}:{}:function:{destination}", self.region, self.account);
                    let need = Need { action: "lambda:InvokeFunction".into(), resource: arn, context: BTreeMap::new() };
                    // Lambda sends it as the function.
                    if self.allow(&invocation.function, &need).is_ok() {
                        self.invoke_async(&destination, record);
                    }
                }
            }
            Ok(_) => {
                self.lambda.invocations.remove(id);
            }
        }
    }
}
