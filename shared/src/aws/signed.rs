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
use crate::error::{Error, Kind, Verdict};

/// A question to a service.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// What signatures call the service.
    pub signed_as: &'a str,
    /// What its addresses begin with.
    pub host: &'a str,
    /// The Region that is asked.
    pub region: &'a str,
    /// Whether the service is one for all Regions of a partition, such as IAM.
    pub is_global: bool,
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

impl From<Unasked> for Error {
    fn from(why: Unasked) -> Self {
        match why {
            Unasked::Credentials(message) => Self::Stop(Verdict { kind: Kind::Permission, message }),
            Unasked::Unanswered(message) => Self::Again(message),
        }
    }
}

/// Asks once. Gives the status and the body of the answer, whatever they are.
///
/// # Errors
/// There was no answer.
pub async fn ask(config: &SdkConfig, question: Question<'_>) -> Result<(u16, String), Unasked> {
    let unanswered = Unasked::Unanswered;
    let (region, address) = place(&question);
    let address = config.endpoint_url().map_or(address, |address| address.trim_end_matches('/').to_owned());
    let authority = address.split("://").nth(1).unwrap_or_default().to_owned();
    let provider =
        config.credentials_provider().ok_or_else(|| Unasked::Credentials("no credentials are configured".into()))?;
    let credentials = provider.provide_credentials().await.map_err(|error| {
        Unasked::Credentials(aws_smithy_types::error::display::DisplayErrorContext(&error).to_string())
    })?;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
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

/// The Region that signatures name, and the service's address: what is one for all Regions stands in one of each partition.
fn place<'a>(question: &Question<'a>) -> (&'a str, String) {
    let Question { host, region, .. } = *question;
    match (region, question.is_global) {
        (china, true) if china.starts_with("cn-") => {
            ("cn-north-1", format!("https://{host}.cn-north-1.amazonaws.com.cn"))
        }
        (government, true) if government.starts_with("us-gov-") => {
            ("us-gov-west-1", format!("https://{host}.us-gov.amazonaws.com"))
        }
        (_, true) => ("us-east-1", format!("https://{host}.amazonaws.com")),
        (china, false) if china.starts_with("cn-") => (china, format!("https://{host}.{china}.amazonaws.com.cn")),
        (region, false) => (region, format!("https://{host}.{region}.amazonaws.com")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_in_its_region_or_in_the_one_of_its_partition() {
        for (region, is_global, expected) in [
            ("eu-west-1", false, ("eu-west-1", "https://x.eu-west-1.amazonaws.com")),
            ("cn-north-1", false, ("cn-north-1", "https://x.cn-north-1.amazonaws.com.cn")),
            ("eu-west-1", true, ("us-east-1", "https://x.amazonaws.com")),
            ("cn-northwest-1", true, ("cn-north-1", "https://x.cn-north-1.amazonaws.com.cn")),
            ("us-gov-east-1", true, ("us-gov-west-1", "https://x.us-gov.amazonaws.com")),
        ] {
            let (signed_as, host, target, kind) = ("x", "x", None, "");
            let question = Question {
                signed_as,
                host,
                region,
                is_global,
                target,
                kind,
                body: String::new(),
                patience: Duration::ZERO,
            };
            assert_eq!(place(&question), (expected.0, expected.1.to_owned()));
        }
    }
}
