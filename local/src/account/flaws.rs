//! What an account of the right shape can still get wrong: names that it does not have, ports that are given twice.

use std::collections::BTreeMap;

use shared::manifest::Flaw;

use super::Account;

impl Account {
    /// What an account of the right shape can still get wrong.
    pub(crate) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut find = |path: &[&str], why: &str| {
            let message = format!("{}: {why}", path.join("."));
            flaws.push(Flaw { path: path.iter().map(|part| (*part).to_owned()).collect(), at: None, message });
        };
        if self.build.command.is_empty() {
            find(&["build", "command"], "name the program that builds the application");
        }
        let mut ports: BTreeMap<u16, String> = BTreeMap::new();
        for (region_name, region) in &self.regions {
            let of_region = ["regions", region_name.as_str()];
            let families: Vec<_> =
                region.task_definitions.iter().filter_map(|one| one.get("family")?.as_str()).collect();
            if families.len() < region.task_definitions.len() {
                find(&[&of_region[..], &["task_definitions"]].concat(), "each needs a `family`");
            }
            for (cluster_name, cluster) in &region.clusters {
                for (name, service) in &cluster.services {
                    let of_service = [&of_region[..], &["clusters", cluster_name, "services", name]].concat();
                    let family = service.task_definition.split(':').next().unwrap_or_default();
                    if !families.contains(&family) {
                        let why = shared::text::unknown("task definition", family, families.iter().copied());
                        find(&[&of_service[..], &["task_definition"]].concat(), &why);
                    }
                    let before = service.port.and_then(|port| ports.insert(port, of_service.join(".")));
                    if let Some(before) = before {
                        find(&[&of_service[..], &["port"]].concat(), &format!("it is also that of {before}"));
                    }
                }
            }
            for (application, groups) in &region.deployment_groups {
                for (name, group) in groups {
                    let of_group = [&of_region[..], &["deployment_groups", application, name]].concat();
                    let Some(cluster) = region.clusters.get(&group.cluster) else {
                        let known = region.clusters.keys().map(String::as_str);
                        let why = shared::text::unknown("cluster", &group.cluster, known);
                        find(&[&of_group[..], &["cluster"]].concat(), &why);
                        continue;
                    };
                    if !cluster.services.contains_key(&group.service) {
                        let known = cluster.services.keys().map(String::as_str);
                        let why = shared::text::unknown("service", &group.service, known);
                        find(&[&of_group[..], &["service"]].concat(), &why);
                    }
                }
            }
        }
        flaws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mistake;

    #[test]
    fn every_mistake_of_an_account_is_said_at_once_with_its_place() {
        let text = "\
build: {command: []}
regions:
  us-east-1:
    clusters:
      shop:
        services:
          web: {desired: two, port: 8101}
          worker: {task_definition: shop-wroker, port: 8101, helath_check: {}}
    task_definitions: [{family: shop-worker}]
    deployment_groups:
      shop:
        web: {cluster: shpo, service: web}
        worker: {cluster: shop, service: wroker, termination_wait: soon}
";
        let Mistake(why) = Account::parse("local.yaml", text).unwrap_err();
        let said: Vec<_> = why.lines().collect();
        assert_eq!(
            said,
            [
                "local.yaml:1:8: `image` is missing",
                "local.yaml:1:9: build.command: name the program that builds the application",
                "local.yaml:7:16: `task_definition` is missing",
                "local.yaml:7:26: a whole number is expected",
                "local.yaml:8:20: regions.us-east-1.clusters.shop.services.worker.task_definition: there is no task \
                 definition `shop-wroker`: did you mean `shop-worker`?",
                "local.yaml:8:50: regions.us-east-1.clusters.shop.services.worker.port: it is also that of \
                 regions.us-east-1.clusters.shop.services.web",
                "local.yaml:8:62: `helath_check` is not known: did you mean `health_check`?",
                "local.yaml:12:15: regions.us-east-1.deployment_groups.shop.web.cluster: there is no cluster `shpo`: did you \
                 mean `shop`?",
                "local.yaml:13:33: regions.us-east-1.deployment_groups.shop.worker.service: there is no service `wroker`: did \
                 you mean `worker`?",
                "local.yaml:13:68: `soon` is no duration: write it as `90s`, `30m` or `1h 30m`",
            ]
        );
    }
}
