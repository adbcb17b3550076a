//! The source of an application: what git would have of its folder.

use std::path::{Path, PathBuf};

/// The files that git would have of a folder.
pub(super) fn source(folder: &Path) -> impl Iterator<Item = Result<PathBuf, ignore::Error>> {
    let walk = ignore::WalkBuilder::new(folder).require_git(false).sort_by_file_path(Path::cmp).build();
    walk.filter_map(|entry| match entry {
        Ok(entry) => entry.file_type().is_some_and(|kind| kind.is_file()).then(|| Ok(entry.into_path())),
        Err(error) => Some(Err(error)),
    })
}
