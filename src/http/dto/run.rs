//! A run of a chain with its steps.

use serde::Serialize;
use utoipa::ToSchema;

use super::execution::Status;
use crate::service::runs::{RunStatus, RunView, StepView};

/// A run of a chain: one execution that follows no others, and all that follow it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Run {
    /// Its name: the `run_id` of all of its executions, and the id of the one that began it.
    #[schema(format = "uuid")]
    id: String,
    /// The task that began it.
    #[schema(format = "uuid")]
    task_id: String,
    /// How it stands: `running` while something of it is open, then `failed` if a step failed for good, else `cancelled` if
    /// one was, or all of it, else `succeeded`; `skipped` if its first execution was.
    #[schema(value_type = RunStanding)]
    status: &'static str,
    /// When its first execution was queued.
    #[schema(required = true)]
    started_at: Option<String>,
    /// When its last execution ended; null while it runs.
    #[schema(required = true)]
    finished_at: Option<String>,
    /// Its tasks, each after those that it waits for; also those that were not reached.
    steps: Vec<Step>,
}

/// One task of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Step {
    /// The task.
    #[schema(format = "uuid")]
    task_id: String,
    /// What it is called; null if it was deleted.
    #[schema(required = true)]
    task_name: Option<String>,
    /// Its last execution in the run; null if it was not reached.
    #[schema(required = true, format = "uuid")]
    execution_id: Option<String>,
    /// How that stands; null if it was not reached.
    #[schema(required = true, value_type = Option<Status>)]
    status: Option<&'static str>,
    /// Why it was skipped, cancelled, lost or given up.
    #[schema(required = true)]
    reason: Option<String>,
    /// When it was queued.
    #[schema(required = true)]
    started_at: Option<String>,
    /// When it ended.
    #[schema(required = true)]
    finished_at: Option<String>,
    /// The tasks that it waits for.
    after: Vec<String>,
}

/// How a run stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum RunStanding {
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Skipped,
}

impl From<RunView> for Run {
    fn from(run: RunView) -> Self {
        Self {
            id: run.id.to_string(),
            task_id: run.task.to_string(),
            status: RunStatus::name(run.status),
            started_at: run.started_at.map(|instant| instant.to_string()),
            finished_at: run.finished_at.map(|instant| instant.to_string()),
            steps: run.steps.into_iter().map(Step::from).collect(),
        }
    }
}

impl From<StepView> for Step {
    fn from(step: StepView) -> Self {
        let row = step.row.as_deref();
        Self {
            task_id: step.task.to_string(),
            task_name: step.name,
            execution_id: row.map(|row| row.id.to_string()),
            status: row.map(|row| row.status.name()),
            reason: row.and_then(|row| Some(row.reason.as_ref()?.explanation().into_owned())),
            started_at: row.and_then(|row| Some(row.fired_at?.to_string())),
            finished_at: row.and_then(|row| Some(row.finished_at?.to_string())),
            after: step.after.iter().map(ToString::to_string).collect(),
        }
    }
}
