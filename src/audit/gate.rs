//! What happened to pools, limits, queues and breakers, as a readable JSON object.

use escapement_domain::event::Event;
use escapement_domain::replica::placement::Gate;
use serde_json::{Value, json};

use super::definition::instant;

pub(super) fn gate_data(event: &Event) -> Value {
    match event {
        Event::GatePut { gate: Gate::Pool(name), version, capacity } => {
            json!({ "pool": name, "version": version, "capacity": capacity })
        }
        Event::GateDeleted { gate: Gate::Pool(name) } => json!({ "pool": name }),
        Event::GatePut { gate, version, capacity } => {
            let (kind, name) = limit_name(gate);
            json!({ "kind": kind, "name": name, "version": version, "max_concurrent": capacity })
        }
        Event::GateDeleted { gate } => {
            let (kind, name) = limit_name(gate);
            json!({ "kind": kind, "name": name })
        }
        Event::QueuePaused { queue } | Event::QueueResumed { queue } => json!({ "queue": queue }),
        Event::BreakerOpened { target, failures, execution, until } => json!({
            "breaker": target,
            "failures": failures,
            "execution_id": execution.map(|execution| execution.to_string()),
            "until": instant(*until),
        }),
        Event::BreakerHalfOpened { target } => json!({ "breaker": target }),
        Event::BreakerClosed { target, execution } => {
            json!({ "breaker": target, "execution_id": execution.map(|execution| execution.to_string()) })
        }
        _ => Value::Null,
    }
}

fn limit_name(gate: &Gate) -> (&'static str, &str) {
    match gate {
        Gate::Pool(name) => ("pool", name),
        Gate::Label(label) => ("label", label),
        Gate::Queue(queue) => ("queue", queue),
        Gate::Tenant => ("tenant", ""),
    }
}
