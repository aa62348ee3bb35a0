//! What clients do with tasks.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{Api, Ask, interval, items, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;
use escapement_domain::timestamp::{Span, Timestamp};

fn path_of(task: &Value) -> String {
    format!("/api/scheduled-tasks/{}", text(task, "id"))
}

#[actix_web::test]
async fn a_task_is_answered_in_the_contracts_shape() {
    let api = Api::start();
    let sent = json!({
        "name": "nightly-regression", "kind": "test_execution",
        "trigger": { "type": "cron", "expression": "0 2 * * 1-5", "timezone": "Europe/Berlin" },
        "action": { "type": "http", "method": "POST", "url": "https://runner.example/suites/7", "body": { "b": 1.50, "a": [] } },
        "retry": {}, "labels": { "team": "qa" }
    });
    let reply = api.post("/api/scheduled-tasks/", &sent).await;
    let task = reply.expect(201);
    assert_eq!(reply.header("location"), Some(path_of(&task).as_str()));
    assert_eq!(reply.header("etag"), Some("\"1\""));
    let expected = json!({
        "id": task["id"], "tenant": "acme", "owner": "ada", "version": 1,
        "name": "nightly-regression", "description": "", "kind": "test_execution",
        "trigger": { "type": "cron", "expression": "0 2 * * 1-5", "timezone": "Europe/Berlin",
                     "dst": { "gap": "cron", "fold": "cron" } },
        "action": { "type": "http", "method": "POST", "url": "https://runner.example/suites/7", "headers": {},
                    "body": { "b": 1.50, "a": [] }, "completion": "response" },
        "timeout": "5m", "execution_timeout": null, "queue_timeout": null,
        "retry": { "max_attempts": 5, "initial_delay": "1s", "multiplier": 2.0, "max_delay": "5m", "jitter": 0.2,
                   "retry_on": null },
        "circuit_breaker": null,
        "misfire": { "policy": "run_latest", "grace": "1m", "window": "1h" },
        "overlap": "skip", "delivery": "at_least_once", "priority": 5, "resources": {}, "max_concurrent": null, "jitter": "0s", "inputs": {},
        "calendars": [], "labels": { "team": "qa" }, "start_at": null, "end_at": null, "max_runs": null,
        "pause_after_failures": null, "state": "active", "pause_reason": null, "failures_in_a_row": 0, "created_at": NOW.to_string(), "updated_at": NOW.to_string(),
        "next_fire_at": "2026-03-02T01:00:00.000Z", "last_execution": null
    });
    assert_eq!(task, expected);
    assert_eq!(api.get(&path_of(&task)).await.expect(200), expected);
    assert!(text(&task, "id").parse::<uuid::Uuid>().is_ok_and(|id| id.get_version_num() == 7));
}

#[actix_web::test]
async fn every_fault_is_named_at_once() {
    let api = Api::start();
    let wrong = json!({ "name": "", "trigger": { "type": "cron", "expression": "61 * * * *" },
                        "action": { "type": "http", "url": "ftp://x" }, "priorty": 3, "timeout": "soon" });
    let reply = api.post("/api/scheduled-tasks/", &wrong).await;
    let pointers = reply.problem(422, "invalid");
    assert_eq!(pointers, ["/name", "/trigger/expression", "/action/url", "/timeout", "/priorty"]);
    assert!(reply.text.contains("did you mean `priority`?"), "{}", reply.text);
}

#[actix_web::test]
async fn a_task_may_be_sent_back_as_it_was_answered() {
    let api = Api::start();
    let task = api.create(interval("one", "1h")).await;
    let put =
        |task: &Value| api.ask(Ask::of(Method::PUT, Box::leak(path_of(task).into_boxed_str())).json(task));
    let same = put(&task).await.expect(200);
    assert_eq!((&same["version"], &same["id"]), (&json!(2), &task["id"]));
    let renamed = put(&with(same, json!({ "name": "two", "state": "paused" }))).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["state"]), (&json!("two"), &json!("paused")));
    assert_eq!(renamed["next_fire_at"], Value::Null);
    let mut silent = renamed.clone();
    silent.as_object_mut().expect("an object").remove("state");
    assert_eq!(put(&silent).await.expect(200)["state"], json!("paused"), "left out, the state stays");
    let resumed = put(&with(renamed, json!({ "state": "active" }))).await.expect(200);
    assert_eq!(resumed["state"], json!("active"));
}

#[actix_web::test]
async fn a_change_of_an_older_version_is_refused() {
    let api = Api::start();
    let task = api.create(manual("one")).await;
    let path = path_of(&task);
    let put = |tag: &str| api.ask(Ask::of(Method::PUT, &path).json(&manual("two")).header("If-Match", tag));
    let changed = put("\"1\"").await;
    assert_eq!(changed.header("etag"), Some("\"2\""));
    changed.expect(200);
    put("\"1\"").await.problem(412, "version_mismatch");
    put("\"nonsense\"").await.problem(412, "version_mismatch");
    put("\"1\", W/\"2\"").await.expect(200);
    put("*").await.expect(200);
    let delete = Ask::of(Method::DELETE, &path);
    api.ask(delete.clone().header("If-Match", "\"1\"")).await.problem(412, "version_mismatch");
    api.ask(delete.clone().header("If-Match", "\"4\"")).await.expect(204);
    api.ask(delete).await.problem(404, "not_found");
    api.get(&path).await.problem(404, "not_found");
}

#[actix_web::test]
async fn a_repeated_key_gets_the_first_answer_and_another_body_none() {
    let api = Api::start();
    let create = |name: &str, key: &str| {
        api.ask(
            Ask::of(Method::POST, "/api/scheduled-tasks").json(&manual(name)).header("Idempotency-Key", key),
        )
    };
    let first = create("one", "k-1").await.expect(201);
    assert_eq!(create("one", "k-1").await.expect(201)["id"], first["id"]);
    create("two", "k-1").await.problem(422, "idempotency_key_reused");
    assert_ne!(create("one", "k-2").await.expect(201)["id"], first["id"]);
    create("one", &"k".repeat(256)).await.problem(400, "invalid_header");
    let reordered =
        r#"{"action":{"operation":"noop","type":"builtin"}, "trigger":{"type":"manual"},"name":"one"}"#;
    let again = Ask::of(Method::POST, "/api/scheduled-tasks/")
        .bytes(reordered.into())
        .header("Idempotency-Key", "k-1");
    assert_eq!(api.ask(again).await.expect(201)["id"], first["id"], "the same said in other words");
}

#[actix_web::test]
async fn another_tenants_task_does_not_exist() {
    let api = Api::start();
    let task = api.create(manual("adas")).await;
    let stranger = api.token("eve", "other", &[Role::Admin, Role::ClusterAdmin]);
    let path = path_of(&task);
    for (method, rest) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::POST, "/run"),
        (Method::POST, "/pause"),
        (Method::GET, "/next"),
        (Method::GET, "/explain"),
        (Method::GET, "/events"),
    ] {
        let path = format!("{path}{rest}");
        api.send(Ask::of(method, &path).token(&stranger)).await.problem(404, "not_found");
    }
    let put = Ask::of(Method::PUT, &path).json(&manual("eves")).token(&stranger);
    api.send(put).await.problem(404, "not_found");
    let list = api.send(Ask::of(Method::GET, "/api/scheduled-tasks").token(&stranger)).await.expect(200);
    assert!(items(&list).is_empty());
}

#[actix_web::test]
async fn a_list_is_turned_page_by_page_and_filtered() {
    let api = Api::start();
    for index in 0..5 {
        let fields = json!({ "kind": if index % 2 == 0 { "report" } else { "alert" }, "labels": { "n": index.to_string() } });
        api.create(with(manual(&format!("task {index}")), fields)).await;
        api.node.advance(10);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/api/scheduled-tasks?limit=2{cursor}")).await.expect(200);
        names.extend(items(&page).iter().map(|task| text(task, "name")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["task 0", "task 1", "task 2", "task 3", "task 4"]);
    let count =
        async |query: &str| items(&api.get(&format!("/api/scheduled-tasks?{query}")).await.expect(200)).len();
    assert_eq!(count("kind=report").await, 3);
    assert_eq!(count("label=n%3D1").await, 1);
    assert_eq!(count("label=n").await, 5);
    assert_eq!(count("name=task%204&kind=report").await, 1);
    assert_eq!(count("state=paused").await, 0);
    let reply = api.get(&format!("/api/scheduled-tasks?limit=2&kind=report{cursor}")).await;
    assert_eq!(reply.problem(400, "invalid_parameter"), ["?cursor"], "a cursor of another list");
}

#[actix_web::test]
async fn pause_and_resume_change_the_state() {
    let api = Api::start();
    let task = api.create(interval("one", "1h")).await;
    let path = path_of(&task);
    let paused = api.ask(Ask::of(Method::POST, &format!("{path}/pause"))).await;
    assert_eq!(paused.expect(200)["state"], json!("paused"));
    assert_eq!(api.get(&format!("{path}/next")).await.expect(200)["fires"], json!([]));
    let listed = api.get("/api/scheduled-tasks?state=paused").await.expect(200);
    assert_eq!(items(&listed).len(), 1);
    let resumed = api.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    assert_eq!(resumed["state"], json!("active"));
    let pointers = api.post(&format!("{path}/resume"), &json!({ "now": true })).await.problem(422, "invalid");
    assert_eq!(pointers, ["/now"]);
}

#[actix_web::test]
async fn a_finished_task_cannot_be_paused_and_can_be_sent_back() {
    let api = Api::start();
    let at = NOW.plus(Span::seconds(60));
    let once = with(manual("once"), json!({ "trigger": { "type": "once", "at": at.to_string() } }));
    let task = api.create(once).await;
    api.node.worker(escapement_domain::command::Programs::Any);
    api.node.advance(60_000);
    api.node.fire(text(&task, "id").parse().expect("a UUID"), None);
    let path = path_of(&task);
    let finished = api.get(&path).await.expect(200);
    assert_eq!(finished["state"], json!("finished"));
    api.ask(Ask::of(Method::POST, &format!("{path}/pause"))).await.problem(409, "wrong_state");
    let again = api.ask(Ask::of(Method::PUT, &path).json(&finished)).await.expect(200);
    assert_eq!(again["state"], json!("finished"));
    let past = with(manual("late"), json!({ "trigger": { "type": "once", "at": at.to_string() } }));
    assert_eq!(api.post("/api/scheduled-tasks", &past).await.problem(422, "invalid"), ["/trigger/at"]);
}

#[actix_web::test]
async fn the_next_fires_follow_the_schedule() {
    let api = Api::start();
    let limited = with(interval("limited", "1h"), json!({ "max_runs": 2 }));
    let task = api.create(limited).await;
    let at = |hours| json!(NOW.plus(Span::hours(hours)).to_string());
    let next = api.get(&format!("{}/next?count=9", path_of(&task))).await.expect(200);
    assert_eq!(next["fires"], json!([at(1), at(2)]));
    let other = api.create(interval("other", "90m")).await;
    let page = api.get("/api/scheduled-tasks/upcoming?limit=4").await.expect(200);
    let fires: Vec<(String, Value)> =
        items(&page).iter().map(|fire| (text(fire, "name"), fire["at"].clone())).collect();
    let half = |minutes: i64| json!(Timestamp(NOW.0 + minutes * 60_000).to_string());
    let expected = [("limited", at(1)), ("other", half(90)), ("limited", at(2)), ("other", half(180))];
    assert_eq!(fires, expected.map(|(name, at)| (name.to_owned(), at)));
    assert_eq!(items(&page)[1]["task_id"], other["id"]);
    api.get(&format!("{}/next?count=0", path_of(&task))).await.problem(400, "invalid_parameter");
}

#[actix_web::test]
async fn a_tasks_events_are_listed_and_outlive_it() {
    let api = Api::start();
    let task = api.create(manual("one")).await;
    let path = path_of(&task);
    api.ask(Ask::of(Method::POST, &format!("{path}/pause"))).await.expect(200);
    api.ask(Ask::of(Method::DELETE, &path)).await.expect(204);
    let kinds = async |query: &str| {
        let page = api.get(&format!("{path}/events?{query}")).await.expect(200);
        let kinds: Vec<String> = items(&page).iter().map(|event| text(event, "type")).collect();
        (kinds, page["next_cursor"].as_str().map(str::to_owned))
    };
    let (first, cursor) = kinds("limit=2").await;
    assert_eq!(first, ["TaskCreated", "TaskPaused"]);
    let (rest, end) = kinds(&format!("cursor={}", cursor.expect("more"))).await;
    assert_eq!((rest, end), (vec!["TaskDeleted".to_owned()], None));
    api.get("/api/scheduled-tasks/0190d1c2-0000-7000-8000-000000000000/events")
        .await
        .problem(404, "not_found");
}
