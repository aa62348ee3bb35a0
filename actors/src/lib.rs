//! The shells with a mailbox around the rules of `escapement-domain`.
//!
//! An actor receives, asks the core, and carries out what comes back; it holds no truth and can be dropped and rebuilt
//! at any moment. Everything outside (the log, clocks, disks, executors) comes in through [`ports`].
//!
//! Absent on purpose: Raft, HTTP, sled, files, and every rule.

pub mod ports;
