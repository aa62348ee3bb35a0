//! A node that is drained by hand: it finishes what it has and takes nothing new, until it is undrained.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    await_count, await_status, call, every_second, execution, executions, manual, run, with,
};
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until};

/// What the cluster's status says of a node.
#[track_caller]
fn standing(api: &Api, node: u64) -> Value {
    let status = api.get("/api/cluster/status");
    let nodes = status["nodes"].as_array().expect("a list");
    nodes
        .iter()
        .find(|other| other["id"] == node)
        .unwrap_or_else(|| panic!("node {node} in {status}"))
        .clone()
}

fn attempts_on(execution: &Value, node: u64) -> usize {
    let attempts = execution["attempts"].as_array().expect("a list");
    attempts.iter().filter(|attempt| attempt["worker"] == format!("node-{node}")).count()
}

/// How many attempts of a task a node had.
#[track_caller]
fn starts_on(api: &Api, task: &str, node: u64) -> usize {
    executions(api, task).iter().map(|execution| attempts_on(execution, node)).sum()
}

/// Runs a task until one of its executions is with a node, and returns that one.
#[track_caller]
fn run_on(api: &Api, task: &str, node: u64) -> String {
    eventually(&format!("an attempt on node {node}"), || {
        let id = run(api, task);
        let begun = eventually("it is with a node", || {
            let execution = execution(api, &id);
            (execution["status"] == "running").then_some(execution)
        });
        (attempts_on(&begun, node) == 1).then_some(id)
    })
}

/// Always several at once, so that every node that takes work has some.
fn steady(target: &Target) -> Value {
    with(call("beat", &every_second(), &target.url("/slow/3500")), json!({ "overlap": "allow" }))
}

#[test]
fn a_drained_node_finishes_what_it_has_and_takes_nothing_until_it_is_undrained() {
    let (cluster, target) = (Cluster::start(3), Target::start());
    let (node, api) = (cluster.follower(), cluster.api(cluster.leader()));
    let beat = api.create_id(&steady(&target));
    let slow = with(call("slow", &manual(), &target.url("/slow/8000")), json!({ "overlap": "allow" }));
    let slow = api.create_id(&slow);
    until("the node has work", || starts_on(&api, &beat, node) > 0);
    let held = run_on(&api, &slow, node);
    let ordered = ask(&cluster.api(node), &["cluster", "drain", &node.to_string()], None).expect(0);
    assert!(ordered.out.contains("takes nothing new"), "{ordered:?}");
    let drained = standing(&api, node);
    assert_eq!((&drained["work"], &drained["drained"]), (&json!("draining"), &json!(true)), "{drained}");
    let before = starts_on(&api, &beat, node);
    let workers = items(&api.get("/api/workers"));
    let worker = workers.iter().find(|worker| worker["node"] == node).expect("it is there");
    assert_eq!(worker["state"], "draining", "{worker}");
    let holds = worker["holds"].as_array().expect("a list");
    assert!(holds.iter().any(|one| one["execution_id"] == *held && one["task_id"] == *slow), "{worker}");
    // Whoever leads next knows it too.
    ask(&api, &["cluster", "transfer-leadership", &node.to_string()], None).expect(0);
    await_count(&api, &beat, "succeeded", executions(&api, &beat).len() + 3);
    let waited = ask(&api, &["cluster", "drain", &node.to_string(), "--wait"], None).expect(0);
    assert!(waited.err.contains("nothing runs on node"), "{waited:?}");
    let ended = await_status(&api, &held, "succeeded");
    assert_eq!((ended["attempt"].as_u64(), attempts_on(&ended, node)), (Some(1), 1), "{ended}");
    assert_eq!(starts_on(&api, &beat, node), before, "nothing new started there");
    let again = ask(&api, &["cluster", "undrain", &node.to_string()], None).expect(0);
    assert!(again.out.contains("takes work again"), "{again:?}");
    until("the node has work", || starts_on(&api, &beat, node) > before);
    let events = items(&api.get("/api/audit/events?tenant=$cluster&limit=1000"));
    let of_drain = |event: &&Value| matches!(event["type"].as_str(), Some("NodeDrained" | "NodeUndrained"));
    let told: Vec<(String, String)> =
        events.iter().filter(of_drain).map(|event| (text(event, "type"), text(event, "actor"))).collect();
    let by_ann = |name: &str| (name.to_owned(), "ann".to_owned());
    assert_eq!(told, [by_ann("NodeDrained"), by_ann("NodeUndrained")], "each once, with its author");
}

#[test]
fn a_drained_node_is_drained_after_its_restart_too() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let (node, api) = (cluster.follower(), cluster.api(cluster.leader()));
    let path = |verb: &str| format!("/api/cluster/nodes/{node}/{verb}");
    api.post(&path("drain"), &Value::Null).expect(200);
    assert_eq!(cluster.terminate(node), Some(0));
    cluster.start_again(node);
    cluster.await_ready();
    let joined = eventually("it is there as a worker", || {
        let standing = standing(&api, node);
        standing["work"].is_string().then_some(standing)
    });
    assert_eq!((&joined["work"], &joined["running"]), (&json!("draining"), &json!(0)), "{joined}");
    let undrained = api.post(&path("undrain"), &Value::Null).expect(200);
    assert_eq!(undrained["warnings"], json!([]), "{undrained}");
    let beat = api.create_id(&steady(&target));
    until("it has work again", || starts_on(&api, &beat, node) > 0);
}

#[test]
fn only_a_cluster_admin_drains_and_only_a_node_that_there_is() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    api.post("/api/cluster/nodes/7/drain", &Value::Null).expect(404);
    let operator = api.with_token(&cluster.mint("olga", "acme", &["admin"]));
    for verb in ["drain", "undrain"] {
        operator.post(&format!("/api/cluster/nodes/1/{verb}"), &Value::Null).expect(403);
    }
    let unknown = ask(&api, &["cluster", "drain", "7"], None).expect(1);
    assert!(unknown.err.contains("node 7 is not a member"), "{unknown:?}");
}
