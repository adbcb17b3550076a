//! When something runs by the clock: a crontab's five fields, and EventBridge Scheduler's six.
//!
//! Invariant: a [`Cron`] is one that EventBridge Scheduler can express.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// A crontab's five fields: minute, hour, day of the month, month, day of the week (0 or 7 is Sunday).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron([String; 5]);

/// A field: its name, its lowest and highest number, the highest that is not another name for the lowest, and names for numbers from
/// the lowest on.
struct Field {
    name: &'static str,
    from: u32,
    to: u32,
    last: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", from: 0, to: 59, last: 59, names: &[] },
    Field { name: "hour", from: 0, to: 23, last: 23, names: &[] },
    Field { name: "day of the month", from: 1, to: 31, last: 31, names: &[] },
    Field {
        name: "month",
        from: 1,
        to: 12,
        last: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field {
        name: "day of the week",
        from: 0,
        to: 7,
        last: 6,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    },
];

impl Field {
    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(at) => self.from + u32::try_from(at).ok()?,
            None if text.starts_with('+') => return None,
            None => text.parse().ok()?,
        };
        (self.from..=self.to).contains(&number).then_some(number)
    }

    /// Whether this is a list of numbers, ranges and steps.
    fn takes(&self, text: &str) -> bool {
        text.split(',').all(|part| {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let good_step = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| (1..=self.to).contains(&step)));
            let good_range = match range.split_once('-') {
                Some((first, last)) => {
                    matches!((self.number(first), self.number(last)), (Some(first), Some(last)) if first <= last)
                }
                None => range == "*" || self.number(range).is_some(),
            };
            good_step && good_range
        })
    }

    /// The numbers of a list that it [`takes`](Self::takes).
    fn numbers(&self, text: &str) -> BTreeSet<u32> {
        let of_part = |part: &str| {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let number = |text: &str| self.number(text).unwrap_or(self.from);
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first), number(last)),
                None if range == "*" => (self.from, self.last),
                // From there on, as cron has it.
                None if step.is_some() && number(range) > self.last => (self.from, self.last),
                None if step.is_some() => (number(range), self.last),
                None => (number(range), number(range)),
            };
            let step = step.and_then(|step| step.parse().ok()).unwrap_or(1_usize).max(1);
            (first..=last).step_by(step).collect::<Vec<_>>()
        };
        text.split(',').flat_map(of_part).collect()
    }
}

impl Cron {
    /// Reads a crontab's five fields.
    ///
    /// # Errors
    /// What is wrong in which field, and what was expected.
    pub fn read(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let Ok(fields) = <[&str; 5]>::try_from(fields) else {
            return Err(format!(
                "`{text}` is no crontab's five fields: write it as \"0 3 * * *\" (minute, hour, day of the month, month, day of the week)"
            ));
        };
        for (field, text) in FIELDS.iter().zip(fields) {
            if !field.takes(text) {
                let Field { name, from, to, .. } = field;
                return Err(format!(
                    "`{text}` is no {name}: numbers from {from} to {to}, `*`, ranges such as 1-5, lists such as 1,3, and steps \
                     such as */5"
                ));
            }
        }
        let (days, months) = (FIELDS[2].numbers(fields[2]), FIELDS[3].numbers(fields[3]));
        let longest = |month: &u32| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if !months.iter().any(|month| days.iter().any(|day| *day <= longest(month))) {
            return Err(format!("`{text}` never comes: no such month has a day {}", fields[2]));
        }
        if fields[2] != "*" && fields[4] != "*" {
            return Err("EventBridge Scheduler takes either a day of the month or a day of the week: put `*` for the \
                        other, and make a schedule for each"
                .into());
        }
        Ok(Self(fields.map(str::to_owned)))
    }

    /// What EventBridge Scheduler calls it: there is a sixth field, the year; of the two days, one is `?`; the week's days are
    /// 1 (Sunday) to 7.
    #[must_use]
    pub fn expression(&self) -> String {
        let [minute, hour, day, month, weekday] = &self.0;
        if weekday == "*" {
            return format!("cron({minute} {hour} {day} {month} ? *)");
        }
        // Scheduler takes no steps there (its reference names `, - * ? L #`), and counts from Sunday as 1.
        let days: BTreeSet<u32> = FIELDS[4].numbers(weekday).iter().map(|day| day % 7).collect();
        let written = match days.len() {
            7 => "*".to_owned(),
            _ => days.iter().map(|day| (day + 1).to_string()).collect::<Vec<_>>().join(","),
        };
        format!("cron({minute} {hour} ? {month} {written} *)")
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Cron {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cron".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": r"^\S+(\s+\S+){4}$", "examples": ["0 3 * * *", "*/15 8-17 * * MON-FRI"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crontab_is_said_in_schedulers_words() {
        for (written, expected) in [
            ("0 3 * * *", "cron(0 3 * * ? *)"),
            ("*/15 8-17 * * MON-FRI", "cron(*/15 8-17 ? * 2,3,4,5,6 *)"),
            ("5 4 1,15 */2 *", "cron(5 4 1,15 */2 ? *)"),
            ("0 3 29 2 *", "cron(0 3 29 2 ? *)"),
            ("0 3 */15 2 *", "cron(0 3 */15 2 ? *)"),
            ("0 0 * * 0", "cron(0 0 ? * 1 *)"),
            ("0 0 * * 7", "cron(0 0 ? * 1 *)"),
            ("0 0 * * 5-7", "cron(0 0 ? * 1,6,7 *)"),
            ("0 0 * * 0-7", "cron(0 0 ? * * *)"),
            ("0 0 * * sat,1", "cron(0 0 ? * 2,7 *)"),
            ("0 0 * * */2", "cron(0 0 ? * 1,3,5,7 *)"),
            ("0 0 * * 1-5/2", "cron(0 0 ? * 2,4,6 *)"),
            ("0 0 * * 1-7/2", "cron(0 0 ? * 1,2,4,6 *)"),
            ("0 0 * * 7/2", "cron(0 0 ? * 1,3,5,7 *)"),
            ("0  12   * JAN  *", "cron(0 12 * JAN ? *)"),
        ] {
            assert_eq!(Cron::read(written).unwrap().expression(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_crontab_says_which_field_and_what_was_expected() {
        for (written, said) in [
            ("0 3 * *", "`0 3 * *` is no crontab's five fields"),
            ("0 3 * * * *", "is no crontab's five fields"),
            ("0 3 31 2 *", "`0 3 31 2 *` never comes: no such month has a day 31"),
            ("0 3 31 4,JUN *", "never comes"),
            ("0 3 30-31 2 *", "never comes"),
            ("+5 3 * * *", "`+5` is no minute"),
            ("60 3 * * *", "`60` is no minute: numbers from 0 to 59"),
            ("0 3-1 * * *", "`3-1` is no hour"),
            ("0 3 0 * *", "`0` is no day of the month"),
            ("0 3 * FOO *", "`FOO` is no month"),
            ("*/0 3 * * *", "`*/0` is no minute"),
            ("0 3 ? * *", "`?` is no day of the month"),
            ("0 3 1 * MON", "takes either a day of the month or a day of the week"),
        ] {
            let wrong = Cron::read(written).unwrap_err();
            assert!(wrong.contains(said), "{written}: {wrong}");
        }
    }
}
