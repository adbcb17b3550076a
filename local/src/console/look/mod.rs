//! What the console shows, as AWS answers it: each file asks the operations of one topic and makes of the answers what a view
//! needs, and no more.

pub(super) mod log;
pub(super) mod pipeline;
pub(super) mod records;
pub(super) mod services;
pub(super) mod standing;
pub(super) mod workers;

use serde::Deserialize;
use serde_json::Value;
use shared::{Manifest, Time};

use self::pipeline::Pipeline;
use self::records::{Known, Recorded};
use self::services::Row;
use self::workers::Worker;
use super::aws::{Aws, Refused};
use super::said::Said;

/// Everything that a page shows but the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) application: Said,
    /// Their names, in the manifest's order.
    pub(super) environments: Vec<String>,
    pub(super) pipeline: Result<Pipeline, Refused>,
    pub(super) services: Vec<Row>,
    pub(super) workers: Result<Vec<Worker>, Refused>,
    pub(super) records: Result<Vec<Recorded>, Refused>,
}

/// What the stack calls its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) pipeline: &'a str,
    /// The bucket of what is kept.
    pub(super) bucket: &'a str,
}

/// Looks at everything; `known` is what was read of records.
pub(super) fn look(aws: &Aws, manifest: &Manifest, names: Names<'_>, release: Option<&str>, known: &mut Known) -> Seen {
    Seen {
        application: manifest.application.as_str().into(),
        environments: manifest.environments.keys().cloned().collect(),
        pipeline: pipeline::look(aws, names.pipeline, release),
        services: services::look(aws, manifest),
        workers: workers::look(aws, manifest, names.bucket),
        records: records::look(aws, names.bucket, known),
    }
}

/// The name at the end of an ARN.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// A timestamp of AWS's JSON protocols: seconds since the epoch, with fractions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(transparent)]
struct Stamp(f64);

impl From<Stamp> for Time {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest number that there is"
    )]
    fn from(Stamp(seconds): Stamp) -> Self {
        Self::from_millis((seconds * 1000.0).round() as u64)
    }
}

/// The tag, or the digest, at the end of an image's name.
fn version(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once('@').or_else(|| name.split_once(':')).map_or(name, |(_, version)| version)
}

/// The image of a container in a task definition as `DescribeTaskDefinition` answers it; of the first one when it has no such
/// container.
fn image<'a>(definition: &'a Value, container: &str) -> Option<&'a str> {
    let containers = definition.pointer("/taskDefinition/containerDefinitions")?.as_array()?;
    let named = containers.iter().find(|one| one["name"].as_str() == Some(container));
    named.or(containers.first())?["image"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_told_by_its_tag_or_digest() {
        for (image, said) in [
            ("registry.example/shop:1.0", "1.0"),
            ("localhost:5000/shop", "shop"),
            ("localhost:5000/shop:2", "2"),
            ("shop@sha256:abc", "sha256:abc"),
        ] {
            assert_eq!(version(image), said);
        }
    }
}
