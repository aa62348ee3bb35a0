//! One task: its definition, its state, and what it may do next.
pub mod action;
pub mod definition;
pub mod trigger;
