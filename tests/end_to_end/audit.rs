//! The event log: exported, verified, replayed, and what happens to it when somebody changes a byte.

use std::fs;
use std::path::{Path, PathBuf};

use escapement_actors::ports::Tree;
use serde_json::{Value, json};

use crate::harness::api::{Api, items};
use crate::harness::definitions::{
    await_count, await_status, call, every_second, executions, manual, noop, run,
};
use crate::harness::development::Development;
use crate::harness::program::{ask, escapement};
use crate::harness::target::Target;
use crate::harness::wait::until;

/// A node with some history of every kind.
fn with_history() -> (Development, Api, String) {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&call("called", &manual(), &target.url("/fail/1")));
    let failed = run(&api, &task);
    await_status(&api, &failed, "failed");
    for _ in 0..20 {
        let id = run(&api, &task);
        until("it ended", || {
            let status = api.get(&format!("/api/executions/{id}"))["status"].clone();
            status == "succeeded" || status == "failed"
        });
    }
    let beat = api.create_id(&noop("beat", &every_second()));
    await_count(&api, &beat, "succeeded", 2);
    api.post(&format!("/api/scheduled-tasks/{beat}/pause"), &Value::Null).expect(200);
    (development, api, task)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("readable")) {
        let goal = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &goal);
        } else {
            fs::copy(entry.path(), goal).expect("copied");
        }
    }
}

/// Every directory at or below `place`.
fn directories(place: &Path) -> Vec<PathBuf> {
    let mut found = vec![place.to_path_buf()];
    for entry in fs::read_dir(place).expect("a directory").map(|entry| entry.expect("readable")) {
        if entry.path().is_dir() {
            found.extend(directories(&entry.path()));
        }
    }
    found
}

/// The sled database in a data directory.
fn database(data: &Path) -> sled::Db {
    let place = directories(data).into_iter().find(|place| place.join("db").is_file());
    sled::open(place.expect("a database")).expect("it opens")
}

fn copy_of(development: &mut Development, name: &str) -> PathBuf {
    if development.node.runs() {
        let code = development.node.terminate(std::time::Duration::from_secs(10));
        assert_eq!(code, Some(0));
    }
    let copied = development.place().join(name);
    copy(&development.data(), &copied);
    copied
}

#[test]
fn an_export_is_a_chain_without_gaps() {
    let (_development, api, task) = with_history();
    let exported = ask(&api, &["audit", "export", "--format", "jsonl"], None).expect(0).out;
    let records: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for field in [
        "seq",
        "log_index",
        "at",
        "tenant",
        "actor",
        "correlation_id",
        "type",
        "data",
        "hash",
        "previous_hash",
    ] {
        assert!(records.iter().all(|record| record.get(field).is_some()), "{field}");
    }
    let mut own: Vec<&Value> = records.iter().filter(|record| record["tenant"] == "acme").collect();
    own.sort_by_key(|record| record["seq"].as_u64());
    for (position, pair) in own.windows(2).enumerate() {
        assert_eq!(pair[0]["seq"], position + 1);
        assert_eq!(pair[0]["hash"], pair[1]["previous_hash"], "{}", pair[1]);
    }
    let types: Vec<&str> = own.iter().filter_map(|record| record["type"].as_str()).collect();
    for expected in
        ["TaskCreated", "TaskScheduled", "TaskStarted", "TaskCompleted", "TaskFailed", "TaskPaused"]
    {
        assert!(types.contains(&expected), "{expected} in {types:?}");
    }
    let listed = items(&api.get(&format!("/api/audit/events?task={task}&limit=1000")));
    assert!(listed.len() > 60 && listed.iter().all(|event| event.to_string().contains(&task)));
    let csv = ask(&api, &["audit", "export", "--format", "csv"], None).expect(0).out;
    assert!(csv.lines().next().is_some_and(|head| head.contains("seq") && head.contains("hash")), "{csv}");
    assert!(csv.lines().count() > records.len());
    ask(&api, &["audit", "verify"], None).expect(0);
}

#[test]
fn the_event_log_alone_rebuilds_the_same_state() {
    let (mut development, ..) = with_history();
    let whole = copy_of(&mut development, "whole");
    let alone = copy_of(&mut development, "alone");
    let mut removed = 0;
    for place in directories(&alone) {
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if ["raft", "log", "raft-log", "snapshots", "snapshot"].contains(&name.as_str()) && place.exists() {
            fs::remove_dir_all(&place).expect("removed");
            removed += 1;
        }
    }
    assert!(removed > 0, "the log was found: {:?}", directories(&alone));
    let replay = |data: &Path| {
        let data = data.display().to_string();
        let ran = escapement(&["audit", "replay", "--data", &data, "--output", "json"]).expect(0);
        let answer = ran.json();
        let hash = answer["state_hash"].as_str().unwrap_or_else(|| panic!("a hash in {answer}")).to_owned();
        assert_eq!(hash.len(), 64, "{answer}");
        hash
    };
    assert_eq!(replay(&whole), replay(&alone));
    for place in [&whole, &alone] {
        let data = place.display().to_string();
        escapement(&["audit", "verify", "--data", &data]).expect(0);
    }
}

#[test]
fn a_changed_byte_is_named() {
    let (mut development, ..) = with_history();
    let copied = copy_of(&mut development, "changed");
    let data = copied.display().to_string();
    let database = database(&copied);
    let blocks = database.open_tree(Tree::EventBlocks.name()).expect("the tree");
    let (key, value) = blocks
        .iter()
        .max_by_key(|pair| pair.as_ref().map_or(0, |(_, value)| value.len()))
        .expect("a block")
        .expect("readable");
    let mut bytes = value.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    blocks.insert(&key, bytes).expect("written");
    database.flush().expect("flushed");
    drop((blocks, database));
    let ran = escapement(&["audit", "verify", "--data", &data]).expect(1);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(
        said.chars().any(|c| c.is_ascii_digit()) && (said.contains("acme") || said.contains("cluster")),
        "{said}"
    );
}

#[test]
fn a_missing_block_is_named() {
    let (mut development, ..) = with_history();
    let copied = copy_of(&mut development, "missing");
    let data = copied.display().to_string();
    let database = database(&copied);
    let blocks = database.open_tree(Tree::EventBlocks.name()).expect("the tree");
    let (key, _) = blocks.iter().next().expect("a block").expect("readable");
    blocks.remove(&key).expect("removed");
    database.flush().expect("flushed");
    drop((blocks, database));
    escapement(&["audit", "verify", "--data", &data]).expect(1);
}

#[test]
fn a_deleted_read_model_is_rebuilt() {
    let (mut development, api, task) = with_history();
    let before = executions(&api, &task);
    let counts = api.get("/api/executions/status");
    assert_eq!(development.node.terminate(std::time::Duration::from_secs(10)), Some(0));
    let database = database(&development.data());
    for tree in [Tree::Executions, Tree::TaskExecutions, Tree::Statistics, Tree::TaskStreams] {
        database.drop_tree(tree.name()).expect("dropped");
    }
    database.flush().expect("flushed");
    drop(database);
    development.restart();
    until("the executions are back", || executions(&api, &task).len() == before.len());
    assert_eq!(executions(&api, &task), before);
    assert_eq!(api.get("/api/executions/status")["succeeded"], counts["succeeded"]);
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events?limit=1000")));
    assert_eq!(events[0]["type"], "TaskCreated");
}

#[test]
fn the_fires_that_should_have_been_are_told() {
    let (_development, api, _) = with_history();
    let fires = ask(
        &api,
        &["audit", "fires", "--from", "2026-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"],
        None,
    );
    // A later issue brings them; until then the command says so.
    assert!([0, 1].contains(&fires.code), "{fires:?}");
    let reply = api.post("/api/audit/events", &json!({}));
    assert!((400..500).contains(&reply.status), "the log takes no writes: {reply:?}");
}
