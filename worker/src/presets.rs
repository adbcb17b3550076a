//! What the queue libraries end well on, each with where that is written.

/// A queue library.
#[derive(Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// The stop sequence, as in `--stop`.
    pub(crate) stop: &'static str,
    /// Whether the first signal lets the current job end however long it takes: then it may be sent while one runs.
    pub(crate) gentle: bool,
    /// Whether it forks a child for each job and has no children otherwise.
    pub(crate) children: bool,
    /// Where its signals are described.
    pub(crate) source: &'static str,
}

/// The known ones. A time with a minus leaves the library its own time-out, and some seconds more, before ECS kills.
pub(crate) const PRESETS: &[Preset] = &[
    // The first TSTP makes asynq take no more tasks; TERM waits 8 s (ShutdownTimeout) for those that run.
    Preset {
        name: "asynq",
        stop: "TSTP,-12s:TERM",
        gentle: true,
        children: false,
        source: "https://github.com/hibiken/asynq/wiki/Signals",
    },
    // TERM is the warm shutdown: it waits for all tasks that run. A second one would be the cold shutdown. Its pool's children
    // are there all the time.
    Preset {
        name: "celery",
        stop: "TERM",
        gentle: true,
        children: false,
        source: "https://docs.celeryq.dev/en/stable/userguide/workers.html#stopping-the-worker",
    },
    // TERM ends it after the current job, unless raise_signal_exceptions says otherwise.
    Preset {
        name: "delayed_job",
        stop: "TERM",
        gentle: true,
        children: false,
        source: "https://github.com/collectiveidea/delayed_job/blob/master/lib/delayed/worker.rb (raise_signal_exceptions)",
    },
    // The parent hands TERM to its processes, which wait for their tasks up to --worker-shutdown-timeout (10 min).
    Preset {
        name: "dramatiq",
        stop: "TERM",
        gentle: false,
        children: false,
        source: "https://github.com/Bogdanp/dramatiq/blob/master/dramatiq/cli.py",
    },
    // TERM waits for the jobs that run as long as GOOD_JOB_SHUTDOWN_TIMEOUT says: for ever unless given.
    Preset {
        name: "good_job",
        stop: "TERM",
        gentle: true,
        children: false,
        source: "https://github.com/bensheldon/good_job#configuration-options (shutdown_timeout)",
    },
    // INT lets the tasks that run end; TERM interrupts them.
    Preset {
        name: "huey",
        stop: "INT",
        gentle: true,
        children: false,
        source: "https://huey.readthedocs.io/en/latest/consumer.html#consumer-shutdown",
    },
    // `artisan queue:work` sees TERM after the current job; it needs PHP's pcntl.
    Preset {
        name: "laravel",
        stop: "TERM",
        gentle: true,
        children: false,
        source: "https://github.com/laravel/framework/blob/master/src/Illuminate/Queue/Worker.php (listenForSignals)",
    },
    // "Finishing Que's current jobs before exiting".
    Preset {
        name: "que",
        stop: "TERM",
        gentle: true,
        children: false,
        source: "https://github.com/que-rb/que/blob/master/bin/command_line_interface.rb",
    },
    // QUIT ends it after the current job; TERM and INT kill the job's child at once.
    Preset {
        name: "resque",
        stop: "QUIT",
        gentle: true,
        children: true,
        source: "https://github.com/resque/resque#signals",
    },
    // TERM waits until the task that runs is finished; a second one would kill it. Each job has a child, the work horse.
    Preset {
        name: "rq",
        stop: "TERM",
        gentle: true,
        children: true,
        source: "https://python-rq.org/docs/workers/#taking-down-workers",
    },
    // USR1 takes no more messages, and ends when those that run are done; TERM gives them 8 s (timeout).
    Preset {
        name: "shoryuken",
        stop: "USR1,-12s:TERM",
        gentle: true,
        children: false,
        source: "https://github.com/ruby-shoryuken/shoryuken/wiki/Signals",
    },
    // TSTP is quiet: it takes no more jobs; TERM gives those that run 25 s (-t), then puts them back.
    Preset {
        name: "sidekiq",
        stop: "TSTP,-30s:TERM",
        gentle: true,
        children: false,
        source: "https://github.com/sidekiq/sidekiq/wiki/Signals",
    },
    // The supervisor gives its processes SolidQueue.shutdown_timeout (5 s), then QUIT: raise it to what ECS allows.
    Preset {
        name: "solid_queue",
        stop: "TERM",
        gentle: false,
        children: false,
        source: "https://github.com/rails/solid_queue#threads-processes-and-signals",
    },
];

/// The library of that name.
pub(crate) fn named(name: &str) -> Result<&'static Preset, String> {
    PRESETS.iter().find(|preset| preset.name == name.trim()).ok_or_else(|| {
        let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        format!("`{name}` is not known; these are: {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

    use std::time::Duration;

    use super::*;
    use crate::signals::Sequence;

    #[test]
    fn every_preset_is_a_sequence_within_any_stop_timeout() {
        for preset in PRESETS {
            for timeout in [2, 30, 120] {
                let timeout = Duration::from_secs(timeout);
                let sequence = Sequence::read(preset.stop, timeout).unwrap();
                assert!(sequence.steps().iter().all(|(at, _)| *at < timeout), "{}", preset.name);
            }
            assert!(preset.source.starts_with("https://"), "{}", preset.name);
        }
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
    }

    #[test]
    fn an_unknown_one_is_refused_with_those_that_are_known() {
        assert_eq!(named("resque").unwrap().stop, "QUIT");
        let error = named("resk").unwrap_err();
        assert!(error.starts_with("`resk` is not known; these are: asynq, celery, ") && error.contains("sidekiq"));
    }
}
