//! Single occurrences that a client changes, and ranges of the past that it runs.

use escapement_domain::command::Change;
use escapement_domain::identifier::TaskId;
use escapement_domain::task::state::Override;
use escapement_domain::timestamp::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::BackfillView;

/// What is to become of one coming occurrence of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct OccurrenceChange {
    /// The task.
    #[schema(read_only)]
    task_id: String,
    /// The occurrence's instant by the schedule.
    #[schema(example = "2026-12-24T01:00:00Z")]
    at: String,
    /// `skip`: it is not run. `move`: it is run at another time. `restore`: it is run when its schedule says, after all.
    #[serde(rename = "do")]
    #[schema(value_type = Deed)]
    deed: &'static str,
    /// When it is run instead; with `move` only.
    #[serde(default)]
    to: Option<String>,
}

/// What is done with an occurrence.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) enum Deed {
    /// It is not run.
    Skip,
    /// It is run at another time.
    Move,
    /// It is run when its schedule says, after all.
    Restore,
}

/// An occurrence that is skipped or moved.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ChangedOccurrence {
    /// Its instant by the schedule.
    at: String,
    /// `skip` or `move`.
    #[serde(rename = "do")]
    deed: &'static str,
    /// When it is run instead.
    #[schema(required = true)]
    to: Option<String>,
    /// Whether it was moved to a time before its own instant, and has run.
    done: bool,
}

/// A range of the past to run.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct BackfillRange {
    /// The range begins with this instant.
    #[schema(example = "2026-03-01T00:00:00Z")]
    from: String,
    /// And ends with this one, which is past.
    #[schema(example = "2026-03-02T00:00:00Z")]
    to: String,
    /// How many run at once.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    concurrency: u32,
}

/// A backfill.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Backfill {
    /// Its name.
    id: String,
    /// The task that is run.
    task_id: String,
    /// The first of its instants.
    from: String,
    /// The last of its instants.
    to: String,
    /// How many instants it has.
    total: u32,
    /// How many run at once.
    concurrency: u32,
    /// When it was asked for.
    started_at: String,
    /// How many of its executions are open.
    open: u32,
    /// How many instants are not run yet.
    left: u32,
}

impl OccurrenceChange {
    pub(in crate::http) fn of(task: TaskId, at: Timestamp, change: Change) -> Self {
        let (deed, to) = match change {
            Change::Skip => ("skip", None),
            Change::Move { to } => ("move", Some(to.to_string())),
            Change::Restore => ("restore", None),
        };
        Self { task_id: task.to_string(), at: at.to_string(), deed, to }
    }
}

impl From<(Timestamp, Override)> for ChangedOccurrence {
    fn from((at, change): (Timestamp, Override)) -> Self {
        let (deed, to, done) = match change {
            Override::Skip => ("skip", None, false),
            Override::Move { to, done } => ("move", Some(to.to_string()), done),
        };
        Self { at: at.to_string(), deed, to, done }
    }
}

impl From<BackfillView> for Backfill {
    fn from(view: BackfillView) -> Self {
        Self {
            id: view.id.to_string(),
            task_id: view.task.to_string(),
            from: view.from.to_string(),
            to: view.to.to_string(),
            total: view.total,
            concurrency: view.concurrency,
            started_at: view.started_at.to_string(),
            open: view.open,
            left: view.left,
        }
    }
}
