//! Work goes to whoever has free slots: no node does much more than another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::api::{Api, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{all_executions, call, once_in};
use crate::harness::target::Target;
use crate::harness::wait::eventually;

/// How many executions each worker made, once all have succeeded.
#[track_caller]
fn shares(api: &Api, count: usize) -> BTreeMap<String, usize> {
    eventually(&format!("{count} executions have succeeded"), || {
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
    let (due, url) = (once_in(4_000), target.url("/slow/400"));
    create(&api, (0..ATTEMPTS).map(|_| call("something", &due, &url)).collect());
    let shares = shares(&api, ATTEMPTS);
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.values().all(|share| *share >= ATTEMPTS / 4), "none below a quarter: {shares:?}");
    eprintln!("by worker: {}", json!(shares));
}
