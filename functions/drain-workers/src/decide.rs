//! When a service's old tasks have gone, or have been waited for long enough: pure, total, clock-free.

use std::time::Duration;

/// How often the old tasks are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// One worker service, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) phase: Phase,
    /// Whether it has been waited for as long as its manifest allows.
    pub(crate) out_of_time: bool,
}

/// Where a worker service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What is there is not known yet.
    Unknown,
    /// Its deployment still holds the old tasks.
    Holding,
    /// ECS lets the old tasks live for the service's bake time, and ends them by itself.
    Baking,
    /// The old tasks have been told to end, and some still run.
    Ending,
    /// None is left, or this release has not deployed it.
    Gone,
    /// It cannot be looked at.
    Lost,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// End the wait of the services at these places, then look again.
    Go(Vec<usize>),
    /// All are gone, or were waited for long enough.
    Done,
}

/// Decides.
pub(crate) fn decide(services: &[Service]) -> Decision {
    let over = |service: &Service| match service.phase {
        Phase::Gone | Phase::Lost => true,
        Phase::Unknown | Phase::Holding | Phase::Baking | Phase::Ending => service.out_of_time,
    };
    let holding: Vec<_> = services
        .iter()
        .enumerate()
        .filter(|(_, service)| service.phase == Phase::Holding && !service.out_of_time)
        .map(|(at, _)| at)
        .collect();
    if services.iter().all(over) { Decision::Done } else { Decision::Go(holding) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_of_old_workers_is_ended_once_and_their_end_waited_for() {
        let service = |phase, out_of_time| Service { phase, out_of_time };
        for (services, expected) in [
            (vec![], Decision::Done),
            (vec![service(Phase::Unknown, false)], Decision::Go(vec![])),
            (vec![service(Phase::Ending, false), service(Phase::Holding, false)], Decision::Go(vec![1])),
            (vec![service(Phase::Ending, false), service(Phase::Gone, false)], Decision::Go(vec![])),
            (vec![service(Phase::Ending, true), service(Phase::Gone, false)], Decision::Done),
            (vec![service(Phase::Gone, false), service(Phase::Lost, false)], Decision::Done),
            (vec![service(Phase::Baking, false), service(Phase::Holding, false)], Decision::Go(vec![1])),
            (vec![service(Phase::Baking, true)], Decision::Done),
            (vec![service(Phase::Unknown, true)], Decision::Done),
        ] {
            assert_eq!(decide(&services), expected, "{services:?}");
        }
    }
}
