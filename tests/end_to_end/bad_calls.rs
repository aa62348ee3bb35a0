//! Bad input to calls that write no task, by workers, operators and administrators: refused with the place of each
//! fault, and nothing is written.

use serde_json::{Value, json};

use crate::harness::api::{Api, items};
use crate::harness::definitions::{event_log, execution, run, with};
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued};
use crate::harness::refusal::refused;

/// Posts bodies to a path, each of which must be refused at its pointer.
#[track_caller]
fn check_all(api: &Api, path: &str, cases: &[(Value, &str)]) {
    for (body, pointer) in cases {
        refused(api, ("POST", path), &body.to_string(), Some(pointer));
    }
}

#[test]
fn every_fault_of_a_request_for_work_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let id = run(&api, &api.create_id(&queued("waits", "suites")));
    let before = event_log(&api);
    let asks = |fields: Value| with(json!({ "worker": "w" }), fields);
    let cases = [
        (json!([]), ""),
        (json!({}), "/worker"),
        (json!({ "worker": null }), "/worker"),
        (json!({ "worker": 7 }), "/worker"),
        (json!({ "worker": "" }), "/worker"),
        (json!({ "worker": "a b" }), "/worker"),
        (json!({ "worker": "a/b" }), "/worker"),
        (json!({ "worker": "w".repeat(129) }), "/worker"),
        (asks(json!({ "max": 0 })), "/max"),
        (asks(json!({ "max": -1 })), "/max"),
        (asks(json!({ "max": 1.5 })), "/max"),
        (asks(json!({ "max": 101 })), "/max"),
        (asks(json!({ "max": "1" })), "/max"),
        (asks(json!({ "lease": "0s" })), "/lease"),
        (asks(json!({ "lease": "1ms" })), "/lease"),
        (asks(json!({ "lease": "61m" })), "/lease"),
        (asks(json!({ "lease": "-1s" })), "/lease"),
        (asks(json!({ "lease": 60 })), "/lease"),
        (asks(json!({ "wait": "61s" })), "/wait"),
        (asks(json!({ "wait": "1h" })), "/wait"),
        (asks(json!({ "wait": "-1s" })), "/wait"),
        (asks(json!({ "wait": 20 })), "/wait"),
        (asks(json!({ "colour": "red" })), "/colour"),
    ];
    check_all(&api, "/api/workers/suites/lease", &cases);
    for queue in ["a%20b", "a%2Fb", &"q".repeat(129)] {
        check_all(&api, &format!("/api/workers/{queue}/lease"), &[(asks(json!({})), "")]);
    }
    assert_eq!(event_log(&api), before, "nothing was written");
    assert_eq!(execution(&api, &id)["status"], "queued");
}

/// An execution, and how a worker has it.
#[track_caller]
fn leased(api: &Api) -> (String, Value) {
    let id = run(api, &api.create_id(&queued("suite", "suites")));
    (id, lease(api, "suites", &json!({ "worker": "w", "lease": "5m" })).remove(0))
}

#[test]
fn every_fault_of_what_a_worker_reports_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let (id, mine) = leased(&api);
    let (known, before) = (execution(&api, &id), event_log(&api));
    let said = |fields: Value| with(json!({ "lease_token": mine["lease_token"] }), fields);
    let alive = [
        (json!([]), ""),
        (json!({}), "/lease_token"),
        (json!({ "lease_token": null }), "/lease_token"),
        (json!({ "lease_token": 7 }), "/lease_token"),
        (json!({ "lease_token": [mine["lease_token"]] }), "/lease_token"),
        (said(json!({ "percent": 5 })), "/percent"),
        (said(json!({ "colour": "red" })), "/colour"),
    ];
    check_all(&api, &path(&mine, "heartbeat"), &alive);
    let far = [
        (json!("66"), ""),
        (json!({ "percent": 5 }), "/lease_token"),
        (json!({ "lease_token": 7, "percent": 5 }), "/lease_token"),
        (said(json!({})), ""),
        (said(json!({ "percent": null, "message": null })), ""),
        (said(json!({ "percent": 101 })), "/percent"),
        (said(json!({ "percent": -1 })), "/percent"),
        (said(json!({ "percent": 0.5 })), "/percent"),
        (said(json!({ "percent": "50" })), "/percent"),
        (said(json!({ "percent": true })), "/percent"),
        (said(json!({ "message": 7 })), "/message"),
        (said(json!({ "percent": 5, "message": "x".repeat(1_025) })), "/message"),
        (said(json!({ "percent": 5, "outcome": "succeeded" })), "/outcome"),
        (said(json!({ "percent": 5, "colour": "red" })), "/colour"),
    ];
    check_all(&api, &path(&mine, "progress"), &far);
    assert_eq!((execution(&api, &id), event_log(&api)), (known, before), "nothing was written");
}

#[test]
fn every_fault_of_a_completion_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let (id, mine) = leased(&api);
    let (known, before) = (execution(&api, &id), event_log(&api));
    let said = |fields: Value| with(json!({ "lease_token": mine["lease_token"] }), fields);
    let succeeded = |fields: Value| said(with(json!({ "outcome": "succeeded" }), fields));
    let failed = |fields: Value| said(with(json!({ "outcome": "failed" }), fields));
    let class = |class: Value| failed(json!({ "failure": class }));
    let cases = [
        (json!([]), ""),
        (json!({ "outcome": "succeeded" }), "/lease_token"),
        (json!({ "outcome": "succeeded", "lease_token": 7 }), "/lease_token"),
        (said(json!({})), "/outcome"),
        (said(json!({ "outcome": null })), "/outcome"),
        (said(json!({ "outcome": "perhaps" })), "/outcome"),
        (said(json!({ "outcome": "Succeeded" })), "/outcome"),
        (said(json!({ "outcome": true })), "/outcome"),
        (succeeded(json!({ "result": "x".repeat(20_000) })), "/result"),
        (succeeded(json!({ "error": "no" })), "/error"),
        (succeeded(json!({ "failed_items": [1] })), "/failed_items"),
        (succeeded(json!({ "failure": { "class": "other" } })), "/failure"),
        (succeeded(json!({ "retry_after": "1s" })), "/retry_after"),
        (succeeded(json!({ "percent": 100 })), "/percent"),
        (succeeded(json!({ "colour": "red" })), "/colour"),
        (failed(json!({ "error": "" })), "/error"),
        (failed(json!({ "error": 7 })), "/error"),
        (failed(json!({ "error": "x".repeat(4_097) })), "/error"),
        (failed(json!({ "failed_items": {} })), "/failed_items"),
        (failed(json!({ "failed_items": "a" })), "/failed_items"),
        (failed(json!({ "failed_items": ["x".repeat(20_000)] })), "/failed_items"),
        (failed(json!({ "retry_after": "25h" })), "/retry_after"),
        (failed(json!({ "retry_after": "-1s" })), "/retry_after"),
        (failed(json!({ "retry_after": 5 })), "/retry_after"),
        (class(json!("timeout")), "/failure"),
        (class(json!({})), "/failure/class"),
        (class(json!({ "class": "tired" })), "/failure/class"),
        (class(json!({ "class": "exit_code" })), "/failure/code"),
        (class(json!({ "class": "exit_code", "code": 256 })), "/failure/code"),
        (class(json!({ "class": "http_status", "code": "503" })), "/failure/code"),
        (class(json!({ "class": "signal", "code": 0 })), "/failure/code"),
        (class(json!({ "class": "timeout", "code": 5 })), "/failure/code"),
        (class(json!({ "class": "other", "why": "so" })), "/failure/why"),
        (failed(json!({ "failure": { "class": "timeout" }, "result": 5 })), "/result"),
    ];
    check_all(&api, &path(&mine, "complete"), &cases);
    assert_eq!((execution(&api, &id), event_log(&api)), (known, before), "nothing was written");
}

#[test]
fn every_fault_of_a_pool_a_limit_and_a_breaker_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let before = event_log(&api);
    let (pool, limit) = ("/api/pools/staging", "/api/limits/queue/ios");
    for wrong in [json!(-1), json!(1.5), json!(1_000_001), json!("four"), json!([4]), Value::Null] {
        let body = json!({ "capacity": wrong }).to_string();
        refused(&api, ("PUT", pool), &body, Some("/capacity"));
        let body = json!({ "max_concurrent": wrong }).to_string();
        refused(&api, ("PUT", limit), &body, Some("/max_concurrent"));
    }
    for wrong in [json!("ajar"), json!("half_open"), json!("Open"), json!(true), Value::Null] {
        let body = json!({ "state": wrong }).to_string();
        refused(&api, ("PUT", "/api/breakers/http:runner.example"), &body, Some("/state"));
    }
    let (capacity, most, open) =
        (json!({ "capacity": 1 }), json!({ "max_concurrent": 1 }), json!({ "state": "open" }));
    let long = format!("/api/pools/{}", "x".repeat(129));
    for (path, body, pointer) in [
        (pool, json!({}), "/capacity"),
        (pool, json!([]), ""),
        (pool, with(capacity.clone(), json!({ "size": 2 })), "/size"),
        ("/api/pools/a%20b", capacity.clone(), ""),
        (&long, capacity, ""),
        (limit, json!({}), "/max_concurrent"),
        (limit, json!(1), ""),
        (limit, with(most.clone(), json!({ "colour": "red" })), "/colour"),
        ("/api/limits/label/team", most.clone(), ""),
        ("/api/limits/colour/red", most.clone(), ""),
        ("/api/limits/tenant/other", most.clone(), ""),
        ("/api/limits/queue/a%20b", most, ""),
        ("/api/breakers/queue:ios", json!({}), "/state"),
        ("/api/breakers/queue:ios", json!("open"), ""),
        ("/api/breakers/queue:ios", with(open.clone(), json!({ "colour": "red" })), "/colour"),
        ("/api/breakers/http:Runner.example", open.clone(), ""),
        ("/api/breakers/process:true", open.clone(), ""),
        ("/api/breakers/runner.example", open, ""),
    ] {
        refused(&api, ("PUT", path), &body.to_string(), Some(pointer));
    }
    for path in [pool, limit, "/api/breakers/queue:ios"] {
        refused(&api, ("PUT", path), "", None);
    }
    assert_eq!(event_log(&api), before, "nothing was written");
    for list in ["pools", "limits", "breakers"] {
        assert_eq!(items(&api.get(&format!("/api/{list}"))), Vec::<Value>::new(), "{list}");
    }
}

#[test]
fn every_fault_of_what_operators_send_is_refused_with_its_place() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&queued("waits", "ios"));
    let id = run(&api, &task);
    let (known, before) = (execution(&api, &id), event_log(&api));
    let (queue, events) = ("/api/queues/ios", "/api/events/");
    let place = format!("/api/executions/{id}");
    for wrong in [json!(10), json!(-1), json!(5.5), json!("high"), json!("5"), json!(1e300), Value::Null] {
        refused(&api, ("PATCH", &place), &json!({ "priority": wrong }).to_string(), Some("/priority"));
    }
    let waits = json!({ "priority": 1, "status": "failed" });
    for (body, pointer) in [(json!({}), "/priority"), (json!(9), ""), (waits, "/status")] {
        refused(&api, ("PATCH", &place), &body.to_string(), Some(pointer));
    }
    for (path, body, pointer) in [
        (format!("{queue}/pause"), json!({ "paused": false }), "/paused"),
        (format!("{queue}/pause"), json!(true), ""),
        (format!("{queue}/resume"), json!([]), ""),
        ("/api/queues/a%2Fb/pause".into(), Value::Null, ""),
        (format!("/api/queues/{}/pause", "q".repeat(129)), json!({}), ""),
        (format!("{place}/cancel"), json!({ "force": true }), "/force"),
        (format!("{place}/retry"), json!({ "attempts": 3 }), "/attempts"),
        (format!("/api/runs/{id}/cancel"), json!({ "force": true }), "/force"),
        (format!("/api/runs/{id}/retry"), json!("all"), ""),
        (format!("/api/scheduled-tasks/{task}/run"), json!({ "payload": 1 }), "/payload"),
        ("/api/dead-letters/retry".into(), json!({ "limit": 5 }), "/limit"),
        (events.into(), json!([]), ""),
        (events.into(), json!({ "payload": 1 }), "/name"),
        (events.into(), json!({ "name": null }), "/name"),
        (events.into(), json!({ "name": 7 }), "/name"),
        (events.into(), json!({ "name": "" }), "/name"),
        (events.into(), json!({ "name": " " }), "/name"),
        (events.into(), json!({ "name": "a\nb" }), "/name"),
        (events.into(), json!({ "name": "x".repeat(257) }), "/name"),
        (events.into(), json!({ "name": "x", "nme": "x" }), "/nme"),
        (events.into(), json!({ "name": "x", "payload": "x".repeat(16 * 1_024) }), "/payload"),
    ] {
        refused(&api, ("POST", &path), &body.to_string(), Some(pointer));
    }
    assert_eq!((execution(&api, &id), event_log(&api)), (known, before), "nothing was written");
    assert_eq!(api.get(queue)["paused"], false);
}
