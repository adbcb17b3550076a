//! ECR: whether an image is still there.

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::aws::signed::{self, Question};
use crate::error::Error;

/// An image in ECR, from what a task definition calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The registry's account.
    pub account: String,
    /// Its Region.
    pub region: String,
    /// The repository.
    pub repository: String,
    /// The tag, or the digest.
    pub version: Version,
}

/// How an image is named within its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// By what it is.
    Digest(String),
    /// By a name that can be given to another one.
    Tag(String),
}

/// What the names of ECR's hosts end with, by partition.
const ENDINGS: [&str; 9] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "csp.hci.ic.gov",
    "cloud.adc-e.uk",
];

impl Image {
    /// Reads `111122223333.dkr.ecr.us-east-1.amazonaws.com/shop@sha256:...`, or the same by the name that has IPv6 addresses,
    /// `111122223333.dkr-ecr.us-east-1.on.aws/shop`; `None` where it is not in ECR.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        let (host, rest) = name.split_once('/')?;
        let (account, host) = host.split_once(".dkr.ecr.").or_else(|| host.split_once(".dkr-ecr."))?;
        let (region, domain) = host.split_once('.')?;
        let is_aws = ENDINGS.contains(&domain);
        // A Region becomes a part of the address that is asked, with a signature: nothing else may stand there.
        let is_region = region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_aws || !is_region || account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (repository, version) = match rest.split_once('@') {
            Some((repository, digest)) => {
                let repository = repository.split_once(':').map_or(repository, |(repository, _)| repository);
                (repository, Version::Digest(digest.to_owned()))
            }
            None => {
                let (repository, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
                (repository, Version::Tag(tag.to_owned()))
            }
        };
        Some(Self { account: account.into(), region: region.into(), repository: repository.into(), version })
    }
}

impl Aws {
    /// Whether an image is there.
    ///
    /// # Errors
    /// The call's.
    pub async fn has_image(&self, image: &Image) -> Result<bool, Error> {
        let id = match &image.version {
            Version::Digest(digest) => json!({"imageDigest": digest}),
            Version::Tag(tag) => json!({"imageTag": tag}),
        };
        let input = json!({"registryId": image.account, "repositoryName": image.repository, "imageIds": [id]});
        let target = "AmazonEC2ContainerRegistry_V20150921.BatchGetImage".to_owned();
        let question = Question { host: "api.ecr", ..Question::json("ecr", &image.region, target, &input) };
        match signed::answer(self.config(), "ecr:BatchGetImage", question).await {
            Ok(answer) => {
                let gone = |one: &Value| one["failureCode"] == "ImageNotFound";
                Ok(!answer["failures"].as_array().is_some_and(|failures| failures.iter().any(gone)))
            }
            Err(refused) if refused.code == "RepositoryNotFoundException" => Ok(false),
            Err(refused) => Err(refused.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_ecrs_is_told_from_others() {
        let host = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";
        for (name, repository, version) in [
            ("shop@sha256:0a", "shop", Version::Digest("sha256:0a".into())),
            ("team/shop:1.0", "team/shop", Version::Tag("1.0".into())),
            ("shop:1.0@sha256:0a", "shop", Version::Digest("sha256:0a".into())),
            ("shop", "shop", Version::Tag("latest".into())),
        ] {
            let image = Image::read(&format!("{host}/{name}")).unwrap();
            assert_eq!(
                (image.region.as_str(), image.repository.as_str(), image.version),
                ("eu-west-1", repository, version)
            );
        }
        let dual = Image::read("111122223333.dkr-ecr.eu-west-1.on.aws/shop:1.0").unwrap();
        assert_eq!((dual.region.as_str(), dual.repository.as_str()), ("eu-west-1", "shop"));
        assert!(Image::read("111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu/shop:1.0").is_some());
        for other in [
            "registry.example/shop:1.0",
            "shop",
            "shop:1.0",
            // A signed request goes to an address that has the Region in it.
            "111122223333.dkr.ecr.x.evil.example?.amazonaws.com/shop:1.0",
            "111122223333.dkr.ecr.eu-west-1.evil.example/shop:1.0",
            "1.dkr.ecr.eu-west-1.amazonaws.com/shop:1.0",
        ] {
            assert_eq!(Image::read(other), None, "{other}");
        }
    }
}
