//! What is taken up again after its end, as the read models know it: the state has forgotten it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::execution::state::{Occurrence, Status};
use crate::identifier::{ExecutionId, TaskId};
use crate::task::sealed::Sealed;
use crate::timestamp::Timestamp;

/// An ended execution that gets another attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopening {
    /// The execution.
    pub execution: ExecutionId,
    /// Its task.
    pub task: TaskId,
    /// What made it.
    pub occurrence: Occurrence,
    /// The instant it is for.
    pub scheduled_at: Timestamp,
    /// How it ended.
    pub status: Status,
    /// Attempts that it had.
    pub attempts: u32,
    /// The items that failed last, for its next attempt.
    pub retry_items: Option<Sealed>,
    /// JSON text of the document of its cause, if it has one.
    pub cause: Option<Sealed>,
    /// The log index up to which the read models were read.
    pub as_of: u64,
    /// The run of a chain that goes on with it, if it belongs to one that ended.
    pub run: Option<Box<RecalledRun>>,
}

/// A run of a chain that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecalledRun {
    /// The run, by the execution that began it.
    pub run: ExecutionId,
    /// The task that began it.
    pub task: TaskId,
    /// How often it was taken up again so far.
    pub round: u32,
    /// Whether it was cancelled as a whole.
    pub cancelled: bool,
    /// The request that it goes back to.
    pub correlation_id: Arc<str>,
    /// The last execution of each of its tasks.
    pub steps: Vec<RecalledStep>,
    /// The log index up to which the read models were read.
    pub as_of: u64,
}

/// One step of a run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecalledStep {
    /// Its execution.
    pub ended: Reopening,
    /// JSON text of what it returned, if a step that may follow asks for it.
    pub result: Option<Sealed>,
}
