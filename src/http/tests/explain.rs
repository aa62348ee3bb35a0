//! Why a task ran, or did not.

use actix_web::http::Method;
use escapement_domain::command::Programs;
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::{Value, json};

use super::{Api, Ask, interval, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;

fn hour(hours: u64) -> Timestamp {
    NOW.plus(Span::hours(hours))
}

async fn explain(api: &Api, task: &Value, at: Option<Timestamp>) -> Value {
    let query = at.map_or_else(String::new, |at| format!("?at={at}"));
    api.get(&format!("/api/scheduled-tasks/{}/explain{query}", text(task, "id"))).await.expect(200)
}

/// Explains an instant, and demands a status and words of the sentence.
#[track_caller]
fn check(explanation: &Value, status: &str, words: &str) {
    let instant = &explanation["instant"];
    assert_eq!(instant["status"], status, "{explanation}");
    assert!(text(instant, "explanation").contains(words), "`{words}` in {explanation}");
}

fn id(task: &Value) -> TaskId {
    text(task, "id").parse().expect("a UUID")
}

#[actix_web::test]
async fn a_schedule_is_told_in_english_with_its_next_fires_on_its_clock() {
    let api = Api::start();
    let trigger = json!({ "type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin" });
    let fields = json!({ "trigger": trigger, "start_at": "2026-03-28T12:00:00Z" });
    let task = api.create(with(manual("nightly"), fields)).await;
    let told = explain(&api, &task, None).await;
    assert_eq!(told["schedule"], "at 02:30 every day, Berlin time");
    assert_eq!((&told["timezone"], &told["state"]), (&json!("Europe/Berlin"), &json!("active")));
    let first = json!({ "at": "2026-03-29T01:00:00.000Z", "local": "2026-03-29T03:00:00.000+02:00",
                        "note": "clocks forward 1h on Mar 29 at 02:00" });
    assert_eq!((&told["next"][0], &told["next"][1]["note"]), (&first, &Value::Null));
    assert_eq!(told["next"].as_array().map(Vec::len), Some(5));
    assert_eq!(told["waits_for"][0]["reason"], "instant");
    assert_eq!(told["waits_for"][1]["reason"], "no_worker", "no worker has joined");
    assert_eq!(told["instant"], Value::Null);
    let next = api.get(&format!("/api/scheduled-tasks/{}/next?count=1", text(&task, "id"))).await.expect(200);
    let expected = json!({ "fires": [first["at"]], "timezone": "Europe/Berlin", "occurrences": [first] });
    assert_eq!(next, expected);
}

#[actix_web::test]
async fn a_past_instant_is_explained_by_what_became_of_it() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(interval("hourly", "1h")).await;
    api.node.advance(3_600_000);
    api.node.fire(id(&task), Some(hour(2)));
    api.node.advance(3_600_000 + 30_000);
    api.node.fire(id(&task), Some(hour(3)));
    let told = explain(&api, &task, Some(hour(1))).await;
    check(&told, "on_time", "is running");
    let execution: ExecutionId = text(&told["instant"], "execution_id").parse().expect("a UUID");
    assert_eq!(told["instant"]["lateness_ms"], 0);
    assert!(told["instant"]["log_index"].is_u64(), "{told}");
    check(&explain(&api, &task, Some(hour(2))).await, "skipped", "overlap: skip");
    assert_eq!(told["waits_for"][1]["reason"], "running");
    assert!(text(&told["waits_for"][1], "detail").contains("the next instant is skipped"), "{told}");
    api.node.succeed(execution);
    check(&explain(&api, &task, Some(hour(1))).await, "on_time", "ended as succeeded");
    check(&explain(&api, &task, Some(hour(3))).await, "pending", "to come, in 59m30s");
    let never = explain(&api, &task, Some(Timestamp(hour(1).0 + 1))).await;
    check(&never, "not_an_instant", &format!("the next one after it: {}", hour(2)));
    check(&explain(&api, &task, Some(Timestamp(NOW.0 - 1))).await, "not_an_instant", "did not exist yet");
    api.node.advance(2 * 3_600_000);
    check(&explain(&api, &task, Some(hour(3))).await, "missed", "neither a fire nor a skip");
    assert_eq!(explain(&api, &task, None).await["waits_for"][0]["reason"], "due");
}

#[actix_web::test]
async fn what_was_late_and_what_a_pause_kept_back_is_told() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(with(interval("hourly", "1h"), json!({ "overlap": "allow" }))).await;
    api.node.advance(3_600_000 + 20_000);
    api.node.fire(id(&task), Some(hour(2)));
    check(
        &explain(&api, &task, Some(hour(1))).await,
        "late",
        "20s after its instant: within its grace of 1m",
    );
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    api.ask(Ask::of(Method::POST, &format!("{path}/pause"))).await.expect(200);
    api.node.advance(3_600_000);
    let told = explain(&api, &task, Some(hour(2))).await;
    check(&told, "pending", "the task is paused");
    assert_eq!(told["waits_for"][0]["reason"], "paused");
    api.node.advance(600_000);
    api.ask(Ask::of(Method::POST, &format!("{path}/resume"))).await.expect(200);
    api.node.fire(id(&task), Some(hour(3)));
    check(&explain(&api, &task, Some(hour(2))).await, "late", "paused at this instant");
    check(&explain(&api, &task, Some(hour(1))).await, "late", "within its grace");
}

#[actix_web::test]
async fn an_earlier_definition_answers_for_its_time_and_a_deleted_task_is_explained_still() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(interval("hourly", "1h")).await;
    api.node.advance(3_600_000);
    api.node.fire(id(&task), Some(hour(2)));
    api.node.advance(60_000);
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    api.ask(Ask::of(Method::PUT, &path).json(&interval("daily", "24h"))).await.expect(200);
    check(&explain(&api, &task, Some(hour(1))).await, "on_time", "execution");
    let two = explain(&api, &task, Some(hour(2))).await;
    check(&two, "not_an_instant", &format!("every 1d); the next one after it: {}", hour(24)));
    api.ask(Ask::of(Method::DELETE, &path)).await.expect(204);
    let told = explain(&api, &task, Some(hour(1))).await;
    check(&told, "on_time", "execution");
    assert_eq!((&told["state"], &told["schedule"]), (&json!("deleted"), &json!("every 1h")));
    check(&explain(&api, &task, Some(hour(24))).await, "not_an_instant", "it was deleted at");
    assert_eq!(explain(&api, &task, None).await["schedule"], "every 1d");
}

/// A task of every full hour that a calendar keeps from running at 14:00; 15:00 is skipped, and 16:00 moved to 16:30.
async fn changed_by_hand(api: &Api) -> (Value, String) {
    let lunch = json!({ "windows": ["14:00-15:00"] });
    api.ask(Ask::of(Method::PUT, "/api/calendars/lunch").json(&lunch)).await.expect(201);
    let trigger = json!({ "type": "interval", "every": "1h", "anchor": "2026-01-01T00:00:00Z" });
    let fields = json!({ "trigger": trigger, "overlap": "allow", "calendars": ["lunch"] });
    let task = api.create(with(manual("hourly"), fields)).await;
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    let changes = [
        json!({ "at": hour(3).to_string(), "do": "skip" }),
        json!({ "at": hour(4).to_string(), "do": "move", "to": half_past_four() }),
    ];
    for change in changes {
        api.post(&format!("{path}/occurrences"), &change).await.expect(200);
    }
    (task, path)
}

fn half_past_four() -> String {
    hour(4).plus(Span::minutes(30)).to_string()
}

#[actix_web::test]
async fn what_a_calendar_or_a_hand_will_make_of_coming_instants_is_told() {
    let api = Api::start();
    let (task, path) = changed_by_hand(&api).await;
    let told = explain(&api, &task, None).await;
    assert_eq!(told["schedule"], "every 1h, counted from 2026-01-01T00:00:00.000Z; not on lunch");
    let next: Vec<(String, Option<&str>)> = told["next"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|coming| (text(coming, "at"), coming["note"].as_str()))
        .collect();
    let (to, from) =
        (format!("moved by hand to {}", half_past_four()), format!("moved by hand from {}", hour(4)));
    let expected = [
        (hour(1).to_string(), None),
        (hour(3).to_string(), Some("skipped by hand")),
        (hour(4).to_string(), Some(to.as_str())),
        (half_past_four(), Some(from.as_str())),
        (hour(5).to_string(), None),
    ];
    assert_eq!(next[..5], expected);
    assert!(text(&told["waits_for"][0], "detail").ends_with(&hour(1).to_string()), "{told}");
    let change = json!({ "at": hour(1).to_string(), "do": "skip" });
    api.post(&format!("{path}/occurrences"), &change).await.expect(200);
    let waits = explain(&api, &task, None).await;
    assert!(text(&waits["waits_for"][0], "detail").ends_with(&half_past_four()), "{waits}");
    api.post(&format!("{path}/occurrences"), &json!({ "at": hour(1).to_string(), "do": "restore" }))
        .await
        .expect(200);
    for (instant, status, words) in [
        (hour(1), "pending", "it is to come, in 1h"),
        (hour(2), "pending", "will not run: the calendar `lunch` does not allow it"),
        (hour(3), "pending", "will not run: skipped by hand"),
        (hour(4), "pending", &format!("will not run then: {to}")),
        (hour(4).plus(Span::minutes(30)), "pending", &format!("moved here by hand from {}", hour(4))),
    ] {
        check(&explain(&api, &task, Some(instant)).await, status, words);
    }
}

#[actix_web::test]
async fn what_a_calendar_or_a_hand_made_of_past_instants_is_told() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let (task, path) = changed_by_hand(&api).await;
    for _ in 0..10 {
        api.node.advance(1_800_000);
        api.node.settle();
    }
    let half = hour(4).plus(Span::minutes(30));
    let expected = [
        (hour(1), "on_time", "it fired on time".to_owned()),
        (hour(2), "skipped", "the calendar `lunch` does not allow it".to_owned()),
        (hour(3), "skipped", "it was skipped by hand".to_owned()),
        (hour(4), "skipped", format!("it was moved by hand to {half}")),
        (half, "on_time", format!("moved here by hand from {}: it fired on time", hour(4))),
    ];
    for (instant, status, words) in &expected {
        check(&explain(&api, &task, Some(*instant)).await, status, words);
    }
    // What the calendar holds now does not change what was.
    let never = json!({ "days": ["2020-01-01"] });
    api.ask(Ask::of(Method::PUT, "/api/calendars/lunch").json(&never)).await.expect(200);
    for (instant, status, words) in &expected {
        check(&explain(&api, &task, Some(*instant)).await, status, words);
    }
    let three = json!({ "from": hour(3).to_string(), "to": hour(3).to_string() });
    api.post(&format!("{path}/backfill"), &three).await.expect(200);
    check(&explain(&api, &task, Some(hour(3))).await, "skipped", "by hand; a backfill ran it: execution");
    let account = format!("/api/audit/fires?from={NOW}&to={}", Timestamp(hour(5).0 + 1));
    let account = api.get(&format!("{account}&task={}", text(&task, "id"))).await.expect(200);
    let told: Vec<(&str, Option<&str>)> = super::items(&account)
        .iter()
        .map(|fire| (fire["status"].as_str().expect("a status"), fire["reason"].as_str()))
        .collect();
    let skipped = |reason| ("skipped", Some(reason));
    let ran = ("on_time", None);
    assert_eq!(told, [ran, skipped("calendar"), skipped("by_hand"), skipped("moved"), ran, ran], "{account}");
}

#[actix_web::test]
async fn an_explanation_is_a_read_of_ones_own_tenant() {
    let api = Api::start();
    let task = api.create(interval("hourly", "1h")).await;
    let path = format!("/api/scheduled-tasks/{}/explain", text(&task, "id"));
    let viewer = api.token("vera", "acme", &[Role::Viewer]);
    api.send(Ask::of(Method::GET, &path).token(&viewer)).await.expect(200);
    let stranger = api.token("eve", "other", &[Role::Admin, Role::ClusterAdmin]);
    api.send(Ask::of(Method::GET, &path).token(&stranger)).await.problem(404, "not_found");
    let nobody = "/api/scheduled-tasks/0190d1c2-0000-7000-8000-000000000000/explain";
    api.get(nobody).await.problem(404, "not_found");
    let wrong = api.get(&format!("{path}?at=noon&count=0&when=now")).await;
    assert_eq!(wrong.problem(400, "invalid_parameter"), ["?at", "?count", "?when"]);
}

#[actix_web::test]
async fn what_a_queued_execution_waits_for_is_told() {
    let api = Api::start();
    let task = api.create(with(interval("hourly", "1h"), json!({ "overlap": "queue_one" }))).await;
    api.node.advance(3_600_000);
    api.node.fire(id(&task), Some(hour(2)));
    api.node.advance(3_600_000);
    api.node.fire(id(&task), Some(hour(3)));
    let told = explain(&api, &task, Some(hour(2))).await;
    let reasons: Vec<&str> = told["waits_for"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|wait| wait["reason"].as_str())
        .collect();
    assert_eq!(reasons, ["instant", "no_worker", "overlap"], "{told}");
    check(&told, "delayed_by_overlap", "had to wait for an earlier one");
}

/// The next fires of a cron task that starts at an instant; the refusal if there is one.
async fn next_of(api: &Api, trigger: Value, start: &str) -> Result<Vec<String>, Vec<String>> {
    let task = with(manual("cron"), json!({ "trigger": trigger, "start_at": start }));
    let reply = api.post("/api/scheduled-tasks/", &task).await;
    if reply.status != 201 {
        return Err(reply.problem(422, "invalid"));
    }
    let path = format!("/api/scheduled-tasks/{}/next?count=2", text(&reply.expect(201), "id"));
    let next = api.get(&path).await.expect(200);
    Ok(next["fires"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[actix_web::test]
async fn prefixes_and_nicknames_are_triggers_and_what_never_fires_is_none() {
    let api = Api::start();
    let start = NOW.to_string();
    for (expression, first) in [
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", "2026-03-02T00:00:00.000Z"),
        ("TZ=America/New_York @daily", "2026-03-02T05:00:00.000Z"),
        ("@every 10m", "2026-03-01T12:10:00.000Z"),
        ("@at 2026-04-01T02:00:00+02:00", "2026-04-01T00:00:00.000Z"),
        ("@annually", "2027-01-01T00:00:00.000Z"),
        ("@midnight", "2026-03-02T00:00:00.000Z"),
    ] {
        let fires = next_of(&api, json!({ "type": "cron", "expression": expression }), &start).await;
        assert_eq!(fires.expect(expression)[0], first, "{expression}");
    }
    for expression in ["0 0 30 2 *", "@every 500ms", "@reboot", "TZ=Europe/Berln @daily"] {
        let refused = next_of(&api, json!({ "type": "cron", "expression": expression }), &start).await;
        assert_eq!(refused, Err(vec!["/trigger/expression".to_owned()]), "{expression}");
    }
    let past =
        next_of(&api, json!({ "type": "cron", "expression": "@at 2026-01-01T00:00:00Z" }), &start).await;
    assert_eq!(past, Err(vec!["/trigger".to_owned()]));
}

#[actix_web::test]
async fn a_task_chooses_what_becomes_of_skipped_and_repeated_local_times() {
    let api = Api::start();
    let fires = async |dst: Value, start: &str| {
        let trigger =
            json!({ "type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin", "dst": dst });
        let fires = next_of(&api, trigger, start).await.expect("sound");
        fires.iter().map(|fire| fire[5..16].to_owned()).collect::<Vec<_>>()
    };
    for (gap, expected) in [
        ("cron", ["03-29T01:00", "03-30T00:30"]),
        ("skip", ["03-30T00:30", "03-31T00:30"]),
        ("shift", ["03-29T01:30", "03-30T00:30"]),
    ] {
        assert_eq!(fires(json!({ "gap": gap }), "2026-03-28T12:00:00Z").await, expected, "{gap}");
    }
    for (fold, expected) in [
        ("cron", ["10-25T00:30", "10-26T01:30"]),
        ("first", ["10-25T00:30", "10-26T01:30"]),
        ("second", ["10-25T01:30", "10-26T01:30"]),
        ("both", ["10-25T00:30", "10-25T01:30"]),
    ] {
        assert_eq!(fires(json!({ "fold": fold }), "2026-10-24T12:00:00Z").await, expected, "{fold}");
    }
}
