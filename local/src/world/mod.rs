//! AWS as one pure state machine: `handle(request, now) -> response`, happenings in, effects out.
//!
//! Invariants: nothing here reads a clock, starts a process or opens a socket; the same requests and happenings at the
//! same times give the same world. What a caller asks that the world does not know is refused in AWS's own format, and
//! noted.

mod agent;
mod beside;
mod codedeploy;
mod codepipeline;
mod definitions;
mod ecs;
mod events;
mod health;
mod iam;
mod jobs;
mod kept;
mod lambda;
mod logs;
mod mishaps;
mod past;
mod pipeline;
mod protocol;
mod rollouts;
mod s3;
mod scheduler;
mod services;
mod sink;
mod sqs;
mod ssm;
mod sts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use shared::Time;

use crate::Mistake;
use crate::account::{Account, HealthCheck};
use crate::template::Stack;

pub use ecs::{Container, Task};
pub use health::{ContainerCheck, Ill, Prober};
pub use iam::Granted;
pub use jobs::SECRET;
pub use kept::{KeptObject, KeptRegion, take_up};
pub use logs::{Event as LogEvent, Quirks};
pub use mishaps::Life;
pub use past::Lateness;
pub use pipeline::{ActionStatus, ActionView, ExecutionStatus};
pub use protocol::{Fault, Request, Response, decoded, operation};
pub use rollouts::RolloutView;
pub use services::TrafficView;
pub use sink::Told;

/// Something that the world wants done outside of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a container of a task.
    StartContainer(Box<Start>),
    /// Send a container SIGTERM, or SIGKILL.
    Signal {
        /// The task's ARN.
        task: String,
        /// The container.
        container: String,
        /// SIGKILL rather than SIGTERM.
        kill: bool,
    },
    /// Let the traffic of this port go to these tasks from now on.
    Route {
        /// The port.
        port: u16,
        /// The container of each that is meant; the only one with a port unless given.
        container: Option<String>,
        /// The tasks' ARNs, each with its weight.
        tasks: Vec<(String, u32)>,
    },
    /// Call a function of the application's own at a stage of a deployment; say how it went with [`Happening::Hooked`].
    CallHook {
        /// The call's id.
        id: String,
        /// The function's name.
        function: String,
        /// The stage, or the lifecycle event.
        stage: String,
    },
    /// Invoke a function; say how it ended with [`Happening::Invoked`].
    Invoke {
        /// The invocation's id.
        id: String,
        /// The function's name.
        function: String,
        /// The event.
        payload: Value,
        /// How long it may take.
        timeout: Duration,
    },
    /// Fetch the application's source; say how it went with [`Happening::Worked`].
    FetchSource {
        /// The action execution's id.
        action: String,
    },
    /// Build the application; say how it went with [`Happening::Worked`].
    Build {
        /// The action execution's id.
        action: String,
        /// The commit.
        commit: String,
    },
    /// Something that a person should see: a request that was refused because the world does not know it.
    Note(String),
}

/// A container to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The task's ARN.
    pub task: String,
    /// The container's name.
    pub container: String,
    /// Its image.
    pub image: String,
    /// How many words of its command are its ENTRYPOINT.
    pub entry_point: usize,
    /// Where in its image it starts, where its definition says so: a folder of the application's, unless it is a container's own path.
    pub folder: String,
    /// Its command, after its ENTRYPOINT.
    pub command: Vec<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Its port, when it has one.
    pub port: Option<u16>,
    /// How its target group asks it, when it has one.
    pub target: Option<HealthCheck>,
    /// Its own check, when it has one.
    pub check: Option<ContainerCheck>,
}

/// How an invocation failed, as Lambda tells its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// What sort of error it is: the function's own word, or Lambda's.
    pub kind: String,
    /// What went wrong.
    pub message: String,
}

impl FunctionError {
    /// An error of this sort.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into() }
    }
}

impl std::fmt::Display for FunctionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A container runs.
    Started {
        /// The task's ARN.
        task: String,
        /// The container.
        container: String,
        /// The port of this machine that it was given.
        port: Option<u16>,
    },
    /// A container cannot be started.
    CannotStart {
        /// The task's ARN.
        task: String,
        /// The container.
        container: String,
        /// Why.
        reason: String,
    },
    /// A container wrote a line.
    Line {
        /// The task's ARN.
        task: String,
        /// The container.
        container: String,
        /// The line.
        text: String,
    },
    /// Somebody has asked a task whether it is healthy.
    Checked {
        /// The task's ARN.
        task: String,
        /// Who.
        by: Prober,
        /// What came back.
        answer: Result<(), Ill>,
    },
    /// A container has ended.
    Exited {
        /// The task's ARN.
        task: String,
        /// The container.
        container: String,
        /// How; 128 and the signal's number when a signal ended it.
        code: i32,
    },
    /// An invocation has ended.
    Invoked {
        /// Its id.
        id: String,
        /// What it answered; its error, or that it ran out of time.
        result: Result<Value, FunctionError>,
    },
    /// A function of the application's own has answered a deployment.
    Hooked {
        /// The call's id.
        id: String,
        /// Whether the deployment may go on; what it said when not.
        result: Result<(), String>,
    },
    /// A source or build action has ended.
    Worked {
        /// The action execution's id.
        action: String,
        /// What it made.
        result: Result<Made, String>,
    },
}

/// What a source or build action made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Made {
    /// The zip of its output artifact.
    pub artifact: Vec<u8>,
    /// The revision.
    pub revision: String,
    /// In a word.
    pub summary: String,
    /// Its output variables.
    pub variables: BTreeMap<String, String>,
}

/// What is due at a time.
#[derive(Debug, Clone, PartialEq)]
enum Timer {
    /// Start a task's containers.
    Place(String),
    /// SIGKILL to what is left of a task.
    Kill(String),
    /// Look at a service: replace tasks that died, stop what is not wanted any more.
    Service(String),
    /// Look at a deployment.
    Deployment(String),
    /// Look at a service deployment of ECS's own.
    Rollout(String),
    /// Invoke a function.
    Invoke(String),
    /// A schedule's rule.
    Schedule(usize),
    /// An event on its way to its rules.
    Deliver(Box<Value>),
    /// Messages of a queue that can be received.
    Queue(String),
    /// A schedule of Scheduler's, by group and name, that was set as often as that.
    Clock(String, String, u64),
    /// A job that a continuation made.
    Job(String),
    /// An approval that nobody gave.
    Approval(String),
}

/// The world.
#[derive(Debug)]
pub struct World {
    now: Time,
    ids: u64,
    timers: BTreeMap<(Time, u64), Timer>,
    effects: Vec<Effect>,
    /// How often each operation was asked for, by whom it was asked.
    pub calls: BTreeMap<String, usize>,
    granted: Granted,
    needed_elsewhere: BTreeSet<crate::template::Need>,
    /// The endpoint under which tasks reach their agent.
    pub endpoint: String,
    /// What the ids of the keys end with that this world gives out.
    pub key_suffix: String,
    account: String,
    beside: crate::account::Beside,
    region: String,
    ecs: ecs::Ecs,
    codedeploy: codedeploy::Codedeploy,
    logs: logs::Logs,
    lambda: lambda::Lambda,
    rules: Vec<crate::template::Rule>,
    s3: s3::S3,
    ssm: ssm::Ssm,
    sqs: sqs::Sqs,
    scheduler: scheduler::Scheduler,
    told: Vec<sink::Told>,
    pipeline: pipeline::Pipeline,
    past: past::Pasts,
}

impl World {
    /// A world that has what the stack makes and the account has; `seed` makes its ids.
    ///
    /// # Errors
    /// What in the account cannot be.
    pub fn new(stack: Stack, account: &Account, seed: u64, now: Time) -> Result<Self, Mistake> {
        let mut world = Self {
            now,
            ids: seed,
            timers: BTreeMap::new(),
            effects: Vec::new(),
            calls: BTreeMap::new(),
            granted: Granted::new(),
            needed_elsewhere: BTreeSet::new(),
            endpoint: "http://127.0.0.1".into(),
            key_suffix: String::new(),
            account: stack.account.clone(),
            beside: account.beside.clone(),
            region: stack.region.clone(),
            ecs: ecs::Ecs::default(),
            codedeploy: codedeploy::Codedeploy::default(),
            logs: logs::Logs::default(),
            lambda: lambda::Lambda::new(&stack.functions),
            rules: stack.rules.clone(),
            s3: s3::S3::default(),
            ssm: ssm::Ssm::new(&account.ssm, &stack.ssm),
            sqs: sqs::Sqs::new(&stack.queues),
            scheduler: scheduler::Scheduler::default(),
            told: Vec::new(),
            pipeline: pipeline::Pipeline::new(
                std::iter::once(stack.pipeline).chain(stack.other_pipelines).collect(),
                stack.action_types,
            )?,
            past: past::Pasts::default(),
        };
        for function in &stack.functions {
            // Lambda makes it with the function's first line.
            world.logs.create_group(&world.region, &format!("/aws/lambda/{}", function.name), now);
        }
        for group in &stack.log_groups {
            world.logs.create_group(&world.region, group, now);
        }
        for (at, rule) in world.rules.clone().iter().enumerate() {
            if let crate::template::On::Rate(seconds) = rule.on {
                world.after(Duration::from_secs(seconds), Timer::Schedule(at));
            }
        }
        world.furnish(account)?;
        Ok(world)
    }

    /// Answers a request.
    pub fn handle(&mut self, request: &Request, now: Time) -> Response {
        self.advance(now);
        let operation = protocol::operation(request);
        *self.calls.entry(operation.clone()).or_default() += 1;
        let answer = self.authorize(&operation, request).and_then(|()| self.answer(&operation, request));
        self.remember();
        let (response, unknown) = match answer {
            Ok(response) => (response, None),
            Err(fault) => {
                let unknown = fault.is_unknown().then(|| format!("{operation}: {}", fault.message));
                (protocol::refusal(&operation, fault), unknown)
            }
        };
        if let Some(note) = unknown {
            self.effects.push(Effect::Note(format!("refused, since it is not known here: {note}")));
        }
        response
    }

    /// Takes in what happened outside.
    pub fn happened(&mut self, happening: Happening, now: Time) {
        self.advance(now);
        match happening {
            Happening::Started { task, container, port } => self.container_started(&task, &container, port),
            Happening::CannotStart { task, container, reason } => self.container_failed(&task, &container, &reason),
            Happening::Line { task, container, text } => self.container_wrote(&task, &container, text),
            Happening::Checked { task, by, answer } => self.checked(&task, by, answer),
            Happening::Exited { task, container, code } => self.container_exited(&task, &container, code),
            Happening::Invoked { id, result } => self.invoked(&id, result),
            Happening::Hooked { id, result } => self.hooked(&id, &result),
            Happening::Worked { action, result } => self.worked(&action, result),
        }
        self.remember();
    }

    /// Lets time pass: does all that is due by `now`, each at its own time.
    pub fn advance(&mut self, now: Time) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            self.now = self.now.max(entry.key().0);
            let timer = entry.remove();
            match timer {
                Timer::Place(task) => self.place(&task),
                Timer::Kill(task) => self.kill(&task),
                Timer::Service(service) => self.reconcile(&service),
                Timer::Deployment(id) => self.step_deployment(&id),
                Timer::Rollout(arn) => self.step_rollout(&arn),
                Timer::Invoke(id) => self.invoke_now(&id),
                Timer::Schedule(at) => self.scheduled(at),
                Timer::Deliver(event) => self.deliver(&event),
                Timer::Queue(queue) => self.receive(&queue),
                Timer::Clock(group, name, set) => self.clock_strikes(&group, &name, set),
                Timer::Job(job) => self.job_is_due(&job),
                Timer::Approval(action) => self.approval_timed_out(&action),
            }
            self.remember();
        }
        self.now = self.now.max(now);
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// The bucket of artifacts, and of what is known of workers.
    #[must_use]
    pub fn bucket(&self) -> String {
        self.pipeline.declared[0].artifact_store.location.clone()
    }

    /// The Region of the pipeline.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The log group of the releases, as the stack tells its functions.
    #[must_use]
    pub fn release_log_group(&self) -> Option<String> {
        self.lambda.setting("CUTOVER_LOG_GROUP")
    }

    /// What the world wants done, in order.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    fn after(&mut self, delay: Duration, timer: Timer) {
        let id = self.id();
        self.timers.insert((self.now.plus(delay), id), timer);
    }

    /// A number that was not used before.
    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Sixteen hexadecimal digits that look like chance and follow from the seed.
    fn hex(&mut self) -> String {
        // SplitMix64's finisher.
        let mut x = self.id().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", x ^ (x >> 31))
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.hex(), self.hex());
        format!("{}-{}-4{}-8{}-{}", &a[..8], &a[8..12], &a[13..], &b[1..4], &b[4..])
    }

    fn answer(&mut self, operation: &str, request: &Request) -> Result<Response, Fault> {
        let (service, name) = operation.split_once(':').unwrap_or((operation, ""));
        match service {
            "codepipeline" => self.codepipeline(name, request).map(Response::json),
            "ecs" => self.ecs_operation(name, request).map(Response::json),
            "codedeploy" => self.codedeploy_operation(name, request).map(Response::json),
            "logs" => self.logs_operation(name, request).map(Response::json),
            "ssm" => self.ssm_operation(name, request).map(Response::json),
            "sqs" => self.sqs_operation(name, request).map(Response::json),
            "scheduler" => self.scheduler_operation(name, request).map(Response::json),
            "sts" => self.sts_operation(name, request),
            "iam" => self.iam_operation(name, request),
            "ec2" => self.ec2_operation(name, request),
            "ecr" => self.ecr_operation(name, request).map(Response::json),
            "secretsmanager" => self.secrets_operation(name, request).map(Response::json),
            "servicequotas" => self.quotas_operation(name, request).map(Response::json),
            "lambda" => self.lambda_operation(name, request),
            "agent" => self.agent_operation(name, request),
            "s3" => self.s3_operation(name, request),
            "sink" => Ok(self.sink(request)),
            _ => Err(Fault::unknown(format!("{} {}", request.method, request.path))),
        }
    }
}
