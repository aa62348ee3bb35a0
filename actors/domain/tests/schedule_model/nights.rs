//! Some days around a change of clocks, minute by minute, for expressions that nobody thought of.

use std::collections::BTreeSet;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use escapement_domain::task::trigger::{Dst, Fold, Gap};
use escapement_domain::timestamp::Timestamp;
use proptest::prelude::*;

use super::fields::{Fields, dst, fields};
use super::schedule;

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
