//! What happens when a task is due while an earlier execution of it is open.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::definitions::{
    await_status, call, every_second, execution, executions, manual, run, with,
};
use crate::harness::development::Development;
use crate::harness::target::Target;
use crate::harness::wait::{instant_in, until};

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
    let waited = Some("it waited for that (overlap policy)");
    for (policy, statuses, reasons) in [
        ("skip", ["succeeded", "skipped", "skipped"], [None, Some("overlap: skip"), Some("overlap: skip")]),
        ("queue_one", ["succeeded", "succeeded", "skipped"], [None, waited, Some("overlap: queue_one")]),
        ("queue_all", ["succeeded"; 3], [None, waited, waited]),
        ("allow", ["succeeded"; 3], [None; 3]),
    ] {
        for (execution, reason) in ends(&api, &target, policy, statuses).iter().zip(reasons) {
            check_reason(execution, reason);
        }
    }
    let cancelled = run_thrice(&api, &target, "cancel_running");
    check_reason(&await_status(&api, &cancelled[0], "cancelled"), Some("overlap: cancel_running"));
    await_status(&api, &cancelled[2], "succeeded");
    assert_ne!(execution(&api, &cancelled[1])["status"], "succeeded");
}

#[track_caller]
fn check_reason(execution: &Value, expected: Option<&str>) {
    let reason = execution["reason"].as_str();
    let told = expected.is_none_or(|words| reason.is_some_and(|reason| reason.contains(words)));
    assert!(told && reason.is_some() == expected.is_some(), "{expected:?} in {execution}");
}

/// The policies hold for what the schedule starts too, and the account of fires tells what they did.
#[test]
fn each_policy_holds_for_instants_of_a_schedule_and_is_accounted_for() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let from = instant_in(0);
    let delayed = ("delayed_by_overlap", None);
    let expected = [
        ("skip", vec![("skipped", Some("overlap"))]),
        ("queue_one", vec![delayed, ("skipped", Some("overlap_queue_full"))]),
        ("queue_all", vec![delayed]),
        ("cancel_running", vec![delayed]),
        ("allow", vec![]),
    ];
    let tasks: Vec<(String, _)> = expected
        .into_iter()
        .map(|(policy, expected)| {
            let task = call(policy, &every_second(), &target.url("/slow/2500"));
            (api.create_id(&with(task, json!({ "overlap": policy }))), expected)
        })
        .collect();
    for (task, expected) in &tasks {
        let path = |to: &str| format!("/api/audit/fires?from={from}&to={to}&task={task}&limit=1000");
        until("four of its instants have come", || {
            items(&api.get(&path(&instant_in(0)))).iter().filter(|fire| fire["status"] != "pending").count()
                >= 4
        });
        let account = items(&api.get(&path(&instant_in(0))));
        let told = |(status, reason): &(&str, Option<&str>)| {
            account.iter().any(|fire| fire["status"] == *status && fire["reason"].as_str() == *reason)
        };
        assert!(expected.iter().all(told), "{expected:?} in {account:?}");
        let known = |fire: &Value| {
            let fire = (text(fire, "status"), fire["reason"].as_str());
            ["on_time", "late", "pending"].contains(&fire.0.as_str())
                || expected.iter().any(|known| (known.0, known.1) == (fire.0.as_str(), fire.1))
        };
        assert!(account.iter().all(known), "only {expected:?} in {account:?}");
        for (status, reason) in expected {
            let fire =
                account.iter().find(|fire| fire["status"] == *status && fire["reason"].as_str() == *reason);
            let at = text(fire.expect("it is there"), "at");
            let told = api.get(&format!("/api/scheduled-tasks/{task}/explain?at={at}"));
            assert_eq!(told["instant"]["status"], *status, "{told}");
            assert!(text(&told["instant"], "explanation").contains("earlier"), "{told}");
        }
    }
    let cancelled = executions(&api, &tasks[3].0);
    let replaced = cancelled.iter().find(|one| one["status"] == "cancelled").expect("one was replaced");
    check_reason(replaced, Some("overlap: cancel_running"));
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
