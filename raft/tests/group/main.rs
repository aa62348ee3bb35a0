//! The group from outside: real nodes over loopback and real directories.
//!
//! Every wait is for a condition with a deadline; every port is a free one; nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cluster;
mod failover;
mod in_memory;
mod ledger;
mod membership;
mod proposals;
mod refusals;
mod simulated;
mod storage;
