//! CloudWatch Logs: groups, streams, events.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use super::{Fault, Request, World};

/// The groups, by Region and name.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) quirks: Quirks,
    groups: BTreeMap<(String, String), Group>,
}

#[derive(Debug)]
struct Group {
    created: Time,
    streams: BTreeMap<String, Stream>,
}

#[derive(Debug)]
struct Stream {
    created: Time,
    events: Vec<Event>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was written.
    pub at: Time,
    /// When CloudWatch got it, and began to show it.
    pub ingested: Time,
    /// What it says.
    pub message: String,
    /// Its place among all lines that were ever written to its stream.
    number: u64,
}

/// How CloudWatch behaves when it is not at its best.
#[derive(Debug, Clone, Copy)]
pub struct Quirks {
    /// How long a container's line takes until it is shown.
    pub lag: fn(&str) -> Duration,
    /// Whether every other page is empty without being the end (fact 33).
    pub empty_pages: bool,
    /// How much later a container's line is shown at the most, each by as much as follows from what it says; those of one
    /// stream in their order, unless they are shuffled.
    pub late_lines: Duration,
    /// Whether late lines overtake each other.
    pub shuffled: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self { lag: |_| Duration::ZERO, empty_pages: false, late_lines: Duration::ZERO, shuffled: false }
    }
}

/// A place in a stream, as `GetLogEvents`' tokens have it: behind this line. What is shown later with an older timestamp
/// is passed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: Time,
    number: u64,
}

impl Event {
    fn place(&self) -> Place {
        Place { at: self.at, number: self.number }
    }
}

impl Place {
    /// The place in a token such as `f/...`, and whether an empty page has been answered for it.
    fn read(token: &str) -> Option<(Self, bool)> {
        let mut parts = token.split('/').skip(1);
        let (at, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((Self { at: Time::from_millis(at), number }, parts.next().is_some()))
    }

    fn token(self, direction: char, was_empty: bool) -> String {
        let empty = if was_empty { "/e" } else { "" };
        format!("{direction}/{:020}/{:034}{empty}", self.at.millis(), self.number)
    }
}

/// How many events a page has at the most (fact 33).
const PAGE: usize = 10_000;
/// How many bytes a page has at the most (fact 33).
const PAGE_BYTES: usize = 1_048_576;

impl Logs {
    pub(super) fn create_group(&mut self, region: &str, name: &str, now: Time) {
        let key = (region.to_owned(), name.to_owned());
        self.groups.entry(key).or_insert_with(|| Group { created: now, streams: BTreeMap::new() });
    }

    /// A container writes a line.
    pub(super) fn write(&mut self, region: &str, group: &str, stream: &str, now: Time, message: String) {
        self.create_group(region, group, now);
        let late = u64::try_from(self.quirks.late_lines.as_millis()).unwrap_or_default();
        let chance = message.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let own = Duration::from_millis(if late == 0 { 0 } else { chance % late });
        let ingested = now.plus((self.quirks.lag)(&message) + own);
        if let Some(group) = self.groups.get_mut(&(region.to_owned(), group.to_owned())) {
            let new = || Stream { created: now, events: Vec::new() };
            let stream = group.streams.entry(stream.to_owned()).or_insert_with(new);
            let before = stream.events.last().map_or(now, |event| event.ingested);
            let ingested = if late == 0 || self.quirks.shuffled { ingested } else { ingested.max(before) };
            stream.events.push(Event { at: now, ingested, message, number: stream.events.len() as u64 });
        }
    }

    fn group(&self, region: &str, name: &str) -> Result<&Group, Fault> {
        let missing = || Fault::new("ResourceNotFoundException", "The specified log group does not exist.");
        self.groups.get(&(region.to_owned(), name.to_owned())).ok_or_else(missing)
    }

    fn stream(&self, region: &str, group: &str, name: &str) -> Result<&Stream, Fault> {
        let missing = || Fault::new("ResourceNotFoundException", "The specified log stream does not exist.");
        self.group(region, group)?.streams.get(name).ok_or_else(missing)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GetLogEvents {
    log_group_name: String,
    log_stream_name: String,
    start_time: Option<u64>,
    end_time: Option<u64>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    start_from_head: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutLogEvents {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<InputEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputEvent {
    timestamp: u64,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilterLogEvents {
    log_group_name: String,
    #[serde(default)]
    log_stream_names: Vec<String>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<u64>,
    end_time: Option<u64>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    interleaved: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Streams {
    log_group_name: String,
    log_stream_name: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Groups {
    log_group_name_prefix: Option<String>,
}

impl World {
    /// The lines of a release, of all its tries, as the console shows them.
    #[must_use]
    pub fn release_lines(&self, execution: &str) -> Vec<Event> {
        self.release_streams(execution).into_values().flatten().collect()
    }

    /// The same by stream.
    #[must_use]
    pub fn release_streams(&self, execution: &str) -> BTreeMap<String, Vec<Event>> {
        self.streams_of(execution).map(|(name, stream)| (name.clone(), stream.events.clone())).collect()
    }

    /// The lines of a release that came since `seen`, which says how many of each stream are known, in the order in which
    /// they came.
    pub fn release_news(&self, execution: &str, seen: &mut BTreeMap<String, u64>) -> Vec<Event> {
        let mut news = Vec::new();
        for (name, stream) in self.streams_of(execution) {
            let known = seen.entry(name.clone()).or_default();
            let first = news.len();
            news.extend(stream.events.iter().filter(|event| event.number >= *known).cloned());
            news[first..].sort_by_key(|event: &Event| event.number);
            *known = stream.events.len() as u64;
        }
        news
    }

    fn streams_of(&self, execution: &str) -> impl Iterator<Item = (&String, &Stream)> {
        let group = self.release_log_group().and_then(|group| self.logs.group(&self.region, &group).ok());
        let first = format!("{}/{execution}", self.pipeline_of(execution));
        let streams = group.into_iter().flat_map(|group| &group.streams);
        streams.filter(move |(name, _)| name.starts_with(&first))
    }

    /// What the containers of a task have written.
    #[must_use]
    pub fn lines_of_task(&self, arn: &str) -> Vec<Event> {
        let id = arn.rsplit('/').next().unwrap_or(arn);
        let streams = self.logs.groups.values().flat_map(|group| &group.streams);
        let own = streams.filter(|(name, _)| name.rsplit('/').next() == Some(id));
        own.flat_map(|(_, stream)| stream.events.clone()).collect()
    }

    /// Lets CloudWatch behave badly.
    pub fn set_quirks(&mut self, quirks: Quirks) {
        self.logs.quirks = quirks;
    }

    pub(super) fn logs_operation(&mut self, name: &str, request: &Request) -> Result<Value, Fault> {
        let region = request.region();
        match name {
            "CreateLogGroup" => {
                let input: Streams = request.input()?;
                self.logs.create_group(region, &input.log_group_name, self.now);
                Ok(Value::Null)
            }
            "CreateLogStream" => self.create_stream(region, request.input()?),
            "PutLogEvents" => self.put_log_events(region, request.input()?),
            "GetLogEvents" => self.get_log_events(region, &request.input()?),
            "FilterLogEvents" => self.filter_log_events(region, &request.input()?),
            "DescribeLogStreams" => self.describe_streams(region, request.input()?),
            "DescribeLogGroups" => {
                let input: Groups = request.input()?;
                let prefix = input.log_group_name_prefix.unwrap_or_default();
                let groups = self
                    .logs
                    .groups
                    .iter()
                    .filter(|((at, name), _)| at == region && name.starts_with(&prefix) && !self.is_gone(name));
                let shown = groups.map(|((_, name), group)| {
                    json!({"logGroupName": name, "creationTime": group.created.millis(),
                        "arn": format!("arn:aws:logs:{region}:{}:log-group:{name}:*", self.account)})
                });
                let mut shown: Vec<_> = shown.collect();
                let named = self.named_log_groups(region).into_iter().filter(|name| name.starts_with(&prefix));
                let others = named.filter(|name| !self.logs.groups.contains_key(&(region.to_owned(), name.clone())));
                let others: std::collections::BTreeSet<_> = others.collect();
                shown.extend(others.into_iter().map(|name| json!({"logGroupName": name})));
                Ok(json!({"logGroups": shown}))
            }
            _ => Err(Fault::unknown(format!("the operation {name}"))),
        }
    }

    fn create_stream(&mut self, region: &str, input: Streams) -> Result<Value, Fault> {
        self.logs.group(region, &input.log_group_name)?;
        let name = input.log_stream_name.ok_or_else(|| Fault::new("InvalidParameterException", "logStreamName"))?;
        let now = self.now;
        if let Some(group) = self.logs.groups.get_mut(&(region.to_owned(), input.log_group_name)) {
            if group.streams.contains_key(&name) {
                let exists = "The specified log stream already exists";
                return Err(Fault::new("ResourceAlreadyExistsException", exists));
            }
            group.streams.insert(name, Stream { created: now, events: Vec::new() });
        }
        Ok(Value::Null)
    }

    fn put_log_events(&mut self, region: &str, input: PutLogEvents) -> Result<Value, Fault> {
        self.logs.stream(region, &input.log_group_name, &input.log_stream_name)?;
        let bytes: usize = input.log_events.iter().map(|event| event.message.len() + 26).sum();
        let bad = |why: &str| Err(Fault::new("InvalidParameterException", why));
        if bytes > PAGE_BYTES || input.log_events.len() > PAGE || input.log_events.is_empty() {
            return bad("Log events in a single PutLogEvents request must be 1 to 10000 in at most 1048576 bytes.");
        }
        if !input.log_events.is_sorted_by_key(|event| event.timestamp) {
            return bad("Log events in a single PutLogEvents request must be in chronological order.");
        }
        if input.log_events.iter().any(|event| event.message.is_empty() || event.message.len() > 262_144) {
            return bad("A log event's message must have 1 to 262144 bytes.");
        }
        let now = self.now;
        if let Some(group) = self.logs.groups.get_mut(&(region.to_owned(), input.log_group_name))
            && let Some(stream) = group.streams.get_mut(&input.log_stream_name)
        {
            let first = stream.events.len() as u64;
            let new = input.log_events.into_iter().zip(first..);
            stream.events.extend(new.map(|(event, number)| Event {
                at: Time::from_millis(event.timestamp),
                ingested: now,
                message: event.message,
                number,
            }));
            // CloudWatch shows a stream by timestamp.
            if !stream.events.is_sorted_by_key(|event| event.at) {
                stream.events.sort_by_key(|event| event.at);
            }
        }
        Ok(json!({"nextSequenceToken": "0"}))
    }

    fn get_log_events(&self, region: &str, input: &GetLogEvents) -> Result<Value, Fault> {
        let now = self.now;
        let stream = self.logs.stream(region, &input.log_group_name, &input.log_stream_name)?;
        let is_shown = |event: &&Event| event.ingested <= now;
        if !stream.events.is_empty() && !stream.events.iter().any(|event| is_shown(&event)) {
            return Err(Fault::new("ResourceNotFoundException", "The specified log stream does not exist."));
        }
        let from = Time::from_millis(input.start_time.unwrap_or(0));
        let to = Time::from_millis(input.end_time.unwrap_or(u64::MAX));
        let begin = stream.events.partition_point(|event| event.at < from);
        let end = stream.events.partition_point(|event| event.at < to).max(begin);
        let token = input.next_token.as_deref();
        let bad = || Fault::new("InvalidParameterException", "The specified nextToken is invalid.");
        let given = token.map(|token| Place::read(token).ok_or_else(bad)).transpose()?;
        let forward = token.map_or(input.start_from_head, |token| token.starts_with('f'));
        let (begin, end) = match given {
            Some((place, _)) if forward => {
                (stream.events.partition_point(|event| event.place() <= place).clamp(begin, end), end)
            }
            Some((place, _)) => (begin, stream.events.partition_point(|event| event.place() < place).clamp(begin, end)),
            None => (begin, end),
        };
        let limit = input.limit.unwrap_or(PAGE).min(PAGE);
        let empty_now = self.logs.quirks.empty_pages && forward && given.is_some_and(|(_, was_empty)| !was_empty);
        let mut bytes = 0;
        let fits = |event: &&Event| {
            bytes += event.message.len() + 26;
            bytes <= PAGE_BYTES
        };
        let range = stream.events[begin..end].iter();
        let events: Vec<&Event> = match (empty_now, forward) {
            (true, _) => Vec::new(),
            (false, true) => range.filter(is_shown).take(limit).take_while(fits).collect(),
            (false, false) => {
                let mut events: Vec<_> = range.rev().filter(is_shown).take(limit).take_while(fits).collect();
                events.reverse();
                events
            }
        };
        let before =
            begin.checked_sub(1).map_or(Place { at: Time::default(), number: 0 }, |at| stream.events[at].place());
        let stays = given.map_or(before, |(place, _)| place);
        let last = events.last().map_or(stays, |event| event.place());
        let first = events.first().map_or(stays, |event| event.place());
        let was_empty = empty_now || (events.is_empty() && given.is_some_and(|(_, was_empty)| was_empty));
        let shown = events.iter().map(|event| {
            json!({"timestamp": event.at.millis(), "ingestionTime": event.ingested.millis(), "message": event.message})
        });
        Ok(json!({
            "events": shown.collect::<Vec<_>>(),
            "nextForwardToken": last.token('f', was_empty),
            "nextBackwardToken": first.token('b', false),
        }))
    }

    fn filter_log_events(&self, region: &str, input: &FilterLogEvents) -> Result<Value, Fault> {
        let _ = input.interleaved;
        let group = self.logs.group(region, &input.log_group_name)?;
        let from = input.start_time.unwrap_or(0);
        let to = input.end_time.unwrap_or(u64::MAX);
        let wanted = |name: &str| {
            (input.log_stream_names.is_empty() || input.log_stream_names.iter().any(|one| one == name))
                && input.log_stream_name_prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
        };
        let mut found = Vec::new();
        for (name, stream) in group.streams.iter().filter(|(name, _)| wanted(name)) {
            for (at, event) in stream.events.iter().enumerate() {
                if (from..=to).contains(&event.at.millis()) && event.ingested <= self.now {
                    found.push((
                        event.at,
                        json!({"logStreamName": name, "timestamp": event.at.millis(),
                        "message": event.message, "ingestionTime": event.ingested.millis(),
                        "eventId": format!("{name}#{at}")}),
                    ));
                }
            }
        }
        found.sort_by_key(|(at, _)| *at);
        let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
        let limit = input.limit.unwrap_or(PAGE);
        let total = found.len();
        let events: Vec<_> = found.into_iter().skip(skip).take(limit).map(|(_, event)| event).collect();
        let mut answer = json!({"events": events, "searchedLogStreams": []});
        if skip + limit < total {
            answer["nextToken"] = (skip + limit).to_string().into();
        }
        Ok(answer)
    }

    fn describe_streams(&self, region: &str, input: Streams) -> Result<Value, Fault> {
        let group = self.logs.group(region, &input.log_group_name)?;
        let prefix = input.log_stream_name_prefix.unwrap_or_default();
        let mut streams: Vec<_> = group.streams.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
        if input.order_by.as_deref() == Some("LastEventTime") {
            streams.sort_by_key(|(_, stream)| stream.events.last().map(|event| event.at));
        }
        if input.descending {
            streams.reverse();
        }
        streams.truncate(input.limit.unwrap_or(50));
        let shown = streams.iter().map(|(name, stream)| {
            json!({"logStreamName": name, "creationTime": stream.created.millis(),
                "firstEventTimestamp": stream.events.first().map(|event| event.at.millis()),
                "lastEventTimestamp": stream.events.last().map(|event| event.at.millis())})
        });
        Ok(json!({"logStreams": shown.collect::<Vec<_>>()}))
    }
}
