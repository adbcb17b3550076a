//! SSM Parameter Store: the secrets that notifications need.

use aws_sdk_ssm::Client;

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
    /// A SecureString, decrypted.
    ///
    /// # Errors
    /// The call's, or that there is no such parameter.
    pub async fn secret(&self, name: &str) -> Result<Secret, Error> {
        let config = aws_sdk_ssm::config::Builder::from(self.config()).retry_partition(allowance()).build();
        let call = Client::from_conf(config).get_parameter().name(name).with_decryption(true);
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
