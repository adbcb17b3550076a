//! For real: the command line on the shop, and each function as its own shipped binary, with processes, ports and HTTP.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use local::local_yaml::read_application;
use local::real::{Binaries, Machine, Ports, Setting, set_up, state_folder};
use local::template;
use local::world::ExecutionStatus;
use serde_json::json;

/// The longest that a release of the shop may take here.
const PATIENCE: Duration = Duration::from_secs(150);

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

pub(crate) fn shop() -> PathBuf {
    workspace().join("examples/shop")
}

/// The folder of the programs as they are shipped, built once.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--bins", "--quiet"])
            .current_dir(workspace())
            .status()
            .unwrap();
        assert!(built.success());
        // Tests are in target/<profile>/deps.
        let here = std::env::current_exe().unwrap();
        here.parent().unwrap().parent().unwrap().to_owned()
    })
}

/// A `local.yaml` of the shop with ports of its own, so that several releases can run at once, and its state folder; with
/// a variant of it, when that is another file.
pub(crate) fn account(name: &str, file: &str, ports: u16) -> (PathBuf, PathBuf) {
    let folder = programs().join("releases").join(name);
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let mut text = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    // The next environments have the next ones.
    assert!(text.contains("port: 8101"), "local.yaml has no port: 8101");
    text = text.replace("port: 8101", &format!("port: {}", ports + 1));
    std::fs::write(folder.join("local.yaml"), text).unwrap();
    if file != "local.yaml" {
        std::fs::copy(shop().join(file), folder.join(file)).unwrap();
    }
    (folder.join(file), folder)
}

/// The command line under way.
struct Release {
    process: Child,
    lines: Arc<std::sync::Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
    state: PathBuf,
}

impl Release {
    fn start(local: &Path, state: &Path, approve: bool) -> Self {
        let mut command = Command::new(programs().join("local"));
        command.arg("release").arg(shop()).arg("--local").arg(local).arg("--state").arg(state);
        if approve {
            command.arg("--approve");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().unwrap();
        let lines = Arc::<std::sync::Mutex<Vec<String>>>::default();
        let (out, sink) = (process.stdout.take().unwrap(), lines.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { process, lines, reader, state: state.to_owned() }
    }

    fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn until(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.output().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "no `{text}` in\n{}", self.output());
            assert!(self.process.try_wait().unwrap().is_none(), "it ended without `{text}`:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Its exit status and output; nothing that it started may be left.
    fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            match self.process.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.output()),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        self.reader.join().unwrap();
        let left = processes_of(&self.state);
        assert!(left.is_empty(), "processes are left: {left:?}");
        let output = self.lines.lock().unwrap().join("\n");
        (status.code(), output)
    }
}

/// The processes whose environment names this state folder.
pub(crate) fn processes_of(state: &Path) -> Vec<String> {
    let needle = format!("{}/", state.display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let with = entries.filter(|entry| {
        std::fs::read(entry.path().join("environ"))
            .is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(&needle))
    });
    with.map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default()).collect()
}

/// The version that the shop's web answers with on this port.
fn version(port: u16) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    let (_, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: `{text}`"))?;
    let page: serde_json::Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
    page["version"].as_str().map(str::to_owned).ok_or_else(|| body.to_owned())
}

/// Asks every 50 ms until told to stop: the versions in the order in which they were seen, and the errors.
fn ask_all_the_time(port: u16, stop: Arc<AtomicBool>) -> JoinHandle<(Vec<String>, BTreeSet<String>)> {
    std::thread::spawn(move || {
        let (mut versions, mut errors): (Vec<String>, _) = (Vec::new(), BTreeSet::new());
        while !stop.load(Ordering::Relaxed) {
            match version(port) {
                Ok(version) if versions.last() != Some(&version) => versions.push(version),
                Ok(_) => {}
                // A release that ends takes its services with it: that is no error of theirs.
                Err(error) => {
                    std::thread::sleep(Duration::from_millis(500));
                    if !stop.load(Ordering::Relaxed) {
                        errors.insert(error);
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        (versions, errors)
    })
}

#[test]
fn the_shop_is_released_and_its_customers_notice_nothing() {
    let (local, state) = account("good", "local.yaml", 8200);
    let mut release = Release::start(&local, &state, true);
    release.until("Source/Source");
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(8200 + n, stop.clone())).collect();
    release.until("+ Deploy/Drain");
    // The new version answers; what it is asked from now on ends with the release itself.
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (versions, errors) = client.join().unwrap();
        assert_eq!(versions.len(), 2, "old, then new: {versions:?}");
        assert_eq!(versions[0], "1.0");
        assert!(errors.is_empty(), "{errors:?}");
    }
    let (status, output) = release.end();
    assert_eq!(status, Some(0), "{output}");
    for environment in ["us", "eu", "ap"] {
        for said in [
            "database at version 2, going to version 4",
            "applied 003_customer_email",
            "database at version 4, 40 orders with an address",
        ] {
            assert!(output.contains(&format!("{environment} | {said}")), "{environment}: {said}\n{output}");
        }
        let own: Vec<_> = output.lines().filter(|line| line.contains(&format!("{environment} | "))).collect();
        assert!(own.iter().any(|line| line.contains(" orders packed by 1.0")), "the old worker worked: {own:#?}");
        assert!(!own.iter().any(|line| line.contains("being packed by 1.0")), "and left nothing half done: {own:#?}");
        let drained = format!("{environment}/worker: 1 of 1 finished");
        assert!(output.contains(&drained), "{drained}\n{output}");
    }
    assert!(output.contains("Succeeded after"), "{output}");
    // A long job that was asked for before the release goes on after it, in the version that it began with.
    let (_, after) = output.split_once("Workers, which no release ends").unwrap_or_default();
    for environment in ["us", "eu", "ap"] {
        let line = after.lines().find(|line| line.contains(&format!("{environment}/exports"))).unwrap_or_default();
        assert!(line.contains("registry.example/shop:1.0, at work for"), "{environment}: {line}\n{output}");
    }
}

#[test]
fn services_of_each_of_ecss_kinds_are_released_and_their_customers_notice_nothing() {
    // A canary, a linear service, one of CodeDeploy's, and a hook that is a real program.
    let (local, state) = account("mixed", "local.mixed.yaml", 8440);
    let mut release = Release::start(&local, &state, true);
    release.until("Source/Source");
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(8440 + n, stop.clone())).collect();
    release.until("+ Deploy/Drain");
    stop.store(true, Ordering::Relaxed);
    for (client, steps) in clients.into_iter().zip([true, true, false]) {
        let (versions, errors) = client.join().unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(versions.first().map(String::as_str), Some("1.0"));
        assert_ne!(versions.last().map(String::as_str), Some("1.0"), "{versions:?}");
        // While the traffic is shared, answers change from one version to the other and back.
        assert_eq!(versions.len() > 2, steps, "{versions:?}");
    }
    let (status, output) = release.end();
    assert_eq!(status, Some(0), "{output}");
    for said in [
        "us web    | deployed by ECS (canary); its traffic waits for the others in PRE_PRODUCTION_TRAFFIC_SHIFT",
        "us web    | POST_SCALE_UP, 2 of 2 new tasks run, 0 % of traffic, hook look-at-shop runs",
        "10 % of traffic",
        "50 % of traffic",
        "us worker | deployed by ECS (rolling); its traffic does not wait",
        "eu worker | deployed by CodeDeploy (group worker of shop); its traffic waits for the others",
        "us/worker: 1 of 1 finished",
    ] {
        assert!(output.contains(said), "{said}\n{output}");
    }
}

#[test]
fn an_old_workers_job_that_takes_longer_than_its_stop_timeout_outlives_the_release() {
    // An order takes 25 s, and ECS kills 3 s after SIGTERM, which the shop's worker does not survive either.
    let (local, state) = account("long-jobs", "local.yaml", 8360);
    let text = std::fs::read_to_string(&local).unwrap();
    let slow = [
        ("stop_timeout: 60s", "stop_timeout: 3s"),
        ("STOP_TIMEOUT: 60s", "STOP_TIMEOUT: 3s"),
        ("\"4000\"", "\"25000\""),
    ];
    let text = slow.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "local.yaml has no {from}");
        text.replace(from, to)
    });
    std::fs::write(&local, text).unwrap();
    let (status, output) = Release::start(&local, &state, true).end();
    assert_eq!(status, Some(0), "{output}");
    for environment in ["us", "eu", "ap"] {
        assert!(output.contains(&format!("{environment}/worker: 1 of 1 finished")), "{environment}: {output}");
        let own: Vec<_> = output.lines().filter(|line| line.contains(&format!("{environment} | "))).collect();
        assert!(own.iter().any(|line| line.contains(" orders packed by 1.0")), "its job ended well: {own:#?}");
        assert!(!own.iter().any(|line| line.contains("being packed by 1.0")), "and was the last one: {own:#?}");
    }
    assert!(!output.contains("Warning. Old workers"), "{output}");
}

#[test]
fn a_drifted_database_fails_the_release_with_sqlites_own_words() {
    let (local, state) = account("drifted", "local.drifted.yaml", 8210);
    let (status, output) = Release::start(&local, &state, true).end();
    assert_eq!(status, Some(1), "{output}");
    let (_, verdict) = output.split_once("Migrate/Migrate failed:").unwrap();
    for said in [
        "migrate failed in ap: container `shop` ended with exit code 1.",
        "error: 003_customer_email: duplicate column name: email",
        "us: stopped",
        "eu: stopped",
    ] {
        assert!(verdict.contains(said), "{said}\n{output}");
    }
    assert!(!output.contains("> Deploy/Deploy") && !output.contains("> Approve/Approve"), "{output}");
    assert!(verdict.contains("shop:1.0"), "the old version has the traffic: {output}");
}

#[test]
fn ctrl_c_in_the_middle_of_a_migration_stops_it_everywhere() {
    let (local, state) = account("interrupted", "local.slow.yaml", 8220);
    let mut release = Release::start(&local, &state, true);
    release.until("us | applying 003_customer_email");
    release.interrupt();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("Stopping the release") && output.contains("\nStopped after"), "{output}");
    assert!(!output.contains("applied 003_customer_email"), "nothing was half done: {output}");
    let (_, summary) = output.split_once("\nStopped after").unwrap();
    assert!(
        summary.contains("prepare: done in us\n") && summary.contains("migrate: not done in us, eu, ap\n"),
        "{output}"
    );
}

#[test]
fn ctrl_c_while_an_approval_waits_ends_the_release() {
    let (local, state) = account("interrupted-approval", "local.yaml", 8280);
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    release.interrupt();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("\nStopped after") && !output.contains("> Deploy/Deploy"), "{output}");
    assert!(output.contains("halt complete: nothing of the release was running any more"), "{output}");
}

#[test]
fn ctrl_c_in_the_middle_of_a_blue_green_deployment_rolls_it_back_everywhere() {
    // In `eu` it never gets ready, so the others wait for it.
    let (local, state) = account("interrupted-deployment", "local.yaml", 8290);
    let slow = local.with_file_name("local.warming.yaml");
    let text =
        "extends: local.yaml\nenvironments: {eu: {containers: {shop-web: {environment: {WARMING_MS: \"60000\"}}}}}\n";
    std::fs::write(&slow, text).unwrap();
    let local = slow;
    let mut release = Release::start(&local, &state, true);
    release.until("ready, its traffic waits for the others");
    release.interrupt();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(
        output.contains("\nStopped after") && output.contains("halt complete: stopped the deployment of "),
        "{output}"
    );
    let (_, traffic) = output.split_once("\nTraffic\n").unwrap();
    assert_eq!(traffic.matches("shop:1.0").count(), 6, "{output}");
    assert!(output.contains("hooks.slack.com is told: :octagonal_sign: shop: release stopped"), "{output}");
}

#[test]
fn a_new_version_that_crashes_at_start_in_one_environment_gets_no_traffic_anywhere() {
    let (local, state) = account("crashing", "local.crashing.yaml", 8260);
    let mut release = Release::start(&local, &state, true);
    release.until("Source/Source");
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=3).map(|n| ask_all_the_time(8260 + n, stop.clone())).collect();
    release.until("x Deploy/Deploy");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (versions, errors) = client.join().unwrap();
        assert_eq!(versions, ["1.0"], "traffic never leaves the old version");
        assert!(errors.is_empty(), "{errors:?}");
    }
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    let (_, verdict) = output.split_once("Deploy/Deploy failed:").unwrap();
    for said in [
        "eu/web failed: ",
        "container `shop` ended with exit code 1",
        "Its last line: error: MAIL_FROM is empty: this version sends mails, say from whom",
        "Traffic is on the old version everywhere.",
        "us/web                  1      2      1  rolled back",
        "ap/worker               1      2      1  rolled back",
    ] {
        assert!(verdict.contains(said), "{said}\n{output}");
    }
}

#[test]
fn a_new_version_that_does_not_work_behind_its_open_port_gets_no_traffic_anywhere() {
    let (local, state) = account("broken", "local.broken.yaml", 8330);
    let (status, output) = Release::start(&local, &state, true).end();
    assert_eq!(status, Some(1), "{output}");
    for note in [
        "us-east-1 web: GET / answered 500 (",
        "times): {\"error\":\"no such table: prices\"}",
        "eu-west-1 web: GET / did not answer within 2s (",
    ] {
        assert!(output.contains(note), "{note}\n{output}");
    }
    let (_, verdict) = output.split_once("Deploy/Deploy failed:").unwrap();
    assert!(
        verdict
            .contains("/web failed: its new tasks keep dying (4 so far, max_failed_tasks is 3): ECS stopped it since")
    );
    assert!(verdict.contains("it failed its target group's health checks ("), "{output}");
    assert!(verdict.contains("Traffic is on the old version everywhere."), "{output}");
    let (_, traffic) = output.split_once("\nTraffic\n").unwrap();
    assert_eq!(traffic.matches("shop:1.0").count(), 6, "{output}");
}

#[test]
fn a_migration_that_talks_a_lot_is_shown_to_the_last_line() {
    // More than 100,000 in all three.
    const ROWS: u64 = 34_000;
    let (local, state) = account("chatty", "local.chatty.yaml", 8270);
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    release.process.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let (_, output) = release.end();
    let sum = |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let expected = (1..=ROWS).fold(0_u64, |all, row| all.wrapping_mul(31).wrapping_add(sum(row)));
    for environment in ["us", "eu", "ap"] {
        let label = format!("{environment} | row ");
        let (mut count, mut all) = (0, 0_u64);
        for line in output.lines().filter_map(|line| line.split_once(&label).map(|(_, row)| row)) {
            let mut words = line.split(' ');
            count += 1;
            assert_eq!(words.next().unwrap().parse::<u64>().unwrap(), count, "in order, none missing");
            let text = words.next().unwrap();
            all = all.wrapping_mul(31).wrapping_add(u64::from_str_radix(text, 16).unwrap());
            assert!(count % 10_000 != 2 || line.ends_with("caf\u{fffd} in Latin-1"), "{line}");
        }
        assert_eq!((count, all), (ROWS, expected), "{environment}");
        assert!(output.contains(&format!("{environment} | migrate complete: {} lines", ROWS + 6)), "{environment}");
    }
}

#[test]
fn a_run_that_is_killed_leaves_no_process_and_one_that_is_terminated_stops_the_release() {
    let (local, state) = account("killed", "local.slow.yaml", 8310);
    let mut release = Release::start(&local, &state, true);
    release.until("us | applying 003_customer_email");
    // A second one of the same account is refused before its setup runs.
    // Another variant of it is the same account.
    for variant in [local.clone(), local.with_file_name("local.yaml")] {
        let second = Release::start(&variant, &state.join("second"), true).end();
        assert_eq!(second.0, Some(2), "{}", second.1);
        assert!(!second.1.contains("Setting up"), "{}", second.1);
    }
    assert!(processes_of(&state).len() > 5, "{:?}", processes_of(&state));
    release.process.kill().unwrap();
    let begun = Instant::now();
    while !processes_of(&state).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", processes_of(&state));
        std::thread::sleep(Duration::from_millis(50));
    }
    let (local, state) = account("terminated", "local.slow.yaml", 8320);
    let mut release = Release::start(&local, &state, true);
    release.until("us | applying 003_customer_email");
    let pid = release.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("\nStopped after") && output.contains("migrate: not done in us, eu, ap"), "{output}");
}

#[test]
fn a_rejected_approval_leaves_the_old_version_where_it_is() {
    let (local, state) = account("rejected", "local.ecs.yaml", 8230);
    let mut release = Release::start(&local, &state, false);
    release.until("Type yes to approve");
    release.process.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let (status, output) = release.end();
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("Rejected: Rejected here"), "{output}");
    assert!(!output.contains("> Deploy/Deploy"), "{output}");
}

#[test]
fn the_version_is_that_of_the_workspace() {
    let output = Command::new(programs().join("local")).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("cutover {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let folder = programs().join("releases/bad");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let good = std::fs::read_to_string(shop().join("deploy.yaml")).unwrap();
    let local = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 8241)).unwrap();
    let cases: [(&str, String, String); 8] = [
        (
            "deploy.yaml:5:1: `enviroments` is not known: did you mean `environments`?",
            good.replacen("environments:", "enviroments:", 1),
            local.clone(),
        ),
        (
            "deploy.yaml:29:20: tasks.prepare: there is no environment `su`: did you mean `us`?",
            good.replace("environments: [us]", "environments: [su]"),
            local.clone(),
        ),
        (
            "the pipeline's action Migrate/Migrate runs the task `migrate`, but there is no task `migrate`: did you mean `migrat`?",
            good.replace("  migrate:\n", "  migrat:\n"),
            local.clone(),
        ),
        (
            "containers.shop-web: in deploy.yaml, there is no family `shop-web`: did you mean `shop-wbe`?",
            good.replace("family: shop-web", "family: shop-wbe"),
            local.clone(),
        ),
        (
            "services.web.port: 8102 would be that of eu/web and of us/web: give one of them another",
            good.clone(),
            local.replace("  us: {containers", "  us: {services: {web: {port: 8102}}, containers"),
        ),
        ("`buidl` is not known: did you mean `build`?", good.clone(), local.replace("\nbuild:", "\nbuidl:")),
        ("port 8241 of this machine cannot be used", good.clone(), local.replace("port: 8101", "port: 8241")),
        (
            "`no-such-program` cannot be started",
            good.clone(),
            local.replacen("- command: [cargo, build", "- command: [no-such-program", 1),
        ),
    ];
    for (said, manifest, local) in cases {
        std::fs::write(folder.join("deploy.yaml"), manifest).unwrap();
        std::fs::write(folder.join("local.yaml"), local).unwrap();
        let mut command = Command::new(programs().join("local"));
        command.arg("release").arg(&folder).arg("--state").arg(folder.join("state"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}\n{error}");
        assert!(error.contains(said), "expected: {said}\nsaid: {error}");
    }
    drop(taken);
    std::fs::remove_file(folder.join("deploy.yaml")).unwrap();
    let output = Command::new(programs().join("local")).arg("release").arg(&folder).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("deploy.yaml: No such file") && error.contains("see examples/shop/deploy.yaml"), "{error}");
}

#[test]
fn a_service_that_ecs_has_stopped_for_its_health_check_is_said_to_be_that() {
    let (local, state) = account("ill", "local.yaml", 8480);
    let text = std::fs::read_to_string(&local).unwrap();
    let asks = "  us: {services: {web: {health_check: {matcher: \"404\", interval: 100ms, grace: 1s}}}, containers";
    let ill = text.replacen("  us: {containers", asks, 1);
    assert_ne!(ill, text);
    std::fs::write(&local, ill).unwrap();
    let mut command = Command::new(programs().join("local"));
    command.arg("release").arg(shop()).arg("--local").arg(&local).arg("--state").arg(&state);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    let said = "the service web of local.yaml in us-east-1 does not come up: container `shop` of shop-web:1 was stopped by ECS: Task \
                failed ELB health checks";
    assert!(error.contains(said) && !error.contains("exit code"), "{error}");
}

#[test]
fn check_says_what_a_release_would_do_or_every_mistake_with_its_place() {
    let folder = programs().join("releases/checked");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let good = std::fs::read_to_string(shop().join("deploy.yaml")).unwrap();
    let bad = good.replace("port: 8080", "prot: 8080").replace("[us]", "[su]");
    let without = good.replace("  prepare:\n", "  before:\n");
    for (manifest, arguments, status, said, complained) in [
        (
            &good,
            [].as_slice(),
            0,
            "\neu: eu-west-1, cluster shop\n  Migrate  migrate: runs `shop migrate` as a task",
            "",
        ),
        (
            &bad,
            &[],
            1,
            "deploy.yaml:29:20: tasks.prepare: there is no environment `su`: did you mean `",
            "error: 5 mistakes",
        ),
        (&bad, &[], 1, "`prot` is not known: did you mean `port`?\n", "error: 5 mistakes"),
        (
            &without,
            &[],
            1,
            "the pipeline's action Prepare/Prepare runs the task `prepare`, but there is no task",
            "error: 1 mistake\n",
        ),
        (&without, &["--parameter", "PreTask=before"], 0, "  Prepare  before: runs `shop prepare`", ""),
        (&without, &["--parameter", "PreTask=none"], 0, "No action of the pipeline runs the task `before`.", ""),
        (&good, &["--parameter", "PreTsk=none"], 2, "", "there is no parameter `PreTsk`: did you mean `PreTask`?"),
        (&good, &["--parameter", "PreTask"], 2, "", "error: --parameter PreTask: write it as NAME=VALUE"),
    ] {
        std::fs::write(folder.join("deploy.yaml"), manifest).unwrap();
        let checked =
            Command::new(programs().join("local")).arg("check").arg(&folder).args(arguments).output().unwrap();
        let (out, err) = (String::from_utf8(checked.stdout).unwrap(), String::from_utf8(checked.stderr).unwrap());
        assert!(out.contains(said) && err.contains(complained), "{arguments:?}: expected: {said}\n{out}\n{err}");
        assert_eq!(checked.status.code(), Some(status), "{arguments:?}: {out}\n{err}");
    }
    // Nothing that is written in a file moves the cursor.
    std::fs::write(folder.join("deploy.yaml"), good.replace("  us:\n", "  \"u\\u001b[2Js\\u0007\":\n")).unwrap();
    let checked = Command::new(programs().join("local")).arg("check").arg(&folder).output().unwrap();
    let out = String::from_utf8(checked.stdout).unwrap();
    assert!(out.contains("environments.us: a name has 1 to 20 of"), "{out:?}");
    assert!(!out.contains(|char: char| char.is_control() && char != '\n'), "{out:?}");
    // With what the account has: mistakes of both files, or where they do not fit.
    let local = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    let unfit =
        good.replacen("family: shop-web", "family: shop-wbe", 1).replacen("cluster: shop\n", "cluster: shpo\n", 1);
    let bad_local = local.replacen("port: 8101", "prot: 8101", 1).replacen("image: registry", "imgae: registry", 1);
    let full = include_str!("src/account.yaml").to_owned();
    for (manifest, local, said, complained) in [
        (&good, &local, "\neu: eu-west-1, cluster shop\n", ""),
        (
            &unfit,
            &full,
            "environments.us: in local.yaml there is no cluster `shpo`: did you mean `shop`?",
            "3 mistakes",
        ),
        (&unfit, &full, "services.web: local.yaml has no task definition `shop-wbe` in eu-west-1", "3 mistakes"),
        (&bad, &bad_local, "`prot` is not known: did you mean `port`?", "error: 7 mistakes"),
        (&bad, &bad_local, "`imgae` is not known: did you mean `image`?", "error: 7 mistakes"),
    ] {
        std::fs::write(folder.join("deploy.yaml"), manifest).unwrap();
        std::fs::write(folder.join("local.yaml"), local).unwrap();
        let checked = Command::new(programs().join("local")).arg("check").arg(&folder).output().unwrap();
        let (out, err) = (String::from_utf8(checked.stdout).unwrap(), String::from_utf8(checked.stderr).unwrap());
        assert!(out.contains(said) && err.contains(complained), "expected: {said} {complained}\n{out}\n{err}");
    }
}

/// Each function as its own program, through the Lambda Runtime API and over HTTP, on plain Invoke actions.
#[tokio::test]
async fn every_shipped_binary_does_its_part_of_a_release() {
    releases_with(programs(), "shipped", 8250).await;
}

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
    releases_with(&folder, "packaged", 8260).await;
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

async fn releases_with(programs: &Path, name: &str, ports: u16) {
    let (local, state) = account(name, "local.yaml", ports);
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
    machine.shut_down().await;
    assert_eq!(status, ExecutionStatus::Succeeded, "{actions:#?}");
    let notes = machine.notes();
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
            assert!(line.get("level").is_some());
        }
        assert!(!log.contains("artifactCredentials") && !log.contains("secretAccessKey"), "{function} logs the event");
    }
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
}

/// A release of the shop whose build begins something, notes that it did, and waits.
fn building_for_long(name: &str, ports: u16) -> (Child, PathBuf) {
    let (local, state) = account(name, "local.yaml", ports);
    let text = std::fs::read_to_string(&local).unwrap();
    let build = "build: {command: [cargo, build, --locked, --target-dir, target],";
    let script = "sleep 1000 & echo begun > $BEGUN/begun; wait";
    let long = text.replace(build, &format!("build: {{command: [sh, -c, \"{script}\"],"));
    assert_ne!(long, text);
    std::fs::write(&local, long).unwrap();
    let mut command = Command::new(programs().join("local"));
    command.arg("release").arg(shop()).arg("--local").arg(&local).arg("--state").arg(&state);
    // What the build begins has this in its environment: that is how it is found.
    command.env("BEGUN", format!("{}/", state.display()));
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !state.join("begun").exists() {
        assert!(process.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "no build");
        std::thread::sleep(Duration::from_millis(20));
    }
    (process, state)
}

#[test]
fn a_run_that_is_ended_while_it_builds_leaves_no_process_of_the_build() {
    for (signal, ports) in [("-TERM", 8350), ("-HUP", 8340)] {
        let (mut process, state) = building_for_long(&format!("building{signal}"), ports);
        assert!(processes_of(&state).iter().any(|one| one.starts_with("sleep")), "{:?}", processes_of(&state));
        assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
        // Nobody reads what it says any more: that does not keep it from ending in order.
        drop(process.stdout.take());
        assert_eq!(process.wait().unwrap().code(), Some(1), "{signal}");
        let ended = Instant::now();
        while !processes_of(&state).is_empty() {
            assert!(ended.elapsed() < Duration::from_secs(5), "{signal}: {:?}", processes_of(&state));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn whoever_stops_reading_what_a_release_says_does_not_end_it() {
    let folder = programs().join("releases/unread");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let local = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    // It fails after it has said that it sets up the account.
    std::fs::write(
        folder.join("local.yaml"),
        local.replacen("- command: [cargo, build", "- command: [no-such-program", 1),
    )
    .unwrap();
    std::fs::copy(shop().join("deploy.yaml"), folder.join("deploy.yaml")).unwrap();
    for (arguments, code) in [(vec!["check"], 0), (vec!["release", "--state", "state"], 2)] {
        let mut command = Command::new(programs().join("local"));
        command.arg(arguments[0]).arg(&folder).args(&arguments[1..]).current_dir(&folder);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

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
    std::fs::write(folder.join("local.ports.yaml"), "extends: local.yaml\nservices: {web: {port: 8381}}\n").unwrap();
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
    let (local, state) = account("served", "local.yaml", 8370);
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
    let own = local.replace("\ncompose:", "\nrun_with: docker\nservices: {web: {port: 8391}}\ncompose:");
    assert_ne!(own, local);
    // The stand-in is told where it writes by the same variable as everything that it runs.
    let own = own.replace("environment: {}", &format!("environment: {{DOCKER_LOG: {log:?}}}"));
    std::fs::write(folder.join("local.yaml"), own).unwrap();
    let state = folder.join(".cutover").display().to_string();
    let (status, said) = run(&["release", "--approve", "--state", &state]);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("production | posts are there") && said.contains("production/worker: 1 of 1 finished"),
        "{said}"
    );
    let calls = std::fs::read_to_string(folder.join("bin/log")).unwrap();
    let started = calls.lines().filter(|line| line.starts_with("run --rm --name cutover-")).count();
    assert!(started >= 5, "old and new of two services, and a migration: {calls}");
    assert!(
        calls.lines().any(|line| line.starts_with("run")
            && line.contains(":8000 --env")
            && line.ends_with("python3 app.py serve 8000")),
        "{calls}"
    );
    assert!(calls.contains("exec cutover-"), "its health check runs within it: {calls}");
    assert!(!calls.contains("blog.sqlite"), "no value of a variable is an argument: {calls}");
    std::fs::write(docker, "#!/bin/sh\necho no daemon >&2\nexit 1\n").unwrap();
    let (status, said) = run(&["release", "--approve", "--state", &state]);
    assert!(
        status == Some(2) && said.contains("run_with: `docker version` failed: no daemon: start its daemon"),
        "{said}"
    );
}
