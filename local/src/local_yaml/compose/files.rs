//! What docker compose's file says of other files: what an image is built from, and files of variables.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

use saphyr::{MarkedYaml, YamlData};

use super::Reader;
use crate::local_yaml::dockerfile::Built;
use crate::local_yaml::variables::{has_variables, lines_of};
use crate::mistakes::{entries, scalar};

impl Reader<'_> {
    pub(super) fn built(&mut self, node: &MarkedYaml<'_>) -> Built {
        let mut built = Built::default();
        if !matches!(node.data, YamlData::Mapping(_)) {
            built.context = self.text(node).map_or(built.context, |context| self.in_folder(&context));
            return built;
        }
        for (key, value) in entries(node) {
            match scalar(key).unwrap_or_default().as_str() {
                "context" => {
                    built.context = self.text(value).map(|context| self.in_folder(&context)).unwrap_or_default()
                }
                "dockerfile" => built.dockerfile = self.text(value),
                "target" => built.target = self.text(value),
                "args" => built.args = arguments(value),
                other => {
                    let why = format!("`build.{other}` has no effect: say in buildspec.yml how the image is built");
                    self.note(key, &why);
                }
            }
        }
        built
    }

    pub(super) fn files(&mut self, node: &MarkedYaml<'_>) -> BTreeMap<String, String> {
        let items = if let YamlData::Sequence(items) = &node.data { items.iter().collect() } else { vec![node] };
        let mut variables = BTreeMap::new();
        for item in items {
            let field = |name: &str| {
                entries(item).into_iter().find(|(key, _)| scalar(key).as_deref() == Some(name)).map(|(_, value)| value)
            };
            let Some(name) = self.text(field("path").unwrap_or(item)) else { continue };
            let path = self.folder.join(self.below).join(&name);
            let may_lack = field("required").and_then(scalar).as_deref() == Some("false");
            match shared::yaml::text_of(&path) {
                Ok(text) => match lines_of(&text, self.variable) {
                    Ok(said) => variables.extend(said),
                    Err(why) => self.find(item, &format!("{name}: {why}")),
                },
                Err(_) if may_lack && !path.exists() => {}
                Err(why) => self.find(item, &format!("{name}: {why}")),
            }
        }
        variables
    }

    /// A folder that the file names, as the application's folder has it.
    fn in_folder(&self, context: &str) -> String {
        if self.below.as_os_str().is_empty() {
            return context.to_owned();
        }
        let mut parts = PathBuf::new();
        for part in self.below.join(context).components() {
            match part {
                Component::ParentDir if parts.file_name().is_some() => drop(parts.pop()),
                Component::CurDir => {}
                other => parts.push(other),
            }
        }
        if parts.as_os_str().is_empty() { ".".into() } else { parts.display().to_string() }
    }
}

/// A build's arguments, as they are written.
fn arguments(node: &MarkedYaml<'_>) -> BTreeMap<String, Option<String>> {
    let each: Vec<(String, Option<String>)> = match &node.data {
        YamlData::Sequence(items) => {
            let texts = items.iter().filter_map(scalar);
            texts
                .map(|text| {
                    text.split_once('=').map_or((text.clone(), None), |(n, v)| (n.to_owned(), Some(v.to_owned())))
                })
                .collect()
        }
        _ => entries(node).into_iter().filter_map(|(key, value)| Some((scalar(key)?, scalar(value)))).collect(),
    };
    let known = |value: &String| !has_variables(value) && !value.is_empty();
    each.into_iter().map(|(name, value)| (name, value.filter(known).map(|value| value.replace("$$", "$")))).collect()
}
