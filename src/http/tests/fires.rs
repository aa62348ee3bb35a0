//! Proof of schedule over the API.

use actix_web::http::Method;
use escapement_domain::command::Programs;
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::{Value, json};

use super::{Api, Ask, interval, items, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;

fn hour(hours: u64) -> Timestamp {
    NOW.plus(Span::hours(hours))
}

fn path(hours: u64, more: &str) -> String {
    format!("/api/audit/fires?from={NOW}&to={}{more}", hour(hours))
}

fn statuses(page: &Value) -> Vec<String> {
    items(page).iter().map(|fire| text(fire, "status")).collect()
}

/// Two tasks: `hourly` fires on time, then late, then is forgotten; `second` is deleted after its first fire.
async fn played() -> (Api, Value, Value) {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let hourly = api.create(with(interval("hourly", "1h"), json!({ "overlap": "allow" }))).await;
    let second = api.create(with(interval("second", "1h"), json!({ "overlap": "allow" }))).await;
    api.create(manual("by hand")).await;
    let fire = |task: &Value, next| api.node.fire(text(task, "id").parse().expect("a UUID"), Some(next));
    api.node.advance(3_600_000);
    fire(&hourly, hour(2));
    fire(&second, hour(2));
    let gone = format!("/api/scheduled-tasks/{}", text(&second, "id"));
    api.ask(Ask::of(Method::DELETE, &gone)).await.expect(204);
    api.node.advance(3_600_000 + 5_000);
    fire(&hourly, hour(3));
    api.node.advance(2 * 3_600_000 + 120_000);
    (api, hourly, second)
}

#[actix_web::test]
async fn every_instant_is_accounted_for_with_its_execution_and_log_index() {
    let (api, hourly, second) = played().await;
    let page = api.get(&path(6, "")).await.expect(200);
    assert_eq!(statuses(&page), ["on_time", "on_time", "late", "missed", "missed", "pending"]);
    let totals = json!({ "on_time": 2, "late": 1, "delayed_by_overlap": 0, "skipped": 0, "missed": 2, "pending": 1,
                         "unexpected": 0 });
    assert_eq!((&page["totals"], &page["next_cursor"]), (&totals, &Value::Null));
    assert!(page["zone_data"].as_str().is_some_and(|version| version.starts_with("20")), "{page}");
    let late = &items(&page)[2];
    assert_eq!((&late["task_id"], &late["lateness_ms"]), (&hourly["id"], &json!(5_000)));
    let execution = api.get(&format!("/api/executions/{}", text(late, "execution_id"))).await.expect(200);
    assert_eq!((&execution["scheduled_at"], &execution["log_index"]), (&late["at"], &late["log_index"]));
    assert_eq!(items(&page)[3]["reason"], "unsettled");
    let only = api.get(&path(6, &format!("&task={}", text(&second, "id")))).await.expect(200);
    assert_eq!(statuses(&only), ["on_time"], "a deleted task owes nothing more");
}

#[actix_web::test]
async fn an_account_is_turned_page_by_page() {
    let (api, ..) = played().await;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&path(6, &format!("&limit=2{cursor}"))).await.expect(200);
        assert_eq!(page["totals"]["missed"], 2, "totals are of the whole range");
        found.extend(statuses(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["on_time", "on_time", "late", "missed", "missed", "pending"]);
    let reply = api.get(&path(7, &format!("&limit=2{cursor}"))).await;
    assert_eq!(reply.problem(400, "invalid_parameter"), ["?cursor"], "a cursor of another range");
}

#[actix_web::test]
async fn an_account_takes_an_administrator_and_a_range() {
    let (api, ..) = played().await;
    let operator = api.token("op", "acme", &[Role::Operator]);
    api.send(Ask::of(Method::GET, &path(6, "")).token(&operator)).await.problem(403, "forbidden");
    let admin = api.token("eve", "other", &[Role::Admin]);
    let own = api.send(Ask::of(Method::GET, &path(6, "")).token(&admin)).await.expect(200);
    assert!(items(&own).is_empty());
    let foreign = path(6, "&tenant=acme");
    api.send(Ask::of(Method::GET, &foreign).token(&admin)).await.problem(403, "forbidden");
    let cluster_admin = api.token("root", "other", &[Role::ClusterAdmin]);
    let seen = api.send(Ask::of(Method::GET, &foreign).token(&cluster_admin)).await.expect(200);
    assert_eq!(items(&seen).len(), 6);
    assert_eq!(api.get("/api/audit/fires").await.problem(400, "invalid_parameter"), ["?from", "?to"]);
    assert_eq!(api.get(&path(0, "")).await.problem(400, "invalid_parameter"), ["?to"]);
    let nobody = path(6, "&task=0190d1c2-0000-7000-8000-000000000000");
    api.get(&nobody).await.problem(404, "not_found");
    api.get(&path(6, "&tenant=nobody")).await.problem(404, "not_found");
    assert_eq!(api.get(&path(2_000_000, "")).await.problem(422, "invalid"), ["?to"]);
}
