//! Where a node keeps its log, its votes and its snapshots: on a real disk or on one in memory.

use crate::identity::DataDirectory;
use crate::memory::MemoryDisk;

/// Where a node keeps its log, its votes and its snapshots.
#[derive(Debug, Clone)]
pub enum Disk {
    /// In a directory of its own.
    Directory(DataDirectory),
    /// In memory: for tests and the simulation.
    Memory(MemoryDisk),
}

impl From<DataDirectory> for Disk {
    fn from(directory: DataDirectory) -> Self {
        Self::Directory(directory)
    }
}

impl From<MemoryDisk> for Disk {
    fn from(disk: MemoryDisk) -> Self {
        Self::Memory(disk)
    }
}
