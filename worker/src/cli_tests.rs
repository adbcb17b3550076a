//! Command lines, and what they mean.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use super::*;
use crate::options::NAMES;
use crate::process::Forward;

fn read_with(arguments: &str, environment: &[(&str, &str)]) -> Result<Asked, String> {
    let environment: BTreeMap<_, _> = environment.iter().copied().collect();
    read(arguments.split_whitespace().map(OsString::from), |name| environment.get(name).map(OsString::from))
}

fn options(arguments: &str, environment: &[(&str, &str)]) -> Options {
    match read_with(arguments, environment) {
        Ok(Asked::Run(options)) => *options,
        other => panic!("{arguments}: {other:?}"),
    }
}

fn steps(options: &Options) -> Vec<(u64, Signal)> {
    options.rules.stop.steps().iter().map(|(at, signal)| (at.as_secs(), *signal)).collect()
}

#[test]
fn without_options_the_command_is_run_and_gets_sigterm() {
    let options = options("-- rake work --live 5m", &[]);
    assert_eq!(options.command, ["rake", "work", "--live", "5m"]);
    assert_eq!(steps(&options), [(0, Signal::SIGTERM)]);
    assert_eq!((options.rules.stop_timeout.as_secs(), options.rules.stays_up.as_secs()), (30, 10));
    assert_eq!((options.rules.live, options.health_port, options.socket), (None, None, None));
    assert_eq!((options.forward, options.children, options.stop_signal), (Forward::Child, false, Signal::SIGTERM));
}

#[test]
fn every_option_is_a_variable_too_and_the_command_line_comes_first() {
    let environment = [
        ("WORKER_STOP", "TSTP,20s:TERM"),
        ("WORKER_STOP_TIMEOUT", "1m"),
        ("WORKER_STOP_SIGNAL", "QUIT"),
        ("WORKER_STAYS_UP", "2s"),
        ("WORKER_LIVE", "5m"),
        ("WORKER_HEALTH_PORT", "8080"),
        ("WORKER_BUSY", "children"),
        ("WORKER_FORWARD", "group"),
        ("WORKER_SOCKET", "/run/a.sock"),
        ("WORKER_QUEUE", ""),
    ];
    let all = options("-- rake", &environment);
    assert_eq!(steps(&all), [(0, Signal::SIGTSTP), (20, Signal::SIGTERM)]);
    assert_eq!((all.rules.stop_timeout.as_secs(), all.rules.stays_up.as_secs()), (60, 2));
    assert_eq!((all.rules.live.unwrap().as_secs(), all.health_port.as_deref()), (300, Some("8080")));
    assert_eq!((all.forward, all.children, all.stop_signal), (Forward::Group, true, Signal::SIGQUIT));
    assert_eq!(all.socket, Some("/run/a.sock".into()));
    let over = options("--stop=INT --busy none --live 1h -- rake", &environment);
    assert_eq!(
        (steps(&over), over.children, over.rules.live.unwrap().as_secs()),
        (vec![(0, Signal::SIGINT)], false, 3600)
    );
}

#[test]
fn a_preset_gives_what_is_not_given_itself() {
    let resque = options("--queue resque -- rake", &[]);
    assert_eq!((steps(&resque), resque.children, resque.rules.gentle), (vec![(0, Signal::SIGQUIT)], true, true));
    let sidekiq = options("--queue sidekiq --stop-timeout 2m -- sidekiq", &[]);
    assert_eq!(steps(&sidekiq), [(0, Signal::SIGTSTP), (90, Signal::SIGTERM)]);
    let own = options("--stop QUIT,20s:TERM --busy none -- rake", &[("WORKER_QUEUE", "resque")]);
    assert_eq!((own.children, own.rules.gentle), (false, false), "of an own sequence nothing is known");
}

#[test]
fn a_mistake_names_the_option_as_it_was_given() {
    for (arguments, environment, said) in [
        ("", [].as_slice(), "nothing to run: put `--`"),
        ("--", &[], "nothing to run: put `--`"),
        ("rake", &[], "`rake` is not health, busy, idle or job: if it is the command to run, put `--` before it"),
        ("busy now", &[], "`now` is not health"),
        ("job", &[], "job: put `--`"),
        ("health -- x", &[], "health runs no command"),
        ("--stpo QUIT -- x", &[], "there is no option --stpo"),
        ("--stpo", &[], "there is no option --stpo"),
        ("-q -- x", &[], "invalid option '-q'"),
        ("--live", &[], "missing argument for option '--live'"),
        ("--stop STOPP -- x", &[], "--stop: `STOPP` is no signal"),
        ("-- x", &[("WORKER_STOP", "STOPP")], "WORKER_STOP: `STOPP` is no signal"),
        (
            "--stop TSTP,150s:TERM -- x",
            &[],
            "--stop: TERM after 2m 30s would come too late: ECS kills after --stop-timeout (30s, which",
        ),
        (
            "--stop TSTP,150s:TERM --stop-timeout 2m -- x",
            &[],
            "TERM after 2m 30s would come too late: ECS kills after --stop-timeout (2m)",
        ),
        ("--queue kafka -- x", &[], "--queue: `kafka` is not known; these are: asynq"),
        ("--stop-timeout 30 -- x", &[], "--stop-timeout: `30` is no duration, such as 90s"),
        ("--live 0s -- x", &[], "--live: it must be longer than nothing"),
        ("--busy yes -- x", &[], "--busy: `yes` is neither children nor none"),
        ("--forward all -- x", &[], "--forward: `all` is neither child nor group"),
        ("--stop-signal KILL -- x", &[], "--stop-signal: no process can wait for KILL"),
        ("busy", &[("WORKER_FOR", "long")], "WORKER_FOR: `long` is no duration"),
    ] {
        let error = read_with(arguments, environment).map(|asked| format!("{asked:?}")).unwrap_err();
        assert!(error.starts_with(said) || error.contains(said), "{arguments}: {error}");
    }
}

#[test]
fn the_verbs_are_read() {
    assert!(matches!(read_with("--help", &[]), Ok(Asked::Help)));
    assert!(matches!(read_with("-V", &[]), Ok(Asked::Version)));
    assert!(matches!(read_with("health --socket /a", &[]), Ok(Asked::Health(Some(path))) if path.ends_with("a")));
    let hours = Duration::from_secs(7200);
    assert!(matches!(read_with("busy --for 2h", &[]), Ok(Asked::Busy(None, Some(lasting))) if lasting == hours));
    assert!(matches!(read_with("idle", &[("WORKER_SOCKET", "/a")]), Ok(Asked::Idle(Some(_)))));
    let Ok(Asked::Job(None, None, command)) = read_with("job -- import --all", &[]) else { panic!("no job") };
    assert_eq!(command, ["import", "--all"]);
}

#[test]
fn help_and_docs_have_every_option_and_every_preset() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/worker.md")).unwrap();
    let help = help();
    assert!(help.lines().all(|line| line.chars().count() <= 150), "it fits on a screen");
    for name in NAMES {
        assert!(help.contains(&format!("--{name} ")), "--help lacks --{name}");
        assert!(docs.contains(&format!("`--{name} ")), "docs/worker.md lacks --{name}");
        let variable = format!("`WORKER_{}`", name.to_ascii_uppercase().replace('-', "_"));
        assert!(docs.contains(&variable), "docs/worker.md lacks {variable}");
    }
    for preset in crate::presets::PRESETS {
        assert!(help.contains(preset.name), "--help lacks {}", preset.name);
        let row = format!("| `{}` | `{}` |", preset.name, preset.stop);
        assert!(docs.contains(&row), "docs/worker.md lacks {row}");
        let source = preset.source.split(' ').next().unwrap_or_default();
        assert!(docs.contains(source), "docs/worker.md lacks {source}");
    }
}
