//! What an event is called and what it is about.

use super::Event;
use crate::identifier::{ExecutionId, TaskId};

impl Event {
    /// The name of the event in the log, streams and notifications.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TenantAdded { .. } => "TenantAdded",
            Self::TaskCreated { .. } => "TaskCreated",
            Self::TaskUpdated { .. } => "TaskUpdated",
            Self::TaskPaused { .. } => "TaskPaused",
            Self::TaskResumed { .. } => "TaskResumed",
            Self::TaskDeleted { .. } => "TaskDeleted",
            Self::TaskScheduled { .. } => "TaskScheduled",
            Self::TaskSkipped { .. } | Self::TaskSuppressed { .. } => "TaskSkipped",
            Self::TaskMissed { .. } => "TaskMissed",
            Self::TaskStarted { .. } => "TaskStarted",
            Self::TaskProgress { .. } => "TaskProgress",
            Self::TaskRetry { .. } => "TaskRetry",
            Self::TaskRequeued { .. } => "TaskRequeued",
            Self::TaskReleased { .. } => "TaskReleased",
            Self::TaskCompleted { .. } => "TaskCompleted",
            Self::TaskFailed { .. } => "TaskFailed",
            Self::TaskTimedOut { .. } => "TaskTimedOut",
            Self::TaskCancelRequested { .. } => "TaskCancelRequested",
            Self::TaskCancelled { .. } => "TaskCancelled",
            Self::TaskLost { .. } => "TaskLost",
            Self::TaskResultRefused { .. } => "TaskResultRefused",
            Self::TaskReopened { .. } => "TaskReopened",
            Self::WorkerJoined { .. } => "WorkerJoined",
            Self::WorkerDraining { .. } => "WorkerDraining",
            Self::WorkerLost { .. } => "WorkerLost",
            Self::WorkerReported { .. } => "WorkerReported",
            Self::CommandAnswered { .. } => "CommandAnswered",
            Self::WindowAdvanced { .. } => "WindowAdvanced",
            Self::TasksStaged { .. } => "TasksStaged",
            Self::BulkCommitted { .. } => "BulkCommitted",
            Self::BulkContinued { .. } => "BulkContinued",
            Self::BulkEnded { .. } => "BulkEnded",
            Self::TaskOccurrenceChanged { .. } => "TaskOccurrenceChanged",
            Self::TaskMoved { .. } => "TaskMoved",
            Self::TaskReplanned { .. } => "TaskReplanned",
            Self::ZoneDataAdopted { .. } => "ZoneDataAdopted",
            Self::BackfillStarted { .. } => "BackfillStarted",
            Self::BackfillEnded { .. } => "BackfillEnded",
            Self::CalendarPut { .. } => "CalendarPut",
            Self::CalendarDeleted { .. } => "CalendarDeleted",
            Self::Placement(placing) => placing.name(),
            Self::Chain(chaining) => chaining.name(),
            Self::TaskPriorityChanged { .. } => "TaskPriorityChanged",
            Self::EventPublished { .. } => "EventPublished",
            Self::EventHandedOut { .. } => "EventHandedOut",
        }
    }

    /// The task whose stream the event belongs to.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::TaskCreated { task, .. }
            | Self::TaskUpdated { task, .. }
            | Self::TaskPaused { task, .. }
            | Self::TaskResumed { task, .. }
            | Self::TaskDeleted { task, .. }
            | Self::TaskScheduled { task, .. }
            | Self::TaskSkipped { task, .. }
            | Self::TaskMissed { task, .. }
            | Self::TaskStarted { task, .. }
            | Self::TaskProgress { task, .. }
            | Self::TaskRetry { task, .. }
            | Self::TaskRequeued { task, .. }
            | Self::TaskReleased { task, .. }
            | Self::TaskCompleted { task, .. }
            | Self::TaskFailed { task, .. }
            | Self::TaskTimedOut { task, .. }
            | Self::TaskCancelRequested { task, .. }
            | Self::TaskCancelled { task, .. }
            | Self::TaskLost { task, .. }
            | Self::TaskReopened { task, .. }
            | Self::TaskSuppressed { task, .. }
            | Self::TaskOccurrenceChanged { task, .. }
            | Self::TaskMoved { task, .. }
            | Self::TaskReplanned { task, .. }
            | Self::TaskPriorityChanged { task, .. }
            | Self::BackfillStarted { task, .. }
            | Self::BackfillEnded { task, .. } => Some(*task),
            Self::Chain(chaining) => Some(chaining.task()),
            _ => None,
        }
    }

    /// The execution that the event is about.
    #[must_use]
    pub fn execution(&self) -> Option<ExecutionId> {
        match self {
            Self::TaskScheduled { execution, .. }
            | Self::TaskSkipped { execution, .. }
            | Self::TaskStarted { execution, .. }
            | Self::TaskProgress { execution, .. }
            | Self::TaskRetry { execution, .. }
            | Self::TaskRequeued { execution, .. }
            | Self::TaskReleased { execution, .. }
            | Self::TaskCompleted { execution, .. }
            | Self::TaskFailed { execution, .. }
            | Self::TaskTimedOut { execution, .. }
            | Self::TaskCancelRequested { execution, .. }
            | Self::TaskCancelled { execution, .. }
            | Self::TaskLost { execution, .. }
            | Self::TaskResultRefused { execution, .. }
            | Self::TaskPriorityChanged { execution, .. }
            | Self::TaskReopened { execution, .. } => Some(*execution),
            Self::Placement(placing) => placing.execution(),
            Self::Chain(chaining) => Some(chaining.run()),
            _ => None,
        }
    }
}
