//! docker compose's file, as far as it says how containers are started: image, build, entrypoint, command, environment,
//! healthcheck, depends_on, ports, stop_grace_period.
//!
//! Invariant: nothing in it is passed over in silence. What has no meaning on this machine is noted, what would change how a
//! container runs and is not understood is a mistake with its place.

mod fields;
mod files;
mod ports;

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode as _, MarkedYaml, YamlData};
use serde_json::{Value, json};

use super::dockerfile::{Built, Starts};
use super::variables::{has_variables, interpolated, lines_of};
use crate::mistakes::{entries, place, scalar};
use fields::{FIELDS, WITHOUT_EFFECT};
pub(crate) use ports::{on_this_machine, told_in, told_its_port};

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
    /// What the file calls itself, as names of AWS's have it.
    pub(crate) name: Option<String>,
    /// Its services, in its order.
    pub(crate) services: Vec<(String, Service)>,
    /// What has no meaning here.
    pub(crate) notes: Vec<Note>,
}

/// Something that has no meaning here. What an anchor says is read once for each service that has it, and noted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// Of these services, with its place.
    Of { before: String, services: Vec<String>, after: &'static str },
    /// Something else, with its place.
    Other(String),
}

impl Note {
    /// What it says, but for what it says of services that are left out; none when that is all.
    pub(crate) fn said(&self, is_left_out: impl Fn(&str) -> bool) -> Option<String> {
        match self {
            Self::Other(said) => Some(said.clone()),
            Self::Of { before, services, after } => {
                let services: Vec<_> = services.iter().map(String::as_str).filter(|name| !is_left_out(name)).collect();
                (!services.is_empty()).then(|| format!("{before} of {} {after}", services.join(", ")))
            }
        }
    }
}

/// One service.
#[derive(Debug, Default)]
pub(crate) struct Service {
    /// What its image is built from; nothing when it is somebody else's.
    pub(crate) built: Option<Built>,
    /// What that image starts unless it is told otherwise.
    pub(crate) image_starts: Starts,
    pub(crate) image: Option<String>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Of these, what it says itself, and what its files say: those of another one that it extends come before its own.
    own_environment: BTreeMap<String, String>,
    of_files: BTreeMap<String, String>,
    /// How many tasks it has (`deploy.replicas`, `scale`).
    pub(crate) replicas: Option<u32>,
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
    /// Whether its command has values of variables, which may be secrets.
    pub(crate) is_told_secrets: bool,
    /// Whether it is started only when it is asked for.
    pub(crate) has_profiles: bool,
    /// Whether a proxy that reads its labels leads to it.
    pub(crate) is_routed: bool,
    /// Whether it says only what differs from another one.
    extends_another: bool,
    /// What is wrong with it, where it is somebody else's: a mistake once it is one of the application's containers.
    pub(crate) flaws: Vec<String>,
}

/// How many services may extend each other one after the other.
const DEEPEST: u32 = 16;

impl Compose {
    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|(own, _)| own == name).map(|(_, service)| service)
    }

    /// Reads the file in a folder; variables are those of `outside`, then those of `.env` beside it, as docker has it.
    ///
    /// # Errors
    /// Every mistake, with file, line and column.
    pub(crate) fn read(folder: &Path, file: &str, outside: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Said>> {
        let there = |why: String| vec![Said::There(format!("{file}: {why}"))];
        let path = folder.join(file);
        let text = shared::yaml::text_of(&path).map_err(&there)?;
        shared::yaml::read::<Value>(file, &text).map_err(|mistake| vec![Said::There(mistake.to_string())])?;
        let documents = MarkedYaml::load_from_str(&text).map_err(|error| there(error.to_string()))?;
        let Some(document) = documents.into_iter().next().map(without_tags) else {
            return Err(there("there is nothing in it".into()));
        };
        let mut variables = BTreeMap::new();
        let beside = path.with_file_name(".env");
        if beside.exists() {
            let text = shared::yaml::text_of(&beside).map_err(&there)?;
            variables =
                lines_of(&text, &outside).map_err(|why| vec![Said::There(format!("{}: {why}", beside.display()))])?;
        }
        let variable = |name: &str| outside(name).or_else(|| variables.get(name).cloned());
        let below = Path::new(file).parent().unwrap_or(Path::new(""));
        let mut reader =
            Reader { file, folder, below, variable: &variable, wrong: Vec::new(), notes: Vec::new(), name: None };
        let mut services = reader.file(&document);
        let awaited: Vec<_> = services.iter().flat_map(|(_, service)| service.awaits.clone()).collect();
        for (name, service) in &mut services {
            service.ends |= awaited.contains(name);
        }
        let mut wrong = reader.wrong;
        let built: Vec<_> =
            services.iter().filter(|(_, one)| one.built.is_some()).map(|(_, one)| one.image.clone()).collect();
        for (_, service) in &mut services {
            let is_own = service.built.is_some()
                || service.extends_another
                || built.is_empty()
                || (service.image.is_some() && built.contains(&service.image));
            if is_own {
                wrong.append(&mut service.flaws);
            }
        }
        for (name, service) in &services {
            for (needed, at) in &service.needs {
                if !services.iter().any(|(own, _)| own == needed) {
                    let known = services.iter().map(|(own, _)| own.as_str());
                    let why = shared::text::unknown("service", needed, known);
                    wrong.push(format!("{at}: `{name}` depends on `{needed}`, but {why}"));
                }
            }
        }
        // What stands in an anchor is read once for each that has it.
        let mut said = std::collections::BTreeSet::new();
        wrong.retain(|why| said.insert(why.clone()));
        if wrong.is_empty() {
            Ok(Self { name: reader.name, services, notes: reader.notes })
        } else {
            Err(wrong.into_iter().map(Said::There).collect())
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    folder: &'a Path,
    /// Where the file itself is in it.
    below: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<String>,
    notes: Vec<Note>,
    name: Option<String>,
}

impl Reader<'_> {
    fn note(&mut self, node: &MarkedYaml<'_>, what: &str) {
        let note = Note::Other(format!("{}: {what}", self.at(node)));
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Such as "compose.yaml:1:26: `restart` of web, worker has no effect here".
    fn note_of(&mut self, node: &MarkedYaml<'_>, what: &str, service: &str, after: &'static str) {
        let begin = format!("{}: {what}", self.at(node));
        let known = self.notes.iter_mut().find_map(|note| match note {
            Note::Of { before, services, after: end } if *before == begin && *end == after => Some(services),
            Note::Of { .. } | Note::Other(_) => None,
        });
        match known {
            Some(services) if services.iter().any(|known| known == service) => {}
            Some(services) => services.push(service.to_owned()),
            None => self.notes.push(Note::Of { before: begin, services: vec![service.to_owned()], after }),
        }
    }

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
                    let all: Vec<_> =
                        entries(value).into_iter().filter_map(|(name, node)| Some((scalar(name)?, node))).collect();
                    for (name, node) in &all {
                        let name = name.clone();
                        let before = self.wrong.len();
                        let mut service = self.service(&name, node, &all, DEEPEST);
                        service.flaws = self.wrong.split_off(before);
                        services.push((name, service));
                    }
                }
                "name" => self.name = self.text(value).map(|name| crate::local_yaml::plain(&name)),
                "version" | "volumes" | "networks" | "secrets" | "configs" | "models" => {}
                extension if extension.starts_with("x-") => {}
                other => self.find(key, &format!("`{other}` is not supported here")),
            }
        }
        if !found {
            self.find(document, "`services` is missing");
        }
        services
    }

    /// What a service begins with that says only what differs from another one (`extends`), which may do so itself.
    fn extended(&mut self, node: &MarkedYaml<'_>, all: &[(String, &MarkedYaml<'_>)], deep: u32) -> Service {
        let field = |name: &str| {
            entries(node).into_iter().find(|(key, _)| scalar(key).as_deref() == Some(name)).map(|(_, value)| value)
        };
        let base = scalar(node).or_else(|| field("service").and_then(scalar));
        let other_file = field("file").and_then(scalar);
        let found = base.as_ref().and_then(|base| all.iter().find(|(name, _)| name == base));
        match (found, &other_file, deep) {
            (Some((name, base)), None, 1..) => {
                // How it is started and waited for is its own affair.
                let base = self.service(name, base, all, deep - 1);
                Service { ends: false, has_profiles: false, extends_another: true, ..base }
            }
            (_, Some(file), _) => {
                self.find(
                    node,
                    &format!("`extends` of a service in {file} is not supported: write here what it takes from there"),
                );
                Service { extends_another: true, ..Service::default() }
            }
            (Some(_), None, _) => {
                self.find(node, "`extends` leads back to this service");
                Service { extends_another: true, ..Service::default() }
            }
            (None, None, _) => {
                let base = base.unwrap_or_default();
                let why = shared::text::unknown("service", &base, all.iter().map(|(name, _)| name.as_str()));
                self.find(node, &format!("`extends`: {why}"));
                Service { extends_another: true, ..Service::default() }
            }
        }
    }

    fn service(&mut self, name: &str, node: &MarkedYaml<'_>, all: &[(String, &MarkedYaml<'_>)], deep: u32) -> Service {
        let extends = entries(node).into_iter().find(|(key, _)| scalar(key).as_deref() == Some("extends"));
        let mut service = extends.map(|(_, value)| self.extended(value, all, deep)).unwrap_or_default();
        if !matches!(node.data, YamlData::Mapping(_)) {
            self.find(node, "a service is a mapping: names, each with a colon and a value");
        }
        for (key, value) in entries(node) {
            let field = scalar(key).unwrap_or_default();
            match field.as_str() {
                known if FIELDS.contains(&known) && is_null(value) => {}
                "image" => service.image = self.text(value),
                "build" => service.built = Some(self.built(value)),
                "command" => {
                    service.command = self.command(value);
                    let texts =
                        if let YamlData::Sequence(items) = &value.data { items.iter().collect() } else { vec![value] };
                    service.is_told_secrets = texts.into_iter().filter_map(scalar).any(|text| has_variables(&text));
                }
                // An empty one takes the image's away.
                "entrypoint" => service.entrypoint = Some(self.command(value)),
                "environment" => service.own_environment.extend(self.environment(value)),
                "env_file" => service.of_files.extend(self.files(value)),
                "healthcheck" => service.health_check = self.health_check(value, service.health_check.take()),
                "deploy" => {
                    let is_count =
                        |(key, _): &(&MarkedYaml<'_>, &MarkedYaml<'_>)| scalar(key).as_deref() == Some("replicas");
                    let (counts, others): (Vec<_>, Vec<_>) = entries(value).into_iter().partition(is_count);
                    let count = counts.first().and_then(|(_, count)| scalar(count)?.parse().ok());
                    service.replicas = count.or(service.replicas);
                    if let Some((other, _)) = others.first() {
                        let what = format!("`deploy.{}`", scalar(other).unwrap_or_default());
                        self.note_of(other, &what, name, "has no effect here");
                    }
                }
                "scale" => service.replicas = scalar(value).and_then(|count| count.parse().ok()),
                "depends_on" => (service.needs, service.awaits) = (self.needs(value), awaits(value)),
                "restart" if scalar(value).as_deref() == Some("no") => service.ends = true,
                "ports" => (service.port, service.published) = self.ports(name, value),
                "expose" => service.port = service.port.or(self.ports(name, value).0),
                "stop_grace_period" => service.stop_timeout = self.seconds(value),
                "init" | "extends" => {}
                extension if extension.starts_with("x-") => {}
                known if WITHOUT_EFFECT.contains(&known) => {
                    // An empty list is the way to say: always.
                    service.has_profiles |=
                        known == "profiles" && !matches!(&value.data, YamlData::Sequence(all) if all.is_empty());
                    service.is_routed |= known == "labels" && is_routed(value);
                    self.note_of(key, &format!("`{known}`"), name, "has no effect here");
                }
                other => {
                    let known = || FIELDS.iter().chain(WITHOUT_EFFECT).copied();
                    match shared::text::nearest(other, known()) {
                        Some(_) => self.find(key, &shared::text::unknown("field", other, known())),
                        None => self.find(key, &format!("compose files have no field `{other}`: take it out")),
                    }
                }
            }
        }
        if let Some(built) = &service.built {
            service.image_starts = built.starts(self.folder);
        }
        service.environment.clone_from(&service.of_files);
        service.environment.extend(service.own_environment.clone());
        service
    }

    /// A text with its variables replaced.
    fn text(&mut self, node: &MarkedYaml<'_>) -> Option<String> {
        let Some(text) = scalar(node) else {
            self.find(node, "text is expected");
            return None;
        };
        let lacking = std::cell::RefCell::new(Vec::new());
        let replaced = interpolated(&text, self.variable, &|name: &str| lacking.borrow_mut().push(name.to_owned()));
        for name in lacking.into_inner() {
            self.note(node, &format!("`{name}` has no value, and is empty, as docker has it: set it in .env"));
        }
        match replaced {
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
                None => reader.note(at, &format!("`{name}` has no value, and is left out, as docker does")),
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
            YamlData::Mapping(_) => {
                for (key, value) in entries(node) {
                    let Some(name) = scalar(key) else { continue };
                    let value = if is_null(value) { None } else { Some(self.text(value).unwrap_or_default()) };
                    set(self, key, name, value);
                }
            }
            _ => self.find(node, "names with their values are expected, or a list such as [\"NAME=value\"]"),
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

    /// What is said of it, over what is said where it is extended.
    fn health_check(&mut self, node: &MarkedYaml<'_>, base: Option<Value>) -> Option<Value> {
        let mut check = base.unwrap_or_else(|| json!({}));
        if !matches!(node.data, YamlData::Mapping(_)) {
            self.find(node, "a mapping is expected, such as {test: [\"CMD\", \"./is-well\"]}");
        }
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
                "start_interval" => self.note(key, "`start_interval` has no effect: task definitions do not know it"),
                other => self.find(key, &format!("`healthcheck.{other}` is not supported here")),
            }
        }
        check.get("command").is_some().then_some(check)
    }

    fn needs(&mut self, node: &MarkedYaml<'_>) -> Vec<(String, String)> {
        if let YamlData::Sequence(items) = &node.data {
            return items.iter().filter_map(|item| Some((self.text(item)?, self.at(item)))).collect();
        }
        if !matches!(node.data, YamlData::Mapping(_)) {
            self.find(node, "names of services are expected, as a list or with a condition each");
        }
        let mut needs = Vec::new();
        for (key, value) in entries(node) {
            let Some(name) = scalar(key) else { continue };
            let conditions = entries(value).into_iter().filter(|(key, _)| scalar(key).as_deref() == Some("condition"));
            for (_, condition) in conditions {
                let said = scalar(condition).unwrap_or_default();
                if !CONDITIONS.contains(&said.as_str()) {
                    let why = shared::text::unknown("condition", &said, CONDITIONS.iter().copied());
                    self.find(condition, &why);
                }
            }
            needs.push((name, self.at(key)));
        }
        needs
    }
}

/// The same document as it is without the others that docker merges it with: what `!reset` stands before is not said, and `!override`
/// changes nothing.
fn without_tags(node: MarkedYaml<'_>) -> MarkedYaml<'_> {
    let data = match node.data {
        YamlData::Tagged(tag, _) if tag.suffix == "reset" => YamlData::Value(saphyr::Scalar::Null),
        YamlData::Tagged(tag, inner) if tag.suffix == "override" => without_tags(*inner).data,
        YamlData::Mapping(all) => {
            YamlData::Mapping(all.into_iter().map(|(key, value)| (key, without_tags(value))).collect())
        }
        YamlData::Sequence(all) => YamlData::Sequence(all.into_iter().map(without_tags).collect()),
        other => other,
    };
    MarkedYaml { data, span: node.span }
}

/// What is waited for of a service that is needed.
const CONDITIONS: [&str; 3] = ["service_started", "service_healthy", "service_completed_successfully"];

/// Whether nothing is said behind a name, which is as if the name were not there.
fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(saphyr::Scalar::Null))
}

/// Whether labels say to a proxy that it leads here, as traefik's do.
fn is_routed(labels: &MarkedYaml<'_>) -> bool {
    let listed = if let YamlData::Sequence(items) = &labels.data { items.iter().collect() } else { Vec::new() };
    let named = entries(labels).into_iter().map(|(key, _)| key);
    let said = named.chain(listed).filter_map(scalar);
    said.into_iter().any(|label| label.starts_with("traefik.http.") || label.starts_with("traefik.tcp."))
}

/// The services whose end is waited for.
fn awaits(node: &MarkedYaml<'_>) -> Vec<String> {
    let completes = |value: &MarkedYaml<'_>| {
        let conditions = entries(value).into_iter().filter(|(key, _)| scalar(key).as_deref() == Some("condition"));
        conditions.into_iter().any(|(_, value)| scalar(value).as_deref() == Some("service_completed_successfully"))
    };
    entries(node).into_iter().filter(|(_, value)| completes(value)).filter_map(|(key, _)| scalar(key)).collect()
}
