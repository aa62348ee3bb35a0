//! What is proposed to the log: a header that says who wants it and when, and a request.
//!
//! The proposer brings everything that is not deterministic: the instant, fresh identifiers, and the next instant of a
//! schedule. Variants are only ever appended.

mod ends;
mod reopening;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::ends::{AttemptOutcome, AttemptResult, Report};
pub use self::reopening::{RecalledRun, RecalledStep, Reopening};

use crate::codec::{self, CodecError};
use crate::execution::waits::Wait;
use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::limits::COMMAND_BYTES_MAX;
use crate::replica::placement::Gate;
use crate::schedule::calendar::Calendar;
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::timestamp::{Span, Stamp, Timestamp};

/// One proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// When the leader stamped it.
    pub stamp: Stamp,
    /// Who wants it.
    pub origin: Origin,
    /// What is wanted.
    pub request: Request,
}

impl Command {
    /// Returns the command's bytes in the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a command of the log.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not a command of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, COMMAND_BYTES_MAX>("command", bytes)
    }
}

/// Who wants something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The scheduler itself: a repeated proposal is recognised by its subject, not by an id.
    Scheduler,
    /// Somebody with a token.
    Client(Client),
}

/// Somebody with a token, and one request of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The command: repeated under the same id, it returns its first outcome.
    pub command: CommandId,
    /// When the command was first issued; refused when the window in which ids are remembered has passed it.
    pub issued_at: Timestamp,
    /// The key that the client gave to the request, if any.
    pub idempotency: Option<Idempotency>,
    /// The tenant for whom they act.
    pub tenant: Arc<str>,
    /// Who they are.
    pub subject: Arc<str>,
    /// The request that everything which follows goes back to.
    pub correlation_id: Arc<str>,
}

/// A client's own key for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The key.
    pub key: Arc<str>,
    /// A digest of what was asked under it.
    pub digest: [u8; 32],
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// New tasks, each for itself: one that is refused does not hold up the others.
    CreateTasks(Vec<NewTask>),
    /// Another definition for a task.
    UpdateTask {
        /// Which.
        task: TaskId,
        /// The version that the client saw, if it said.
        expected_version: Option<u32>,
        /// The new rules.
        rules: Box<Rules>,
        /// The new definition.
        definition: Sealed,
        /// Its first instant after the command's.
        next: Option<Timestamp>,
    },
    /// No fires until it is resumed.
    PauseTask {
        /// Which.
        task: TaskId,
    },
    /// Fires again; what was due meanwhile is settled by the misfire policy.
    ResumeTask {
        /// Which.
        task: TaskId,
    },
    /// Gone, with its open executions cancelled.
    DeleteTask {
        /// Which.
        task: TaskId,
        /// The version that the client saw, if it said.
        expected_version: Option<u32>,
    },
    /// A run now, by hand.
    RunTask {
        /// Which.
        task: TaskId,
    },
    /// An execution is to stop.
    CancelExecution {
        /// Which.
        execution: ExecutionId,
    },
    /// An ended execution gets another attempt.
    RetryExecution(Box<Reopening>),
    /// Occurrences are due.
    Fire(Vec<Due>),
    /// Executions have waited until their time: for the next attempt, or for as long as they may.
    WaitsOver(Vec<(ExecutionId, Wait)>),
    /// A worker is there.
    JoinWorker {
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
    DrainWorker {
        /// Its node.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
    },
    /// A worker is gone: its lease ran out, or it said so.
    LoseWorker {
        /// Its node.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
    },
    /// Attempts ended.
    Report(Report),
    /// Outcomes of commands up to this instant are forgotten, and those of idempotency keys up to the other.
    AdvanceWindow {
        /// For command ids.
        commands: Timestamp,
        /// For idempotency keys.
        keys: Timestamp,
    },
    /// Work that an earlier command left over because its share was full.
    Continue,
    /// A part of a bulk of which all or none is created.
    StageTasks {
        /// The bulk.
        bulk: CommandId,
        /// Which part, counted from 0.
        part: u32,
        /// Its tasks.
        tasks: Vec<NewTask>,
    },
    /// Creates all that was staged.
    CommitStaged {
        /// The bulk.
        bulk: CommandId,
        /// How many parts there must be.
        parts: u32,
    },
    /// Forgets what was staged.
    AbandonStaged {
        /// The bulk.
        bulk: CommandId,
    },
    /// A coming occurrence is skipped or moved, or is not any more.
    ChangeOccurrence {
        /// The task.
        task: TaskId,
        /// The occurrence's instant.
        at: Timestamp,
        /// What becomes of it.
        change: Change,
    },
    /// The times have come to which occurrences were moved: the task's slot, and their own instants.
    FireMoved(Vec<(u32, Timestamp)>),
    /// Instants of the past are run, each once for this command.
    Backfill {
        /// The task.
        task: TaskId,
        /// The instants, in order.
        instants: Vec<Timestamp>,
        /// How many run at once.
        concurrency: u32,
    },
    /// What a backfill has left is not run.
    CancelBackfill {
        /// The task.
        task: TaskId,
        /// The backfill: the command that asked for it.
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
    /// Next instants by newer zone data.
    Replan(Vec<Replanned>),
    /// Every task is planned by this version of the zone data, or by a newer one, and from here on by this one.
    AdoptZoneData {
        /// The version.
        version: Arc<str>,
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
        /// The execution.
        execution: ExecutionId,
        /// The fencing token under which the worker has it.
        token: u64,
        /// How it ended.
        outcome: AttemptOutcome,
    },
    /// Whoever has an attempt says how far it is.
    ReportProgress {
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
    /// Attempts of workers outside the cluster are over: nothing was heard of the worker, or it took too long.
    EndLeases(Vec<LeaseEnd>),
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
    /// An execution in the queue has another priority.
    SetPriority {
        /// Which.
        execution: ExecutionId,
        /// From 0 to 9.
        priority: u8,
    },
    /// A target is not called any more, or is again.
    SetBreaker {
        /// The target, as breakers name it.
        target: Arc<str>,
        /// Whether its breaker is open.
        open: bool,
    },
    /// Breakers that have been open for long enough: whose, of which target, and until when.
    BreakersDue(Vec<(TenantId, Arc<str>, Timestamp)>),
    /// The times to which occurrences were moved came in a pause, after which their tasks are about to change: the task's
    /// slot, and their own instants.
    MissMoved(Vec<(u32, Timestamp)>),
    /// What is open of a run of a chain is to stop, and nothing follows in it.
    CancelRun {
        /// The run, by the execution that began it.
        run: ExecutionId,
    },
    /// A run of a chain that ended goes on from what failed in it.
    RetryRun(Box<RecalledRun>),
    /// Something happened outside: the tasks run that listen to it.
    PublishEvent {
        /// What happened.
        name: Arc<str>,
        /// JSON text of what there is to say about it.
        payload: Sealed,
    },
    /// A node takes nothing new, whatever start of it is there, or takes something again.
    DrainNode {
        /// Which.
        node: NodeId,
        /// Whether it is drained.
        drained: bool,
    },
    /// These executions are what the client's key stands for: repeated under it, the client is told the same ones. Nothing else
    /// comes of it.
    ChooseExecutions(Choice),
    /// Nobody was heard to wait at queues for long enough: whose, which, and until when they counted as attended.
    AttendanceOver(Vec<(TenantId, Arc<str>, Timestamp)>),
    /// Nothing is carried out under the client's key: what was asked for cannot be scheduled. An earlier try under the key that
    /// comes later is refused with it; one that came before keeps its answer.
    Refuse {
        /// A JSON Pointer to the field within what was asked for.
        pointer: Arc<str>,
        /// What is wrong and what is allowed.
        detail: Arc<str>,
    },
}

/// Executions for which a client's key stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Which.
    pub executions: Vec<ExecutionId>,
    /// Where the client goes on after them.
    pub next: Option<ExecutionId>,
}

/// The end of a lease that the worker did not bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEnd {
    /// The execution.
    pub execution: ExecutionId,
    /// The fencing token of the attempt.
    pub token: u64,
    /// Whether the attempt took too long; its lease ran out otherwise.
    pub timed_out: bool,
}

/// What becomes of one coming occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// It is not run.
    Skip,
    /// It is run at another time.
    Move {
        /// When.
        to: Timestamp,
    },
    /// It is run when its schedule says, after all.
    Restore,
}

/// The next instant of a task by newer zone data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replanned {
    /// The task's slot.
    pub slot: u32,
    /// The revision of the task under which it was computed.
    pub revision: u64,
    /// The instant that it takes the place of.
    pub before: Timestamp,
    /// The instant; `None` when there is none any more.
    pub next: Option<Timestamp>,
}

/// A task to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its name, made by the proposer.
    pub task: TaskId,
    /// What decisions read of its definition.
    pub rules: Box<Rules>,
    /// Its definition.
    pub definition: Sealed,
    /// When it is created, by the proposer: the instant from which `next` was computed, and which anchors an interval.
    pub created_at: Timestamp,
    /// Its first instant.
    pub next: Option<Timestamp>,
    /// Whether it starts out paused.
    pub paused: bool,
}

/// One due occurrence, or a run of instants that are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The task's slot.
    pub slot: u32,
    /// The revision under which the instants were computed ([`Replica::revision`](crate::replica::Replica::revision)).
    pub revision: u64,
    /// The first instant that is not settled.
    pub due: Timestamp,
    /// When this and those after it are passed over: which.
    pub passed: Option<Passed>,
    /// The instant that follows; `None` when there is none.
    pub next: Option<Timestamp>,
    /// The first of the instants that follow which no calendar forbids and nobody skips or moves: whether a missed one
    /// is the latest is told by it.
    pub next_allowed: Option<Timestamp>,
}

/// A run of instants that are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The last of them.
    pub last: Timestamp,
    /// How many they are.
    pub count: u32,
    /// Why.
    pub cause: PassedCause,
}

/// Why instants are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassedCause {
    /// Nobody could fire them, and the misfire policy does not run them.
    Missed,
    /// A calendar forbids them.
    Forbidden {
        /// Its place among the calendars that the task names.
        calendar: u8,
    },
}

/// What a worker can carry out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// HTTP calls.
    pub http: bool,
    /// The node's own operations.
    pub builtin: bool,
    /// Programs.
    pub programs: Programs,
}

/// Which programs a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Programs {
    /// Any: a developer's machine.
    Any,
    /// These.
    Listed(Vec<Arc<str>>),
}
