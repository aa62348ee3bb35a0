//! What a client wants of the scheduler, before the leader stamps it and computes the instants.
//!
//! This is what travels from the node that a client called to the leader, and from there into a command.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use escapement_domain::command::{AttemptOutcome, Change, Choice, Client, Offers, RecalledRun, Reopening};
use escapement_domain::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId};
use escapement_domain::replica::placement::Gate;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::definition::Definition;
use escapement_domain::timestamp::{Span, Timestamp};

/// One request of one client. Repeated under the same command id, it gets its first answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Who, on whose behalf, and under which command id.
    pub client: Client,
    /// What.
    pub intent: Intent,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// New tasks, each for itself.
    CreateTasks(Vec<Draft>),
    /// A part of a bulk of which all or none is created.
    StageTasks {
        /// The bulk.
        bulk: CommandId,
        /// Which part, from 0.
        part: u32,
        /// Its tasks.
        tasks: Vec<Draft>,
    },
    /// Creates all that was staged.
    CommitStaged {
        /// The bulk.
        bulk: CommandId,
        /// How many parts there must be.
        parts: u32,
    },
    /// Another definition for a task.
    UpdateTask {
        /// Which.
        task: TaskId,
        /// The version that the client saw, if it said.
        expected_version: Option<u32>,
        /// The new definition.
        definition: Box<Definition>,
    },
    /// No fires until it is resumed.
    PauseTask {
        /// Which.
        task: TaskId,
    },
    /// Fires again.
    ResumeTask {
        /// Which.
        task: TaskId,
    },
    /// Gone.
    DeleteTask {
        /// Which.
        task: TaskId,
        /// The version that the client saw, if it said.
        expected_version: Option<u32>,
    },
    /// A run by hand.
    RunTask {
        /// Which.
        task: TaskId,
    },
    /// An execution is to stop.
    CancelExecution {
        /// Which.
        execution: ExecutionId,
        /// Its task.
        task: TaskId,
    },
    /// An ended execution gets another attempt.
    RetryExecution(Box<Reopening>),
    /// A coming occurrence is skipped or moved, or is not any more.
    ChangeOccurrence {
        /// The task.
        task: TaskId,
        /// The occurrence's instant.
        at: Timestamp,
        /// What becomes of it.
        change: Change,
    },
    /// The occurrences of a range of the past are run.
    Backfill {
        /// The task.
        task: TaskId,
        /// The range begins with this instant.
        from: Timestamp,
        /// And ends with this one.
        to: Timestamp,
        /// How many run at once.
        concurrency: u32,
    },
    /// What a backfill has left is not run.
    CancelBackfill {
        /// The task.
        task: TaskId,
        /// The backfill.
        backfill: CommandId,
    },
    /// A calendar, new or in the place of one of this name.
    PutCalendar {
        /// Its name.
        name: Arc<str>,
        /// What it covers.
        calendar: Calendar,
    },
    /// No such calendar any more.
    DeleteCalendar {
        /// Its name.
        name: Arc<str>,
    },
    /// A worker outside the cluster takes executions from a queue.
    Lease {
        /// The queue.
        queue: Arc<str>,
        /// What the worker calls itself.
        worker: Arc<str>,
        /// At most so many.
        most: u32,
        /// How long its lease holds from each sign of life.
        lease: Span,
        /// How long it waits for something to come.
        wait: Span,
    },
    /// A worker outside the cluster says how an attempt ended.
    CompleteAttempt {
        /// The execution's task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// The fencing token under which the worker has it.
        token: u64,
        /// How it ended.
        outcome: AttemptOutcome,
    },
    /// Whoever has an attempt says how far it is.
    ReportProgress {
        /// The execution's task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// The fencing token under which the worker has it.
        token: u64,
        /// How much is done, from 0 to 100.
        percent: Option<u8>,
        /// A sentence for people.
        message: Option<Arc<str>>,
        /// Whether a node has it, for a target that reports later; a worker outside the cluster otherwise.
        of_node: bool,
    },
    /// A pool or a limit, new or with another capacity.
    PutGate {
        /// Which.
        gate: Gate,
        /// How much there is.
        capacity: u32,
    },
    /// No such pool or limit any more.
    DeleteGate {
        /// Which.
        gate: Gate,
    },
    /// Nothing more of a queue is granted, or something is again.
    PauseQueue {
        /// Which.
        queue: Arc<str>,
        /// Whether it is paused.
        paused: bool,
    },
    /// A target is not called any more, or is again.
    SetBreaker {
        /// The target.
        target: Arc<str>,
        /// Whether its breaker is open.
        open: bool,
    },
    /// An execution in the queue has another priority.
    SetPriority {
        /// Which.
        execution: ExecutionId,
        /// Its task.
        task: TaskId,
        /// From 0 to 9.
        priority: u8,
    },
    /// Something happened outside: the tasks run that listen to it.
    PublishEvent {
        /// What happened.
        name: Arc<str>,
        /// JSON text of what there is to say about it.
        payload: Arc<str>,
    },
    /// What is open of a run of a chain is to stop, and nothing follows in it.
    CancelRun {
        /// The run, by the execution that began it.
        run: ExecutionId,
    },
    /// A run of a chain that ended goes on from what failed in it.
    RetryRun(Box<RecalledRun>),
    /// A node takes nothing new, or something again.
    DrainNode {
        /// Which.
        node: NodeId,
        /// Whether it is drained.
        drained: bool,
    },
    /// The client's key stands for these executions.
    ChooseExecutions(Choice),
    /// Nothing is carried out under the client's key any more: what was asked for cannot be scheduled.
    Refuse {
        /// A JSON Pointer to the field within what was asked for.
        pointer: Arc<str>,
        /// What is wrong and what is allowed.
        detail: Arc<str>,
    },
}

impl Intent {
    /// Whether it may be many commands, of which only so many are on their way at a time.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::CreateTasks(_) | Self::StageTasks { .. } | Self::CommitStaged { .. })
    }

    /// The task whose actor carries this, if it is about one task.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::CreateTasks(drafts) if drafts.len() == 1 => drafts.first().map(|draft| draft.task),
            Self::CreateTasks(_)
            | Self::StageTasks { .. }
            | Self::CommitStaged { .. }
            | Self::PutCalendar { .. }
            | Self::DeleteCalendar { .. }
            | Self::Lease { .. }
            | Self::PutGate { .. }
            | Self::DeleteGate { .. }
            | Self::PauseQueue { .. }
            | Self::SetBreaker { .. }
            | Self::PublishEvent { .. }
            | Self::CancelRun { .. }
            | Self::RetryRun(_)
            | Self::DrainNode { .. }
            | Self::ChooseExecutions(_)
            | Self::Refuse { .. } => None,
            Self::UpdateTask { task, .. }
            | Self::PauseTask { task }
            | Self::ResumeTask { task }
            | Self::DeleteTask { task, .. }
            | Self::RunTask { task }
            | Self::ChangeOccurrence { task, .. }
            | Self::Backfill { task, .. }
            | Self::CancelBackfill { task, .. }
            | Self::CompleteAttempt { task, .. }
            | Self::ReportProgress { task, .. }
            | Self::SetPriority { task, .. }
            | Self::CancelExecution { task, .. } => Some(*task),
            Self::RetryExecution(reopening) => Some(reopening.task),
        }
    }
}

/// A task to create, before its first instant is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// Its name, made by the node that the client called.
    pub task: TaskId,
    /// Its definition.
    pub definition: Definition,
    /// Whether it starts out paused.
    pub paused: bool,
}

/// Why there is no answer. A request that was refused has an answer: see [`Answer::outcome`](escapement_domain::answer::Answer::outcome).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SubmitError {
    /// Not committed. Go to `leader`, or anywhere after an election if it is `None`.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Not committed: too much is waiting. Try again later.
    #[error("too many requests are waiting")]
    Busy,
    /// May yet be committed. Ask again under the same command id, never under a new one.
    #[error("no answer in time; the command may still be carried out")]
    Unknown,
    /// The definition cannot be scheduled; refused by the leader before the log.
    #[error("{detail}")]
    Unschedulable {
        /// A JSON Pointer to the field within the task.
        pointer: Arc<str>,
        /// What is wrong and what is allowed.
        detail: Arc<str>,
    },
    /// This node can no longer serve.
    #[error("this node stopped: {reason}")]
    Stopped {
        /// Why.
        reason: Arc<str>,
    },
}

/// What a node's dispatcher tells the leader about itself, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The node.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
    /// Attempts at once.
    pub slots: u32,
    /// What it can carry out.
    pub offers: Offers,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// The worker's wall clock, so that the leader sees a clock that is off.
    pub wall_clock: Timestamp,
}

/// The leader's answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewed {
    /// The lease holds for so many milliseconds from when the renewal was sent.
    Until {
        /// Milliseconds.
        lease_millis: u64,
        /// The index of the log that the leader had applied then: only a state that has come as far is fresh enough to start
        /// something by.
        applied: u64,
    },
    /// This incarnation is lost: kill what it runs and come back as a new one.
    Lost,
}

/// A sign of life of a worker outside the cluster, about one attempt that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The tenant for whom it works.
    pub tenant: Arc<str>,
    /// The execution.
    pub execution: ExecutionId,
    /// The fencing token under which it has it.
    pub token: u64,
}

/// The leader's answer to a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// The lease holds on.
    Until {
        /// For so many milliseconds from when the sign was sent.
        lease_millis: u64,
        /// Whether the attempt is to stop.
        cancel: bool,
    },
    /// The tenant has no such open execution.
    NoSuchExecution,
    /// The attempt has ended, or is in other hands.
    Stale,
}
