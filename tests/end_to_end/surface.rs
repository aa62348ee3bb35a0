//! What the API looks like from far: its description, its metrics, its health.

use crate::harness::definitions::{await_count, await_status, every_second, manual, noop, run};
use crate::harness::development::Development;
use crate::harness::wait::until;

#[test]
fn the_description_names_every_call() {
    let development = Development::start();
    let api = development.api();
    let description = api.get("/openapi.json");
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let paths = description["paths"].as_object().expect("paths");
    for (path, methods) in [
        ("/api/scheduled-tasks", &["get", "post"][..]),
        ("/api/scheduled-tasks/bulk", &["post"]),
        ("/api/scheduled-tasks/upcoming", &["get"]),
        ("/api/scheduled-tasks/{id}", &["get", "put", "delete"]),
        ("/api/scheduled-tasks/{id}/run", &["post"]),
        ("/api/scheduled-tasks/{id}/pause", &["post"]),
        ("/api/scheduled-tasks/{id}/resume", &["post"]),
        ("/api/scheduled-tasks/{id}/next", &["get"]),
        ("/api/scheduled-tasks/{id}/explain", &["get"]),
        ("/api/scheduled-tasks/{id}/events", &["get"]),
        ("/api/scheduled-tasks/{id}/occurrences", &["get", "post"]),
        ("/api/scheduled-tasks/{id}/backfill", &["post"]),
        ("/api/scheduled-tasks/{id}/backfills", &["get"]),
        ("/api/scheduled-tasks/{id}/backfills/{backfill}", &["delete"]),
        ("/api/calendars", &["get"]),
        ("/api/calendars/{name}", &["get", "put", "delete"]),
        ("/api/executions", &["get"]),
        ("/api/executions/{id}", &["get"]),
        ("/api/executions/{id}/logs", &["get"]),
        ("/api/executions/{id}/cancel", &["post"]),
        ("/api/executions/{id}/retry", &["post"]),
        ("/api/executions/status", &["get"]),
        ("/api/audit/events", &["get"]),
        ("/api/audit/fires", &["get"]),
        ("/api/cluster/status", &["get"]),
        ("/api/cluster/nodes", &["post"]),
        ("/api/cluster/nodes/{id}", &["delete"]),
        ("/api/cluster/leader", &["post"]),
    ] {
        let described = paths.iter().find(|(name, _)| name.trim_end_matches('/') == path);
        let (_, described) = described.unwrap_or_else(|| panic!("{path} in {:?}", paths.keys()));
        for method in methods {
            assert!(described[method]["responses"].is_object(), "{method} {path}");
        }
    }
}

#[test]
fn metrics_count_what_matters() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("counted", &manual()));
    let beat = api.create_id(&noop("beat", &every_second()));
    let id = run(&api, &task);
    await_status(&api, &id, "succeeded");
    await_count(&api, &beat, "succeeded", 1);
    let read = || api.send("GET", "/metrics", &[], None);
    let counted = [
        "escapement_fires_total ",
        "escapement_lateness_seconds_count ",
        "escapement_executions_total{outcome=\"succeeded\"} ",
        "escapement_commit_latency_seconds_count ",
        "escapement_leader_changes_total ",
        "escapement_raft_applied_index ",
    ];
    for name in counted {
        until(&format!("{name}counts"), || {
            read().body.lines().filter_map(|line| line.strip_prefix(name)).any(|count| count != "0")
        });
    }
    let metrics = read();
    assert_eq!(metrics.status, 200);
    for name in ["escapement_queue_depth ", "escapement_read_model_lag_entries "] {
        assert!(metrics.body.contains(name), "{name}in\n{}", metrics.body);
    }
    let shaped = |line: &str| line.starts_with('#') || line.is_empty() || line.starts_with("escapement_");
    assert!(metrics.body.lines().all(shaped), "{}", metrics.body);
}

#[test]
fn the_front_page_and_health_are_open() {
    let development = Development::start();
    let api = development.api().anonymous();
    let page = api.send("GET", "/", &[], None);
    assert_eq!(page.status, 200);
    assert!(page.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    for path in ["/healthz", "/readyz", "/healthz/"] {
        assert_eq!(api.send("GET", path, &[], None).status, 200, "{path}");
    }
}

/// A request's id is on everything that follows from it.
#[test]
fn a_correlation_id_is_carried_from_the_request_to_the_execution() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&noop("traced", &manual()));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let path = format!("/api/scheduled-tasks/{task}/run");
    let reply = api.send("POST", &path, &[("traceparent", &parent)], None);
    let id = reply.expect(202)["id"].as_str().expect("an id").to_owned();
    let ended = await_status(&api, &id, "succeeded");
    assert!(ended["correlation_id"].as_str().is_some_and(|id| id.contains(trace)), "{ended}");
}
