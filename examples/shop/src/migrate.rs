//! Versioned migrations: each in a transaction of its own, the version in SQLite's `user_version`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Result;

const MIGRATIONS: [(&str, &str); 4] = [
    ("001_products", include_str!("../migrations/001_products.sql")),
    ("002_orders", include_str!("../migrations/002_orders.sql")),
    ("003_customer_email", include_str!("../migrations/003_customer_email.sql")),
    ("004_open_orders", include_str!("../migrations/004_open_orders.sql")),
];

pub fn open() -> Result<Connection> {
    let path = std::env::var("DATABASE").map_err(|_| "DATABASE is not set")?;
    let database = Connection::open(&path).map_err(|error| format!("{path}: {error}"))?;
    // Web, worker and migrations share the file.
    database.busy_timeout(Duration::from_secs(10))?;
    Ok(database)
}

pub fn version(database: &Connection) -> Result<usize> {
    Ok(database.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?.try_into()?)
}

pub fn migrate(to: Option<usize>) -> Result<()> {
    let mut database = open()?;
    let from = version(&database)?;
    let to = to.unwrap_or(MIGRATIONS.len());
    println!("database at version {from}, going to version {to}");
    for (at, (name, sql)) in MIGRATIONS.iter().enumerate().take(to).skip(from) {
        let begun = Instant::now();
        println!("applying {name}");
        pause();
        let transaction = database.transaction()?;
        transaction.execute_batch(sql).map_err(|error| format!("{name}: {error}"))?;
        transaction.pragma_update(None, "user_version", (at + 1) as i64)?;
        transaction.commit()?;
        check_rows(name)?;
        println!("applied {name} in {} ms", begun.elapsed().as_millis());
    }
    println!("database at version {}", version(&database)?);
    Ok(())
}

/// What somebody did by hand, on a Friday: the column is there, the version does not know.
pub fn drift() -> Result<()> {
    open()?.execute_batch("ALTER TABLE orders ADD COLUMN email TEXT")?;
    println!("added the column email to orders by hand");
    Ok(())
}

/// Some migrations talk a lot: this one says of each row that it has looked at it, if it is told how many there are.
fn check_rows(name: &str) -> Result<()> {
    let rows: u64 = std::env::var("CHATTY").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if rows == 0 || !name.starts_with("004") {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for row in 1..=rows {
        // Any generator will do whose values a reader can check.
        let sum = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        match row % 10_000 {
            1 => writeln!(out, "row {row} \u{1b}[32m{sum:08x}\u{1b}[0m in colour")?,
            2 => out.write_all(&[format!("row {row} {sum:08x} caf").as_bytes(), &[0xe9], b" in Latin-1\n"].concat())?,
            _ => writeln!(out, "row {row} {sum:08x}")?,
        }
    }
    Ok(())
}

/// Migrations of a large table take their time; this one takes as long as it is told.
fn pause() {
    let millis = std::env::var("PAUSE_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(millis));
}
