//! What the laws remember of every call.

use std::sync::{Arc, Mutex, PoisonError};

use local::world::{Request, Response};
use serde_json::Value;
use shared::Time;

use super::samples::Samples;
use super::shape::SECRET;
use crate::{Call, Meddling};

/// A call, with what was done to it and what came of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it arrived.
    pub at: Time,
    /// Whose.
    pub function: String,
    /// Of which invocation.
    pub sandbox: u32,
    /// Which operation.
    pub operation: String,
    /// Where.
    pub region: String,
    /// As whom, in another account.
    pub account: String,
    /// What happened to it.
    pub meddling: Meddling,
    /// The answer's status and, of a refusal, its code; none when nothing came back.
    pub answer: Option<(u16, String)>,
    /// What it said, of those that change something.
    pub input: Value,
    /// Whether it tells a secret to somebody who must not have it.
    pub tells_secret: bool,
}

/// The calls of a play.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Seen>>>);

impl Record {
    pub(super) fn taken(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn witness(
        &self,
        samples: Option<Samples>,
    ) -> impl FnMut(&Call<'_>, &Request, Meddling, Option<&Response>) + Send + use<> {
        let record = self.clone();
        move |call, request, meddling, response| {
            if let Some(samples) = samples.as_ref().filter(|_| meddling == Meddling::Pass) {
                samples.note(request, response);
            }
            let seen = Seen {
                at: call.at,
                function: call.function.to_owned(),
                sandbox: call.sandbox,
                operation: call.operation.to_owned(),
                region: call.region.to_owned(),
                account: request.access_key().to_owned(),
                meddling,
                answer: response.map(|response| (response.status, code(response))),
                input: if call.writes {
                    serde_json::from_slice(&request.body).unwrap_or_default()
                } else {
                    Value::Null
                },
                tells_secret: tells_secret(call, request),
            };
            record.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        }
    }
}

fn code(response: &Response) -> String {
    if response.status == 200 {
        return String::new();
    }
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    body.get("__type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A function may be given a job's credentials, and the address that a notification goes to may be a secret itself; else,
/// nobody is told any.
fn tells_secret(call: &Call<'_>, request: &Request) -> bool {
    let may = call.operation.starts_with("/2015-03-31/functions");
    let text = String::from_utf8_lossy(&request.body);
    !may && text.contains(SECRET)
}
