//! STS: roles.

use super::{Fault, Request, Response, World};

/// What the access key's id of an assumed role begins with; the role's account follows.
const ASSUMED: &str = "ASIA";

impl World {
    /// The account that a request was signed for.
    pub(super) fn account_of(&self, request: &Request) -> String {
        let key = request.access_key();
        let account =
            key.strip_prefix(ASSUMED).filter(|rest| rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_digit()));
        account.map_or_else(|| self.account.clone(), str::to_owned)
    }

    pub(super) fn sts_operation(&mut self, name: &str, request: &Request) -> Result<Response, Fault> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let parameter = |wanted: &str| {
            let found = body.split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='));
            found.map(|text| text.replace("%3A", ":").replace("%2F", "/"))
        };
        match name {
            "GetCallerIdentity" => {
                let account = self.account_of(request);
                Ok(Response::xml(format!(
                    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::{account}:user/local</Arn>\
                     <UserId>LOCAL</UserId><Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
                )))
            }
            "AssumeRole" => {
                let role = parameter("RoleArn").unwrap_or_default();
                let account = role.split(':').nth(4).filter(|account| account.len() == 12);
                let account =
                    account.ok_or_else(|| Fault::new("ValidationError", format!("{role} is not a role's ARN")))?;
                let session = parameter("RoleSessionName").unwrap_or_default();
                let suffix = &self.key_suffix;
                let expires = self.now.plus(std::time::Duration::from_secs(3600));
                Ok(Response::xml(format!(
                    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                     <AssumedRoleUser><AssumedRoleId>AROA:{session}</AssumedRoleId><Arn>{role}/{session}</Arn></AssumedRoleUser>\
                     <Credentials><AccessKeyId>{ASSUMED}{account}{suffix}</AccessKeyId><SecretAccessKey>local</SecretAccessKey>\
                     <SessionToken>local</SessionToken><Expiration>{expires}</Expiration></Credentials>\
                     </AssumeRoleResult></AssumeRoleResponse>"
                )))
            }
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }
}
