//! Who comes back too late: a node that stood still with an attempt, a worker that is not heard of again.

use serde_json::{Value, json};

use crate::harness::api::text;
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    await_status, call, execution, manual, refused_tokens, run, with, worker_of,
};
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued, succeed};
use crate::harness::target::{Call, Target};
use crate::harness::wait::{millis, until};

/// Freezes the node that makes an attempt until its execution is given up or has begun elsewhere, and thaws it after that.
#[track_caller]
fn freeze_the_holder(cluster: &Cluster, target: &Target, delivery: &str) -> (u64, String, Vec<Call>) {
    let place = "/slow/4000";
    let fields = json!({ "delivery": delivery, "timeout": "1m", "retry": { "max_attempts": 3 } });
    let api = cluster.any();
    let id = run(&api, &api.create_id(&with(call("slow", &manual(), &target.url(place)), fields)));
    until("it is with the target", || target.calls_to(place).iter().any(|call| call.key() == id));
    let holder = worker_of(&execution(&api, &id)).expect("a node");
    cluster.node(holder).freeze();
    let others: Vec<u64> = cluster.running().into_iter().filter(|node| *node != holder).collect();
    let api = cluster.api(others[0]);
    until("the others go on without it", || {
        let reply = api.try_send("GET", &format!("/api/executions/{id}"), &[], None);
        let Some(told) = reply.ok().filter(|reply| reply.status == 200).map(|reply| reply.json()) else {
            return false;
        };
        told["status"] == "lost" || told["attempt"] == 2 && told["status"] == "running"
    });
    cluster.node(holder).thaw();
    cluster.await_caught_up(holder);
    (holder, id.clone(), target.calls_to(place).into_iter().filter(|call| call.key() == id).collect())
}

#[test]
fn a_node_that_stood_still_with_an_attempt_has_no_say_in_it_when_another_has_begun() {
    let (cluster, target) = (Cluster::start(3), Target::start());
    let (holder, id, _) = freeze_the_holder(&cluster, &target, "at_least_once");
    let ended = await_status(&cluster.any(), &id, "succeeded");
    assert_eq!((&ended["attempt"], &ended["attempts"][0]["outcome"]), (&json!(2), &json!("lost")), "{ended}");
    let second = text(&ended["attempts"][1], "worker");
    assert_ne!(second, format!("node-{holder}"), "{ended}");
    let calls: Vec<Call> = target.calls().into_iter().filter(|call| call.key() == id).collect();
    assert_eq!(calls.len(), 2);
    let tokens = [calls[0].fencing(), calls[1].fencing()];
    assert!(tokens[1] > tokens[0], "{tokens:?}");
    // What the first one may have said of it was refused, under the token that it had.
    let refused = refused_tokens(&cluster.any(), &id);
    assert!(refused.iter().all(|token| *token == tokens[0]), "{refused:?} of {tokens:?}");
    for node in cluster.running() {
        assert_eq!(execution(&cluster.api(node), &id), ended, "on node {node}");
    }
}

#[test]
fn what_is_made_at_most_once_stays_lost_when_its_node_goes_on() {
    let (cluster, target) = (Cluster::start(3), Target::start());
    let (_, id, calls) = freeze_the_holder(&cluster, &target, "at_most_once");
    assert_eq!(calls.len(), 1);
    // The node has had its answer by the time at which the next one is made by all of them.
    let later = with(call("later", &manual(), &target.url("/slow/4500")), json!({ "timeout": "1m" }));
    let api = cluster.any();
    await_status(&api, &run(&api, &api.create_id(&later)), "succeeded");
    let ended = execution(&api, &id);
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("lost"), &json!(1)), "{ended}");
    assert_eq!(target.calls_to("/slow/4000").len(), 1);
}

#[test]
fn a_new_leader_takes_a_lease_back_of_which_it_hears_nothing() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let api = cluster.api(cluster.follower());
    let id = run(&api, &api.create_id(&queued("suite", "suites")));
    let request = |worker: &str| json!({ "worker": worker, "lease": "2s", "wait": "20s" });
    let first = lease(&api, "suites", &request("dies")).remove(0);
    assert_eq!(text(&first, "id"), id);
    cluster.kill(leader);
    cluster.leader();
    let second = lease(&api, "suites", &request("lives")).remove(0);
    let token = |mine: &Value| text(mine, "lease_token").parse::<u64>().expect("a number");
    assert_eq!(text(&second, "id"), id);
    assert!(token(&second) > token(&first));
    let again = millis(&second["attempts"][1]["started_at"]);
    assert!(again >= millis(&first["lease_until"]), "not before its end: {second}");
    let late = json!({ "lease_token": first["lease_token"], "outcome": "succeeded" });
    assert_eq!(api.post(&path(&first, "complete"), &late).status, 409);
    succeed(&api, &second);
}

#[test]
fn a_worker_that_never_hears_that_it_is_to_stop_is_waited_for_until_its_lease_is_over() {
    let development = Development::start();
    let api = development.api();
    api.send("PUT", "/api/pools/devices", &[], Some(r#"{"capacity": 1}"#)).expect(201);
    let shares = json!({ "resources": { "devices": 1 } });
    let id = run(&api, &api.create_id(&with(queued("suite", "suites"), shares)));
    let mine = lease(&api, "suites", &json!({ "worker": "silent", "lease": "2s" })).remove(0);
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    let ended = await_status(&api, &id, "cancelled");
    let late = millis(&ended["finished_at"]) - millis(&mine["lease_until"]);
    assert!((0..=1_000).contains(&late), "it ended {late} ms after its lease");
    assert_eq!(api.get("/api/pools/devices")["held"], 0);
    assert!(lease(&api, "suites", &json!({ "worker": "other" })).is_empty(), "no further attempt");
}

/// However a lease ends, what it held is given back with it.
#[test]
fn the_share_of_a_worker_that_is_silent_goes_to_the_next() {
    let development = Development::start();
    let api = development.api();
    api.send("PUT", "/api/pools/devices", &[], Some(r#"{"capacity": 1}"#)).expect(201);
    let once = |name: &str| {
        let fields = json!({ "resources": { "devices": 1 }, "delivery": "at_most_once" });
        run(&api, &api.create_id(&with(queued(name, "suites"), fields)))
    };
    let [first, second] = ["first", "second"].map(once);
    let request = |worker: &str| json!({ "worker": worker, "lease": "1s", "wait": "20s" });
    let held = lease(&api, "suites", &request("dies")).remove(0);
    assert_eq!(text(&held, "id"), first);
    let next = lease(&api, "suites", &request("lives")).remove(0);
    assert_eq!(text(&next, "id"), second, "the first is lost, and its share is free");
    await_status(&api, &first, "lost");
    assert_eq!(api.get("/api/pools/devices")["held"], 1);
    succeed(&api, &next);
    until("all is given back", || api.get("/api/pools/devices")["held"] == 0);
}
