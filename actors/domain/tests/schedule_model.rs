//! Schedules against models too plain to be wrong: one walks over every minute, one over every day.

use std::collections::BTreeSet;

use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike,
    Utc,
};
use chrono_tz::Tz;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{Schedule, describe};
use escapement_domain::task::trigger::{Dst, Fold, Gap, Trigger};
use escapement_domain::timestamp::Timestamp;
use proptest::prelude::*;

const ZONES: [Tz; 20] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::Europe__London,
    Tz::Europe__Dublin,
    Tz::Europe__Lisbon,
    Tz::Europe__Moscow,
    Tz::America__New_York,
    Tz::America__St_Johns,
    Tz::America__Sao_Paulo,
    Tz::America__Santiago,
    Tz::America__Caracas,
    Tz::America__Havana,
    Tz::Africa__Casablanca,
    Tz::Africa__Cairo,
    Tz::Asia__Beirut,
    Tz::Asia__Tehran,
    Tz::Asia__Gaza,
    Tz::Australia__Lord_Howe,
    Tz::Antarctica__Troll,
    Tz::Pacific__Apia,
];

fn schedule(expression: &str, tz: Tz, dst: Dst) -> Option<Schedule> {
    let trigger = Trigger::Cron { expression: expression.into(), timezone: tz.name().into(), dst };
    Schedule::compile(&trigger, TaskId(0), Timestamp(0)).ok()
}

/// A field's text and the values that it names.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: Vec<u32>,
}

impl Field {
    fn starred(&self) -> bool {
        self.text.starts_with('*')
    }

    fn holds(&self, value: u32) -> bool {
        self.values.contains(&value)
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let list = prop::collection::vec(low..=high, 1..4).prop_map(|values| Field {
        text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        values,
    });
    let range = (low..=high, low..=high, 1..4_u32).prop_map(|(one, other, step)| {
        let (from, to) = (one.min(other), one.max(other));
        Field { text: format!("{from}-{to}/{step}"), values: (from..=to).step_by(step as usize).collect() }
    });
    let stars = (1..=(high - low).min(20)).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (low..=high).step_by(step as usize).collect(),
    });
    let star = Just(Field { text: "*".into(), values: (low..=high).collect() });
    prop_oneof![2 => list, 1 => range, 1 => stars, 3 => star]
}

#[derive(Clone, Debug)]
struct Fields([Field; 5]);

impl Fields {
    fn text(&self) -> String {
        self.0.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn wildcard(&self) -> bool {
        self.0[0].starred() || self.0[1].starred()
    }

    fn holds(&self, local: NaiveDateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.0;
        let sunday = local.weekday().num_days_from_sunday();
        let on_weekday = weekday.holds(sunday) || (sunday == 0 && weekday.holds(7));
        let on_day = day.holds(local.day());
        let both = day.starred() || weekday.starred();
        minute.holds(local.minute())
            && hour.holds(local.hour())
            && month.holds(local.month())
            && if both { on_day && on_weekday } else { on_day || on_weekday }
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    // Hours near midnight and three are where clocks change.
    let hour =
        prop_oneof![field(0, 23), field(0, 3).prop_filter("`*` means all hours", |hour| !hour.starred())];
    (field(0, 59), hour, field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| Fields([minute, hour, day, month, weekday]))
}

fn dst() -> impl Strategy<Value = Dst> {
    let gap = prop_oneof![3 => Just(Gap::Cron), 1 => Just(Gap::Skip), 1 => Just(Gap::Shift)];
    let fold = prop_oneof![3 => Just(Fold::Cron), 1 => Just(Fold::First), 1 => Just(Fold::Second), 1 => Just(Fold::Both)];
    (gap, fold).prop_map(|(gap, fold)| Dst { gap, fold })
}

fn local(tz: Tz, minute: i64) -> NaiveDateTime {
    let utc = DateTime::<Utc>::from_timestamp(minute * 60, 0).expect("within the calendar");
    utc.with_timezone(&tz).naive_local()
}

/// Returns the minute of the first change of clocks within 400 days, or the start itself.
fn change_near(tz: Tz, start: i64) -> i64 {
    let offset = |minute: i64| {
        let utc = DateTime::<Utc>::from_timestamp(minute * 60, 0).expect("within the calendar");
        tz.offset_from_utc_datetime(&utc.naive_utc()).fix()
    };
    let first = offset(start);
    let day = (0..400).map(|day| start + day * 1_440).find(|&minute| offset(minute) != first);
    let hours = day.map(|day| (0..24).map(move |hour| day - 1_380 + hour * 60));
    hours.and_then(|mut hours| hours.find(|&minute| offset(minute) != first)).unwrap_or(start)
}

/// Every minute after `from` and up to `to` at which the fields are due, found by looking at each.
fn minutes_due(fields: &Fields, tz: Tz, dst: Dst, from: i64, to: i64) -> Vec<i64> {
    let minute = TimeDelta::minutes(1);
    let mut due = BTreeSet::new();
    for now in from - 2 * 1_440..=to {
        let (before, here) = (local(tz, now - 1), local(tz, now));
        let missing = std::iter::successors(Some(before + minute), |&gone| Some(gone + minute));
        for gone in missing.take_while(|&gone| gone < here).filter(|&gone| fields.holds(gone)) {
            match dst.gap {
                Gap::Cron if fields.wildcard() => {}
                Gap::Cron => drop(due.insert(now)),
                Gap::Skip => {}
                Gap::Shift => drop(due.insert(now - 1 + (gone - before).num_minutes())),
            }
        }
        let (first, second) = match tz.from_local_datetime(&here) {
            LocalResult::Ambiguous(first, _) => {
                (first.timestamp() == now * 60, first.timestamp() != now * 60)
            }
            _ => (true, true),
        };
        let wanted = match dst.fold {
            Fold::Cron if fields.wildcard() => true,
            Fold::Cron | Fold::First => first,
            Fold::Second => second,
            Fold::Both => true,
        };
        if wanted && fields.holds(here) {
            due.insert(now);
        }
    }
    due.range(from + 1..=to).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_schedule_names_the_minutes_that_a_walk_over_all_minutes_finds(
        fields in fields(),
        tz in prop::sample::select(&ZONES[..]),
        dst in dst(),
        start in 1_100_000..37_000_000_i64,
        lead in 0..1_500_i64,
    ) {
        // From 1972, when the last offset of odd seconds went, to 2040.
        let from = change_near(tz, start) - lead;
        let to = from + 3 * 1_440;
        if let Some(schedule) = schedule(&fields.text(), tz, dst) {
            let actual: Vec<i64> = schedule
                .between(Timestamp(from * 60_000), Timestamp(to * 60_000))
                .map(|instant| instant.0 / 60_000)
                .collect();
            prop_assert_eq!(actual, minutes_due(&fields, tz, dst, from, to), "{} in {}", fields.text(), tz);
        }
    }

    #[test]
    fn every_next_is_later_and_no_question_in_between_is_answered_differently(
        fields in fields(),
        tz in prop::sample::select(&ZONES[..]),
        dst in dst(),
        start in 0..200_000_000_000_000_i64,
        part in 0..1_000_i64,
    ) {
        if let Some(schedule) = schedule(&fields.text(), tz, dst) {
            let mut now = Timestamp(start);
            for _ in 0..20 {
                let Some(next) = schedule.next_after(now) else { break };
                prop_assert!(next > now);
                let between = Timestamp(now.0 + (next.0 - 1 - now.0) / 1_000 * part);
                prop_assert_eq!(schedule.next_after(between), Some(next));
                prop_assert_eq!(schedule.next_after(Timestamp(next.0 - 1)), Some(next));
                now = next;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_either_compiled_or_refused_with_a_place(
        text in prop_oneof![
            any::<String>(),
            "(TZ=[A-Z]{2,3} )?[-0-9*/,#?()HLWa-z]{1,6}( [-0-9*/,#?HLWSUNMO]{1,5}){4,5}",
            "@[a-z]{1,6} ?[0-9a-z]{0,8}",
        ],
        now in 0..200_000_000_000_000_i64,
    ) {
        let trigger = Trigger::Cron { expression: text.clone(), timezone: "UTC".into(), dst: Dst::default() };
        prop_assert!(!describe(&trigger).is_empty());
        match Schedule::compile(&trigger, TaskId(1), Timestamp(0)) {
            Ok(schedule) => prop_assert!(schedule.next_after(Timestamp(now)).is_none_or(|next| next.0 > now)),
            Err(error) => {
                prop_assert!(!error.faults.is_empty());
                for fault in error.faults {
                    let column = fault.column.expect("each fault of an expression has a place") as usize;
                    prop_assert!((1..=text.chars().count() + 1).contains(&column), "{} of {:?}", column, text);
                }
            }
        }
    }
}

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
