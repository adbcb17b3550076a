//! SSM Parameter Store: parameters and their last hundred versions (fact 54).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::job::Release;
use shared::workers::{Kind, Released, kinds};
use shared::{Manifest, Time};

use super::ecs::stamp;
use super::{Fault, Request, World};

/// How many versions of a parameter are kept.
const KEPT: usize = 100;

/// The most that a parameter of the standard tier holds.
const LONGEST: usize = 4096;

/// The parameters of the stack's Region, by name.
#[derive(Debug, Default)]
pub(super) struct Ssm(BTreeMap<String, Parameter>);

#[derive(Debug)]
struct Parameter {
    kind: String,
    versions: Vec<Version>,
}

#[derive(Debug)]
struct Version {
    number: u64,
    value: String,
    at: Time,
    by: String,
}

impl Ssm {
    /// Secrets of the account's, and what the stack itself makes.
    pub(super) fn new(secrets: &BTreeMap<String, String>, made: &BTreeMap<String, String>) -> Self {
        let mut all = Self::default();
        for (kind, parameters) in [("SecureString", secrets), ("String", made)] {
            parameters.iter().for_each(|(name, value)| all.put(name, value.clone(), kind));
        }
        all
    }

    fn put(&mut self, name: &str, value: String, kind: &str) {
        let versions = vec![Version { number: 1, value, at: Time::default(), by: String::new() }];
        self.0.insert(name.to_owned(), Parameter { kind: kind.to_owned(), versions });
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetParameter {
    name: String,
    with_decryption: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PutParameter {
    name: String,
    value: String,
    r#type: Option<String>,
    #[serde(default)]
    overwrite: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ByPath {
    path: String,
    #[serde(default)]
    recursive: bool,
    with_decryption: Option<bool>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct History {
    name: String,
    with_decryption: Option<bool>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl Parameter {
    fn shown(&self, name: &str, version: &Version, decrypted: Option<bool>) -> Value {
        // A SecureString that nobody decrypted is no secret given away.
        let hidden = self.kind == "SecureString" && decrypted != Some(true);
        let value = if hidden { "(encrypted)" } else { version.value.as_str() };
        json!({"Name": name, "Type": self.kind, "Value": value, "Version": version.number,
            "LastModifiedDate": stamp(version.at), "DataType": "text"})
    }
}

fn page<T>(all: Vec<T>, next: Option<&str>, most: usize) -> (Vec<T>, Option<String>) {
    let skip: usize = next.and_then(|token| token.parse().ok()).unwrap_or_default();
    let more = (skip + most < all.len()).then(|| (skip + most).to_string());
    (all.into_iter().skip(skip).take(most).collect(), more)
}

fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    answer
}

impl World {
    pub(super) fn ssm_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        match name {
            "GetParameter" => {
                let input: GetParameter = request.input()?;
                let found = self.ssm.0.get(&input.name).and_then(|one| Some((one, one.versions.last()?)));
                let (parameter, newest) = found.ok_or_else(|| Fault::new("ParameterNotFound", &input.name))?;
                Ok(json!({"Parameter": parameter.shown(&input.name, newest, input.with_decryption)}))
            }
            "PutParameter" => self.put_parameter(request),
            "GetParametersByPath" => {
                let input: ByPath = request.input()?;
                let path = format!("{}/", input.path.trim_end_matches('/'));
                let is_below =
                    |name: &str| name.strip_prefix(&path).is_some_and(|rest| input.recursive || !rest.contains('/'));
                let found = self.ssm.0.iter().filter(|(name, _)| is_below(name));
                let shown =
                    found.filter_map(|(name, one)| Some(one.shown(name, one.versions.last()?, input.with_decryption)));
                let most = input.max_results.unwrap_or(10).min(10);
                let (shown, next) = page(shown.collect(), input.next_token.as_deref(), most);
                Ok(with_next(json!({"Parameters": shown}), next))
            }
            "GetParameterHistory" => {
                let input: History = request.input()?;
                let found = self.ssm.0.get(&input.name).ok_or_else(|| Fault::new("ParameterNotFound", &input.name))?;
                let shown = found.versions.iter().map(|version| {
                    let mut shown = found.shown(&input.name, version, input.with_decryption);
                    shown["LastModifiedUser"] = version.by.clone().into();
                    shown
                });
                let most = input.max_results.unwrap_or(50).min(50);
                let (shown, next) = page(shown.collect(), input.next_token.as_deref(), most);
                Ok(with_next(json!({"Parameters": shown}), next))
            }
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }

    /// The account has had a release of this before: of its workers, the newest revisions are what was released.
    pub fn was_released(&mut self, manifest: &Manifest) {
        let Some(pointers) = self.lambda.setting("CUTOVER_WORKERS") else { return };
        let pipeline = self.pipeline_name().to_owned();
        let release = Release { pipeline, execution: "before".into(), stage: None, action: None, attempt: 1 };
        for kind in kinds(manifest) {
            let environment = kind.environment();
            let role = environment.role.as_deref().and_then(|role| role.split(':').nth(4));
            let scope = (role.unwrap_or(&self.account).to_owned(), environment.region.clone());
            let Ok(definition) = self.definition(&scope, &kind.family) else { continue };
            let text =
                |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let container = kind.container.clone().unwrap_or_else(|| text("/containerDefinitions/0/name"));
            let registered = kind.registered(text("/taskDefinitionArn"), container);
            let name = format!("{pointers}/{}/{}", kind.environment_name, kind.name);
            if let Ok(value) = Released::by(&release, "before", Some(registered)).text(&name) {
                self.ssm.put(&name, value, "String");
            }
        }
    }

    /// The image of what was released of workers, by environment and name; none of one that is no more.
    #[must_use]
    pub fn released(&self) -> BTreeMap<String, Option<String>> {
        let prefix = format!("{}/", self.lambda.setting("CUTOVER_WORKERS").unwrap_or_default());
        let image = |version: &Version| {
            let kind = Released::<Kind>::read("", &version.value).ok()?.what?;
            // arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION
            let part = |at: usize| kind.definition.split(':').nth(at).unwrap_or_default().to_owned();
            let definition = self.definition(&(part(4), part(3)), &kind.definition).ok()?;
            Some(definition.pointer("/containerDefinitions/0/image")?.as_str()?.to_owned())
        };
        let own = self.ssm.0.iter().filter_map(|(name, one)| Some((name.strip_prefix(&prefix)?, one.versions.last()?)));
        own.map(|(name, newest)| (name.to_owned(), image(newest))).collect()
    }

    fn put_parameter(&mut self, request: &Request) -> Result<Value, Fault> {
        let input: PutParameter = request.input()?;
        if input.value.chars().count() > LONGEST {
            let why = format!("Standard tier parameters support a maximum parameter value of {LONGEST} characters.");
            return Err(Fault::new("ValidationException", why));
        }
        if input.value.contains("{{") && input.value.contains("}}") {
            let why = "Parameter value can't nest another parameter. Do not use \"{{}}\" in the value.";
            return Err(Fault::new("ValidationException", why));
        }
        let by = format!("arn:aws:iam::{}:user/{}", self.account, request.access_key());
        let version = |number| Version { number, value: input.value.clone(), at: self.now, by: by.clone() };
        let number = match self.ssm.0.get_mut(&input.name) {
            Some(_) if !input.overwrite => {
                return Err(Fault::new("ParameterAlreadyExists", "The parameter already exists."));
            }
            Some(parameter) => {
                let number = parameter.versions.last().map_or(1, |newest| newest.number + 1);
                parameter.versions.push(version(number));
                if parameter.versions.len() > KEPT {
                    parameter.versions.remove(0);
                }
                number
            }
            None => {
                let kind = input.r#type.unwrap_or_else(|| "String".into());
                let parameter = Parameter { kind, versions: vec![version(1)] };
                self.ssm.0.insert(input.name, parameter);
                1
            }
        };
        Ok(json!({"Version": number, "Tier": "Standard"}))
    }
}
