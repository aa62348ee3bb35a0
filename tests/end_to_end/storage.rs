//! Disks that fill up, fail, or lose their power: the node stops with a word, and what it acknowledged is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, every_second, execution, manual, noop, run, script, with};
use crate::harness::development::Development;
use crate::harness::disk::{Disk, Mode};
use crate::harness::program::{ask, escapement};
use crate::harness::wait::{PATIENCE, now_ms, until, within};

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
    check_all_there(&api, &acknowledged);
}

/// Demands that every task is there.
#[track_caller]
fn check_all_there(api: &Api, acknowledged: &BTreeSet<String>) {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/scheduled-tasks/?limit=200{cursor}"));
        found.extend(items(&page).iter().map(|task| text(task, "id")));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let lost: Vec<&String> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
}

/// Creates a task, and notes it if that is acknowledged. Says whether it was answered at all.
fn create(api: &Api, name: &str, acknowledged: &mut BTreeSet<String>) -> bool {
    let task = noop(name, &manual()).to_string();
    let Ok(reply) = api.try_send("POST", "/api/scheduled-tasks/", &[], Some(&task)) else { return false };
    match reply.status {
        201 => drop(acknowledged.insert(text(&reply.json(), "id"))),
        status => assert!(status >= 500, "{reply:?}"),
    }
    true
}

/// A node whose syncs fail under one of its directories ends by itself with these words, after one failed sync, and has
/// forgotten nothing that it acknowledged.
#[track_caller]
fn check_failed_sync(directory: &str, words: &str) -> BTreeSet<String> {
    let mut development = Development::start();
    let api = development.api();
    assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
    let disk = Disk::new(&development.data().join(directory), Mode::SyncsFail);
    development.restart_on(&disk);
    let (mut acknowledged, mut after) = (BTreeSet::new(), BTreeSet::new());
    (0..20).for_each(|n| assert!(create(&api, &format!("before-{n}"), &mut acknowledged)));
    disk.fail();
    // Whatever is answered before it has ended, only what is acknowledged must be there.
    for n in 0.. {
        if !create(&api, &format!("after-{n}"), &mut after) {
            break;
        }
    }
    assert_eq!(development.node.await_end(Duration::from_secs(10)), Some(1));
    assert!(development.node.printed().contains(words), "{words}: {}", development.node.printed());
    // What sled does when it is closed is its own; that our syncer tries once, its own test sees.
    let tries = disk.failures();
    assert!(tries == 1 || (directory == "store" && tries > 1), "a failed sync is not tried again: {tries}");
    development.restart();
    acknowledged.extend(after.iter().cloned());
    check_all_there(&api, &acknowledged);
    after
}

#[test]
fn a_failed_sync_of_the_log_ends_the_node_and_nothing_is_acknowledged_on_it() {
    let after = check_failed_sync("raft-log", "log storage failed: a sync failed");
    assert!(after.is_empty(), "{} were acknowledged without a sync", after.len());
}

#[test]
fn a_failed_sync_of_the_read_models_ends_the_node() {
    check_failed_sync("store", "the storage of the read models failed");
}

/// What runs is handed back at the end, and that can no longer be written.
#[test]
fn a_node_that_stops_does_not_wait_for_a_disk_that_failed_meanwhile() {
    let mut development = Development::start();
    assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
    let disk = Disk::new(&development.data().join("raft-log"), Mode::SyncsFail);
    development.restart_on(&disk);
    let api = development.api();
    let id = run(&api, &api.create_id(&script("long", &manual(), "sleep 300")));
    await_status(&api, &id, "running");
    disk.fail();
    let code = development.node.terminate(Duration::from_secs(10));
    assert!(code.is_some(), "{}", development.node.printed());
    development.restart();
    until("what ran is made again", || execution(&api, &id)["attempt"] == 2);
}

/// The others have what it acknowledged with them, and go on.
#[test]
fn a_leader_whose_log_cannot_be_synced_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3);
    let victim = cluster.leader();
    assert_eq!(cluster.terminate(victim), Some(0));
    let disk = Disk::new(&cluster.data(victim).join("raft-log"), Mode::SyncsFail);
    cluster.start_again_on(victim, &disk);
    cluster.await_ready();
    cluster.await_caught_up(victim);
    let lead = ["cluster", "transfer-leadership", &victim.to_string()];
    ask(&cluster.api(victim), &lead, None).expect(0);
    let (api, mut acknowledged) = (cluster.api(victim), BTreeSet::new());
    (0..20).for_each(|n| assert!(create(&api, &format!("before-{n}"), &mut acknowledged)));
    disk.fail();
    // What a majority of the others synced may be acknowledged still.
    (0..).take_while(|n| create(&api, &format!("meanwhile-{n}"), &mut acknowledged)).for_each(drop);
    assert_eq!(cluster.await_end(victim), Some(1));
    assert_eq!(disk.failures(), 1, "a failed sync is not tried again");
    let other = cluster.any();
    within(PATIENCE, "the others go on", || {
        let before = acknowledged.len();
        create(&other, "after", &mut acknowledged);
        (acknowledged.len() > before).then_some(())
    });
    check_all_there(&other, &acknowledged);
    cluster.start_again(victim);
    cluster.await_ready();
    check_all_there(&cluster.api(victim), &acknowledged);
}

/// The power goes while clients write, again and again; the last copy's event log verifies.
#[track_caller]
fn check_power_cuts(mode: Mode) {
    let mut development = Development::start();
    let api = development.api();
    let tick = with(noop("tick", &every_second()), json!({ "overlap": "allow" }));
    let mut acknowledged = BTreeSet::from([api.create_id(&tick)]);
    let mut undone = 0;
    for round in 0..5 {
        assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
        // Everything, or the read models alone, which would otherwise hardly ever be caught between a write and its sync.
        let under = if round % 2 == 0 { development.data() } else { development.data().join("store") };
        let disk = Disk::new(&under, mode);
        development.restart_on(&disk);
        // The read models sync about once a second: some rounds end before that and some after.
        let until = now_ms() + 400 * (round + 1);
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let api = api.clone();
                std::thread::spawn(move || {
                    let mut acknowledged = BTreeSet::new();
                    let more = |n: &u64| create(&api, &format!("r{round}-{client}-{n}"), &mut acknowledged);
                    (0..).take_while(more).for_each(drop);
                    acknowledged
                })
            })
            .collect();
        within(PATIENCE, "a while has passed", || (now_ms() > until).then_some(()));
        disk.fail();
        clients.into_iter().for_each(|client| acknowledged.extend(client.join().expect("it ended")));
        development.node.await_death(Duration::from_secs(10));
        undone += disk.failures();
        development.restart();
        check_all_there(&api, &acknowledged);
    }
    assert!(undone > 0, "no write was ever lost");
    assert_eq!(development.node.terminate(Duration::from_secs(10)), Some(0));
    let data = development.data().display().to_string();
    escapement(&["audit", "verify", "--data", &data]).expect(0);
    escapement(&["audit", "replay", "--data", &data]).expect(0);
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    check_power_cuts(Mode::PowerCut);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_that_tear_what_was_not_synced() {
    check_power_cuts(Mode::TornPowerCut);
}

/// The identifier in a bulk's result, wherever it stands there.
fn find_id(item: &Value) -> String {
    let id = ["/id", "/task/id"].iter().find_map(|pointer| item.pointer(pointer)?.as_str());
    id.unwrap_or_else(|| panic!("an identifier in {item}")).to_owned()
}
