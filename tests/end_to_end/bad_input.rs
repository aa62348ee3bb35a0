//! Bad input: refused with the place of each fault, and nothing is written.

use serde_json::{Value, json};

use crate::harness::api::{Api, items};
use crate::harness::definitions::{every_second, manual, noop, run, with};
use crate::harness::development::Development;
use crate::harness::outside::queued;

/// Sends a task that must be refused with a 4xx, at `pointer` if one is named.
#[track_caller]
fn check(api: &Api, body: &str, pointer: Option<&str>) {
    check_at(api, "/api/scheduled-tasks/", body, pointer);
}

/// Posts a body that must be refused with a 4xx, at `pointer` if one is named.
#[track_caller]
fn check_at(api: &Api, path: &str, body: &str, pointer: Option<&str>) {
    let shown: String = body.chars().take(200).collect();
    let reply = api.send("POST", path, &[], Some(body));
    assert!([400, 413, 422].contains(&reply.status), "{shown}: {reply:?}");
    let problem = reply.json();
    assert_eq!(reply.header("Content-Type"), Some("application/problem+json"), "{shown}");
    for field in ["type", "title", "status", "detail", "code", "correlation_id"] {
        assert!(!problem[field].is_null(), "{field} for {shown}: {problem}");
    }
    if let Some(pointer) = pointer {
        let faults = problem["errors"].as_array().cloned().unwrap_or_default();
        assert!(faults.iter().any(|fault| fault["pointer"] == pointer), "{pointer} for {shown}: {problem}");
    }
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
    ];
    for (body, pointer) in cases {
        check(&api, &body.to_string(), Some(pointer));
    }
    assert_eq!(items(&api.get("/api/scheduled-tasks/")), Vec::<Value>::new(), "nothing was written");
}

#[test]
fn every_fault_of_what_a_worker_sends_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let complete = "/api/executions/0190d1c2-0000-7000-8000-000000000000/complete";
    let (lease, token) = ("/api/workers/suites/lease", json!({ "lease_token": "1" }));
    let said = |fields: Value| with(token.clone(), fields);
    let succeeded = |fields: Value| said(with(json!({ "outcome": "succeeded" }), fields));
    for (path, body, pointer) in [
        (lease, json!({}), "/worker"),
        (lease, json!({ "worker": "a b" }), "/worker"),
        (lease, json!({ "worker": "w", "max": 0 }), "/max"),
        (lease, json!({ "worker": "w", "lease": "1ms" }), "/lease"),
        (lease, json!({ "worker": "w", "wait": "1h" }), "/wait"),
        (lease, json!({ "worker": "w", "colour": "red" }), "/colour"),
        (complete, json!({ "outcome": "succeeded" }), "/lease_token"),
        (complete, token.clone(), "/outcome"),
        (complete, said(json!({ "outcome": "perhaps" })), "/outcome"),
        (complete, succeeded(json!({ "error": "no" })), "/error"),
        (complete, succeeded(json!({ "failed_items": [1] })), "/failed_items"),
        (complete, said(json!({ "outcome": "failed", "failed_items": {} })), "/failed_items"),
        (complete, succeeded(json!({ "result": "x".repeat(20_000) })), "/result"),
        (complete, succeeded(json!({ "colour": "red" })), "/colour"),
    ] {
        check_at(&api, path, &body.to_string(), Some(pointer));
    }
}

#[test]
fn every_fault_of_what_operators_send_is_refused_and_nothing_is_written() {
    let development = Development::start();
    let api = development.api();
    let id = run(&api, &api.create_id(&queued("waits", "ios")));
    let events = || items(&api.get("/api/audit/events?limit=1000")).len();
    let before = events();
    let (most, open) = (json!({ "max_concurrent": 1 }), json!({ "state": "open" }));
    let execution = format!("/api/executions/{id}");
    for (method, path, body) in [
        ("PUT", "/api/pools/staging", json!({ "capacity": -1 })),
        ("PUT", "/api/pools/staging", json!({ "capacity": "four" })),
        ("PUT", "/api/pools/staging", json!({ "capacity": 1, "size": 2 })),
        ("PUT", "/api/pools/a%20b", json!({ "capacity": 1 })),
        ("PUT", "/api/limits/label/team", most.clone()),
        ("PUT", "/api/limits/colour/red", most.clone()),
        ("PUT", "/api/limits/tenant/other", most.clone()),
        ("PUT", "/api/limits/queue/a%20b", most),
        ("PUT", "/api/limits/queue/ios", json!({ "max_concurrent": 1.5 })),
        ("PUT", "/api/breakers/http:Runner.example", open.clone()),
        ("PUT", "/api/breakers/process:true", open),
        ("PUT", "/api/breakers/http:runner.example", json!({ "state": "ajar" })),
        ("POST", "/api/queues/a%2Fb/pause", Value::Null),
        ("POST", "/api/events", json!({ "payload": 1 })),
        ("POST", "/api/events", json!({ "name": "x", "payload": 1, "nme": "x" })),
        ("PATCH", &execution, json!({ "priority": 10 })),
        ("PATCH", &execution, json!({ "priority": "high" })),
    ] {
        let body = if body.is_null() { None } else { Some(body.to_string()) };
        let reply = api.send(method, path, &[], body.as_deref());
        assert!([400, 422].contains(&reply.status), "{method} {path} {body:?}: {reply:?}");
        assert!(!reply.json()["detail"].is_null(), "{reply:?}");
    }
    assert_eq!(events(), before, "nothing was written");
    assert_eq!(api.get(&execution)["priority"], 5);
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
