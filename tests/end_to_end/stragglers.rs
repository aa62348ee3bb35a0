//! Who comes back too late: a node that stood still with an attempt, a worker that is not heard of again.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    await_status, call, execution, manual, refused_tokens, run, script, telling, told_by, with, worker_of,
};
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued, succeed};
use crate::harness::program::ask;
use crate::harness::program::lives;
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

/// A script of which each attempt ends when its own file is there: the first one well, the second one not.
fn patient(place: &Path) -> String {
    let go = place.join("go");
    let wait = format!("while [ ! -e {}-$ESCAPEMENT_ATTEMPT ]; do sleep 0.05; done", go.display());
    telling(place, &format!("{wait}; exit $((ESCAPEMENT_ATTEMPT - 1))"))
}

/// Lets the second attempt of a [`patient`] program end, and demands that its end is the execution's, and that the
/// first one was lost.
#[track_caller]
fn check_second_counts(api: &Api, place: &Path, id: &str) -> Value {
    let running = execution(api, id);
    assert_eq!((&running["status"], &running["attempt"]), (&json!("running"), &json!(2)), "{running}");
    fs::write(place.join("go-2"), "").expect("written");
    let ended = await_status(api, id, "failed");
    assert_eq!((&ended["attempt"], &ended["error"]), (&json!(2), &json!("exit code 1")), "{ended}");
    let outcomes = [&ended["attempts"][0]["outcome"], &ended["attempts"][1]["outcome"]];
    assert_eq!(outcomes, [&json!("lost"), &json!("failed")], "{ended}");
    assert_ne!(ended["attempts"][0]["worker"], ended["attempts"][1]["worker"], "{ended}");
    ended
}

/// The fencing tokens under which something was said of an execution and refused, each with the one that held then, by
/// an export. What was said twice, since its answer was lost, is told once.
#[track_caller]
fn exported_refusals(api: &Api, id: &str) -> Vec<(Value, Value)> {
    let exported = ask(api, &["audit", "export", "--format", "jsonl"], None).expect(0).out;
    let events = exported.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let refused = events.filter(|event| event["type"] == "TaskResultRefused");
    let of_execution = refused.filter(|event| event["data"]["execution_id"] == id);
    let mut tokens: Vec<(Value, Value)> = of_execution
        .map(|event| (event["data"]["fencing_token"].clone(), event["data"]["current_token"].clone()))
        .collect();
    tokens.dedup();
    tokens
}

/// The attempt ends well while nobody is there to whom its node could say so. When somebody is there again, the node
/// stands still until another attempt has begun.
#[test]
fn what_a_node_says_too_late_of_what_it_did_is_refused_and_in_the_audit_log_with_both_tokens() {
    let mut cluster = Cluster::start(3);
    // Of nodes that have nothing to do the first one takes it; it does not lead, then.
    cluster.lead(3);
    let (api, place) = (cluster.any(), cluster.place().to_path_buf());
    let id = run(&api, &api.create_id(&script("late", &manual(), &patient(&place))));
    let (_, first) = told_by(&place, 1);
    let holder = worker_of(&execution(&api, &id)).expect("a node");
    let others: Vec<u64> = cluster.running().into_iter().filter(|node| *node != holder).collect();
    others.iter().for_each(|&node| cluster.kill(node));
    fs::write(place.join("go-1"), "").expect("written");
    let alone = cluster.api(holder);
    let path = format!("/api/executions/{id}/logs?consistency=local");
    until("its node has seen the program end", || {
        let reply = alone.try_send("GET", &path, &[], None);
        reply.is_ok_and(|reply| reply.status == 200 && reply.body.contains("exit code 0"))
    });
    cluster.node(holder).freeze();
    others.iter().for_each(|&node| cluster.start_again(node));
    let (_, second) = told_by(&place, 2);
    assert!(second > first, "{second} after {first}");
    cluster.node(holder).thaw();
    cluster.await_caught_up(holder);
    let api = cluster.api(others[0]);
    until("what it says is refused", || !refused_tokens(&api, &id).is_empty());
    let ended = check_second_counts(&api, &place, &id);
    for node in cluster.running() {
        let api = cluster.api(node);
        assert_eq!(exported_refusals(&api, &id), [(json!(first), json!(second))], "on node {node}");
        assert_eq!(execution(&api, &id), ended, "on node {node}");
    }
}

#[test]
fn a_node_that_stood_still_ends_its_program_when_it_goes_on_and_says_nothing_of_it() {
    let cluster = Cluster::start(3);
    let (api, place) = (cluster.any(), cluster.place().to_path_buf());
    let id = run(&api, &api.create_id(&script("long", &manual(), &patient(&place))));
    let (program, first) = told_by(&place, 1);
    let holder = worker_of(&execution(&api, &id)).expect("a node");
    cluster.node(holder).freeze();
    let (_, second) = told_by(&place, 2);
    assert!(second > first, "{second} after {first}");
    assert!(lives(program), "nobody is there who could end it");
    cluster.node(holder).thaw();
    until("it is ended", || !lives(program));
    let work = cluster.data(holder).join("work");
    until("its directory is gone", || fs::read_dir(&work).expect("read").count() == 0);
    cluster.await_caught_up(holder);
    let api = cluster.api(cluster.leader());
    // It comes back as a new worker when it has nothing left to say as the old one.
    until("it takes work again", || {
        let workers = items(&api.get("/api/workers"));
        workers.iter().any(|worker| worker["node"] == holder && worker["state"] == "ready")
    });
    check_second_counts(&api, &place, &id);
    assert_eq!(refused_tokens(&api, &id), [] as [u64; 0]);
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
