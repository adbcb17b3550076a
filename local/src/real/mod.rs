//! The world made real on this machine: its effects are processes, ports and HTTP on loopback.
//!
//! Invariant: whatever was started is ended when the machine is shut down, however that comes about.

mod application;
mod containers;
mod functions;
mod http;
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

/// A world, and what carries it out.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    world: Mutex<World>,
    clock: Clock,
    changed: Notify,
    address: SocketAddr,
    application: application::Application,
    containers: containers::Containers,
    functions: functions::Functions,
    traffic: traffic::Traffic,
    notes: Mutex<Vec<String>>,
}

/// What a machine is made from.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The application's folder.
    pub folder: &'a Path,
    /// Where the release keeps what it leaves to look at.
    pub state: &'a Path,
    /// What the stack makes.
    pub stack: Stack,
    /// What the account has.
    pub account: &'a Account,
    /// The functions' binaries.
    pub binaries: Binaries,
    /// The port of the endpoint; any free one when 0.
    pub port: u16,
}

impl Machine {
    /// Starts the machine: the endpoint, the ports, the services that run when a release comes.
    ///
    /// # Errors
    /// A port that is in use, or an account that cannot be.
    pub async fn start(setting: Setting<'_>) -> Result<Self, Mistake> {
        let listener = listen(setting.port).await?;
        let address = listener.local_addr().map_err(|error| Mistake(format!("no port of this machine: {error}")))?;
        let now = Time::of_system();
        let mut world = World::new(setting.stack.clone(), setting.account, now.millis() << 20, now)?;
        world.endpoint = format!("http://{address}");
        let mut traffic = traffic::Traffic::default();
        for (name, port) in ports(setting.account) {
            let listener = listen(port).await.map_err(|Mistake(why)| Mistake(format!("the service {name}: {why}")))?;
            traffic.open(port, listener);
        }
        let functions = functions::Functions::new(&setting, address);
        let inner = Inner {
            world: Mutex::new(world),
            clock: Clock::set(now),
            changed: Notify::new(),
            address,
            application: application::Application::new(setting.folder, &setting.account.build),
            containers: containers::Containers::new(setting.folder),
            functions,
            traffic,
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

    /// The world, to look at.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, as the world counts it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.clock.now()
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
            Effect::StartContainer(start) => self.0.containers.start(self.clone(), start),
            Effect::Signal { task, container, kill } => self.0.containers.signal(&task, &container, kill),
            Effect::Route { port, tasks } => {
                let ports = tasks.iter().filter_map(|task| self.0.containers.port(task)).collect();
                self.0.traffic.route(port, ports);
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
                tokio::spawn(async move {
                    let result = machine.0.application.build(&commit).await;
                    machine.happened(Happening::Worked { action, result });
                });
            }
            Effect::Note(note) => self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note),
        }
    }

    /// Ends everything that was started: SIGTERM, then SIGKILL to what is left.
    pub async fn shut_down(&self) {
        self.0.functions.end();
        self.0.containers.end().await;
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
    let name = Time::of_system().to_string().replace([':', 'Z'], "");
    let unique = (0..100).map(|n| parent.join(if n == 0 { name.clone() } else { format!("{name}-{n}") }));
    let folder = unique.into_iter().find(|folder| !folder.exists()).unwrap_or_else(|| parent.join(&name));
    let made = std::fs::create_dir_all(&folder).and_then(|()| folder.canonicalize());
    made.map_err(|error| Mistake(format!("{}: {error}", folder.display())))
}

/// Runs the commands that made the account what it is.
///
/// # Errors
/// A command that cannot be started, or fails.
pub async fn set_up(folder: &Path, account: &Account) -> Result<(), Mistake> {
    for setup in &account.setup {
        let said = setup.command.join(" ");
        application::run(folder, &setup.command, &setup.environment)
            .await
            .map_err(|why| Mistake(format!("local.yaml: setup: `{said}`: {why}")))?;
    }
    Ok(())
}
