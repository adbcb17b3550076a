//! S3: the pipeline's artifacts, readable with a job's own credentials, and with the role of the stack's functions.

use std::collections::BTreeMap;

use super::{Fault, Request, Response, World};

/// The access key's id in a job's `artifactCredentials`.
pub(super) const ARTIFACT_KEY: &str = "ASIAARTIFACTCREDENTI";

/// The objects, by bucket and key.
#[derive(Debug, Default)]
pub(super) struct S3 {
    objects: BTreeMap<(String, String), Vec<u8>>,
}

impl S3 {
    pub(super) fn put(&mut self, bucket: &str, key: &str, content: Vec<u8>) {
        self.objects.insert((bucket.into(), key.into()), content);
    }
}

impl World {
    pub(super) fn s3_operation(&mut self, name: &str, request: &Request) -> Result<Response, Fault> {
        if let Some(unknown) = request.query.keys().find(|name| *name != "x-id") {
            return Err(Fault::unknown(format!("the query parameter `{unknown}`")));
        }
        // A function's own was looked at already.
        if request.access_key() != ARTIFACT_KEY && self.lambda.function(request.access_key()).is_none() {
            return Err(Fault { status: 403, ..Fault::new("AccessDenied", "Access Denied") });
        }
        let (bucket, key) = request.path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let found = self.s3.objects.get(&(bucket.to_owned(), key.to_owned()));
        let content = found
            .ok_or_else(|| Fault { status: 404, ..Fault::new("NoSuchKey", "The specified key does not exist.") })?;
        let size = content.len();
        let range = request.headers.get("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?.min(size.saturating_sub(1))))
        });
        let mut response = Response { status: 200, headers: Vec::new(), body: Vec::new() };
        match (name, range) {
            ("HeadObject", _) => response.headers.push(("content-length".into(), size.to_string())),
            (_, Some((first, last))) if first <= last => {
                response.status = 206;
                response.headers.push(("content-range".into(), format!("bytes {first}-{last}/{size}")));
                response.body = content[first..=last].to_vec();
            }
            (_, Some(_)) => {
                return Err(Fault { status: 416, ..Fault::new("InvalidRange", "The range is not satisfiable") });
            }
            (_, None) => response.body.clone_from(content),
        }
        Ok(response)
    }
}
