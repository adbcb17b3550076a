//! A release that is followed here from its start to its end, with a person at the terminal.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::begin::{Prepared, console, machine};
use crate::Mistake;
use crate::console::Lasts;
use crate::real::{self, Machine};
use crate::show::Show;
use crate::world::{ActionView, ExecutionStatus};

/// How long what a stopped release left is waited for: tasks have up to two minutes for ending (fact 22), rollbacks
/// take about as long.
pub(super) const HALTED: Duration = Duration::from_secs(180);

/// How often what is shown is brought up to date.
pub(super) const REFRESH: Duration = Duration::from_millis(100);

/// How a release is followed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct How {
    /// Approve without asking.
    #[arg(long)]
    approve: bool,
    /// Keep everything up afterwards, until Ctrl-C: the console can then retry a stage or start another release.
    #[arg(long)]
    stay: bool,
    /// The port of the console, the page that shows the release; any free one unless given.
    #[arg(long, value_name = "N", default_value_t = 0)]
    console_port: u16,
}

/// Starts a pipeline, by what it is to be started with, and follows it to its end; and whatever is started or retried afterwards,
/// where it stays up.
pub(super) async fn play(
    prepared: &Prepared,
    how: How,
    start: impl FnOnce(&[String]) -> Value,
) -> Result<ExitCode, Mistake> {
    let mut show = Show::new();
    let machine = machine(prepared, 0, &show).await?;
    let start = start(&machine.world().pipeline_names());
    let pipeline = start["name"].as_str().unwrap_or_default();
    let lasts = if how.stay { Lasts::UntilEnded } else { Lasts::AsLongAsItsRelease };
    let console = console(prepared, &machine, pipeline, how.console_port, lasts).await?;
    show.console(&console);
    let started = machine.call("CodePipeline_20150709.StartPipelineExecution", &start)?;
    let mut execution = started["pipelineExecutionId"].as_str().unwrap_or_default().to_owned();
    let (mut signals, mut typed) = (Signals::new(), Typed { stays: how.stay, ..Typed::default() });
    let status = loop {
        show.begin(&machine, &execution);
        let followed = follow(&machine, &execution, how.approve, (&mut show, &mut typed), &mut signals).await;
        let status = match followed {
            Followed::ToItsEnd(status) => {
                wait_for_record(&machine, &execution, &mut signals).await;
                status
            }
            Followed::CutOff => {
                show.line(&format!(
                    "What was under way is killed here: what it has done, and whether all of it was taken back, is not known. What it left: {}",
                    prepared.state.display()
                ));
                break ExecutionStatus::Stopped;
            }
        };
        show.end(&machine, &execution, status, &prepared.state);
        // Also of a run that goes on: it may be killed.
        if let Err(Mistake(why)) = real::kept::write(&prepared.kept, &prepared.state, &machine.world()) {
            show.line(&format!("What was released is not kept for the next run: {why}"));
        }
        if !how.stay {
            break status;
        }
        show.stays();
        match next_release(&machine, &show, &mut signals).await {
            Some(next) => execution = next,
            None => break status,
        }
    };
    console.end().await;
    machine.shut_down().await;
    Ok(if status == ExecutionStatus::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The release that is started, or retried, next; none where the run is ended first.
async fn next_release(machine: &Machine, show: &Show, signals: &mut Signals) -> Option<String> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = signals.next() => return None,
        }
        show.notes(machine);
        if let Some(execution) = machine.world().first_under_way() {
            return Some(execution);
        }
    }
}

/// The releases of a world that is kept up: each is shown from its start to its end, whoever starts it.
#[derive(Debug, Default)]
pub(super) struct Watched {
    execution: Option<String>,
    over_since: Option<tokio::time::Instant>,
}

impl Watched {
    /// Whether a release is followed whose end was not shown yet.
    pub(super) fn follows(&self) -> bool {
        self.execution.is_some()
    }

    /// Shows what is new.
    pub(super) fn look(&mut self, machine: &Machine, show: &mut Show, prepared: &Prepared) {
        show.notes(machine);
        if self.execution.is_none() {
            self.execution = machine.world().first_under_way();
            if let Some(execution) = &self.execution {
                show.begin(machine, execution);
            }
        }
        let Some(execution) = self.execution.clone() else { return };
        show.refresh(machine, &execution);
        let status = machine.world().status(&execution).unwrap_or(ExecutionStatus::Stopped);
        if !status.is_over() {
            return;
        }
        let waited = self.over_since.get_or_insert_with(tokio::time::Instant::now).elapsed();
        // Another one may be under way already.
        let is_next = machine.world().first_under_way().is_some();
        if has_come_to_rest(machine, &execution, status) || is_next || waited > HALTED {
            show.end(machine, &execution, status, &prepared.state);
            *self = Self::default();
        }
    }
}

/// Whether nothing of a release that has ended goes on. What a stopped release left running is ended by the functions, which see the stop
/// in their loops.
fn has_come_to_rest(machine: &Machine, execution: &str, status: ExecutionStatus) -> bool {
    match status {
        ExecutionStatus::Failed => machine.world().is_still(execution),
        _ => machine.world().is_quiet(execution),
    }
}

/// Whether a release is over, has its record, and nothing of it goes on.
pub(super) fn is_at_rest(machine: &Machine, execution: &str) -> bool {
    let status = machine.world().status(execution).filter(|status| status.is_over());
    status.is_none_or(|status| has_come_to_rest(machine, execution, status) && machine.world().has_record(execution))
}

/// The release's record is written right after its end; a run that does without it goes on.
async fn wait_for_record(machine: &Machine, execution: &str, signals: &mut Signals) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = tokio::time::Instant::now();
    while !machine.world().has_record(execution) && begun.elapsed() < PATIENCE {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = signals.next() => return,
        }
    }
}

/// How far a release was followed.
enum Followed {
    /// To its end, which was this one.
    ToItsEnd(ExecutionStatus),
    /// Until somebody asked for its end a second time.
    CutOff,
}

/// Follows a release to its end; Ctrl-C stops it as "stop and abandon" does, a second one at once.
async fn follow(
    machine: &Machine,
    execution: &str,
    approve: bool,
    (show, typed): (&mut Show, &mut Typed),
    signals: &mut Signals,
) -> Followed {
    let mut asked: Option<String> = None;
    let (mut is_stopped, mut over_since) = (false, None);
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            answer = typed.answer() => {
                if let Some(token) = &asked {
                    give_approval(machine, execution, token, answer, show);
                }
            }
            () = signals.next() => {
                if is_stopped {
                    show.line("Stopping at once");
                    return Followed::CutOff;
                }
                // Of one that has ended, or was stopped in the console, what goes on yet is waited for all the same.
                is_stopped = true;
                let is_over = machine.world().status(execution).is_some_and(ExecutionStatus::is_over);
                if is_over {
                    show.line("The release has ended; waiting for what goes on yet (Ctrl-C again: at once)");
                } else {
                    show.line("Stopping the release: its tasks are stopped, deployments under way are rolled back (Ctrl-C again: at once)");
                    stop(machine, execution);
                }
            }
        }
        show.refresh(machine, execution);
        let (status, actions) = {
            let world = machine.world();
            (world.status(execution).unwrap_or(ExecutionStatus::Stopped), world.actions(execution))
        };
        if status.is_over() {
            let waited = over_since.get_or_insert_with(tokio::time::Instant::now).elapsed();
            if has_come_to_rest(machine, execution, status) || waited > HALTED {
                show.refresh(machine, execution);
                return Followed::ToItsEnd(status);
            }
            continue;
        }
        if let Some(action) = actions.iter().find(|action| action.approval.is_some())
            && asked.as_ref() != action.approval.as_ref()
        {
            asked.clone_from(&action.approval);
            ask(approve, action, typed, show);
        }
    }
}

/// What asks this process to end: Ctrl-C, `kill`, and a terminal that is closed.
pub(super) struct Signals(Vec<tokio::signal::unix::Signal>);

impl Signals {
    pub(super) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        // One that cannot be heard of does what it does to any process; the supervisor ends what is left then.
        Self(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect())
    }

    pub(super) async fn next(&mut self) {
        let each = self.0.iter_mut().map(|one| Box::pin(one.recv()));
        futures_util::future::select_all(each).await;
    }
}

/// What is typed at the terminal, as answers. One thread reads for the whole run: reading a line blocks, and a second reader would take
/// what the first one is asked for.
#[derive(Default)]
struct Typed {
    lines: Option<mpsc::UnboundedReceiver<String>>,
    /// Whether the run stays up, so that somebody may answer in the console.
    stays: bool,
    /// Whether something was asked, and not answered yet.
    waits: bool,
    /// What was answered without asking.
    given: Option<bool>,
    /// Whether it is typed at a terminal.
    is_terminal: bool,
    /// Since when nothing can be typed any more there.
    closed: Option<tokio::time::Instant>,
}

/// How long after its last line a terminal that is closed may send its signal, which stops the release.
const HANGS_UP: Duration = Duration::from_secs(1);

impl Typed {
    /// From now on a line is an answer; what was typed before is none.
    fn ask(&mut self) {
        self.waits = true;
        match &mut self.lines {
            Some(lines) => while lines.try_recv().is_ok() {},
            None => {
                let stdin = std::io::stdin();
                // One that is closed is none any more.
                self.is_terminal = stdin.is_terminal();
                if self.is_terminal {
                    // What the terminal holds was typed before.
                    let _ = nix::sys::termios::tcflush(stdin, nix::sys::termios::FlushArg::TCIFLUSH);
                }
                self.lines = Some(typed_lines());
            }
        }
    }

    /// The answer, once there is one. Where nothing can be typed any more, it is no, unless the run stays up for the console.
    async fn answer(&mut self) -> bool {
        if let Some(given) = self.given.take() {
            return given;
        }
        let Some(lines) = self.lines.as_mut().filter(|_| self.waits) else { return std::future::pending().await };
        let line = lines.recv().await;
        if line.is_none() && self.is_terminal {
            let closed = *self.closed.get_or_insert_with(tokio::time::Instant::now);
            tokio::time::sleep_until(closed + HANGS_UP).await;
        }
        self.waits = false;
        let Some(line) = line else {
            if self.stays {
                crate::show::say("Nothing can be typed here: answer in the console.");
                return std::future::pending().await;
            }
            crate::show::say(
                "Nothing can be typed here, which rejects it: approve with --approve, or stay for the console with --stay.",
            );
            return false;
        };
        matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
    }
}

/// The thread ends with the process.
fn typed_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn ask(approve: bool, action: &ActionView, typed: &mut Typed, show: &Show) {
    if approve {
        typed.given = Some(true);
        return;
    }
    let tells = action.custom_data.as_deref().unwrap_or("a person's approval is needed");
    show.line(&format!("{} waits for your answer: {tells}", action.action));
    show.line("Type yes to approve, anything else to reject:");
    typed.ask();
}

fn give_approval(machine: &Machine, execution: &str, token: &str, yes: bool, show: &Show) {
    let actions = machine.world().actions(execution);
    let Some(action) = actions.iter().find(|action| action.approval.as_deref() == Some(token)) else { return };
    let (status, summary) = if yes { ("Approved", "Approved here") } else { ("Rejected", "Rejected here") };
    let name = machine.world().pipeline_of(execution).to_owned();
    let input = json!({"pipelineName": name, "stageName": action.stage, "actionName": action.action,
        "result": {"status": status, "summary": summary}, "token": token});
    if let Err(Mistake(why)) = machine.call("CodePipeline_20150709.PutApprovalResult", &input) {
        show.line(&format!("The answer was not taken: {why}"));
    }
}

pub(super) fn stop(machine: &Machine, execution: &str) {
    let name = machine.world().pipeline_of(execution).to_owned();
    let input = json!({"pipelineName": name, "pipelineExecutionId": execution, "abandon": true, "reason": "Ctrl-C"});
    // An execution that has just ended cannot be stopped, and need not be.
    drop(machine.call("CodePipeline_20150709.StopPipelineExecution", &input));
}
