//! Who gets how much: tenants that flood the same node, large and small claims on a pool, and what holds after a restart.

use serde_json::json;

use crate::harness::api::{Api, text};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::{
    await_status, cancel, event_log, execution, long, manual, noop, run, script, with,
};
use crate::harness::development::Development;
use crate::harness::outside::{lease, queued, succeed};
use crate::harness::program::ask;
use crate::harness::wait::millis;

/// Three tenants queue twenty each, the one after the other, for a node with two slots.
#[test]
fn tenants_that_all_have_much_to_do_get_as_much_as_each_other() {
    let cluster = Cluster::start_with(1, Settings { slots: Some(2), ..Settings::default() });
    let acme = cluster.any();
    let tenants = ["acme", "rival", "third"].map(|tenant| match tenant {
        "acme" => acme.clone(),
        other => acme.with_token(&cluster.mint("bob", other, &["admin"])),
    });
    let blockers: Vec<String> =
        (0..2).map(|_| run(&acme, &acme.create_id(&long("blocker", json!({}))))).collect();
    blockers.iter().for_each(|id| drop(await_status(&acme, id, "running")));
    let quick = with(script("quick", &manual(), "sleep 0.1"), json!({ "overlap": "allow" }));
    let floods = tenants.each_ref().map(|api| {
        let task = api.create_id(&quick);
        (0..20).map(|_| run(api, &task)).collect::<Vec<String>>()
    });
    blockers.iter().for_each(|id| cancel(&acme, id));
    let mut started: Vec<(i64, usize)> = Vec::new();
    for (tenant, (api, flood)) in tenants.iter().zip(&floods).enumerate() {
        for id in flood {
            started.push((millis(&await_status(api, id, "succeeded")["started_at"]), tenant));
        }
    }
    started.sort_unstable();
    let of = |tenant: usize| started[..30].iter().filter(|(_, other)| *other == tenant).count();
    let shares = [of(0), of(1), of(2)];
    assert!(shares.iter().all(|share| (7..=13).contains(share)), "of the first 30: {shares:?}");
}

/// One tenant floods a slot with what is the most urgent, and another one has a single execution of the least urgent.
#[test]
fn the_least_urgent_of_one_tenant_gets_the_slot_after_a_hundred_of_another_one_passed_it_over() {
    const PASS_BY: usize = 100;
    let cluster = Cluster::start_with(1, Settings { slots: Some(1), ..Settings::default() });
    let acme = cluster.any();
    let rival = acme.with_token(&cluster.mint("bob", "rival", &["admin"]));
    let of = |api: &Api, priority: u8| {
        api.create_id(&with(noop("n", &manual()), json!({ "priority": priority, "overlap": "allow" })))
    };
    let blocker = run(&acme, &acme.create_id(&long("blocker", json!({ "priority": 9 }))));
    await_status(&acme, &blocker, "running");
    let (low, high) = (of(&rival, 0), of(&acme, 9));
    let waits = run(&rival, &low);
    let flood: Vec<String> = (0..PASS_BY + 5).map(|_| run(&acme, &high)).collect();
    cancel(&acme, &blocker);
    await_status(&rival, &waits, "succeeded");
    flood.iter().for_each(|id| drop(await_status(&acme, id, "succeeded")));
    let started = |api: &Api| -> Vec<i64> {
        let events = event_log(api);
        let started = events.iter().filter(|event| event["type"] == "TaskStarted");
        started.map(|event| event["log_index"].as_i64().expect("a number")).collect()
    };
    let (ours, theirs) = (started(&acme), started(&rival));
    assert_eq!((ours.len(), theirs.len()), (1 + flood.len(), 1));
    // After the blocker and the hundred it is the other tenant's turn, with some of the flood still to come.
    assert_eq!(ours.iter().filter(|index| **index < theirs[0]).count(), 1 + PASS_BY);
}

#[test]
fn a_large_claim_on_a_pool_is_not_starved_by_small_ones_that_came_later() {
    let development = Development::start();
    let api = development.api();
    ask(&api, &["pool", "put", "licence", "--capacity", "3"], None).expect(0);
    let begin = |name: &str, shares: u32| {
        run(&api, &api.create_id(&long(name, json!({ "resources": { "licence": shares } }))))
    };
    let held = [begin("one", 1), begin("two", 1)];
    held.iter().for_each(|id| drop(await_status(&api, id, "running")));
    let large = begin("large", 3);
    let small = [begin("small", 1), begin("small", 1)];
    let waits = |id: &str| assert_eq!(execution(&api, id)["attempt"], 0, "{id} waits in its turn");
    [&large, &small[0], &small[1]].into_iter().for_each(|id| waits(id));
    assert_eq!(api.get("/api/pools/licence")["held"], 2, "one is kept for whoever is first in line");
    cancel(&api, &held[0]);
    [&large, &small[0], &small[1]].into_iter().for_each(|id| waits(id));
    cancel(&api, &held[1]);
    await_status(&api, &large, "running");
    assert_eq!(api.get("/api/pools/licence")["held"], 3);
    cancel(&api, &large);
    small.iter().for_each(|id| drop(await_status(&api, id, "running")));
}

#[test]
fn a_paused_queue_and_a_limit_hold_after_a_restart() {
    let mut development = Development::start();
    let api = development.api();
    ask(&api, &["queue", "pause", "closed"], None).expect(0);
    ask(&api, &["limit", "put", "queue", "narrow", "--max-concurrent", "1"], None).expect(0);
    ask(&api, &["breaker", "open", "queue:broken"], None).expect(0);
    let breaker = json!({ "circuit_breaker": { "failure_threshold": 2, "open_for": "1s" } });
    let [closed, narrow, broken] = ["closed", "narrow", "broken"].map(|queue| {
        api.create_id(&with(
            queued(queue, queue),
            if queue == "broken" { breaker.clone() } else { json!({}) },
        ))
    });
    run(&api, &closed);
    run(&api, &broken);
    let [first, second] = [run(&api, &narrow), run(&api, &narrow)];
    development.node.kill();
    development.restart();
    let api = development.api();
    let take = |queue: &str| lease(&api, queue, &json!({ "worker": "w", "max": 5, "wait": "1s" }));
    assert!(take("closed").is_empty() && take("broken").is_empty());
    assert_eq!(api.get("/api/queues/closed")["paused"], true);
    assert_eq!(text(&api.get("/api/breakers/queue:broken"), "state"), "open");
    let leased = take("narrow");
    assert_eq!((leased.len(), text(&leased[0], "id")), (1, first));
    assert!(take("narrow").is_empty(), "one at a time");
    succeed(&api, &leased[0]);
    assert_eq!(text(&take("narrow")[0], "id"), second);
    ask(&api, &["queue", "resume", "closed"], None).expect(0);
    ask(&api, &["breaker", "close", "queue:broken"], None).expect(0);
    assert_eq!((take("closed").len(), take("broken").len()), (1, 1));
}

#[test]
fn the_ten_priorities_go_one_after_the_other() {
    let cluster = Cluster::start_with(1, Settings { slots: Some(1), ..Settings::default() });
    let api = cluster.any();
    let blocker = run(&api, &api.create_id(&long("blocker", json!({}))));
    await_status(&api, &blocker, "running");
    let mut queued: Vec<(u8, String)> = Vec::new();
    for priority in [3, 9, 0, 7, 5, 1, 8, 2, 6, 4] {
        let task = with(noop("some", &manual()), json!({ "priority": priority }));
        queued.push((priority, run(&api, &api.create_id(&task))));
    }
    cancel(&api, &blocker);
    queued.iter().for_each(|(_, id)| drop(await_status(&api, id, "succeeded")));
    let log = event_log(&api);
    let started = log.iter().filter(|event| event["type"] == "TaskStarted");
    let order: Vec<u8> = started
        .filter_map(|event| queued.iter().find(|(_, id)| event["data"]["execution_id"] == json!(id)))
        .map(|(priority, _)| *priority)
        .collect();
    assert_eq!(order, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}
