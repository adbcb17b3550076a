//! HTTP by hand, to others than AWS above all, through the SDK's own client: one TLS stack, and tests play it in virtual time, too.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError, SensitiveOutput};
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::Value;

use crate::aws::{ATTEMPT, Aws};
use crate::error::{Error, Verdict};

/// How often a request is made that is answered with "not now", or not at all.
const ATTEMPTS: u32 = 3;

/// The pause after the first attempt; after the second it is twice as long.
const PAUSE: Duration = Duration::from_secs(2);

/// A JSON request to somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// Who it is for, as people call them.
    pub to: &'static str,
    /// Where it goes. It may be a secret itself, so it is never said.
    pub url: String,
    /// Its headers; they may be secrets, too.
    pub headers: Vec<(&'static str, String)>,
    /// What it says.
    pub body: Value,
}

impl Aws {
    /// Posts JSON, three times at the most.
    ///
    /// # Errors
    /// What came back, without the address and the headers.
    pub async fn post(&self, post: &Post) -> Result<(), Error> {
        let mut pause = PAUSE;
        let mut outcome = self.post_once(post).await;
        for _ in 1..ATTEMPTS {
            if !matches!(outcome, Err(Error::Again(_))) {
                break;
            }
            // Many releases may be told of at once: they must not ask together again.
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause *= 2;
            outcome = self.post_once(post).await;
        }
        outcome
    }

    async fn post_once(&self, post: &Post) -> Result<(), Error> {
        let url = match &self.settings().http {
            Some(instead) => redirected(instead, &post.url),
            None => post.url.clone(),
        };
        let own = post.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let headers = std::iter::once(("content-type".to_owned(), "application/json".to_owned())).chain(own).collect();
        let request = Request { url, headers, body: post.body.to_string(), patience: ATTEMPT };
        match send(self.config(), request).await {
            Ok(Reply { status: 200..=299, .. }) => Ok(()),
            Ok(Reply { status, body, .. }) => {
                let body = masked(crate::text::plain(&body).trim(), post);
                let said = format!("{} answered {status}: {}", post.to, crate::text::fit(&body, 200));
                match status {
                    408 | 429 | 500..=599 => Err(Error::Again(said)),
                    _ => Err(Verdict::misconfigured(said).into()),
                }
            }
            Err(Unanswered) => Err(Error::Again(format!("{} could not be reached", post.to))),
        }
    }
}

/// An answer without what it repeats of the request, whose path and headers may be secrets: "Cannot POST /hooks/...".
fn masked(body: &str, post: &Post) -> String {
    let rest = post.url.split_once("://").map_or(post.url.as_str(), |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let of_headers = post.headers.iter().flat_map(|(_, value)| value.split_whitespace());
    let mut secrets: Vec<&str> = path.split(['/', '?', '&', '=']).chain(of_headers).collect();
    secrets.push(path);
    // What is that short is a word such as `api`.
    secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(body.to_owned(), |body, secret| body.replace(secret, "..."))
}

/// The shortest part of an address or a header that is taken for a secret.
const SHORTEST_SECRET: usize = 7;

/// A POST as it goes out.
pub(super) struct Request {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// How long the answer may take.
    pub(super) patience: Duration,
}

/// What was answered. Printing it shows no body, which may be a secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// `x-amzn-errortype`, where services that speak REST say what went wrong.
    pub error_type: Option<String>,
    /// The body.
    pub body: String,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}

/// Nobody answered, or not in time.
pub(super) struct Unanswered;

/// Sends a request through a configuration's client, once; gives the answer, whatever it is.
pub(super) async fn send(config: &SdkConfig, request: Request) -> Result<Reply, Unanswered> {
    let (scheme, rest) = request.url.split_once("://").unwrap_or(("https", &request.url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = format!("/{path}");
    // The SDK traces no answer that may be a secret.
    let mut sensitive = Layer::new("sensitive");
    sensitive.store_put(SensitiveOutput);
    let mut operation = Operation::builder()
        .runtime_plugin(StaticRuntimePlugin::new().with_config(sensitive.freeze()))
        .service_name("http")
        .operation_name("post")
        .behavior_version(aws_config::BehaviorVersion::latest())
        .endpoint_url(&format!("{scheme}://{host}"))
        .no_auth()
        .no_retry()
        .timeout_config(TimeoutConfig::builder().operation_timeout(request.patience).build());
    // Without one of its own, a configuration has the SDK's default client.
    if let Some(client) = config.http_client() {
        operation = operation.http_client(client);
    }
    if let Some(sleep) = config.sleep_impl() {
        operation = operation.sleep_impl(sleep);
    }
    let (headers, body) = (request.headers, request.body);
    let operation = operation
        .serializer(move |()| {
            let mut request = HttpRequest::new(SdkBody::from(body.clone()));
            request.set_method("POST")?;
            request.set_uri(path.clone())?;
            for (name, value) in &headers {
                // A secret may contain what no header can.
                request.headers_mut().try_insert(name.clone(), value.clone())?;
            }
            Ok(request)
        })
        .deserializer(|response: &HttpResponse| {
            let text = response.body().bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            Ok::<_, OrchestratorError<std::convert::Infallible>>(Reply {
                status: response.status().as_u16(),
                error_type: response.headers().get("x-amzn-errortype").map(str::to_owned),
                body: text.unwrap_or_default(),
            })
        })
        .build();
    operation.invoke(()).await.map_err(|_| Unanswered)
}

/// The same address at another host: `http://127.0.0.1:8000/sink/hooks.slack.com/services/...`.
fn redirected(instead: &str, url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    format!("{}/{rest}", instead.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_repeats_the_request_shows_nothing_secret_of_it() {
        let post = Post {
            to: "it",
            url: "https://chat.example/hooks/T0123456/abcdefgh?key=ABCDEFGH".into(),
            headers: vec![("authorization", "Bearer eyJhbGciOi".into())],
            body: Value::Null,
        };
        for (body, expected) in [
            ("Cannot POST /hooks/T0123456/abcdefgh?key=ABCDEFGH", "Cannot POST /..."),
            ("no hook T0123456, key ABCDEFGH", "no hook ..., key ..."),
            ("bad token: Bearer eyJhbGciOi", "bad token: Bearer ..."),
            ("invalid_payload", "invalid_payload"),
        ] {
            assert_eq!(masked(body, &post), expected);
        }
    }
}
