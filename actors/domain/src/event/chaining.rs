//! What becomes of a run of a chain by hand. What follows from the ends of its executions are events of those that follow.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::execution::state::Status;
use crate::identifier::{ExecutionId, TaskId};
use crate::task::sealed::Sealed;

/// Something that somebody decided about a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chaining {
    /// Nothing follows in the run any more; what is open of it is told to stop by the events that follow.
    RunCancelled {
        /// The task that began it.
        task: TaskId,
        /// The run, by the execution that began it.
        run: ExecutionId,
    },
    /// The run goes on: the events that follow reopen what did not succeed.
    RunTakenUp {
        /// The task that began it.
        task: TaskId,
        /// The run, by the execution that began it.
        run: ExecutionId,
        /// How often it was taken up, this time included.
        round: u32,
        /// The request that it goes back to.
        correlation_id: Arc<str>,
        /// How its steps ended, if the state no longer knew.
        recalled: Vec<EndedStep>,
        /// Steps that are decided anew.
        dropped: Vec<TaskId>,
        /// Steps whose executions are reopened, with those.
        reopened: Vec<(TaskId, ExecutionId)>,
    },
}

/// How a step of a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedStep {
    /// Its task.
    pub task: TaskId,
    /// Its execution, or the one that it would have been.
    pub execution: ExecutionId,
    /// How it ended.
    pub status: Status,
    /// JSON text of what it returned, if somebody may ask for it.
    pub result: Option<Sealed>,
}

impl Chaining {
    /// The name of the event.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::RunCancelled { .. } => "RunCancelled",
            Self::RunTakenUp { .. } => "RunTakenUp",
        }
    }

    /// The task that began the run.
    pub(super) fn task(&self) -> TaskId {
        match self {
            Self::RunCancelled { task, .. } | Self::RunTakenUp { task, .. } => *task,
        }
    }

    /// The execution that began the run.
    #[must_use]
    pub fn run(&self) -> ExecutionId {
        match self {
            Self::RunCancelled { run, .. } | Self::RunTakenUp { run, .. } => *run,
        }
    }
}
