//! The source of an application: what git has of its folder, files and links.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The files and links that git has of a folder, or would have once they are added. Sockets and pipes it never has.
pub(crate) fn source(folder: &Path) -> impl Iterator<Item = Result<PathBuf, ignore::Error>> {
    let own = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let is_in_repository = own.ancestors().any(|above| above.join(".git").exists());
    let mut walk = ignore::WalkBuilder::new(folder);
    // Git has files whose names begin with a dot, too; what other programs ignore is its own affair. Beyond the top of the repository, and
    // above a folder that is in none, nothing is said about it.
    walk.require_git(is_in_repository).parents(is_in_repository).hidden(false).ignore(false);
    let walk = walk.filter_entry(|entry| !is_left_out(entry.file_name())).build();
    let (mut files, mut errors) = (BTreeSet::new(), Vec::new());
    for entry in walk {
        match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file() || kind.is_symlink()) => {
                files.insert(entry.into_path());
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    files.extend(added(folder));
    errors.into_iter().map(Err).chain(files.into_iter().map(Ok))
}

/// Its own folder is not in it, nor what a release here leaves.
fn is_left_out(name: &OsStr) -> bool {
    name == ".git" || name == ".cutover"
}

/// What was added to git, also where it is ignored by now; none without git.
fn added(folder: &Path) -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["ls-files", "--cached", "-z"]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = git.output() else { return Vec::new() };
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| output.status.success() && !name.is_empty());
    let files = names.map(|name| Path::new(OsStr::from_bytes(name)));
    let files = files.filter(|name| !name.components().any(|part| is_left_out(part.as_os_str())));
    let files = files.map(|name| folder.join(name));
    // What was deleted since is not there.
    files.filter(|path| path.symlink_metadata().is_ok_and(|kind| kind.is_file() || kind.is_symlink())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.arg("-C").arg(folder).args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(arguments);
        assert!(git.stdout(Stdio::null()).status().unwrap().success(), "{arguments:?}");
    }

    fn names(folder: &Path) -> Vec<String> {
        let files = source(folder).map(|path| path.unwrap().strip_prefix(folder).unwrap().display().to_string());
        files.collect()
    }

    #[test]
    fn it_is_what_git_has_whatever_is_ignored_above_its_repository_or_by_other_programs() {
        let above = std::env::temp_dir().join(format!("cutover-source-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&above));
        let folder = above.join("app");
        std::fs::create_dir_all(folder.join(".cutover")).unwrap();
        for (name, text) in [
            ("../.gitignore", "*"),
            (".gitignore", "*.log\nkept"),
            (".ignore", "app.py"),
            ("app.py", ""),
            ("a.log", ""),
            ("kept", ""),
            (".cutover/state", ""),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("app.sock")).unwrap();
        let expected = [".gitignore", ".ignore", "app.py"];
        assert_eq!(names(&folder), expected, "in no repository");
        git(&folder, &["init", "-q"]);
        assert_eq!(names(&folder), expected);
        git(&folder, &["add", "--force", "kept"]);
        assert_eq!(names(&folder), [".gitignore", ".ignore", "app.py", "kept"]);
        std::fs::remove_dir_all(&above).unwrap();
    }
}
