//! The command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::check::{self, Outcome};
use crate::console::Lasts;
use crate::{Mistake, real, reference, show, template, workers};

mod ask;
mod begin;
mod follow;
mod past;

use begin::With;
use follow::{How, REFRESH, Signals, Watched};

/// Deploys an ECS application through CodePipeline - here, the whole of it on this machine.
///
/// The pipeline is that of template.yaml, the Lambda functions are the real ones, ECS tasks and services are processes
/// in the application's folder, databases and ports are real.
#[derive(Debug, Parser)]
#[command(name = "cutover", bin_name = "cargo run --", version, max_term_width = 80, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Release the application in a folder, through the whole pipeline (this one with a deploy.yaml, else examples/shop).
    Release(Release),
    /// Keep the same world up, to be used with the AWS CLI: start releases, approve, stop, look.
    Serve(Serve),
    /// Say what a release of the application in a folder would do, or every mistake in its deploy.yaml.
    Check(Check),
    /// Show the workers of a stack, the jobs that they have, and what runs by the clock.
    Workers(Workers),
    /// List the releases that have ended, or show one of them (here; with --aws, those of the account).
    Releases(past::Releases),
    /// Go back to an earlier release: the one before the one that runs, or the one that is named.
    Rollback(past::Rollback),
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

Exit status: 0 when the release Succeeded, 1 when it Failed or was Stopped, or when `check` or `verify` found mistakes, 2 \
when it could not start.";

/// The hidden subcommand that makes this program one of the functions.
const FUNCTION: &str = "function";

/// The hidden subcommand that ends what a killed run leaves.
const SUPERVISOR: &str = "supervisor";

#[derive(Debug, Args)]
struct Release {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Release to the account as the last run left it, with its databases and what runs, instead of a new one.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Serve {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Begin with what the last run left, with its databases and what runs; a new account unless given, which forgets it.
    #[arg(long)]
    again: bool,
    /// The port of the endpoint; any free one unless given.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The port of the console, the page that shows its releases; any free one unless given.
    #[arg(long, value_name = "N", default_value_t = 0)]
    console_port: u16,
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
    /// The application's folder, with its deploy.yaml (this one where it has one, else examples/shop).
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
}

/// Exit status when a release could not start.
const COULD_NOT_START: u8 = 2;

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
        Some(Sub::Releases(asked)) => on_runtime(past::list(asked)),
        Some(Sub::Rollback(asked)) => on_runtime(past::go_back(asked)),
        Some(Sub::Serve(serve)) => on_runtime(serve_here(serve)),
        None => on_runtime(release_here(Release {
            folder: None,
            again: false,
            how: How::default(),
            files: Files { local: None, template: None, state: ".cutover".into() },
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
    let folder = given.folder.clone().unwrap_or_else(begin::own_folder);
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
        "record-release" => serve(record_release::handle).await,
        "check-rollback" => serve(check_rollback::handle).await,
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

async fn release_here(release: Release) -> Result<ExitCode, Mistake> {
    let with = if release.again { With::WhatWasLeft } else { With::ANewAccount };
    let prepared = begin::prepare(release.folder, &release.files, with).await?;
    follow::play(&prepared, release.how, |names| json!({"name": names[0]})).await
}

/// Asks the account whose credentials the environment has; with `serve`'s, the one on this machine.
async fn workers_of(workers: Workers) -> Result<ExitCode, Mistake> {
    show::say(&workers::shown(&workers.stack).await?);
    Ok(ExitCode::SUCCESS)
}

async fn serve_here(serve: Serve) -> Result<ExitCode, Mistake> {
    let with = if serve.again { With::WhatWasLeft } else { With::ANewAccount };
    let prepared = begin::prepare(serve.folder, &serve.files, with).await?;
    let mut show = show::Show::new();
    let machine = begin::machine(&prepared, serve.port, &show).await?;
    let pipeline = machine.world().pipeline_name().to_owned();
    let console = begin::console(&prepared, &machine, &pipeline, serve.console_port, Lasts::UntilEnded).await?;
    show.serving(&machine, &prepared.account);
    show.console(&console);
    let (mut signals, mut watched) = (Signals::new(), Watched::default());
    let mut kept = machine.world().changes_of_what_is_kept();
    let mut stopping: Option<(tokio::time::Instant, Vec<String>)> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => watched.look(&machine, &mut show, &prepared),
            () = signals.next() => {
                if stopping.is_some() {
                    show.line("Stopping at once");
                    break;
                }
                if machine.world().first_under_way().is_some() {
                    show.line("Stopping the release: its tasks are stopped, deployments under way are rolled back (Ctrl-C again: at once)");
                }
                stopping = Some((tokio::time::Instant::now(), Vec::new()));
            }
        }
        if let Some((since, stopped)) = &mut stopping {
            if since.elapsed() > follow::HALTED {
                show.line("Not all of what was stopped has come to rest: ending all the same");
                break;
            }
            // Each that is under way: behind one that waits, the next one begins.
            let under_way = machine.world().first_under_way();
            if let Some(execution) = under_way.filter(|one| !stopped.contains(one)) {
                follow::stop(&machine, &execution);
                stopped.push(execution);
            }
            let is_over = machine.world().first_under_way().is_none();
            if is_over && stopped.iter().all(|one| follow::is_at_rest(&machine, one)) && !watched.follows() {
                break;
            }
        }
        // Whoever asks for releases meanwhile reads what is kept; and this run may be killed.
        let changes = machine.world().changes_of_what_is_kept();
        let has_released = changes != kept && machine.world().has_executions();
        if has_released && real::kept::write(&prepared.kept, &prepared.state, &machine.world()).is_ok() {
            kept = changes;
        }
    }
    if machine.world().has_executions()
        && let Err(Mistake(why)) = real::kept::write(&prepared.kept, &prepared.state, &machine.world())
    {
        show.line(&format!("What was released is not kept for the next run: {why}"));
    }
    console.end().await;
    machine.shut_down().await;
    Ok(ExitCode::SUCCESS)
}
