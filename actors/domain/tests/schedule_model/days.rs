//! Days of every kind (`L`, `W`, `#`), by a walk over all days.

use chrono::{Datelike, Days, NaiveDate, TimeDelta};
use chrono_tz::Tz;
use escapement_domain::task::trigger::Dst;
use escapement_domain::timestamp::Timestamp;
use proptest::prelude::*;

use super::schedule;

/// One item of a day field, and whether a date meets it.
#[derive(Clone, Copy, Debug)]
enum Item {
    Day(u32),
    Last(u32),
    Nearest(u32),
    NearestLast(u32),
    LastWeekday(u32),
    NthWeekday(u32, u32),
    Weekday(u32),
}

impl Item {
    fn text(self) -> String {
        match self {
            Self::Day(day) | Self::Weekday(day) => day.to_string(),
            Self::Last(0) => "L".into(),
            Self::Last(before) => format!("L-{before}"),
            Self::Nearest(day) => format!("{day}W"),
            Self::NearestLast(0) => "LW".into(),
            Self::NearestLast(before) => format!("L-{before}W"),
            Self::LastWeekday(weekday) => format!("{weekday}L"),
            Self::NthWeekday(weekday, nth) => format!("{weekday}#{nth}"),
        }
    }

    fn holds(self, date: NaiveDate) -> bool {
        let length = u32::from(date.num_days_in_month());
        let weekday = date.weekday().num_days_from_sunday();
        match self {
            Self::Day(day) => date.day() == day,
            Self::Last(before) => date.day() + before == length,
            Self::Nearest(day) => nearest(date, day),
            Self::NearestLast(before) => before < length && nearest(date, length - before),
            Self::LastWeekday(wanted) => weekday == wanted % 7 && date.day() + 7 > length,
            Self::NthWeekday(wanted, nth) => weekday == wanted % 7 && date.day().div_ceil(7) == nth,
            Self::Weekday(wanted) => weekday == wanted % 7,
        }
    }
}

/// Says whether `date` is the first of the working days of its month, by distance and then by date, seen from `day`.
fn nearest(date: NaiveDate, day: u32) -> bool {
    let Some(target) = date.with_day(day) else { return false };
    let working = |date: NaiveDate| !matches!(date.weekday().num_days_from_sunday(), 0 | 6);
    let near = [0, -1, 1, -2, 2].map(|distance| target + TimeDelta::days(distance));
    near.into_iter().find(|&near| near.month() == date.month() && working(near)) == Some(date)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn days_of_every_kind_are_those_that_a_walk_over_all_days_finds(
        days in prop::collection::vec(prop_oneof![
            (1..=31_u32).prop_map(Item::Day),
            (0..=30_u32).prop_map(Item::Last),
            (1..=31_u32).prop_map(Item::Nearest),
            (0..=30_u32).prop_map(Item::NearestLast),
        ], 0..3),
        weekdays in prop::collection::vec(prop_oneof![
            (0..=7_u32).prop_map(Item::Weekday),
            (0..=7_u32).prop_map(Item::LastWeekday),
            (0..=7_u32, 1..=5_u32).prop_map(|(weekday, nth)| Item::NthWeekday(weekday, nth)),
        ], 0..3),
        year in 1970..2200_i32,
    ) {
        let text = |items: &[Item]| match items {
            [] => "?".to_owned(),
            items => items.iter().map(|item| item.text()).collect::<Vec<_>>().join(","),
        };
        let expression = format!("0 0 {} * {}", text(&days), text(&weekdays));
        let schedule = schedule(&expression, Tz::UTC, Dst::default()).expect("such days come");
        let first = NaiveDate::from_ymd_opt(year, 1, 1).expect("a date");
        let expected: Vec<NaiveDate> = (0..5 * 365)
            .map(|day| first + Days::new(day))
            .filter(|&date| {
                let any = |items: &[Item]| items.iter().any(|item| item.holds(date));
                match (days.is_empty(), weekdays.is_empty()) {
                    (true, true) => true,
                    (true, false) => any(&weekdays),
                    (false, true) => any(&days),
                    (false, false) => any(&days) || any(&weekdays),
                }
            })
            .collect();
        let midnight = |date: NaiveDate| Timestamp(date.and_time(Default::default()).and_utc().timestamp_millis());
        let end = midnight(first + Days::new(5 * 365 - 1));
        let actual: Vec<Timestamp> = schedule.between(Timestamp(midnight(first).0 - 1), end).collect();
        let expected: Vec<Timestamp> = expected.into_iter().map(midnight).collect();
        prop_assert_eq!(actual, expected, "{}", expression);
    }
}
