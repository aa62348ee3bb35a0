//! Execution control: what runs is seen, cancelled, retried, and made again when it fails.

use serde_json::{Value, json};

use crate::harness::api::{items, text};
use crate::harness::definitions::{
    all_executions, await_count, await_status, call, every_second, execution, executions, manual, noop, run,
    script, with,
};
use crate::harness::development::Development;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, now_ms, until};

#[test]
fn executions_are_listed_newest_first_and_narrowed_by_filters() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let good = api.create_id(&noop("good", &manual()));
    let bad = api.create_id(&call("bad", &manual(), &target.url("/status/503")));
    let mut ran = Vec::new();
    for _ in 0..3 {
        let id = run(&api, &good);
        await_status(&api, &id, "succeeded");
        ran.push(id);
    }
    let failed = run(&api, &bad);
    let ended = await_status(&api, &failed, "failed");
    assert!(ended["error"].as_str().is_some_and(|error| error.contains("503")), "{ended}");
    ran.push(failed.clone());
    ran.reverse();
    let ids = |query: &str| -> Vec<String> {
        items(&api.get(&format!("/api/executions/{query}"))).iter().map(|item| text(item, "id")).collect()
    };
    assert_eq!(ids(""), ran);
    assert_eq!(ids("?status=failed"), std::slice::from_ref(&failed));
    assert_eq!(ids(&format!("?task_id={good}&status=succeeded")).len(), 3);
    assert_eq!(ids(&format!("?task_id={good}&status=failed")).len(), 0);
    let page = api.get("/api/executions/?limit=3");
    let next = text(&page, "next_cursor");
    let rest = api.get(&format!("/api/executions/?limit=3&cursor={next}"));
    let seen: Vec<String> =
        [items(&page), items(&rest)].concat().iter().map(|item| text(item, "id")).collect();
    assert_eq!(seen, ran);
    assert_eq!(ids("?to=2026-01-01T00:00:00Z").len(), 0);
    let unknown = "/api/executions/01900000-0000-7000-8000-000000000000";
    api.send("GET", unknown, &[], None).expect(404);
    api.send("GET", "/api/executions/not-an-id", &[], None).expect(404);
    let wrong = api.send("GET", "/api/executions/?status=odd", &[], None);
    assert!([400, 422].contains(&wrong.status), "{wrong:?}");
}

#[test]
fn counts_tell_what_runs() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&script("long", &manual(), "sleep 300"));
    let done = api.create_id(&noop("done", &manual()));
    let first = run(&api, &done);
    await_status(&api, &first, "succeeded");
    let running = run(&api, &task);
    await_status(&api, &running, "running");
    let counts = eventually("the counts have settled", || {
        let counts = api.get("/api/executions/status");
        (counts["running"] == 1).then_some(counts)
    });
    assert!(counts.to_string().contains("succeeded"), "{counts}");
    api.post(&format!("/api/executions/{running}/cancel"), &Value::Null).expect(202);
    await_status(&api, &running, "cancelled");
    until("nothing runs", || api.get("/api/executions/status")["running"] == 0);
}

#[test]
fn a_failed_attempt_is_made_again_after_a_growing_wait_under_the_same_key() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let retry = json!({ "max_attempts": 4, "initial_delay": "300ms", "multiplier": 2.0, "max_delay": "5s", "jitter": 0 });
    let task = with(call("stubborn", &manual(), &target.url("/fail/3")), json!({ "retry": retry }));
    let task = api.create_id(&task);
    let id = run(&api, &task);
    let ended = await_status(&api, &id, "succeeded");
    let calls = target.calls_to("/fail/3");
    assert_eq!(calls.iter().map(|call| call.attempt()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(calls.iter().all(|call| call.key() == id));
    assert!(calls.windows(2).all(|pair| pair[0].fencing() < pair[1].fencing()), "{calls:?}");
    for (pair, wait) in calls.windows(2).zip([300, 600, 1_200]) {
        let gap = pair[1].at_ms - pair[0].at_ms;
        assert!((wait..wait + 1_500).contains(&gap), "{gap} ms rather than {wait}");
    }
    let attempts = ended["attempts"].as_array().expect("a list").clone();
    let outcomes: Vec<&Value> = attempts.iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "failed", "failed", "succeeded"]);
    assert!(attempts[0]["error"].as_str().is_some_and(|error| error.contains("500")), "{ended}");
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    assert_eq!(events.iter().filter(|event| event["type"] == "TaskRetry").count(), 3, "{events:?}");
}

#[test]
fn a_failed_execution_gets_its_next_attempt_when_somebody_asks() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&call("again", &manual(), &target.url("/fail/1")));
    let id = run(&api, &task);
    await_status(&api, &id, "failed");
    let path = format!("/api/executions/{id}/retry");
    api.post(&path, &Value::Null).expect(202);
    let ended = eventually("it succeeded", || {
        Some(execution(&api, &id)).filter(|execution| execution["status"] == "succeeded")
    });
    assert_eq!(ended["attempt"], 2);
    let calls = target.calls_to("/fail/1");
    assert_eq!((calls.len(), calls[0].key() == calls[1].key()), (2, true));
    assert!(calls[0].fencing() < calls[1].fencing());
    assert_eq!(executions(&api, &task).len(), 1, "it is still one execution");
}

#[test]
fn what_its_status_does_not_allow_is_a_conflict() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("done", &manual()));
    let done = run(&api, &task);
    await_status(&api, &done, "succeeded");
    api.post(&format!("/api/executions/{done}/cancel"), &Value::Null).expect(409);
    let long = api.create_id(&script("long", &manual(), "sleep 300"));
    let running = run(&api, &long);
    await_status(&api, &running, "running");
    api.post(&format!("/api/executions/{running}/retry"), &Value::Null).expect(409);
    api.post("/api/executions/01900000-0000-7000-8000-000000000000/cancel", &Value::Null).expect(404);
}

#[test]
fn a_call_that_takes_too_long_is_timed_out_and_its_late_answer_changes_nothing() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let slow = with(call("slow", &manual(), &target.url("/slow/3000")), json!({ "timeout": "700ms" }));
    let task = api.create_id(&slow);
    let start = now_ms();
    let id = run(&api, &task);
    await_status(&api, &id, "timed_out");
    let took = now_ms() - start;
    assert!((700..2_900).contains(&took), "{took} ms");
    until("the answer has come", || now_ms() - start > 3_500);
    assert_eq!(execution(&api, &id)["status"], "timed_out");
}

#[test]
fn a_target_in_a_private_network_is_called_only_if_the_node_allows_it() {
    let development = Development::start();
    let api = development.api();
    // A development node may reach loopback; the cloud's metadata is another matter.
    let task = api.create_id(&with(
        call("spy", &manual(), "http://169.254.169.254/latest/meta-data"),
        json!({ "timeout": "20s" }),
    ));
    let id = run(&api, &task);
    let ended = await_status(&api, &id, "failed");
    assert!(ended["error"].as_str().is_some_and(|error| error.contains("169.254.169.254")), "{ended}");
}

/// The execution that a fire leads to is in the list as soon as the fire is acknowledged by any read.
#[test]
fn a_list_read_after_an_answer_holds_what_was_answered() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("seen", &manual()));
    for _ in 0..20 {
        let id = run(&api, &task);
        let found = executions(&api, &task).iter().any(|execution| execution["id"] == id.as_str());
        assert!(found || execution(&api, &id)["status"] == "skipped", "{id} is in the list at once");
        await_status(&api, &id, "succeeded");
    }
}

#[test]
fn many_tasks_that_fall_due_at_once_all_run() {
    let development = Development::start();
    let api = development.api();
    let at = crate::harness::definitions::once_in(4_000);
    let tasks: Vec<Value> = (0..2_000).map(|n| noop(&format!("many-{n}"), &at)).collect();
    api.post("/api/scheduled-tasks/bulk", &json!(tasks)).expect(200);
    eventually("all have run", || {
        let succeeded = |execution: &&Value| execution["status"] == "succeeded";
        (all_executions(&api).iter().filter(succeeded).count() == 2_000).then_some(())
    });
    let page = api.get("/api/scheduled-tasks/?state=active&limit=1");
    assert!(items(&page).is_empty(), "each is finished: {page}");
    let clock = api.create_id(&noop("clock", &every_second()));
    await_count(&api, &clock, "succeeded", 1);
}
