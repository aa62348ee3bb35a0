//! Which events a task listens to: the places of a payload that its filter names, and what they are held against.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::definitions::{all_executions, event_log, noop};
use crate::harness::development::Development;
use crate::harness::refusal::refused;

/// A payload, as it is written: the tests' own JSON would round its numbers.
const PAYLOAD: &str = r#"{
    "items": [{"name": "a", "tags": ["x", "y"]}, {"name": "b"}], "deep": {"er": {"est": true}},
    "a/b": 1, "m~n": 2, "~1": 3, "": {"": 5, "x": 6}, "0": "zero", "\u00e4": "\u00f6", "nothing": null, "text": "1",
    "one": 1, "third": 0.30, "zero": -0.0, "large": 9007199254740993,
    "list": [1, {"b": null, "a": 2.0}], "object": {"x": 1, "y": []}
}"#;

/// Filters that it meets.
const MET: &[&str] = &[
    r#"{}"#,
    r#"{"/items/0/name": "a"}"#,
    r#"{"/items/1/name": "b", "/items/0/tags/1": "y"}"#,
    r#"{"/items/0/tags": ["x", "y"]}"#,
    r#"{"/items/0": {"tags": ["x", "y"], "name": "a"}}"#,
    r#"{"/items": [{"tags": ["x", "y"], "name": "a"}, {"name": "b"}]}"#,
    r#"{"/deep/er/est": true}"#,
    r#"{"/deep": {"er": {"est": true}}}"#,
    r#"{"/a~1b": 1}"#,
    r#"{"/m~0n": 2}"#,
    r#"{"/~01": 3}"#,
    r#"{"/": {"x": 6, "": 5}}"#,
    r#"{"//": 5}"#,
    r#"{"//x": 6}"#,
    r#"{"/0": "zero"}"#,
    r#"{"/\u00e4": "\u00f6"}"#,
    r#"{"/nothing": null}"#,
    r#"{"/text": "\u0031"}"#,
    r#"{"/one": 1}"#,
    r#"{"/one": 1.0}"#,
    r#"{"/one": 10e-1}"#,
    r#"{"/third": 0.3}"#,
    r#"{"/third": 3E-1}"#,
    r#"{"/zero": 0}"#,
    r#"{"/large": 9007199254740993}"#,
    r#"{"/list": [1.0, {"a": 2, "b": null}]}"#,
    r#"{"/list/1/b": null}"#,
    r#"{"/object": {"y": [], "x": 1e0}}"#,
    r#"{"/object/y": []}"#,
];

/// Filters that it does not meet.
const UNMET: &[&str] = &[
    r#"{"/items/0/name": "b"}"#,
    r#"{"/items/0/name": "a", "/one": 2}"#,
    r#"{"/items/2": null}"#,
    r#"{"/items/2/name": "a"}"#,
    r#"{"/items/-": null}"#,
    r#"{"/items/-1/name": "b"}"#,
    r#"{"/items/00/name": "a"}"#,
    r#"{"/items/+0/name": "a"}"#,
    r#"{"/items/0.0/name": "a"}"#,
    r#"{"/items/name": "a"}"#,
    r#"{"/items/0/name/0": "a"}"#,
    r#"{"/items/0": {"name": "a"}}"#,
    r#"{"/items/1": {"name": "b", "tags": null}}"#,
    r#"{"/items": [{"name": "b"}, {"name": "a", "tags": ["x", "y"]}]}"#,
    r#"{"/items/0/tags": ["y", "x"]}"#,
    r#"{"/items/0/tags": ["x"]}"#,
    r#"{"/deep/er/est": "true"}"#,
    r#"{"/deep/er/est": 1}"#,
    r#"{"/deep/er/est/more": true}"#,
    r#"{"/deep/er": true}"#,
    r#"{"/a/b": 1}"#,
    r#"{"/m~1n": 2}"#,
    r#"{"/~1": 3}"#,
    r#"{"/~0": 3}"#,
    r#"{"/": 5}"#,
    r#"{"": null}"#,
    r#"{"": {}}"#,
    r#"{"/x": 6}"#,
    r#"{"/nothing": false}"#,
    r#"{"/nothing": ""}"#,
    r#"{"/nothing": {}}"#,
    r#"{"/nothing/more": null}"#,
    r#"{"/missing": null}"#,
    r#"{"/missing/more": null}"#,
    r#"{"/text": 1}"#,
    r#"{"/text": "1 "}"#,
    r#"{"/one": "1"}"#,
    r#"{"/one": -1}"#,
    r#"{"/one": 10}"#,
    r#"{"/one": true}"#,
    r#"{"/one": [1]}"#,
    r#"{"/ONE": 1}"#,
    r#"{"/third": 0.300000000000000000001}"#,
    r#"{"/zero": false}"#,
    r#"{"/large": 9007199254740992}"#,
    r#"{"/list": [{"a": 2, "b": null}, 1]}"#,
    r#"{"/list/1": {"a": 2}}"#,
    r#"{"/object": {"x": 1}}"#,
    r#"{"/object": {}}"#,
    r#"{"/object/y": {}}"#,
    r#"{"/object/y": null}"#,
    r#"{"/object/y/0": null}"#,
];

/// Creates tasks that listen to `built`, each through a filter, and returns their identifiers.
#[track_caller]
fn listen(api: &Api, filters: &[&str]) -> Vec<String> {
    let task = |filter: &&str| {
        let trigger = format!(r#"{{"type": "event", "name": "built", "filter": {filter}}}"#);
        let action = r#"{"type": "builtin", "operation": "noop"}"#;
        format!(r#"{{"name": "listens", "trigger": {trigger}, "action": {action}}}"#)
    };
    let tasks: Vec<String> = filters.iter().map(task).collect();
    let body = format!("[{}]", tasks.join(","));
    let created = api.send("POST", "/api/scheduled-tasks/bulk?atomic=true", &[], Some(&body)).expect(200);
    items(&created).iter().map(|created| text(created, "id")).collect()
}

/// Publishes `built` with a body's further fields, and returns the answer.
#[track_caller]
fn publish(api: &Api, fields: &str) -> Value {
    let body = format!(r#"{{"name": "built"{fields}}}"#);
    let published = api.send("POST", "/api/events/", &[], Some(&body)).expect(202);
    assert_eq!(published["complete"], true, "{published}");
    published
}

/// The tasks that have run, or are about to.
fn met(api: &Api) -> BTreeSet<String> {
    all_executions(api).iter().map(|execution| text(execution, "task_id")).collect()
}

#[test]
fn an_event_meets_those_whose_filter_its_payload_equals_at_every_place() {
    let development = Development::start();
    let api = development.api();
    let whole = format!(r#"{{"": {PAYLOAD}}}"#);
    let filters: Vec<&str> = MET.iter().chain(UNMET).copied().chain([whole.as_str()]).collect();
    let tasks = listen(&api, &filters);
    assert_eq!(tasks.len(), filters.len());
    let published = publish(&api, &format!(r#", "payload": {PAYLOAD}"#));
    let met = met(&api);
    for (nth, (task, filter)) in tasks.iter().zip(&filters).enumerate() {
        let wanted = nth < MET.len() || nth == MET.len() + UNMET.len();
        assert_eq!(met.contains(task), wanted, "{filter}");
    }
    assert_eq!(published["matched"], json!(MET.len() + 1), "{published}");
    assert_eq!(all_executions(&api).len(), MET.len() + 1, "each of them once");
}

/// A payload need not be an object, and need not be there.
#[test]
fn a_filter_on_the_whole_of_a_payload_is_held_against_whatever_it_is() {
    let development = Development::start();
    let api = development.api();
    let filters = [r#"{"": null}"#, r#"{"": "main"}"#, r#"{"": [1, {}]}"#, r#"{"/1": {}}"#, r#"{"": -2.50}"#];
    let tasks = listen(&api, &filters);
    let mut expected = BTreeSet::new();
    for (fields, meets) in [
        ("", &[0][..]),
        (r#", "payload": "main""#, &[1]),
        (r#", "payload": [1.0, {}]"#, &[2, 3]),
        (r#", "payload": [1, {}, 2]"#, &[3]),
        (r#", "payload": -25e-1"#, &[4]),
        (r#", "payload": {}"#, &[]),
        (r#", "payload": "Main""#, &[]),
    ] {
        let published = publish(&api, fields);
        assert_eq!(published["matched"], json!(meets.len()), "{fields}: {published}");
        expected.extend(meets.iter().map(|nth: &usize| tasks[*nth].clone()));
        assert_eq!(met(&api), expected, "{fields}");
    }
}

#[test]
fn a_filter_at_what_is_no_pointer_is_refused_with_its_place_and_nothing_is_written() {
    let development = Development::start();
    let api = development.api();
    let listens = |filter: Value| {
        let trigger = json!({ "type": "event", "name": "built", "filter": filter });
        noop("listens", &trigger).to_string()
    };
    let created =
        api.send("POST", "/api/scheduled-tasks/", &[], Some(&listens(json!({ "/a": 1 })))).expect(201);
    let task = format!("/api/scheduled-tasks/{}", text(&created, "id"));
    let (known, before) = (api.get(&task), event_log(&api));
    let long = format!("/{}", "x".repeat(1_024));
    let place_of_long = format!("~1{}", &long[1..]);
    for (pointer, place) in [
        ("branch", "branch"),
        (" ", " "),
        ("a/b", "a~1b"),
        (" /a", " ~1a"),
        ("#/a", "#~1a"),
        ("$.a", "$.a"),
        ("~1a", "~01a"),
        ("/~", "~1~0"),
        ("/a~", "~1a~0"),
        ("/a~2", "~1a~02"),
        ("/a~~1", "~1a~0~01"),
        ("/a/~b", "~1a~1~0b"),
        (&long, &place_of_long),
    ] {
        let (body, place) = (listens(json!({ pointer: 1 })), format!("/trigger/filter/{place}"));
        let problem = refused(&api, ("POST", "/api/scheduled-tasks/"), &body, Some(&place));
        assert!(text(&problem, "detail").contains("JSON Pointer"), "{problem}");
        refused(&api, ("PUT", &task), &body, Some(&place));
    }
    for filter in [json!([]), json!("/a"), json!(["/a", 1])] {
        let body = listens(filter);
        refused(&api, ("POST", "/api/scheduled-tasks/"), &body, Some("/trigger/filter"));
    }
    let large = listens(json!({ "/a": "x".repeat(1_023) }));
    refused(&api, ("POST", "/api/scheduled-tasks/"), &large, Some("/trigger/filter/~1a"));
    assert_eq!((api.get(&task), event_log(&api)), (known, before), "nothing was written");
    listen(&api, &[&format!(r#"{{"/{}": "{}"}}"#, "x".repeat(1_023), "x".repeat(1_022))]);
}
