//! Storages behind the actors' [`Storage`](escapement_actors::ports::Storage) port: one on a disk, one in memory.
//!
//! Invariants: a batch becomes visible, and survives a crash, as a whole or not at all; what `sync` answered for is on the
//! disk for good; a record that does not match its checksum is an error that names its tree and key, never skipped; after
//! the first failed write or sync nothing is written any more.
//! Absent on purpose: what the keys and values mean.

mod conformance;
mod memory;
mod record;
mod sled_storage;
mod syncer;

pub use conformance::conformance;
pub use memory::MemoryStorage;
pub use record::{RecordFault, open_record, seal_record};
pub use sled_storage::{OpenError, SledStorage, StorageOptions};
