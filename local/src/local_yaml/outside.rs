//! What runs beside an application here, such as its database: where a compose file's addresses lead on this machine.
//!
//! Invariant: a value that is no address stays as it is, though it says the same as a service's name (`CACHE_STORE: redis`).

use std::collections::BTreeMap;

/// How names of variables end whose value is a host, or a host and a port, or several.
const HOSTS: [&str; 9] = ["HOST", "HOSTNAME", "ADDR", "ADDRESS", "SERVER", "HOSTS", "SERVERS", "BROKERS", "ENDPOINT"];

/// A variable's value with the services that run outside where they are on this machine, as `HOST` or `HOST:PORT`.
pub(crate) fn reached(variable: &str, value: &str, outside: &BTreeMap<String, String>) -> String {
    let is_host = HOSTS.iter().any(|last| variable.to_uppercase().ends_with(last));
    let named = outside.iter().filter(|(service, _)| !service.is_empty());
    named.fold(value.to_owned(), |value, (service, at)| {
        let host = at.split(':').next().unwrap_or_default();
        if is_host && value == *service {
            return host.to_owned();
        }
        let mut done = String::new();
        let mut rest = value.as_str();
        while let Some(found) = rest.find(service.as_str()) {
            let (before, after) = (&rest[..found], &rest[found + service.len()..]);
            done.push_str(before);
            // What stands before an @ is who asks, and not where.
            let is_user = after.find('@').is_some_and(|at| !after[..at].contains('/'));
            let begins = done.ends_with(['@', '/', ',']) && is_address(&done) && !is_user
                || (is_host && (done.is_empty() || done.ends_with(',')))
                || done.ends_with("@tcp(");
            let ends = !after.starts_with(|next: char| next.is_alphanumeric() || matches!(next, '-' | '_' | '.'));
            if begins && ends {
                let port =
                    after.strip_prefix(':').map_or(0, |port| port.chars().take_while(char::is_ascii_digit).count());
                // With the port that it is published at, where that is said; else with its own.
                let (here, skipped) = match (at.contains(':'), port) {
                    (true, port @ 1..) => (at.as_str(), port + 1),
                    (true, 0) => (at.as_str(), 0),
                    (false, _) => (host, 0),
                };
                done.push_str(here);
                rest = &after[skipped..];
            } else {
                done.push_str(service);
                rest = after;
            }
        }
        done.push_str(rest);
        done
    })
}

/// The variables of a container, each as [`reached`]; and where one names a host that leads to a port of this machine (`DB_HOST`), the one
/// that says its port (`DB_PORT`) says that.
pub(crate) fn all_reached(
    variables: &BTreeMap<String, String>,
    outside: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| (name.clone(), reached(name, value, outside))).collect();
    for (name, value) in variables {
        let published = outside.get(value).and_then(|at| at.split_once(':')).map(|(_, port)| port);
        let (Some(port), Some(before)) = (published, name.strip_suffix("HOST")) else { continue };
        if let Some(own) = all.get_mut(&format!("{before}PORT")).filter(|own| own.parse::<u16>().is_ok()) {
            port.clone_into(own);
        }
    }
    all
}

/// Whether what stands before is the begin of an address: `redis://`, `postgres://user:password@`, also after others (`,`).
fn is_address(before: &str) -> bool {
    before.rfind("://").is_some_and(|scheme| !before[scheme + 3..].contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_this_machine_and_what_only_sounds_like_one_stays() {
        let outside: BTreeMap<_, _> = [("db", "localhost:5433"), ("redis", "localhost")]
            .map(|(name, at)| (name.to_owned(), at.to_owned()))
            .into();
        for (variable, value, expected) in [
            ("DATABASE_URL", "postgres://blog:p@db:5432/db", "postgres://blog:p@localhost:5433/db"),
            ("DATABASE_URL", "postgres://db:db@db/db?a=db", "postgres://db:db@localhost:5433/db?a=db"),
            ("CELERY_BROKER_URL", "redis://redis:6379/0", "redis://localhost:6379/0"),
            ("NODES", "redis://redis:1,redis:2", "redis://localhost:1,localhost:2"),
            ("DB_HOST", "db", "localhost"),
            ("CACHE_ADDR", "redis:6379", "localhost:6379"),
            ("CACHE_STORE", "redis", "redis"),
            ("QUEUE", "high,redis,db", "high,redis,db"),
            ("PATH_OF_IT", "/var/db", "/var/db"),
            ("SITE", "https://blog.example/db/redis", "https://blog.example/db/redis"),
            ("OTHER", "postgres://p@db.example/x", "postgres://p@db.example/x"),
            ("DB_HOST", "db-2", "db-2"),
            ("PGHOST", "db", "localhost"),
            ("KAFKA_BROKERS", "redis:1,redis:2", "localhost:1,localhost:2"),
            ("DSN", "u:p@tcp(redis:3306)/x", "u:p@tcp(localhost:3306)/x"),
        ] {
            assert_eq!(reached(variable, value, &outside), expected, "{variable}={value}");
        }
        let nameless = [(String::new(), "localhost".to_owned())].into();
        assert_eq!(reached("DB_HOST", "db", &nameless), "db");
        let said =
            [("DB_HOST", "db"), ("DB_PORT", "5432"), ("REDIS_HOST", "redis"), ("REDIS_PORT", "6379"), ("PORT", "80")];
        let said = said.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let expected = [
            ("DB_HOST", "localhost"),
            ("DB_PORT", "5433"),
            ("PORT", "80"),
            ("REDIS_HOST", "localhost"),
            ("REDIS_PORT", "6379"),
        ];
        let all = all_reached(&said, &outside);
        let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(all, expected);
    }
}
