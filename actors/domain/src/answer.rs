//! What a command led to: the answer that its proposer gets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::command::Choice;
use crate::execution::state::Status;
use crate::identifier::{CommandId, ExecutionId, TaskId};
use crate::limits::COMMAND_BYTES_MAX;
use crate::timestamp::Timestamp;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The index of the log entry that holds the command, or held it when it was first heard.
    pub index: u64,
    /// What came of it.
    pub outcome: Result<Accepted, Rejection>,
}

impl Answer {
    /// Returns the answer's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not an answer of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, COMMAND_BYTES_MAX>("answer", bytes)
    }
}

/// What an accepted command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accepted {
    /// It was carried out, and there is nothing to say of it.
    Done,
    /// A task has this version now.
    Task {
        /// Which.
        task: TaskId,
        /// Its version.
        version: u32,
    },
    /// One answer for each new task.
    Tasks(Vec<Result<TaskId, Rejection>>),
    /// An execution stands so.
    Execution {
        /// Which.
        execution: ExecutionId,
        /// How it stands.
        status: Status,
    },
    /// Occurrences were settled.
    Settled {
        /// How many became executions.
        fired: u32,
        /// How many were skipped or missed.
        passed_over: u32,
        /// How many changed nothing, because they had been settled before or do not fit the task.
        ignored: u32,
    },
    /// A backfill has begun.
    Backfill {
        /// Which.
        backfill: CommandId,
        /// How many instants it has.
        total: u32,
    },
    /// A calendar has this version now.
    Calendar {
        /// Its version.
        version: u32,
    },
    /// A worker outside the cluster has these executions, each under a fencing token.
    Leased(Vec<(ExecutionId, u64)>),
    /// A pool or a limit has this version now.
    Gate {
        /// Its version.
        version: u32,
    },
    /// An event is in the log.
    Event {
        /// Which.
        event: CommandId,
        /// When it was published.
        at: Timestamp,
        /// How many tasks it has met so far.
        met: u32,
        /// The first of the executions that it has opened so far.
        executions: Vec<ExecutionId>,
        /// Whether it was held against every task that listens to it; the leader goes on with the rest.
        complete: bool,
    },
    /// The client's key stands for these executions.
    Chosen(Choice),
}

/// Why a command was not carried out. A rejection is a committed answer: the same command will get it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// There is no such task for this tenant.
    #[error("there is no such task")]
    NoSuchTask,
    /// There is no such open execution for this tenant.
    #[error("there is no such open execution")]
    NoSuchExecution,
    /// The identifier is taken.
    #[error("a task with this identifier exists already")]
    TaskExists,
    /// The definition changed since the client read it.
    #[error("the task has version {current}")]
    VersionMismatch {
        /// The version that it has.
        current: u32,
    },
    /// The task's phase does not allow it.
    #[error("the task is {phase}")]
    WrongPhase {
        /// The phase, in the API's words.
        phase: Arc<str>,
    },
    /// An occurrence under the present definition is due and must be settled first.
    #[error("the occurrence of {due} is due and must be settled first")]
    Overdue {
        /// That occurrence.
        due: Timestamp,
    },
    /// The execution's status does not allow it.
    #[error("the execution is {}", status.name())]
    WrongStatus {
        /// Its status.
        status: Status,
    },
    /// The command is older than the window in which outcomes are remembered.
    #[error("the command was issued before {floor} and can no longer be told from one that was carried out")]
    Expired {
        /// The end of what was forgotten.
        floor: Timestamp,
    },
    /// The idempotency key named another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A limit is reached.
    #[error("at most {limit} {what} are allowed")]
    TooMany {
        /// Of what.
        what: Arc<str>,
        /// How many.
        limit: u64,
    },
    /// The worker is not, or no longer, known under this incarnation.
    #[error("the worker is not known under this incarnation")]
    UnknownWorker,
    /// The read models on which the command rests are too old.
    #[error("the execution changed meanwhile")]
    Outdated,
    /// The staged parts are not complete.
    #[error("{found} of {expected} parts are staged")]
    Incomplete {
        /// Parts there are.
        found: u32,
        /// Parts there must be.
        expected: u32,
    },
    /// The tenant has no calendar of this name.
    #[error("there is no calendar `{name}`")]
    NoSuchCalendar {
        /// The name.
        name: Arc<str>,
    },
    /// Tasks name the calendar.
    #[error("{tasks} tasks name the calendar `{name}`")]
    CalendarInUse {
        /// The calendar.
        name: Arc<str>,
        /// How many tasks.
        tasks: u64,
    },
    /// The occurrence has run, was skipped, or is due already.
    #[error("the occurrence of {at} has passed")]
    OccurrencePassed {
        /// Its instant.
        at: Timestamp,
    },
    /// Nobody skipped or moved the occurrence.
    #[error("the occurrence of {at} is neither skipped nor moved")]
    OccurrenceUnchanged {
        /// Its instant.
        at: Timestamp,
    },
    /// An occurrence cannot be moved into the past.
    #[error("{to} has passed")]
    MovedIntoThePast {
        /// Where it was to be moved.
        to: Timestamp,
    },
    /// The task has no such backfill, or it has ended.
    #[error("there is no such backfill")]
    NoSuchBackfill,
    /// Another token is valid for the execution, or none.
    #[error("the lease is no longer valid: the attempt has ended or is in other hands")]
    StaleLease,
    /// The bytes in the log are not a command that this version can read.
    #[error("unreadable: {detail}")]
    Unreadable {
        /// Why.
        detail: Arc<str>,
    },
    /// The tenant has no pool of this name.
    #[error("there is no pool `{name}`")]
    NoSuchPool {
        /// The name.
        name: Arc<str>,
    },
    /// Tasks ask for shares of the pool.
    #[error("{tasks} tasks ask for shares of the pool `{name}`")]
    PoolInUse {
        /// The pool.
        name: Arc<str>,
        /// How many tasks.
        tasks: u64,
    },
    /// More is asked of the pool than there is.
    #[error("the pool `{name}` has a capacity of {capacity}, and {asked} is asked")]
    PoolTooSmall {
        /// The pool.
        name: Arc<str>,
        /// What is asked.
        asked: u32,
        /// What there is.
        capacity: u32,
    },
    /// There is no such limit.
    #[error("there is no such limit")]
    NoSuchLimit,
    /// A task names calendars that its tenant does not have.
    #[error("there is no calendar {}", in_backticks(names))]
    MissingCalendars {
        /// Those that are missing, at least one.
        names: Vec<Arc<str>>,
    },
    /// A task is to run after tasks that its tenant does not have.
    #[error("there is no task {}", in_a_row(tasks, ", "))]
    MissingTasks {
        /// Those that are missing, at least one.
        tasks: Vec<TaskId>,
    },
    /// A task would run after itself.
    #[error("the tasks would wait for each other: {}", in_a_row(tasks, " → "))]
    ChainCycle {
        /// The way from the task back to it, each after the one before.
        tasks: Vec<TaskId>,
    },
    /// Other tasks run after the task.
    #[error("tasks run after it: {}", in_a_row(tasks, ", "))]
    TaskAwaited {
        /// Those that do, as far as they are named.
        tasks: Vec<TaskId>,
    },
    /// There is no such run of which something is open, or yet to be decided.
    #[error("there is no such open run")]
    NoSuchRun,
    /// Something of the run is open, or yet to be decided.
    #[error("the run has not ended: wait for its end, or cancel it")]
    RunOpen,
    /// Nothing of the run failed or was cancelled.
    #[error("nothing of the run failed or was cancelled")]
    NothingToRetry,
    /// A later execution took its place in its run.
    #[error("the execution {execution} took its place in its run")]
    Superseded {
        /// That execution.
        execution: ExecutionId,
    },
    /// It cannot be scheduled.
    #[error("{detail}")]
    Unschedulable {
        /// A JSON Pointer to the field within what was asked for.
        pointer: Arc<str>,
        /// What is wrong and what is allowed.
        detail: Arc<str>,
    },
}

fn in_a_row(tasks: &[TaskId], between: &str) -> String {
    tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

fn in_backticks(names: &[Arc<str>]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
