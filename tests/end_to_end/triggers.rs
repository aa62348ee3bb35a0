//! Schedules on the real clock: each instant once, none early, none left out.

use serde_json::{Value, json};

use crate::harness::api::text;
use crate::harness::definitions::{
    await_count, await_status, call, every_second, executions, noop, once_in, with,
};
use crate::harness::development::Development;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, instant_in, millis, now_ms, until};

/// The instants of executions, oldest first.
fn instants(executions: &[Value]) -> Vec<i64> {
    let mut instants: Vec<i64> =
        executions.iter().map(|execution| millis(&execution["scheduled_at"])).collect();
    instants.sort_unstable();
    instants
}

#[test]
fn a_cron_expression_fires_on_each_of_its_instants_and_never_before() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let trigger = json!({ "type": "cron", "expression": "*/2 * * * * *", "timezone": "Asia/Kathmandu" });
    let task = api.create_id(&call("even", &trigger, &target.url("/ok")));
    let ran = await_count(&api, &task, "succeeded", 3);
    let instants = instants(&ran);
    assert!(instants.iter().all(|instant| instant % 2_000 == 0), "{instants:?}");
    assert!(instants.windows(2).all(|pair| pair[1] - pair[0] == 2_000), "{instants:?}");
    for call in target.calls_to("/ok") {
        let scheduled = millis(&json!(call.header("Escapement-Scheduled-At")));
        assert!(call.at_ms >= scheduled, "{call:?} came before its instant");
    }
    for execution in &ran {
        assert!(millis(&execution["fired_at"]) >= millis(&execution["scheduled_at"]));
        assert!(execution["lateness_ms"].as_u64().is_some(), "{execution}");
    }
}

#[test]
fn an_interval_leaves_no_instant_out() {
    let development = Development::start();
    let api = development.api();
    let trigger = json!({ "type": "interval", "every": "1s", "anchor": "2026-01-01T00:00:00.250Z" });
    let task = api.create_id(&noop("beat", &trigger));
    let instants = instants(&await_count(&api, &task, "succeeded", 4));
    assert!(instants.iter().all(|instant| instant % 1_000 == 250), "{instants:?}");
    assert!(instants.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{instants:?}");
}

#[test]
fn a_task_for_one_instant_fires_once_and_is_finished() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&call("one", &once_in(1_500), &target.url("/ok")));
    await_count(&api, &task, "succeeded", 1);
    let read = eventually("it is finished", || {
        Some(api.get(&format!("/api/scheduled-tasks/{task}"))).filter(|task| task["state"] == "finished")
    });
    assert_eq!(read["next_fire_at"], Value::Null);
    assert_eq!((executions(&api, &task).len(), target.calls_to("/ok").len()), (1, 1));
}

#[test]
fn an_instant_that_has_passed_is_refused_or_run_at_once_as_the_task_says() {
    let development = Development::start();
    let api = development.api();
    let past = |if_past: &str| json!({ "type": "once", "at": instant_in(-60_000), "if_past": if_past });
    let refused = api.post("/api/scheduled-tasks/", &noop("late", &past("refuse")));
    assert!([400, 422].contains(&refused.status), "{refused:?}");
    assert_eq!(refused.json()["errors"][0]["pointer"], "/trigger/at", "{}", refused.body);
    let task = api.create_id(&noop("late", &past("run")));
    await_count(&api, &task, "succeeded", 1);
}

/// Instants that pass while no node is up are settled when one comes back, by the task's policy.
#[test]
fn what_was_missed_while_nobody_was_up_is_made_good_by_policy() {
    let mut development = Development::start();
    let api = development.api();
    let create = |policy: &str| {
        let misfire =
            json!({ "misfire": { "policy": policy, "grace": "500ms", "window": "1h" }, "overlap": "allow" });
        api.create_id(&with(noop(policy, &every_second()), misfire))
    };
    let tasks = ["skip", "run_latest", "run_all"].map(create);
    tasks.iter().for_each(|task| drop(await_count(&api, task, "succeeded", 1)));
    development.node.kill();
    let back = now_ms() + 4_000;
    until("four instants have passed", || now_ms() >= back);
    development.restart();
    let fired = tasks.map(|task| {
        let before = executions(&api, &task).len();
        let ran = await_count(&api, &task, "succeeded", before.max(1) + 2);
        instants(&ran)
    });
    let widest = |instants: &[i64]| instants.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    assert!(widest(&fired[0]) >= 3_000, "skip leaves a hole: {:?}", fired[0]);
    assert!(widest(&fired[1]) >= 2_000, "run_latest makes the latest good: {:?}", fired[1]);
    assert_eq!(widest(&fired[2]), 1_000, "run_all leaves no hole: {:?}", fired[2]);
    for instants in &fired {
        assert!(instants.windows(2).all(|pair| pair[0] < pair[1]), "no instant twice: {instants:?}");
    }
}

#[test]
fn a_run_by_hand_tells_who_and_why() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("by-hand", &json!({ "type": "manual" })));
    let first = text(&api.post(&format!("/api/scheduled-tasks/{task}/run"), &json!({})).expect(202), "id");
    let ended = await_status(&api, &first, "succeeded");
    assert_eq!((&ended["trigger"], &ended["task_id"]), (&json!("manual"), &json!(task)));
    for field in ["task_version", "fired_at", "started_at", "finished_at", "attempts", "log_index"] {
        assert!(!ended[field].is_null(), "{field} in {ended}");
    }
    assert_eq!(ended["attempts"][0]["outcome"], "succeeded", "{ended}");
}
