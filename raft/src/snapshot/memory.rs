//! Snapshots in memory, for tests and the simulation.
//!
//! Invariant: the same as for files, so that both can stand for each other. What is published
//! survives a simulated crash; what is not published does not exist.

use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Draft, SnapshotStore, Stored, Unpublished};
use crate::limits::SNAPSHOTS_KEPT;

/// Snapshots held in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemorySnapshots {
    held: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl SnapshotStore for MemorySnapshots {
    fn latest(&self) -> io::Result<Option<Stored>> {
        let held = self.held.lock();
        Ok(held.last().map(|(name, bytes)| Stored { name: name.clone(), bytes: bytes.len() as u64 }))
    }

    fn create(&self) -> io::Result<Box<dyn Draft>> {
        Ok(Box::new(Bytewise { held: self.held.clone(), bytes: Vec::new() }))
    }

    fn open(&self, stored: &Stored) -> io::Result<Box<dyn Read + Send>> {
        let held = self.held.lock();
        let found = held.iter().find(|(name, _)| *name == stored.name);
        let (_, bytes) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

struct Bytewise<B = Vec<u8>> {
    held: Arc<Mutex<Vec<(String, Bytes)>>>,
    bytes: B,
}

impl Write for Bytewise {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft for Bytewise {
    fn sync(self: Box<Self>) -> io::Result<Box<dyn Unpublished>> {
        Ok(Box::new(Bytewise { held: self.held, bytes: Bytes::from(self.bytes) }))
    }
}

impl Unpublished for Bytewise<Bytes> {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.bytes.clone())))
    }

    fn publish(self: Box<Self>, name: &str) -> io::Result<Stored> {
        let stored = Stored { name: name.to_owned(), bytes: self.bytes.len() as u64 };
        let mut held = self.held.lock();
        held.retain(|(held, _)| held != name);
        held.push((name.to_owned(), self.bytes));
        held.sort_by(|a, b| a.0.cmp(&b.0));
        let excess = held.len().saturating_sub(SNAPSHOTS_KEPT);
        held.drain(..excess);
        Ok(stored)
    }
}
