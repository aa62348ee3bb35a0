//! Which failures are made again, when, and with what.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::api::{items, text};
use crate::harness::definitions::{await_status, call, manual, run, script, with};
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued};
use crate::harness::raw_target::RawTarget;
use crate::harness::target::Target;
use crate::harness::wait::{millis, now_ms};

/// A retry that waits for next to nothing.
fn quick(more: Value) -> Value {
    with(json!({ "max_attempts": 3, "initial_delay": "50ms", "jitter": 0 }), more)
}

#[test]
fn a_failure_is_made_again_only_if_the_task_lists_its_class() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let retry_on = json!({ "http_status": ["5xx", 429], "exit_codes": ["75"], "timeout": true });
    let retry = json!({ "retry": quick(json!({ "retry_on": retry_on })) });
    let unreachable = "http://127.0.0.1:1/";
    let slow = with(call("slow", &manual(), &target.url("/slow/5000")), json!({ "timeout": "100ms" }));
    for (task, attempts, class, code) in [
        (call("broken", &manual(), &target.url("/status/503")), 3, "http_status", json!(503)),
        (call("unknown", &manual(), &target.url("/status/404")), 1, "http_status", json!(404)),
        (call("unreachable", &manual(), unreachable), 1, "connection", Value::Null),
        (slow, 3, "timeout", Value::Null),
        (script("tempfail", &manual(), "exit 75"), 3, "exit_code", json!(75)),
        (script("wrong", &manual(), "exit 2"), 1, "exit_code", json!(2)),
        (script("killed", &manual(), "kill -9 $$"), 1, "signal", json!(9)),
    ] {
        let name = text(&task, "name");
        let id = run(&api, &api.create_id(&with(task, retry.clone())));
        let status = if class == "timeout" { "timed_out" } else { "failed" };
        let ended = await_status(&api, &id, status);
        let failure = &ended["attempts"][0]["failure"];
        assert_eq!((&failure["class"], &failure["code"]), (&json!(class), &code), "{name}: {ended}");
        assert_eq!(ended["attempt"], attempts, "{name}: {ended}");
        let reason = text(&ended, "reason");
        let why = if attempts == 1 { "retry.retry_on" } else { "retry.max_attempts" };
        assert!(reason.contains(why), "{name}: {reason}");
    }
    // What was answered is taken back as it is.
    let task = items(&api.get("/api/scheduled-tasks/?limit=1")).remove(0);
    assert_eq!(task["retry"]["retry_on"]["http_status"], json!(["500-599", "429"]));
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    let put = api.send("PUT", &path, &[], Some(&task.to_string())).expect(200);
    assert_eq!(put["retry"], task["retry"]);
}

#[test]
fn a_worker_says_what_sort_of_failure_it_was_and_when_to_come_again() {
    let development = Development::start();
    let api = development.api();
    let retry = json!({ "retry": quick(json!({ "retry_on": { "http_status": ["5xx"] } })) });
    let id = run(&api, &api.create_id(&with(queued("suite", "suites"), retry)));
    let next = || lease(&api, "suites", &json!({ "worker": "w", "wait": "20s" })).remove(0);
    let fail = |mine: &Value, said: Value| {
        let body = with(json!({ "lease_token": mine["lease_token"], "outcome": "failed" }), said);
        api.post(&path(mine, "complete"), &body).expect(200);
    };
    let (first, said_at) = (next(), now_ms());
    let busy = json!({ "class": "http_status", "code": 503 });
    fail(&first, json!({ "failure": busy, "retry_after": "2s" }));
    let second = next();
    assert!(now_ms() - said_at >= 2_000, "the target is left alone for so long");
    let wrong = json!({ "class": "exit_code", "code": 2 });
    fail(&second, json!({ "failure": wrong }));
    let ended = await_status(&api, &id, "failed");
    let failures = [0, 1].map(|attempt| ended["attempts"][attempt]["failure"].clone());
    assert_eq!(failures, [busy, wrong]);
    assert!(text(&ended, "reason").contains("retry.retry_on"), "{ended}");
}

#[test]
fn waits_grow_until_max_delay_cuts_them() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let retry = json!({ "max_attempts": 4, "initial_delay": "100ms", "multiplier": 10, "max_delay": "2s", "jitter": 0 });
    let task = with(call("patient", &manual(), &target.url("/fail/3")), json!({ "retry": retry }));
    let id = run(&api, &api.create_id(&task));
    await_status(&api, &id, "succeeded");
    let at: Vec<i64> = target.calls_to("/fail/3").iter().map(|call| call.at_ms).collect();
    let gaps: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 3);
    // The third would be ten seconds.
    for (gap, least) in gaps.iter().zip([100, 1_000, 2_000]) {
        assert!((least..least + 5_000).contains(gap), "{gaps:?}");
    }
}

#[test]
fn jitter_spreads_the_waits_of_many_that_failed_together() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let retry = json!({ "max_attempts": 2, "initial_delay": "1s", "jitter": 0.5 });
    let fields = json!({ "retry": retry, "overlap": "allow" });
    let task = api.create_id(&with(call("many", &manual(), &target.url("/status/503")), fields));
    let ids: Vec<String> = (0..12).map(|_| run(&api, &task)).collect();
    let wait = |id: &String| {
        let ended = await_status(&api, id, "failed");
        let [first, second] = [0, 1].map(|attempt| ended["attempts"][attempt].clone());
        millis(&second["started_at"]) - millis(&first["finished_at"])
    };
    let waits: Vec<i64> = ids.iter().map(wait).collect();
    // The wait begins when the failure is in the log, a moment after the attempt's end.
    assert!(waits.iter().all(|wait| (450..5_000).contains(wait)), "{waits:?}");
    let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
    assert!(most - least > 300, "they come back together: {waits:?}");
}

/// At most once: what the target may still be at is not called again, and what is known to have failed is.
#[test]
fn at_most_once_a_call_that_was_not_answered_is_not_made_again() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let once = json!({ "delivery": "at_most_once", "retry": quick(json!({})), "timeout": "300ms" });
    let named = |name: &str, path: &str| with(call(name, &manual(), &target.url(path)), once.clone());
    let slow = run(&api, &api.create_id(&named("slow", "/slow/3000")));
    let ended = await_status(&api, &slow, "timed_out");
    assert_eq!((&ended["attempt"], target.calls_to("/slow/3000").len()), (&json!(1), 1), "{ended}");
    assert!(text(&ended, "reason").contains("delivery: at_most_once"), "{ended}");
    let unreachable = with(call("unreachable", &manual(), "http://127.0.0.1:1/"), once.clone());
    let unreachable = run(&api, &api.create_id(&unreachable));
    assert_eq!(await_status(&api, &unreachable, "failed")["attempt"], 3, "it was told nothing");
    let refused = run(&api, &api.create_id(&named("refused", "/status/503")));
    let ended = await_status(&api, &refused, "failed");
    assert_eq!((&ended["attempt"], target.calls_to("/status/503").len()), (&json!(3), 3), "{ended}");
}

#[test]
fn a_target_that_asks_to_be_left_alone_is_left_alone() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = with(call("polite", &manual(), &target.url("/busy/2")), json!({ "retry": quick(json!({})) }));
    let task = api.create_id(&task);
    let id = run(&api, &task);
    await_status(&api, &id, "succeeded");
    let calls = target.calls_to("/busy/2");
    let gap = calls[1].at_ms - calls[0].at_ms;
    assert!(calls.len() == 2 && (2_000..4_000).contains(&gap), "{gap} ms");
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    let retry = events.iter().find(|event| event["type"] == "TaskRetry").expect("it was retried");
    assert_eq!(retry["data"]["retry_after"], "2s", "{retry}");
}

#[test]
fn a_target_may_say_until_when_it_is_to_be_left_alone() {
    let development = Development::start();
    let api = development.api();
    // The date has no parts of a second.
    let until = UNIX_EPOCH + Duration::from_millis(now_ms().unsigned_abs() + 4_000);
    let date = httpdate::fmt_http_date(until);
    let busy = RawTarget::saying(format!(
        "HTTP/1.1 503 Busy\r\nRetry-After: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    let retry = json!({ "retry": { "max_attempts": 2, "initial_delay": "50ms", "jitter": 0 } });
    let task = api.create_id(&with(call("dated", &manual(), &busy.url_by("127.0.0.1")), retry));
    let ended = await_status(&api, &run(&api, &task), "failed");
    let [first, second] = [0, 1].map(|nth: usize| millis(&ended["attempts"][nth]["started_at"]));
    let open =
        i64::try_from(until.duration_since(UNIX_EPOCH).expect("later").as_secs()).expect("few") * 1_000;
    assert!(second >= open && second - first >= 1_000, "{first}, {second}, {open}: {ended}");
}

#[test]
fn the_next_call_is_told_what_failed_and_so_is_a_retry_by_hand() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let failed = json!(["b", { "case": 3 }]);
    let suite = call("suite", &manual(), &target.url("/items"));
    let id = run(&api, &api.create_id(&with(suite.clone(), json!({ "retry": quick(json!({})) }))));
    await_status(&api, &id, "succeeded");
    let once = run(&api, &api.create_id(&suite));
    let ended = await_status(&api, &once, "failed");
    assert_eq!(ended["retry_items"], failed, "{ended}");
    api.post(&format!("/api/executions/{once}/retry"), &Value::Null).expect(202);
    crate::harness::wait::until("the retry by hand succeeded", || {
        api.get(&format!("/api/executions/{once}"))["status"] == "succeeded"
    });
    for key in [id, once] {
        let bodies: Vec<Value> = target
            .calls_to("/items")
            .iter()
            .filter(|call| call.key() == key)
            .map(|call| serde_json::from_str(&call.body).expect("JSON"))
            .collect();
        assert_eq!(bodies, [json!({ "from": "suite" }), json!({ "from": "suite", "retry_items": failed })]);
    }
}

#[test]
fn the_next_program_is_told_what_failed() {
    let development = Development::start();
    let api = development.api();
    let suite = r#"if [ -n "$ESCAPEMENT_RETRY_ITEMS" ]; then echo "again: $ESCAPEMENT_RETRY_ITEMS"; exit 0; fi
        echo login >> "$ESCAPEMENT_FAILED_ITEMS_FILE"; echo "check out" >> "$ESCAPEMENT_FAILED_ITEMS_FILE"; exit 1"#;
    let task = with(script("suite", &manual(), suite), json!({ "retry": quick(json!({})) }));
    let id = run(&api, &api.create_id(&task));
    await_status(&api, &id, "succeeded");
    let lines = items(&api.get(&format!("/api/executions/{id}/logs?attempt=2")));
    let told = lines.iter().any(|line| line["text"] == r#"again: ["login","check out"]"#);
    assert!(told, "{lines:?}");
}
