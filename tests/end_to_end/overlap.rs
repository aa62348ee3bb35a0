//! What happens when a task is due while an earlier execution of it is open.

use serde_json::{Value, json};

use crate::harness::api::{Api, text};
use crate::harness::definitions::{await_status, call, execution, executions, manual, run, with};
use crate::harness::development::Development;
use crate::harness::target::Target;
use crate::harness::wait::until;

/// Runs a task of 1.5 seconds three times at once, and returns the executions in order.
#[track_caller]
fn run_thrice(api: &Api, target: &Target, overlap: &str) -> [String; 3] {
    let task = with(call(overlap, &manual(), &target.url("/slow/1500")), json!({ "overlap": overlap }));
    let task = api.create_id(&task);
    let first = run(api, &task);
    until("the first one runs", || target.calls().iter().any(|call| call.key() == first));
    [first, run(api, &task), run(api, &task)]
}

#[track_caller]
fn ends(api: &Api, target: &Target, overlap: &str, expected: [&str; 3]) -> [Value; 3] {
    let ids = run_thrice(api, target, overlap);
    let mut at = expected.into_iter();
    ids.map(|id| await_status(api, &id, at.next().expect("three")))
}

#[test]
fn each_policy_does_what_it_says() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let skipped = ends(&api, &target, "skip", ["succeeded", "skipped", "skipped"]);
    assert!(skipped[1]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{}", skipped[1]);
    ends(&api, &target, "queue_one", ["succeeded", "succeeded", "skipped"]);
    ends(&api, &target, "queue_all", ["succeeded", "succeeded", "succeeded"]);
    ends(&api, &target, "allow", ["succeeded", "succeeded", "succeeded"]);
    let cancelled = run_thrice(&api, &target, "cancel_running");
    await_status(&api, &cancelled[0], "cancelled");
    await_status(&api, &cancelled[2], "succeeded");
    assert_ne!(execution(&api, &cancelled[1])["status"], "succeeded");
}

#[test]
fn what_waits_its_turn_does_not_run_side_by_side() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    ends(&api, &target, "queue_all", ["succeeded"; 3]);
    let mut calls: Vec<i64> = target.calls().iter().map(|call| call.at_ms).collect();
    calls.sort_unstable();
    assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= 1_400), "{calls:?}");
}

#[test]
fn a_waiting_execution_can_be_cancelled() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let ids = run_thrice(&api, &target, "queue_all");
    api.post(&format!("/api/executions/{}/cancel", ids[1]), &Value::Null).expect(202);
    await_status(&api, &ids[1], "cancelled");
    await_status(&api, &ids[2], "succeeded");
    let called = target.calls().iter().filter(|call| call.key() == ids[1]).count();
    assert_eq!(called, 0, "it never ran");
    let task = text(&execution(&api, &ids[0]), "task_id");
    assert_eq!(executions(&api, &task).len(), 3);
}
