//! One node of Escapement put together, and the program around it.
//!
//! The only place where the rules, the actors and the replicated log meet the operating system.

pub mod audit;
pub mod bench;
pub mod command_line;
pub mod config;
pub mod executor;
pub mod http;
pub mod json;
mod keepalive;
pub mod node;
pub mod security;
pub mod service;
pub mod store;
pub mod telemetry;
