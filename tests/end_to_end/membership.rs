//! Nodes come and go while tasks fire.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failover::check_beat;
use crate::harness::api::items;
use crate::harness::cluster::{Cluster, Settings, applied};
use crate::harness::definitions::{await_count, call, every_second, manual, noop, with};
use crate::harness::program::{Ran, ask, escapement};
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until, within};

#[track_caller]
fn cluster_command(cluster: &Cluster, arguments: &[&str]) -> Ran {
    let mut full = vec!["cluster"];
    full.extend(arguments);
    ask(&cluster.any(), &full, None)
}

fn beat() -> Value {
    with(noop("beat", &every_second()), json!({ "overlap": "allow" }))
}

/// Each node says of which version its zone data are, whichever is asked.
#[test]
fn the_status_tells_the_zone_data_of_every_node() {
    let cluster = Cluster::start(3);
    for id in [cluster.leader(), cluster.follower()] {
        let status = eventually("every node has said it", || {
            let status = cluster.status(id);
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            (nodes.len() == 3 && nodes.iter().all(|node| node["zone_data"].is_string())).then_some(status)
        });
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        assert!(nodes.iter().all(|node| node["zone_data"] == status["zone_data"]), "{status}");
        assert_eq!(status["warnings"], json!([]), "{status}");
        let shown = cluster_command(&cluster, &["status"]).expect(0).out;
        let version = status["zone_data"].as_str().expect("a version");
        assert!(shown.contains(&format!("zone data {version}")) && shown.contains("ZONE DATA"), "{shown}");
    }
}

#[test]
fn a_fourth_node_joins_and_the_first_leaves_while_tasks_fire() {
    let mut cluster = Cluster::start(3);
    let api = cluster.api(2);
    let tasks: Vec<String> = (0..10).map(|_| api.create_id(&beat())).collect();
    await_count(&api, &tasks[0], "succeeded", 1);
    let (address, peer) = cluster.join(4);
    let added = cluster_command(&cluster, &["add-node", "4", "--api", &address, "--peer", &peer]).expect(0);
    for words in ["node 4 catches up [", "] 100 % ", "escapement cluster promote 4"] {
        assert!(added.err.contains(words), "{words}: {}", added.err);
    }
    let role = |cluster: &Cluster, id: u64| {
        let status = cluster.status(2);
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().find(|node| node["id"] == id).map(|node| node["role"].clone())
    };
    assert_eq!(role(&cluster, 4), Some(json!("learner")));
    cluster.await_caught_up(4);
    cluster_command(&cluster, &["promote", "4"]).expect(0);
    until("it votes", || role(&cluster, 4).is_some_and(|role| role != "learner"));
    // Once it belongs to the cluster it comes back like any other.
    cluster.kill(4);
    cluster.start_again(4);
    cluster.await_ready();
    cluster_command(&cluster, &["remove-node", "1"]).expect(0);
    until("it is gone", || role(&cluster, 1).is_none());
    cluster.kill(1);
    // Three voters are left: one more may die.
    cluster.await_ready();
    let leader = cluster.leader();
    cluster.kill(leader);
    let api = cluster.any();
    for task in &tasks {
        check_beat(&api, task);
    }
}

#[test]
fn a_removal_that_would_lose_the_quorum_is_refused_with_its_reason() {
    let mut cluster = Cluster::start(3);
    let dead = cluster.follower();
    cluster.kill(dead);
    let alive = cluster.follower();
    let refused = cluster_command(&cluster, &["remove-node", &alive.to_string()]).expect(1);
    assert!(refused.err.contains("quorum") || refused.err.contains("majority"), "{}", refused.err);
    cluster.any().create(&noop("still", &manual()));
    let unknown = cluster_command(&cluster, &["remove-node", "77"]).expect(1);
    assert!(unknown.err.contains("77"), "{}", unknown.err);
    cluster_command(&cluster, &["promote", "77"]).expect(1);
    // The dead one may go.
    cluster_command(&cluster, &["remove-node", &dead.to_string()]).expect(0);
}

#[test]
fn a_known_node_with_another_disk_is_refused_until_it_has_another_number() {
    let mut cluster = Cluster::start(3);
    let lost = cluster.follower();
    let task = cluster.any().create_id(&noop("kept", &manual()));
    cluster.kill(lost);
    fs::remove_dir_all(cluster.data(lost)).expect("removed");
    cluster.start_again(lost);
    until("it says why", || cluster.node(lost).printed().contains("disk lost"));
    cluster.kill(lost);
    cluster_command(&cluster, &["remove-node", &lost.to_string()]).expect(0);
    let (address, peer) = cluster.join(4);
    cluster_command(&cluster, &["add-node", "4", "--api", &address, "--peer", &peer]).expect(0);
    cluster.await_caught_up(4);
    cluster_command(&cluster, &["promote", "4"]).expect(0);
    assert_eq!(cluster.api(4).get(&format!("/api/scheduled-tasks/{task}"))["name"], "kept");
}

/// Snapshots are so frequent here that what the absent node needs is purged long before it returns.
#[test]
fn a_node_absent_for_long_returns_by_snapshot_with_its_whole_event_log() {
    let raft = "snapshot_entries = 200\nlog_entries_kept = 1000\n".into();
    let mut cluster = Cluster::start_with(3, Settings { raft, ..Settings::default() });
    let first = cluster.any().create_id(&beat());
    await_count(&cluster.any(), &first, "succeeded", 1);
    let absent = cluster.follower();
    cluster.kill(absent);
    let api = cluster.any();
    for n in 0..1_700 {
        api.create(&noop(&format!("meanwhile-{n}"), &manual()));
    }
    cluster.start_again(absent);
    cluster.await_ready();
    cluster.await_caught_up(absent);
    cluster.await_ready();
    let back = cluster.api(absent);
    let events = |after: u64| items(&back.get(&format!("/api/audit/events?after={after}&limit=10")));
    let earliest = eventually("its history is back", || events(0).into_iter().next());
    assert_eq!(earliest["seq"], 1);
    let path = format!("/api/scheduled-tasks/{first}/events?limit=1");
    assert_eq!(items(&back.get(&path))[0]["type"], "TaskCreated");
    ask(&back, &["audit", "verify"], None).expect(0);
    // The program holds the hash of what it rebuilt against that of the node's state.
    ask(&back, &["audit", "replay"], None).expect(0);
    assert_eq!(cluster.terminate(absent), Some(0));
    let data = cluster.data(absent);
    let arguments = ["--data", &data.display().to_string(), "--output", "json"];
    let told = |what| escapement(&[&["audit", what], &arguments[..]].concat()).expect(0).json();
    let (verified, replayed) = (told("verify"), told("replay"));
    for purged in ["raft-log", "snapshots"] {
        fs::remove_dir_all(data.join(purged)).expect("removed");
    }
    assert_eq!((told("verify"), told("replay")), (verified, replayed));
}

/// As many entries as this takes are cheapest where one voter makes them: it fires and skips, since the earlier execution of
/// each task never ends, and the absent node is a learner.
#[test]
fn a_node_absent_for_fifty_thousand_entries_has_its_event_log_from_the_first_record() {
    const ENTRIES: u64 = 50_000;
    let raft = "snapshot_entries = 5000\nlog_entries_kept = 1000\n".into();
    let (mut cluster, target) =
        (Cluster::start_with(1, Settings { raft, slots: Some(1), hosts: None }), Target::start());
    let (address, peer) = cluster.join(2);
    cluster_command(&cluster, &["add-node", "2", "--api", &address, "--peer", &peer]).expect(0);
    cluster.await_ready();
    cluster.kill(2);
    let api = cluster.api(1);
    let before = applied(&cluster.status(1), 1).expect("it is in its own list");
    let busy: Vec<Value> = (0..1_000)
        .map(|n| {
            let anchor = format!("2026-01-01T00:00:00.{n:03}Z");
            let trigger = json!({ "type": "interval", "every": "1s", "anchor": anchor });
            call(&format!("busy-{n}"), &trigger, &target.url("/slow/3600000"))
        })
        .collect();
    api.post("/api/scheduled-tasks/bulk", &json!(busy)).expect(200);
    within(Duration::from_secs(400), "so many entries were made", || {
        (applied(&cluster.status(1), 1) >= Some(before + ENTRIES)).then_some(())
    });
    cluster.start_again(2);
    cluster.await_ready();
    cluster.await_caught_up(2);
    assert!(cluster.node(2).printed().contains("replaced by a snapshot"), "{}", cluster.node(2).printed());
    // It is ready again when it has fetched the events that the snapshot stands for.
    cluster.await_ready();
    let verified = ask(&cluster.api(2), &["audit", "verify", "--output", "json"], None).expect(0).json();
    let own =
        verified["tenants"].as_array().and_then(|tenants| tenants.iter().find(|one| one["tenant"] == "acme"));
    assert!(own.is_some_and(|own| own["events"].as_u64() >= Some(ENTRIES)), "{verified}");
}

#[test]
fn a_node_that_waits_to_be_added_takes_no_part() {
    let mut cluster = Cluster::start(1);
    cluster.join(2);
    let api = cluster.api(2);
    until("it lives", || api.try_send("GET", "/healthz", &[], None).is_ok_and(|reply| reply.status == 200));
    assert_eq!(api.anonymous().send("GET", "/readyz", &[], None).status, 503);
    let status = cluster.status(1);
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(1), "{status}");
}

#[test]
fn a_file_of_three_forms_no_cluster_until_all_three_are_there() {
    let mut cluster = Cluster::start(3);
    // Formed once, it comes back with two of them.
    for id in 1..=3 {
        cluster.kill(id);
    }
    cluster.start_again(1);
    cluster.start_again(3);
    cluster.await_ready();
    cluster.any().create(&noop("two of three", &manual()));
    assert_eq!(cluster.terminate(3), Some(0));
    cluster.start_again(2);
    cluster.await_ready();
    assert!([1, 2].contains(&cluster.leader()));
    cluster.start_again(3);
    cluster.await_ready();
    cluster.kill(1);
    eventually("the others go on", || {
        let reply = cluster.any().post("/api/scheduled-tasks/", &noop("one gone", &manual()));
        (reply.status == 201).then_some(())
    });
    assert_eq!(cluster.running().len(), 2);
}
