//! SSM Parameter Store: the secrets that notifications need, and pointers to what was released, whose history is a record
//! (fact 54).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::aws::signed::{self, Question, Refused};
use crate::error::{Error, Verdict};

/// A secret's value. Printing it shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, for the request that needs it and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

impl Aws {
    async fn ssm(&self, operation: &str, input: &Value) -> Result<Value, Refused> {
        let region = self.region();
        let question = Question::json("ssm", &region, format!("AmazonSSM.{operation}"), input);
        signed::answer(self.config(), &format!("ssm:{operation}"), question).await
    }

    /// The parameters of all pages of an answer.
    async fn all_parameters(&self, operation: &str, mut input: Value) -> Result<Vec<Value>, Error> {
        let mut parameters = Vec::new();
        loop {
            let mut output = self.ssm(operation, &input).await?;
            if let Value::Array(page) = output["Parameters"].take() {
                parameters.extend(page);
            }
            match output["NextToken"].take() {
                Value::String(next) => input["NextToken"] = next.into(),
                _ => return Ok(parameters),
            }
        }
    }

    /// All parameters whose names begin with this path, by name.
    ///
    /// # Errors
    /// The calls'.
    pub async fn parameters(&self, path: &str) -> Result<BTreeMap<String, String>, Error> {
        let parameters = self.all_parameters("GetParametersByPath", json!({"Path": path, "Recursive": true})).await?;
        Ok(parameters.iter().map(|one| (text(&one["Name"]), text(&one["Value"]))).collect())
    }

    /// Writes a parameter.
    ///
    /// Safe to repeat: the same value once more is another version of the same. It is tried once: a repeated try could take effect when what
    /// it says is not so any more.
    ///
    /// # Errors
    /// The call's.
    pub async fn put_parameter(&self, name: &str, value: &str) -> Result<(), Error> {
        let region = self.region();
        let input = json!({"Name": name, "Value": value, "Type": "String", "Overwrite": true});
        let question = Question::json("ssm", &region, "AmazonSSM.PutParameter".into(), &input);
        signed::answer_once(self.config(), "ssm:PutParameter", question).await?;
        Ok(())
    }

    /// What a parameter was, newest first, itself included: its last hundred versions (fact 54).
    ///
    /// # Errors
    /// The calls'.
    pub async fn parameter_history(&self, name: &str) -> Result<Vec<String>, Error> {
        let mut versions = self.all_parameters("GetParameterHistory", json!({"Name": name})).await?;
        versions.sort_by_key(|one| std::cmp::Reverse(one["Version"].as_i64()));
        Ok(versions.iter().filter_map(|one| one["Value"].as_str()).map(str::to_owned).collect())
    }

    /// A SecureString, decrypted.
    ///
    /// # Errors
    /// The call's, or that there is no such parameter.
    pub async fn secret(&self, name: &str) -> Result<Secret, Error> {
        match self.ssm("GetParameter", &json!({"Name": name, "WithDecryption": true})).await {
            Ok(output) => Ok(Secret(text(&output["Parameter"]["Value"]).trim().to_owned())),
            Err(refused) if refused.code == "ParameterNotFound" => Err(Verdict::misconfigured(format!(
                "there is no SSM parameter `{name}`: create it as a SecureString, or correct its name in deploy.yaml"
            ))
            .into()),
            Err(refused) => Err(refused.error),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret("hush".into())), "Secret(not shown)");
    }
}
