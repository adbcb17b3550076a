//! The names under which a release's work is found again: by a later job, by another function, by a person.
//!
//! Invariant: every name is made of the release and the manifest alone, so that whoever knows those finds everything,
//! without any function being alive.

use crate::job::Release;

/// What a task of the release carries in `startedBy` (fact 19): it is how ECS lists the release's tasks. The
/// environment is part of it, since two environments may share a cluster.
#[must_use]
pub fn started_by(release: &Release, task: &str, environment: &str) -> String {
    format!("cutover/{}/{task}/{environment}", release.execution)
}

/// Whose task this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartedBy<'a> {
    /// The pipeline execution.
    pub execution: &'a str,
    /// The manifest's task.
    pub task: &'a str,
    /// The manifest's environment.
    pub environment: &'a str,
}

/// What a worker, or a run by the clock, carries in `startedBy`: it is how ECS's events tell whose task has ended, and how the tasks
/// of one start are found whose answer was lost. `start` is its client token; an earlier version has not named it.
#[must_use]
pub fn worker_started_by(environment: &str, name: &str, start: Option<&str>) -> String {
    let kind = format!("{WORKER_STARTED_BY}{environment}/{name}");
    start.map_or(kind.clone(), |start| format!("{kind}/{start}"))
}

/// The environment and the name of a worker, from its `startedBy`; `None` when it is none.
#[must_use]
pub fn read_worker_started_by(text: &str) -> Option<(&str, &str)> {
    let (environment, rest) = text.strip_prefix(WORKER_STARTED_BY)?.split_once('/')?;
    Some((environment, rest.split_once('/').map_or(rest, |(name, _)| name)))
}

/// See the rule in template.yaml, which names it, too.
const WORKER_STARTED_BY: &str = "cutover-worker/";

/// Whose task this is, from its `startedBy`; `None` when it is not Cutover's.
#[must_use]
pub fn read_started_by(text: &str) -> Option<StartedBy<'_>> {
    let (execution, rest) = text.strip_prefix("cutover/")?.split_once('/')?;
    let (task, environment) = rest.split_once('/')?;
    Some(StartedBy { execution, task, environment })
}

/// `RunTask`'s client token, at most 64 characters (fact 18): the same for every repetition of one try, another for
/// each new try, and another when a person retries the action (whose first job, the key, is then another).
#[must_use]
pub fn client_token(key: &str, environment: &str, attempt: u32) -> String {
    let key: String = key.chars().filter(|char| *char != '-').take(32).collect();
    format!("{key}/{environment}/{attempt}")
}

/// The longest description of a deployment (fact 27).
const LONGEST_DESCRIPTION: usize = 256;

/// What a deployment carries in its description, since `CreateDeployment` has no client token (fact 27).
///
/// The execution makes it findable by `drain-workers` and `halt-release`; the key tells one try of the action from the
/// next; the revision that ran before is the way back for whoever finds the deployment, also when the function that created
/// it is dead. It is left out where it is not known (0), and where it does not fit.
#[must_use]
pub fn description(release: &Release, environment: &str, service: &str, key: &str, before: u32) -> String {
    let own = own_description(release, environment, service);
    let short = format!("{own}key {key}");
    let with = format!("{short} from {before}");
    if before == 0 || with.len() > LONGEST_DESCRIPTION { short } else { with }
}

/// What a deployment carries that brings the traffic back to the revision before the release, where CodeDeploy's own
/// rollback can not do it any more.
#[must_use]
pub fn back_description(release: &Release, environment: &str, service: &str, key: &str) -> String {
    format!("{}back, key {key}", own_description(release, environment, service))
}

/// What the description of every deployment of the release at this target begins with.
#[must_use]
pub fn own_description(release: &Release, environment: &str, service: &str) -> String {
    format!("{} {environment}/{service} ", description_prefix(release))
}

/// What a deployment's description says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described<'a> {
    /// The key of the action that created it.
    pub key: &'a str,
    /// The revision that ran before, 0 where it is not said.
    pub before: u32,
    /// Whether it brings that revision back.
    pub is_back: bool,
}

impl Described<'_> {
    /// What ran before, as `family:revision`, where the deployment deploys one of this family: both are of one, whatever the manifest says
    /// since.
    #[must_use]
    pub fn ran_before(&self, family: &str) -> Option<String> {
        (self.before > 0).then(|| format!("{family}:{}", self.before))
    }
}

/// Reads a [`description`] or [`back_description`] of the target whose descriptions begin with `own`.
#[must_use]
pub fn read_description<'a>(description: &'a str, own: &str) -> Option<Described<'a>> {
    let rest = description.strip_prefix(own)?;
    if let Some(key) = rest.strip_prefix("back, key ") {
        return Some(Described { key, before: 0, is_back: true });
    }
    let rest = rest.strip_prefix("key ")?;
    let (key, before) = rest.split_once(" from ").unwrap_or((rest, ""));
    Some(Described { key, before: before.parse().unwrap_or_default(), is_back: false })
}

/// Whether a deployment with this description was created by Cutover, for whichever release.
#[must_use]
pub fn is_ours(description: &str) -> bool {
    description.starts_with("Cutover ")
}

/// The pipeline and the execution that a deployment with this description is of, where Cutover created it.
#[must_use]
pub fn release_of(description: &str) -> Option<(&str, &str)> {
    let (pipeline, rest) = description.strip_prefix("Cutover ")?.split_once(' ')?;
    Some((pipeline, rest.split(' ').next()?))
}

/// What the description of every deployment of the release begins with.
#[must_use]
pub fn description_prefix(release: &Release) -> String {
    format!("Cutover {} {}", release.pipeline, release.execution)
}

/// The log stream of the release: everything that the terminal used to show. After a retry, another one.
#[must_use]
pub fn log_stream(release: &Release) -> String {
    match release.attempt {
        0 | 1 => format!("{}/{}", release.pipeline, release.execution),
        attempt => format!("{}/{}/{attempt}", release.pipeline, release.execution),
    }
}

/// A link to a log stream in the CloudWatch console (fact 37).
#[must_use]
pub fn log_link(region: &str, group: &str, stream: &str) -> String {
    format!(
        "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{}/log-events/{}",
        console_encoded(group),
        console_encoded(stream)
    )
}

/// A link to a task in the ECS console.
#[must_use]
pub fn task_link(region: &str, cluster: &str, task: &str) -> String {
    format!("https://{region}.console.aws.amazon.com/ecs/v2/clusters/{cluster}/tasks/{task}?region={region}")
}

/// Percent-encoded twice, with `$` for `%`, as the console's own links are (fact 37).
#[must_use]
pub fn console_encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("$25{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release {
            pipeline: "shop".into(),
            execution: "5a1f3c9e-0000-4000-8000-0123456789ab".into(),
            stage: None,
            action: None,
            attempt: 1,
        }
    }

    #[test]
    fn a_task_says_whose_it_is() {
        let release = release();
        let name = started_by(&release, &"t".repeat(40), &"e".repeat(20));
        let whose = read_started_by(&name).unwrap();
        assert_eq!((whose.execution, whose.task.len(), whose.environment.len()), (release.execution.as_str(), 40, 20));
        assert!(name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/_".contains(&byte)));
        assert_eq!(read_started_by("ecs-svc/123"), None);
    }

    #[test]
    fn a_client_token_fits_and_differs_with_each_of_its_parts() {
        let key = "5a1f3c9e-0000-4000-8000-0123456789ab";
        let token = client_token(key, "abcdefghijklmnopqrst", 4_294);
        assert!(token.len() <= 64, "{token}");
        let others = [client_token("other", "us", 1), client_token(key, "eu", 1), client_token(key, "us", 2)];
        assert!(others.iter().all(|other| *other != client_token(key, "us", 1)));
    }

    #[test]
    fn a_retry_has_a_stream_of_its_own() {
        assert_eq!(log_stream(&release()), "shop/5a1f3c9e-0000-4000-8000-0123456789ab");
        let again = Release { attempt: 2, ..release() };
        assert_eq!(log_stream(&again), "shop/5a1f3c9e-0000-4000-8000-0123456789ab/2");
    }

    #[test]
    fn a_link_encodes_as_the_console_does() {
        let link = log_link("us-east-1", "/cutover/shop", "shop/e-1");
        assert!(link.ends_with("log-group/$252Fcutover$252Fshop/log-events/shop$252Fe-1"), "{link}");
    }

    #[test]
    fn a_description_fits_and_says_what_it_was_given() {
        let long = Release { pipeline: "p".repeat(100), ..release() };
        let (environment, service, key) = ("e".repeat(20), "s".repeat(40), release().execution);
        for (release, before, said) in [(&long, 41, 41), (&long, 4100, 0), (&release(), 4100, 4100), (&release(), 0, 0)]
        {
            let own = own_description(release, &environment, &service);
            let text = description(release, &environment, &service, &key, before);
            assert!(text.len() <= 256, "{text}");
            let expected = Described { key: &key, before: said, is_back: false };
            assert_eq!(read_description(&text, &own), Some(expected), "{text}");
            let back = back_description(release, &environment, &service, &key);
            assert!(back.len() <= 256, "{back}");
            assert_eq!(read_description(&back, &own), Some(Described { key: &key, before: 0, is_back: true }));
        }
    }

    #[test]
    fn another_targets_description_is_not_ones_own() {
        let text = description(&release(), "us", "web", "k", 1);
        for (environment, service) in [("us", "worker"), ("us", "we"), ("eu", "web")] {
            assert_eq!(read_description(&text, &own_description(&release(), environment, service)), None);
        }
    }
}
