//! Disks that fill up: the node stops with a word, and what it acknowledged is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{items, text};
use crate::harness::definitions::{manual, noop, with};
use crate::harness::development::Development;
use crate::harness::wait::now_ms;

/// No file may grow beyond this.
const FILE_BYTES: u64 = 16 << 20;

#[test]
fn a_node_whose_disk_is_full_stops_and_forgets_nothing_that_it_acknowledged() {
    let mut development = Development::start();
    let api = development.api();
    assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
    development.restart_bounded(FILE_BYTES);
    let large = json!({ "description": "x".repeat(4_000) });
    let mut acknowledged = BTreeSet::new();
    let deadline = now_ms() + 60_000;
    let mut refused = 0;
    for round in 0.. {
        assert!(now_ms() < deadline, "the disk is never full: {} tasks", acknowledged.len());
        let tasks: Vec<Value> =
            (0..100).map(|n| with(noop(&format!("r{round}-{n}"), &manual()), large.clone())).collect();
        let body = json!(tasks).to_string();
        match api.try_send("POST", "/api/scheduled-tasks/bulk?atomic=true", &[], Some(&body)) {
            Ok(reply) if reply.status == 200 => {
                acknowledged.extend(items(&reply.json()).iter().map(find_id));
            }
            Ok(reply) => {
                assert!(reply.status >= 500, "{reply:?}");
                refused += 1;
            }
            Err(_) => break,
        }
        if refused > 20 {
            break;
        }
    }
    assert!(acknowledged.len() > 100, "some were acknowledged before");
    // It has ended by itself, or it serves nobody.
    let alive = api.anonymous().try_send("GET", "/readyz", &[], None).is_ok_and(|reply| reply.status == 200);
    assert!(!alive, "{}", development.node.printed());
    let printed = development.node.printed().to_lowercase();
    assert!(
        printed.contains("too large") || printed.contains("storage") || printed.contains("disk"),
        "{printed}"
    );
    development.node.kill();
    development.restart();
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/scheduled-tasks/?limit=200{cursor}"));
        found.extend(items(&page).iter().map(|task| text(task, "id")));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(found.is_superset(&acknowledged), "{} of {}", found.len(), acknowledged.len());
}

/// The identifier in a bulk's result, wherever it stands there.
fn find_id(item: &Value) -> String {
    let id = ["/id", "/task/id"].iter().find_map(|pointer| item.pointer(pointer)?.as_str());
    id.unwrap_or_else(|| panic!("an identifier in {item}")).to_owned()
}
