//! A person stops a release while AWS shows late what it does.

use std::time::Duration;

use fastrand::Rng;
use local::world::{ExecutionStatus, Lateness};
use shared::Time;

use crate::{BEGIN, Call, Meddling, Stage};

/// When such a release begins: at a time of its own, so that what goes wrong can be planned by the clock.
const BEGUN: Time = Time::from_millis(BEGIN.millis() + 60_000);

/// How long functions are dead that die with a stop: longer than Lambda waits before it tries an event again.
const DEAD: Duration = Duration::from_secs(30);

/// Everything is shown late, each by up to `most` of its own.
pub fn all_late(random: &mut Rng, most: Duration) -> Lateness {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    let mut late = || Duration::from_millis(random.u64(0..most));
    Lateness {
        listed: late(),
        rollback: late(),
        statuses: late(),
        tasks: late(),
        executions: late(),
        described: late(),
        task_lists: late(),
        task_statuses: late(),
        ..Lateness::default()
    }
}

/// The time that is `moment` after the begin of the release that [`Stage::stopped_after`] begins.
#[must_use]
pub fn at(moment: Duration) -> Time {
    BEGUN.plus(moment)
}

/// From that moment on, functions are dead for a while, all but `halt-release`.
pub fn dead_after(moment: Duration) -> impl FnMut(&Call<'_>) -> Meddling + Send {
    move |call| {
        let dead = call.at >= at(moment) && call.at.since(at(moment)) < DEAD;
        if dead && call.function != "halt-release" { Meddling::CrashBefore } else { Meddling::Pass }
    }
}

impl Stage {
    /// Begins a release that a person stops and abandons `moment` later. What became of it, once everything late has happened.
    pub async fn stopped_after(&self, moment: Duration) -> (String, ExecutionStatus) {
        tokio::time::sleep(BEGUN.since(self.now())).await;
        let release = self.start();
        let stopper = async {
            tokio::time::sleep(moment).await;
            self.stop(&release);
        };
        let (status, ()) = tokio::join!(self.end_alone(&release), stopper);
        tokio::time::sleep(Duration::from_secs(400)).await;
        let status = if status == ExecutionStatus::Succeeded { status } else { self.end_alone(&release).await };
        (release, status)
    }
}
