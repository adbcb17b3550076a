//! What a person sees of a release: on a terminal the running actions redrawn below the log, otherwise plain lines.
//!
//! Invariant: this is the only module that prints; every line is printed once, in the order in which it came.

mod wrap;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use console::{Term, style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use shared::Time;
use shared::names::read_worker_started_by;
use shared::time::spoken;

use crate::account::Account;
use crate::console::Console;
use crate::real::Machine;
use crate::world::{ActionStatus, ActionView, ExecutionStatus, Life};

/// The view of a release.
pub struct Show {
    bars: Option<MultiProgress>,
    running: BTreeMap<String, ProgressBar>,
    known: BTreeMap<String, ActionStatus>,
    lines: BTreeMap<String, u64>,
    told: usize,
    begun: Option<Time>,
}

/// What is new in a release.
enum News {
    Began(ActionView),
    Ended(ActionView),
    Line(String),
}

/// Says something that a person has asked for.
pub fn say(text: &str) {
    print(&fitting(&plain_lines(text), &Term::stdout()));
}

/// Broken between words where the terminal is too narrow for it; as it is where it is read by a program.
fn fitting(text: &str, term: &Term) -> String {
    columns(term).map_or_else(|| text.to_owned(), |columns| wrap::wrapped(text, columns))
}

/// How wide a terminal is.
fn columns(term: &Term) -> Option<usize> {
    term.size_checked().filter(|_| term.is_term()).map(|(_, columns)| usize::from(columns))
}

/// How far the words of a line stand in that begins with its time and a mark.
const TIMED: usize = 9;

/// The door: whatever others wrote (commit messages, log lines, names in files, requests) comes through here before it is
/// styled. It can neither move the cursor, nor colour, nor turn a line round.
fn outside(text: &str) -> String {
    text.lines().map(shared::text::plain).collect::<Vec<_>>().join(" ")
}

fn plain_lines(text: &str) -> String {
    text.lines().map(shared::text::plain).collect::<Vec<_>>().join("\n")
}

/// Prints a line on standard output. Whoever reads it may have gone away (`... | head`): that is no reason to stop a release.
fn print(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Says on standard error why a release could not start.
pub fn complain(why: &str) {
    let text = fitting(&format!("error: {}", plain_lines(why)), &Term::stderr());
    let (_, rest) = text.split_at("error:".len());
    drop(writeln!(std::io::stderr(), "{}{rest}", style("error:").red().bold().for_stderr()));
}

impl Default for Show {
    fn default() -> Self {
        Self::new()
    }
}

impl Show {
    /// A view on the terminal, or in plain lines when there is none.
    #[must_use]
    pub fn new() -> Self {
        // On one that can move no cursor (TERM=dumb), nothing of it would be drawn.
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let bars = (std::io::stdout().is_terminal() && !bars.is_hidden()).then_some(bars);
        Self { bars, running: BTreeMap::new(), known: BTreeMap::new(), lines: BTreeMap::new(), told: 0, begun: None }
    }

    /// Prints a line, as text.
    pub fn line(&self, line: &str) {
        self.styled(&outside(line));
    }

    /// Prints a line whose words came through [`outside`].
    fn styled(&self, line: &str) {
        self.as_it_is(&fitting(line, &Term::stdout()));
    }

    /// The same of one that begins with its time; what follows its first part stands below its words.
    fn timed(&self, at: Time, line: &str) {
        let line = format!("{} {line}", self.at(at));
        self.as_it_is(&match columns(&Term::stdout()) {
            Some(columns) => wrap::hanging(line.trim_end(), columns, TIMED),
            None => line.trim_end().to_owned(),
        });
    }

    /// The same of what is copied from the terminal.
    fn as_it_is(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None => print(line),
        }
    }

    fn at(&self, now: Time) -> String {
        let elapsed = self.begun.map_or(0, |begun| now.since(begun).as_secs());
        style(format!("{:>3}:{:02}", elapsed / 60, elapsed % 60)).dim().to_string()
    }

    /// A release begins.
    pub fn begin(&mut self, machine: &Machine, execution: &str) {
        let world = machine.world();
        self.begun = Some(machine.now());
        let name = world.pipeline_of(execution).to_owned();
        drop(world);
        self.styled(&format!("{} {}, execution {execution}", style("Releasing through").bold(), outside(&name)));
    }

    /// Shows what is new.
    pub fn refresh(&mut self, machine: &Machine, execution: &str) {
        self.notes(machine);
        // Printed once the world is let go: nothing waits for a terminal that stands still.
        let told: Vec<_> = machine.world().told(self.told).iter().map(|told| told.line()).collect();
        for line in &told {
            self.timed(machine.now(), &style(outside(line)).dim().to_string());
        }
        self.told += told.len();
        let (actions, new) = {
            let world = machine.world();
            (world.actions(execution), world.release_news(execution, &mut self.lines))
        };
        // Everything in the order in which it happened; at the same moment, what ended goes before what began.
        let mut news: Vec<(Time, u8, News)> = Vec::new();
        for action in actions {
            let known = self.known.get(&action.id).copied();
            if known.is_none() {
                news.push((action.started, 2, News::Began(action.clone())));
            }
            if action.status != ActionStatus::InProgress && known.is_none_or(|known| known == ActionStatus::InProgress)
            {
                news.push((action.updated, 1, News::Ended(action)));
            } else if action.status == ActionStatus::InProgress {
                self.goes_on(&action, machine.now());
            }
        }
        news.extend(new.into_iter().map(|event| (event.ingested, 0, News::Line(event.message))));
        // An action that began and ended at the same moment began first.
        news.sort_by_key(|(at, order, news)| {
            (*at, matches!(news, News::Ended(action) if action.started == *at), *order)
        });
        for (at, _, news) in news {
            match news {
                News::Began(action) => self.began(&action),
                News::Ended(action) => self.ended(&action),
                News::Line(line) => self.timed(at, &format!("  {}", log_line(&line))),
            }
        }
    }

    fn began(&mut self, action: &ActionView) {
        self.known.insert(action.id.clone(), ActionStatus::InProgress);
        match &self.bars {
            Some(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                if let Ok(template) = ProgressStyle::with_template("      {spinner:.cyan} {msg}") {
                    bar.set_style(template);
                }
                bar.enable_steady_tick(Duration::from_millis(120));
                self.running.insert(action.id.clone(), bar);
            }
            None => print(&format!("{} > {}", self.at(action.started), name(action))),
        }
    }

    fn goes_on(&mut self, action: &ActionView, now: Time) {
        // A line that moves would go over what a person types.
        if action.approval.is_some()
            && let Some(bar) = self.running.remove(&action.id)
        {
            bar.finish_and_clear();
        }
        if let Some(bar) = self.running.get(&action.id) {
            let said = outside(&action.summary);
            bar.set_message(format!("{} {} {said}", style(name(action)).bold(), spoken(now.since(action.started))));
        }
    }

    fn ended(&mut self, action: &ActionView) {
        self.known.insert(action.id.clone(), action.status);
        if let Some(bar) = self.running.remove(&action.id) {
            bar.finish_and_clear();
        }
        if let Some(line) = ended_line(action) {
            self.timed(action.updated, &line);
        }
    }

    /// Shows what went wrong in the world itself.
    pub fn notes(&self, machine: &Machine) {
        for note in machine.notes() {
            self.styled(&format!("{} {}", style("note:").yellow(), outside(&note)));
        }
    }

    /// The end of a release: what was released where, how long each action took, and on failure the verdict.
    pub fn end(&mut self, machine: &Machine, execution: &str, status: ExecutionStatus, state: &Path) {
        for (_, bar) in std::mem::take(&mut self.running) {
            bar.finish_and_clear();
        }
        let (actions, traffic) = {
            let world = machine.world();
            (world.actions(execution), world.traffic())
        };
        self.styled("");
        let took =
            self.begun.map_or_else(String::new, |begun| format!(" after {}", spoken(machine.now().since(begun))));
        let said = style(status.name()).bold();
        let said = if status == ExecutionStatus::Succeeded { said.green() } else { said.red() };
        self.styled(&format!("{said}{took}"));
        // What a person who has stopped it asks first: what was taken back, and how far each task came.
        let lines = machine.world().release_lines(execution);
        if let Some(halt) =
            lines.iter().rev().find(|event| event.message.starts_with("halt ") && status != ExecutionStatus::Succeeded)
        {
            for part in halt.message.split(". ") {
                self.styled(&format!("  {}", log_line(part)));
            }
        }
        // One that was tried again with success has failed no more.
        let is_last = |action: &&ActionView| {
            let later = |one: &ActionView| one.started > action.started && name(one) == name(action);
            !actions.iter().any(later)
        };
        let failed = actions.iter().filter(|action| action.status == ActionStatus::Failed);
        for action in failed.filter(is_last) {
            self.styled("");
            self.styled(&format!("{} failed:", style(name(action)).bold()));
            let verdict = action.error.as_deref().unwrap_or_default();
            for line in verdict.lines().filter(|line| !is_a_link_to_aws(line)) {
                self.styled(format!("  {}", outside(line)).trim_end());
            }
        }
        self.styled("");
        self.styled("Actions");
        for action in &actions {
            let took = spoken(action.updated.since(action.started));
            self.styled(&format!("  {:<22} {:<10} {took}", name(action), action.status.name()));
        }
        let at_work: Vec<_> = machine.world().lives().into_iter().filter(still_at_work).collect();
        if !at_work.is_empty() {
            self.styled("Workers, which no release ends (here they end with the run: `--stay` lets them work)");
        }
        for life in at_work {
            let (environment, name) = read_worker_started_by(&life.started_by).unwrap_or_default();
            let (whose, since) = (format!("{environment}/{name}"), spoken(machine.now().since(life.created)));
            self.styled(&format!("  {:<22} {}, at work for {since}", outside(&whose), outside(&life.image)));
        }
        self.styled("Traffic");
        for one in traffic {
            let port = one.port.map_or_else(String::new, |port| format!(", port {port} here"));
            self.styled(&format!(
                "  {:<22} {} ({}){port}",
                outside(&format!("{} {}", one.region, one.service)),
                outside(&one.image),
                outside(&one.definition)
            ));
        }
        self.styled(&format!("What it left, for `rollback` and `release --again`: {}", state.display()));
    }

    /// The run goes on after its release.
    pub fn stays(&self) {
        self.styled("");
        self.styled("All of it stays up until Ctrl-C: the console can retry a stage or start another release");
    }

    /// Where all of this can be seen and done in a browser.
    pub fn console(&self, console: &Console) {
        self.as_it_is(&format!("{} {}", style("Console").bold(), console.link()));
    }

    /// How to use the world that is kept up.
    pub fn serving(&self, machine: &Machine, account: &Account) {
        let name = machine.world().pipeline_name().to_owned();
        let endpoint = format!("http://{}", machine.address());
        let (key, secret) = machine.keys();
        self.as_it_is(&format!("{} at {endpoint} (Ctrl-C ends it)", style("Serving").bold()));
        self.as_it_is("");
        self.as_it_is(&format!(
            "export AWS_ENDPOINT_URL={endpoint} AWS_REGION={region} AWS_DEFAULT_REGION={region} AWS_ACCESS_KEY_ID={key} \
             AWS_SECRET_ACCESS_KEY={secret}",
            region = account.region
        ));
        let name = outside(&name);
        self.as_it_is(&format!("aws codepipeline start-pipeline-execution --name {name}"));
        self.as_it_is(&format!("aws codepipeline get-pipeline-state --name {name}"));
        if let Some(group) = machine.world().release_log_group() {
            self.as_it_is(&format!("aws logs tail {} --follow", outside(&group)));
        }
    }
}

fn name(action: &ActionView) -> String {
    outside(&format!("{}/{}", action.stage, action.action))
}

/// "+ Source/Source (0 s) Sell teapots", of an action that is over.
fn ended_line(action: &ActionView) -> Option<String> {
    let took = spoken(action.updated.since(action.started));
    let (mark, said) = match action.status {
        ActionStatus::Succeeded => (style("+").green(), outside(&action.summary)),
        ActionStatus::Failed => (style("x").red(), first_line(action.error.as_deref().unwrap_or("failed"))),
        ActionStatus::Abandoned => (style("x").yellow(), "abandoned".to_owned()),
        ActionStatus::InProgress => return None,
    };
    Some(format!("{mark} {} ({took}) {said}", style(name(action)).bold()))
}

/// Whether it is a worker that was started for a job, and goes on.
fn still_at_work(life: &Life) -> bool {
    life.started_by.starts_with("cutover-worker/") && life.stopped.is_none()
}

fn first_line(text: &str) -> String {
    shared::text::fit(&outside(text.lines().next().unwrap_or_default()), 300)
}

/// The longest line that is shown; the log has all of it.
const LONGEST_LINE: usize = 1000;

/// A line as a person should see it: of one that rewrote itself, as progress bars do, its last state; of a long one, both
/// ends and how long it is.
fn on_a_terminal(line: &str) -> String {
    let text = shared::text::plain(line);
    let length = text.chars().count();
    if length <= LONGEST_LINE {
        return text;
    }
    format!("{} ({length} characters)", shared::text::fit(&text, LONGEST_LINE))
}

/// A line without the link that ends it to a container's log in AWS's console: here there is none, and it fills four lines of a
/// narrow terminal.
fn without_link(line: &str) -> &str {
    let header = line.split_once(": https://").filter(|(begin, link)| {
        begin.contains(": container `") && link.contains(".console.aws.amazon.com/cloudwatch/home?region=")
    });
    header.map_or(line, |(begin, _)| begin)
}

/// Whether a line of a verdict is a link to AWS's console and nothing else.
fn is_a_link_to_aws(line: &str) -> bool {
    let link = line.split_once(": https://").map(|(_, link)| link);
    link.is_some_and(|link| link.contains(".console.aws.amazon.com/cloudwatch/home?region=") && !link.contains(' '))
}

/// A line of the merged log, its environment in a colour of its own.
fn log_line(message: &str) -> String {
    let Some((environment, rest)) = message.split_once(" | ") else { return on_a_terminal(message) };
    let (environment, rest) = (shared::text::plain(environment), on_a_terminal(without_link(rest)));
    let colour = environment.bytes().map(usize::from).sum::<usize>() % 5;
    let environment = style(environment);
    let environment = match colour {
        0 => environment.cyan(),
        1 => environment.magenta(),
        2 => environment.blue(),
        3 => environment.yellow(),
        _ => environment.green(),
    };
    format!("{environment} | {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What moves the cursor, rings, colours, sets the title, turns the line round.
    const BAD: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\u{7}\u{1b}[31mred\u{202e}txt\u{9b}1A\r\u{8}";

    #[test]
    fn what_others_wrote_reaches_the_terminal_as_text_and_nothing_else() {
        for status in [ActionStatus::Succeeded, ActionStatus::Failed] {
            let action = ActionView {
                stage: "Source".into(),
                action: format!("Source{BAD}"),
                provider: String::new(),
                id: String::new(),
                status,
                started: Time::default(),
                updated: Time::default(),
                summary: BAD.into(),
                error: Some(BAD.into()),
                approval: None,
                custom_data: None,
            };
            let line = ended_line(&action).unwrap();
            let moves = |char: char| char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char);
            assert!(!console::strip_ansi_codes(&line).contains(moves), "{line:?}");
            assert!(line.contains("redtxt") && !line.contains("title"), "{line:?}");
        }
        assert_eq!(outside("one\ntwo\u{1b}[1m"), "one two");
        assert_eq!(plain_lines("one\n  two\u{7}"), "one\n  two");
    }

    #[test]
    fn a_containers_log_has_no_link_here_and_what_an_application_writes_is_left_as_it_is() {
        let link =
            "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logsV2:log-groups/log-group/a";
        let header = "migrate: container `shop` of task 1a2b";
        assert_eq!(without_link(&format!("{header}: {link}")), header);
        for own in [format!("see: {link}"), format!("{header}: https://example.com/"), "plain".to_owned()] {
            assert_eq!(without_link(&own), own);
        }
    }

    #[test]
    fn of_a_verdict_what_is_only_a_link_to_aws_is_left_out_here() {
        let link = "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logsV2:log-groups";
        assert!(is_a_link_to_aws(&format!("Step by step: {link}")) && is_a_link_to_aws(&format!("All lines: {link}")));
        for own in
            [format!("Look at: {link} first"), "Step by step: https://example.com/".to_owned(), "exit 1".to_owned()]
        {
            assert!(!is_a_link_to_aws(&own), "{own}");
        }
    }

    #[test]
    fn a_line_that_rewrites_itself_is_shown_in_its_last_state_and_a_long_one_is_cut() {
        assert_eq!(on_a_terminal("10 %\r50 %\r100 %\r"), "100 %");
        assert_eq!(on_a_terminal("\u{1b}[2Jplain"), "plain");
        let long = on_a_terminal(&"x".repeat(20_000));
        assert!(long.ends_with("xxx (20000 characters)") && long.chars().count() < 1100, "{long}");
    }
}
