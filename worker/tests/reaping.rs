//! Orphans.

use crate::stage::{Setting, wait_for, ways};

#[test]
fn orphans_are_reaped_while_the_command_goes_on() {
    for way in ways() {
        // A process whose parent is gone, and one that is its child.
        let script = "(sh -c 'sleep 0.1 & exec sleep 0.2' &); exec 3<> /dev/udp/127.0.0.1/9; echo ready; read -u 3";
        let stage = Setting::bash(*way, &[], script, &[]).start();
        stage.until("ready");
        // Both come to the worker, and both go.
        wait_for("the end of all orphans", || {
            let (ended, running) = stage.children();
            (ended.is_empty() && running.len() == 1).then_some(())
        });
        stage.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(stage.end().0, 143, "{way:?}");
    }
}

#[test]
fn a_thousand_children_leave_nothing_behind() {
    for way in ways() {
        let script = "for n in {1..1000}; do (: &); done; exec 3<> /dev/udp/127.0.0.1/9; echo ready; read -u 3";
        let stage = Setting::bash(*way, &[], script, &[]).start();
        stage.until("ready");
        wait_for("the end of a thousand orphans", || {
            let (ended, running) = stage.children();
            (ended.is_empty() && running.len() == 1).then_some(())
        });
        stage.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(stage.end().0, 143, "{way:?}");
    }
}

#[test]
fn the_commands_status_is_not_taken_from_an_orphan() {
    for way in ways() {
        // Orphans end with other statuses at the same time as the command.
        let script = "for n in {1..50}; do (sh -c 'exit 9' &); done; exit 4";
        for _ in 0..10 {
            let (status, output) = Setting::bash(*way, &[], script, &[]).start().end();
            assert_eq!(status, 4, "{way:?}: {output}");
        }
    }
}

#[test]
fn it_ends_with_the_command_although_an_orphan_goes_on() {
    for way in ways() {
        let (status, output) = Setting::bash(*way, &[], "(sleep 1000 > /dev/null 2>&1 &); exit 6", &[]).start().end();
        assert_eq!(status, 6, "{way:?}: {output}");
    }
}
