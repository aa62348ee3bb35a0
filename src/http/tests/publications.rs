//! Events from outside, over the API.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{Api, Ask, items, manual, text, with};
use crate::security::Role;

fn listener(name: &str, filter: Value, inputs: Value) -> Value {
    let action = json!({ "type": "queue", "queue": "suites", "payload": { "suite": 7 } });
    let trigger = json!({ "type": "event", "name": "build.finished", "filter": filter });
    with(manual(name), json!({ "trigger": trigger, "action": action, "inputs": inputs, "overlap": "allow" }))
}

fn event(payload: Value) -> Value {
    json!({ "name": "build.finished", "payload": payload })
}

async fn publish(api: &Api, payload: Value) -> Value {
    api.post("/api/events/", &event(payload)).await.expect(202)
}

async fn lease(api: &Api) -> Vec<Value> {
    let leased =
        api.post("/api/workers/suites/lease", &json!({ "worker": "w", "max": 10 })).await.expect(200);
    items(&leased).to_vec()
}

#[actix_web::test]
async fn an_event_fires_the_tasks_that_it_meets_and_they_take_values_of_it_over() {
    let api = Api::start();
    let inputs =
        json!({ "/commit": "/event/payload/commit", "/event": "/event/name", "/none": "/event/payload/no" });
    let task = api.create(listener("main", json!({ "/branch": "main" }), inputs.clone())).await;
    assert_eq!(
        (&task["inputs"], &task["state"], &task["next_fire_at"]),
        (&inputs, &json!("active"), &Value::Null)
    );
    api.create(listener("next", json!({ "/branch": "next" }), json!({}))).await;
    let published = publish(&api, json!({ "branch": "main", "commit": "4f2" })).await;
    assert_eq!(
        (&published["name"], &published["matched"], &published["complete"]),
        (&json!("build.finished"), &json!(1), &json!(true))
    );
    let leased = lease(&api).await;
    assert_eq!(leased.len(), 1);
    assert_eq!((&leased[0]["id"], &leased[0]["trigger"]), (&published["executions"][0], &json!("event")));
    let payload = json!({ "suite": 7, "commit": "4f2", "event": "build.finished", "none": null });
    assert_eq!(leased[0]["payload"], payload);

    // Tried again by hand, long after the event is done with, it takes the same values over.
    let id = text(&leased[0], "id");
    let failed = json!({ "lease_token": leased[0]["lease_token"], "outcome": "failed" });
    api.post(&format!("/api/executions/{id}/complete"), &failed).await.expect(200);
    api.node.advance(60_000);
    api.ask(Ask::of(Method::POST, &format!("/api/executions/{id}/retry"))).await.expect(202);
    assert_eq!(lease(&api).await[0]["payload"], payload);
}

#[actix_web::test]
async fn an_execution_whose_values_do_not_fit_fails_and_is_not_tried_again() {
    let api = Api::start();
    let inputs: Value = (0..20).map(|n| (format!("/{n}"), json!("/event/payload"))).collect();
    let task = with(listener("big", json!({}), inputs), json!({ "retry": { "max_attempts": 5 } }));
    api.create(task).await;
    let published = publish(&api, json!("x".repeat(16_000))).await;
    assert!(lease(&api).await.is_empty(), "its worker is not told of it");
    let path = format!("/api/executions/{}", published["executions"][0].as_str().expect("an id"));
    let failed = api.get(&path).await.expect(200);
    assert_eq!((&failed["status"], &failed["attempt"]), (&json!("failed"), &json!(1)));
    assert!(text(&failed, "error").contains("at most 196608 are allowed"), "{failed}");
}

#[actix_web::test]
async fn an_event_that_is_published_again_under_its_key_fires_nothing_twice() {
    let api = Api::start();
    api.create(listener("once", json!({}), json!({}))).await;
    let ask = |payload| {
        let ask = Ask::of(Method::POST, "/api/events").json(&event(payload)).header("Idempotency-Key", "k");
        api.ask(ask)
    };
    let first = ask(json!(1)).await.expect(202);
    assert_eq!(ask(json!(1)).await.expect(202), first);
    ask(json!(2)).await.problem(422, "idempotency_key_reused");
    assert_eq!(lease(&api).await.len(), 1);
}

#[actix_web::test]
async fn who_may_not_run_all_of_a_tenants_tasks_may_not_publish() {
    let api = Api::start();
    api.create(listener("ours", json!({}), json!({}))).await;
    let publish = |subject: &'static str, tenant: &'static str, role| {
        let token = api.token(subject, tenant, &[role]);
        let body = event(json!({}));
        let api = &api;
        async move { api.send(Ask::of(Method::POST, "/api/events").token(&token).json(&body)).await }
    };
    for role in [Role::Viewer, Role::Editor] {
        publish("vic", "acme", role).await.problem(403, "forbidden");
    }
    assert_eq!(publish("eve", "globex", Role::Admin).await.expect(202)["matched"], json!(0));
    assert_eq!(publish("ops", "acme", Role::Operator).await.expect(202)["matched"], json!(1));
}

#[actix_web::test]
async fn a_listening_task_says_what_it_waits_for() {
    let api = Api::start();
    let task = api.create(listener("main", json!({ "/branch": "main" }), json!({}))).await;
    let told = api.get(&format!("/api/scheduled-tasks/{}/explain", text(&task, "id"))).await.expect(200);
    assert_eq!(told["schedule"], "when an event `build.finished` arrives whose /branch is \"main\"");
    assert_eq!(told["next"], json!([]));
    assert_eq!(told["waits_for"][0]["reason"], "event", "{told}");
}

#[actix_web::test]
async fn what_is_wrong_with_an_event_is_named() {
    let api = Api::start();
    let refused = api.post("/api/events", &json!({ "payload": 1, "nme": "x" })).await;
    assert_eq!(refused.problem(422, "invalid"), ["/name", "/nme"]);
    api.ask(Ask::of(Method::POST, "/api/events?name=x").json(&event(json!(1))))
        .await
        .problem(400, "invalid_parameter");
}
