//! The event log: exported, verified, replayed, and what happens to it when somebody changes a byte.

use std::fs;
use std::path::{Path, PathBuf};

use escapement::store::{SledStorage, StorageOptions};
use escapement_actors::ports::{Storage as _, Tree, Write};
use serde_json::Value;

use crate::harness::api::{Api, items};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    await_count, await_status, call, every_second, executions, manual, noop, run,
};
use crate::harness::development::Development;
use crate::harness::program::{ask, escapement};
use crate::harness::target::Target;
use crate::harness::wait::until;

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

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

/// The read models and the event log in a data directory.
fn storage(data: &Path) -> SledStorage {
    let place = directories(data).into_iter().find(|place| place.join("db").is_file());
    SledStorage::open(&place.expect("a database"), &StorageOptions::default()).expect("it opens")
}

/// Changes a tree as somebody with access to the disk would.
fn tamper(data: &Path, change: impl FnOnce(Vec<Pair>) -> Vec<Write>) {
    let storage = storage(data);
    let blocks = storage.scan(Tree::EventBlocks, &[], &[0xff; 64], 100_000, false).expect("readable");
    assert!(!blocks.is_empty(), "there are blocks");
    let writes = change(blocks);
    storage.write(writes).expect("written");
    futures::executor::block_on(storage.sync()).expect("synced");
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

/// A running node is verified and replayed as its directory is: the same chains, the same state.
#[test]
fn a_running_node_is_audited_as_its_stopped_copy_is() {
    let (mut development, api, task) = with_history();
    let json =
        |arguments: &[&str]| ask(&api, &[arguments, &["--output", "json"]].concat(), None).expect(0).json();
    let verified = json(&["audit", "verify"]);
    let replayed = json(&["audit", "replay"]);
    let names: Vec<&str> = verified["tenants"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["tenant"].as_str())
        .collect();
    assert_eq!(names, ["$cluster", "acme"]);
    let one = json(&["audit", "verify", "--tenant", "acme"]);
    assert_eq!(one["tenants"][0], verified["tenants"][1]);
    let shown = ask(&api, &["audit", "replay", "--task", &task, "--output", "json"], None).expect(0).out;
    assert!(
        shown.lines().count() > 60 && shown.lines().next().is_some_and(|line| line.contains("TaskCreated"))
    );
    let copied = copy_of(&mut development, "copied").display().to_string();
    // The node went on living until it was stopped; up to the same event of the same tenant both are the same.
    let until = verified["tenants"][1]["events"].to_string();
    let arguments =
        ["audit", "replay", "--data", &copied, "--tenant", "acme", "--output", "json", "--until", &until];
    let stopped = escapement(&arguments).expect(0).json();
    assert_eq!(stopped["tenants"][1], verified["tenants"][1]);
    let until = replayed["at"].as_str().expect("an instant");
    let arguments = ["audit", "replay", "--data", &copied, "--output", "json", "--until", until];
    let stopped = escapement(&arguments).expect(0).json();
    assert_eq!((&stopped["state_hash"], &stopped["events"]), (&replayed["state_hash"], &replayed["events"]));
}

/// An administrator of one tenant verifies its own chain, and is told what a replay takes.
#[test]
fn a_tenants_administrator_audits_that_tenant_alone() {
    let cluster = Cluster::start(1);
    let api = cluster.any().with_token(&cluster.mint("eve", "globex", &["admin"]));
    let id = api.create_id(&noop("theirs", &manual()));
    cluster.any().create(&noop("others", &manual()));
    let verified = ask(&api, &["audit", "verify", "--output", "json"], None).expect(0).json();
    assert_eq!(verified["tenants"].as_array().map(Vec::len), Some(1), "{verified}");
    assert_eq!(verified["tenants"][0]["tenant"], "globex");
    let refused = ask(&api, &["audit", "replay", "--task", &id], None).expect(1);
    assert!(refused.err.contains("cluster-admin"), "{}", refused.err);
    let refused = ask(&api, &["audit", "verify", "--tenant", "acme"], None).expect(1);
    assert!(refused.err.contains("cluster-admin"), "{}", refused.err);
}

/// Verifies a tampered copy, and demands these words.
#[track_caller]
fn check_named(data: &Path, words: &str) {
    let ran = escapement(&["audit", "verify", "--data", &data.display().to_string()]).expect(1);
    assert!(ran.err.contains(words), "{words}: {}", ran.err);
}

#[test]
fn a_changed_byte_is_named() {
    let (mut development, ..) = with_history();
    let copied = copy_of(&mut development, "changed");
    tamper(&copied, |blocks| {
        let (key, mut value) = blocks.into_iter().max_by_key(|(_, value)| value.len()).expect("a block");
        let middle = value.len() / 2;
        value[middle] ^= 0x20;
        vec![Write { tree: Tree::EventBlocks, key, value: Some(value) }]
    });
    check_named(&copied, " of tenant acme: ");
}

#[test]
fn a_missing_block_is_named() {
    let (mut development, ..) = with_history();
    let copied = copy_of(&mut development, "missing");
    tamper(&copied, |blocks| {
        let (key, _) = blocks.into_iter().next().expect("a block");
        vec![Write { tree: Tree::EventBlocks, key, value: None }]
    });
    check_named(&copied, "record 1 of tenant $cluster: it is missing");
}

/// What the read models had reached says where a chain ended whose last block is gone.
#[test]
fn a_missing_end_is_named() {
    let (mut development, ..) = with_history();
    let copied = copy_of(&mut development, "shortened");
    tamper(&copied, |blocks| {
        let (key, _) = blocks.into_iter().next_back().expect("a block");
        vec![Write { tree: Tree::EventBlocks, key, value: None }]
    });
    check_named(&copied, "record 1 of tenant acme: it is missing");
}

#[test]
fn a_deleted_read_model_is_rebuilt() {
    let (mut development, api, task) = with_history();
    let before = executions(&api, &task);
    let counts = api.get("/api/executions/status");
    assert_eq!(development.node.terminate(std::time::Duration::from_secs(10)), Some(0));
    let place = storage(&development.data());
    for tree in [Tree::Executions, Tree::TaskExecutions, Tree::Statistics, Tree::TaskStreams] {
        place.clear(tree).expect("cleared");
    }
    futures::executor::block_on(place.sync()).expect("synced");
    drop(place);
    development.restart();
    until("the executions are back", || executions(&api, &task).len() == before.len());
    assert_eq!(executions(&api, &task), before);
    assert_eq!(api.get("/api/executions/status")["succeeded"], counts["succeeded"]);
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events?limit=1000")));
    assert_eq!(events[0]["type"], "TaskCreated");
}

#[test]
fn the_event_log_takes_no_writes() {
    let development = Development::start();
    let api = development.api();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let reply = api.send(method, "/api/audit/events", &[], Some("{}"));
        assert!([404, 405].contains(&reply.status), "{method}: {reply:?}");
    }
}
