//! The shop: one program, several commands, as many containers have it.
//!
//!     shop prepare                 checks and lists the assets
//!     shop migrate [--to N]        brings the database to the newest version, or to version N
//!     shop drift                   adds a column by hand, as nobody should
//!     shop web                     answers HTTP on $PORT with the version and the products
//!     shop work                    packs orders, one after the other
//!     shop export                  writes exports, one after the other
//!     shop finish                  checks that the databases are as the new version wants them
//!
//! The database is $DATABASE, a SQLite file.

mod ecs;
mod export;
mod migrate;
mod web;
mod work;

use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["prepare"] => prepare(),
        ["migrate"] => migrate::migrate(None),
        ["migrate", "--to", version] => match version.parse() {
            Ok(version) => migrate::migrate(Some(version)),
            Err(_) => Err(format!("`{version}` is no version").into()),
        },
        ["drift"] => migrate::drift(),
        ["web"] => web::serve(),
        ["work"] => work::work(),
        ["export"] => export::work(),
        ["finish"] => finish(),
        _ => Err("usage: shop prepare | migrate [--to N] | drift | web | work | export | finish".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The asset step: in a real shop, an upload to a bucket.
fn prepare() -> Result<()> {
    for (name, content) in web::ASSETS {
        println!("asset {name}: {} bytes, checksum {:08x}", content.len(), checksum(content.as_bytes()));
    }
    Ok(())
}

/// The post-step: looks at the database as the new version will.
fn finish() -> Result<()> {
    let database = migrate::open()?;
    let version = migrate::version(&database)?;
    let orders: i64 =
        database.query_row("SELECT count(*) FROM orders WHERE email IS NOT NULL", [], |row| row.get(0))?;
    println!("database at version {version}, {orders} orders with an address");
    let mut states = database.prepare("SELECT state, count(*) FROM orders GROUP BY state ORDER BY state")?;
    let mut rows = states.query([])?;
    while let Some(row) = rows.next()? {
        println!("{} orders {}", row.get::<_, i64>(1)?, row.get::<_, String>(0)?);
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
