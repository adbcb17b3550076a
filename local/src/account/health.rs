//! How target groups ask whether a task is healthy.

use schemars::JsonSchema;
use serde::Deserialize;
use shared::manifest::Span;

/// How a target group asks whether a task is healthy; times are shorter than a load balancer's, so that a release here takes
/// seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// Over what.
    pub protocol: Protocol,
    /// The path that is asked for.
    pub path: String,
    /// The status codes that are good.
    #[schemars(with = "String")]
    pub matcher: Matcher,
    /// How often.
    pub interval: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// How many good answers in a row make an ill task healthy again.
    pub healthy: u32,
    /// How many bad ones make it ill.
    pub unhealthy: u32,
    /// For how long after its start a task may be ill (ECS's `healthCheckGracePeriodSeconds`).
    pub grace: Span,
}

impl Default for HealthCheck {
    fn default() -> Self {
        let millis = |millis| Span(std::time::Duration::from_millis(millis));
        Self {
            protocol: Protocol::default(),
            path: "/".into(),
            matcher: Matcher::default(),
            interval: millis(500),
            timeout: millis(2000),
            healthy: 2,
            unhealthy: 3,
            grace: millis(10_000),
        }
    }
}

impl HealthCheck {
    /// `GET /up`, or `its port`.
    #[must_use]
    pub fn what(&self) -> String {
        match self.protocol {
            Protocol::Http => format!("GET {}", self.path),
            Protocol::Tcp => "its port".into(),
        }
    }
}

/// What a target group speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// An application load balancer's.
    #[default]
    Http,
    /// A network load balancer's.
    Tcp,
}

/// Status codes as target groups have them: `200`, `200,202`, `200-299`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher(Vec<std::ops::RangeInclusive<u16>>);

impl Default for Matcher {
    fn default() -> Self {
        Self(vec![200..=200])
    }
}

impl Matcher {
    /// Whether this code is good.
    #[must_use]
    pub fn takes(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (200..=599).contains(code));
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some(code(first)?..=code(last)?),
            None => code(part).map(|code| code..=code),
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        let wrong = || {
            serde::de::Error::custom(format!(
                "`{text}` is no list of status codes: write it as \"200\", \"200,202\" or \"200-299\""
            ))
        };
        ranges.map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Service;
    use shared::yaml;

    fn check(text: &str) -> Result<HealthCheck, String> {
        yaml::read::<HealthCheck>("f", text).map_err(|mistake| mistake.message)
    }

    #[test]
    fn a_target_group_takes_what_its_matcher_lists_and_nothing_else() {
        for (matcher, good, bad) in [
            ("\"200\"", vec![200], vec![201, 199, 404]),
            ("200,202", vec![200, 202], vec![201]),
            ("200-299, 301", vec![200, 250, 299, 301], vec![300, 302, 500]),
        ] {
            let read = check(&format!(
                "{{matcher: {}}}",
                if matcher.contains('"') { matcher.into() } else { format!("\"{matcher}\"") }
            ));
            let read = read.unwrap().matcher;
            assert!(
                good.iter().all(|code| read.takes(*code)) && !bad.iter().any(|code| read.takes(*code)),
                "{matcher}"
            );
        }
        for matcher in ["\"\"", "ok", "\"200-\"", "\"99\"", "\"200;202\""] {
            let said = check(&format!("{{matcher: {matcher}}}")).unwrap_err();
            assert!(said.contains("is no list of status codes: write it as"), "{matcher}: {said}");
        }
    }

    #[test]
    fn a_service_is_asked_over_http_where_people_reach_it_and_over_tcp_otherwise() {
        let service = |text: &str| yaml::read::<Service>("f", &format!("{{task_definition: shop, {text}}}")).unwrap();
        let asked = service("container_port: 8080, port: 8101").check().unwrap();
        assert_eq!((asked.protocol, asked.what().as_str(), asked.matcher.takes(200)), (Protocol::Http, "GET /", true));
        assert_eq!(service("container_port: 8080").check().unwrap().protocol, Protocol::Tcp);
        assert_eq!(service("port: 8101").check(), None);
        let own = service("container_port: 8080, port: 8101, health_check: {path: /up, grace: 3s}").check().unwrap();
        assert_eq!((own.what().as_str(), own.grace.0.as_secs(), own.unhealthy), ("GET /up", 3, 3));
        assert_eq!(service("container_port: 1, health_check: {protocol: TCP}").check().unwrap().what(), "its port");
    }
}
