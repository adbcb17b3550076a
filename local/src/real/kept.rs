//! The folder in which runs on this machine keep what the next one needs: records, artifacts, and what runs.
//!
//! Invariant: it is written anew beside the old one and put in its place, so that a run that is killed leaves the old one.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::Time;
use shared::record::FOLDER;

use crate::Mistake;
use crate::world::{KeptObject, KeptRegion, World};

/// What the last run left.
#[derive(Debug, Default)]
pub struct Kept {
    /// Its state folder, with the databases.
    pub state: PathBuf,
    /// What runs.
    pub regions: BTreeMap<String, KeptRegion>,
    /// Records and artifacts.
    pub objects: Vec<KeptObject>,
}

#[derive(Serialize, Deserialize)]
struct Index {
    state: PathBuf,
    regions: BTreeMap<String, KeptRegion>,
    objects: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    bucket: String,
    key: String,
    modified: Time,
    file: String,
}

const INDEX: &str = "index.json";

/// The folder for the application in `folder`, below the folder of all runs' states.
#[must_use]
pub fn folder(parent: &Path, folder: &Path) -> PathBuf {
    parent.join(format!("kept-{}", shared::record::content(&folder.display().to_string(), None)))
}

/// The folder of the application's images, beside it: it stays when that is put in another's place.
#[must_use]
pub fn images(folder: &Path) -> PathBuf {
    folder.with_extension("images")
}

/// Reads what the last run left; `None` when there was none.
///
/// # Errors
/// What cannot be read.
pub fn read(folder: &Path) -> Result<Option<Kept>, Mistake> {
    let path = folder.join(INDEX);
    let wrong =
        |path: &Path, why: String| Mistake(format!("{}: {why}. Remove the folder to begin anew.", path.display()));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&path, error.to_string())),
    };
    // What is taken up from it is run.
    for own in [folder.parent().unwrap_or(folder), folder] {
        super::is_own(own)?;
    }
    let index: Index = serde_json::from_slice(&text).map_err(|error| wrong(&path, error.to_string()))?;
    let mut objects = Vec::new();
    for one in index.objects {
        // A name of our own making: nothing that leads out of the folder.
        let path = folder.join(one.file.replace(['/', '\\'], "_"));
        let content = std::fs::read(&path).map_err(|error| wrong(&path, error.to_string()))?;
        objects.push(KeptObject { bucket: one.bucket, key: one.key, modified: one.modified, content });
    }
    Ok(Some(Kept { state: index.state, regions: index.regions, objects }))
}

/// Keeps what a world has for the next run.
///
/// # Errors
/// What cannot be written.
pub fn write(folder: &Path, state: &Path, world: &World) -> Result<(), Mistake> {
    let failed = |error: std::io::Error| Mistake(format!("{}: {error}", folder.display()));
    let fresh = folder.with_extension("new");
    let old = folder.with_extension("old");
    for leftover in [&fresh, &old] {
        match std::fs::remove_dir_all(leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    // Whatever the umask is: what others could write into is not read again.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&fresh).map_err(failed)?;
    super::leave_out_of_git(&fresh);
    let mut listed = Vec::new();
    // Whose turn it was to deploy says nothing to the next run: whoever deployed has ended with this one.
    let kept = world.kept_objects(FOLDER).into_iter().filter(|object| object.key != shared::record::DEPLOYING);
    for (at, object) in kept.enumerate() {
        let file = format!("{at}.object");
        std::fs::write(fresh.join(&file), &object.content).map_err(failed)?;
        listed.push(Listed { bucket: object.bucket, key: object.key, modified: object.modified, file });
    }
    let index = Index { state: state.to_owned(), regions: world.kept_regions(), objects: listed };
    std::fs::write(fresh.join(INDEX), serde_json::to_vec_pretty(&index).unwrap_or_default()).map_err(failed)?;
    if folder.exists() {
        std::fs::rename(folder, &old).map_err(failed)?;
    }
    std::fs::rename(&fresh, folder).map_err(failed)?;
    drop(std::fs::remove_dir_all(&old));
    Ok(())
}
