//! One execution: an occurrence of a task with its attempts, from the queue to its end.
//!
//! Absent on purpose: who gets which attempt (that is [`replica::placement`](crate::replica)), and carrying it out.

pub mod decide;
pub mod failure;
pub mod retry;
pub mod state;
pub mod usage;
pub mod waits;
