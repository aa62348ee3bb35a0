//! The evaluator against the `cron` crate, where the two agree: six fields, in UTC, with days of week counted from 1 and
//! at most one of day of month and day of week restricted.
//!
//! What that crate does otherwise is why the evaluator is ours; see [`escapement_domain::schedule`].

use std::str::FromStr;

use chrono::{DateTime, TimeZone, Utc};
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::Schedule;
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::Timestamp;
use proptest::prelude::*;

/// Instants that are compared for each expression.
const COMPARED: usize = 8;
/// The crate knows no year after 2100.
const YEAR_MAX: i32 = 2_095;

/// A field of an expression, counted as crontab does.
#[derive(Clone, Debug)]
enum Field {
    Every,
    EveryNth(u32),
    List(Vec<u32>),
    Range { from: u32, to: u32, step: u32 },
}

impl Field {
    fn text(&self, shift: u32) -> String {
        match self {
            Self::Every => "*".into(),
            Self::EveryNth(step) => format!("*/{step}"),
            Self::List(values) => {
                values.iter().map(|value| (value + shift).to_string()).collect::<Vec<_>>().join(",")
            }
            Self::Range { from, to, step } => format!("{}-{}/{step}", from + shift, to + shift),
        }
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let list = prop::collection::vec(low..=high, 1..4).prop_map(Field::List);
    let range = (low..=high, low..=high, 1..5_u32).prop_map(|(one, other, step)| Field::Range {
        from: one.min(other),
        to: one.max(other),
        step,
    });
    let nth = (1..=(high - low).min(20)).prop_map(Field::EveryNth);
    prop_oneof![3 => Just(Field::Every), 2 => list, 2 => range, 1 => nth]
}

/// Days of month and of week, one of them unrestricted.
fn days() -> impl Strategy<Value = (Field, Field)> {
    prop_oneof![
        field(1, 31).prop_map(|month_day| (month_day, Field::Every)),
        field(0, 6).prop_map(|weekday| (Field::Every, weekday)),
    ]
}

fn ours(expression: &str, from: DateTime<Utc>) -> Option<Vec<DateTime<Utc>>> {
    let trigger =
        Trigger::Cron { expression: expression.into(), timezone: "UTC".into(), dst: Dst::default() };
    let schedule = Schedule::compile(&trigger, TaskId(0), Timestamp(0)).ok()?;
    let from = Timestamp(from.timestamp_millis());
    let instants = schedule.between(from, Timestamp::MAX).take(COMPARED);
    Some(instants.filter_map(Timestamp::to_utc).collect())
}

fn theirs(expression: &str, from: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let schedule = cron::Schedule::from_str(expression).expect("the crate reads it");
    schedule.after(&from).take(COMPARED).collect()
}

#[track_caller]
fn check(fields: [&Field; 5], weekday: &Field, from: DateTime<Utc>) {
    let common = fields.map(|field| field.text(0)).join(" ");
    let (own, other) = (format!("{common} {}", weekday.text(0)), format!("{common} {}", weekday.text(1)));
    let theirs = theirs(&other, from);
    let Some(ours) = ours(&own, from) else {
        // What can never fire is refused here and silent there.
        assert!(theirs.is_empty(), "{own}: {theirs:?}");
        return;
    };
    use chrono::Datelike as _;
    let within = |instants: Vec<DateTime<Utc>>| -> Vec<DateTime<Utc>> {
        instants.into_iter().take_while(|instant| instant.year() <= YEAR_MAX).collect()
    };
    assert_eq!(within(ours), within(theirs), "{own} from {from}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn both_name_the_same_instants(
        second in field(0, 59),
        minute in field(0, 59),
        hour in field(0, 23),
        month in field(1, 12),
        (month_day, weekday) in days(),
        from in 0..3_000_000_000_i64,
    ) {
        let from = Utc.timestamp_opt(from, 0).single().expect("an instant");
        check([&second, &minute, &hour, &month_day, &month], &weekday, from);
    }
}

/// The renumbering on which the comparison rests.
#[test]
fn sunday_is_0_here_and_1_there() {
    let from = Utc.with_ymd_and_hms(2026, 11, 23, 0, 0, 0).single().expect("a Monday");
    let sunday = Utc.with_ymd_and_hms(2026, 11, 29, 0, 0, 0).single().expect("a Sunday");
    assert_eq!(ours("0 0 0 * * 0", from).expect("it compiles").first(), Some(&sunday));
    assert_eq!(ours("0 0 0 * * 7", from).expect("it compiles").first(), Some(&sunday));
    assert_eq!(theirs("0 0 0 * * 1", from).first(), Some(&sunday));
}
