//! The command and the processes around it: starting, signalling, reaping, counting.
//!
//! Invariants: from [`Signals::take`] on, no signal is lost and none ends this process; the command starts with the signal mask
//! that this process was started with and with no signal ignored on our account.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getpid, setpgid};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// Signals that say that this very process is broken: never blocked, as in tini.
const OWN: [Signal; 7] =
    [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGSYS, Signal::SIGTRAP];

/// What the kernel says of a signal that it sent itself, such as the terminal's Ctrl-C.
const SI_KERNEL: i32 = 0x80;

/// Who gets signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// The command alone.
    Child,
    /// Its whole process group.
    Group,
}

/// The signals that come to this process.
#[derive(Debug)]
pub(crate) struct Signals {
    arriving: SignalFd,
    before: SigSet,
    forward: Forward,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// For the command.
    For(Signal),
    /// From the terminal, which has sent it to the whole foreground group: the command has it already.
    FromTerminal(Signal),
    /// One without a name.
    Nameless(u32),
}

impl Signals {
    /// From now on, signals wait to be read.
    pub(crate) fn take(forward: Forward) -> nix::Result<Self> {
        let mut taken = SigSet::all();
        for signal in OWN {
            taken.remove(signal);
        }
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&taken), Some(&mut before))?;
        // An ignored SIGCHLD, which is inherited, would have the kernel reap the command, status and all.
        drop(signal_hook::flag::register(Signal::SIGCHLD as i32, Arc::new(AtomicBool::new(false))));
        let arriving = SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { arriving, before, forward })
    }

    /// The next one that has come. SIGCHLD is none: children are looked at on every turn.
    pub(crate) fn next(&self) -> Option<Came> {
        loop {
            let info = self.arriving.read_signal().ok().flatten()?;
            let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
            else {
                return Some(Came::Nameless(info.ssi_signo));
            };
            // What is sent to the whole group comes back to this process.
            let is_own = self.forward == Forward::Group
                && i32::try_from(info.ssi_pid).is_ok_and(|sender| sender == getpid().as_raw())
                && info.ssi_code <= 0;
            match signal {
                Signal::SIGCHLD => {}
                _ if is_own => {}
                _ if info.ssi_code == SI_KERNEL => return Some(Came::FromTerminal(signal)),
                _ => return Some(Came::For(signal)),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arriving.as_fd()
    }
}

/// Makes this process the parent of every orphan below it, and the leader of its group where that is signalled.
pub(crate) fn prepare(forward: Forward) {
    // PID 1 is it anyway. Without the right to, orphans are somebody else's, and nothing else changes.
    let _ = set_child_subreaper(true);
    if forward == Forward::Group && getpgrp() != getpid() {
        // Or it would signal whoever started it.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    }
}

/// Starts the command, with these variables besides its own environment.
pub(crate) fn start(command: &[OsString], variables: &[(&str, OsString)], signals: &Signals) -> nix::Result<Pid> {
    let arguments = command.iter().map(|part| c_string(part.as_bytes().to_vec())).collect::<nix::Result<Vec<_>>>()?;
    let program = arguments.first().ok_or(Errno::ENOENT)?;
    let is_given = |name: &OsString| variables.iter().any(|(given, _)| name == given);
    let inherited = std::env::vars_os().filter(|(name, _)| !is_given(name));
    let given = variables.iter().map(|(name, value)| (OsString::from(name), value.clone()));
    let environment = inherited
        .chain(given)
        .map(|(name, value)| c_string([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()))
        .collect::<nix::Result<Vec<_>>>()?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&signals.before)?;
    // Rust's own start ignores it.
    let mut default = SigSet::empty();
    default.add(Signal::SIGPIPE);
    attributes.set_sigdefault(&default)?;
    posix_spawnp(program, &PosixSpawnFileActions::init()?, &attributes, &arguments, &environment)
}

fn c_string(bytes: Vec<u8>) -> nix::Result<CString> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// Reaps whatever has ended: how the command did, when it is among them.
pub(crate) fn reap(command: Pid) -> Option<End> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => ended = Some(End::Status(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => ended = Some(End::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            // Something ended by a signal without a name; if it was the command, it is not there any more.
            Err(Errno::EINVAL) => {
                if ended.is_none() && kill(command, None) == Err(Errno::ESRCH) {
                    ended = Some(End::Signal(NAMELESS));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Stands for all signals without names: the first real-time one.
const NAMELESS: i32 = 34;

/// Sends a signal to the command, or to its group. One that is gone needs none.
pub(crate) fn send(command: Pid, signal: Signal, forward: Forward) {
    // Killing its own group would end this process before it can say how it ended; PID 1 is spared by the kernel.
    let own_end = signal == Signal::SIGKILL && getpid().as_raw() != 1;
    let _ = match forward {
        Forward::Group if !own_end => killpg(getpgrp(), signal),
        Forward::Group | Forward::Child => kill(command, signal),
    };
}

/// Stops this process as the terminal stopped the command; PID 1 cannot be.
pub(crate) fn pause() {
    let _ = kill(getpid(), Signal::SIGSTOP);
}

/// How many children the command has that have not ended.
pub(crate) fn children(command: Pid) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let is_child = |stat: &str| {
        // The name in parentheses may hold anything; state and parent stand behind it.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let is_alive = fields.next().is_some_and(|state| state != "Z" && state != "X");
        is_alive && fields.next().and_then(|parent| parent.parse().ok()) == Some(command.as_raw())
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter(|entry| std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| is_child(&stat)))
        .count()
}
