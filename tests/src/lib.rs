//! The stage that scenarios play on: the world, the real functions in process, scripts for tasks, in virtual time.
//!
//! Invariant: nothing waits for real. Every wait is tokio's, the clock is paused, and a release of an hour takes as
//! long as its decisions do.

mod client;
mod kinds;
mod script;
mod story;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use local::account::Account;
use local::template::{self, Stack};
use local::world::{
    ActionStatus, ActionView, Effect, ExecutionStatus, Happening, Lateness, LogEvent, Made, Quirks, Request, World,
};
use serde_json::{Value, json};
use shared::{Aws, Clock, Event, Invocation, Time};

use client::Wires;
pub use client::{Call, Meddling};
pub use kinds::{Kind, with_kinds};
pub use script::Script;
pub use story::Story;

/// When every scenario begins.
pub const BEGIN: Time = Time::from_millis(1_700_000_000_000);

/// What a function of the application's own answers, by its name and the stage, and how long after.
pub type Hook = Box<dyn Fn(&str, &str) -> (Duration, Result<(), String>)>;

/// What a scenario is set up from: good by default, with one thing changed.
pub struct Setting {
    /// `deploy.yaml`.
    pub manifest: String,
    /// `local.yaml`.
    pub account: String,
    /// The stack.
    pub change_stack: Box<dyn Fn(&mut Stack)>,
    /// What containers do.
    pub script: Box<dyn Fn(&local::world::Start) -> Script>,
    /// What functions of the application's own answer when a deployment calls them at a stage, and how long after.
    pub hook: Hook,
    /// How CloudWatch behaves.
    pub quirks: Quirks,
    /// How late CodeDeploy shows what it has done.
    pub lateness: Lateness,
    /// What happens to calls of functions.
    pub meddle: Box<dyn FnMut(&Call<'_>) -> Meddling + Send>,
    /// Something beside the manifest in the artifact.
    pub ballast: Vec<u8>,
    /// What all chance of the play follows from: ids, jitter, nonces.
    pub seed: u64,
    /// Whether the story is kept to be read, and not only its hash.
    pub keep_story: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            manifest: include_str!("../../examples/shop/deploy.yaml").into(),
            account: include_str!("../../examples/shop/local.yaml").into(),
            change_stack: Box::new(|_| {}),
            script: Box::new(Script::of_shop),
            hook: Box::new(|_, _| (Duration::from_secs(1), Ok(()))),
            quirks: Quirks::default(),
            lateness: Lateness::default(),
            meddle: Box::new(|_| Meddling::Pass),
            ballast: Vec::new(),
            seed: 0,
            keep_story: false,
        }
    }
}

/// A scenario under way.
#[derive(Clone)]
pub struct Stage(Rc<Inner>);

struct Inner {
    wires: Wires,
    stack: Stack,
    props: Props,
    log: Mutex<Vec<String>>,
    /// How many invocations there were.
    sandboxes: Cell<u32>,
}

type Meddle = Arc<Mutex<Box<dyn FnMut(&Call<'_>) -> Meddling + Send>>>;

/// What of the setting is still needed.
struct Props {
    script: Box<dyn Fn(&local::world::Start) -> Script>,
    hook: Hook,
    artifact: Vec<u8>,
    containers: Mutex<BTreeMap<(String, String), tokio::sync::mpsc::UnboundedSender<bool>>>,
}

/// Runs a scenario: sets the stage, lets the old version come up, and plays. What a function does in it, its role in the
/// template must allow.
pub fn play<F: Future<Output = ()>>(setting: Setting, scenario: impl FnOnce(Stage) -> F) {
    play_denied(setting, async |stage| {
        scenario(stage.clone()).await;
        let is_denied = |note: &String| note.contains("no identity-based policy allows");
        let denied: Vec<_> = stage.notes().into_iter().filter(is_denied).collect();
        assert!(denied.is_empty(), "{denied:#?}");
    });
}

/// The same where a function may try what its role does not allow, and is refused.
pub fn play_denied<F: Future<Output = ()>>(setting: Setting, scenario: impl FnOnce(Stage) -> F) {
    // Every chance in the functions and in the SDK comes from this thread's generator.
    fastrand::seed(setting.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stage = Stage::set(setting);
        tokio::task::spawn_local(stage.clone().keep_time());
        stage.until("the old version runs", Duration::from_secs(60), |world| world.is_settled()).await;
        scenario(stage).await;
    });
}

impl Stage {
    fn set(setting: Setting) -> Self {
        let account = Account::parse("local.yaml", &setting.account).expect("a good local.yaml");
        let text = include_str!("../../template.yaml");
        let mut stack =
            template::read(text, &account.parameters, &account.account, &account.region).expect("a good template");
        (setting.change_stack)(&mut stack);
        let mut world = World::new(stack.clone(), &account, setting.seed, BEGIN).expect("a good world");
        world.set_quirks(setting.quirks);
        world.set_lateness(setting.lateness);
        let files = [
            ("deploy.yaml", setting.manifest.as_bytes()),
            ("imageDetail.json", br#"{"ImageURI":"registry.example/shop:2.0"}"#),
            ("ballast", &setting.ballast),
        ];
        Self(Rc::new(Inner {
            wires: Wires {
                world: Arc::new(Mutex::new(world)),
                clock: Clock::set(BEGIN),
                changed: Arc::default(),
                meddle: Arc::new(Mutex::new(setting.meddle)),
                story: Story::new(BEGIN, setting.keep_story),
            },
            stack,
            props: Props {
                script: setting.script,
                hook: setting.hook,
                artifact: zip(&files),
                containers: Mutex::default(),
            },
            log: Mutex::default(),
            sandboxes: Cell::new(0),
        }))
    }

    /// The world, to look at.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.wires.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.wires.clock.now()
    }

    /// What has happened so far.
    #[must_use]
    pub fn story(&self) -> &Story {
        &self.0.wires.story
    }

    /// What the world noted: requests that it does not know, functions that failed.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a release, and returns its execution.
    #[must_use]
    pub fn start(&self) -> String {
        let name = self.world().pipeline_name().to_owned();
        let started = self.call("CodePipeline_20150709.StartPipelineExecution", &json!({"name": name}));
        started["pipelineExecutionId"].as_str().expect("an execution").to_owned()
    }

    /// Calls CodePipeline as a person does, for the release.
    pub fn ask(&self, operation: &str, execution: &str, mut input: Value) -> Value {
        input["pipelineName"] = json!(self.world().pipeline_name());
        input["pipelineExecutionId"] = json!(execution);
        self.call(&format!("CodePipeline_20150709.{operation}"), &input)
    }

    /// A person stops and abandons the release, if it is still under way.
    pub fn stop(&self, execution: &str) {
        if !self.world().status(execution).is_some_and(ExecutionStatus::is_over) {
            self.ask("StopPipelineExecution", execution, json!({"abandon": true, "reason": "a test"}));
        }
    }

    /// Calls an operation as a person does.
    pub fn call(&self, target: &str, input: &Value) -> Value {
        let response = self.handle(&Request {
            method: "POST".into(),
            path: "/".into(),
            headers: [("x-amz-target".to_owned(), target.to_owned())].into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        });
        assert_eq!(response.status, 200, "{target}: {}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// The same in another Region.
    pub fn call_in(&self, region: &str, target: &str, input: &Value) -> Value {
        let credential = format!("AWS4-HMAC-SHA256 Credential=local/20231114/{region}/service/aws4_request");
        let headers = [("x-amz-target".to_owned(), target.to_owned()), ("authorization".to_owned(), credential)];
        let response = self.handle(&Request {
            method: "POST".into(),
            path: "/".into(),
            headers: headers.into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        });
        assert_eq!(response.status, 200, "{target}: {}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// The id of the newest deployment of a target such as `us/web`.
    #[must_use]
    pub fn deployment(&self, target: &str) -> String {
        self.world().deployment_with(&format!(" {target} key ")).expect("a deployment")
    }

    /// What deploy-services and drain-workers have said in the release's log.
    #[must_use]
    pub fn say(&self, execution: &str) -> Vec<String> {
        self.lines(execution).into_iter().filter(|line| !line.contains("line ")).collect()
    }

    /// How long after each change of a deployment it was said in the release's log: ready, and moved.
    #[must_use]
    pub fn noticed(&self, execution: &str) -> Vec<Duration> {
        let said = self.events(execution);
        let changes = self.world().changes_of_deployments();
        let delay = |(target, what, at): &(String, &'static str, Time)| {
            let (environment, service) = target.split_once('/')?;
            let found = said.iter().find(|event| {
                event.message.starts_with(&format!("{environment} {service}")) && event.message.contains(what)
            })?;
            Some(found.at.since(*at))
        };
        changes.iter().filter_map(delay).collect()
    }

    fn handle(&self, request: &Request) -> local::world::Response {
        self.0.wires.story.tell(self.now(), format_args!("a person asks: {}", String::from_utf8_lossy(&request.body)));
        let response = self.world().handle(request, self.now());
        self.0.wires.changed.notify_one();
        response
    }

    /// Answers the approval that waits.
    pub fn answer_approval(&self, execution: &str, status: &str) {
        let actions = self.actions(execution);
        let action = actions.iter().find(|action| action.approval.is_some()).expect("an approval that waits");
        let name = self.world().pipeline_name().to_owned();
        self.call(
            "CodePipeline_20150709.PutApprovalResult",
            &json!({"pipelineName": name, "stageName": action.stage, "actionName": action.action,
                "token": action.approval, "result": {"status": status, "summary": "by the test"}}),
        );
    }

    /// The actions of a release.
    #[must_use]
    pub fn actions(&self, execution: &str) -> Vec<ActionView> {
        self.world().actions(execution)
    }

    /// The newest run of an action.
    #[must_use]
    pub fn action(&self, execution: &str, name: &str) -> ActionView {
        let found = self.actions(execution).into_iter().rev().find(|action| action.action == name);
        found.unwrap_or_else(|| panic!("the action {name} has not begun"))
    }

    /// The lines of the release's log stream.
    #[must_use]
    pub fn lines(&self, execution: &str) -> Vec<String> {
        self.events(execution).into_iter().map(|event| event.message).collect()
    }

    /// The same by stream: each try of a release has its own.
    #[must_use]
    pub fn streams(&self, execution: &str) -> BTreeMap<String, Vec<String>> {
        let streams = self.world().release_streams(execution);
        let texts = |events: Vec<LogEvent>| events.into_iter().map(|event| event.message).collect();
        streams.into_iter().map(|(name, events)| (name, texts(events))).collect()
    }

    /// The same with when each was written, and when it was shown.
    #[must_use]
    pub fn events(&self, execution: &str) -> Vec<LogEvent> {
        self.world().release_lines(execution)
    }

    /// Waits until something is so, for at most `most` of the world's time.
    pub async fn until(&self, what: &str, most: Duration, so: impl Fn(&World) -> bool) {
        let begun = self.now();
        while !so(&self.world()) {
            assert!(self.now().since(begun) < most, "still not so after {most:?}: {what}; notes: {:?}", self.notes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an action has begun.
    pub async fn until_begun(&self, execution: &str, action: &str) {
        let begun = |world: &World| world.actions(execution).iter().any(|one| one.action == action);
        self.until(action, Duration::from_secs(7200), begun).await;
    }

    /// Waits for the end of a release; an approval is given when it comes to that.
    pub async fn end(&self, execution: &str) -> ExecutionStatus {
        let begun = self.now();
        loop {
            let status = self.world().status(execution).expect("an execution");
            if status.is_over() && self.world().is_quiet(execution) {
                return status;
            }
            if self.actions(execution).iter().any(|action| action.approval.is_some()) {
                self.answer_approval(execution, "Approved");
            }
            let actions = || self.actions(execution).into_iter().filter(|one| one.status == ActionStatus::InProgress);
            assert!(
                self.now().since(begun) < Duration::from_secs(2 * 3600),
                "the release does not end: {status:?}, {:#?}, notes: {:?}",
                actions().collect::<Vec<_>>(),
                self.notes()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The same, of a release that others wait behind: what they do is their own affair.
    pub async fn end_alone(&self, execution: &str) -> ExecutionStatus {
        let begun = self.now();
        loop {
            let status = self.world().status(execution).expect("an execution");
            if status.is_over() {
                return status;
            }
            if self.actions(execution).iter().any(|action| action.approval.is_some()) {
                self.answer_approval(execution, "Approved");
            }
            assert!(self.now().since(begun) < Duration::from_secs(2 * 3600), "the release does not end: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The release's tasks, as environment and task definition's family, each as often as it was started.
    #[must_use]
    pub fn started(&self, execution: &str) -> Vec<String> {
        let world = self.world();
        let own = world.tasks().filter_map(|task| {
            let whose = shared::names::read_started_by(&task.started_by)?;
            (whose.execution == execution).then(|| format!("{}/{}", whose.task, whose.environment))
        });
        let mut own: Vec<_> = own.collect();
        own.sort();
        own
    }

    async fn keep_time(self) {
        loop {
            self.world().advance(self.now());
            let effects = self.world().effects();
            for effect in effects {
                self.carry_out(effect);
            }
            let next = self.world().next();
            let pause = next.map_or(Duration::from_secs(3600), |next| next.since(self.now()));
            tokio::select! { biased;
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
                () = self.0.wires.changed.notified() => {}
            }
        }
    }

    fn happened(&self, happening: Happening) {
        self.0.wires.story.happening(self.now(), &happening);
        self.world().happened(happening, self.now());
        self.0.wires.changed.notify_one();
    }

    fn carry_out(&self, effect: Effect) {
        self.0.wires.story.effect(self.now(), &effect);
        let stage = self.clone();
        match effect {
            Effect::StartContainer(start) => {
                let script = (self.0.props.script)(&start);
                let (signals, received) = tokio::sync::mpsc::unbounded_channel();
                let key = (start.task.clone(), start.container.clone());
                self.0.props.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, signals);
                tokio::task::spawn_local(async move {
                    script.play(&start, received, |happening| stage.happened(happening)).await;
                });
            }
            Effect::Signal { task, container, kill } => {
                let containers = self.0.props.containers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(signals) = containers.get(&(task, container)) {
                    let _ = signals.send(kill);
                }
            }
            Effect::Route { .. } => {}
            Effect::Invoke { id, function, payload, timeout } => {
                tokio::task::spawn_local(async move {
                    let result = stage.invoke(&function, payload, timeout).await;
                    stage.happened(Happening::Invoked { id, result });
                });
            }
            Effect::FetchSource { action } => {
                let variables = [("CommitId", "abcdef0123"), ("CommitMessage", "Sell teapots")];
                let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let made = Made {
                    artifact: Vec::new(),
                    revision: "abcdef0123".into(),
                    summary: "Sell teapots".into(),
                    variables,
                };
                tokio::task::spawn_local(async move { stage.happened(Happening::Worked { action, result: Ok(made) }) });
            }
            Effect::Build { action, commit } => {
                let artifact = self.0.props.artifact.clone();
                let made = Made { artifact, revision: commit, summary: "Built".into(), variables: BTreeMap::new() };
                tokio::task::spawn_local(async move { stage.happened(Happening::Worked { action, result: Ok(made) }) });
            }
            Effect::CallHook { id, function, stage: at } => {
                let (after, result) = (self.0.props.hook)(&function, &at);
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(after).await;
                    stage.happened(Happening::Hooked { id, result });
                });
            }
            Effect::Note(note) => self.0.log.lock().unwrap_or_else(PoisonError::into_inner).push(note),
        }
    }

    /// Runs a function in process, as Lambda would: with a deadline, and dead when it is over.
    async fn invoke(&self, name: &str, payload: Value, timeout: Duration) -> Result<(), String> {
        let function = self.0.stack.functions.iter().find(|function| function.name == name).expect("a function");
        let (crash, crashed) = tokio::sync::oneshot::channel();
        self.0.sandboxes.set(self.0.sandboxes.get() + 1);
        let client = client::InProcess::new(function, self.0.sandboxes.get(), self.0.wires.clone(), crash);
        let setting = |name: &str| function.environment.get(name).cloned();
        let mut settings = shared::aws::Settings::read(setting);
        settings.own_log_group = Some(format!("/aws/lambda/{}", function.name));
        settings.http = Some("http://127.0.0.1/sink".into());
        let aws = Aws::new(&client.config(&self.0.stack.region), settings);
        let invocation = Invocation::lasting(self.now(), timeout);
        let event = Event::new(payload);
        let work = async {
            match function.binary.as_str() {
                "dispatch-jobs" => {
                    let functions = setting("CUTOVER_FUNCTIONS").expect("CUTOVER_FUNCTIONS");
                    let functions = serde_json::from_str(&functions).expect("a JSON object");
                    let version = setting("CUTOVER_ACTION_VERSION").expect("CUTOVER_ACTION_VERSION");
                    dispatch_jobs::dispatch(&aws, &dispatch_jobs::Settings { functions, version }, invocation).await
                }
                "run-tasks" => run_tasks::handle(aws, event, invocation).await,
                "tail-logs" => tail_logs::handle(aws, event, invocation).await,
                "deploy-services" => deploy_services::handle(aws, event, invocation).await,
                "drain-workers" => drain_workers::handle(aws, event, invocation).await,
                "halt-release" => halt_release::handle(aws, event, invocation).await,
                "notify" => notify::handle(aws, event, invocation).await,
                other => panic!("no function {other}"),
            }
        };
        tokio::select! { biased;
            done = work => done.map_err(|error| error.to_string()),
            _ = crashed => Err("it crashed".into()),
            () = tokio::time::sleep(timeout) => Err("it timed out".into()),
        }
    }
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a zip");
        writer.write_all(content).expect("a zip");
    }
    writer.finish().expect("a zip").into_inner()
}

/// Makes every custom action of the pipeline a plain Lambda Invoke action with the same parameters.
pub fn as_invoke_actions(stack: &mut Stack) {
    let functions: Value = stack
        .functions
        .iter()
        .find_map(|function| serde_json::from_str(function.environment.get("CUTOVER_FUNCTIONS")?).ok())
        .expect("CUTOVER_FUNCTIONS");
    let pipeline = stack.pipeline.name.clone();
    for stage in &mut stack.pipeline.stages {
        for action in stage.actions.iter_mut().filter(|action| action.action_type_id.owner == "Custom") {
            let function = functions[&action.action_type_id.provider].clone();
            let mut parameters = json!({"Pipeline": pipeline, "PipelineExecutionId": "#{codepipeline.PipelineExecutionId}",
                "Stage": stage.name, "Action": action.name});
            for (name, value) in &action.configuration {
                parameters[name] = value.clone();
            }
            let configuration = [("FunctionName", function), ("UserParameters", json!(parameters.to_string()))];
            action.configuration = configuration.map(|(name, value)| (name.to_owned(), value)).into();
            action.action_type_id = template::ActionTypeId {
                category: "Invoke".into(),
                owner: "AWS".into(),
                provider: "Lambda".into(),
                version: "1".into(),
            };
        }
    }
}

/// A `local.yaml` whose stack has this value for a parameter.
#[must_use]
pub fn with_parameter(account: &str, name: &str, value: &str) -> String {
    let is_it = |line: &&str| line.starts_with(&format!("  {name}:"));
    let others: String = account.lines().filter(|line| !is_it(line)).map(|line| format!("{line}\n")).collect();
    others.replacen("\nparameters:\n", &format!("\nparameters:\n  {name}: {value:?}\n"), 1)
}

/// Whether a container runs this command of the shop's.
#[must_use]
pub fn of_task(start: &local::world::Start, command: &str) -> bool {
    start.command.last().is_some_and(|last| last == command)
}

/// The shop, whose migration runs in `n` environments that share a cluster.
#[must_use]
pub fn wide(n: usize) -> String {
    let names: Vec<_> = (1..=n).map(|n| format!("e{n:02}")).collect();
    let environment = |name: &String| format!("  {name}: {{region: us-east-1, cluster: shop}}\n");
    let environments: String = names.iter().map(environment).collect();
    let service = |name: &str| {
        format!(
            "  {name}: {{kind: {name}, service: {name}, codedeploy_application: shop, deployment_group: {name}, \
             family: shop-{name}, container: shop, port: 8080, environments: [e01]}}\n"
        )
    };
    format!(
        "application: shop\nenvironments:\n{environments}tasks:\n\
         \x20 prepare: {{family: shop-task, command: [prepare], environments: [e01]}}\n\
         \x20 migrate: {{family: shop-task, command: [migrate]}}\n\
         \x20 finish: {{family: shop-task, command: [finish], environments: [e01]}}\n\
         services:\n{}{}",
        service("web"),
        service("worker")
    )
}

/// Whether a container has the database of this environment of the shop.
#[must_use]
pub fn is_in(start: &local::world::Start, environment: &str) -> bool {
    start.environment.get("DATABASE").is_some_and(|path| path.contains(&format!("/{environment}.")))
}

/// The smallest application that has everything: two environments, a web service and a worker.
pub const SMALL: &str = "
application: shop
environments:
  us: {region: us-east-1, cluster: shop}
  eu: {region: eu-west-1, cluster: shop}
tasks:
  prepare: {family: shop-task, command: [prepare], environments: [us]}
  migrate: {family: shop-task, command: [migrate]}
  finish: {family: shop-task, command: [finish], environments: [us]}
services:
  web: {kind: web, service: web, codedeploy_application: shop, deployment_group: web, family: shop-web, container: shop, port: 8080, environments: [us]}
  worker: {kind: worker, service: worker, codedeploy_application: shop, deployment_group: worker, family: shop-worker, container: shop, port: 8080, environments: [eu]}
";
