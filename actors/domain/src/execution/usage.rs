//! What an attempt used of its machine.

use serde::{Deserialize, Serialize};

/// What a program and all that it started used, as the system that ran it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in milliseconds, the program's own and the system's for it, of all of its processes.
    pub cpu_ms: u64,
    /// Bytes of memory that the largest of its processes had at its peak.
    pub peak_memory_bytes: u64,
}
