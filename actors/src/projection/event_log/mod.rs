//! The event log of a node: each tenant's records, numbered without gaps, chained by hash, packed into blocks.
//!
//! The pipeline alone appends; anyone reads. The block that takes the next record is kept in memory and written at each
//! flush under the same key until it is full. What is not flushed yet is read from memory.
//!
//! Invariants: a record is appended only behind the one that it was chained to; a record that comes again is held against
//! the one that is there; nothing is appended past a gap. Where the blocks begin depends on the records alone, never on when
//! they were flushed, so that the same records give the same bytes on every node.
//! Absent on purpose: what the records mean.

mod chain;
mod reading;
mod verification;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::{ChainHead, Record};
use parking_lot::{Mutex, RwLock};

use super::block::{self, Walk};
use super::failure::{Failure, Fault, FaultKind, FetchFault};
use super::keys;
use crate::ports::{Storage, Tree, Write};
use chain::{Chain, Flushing};

pub use reading::{EventPage, Records};
pub use verification::Verification;

/// Bytes of open blocks that stay in memory after they were flushed; beyond it they are loaded again when needed.
const OPEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Blocks that were read for single records and stay in memory.
const CACHED_BLOCKS: usize = 64;

/// The event log of a node.
pub struct EventLog {
    storage: Arc<dyn Storage>,
    chains: RwLock<Chains>,
    cache: Mutex<Cache>,
}

impl fmt::Debug for EventLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventLog").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Chains {
    by_tenant: BTreeMap<TenantId, Chain>,
    dirty: BTreeSet<TenantId>,
}

/// Blocks read lately for single records. A block that grew since is read again when a record beyond it is wanted.
#[derive(Debug, Default)]
struct Cache {
    blocks: BTreeMap<(TenantId, u64), CachedBlock>,
    order: VecDeque<(TenantId, u64)>,
}

/// The sequence of a block's last record, and its bytes.
type CachedBlock = (u64, Arc<[u8]>);

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::projection) enum Appended {
    /// It is the new head of its chain.
    New,
    /// It was there before, the same.
    Known,
    /// Records between the head and it are missing; it was not taken.
    Beyond,
}

/// Records that the replicated state knows of and this log does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whose.
    pub tenant: TenantId,
    /// Where the chain ends here.
    pub local: ChainHead,
    /// Where it ends in the replicated state.
    pub replica: ChainHead,
}

/// What of the log went into a batch; see [`EventLog::flush_into`].
#[derive(Debug)]
pub(in crate::projection) struct LogFlush(Vec<(TenantId, Flushing)>);

impl EventLog {
    /// Opens the log in a storage and finds where each chain ends. Nothing is written.
    ///
    /// # Errors
    /// [`Failure`] when the storage fails, or the last block of a chain cannot be read.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, Failure> {
        let log = Self { storage, chains: RwLock::default(), cache: Mutex::default() };
        let mut tenants = BTreeMap::new();
        let mut from = Vec::new();
        let end = keys::end_of(Vec::new());
        while let Some((key, _)) =
            log.storage.scan(Tree::EventBlocks, &from, &end, 1, false)?.into_iter().next()
        {
            let Some((tenant, _)) = keys::first_of_block(&key) else {
                let detail = format!("a key of {} bytes", key.len());
                return Err(Failure::Row { tree: Tree::EventBlocks.name(), detail });
            };
            from = keys::end_of(keys::scope(tenant));
            let scope = keys::scope(tenant);
            let last = log.storage.scan(Tree::EventBlocks, &scope, &from, 1, true)?.into_iter().next();
            let last = last.and_then(|(key, bytes)| Some((keys::first_of_block(&key)?.1, bytes)));
            let Some((first, bytes)) = last else { continue };
            let (next, hash) = Walk::new(tenant, first, &bytes)?.end()?;
            tenants.insert(tenant, Chain::ending(ChainHead { sequence: next.saturating_sub(1), hash }));
        }
        log.chains.write().by_tenant = tenants;
        Ok(log)
    }

    /// A log to be audited: its chains are to end where somebody else says, and not where its blocks happen to end.
    #[must_use]
    pub fn ending_at(storage: Arc<dyn Storage>, heads: BTreeMap<TenantId, ChainHead>) -> Self {
        let by_tenant = heads.into_iter().map(|(tenant, head)| (tenant, Chain::ending(head))).collect();
        let chains = RwLock::new(Chains { by_tenant, dirty: BTreeSet::new() });
        Self { storage, chains, cache: Mutex::default() }
    }

    /// Where a tenant's chain ends here.
    #[must_use]
    pub fn head(&self, tenant: TenantId) -> ChainHead {
        self.chains.read().by_tenant.get(&tenant).map(|chain| chain.head).unwrap_or_default()
    }

    /// Where each chain ends here.
    #[must_use]
    pub fn heads(&self) -> BTreeMap<TenantId, ChainHead> {
        self.chains.read().by_tenant.iter().map(|(tenant, chain)| (*tenant, chain.head)).collect()
    }

    /// What of the chains that the replicated state knows is not here.
    #[must_use]
    pub fn missing(&self, replica: impl IntoIterator<Item = (TenantId, ChainHead)>) -> Vec<Missing> {
        replica
            .into_iter()
            .map(|(tenant, replica)| Missing { tenant, local: self.head(tenant), replica })
            .filter(|missing| missing.local.sequence < missing.replica.sequence)
            .collect()
    }

    /// Appends a record that this node made.
    ///
    /// # Errors
    /// [`Failure::Diverged`] when another record is in its place or before it; [`Failure::Storage`] and
    /// [`Failure::Damaged`] when what is there cannot be read.
    pub(in crate::projection) fn append(&self, record: &Record) -> Result<Appended, Failure> {
        let (tenant, sequence) = (record.header.tenant, record.header.sequence);
        let head = self.head(tenant);
        if sequence <= head.sequence {
            self.compare(tenant, ChainHead { sequence, hash: record.hash })?;
            return Ok(Appended::Known);
        }
        if sequence > head.sequence + 1 {
            return Ok(Appended::Beyond);
        }
        if record.previous_hash != head.hash {
            let (stored, made) = (head.hash, record.previous_hash);
            return Err(Failure::Diverged { tenant, sequence: head.sequence, stored, made });
        }
        self.push(record)?;
        Ok(Appended::New)
    }

    /// Holds a record that is known by its hash against the one that is here.
    ///
    /// # Errors
    /// As [`EventLog::append`].
    pub(in crate::projection) fn compare(&self, tenant: TenantId, made: ChainHead) -> Result<(), Failure> {
        if made.sequence == 0 {
            return Ok(());
        }
        let head = self.head(tenant);
        let stored =
            if head.sequence == made.sequence { head.hash } else { self.hash(tenant, made.sequence)? };
        if stored == made.hash {
            Ok(())
        } else {
            Err(Failure::Diverged { tenant, sequence: made.sequence, stored, made: made.hash })
        }
    }

    /// Appends a block that was fetched from a peer, after verifying it, and returns the records that are new here.
    ///
    /// # Errors
    /// [`FetchError::Refused`] when the block does not follow the end of the chain here or is not sound; nothing of it is
    /// taken then. [`FetchError::Failed`] as [`EventLog::append`].
    pub(in crate::projection) fn append_fetched(
        &self,
        tenant: TenantId,
        bytes: &Bytes,
    ) -> Result<Vec<Record>, FetchError> {
        let head = self.head(tenant);
        let first = block::first_sequence(bytes).ok_or(FetchFault::NoBlock)?;
        let expected = head.sequence + 1;
        if first > expected {
            return Err(FetchFault::Elsewhere { tenant, expected, found: first }.into());
        }
        let mut walk = Walk::new(tenant, first, bytes).map_err(FetchFault::from)?;
        walk.skip_to(expected).map_err(FetchFault::from)?;
        if walk.position() < expected {
            return Ok(Vec::new());
        }
        if walk.previous() != head.hash {
            let fault = Fault::new(tenant, expected, FaultKind::Unchained);
            return Err(FetchFault::Unsound(fault).into());
        }
        let records = walk.collect::<Result<Vec<Record>, Fault>>().map_err(FetchFault::from)?;
        for record in &records {
            self.push(record)?;
        }
        Ok(records)
    }

    fn push(&self, record: &Record) -> Result<(), Failure> {
        let tenant = record.header.tenant;
        let wants_last = self.chains.read().by_tenant.get(&tenant).is_some_and(Chain::wants_last_block);
        let last = if wants_last { self.stored_block_at(tenant, u64::MAX)? } else { None };
        let mut chains = self.chains.write();
        let Chains { by_tenant, dirty } = &mut *chains;
        let chain = by_tenant.entry(tenant).or_default();
        if let Some((first, bytes)) = last {
            chain.resume(first, bytes);
        }
        chain.append(record);
        dirty.insert(tenant);
        Ok(())
    }

    /// Adds to a batch what the storage does not have yet. Call [`EventLog::flushed`] when the batch was written, and
    /// nothing before.
    pub(in crate::projection) fn flush_into(&self, batch: &mut Vec<Write>) -> LogFlush {
        let mut chains = self.chains.write();
        let dirty = std::mem::take(&mut chains.dirty);
        let mut flushing = Vec::with_capacity(dirty.len());
        for tenant in dirty {
            let Some(chain) = chains.by_tenant.get(&tenant) else { continue };
            let (mark, blocks) = chain.flush();
            batch.extend(blocks.into_iter().map(|(first, bytes)| put_block(tenant, first, bytes)));
            flushing.push((tenant, mark));
        }
        LogFlush(flushing)
    }

    /// Forgets what a batch has written.
    pub(in crate::projection) fn flushed(&self, flush: &LogFlush) {
        let mut chains = self.chains.write();
        for (tenant, flushing) in &flush.0 {
            if let Some(chain) = chains.by_tenant.get_mut(tenant) {
                chain.flushed(flushing);
            }
        }
        let kept: usize = chains.by_tenant.values().map(Chain::open_bytes).sum();
        if kept > OPEN_BYTES_MAX {
            chains.by_tenant.values_mut().for_each(Chain::let_go);
        }
    }
}

/// Puts a block, whatever it holds, where a log looks for the one that begins with the record `first`.
#[must_use]
pub fn put_block(tenant: TenantId, first: u64, bytes: Vec<u8>) -> Write {
    Write { tree: Tree::EventBlocks, key: keys::block(tenant, first), value: Some(bytes) }
}

/// Why a fetched block was not appended.
#[derive(Debug, thiserror::Error)]
pub(in crate::projection) enum FetchError {
    /// It is not sound; another peer may have a better one.
    #[error(transparent)]
    Refused(#[from] FetchFault),
    /// This node cannot go on.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Cache {
    fn get(&self, tenant: TenantId, sequence: u64) -> Option<(u64, Arc<[u8]>)> {
        let ((owner, first), (last, bytes)) = self.blocks.range(..=(tenant, sequence)).next_back()?;
        (*owner == tenant && sequence <= *last).then(|| (*first, bytes.clone()))
    }

    fn put(&mut self, tenant: TenantId, first: u64, last: u64, bytes: Arc<[u8]>) {
        if self.blocks.insert((tenant, first), (last, bytes)).is_none() {
            self.order.push_back((tenant, first));
        }
        while self.order.len() > CACHED_BLOCKS {
            if let Some(oldest) = self.order.pop_front() {
                self.blocks.remove(&oldest);
            }
        }
    }
}
