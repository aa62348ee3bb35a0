//! Questions about history, put to a node that does not have it yet.

use actix_web::http::Method;
use escapement_domain::command::Programs;
use serde_json::{Value, json};

use super::{Api, Ask, SECRET, items, manual, text};
use crate::http::{ServerHandle, serve};
use crate::security::Keys;
use crate::telemetry::Metrics;

/// A node with history on a real socket, and one with its state whose history is missing.
struct Pair {
    whole: Api,
    server: ServerHandle,
    returned: Api,
}

impl Pair {
    async fn with_a_run() -> (Self, Value) {
        let whole = Api::start();
        whole.node.worker(Programs::Any);
        let task = whole.create(manual("one")).await;
        let run = whole
            .post(&format!("/api/scheduled-tasks/{}/run", text(&task, "id")), &json!({}))
            .await
            .expect(202);
        whole.node.succeed(text(&run, "id").parse().expect("a UUID"));
        let keys = Keys::from_bytes(SECRET).expect("a key");
        let address = ([127, 0, 0, 1], 0).into();
        let server =
            serve(&[address], whole.node.service.clone(), keys, Metrics::new(1), 1).expect("a free port");
        let returned = Api::start();
        let (index, snapshot) = whole.node.machine.freeze();
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).expect("written");
        returned.node.machine.restore(index, &mut bytes.as_slice()).expect("restored");
        (Self { whole, server, returned }, run)
    }

    fn introduce(&self) {
        *self.returned.node.cluster.others.lock() =
            self.server.addresses().iter().map(ToString::to_string).collect();
    }
}

#[actix_web::test]
async fn a_node_without_history_hands_back_what_another_one_answers() {
    let (pair, run) = Pair::with_a_run().await;
    pair.introduce();
    let path = format!("/api/executions/{}", text(&run, "id"));
    let here = pair.returned.get(&path).await.expect(200);
    assert_eq!(here, pair.whole.get(&path).await.expect(200));
    assert_eq!(here["status"], "succeeded");
    for path in ["/api/executions/?consistency=local", "/api/executions/status", "/api/audit/events?limit=2"]
    {
        assert_eq!(
            pair.returned.get(path).await.expect(200),
            pair.whole.get(path).await.expect(200),
            "{path}"
        );
    }
    let page = pair.returned.get("/api/executions/?limit=1").await.expect(200);
    assert_eq!(items(&page).len(), 1);
    pair.server.stop().await;
}

#[actix_web::test]
async fn what_another_node_refuses_stays_refused() {
    let (pair, run) = Pair::with_a_run().await;
    pair.introduce();
    let unknown = pair.returned.get("/api/executions/01890000-0000-7000-8000-000000000000").await;
    unknown.problem(404, "not_found");
    let retry = format!("/api/executions/{}/retry", text(&run, "id"));
    pair.returned.ask(Ask::of(Method::POST, &retry)).await.problem(503, "history_incomplete");
    let refused = pair.returned.ask(Ask::of(Method::POST, &retry).header("Idempotency-Key", "k")).await;
    refused.problem(409, "wrong_status");
    let stranger = pair.returned.token("bob", "globex", &[crate::security::Role::Admin]);
    let path = format!("/api/executions/{}", text(&run, "id"));
    pair.returned.send(Ask::of(Method::GET, &path).token(&stranger)).await.problem(404, "not_found");
    pair.server.stop().await;
}

#[actix_web::test]
async fn without_another_node_the_problem_says_what_to_do_and_state_is_told_all_the_same() {
    let (pair, run) = Pair::with_a_run().await;
    let path = format!("/api/executions/{}", text(&run, "id"));
    let missing = pair.returned.get(&path).await;
    missing.problem(503, "history_incomplete");
    pair.introduce();
    let sent_on = Ask::of(Method::GET, &path).header("Escapement-Sent-On", "1");
    pair.returned.ask(sent_on).await.problem(503, "history_incomplete");
    assert_eq!(items(&pair.returned.get("/api/scheduled-tasks/").await.expect(200)).len(), 1);
    pair.server.stop().await;
}
