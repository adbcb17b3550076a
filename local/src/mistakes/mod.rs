//! Every mistake in a file of a person's at once, each with its place.

mod walk;

use saphyr::{LoadableYamlNode as _, MarkedYaml, YamlData};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::Manifest;
use shared::manifest::{FILE, Flaw, schema::schema};

use crate::Mistake;

pub(crate) use walk::{entries, kind, place, text as scalar, words};

/// What a file of a person's says, or every mistake in it: those of its shape, and those that `flaws` finds.
///
/// # Errors
/// All of them, a line each, in the file's order.
pub(crate) fn read<T: Described>(name: &str, text: &str, flaws: impl Fn(&T) -> Vec<Flaw>) -> Result<T, Mistake> {
    let (first, own) = match shared::yaml::read::<T>(name, text) {
        Ok(value) => match flaws(&value) {
            none if none.is_empty() => return Ok(value),
            some => (None, some),
        },
        Err(mistake) => (Some(mistake), Vec::new()),
    };
    let mut found = mistakes(text, flaws);
    if found.is_empty() {
        // What this look cannot place is said all the same.
        found.extend(own.into_iter().map(|Flaw { path, message, .. }| walk::Found { at: (1, 1), path, message }));
    }
    if let Some(mistake) = first
        && !found.iter().any(|one| Some(one.at) == mistake.at || one.message == mistake.message)
    {
        // What this look has no eyes for, such as a file that is no YAML.
        let at = mistake.at.unwrap_or((1, 1));
        found.push(walk::Found { at, path: Vec::new(), message: mistake.message });
    }
    found.sort_by_key(|one| one.at);
    let lines: Vec<_> = found.iter().map(|one| format!("{name}:{}:{}: {}", one.at.0, one.at.1, one.message)).collect();
    Err(Mistake(lines.join("\n")))
}

/// A type whose shape is known.
pub(crate) trait Described: DeserializeOwned {
    /// Its JSON Schema.
    fn shape() -> Value;
}

impl Described for Manifest {
    fn shape() -> Value {
        schema()
    }
}

/// Every mistake that can be found in it.
fn mistakes<T: Described>(text: &str, flaws: impl Fn(&T) -> Vec<Flaw>) -> Vec<walk::Found> {
    // This look keeps all that it sees, and all that aliases repeat.
    if shared::yaml::within_bounds(FILE, text).is_err() {
        return Vec::new();
    }
    let Ok(documents) = MarkedYaml::load_from_str(text) else { return Vec::new() };
    let Some(document) = documents.first() else { return Vec::new() };
    let (repaired, mut found) = walk::walk(&T::shape(), document);
    // JSON is YAML.
    let read = if found.is_empty() { text.to_owned() } else { repaired.to_string() };
    let Ok(repaired) = shared::yaml::read::<T>(FILE, &read) else { return found };
    for Flaw { path, message, .. } in flaws(&repaired) {
        // What was put in for a mistake is not another one.
        let is_known = found.iter().any(|one| path.starts_with(&one.path) || one.path == path);
        if !is_known {
            let at = find(document, &path).unwrap_or((1, 1));
            found.push(walk::Found { at, path, message });
        }
    }
    found
}

/// Where a path leads: to the key, or to the list's item.
fn find(document: &MarkedYaml<'_>, path: &[String]) -> Option<(u64, u64)> {
    let mut node = document;
    let mut at = None;
    for part in path {
        match &node.data {
            YamlData::Mapping(_) => {
                let (key, value) = walk::entries(node).into_iter().find(|(key, _)| key.data.as_str() == Some(part))?;
                (node, at) = (value, Some(walk::place(key)));
            }
            YamlData::Sequence(items) => {
                node = items.get(part.parse::<usize>().ok()?)?;
                at = Some(walk::place(node));
            }
            _ => return at,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../examples/shop/deploy.yaml");

    fn said(text: &str) -> Vec<String> {
        let mut found = mistakes(text, Manifest::flaws);
        found.sort_by_key(|one| one.at);
        found.iter().map(|one| format!("{}:{}: {}", one.at.0, one.at.1, one.message)).collect()
    }

    #[test]
    fn a_file_whose_aliases_multiply_is_not_looked_at_with_eyes_that_keep_all() {
        let mut text = "application: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(", ")));
        }
        assert_eq!(said(&text), Vec::<String>::new());
    }

    #[test]
    fn a_good_manifest_has_no_mistake() {
        assert_eq!(said(GOOD), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_found_at_once_each_with_its_place() {
        let bad = "\
application: [shop]
environments:
  us: {region: us-east-1, clutser: shop-us}
  Great Britain: {region: eu-west-2, cluster: shop, launch_type: FARGAT}
tasks:
  migrate:
    command: migrate
    timeout: soon
    cpu: many
    environments: [us, ue]
services:
  web:
    kind: wbe
    service: web
    codedeploy_application: shop
    family: shop-web
    container: web
    port: 80800
    hooks: {BeforeIsntall: check}
notifications:
  slack: {webhook: \"https://hooks.slack.com/services/secret\"}
  http: {wiki: {url: \"http://wiki\", body: {}}}
  telegram: {}
";
        assert_eq!(
            said(bad),
            [
                "1:14: text is expected",
                "3:7: `cluster` is missing",
                "3:27: `clutser` is not known: did you mean `cluster`?",
                "4:3: environments.Great Britain: a name has 1 to 20 of a-z, 0-9, - and _",
                "4:66: `FARGAT` is not known: did you mean `FARGATE`?",
                "7:5: `family` is missing",
                "7:14: a list is expected, such as [a, b]",
                "8:14: `soon` is no duration: write it as `90s`, `30m` or `1h 30m`",
                "9:10: a whole number is expected",
                "10:24: tasks.migrate: there is no environment `ue`: did you mean `us`?",
                "12:3: services.web: `codedeploy_application` and `deployment_group` belong together: give both, or none",
                "13:11: `wbe` is not known: did you mean `web`?",
                "18:11: a whole number from 0 to 65535 is expected",
                "19:13: `BeforeIsntall` is not known: did you mean `BeforeInstall`?",
                "21:11: notifications.slack.webhook: name an SSM parameter, such as /shop/slack-webhook, and never the \
                 secret itself",
                "22:17: notifications.http.wiki.url: an address begins with https://",
                "23:3: `telegram` is not known; known are datadog, http, sentry, slack",
            ]
        );
    }

    #[test]
    fn what_would_outlast_an_action_is_said_where_it_stands() {
        let with = |drain: &str, group: &str| {
            said(&GOOD.replacen(
                "    port: 8080",
                &format!("    port: 8080\n    drain_for: {drain}\n    wait_for_group: {group}"),
                1,
            ))
        };
        assert_eq!(with("23h", "0s"), Vec::<String>::new());
        let wrong = with("24h", "25h");
        let begins = |line: &String, begin: &str| line.split_once(": ").is_some_and(|(_, why)| why.starts_with(begin));
        assert!(begins(&wrong[0], "services.web.drain_for: 23h at most"), "{wrong:?}");
        assert!(begins(&wrong[1], "services.web.wait_for_group: 24h at most"), "{wrong:?}");
    }

    /// The look must neither refuse what a release would take, nor pass what it would refuse.
    #[test]
    fn what_is_found_is_what_a_release_would_refuse() {
        for (written, instead) in [
            ("application: shop", "application: 7"),
            ("application: shop", "application:"),
            ("    timeout: 30m", "    timeout: 90"),
            ("    timeout: 30m", "    timeout: 30"),
            ("    timeout: 30m", "    cpu: \"256\""),
            ("    timeout: 30m", "    cpu: 256"),
            ("    timeout: 30m", "    cpu: 1.5"),
            ("    timeout: 30m", "    cpu: -1"),
            ("    timeout: 30m", "    cpu:"),
            ("    timeout: 30m", "    environment: {PORT: 8080, DEBUG: true, RATE: 0.5}"),
            ("    timeout: 30m", "    environment: {PORT: [8080]}"),
            ("    timeout: 30m", "    environment:"),
            ("    command: [shop, migrate]\n", "    command: [1, two]\n"),
            ("    command: [shop, migrate]\n", "    command:\n"),
            ("    timeout: 30m", "    log_mode: blocking"),
            ("    timeout: 30m", "    log_mode: Blocking"),
            ("    timeout: 30m", "    environments:"),
            ("    timeout: 30m", "    environments: []"),
            ("    timeout: 30m", "    retry_placement_for: 2 days"),
            ("    launch_type: FARGATE\n", "    assign_public_ip: yes\n"),
            ("    launch_type: FARGATE\n", "    assign_public_ip: true\n"),
            ("    launch_type: FARGATE\n", "    capacity_providers: [{name: FARGATE_SPOT, weight: 1}]\n"),
            ("    launch_type: FARGATE\n", "    capacity_providers: [FARGATE_SPOT]\n"),
            ("    launch_type: FARGATE\n", "    launch_type: fargate\n"),
            ("    port: 8080", "    port: 0x1F90"),
            ("    port: 8080", "    port: 8080\n    hooks: {AfterInstall: check}"),
            ("    port: 8080", "    port: \"8080\""),
            ("services:\n", "services:\n  queue:\n"),
            ("  us:\n", "  us: &base\n"),
            (
                "  us:\n",
                "  mx: &base {region: us-east-1, cluster: shop}\n  ca: {<<: *base, region: ca-central-1}\n  us:\n",
            ),
            ("  us:\n", "  mx: &base {region: us-east-1, clutser: shop}\n  ca: {<<: [*base]}\n  us:\n"),
            ("  us:\n", "  mx: &base {region: us-east-1}\n  ca: {<<: *base, cluster: shop}\n  us:\n"),
        ] {
            let text = GOOD.replacen(written, instead, 1);
            assert_ne!(text, GOOD, "{written}");
            let (found, refused) = (said(&text), Manifest::read(FILE, &text).err());
            assert_eq!(found.is_empty(), refused.is_none(), "{instead:?}: {found:#?} but {refused:?}");
        }
    }
}
