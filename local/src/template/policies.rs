//! IAM policies as IAM reads them: who may do what to which resource.
//!
//! Invariant: an effect, a field or a condition that is not understood is refused, so that nothing is allowed here that a
//! real account would deny.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Mistake;

/// Something that a call needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The action, such as `ecs:RunTask`.
    pub action: String,
    /// The resource's ARN; `*` for an action that knows no resources.
    pub resource: String,
    /// The condition keys that the call carries.
    pub context: BTreeMap<&'static str, String>,
}

/// What a policy allows.
#[derive(Debug, Clone, Default)]
pub struct Permissions(Vec<Statement>);

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    effect: Effect,
    action: OneOrMore,
    resource: OneOrMore,
    #[serde(default)]
    condition: BTreeMap<Operator, BTreeMap<String, OneOrMore>>,
    #[serde(rename = "Sid")]
    _sid: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
enum Effect {
    Allow,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Operator {
    StringEquals,
    StringLike,
    StringLikeIfExists,
    ArnLike,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

/// One action on one pattern of resources: the smallest piece of a policy that can be superfluous.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The action.
    pub action: String,
    /// The pattern.
    pub resource: String,
}

impl Permissions {
    /// Adds what a policy document allows; `at` is its place in the template.
    ///
    /// # Errors
    /// What is not understood.
    pub(super) fn add(&mut self, at: &str, document: &Value) -> Result<(), Mistake> {
        let statements = document.get("Statement").cloned().unwrap_or_default();
        let read = Vec::<Statement>::deserialize(statements);
        self.0.extend(read.map_err(|error| Mistake(format!("template.yaml: Resources.{at}: {error}")))?);
        Ok(())
    }

    /// What allows this, if anything does.
    #[must_use]
    pub fn grant(&self, need: &Need) -> Option<Grant> {
        self.0.iter().find_map(|statement| {
            let Effect::Allow = statement.effect;
            let action = statement.action.all().iter().find(|action| is_like(action, &need.action))?;
            let resource = statement.resource.all().iter().find(|resource| is_like(resource, &need.resource))?;
            let holds = statement.condition.iter().all(|(operator, keys)| {
                keys.iter().all(|(key, wanted)| {
                    let found = need.context.get(key.as_str());
                    let needed = *operator != Operator::StringLikeIfExists;
                    found.map_or(!needed, |found| {
                        wanted.all().iter().any(|wanted| match operator {
                            Operator::StringEquals => wanted == found,
                            Operator::ArnLike | Operator::StringLike | Operator::StringLikeIfExists => {
                                is_like(wanted, found)
                            }
                        })
                    })
                })
            });
            holds.then(|| Grant { action: action.clone(), resource: resource.clone() })
        })
    }

    /// Everything that is allowed.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        self.0.iter().flat_map(|statement| {
            statement.action.all().iter().flat_map(|action| {
                let granted = |resource: &String| Grant { action: action.clone(), resource: resource.clone() };
                statement.resource.all().iter().map(granted)
            })
        })
    }
}

/// Whether a text is like a pattern of IAM's, in which `*` is anything and `?` one character.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // The star takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pattern_takes_any_text_for_a_star_and_one_character_for_a_question_mark() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*b*", "aXbY", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("arn:aws:ecs:*:1:task/shop*", "arn:aws:ecs:eu-west-1:1:task/shop/7", true),
            ("arn:aws:ecs:*:1:task/shop*", "arn:aws:ecs:eu-west-1:2:task/shop/7", false),
        ] {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_statement_allows_its_actions_on_its_resources_under_its_conditions_and_nothing_else() {
        let mut permissions = Permissions::default();
        let statement = json!({"Effect": "Allow", "Action": ["ecs:RunTask", "ecs:StopTask"], "Resource": "arn:x/*",
            "Condition": {"ArnLike": {"ecs:cluster": "arn:c*"}}});
        permissions.add("Role", &json!({"Statement": [statement]})).unwrap();
        let need = |action: &str, resource: &str, cluster: Option<&str>| Need {
            action: action.into(),
            resource: resource.into(),
            context: cluster.map(|cluster| ("ecs:cluster", cluster.to_owned())).into_iter().collect(),
        };
        for (need, expected) in [
            (need("ecs:RunTask", "arn:x/1", Some("arn:c1")), true),
            (need("ecs:RunTask", "arn:y/1", Some("arn:c1")), false),
            (need("ecs:RunTask", "arn:x/1", Some("arn:d1")), false),
            (need("ecs:RunTask", "arn:x/1", None), false),
            (need("ecs:ListTasks", "arn:x/1", Some("arn:c1")), false),
        ] {
            assert_eq!(permissions.grant(&need).is_some(), expected, "{need:?}");
        }
        assert_eq!(permissions.grants().count(), 2);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let mut permissions = Permissions::default();
        for statement in [
            json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*"}),
            json!({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}),
            json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"NumericLessThan": {"x": "1"}}}),
        ] {
            let refused = permissions.add("Role", &json!({"Statement": [statement]})).unwrap_err();
            assert!(refused.0.starts_with("template.yaml: Resources.Role: "), "{refused}");
        }
    }
}
