//! CloudWatch Logs: the output of containers, and the release's own stream.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::operation::get_log_events::builders::GetLogEventsFluentBuilder;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;

use crate::aws::{Aws, Pacer, Place, allowance};
use crate::error::{Error, code, failure, is_not_now};
use crate::time::Time;

/// How often a stream is claimed that CloudWatch answers with "not now".
const CLAIMS: u32 = 10;

/// The pause between two such tries.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);

/// CloudWatch Logs in one place.
#[derive(Debug, Clone)]
pub struct Logs {
    client: Client,
    region: String,
    pacer: Arc<Pacer>,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// When it was written.
    pub at: Time,
    /// What it says.
    pub text: String,
}

/// Where to read on in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// From the first line.
    Head,
    /// From the first line at or after this moment.
    Moment(Time),
    /// From where a page ended.
    Cursor(String),
}

/// A page of a stream; an empty one is not the end, the same cursor again is (fact 33).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its lines, in order.
    pub lines: Vec<Line>,
    /// Where the next one begins.
    pub cursor: String,
}

impl Aws {
    /// CloudWatch Logs in `place`.
    pub async fn logs(&self, place: &Place) -> Logs {
        let config = aws_sdk_cloudwatchlogs::config::Builder::from(&self.config_at(place).await)
            .retry_partition(allowance())
            .build();
        let client = Client::from_conf(config);
        Logs { client, region: place.region.clone(), pacer: self.paces(place).logs }
    }
}

impl Logs {
    fn call(&self, operation: &str) -> String {
        format!("logs:{operation} in {}", self.region)
    }

    /// The next page of a stream, or `None` when there is no such stream: before its first line it does not exist
    /// (fact 33).
    ///
    /// # Errors
    /// The call's.
    pub async fn page(&self, group: &str, stream: &str, from: &From) -> Result<Option<Page>, Error> {
        let call = self.client.get_log_events().log_group_name(group).log_stream_name(stream).start_from_head(true);
        let call = match from {
            From::Head => call,
            From::Moment(at) => call.start_time(millis(*at)),
            From::Cursor(token) => call.next_token(token),
        };
        let name = self.call("GetLogEvents");
        let read = async {
            match call.send().await {
                Ok(output) => Ok(Some(output)),
                Err(error) if code(&error) == "ResourceNotFoundException" => Ok(None),
                Err(error) => Err(failure(&name, &error)),
            }
        };
        let Some(output) = self.pacer.pace(read).await? else { return Ok(None) };
        let lines = output.events().iter().map(|event| Line {
            at: Time::from_millis(event.timestamp().and_then(|at| at.try_into().ok()).unwrap_or_default()),
            text: event.message().unwrap_or_default().to_owned(),
        });
        let cursor = output.next_forward_token().unwrap_or_default().to_owned();
        Ok(Some(Page { lines: lines.collect(), cursor }))
    }

    /// All lines at or after a moment; none when there is no such stream.
    ///
    /// # Errors
    /// The calls'.
    pub async fn lines_since(&self, group: &str, stream: &str, since: Time) -> Result<Vec<Line>, Error> {
        self.those_since(group, stream, since, |_| true).await
    }

    /// The same, of those lines alone: a release's log may have more than there is memory for.
    ///
    /// # Errors
    /// The calls'.
    pub async fn those_since(
        &self,
        group: &str,
        stream: &str,
        since: Time,
        is_wanted: impl Fn(&Line) -> bool,
    ) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        let mut from = From::Moment(since);
        while let Some(page) = self.page(group, stream, &from).await? {
            lines.extend(page.lines.into_iter().filter(&is_wanted));
            let next = From::Cursor(page.cursor);
            // The same cursor again is the end (fact 33).
            if next == from {
                break;
            }
            from = next;
        }
        Ok(lines)
    }

    /// The last `most` lines of a stream; none when it does not exist.
    ///
    /// # Errors
    /// The call's.
    pub async fn last_lines(&self, group: &str, stream: &str, most: i32) -> Result<Vec<String>, Error> {
        let call = self.client.get_log_events().log_group_name(group).log_stream_name(stream);
        self.last(call.start_from_head(false).limit(most)).await
    }

    async fn last(&self, call: GetLogEventsFluentBuilder) -> Result<Vec<String>, Error> {
        let name = self.call("GetLogEvents");
        let read = async {
            match call.send().await {
                Ok(output) => Ok(output.events.unwrap_or_default()),
                Err(error) if code(&error) == "ResourceNotFoundException" => Ok(Vec::new()),
                Err(error) => Err(failure(&name, &error)),
            }
        };
        let events = self.pacer.pace(read).await?;
        Ok(events.into_iter().filter_map(|event| event.message).collect())
    }

    /// The last `most` lines of a stream that were written between two moments; none when it does not exist.
    ///
    /// # Errors
    /// The call's.
    pub async fn last_lines_between(
        &self,
        group: &str,
        stream: &str,
        (since, until): (Time, Time),
        most: i32,
    ) -> Result<Vec<String>, Error> {
        let call = self.client.get_log_events().log_group_name(group).log_stream_name(stream);
        self.last(call.start_from_head(false).start_time(millis(since)).end_time(millis(until)).limit(most)).await
    }

    /// Creates a stream.
    ///
    /// Safe to repeat: one that exists is a success.
    ///
    /// # Errors
    /// The call's.
    pub async fn create_stream(&self, group: &str, stream: &str) -> Result<(), Error> {
        match self.client.create_log_stream().log_group_name(group).log_stream_name(stream).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == "ResourceAlreadyExistsException" => Ok(()),
            Err(error) => Err(failure(&self.call("CreateLogStream"), &error)),
        }
    }

    /// Creates a stream that nobody else has created: the one thing in reach that exactly one of several functions can do.
    ///
    /// Not repeated after a lost reply, nor by the SDK: then it would look as if somebody else had done it. After "not now",
    /// nothing was done.
    ///
    /// # Errors
    /// The call's.
    pub async fn claim(&self, group: &str, stream: &str) -> Result<bool, Error> {
        for left in (0..CLAIMS).rev() {
            let once = aws_sdk_cloudwatchlogs::config::Config::builder().retry_config(RetryConfig::disabled());
            let call = self.client.create_log_stream().log_group_name(group).log_stream_name(stream);
            match call.customize().config_override(once).send().await {
                Ok(_) => return Ok(true),
                Err(error) if code(&error) == "ResourceAlreadyExistsException" => return Ok(false),
                Err(error) if left > 0 && is_not_now(&error) => tokio::time::sleep(CLAIM_PAUSE).await,
                Err(error) => return Err(failure(&self.call("CreateLogStream"), &error)),
            }
        }
        Err(Error::Again("the stream was never asked for".into()))
    }

    /// Appends lines, which must be in time order and within fact 36's limits.
    ///
    /// Not safe to repeat: CloudWatch keeps both copies. So the SDK makes one attempt, and after an error the caller
    /// must look at what arrived.
    ///
    /// # Errors
    /// The call's.
    pub async fn put(&self, group: &str, stream: &str, lines: &[Line]) -> Result<(), Error> {
        let event = |line: &Line| InputLogEvent::builder().timestamp(millis(line.at)).message(&line.text).build();
        let events = lines.iter().map(event).collect::<Result<Vec<_>, _>>();
        let events = events.map_err(|error| crate::Verdict::failed(format!("logs:PutLogEvents: {error}")))?;
        let call = self.client.put_log_events().log_group_name(group).log_stream_name(stream);
        let once = aws_sdk_cloudwatchlogs::config::Config::builder().retry_config(RetryConfig::disabled());
        let sent = call.set_log_events(Some(events)).customize().config_override(once).send().await;
        let sent = sent.map_err(|error| failure(&self.call("PutLogEvents"), &error))?;
        if sent.rejected_log_events_info().is_some() {
            tracing::warn!(group, stream, "CloudWatch has not taken all lines: their times are too far from now");
        }
        Ok(())
    }
}

fn millis(at: Time) -> i64 {
    i64::try_from(at.millis()).unwrap_or(i64::MAX)
}
