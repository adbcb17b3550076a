//! AWS asked by hand: one signed request for each question, whatever the service, and its answer as JSON.
//!
//! Invariant: only operations that read are asked. The SDK's clients are for what the functions do; a client for each question
//! that `verify` and `init` ask would take longer to compile than all the rest.

use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::aws::signed::{self, Question, Reply, Unasked};
use shared::aws::{Aws, Place};

/// How often a question is asked that is throttled or not answered, and the pause after the first time.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The way to the account of the usual credentials. Without a Region, what is there would be looked for in another one.
///
/// # Errors
/// None is configured.
pub(crate) async fn configured() -> Result<Aws, crate::Mistake> {
    let aws = Aws::from_env().await;
    match aws.config().region() {
        Some(_) => Ok(aws),
        None => Err(crate::Mistake(
            "no Region is configured: set AWS_REGION, or a profile that has one (AWS_PROFILE)".into(),
        )),
    }
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Codedeploy,
    Ec2,
    Ecr,
    Ecs,
    Iam,
    Logs,
    Quotas,
    Secrets,
    Ssm,
    Sts,
}

impl Service {
    /// What signatures and addresses call it, and what its operations begin with; EC2, IAM and STS have versions instead.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Codedeploy => ("codedeploy", "codedeploy", "CodeDeploy_20141006."),
            Self::Ec2 => ("ec2", "ec2", "2016-11-15"),
            Self::Ecr => ("ecr", "api.ecr", "AmazonEC2ContainerRegistry_V20150921."),
            Self::Ecs => ("ecs", "ecs", "AmazonEC2ContainerServiceV20141113."),
            Self::Iam => ("iam", "iam", "2010-05-08"),
            Self::Logs => ("logs", "logs", "Logs_20140328."),
            Self::Quotas => ("servicequotas", "servicequotas", "ServiceQuotasV20190624."),
            Self::Secrets => ("secretsmanager", "secretsmanager", "secretsmanager."),
            Self::Ssm => ("ssm", "ssm", "AmazonSSM."),
            Self::Sts => ("sts", "sts", "2011-06-15"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// AWS's own word for it, such as `AccessDeniedException`; empty when nobody answered.
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refused {
    /// Whether it may be answered when it is asked again: nobody answered, or too many asked.
    fn is_for_now(&self) -> bool {
        let overloaded = ["hrottl", "RequestLimitExceeded", "ServiceUnavailable", "InternalError", "InternalFailure"];
        self.code.is_empty() || overloaded.iter().any(|word| self.code.contains(word))
    }

    /// Whether there are no credentials that are good for anything.
    pub(crate) fn is_nobody(&self) -> bool {
        let expired = [
            "Credentials",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
        ];
        expired.contains(&self.code.as_str())
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.code, if self.code.is_empty() { "" } else { ": " }, self.message)
    }
}

/// AWS in one place.
#[derive(Debug)]
pub(crate) struct Cloud<'a> {
    aws: &'a Aws,
    place: Place,
}

impl<'a> Cloud<'a> {
    pub(crate) fn new(aws: &'a Aws, place: Place) -> Self {
        Self { aws, place }
    }

    /// The same account in another Region.
    pub(crate) fn in_region(&self, region: &str) -> Self {
        Self { aws: self.aws, place: Place { region: region.to_owned(), ..self.place.clone() } }
    }

    /// Asks; what is throttled or lost is asked again.
    pub(crate) async fn ask(&self, service: Service, operation: &str, input: &Value) -> Result<Value, Refused> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.ask_once(service, operation, input).await {
                Err(refused) if refused.is_for_now() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answered => return answered,
            }
        }
        self.ask_once(service, operation, input).await
    }

    async fn ask_once(&self, service: Service, operation: &str, input: &Value) -> Result<Value, Refused> {
        let config = self.aws.config_at(&self.place).await;
        let (signed_as, host, begin) = service.names();
        let is_query = matches!(service, Service::Iam | Service::Ec2 | Service::Sts);
        let region = &self.place.region;
        let question = match is_query {
            true => Question::form(signed_as, region, form(operation, begin, input)),
            false => Question { host, ..Question::json(signed_as, region, format!("{begin}{operation}"), input) },
        };
        let Reply { status, body: text, .. } = signed::ask(&config, question).await.map_err(|why| match why {
            Unasked::Credentials(message) => Refused { code: "Credentials".into(), message },
            Unasked::Unanswered(message) => Refused { code: String::new(), message },
        })?;
        let answer = if is_query { xml(&text) } else { serde_json::from_str(&text).unwrap_or(Value::Null) };
        if status == 200 { Ok(answer) } else { Err(refusal(&answer, status)) }
    }
}

/// AWS's error, in any of its protocols.
fn refusal(answer: &Value, status: u16) -> Refused {
    let at = |path: &str| answer.pointer(path).and_then(Value::as_str);
    let error = ["/Response/Errors/Error", "/ErrorResponse/Error", "/Errors/Error", "/Error"];
    let found = |field: &str| error.iter().find_map(|path| at(&format!("{path}/{field}")));
    let code = at("/__type").map(|name| name.rsplit('#').next().unwrap_or(name)).or_else(|| found("Code"));
    let message = at("/message").or_else(|| at("/Message")).or_else(|| found("Message"));
    let plain = |text: &str| shared::text::fit(shared::text::plain(text).trim(), 300);
    Refused {
        code: plain(code.unwrap_or("Unknown")),
        message: message.map_or_else(|| format!("status {status}"), plain),
    }
}

/// The parameters of EC2's, IAM's and STS's protocol: lists are numbered from 1.
fn form(operation: &str, version: &str, input: &Value) -> String {
    let mut pairs = vec![("Action".to_owned(), operation.to_owned()), ("Version".to_owned(), version.to_owned())];
    flatten("", input, &mut pairs);
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", shared::text::encoded(name), shared::text::encoded(value)))
        .collect::<Vec<_>>()
        .join("&")
}

fn flatten(begin: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    let below = |name: &str| if begin.is_empty() { name.to_owned() } else { format!("{begin}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, pairs)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&below(&(at + 1).to_string()), item, pairs));
        }
        Value::String(text) => pairs.push((begin.to_owned(), text.clone())),
        other => pairs.push((begin.to_owned(), other.to_string())),
    }
}

/// An XML answer as JSON: elements are fields, and `item` and `member` make lists.
fn xml(text: &str) -> Value {
    let mut open: Vec<(String, Map<String, Value>, String)> = vec![(String::new(), Map::new(), String::new())];
    for token in xmlparser::Tokenizer::from(text) {
        match token {
            Ok(xmlparser::Token::ElementStart { local, .. }) => {
                open.push((local.to_string(), Map::new(), String::new()));
            }
            Ok(xmlparser::Token::Text { text }) => {
                if let Some((.., said)) = open.last_mut() {
                    said.push_str(text.as_str());
                }
            }
            Ok(xmlparser::Token::ElementEnd { end, .. }) if end != xmlparser::ElementEnd::Open => {
                let Some((name, fields, said)) = open.pop() else { break };
                let Some((_, above, _)) = open.last_mut() else { break };
                let is_list = fields.keys().any(|key| key == "item" || key == "member");
                let value = match fields {
                    fields if is_list => fields.into_iter().next().map_or(json!([]), |(_, items)| items),
                    fields if fields.is_empty() => Value::String(unescaped(said.trim())),
                    fields => Value::Object(fields),
                };
                if name == "item" || name == "member" {
                    let items = above.entry(name).or_insert_with(|| json!([]));
                    if let Some(items) = items.as_array_mut() {
                        items.push(value);
                    }
                } else {
                    above.insert(name, value);
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let whole = open.into_iter().next().map(|(_, fields, _)| fields).unwrap_or_default();
    // The one element that is the answer.
    match whole.iter().next() {
        Some((name, value)) if whole.len() == 1 && name != "Response" && name != "ErrorResponse" => value.clone(),
        _ => Value::Object(whole),
    }
}

fn unescaped(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_errors_of_each_protocol_are_read() {
        let subnets = "<?xml version=\"1.0\"?><DescribeSubnetsResponse xmlns=\"x\"><subnetSet><item><subnetId>subnet-1</subnetId>\
                       <vpcId>vpc&amp;1</vpcId></item><item><subnetId>subnet-2</subnetId></item></subnetSet></DescribeSubnetsResponse>";
        assert_eq!(
            xml(subnets)["subnetSet"],
            json!([{"subnetId": "subnet-1", "vpcId": "vpc&1"}, {"subnetId": "subnet-2"}])
        );
        for (answer, said) in [
            (
                xml(
                    "<Response><Errors><Error><Code>InvalidSubnetID.NotFound</Code><Message>none</Message></Error></Errors></Response>",
                ),
                "InvalidSubnetID.NotFound: none",
            ),
            (
                xml("<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>none</Message></Error></ErrorResponse>"),
                "NoSuchEntity: none",
            ),
            (
                json!({"__type": "com.amazonaws#ClusterNotFoundException", "message": "none"}),
                "ClusterNotFoundException: none",
            ),
            (Value::Null, "Unknown: status 500"),
        ] {
            assert_eq!(refusal(&answer, 500).to_string(), said);
        }
    }

    #[test]
    fn parameters_are_flattened_and_encoded() {
        let input = json!({"SubnetId": ["subnet-1"], "Filter": [{"Name": "vpc-id", "Value": ["a b"]}]});
        assert_eq!(
            form("DescribeSubnets", "2016-11-15", &input),
            "Action=DescribeSubnets&Version=2016-11-15&Filter.1.Name=vpc-id&Filter.1.Value.1=a%20b&SubnetId.1=subnet-1"
        );
    }
}
