//! The input artifact: a zip in S3, of which only what is needed is fetched.
//!
//! Invariant: memory is bounded by what is read, never by the artifact's size. The zip's directory and the wanted entry
//! are read by ranges; a file that is larger than any manifest is refused.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials as SdkCredentials;
use serde::Deserialize;
use tracing::info;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::aws::{Aws, allowance};
use crate::error::{Error, Verdict, code, failure};
use crate::job::{ArtifactLocation, Job};
use crate::manifest::{self, Manifest};
use crate::yaml::Mistake;

/// The bytes of one read: a manifest's whole artifact is usually smaller.
pub const BLOCK: u64 = 256 * 1024;

/// The largest file that is read from an artifact, unpacked.
const LARGEST_FILE: u64 = 1024 * 1024;

/// How many blocks one file may take: the largest file, and a directory of about 200,000 entries.
const MOST_BLOCKS: usize = 96;

/// CodeBuild's name for the file that says which image it pushed.
const IMAGE_DETAIL: &str = "imageDetail.json";

/// What a release is made of.
#[derive(Debug, Clone)]
pub struct Content {
    /// The manifest.
    pub manifest: Manifest,
    /// The release's image; without one, task definitions are used as they are.
    pub image: Option<String>,
    /// What manifest and image are recognized by ([`record::content`](crate::record::content)).
    pub hash: String,
}

/// Reads the manifest (called `file` there, `deploy.yaml` unless given) and the image from the job's input artifacts. Where it was found good
/// before, by an earlier job of the action or by the release that is gone back to, only its shape counts ([`Manifest::read_shape`]).
///
/// # Errors
/// No artifact, no manifest in it, or mistakes in it: each says what to do.
pub async fn read(aws: &Aws, job: &Job, file: Option<&str>) -> Result<Content, Error> {
    let file = file.unwrap_or(manifest::FILE);
    let Some(credentials) = &job.credentials else {
        return Err(no_manifest(file, "this job has no artifact credentials").into());
    };
    let credentials = SdkCredentials::new(
        &credentials.access_key_id,
        &credentials.secret_access_key,
        Some(credentials.session_token.clone()).filter(|token| !token.is_empty()),
        None,
        "the job's artifact credentials",
    );
    let config = aws_sdk_s3::config::Builder::from(aws.config()).credentials_provider(credentials);
    let goes_back = job.release().is_ok_and(|release| aws.settings().goes_back(&release.pipeline));
    let goes_on = job.continuation.is_some() || goes_back;
    let read = if goes_on { Manifest::read_shape } else { Manifest::read };
    Ok(read_from(&client(config), &job.artifacts, file, read).await??)
}

/// The same from these artifacts, with the function's own role, for a function that has no job; `None` when there is no manifest in them that
/// `read` takes: [`Manifest::read`], or [`Manifest::read_shape`] of one with which something may have been begun.
///
/// # Errors
/// An artifact that cannot be read.
pub async fn read_as_self(
    aws: &Aws,
    artifacts: &[ArtifactLocation],
    file: Option<&str>,
    read: fn(&str, &str) -> Result<Manifest, Mistake>,
) -> Result<Option<Content>, Error> {
    let file = file.unwrap_or(manifest::FILE);
    Ok(read_from(&client(aws.config().into()), artifacts, file, read).await?.ok())
}

/// A file of these artifacts, with the function's own role; `None` when there is none.
///
/// # Errors
/// An artifact that cannot be read.
pub async fn text_as_self(aws: &Aws, artifacts: &[ArtifactLocation], file: &str) -> Result<Option<String>, Error> {
    let client = client(aws.config().into());
    for location in artifacts {
        if let Some(text) = Object::open(&client, location).await?.file(file).await? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn client(config: aws_sdk_s3::config::Builder) -> Client {
    Client::from_conf(config.retry_partition(allowance()).build())
}

/// The content, or what is wrong with it.
async fn read_from(
    client: &Client,
    artifacts: &[ArtifactLocation],
    file: &str,
    read: fn(&str, &str) -> Result<Manifest, Mistake>,
) -> Result<Result<Content, Verdict>, Error> {
    let mut image = None;
    let mut manifest = None;
    for location in artifacts {
        let mut object = Object::open(client, location).await?;
        if manifest.is_none() {
            manifest = object.file(file).await?;
        }
        if image.is_none() {
            image = object.file(IMAGE_DETAIL).await?;
        }
    }
    let Some(content) = manifest else {
        let names: Vec<_> = artifacts.iter().map(|location| location.name.as_str()).collect();
        let looked = match names.as_slice() {
            [] => "the action has no input artifact".to_owned(),
            _ => format!("it is not in {}", names.join(", ")),
        };
        return Ok(Err(no_manifest(file, &looked)));
    };
    let manifest = read(file, &content).map_err(|mistake| Verdict::misconfigured(format!("{mistake}.")));
    let image = image.map(|text| read_image(&text)).transpose();
    Ok(manifest.and_then(|manifest| {
        let image = image?;
        let hash = crate::record::content(&content, image.as_deref());
        Ok(Content { manifest, image, hash })
    }))
}

fn no_manifest(file: &str, why: &str) -> Verdict {
    Verdict::misconfigured(format!(
        "There is no `{file}` for this action: {why}. Let the build put `{file}` and `{IMAGE_DETAIL}` at the top of its \
         output artifact, and name that as the action's input."
    ))
}

fn read_image(text: &str) -> Result<String, Verdict> {
    #[derive(Deserialize)]
    struct ImageDetail {
        #[serde(rename = "ImageURI")]
        image: String,
    }
    let detail: ImageDetail = serde_json::from_str(text).map_err(|error| {
        Verdict::misconfigured(format!(
            r#"{IMAGE_DETAIL}: {error}. It should say {{"ImageURI": "registry/name@sha256:..."}}."#
        ))
    })?;
    Ok(detail.image)
}

/// A zip in S3, as far as it has been read.
struct Object<'a> {
    client: &'a Client,
    location: &'a ArtifactLocation,
    zip: Zip,
}

impl<'a> Object<'a> {
    async fn open(client: &'a Client, location: &'a ArtifactLocation) -> Result<Self, Error> {
        let call = client.head_object().bucket(&location.bucket).key(&location.key);
        let head = call.send().await.map_err(|error| unreadable(location, &failure("s3:HeadObject", &error)))?;
        let size = head.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Self { client, location, zip: Zip::new(size) })
    }

    /// The content of a file, or `None` when there is none of this name.
    async fn file(&mut self, name: &str) -> Result<Option<String>, Error> {
        loop {
            let bad = |why: String| {
                let name = &self.location.name;
                Error::from(Verdict::misconfigured(format!("The artifact `{name}` cannot be used: {why}.")))
            };
            let missing = match self.zip.file(name).map_err(bad)? {
                Found::File(content) => return Ok(Some(content)),
                Found::Nothing => return Ok(None),
                Found::NotRead(block) => block,
            };
            if self.zip.read.len() >= MOST_BLOCKS {
                return Err(bad(format!("its directory is larger than {} MB", MOST_BLOCKS as u64 * BLOCK / 1_000_000)));
            }
            self.fetch(missing).await?;
        }
    }

    async fn fetch(&mut self, block: u64) -> Result<(), Error> {
        let (first, last) = (block * BLOCK, ((block + 1) * BLOCK).min(self.zip.size).saturating_sub(1));
        let call = self.client.get_object().bucket(&self.location.bucket).key(&self.location.key);
        let call = call.range(format!("bytes={first}-{last}"));
        let got = call.send().await.map_err(|error| match code(&error) {
            "NoSuchKey" => {
                Verdict::misconfigured(format!("The artifact `{}` is gone from S3.", self.location.name)).into()
            }
            _ => unreadable(self.location, &failure("s3:GetObject", &error)),
        })?;
        let bytes = got.body.collect().await.map_err(|error| Error::Again(format!("s3:GetObject: {error}")))?;
        info!(artifact = self.location.name, first, last, "read");
        self.zip.add(block, bytes.to_vec());
        Ok(())
    }
}

fn unreadable(location: &ArtifactLocation, error: &Error) -> Error {
    let message = format!("The artifact `{}` cannot be read: {error}", location.name);
    match error {
        Error::Again(_) => Error::Again(message),
        Error::Stop(verdict) => Error::Stop(Verdict { kind: verdict.kind, message }),
    }
}

/// A zip, as far as it has been fetched: reading what has not is an error that names the block.
#[derive(Debug, Clone)]
pub struct Zip {
    size: u64,
    at: u64,
    read: BTreeMap<u64, Vec<u8>>,
}

/// What a look into a zip came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The file's content.
    File(String),
    /// There is no file of this name.
    Nothing,
    /// This block of [`BLOCK`] bytes must be fetched first.
    NotRead(u64),
}

#[derive(Debug)]
struct Missing(u64);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "block {} has not been read", self.0)
    }
}

impl std::error::Error for Missing {}

impl Zip {
    /// One of so many bytes, of which none has been fetched.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size, at: 0, read: BTreeMap::new() }
    }

    /// Adds a block that was fetched.
    pub fn add(&mut self, block: u64, bytes: Vec<u8>) {
        self.read.insert(block, bytes);
    }

    /// Looks for a file.
    ///
    /// # Errors
    /// Why it cannot be used, in words, with what to do.
    pub fn file(&mut self, name: &str) -> Result<Found, String> {
        if self.size == 0 {
            return Err("it is empty (0 bytes): let the build make it again".into());
        }
        match self.look(name) {
            Ok(found) => Ok(found),
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                Err(format!("`{name}` in it is encrypted: let the build write it without a password"))
            }
            Err(ZipError::UnsupportedArchive(why)) => {
                Err(format!("it is a zip of a kind that is not read here ({why})"))
            }
            Err(error) if is_compressed_otherwise(&error) => {
                Err(format!("`{name}` in it is compressed in a way that is not read here: deflate it, or store it"))
            }
            Err(ZipError::Io(error)) if error.get_ref().is_some_and(|inner| inner.is::<Missing>()) => {
                let missing = error.get_ref().and_then(|inner| inner.downcast_ref::<Missing>());
                Ok(Found::NotRead(missing.map_or(0, |missing| missing.0)))
            }
            Err(ZipError::Io(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(format!("{error}: let the build write it anew"))
            }
            Err(error) => {
                Err(format!("it is no zip, or a part of it is missing ({error}): let the build make it again"))
            }
        }
    }

    fn look(&mut self, name: &str) -> Result<Found, ZipError> {
        self.at = 0;
        let mut archive = ZipArchive::new(self)?;
        let mut entry = match archive.by_name(name) {
            Err(ZipError::FileNotFound) => return Ok(Found::Nothing),
            found => found?,
        };
        let mut content = Vec::new();
        entry.by_ref().take(LARGEST_FILE + 1).read_to_end(&mut content)?;
        let bad = |why: String| ZipError::Io(io::Error::new(io::ErrorKind::InvalidInput, why));
        if content.len() as u64 > LARGEST_FILE {
            return Err(bad(format!("`{name}` is larger than {LARGEST_FILE} bytes")));
        }
        String::from_utf8(content).map(Found::File).map_err(|_| bad(format!("`{name}` is not UTF-8")))
    }
}

/// Whether an entry's method of compression is none that is read here; it comes in two ways.
fn is_compressed_otherwise(error: &ZipError) -> bool {
    match error {
        ZipError::CompressionMethodNotSupported(_) => true,
        ZipError::Io(error) => error.kind() == io::ErrorKind::Unsupported,
        _ => false,
    }
}

impl Read for Zip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let block = self.at / BLOCK;
        let bytes = self.read.get(&block).ok_or_else(|| io::Error::other(Missing(block)))?;
        let offset = usize::try_from(self.at % BLOCK).unwrap_or_default();
        let length = bytes.len().saturating_sub(offset).min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[offset..offset + length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Zip {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in files {
            let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            writer.start_file(*name, stored).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// Reads as [`Object::file`] does, and counts the bytes it needed.
    fn read_from(bytes: &[u8], name: &str) -> (Result<Option<String>, String>, u64) {
        let mut zip = Zip::new(bytes.len() as u64);
        loop {
            let found = match zip.file(name) {
                Ok(Found::NotRead(block)) => {
                    let first = usize::try_from(block * BLOCK).unwrap();
                    let last = (first + usize::try_from(BLOCK).unwrap()).min(bytes.len());
                    zip.add(block, bytes[first..last].to_vec());
                    continue;
                }
                Ok(Found::File(content)) => Ok(Some(content)),
                Ok(Found::Nothing) => Ok(None),
                Err(why) => Err(why),
            };
            return (found, zip.read.values().map(|block| block.len() as u64).sum());
        }
    }

    #[test]
    fn what_cannot_be_used_says_why_and_what_to_do() {
        let good = zip(&[("deploy.yaml", b"application: shop")]);
        let mut encrypted = good.clone();
        // The flag in the entry's own header, and in the directory's.
        let directory = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        encrypted[6] |= 1;
        encrypted[directory + 8] |= 1;
        let mut imploded = good.clone();
        imploded[8] = 6;
        imploded[directory + 10] = 6;
        for (bytes, said) in [
            (&[][..], "it is empty (0 bytes): let the build make it again"),
            (&good[..good.len() - 10], "it is no zip, or a part of it is missing"),
            (&good[good.len() / 2..], "it is no zip, or a part of it is missing"),
            (b"application: shop", "it is no zip, or a part of it is missing"),
            (&encrypted, "`deploy.yaml` in it is encrypted: let the build write it without a password"),
            (&imploded, "`deploy.yaml` in it is compressed in a way that is not read here: deflate it, or store it"),
            (&zip(&[("deploy.yaml", b"\xff")]), "`deploy.yaml` is not UTF-8: let the build write it anew"),
        ] {
            let why = read_from(bytes, "deploy.yaml").0.unwrap_err();
            assert!(why.starts_with(said), "expected: {said}\nsaid: {why}");
        }
    }

    #[test]
    fn of_a_large_artifact_only_the_ends_are_fetched() {
        let large = vec![7; 20_000_000];
        let bytes = zip(&[("deploy.yaml", b"application: shop"), ("app.tar", &large)]);
        let (found, fetched) = read_from(&bytes, "deploy.yaml");
        assert_eq!(found.unwrap().unwrap(), "application: shop");
        assert!(fetched <= 2 * BLOCK, "{fetched} bytes");
    }

    #[test]
    fn a_file_that_is_not_there_is_none() {
        assert_eq!(read_from(&zip(&[("other", b"")]), "deploy.yaml").0, Ok(None));
    }

    #[test]
    fn a_file_larger_than_any_manifest_is_refused() {
        let large = vec![b' '; usize::try_from(LARGEST_FILE).unwrap() + 1];
        let (found, _) = read_from(&zip(&[("deploy.yaml", &large)]), "deploy.yaml");
        assert!(found.unwrap_err().contains("larger than"));
    }
}
