//! The actor that folds what the state publishes, writes it in batches, and fetches what is missing.
//!
//! It folds as records come, whatever the storage is doing; at most one batch and one sync are on their way at a time. A sync
//! covers what was written before it began.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use escapement_domain::identifier::TenantId;
use escapement_domain::planted::{self, Bug};
use escapement_domain::record::{ChainHead, Record};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::catch_up::CatchUp;
use super::core::{Core, Load};
use super::event_log::{Appended, FetchError, LogFlush};
use super::failure::Failure;
use super::models::{Models, ModelsFlush};
use crate::machine::Applied;
use crate::ports::Tree;

/// How often the pipeline looks at what is to be written.
const TICK: Duration = Duration::from_millis(50);
/// Records that are written at the next tick; fewer wait for [`TICKS_TO_FLUSH`], since a block is rewritten as it fills.
const FLUSH_SOON: usize = 512;
/// Records that are written at once.
const FLUSH_NOW: usize = 8_192;
/// Ticks after which everything is written.
const TICKS_TO_FLUSH: u64 = 10;
/// Ticks after which what was written is synced.
const TICKS_TO_SYNC: u64 = 20;
/// Ticks to wait after a fetch that brought nothing.
const TICKS_TO_FETCH: u64 = 4;
/// Entries that are folded before the pipeline looks at anything else.
const ENTRIES_AT_ONCE: usize = 64;
/// Records that are folded between two pauses while the models are built again.
const REBUILT_AT_ONCE: usize = 1_024;

/// The actor around a [`Runner`].
pub(super) struct Pipeline {
    runner: Option<Runner>,
}

impl Pipeline {
    pub(super) fn new(runner: Runner) -> Self {
        Self { runner: Some(runner) }
    }
}

impl Actor for Pipeline {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(runner) = self.runner.take() {
            context.spawn(runner.run().into_actor(self).map(|(), _, context| context.stop()));
        }
    }
}

type Batch = (LogFlush, ModelsFlush, u64);

/// The pipeline's own state. It holds no truth: another one goes on from the storage.
pub(super) struct Runner {
    core: Arc<Core>,
    entries: mpsc::UnboundedReceiver<Applied>,
    wanted: watch::Receiver<u64>,
    catch_up: CatchUp,
    seen: u64,
    ticks: u64,
    writing: Option<(BoxFuture<'static, io::Result<()>>, Batch)>,
    /// The log index up to which everything was written.
    written: u64,
    unsynced: bool,
    syncing: Option<(BoxFuture<'static, io::Result<()>>, u64)>,
    fetching: Option<(BoxFuture<'static, io::Result<Vec<Bytes>>>, TenantId)>,
    fetch_at: u64,
    flush_due: bool,
    sync_due: bool,
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Whoever still waits must hear that nothing will come; after a stop that was asked for nobody does.
        self.core.fail(Failure::Stopped);
    }
}

impl Runner {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let ((seen, heads), entries) = core.machine.subscribe(|replica, index| {
            let heads = (0..).map(TenantId).zip(replica.tenants().iter().map(|tenant| tenant.head));
            (index, heads.collect::<Vec<_>>())
        });
        let mut catch_up = CatchUp::default();
        catch_up.expect(seen, heads);
        Self {
            wanted: core.wanted.subscribe(),
            entries,
            catch_up,
            seen,
            ticks: 0,
            writing: None,
            written: 0,
            unsynced: false,
            syncing: None,
            fetching: None,
            fetch_at: 0,
            flush_due: false,
            sync_due: false,
            core,
        }
    }

    async fn run(mut self) {
        if let Err(failure) = self.carry_on().await {
            tracing::error!(%failure, "the projections cannot go on");
            self.core.fail(failure);
        }
    }

    async fn carry_on(&mut self) -> Result<(), Failure> {
        if !self.recover().await? {
            return Ok(());
        }
        self.catch_up.check(self.seen, &self.core.log)?;
        self.publish();
        let core = self.core.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut entries = Vec::with_capacity(ENTRIES_AT_ONCE);
        loop {
            tokio::select! {
                biased;
                () = core.stopping.cancelled() => return self.finish().await,
                outcome = settled(&mut self.writing) => self.end_write(outcome)?,
                outcome = settled(&mut self.syncing) => self.end_sync(outcome)?,
                _ = tick.tick() => self.tick(),
                _ = self.wanted.changed() => {}
                () = core.output.pressed() => self.flush_due = true,
                outcome = settled(&mut self.fetching) => self.end_fetch(outcome)?,
                count = self.entries.recv_many(&mut entries, ENTRIES_AT_ONCE) => {
                    if count == 0 {
                        return self.finish().await;
                    }
                    for applied in entries.drain(..) {
                        self.fold(&applied)?;
                    }
                    self.publish();
                }
            }
            self.begin_what_is_due();
        }
    }

    /// Folds what the event log has and the models do not: a little after a crash, everything after they were cleared.
    /// `false` when it was stopped before the end; the next start goes on from there.
    async fn recover(&mut self) -> Result<bool, Failure> {
        let core = self.core.clone();
        let ahead = {
            let models = core.models.read();
            let mut checkpoints = models.checkpoints().iter();
            checkpoints.any(|(tenant, checkpoint)| checkpoint.sequence > core.log.head(*tenant).sequence)
        };
        if ahead {
            *core.models.write() = Models::reset(&*core.storage)?;
        }
        let mut folded = 0;
        for tenant in core.log.heads().into_keys() {
            let from = core.models.read().folded(tenant).sequence + 1;
            for record in core.log.walk_from(tenant, from) {
                core.models.write().fold(&record?, &*core.storage)?;
                folded += 1;
                if core.models.read().unflushed >= FLUSH_NOW {
                    self.write_all().await?;
                } else if folded % REBUILT_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
                if core.stopping.is_cancelled() {
                    return Ok(false);
                }
            }
        }
        if folded > 0 {
            tracing::info!(folded, "records of the event log were folded that the read models did not have");
            self.write_all().await?;
        }
        Ok(true)
    }

    fn fold(&mut self, applied: &Applied) -> Result<(), Failure> {
        let core = self.core.clone();
        if applied.restored {
            let (index, heads) = core.machine.read(|replica| {
                let heads = (0..).map(TenantId).zip(replica.tenants().iter().map(|tenant| tenant.head));
                (core.machine.applied(), heads.collect::<Vec<(TenantId, ChainHead)>>())
            });
            self.catch_up.expect(index, heads);
            tracing::info!(
                index,
                "the state was replaced by a snapshot; the events before it are asked of a peer"
            );
        }
        let mut models = core.models.write();
        for record in applied.records.iter() {
            self.take(record, &mut models)?;
        }
        drop(models);
        self.seen = applied.index;
        self.catch_up.check(self.seen, &core.log)
    }

    fn take(&mut self, record: &Record, models: &mut Models) -> Result<(), Failure> {
        match self.core.log.append(record)? {
            Appended::New => {
                models.fold(record, &*self.core.storage)?;
                self.catch_up.close(record.header.tenant, &self.core.log)
            }
            Appended::Known => Ok(()),
            Appended::Beyond => {
                self.catch_up.keep(record);
                Ok(())
            }
        }
    }

    /// Tells everyone how far the models are.
    fn publish(&self) {
        let complete = self.catch_up.is_complete();
        self.core.complete.send_if_modified(|told| std::mem::replace(told, complete) != complete);
        if complete {
            let seen = self.seen;
            self.core.folded.send_if_modified(|folded| std::mem::replace(folded, seen) != seen);
        }
        let load = Load { seen: self.seen, unflushed: self.core.models.read().unflushed };
        self.core.load.send_if_modified(|told| std::mem::replace(told, load) != load);
    }

    fn tick(&mut self) {
        self.ticks += 1;
        let unflushed = self.core.models.read().unflushed;
        self.flush_due |= unflushed >= FLUSH_SOON || self.ticks.is_multiple_of(TICKS_TO_FLUSH);
        self.sync_due |= self.ticks.is_multiple_of(TICKS_TO_SYNC);
    }

    fn begin_what_is_due(&mut self) {
        let (wanted, folded) = (*self.core.wanted.borrow(), *self.core.folded.borrow());
        // What is not folded yet cannot be written: it is wanted when it has come.
        let wanted = (*self.core.synced.borrow() < wanted && wanted <= folded).then_some(wanted);
        let unflushed = self.core.models.read().unflushed;
        let write_wanted = wanted.is_some_and(|index| self.written < index);
        if self.writing.is_none() && (unflushed >= FLUSH_NOW || self.flush_due || write_wanted) {
            self.begin_write();
        }
        let sync_wanted = wanted.is_some_and(|index| self.written >= index);
        if self.syncing.is_none() && (self.sync_due || sync_wanted) {
            self.begin_sync();
        }
        if self.fetching.is_none() && unflushed < FLUSH_NOW {
            self.begin_fetch();
        }
    }

    fn begin_write(&mut self) {
        self.flush_due = false;
        let core = &self.core;
        let index = *core.folded.borrow();
        let mut batch = Vec::new();
        core.output.flush_into(&mut batch);
        let log = core.log.flush_into(&mut batch);
        let models = core.models.write().flush_into(&mut batch);
        if planted::has(Bug::LostBlocks) && *core.synced.borrow() < *core.wanted.borrow() {
            batch.retain(|write| write.tree != Tree::EventBlocks);
        }
        if batch.is_empty() {
            self.written = index;
            return;
        }
        self.writing = Some((core.storage.write_behind(batch), (log, models, index)));
        self.publish();
    }

    fn end_write(&mut self, (outcome, (log, models, index)): (io::Result<()>, Batch)) -> Result<(), Failure> {
        outcome?;
        self.core.output.flushed();
        self.core.log.flushed(&log);
        self.core.models.write().flushed(&models);
        self.unsynced = true;
        self.written = index;
        Ok(())
    }

    fn begin_sync(&mut self) {
        self.sync_due = false;
        if self.unsynced {
            self.unsynced = false;
            self.syncing = Some((self.core.storage.sync(), self.written));
        } else {
            self.note_synced(self.written);
        }
    }

    fn end_sync(&mut self, (outcome, covered): (io::Result<()>, u64)) -> Result<(), Failure> {
        outcome?;
        self.note_synced(covered);
        Ok(())
    }

    fn note_synced(&self, index: u64) {
        self.core.synced.send_if_modified(|synced| index > std::mem::replace(synced, index.max(*synced)));
    }

    async fn write_all(&mut self) -> Result<(), Failure> {
        if let Some((writing, batch)) = self.writing.take() {
            let outcome = writing.await;
            self.end_write((outcome, batch))?;
        }
        self.begin_write();
        if let Some((writing, batch)) = self.writing.take() {
            let outcome = writing.await;
            self.end_write((outcome, batch))?;
        }
        Ok(())
    }

    /// Folds what has come, writes everything, and syncs it.
    async fn finish(&mut self) -> Result<(), Failure> {
        while let Ok(applied) = self.entries.try_recv() {
            self.fold(&applied)?;
        }
        self.publish();
        self.write_all().await?;
        self.core.storage.sync().await?;
        self.note_synced(self.written);
        Ok(())
    }

    fn begin_fetch(&mut self) {
        let Some(history) = self.core.history.get() else { return };
        if self.ticks < self.fetch_at {
            return;
        }
        if let Some(tenant) = self.catch_up.next_to_fetch() {
            let head = self.core.log.head(tenant).sequence;
            self.fetching = Some((history.fetch(tenant, head), tenant));
        }
    }

    fn end_fetch(&mut self, (outcome, tenant): (io::Result<Vec<Bytes>>, TenantId)) -> Result<(), Failure> {
        let before = self.core.log.head(tenant).sequence;
        match outcome {
            Ok(blocks) => self.take_fetched(tenant, &blocks)?,
            Err(error) => tracing::debug!(tenant = tenant.0, %error, "no records could be fetched"),
        }
        if self.core.log.head(tenant).sequence == before {
            self.fetch_at = self.ticks + TICKS_TO_FETCH;
        }
        self.publish();
        Ok(())
    }

    fn take_fetched(&mut self, tenant: TenantId, blocks: &[Bytes]) -> Result<(), Failure> {
        let core = self.core.clone();
        for block in blocks {
            let records = match core.log.append_fetched(tenant, block) {
                Ok(records) => records,
                Err(FetchError::Failed(failure)) => return Err(failure),
                Err(FetchError::Refused(fault)) => {
                    tracing::warn!(%fault, "a peer sent records that are refused");
                    break;
                }
            };
            let mut models = core.models.write();
            for record in &records {
                models.fold(record, &*core.storage)?;
            }
        }
        let mut models = core.models.write();
        while let Some(record) = self.catch_up.next_kept(tenant, &core.log) {
            self.take(&record, &mut models)?;
        }
        self.catch_up.close(tenant, &core.log)
    }
}

/// Waits for a future that may be there, takes it away when it has ended, and returns its outcome and what belongs to it.
async fn settled<T, M>(pending: &mut Option<(BoxFuture<'static, T>, M)>) -> (T, M) {
    let Some((future, _)) = pending else { return std::future::pending().await };
    let outcome = future.await;
    match pending.take() {
        Some((_, meaning)) => (outcome, meaning),
        None => std::future::pending().await,
    }
}
