//! What the service needs of the read models and of what attempts wrote.
//!
//! The traits are here so that tests and simulations can stand in for them. Absent on purpose: folding and storing.

use std::sync::Arc;

use escapement_actors::projection::{Failure, Fault, FaultKind, Projections};
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId, TenantId};
use escapement_domain::task::state::Stream;
use escapement_domain::timestamp::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use escapement_actors::projection::{
    AttemptRow, AttemptWorker, EventPage, ExecutionPage, ExecutionQuery, ExecutionRow, LineStream, Outcome,
    OutputCursor, OutputLine, OutputPage, Statistics, StreamPage,
};

/// Why history cannot be read here. Ask another node.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It is still being fetched.
    #[error("this node is still completing its history")]
    Incomplete,
    /// The node that has it cannot be reached.
    #[error("the node that has it cannot be reached")]
    Elsewhere,
    /// It cannot be read.
    #[error("history cannot be read: {detail}")]
    Failed {
        /// Why; not for clients.
        detail: String,
    },
}

/// History, as this node has it.
pub trait ReadModels: Send + Sync + 'static {
    /// Whether history is all here; until it is, others are asked.
    fn complete(&self) -> bool;
    /// Resolves when the records of every entry up to `index` are folded.
    fn wait_folded(&self, index: u64) -> BoxFuture<'static, Result<(), HistoryError>>;
    /// One execution.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn execution(
        &self,
        tenant: TenantId,
        execution: ExecutionId,
    ) -> Result<Option<Arc<ExecutionRow>>, HistoryError>;
    /// Executions, newest first.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn executions(&self, tenant: TenantId, query: &ExecutionQuery) -> Result<ExecutionPage, HistoryError>;
    /// Counts of a tenant's executions.
    fn statistics(&self, tenant: TenantId) -> Statistics;
    /// A task's own events after a position of its stream, oldest first. `head` is where the state says that the stream
    /// ends; none for a task that is deleted, or never was.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn stream(
        &self,
        tenant: TenantId,
        task: TaskId,
        head: Option<Stream>,
        after: u64,
        limit: usize,
    ) -> Result<StreamPage, HistoryError>;
    /// A tenant's events, oldest first.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn events(&self, tenant: TenantId, query: &EventQuery) -> Result<EventPage, HistoryError>;
    /// Resolves when the records of every entry up to `index` are on the disk, as they will be read again.
    fn synced(&self, index: u64) -> BoxFuture<'static, Result<(), HistoryError>>;
    /// A tenant's blocks of events as they are stored, unopened, each with the sequence that it is stored under: those that
    /// begin at or after `from`, until their bytes exceed `most`.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn blocks(&self, tenant: TenantId, from: u64, most: usize) -> Result<Vec<StoredBlock>, HistoryError>;
}

/// A block of events as it is stored, and the sequence that it is stored under.
pub type StoredBlock = (u64, Vec<u8>);

/// Which events of a tenant are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those after this sequence.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only those stamped at or after this instant.
    pub from: Option<Timestamp>,
    /// Only those stamped before this instant.
    pub to: Option<Timestamp>,
}

/// Which output is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputQuery {
    /// Whose attempt.
    pub execution: ExecutionId,
    /// Which attempt.
    pub attempt: u32,
    /// The node that made it.
    pub node: NodeId,
    /// Only what comes after this place.
    pub after: Option<OutputCursor>,
    /// At most so many lines.
    pub limit: usize,
}

/// What attempts wrote: kept, up to a bound, on the node that made them.
pub trait Outputs: Send + Sync + 'static {
    /// Reads what one attempt wrote, here or on the node that made it.
    fn read(&self, query: OutputQuery) -> BoxFuture<'static, Result<OutputPage, HistoryError>>;
    /// Yields when an execution may have written more on a node since this was called; never for another node than this.
    fn growth(&self, execution: ExecutionId, node: NodeId) -> BoxStream<'static, ()>;
}

impl ReadModels for Projections {
    fn complete(&self) -> bool {
        Projections::complete(self)
    }

    fn wait_folded(&self, index: u64) -> BoxFuture<'static, Result<(), HistoryError>> {
        let folded = Projections::wait_folded(self, index);
        async move { folded.await.map_err(|failure| failed(&failure)) }.boxed()
    }

    fn execution(
        &self,
        tenant: TenantId,
        execution: ExecutionId,
    ) -> Result<Option<Arc<ExecutionRow>>, HistoryError> {
        Projections::execution(self, tenant, execution).map_err(|failure| failed(&failure))
    }

    fn executions(&self, tenant: TenantId, query: &ExecutionQuery) -> Result<ExecutionPage, HistoryError> {
        Projections::executions(self, tenant, query).map_err(|failure| failed(&failure))
    }

    fn statistics(&self, tenant: TenantId) -> Statistics {
        Projections::statistics(self, tenant)
    }

    fn stream(
        &self,
        tenant: TenantId,
        task: TaskId,
        head: Option<Stream>,
        after: u64,
        limit: usize,
    ) -> Result<StreamPage, HistoryError> {
        let head = match head {
            Some(head) => Some(head),
            None => self.last_of_stream(tenant, task).map_err(|failure| failed(&failure))?,
        };
        let Some(head) = head else { return Ok(StreamPage::default()) };
        Projections::stream(self, tenant, task, head, after, limit).map_err(|failure| failed(&failure))
    }

    fn events(&self, tenant: TenantId, query: &EventQuery) -> Result<EventPage, HistoryError> {
        let EventQuery { after, limit, from, to } = *query;
        Projections::events(self, tenant, after, limit, from, to).map_err(|fault| damaged(&fault))
    }

    fn synced(&self, index: u64) -> BoxFuture<'static, Result<(), HistoryError>> {
        let synced = Projections::synced(self, index);
        async move { synced.await.map_err(|error| HistoryError::Failed { detail: error.to_string() }) }
            .boxed()
    }

    fn blocks(&self, tenant: TenantId, from: u64, most: usize) -> Result<Vec<StoredBlock>, HistoryError> {
        let blocks = self.log().stored_blocks(tenant, from, most);
        blocks.map_err(|error| HistoryError::Failed { detail: error.to_string() })
    }
}

fn failed(failure: &Failure) -> HistoryError {
    match failure {
        Failure::Damaged(fault) => damaged(fault),
        other => HistoryError::Failed { detail: other.to_string() },
    }
}

/// A record that is missing is one that is still being fetched; anything else is damage.
fn damaged(fault: &Fault) -> HistoryError {
    match fault.kind {
        FaultKind::Missing => HistoryError::Incomplete,
        _ => HistoryError::Failed { detail: fault.to_string() },
    }
}
