//! S3: the pipeline's artifacts, and what functions keep.
//!
//! Invariants: a write is shown to every read after it, lists included; a write with a condition that does not hold changes nothing;
//! a job's own credentials read, and do nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use shared::Time;

use super::{Fault, Request, Response, World, decoded};

/// The access key's id in a job's `artifactCredentials`.
pub(super) const ARTIFACT_KEY: &str = "ASIAARTIFACTCREDENTI";

/// How many objects a page of a list has at the most.
const PAGE: usize = 1000;

/// The objects, by bucket and key.
#[derive(Debug, Default)]
pub(super) struct S3 {
    objects: BTreeMap<(String, String), Object>,
    /// How often an object was put that the next run on this machine needs.
    pub(super) kept_changes: u64,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    content: Vec<u8>,
    modified: Time,
}

impl Object {
    /// What it is recognized by: the same content has the same one, as without KMS.
    fn etag(&self) -> String {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &self.content).hash(&mut hasher);
            hasher.finish()
        };
        format!("\"{:016x}{:016x}\"", half(0), half(1))
    }

    fn headers(&self) -> Vec<(String, String)> {
        let modified = aws_smithy_types::DateTime::from(self.modified);
        let modified = modified.fmt(aws_smithy_types::date_time::Format::HttpDate).unwrap_or_default();
        vec![("etag".into(), self.etag()), ("last-modified".into(), modified)]
    }
}

impl S3 {
    pub(super) fn put(&mut self, bucket: &str, key: &str, content: Vec<u8>, now: Time) {
        self.kept_changes += u64::from(key.starts_with(shared::record::FOLDER));
        self.objects.insert((bucket.into(), key.into()), Object { content, modified: now });
    }

    /// The objects whose keys begin with this.
    pub(super) fn all(&self, prefix: &str) -> Vec<super::KeptObject> {
        let wanted = self.objects.iter().filter(|((_, key), _)| key.starts_with(prefix));
        let kept = wanted.map(|((bucket, key), object)| super::KeptObject {
            bucket: bucket.clone(),
            key: key.clone(),
            modified: object.modified,
            content: object.content.clone(),
        });
        kept.collect()
    }

    /// An object's content and its ETag.
    pub(super) fn content(&self, bucket: &str, key: &str) -> Option<(Vec<u8>, String)> {
        let object = self.objects.get(&(bucket.to_owned(), key.to_owned()))?;
        Some((object.content.clone(), object.etag().trim_matches('"').to_owned()))
    }

    fn get(&self, place: &(String, String)) -> Result<&Object, Fault> {
        self.objects.get(place).ok_or_else(missing)
    }
}

fn missing() -> Fault {
    Fault { status: 404, ..Fault::new("NoSuchKey", "The specified key does not exist.") }
}

fn denied() -> Fault {
    Fault { status: 403, ..Fault::new("AccessDenied", "Access Denied") }
}

fn no_body(status: u16, headers: Vec<(String, String)>) -> Response {
    Response { status, headers, body: Vec::new() }
}

impl World {
    /// The keys of a bucket's objects that begin so.
    #[must_use]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let own = self.s3.objects.keys().filter(|(at, key)| at == bucket && key.starts_with(prefix));
        own.map(|(_, key)| key.clone()).collect()
    }

    pub(super) fn s3_operation(&mut self, name: &str, request: &Request) -> Result<Response, Fault> {
        let known = ["x-id", "list-type", "prefix", "max-keys", "continuation-token", "start-after", "encoding-type"];
        if let Some(unknown) = request.query.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Fault::unknown(format!("the query parameter `{unknown}`")));
        }
        let reads = matches!(name, "GetObject" | "HeadObject");
        // A function's own was looked at already.
        if self.account_of(request) != self.account || (request.access_key() == ARTIFACT_KEY && !reads) {
            return Err(denied());
        }
        let path = request.path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let place = (bucket.to_owned(), key.to_owned());
        match name {
            "ListObjectsV2" => self.list_objects(bucket, request),
            "PutObject" => self.put_object(place, request),
            "CopyObject" => self.copy_object(place, request),
            "DeleteObject" => {
                self.s3.objects.remove(&place);
                Ok(no_body(204, Vec::new()))
            }
            // "No such key" is for those who may list the bucket; a function that may not learns nothing of what is not there.
            "GetObject" | "HeadObject" if !self.s3.objects.contains_key(&place) && !self.may_list(bucket, request) => {
                Err(denied())
            }
            "HeadObject" => {
                let object = self.s3.get(&place)?;
                let mut headers = object.headers();
                headers.push(("content-length".into(), object.content.len().to_string()));
                Ok(no_body(200, headers))
            }
            "GetObject" => self.get_object(&place, request),
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }

    fn may_list(&mut self, bucket: &str, request: &Request) -> bool {
        let Some(function) = self.lambda.function(request.access_key()) else { return true };
        let need = super::iam::need("s3:ListBucket", format!("arn:aws:s3:::{bucket}"));
        let may = function.permissions.grant(&need).is_some();
        // It is noted that this was needed.
        may && self.allow(request.access_key(), &need).is_ok()
    }

    fn get_object(&self, place: &(String, String), request: &Request) -> Result<Response, Fault> {
        let object = self.s3.get(place)?;
        let size = object.content.len();
        let range = request.headers.get("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?.min(size.saturating_sub(1))))
        });
        let mut response = no_body(200, object.headers());
        match range {
            Some((first, last)) if first <= last => {
                response.status = 206;
                response.headers.push(("content-range".into(), format!("bytes {first}-{last}/{size}")));
                response.body = object.content[first..=last].to_vec();
            }
            Some(_) => {
                return Err(Fault { status: 416, ..Fault::new("InvalidRange", "The range is not satisfiable") });
            }
            None => response.body.clone_from(&object.content),
        }
        Ok(response)
    }

    fn put_object(&mut self, place: (String, String), request: &Request) -> Result<Response, Fault> {
        if request.headers.get("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked")) {
            return Err(Fault::unknown("an object in chunks"));
        }
        let failed = || {
            let why = "At least one of the pre-conditions you specified did not hold";
            Fault { status: 412, ..Fault::new("PreconditionFailed", why) }
        };
        let is = self.s3.objects.get(&place);
        match (request.headers.get("if-none-match").map(String::as_str), request.headers.get("if-match")) {
            (None, None) => {}
            (Some("*"), None) if is.is_none() => {}
            (Some("*"), None) => return Err(failed()),
            (None, Some(etag)) => match is {
                None => return Err(missing()),
                Some(object) if object.etag().trim_matches('"') == etag.trim_matches('"') => {}
                Some(_) => return Err(failed()),
            },
            _ => return Err(Fault { status: 501, ..Fault::new("NotImplemented", "these conditions together") }),
        }
        let object = Object { content: request.body.clone(), modified: self.now };
        let headers = object.headers();
        self.s3.objects.insert(place, object);
        Ok(no_body(200, headers))
    }

    fn copy_object(&mut self, place: (String, String), request: &Request) -> Result<Response, Fault> {
        let source = decoded(request.headers.get("x-amz-copy-source").map(String::as_str).unwrap_or_default());
        let (bucket, key) = source.trim_start_matches('/').split_once('/').unwrap_or_default();
        let content = self.s3.get(&(bucket.to_owned(), key.to_owned()))?.content.clone();
        let object = Object { content, modified: self.now };
        let (etag, modified) = (escaped(&object.etag()), object.modified);
        self.s3.objects.insert(place, object);
        let body = format!(
            "<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LastModified>{modified}</LastModified>\
             <ETag>{etag}</ETag></CopyObjectResult>"
        );
        Ok(Response::xml(body))
    }

    fn list_objects(&self, bucket: &str, request: &Request) -> Result<Response, Fault> {
        let parameter = |name: &str| request.query.get(name).map(String::as_str);
        if parameter("list-type") != Some("2") {
            return Err(Fault::unknown("a list of another type than 2"));
        }
        let prefix = parameter("prefix").unwrap_or_default();
        let most = parameter("max-keys").and_then(|most| most.parse().ok()).unwrap_or(PAGE).min(PAGE);
        // A token is the last key of the page before, here.
        let after = parameter("continuation-token").or(parameter("start-after")).unwrap_or_default();
        let encodes = parameter("encoding-type") == Some("url");
        let shown = |key: &str| if encodes { encoded(key) } else { escaped(key) };
        let wanted = |(place, _): &(&(String, String), &Object)| {
            place.0 == bucket && place.1.starts_with(prefix) && place.1.as_str() > after
        };
        let mut found = self.s3.objects.iter().filter(wanted);
        let mut body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Name>{bucket}</Name><Prefix>{}</Prefix><MaxKeys>{most}</MaxKeys>",
            shown(prefix)
        );
        if encodes {
            body.push_str("<EncodingType>url</EncodingType>");
        }
        let (mut count, mut last) = (0, "");
        for ((_, key), object) in found.by_ref().take(most) {
            let _ = write!(
                body,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                shown(key),
                object.modified,
                escaped(&object.etag()),
                object.content.len()
            );
            (count, last) = (count + 1, key.as_str());
        }
        let more = found.next().is_some();
        let _ = write!(body, "<KeyCount>{count}</KeyCount><IsTruncated>{more}</IsTruncated>");
        if more {
            let _ = write!(body, "<NextContinuationToken>{}</NextContinuationToken>", escaped(last));
        }
        body.push_str("</ListBucketResult>");
        Ok(Response::xml(body))
    }
}

/// Text within XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Percent-encoded, for who asks for keys that XML could not carry.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
