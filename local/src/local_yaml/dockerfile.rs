//! What an image is built from, as far as it says what a container of it starts: its Dockerfile's last ENTRYPOINT and CMD.
//!
//! Invariant: what cannot be read is no mistake here: docker says so when it builds.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// The folder, as the compose file names it.
    pub(crate) context: String,
    /// The Dockerfile in it, where it is another than that.
    pub(crate) dockerfile: Option<String>,
    /// The stage; the last one unless given.
    pub(crate) target: Option<String>,
    /// Its arguments; one without a value here, or whose value has variables, which may be secrets, is the environment's.
    pub(crate) args: BTreeMap<String, Option<String>>,
}

impl Default for Built {
    fn default() -> Self {
        Self { context: ".".into(), dockerfile: None, target: None, args: BTreeMap::new() }
    }
}

/// What a container starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Starts {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// The port that it says to listen on.
    pub(crate) port: Option<u16>,
}

impl Built {
    /// The folder that it is built from, below the application's; the same where it is another's altogether.
    pub(crate) fn folder(&self, application: &Path) -> PathBuf {
        self.below().map_or_else(|| application.to_owned(), |below| application.join(below))
    }

    /// Which folder of the application's it is built from, if one; empty for its own.
    pub(crate) fn below(&self) -> Option<PathBuf> {
        if self.context.contains("://") || self.context.starts_with("git@") {
            return None;
        }
        let mut below = PathBuf::new();
        for part in Path::new(&self.context).components() {
            match part {
                Component::ParentDir if !below.pop() => return None,
                Component::ParentDir | Component::CurDir => {}
                Component::Normal(name) => below.push(name),
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        Some(below)
    }

    /// What a container of it starts unless it is told otherwise; nothing where the Dockerfile does not say so.
    pub(crate) fn starts(&self, folder: &Path) -> Starts {
        let path = folder.join(&self.context).join(self.dockerfile.as_deref().unwrap_or("Dockerfile"));
        shared::yaml::text_of(&path).map(|text| starts(&text, self.target.as_deref())).unwrap_or_default()
    }
}

fn starts(text: &str, target: Option<&str>) -> Starts {
    let mut stages: BTreeMap<String, Starts> = BTreeMap::new();
    let (mut name, mut now) = (String::new(), Starts::default());
    // Whether the stage has said its command itself.
    let mut has_command = false;
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match instruction.to_uppercase().as_str() {
            "FROM" => {
                stages.insert(std::mem::take(&mut name), std::mem::take(&mut now));
                if target.is_some() && stages.keys().any(|known| Some(known.as_str()) == target) {
                    break;
                }
                let words: Vec<_> = rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
                // A stage begins with what the one has that it is made from.
                now = words.first().and_then(|from| stages.get(*from)).cloned().unwrap_or_default();
                has_command = false;
                if let [_, as_, own] = words[..]
                    && as_.eq_ignore_ascii_case("as")
                {
                    own.clone_into(&mut name);
                }
            }
            // With another entrypoint, the command of the image that it is made from is gone.
            "ENTRYPOINT" => {
                let command = if has_command { std::mem::take(&mut now.command) } else { Vec::new() };
                now = Starts { entrypoint: words(rest), command, ..now };
            }
            "CMD" => (now.command, has_command) = (words(rest), true),
            "EXPOSE" => now.port = now.port.or(rest.split(['/', ' ']).next().and_then(|port| port.parse().ok())),
            _ => {}
        }
    }
    stages.insert(name, now.clone());
    target.and_then(|target| stages.remove(target)).unwrap_or(now)
}

fn words(rest: &str) -> Vec<String> {
    serde_json::from_str(rest).unwrap_or_else(|_| vec!["/bin/sh".into(), "-c".into(), rest.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfiles_last_words_of_its_stage_say_what_is_started() {
        let text = "FROM node:22 AS base\nENTRYPOINT [\"node\"]\nCMD [\"a.js\"]\n# CMD no\nFROM base AS dev\ncmd [\"dev.js\", \\\n \"--watch\"]\n\
                    FROM --platform=linux/arm64 base\nENTRYPOINT exec node\n";
        let of = |target| {
            let Starts { entrypoint, command, .. } = starts(text, target);
            (entrypoint.join(" "), command.join(" "))
        };
        assert_eq!(of(Some("base")), ("node".into(), "a.js".into()));
        assert_eq!(of(Some("dev")), ("node".into(), "dev.js --watch".into()));
        assert_eq!(of(None), ("/bin/sh -c exec node".into(), String::new()));
        assert_eq!(starts("FROM x\nCMD [\"serve\"]\nENTRYPOINT [\"./run\"]\n", None).command, ["serve"]);
        assert_eq!(starts("", None), Starts::default());
        assert_eq!(starts("FROM x\nEXPOSE 8080/tcp 9000\n", None).port, Some(8080));
    }

    #[test]
    fn what_is_built_from_elsewhere_is_not_of_the_folder() {
        for (context, below) in [
            (".", Some("")),
            ("./app", Some("app")),
            ("app/../web", Some("web")),
            ("..", None),
            ("./../web", None),
            ("/srv/app", None),
            ("https://example.com/app.git", None),
            ("git@example.com:app.git", None),
        ] {
            let built = Built { context: context.into(), ..Built::default() };
            assert_eq!(built.below().as_deref(), below.map(Path::new), "{context}");
        }
    }
}
