//! All nodes at once: whatever was acknowledged is there when they come back.

use serde_json::{Value, json};

use crate::failover::check_beat;
use crate::harness::api::{items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    all_executions, await_count, await_status, call, every_second, manual, noop, run, with,
};
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, now_ms, until};

#[test]
fn after_all_nodes_were_killed_all_is_there() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let api = cluster.any();
    let beat = with(call("beat", &every_second(), &target.url("/ok")), json!({ "overlap": "allow" }));
    let beat = api.create_id(&beat);
    await_count(&api, &beat, "succeeded", 2);
    let many: Vec<Value> = (0..300).map(|n| noop(&format!("many-{n}"), &manual())).collect();
    api.post("/api/scheduled-tasks/bulk", &json!(many)).expect(200);
    let last = api.create(&noop("last", &manual()));
    (1..=3).for_each(|id| cluster.kill(id));
    let down_at = now_ms();
    until("a while has passed", || now_ms() > down_at + 2_500);
    (1..=3).for_each(|id| cluster.start_again(id));
    cluster.await_ready();
    let api = cluster.any();
    let read = api.get(&format!("/api/scheduled-tasks/{}", text(&last, "id")));
    assert_eq!((&read["version"], &read["created_at"]), (&last["version"], &last["created_at"]));
    assert_eq!(items(&api.get("/api/scheduled-tasks/?limit=1000")).len(), 302);
    // The seconds in which nobody was up are made good: they are late, within the grace.
    check_beat(&api, &beat);
}

/// What each node tells of executions and tasks is the same, once all have applied the same.
#[test]
fn every_node_tells_the_same() {
    let cluster = Cluster::start(3);
    let api = cluster.any();
    let tasks: Vec<String> = (0..5).map(|n| api.create_id(&noop(&format!("same-{n}"), &manual()))).collect();
    for task in &tasks {
        for _ in 0..4 {
            let id = run(&api, task);
            await_status(&api, &id, "succeeded");
        }
    }
    let told: Vec<Vec<Value>> = (1..=3).map(|id| all_executions(&cluster.api(id))).collect();
    assert_eq!(told[0].len(), 20);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[1], told[2]);
    let exported: Vec<String> = (1..=3)
        .map(|id| ask(&cluster.api(id), &["audit", "export", "--format", "jsonl"], None).expect(0).out)
        .collect();
    assert!(exported[0].lines().count() > 60);
    assert_eq!(exported[0], exported[1]);
    assert_eq!(exported[1], exported[2]);
}

/// A node is killed at any moment, again and again, while clients write.
#[test]
fn what_was_acknowledged_while_nodes_died_is_there() {
    let mut cluster = Cluster::start(3);
    let mut acknowledged = Vec::new();
    for round in 0..4_u64 {
        for n in 0..25 {
            let api = cluster.any();
            let body = noop(&format!("r{round}-{n}"), &manual()).to_string();
            let key = format!("key-{round}-{n}");
            let headers = [("Idempotency-Key", key.as_str())];
            if n == 12 {
                let victim = if round % 2 == 0 { cluster.leader() } else { cluster.follower() };
                cluster.kill(victim);
                acknowledged.push((None, victim));
            }
            // Repeated under its key until there is an answer: it happens once.
            let created = eventually("the create is answered", || {
                let api = if api_is_down(&cluster, &api) { cluster.any() } else { api.clone() };
                let reply = api.try_send("POST", "/api/scheduled-tasks/", &headers, Some(&body)).ok()?;
                (reply.status == 201).then(|| reply.json())
            });
            acknowledged.push((Some(text(&created, "id")), 0));
        }
        if let Some(&(None, victim)) = acknowledged.iter().rev().find(|(id, _)| id.is_none()) {
            cluster.start_again(victim);
            cluster.await_ready();
        }
    }
    let ids: Vec<&String> = acknowledged.iter().filter_map(|(id, _)| id.as_ref()).collect();
    assert_eq!(ids.len(), 100);
    for node in 1..=3 {
        let listed = items(&cluster.api(node).get("/api/scheduled-tasks/?limit=1000"));
        assert_eq!(listed.len(), ids.len(), "each was created once");
        for id in &ids {
            assert!(listed.iter().any(|task| task["id"] == id.as_str()), "{id} at node {node}");
        }
    }
}

fn api_is_down(cluster: &Cluster, api: &crate::harness::api::Api) -> bool {
    !cluster.running().iter().any(|&id| cluster.api(id).address == api.address)
}
