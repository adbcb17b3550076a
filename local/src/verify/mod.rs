//! `verify --aws`: whether the account is as a release needs it, asked of the account itself.
//!
//! Invariant: nothing is changed; what is wrong is said all at once, environment by environment, each with what to do; what could
//! not be asked is said to be that, and never taken for good.

mod answers;
mod definitions;
mod network;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::Manifest;
use shared::aws::{Aws, Place};
use shared::manifest::Environment;

use crate::Mistake;
use crate::cloud::{Cloud, Refused, Service};

pub use answers::{Answers, Asker};

/// What was found, in the manifest's order of environments.
#[derive(Debug, Default)]
pub struct Report {
    /// What a release would fail at, or do otherwise than it should, a line each: where, what, and what to do.
    pub wrong: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What could not be asked, and so is not known.
    pub unasked: Vec<String>,
    /// The environments of which nothing could be asked.
    pub unseen: Vec<String>,
}

/// One environment, and what was found in it.
struct Look<'a> {
    name: &'a str,
    environment: &'a Environment,
    manifest: &'a Manifest,
    cloud: Cloud<'a>,
    answers: &'a Answers,
    /// The account that Cutover runs in, where an environment is in another one.
    own: Option<&'a Result<String, Refused>>,
    /// The Region that Cutover runs in, as whoever asks has it: images come from there.
    home: String,
    report: Report,
    /// What is asked once, however many ask for it.
    asked: BTreeMap<String, Result<Value, Refused>>,
}

/// Looks at everything that the manifest names.
pub async fn verify(aws: &Aws, manifest: &Manifest, answers: &Answers) -> Report {
    let own = match &answers.asker {
        Asker::OfCutover if manifest.environments.values().any(|environment| environment.role.is_some()) => {
            Some(own_account(aws).await)
        }
        Asker::OfCutover => None,
        Asker::OfTheEnvironment(home) => home.clone().map(Ok),
    };
    let looks = manifest.environments.iter().map(async |(name, environment)| {
        let place = Place::from(environment);
        let cloud = match answers.asker {
            Asker::OfCutover => Cloud::new(aws, place),
            // Whoever asks is there already.
            Asker::OfTheEnvironment(_) => Cloud::new(aws, Place { role: None, ..place }),
        };
        let asked = BTreeMap::new();
        let own = own.as_ref();
        let (home, report) = (aws.region().to_string(), Report::default());
        let mut look = Look { name, environment, manifest, cloud, answers, own, home, report, asked };
        look.all().await;
        look.report
    });
    let mut report = secrets(aws, manifest).await;
    report.wrong.splice(..0, answers.unfit(manifest));
    for one in join_all(looks).await {
        report.wrong.extend(one.wrong);
        report.notes.extend(one.notes);
        report.unasked.extend(one.unasked);
        report.unseen.extend(one.unseen);
    }
    report
}

/// That there is somebody who asks.
///
/// # Errors
/// There are no credentials, or none that are valid.
pub(crate) async fn somebody_asks(aws: &Aws) -> Result<(), Mistake> {
    match own_account(aws).await {
        Err(refused) if refused.is_nobody() => Err(Mistake(format!(
            "there are no AWS credentials, or none that are valid any more ({}). Set AWS_PROFILE; a profile of IAM Identity Center (`aws sso \
             login`) or with `credential_process` is read by the AWS CLI alone: \
             eval \"$(aws configure export-credentials --format env)\"",
            refused.message
        ))),
        // Whoever may not ask that may be allowed the rest.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The account that Cutover runs in, if whoever asks is in it.
async fn own_account(aws: &Aws) -> Result<String, Refused> {
    let found = Cloud::new(aws, aws.here()).ask(Service::Sts, "GetCallerIdentity", &json!({})).await?;
    let account = found.pointer("/GetCallerIdentityResponse/GetCallerIdentityResult/Account");
    let account = account.or_else(|| found.pointer("/GetCallerIdentityResult/Account")).and_then(Value::as_str);
    Ok(account.unwrap_or_default().to_owned())
}

/// The secrets of notifications, in Cutover's own account and Region.
async fn secrets(aws: &Aws, manifest: &Manifest) -> Report {
    let cloud = Cloud::new(aws, aws.here());
    let mut report = Report::default();
    for (path, name) in manifest.notifications.parameters() {
        let path = path.join(".");
        match cloud.ask(Service::Ssm, "GetParameter", &json!({"Name": name})).await {
            Ok(found) if found["Parameter"]["Type"] != "SecureString" => report.wrong.push(format!(
                "{path}: the parameter `{name}` is no SecureString, so whoever may read parameters sees it: put it again with \
                 --type SecureString"
            )),
            Ok(_) => {}
            Err(refused) if refused.code == "ParameterNotFound" => report.wrong.push(format!(
                "{path}: there is no SSM parameter `{name}` in {}: aws ssm put-parameter --type SecureString --name {name} \
                 --value ...",
                aws.region()
            )),
            Err(refused) => report.unasked.push(format!("{path}: whether `{name}` is there ({refused})")),
        }
    }
    report
}

impl Look<'_> {
    fn wrong(&mut self, what: &str, why: impl std::fmt::Display) {
        let place = if what.is_empty() { self.name.to_owned() } else { format!("{}/{what}", self.name) };
        let line = format!("{place}: {why}");
        if !self.report.wrong.contains(&line) {
            self.report.wrong.push(line);
        }
    }

    fn note(&mut self, what: &str, why: impl std::fmt::Display) {
        let place = if what.is_empty() { self.name.to_owned() } else { format!("{}/{what}", self.name) };
        let line = format!("{place}: {why}");
        if !self.report.notes.contains(&line) {
            self.report.notes.push(line);
        }
    }

    fn unasked(&mut self, what: impl std::fmt::Display, refused: &Refused) {
        let line = format!("{}: {what} ({refused})", self.name);
        if !self.report.unasked.contains(&line) {
            self.report.unasked.push(line);
        }
    }

    /// Asks once, however many want to know it.
    async fn ask(&mut self, service: Service, operation: &str, input: Value) -> Result<Value, Refused> {
        let region = self.environment.region.clone();
        self.ask_in(&region, service, operation, input).await
    }

    /// The same in another Region: what is asked for may be there.
    async fn ask_in(
        &mut self,
        region: &str,
        service: Service,
        operation: &str,
        input: Value,
    ) -> Result<Value, Refused> {
        let key = format!("{region} {operation} {input}");
        if let Some(known) = self.asked.get(&key) {
            return known.clone();
        }
        let answer = self.cloud.in_region(region).ask(service, operation, &input).await;
        self.asked.insert(key, answer.clone());
        answer
    }

    async fn all(&mut self) {
        let (cluster, region) = (self.environment.cluster.clone(), self.environment.region.clone());
        match self.ask(Service::Ecs, "DescribeClusters", json!({"clusters": [cluster]})).await {
            Ok(found) => {
                match found.pointer("/clusters/0/status").and_then(Value::as_str) {
                    Some("ACTIVE") => {}
                    Some(status) => {
                        self.wrong("", format!("the cluster `{cluster}` is {status}: name one that is ACTIVE"))
                    }
                    None => {
                        self.wrong("", format!("there is no cluster `{cluster}` in {region}: correct `cluster` or `region` in deploy.yaml"));
                        return;
                    }
                }
            }
            Err(refused) => {
                let name = self.name;
                let line = match (&self.environment.role, refused.code.as_str()) {
                    // It trusts Cutover's functions and nobody else, as it should.
                    (Some(role), "Credentials") => format!(
                        "{name}: nothing was checked: its role {role} cannot be assumed by you. Ask with credentials of that account: \
                         verify DIR --aws --environment {name}"
                    ),
                    (_, "") if refused.to_string().contains("credentials") => {
                        format!(
                            "{name}: nothing was checked: there are no credentials of an account ({refused}): sign in, or set AWS_PROFILE"
                        )
                    }
                    (_, "") => {
                        format!("{name}: nothing was checked: {region} does not answer ({refused}): correct `region`?")
                    }
                    _ => {
                        format!("{name}: nothing was checked: no permission for ecs:DescribeClusters there ({refused})")
                    }
                };
                self.report.unasked.push(line);
                self.report.unseen.push(name.to_owned());
                return;
            }
        }
        self.role().await;
        let families = self.services().await;
        self.definitions(&families).await;
        self.network().await;
        self.quota(&families).await;
    }

    /// That the environment's role trusts roles of the account that Cutover runs in: whoever runs this is another than they.
    async fn role(&mut self) {
        let Some(role) = self.environment.role.clone() else { return };
        let name = role.rsplit('/').next().unwrap_or(&role).to_owned();
        let found = match self.ask(Service::Iam, "GetRole", json!({"RoleName": name})).await {
            Ok(found) => found,
            Err(refused) => return self.unasked(format!("whom the role `{name}` trusts"), &refused),
        };
        match self.own {
            Some(Ok(own)) if !trusts(&found, own) => {
                let why = format!(
                    "the role `{name}` lets no role of the account {own} assume it: its trust must name the stack's output \
                     RolesToTrust (the parameter TrustedRoles of examples/environment-role.yaml), and ask for no external id"
                );
                self.wrong("", why);
            }
            Some(Err(refused)) => {
                let refused = refused.clone();
                self.unasked(format!("whether the role `{name}` trusts this account"), &refused);
            }
            None => {
                let why = "its trust was not looked at: say which account Cutover runs in, with --home ACCOUNT";
                self.note("", format!("the role `{name}`: {why}"));
            }
            Some(Ok(_)) => {}
        }
    }

    /// That twice the tasks fit into Fargate's quota, since blue/green runs both versions at once.
    async fn quota(&mut self, families: &BTreeMap<String, i64>) {
        const FARGATE_VCPUS: &str = "L-3032A538";
        let mut vcpus = 0.0;
        for (family, tasks) in families {
            let described = self.ask(Service::Ecs, "DescribeTaskDefinition", json!({"taskDefinition": family})).await;
            let Ok(described) = described else { continue };
            // Whatever else it may run on, Fargate's quota is only for what Fargate runs.
            if !is_for_fargate(&described["taskDefinition"]) || self.runs_on_instances() {
                continue;
            }
            let cpu = described
                .pointer("/taskDefinition/cpu")
                .and_then(Value::as_str)
                .and_then(|cpu| cpu.parse::<f64>().ok());
            #[expect(clippy::cast_precision_loss, reason = "counts of tasks are small")]
            let tasks = *tasks as f64;
            vcpus += 2.0 * tasks * cpu.unwrap_or_default() / 1024.0;
        }
        if vcpus == 0.0 {
            return;
        }
        match self
            .ask(Service::Quotas, "GetServiceQuota", json!({"ServiceCode": "fargate", "QuotaCode": FARGATE_VCPUS}))
            .await
        {
            Ok(found) => {
                let quota = found.pointer("/Quota/Value").and_then(Value::as_f64).unwrap_or_default();
                if quota < vcpus {
                    self.wrong("", format!(
                        "old and new tasks of this application alone need {vcpus} vCPUs of Fargate at once, and the quota is \
                         {quota}: ask for more in Service Quotas ({FARGATE_VCPUS})"
                    ));
                }
            }
            Err(refused) => self.unasked("Fargate's quota of vCPUs", &refused),
        }
    }
}

impl Look<'_> {
    /// Whether one-off tasks run on container instances, which pull images themselves and give tasks no public address.
    fn runs_on_instances(&self) -> bool {
        let kind = self.environment.launch_type;
        let providers = &self.environment.capacity_providers;
        kind.is_some_and(|kind| kind != shared::manifest::LaunchType::Fargate)
            || (!providers.is_empty() && !providers.iter().any(|one| one.name.starts_with("FARGATE")))
    }
}

/// Whether a task definition is one that Fargate takes.
fn is_for_fargate(definition: &Value) -> bool {
    texts(&definition["requiresCompatibilities"]).contains("FARGATE")
}

/// What a role's trust policy says, as text.
fn trust(role: &Value) -> String {
    let document = role.pointer("/GetRoleResult/Role/AssumeRolePolicyDocument").and_then(Value::as_str);
    crate::world::decoded(document.unwrap_or_default())
}

/// Whether a role may be assumed by roles of this account, as far as its trust's principals tell.
fn trusts(role: &Value, account: &str) -> bool {
    let document: Value = serde_json::from_str(&trust(role)).unwrap_or_default();
    let each = |value: &Value| match value {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    let is_it = |principal: &Value| match principal.as_str() {
        Some(one) => one == "*" || one == account || one.split(':').nth(4) == Some(account),
        None => false,
    };
    each(&document["Statement"]).iter().any(|statement| {
        let lets = each(&statement["Action"])
            .iter()
            .any(|action| matches!(action.as_str(), Some("sts:AssumeRole" | "sts:*" | "*")));
        let principal = &statement["Principal"];
        let named = principal == "*" || each(&principal["AWS"]).iter().any(is_it);
        // Cutover says no external id.
        let asks_for_more = statement["Condition"].to_string().contains("sts:ExternalId");
        statement["Effect"] == "Allow" && lets && named && !asks_for_more
    })
}

/// The texts of a list.
fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
