//! A container's port in docker compose's file.

use saphyr::{MarkedYaml, YamlData};

use super::{Reader, is_null};
use crate::mistakes::{entries, scalar};

/// Where debuggers listen: nobody's customers come there.
const DEBUGGERS: [u16; 4] = [9229, 5005, 5678, 9003];

impl Reader<'_> {
    /// The container's port of the first one that is no debugger's, and where it is published: `8080`, `80:8080`,
    /// `127.0.0.1:80:8080/tcp`, `{target: 8080, published: 80}`.
    pub(super) fn ports(&mut self, service: &str, node: &MarkedYaml<'_>) -> (Option<u16>, Option<u16>) {
        let YamlData::Sequence(items) = &node.data else {
            self.find(node, "a list is expected, such as [\"8080\"]");
            return (None, None);
        };
        let is_udp = |item: &&MarkedYaml<'_>| {
            let of_long = entries(item).into_iter().find(|(key, _)| scalar(key).as_deref() == Some("protocol"));
            let protocol = of_long.and_then(|(_, value)| scalar(value));
            protocol.or_else(|| scalar(item)?.rsplit_once('/').map(|(_, last)| last.to_owned())).as_deref()
                == Some("udp")
        };
        let (udp, items): (Vec<_>, Vec<_>) = items.iter().partition(is_udp);
        if let Some(first) = udp.first() {
            self.note_of(first, "a UDP port", service, "has no effect here");
        }
        let each: Vec<_> = items.iter().filter_map(|item| self.port(item)).collect();
        if let [_, second, ..] = items.as_slice() {
            self.note_of(second, "of the ports", service, "the first one is the container's here");
        }
        let first = each.iter().find(|(port, _)| !DEBUGGERS.contains(port)).or(each.first());
        first.map_or((None, None), |(port, published)| (Some(*port), *published))
    }

    fn port(&mut self, item: &MarkedYaml<'_>) -> Option<(u16, Option<u16>)> {
        let field = |name: &str| {
            entries(item).into_iter().find(|(key, _)| scalar(key).as_deref() == Some(name)).map(|(_, value)| value)
        };
        let (target, published) = (field("target"), field("published"));
        let text = self.text(target.unwrap_or(item))?;
        let mut parts = text.split('/').next().unwrap_or_default().rsplit(':');
        // Of several, `3000-3005`, the first.
        let first = |own: &str| own.split('-').next().and_then(|own| own.parse::<u16>().ok());
        let Some(port) = parts.next().and_then(first) else {
            self.find(item, &format!("`{text}` is no port: write it as \"8080\" or \"80:8080\""));
            return None;
        };
        let at = match published.filter(|node| !is_null(node)) {
            Some(node) => self.text(node),
            None => parts.next().map(str::to_owned),
        };
        let at = at.filter(|at| !at.is_empty());
        if let Some(wrong) = at.as_deref().filter(|at| first(at).is_none()) {
            self.find(item, &format!("`{wrong}` is no port of this machine: write it as \"8080\" or \"80:8080\""));
        }
        Some((port, at.as_deref().and_then(first).filter(|at| *at != port)))
    }
}

/// A command with `{port}` where it says the container's own port: as a word, or in one behind `:`, `=`, `-p` or `--port`.
pub(crate) fn told_its_port(port: u16, command: &[String]) -> Vec<String> {
    let port = port.to_string();
    command.iter().map(|word| if *word == port { "{port}".to_owned() } else { told(&port, word) }).collect()
}

/// What would answer to the whole network answers to this machine alone: in a container all addresses are its own, and a process has this
/// machine's.
pub(crate) fn on_this_machine(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = ["0.0.0.0", "[::]"].iter().filter_map(|all| rest.find(all)).min() {
        let (before, found) = rest.split_at(at);
        let after = &found[if found.starts_with('[') { "[::]".len() } else { "0.0.0.0".len() }..];
        out.push_str(before);
        let begins = !out.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '.');
        let ends = !after.starts_with(|next: char| next.is_ascii_alphanumeric() || matches!(next, '.' | '/'));
        out.push_str(if begins && ends { "127.0.0.1" } else { &found[..found.len() - after.len()] });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn told(port: &str, word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once(port) {
        out.push_str(before);
        let begins = [":", "=", "-p", "-p ", "--port "].iter().any(|sign| out.ends_with(sign));
        let ends = !after.starts_with(|next: char| next.is_ascii_digit() || next == '.');
        out.push_str(if begins && ends { "{port}" } else { port });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A variable's value with `{port}` where it says the container's own port, as `PORT=8080` and `LISTEN=0.0.0.0:8080` do.
pub(crate) fn told_in(port: u16, name: &str, value: &str) -> String {
    let is_it = name.to_uppercase().ends_with("PORT") && value == port.to_string();
    match value.strip_suffix(&format!(":{port}")) {
        _ if is_it => "{port}".to_owned(),
        Some(host @ ("" | "0.0.0.0" | "127.0.0.1" | "localhost" | "[::]" | "*")) => format!("{host}:{{port}}"),
        Some(_) | None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_for_the_whole_network_listens_for_this_machine() {
        for (word, expected) in [
            ("0.0.0.0", "127.0.0.1"),
            ("0.0.0.0:8000", "127.0.0.1:8000"),
            ("gunicorn -b 0.0.0.0:{port} app", "gunicorn -b 127.0.0.1:{port} app"),
            ("--bind=[::]:8000", "--bind=127.0.0.1:8000"),
            ("http://0.0.0.0:8000/a", "http://127.0.0.1:8000/a"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2a00:[::]x", "2a00:[::]x"),
        ] {
            assert_eq!(on_this_machine(word), expected, "{word}");
        }
    }

    #[test]
    fn a_command_is_told_its_port_wherever_it_says_it_and_nowhere_else() {
        for (word, expected) in [
            ("3000", "{port}"),
            ("0.0.0.0:3000", "0.0.0.0:{port}"),
            ("--port=3000", "--port={port}"),
            ("rm -f x && rails s -p 3000 -b '0.0.0.0'", "rm -f x && rails s -p {port} -b '0.0.0.0'"),
            ("gunicorn --bind 0.0.0.0:3000 --access-logfile -", "gunicorn --bind 0.0.0.0:{port} --access-logfile -"),
            ("--workers 3000", "--workers 3000"),
            (":30001", ":30001"),
            ("sleep 13000", "sleep 13000"),
        ] {
            assert_eq!(told_its_port(3000, &[word.to_owned()]), [expected], "{word}");
        }
        for (name, value, expected) in [
            ("PORT", "3000", "{port}"),
            ("SERVER_PORT", "3000", "{port}"),
            ("LISTEN_ADDR", ":3000", ":{port}"),
            ("MAX", "3000", "3000"),
            ("API", "http://api:3000", "http://api:3000"),
        ] {
            assert_eq!(told_in(3000, name, value), expected, "{name}");
        }
    }
}
