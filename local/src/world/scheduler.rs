//! EventBridge Scheduler: schedules with a time zone, each of which puts a message into a queue (fact 53).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use super::{Fault, Request, Timer, World};
use crate::clock;

/// The groups and their schedules.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    groups: BTreeSet<String>,
    schedules: BTreeMap<(String, String), Schedule>,
    sets: u64,
}

#[derive(Debug)]
struct Schedule {
    input: Input,
    /// Which setting it is: a timer of an older one does nothing.
    set: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Input {
    group_name: Option<String>,
    schedule_expression: String,
    schedule_expression_timezone: Option<String>,
    flexible_time_window: Value,
    target: Target,
    client_token: Option<String>,
    state: Option<String>,
}

impl Input {
    fn state(&self) -> &str {
        self.state.as_deref().unwrap_or("ENABLED")
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Target {
    arn: String,
    role_arn: String,
    input: Option<String>,
    retry_policy: Option<Value>,
}

/// What stands for the moment that a run is due in a target's input.
const DUE: &str = "<aws.scheduler.scheduled-time>";

fn missing(what: &str) -> Fault {
    Fault { status: 404, ..Fault::new("ResourceNotFoundException", format!("{what} does not exist.")) }
}

impl World {
    pub(super) fn scheduler_operation(&mut self, operation: &str, request: &Request) -> Result<Value, Fault> {
        let name = request.path.trim_matches('/').split('/').nth(1).unwrap_or_default().to_owned();
        let asked = || request.query.get("groupName").or_else(|| request.query.get("ScheduleGroup")).cloned();
        match operation {
            "CreateScheduleGroup" => {
                if !self.scheduler.groups.insert(name.clone()) {
                    let why = format!("Schedule group {name} already exists.");
                    return Err(Fault { status: 409, ..Fault::new("ConflictException", why) });
                }
                let arn = format!("arn:aws:scheduler:{}:{}:schedule-group/{name}", self.region, self.account);
                Ok(json!({"ScheduleGroupArn": arn}))
            }
            "CreateSchedule" | "UpdateSchedule" => {
                let input: Input = request.input()?;
                let group = input.group_name.clone().unwrap_or_else(|| "default".into());
                let key = (group.clone(), name.clone());
                let is_there = self.scheduler.schedules.contains_key(&key);
                if operation == "CreateSchedule" && !self.scheduler.groups.contains(&group) && group != "default" {
                    return Err(missing(&format!("Schedule group {group}")));
                }
                match (operation, is_there) {
                    ("CreateSchedule", true) => {
                        let why = format!("Schedule {name} already exists.");
                        return Err(Fault { status: 409, ..Fault::new("ConflictException", why) });
                    }
                    ("UpdateSchedule", false) => return Err(missing(&format!("Schedule {name}"))),
                    _ => {}
                }
                let zone = input.schedule_expression_timezone.as_deref().unwrap_or("UTC");
                clock::next(&input.schedule_expression, zone, self.now)
                    .map_err(|why| Fault::new("ValidationException", why))?;
                let _ = (&input.flexible_time_window, &input.client_token);
                let _ = (&input.target.role_arn, &input.target.retry_policy);
                self.scheduler.sets += 1;
                let set = self.scheduler.sets;
                self.scheduler.schedules.insert(key, Schedule { input, set });
                self.wind(&group, &name, self.now);
                let arn = format!("arn:aws:scheduler:{}:{}:schedule/{group}/{name}", self.region, self.account);
                Ok(json!({"ScheduleArn": arn}))
            }
            "GetSchedule" => {
                let group = asked().unwrap_or_else(|| "default".into());
                let found = self.scheduler.schedules.get(&(group.clone(), name.clone()));
                let found = found.ok_or_else(|| missing(&format!("Schedule {name}")))?;
                Ok(json!({"Name": name, "GroupName": group, "State": found.input.state(),
                    "ScheduleExpression": found.input.schedule_expression,
                    "ScheduleExpressionTimezone": found.input.schedule_expression_timezone}))
            }
            "DeleteSchedule" => {
                let group = asked().unwrap_or_else(|| "default".into());
                match self.scheduler.schedules.remove(&(group, name.clone())) {
                    Some(_) => Ok(json!({})),
                    None => Err(missing(&format!("Schedule {name}"))),
                }
            }
            "ListSchedules" => {
                let group = asked();
                if let Some(group) = group.as_ref().filter(|group| !self.scheduler.groups.contains(*group)) {
                    return Err(missing(&format!("Schedule group {group}")));
                }
                let all = self.scheduler.schedules.iter();
                let own = all.filter(|((at, _), _)| group.as_ref().is_none_or(|group| at == group));
                let shown = own
                    .map(|((group, name), one)| json!({"GroupName": group, "Name": name, "State": one.input.state()}));
                Ok(json!({"Schedules": shown.collect::<Vec<_>>()}))
            }
            _ => Err(Fault::unknown(format!("the operation {operation}"))),
        }
    }

    /// The schedules' names, with their groups.
    #[must_use]
    pub fn schedules(&self) -> Vec<(String, String)> {
        self.scheduler.schedules.keys().cloned().collect()
    }

    /// When a schedule runs, as it was asked for.
    #[must_use]
    pub fn clock_of(&self, group: &str, name: &str) -> Option<&str> {
        let one = self.scheduler.schedules.get(&(group.to_owned(), name.to_owned()))?;
        Some(&one.input.schedule_expression)
    }

    /// A person switches a schedule on or off, as the console does: nothing else of it changes.
    pub fn switch_schedule(&mut self, group: &str, name: &str, on: bool) {
        self.scheduler.sets += 1;
        let set = self.scheduler.sets;
        if let Some(one) = self.scheduler.schedules.get_mut(&(group.to_owned(), name.to_owned())) {
            one.input.state = Some(if on { "ENABLED" } else { "DISABLED" }.to_owned());
            one.set = set;
        }
        self.wind(group, name, self.now);
    }

    /// Whether a schedule is switched on.
    #[must_use]
    pub fn is_switched_on(&self, group: &str, name: &str) -> bool {
        let one = self.scheduler.schedules.get(&(group.to_owned(), name.to_owned()));
        one.is_some_and(|one| one.input.state() == "ENABLED")
    }

    /// Sets a schedule's timer to its next run after this moment.
    fn wind(&mut self, group: &str, name: &str, after: Time) {
        let Some(one) = self.scheduler.schedules.get(&(group.to_owned(), name.to_owned())) else { return };
        if one.input.state() == "DISABLED" {
            return;
        }
        let zone = one.input.schedule_expression_timezone.as_deref().unwrap_or("UTC");
        let Ok(Some(due)) = clock::next(&one.input.schedule_expression, zone, after) else { return };
        let timer = Timer::Clock(group.to_owned(), name.to_owned(), one.set);
        self.after(due.since(self.now), timer);
    }

    pub(super) fn clock_strikes(&mut self, group: &str, name: &str, set: u64) {
        let found = self.scheduler.schedules.get(&(group.to_owned(), name.to_owned()));
        let Some(target) = found.filter(|one| one.set == set).map(|one| one.input.target.clone()) else { return };
        // Runs are due on the minute.
        let due = Time::from_millis(self.now.millis() / 1000 * 1000);
        let body = target.input.unwrap_or_default().replace(DUE, &due.to_string());
        let queue = target.arn.rsplit(':').next().unwrap_or_default().to_owned();
        self.send(&queue, body, json!({}));
        self.wind(group, name, self.now);
    }
}
