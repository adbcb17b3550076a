//! What starts a container: a process of this machine, or docker's or podman's client, in whose place the container is.
//!
//! Invariant: a container is called by a name that follows from its task, so that it can be ended by whoever knows the task. Values of
//! its variables are no arguments: those can be read by everybody on the machine.

use std::collections::BTreeMap;

use crate::account::Engine;
use crate::world::Start;

impl Engine {
    /// The client's program, where there is one.
    pub(super) fn client(self) -> Option<&'static str> {
        match self {
            Self::Processes => None,
            Self::Docker => Some("docker"),
            Self::Podman => Some("podman"),
        }
    }
}

/// What a container is called.
pub(super) fn name(start: &Start) -> String {
    format!("cutover-{}-{}", start.task.rsplit('/').next().unwrap_or_default(), start.container)
}

/// The port that the program listens on: its own within a container, and the one of this machine that it was given without.
pub(super) fn own_port(engine: Engine, start: &Start, port: Option<u16>) -> Option<u16> {
    if engine.client().is_some() { start.port } else { port }
}

/// The words that start it.
pub(super) fn words(
    engine: Engine,
    start: &Start,
    port: Option<u16>,
    environment: &BTreeMap<String, String>,
) -> Vec<String> {
    let command = told(&start.command, own_port(engine, start, port));
    let Some(client) = engine.client() else { return command };
    let mut words = vec![client.to_owned(), "run".into(), "--rm".into(), "--name".into(), name(start)];
    if let (Some(own), Some(port)) = (start.port, port) {
        words.extend(["--publish".into(), format!("127.0.0.1:{port}:{own}")]);
    }
    for (variable, value) in environment {
        // These two are the client's own, too.
        let is_both = matches!(variable.as_str(), "PATH" | "HOME");
        words.extend(["--env".into(), if is_both { format!("{variable}={value}") } else { variable.clone() }]);
    }
    let (entry_point, rest) = command.split_at(start.entry_point.min(command.len()));
    if let Some(first) = entry_point.first() {
        words.extend(["--entrypoint".into(), first.clone()]);
    }
    words.push(start.image.clone());
    words.extend(entry_point.iter().skip(1).chain(rest).cloned());
    words
}

/// The words that run a health check within it.
pub(super) fn check(engine: Engine, start: &Start, port: Option<u16>, command: &[String]) -> Vec<String> {
    let command = told(command, own_port(engine, start, port));
    let Some(client) = engine.client() else { return command };
    [vec![client.to_owned(), "exec".into(), name(start)], command].concat()
}

/// A command with the port that its task was given, for programs that are told it by an argument.
fn told(command: &[String], port: Option<u16>) -> Vec<String> {
    let text = port.map(|port| port.to_string()).unwrap_or_default();
    command.iter().map(|word| word.replace("{port}", &text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_started_by_name_with_its_port_published_and_no_value_in_its_arguments() {
        let start = Start {
            task: "arn:aws:ecs:us-east-1:1:task/blog/0a1b".into(),
            container: "web".into(),
            image: "registry.example/blog:1".into(),
            entry_point: 2,
            folder: String::new(),
            command: ["./entry", "-x", "serve", "{port}"].map(str::to_owned).into(),
            environment: BTreeMap::new(),
            port: Some(8000),
            target: None,
            check: None,
        };
        let variables =
            [("PATH", "/bin"), ("TOKEN", "secret")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let words = words(Engine::Docker, &start, Some(20_001), &variables.into());
        assert_eq!(
            words.join(" "),
            "docker run --rm --name cutover-0a1b-web --publish 127.0.0.1:20001:8000 --env PATH=/bin --env TOKEN --entrypoint ./entry \
             registry.example/blog:1 -x serve 8000"
        );
        let asked = check(Engine::Podman, &start, Some(20_001), &["curl".into(), "localhost:{port}".into()]);
        assert_eq!(asked.join(" "), "podman exec cutover-0a1b-web curl localhost:8000");
        let words = super::words(Engine::Processes, &start, Some(20_001), &BTreeMap::new());
        assert_eq!(words, ["./entry", "-x", "serve", "20001"]);
    }
}
