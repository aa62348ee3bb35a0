//! The calls of the API as its own description names them, so that none that is added later is left out.

use super::api::Api;

/// Names no task, no execution and no backfill.
pub(crate) const NOBODY: &str = "01900000-0000-7000-8000-000000000000";
/// What needs no token.
pub(crate) const OPEN: [&str; 3] = ["/", "/healthz", "/readyz"];

/// Every call: its method, and the pattern of its path.
#[track_caller]
pub(crate) fn calls(api: &Api) -> Vec<(String, String)> {
    let description = api.get("/openapi.json");
    let mut calls = Vec::new();
    for (pattern, operations) in description["paths"].as_object().expect("paths") {
        for method in ["get", "put", "post", "delete", "patch", "head", "options"] {
            if operations[method].is_object() {
                calls.push((method.to_uppercase(), pattern.clone()));
            }
        }
    }
    assert!(calls.len() > 60, "they are all there: {calls:?}");
    calls
}

/// A path of a pattern: about a task, an execution, the calendar `closed`, the pool `staging` or the queue `suites`;
/// about no node and no backfill that there is.
#[track_caller]
pub(crate) fn path_of(pattern: &str, task: &str, execution: &str) -> String {
    let (id, name) = match pattern.split('/').nth(2) {
        Some("scheduled-tasks") => (task, ""),
        Some("calendars") => ("", "closed"),
        Some("pools") => ("", "staging"),
        Some("cluster") => ("9", ""),
        _ => (execution, "suites"),
    };
    let path = pattern.replace("{id}", id).replace("{name}", name).replace("{backfill}", NOBODY);
    let path = path.replace("{kind}", "queue").replace("{queue}", "suites");
    let path = path.replace("{key}", "queue:suites");
    assert!(!path.contains('{') && !path.contains("//"), "all of {pattern} is known: {path}");
    path
}
