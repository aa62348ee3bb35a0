//! The rules of Escapement, with nothing else.
//!
//! A command and the present state give events; events and a state give the next state. Nothing here reads a clock,
//! a random number, zone data while applying, the environment, or an unordered map, so every replica that applies
//! the same commands reaches the same state, bit for bit.
//!
//! Absent on purpose: tokio, actix, sled, openraft, HTTP, and every other way to touch the world.

pub mod answer;
pub mod codec;
pub mod command;
pub mod event;
pub mod execution;
pub mod identifier;
pub mod json;
pub mod limits;
pub mod planted;
pub mod record;
pub mod replica;
pub mod schedule;
pub mod spelling;
pub mod task;
pub mod timestamp;
pub mod wheel;
