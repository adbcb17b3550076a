//! What a person sees of a release: on a terminal the running actions redrawn below the log, otherwise plain lines.
//!
//! Invariant: this is the only module that prints; every line is printed once, in the order in which it came.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use shared::Time;
use shared::time::spoken;

use crate::account::Account;
use crate::real::Machine;
use crate::world::{ActionStatus, ActionView, ExecutionStatus};

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
    print(text);
}

/// Prints a line on standard output. Whoever reads it may have gone away (`... | head`): that is no reason to stop a release.
fn print(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Says on standard error why a release could not start.
pub fn complain(why: &str) {
    drop(writeln!(std::io::stderr(), "{} {why}", style("error:").red().bold().for_stderr()));
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
        let bars = std::io::stdout().is_terminal().then(MultiProgress::new);
        Self { bars, running: BTreeMap::new(), known: BTreeMap::new(), lines: BTreeMap::new(), told: 0, begun: None }
    }

    /// Prints a line.
    pub fn line(&self, line: &str) {
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
        let name = world.pipeline_name().to_owned();
        drop(world);
        self.line(&format!("{} {name}, execution {execution}", style("Releasing through").bold()));
    }

    /// Shows what is new.
    pub fn refresh(&mut self, machine: &Machine, execution: &str) {
        self.notes(machine);
        let (actions, new) = {
            let world = machine.world();
            for told in world.told(self.told) {
                self.line(&format!("{} {}", self.at(machine.now()), style(told.line()).dim()));
            }
            self.told += world.told(self.told).len();
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
                News::Line(line) => self.line(&format!("{}   {}", self.at(at), log_line(&line))),
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

    fn goes_on(&self, action: &ActionView, now: Time) {
        if let Some(bar) = self.running.get(&action.id) {
            let said = if action.approval.is_some() { "waits for an answer" } else { action.summary.as_str() };
            bar.set_message(format!("{} {} {said}", style(name(action)).bold(), spoken(now.since(action.started))));
        }
    }

    fn ended(&mut self, action: &ActionView) {
        self.known.insert(action.id.clone(), action.status);
        if let Some(bar) = self.running.remove(&action.id) {
            bar.finish_and_clear();
        }
        let took = spoken(action.updated.since(action.started));
        let (mark, said) = match action.status {
            ActionStatus::Succeeded => (style("+").green(), action.summary.clone()),
            ActionStatus::Failed => (style("x").red(), first_line(action.error.as_deref().unwrap_or("failed"))),
            ActionStatus::Abandoned => (style("x").yellow(), "abandoned".to_owned()),
            ActionStatus::InProgress => return,
        };
        let name = style(name(action)).bold();
        self.line(format!("{} {mark} {name} ({took}) {said}", self.at(action.updated)).trim_end());
    }

    /// Shows what went wrong in the world itself.
    pub fn notes(&self, machine: &Machine) {
        for note in machine.notes() {
            self.line(&format!("{} {note}", style("note:").yellow()));
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
        self.line("");
        let took =
            self.begun.map_or_else(String::new, |begun| format!(" after {}", spoken(machine.now().since(begun))));
        let said = style(status.name()).bold();
        let said = if status == ExecutionStatus::Succeeded { said.green() } else { said.red() };
        self.line(&format!("{said}{took}"));
        // What a person who has stopped it asks first: what was taken back, and how far each task came.
        let lines = machine.world().release_lines(execution);
        if let Some(halt) =
            lines.iter().rev().find(|event| event.message.starts_with("halt ") && status != ExecutionStatus::Succeeded)
        {
            for part in halt.message.split(". ") {
                self.line(&format!("  {}", log_line(part)));
            }
        }
        for action in actions.iter().filter(|action| action.status == ActionStatus::Failed) {
            self.line("");
            self.line(&format!("{} failed:", style(name(action)).bold()));
            for line in action.error.as_deref().unwrap_or_default().lines() {
                self.line(format!("  {line}").trim_end());
            }
        }
        self.line("");
        self.line("Actions");
        for action in &actions {
            let took = spoken(action.updated.since(action.started));
            self.line(&format!("  {:<22} {:<10} {took}", name(action), action.status.name()));
        }
        self.line("Traffic");
        for one in traffic {
            let port = one.port.map_or_else(String::new, |port| format!(", port {port} here"));
            self.line(&format!(
                "  {:<22} {} ({}){port}",
                format!("{} {}", one.region, one.service),
                one.image,
                one.definition
            ));
        }
        self.line(&format!("What it left to look at: {} (remove it when you like)", state.display()));
    }

    /// How to use the world that is kept up.
    pub fn serving(&self, machine: &Machine, account: &Account) {
        let name = machine.world().pipeline_name().to_owned();
        let endpoint = format!("http://{}", machine.address());
        let (key, secret) = machine.keys();
        self.line(&format!("{} at {endpoint} (Ctrl-C ends it)", style("Serving").bold()));
        self.line("");
        self.line(&format!(
            "export AWS_ENDPOINT_URL={endpoint} AWS_REGION={} AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}",
            account.region
        ));
        self.line(&format!("aws codepipeline start-pipeline-execution --name {name}"));
        self.line(&format!("aws codepipeline get-pipeline-state --name {name}"));
        if let Some(group) = machine.world().release_log_group() {
            self.line(&format!("aws logs tail {group} --follow"));
        }
    }
}

fn name(action: &ActionView) -> String {
    format!("{}/{}", action.stage, action.action)
}

fn first_line(text: &str) -> String {
    shared::text::fit(text.lines().next().unwrap_or_default(), 300)
}

/// The longest line that is shown; the log has all of it.
const LONGEST_LINE: usize = 1000;

/// A line as a person should see it: of one that rewrote itself, as progress bars do, its last state; of a long one, both
/// ends and how long it is.
fn on_a_terminal(line: &str) -> String {
    let last = line.rsplit('\r').find(|state| !state.trim().is_empty()).unwrap_or_default();
    let text = shared::text::plain(last);
    let length = text.chars().count();
    if length <= LONGEST_LINE {
        return text;
    }
    format!("{} ({length} characters)", shared::text::fit(&text, LONGEST_LINE))
}

/// A line of the merged log, its environment in a colour of its own.
fn log_line(message: &str) -> String {
    let Some((environment, rest)) = message.split_once(" | ") else { return on_a_terminal(message) };
    let (environment, rest) = (shared::text::plain(environment), on_a_terminal(rest));
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

    #[test]
    fn a_line_that_rewrites_itself_is_shown_in_its_last_state_and_a_long_one_is_cut() {
        assert_eq!(on_a_terminal("10 %\r50 %\r100 %\r"), "100 %");
        assert_eq!(on_a_terminal("\u{1b}[2Jplain"), "plain");
        let long = on_a_terminal(&"x".repeat(20_000));
        assert!(long.ends_with("xxx (20000 characters)") && long.chars().count() < 1100, "{long}");
    }
}
