//! One task: its definition, its state, and what it may do next.
//!
//! Invariants: for one task and one occurrence at most one execution is ever decided; the next instant is always later
//! than the last one that was settled. Absent on purpose: how instants follow each other (that is
//! [`schedule`](crate::schedule)), and everything about other tasks (that is [`replica`](crate::replica)).

pub mod action;
pub mod claims;
pub mod coming;
pub mod decide;
pub mod definition;
pub mod forecast;
pub mod inputs;
pub mod listening;
pub mod plan;
pub mod retry_on;
pub mod rules;
pub mod sealed;
pub mod state;
pub mod trigger;
