//! What the console asks, it asks as everybody does: a signed request, admitted by the gate, answered by the world.
//!
//! Invariant: nothing is known here that a call of AWS's has not answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::world::{Request, Response};

/// The name by which the world knows the console.
pub(super) const PRINCIPAL: &str = "console";

/// The road that a request takes.
type Road = dyn Fn(Request) -> Response + Send + Sync;

/// AWS, asked in one account and Region.
#[derive(Clone)]
pub(crate) struct Aws {
    road: Arc<Road>,
    host: String,
    key: String,
    /// What the keys of this run end with.
    region: String,
}

/// A service, as requests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// CodePipeline.
    Codepipeline,
    /// ECS.
    Ecs,
    /// CodeDeploy.
    Codedeploy,
    /// CloudWatch Logs.
    Logs,
}

impl Service {
    fn target(self) -> &'static str {
        match self {
            Self::Codepipeline => "CodePipeline_20150709",
            Self::Ecs => "AmazonEC2ContainerServiceV20141113",
            Self::Codedeploy => "CodeDeploy_20141006",
            Self::Logs => "Logs_20140328",
        }
    }
}

/// What was not answered, in AWS's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The error's code.
    pub(crate) code: String,
    /// What it says.
    pub(crate) message: String,
}

impl Refused {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl Aws {
    /// AWS behind this road, in the Region of the pipeline. `host` is the endpoint's, and `key` what the console signs with.
    pub(crate) fn new(
        road: impl Fn(Request) -> Response + Send + Sync + 'static,
        host: String,
        key: String,
        region: String,
    ) -> Self {
        Self { road: Arc::new(road), host, key, region }
    }

    /// The same in another Region, under a role when it is in another account.
    ///
    /// # Errors
    /// The role is not given.
    pub(crate) fn at(&self, region: &str, role: Option<&str>) -> Result<Self, Refused> {
        let there = Self { region: region.to_owned(), ..self.clone() };
        let Some(role) = role else { return Ok(there) };
        let body = format!("Action=AssumeRole&RoleArn={}&RoleSessionName={PRINCIPAL}", super::address::encoded(role));
        let response = there.send("POST", "/", "sts", None, body.into_bytes());
        let answer = String::from_utf8_lossy(&response.body).into_owned();
        let within = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(text, _)| text.to_owned())
        };
        match within("AccessKeyId") {
            Some(key) if response.status == 200 => Ok(Self { key, ..there }),
            _ => Err(Refused::new(
                &within("Code").unwrap_or_default(),
                format!("{role}: {}", within("Message").unwrap_or_default()),
            )),
        }
    }

    /// Calls an operation.
    ///
    /// # Errors
    /// What AWS says, or an answer that cannot be read.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        service: Service,
        operation: &str,
        input: &Value,
    ) -> Result<T, Refused> {
        let target = format!("{}.{operation}", service.target());
        let response = self.send("POST", "/", "aws", Some(target), input.to_string().into_bytes());
        if response.status == 200 {
            let body: &[u8] = if response.body.is_empty() { b"null" } else { &response.body };
            return serde_json::from_slice(body)
                .map_err(|error| Refused::new("Unreadable", format!("{operation}: {error}")));
        }
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        Err(Refused { code: text("__type"), message: text("message") })
    }

    /// An object of S3's, if it is there.
    ///
    /// # Errors
    /// What S3 says otherwise.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        let response = self.send("GET", &format!("/{bucket}/{key}"), "s3", None, Vec::new());
        match response.status {
            200 => Ok(Some(response.body)),
            404 => Ok(None),
            _ => Err(Refused::new("S3", format!("{bucket}/{key}: {}", String::from_utf8_lossy(&response.body)))),
        }
    }

    /// The keys of a bucket that begin with this, at most a page of them, each with when it was written.
    ///
    /// # Errors
    /// What S3 says.
    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<(String, String)>, Refused> {
        let query = [("list-type", "2"), ("prefix", prefix)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let response = self.request("GET", &format!("/{bucket}"), query.into(), ("s3", None), Vec::new());
        let answer = String::from_utf8_lossy(&response.body).into_owned();
        if response.status != 200 {
            return Err(Refused::new("S3", format!("{bucket}: {answer}")));
        }
        let within = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(text, _)| text.to_owned())
        };
        let each = answer.split("<Contents>").skip(1);
        Ok(each.filter_map(|one| Some((within(one, "Key")?, within(one, "LastModified")?))).collect())
    }

    fn send(&self, method: &str, path: &str, service: &str, target: Option<String>, body: Vec<u8>) -> Response {
        self.request(method, path, BTreeMap::new(), (service, target), body)
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        query: BTreeMap<String, String>,
        (service, target): (&str, Option<String>),
        body: Vec<u8>,
    ) -> Response {
        // The gate looks at the key's id; what would be computed over these bytes it knows of already.
        let scope = format!("{}/20261124/{}/{service}/aws4_request", self.key, self.region);
        let headers = [
            ("host", Some(self.host.clone())),
            ("authorization", Some(format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))),
            ("x-amz-target", target),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        (self.road)(Request { method: method.into(), path: path.into(), query, headers: headers.collect(), body })
    }
}
