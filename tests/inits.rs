//! For real: applications that `init` writes the files of, and containers that docker's client starts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use tests::served::press;

use crate::machine::{account, ports, processes_of, programs, shop, workspace};

#[test]
fn a_compose_application_is_released_with_what_init_wrote_and_nothing_else() {
    let folder = programs().join("releases/blog");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["app.py", "compose.yaml", "Dockerfile"] {
        std::fs::copy(workspace().join("examples/blog").join(file), folder.join(file)).unwrap();
    }
    let local =
        |arguments: &[&str]| Command::new(programs().join("local")).args(arguments).arg(&folder).output().unwrap();
    let wrote = local(&["init"]);
    let said = String::from_utf8(wrote.stdout).unwrap();
    assert!(wrote.status.success() && said.contains("wrote     "), "{said}{}", String::from_utf8_lossy(&wrote.stderr));
    let written = std::fs::read_to_string(folder.join("local.yaml")).unwrap();
    // A port of its own, since other releases run at the same time.
    let own = format!("extends: local.yaml\nservices: {{web: {{port: {}}}}}\n", ports());
    std::fs::write(folder.join("local.ports.yaml"), own).unwrap();
    let checked = local(&["check"]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && said.contains("Migrate  migrate: runs `python3 app.py migrate`"), "{said}");
    let state = folder.join(".cutover");
    let state_argument = state.display().to_string();
    let mut command = Command::new(programs().join("local"));
    command.args(["release", "--approve", "--state", &state_argument]).arg(&folder);
    command.arg("--local").arg(folder.join("local.ports.yaml"));
    let released = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&released.stdout).into_owned();
    assert_eq!(released.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&released.stderr));
    for line in [
        "production | posts are there",
        "production web    | deployed by ECS (blue/green); its traffic waits for the others",
        "production worker | deployed by ECS (blue/green); its traffic waits for the others",
        "production/worker: 1 of 1 finished",
        "Succeeded after",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
    // A second time, nothing is written over.
    let again = local(&["init"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap().matches("is as it would be written").count(), 3);
    assert_eq!(std::fs::read_to_string(folder.join("local.yaml")).unwrap(), written);
}

#[test]
fn init_and_verify_read_the_account_that_serve_plays() {
    let (local, state) = account("served", "local.yaml", ports());
    let mut command = Command::new(programs().join("local"));
    command.arg("serve").arg(shop()).arg("--local").arg(&local).arg("--state").arg(&state);
    let mut serving = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines().map_while(Result::ok);
    let keys = lines.find_map(|line| line.strip_prefix("export ").map(str::to_owned)).unwrap();
    // Nobody reads on; a pipe that is closed ends nothing.
    let folder = state.join("shop");
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(programs().join("local"));
        command.arg(arguments[0]).arg(&folder).args(&arguments[1..]);
        command.envs(keys.split(' ').filter_map(|pair| pair.split_once('=')));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (status, said) = ask(&["init", "--aws", "--cluster", "shpo"]);
    assert!(status == Some(2) && said.contains("there is no cluster `shpo`: did you mean `shop`?"), "{said}");
    let (status, said) = ask(&["init", "--aws", "--cluster", "us-east-1/shop", "eu-west-1/shop"]);
    assert_eq!(status, Some(0), "{said}");
    let manifest = std::fs::read_to_string(folder.join("deploy.yaml")).unwrap();
    for written in [
        "  us-east-1:\n    region: us-east-1\n    cluster: shop\n",
        "    codedeploy_application: shop\n    deployment_group: web\n    family: shop-web\n    container: shop\n    port: 8080\n",
        "  worker:\n    kind: worker\n",
    ] {
        assert!(manifest.contains(written), "{written}\n{manifest}");
    }
    let (status, said) = ask(&["verify", "--aws", "--parameter", "Architecture=x86_64"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("us-east-1/web: its group waits at Ready 10 min, and others may take 1h"), "{said}");
    assert!(
        said.contains("note: us-east-1/web: its group's termination wait is 5 min") && !said.contains("not asked"),
        "{said}"
    );
    assert!(Command::new("kill").args(["-INT", &serving.id().to_string()]).status().unwrap().success());
    drop(lines);
    serving.wait().unwrap();
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
}

/// Stands in for docker: `run` runs the command here, at the port that it would publish.
const DOCKER: &str = r#"#!/bin/sh
verb=$1
shift
echo "$verb $*" >> "$DOCKER_LOG/log"
case $verb in
  version | rm | kill) exit 0 ;;
  exec) name=$1; shift ;;
  run)
    while :; do
      case $1 in
        --rm) shift ;;
        --name) name=$2; shift 2 ;;
        --publish) published=$2; shift 2 ;;
        --env) shift 2 ;;
        *) break ;;
      esac
    done
    image=$1
    shift
    own=${published##*:} published=${published%:*}
    echo "own=$own published=${published##*:}" > "$DOCKER_LOG/$name"
    ;;
esac
. "$DOCKER_LOG/$name"
for word; do
  [ -n "$own" ] && word=$(echo "$word" | sed "s/\b$own\b/$published/")
  set -- "$@" "$word"
  shift
done
exec "$@"
"#;

#[test]
fn real_containers_are_started_by_dockers_client_and_removed_with_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = programs().join("releases/docker");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(folder.join("bin")).unwrap();
    for file in ["app.py", "compose.yaml"] {
        std::fs::copy(workspace().join("examples/blog").join(file), folder.join(file)).unwrap();
    }
    let docker = folder.join("bin/docker");
    std::fs::write(&docker, DOCKER).unwrap();
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = folder.join("bin").display().to_string();
    let path = format!("{log}:{}", std::env::var("PATH").unwrap());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(programs().join("local"));
        command.args(arguments).arg(&folder).env("PATH", &path).env("DOCKER_LOG", &log);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(run(&["init"]).0, Some(0));
    let local = std::fs::read_to_string(folder.join("local.yaml")).unwrap();
    let with_docker = format!("\nrun_with: docker\nservices: {{web: {{port: {}}}}}\ncompose:", ports());
    let own = local.replace("\ncompose:", &with_docker);
    assert_ne!(own, local);
    // The stand-in is told where it writes by the same variable as everything that it runs.
    let own = own.replace("environment: {}", &format!("environment: {{DOCKER_LOG: {log:?}}}"));
    std::fs::write(folder.join("local.yaml"), own).unwrap();
    let state = folder.join(".cutover").display().to_string();
    // It stays up after its release: the console starts another one, which is followed as the first was.
    let mut staying = Command::new(programs().join("local"));
    staying.args(["release", "--approve", "--stay", "--state", &state]).arg(&folder);
    staying.env("PATH", &path).env("DOCKER_LOG", &log).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut staying = staying.spawn().unwrap();
    let mut lines = BufReader::new(staying.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = String::new();
    let mut until = |what: &str| {
        let found = lines.find(|line| {
            said.push_str(line);
            said.push('\n');
            line.contains(what)
        });
        found.unwrap_or_else(|| panic!("no {what:?} in\n{said}"))
    };
    let link = until("Console ").trim_start_matches("Console ").to_owned();
    until("All of it stays up until Ctrl-C");
    press(&link, "start", "");
    until("Releasing through cutover-pipeline");
    until("Succeeded after");
    until("All of it stays up until Ctrl-C");
    assert!(Command::new("kill").args(["-INT", &staying.id().to_string()]).status().unwrap().success());
    assert_eq!(lines.collect::<Vec<_>>(), [""; 0]);
    assert_eq!(staying.wait().unwrap().code(), Some(0), "how its last release ended");
    assert!(
        said.contains("production | posts are there") && said.contains("production/worker: 1 of 1 finished"),
        "{said}"
    );
    let calls = std::fs::read_to_string(folder.join("bin/log")).unwrap();
    let started = calls.lines().filter(|line| line.starts_with("run --rm --name cutover-")).count();
    assert!(started >= 8, "old, new and newer of two services, and two migrations: {calls}");
    assert!(
        calls.lines().any(|line| line.starts_with("run")
            && line.contains(":8000 --env")
            && line.ends_with("python3 app.py serve 8000")),
        "{calls}"
    );
    assert!(calls.contains("exec cutover-"), "its health check runs within it: {calls}");
    assert!(!calls.contains("blog.sqlite"), "no value of a variable is an argument: {calls}");
    for line in calls.lines().filter_map(|line| line.strip_prefix("run --rm --name ")) {
        let name = line.split(' ').next().unwrap();
        for gone in [format!("kill {name}"), format!("rm --force {name}")] {
            assert!(calls.lines().any(|call| call == gone), "`{gone}`, and before its end: {calls}");
        }
    }
    std::fs::write(docker, "#!/bin/sh\necho no daemon >&2\nexit 1\n").unwrap();
    let (status, said) = run(&["release", "--approve", "--state", &state]);
    assert!(
        status == Some(2) && said.contains("run_with: `docker version` failed: no daemon: start its daemon"),
        "{said}"
    );
}
