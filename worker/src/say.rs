//! Standard error, without ever waiting for it.
//!
//! Invariant: a log that nobody reads holds up no signal. Lines wait here until there is room, and are counted when there
//! is none for too many. The stream itself is left as it is: the command shares it.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How many lines wait.
const MOST: usize = 64;
/// How much is written at once: a pipe takes so much in one piece when it has room (PIPE_BUF).
const PIECE: usize = 4096;
/// How long the last lines are waited for.
const LAST: Duration = Duration::from_millis(200);

/// What is still to be said.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    waiting: VecDeque<String>,
    lost: usize,
}

impl Voice {
    /// Says a line.
    pub(crate) fn say(&mut self, text: &str) {
        if self.waiting.len() >= MOST {
            self.lost += 1;
            return;
        }
        if self.lost > 0 {
            self.waiting.push_back(format!("worker: {} more lines could not be written\n", self.lost));
            self.lost = 0;
        }
        let mut line = format!("worker: {}", text.replace('\n', " "));
        while line.len() >= PIECE {
            line.pop();
        }
        line.push('\n');
        self.waiting.push_back(line);
        self.write(Duration::ZERO);
    }

    /// Whether something waits for room.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what there is room for.
    pub(crate) fn write(&mut self, patience: Duration) {
        let stderr = std::io::stderr();
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        while let Some(line) = self.waiting.front() {
            let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
            let ready = poll(&mut room, patience);
            let broken = PollFlags::POLLERR | PollFlags::POLLNVAL;
            if room[0].revents().is_some_and(|events| events.intersects(broken)) {
                // Nobody will ever read it.
                self.waiting.clear();
                return;
            }
            // std's handle is not buffered: one line is one call.
            if !matches!(ready, Ok(1)) || stderr.lock().write_all(line.as_bytes()).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// The last chance.
    pub(crate) fn finish(&mut self) {
        self.write(LAST);
    }
}
