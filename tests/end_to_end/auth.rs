//! Who may do what: tokens, roles, and two tenants that do not know of each other.

use serde_json::{Value, json};

use crate::harness::api::{Api, items};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, every_second, manual, noop, run};
use crate::harness::description::{NOBODY, OPEN, calls, path_of};
use crate::harness::outside::{lease, queued};

/// Every call of the API that is not open, as (method, path), and one that there is not.
fn guarded(api: &Api) -> Vec<(String, String)> {
    let closed = calls(api).into_iter().filter(|(_, pattern)| !OPEN.contains(&pattern.as_str()));
    let closed = closed.map(|(method, pattern)| (method, path_of(&pattern, NOBODY, NOBODY)));
    closed.chain([("GET".to_owned(), "/api/nothing".to_owned())]).collect()
}

#[test]
fn without_a_good_token_nothing_answers() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    let good = api.token.clone().expect("a token");
    let (head, rest) = good.split_once('.').expect("three parts");
    let (claims, signature) = rest.split_once('.').expect("three parts");
    let reversed: String = signature.chars().rev().collect();
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let bad = [
        format!("{head}.{claims}.{reversed}"),
        format!("{head}.{claims}."),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        cluster.expired_token(),
        "nonsense".into(),
        String::new(),
    ];
    let mut callers: Vec<Api> = bad.iter().map(|token| api.with_token(token)).collect();
    callers.push(api.anonymous());
    for (method, path) in guarded(&api) {
        for caller in &callers {
            let reply = caller.send(&method, &path, &[], None);
            assert_eq!(reply.status, 401, "{method} {path} as {:?}: {}", caller.token, reply.body);
        }
    }
    for open in OPEN {
        assert_eq!(api.anonymous().send("GET", open, &[], None).status, 200, "{open}");
    }
    assert_eq!(api.send("GET", "/metrics", &[], None).status, 200);
    assert!(api.send("GET", "/openapi.json", &[], None).json()["openapi"].is_string());
    let basic = api.anonymous().send("GET", "/api/executions/", &[("Authorization", "Basic YTpi")], None);
    assert_eq!(basic.status, 401);
}

#[test]
fn a_role_opens_what_it_says_and_no_more() {
    let cluster = Cluster::start(1);
    let admin = cluster.any();
    let as_role = |subject: &str, roles: &[&str]| admin.with_token(&cluster.mint(subject, "acme", roles));
    let task = admin.create_id(&noop("of-ann", &manual()));
    let path = format!("/api/scheduled-tasks/{task}");
    let body = noop("changed", &manual()).to_string();

    let viewer = as_role("vera", &["viewer"]);
    viewer.get(&path);
    viewer.get("/api/executions/");
    viewer.post("/api/scheduled-tasks/", &noop("no", &manual())).expect(403);
    viewer.post("/api/scheduled-tasks/bulk", &json!([noop("no", &manual())])).expect(403);
    for verb in ["run", "pause", "resume"] {
        viewer.post(&format!("{path}/{verb}"), &Value::Null).expect(403);
    }
    viewer.send("PUT", &path, &[], Some(&body)).expect(403);
    viewer.send("DELETE", &path, &[], None).expect(403);

    let editor = as_role("edd", &["editor"]);
    let own = editor.create_id(&noop("own", &manual()));
    let id = run(&editor, &own);
    await_status(&editor, &id, "succeeded");
    editor.post(&format!("{path}/run"), &Value::Null).expect(403);
    editor.send("PUT", &path, &[], Some(&body)).expect(403);
    editor.send("DELETE", &path, &[], None).expect(403);

    let operator = as_role("oda", &["operator"]);
    let id = run(&operator, &own);
    await_status(&operator, &id, "succeeded");
    operator.send("DELETE", &path, &[], None).expect(403);
    operator.send("GET", "/api/audit/events", &[], None).expect(403);

    let plain_admin = as_role("ada", &["admin"]);
    plain_admin.get("/api/audit/events");
    plain_admin.send("DELETE", &path, &[], None).expect(204);
    for (method, place) in [("POST", "/api/cluster/leader"), ("DELETE", "/api/cluster/nodes/9")] {
        plain_admin.send(method, place, &[], Some("{}")).expect(403);
    }
    let node = json!({ "id": 9, "api": "127.0.0.1:1", "peer": "127.0.0.1:2" });
    plain_admin.post("/api/cluster/nodes", &node).expect(403);
    // Whoever manages the cluster has no say in a tenant's tasks by that alone.
    let manager = as_role("nora", &["cluster-admin"]);
    manager.get("/api/cluster/status");
    manager.post("/api/scheduled-tasks/", &noop("no", &manual())).expect(403);
    manager.send("GET", &format!("/api/scheduled-tasks/{own}"), &[], None).expect(403);
}

#[test]
fn two_tenants_do_not_know_of_each_other() {
    let cluster = Cluster::start(1);
    let acme = cluster.any();
    let other = acme.with_token(&cluster.mint("ann", "other", &["admin", "cluster-admin"]));
    let task = acme.create_id(&noop("secret", &manual()));
    let id = run(&acme, &task);
    await_status(&acme, &id, "succeeded");
    let theirs = other.create_id(&noop("theirs", &every_second()));
    assert_eq!(items(&other.get("/api/scheduled-tasks/")).len(), 1);
    assert!(items(&other.get(&format!("/api/executions/?task_id={task}"))).is_empty());
    let upcoming = other.get("/api/scheduled-tasks/upcoming").to_string();
    assert!(upcoming.contains(&theirs) && !upcoming.contains(&task));
    assert_eq!(items(&acme.get("/api/scheduled-tasks/")).len(), 1);
    // Whoever looks after the cluster is as much a stranger to what tenants do on it.
    let (of_task, of_execution) = (format!("/api/scheduled-tasks/{task}"), format!("/api/executions/{id}"));
    for (method, path) in [
        ("GET", of_task.clone()),
        ("DELETE", of_task.clone()),
        ("POST", format!("{of_task}/run")),
        ("POST", format!("{of_task}/pause")),
        ("GET", of_execution.clone()),
        ("GET", format!("{of_execution}/logs")),
        ("POST", format!("{of_execution}/retry")),
    ] {
        assert_eq!(other.send(method, &path, &[], None).status, 404, "{method} {path}");
    }
    // The same key in another tenant is another key.
    let body = noop("keyed", &manual()).to_string();
    let create = |api: &Api| {
        api.send("POST", "/api/scheduled-tasks/", &[("Idempotency-Key", "same")], Some(&body)).expect(201)
    };
    assert_ne!(create(&acme)["id"], create(&other)["id"]);
}

/// Queues, pools, limits, breakers, runs and workers go by names that two tenants may share.
#[test]
fn what_one_tenant_calls_by_a_name_another_neither_sees_nor_gets() {
    let cluster = Cluster::start(1);
    let acme = cluster.any();
    let other = acme.with_token(&cluster.mint("ann", "other", &["admin"]));
    let task = acme.create_id(&queued("suite", "suites"));
    let id = run(&acme, &task);
    for path in ["/api/pools/staging", "/api/limits/queue/suites"] {
        let body =
            if path.contains("pools") { json!({ "capacity": 1 }) } else { json!({ "max_concurrent": 9 }) };
        acme.send("PUT", path, &[], Some(&body.to_string())).expect(201);
        other.send("GET", path, &[], None).expect(404);
        other.send("DELETE", path, &[], None).expect(404);
    }
    acme.send("PUT", "/api/breakers/queue:suites", &[], Some(r#"{"state": "open"}"#)).expect(200);
    assert_ne!(other.send("GET", "/api/breakers/queue:suites", &[], None).json()["state"], "open");
    acme.send("PUT", "/api/breakers/queue:suites", &[], Some(r#"{"state": "closed"}"#)).expect(200);
    let request = json!({ "worker": "w", "max": 5 });
    assert!(lease(&other, "suites", &request).is_empty(), "the queue of that name is another one");
    other.post("/api/queues/suites/pause", &Value::Null).expect(200);
    let mine = lease(&acme, "suites", &request).remove(0);
    assert_eq!(mine["id"], json!(id), "nor does it pause with the other one");
    for worker in items(&other.get("/api/workers")) {
        assert!(!worker["holds"].to_string().contains(&id), "{worker}");
    }
    for list in ["pools", "limits"] {
        assert!(items(&other.get(&format!("/api/{list}"))).is_empty(), "{list}");
    }
    let failed = json!({ "lease_token": mine["lease_token"], "outcome": "failed" });
    acme.post(&format!("/api/executions/{id}/complete"), &failed).expect(200);
    await_status(&acme, &id, "failed");
    let dead = "/api/dead-letters/";
    assert_eq!((items(&acme.get(dead)).len(), items(&other.get(dead)).len()), (1, 0));
    for (method, path) in [
        ("GET", format!("/api/runs/{id}")),
        ("POST", format!("/api/runs/{id}/cancel")),
        ("POST", format!("/api/runs/{id}/retry")),
        ("POST", format!("/api/executions/{id}/retry")),
    ] {
        other.send(method, &path, &[], None).expect(404);
    }
    assert_eq!(acme.get(&format!("/api/executions/{id}"))["attempt"], 1);
}
