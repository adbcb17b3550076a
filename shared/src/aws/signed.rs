//! AWS asked by hand: one signed request, and its answer.
//!
//! For what reads, and is one operation of a service: a generated client for it would take longer to compile than all that it is
//! for. What Cutover does, it does through the SDK's clients.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

use super::http::{Request, send};

/// A question to a service.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// What signatures call the service.
    pub signed_as: &'a str,
    /// What its addresses begin with.
    pub host: &'a str,
    /// The Region that is asked; `None` for a service that has none.
    pub region: Option<&'a str>,
    /// `X-Amz-Target`, where the protocol has it: that of JSON.
    pub target: Option<String>,
    /// `Content-Type`.
    pub kind: &'static str,
    /// What is asked.
    pub body: String,
    /// How long the answer may take.
    pub patience: Duration,
}

/// Why nothing was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unasked {
    /// There are no credentials to ask with.
    Credentials(String),
    /// The request could not be made, or nobody answered in time.
    Unanswered(String),
}

/// The Region that signatures name for services that have none.
const OF_GLOBAL: &str = "us-east-1";

/// Asks once. Gives the status and the body of the answer, whatever they are.
///
/// # Errors
/// There was no answer.
pub async fn ask(config: &SdkConfig, question: Question<'_>) -> Result<(u16, String), Unasked> {
    let unanswered = Unasked::Unanswered;
    let address = match (config.endpoint_url(), question.region) {
        (Some(address), _) => address.trim_end_matches('/').to_owned(),
        (None, None) => format!("https://{}.amazonaws.com", question.host),
        (None, Some(region)) => format!("https://{}.{region}.{}", question.host, suffix(region)),
    };
    let authority = address.split("://").nth(1).unwrap_or_default().to_owned();
    let provider =
        config.credentials_provider().ok_or_else(|| Unasked::Credentials("no credentials are configured".into()))?;
    let credentials = provider.provide_credentials().await.map_err(|error| {
        Unasked::Credentials(aws_smithy_types::error::display::DisplayErrorContext(&error).to_string())
    })?;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(question.region.unwrap_or(OF_GLOBAL))
        .name(question.signed_as)
        .time(config.time_source().map_or_else(SystemTime::now, |source| source.now()))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| unanswered(error.to_string()))?;
    let mut headers = vec![("content-type".to_owned(), question.kind.to_owned()), ("host".to_owned(), authority)];
    headers.extend(question.target.map(|target| ("x-amz-target".to_owned(), target)));
    let url = format!("{address}/");
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new("POST", &url, pairs, SignableBody::Bytes(question.body.as_bytes()))
        .map_err(|error| unanswered(error.to_string()))?;
    let signed = sign(signable, &parameters.into()).map_err(|error| unanswered(error.to_string()))?;
    let (instructions, _) = signed.into_parts();
    // The client writes the host itself.
    headers.retain(|(name, _)| name != "host");
    headers.extend(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let request = Request { url, headers, body: question.body, patience: question.patience };
    send(config, request).await.map_err(|_| unanswered(format!("{address} did not answer")))
}

/// What the addresses of a Region's partition end with.
fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}
