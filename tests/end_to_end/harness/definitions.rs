//! Tasks to create, and what became of them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::api::{Api, items, text};
use super::wait::{eventually, instant_in};

/// Every second.
pub(crate) fn every_second() -> Value {
    json!({ "type": "interval", "every": "1s" })
}

/// By hand only.
pub(crate) fn manual() -> Value {
    json!({ "type": "manual" })
}

/// Once, so many milliseconds from now.
pub(crate) fn once_in(ms: i64) -> Value {
    json!({ "type": "once", "at": instant_in(ms) })
}

/// A task that does nothing.
pub(crate) fn noop(name: &str, trigger: &Value) -> Value {
    json!({ "name": name, "trigger": trigger, "action": { "type": "builtin", "operation": "noop" } })
}

/// A task that calls a URL.
pub(crate) fn call(name: &str, trigger: &Value, url: &str) -> Value {
    json!({ "name": name, "trigger": trigger,
            "action": { "type": "http", "method": "POST", "url": url, "body": { "from": name } } })
}

/// A task that runs a shell script.
pub(crate) fn script(name: &str, trigger: &Value, script: &str) -> Value {
    json!({ "name": name, "trigger": trigger,
            "action": { "type": "process", "program": "/bin/sh", "args": ["-c", script] } })
}

/// A script that tells its process and its fencing token in a file of its attempt, and goes on with something else.
pub(crate) fn telling(place: &Path, then: &str) -> String {
    format!(
        "echo $$ $ESCAPEMENT_FENCING_TOKEN > {0}/$$; mv {0}/$$ {0}/told-$ESCAPEMENT_ATTEMPT; {then}",
        place.display()
    )
}

/// Waits until a [`telling`] script runs for this attempt, and returns its process and its fencing token.
#[track_caller]
pub(crate) fn told_by(place: &Path, attempt: u32) -> (u32, u64) {
    eventually(&format!("the program of attempt {attempt} runs"), || {
        let told = fs::read_to_string(place.join(format!("told-{attempt}"))).ok()?;
        let (pid, token) = told.trim().split_once(' ')?;
        Some((pid.parse().ok()?, token.parse().ok()?))
    })
}

/// The task with further fields.
pub(crate) fn with(mut task: Value, fields: Value) -> Value {
    let (Value::Object(task_fields), Value::Object(fields)) = (&mut task, fields) else {
        panic!("both are objects");
    };
    task_fields.extend(fields);
    task
}

/// Runs until it is cancelled, beside others.
pub(crate) fn long(name: &str, fields: Value) -> Value {
    with(with(script(name, &manual(), "sleep 300"), json!({ "overlap": "allow" })), fields)
}

/// Gives a task another definition.
#[track_caller]
pub(crate) fn replace(api: &Api, task: &str, definition: &Value) {
    let path = format!("/api/scheduled-tasks/{task}");
    api.send("PUT", &path, &[], Some(&definition.to_string())).expect(200);
}

/// Runs a task by hand and returns the execution's identifier.
#[track_caller]
pub(crate) fn run(api: &Api, task: &str) -> String {
    text(&api.post(&format!("/api/scheduled-tasks/{task}/run"), &Value::Null).expect(202), "id")
}

/// Executions of a task, newest first.
#[track_caller]
pub(crate) fn executions(api: &Api, task: &str) -> Vec<Value> {
    items(&api.get(&format!("/api/executions/?task_id={task}&limit=1000")))
}

/// Every execution there is, page by page.
#[track_caller]
pub(crate) fn all_executions(api: &Api) -> Vec<Value> {
    api.all("/api/executions/?limit=1000")
}

/// Every event of the tenant's log, page by page.
#[track_caller]
pub(crate) fn event_log(api: &Api) -> Vec<Value> {
    api.all("/api/audit/events?limit=1000")
}

/// The same, without the answers that are kept for those who ask again: what was changed.
#[track_caller]
pub(crate) fn changes_in_log(api: &Api) -> Vec<Value> {
    let mut log = event_log(api);
    log.retain(|event| event["type"] != "CommandAnswered");
    log
}

/// Returns an execution.
#[track_caller]
pub(crate) fn execution(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/executions/{id}"))
}

/// Waits until an execution has a status, and returns it.
#[track_caller]
pub(crate) fn await_status(api: &Api, id: &str, status: &str) -> Value {
    eventually(&format!("execution {id} is {status}"), || {
        let execution = execution(api, id);
        let ended = ["succeeded", "failed", "cancelled", "timed_out", "lost", "skipped"];
        let found = text(&execution, "status");
        assert!(found == status || !ended.contains(&found.as_str()), "not {status}: {execution}");
        (found == status).then_some(execution)
    })
}

/// Waits until a task has so many executions with a status, and returns those with it.
#[track_caller]
pub(crate) fn await_count(api: &Api, task: &str, status: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} executions of {task} are {status}"), || {
        let found: Vec<Value> =
            executions(api, task).into_iter().filter(|execution| execution["status"] == status).collect();
        (found.len() >= count).then_some(found)
    })
}

/// The fencing tokens under which something was said of an execution that the log has as refused, in order.
#[track_caller]
pub(crate) fn refused_tokens(api: &Api, execution: &str) -> Vec<u64> {
    let events = items(&api.get("/api/audit/events?limit=1000"));
    let refused = events.iter().filter(|event| event["type"] == "TaskResultRefused");
    let of_execution = refused.filter(|event| event["data"]["execution_id"] == execution);
    of_execution.map(|event| event["data"]["fencing_token"].as_u64().expect("a number")).collect()
}

/// The node that holds or held the last attempt of an execution.
pub(crate) fn worker_of(execution: &Value) -> Option<u64> {
    let worker = &execution["attempts"].as_array()?.last()?["worker"];
    worker.as_u64().or_else(|| {
        let digits: String = worker
            .as_str()?
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().ok()
    })
}

/// Cancels an execution, and waits until it has ended so.
#[track_caller]
pub(crate) fn cancel(api: &Api, id: &str) {
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    await_status(api, id, "cancelled");
}
