//! The load to come, as a cluster's clients see it.

use serde_json::{Value, json};

use crate::harness::definitions::{manual, noop};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::wait::now_ms;

fn daily(name: &str, expression: &str) -> Value {
    noop(name, &json!({ "type": "cron", "expression": expression }))
}

#[test]
fn a_herd_is_seen_before_it_stampedes() {
    let development = Development::start();
    let api = development.api();
    // Far from now, so that two days hold two fires.
    let hour = (now_ms() / 3_600_000 + 6) % 24;
    let herd = format!("0 {hour} * * *");
    for number in 0..5 {
        api.create_id(&daily(&format!("herd {number}"), &herd));
    }
    let paused = api.create_id(&daily("paused", &herd));
    api.post(&format!("/api/scheduled-tasks/{paused}/pause"), &Value::Null).expect(200);
    let alone =
        format!("/api/scheduled-tasks/{}", api.create_id(&daily("alone", &format!("30 {hour} * * *"))));
    api.create_id(&noop("by hand", &manual()));
    let load = api.get("/api/schedules/forecast?horizon=2d");
    let fires: Vec<u64> =
        load["counts"].as_array().expect("a row").iter().filter_map(Value::as_u64).collect();
    assert_eq!(fires.len(), 2 * 1_440);
    assert_eq!((fires.iter().sum::<u64>(), fires.iter().max()), (12, Some(&5)), "{load}");
    let at = load["peak"]["at"].as_str().expect("an instant");
    assert!(at.ends_with(&format!("T{hour:02}:00:00.000Z")), "{at}");
    // What is skipped by hand is not counted, and what is moved where it runs.
    let next = api.get(&format!("{alone}/next?count=2"))["fires"].clone();
    for change in [
        json!({ "at": next[0], "do": "skip" }),
        json!({ "at": next[1], "do": "move", "to": next[1].as_str().expect("an instant").replace(":30:", ":00:") }),
    ] {
        api.post(&format!("{alone}/occurrences"), &change).expect(200);
    }
    let changed = api.get("/api/schedules/forecast?horizon=2d");
    let mut counts: Vec<&Value> = changed["counts"].as_array().expect("a row").iter().collect();
    counts.retain(|count| **count != 0);
    assert_eq!(counts, [&json!(5), &json!(6)], "{changed}");
    for at in next.as_array().expect("two") {
        api.post(&format!("{alone}/occurrences"), &json!({ "at": at, "do": "restore" })).expect(200);
    }
    let asked = ["schedule", "forecast", "--horizon", "2d", "--all"];
    let told = ask(&api, &[&asked[..], &["--output", "json"]].concat(), None).expect(0).json();
    assert_eq!((&told["peak"], &told["complete"]), (&load["peak"], &json!(true)));
    assert_eq!(told["tenants"].as_array().map(Vec::len), Some(1));
    let shown = ask(&api, &asked, None).expect(0).out;
    assert!(shown.starts_with("12 fires of 7 tasks, by 1m\n") && shown.contains("##"), "{shown}");
    assert!(ask(&api, &["schedule", "forecast", "--horizon", "8d"], None).expect(1).err.contains("7d"));
}
