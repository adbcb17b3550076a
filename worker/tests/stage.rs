//! A worker under test: started, spoken with, watched, and never left behind.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long anything may take on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program.
pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_worker");

/// A bash script that says which signals come, without any process besides bash, until it is told to end. `$1` are the signals
/// that it says, `$2` those that end it with status 0 as well. Nothing ever comes from the socket that it reads. Bash looks at what came before it begins to read and when it has
/// read: so it never reads for long. Its clock for that is SIGALRM.
pub(crate) const LISTENER: &str = r#"
    for signal in $1; do trap "echo got $signal" $signal; done
    for signal in $2; do trap "echo got $signal; exit 0" $signal; done
    exec 3<> /dev/udp/127.0.0.1/9
    echo ready
    while :; do read -t 0.02 -u 3; done
"#;

/// How the worker is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// As any process.
    Child,
    /// As PID 1 of a namespace of its own.
    Init,
}

/// The ways that this machine allows.
pub(crate) fn ways() -> &'static [As] {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| {
        let tried = namespace().arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    });
    if *allowed { &[As::Child, As::Init] } else { &[As::Child] }
}

fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

/// What a worker is started with.
pub(crate) struct Setting {
    way: As,
    before: Vec<String>,
    options: Vec<String>,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    socket: Option<PathBuf>,
}

impl Setting {
    pub(crate) fn new(way: As, options: &[&str], command: &[&str]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("worker-test-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            way,
            before: Vec::new(),
            options: owned(options),
            command: owned(command),
            environment: Vec::new(),
            socket: Some(std::env::temp_dir().join(name)),
        }
    }

    /// With a command that is bash and a script, with its arguments.
    pub(crate) fn bash(way: As, options: &[&str], script: &str, arguments: &[&str]) -> Self {
        Self::new(way, options, &[&["bash", "-c", script, "bash"], arguments].concat())
    }

    /// With what is started before the worker and becomes it.
    pub(crate) fn after(mut self, before: &[&str]) -> Self {
        self.before = before.iter().map(|text| (*text).to_owned()).collect();
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a socket that is named.
    pub(crate) fn usual_socket(mut self) -> Self {
        self.socket = None;
        self
    }

    /// The command line, not started.
    pub(crate) fn to_command(&self) -> Command {
        let mut words = self.before.clone();
        words.push(WORKER.to_owned());
        words.extend(self.options.iter().cloned());
        words.push("--".to_owned());
        words.extend(self.command.iter().cloned());
        let mut command = match self.way {
            As::Child => Command::new(&words[0]),
            As::Init => {
                let mut command = namespace();
                command.arg(&words[0]);
                command
            }
        };
        command.args(&words[1..]).process_group(0).env_remove("ECS_AGENT_URI");
        if let Some(socket) = &self.socket {
            command.env("WORKER_SOCKET", socket);
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Starts it.
    pub(crate) fn start(self) -> Stage {
        let mut command = self.to_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let readers = vec![
            read(process.stdout.take().unwrap(), lines.clone()),
            read(process.stderr.take().unwrap(), lines.clone()),
        ];
        Stage { process, way: self.way, socket: self.socket, lines, readers }
    }
}

/// A worker that runs.
pub(crate) struct Stage {
    process: Child,
    way: As,
    pub(crate) socket: Option<PathBuf>,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Stage {
    /// The worker's own process.
    pub(crate) fn pid(&self) -> Pid {
        let started = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        match self.way {
            As::Child => started,
            As::Init => wait_for("the namespace's first process", || children(started).first().copied()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may be over already.
        let _ = kill(self.pid(), signal);
    }

    /// What both streams have shown so far.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub(crate) fn lines_with(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line that contains this.
    pub(crate) fn until(&self, text: &str) {
        let begun = Instant::now();
        while self.lines_with(text) == 0 {
            assert!(begun.elapsed() < PATIENCE, "no `{text}` in\n{}", self.output());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The processes in it that have ended and wait to be reaped, and those that run.
    pub(crate) fn children(&self) -> (BTreeSet<Pid>, BTreeSet<Pid>) {
        let worker = self.pid();
        children(worker).into_iter().partition(|child| state(*child) == Some('Z'))
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&self) -> bool {
        let started = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        state(started).is_some_and(|state| state != 'Z')
    }

    /// Waits for its end: the status as a shell has it, and all that it has shown.
    pub(crate) fn end(mut self) -> (i32, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(2));
        };
        // What it leaves of its group is not there for long.
        self.kill();
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        let status = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap();
        (status, self.output())
    }

    /// A verb of the same worker.
    pub(crate) fn verb(&self, words: &[&str]) -> Output {
        verb(self.socket.as_ref().unwrap().to_str().unwrap(), words)
    }

    fn kill(&self) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGKILL);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
        drop(self.process.wait());
        if let Some(socket) = &self.socket {
            drop(std::fs::remove_file(socket));
        }
    }
}

/// Runs `worker health` or the like.
pub(crate) fn verb(socket: &str, words: &[&str]) -> Output {
    Command::new(WORKER).args(words).env("WORKER_SOCKET", socket).stdin(Stdio::null()).output().unwrap()
}

/// Standard output and error of a program, in one text.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).trim_end().to_owned()
}

fn read(from: impl Read + Send + 'static, to: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.lock().unwrap().push(line);
        }
    })
}

/// Waits until something is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stat(pid: Pid) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit(')').next()?.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn state(pid: Pid) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// The children of a process, ended ones included.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| Some(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)));
    pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == of.as_raw())).collect()
}
