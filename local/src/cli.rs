//! The command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use shared::Manifest;

use crate::account::Account;
use crate::check::{self, Outcome, fits};
use crate::console::{Console, Lasts};
use crate::local_yaml;
use crate::real::{self, Binaries, Machine, Ports, Setting};
use crate::show::{self, Show};
use crate::template::{self, Stack};
use crate::world::{ActionView, ExecutionStatus, World};
use crate::{Mistake, real::set_up, reference, workers};

mod ask;

/// Deploys an ECS application through CodePipeline - here, the whole of it on this machine.
///
/// The pipeline is that of template.yaml, the Lambda functions are the real ones, ECS tasks and services are processes
/// in the application's folder, databases and ports are real.
#[derive(Debug, Parser)]
#[command(name = "cutover", bin_name = "cargo run --", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Release the application in a folder, through the whole pipeline (examples/shop unless given).
    Release(Release),
    /// Keep the same world up, to be used with the AWS CLI: start releases, approve, stop, look.
    Serve(Serve),
    /// Say what a release of the application in a folder would do, or every mistake in its deploy.yaml.
    Check(Check),
    /// Show the workers of a stack, the jobs that they have, and what runs by the clock.
    Workers(Workers),
    /// Write the files that a release of your application needs, from a compose file, task definitions or an account.
    Init(ask::Init),
    /// Ask the account whether it is as a release of the application needs it: nothing is changed.
    Verify(ask::Verify),
    /// Write what is generated from the manifest's types: its JSON Schema, and its reference in docs.
    #[command(hide = true)]
    Generate,
    /// End what is left when the process is gone that started this one: see `real::supervisor`.
    #[command(name = SUPERVISOR, hide = true)]
    Supervisor,
    /// Be one of the functions: how `release` starts them.
    #[command(name = FUNCTION, hide = true)]
    Function { name: String },
}

/// What the help ends with.
const AFTER_HELP: &str = "\
Without a command, examples/shop is released. Ctrl-C stops a release as \"stop and abandon\" does.

Exit status: 0 when the release Succeeded, 1 when it Failed or was Stopped, or when `check` or `verify` found mistakes, 2 when it could
not start.";

/// The hidden subcommand that makes this program one of the functions.
const FUNCTION: &str = "function";

/// The hidden subcommand that ends what a killed run leaves.
const SUPERVISOR: &str = "supervisor";

#[derive(Debug, Args)]
struct Release {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Approve without asking.
    #[arg(long)]
    approve: bool,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Serve {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The port of the endpoint; any free one unless given.
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Workers {
    /// The stack's name.
    #[arg(long, value_name = "NAME", default_value = template::STACK)]
    stack: String,
}

#[derive(Debug, Args)]
struct Check {
    /// The application's folder, with its deploy.yaml (examples/shop unless given).
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// A parameter of the stack, such as PreTask=none; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    parameter: Vec<String>,
    /// Where the stack's parameters stand; DIR/local.yaml, if it is there, unless given.
    #[arg(long, value_name = "FILE")]
    local: Option<PathBuf>,
    /// The stack; Cutover's own template.yaml unless given.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Files {
    /// What the account has; DIR/local.yaml unless given.
    #[arg(long, value_name = "FILE")]
    local: Option<PathBuf>,
    /// The stack; Cutover's own template.yaml unless given.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The folder for what a release leaves to look at: databases, the functions' logs.
    #[arg(long, value_name = "DIR", default_value = ".cutover")]
    state: PathBuf,
    /// The port of the console, the page that shows the release; any free one unless given.
    #[arg(long, value_name = "N", default_value_t = 0)]
    console_port: u16,
}

/// Exit status when a release could not start.
const COULD_NOT_START: u8 = 2;

/// How long what a stopped release left is waited for: tasks have up to two minutes for ending (fact 22), rollbacks
/// take about as long.
const HALTED: Duration = Duration::from_secs(180);

/// Runs the command line.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Some(Sub::Function { name }) => be_function(&name),
        Some(Sub::Supervisor) => real::supervisor::be(),
        Some(Sub::Check(check)) => check_here(&check).unwrap_or_else(could_not_start),
        Some(Sub::Generate) => generate().unwrap_or_else(could_not_start),
        Some(Sub::Workers(workers)) => on_runtime(workers_of(workers)),
        Some(Sub::Init(given)) => on_runtime(ask::init_here(given)),
        Some(Sub::Verify(given)) => on_runtime(ask::verify_here(given)),
        Some(Sub::Release(release)) => on_runtime(release_here(release)),
        Some(Sub::Serve(serve)) => on_runtime(serve_here(serve)),
        None => on_runtime(release_here(Release {
            folder: None,
            approve: false,
            files: Files { local: None, template: None, state: ".cutover".into(), console_port: 0 },
        })),
    }
}

fn could_not_start(Mistake(why): Mistake) -> ExitCode {
    show::complain(&why);
    ExitCode::from(COULD_NOT_START)
}

fn template_of(given: Option<&PathBuf>) -> Result<String, Mistake> {
    let path = given.cloned().unwrap_or_else(|| workspace().join("template.yaml"));
    std::fs::read_to_string(&path).map_err(|error| Mistake(format!("{}: {error}", path.display())))
}

fn check_here(given: &Check) -> Result<ExitCode, Mistake> {
    let folder = given.folder.clone().unwrap_or_else(|| workspace().join("examples/shop"));
    let parameters = pairs(&given.parameter)?;
    match check::check(&folder, given.local.as_deref(), parameters, &template_of(given.template.as_ref())?)? {
        Outcome::Good(plan) => {
            show::say(&plan);
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Bad(mistakes) => {
            show::say(&mistakes.join("\n"));
            let count = mistakes.len();
            show::complain(&format!("{count} {}", if count == 1 { "mistake" } else { "mistakes" }));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// `NAME=VALUE`, several times.
fn pairs(given: &[String]) -> Result<BTreeMap<String, String>, Mistake> {
    let pair = |one: &String| {
        let pair = one.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Mistake(format!("--parameter {one}: write it as NAME=VALUE")))
    };
    given.iter().map(pair).collect()
}

/// Writes what the tests find outdated.
fn generate() -> Result<ExitCode, Mistake> {
    let write = |path: &str, text: String| {
        std::fs::write(workspace().join(path), text).map_err(|error| Mistake(format!("{path}: {error}")))
    };
    write(reference::SCHEMA, reference::schema_file())?;
    for name in reference::PAGES {
        let page = std::fs::read_to_string(workspace().join(name)).ok().and_then(|old| reference::page(name, &old));
        write(name, page.ok_or_else(|| Mistake(format!("{name}: has no {:?}", reference::MARKS)))?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn on_runtime(command: impl Future<Output = Result<ExitCode, Mistake>>) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::complain(&error.to_string());
            return ExitCode::from(COULD_NOT_START);
        }
    };
    let code = runtime.block_on(command).unwrap_or_else(could_not_start);
    // A question on the terminal that nobody answers must not keep the process.
    runtime.shutdown_background();
    code
}

#[tokio::main(flavor = "current_thread")]
async fn be_function(name: &str) -> ExitCode {
    use shared::lambda::serve;
    let served = match name {
        "dispatch-jobs" => serve(dispatch_jobs::handle).await,
        "launch-workers" => serve(launch_workers::handle).await,
        "run-tasks" => serve(run_tasks::handle).await,
        "tail-logs" => serve(tail_logs::handle).await,
        "deploy-services" => serve(deploy_services::handle).await,
        "drain-workers" => serve(drain_workers::handle).await,
        "halt-release" => serve(halt_release::handle).await,
        "notify" => serve(notify::handle).await,
        _ => Err(format!("there is no function `{name}`").into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The workspace: where `cargo run` is at home.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The application, the account and the stack, checked against each other.
struct Prepared {
    folder: PathBuf,
    state: PathBuf,
    account: Account,
    manifest: Manifest,
    stack: Stack,
    /// Held for as long as the release lasts.
    _claim: std::fs::File,
}

async fn prepare(folder: Option<PathBuf>, files: &Files) -> Result<Prepared, Mistake> {
    let folder = folder.unwrap_or_else(|| workspace().join("examples/shop"));
    let shown = folder.display().to_string();
    let folder =
        folder.canonicalize().map_err(|error| Mistake(format!("{shown}: {error}. Name the application's folder.")))?;
    let parent = std::env::current_dir().map(|here| here.join(&files.state)).unwrap_or_else(|_| files.state.clone());
    // Read once before anything is made: a mistake leaves nothing behind.
    let application = local_yaml::read_application(&folder, files.local.as_deref(), &parent)?;
    // All variants of an account are one: their setups go over the same databases.
    let claim = claim(&application.root)?;
    let state = real::state_folder(&parent)?;
    let prepared = prepare_in(&folder, &state, files);
    if prepared.is_err() {
        drop(std::fs::remove_dir_all(&state));
    }
    let (manifest, account, stack) = prepared?;
    Ok(Prepared { folder, state, account, manifest, stack, _claim: claim })
}

/// Claims the account for this run: another one's setup would go over this one's databases.
fn claim(local: &Path) -> Result<std::fs::File, Mistake> {
    let failed = |why: String| Mistake(format!("{}: {why}", local.display()));
    let file = std::fs::File::open(local).map_err(|error| failed(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(failed(
            "another release or `serve` of it is under way on this machine: let it end, or stop it with Ctrl-C".into(),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error.to_string())),
    }
}

fn prepare_in(folder: &Path, state: &Path, files: &Files) -> Result<(Manifest, Account, Stack), Mistake> {
    let local_yaml::Application { manifest, account, .. } =
        local_yaml::read_application(folder, files.local.as_deref(), state)?;
    let stack =
        template::read(&template_of(files.template.as_ref())?, &account.parameters, &account.account, &account.region)?;
    let world = World::new(stack.clone(), &account, 0, shared::Time::default())?;
    let mut wrong = fits::unfit(&manifest, &account, &world);
    wrong.extend(check::missing_tasks(&manifest, &stack));
    let wrong: Vec<_> = wrong.iter().map(|why| format!("{}: {why}", shared::manifest::FILE)).collect();
    if wrong.is_empty() { Ok((manifest, account, stack)) } else { Err(Mistake(wrong.join("\n"))) }
}

async fn machine(prepared: &Prepared, port: u16, show: &Show) -> Result<Machine, Mistake> {
    real::engine_is_there(&prepared.account)?;
    for note in &prepared.account.notes {
        show.line(&format!("Note: {note}"));
    }
    let program = std::env::current_exe().map_err(|error| Mistake(error.to_string()))?;
    real::supervisor::start(&program, SUPERVISOR).map_err(|error| Mistake(format!("{SUPERVISOR}: {error}")))?;
    // Before the setup: whoever comes second must not go over the first one's databases.
    let ports = Ports::claim(port, &prepared.account).await?;
    show.line(&format!("Setting up the account that the release comes to ({})", prepared.state.display()));
    set_up(&prepared.folder, &prepared.account).await?;
    let setting = Setting {
        folder: &prepared.folder,
        state: &prepared.state,
        stack: prepared.stack.clone(),
        account: &prepared.account,
        binaries: Binaries::Within { program, argument: FUNCTION.into() },
        ports,
    };
    let machine = Machine::start(setting)?;
    machine.world().was_released(&prepared.manifest);
    wait_until_settled(&machine).await?;
    Ok(machine)
}

/// Serves the page that shows this machine's world; a machine that nobody can look at is shut down again.
async fn console(prepared: &Prepared, machine: &Machine, port: u16, lasts: Lasts) -> Result<Console, Mistake> {
    let manifest = prepared.folder.join(shared::manifest::FILE);
    let console = Console::start(machine, manifest, port, lasts).await;
    if console.is_err() {
        machine.shut_down().await;
    }
    console
}

/// The old version must run before a new one comes.
async fn wait_until_settled(machine: &Machine) -> Result<(), Mistake> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = tokio::time::Instant::now();
    let why = loop {
        {
            let world = machine.world();
            if world.is_settled() {
                return Ok(());
            }
            // One that has ended will not come up; only what still runs is waited for.
            if let Some(ended) = world.ended_service_task() {
                break ended;
            }
            if begun.elapsed() > PATIENCE {
                break world.unhealthy_services(PATIENCE);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    machine.shut_down().await;
    Err(Mistake(why))
}

async fn release_here(release: Release) -> Result<ExitCode, Mistake> {
    let prepared = prepare(release.folder, &release.files).await?;
    let mut show = Show::new();
    let machine = machine(&prepared, 0, &show).await?;
    let console = console(&prepared, &machine, release.files.console_port, Lasts::AsLongAsItsRelease).await?;
    show.console(&console);
    let name = machine.world().pipeline_name().to_owned();
    let started = machine.call("CodePipeline_20150709.StartPipelineExecution", &json!({"name": name}))?;
    let execution = started["pipelineExecutionId"].as_str().unwrap_or_default().to_owned();
    show.begin(&machine, &execution);
    let status = follow(&machine, &execution, release.approve, &mut show).await;
    show.end(&machine, &execution, status, &prepared.state);
    console.end().await;
    machine.shut_down().await;
    Ok(if status == ExecutionStatus::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Follows a release to its end; Ctrl-C stops it as "stop and abandon" does, a second one at once.
async fn follow(machine: &Machine, execution: &str, approve: bool, show: &mut Show) -> ExecutionStatus {
    const REFRESH: Duration = Duration::from_millis(100);
    let mut asked: Option<String> = None;
    let (answers, mut answered) = tokio::sync::mpsc::channel(1);
    let mut stopped = None;
    let mut signals = Signals::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            answer = answered.recv() => {
                if let (Some(answer), Some(token)) = (answer, &asked) {
                    give_approval(machine, execution, token, answer, show);
                }
            }
            () = signals.next() => {
                if stopped.is_some() {
                    show.line("Stopping at once");
                    return machine.world().status(execution).unwrap_or(ExecutionStatus::Stopped);
                }
                show.line("Stopping the release: its tasks are stopped, deployments under way are rolled back (Ctrl-C again: at once)");
                stop(machine, execution);
                stopped = Some(tokio::time::Instant::now());
            }
        }
        show.refresh(machine, execution);
        let (status, actions) = {
            let world = machine.world();
            (world.status(execution).unwrap_or(ExecutionStatus::Stopped), world.actions(execution))
        };
        if status.is_over() {
            let waited = stopped.get_or_insert_with(tokio::time::Instant::now).elapsed();
            // What a stopped release left running is ended by the functions, which see the stop in their loops.
            let is_over = match status {
                ExecutionStatus::Failed => machine.world().is_still(execution),
                _ => machine.world().is_quiet(execution),
            };
            if is_over || waited > HALTED {
                show.refresh(machine, execution);
                return status;
            }
            continue;
        }
        if let Some(action) = actions.iter().find(|action| action.approval.is_some())
            && asked.as_ref() != action.approval.as_ref()
        {
            asked.clone_from(&action.approval);
            ask(approve, action, answers.clone(), show);
        }
    }
}

/// What asks this process to end: Ctrl-C, `kill`, and a terminal that is closed.
struct Signals(Vec<tokio::signal::unix::Signal>);

impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        // One that cannot be heard of does what it does to any process; the supervisor ends what is left then.
        Self(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect())
    }

    async fn next(&mut self) {
        let each = self.0.iter_mut().map(|one| Box::pin(one.recv()));
        futures_util::future::select_all(each).await;
    }
}

fn ask(approve: bool, action: &ActionView, answers: tokio::sync::mpsc::Sender<bool>, show: &Show) {
    if approve {
        let _ = answers.try_send(true);
        return;
    }
    let tells = action.custom_data.as_deref().unwrap_or("a person's approval is needed");
    show.line(&format!("{} waits for your answer: {tells}", action.action));
    show.line("Type yes to approve, anything else to reject:");
    // Reading a line blocks; the thread ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        let yes = read.is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes");
        let _ = answers.blocking_send(yes);
    });
}

fn give_approval(machine: &Machine, execution: &str, token: &str, yes: bool, show: &Show) {
    let actions = machine.world().actions(execution);
    let Some(action) = actions.iter().find(|action| action.approval.as_deref() == Some(token)) else { return };
    let (status, summary) = if yes { ("Approved", "Approved here") } else { ("Rejected", "Rejected here") };
    let name = machine.world().pipeline_name().to_owned();
    let input = json!({"pipelineName": name, "stageName": action.stage, "actionName": action.action,
        "result": {"status": status, "summary": summary}, "token": token});
    if let Err(Mistake(why)) = machine.call("CodePipeline_20150709.PutApprovalResult", &input) {
        show.line(&format!("The answer was not taken: {why}"));
    }
}

fn stop(machine: &Machine, execution: &str) {
    let name = machine.world().pipeline_name().to_owned();
    let input = json!({"pipelineName": name, "pipelineExecutionId": execution, "abandon": true, "reason": "Ctrl-C"});
    // An execution that has just ended cannot be stopped, and need not be.
    drop(machine.call("CodePipeline_20150709.StopPipelineExecution", &input));
}

/// Asks the account whose credentials the environment has; with `serve`'s, the one on this machine.
async fn workers_of(workers: Workers) -> Result<ExitCode, Mistake> {
    show::say(&workers::shown(&workers.stack).await?);
    Ok(ExitCode::SUCCESS)
}

async fn serve_here(serve: Serve) -> Result<ExitCode, Mistake> {
    let prepared = prepare(serve.folder, &serve.files).await?;
    let show = Show::new();
    let machine = machine(&prepared, serve.port, &show).await?;
    let console = console(&prepared, &machine, serve.files.console_port, Lasts::UntilEnded).await?;
    show.serving(&machine, &prepared.account);
    show.console(&console);
    let mut signals = Signals::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => show.notes(&machine),
            () = signals.next() => break,
        }
    }
    console.end().await;
    machine.shut_down().await;
    Ok(ExitCode::SUCCESS)
}
