//! Who gets which attempt: pools, limits, circuit breakers, priorities and fair shares, on the real program.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::breakers::{breaker, key_of, turns};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::{
    await_status, call, cancel, execution, long, manual, noop, run, script, with, worker_of,
};
use crate::harness::development::Development;
use crate::harness::metrics::await_metric;
use crate::harness::outside::{lease, path, queued, succeed};
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, millis, until};

#[track_caller]
fn put(api: &Api, path: &str, body: &Value) -> Value {
    let reply = api.send("PUT", path, &[], Some(&body.to_string()));
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    reply.json()
}

fn guarded(name: &str, url: &str, open_for: &str) -> Value {
    let breaker = json!({ "failure_threshold": 2, "open_for": open_for });
    with(call(name, &manual(), url), json!({ "circuit_breaker": breaker, "overlap": "allow" }))
}

#[test]
fn what_a_pool_has_not_left_waits_and_gets_it_when_it_is_given_back() {
    let development = Development::start();
    let api = development.api();
    ask(&api, &["pool", "put", "staging", "--capacity", "1"], None).expect(0);
    let one = api.create_id(&long("one", json!({ "resources": { "staging": 1 } })));
    let two = api.create_id(&long("two", json!({ "resources": { "staging": 1 } })));
    let first = run(&api, &one);
    await_status(&api, &first, "running");
    let second = run(&api, &two);
    assert_eq!(execution(&api, &second)["waiting_for"], "it waits for the pool `staging`");
    let shown = ask(&api, &["pool", "show", "staging"], None).expect(0).out;
    assert!(shown.contains(&first) && shown.contains(&second), "{shown}");
    let refused = ask(&api, &["pool", "delete", "staging"], None).expect(1).err;
    assert!(refused.contains("2 tasks ask for shares"), "{refused}");
    cancel(&api, &first);
    await_status(&api, &second, "running");
    // A deleted task gives back what it had, too.
    api.send("DELETE", &format!("/api/scheduled-tasks/{two}"), &[], None).expect(204);
    until("all is given back", || api.get("/api/pools/staging")["held"] == 0);
    let huge = api.post("/api/scheduled-tasks", &long("huge", json!({ "resources": { "staging": 2 } })));
    assert_eq!(huge.expect(422)["errors"][0]["pointer"], "/resources/staging");
}

#[test]
fn limits_hold_over_labels_tasks_and_the_tenant() {
    let development = Development::start();
    let api = development.api();
    let labelled = api.create_id(&long("labelled", json!({ "labels": { "team": "qa" } })));
    let single = api.create_id(&long("single", json!({ "max_concurrent": 1 })));
    ask(&api, &["limit", "put", "label", "team=qa", "--max-concurrent", "1"], None).expect(0);
    let running = [run(&api, &labelled), run(&api, &single)];
    running.iter().for_each(|id| drop(await_status(&api, id, "running")));
    for (task, reason) in [(&labelled, "the label `team=qa`"), (&single, "max_concurrent: 1")] {
        let waits = run(&api, task);
        let told = text(&execution(&api, &waits), "waiting_for");
        assert!(told.contains(reason), "{told}");
    }
    put(&api, "/api/limits/tenant/acme", &json!({ "max_concurrent": 2 }));
    let other = run(&api, &api.create_id(&noop("other", &manual())));
    assert!(text(&execution(&api, &other), "waiting_for").contains("the whole tenant"));
    ask(&api, &["limit", "delete", "tenant", "acme"], None).expect(0);
    await_status(&api, &other, "succeeded");
}

#[test]
fn a_breaker_opens_lets_nobody_call_and_closes_by_a_probe() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let failing = api.create_id(&guarded("failing", &target.url("/status/503"), "2s"));
    let good = api.create_id(&guarded("good", &target.url("/ok"), "2s"));
    for _ in 0..2 {
        await_status(&api, &run(&api, &failing), "failed");
    }
    let opened = breaker(&api, &target);
    assert_eq!((&opened["state"], &opened["failures"]), (&json!("open"), &json!(2)), "{opened}");
    let waits = run(&api, &good);
    assert!(text(&execution(&api, &waits), "waiting_for").contains("breaker"));
    let done = await_status(&api, &waits, "succeeded");
    assert!(millis(&done["started_at"]) >= millis(&opened["open_until"]), "{done}");
    assert_eq!(done["attempt"], 1, "no attempt was burnt");
    assert_eq!(breaker(&api, &target)["state"], "closed");
    let types: Vec<String> = items(&api.get("/api/audit/events?limit=1000"))
        .iter()
        .map(|event| text(event, "type"))
        .filter(|name| name.starts_with("Breaker"))
        .collect();
    assert_eq!(types, ["BreakerOpened", "BreakerHalfOpened", "BreakerClosed"]);
    let metrics = api.send("GET", "/metrics", &[], None).body;
    assert!(metrics.contains("escapement_breakers{state=\"closed\"}"), "{metrics}");
    // By hand, and it stays so.
    ask(&api, &["breaker", "open", &key_of(&target)], None).expect(0);
    let waits = run(&api, &good);
    assert_eq!(breaker(&api, &target)["open_until"], Value::Null);
    ask(&api, &["breaker", "close", &key_of(&target)], None).expect(0);
    await_status(&api, &waits, "succeeded");
}

#[test]
fn a_new_leader_knows_what_is_open_and_what_is_held() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let api = cluster.any();
    put(&api, "/api/pools/staging", &json!({ "capacity": 2 }));
    let failing = api.create_id(&guarded("failing", &target.url("/status/503"), "4s"));
    let good = api.create_id(&guarded("good", &target.url("/ok"), "4s"));
    let holding = api.create_id(&long("holding", json!({ "resources": { "staging": 2 } })));
    let first = run(&api, &holding);
    await_status(&api, &first, "running");
    for _ in 0..2 {
        await_status(&api, &run(&api, &failing), "failed");
    }
    let opened = breaker(&api, &target);
    let waits = run(&api, &good);
    cluster.kill(cluster.leader());
    cluster.leader();
    let api = cluster.any();
    assert_eq!(breaker(&api, &target)["open_until"], opened["open_until"], "the same end");
    let done = await_status(&api, &waits, "succeeded");
    assert!(millis(&done["started_at"]) >= millis(&opened["open_until"]), "{done}");
    until("the pool is held by the one that runs, wherever", || {
        api.get("/api/pools/staging")["held"] == 2 && execution(&api, &first)["status"] == "running"
    });
}

#[test]
fn what_waits_goes_by_priority_and_the_priority_is_changed_by_hand() {
    let cluster = Cluster::start_with(1, Settings { slots: Some(1), ..Settings::default() });
    let api = cluster.any();
    let blocker = run(&api, &api.create_id(&long("blocker", json!({}))));
    await_status(&api, &blocker, "running");
    let queued: Vec<String> = (0..3)
        .map(|number| {
            run(&api, &api.create_id(&with(noop("n", &manual()), json!({ "priority": 4 + number }))))
        })
        .collect();
    let told = ask(&api, &["execution", "priority", &queued[0], "9"], None).expect(0).out;
    assert_eq!(told, format!("execution {} has priority 9 now\n", queued[0]));
    let path = format!("/api/executions/{blocker}");
    api.send("PATCH", &path, &[], Some(r#"{"priority": 1}"#)).expect(409);
    cancel(&api, &blocker);
    let started: Vec<i64> = [&queued[0], &queued[2], &queued[1]]
        .into_iter()
        .map(|id| await_status(&api, id, "succeeded")["log_index"].as_i64().map(|_| id))
        .map(|id| {
            let events = items(&api.get("/api/audit/events?limit=1000"));
            let of =
                |event: &&Value| event["type"] == "TaskStarted" && event["data"]["execution_id"] == json!(id);
            events.iter().find(of).and_then(|event| event["seq"].as_i64()).expect("it was granted")
        })
        .collect();
    assert!(started.is_sorted(), "{started:?}");
}

#[test]
fn a_tenant_gets_its_share_however_much_another_has_queued() {
    let cluster = Cluster::start_with(1, Settings { slots: Some(2), ..Settings::default() });
    let acme = cluster.any();
    let other = acme.with_token(&cluster.mint("bob", "rival", &["admin"]));
    let slow = with(script("slow", &manual(), "sleep 0.3"), json!({ "overlap": "allow" }));
    let task = acme.create_id(&slow);
    let flood: Vec<String> = (0..30).map(|_| run(&acme, &task)).collect();
    let small = run(&other, &other.create_id(&slow));
    await_status(&other, &small, "succeeded");
    let ended = flood.iter().filter(|id| execution(&acme, id)["status"] == "succeeded").count();
    assert!(ended < 15, "{ended} of the other tenant's 30 went first");
}

#[test]
fn a_queue_is_paused_and_resumed_on_the_command_line() {
    let development = Development::start();
    let api = development.api();
    let told = ask(&api, &["queue", "pause", "ios"], None).expect(0).out;
    assert_eq!(told, "queue ios is paused: 0 wait, 0 run\n");
    let listed = ask(&api, &["queue", "list"], None).expect(0).out;
    assert!(listed.contains("drained"), "{listed}");
    ask(&api, &["queue", "resume", "ios"], None).expect(0);
    eventually("no queue is known any more", || items(&api.get("/api/queues")).is_empty().then_some(()));
}

#[test]
fn a_limit_on_a_queue_holds_over_all_of_its_workers() {
    let development = Development::start();
    let api = development.api();
    ask(&api, &["limit", "put", "queue", "ios", "--max-concurrent", "1"], None).expect(0);
    let task = api.create_id(&queued("suite", "ios"));
    let (first, second) = (run(&api, &task), run(&api, &task));
    let ids = |leased: &[Value]| leased.iter().map(|leased| text(leased, "id")).collect::<Vec<_>>();
    let leased = lease(&api, "ios", &json!({ "worker": "w1", "max": 5 }));
    assert_eq!(ids(&leased), [first]);
    assert!(lease(&api, "ios", &json!({ "worker": "w2" })).is_empty());
    let told = text(&execution(&api, &second), "waiting_for");
    assert!(told.contains("the limit on the queue `ios`"), "{told}");
    let limit = api.get("/api/limits/queue/ios");
    assert_eq!((&limit["running"], &limit["waiting"]), (&json!(1), &json!(1)), "{limit}");
    let elsewhere = run(&api, &api.create_id(&queued("suite", "android")));
    assert_eq!(ids(&lease(&api, "android", &json!({ "worker": "w2" }))), [elsewhere]);
    succeed(&api, &leased[0]);
    assert_eq!(ids(&lease(&api, "ios", &json!({ "worker": "w2" }))), [second]);
}

#[test]
fn a_probe_goes_alone_and_one_that_fails_opens_the_breaker_again() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let failing = api.create_id(&guarded("failing", &target.url("/status/503"), "2s"));
    let slow = api.create_id(&guarded("slow", &target.url("/slow/1500"), "2s"));
    for _ in 0..2 {
        await_status(&api, &run(&api, &failing), "failed");
    }
    let probe = run(&api, &failing);
    let waits: Vec<String> = (0..3).map(|_| run(&api, &slow)).collect();
    await_status(&api, &probe, "failed");
    assert_eq!(target.calls_to("/status/503").len(), 3, "two that opened it, and one that tried");
    waits.iter().for_each(|id| drop(await_status(&api, id, "succeeded")));
    let calls = target.calls_to("/slow/1500");
    assert_eq!(calls.len(), 3);
    let alone = calls[1].at_ms - calls[0].at_ms;
    assert!(alone >= 1_500, "the second call came {alone} ms after the probe, which was not answered yet");
    assert_eq!(turns(&api), ["Opened", "HalfOpened", "Opened", "HalfOpened", "Closed"]);
    let metric = |state: &str| await_metric(&api, &format!("escapement_breakers{{state=\"{state}\"}} 1"));
    metric("closed");
    ask(&api, &["breaker", "open", &key_of(&target)], None).expect(0);
    metric("open");
}

#[test]
fn a_breaker_that_one_tenant_opened_holds_up_no_other() {
    let (cluster, target) = (Cluster::start(1), Target::start());
    let acme = cluster.any();
    let rival = acme.with_token(&cluster.mint("bob", "rival", &["admin"]));
    let begin = |api: &Api, path: &str| run(api, &api.create_id(&guarded("calls", &target.url(path), "1h")));
    for _ in 0..2 {
        await_status(&acme, &begin(&acme, "/status/503"), "failed");
    }
    assert_eq!(breaker(&acme, &target)["state"], "open");
    let waits = begin(&acme, "/ok");
    let told = text(&execution(&acme, &waits), "waiting_for");
    assert!(told.contains("breaker"), "{told}");
    let theirs = breaker(&rival, &target);
    assert_eq!((&theirs["state"], &theirs["failures"]), (&json!("closed"), &json!(0)), "{theirs}");
    await_status(&rival, &begin(&rival, "/ok"), "succeeded");
    // Nor does the other's success, or hand, close it.
    ask(&rival, &["breaker", "close", &key_of(&target)], None).expect(0);
    assert_eq!(breaker(&acme, &target)["state"], "open");
    assert_eq!((&execution(&acme, &waits)["attempt"], target.calls_to("/ok").len()), (&json!(0), 1));
    ask(&acme, &["breaker", "close", &key_of(&target)], None).expect(0);
    await_status(&acme, &waits, "succeeded");
}

#[test]
fn a_breaker_keeps_a_queue_and_a_program_from_being_tried_in_vain() {
    let development = Development::start();
    let api = development.api();
    let breaker =
        json!({ "circuit_breaker": { "failure_threshold": 2, "open_for": "4s" }, "overlap": "allow" });
    let asked = json!({ "worker": "w1", "max": 5 });
    let fail = |leased: &Value| {
        let body = json!({ "lease_token": leased["lease_token"], "outcome": "failed", "error": "no device" });
        api.post(&path(leased, "complete"), &body).expect(200);
    };
    let suite = api.create_id(&with(queued("suite", "ios"), breaker.clone()));
    for _ in 0..2 {
        run(&api, &suite);
        fail(&lease(&api, "ios", &asked)[0]);
    }
    let state = |key: &str| text(&api.get(&format!("/api/breakers/{key}")), "state");
    assert_eq!(state("queue:ios"), "open");
    let waits = [run(&api, &suite), run(&api, &suite)];
    assert!(lease(&api, "ios", &asked).is_empty(), "nothing is to be had while it is open");
    let told = text(&execution(&api, &waits[1]), "waiting_for");
    assert!(told.contains("breaker"), "{told}");
    let probe = lease(&api, "ios", &json!({ "worker": "w1", "max": 5, "wait": "10s" }));
    assert_eq!(
        probe.iter().map(|leased| text(leased, "id")).collect::<Vec<_>>(),
        [waits[0].clone()],
        "one tries"
    );
    assert_eq!(state("queue:ios"), "half_open");
    succeed(&api, &probe[0]);
    assert_eq!(state("queue:ios"), "closed");
    assert_eq!(text(&lease(&api, "ios", &asked)[0], "id"), waits[1]);

    let program =
        |name: &str, code: &str| api.create_id(&with(script(name, &manual(), code), breaker.clone()));
    let (broken, sound) = (program("broken", "exit 7"), program("sound", "exit 0"));
    for _ in 0..2 {
        await_status(&api, &run(&api, &broken), "failed");
    }
    let opened = api.get("/api/breakers/process:%2Fbin%2Fsh");
    assert_eq!((&opened["state"], &opened["key"]), (&json!("open"), &json!("process:/bin/sh")), "{opened}");
    let done = await_status(&api, &run(&api, &sound), "succeeded");
    assert!(millis(&done["started_at"]) >= millis(&opened["open_until"]), "{done}");
    assert_eq!((&done["attempt"], state("process:%2Fbin%2Fsh").as_str()), (&json!(1), "closed"));
}

#[test]
fn a_pool_is_made_larger_and_smaller_while_others_wait_for_it() {
    let development = Development::start();
    let api = development.api();
    let resize = |capacity: &str| {
        ask(&api, &["pool", "put", "staging", "--capacity", capacity], None).expect(0);
    };
    resize("1");
    let task = api.create_id(&long("holds", json!({ "resources": { "staging": 1 } })));
    let ids: Vec<String> = (0..6).map(|_| run(&api, &task)).collect();
    let running = || -> Vec<usize> {
        let runs = |id: &String| execution(&api, id)["status"] == "running";
        ids.iter().enumerate().filter(|(_, id)| runs(id)).map(|(place, _)| place).collect()
    };
    let settled = |expected: &[usize]| {
        until(&format!("{expected:?} run"), || running() == expected);
        assert_eq!(api.get("/api/pools/staging")["held"], expected.len());
    };
    settled(&[0]);
    resize("3");
    settled(&[0, 1, 2]);
    // What is held is not torn away, and nothing new is granted until it fits.
    resize("1");
    settled(&[0, 1, 2]);
    cancel(&api, &ids[1]);
    settled(&[0, 2]);
    cancel(&api, &ids[0]);
    settled(&[2]);
    cancel(&api, &ids[2]);
    settled(&[3]);
    resize("0");
    cancel(&api, &ids[3]);
    settled(&[]);
    let told = text(&execution(&api, &ids[4]), "waiting_for");
    assert_eq!(told, "it waits for 1 of the pool `staging`, of which there is less in all");
    resize("2");
    settled(&[4, 5]);
}

#[test]
fn an_execution_gets_all_of_its_pools_or_none_in_its_turn() {
    let development = Development::start();
    let api = development.api();
    for pool in ["staging", "licence"] {
        put(&api, &format!("/api/pools/{pool}"), &json!({ "capacity": 1 }));
    }
    let begin =
        |name: &str, pools: Value| run(&api, &api.create_id(&long(name, json!({ "resources": pools }))));
    let both = json!({ "staging": 1, "licence": 1 });
    let holds = begin("holds", json!({ "staging": 1 }));
    await_status(&api, &holds, "running");
    let (first, second) = (begin("first", both.clone()), begin("second", both));
    let pool = |name: &str, of: &str| -> (Value, Vec<String>) {
        let pool = api.get(&format!("/api/pools/{name}"));
        let claims = pool[of].as_array().expect("a list");
        (pool["held"].clone(), claims.iter().map(|claim| text(claim, "execution_id")).collect())
    };
    assert_eq!(pool("licence", "waiting_by"), (json!(0), vec![first.clone(), second.clone()]), "none of it");
    cancel(&api, &holds);
    await_status(&api, &first, "running");
    for name in ["staging", "licence"] {
        assert_eq!(pool(name, "held_by"), (json!(1), vec![first.clone()]), "all of it");
        assert_eq!(pool(name, "waiting_by").1, vec![second.clone()]);
    }
    cancel(&api, &first);
    await_status(&api, &second, "running");
}

#[test]
fn a_pool_is_given_back_by_what_failed_took_too_long_or_is_made_again_later() {
    let development = Development::start();
    let api = development.api();
    put(&api, "/api/pools/staging", &json!({ "capacity": 1 }));
    let asking = |task: Value| api.create_id(&with(task, json!({ "resources": { "staging": 1 } })));
    let later = json!({ "retry": { "max_attempts": 2, "initial_delay": "5m" } });
    for (task, status) in [
        (script("fails", &manual(), "sleep 0.2; exit 1"), "failed"),
        (with(script("hangs", &manual(), "sleep 300"), json!({ "timeout": "1s" })), "timed_out"),
        (with(script("again", &manual(), "sleep 0.2; exit 1"), later), "retrying"),
    ] {
        let ends = run(&api, &asking(task));
        let waits = run(&api, &asking(noop("waits", &manual())));
        await_status(&api, &waits, "succeeded");
        assert_eq!(execution(&api, &ends)["status"], status);
        assert_eq!(api.get("/api/pools/staging")["held"], 0, "{status}");
    }
}

#[test]
fn a_pool_is_given_back_when_the_node_that_holds_it_dies() {
    let mut cluster = Cluster::start(3);
    let api = cluster.any();
    put(&api, "/api/pools/staging", &json!({ "capacity": 1 }));
    let asking = json!({ "resources": { "staging": 1 }, "delivery": "at_most_once" });
    let task = api.create_id(&long("holds", asking));
    let holds = run(&api, &task);
    let holder = worker_of(&await_status(&api, &holds, "running")).expect("a node");
    let waits = run(&api, &task);
    assert_eq!(execution(&api, &waits)["waiting_for"], "it waits for the pool `staging`");
    cluster.kill(holder);
    cluster.leader();
    let api = cluster.any();
    let lost = await_status(&api, &holds, "lost");
    assert_eq!(worker_of(&lost), Some(holder), "{lost}");
    let next = worker_of(&await_status(&api, &waits, "running")).expect("a node");
    assert_ne!(next, holder);
    let pool = api.get("/api/pools/staging");
    assert_eq!((&pool["held"], &pool["held_by"][0]["execution_id"]), (&json!(1), &json!(waits)), "{pool}");
}

#[test]
fn what_is_changed_by_hand_is_in_the_audit_log_with_its_author() {
    let cluster = Cluster::start(1);
    let api = cluster.any().with_token(&cluster.mint("olga", "acme", &["admin"]));
    let waits = run(&api, &api.create_id(&queued("suite", "android")));
    let prioritise = format!("execution priority {waits} 9");
    let by_hand = [
        ("pool put staging --capacity 4", "PoolPut"),
        ("pool delete staging", "PoolDeleted"),
        ("limit put label team=qa --max-concurrent 5", "LimitPut"),
        ("limit delete label team=qa", "LimitDeleted"),
        ("queue pause ios", "QueuePaused"),
        ("queue resume ios", "QueueResumed"),
        (prioritise.as_str(), "TaskPriorityChanged"),
        ("breaker open http:runner.example", "BreakerOpened"),
        ("breaker close http:runner.example", "BreakerClosed"),
    ];
    for (command, _) in by_hand {
        ask(&api, &command.split(' ').collect::<Vec<_>>(), None).expect(0);
    }
    let events = items(&api.get("/api/audit/events?limit=1000"));
    let by = events.iter().map(|event| (text(event, "type"), text(event, "actor")));
    let aside = ["CommandAnswered", "TaskCreated", "TaskScheduled"];
    let by: Vec<(String, String)> = by.filter(|(name, _)| !aside.contains(&name.as_str())).collect();
    assert_eq!(by, by_hand.map(|(_, name)| (name.to_owned(), "olga".to_owned())));
    let changed = events.iter().find(|event| event["type"] == "TaskPriorityChanged").expect("it is there");
    assert_eq!((&changed["data"]["execution_id"], &changed["data"]["priority"]), (&json!(waits), &json!(9)));
}

#[test]
fn a_low_priority_gets_a_node_s_slot_after_a_hundred_that_passed_it_over() {
    const PASS_BY: usize = 100;
    let cluster = Cluster::start_with(1, Settings { slots: Some(1), ..Settings::default() });
    let api = cluster.any();
    let of = |priority: u8| {
        api.create_id(&with(noop("n", &manual()), json!({ "priority": priority, "overlap": "allow" })))
    };
    let (low, high) = (of(0), of(9));
    let blocker = run(&api, &api.create_id(&long("blocker", json!({ "priority": 9 }))));
    await_status(&api, &blocker, "running");
    let waits = run(&api, &low);
    let ids: Vec<String> = (0..PASS_BY + 5).map(|_| run(&api, &high)).collect();
    cancel(&api, &blocker);
    ids.iter().chain([&waits]).for_each(|id| drop(await_status(&api, id, "succeeded")));
    let events = api.all("/api/audit/events?limit=1000");
    let mut started: Vec<(i64, &Value)> = events
        .iter()
        .filter(|event| event["type"] == "TaskStarted")
        .map(|event| (event["seq"].as_i64().expect("a number"), &event["data"]["execution_id"]))
        .collect();
    started.sort_unstable_by_key(|(sequence, _)| *sequence);
    // After the blocker and the hundred it is its turn.
    assert_eq!(started.iter().position(|(_, id)| **id == json!(waits)), Some(1 + PASS_BY));
}
