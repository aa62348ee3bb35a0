//! Workers outside the cluster, as they see the API.

use actix_web::http::Method;
use escapement_domain::timestamp::Span;
use serde_json::{Value, json};

use super::{Api, Ask, SECRET, items, manual, text, with};
use crate::http::serve;
use crate::security::{Keys, Role};
use crate::service::testing::NOW;
use crate::telemetry::Metrics;

fn queued(name: &str) -> Value {
    let action = json!({ "type": "queue", "queue": "suites", "payload": { "suite": 7 } });
    with(manual(name), json!({ "action": action, "overlap": "allow" }))
}

async fn run(api: &Api, task: &Value) -> Value {
    let path = format!("/api/scheduled-tasks/{}/run", text(task, "id"));
    api.ask(Ask::of(Method::POST, &path)).await.expect(202)
}

async fn lease(api: &Api, body: Value) -> Vec<Value> {
    let leased = api.post("/api/workers/suites/lease", &body).await.expect(200);
    items(&leased).to_vec()
}

async fn say(api: &Api, execution: &Value, what: &str, body: Value) -> super::Reply {
    api.post(&format!("/api/executions/{}/{what}", text(execution, "id")), &body).await
}

#[actix_web::test]
async fn a_worker_leases_reports_and_completes() {
    let api = Api::start();
    let task = api.create(queued("nightly")).await;
    let waiting = run(&api, &task).await;
    assert_eq!(waiting["status"], "queued");
    let leased = lease(&api, json!({ "worker": "runner-1", "max": 5, "lease": "30s" })).await;
    assert_eq!(leased.len(), 1);
    let execution = &leased[0];
    assert_eq!(
        (&execution["id"], &execution["status"], &execution["payload"], &execution["attempts"][0]["worker"]),
        (&waiting["id"], &json!("running"), &json!({ "suite": 7 }), &json!("runner-1"))
    );
    assert_eq!(execution["lease_until"], json!(NOW.plus(Span::seconds(30)).to_string()));
    let workers = api.get("/api/workers").await.expect(200);
    let runner = items(&workers).iter().find(|worker| worker["id"] == "runner-1").expect("it has something");
    assert_eq!((&runner["node"], &runner["running"]), (&Value::Null, &json!(1)));

    let token = text(execution, "lease_token");
    let beat = say(&api, execution, "heartbeat", json!({ "lease_token": token })).await.expect(200);
    assert_eq!(beat["cancel"], false);
    let report = json!({ "lease_token": token, "percent": 40, "message": "4 of 10" });
    let shown = say(&api, execution, "progress", report).await.expect(200);
    assert_eq!(shown["progress"], json!({ "percent": 40, "message": "4 of 10" }));
    let done = json!({ "lease_token": token, "outcome": "succeeded", "result": { "passed": 10 } });
    let done = say(&api, execution, "complete", done).await.expect(200);
    assert_eq!((&done["status"], &done["result"]), (&json!("succeeded"), &json!({ "passed": 10 })));
}

/// The log has granted it: what this node's clock says must not keep it from its worker.
#[actix_web::test]
async fn a_node_whose_clock_is_ahead_tells_all_that_was_leased() {
    let api = Api::start();
    api.node.is_ahead(60_000);
    let task = api.create(queued("early")).await;
    run(&api, &task).await;
    let leased = lease(&api, json!({ "worker": "w", "lease": "1s" })).await;
    assert_eq!((leased.len(), &leased[0]["lease_ms"]), (1, &json!(1_000)));
    assert_eq!(leased[0]["lease_until"], json!(NOW.plus(Span::seconds(1)).to_string()), "as the leader says");
}

/// The leader of these tests says thirty seconds to every sign of life.
#[actix_web::test]
async fn a_lease_that_is_told_again_is_what_is_left_of_it() {
    let api = Api::start();
    let task = api.create(queued("twice")).await;
    run(&api, &task).await;
    let body = json!({ "worker": "w", "lease": "1m" });
    let keyed =
        Ask::of(Method::POST, "/api/workers/suites/lease").json(&body).header("Idempotency-Key", "k1");
    let first = api.ask(keyed.clone()).await.expect(200);
    let again = api.ask(keyed.clone()).await.expect(200);
    assert_eq!(items(&first)[0]["lease_token"], items(&again)[0]["lease_token"]);
    assert_eq!(items(&again)[0]["lease_ms"], 30_000);
    let done = json!({ "lease_token": items(&first)[0]["lease_token"], "outcome": "succeeded" });
    say(&api, &items(&first)[0], "complete", done).await.expect(200);
    assert_eq!(items(&api.ask(keyed).await.expect(200)), [] as [Value; 0], "nothing is left");
}

#[actix_web::test]
async fn an_empty_queue_is_answered_at_once_unless_the_worker_waits() {
    let api = Api::start();
    assert_eq!(lease(&api, json!({ "worker": "w" })).await, [] as [Value; 0]);
    let task = api.create(queued("late")).await;
    let waits = lease(&api, json!({ "worker": "w", "wait": "30s" }));
    let comes = async {
        tokio::task::yield_now().await;
        run(&api, &task).await
    };
    let (leased, execution) = futures::join!(waits, comes);
    assert_eq!(leased[0]["id"], execution["id"], "it was woken by what came");
}

#[actix_web::test]
async fn whatever_a_queue_may_be_called_can_be_leased_from() {
    let api = Api::start();
    for (name, written) in
        [("a%b", "a%25b"), ("a+b", "a%2Bb"), ("c++", "c++"), ("%2F", "%252F"), ("a:b?", "a:b%3F")]
    {
        let action = json!({ "action": { "type": "queue", "queue": name } });
        let task = api.create(with(queued("named"), action)).await;
        run(&api, &task).await;
        let path = format!("/api/workers/{written}/lease");
        let leased = api.post(&path, &json!({ "worker": "w" })).await.expect(200);
        assert_eq!(items(&leased).len(), 1, "{name} as {written}");
        assert_eq!(api.get(&format!("/api/queues/{written}")).await.expect(200)["running"], 1);
    }
}

/// The second node, in whose memory nobody waits, is another one behind a socket.
#[actix_web::test]
async fn a_worker_that_waits_is_listed_by_every_node() {
    let (api, other) = (Api::start(), Api::start());
    let keys = Keys::from_bytes(SECRET).expect("a key");
    let server = serve(&[([127, 0, 0, 1], 0).into()], api.node.service.clone(), keys, Metrics::new(1), 1);
    let server = server.expect("a free port");
    *other.node.cluster.others.lock() = server.addresses().iter().map(ToString::to_string).collect();
    let waits = lease(&api, json!({ "worker": "idle", "wait": "30s" }));
    let seen = async {
        tokio::task::yield_now().await;
        for (api, path, known) in [
            (&api, "/api/workers", true),
            (&api, "/api/workers?consistency=local", true),
            (&other, "/api/workers", true),
            (&other, "/api/workers?consistency=local", false),
        ] {
            let workers = api.get(path).await.expect(200);
            let idle = items(&workers).iter().find(|worker| worker["id"] == "idle");
            assert_eq!(idle.map(|idle| &idle["running"]), known.then_some(&json!(0)), "{path}");
        }
        let task = api.create(queued("late")).await;
        run(&api, &task).await
    };
    let (leased, _) = futures::join!(waits, seen);
    assert_eq!(leased.len(), 1);
    let workers = api.get("/api/workers").await.expect(200);
    let busy = items(&workers).iter().filter(|worker| worker["id"] == "idle");
    assert_eq!(busy.map(|busy| busy["running"].clone()).collect::<Vec<_>>(), [1], "and once");
    server.stop().await;
}

#[actix_web::test]
async fn a_worker_that_lies_changes_nothing() {
    let api = Api::start();
    let task = api.create(queued("honest")).await;
    run(&api, &task).await;
    let execution = lease(&api, json!({ "worker": "w" })).await.remove(0);
    for token in ["0", "1", "999999", "", "rubbish"] {
        let lie = json!({ "lease_token": token, "outcome": "succeeded" });
        say(&api, &execution, "complete", lie).await.problem(409, "stale_lease");
        let beat = json!({ "lease_token": token });
        say(&api, &execution, "heartbeat", beat).await.problem(409, "stale_lease");
    }
    let stranger = api.token("eve", "globex", &[Role::Admin]);
    let path = format!("/api/executions/{}/complete", text(&execution, "id"));
    let body = json!({ "lease_token": text(&execution, "lease_token"), "outcome": "succeeded" });
    api.send(Ask::of(Method::POST, &path).token(&stranger).json(&body)).await.problem(404, "not_found");
    let path = format!("/api/executions/{}", text(&execution, "id"));
    assert_eq!(api.get(&path).await.expect(200)["status"], "running");
    let viewer = api.token("vic", "acme", &[Role::Viewer]);
    let ask = Ask::of(Method::POST, "/api/workers/suites/lease").token(&viewer);
    api.send(ask.json(&json!({ "worker": "w" }))).await.problem(403, "forbidden");
}

#[actix_web::test]
async fn a_completion_is_heard_once_and_repeated_under_its_key() {
    let api = Api::start();
    let task = api.create(queued("once")).await;
    run(&api, &task).await;
    let execution = lease(&api, json!({ "worker": "w" })).await.remove(0);
    let path = format!("/api/executions/{}/complete", text(&execution, "id"));
    let failed =
        json!({ "lease_token": text(&execution, "lease_token"), "outcome": "failed", "error": "3 failed" });
    let keyed = Ask::of(Method::POST, &path).json(&failed).header("Idempotency-Key", "k1");
    let first = api.ask(keyed.clone()).await.expect(200);
    assert_eq!((&first["status"], &first["error"]), (&json!("failed"), &json!("3 failed")));
    assert_eq!(api.ask(keyed).await.expect(200), first);
    api.ask(Ask::of(Method::POST, &path).json(&failed)).await.problem(409, "stale_lease");
}

#[actix_web::test]
async fn wrong_fields_are_named_and_nothing_is_written() {
    let api = Api::start();
    let lease = |body: Value| {
        let api = &api;
        async move { api.post("/api/workers/suites/lease", &body).await.problem(422, "invalid") }
    };
    assert_eq!(lease(json!({})).await, ["/worker"]);
    let all = json!({ "worker": "a b", "max": 0, "lease": "1ms", "wait": "2h", "extra": 1 });
    assert_eq!(lease(all).await, ["/worker", "/max", "/lease", "/wait", "/extra"]);
    let long = format!("/api/workers/{}/lease", "q".repeat(129));
    for path in ["/api/workers/a%20b/lease", "/api/workers/a%2Fb/lease", &long] {
        let refused = api.post(path, &json!({})).await;
        assert_eq!(refused.problem(422, "invalid"), ["", "/worker"], "{path}");
        assert!(refused.text.contains("a queue's name has 1 to 128 bytes"), "{}", refused.text);
    }
    let task = api.create(queued("strict")).await;
    let execution = run(&api, &task).await;
    let say = |what: &'static str, body: Value| {
        let path = format!("/api/executions/{}/{what}", text(&execution, "id"));
        let api = &api;
        async move { api.post(&path, &body).await.problem(422, "invalid") }
    };
    assert_eq!(say("heartbeat", json!({})).await, ["/lease_token"]);
    assert_eq!(say("progress", json!({ "lease_token": "1", "percent": 101 })).await, ["/percent"]);
    assert_eq!(say("complete", json!({ "lease_token": "1", "outcome": "lost" })).await, ["/outcome"]);
    let mixed = json!({ "lease_token": "1", "outcome": "succeeded", "error": "x" });
    assert_eq!(say("complete", mixed).await, ["/error"]);
    let action = json!({ "type": "queue", "queue": "a/b" });
    let refused = api.post("/api/scheduled-tasks", &with(queued("bad"), json!({ "action": action }))).await;
    assert_eq!(refused.problem(422, "invalid"), ["/action/queue"]);
}
