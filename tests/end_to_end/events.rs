//! Events from outside: each fires the tasks that listen to it once, and they take values of it over.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::harness::api::{Api, Reply, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    all_executions, await_count, await_status, call, executions, noop, run, script, with,
};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until};

fn finished(filter: Value) -> Value {
    json!({ "type": "event", "name": "build.finished", "filter": filter })
}

fn publish(api: &Api, payload: &Value) -> Value {
    api.post("/api/events/", &json!({ "name": "build.finished", "payload": payload })).expect(202)
}

#[test]
fn an_event_calls_the_targets_of_those_who_listen_with_values_of_it() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let inputs = json!({ "inputs": {
        "/commit": "/event/payload/commit", "/build/number": "/event/payload/number", "/why": "/event/name" } });
    let main = api
        .create_id(&with(call("main", &finished(json!({ "/branch": "main" })), &target.url("/ok")), inputs));
    let next = api.create_id(&noop("next", &finished(json!({ "/branch": "next" }))));
    let payload = r#"{"branch": "main", "commit": "4f2a91c", "number": 7.50}"#;
    let told = ask(&api, &["event", "publish", "build.finished", "--payload", payload], None).expect(0);
    assert!(told.out.contains(": 1 task met\n"), "{}", told.out);
    let ran = await_count(&api, &main, "succeeded", 1).remove(0);
    assert_eq!((&ran["trigger"], &ran["task_id"]), (&json!("event"), &json!(main)));
    let called = target.calls_to("/ok").remove(0);
    let body = r#"{"build":{"number":7.50},"commit":"4f2a91c","from":"main","why":"build.finished"}"#;
    assert_eq!(called.body, body, "numbers are as they were written");
    assert!(executions(&api, &next).is_empty());

    // By hand there is no event to take anything from, and the log of the attempt says so.
    let id = run(&api, &main);
    await_status(&api, &id, "succeeded");
    assert_eq!(target.calls_to("/ok").remove(1).body, r#"{"from":"main"}"#);
    let lines = eventually("the attempt's log is there", || {
        Some(items(&api.get(&format!("/api/executions/{id}/logs")))).filter(|lines| !lines.is_empty())
    });
    assert!(text(&lines[0], "text").contains("no cause"), "{lines:?}");

    let events = items(&api.get("/api/audit/events?limit=1000"));
    let published = events.iter().find(|event| event["type"] == "EventPublished").expect("it is in the log");
    assert_eq!(published["data"]["payload"]["commit"], "4f2a91c", "{published}");
    let fired = events.iter().find(|event| event["type"] == "TaskScheduled").expect("it fired");
    assert_eq!(
        (&fired["correlation_id"], &fired["data"]["trigger"]),
        (&published["correlation_id"], &json!("event"))
    );
    let explained = ask(&api, &["task", "explain", &main], None).expect(0);
    assert!(
        explained.out.contains("when an event `build.finished` arrives whose /branch is \"main\""),
        "{}",
        explained.out
    );
    ask(&api, &["audit", "verify"], None).expect(0);
    ask(&api, &["audit", "replay"], None).expect(0);
}

#[test]
fn a_program_reads_values_of_an_event_and_a_worker_is_handed_them() {
    let development = Development::start();
    let api = development.api();
    let program = script("program", &finished(json!({})), "cat");
    let program = api.create_id(&with(program, json!({ "inputs": { "": "/event/payload" } })));
    let action = json!({ "type": "queue", "queue": "suites", "payload": { "suite": 7 } });
    let queued = with(noop("queued", &finished(json!({}))), json!({ "action": action }));
    let queued = api.create_id(&with(queued, json!({ "inputs": { "/cases": "/event/payload/cases" } })));
    let published = publish(&api, &json!({ "cases": ["a", "b"] }));
    assert_eq!((&published["matched"], &published["complete"]), (&json!(2), &json!(true)));
    let ran = await_count(&api, &program, "succeeded", 1).remove(0);
    let lines = eventually("what it wrote is there", || {
        let lines = items(&api.get(&format!("/api/executions/{}/logs", text(&ran, "id"))));
        Some(lines).filter(|lines| !lines.is_empty())
    });
    assert_eq!(text(&lines[0], "text").trim(), r#"{"cases":["a","b"]}"#);

    let lease = || {
        let leased =
            api.post("/api/workers/suites/lease", &json!({ "worker": "w", "wait": "20s" })).expect(200);
        items(&leased).remove(0)
    };
    let leased = lease();
    let payload = json!({ "cases": ["a", "b"], "suite": 7 });
    assert_eq!((&leased["task_id"], &leased["payload"]), (&json!(queued), &payload));
    let path = format!("/api/executions/{}", text(&leased, "id"));
    let failed = json!({ "lease_token": leased["lease_token"], "outcome": "failed" });
    api.post(&format!("{path}/complete"), &failed).expect(200);
    api.post(&format!("{path}/retry"), &Value::Null).expect(202);
    assert_eq!(lease()["payload"], payload, "it is the same when it is tried again by hand");
}

#[test]
fn a_paused_task_hears_nothing_and_one_that_may_run_once_is_finished() {
    let development = Development::start();
    let api = development.api();
    let paused = api.create_id(&noop("paused", &finished(json!({}))));
    let once = api.create_id(&with(noop("once", &finished(json!({}))), json!({ "max_runs": 1 })));
    api.post(&format!("/api/scheduled-tasks/{paused}/pause"), &Value::Null).expect(200);
    assert_eq!(publish(&api, &json!(1))["matched"], 1);
    await_count(&api, &once, "succeeded", 1);
    assert_eq!(api.get(&format!("/api/scheduled-tasks/{once}"))["state"], "finished");
    assert_eq!(publish(&api, &json!(2))["matched"], 0);
    api.post(&format!("/api/scheduled-tasks/{paused}/resume"), &Value::Null).expect(200);
    assert_eq!(publish(&api, &json!(3))["matched"], 1);
    await_count(&api, &paused, "succeeded", 1);
}

/// Publishes under a key, to a node that may be gone.
fn publish_keyed(api: &Api) -> std::io::Result<Reply> {
    let body = json!({ "name": "build.finished", "payload": { "n": 1 } }).to_string();
    api.try_send("POST", "/api/events/", &[("Idempotency-Key", "build-7")], Some(&body))
}

/// More tasks listen than one command looks at, and the leader dies while the event is on its way.
#[test]
fn an_event_whose_leader_dies_fires_each_task_once_when_it_is_published_again_under_its_key() {
    const LISTENERS: usize = 1_300;
    let mut cluster = Cluster::start(3);
    let tasks: Vec<Value> =
        (0..LISTENERS).map(|n| noop(&format!("t{n}"), &finished(json!({ "/n": 1 })))).collect();
    cluster.any().post("/api/scheduled-tasks/bulk?atomic=true", &json!(tasks)).expect(200);
    let leader = cluster.leader();
    let first = thread::spawn({
        let api = cluster.api(leader);
        move || publish_keyed(&api)
    });
    cluster.kill(leader);
    let first = first.join().expect("it was answered or not");
    let api = cluster.any();
    let again = eventually("it is in the log", || {
        publish_keyed(&api).ok().filter(|reply| reply.status == 202).map(|reply| reply.json())
    });
    if let Some(first) = first.ok().filter(|reply| reply.status == 202) {
        assert_eq!(first.json()["id"], again["id"], "it is the same event");
    }
    until("every task has run", || {
        all_executions(&api).iter().filter(|execution| execution["status"] == "succeeded").count()
            >= LISTENERS
    });
    assert_eq!(publish_keyed(&api).expect("answered").json(), again);
    let ran = all_executions(&api);
    let tasks: BTreeSet<String> = ran.iter().map(|execution| text(execution, "task_id")).collect();
    assert_eq!((ran.len(), tasks.len()), (LISTENERS, LISTENERS), "each task ran once");
    cluster.start_again(leader);
    cluster.await_ready();
    cluster.await_caught_up(leader);
    assert_eq!(all_executions(&cluster.api(leader)).len(), LISTENERS);
}
