//! The real program, from outside: its processes on loopback, its HTTP API, its command line, and a real HTTP target.
//!
//! One crate, so that it is linked once. Tests wait on conditions with a generous deadline, never for a fixed time, and
//! what they start ends with them. Absent on purpose: knowledge of anything but the contract.

#![allow(clippy::disallowed_methods, reason = "these tests are outside of every node")]

mod audit;
mod auth;
mod bad_calls;
mod bad_input;
mod calendars;
mod callbacks;
mod causes;
mod chains;
mod changes;
mod command_line;
mod dead_letters;
mod deadlines;
mod dev;
mod drain;
mod events;
mod executions;
mod explanation;
mod failover;
mod filters;
mod fires;
mod following;
mod forecast;
#[allow(dead_code, reason = "what only the tests of faults use")]
mod harness;
mod isolation;
mod limits;
mod limits_over_nodes;
mod membership;
mod misfires;
mod narrowing;
mod overlap;
mod probes;
mod processes;
mod queues;
mod recovery;
mod retries;
mod roles;
mod schedules;
mod shares;
mod spread;
mod storage;
mod stragglers;
mod surface;
mod targets;
mod tasks;
mod triggers;
mod zone_data;
