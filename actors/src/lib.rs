//! The shells with a mailbox around the rules of `escapement-domain`.
//!
//! An actor receives, asks the core, and carries out what comes back; it holds no truth and can be dropped and rebuilt
//! at any moment. Everything outside (the log, clocks, disks, executors) comes in through [`ports`].
//!
//! Absent on purpose: Raft, HTTP, sled, files, and every rule.

pub mod attempt;
pub mod dispatcher;
pub mod intent;
mod keeper;
pub mod machine;
pub mod ports;
pub mod projection;
pub mod queue_watch;
pub mod task;
pub mod wheel;
pub mod worker;
