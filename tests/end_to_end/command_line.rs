//! The command line: help that teaches, exit statuses that scripts hold on to, tables for people, JSON for programs.

use std::fs;

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::definitions::{call, manual, noop, script};
use crate::harness::development::Development;
use crate::harness::program::{ask, escapement, escapement_in};
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["dev"],
    &["server"],
    &["config", "check"],
    &["token", "mint"],
    &["task", "create"],
    &["task", "list"],
    &["task", "show"],
    &["task", "update"],
    &["task", "delete"],
    &["task", "run"],
    &["task", "pause"],
    &["task", "resume"],
    &["task", "next"],
    &["task", "explain"],
    &["task", "skip"],
    &["task", "move"],
    &["task", "restore"],
    &["task", "occurrences"],
    &["task", "backfill"],
    &["task", "backfills"],
    &["task", "cancel-backfill"],
    &["calendar", "put"],
    &["calendar", "list"],
    &["calendar", "show"],
    &["calendar", "delete"],
    &["event", "publish"],
    &["execution", "list"],
    &["execution", "show"],
    &["execution", "logs"],
    &["execution", "cancel"],
    &["execution", "retry"],
    &["execution", "dead-letters"],
    &["schedule", "preview"],
    &["schedule", "check"],
    &["schedule", "forecast"],
    &["cluster", "status"],
    &["cluster", "add-node"],
    &["cluster", "promote"],
    &["cluster", "remove-node"],
    &["cluster", "transfer-leadership"],
    &["audit", "export"],
    &["audit", "verify"],
    &["audit", "replay"],
    &["audit", "fires"],
    &["bench"],
];

#[test]
fn every_command_has_help() {
    for command in COMMANDS {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let ran = escapement(&arguments).expect(0);
        assert!(ran.out.contains("Usage:"), "{command:?}: {}", ran.out);
        assert!(ran.err.is_empty(), "{command:?}: {}", ran.err);
    }
    assert!(escapement(&["--version"]).expect(0).out.starts_with("escapement "));
    assert!(escapement(&[]).expect(0).out.contains("escapement dev"));
}

#[test]
fn wrong_usage_ends_with_2_and_a_failure_with_1() {
    for wrong in [
        &["nonsense"][..],
        &["task"],
        &["task", "show"],
        &["task", "show", "not-an-id"],
        &["task", "list", "--colour"],
        &["schedule", "preview"],
        &["token", "mint"],
        &["task", "list", "--output", "xml"],
    ] {
        let ran = escapement(wrong).expect(2);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{wrong:?}: {ran:?}");
    }
    let nobody = ["task", "list", "--address", "http://127.0.0.1:9", "--token", "x"];
    let ran = escapement(&nobody).expect(1);
    assert!(ran.out.is_empty() && ran.err.contains("127.0.0.1:9"), "{ran:?}");
    escapement(&["config", "check", "/nonexistent/cluster.toml"]).expect(1);
    escapement(&["server", "--config", "/nonexistent/cluster.toml", "--node", "1"]).expect(1);
}

#[test]
fn schedules_are_tried_without_a_node() {
    let arguments = ["schedule", "preview", "--cron", "0 2 * * 1-5", "--timezone", "Europe/Berlin"];
    let mut full = arguments.to_vec();
    full.extend(["--from", "2026-03-27T12:00:00Z", "--count", "3", "--output", "json"]);
    let fires = escapement(&full).expect(0).out;
    // Clocks change in the night of 29 March; Saturday and Sunday are left out.
    for instant in ["2026-03-30T00:00:00.000Z", "2026-03-31T00:00:00.000Z", "2026-04-01T00:00:00.000Z"] {
        assert!(fires.contains(instant), "{fires}");
    }
    let wrong = escapement(&["schedule", "preview", "--cron", "0 0 30 2 *"]);
    assert!([1, 2].contains(&wrong.code) && wrong.out.is_empty(), "{wrong:?}");
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/actors/domain/tests/vectors/cron.jsonl");
    let checked = escapement(&["schedule", "check", vectors]).expect(0);
    assert!(checked.out.trim_end().ends_with("passed, 0 failed"), "{}", checked.out);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("wrong.jsonl");
    let line =
        r#"{"expr":"* * * * *","tz":"UTC","from":"2026-01-01T00:00:00Z","next":["2026-01-01T00:02:00Z"]}"#;
    fs::write(&file, format!("{line}\n")).expect("written");
    let checked = escapement(&["schedule", "check", &file.display().to_string()]).expect(1);
    assert!(checked.out.trim_end().ends_with("0 passed, 1 failed"), "{}", checked.out);
}

#[test]
fn tasks_are_managed_from_the_command_line() {
    let development = Development::start();
    let api = development.api();
    let created = ask(
        &api,
        &["task", "create", "-f", "-", "--output", "json"],
        Some(&noop("typed", &manual()).to_string()),
    );
    let id = created.expect(0).json()["id"].as_str().expect("an id").to_owned();
    let table = ask(&api, &["task", "list"], None).expect(0).out;
    assert!(table.contains("typed") && table.contains(&id) && !table.contains('{'), "{table}");
    let list = ask(&api, &["task", "list", "--output", "json"], None).expect(0).json();
    assert_eq!(list["items"][0]["id"], json!(id));
    assert!(ask(&api, &["task", "show", &id], None).expect(0).out.contains("typed"));
    let file = development.place().join("changed.json");
    fs::write(&file, noop("retyped", &manual()).to_string()).expect("written");
    ask(&api, &["task", "update", &id, "-f", &file.display().to_string()], None).expect(0);
    assert_eq!(api.get(&format!("/api/scheduled-tasks/{id}"))["name"], "retyped");
    ask(&api, &["task", "pause", &id], None).expect(0);
    ask(&api, &["task", "resume", &id], None).expect(0);
    ask(&api, &["task", "run", &id], None).expect(0);
    eventually("it ran", || {
        let list =
            ask(&api, &["execution", "list", "--task", &id, "--output", "json"], None).expect(0).json();
        (list["items"][0]["status"] == "succeeded").then_some(())
    });
    let hourly = noop("hourly", &json!({ "type": "cron", "expression": "@hourly" })).to_string();
    let hourly =
        ask(&api, &["task", "create", "-f", "-", "--output", "json"], Some(&hourly)).expect(0).json();
    let next = ask(
        &api,
        &["task", "next", hourly["id"].as_str().expect("an id"), "--count", "2", "--output", "json"],
        None,
    );
    assert_eq!(next.expect(0).json()["fires"].as_array().map(Vec::len), Some(2));
    ask(&api, &["task", "delete", &id], None).expect(0);
    let gone = ask(&api, &["task", "show", &id], None).expect(1);
    assert!(gone.out.is_empty() && !gone.err.is_empty(), "{gone:?}");
    let refused = ask(&api, &["task", "create", "-f", "-"], Some("{\"name\":\"x\"}")).expect(1);
    assert!(refused.err.contains("/trigger"), "{}", refused.err);
}

#[test]
fn executions_are_followed_cancelled_and_retried_from_the_command_line() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&script("talks", &manual(), "echo first; sleep 1; echo second"));
    let id = crate::harness::definitions::run(&api, &task);
    let followed = ask(&api, &["execution", "logs", &id, "--follow"], None).expect(0).out;
    assert!(followed.contains("first") && followed.contains("second"), "{followed}");
    let shown = ask(&api, &["execution", "show", &id], None).expect(0).out;
    assert!(shown.contains("succeeded"), "{shown}");
    ask(&api, &["execution", "cancel", &id], None).expect(1);
    let task = api.create_id(&call("fails", &manual(), &target.url("/fail/1")));
    let id = crate::harness::definitions::run(&api, &task);
    crate::harness::definitions::await_status(&api, &id, "failed");
    let failed = ask(&api, &["execution", "list", "--status", "failed"], None).expect(0).out;
    assert!(failed.contains(&id), "{failed}");
    ask(&api, &["execution", "retry", &id], None).expect(0);
    until("it succeeded", || api.get(&format!("/api/executions/{id}"))["status"] == "succeeded");
}

#[test]
fn a_development_node_s_token_is_found_by_itself() {
    let development = Development::start();
    let address = format!("http://{}", development.address);
    let found = escapement_in(&development.place(), &["--address", &address, "task", "list"]);
    found.expect(0);
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let without = escapement_in(elsewhere.path(), &["--address", &address, "task", "list"]).expect(1);
    assert!(without.err.contains("token"), "{}", without.err);
    let file = development.data().join("admin.token").display().to_string();
    let arguments = ["--address", &address, "--token-file", &file, "task", "list"];
    escapement_in(elsewhere.path(), &arguments).expect(0);
}

#[test]
fn a_configuration_s_faults_are_all_named() {
    let cluster = Cluster::start(1);
    let good = cluster.configuration().display().to_string();
    escapement(&["config", "check", &good]).expect(0);
    let text = fs::read_to_string(&good).expect("readable");
    let wrong = text.replace("\"50ms\"", "\"fast\"").replace("slots = 256", "slots = -1\ncolour = \"red\"");
    let file = cluster.place().join("wrong.toml");
    fs::write(&file, wrong).expect("written");
    let ran = escapement(&["config", "check", &file.display().to_string()]).expect(1);
    let said = format!("{}{}", ran.out, ran.err);
    for part in ["wrong.toml:9", "raft.heartbeat", "execution.slots", "execution.colour", "5ms to 5s"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let server = escapement(&["server", "--config", &file.display().to_string(), "--node", "1"]).expect(1);
    assert!(server.err.contains("heartbeat"), "{}", server.err);
    let unknown = escapement(&["server", "--config", &good, "--node", "9"]);
    assert!([1, 2].contains(&unknown.code) && unknown.err.contains('9'), "{unknown:?}");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.toml");
    let ran = escapement_in(cluster.place(), &["config", "check", example]);
    // Its key is made by whoever follows the README; nothing else may be wrong with it.
    assert!(ran.code == 0 || ran.err.contains("jwt") || ran.out.contains("jwt"), "{ran:?}");
}

#[test]
fn the_cluster_s_state_is_shown() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    let table = ask(&api, &["cluster", "status"], None).expect(0).out;
    assert!(table.contains("leader"), "{table}");
    let status: Value = ask(&api, &["cluster", "status", "--output", "json"], None).expect(0).json();
    assert_eq!((&status["leader"], &status["nodes"][0]["id"]), (&json!(1), &json!(1)));
    assert!(status["term"].as_u64().is_some() && status["version"].is_string(), "{status}");
}
