//! Asking tasks whether they are healthy: as a target group does, over HTTP or TCP, and as ECS's agent does, with the
//! container's own command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::Machine;
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

/// Asks as ECS's agent does, in what stands for the container, until that is gone.
pub(super) async fn ask_container(
    machine: Machine,
    task: String,
    check: ContainerCheck,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
) {
    let Some((program, arguments)) = check.command.split_first() else { return };
    loop {
        let mut command = Command::new(super::application::program(&folder, program));
        command.args(arguments).current_dir(&folder).env_clear().envs(&environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let what = format!("its healthCheck `{}`", check.command.join(" "));
        let answer = match tokio::time::timeout(check.timeout, command.output()).await {
            Err(_) => Err(ill(format!("{what} did not end within {:?}", check.timeout), None, "")),
            Ok(Err(error)) => Err(ill(format!("{what} cannot be started ({error})"), None, "")),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let said = [output.stdout, output.stderr].concat();
                Err(ill(format!("{what} ended with {}", output.status), None, &String::from_utf8_lossy(&said)))
            }
        };
        machine.happened(Happening::Checked { task: task.clone(), by: Prober::Container, answer });
        tokio::time::sleep(check.interval.max(Duration::from_millis(100))).await;
    }
}

fn ill(what: String, code: Option<u16>, said: &str) -> Ill {
    let first = said.lines().map(shared::text::plain).find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ill { what, code, said: shared::text::fit(first.trim(), LONGEST_LINE) }
}
