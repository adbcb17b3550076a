//! S3: small objects of Cutover's own, each written once or only over what was read.
//!
//! Invariants: no write here replaces what its caller has not seen, so that each may be repeated; S3 shows a write to
//! every read that begins after it, lists included. Who may not list the bucket (`s3:ListBucket`) is told "forbidden" of an object
//! that is not there, and not "no such key": a role that reads objects that may be missing needs both.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;

use crate::aws::{Aws, allowance};
use crate::error::{Error, Verdict, code, failure};
use crate::time::Time;

/// The largest object that is read as a whole, in bytes.
pub const LARGEST_OBJECT: usize = 1024 * 1024;

/// A bucket of the function's own account and Region.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

/// An object's content, and what it is recognized by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub body: Vec<u8>,
    /// Its ETag: another content has another one, the same content may have the same.
    pub etag: String,
}

/// How long a try of a copy may take.
const COPIED: Duration = Duration::from_secs(60);

/// What became of a write that has a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was done; the object has this ETag now.
    Done(String),
    /// There is another content: somebody else's, or this very one, whose reply was lost.
    Refused,
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written last.
    pub modified: Time,
}

impl Aws {
    /// A bucket, with the function's own role.
    #[must_use]
    pub fn bucket(&self, name: &str) -> Bucket {
        let config = aws_sdk_s3::config::Builder::from(self.config()).retry_partition(allowance()).build();
        Bucket { client: Client::from_conf(config), name: name.to_owned() }
    }
}

impl Bucket {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object with this key; `None` when there is none.
    ///
    /// # Errors
    /// The call's, or an object that is larger than [`LARGEST_OBJECT`].
    pub async fn get(&self, key: &str) -> Result<Option<Object>, Error> {
        let got = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(got) => got,
            Err(error) if code(&error) == "NoSuchKey" => return Ok(None),
            Err(error) => return Err(failure(&self.call("GetObject", key), &error)),
        };
        let size = got.content_length.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        if size > LARGEST_OBJECT {
            let why = format!("{} has {size} bytes: more than the {LARGEST_OBJECT} that are read", self.at(key));
            return Err(Verdict::misconfigured(why).into());
        }
        let etag = got.e_tag.unwrap_or_default();
        let body = got.body.collect().await;
        let body = body.map_err(|error| Error::Again(format!("{}: {error}", self.call("GetObject", key))))?;
        Ok(Some(Object { body: body.to_vec(), etag }))
    }

    /// Writes an object whose key is not taken yet (`If-None-Match: *`).
    ///
    /// Safe to repeat: the second try is refused, and whoever must know whose content is there reads it.
    ///
    /// # Errors
    /// The call's. S3's 409, that another write of this key is under way, is one to try again.
    pub async fn create(&self, key: &str, body: Vec<u8>) -> Result<Written, Error> {
        self.put(key, body, Condition::Absent).await
    }

    /// Writes an object over the content that was read with this ETag (`If-Match`).
    ///
    /// Safe to repeat: once the content is another, the second try is refused.
    ///
    /// # Errors
    /// The call's. S3's 409, that another write of this key is under way, is one to try again.
    pub async fn replace(&self, key: &str, body: Vec<u8>, etag: &str) -> Result<Written, Error> {
        self.put(key, body, Condition::Is(etag)).await
    }

    async fn put(&self, key: &str, body: Vec<u8>, condition: Condition<'_>) -> Result<Written, Error> {
        let call = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(body));
        let call = call.content_type("application/json");
        let call = match condition {
            Condition::Absent => call.if_none_match("*"),
            Condition::Is(etag) => call.if_match(etag),
        };
        match call.send().await {
            Ok(put) => Ok(Written::Done(put.e_tag.unwrap_or_default())),
            // What was to be replaced may be gone, too.
            Err(error) if matches!(code(&error), "PreconditionFailed" | "NoSuchKey") => Ok(Written::Refused),
            Err(error) if code(&error) == "ConditionalRequestConflict" => {
                Err(Error::Again(format!("{}: another write of it is under way", self.call("PutObject", key))))
            }
            Err(error) => Err(failure(&self.call("PutObject", key), &error)),
        }
    }

    /// Copies an object within the bucket, over whatever has the other key; false when there is none to be copied.
    ///
    /// Safe to repeat: what is copied does not change, so that a second copy is the same.
    ///
    /// # Errors
    /// The call's.
    pub async fn copy(&self, from: &str, to: &str) -> Result<bool, Error> {
        let encode = |byte: u8| match byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        let source: String = format!("{}/{from}", self.name).bytes().map(encode).collect();
        // It is answered when all is copied: of a large one after more than other calls may take.
        let patience = TimeoutConfig::builder().operation_attempt_timeout(COPIED).build();
        let patience = aws_sdk_s3::config::Builder::new().timeout_config(patience);
        let call = self.client.copy_object().bucket(&self.name).key(to).copy_source(source);
        match call.customize().config_override(patience).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == "NoSuchKey" => Ok(false),
            Err(error) => Err(failure(&self.call("CopyObject", from), &error)),
        }
    }

    /// The objects whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// The calls'.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let call = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
            let page = call.set_continuation_token(token).send().await;
            let page = page.map_err(|error| failure(&self.call("ListObjectsV2", prefix), &error))?;
            found.extend(page.contents.unwrap_or_default().into_iter().map(|object| Listed {
                key: object.key.unwrap_or_default(),
                size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                modified: object.last_modified.map(Time::from).unwrap_or_default(),
            }));
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Deletes an object; one that is not there is deleted already, so that it may be repeated.
    ///
    /// # Errors
    /// The call's.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.client.delete_object().bucket(&self.name).key(key).send().await;
        deleted.map(drop).map_err(|error| failure(&self.call("DeleteObject", key), &error))
    }

    /// Where an object is, as a person names it.
    #[must_use]
    pub fn at(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    fn call(&self, name: &str, key: &str) -> String {
        format!("s3:{name} of {}", self.at(key))
    }
}

/// What must be so for a write to be done.
enum Condition<'a> {
    /// There is no object of this key.
    Absent,
    /// The object has this ETag.
    Is(&'a str),
}
