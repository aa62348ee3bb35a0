//! Events, to which a task listens, and what it takes over from them.

use escapement_domain::task::trigger::Trigger;

use super::*;

fn listening(filter: Value) -> Value {
    with("/trigger", json!({ "type": "event", "name": "build.finished", "filter": filter }))
}

fn taking(inputs: Value) -> Value {
    let mut task = listening(json!({}));
    task["action"]["body"] = json!({ "suite": 7, "cases": ["a"], "deep": { "text": "x" } });
    task["inputs"] = inputs;
    task
}

#[track_caller]
fn refused_publication(event: &Value, pointer: &str, detail: &str) {
    let text = event.to_string();
    let faults = publication(json::parse(text.as_bytes()).expect("JSON")).expect_err("refused");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].pointer, pointer, "{faults:?}");
    assert!(faults[0].detail.contains(detail), "{faults:?}");
}

#[test]
fn a_task_listens_to_a_name_and_to_values_of_the_payload() {
    let definition = accepted(&listening(json!({ "/branch": "main", "/tests/0": { "b": 1.50, "a": null } })));
    let Trigger::Event { name, filter } = definition.trigger else { panic!("an event") };
    let filter: Vec<(&str, &str)> = filter.iter().map(|(pointer, value)| (&**pointer, &**value)).collect();
    assert_eq!(name, "build.finished");
    assert_eq!(filter, [("/branch", "\"main\""), ("/tests/0", r#"{"a":null,"b":1.5}"#)]);
    accepted(&with("/trigger", json!({ "type": "event", "name": "e" })));
}

#[test]
fn wrong_filters_are_named() {
    refused(&listening(json!({ "branch": "main" })), "/trigger/filter/branch", "a JSON Pointer such as");
    refused(&listening(json!({ "/a~2": 1 })), "/trigger/filter/~1a~02", "followed by `0` or `1`");
    refused(&listening(json!(["/a"])), "/trigger/filter", "an object is expected");
    let many: Value = (0..17).map(|n| (format!("/{n}"), json!(n))).collect();
    refused(&listening(many), "/trigger/filter", "at most 16 values");
    refused(&listening(json!({ "/a": "x".repeat(1_023) })), "/trigger/filter/~1a", "at most 1024 bytes");
    let long = format!("/{}", "x".repeat(1_024));
    refused(
        &listening(json!({ long.clone(): 1 })),
        &format!("/trigger/filter/~1{}", &long[1..]),
        "at most 1024 bytes",
    );
    let trigger = |trigger: Value| with("/trigger", trigger);
    refused(&trigger(json!({ "type": "event" })), "/trigger/name", "`name` is required");
    refused(&trigger(json!({ "type": "event", "name": " " })), "/trigger/name", "not all blank");
    refused(&trigger(json!({ "type": "event", "name": "x".repeat(257) })), "/trigger/name", "1 to 256 bytes");
    let foreign = trigger(json!({ "type": "event", "name": "e", "every": "1m" }));
    refused(&foreign, "/trigger/every", "not a field of a trigger of type event");
}

#[test]
fn what_narrows_a_schedule_is_refused_for_an_event() {
    let mut task = listening(json!({}));
    task["calendars"] = json!(["holidays"]);
    refused(&task, "/calendars", "calendars narrow a schedule");
    let mut task = listening(json!({}));
    task["jitter"] = json!("10s");
    refused(&task, "/jitter", "leave it out");
    let mut task = listening(json!({}));
    task["calendars"] = json!([]);
    task["jitter"] = json!("0s");
    task["max_runs"] = json!(3);
    task["end_at"] = json!("2026-03-01T13:00:00Z");
    accepted(&task);
}

#[test]
fn inputs_have_a_place_in_the_action_and_in_the_cause() {
    let inputs = json!({ "/commit": "/event/payload/commit", "/deep/at": "/event/at", "/cases/0": "" });
    assert_eq!(accepted(&taking(inputs)).inputs.len(), 3);
    refused(&taking(json!({ "commit": "/event" })), "/inputs/commit", "a JSON Pointer such as");
    refused(&taking(json!({ "/commit": "event" })), "/inputs/~1commit", "a JSON Pointer such as");
    refused(&taking(json!({ "/commit": 7 })), "/inputs/~1commit", "a string is expected");
    refused(&taking(json!({ "/cases/1": "/event" })), "/inputs/~1cases~11", "that the list has is allowed");
    refused(
        &taking(json!({ "/deep/text/x": "/event" })),
        "/inputs/~1deep~1text~1x",
        "neither an object nor a list",
    );
    let twice = json!({ "/deep": "/event", "/deep/x": "/event" });
    refused(&taking(twice), "/inputs/~1deep~1x", "it lies within `/deep`");
    let many: Value = (0..65).map(|n| (format!("/{n}"), json!("/event"))).collect();
    refused(&taking(many), "/inputs", "at most 64 inputs");
}

#[test]
fn inputs_take_a_cause_and_json_to_be_put_into() {
    check_field("/inputs", json!({ "/a": "/event" }), "with a trigger of type `event` or `after`");
    assert!(accepted(&with("/inputs", json!({}))).inputs.is_empty());
    let mut program = taking(json!({ "/a": "/event" }));
    program["action"] = json!({ "type": "process", "program": "/bin/cat", "stdin": "plain" });
    refused(&program, "/inputs", "its `stdin`, which must then be JSON");
    program["action"]["stdin"] = json!("{\"b\": 1}");
    accepted(&program);
    program["action"] = json!({ "type": "process", "program": "/bin/cat" });
    accepted(&program);
}

#[test]
fn an_event_has_a_name_and_json_to_go_with_it() {
    let read = |text: &str| publication(json::parse(text.as_bytes()).expect("JSON")).expect("accepted");
    let event = read(r#"{"name": "e", "payload": {"z": 1.0, "a": 10000000000000000000000}}"#);
    assert_eq!(&*event.payload, r#"{"z":1.0,"a":10000000000000000000000}"#);
    assert_eq!(&*read(r#"{"name": "e"}"#).payload, "null");
    refused_publication(&json!({}), "/name", "`name` is required");
    refused_publication(&json!({ "name": "a\nb" }), "/name", "without control characters");
    refused_publication(&json!({ "name": "e", "data": 1 }), "/data", "not a field of an event");
    let long = json!({ "name": "e", "payload": "x".repeat(16 * 1024) });
    refused_publication(&long, "/payload", "at most 16384 bytes of JSON are allowed; this has 16386");
}
