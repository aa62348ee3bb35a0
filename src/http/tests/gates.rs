//! What clients do with pools, limits, breakers, queues and priorities.

use actix_web::http::Method;
use escapement_domain::command::{AttemptOutcome, Programs, Request};
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::placement::BreakerState;
use serde_json::{Value, json};

use super::{Api, Ask, Reply, items, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;

async fn put(api: &Api, path: &str, body: &Value) -> Reply {
    api.ask(Ask::of(Method::PUT, path).json(body)).await
}

async fn delete(api: &Api, path: &str) -> Reply {
    api.ask(Ask::of(Method::DELETE, path)).await
}

fn asking(name: &str, share: u64) -> Value {
    with(manual(name), json!({ "resources": { "staging": share }, "overlap": "allow" }))
}

async fn run(api: &Api, task: &Value) -> Value {
    let path = format!("/api/scheduled-tasks/{}/run", text(task, "id"));
    api.ask(Ask::of(Method::POST, &path)).await.expect(202)
}

async fn show(api: &Api, execution: &Value) -> Value {
    api.get(&format!("/api/executions/{}", text(execution, "id"))).await.expect(200)
}

fn id_of(execution: &Value) -> ExecutionId {
    text(execution, "id").parse().expect("a UUID")
}

#[actix_web::test]
async fn a_pool_is_made_changed_read_and_deleted() {
    let api = Api::start();
    let made = put(&api, "/api/pools/staging", &json!({ "capacity": 4 })).await;
    assert_eq!(made.header("location"), Some("/api/pools/staging"));
    let expected = json!({ "name": "staging", "capacity": 4, "held": 0, "held_by": [], "waiting": 0, "waiting_by": [],
                           "tasks": 0, "version": 1, "updated_at": NOW.to_string() });
    assert_eq!(made.expect(201), expected);
    assert_eq!(put(&api, "/api/pools/staging", &expected).await.expect(200), expected, "it may be sent back");
    let changed = put(&api, "/api/pools/staging", &json!({ "capacity": 5 })).await.expect(200);
    assert_eq!((&changed["version"], &changed["capacity"]), (&json!(2), &json!(5)));
    put(&api, "/api/pools/gpu", &json!({ "capacity": 0 })).await.expect(201);
    let first = api.get("/api/pools/?limit=1").await.expect(200);
    assert_eq!(items(&first)[0]["name"], "gpu");
    let cursor = text(&first, "next_cursor");
    let second = api.get(&format!("/api/pools/?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!((&items(&second)[0]["name"], &second["next_cursor"]), (&json!("staging"), &Value::Null));
    delete(&api, "/api/pools/gpu").await.expect(204);
    delete(&api, "/api/pools/gpu").await.problem(404, "not_found");
    api.get("/api/pools/gpu").await.problem(404, "not_found");
}

#[actix_web::test]
async fn every_fault_of_a_pool_and_of_a_limit_is_named() {
    let api = Api::start();
    for (body, pointer) in [
        (json!({}), "/capacity"),
        (json!({ "capacity": -1 }), "/capacity"),
        (json!({ "capacity": 1.5 }), "/capacity"),
        (json!({ "capacity": 1_000_001 }), "/capacity"),
        (json!({ "capacity": 1, "size": 2 }), "/size"),
        (json!([]), ""),
    ] {
        assert_eq!(put(&api, "/api/pools/x", &body).await.problem(422, "invalid"), [pointer], "{body}");
    }
    put(&api, "/api/pools/a%20b", &json!({ "capacity": 1 })).await.problem(422, "invalid");
    let most = json!({ "max_concurrent": 1 });
    for path in ["/api/limits/label/team", "/api/limits/colour/red", "/api/limits/tenant/other"] {
        assert_eq!(put(&api, path, &most).await.problem(422, "invalid"), [""], "{path}");
    }
    let wrong = put(&api, "/api/limits/queue/ios", &json!({ "max_concurrent": "2" })).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/max_concurrent"]);
    for path in ["/api/limits/queue/a%2Fb", "/api/limits/queue/a%20b", "/api/limits/label/team=q%07a"] {
        assert_eq!(put(&api, path, &most).await.problem(422, "invalid"), [""], "{path}");
    }
    for target in ["http:", "http:Runner.example", "queue:a%2Fb", "process:true"] {
        let path = format!("/api/breakers/{target}");
        assert_eq!(
            put(&api, &path, &json!({ "state": "open" })).await.problem(422, "invalid"),
            [""],
            "{target}"
        );
    }
    for verb in ["pause", "resume"] {
        let path = format!("/api/queues/a%2Fb/{verb}");
        assert_eq!(api.ask(Ask::of(Method::POST, &path)).await.problem(422, "invalid"), [""]);
    }
    assert!(items(&api.get("/api/breakers").await.expect(200)).is_empty());
    assert!(items(&api.get("/api/queues").await.expect(200)).is_empty());
    assert!(items(&api.get("/api/pools").await.expect(200)).is_empty(), "nothing was written");
    assert!(items(&api.get("/api/limits").await.expect(200)).is_empty());
}

#[actix_web::test]
async fn an_admin_manages_pools_and_limits_and_a_viewer_reads_them() {
    let api = Api::start();
    let operator = api.token("op", "acme", &[Role::Operator]);
    let viewer = api.token("vi", "acme", &[Role::Viewer]);
    let stranger = api.token("eve", "other", &[Role::Admin]);
    for (path, body) in [
        ("/api/pools/staging", json!({ "capacity": 1 })),
        ("/api/limits/label/team=qa", json!({ "max_concurrent": 1 })),
    ] {
        api.send(Ask::of(Method::PUT, path).json(&body).token(&operator)).await.problem(403, "forbidden");
        put(&api, path, &body).await.expect(201);
        api.send(Ask::of(Method::DELETE, path).token(&operator)).await.problem(403, "forbidden");
        api.send(Ask::of(Method::GET, path).token(&viewer)).await.expect(200);
        api.send(Ask::of(Method::GET, path).token(&stranger)).await.problem(404, "not_found");
        api.send(Ask::of(Method::DELETE, path).token(&stranger)).await.problem(404, "not_found");
    }
    let open = Ask::of(Method::PUT, "/api/breakers/http:x").json(&json!({ "state": "open" }));
    api.send(open.clone().token(&viewer)).await.problem(403, "forbidden");
    api.send(open.token(&operator)).await.expect(200);
    api.send(Ask::of(Method::POST, "/api/queues/ios/pause").token(&viewer)).await.problem(403, "forbidden");
    api.send(Ask::of(Method::POST, "/api/queues/ios/pause").token(&operator)).await.expect(200);
}

#[actix_web::test]
async fn a_task_that_asks_for_what_a_pool_does_not_have_is_refused_with_the_place() {
    let api = Api::start();
    let refused = api.post("/api/scheduled-tasks", &asking("one", 1)).await;
    assert_eq!(refused.problem(422, "invalid"), ["/resources/staging"]);
    assert!(refused.text.contains("create it with PUT /api/pools/staging"), "{}", refused.text);
    put(&api, "/api/pools/staging", &json!({ "capacity": 2 })).await.expect(201);
    let refused = api.post("/api/scheduled-tasks", &asking("one", 3)).await;
    assert_eq!(refused.problem(422, "invalid"), ["/resources/staging"]);
    assert!(refused.text.contains("at most 2 is allowed"), "{}", refused.text);
    let bulk = json!([manual("one"), asking("two", 3)]);
    let all = api.post("/api/scheduled-tasks/bulk?atomic=true", &bulk).await;
    assert_eq!(all.problem(422, "invalid"), ["/1/resources/staging"]);
    let each = api.post("/api/scheduled-tasks/bulk", &bulk).await.expect(200);
    assert_eq!(each["items"][1]["errors"][0]["pointer"], "/resources/staging", "{each}");
    let task = api.create(asking("three", 2)).await;
    assert_eq!(task["resources"], json!({ "staging": 2 }));
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    assert_eq!(put(&api, &path, &asking("three", 3)).await.problem(422, "invalid"), ["/resources/staging"]);
    assert_eq!(api.get("/api/pools/staging").await.expect(200)["tasks"], 1);
    delete(&api, "/api/pools/staging").await.problem(409, "pool_in_use");
}

#[actix_web::test]
async fn a_pool_tells_who_holds_it_and_who_waits() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    put(&api, "/api/pools/staging", &json!({ "capacity": 1 })).await.expect(201);
    let task = api.create(asking("one", 1)).await;
    let first = run(&api, &task).await;
    let second = run(&api, &task).await;
    let pool = api.get("/api/pools/staging").await.expect(200);
    let claim =
        |execution: &Value| json!([{ "execution_id": execution["id"], "task_id": task["id"], "share": 1 }]);
    assert_eq!((&pool["held"], &pool["held_by"]), (&json!(1), &claim(&first)));
    assert_eq!((&pool["waiting"], &pool["waiting_by"]), (&json!(1), &claim(&second)));
    let waits = show(&api, &second).await;
    assert_eq!(waits["waiting_for"], "it waits for the pool `staging`");
    let explained = api.get(&format!("/api/scheduled-tasks/{}/explain", text(&task, "id"))).await.expect(200);
    assert!(explained.to_string().contains("\"reason\":\"pool\""), "{explained}");
    api.node.succeed(id_of(&first));
    let now = show(&api, &second).await;
    assert_eq!((&now["status"], &now["waiting_for"]), (&json!("running"), &Value::Null));
}

#[actix_web::test]
async fn what_is_over_a_limit_waits_and_says_so() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    put(&api, "/api/limits/label/team=qa", &json!({ "max_concurrent": 1 })).await.expect(201);
    put(&api, "/api/limits/label/path=a%2Fb", &json!({ "max_concurrent": 1 })).await.expect(201);
    let list = api.get("/api/limits").await.expect(200);
    let names: Vec<_> = items(&list).iter().map(|limit| text(limit, "name")).collect();
    assert_eq!(names, ["path=a/b", "team=qa"]);
    let labelled = with(manual("one"), json!({ "labels": { "team": "qa" }, "overlap": "allow" }));
    let task = api.create(labelled).await;
    run(&api, &task).await;
    let second = run(&api, &task).await;
    assert_eq!(
        show(&api, &second).await["waiting_for"],
        "it waits for a place under the limit on the label `team=qa`"
    );
    let limit = api.get("/api/limits/label/team=qa").await.expect(200);
    assert_eq!((&limit["running"], &limit["waiting"]), (&json!(1), &json!(1)));
    delete(&api, "/api/limits/label/team=qa").await.expect(204);
    assert_eq!(show(&api, &second).await["status"], "running");
    put(&api, "/api/limits/tenant/acme", &json!({ "max_concurrent": 2 })).await.expect(201);
    let third = run(&api, &task).await;
    assert_eq!(
        show(&api, &third).await["waiting_for"],
        "it waits for a place under the limit on the whole tenant"
    );
    let several = with(manual("two"), json!({ "max_concurrent": 1, "overlap": "allow" }));
    let several = api.create(several).await;
    assert_eq!(several["max_concurrent"], 1);
}

#[actix_web::test]
async fn a_breaker_opens_by_failures_and_is_set_by_hand() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let guarded = with(
        manual("one"),
        json!({ "circuit_breaker": { "failure_threshold": 2, "open_for": "30s" }, "overlap": "allow" }),
    );
    let task = api.create(guarded).await;
    assert_eq!(task["circuit_breaker"], json!({ "failure_threshold": 2, "open_for": "30s" }));
    for _ in 0..2 {
        let execution = run(&api, &task).await;
        api.node.fail(id_of(&execution));
    }
    let waits = run(&api, &task).await;
    assert!(text(&show(&api, &waits).await, "waiting_for").contains("its breaker is open"));
    let breakers = api.get("/api/breakers").await.expect(200);
    let expected = json!({ "key": "builtin", "state": "open", "failures": 2, "probe": null, "waiting": 1,
                           "open_until": NOW.plus(escapement_domain::timestamp::Span::seconds(30)).to_string(),
                           "changed_at": NOW.to_string() });
    assert_eq!(items(&breakers), [expected]);
    let closed = put(&api, "/api/breakers/builtin", &json!({ "state": "closed" })).await.expect(200);
    assert_eq!((&closed["state"], &closed["failures"]), (&json!("closed"), &json!(0)));
    assert_eq!(show(&api, &waits).await["status"], "running");
    let program = "/api/breakers/process:%2Fusr%2Fbin%2Ftrue";
    let opened = put(&api, program, &json!({ "state": "open" })).await.expect(200);
    assert_eq!((&opened["key"], &opened["open_until"]), (&json!("process:/usr/bin/true"), &Value::Null));
    assert_eq!(put(&api, program, &json!({ "state": "ajar" })).await.problem(422, "invalid"), ["/state"]);
    put(&api, "/api/breakers/nonsense", &json!({ "state": "open" })).await.problem(422, "invalid");
    let fresh = api.get("/api/breakers/http:new.example").await.expect(200);
    assert_eq!((&fresh["state"], &fresh["changed_at"]), (&json!("closed"), &Value::Null));
    let events = api.get("/api/audit/events").await.expect(200);
    let opened: Vec<&Value> =
        items(&events).iter().filter(|event| event["type"] == "BreakerOpened").collect();
    assert_eq!((opened.len(), &opened[0]["data"]["failures"]), (2, &json!(2)));
    assert_eq!(opened[1]["actor"], "ada", "who set it by hand");
}

#[actix_web::test]
async fn a_probe_is_shown_while_it_tries() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let breaker = json!({ "failure_threshold": 1, "open_for": "30s" });
    let task =
        api.create(with(manual("one"), json!({ "circuit_breaker": breaker, "overlap": "allow" }))).await;
    api.node.fail(id_of(&run(&api, &task).await));
    let probe = run(&api, &task).await;
    api.node.advance(30_000);
    let due = api.node.machine.read(|replica| {
        let open = replica.queue().breakers().filter_map(|(tenant, target, known)| match known.state {
            BreakerState::Open { until } => Some((tenant, target.clone(), until?)),
            _ => None,
        });
        open.collect()
    });
    api.node.scheduler(Request::BreakersDue(due));
    let shown = api.get("/api/breakers/builtin").await.expect(200);
    assert_eq!((&shown["state"], &shown["probe"]), (&json!("half_open"), &probe["id"]));
    api.node.succeed(id_of(&probe));
    assert_eq!(api.get("/api/breakers/builtin").await.expect(200)["state"], "closed");
}

#[actix_web::test]
async fn the_priority_of_what_waits_is_changed_by_hand() {
    let api = Api::start();
    let task = api.create(with(manual("one"), json!({ "overlap": "allow" }))).await;
    let waits = run(&api, &task).await;
    assert_eq!(waits["priority"], 5);
    let path = format!("/api/executions/{}", text(&waits, "id"));
    let patch =
        |body: &Value| api.ask(Ask::of(Method::PATCH, Box::leak(path.clone().into_boxed_str())).json(body));
    assert_eq!(patch(&json!({ "priority": 9 })).await.expect(200)["priority"], 9);
    assert_eq!(patch(&json!({ "priority": 10 })).await.problem(422, "invalid"), ["/priority"]);
    assert_eq!(patch(&json!({ "urgency": 1 })).await.problem(422, "invalid"), ["/priority", "/urgency"]);
    let events = api.get("/api/audit/events").await.expect(200);
    let changed =
        items(&events).iter().find(|event| event["type"] == "TaskPriorityChanged").expect("audited");
    assert_eq!((&changed["data"]["priority"], &changed["actor"]), (&json!(9), &json!("ada")));
    api.node.worker(Programs::Any);
    patch(&json!({ "priority": 1 })).await.problem(409, "wrong_status");
    api.node.end(id_of(&waits), AttemptOutcome::Succeeded(None));
    patch(&json!({ "priority": 1 })).await.problem(409, "wrong_status");
    let stranger = api.token("eve", "other", &[Role::Admin]);
    let theirs = Ask::of(Method::PATCH, &path).json(&json!({ "priority": 1 })).token(&stranger);
    api.send(theirs).await.problem(404, "not_found");
}

#[actix_web::test]
async fn a_queue_is_paused_drained_and_resumed() {
    let api = Api::start();
    let action = json!({ "action": { "type": "queue", "queue": "ios", "payload": {} } });
    let task = api.create(with(manual("one"), action)).await;
    let paused = api.ask(Ask::of(Method::POST, "/api/queues/ios/pause")).await.expect(200);
    let expected = json!({ "name": "ios", "paused": true, "drained": true, "waiting": 0, "running": 0 });
    assert_eq!(paused, expected);
    assert_eq!(items(&api.get("/api/queues").await.expect(200)), [expected]);
    let waits = run(&api, &task).await;
    assert_eq!(show(&api, &waits).await["waiting_for"], "it waits for the queue `ios` to be resumed");
    let resumed = api.ask(Ask::of(Method::POST, "/api/queues/ios/resume")).await.expect(200);
    assert_eq!((&resumed["paused"], &resumed["drained"]), (&json!(false), &json!(false)));
}
