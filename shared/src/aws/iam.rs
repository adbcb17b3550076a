//! IAM, as far as it is asked beforehand: whether tasks can have the roles that their definitions name.

use aws_config::SdkConfig;

use crate::aws::{Aws, Place, signed};
use crate::error::Error;
use crate::text;

/// IAM as it is seen from one place.
#[derive(Debug, Clone)]
pub struct Iam {
    config: SdkConfig,
    region: String,
}

/// A task's role or execution role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It is there, and ECS tasks may have it.
    Good,
    /// It is there, and trusts others only.
    TrustsOthers,
    /// There is none of this name.
    Missing,
    /// No policy of whoever asks allows it: theirs allow `iam:GetRole` for the roles that they may pass, and for no others.
    Unlisted,
}

/// What ECS tasks are called in a role's trust policy.
const TASKS: &str = "ecs-tasks.amazonaws.com";

impl Aws {
    /// IAM as it is seen from `place`.
    pub async fn iam(&self, place: &Place) -> Iam {
        Iam { config: self.config_at(place).await, region: place.region.clone() }
    }
}

impl Iam {
    /// What a role is to a task; `role` is its ARN, or its name alone.
    ///
    /// # Errors
    /// The call's. Why it was refused is told apart from "no policy allows it": an organization's policy may deny this question,
    /// which says nothing of the role.
    pub async fn role(&self, role: &str) -> Result<Role, Error> {
        // A name has none but letters, digits and `+=,.@-_`.
        let form = format!("Action=GetRole&Version=2010-05-08&RoleName={}", text::encoded(name(role)));
        let reply = signed::ask(&self.config, signed::Question::form("iam", &self.region, form)).await;
        let reply = reply.map_err(|why| why.into_error("iam:GetRole"))?;
        understood(reply.status, &reply.body)
    }
}

/// The last part of a role's ARN.
fn name(role: &str) -> &str {
    role.rsplit('/').next().unwrap_or(role)
}

/// What IAM's answer says of the role.
fn understood(status: u16, answer: &str) -> Result<Role, Error> {
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    };
    let (code, said) = (element("Code").unwrap_or("no code"), element("Message").unwrap_or("no message"));
    match status {
        // The document is encoded for addresses, which leaves this name as it is.
        200 => match element("AssumeRolePolicyDocument") {
            Some(trust) if trust.contains(TASKS) => Ok(Role::Good),
            Some(_) => Ok(Role::TrustsOthers),
            None => Err(Error::Again("iam:GetRole: the answer could not be read".into())),
        },
        404 if code == "NoSuchEntity" => Ok(Role::Missing),
        403 if said.contains("no identity-based policy allows") => Ok(Role::Unlisted),
        _ => Err(Error::Again(format!(
            "iam:GetRole: {}",
            text::fit(text::plain(&format!("{code}: {said}")).trim(), 300)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_understood_and_what_says_nothing_of_the_role_is_no_answer() {
        let trusts = |who: &str| {
            format!(
                "<GetRoleResponse><Role><Description>ecs-tasks.amazonaws.com</Description><AssumeRolePolicyDocument>%7B%22Service%22%3A%22{who}%22%7D</AssumeRolePolicyDocument></Role></GetRoleResponse>"
            )
        };
        let error = |code: &str, said: &str| {
            format!("<ErrorResponse><Error><Code>{code}</Code><Message>{said}</Message></Error></ErrorResponse>")
        };
        for (status, answer, expected) in [
            (200, trusts("ecs-tasks.amazonaws.com"), Some(Role::Good)),
            (200, trusts("ec2.amazonaws.com"), Some(Role::TrustsOthers)),
            (200, String::new(), None),
            (404, error("NoSuchEntity", "The role with name x cannot be found."), Some(Role::Missing)),
            (
                403,
                error(
                    "AccessDenied",
                    "f is not authorized to perform: iam:GetRole on resource: role x because no identity-based policy allows the iam:GetRole action",
                ),
                Some(Role::Unlisted),
            ),
            (
                403,
                error(
                    "AccessDenied",
                    "f is not authorized to perform: iam:GetRole with an explicit deny in a service control policy",
                ),
                None,
            ),
            (400, error("Throttling", "Rate exceeded"), None),
            (503, String::new(), None),
        ] {
            assert_eq!(understood(status, &answer).ok(), expected, "{status} {answer}");
        }
    }

    #[test]
    fn a_role_is_asked_for_by_its_name_whatever_its_path() {
        assert_eq!(name("arn:aws:iam::111122223333:role/teams/shop/tasks"), "tasks");
        assert_eq!(name("tasks"), "tasks");
    }
}
