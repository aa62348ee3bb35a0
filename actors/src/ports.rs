//! What the actors need from outside, as traits that a simulation can replace.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use escapement_domain::answer::Answer;
use escapement_domain::command::Report;
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::execution::usage::Usage;
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId, TenantId};
use escapement_domain::task::action::Action;
use escapement_domain::timestamp::{Span, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::intent::{Heard, Heartbeat, Renewal, Renewed, Submission, SubmitError};

/// Wall time and monotonic time, apart: wall time names instants, monotonic time measures waits.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock of this node.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start of this process; never goes back and counts time in suspend.
    fn monotonic(&self) -> Duration;
}

/// Random numbers.
pub trait Entropy: Send + Sync + 'static {
    /// 128 random bits.
    fn bits(&self) -> u128;
}

/// An ordered map of byte strings on a disk, cut into named trees.
///
/// Writes of one batch become visible together. Nothing is safe from a power cut before [`Storage::sync`] returned;
/// what a later sync covers includes everything written before it.
pub trait Storage: Send + Sync + 'static {
    /// Writes a batch: `None` removes the key.
    ///
    /// # Errors
    /// Any error is final: the node must stop serving from this storage.
    fn write(&self, batch: Vec<Write>) -> io::Result<()>;
    /// Writes a batch like [`Storage::write`], on a thread of the storage's own if it has one, so that the caller's goes
    /// on meanwhile. The caller waits for the answer before it hands in the next batch.
    ///
    /// # Errors
    /// As [`Storage::write`].
    fn write_behind(&self, batch: Vec<Write>) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(std::future::ready(self.write(batch)))
    }
    /// Reads one value.
    ///
    /// # Errors
    /// As [`Storage::write`].
    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Reads up to `limit` pairs with `from <= key < to`, in order, or in reverse order from the end.
    ///
    /// # Errors
    /// As [`Storage::write`].
    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Removes everything in a tree.
    ///
    /// # Errors
    /// As [`Storage::write`].
    fn clear(&self, tree: Tree) -> io::Result<()>;
    /// Resolves when everything written before the call is on the disk for good.
    ///
    /// # Errors
    /// A failed sync is final: it is never tried again.
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub tree: Tree,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// The trees of a node's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tree {
    /// Blocks of the event log by (tenant, first sequence).
    EventBlocks,
    /// Every so many events of a task's stream, its sequence.
    TaskStreams,
    /// Executions by (tenant, execution).
    Executions,
    /// Executions of a task by (tenant, task, execution).
    TaskExecutions,
    /// Executions that did not succeed by (tenant, status, execution).
    ExecutionStatuses,
    /// Executions that follow others in the run of a chain by (tenant, run, execution).
    RunExecutions,
    /// Counts for the statistics.
    Statistics,
    /// How far each projection has come.
    Checkpoints,
    /// Captured output by (execution, attempt, chunk), of attempts made on this node.
    Output,
}

impl Tree {
    /// Every tree.
    pub const ALL: [Self; 9] = [
        Self::EventBlocks,
        Self::TaskStreams,
        Self::Executions,
        Self::TaskExecutions,
        Self::ExecutionStatuses,
        Self::RunExecutions,
        Self::Statistics,
        Self::Checkpoints,
        Self::Output,
    ];

    /// The trees that are made from the event log alone.
    pub const DERIVED: [Self; 7] = [
        Self::TaskStreams,
        Self::Executions,
        Self::TaskExecutions,
        Self::ExecutionStatuses,
        Self::RunExecutions,
        Self::Statistics,
        Self::Checkpoints,
    ];

    /// The name under which a storage keeps the tree.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EventBlocks => "event-blocks",
            Self::TaskStreams => "task-streams",
            Self::Executions => "executions",
            Self::TaskExecutions => "task-executions",
            Self::ExecutionStatuses => "execution-statuses",
            Self::RunExecutions => "run-executions",
            Self::Statistics => "statistics",
            Self::Checkpoints => "checkpoints",
            Self::Output => "output",
        }
    }
}

/// What an attempt is asked to do.
#[derive(Clone, Debug)]
pub struct AttemptOrder {
    /// The tenant whose task it is.
    pub tenant: String,
    /// The task.
    pub task: TaskId,
    /// The execution: the idempotency key that every attempt of it shares.
    pub execution: ExecutionId,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// Grows with every attempt of a task; a target refuses work under an older one.
    pub fencing_token: u64,
    /// The instant of the occurrence.
    pub scheduled_at: Timestamp,
    /// What to do.
    pub action: Action,
    /// Whether the task takes values over from a cause, and the execution has none.
    pub without_cause: bool,
    /// How long the attempt may take.
    pub timeout: Span,
    /// The request that this work goes back to.
    pub correlation_id: String,
    /// JSON text of a list: the items that failed last, which are all that is to be done again.
    pub retry_items: Option<String>,
}

/// How an attempt ended, as its executor saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It did what it was asked.
    Succeeded {
        /// JSON text of what it returned.
        result: Option<String>,
    },
    /// It failed.
    Failed(AttemptFailure),
    /// It took longer than it may, and was stopped.
    TimedOut,
    /// It was stopped because it was told to.
    Cancelled,
    /// It was told to stop before it had begun.
    NotStarted,
}

/// A failure, as an executor saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFailure {
    /// A sentence for people.
    pub error: String,
    /// What sort of failure it was.
    pub class: FailureClass,
    /// JSON text of what it returned, if anything.
    pub result: Option<String>,
    /// How long the target asks to be left alone.
    pub retry_after: Option<Span>,
    /// JSON text of a list: the items that failed.
    pub failed_items: Option<String>,
}

impl AttemptFailure {
    /// A failure of no particular class, of which nothing but a sentence is known.
    #[must_use]
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            class: FailureClass::Other,
            result: None,
            retry_after: None,
            failed_items: None,
        }
    }
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub end: AttemptEnd,
    /// What it used, if that can be told.
    pub usage: Option<Usage>,
}

impl From<AttemptEnd> for Finished {
    fn from(end: AttemptEnd) -> Self {
        Self { end, usage: None }
    }
}

impl From<AttemptFailure> for AttemptEnd {
    fn from(failure: AttemptFailure) -> Self {
        Self::Failed(failure)
    }
}

/// One piece of what an attempt wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// When it was read.
    pub at: Timestamp,
    /// Where it was written.
    pub stream: OutputStream,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Where an attempt wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the scheduler itself says of the attempt.
    System,
}

/// Takes what an attempt writes; bounded, so that what is too much is cut off with a word.
pub trait OutputSink: Send + Sync + 'static {
    /// Takes one piece.
    fn write(&self, chunk: OutputChunk);
}

/// Carries out attempts of some actions.
pub trait Executor: Send + Sync + 'static {
    /// Carries the order out. It ends by itself at the order's timeout, and soon after `cancel` is cancelled: first
    /// politely, then not; nothing that it started outlives the returned future. Dropping the future kills at once.
    fn run(
        &self,
        order: AttemptOrder,
        output: std::sync::Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Finished>;
}

/// The executors of a node by the kind of their action.
pub struct Executors {
    /// Runs [`Action::Http`].
    pub http: std::sync::Arc<dyn Executor>,
    /// Runs [`Action::Process`].
    pub process: std::sync::Arc<dyn Executor>,
    /// Runs [`Action::Builtin`].
    pub builtin: std::sync::Arc<dyn Executor>,
}

impl fmt::Debug for Executors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Executors")
    }
}

/// The leader, wherever it is: what every node asks of it.
pub trait Leader: Send + Sync + 'static {
    /// Brings a client's request to the leader and waits for its answer; finds the leader, and asks again under the
    /// same command id, for a bounded time.
    ///
    /// # Errors
    /// [`SubmitError`], which says what the caller should do.
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>>;
    /// Brings a report of ended attempts to the leader.
    ///
    /// # Errors
    /// As [`Leader::submit`]; a report that is repeated changes nothing.
    fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>>;
    /// Renews a worker's lease.
    ///
    /// # Errors
    /// As [`Leader::submit`].
    fn renew(&self, renewal: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>>;
    /// Tells the leader that a worker outside the cluster lives.
    ///
    /// # Errors
    /// As [`Leader::submit`].
    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<Heard, SubmitError>>;
}

/// The log of this node.
pub trait Log: Send + Sync + 'static {
    /// Proposes an encoded command, if this node leads, and waits until it is applied here.
    ///
    /// # Errors
    /// [`SubmitError`], which says what the caller should do.
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Answer, SubmitError>>;
    /// Who leads, as this node sees it. Only an answer to a proposal is proof.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// Waits until everything that was acknowledged anywhere before this call is applied here; returns its index. A node
    /// that leads answers only once a majority has confirmed, after the call, that it still does.
    ///
    /// # Errors
    /// [`SubmitError`], when no leader can be asked.
    fn read_barrier(&self) -> BoxFuture<'static, Result<u64, SubmitError>>;
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// Whether it is this node.
    pub leading: bool,
}

/// The event logs of the other nodes, from which records are fetched that this node never saw.
pub trait History: Send + Sync + 'static {
    /// Fetches blocks of a tenant's records after a sequence from any peer that has them; empty when the peer that was
    /// asked has none. Ask again and another peer may be asked.
    ///
    /// # Errors
    /// Any error of the way there; the caller asks again later.
    fn fetch(&self, tenant: TenantId, after: u64) -> BoxFuture<'static, io::Result<Vec<Bytes>>>;
}

/// Where the output of attempts made on this node is kept.
pub trait OutputStore: Send + Sync + 'static {
    /// Opens the place for what one attempt writes.
    fn sink(&self, tenant: &str, execution: ExecutionId, attempt: u32) -> std::sync::Arc<dyn OutputSink>;
}

/// Hears what the actors do, for metrics. Called on the actors' thread: be quick, and never call back.
///
/// Every method does nothing unless it is implemented.
pub trait Observer: Send + Sync + 'static {
    /// Who leads changed, as this node sees it.
    fn leadership(&self, _leadership: Leadership) {}
    /// A command with due occurrences was committed: how many became executions, one at least, and how long after its instant
    /// each of the occurrences was.
    fn fired(&self, _fired: u32, _lateness: &[Span]) {}
    /// A command was committed and applied here, so long after it was proposed.
    fn committed(&self, _latency: Duration) {}
    /// A proposal of the wheel had no answer and is decided anew from the state.
    fn proposal_failed(&self, _error: &SubmitError) {}
    /// How many timers the wheel holds.
    fn timers(&self, _count: usize) {}
    /// A task's actor was activated, or passivated: how many there are now.
    fn tasks_in_motion(&self, _count: usize) {}
    /// An attempt runs on this node from now on. What is done at once is not told.
    fn attempt_started(&self) {}
    /// An attempt runs on this node no more: it ended, was killed, or was given up.
    fn attempt_over(&self) {}
    /// This node's worker came back as a new incarnation.
    fn worker_renewed(&self) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// The leadership of a log as a stream: how it stands, then each change. It ends with the log.
pub(crate) fn leadership_changes(
    receiver: watch::Receiver<Leadership>,
) -> impl futures::Stream<Item = Leadership> + 'static {
    futures::stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            receiver.changed().await.ok()?;
        }
        let leadership = *receiver.borrow_and_update();
        Some((leadership, (receiver, false)))
    })
}
