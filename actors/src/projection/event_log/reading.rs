//! Reading the event log: single records, pages after a sequence, and blocks for a peer.

use std::sync::Arc;

use bytes::Bytes;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::{Hash, Record};
use escapement_domain::timestamp::Timestamp;

use super::super::block::Walk;
use super::super::failure::{Fault, FaultKind};
use super::super::keys;
use super::EventLog;
use crate::ports::Tree;

/// Bytes of event bodies in one page: it ends early when they are large.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Some records of a tenant, in order.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins: after this sequence; `None` when there is no more for now.
    pub next: Option<u64>,
}

/// A block in hand.
pub(super) struct Loaded {
    pub(super) tenant: TenantId,
    pub(super) first: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl Loaded {
    /// Walks the block's records from its first one.
    pub(super) fn walk(&self) -> Result<Walk<'_>, Fault> {
        Walk::new(self.tenant, self.first, &self.bytes)
    }
}

impl EventLog {
    /// One record.
    ///
    /// # Errors
    /// [`Fault`] when it is there and is not what was written, or cannot be read.
    pub fn record(&self, tenant: TenantId, sequence: u64) -> Result<Option<Record>, Fault> {
        if sequence == 0 || sequence > self.head(tenant).sequence {
            return Ok(None);
        }
        let missing = || Fault::new(tenant, sequence, FaultKind::Missing);
        let block = self.block_at(tenant, sequence)?.ok_or_else(missing)?;
        let mut walk = block.walk()?;
        walk.skip_to(sequence)?;
        walk.next().ok_or_else(missing)?.map(Some)
    }

    /// The hash of a record that is here.
    pub(super) fn hash(&self, tenant: TenantId, sequence: u64) -> Result<Hash, Fault> {
        let missing = || Fault::new(tenant, sequence, FaultKind::Missing);
        let block = self.block_at(tenant, sequence)?.ok_or_else(missing)?;
        let mut walk = block.walk()?;
        walk.skip_to(sequence.saturating_add(1))?;
        Ok(walk.previous())
    }

    /// Records after a sequence, stamped at or after `from` and before `to`, at most `limit` of them.
    ///
    /// # Errors
    /// [`Fault`] when a record is not what was written, or is missing between others.
    pub fn after(
        &self,
        tenant: TenantId,
        sequence: u64,
        limit: usize,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<EventPage, Fault> {
        let mut sequence = sequence;
        if let Some(from) = from {
            sequence = sequence.max(self.first_at(tenant, from)?.saturating_sub(1));
        }
        let (mut page, mut bytes) = (EventPage::default(), 0);
        for record in self.walk_from(tenant, sequence.saturating_add(1)) {
            let record = record?;
            if to.is_some_and(|to| record.header.at >= to) {
                return Ok(page);
            }
            if page.records.len() >= limit || bytes > PAGE_BYTES_MAX {
                page.next = page.records.last().map(|last| last.header.sequence);
                return Ok(page);
            }
            bytes += record.body.len();
            page.records.push(record);
        }
        Ok(page)
    }

    /// The sequence of the first record stamped at or after an instant; one past the head if there is none. Stamps never
    /// go back along a chain.
    ///
    /// # Errors
    /// As [`EventLog::record`].
    pub fn first_at(&self, tenant: TenantId, instant: Timestamp) -> Result<u64, Fault> {
        let (mut low, mut high) = (1, self.head(tenant).sequence + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(tenant, middle)? {
                Some(record) if record.header.at < instant => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Every record from a sequence on, verified one after the other. Ends behind the head as it was at the call, or with
    /// the first fault.
    #[must_use]
    pub fn walk_from(&self, tenant: TenantId, sequence: u64) -> Records<'_> {
        let head = self.head(tenant).sequence;
        let next = sequence.max(1);
        let previous = (next == 1).then(Hash::default);
        Records { log: self, tenant, next, head, previous, block: Vec::new().into_iter() }
    }

    /// Encoded blocks with the records after a sequence, whole, until their bytes exceed `most`; at least one if there
    /// is any. The first may begin before the sequence.
    ///
    /// # Errors
    /// [`Fault`] when they cannot be read.
    pub fn blocks_after(&self, tenant: TenantId, sequence: u64, most: usize) -> Result<Vec<Bytes>, Fault> {
        let mut blocks = Vec::new();
        if sequence >= self.head(tenant).sequence {
            return Ok(blocks);
        }
        let mut taken = 0;
        let mut block = self.block_at(tenant, sequence + 1)?;
        while let Some(loaded) = block {
            taken += loaded.bytes.len();
            if !blocks.is_empty() && taken > most {
                break;
            }
            block = self.block_after(tenant, loaded.first)?;
            blocks.push(Bytes::from_owner(loaded.bytes));
        }
        Ok(blocks)
    }

    /// Blocks as the storage has them, unopened and each with the sequence that it is stored under, from the first one
    /// that begins at or after `from`, until their bytes exceed `most`; at least one if there is any. What is not flushed
    /// is not among them.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn stored_blocks(
        &self,
        tenant: TenantId,
        from: u64,
        most: usize,
    ) -> std::io::Result<Vec<(u64, Vec<u8>)>> {
        let (mut key, end) = (keys::block(tenant, from), keys::end_of(keys::scope(tenant)));
        let (mut blocks, mut taken) = (Vec::new(), 0);
        while taken <= most {
            let found = self.storage.scan(Tree::EventBlocks, &key, &end, 1, false)?.into_iter().next();
            let Some((stored, bytes)) = found else { break };
            taken += bytes.len();
            blocks.extend(keys::first_of_block(&stored).map(|(_, first)| (first, bytes)));
            key = stored;
            key.push(0);
        }
        Ok(blocks)
    }

    /// The block that begins nearest at or before a sequence.
    pub(super) fn block_at(&self, tenant: TenantId, sequence: u64) -> Result<Option<Loaded>, Fault> {
        let in_memory = self.chains.read().by_tenant.get(&tenant).and_then(|chain| chain.block_at(sequence));
        let found = in_memory.or_else(|| self.cache.lock().get(tenant, sequence));
        if let Some((first, bytes)) = found {
            return Ok(Some(Loaded { tenant, first, bytes }));
        }
        let stored =
            self.stored_block_at(tenant, sequence).map_err(|error| unreadable(tenant, sequence, &error))?;
        let Some((first, bytes)) = stored else { return Ok(None) };
        let bytes: Arc<[u8]> = bytes.into();
        let loaded = Loaded { tenant, first, bytes };
        let (next, _) = loaded.walk()?.end()?;
        self.cache.lock().put(tenant, first, next.saturating_sub(1), loaded.bytes.clone());
        Ok(Some(loaded))
    }

    /// The first block that begins after a sequence.
    pub(super) fn block_after(&self, tenant: TenantId, sequence: u64) -> Result<Option<Loaded>, Fault> {
        let in_memory =
            self.chains.read().by_tenant.get(&tenant).and_then(|chain| chain.block_after(sequence));
        let from = keys::block(tenant, sequence.saturating_add(1));
        let stored = self
            .storage
            .scan(Tree::EventBlocks, &from, &keys::end_of(keys::scope(tenant)), 1, false)
            .map_err(|error| unreadable(tenant, sequence.saturating_add(1), &error))?;
        let stored = stored.into_iter().next();
        let stored = stored.and_then(|(key, bytes)| Some((keys::first_of_block(&key)?.1, Arc::from(bytes))));
        let nearest = match (in_memory, stored) {
            (Some(memory), Some(stored)) if stored.0 < memory.0 => Some(stored),
            (Some(memory), _) => Some(memory),
            (None, stored) => stored,
        };
        Ok(nearest.map(|(first, bytes)| Loaded { tenant, first, bytes }))
    }

    /// The block in the storage that begins nearest at or before a sequence.
    pub(super) fn stored_block_at(
        &self,
        tenant: TenantId,
        sequence: u64,
    ) -> std::io::Result<Option<(u64, Vec<u8>)>> {
        let mut to = keys::block(tenant, sequence);
        to.push(0);
        let found = self.storage.scan(Tree::EventBlocks, &keys::scope(tenant), &to, 1, true)?;
        Ok(found.into_iter().next().and_then(|(key, bytes)| Some((keys::first_of_block(&key)?.1, bytes))))
    }
}

pub(super) fn unreadable(tenant: TenantId, sequence: u64, error: &std::io::Error) -> Fault {
    Fault::new(tenant, sequence, FaultKind::Unreadable(error.to_string()))
}

/// Records of one tenant, one block in memory at a time.
#[derive(Debug)]
pub struct Records<'a> {
    log: &'a EventLog,
    tenant: TenantId,
    next: u64,
    head: u64,
    /// The hash of the record before the next one, once one was read.
    previous: Option<Hash>,
    block: std::vec::IntoIter<Record>,
}

impl Records<'_> {
    fn load(&mut self) -> Result<(), Fault> {
        let missing = Fault::new(self.tenant, self.next, FaultKind::Missing);
        let block = self.log.block_at(self.tenant, self.next)?.ok_or_else(|| missing.clone())?;
        let mut walk = block.walk()?;
        walk.skip_to(self.next)?;
        let records = walk.collect::<Result<Vec<Record>, Fault>>()?;
        if records.is_empty() {
            return Err(missing);
        }
        self.block = records.into_iter();
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.head {
            return None;
        }
        if self.block.len() == 0
            && let Err(fault) = self.load()
        {
            self.next = u64::MAX;
            return Some(Err(fault));
        }
        let record = self.block.next()?;
        if self.previous.is_some_and(|previous| previous != record.previous_hash) {
            let fault = Fault::new(self.tenant, self.next, FaultKind::Unchained);
            self.next = u64::MAX;
            return Some(Err(fault));
        }
        self.previous = Some(record.hash);
        self.next += 1;
        Some(Ok(record))
    }
}
