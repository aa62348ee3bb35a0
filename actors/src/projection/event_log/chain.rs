//! The end of one tenant's chain: its head, and the blocks that the storage does not have yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::record::{ChainHead, Hash, Record};

use super::super::block::{self, BLOCK_BYTES_MAX};

/// The end of one tenant's chain.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The last record, flushed or not.
    pub(super) head: ChainHead,
    /// The block that takes the next record; absent when it must be loaded first.
    open: Option<OpenBlock>,
    /// Full blocks that the storage does not have yet, by their first sequence.
    full: BTreeMap<u64, Arc<[u8]>>,
    /// The last record that the storage has.
    written: u64,
}

#[derive(Debug)]
struct OpenBlock {
    first: u64,
    bytes: Vec<u8>,
}

/// What of a chain went into a batch.
#[derive(Debug)]
pub(super) struct Flushing {
    full: Vec<u64>,
    through: u64,
}

impl Chain {
    /// A chain that ends here, all of it in the storage.
    pub(super) fn ending(head: ChainHead) -> Self {
        Self { head, written: head.sequence, ..Self::default() }
    }

    /// Whether the last block must be loaded before a record can be appended.
    pub(super) fn wants_last_block(&self) -> bool {
        self.open.is_none() && self.head.sequence > 0
    }

    /// Goes on with a block that is in the storage, or behind it if it is full.
    pub(super) fn resume(&mut self, first: u64, bytes: Vec<u8>) {
        self.open = Some(OpenBlock { first, bytes });
    }

    /// Appends a record that follows the head.
    pub(super) fn append(&mut self, record: &Record) {
        let frame = block::frame(record);
        let head = self.head;
        self.head = ChainHead { sequence: record.header.sequence, hash: record.hash };
        match &mut self.open {
            Some(open) if open.bytes.len() + frame.len() <= BLOCK_BYTES_MAX => {
                open.bytes.extend_from_slice(&frame)
            }
            open => {
                let begun = OpenBlock::with(head, &frame);
                if let Some(full) = open.replace(begun)
                    && head.sequence > self.written
                {
                    self.full.insert(full.first, full.bytes.into());
                }
            }
        }
    }

    /// The block in memory that begins nearest at or before a sequence.
    pub(super) fn block_at(&self, sequence: u64) -> Option<(u64, Arc<[u8]>)> {
        match &self.open {
            Some(open) if open.first <= sequence => Some((open.first, open.bytes.as_slice().into())),
            _ => self.full.range(..=sequence).next_back().map(|(first, bytes)| (*first, bytes.clone())),
        }
    }

    /// The first block in memory that begins after a sequence.
    pub(super) fn block_after(&self, sequence: u64) -> Option<(u64, Arc<[u8]>)> {
        let full = self.full.range(sequence.saturating_add(1)..).next();
        let open = self.open.as_ref().filter(|open| open.first > sequence);
        full.map(|(first, bytes)| (*first, bytes.clone()))
            .or_else(|| open.map(|open| (open.first, open.bytes.as_slice().into())))
    }

    /// The blocks that the storage does not have, or not as they are now.
    pub(super) fn flush(&self) -> (Flushing, Vec<(u64, Vec<u8>)>) {
        let mut blocks: Vec<(u64, Vec<u8>)> =
            self.full.iter().map(|(first, bytes)| (*first, bytes.to_vec())).collect();
        if let Some(open) = &self.open
            && self.head.sequence > self.written
        {
            blocks.push((open.first, open.bytes.clone()));
        }
        (Flushing { full: self.full.keys().copied().collect(), through: self.head.sequence }, blocks)
    }

    /// Forgets what the storage has now.
    pub(super) fn flushed(&mut self, flushing: &Flushing) {
        for first in &flushing.full {
            self.full.remove(first);
        }
        self.written = flushing.through;
    }

    /// Bytes of the open block.
    pub(super) fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.bytes.len())
    }

    /// Lets go of the open block if the storage has it; the next record loads it again.
    pub(super) fn let_go(&mut self) {
        if self.written == self.head.sequence {
            self.open = None;
        }
    }
}

impl OpenBlock {
    fn with(before: ChainHead, frame: &[u8]) -> Self {
        let previous: Hash = before.hash;
        let mut bytes = block::begin(previous);
        bytes.extend_from_slice(frame);
        Self { first: before.sequence + 1, bytes }
    }
}
