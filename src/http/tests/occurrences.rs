//! Occurrences that clients skip, move and restore, and ranges of the past that they run.

use actix_web::http::Method;
use escapement_domain::command::Programs;
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::{Value, json};

use super::{Api, Ask, Reply, items, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;

fn hour(hours: u64) -> String {
    NOW.plus(Span::hours(hours)).to_string()
}

fn ago(hours: u64) -> String {
    NOW.minus(Span::hours(hours)).to_string()
}

/// A task of every full hour, and its path.
async fn hourly(api: &Api) -> (Value, String) {
    let trigger = json!({ "type": "interval", "every": "1h", "anchor": "2026-01-01T00:00:00Z" });
    let task = api.create(with(manual("hourly"), json!({ "trigger": trigger, "overlap": "allow" }))).await;
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    (task, path)
}

async fn change(api: &Api, path: &str, at: &str, deed: &str, to: Option<&str>) -> Reply {
    api.post(&format!("{path}/occurrences"), &json!({ "at": at, "do": deed, "to": to })).await
}

#[actix_web::test]
async fn an_occurrence_is_skipped_moved_and_restored() {
    let api = Api::start();
    let (task, path) = hourly(&api).await;
    let answered = |at: &str, deed: &str, to: Option<&str>| json!({ "task_id": task["id"], "at": at, "do": deed, "to": to });
    let half = NOW.plus(Span::minutes(90)).to_string();
    assert_eq!(
        change(&api, &path, &hour(1), "skip", None).await.expect(200),
        answered(&hour(1), "skip", None)
    );
    let moved = change(&api, &path, &hour(2), "move", Some(&half)).await.expect(200);
    assert_eq!(moved, answered(&hour(2), "move", Some(&half)));
    let list = api.get(&format!("{path}/occurrences")).await.expect(200);
    let expected = json!({ "next_cursor": null, "items": [
        { "at": hour(1), "do": "skip", "to": null, "done": false },
        { "at": hour(2), "do": "move", "to": half, "done": false } ] });
    assert_eq!(list, expected);
    change(&api, &path, &hour(1), "restore", None).await.expect(200);
    change(&api, &path, &hour(1), "restore", None).await.problem(409, "occurrence_unchanged");
    change(&api, &path, &hour(2), "skip", None).await.expect(200);
    let list = api.get(&format!("{path}/occurrences")).await.expect(200);
    assert_eq!(list["items"], json!([{ "at": hour(2), "do": "skip", "to": null, "done": false }]));
}

#[actix_web::test]
async fn what_cannot_be_changed_is_refused_with_the_reason() {
    let api = Api::start();
    let (_, path) = hourly(&api).await;
    let invalid = async |at: &str, deed: &str, to: Option<&str>| {
        change(&api, &path, at, deed, to).await.problem(422, "invalid")
    };
    assert_eq!(invalid("tomorrow", "skip", None).await, ["/at"]);
    assert_eq!(invalid(&hour(1), "drop", None).await, ["/do"]);
    assert_eq!(invalid(&hour(1), "move", None).await, ["/to"]);
    assert_eq!(invalid(&hour(1), "move", Some(&hour(1))).await, ["/to"]);
    assert_eq!(invalid(&hour(1), "skip", Some(&hour(2))).await, ["/to"]);
    let half = NOW.plus(Span::minutes(90)).to_string();
    assert_eq!(invalid(&half, "skip", None).await, ["/at"], "the schedule has no such instant");
    let empty = api.post(&format!("{path}/occurrences"), &json!({ "when": 1 })).await;
    assert_eq!(empty.problem(422, "invalid"), ["/at", "/do", "/when"]);
    change(&api, &path, &ago(1), "skip", None).await.problem(409, "occurrence_passed");
    change(&api, &path, &hour(1), "move", Some(&ago(1))).await.problem(422, "moved_into_the_past");
    let nobody = "/api/scheduled-tasks/0190d1c2-0000-7000-8000-000000000000";
    change(&api, nobody, &hour(1), "skip", None).await.problem(404, "not_found");
    api.get(&format!("{nobody}/occurrences")).await.problem(404, "not_found");
}

#[actix_web::test]
async fn what_a_calendar_forbids_is_moved_to_where_it_is_allowed_and_that_is_all() {
    let api = Api::start();
    let day = &hour(0)[..10];
    let closed = json!({ "days": [day], "timezone": "UTC" });
    api.ask(Ask::of(Method::PUT, "/api/calendars/closed").json(&closed)).await.expect(201);
    let trigger = json!({ "type": "interval", "every": "1h", "anchor": "2026-01-01T00:00:00Z" });
    let task = with(manual("hourly"), json!({ "trigger": trigger, "calendars": ["closed"] }));
    let path = format!("/api/scheduled-tasks/{}", text(&api.create(task).await, "id"));
    let refused = change(&api, &path, &hour(1), "skip", None).await;
    assert_eq!(refused.problem(422, "invalid"), ["/at"]);
    assert!(refused.text.contains("the calendar `closed` forbids"), "{}", refused.text);
    let half = NOW.plus(Span::minutes(90)).to_string();
    for at in [hour(1), hour(30)] {
        let refused = change(&api, &path, &at, "move", Some(&half)).await;
        assert_eq!(refused.problem(422, "invalid"), ["/to"]);
        assert!(refused.text.contains("`closed` forbids"), "{}", refused.text);
    }
    let allowed = NOW.plus(Span::minutes(29 * 60 + 30)).to_string();
    change(&api, &path, &hour(1), "move", Some(&allowed)).await.expect(200);
    change(&api, &path, &hour(1), "skip", None).await.expect(200);
    change(&api, &path, &hour(30), "skip", None).await.expect(200);
}

#[actix_web::test]
async fn whoever_may_pause_a_task_may_change_its_occurrences_and_backfill_it() {
    let api = Api::start();
    let (_, path) = hourly(&api).await;
    let (occurrences, backfill) = (format!("{path}/occurrences"), format!("{path}/backfill"));
    let skip = Ask::of(Method::POST, &occurrences).json(&json!({ "at": hour(1), "do": "skip" }));
    let range = Ask::of(Method::POST, &backfill).json(&json!({ "from": ago(3), "to": ago(1) }));
    let editor = api.token("ed", "acme", &[Role::Editor]);
    let operator = api.token("op", "acme", &[Role::Operator]);
    let stranger = api.token("eve", "other", &[Role::Admin]);
    for ask in [skip, range] {
        api.send(ask.clone().token(&editor)).await.problem(403, "forbidden");
        api.send(ask.clone().token(&stranger)).await.problem(404, "not_found");
        api.send(ask.token(&operator)).await.expect(200);
    }
    let listed = api.send(Ask::of(Method::GET, &occurrences).token(&editor)).await.expect(200);
    assert_eq!(items(&listed).len(), 1);
}

#[actix_web::test]
async fn a_backfill_runs_each_past_occurrence_so_many_at_once() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let (task, path) = hourly(&api).await;
    let body = json!({ "from": ago(5), "to": ago(1), "concurrency": 2 });
    let started = api.post(&format!("{path}/backfill"), &body).await.expect(200);
    let expected = json!({ "id": started["id"], "task_id": task["id"], "from": ago(5), "to": ago(1), "total": 5,
                           "concurrency": 2, "started_at": NOW.to_string(), "open": 2, "left": 3 });
    assert_eq!(started, expected);
    let list = api.get(&format!("{path}/backfills")).await.expect(200);
    assert_eq!(list, json!({ "items": [expected], "next_cursor": null }));
    let executions = format!("/api/executions?task_id={}", text(&task, "id"));
    let mut ended = 0;
    loop {
        let page = api.get(&executions).await.expect(200);
        let running: Vec<&Value> = items(&page).iter().filter(|one| one["status"] == "running").collect();
        assert!(running.len() <= 2, "{page}");
        let Some(first) = running.first() else { break };
        api.node.succeed(text(first, "id").parse().expect("a UUID"));
        ended += 1;
    }
    let page = api.get(&executions).await.expect(200);
    let mut instants: Vec<String> = items(&page).iter().map(|one| text(one, "scheduled_at")).collect();
    instants.sort_unstable();
    assert_eq!((ended, instants), (5, (1..=5).rev().map(ago).collect::<Vec<_>>()));
    assert!(items(&page).iter().all(|one| one["trigger"] == "backfill"), "{page}");
    assert!(items(&api.get(&format!("{path}/backfills")).await.expect(200)).is_empty());
}

#[actix_web::test]
async fn a_cancelled_backfill_runs_no_more() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let (_, path) = hourly(&api).await;
    let started =
        api.post(&format!("{path}/backfill"), &json!({ "from": ago(9), "to": ago(1) })).await.expect(200);
    assert_eq!((&started["open"], &started["left"]), (&json!(1), &json!(8)), "one at once, unless it says");
    let cancel = format!("{path}/backfills/{}", text(&started, "id"));
    api.ask(Ask::of(Method::DELETE, &cancel)).await.expect(204);
    assert!(items(&api.get(&format!("{path}/backfills")).await.expect(200)).is_empty());
    api.ask(Ask::of(Method::DELETE, &cancel)).await.problem(404, "not_found");
    api.ask(Ask::of(Method::DELETE, &format!("{path}/backfills/7"))).await.problem(404, "not_found");
}

#[actix_web::test]
async fn a_range_is_of_the_past_holds_something_and_is_bounded() {
    let api = Api::start();
    let (_, path) = hourly(&api).await;
    let invalid =
        async |body: Value| api.post(&format!("{path}/backfill"), &body).await.problem(422, "invalid");
    assert_eq!(invalid(json!({ "concurrency": 0, "at": 1 })).await, ["/from", "/to", "/concurrency", "/at"]);
    assert_eq!(
        invalid(json!({ "from": 7, "to": "noon", "concurrency": "two" })).await,
        ["/from", "/to", "/concurrency"]
    );
    assert_eq!(invalid(json!({ "from": ago(1), "to": ago(2) })).await, ["/from"]);
    assert_eq!(invalid(json!({ "from": ago(1), "to": hour(1) })).await, ["/to"]);
    assert_eq!(invalid(json!({ "from": hour(1), "to": hour(2) })).await, ["/from", "/to"]);
    let between = Timestamp(NOW.0 - 1).to_string();
    assert_eq!(invalid(json!({ "from": between, "to": between })).await, ["/from"], "it holds no instant");
    let second = json!({ "type": "interval", "every": "1s", "anchor": "2026-01-01T00:00:00Z" });
    let second = api.create(with(manual("second"), json!({ "trigger": second }))).await;
    let path = format!("/api/scheduled-tasks/{}/backfill", text(&second, "id"));
    let far = api.post(&path, &json!({ "from": ago(9), "to": ago(1) })).await;
    assert_eq!(far.problem(422, "invalid"), ["/to"]);
    assert!(far.text.contains("more than the 10000 occurrences"), "{}", far.text);
}
