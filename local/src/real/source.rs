//! The source of an application: what git would have of its folder, files and links.

use std::path::{Path, PathBuf};

/// The files and links that git would have of a folder.
pub(crate) fn source(folder: &Path) -> impl Iterator<Item = Result<PathBuf, ignore::Error>> {
    let mut walk = ignore::WalkBuilder::new(folder);
    // Git has files whose names begin with a dot, too; its own folder is not in it, nor what a release here leaves.
    let own = |name: &std::ffi::OsStr| name == ".git" || name == ".cutover";
    walk.require_git(false).hidden(false).filter_entry(move |entry| !own(entry.file_name()));
    let walk = walk.sort_by_file_path(Path::cmp).build();
    walk.filter_map(|entry| match entry {
        Ok(entry) => entry.file_type().is_some_and(|kind| !kind.is_dir()).then(|| Ok(entry.into_path())),
        Err(error) => Some(Err(error)),
    })
}
