//! What a container knows of where it runs: its image, how it is asked to end, and who keeps it from being stopped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use crate::Result;

/// The tag of the image that this container runs: the shop's version.
pub fn version() -> String {
    let image = std::env::var("ECS_CONTAINER_METADATA_URI_V4").ok().and_then(|uri| {
        let metadata: Value = ureq::get(&uri).call().ok()?.body_mut().read_json().ok()?;
        Some(metadata.get("Image")?.as_str()?.to_owned())
    });
    let image = image.unwrap_or_default();
    image.rsplit([':', '@']).next().filter(|tag| !tag.is_empty()).unwrap_or("unknown").to_owned()
}

/// A job under way, for as long as it is kept: the container's init keeps ECS from stopping the task meanwhile.
pub struct Job(#[expect(dead_code, reason = "the job is over when this is closed")] Option<UnixStream>);

/// Says that a job begins; `None` when the task is about to be stopped: then none should.
pub fn begin_job() -> Result<Option<Job>> {
    let Ok(socket) = std::env::var("WORKER_SOCKET") else { return Ok(Some(Job(None))) };
    let init = UnixStream::connect(socket)?;
    (&init).write_all(b"job\n")?;
    let mut answer = String::new();
    BufReader::new(&init).read_line(&mut answer)?;
    if answer.starts_with("unprotected") {
        eprintln!("{}", answer.trim_end());
    }
    Ok((answer != "stopping\n").then_some(Job(Some(init))))
}

/// Becomes true when this signal asks the process to end.
pub fn asked_to_end(signal: i32) -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, asked.clone())?;
    Ok(asked)
}
