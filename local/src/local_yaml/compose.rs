//! docker compose's file, as far as it says how containers are started: image, build, entrypoint, command, environment,
//! healthcheck, depends_on, ports, stop_grace_period.
//!
//! Invariant: nothing in it is passed over in silence. What has no meaning on this machine is noted, what would change how a
//! container runs and is not understood is a mistake with its place.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode as _, MarkedYaml, YamlData};
use serde_json::{Value, json};

use super::dockerfile::{Built, Starts};
use super::variables::{interpolated, lines_of};
use crate::mistakes::{entries, place, scalar};

/// Something wrong in the file that is read, or in another one, whose name it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// In `local.yaml` itself.
    Here(String),
    /// In a file that it names, with its place.
    There(String),
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Compose {
    /// Its services, in its order.
    pub(crate) services: Vec<(String, Service)>,
    /// What has no meaning here, a line each.
    pub(crate) notes: Vec<String>,
}

/// One service.
#[derive(Debug, Default)]
pub(crate) struct Service {
    /// What its image is built from; nothing when it is somebody else's.
    pub(crate) built: Option<Built>,
    /// What that image starts unless it is told otherwise.
    pub(crate) image_starts: Starts,
    pub(crate) image: Option<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// The container's own port.
    pub(crate) port: Option<u16>,
    /// The one of this machine at which it is published, where that is another.
    pub(crate) published: Option<u16>,
    /// As task definitions have it.
    pub(crate) health_check: Option<Value>,
    /// In seconds.
    pub(crate) stop_timeout: Option<u64>,
    /// The services that it needs, each with where that stands.
    pub(crate) needs: Vec<(String, String)>,
    /// Those of them whose end it waits for.
    awaits: Vec<String>,
    /// Whether it does one thing and ends: it says that it is not started again, or another one waits for its end.
    pub(crate) ends: bool,
}

/// What has a meaning for docker on a developer's machine, and none for a task.
const WITHOUT_EFFECT: &[&str] = &[
    "container_name",
    "deploy",
    "develop",
    "hostname",
    "labels",
    "links",
    "logging",
    "networks",
    "platform",
    "profiles",
    "pull_policy",
    "restart",
    "stdin_open",
    "tty",
    "volumes",
];

impl Compose {
    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|(own, _)| own == name).map(|(_, service)| service)
    }

    /// Reads the file in a folder; variables are those of `.env` beside it, then those of `outside`.
    ///
    /// # Errors
    /// Every mistake, with file, line and column.
    pub(crate) fn read(folder: &Path, file: &str, outside: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Said>> {
        let there = |why: String| vec![Said::There(format!("{file}: {why}"))];
        let path = folder.join(file);
        let text = shared::yaml::text_of(&path).map_err(&there)?;
        shared::yaml::read::<Value>(file, &text).map_err(|mistake| vec![Said::There(mistake.to_string())])?;
        let documents = MarkedYaml::load_from_str(&text).map_err(|error| there(error.to_string()))?;
        let Some(document) = documents.first() else { return Err(there("there is nothing in it".into())) };
        let mut variables = BTreeMap::new();
        let beside = path.with_file_name(".env");
        if beside.exists() {
            let text = shared::yaml::text_of(&beside).map_err(&there)?;
            variables = lines_of(&text).map_err(|why| vec![Said::There(format!(".env: {why}"))])?;
        }
        let variable = |name: &str| variables.get(name).cloned().or_else(|| outside(name));
        let mut reader = Reader { file, folder, variable: &variable, wrong: Vec::new(), notes: Vec::new() };
        let mut services = reader.file(document);
        let awaited: Vec<_> = services.iter().flat_map(|(_, service)| service.awaits.clone()).collect();
        for (name, service) in &mut services {
            service.ends |= awaited.contains(name);
        }
        let mut wrong = reader.wrong;
        for (name, service) in &services {
            for (needed, at) in &service.needs {
                if !services.iter().any(|(own, _)| own == needed) {
                    let known = services.iter().map(|(own, _)| own.as_str());
                    let why = shared::text::unknown("service", needed, known);
                    wrong.push(format!("{at}: `{name}` depends on `{needed}`, but {why}"));
                }
            }
        }
        if wrong.is_empty() {
            Ok(Self { services, notes: reader.notes })
        } else {
            Err(wrong.into_iter().map(Said::There).collect())
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    folder: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<String>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn at(&self, node: &MarkedYaml<'_>) -> String {
        let (line, column) = place(node);
        format!("{}:{line}:{column}", self.file)
    }

    fn find(&mut self, node: &MarkedYaml<'_>, why: &str) {
        let at = self.at(node);
        self.wrong.push(format!("{at}: {why}"));
    }

    fn file(&mut self, document: &MarkedYaml<'_>) -> Vec<(String, Service)> {
        let mut services = Vec::new();
        let mut found = false;
        for (key, value) in entries(document) {
            match scalar(key).unwrap_or_default().as_str() {
                "services" => {
                    found = true;
                    for (name, node) in entries(value) {
                        let Some(name) = scalar(name) else { continue };
                        let service = self.service(&name, node);
                        services.push((name, service));
                    }
                }
                "name" | "version" | "volumes" | "networks" => {}
                extension if extension.starts_with("x-") => {}
                other => self.find(key, &format!("`{other}` is not supported here")),
            }
        }
        if !found {
            self.find(document, "`services` is missing");
        }
        services
    }

    fn service(&mut self, name: &str, node: &MarkedYaml<'_>) -> Service {
        let mut service = Service::default();
        if !matches!(node.data, YamlData::Mapping(_)) {
            self.find(node, "a service is a mapping: names, each with a colon and a value");
        }
        let mut files = BTreeMap::new();
        for (key, value) in entries(node) {
            let field = scalar(key).unwrap_or_default();
            match field.as_str() {
                "image" => service.image = self.text(value),
                "build" => service.built = Some(self.built(value)),
                "command" => service.command = self.command(value),
                "entrypoint" => service.entrypoint = self.command(value),
                "environment" => service.environment = self.environment(value),
                "env_file" => files = self.files(value),
                "healthcheck" => service.health_check = self.health_check(value),
                "depends_on" => (service.needs, service.awaits) = (self.needs(value), awaits(value)),
                "restart" if matches!(scalar(value).as_deref(), Some("no" | "on-failure")) => service.ends = true,
                "ports" => (service.port, service.published) = self.ports(value),
                "expose" => service.port = service.port.or(self.ports(value).0),
                "stop_grace_period" => service.stop_timeout = self.seconds(value),
                "init" => {}
                extension if extension.starts_with("x-") => {}
                known if WITHOUT_EFFECT.contains(&known) => {
                    let at = self.at(key);
                    self.notes.push(format!("{at}: `{known}` of {name} has no effect here"));
                }
                other => {
                    let why = format!(
                        "`{other}` is not supported here: say in local.yaml how the container is started, without `compose`"
                    );
                    self.find(key, &why);
                }
            }
        }
        if let Some(built) = &service.built {
            service.image_starts = built.starts(self.folder);
        }
        for (name, value) in files {
            service.environment.entry(name).or_insert(value);
        }
        service
    }

    /// A text with its variables replaced.
    fn text(&mut self, node: &MarkedYaml<'_>) -> Option<String> {
        let Some(text) = scalar(node) else {
            self.find(node, "text is expected");
            return None;
        };
        match interpolated(&text, self.variable) {
            Ok(text) => Some(text),
            Err(why) => {
                self.find(node, &why);
                None
            }
        }
    }

    fn command(&mut self, node: &MarkedYaml<'_>) -> Vec<String> {
        if let YamlData::Sequence(items) = &node.data {
            return items.iter().filter_map(|item| self.text(item)).collect();
        }
        let Some(text) = self.text(node) else { return Vec::new() };
        // As compose has it: split into words, and given to no shell.
        shlex::split(&text).unwrap_or_else(|| {
            self.find(node, "a quote is not closed");
            Vec::new()
        })
    }

    fn environment(&mut self, node: &MarkedYaml<'_>) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let mut set = |reader: &mut Self, at: &MarkedYaml<'_>, name: String, value: Option<String>| {
            // Without a value, it is the developer's own.
            match value.or_else(|| (reader.variable)(&name)) {
                Some(value) => drop(variables.insert(name, value)),
                None => reader.find(at, &format!("`{name}` has no value: give it one here or in .env")),
            }
        };
        match &node.data {
            YamlData::Sequence(items) => {
                for item in items {
                    let Some(text) = self.text(item) else { continue };
                    let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
                    set(self, item, name.to_owned(), value.map(str::to_owned));
                }
            }
            _ => {
                for (key, value) in entries(node) {
                    let Some(name) = scalar(key) else { continue };
                    let is_null = matches!(value.data, YamlData::Value(saphyr::Scalar::Null));
                    let value = if is_null { None } else { Some(self.text(value).unwrap_or_default()) };
                    set(self, key, name, value);
                }
            }
        }
        variables
    }

    fn built(&mut self, node: &MarkedYaml<'_>) -> Built {
        let mut built = Built::default();
        if !matches!(node.data, YamlData::Mapping(_)) {
            built.context = self.text(node).unwrap_or(built.context);
            return built;
        }
        for (key, value) in entries(node) {
            match scalar(key).unwrap_or_default().as_str() {
                "context" => built.context = self.text(value).unwrap_or_default(),
                "dockerfile" => built.dockerfile = self.text(value),
                "target" => built.target = self.text(value),
                "args" => built.args = self.environment(value),
                other => {
                    let at = self.at(key);
                    self.notes.push(format!(
                        "{at}: `build.{other}` has no effect: say in buildspec.yml how the image is built"
                    ));
                }
            }
        }
        built
    }

    fn files(&mut self, node: &MarkedYaml<'_>) -> BTreeMap<String, String> {
        let items = if let YamlData::Sequence(items) = &node.data { items.iter().collect() } else { vec![node] };
        let mut variables = BTreeMap::new();
        for item in items {
            let Some(name) = self.text(item) else { continue };
            let read = shared::yaml::text_of(&self.folder.join(&name));
            match read.and_then(|text| lines_of(&text)) {
                Ok(own) => variables.extend(own),
                Err(why) => self.find(item, &format!("{name}: {why}")),
            }
        }
        variables
    }

    fn seconds(&mut self, node: &MarkedYaml<'_>) -> Option<u64> {
        let text = self.text(node)?;
        match humantime::parse_duration(&text) {
            // Task definitions know whole seconds only.
            Ok(time) => Some(u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)),
            Err(_) => {
                self.find(node, &format!("`{text}` is no duration: write it as `90s` or `1m30s`"));
                None
            }
        }
    }

    fn health_check(&mut self, node: &MarkedYaml<'_>) -> Option<Value> {
        let mut check = json!({});
        for (key, value) in entries(node) {
            match scalar(key).unwrap_or_default().as_str() {
                "test" => {
                    let words = match &value.data {
                        YamlData::Sequence(items) => items.iter().filter_map(|item| self.text(item)).collect(),
                        _ => vec!["CMD-SHELL".to_owned(), self.text(value).unwrap_or_default()],
                    };
                    match words.first().map(String::as_str) {
                        Some("NONE") => return None,
                        Some("CMD" | "CMD-SHELL") => check["command"] = json!(words),
                        _ => self.find(value, "the list begins with CMD, CMD-SHELL or NONE"),
                    }
                }
                "disable" if scalar(value).as_deref() == Some("true") => return None,
                "disable" => {}
                "interval" => check["interval"] = json!(self.seconds(value)),
                "timeout" => check["timeout"] = json!(self.seconds(value)),
                "start_period" => check["startPeriod"] = json!(self.seconds(value)),
                "retries" => match scalar(value).and_then(|text| text.parse::<u32>().ok()) {
                    Some(count) => check["retries"] = json!(count),
                    None => self.find(value, "a whole number is expected"),
                },
                "start_interval" => {
                    let at = self.at(key);
                    self.notes.push(format!("{at}: `start_interval` has no effect: task definitions do not know it"));
                }
                other => self.find(key, &format!("`healthcheck.{other}` is not supported here")),
            }
        }
        check.get("command").is_some().then_some(check)
    }

    fn needs(&mut self, node: &MarkedYaml<'_>) -> Vec<(String, String)> {
        if let YamlData::Sequence(items) = &node.data {
            return items.iter().filter_map(|item| Some((self.text(item)?, self.at(item)))).collect();
        }
        entries(node).into_iter().filter_map(|(key, _)| Some((scalar(key)?, self.at(key)))).collect()
    }

    /// The container's port of the first one, and where it is published: `8080`, `80:8080`, `127.0.0.1:80:8080/tcp`,
    /// `{target: 8080, published: 80}`.
    fn ports(&mut self, node: &MarkedYaml<'_>) -> (Option<u16>, Option<u16>) {
        let YamlData::Sequence(items) = &node.data else {
            self.find(node, "a list is expected, such as [\"8080\"]");
            return (None, None);
        };
        let Some(first) = items.first() else { return (None, None) };
        if let [_, others @ ..] = items.as_slice()
            && let Some(second) = others.first()
        {
            let at = self.at(second);
            self.notes.push(format!("{at}: of several ports, the first one is the container's here"));
        }
        let field = |name: &str| {
            entries(first).into_iter().find(|(key, _)| scalar(key).as_deref() == Some(name)).map(|(_, value)| value)
        };
        let (target, published) = (field("target"), field("published"));
        let Some(text) = self.text(target.unwrap_or(first)) else { return (None, None) };
        let mut parts = text.split('/').next().unwrap_or_default().rsplit(':');
        let Some(port) = parts.next().and_then(|own| own.parse::<u16>().ok()) else {
            self.find(first, &format!("`{text}` is no port: write it as \"8080\" or \"80:8080\""));
            return (None, None);
        };
        let at = published.and_then(scalar).or_else(|| parts.next().map(str::to_owned));
        (Some(port), at.and_then(|at| at.parse().ok()).filter(|at| *at != port))
    }
}

/// The services whose end is waited for.
fn awaits(node: &MarkedYaml<'_>) -> Vec<String> {
    let completes = |value: &MarkedYaml<'_>| {
        let conditions = entries(value).into_iter().filter(|(key, _)| scalar(key).as_deref() == Some("condition"));
        conditions.into_iter().any(|(_, value)| scalar(value).as_deref() == Some("service_completed_successfully"))
    };
    entries(node).into_iter().filter(|(_, value)| completes(value)).filter_map(|(key, _)| scalar(key)).collect()
}
