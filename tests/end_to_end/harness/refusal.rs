//! Bad input, and how it is refused.

use serde_json::Value;

use super::api::{Api, text};

/// Sends a body that must be refused with a 4xx, at `pointer` if one is named; returns the problem.
#[track_caller]
pub(crate) fn refused(api: &Api, (method, path): (&str, &str), body: &str, pointer: Option<&str>) -> Value {
    let shown: String = body.chars().take(200).collect();
    let shown = format!("{method} {path} {shown}");
    let reply = api.send(method, path, &[], Some(body));
    assert!([400, 413, 422].contains(&reply.status), "{shown}: {reply:?}");
    let problem = reply.json();
    assert_eq!(reply.header("Content-Type"), Some("application/problem+json"), "{shown}");
    for field in ["type", "title", "status", "detail", "code", "correlation_id"] {
        assert!(!problem[field].is_null(), "{field} for {shown}: {problem}");
    }
    if let Some(pointer) = pointer {
        let faults = problem["errors"].as_array().cloned().unwrap_or_default();
        let fault = faults.iter().find(|fault| fault["pointer"] == pointer);
        let fault = fault.unwrap_or_else(|| panic!("{pointer} for {shown}: {problem}"));
        assert!(!text(fault, "detail").is_empty(), "{shown}: {problem}");
    }
    problem
}
