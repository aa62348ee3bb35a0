//! The one attempt that tries a target again: what becomes of it, and of the breaker, when the node that makes it dies,
//! or the leader.

use serde_json::json;

use crate::harness::api::{items, text};
use crate::harness::breakers::{PROBED, breaker, half_open, turns};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, execution, run, worker_of};
use crate::harness::metrics::await_metric;
use crate::harness::target::Target;
use crate::harness::wait::{millis, until};

/// Waits until the metrics of every node say that so many breakers stand so.
#[track_caller]
fn await_breakers(cluster: &Cluster, state: &str, count: usize) {
    let line = format!("escapement_breakers{{state=\"{state}\"}} {count}");
    cluster.running().into_iter().for_each(|node| await_metric(&cluster.api(node), &line));
}

/// Demands that the breaker of a target was opened once, tried its target from then on, and is closed.
#[track_caller]
fn check_closed(cluster: &Cluster, target: &Target) {
    let api = cluster.any();
    let closed = breaker(&api, target);
    assert_eq!((&closed["state"], &closed["failures"]), (&json!("closed"), &json!(0)), "{closed}");
    assert_eq!(turns(&api), ["Opened", "HalfOpened", "Closed"]);
    await_breakers(cluster, "closed", 1);
    await_breakers(cluster, "half_open", 0);
}

/// Has a breaker try its target, and kills the node that makes the probe, while it leads or another one does. Returns
/// the probe, and one that waits for it.
#[track_caller]
fn kill_the_prober(cluster: &mut Cluster, target: &Target, leads: bool, delivery: &str) -> (String, String) {
    let (probe, waits) = half_open(&cluster.any(), target, delivery);
    let prober = worker_of(&execution(&cluster.any(), &probe)).expect("a node");
    let other = cluster.running().into_iter().find(|node| *node != prober).expect("another node");
    cluster.lead(if leads { prober } else { other });
    await_breakers(cluster, "half_open", 1);
    assert_eq!(target.calls_to(PROBED).len(), 1, "whoever leads, it goes on");
    cluster.kill(prober);
    cluster.leader();
    (probe, waits)
}

/// Demands that a probe whose node dies is made again by another one, alone, and that the breaker closes then.
#[track_caller]
fn check_made_again(leads: bool) {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let (probe, waits) = kill_the_prober(&mut cluster, &target, leads, "at_least_once");
    let api = cluster.any();
    until("the probe is made again", || target.calls_to(PROBED).len() == 2);
    let again = execution(&api, &probe);
    assert_eq!((&again["attempt"], &again["attempts"][0]["outcome"]), (&json!(2), &json!("lost")), "{again}");
    let shown = breaker(&api, &target);
    assert_eq!((&shown["state"], &shown["probe"]), (&json!("half_open"), &json!(probe)), "{shown}");
    assert_eq!((&shown["waiting"], &execution(&api, &waits)["attempt"]), (&json!(1), &json!(0)), "{shown}");
    target.let_go();
    [&probe, &waits].into_iter().for_each(|id| drop(await_status(&api, id, "succeeded")));
    let calls = target.calls();
    let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, ["/status/503", PROBED, PROBED, "/ok"]);
    assert_eq!(target.most_at_once(PROBED), 1);
    check_closed(&cluster, &target);
}

#[test]
fn a_probe_whose_node_dies_is_made_again_by_another_one() {
    check_made_again(false);
}

#[test]
fn a_probe_that_the_leader_makes_is_made_again_by_another_node_when_it_dies() {
    check_made_again(true);
}

#[test]
fn when_a_probe_is_lost_with_its_node_the_next_one_tries() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let (probe, waits) = kill_the_prober(&mut cluster, &target, false, "at_most_once");
    let api = cluster.any();
    let lost = await_status(&api, &probe, "lost");
    let next = await_status(&api, &waits, "succeeded");
    assert!(millis(&next["started_at"]) >= millis(&lost["finished_at"]), "{lost} {next}");
    assert_eq!((target.calls_to(PROBED).len(), target.calls_to("/ok").len()), (1, 1));
    check_closed(&cluster, &target);
}

#[test]
fn a_new_leader_knows_that_a_target_is_being_tried_and_lets_nobody_else_try() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let (probe, waits) = half_open(&cluster.any(), &target, "at_least_once");
    let prober = worker_of(&execution(&cluster.any(), &probe)).expect("a node");
    let leader = cluster.running().into_iter().find(|node| *node != prober).expect("another node");
    cluster.lead(leader);
    let api = cluster.api(prober);
    let before = breaker(&api, &target);
    cluster.kill(leader);
    assert_ne!(cluster.leader(), leader);
    assert_eq!(breaker(&api, &target), before, "the same state, probe, and instant of its last change");
    assert_eq!(items(&api.get("/api/breakers")), [before]);
    let good = text(&execution(&api, &waits), "task_id");
    let mut waiting: Vec<String> = (0..3).map(|_| run(&api, &good)).collect();
    waiting.push(waits);
    for id in &waiting {
        let told = execution(&api, id);
        assert_eq!(told["attempt"], 0, "{told}");
        assert!(text(&told, "waiting_for").contains("breaker"), "{told}");
    }
    await_breakers(&cluster, "half_open", 1);
    let shown = breaker(&api, &target);
    assert_eq!((&shown["probe"], &shown["waiting"]), (&json!(probe), &json!(4)), "{shown}");
    assert_eq!((target.calls_to(PROBED).len(), target.calls_to("/ok").len()), (1, 0));
    target.let_go();
    assert_eq!(await_status(&api, &probe, "succeeded")["attempt"], 1, "it went on");
    waiting.iter().for_each(|id| drop(await_status(&api, id, "succeeded")));
    check_closed(&cluster, &target);
}
