//! The handle of the read models, for every thread of the node.

use std::io;
use std::sync::Arc;

use actix::Actor;
use bytes::Bytes;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::record::{ChainHead, Record};
use escapement_domain::task::state::Stream;
use escapement_domain::timestamp::{Span, Timestamp};
use futures::future::BoxFuture;

use super::core::Core;
use super::event_log::{EventLog, EventPage};
use super::execution::ExecutionRow;
use super::executions::{decode, load, remove_row};
use super::failure::{Failure, Fault};
use super::keys;
use super::listing::{ExecutionPage, ExecutionQuery, first_at, list};
use super::output::CapturedOutput;
use super::pipeline::{Pipeline, Runner};
use super::statistics::Statistics;
use super::streams::{StreamPage, stored_at_or_behind, stored_last, walk_back};
use crate::machine::Machine;
use crate::ports::{History, Storage, Tree};

/// Records that may wait to be written before the log is asked to wait.
const BACKLOG_RECORDS_MAX: usize = 200_000;
/// Log entries that may wait to be folded before the log is asked to wait.
const BACKLOG_ENTRIES_MAX: u64 = 8_192;
/// Executions that one look at the storage takes while old ones are removed.
const PRUNED_AT_ONCE: usize = 256;

/// The read models of a node. Cloning is cheap; every clone is the same.
#[derive(Clone, Debug)]
pub struct Projections(Arc<Core>);

/// What [`Projections::prune`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ended executions.
    pub executions: usize,
    /// Packs of captured output.
    pub output: usize,
}

impl Projections {
    /// Opens the models in a storage and starts the actor that folds what `machine` publishes from now on. Start it before
    /// the log applies anything, or it will have to fetch what it missed.
    ///
    /// Must be called where actors can be started: in an actix system, or a tokio `LocalSet`. The actor lives there.
    ///
    /// # Errors
    /// [`Failure`] when the storage fails or what is in it cannot be read.
    pub fn start(machine: Arc<Machine>, storage: Arc<dyn Storage>) -> Result<Self, Failure> {
        let core = Arc::new(Core::open(machine, storage)?);
        Pipeline::new(Runner::new(core.clone())).start();
        Ok(Self(core))
    }

    /// Says where missing records are fetched from. The first word counts.
    pub fn fetch_from(&self, history: Arc<dyn History>) {
        // A second word changes nothing, as documented.
        let _ = self.0.history.set(history);
    }

    /// Resolves when every record of the entries up to `index` is in the models: not before, while records are missing.
    pub fn wait_folded(&self, index: u64) -> BoxFuture<'static, Result<(), Arc<Failure>>> {
        let core = self.0.clone();
        Box::pin(async move { core.until(&core.folded, |folded| *folded >= index).await })
    }

    /// The log index up to which everything is in the models.
    #[must_use]
    pub fn folded(&self) -> u64 {
        *self.0.folded.borrow()
    }

    /// The log index up to which everything is in the models and on the disk.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        *self.0.synced.borrow()
    }

    /// Has everything up to `index` written and synced, and resolves when it is on the disk for good.
    ///
    /// # Errors
    /// When the projections failed or stopped.
    pub fn synced(&self, index: u64) -> BoxFuture<'static, io::Result<()>> {
        let core = self.0.clone();
        core.wanted.send_if_modified(|wanted| index > std::mem::replace(wanted, index.max(*wanted)));
        Box::pin(async move {
            let reached = core.until(&core.synced, |synced| *synced >= index).await;
            reached.map_err(|failure| failure.to_io())
        })
    }

    /// How many entries of the log the models are behind the state.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.0.machine.applied().saturating_sub(self.folded())
    }

    /// How many records are folded and not written yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.0.load.borrow().unflushed
    }

    /// Resolves when the log may apply another entry: little waits, or the projections failed and nothing ever will.
    pub fn ready(&self) -> BoxFuture<'static, ()> {
        let core = self.0.clone();
        let applied = core.machine.applied();
        Box::pin(async move {
            let light = core.until(&core.load, |load| {
                load.unflushed < BACKLOG_RECORDS_MAX
                    && applied.saturating_sub(load.seen) < BACKLOG_ENTRIES_MAX
            });
            // After a failure the node stops; an entry that waits here would only hold that up.
            let _ = light.await;
        })
    }

    /// Whether history can be read here: nothing is missing that this node knows to exist.
    #[must_use]
    pub fn complete(&self) -> bool {
        // What was complete before the state was replaced may lack what led to the new one.
        *self.0.complete.borrow() && self.folded() >= self.0.machine.restored()
    }

    /// Resolves when history can be read here.
    pub fn wait_complete(&self) -> BoxFuture<'static, Result<(), Arc<Failure>>> {
        let core = self.0.clone();
        Box::pin(async move { core.until(&core.complete, |complete| *complete).await })
    }

    /// Resolves when the projections cannot go on: the node must stop. Also when they were stopped.
    pub fn failed(&self) -> BoxFuture<'static, Arc<Failure>> {
        let core = self.0.clone();
        Box::pin(async move {
            let mut failed = core.failed.subscribe();
            let failure = failed.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
            failure.unwrap_or_else(|| Arc::new(Failure::Stopped))
        })
    }

    /// Writes and syncs everything that was published, and stops.
    ///
    /// # Errors
    /// When the projections failed, now or before.
    pub fn stop(&self) -> BoxFuture<'static, io::Result<()>> {
        let (core, failed) = (self.0.clone(), self.failed());
        Box::pin(async move {
            core.stopping.cancel();
            match &*failed.await {
                Failure::Stopped => Ok(()),
                failure => Err(failure.to_io()),
            }
        })
    }

    /// Why the projections cannot go on, if they cannot.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.0.failure()
    }

    /// The event log, to read and to verify.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.0.log
    }

    /// The captured output of this node's attempts; written with everything else.
    #[must_use]
    pub fn output(&self) -> &Arc<CapturedOutput> {
        &self.0.output
    }

    /// Blocks of a tenant's records after a sequence, for a peer that lacks them.
    ///
    /// # Errors
    /// [`Fault`] when they cannot be read here.
    pub fn blocks_after(&self, tenant: TenantId, sequence: u64, most: usize) -> Result<Vec<Bytes>, Fault> {
        self.0.log.blocks_after(tenant, sequence, most)
    }

    /// A tenant's records after a sequence; see [`EventLog::after`].
    ///
    /// # Errors
    /// As [`EventLog::after`].
    pub fn events(
        &self,
        tenant: TenantId,
        after: u64,
        limit: usize,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<EventPage, Fault> {
        self.0.log.after(tenant, after, limit, from, to)
    }

    /// One record of a tenant.
    ///
    /// # Errors
    /// As [`EventLog::record`].
    pub fn record(&self, tenant: TenantId, sequence: u64) -> Result<Option<Record>, Fault> {
        self.0.log.record(tenant, sequence)
    }

    /// A task's own events after a position, oldest first. `head` is where the stream ends: the task's
    /// [`stream`](escapement_domain::task::state::Task::stream), or [`Projections::last_of_stream`] for a deleted task.
    ///
    /// # Errors
    /// [`Failure`] when a record on the way is not what was written, is not here yet, or the storage fails.
    pub fn stream(
        &self,
        tenant: TenantId,
        task: TaskId,
        head: Stream,
        after: u64,
        limit: usize,
    ) -> Result<StreamPage, Failure> {
        if after >= head.length || limit == 0 {
            return Ok(StreamPage::default());
        }
        let through = head.length.min(after.saturating_add(limit as u64));
        let pending = self.0.models.read().notes.at_or_behind(tenant, task, through);
        let stored = stored_at_or_behind(&*self.0.storage, tenant, task, through)?;
        let notes = pending.into_iter().chain(stored).filter(|note| note.length <= head.length);
        let from = notes.min_by_key(|note| note.length).unwrap_or(head);
        let records = walk_back(&self.0.log, (tenant, task), from, after, through)?;
        Ok(StreamPage { records, next: (through < head.length).then_some(through) })
    }

    /// The last place in a task's stream that was noted; for a deleted task that is its deletion, the end of the stream.
    ///
    /// # Errors
    /// [`Failure`] when the storage fails.
    pub fn last_of_stream(&self, tenant: TenantId, task: TaskId) -> Result<Option<Stream>, Failure> {
        if let Some(last) = self.0.models.read().notes.last(tenant, task) {
            return Ok(Some(last));
        }
        stored_last(&*self.0.storage, tenant, task)
    }

    /// Verifies a tenant's chain; see [`EventLog::verify`]. It reads all of it: prefer [`EventLog::verification`], step by
    /// step, on a thread that others share.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn verify(&self, tenant: TenantId, expected: Option<ChainHead>) -> Result<ChainHead, Fault> {
        self.0.log.verify(tenant, expected)
    }

    /// One execution.
    ///
    /// # Errors
    /// [`Failure`] when the storage fails or the row cannot be read.
    pub fn execution(
        &self,
        tenant: TenantId,
        execution: ExecutionId,
    ) -> Result<Option<Arc<ExecutionRow>>, Failure> {
        if let Some(row) = self.0.models.read().executions.get(tenant, execution) {
            return Ok(Some(row));
        }
        Ok(load(&*self.0.storage, (tenant, execution))?.map(Arc::new))
    }

    /// Executions of a tenant, newest first.
    ///
    /// # Errors
    /// As [`Projections::execution`].
    pub fn executions(&self, tenant: TenantId, query: &ExecutionQuery) -> Result<ExecutionPage, Failure> {
        list(&self.0.models, &*self.0.storage, tenant, query)
    }

    /// The statistics of a tenant.
    #[must_use]
    pub fn statistics(&self, tenant: TenantId) -> Statistics {
        self.0.models.read().statistics.get(&tenant).cloned().unwrap_or_default()
    }

    /// The statistics of every tenant together.
    #[must_use]
    pub fn statistics_of_all(&self) -> Statistics {
        let models = self.0.models.read();
        let mut all = Statistics::default();
        models.statistics.values().for_each(|one| all.add(one));
        all
    }

    /// Removes executions that ended more than `keep` before `now`, and captured output that is older than its own `keep_output`,
    /// at most about `limit` of each. The event log keeps what happened. Call it again until it removes nothing.
    ///
    /// # Errors
    /// [`Failure`] when the storage fails or a row cannot be read.
    pub fn prune(
        &self,
        now: Timestamp,
        keep: Span,
        keep_output: Span,
        limit: usize,
    ) -> Result<Pruned, Failure> {
        let cutoff = now.minus(keep);
        let mut executions = 0;
        for tenant in self.0.log.heads().into_keys() {
            if executions >= limit {
                break;
            }
            executions += self.prune_tenant(tenant, cutoff, limit - executions)?;
        }
        Ok(Pruned { executions, output: self.0.output.prune(now.minus(keep_output), limit)? })
    }

    fn prune_tenant(&self, tenant: TenantId, cutoff: Timestamp, limit: usize) -> Result<usize, Failure> {
        let core = &self.0;
        let mut from = keys::with_execution(keys::scope(tenant), ExecutionId(0));
        let to = keys::execution(tenant, first_at(cutoff));
        let mut removed = 0;
        while removed < limit {
            // Held meanwhile, so that none of these is opened again while it is removed.
            let memory = core.models.read();
            let pairs = core.storage.scan(Tree::Executions, &from, &to, PRUNED_AT_ONCE, false)?;
            let Some((last, _)) = pairs.last() else { break };
            from.clone_from(last);
            from.push(0);
            let mut batch = Vec::new();
            for (_, bytes) in pairs {
                let row = decode(&bytes)?;
                let ended = row.finished_at.is_some_and(|finished| finished < cutoff);
                if ended && row.status.is_final() && memory.executions.get(tenant, row.id).is_none() {
                    remove_row(&row, &mut batch);
                    removed += 1;
                }
            }
            core.storage.write(batch)?;
        }
        Ok(removed)
    }
}
