//! What schedules mean, as whoever creates a task reads it from `next`: expressions, zones, and nights when clocks change.

use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::definitions::{noop, with};
use crate::harness::development::Development;
use crate::harness::program::{ask, escapement};
use crate::harness::wait::millis;

/// A trigger by an expression.
fn cron(expression: &str, timezone: &str, dst: &Value) -> Value {
    json!({ "type": "cron", "expression": expression, "timezone": timezone, "dst": dst })
}

/// The first fires of a new task with a trigger, from a start on: so much of each as `start` is long.
#[track_caller]
fn fires(api: &Api, trigger: &Value, start: &str, count: usize) -> Vec<String> {
    let task = api.create_id(&with(noop("some", trigger), json!({ "start_at": start })));
    let told = api.get(&format!("/api/scheduled-tasks/{task}/next?count={count}"));
    let instants = told["fires"].as_array().expect("a list").iter();
    instants.map(|fire| fire.as_str().expect("an instant").to_owned()).collect()
}

/// Demands what an expression fires at first, to the minute: `expected` are days of a month with times, by UTC.
#[track_caller]
fn check(api: &Api, trigger: &Value, start: &str, expected: &str) {
    let count = expected.split(", ").count();
    let found: Vec<String> =
        fires(api, trigger, start, count).iter().map(|fire| fire[5..16].replace('T', " ")).collect();
    assert_eq!(found.join(", "), expected, "{trigger}");
}

#[test]
fn each_form_of_an_expression_fires_when_its_manual_says() {
    let development = Development::start();
    let api = development.api();
    for (expression, expected) in [
        // As crontab(5) has it; the day of week from Sunday to Sunday.
        ("0 12 * * 0", "01-04 12:00, 01-11 12:00"),
        ("0 12 * * 7", "01-04 12:00, 01-11 12:00"),
        ("0 12 * * FRI-SUN", "01-02 12:00, 01-03 12:00, 01-04 12:00, 01-09 12:00"),
        ("0 0 1,15 jan-mar/2 *", "01-01 00:00, 01-15 00:00, 03-01 00:00"),
        ("1-10/3,40 0 1 * *", "01-01 00:01, 01-01 00:04, 01-01 00:07, 01-01 00:10, 01-01 00:40, 02-01 00:01"),
        // Restricted together, either day is enough; both must hold if one begins with a star.
        ("0 2 13 * FRI", "01-02 02:00, 01-09 02:00, 01-13 02:00"),
        ("0 2 */2 * MON", "01-05 02:00, 01-19 02:00, 02-09 02:00"),
        // As Quartz has it.
        ("0 0 L * *", "01-31 00:00, 02-28 00:00"),
        ("0 0 L-3 * *", "01-28 00:00, 02-25 00:00"),
        ("0 9 LW * *", "01-30 09:00, 02-27 09:00"),
        ("0 9 15W 2 *", "02-16 09:00"),
        ("0 9 * * 5L", "01-30 09:00, 02-27 09:00"),
        ("0 9 * * FRI#3", "01-16 09:00, 02-20 09:00"),
        ("0 9 ? * MON", "01-05 09:00, 01-12 09:00"),
        // By name.
        ("@yearly", "01-01 00:00"),
        ("@annually", "01-01 00:00"),
        ("@monthly", "01-01 00:00, 02-01 00:00"),
        ("@weekly", "01-04 00:00, 01-11 00:00"),
        ("@daily", "01-01 00:00, 01-02 00:00"),
        ("@midnight", "01-01 00:00, 01-02 00:00"),
        ("@hourly", "01-01 00:00, 01-01 01:00"),
        ("@at 2037-03-01T02:00:00+01:00", "03-01 01:00"),
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", "01-01 00:00, 01-02 00:00"),
        ("TZ=Asia/Kolkata 0 9 * * *", "01-01 03:30, 01-02 03:30"),
    ] {
        check(&api, &json!({ "type": "cron", "expression": expression }), "2037-01-01T00:00:00Z", expected);
    }
    let leap = json!({ "type": "cron", "expression": "0 0 29 2 *" });
    assert_eq!(fires(&api, &leap, "2037-01-01T00:00:00Z", 1), ["2040-02-29T00:00:00.000Z"]);
    let seconds = json!({ "type": "cron", "expression": "*/30 15 10 1 1 *" });
    let expected = ["2037-01-01T10:15:00.000Z", "2037-01-01T10:15:30.000Z"];
    assert_eq!(fires(&api, &seconds, "2037-01-01T00:00:00Z", 2), expected);
    let every =
        fires(&api, &json!({ "type": "cron", "expression": "@every 10m" }), "2037-01-01T00:00:00Z", 2);
    assert_eq!(millis(&json!(every[1])) - millis(&json!(every[0])), 600_000);
}

#[test]
fn a_spread_value_is_the_task_s_own_and_stays_within_its_range() {
    let development = Development::start();
    let api = development.api();
    let trigger = json!({ "type": "cron", "expression": "H H(0-6) * * *" });
    let mut minutes: Vec<i64> = (0..12)
        .map(|_| {
            let fires = fires(&api, &trigger, "2037-01-01T00:00:00Z", 3);
            let fires: Vec<i64> = fires.iter().map(|fire| millis(&json!(fire)) / 60_000).collect();
            assert!(fires.windows(2).all(|pair| pair[1] - pair[0] == 1_440), "the same each day: {fires:?}");
            fires[0] % 1_440
        })
        .collect();
    assert!(minutes.iter().all(|minute| *minute < 7 * 60), "{minutes:?}");
    minutes.sort_unstable();
    minutes.dedup();
    assert!(minutes.len() > 6, "twelve tasks are no herd: {minutes:?}");
}

#[test]
fn each_task_chooses_what_becomes_of_a_time_that_a_night_leaves_out() {
    let development = Development::start();
    let api = development.api();
    let gap = |gap: &str| json!({ "gap": gap });
    // In Berlin 02:00 becomes 03:00, at 01:00 by UTC.
    let berlin = |expression: &str, choice: &str, expected: &str| {
        check(&api, &cron(expression, "Europe/Berlin", &gap(choice)), "2037-03-28T12:00:00Z", expected);
    };
    berlin("30 2 * * *", "cron", "03-29 01:00, 03-30 00:30");
    berlin("*/30 2 * * *", "cron", "03-30 00:00, 03-30 00:30");
    berlin("30 2 * * *", "skip", "03-30 00:30");
    berlin("30 2 * * *", "shift", "03-29 01:30, 03-30 00:30");
    // On Lord Howe Island 02:00 becomes 02:30, at 15:30 by UTC.
    let howe = |choice: &str, expected: &str| {
        let trigger = cron("15 2 * * *", "Australia/Lord_Howe", &gap(choice));
        check(&api, &trigger, "2037-10-03T00:00:00Z", expected);
    };
    howe("cron", "10-03 15:30, 10-04 15:15");
    howe("skip", "10-04 15:15");
    howe("shift", "10-03 15:45, 10-04 15:15");
    // In Beirut midnight becomes 01:00, at 22:00 by UTC.
    let beirut = |choice: &str, expected: &str| {
        check(&api, &cron("30 0 * * *", "Asia/Beirut", &gap(choice)), "2037-03-28T12:00:00Z", expected);
    };
    beirut("cron", "03-28 22:00, 03-29 21:30");
    beirut("skip", "03-29 21:30");
    beirut("shift", "03-28 22:30, 03-29 21:30");
}

#[test]
fn each_task_chooses_what_becomes_of_a_time_that_a_night_has_twice() {
    let development = Development::start();
    let api = development.api();
    let fold = |fold: &str| json!({ "fold": fold });
    // In Berlin 03:00 becomes 02:00, at 01:00 by UTC.
    let berlin = |expression: &str, choice: &str, expected: &str| {
        check(&api, &cron(expression, "Europe/Berlin", &fold(choice)), "2037-10-24T12:00:00Z", expected);
    };
    berlin("30 2 * * *", "cron", "10-25 00:30, 10-26 01:30");
    berlin("*/30 2 * * *", "cron", "10-25 00:00, 10-25 00:30, 10-25 01:00, 10-25 01:30, 10-26 01:00");
    berlin("30 2 * * *", "first", "10-25 00:30, 10-26 01:30");
    berlin("30 2 * * *", "second", "10-25 01:30, 10-26 01:30");
    berlin("30 2 * * *", "both", "10-25 00:30, 10-25 01:30, 10-26 01:30");
    // On Lord Howe Island 02:00 becomes 01:30, at 15:00 by UTC.
    let howe = |choice: &str, expected: &str| {
        let trigger = cron("45 1 * * *", "Australia/Lord_Howe", &fold(choice));
        check(&api, &trigger, "2037-04-04T00:00:00Z", expected);
    };
    howe("cron", "04-04 14:45, 04-05 15:15");
    howe("first", "04-04 14:45, 04-05 15:15");
    howe("second", "04-04 15:15, 04-05 15:15");
    howe("both", "04-04 14:45, 04-04 15:15, 04-05 15:15");
    // In Beirut midnight becomes 23:00 of the day before, at 21:00 by UTC.
    let beirut = |choice: &str, expected: &str| {
        check(&api, &cron("30 23 * * *", "Asia/Beirut", &fold(choice)), "2037-10-24T00:00:00Z", expected);
    };
    beirut("second", "10-24 21:30, 10-25 21:30");
    beirut("both", "10-24 20:30, 10-24 21:30, 10-25 21:30");
}

/// Samoa had no 30 December 2011.
#[test]
fn a_day_that_a_zone_left_out_is_a_gap_too() {
    for (gap, expected) in [
        ("cron", ["2011-12-29T22:00:00.000Z", "2011-12-30T10:00:00.000Z", "2011-12-30T22:00:00.000Z"]),
        ("skip", ["2011-12-29T22:00:00.000Z", "2011-12-30T22:00:00.000Z", "2011-12-31T22:00:00.000Z"]),
        ("shift", ["2011-12-29T22:00:00.000Z", "2011-12-30T22:00:00.000Z", "2011-12-31T22:00:00.000Z"]),
    ] {
        let from = ["--from", "2011-12-29T12:00:00Z", "--count", "3", "--gap", gap];
        let schedule = ["schedule", "preview", "--cron", "0 12 * * *", "--timezone", "Pacific/Apia"];
        let shown = escapement(&[&schedule[..], &from].concat()).expect(0).out;
        let found: Vec<&str> = shown.lines().skip(2).filter_map(|line| line.split("  ").next()).collect();
        assert_eq!(found, expected, "{gap}: {shown}");
        assert!(shown.contains("clocks forward 1d on Dec 30 at 00:00"), "{shown}");
    }
}

#[test]
fn each_wrong_field_of_an_expression_is_named_with_its_place_and_what_it_may_hold() {
    let development = Development::start();
    let api = development.api();
    let refused = |trigger: &Value| -> Vec<(String, String)> {
        let problem = api.post("/api/scheduled-tasks/", &noop("bad", trigger)).expect(422);
        let faults = problem["errors"].as_array().cloned().unwrap_or_default();
        let told = |fault: &Value, part: &str| fault[part].as_str().expect("a text").to_owned();
        faults.iter().map(|fault| (told(fault, "pointer"), told(fault, "detail"))).collect()
    };
    let by = |expression: &str| refused(&json!({ "type": "cron", "expression": expression }));
    let all_wrong = [
        "column 1: second: `60` is out of range; it may hold 0 to 59",
        "column 4: minute: `61` is out of range; it may hold 0 to 59",
        "column 7: hour: `24` is out of range; it may hold 0 to 23",
        "column 10: day of month: `32` is out of range; it may hold 1 to 31",
        "column 13: month: `13` is out of range; it may hold 1 to 12 or JAN to DEC",
        "column 16: day of week: `8` is out of range; it may hold 0 to 7 or SUN to SAT",
    ];
    let faults = by("60 61 24 32 13 8");
    assert_eq!(faults.len(), all_wrong.len(), "{faults:?}");
    for ((pointer, detail), expected) in faults.iter().zip(all_wrong) {
        assert!(pointer == "/trigger/expression" && detail.starts_with(expected), "{expected}: {faults:?}");
    }
    for (expression, expected) in [
        ("0 0 30 2 *", "column 5: it can never fire"),
        ("0 0 31 2,4,6 ?", "column 5: it can never fire"),
        ("* * *", "five (minute, hour, day of month, month, day of week) or six (second first)"),
        ("1-70 * * * *", "column 3: minute: `70` is out of range"),
        ("*/0 * * * *", "column 3: minute: `0` is not a step"),
        ("0 0 * * MON#6", "column 13: day of week: `6` is not a week of 1 to 5"),
        ("@reboot", "`@reboot` means nothing to a cluster"),
        ("@every 5ms", "an interval is at least 1s long"),
    ] {
        let faults = by(expression);
        assert!(faults.len() == 1 && faults[0].1.contains(expected), "{expression}: {faults:?}");
    }
    let both = refused(&cron("CRON_TZ=Asia/Tokyo 0 9 * * *", "Europe/Berlin", &json!({})));
    assert_eq!(both[0].0, "/trigger/timezone", "{both:?}");
    let dst = refused(&cron("@daily", "UTC", &json!({ "gap": "jump", "fold": 2 })));
    let pointers: Vec<&str> = dst.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/trigger/dst/gap", "/trigger/dst/fold"], "{dst:?}");
    assert!(dst[0].1.contains("cron") && dst[0].1.contains("skip") && dst[0].1.contains("shift"), "{dst:?}");
}

#[test]
fn a_schedule_is_told_in_words_with_its_calendars() {
    let development = Development::start();
    let api = development.api();
    ask(&api, &["calendar", "put", "de-holidays", "-f", "-"], Some(r#"{"days": ["12-25"]}"#)).expect(0);
    let trigger = cron("0 2 * * 1-5", "Europe/Berlin", &json!({}));
    let task = api.create_id(&with(noop("nightly", &trigger), json!({ "calendars": ["de-holidays"] })));
    let told = api.get(&format!("/api/scheduled-tasks/{task}/explain"));
    assert_eq!(told["schedule"], "at 02:00 from Monday to Friday, Berlin time; not on de-holidays", "{told}");
    let shown = ask(&api, &["task", "explain", &task], None).expect(0).out;
    assert!(shown.contains("at 02:00 from Monday to Friday, Berlin time; not on de-holidays"), "{shown}");
}

#[test]
fn the_zone_data_s_version_is_shown_and_is_what_tasks_are_planned_by() {
    let development = Development::start();
    let api = development.api();
    let status = api.get("/api/cluster/status");
    let version = status["nodes"][0]["zone_data"].as_str().expect("a version").to_owned();
    assert!(version.len() == 5 && version.starts_with("20"), "such as 2025b: {status}");
    assert_eq!(status["zone_data"], json!(version), "{status}");
    let shown = ask(&api, &["cluster", "status"], None).expect(0).out;
    assert!(shown.contains(&format!("zone data {version}")), "{shown}");
}
