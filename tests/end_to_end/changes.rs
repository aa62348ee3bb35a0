//! What becomes of what is open while somebody changes what it depends on: its task, a limit, a breaker, its own place.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::breakers::{breaker, half_open, key_of};
use crate::harness::definitions::{
    await_status, call, cancel, execution, long, manual, noop, replace, run, with,
};
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued, succeed};
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until};

fn task_path(task: &str) -> String {
    format!("/api/scheduled-tasks/{task}")
}

#[track_caller]
fn await_cancelled(api: &Api, id: &str) {
    let ended = await_status(api, id, "cancelled");
    assert!(text(&ended, "reason").contains("deleted"), "{ended}");
}

#[test]
fn with_its_task_goes_all_that_waits_and_a_worker_is_told_to_stop() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let delete = |task: &str| drop(api.send("DELETE", &task_path(task), &[], None).expect(204));

    let leasing = api.create_id(&with(queued("leasing", "suites"), json!({ "overlap": "queue_all" })));
    let [leased, held] = [run(&api, &leasing), run(&api, &leasing)];
    let mine = lease(&api, "suites", &json!({ "worker": "w", "wait": "20s" })).remove(0);
    assert_eq!((text(&mine, "id"), &execution(&api, &held)["attempt"]), (leased.clone(), &json!(0)));
    delete(&leasing);
    await_cancelled(&api, &held);
    let beat =
        api.post(&path(&mine, "heartbeat"), &json!({ "lease_token": mine["lease_token"] })).expect(200);
    assert_eq!(beat["cancel"], true, "{beat}");
    let stopped = json!({ "lease_token": mine["lease_token"], "outcome": "failed" });
    api.post(&path(&mine, "complete"), &stopped).expect(200);
    await_cancelled(&api, &leased);

    let waiting = api.create_id(&queued("waiting", "nobody"));
    let queued = run(&api, &waiting);
    delete(&waiting);
    await_cancelled(&api, &queued);
    assert!(lease(&api, "nobody", &json!({ "worker": "w" })).is_empty());

    let retry = json!({ "retry": { "max_attempts": 5, "initial_delay": "1h", "max_delay": "1h" } });
    let failing = api.create_id(&with(call("failing", &manual(), &target.url("/status/500")), retry));
    let retrying = run(&api, &failing);
    await_status(&api, &retrying, "retrying");
    delete(&failing);
    await_cancelled(&api, &retrying);
    assert_eq!(target.calls_to("/status/500").len(), 1);
}

#[test]
fn what_is_between_two_attempts_is_cancelled_at_once_and_made_again_only_by_hand() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let retry = json!({ "retry": { "max_attempts": 5, "initial_delay": "1h", "max_delay": "1h" } });
    let task = api.create_id(&with(call("failing", &manual(), &target.url("/fail/1")), retry));
    let id = run(&api, &task);
    await_status(&api, &id, "retrying");
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    let ended = await_status(&api, &id, "cancelled");
    assert_eq!(ended["attempt"], 1, "{ended}");
    ask(&api, &["execution", "retry", &id], None).expect(0);
    let ended = await_status(&api, &id, "succeeded");
    assert_eq!((&ended["attempt"], target.calls_to("/fail/1").len()), (&json!(2), 2), "{ended}");
}

#[test]
fn what_waits_runs_by_the_definition_that_it_was_made_by_and_what_is_next_by_the_new_one() {
    let development = Development::start();
    let api = development.api();
    let before = with(queued("suite", "old"), json!({ "overlap": "queue_all" }));
    let task = api.create_id(&before);
    let [running, held] = [run(&api, &task), run(&api, &task)];
    let first = lease(&api, "old", &json!({ "worker": "w", "wait": "20s" })).remove(0);
    assert_eq!(text(&first, "id"), running);
    replace(&api, &task, &with(queued("suite", "new"), json!({ "overlap": "queue_all" })));
    let next = run(&api, &task);
    assert_eq!(succeed(&api, &first)["status"], "succeeded", "its lease holds");
    let mut seen = Vec::new();
    until("both that waited are leased", || {
        for queue in ["old", "new"] {
            for mine in lease(&api, queue, &json!({ "worker": "w" })) {
                succeed(&api, &mine);
                seen.push((queue, text(&mine, "id"), mine["task_version"].clone()));
            }
        }
        seen.len() == 2
    });
    assert_eq!(seen, [("old", held, json!(1)), ("new", next, json!(2))]);
}

#[test]
fn a_limit_that_is_lowered_takes_nothing_away_and_one_that_is_deleted_lets_all_go() {
    let development = Development::start();
    let api = development.api();
    let limit = |most: &str| {
        ask(&api, &["limit", "put", "label", "team=qa", "--max-concurrent", most], None).expect(0);
    };
    limit("2");
    let task = api.create_id(&long("long", json!({ "labels": { "team": "qa" } })));
    let ids: Vec<String> = (0..4).map(|_| run(&api, &task)).collect();
    let running = |expected: &[usize]| {
        for place in expected {
            await_status(&api, &ids[*place], "running");
        }
        let all = ids.iter().filter(|id| execution(&api, id)["status"] == "running").count();
        assert_eq!(all, expected.len());
    };
    running(&[0, 1]);
    limit("1");
    running(&[0, 1]);
    cancel(&api, &ids[0]);
    running(&[1]);
    assert!(text(&execution(&api, &ids[2]), "waiting_for").contains("team=qa"));
    cancel(&api, &ids[1]);
    running(&[2]);
    ask(&api, &["limit", "delete", "label", "team=qa"], None).expect(0);
    running(&[2, 3]);
}

#[test]
fn a_breaker_whose_probe_is_cancelled_lets_the_next_one_try() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let (probe, waits) = half_open(&api, &target, "at_least_once");
    cancel(&api, &probe);
    await_status(&api, &waits, "succeeded");
    assert_eq!(breaker(&api, &target)["state"], "closed");
}

#[test]
fn a_breaker_that_is_set_by_hand_during_its_probe_stays_as_it_was_set() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let (probe, waits) = half_open(&api, &target, "at_least_once");
    let (key, state) = (key_of(&target), || text(&breaker(&api, &target), "state"));
    ask(&api, &["breaker", "open", &key], None).expect(0);
    cancel(&api, &probe);
    assert_eq!((state(), &execution(&api, &waits)["attempt"]), ("open".into(), &json!(0)));
    ask(&api, &["breaker", "close", &key], None).expect(0);
    await_status(&api, &waits, "succeeded");
    assert_eq!(state(), "closed");
}

#[test]
fn one_that_waits_for_its_turn_has_its_new_priority_when_it_comes() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&with(queued("one", "suites"), json!({ "overlap": "queue_all" })));
    let rival = api.create_id(&with(queued("rival", "suites"), json!({ "priority": 8 })));
    let [first, held] = [run(&api, &task), run(&api, &task)];
    let next = || {
        let mine = eventually("something is leased", || {
            lease(&api, "suites", &json!({ "worker": "w", "wait": "1s" })).into_iter().next()
        });
        (text(&mine, "id"), mine)
    };
    let (leased, mine) = next();
    assert_eq!(leased, first);
    ask(&api, &["execution", "priority", &held, "9"], None).expect(0);
    assert_eq!(execution(&api, &held)["priority"], 9);
    let rival = run(&api, &rival);
    succeed(&api, &mine);
    assert_eq!([next().0, next().0], [held, rival]);
}

#[test]
fn a_worker_whose_execution_takes_too_long_in_all_is_told_to_stop_and_is_not_replaced() {
    let development = Development::start();
    let api = development.api();
    let fields =
        json!({ "execution_timeout": "2s", "retry": { "max_attempts": 9, "initial_delay": "50ms" } });
    let id = run(&api, &api.create_id(&with(queued("long", "suites"), fields)));
    let mine = lease(&api, "suites", &json!({ "worker": "w", "lease": "30s", "wait": "20s" })).remove(0);
    let beat =
        || api.post(&path(&mine, "heartbeat"), &json!({ "lease_token": mine["lease_token"] })).expect(200);
    until("it is told to stop", || beat()["cancel"] == true);
    let stopped = json!({ "lease_token": mine["lease_token"], "outcome": "failed" });
    api.post(&path(&mine, "complete"), &stopped).expect(200);
    let ended = await_status(&api, &id, "timed_out");
    assert!(text(&ended, "reason").contains("execution_timeout"), "{ended}");
    assert!(lease(&api, "suites", &json!({ "worker": "w" })).is_empty(), "no further attempt");
    let events = items(&api.get(&format!("{}/events", task_path(&text(&ended, "task_id")))));
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["TaskCreated", "TaskScheduled", "TaskStarted", "TaskCancelRequested", "TaskTimedOut"]);
}

/// A share that a task asks for is one of the definition that made its execution, also when the definition asks for none by now.
#[test]
fn what_a_definition_asked_for_is_given_back_although_it_asks_for_it_no_more() {
    let development = Development::start();
    let api = development.api();
    ask(&api, &["pool", "put", "staging", "--capacity", "1"], None).expect(0);
    let task = api.create_id(&long("long", json!({ "resources": { "staging": 1 } })));
    let [holds, waits] = [run(&api, &task), run(&api, &task)];
    await_status(&api, &holds, "running");
    replace(&api, &task, &long("long", json!({})));
    let free = run(&api, &task);
    await_status(&api, &free, "running");
    assert_eq!(execution(&api, &waits)["waiting_for"], "it waits for the pool `staging`");
    for id in [&holds, &waits] {
        await_status(&api, id, "running");
        assert_eq!(api.get("/api/pools/staging")["held"], 1);
        cancel(&api, id);
    }
    until("it is given back", || api.get("/api/pools/staging")["held"] == 0);
    ask(&api, &["pool", "delete", "staging"], None).expect(0);
    await_status(&api, &run(&api, &api.create_id(&noop("after", &manual()))), "succeeded");
}
