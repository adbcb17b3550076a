//! SSM Parameter Store: the secrets that notifications need, and pointers to what was released, whose history is a record
//! (fact 54).

use std::collections::BTreeMap;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::ParameterType;

use crate::aws::{Aws, allowance};
use crate::error::{Error, Verdict, code, failure};

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
    fn ssm(&self) -> Client {
        let config = aws_sdk_ssm::config::Builder::from(self.config()).retry_partition(allowance()).build();
        Client::from_conf(config)
    }

    /// All parameters whose names begin with this path, by name.
    ///
    /// # Errors
    /// The calls'.
    pub async fn parameters(&self, path: &str) -> Result<BTreeMap<String, String>, Error> {
        let client = self.ssm();
        let mut parameters = BTreeMap::new();
        let mut next = None;
        loop {
            let call = client.get_parameters_by_path().path(path).recursive(true).set_next_token(next);
            let output = call.send().await.map_err(|error| failure("ssm:GetParametersByPath", &error))?;
            for mut one in output.parameters.unwrap_or_default() {
                parameters.insert(one.name.take().unwrap_or_default(), one.value.take().unwrap_or_default());
            }
            next = output.next_token;
            if next.is_none() {
                return Ok(parameters);
            }
        }
    }

    /// Writes a parameter.
    ///
    /// Safe to repeat: the same value once more is another version of the same.
    ///
    /// # Errors
    /// The call's.
    pub async fn put_parameter(&self, name: &str, value: &str) -> Result<(), Error> {
        let call = self.ssm().put_parameter().name(name).value(value).r#type(ParameterType::String).overwrite(true);
        call.send().await.map(drop).map_err(|error| failure("ssm:PutParameter", &error))
    }

    /// What a parameter was, newest first, itself included: its last hundred versions (fact 54).
    ///
    /// # Errors
    /// The calls'.
    pub async fn parameter_history(&self, name: &str) -> Result<Vec<String>, Error> {
        let client = self.ssm();
        let mut versions = Vec::new();
        let mut next = None;
        loop {
            let call = client.get_parameter_history().name(name).set_next_token(next);
            let output = call.send().await.map_err(|error| failure("ssm:GetParameterHistory", &error))?;
            versions.extend(output.parameters.unwrap_or_default().into_iter().map(|one| (one.version, one.value)));
            next = output.next_token;
            if next.is_none() {
                break;
            }
        }
        versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        Ok(versions.into_iter().filter_map(|(_, value)| value).collect())
    }

    /// A SecureString, decrypted.
    ///
    /// # Errors
    /// The call's, or that there is no such parameter.
    pub async fn secret(&self, name: &str) -> Result<Secret, Error> {
        let call = self.ssm().get_parameter().name(name).with_decryption(true);
        match call.send().await {
            Ok(output) => {
                let value = output.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
                Ok(Secret(value.trim().to_owned()))
            }
            Err(error) if code(&error) == "ParameterNotFound" => Err(Verdict::misconfigured(format!(
                "there is no SSM parameter `{name}`: create it as a SecureString, or correct its name in deploy.yaml"
            ))
            .into()),
            Err(error) => Err(failure("ssm:GetParameter", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret("hush".into())), "Secret(not shown)");
    }
}
