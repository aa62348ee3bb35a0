//! How long executions may take and wait, and how soon and how politely what runs is stopped.

use std::fs;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::{await_status, call, execution, manual, noop, run, script, with};
use crate::harness::development::Development;
use crate::harness::raw_target::RawTarget;
use crate::harness::target::Target;
use crate::harness::wait::{PATIENCE, eventually, now_ms, until};

#[test]
fn an_execution_that_takes_too_long_in_all_is_cancelled_and_timed_out() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let bounded = json!({ "execution_timeout": "1s" });
    let long = run(&api, &api.create_id(&with(script("long", &manual(), "sleep 300"), bounded.clone())));
    let hanging = call("hanging", &manual(), &target.url("/slow/60000"));
    let hanging = run(&api, &api.create_id(&with(hanging, bounded.clone())));
    let retry = json!({ "max_attempts": 100, "initial_delay": "200ms", "max_delay": "200ms", "jitter": 0 });
    let stubborn = with(call("stubborn", &manual(), &target.url("/status/500")), json!({ "retry": retry }));
    let stubborn = run(&api, &api.create_id(&with(stubborn, bounded)));
    for (id, outcome) in [(long, "cancelled"), (hanging, "cancelled"), (stubborn, "failed")] {
        let ended = await_status(&api, &id, "timed_out");
        assert!(text(&ended, "reason").contains("execution_timeout"), "{ended}");
        assert_eq!(ended["attempts"][0]["outcome"], outcome, "{ended}");
        let task = text(&ended, "task_id");
        let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
        let last = events.iter().find(|event| event["type"] == "TaskTimedOut").expect("it timed out");
        assert_eq!(last["data"]["cause"], "execution_timeout", "{last}");
    }
}

#[test]
fn what_took_too_long_in_all_has_all_of_its_time_again_when_it_is_retried_by_hand() {
    let development = Development::start();
    let api = development.api();
    let again = "[ $ESCAPEMENT_ATTEMPT = 1 ] && exec sleep 300; sleep 1";
    let bounded = with(script("long", &manual(), again), json!({ "execution_timeout": "3s" }));
    let id = run(&api, &api.create_id(&bounded));
    await_status(&api, &id, "timed_out");
    api.post(&format!("/api/executions/{id}/retry"), &Value::Null).expect(202);
    let ended = await_status(&api, &id, "succeeded");
    assert_eq!(ended["attempt"], 2, "{ended}");
}

#[test]
fn an_execution_that_waits_too_long_times_out_also_under_a_new_leader() {
    let mut development = Development::start();
    let api = development.api();
    let queued = json!({ "overlap": "queue_all", "queue_timeout": "3s" });
    let task = api.create_id(&with(script("long", &manual(), "sleep 300"), queued));
    let first = run(&api, &task);
    await_status(&api, &first, "running");
    let start = now_ms();
    let second = run(&api, &task);
    development.node.kill();
    development.restart();
    let api = development.api();
    let ended = await_status(&api, &second, "timed_out");
    assert!(text(&ended, "reason").contains("queue_timeout"), "{ended}");
    assert!(ended["attempt"] == 0 && now_ms() - start >= 3_000, "{ended}");
    assert!(!["timed_out", "failed"].contains(&text(&execution(&api, &first), "status").as_str()));
}

#[test]
fn an_execution_for_which_no_worker_has_room_times_out_and_is_never_started() {
    let cluster = Cluster::start_with(1, Settings { slots: Some(1), ..Settings::default() });
    let api = cluster.any();
    let busy = run(&api, &api.create_id(&script("busy", &manual(), "sleep 300")));
    await_status(&api, &busy, "running");
    let task = api.create_id(&with(noop("hurried", &manual()), json!({ "queue_timeout": "1s" })));
    let start = now_ms();
    let id = run(&api, &task);
    let ended = await_status(&api, &id, "timed_out");
    assert!(now_ms() - start >= 1_000, "{ended}");
    assert!(text(&ended, "reason").contains("queue_timeout"), "{ended}");
    // The room comes too late.
    api.post(&format!("/api/executions/{busy}/cancel"), &Value::Null).expect(202);
    await_status(&api, &busy, "cancelled");
    await_status(&api, &run(&api, &api.create_id(&noop("patient", &manual()))), "succeeded");
    let ended = execution(&api, &id);
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("timed_out"), &json!(0)), "{ended}");
    assert_eq!((&ended["attempts"], &ended["started_at"]), (&json!([]), &Value::Null), "{ended}");
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["TaskCreated", "TaskScheduled", "TaskTimedOut"]);
    assert_eq!(events[2]["data"]["cause"], "queue_timeout", "{events:?}");
}

#[test]
fn a_program_that_does_not_want_to_go_has_ten_seconds() {
    let development = Development::start();
    let api = development.api();
    let (ready, told) = (development.place().join("ready"), development.place().join("told"));
    let trap = format!("trap 'date +%s%3N > {}' TERM; echo > {}", told.display(), ready.display());
    let stubborn = script("stubborn", &manual(), &format!("{trap}; while true; do sleep 0.1; done"));
    let id = run(&api, &api.create_id(&stubborn));
    until("the trap is set", || ready.exists());
    let start = now_ms();
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    let heard: i64 = eventually("it hears of it", || fs::read_to_string(&told).ok()?.trim().parse().ok());
    assert!(heard - start < 1_000, "SIGTERM after {} ms", heard - start);
    assert_eq!(execution(&api, &id)["status"], "running", "it does not go");
    await_status(&api, &id, "cancelled");
    let took = now_ms() - start;
    assert!((9_500..13_000).contains(&took), "SIGKILL after {took} ms");
}

/// `sh -c "suite; upload"`: the shell ends of the signal at once, and the suite is what has something to clean up.
#[test]
fn a_whole_group_has_these_ten_seconds_and_not_its_leader_alone() {
    let development = Development::start();
    let api = development.api();
    let [ready, left] = ["ready", "left"].map(|name| development.place().join(name));
    let trap = format!("trap \"sleep 1; echo > {}; exit\" TERM; echo > {}", left.display(), ready.display());
    let leader = format!("sh -c '{trap}; while true; do sleep 0.1; done'; echo never");
    let id = run(&api, &api.create_id(&script("suite", &manual(), &leader)));
    until("the trap is set", || ready.exists());
    let start = now_ms();
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    await_status(&api, &id, "cancelled");
    let took = now_ms() - start;
    assert!(left.exists(), "killed after {took} ms");
    assert!((1_000..6_000).contains(&took), "all of it is gone, and it took {took} ms");
}

/// Runs a call that hangs, cancels it by way of the API that is chosen for the attempt's worker, and demands that the target
/// sees its connection closed within a second.
#[track_caller]
fn check_call_is_dropped(api: &Api, by_way_of: impl FnOnce(&str) -> Api) {
    let (target, told) = RawTarget::silent();
    let id = run(api, &api.create_id(&call("hanging", &manual(), &target.url())));
    told.recv_timeout(PATIENCE).expect("the target is called");
    let running = await_status(api, &id, "running");
    let way = by_way_of(&text(&running["attempts"][0], "worker"));
    let start = now_ms();
    way.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    let closed = told.recv_timeout(PATIENCE).expect("its connection is closed");
    assert!(closed - start < 1_000, "closed after {} ms", closed - start);
    await_status(api, &id, "cancelled");
    assert!(now_ms() - start < 1_500, "{} ms", now_ms() - start);
}

#[test]
fn a_call_that_hangs_is_dropped_within_a_second() {
    let development = Development::start();
    check_call_is_dropped(&development.api(), |_| development.api());
}

#[test]
fn a_call_is_dropped_also_by_way_of_a_node_that_did_not_make_it() {
    let cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    for asked in [leader, follower] {
        check_call_is_dropped(&cluster.api(asked), |worker| {
            let elsewhere = cluster.running().into_iter().find(|id| !worker.contains(&id.to_string()));
            cluster.api(elsewhere.expect("three of them"))
        });
    }
}
