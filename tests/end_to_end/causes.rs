//! Every change of an execution is an event in the log, and tells why it came to be.

use serde_json::{Value, json};

use crate::harness::api::{Api, text};
use crate::harness::definitions::{
    await_count, await_status, call, cancel, event_log, long, manual, replace, run, script, with,
};
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued};
use crate::harness::target::Target;

/// What each event of an execution tells of its cause, beside who asked for it.
const CAUSES: [(&str, &[&str]); 16] = [
    ("TaskScheduled", &["/trigger", "/made_by"]),
    ("TaskSkipped", &["/trigger", "/made_by", "/reason", "/explanation"]),
    ("TaskReleased", &["/cause"]),
    ("TaskStarted", &["/attempt", "/worker"]),
    ("TaskRetry", &["/ended/failure/class", "/ended/error", "/retry_at"]),
    ("TaskRequeued", &["/cause"]),
    ("TaskCompleted", &["/ended/fencing_token"]),
    ("TaskFailed", &["/cause", "/ended/failure/class"]),
    ("TaskTimedOut", &["/cause", "/ended/failure/class"]),
    ("TaskCancelRequested", &["/cause"]),
    ("TaskCancelled", &["/cause"]),
    ("TaskLost", &["/cause", "/fencing_token"]),
    ("TaskReopened", &["/trigger", "/previous_status"]),
    ("TaskResultRefused", &["/fencing_token"]),
    ("TaskProgress", &["/fencing_token", "/percent"]),
    ("TaskPriorityChanged", &["/priority"]),
];

/// The data of the events of one kind of an execution.
#[track_caller]
fn told(api: &Api, kind: &str, execution: &str) -> Vec<Value> {
    let mut log = event_log(api);
    log.retain(|event| event["type"] == kind && event["data"]["execution_id"] == execution);
    log.into_iter().map(|event| event["data"].clone()).collect()
}

/// A task of which one runs and one waits for it.
#[track_caller]
fn one_waits_for_another(api: &Api, name: &str) -> (String, [String; 2]) {
    let task = api.create_id(&long(name, json!({ "overlap": "queue_all" })));
    let first = run(api, &task);
    await_status(api, &first, "running");
    let second = run(api, &task);
    (task, [first, second])
}

/// Tries, fails, is tried again by itself and by hand; takes too long; is skipped; is lost, and its worker comes too late.
#[track_caller]
fn go_wrong(api: &Api, target: &Target) {
    let flaky = with(
        call("flaky", &manual(), &target.url("/fail/2")),
        json!({ "retry": { "max_attempts": 2, "initial_delay": "50ms", "jitter": 0 } }),
    );
    let flaky = run(api, &api.create_id(&flaky));
    await_status(api, &flaky, "failed");
    api.post(&format!("/api/executions/{flaky}/retry"), &Value::Null).expect(202);
    let slow = with(
        script("slow", &manual(), "sleep 300"),
        json!({ "timeout": "5s", "retry": { "max_attempts": 1 }, "overlap": "skip" }),
    );
    let slow = api.create_id(&slow);
    let late = run(api, &slow);
    await_status(api, &run(api, &slow), "skipped");
    await_status(api, &late, "timed_out");
    let lost = api.create_id(&with(queued("lost", "suites"), json!({ "delivery": "at_most_once" })));
    let lost = run(api, &lost);
    api.send("PATCH", &format!("/api/executions/{lost}"), &[], Some(r#"{"priority": 9}"#)).expect(200);
    let leased = lease(api, "suites", &json!({ "worker": "silent", "lease": "1s", "wait": "20s" })).remove(0);
    let progress = json!({ "lease_token": leased["lease_token"], "percent": 10 });
    api.post(&path(&leased, "progress"), &progress).expect(200);
    await_status(api, &lost, "lost");
    let body = json!({ "lease_token": leased["lease_token"], "outcome": "succeeded" });
    api.post(&path(&leased, "complete"), &body).expect(409);
    await_status(api, &flaky, "succeeded");
}

#[test]
fn every_change_of_an_execution_tells_its_cause() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    go_wrong(&api, &target);
    let (_, [first, second]) = one_waits_for_another(&api, "in turn");
    cancel(&api, &first);
    await_status(&api, &second, "running");
    cancel(&api, &second);
    let log = event_log(&api);
    for (kind, places) in CAUSES {
        let mut events = log.iter().filter(|event| event["type"] == kind).peekable();
        assert!(events.peek().is_some(), "no {kind} came about");
        for event in events {
            assert!(!text(event, "actor").is_empty(), "{event}");
            assert!(!text(event, "correlation_id").is_empty(), "{event}");
            for place in places {
                let told = event["data"].pointer(place).filter(|told| !told.is_null());
                assert!(told.is_some(), "{place} of {event}");
            }
        }
    }
    let known: Vec<&str> = CAUSES.iter().map(|(kind, _)| *kind).collect();
    let of_executions = log.iter().filter(|event| event["data"]["execution_id"].is_string());
    let unknown: Vec<&Value> =
        of_executions.filter(|event| !known.contains(&event["type"].as_str().expect("a name"))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn an_execution_that_waited_for_another_tells_why_it_goes_on() {
    let development = Development::start();
    let api = development.api();
    let (_, [first, second]) = one_waits_for_another(&api, "in turn");
    assert!(told(&api, "TaskReleased", &second).is_empty(), "it waits");
    cancel(&api, &first);
    await_status(&api, &second, "running");
    let [released] = &told(&api, "TaskReleased", &second)[..] else { panic!("let go once") };
    assert_eq!(
        (&released["cause"], &released["earlier_execution_id"]),
        (&json!("earlier_ended"), &json!(first))
    );
    cancel(&api, &second);

    let (task, [first, second]) = one_waits_for_another(&api, "side by side");
    replace(&api, &task, &long("side by side", json!({ "overlap": "allow" })));
    await_count(&api, &task, "running", 2);
    let [released] = &told(&api, "TaskReleased", &second)[..] else { panic!("let go once") };
    assert_eq!(released["cause"], "overlap_allowed", "{released}");
    [first, second].iter().for_each(|id| cancel(&api, id));
}

#[test]
fn an_execution_tells_in_the_log_what_made_it() {
    let development = Development::start();
    let api = development.api();
    let noop = json!({ "type": "builtin", "operation": "noop" });
    let hears = json!({ "name": "hears", "action": noop, "trigger": { "type": "event", "name": "merged" } });
    let hears = api.create_id(&hears);
    let follows = json!({ "name": "follows", "action": noop,
                          "trigger": { "type": "after", "tasks": [hears], "condition": "all_succeeded" } });
    let follows = api.create_id(&follows);
    let published = api.post("/api/events/", &json!({ "name": "merged", "payload": {} })).expect(202);
    let begun = await_count(&api, &hears, "succeeded", 1).remove(0);
    let next = await_count(&api, &follows, "succeeded", 1).remove(0);
    let made_by = |execution: &Value| {
        let told = told(&api, "TaskScheduled", &text(execution, "id"));
        assert_eq!(told.len(), 1, "{told:?}");
        told[0]["made_by"].clone()
    };
    assert_eq!(made_by(&begun), json!({ "event_id": published["id"] }));
    assert_eq!(made_by(&next), json!({ "run_id": begun["id"], "round": 0 }));
    let by_hand = json!({ "id": run(&api, &hears) });
    assert!(made_by(&by_hand)["command_id"].is_string());
}
