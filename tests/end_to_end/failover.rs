//! Three nodes: any of them answers, any of them may die, and each occurrence still becomes one execution.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    all_executions, await_count, await_status, call, every_second, execution, executions, manual, noop, run,
    script, telling, told_by, with, worker_of,
};
use crate::harness::program::ask;
use crate::harness::program::lives;
use crate::harness::target::{Call, Target};
use crate::harness::wait::{eventually, instant_in, millis, now_ms, until, within};

/// Demands that what the target saw is at least once under one key each, in order of attempt and token.
#[track_caller]
fn check_calls(calls: &[Call]) -> BTreeMap<String, Vec<Call>> {
    let mut by_key: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    calls.iter().for_each(|call| by_key.entry(call.key()).or_default().push(call.clone()));
    for (key, calls) in &by_key {
        for pair in calls.windows(2) {
            assert!(pair[0].attempt() < pair[1].attempt(), "{key}: {calls:?}");
            assert!(pair[0].fencing() < pair[1].fencing(), "{key}: {calls:?}");
        }
    }
    by_key
}

#[test]
fn a_follower_answers_and_forwards() {
    let cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let api = cluster.api(follower);
    let task = api.create_id(&noop("forwarded", &manual()));
    // What one node acknowledged every node tells, at once.
    for id in cluster.running() {
        assert_eq!(cluster.api(id).get(&format!("/api/scheduled-tasks/{task}"))["name"], "forwarded");
    }
    let id = run(&api, &task);
    await_status(&api, &id, "succeeded");
    await_status(&cluster.api(leader), &id, "succeeded");
    let repeated = |api: &Api| {
        let body = noop("keyed", &manual()).to_string();
        api.send("POST", "/api/scheduled-tasks/", &[("Idempotency-Key", "k")], Some(&body)).expect(201)
    };
    assert_eq!(repeated(&api)["id"], repeated(&cluster.api(leader))["id"], "a key holds on every node");
    let status = cluster.status(follower);
    assert_eq!(status["leader"], leader);
    let nodes = status["nodes"].as_array().expect("a list");
    assert_eq!(nodes.iter().filter(|node| node["role"] == "leader").count(), 1, "{status}");
    assert_eq!(nodes.iter().filter(|node| node["role"] == "follower").count(), 2, "{status}");
    let path = format!("/api/scheduled-tasks/{task}?consistency=local");
    until("a local read catches up", || api.send("GET", &path, &[], None).status == 200);
}

/// 500 tasks, one every 20 ms, each of which takes a while; the leader dies after a third of them, with some in its hands.
#[test]
fn the_leader_dies_while_500_tasks_fall_due_and_each_fires_once() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let begin = 5_000;
    let tasks: Vec<Value> = (0..500)
        .map(|n| {
            let at = json!({ "type": "once", "at": instant_in(begin + n * 20) });
            call(&format!("due-{n}"), &at, &target.url("/slow/200"))
        })
        .collect();
    let created = cluster.any().post("/api/scheduled-tasks/bulk?atomic=true", &json!(tasks)).expect(200);
    assert_eq!(items(&created).len(), 500);
    until("a third has fired", || target.calls().len() >= 170);
    let leader = cluster.leader();
    cluster.kill(leader);
    let killed_at = now_ms();
    let api = cluster.any();
    eventually("every task is finished", || {
        let path = "/api/scheduled-tasks/?state=active&limit=1";
        let reply = api.try_send("GET", path, &[], None).ok().filter(|reply| reply.status == 200)?;
        items(&reply.json()).is_empty().then_some(())
    });
    let ran = eventually("every execution has ended", || {
        let ran = all_executions(&api);
        ran.iter().all(|execution| execution["status"] == "succeeded").then_some(ran)
    });
    let tasks: BTreeSet<String> = ran.iter().map(|execution| text(execution, "task_id")).collect();
    assert_eq!((ran.len(), tasks.len()), (500, 500), "each task has one execution");
    let by_key = check_calls(&target.calls());
    assert_eq!(by_key.len(), 500, "the target saw each of them under one key");
    assert!(ran.iter().all(|execution| by_key.contains_key(&text(execution, "id"))));
    let doubled = by_key.values().filter(|calls| calls.len() > 1).count();
    let first_after = target.calls().iter().map(|call| call.at_ms).find(|&at| at > killed_at + 50);
    eprintln!(
        "calls made again: {doubled}; first call {:?} ms after the kill",
        first_after.map(|at| at - killed_at)
    );
    for execution in &ran {
        let lateness = millis(&execution["fired_at"]) - millis(&execution["scheduled_at"]);
        assert!((0..10_000).contains(&lateness), "{execution}");
    }
    cluster.start_again(leader);
    cluster.await_ready();
    cluster.await_caught_up(leader);
    assert_eq!(all_executions(&cluster.api(leader)).len(), 500);
}

/// Kills the node that holds attempts, and demands each of them elsewhere within five seconds.
#[track_caller]
fn check_handover(leader_dies: bool) {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let api = cluster.any();
    let victim = if leader_dies { cluster.leader() } else { cluster.follower() };
    let held: Vec<String> = (0..12)
        .map(|n| {
            let task = with(
                call(&format!("held-{n}"), &manual(), &target.url("/slow/30000")),
                json!({ "timeout": "1m" }),
            );
            let task = api.create_id(&task);
            run(&api, &task)
        })
        .collect();
    until("all are with the target", || target.calls().len() == held.len());
    let on_victim: Vec<String> =
        held.into_iter().filter(|id| worker_of(&execution(&api, id)) == Some(victim)).collect();
    assert!(!on_victim.is_empty(), "work is spread over the nodes");
    cluster.kill(victim);
    let killed_at = now_ms();
    let again = within(Duration::from_secs(15), "each is made again", || {
        let calls = target.calls();
        let again: Vec<Call> = calls.into_iter().filter(|call| call.attempt() == 2).collect();
        (again.len() >= on_victim.len()).then_some(again)
    });
    check_calls(&target.calls());
    let keys: BTreeSet<String> = again.iter().map(Call::key).collect();
    assert_eq!(keys, on_victim.into_iter().collect(), "only what was lost is made again");
    let slowest = again.iter().map(|call| call.at_ms - killed_at).max().expect("some");
    eprintln!("made again at most {slowest} ms after the kill");
    assert!(slowest <= 5_000, "{slowest} ms");
}

#[test]
fn what_a_dead_follower_held_starts_elsewhere_within_five_seconds() {
    check_handover(false);
}

#[test]
fn what_a_dead_leader_held_starts_elsewhere_within_five_seconds() {
    check_handover(true);
}

/// Ends the node that makes an attempt at most once, and demands that the execution is lost, for this reason.
#[track_caller]
fn check_lost(end: impl FnOnce(&mut Cluster, u64), reason: &str, cause: &str) {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let api = cluster.any();
    let task = with(
        call("once", &manual(), &target.url("/slow/30000")),
        json!({ "delivery": "at_most_once", "timeout": "1m", "retry": { "max_attempts": 3 } }),
    );
    let task = api.create_id(&task);
    let id = run(&api, &task);
    until("it is with the target", || target.calls().len() == 1);
    let victim = worker_of(&execution(&api, &id)).expect("a node");
    end(&mut cluster, victim);
    let api = cluster.any();
    let lost = await_status(&api, &id, "lost");
    assert!(text(&lost, "reason").contains(reason), "{lost}");
    assert_eq!(target.calls().len(), 1);
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    let event = events.iter().find(|event| event["type"] == "TaskLost").expect("it is told");
    assert_eq!(event["data"]["cause"], cause, "{event}");
}

#[test]
fn an_attempt_at_most_once_is_lost_with_its_node_and_not_made_again() {
    check_lost(Cluster::kill, "worker was lost", "worker_lost");
}

#[test]
fn an_attempt_at_most_once_that_its_node_leaves_unfinished_at_its_stop_is_lost_and_not_made_again() {
    let stop = |cluster: &mut Cluster, node| assert_eq!(cluster.terminate(node), Some(0));
    check_lost(stop, "stopped with it unfinished", "handed_back");
}

#[test]
fn a_program_whose_node_dies_ends_with_it_and_runs_elsewhere_under_a_higher_token() {
    let mut cluster = Cluster::start(3);
    let (api, place) = (cluster.any(), cluster.place().to_path_buf());
    let task = api.create_id(&script("long", &manual(), &telling(&place, "exec sleep 300")));
    let id = run(&api, &task);
    let (first, token) = told_by(&place, 1);
    let victim = worker_of(&await_status(&api, &id, "running")).expect("a node");
    assert!(lives(first));
    cluster.kill(victim);
    until("its program is gone", || !lives(first));
    let (second, higher) = told_by(&place, 2);
    assert!(higher > token, "{higher} after {token}");
    cluster.leader();
    let api = cluster.any();
    let again = eventually("the second attempt is told", || {
        Some(execution(&api, &id)).filter(|execution| execution["attempt"] == 2)
    });
    assert_eq!((&again["status"], &again["attempts"][0]["outcome"]), (&json!("running"), &json!("lost")));
    let holder = worker_of(&again).expect("a node");
    assert!(holder != victim && lives(second), "{again}");
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    let requeued = events.iter().find(|event| event["type"] == "TaskRequeued").expect("it is in the log");
    assert_eq!(requeued["data"]["cause"], "worker_lost", "{requeued}");
    assert_eq!(requeued["data"]["fencing_token"], token, "the program was told its own: {requeued}");
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    await_status(&api, &id, "cancelled");
    until("nothing of it is left", || !lives(second));
}

#[test]
fn leadership_is_handed_over_when_asked_and_tasks_go_on() {
    let cluster = Cluster::start(3);
    let old = cluster.leader();
    let api = cluster.any();
    let task = api.create_id(&with(noop("beat", &every_second()), json!({ "overlap": "allow" })));
    await_count(&api, &task, "succeeded", 2);
    let goal = cluster.follower();
    ask(&cluster.api(goal), &["cluster", "transfer-leadership", &goal.to_string()], None).expect(0);
    assert_eq!(cluster.leader(), goal);
    ask(&cluster.api(old), &["cluster", "transfer-leadership"], None).expect(0);
    until("somebody else leads", || cluster.leader() != goal);
    check_beat(&api, &task);
}

/// Waits until a task that is due every second has run a few times more, and demands that each second from its first to
/// its last has become an execution once, and that all of them come to their end.
#[track_caller]
pub(crate) fn check_beat(api: &Api, task: &str) {
    let before = executions(api, task).len();
    await_count(api, task, "succeeded", before + 2);
    let beats = executions(api, task);
    let mut instants: Vec<i64> = beats.iter().map(|beat| millis(&beat["scheduled_at"])).collect();
    instants.sort_unstable();
    assert!(instants.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{instants:?}");
    for beat in &beats {
        await_status(api, &text(beat, "id"), "succeeded");
    }
}

/// A leader that is frozen does not know that it was replaced.
#[test]
fn a_frozen_leader_is_replaced_and_does_no_harm_when_it_wakes() {
    let (cluster, target) = (Cluster::start(3), Target::start());
    let leader = cluster.leader();
    let other = cluster.api(cluster.follower());
    let beat = with(call("beat", &every_second(), &target.url("/ok")), json!({ "overlap": "allow" }));
    let task = other.create_id(&beat);
    await_count(&other, &task, "succeeded", 2);
    cluster.node(leader).freeze();
    let frozen_at = now_ms();
    until("the beat goes on", || {
        target
            .calls()
            .iter()
            .any(|call| millis(&json!(call.header("Escapement-Scheduled-At"))) > frozen_at + 4_000)
    });
    cluster.node(leader).thaw();
    cluster.await_caught_up(leader);
    let before = target.calls().len();
    until("the beat goes on", || target.calls().len() >= before + 3);
    let seen = check_calls(&target.calls());
    check_beat(&other, &task);
    assert!(seen.len() >= 6);
}

#[test]
fn without_a_majority_a_node_says_so_and_recovers_when_it_is_back() {
    let mut cluster = Cluster::start(3);
    let alone = cluster.leader();
    let task = cluster.api(alone).create_id(&noop("before", &manual()));
    let others: Vec<u64> = cluster.running().into_iter().filter(|&id| id != alone).collect();
    others.iter().for_each(|&id| cluster.kill(id));
    let api = cluster.api(alone);
    let refused = eventually("a write is refused", || {
        let reply = api.post("/api/scheduled-tasks/", &noop("never", &manual()));
        (reply.status == 503).then_some(reply)
    });
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    api.send("GET", &format!("/api/scheduled-tasks/{task}"), &[], None).expect(503);
    api.get(&format!("/api/scheduled-tasks/{task}?consistency=local"));
    assert_eq!(api.anonymous().send("GET", "/healthz", &[], None).status, 200, "it lives");
    until("it is not ready", || api.anonymous().send("GET", "/readyz", &[], None).status == 503);
    cluster.start_again(others[0]);
    cluster.await_ready();
    cluster.any().create(&noop("after", &manual()));
}

#[test]
fn a_leader_that_is_asked_to_end_hands_over_first() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let api = cluster.api(cluster.follower());
    let task = api.create_id(&with(noop("beat", &every_second()), json!({ "overlap": "allow" })));
    await_count(&api, &task, "succeeded", 2);
    assert_eq!(cluster.terminate(leader), Some(0));
    assert_ne!(cluster.leader(), leader);
    let api = cluster.any();
    check_beat(&api, &task);
    let latest =
        executions(&api, &task).iter().filter_map(|execution| execution["lateness_ms"].as_i64()).max();
    assert!(latest.is_some_and(|latest| latest < 3_000), "nobody waited for an election: {latest:?}");
}
