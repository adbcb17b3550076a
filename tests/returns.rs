//! For real: an application is released, released again in another version, and gone back to, by the command line alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::{ports, processes_of, programs, workspace};

/// What the blog's page says, where anybody answers.
fn page(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    (!body.is_empty()).then(|| body.trim().to_owned())
}

/// What is answered at a port while something is done, each answer once.
fn answers_while<T>(port: u16, work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen: Vec<String> = Vec::new();
            while !done.load(Ordering::Relaxed) {
                if let Some(body) = page(port)
                    && seen.last() != Some(&body)
                {
                    seen.push(body);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        (outcome, watcher.join().unwrap())
    })
}

#[test]
fn an_old_version_answers_again_after_a_way_back_and_the_database_stays_as_it_is() {
    let folder = programs().join("releases/returns");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["app.py", "compose.yaml", "Dockerfile"] {
        std::fs::copy(workspace().join("examples/blog").join(file), folder.join(file)).unwrap();
    }
    let state = folder.join(".cutover");
    let run = |verb: &str, more: &[&str]| {
        let mut command = Command::new(programs().join("local"));
        command.arg(verb).arg(&folder).args(more);
        if verb != "init" {
            command.arg("--local").arg(folder.join("local.ports.yaml")).arg("--state").arg(&state);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    assert_eq!(run("init", &[]).0, Some(0));
    let port = ports();
    let own = format!("extends: local.yaml\nservices: {{web: {{port: {port}}}}}\n");
    std::fs::write(folder.join("local.ports.yaml"), own).unwrap();
    let (status, said) = run("rollback", &["--approve"]);
    assert!(status == Some(2) && said.contains("there is no release before the one that runs"), "{said}");
    assert_eq!(run("releases", &[]), (Some(0), "No release has ended here yet.\n".to_owned()));
    let (status, said) = run("release", &["--approve"]);
    assert_eq!(status, Some(0), "{said}");

    let program = std::fs::read_to_string(folder.join("app.py")).unwrap();
    let changed = program.replace("<h1>The blog</h1>", "<h1>The new blog</h1>");
    assert_ne!(changed, program);
    std::fs::write(folder.join("app.py"), changed).unwrap();
    let ((status, said), seen) = answers_while(port, || run("release", &["--again", "--approve"]));
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(seen, ["<h1>The blog</h1>", "<h1>The new blog</h1>"], "{said}");

    let ((status, said), seen) = answers_while(port, || run("rollback", &["--approve"]));
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(seen, ["<h1>The new blog</h1>", "<h1>The blog</h1>"], "{said}");
    assert!(said.contains("MIGRATIONS AND OTHER TASKS RAN SINCE AND ARE NOT UNDONE: migrate of "), "{said}");
    assert!(said.contains("Traffic is back on the earlier version everywhere after "), "{said}");
    assert!(said.contains("By a deployment, since the quick way back is closed: "), "{said}");
    assert!(said.contains("Succeeded after ") && !said.contains("posts are there"), "no migration runs: {said}");

    let (_, table) = run("releases", &[]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[1].starts_with("-> ") && lines[1].contains("back to "), "{table}");
    let last = lines[3].split_whitespace().next().unwrap();
    let (status, timeline) = run("releases", &[last]);
    assert_eq!(status, Some(0), "{timeline}");
    for line in ["Migrate/Migrate", "posts are there", "production/web: ", "Approved by local"] {
        assert!(timeline.contains(line), "{line}\n{timeline}");
    }
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
}
