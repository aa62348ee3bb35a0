//! Task management: what is created is what is read, changed, listed and deleted.

use serde_json::{Value, json};

use crate::harness::api::{items, text};
use crate::harness::definitions::{
    await_count, await_status, every_second, executions, manual, noop, once_in, run, with,
};
use crate::harness::development::Development;
use crate::harness::wait::{eventually, instant_in, millis, now_ms, until};

fn names(list: &Value) -> Vec<String> {
    items(list).iter().map(|task| text(task, "name")).collect()
}

#[test]
fn a_created_task_is_read_with_its_defaults() {
    let development = Development::start();
    let api = development.api();
    let reply = api.post("/api/v1/scheduled-tasks", &noop("plain", &every_second()));
    let task = reply.expect(201);
    let id = text(&task, "id");
    assert_eq!(reply.header("ETag"), Some("\"1\""));
    assert!(reply.header("Location").expect("a location").contains(&id));
    let defaults = json!({
        "kind": "generic", "timeout": "5m", "overlap": "skip", "delivery": "at_least_once", "priority": 5,
        "state": "active", "version": 1, "tenant": "acme", "description": "", "circuit_breaker": null,
        "misfire": { "policy": "run_latest", "grace": "1m", "window": "1h" }, "labels": {}, "calendars": [],
        "resources": {}, "max_concurrent": null, "jitter": "0s", "start_at": null, "end_at": null, "max_runs": null });
    for (field, value) in defaults.as_object().expect("an object") {
        assert_eq!(&task[field], value, "{field}");
    }
    assert_eq!(task["retry"]["max_attempts"], 1);
    assert!(millis(&task["next_fire_at"]) >= millis(&task["created_at"]));
    for path in ["/api/scheduled-tasks", "/api/v1/scheduled-tasks"] {
        for slash in ["", "/"] {
            let read = api.get(&format!("{path}/{id}{slash}"));
            assert_eq!((&read["id"], &read["name"]), (&task["id"], &task["name"]));
        }
    }
}

#[test]
fn a_change_takes_the_version_that_was_read() {
    let development = Development::start();
    let api = development.api();
    let task = api.create(&noop("first", &manual()));
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    let renamed = |name: &str| with(task.clone(), json!({ "name": name })).to_string();
    let changed = api.send("PUT", &path, &[("If-Match", "\"1\"")], Some(&renamed("second")));
    assert_eq!(changed.expect(200)["version"], 2);
    assert_eq!(changed.header("ETag"), Some("\"2\""));
    let stale = api.send("PUT", &path, &[("If-Match", "\"1\"")], Some(&renamed("third")));
    assert_eq!(stale.expect(412)["status"], 412);
    assert_eq!(
        stale.header("Content-Type").map(|kind| kind.contains("application/problem+json")),
        Some(true)
    );
    assert_eq!(api.get(&path)["name"], "second");
    assert_eq!(api.send("PUT", &path, &[], Some(&renamed("fourth"))).expect(200)["version"], 3);
    api.send("DELETE", &path, &[], None).expect(204);
    for (method, body) in [("GET", None), ("DELETE", None), ("PUT", Some(renamed("fifth")))] {
        assert_eq!(api.send(method, &path, &[], body.as_deref()).expect(404)["status"], 404);
    }
}

#[test]
fn a_request_repeated_under_its_key_happens_once() {
    let development = Development::start();
    let api = development.api();
    let create = |name: &str| {
        let body = noop(name, &manual()).to_string();
        api.send("POST", "/api/scheduled-tasks/", &[("Idempotency-Key", "k-1")], Some(&body))
    };
    let first = create("once").expect(201);
    let second = create("once").expect(201);
    assert_eq!(first["id"], second["id"]);
    create("another").expect(422);
    assert_eq!(names(&api.get("/api/scheduled-tasks/")), ["once"]);
    let task = text(&first, "id");
    let path = format!("/api/scheduled-tasks/{task}/run");
    let runs: Vec<Value> =
        (0..2).map(|_| api.send("POST", &path, &[("Idempotency-Key", "k-2")], None).expect(202)).collect();
    assert_eq!(runs[0]["id"], runs[1]["id"]);
    await_status(&api, &text(&runs[0], "id"), "succeeded");
    assert_eq!(executions(&api, &task).len(), 1);
}

#[test]
fn a_create_repeated_under_its_key_gets_its_first_answer_though_its_time_has_passed() {
    let development = Development::start();
    let api = development.api();
    let (soon, tasks) = (once_in(1_000), "/api/scheduled-tasks/");
    let bodies = [
        (tasks.to_owned(), 201, noop("once", &soon)),
        (format!("{tasks}bulk"), 200, json!([noop("once", &soon), noop("manual", &manual())])),
        (format!("{tasks}bulk?atomic=true"), 200, json!([noop("all", &soon), noop("or none", &manual())])),
    ];
    let create = |which: usize| {
        let (path, created, body) = &bodies[which];
        let key = format!("key-{which}");
        api.send("POST", path, &[("Idempotency-Key", &key)], Some(&body.to_string())).expect(*created)
    };
    let first = [0, 1, 2].map(create);
    let passed = text(&soon, "at");
    until("its time has passed", || now_ms() > millis(&json!(passed)) + 100);
    let again = [0, 1, 2].map(create);
    let ids = |answer: &Value| match answer["items"].as_array() {
        Some(items) => items.iter().map(|item| item["id"].clone()).collect(),
        None => vec![answer["id"].clone()],
    };
    assert_eq!(again.each_ref().map(ids), first.each_ref().map(ids));
    assert_eq!(items(&api.get(tasks)).len(), 5, "nothing was created twice");
    // Under a key that nobody has heard of, what has passed is refused as ever.
    let late = bodies[0].2.to_string();
    let refused = api.send("POST", tasks, &[("Idempotency-Key", "new")], Some(&late)).expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/trigger/at", "{refused}");
}

#[test]
fn a_bulk_creates_what_it_can_or_if_told_so_all_or_none() {
    let development = Development::start();
    let api = development.api();
    let good =
        |count: usize| (0..count).map(|n| noop(&format!("bulk-{n:04}"), &manual())).collect::<Vec<_>>();
    let mut mixed = good(3);
    mixed[1]["trigger"] = json!({ "type": "cron", "expression": "61 * * * *" });
    let path = "/api/scheduled-tasks/bulk";
    let refused = api.post(&format!("{path}?atomic=true"), &json!(mixed));
    assert!((400..500).contains(&refused.status), "{refused:?}");
    assert_eq!(names(&api.get("/api/scheduled-tasks/")), Vec::<String>::new());
    let results = api.post(path, &json!(mixed)).expect(200);
    assert_eq!(items(&results).len(), 3, "{results}");
    assert_eq!(names(&api.get("/api/scheduled-tasks/?limit=10")).len(), 2);
    let results = api.post(&format!("{path}?atomic=true"), &json!(good(1_200))).expect(200);
    assert_eq!(items(&results).len(), 1_200);
    let mut found = 0;
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/scheduled-tasks/?limit=500{cursor}"));
        found += items(&page).len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, 1_202);
}

#[test]
fn a_list_is_cut_into_pages_and_narrowed_by_filters() {
    let development = Development::start();
    let api = development.api();
    for n in 0..7 {
        let kind = if n % 2 == 0 { "report" } else { "alert" };
        let state = if n == 3 { "paused" } else { "active" };
        let labels = json!({ "team": if n < 4 { "qa" } else { "ops" } });
        let fields = json!({ "kind": kind, "state": state, "labels": labels });
        api.create(&with(noop(&format!("task-{n}"), &manual()), fields));
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/scheduled-tasks/?limit=3{cursor}"));
        assert!(items(&page).len() <= 3);
        seen.extend(names(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!(seen, (0..7).map(|n| format!("task-{n}")).collect::<Vec<_>>());
    let count = |query: &str| items(&api.get(&format!("/api/scheduled-tasks/?{query}"))).len();
    assert_eq!(count("kind=report"), 4);
    assert_eq!(count("state=paused"), 1);
    assert_eq!(count("label=team%3Dqa"), 4);
    assert_eq!(count("label=team%3Dqa&kind=alert"), 2);
    assert_eq!(count("name=task-5"), 1);
    for wrong in
        ["limit=0", "limit=1001", "limit=x", "state=asleep", "kind=odd", "cursor=%21%21", "colour=red"]
    {
        let reply = api.send("GET", &format!("/api/scheduled-tasks/?{wrong}"), &[], None);
        assert!([400, 422].contains(&reply.status), "{wrong}: {reply:?}");
    }
}

#[test]
fn coming_fires_are_told_in_order() {
    let development = Development::start();
    let api = development.api();
    let far = api.create_id(&noop("far", &once_in(7_200_000)));
    let near = api.create_id(&noop("near", &once_in(3_600_000)));
    let hourly = json!({ "type": "cron", "expression": "30 4 * * *", "timezone": "America/New_York" });
    let daily = api.create_id(&noop("daily", &hourly));
    let upcoming = items(&api.get("/api/scheduled-tasks/upcoming?limit=10"));
    let text_of = |value: &Value| value.to_string();
    let position =
        |id: &str| upcoming.iter().position(|fire| text_of(fire).contains(id)).expect("it is coming");
    assert!(position(&near) < position(&far), "{upcoming:?}");
    let fires = api.get(&format!("/api/scheduled-tasks/{daily}/next?count=4"))["fires"].clone();
    let fires: Vec<i64> = fires.as_array().expect("a list").iter().map(millis).collect();
    assert_eq!(fires.len(), 4);
    assert!(fires[0] > now_ms() && fires.windows(2).all(|pair| pair[0] < pair[1]));
    let task = api.get(&format!("/api/scheduled-tasks/{daily}"));
    assert_eq!(millis(&task["next_fire_at"]), fires[0]);
}

#[test]
fn a_paused_task_rests_until_it_is_resumed() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("resting", &every_second()));
    await_count(&api, &task, "succeeded", 1);
    let path = format!("/api/scheduled-tasks/{task}");
    assert_eq!(api.post(&format!("{path}/pause"), &Value::Null).expect(200)["state"], "paused");
    let paused = api.get(&path);
    assert_eq!((&paused["state"], &paused["next_fire_at"]), (&json!("paused"), &Value::Null));
    // Another task's seconds pass; this one's do not.
    let clock = api.create_id(&noop("clock", &every_second()));
    let before = executions(&api, &task).len();
    await_count(&api, &clock, "succeeded", 3);
    assert_eq!(executions(&api, &task).len(), before);
    // By hand it runs all the same.
    let by_hand = run(&api, &task);
    assert_eq!(await_status(&api, &by_hand, "succeeded")["trigger"], "manual");
    assert_eq!(api.post(&format!("{path}/resume"), &Value::Null).expect(200)["state"], "active");
    await_count(&api, &task, "succeeded", before + 3);
}

#[test]
fn a_task_s_stream_tells_its_life_in_order() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("told", &manual()));
    let id = run(&api, &task);
    await_status(&api, &id, "succeeded");
    let path = format!("/api/scheduled-tasks/{task}");
    api.post(&format!("{path}/pause"), &Value::Null).expect(200);
    api.post(&format!("{path}/resume"), &Value::Null).expect(200);
    let expected =
        ["TaskCreated", "TaskScheduled", "TaskStarted", "TaskCompleted", "TaskPaused", "TaskResumed"];
    let events = eventually("the stream is complete", || {
        let events = items(&api.get(&format!("{path}/events")));
        (events.len() >= expected.len()).then_some(events)
    });
    let types: Vec<String> = events.iter().map(|event| text(event, "type")).collect();
    assert_eq!(types, expected);
    let sequence: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
    assert!(sequence.windows(2).all(|pair| pair[0] < pair[1]), "{sequence:?}");
    assert_eq!(events[0]["actor"].as_str().map(str::is_empty), Some(false), "{}", events[0]);
}

#[test]
fn a_deleted_task_fires_no_more_and_its_history_stays() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("short-lived", &every_second()));
    let ran = await_count(&api, &task, "succeeded", 1);
    api.send("DELETE", &format!("/api/scheduled-tasks/{task}"), &[], None).expect(204);
    let after = executions(&api, &task).len();
    let clock = api.create_id(&noop("clock", &every_second()));
    await_count(&api, &clock, "succeeded", 3);
    assert!(executions(&api, &task).len() <= after, "nothing fires after the delete");
    assert_eq!(api.get(&format!("/api/executions/{}", text(&ran[0], "id")))["status"], "succeeded");
    assert!(names(&api.get("/api/scheduled-tasks/?name=short-lived")).is_empty());
}

#[test]
fn a_definition_keeps_within_its_bounds() {
    let development = Development::start();
    let api = development.api();
    let twice =
        with(noop("twice", &every_second()), json!({ "max_runs": 2, "start_at": instant_in(-60_000) }));
    let task = api.create_id(&twice);
    await_count(&api, &task, "succeeded", 2);
    eventually("it is finished", || {
        (api.get(&format!("/api/scheduled-tasks/{task}"))["state"] == "finished").then_some(())
    });
    assert_eq!(executions(&api, &task).len(), 2);
}
