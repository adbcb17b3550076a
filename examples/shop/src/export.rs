//! Exports: long jobs, which have a queue of their own in the database. Whoever enqueues one *additionally* asks for a worker: a
//! task of its own, which no deployment ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::OptionalExtension as _;
use serde_json::json;
use signal_hook::consts::SIGQUIT;

use crate::{Result, ecs, migrate};

/// How many steps an export has.
const STEPS: u64 = 10;

/// Enqueues an export, unless it is there already, and asks for a worker.
pub fn enqueue(id: &str) -> Result<()> {
    let database = queue()?;
    database.execute("INSERT OR IGNORE INTO exports (id, state) VALUES (?, 'waiting')", [id])?;
    ask_for_worker("exports", id)
}

/// The ten lines that an application adds. Its SDK would sign the request and wait for it better; what it sends is this. Where
/// nobody has said which queue, there is nobody to ask.
fn ask_for_worker(worker: &str, id: &str) -> Result<()> {
    let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(queue), Some(environment)) = (setting("JOBS_QUEUE"), setting("ENVIRONMENT")) else { return Ok(()) };
    let endpoint = setting("AWS_ENDPOINT_URL_SQS").ok_or("AWS_ENDPOINT_URL_SQS is not set")?;
    let message = json!({"worker": worker, "environment": environment, "id": id});
    ureq::post(endpoint)
        .header("x-amz-target", "AmazonSQS.SendMessage")
        .header("content-type", "application/x-amz-json-1.0")
        .send(json!({"QueueUrl": queue, "MessageBody": message.to_string()}).to_string())?;
    Ok(())
}

/// The worker: exports what is asked for, until it is asked to end.
pub fn work() -> Result<()> {
    let version = ecs::version();
    let asked = ecs::asked_to_end(SIGQUIT)?;
    println!("exporter {version} looks for exports");
    let database = queue()?;
    while !asked.load(Ordering::Relaxed) {
        let next = "SELECT id FROM exports WHERE state = 'waiting' ORDER BY id LIMIT 1";
        let id: Option<String> = database.query_row(next, [], |row| row.get(0)).optional()?;
        match id {
            Some(id) => {
                let Some(_job) = ecs::begin_job()? else { break };
                export(&database, &id, &version)?;
            }
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    println!("exporter {version} ends, no export left half written");
    Ok(())
}

fn export(database: &rusqlite::Connection, id: &str, version: &str) -> Result<()> {
    let take = "UPDATE exports SET state = 'being written by ' || ? WHERE id = ? AND state = 'waiting'";
    if database.execute(take, [version, id])? == 0 {
        return Ok(());
    }
    let millis: u64 = std::env::var("EXPORT_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    for step in 1..=STEPS {
        std::thread::sleep(Duration::from_millis(millis / STEPS));
        println!("exporter {version}: export {id}, {step} of {STEPS}");
    }
    database.execute("UPDATE exports SET state = 'written by ' || ? WHERE id = ?", [version, id])?;
    println!("exporter {version} has written export {id}");
    Ok(())
}

fn queue() -> Result<rusqlite::Connection> {
    let database = migrate::open()?;
    database.execute("CREATE TABLE IF NOT EXISTS exports (id TEXT PRIMARY KEY, state TEXT NOT NULL)", [])?;
    Ok(database)
}
