//! Workers outside the cluster, and what they say.

use serde_json::{Value, json};

use super::api::{Api, items, text};
use super::definitions::{manual, noop, with};

/// A task whose executions wait in a queue, beside each other.
pub(crate) fn queued(name: &str, queue: &str) -> Value {
    let action = json!({ "type": "queue", "queue": queue, "payload": { "suite": name } });
    with(noop(name, &manual()), json!({ "action": action, "overlap": "allow" }))
}

/// Leases from a queue.
#[track_caller]
pub(crate) fn lease(api: &Api, queue: &str, request: &Value) -> Vec<Value> {
    items(&api.post(&format!("/api/workers/{queue}/lease"), request).expect(200))
}

/// Where a worker says something of what it leased.
pub(crate) fn path(execution: &Value, what: &str) -> String {
    format!("/api/executions/{}/{what}", text(execution, "id"))
}

/// Completes what was leased, and returns the execution.
#[track_caller]
pub(crate) fn succeed(api: &Api, execution: &Value) -> Value {
    let body =
        json!({ "lease_token": execution["lease_token"], "outcome": "succeeded", "result": { "passed": 3 } });
    api.post(&path(execution, "complete"), &body).expect(200)
}

/// All that a worker can say of an attempt under a token: to which path of the execution, and what.
pub(crate) fn reports(token: &Value) -> [(&'static str, Value); 3] {
    [
        ("heartbeat", json!({ "lease_token": token })),
        ("progress", json!({ "lease_token": token, "percent": 99 })),
        ("complete", json!({ "lease_token": token, "outcome": "succeeded" })),
    ]
}
