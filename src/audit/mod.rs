//! The event log as people and their tools read it: as JSON or CSV, verified, and replayed.
//!
//! [`json`] is how a record is told wherever it is told, over HTTP as in an export. The rest works on an [`Archive`]:
//! the data directory of a stopped node, a copy of it, or what was fetched from a running one. It gives typed results that
//! the command line prints.
//!
//! Absent on purpose: asking a running node, which is the command line's.

mod archive;
mod blocks;
mod chaining;
mod definition;
mod event;
mod export;
pub mod fires;

pub mod json;
mod placing;
mod replay;
mod verify;

#[cfg(test)]
mod tests;

pub use archive::{Archive, AuditError, Known, KnownChain};
pub use blocks::{frame_blocks, unframe_blocks};
pub use definition::definition_json;
pub use export::{ExportOptions, Exported, Format, export};
pub use replay::{ReplayOptions, ReplayUntil, Replayed, replay};
pub use verify::{Verified, VerifiedTenant, verify};
