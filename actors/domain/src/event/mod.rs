//! What happened: the facts from which every state and every read model is made.
//! Variants are only ever appended. Bodies that can hold secrets sit in a [`Sealed`] envelope.

mod chaining;
mod placing;
mod reason;
mod subject;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::reason::{AttemptEnded, GiveUpCause, PauseCause, ReleaseCause, RequeueCause, SkipReason};
pub use self::{chaining::Chaining, chaining::EndedStep, placing::Placing};
use crate::answer::Answer;
use crate::command::{Change, Idempotency, NewTask, Offers};
use crate::execution::state::{CancelCause, Holder, Occurrence, Status};
use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::schedule::calendar::Calendar;
use crate::task::{rules::Rules, sealed::Sealed};
use crate::timestamp::{Span, Timestamp};

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
        /// Why.
        cause: PauseCause,
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
        /// Who has it.
        holder: Holder,
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
        /// How long the target asked to be left alone, if that is longer than the back-off.
        retry_after: Option<Span>,
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
    /// An execution waits for no earlier one of its task any longer, but for a worker.
    TaskReleased {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Why.
        cause: ReleaseCause,
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
        /// Why there is no further attempt.
        cause: GiveUpCause,
    },
    /// An execution took too long: its last attempt, all of it, or its wait for a worker.
    TaskTimedOut {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Its last attempt, if one was running and its end is known.
        ended: Option<AttemptEnded>,
        /// Why it is not tried again, or what of it took too long.
        cause: GiveUpCause,
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
    /// An attempt was taken back, and its execution may not be made again.
    TaskLost {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// Why it was.
        cause: RequeueCause,
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
        /// The items that failed last, for its next attempt.
        retry_items: Option<Sealed>,
        /// JSON text of the document of its cause, if it has one.
        cause: Option<Sealed>,
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
    /// Instants passed by that a calendar forbids.
    TaskSuppressed {
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
        /// The calendar.
        calendar: Arc<str>,
        /// The instant that follows.
        next: Option<Timestamp>,
    },
    /// Somebody skipped or moved a coming occurrence, or took that back.
    TaskOccurrenceChanged {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The occurrence's instant.
        at: Timestamp,
        /// What becomes of it.
        change: Change,
    },
    /// An instant passed by whose occurrence runs at another time.
    TaskMoved {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The instant.
        at: Timestamp,
        /// When it runs, or ran.
        to: Timestamp,
        /// The instant that follows.
        next: Option<Timestamp>,
    },
    /// A task's next instant is another one, by newer zone data.
    TaskReplanned {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// What it was.
        before: Timestamp,
        /// What it is.
        next: Option<Timestamp>,
    },
    /// Every task is planned by this version of the zone data, or by a newer one, and from here on by this one.
    ZoneDataAdopted {
        /// The version, such as `2025b`.
        version: Arc<str>,
    },
    /// Instants of the past are being run.
    BackfillStarted {
        /// Where the task is kept.
        slot: u32,
        /// The task.
        task: TaskId,
        /// The backfill, by the command that asked for it.
        backfill: CommandId,
        /// The instants, in order.
        instants: Vec<Timestamp>,
        /// How many run at once.
        concurrency: u32,
    },
    /// A backfill is over.
    BackfillEnded {
        /// The task.
        task: TaskId,
        /// The backfill.
        backfill: CommandId,
        /// How many of its instants were left out since it was cancelled.
        left_out: u32,
    },
    /// A calendar is there, or is another one now.
    CalendarPut {
        /// Its name.
        name: Arc<str>,
        /// Its version now, from 1.
        version: u32,
        /// What it covers.
        calendar: Calendar,
    },
    /// A calendar is gone.
    CalendarDeleted {
        /// Its name.
        name: Arc<str>,
    },
    /// Whoever has an attempt says how far it is.
    TaskProgress {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// The fencing token of the attempt.
        token: u64,
        /// How much is done, from 0 to 100.
        percent: Option<u8>,
        /// A sentence for people.
        message: Option<Arc<str>>,
    },
    /// An execution in the queue has another priority.
    TaskPriorityChanged {
        /// The task.
        task: TaskId,
        /// The execution.
        execution: ExecutionId,
        /// From 0 to 9.
        priority: u8,
    },
    /// Something that decides who gets which attempt is another.
    Placement(Placing),
    /// Somebody decided about a run of a chain.
    Chain(Chaining),
    /// Something happened outside: it is held against the tasks that listen to it.
    EventPublished {
        /// The event, by the command that published it.
        event: CommandId,
        /// What happened.
        name: Arc<str>,
        /// JSON text of what there is to say about it.
        payload: Sealed,
    },
    /// An event was held against more of the tasks that listen to it.
    EventHandedOut {
        /// The event.
        event: CommandId,
        /// The last task that it was held against; none when there are no more.
        up_to: Option<TaskId>,
        /// How many of them it met: each has an execution, or a skip.
        met: u32,
    },
}
