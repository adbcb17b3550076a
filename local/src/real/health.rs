//! Asking tasks whether they are healthy: as a target group does, over HTTP or TCP, and as ECS's agent does, with the
//! container's own command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::{Machine, supervisor};
use crate::account::{HealthCheck, Protocol};
use crate::world::{ContainerCheck, Happening, Ill, Prober};

/// The most that is read of an answer: people see its first line.
const LARGEST_BODY: usize = 64 * 1024;

/// The longest first line that is shown.
const LONGEST_LINE: usize = 200;

/// Asks as a target group does, until the task is gone.
pub(super) async fn ask_target(machine: Machine, task: String, port: u16, check: HealthCheck) {
    loop {
        let asked = async {
            match check.protocol {
                Protocol::Http => get(port, &check).await,
                Protocol::Tcp => match TcpStream::connect(("127.0.0.1", port)).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(ill(format!("connecting to its port failed ({error})"), None, "")),
                },
            }
        };
        let answer = tokio::time::timeout(check.timeout.0, asked).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(ill(format!("{} did not answer within {}", check.what(), check.timeout), None, ""))
        });
        if machine.0.containers.are_ending() {
            return;
        }
        machine.happened(Happening::Checked { task: task.clone(), by: Prober::TargetGroup, answer });
        tokio::time::sleep(check.interval.0).await;
    }
}

async fn get(port: u16, check: &HealthCheck) -> Result<(), Ill> {
    let what = check.what();
    let failed = |why: String| ill(format!("{what} failed ({why})"), None, "");
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| failed(error.to_string()))?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(connection);
    let request = hyper::Request::get(check.path.as_str())
        // As AWS's: an application that answers to some names only must answer to this one, too.
        .header("host", format!("127.0.0.1:{port}"))
        .header("user-agent", "ELB-HealthChecker/2.0")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let code = response.status().as_u16();
    if check.matcher.takes(code) {
        return Ok(());
    }
    let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await;
    let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    Err(ill(format!("{what} answered {code}"), Some(code), &body))
}

/// How often a container is asked that was not well yet.
const FIRST: Duration = Duration::from_secs(1);

/// Asks as ECS's agent does, in what stands for the container, until that is gone.
pub(super) async fn ask_container(
    machine: Machine,
    (task, container): (String, String),
    check: ContainerCheck,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
) {
    let interval = check.interval.max(Duration::from_millis(100));
    let (mut has_been_well, mut told) = (false, None::<tokio::time::Instant>);
    loop {
        let asked = tokio::time::Instant::now();
        let answer = ask_once(&check, &folder, &environment).await;
        if machine.0.containers.are_ending() {
            return;
        }
        has_been_well |= answer.is_ok();
        // Until it is well for the first time it is asked more often, so that nobody waits for it longer than it needs; a failure counts as
        // seldom as the check says.
        if answer.is_ok() || told.is_none_or(|told| told.elapsed() >= interval) {
            told = Some(asked);
            machine.happened(Happening::Checked {
                task: task.clone(),
                by: Prober::Container(container.clone()),
                answer,
            });
        }
        tokio::time::sleep(if has_been_well { interval } else { interval.min(FIRST) }).await;
    }
}

/// Runs the check once; nothing of it is left, however it ends.
async fn ask_once(check: &ContainerCheck, folder: &Path, environment: &BTreeMap<String, String>) -> Result<(), Ill> {
    let what = format!("its healthCheck `{}`", check.command.join(" "));
    let cannot = |why: &str| ill(format!("{what} cannot be started ({why})"), None, "");
    let Some((program, arguments)) = check.command.split_first() else { return Err(cannot("it names no command")) };
    let mut command = Command::new(super::application::program(folder, program));
    command.args(arguments).current_dir(folder).env_clear().envs(environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| cannot(&error.to_string()))?;
    let _group = supervisor::take_charge(child.id());
    match tokio::time::timeout(check.timeout, child.wait_with_output()).await {
        Err(_) => Err(ill(format!("{what} did not end within {:?}", check.timeout), None, "")),
        Ok(Err(error)) => Err(ill(format!("{what} cannot be waited for ({error})"), None, "")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            // Of a program, the last line says what it is: below a traceback, say.
            let last = said.lines().rev().find(|line| !shared::text::plain(line).trim().is_empty()).unwrap_or_default();
            Err(ill(format!("{what} ended with {}", output.status), None, last))
        }
    }
}

fn ill(what: String, code: Option<u16>, said: &str) -> Ill {
    let first = said.lines().map(shared::text::plain).find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ill { what, code, said: shared::text::fit(first.trim(), LONGEST_LINE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_runs_out_of_time_leaves_no_child() {
        let note = std::env::temp_dir().join(format!("cutover-check-{}", std::process::id()));
        let script = format!("sleep 1000 & echo $! > {}; wait", note.display());
        let check = ContainerCheck {
            command: ["sh", "-c", &script].map(str::to_owned).into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            retries: 1,
            start_period: Duration::ZERO,
        };
        let path = std::env::var("PATH").unwrap_or_default();
        let asked = ask_once(&check, Path::new("/"), &[("PATH".to_owned(), path)].into()).await;
        assert!(asked.unwrap_err().what.ends_with("did not end within 500ms"));
        let child = std::fs::read_to_string(&note).unwrap();
        std::fs::remove_file(&note).unwrap();
        let child = nix::unistd::Pid::from_raw(child.trim().parse().unwrap());
        let begun = tokio::time::Instant::now();
        while !is_gone(child) {
            assert!(begun.elapsed() < Duration::from_secs(10), "its child {child} still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a process runs no more; one that nobody has waited for yet is gone, too.
    fn is_gone(process: nix::unistd::Pid) -> bool {
        let listed =
            std::process::Command::new("ps").args(["-o", "stat=", "-p", &process.to_string()]).output().unwrap();
        let state = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
        state.is_empty() || state.starts_with('Z')
    }
}
