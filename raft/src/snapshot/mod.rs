//! Snapshots: where they are kept, how one is written, received and read.
//!
//! Invariants: a snapshot appears whole or not at all; one that does not match its checksum is an
//! error with its name, never "there is none"; the newest [`SNAPSHOTS_KEPT`](crate::limits) are kept.
//! Absent on purpose: when one is taken, and what is in it.

mod file;
mod format;
mod memory;

use std::io::{self, Read, Write};
use std::sync::Arc;

pub(crate) use file::FileSnapshots;
pub(crate) use memory::MemorySnapshots;

pub(crate) use format::{Head, Reader, Writer};

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// It is not what was written. Restore the file or, if the cluster has a majority without this
    /// node, remove the node and add it again with an empty disk under a new id.
    #[error("snapshot {name} is corrupt: {reason}")]
    Corrupt {
        /// Its name.
        name: String,
        /// What does not match.
        reason: String,
    },
    /// The disk said no.
    #[error("snapshot storage failed")]
    Storage(#[from] io::Error),
}

impl SnapshotError {
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Storage(error) => error,
            corrupt @ Self::Corrupt { .. } => io::Error::new(io::ErrorKind::InvalidData, corrupt),
        }
    }
}

/// A snapshot that is whole and on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its name, which sorts by age.
    pub name: String,
    /// Its size in bytes, head and checksum included.
    pub bytes: u64,
}

/// A place for snapshots. All of it may block: callers go through the runtime's blocking adapter.
pub(crate) trait SnapshotStore: Send + Sync + 'static {
    /// The newest snapshot, if any was ever published.
    ///
    /// # Errors
    /// The disk's.
    fn latest(&self) -> io::Result<Option<Stored>>;

    /// Begins a snapshot that nobody sees until it is published.
    ///
    /// # Errors
    /// The disk's.
    fn create(&self) -> io::Result<Box<dyn Draft>>;

    /// Reads a published snapshot from its first byte.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self, stored: &Stored) -> io::Result<Box<dyn Read + Send>>;
}

/// A snapshot that is being written; forgotten when dropped.
pub(crate) trait Draft: Write + Send {
    /// Brings all of it to the disk.
    ///
    /// # Errors
    /// The disk's.
    fn sync(self: Box<Self>) -> io::Result<Box<dyn Unpublished>>;
}

/// A snapshot that is written and synced but not yet the current one; forgotten when dropped.
pub(crate) trait Unpublished: Send {
    /// Reads it back from its first byte.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;

    /// Makes it the current one, for good, under a name that sorts after those before it.
    ///
    /// # Errors
    /// The disk's.
    fn publish(self: Box<Self>, name: &str) -> io::Result<Stored>;
}

/// What passes through openraft as "the snapshot": a published one, or one just received.
#[derive(Clone)]
pub(crate) struct Handle {
    content: Content,
}

/// Where a handle's snapshot is.
#[derive(Clone)]
pub(crate) enum Content {
    /// In this store.
    Published { store: Arc<dyn SnapshotStore>, stored: Stored },
    /// Received and checked; published when it is installed.
    Received(Arc<parking_lot::Mutex<Option<Box<dyn Unpublished>>>>),
}

impl Handle {
    pub(crate) fn published(store: Arc<dyn SnapshotStore>, stored: Stored) -> Self {
        Self { content: Content::Published { store, stored } }
    }

    pub(crate) fn received(unpublished: Box<dyn Unpublished>) -> Self {
        let cell = Arc::new(parking_lot::Mutex::new(Some(unpublished)));
        Self { content: Content::Received(cell) }
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.content {
            Content::Published { stored, .. } => f.debug_tuple("Published").field(stored).finish(),
            Content::Received(_) => f.write_str("Received"),
        }
    }
}
