//! Every maximum of this crate, with its unit, related by compile-time assertions.
//!
//! Invariant: whatever may be written to the log also fits a frame, so that no entry can be
//! committed that could not be replicated. Absent on purpose: what an operator may set, which is
//! in [`Options`](crate::Options).

/// Commands in one log entry, in bytes, counted without the codec's overhead.
pub const ENTRY_BYTES_MAX: usize = 256 * KIB;

/// Commands in one log entry.
pub const ENTRY_COMMANDS_MAX: usize = 8_192;

/// Entries in one append request stop at this many bytes; a single entry may pass it.
pub(crate) const APPEND_BYTES_TARGET: u64 = MIB as u64;

/// Entries that one read of the log holds in memory at once while it streams.
pub(crate) const READ_ENTRIES_MAX: u64 = 64;

/// Append requests on the way to one peer.
pub(crate) const APPENDS_IN_FLIGHT: usize = 32;

/// One chunk of a snapshot on the wire, in bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = MIB;

/// One application request or answer between nodes, in bytes.
pub const APPLICATION_BYTES_MAX: usize = 4 * MIB;

/// One frame on the wire, in bytes, its head and checksum included.
pub const FRAME_BYTES_MAX: usize = 8 * MIB;

/// Requests that wait to be written to one connection.
pub(crate) const LINK_QUEUE: usize = 4_096;

/// Requests of one connection that are being answered at the same time.
pub(crate) const REQUESTS_PER_CONNECTION: usize = 1_024;

/// Name of a cluster, in bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 128;

/// Snapshots kept on disk: the current one and the one before it, for an operator's eyes.
pub(crate) const SNAPSHOTS_KEPT: usize = 2;

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;
/// What the codec may add to the bytes of a full entry: a length of up to nine bytes a command.
const ENTRY_OVERHEAD: usize = ENTRY_COMMANDS_MAX * 9 + KIB;

const _: () = assert!(APPEND_BYTES_TARGET as usize + ENTRY_BYTES_MAX + ENTRY_OVERHEAD < FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES + KIB < FRAME_BYTES_MAX);
const _: () = assert!(APPLICATION_BYTES_MAX + KIB < FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOTS_KEPT >= 1);
