//! How a task that is over ended (fact 21).
//!
//! Invariant: a task has succeeded only if its essential containers ended by themselves, all with exit code 0, or its main one did, whose
//! end is a signal for all others; whatever is not known to be a success is none.

use crate::aws::ecs::{Container, Definition, Task};

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its essential containers ended by themselves, all with exit code 0.
    Succeeded,
    /// Somebody asked for its end.
    Stopped,
    /// Anything else.
    Failed {
        /// The container that explains it.
        container: Option<String>,
        /// What happened.
        what: String,
    },
}

/// The rule of fact 21, and nothing less.
#[must_use]
pub fn judge(task: &Task, definition: &Definition) -> End {
    judge_main(task, definition, None)
}

/// The same of a task whose main container is known: when that one has ended with 0, ECS asks those beside it to end, and what they end with
/// after the signal is no failure. When several have failed, it explains the rest.
#[must_use]
pub fn judge_main(task: &Task, definition: &Definition, main: Option<&str>) -> End {
    let stop_code = task.stop_code.as_deref().unwrap_or("without a stop code");
    let is_main = |container: &&Container| main == Some(container.name.as_str());
    // What the manifest names does the work, also where another one is what keeps the task up.
    let essential =
        || task.containers.iter().filter(|container| definition.is_essential(&container.name) || is_main(container));
    let reason = task.stopped_reason.as_deref().unwrap_or("ECS gives no reason");
    // What its containers ended with after that is the signal's doing.
    if stop_code == "ServiceSchedulerInitiated" && reason.contains("health checks") {
        let by = if reason.contains("ELB") { "its target group's" } else { "its container's" };
        let container = essential().next().map(|container| container.name.clone());
        return End::Failed { container, what: format!("ECS stopped it since it failed {by} health checks") };
    }
    // One that ECS gives a reason for, such as OutOfMemoryError, was ended by that, and may have ended all others.
    let by_signal =
        |container: &&Container| matches!(container.exit_code, Some(137 | 143)) && container.reason.is_none();
    let has_done_its_work = stop_code == "EssentialContainerExited"
        && essential().any(|container| is_main(&container) && container.exit_code == Some(0));
    let bad = || {
        let bad = essential().filter(|container| container.exit_code.is_some_and(|code| code != 0));
        bad.filter(|container| !(has_done_its_work && by_signal(container)))
    };
    // What a signal has ended was asked to end since another one had ended, whichever does the work. Should that one have ended with 0, or
    // without an exit code, it is no better known.
    let first = bad().find(|container| is_main(container) && !by_signal(container));
    let first = first.or_else(|| bad().find(|container| !by_signal(container)));
    let unknown = || stop_code == "EssentialContainerExited" && essential().any(|one| one.exit_code.is_none());
    let by_a_signal = || bad().find(is_main).or_else(|| bad().next()).filter(|_| !unknown());
    let first = first.or_else(by_a_signal);
    if let Some(bad) = first {
        // A task that we stopped ends with 143 or 137 as a rule; that is no failure of its own.
        if stop_code == "UserInitiated" {
            return End::Stopped;
        }
        let code = bad.exit_code.unwrap_or_default();
        // A signal that ends it from outside is no cause; what sent it is.
        if !matches!(stop_code, "EssentialContainerExited" | "without a stop code") && matches!(code, 137 | 143) {
            let what = format!("the task was ended: {reason} ({stop_code})");
            return End::Failed { container: Some(bad.name.clone()), what };
        }
        // A program answers SIGTERM as it likes.
        if !matches!(stop_code, "EssentialContainerExited" | "without a stop code") && bad.reason.is_none() {
            let what = format!(
                "the task was ended: {reason} ({stop_code}); container `{}` then ended with exit code {code}",
                bad.name
            );
            return End::Failed { container: Some(bad.name.clone()), what };
        }
        let because = bad.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let what = format!("container `{}` ended with exit code {code}{}{because}", bad.name, meaning(code));
        return End::Failed { container: Some(bad.name.clone()), what };
    }
    if stop_code == "UserInitiated" {
        return End::Stopped;
    }
    if let Some(bad) = essential().find(|container| container.exit_code.is_none()) {
        let because = bad.reason.as_deref().unwrap_or(reason);
        let what = format!("container `{}` has no exit code: {because} ({stop_code})", bad.name);
        return End::Failed { container: Some(bad.name.clone()), what };
    }
    if stop_code != "EssentialContainerExited" || essential().next().is_none() {
        return End::Failed { container: None, what: format!("the task was ended: {reason} ({stop_code})") };
    }
    End::Succeeded
}

/// What an exit code means beyond the program's own wishes.
fn meaning(code: i32) -> &'static str {
    match code {
        126 => ", its command cannot be run",
        127 => ", its command was not found",
        137 => ", killed by SIGKILL (out of memory, or it did not end in time)",
        139 => ", a segmentation fault",
        143 => ", ended by SIGTERM",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::ecs::ContainerDefinition;

    fn task(stop_code: &str, containers: &[(&str, Option<i32>, Option<&str>)]) -> Task {
        Task {
            last_status: "STOPPED".into(),
            stop_code: Some(stop_code.into()).filter(|code: &String| !code.is_empty()),
            stopped_reason: Some("the reason".into()),
            containers: containers
                .iter()
                .map(|(name, exit_code, reason)| Container {
                    name: (*name).into(),
                    exit_code: *exit_code,
                    reason: reason.map(str::to_owned),
                })
                .collect(),
            ..Task::default()
        }
    }

    fn definition() -> Definition {
        let container =
            |name: &str, essential| ContainerDefinition { name: name.into(), essential, ..Default::default() };
        Definition {
            arn: "arn".into(),
            containers: vec![container("app", true), container("side", false)],
            roles: Vec::new(),
        }
    }

    #[test]
    fn a_task_that_stayed_ill_says_so_and_not_which_signal_ended_it() {
        for (reason, said) in [
            (
                "Task failed ELB health checks in (target-group arn:x)",
                "ECS stopped it since it failed its target group's health checks",
            ),
            ("Task failed container health checks", "ECS stopped it since it failed its container's health checks"),
        ] {
            let ill = Task {
                stopped_reason: Some(reason.into()),
                ..task("ServiceSchedulerInitiated", &[("app", Some(143), None)])
            };
            let expected = End::Failed { container: Some("app".into()), what: said.into() };
            assert_eq!(judge(&ill, &definition()), expected);
        }
    }

    #[test]
    fn what_aws_has_put_beside_a_task_does_not_count_also_where_its_definition_is_not_known() {
        let exited = |containers: &[(&str, Option<i32>, Option<&str>)]| {
            judge(&task("EssentialContainerExited", containers), &Definition::default())
        };
        let agent = ("aws-guardduty-agent-x", None, Some("CannotPullContainerError"));
        assert_eq!(exited(&[agent, ("app", Some(0), None)]), End::Succeeded);
        assert!(matches!(exited(&[agent, ("app", Some(0), None), ("side", Some(2), None)]), End::Failed { .. }));
        assert!(matches!(exited(&[agent]), End::Failed { .. }), "of which nothing is known");
    }

    #[test]
    fn what_a_container_beside_the_main_one_ends_with_after_the_signal_is_no_failure() {
        let container = |name: &str| ContainerDefinition { name: name.into(), essential: true, ..Default::default() };
        let both = Definition { containers: vec![container("side"), container("app")], ..definition() };
        let exited = |containers: &[(&str, Option<i32>, Option<&str>)]| task("EssentialContainerExited", containers);
        for (side, app, expected) in [
            (Some(143), Some(0), None),
            (Some(137), Some(0), None),
            (Some(1), Some(0), Some("container `side` ended with exit code 1")),
            (None, Some(0), Some("container `side` has no exit code: the reason (EssentialContainerExited)")),
            (
                Some(0),
                Some(137),
                Some(
                    "container `app` ended with exit code 137, killed by SIGKILL (out of memory, or it did not end in time)",
                ),
            ),
            (Some(137), Some(1), Some("container `app` ended with exit code 1")),
            (Some(1), Some(143), Some("container `side` ended with exit code 1")),
            (Some(1), Some(3), Some("container `app` ended with exit code 3")),
            (None, Some(143), Some("container `side` has no exit code: the reason (EssentialContainerExited)")),
        ] {
            let said = match judge_main(&exited(&[("side", side, None), ("app", app, None)]), &both, Some("app")) {
                End::Succeeded => None,
                End::Stopped => Some("stopped".to_owned()),
                End::Failed { what, .. } => Some(what),
            };
            assert_eq!(said.as_deref(), expected, "side {side:?}, app {app:?}");
        }
        let oom = exited(&[("side", Some(137), Some("OutOfMemoryError: killed")), ("app", Some(0), None)]);
        let End::Failed { what, .. } = judge_main(&oom, &both, Some("app")) else {
            panic!("it was ended by the other one's death")
        };
        assert!(what.starts_with("container `side` ended with exit code 137"), "{what}");
        // Of which nothing more is known, both must have ended well.
        assert!(matches!(
            judge(&exited(&[("side", Some(143), None), ("app", Some(0), None)]), &both),
            End::Failed { .. }
        ));
        // What the manifest names does the work, also where another one keeps the task up.
        let migrated = |code| exited(&[("app", Some(code), None), ("last", Some(0), None)]);
        let apart = Definition {
            containers: vec![ContainerDefinition { essential: false, ..container("app") }, container("last")],
            ..definition()
        };
        assert_eq!(judge_main(&migrated(0), &apart, Some("app")), End::Succeeded);
        assert!(matches!(judge_main(&migrated(1), &apart, Some("app")), End::Failed { .. }));
        assert_eq!(judge_main(&migrated(1), &apart, None), End::Succeeded);
        // And one that was ended from outside has not done its work.
        let taken = task("SpotInterruption", &[("side", Some(143), None), ("app", Some(0), None)]);
        assert!(matches!(judge_main(&taken, &both, Some("app")), End::Failed { .. }));
    }

    #[test]
    fn a_task_succeeds_only_if_its_essential_containers_ended_with_zero() {
        const EXITED: &str = "EssentialContainerExited";
        for (stop_code, containers, expected) in [
            (EXITED, &[("app", Some(0), None)][..], "succeeded"),
            (EXITED, &[("app", Some(0), None), ("side", Some(137), None)], "succeeded"),
            (EXITED, &[("app", Some(1), None)], "container `app` ended with exit code 1"),
            (
                EXITED,
                &[("app", Some(127), None)],
                "container `app` ended with exit code 127, its command was not found",
            ),
            // What AWS has put beside them is not of the definition.
            (EXITED, &[("app", Some(0), None), ("aws-guardduty-agent-x", Some(2), None)], "succeeded"),
            (
                EXITED,
                &[("aws-guardduty-agent-x", None, Some("CannotPullContainerError")), ("app", Some(0), None)],
                "succeeded",
            ),
            (
                EXITED,
                &[("aws-guardduty-agent-x", None, Some("CannotPullContainerError")), ("app", Some(3), None)],
                "container `app` ended with exit code 3",
            ),
            (
                EXITED,
                &[("app", None, Some("OutOfMemoryError"))],
                "container `app` has no exit code: OutOfMemoryError (EssentialContainerExited)",
            ),
            (
                EXITED,
                &[("app", Some(137), Some("OutOfMemoryError: killed"))],
                "container `app` ended with exit code 137, killed by SIGKILL (out of memory, or it did not end in time) (OutOfMemoryError: killed)",
            ),
            (EXITED, &[], "the task was ended: the reason (EssentialContainerExited)"),
            (
                "TaskFailedToStart",
                &[("app", None, Some("CannotPullContainerError: not found"))],
                "container `app` has no exit code: CannotPullContainerError: not found (TaskFailedToStart)",
            ),
            ("TaskFailedToStart", &[], "the task was ended: the reason (TaskFailedToStart)"),
            ("SpotInterruption", &[("app", Some(0), None)], "the task was ended: the reason (SpotInterruption)"),
            ("SpotInterruption", &[("app", Some(143), None)], "the task was ended: the reason (SpotInterruption)"),
            (
                "SpotInterruption",
                &[("app", Some(1), None)],
                "the task was ended: the reason (SpotInterruption); container `app` then ended with exit code 1",
            ),
            (
                "ServiceSchedulerInitiated",
                &[("app", Some(143), None)],
                "the task was ended: the reason (ServiceSchedulerInitiated)",
            ),
            ("SomethingNew", &[("app", Some(0), None)], "the task was ended: the reason (SomethingNew)"),
            ("", &[("app", Some(0), None)], "the task was ended: the reason (without a stop code)"),
            ("UserInitiated", &[("app", Some(143), None)], "stopped"),
            ("UserInitiated", &[("app", Some(0), None)], "stopped"),
            ("UserInitiated", &[("app", None, None)], "stopped"),
        ] {
            let said = match judge(&task(stop_code, containers), &definition()) {
                End::Succeeded => "succeeded".into(),
                End::Stopped => "stopped".into(),
                End::Failed { what, .. } => what,
            };
            assert_eq!(said, expected);
        }
    }
}
