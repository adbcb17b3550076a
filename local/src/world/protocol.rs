//! AWS's protocols: which operation a request is, what its parameters are, how errors look.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An HTTP request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `POST`, `PUT`, `DELETE`, `HEAD`.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query, percent-decoded.
    pub query: BTreeMap<String, String>,
    /// The headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// An error as AWS answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its code.
    pub code: String,
    /// What it says.
    pub message: String,
    /// The HTTP status.
    pub status: u16,
}

/// The code of an operation or parameter that this world does not know.
const UNKNOWN: &str = "NotImplementedHere";

impl Fault {
    /// An error of the caller's.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), status: 400 }
    }

    /// An operation or parameter that this world does not know.
    pub fn unknown(what: impl Into<String>) -> Self {
        Self { code: UNKNOWN.into(), message: what.into(), status: 501 }
    }

    /// Whether this world does not know what was asked.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.code == UNKNOWN
    }
}

impl Response {
    /// A JSON document.
    #[must_use]
    pub fn json(value: Value) -> Self {
        let headers = vec![("content-type".into(), "application/x-amz-json-1.1".into())];
        // An operation without an answer has an empty body.
        let body = if value.is_null() { Vec::new() } else { value.to_string().into_bytes() };
        Self { status: 200, headers, body }
    }

    /// An XML document.
    #[must_use]
    pub fn xml(text: String) -> Self {
        Self { status: 200, headers: vec![("content-type".into(), "text/xml".into())], body: text.into_bytes() }
    }
}

impl Request {
    /// The parameters of a JSON request, of the type that the operation takes.
    ///
    /// # Errors
    /// A parameter that is unknown here, or malformed.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| {
            let said = error.to_string();
            if said.starts_with("unknown ") { Fault::unknown(said) } else { Fault::new("ValidationException", said) }
        })
    }

    /// The access key's id, from the signature.
    #[must_use]
    pub fn access_key(&self) -> &str {
        self.credential(0).unwrap_or_default()
    }

    /// The Region that the request was signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        self.credential(2).unwrap_or("us-east-1")
    }

    /// A part of the signature's scope: key, date, Region, service.
    fn credential(&self, part: usize) -> Option<&str> {
        let (_, rest) = self.headers.get("authorization")?.split_once("Credential=")?;
        // By one character and then by another: it is asked several times for each call, and this is found quickly.
        let scope = rest.split(',').next().and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        scope.split('/').nth(part).filter(|part| !part.is_empty())
    }
}

/// Which operation a request is, as `service:Operation`.
#[must_use]
pub fn operation(request: &Request) -> String {
    if let Some(target) = request.headers.get("x-amz-target") {
        let (service, operation) = target.split_once('.').unwrap_or((target, ""));
        let service = match service {
            "CodePipeline_20150709" => "codepipeline",
            "AmazonEC2ContainerServiceV20141113" => "ecs",
            "CodeDeploy_20141006" => "codedeploy",
            "Logs_20140328" => "logs",
            "AmazonSSM" => "ssm",
            "AmazonSQS" => "sqs",
            "AmazonEC2ContainerRegistry_V20150921" => "ecr",
            "ServiceQuotasV20190624" => "servicequotas",
            _ => service,
        };
        return format!("{service}:{operation}");
    }
    let parts: Vec<_> = request.path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["2015-03-31", "functions", _, "invocations"]) => "lambda:Invoke".into(),
        ("POST", ["schedule-groups", _]) => "scheduler:CreateScheduleGroup".into(),
        ("POST", ["schedules", _]) => "scheduler:CreateSchedule".into(),
        ("PUT", ["schedules", _]) => "scheduler:UpdateSchedule".into(),
        ("GET", ["schedules", _]) => "scheduler:GetSchedule".into(),
        ("DELETE", ["schedules", _]) => "scheduler:DeleteSchedule".into(),
        ("GET", ["schedules"]) => "scheduler:ListSchedules".into(),
        (_, ["agent", ..]) => "agent:Request".into(),
        ("POST", ["sink", ..]) => "sink:Post".into(),
        ("POST", [""]) => {
            let body = String::from_utf8_lossy(&request.body);
            let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
            // These share a protocol; the signature says which of them is meant.
            let service = match request.credential(3) {
                Some("iam") => "iam",
                Some("ec2") => "ec2",
                _ => "sts",
            };
            format!("{service}:{action}")
        }
        // A path of one part is a bucket.
        ("GET", [_]) => "s3:ListObjectsV2".into(),
        ("GET", _) => "s3:GetObject".into(),
        ("PUT", [_, _, ..]) if request.headers.contains_key("x-amz-copy-source") => "s3:CopyObject".into(),
        ("PUT", [_, _, ..]) => "s3:PutObject".into(),
        ("DELETE", [_, _, ..]) => "s3:DeleteObject".into(),
        ("HEAD", _) => "s3:HeadObject".into(),
        (method, _) => format!("{method}:{}", request.path),
    }
}

/// Percent-decoded.
#[must_use]
pub fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An error in the format of the operation's protocol.
pub(super) fn refusal(operation: &str, fault: Fault) -> Response {
    if operation.starts_with("s3:") {
        let body = format!("<Error><Code>{}</Code><Message>{}</Message></Error>", fault.code, fault.message);
        return Response { status: fault.status, ..Response::xml(body) };
    }
    if operation.starts_with("ec2:") {
        let error = format!("<Error><Code>{}</Code><Message>{}</Message></Error>", fault.code, fault.message);
        let body = format!("<Response><Errors>{error}</Errors></Response>");
        return Response { status: fault.status, ..Response::xml(body) };
    }
    if operation.starts_with("sts:") || operation.starts_with("iam:") {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
            fault.code, fault.message
        );
        return Response { status: fault.status, ..Response::xml(body) };
    }
    let mut response = Response::json(json!({"__type": fault.code, "message": fault.message}));
    response.status = fault.status;
    response.headers.push(("x-amzn-errortype".into(), fault.code));
    response
}
