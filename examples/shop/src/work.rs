//! The queue worker: packs open orders, one after the other. As some queue libraries do, it finishes the one it has when it gets
//! SIGQUIT, and leaves SIGTERM, which is what ECS sends, to its default: it is made for an init that turns one into the other.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::OptionalExtension as _;
use signal_hook::consts::SIGQUIT;

use crate::{Result, ecs, migrate};

/// How long an order takes, unless $PACKING_MS says otherwise.
const PACKING: u64 = 3000;

pub fn work() -> Result<()> {
    let version = ecs::version();
    let asked = ecs::asked_to_end(SIGQUIT)?;
    println!("worker {version} waits for orders");
    let database = migrate::open()?;
    while !asked.load(Ordering::Relaxed) {
        let order: Option<i64> = database
            .query_row("SELECT id FROM orders WHERE state = 'open' ORDER BY id LIMIT 1", [], |row| row.get(0))
            .optional()?;
        match order {
            Some(order) => {
                // Said before the order is taken: ECS leaves a protected task alone.
                let Some(_job) = ecs::begin_job()? else { break };
                pack(&database, order, &version)?;
            }
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    println!("worker {version} ends, no order left half packed");
    Ok(())
}

fn pack(database: &rusqlite::Connection, order: i64, version: &str) -> Result<()> {
    let taken = database.execute(
        "UPDATE orders SET state = 'being packed by ' || ? WHERE id = ? AND state = 'open'",
        rusqlite::params![version, order],
    )?;
    if taken == 0 {
        return Ok(());
    }
    println!("worker {version} packs order {order}");
    let millis = std::env::var("PACKING_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(PACKING);
    std::thread::sleep(Duration::from_millis(millis));
    database.execute("UPDATE orders SET state = 'packed by ' || ? WHERE id = ?", rusqlite::params![version, order])?;
    println!("worker {version} packed order {order}");
    Ok(())
}
