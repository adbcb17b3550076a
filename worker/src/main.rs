//! What runs inside a worker's container: a small init that passes signals on, reaps orphans, ends its command the way the
//! command's queue library wants it, answers health checks, and keeps ECS from stopping the task while a job runs.
//!
//! `life`, `jobs` and `protection` decide, without a clock; `run` is the loop around them; `process`, `port`, `control` and
//! `agent` are what it looks at; `client` is the other end of `control`.

mod agent;
mod cli;
mod client;
mod control;
mod jobs;
mod life;
mod message;
mod options;
mod port;
mod presets;
mod process;
mod protection;
mod run;
mod say;
mod signals;

use std::io::Write as _;
use std::process::ExitCode;

use cli::Asked;
use client::Said;
use say::Voice;

fn main() -> ExitCode {
    let asked = cli::read(std::env::args_os().skip(1), |name| std::env::var_os(name));
    let said = match asked {
        Ok(Asked::Run(options)) => return run::run(&options).into(),
        Ok(Asked::Help) => answer(cli::help().trim_end()),
        Ok(Asked::Version) => answer(concat!("worker ", env!("CARGO_PKG_VERSION"))),
        Ok(Asked::Health(socket)) => client::health(socket),
        Ok(Asked::Busy(socket, lasting)) => client::busy(socket, lasting),
        Ok(Asked::Idle(socket)) => client::idle(socket),
        Ok(Asked::Job(socket, lasting, command)) => client::job(socket, lasting, &command, complain),
        Err(why) => Said { status: run::FAILED, text: format!("error: {why}; see worker --help"), is_answer: false },
    };
    if said.is_answer {
        print(&said.text);
    } else if !said.text.is_empty() {
        complain(&said.text);
    }
    said.status.into()
}

fn complain(text: &str) {
    let mut voice = Voice::default();
    voice.say(text);
    voice.finish();
}

fn answer(text: &str) -> Said {
    Said { status: 0, text: text.to_owned(), is_answer: true }
}

fn print(text: &str) {
    // Whoever has closed it has read enough.
    drop(writeln!(std::io::stdout(), "{text}"));
}
