//! Proof of schedule: every instant accounted for, from a running node and from its log at rest.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{items, text};
use crate::harness::definitions::{await_count, every_second, executions, noop, with};
use crate::harness::development::Development;
use crate::harness::program::{ask, escapement};
use crate::harness::wait::{instant_in, now_ms, until};

/// The instants of an account that have the status.
fn with_status<'a>(account: &'a Value, status: &str) -> Vec<&'a Value> {
    account["items"].as_array().into_iter().flatten().filter(|fire| fire["status"] == status).collect()
}

#[test]
fn a_task_that_ran_is_proved_by_a_node_and_by_its_log_at_rest() {
    let mut development = Development::start();
    let api = development.api();
    let from = instant_in(-1_000);
    let task = api.create_id(&noop("beat", &every_second()));
    await_count(&api, &task, "succeeded", 3);
    api.post(&format!("/api/scheduled-tasks/{task}/pause"), &Value::Null).expect(200);
    let ran = await_count(&api, &task, "succeeded", 3);
    let to = text(&ran[0], "scheduled_at").replace('Z', "+00:00");
    let range = ["audit", "fires", "--from", &from, "--to", &to, "--output", "json"];
    let account = ask(&api, &range, None).expect(0).json();
    let fired = [with_status(&account, "on_time"), with_status(&account, "late")].concat();
    // The last one lies at the end of the range, and so not in it.
    assert_eq!(fired.len(), ran.len() - 1, "{account}");
    for (fire, execution) in fired.iter().rev().zip(&ran[1..]) {
        assert_eq!((&fire["execution_id"], &fire["log_index"]), (&execution["id"], &execution["log_index"]));
    }
    assert_eq!(account["totals"]["missed"], 0);
    let shown = ask(&api, &range[..6], None).expect(0).out;
    assert!(shown.contains(" 0 missed") && shown.contains(&task), "{shown}");
    let listed =
        api.get(&format!("/api/audit/fires?from={from}&to={}&task={task}", text(&ran[0], "scheduled_at")));
    assert_eq!(items(&listed), account["items"].as_array().cloned().unwrap_or_default());
    assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
    let data = development.data().display().to_string();
    let stopped = escapement(&[&range[..], &["--data", &data]].concat()).expect(0).json();
    assert_eq!(stopped["items"], account["items"]);
}

#[test]
fn what_an_outage_cost_is_a_miss_and_ends_with_one() {
    let mut development = Development::start();
    let api = development.api();
    let from = instant_in(0);
    let misfire = json!({ "misfire": { "policy": "skip", "grace": "1s", "window": "1h" } });
    let task = api.create_id(&with(noop("beat", &every_second()), misfire));
    let before = await_count(&api, &task, "succeeded", 1).len();
    assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
    let stopped = now_ms();
    until("instants have passed by", || now_ms() > stopped + 4_000);
    development.restart();
    let api = development.api();
    await_count(&api, &task, "succeeded", before + 1);
    let arguments = ["audit", "fires", "--from", &from, "--to", &instant_in(0), "--task", &task];
    let account = ask(&api, &[&arguments[..], &["--output", "json"]].concat(), None).expect(1).json();
    let missed = with_status(&account, "missed");
    assert!(missed.len() >= 2 && missed.iter().all(|fire| fire["reason"] == "passed_over"), "{account}");
    assert!(ask(&api, &arguments, None).expect(1).out.contains("missed"));
}

#[test]
fn one_that_was_skipped_and_one_that_was_moved_are_accounted_for() {
    let development = Development::start();
    let api = development.api();
    let from = instant_in(0);
    let beat = json!({ "type": "interval", "every": "2s", "anchor": "2026-01-01T00:00:00Z" });
    let task = api.create_id(&noop("beat", &beat));
    let path = format!("/api/scheduled-tasks/{task}");
    let fires = api.get(&format!("{path}/next?count=8"))["fires"].clone();
    let [skipped, moved, after] =
        [4, 5, 6].map(|place: usize| fires[place].as_str().expect("an instant").to_owned());
    let to = moved.replace(".000Z", ".700Z");
    let occurrences = format!("{path}/occurrences");
    api.post(&occurrences, &json!({ "at": skipped, "do": "skip" })).expect(200);
    api.post(&occurrences, &json!({ "at": moved, "do": "move", "to": to })).expect(200);
    until("the occurrence after them has run", || {
        executions(&api, &task).iter().any(|one| one["scheduled_at"] == json!(after))
    });
    let range = ["audit", "fires", "--from", &from, "--to", &after, "--task", &task, "--output", "json"];
    let account = ask(&api, &range, None).expect(0).json();
    let of = |at: &str| -> Vec<Value> {
        items(&account).into_iter().filter(|fire| fire["at"] == json!(at)).collect()
    };
    let told = |fire: &Value| (text(fire, "status"), text(fire, "reason"));
    assert_eq!(told(&of(&skipped)[0]), ("skipped".into(), "by_hand".into()), "{account}");
    assert_eq!(told(&of(&moved)[0]), ("skipped".into(), "moved".into()), "{account}");
    let ran = &of(&to)[0];
    assert!(["on_time", "late"].contains(&text(ran, "status").as_str()), "{account}");
    assert_eq!(ran["moved_from"], json!(moved), "{account}");
    let shown = ask(&api, &["task", "explain", &task, "--at", &skipped], None).expect(0).out;
    assert!(shown.contains("it was skipped by hand"), "{shown}");
    let shown = ask(&api, &["task", "explain", &task, "--at", &to], None).expect(0).out;
    assert!(shown.contains(&format!("moved here by hand from {moved}: it fired")), "{shown}");
}
