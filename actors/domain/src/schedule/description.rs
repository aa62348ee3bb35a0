//! A trigger in English, for whoever reads what someone else scheduled.
//!
//! The sentence says what the trigger means, not how it is spelt: `0 2 * * 1-5` and `0 2 ? * MON-FRI` read alike.
//! Absent on purpose: nights when clocks change, and the choices of `H`, which belong to a task and not a trigger.

use super::expression::{self, Body, Fields};
use super::field::{Field, HOUR, MINUTE, MONTH, SECOND, Spec};
use super::timezone;
use crate::task::trigger::{AfterCondition, Trigger};
use crate::timestamp::{Span, Timestamp};

/// Up to this many times of day are written out.
const TIMES_MAX: usize = 6;
const WEEKDAYS: [&str; 8] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// Says in English when a trigger fires, such as `at 02:00 from Monday to Friday, Berlin time`.
///
/// Whatever the trigger holds gets a sentence: one that does not compile is called unreadable.
#[must_use]
pub fn describe(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Cron { expression, timezone, .. } => describe_cron(expression, timezone),
        Trigger::Interval { every, anchor: None } => describe_interval(*every),
        Trigger::Interval { every, anchor: Some(anchor) } => {
            format!("{}, counted from {anchor}", describe_interval(*every))
        }
        Trigger::Once { at, .. } => describe_once(*at),
        Trigger::Event { name, filter } => {
            let conditions: Vec<String> =
                filter.iter().map(|(pointer, value)| format!("{pointer} is {value}")).collect();
            let filter =
                if conditions.is_empty() { String::new() } else { format!(" whose {}", joined(&conditions)) };
            format!("when an event `{name}` arrives{filter}")
        }
        Trigger::After { tasks, condition } => {
            let tasks = if tasks.len() == 1 {
                "the awaited task".into()
            } else {
                format!("the {} awaited tasks", tasks.len())
            };
            match condition {
                AfterCondition::AllSucceeded => format!("when {tasks} succeeded"),
                AfterCondition::AllDone => format!("when {tasks} ended"),
                AfterCondition::AnyFailed => format!("when {tasks} ended and a failure was among them"),
            }
        }
        Trigger::Manual => "only by hand".into(),
    }
}

fn describe_interval(every: Span) -> String {
    format!("every {every}")
}

fn describe_once(at: Timestamp) -> String {
    format!("once, at {at}")
}

fn describe_cron(expression: &str, timezone: &str) -> String {
    let Ok(parsed) = expression::parse(expression, &|_, _| 0) else {
        return format!("at times that cannot be read from `{expression}`");
    };
    let fields = match parsed.body {
        Body::Every(every) => return describe_interval(every),
        Body::At(at) => return describe_once(at),
        Body::Fields(fields) => fields,
    };
    let zone = parsed.zone.map_or_else(
        || {
            timezone::parse(timezone)
                .map_or_else(|_| format!("in the unknown zone `{timezone}`"), timezone::spoken)
        },
        timezone::spoken,
    );
    let clock = clock(&fields);
    let days = match (month_days(&fields.month_day), weekdays(&fields.weekday)) {
        (None, None) if clock.starts_with("at ") && !clock.ends_with("every hour") => {
            Some("every day".into())
        }
        (None, None) => None,
        (Some(days), None) | (None, Some(days)) => Some(days),
        (Some(days), Some(weekdays)) if fields.month_day.starred || fields.weekday.starred => {
            Some(format!("{days}, but only {weekdays},"))
        }
        (Some(days), Some(weekdays)) => Some(format!("{days} or {weekdays}")),
    };
    let parts: Vec<String> = [Some(clock), days, months(&fields.month)].into_iter().flatten().collect();
    format!("{}, {zone}", parts.join(" ").trim_end_matches(','))
}

fn clock(fields: &Fields) -> String {
    let (seconds, minutes, hours) = (values(&fields.second), values(&fields.minute), values(&fields.hour));
    let on_the_minute = seconds == [0];
    let spread = fields.second.spread || fields.minute.spread || fields.hour.spread;
    if !spread && seconds.len() * minutes.len() * hours.len() <= TIMES_MAX {
        let mut times = Vec::new();
        for hour in &hours {
            for minute in &minutes {
                times.extend(seconds.iter().map(|second| {
                    if on_the_minute {
                        format!("{hour:02}:{minute:02}")
                    } else {
                        format!("{hour:02}:{minute:02}:{second:02}")
                    }
                }));
            }
        }
        return format!("at {}", joined(&times));
    }
    if on_the_minute && minutes == [0] && !fields.minute.spread {
        return match part(&HOUR, &fields.hour) {
            Part::All => "every hour".into(),
            Part::Step(step) => format!("every {step} hours"),
            Part::Range(from, to) => format!("every hour from {from:02}:00 to {to:02}:00"),
            other => format!("at the full hour {}", hour_phrase(&other)),
        };
    }
    let minute = part(&MINUTE, &fields.minute);
    let mut phrases = Vec::new();
    if !on_the_minute {
        phrases.push(phrase("second", &part(&SECOND, &fields.second)));
    }
    if on_the_minute || minute != Part::All {
        phrases.push(phrase("minute", &minute));
    }
    let hour = part(&HOUR, &fields.hour);
    let frequent = matches!(minute, Part::All | Part::Step(_));
    if hour != Part::All {
        phrases.push(hour_phrase(&hour));
    } else if !frequent {
        phrases.push("of every hour".into());
    }
    phrases.join(" ")
}

/// The shape of the values that a field of the clock names.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    All,
    Step(usize),
    Range(u32, u32),
    List(Vec<u32>),
    Spread,
}

fn part(spec: &Spec, field: &Field) -> Part {
    let values = values(field);
    let count = (spec.high + 1 - spec.low) as usize;
    if field.spread {
        return if field.spread_step && count.is_multiple_of(values.len()) {
            Part::Step(count / values.len())
        } else {
            Part::Spread
        };
    }
    if values.len() == count {
        return Part::All;
    }
    let step = count / values.len();
    let even = values.iter().zip((spec.low..).step_by(step)).all(|(&value, expected)| value == expected);
    if even && step > 1 && values.len() > 1 && values.len() * step == count {
        return Part::Step(step);
    }
    match contiguous(&values) {
        Some((from, to)) => Part::Range(from, to),
        None => Part::List(values),
    }
}

fn phrase(unit: &str, part: &Part) -> String {
    match part {
        Part::All => format!("every {unit}"),
        Part::Step(step) => format!("every {step} {unit}s"),
        Part::Range(from, to) => format!("every {unit} from {from} to {to}"),
        Part::List(values) if values.len() == 1 => format!("at {unit} {}", values[0]),
        Part::List(values) => format!("at {unit}s {}", joined(values)),
        Part::Spread => format!("at a {unit} of its own"),
    }
}

fn hour_phrase(part: &Part) -> String {
    match part {
        Part::All => "of every hour".into(),
        Part::Step(step) => format!("in every hour divisible by {step}"),
        Part::Range(from, to) => format!("from {from:02}:00 to {to:02}:59"),
        Part::List(values) if values.len() == 1 => format!("past {:02}:00", values[0]),
        Part::List(values) => format!("in the hours {}", joined(values)),
        Part::Spread => "in an hour of its own".into(),
    }
}

fn month_days(field: &Field) -> Option<String> {
    let days = values(field);
    let mut parts = Vec::new();
    if days.len() == 31 {
        return None;
    }
    if field.spread {
        parts.push("on a day of its own".into());
    } else if let Some((from, to)) = contiguous(&days) {
        parts.push(format!("from day {from} to {to} of the month"));
    } else if !days.is_empty() {
        parts.push(format!(
            "on day{} {} of the month",
            if days.len() == 1 { "" } else { "s" },
            joined(&days)
        ));
    }
    for before in numbers(field.last.into()) {
        parts.push(match before {
            0 => "on the last day of the month".into(),
            1 => "on the last day but one of the month".into(),
            _ => format!("{before} days before the last of the month"),
        });
    }
    parts.extend(
        numbers(field.nearest.into()).map(|day| format!("on the weekday nearest to day {day} of the month")),
    );
    parts.extend(numbers(field.nearest_last.into()).map(|before| match before {
        0 => "on the last weekday of the month".into(),
        _ => format!("on the weekday nearest to {before} days before the last of the month"),
    }));
    Some(parts.join(" or "))
}

fn weekdays(field: &Field) -> Option<String> {
    let name = |weekday: &u32| WEEKDAYS[*weekday as usize];
    // Weeks begin on Monday here, so that Friday to Sunday is one stretch.
    let mut days: Vec<u32> = values(field).into_iter().map(|day| if day == 0 { 7 } else { day }).collect();
    days.sort_unstable();
    if days.len() == 7 {
        return None;
    }
    let mut parts = Vec::new();
    if field.spread {
        parts.push("on a weekday of its own".into());
    } else if let Some((from, to)) = contiguous(&days) {
        parts.push(format!("from {} to {}", name(&from), name(&to)));
    } else if !days.is_empty() {
        parts.push(format!("on {}", joined(&days.iter().map(name).collect::<Vec<_>>())));
    }
    for (ordinal, weekdays) in ORDINALS.iter().zip(field.nth_weekdays) {
        parts.extend(
            numbers(weekdays.into()).map(|day| format!("on the {ordinal} {} of the month", name(&day))),
        );
    }
    parts.extend(
        numbers(field.last_weekdays.into()).map(|day| format!("on the last {} of the month", name(&day))),
    );
    Some(parts.join(" or "))
}

fn months(field: &Field) -> Option<String> {
    let months = values(field);
    let name = |month: &u32| MONTHS[*month as usize - 1];
    if months.len() == (MONTH.high + 1 - MONTH.low) as usize {
        None
    } else if field.spread {
        Some("in a month of its own".into())
    } else if let Some((from, to)) = contiguous(&months) {
        Some(format!("from {} to {}", name(&from), name(&to)))
    } else {
        Some(format!("in {}", joined(&months.iter().map(name).collect::<Vec<_>>())))
    }
}

fn values(field: &Field) -> Vec<u32> {
    numbers(field.bits).collect()
}

fn numbers(mask: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| mask & (1 << bit) != 0)
}

/// Returns the ends of three or more values without a hole.
fn contiguous(values: &[u32]) -> Option<(u32, u32)> {
    let (&first, &last) = (values.first()?, values.last()?);
    (values.len() > 2 && (last - first) as usize == values.len() - 1).then_some((first, last))
}

fn joined<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::trigger::Dst;

    #[track_caller]
    fn check(expression: &str, expected: &str) {
        let timezone = "Europe/Berlin".into();
        let trigger = Trigger::Cron { expression: expression.into(), timezone, dst: Dst::default() };
        assert_eq!(describe(&trigger), expected, "{expression}");
    }

    #[test]
    fn times_of_day_are_written_as_on_a_clock() {
        check("0 2 * * 1-5", "at 02:00 from Monday to Friday, Berlin time");
        check("0,30 9,17 * * *", "at 09:00, 09:30, 17:00 and 17:30 every day, Berlin time");
        check("15 30 2 * * *", "at 02:30:15 every day, Berlin time");
        check("TZ=America/New_York @daily", "at 00:00 every day, New York time");
    }

    #[test]
    fn frequent_times_are_told_by_their_distance() {
        check("* * * * *", "every minute, Berlin time");
        check("*/15 * * * *", "every 15 minutes, Berlin time");
        check("0 * * * *", "every hour, Berlin time");
        check("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day, Berlin time");
        check("0 */2 * * *", "every 2 hours, Berlin time");
        check(
            "*/15 9-17 * * MON-FRI",
            "every 15 minutes from 09:00 to 17:59 from Monday to Friday, Berlin time",
        );
        check("*/10 * * * * *", "every 10 seconds, Berlin time");
        check("5 * * * *", "at minute 5 of every hour, Berlin time");
        check("H/15 * * * *", "every 15 minutes, Berlin time");
        check("H H(0-6) * * *", "at a minute of its own in an hour of its own every day, Berlin time");
    }

    #[test]
    fn days_are_named_as_people_name_them() {
        check("0 2 L * *", "at 02:00 on the last day of the month, Berlin time");
        check("0 2 ? * FRI#3", "at 02:00 on the third Friday of the month, Berlin time");
        check("0 2 ? * 5L", "at 02:00 on the last Friday of the month, Berlin time");
        check("0 2 LW 1-3 ?", "at 02:00 on the last weekday of the month from January to March, Berlin time");
        check("0 2 13 * FRI", "at 02:00 on day 13 of the month or on Friday, Berlin time");
        check(
            "0 2 */2 * FRI-SUN",
            "at 02:00 on days 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31 of the \
             month, but only from Friday to Sunday, Berlin time",
        );
    }

    #[test]
    fn what_cannot_be_read_is_called_that() {
        check("whenever", "at times that cannot be read from `whenever`");
        assert_eq!(describe(&Trigger::Manual), "only by hand");
        assert_eq!(describe(&Trigger::Interval { every: Span::minutes(90), anchor: None }), "every 1h30m");
    }
}
