//! For real: each function as its own shipped program, through the Lambda Runtime API and over HTTP.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use local::local_yaml::read_application;
use local::real::{Binaries, Machine, Ports, Setting, set_up, state_folder};
use local::template;
use local::world::ExecutionStatus;
use serde_json::json;

use crate::machine::{PATIENCE, account, ports, processes_of, programs, shop, workspace};

/// The functions' programs.
const FUNCTIONS: [&str; 10] = [
    "dispatch-jobs",
    "run-tasks",
    "tail-logs",
    "deploy-services",
    "drain-workers",
    "halt-release",
    "notify",
    "launch-workers",
    "record-release",
    "check-rollback",
];

/// Each function as its own program, through the Lambda Runtime API and over HTTP, on plain Invoke actions.
#[tokio::test]
async fn every_shipped_binary_does_its_part_of_a_release() {
    releases_with(programs(), "shipped").await;
}

/// The same with what `sam build` has packaged for this machine's architecture.
#[tokio::test]
#[ignore = "needs what `sam build` leaves: .ci/run packages and then runs it"]
async fn every_packaged_bootstrap_does_its_part_of_a_release() {
    let folder = programs().join("packaged");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    for function in FUNCTIONS {
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        let resource: String = function.split('-').map(capital).collect();
        let bootstrap = workspace().join(".aws-sam/build").join(resource).join("bootstrap");
        assert!(bootstrap.exists(), "{} is not there: run `sam build` first", bootstrap.display());
        std::os::unix::fs::symlink(bootstrap, folder.join(function)).unwrap();
    }
    releases_with(&folder, "packaged").await;
}

/// What the world answers to a request for its clusters.
fn ask(port: u16, host: &str, key: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {host}:{port}\r\nx-amz-target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n\
         authorization: AWS4-HMAC-SHA256 Credential={key}/20261123/us-east-1/ecs/aws4_request, Signature=0\r\n\
         connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn releases_with(programs: &Path, name: &str) {
    let (local, state) = account(name, "local.yaml", ports());
    let state = state_folder(&state).unwrap();
    let account = read_application(&shop(), Some(&local), &state).unwrap().account;
    let text = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    let mut stack = template::read(&text, &account.parameters, &account.account, &account.region).unwrap();
    // Half of the actions each way: the custom ones go through dispatch-jobs.
    let custom = stack.pipeline.clone();
    tests::as_invoke_actions(&mut stack);
    for (stage, custom) in stack.pipeline.stages.iter_mut().zip(custom.stages) {
        if stage.name == "Deploy" || stage.name == "Migrate" {
            *stage = custom;
        }
    }
    set_up(&shop(), &account).await.unwrap();
    let setting = Setting {
        folder: &shop(),
        state: &state,
        images: &state.join("images"),
        stack,
        account: &account,
        binaries: Binaries::In(programs.to_owned()),
        ports: Ports::claim(0, &account).await.unwrap(),
        objects: Vec::new(),
    };
    let machine = Machine::start(setting).unwrap();
    // Whoever else is on this machine, or has this address under a name of its own, is not answered.
    for (host, key) in [("127.0.0.1", "local".to_owned()), ("evil.example", machine.keys().0)] {
        let port = machine.address().port();
        let answer = tokio::task::spawn_blocking(move || ask(port, host, &key)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("UnrecognizedClientException"), "{answer}");
    }
    let (port, key) = (machine.address().port(), machine.keys().0);
    let answer = tokio::task::spawn_blocking(move || ask(port, "127.0.0.1", &key)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("clusterArns"), "{answer}");
    let started =
        machine.call("CodePipeline_20150709.StartPipelineExecution", &json!({"name": "cutover-pipeline"})).unwrap();
    let release = started["pipelineExecutionId"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    let status = loop {
        let status = machine.world().status(&release).unwrap();
        let actions = machine.world().actions(&release);
        // Those who tell people do so after the end.
        if status.is_over() && machine.world().is_quiet(&release) {
            break status;
        }
        if let Some(action) = actions.iter().find(|action| action.approval.is_some()) {
            let answer = json!({"pipelineName": "cutover-pipeline", "stageName": action.stage, "actionName": action.action,
                "token": action.approval, "result": {"status": "Approved", "summary": "by the test"}});
            machine.call("CodePipeline_20150709.PutApprovalResult", &answer).unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "{actions:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let actions = machine.world().actions(&release);
    asks_before_it_goes_back(&machine, &release).await;
    machine.shut_down().await;
    assert_eq!(status, ExecutionStatus::Succeeded, "{actions:#?}");
    // Those of the schedules, whose minute it may have been.
    let is_broken_off = |note: &String| note.ends_with("the machine was shut down");
    let notes: Vec<_> = machine.notes().into_iter().filter(|note| !is_broken_off(note)).collect();
    assert!(notes.is_empty(), "{notes:?}");
    let told = machine.world().told(0).iter().map(|told| told.host.clone()).collect::<BTreeSet<_>>();
    let expected = ["api.datadoghq.eu", "hooks.slack.com", "sentry.io", "wiki.example"];
    assert_eq!(told, expected.map(str::to_owned).into());
    for function in FUNCTIONS.into_iter().filter(|function| *function != "halt-release") {
        let log = std::fs::read_to_string(state.join("functions").join(format!("{function}.log"))).unwrap();
        assert!(log.lines().count() > 1, "{function} has logged nothing");
        for line in log.lines() {
            let line: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{function}: {error}: {line}"));
            // What CloudWatch reads as metrics has a form of its own.
            assert!(line.get("level").is_some() || line.get("_aws").is_some(), "{line}");
        }
        assert!(!log.contains("artifactCredentials") && !log.contains("secretAccessKey"), "{function} logs the event");
    }
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
}

/// A way back to what was released, up to the question whether to go it: answered with no.
async fn asks_before_it_goes_back(machine: &Machine, release: &str) {
    let begun = Instant::now();
    let wait = async |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", machine.notes());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    wait("it is recorded", &|| machine.world().has_record(release)).await;
    let names = machine.world().pipeline_names();
    let key = shared::record::Store::artifact(&names[0], release);
    let start = json!({"name": names[1], "sourceRevisions":
        [{"actionName": "Source", "revisionType": "S3_OBJECT_KEY", "revisionValue": key}]});
    let started = machine.call("CodePipeline_20150709.StartPipelineExecution", &start).unwrap();
    let back = started["pipelineExecutionId"].as_str().unwrap().to_owned();
    wait("it asks", &|| machine.world().waiting_approval(&back).is_some()).await;
    let token = machine.world().waiting_approval(&back).unwrap();
    let asks = machine.world().actions(&back).into_iter().find_map(|one| one.custom_data).unwrap();
    assert!(asks.contains(", which runs already"), "{asks}");
    let no = json!({"pipelineName": names[1], "stageName": "Approve", "actionName": "Approve", "token": token,
        "result": {"status": "Rejected", "summary": "no"}});
    machine.call("CodePipeline_20150709.PutApprovalResult", &no).unwrap();
    wait("it is recorded, too", &|| machine.world().has_record(&back)).await;
}
