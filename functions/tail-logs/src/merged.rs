//! The release's own stream.

use shared::aws::logs::{Line, Logs};
use shared::{Error, Tick, Time, Trouble, Verdict, names};

use crate::lines::{State, Unremembered, batches, merge};

/// The release's own stream, as one invocation knows it.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Where it is; none before it was created.
    logs: Option<Logs>,
    /// What it has that the state does not know of; not known at the start of an invocation, and after a call that
    /// failed.
    unremembered: Option<Unremembered>,
    /// What this invocation has put since the moment from which on more may be there than the state knows of.
    remembered: Vec<Line>,
    pub(crate) trouble: Trouble,
}

impl Merged {
    pub(crate) fn new() -> Self {
        Self { logs: None, unremembered: None, remembered: Vec::new(), trouble: Trouble::default() }
    }

    async fn stream<'a>(&mut self, tick: &'a Tick<'_>) -> Result<(Logs, &'a str, String), Error> {
        let Some(group) = &tick.aws.settings().log_group else {
            let why = "The function has no CUTOVER_LOG_GROUP: set it to the log group of the releases.";
            return Err(Verdict::misconfigured(why).into());
        };
        let stream = names::log_stream(tick.release);
        let logs = match &self.logs {
            Some(logs) => logs.clone(),
            None => {
                let logs = tick.aws.logs(&tick.aws.here()).await;
                logs.create_stream(group, &stream).await?;
                self.logs.insert(logs).clone()
            }
        };
        Ok((logs, group, stream))
    }

    /// Appends lines, of each stream behind its label.
    ///
    /// Safe to repeat with the same lines, or with these and newer ones: after a call whose outcome is not known, what
    /// arrived is looked at first. That rests on CloudWatch showing lines by the time of the next try, or of the next job.
    ///
    /// # Errors
    /// The calls'. Some of the lines may be there all the same.
    pub(crate) async fn put(
        &mut self,
        tick: &Tick<'_>,
        state: &mut State,
        streams: Vec<(String, Vec<Line>)>,
    ) -> Result<(), Error> {
        let (logs, group, stream) = self.stream(tick).await?;
        if streams.iter().all(|(_, lines)| lines.is_empty()) {
            return Ok(());
        }
        let mut there = match self.unremembered.take() {
            Some(there) => there,
            None => {
                let found = logs.lines_since(group, &stream, state.unsure_from().0).await?;
                Unremembered::new(state, found, &self.remembered)
            }
        };
        // Streams are read in turns: until every line that is there has been read again, it must be found again should
        // this function die, too.
        let unsure_from = state.unsure_from();
        let mut found = Vec::new();
        let streams = streams.into_iter().map(|(label, lines)| {
            let missing = there.missing(&label, lines, tick.now, &mut found);
            (label, missing)
        });
        let streams = streams.collect();
        let floor = found.iter().copied().max().unwrap_or_default().max(state.floor);
        let lines = merge(streams, floor, tick.now);
        // `there` is given back only if all of them are known to be put.
        for batch in batches(&lines) {
            logs.put(group, &stream, batch).await?;
        }
        state.found(found);
        state.put(&lines);
        state.unsure_from = (!there.is_empty()).then_some(unsure_from);
        match there.is_empty() {
            true => self.remembered.clear(),
            false => self.remembered.extend(lines),
        }
        self.unremembered = Some(there);
        Ok(())
    }

    /// Every stream has been read as far as it goes: what was found and not read again is somebody else's.
    pub(crate) fn settle(&mut self, state: &mut State) {
        if let Some(there) = &mut self.unremembered {
            *there = Unremembered::default();
            self.remembered.clear();
            state.unsure_from = None;
        }
    }

    /// All its lines from this moment on.
    ///
    /// # Errors
    /// The calls'.
    pub(crate) async fn lines_since(&mut self, tick: &Tick<'_>, since: Time) -> Result<Vec<Line>, Error> {
        let (logs, group, stream) = self.stream(tick).await?;
        logs.lines_since(group, &stream, since).await
    }
}
