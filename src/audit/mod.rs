//! The event log as people and their tools read it: as JSON or CSV, verified, and replayed.
//!
//! [`json`] is how a record is told wherever it is told, over HTTP as in an export. The rest works on the data directory of
//! a stopped node, or a copy of it, and gives typed results that the command line prints.
//!
//! Absent on purpose: reading from a running node, which is the API's.

mod definition;
mod event;
mod export;
pub mod json;
mod replay;
mod stopped;
mod verify;

#[cfg(test)]
mod tests;

pub use definition::definition_json;
pub use export::{ExportOptions, Exported, Format, export};
pub use replay::{ReplayOptions, ReplayUntil, Replayed, replay};
pub use stopped::{AuditError, StoppedNode};
pub use verify::{Verified, VerifiedTenant, verify};
