//! What clients do with calendars.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{Api, Ask, Reply, interval, items, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;

async fn put(api: &Api, name: &str, calendar: &Value) -> Reply {
    api.ask(Ask::of(Method::PUT, &format!("/api/calendars/{name}")).json(calendar)).await
}

fn christmas() -> Value {
    json!({ "days": ["2026-12-25", "2026-12-24/2027-01-01", "12-25"] })
}

#[actix_web::test]
async fn a_calendar_is_made_replaced_read_and_deleted() {
    let api = Api::start();
    let sent = json!({ "description": "nights", "mode": "only", "timezone": "Europe/Berlin", "days": ["12-31/01-01"],
                       "windows": ["Sat 22:00–Sun 04:00 Europe/Paris", "22:00-24:00"] });
    let reply = put(&api, "nights.1", &sent).await;
    let made = reply.expect(201);
    assert_eq!(reply.header("location"), Some("/api/calendars/nights.1"));
    let expected = json!({
        "name": "nights.1", "description": "nights", "mode": "only", "timezone": "Europe/Berlin",
        "days": ["12-31/01-01"], "windows": ["Sat 22:00-Sun 04:00 Europe/Paris", "22:00-00:00"],
        "version": 1, "updated_at": NOW.to_string(), "tasks": 0
    });
    assert_eq!(made, expected);
    assert_eq!(api.get("/api/calendars/nights.1/").await.expect(200), expected);
    assert_eq!(
        put(&api, "nights.1", &made).await.expect(200)["version"],
        1,
        "the same again changes nothing"
    );
    assert_eq!(put(&api, "nights.1", &christmas()).await.expect(200)["version"], 2);
    let replaced = api.get("/api/calendars/nights.1").await.expect(200);
    assert_eq!((&replaced["mode"], &replaced["timezone"]), (&json!("exclude"), &Value::Null));
    api.ask(Ask::of(Method::DELETE, "/api/calendars/nights.1")).await.expect(204);
    api.ask(Ask::of(Method::DELETE, "/api/calendars/nights.1")).await.problem(404, "not_found");
    api.get("/api/calendars/nights.1").await.problem(404, "not_found");
}

#[actix_web::test]
async fn every_fault_of_a_calendar_is_named_at_its_place() {
    let api = Api::start();
    let wrong = json!({ "mode": "include", "timezone": "Mars/Base", "days": ["12-25", "12-32"], "windows": ["always"],
                        "holiday": true });
    let pointers = put(&api, "x", &wrong).await.problem(422, "invalid");
    assert_eq!(pointers, ["/mode", "/timezone", "/days/1", "/windows/0", "/holiday"]);
    assert_eq!(put(&api, "x", &json!({})).await.problem(422, "invalid"), ["/days"]);
    assert_eq!(put(&api, "a%20b", &christmas()).await.problem(422, "invalid"), [""]);
    assert!(items(&api.get("/api/calendars/").await.expect(200)).is_empty(), "nothing was written");
}

#[actix_web::test]
async fn an_admin_manages_calendars_and_a_viewer_reads_them() {
    let api = Api::start();
    let operator = api.token("op", "acme", &[Role::Operator]);
    let viewer = api.token("vi", "acme", &[Role::Viewer]);
    let stranger = api.token("eve", "other", &[Role::Admin]);
    let path = "/api/calendars/holidays";
    let change = Ask::of(Method::PUT, path).json(&christmas());
    api.send(change.clone().token(&operator)).await.problem(403, "forbidden");
    put(&api, "holidays", &christmas()).await.expect(201);
    api.send(Ask::of(Method::DELETE, path).token(&operator)).await.problem(403, "forbidden");
    api.send(Ask::of(Method::GET, path).token(&viewer)).await.expect(200);
    let list = api.send(Ask::of(Method::GET, "/api/calendars").token(&viewer)).await.expect(200);
    assert_eq!(items(&list).len(), 1);
    api.send(Ask::of(Method::GET, path).token(&stranger)).await.problem(404, "not_found");
    api.send(Ask::of(Method::DELETE, path).token(&stranger)).await.problem(404, "not_found");
    api.send(change.token(&stranger)).await.expect(201);
}

#[actix_web::test]
async fn a_list_of_calendars_is_turned_page_by_page() {
    let api = Api::start();
    let longest = "x".repeat(128);
    for name in ["b", "a", "c.1", &longest, "C"] {
        put(&api, name, &christmas()).await.expect(201);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/api/calendars?limit=2{cursor}")).await.expect(200);
        names.extend(items(&page).iter().map(|calendar| text(calendar, "name")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["C", "a", "b", "c.1", &longest]);
}

#[actix_web::test]
async fn a_task_names_calendars_that_are_there() {
    let api = Api::start();
    put(&api, "holidays", &christmas()).await.expect(201);
    let named = |names: &[&str]| with(interval("one", "1h"), json!({ "calendars": names }));
    let refused = api.post("/api/scheduled-tasks/", &named(&["lunch", "holidays", "nights"])).await;
    assert_eq!(refused.problem(422, "invalid"), ["/calendars/0", "/calendars/2"]);
    for name in ["lunch", "nights"] {
        let advice = format!("there is no calendar `{name}`; create it with PUT /api/calendars/{name}");
        assert!(refused.text.contains(&advice), "{}", refused.text);
    }
    let task = api.create(named(&["holidays"])).await;
    assert_eq!(task["calendars"], json!(["holidays"]));
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    let update =
        |task: &Value| api.ask(Ask::of(Method::PUT, Box::leak(path.clone().into_boxed_str())).json(task));
    let refused = update(&named(&["nights", "lunch"])).await;
    assert_eq!(refused.problem(422, "invalid"), ["/calendars/0", "/calendars/1"]);
    // Another tenant's calendar is none of theirs.
    let stranger = api.token("eve", "other", &[Role::Editor]);
    let create = Ask::of(Method::POST, "/api/scheduled-tasks").json(&named(&["holidays"])).token(&stranger);
    assert_eq!(api.send(create).await.problem(422, "invalid"), ["/calendars/0"]);
    // One that is used stays.
    assert_eq!(api.get("/api/calendars/holidays").await.expect(200)["tasks"], 1);
    let delete = Ask::of(Method::DELETE, "/api/calendars/holidays");
    let used = api.ask(delete.clone()).await;
    used.problem(409, "calendar_in_use");
    assert!(used.text.contains("GET /api/scheduled-tasks/?calendar=holidays"), "{}", used.text);
    api.create(manual("other")).await;
    let users = api.get("/api/scheduled-tasks/?calendar=holidays").await.expect(200);
    assert_eq!((items(&users).len(), &items(&users)[0]["id"]), (1, &task["id"]));
    update(&named(&[])).await.expect(200);
    api.ask(delete).await.expect(204);
}

#[actix_web::test]
async fn a_bulk_names_the_task_whose_calendar_is_missing() {
    let api = Api::start();
    let missing = with(manual("two"), json!({ "calendars": ["nights", "lunch"] }));
    let bulk = json!([manual("one"), missing]);
    let each = api.post("/api/scheduled-tasks/bulk", &bulk).await.expect(200);
    assert_eq!((&each["created"], &each["failed"]), (&json!(1), &json!(1)));
    for place in 0..2 {
        let pointer = format!("/calendars/{place}");
        assert_eq!(each["items"][1]["errors"][place]["pointer"], json!(pointer), "{each}");
    }
    let all = api.post("/api/scheduled-tasks/bulk?atomic=true", &bulk).await;
    assert_eq!(all.problem(422, "invalid"), ["/1/calendars/0", "/1/calendars/1"]);
    let all = api.post("/api/scheduled-tasks/bulk?atomic=true", &json!({ "items": bulk })).await;
    assert_eq!(all.problem(422, "invalid"), ["/items/1/calendars/0", "/items/1/calendars/1"]);
    assert_eq!(items(&api.get("/api/scheduled-tasks").await.expect(200)).len(), 1);
}

#[actix_web::test]
async fn a_repeated_key_gets_the_first_answer() {
    let api = Api::start();
    let keyed = |calendar: &Value| {
        api.ask(Ask::of(Method::PUT, "/api/calendars/x").json(calendar).header("Idempotency-Key", "k"))
    };
    assert_eq!(keyed(&christmas()).await.expect(201)["version"], 1);
    assert_eq!(keyed(&christmas()).await.expect(200)["version"], 1);
    keyed(&json!({ "days": ["01-01"] })).await.problem(422, "idempotency_key_reused");
}
