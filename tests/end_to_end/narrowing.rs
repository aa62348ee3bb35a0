//! Calendars that narrow a schedule: days that are the only ones, windows by a zone's clock, and whose they are.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_count, every_second, executions, noop, with};
use crate::harness::development::Development;
use crate::harness::wait::{instant_in, now_ms, until};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1_440 * MINUTE_MS;

/// Makes a calendar.
#[track_caller]
fn put(api: &Api, name: &str, calendar: &Value) {
    let reply = api.send("PUT", &format!("/api/calendars/{name}"), &[], Some(&calendar.to_string()));
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// The weekday and the time of day so many milliseconds from now, on a clock that is so far ahead of UTC.
fn moment(ms: i64, ahead_ms: i64) -> String {
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let local = now_ms() + ms + ahead_ms;
    let day = usize::try_from(local / DAY_MS % 7).expect("after 1970");
    let minute = local % DAY_MS / MINUTE_MS;
    format!("{} {:02}:{:02}", days[day], minute / 60, minute % 60)
}

/// A task of every second within calendars.
#[track_caller]
fn within(api: &Api, calendars: &[&str]) -> String {
    api.create_id(&with(noop("beat", &every_second()), json!({ "calendars": calendars })))
}

/// Waits until two instants of a task are skipped for a calendar, and nothing ran.
#[track_caller]
fn await_skips(api: &Api, task: &str, calendar: &str) {
    let path = format!("/api/scheduled-tasks/{task}");
    until("two instants were skipped", || {
        let events = items(&api.get(&format!("{path}/events?limit=1000")));
        let skips = events.iter().filter(|event| event["type"] == "TaskSkipped").map(|event| &event["data"]);
        let counts = skips.map(|skip| {
            assert_eq!(
                (&skip["reason"], &skip["calendar"]),
                (&json!("calendar"), &json!(calendar)),
                "{skip}"
            );
            skip["count"].as_u64().unwrap_or_default()
        });
        counts.sum::<u64>() >= 2
    });
    assert!(executions(api, task).is_empty(), "what is forbidden does not run");
}

#[test]
fn an_instant_runs_only_if_every_calendar_of_its_task_lets_it() {
    const KOLKATA_MS: i64 = 330 * MINUTE_MS;
    let development = Development::start();
    let api = development.api();
    let from = instant_in(0);
    let days = |from: i64, to: i64| format!("{}/{}", &instant_in(from)[..10], &instant_in(to)[..10]);
    put(&api, "open", &json!({ "mode": "only", "days": [days(-DAY_MS, DAY_MS)] }));
    put(&api, "another-day", &json!({ "mode": "only", "days": [days(5 * DAY_MS, 6 * DAY_MS)] }));
    let ten = 10 * MINUTE_MS;
    let (begin, end) = (moment(-ten, KOLKATA_MS), moment(ten, KOLKATA_MS));
    put(&api, "blackout", &json!({ "windows": [format!("{begin}-{end} Asia/Kolkata")] }));
    // The same words by the clock of UTC are hours away.
    put(&api, "elsewhere", &json!({ "windows": [format!("{begin}-{end}")] }));
    let runs = within(&api, &["open", "elsewhere"]);
    let [closed, blacked] = [within(&api, &["open", "another-day"]), within(&api, &["open", "blackout"])];
    await_count(&api, &runs, "succeeded", 2);
    await_skips(&api, &closed, "another-day");
    await_skips(&api, &blacked, "blackout");
    let told = api.get(&format!("/api/scheduled-tasks/{runs}/explain"));
    let words = "every 1s";
    assert!(
        text(&told, "schedule").starts_with(words) && text(&told, "schedule").contains("only on open"),
        "{told}"
    );
    // Each instant of it is accounted for, with the calendar.
    let to = instant_in(0);
    let account = items(&api.get(&format!("/api/audit/fires?from={from}&to={to}&task={blacked}")));
    let settled: Vec<&Value> = account.iter().filter(|fire| fire["status"] != "pending").collect();
    assert!(settled.len() >= 2, "{account:?}");
    for fire in settled {
        assert_eq!((&fire["status"], &fire["reason"]), (&json!("skipped"), &json!("calendar")), "{fire}");
    }
    let told = api.get(&format!("/api/scheduled-tasks/{blacked}/explain?at={}", text(&account[0], "at")));
    assert_eq!(told["instant"]["status"], "skipped", "{told}");
    assert!(text(&told["instant"], "explanation").contains("`blackout`"), "{told}");
}

#[test]
fn what_a_calendar_forbids_is_moved_to_where_it_is_allowed_and_not_skipped_by_hand() {
    let development = Development::start();
    let api = development.api();
    put(&api, "closed", &json!({ "days": ["2037-03-01"], "timezone": "UTC" }));
    let daily = json!({ "type": "cron", "expression": "@daily" });
    let task =
        with(noop("daily", &daily), json!({ "calendars": ["closed"], "start_at": "2037-02-28T12:00:00Z" }));
    let path = format!("/api/scheduled-tasks/{}", api.create_id(&task));
    let change = |at: &str, deed: &str, to: Option<&str>| {
        let body = json!({ "at": at, "do": deed, "to": to });
        api.post(&format!("{path}/occurrences"), &body)
    };
    let refused = |at: &str, deed: &str, to: Option<&str>| {
        let fault = change(at, deed, to).expect(422)["errors"][0].clone();
        assert!(text(&fault, "detail").contains("`closed`"), "{fault}");
        text(&fault, "pointer")
    };
    let (closed, open) = ("2037-03-01T00:00:00Z", "2037-03-02T00:00:00Z");
    assert_eq!(refused(closed, "skip", None), "/at");
    assert_eq!(refused(open, "move", Some("2037-03-01T09:00:00Z")), "/to");
    change(closed, "move", Some("2037-03-02T09:00:00Z")).expect(200);
    let next = api.get(&format!("{path}/next?count=2"));
    assert_eq!(next["fires"], json!(["2037-03-02T00:00:00.000Z", "2037-03-02T09:00:00.000Z"]));
}

#[test]
fn a_calendar_is_its_tenant_s_own_and_every_missing_one_is_named() {
    let cluster = Cluster::start(1);
    let acme = cluster.any();
    let other = acme.with_token(&cluster.mint("eve", "other", &["admin"]));
    put(&acme, "closed", &json!({ "days": ["12-25"] }));
    assert_eq!(other.send("GET", "/api/calendars/closed", &[], None).status, 404);
    put(&other, "closed", &json!({ "days": ["12-31"] }));
    assert_eq!(acme.get("/api/calendars/closed")["days"], json!(["12-25"]));
    put(&acme, "ours", &json!({ "days": ["01-01"] }));
    let task = with(noop("beat", &every_second()), json!({ "calendars": ["ours", "closed", "nights"] }));
    let problem = other.post("/api/scheduled-tasks/", &task).expect(422);
    let faults = problem["errors"].as_array().cloned().unwrap_or_default();
    let pointers: Vec<String> = faults.iter().map(|fault| text(fault, "pointer")).collect();
    assert_eq!(pointers, ["/calendars/0", "/calendars/2"], "{problem}");
}
