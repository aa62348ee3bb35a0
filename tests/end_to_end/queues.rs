//! Workers outside the cluster: they lease from queues through any node, and what a silent one held goes to the next.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    await_status, call, cancel, execution, manual, refused_tokens, run, script, with,
};
use crate::harness::description::NOBODY;
use crate::harness::development::Development;
use crate::harness::outside::{lease, path, queued, reports, succeed};
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, millis, now_ms, until};

fn fencing(execution: &Value) -> u64 {
    text(execution, "lease_token").parse().expect("a number, though nobody should rely on it")
}

#[test]
fn a_worker_waits_is_woken_works_and_reports() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&queued("suite-7", "suites"));
    let waits = {
        let api = api.clone();
        thread::spawn(move || lease(&api, "suites", &json!({ "worker": "runner-1", "wait": "30s" })))
    };
    let id = run(&api, &task);
    let leased = waits.join().expect("the worker was answered");
    assert_eq!((leased.len(), text(&leased[0], "id")), (1, id.clone()));
    let mine = &leased[0];
    assert_eq!((&mine["payload"], &mine["status"]), (&json!({ "suite": "suite-7" }), &json!("running")));
    let beat = api.post(&path(mine, "heartbeat"), &json!({ "lease_token": mine["lease_token"] })).expect(200);
    assert!(millis(&beat["lease_until"]) >= millis(&mine["lease_until"]), "{beat}");
    let progress = json!({ "lease_token": mine["lease_token"], "percent": 66, "message": "2 of 3" });
    api.post(&path(mine, "progress"), &progress).expect(200);
    assert_eq!(execution(&api, &id)["progress"], json!({ "percent": 66, "message": "2 of 3" }));
    let holder = items(&api.get("/api/workers")).into_iter().find(|worker| worker["id"] == "runner-1");
    assert_eq!(holder.expect("it has something")["holds"][0]["execution_id"], json!(id));
    assert_eq!(succeed(&api, mine)["result"], json!({ "passed": 3 }));
    let again = json!({ "lease_token": mine["lease_token"], "outcome": "failed" });
    assert_eq!(api.post(&path(mine, "complete"), &again).status, 409, "it has ended");
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["TaskCreated", "TaskScheduled", "TaskStarted", "TaskProgress", "TaskCompleted"]);
}

#[test]
fn a_worker_that_shows_that_it_lives_keeps_its_attempt_beyond_its_first_lease() {
    let development = Development::start();
    let api = development.api();
    let id = run(&api, &api.create_id(&queued("long", "suites")));
    let mine = lease(&api, "suites", &json!({ "worker": "lives", "lease": "3s" })).remove(0);
    let first = millis(&mine["lease_until"]);
    until("its first lease is long over", || {
        let body = json!({ "lease_token": mine["lease_token"] });
        let beat = api.post(&path(&mine, "heartbeat"), &body).expect(200);
        now_ms() > first + 2_000 && millis(&beat["lease_until"]) > first + 4_000
    });
    assert_eq!(lease(&api, "suites", &json!({ "worker": "waits" })).len(), 0, "nobody else gets it");
    let ended = succeed(&api, &mine);
    assert_eq!((text(&ended, "id"), &ended["attempt"]), (id, &json!(1)), "{ended}");
}

#[test]
fn a_silent_worker_loses_its_attempt_to_the_next_under_a_higher_token() {
    let development = Development::start();
    let api = development.api();
    let request = |worker: &str| json!({ "worker": worker, "lease": "1s", "wait": "20s" });
    let often = api.create_id(&queued("often", "flaky"));
    let id = run(&api, &often);
    let first = lease(&api, "flaky", &request("dies")).remove(0);
    let second = lease(&api, "flaky", &request("lives")).remove(0);
    assert_eq!(text(&second, "id"), id);
    assert!(fencing(&second) > fencing(&first));
    let late = millis(&second["attempts"][1]["started_at"]) - millis(&first["lease_until"]);
    assert!((0..=1_000).contains(&late), "it was granted {late} ms after the end of the first lease");
    let late = json!({ "lease_token": first["lease_token"], "outcome": "succeeded" });
    assert_eq!(api.post(&path(&first, "complete"), &late).status, 409);
    succeed(&api, &second);
    assert_eq!(api.post(&path(&first, "complete"), &late).status, 409);
    assert_eq!(refused_tokens(&api, &id), [fencing(&first); 2], "while another has it, and after the end");
    let ended = await_status(&api, &id, "succeeded");
    let outcomes: Vec<&Value> =
        ended["attempts"].as_array().expect("a list").iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["lost", "succeeded"]);

    let once = with(queued("once", "flaky"), json!({ "delivery": "at_most_once" }));
    let id = run(&api, &api.create_id(&once));
    lease(&api, "flaky", &request("dies"));
    let lost = await_status(&api, &id, "lost");
    assert!(text(&lost, "reason").contains("until the lease was over"), "{lost}");
    assert_eq!(lease(&api, "flaky", &json!({ "worker": "lives" })).len(), 0, "never a second attempt");
}

#[test]
fn a_worker_that_lives_for_too_long_loses_its_attempt_however_often_it_says_so() {
    let development = Development::start();
    let api = development.api();
    let id = run(&api, &api.create_id(&with(queued("long", "long"), json!({ "timeout": "2s" }))));
    let mine = lease(&api, "long", &json!({ "worker": "w", "lease": "30s" })).remove(0);
    let beat = || api.post(&path(&mine, "heartbeat"), &json!({ "lease_token": mine["lease_token"] })).status;
    assert_eq!(beat(), 200);
    until("its time is over", || beat() == 409);
    let ended = await_status(&api, &id, "timed_out");
    let ran = millis(&ended["finished_at"]) - millis(&ended["attempts"][0]["started_at"]);
    assert!((2_000..4_000).contains(&ran), "it ran for {ran} ms");
}

#[test]
fn the_next_worker_is_told_what_the_last_one_said_has_failed() {
    let development = Development::start();
    let api = development.api();
    let retry = json!({ "retry": { "max_attempts": 3, "initial_delay": "50ms", "jitter": 0 } });
    let id = run(&api, &api.create_id(&with(queued("suite", "suites"), retry)));
    let next = |worker: &str| lease(&api, "suites", &json!({ "worker": worker, "wait": "20s" })).remove(0);
    let fail = |mine: &Value, failed: &Value| {
        let body = json!({ "lease_token": mine["lease_token"], "outcome": "failed", "failed_items": failed });
        api.post(&path(mine, "complete"), &body).expect(200);
    };
    let [many, few] = [json!(["b", { "case": 3 }]), json!([{ "case": 3 }])];
    let first = next("w1");
    assert_eq!(first["retry_items"], Value::Null, "{first}");
    fail(&first, &many);
    let second = next("w2");
    assert_eq!((text(&second, "id"), &second["attempt"]), (id.clone(), &json!(2)), "{second}");
    assert_eq!((&second["retry_items"], &second["payload"]), (&many, &first["payload"]), "{second}");
    fail(&second, &few);
    let third = next("w1");
    assert_eq!(third["retry_items"], few, "{third}");
    succeed(&api, &third);
    assert_eq!(await_status(&api, &id, "succeeded")["attempt"], 3);
}

/// Neither with the token of what it has itself, nor as another tenant's with the right one.
#[test]
fn a_worker_that_lies_changes_nothing() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    let stranger = api.with_token(&cluster.mint("eve", "rival", &["operator"]));
    let (honest, lying) = (api.create_id(&queued("honest", "one")), api.create_id(&queued("lying", "two")));
    let (id, _) = (run(&api, &honest), run(&api, &lying));
    let theirs = lease(&api, "one", &json!({ "worker": "honest" })).remove(0);
    let own = lease(&api, "two", &json!({ "worker": "liar" })).remove(0);
    let events = || items(&api.get(&format!("/api/scheduled-tasks/{honest}/events")));
    let before = events();
    for (what, said) in reports(&own["lease_token"]) {
        let refused = api.post(&path(&theirs, what), &said);
        assert_eq!(refused.status, 409, "{what}: {}", refused.body);
    }
    for (what, said) in reports(&theirs["lease_token"]) {
        let refused = stranger.post(&path(&theirs, what), &said);
        assert_eq!(refused.status, 404, "{what}: {}", refused.body);
    }
    assert_eq!(events(), before);
    assert_eq!(refused_tokens(&api, &id), [fencing(&own); 2], "what would have changed something is told");
    assert_eq!(execution(&api, &id)["progress"], Value::Null);
    assert_eq!(succeed(&api, &theirs)["status"], "succeeded", "its worker has it still");
}

/// With all that its worker knew: the token was good until another one took its place.
#[test]
fn what_is_said_under_an_old_token_changes_nothing_of_the_attempt_that_followed() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&queued("suite", "flaky"));
    let id = run(&api, &task);
    let take = |worker: &str, lease_for: &str| {
        lease(&api, "flaky", &json!({ "worker": worker, "lease": lease_for, "wait": "20s" })).remove(0)
    };
    let (first, second) = (take("dies", "1s"), take("lives", "5m"));
    let mine = &second["lease_token"];
    let far = json!({ "lease_token": mine, "percent": 40, "message": "2 of 5" });
    api.post(&path(&second, "progress"), &far).expect(200);
    let stream = || items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    let (known, before) = (execution(&api, &id), stream());
    let next = json!((fencing(&second) + 1).to_string());
    for token in [&first["lease_token"], &next] {
        for (what, said) in reports(token) {
            let refused = api.post(&path(&second, what), &said);
            assert_eq!(refused.status, 409, "{what} under {token}: {}", refused.body);
        }
    }
    assert_eq!((execution(&api, &id), stream()), (known, before));
    let [old, unborn] = [fencing(&first), fencing(&second) + 1];
    assert_eq!(refused_tokens(&api, &id), [old, old, unborn, unborn], "what it would have changed is told");
    api.post(&path(&second, "heartbeat"), &json!({ "lease_token": mine })).expect(200);
    assert_eq!(succeed(&api, &second)["result"], json!({ "passed": 3 }), "its worker has it still");
}

#[test]
fn of_two_ends_of_an_attempt_the_first_holds_whatever_the_second_says() {
    let development = Development::start();
    let api = development.api();
    let retry =
        json!({ "retry": { "max_attempts": 2, "initial_delay": "1h", "max_delay": "1h", "jitter": 0 } });
    for (fields, outcome, status) in [
        (json!({}), "succeeded", "succeeded"),
        (json!({}), "failed", "failed"),
        (retry, "failed", "retrying"),
    ] {
        let id = run(&api, &api.create_id(&with(queued("suite", "suites"), fields)));
        let mine = lease(&api, "suites", &json!({ "worker": "w" })).remove(0);
        let end = |outcome: &str, result: u32| {
            let body = json!({ "lease_token": mine["lease_token"], "outcome": outcome, "result": result });
            api.post(&path(&mine, "complete"), &body)
        };
        let ended = end(outcome, 1).expect(200);
        let attempt = &ended["attempts"][0];
        assert_eq!((&ended["status"], &attempt["outcome"]), (&json!(status), &json!(outcome)), "{ended}");
        for (second, result) in [("succeeded", 2), ("failed", 3), (outcome, 1)] {
            let refused = end(second, result);
            assert_eq!(refused.status, 409, "{second} after {status}: {}", refused.body);
        }
        for (what, said) in reports(&mine["lease_token"]) {
            assert_eq!(api.post(&path(&mine, what), &said).status, 409, "{what} after {status}");
        }
        assert_eq!(execution(&api, &id), ended, "it is as the first one said");
        assert_eq!(refused_tokens(&api, &id), [fencing(&mine); 5], "three ends, a progress and an end");
    }
    assert!(lease(&api, "suites", &json!({ "worker": "w" })).is_empty(), "nothing was made again");
}

/// Nor under the very token of the attempt, if it is a node that has it.
#[test]
fn nobody_reports_on_what_waits_on_what_a_node_does_or_on_what_is_not_there() {
    let development = Development::start();
    let api = development.api();
    let waits = run(&api, &api.create_id(&queued("waits", "suites")));
    let told = development.place().join("token");
    let tell = format!("echo $ESCAPEMENT_FENCING_TOKEN > {0}.new; mv {0}.new {0}", told.display());
    let works = script("works", &manual(), &format!("{tell}; exec sleep 600"));
    let works = run(&api, &api.create_id(&works));
    let token = eventually("the program tells its token", || std::fs::read_to_string(&told).ok());
    let token = token.trim();
    assert!(token.parse::<u64>().is_ok(), "{token}");
    let known = [&waits, &works].map(|id| execution(&api, id));
    assert_eq!((&known[0]["status"], &known[1]["status"]), (&json!("queued"), &json!("running")));
    let guesses = ["0", "1", "999999", "18446744073709551616", "-1", "", "rubbish", token];
    for id in [&waits, &works] {
        for guess in guesses {
            for (what, said) in reports(&json!(guess)) {
                let refused = api.post(&format!("/api/executions/{id}/{what}"), &said);
                assert_eq!(refused.status, 409, "{what} of {id} under {guess}: {}", refused.body);
            }
        }
        assert_eq!(refused_tokens(&api, id).len(), 2 * guesses.len(), "what would have changed it is told");
    }
    assert_eq!([&waits, &works].map(|id| execution(&api, id)), known);
    for (what, said) in reports(&json!(token)) {
        let refused = api.post(&format!("/api/executions/{NOBODY}/{what}"), &said);
        assert_eq!(refused.status, 404, "{what}: {}", refused.body);
        let refused = api.anonymous().post(&format!("/api/executions/{works}/{what}"), &said);
        assert_eq!(refused.status, 401, "{what}: {}", refused.body);
    }
    let mine = lease(&api, "suites", &json!({ "worker": "w" })).remove(0);
    assert_eq!((text(&mine, "id"), &mine["attempt"]), (waits, &json!(1)));
    cancel(&api, &works);
}

#[test]
fn a_low_priority_is_leased_after_a_hundred_that_passed_it_over() {
    let development = Development::start();
    let api = development.api();
    let of = |priority: u8| api.create_id(&with(queued("suite", "busy"), json!({ "priority": priority })));
    let (low, high) = (of(0), of(9));
    let waits = run(&api, &low);
    (0..102).for_each(|_| drop(run(&api, &high)));
    let leased = lease(&api, "busy", &json!({ "worker": "w", "max": 100 }));
    assert!(leased.len() == 100 && leased.iter().all(|leased| leased["task_id"] == json!(high)));
    let next = lease(&api, "busy", &json!({ "worker": "w", "max": 3 }));
    assert_eq!(next.iter().map(|next| text(next, "task_id")).collect::<Vec<_>>(), [low, high.clone(), high]);
    assert_eq!(text(&next[0], "id"), waits);
}

#[test]
fn a_cancel_reaches_a_worker_with_its_next_sign_of_life() {
    let development = Development::start();
    let api = development.api();
    let id = run(&api, &api.create_id(&queued("long", "suites")));
    let mine = lease(&api, "suites", &json!({ "worker": "w", "lease": "30s" })).remove(0);
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    let beat =
        api.post(&path(&mine, "heartbeat"), &json!({ "lease_token": mine["lease_token"] })).expect(200);
    assert_eq!(beat["cancel"], true);
    let stopped = json!({ "lease_token": mine["lease_token"], "outcome": "failed", "error": "told to stop" });
    assert_eq!(api.post(&path(&mine, "complete"), &stopped).expect(200)["status"], "cancelled");
}

#[test]
fn a_worker_that_waits_is_listed_by_every_node_until_it_leaves() {
    let cluster = Cluster::start(3);
    let waits = {
        let api = cluster.api(1);
        thread::spawn(move || lease(&api, "suites", &json!({ "worker": "idle", "wait": "60s" })))
    };
    let listed = |node: u64| {
        let workers = items(&cluster.api(node).get("/api/workers"));
        let running =
            workers.iter().filter(|worker| worker["id"] == "idle").map(|worker| worker["running"].clone());
        running.collect::<Vec<_>>()
    };
    until("each node lists it", || (1..=3).all(|node| listed(node) == [0]));
    let api = cluster.api(2);
    run(&api, &api.create_id(&queued("suite", "suites")));
    let leased = waits.join().expect("the worker was answered").remove(0);
    assert_eq!((1..=3).map(listed).collect::<Vec<_>>(), [[1]; 3]);
    succeed(&api, &leased);
    assert!((1..=3).all(|node| listed(node).is_empty()), "it asks no more");
}

#[test]
fn a_worker_that_waits_has_its_place_at_a_pool_that_nodes_want_without_end() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    ask(&api, &["pool", "put", "staging", "--capacity", "1"], None).expect(0);
    let shared = json!({ "resources": { "staging": 1 }, "overlap": "allow" });
    let busy = api.create_id(&with(call("busy", &manual(), &target.url("/slow/500")), shared.clone()));
    let suite = api.create_id(&with(with(queued("suite", "ios"), shared), json!({ "priority": 9 })));
    let waits = {
        let api = api.clone();
        thread::spawn(move || lease(&api, "ios", &json!({ "worker": "w", "wait": "30s" })))
    };
    until("a worker waits", || items(&api.get("/api/workers")).iter().any(|one| one["id"] == "w"));
    let before: Vec<String> = (0..40).map(|_| run(&api, &busy)).collect();
    let id = run(&api, &suite);
    let leased = waits.join().expect("the worker was answered");
    assert_eq!(leased.iter().map(|leased| text(leased, "id")).collect::<Vec<_>>(), [id]);
    let left = before.iter().filter(|id| execution(&api, id)["status"] == "queued").count();
    assert!(left >= 20, "{left} of what nodes do still waits");
    let events = items(&api.get("/api/audit/events?limit=1000"));
    assert!(events.iter().any(|event| event["type"] == "QueueAttended" && event["data"]["queue"] == "ios"));
}

/// Forty executions, four workers on two nodes, and the leader dies while they work: each execution is completed by whoever
/// had it, once.
#[test]
fn leases_outlive_the_leader_that_granted_them() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let followers: Vec<u64> = cluster.running().into_iter().filter(|id| *id != leader).collect();
    let api = cluster.api(followers[0]);
    let task = api.create_id(&queued("suite", "suites"));
    for _ in 0..40 {
        run(&api, &task);
    }
    let ask =
        |worker: usize| json!({ "worker": format!("w{worker}"), "max": 5, "lease": "30s", "wait": "1s" });
    let mut held: Vec<(Api, Value)> = Vec::new();
    for worker in 0..4 {
        let api = cluster.api(followers[worker % 2]);
        held.extend(
            lease(&api, "suites", &ask(worker)).into_iter().map(|execution| (api.clone(), execution)),
        );
    }
    assert_eq!(held.len(), 20);
    cluster.kill(leader);
    until("a new leader hears signs of life", || {
        held.iter().all(|(api, mine)| {
            let body = json!({ "lease_token": mine["lease_token"] }).to_string();
            let beat = api.try_send("POST", &path(mine, "heartbeat"), &[], Some(&body));
            beat.is_ok_and(|beat| beat.status == 200)
        })
    });
    for (api, mine) in &held {
        succeed(api, mine);
    }
    let mut completed: BTreeSet<String> = held.iter().map(|(_, mine)| text(mine, "id")).collect();
    assert_eq!(completed.len(), 20, "nobody shares an execution");
    eventually("the rest is worked off", || {
        for mine in lease(&api, "suites", &ask(9)) {
            succeed(&api, &mine);
            assert!(completed.insert(text(&mine, "id")), "it was completed before");
        }
        (completed.len() == 40).then_some(())
    });
    let counts = api.get("/api/executions/status");
    assert_eq!(counts["counts"]["succeeded"], 40, "{counts}");
}

/// Who waits is woken by whatever lets something go, not just by what is queued.
#[test]
fn a_waiting_worker_is_woken_when_its_queue_is_resumed_and_when_a_pool_is_given_back() {
    let development = Development::start();
    let api = development.api();
    api.send("PUT", "/api/pools/devices", &[], Some(r#"{"capacity": 1}"#)).expect(201);
    let task = api.create_id(&with(queued("suite", "suites"), json!({ "resources": { "devices": 1 } })));
    api.post("/api/queues/suites/pause", &Value::Null).expect(200);
    let (first, second) = (run(&api, &task), run(&api, &task));
    assert!(lease(&api, "suites", &json!({ "worker": "w0" })).is_empty(), "nothing of a paused queue");
    assert!(text(&execution(&api, &first), "waiting_for").contains("to be resumed"));
    let wait = |worker: &'static str| {
        let api = api.clone();
        thread::spawn(move || lease(&api, "suites", &json!({ "worker": worker, "max": 5, "wait": "60s" })))
    };
    let waits = wait("w1");
    let begun = now_ms();
    api.post("/api/queues/suites/resume", &Value::Null).expect(200);
    let leased = waits.join().expect("the worker was answered");
    assert_eq!((leased.len(), text(&leased[0], "id")), (1, first), "one device, one suite");
    assert_eq!(api.get("/api/pools/devices")["held"], 1);
    assert_eq!(execution(&api, &second)["waiting_for"], "it waits for the pool `devices`");
    let waits = wait("w2");
    succeed(&api, &leased[0]);
    let leased = waits.join().expect("the worker was answered");
    assert_eq!((leased.len(), text(&leased[0], "id")), (1, second));
    assert!(now_ms() - begun < 30_000, "nobody waited in vain");
    api.post("/api/queues/suites/pause", &Value::Null).expect(200);
    let queue = api.get("/api/queues/suites");
    assert_eq!(
        (&queue["running"], &queue["drained"]),
        (&json!(1), &json!(false)),
        "it is finished meanwhile"
    );
    succeed(&api, &leased[0]);
    until("the queue is drained", || api.get("/api/queues/suites")["drained"] == true);
}
