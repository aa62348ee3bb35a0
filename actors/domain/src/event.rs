//! What happened: the facts from which every state and every read model is made.
//!
//! Variants are only ever appended. Bodies that can hold secrets sit in a [`Sealed`] envelope.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::command::{Idempotency, NewTask, Offers};
use crate::execution::state::{CancelCause, Occurrence, Status};
use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::timestamp::Timestamp;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A tenant was heard of for the first time.
    TenantAdded {
        /// Its number.
        number: TenantId,
        /// Its name.
        name: Arc<str>,
    },
    /// A task exists.
    TaskCreated {
        /// Where it is kept.
        slot: u32,
        /// Its name.
        task: TaskId,
        /// Who created it.
        owner: Arc<str>,
        /// What decisions read of its definition.
        rules: Box<Rules>,
        /// Its definition.
        definition: Sealed,
        /// When it was created, by its proposer's clock.
        created_at: Timestamp,
        /// Its first instant.
        next: Option<Timestamp>,
        /// Whether it starts out paused.
        paused: bool,
    },
    /// A task has another definition.
    TaskUpdated {
        /// Where it is kept.
        slot: u32,
        /// Which.
        task: TaskId,
        /// Its version now.
        version: u32,
        /// What decisions read of its definition.
        rules: Box<Rules>,
        /// Its definition.
        definition: Sealed,
        /// Its first instant under it.
        next: Option<Timestamp>,
    },
    /// A task fires no more until it is resumed.
    TaskPaused {
        /// Where it is kept.
        slot: u32,
        /// Which.
        task: TaskId,
    },
    /// A task fires again.
    TaskResumed {
        /// Where it is kept.
        slot: u32,
        /// Which.
        task: TaskId,
    },
    /// A task is gone.
    TaskDeleted {
        /// Where it was kept.
        slot: u32,
        /// Which.
        task: TaskId,
    },
    /// An occurrence became an execution in the queue.
    TaskScheduled {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// What made it.
        occurrence: Occurrence,
        /// The instant it is for.
        scheduled_at: Timestamp,
        /// The version of the definition that it runs.
        task_version: u32,
        /// The instant that follows; kept as it was by a run by hand.
        next: Option<Timestamp>,
        /// Whether it waits for an earlier execution of its task.
        held: bool,
    },
    /// An occurrence was not run, for a reason.
    TaskSkipped {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The execution that it would have been.
        execution: ExecutionId,
        /// What asked for it.
        occurrence: Occurrence,
        /// The instant it was for.
        scheduled_at: Timestamp,
        /// The version of the definition.
        task_version: u32,
        /// The instant that follows; kept as it was by a run by hand.
        next: Option<Timestamp>,
        /// Why.
        reason: SkipReason,
    },
    /// Instants passed by while nobody could fire them, and the misfire policy does not run them.
    TaskMissed {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The first of them.
        first: Timestamp,
        /// The last of them.
        last: Timestamp,
        /// How many.
        count: u32,
        /// The instant that follows.
        next: Option<Timestamp>,
    },
    /// An attempt was granted to a worker; the sequence of this event is its fencing token.
    TaskStarted {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Which attempt, counted from 1.
        attempt: u32,
        /// The worker's node.
        node: NodeId,
        /// The worker's start.
        incarnation: Incarnation,
    },
    /// An attempt failed and another one will be made.
    TaskRetry {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// How the attempt ended.
        ended: AttemptEnded,
        /// When the next one is due.
        until: Timestamp,
    },
    /// An execution waits for a worker again.
    TaskRequeued {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Why.
        cause: RequeueCause,
    },
    /// The earlier execution ended for which this one waited.
    TaskReleased {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
    },
    /// An execution did what it was asked.
    TaskCompleted {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Its last attempt.
        ended: AttemptEnded,
        /// JSON text of what it returned.
        result: Option<Sealed>,
    },
    /// An execution failed for good.
    TaskFailed {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Its last attempt.
        ended: AttemptEnded,
        /// JSON text of what it returned.
        result: Option<Sealed>,
    },
    /// An execution's last attempt took too long.
    TaskTimedOut {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Its last attempt.
        ended: AttemptEnded,
    },
    /// A running execution was told to stop.
    TaskCancelRequested {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Why.
        cause: CancelCause,
    },
    /// An execution stopped because it was told to.
    TaskCancelled {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Why.
        cause: CancelCause,
        /// Its last attempt, if one was running.
        ended: Option<AttemptEnded>,
    },
    /// An execution's worker was lost, and it may not be made again.
    TaskLost {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// The fencing token of the lost attempt.
        token: u64,
    },
    /// A result came under a fencing token that is not, or no longer, the attempt's.
    TaskResultRefused {
        /// The execution.
        execution: ExecutionId,
        /// The token under which it came.
        token: u64,
        /// The token that is valid now, if an attempt runs.
        current: Option<u64>,
    },
    /// An ended execution gets another attempt.
    TaskReopened {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// What made it.
        occurrence: Occurrence,
        /// The instant it is for.
        scheduled_at: Timestamp,
        /// The version of the definition that it runs now.
        task_version: u32,
        /// Attempts that it had.
        attempts: u32,
        /// How it had ended.
        status: Status,
    },
    /// A worker is there.
    WorkerJoined {
        /// Its node.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
        /// Attempts at once.
        slots: u32,
        /// What it can carry out.
        offers: Offers,
    },
    /// A worker takes nothing new.
    WorkerDraining {
        /// Its node.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
    },
    /// A worker is gone; what it holds is taken back by the events that follow.
    WorkerLost {
        /// Its node.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
    },
    /// A worker's report was heard.
    WorkerReported {
        /// Its node.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
        /// The report's number.
        sequence: u64,
    },
    /// A client's command was answered; the answer is remembered for a while.
    CommandAnswered {
        /// The command.
        command: CommandId,
        /// When the client issued it, by a clock that may be ahead of the log.
        issued_at: Timestamp,
        /// The client's own key for it.
        idempotency: Option<Idempotency>,
        /// The answer.
        answer: Box<Answer>,
    },
    /// Answers to older commands are forgotten.
    WindowAdvanced {
        /// Up to here for command ids.
        commands: Timestamp,
        /// Up to here for idempotency keys.
        keys: Timestamp,
    },
    /// A part of a bulk is kept until its commit.
    TasksStaged {
        /// The bulk.
        bulk: CommandId,
        /// Which part.
        part: u32,
        /// Its tasks.
        tasks: Vec<NewTask>,
    },
    /// All parts of a bulk are there and its tasks are being created.
    BulkCommitted {
        /// The bulk.
        bulk: CommandId,
        /// Who asked for it.
        owner: Arc<str>,
    },
    /// More tasks of a committed bulk were created.
    BulkContinued {
        /// The bulk.
        bulk: CommandId,
        /// How many more.
        created: u32,
    },
    /// A bulk is over: all of it was created, or none of it will be.
    BulkEnded {
        /// The bulk.
        bulk: CommandId,
        /// Whether it was created.
        created: bool,
    },
}

/// How an attempt ended, as the worker that made it saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnded {
    /// Its fencing token.
    pub token: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Whether it took too long.
    pub timed_out: bool,
    /// A sentence why it failed.
    pub error: Option<Arc<str>>,
}

/// Why an occurrence was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipReason {
    /// An earlier execution of the task is open.
    Overlap,
    /// An earlier execution is open and another one waits already.
    OverlapQueueFull,
    /// The task has as many open executions as it may have.
    TooManyOpen,
}

impl SkipReason {
    /// A sentence for people.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Overlap => "an earlier execution of the task had not ended (overlap: skip)",
            Self::OverlapQueueFull => {
                "an earlier execution had not ended and another one waited already (overlap: queue_one)"
            }
            Self::TooManyOpen => "the task had as many open executions as it may have",
        }
    }
}

/// Why an execution waits for a worker again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequeueCause {
    /// The time of its next attempt has come.
    RetryDue,
    /// Its worker was lost.
    WorkerLost {
        /// The fencing token of the lost attempt.
        token: u64,
    },
    /// Its worker stopped and gave it back.
    HandedBack {
        /// The fencing token of the attempt.
        token: u64,
    },
}

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
            Self::TaskSkipped { .. } => "TaskSkipped",
            Self::TaskMissed { .. } => "TaskMissed",
            Self::TaskStarted { .. } => "TaskStarted",
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
            | Self::TaskRetry { task, .. }
            | Self::TaskRequeued { task, .. }
            | Self::TaskReleased { task, .. }
            | Self::TaskCompleted { task, .. }
            | Self::TaskFailed { task, .. }
            | Self::TaskTimedOut { task, .. }
            | Self::TaskCancelRequested { task, .. }
            | Self::TaskCancelled { task, .. }
            | Self::TaskLost { task, .. }
            | Self::TaskReopened { task, .. } => Some(*task),
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
            | Self::TaskReopened { execution, .. } => Some(*execution),
            _ => None,
        }
    }
}
