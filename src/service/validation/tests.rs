//! What is refused, where, and why; one line a claim.

mod events;

use serde_json::{Value, json};

use escapement_domain::task::retry_on::Numbers;
use escapement_domain::task::trigger::{AfterCondition, Trigger};

use super::*;
use crate::json;

/// 2026-03-01T12:00:00Z.
const NOW: Timestamp = Timestamp(1_772_366_400_000);

fn task() -> Value {
    json!({
        "name": "nightly",
        "trigger": { "type": "cron", "expression": "0 2 * * *" },
        "action": { "type": "http", "url": "https://runner.example/7" }
    })
}

fn checked(task: &Value, purpose: Purpose, programs: &ProgramsOffered) -> Result<Checked, Vec<Fault>> {
    let text = task.to_string();
    let node = json::parse(text.as_bytes()).expect("JSON");
    check(node, "", &Surroundings { now: NOW, purpose, programs })
}

/// The task with the field at `pointer` replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut task = task();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = task.pointer_mut(parent).expect("the parent is there");
    parent.as_object_mut().expect("an object").insert(field.into(), value);
    task
}

fn accepted(task: &Value) -> Definition {
    match checked(task, Purpose::Create, &ProgramsOffered::Any) {
        Ok(checked) => checked.definition,
        Err(faults) => panic!("{faults:?} in {task}"),
    }
}

#[track_caller]
fn refused(task: &Value, pointer: &str, detail: &str) {
    let faults = checked(task, Purpose::Create, &ProgramsOffered::Any).expect_err("refused");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].pointer, pointer, "{faults:?}");
    assert!(faults[0].detail.contains(detail), "{faults:?}");
}

/// The task with one field replaced is refused at that field.
#[track_caller]
fn check_field(pointer: &str, value: Value, detail: &str) {
    refused(&with(pointer, value), pointer, detail);
}

#[test]
fn a_task_takes_the_contracts_defaults() {
    let definition = accepted(&task());
    assert_eq!(definition.timeout, Span::minutes(5));
    assert_eq!(definition.retry, Retry::NONE);
    assert_eq!(definition.misfire, Misfire::default());
    assert_eq!((definition.priority, definition.kind), (5, Kind::Generic));
    assert_eq!((definition.overlap, definition.delivery), (Overlap::Skip, Delivery::AtLeastOnce));
    assert_eq!(accepted(&with("/retry", json!({}))).retry, Retry::DEFAULT);
    let explicit = json!({ "max_attempts": 2, "multiplier": 1.5, "jitter": 0.05, "initial_delay": "250ms" });
    let retry = accepted(&with("/retry", explicit)).retry;
    assert_eq!((retry.max_attempts, retry.multiplier_per_mille, retry.jitter_per_mille), (2, 1_500, 50));
    assert_eq!(accepted(&with("/description", Value::Null)).description, "", "null is left out");
}

#[test]
fn a_body_keeps_its_order_and_its_numbers() {
    let text = r#"{"name":"n","trigger":{"type":"manual"},
        "action":{"type":"http","url":"http://x","body":{"z": 1.0, "a": [10000000000000000000000]}}}"#;
    let surroundings = Surroundings { now: NOW, purpose: Purpose::Create, programs: &ProgramsOffered::Any };
    let checked = check(json::parse(text.as_bytes()).expect("JSON"), "", &surroundings).expect("accepted");
    let escapement_domain::task::action::Action::Http(http) = checked.definition.action else {
        panic!("a call")
    };
    assert_eq!(http.body.as_deref(), Some(r#"{"z":1.0,"a":[10000000000000000000000]}"#));
    assert_eq!(http.method, "POST");
}

#[test]
fn names_and_texts_are_bounded() {
    check_field("/name", json!(""), "1 to 256 bytes");
    check_field("/name", json!("  "), "not all blank");
    check_field("/name", json!("x".repeat(257)), "this has 257");
    check_field("/name", json!("a\nb"), "control characters");
    check_field("/name", json!(7), "a string is expected, not a number");
    check_field("/name", Value::Null, "`name` is required");
    check_field("/description", json!("x".repeat(4_097)), "at most 4096 bytes");
    check_field("/description", json!("\u{7}"), "control characters");
    check_field("/labels", json!(["a"]), "an object is expected, not a list");
    check_field("/labels", (0..65).map(|n| (n.to_string(), "v")).collect(), "at most 64 labels");
    refused(&with("/labels", json!({ "team": 7 })), "/labels/team", "a string is expected");
    refused(&with("/labels", json!({ "a=b": "c" })), "/labels/a=b", "without `=`");
    refused(&with("/labels", json!({ "": "c" })), "/labels/", "1 to 256 bytes");
    refused(&with("/labels", json!({ "a/b~": "x".repeat(257) })), "/labels/a~1b~0", "at most 256 bytes");
}

#[test]
fn numbers_and_durations_are_bounded() {
    check_field("/timeout", json!("0s"), "a duration from 1ms to 7d");
    check_field("/timeout", json!("8d"), "a duration from 1ms to 7d");
    check_field("/timeout", json!("5 parsecs"), "is not a duration");
    check_field("/timeout", json!(300), "a duration such as `90s`");
    check_field("/jitter", json!("11y"), "is not a duration");
    check_field("/jitter", json!("4000d"), "is allowed, not 4000d");
    check_field("/priority", json!(10), "a whole number from 0 to 9");
    check_field("/priority", json!(-1), "a whole number from 0 to 9");
    check_field("/priority", json!(1.5), "a whole number from 0 to 9");
    check_field("/priority", json!("5"), "a whole number is expected, not a string");
    check_field("/max_runs", json!(0), "a whole number from 1");
    check_field("/max_runs", json!(4_294_967_296_u64), "a whole number from 1 to 4294967295");
    assert_eq!(accepted(&with("/priority", json!(9.0))).priority, 9);
}

#[test]
fn retries_are_bounded() {
    let retry = |field: &str, value: Value| with("/retry", json!({ field: value }));
    refused(&retry("max_attempts", json!(0)), "/retry/max_attempts", "from 1 to 1000");
    refused(&retry("max_attempts", json!(1_001)), "/retry/max_attempts", "from 1 to 1000");
    refused(&retry("multiplier", json!(0.5)), "/retry/multiplier", "a number from 1 to 100");
    refused(&retry("multiplier", json!(1e300)), "/retry/multiplier", "a number from 1 to 100");
    refused(&retry("jitter", json!(1.1)), "/retry/jitter", "a number from 0 to 1");
    refused(&retry("jitter", json!(-0.1)), "/retry/jitter", "a number from 0 to 1");
    refused(&retry("initial_delay", json!("10m")), "/retry/initial_delay", "at most max_delay, which is 5m");
    refused(&retry("max_delay", json!("10ms")), "/retry/max_delay", "at least initial_delay, which is 1s");
    refused(&retry("max_attemps", json!(3)), "/retry/max_attemps", "did you mean `max_attempts`?");
    refused(
        &with("/misfire", json!({ "policy": "run_last" })),
        "/misfire/policy",
        "did you mean `run_latest`?",
    );
    refused(&with("/misfire", json!({ "window": "x" })), "/misfire/window", "is not a duration");
    check_field("/overlap", json!("parallel"), "allowed: skip, queue_one, queue_all, cancel_running, allow");
    check_field("/delivery", json!("at_least_onc"), "did you mean `at_least_once`?");
    check_field("/kind", json!("test"), "allowed: test_execution");
}

#[test]
fn triggers_are_checked_by_their_kind() {
    let trigger = |value: Value| with("/trigger", value);
    check_field("/trigger", json!("cron"), "an object is expected, not a string");
    refused(&trigger(json!({ "type": "corn" })), "/trigger/type", "did you mean `cron`?");
    refused(&trigger(json!({})), "/trigger/type", "`type` is required");
    refused(&trigger(json!({ "type": "cron" })), "/trigger/expression", "is required");
    let cron = |expression: &str| trigger(json!({ "type": "cron", "expression": expression }));
    refused(&cron("61 * * * *"), "/trigger/expression", "column 1: ");
    refused(&cron("0 0 30 2 *"), "/trigger/expression", "");
    let zoned = trigger(json!({ "type": "cron", "expression": "@daily", "timezone": "Europe/Berln" }));
    refused(&zoned, "/trigger/timezone", "Europe/Berlin");
    let dst = trigger(json!({ "type": "cron", "expression": "@daily", "dst": { "gap": "slip" } }));
    refused(&dst, "/trigger/dst/gap", "did you mean `skip`?");
    let every = trigger(json!({ "type": "interval", "every": "999ms" }));
    refused(&every, "/trigger/every", "a duration from 1s");
    let foreign = trigger(json!({ "type": "interval", "every": "1m", "expression": "@daily" }));
    refused(&foreign, "/trigger/expression", "not a field of a trigger of type interval");
    let anchor = trigger(json!({ "type": "interval", "every": "1m", "anchor": "noon" }));
    refused(&anchor, "/trigger/anchor", "RFC 3339");
}

#[test]
fn what_a_task_runs_after_is_named_once_and_in_bounds() {
    let trigger = |value: Value| with("/trigger", value);
    let id = |nth: usize| format!("0195a0c0-0000-7000-8000-{nth:012x}");
    let accepted = accepted(&trigger(json!({ "type": "after", "tasks": [id(2), id(1)] })));
    let Trigger::After { tasks, condition } = accepted.trigger else { panic!("after") };
    assert_eq!((tasks.len(), condition), (2, AfterCondition::AllSucceeded));
    let wrong = |tasks: Value, pointer: &str, detail: &str| {
        refused(&trigger(json!({ "type": "after", "tasks": tasks })), pointer, detail);
    };
    wrong(json!([]), "/trigger/tasks", "1 to 32 tasks are allowed; these are 0");
    wrong(json!((0..33).map(id).collect::<Vec<_>>()), "/trigger/tasks", "1 to 32 tasks");
    wrong(json!([id(1), "build"]), "/trigger/tasks/1", "the id of a task, a UUID, is expected, not `build`");
    wrong(json!([id(1), id(1)]), "/trigger/tasks/1", "is named twice");
    wrong(json!("build"), "/trigger/tasks", "a list is expected");
    let condition = json!({ "type": "after", "tasks": [id(1)], "condition": "any" });
    refused(&trigger(condition), "/trigger/condition", "any_failed");
    refused(&trigger(json!({ "type": "after" })), "/trigger/tasks", "`tasks` is required");
}

#[test]
fn an_instant_that_is_past_is_refused_unless_it_is_to_run_or_was_there_before() {
    let past = NOW.minus(Span::seconds(1));
    let once = |extra: Value| {
        let mut trigger = json!({ "type": "once", "at": past.to_string() });
        trigger.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        with("/trigger", trigger)
    };
    refused(&once(json!({})), "/trigger/at", "is past");
    accepted(&once(json!({ "if_past": "run" })));
    refused(&once(json!({ "if_past": "ignore" })), "/trigger/if_past", "allowed: refuse, run");
    let replace = |once_at| checked(&once(json!({})), Purpose::Replace { once_at }, &ProgramsOffered::Any);
    assert!(replace(Some(past)).is_ok(), "it was there before");
    assert!(replace(Some(NOW)).is_err());
    assert!(replace(None).is_err());
}

#[test]
fn a_task_that_can_never_be_due_is_refused() {
    let mut task = with("/end_at", json!("2026-03-01T13:00:00Z"));
    refused(&task, "/end_at", "no instant of the trigger lies between now and");
    task["start_at"] = json!("2026-03-01T14:00:00Z");
    refused(&task, "/end_at", "an instant after start_at");
    check_field("/start_at", json!("soon"), "RFC 3339");
    check_field("/end_at", json!(12), "RFC 3339 instant such as");
}

#[test]
fn calls_are_checked() {
    let action = |field: &str, value: Value| {
        let mut task = task();
        task["action"][field] = value;
        task
    };
    for url in [
        "http:x/y",
        "http:///x/y",
        "http:\\\\x",
        "/relative",
        "ftp://x/y",
        "http://",
        "",
        "http://a b/",
        "mailto:a@b",
        "http://[::1",
    ] {
        let faults = checked(&action("url", json!(url)), Purpose::Create, &ProgramsOffered::Any);
        assert_eq!(faults.expect_err(url)[0].pointer, "/action/url", "{url}");
    }
    refused(&action("method", json!("FETCH")), "/action/method", "Allowed: GET, HEAD, POST");
    refused(&action("headers", json!({ "a b": "c" })), "/action/headers/a b", "not the name of a header");
    refused(&action("headers", json!({ "A": "c\nd" })), "/action/headers/A", "control characters");
    refused(&action("headers", json!({ "Host": "x" })), "/action/headers/Host", "sets `Host` itself");
    refused(
        &action("headers", json!({ "Escapement-Attempt": "1" })),
        "/action/headers/Escapement-Attempt",
        "itself",
    );
    refused(&action("headers", json!({ "a": "1", "A": "2" })), "/action/headers/a", "twice");
    let silent = |completion: &str| {
        let mut task = action("completion", json!(completion));
        task["action"]["heartbeat_timeout"] = json!("30s");
        task
    };
    accepted(&action("completion", json!("callback")));
    accepted(&silent("callback"));
    refused(&silent("response"), "/action/heartbeat_timeout", "`callback` only");
    refused(&action("heartbeat_timeout", json!("1m")), "/action/heartbeat_timeout", "`callback` only");
    refused(&action("completion", json!("later")), "/action/completion", "callback");
    refused(&action("uri", json!("x")), "/action/uri", "did you mean `url`?");
}

#[test]
fn queues_are_checked() {
    let queue = |name: Value| with("/action", json!({ "type": "queue", "queue": name }));
    accepted(&queue(json!("suites.nightly")));
    refused(&with("/action", json!({ "type": "queue" })), "/action/queue", "is required");
    for wrong in ["", "a b", "a/b", "größe"] {
        refused(&queue(json!(wrong)), "/action/queue", "1 to 128 bytes of printable ASCII");
    }
}

#[test]
fn programs_are_checked() {
    let action = |extra: Value| {
        let mut action = json!({ "type": "process", "program": "/usr/bin/true" });
        action.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        with("/action", action)
    };
    accepted(&action(
        json!({ "args": ["-c"], "env": { "A": "b" }, "limits": { "memory": "512MiB", "cpu_time": "10s" } }),
    ));
    refused(&action(json!({ "program": "true" })), "/action/program", "an absolute path");
    refused(&action(json!({ "program": "/bin/../x" })), "/action/program", "without `..`");
    refused(&action(json!({ "args": "-c" })), "/action/args", "a list is expected");
    refused(&action(json!({ "args": ["a", 1] })), "/action/args/1", "a string is expected");
    refused(&action(json!({ "args": ["a\u{0}b"] })), "/action/args/0", "NUL");
    refused(&action(json!({ "env": { "A=B": "c" } })), "/action/env/A=B", "neither `=` nor NUL");
    refused(
        &action(json!({ "env": { "ESCAPEMENT_TASK_ID": "c" } })),
        "/action/env/ESCAPEMENT_TASK_ID",
        "itself",
    );
    // What Linux takes, to the byte.
    let long = |bytes: usize| "a".repeat(bytes);
    accepted(&action(json!({ "args": [long(131_071)] })));
    accepted(&action(json!({ "env": { "AB": long(131_067) } })));
    refused(&action(json!({ "args": [long(131_072)] })), "/action/args/0", "131071");
    refused(
        &action(json!({ "env": { "AB": long(131_068) } })),
        "/action/env/AB",
        "take 131069 bytes at most",
    );
    refused(&action(json!({ "limits": { "memory": 1 } })), "/action/limits/memory", "from 1048576");
    refused(&action(json!({ "limits": { "memory": "lots" } })), "/action/limits/memory", "`512MiB`");
    refused(&action(json!({ "limits": { "files": 1 } })), "/action/limits/files", "not a field of limits");
    let builtin = |value: Value| with("/action", value);
    accepted(&builtin(json!({ "type": "builtin", "operation": "noop", "parameters": {} })));
    refused(
        &builtin(json!({ "type": "builtin", "operation": "nop" })),
        "/action/operation",
        "did you mean `noop`?",
    );
    let list = json!({ "type": "builtin", "operation": "noop", "parameters": [] });
    refused(&builtin(list), "/action/parameters", "an object is expected");
}

#[test]
fn a_program_is_held_against_what_the_workers_offer() {
    let task = with("/action", json!({ "type": "process", "program": "/usr/bin/true" }));
    let listed =
        |programs: &[&str]| ProgramsOffered::Listed(programs.iter().map(|name| (*name).into()).collect());
    let faults = |offered| checked(&task, Purpose::Create, &offered).err().unwrap_or_default();
    assert!(faults(ProgramsOffered::Unknown).is_empty());
    assert!(faults(listed(&["/usr/bin/true"])).is_empty());
    assert_eq!(faults(listed(&["/bin/sh"]))[0].pointer, "/action/program");
    let none = faults(listed(&[]));
    assert_eq!(none[0].pointer, "/action/type");
    assert!(none[0].detail.contains("execution.process_allow"), "{none:?}");
}

#[test]
fn failures_to_retry_are_told_by_class() {
    let on = |on: Value| with("/retry", json!({ "retry_on": on }));
    let listed =
        json!({ "http_status": [429, "5xx", " 408 - 409 "], "exit_codes": ["1-5"], "timeout": true });
    let definition = accepted(&on(listed));
    let numbers = |first, last| Numbers { first, last };
    let expected = RetryOn {
        http_status: vec![numbers(429, 429), numbers(500, 599), numbers(408, 409)],
        exit_codes: vec![numbers(1, 5)],
        timeout: true,
        ..RetryOn::default()
    };
    assert_eq!(definition.retry_on, Some(expected));
    assert_eq!(accepted(&with("/retry", json!({}))).retry_on, None);
    let at = |field: &str| format!("/retry/retry_on{field}");
    for wrong in [json!("6xx"), json!(99), json!("509-500"), json!("a"), json!(-1), json!(5.5), json!(null)] {
        refused(&on(json!({ "http_status": [wrong] })), &at("/http_status/0"), "a status from 100 to 599");
    }
    refused(&on(json!({ "exit_codes": [1, 0] })), &at("/exit_codes/1"), "an exit code from 1 to 255");
    refused(&on(json!({ "exit_codes": vec![1; 33] })), &at("/exit_codes"), "at most 32 ranges");
    refused(
        &on(json!({ "timeout": "yes", "other": true })),
        &at("/timeout"),
        "`true` or `false` is expected",
    );
    refused(&on(json!({ "status": [500], "other": true })), &at("/status"), "not a field of retry_on");
    refused(&on(json!({ "timeout": false })), &at(""), "at least one class of failures");
}

#[test]
fn limits_of_executions_are_checked() {
    let definition = accepted(&with("/execution_timeout", json!("2h")));
    assert_eq!((definition.execution_timeout, definition.queue_timeout), (Some(Span::hours(2)), None));
    assert_eq!(accepted(&with("/queue_timeout", json!("90s"))).queue_timeout, Some(Span::seconds(90)));
    assert_eq!(accepted(&with("/pause_after_failures", json!(5))).pause_after_failures, Some(5));
    check_field("/execution_timeout", json!("0s"), "a duration from 1ms");
    check_field("/queue_timeout", json!(90), "a duration such as");
    check_field("/pause_after_failures", json!(0), "a whole number from 1");
}

#[test]
fn a_breaker_and_shares_of_pools_are_read() {
    let breaker = json!({ "failure_threshold": 3, "open_for": "30s" });
    let expected = CircuitBreaker { failure_threshold: 3, open_for: Span::seconds(30) };
    assert_eq!(accepted(&with("/circuit_breaker", breaker)).circuit_breaker, Some(expected));
    let default = accepted(&with("/circuit_breaker", json!({}))).circuit_breaker;
    assert_eq!(default, Some(CircuitBreaker::DEFAULT));
    assert_eq!(accepted(&with("/circuit_breaker", Value::Null)).circuit_breaker, None);
    for (field, value, detail) in [
        ("failure_threshold", json!(0), "a whole number from 1 to 1000"),
        ("open_for", json!("0s"), "a duration from"),
        ("half_open", json!(1), "is not a field of circuit_breaker"),
    ] {
        let wrong = with("/circuit_breaker", json!({ field: value }));
        refused(&wrong, &format!("/circuit_breaker/{field}"), detail);
    }
    let shares = accepted(&with("/resources", json!({ "staging": 2, "gpu.1": 1 }))).resources;
    assert_eq!(shares, [("gpu.1".to_owned(), 1), ("staging".to_owned(), 2)].into());
    check_field("/resources", json!(["staging"]), "an object is expected");
    let share = with("/resources", json!({ "staging": 0 }));
    refused(&share, "/resources/staging", "a whole number from 1 to 1000000");
    refused(&with("/resources", json!({ "a b": 1 })), "/resources/a b", "a pool's name has 1 to 128");
    let many: serde_json::Map<String, Value> = (0..17).map(|pool| (format!("p{pool}"), json!(1))).collect();
    check_field("/resources", Value::Object(many), "at most 16 pools are allowed; these are 17");
    assert_eq!(accepted(&with("/max_concurrent", json!(2))).max_concurrent, Some(2));
    check_field("/max_concurrent", json!(0), "a whole number from 1 to 1000");
}

#[test]
fn a_task_names_each_calendar_once_and_not_too_many() {
    let named = json!(["holidays", "quarter.end"]);
    assert_eq!(accepted(&with("/calendars", named)).calendars, ["holidays", "quarter.end"]);
    check_field("/calendars", json!("holidays"), "a list is expected");
    let many: Vec<String> = (0..17).map(|number| format!("c{number}")).collect();
    check_field("/calendars", json!(many), "at most 16 calendars are allowed; these are 17");
    let check_second = |second: Value, detail| {
        refused(&with("/calendars", json!(["holidays", second])), "/calendars/1", detail);
    };
    check_second(json!("holidays"), "`holidays` is named twice");
    check_second(json!("de holidays"), "1 to 128 bytes of letters, digits");
    check_second(json!(7), "a string is expected");
}

#[test]
fn what_was_answered_may_be_sent_back_and_nothing_else() {
    let mut task = task();
    for name in READ_ONLY {
        task[name] = json!("whatever");
    }
    accepted(&task);
    check_field("/id_", json!("x"), "is not a field of a task");
    check_field("/lables", json!({}), "did you mean `labels`?");
    check_field("/state", json!("finished"), "allowed: active, paused");
    let finished = checked(
        &with("/state", json!("finished")),
        Purpose::Replace { once_at: None },
        &ProgramsOffered::Any,
    );
    assert_eq!(finished.expect("accepted").state, None);
    let paused = checked(&with("/state", json!("paused")), Purpose::Create, &ProgramsOffered::Any);
    assert_eq!(paused.expect("accepted").state, Some(WantedState::Paused));
}

#[test]
fn a_definition_is_bounded() {
    let mut task = task();
    task["action"]["body"] = json!("x".repeat(DEFINITION_BYTES_MAX));
    refused(&task, "", "a definition takes at most 196608 bytes");
}

#[test]
fn what_is_no_object_is_refused() {
    refused(&json!([]), "", "an object is expected, not a list");
    refused(&Value::Null, "", "an object is expected, not null");
}
