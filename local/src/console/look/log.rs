//! The release's own log, as it grows: `DescribeLogStreams`, `GetLogEvents`.
//!
//! Invariant: a line is told once. CloudWatch shows a stream by the lines' own times, and a cursor passes by what comes late
//! (fact 33); so the last seconds are read again each time, and what is known of them is counted off.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use shared::Time;

use crate::console::aws::{Aws, Refused, Service};
use crate::console::said::Said;

/// A line.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "timestamp")]
    pub(crate) at: Time,
    #[serde(rename = "ingestionTime", default)]
    ingested: Time,
    message: Said,
}

impl Line {
    /// A line, for tests.
    #[cfg(test)]
    pub(crate) fn new(at: u64, message: &str) -> Self {
        Self { at: Time::from_millis(at), ingested: Time::from_millis(at), message: message.into() }
    }

    /// What stands in front of it, and the rest: `us web    | ready` is of `us`, `migrate complete` of nobody.
    pub(crate) fn parts<'a>(&'a self, environments: &[String]) -> (Option<&'a str>, &'a str) {
        let whole = self.message.raw();
        let Some((label, rest)) = whole.split_once(" | ") else { return (None, whole) };
        let first = label.split_whitespace().next().unwrap_or_default();
        match environments.iter().any(|name| name == first) {
            true if label.trim_end() == first => (Some(first), rest),
            true => (Some(first), whole[first.len()..].trim_start()),
            false => (None, whole),
        }
    }

    /// Whether it is shown to who wants to see this environment: what is of none concerns all.
    pub(crate) fn is_of(&self, environment: Option<&str>, environments: &[String]) -> bool {
        let own = self.parts(environments).0;
        environment.is_none() || own.is_none() || own == environment
    }

    /// The whole line, plain.
    pub(crate) fn plain(&self) -> String {
        format!("{} {}", self.at, self.message)
    }
}

/// How much later than a newer line an older one may be shown: functions write into one stream side by side.
const OVERLAP: Duration = Duration::from_secs(10);
/// How many pages of an old log are read when somebody comes, from its end: five times 1 MB, or 10,000 lines.
const PAGES_BACK: usize = 5;

/// The log of a release, as far as it was told.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    streams: BTreeMap<String, Told>,
}

/// What was told of a stream.
#[derive(Debug, Default)]
struct Told {
    newest: Time,
    /// What is not newer was never told, and is not: there is too much of it.
    after: Option<Time>,
    /// The lines of its last seconds, each with how often it was told.
    known: BTreeMap<Line, usize>,
}

impl Follow {
    /// The lines that are new, by time; at the first time the last `most` ones that are `wanted`, and whether there are more before.
    ///
    /// # Errors
    /// What AWS does not answer.
    pub(crate) fn news(
        &mut self,
        aws: &Aws,
        group: &str,
        first: &str,
        most: usize,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<(Vec<Line>, bool), Refused> {
        let (mut news, mut more) = (Vec::new(), false);
        for stream in streams(aws, group, first)? {
            let source = Source { aws, group, stream: &stream };
            match self.streams.get_mut(&stream) {
                Some(told) => news.extend(told.news(source.since(told.newest.before(OVERLAP))?)),
                None => {
                    let (lines, has_more) = source.last(most, &wanted)?;
                    more |= has_more;
                    let after = lines.first().filter(|_| has_more).map(|line| line.at);
                    let mut told = Told { after, ..Told::default() };
                    news.extend(told.news(lines));
                    self.streams.insert(stream, told);
                }
            }
        }
        news.retain(|line| wanted(line));
        news.sort_by_key(|line| line.at);
        if news.len() > most {
            more = true;
            news.drain(..news.len() - most);
        }
        Ok((news, more))
    }
}

impl Told {
    /// Of what was found in the last seconds, what was not told yet. Takes it in.
    fn news(&mut self, found: Vec<Line>) -> Vec<Line> {
        let mut counts: BTreeMap<Line, usize> = BTreeMap::new();
        let mut news = Vec::new();
        let after = self.after;
        for line in found.into_iter().filter(|line| after.is_none_or(|after| line.at > after)) {
            self.newest = self.newest.max(line.at);
            let count = counts.entry(line.clone()).or_default();
            *count += 1;
            if *count > self.known.get(&line).copied().unwrap_or_default() {
                news.push(line);
            }
        }
        let from = self.newest.before(OVERLAP);
        counts.retain(|line, _| line.at >= from);
        self.known = counts;
        news
    }
}

/// All lines of a release.
///
/// # Errors
/// What AWS does not answer.
pub(crate) fn whole(aws: &Aws, group: &str, first: &str) -> Result<Vec<Line>, Refused> {
    let mut all = Vec::new();
    for stream in streams(aws, group, first)? {
        all.extend(Source { aws, group, stream: &stream }.since(Time::default())?);
    }
    all.sort_by_key(|line| line.at);
    Ok(all)
}

/// The streams of a release: one for each try.
fn streams(aws: &Aws, group: &str, first: &str) -> Result<Vec<String>, Refused> {
    let input = json!({"logGroupName": group, "logStreamNamePrefix": first});
    let Streams { all } = aws.ask(Service::Logs, "DescribeLogStreams", &input)?;
    Ok(all.into_iter().map(|one| one.name).collect())
}

/// A stream.
struct Source<'a> {
    aws: &'a Aws,
    group: &'a str,
    stream: &'a str,
}

impl Source<'_> {
    /// Its lines from this moment on.
    fn since(&self, since: Time) -> Result<Vec<Line>, Refused> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut input = json!({"logGroupName": self.group, "logStreamName": self.stream, "startFromHead": true,
                "startTime": since.millis()});
            if let Some(token) = &token {
                input["nextToken"] = token.as_str().into();
            }
            let Some(page) = self.page(&input)? else { return Ok(all) };
            all.extend(page.events);
            // The end is the same token again (fact 33).
            if token.as_ref() == Some(&page.forward) {
                return Ok(all);
            }
            token = Some(page.forward);
        }
    }

    /// Its last lines, of which up to `most` are wanted, and whether there are more before.
    fn last(&self, most: usize, wanted: impl Fn(&Line) -> bool) -> Result<(Vec<Line>, bool), Refused> {
        let mut all: Vec<Line> = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_BACK {
            let mut input = json!({"logGroupName": self.group, "logStreamName": self.stream});
            if let Some(token) = &token {
                input["nextToken"] = token.as_str().into();
            }
            let Some(page) = self.page(&input)? else { return Ok((all, false)) };
            let is_end = token.as_ref() == Some(&page.backward);
            all.splice(0..0, page.events);
            if is_end {
                return Ok((all, false));
            }
            if all.iter().filter(|line| wanted(line)).count() >= most {
                return Ok((all, true));
            }
            token = Some(page.backward);
        }
        Ok((all, true))
    }

    /// A page; none of a stream without a line.
    fn page(&self, input: &serde_json::Value) -> Result<Option<Page>, Refused> {
        match self.aws.ask(Service::Logs, "GetLogEvents", input) {
            Ok(page) => Ok(Some(page)),
            Err(refused) if refused.code == "ResourceNotFoundException" => Ok(None),
            Err(refused) => Err(refused),
        }
    }
}

#[derive(Deserialize)]
struct Streams {
    #[serde(rename = "logStreams")]
    all: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    #[serde(rename = "logStreamName")]
    name: String,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Line>,
    #[serde(rename = "nextForwardToken")]
    forward: String,
    #[serde(rename = "nextBackwardToken")]
    backward: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_once_also_one_that_comes_late_or_twice_or_is_there_twice() {
        let line = Line::new;
        let mut told = Told::default();
        for (found, news) in [
            (
                vec![line(1000, "a"), line(1000, "a"), line(2000, "b")],
                vec![line(1000, "a"), line(1000, "a"), line(2000, "b")],
            ),
            (vec![line(1000, "a"), line(1000, "a"), line(2000, "b")], vec![]),
            // One that is older than the newest, and once more what was there.
            (
                vec![line(1000, "a"), line(1000, "a"), line(1000, "a"), line(1500, "late"), line(2000, "b")],
                vec![line(1000, "a"), line(1500, "late")],
            ),
            (vec![line(1500, "late"), line(2000, "b"), line(60_000, "c")], vec![line(60_000, "c")]),
            (vec![line(60_000, "c")], vec![]),
        ] {
            assert_eq!(told.news(found), news);
        }
        assert_eq!(told.known.len(), 1, "what is older than the last seconds is forgotten");
        let mut told = Told { after: Some(Time::from_millis(1000)), ..Told::default() };
        assert_eq!(told.news(vec![line(900, "old"), line(1000, "cut"), line(1001, "a")]), [line(1001, "a")]);
    }

    #[test]
    fn a_line_is_of_the_environment_that_stands_in_front_of_it() {
        let environments = ["us".to_owned(), "eu-1".to_owned()];
        for (message, environment, rest) in [
            ("us | applying 003", Some("us"), "applying 003"),
            ("us   | applying", Some("us"), "applying"),
            ("us web    | ready", Some("us"), "web    | ready"),
            ("eu-1 | a | b", Some("eu-1"), "a | b"),
            ("notify | Slack was told", None, "notify | Slack was told"),
            ("halt complete", None, "halt complete"),
            ("mars | x", None, "mars | x"),
        ] {
            let line = Line::new(0, message);
            assert_eq!(line.parts(&environments), (environment, rest), "{message}");
            assert!(line.is_of(None, &environments));
            assert_eq!(line.is_of(Some("us"), &environments), environment != Some("eu-1"), "{message}");
        }
    }
}
