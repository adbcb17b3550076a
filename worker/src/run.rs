//! The life of a worker with everything around it: one thread, one wait.
//!
//! Invariants: nothing here waits for anybody but in [`Worker::wait`]; each turn looks at everything once, lets the pure parts
//! ([`Life`], [`Protection`], [`Jobs`]) decide, and carries out what they say.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getpid};

use crate::agent::{Agent, Exchange};
use crate::control::{self, Control, Request};
use crate::jobs::{Jobs, Lasting};
use crate::life::{Action, Life};
use crate::message;
use crate::options::Options;
use crate::port::Port;
use crate::process::{self, Came, End, Signals};
use crate::protection::Protection;
use crate::say::Voice;

/// The worker itself failed; as in coreutils' `env` and `timeout`, and `docker run`.
pub(crate) const FAILED: u8 = 125;
/// The command is there and cannot be started.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// There is no command of that name.
pub(crate) const NOT_FOUND: u8 = 127;

/// How long `busy` counts without `--for` and `idle`: what ECS protects for unless told otherwise.
const BUSY: Duration = Duration::from_secs(2 * 60 * 60);
/// How often the command's children are counted: the time in which a job may be stopped before it is seen.
const COUNTED: Duration = Duration::from_millis(500);
/// How long `busy` and `job` wait for the agent before they go on without it.
const ANSWERED: Duration = Duration::from_secs(5);
/// How long nobody new is taken after that failed.
const REST: Duration = Duration::from_secs(1);

/// Runs the command until it has ended; the status to end with.
pub(crate) fn run(options: &Options) -> u8 {
    match start(options) {
        Ok(worker) => worker.live(),
        Err((status, why)) => {
            let mut voice = Voice::default();
            voice.say(&why);
            voice.finish();
            status
        }
    }
}

struct Worker<'a> {
    voice: Voice,
    options: &'a Options,
    command: Pid,
    signals: Signals,
    /// When the command was started: all times are counted from there.
    begun: Instant,
    life: Life,
    jobs: Jobs,
    /// When the children are counted next.
    count: Option<Duration>,
    port: Option<Port>,
    control: Option<Control>,
    askers: Vec<Asker>,
    /// Until when nobody new is taken, since there were no file descriptors left.
    rest: Option<Duration>,
    agent: Result<Agent, String>,
    exchange: Option<Exchange>,
    protection: Protection,
    /// Whether it was said that there is no agent.
    alone: bool,
}

/// Who waits to hear whether the task is protected before a job is begun.
struct Asker {
    connection: u64,
    until: Duration,
    /// What `busy` had said before, when that is what it asks with; else it holds a job.
    busy_before: Option<Option<Duration>>,
}

/// What a turn was woken by.
enum Woken {
    NewCaller,
    Caller(u64),
    NewConnection,
    Connection(u64),
    /// Signals, the agent, standard error: looked at on every turn.
    Other,
}

fn start(options: &Options) -> Result<Worker<'_>, (u8, String)> {
    let mut voice = Voice::default();
    let failed = |why: String| (FAILED, why);
    let signals = Signals::take(options.forward)
        .map_err(|errno| failed(format!("no signals can be waited for ({})", errno.desc())))?;
    process::prepare(options.forward);
    let port = options.health_port.as_deref().map(Port::claim).transpose();
    let port = port.map_err(|why| failed(format!("--health-port: {why}")))?;
    let control = Control::open(options.socket.as_deref(), getpid().as_raw() == 1);
    let control = match (control, &options.socket) {
        (Ok(control), _) => Some(control),
        (Err(why), Some(_)) => return Err(failed(format!("--socket: {why}"))),
        (Err(why), None) => {
            voice.say(&message::no_socket(&why));
            None
        }
    };
    let program = options.command.first().map(Path::new).unwrap_or(Path::new(""));
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // What came before there was anybody to send it to.
    let early: Vec<_> = std::iter::from_fn(|| signals.next()).collect();
    if early.contains(&Came::For(options.stop_signal)) {
        let status = u8::try_from(128 + options.stop_signal as i32).unwrap_or(FAILED);
        return Err((status, message::never_started(&name, options.stop_signal)));
    }
    let socket = control.as_ref().map(|control| ("WORKER_SOCKET", control.path().as_os_str().to_owned()));
    let begun = Instant::now();
    let command = process::start(&options.command, socket.as_slice(), &signals).map_err(|errno| {
        let status = if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
        (status, format!("{} cannot be started: {}", program.display(), errno.desc()))
    })?;
    let agent =
        std::env::var("ECS_AGENT_URI").map_err(|_| "ECS_AGENT_URI is not set: this is no task of ECS's".to_owned());
    let mut worker = Worker {
        voice,
        options,
        command,
        signals,
        begun,
        life: Life::new(options.rules.clone(), name),
        jobs: Jobs::default(),
        count: options.children.then_some(Duration::ZERO),
        port,
        control,
        askers: Vec::new(),
        rest: None,
        agent: agent.and_then(|uri| Agent::read(&uri)),
        exchange: None,
        protection: Protection::default(),
        alone: false,
    };
    for came in early {
        worker.came(came, Duration::ZERO);
    }
    Ok(worker)
}

impl Worker<'_> {
    fn live(mut self) -> u8 {
        let mut woken = Vec::new();
        loop {
            let now = self.begun.elapsed();
            while let Some(came) = self.signals.next() {
                self.came(came, now);
            }
            if let Some(end) = process::reap(self.command) {
                return self.ended(end, now);
            }
            for by in woken {
                self.attend(by, now);
            }
            self.count_jobs(now);
            let actions = self.life.look(self.jobs.count(now), now);
            self.carry_out(actions);
            if let Some(port) = &mut self.port {
                port.expire(now);
                if let Some(said) = port.follow(self.life.health(now), now) {
                    self.voice.say(&said);
                }
            }
            self.protect(now);
            self.answer_askers(now);
            self.voice.write(Duration::ZERO);
            woken = self.wait(now);
        }
    }

    /// Waits until something happens or is due, as seen from the last look: what became due since then is due at once.
    fn wait(&mut self, looked: Duration) -> Vec<Woken> {
        let due = self.next(looked);
        let stderr = std::io::stderr();
        let mut sources = vec![Woken::Other];
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let is_resting = self.rest.is_some_and(|rest| rest > looked);
        for (id, fd) in self.port.iter().flat_map(Port::waits_for).filter(|(id, _)| id.is_some() || !is_resting) {
            sources.push(id.map_or(Woken::NewCaller, Woken::Caller));
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        for (id, fd) in self.control.iter().flat_map(Control::waits_for).filter(|(id, _)| id.is_some() || !is_resting) {
            sources.push(id.map_or(Woken::NewConnection, Woken::Connection));
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        if let Some(exchange) = &self.exchange {
            sources.push(Woken::Other);
            fds.push(PollFd::new(exchange.as_fd(), exchange.wants()));
        }
        if self.voice.is_waiting() {
            sources.push(Woken::Other);
            fds.push(PollFd::new(stderr.as_fd(), PollFlags::POLLOUT));
        }
        // Rounded up: what is due in half a millisecond is not due yet.
        let now = self.begun.elapsed();
        let timeout = due.map(|due| due.saturating_sub(now).as_micros().div_ceil(1000));
        let timeout = timeout.map(|millis| i32::try_from(millis).unwrap_or(i32::MAX));
        let timeout = timeout.and_then(|millis| PollTimeout::try_from(millis).ok()).unwrap_or(PollTimeout::NONE);
        // An error is another look.
        let _ = poll(&mut fds, timeout);
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let ready: Vec<_> = fds.iter().map(is_ready).collect();
        sources.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready).map(|(source, _)| source).collect()
    }

    /// When something is due by itself.
    fn next(&self, now: Duration) -> Option<Duration> {
        let lasting = self.jobs.lasting(now);
        let protection = match self.agent {
            Ok(_) if self.exchange.is_none() => self.protection.next(lasting, self.life.is_stopping(), now),
            Ok(_) | Err(_) => None,
        };
        let due = [
            self.life.next(self.jobs.count(now), now),
            self.jobs.next(now),
            self.count,
            self.port.as_ref().and_then(Port::next),
            self.exchange.as_ref().map(Exchange::deadline),
            self.askers.iter().map(|asker| asker.until).min(),
            self.rest.filter(|rest| *rest > now),
            protection,
        ];
        due.into_iter().flatten().min()
    }

    fn came(&mut self, came: Came, now: Duration) {
        match came {
            Came::For(signal) if signal == self.options.stop_signal => {
                let actions = self.life.asked(signal, self.jobs.count(now), now);
                self.carry_out(actions);
            }
            Came::For(signal) => process::send(self.command, signal, self.options.forward),
            Came::FromTerminal(nix::sys::signal::Signal::SIGTSTP) => process::pause(),
            // The command has it, too, and decides what it means.
            Came::FromTerminal(_) => {}
            Came::Nameless(number) => self.voice.say(&message::not_sent_on(number)),
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(signal) => process::send(self.command, signal, self.options.forward),
                Action::Say(text) => self.voice.say(&text),
            }
        }
    }

    fn attend(&mut self, by: Woken, now: Duration) {
        let health = self.life.health(now);
        match by {
            Woken::Other => {}
            Woken::NewCaller => {
                let accepted = self.port.as_mut().map_or(Ok(()), |port| port.accept(now));
                self.rest = accepted.err().map(|_| now + REST);
            }
            Woken::Caller(id) => self.port.iter_mut().for_each(|port| port.read(id, health)),
            Woken::NewConnection => {
                let accepted = self.control.as_mut().map_or(Ok(()), Control::accept);
                self.rest = accepted.err().map(|_| now + REST);
            }
            Woken::Connection(id) => {
                let requests = self.control.as_mut().map(|control| control.read(id)).unwrap_or_default();
                for request in requests {
                    self.request(id, request, now);
                }
            }
        }
    }

    fn request(&mut self, id: u64, request: Request, now: Duration) {
        let answer = match request {
            Request::Health => self.life.health(now).to_string(),
            Request::Busy(_) | Request::Job(_) if self.life.is_stopping() => "stopping".into(),
            Request::Busy(lasting) => {
                let before = self.jobs.busy(Some(now.saturating_add(lasting.unwrap_or(BUSY))));
                return self.askers.push(Asker { connection: id, until: now + ANSWERED, busy_before: Some(before) });
            }
            Request::Job(_) if self.jobs.are(control::MOST, id) => {
                let why = format!("unprotected: {} connections are jobs already", control::MOST);
                return self.control.iter_mut().for_each(|control| control.refuse(id, &why));
            }
            Request::Job(lasting) => {
                self.jobs
                    .hold(id, lasting.map_or(Lasting::Unknown, |lasting| Lasting::Until(now.saturating_add(lasting))));
                return self.askers.push(Asker { connection: id, until: now + ANSWERED, busy_before: None });
            }
            Request::Idle => {
                self.jobs.busy(None);
                self.jobs.release(id);
                if self.life.is_stopping() { "stopping".into() } else { "idle".into() }
            }
            Request::Unknown(line) => format!("error: `{line}` is not health, busy [TIME], idle or job [TIME]"),
            Request::Gone => {
                self.jobs.release(id);
                return self.askers.retain(|asker| asker.connection != id);
            }
        };
        if let Some(control) = &mut self.control {
            control.answer(id, &answer);
        }
    }

    fn count_jobs(&mut self, now: Duration) {
        if self.count.is_some_and(|at| at <= now) {
            self.jobs.children(process::children(self.command));
            self.count = Some(now + COUNTED);
        }
        for _ in 0..self.jobs.expire(now) {
            self.voice.say(&message::job_overdue());
        }
    }

    /// Goes on with what is asked of the agent, and asks what is to be asked.
    fn protect(&mut self, now: Duration) {
        let lasting = self.jobs.lasting(now);
        let agent = match &self.agent {
            Ok(agent) => agent,
            Err(why) => {
                if lasting.is_some() && !self.alone {
                    self.alone = true;
                    self.voice.say(&format!("the task is not protected while its job runs: {why}"));
                }
                return;
            }
        };
        let mut answer = self.exchange.as_mut().and_then(|exchange| exchange.go_on(now));
        if answer.is_none() && self.exchange.is_none() {
            let wish = self.protection.look(lasting, self.life.is_stopping(), now);
            match wish.map(|wish| agent.ask(wish, now)) {
                None => {}
                Some(Ok(exchange)) => self.exchange = Some(exchange),
                Some(Err(why)) => answer = Some(Err(why)),
            }
        }
        if let Some(answer) = answer {
            self.exchange = None;
            if let Some(said) = self.protection.answered(answer, now) {
                self.voice.say(&said);
            }
        }
    }

    /// Tells those who wait whether the task is protected; when a stop has come meanwhile, their jobs are not begun.
    fn answer_askers(&mut self, now: Duration) {
        let Some(control) = &mut self.control else { return };
        let why = match &self.agent {
            Err(why) => Some(why.as_str()),
            // A try that is under way may be better than the last one.
            Ok(_) if self.exchange.is_some() => None,
            Ok(_) => self.protection.trouble(),
        };
        let (is_stopping, is_protected) = (self.life.is_stopping(), self.protection.holds(now));
        self.askers.retain(|asker| {
            let answer = match why {
                _ if is_stopping => {
                    match asker.busy_before {
                        Some(before) => drop(self.jobs.busy(before)),
                        None => self.jobs.release(asker.connection),
                    }
                    "stopping".to_owned()
                }
                _ if is_protected => "protected".to_owned(),
                Some(why) => format!("unprotected: {why}"),
                None if asker.until <= now => "unprotected: the agent has not answered yet".to_owned(),
                None => return true,
            };
            control.answer(asker.connection, &answer);
            false
        });
    }

    fn ended(mut self, end: End, now: Duration) -> u8 {
        let (status, said) = self.life.ended(end, now);
        if let Some(said) = said {
            self.voice.say(&said);
        }
        self.voice.finish();
        status
    }
}
