//! What the images of this machine's releases have, where containers run as processes: a copy of the application's folder as it was
//! when the image was built, so that going back runs what ran then.
//!
//! Invariant: an image that was made is never changed; a copy that was not finished is not taken for one.

use std::io;
use std::path::{Path, PathBuf};

use super::source::source;
use crate::account::Build;

/// How many images are kept.
const KEPT: usize = 20;

/// The images of an application.
#[derive(Debug, Clone)]
pub(super) struct Images {
    application: PathBuf,
    /// Below which folder they are.
    folder: PathBuf,
    /// What an image has beside the source; none is made without it.
    files: Option<Vec<PathBuf>>,
}

impl Images {
    pub(super) fn new(application: &Path, folder: PathBuf, build: &Build) -> Self {
        Self { application: application.to_owned(), folder, files: build.files.clone() }
    }

    /// Makes the image of this name from what the folder has now, or of one like it where there is another of that name; which name it is.
    ///
    /// # Errors
    /// What cannot be copied.
    pub(super) fn make(&self, image: &str) -> Result<String, String> {
        let Some(files) = &self.files else { return Ok(image.to_owned()) };
        let Some(made) = self.place(image) else { return Ok(image.to_owned()) };
        let failed = |path: &Path| {
            let shown = path.display().to_string();
            move |error: io::Error| format!("{shown}: {error}, for the image: see `build.files` in local.yaml")
        };
        let unfinished = made.with_extension("unfinished");
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&unfinished)(error)),
            _ => {}
        }
        std::fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        super::leave_out_of_git(&self.folder);
        let mut is_empty = true;
        for entry in source(&self.application) {
            let path = entry.map_err(|error| error.to_string())?;
            is_empty = false;
            self.copy(&path, &unfinished).map_err(failed(&path))?;
        }
        if is_empty {
            return Err(format!("{}: git has no file of it, so its image would be empty", self.application.display()));
        }
        for file in files {
            let path = self.application.join(file);
            self.copy(&path, &unfinished).map_err(failed(&path))?;
        }
        std::fs::create_dir_all(&unfinished).map_err(failed(&unfinished))?;
        // What stands above it, for git, says nothing of what is in it.
        drop(std::fs::File::create_new(unfinished.join(".gitignore")));
        // What a build leaves beside the source may differ although no commit does: that is another image.
        for at in 1_u32.. {
            let name = if at == 1 { image.to_owned() } else { format!("{image}-{at}") };
            let Some(made) = self.place(&name) else { break };
            if !made.exists() {
                std::fs::rename(&unfinished, &made).map_err(failed(&made))?;
                self.prune();
                return Ok(name);
            }
            if is_same(&made, &unfinished).map_err(failed(&made))? {
                std::fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
                return Ok(name);
            }
        }
        Ok(image.to_owned())
    }

    /// Where a container of this image runs: in what its image has, or, of one that was not made here, in the application's folder.
    pub(super) fn of(&self, image: &str) -> PathBuf {
        self.place(image).filter(|made| made.exists()).unwrap_or_else(|| self.application.clone())
    }

    /// A tag cannot lead out of the folder: of others there is no image.
    fn place(&self, image: &str) -> Option<PathBuf> {
        let (_, tag) = image.rsplit_once(':')?;
        let is_plain = |tag: &str| tag.chars().all(|one| one.is_ascii_alphanumeric() || one == '-' || one == '_');
        (!tag.is_empty() && is_plain(tag)).then(|| self.folder.join(tag))
    }

    /// Copies a file, or a folder with all that is in it. Links stay links: programs find what is beside what they lead to.
    fn copy(&self, path: &Path, to: &Path) -> io::Result<()> {
        let name = path.strip_prefix(&self.application).map_err(io::Error::other)?;
        let target = to.join(name);
        let kind = path.symlink_metadata()?;
        if kind.is_dir() {
            for entry in path.read_dir()? {
                self.copy(&entry?.path(), to)?;
            }
            return Ok(());
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if kind.is_file() {
            return std::fs::copy(path, target).map(drop);
        }
        // A socket, or a pipe, is nobody's on the other side.
        if !kind.is_symlink() {
            return Ok(());
        }
        if target.symlink_metadata().is_ok() {
            return Ok(());
        }
        std::os::unix::fs::symlink(self.link(path)?, target)
    }

    /// What a link's copy leads to: the same place in the copy, or, out of the folder, the place itself.
    fn link(&self, path: &Path) -> io::Result<PathBuf> {
        let leads = std::fs::read_link(path)?;
        let application = self.application.canonicalize()?;
        match path.canonicalize() {
            Ok(there) if leads.is_relative() && !there.starts_with(&application) => Ok(there),
            Ok(_) | Err(_) => Ok(leads),
        }
    }

    /// Removes the oldest; that it cannot be removed is no reason to fail.
    fn prune(&self) {
        let Ok(entries) = self.folder.read_dir() else { return };
        let made = entries.flatten().filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir()));
        let dated = made.filter_map(|one| Some((one.metadata().ok()?.modified().ok()?, one.path())));
        let mut dated: Vec<_> = dated.collect();
        dated.sort();
        for (_, old) in dated.iter().rev().skip(KEPT) {
            drop(std::fs::remove_dir_all(old));
        }
    }
}

/// Whether two files, links or folders are the same, with all that is in them.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (kind, with) = (one.symlink_metadata()?, other.symlink_metadata()?);
    if kind.file_type() != with.file_type() || kind.permissions() != with.permissions() {
        return Ok(false);
    }
    if kind.is_symlink() {
        return Ok(std::fs::read_link(one)? == std::fs::read_link(other)?);
    }
    if !kind.is_dir() {
        return Ok(kind.len() == with.len() && std::fs::read(one)? == std::fs::read(other)?);
    }
    let names = |folder: &Path| -> io::Result<std::collections::BTreeSet<_>> {
        folder.read_dir()?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    };
    let own = names(one)?;
    if own != names(other)? {
        return Ok(false);
    }
    for name in own {
        if !is_same(&one.join(&name), &other.join(&name))? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(name: &str, files: Option<&[&str]>) -> (PathBuf, Images) {
        let root = std::env::temp_dir().join(format!("cutover-images-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&root));
        let application = root.join("app");
        std::fs::create_dir_all(application.join("target")).unwrap();
        std::fs::write(application.join("app.py"), "old").unwrap();
        std::fs::write(application.join(".gitignore"), "target\n").unwrap();
        std::fs::write(application.join("target/app"), "old").unwrap();
        let files = files.map(|files| files.iter().map(PathBuf::from).collect());
        let build = Build { files, ..Build::default() };
        (application.clone(), Images::new(&application, root.join("images"), &build))
    }

    #[test]
    fn an_image_is_what_the_folder_was_when_it_was_built_with_what_git_leaves_out_and_the_build_names() {
        let (application, images) = images("old", Some(&["target/app"]));
        images.make("registry.example/app:1").unwrap();
        std::fs::write(application.join("app.py"), "new").unwrap();
        std::fs::write(application.join("target/app"), "new").unwrap();
        for _ in 0..2 {
            let again = images.make("registry.example/app:1").unwrap();
            assert_eq!(again, "registry.example/app:1-2", "no commit tells it from the first");
            assert_eq!(std::fs::read_to_string(images.of(&again).join("target/app")).unwrap(), "new");
        }
        let folder = images.of("registry.example/app:1");
        for file in ["app.py", "target/app"] {
            assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap(), "old", "{file}");
        }
        for not_made_here in ["registry.example/app:2", "registry.example/app", "registry.example/app:.."] {
            assert_eq!(images.of(not_made_here), application, "{not_made_here}");
        }
        std::fs::remove_dir_all(application.parent().unwrap()).unwrap();
    }

    #[test]
    fn links_stay_links_in_an_image_also_those_that_lead_nowhere_or_back_up() {
        let (application, images) = images("links", Some(&["node_modules"]));
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, application.join(at)).unwrap();
        std::fs::write(application.join(".gitignore"), "target\nnode_modules\n").unwrap();
        std::fs::create_dir_all(application.join("node_modules/.bin")).unwrap();
        std::fs::create_dir_all(application.join("node_modules/next")).unwrap();
        std::fs::write(application.join("node_modules/next/cli.js"), "run").unwrap();
        std::fs::write(application.parent().unwrap().join("beside"), "shared").unwrap();
        link("../next/cli.js", "node_modules/.bin/next");
        link("..", "node_modules/next/up");
        link("nowhere", "node_modules/next/gone");
        link("app.py", "main.py");
        link("../beside", "outside");
        images.make("registry.example/app:1").unwrap();
        let folder = images.of("registry.example/app:1");
        let leads = |at: &str| std::fs::read_link(folder.join(at)).unwrap();
        assert_eq!(leads("node_modules/.bin/next"), Path::new("../next/cli.js"));
        assert_eq!(leads("node_modules/next/up"), Path::new(".."));
        assert_eq!(leads("node_modules/next/gone"), Path::new("nowhere"));
        assert_eq!(leads("main.py"), Path::new("app.py"), "git has links, too");
        assert_eq!(std::fs::read_to_string(folder.join("node_modules/.bin/next")).unwrap(), "run");
        assert_eq!(std::fs::read_to_string(folder.join("outside")).unwrap(), "shared");
        std::fs::remove_dir_all(application.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_the_build_did_not_make_is_named_and_without_files_there_is_no_image() {
        let (application, without) = images("missing", Some(&["target/other"]));
        let why = without.make("registry.example/app:1").unwrap_err();
        assert!(why.contains("target/other") && why.ends_with("see `build.files` in local.yaml"), "{why}");
        assert_eq!(without.of("registry.example/app:1"), application);
        let (application, none) = images("none", None);
        none.make("registry.example/app:1").unwrap();
        assert_eq!(none.of("registry.example/app:1"), application);
    }
}
