//! EventBridge Scheduler: what runs by the clock (fact 53).

use std::collections::BTreeMap;

use aws_sdk_scheduler::Client;
use aws_sdk_scheduler::types::{
    FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy, ScheduleState, ScheduleSummary, Target,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::error::operation::BuildError;
use aws_smithy_types::retry::RetryConfig;

use crate::aws::{Aws, allowance};
use crate::error::{Error, Verdict, code, failure};

/// How long Scheduler tries to send a message that its queue does not take, in seconds, at least and at most (a day is its own limit): as long
/// as the run may begin, so that one that comes too late is told. How late it is is looked at when it comes.
const TRIED_FOR: (u64, u64) = (3600, 86_400);

/// A schedule as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its group.
    pub group: &'a str,
    /// Its name there.
    pub name: &'a str,
    /// When, such as `cron(0 3 * * ? *)`.
    pub expression: &'a str,
    /// In which time zone.
    pub zone: &'a str,
    /// The queue that gets a message.
    pub queue: &'a str,
    /// The role that may send it.
    pub role: &'a str,
    /// The message.
    pub message: &'a str,
    /// How late the run may begin, in seconds.
    pub within: u64,
    /// Whether somebody has switched it off: it stays so. An update that says nothing of it would switch it on.
    pub is_off: bool,
}

/// Scheduler in the function's own account and Region.
#[derive(Debug, Clone)]
pub struct Scheduler(Client);

impl Aws {
    /// Scheduler here.
    #[must_use]
    pub fn scheduler(&self) -> Scheduler {
        let config = aws_sdk_scheduler::config::Builder::from(self.config()).retry_partition(allowance()).build();
        Scheduler(Client::from_conf(config))
    }
}

impl Scheduler {
    /// Makes a schedule what it shall be, as far as it `may` be written: where there is none yet, that is asked once more before it is made.
    ///
    /// Safe to repeat: it is set, whatever it was.
    ///
    /// # Errors
    /// The calls'.
    pub async fn set(&self, wanted: &Wanted<'_>, may: &impl AsyncFn() -> Result<bool, Error>) -> Result<bool, Error> {
        let (window, target) = (window()?, target(wanted)?);
        let state = if wanted.is_off { ScheduleState::Disabled } else { ScheduleState::Enabled };
        let update = self.0.update_schedule().group_name(wanted.group).name(wanted.name);
        let update = update.schedule_expression(wanted.expression).schedule_expression_timezone(wanted.zone);
        let update = update.state(state).flexible_time_window(window.clone()).target(target.clone());
        if !may().await? {
            return Ok(false);
        }
        match update.customize().config_override(once()).send().await {
            Ok(_) => return Ok(true),
            Err(error) if code(&error) == "ResourceNotFoundException" => {}
            Err(error) => return Err(said("UpdateSchedule", wanted, &error)),
        }
        self.make_group(wanted.group).await?;
        let create = self.0.create_schedule().group_name(wanted.group).name(wanted.name);
        let create = create.schedule_expression(wanted.expression).schedule_expression_timezone(wanted.zone);
        let create = create.flexible_time_window(window).target(target);
        if !may().await? {
            return Ok(false);
        }
        match create.customize().config_override(once()).send().await {
            Ok(_) => Ok(true),
            // The group was made right now, and is not visible yet.
            Err(error) if code(&error) == "ResourceNotFoundException" => Err(changes("CreateSchedule", wanted.name)),
            // The same call was made before, and its reply lost; or somebody else's: the next look sets it.
            Err(error) => Err(said("CreateSchedule", wanted, &error)),
        }
    }

    /// Safe to repeat: a group that is there is none twice.
    async fn make_group(&self, group: &str) -> Result<(), Error> {
        match self.0.create_schedule_group().name(group).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == CONFLICT => Ok(()),
            Err(error) => Err(failure("scheduler:CreateScheduleGroup", &error)),
        }
    }

    /// The names of a group's schedules, and whether somebody has switched each off; none when there is no such group.
    ///
    /// # Errors
    /// The calls'.
    pub async fn names(&self, group: &str) -> Result<BTreeMap<String, bool>, Error> {
        let mut names = BTreeMap::new();
        let mut next = None;
        loop {
            let call = self.0.list_schedules().group_name(group).set_next_token(next);
            let output = match call.send().await {
                Ok(output) => output,
                Err(error) if code(&error) == "ResourceNotFoundException" => return Ok(BTreeMap::new()),
                Err(error) => return Err(failure("scheduler:ListSchedules", &error)),
            };
            let is_off = |one: &ScheduleSummary| one.state() == Some(&ScheduleState::Disabled);
            names.extend(output.schedules().iter().filter_map(|one| Some((one.name()?.to_owned(), is_off(one)))));
            next = output.next_token().map(str::to_owned);
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    /// Removes a schedule.
    ///
    /// Safe to repeat: one that is gone is no error.
    ///
    /// # Errors
    /// The call's.
    pub async fn remove(&self, group: &str, name: &str) -> Result<(), Error> {
        match self.0.delete_schedule().group_name(group).name(name).customize().config_override(once()).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == "ResourceNotFoundException" => Ok(()),
            Err(error) if code(&error) == CONFLICT => Err(changes("DeleteSchedule", name)),
            Err(error) => Err(failure("scheduler:DeleteSchedule", &error)),
        }
    }
}

/// For what changes a schedule: one attempt (see [`crate::aws::SHOWN`]). The SDK would try it again without asking whether the release
/// still goes on, and what it sets could take effect after everything was written back.
fn once() -> aws_sdk_scheduler::config::Builder {
    aws_sdk_scheduler::config::Config::builder().retry_config(RetryConfig::disabled())
}

fn said<E: ProvideErrorMetadata>(operation: &str, wanted: &Wanted<'_>, error: &SdkError<E, HttpResponse>) -> Error {
    match code(error) {
        // Its time zone, as a rule: its expression was looked at when the manifest was read.
        "ValidationException" => Verdict::misconfigured(format!(
            "deploy.yaml: schedules.{}: EventBridge Scheduler does not take {} in {}: {}",
            wanted.name,
            wanted.expression,
            wanted.zone,
            error.message().unwrap_or("no message")
        ))
        .into(),
        CONFLICT => changes(operation, wanted.name),
        _ => failure(&format!("scheduler:{operation} {}", wanted.name), error),
    }
}

/// What Scheduler answers while the same schedule is being changed, such as by an earlier try of the same call.
const CONFLICT: &str = "ConflictException";

fn changes(operation: &str, name: &str) -> Error {
    Error::Again(format!("scheduler:{operation} {name}: it is being changed by another call"))
}

fn built<T>(made: Result<T, BuildError>) -> Result<T, Error> {
    made.map_err(|error| Verdict::failed(format!("a schedule cannot be made: {error}")).into())
}

/// On the minute.
fn window() -> Result<FlexibleTimeWindow, Error> {
    built(FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build())
}

fn target(wanted: &Wanted<'_>) -> Result<Target, Error> {
    let (least, most) = TRIED_FOR;
    let age = i32::try_from(wanted.within.clamp(least, most)).unwrap_or(i32::MAX);
    let retries = RetryPolicy::builder().maximum_event_age_in_seconds(age).build();
    let target = Target::builder().arn(wanted.queue).role_arn(wanted.role).input(wanted.message).retry_policy(retries);
    built(target.build())
}
