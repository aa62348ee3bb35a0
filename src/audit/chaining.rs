//! What happened to runs of chains by hand, as a readable JSON object.

use escapement_domain::event::{Chaining, EndedStep};
use escapement_domain::identifier::{ExecutionId, TaskId};
use serde_json::{Value, json};

use super::definition::sealed_text;

pub(super) fn chaining_data(chaining: &Chaining) -> Value {
    match chaining {
        Chaining::RunCancelled { task, run } => {
            json!({ "task_id": task.to_string(), "run_id": run.to_string() })
        }
        Chaining::RunTakenUp { task, run, round, recalled, dropped, reopened, .. } => json!({
            "task_id": task.to_string(),
            "run_id": run.to_string(),
            "round": round,
            "recalled": recalled.iter().map(ended).collect::<Vec<Value>>(),
            "decided_anew": dropped.iter().map(ToString::to_string).collect::<Vec<String>>(),
            "reopened": reopened.iter().map(step).collect::<Vec<Value>>(),
        }),
    }
}

fn step((task, execution): &(TaskId, ExecutionId)) -> Value {
    json!({ "task_id": task.to_string(), "execution_id": execution.to_string() })
}

fn ended(ended: &EndedStep) -> Value {
    json!({
        "task_id": ended.task.to_string(),
        "execution_id": ended.execution.to_string(),
        "status": ended.status.name(),
        "result": ended.result.as_ref().map(sealed_text),
    })
}
