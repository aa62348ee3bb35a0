//! The load to come over the API.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{Api, Ask, interval, manual, text, with};
use crate::security::Role;

const PATH: &str = "/api/schedules/forecast";

fn cron(name: &str, expression: &str, more: Value) -> Value {
    with(with(manual(name), json!({ "trigger": { "type": "cron", "expression": expression } })), more)
}

fn count(load: &Value, step: usize) -> u64 {
    load["counts"][step].as_u64().unwrap_or_else(|| panic!("step {step} in {load}"))
}

async fn other_tenant(api: &Api, task: &Value) {
    let token = api.token("eve", "other", &[Role::Editor]);
    api.send(Ask::of(Method::POST, "/api/scheduled-tasks").token(&token).json(task)).await.expect(201);
}

/// It is noon of 1 March 2026.
#[actix_web::test]
async fn fires_are_counted_by_the_minute_with_their_peak() {
    let api = Api::start();
    for name in ["one", "two", "three"] {
        api.create(cron(name, "0 2 * * *", json!({}))).await;
    }
    api.create(interval("often", "10m")).await;
    api.create(manual("by hand")).await;
    let load = api.get(PATH).await.expect(200);
    assert_eq!(
        (&load["from"], &load["to"]),
        (&json!("2026-03-01T12:00:00.000Z"), &json!("2026-03-02T12:00:00.000Z"))
    );
    assert_eq!((&load["step"], &load["tasks"], &load["complete"]), (&json!("1m"), &json!(5), &json!(true)));
    assert_eq!(load["counts"].as_array().map(Vec::len), Some(1_440));
    // Its first fire is ten minutes after its creation, and the one of the end is not in.
    assert_eq!((count(&load, 0), count(&load, 10), count(&load, 11)), (0, 1, 0));
    assert_eq!((&load["total"], count(&load, 14 * 60)), (&json!(143 + 3), 4));
    let peak = json!({ "at": "2026-03-02T02:00:00.000Z", "fires": 4 });
    assert_eq!(load["peak"], peak);
    assert_eq!(load["tenants"], json!([{ "tenant": "acme", "total": 146, "peak": peak }]));
    let week = api.get(&format!("{PATH}?horizon=7d&step=1d")).await.expect(200);
    assert_eq!((&week["step"], count(&week, 1)), (&json!("1d"), 144 + 3), "days begin at midnight");
}

#[actix_web::test]
async fn what_does_not_fire_is_not_counted() {
    let api = Api::start();
    let paused = api.create(cron("paused", "*/10 * * * *", json!({}))).await;
    api.post(&format!("/api/scheduled-tasks/{}/pause", text(&paused, "id")), &Value::Null).await.expect(200);
    api.create(cron("later", "*/10 * * * *", json!({ "start_at": "2026-03-01T13:00:00Z" }))).await;
    api.create(cron("ends", "*/10 * * * *", json!({ "end_at": "2026-03-01T12:20:00Z" }))).await;
    api.create(cron("thrice", "*/10 * * * *", json!({ "max_runs": 3 }))).await;
    api.create(cron("late", "0 12 1 3 *", json!({}))).await;
    let load = api.get(&format!("{PATH}?horizon=2h&step=10m")).await.expect(200);
    assert_eq!(load["counts"], json!([0, 2, 2, 1, 0, 0, 1, 1, 1, 1, 1, 1]));
    assert_eq!((&load["total"], &load["tasks"]), (&json!(11), &json!(4)));
    let nothing = Api::start().get(PATH).await.expect(200);
    assert_eq!(
        (&nothing["total"], &nothing["peak"], &nothing["tenants"]),
        (&json!(0), &Value::Null, &json!([]))
    );
}

#[actix_web::test]
async fn jitter_thins_a_herd_out() {
    let api = Api::start();
    for number in 0..60 {
        api.create(cron(&number.to_string(), "0 13 * * *", json!({ "jitter": "30m" }))).await;
    }
    let load = api.get(&format!("{PATH}?step=10m")).await.expect(200);
    let spread: Vec<u64> = (6..10).map(|step| count(&load, step)).collect();
    assert_eq!(spread.iter().sum::<u64>(), 60, "{spread:?}");
    assert!(spread[..3].iter().all(|fires| (5..40).contains(fires)), "{spread:?}");
}

#[actix_web::test]
async fn every_tenant_is_told_to_a_cluster_admin_alone() {
    let api = Api::start();
    api.create(cron("one", "0 * * * *", json!({}))).await;
    other_tenant(&api, &cron("two", "*/30 * * * *", json!({}))).await;
    let all = format!("{PATH}?horizon=2h&all=true");
    let load = api.get(&all).await.expect(200);
    assert_eq!((&load["total"], &load["peak"]["fires"]), (&json!(1 + 3), &json!(2)));
    let totals: Vec<_> = load["tenants"].as_array().expect("a list").iter().collect();
    assert_eq!((&totals[0]["tenant"], &totals[0]["total"]), (&json!("acme"), &json!(1)));
    assert_eq!((&totals[1]["tenant"], &totals[1]["total"]), (&json!("other"), &json!(3)));
    let viewer = api.token("vic", "acme", &[Role::Viewer]);
    let own = api.send(Ask::of(Method::GET, &format!("{PATH}?horizon=2h")).token(&viewer)).await.expect(200);
    assert_eq!((&own["total"], own["tenants"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    api.send(Ask::of(Method::GET, &all).token(&viewer)).await.problem(403, "forbidden");
    let nobody = api.token("ned", "nobody", &[Role::Viewer]);
    let nothing = api.send(Ask::of(Method::GET, PATH).token(&nobody)).await.expect(200);
    assert_eq!((&nothing["total"], &nothing["tasks"]), (&json!(0), &json!(0)));
}

#[actix_web::test]
async fn a_wrong_parameter_is_named() {
    let api = Api::start();
    for (query, wrong) in [
        ("horizon=8d", "?horizon"),
        ("horizon=0s", "?horizon"),
        ("horizon=tomorrow", "?horizon"),
        ("step=500ms", "?step"),
        ("step=1s", "?step"),
        ("horizon=1h&step=2h", "?step"),
        ("all=perhaps", "?all"),
        ("horison=1h", "?horison"),
    ] {
        let reply = api.get(&format!("{PATH}?{query}")).await;
        assert_eq!(reply.problem(400, "invalid_parameter"), [wrong], "{query}");
    }
    api.get(&format!("{PATH}?horizon=2h&step=1s")).await.expect(200);
    api.get(&format!("{PATH}?horizon=30s")).await.expect(200);
}
