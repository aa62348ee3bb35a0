//! A definition in the form in which the API takes it.

use std::collections::BTreeMap;

use escapement_domain::schedule::calendar::{Calendar, CalendarMode};
use escapement_domain::task::action::{Action, Completion, Operation};
use escapement_domain::task::definition::{Definition, Delivery, Kind, MisfirePolicy, Overlap, Retry};
use escapement_domain::task::retry_on::{Numbers, RetryOn};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::{Dst, Fold, Gap, IfPast, Trigger};
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

/// Tells a definition as a client would write it, with every default filled in.
#[must_use]
pub fn definition_json(definition: &Definition) -> Value {
    let breaker = definition.circuit_breaker.map(|breaker| {
        json!({ "failure_threshold": breaker.failure_threshold, "open_for": breaker.open_for.to_string() })
    });
    json!({
        "name": definition.name,
        "description": definition.description,
        "kind": kind(definition.kind),
        "trigger": trigger(&definition.trigger),
        "action": action(&definition.action),
        "inputs": definition.inputs,
        "timeout": definition.timeout.to_string(),
        "execution_timeout": definition.execution_timeout.map(|span| span.to_string()),
        "queue_timeout": definition.queue_timeout.map(|span| span.to_string()),
        "retry": retry(&definition.retry, definition.retry_on.as_ref()),
        "circuit_breaker": breaker,
        "misfire": {
            "policy": misfire(definition.misfire.policy),
            "grace": definition.misfire.grace.to_string(),
            "window": definition.misfire.window.to_string(),
        },
        "overlap": overlap(definition.overlap),
        "delivery": delivery(definition.delivery),
        "priority": definition.priority,
        "resources": definition.resources,
        "jitter": definition.jitter.to_string(),
        "calendars": definition.calendars,
        "labels": definition.labels,
        "start_at": instant(definition.start_at),
        "end_at": instant(definition.end_at),
        "max_runs": definition.max_runs,
        "max_concurrent": definition.max_concurrent,
        "pause_after_failures": definition.pause_after_failures,
    })
}

/// Tells the definition in an envelope, or how many bytes there are that cannot be opened.
pub(super) fn sealed_definition(sealed: &Sealed) -> Value {
    match sealed.open_definition() {
        Ok(definition) => definition_json(&definition),
        Err(_) => unopened(sealed),
    }
}

/// Tells the JSON text in an envelope.
pub(super) fn sealed_text(sealed: &Sealed) -> Value {
    match sealed.open().map(std::str::from_utf8) {
        Ok(Ok(text)) => parsed(text),
        Ok(Err(_)) | Err(_) => unopened(sealed),
    }
}

fn unopened(sealed: &Sealed) -> Value {
    json!({ "sealed": sealed.open().map(<[u8]>::len).ok() })
}

/// JSON text as the value that it is; what is no JSON stays a text.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// An instant, if there is one.
pub(super) fn instant(instant: Option<Timestamp>) -> Option<String> {
    instant.map(|instant| instant.to_string())
}

fn trigger(trigger: &Trigger) -> Value {
    match trigger {
        Trigger::Cron { expression, timezone, dst } => {
            json!({ "type": "cron", "expression": expression, "timezone": timezone, "dst": daylight(*dst) })
        }
        Trigger::Interval { every, anchor } => {
            json!({ "type": "interval", "every": every.to_string(), "anchor": instant(*anchor) })
        }
        Trigger::Once { at, if_past } => {
            let if_past = match if_past {
                IfPast::Refuse => "refuse",
                IfPast::Run => "run",
            };
            json!({ "type": "once", "at": at.to_string(), "if_past": if_past })
        }
        Trigger::Event { name, filter } => {
            let filter: BTreeMap<&String, Value> =
                filter.iter().map(|(pointer, text)| (pointer, parsed(text))).collect();
            json!({ "type": "event", "name": name, "filter": filter })
        }
        Trigger::After { tasks, condition } => {
            let tasks: Vec<String> = tasks.iter().map(ToString::to_string).collect();
            json!({ "type": "after", "tasks": tasks, "condition": condition.name() })
        }
        Trigger::Manual => json!({ "type": "manual" }),
    }
}

fn daylight(dst: Dst) -> Value {
    let gap = match dst.gap {
        Gap::Cron => "cron",
        Gap::Skip => "skip",
        Gap::Shift => "shift",
    };
    let fold = match dst.fold {
        Fold::Cron => "cron",
        Fold::First => "first",
        Fold::Second => "second",
        Fold::Both => "both",
    };
    json!({ "gap": gap, "fold": fold })
}

fn action(action: &Action) -> Value {
    let optional = |text: &Option<String>| text.as_deref().map(parsed);
    match action {
        Action::Http(http) => {
            let (completion, silence) = match http.completion {
                Completion::Response => ("response", None),
                Completion::Callback { heartbeat_timeout } => ("callback", heartbeat_timeout),
            };
            json!({
                "type": "http",
                "method": http.method,
                "url": http.url,
                "headers": http.headers,
                "body": optional(&http.body),
                "completion": completion,
                "heartbeat_timeout": silence.map(|silence| silence.to_string()),
            })
        }
        Action::Process(process) => json!({
            "type": "process",
            "program": process.program,
            "args": process.args,
            "env": process.env,
            "stdin": process.stdin,
            "limits": {
                "memory": process.limits.memory,
                "cpu_time": process.limits.cpu_time.map(|time| time.to_string()),
                "open_files": process.limits.open_files,
                "processes": process.limits.processes,
            },
        }),
        Action::Queue { queue, payload } => {
            json!({ "type": "queue", "queue": queue, "payload": optional(payload) })
        }
        Action::Builtin { operation, parameters } => {
            let operation = match operation {
                Operation::Noop => "noop",
                Operation::Housekeeping => "housekeeping",
            };
            json!({ "type": "builtin", "operation": operation, "parameters": optional(parameters) })
        }
    }
}

fn retry(retry: &Retry, on: Option<&RetryOn>) -> Value {
    let numbers =
        |listed: &[Numbers]| listed.iter().map(|numbers| json!(numbers.to_string())).collect::<Vec<Value>>();
    let retry_on = on.map(|on| {
        json!({
            "http_status": numbers(&on.http_status),
            "exit_codes": numbers(&on.exit_codes),
            "signal": on.signal,
            "timeout": on.timeout,
            "connection": on.connection,
            "other": on.other,
        })
    });
    json!({
        "max_attempts": retry.max_attempts,
        "initial_delay": retry.initial_delay.to_string(),
        "multiplier": f64::from(retry.multiplier_per_mille) / 1_000.0,
        "max_delay": retry.max_delay.to_string(),
        "jitter": f64::from(retry.jitter_per_mille) / 1_000.0,
        "retry_on": retry_on,
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Generic => "generic",
        Kind::TestExecution => "test_execution",
        Kind::Maintenance => "maintenance",
        Kind::Report => "report",
        Kind::Alert => "alert",
    }
}

fn misfire(policy: MisfirePolicy) -> &'static str {
    match policy {
        MisfirePolicy::Skip => "skip",
        MisfirePolicy::RunLatest => "run_latest",
        MisfirePolicy::RunAll => "run_all",
    }
}

fn overlap(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::QueueOne => "queue_one",
        Overlap::QueueAll => "queue_all",
        Overlap::CancelRunning => "cancel_running",
        Overlap::Allow => "allow",
    }
}

fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at_least_once",
        Delivery::AtMostOnce => "at_most_once",
    }
}

/// A calendar as it is written.
pub(crate) fn calendar_json(calendar: &Calendar) -> Value {
    let mode = match calendar.mode {
        CalendarMode::Exclude => "exclude",
        CalendarMode::Only => "only",
    };
    json!({
        "description": calendar.description,
        "mode": mode,
        "timezone": calendar.timezone,
        "days": calendar.days.iter().map(ToString::to_string).collect::<Vec<String>>(),
        "windows": calendar.windows.iter().map(ToString::to_string).collect::<Vec<String>>(),
    })
}
