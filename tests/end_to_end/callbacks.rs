//! Targets that answer 202 and report later: through any node, with the token of their attempt and nothing else.

use serde_json::{Value, json};

use crate::harness::api::{Api, Reply, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, call, execution, manual, refused_tokens, run, with};
use crate::harness::development::Development;
use crate::harness::metrics::await_metric;
use crate::harness::target::{Call, Target};
use crate::harness::wait::{eventually, millis, now_ms, until};

/// A task whose target answers with a status, and reports later if that is 202.
fn later(target: &Target, status: u16) -> Value {
    let mut task = call("later", &manual(), &target.url(&format!("/status/{status}")));
    task["action"]["completion"] = json!("callback");
    task
}

/// A retry that waits for next to nothing.
fn retried(task: Value) -> Value {
    with(task, json!({ "retry": { "max_attempts": 2, "initial_delay": "50ms", "jitter": 0 } }))
}

/// Waits for the call of an attempt.
#[track_caller]
fn called(target: &Target, id: &str, attempt: u32) -> Call {
    eventually(&format!("attempt {attempt} of {id} calls"), || {
        target.calls().into_iter().find(|call| call.key() == id && call.attempt() == attempt)
    })
}

/// Reports as a target does, to the node that it was told of.
fn report(call: &Call, what: &str, body: Value) -> Reply {
    let url = call.header("Escapement-Callback-Url").to_owned();
    let (address, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL");
    let api = Api { address: address.parse().expect("an address"), token: None };
    report_to(&api, &format!("/{path}/{what}"), call, body)
}

fn report_to(api: &Api, path: &str, call: &Call, body: Value) -> Reply {
    api.post(path, &with(json!({ "lease_token": call.header("Escapement-Lease-Token") }), body))
}

fn succeeded() -> Value {
    json!({ "outcome": "succeeded", "result": { "passed": 3 } })
}

fn types(api: &Api, task: &str) -> Vec<String> {
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    events.iter().map(|event| text(event, "type")).collect()
}

#[test]
fn a_target_reports_later_to_whichever_node() {
    let (cluster, target) = (Cluster::start(3), Target::start());
    let api = cluster.any();
    let task = api.create_id(&later(&target, 202));
    let id = run(&api, &task);
    let call = called(&target, &id, 1);
    assert!(call.header("Escapement-Callback-Url").ends_with(&format!("/api/executions/{id}")), "{call:?}");
    let nodes: Vec<Api> = cluster.running().iter().map(|&node| cluster.api(node).anonymous()).collect();
    for node in &nodes {
        let beat = report_to(node, &format!("/api/executions/{id}/heartbeat"), &call, json!({})).expect(200);
        assert_eq!(beat["cancel"], false);
        assert!(millis(&beat["lease_until"]) > now_ms() + 200_000, "as long as the attempt may take: {beat}");
    }
    let progress = json!({ "percent": 50, "message": "half" });
    for node in &nodes {
        let path = format!("/api/executions/{id}/progress");
        assert_eq!(report_to(node, &path, &call, progress.clone()).expect(200)["progress"], progress);
    }
    assert_eq!(execution(&api, &id)["status"], "running");
    let path = format!("/api/executions/{id}/complete");
    let ended = report_to(&nodes[1], &path, &call, succeeded()).expect(200);
    assert_eq!((&ended["status"], &ended["result"]), (&json!("succeeded"), &json!({ "passed": 3 })));
    for (nth, node) in (1..).zip(&nodes) {
        let again = report_to(node, &path, &call, succeeded()).expect(200);
        assert_eq!(again, ended, "its answer was lost");
        let other = report_to(node, &path, &call, json!({ "outcome": "failed" }));
        assert_eq!(other.status, 409, "{}", other.body);
        assert_eq!(refused_tokens(&api, &id), vec![call.fencing(); nth]);
    }
    assert_eq!(report(&call, "heartbeat", json!({})).status, 409);
    assert_eq!(execution(&api, &id)["result"], json!({ "passed": 3 }));
    until("its slot is free", || {
        items(&api.get("/api/workers")).iter().all(|worker| worker["running"] == json!(0))
    });
    let progress = ["TaskProgress"; 3];
    let mut expected = vec!["TaskCreated", "TaskScheduled", "TaskStarted"];
    expected.extend(progress);
    expected.push("TaskCompleted");
    assert_eq!(types(&api, &task), expected);
}

#[test]
fn an_answer_other_than_202_ends_the_attempt() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    for (status, ends) in [(200, "succeeded"), (204, "succeeded"), (500, "failed"), (302, "failed")] {
        let id = run(&api, &api.create_id(&later(&target, status)));
        await_status(&api, &id, ends);
        assert_eq!(report(&called(&target, &id, 1), "complete", succeeded()).status, 409);
    }
}

#[test]
fn whoever_has_not_the_token_of_the_attempt_changes_nothing() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&with(later(&target, 202), json!({ "overlap": "allow" })));
    let (id, other) = (run(&api, &task), run(&api, &task));
    let (call, foreign) = (called(&target, &id, 1), called(&target, &other, 1));
    let before = types(&api, &task);
    let path = |what: &str| format!("/api/executions/{id}/{what}");
    let token = call.header("Escapement-Lease-Token").to_owned();
    let last = if token.ends_with('0') { '1' } else { '0' };
    let forged = format!("{}{last}", &token[..token.len() - 1]);
    let unknown = token.replacen("cb-1-", "cb-9-", 1);
    for what in ["heartbeat", "progress", "complete"] {
        let with_token = |token: &Value| {
            let body = match what {
                "heartbeat" => json!({}),
                "progress" => json!({ "percent": 1 }),
                _ => succeeded(),
            };
            api.anonymous().post(&path(what), &with(body, json!({ "lease_token": token })))
        };
        for (token, status) in [
            (json!(forged), 409),
            (json!(unknown), 409),
            (json!(foreign.header("Escapement-Lease-Token")), 409),
            (json!(call.fencing().to_string()), 401),
            (json!("garbage"), 401),
            (json!(7), 401),
            (Value::Null, 401),
        ] {
            let refused = with_token(&token);
            assert_eq!(refused.status, status, "{what} {token}: {}", refused.body);
        }
        assert_eq!(api.anonymous().post(&path(what), &Value::Null).status, 401);
    }
    let wrong = report(&call, "complete", json!({ "outcome": "perhaps" }));
    assert_eq!(wrong.expect(422)["errors"][0]["pointer"], "/outcome");
    let ghost = format!("/api/executions/{}/complete", "01900000-0000-7000-8000-000000000000");
    assert_eq!(report_to(&api.anonymous(), &ghost, &call, succeeded()).status, 409);
    assert_eq!(types(&api, &task), before, "nothing was written");
    // A worker of the tenant has not got the attempt either.
    let body = with(succeeded(), json!({ "lease_token": call.fencing().to_string() }));
    assert_eq!(api.post(&path("complete"), &body).status, 409);
    assert_eq!(execution(&api, &id)["status"], "running");
    report(&foreign, "complete", succeeded()).expect(200);
    // Whoever has the token may show one of the API beside it.
    let body = with(succeeded(), json!({ "lease_token": token }));
    assert_eq!(api.post(&path("complete"), &body).expect(200)["status"], "succeeded");
}

#[test]
fn a_failure_that_is_reported_is_made_again_under_another_token() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let id = run(&api, &api.create_id(&retried(later(&target, 202))));
    let first = called(&target, &id, 1);
    let failed = json!({ "outcome": "failed", "error": "2 of 3", "failed_items": ["b"] });
    assert_eq!(report(&first, "complete", failed).expect(200)["status"], "retrying");
    let second = called(&target, &id, 2);
    assert!(second.fencing() > first.fencing());
    let told: Value = serde_json::from_str(&second.body).expect("JSON");
    assert_eq!(told["retry_items"], json!(["b"]));
    assert!(refused_tokens(&api, &id).is_empty(), "nothing was refused yet");
    assert_eq!(report(&first, "complete", succeeded()).status, 409, "its attempt is over");
    assert_eq!(refused_tokens(&api, &id), [first.fencing()], "and that it came is recorded");
    report(&second, "complete", succeeded()).expect(200);
    let ended = await_status(&api, &id, "succeeded");
    let first = &ended["attempts"][0];
    assert_eq!((&first["outcome"], &first["error"]), (&json!("failed"), &json!("2 of 3")));
}

#[test]
fn a_target_that_never_reports_times_out() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let id = run(&api, &api.create_id(&with(later(&target, 202), json!({ "timeout": "500ms" }))));
    await_status(&api, &id, "timed_out");
    let call = called(&target, &id, 1);
    assert_eq!(report(&call, "complete", succeeded()).status, 409);
    assert_eq!(
        refused_tokens(&api, &id),
        [call.fencing()],
        "the execution has ended, and yet it is recorded"
    );
    assert_eq!(execution(&api, &id)["status"], "timed_out");
}

#[test]
fn a_target_that_falls_silent_is_given_up_long_before_its_timeout() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let mut task = retried(later(&target, 202));
    task["action"]["heartbeat_timeout"] = json!("1s");
    let id = run(&api, &api.create_id(&task));
    let first = called(&target, &id, 1);
    let begun = now_ms();
    until("it has lived for longer than it may be silent", || {
        let beat = report(&first, "heartbeat", json!({})).expect(200);
        assert!(millis(&beat["lease_until"]) <= now_ms() + 1_000, "{beat}");
        now_ms() - begun > 2_500
    });
    let second = called(&target, &id, 2);
    let seen = execution(&api, &id);
    assert_eq!(seen["attempts"][0]["outcome"], "timed_out", "{seen}");
    report(&second, "complete", succeeded()).expect(200);
}

#[test]
fn an_attempt_whose_node_died_is_made_elsewhere_and_its_token_is_void() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let id = run(&cluster.any(), &cluster.any().create_id(&later(&target, 202)));
    let first = called(&target, &id, 1);
    let waits = first.header("Escapement-Lease-Token").split('-').nth(1).and_then(|node| node.parse().ok());
    let waits = waits.expect("a node");
    cluster.kill(waits);
    let api = cluster.any();
    let second = called(&target, &id, 2);
    assert!(second.fencing() > first.fencing());
    let path = format!("/api/executions/{id}/complete");
    let old = report_to(&api.anonymous(), &path, &first, succeeded());
    assert_eq!(old.status, 409, "{}", old.body);
    assert_eq!(execution(&api, &id)["status"], "running");
    assert_eq!(refused_tokens(&api, &id), [first.fencing()], "nobody who waited for it is there, and yet");
    report_to(&api.anonymous(), &path, &second, succeeded()).expect(200);
    await_status(&api, &id, "succeeded");
    cluster.start_again(waits);
    cluster.await_ready();
    cluster.await_caught_up(waits);
    let again = report_to(&cluster.api(waits).anonymous(), &path, &first, succeeded());
    assert_eq!(again.status, 409, "{}", again.body);
    assert_eq!(
        refused_tokens(&api, &id),
        [first.fencing(); 2],
        "its node has forgotten it, and knows it again"
    );
    assert_eq!(
        report_to(&api.anonymous(), &path.replace("complete", "heartbeat"), &first, json!({})).status,
        409
    );
    assert_eq!(refused_tokens(&api, &id).len(), 2, "a sign of life is no result");
}

#[test]
fn a_target_that_reports_later_says_what_sort_of_failure_it_was_and_when_to_call_again() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let retry = json!({ "max_attempts": 3, "initial_delay": "50ms", "jitter": 0, "retry_on": { "exit_codes": ["75"] } });
    let id = run(&api, &api.create_id(&with(later(&target, 202), json!({ "retry": retry }))));
    let fail = |call: &Call, code: u32, more: Value| {
        let failure = json!({ "outcome": "failed", "failure": { "class": "exit_code", "code": code } });
        report(call, "complete", with(failure, more)).expect(200);
    };
    let (first, said_at) = (called(&target, &id, 1), now_ms());
    fail(&first, 75, json!({ "retry_after": "2s" }));
    let second = called(&target, &id, 2);
    assert!(second.at_ms - said_at >= 2_000, "it is left alone for so long");
    fail(&second, 1, json!({}));
    let ended = await_status(&api, &id, "failed");
    assert_eq!(ended["attempts"][1]["failure"], json!({ "class": "exit_code", "code": 1 }));
    assert!(text(&ended, "reason").contains("retry.retry_on"), "{ended}");
}

#[test]
fn a_target_that_ran_out_of_time_says_so_and_is_heard() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let id = run(&api, &api.create_id(&later(&target, 202)));
    let call = called(&target, &id, 1);
    let timed_out = || json!({ "outcome": "failed", "failure": { "class": "timeout" } });
    for _ in 0..2 {
        // Said once more, it is answered as the first time.
        report(&call, "complete", timed_out()).expect(200);
    }
    let ended = await_status(&api, &id, "timed_out");
    assert_eq!(ended["attempts"][0]["outcome"], "timed_out", "{ended}");
    assert!(refused_tokens(&api, &id).is_empty());
}

#[test]
fn a_cancel_reaches_a_target_with_its_next_sign_of_life() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&with(later(&target, 202), json!({ "overlap": "allow" })));
    let (speaks, silent) = (run(&api, &task), run(&api, &task));
    let call = called(&target, &speaks, 1);
    report(&call, "heartbeat", json!({})).expect(200);
    called(&target, &silent, 1);
    for id in [&speaks, &silent] {
        api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    }
    await_status(&api, &silent, "cancelled");
    until("it is told to stop", || report(&call, "heartbeat", json!({})).expect(200)["cancel"] == true);
    let stopped = report(&call, "complete", json!({ "outcome": "failed", "error": "stopped" })).expect(200);
    assert_eq!(stopped["status"], "cancelled", "{stopped}");
}

#[test]
fn an_attempt_that_its_target_ended_is_not_told_as_running_any_more() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let task = api.create_id(&later(&target, 202));
    let id = run(&api, &task);
    let call = called(&target, &id, 1);
    await_metric(&api, "escapement_attempts_running 1");
    report(&call, "complete", succeeded()).expect(200);
    await_metric(&api, "escapement_attempts_running 0");
}
