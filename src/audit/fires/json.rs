//! Instants and what became of them, as JSON.

use serde_json::{Map, Value, json};

use super::{Fire, FireStatus, Totals};

/// Tells an instant of a tenant's task.
#[must_use]
pub fn fire_json(fire: &Fire, tenant: &str) -> Value {
    let settled = fire.settled;
    json!({
        "tenant": tenant,
        "task_id": fire.task.to_string(),
        "at": fire.at.to_string(),
        "moved_from": fire.moved_from.map(|from| from.to_string()),
        "status": fire.status.name(),
        "reason": fire.reason.as_ref().map(|reason| reason.name()),
        "explanation": fire.reason.as_ref().map(|reason| reason.explanation()),
        "settled_at": settled.map(|settled| settled.at.to_string()),
        "lateness_ms": fire.lateness().map(|lateness| lateness.0),
        "execution_id": settled.and_then(|settled| settled.execution).map(|id| id.to_string()),
        "log_index": settled.map(|settled| settled.log_index),
        "seq": settled.map(|settled| settled.sequence),
    })
}

/// Tells how many instants became what.
#[must_use]
pub fn totals_json(totals: &Totals) -> Value {
    let counts = FireStatus::ALL.map(|status| (status.name().to_owned(), totals.count(status).into()));
    Value::Object(Map::from_iter(counts))
}
