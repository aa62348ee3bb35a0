//! The real program under real faults, judged by the simulator's own checker.
//!
//! Each test breaks one kind of thing while a thousand tasks fall due ([`campaign`]): processes are killed and frozen,
//! links cut, slowed and reset, disks fill and fail, clocks jump, nodes are replaced. [`nights`] needs a clock of its own, and
//! nothing else that is broken, and [`silences`] a single call under a link that carries nothing. When all is healed, the evidence is
//! gathered from outside only ([`evidence`]): what clients were told, what the HTTP target saw, and the event logs of
//! the stopped nodes. What a test needs and the machine does not offer is said and skipped. `README.md` beside this
//! file tells what each one does.

#![allow(clippy::disallowed_methods, reason = "these tests are outside of every node")]

mod campaign;
mod checker;
mod clocks;
mod delays;
mod disks;
mod editor;
mod evidence;
#[allow(dead_code, reason = "what only the end-to-end tests use")]
#[path = "../end_to_end/harness/mod.rs"]
mod harness;
mod load;
mod network;
mod nights;
mod partitions;
mod processes;
mod proxy;
mod replacements;
mod rounds;
mod silences;
