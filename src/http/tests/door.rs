//! What holds for every path: tokens, forms of the path, correlation, and problems.

use actix_web::http::Method;
use serde_json::json;

use super::{Api, Ask, manual, text};
use crate::security::Role;
use crate::service::testing::Way;

#[actix_web::test]
async fn everything_but_what_is_open_needs_a_token() {
    let api = Api::start();
    for path in [
        "/api/scheduled-tasks/",
        "/metrics",
        "/openapi.json",
        "/api/nothing",
        "/nothing",
        "/api/v1/executions",
    ] {
        let reply = api.send(Ask::of(Method::GET, path)).await;
        reply.problem(401, "unauthenticated");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"escapement\""), "{path}");
    }
    for path in ["/", "/healthz", "/readyz", "/healthz/"] {
        assert_eq!(api.send(Ask::of(Method::GET, path)).await.status, 200, "{path}");
    }
    let wrong = api.send(Ask::of(Method::GET, "/api/workers").token("a.b.c")).await;
    wrong.problem(401, "unauthenticated");
    let cluster = api.token("eve", "$cluster", &[Role::Admin]);
    api.send(Ask::of(Method::GET, "/api/workers").token(&cluster)).await.problem(401, "unauthenticated");
}

#[actix_web::test]
async fn a_path_is_the_same_with_and_without_slash_and_version() {
    let api = Api::start();
    let task = api.create(manual("one")).await;
    let id = text(&task, "id");
    for path in [
        format!("/api/scheduled-tasks/{id}"),
        format!("/api/scheduled-tasks/{id}/"),
        format!("/api/v1/scheduled-tasks/{id}"),
        format!("/api/v1/scheduled-tasks/{id}/?consistency=local"),
    ] {
        assert_eq!(api.get(&path).await.expect(200)["id"], json!(id), "{path}");
    }
    api.get("/api/v10/scheduled-tasks").await.problem(404, "not_found");
}

#[actix_web::test]
async fn what_is_not_there_is_a_problem() {
    let api = Api::start();
    api.get("/api/nothing").await.problem(404, "not_found");
    api.get("/api/scheduled-tasks/not-a-uuid").await.problem(404, "not_found");
    let reply = api.ask(Ask::of(Method::PATCH, "/api/scheduled-tasks")).await;
    reply.problem(405, "method_not_allowed");
    let allowed = reply.header("allow").expect("Allow");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[actix_web::test]
async fn an_answer_carries_the_id_that_its_request_brought() {
    let api = Api::start();
    let reply = api.ask(Ask::of(Method::GET, "/api/nothing").header("X-Correlation-Id", "mine-1")).await;
    assert_eq!(reply.header("x-correlation-id"), Some("mine-1"));
    assert_eq!(reply.expect(404)["correlation_id"], json!("mine-1"));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let reply = api.ask(Ask::of(Method::GET, "/healthz").header("traceparent", &traceparent)).await;
    assert_eq!(reply.header("x-correlation-id"), Some(trace));
    assert!(api.get("/healthz").await.header("x-correlation-id").is_some_and(|id| id.len() == 32));
}

#[actix_web::test]
async fn a_body_must_be_json_of_bounded_length() {
    let api = Api::start();
    let post = |kind: &str, body: Vec<u8>| {
        Ask::of(Method::POST, "/api/scheduled-tasks").header("Content-Type", kind).bytes(body)
    };
    let json = "application/json; charset=utf-8";
    api.ask(post("text/plain", b"{}".to_vec())).await.problem(415, "unsupported_media_type");
    api.ask(post(json, b"{}".to_vec()).header("Content-Encoding", "gzip"))
        .await
        .problem(415, "unsupported_media_type");
    api.ask(post(json, b" ".repeat(1024 * 1024 + 1))).await.problem(413, "too_large");
    api.ask(post(json, Vec::new())).await.problem(400, "malformed_json");
    let reply = api.ask(post(json, b"{\n\"name\": }".to_vec())).await;
    reply.problem(400, "malformed_json");
    assert!(text(&reply.expect(400), "detail").starts_with("line 2, column 9: "), "{}", reply.text);
    let twice =
        api.ask(post(json, br#"{"name":"a","trigger":{"type":"manual","type":"cron"}}"#.to_vec())).await;
    assert_eq!(twice.problem(400, "malformed_json"), ["/trigger/type"]);
    api.ask(post(json, "[".repeat(100_000).into_bytes())).await.problem(400, "malformed_json");
    api.ask(post(json, b"{\"name\": \"\xff\"}".to_vec())).await.problem(400, "malformed_json");
}

#[actix_web::test]
async fn a_misspelt_parameter_is_named_with_what_was_meant() {
    let api = Api::start();
    let reply = api.get("/api/scheduled-tasks?limt=5&state=actve").await;
    assert_eq!(reply.problem(400, "invalid_parameter"), ["?state", "?limt"]);
    assert!(
        reply.text.contains("did you mean `active`?") && reply.text.contains("did you mean `limit`?"),
        "{}",
        reply.text
    );
    for query in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "cursor=zz", "consistency=maybe"] {
        api.get(&format!("/api/scheduled-tasks?{query}")).await.problem(400, "invalid_parameter");
    }
    for query in ["task_id=7", "from=yesterday", "status=done"] {
        api.get(&format!("/api/executions?{query}")).await.problem(400, "invalid_parameter");
    }
}

#[actix_web::test]
async fn a_role_that_is_not_there_is_named() {
    let api = Api::start();
    let task = api.create(manual("adas")).await;
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    let run = format!("{path}/run");
    let viewer = api.token("vic", "acme", &[Role::Viewer]);
    let editor = api.token("ed", "acme", &[Role::Editor]);
    let operator = api.token("op", "acme", &[Role::Operator]);
    let create = Ask::of(Method::POST, "/api/scheduled-tasks").json(&manual("theirs"));
    api.send(create.clone().token(&viewer)).await.problem(403, "forbidden");
    api.send(Ask::of(Method::POST, &run).token(&editor)).await.problem(403, "forbidden");
    api.send(Ask::of(Method::DELETE, &path).token(&operator)).await.problem(403, "forbidden");
    api.send(Ask::of(Method::POST, &run).token(&operator)).await.expect(202);
    let own = api.send(create.token(&editor)).await.expect(201);
    let own = format!("/api/scheduled-tasks/{}", text(&own, "id"));
    api.send(Ask::of(Method::DELETE, &own).token(&editor)).await.expect(204);
    api.send(Ask::of(Method::GET, "/api/audit/events").token(&operator)).await.problem(403, "forbidden");
    let transfer = Ask::of(Method::POST, "/api/cluster/leader").json(&json!({}));
    api.send(transfer.token(&operator)).await.problem(403, "forbidden");
}

#[actix_web::test]
async fn without_a_leader_reads_and_writes_say_so_and_local_reads_go_on() {
    let api = Api::start();
    let task = api.create(manual("one")).await;
    let path = format!("/api/scheduled-tasks/{}", text(&task, "id"));
    api.node.way_is(Way::Closed);
    for reply in [api.get(&path).await, api.post("/api/scheduled-tasks", &manual("two")).await] {
        reply.problem(503, "no_leader");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    api.get(&format!("{path}?consistency=local")).await.expect(200);
    api.send(Ask::of(Method::GET, "/readyz")).await.problem(503, "not_ready");
    api.send(Ask::of(Method::GET, "/healthz")).await.expect(200);
    api.node.way_is(Way::Full);
    let reply = api.post("/api/scheduled-tasks", &manual("two")).await;
    reply.problem(503, "busy");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[actix_web::test]
async fn an_unknown_outcome_is_settled_by_the_same_key() {
    let api = Api::start();
    let create =
        Ask::of(Method::POST, "/api/scheduled-tasks").json(&manual("one")).header("Idempotency-Key", "k");
    api.node.way_is(Way::Lossy);
    let reply = api.ask(create.clone()).await;
    reply.problem(503, "unknown_outcome");
    assert!(reply.text.contains("same Idempotency-Key"), "{}", reply.text);
    api.node.way_is(Way::Open);
    api.ask(create).await.expect(201);
    let list = api.get("/api/scheduled-tasks").await.expect(200);
    assert_eq!(super::items(&list).len(), 1);
}

#[actix_web::test]
async fn membership_is_changed_by_a_cluster_admin() {
    let api = Api::start();
    let status = api.get("/api/cluster/status").await.expect(200);
    assert_eq!((&status["leader"], &status["nodes"][0]["role"]), (&json!(1), &json!("leader")));
    assert_eq!(status["version"], json!(env!("CARGO_PKG_VERSION")));
    assert_eq!((&status["zone_data"], &status["warnings"]), (&json!("2025b"), &json!([])));
    assert_eq!(status["nodes"][0]["zone_data"], "2025b");
    let node = json!({ "id": 2, "api": "127.0.0.1:7071", "peer": "127.0.0.1:7171" });
    let added = api.post("/api/cluster/nodes", &node).await;
    added.expect(201);
    assert_eq!(added.header("location"), Some("/api/cluster/nodes/2"));
    api.ask(Ask::of(Method::POST, "/api/cluster/nodes/2/promote")).await.expect(200);
    api.post("/api/cluster/leader", &json!({ "to": 2 })).await.expect(200);
    api.ask(Ask::of(Method::POST, "/api/cluster/leader")).await.expect(200);
    api.ask(Ask::of(Method::DELETE, "/api/cluster/nodes/2")).await.expect(204);
    let told = api.node.cluster.told.lock().clone();
    let expected = [
        "add 2 127.0.0.1:7071 127.0.0.1:7171",
        "promote 2",
        "transfer Some(NodeId(2))",
        "transfer None",
        "remove 2",
    ];
    assert_eq!(told, expected);
    let wrong = api.post("/api/cluster/nodes", &json!({ "id": 0, "api": "nowhere", "pear": 1 })).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/id", "/api", "/peer", "/pear"]);
    let quorum = crate::service::cluster::ClusterError::Refused { reason: "the quorum would be lost".into() };
    *api.node.cluster.refuse.lock() = Some(quorum);
    api.ask(Ask::of(Method::DELETE, "/api/cluster/nodes/1")).await.problem(409, "refused");
}

#[actix_web::test]
async fn a_node_is_drained_and_undrained_as_often_as_somebody_asks() {
    let api = Api::start();
    api.node.worker(escapement_domain::command::Programs::Any);
    let ask = async |path: &str| api.ask(Ask::of(Method::POST, path)).await;
    for (path, work, drained) in [
        ("/api/cluster/nodes/1/drain", "draining", true),
        ("/api/cluster/nodes/1/drain", "draining", true),
        ("/api/cluster/nodes/1/undrain", "ready", false),
        ("/api/cluster/nodes/1/undrain", "ready", false),
    ] {
        let status = ask(path).await.expect(200);
        let node = &status["nodes"][0];
        assert_eq!((&node["work"], &node["drained"]), (&json!(work), &json!(drained)), "{path}");
        assert_eq!(super::items(&api.get("/api/workers").await.expect(200))[0]["state"], work, "{path}");
    }
    let task = api.create(super::manual("one")).await;
    ask("/api/cluster/nodes/1/drain").await.expect(200);
    let run = format!("/api/scheduled-tasks/{}/run", super::text(&task, "id"));
    let waiting = ask(&run).await.expect(202);
    assert!(super::text(&waiting, "waiting_for").ends_with("are drained, or about to stop"), "{waiting}");
    ask("/api/cluster/nodes/9/drain").await.problem(404, "not_found");
    ask("/api/cluster/nodes/one/drain").await.problem(404, "not_found");
}

#[actix_web::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let api = Api::start();
    api.get("/api/scheduled-tasks/0190d1c2-0000-7000-8000-000000000000").await.problem(404, "not_found");
    api.get("/somewhere/else").await.problem(404, "not_found");
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    let line =
        r#"escapement_http_requests_total{method="GET",route="/api/scheduled-tasks/{id}",status="4xx"} 1"#;
    assert!(metrics.text.contains(line), "{}", metrics.text);
    assert!(metrics.text.contains(r#"route="unmatched""#), "{}", metrics.text);
}

#[actix_web::test]
async fn the_sign_in_page_runs_only_what_it_brings() {
    let api = Api::start();
    let page = api.send(Ask::of(Method::GET, "/")).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy");
    let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce");
    assert_eq!(page.text.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(!page.text.contains("{{") && !page.text.contains("http"), "no external assets");
}
