//! For real: releases of the command line with processes, ports and HTTP, and what the tests that start them share.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest that a release of the shop may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) fn workspace() -> &'static Path {
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

/// The first of ten ports that nobody else in these tests has: several releases run at once.
pub(crate) fn ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(8200);
    NEXT.fetch_add(10, Ordering::Relaxed)
}

/// A `local.yaml` of the shop whose services have these ports, and its state folder; with a variant of it, when that is
/// another file.
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

/// Looks until there is something to be seen; what was seen last is in the message when there never is.
pub(crate) fn patiently<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) => assert!(begun.elapsed() < PATIENCE, "it never comes to that: {last}"),
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The command line under way.
pub(crate) struct Release {
    pub(crate) process: Child,
    /// What it has said so far, whole lines or not: on a terminal, they end where the terminal is as wide.
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    state: PathBuf,
}

/// A test that fails in the middle leaves none.
impl Drop for Release {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

impl Release {
    pub(crate) fn start(local: &Path, state: &Path, approve: bool) -> Self {
        let mut command = Command::new(programs().join("local"));
        command.arg("release").arg(shop()).arg("--local").arg(local).arg("--state").arg(state);
        if approve {
            command.arg("--approve");
        }
        Self::of(command, state)
    }

    /// The same on a terminal of its own, whose keyboard is the standard input.
    pub(crate) fn start_on_a_terminal(local: &Path, state: &Path) -> Self {
        let program = programs().join("local");
        let words = [&program, Path::new("release"), &shop(), Path::new("--local"), local, Path::new("--state"), state];
        let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.display())).collect();
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command"]);
        // Without `exec`, a shell that stays (Debian's sh does, where `SHELL` names none) ends of the Ctrl-C as well: with 130.
        command.arg(format!("exec {} --approve", quoted.join(" "))).arg("/dev/null");
        Self::of(command, state)
    }

    pub(crate) fn of(mut command: Command, state: &Path) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().unwrap();
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, sink) = (process.stdout.take().unwrap(), said.clone());
        let reader = std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut some) {
                sink.lock().unwrap().extend_from_slice(&some[..length]);
            }
        });
        Self { process, said, reader: Some(reader), state: state.to_owned() }
    }

    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    pub(crate) fn until(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.output().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "no `{text}` in\n{}", self.output());
            assert!(self.process.try_wait().unwrap().is_none(), "it ended without `{text}`:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Its exit status and output; nothing that it started may be left.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            match self.process.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.output()),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let left = processes_of(&self.state);
        assert!(left.is_empty(), "processes are left: {left:?}");
        (status.code(), self.output())
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
pub(crate) fn version(port: u16) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    let (_, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: `{text}`"))?;
    let page: serde_json::Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
    page["version"].as_str().map(str::to_owned).ok_or_else(|| body.to_owned())
}

/// Asks every 50 ms until told to stop: the versions in the order in which they were seen, and the errors.
pub(crate) fn ask_all_the_time(port: u16, stop: Arc<AtomicBool>) -> JoinHandle<(Vec<String>, BTreeSet<String>)> {
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
