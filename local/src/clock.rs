//! When a schedule runs next: EventBridge Scheduler's `cron(...)`, in its time zone.

use cronexpr::MakeTimestamp;
use shared::Time;

/// Whether there is a time zone of this name.
#[must_use]
pub fn is_a_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}

/// The first run after this moment, if there ever is one.
///
/// # Errors
/// The expression or the time zone is none.
pub fn next(expression: &str, zone: &str, after: Time) -> Result<Option<Time>, String> {
    let wrong = || format!("Invalid Schedule Expression {expression}.");
    let inner = expression.strip_prefix("cron(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
    let fields: Vec<&str> = inner.split_whitespace().collect();
    let [minute, hour, day, month, weekday, "*"] = fields.as_slice() else { return Err(wrong()) };
    if (*day == "?") == (*weekday == "?") {
        return Err(wrong());
    }
    jiff::tz::TimeZone::get(zone).map_err(|_| format!("Invalid ScheduleExpressionTimezone {zone}."))?;
    let any = |field: &str| if field == "?" { "*".to_owned() } else { field.to_owned() };
    // Scheduler's week begins with 1 on Sunday, a crontab's with 0.
    let weekday: String = any(weekday);
    let weekday: String = weekday.split_inclusive([',', '-', '/']).map(shifted).collect::<Vec<_>>().concat();
    let crontab = format!("{minute} {hour} {} {month} {weekday} {zone}", any(day));
    let crontab = cronexpr::parse_crontab(&crontab).map_err(|_| wrong())?;
    let millis = i64::try_from(after.millis()).map_err(|_| wrong())?;
    let from = MakeTimestamp::from_millisecond(millis).map_err(|_| wrong())?;
    let found = crontab.find_next(from).ok();
    Ok(found.and_then(|at| u64::try_from(at.timestamp().as_millisecond()).ok()).map(Time::from_millis))
}

/// A day of the week with what stands behind it; a step (`/2`) stays as it is, since nothing but a range stands before one.
fn shifted(part: &str) -> String {
    let (number, rest) = part.split_at(part.find([',', '-', '/']).unwrap_or(part.len()));
    match number.parse::<u32>() {
        Ok(day @ 1..=7) => format!("{}{rest}", day - 1),
        Ok(_) | Err(_) => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use shared::manifest::Cron;

    use super::*;

    /// 2023-11-14T22:13:20Z, a Tuesday.
    const NOW: Time = Time::from_millis(1_700_000_000_000);

    #[test]
    fn the_next_run_is_found_in_the_schedules_own_time_zone() {
        for (crontab, zone, expected) in [
            ("0 3 * * *", "UTC", "2023-11-15T03:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2023-11-15T02:00:00Z"),
            ("0 3 1 7 *", "Europe/Berlin", "2024-07-01T01:00:00Z"),
            ("*/15 * * * *", "UTC", "2023-11-14T22:15:00Z"),
            ("0 0 * * SUN", "UTC", "2023-11-19T00:00:00Z"),
            ("0 0 * * 1-5", "UTC", "2023-11-15T00:00:00Z"),
            ("0 0 * * 6,7", "UTC", "2023-11-18T00:00:00Z"),
        ] {
            let expression = Cron::read(crontab).unwrap().expression();
            let found = next(&expression, zone, NOW).unwrap().unwrap();
            assert_eq!(found.to_string(), expected, "{crontab} {zone}");
        }
    }

    #[test]
    fn an_hour_that_the_change_of_time_leaves_out_is_no_reason_to_stop() {
        // On 2024-03-31 there is no 02:30 in Berlin.
        let before = Time::from_millis(1_711_839_600_000);
        let expression = Cron::read("30 2 * * *").unwrap().expression();
        let found = next(&expression, "Europe/Berlin", before).unwrap().unwrap();
        assert!(found > before);
    }

    #[test]
    fn what_is_no_schedule_is_refused_and_what_never_comes_is_none() {
        assert_eq!(
            next("cron(0 3 * * ? *)", "Mars/Olympus", NOW).unwrap_err(),
            "Invalid ScheduleExpressionTimezone Mars/Olympus."
        );
        for expression in
            ["0 3 * * *", "cron(0 3 * * * *)", "cron(0 3 ? * ? *)", "cron(0 3 * * ?)", "cron(0 25 * * ? *)"]
        {
            assert!(next(expression, "UTC", NOW).is_err(), "{expression}");
        }
        assert_eq!(next("cron(0 3 31 2 ? *)", "UTC", NOW), Ok(None));
    }
}
