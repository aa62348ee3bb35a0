//! Work goes to whoever has free slots and may do it: no node does much more than another, or anything that it may not.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::{Cluster, Hosts, Settings};
use crate::harness::definitions::{
    all_executions, await_status, call, execution, long, manual, noop, once_in, run, script, with,
};
use crate::harness::target::Target;
use crate::harness::wait::{eventually, within};

/// How many executions each worker made, once all have succeeded.
#[track_caller]
fn shares(api: &Api, count: usize) -> BTreeMap<String, usize> {
    within(Duration::from_secs(120), &format!("{count} executions have succeeded"), || {
        let executions = all_executions(api);
        let mut shares = BTreeMap::new();
        for ended in executions.iter().filter(|execution| execution["status"] == "succeeded") {
            *shares.entry(text(&ended["attempts"][0], "worker")).or_default() += 1;
        }
        (shares.values().sum::<usize>() == count).then_some(shares)
    })
}

#[track_caller]
fn create(api: &Api, tasks: Vec<Value>) {
    let created = api.post("/api/scheduled-tasks/bulk?atomic=true", &Value::Array(tasks)).expect(200);
    assert!(created["items"].as_array().is_some(), "{created}");
}

#[test]
fn three_thousand_attempts_are_spread_over_three_nodes() {
    const ATTEMPTS: usize = 3_000;
    let cluster = Cluster::start(3);
    let (api, target) = (cluster.any(), Target::start());
    let (due, url) = (once_in(10_000), target.url("/slow/1500"));
    create(&api, (0..ATTEMPTS).map(|_| call("something", &due, &url)).collect());
    let shares = shares(&api, ATTEMPTS);
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.values().all(|share| *share >= ATTEMPTS / 4), "none below a quarter: {shares:?}");
    eprintln!("by worker: {}", json!(shares));
}

/// Each node has as many slots as its number says.
#[derive(Debug)]
struct Sizes;

impl Hosts for Sizes {
    fn dress(&self, node: u64, mut command: Command) -> Command {
        command.env("ESCAPEMENT__EXECUTION__SLOTS", node.to_string());
        command
    }
}

#[test]
fn each_node_holds_as_many_as_it_has_slots_and_the_rest_waits() {
    let cluster = Cluster::start_with(3, Settings { hosts: Some(Arc::new(Sizes)), ..Settings::default() });
    let api = cluster.any();
    let task = api.create_id(&long("long", json!({})));
    let ids: Vec<String> = (0..10).map(|_| run(&api, &task)).collect();
    let workers = || items(&api.get("/api/workers"));
    let full = eventually("every slot is taken", || {
        let workers = workers();
        let running: u64 = workers.iter().filter_map(|worker| worker["running"].as_u64()).sum();
        (running >= 6).then_some(workers)
    });
    for worker in &full {
        let (slots, held) = (&worker["slots"], worker["holds"].as_array().expect("a list").len());
        assert_eq!((slots, &worker["running"]), (&worker["node"], &worker["node"]), "{worker}");
        assert_eq!(json!(held), worker["slots"], "{worker}");
    }
    let waiting = ids.iter().filter(|id| execution(&api, id)["status"] == "queued").count();
    assert_eq!((full.len(), waiting), (3, 4));
}

/// Each node may do something else.
#[derive(Debug)]
struct Specialists;

impl Hosts for Specialists {
    fn dress(&self, node: u64, mut command: Command) -> Command {
        let on = |wanted| if node == wanted { "true" } else { "false" };
        command.env("ESCAPEMENT__EXECUTION__HTTP", on(1)).env("ESCAPEMENT__EXECUTION__BUILTIN", on(2));
        if node != 3 {
            command.env("ESCAPEMENT__EXECUTION__PROCESS_ALLOW", "[]");
        }
        command
    }
}

#[test]
fn a_node_does_only_what_its_configuration_allows() {
    let settings = Settings { hosts: Some(Arc::new(Specialists)), ..Settings::default() };
    let cluster = Cluster::start_with(3, settings);
    let (api, target) = (cluster.any(), Target::start());
    let tasks = [
        (call("calls", &manual(), &target.url("/status/200")), "node-1"),
        (noop("nothing", &manual()), "node-2"),
        (script("program", &manual(), "true"), "node-3"),
    ];
    for (task, node) in tasks {
        let task = api.create_id(&with(task, json!({ "overlap": "allow" })));
        let ids: Vec<String> = (0..5).map(|_| run(&api, &task)).collect();
        for id in ids {
            assert_eq!(await_status(&api, &id, "succeeded")["attempts"][0]["worker"], node);
        }
    }
}
