//! Two kinds of error, told apart by the only question that matters: look again, or stop?
//!
//! Invariant: an error of an AWS call is classified here and nowhere else.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{DispatchFailure, SdkError};
use aws_smithy_types::error::metadata::{ErrorMetadata, ProvideErrorMetadata};

/// Why a step could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Throttled, timed out, not visible yet: the loop looks again. The text says what was tried and what came back.
    Again(String),
    /// Looking again will not help.
    Stop(Verdict),
}

/// How an action ends badly: what CodePipeline records as its failure, and a person reads in the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What sort of failure it is.
    pub kind: Kind,
    /// What happened, where, why, and what to do. The first 250 characters suffice alone (fact 6).
    pub message: String,
}

/// CodePipeline's failure types, as far as Cutover uses them (fact 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the action did failed.
    JobFailed,
    /// The pipeline, the manifest or the account is not set up as it must be.
    Configuration,
    /// AWS refused a call.
    Permission,
    /// AWS did not answer for too long.
    Unavailable,
}

impl Verdict {
    /// The release's own work failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::JobFailed, message: message.into() }
    }

    /// Something is set up wrongly; the message says where and what to do.
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self { kind: Kind::Configuration, message: message.into() }
    }
}

impl From<Verdict> for Error {
    fn from(verdict: Verdict) -> Self {
        Self::Stop(verdict)
    }
}

impl Error {
    /// What sort of error it is, as Lambda's console and its failure destination show it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Again(_) => "Unavailable",
            Self::Stop(Verdict { kind, .. }) => match kind {
                Kind::JobFailed => "JobFailed",
                Kind::Configuration => "ConfigurationError",
                Kind::Permission => "PermissionError",
                Kind::Unavailable => "Unavailable",
            },
        }
    }

    /// The sentence that says what went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Again(message) | Self::Stop(Verdict { message, .. }) => message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

/// Error codes that mean "not now", and that nothing was done: each service has words of its own for it.
const NOT_NOW: &[&str] = &[
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "ConcurrentModificationException",
    "SlowDown",
    // SSM's, while another write of the same parameter is on its way.
    "TooManyUpdates",
    "OperationAbortedException",
    // SQS's.
    "RequestThrottled",
    "KmsThrottled",
    "EC2ThrottledException",
    // Lambda's, while it makes or changes the function.
    "ResourceConflictException",
    // What was signed, and sent after the function had been frozen for minutes.
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Error codes of a service that has trouble of its own: what was asked for may have been done all the same.
const TROUBLE: &[&str] = &[
    "ServerException",
    "ServiceUnavailableException",
    "ServiceUnavailable",
    "ServiceException",
    "InternalFailure",
    "InternalError",
    "InternalServerError",
    "RequestTimeout",
    "RequestTimeoutException",
];

/// What is said where the code is one for wrong requests, and means "not now" all the same: ECS hands on that EC2 throttles it, and makes
/// one revision of a family at a time; a function may have been frozen between signing and sending. Seen in public reports; documented is none.
const AGAIN_IN_WORDS: &[&str] = &[
    "RequestLimitExceeded",
    "ErrorCode: Throttling",
    "Rate exceeded",
    "Too many concurrent attempts to create a new revision",
    "Signature expired",
    "Signature not yet current",
];

/// Error codes that mean "you may not".
const REFUSED: &[&str] = &[
    "AccessDeniedException",
    "AccessDenied",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
];

/// What AWS's answer to `call` (such as `ecs:RunTask in us-east-1`) means for the loop.
///
/// `SdkError`'s own Display says only "service error" (fact 40): the code and the message are taken from inside.
pub fn failure<E: ProvideErrorMetadata>(call: &str, error: &SdkError<E, HttpResponse>) -> Error {
    let status = error.raw_response().map(|response| response.status().as_u16());
    // The answer to a HEAD request has no body, and so no code.
    let by_status = match status {
        Some(403) => "AccessDenied",
        Some(404) => "NotFound",
        _ => "no code",
    };
    let code = error.code().unwrap_or(by_status);
    let said = error.message().unwrap_or("no message");
    match error {
        SdkError::TimeoutError(_) => Error::Again(format!("{call}: no answer in time")),
        SdkError::DispatchFailure(failure) => match failure.is_user() {
            true => Verdict::misconfigured(format!("{call}: the request could not be made: {failure:?}")).into(),
            // No request was made when there are no credentials for it.
            false => match refused_before(failure) {
                Some(why) => Verdict { kind: Kind::Permission, message: format!("{call}: {why}") }.into(),
                None => Error::Again(format!("{call}: the connection failed")),
            },
        },
        SdkError::ResponseError(_) => Error::Again(format!("{call}: the answer could not be read")),
        SdkError::ConstructionFailure(_) => {
            Verdict::misconfigured(format!("{call}: the request could not be made; a parameter is missing")).into()
        }
        _ => answered(call, code, said, status),
    }
}

/// What an error that the service itself answered means, by its code, its message and the answer's status.
pub fn answered(call: &str, code: &str, said: &str, status: Option<u16>) -> Error {
    if says_not_now(code, said)
        || TROUBLE.contains(&code)
        || status.is_some_and(|status| status == 429 || status >= 500)
    {
        return Error::Again(format!("{call}: {code}: {said}"));
    }
    if REFUSED.contains(&code) {
        return Verdict { kind: Kind::Permission, message: format!("{call} was refused: {code}: {said}") }.into();
    }
    Verdict::misconfigured(format!("{call} failed: {code}: {said}")).into()
}

/// Whether a text names one of the codes that mean "you may not".
pub(crate) fn says_refused(said: &str) -> bool {
    REFUSED.iter().any(|code| said.contains(code))
}

/// Why the environment's role could not be assumed, when STS has said so: that it may not, or that it is none. What passes does not count.
fn refused_before(failure: &DispatchFailure) -> Option<String> {
    let first = failure.as_connector_error().map(|error| error as &(dyn std::error::Error + 'static));
    let mut chain = std::iter::successors(first, |error| error.source());
    let said = chain.find_map(|error| error.downcast_ref::<ErrorMetadata>())?;
    let message = said.message().unwrap_or("no message");
    let code = said.code().filter(|code| !says_not_now(code, message) && !TROUBLE.contains(code))?;
    let what = match REFUSED.contains(&code) {
        true => "The role must trust the function's role, and the stack's parameter EnvironmentRoles must list it",
        false => "Correct `role` in deploy.yaml",
    };
    Some(format!("the environment's `role` cannot be assumed: {code}: {message}. {what}"))
}

/// Whether the service itself answered "not now": then it has done nothing. One that speaks of an error of its own may have done what was
/// asked for, as after a reply that was lost.
pub fn is_not_now<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(error, SdkError::ServiceError(_)) && says_not_now(code(error), error.message().unwrap_or_default())
}

fn says_not_now(code: &str, said: &str) -> bool {
    NOT_NOW.contains(&code) || AGAIN_IN_WORDS.iter().any(|words| said.contains(words))
}

/// The code of an error that the service itself answered, to tell "already done" from "failed".
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.code().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ecs_says_in_words_only_is_waited_for_and_all_else_that_is_wrong_is_not() {
        for (code, said, again) in [
            ("ThrottlingException", "Rate exceeded", true),
            (
                "InvalidParameterException",
                "Error retrieving security group information for [sg-1]: Request limit exceeded. (ErrorCode: RequestLimitExceeded)",
                true,
            ),
            ("ClientException", "Too many concurrent attempts to create a new revision of the specified family.", true),
            ("ClientException", "TaskDefinition is inactive", false),
            (
                "InvalidSignatureException",
                "Signature expired: 20261201T044300Z is now earlier than 20261201T044500Z (20261201T045000Z - 5 min.)",
                true,
            ),
            ("InvalidSignatureException", "The request signature we calculated does not match", false),
            (
                "RequestTimeTooSkewed",
                "The difference between the request time and the server's time is too large.",
                true,
            ),
            ("InvalidParameterException", "No Container Instances were found in your cluster.", false),
        ] {
            let error = answered("ecs:RunTask in us-east-1", code, said, Some(400));
            assert_eq!(matches!(error, Error::Again(_)), again, "{code}: {said}");
        }
    }

    #[test]
    fn only_who_says_not_now_has_surely_done_nothing() {
        for (code, nothing_done) in [
            ("ThrottlingException", true),
            ("TooManyUpdates", true),
            ("InternalFailure", false),
            ("ServerException", false),
            ("ServiceUnavailableException", false),
            ("RequestTimeout", false),
        ] {
            assert_eq!(says_not_now(code, "no message"), nothing_done, "{code}");
            let error = answered("codepipeline:AcknowledgeJob", code, "no message", Some(400));
            assert!(matches!(error, Error::Again(_)), "{code} is looked at again");
        }
    }
}
