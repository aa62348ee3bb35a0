//! One task.
pub mod trigger;
