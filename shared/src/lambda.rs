//! One invocation of a Lambda function, and what a function's `main` does.

use std::future::Future;
use std::time::Duration;

use lambda_runtime::LambdaEvent;

use crate::aws::Aws;
use crate::job::Event;
use crate::time::{Clock, Time};

/// How long before the Lambda's deadline a function must have stopped working and begun to answer: two attempts of
/// [`aws::ATTEMPT`](crate::aws::ATTEMPT) at `PutJobSuccessResult`, and room for the process itself.
pub const MARGIN: Duration = Duration::from_secs(25);

/// What is left of an invocation's time when there is nobody to answer: room for a last line of the log.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// When this invocation began and when Lambda will end it.
#[derive(Debug, Clone, Copy)]
pub struct Invocation {
    /// The time, as of this invocation.
    pub clock: Clock,
    /// When Lambda ends it.
    pub deadline: Time,
    /// How long before that it must have stopped working.
    margin: Duration,
    /// The request that it is about: the same when Lambda brings its event again (fact 3), and another for each call of `Invoke`, also
    /// for one that the SDK has repeated.
    pub request: u128,
}

/// A request's id, which is a UUID, as a number.
#[must_use]
pub fn request(id: &str) -> u128 {
    id.chars().filter_map(|digit| digit.to_digit(16)).fold(0, |number, digit| (number << 4) | u128::from(digit))
}

impl Invocation {
    /// An invocation that has `length` from `now` on.
    #[must_use]
    pub fn lasting(now: Time, length: Duration, id: &str) -> Self {
        Self::until((Clock::set(now), now.plus(length)), length, request(id))
    }

    /// One of a function with a short time-out of its own still has half of it for work.
    fn until((clock, deadline): (Clock, Time), length: Duration, request: u128) -> Self {
        Self { clock, deadline, margin: MARGIN.min(length / 2), request }
    }

    /// The same, when there is nobody to answer any more: it may work until shortly before its end.
    #[must_use]
    pub fn to_the_last(self) -> Self {
        Self { margin: LAST_WORDS.min(self.margin), ..self }
    }

    /// The same, but it works for so long at most.
    #[must_use]
    pub(crate) fn at_most(self, length: Duration) -> Self {
        Self { deadline: self.deadline.min(self.clock.now().plus(length + self.margin)), ..self }
    }

    /// How long it may still work before it must answer.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.since(self.clock.now()).saturating_sub(self.margin)
    }
}

/// An error as Lambda reports it: its kind is the type, and not the name of a type of Rust's.
fn diagnostic(error: crate::Error) -> lambda_runtime::Diagnostic {
    lambda_runtime::Diagnostic { error_type: error.name().into(), error_message: error.to_string() }
}

/// Serves a function: sets up logging and the clients once, then hands each event to `handle`. What it answers is of interest
/// only to whoever waits for it, such as the event source mapping of a queue.
///
/// An error makes Lambda deliver the same event again (fact 3), which is safe and wanted: everything a function does
/// can be repeated.
///
/// # Errors
/// When the Lambda Runtime API cannot be reached.
pub async fn serve<F, Fut, T>(handle: F) -> Result<(), lambda_runtime::Error>
where
    F: Fn(Aws, Event, Invocation) -> Fut,
    Fut: Future<Output = Result<T, crate::Error>>,
    T: serde::Serialize,
{
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::EnvFilter;
    let filter = EnvFilter::try_from_env("CUTOVER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = filter.add_directive(tracing_subscriber::filter::Directive::from(tracing::Level::INFO));
    // Never TRACE, whatever asks for it: `lambda_runtime` logs the raw event there, with live credentials (fact 39).
    let filter = match filter.max_level_hint() {
        Some(level) if level < LevelFilter::TRACE => filter,
        Some(_) | None => EnvFilter::new("debug"),
    };
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_current_span(true)
        .with_span_list(false)
        .flatten_event(true)
        .init();
    let aws = Aws::from_env().await;
    lambda_runtime::run(lambda_runtime::service_fn(|event: LambdaEvent<Event>| {
        let deadline = Time::from_millis(event.context.deadline);
        let request = request(&event.context.request_id);
        let now = Time::of_system();
        let invocation = Invocation::until((Clock::set(now), deadline), deadline.since(now), request);
        // Boxed: the compiler computes the layout of futures in futures to a limited depth.
        let handled = Box::pin(handle(aws.clone(), event.payload, invocation));
        async move { handled.await.map_err(diagnostic) }
    }))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind, Verdict};

    #[tokio::test(start_paused = true)]
    async fn what_is_left_for_an_answer_is_the_same_to_the_end() {
        let seconds = Duration::from_secs;
        for (length, margin) in [(900, 25), (60, 25), (40, 20)] {
            let invocation = Invocation::lasting(Time::from_millis(1), seconds(length), "r");
            assert_eq!(invocation.left(), seconds(length - margin), "{length}");
            tokio::time::advance(seconds(length - margin - 5)).await;
            assert_eq!(invocation.left(), seconds(5), "{length}");
            assert_eq!(invocation.to_the_last().left(), seconds(5 + margin - 3), "{length}");
            tokio::time::advance(seconds(5)).await;
            assert_eq!(invocation.left(), Duration::ZERO, "{length}");
            tokio::time::advance(seconds(margin)).await;
            assert_eq!(invocation.to_the_last().left(), Duration::ZERO, "{length}");
        }
        let short = Invocation::lasting(Time::from_millis(1), seconds(900), "r").at_most(seconds(150));
        assert_eq!(short.left(), seconds(150));
    }

    #[test]
    fn an_error_is_reported_by_its_kind_and_never_by_a_type_of_rusts() {
        let stop = |kind| Error::Stop(Verdict { kind, message: "why".into() });
        for (error, kind) in [
            (Error::Again("why".into()), "Unavailable"),
            (stop(Kind::JobFailed), "JobFailed"),
            (stop(Kind::Configuration), "ConfigurationError"),
            (stop(Kind::Permission), "PermissionError"),
            (stop(Kind::Unavailable), "Unavailable"),
        ] {
            let told = diagnostic(error);
            assert_eq!((told.error_type.as_str(), told.error_message.as_str()), (kind, "why"));
        }
    }
}
