//! Lives in tables: what happens when, and what follows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use super::*;
use crate::signals::Sequence;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rules(stop: &str) -> Rules {
    let stop_timeout = at(120);
    Rules {
        stop: Sequence::read(stop, stop_timeout).unwrap(),
        gentle: false,
        stop_timeout,
        stays_up: at(10),
        live: None,
    }
}

fn life(rules: Rules) -> Life {
    Life::new(rules, "rake".into())
}

fn sent(actions: &[Action]) -> Vec<&'static str> {
    let signal = |action: &Action| match action {
        Action::Send(signal) => Some(crate::signals::short(*signal)),
        Action::Say(_) => None,
    };
    actions.iter().filter_map(signal).collect()
}

fn said(actions: &[Action]) -> Vec<&str> {
    let text = |action: &'_ Action| match action {
        Action::Say(text) => Some(text.clone()),
        Action::Send(_) => None,
    };
    actions.iter().filter_map(text).map(|text| &*text.leak()).collect()
}

#[test]
fn the_steps_of_a_stop_are_taken_once_each_at_their_times() {
    let mut life = life(rules("TSTP,-30s:TERM,-5s:KILL"));
    let begun = life.asked(Signal::SIGTERM, 2, at(100));
    assert_eq!(sent(&begun), ["TSTP"]);
    assert_eq!(
        said(&begun),
        ["SIGTERM came 1m 40s after the start: sending TSTP to rake, TERM after 1m 30s, KILL after 1m \
         55s; 2 jobs are under way, and ECS waits for 2m"]
    );
    assert_eq!(life.next(2, at(100)), Some(at(190)));
    assert_eq!(sent(&life.look(2, at(189))), [""; 0]);
    assert_eq!(sent(&life.look(1, at(190))), ["TERM"]);
    assert_eq!(sent(&life.look(1, at(190))), [""; 0], "once");
    assert_eq!(life.next(1, at(190)), Some(at(215)));
    // Late, everything that is due comes in its order.
    let late = life.look(0, at(300));
    assert_eq!(sent(&late), ["KILL"]);
    assert_eq!(said(&late).len(), 1, "the warning");
    assert_eq!(life.next(0, at(300)), None);
}

#[test]
fn a_stop_that_comes_again_sends_nothing() {
    let mut life = life(rules("TERM"));
    assert_eq!(sent(&life.asked(Signal::SIGTERM, 0, at(5))), ["TERM"]);
    let again = life.asked(Signal::SIGTERM, 0, at(8));
    assert_eq!(sent(&again), [""; 0]);
    assert_eq!(said(&again), ["SIGTERM came again: rake has been told to end 3s ago"]);
}

#[test]
fn a_warning_comes_once_and_just_before_ecs_kills() {
    let mut life = life(rules("QUIT"));
    life.asked(Signal::SIGTERM, 1, at(50));
    assert_eq!(life.next(1, at(50)), Some(at(169)));
    assert!(life.look(1, at(168)).is_empty());
    let warned = life.look(1, at(169));
    assert!(said(&warned)[0].starts_with("warning: rake still runs and ECS kills it now, 2m after the stop"));
    assert!(life.look(1, at(171)).is_empty());
}

#[test]
fn it_is_up_once_it_has_stayed_up_until_a_stop_begins() {
    let mut life = life(rules("QUIT"));
    assert_eq!(life.health(at(4)), Health::Starting(at(6)));
    assert_eq!(life.next(0, at(4)), Some(at(10)));
    assert_eq!(life.health(at(10)), Health::Up);
    assert_eq!(life.next(0, at(10)), None);
    life.asked(Signal::SIGTERM, 0, at(11));
    assert_eq!(life.health(at(12)), Health::Stopping);
}

#[test]
fn at_its_age_an_idle_one_is_ended_and_a_busy_one_when_its_job_is_done() {
    for gentle in [false, true] {
        let rules = Rules { live: Some(at(300)), gentle, ..rules("QUIT,20s:TERM") };
        let mut idle = life(rules.clone());
        assert_eq!(idle.next(0, at(20)), Some(at(300)));
        assert!(idle.look(0, at(299)).is_empty());
        assert_eq!(sent(&idle.look(0, at(300))), ["QUIT"]);
        assert_eq!(sent(&idle.look(0, at(320))), ["TERM"]);

        let mut busy = life(rules);
        assert_eq!(busy.next(1, at(20)), Some(at(300)));
        // A signal that lets the job end is sent while it runs: no other one is begun.
        let told = if gentle { vec!["QUIT"] } else { vec![] };
        assert_eq!(sent(&busy.look(1, at(300))), told);
        assert_eq!(busy.next(1, at(300)), None, "nothing to do before the job is done");
        assert!(busy.look(1, at(4000)).is_empty());
        assert!(!busy.is_stopping(), "the job is as protected as before");
        assert_eq!(sent(&busy.look(0, at(4001))), if gentle { vec![] } else { vec!["QUIT"] }, "never twice");
        assert!(busy.is_stopping());
        assert_eq!(sent(&busy.look(0, at(4021))), ["TERM"]);
    }
}

#[test]
fn a_good_end_for_its_age_has_status_0_and_a_bad_one_keeps_its_own() {
    let aged = || {
        let mut life = life(Rules { live: Some(at(300)), ..rules("QUIT,20s:TERM,40s:KILL") });
        life.look(0, at(300));
        life
    };
    for (end, expected) in [
        (End::Status(0), 0),
        (End::Signal(3), 0),
        (End::Status(131), 0),
        (End::Status(1), 1),
        // TERM was not sent yet: whoever sent it was not this process.
        (End::Signal(15), 143),
        (End::Signal(9), 137),
    ] {
        assert_eq!(aged().ended(end, at(310)).0, expected, "{end:?}");
    }
    let mut killed = aged();
    killed.look(0, at(340));
    assert_eq!(killed.ended(End::Signal(15), at(341)).0, 0);
    assert_eq!(killed.ended(End::Signal(9), at(341)).0, 137);
}

#[test]
fn a_stop_that_comes_while_it_ends_for_its_age_sends_nothing_twice_and_has_its_own_time() {
    let mut life = life(Rules { live: Some(at(300)), ..rules("QUIT") });
    life.look(0, at(300));
    let asked = life.asked(Signal::SIGTERM, 0, at(310));
    assert_eq!(sent(&asked), [""; 0]);
    assert_eq!(said(&asked), ["SIGTERM came while rake ends for its age: ECS waits for 2m"]);
    assert_eq!(life.next(0, at(310)), Some(at(429)), "the warning");
    assert_eq!(life.ended(End::Signal(3), at(311)).0, 131, "it was asked to end: the status is the command's");
}

#[test]
fn a_stop_after_the_first_signal_was_sent_for_its_age_goes_on_with_the_second() {
    let mut life = life(Rules { live: Some(at(300)), gentle: true, ..rules("TSTP,90s:TERM") });
    assert_eq!(sent(&life.look(1, at(300))), ["TSTP"]);
    assert_eq!(sent(&life.asked(Signal::SIGTERM, 1, at(400))), [""; 0]);
    assert_eq!(sent(&life.look(1, at(490))), ["TERM"]);
}

#[test]
fn the_status_is_the_commands_and_128_and_the_number_for_a_signal() {
    let plain = life(rules("QUIT"));
    for (end, expected, told) in [
        (End::Status(0), 0, None),
        (End::Status(3), 3, Some("rake ended with status 3 by itself, 1m 5s after the start")),
        (
            End::Signal(9),
            137,
            Some(
                "rake was ended by SIGKILL, 1m 5s after the start; nobody here sent it: perhaps there was too little memory",
            ),
        ),
        (End::Signal(11), 139, Some("rake was ended by SIGSEGV, 1m 5s after the start")),
    ] {
        let (status, said) = plain.ended(end, at(65));
        assert_eq!((status, said.as_deref()), (expected, told));
    }
    let mut stopped = life(rules("QUIT"));
    stopped.asked(Signal::SIGTERM, 0, at(10));
    let (status, said) = stopped.ended(End::Status(0), at(52));
    assert_eq!((status, said.unwrap().as_str()), (0, "rake ended with status 0, 42s after the stop"));
}
