//! For real: an application is released, released again in another version, and gone back to, by the command line alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::served::Served;

use crate::machine::{Release, ask_all_the_time, patiently, ports, processes_of, programs, shop, workspace};

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
#[ignore = "takes long: .ci/run plays it"]
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
    assert!(status == Some(2) && said.contains("there is no release to go back to"), "{said}");
    let none =
        format!("No release has ended in {}: ask where `release` ran, or give its `--state`.\n", state.display());
    assert_eq!(run("releases", &[]), (Some(0), none));
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

/// Runs a program that must succeed.
fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// A shop of one's own, in a repository of its own, whose services have these ports.
fn own_shop(name: &str, ports: u16) -> PathBuf {
    let target = ["build", "--locked", "--quiet", "--target-dir", "target"];
    must(Command::new(env!("CARGO")).args(target).current_dir(shop()));
    let folder = programs().join("releases").join(name);
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    // What it is built from is as old as it was: nothing but the shop itself is built again.
    must(Command::new("cp").args(["--recursive", "--preserve"]).arg(shop()).arg(&folder));
    drop(std::fs::remove_dir_all(folder.join(".cutover")));
    let text = std::fs::read_to_string(folder.join("local.yaml")).unwrap();
    let manifest = workspace().join("Cargo.toml");
    let own = text
        .replace("port: 8101", &format!("port: {}", ports + 1))
        .replace("../../Cargo.toml", &manifest.display().to_string());
    std::fs::write(folder.join("local.yaml"), own).unwrap();
    git(&folder, &["init", "--quiet"]);
    commit(&folder, "Sell teapots");
    folder
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"];
    must(Command::new("git").arg("-C").arg(folder).args(who).args(arguments))
}

/// Commits everything; the begin of its id.
fn commit(folder: &Path, message: &str) -> String {
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", message]);
    git(folder, &["rev-parse", "HEAD"])[..7].to_owned()
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn the_shop_is_released_twice_and_gone_back_to_and_its_databases_stay_migrated() {
    let ports = ports();
    let folder = own_shop("own-shop", ports);
    let first = git(&folder, &["rev-parse", "HEAD"])[..7].to_owned();
    let state = programs().join("releases/own-shop-state");
    drop(std::fs::remove_dir_all(&state));
    let command = |verb: &str, more: &[&str]| {
        let mut command = Command::new(programs().join("local"));
        command.arg(verb).arg(&folder).args(more).arg("--state").arg(&state);
        command
    };
    // What its customers see in each environment, from before its begin to the last action's.
    let run = |verb: &str, more: &[&str], last: &str| {
        let mut release = Release::of(command(verb, more), &state);
        release.until("+ Source/Source");
        let stop = Arc::<AtomicBool>::default();
        let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(ports + n, stop.clone())).collect();
        release.until(last);
        stop.store(true, Ordering::Relaxed);
        let seen = clients.into_iter().map(|client| {
            let (versions, errors) = client.join().unwrap();
            assert!(errors.is_empty(), "{errors:?}");
            versions
        });
        let seen: Vec<_> = seen.collect();
        let (status, output) = release.end();
        assert_eq!(status, Some(0), "{output}");
        (seen, output)
    };
    let (seen, _) = run("release", &["--approve"], "+ Deploy/Drain");
    assert!(seen.iter().all(|versions| *versions == ["1.0", first.as_str()]), "{seen:?}");

    // A change that is in no commit is another version all the same.
    let export = folder.join("src/export.rs");
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&export, format!("{text}\n// Exports are sold, too.\n")).unwrap();
    let (seen, output) = run("release", &["--again", "--approve"], "+ Deploy/Drain");
    let second = seen[0].last().unwrap().clone();
    assert_ne!(second, first, "{output}");
    assert!(seen.iter().all(|versions| *versions == [first.clone(), second.clone()]), "{seen:?}");

    let table = must(&mut command("releases", &[]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[1].starts_with("-> ") && lines[1].contains(&second) && lines[2].contains(&first), "{table}");

    let begun = Instant::now();
    let (seen, output) = run("rollback", &["--approve"], "+ Deploy/Drain");
    let took = begun.elapsed();
    assert!(seen.iter().all(|versions| *versions == [second.clone(), first.clone()]), "{seen:?}");
    for said in [
        format!("Back to {first} Sell teapots"),
        "MIGRATIONS AND OTHER TASKS RAN SINCE AND ARE NOT UNDONE: finish of ".to_owned(),
        format!("migrate of {second} Sell teapots, with changes that are in no commit"),
    ] {
        assert!(output.contains(&said), "{said}\n{output}");
    }
    // The time that it took is printed, and true.
    let (_, after) = output.split_once("Traffic is back on the earlier version everywhere after ").unwrap();
    let seconds: u64 = after.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{after}"));
    assert!(after[after.find(' ').unwrap()..].starts_with(" s"), "it takes no minute: {after}");
    assert!(seconds > 0 && Duration::from_secs(seconds) < took, "{seconds} s of {took:?}");
    for environment in ["us", "eu", "ap"] {
        assert!(!output.contains(&format!("{environment} | applied ")), "no migration runs: {output}");
        // The state of what runs is the newest run's.
        let runs = std::fs::read_dir(&state)
            .unwrap()
            .flatten()
            .map(|entry| entry.path().join(format!("{environment}.sqlite")));
        let database = runs.filter(|path| path.exists()).max().unwrap();
        let looked = must(
            Command::new(folder.join("target/debug/shop"))
                .arg("finish")
                .env("DATABASE", &database)
                .env("ENVIRONMENT", environment),
        );
        assert!(looked.contains("database at version 4, 40 orders with an address"), "{environment}: {looked}");
    }
    let table = must(&mut command("releases", &[]));
    assert!(
        table.lines().nth(1).is_some_and(|line| line.contains(&format!("back to {first} Sell teapots"))),
        "{table}"
    );
}

/// Releases by the operations that AWS's own tools ask; the execution.
fn release_served(served: &Served, pipeline: &str) -> String {
    let begun = served.call("CodePipeline_20150709.StartPipelineExecution", &json!({"name": pipeline}));
    let execution = begun["pipelineExecutionId"].as_str().unwrap().to_owned();
    approve_served(served, pipeline, &execution);
    execution
}

/// Answers its approval, and waits for its end.
fn approve_served(served: &Served, pipeline: &str, execution: &str) {
    let asked = json!({"pipelineName": pipeline, "pipelineExecutionId": execution});
    let status = patiently(|| {
        let shown = served.call("CodePipeline_20150709.GetPipelineExecution", &asked);
        let status = shown["pipelineExecution"]["status"].as_str().unwrap().to_owned();
        if status != "InProgress" {
            return Ok(status);
        }
        let state = served.call("CodePipeline_20150709.GetPipelineState", &json!({"name": pipeline}));
        let stages = state["stageStates"].as_array().cloned().unwrap_or_default();
        let actions = stages.iter().flat_map(|stage| stage["actionStates"].as_array().cloned().unwrap_or_default());
        let token = |action: &Value| action["latestExecution"]["token"].as_str().map(str::to_owned);
        let waits = |action: &Value| action["latestExecution"]["status"] == "InProgress";
        if let Some(token) = actions.filter(waits).find_map(|action| token(&action)) {
            let result = json!({"status": "Approved", "summary": "by the test"});
            let answer = json!({"pipelineName": pipeline, "stageName": "Approve", "actionName": "Approve", "token": token, "result": result});
            served.call("CodePipeline_20150709.PutApprovalResult", &answer);
        }
        Err(shown.to_string())
    });
    assert_eq!(status, "Succeeded");
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn the_releases_of_an_account_are_listed_shown_and_gone_back_to_with_its_credentials() {
    let folder = own_shop("account-shop", ports());
    let state = programs().join("releases/account-shop-state");
    drop(std::fs::remove_dir_all(&state));
    let mut served = Served::start(&programs().join("local"), &folder, &folder.join("local.yaml"), &state);
    let environment = served.environment.clone();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(programs().join("local"));
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    assert_eq!(ask(&["releases", "--aws"]), (Some(0), "No release has ended here yet.\n".to_owned()));
    let (status, said) = ask(&["rollback", "--aws"]);
    assert!(status == Some(2) && said.contains("there is no release to go back to"), "{said}");
    let (status, said) = ask(&["releases", "--aws", "--stack", "other"]);
    assert!(status == Some(2) && said.contains("other-pipeline"), "{said}");

    let first = release_served(&served, "cutover-pipeline");
    std::fs::write(folder.join("CHANGES"), "Coffee\n").unwrap();
    let commit = commit(&folder, "Sell coffee");
    let second = release_served(&served, "cutover-pipeline");
    let (status, said) = ask(&["releases", "--aws"]);
    let runs = format!("-> {}", &second[..8]);
    assert!(status == Some(0) && said.contains(&runs), "also before its record is there: {said}");
    assert!(said.contains(&format!("{commit} Sell coffee")) && said.contains("Sell teapots"), "{said}");
    let (status, said) = ask(&["releases", "--aws", ".", &first[..8]]);
    assert!(status == Some(0) && said.contains("Migrate/Migrate") && said.contains("Deploy/Drain"), "{said}");
    // Once its record is there, it tells who has written what since the release before.
    let said = patiently(|| {
        let (_, said) = ask(&["releases", "--aws", ".", &second[..8]]);
        if said.contains(&format!("commit         {commit} Sell coffee (Ann)")) { Ok(said) } else { Err(said) }
    });
    assert!(!said.contains("Sell teapots (Ann)"), "that was released before: {said}");

    let (status, said) = ask(&["workers"]);
    assert!(status == Some(0) && said.contains("us/exports: shop-export:"), "{said}");

    let (status, said) = ask(&["rollback", "--aws"]);
    assert!(status == Some(0) && said.starts_with("Going back to ") && said.contains("Sell teapots"), "{said}");
    let (_, back) = said.split_once("execution ").unwrap();
    let back = back.split(' ').next().unwrap().to_owned();
    approve_served(&served, "cutover-rollback", &back);
    let (_, said) = ask(&["releases", "--aws"]);
    let line = said.lines().find(|line| line.starts_with("-> ")).unwrap_or_default();
    assert!(line.contains(&back[..8]) && line.contains("back to "), "{said}");
    served.interrupt();
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
}
