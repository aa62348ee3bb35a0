//! What failed for good: listed, tried again, and a task that pauses itself.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::definitions::{await_status, call, execution, manual, run, script, with};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::until;

fn dead(api: &Api, query: &str) -> Vec<String> {
    items(&api.get(&format!("/api/dead-letters/?{query}"))).iter().map(|item| text(item, "id")).collect()
}

#[test]
fn what_failed_for_good_is_listed_with_its_reason_and_tried_again() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&call("once", &manual(), &target.url("/fail/1")));
    let slow = with(call("slow", &manual(), &target.url("/slow/5000")), json!({ "timeout": "100ms" }));
    let slow = api.create_id(&slow);
    let mut failed = Vec::new();
    for _ in 0..3 {
        let id = run(&api, &task);
        await_status(&api, &id, "failed");
        failed.push(id);
    }
    let late = run(&api, &slow);
    let ended = await_status(&api, &late, "timed_out");
    assert!(text(&ended, "reason").contains("retry.max_attempts"), "{ended}");
    failed.reverse();
    assert_eq!(dead(&api, ""), [vec![late.clone()], failed.clone()].concat());
    assert_eq!(dead(&api, &format!("task_id={task}")), failed);
    assert_eq!(
        (dead(&api, "status=failed"), dead(&api, "status=timed_out")),
        (failed.clone(), vec![late.clone()])
    );
    assert!(dead(&api, "status=lost").is_empty());
    assert_eq!(api.send("GET", "/api/dead-letters/?status=succeeded", &[], None).status, 400);
    let told = ask(&api, &["execution", "retry", "--all", "--status", "lost"], None).expect(0);
    assert_eq!(told.out, "nothing failed for good\n");
    let listed = ask(&api, &["execution", "dead-letters", "--task", &task], None).expect(0);
    assert!(failed.iter().all(|id| listed.out.contains(id)) && !listed.out.contains(&late), "{}", listed.out);
    let told = ask(&api, &["execution", "retry", "--all", "--task", &task], None).expect(0);
    assert_eq!(told.out, "3 executions get another attempt\n");
    until("the retries succeeded", || failed.iter().all(|id| execution(&api, id)["status"] == "succeeded"));
    assert_eq!(dead(&api, ""), [late]);
    let again = ask(&api, &["execution", "retry", "--all", "--task", &task], None).expect(0);
    assert_eq!(again.out, "nothing failed for good\n");
}

#[test]
fn dead_letters_are_those_of_a_range_of_instants() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&call("once", &manual(), &target.url("/fail/1")));
    let failed: Vec<Value> = (0..2)
        .map(|_| {
            let id = run(&api, &task);
            await_status(&api, &id, "failed")
        })
        .collect();
    let [first, second] = [0, 1].map(|nth: usize| text(&failed[nth], "id"));
    let between = text(&failed[1], "scheduled_at");
    assert_ne!(text(&failed[0], "scheduled_at"), between, "a run takes longer than a millisecond");
    assert_eq!(dead(&api, &format!("from={between}")), std::slice::from_ref(&second));
    assert_eq!(dead(&api, &format!("to={between}")), std::slice::from_ref(&first));
    let told = ask(&api, &["execution", "retry", "--all", "--from", &between], None).expect(0);
    assert_eq!(told.out, "1 execution gets another attempt\n");
    await_status(&api, &first, "failed");
    until("the other one succeeded", || execution(&api, &second)["status"] == "succeeded");
    assert_eq!(dead(&api, ""), [first]);
}

#[test]
fn an_execution_is_retried_from_every_end_but_success() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = |name: &str, path: &str, more: Value| {
        api.create_id(&with(call(name, &manual(), &target.url(path)), more))
    };
    let failed = run(&api, &task("failed", "/fail/1", json!({})));
    await_status(&api, &failed, "failed");
    let timed_out = run(&api, &task("timed_out", "/slow/700", json!({ "timeout": "100ms" })));
    await_status(&api, &timed_out, "timed_out");
    let busy = task("busy", "/slow/3000", json!({}));
    let cancelled = run(&api, &busy);
    let skipped = run(&api, &busy);
    await_status(&api, &skipped, "skipped");
    api.post(&format!("/api/executions/{cancelled}/cancel"), &Value::Null).expect(202);
    await_status(&api, &cancelled, "cancelled");
    for id in [&failed, &timed_out, &cancelled, &skipped] {
        let before = execution(&api, id)["attempt"].as_u64().expect("a number");
        api.post(&format!("/api/executions/{id}/retry"), &Value::Null).expect(202);
        until("it has its next attempt", || execution(&api, id)["attempt"] == before + 1);
    }
    await_status(&api, &failed, "succeeded");
    api.post(&format!("/api/executions/{failed}/retry"), &Value::Null).expect(409);
}

/// At most once, and its node dies with it: nobody knows what it did.
#[test]
fn a_lost_execution_is_a_dead_letter_and_may_be_retried_by_hand() {
    let mut development = Development::start();
    let api = development.api();
    let wait = "[ $ESCAPEMENT_ATTEMPT = 2 ] || sleep 300";
    let task = with(script("once", &manual(), wait), json!({ "delivery": "at_most_once" }));
    let id = run(&api, &api.create_id(&task));
    await_status(&api, &id, "running");
    development.node.kill();
    development.restart();
    let api = development.api();
    await_status(&api, &id, "lost");
    assert_eq!(dead(&api, ""), std::slice::from_ref(&id));
    api.post(&format!("/api/executions/{id}/retry"), &Value::Null).expect(202);
    until("it succeeded", || execution(&api, &id)["status"] == "succeeded");
    assert!(dead(&api, "").is_empty());
}

#[test]
fn a_task_that_keeps_failing_pauses_itself_and_says_why() {
    let development = Development::start();
    let api = development.api();
    let poison = json!({ "pause_after_failures": 3, "overlap": "allow" });
    let trigger = json!({ "type": "interval", "every": "1s" });
    let task = api.create_id(&with(script("poison", &trigger, "exit 1"), poison));
    let path = format!("/api/scheduled-tasks/{task}");
    until("it is paused", || api.get(&path)["state"] == "paused");
    let paused = api.get(&path);
    assert!(text(&paused, "pause_reason").contains("pause_after_failures"), "{paused}");
    assert!(paused["failures_in_a_row"].as_u64() >= Some(3) && paused["next_fire_at"].is_null(), "{paused}");
    let events = items(&api.get(&format!("{path}/events?limit=1000")));
    let pause = events.iter().find(|event| event["type"] == "TaskPaused").expect("it was paused");
    assert_eq!(pause["data"]["cause"], "failures", "{pause}");
    api.post(&format!("{path}/resume"), &Value::Null).expect(200);
    let resumed = api.get(&path);
    assert!(resumed["pause_reason"].is_null() || resumed["state"] == "paused", "{resumed}");
    let shown = ask(&api, &["task", "show", &task], None).expect(0);
    assert!(shown.out.contains("pause after"), "{}", shown.out);
}

#[test]
fn a_success_ends_the_row_of_failures_and_without_the_setting_nothing_is_paused() {
    let development = Development::start();
    let api = development.api();
    let gate = development.place().join("gate");
    let test = script("test", &manual(), &format!("test -e {}", gate.display()));
    let poison = api.create_id(&with(test.clone(), json!({ "pause_after_failures": 3 })));
    let patient = api.create_id(&test);
    let ends = |task: &str, status: &str| drop(await_status(&api, &run(&api, task), status));
    let state = |task: &str| text(&api.get(&format!("/api/scheduled-tasks/{task}")), "state");
    for _ in 0..2 {
        ends(&poison, "failed");
    }
    std::fs::write(&gate, "").expect("written");
    ends(&poison, "succeeded");
    std::fs::remove_file(&gate).expect("removed");
    for _ in 0..2 {
        ends(&poison, "failed");
    }
    assert_eq!(state(&poison), "active", "two, one success, two");
    ends(&poison, "failed");
    until("it is paused", || state(&poison) == "paused");
    for _ in 0..5 {
        ends(&patient, "failed");
    }
    assert_eq!(state(&patient), "active");
}
