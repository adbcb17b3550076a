//! CloudFormation's functions, as far as the template uses them: a function that is not known is refused.

use std::collections::BTreeMap;

use saphyr::{Scalar, Yaml};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Function, On, Permissions, Pipeline, Queue, Rule, Stack};
use crate::Mistake;

/// A YAML node as JSON, short tags written out (`!Sub x` as `{"Fn::Sub": x}`).
pub(super) fn plain(node: &Yaml<'_>) -> Result<Value, Mistake> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(plain).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let Value::String(key) = plain(key)? else {
                    return Err(Mistake("template.yaml: a key that is not text".into()));
                };
                map.insert(key, plain(value)?);
            }
            map.into()
        }
        Yaml::Tagged(tag, inner) => {
            let value = plain(inner)?;
            match tag.suffix.as_str() {
                "Ref" | "Condition" => json!({ tag.suffix.as_str(): value }),
                // `!GetAtt A.Arn` is `Fn::GetAtt: [A, Arn]`.
                "GetAtt" => match value.as_str().and_then(|text| text.split_once('.')) {
                    Some((name, attribute)) => json!({"Fn::GetAtt": [name, attribute]}),
                    None => json!({"Fn::GetAtt": value}),
                },
                function => json!({ format!("Fn::{function}"): value }),
            }
        }
        Yaml::Representation(text, _, _) => json!(text),
        Yaml::Alias(_) | Yaml::BadValue => return Err(Mistake("template.yaml: aliases are not supported".into())),
    })
}

/// A template under evaluation.
pub(super) struct Evaluator<'a> {
    resources: &'a Map<String, Value>,
    conditions: Option<&'a Map<String, Value>>,
    outputs: Option<&'a Value>,
    parameters: BTreeMap<String, Value>,
    account: &'a str,
    region: &'a str,
    globals: Option<&'a Value>,
}

/// The stack's name here.
pub const STACK: &str = "cutover";

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        document: &'a Value,
        given: &BTreeMap<String, String>,
        account: &'a str,
        region: &'a str,
    ) -> Result<Self, Mistake> {
        let section = |name: &str| document.get(name).and_then(Value::as_object);
        let mut parameters = BTreeMap::new();
        for (name, declared) in section("Parameters").into_iter().flatten() {
            let value = given.get(name).map(|text| json!(text)).or_else(|| declared.get("Default").cloned());
            let value = value.ok_or_else(|| {
                Mistake(format!(
                    "template.yaml: the parameter `{name}` has no default: give it in local.yaml's `parameters`"
                ))
            })?;
            let kind = declared.get("Type").and_then(Value::as_str).unwrap_or_default();
            // Without a word in it, such a list has one item: the empty text.
            let is_list = kind == "CommaDelimitedList" || kind.starts_with("List<");
            let value = if is_list { scalar(&value).split(',').map(str::trim).collect() } else { value };
            parameters.insert(name.clone(), value);
        }
        if let Some(name) = given.keys().find(|name| !parameters.contains_key(*name)) {
            let why = shared::text::unknown("parameter", name, parameters.keys().map(String::as_str));
            return Err(Mistake(format!("`parameters` of local.yaml, or --parameter: {why}")));
        }
        let resources = section("Resources").ok_or_else(|| Mistake("template.yaml has no Resources".into()))?;
        let globals = document.pointer("/Globals/Function");
        let (conditions, outputs) = (section("Conditions"), document.get("Outputs"));
        Ok(Self { resources, conditions, outputs, parameters, account, region, globals })
    }

    pub(super) fn stack(&self) -> Result<Stack, Mistake> {
        let (mut pipeline, mut other_pipelines) = (None, Vec::new());
        let mut stack = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (action_types, functions, rules, log_groups) = (&mut stack.0, &mut stack.1, &mut stack.2, &mut stack.3);
        let (mut queues, mut ssm) = (Vec::new(), BTreeMap::new());
        for (name, resource) in self.resources {
            if let Some(condition) = resource.get("Condition").and_then(Value::as_str)
                && !self.condition(condition)?
            {
                continue;
            }
            let kind = resource.get("Type").and_then(Value::as_str).unwrap_or_default();
            let properties = || self.eval(name, resource.get("Properties").unwrap_or(&Value::Null));
            match kind {
                "AWS::CodePipeline::Pipeline" => {
                    let mut read: Pipeline = typed(name, properties()?)?;
                    if read.name.is_empty() {
                        read.name = self.physical(name);
                    }
                    match name.as_str() {
                        "Pipeline" => pipeline = Some(read),
                        _ => other_pipelines.push(read),
                    }
                }
                "AWS::CodePipeline::CustomActionType" => action_types.push(typed(name, properties()?)?),
                "AWS::Logs::LogGroup" => {
                    log_groups.push(self.physical(name));
                }
                "AWS::SSM::Parameter" => {
                    let properties = properties()?;
                    let text = |name: &str| properties.get(name).map(scalar).unwrap_or_default();
                    ssm.insert(text("Name"), text("Value"));
                }
                "AWS::SQS::Queue" => queues.push(self.queue(name, &properties()?)),
                "AWS::Serverless::Function" => self.function(name, resource, functions, rules)?,
                // What a release on this machine does not need - keys, alarms, topics - must at least refer to what is there.
                _ if kind.starts_with("AWS::") => drop(properties()?),
                _ => return Err(Mistake(format!("template.yaml: Resources.{name}: unknown type `{kind}`"))),
            }
        }
        if let Some(outputs) = self.outputs {
            self.eval("Outputs", outputs)?;
        }
        let pipeline = pipeline.ok_or_else(|| {
            Mistake("template.yaml has no AWS::CodePipeline::Pipeline that is called Pipeline".into())
        })?;
        let (action_types, functions, rules, log_groups) = stack;
        let (region, account) = (self.region.to_owned(), self.account.to_owned());
        Ok(Stack {
            pipeline,
            other_pipelines,
            action_types,
            functions,
            rules,
            queues,
            ssm,
            log_groups,
            region,
            account,
        })
    }

    fn queue(&self, name: &str, properties: &Value) -> Queue {
        let redrive = properties.get("RedrivePolicy").and_then(|policy| {
            let to = policy.get("deadLetterTargetArn")?.as_str()?.rsplit(':').next()?.to_owned();
            Some((to, u32::try_from(policy.get("maxReceiveCount")?.as_u64()?).ok()?))
        });
        let visibility = properties.get("VisibilityTimeout").and_then(Value::as_u64).unwrap_or(30);
        Queue { name: self.physical(name), visibility, redrive }
    }

    fn function(
        &self,
        name: &str,
        resource: &Value,
        functions: &mut Vec<Function>,
        rules: &mut Vec<Rule>,
    ) -> Result<(), Mistake> {
        let at = |what: &str| Mistake(format!("template.yaml: Resources.{name}: {what}"));
        let own = resource.get("Properties").unwrap_or(&Value::Null);
        // How it is invoked may also stand in a resource of its own.
        let apart = self.resources.values().filter(|one| one["Type"] == "AWS::Lambda::EventInvokeConfig");
        let apart = apart.map(|one| &one["Properties"]).find(|one| one["FunctionName"]["Ref"] == name);
        let property = |pointer: &str| {
            let invocation = pointer.strip_prefix("/EventInvokeConfig").zip(apart);
            let found = invocation.and_then(|(rest, apart)| apart.pointer(rest)).or_else(|| own.pointer(pointer));
            let found = found.or_else(|| self.globals.and_then(|globals| globals.pointer(pointer)));
            found.map(|value| self.eval(name, value)).transpose()
        };
        let binary = resource.pointer("/Metadata/BuildProperties/Binary").and_then(Value::as_str);
        let binary = binary.ok_or_else(|| at("Metadata.BuildProperties.Binary must name its binary"))?.to_owned();
        let mut environment = BTreeMap::new();
        let globals = self.globals.and_then(|globals| globals.pointer("/Environment/Variables"));
        for variables in [globals, own.pointer("/Environment/Variables")].into_iter().flatten() {
            let variables = self.eval(name, variables)?;
            for (variable, value) in variables.as_object().into_iter().flatten() {
                environment.insert(variable.clone(), scalar(value));
            }
        }
        let role = own.pointer("/Role/Fn::GetAtt/0").and_then(Value::as_str);
        let role = role.ok_or_else(|| at("Role must be !GetAtt of a role in this template"))?;
        let number = |value: Option<Value>, default| value.and_then(|value| value.as_u64()).unwrap_or(default);
        let retries = number(property("/EventInvokeConfig/MaximumRetryAttempts")?, 2);
        functions.push(Function {
            name: self.physical(name),
            binary,
            timeout: number(property("/Timeout")?, 3),
            memory: number(property("/MemorySize")?, 128),
            environment,
            retries: u32::try_from(retries).unwrap_or(2),
            on_failure: property("/EventInvokeConfig/DestinationConfig/OnFailure/Destination")?
                .map(|destination| scalar(&destination).rsplit(':').next().unwrap_or_default().to_owned()),
            permissions: self.role(role)?,
        });
        for (event, described) in own.get("Events").and_then(Value::as_object).into_iter().flatten() {
            let kind = described.get("Type").and_then(Value::as_str).unwrap_or_default();
            let properties = self.eval(name, described.get("Properties").unwrap_or(&Value::Null))?;
            let on = match kind {
                "EventBridgeRule" => On::Pattern(properties.get("Pattern").cloned().unwrap_or_default()),
                "Schedule" | "ScheduleV2" => On::Rate(
                    rate(properties.get("Schedule").and_then(Value::as_str).unwrap_or_default())
                        .ok_or_else(|| at(&format!("Events.{event}: only rate(...) schedules are understood here")))?,
                ),
                "SQS" => {
                    let number = |pointer: &str, default| {
                        let found = properties.pointer(pointer).and_then(Value::as_u64);
                        found.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
                    };
                    let queue = properties.get("Queue").and_then(Value::as_str).unwrap_or_default();
                    On::Queue {
                        queue: queue.rsplit(':').next().unwrap_or_default().to_owned(),
                        batch: number("/BatchSize", 10),
                        at_once: number("/ScalingConfig/MaximumConcurrency", 5),
                    }
                }
                _ => return Err(at(&format!("Events.{event}: `{kind}` is not understood here"))),
            };
            rules.push(Rule { function: self.physical(name), on });
        }
        Ok(())
    }

    /// What a role of the template allows, with its managed policies.
    pub(super) fn role(&self, role: &str) -> Result<Permissions, Mistake> {
        let at = |what: String| Mistake(format!("template.yaml: Resources.{role}: {what}"));
        let properties = |name: &str| {
            let found = self.resources.get(name).and_then(|resource| resource.get("Properties"));
            found.map(|properties| self.eval(name, properties)).transpose()
        };
        let described = properties(role)?.ok_or_else(|| at("there is no such role".into()))?;
        let list = |name: &str| described.get(name).and_then(Value::as_array).into_iter().flatten();
        let mut permissions = Permissions::default();
        for policy in list("Policies") {
            permissions.add(role, policy.get("PolicyDocument").unwrap_or(&Value::Null))?;
        }
        for managed in list("ManagedPolicyArns") {
            let name = self.resources.keys().find(|name| *managed == self.physical(name));
            let name = name.ok_or_else(|| at(format!("a policy that is not in this template: {managed}")))?;
            let policy = properties(name)?.unwrap_or_default();
            permissions.add(name, policy.get("PolicyDocument").unwrap_or(&Value::Null))?;
        }
        Ok(permissions)
    }

    /// The name of the thing that a resource makes: its own, or one like CloudFormation's.
    fn physical(&self, name: &str) -> String {
        let resource = self.resources.get(name);
        let kind = resource.and_then(|resource| resource.get("Type")).and_then(Value::as_str);
        let property = match kind {
            Some("AWS::Serverless::Function") => "FunctionName",
            Some("AWS::CodePipeline::Pipeline" | "AWS::CodeBuild::Project") => "Name",
            Some("AWS::Logs::LogGroup") => "LogGroupName",
            Some("AWS::SQS::Queue") => "QueueName",
            _ => "",
        };
        let given = resource.and_then(|resource| resource.get("Properties")?.get(property));
        if let Some(Ok(Value::String(given))) = given.map(|given| self.eval(name, given)) {
            return given;
        }
        match kind {
            // Bucket names have no capitals.
            Some("AWS::S3::Bucket") => format!("{STACK}-{}", name.to_lowercase()),
            _ => format!("{STACK}-{name}"),
        }
    }

    fn condition(&self, name: &str) -> Result<bool, Mistake> {
        let found = self.conditions.and_then(|conditions| conditions.get(name));
        let found = found.ok_or_else(|| Mistake(format!("template.yaml: there is no condition `{name}`")))?;
        let value = self.eval(&format!("Conditions.{name}"), found)?;
        value.as_bool().ok_or_else(|| Mistake(format!("template.yaml: Conditions.{name} is neither true nor false")))
    }

    /// Resolves CloudFormation's functions; `AWS::NoValue` vanishes.
    fn eval(&self, at: &str, value: &Value) -> Result<Value, Mistake> {
        match value {
            Value::Array(items) => {
                let items = items.iter().map(|item| self.eval(at, item)).collect::<Result<Vec<_>, _>>()?;
                Ok(items.into_iter().filter(|item| !is_no_value(item)).collect())
            }
            Value::Object(map) => {
                if let [(function, argument)] = map.iter().collect::<Vec<_>>().as_slice()
                    && (function.starts_with("Fn::") || *function == "Ref" || *function == "Condition")
                {
                    return self.call(at, function, argument);
                }
                let mut evaluated = Map::new();
                for (key, item) in map {
                    let item = self.eval(&format!("{at}.{key}"), item)?;
                    if !is_no_value(&item) {
                        evaluated.insert(key.clone(), item);
                    }
                }
                Ok(evaluated.into())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
        }
    }

    fn call(&self, at: &str, function: &str, argument: &Value) -> Result<Value, Mistake> {
        let bad = |what: String| Mistake(format!("template.yaml: {at}: {what}"));
        let list = |argument: &Value| {
            let items = argument.as_array().ok_or_else(|| bad(format!("{function} takes a list")))?;
            items.iter().map(|item| self.eval(at, item)).collect::<Result<Vec<_>, _>>()
        };
        match function {
            "Ref" => self.reference(at, argument.as_str().unwrap_or_default()),
            "Condition" => Ok(self.condition(argument.as_str().unwrap_or_default())?.into()),
            "Fn::GetAtt" => {
                let name = argument.get(0).and_then(Value::as_str).unwrap_or_default();
                let attribute = argument.get(1).and_then(Value::as_str).unwrap_or_default();
                self.attribute(at, name, attribute).map(Value::String)
            }
            "Fn::Sub" => {
                let (text, locals) = match argument {
                    Value::Array(both) => (both.first(), both.get(1).and_then(Value::as_object)),
                    _ => (Some(argument), None),
                };
                self.substitute(at, text.and_then(Value::as_str).unwrap_or_default(), locals)
            }
            "Fn::Join" => {
                let items = list(argument)?;
                let [separator, Value::Array(parts)] = items.as_slice() else {
                    return Err(bad("Fn::Join takes a separator and a list".into()));
                };
                Ok(parts.iter().map(scalar).collect::<Vec<_>>().join(separator.as_str().unwrap_or_default()).into())
            }
            "Fn::Split" => {
                let items = list(argument)?;
                let [Value::String(separator), Value::String(text)] = items.as_slice() else {
                    return Err(bad("Fn::Split takes a separator and a text".into()));
                };
                Ok(text.split(separator.as_str()).collect::<Vec<_>>().into())
            }
            "Fn::Select" => {
                let items = list(argument)?;
                let at = items.first().map(scalar).and_then(|index| index.parse::<usize>().ok());
                let found = at.and_then(|at| items.get(1)?.get(at).cloned());
                found.ok_or_else(|| bad("Fn::Select selects nothing".into()))
            }
            "Fn::If" => {
                let items = argument.as_array().ok_or_else(|| bad("Fn::If takes a list".into()))?;
                let condition = items.first().and_then(Value::as_str).unwrap_or_default();
                let branch = if self.condition(condition)? { items.get(1) } else { items.get(2) };
                self.eval(at, branch.unwrap_or(&Value::Null))
            }
            "Fn::Equals" => {
                let items = list(argument)?;
                Ok((items.first().map(scalar) == items.get(1).map(scalar)).into())
            }
            "Fn::Not" => Ok((!list(argument)?.iter().all(|item| item.as_bool() == Some(true))).into()),
            "Fn::And" => Ok(list(argument)?.iter().all(|item| item.as_bool() == Some(true)).into()),
            "Fn::Or" => Ok(list(argument)?.iter().any(|item| item.as_bool() == Some(true)).into()),
            _ => Err(bad(format!("{function} is not understood here"))),
        }
    }

    fn reference(&self, at: &str, name: &str) -> Result<Value, Mistake> {
        Ok(match name {
            "AWS::Region" => self.region.into(),
            "AWS::AccountId" => self.account.into(),
            "AWS::StackName" => STACK.into(),
            "AWS::Partition" => "aws".into(),
            "AWS::URLSuffix" => "amazonaws.com".into(),
            "AWS::NoValue" => json!({ NO_VALUE: true }),
            _ if self.resources.get(name).is_some_and(|one| one["Type"] == "AWS::SQS::Queue") => {
                format!("https://sqs.{}.amazonaws.com/{}/{}", self.region, self.account, self.physical(name)).into()
            }
            _ if self.resources.contains_key(name) => self.physical(name).into(),
            _ => {
                let found = self.parameters.get(name).cloned();
                found.ok_or_else(|| Mistake(format!("template.yaml: {at}: there is no `{name}` to refer to")))?
            }
        })
    }

    fn attribute(&self, at: &str, name: &str, attribute: &str) -> Result<String, Mistake> {
        let kind = self.resources.get(name).and_then(|resource| resource.get("Type")).and_then(Value::as_str);
        let kind = kind.ok_or_else(|| Mistake(format!("template.yaml: {at}: there is no resource `{name}`")))?;
        let (region, account, physical) = (self.region, self.account, self.physical(name));
        match (kind, attribute) {
            ("AWS::Serverless::Function", "Arn") => {
                Ok(format!("arn:aws:lambda:{region}:{account}:function:{physical}"))
            }
            ("AWS::SQS::Queue", "Arn") => Ok(format!("arn:aws:sqs:{region}:{account}:{physical}")),
            ("AWS::SQS::Queue", "QueueName") => Ok(physical),
            ("AWS::S3::Bucket", "Arn") => Ok(format!("arn:aws:s3:::{physical}")),
            ("AWS::Logs::LogGroup", "Arn") => Ok(format!("arn:aws:logs:{region}:{account}:log-group:{physical}:*")),
            ("AWS::IAM::Role", "Arn") => Ok(format!("arn:aws:iam::{account}:role/{physical}")),
            (_, "Arn") => Ok(format!("arn:aws:{name}:{region}:{account}:{physical}")),
            _ => Ok(format!("{physical}-{attribute}")),
        }
    }

    fn substitute(&self, at: &str, text: &str, locals: Option<&Map<String, Value>>) -> Result<Value, Mistake> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(begin) = rest.find("${") {
            out.push_str(&rest[..begin]);
            let end = rest[begin..].find('}').map(|end| begin + end);
            let end = end.ok_or_else(|| Mistake(format!("template.yaml: {at}: `${{` without `}}` in {text}")))?;
            let name = &rest[begin + 2..end];
            if let Some(literal) = name.strip_prefix('!') {
                out.push_str(&format!("${{{literal}}}"));
            } else if let Some(local) = locals.and_then(|locals| locals.get(name)) {
                out.push_str(&scalar(&self.eval(at, local)?));
            } else if let Some((resource, attribute)) = name.split_once('.') {
                out.push_str(&self.attribute(at, resource, attribute)?);
            } else {
                out.push_str(&scalar(&self.reference(at, name)?));
            }
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out.into())
    }
}

const NO_VALUE: &str = "AWS::NoValue";

fn is_no_value(value: &Value) -> bool {
    value.get(NO_VALUE).is_some()
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn typed<T: DeserializeOwned>(name: &str, properties: Value) -> Result<T, Mistake> {
    T::deserialize(properties).map_err(|error| Mistake(format!("template.yaml: Resources.{name}: {error}")))
}

/// `rate(5 minutes)` in seconds.
fn rate(schedule: &str) -> Option<u64> {
    let (number, unit) = schedule.strip_prefix("rate(")?.strip_suffix(')')?.split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    match unit.trim_end_matches('s') {
        "minute" => Some(60 * number),
        "hour" => Some(3600 * number),
        "day" => Some(86_400 * number),
        _ => None,
    }
}
