//! What is true of one task now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::sealed::Sealed;
use crate::execution::state::Status;
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::timestamp::Timestamp;

/// One task, as every replica holds it: what decisions read, and the definition unopened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name for ever.
    pub id: TaskId,
    /// Where the replica keeps it.
    pub slot: u32,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who created it.
    pub owner: Arc<str>,
    /// Counts the changes of its definition, from 1.
    pub version: u32,
    /// Changes with every change of the definition, and is never the same for two tasks that follow each other in a slot.
    pub revision: u64,
    /// Whether it fires.
    pub phase: Phase,
    /// The last instant that was fired, skipped or missed; at first the instant of its creation.
    pub settled: Timestamp,
    /// The first instant that is not settled; `None` when there is none to come.
    pub next: Option<Timestamp>,
    /// How often it was fired by its schedule.
    pub runs: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its definition or phase last changed.
    pub updated_at: Timestamp,
    /// What decisions read of its definition.
    pub rules: Arc<Rules>,
    /// Its definition.
    pub definition: Sealed,
    /// Its executions that have not ended, oldest first.
    pub open: Vec<ExecutionId>,
    /// The execution that ended or was skipped last.
    pub last_execution: Option<LastExecution>,
    /// Where its events are in its tenant's log.
    pub stream: Stream,
}

/// Whether a task fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It fires.
    Active,
    /// It does not, until it is resumed.
    Paused,
    /// It has no instant to come.
    Finished,
}

/// The execution of a task that ended last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExecution {
    /// Which.
    pub id: ExecutionId,
    /// How it ended.
    pub status: Status,
    /// The instant it was for.
    pub scheduled_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// The events of one task: a list threaded through its tenant's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stream {
    /// How many there are.
    pub length: u64,
    /// The sequence, in the tenant's log, of the last one; 0 if there is none.
    pub last: u64,
}
