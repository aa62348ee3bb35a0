//! `escapement dev`: the first thing that anybody runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::api::items;
use crate::harness::definitions::{
    await_count, await_status, call, execution, executions, manual, run, script,
};
use crate::harness::development::Development;
use crate::harness::outside::lease;
use crate::harness::ports::free_port;
use crate::harness::program::escapement;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until};

#[test]
fn a_development_node_says_where_it_is_and_keeps_its_token_private() {
    let development = Development::start();
    let printed = development.node.printed();
    assert!(printed.contains(&format!("http://{}", development.address)), "{printed}");
    assert!(printed.contains("admin.token"), "{printed}");
    let token = fs::metadata(development.data().join("admin.token")).expect("a token");
    assert_eq!(token.permissions().mode() & 0o777, 0o600);
    assert!(!printed.contains(&development.api().token.expect("a token")), "the token itself is not printed");
    development.api().get("/api/cluster/status");
}

/// Bodies as the README's reader types them.
#[test]
fn an_http_call_and_a_program_run_and_show_that_they_did() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let body = format!(
        r#"{{"name": "ring", "trigger": {{"type": "interval", "every": "1s"}},
            "action": {{"type": "http", "method": "PUT", "url": "{}", "headers": {{"X-Colour": "red"}},
                        "body": {{"a": [1, 2]}}}}}}"#,
        target.url("/ok")
    );
    let ring = api.send("POST", "/api/scheduled-tasks", &[], Some(&body)).expect(201);
    let body = r#"{"name": "say", "trigger": {"type": "cron", "expression": "* * * * * *", "timezone": "Europe/Berlin"},
                   "action": {"type": "process", "program": "/bin/echo", "args": ["hello", "world"]}}"#;
    let say = api.send("POST", "/api/scheduled-tasks/", &[], Some(body)).expect(201);
    let ring = ring["id"].as_str().expect("an id");
    let rung = await_count(&api, ring, "succeeded", 2);
    let call = target.calls_to("/ok").into_iter().next().expect("a call");
    assert_eq!((call.method.as_str(), call.header("X-Colour")), ("PUT", "red"));
    assert_eq!(call.body.parse::<serde_json::Value>().expect("JSON"), json!({ "a": [1, 2] }));
    assert_eq!(call.header("Escapement-Task-Id"), ring);
    assert_eq!(call.header("Escapement-Execution-Id"), call.key());
    assert_eq!(call.attempt(), 1);
    assert!(call.header("traceparent").starts_with("00-"));
    let first = execution(&api, &call.key());
    assert_eq!(first["scheduled_at"], call.header("Escapement-Scheduled-At"));
    assert_eq!(first["trigger"], "schedule");
    assert!(!first["result"].is_null(), "what the target answered is kept: {first}");
    assert!(rung.iter().any(|execution| execution["id"] == first["id"]));

    let said = await_count(&api, say["id"].as_str().expect("an id"), "succeeded", 1);
    let id = said[0]["id"].as_str().expect("an id");
    let lines = items(&api.get(&format!("/api/executions/{id}/logs")));
    let said_so = |line: &serde_json::Value| {
        line["stream"] == "stdout" && line["text"].as_str().is_some_and(|text| text.contains("hello world"))
    };
    assert!(lines.iter().any(said_so), "{lines:?}");
}

#[test]
fn a_development_node_refuses_to_listen_to_the_world() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let listen = format!("0.0.0.0:{}", free_port());
    let data = directory.path().join("data").display().to_string();
    let ran = escapement(&["dev", "--listen", &listen, "--data", &data]).expect(1);
    assert!(ran.err.contains("--insecure-listen"), "{}", ran.err);
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let development = Development::start();
    let listen = format!("127.0.0.1:{}", free_port());
    let data = development.data().display().to_string();
    let ran = escapement(&["dev", "--listen", &listen, "--data", &data]).expect(1);
    assert!(ran.err.contains(&data) || ran.err.contains("in use"), "{}", ran.err);
    assert_eq!(development.api().anonymous().send("GET", "/healthz", &[], None).status, 200);
}

#[test]
fn asked_to_end_a_node_ends_within_ten_seconds_and_hands_its_work_back() {
    let mut development = Development::start();
    let api = development.api();
    let mark = development.place().join("mark");
    let once_only = format!("if [ -e {0} ]; then exit 0; fi; touch {0}; sleep 300", mark.display());
    let task = api.create_id(&script("long", &manual(), &once_only));
    let id = run(&api, &task);
    until("the program runs", || mark.exists());
    let waits = {
        let (api, asked) = (development.api(), json!({ "worker": "runner-1", "wait": "60s" }));
        thread::spawn(move || lease(&api, "suites", &asked))
    };
    until("a worker waits", || items(&api.get("/api/workers")).iter().any(|one| one["id"] == "runner-1"));
    let code = development.node.terminate(Duration::from_secs(10));
    assert_eq!(code, Some(0), "{}", development.node.printed());
    assert!(waits.join().expect("whoever waits is answered").is_empty());
    development.restart();
    let ended = await_status(&api, &id, "succeeded");
    assert_eq!(ended["attempt"], 2, "{ended}");
}

#[test]
fn a_restart_after_kill_9_finds_all_that_was_acknowledged() {
    let (mut development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&call("kept", &manual(), &target.url("/ok")));
    let id = run(&api, &task);
    let before = await_status(&api, &id, "succeeded");
    let late = api.create_id(&call("last", &manual(), &target.url("/ok")));
    development.node.kill();
    development.restart();
    assert_eq!(api.get(&format!("/api/scheduled-tasks/{late}"))["name"], "last");
    let after = eventually("the execution is there", || executions(&api, &task).into_iter().next());
    assert_eq!(after, before);
    assert_eq!(target.calls_to("/ok").len(), 1, "it ran once");
}
