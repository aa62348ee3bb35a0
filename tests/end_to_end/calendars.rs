//! Calendars, occurrences that are changed by hand, and ranges of the past, on the real clock.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::definitions::{
    await_count, await_status, call, every_second, execution, executions, manual, noop, run, with,
};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, instant_in, millis, until};

const DAY_MS: i64 = 86_400_000;

/// Makes a calendar, or puts another in its place.
#[track_caller]
fn put(api: &Api, name: &str, calendar: &Value) -> Value {
    let reply = api.send("PUT", &format!("/api/calendars/{name}"), &[], Some(&calendar.to_string()));
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    reply.json()
}

/// A calendar that covers today and tomorrow, in UTC.
fn now_covered() -> Value {
    let day = |ms| instant_in(ms)[..10].to_owned();
    json!({ "days": [format!("{}/{}", day(0), day(DAY_MS))] })
}

#[test]
fn a_calendar_forbids_instants_and_is_told_as_the_reason() {
    let development = Development::start();
    let api = development.api();
    put(&api, "closed", &now_covered());
    let task = api.create_id(&with(noop("beat", &every_second()), json!({ "calendars": ["closed"] })));
    let path = format!("/api/scheduled-tasks/{task}");
    let skips = eventually("two instants were skipped", || {
        let events = items(&api.get(&format!("{path}/events")));
        let skips: Vec<Value> = events.into_iter().filter(|event| event["type"] == "TaskSkipped").collect();
        let count: u64 = skips.iter().filter_map(|skip| skip["data"]["count"].as_u64()).sum();
        (count >= 2).then_some(skips)
    });
    for skip in &skips {
        let data = &skip["data"];
        assert_eq!((&data["reason"], &data["calendar"]), (&json!("calendar"), &json!("closed")), "{skip}");
        assert!(millis(&data["first"]) <= millis(&data["last"]), "{skip}");
    }
    assert!(executions(&api, &task).is_empty(), "what is forbidden is no execution");
    let refused = ask(&api, &["calendar", "delete", "closed"], None).expect(1).err;
    assert!(refused.contains("1 task names the calendar `closed`"), "{refused}");
    let listed =
        ask(&api, &["task", "list", "--calendar", "closed", "--output", "json"], None).expect(0).json();
    assert_eq!(items(&listed)[0]["id"], json!(task));
    // A change of the calendar is one of every task that names it.
    assert_eq!(put(&api, "closed", &json!({ "days": ["2020-01-01"] }))["version"], 2);
    await_count(&api, &task, "succeeded", 1);
    let freed = with(noop("beat", &every_second()), json!({ "calendars": [] }));
    api.send("PUT", &path, &[], Some(&freed.to_string())).expect(200);
    ask(&api, &["calendar", "delete", "closed"], None).expect(0);
    assert_eq!(api.send("GET", "/api/calendars/closed", &[], None).status, 404);
}

#[test]
fn a_calendar_is_put_and_shown_on_the_command_line() {
    let development = Development::start();
    let api = development.api();
    let calendar = r#"{"windows": ["Sat 22:00-Sun 04:00 Europe/Paris"], "days": ["12-25"]}"#;
    let told = ask(&api, &["calendar", "put", "blackout", "-f", "-"], Some(calendar)).expect(0).out;
    assert_eq!(told, "calendar blackout, version 1, named by no task yet\n");
    let shown = ask(&api, &["calendar", "show", "blackout"], None).expect(0).out;
    assert!(shown.contains("Sat 22:00-Sun 04:00 Europe/Paris") && shown.contains("12-25"), "{shown}");
    let listed = ask(&api, &["calendar", "list"], None).expect(0).out;
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("blackout")), "{listed}");
    let wrong = ask(&api, &["calendar", "put", "x", "-f", "-"], Some(r#"{"days": ["12-32"]}"#)).expect(1).err;
    assert!(wrong.contains("/days/0"), "{wrong}");
    ask(&api, &["calendar", "delete", "blackout"], None).expect(0);
    assert!(
        ask(&api, &["calendar", "show", "blackout"], None).expect(1).err.contains("no calendar `blackout`")
    );
}

#[test]
fn one_occurrence_is_skipped_and_one_is_moved() {
    let development = Development::start();
    let api = development.api();
    let every_other = json!({ "type": "interval", "every": "2s", "anchor": "2026-01-01T00:00:00Z" });
    let task = api.create_id(&noop("beat", &every_other));
    let path = format!("/api/scheduled-tasks/{task}");
    let fires = api.get(&format!("{path}/next?count=8"))["fires"].clone();
    let [skipped, moved, after] =
        [4, 5, 6].map(|place: usize| fires[place].as_str().expect("an instant").to_owned());
    let to = moved.replace(".000Z", ".700Z");
    let told = ask(&api, &["task", "skip", &task, "--at", &skipped], None).expect(0).out;
    assert!(told.ends_with("is skipped\n"), "{told}");
    let change = json!({ "at": moved, "do": "move", "to": to });
    let answer = api.post(&format!("{path}/occurrences"), &change).expect(200);
    assert_eq!((&answer["task_id"], &answer["to"]), (&json!(task), &json!(to)));
    let listed = ask(&api, &["task", "occurrences", &task, "--output", "json"], None).expect(0).json();
    assert_eq!(items(&listed).len(), 2, "{listed}");
    check_told(&api, &task, [&skipped, &moved, &after, &to]);
    let ran = eventually("the occurrence after them has run", || {
        let all = executions(&api, &task);
        all.iter()
            .any(|one| one["scheduled_at"] == json!(after) && one["status"] == "succeeded")
            .then_some(all)
    });
    let of = |at: &str| ran.iter().filter(|one| one["scheduled_at"] == json!(at)).collect::<Vec<_>>();
    let by_hand = of(&skipped);
    assert_eq!((by_hand.len(), &by_hand[0]["status"]), (1, &json!("skipped")), "{ran:?}");
    assert_eq!(by_hand[0]["reason"], "it was skipped by hand", "{ran:?}");
    assert_eq!((of(&moved).len(), of(&to).len()), (0, 1), "it ran once, at its new time: {ran:?}");
    assert!(millis(&of(&to)[0]["fired_at"]) >= millis(&json!(to)), "{ran:?}");
    assert!(items(&api.get(&format!("{path}/occurrences"))).is_empty(), "what is over is no longer listed");
    let events = items(&api.get(&format!("{path}/events?limit=1000")));
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("TaskOccurrenceChanged").len(), 2, "{events:?}");
    assert_eq!(of("TaskSkipped")[0]["data"]["reason"], "by_hand", "{events:?}");
    assert_eq!(of("TaskMoved")[0]["data"]["to"], json!(to), "{events:?}");
    assert_eq!(api.get(&path)["version"], 1, "the definition is what it was");
}

/// What is changed by hand shows among the fires to come, and where it is explained.
#[track_caller]
fn check_told(api: &Api, task: &str, [skipped, moved, after, to]: [&String; 4]) {
    let next = api.get(&format!("/api/scheduled-tasks/{task}/next?count=8"))["fires"].clone();
    let told = |at: &String| next.as_array().is_some_and(|fires| fires.contains(&json!(at)));
    assert!(!told(skipped) && !told(moved) && told(to) && told(after), "{next}");
    let explained = api.get(&format!("/api/scheduled-tasks/{task}/explain?at={skipped}"));
    let note = |at: &String| {
        let coming = explained["next"].as_array().into_iter().flatten().find(|next| next["at"] == json!(at));
        coming.and_then(|next| next["note"].as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!(note(skipped), "skipped by hand", "{explained}");
    assert_eq!(note(moved), format!("moved by hand to {to}"), "{explained}");
    assert_eq!(note(to), format!("moved by hand from {moved}"), "{explained}");
    let instant = &explained["instant"];
    assert_eq!(
        (&instant["status"], &instant["reason"]),
        (&json!("pending"), &json!("by_hand")),
        "{explained}"
    );
}

/// What is moved into a pause is settled before its task goes: nothing is dropped without a word.
#[test]
fn a_moved_occurrence_whose_time_has_come_is_settled_before_its_task_is_deleted() {
    let development = Development::start();
    let api = development.api();
    let task = nightly(&api, "http://127.0.0.1:9/");
    let path = format!("/api/scheduled-tasks/{task}");
    let at = api.get(&format!("{path}/next?count=1"))["fires"][0].clone();
    let to = instant_in(1_000);
    api.post(&format!("{path}/occurrences"), &json!({ "at": at, "do": "move", "to": to })).expect(200);
    api.post(&format!("{path}/pause"), &Value::Null).expect(200);
    until("its time has come", || instant_in(0) > to);
    api.send("DELETE", &path, &[], None).expect(204);
    let events = items(&api.get(&format!("/api/audit/events?task={task}&limit=1000")));
    let kinds: Vec<String> = events.iter().map(|event| text(event, "type")).collect();
    let last = &kinds[kinds.len() - 2..];
    assert_eq!(last, ["TaskSkipped", "TaskDeleted"], "{kinds:?}");
    assert_eq!(events[events.len() - 2]["data"]["reason"], "missed", "{events:?}");
}

/// A task of every midnight that calls a URL, and the range of its instants from a day to another.
fn nightly(api: &Api, url: &str) -> String {
    api.create_id(&call("nightly", &json!({ "type": "cron", "expression": "0 0 * * *" }), url))
}

#[test]
fn a_backfill_runs_each_past_occurrence_once_and_so_many_at_a_time() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = nightly(&api, &target.url("/slow/700"));
    let range = ["--from", "2026-01-01T00:00:00Z", "--to", "2026-01-05T12:00:00Z", "--concurrency", "2"];
    let mut arguments = vec!["task", "backfill", &task, "--follow", "--output", "json"];
    arguments.extend(range);
    let ran = ask(&api, &arguments, None).expect(0);
    let started = ran.json();
    assert_eq!((&started["total"], &started["concurrency"]), (&json!(5), &json!(2)), "{started}");
    for told in ["100 % 5/5", "the backfill has ended: 5 succeeded"] {
        assert!(ran.err.contains(told), "{told} in {}", ran.err);
    }
    let ended = await_count(&api, &task, "succeeded", 5);
    assert!(ended.iter().all(|one| one["trigger"] == "backfill"), "{ended:?}");
    let mut instants: Vec<String> =
        ended.iter().map(|one| text(one, "scheduled_at")[..10].to_owned()).collect();
    instants.sort_unstable();
    assert_eq!(instants, (1..=5).map(|day| format!("2026-01-0{day}")).collect::<Vec<_>>());
    let mut calls: Vec<i64> = target.calls().iter().map(|call| call.at_ms).collect();
    calls.sort_unstable();
    assert_eq!(calls.len(), 5, "each once");
    assert!(calls.windows(3).all(|three| three[2] - three[0] >= 600), "never three at once: {calls:?}");
}

#[test]
fn a_cancelled_backfill_runs_no_more() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = nightly(&api, &target.url("/slow/20000"));
    let path = format!("/api/scheduled-tasks/{task}");
    let range = json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z" });
    let started = api.post(&format!("{path}/backfill"), &range).expect(200);
    until("the first one runs", || !target.calls().is_empty());
    let shown = ask(&api, &["task", "backfills", &task], None).expect(0).out;
    assert!(shown.contains(&text(&started, "id")), "{shown}");
    ask(&api, &["task", "cancel-backfill", &task, &text(&started, "id")], None).expect(0);
    assert!(items(&api.get(&format!("{path}/backfills"))).is_empty());
    let first = text(&executions(&api, &task)[0], "id");
    await_status(&api, &first, "cancelled");
    // Something that came later has run: what was left would have run before it.
    let later = api.create_id(&noop("later", &manual()));
    await_status(&api, &run(&api, &later), "succeeded");
    assert_eq!((executions(&api, &task).len(), target.calls().len()), (1, 1));
    assert_eq!(execution(&api, &first)["trigger"], "backfill");
}

#[test]
fn each_fault_of_a_backfill_is_named_with_what_is_allowed() {
    let development = Development::start();
    let api = development.api();
    let path = format!("/api/scheduled-tasks/{}/backfill", nightly(&api, "http://127.0.0.1:9/"));
    let past = ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"];
    let future = [instant_in(DAY_MS), instant_in(2 * DAY_MS)];
    let range = |from: &str, to: &str| json!({ "from": from, "to": to });
    for (body, expected) in [
        (json!({}), vec![("/from", "RFC 3339 instant"), ("/to", "RFC 3339 instant")]),
        (json!([]), vec![("", "an object is expected")]),
        (json!({ "from": 1, "to": "noon" }), vec![("/from", "RFC 3339"), ("/to", "RFC 3339")]),
        (range(past[1], past[0]), vec![("/from", "up to `to`")]),
        (range(past[0], &future[0]), vec![("/to", "up to now")]),
        (range(&future[0], &future[1]), vec![("/from", "up to now"), ("/to", "up to now")]),
        (
            range("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"),
            vec![("/from", "the next one is 2026-01-02")],
        ),
        (range("1970-01-02T00:00:00Z", past[0]), vec![("/to", "more than the 10000 occurrences")]),
        (
            json!({ "from": past[0], "to": past[1], "concurrency": 0, "rate": 5 }),
            vec![("/concurrency", "1 to 100"), ("/rate", "")],
        ),
        (
            json!({ "from": past[0], "to": past[1], "concurrency": "two" }),
            vec![("/concurrency", "whole number")],
        ),
        (json!({ "from": past[0], "to": past[1], "concurrency": 101 }), vec![("/concurrency", "1 to 100")]),
    ] {
        let problem = api.post(&path, &body).expect(422);
        let faults = problem["errors"].as_array().cloned().unwrap_or_default();
        assert_eq!(faults.len(), expected.len(), "{body}: {problem}");
        for (fault, (pointer, words)) in faults.iter().zip(expected) {
            assert_eq!(fault["pointer"], pointer, "{body}: {problem}");
            assert!(text(fault, "detail").contains(words), "{words} for {body}: {problem}");
        }
    }
    assert!(items(&api.get(&format!("{path}s"))).is_empty(), "nothing was begun");
}
