//! Snapshots in memory, for tests and the simulation.
//!
//! Invariant: the same as for files, so that both can stand for each other. What is published
//! survives a simulated crash; what is not published does not exist, and nothing is published that was not
//! synced. A bit can be flipped, a sync can fail, and the place can be full.

use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Draft, SnapshotStore, Stored, Unpublished};
use crate::limits::SNAPSHOTS_KEPT;

/// Snapshots held in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemorySnapshots {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    published: Vec<(String, Bytes)>,
    full: bool,
    failing: bool,
    /// Whether a sync failed since the last crash.
    failed: bool,
}

impl MemorySnapshots {
    /// Refuses every write while it is full.
    pub(crate) fn set_full(&self, full: bool) {
        self.held.lock().full = full;
    }

    /// Makes every sync fail from now on, until the next crash.
    pub(crate) fn fail_syncs(&self) {
        self.held.lock().failing = true;
    }

    /// Lets syncs succeed again, unless one has failed.
    pub(crate) fn mend_syncs(&self) {
        let mut held = self.held.lock();
        held.failing = held.failed;
    }

    /// Whether a sync failed since the last crash.
    pub(crate) fn sync_failed(&self) -> bool {
        self.held.lock().failed
    }

    /// What is not published is forgotten by whoever wrote it; the disk is well again.
    pub(crate) fn crash(&self) {
        let mut held = self.held.lock();
        (held.failing, held.failed) = (false, false);
    }

    /// How many bits the newest snapshot has.
    pub(crate) fn bits(&self) -> u64 {
        self.held.lock().published.last().map_or(0, |(_, bytes)| bytes.len() as u64 * 8)
    }

    /// Flips one bit of the newest snapshot, if it has so many.
    pub(crate) fn flip_bit(&self, bit: u64) -> bool {
        let mut held = self.held.lock();
        let Some((_, bytes)) = held.published.last_mut().filter(|(_, bytes)| bit / 8 < bytes.len() as u64)
        else {
            return false;
        };
        let mut flipped = bytes.to_vec();
        flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
        *bytes = flipped.into();
        true
    }
}

impl SnapshotStore for MemorySnapshots {
    fn latest(&self) -> io::Result<Option<Stored>> {
        let held = self.held.lock();
        Ok(held
            .published
            .last()
            .map(|(name, bytes)| Stored { name: name.clone(), bytes: bytes.len() as u64 }))
    }

    fn create(&self) -> io::Result<Box<dyn Draft>> {
        Ok(Box::new(Bytewise { held: self.held.clone(), bytes: Vec::new() }))
    }

    fn open(&self, stored: &Stored) -> io::Result<Box<dyn Read + Send>> {
        let held = self.held.lock();
        let found = held.published.iter().find(|(name, _)| *name == stored.name);
        let (_, bytes) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

struct Bytewise<B = Vec<u8>> {
    held: Arc<Mutex<Held>>,
    bytes: B,
}

impl Write for Bytewise {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.lock().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft for Bytewise {
    fn sync(self: Box<Self>) -> io::Result<Box<dyn Unpublished>> {
        {
            let mut held = self.held.lock();
            if held.failing {
                held.failed = true;
                return Err(io::Error::other("the disk reported an error"));
            }
        }
        Ok(Box::new(Bytewise { held: self.held, bytes: Bytes::from(self.bytes) }))
    }
}

impl Unpublished for Bytewise<Bytes> {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.bytes.clone())))
    }

    fn publish(self: Box<Self>, name: &str) -> io::Result<Stored> {
        let stored = Stored { name: name.to_owned(), bytes: self.bytes.len() as u64 };
        let published = &mut self.held.lock().published;
        published.retain(|(held, _)| held != name);
        published.push((name.to_owned(), self.bytes));
        published.sort_by(|a, b| a.0.cmp(&b.0));
        let excess = published.len().saturating_sub(SNAPSHOTS_KEPT);
        published.drain(..excess);
        Ok(stored)
    }
}
