//! Zone data that change: tasks are planned anew through the log, and nodes whose data differ agree.

use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::api::{Api, items};
use crate::harness::cluster::{Cluster, Hosts, Settings};
use crate::harness::definitions::{await_count, every_second, noop, with};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::wait::until;
use crate::harness::zone_data::{OLDER, Older};

/// When half past two on 29 March 2037 is in Berlin: by older zone data it is, by those of the program it is left out.
const BY_OLDER: &str = "2037-03-29T01:30:00.000Z";
const BY_NEWER: &str = "2037-03-29T01:00:00.000Z";

/// Creates a task that is first due in that night, by a zone's clock.
#[track_caller]
fn nightly(api: &Api, timezone: &str) -> String {
    let trigger = json!({ "type": "cron", "expression": "30 2 * * *", "timezone": timezone });
    api.create_id(&with(noop("nightly", &trigger), json!({ "start_at": "2037-03-28T12:00:00Z" })))
}

#[track_caller]
fn next_fire(api: &Api, task: &str) -> String {
    let read = api.get(&format!("/api/scheduled-tasks/{task}"));
    read["next_fire_at"].as_str().expect("an instant").to_owned()
}

/// The changes of a task's next instant that newer zone data made.
#[track_caller]
fn replanned(api: &Api, task: &str) -> Vec<Value> {
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    events.into_iter().filter(|event| event["type"] == "TaskReplanned").collect()
}

#[test]
fn newer_zone_data_plan_every_affected_task_anew_through_the_log() {
    let older = Older::make();
    let mut development = Development::start_as(|command| older.dress(&command));
    let api = development.api();
    assert_eq!(api.get("/api/cluster/status")["zone_data"], OLDER);
    let [affected, unaffected] = ["Europe/Berlin", "UTC"].map(|timezone| nightly(&api, timezone));
    assert_eq!(next_fire(&api, &affected), BY_OLDER);
    development.node.kill();
    development.restart();
    let api = development.api();
    until("it is planned anew", || next_fire(&api, &affected) == BY_NEWER);
    let events = replanned(&api, &affected);
    assert_eq!((events.len(), &events[0]["data"]["next_fire_at"]), (1, &json!(BY_NEWER)), "{events:?}");
    assert!(replanned(&api, &unaffected).is_empty(), "its zone did not change");
    // Older zone data again: what was planned by newer ones stays.
    development.node.kill();
    development.restart_as(|command| older.dress(&command));
    let api = development.api();
    let beat = api.create_id(&noop("beat", &every_second()));
    await_count(&api, &beat, "succeeded", 1);
    assert_eq!(next_fire(&api, &affected), BY_NEWER);
    // What they plan meanwhile is planned anew in its turn.
    let meanwhile = nightly(&api, "Europe/Berlin");
    assert_eq!(next_fire(&api, &meanwhile), BY_OLDER);
    development.node.kill();
    development.restart();
    let api = development.api();
    until("it is planned anew", || next_fire(&api, &meanwhile) == BY_NEWER);
    assert_eq!(replanned(&api, &affected).len(), 1, "nothing of it changed");
}

/// The third node of three has older zone data.
#[derive(Debug)]
struct ThirdIsOlder(Older);

impl Hosts for ThirdIsOlder {
    fn dress(&self, node: u64, command: Command) -> Command {
        if node == 3 { self.0.dress(&command) } else { command }
    }
}

#[test]
fn a_cluster_whose_nodes_differ_in_zone_data_warns_and_agrees() {
    let hosts: Option<Arc<dyn Hosts>> = Some(Arc::new(ThirdIsOlder(Older::make())));
    let cluster = Cluster::start_with(3, Settings { hosts, ..Settings::default() });
    let api = cluster.any();
    let status = api.get("/api/cluster/status");
    assert_eq!(status["nodes"][2]["zone_data"], OLDER, "{status}");
    assert_ne!(status["nodes"][0]["zone_data"], OLDER, "{status}");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("zone data") && warnings.contains(OLDER), "{status}");
    let shown = ask(&api, &["cluster", "status"], None).expect(0).out;
    assert!(shown.contains("zone data") && shown.contains(OLDER), "{shown}");
    for (leader, expected) in [(3, BY_OLDER), (1, BY_NEWER)] {
        cluster.lead(leader);
        let task = nightly(&api, "Europe/Berlin");
        for id in 1..=3 {
            until("every node has it as the leader planned it", || {
                next_fire(&cluster.api(id), &task) == expected
            });
        }
    }
}
