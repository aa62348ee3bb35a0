//! What happened to pools, limits, queues, breakers and drained nodes, as a readable JSON object.

use escapement_domain::event::Placing;
use escapement_domain::replica::placement::Gate;
use serde_json::{Value, json};

use super::definition::instant;

pub(super) fn placing_data(placing: &Placing) -> Value {
    match placing {
        Placing::GatePut { gate: Gate::Pool(name), version, capacity } => {
            json!({ "pool": name, "version": version, "capacity": capacity })
        }
        Placing::GateDeleted { gate: Gate::Pool(name) } => json!({ "pool": name }),
        Placing::GatePut { gate, version, capacity } => {
            let (kind, name) = limit_name(gate);
            json!({ "kind": kind, "name": name, "version": version, "max_concurrent": capacity })
        }
        Placing::GateDeleted { gate } => {
            let (kind, name) = limit_name(gate);
            json!({ "kind": kind, "name": name })
        }
        Placing::QueuePaused { queue }
        | Placing::QueueResumed { queue }
        | Placing::QueueUnattended { queue } => json!({ "queue": queue }),
        Placing::QueueAttended { queue, until } => json!({ "queue": queue, "until": instant(Some(*until)) }),
        Placing::BreakerOpened { target, failures, execution, until } => json!({
            "breaker": target,
            "failures": failures,
            "execution_id": execution.map(|execution| execution.to_string()),
            "until": instant(*until),
        }),
        Placing::NodeDrained { node } | Placing::NodeUndrained { node } => json!({ "node": node.0 }),
        Placing::BreakerHalfOpened { target } => json!({ "breaker": target }),
        Placing::BreakerClosed { target, execution } => {
            json!({ "breaker": target, "execution_id": execution.map(|execution| execution.to_string()) })
        }
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
