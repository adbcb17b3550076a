//! What a container does, in virtual time.

use std::time::Duration;

use local::world::{Happening, Ill, Prober, Start};
use tokio::sync::mpsc::UnboundedReceiver;

/// A container's life.
#[derive(Debug, Clone)]
pub struct Script {
    /// Why it cannot be started, when it cannot.
    pub cannot_start: Option<String>,
    /// How long it takes to start.
    pub starts_after: Duration,
    /// Its lines, each this long after the one before.
    pub lines: Vec<(Duration, String)>,
    /// When it answers on its port.
    pub healthy_after: Option<Duration>,
    /// How long after that it begins to answer with 500, once a second.
    pub ill_after: Option<Duration>,
    /// When it ends by itself after its last line, and how; never unless given.
    pub ends: Option<(Duration, i32)>,
    /// How it answers SIGTERM; not at all unless given.
    pub on_term: Option<(Duration, i32)>,
    /// Whether not even SIGKILL reaches it: its instance's agent is gone.
    pub unreachable: bool,
}

/// How long a container takes to start where nothing else is said.
const STARTS_AFTER: Duration = Duration::from_millis(500);

impl Script {
    /// A task that writes a line a second and ends well after as many.
    #[must_use]
    pub fn task(lines: usize) -> Self {
        let line = |n| (Duration::from_secs(1), format!("line {n}"));
        Self {
            cannot_start: None,
            starts_after: STARTS_AFTER,
            lines: (1..=lines).map(line).collect(),
            healthy_after: None,
            ill_after: None,
            ends: Some((Duration::from_millis(100), 0)),
            on_term: Some((Duration::from_millis(300), 143)),
            unreachable: false,
        }
    }

    /// A service's task: healthy soon, ends when it is asked to.
    #[must_use]
    pub fn service() -> Self {
        Self {
            cannot_start: None,
            starts_after: STARTS_AFTER,
            lines: vec![(Duration::from_millis(100), "listening".into())],
            healthy_after: Some(Duration::from_secs(2)),
            ill_after: None,
            ends: None,
            on_term: Some((Duration::from_secs(4), 0)),
            unreachable: false,
        }
    }

    /// The same, with another end.
    #[must_use]
    pub fn ending(self, code: i32) -> Self {
        Self { ends: Some((Duration::from_millis(100), code)), ..self }
    }

    /// What the shop's containers do when all goes well.
    #[must_use]
    pub fn of_shop(start: &Start) -> Self {
        if start.port.is_some() { Self::service() } else { Self::task(3) }
    }

    /// Plays it; `signals` says `true` for SIGKILL.
    pub(crate) async fn play(self, start: &Start, mut signals: UnboundedReceiver<bool>, tell: impl Fn(Happening)) {
        let (task, container) = (start.task.clone(), start.container.clone());
        if let Some(reason) = self.cannot_start {
            return tell(Happening::CannotStart { task, container, reason });
        }
        tokio::time::sleep(self.starts_after).await;
        tell(Happening::Started { task: task.clone(), container: container.clone(), port: start.port });
        let life = async {
            let mut healthy = self.healthy_after;
            for (pause, text) in &self.lines {
                tokio::time::sleep(*pause).await;
                tell(Happening::Line { task: task.clone(), container: container.clone(), text: text.clone() });
            }
            if let Some(after) = healthy.take() {
                tokio::time::sleep(after).await;
                tell(Happening::Checked { task: task.clone(), by: Prober::TargetGroup, answer: Ok(()) });
            }
            if let Some(after) = self.ill_after {
                tokio::time::sleep(after).await;
                loop {
                    let ill = Ill { what: "GET / answered 500".into(), code: Some(500), said: "no such table".into() };
                    tell(Happening::Checked { task: task.clone(), by: Prober::TargetGroup, answer: Err(ill) });
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            match self.ends {
                Some((after, code)) => {
                    tokio::time::sleep(after).await;
                    code
                }
                None => std::future::pending().await,
            }
        };
        let stopped = async {
            loop {
                let signal = signals.recv().await;
                if self.unreachable && signal.is_some() {
                    continue;
                }
                match (signal, self.on_term) {
                    (Some(true), _) => return 137,
                    (Some(false), Some((after, code))) => {
                        tokio::select! { biased;
                            () = tokio::time::sleep(after) => return code,
                            kill = signals.recv() => if kill == Some(true) { return 137 },
                        }
                    }
                    (Some(false), None) => {}
                    (None, _) => std::future::pending().await,
                }
            }
        };
        let code = tokio::select! { biased;
            code = life => code,
            code = stopped => code,
        };
        tell(Happening::Exited { task, container, code });
    }
}
