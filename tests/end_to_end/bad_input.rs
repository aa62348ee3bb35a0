//! Bad input: refused with the place of each fault, and nothing is written.

use serde_json::{Value, json};

use crate::harness::api::{Api, items};
use crate::harness::definitions::{changes_in_log, event_log, every_second, manual, noop, script, with};
use crate::harness::development::Development;
use crate::harness::refusal::refused;

/// Sends a task that must be refused with a 4xx, at `pointer` if one is named.
#[track_caller]
fn check(api: &Api, body: &str, pointer: Option<&str>) {
    refused(api, ("POST", "/api/scheduled-tasks/"), body, pointer);
}

fn cron(expression: &str, timezone: &str) -> Value {
    noop("bad", &json!({ "type": "cron", "expression": expression, "timezone": timezone }))
}

#[test]
fn every_fault_of_a_definition_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let good = noop("good", &every_second());
    let bad = |fields: Value| with(good.clone(), fields);
    let cases: &[(Value, &str)] = &[
        (cron("0 0 30 2 *", "UTC"), "/trigger/expression"),
        (cron("61 * * * *", "UTC"), "/trigger/expression"),
        (cron("* * *", "UTC"), "/trigger/expression"),
        (cron("", "UTC"), "/trigger/expression"),
        (cron("* * * * *", "Mars/Olympus"), "/trigger/timezone"),
        (bad(json!({ "trigger": { "type": "interval", "every": "0s" } })), "/trigger/every"),
        (bad(json!({ "trigger": { "type": "interval", "every": "soon" } })), "/trigger/every"),
        (
            bad(json!({ "trigger": { "type": "interval", "every": "99999999999999999999s" } })),
            "/trigger/every",
        ),
        (bad(json!({ "trigger": { "type": "once", "at": "tomorrow" } })), "/trigger/at"),
        (bad(json!({ "trigger": { "type": "once", "at": "99999-01-01T00:00:00Z" } })), "/trigger/at"),
        (bad(json!({ "trigger": { "type": "sometimes" } })), "/trigger/type"),
        (bad(json!({ "action": { "type": "builtin", "operation": "explode" } })), "/action/operation"),
        (bad(json!({ "action": { "type": "http", "method": "POST", "url": "not a url" } })), "/action/url"),
        (bad(json!({ "action": { "type": "http", "method": "POST", "url": "ftp://x/y" } })), "/action/url"),
        (
            bad(json!({ "action": { "type": "http", "method": "GE T", "url": "http://127.0.0.1/" } })),
            "/action/method",
        ),
        (bad(json!({ "name": "" })), "/name"),
        (bad(json!({ "name": 7 })), "/name"),
        (bad(json!({ "name": "x".repeat(100_000) })), "/name"),
        (bad(json!({ "priority": 10 })), "/priority"),
        (bad(json!({ "priority": -1 })), "/priority"),
        (bad(json!({ "priority": 1e300 })), "/priority"),
        (bad(json!({ "timeout": "0s" })), "/timeout"),
        (bad(json!({ "timeout": "9000d" })), "/timeout"),
        (bad(json!({ "retry": { "max_attempts": 0 } })), "/retry/max_attempts"),
        (bad(json!({ "retry": { "max_attempts": 4_294_967_296_u64 } })), "/retry/max_attempts"),
        (bad(json!({ "retry": { "multiplier": 0.5 } })), "/retry/multiplier"),
        (bad(json!({ "retry": { "jitter": 1.5 } })), "/retry/jitter"),
        (bad(json!({ "overlap": "perhaps" })), "/overlap"),
        (bad(json!({ "state": "finished" })), "/state"),
        (bad(json!({ "labels": { "a": 1 } })), "/labels/a"),
        (bad(json!({ "calendars": ["nowhere"] })), "/calendars/0"),
        (bad(json!({ "calendars": ["a b"] })), "/calendars/0"),
        (bad(json!({ "start_at": "2030-01-01T00:00:00Z", "end_at": "2029-01-01T00:00:00Z" })), "/end_at"),
        (bad(json!({ "max_runs": 0 })), "/max_runs"),
        (bad(json!({ "colour": "red" })), "/colour"),
        (
            bad(json!({ "trigger": { "type": "interval", "every": "1s", "colour": "red" } })),
            "/trigger/colour",
        ),
        (json!({ "trigger": every_second(), "action": { "type": "builtin", "operation": "noop" } }), "/name"),
        (json!({ "name": "bad", "action": { "type": "builtin", "operation": "noop" } }), "/trigger"),
        (json!({ "name": "bad", "trigger": manual() }), "/action"),
    ];
    for (body, pointer) in cases {
        check(&api, &body.to_string(), Some(pointer));
    }
    assert_eq!(items(&api.get("/api/scheduled-tasks/")), Vec::<Value>::new(), "nothing was written");
}

#[test]
fn every_fault_of_what_a_task_does_and_listens_to_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let bad = |fields: Value| with(noop("bad", &manual()), fields);
    let url = |url: &str| bad(json!({ "action": { "type": "http", "url": url } }));
    let http = |fields: Value| with(json!({ "type": "http", "url": "http://127.0.0.1/" }), fields);
    let later = |fields: Value| http(with(json!({ "completion": "callback" }), fields));
    let event = |fields: Value| with(json!({ "type": "event", "name": "built" }), fields);
    let on_event = |fields: Value| bad(with(json!({ "trigger": event(json!({})) }), fields));
    let after = |tasks: Value| bad(json!({ "trigger": { "type": "after", "tasks": tasks } }));
    let task = "0190d1c2-0000-7000-8000-000000000000";
    let many: serde_json::Map<String, Value> = (0..17).map(|n| (format!("/{n}"), json!(n))).collect();
    let cases: &[(Value, &str)] = &[
        (url("http:runner.example/x"), "/action/url"),
        (url("http:///runner.example/x"), "/action/url"),
        (bad(json!({ "action": http(json!({ "completion": "soon" })) })), "/action/completion"),
        (bad(json!({ "action": http(json!({ "heartbeat_timeout": "1m" })) })), "/action/heartbeat_timeout"),
        (bad(json!({ "action": later(json!({ "heartbeat_timeout": "1ms" })) })), "/action/heartbeat_timeout"),
        (bad(json!({ "action": later(json!({ "heartbeat_timeout": "6m" })) })), "/action/heartbeat_timeout"),
        (
            bad(json!({ "action": later(json!({ "heartbeat_timeout": "2m" })), "timeout": "1m" })),
            "/action/heartbeat_timeout",
        ),
        (bad(json!({ "action": { "type": "queue" } })), "/action/queue"),
        (bad(json!({ "action": { "type": "queue", "queue": "" } })), "/action/queue"),
        (bad(json!({ "action": { "type": "queue", "queue": "a b" } })), "/action/queue"),
        (bad(json!({ "trigger": { "type": "event" } })), "/trigger/name"),
        (bad(json!({ "trigger": event(json!({ "filter": { "branch": 1 } })) })), "/trigger/filter/branch"),
        (bad(json!({ "trigger": event(json!({ "filter": [] })) })), "/trigger/filter"),
        (bad(json!({ "trigger": event(json!({ "filter": many })) })), "/trigger/filter"),
        (bad(json!({ "inputs": { "/a": "/payload" } })), "/inputs"),
        (on_event(json!({ "inputs": { "a": "/payload" } })), "/inputs/a"),
        (on_event(json!({ "inputs": { "/a": 7 } })), "/inputs/~1a"),
        (on_event(json!({ "jitter": "1s" })), "/jitter"),
        (after(json!([])), "/trigger/tasks"),
        (after(json!(["build"])), "/trigger/tasks/0"),
        (after(json!([task, task])), "/trigger/tasks/1"),
        (
            bad(json!({ "trigger": { "type": "after", "tasks": [task], "condition": "perhaps" } })),
            "/trigger/condition",
        ),
    ];
    for (body, pointer) in cases {
        check(&api, &body.to_string(), Some(pointer));
    }
    assert_eq!(items(&api.get("/api/scheduled-tasks/")), Vec::<Value>::new(), "nothing was written");
}

#[test]
fn every_fault_of_when_a_task_is_tried_again_or_held_up_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let bad = |fields: Value| with(noop("bad", &manual()), fields);
    let retry_on = |fields: Value| bad(json!({ "retry": { "retry_on": fields } }));
    let breaker = |fields: Value| bad(json!({ "circuit_breaker": fields }));
    let cases: &[(Value, &str)] = &[
        (retry_on(json!({})), "/retry/retry_on"),
        (retry_on(json!({ "http_status": ["6xx"] })), "/retry/retry_on/http_status/0"),
        (retry_on(json!({ "http_status": [500, "499-400"] })), "/retry/retry_on/http_status/1"),
        (retry_on(json!({ "http_status": 500 })), "/retry/retry_on/http_status"),
        (retry_on(json!({ "exit_codes": [0] })), "/retry/retry_on/exit_codes/0"),
        (retry_on(json!({ "timeout": "yes" })), "/retry/retry_on/timeout"),
        (retry_on(json!({ "weather": true })), "/retry/retry_on/weather"),
        (breaker(json!({ "failure_threshold": 0 })), "/circuit_breaker/failure_threshold"),
        (breaker(json!({ "open_for": "0s" })), "/circuit_breaker/open_for"),
        (breaker(json!({ "colour": "red" })), "/circuit_breaker/colour"),
        (breaker(json!(5)), "/circuit_breaker"),
        (bad(json!({ "execution_timeout": "0s" })), "/execution_timeout"),
        (bad(json!({ "queue_timeout": "soon" })), "/queue_timeout"),
        (bad(json!({ "max_concurrent": 0 })), "/max_concurrent"),
        (bad(json!({ "max_concurrent": "two" })), "/max_concurrent"),
        (bad(json!({ "pause_after_failures": 0 })), "/pause_after_failures"),
        (bad(json!({ "delivery": "exactly_once" })), "/delivery"),
        (bad(json!({ "priority": "high" })), "/priority"),
        (bad(json!({ "priority": 5.5 })), "/priority"),
    ];
    for (body, pointer) in cases {
        check(&api, &body.to_string(), Some(pointer));
    }
    assert_eq!(items(&api.get("/api/scheduled-tasks/")), Vec::<Value>::new(), "nothing was written");
}

#[test]
fn every_fault_of_a_share_of_a_pool_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    api.send("PUT", "/api/pools/staging", &[], Some(r#"{"capacity": 2}"#)).expect(201);
    let asking = |resources: Value| with(noop("asks", &manual()), json!({ "resources": resources }));
    let task = format!("/api/scheduled-tasks/{}", api.create_id(&asking(json!({ "staging": 2 }))));
    let (known, before) = (api.get(&task), changes_in_log(&api));
    let staging = |share: Value| (json!({ "staging": share }), "/resources/staging".to_owned());
    let named = |name: &str, place: &str| (json!({ name: 1 }), format!("/resources/{place}"));
    let many: serde_json::Map<String, Value> = (0..17).map(|n| (format!("p{n}"), json!(1))).collect();
    let long = "x".repeat(129);
    let all = "/resources".to_owned();
    for (resources, pointer) in [
        staging(json!(0)),
        staging(json!(-1)),
        staging(json!(1.5)),
        staging(json!(3)),
        staging(json!(1_000_001)),
        staging(json!(1e300)),
        staging(json!("one")),
        staging(json!(true)),
        staging(json!([1])),
        staging(Value::Null),
        named("nowhere", "nowhere"),
        named("a b", "a b"),
        named("a/b", "a~1b"),
        named("", ""),
        named("..", ".."),
        named("étage", "étage"),
        named(&long, &long),
        (json!(many), all.clone()),
        (json!([]), all.clone()),
        (json!("staging"), all.clone()),
        (json!(1), all),
    ] {
        let body = asking(resources).to_string();
        check(&api, &body, Some(&pointer));
        refused(&api, ("PUT", &task), &body, Some(&pointer));
    }
    assert_eq!((api.get(&task), changes_in_log(&api)), (known, before), "nothing was written");
}

#[test]
fn every_fault_of_a_program_s_limits_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let limited = |limits: Value| {
        let mut task = script("limited", &manual(), "true");
        task["action"]["limits"] = limits;
        task
    };
    let count =
        || [json!(0), json!(-1), json!(1.5), json!(1_048_577), json!("64"), json!("many"), json!(true)];
    let span = ["0s", "999ms", "-1s", "1.5s", "soon", "", "99999d"].map(|text| json!(text));
    let bytes = ["", "lots", "512", "512MB", "0MiB", "-1MiB", "1.5GiB", "1023KiB", "1025GiB"];
    let memory = bytes.map(|text| json!(text)).into_iter();
    let memory = memory.chain([json!(0), json!(-1), json!(1_048_575), json!(1_048_576.5), json!(true)]);
    let cases: [(&str, Vec<Value>); 5] = [
        ("memory", memory.chain([json!(1_099_511_627_777_u64), json!("18446744073709551615GiB")]).collect()),
        ("cpu_time", span.into_iter().chain([json!(30), json!([])]).collect()),
        ("open_files", count().to_vec()),
        ("processes", count().to_vec()),
        ("output", vec![json!(1_024)]),
    ];
    let before = event_log(&api);
    for (limit, values) in cases {
        for value in values {
            let body = limited(json!({ limit: value })).to_string();
            check(&api, &body, Some(&format!("/action/limits/{limit}")));
        }
    }
    for limits in [json!([]), json!(5), json!("none")] {
        check(&api, &limited(limits).to_string(), Some("/action/limits"));
    }
    assert_eq!(event_log(&api), before, "nothing was written");
    for (limit, least, most) in [
        ("memory", json!(1_048_576), json!("1024GiB")),
        ("cpu_time", json!("1s"), json!("3660d")),
        ("open_files", json!(1), json!(1_048_576)),
        ("processes", json!(1), json!(1_048_576)),
    ] {
        api.create(&limited(json!({ limit: least })));
        api.create(&limited(json!({ limit: most })));
    }
}

#[test]
fn what_is_no_task_at_all_is_refused() {
    let development = Development::start();
    let api = development.api();
    let good = noop("good", &every_second()).to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_body = with(
        noop("deep", &manual()),
        json!({ "action": { "type": "http", "method": "POST", "url": "http://127.0.0.1/", "body": 0 } }),
    );
    let deep_body = deep_body.to_string().replace("\"body\":0", &format!("\"body\":{deep}"));
    let twice = good.replacen('{', "{\"name\":\"first\",", 1);
    let twice_inside = good.replace("\"type\":\"interval\"", "\"type\":\"cron\",\"type\":\"interval\"");
    let not_finite = good.replacen('{', "{\"priority\":1e999,", 1);
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "7",
        "\"task\"",
        "{]",
        "{}{}",
        &deep,
        &deep_body,
        &twice,
        &twice_inside,
        &not_finite,
    ];
    for body in bodies {
        check(&api, body, None);
    }
    let half = "{\"name\":\"\\ud800\",\"trigger\":{\"type\":\"manual\"},\"action\":{\"type\":\"builtin\",\"operation\":\"noop\"}}";
    check(&api, half, None);
    assert_eq!(items(&api.get("/api/scheduled-tasks/")), Vec::<Value>::new(), "nothing was written");
    api.create(&noop("good", &every_second()));
}

#[test]
fn a_body_that_is_too_large_is_refused_unread() {
    let development = Development::start();
    let api = development.api();
    let large = with(noop("large", &manual()), json!({ "description": "x".repeat(2 << 20) })).to_string();
    let reply = api.send("POST", "/api/scheduled-tasks/", &[], Some(&large));
    assert_eq!(reply.expect(413)["status"], 413);
    let many: Vec<Value> = (0..10_001).map(|n| noop(&format!("m{n}"), &manual())).collect();
    let reply = api.post("/api/scheduled-tasks/bulk", &json!(many));
    assert!([400, 413, 422].contains(&reply.status), "{}", reply.status);
    assert_eq!(items(&api.get("/api/scheduled-tasks/")), Vec::<Value>::new(), "nothing was written");
}

#[test]
fn an_error_shows_no_internals_and_carries_the_request_s_id() {
    let development = Development::start();
    let api = development.api();
    for (method, path) in [
        ("GET", "/api/scheduled-tasks/%00"),
        ("GET", "/api/scheduled-tasks/../../etc/passwd"),
        ("GET", "/api/nothing"),
        ("PATCH", "/api/scheduled-tasks/"),
        ("DELETE", "/api/executions/"),
    ] {
        let reply = api.send(method, path, &[], None);
        assert!((400..500).contains(&reply.status), "{method} {path}: {reply:?}");
        let problem = reply.json();
        assert!(problem["correlation_id"].is_string(), "{method} {path}: {problem}");
        for word in ["panicked", "src/", ".rs", "Err(", "sled", "openraft"] {
            assert!(!reply.body.contains(word), "{word} in {}", reply.body);
        }
    }
}
