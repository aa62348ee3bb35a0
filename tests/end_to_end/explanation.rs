//! Why a task ran, or did not, as people and their programs ask.

use serde_json::{Value, json};

use crate::harness::api::text;
use crate::harness::definitions::{await_count, noop, with};
use crate::harness::development::Development;
use crate::harness::program::ask;

#[test]
fn an_instant_is_explained_over_the_api_and_on_the_command_line() {
    let development = Development::start();
    let api = development.api();
    let beat = json!({ "type": "interval", "every": "1s", "anchor": "2026-01-01T00:00:00Z" });
    let task = api.create_id(&noop("beat", &beat));
    let ran = await_count(&api, &task, "succeeded", 2);
    let (at, id) = (text(&ran[0], "scheduled_at"), text(&ran[0], "id"));
    let told = api.get(&format!("/api/scheduled-tasks/{task}/explain?at={at}"));
    assert_eq!(told["schedule"], "every 1s, counted from 2026-01-01T00:00:00.000Z");
    let instant = &told["instant"];
    assert!(["on_time", "late"].contains(&text(instant, "status").as_str()), "{told}");
    assert_eq!((&instant["execution_id"], &instant["log_index"]), (&json!(id), &ran[0]["log_index"]));
    let shown = ask(&api, &["task", "explain", &task, "--at", &at], None).expect(0).out;
    for words in ["every 1s", "active", &at, &id, "it fired"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let never = at.replace(".000Z", ".001Z");
    let json =
        ask(&api, &["task", "explain", &task, "--at", &never, "--output", "json"], None).expect(0).json();
    assert_eq!(json["instant"]["status"], "not_an_instant", "{json}");
    api.post(&format!("/api/scheduled-tasks/{task}/pause"), &Value::Null).expect(200);
    let told = api.get(&format!("/api/scheduled-tasks/{task}/explain"));
    assert_eq!(told["waits_for"][0]["reason"], "paused", "{told}");
    assert_eq!(told["next"], json!([]));
    let gone = ["task", "explain", "0190d1c2-0000-7000-8000-000000000000"];
    assert!(ask(&api, &gone, None).expect(1).err.contains("no such task"));
}

#[test]
fn fires_to_come_are_told_on_the_tasks_own_clock() {
    let development = Development::start();
    let api = development.api();
    let trigger = json!({ "type": "cron", "expression": "CRON_TZ=Europe/Berlin 30 2 * * *" });
    let task = noop("nightly", &trigger);
    let start = json!({ "start_at": "2037-03-28T12:00:00Z" });
    let task = api.create_id(&with(task, start));
    let shown = ask(&api, &["task", "next", &task, "--count", "2"], None).expect(0).out;
    let expected = "\
UTC                       LOCAL (Europe/Berlin)
2037-03-29T01:00:00.000Z  2037-03-29T03:00:00.000+02:00  clocks forward 1h on Mar 29 at 02:00
2037-03-30T00:30:00.000Z  2037-03-30T02:30:00.000+02:00
";
    assert_eq!(shown, expected);
}
