//! Many tasks at once.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{Api, Ask, items, manual, with};

fn bulk(count: usize) -> Vec<Value> {
    (0..count).map(|index| manual(&format!("task {index}"))).collect()
}

async fn count(api: &Api) -> usize {
    items(&api.get("/api/scheduled-tasks?limit=1000").await.expect(200)).len()
}

#[actix_web::test]
async fn one_task_that_is_wrong_does_not_hold_up_the_others() {
    let api = Api::start();
    let mut tasks = bulk(3);
    tasks[1]["priority"] = json!(10);
    let result = api.post("/api/scheduled-tasks/bulk", &json!(tasks)).await.expect(200);
    assert_eq!((&result["created"], &result["failed"]), (&json!(2), &json!(1)));
    let statuses: Vec<&Value> = items(&result).iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, [201, 422, 201]);
    assert_eq!(items(&result)[1]["errors"][0]["pointer"], json!("/priority"));
    let id = items(&result)[2]["id"].as_str().expect("an id");
    assert_eq!(api.get(&format!("/api/scheduled-tasks/{id}")).await.expect(200)["name"], json!("task 2"));
    assert_eq!(count(&api).await, 2);
}

#[actix_web::test]
async fn a_large_bulk_is_created_in_parts_and_once() {
    let api = Api::start();
    let ask = Ask::of(Method::POST, "/api/scheduled-tasks/bulk")
        .json(&json!(bulk(700)))
        .header("Idempotency-Key", "b");
    let first = api.ask(ask.clone()).await.expect(200);
    assert_eq!(first["created"], json!(700));
    assert_eq!(api.ask(ask).await.expect(200), first);
    assert_eq!(count(&api).await, 700);
    let other = Ask::of(Method::POST, "/api/scheduled-tasks/bulk")
        .json(&json!(bulk(2)))
        .header("Idempotency-Key", "b");
    api.ask(other).await.problem(422, "idempotency_key_reused");
}

#[actix_web::test]
async fn all_or_none_creates_all() {
    let api = Api::start();
    let ask = |count, key| {
        let ask = Ask::of(Method::POST, "/api/scheduled-tasks/bulk?atomic=true").json(&json!(bulk(count)));
        api.ask(ask.header("Idempotency-Key", key))
    };
    let first = ask(600, "b").await.expect(200);
    assert_eq!((&first["created"], count(&api).await), (&json!(600), 600));
    api.node.advance(30 * 60_000);
    assert_eq!(ask(600, "b").await.expect(200), first, "again under its key, it is the same bulk");
    ask(3, "b").await.problem(422, "idempotency_key_reused");
    assert_eq!(count(&api).await, 600);
}

#[actix_web::test]
async fn all_or_none_creates_none() {
    let api = Api::start();
    let mut tasks = bulk(3);
    tasks[2] = with(manual("wrong"), json!({ "retry": { "max_attempts": 0 }, "nme": 1 }));
    let reply = api.post("/api/scheduled-tasks/bulk?atomic=true", &json!(tasks)).await;
    assert_eq!(reply.problem(422, "invalid"), ["/2/retry/max_attempts", "/2/nme"]);
    let reply = api.post("/api/scheduled-tasks/bulk?atomic=true", &json!({ "items": tasks })).await;
    assert_eq!(reply.problem(422, "invalid"), ["/items/2/retry/max_attempts", "/items/2/nme"]);
    assert_eq!(count(&api).await, 0);
}

#[actix_web::test]
async fn a_bulk_is_a_list_of_bounded_length() {
    let api = Api::start();
    api.post("/api/scheduled-tasks/bulk", &json!(7)).await.problem(422, "invalid");
    api.post("/api/scheduled-tasks/bulk", &json!({})).await.problem(422, "invalid");
    let pointers =
        api.post("/api/scheduled-tasks/bulk", &json!({ "tasks": [] })).await.problem(422, "invalid");
    assert_eq!(pointers, ["/tasks"]);
    assert_eq!(api.post("/api/scheduled-tasks/bulk", &json!([])).await.expect(200)["created"], json!(0));
    let many = vec![json!(null); 10_001];
    api.post("/api/scheduled-tasks/bulk", &json!(many)).await.problem(422, "invalid");
}
