//! What a schedule promises, one claim a test: the grammar, its refusals, and the nights when clocks change.

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{OVERDUE_STEPS_MAX, Schedule, ScheduleError};
use escapement_domain::task::trigger::{Dst, Fold, Gap, IfPast, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

const TASK: TaskId = TaskId(0x0198_7654_3210_7abc_8def_0123_4567_89ab);

fn at(text: &str) -> Timestamp {
    let text = if text.len() == 16 { format!("{text}:00Z") } else { text.to_owned() };
    Timestamp::parse(&text).expect("an instant")
}

fn compile(expression: &str, timezone: &str, dst: Dst) -> Result<Schedule, ScheduleError> {
    let trigger = Trigger::Cron { expression: expression.into(), timezone: timezone.into(), dst };
    Schedule::compile(&trigger, TASK, at("2026-01-01T00:00"))
}

/// Checks the next instants, written as `2026-01-01T00:00` where seconds are zero.
#[track_caller]
fn check_dst(expression: &str, timezone: &str, dst: Dst, from: &str, expected: &[&str]) {
    let schedule = compile(expression, timezone, dst).expect("the expression is good");
    let actual: Vec<String> = schedule
        .between(at(from), Timestamp::MAX)
        .take(expected.len())
        .map(|next| next.to_string().trim_end_matches(".000Z").trim_end_matches(":00").to_owned())
        .collect();
    // A whole hour loses its minutes with its seconds.
    let expected: Vec<&str> = expected.iter().map(|text| text.trim_end_matches(":00")).collect();
    let actual: Vec<&str> = actual.iter().map(|text| text.trim_end_matches(":00")).collect();
    assert_eq!(actual, expected, "{expression} in {timezone}");
}

#[track_caller]
fn check(expression: &str, timezone: &str, from: &str, expected: &[&str]) {
    check_dst(expression, timezone, Dst::default(), from, expected);
}

/// Checks that an expression is refused once, at this column, with these words.
#[track_caller]
fn refuse(expression: &str, column: u32, words: &[&str]) {
    let error = compile(expression, "UTC", Dst::default()).expect_err("the expression is wrong");
    let fault = &error.faults[0];
    assert_eq!((fault.pointer, fault.column), ("/expression", Some(column)), "{expression}: {error}");
    assert_eq!(error.faults.len(), 1, "{error}");
    for word in words {
        assert!(fault.detail.contains(word), "{expression}: {error}");
    }
}

/// Checks that two expressions mean the same.
#[track_caller]
fn same(one: &str, other: &str) {
    let compiled = |expression| compile(expression, "UTC", Dst::default()).expect("the expression is good");
    assert_eq!(compiled(one), compiled(other), "{one} and {other}");
}

#[test]
fn five_fields_mean_what_crontab_means() {
    check("0 2 * * 1-5", "UTC", "2026-11-20T03:00", &["2026-11-23T02:00", "2026-11-24T02:00"]);
    same("0 0 * * 0", "0 0 * * 7");
    same("0 0 * * 0", "0 0 * * sun");
    same("0 0 * * 5-7", "0 0 * * 0,5,6");
    same("0 0 * * 1-7/2", "0 0 * * 0,1,3,5");
    same("\t0   0\t1 jan *  ", "0 0 1 1 *");
    same("1,2,3-5 0 * * *", "1-5 0 * * *");
    same("5/20 * * * *", "5,25,45 * * * *");
}

#[test]
fn restricted_days_mean_either_and_starred_days_mean_both() {
    check(
        "0 0 13 * 5",
        "UTC",
        "2026-11-01T00:00",
        &["2026-11-06T00:00", "2026-11-13T00:00", "2026-11-20T00:00"],
    );
    check("0 0 */10 * 5", "UTC", "2026-11-01T00:00", &["2026-12-11T00:00", "2027-01-01T00:00"]);
    check("0 0 13 * ?", "UTC", "2026-11-01T00:00", &["2026-11-13T00:00", "2026-12-13T00:00"]);
}

#[test]
fn six_fields_begin_with_seconds() {
    check("*/30 59 23 31 12 *", "UTC", "2026-11-01T00:00", &["2026-12-31T23:59", "2026-12-31T23:59:30"]);
}

#[test]
fn nicknames_are_what_they_stand_for() {
    same("@yearly", "0 0 1 1 *");
    same("@annually", "@yearly");
    same("@monthly", "0 0 1 * *");
    same("@weekly", "0 0 * * 0");
    same("@daily", "0 0 * * *");
    same("@midnight", "@DAILY");
    same("@hourly", "0 * * * *");
}

#[test]
fn every_and_at_need_no_fields() {
    check("@every 1h30m", "UTC", "2026-01-01T00:00", &["2026-01-01T01:30", "2026-01-01T03:00"]);
    check("@at 2026-03-01T02:00:00+01:00", "UTC", "2026-01-01T00:00", &["2026-03-01T01:00"]);
    refuse("@every", 7, &["argument", "10m"]);
    refuse("@every 10", 8, &["`10`", "1h30m"]);
    refuse("@every 0s", 8, &["at least 1s"]);
    refuse("@every 999ms", 8, &["at least 1s"]);
    refuse("@every 99999999999999999999h", 8, &["not a duration"]);
    refuse("@every 10m 20m", 12, &["one argument"]);
    refuse("@at tomorrow", 5, &["RFC 3339"]);
}

#[test]
fn names_may_wrap_and_numbers_may_not() {
    same("0 0 * * FRI-SUN", "0 0 * * 0,5,6");
    same("0 0 * * fri-mon", "0 0 * * 0,1,5,6");
    same("0 0 * * SUN-TUE", "0 0 * * 0-2");
    same("0 0 * * SAT-WED/2", "0 0 * * 6,1,3");
    same("0 0 1 NOV-FEB *", "0 0 1 1,2,11,12 *");
    refuse("0 0 * * 5-1", 9, &["day of week", "`5-1` is reversed"]);
    refuse("30-10 * * * *", 1, &["minute", "reversed"]);
}

#[test]
fn days_may_be_counted_from_the_month_s_end() {
    check("0 0 L * *", "UTC", "2028-01-31T00:00", &["2028-02-29T00:00", "2028-03-31T00:00"]);
    check("0 0 L-3 * *", "UTC", "2026-02-01T00:00", &["2026-02-25T00:00", "2026-03-28T00:00"]);
    check("0 0 LW * *", "UTC", "2026-01-01T00:00", &["2026-01-30T00:00", "2026-02-27T00:00"]);
    check("0 0 * * 5L", "UTC", "2026-01-01T00:00", &["2026-01-30T00:00", "2026-02-27T00:00"]);
    same("0 0 * * FRIL", "0 0 * * 5L");
    same("0 0 * * 7L", "0 0 * * sunl");
}

#[test]
fn the_nearest_weekday_stays_within_its_month() {
    // 2026: 15 August is a Saturday, 1 August too, 31 May a Sunday, 15 November a Sunday.
    check("0 0 15W * *", "UTC", "2026-08-01T00:00", &["2026-08-14T00:00", "2026-09-15T00:00"]);
    check("0 0 15W 11 *", "UTC", "2026-08-01T00:00", &["2026-11-16T00:00"]);
    check("0 0 1W 8 *", "UTC", "2026-07-01T00:00", &["2026-08-03T00:00"]);
    check("0 0 31W 5 *", "UTC", "2026-05-01T00:00", &["2026-05-29T00:00"]);
}

#[test]
fn weekdays_may_be_counted_within_the_month() {
    check("0 0 * * 5#3", "UTC", "2026-11-01T00:00", &["2026-11-20T00:00", "2026-12-18T00:00"]);
    check("0 0 ? * MON#5", "UTC", "2026-10-01T00:00", &["2026-11-30T00:00", "2027-03-29T00:00"]);
    same("0 0 * * FRI#3", "0 0 * * 5#3");
    refuse("0 0 * * 5#6", 11, &["day of week", "`6` is not a week of 1 to 5"]);
    refuse("0 0 * * 9#1", 9, &["`9` is out of range", "0 to 7"]);
}

#[test]
fn h_is_spread_over_tasks_and_stays_with_each() {
    let trigger = |expression: &str| Trigger::Cron {
        expression: expression.into(),
        timezone: "UTC".into(),
        dst: Dst::default(),
    };
    let minute_of = |expression: &str, task: u128| {
        let schedule =
            Schedule::compile(&trigger(expression), TaskId(task << 64), Timestamp(0)).expect("good");
        schedule.next_after(Timestamp(0)).expect("it fires").0 / 60_000 % 60
    };
    let minutes: std::collections::BTreeSet<i64> =
        (0..2_000).map(|task| minute_of("H * * * *", task)).collect();
    assert_eq!(minutes.len(), 60);
    assert!((0..500).all(|task| (10..=29).contains(&minute_of("H(10-29) * * * *", task))));
    assert!((0..50).all(|task| minute_of("H * * * *", task) == minute_of("H * * * *", task)));
    let schedule = compile("H/15 * * * *", "UTC", Dst::default()).expect("good");
    let fires: Vec<Timestamp> = schedule.between(at("2026-01-01T00:00"), at("2026-01-02T00:00")).collect();
    assert_eq!(fires.len(), 96);
    assert!(fires.windows(2).all(|pair| pair[1].since(pair[0]) == Span::minutes(15)));
    refuse("H(5 * * * *", 1, &["minute", "H(0-29)"]);
    refuse("H(0-99) * * * *", 5, &["minute", "`99` is out of range"]);
}

#[test]
fn a_prefix_names_the_zone() {
    check("CRON_TZ=Europe/Berlin 0 2 * * *", "UTC", "2026-01-01T12:00", &["2026-01-02T01:00"]);
    check("TZ=Asia/Tokyo @daily", "Asia/Tokyo", "2026-01-01T12:00", &["2026-01-01T15:00"]);
    refuse("TZ=Europe/Berln 0 2 * * *", 4, &["`Europe/Berln`", "Europe/Berlin"]);
    let error = compile("TZ=Asia/Tokyo @daily", "Europe/Berlin", Dst::default()).expect_err("two zones");
    assert_eq!(error.faults[0].pointer, "/timezone");
}

#[test]
fn each_wrong_field_is_named_with_its_place() {
    let error = compile("61 25 0 13 8", "UTC", Dst::default()).expect_err("all wrong");
    let columns: Vec<_> = error.faults.iter().map(|fault| fault.column.expect("a place")).collect();
    assert_eq!(columns, [1, 4, 7, 9, 12]);
    for (fault, name) in error.faults.iter().zip(["minute", "hour", "day of month", "month", "day of week"]) {
        assert!(fault.detail.starts_with(name), "{fault}");
        assert!(fault.detail.contains("it may hold"), "{fault}");
    }
}

#[test]
fn a_wrong_zone_is_reported_beside_a_wrong_field() {
    let error = compile("61 * * * *", "Mars/Olympus", Dst::default()).expect_err("both wrong");
    let pointers: Vec<_> = error.faults.iter().map(|fault| fault.pointer).collect();
    assert_eq!(pointers, ["/expression", "/timezone"]);
    assert!(compile("* * * * *", "", Dst::default()).is_err());
    assert!(compile("* * * * *", "+02:00", Dst::default()).is_err());
}

#[test]
fn bad_input_is_refused_with_what_is_allowed() {
    refuse("", 1, &["empty", "five fields"]);
    refuse("   ", 4, &["empty"]);
    refuse("* * * *", 8, &["4 fields", "five"]);
    refuse("* * * * * * *", 13, &["7 fields", "six"]);
    refuse("99999999999999999999 * * * *", 1, &["out of range", "0 to 59"]);
    refuse("*/0 * * * *", 3, &["`0` is not a step of 1 to 60"]);
    refuse("*/99999999999999999999 * * * *", 3, &["step"]);
    refuse("0 */25 * * *", 5, &["hour", "1 to 24"]);
    refuse("1,,2 * * * *", 3, &["empty"]);
    refuse("1, * * * *", 3, &["empty"]);
    refuse("-5 * * * *", 1, &["not a minute"]);
    refuse("1-2-3 * * * *", 3, &["`2-3` is not a minute"]);
    refuse("1.5 * * * *", 1, &["`1.5`"]);
    refuse("0 0 0 * *", 5, &["day of month", "1 to 31"]);
    refuse("0 0 * foo *", 7, &["`foo` is not a month", "JAN to DEC"]);
    refuse("0 0 * * MONDAY", 9, &["SUN to SAT"]);
    refuse("? * * * *", 1, &["days only"]);
    refuse("L * * * *", 1, &["`L` is not a minute"]);
    refuse("0 0 L-99 * *", 7, &["0 to 30"]);
    refuse("0 0 W * *", 5, &["day of month"]);
    refuse("@fortnightly", 1, &["@weekly"]);
    refuse("@reboot", 1, &["cluster"]);
    refuse("@daily now", 8, &["nothing may follow"]);
    refuse("0 2 * * é", 9, &["`é`"]);
    refuse("0é 2 * * *", 1, &["`0é`"]);
    refuse("\u{2003}é0 2 * * *", 2, &["`é0`"]);
    assert!(compile(&"*".repeat(2_000), "UTC", Dst::default()).is_err());
}

#[test]
fn an_expression_that_can_never_fire_is_refused() {
    refuse("0 0 30 2 *", 5, &["never fire"]);
    refuse("0 0 31 4,6,9,11 *", 5, &["never fire"]);
    refuse("0 0 30 2 */2", 5, &["never fire"]);
    refuse("0 0 L-30 2 *", 5, &["never fire"]);
    // Last Sundays of March at 02:30 do not exist in Berlin, and here they are left out.
    let skip = Dst { gap: Gap::Skip, ..Dst::default() };
    assert!(compile("30 2 25-31 3 */7", "Europe/Berlin", skip).is_err());
    assert!(compile("30 2 25-31 3 */7", "Europe/Berlin", Dst::default()).is_ok());
}

#[test]
fn a_rare_day_is_found_across_a_century_without_leap_days() {
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00", &["2104-02-29T00:00"]);
    check("0 0 29 2 1#5", "UTC", "2097-01-01T00:00", &["2104-02-29T00:00"]);
    check(
        "0 0 29 2 */7",
        "UTC",
        "2026-03-01T00:00",
        &["2032-02-29T00:00", "2060-02-29T00:00", "2088-02-29T00:00"],
    );
}

#[test]
fn the_search_does_not_end_before_the_rarest_day() {
    for weekday in 0..7 {
        let expression = format!("30 2 */28 2 {weekday}#5");
        let schedule =
            compile(&expression, "Europe/Berlin", Dst::default()).expect("it comes every 28 years");
        for year in (2_026..2_720).chain(9_900..9_930) {
            let after = at(&format!("{year}-03-01T00:00"));
            let next =
                schedule.next_after(after).expect("a 29 February of every weekday comes within 40 years");
            assert!(next.since(after) < Span::hours(24 * 366 * 41), "{expression} after {after}: {next}");
        }
    }
}

#[test]
fn a_fixed_time_in_a_gap_fires_once_after_it() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
    check("15,45 2 * * *", "Europe/Berlin", "2026-03-29T00:00", &["2026-03-29T01:00", "2026-03-30T00:15"]);
    check("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T01:00"]);
    check("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", &["2026-03-30T00:00", "2026-03-30T00:30"]);
}

#[test]
fn gaps_follow_the_policy() {
    let with = |gap| Dst { gap, ..Dst::default() };
    let from = "2026-03-28T12:00";
    check_dst("15,45 2 * * *", "Europe/Berlin", with(Gap::Skip), from, &["2026-03-30T00:15"]);
    let shifted = ["2026-03-29T01:15", "2026-03-29T01:45", "2026-03-30T00:15"];
    check_dst("15,45 2 * * *", "Europe/Berlin", with(Gap::Shift), from, &shifted);
    let merged = ["2026-03-29T01:15", "2026-03-30T00:15", "2026-03-30T01:15"];
    check_dst("15 2,3 * * *", "Europe/Berlin", with(Gap::Shift), "2026-03-28T12:00", &merged);
}

#[test]
fn folds_follow_the_policy() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC.
    let with = |fold| Dst { fold, ..Dst::default() };
    let from = "2026-10-24T12:00";
    let (first, second, after) = ("2026-10-25T00:30", "2026-10-25T01:30", "2026-10-26T01:30");
    check_dst("30 2 * * *", "Europe/Berlin", with(Fold::Cron), from, &[first, after]);
    check_dst("30 2 * * *", "Europe/Berlin", with(Fold::First), from, &[first, after]);
    check_dst("30 2 * * *", "Europe/Berlin", with(Fold::Second), from, &[second, after]);
    check_dst("30 2 * * *", "Europe/Berlin", with(Fold::Both), from, &[first, second, after]);
    check_dst("30 * * * *", "Europe/Berlin", with(Fold::Cron), "2026-10-25T00:00", &[first, second]);
    check_dst("30 * * * *", "Europe/Berlin", with(Fold::First), first, &["2026-10-25T02:30"]);
}

#[test]
fn half_an_hour_may_be_missing_or_come_twice() {
    // Lord Howe: 02:00 becomes 02:30 on 4 October 2026 and 01:30 on 5 April 2026.
    let zone = "Australia/Lord_Howe";
    check("15 2 * * *", zone, "2026-10-03T00:00", &["2026-10-03T15:30", "2026-10-04T15:15"]);
    check("45 1 * * *", zone, "2026-04-04T00:00", &["2026-04-04T14:45", "2026-04-05T15:15"]);
    check(
        "*/15 * * * *",
        zone,
        "2026-04-04T14:30",
        &["2026-04-04T14:45", "2026-04-04T15:00", "2026-04-04T15:15"],
    );
}

#[test]
fn midnight_may_be_missing() {
    // Beirut, 29 March 2026: 00:00 becomes 01:00.
    check("0 0 * * *", "Asia/Beirut", "2026-03-28T00:00", &["2026-03-28T22:00", "2026-03-29T21:00"]);
}

#[test]
fn a_whole_day_may_be_missing() {
    // Apia went from 29 to 31 December 2011, from ten hours behind UTC to fourteen ahead.
    let next =
        ["2011-12-29T12:00", "2011-12-29T20:00", "2011-12-30T10:00", "2011-12-30T12:00", "2011-12-30T20:00"];
    check("0 2,10 * * *", "Pacific/Apia", "2011-12-29T11:00", &next);
    check("0 0 30 12 *", "Pacific/Apia", "2011-06-01T00:00", &["2011-12-30T10:00", "2012-12-29T10:00"]);
    check("0 */10 * * *", "Pacific/Apia", "2011-12-29T21:00", &["2011-12-30T06:00", "2011-12-30T10:00"]);
}

#[test]
fn intervals_keep_their_phase_on_both_sides_of_the_anchor() {
    let interval = |every, anchor| {
        let trigger = Trigger::Interval { every, anchor };
        Schedule::compile(&trigger, TASK, at("2026-01-01T00:07")).expect("good")
    };
    let created = interval(Span::minutes(10), None);
    assert_eq!(created.next_after(at("2026-01-01T00:07")), Some(at("2026-01-01T00:17")));
    assert_eq!(created.next_after(at("2030-06-01T12:00")), Some(at("2030-06-01T12:07")));
    let anchored = interval(Span::hours(1), Some(at("2030-01-01T00:30")));
    assert_eq!(anchored.next_after(at("2026-01-01T00:30")), Some(at("2026-01-01T01:30")));
    assert_eq!(interval(Span(u64::MAX), None).next_after(at("2027-01-01T00:00")), None);
    let none = Trigger::Interval { every: Span::ZERO, anchor: None };
    let error = Schedule::compile(&none, TASK, Timestamp(0)).expect_err("no length");
    assert_eq!(error.faults[0].pointer, "/every");
}

#[test]
fn once_is_due_once_and_hands_are_never_due() {
    let once = Trigger::Once { at: at("2026-03-01T02:00"), if_past: IfPast::Refuse };
    let schedule = Schedule::compile(&once, TASK, Timestamp(0)).expect("good");
    assert_eq!(schedule.next_after(Timestamp(0)), Some(at("2026-03-01T02:00")));
    assert_eq!(schedule.next_after(at("2026-03-01T02:00")), None);
    let manual = Schedule::compile(&Trigger::Manual, TASK, Timestamp(0)).expect("good");
    assert_eq!(manual.next_after(Timestamp(0)), None);
}

#[test]
fn what_was_missed_is_counted_up_to_the_bound() {
    let daily = compile("0 2 * * *", "UTC", Dst::default()).expect("good");
    let week = daily.overdue(at("2026-01-01T02:00"), at("2026-01-07T02:00"));
    assert_eq!((week.count, week.complete), (7, true));
    assert_eq!((week.last, week.next), (Some(at("2026-01-07T02:00")), Some(at("2026-01-08T02:00"))));
    let none = daily.overdue(at("2026-01-01T02:00"), at("2026-01-01T01:00"));
    assert_eq!((none.count, none.last, none.next), (0, None, Some(at("2026-01-01T02:00"))));
}

#[test]
fn counting_many_misses_can_be_resumed() {
    let minutely = compile("* * * * *", "UTC", Dst::default()).expect("good");
    let (first, bound) = (at("2026-01-01T00:00"), at("2026-01-11T00:00"));
    let part = minutely.overdue(first, bound);
    assert_eq!((part.count, part.complete), (OVERDUE_STEPS_MAX, false));
    let rest = minutely.overdue(part.next.expect("more is due"), bound);
    assert!(rest.complete);
    assert_eq!(part.count + rest.count, 10 * 1_440 + 1);
    assert_eq!(rest.last, Some(bound));
}

#[test]
fn missed_intervals_are_counted_by_arithmetic() {
    let trigger = Trigger::Interval { every: Span(1), anchor: None };
    let schedule = Schedule::compile(&trigger, TASK, Timestamp(0)).expect("good");
    let missed = schedule.overdue(Timestamp(1), Timestamp(1_000_000_000_000));
    assert_eq!((missed.count, missed.complete), (1_000_000_000_000, true));
    assert_eq!(
        (missed.last, missed.next),
        (Some(Timestamp(1_000_000_000_000)), Some(Timestamp(1_000_000_000_001)))
    );
}

#[test]
fn the_calendar_ends_with_the_year_9999() {
    let daily = compile("0 0 * * *", "Europe/Berlin", Dst::default()).expect("good");
    assert_eq!(daily.next_after(at("9999-12-30T23:00:00Z")), None);
    assert_eq!(daily.next_after(at("9999-12-30T22:59:59Z")), Some(at("9999-12-30T23:00")));
    assert_eq!(daily.next_after(Timestamp(i64::MAX)), None);
    assert_eq!(daily.next_after(Timestamp(i64::MIN)), Some(at("1970-01-01T23:00")));
}
