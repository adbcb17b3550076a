//! The web process: says which version it is, and what there is to buy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::{Result, ecs, export, migrate};

pub const ASSETS: [(&str, &str); 2] = [
    ("shop.css", "body { font-family: serif; margin: 4rem auto; max-width: 40rem }"),
    ("shop.js", "document.title = 'Shop'"),
];

/// What a master sets for its workers.
const WORKER: &str = "SHOP_WORKER";

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn serve() -> Result<()> {
    let version = ecs::version();
    if std::env::var_os(WORKER).is_some() {
        return Err("worker failed to boot: no module named shop.settings".into());
    }
    // New in this release: whoever orders gets a mail.
    if version != "1.0" && std::env::var("MAIL_FROM").is_ok_and(|sender| sender.is_empty()) {
        return Err("MAIL_FROM is empty: this version sends mails, say from whom".into());
    }
    // New, too: it fills its cache before it answers, which can take a while.
    if version != "1.0" {
        let millis = std::env::var("WARMING_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(millis));
    }
    let listener = listen("web", &version)?;
    // From here on SIGTERM is waited for.
    let mut asked = Signals::new([SIGTERM])?;
    // Somebody wants an export as soon as the shop is open.
    if let Ok(id) = std::env::var("FIRST_EXPORT")
        && version == "1.0"
    {
        export::enqueue(&id)?;
    }
    let broken = std::env::var("BROKEN").ok().filter(|_| version != "1.0");
    if broken.as_deref() == Some("boot") {
        return lead(&version, asked);
    }
    let (broken, answered) = (broken.is_some(), version.clone());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let version = answered.clone();
            std::thread::spawn(move || {
                if let Err(error) = answer(client, &version, broken) {
                    eprintln!("error: {error}");
                }
            });
        }
    });
    asked.forever().next();
    println!("web {version} ends");
    Ok(())
}

/// Has its workers answer, as servers of many processes do: the master holds the port, and boots a worker again whenever one
/// dies, which all of this version's do.
fn lead(version: &str, mut asked: Signals) -> Result<()> {
    println!("web {version}: master is ready, booting workers");
    while asked.pending().next().is_none() {
        let mut worker = Command::new(std::env::current_exe()?).arg("web").env(WORKER, "1").spawn()?;
        let status = worker.wait()?;
        eprintln!("worker {} ended with {status}, booting another", worker.id());
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("web {version}: master ends");
    Ok(())
}

/// Listens on $PORT.
fn listen(what: &str, version: &str) -> Result<TcpListener> {
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("{what} {version} listens on port {port}");
    Ok(listener)
}

fn answer(client: TcpStream, version: &str, broken: bool) -> Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(&client).lines();
    let asked = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let page = match asked.strip_prefix("POST /exports/").and_then(|rest| rest.split(' ').next()) {
        _ if broken => Err("no such table: prices".into()),
        Some(id) => export::enqueue(id).map(|()| json!({"export": id})),
        None => page(version),
    };
    let (status, body) = match page {
        Ok(body) => ("200 OK", body),
        Err(error) => ("500 Internal Server Error", json!({"error": error.to_string()})),
    };
    let body = format!("{body}\n");
    write!(
        &client,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

fn page(version: &str) -> Result<Value> {
    let database = migrate::open()?;
    let mut statement = database.prepare("SELECT name, cents FROM products ORDER BY name")?;
    let products =
        statement.query_map([], |row| Ok(json!({"name": row.get::<_, String>(0)?, "cents": row.get::<_, i64>(1)?})))?;
    let products = products.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(json!({"version": version, "database": migrate::version(&database)?, "products": products}))
}
