//! Who may call what: every call of the published description, by a role that is too low and by another tenant.
//!
//! A call that is added later and has no row in the table fails the tests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::api::{Api, Reply, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, event_log, execution, manual, noop, run, script, with};
use crate::harness::description::{OPEN, calls, path_of};
use crate::harness::outside::{lease, queued};
use crate::harness::wait::until;

/// A word in all that a tenant here has to hide.
const HIDDEN: &str = "for-acme-alone";

/// A call: its method, the pattern of its path, the least role that may make it about what is not its own, the status
/// that another tenant's administrator is answered with, and a body that is right.
type Right = (&'static str, &'static str, &'static str, u16, &'static str);

const ANYBODY: &str = "";
const TASK: &str =
    r#"{"name": "t", "trigger": {"type": "manual"}, "action": {"type": "builtin", "operation": "noop"}}"#;
const TASKS: &str =
    r#"[{"name": "t", "trigger": {"type": "manual"}, "action": {"type": "builtin", "operation": "noop"}}]"#;
const SKIP: &str = r#"{"at": "2037-01-01T00:00:00Z", "do": "skip"}"#;
const RANGE: &str = r#"{"from": "2025-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}"#;
const NODE: &str = r#"{"id": 9, "api": "127.0.0.1:1", "peer": "127.0.0.1:2"}"#;

/// Every call. What is deleted comes before what is made.
const RIGHTS: &[Right] = &[
    ("GET", "/", ANYBODY, 200, ""),
    ("GET", "/healthz", ANYBODY, 200, ""),
    ("GET", "/readyz", ANYBODY, 200, ""),
    ("GET", "/metrics", ANYBODY, 200, ""),
    ("GET", "/openapi.json", ANYBODY, 200, ""),
    ("GET", "/api/scheduled-tasks", "viewer", 200, ""),
    ("POST", "/api/scheduled-tasks", "editor", 201, TASK),
    ("POST", "/api/scheduled-tasks/bulk", "editor", 200, TASKS),
    ("GET", "/api/scheduled-tasks/upcoming", "viewer", 200, ""),
    ("GET", "/api/scheduled-tasks/{id}", "viewer", 404, ""),
    ("PUT", "/api/scheduled-tasks/{id}", "admin", 404, TASK),
    ("DELETE", "/api/scheduled-tasks/{id}", "admin", 404, ""),
    ("POST", "/api/scheduled-tasks/{id}/run", "operator", 404, ""),
    ("POST", "/api/scheduled-tasks/{id}/pause", "operator", 404, ""),
    ("POST", "/api/scheduled-tasks/{id}/resume", "operator", 404, ""),
    ("GET", "/api/scheduled-tasks/{id}/next", "viewer", 404, ""),
    ("GET", "/api/scheduled-tasks/{id}/explain", "viewer", 404, ""),
    ("GET", "/api/scheduled-tasks/{id}/events", "viewer", 404, ""),
    ("GET", "/api/scheduled-tasks/{id}/occurrences", "viewer", 404, ""),
    ("POST", "/api/scheduled-tasks/{id}/occurrences", "operator", 404, SKIP),
    ("POST", "/api/scheduled-tasks/{id}/backfill", "operator", 404, RANGE),
    ("GET", "/api/scheduled-tasks/{id}/backfills", "viewer", 404, ""),
    ("DELETE", "/api/scheduled-tasks/{id}/backfills/{backfill}", "operator", 404, ""),
    ("GET", "/api/schedules/forecast", "viewer", 200, ""),
    ("GET", "/api/calendars", "viewer", 200, ""),
    ("GET", "/api/calendars/{name}", "viewer", 404, ""),
    ("DELETE", "/api/calendars/{name}", "admin", 404, ""),
    ("PUT", "/api/calendars/{name}", "admin", 201, r#"{"days": ["01-01"]}"#),
    ("GET", "/api/pools", "viewer", 200, ""),
    ("GET", "/api/pools/{name}", "viewer", 404, ""),
    ("DELETE", "/api/pools/{name}", "admin", 404, ""),
    ("PUT", "/api/pools/{name}", "admin", 201, r#"{"capacity": 9}"#),
    ("GET", "/api/limits", "viewer", 200, ""),
    ("GET", "/api/limits/{kind}/{name}", "viewer", 404, ""),
    ("DELETE", "/api/limits/{kind}/{name}", "admin", 404, ""),
    ("PUT", "/api/limits/{kind}/{name}", "admin", 201, r#"{"max_concurrent": 9}"#),
    ("GET", "/api/breakers", "viewer", 200, ""),
    ("GET", "/api/breakers/{key}", "viewer", 200, ""),
    ("PUT", "/api/breakers/{key}", "operator", 200, r#"{"state": "closed"}"#),
    ("GET", "/api/queues", "viewer", 200, ""),
    ("GET", "/api/queues/{name}", "viewer", 200, ""),
    ("POST", "/api/queues/{name}/pause", "operator", 200, ""),
    ("POST", "/api/queues/{name}/resume", "operator", 200, ""),
    ("POST", "/api/events", "operator", 202, r#"{"name": "build.finished"}"#),
    ("GET", "/api/executions", "viewer", 200, ""),
    ("GET", "/api/executions/status", "viewer", 200, ""),
    ("GET", "/api/executions/{id}", "viewer", 404, ""),
    ("PATCH", "/api/executions/{id}", "operator", 404, r#"{"priority": 9}"#),
    ("GET", "/api/executions/{id}/logs", "viewer", 404, ""),
    ("POST", "/api/executions/{id}/cancel", "operator", 404, ""),
    ("POST", "/api/executions/{id}/retry", "operator", 404, ""),
    ("POST", "/api/executions/{id}/heartbeat", "operator", 404, r#"{"lease_token": "{token}"}"#),
    ("POST", "/api/executions/{id}/progress", "operator", 404, r#"{"lease_token": "{token}", "percent": 1}"#),
    (
        "POST",
        "/api/executions/{id}/complete",
        "operator",
        404,
        r#"{"lease_token": "{token}", "outcome": "failed"}"#,
    ),
    ("GET", "/api/runs/{id}", "viewer", 404, ""),
    ("POST", "/api/runs/{id}/cancel", "operator", 404, ""),
    ("POST", "/api/runs/{id}/retry", "operator", 404, ""),
    ("GET", "/api/dead-letters", "viewer", 200, ""),
    ("POST", "/api/dead-letters/retry", "operator", 200, ""),
    ("GET", "/api/workers", "viewer", 200, ""),
    ("POST", "/api/workers/{queue}/lease", "operator", 200, r#"{"worker": "w", "max": 5}"#),
    ("GET", "/api/audit/events", "admin", 200, ""),
    ("GET", "/api/audit/chains", "admin", 200, ""),
    ("GET", "/api/audit/blocks", "admin", 404, ""),
    ("GET", "/api/audit/fires", "admin", 200, ""),
    ("GET", "/api/cluster/status", ANYBODY, 200, ""),
    ("POST", "/api/cluster/nodes", "cluster-admin", 403, NODE),
    ("DELETE", "/api/cluster/nodes/{id}", "cluster-admin", 403, ""),
    ("POST", "/api/cluster/nodes/{id}/promote", "cluster-admin", 403, ""),
    ("POST", "/api/cluster/nodes/{id}/drain", "cluster-admin", 403, ""),
    ("POST", "/api/cluster/nodes/{id}/undrain", "cluster-admin", 403, ""),
    ("POST", "/api/cluster/leader", "cluster-admin", 403, r#"{"to": 9}"#),
];

/// The highest role that is too low for a call; none if there is no such role.
fn too_low((_, pattern, least, ..): &Right) -> Option<&'static str> {
    match *least {
        // An editor may try its own again, and is refused for each that is another's.
        "operator" if *pattern == "/api/dead-letters/retry" => Some("viewer"),
        // Whoever manages the cluster has no say in a tenant by that alone.
        "viewer" => Some("cluster-admin"),
        "editor" => Some("viewer"),
        "operator" => Some("editor"),
        "admin" => Some("operator"),
        "cluster-admin" => Some("admin"),
        _ => None,
    }
}

/// What a tenant has, by its names: a task, an execution that a worker has under a token, and one that failed.
#[derive(Debug)]
struct Belongings {
    task: String,
    held: String,
    token: String,
    failed: String,
}

impl Belongings {
    /// Gives a tenant something of everything.
    #[track_caller]
    fn make(api: &Api) -> Self {
        let yearly = json!({ "type": "cron", "expression": "0 0 1 1 *" });
        let task = api.create_id(&noop(HIDDEN, &yearly));
        let suite = api.create_id(&with(queued(HIDDEN, "suites"), json!({ "timeout": "1h" })));
        let held = run(api, &suite);
        let leased = lease(api, "suites", &json!({ "worker": HIDDEN, "lease": "1h" })).remove(0);
        assert_eq!(text(&leased, "id"), held);
        run(api, &suite);
        let failed = run(api, &api.create_id(&script(HIDDEN, &manual(), "exit 3")));
        await_status(api, &failed, "failed");
        let put = |path: &str, body: Value| api.send("PUT", path, &[], Some(&body.to_string())).status;
        assert_eq!(put("/api/calendars/closed", json!({ "days": ["12-25"], "description": HIDDEN })), 201);
        assert_eq!(put("/api/pools/staging", json!({ "capacity": 1 })), 201);
        assert_eq!(put("/api/limits/queue/suites", json!({ "max_concurrent": 5 })), 201);
        assert_eq!(put("/api/breakers/queue:suites", json!({ "state": "open" })), 200);
        Self { task, held, token: text(&leased, "lease_token"), failed }
    }

    /// Makes a call about them, as somebody.
    #[track_caller]
    fn call(&self, api: &Api, (method, pattern, _, _, body): &Right) -> Reply {
        let mut path = path_of(pattern, &self.task, &self.held);
        if *pattern == "/api/audit/fires" {
            path += "?from=2037-01-01T00:00:00Z&to=2038-01-01T00:00:00Z";
        }
        let body = body.replace("{token}", &self.token);
        api.send(method, &path, &[], Some(&body))
    }
}

/// Demands that the table has every call that there is, and no other.
#[track_caller]
fn check_table(api: &Api) {
    let described: BTreeSet<(String, String)> = calls(api).into_iter().collect();
    let rows = RIGHTS.iter().map(|(method, pattern, ..)| ((*method).to_owned(), (*pattern).to_owned()));
    assert_eq!(rows.collect::<BTreeSet<_>>(), described, "each call has a row here");
    assert_eq!(RIGHTS.len(), described.len(), "and just one");
}

#[test]
fn every_call_refuses_a_role_that_is_too_low_and_names_the_one_that_it_takes() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    check_table(&api);
    let belongings = Belongings::make(&api);
    let roles = ["viewer", "editor", "operator", "admin", "cluster-admin"];
    let callers = roles.map(|role| (role, api.with_token(&cluster.mint("low", "acme", &[role]))));
    let before = event_log(&api);
    let mut refused = 0;
    for right in RIGHTS {
        let (method, pattern, least, ..) = right;
        let Some(role) = too_low(right) else { continue };
        let (_, caller) = callers.iter().find(|(other, _)| *other == role).expect("one of the roles");
        let reply = belongings.call(caller, right);
        assert_eq!(reply.status, 403, "{method} {pattern} as {role}: {}", reply.body);
        let (problem, takes) = (reply.json(), format!("this takes the role {least}"));
        assert_eq!(problem["code"], "forbidden", "{method} {pattern}: {problem}");
        assert!(text(&problem, "detail").starts_with(&takes), "{method} {pattern}: {takes}: {problem}");
        assert!(!reply.body.contains(HIDDEN), "{method} {pattern}: {}", reply.body);
        refused += 1;
    }
    assert_eq!(refused, RIGHTS.len() - OPEN.len() - 3, "but for metrics, description and status");
    assert_eq!(event_log(&api), before, "nothing was written");
    assert_eq!(execution(&api, &belongings.held)["status"], "running");
}

/// The one asks without writing anything, so that its lists must be empty; the other writes to its own tenant.
#[test]
fn by_no_call_does_a_tenant_see_or_change_anything_of_another() {
    let cluster = Cluster::start(1);
    let acme = cluster.any();
    check_table(&acme);
    let belongings = Belongings::make(&acme);
    let [reader, writer] =
        ["reader", "writer"].map(|tenant| acme.with_token(&cluster.mint("ann", tenant, &["admin"])));
    let before = event_log(&acme);
    let Belongings { task, held, failed, .. } = &belongings;
    for right in RIGHTS {
        let (method, pattern, _, status, _) = right;
        let stranger = if *method == "GET" { &reader } else { &writer };
        let reply = belongings.call(stranger, right);
        assert_eq!(reply.status, *status, "{method} {pattern}: {}", reply.body);
        for told in [HIDDEN, task, held, failed] {
            assert!(!reply.body.contains(told), "{method} {pattern} tells {told}: {}", reply.body);
        }
        let is_list = *method == "GET" && *pattern != "/api/workers" || pattern.ends_with("/lease");
        let kind = reply.header("Content-Type").unwrap_or_default();
        if is_list && *status == 200 && kind.starts_with("application/json") {
            let found = &reply.json()["items"];
            assert!(found.is_null() || *found == json!([]), "{method} {pattern}: {found}");
        }
    }
    assert_eq!(reader.get("/api/executions/status")["running"], 0);
    assert_eq!(reader.get("/api/schedules/forecast")["tasks"], 0);
    assert_eq!(reader.get("/api/breakers/queue:suites")["state"], "closed");
    let queue = reader.get("/api/queues/suites");
    assert_eq!((&queue["waiting"], &queue["running"]), (&json!(0), &json!(0)), "acme's has one of each");
    let followed = format!("/api/executions/{held}/logs?follow=true");
    assert_eq!(reader.send("GET", &followed, &[], None).status, 404);
    assert_eq!(event_log(&acme), before, "nothing was written");
    assert_eq!(acme.get("/api/breakers/queue:suites")["state"], "open");
    assert_eq!(acme.get("/api/pools/staging")["capacity"], 1);
    assert_eq!(execution(&acme, held)["progress"], Value::Null);
}

#[test]
fn an_editor_who_tries_all_dead_letters_again_tries_only_its_own() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    let editor = api.with_token(&cluster.mint("edd", "acme", &["editor"]));
    let [own, others] = [&editor, &api].map(|api| {
        let id = run(api, &api.create_id(&script("fails", &manual(), "exit 3")));
        await_status(api, &id, "failed");
        id
    });
    let told = editor.post("/api/dead-letters/retry", &Value::Null).expect(200);
    assert_eq!(told["retried"], json!([own]), "{told}");
    let refused = &told["refused"][0];
    assert_eq!(
        (&refused["execution_id"], &refused["status"], &refused["code"]),
        (&json!(others), &json!(403), &json!("forbidden")),
        "{told}"
    );
    until("its own was made again", || {
        let own = execution(&api, &own);
        (&own["attempt"], &own["status"]) == (&json!(2), &json!("failed"))
    });
    let kept = execution(&api, &others);
    assert_eq!((&kept["attempt"], &kept["status"]), (&json!(1), &json!("failed")), "{kept}");
    assert_eq!(items(&api.get("/api/dead-letters/")).len(), 2);
}
