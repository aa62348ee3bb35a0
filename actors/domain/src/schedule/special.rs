//! The items that only day fields know: `L`, `L-3`, `LW`, `15W`, `5L`, `FRI#3`.
//!
//! The weekday nearest to a day never leaves the day's month. `L` alone among the days of the week is Saturday, as
//! Quartz has it. Absent on purpose: ranges and steps of such items; they have no agreed meaning.

use super::field::{Field, Role, Spec, Wrong, number};

/// Reads `item` into `field` if it is special; says whether it was.
pub(super) fn parse(field: &mut Field, spec: &Spec, item: &str) -> Result<bool, Wrong> {
    let upper = item.to_ascii_uppercase();
    match spec.role {
        Role::Plain => Ok(false),
        Role::DayOfMonth if upper.starts_with('L') || upper.ends_with('W') => {
            parse_day_of_month(field, spec, &upper).map(|()| true)
        }
        Role::DayOfWeek if upper.ends_with('L') || upper.contains('#') => {
            parse_day_of_week(field, spec, &upper).map(|()| true)
        }
        Role::DayOfMonth | Role::DayOfWeek => Ok(false),
    }
}

fn parse_day_of_month(field: &mut Field, spec: &Spec, item: &str) -> Result<(), Wrong> {
    let (day, nearest) = match item.strip_suffix('W') {
        Some(day) => (day, true),
        None => (item, false),
    };
    let Some(before) = day.strip_prefix('L') else {
        let (day, _) = spec.value(day)?;
        field.nearest |= 1 << day;
        return Ok(());
    };
    let before = match before.strip_prefix('-') {
        None if before.is_empty() => 0,
        Some(text) => match number(text) {
            Some(days) if days <= 30 => days,
            _ => {
                return Err(Wrong::at(
                    2,
                    format!("`{text}` is not a number of days of 0 to 30 before the last"),
                ));
            }
        },
        None => return Err(Wrong::at(0, format!("`{item}` is not like `L`, `L-3` or `LW`"))),
    };
    if nearest {
        field.nearest_last |= 1 << before;
    } else {
        field.last |= 1 << before;
    }
    Ok(())
}

fn parse_day_of_week(field: &mut Field, spec: &Spec, item: &str) -> Result<(), Wrong> {
    if item == "L" {
        field.bits |= 1 << 6;
        return Ok(());
    }
    if let Some(weekday) = item.strip_suffix('L') {
        field.last_weekdays |= 1 << (spec.value(weekday)?.0 % 7);
        return Ok(());
    }
    let (weekday, nth) = item.split_once('#').unwrap_or((item, ""));
    let bit = 1 << (spec.value(weekday)?.0 % 7);
    match number(nth) {
        Some(nth @ 1..=5) => field.nth_weekdays[nth as usize - 1] |= bit,
        _ => return Err(Wrong::at(weekday.len() + 1, format!("`{nth}` is not a week of 1 to 5"))),
    }
    Ok(())
}
