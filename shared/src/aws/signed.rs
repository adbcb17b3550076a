//! AWS asked by hand: one signed request, and its answer.
//!
//! For services of which a few small operations are needed: SSM's client alone takes longer to compile than all of Cutover's
//! functions. What deploys goes through the SDK's clients.
//!
//! Invariant: as through those, an attempt has a time limit, and what is answered with "not now", or not at all, is asked three times,
//! with pauses that are jittered.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

use serde_json::Value;

use super::ATTEMPT;
pub use super::http::Reply;
use super::http::{Request, send};
use crate::error::{Error, Kind, Verdict, answered, says_refused};

/// How often a question is asked that is answered with "not now", or not at all.
const TRIES: u32 = 3;

/// How long the pause after the first time is at the most; after the second it is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// A question to a service. It cannot be printed: what a function is invoked with carries credentials.
#[derive(Clone)]
pub struct Question<'a> {
    /// What signatures call the service.
    pub signed_as: &'a str,
    /// What its addresses begin with.
    pub host: &'a str,
    /// The Region that is asked.
    pub region: &'a str,
    /// Whether the service is one for all Regions of a partition, such as IAM.
    pub is_global: bool,
    /// The path: `/` in most protocols.
    pub path: String,
    /// What the protocol has beside the signature: `Content-Type`, `X-Amz-Target` and the like, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// What is asked.
    pub body: String,
    /// How long the answer may take.
    pub patience: Duration,
}

impl<'a> Question<'a> {
    /// A question in JSON, as most services take it; `target` is its `X-Amz-Target`, such as `AmazonSSM.GetParameter`.
    #[must_use]
    pub fn json(service: &'a str, region: &'a str, target: String, input: &Value) -> Self {
        let kind = "application/x-amz-json-1.1".to_owned();
        Self {
            signed_as: service,
            host: service,
            region,
            is_global: false,
            path: "/".into(),
            headers: vec![("content-type", kind), ("x-amz-target", target)],
            body: input.to_string(),
            patience: ATTEMPT,
        }
    }

    /// A question as EC2, IAM and STS take it: a form, which names the operation.
    #[must_use]
    pub fn form(service: &'a str, region: &'a str, form: String) -> Self {
        let kind = "application/x-www-form-urlencoded".to_owned();
        Self {
            signed_as: service,
            host: service,
            region,
            is_global: service == "iam",
            path: "/".into(),
            headers: vec![("content-type", kind)],
            body: form,
            patience: ATTEMPT,
        }
    }
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The service's own word for it, to tell "there is none" from "failed"; empty when nobody answered.
    pub code: String,
    /// What it means for the loop.
    pub error: Error,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// Why nothing was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unasked {
    /// There are no credentials to ask with.
    Credentials(String),
    /// The request could not be made, or nobody answered in time.
    Unanswered(String),
}

impl Unasked {
    /// What it means for the loop; `call` is what errors call it, such as `iam:GetRole`.
    pub(super) fn into_error(self, call: &str) -> Error {
        match self {
            Self::Credentials(message) => {
                Error::Stop(Verdict { kind: Kind::Permission, message: format!("{call}: {message}") })
            }
            Self::Unanswered(message) => Error::Again(format!("{call}: {message}")),
        }
    }
}

/// Asks, three times at the most, and gives the answer, which is JSON; `call` is what errors call it, such as `ssm:GetParameter`.
///
/// What it asks for must be safe to repeat: an answer may be lost on its way.
///
/// # Errors
/// What the service answered, or that it did not answer.
pub async fn answer(config: &SdkConfig, call: &str, question: Question<'_>) -> Result<Value, Refused> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match answer_once(config, call, question.clone()).await {
            Err(Refused { error: Error::Again(_), .. }) => tokio::time::sleep(pause.mul_f64(fastrand::f64())).await,
            other => return other,
        }
        pause *= 2;
    }
    answer_once(config, call, question).await
}

/// The same, asked once: for what begins something, or may not take effect late (see [`crate::aws::SHOWN`]).
///
/// # Errors
/// As of [`answer`].
pub async fn answer_once(config: &SdkConfig, call: &str, question: Question<'_>) -> Result<Value, Refused> {
    let reply =
        ask(config, question).await.map_err(|why| Refused { code: String::new(), error: why.into_error(call) })?;
    understood(call, &reply)
}

/// The answer, or what the service says instead of one.
fn understood(call: &str, reply: &Reply) -> Result<Value, Refused> {
    let said = serde_json::from_str::<Value>(&reply.body);
    if (200..300).contains(&reply.status) {
        return match said {
            Ok(value) => Ok(value),
            Err(_) if reply.body.is_empty() => Ok(Value::Null),
            Err(_) => Err(Refused {
                code: String::new(),
                error: Error::Again(format!("{call}: the answer could not be read")),
            }),
        };
    }
    let said = said.unwrap_or_default();
    // `ResourceNotFoundException:http://...` in the header, `com.amazonaws.ssm#ParameterNotFound` in the body.
    let name = reply.error_type.as_deref().or_else(|| said["__type"].as_str()).unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    let code = match (name, reply.status) {
        ("", 403) => "AccessDenied",
        ("", 404) => "NotFound",
        ("", _) => "no code",
        (name, _) => name,
    };
    let message = ["message", "Message"].iter().find_map(|name| said[*name].as_str()).unwrap_or("no message");
    Err(Refused { code: code.to_owned(), error: answered(call, code, message, Some(reply.status)) })
}

/// An error and what caused it, in their own words: what `DisplayErrorContext` adds is for whoever debugs.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

/// Asks once. Gives the answer, whatever it is.
///
/// # Errors
/// There was no answer.
pub async fn ask(config: &SdkConfig, question: Question<'_>) -> Result<Reply, Unasked> {
    let unanswered = Unasked::Unanswered;
    let (region, address) = place(&question);
    let address = config.endpoint_url().map_or(address, |address| address.trim_end_matches('/').to_owned());
    let authority = address.split("://").nth(1).unwrap_or_default().to_owned();
    let provider =
        config.credentials_provider().ok_or_else(|| Unasked::Credentials("no credentials are configured".into()))?;
    let credentials = provider.provide_credentials().await.map_err(|error| {
        let said = causes(&error);
        let is_hopeless =
            matches!(error, CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_));
        // A role's credentials that do not come in time come later.
        if is_hopeless || says_refused(&said) { Unasked::Credentials(said) } else { Unasked::Unanswered(said) }
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
    let mut headers = vec![("host".to_owned(), authority)];
    headers.extend(question.headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let url = format!("{address}{}", question.path);
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

/// What addresses end with, by how their Regions' names begin; everywhere else it is `amazonaws.com`. From the partitions of AWS's SDKs.
const ENDINGS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
];

/// The Region that signatures name, and the service's address: what is one for all Regions stands in one of each partition.
fn place<'a>(question: &Question<'a>) -> (&'a str, String) {
    let Question { host, region, .. } = *question;
    let ending = ENDINGS.iter().find(|(begin, _)| region.starts_with(begin));
    let ending = ending.map_or("amazonaws.com", |(_, ending)| *ending);
    match question.is_global {
        true if region.starts_with("cn-") => ("cn-north-1", format!("https://{host}.cn-north-1.{ending}")),
        true if region.starts_with("us-gov-") => ("us-gov-west-1", format!("https://{host}.us-gov.{ending}")),
        true if ending == "amazonaws.com" => ("us-east-1", format!("https://{host}.{ending}")),
        _ => (region, format!("https://{host}.{region}.{ending}")),
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
            ("eusc-de-east-1", false, ("eusc-de-east-1", "https://x.eusc-de-east-1.amazonaws.eu")),
            ("us-isob-east-1", true, ("us-isob-east-1", "https://x.us-isob-east-1.sc2s.sgov.gov")),
        ] {
            let question = Question { is_global, ..Question::form("x", region, String::new()) };
            assert_eq!(place(&question), (expected.0, expected.1.to_owned()));
        }
    }

    #[test]
    fn what_a_service_says_instead_of_an_answer_is_understood_in_each_of_its_ways() {
        let reply = |status, error_type: Option<&str>, body: &str| Reply {
            status,
            error_type: error_type.map(str::to_owned),
            body: body.into(),
        };
        let again = |said: &str| Error::Again(format!("x:Y: {said}"));
        let refused = |kind, said: &str| Error::Stop(Verdict { kind, message: format!("x:Y {said}") });
        for (reply, code, error) in [
            (
                reply(400, None, r#"{"__type":"com.amazonaws.ssm#ParameterNotFound"}"#),
                "ParameterNotFound",
                refused(Kind::Configuration, "failed: ParameterNotFound: no message"),
            ),
            (
                reply(
                    404,
                    Some("ResourceNotFoundException:http://x/"),
                    r#"{"Type":"User","Message":"no such function"}"#,
                ),
                "ResourceNotFoundException",
                refused(Kind::Configuration, "failed: ResourceNotFoundException: no such function"),
            ),
            (
                reply(403, None, r#"{"Message":"not authorized"}"#),
                "AccessDenied",
                refused(Kind::Permission, "was refused: AccessDenied: not authorized"),
            ),
            (
                reply(400, None, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#),
                "ThrottlingException",
                again("ThrottlingException: Rate exceeded"),
            ),
            (reply(503, None, "<html>"), "no code", again("no code: no message")),
            (reply(200, None, "{"), "", again("the answer could not be read")),
        ] {
            assert_eq!(understood("x:Y", &reply), Err(Refused { code: code.into(), error }), "{reply:?}");
        }
        assert_eq!(understood("x:Y", &reply(202, None, "")), Ok(Value::Null));
    }
}
