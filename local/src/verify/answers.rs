//! The stack's parameters, as far as they must fit what deploy.yaml names: what they keep the functions away from.

use std::collections::BTreeMap;

use shared::Manifest;
use shared::manifest::in_environment;

use crate::Mistake;
use crate::template::is_like;

/// What the stack is, or will be, answered; what is not given is the template's own default.
#[derive(Debug, Clone)]
pub struct Answers {
    /// What images and functions are built for: `arm64` or `x86_64`.
    pub architecture: String,
    /// What the names of clusters, families and CodeDeploy applications begin with.
    pub names_begin: String,
    /// The roles that tasks may be given, with `*`; any of the account if there are none.
    pub task_roles: Vec<String>,
    /// The roles in other accounts; not looked at unless given.
    pub environment_roles: Option<Vec<String>>,
    /// What the names of the notifications' secrets begin with; not looked at unless given.
    pub secrets_path: Option<String>,
    /// Who asks.
    pub asker: Asker,
}

/// Whose credentials are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asker {
    /// Those of the account that Cutover runs in.
    #[default]
    OfCutover,
    /// Those of the environment's own account; and which Cutover's is, if that was said.
    OfTheEnvironment(Option<String>),
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            architecture: "arm64".into(),
            names_begin: String::new(),
            task_roles: Vec::new(),
            environment_roles: None,
            secrets_path: None,
            asker: Asker::OfCutover,
        }
    }
}

impl Answers {
    /// From parameters, by name.
    ///
    /// # Errors
    /// One that nothing here depends on, so that it is not taken for one that was looked at.
    pub fn of(parameters: BTreeMap<String, String>) -> Result<Self, Mistake> {
        let list = |value: &str| {
            value.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect::<Vec<_>>()
        };
        let mut answers = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                "Architecture" => answers.architecture = value,
                "NamesBegin" => answers.names_begin = value,
                "TaskRoles" => answers.task_roles = list(&value),
                "EnvironmentRoles" => answers.environment_roles = Some(list(&value)),
                "SecretsPath" => answers.secrets_path = Some(value),
                other => {
                    let why = "only Architecture, NamesBegin, TaskRoles, EnvironmentRoles and SecretsPath matter here";
                    return Err(Mistake(format!("--parameter {other}: {why}")));
                }
            }
        }
        Ok(answers)
    }

    /// Whether tasks may be given this role.
    pub(super) fn may_pass(&self, role: &str) -> bool {
        self.task_roles.is_empty() || self.task_roles.iter().any(|pattern| is_like(pattern, role))
    }

    /// What of the manifest the functions may not touch, each with its place in deploy.yaml and what to do.
    pub(super) fn unfit(&self, manifest: &Manifest) -> Vec<String> {
        let mut unfit = Vec::new();
        let begin = &self.names_begin;
        let mut named = |place: String, what: &str, name: &str| {
            if !name.starts_with(begin.as_str()) {
                unfit.push(format!(
                    "{place}: the {what} `{name}` does not begin with NamesBegin={begin}, so the functions may not touch it: \
                     rename it, or answer what all names begin with"
                ));
            }
        };
        for (name, environment) in &manifest.environments {
            named(format!("environments.{name}.cluster"), "cluster", &environment.cluster);
            for (own, task) in &manifest.tasks {
                if manifest.environments_of(task.environments.as_ref()).iter().any(|(known, _)| known == name) {
                    named(format!("tasks.{own}.family"), "family", &in_environment(&task.family, name));
                }
            }
            for (own, worker) in &manifest.workers {
                if manifest.environments_of(worker.environments.as_ref()).iter().any(|(known, _)| known == name) {
                    named(format!("workers.{own}.family"), "family", &in_environment(&worker.family, name));
                }
            }
            for (own, service) in &manifest.services {
                if !manifest.environments_of(service.environments.as_ref()).iter().any(|(known, _)| known == name) {
                    continue;
                }
                named(format!("services.{own}.family"), "family", &in_environment(&service.family, name));
                if let Some(names) = service.codedeploy() {
                    let place = format!("services.{own}.codedeploy_application");
                    named(place, "CodeDeploy application", &in_environment(names.application, name));
                }
            }
        }
        if let Some(roles) = &self.environment_roles {
            for (name, environment) in &manifest.environments {
                let Some(role) = &environment.role else { continue };
                if !roles.iter().any(|pattern| is_like(pattern, role)) {
                    unfit.push(format!(
                        "environments.{name}.role: {role} is not in EnvironmentRoles, so the functions may not assume it: \
                         list it there"
                    ));
                }
            }
        }
        if let Some(path) = &self.secrets_path {
            for (place, name) in manifest.notifications.parameters() {
                if !name.starts_with(path) {
                    let place = place.join(".");
                    unfit.push(format!(
                        "{place}: the parameter `{name}` is not below SecretsPath={path}, so the functions may not read it: \
                         move it there, or answer another path"
                    ));
                }
            }
        }
        unfit.sort();
        unfit.dedup();
        unfit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
application: shop
environments:
  us: {region: us-east-1, cluster: shop}
  eu: {region: eu-west-1, cluster: other, role: arn:aws:iam::222222222222:role/cutover-environment}
tasks:
  migrate: {family: shop-task, command: [migrate], environments: [us]}
services:
  web: {service: web, kind: web, container: app, family: shop-web, port: 80, codedeploy_application: apps, deployment_group: web}
notifications:
  sentry: {organization: o, projects: [p], token: /elsewhere/token}
";

    fn given(pairs: &[(&str, &str)]) -> Vec<String> {
        let manifest = Manifest::read("deploy.yaml", MANIFEST).unwrap();
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Answers::of(pairs.collect()).unwrap().unfit(&manifest)
    }

    #[test]
    fn what_the_parameters_keep_the_functions_from_is_named_with_its_place() {
        let role = "arn:aws:iam::222222222222:role/cutover-environment";
        for (pairs, places) in [
            (vec![], vec![]),
            (vec![("NamesBegin", "shop")], vec!["environments.eu.cluster", "services.web.codedeploy_application"]),
            (vec![("EnvironmentRoles", "")], vec!["environments.eu.role"]),
            (vec![("EnvironmentRoles", role)], vec![]),
            (vec![("EnvironmentRoles", "arn:aws:iam::222222222222:role/cutover-*")], vec![]),
            (vec![("SecretsPath", "/cutover/")], vec!["notifications.sentry.token"]),
            (vec![("SecretsPath", "/elsewhere/")], vec![]),
        ] {
            let said = given(&pairs);
            let found: Vec<_> = said.iter().filter_map(|line| line.split(": ").next()).collect();
            assert_eq!(found, places, "{pairs:?}: {said:#?}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_looked_at_is_refused_and_roles_may_be_patterns() {
        let of = |name: &str, value: &str| Answers::of([(name.to_owned(), value.to_owned())].into());
        let Err(Mistake(why)) = of("Email", "a@b") else { panic!("it was taken") };
        assert!(why.starts_with("--parameter Email: only Architecture, NamesBegin, "), "{why}");
        let listed = of("TaskRoles", "arn:aws:iam::1:role/shop-*, arn:aws:iam::1:role/other").unwrap();
        for (role, may) in [("shop-web", true), ("other", true), ("admin", false)] {
            assert_eq!(listed.may_pass(&format!("arn:aws:iam::1:role/{role}")), may, "{role}");
        }
        assert!(Answers::default().may_pass("arn:aws:iam::1:role/admin"), "the template's default lets any be passed");
    }
}
