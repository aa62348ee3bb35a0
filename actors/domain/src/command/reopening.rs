//! What is taken up again after its end, as the read models know it: the state has forgotten it.

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
}
