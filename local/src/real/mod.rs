//! The world made real on this machine: its effects are processes, ports and HTTP on loopback.
//!
//! Invariants: whatever was started is ended when the machine is shut down, however that comes about; nobody but the
//! developer who started it, its functions and its tasks is answered.

mod application;
mod containers;
mod engine;
mod functions;
pub(crate) mod gate;
mod health;
pub(crate) mod http;
mod images;
pub mod kept;
mod source;
pub mod supervisor;
mod traffic;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use shared::{Clock, Time};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::Mistake;
use crate::account::Account;
use crate::template::Stack;
use crate::world::{Effect, Happening, Request, Response, World};

pub use functions::Binaries;
pub use gate::Gate;
pub(crate) use source::source;

/// A world, and what carries it out.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    world: Mutex<World>,
    clock: Clock,
    changed: Notify,
    address: SocketAddr,
    gate: gate::Gate,
    application: application::Application,
    containers: containers::Containers,
    functions: functions::Functions,
    traffic: traffic::Traffic,
    builds: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    notes: Mutex<Vec<String>>,
}

/// What a machine is made from.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The application's folder.
    pub folder: &'a Path,
    /// Where the release keeps what it leaves to look at.
    pub state: &'a Path,
    /// Where the images of the application's releases are.
    pub images: &'a Path,
    /// What the stack makes.
    pub stack: Stack,
    /// What the account has.
    pub account: &'a Account,
    /// The functions' binaries.
    pub binaries: Binaries,
    /// The ports of this machine that the world stands behind.
    pub ports: Ports,
    /// The records and artifacts of the runs before.
    pub objects: Vec<crate::world::KeptObject>,
}

/// The ports of this machine that a world stands behind, claimed before anything else is done: whoever comes second must
/// not go over the first one's databases.
#[derive(Debug)]
pub struct Ports {
    endpoint: TcpListener,
    services: Vec<(u16, TcpListener)>,
}

impl Ports {
    /// Claims them: that of the endpoint (any free one when 0), and those of the account's services.
    ///
    /// # Errors
    /// One that is in use, with whose it is.
    pub async fn claim(endpoint: u16, account: &Account) -> Result<Self, Mistake> {
        let endpoint = listen(endpoint).await?;
        let mut services = Vec::new();
        for (name, port) in ports(account) {
            let listener = listen(port).await.map_err(|Mistake(why)| Mistake(format!("the service {name}: {why}")))?;
            services.push((port, listener));
        }
        Ok(Self { endpoint, services })
    }
}

impl Machine {
    /// Starts the machine: the endpoint, the ports, the services that run when a release comes.
    ///
    /// # Errors
    /// An account that cannot be.
    pub fn start(setting: Setting<'_>) -> Result<Self, Mistake> {
        let gate = gate::Gate::new()?;
        let address = setting.ports.endpoint.local_addr();
        let address = address.map_err(|error| Mistake(format!("no port of this machine: {error}")))?;
        let functions = functions::Functions::new(&setting, address, &gate);
        let Ports { endpoint: listener, services } = setting.ports;
        let now = Time::of_system();
        let mut world = World::new(setting.stack.clone(), setting.account, now.millis() << 20, now)?;
        world.put_back(setting.objects);
        world.endpoint = gate.unsigned(address);
        world.key_suffix = gate.suffix();
        let mut traffic = traffic::Traffic::default();
        for (port, listener) in services {
            traffic.open(port, listener);
        }
        let images = images::Images::new(setting.folder, setting.images.to_owned(), &setting.account.build);
        let inner = Inner {
            world: Mutex::new(world),
            clock: Clock::set(now),
            changed: Notify::new(),
            address,
            gate,
            application: application::Application::new(setting.folder, setting.account, images.clone()),
            containers: containers::Containers::new(images, setting.account.run_with),
            functions,
            traffic,
            builds: Mutex::default(),
            notes: Mutex::default(),
        };
        let machine = Self(Arc::new(inner));
        tokio::spawn(http::serve(machine.clone(), listener));
        tokio::spawn(machine.clone().keep_time());
        Ok(machine)
    }

    /// The endpoint's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// What the developer's own tools sign with: the access key's id, and the secret.
    #[must_use]
    pub fn keys(&self) -> (String, String) {
        let (key, secret) = self.0.gate.developer();
        (key, secret.to_owned())
    }

    /// The world, to look at.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, as the world counts it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Answers a request that has come from outside, if whoever sent it may ask.
    #[must_use]
    pub fn answer(&self, request: Request) -> Response {
        match self.0.gate.admit(request) {
            Ok(request) => self.handle(&request),
            Err(refused) => refused,
        }
    }

    /// The access key's id of somebody whom the world shall know by this name.
    #[must_use]
    pub fn key_of(&self, name: &str) -> String {
        self.0.gate.key(name)
    }

    /// Answers a request.
    pub fn handle(&self, request: &Request) -> Response {
        let response = self.world().handle(request, self.now());
        self.carry_out();
        response
    }

    /// Calls an operation of a JSON service, such as `CodePipeline_20150709.StartPipelineExecution`.
    ///
    /// # Errors
    /// What the service answers.
    pub fn call(&self, target: &str, input: &Value) -> Result<Value, Mistake> {
        let headers = [("x-amz-target".to_owned(), target.to_owned())];
        let request = Request {
            method: "POST".into(),
            path: "/".into(),
            headers: headers.into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        };
        let response = self.handle(&request);
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        match response.status {
            200 => Ok(answer),
            _ => Err(Mistake(answer.get("message").and_then(Value::as_str).unwrap_or(target).to_owned())),
        }
    }

    /// What a person should know that nobody asked for: requests that were refused, functions that failed.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn happened(&self, happening: Happening) {
        self.world().happened(happening, self.now());
        self.carry_out();
    }

    /// Lets the world do what is due, when it is due.
    async fn keep_time(self) {
        loop {
            self.world().advance(self.now());
            self.carry_out_effects();
            let next = self.world().next();
            let pause = next.map_or(Duration::from_secs(1), |next| next.since(self.now()));
            // A timer that is due within the current millisecond must not be asked for in a busy loop.
            let pause = pause.max(Duration::from_millis(1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn carry_out(&self) {
        self.carry_out_effects();
        // What is due next may have changed.
        self.0.changed.notify_one();
    }

    fn carry_out_effects(&self) {
        let effects = self.world().effects();
        for effect in effects {
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&self, effect: Effect) {
        match effect {
            Effect::StartContainer(start) => self.0.containers.start(self.clone(), *start),
            Effect::Signal { task, container, kill } => self.0.containers.signal(&task, &container, kill),
            Effect::Route { port, container, tasks } => {
                let port_of = |task: &str| self.0.containers.port(task, container.as_deref());
                let ports = tasks.iter().filter_map(|(task, weight)| Some((port_of(task)?, *weight)));
                self.0.traffic.route(port, ports.collect());
            }
            Effect::CallHook { id, function, stage } => {
                let machine = self.clone();
                tokio::spawn(async move {
                    let result = machine.0.application.call_hook(&function, &stage).await;
                    machine.happened(Happening::Hooked { id, result });
                });
            }
            Effect::Invoke { id, function, payload, timeout } => {
                let machine = self.clone();
                tokio::spawn(async move {
                    let result = machine.0.functions.invoke(&id, &function, &payload, timeout).await;
                    machine.happened(Happening::Invoked { id, result });
                });
            }
            Effect::FetchSource { action } => {
                let machine = self.clone();
                tokio::task::spawn_blocking(move || {
                    let result = machine.0.application.fetch();
                    machine.happened(Happening::Worked { action, result });
                });
            }
            Effect::Build { action, commit } => {
                let machine = self.clone();
                let build = tokio::spawn(async move {
                    let result = machine.0.application.build(&commit).await;
                    machine.happened(Happening::Worked { action, result });
                });
                self.0.builds.lock().unwrap_or_else(PoisonError::into_inner).push(build);
            }
            Effect::Note(note) => self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note),
        }
    }

    /// Ends everything that was started: SIGTERM, then SIGKILL to what is left.
    pub async fn shut_down(&self) {
        let builds = std::mem::take(&mut *self.0.builds.lock().unwrap_or_else(PoisonError::into_inner));
        for build in builds {
            // Dropped, it ends with its children; one that is over is so already.
            build.abort();
            drop(build.await);
        }
        self.0.functions.end();
        self.0.containers.end().await;
    }
}

/// That what starts containers can be started.
///
/// # Errors
/// It cannot.
pub fn engine_is_there(account: &Account) -> Result<(), Mistake> {
    let Some(client) = account.run_with.client() else { return Ok(()) };
    let mut asked = std::process::Command::new(client);
    let asked = asked.arg("version").stdin(std::process::Stdio::null()).output();
    match asked {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Mistake(format!(
                "local.yaml: run_with: `{client} version` failed: {said}: start its daemon, or leave `run_with` out"
            )))
        }
        Err(error) => Err(Mistake(format!(
            "local.yaml: run_with: {client} cannot be started ({error}): install it, or leave `run_with` out: processes stand for \
             containers then"
        ))),
    }
}

async fn listen(port: u16) -> Result<TcpListener, Mistake> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        Mistake(format!(
            "port {port} of this machine cannot be used ({error}): end what uses it, or name another one in local.yaml"
        ))
    })
}

/// The ports of the services, with their names.
fn ports(account: &Account) -> impl Iterator<Item = (String, u16)> {
    let clusters = account.regions.values().flat_map(|region| &region.clusters);
    let services = clusters.flat_map(|(cluster, described)| {
        described.services.iter().map(move |(name, service)| (format!("{cluster}/{name}"), service.port))
    });
    services.filter_map(|(name, port)| Some((name, port?)))
}

/// A folder for one release's state below `parent`, named after the time.
///
/// # Errors
/// When it cannot be made.
pub fn state_folder(parent: &Path) -> Result<PathBuf, Mistake> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |error: std::io::Error| Mistake(format!("{}: {error}", parent.display()));
    let is_for_runs_alone = !parent.exists() || parent.ends_with(".cutover");
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(parent).map_err(failed)?;
    is_own(parent)?;
    if is_for_runs_alone {
        leave_out_of_git(parent);
    }
    let name = Time::of_system().to_string().replace([':', 'Z'], "");
    for n in 0..100 {
        let folder = parent.join(if n == 0 { name.clone() } else { format!("{name}-{n}") });
        // Made here and by nobody else, through no link of anybody's: databases and logs are the developer's own.
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {
                leave_out_of_git(&folder);
                return folder.canonicalize().map_err(failed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Mistake(format!("{}: there are a hundred folders of this second already", parent.display())))
}

/// What runs here leave has databases and variables, and is nobody's to commit: git, and whatever reads what git ignores, passes it over.
/// Only in a folder that was made for it. That the file cannot be written is no reason not to begin.
fn leave_out_of_git(folder: &Path) {
    if let Ok(mut file) = std::fs::File::create_new(folder.join(".gitignore")) {
        drop(std::io::Write::write_all(&mut file, b"# Of `cargo run -- release`: nothing here is for git.\n*\n"));
    }
}

/// That a folder is the developer's own: whoever else may write into it could put a link where a database is to be, and run
/// what he likes.
pub(super) fn is_own(folder: &Path) -> Result<(), Mistake> {
    use std::os::unix::fs::MetadataExt as _;
    let refused = |why: &str| Err(Mistake(format!("{}: {why}", folder.display())));
    let seen = folder.symlink_metadata().map_err(|error| Mistake(format!("{}: {error}", folder.display())))?;
    if seen.is_symlink() {
        return refused("it is a link: name the folder itself with --state");
    }
    if seen.uid() != nix::unistd::Uid::effective().as_raw() {
        return refused("it belongs to somebody else: name a folder of your own with --state");
    }
    if seen.mode() & 0o022 != 0 {
        return refused("others may write into it: take that away (chmod go-w), or name another folder with --state");
    }
    Ok(())
}

/// Runs the commands that made the account what it is.
///
/// # Errors
/// A command that cannot be started, or fails.
pub async fn set_up(folder: &Path, account: &Account) -> Result<(), Mistake> {
    for setup in &account.setup {
        let said = setup.command.join(" ");
        application::run(folder, &setup.command, &setup.environment).await.map_err(|why| {
            Mistake(format!("local.yaml: what sets the account up (`databases`, or `setup`): `{said}`: {why}"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_state_folder_that_others_may_change_is_refused() {
        let folder = std::env::temp_dir().join(format!("cutover-state-{}", std::process::id()));
        let state = state_folder(&folder.join("state")).unwrap();
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        // Nothing of it is for git; what is ignored in a folder of the developer's own is his affair.
        std::fs::DirBuilder::new().create(folder.join("mine")).unwrap();
        std::fs::set_permissions(folder.join("mine"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mine = state_folder(&folder.join("mine")).unwrap();
        for (ignored, is_it) in
            [(&*state, true), (&*mine, true), (&*folder.join("state"), true), (&*folder.join("mine"), false)]
        {
            assert_eq!(ignored.join(".gitignore").exists(), is_it, "{}", ignored.display());
        }
        std::os::unix::fs::symlink(folder.join("state"), folder.join("link")).unwrap();
        std::fs::create_dir(folder.join("open")).unwrap();
        std::fs::set_permissions(folder.join("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
        for (name, said) in [("link", "it is a link"), ("open", "others may write into it")] {
            let Mistake(why) = state_folder(&folder.join(name)).unwrap_err();
            assert!(why.contains(said), "{why}");
            assert!(std::fs::read_dir(folder.join("open")).unwrap().next().is_none());
        }
        if nix::unistd::Uid::effective().is_root() {
            std::fs::create_dir(folder.join("theirs")).unwrap();
            std::os::unix::fs::chown(folder.join("theirs"), Some(65_534), None).unwrap();
            let Mistake(why) = state_folder(&folder.join("theirs")).unwrap_err();
            assert!(why.contains("somebody else"), "{why}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
