//! What a container can ask its ECS agent.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use signal_hook::consts::SIGTERM;

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

/// Asks not to be stopped while a job is under way, or allows it again.
pub fn protect(enabled: bool) {
    let Ok(agent) = std::env::var("ECS_AGENT_URI") else { return };
    let state = if enabled {
        json!({"ProtectionEnabled": true, "ExpiresInMinutes": 60})
    } else {
        json!({"ProtectionEnabled": false})
    };
    if let Err(error) = ureq::put(format!("{agent}/task-protection/v1/state")).send_json(state) {
        eprintln!("task protection: {error}");
    }
}

/// Becomes true when ECS asks the task to end.
pub fn asked_to_end() -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, asked.clone())?;
    Ok(asked)
}
